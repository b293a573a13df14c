//! What each operation does on the stage.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use renewd::clock::Clock;
use renewd::domain::order::{OrderId, OrderRow};
use renewd::domain::policy::{Action, OnAutoRenew, OnUnknown, Policy, Renew};
use renewd::domain::product::{AccountName, PolicyName, Region};
use renewd::domain::run::RunId;
use renewd::engine::Limits;
use renewd::sandbox::faults::Fault;
use renewd::sandbox::instance::{InstanceChange, Switch};
use renewd::store::{PauseScope, RetryRefused, Trigger, TriggerRefused, Word};

use crate::fleet::{ACCOUNTS, CVM, CVM_V2, INSTANCES, cny, days, hours, schedule, upgrade};
use crate::life::{Broken, cut_after};
use crate::operation::{Edit, Operation, Scope};
use crate::oracle::{lines_after, matched};
use crate::stage::Stage;

/// Of real time: what a process that died has sent reaches the cloud.
const LAST_WORDS: Duration = Duration::from_millis(3);

pub async fn play(stage: &mut Stage, operation: &Operation) -> Result<(), Broken> {
    match operation.clone() {
        Operation::Advance { seconds } => stage.advance(length(seconds)).await?,
        Operation::Outage { seconds } => {
            stage.turn(true).await?;
            (stage.life, stage.elder) = (None, None);
            stage.clocks.advance(Duration::from_secs(seconds));
            stage.begin_life().await?;
        }
        Operation::Suspend { .. } | Operation::JumpClock { .. } | Operation::SetClockRight => {
            set_clocks(stage, operation);
            stage.turn(true).await?;
        }
        Operation::Spoil { api, effect, spoilt, times } => {
            stage.cloud.inject(vec![Fault::spoil(api, effect, spoilt).times(times)]);
        }
        Operation::Lag { api, seconds, times } => {
            stage.cloud.inject(vec![Fault::lag(api, Duration::from_secs(seconds)).times(times)]);
        }
        Operation::Unsettled => stage.turn(false).await?,
        Operation::FireTwice => {
            let life = stage.life();
            let (first, second) = tokio::join!(life.engine.fire_due(), life.engine.fire_due());
            first.and(second).map_err(|error| error.to_string())?;
        }
        Operation::Pause { .. } | Operation::Resume { .. } => pause_or_resume(stage, operation).await?,
        Operation::Resolve { truthful } => resolve(stage, truthful).await?,
        Operation::Trigger { policy, instance, again } => trigger(stage, policy, instance, again).await?,
        Operation::Retry { run } => retry(stage, run).await?,
        Operation::Budget { account, orders_per_day, cny_per_day } => {
            let limits = Limits { orders_per_day, per_day: cny_per_day.map(cny), per_month: None };
            stage.budgets.insert(ACCOUNTS[account].0, limits);
            stage.take_budgets().await?;
        }
        Operation::Restart | Operation::SecondDaemon | Operation::EndFirst => {
            begin_anew(stage, operation).await?;
        }
        Operation::Crash { .. }
        | Operation::CrashBetweenCommitAndSend { .. }
        | Operation::StopBetweenCommitAndSend { .. } => interrupt(stage, operation).await?,
        Operation::Retire { .. }
        | Operation::Return
        | Operation::Edit { .. }
        | Operation::EmptyFolder { .. } => {
            edit_files(stage, operation).await?;
        }
        Operation::Balance { .. }
        | Operation::Price { .. }
        | Operation::AutoRenew { .. }
        | Operation::MoveExpiry { .. }
        | Operation::RenewByHand { .. }
        | Operation::Refund { .. }
        | Operation::Set { .. } => in_the_console(stage, operation),
    }
    stage.check_what_is_new().await?;
    stage.check_ended().await
}

