//! `renewd policies`, `instances`, `runs`, `orders`: page by page from the database to the reader.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use serde_json::value::RawValue;

use super::listing::Listing;
use super::listing::Room::{self, Cut, Kept, LeftOut};
use super::output::{JsonArray, Output, or_dash, say_left_out, width};
use super::times::Times;
use super::{Failure, ListArgs, Outcome, open_store_to_read};
use crate::config;
use crate::store::{Filter, InstanceRow, Listed, OrderRecord, Pages, PolicyRow, RunRecord, Store};

pub(super) const POLICY_STATES: [&str; 3] = ["enabled", "disabled", "retired"];
/// What a vendor says beyond these is kept as a phrase, which nobody would filter by.
pub(super) const INSTANCE_STATES: [&str; 5] = ["running", "busy", "isolated", "gone", "not_visible"];

type Columns = &'static [(&'static str, Room)];

/// Prints a list to its end, or until the reader has seen enough; `cells` makes a row of the table.
async fn show<R: Listed>(
    config: &Path,
    args: &ListArgs,
    columns: Columns,
    cells: fn(&R, &Times) -> Vec<String>,
) -> Outcome {
    let (settings, store) = match open_store_to_read(config).await? {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let times = Times::of(&settings, args.shown.utc)?;
    let pages = store.pages::<R>(args.filter(&settings)?);
    let found = match args.shown.json {
        true => print_json(pages).await?,
        false => print_table(pages, columns, cells, &times).await?,
    };
    if found == Found::Nothing {
        for hint in unknown_names(args, &store).await? {
            eprintln!("renewd: {hint}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a list had any row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Rows,
}

/// A list is empty too where a name is misspelt: that is not what "no orders" means.
async fn unknown_names(args: &ListArgs, store: &Store) -> Result<Vec<String>, Failure> {
    if args.policy.is_none() && args.account.is_none() && args.instance.is_none() {
        return Ok(Vec::new());
    }
    let policies = store.policies(&Filter::default()).await?;
    let names = policies.iter().map(|row| row.policy.as_str());
    let accounts: BTreeSet<&str> = policies.iter().map(|row| row.account.as_str()).collect();
    let mut hints = Vec::new();
    let mut look_up = |what: &str, name: &Option<String>, known: Vec<&str>| {
        if let Some(name) = name.as_deref().filter(|name| !known.contains(name)) {
            hints.push(format!("no {what} {name:?} is in the database; {}", config::suggestion(name, known)));
        }
    };
    look_up("policy", &args.policy, names.collect());
    look_up("policy of account", &args.account, accounts.into_iter().collect());
    if let Some(instance) = &args.instance {
        let filter = Filter { instance: Some(instance.clone()), limit: Some(1), ..Filter::default() };
        if store.pages::<InstanceRow>(filter).next().await?.is_none() {
            hints.push(format!("no policy names instance {instance:?}"));
        }
    }
    Ok(hints)
}

async fn print_json<R: Listed>(mut pages: Pages<R>) -> Result<Found, Failure> {
    let (mut output, mut array) = (Output::open(), JsonArray::default());
    let mut found = Found::Nothing;
    while let Some(rows) = pages.next().await? {
        found = Found::Rows;
        if !output.write(&array.page(&rows)?)? {
            return Ok(found);
        }
    }
    output.write(&array.end())?;
    Ok(found)
}

async fn print_table<R: Listed>(
    mut pages: Pages<R>,
    columns: Columns,
    cells: fn(&R, &Times) -> Vec<String>,
    times: &Times,
) -> Result<Found, Failure> {
    let (mut output, mut list) = (Output::open(), Listing::new(columns));
    let mut page = pages.next().await?;
    let found = if page.is_some() { Found::Rows } else { Found::Nothing };
    // An empty list has its heads too.
    loop {
        page.iter().flatten().for_each(|row| list.add(cells(row, times)));
        let is_heard = output.write(&(list.text(width()) + "\n"))?;
        page = pages.next().await?;
        if page.is_none() || !is_heard {
            say_left_out(&list.left_out());
            return Ok(found);
        }
    }
}

pub(super) async fn orders(config: &Path, args: &ListArgs) -> Outcome {
    const COLUMNS: Columns = &[
        ("ROW", Kept),
        ("STATE", Kept),
        ("INSTANCE", Kept),
        ("POLICY", LeftOut(2)),
        ("ACTION", LeftOut(7)),
        ("MONTHS", LeftOut(6)),
        ("ORDER", LeftOut(3)),
        ("CNY", LeftOut(5)),
        ("EXPIRY BEFORE", LeftOut(8)),
        ("AFTER", LeftOut(1)),
        ("SENT", LeftOut(4)),
        ("ERROR", Cut),
    ];
    show(config, args, COLUMNS, |order: &OrderRecord, times| {
        vec![
            order.id.to_string(),
            order.state.clone(),
            order.instance.clone(),
            order.policy.clone(),
            order.action.clone(),
            order.months.map_or_else(|| or_dash(None), |months| months.to_string()),
            or_dash(order.order_id.as_deref()),
            order.amount_cny.map_or_else(|| or_dash(None), |amount| format!("{amount:.2}")),
            times.text(order.expiry_before.as_deref()),
            times.text(order.expiry_after.as_deref()),
            times.text(order.sent_at.as_deref()),
            error_words(order.error.as_deref()),
        ]
    })
    .await
}

pub(super) async fn runs(config: &Path, args: &ListArgs) -> Outcome {
    const COLUMNS: Columns = &[
        ("RUN", Kept),
        ("STATE", Kept),
        ("INSTANCE", Kept),
        ("POLICY", LeftOut(2)),
        ("ORIGIN", LeftOut(4)),
        ("DUE", LeftOut(1)),
        ("ATTEMPTS", LeftOut(5)),
        ("NEXT ATTEMPT", LeftOut(3)),
        ("REASON", Cut),
    ];
    show(config, args, COLUMNS, |run: &RunRecord, times| {
        vec![
            run.id.to_string(),
            run.state.clone(),
            run.instance.clone(),
            run.policy.clone(),
            run.origin.clone(),
            times.text(Some(&run.due_at)),
            run.attempts.to_string(),
            times.text(run.next_attempt_at.as_deref()),
            times.sentence(&or_dash(run.reason.as_deref())),
        ]
    })
    .await
}

pub(super) async fn instances(config: &Path, args: &ListArgs) -> Outcome {
    const COLUMNS: Columns = &[
        ("INSTANCE", Kept),
        ("PRODUCT", LeftOut(4)),
        ("REGION", LeftOut(6)),
        ("ACCOUNT", LeftOut(5)),
        ("POLICY", LeftOut(2)),
        ("STATE", LeftOut(1)),
        ("EXPIRES", Kept),
        ("AUTO-RENEW", LeftOut(3)),
        ("OBSERVED", LeftOut(7)),
        ("AT RISK", Kept),
    ];
    show(config, args, COLUMNS, |row: &InstanceRow, times| {
        vec![
            row.instance.clone(),
            row.product.clone(),
            row.region.clone(),
            row.account.clone(),
            row.policy.clone(),
            or_dash(row.state.as_deref()),
            times.text(row.expires_at.as_deref()),
            or_dash(row.auto_renew.as_deref()),
            times.text(row.observed_at.as_deref()),
            if row.at_risk { "yes" } else { "no" }.to_owned(),
        ]
    })
    .await
}

pub(super) async fn policies(config: &Path, args: &ListArgs) -> Outcome {
    const COLUMNS: Columns = &[
        ("POLICY", Kept),
        ("REV", LeftOut(8)),
        ("ACCOUNT", LeftOut(6)),
        ("PRODUCT", LeftOut(3)),
        ("REGION", LeftOut(7)),
        ("ACTION", LeftOut(2)),
        ("INSTANCES", LeftOut(4)),
        ("SCHEDULE", LeftOut(1)),
        ("ZONE", LeftOut(5)),
        ("NEXT FIRING", Kept),
        ("SOURCE", LeftOut(9)),
    ];
    show(config, args, COLUMNS, |policy: &PolicyRow, times| {
        let next = match (policy.retired, policy.enabled) {
            (true, _) => "retired".to_owned(),
            (false, false) => "disabled".to_owned(),
            (false, true) => times.text(policy.next_due_at.as_deref()),
        };
        vec![
            policy.policy.clone(),
            policy.revision.to_string(),
            policy.account.clone(),
            policy.product.clone(),
            policy.region.clone(),
            policy.action.clone(),
            policy.instances.to_string(),
            policy.schedule.clone(),
            policy.timezone.clone(),
            next,
            policy.source.clone(),
        ]
    })
    .await
}

pub(super) fn error_words(error: Option<&RawValue>) -> String {
    #[derive(serde::Deserialize)]
    struct Words {
        class: String,
        code: String,
    }
    error
        .and_then(|raw| serde_json::from_str::<Words>(raw.get()).ok())
        .map_or_else(|| or_dash(None), |words| format!("{} ({})", words.code, words.class))
}
