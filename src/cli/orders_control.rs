//! `renewd pause`, `resume`, `resolve`: written straight to the database and in force when they return.

use std::path::Path;

use clap::Args;
use jiff::Timestamp;

use super::time_argument::parse_future_time;
use super::{Failure, Outcome, open_store, output};
use crate::domain::order::{OrderId, OrderRow};
use crate::domain::product::{AccountName, PolicyName};
use crate::store::{PauseScope, Store};

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
    /// Resume by itself then: a time, a date, or a span such as 90m or 2d.
    #[arg(long, value_name = "TIME", value_parser = parse_future_time)]
    until: Option<Timestamp>,
    /// Why, for whoever finds it paused.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    scope: ScopeArgs,
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
    /// Although the expiry has moved since.
    #[arg(long, conflicts_with = "paid")]
    force: bool,
}

pub(super) async fn pause(config: &Path, args: &PauseArgs) -> Outcome {
    let store = match open_store(config).await? {
        Ok((_, store)) => store,
        Err(code) => return Ok(code),
    };
    let now = super::now();
    if args.until.is_some_and(|until| until <= now) {
        return Err("the time given to --until is already past: nothing was paused".into());
    }
    let scope = scope(&args.scope, &store).await?;
    store.pause(&scope, args.until, args.note.as_deref(), &person(), now).await?;
    let until = args.until.map_or_else(|| "`renewd resume`".to_owned(), |until| until.to_string());
    output::print(&format!("paused: {scope}, until {until}; orders already sent are followed to their end"))
}

pub(super) async fn resume(config: &Path, args: &ResumeArgs) -> Outcome {
    let store = match open_store(config).await? {
        Ok((_, store)) => store,
        Err(code) => return Ok(code),
    };
    let scope = scope(&args.scope, &store).await?;
    let lifted = store.resume(&scope, &person(), super::now()).await?;
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
    let (row, person, now) = (OrderRow(args.row), person(), super::now());
    match &args.paid {
        Some(id) => {
            let order_id = (!id.is_empty()).then(|| OrderId(id.clone()));
            store.resolve_paid(row, order_id, &person, now).await?;
            output::print(&format!("order row {row} is confirmed, on {person}'s word"))
        }
        None => {
            store.resolve_not_paid(row, args.force, &person, now).await?;
            output::print(&format!("order row {row} is refused, on {person}'s word; its run is judged anew"))
        }
    }
}

/// A name that nothing has would pause nothing: a typing error must not look like safety.
async fn scope(args: &ScopeArgs, store: &Store) -> Result<PauseScope, Failure> {
    let policies = store.policies(&crate::store::Filter::default()).await?;
    match (&args.account, &args.policy) {
        (Some(name), _) => {
            if !policies.iter().any(|policy| policy.account == *name) {
                return Err(format!("no policy uses an account {name:?}: nothing was changed").into());
            }
            Ok(PauseScope::Account(AccountName::parse(name)?))
        }
        (None, Some(name)) => {
            if !policies.iter().any(|policy| policy.policy == *name) {
                return Err(format!("there is no policy {name:?}: nothing was changed").into());
            }
            Ok(PauseScope::Policy(PolicyName::parse(name)?))
        }
        (None, None) => Ok(PauseScope::All),
    }
}

/// Who is at the keyboard, for the record: the user behind sudo if there is one.
fn person() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    named
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}
