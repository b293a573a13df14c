//! What a key may do, by API, as far as asking costs nothing; and what is lost without it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answers, Finding};
use crate::cloud::Cloud;
use crate::domain::failure::{Class, Failure};
use crate::domain::order::{Goods, Renewal, Target};
use crate::domain::policy::{Action, Policy};
use crate::domain::product::AccountName;
use crate::engine::survey::{Looks, Spot};
use crate::engine::{Account, Engine, plan, survey};
use crate::store::StoreError;

/// One API that was tried.
#[derive(Debug)]
pub struct Right {
    pub api: &'static str,
    pub serves: Serves,
    pub outcome: Result<(), Failure>,
    /// The cloud said that the key may not.
    pub is_missing: bool,
}

/// What an API is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Serves {
    Looks,
    AutoRenew,
    /// Whether a price cap or a money budget makes orders depend on it.
    Prices {
        are_needed: bool,
    },
    OrderList,
    Balance,
}

impl Serves {
    /// What is lost without it; `Err` when that is more than comfort.
    fn without(self) -> Result<&'static str, &'static str> {
        match self {
            Serves::Looks => Err("nothing is ever ordered without it: no expiry is known"),
            Serves::AutoRenew => {
                Err("without it auto-renew cannot be read, and nothing is ordered close to the expiry")
            }
            Serves::Prices { are_needed: true } => {
                Err("orders under a price cap or a money budget wait without it")
            }
            Serves::Prices { are_needed: false } => {
                Ok("without it `plan` shows no prices; nothing else depends on them here")
            }
            Serves::OrderList => Ok("without it an order whose answer is lost may have to wait for a person"),
            Serves::Balance => Ok(
                "without it `plan` cannot warn of an empty balance, and after one orders are tried by ordering",
            ),
        }
    }
}

impl Right {
    pub(super) fn finding(&self) -> Option<Finding> {
        let failure = self.outcome.as_ref().err()?;
        let Right { api, serves, is_missing, .. } = self;
        let (message, help) = match is_missing {
            true => (format!("the key may not call {api}: {failure}"), format!("grant {api} to the key: ")),
            false => (format!("{api} did not answer: {failure}"), "try again; ".to_owned()),
        };
        Some(match serves.without() {
            Err(lost) => Finding::error(&failure.code, message, help + lost),
            Ok(lost) => Finding::warning(&failure.code, message, help + lost),
        })
    }
}

impl Engine {
    /// Asks what nothing else has asked: order lists and auto-renew, once an account and API.
    pub(super) async fn try_rights(
        &self,
        set: &[Policy],
        looks: &Looks,
    ) -> Result<BTreeMap<(AccountName, &'static str), Result<(), Failure>>, StoreError> {
        let mut tried = BTreeMap::new();
        for policy in set {
            let Some(instance) = policy.instances.first() else { continue };
            let spot = plan::spot_of(policy, instance);
            let Ok(account) = self.ready(&policy.account).await else { continue };
            // Where not even a look was answered there is nothing to learn.
            if looks
                .get(&spot)
                .is_some_and(|look| look.as_ref().is_err_and(|lost| lost.http_status.is_none()))
            {
                continue;
            }
            let key = |api: &'static str| (policy.account.clone(), api);
            if let Ok(api) = Cloud::orders_api(policy.product)
                && !tried.contains_key(&key(api.name))
            {
                tried.insert(key(api.name), self.try_order_list(&account, &spot).await?);
            }
            if let Some(api) = Cloud::auto_renew_api(policy.product)
                && !tried.contains_key(&key(api.name))
            {
                tried.insert(key(api.name), self.try_auto_renew(&account, &spot).await?);
            }
        }
        Ok(tried)
    }
}

/// In the order of what they serve and of their names.
pub(super) fn of(account: &Account, set: &[Policy], answers: &Answers) -> Vec<Right> {
    let mut outcomes: BTreeMap<(Serves, &'static str), Result<(), Failure>> = BTreeMap::new();
    let mut note = |serves, api: &'static str, outcome: Result<(), Failure>| {
        let known = outcomes.entry((serves, api)).or_insert_with(|| outcome.clone());
        // One answer shows the right, whatever other questions met; a missing right shows above all else.
        let is_missing = |of: &Result<(), Failure>| {
            of.as_ref().is_err_and(|failure| survey::is_missing_right(account, failure))
        };
        if is_missing(&outcome) || (outcome.is_ok() && !is_missing(known)) {
            *known = outcome;
        }
    };
    for (Spot { product, .. }, look) in answers.looks.iter().filter(|(spot, _)| spot.account == account.name)
    {
        if let Ok(api) = Cloud::observe_api(*product) {
            note(Serves::Looks, api.name, spoken(look.as_ref().map(drop)));
        }
    }
    let own_prices = || {
        let policies = answers
            .prices
            .iter()
            .filter_map(|((place, _), (api, price))| Some((set.get(*place)?, api, price)));
        policies.filter(|(policy, ..)| policy.account == account.name)
    };
    let needing =
        own_prices().filter(|(policy, ..)| account.needs_price() || policy.terms.max_price.is_some());
    let needed: BTreeSet<&str> = needing.map(|(_, api, _)| *api).collect();
    for (_, api, price) in own_prices() {
        let are_needed = needed.contains(api);
        note(Serves::Prices { are_needed }, api, spoken(price.as_ref().map(drop)));
    }
    for ((_, api), outcome) in answers.tried.iter().filter(|((name, _), _)| *name == account.name) {
        let is_list =
            set.iter().any(|policy| Cloud::orders_api(policy.product).is_ok_and(|list| list.name == *api));
        note(if is_list { Serves::OrderList } else { Serves::AutoRenew }, api, outcome.clone());
    }
    if let (Some(api), Some(balance)) =
        (Cloud::balance_api(account.provider), answers.balances.get(&account.name))
    {
        note(Serves::Balance, api.name, balance.clone().map(drop));
    }
    let right = |((serves, api), outcome): ((Serves, &'static str), Result<(), Failure>)| {
        let is_missing = outcome.as_ref().is_err_and(|failure| survey::is_missing_right(account, failure));
        Right { api, serves, outcome, is_missing }
    };
    outcomes.into_iter().map(right).collect()
}

/// A refusal of one instance or term is an answer all the same; it is told with the instance.
fn spoken(outcome: Result<(), &Failure>) -> Result<(), Failure> {
    match outcome {
        Err(failure) if matches!(failure.class, Class::Rejected | Class::Busy | Class::Unavailable) => Ok(()),
        Err(failure) => Err(failure.clone()),
        Ok(()) => Ok(()),
    }
}

/// The purchases that the set's policies make: to try one is to pay.
pub(super) fn untried(account: &Account, set: &[Policy]) -> Vec<&'static str> {
    let own = set.iter().filter(|policy| policy.account == account.name);
    let apis = own.filter_map(|policy| {
        Cloud::purchase_api(policy.product, &any_goods(policy)).ok().map(|api| api.name)
    });
    apis.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Which API sells them depends on their kind alone.
fn any_goods(policy: &Policy) -> Goods {
    match &policy.terms.action {
        Action::Renew(renew) => Goods::Renewal(Renewal {
            months: renew.months,
            renew_flag: None,
            renew_data_disks: policy.terms.renew_data_disks,
            client_token: None,
        }),
        Action::Upgrade(wanted) => Goods::Upgrade(Target {
            mem_size_mb: wanted.mem_size_mb,
            shards: wanted.shards,
            replicas: wanted.replicas,
        }),
    }
}
