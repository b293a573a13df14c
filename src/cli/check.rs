//! `renewd check`.

mod expiries;
mod online;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::output::Answer;
use super::progress;
use super::{EXIT_FAILED, EXIT_REFUSED, Failure, Outcome, output};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Environment, Place, Refusal, Severity};
use crate::domain::policy::{Policy, ScheduleText};
use crate::domain::written_time;
use crate::schedule::Schedule;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Ask the clouds too: keys, rights, clocks, and each instance. Nothing is ordered.
    #[arg(long)]
    pub(super) online: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
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

pub(super) async fn check(path: &Path, args: &CheckArgs) -> Outcome {
    match answer(path, args, &Environment::of_process(), Arc::new(SystemClock::new())).await? {
        Ok(answer) => answer.print(),
        Err(code) => Ok(code),
    }
}

/// What is to be printed, or the exit code after the files were refused.
pub(super) async fn answer(
    path: &Path,
    args: &CheckArgs,
    environment: &Environment,
    clock: Arc<dyn Clock>,
) -> Result<Result<Answer, ExitCode>, Failure> {
    let now = clock.now();
    let read = {
        let (path, environment) = (path.to_owned(), environment.clone());
        move || config::check_all(&path, &environment, now)
    };
    let loaded = match progress::waited_busy("reading the files", read).await? {
        Ok(loaded) => loaded,
        Err(refusal) => return refused(&refusal, args.json).map(Err),
    };
    let (config, set) = &loaded.value;
    let observed = expiries::warnings(config, set, now).await;
    for warning in loaded.warnings.iter().chain(&observed) {
        output::say(&warning.render(output::colour_on_stderr()));
    }
    let mut firings = HashMap::new();
    let checked: Vec<Checked<'_>> =
        set.policies.iter().map(|policy| checked(policy, &mut firings, now)).collect();
    let words = || words(&checked, &config.policies, loaded.warnings.len() + observed.len());
    if !args.online {
        let text = if args.json { serde_json::to_string_pretty(&checked)? } else { words() };
        return Ok(Ok(Answer { text, left_out: Vec::new(), exit: 0 }));
    }
    let inspected = online::inspect(config, &set.policies, environment, clock).await?;
    let text = if args.json {
        serde_json::to_string_pretty(&online::Report::of(&checked, &inspected))?
    } else {
        format!("{}\n\n{}", words(), online::words(&inspected, &config.timezone))
    };
    Ok(Ok(Answer { text, left_out: Vec::new(), exit: if inspected.errors > 0 { EXIT_FAILED } else { 0 } }))
}

/// Tells all mistakes of a set that no command goes by.
pub(super) fn refused(refusal: &Refusal, json: bool) -> Outcome {
    output::say(&refusal.render(output::colour_on_stderr()));
    if json {
        output::print_json(&Refused::of(refusal))?;
    }
    Ok(ExitCode::from(EXIT_REFUSED))
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

/// The next firings of each schedule, which many policies may share.
type Firings<'s> = HashMap<&'s ScheduleText, Vec<Timestamp>>;

fn checked<'p>(policy: &'p Policy, firings: &mut Firings<'p>, now: Timestamp) -> Checked<'p> {
    let next_firings = firings.entry(&policy.schedule).or_insert_with(|| next_firings(&policy.schedule, now));
    let next_firings = next_firings.clone();
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

fn next_firings(text: &ScheduleText, now: Timestamp) -> Vec<Timestamp> {
    let Ok(schedule) = Schedule::parse(&text.expression, &text.zone) else { return Vec::new() };
    let next = |after: &Timestamp| schedule.next_after(*after);
    std::iter::successors(next(&now), next).take(FIRINGS).collect()
}

fn words(checked: &[Checked<'_>], folder: &Path, warnings: usize) -> String {
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
    text
}
