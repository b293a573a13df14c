//! `renewd pause`, `resume`, `resolve`, `trigger`, `retry`: written straight to the database and in force when they return.

use std::path::Path;

use clap::Args;
use jiff::Timestamp;

use super::person::person;
use super::time_argument::{Direction, TimeArgument};
use super::times::Times;
use super::{Failure, Outcome, load_for_database, make_store, open_or_make_store, open_store, output};
use crate::config::{self, Config, Environment};
use crate::domain::order::{OrderId, OrderRow};
use crate::domain::product::{AccountName, PolicyName};
use crate::domain::run::RunId;
use crate::store::{DaemonLock, Filter, Pause, PauseScope, Store, Trigger, Triggered, Word};

#[derive(Debug, Args)]
#[group(multiple = false)]
struct ScopeArgs {
    /// Only orders of this account.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Only orders of this policy.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Resume by itself then: an RFC 3339 time, a date or time in the `timezone` of renewd.toml, or a span such as
    /// 90m or 2d.
    #[arg(long, value_name = "TIME", value_parser = TimeArgument::parse)]
    until: Option<TimeArgument>,
    #[command(flatten)]
    note: NoteArg,
}

#[derive(Debug, Args)]
struct NoteArg {
    /// Why; kept with your name and the time.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

impl NoteArg {
    fn word(&self) -> Word {
        Word { person: person(), note: self.note.clone(), at: super::now() }
    }
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    note: NoteArg,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("verdict").required(true).args(["paid", "not_paid"]))]
pub(super) struct ResolveArgs {
    /// The order's row, as `renewd orders` shows it.
    row: i64,
    /// It was paid; with the cloud's order number if you have it.
    #[arg(long, value_name = "ORDER_ID", num_args = 0..=1, default_missing_value = "")]
    paid: Option<String>,
    /// It was not paid: the instance may be ordered again.
    #[arg(long)]
    not_paid: bool,
    /// Although the expiry has moved since, or the size of an upgrade is reached.
    #[arg(long, conflicts_with = "paid")]
    force: bool,
    #[command(flatten)]
    note: NoteArg,
}

#[derive(Debug, Args)]
pub(super) struct TriggerArgs {
    /// The policy, as `renewd policies` shows it.
    policy: String,
    /// Only this instance of it.
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Order although the instance was ordered within half the interval of an every_fire policy; all else still counts.
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    note: NoteArg,
}

#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// The failed run, as `renewd runs --state failed` shows it.
    run: i64,
    #[command(flatten)]
    note: NoteArg,
}

pub(super) async fn pause(config: &Path, args: &PauseArgs) -> Outcome {
    let config = match load_for_database(config) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let word = args.note.word();
    let until = args.until.map(|until| until.resolve(&config, word.at, Direction::Ahead)).transpose()?;
    if until.is_some_and(|until| until <= word.at) {
        return Err("the time given to --until is already past: nothing was paused".into());
    }
    let store = make_store(&config).await?;
    let scope = scope(&args.scope, &config, &store).await?;
    store.pause(&scope, until, &word).await?;
    let times = Times::of(&config, false)?;
    let until = until.map_or_else(|| "`renewd resume`".to_owned(), |until| times.at(until));
    output::print(&format!("paused: {scope}, until {until}; orders already sent are followed to their end"))
}

