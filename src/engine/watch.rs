//! Watching what no run looks at: newcomers, instances long unseen, instances at risk, and what people did.

use std::collections::BTreeMap;
use std::sync::Arc;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch as channel};

use super::calls::{CallError, is_refused_key};
use super::events::order_event;
use super::{Account, End, Engine, Part, Step, repeat};
use crate::domain::failure::Failure;
use crate::domain::order::OrderRow;
use crate::domain::product::{AccountName, InstanceId, Product, Region};
use crate::domain::run::{RunId, RunState};
use crate::store::{Act, COPY, Cause, OrderRecord, PauseScope, Risk, RunRecord, StoreError};

/// Each instance is looked at this often even when nothing is due.
const LOOK_EVERY: SignedDuration = SignedDuration::from_hours(20);
const LOOK_BATCH: u32 = 1000;
/// Our own next epoch is in the database a moment before we know it: one look is not enough.
const SUCCESSOR_LOOKS: u32 = 2;
/// Unsent runs of a policy that stopped wanting them go on waiting this long, in case it was a slip.
const CANCEL_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Each second: wakes runs whose time has come, and logs what people did.
pub struct SecondWatch {
    engine: Arc<Engine>,
    data_version: Option<i64>,
    /// Looks in a row that found the database in a successor's hands.
    successor_looks: u32,
}

/// Each minute: looks at newcomers and the long unseen, cancels what no policy wants, speaks of risks.
pub struct MinuteWatch {
    engine: Arc<Engine>,
}

impl SecondWatch {
    pub fn new(engine: Arc<Engine>) -> SecondWatch {
        SecondWatch { engine, data_version: None, successor_looks: 0 }
    }

    pub async fn run(mut self, stop: channel::Receiver<bool>, tick: Arc<Notify>) {
        repeat(&Arc::clone(&self.engine), &mut self, stop, &tick).await;
    }

    pub async fn step(&mut self) -> Result<Step, StoreError> {
        let now = self.engine.now();
        let names: Vec<AccountName> = self.engine.accounts().keys().cloned().collect();
        let store = &self.engine.store;
        // Asked at once, the writer does all of it in one transaction.
        let ((), ready, data_version) = tokio::try_join!(
            self.engine.lapse_triggers(now),
            store.promote(&names, now),
            store.data_version()
        )?;
        for name in ready {
            if let Some(account) = self.engine.accounts().get(&name) {
                account.wake.notify_one();
            }
        }
        self.look_for_successor().await?;
        if self.data_version != Some(data_version) {
            for act in self.engine.store.take_acts(now).await? {
                self.log_act(&act).await?;
            }
            self.data_version = Some(data_version);
        }
        Ok(Step::Idle)
    }
}

impl SecondWatch {
    /// A daemon whose epoch is over can write neither claim nor intent: it must end, not look alive.
    async fn look_for_successor(&mut self) -> Result<(), StoreError> {
        let (epoch, pid) = self.engine.store.epoch_in_force().await?;
        self.successor_looks = if epoch > self.engine.epoch() { self.successor_looks + 1 } else { 0 };
        if self.successor_looks >= SUCCESSOR_LOOKS {
            self.engine.end(End::Successor { pid });
        }
        Ok(())
    }

