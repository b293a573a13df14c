//! `renewd policies`, `instances`, `runs`, `orders`.

use std::path::Path;

use serde_json::value::RawValue;

use super::listing::Listing;
use super::listing::Room::{Cut, Kept, LeftOut};
use super::output::{or_dash, print_json};
use super::{ListArgs, Outcome, open_store_to_read};
use crate::store::Filter;

pub(super) const POLICY_STATES: [&str; 3] = ["enabled", "disabled", "retired"];
/// What a vendor says beyond these is kept as a phrase, which nobody would filter by.
pub(super) const INSTANCE_STATES: [&str; 5] = ["running", "busy", "isolated", "gone", "not_visible"];

pub(super) async fn orders(config: &Path, args: &ListArgs) -> Outcome {
    let (config, store) = match open_store_to_read(config).await? {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let orders = store.orders(&args.filter(&config)?).await?;
    if args.json {
        return print_json(&orders);
    }
    let mut list = Listing::new(&[
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
    ]);
    for order in orders {
        list.add([
            order.id.to_string(),
            order.state,
            order.instance,
            order.policy,
            order.action,
            order.months.map_or_else(|| or_dash(None), |months| months.to_string()),
            or_dash(order.order_id.as_deref()),
            order.amount_cny.map_or_else(|| or_dash(None), |amount| format!("{amount:.2}")),
            short_time(order.expiry_before.as_deref()),
            short_time(order.expiry_after.as_deref()),
            short_time(order.sent_at.as_deref()),
            error_words(order.error.as_deref()),
        ]);
    }
    list.print()
}

pub(super) async fn runs(config: &Path, args: &ListArgs) -> Outcome {
    let (config, store) = match open_store_to_read(config).await? {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let runs = store.runs(&args.filter(&config)?).await?;
    if args.json {
        return print_json(&runs);
    }
    let mut list = Listing::new(&[
        ("RUN", Kept),
        ("STATE", Kept),
        ("INSTANCE", Kept),
        ("POLICY", LeftOut(2)),
        ("ORIGIN", LeftOut(4)),
        ("DUE", LeftOut(1)),
        ("ATTEMPTS", LeftOut(5)),
        ("NEXT ATTEMPT", LeftOut(3)),
        ("REASON", Cut),
    ]);
    for run in runs {
        list.add([
            run.id.to_string(),
            run.state,
            run.instance,
            run.policy,
            run.origin,
            short_time(Some(&run.due_at)),
            run.attempts.to_string(),
            short_time(run.next_attempt_at.as_deref()),
            or_dash(run.reason.as_deref()),
        ]);
    }
    list.print()
}

pub(super) async fn instances(config: &Path, args: &ListArgs) -> Outcome {
    let (config, store) = match open_store_to_read(config).await? {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let instances = store.instances(&args.filter(&config)?).await?;
    if args.json {
        return print_json(&instances);
    }
    let mut list = Listing::new(&[
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
    ]);
    for row in instances {
        list.add([
            row.instance,
            row.product,
            row.region,
            row.account,
            row.policy,
            or_dash(row.state.as_deref()),
            short_time(row.expires_at.as_deref()),
            or_dash(row.auto_renew.as_deref()),
            short_time(row.observed_at.as_deref()),
            if row.at_risk { "yes" } else { "no" }.to_owned(),
        ]);
    }
    list.print()
}

pub(super) async fn policies(config: &Path, args: &ListArgs) -> Outcome {
    let (config, store) = match open_store_to_read(config).await? {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let policies = store.policies(&Filter { since: None, ..args.filter(&config)? }).await?;
    if args.json {
        return print_json(&policies);
    }
    let mut list = Listing::new(&[
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
    ]);
    for policy in policies {
        let next = match (policy.retired, policy.enabled) {
            (true, _) => "retired".to_owned(),
            (false, false) => "disabled".to_owned(),
            (false, true) => short_time(policy.next_due_at.as_deref()),
        };
        list.add([
            policy.policy,
            policy.revision.to_string(),
            policy.account,
            policy.product,
            policy.region,
            policy.action,
            policy.instances.to_string(),
            policy.schedule,
            policy.timezone,
            next,
            policy.source,
        ]);
    }
    list.print()
}

/// `2026-11-20 04:00:00Z`: seconds are enough for a person.
pub(super) fn short_time(text: Option<&str>) -> String {
    let Some(text) = text else { return or_dash(None) };
    let seconds = text.split('.').next().unwrap_or(text).trim_end_matches('Z');
    format!("{}Z", seconds.replace('T', " "))
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
