//! What `check --online` found, for people and for programs.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Checked;
use crate::cli::output::{plural, yuan};
use crate::cli::{Failure as Failed, progress};
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::daemon;
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::policy::Policy;
use crate::domain::written_time;
use crate::engine::Progress;
use crate::engine::inspect::{AccountReport, Finding, Gravity, Inspection, InstanceReport, Key, Right};

pub(super) struct Inspected {
    inspection: Inspection,
    pub(super) errors: usize,
    warnings: usize,
}

pub(super) async fn inspect(
    config: &Config,
    set: &[Policy],
    environment: &Environment,
    clock: Arc<dyn Clock>,
) -> Result<Inspected, Failed> {
    let engine = daemon::engine_to_ask(config, environment, clock).await?;
    let progress = Arc::new(Progress::default());
    let inspection = progress::shown(&progress, engine.inspect(set, &progress)).await?;
    let (errors, warnings) = (inspection.count(Gravity::Error), inspection.count(Gravity::Warning));
    Ok(Inspected { inspection, errors, warnings })
}

pub(super) fn words(inspected: &Inspected, zone: &str) -> String {
    let Inspected { inspection, errors, warnings } = inspected;
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    let mut text = String::new();
    for account in &inspection.accounts {
        text += &account_words(account);
        text.push('\n');
    }
    for instance in &inspection.instances {
        for finding in &instance.findings {
            text += &finding_words(finding, &subject(instance, &zone));
        }
    }
    let fine = inspection.instances.iter().filter(|instance| instance.is_fine()).count();
    let unseen = inspection.instances.iter().filter(|instance| instance.unseen.is_some()).count();
    let not_seen = if unseen > 0 { format!(", {unseen} could not be looked at") } else { String::new() };
    let all = inspection.instances.len();
    text + &format!(
        "{fine} of {} fine{not_seen}; {}, {}",
        plural(all, "instance"),
        plural(*errors, "error"),
        plural(*warnings, "warning")
    )
}

fn account_words(report: &AccountReport) -> String {
    let AccountReport { account, provider, key, skew, balance, rights, untried, findings } = report;
    let clock = match (key, skew.abs().as_secs()) {
        (Key::Untried(_), _) => "clock not compared".to_owned(),
        (_, 0) => "clock right".to_owned(),
        (_, seconds) => format!("clock {seconds} s off"),
    };
    let key = match key {
        Key::Accepted => "key accepted",
        Key::Refused(_) => "KEY REFUSED",
        Key::Untried(_) => "KEY NOT TRIED",
    };
    let balance = match balance {
        Ok(Some(balance)) => format!("balance {} CNY", yuan(*balance)),
        Ok(None) | Err(_) => "balance not known".to_owned(),
    };
    let mut text = format!("account {account} ({provider}): {key}, {clock}, {balance}\n");
    let width = rights.iter().map(|right| right.api.len()).max().unwrap_or(0);
    for Right { api, outcome, is_missing, .. } in rights {
        let outcome = match outcome {
            Ok(()) => "allowed",
            Err(_) if *is_missing => "NOT ALLOWED",
            Err(_) => "no answer",
        };
        text += &format!("  {api:<width$}  {outcome}\n");
    }
    if !untried.is_empty() {
        text += &format!("  not tried, since it would cost: {}\n", untried.join(", "));
    }
    for finding in findings {
        text += &finding_words(finding, &format!("account {account}"));
    }
    text
}

fn subject(instance: &InstanceReport, zone: &TimeZone) -> String {
    let InstanceReport { instance: id, policy, product, region, facts, .. } = instance;
    let expiry = facts.as_ref().and_then(|facts| facts.expires_at);
    let expiry = expiry.map(|at| format!(", until {}", at.to_zoned(zone.clone()).strftime("%Y-%m-%d")));
    format!("{id} ({product} in {region}, policy {policy}{})", expiry.unwrap_or_default())
}

fn finding_words(finding: &Finding, subject: &str) -> String {
    let gravity = match finding.gravity {
        Gravity::Error => "error",
        Gravity::Warning => "warning",
    };
    format!("{gravity}: {subject}: {}\n  help: {}\n", finding.message, finding.help)
}