fn set_clocks(stage: &mut Stage, operation: &Operation) {
    match *operation {
        Operation::Suspend { seconds } => stage.clocks.suspend(Duration::from_secs(seconds)),
        Operation::JumpClock { seconds } => {
            stage.journal.was_clock_set = true;
            stage.clocks.jump(SignedDuration::from_secs(seconds));
        }
        _ => {
            stage.journal.was_clock_set |= !stage.clocks.is_right();
            stage.clocks.set_right();
        }
    }
}

async fn pause_or_resume(stage: &mut Stage, operation: &Operation) -> Result<(), Broken> {
    let (store, now) = (stage.life().engine.store.clone(), stage.clocks.now());
    match operation {
        Operation::Pause { scope, hours: length } => {
            let scope = scope_of(stage, *scope);
            let until = length.map(|length| now + hours(length));
            let paused = store.pause(&scope, until, &word(now)).await;
            paused.map_err(|error| error.to_string())?;
            stage.journal.pause(scope, until);
        }
        Operation::Resume { scope } => {
            let scope = scope_of(stage, *scope);
            let resumed = store.resume(&scope, &word(now)).await;
            resumed.map_err(|error| error.to_string())?;
            stage.journal.resume(&scope);
        }
        _ => {}
    }
    Ok(())
}

async fn begin_anew(stage: &mut Stage, operation: &Operation) -> Result<(), Broken> {
    match *operation {
        Operation::EndFirst => {
            stage.elder = None;
            return Ok(());
        }
        Operation::SecondDaemon => {
            stage.journal.had_two_daemons = true;
            stage.elder = stage.life.take();
            stage.begin_life().await?;
            return stage.turn(true).await;
        }
        _ => {}
    }
    // No machine ends a process and starts another within the cloud's second.
    stage.clocks.advance(Duration::from_secs(1));
    stage.restart().await
}

fn length(seconds: u64) -> SignedDuration {
    SignedDuration::try_from(Duration::from_secs(seconds)).unwrap()
}

fn scope_of(stage: &Stage, scope: Scope) -> PauseScope {
    match scope {
        Scope::All => PauseScope::All,
        Scope::Account(account) => PauseScope::Account(AccountName::parse(ACCOUNTS[account].0).unwrap()),
        Scope::Policy(policy) => match stage.policies.keys().nth(policy % stage.policies.len().max(1)) {
            Some(name) => PauseScope::Policy(PolicyName::parse(name).unwrap()),
            None => PauseScope::All,
        },
    }
}

/// The daemon dies, or stands still, in the midst of its work.
async fn interrupt(stage: &mut Stage, operation: &Operation) -> Result<(), Broken> {
    let away = match *operation {
        Operation::Crash { waits, seconds } => {
            cut_after(waits, stage.life().turn(true)).await.unwrap_or(Ok(()))?;
            seconds
        }
        Operation::CrashBetweenCommitAndSend { steps, seconds } => {
            to_a_commit(stage, steps).await?;
            seconds
        }
        Operation::StopBetweenCommitAndSend { steps, seconds } => {
            to_a_commit(stage, steps).await?;
            stage.clocks.advance(Duration::from_secs(seconds));
            stage.life().settle().await;
            return stage.turn(true).await;
        }
        _ => return Ok(()),
    };
    let store = stage.life().engine.store.clone();
    (stage.life, stage.elder) = (None, None);
    // What was handed to the writer is on disk or not; which, the count of waits decides.
    store.close().await;
    tokio::time::sleep(LAST_WORDS).await;
    stage.check_what_is_new().await?;
    stage.clocks.advance(Duration::from_secs(seconds_at_least(away)));
    stage.begin_life().await
}

fn seconds_at_least(seconds: u64) -> u64 {
    seconds.max(1)
}

