//! Whether the clouds would let the service do its work: keys, rights, clocks, and each instance as it is. Only what
//! costs nothing is tried.

mod instance;
mod rights;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

pub use instance::InstanceReport;
pub use rights::Right;

use super::plan::spot_of;
use super::survey::{Looks, NO_ROLE_KEYS, NO_SECRET, Progress, is_without_keys};
use super::{Account, Engine, calls};
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::order::Purchase;
use crate::domain::policy::Policy;
use crate::domain::product::{AccountName, Provider};
use crate::guard::SKEW_MAX;
use crate::store::StoreError;

/// Something that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub gravity: Gravity,
    pub code: String,
    pub message: String,
    pub help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// Something would not be done.
    Error,
    /// Something is doubtful, or less comfortable than it could be.
    Warning,
}

#[derive(Debug)]
pub struct Inspection {
    pub accounts: Vec<AccountReport>,
    /// In the order of the policies.
    pub instances: Vec<InstanceReport>,
}

#[derive(Debug)]
pub struct AccountReport {
    pub account: AccountName,
    pub provider: Provider,
    pub key: Key,
    /// The cloud's clock less ours; less than two seconds is none.
    pub skew: SignedDuration,
    pub balance: Result<Option<Fen>, Failure>,
    /// By API, what could be tried.
    pub rights: Vec<Right>,
    /// What cannot be tried without paying.
    pub untried: Vec<&'static str>,
    pub findings: Vec<Finding>,
}

/// What the cloud makes of an account's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Accepted,
    Refused(Failure),
    /// It could not be read, or the cloud not be reached.
    Untried(Failure),
}

