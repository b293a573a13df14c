//! `renewd check`.

use std::borrow::Cow;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{EXIT_REFUSED, Outcome, output};
use crate::config::{self, Environment, Place, Refusal, Severity};
use crate::domain::policy::Policy;
use crate::domain::written_time;
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
    #[serde(serialize_with = "written_time::serialize_all")]
    next_firings: Vec<Timestamp>,
}

/// What `--json` prints of a refused set.
#[derive(Serialize)]
struct Refused<'a> {
    mistakes: usize,
    diagnostics: Vec<Finding<'a>>,
}

#[derive(Serialize)]
struct Finding<'a> {
    severity: &'static str,
    #[serde(flatten)]
    place: Spotted<'a>,
    message: &'a str,
    help: Option<&'a str>,
    /// The other place of a clash.
    related: Option<Related<'a>>,
}

#[derive(Serialize)]
struct Related<'a> {
    #[serde(flatten)]
    place: Spotted<'a>,
    label: &'a str,
}

#[derive(Serialize)]
struct Spotted<'a> {
    file: Cow<'a, str>,
    line: Option<usize>,
    column: Option<usize>,
    /// The offending text; what may be a secret is masked in it.
    text: Option<&'a str>,
}

pub(super) fn check(path: &Path, args: &CheckArgs) -> Outcome {
    let now = super::now();
    let loaded = match config::check_all(path, &Environment::of_process(), now) {
        Ok(loaded) => loaded,
        Err(refusal) => {
            output::say(&refusal.render(output::colour_on_stderr()));
            if args.json {
                output::print_json(&Refused::of(&refusal))?;
            }
            return Ok(ExitCode::from(EXIT_REFUSED));
        }
    };
    for warning in &loaded.warnings {
        output::say(&warning.render(output::colour_on_stderr()));
    }
    let (config, set) = &loaded.value;
    let checked: Vec<Checked<'_>> = set.policies.iter().map(|policy| checked(policy, now)).collect();
    if args.json {
        return output::print_json(&checked);
    }
    print_words(&checked, &config.policies, loaded.warnings.len())
}

impl<'a> Refused<'a> {
    fn of(refusal: &'a Refusal) -> Refused<'a> {
        let findings = refusal.diagnostics().iter().map(|found| Finding {
            severity: match found.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            place: Spotted::of(&found.place),
            message: &found.message,
            help: found.help.as_deref(),
            related: found
                .related
                .as_ref()
                .map(|(place, label)| Related { place: Spotted::of(place), label }),
        });
        Refused { mistakes: refusal.mistakes().count(), diagnostics: findings.collect() }
    }
}

impl<'a> Spotted<'a> {
    fn of(place: &'a Place) -> Spotted<'a> {
        let spot = place.spot.as_ref();
        Spotted {
            file: place.file.to_string_lossy(),
            line: spot.map(|spot| spot.line),
            column: spot.map(|spot| spot.column),
            text: spot.and_then(|spot| spot.text.get(spot.mark.clone())),
        }
    }
}

fn checked(policy: &Policy, now: Timestamp) -> Checked<'_> {
    let schedule = Schedule::parse(&policy.schedule.expression, &policy.schedule.zone).ok();
    let mut next_firings = Vec::with_capacity(FIRINGS);
    let mut after = now;
    while let Some(next) = schedule.as_ref().and_then(|schedule| schedule.next_after(after))
        && next_firings.len() < FIRINGS
    {
        next_firings.push(next);
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
        let zone = TimeZone::get(timezone).unwrap_or(TimeZone::UTC);
        for firing in &policy.next_firings {
            let local = firing.to_zoned(zone.clone());
            text += &format!("    {}\n", local.strftime("%a %Y-%m-%d %H:%M:%S %:z"));
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