    async fn log_act(&self, act: &Act) -> Result<(), StoreError> {
        let Act { person, event, subject, said, note, .. } = act;
        let note = note.as_deref().unwrap_or("no note");
        let until = said.as_deref();
        let said = until.unwrap_or_default();
        let (account, policy) = PauseScope::names_in(subject);
        match event.as_str() {
            "account.paused" => {
                let how_long = until.map(|until| format!(" until {until}")).unwrap_or_default();
                tracing::warn!(
                    event = "account.paused",
                    account,
                    policy,
                    until,
                    person,
                    "{person} paused {subject}{how_long}: {note}"
                );
            }
            "account.resumed" => {
                tracing::info!(
                    event = "account.resumed",
                    account,
                    policy,
                    person,
                    "{person} resumed {subject}"
                );
            }
            "schedule.fired" => {
                tracing::info!(
                    event = "schedule.fired",
                    policy = subject,
                    person,
                    origin = "trigger",
                    "{person} fired policy {subject} by hand, {said}: {note}"
                );
            }
            "run.retry" => {
                let run: Option<i64> = subject.parse().ok();
                let failed = match run {
                    Some(run) => self.engine.store.run(RunId(run)).await?,
                    None => None,
                };
                let failed = failed.as_ref();
                tracing::info!(
                    event = "run.retry",
                    policy = failed.map(|run| run.policy.as_str()),
                    account = failed.map(|run| run.account.as_str()),
                    instance = failed.map(|run| run.instance.as_str()),
                    run,
                    person,
                    "{person} retries failed run {subject}, {said}: {note}"
                );
            }
            _ => {
                let row = subject.parse().map(OrderRow).unwrap_or(OrderRow(0));
                if let Some(order) = self.engine.store.order(row).await? {
                    let run = self.engine.store.run(RunId(order.run_id)).await?;
                    let has_succeeded = run.is_some_and(|run| run.state == RunState::Succeeded.as_str());
                    log_resolved(&order, has_succeeded, person, said, note);
                }
            }
        }
        Ok(())
    }
}

fn log_resolved(order: &OrderRecord, has_succeeded: bool, person: &str, said: &str, note: &str) {
    let OrderRecord { id, instance, .. } = order;
    order_event!(info, "order.resolved", order, { person, },
        "{person} resolved order row {id} of {instance} as {said}: {note}");
    if has_succeeded {
        order_event!(info, "run.succeeded", order, { person, },
            "the run for {instance} succeeded, on {person}'s word");
    }
}

impl Part for SecondWatch {
    const NAME: &'static str = "the second's look";

    async fn step(&mut self) -> Result<Step, StoreError> {
        SecondWatch::step(self).await
    }
}

impl MinuteWatch {
    pub fn new(engine: Arc<Engine>) -> MinuteWatch {
        MinuteWatch { engine }
    }

    pub async fn run(mut self, stop: channel::Receiver<bool>, tick: Arc<Notify>) {
        repeat(&Arc::clone(&self.engine), &mut self, stop, &tick).await;
    }
}

impl Part for MinuteWatch {
    const NAME: &'static str = "the minute's look";
    const IDLE_LOOK: Duration = Duration::from_secs(90);

    async fn step(&mut self) -> Result<Step, StoreError> {
        self.engine.each_minute().await
    }
}

impl Engine {
    /// Ends triggers that nobody took in time.
    pub(super) async fn lapse_triggers(&self, now: Timestamp) -> Result<(), StoreError> {
        self.store.lapse_triggers(now).await?.iter().for_each(log_cancelled);
        Ok(())
    }

    pub async fn each_minute(&self) -> Result<Step, StoreError> {
        let now = self.now();
        for run in self.store.cancel_unwanted(now, now - CANCEL_AFTER).await? {
            log_cancelled(&run);
        }
        self.store.risks_to_log(now).await?.iter().for_each(log_risk);
        for account in self.accounts().values() {
            self.look_at_unseen(account).await?;
        }
        Ok(Step::Idle)
    }