pub(super) async fn resume(config: &Path, args: &ResumeArgs) -> Outcome {
    let (config, store) = match open_or_make_store(config).await? {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let scope = scope(&args.scope, &config, &store).await?;
    let word = args.note.word();
    let lifted = store.resume(&scope, &word).await?;
    for pause in still_over(&scope, &store, word.at).await? {
        eprintln!("renewd: {pause} is still paused: its orders wait until that is resumed too");
    }
    match lifted {
        0 => output::print(&format!("nothing to resume: {scope} was not paused")),
        count => output::print(&format!(
            "resumed: {scope} ({count} pause{} lifted)",
            if count == 1 { "" } else { "s" }
        )),
    }
}

pub(super) async fn resolve(config: &Path, args: &ResolveArgs) -> Outcome {
    let store = match open_store(config).await? {
        Ok((_, store)) => store,
        Err(code) => return Ok(code),
    };
    let (row, word) = (OrderRow(args.row), args.note.word());
    let person = &word.person;
    match &args.paid {
        Some(id) => {
            let order_id = (!id.is_empty()).then(|| OrderId(id.clone()));
            store.resolve_paid(row, order_id, &word).await?;
            output::print(&format!("order row {row} is confirmed, on {person}'s word"))
        }
        None => {
            store.resolve_not_paid(row, args.force, &word).await?;
            output::print(&format!("order row {row} is refused, on {person}'s word; its run is judged anew"))
        }
    }
}

pub(super) async fn trigger(config: &Path, args: &TriggerArgs) -> Outcome {
    let (config, store) = match open_store(config).await? {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let word = args.note.word();
    let trigger = Trigger { policy: args.policy.clone(), instance: args.instance.clone(), again: args.again };
    let Triggered { first, runs, woken, lapses_at } = store.trigger(&trigger, &word).await?;
    let queued = match runs {
        1 => format!("run {first} is queued"),
        _ => format!("runs {first} to {} are queued", first.0 + runs.cast_signed() - 1),
    };
    if woken > 0 {
        eprintln!(
            "renewd: {woken} earlier {} of it waited, and goes first, now",
            if woken == 1 { "run" } else { "runs" }
        );
    }
    for pause in pauses_over(&store, &args.policy, word.at).await? {
        eprintln!("renewd: {pause} is paused: what is due waits until it is resumed");
    }
    if !DaemonLock::is_held(&config.database) {
        let lapses_at = Times::of(&config, false)?.at(lapses_at);
        eprintln!("renewd: the service is not running: what it has not taken by {lapses_at} lapses");
    }
    output::print(&format!("policy {} fired: {queued}; all tests before an order still apply", args.policy))
}

pub(super) async fn retry(config: &Path, args: &RetryArgs) -> Outcome {
    let store = match open_store(config).await? {
        Ok((_, store)) => store,
        Err(code) => return Ok(code),
    };
    let run = RunId(args.run);
    let new = store.retry(run, &args.note.word()).await?;
    output::print(&format!(
        "run {new} is queued: it retries run {run}; all tests before an order still apply"
    ))
}

/// The scopes in words of the pauses that hold a policy's orders.
async fn pauses_over(store: &Store, policy: &str, now: Timestamp) -> Result<Vec<String>, Failure> {
    let filter = Filter { policy: Some(policy.to_owned()), ..Filter::default() };
    let account = store.policies(&filter).await?.pop().map(|row| row.account);
    pauses_that(store, now, |pause| match pause.scope.as_str() {
        "account" => pause.name == account,
        "policy" => pause.name.as_deref() == Some(policy),
        _ => true,
    })
    .await
}

/// The scopes in words of the pauses that still hold what has just been resumed.
async fn still_over(scope: &PauseScope, store: &Store, now: Timestamp) -> Result<Vec<String>, Failure> {
    match scope {
        PauseScope::All => pauses_that(store, now, |_| true).await,
        PauseScope::Policy(name) => pauses_over(store, name.as_str(), now).await,
        PauseScope::Account(name) => {
            let is_its_own = |pause: &Pause| pause.name.as_deref() == Some(name.as_str());
            pauses_that(store, now, |pause| match pause.scope.as_str() {
                "account" => is_its_own(pause),
                scope => scope == "all",
            })
            .await
        }
    }
}

async fn pauses_that(
    store: &Store,
    now: Timestamp,
    hold: impl FnMut(&Pause) -> bool,
) -> Result<Vec<String>, Failure> {
    let pauses = store.pauses(now).await?.into_iter().filter(hold);
    Ok(pauses.map(|pause| PauseScope::describe(&pause.scope, pause.name.as_deref())).collect())
}

/// A name that nothing has would pause nothing: a typing error must not look like safety. What only the files name is
/// paused before the service takes it.
async fn scope(args: &ScopeArgs, config: &Config, store: &Store) -> Result<PauseScope, Failure> {
    let in_force = |filter: Filter| async move {
        let filter = Filter { limit: Some(1), ..filter };
        Ok::<_, Failure>(!store.policies(&filter).await?.is_empty())
    };
    let on_disk = || config::names(config, &Environment::of_process());
    match (&args.account, &args.policy) {
        (Some(text), _) => {
            let name =
                AccountName::parse(text).map_err(|error| format!("the account name {text:?} {error}"))?;
            let filter = Filter { account: Some(text.clone()), ..Filter::default() };
            if !in_force(filter).await? {
                let known = on_disk().accounts;
                refuse_unknown(
                    "account",
                    text,
                    known.contains(&name),
                    known.iter().map(AccountName::as_str),
                )?;
            }
            Ok(PauseScope::Account(name))
        }
        (None, Some(text)) => {
            let name =
                PolicyName::parse(text).map_err(|error| format!("the policy name {text:?} {error}"))?;
            let filter = Filter { policy: Some(text.clone()), ..Filter::default() };
            if !in_force(filter).await? {
                let known = on_disk().policies;
                refuse_unknown("policy", text, known.contains(&name), known.iter().map(PolicyName::as_str))?;
            }
            Ok(PauseScope::Policy(name))
        }
        (None, None) => Ok(PauseScope::All),
    }
}

fn refuse_unknown<'n>(
    what: &str,
    name: &str,
    is_known: bool,
    known: impl Iterator<Item = &'n str>,
) -> Result<(), Failure> {
    if is_known {
        return Ok(());
    }
    let help = config::suggestion(name, known);
    Err(format!("no {what} {name:?} is in force or in the files: nothing was changed; {help}").into())
}
