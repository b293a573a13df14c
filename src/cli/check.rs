//! `renewd check`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{EXIT_REFUSED, Outcome, output};
use crate::config::{self, Environment};
use crate::domain::policy::Policy;
use crate::schedule::Schedule;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const FIRINGS: usize = 5;

#[derive(Serialize)]
struct Checked<'a> {
    policy: &'a str,
    account: &'a str,
    product: &'a str,
    region: &'a str,
    action: &'static str,
    instances: usize,
    schedule: &'a str,
    timezone: &'a str,
    enabled: bool,
    next_firings: Vec<String>,
}

pub(super) fn check(path: &Path, args: &CheckArgs) -> Outcome {
    let now = super::now();
    let loaded = match config::load_all(path, &Environment::of_process(), now) {
        Ok(loaded) => loaded,
        Err(refusal) => {
            eprintln!("{}", refusal.render(output::colour_on_stderr()));
            return Ok(ExitCode::from(EXIT_REFUSED));
        }
    };
    for warning in &loaded.warnings {
        eprintln!("{}", warning.render(output::colour_on_stderr()));
    }
    let (config, set) = &loaded.value;
    let checked: Vec<Checked<'_>> = set.policies.iter().map(|policy| checked(policy, now)).collect();
    if args.json {
        return output::print_json(&checked);
    }
    print_words(&checked, &config.policies, loaded.warnings.len())
}

fn checked(policy: &Policy, now: Timestamp) -> Checked<'_> {
    let zone = TimeZone::get(&policy.schedule.zone).unwrap_or(TimeZone::UTC);
    let schedule = Schedule::parse(&policy.schedule.expression, &policy.schedule.zone).ok();
    let mut next_firings = Vec::with_capacity(FIRINGS);
    let mut after = now;
    while let Some(next) = schedule.as_ref().and_then(|schedule| schedule.next_after(after))
        && next_firings.len() < FIRINGS
    {
        next_firings.push(next.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string());
        after = next;
    }
    Checked {
        policy: policy.name.as_str(),
        account: policy.account.as_str(),
        product: policy.product.as_str(),
        region: policy.region.as_str(),
        action: policy.terms.action.kind().as_str(),
        instances: policy.instances.len(),
        schedule: &policy.schedule.expression,
        timezone: &policy.schedule.zone,
        enabled: policy.enabled,
        next_firings,
    }
}

fn print_words(checked: &[Checked<'_>], folder: &Path, warnings: usize) -> Outcome {
    let mut text = String::new();
    for policy in checked {
        let Checked { policy: name, action, instances, product, region, account, schedule, timezone, .. } =
            policy;
        let plural = if *instances == 1 { "" } else { "s" };
        let off = if policy.enabled { "" } else { " (disabled: it does not fire)" };
        text += &format!(
            "{name}: {action} {instances} {product} instance{plural} in {region}, account {account}{off}\n"
        );
        text += &format!("  {schedule}  in {timezone}\n");
        for firing in &policy.next_firings {
            text += &format!("    {firing}\n");
        }
    }
    let policies = checked.len();
    let ies = if policies == 1 { "y" } else { "ies" };
    let doubts = match warnings {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        count => format!(", {count} warnings"),
    };
    text += &format!("fine: {policies} polic{ies} in {}{doubts}", folder.display());
    output::print(&text)
}