    async fn look_at_unseen(&self, account: &Account) -> Result<(), StoreError> {
        if self.key_refused(account).await?.is_some() {
            return Ok(());
        }
        let before = self.now() - LOOK_EVERY;
        let unseen = self.store.unseen(&account.name, account.provider, before, LOOK_BATCH).await?;
        let mut places: BTreeMap<(Product, Region), Vec<InstanceId>> = BTreeMap::new();
        for unseen in unseen {
            places.entry((unseen.product, unseen.region)).or_default().push(unseen.instance);
        }
        for ((product, region), ids) in places {
            match self.observe(account, product, &region, &ids).await {
                Ok(seen) => {
                    for (id, refused) in ids.iter().zip(seen).filter_map(|(id, seen)| Some((id, seen.err()?)))
                    {
                        log_unread(account, product, &region, id.as_str(), &refused);
                    }
                }
                Err(CallError::Store(error)) => return Err(error),
                Err(CallError::Cloud(failure)) => {
                    log_unread(account, product, &region, &format!("{} instances", ids.len()), &failure);
                    if is_refused_key(account, &failure) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

fn log_unread(account: &Account, product: Product, region: &Region, what: &str, failure: &Failure) {
    tracing::warn!(
        event = "instances.unread", account = %account.name, product = %product, region = %region,
        class = %failure.class, code = failure.code,
        "{what} in {region} could not be looked at with account {}: {failure}", account.name
    );
}

fn log_cancelled(run: &RunRecord) {
    let RunRecord { id, policy, policy_revision, account, product, region, instance, reason, .. } = run;
    let reason = reason.as_deref().unwrap_or("its policy no longer wants it");
    tracing::info!(
        event = "run.cancelled",
        policy,
        revision = policy_revision,
        account,
        product,
        region,
        instance,
        run = id,
        "the run for {instance} under policy {policy} is cancelled: {reason}"
    );
}

fn log_risk(risk: &Risk) {
    let Risk { policy, account, product, region, instance, .. } = risk;
    let expiry = match (risk.is_visible, risk.expires_at) {
        (None, _) => "was never observed".to_owned(),
        (Some(false), _) => "is not visible with this account".to_owned(),
        (Some(true), Some(at)) => format!("expires at {at}"),
        (Some(true), None) => "shows no readable expiry".to_owned(),
    };
    let (cause, todo) = cause_words(risk);
    tracing::error!(
        event = "instance.at_risk",
        policy,
        account,
        product,
        region,
        instance,
        "{instance} {expiry} and no order is on its way: {cause}; {todo}. `renewd why {instance}` tells more; renew it \
         by hand only after `renewd pause --policy {policy}`"
    );
}

/// Why no order is on its way, and what to do.
fn cause_words(risk: &Risk) -> (String, String) {
    match &risk.cause {
        Cause::Paused { scope, name, kind, set_by, note } => {
            let what = PauseScope::describe(scope, name.as_deref());
            let note = note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
            let todo = match (kind.as_str(), name) {
                ("balance", _) => "top the account up, orders go on by themselves".to_owned(),
                ("credential", _) => "correct the account's key, orders go on by themselves".to_owned(),
                (COPY, _) => {
                    "make sure that no other renewd runs on the original, then `renewd resume`".to_owned()
                }
                (_, Some(name)) => format!("`renewd resume --{scope} {name}` allows orders again"),
                (_, None) => "`renewd resume` allows orders again".to_owned(),
            };
            (format!("{what} is paused by {set_by}{note}"), todo)
        }
        Cause::Unknown { row } => (
            format!("order row {row} is unknown, nobody can say whether it was charged"),
            format!("look in the console, then `renewd resolve {row} --paid` or `--not-paid`"),
        ),
        Cause::Overdue { row } => (
            format!("order row {row} is placed and the expiry has not moved"),
            "look in the console what became of it".to_owned(),
        ),
        Cause::Disabled => {
            (format!("policy {} is disabled", risk.policy), "enable it, or renew by hand".to_owned())
        }
        Cause::Run { state, reason } => {
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            (format!("its run is {state}{reason}"), "put right what it names".to_owned())
        }
        Cause::NotFired => ("its policy has not fired yet".to_owned(), todo_before_a_firing(risk)),
    }
}

fn todo_before_a_firing(risk: &Risk) -> String {
    let Risk { policy, account, region, .. } = risk;
    match risk.is_visible {
        Some(false) => format!(
            "correct its id, its region ({region}) or its account ({account}) in policy {policy}, or grant the key the \
             right to see it"
        ),
        None => "`renewd check --online` tells what keeps it from being looked at".to_owned(),
        Some(true) => "let its schedule fire more often, or renew by hand".to_owned(),
    }
}