/// So many steps of each lane, and one more whose request, if there is one, has not left: nothing here lets
/// another task run after it.
async fn to_a_commit(stage: &mut Stage, steps: u32) -> Result<(), Broken> {
    let life = stage.life();
    life.tick().await?;
    for lane in &mut life.lanes {
        for _ in 0..steps {
            lane.step().await.map_err(|error| error.to_string())?;
            lane.settle().await;
        }
    }
    for lane in &mut life.lanes {
        lane.step().await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn edit_files(stage: &mut Stage, operation: &Operation) -> Result<(), Broken> {
    let nth = |stage: &Stage, at: usize| stage.policies.keys().nth(at % stage.policies.len().max(1)).cloned();
    match operation {
        Operation::Retire { policy } => {
            if let Some(name) = nth(stage, *policy) {
                let retired = stage.policies.remove_entry(&name);
                stage.retired.extend(retired);
            }
        }
        Operation::Return => {
            let retired = std::mem::take(&mut stage.retired);
            stage.policies.extend(retired);
        }
        Operation::Edit { policy, edit } => {
            if let Some(name) = nth(stage, *policy) {
                edit_one(stage, &name, edit);
            }
        }
        Operation::EmptyFolder { seconds } => {
            let set = std::mem::take(&mut stage.policies);
            stage.reload().await?;
            stage.advance(length(*seconds)).await?;
            stage.policies = set;
        }
        _ => {}
    }
    stage.reload().await
}

fn edit_one(stage: &mut Stage, name: &str, edit: &Edit) {
    if *edit == Edit::Rename {
        let Some(mut policy) = stage.policies.remove(name) else { return };
        let other =
            if let Some(stem) = name.strip_suffix("-2") { stem.to_owned() } else { format!("{name}-2") };
        policy.name = PolicyName::parse(&other).unwrap();
        stage.policies.insert(other, policy);
    } else if let Some(policy) = stage.policies.get_mut(name) {
        edit_terms(policy, edit);
    }
}

fn edit_terms(policy: &mut Policy, edit: &Edit) {
    let is_every_fire = policy.terms.action.is_every_fire();
    match (edit, &mut policy.terms.action) {
        (Edit::WithinDays(days), Action::Renew(renew)) if !is_every_fire => {
            renew.when = renewd::domain::policy::RenewWhen::WithinDays(*days);
        }
        (Edit::Months(months), Action::Renew(renew)) => *renew = Renew { months: *months, ..*renew },
        (Edit::Memory(size), action @ Action::Upgrade(_)) => *action = upgrade(*size, Some(2)),
        (Edit::MaxPrice(cap), _) => policy.terms.max_price = cap.map(cny),
        (Edit::Schedule(expression), _) => policy.schedule = schedule(expression),
        (Edit::Enabled(enabled), _) => policy.enabled = *enabled,
        (Edit::RenewOverAutoRenew(renew), _) => {
            policy.terms.on_auto_renew = if *renew { OnAutoRenew::Renew } else { OnAutoRenew::Skip };
        }
        (Edit::Resend(resend), _) => {
            policy.terms.unknown = if *resend { OnUnknown::Resend } else { OnUnknown::Person };
        }
        (Edit::OtherAccount, _) => {
            let other = match policy.account.as_str() {
                "shop" => "lab",
                "lab" => "shop",
                name => name,
            };
            policy.account = AccountName::parse(other).unwrap();
        }
        (Edit::OtherSpelling, _) if policy.product == CVM || policy.product == CVM_V2 => {
            let (product, region) =
                if policy.product == CVM { (CVM_V2, "gz") } else { (CVM, "ap-guangzhou") };
            (policy.product, policy.region) = (product, Region::parse(region).unwrap());
        }
        _ => {}
    }
}

fn in_the_console(stage: &mut Stage, operation: &Operation) {
    match *operation {
        Operation::Balance { account, cny: amount } => {
            stage.cloud.set_balance(ACCOUNTS[account].1, cny(amount))
        }
        Operation::Price { instance, cny: price } => {
            stage.change(INSTANCES[instance], |change| {
                *change = InstanceChange::default().with_price_per_month(cny(price));
            });
        }
        Operation::AutoRenew { instance, on } => {
            stage.change(INSTANCES[instance], |change| change.auto_renew = Some(Switch(on)));
        }
        Operation::MoveExpiry { instance, hours: by } => {
            let id = INSTANCES[instance];
            stage.move_expiry(id, stage.instance(id).expires_at + hours(by));
        }
        Operation::RenewByHand { instance, months } => {
            let id = INSTANCES[instance];
            stage.move_expiry(id, stage.instance(id).expires_at + days(31 * months));
        }
        Operation::Refund { instance } => {
            let id = INSTANCES[instance];
            let latest = stage.cloud.ledger().into_iter().rfind(|charge| charge.instance == id);
            if let Some(charge) = latest {
                stage.move_expiry(id, charge.expiry_before);
            }
        }
        Operation::Set { instance, state } => {
            stage.change(INSTANCES[instance], |change| change.state = Some(state));
        }
        _ => {}
    }
}

/// A person looks into the console and settles what is open; or says the first thing that comes to mind.
pub async fn resolve(stage: &mut Stage, truthful: bool) -> Result<(), Broken> {
    stage.life().settle().await;
    let ledger = stage.cloud.ledger();
    let lines = lines_after(stage.database(), 0).await?;
    let rows = matched(&lines, &ledger);
    let now = stage.clocks.now();
    let store = stage.life().engine.store.clone();
    for (at, line) in
        lines.iter().enumerate().filter(|(_, line)| line.state == "placed" || line.state == "unknown")
    {
        let charge = ledger.iter().zip(&rows).find(|(_, row)| **row == Some(at)).map(|(charge, _)| charge);
        // What was paid and taken back is as good as not paid; the practice cloud's list goes on showing it.
        let is_paid = charge.is_some_and(|charge| {
            !stage.journal.was_set_back(&line.instance, (charge.at, stage.clocks.true_now()))
        });
        let says_paid = if truthful { is_paid } else { line.row % 2 == 0 };
        if says_paid != is_paid {
            stage.journal.tell_wrong(&line.instance);
        }
        let number = charge.filter(|_| says_paid).map(|charge| OrderId(charge.order_id.clone()));
        let row = OrderRow(line.row);
        let resolved = if says_paid {
            store.resolve_paid(row, number, &word(now)).await
        } else {
            store.resolve_not_paid(row, true, &word(now)).await
        };
        resolved.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Refusals are answers too: the policy is disabled, or not in force yet.
async fn trigger(
    stage: &mut Stage,
    policy: usize,
    instance: Option<usize>,
    again: bool,
) -> Result<(), Broken> {
    let Some(policy) = stage.policies.values().nth(policy % stage.policies.len().max(1)) else {
        return Ok(());
    };
    let nth = |at: usize| policy.instances[at % policy.instances.len()].to_string();
    let trigger = Trigger { policy: policy.name.to_string(), instance: instance.map(nth), again };
    let (store, now) = (stage.life().engine.store.clone(), stage.clocks.now());
    match store.trigger(&trigger, &word(now)).await {
        Err(TriggerRefused::Store(error)) => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// One of the failed runs, latest first; whether it may be made anew the store says.
async fn retry(stage: &mut Stage, run: usize) -> Result<(), Broken> {
    let failed: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM runs WHERE state = 'failed' ORDER BY id DESC LIMIT 8")
            .fetch_all(stage.database())
            .await
            .map_err(|error| error.to_string())?;
    let Some(run) = failed.get(run % failed.len().max(1)) else { return Ok(()) };
    let (store, now) = (stage.life().engine.store.clone(), stage.clocks.now());
    match store.retry(RunId(*run), &word(now)).await {
        Err(RetryRefused::Store(error)) => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn word(at: Timestamp) -> Word {
    Word { person: "operator".to_owned(), note: None, at }
}