/// Everything that was asked.
struct Answers {
    looks: Looks,
    balances: BTreeMap<AccountName, Result<Option<Fen>, Failure>>,
    /// What an order of each instance would cost, where one could be thought of.
    prices: BTreeMap<Asked, (&'static str, Result<Fen, Failure>)>,
    /// By account and API.
    tried: BTreeMap<(AccountName, &'static str), Result<(), Failure>>,
}

/// A policy and one of its instances, by their places.
type Asked = (usize, usize);

impl Finding {
    fn error(code: &str, message: impl Into<String>, help: impl Into<String>) -> Finding {
        Finding { gravity: Gravity::Error, code: code.to_owned(), message: message.into(), help: help.into() }
    }

    fn warning(code: &str, message: impl Into<String>, help: impl Into<String>) -> Finding {
        Finding { gravity: Gravity::Warning, ..Finding::error(code, message, help) }
    }
}

impl Inspection {
    /// How many findings of that gravity there are.
    pub fn count(&self, gravity: Gravity) -> usize {
        let of_accounts = self.accounts.iter().flat_map(|account| &account.findings);
        let of_instances = self.instances.iter().flat_map(|instance| &instance.findings);
        of_accounts.chain(of_instances).filter(|finding| finding.gravity == gravity).count()
    }
}

impl Engine {
    /// Asks the clouds whatever costs nothing about a set of policies and about every account.
    ///
    /// # Errors
    /// The engine's own database failed.
    pub async fn inspect(
        self: &Arc<Self>,
        set: &[Policy],
        progress: &Arc<Progress>,
    ) -> Result<Inspection, StoreError> {
        let now = self.now();
        let answers = self.answers(set, progress, now).await?;
        let accounts = self.accounts();
        let keys: BTreeMap<&AccountName, Key> =
            accounts.iter().map(|(name, account)| (name, key(account, &answers))).collect();
        let reports = accounts.values().map(|account| {
            let key = keys.get(&account.name).cloned().unwrap_or(Key::Accepted);
            account_report(account, key, set, &answers)
        });
        let reports = reports.collect();
        let mut instances = Vec::new();
        for (place, policy) in set.iter().enumerate() {
            let Some(account) = accounts.get(&policy.account) else { continue };
            for (nth, instance) in policy.instances.iter().enumerate() {
                let look = answers.looks.get(&spot_of(policy, instance));
                let price = answers.prices.get(&(place, nth)).map(|(_, price)| price.clone());
                let subject = instance::Subject { engine: self, account, policy, instance, now };
                instances.push(subject.report(look, price, keys.get(&policy.account)));
            }
        }
        Ok(Inspection { accounts: reports, instances })
    }

    async fn answers(
        self: &Arc<Self>,
        set: &[Policy],
        progress: &Arc<Progress>,
        now: Timestamp,
    ) -> Result<Answers, StoreError> {
        let spots = set
            .iter()
            .flat_map(|policy| policy.instances.iter().map(|instance| spot_of(policy, instance)))
            .collect();
        let looks = self.look_at_all(spots, progress).await?;
        let balances = self.ask_balances(progress).await?;
        let mut wanted: Vec<(Asked, &'static str)> = Vec::new();
        let mut purchases: Vec<(AccountName, Purchase)> = Vec::new();
        for (place, policy) in set.iter().enumerate() {
            for (nth, instance) in policy.instances.iter().enumerate() {
                let look = looks.get(&spot_of(policy, instance));
                if let Some((api, purchase)) = instance::priced(policy, instance, look, now) {
                    wanted.push(((place, nth), api));
                    purchases.push((policy.account.clone(), purchase));
                }
            }
        }
        let prices = self.ask_prices(purchases, progress).await?;
        let prices = wanted.into_iter().zip(prices).map(|((asked, api), price)| (asked, (api, price)));
        let prices = prices.collect();
        let tried = self.try_rights(set, &looks).await?;
        Ok(Answers { looks, balances, prices, tried })
    }
}

impl Answers {
    /// Everything that the calls of an account met.
    fn met<'a>(&'a self, set_account: &'a AccountName) -> impl Iterator<Item = Result<(), &'a Failure>> {
        let is_own = move |name: &AccountName| name == set_account;
        let looks = self.looks.iter().filter(move |(spot, _)| is_own(&spot.account));
        let looks = looks.map(|(_, look)| look.as_ref().map(drop));
        let balances = self.balances.iter().filter(move |(name, _)| is_own(name));
        let balances = balances.map(|(_, balance)| balance.as_ref().map(drop));
        let tried = self.tried.iter().filter(move |((name, _), _)| is_own(name));
        looks.chain(balances).chain(tried.map(|(_, outcome)| outcome.as_ref().map(drop)))
    }
}

fn key(account: &Account, answers: &Answers) -> Key {
    let mut lost = None;
    let mut is_accepted = false;
    for met in answers.met(&account.name) {
        match met {
            Err(failure) if is_without_keys(failure) => return Key::Untried(failure.clone()),
            Err(failure) if calls::is_refused_key(account, failure) => return Key::Refused(failure.clone()),
            // Whatever it says, it knows who asks.
            Err(failure) if failure.http_status.is_none() || failure.class == Class::Unknown => {
                lost = Some(failure);
            }
            Ok(()) | Err(_) => is_accepted = true,
        }
    }
    match lost {
        Some(failure) if !is_accepted => Key::Untried(failure.clone()),
        _ => Key::Accepted,
    }
}

fn account_report(account: &Account, key: Key, set: &[Policy], answers: &Answers) -> AccountReport {
    let name = &account.name;
    let balance = answers.balances.get(name).cloned().unwrap_or(Ok(None));
    let skew = account.skew();
    let mut findings: Vec<Finding> = key_finding(account, &key).into_iter().collect();
    if skew.abs() > SKEW_MAX {
        let message =
            format!("this machine's clock is {} s off the cloud's: orders are held", skew.abs().as_secs());
        findings.push(Finding::error("ClockSkewed", message, "set the clock, and keep it by NTP"));
    }
    let mut rights = Vec::new();
    // With a key that says nothing, nothing can be said of its rights.
    if key == Key::Accepted {
        rights = rights::of(account, set, answers);
        findings.extend(rights.iter().filter_map(Right::finding));
    }
    let untried = rights::untried(account, set);
    AccountReport {
        account: name.clone(),
        provider: account.provider,
        key,
        skew,
        balance,
        rights,
        untried,
        findings,
    }
}

fn key_finding(account: &Account, key: &Key) -> Option<Finding> {
    let name = &account.name;
    match key {
        Key::Accepted => None,
        Key::Refused(failure) => {
            let message = format!("the key is refused: {failure}");
            let help = "put the right key in place; nothing is ordered with this one";
            Some(Finding::error(&failure.code, message, help))
        }
        Key::Untried(failure) if failure.code == NO_SECRET => {
            let help = "a `credential:` is there while the service runs, and for root only: start the service, or run \
                        this with sudo";
            Some(Finding::error(&failure.code, failure.message.clone(), help))
        }
        Key::Untried(failure) if failure.code == NO_ROLE_KEYS => {
            let help = "run this on the machine that has the role; nothing is ordered without its keys";
            Some(Finding::error(&failure.code, failure.message.clone(), help))
        }
        Key::Untried(failure) => {
            let message = format!("the cloud cannot be reached from here: {failure}");
            let help = format!(
                "let this machine out to the hosts of {}, or correct `endpoint` of {name}",
                account.provider
            );
            Some(Finding::error(&failure.code, message, help))
        }
    }
}