#[derive(Serialize)]
pub(super) struct Report<'a> {
    policies: &'a [Checked<'a>],
    accounts: Vec<AccountAnswer<'a>>,
    instances: Vec<InstanceAnswer<'a>>,
    errors: usize,
    warnings: usize,
}

#[derive(Serialize)]
struct AccountAnswer<'a> {
    account: &'a str,
    provider: &'static str,
    key: &'static str,
    key_error: Option<&'a Failure>,
    clock_skew_seconds: i64,
    balance_cny: Option<f64>,
    balance_error: Option<&'a Failure>,
    rights: Vec<RightAnswer<'a>>,
    untried: &'a [&'static str],
    findings: Vec<FindingAnswer<'a>>,
}

#[derive(Serialize)]
struct RightAnswer<'a> {
    api: &'a str,
    /// Null where the answer did not tell.
    allowed: Option<bool>,
    error: Option<&'a Failure>,
}

#[derive(Serialize)]
struct InstanceAnswer<'a> {
    policy: &'a str,
    account: &'a str,
    product: &'static str,
    region: &'a str,
    instance: &'a str,
    state: Option<&'a str>,
    charge_type: Option<&'a str>,
    #[serde(serialize_with = "written_time::serialize_option")]
    expires_at: Option<Timestamp>,
    auto_renew: Option<&'static str>,
    price_cny: Option<f64>,
    error: Option<&'a Failure>,
    findings: Vec<FindingAnswer<'a>>,
}

#[derive(Serialize)]
struct FindingAnswer<'a> {
    severity: &'static str,
    code: &'a str,
    message: &'a str,
    help: &'a str,
}

impl<'a> Report<'a> {
    pub(super) fn of(policies: &'a [Checked<'a>], inspected: &'a Inspected) -> Report<'a> {
        Report {
            policies,
            accounts: inspected.inspection.accounts.iter().map(AccountAnswer::of).collect(),
            instances: inspected.inspection.instances.iter().map(InstanceAnswer::of).collect(),
            errors: inspected.errors,
            warnings: inspected.warnings,
        }
    }
}

impl<'a> AccountAnswer<'a> {
    fn of(report: &'a AccountReport) -> AccountAnswer<'a> {
        let (key, key_error) = match &report.key {
            Key::Accepted => ("accepted", None),
            Key::Refused(failure) => ("refused", Some(failure)),
            Key::Untried(failure) => ("untried", Some(failure)),
        };
        let right = |right: &'a Right| RightAnswer {
            api: right.api,
            allowed: match &right.outcome {
                Ok(()) => Some(true),
                Err(_) => right.is_missing.then_some(false),
            },
            error: right.outcome.as_ref().err(),
        };
        AccountAnswer {
            account: report.account.as_str(),
            provider: report.provider.as_str(),
            key,
            key_error,
            clock_skew_seconds: report.skew.as_secs(),
            balance_cny: report.balance.as_ref().ok().copied().flatten().map(Fen::as_yuan_number),
            balance_error: report.balance.as_ref().err(),
            rights: report.rights.iter().map(right).collect(),
            untried: &report.untried,
            findings: report.findings.iter().map(FindingAnswer::of).collect(),
        }
    }
}

impl<'a> InstanceAnswer<'a> {
    fn of(report: &'a InstanceReport) -> InstanceAnswer<'a> {
        let facts = report.facts.as_ref();
        InstanceAnswer {
            policy: report.policy.as_str(),
            account: report.account.as_str(),
            product: report.product.as_str(),
            region: report.region.as_str(),
            instance: report.instance.as_str(),
            state: facts.map(|facts| facts.state.as_str()),
            charge_type: facts.map(|facts| facts.charge.as_str()),
            expires_at: facts.and_then(|facts| facts.expires_at),
            auto_renew: facts.map(|facts| facts.auto_renew.as_str()),
            price_cny: report.price.map(Fen::as_yuan_number),
            error: report.unseen.as_ref(),
            findings: report.findings.iter().map(FindingAnswer::of).collect(),
        }
    }
}

impl<'a> FindingAnswer<'a> {
    fn of(finding: &'a Finding) -> FindingAnswer<'a> {
        FindingAnswer {
            severity: match finding.gravity {
                Gravity::Error => "error",
                Gravity::Warning => "warning",
            },
            code: &finding.code,
            message: &finding.message,
            help: &finding.help,
        }
    }
}
