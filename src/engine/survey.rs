//! Asking the clouds for people: many instances, prices and balances at once, account beside account. Nothing is
//! ordered here.
//!
//! Invariant: what one question met never hides the answers to others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::SignedDuration;
use tokio::task::JoinSet;

use super::account::Source;
use super::calls::{About, CallError, is_refused_key};
use super::{Account, Engine};
use crate::cloud::{self, Cause, Cloud};
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::observation::Observation;
use crate::domain::order::Purchase;
use crate::domain::product::{AccountName, InstanceId, Product, Region};
use crate::store::StoreError;

/// An instance as it is asked about: with whose key, by which product's API, in which region as its policy spells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spot {
    pub account: AccountName,
    pub product: Product,
    pub region: Region,
    pub instance: InstanceId,
}

/// What each question met.
pub type Looks = HashMap<Spot, Result<Observation, Failure>>;

/// How far a survey has come; whoever shows it looks now and then.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicUsize,
    wanted: AtomicUsize,
}

/// Questions of one account for prices that are under way at once: more would only wait for the pace.
const PRICES_AT_ONCE: usize = 8;
/// How often a question is asked that is too fast for the cloud; others may be using the same key.
const TRIES_MAX: u32 = 5;
/// How far back an order list is asked for when all that matters is whether it may be.
const LIST_WINDOW: SignedDuration = SignedDuration::from_hours(1);

impl Progress {
    /// Done, and wanted so far.
    pub fn so_far(&self) -> (usize, usize) {
        (self.done.load(Ordering::Relaxed), self.wanted.load(Ordering::Relaxed))
    }

    fn want(&self, more: usize) {
        self.wanted.fetch_add(more, Ordering::Relaxed);
    }

    fn note(&self, done: usize) {
        self.done.fetch_add(done, Ordering::Relaxed);
    }
}

impl Engine {
    /// Looks at instances, in as few calls as the clouds allow.
    ///
    /// # Errors
    /// The engine's own database failed.
    pub async fn look_at_all(
        self: &Arc<Self>,
        spots: BTreeSet<Spot>,
        progress: &Arc<Progress>,
    ) -> Result<Looks, StoreError> {
        progress.want(spots.len());
        let mut of_accounts: BTreeMap<AccountName, Vec<Spot>> = BTreeMap::new();
        for spot in spots {
            of_accounts.entry(spot.account.clone()).or_default().push(spot);
        }
        let mut tasks = JoinSet::new();
        for (name, spots) in of_accounts {
            let (engine, progress) = (Arc::clone(self), Arc::clone(progress));
            tasks.spawn(async move { engine.look_as(&name, spots, &progress).await });
        }
        let mut looks = Looks::new();
        for of_account in tasks.join_all().await {
            looks.extend(of_account?);
        }
        Ok(looks)
    }

    async fn look_as(
        &self,
        name: &AccountName,
        spots: Vec<Spot>,
        progress: &Progress,
    ) -> Result<Looks, StoreError> {
        let account = match self.ready(name).await {
            Ok(account) => account,
            Err(failure) => {
                progress.note(spots.len());
                return Ok(spots.into_iter().map(|spot| (spot, Err(failure.clone()))).collect());
            }
        };
        let mut places: BTreeMap<(Product, Region), Vec<InstanceId>> = BTreeMap::new();
        for spot in spots {
            places.entry((spot.product, spot.region)).or_default().push(spot.instance);
        }
        let mut looks = Looks::new();
        for ((product, region), ids) in places {
            let spot = |instance| Spot { account: name.clone(), product, region: region.clone(), instance };
            let looked = self.look_in(&account, product, &region, &ids, progress).await?;
            looks.extend(ids.iter().cloned().map(spot).zip(looked));
        }
        Ok(looks)
    }

    /// One answer an id, in the order asked.
    async fn look_in(
        &self,
        account: &Account,
        product: Product,
        region: &Region,
        ids: &[InstanceId],
        progress: &Progress,
    ) -> Result<Vec<Result<Observation, Failure>>, StoreError> {
        let batch = match Cloud::observe_batch_max(product) {
            Ok(batch) => batch,
            Err(not_built) => return Ok(vec![Err(not_built.into()); ids.len()]),
        };
        let mut looked: Vec<Result<Observation, Failure>> = Vec::with_capacity(ids.len());
        let mut batches: Vec<&[InstanceId]> = ids.chunks(batch).rev().collect();
        while let Some(ids) = batches.pop() {
            let mut tries = Tries::default();
            let looked_at = loop {
                let answered = self.look(account, product, region, ids).await;
                if !tries.again(&answered) {
                    break settled(answered)?;
                }
            };
            let failure = match looked_at {
                Ok(observations) => {
                    looked.extend(observations.into_iter().map(Ok));
                    progress.note(ids.len());
                    continue;
                }
                Err(failure) => failure,
            };
            if failure.class == Class::Rejected && ids.len() > 1 {
                let (first, second) = ids.split_at(ids.len() / 2);
                batches.extend([second, first]);
                continue;
            }
            looked.extend(ids.iter().map(|_| Err(failure.clone())));
            progress.note(ids.len());
            if is_for_all(account, &failure) {
                break;
            }
        }
        // What was not asked any more would have met the same.
        if let Some(Err(failure)) = looked.last().cloned() {
            progress.note(ids.len() - looked.len());
            looked.resize(ids.len(), Err(failure));
        }
        Ok(looked)
    }

    /// What each purchase would cost, in the order asked.
    ///
    /// # Errors
    /// The engine's own database failed.
    pub async fn ask_prices(
        self: &Arc<Self>,
        purchases: Vec<(AccountName, Purchase)>,
        progress: &Arc<Progress>,
    ) -> Result<Vec<Result<Fen, Failure>>, StoreError> {
        progress.want(purchases.len());
        let count = purchases.len();
        let mut of_accounts: BTreeMap<AccountName, Vec<(usize, Purchase)>> = BTreeMap::new();
        for (place, (name, purchase)) in purchases.into_iter().enumerate() {
            of_accounts.entry(name).or_default().push((place, purchase));
        }
        let mut tasks = JoinSet::new();
        for (name, purchases) in of_accounts {
            let (engine, progress) = (Arc::clone(self), Arc::clone(progress));
            tasks.spawn(async move { engine.ask_prices_as(&name, purchases, &progress).await });
        }
        let mut prices = vec![Err(not_asked()); count];
        for of_account in tasks.join_all().await {
            for (place, price) in of_account? {
                prices[place] = price;
            }
        }
        Ok(prices)
    }

    async fn ask_prices_as(
        self: Arc<Self>,
        name: &AccountName,
        purchases: Vec<(usize, Purchase)>,
        progress: &Progress,
    ) -> Result<Vec<(usize, Result<Fen, Failure>)>, StoreError> {
        let account = match self.ready(name).await {
            Ok(account) => account,
            Err(failure) => {
                progress.note(purchases.len());
                return Ok(purchases.into_iter().map(|(place, _)| (place, Err(failure.clone()))).collect());
            }
        };
        let mut closed: HashMap<&'static str, Failure> = HashMap::new();
        let mut prices = Vec::with_capacity(purchases.len());
        let mut tasks = JoinSet::new();
        let mut waiting = purchases.into_iter();
        loop {
            while tasks.len() < PRICES_AT_ONCE
                && let Some((place, purchase)) = waiting.next()
            {
                let api = Cloud::price_api(purchase.product, &purchase.goods).map_or("", |api| api.name);
                if let Some(failure) = closed.get(api) {
                    prices.push((place, Err(failure.clone())));
                    progress.note(1);
                    continue;
                }
                let (engine, account) = (Arc::clone(&self), Arc::clone(&account));
                tasks.spawn(async move { (place, api, engine.ask_price(&account, &purchase).await) });
            }
            let Some(answered) = tasks.join_next().await else { return Ok(prices) };
            let (place, api, price) =
                answered.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            let price = price?;
            if let Err(failure) = &price
                && is_for_all(&account, failure)
            {
                closed.insert(api, failure.clone());
            }
            prices.push((place, price));
            progress.note(1);
        }
    }

    async fn ask_price(
        &self,
        account: &Account,
        purchase: &Purchase,
    ) -> Result<Result<Fen, Failure>, StoreError> {
        let mut tries = Tries::default();
        loop {
            let answered = self.price(account, purchase).await;
            if !tries.again(&answered) {
                return settled(answered);
            }
        }
    }

    /// What every account can pay with; None where this build has no way to ask.
    ///
    /// # Errors
    /// The engine's own database failed.
    pub async fn ask_balances(
        self: &Arc<Self>,
        progress: &Arc<Progress>,
    ) -> Result<BTreeMap<AccountName, Result<Option<Fen>, Failure>>, StoreError> {
        let accounts = self.accounts();
        progress.want(accounts.len());
        let mut tasks = JoinSet::new();
        for name in accounts.keys().cloned() {
            let (engine, progress) = (Arc::clone(self), Arc::clone(progress));
            tasks.spawn(async move {
                let balance = match engine.ready(&name).await {
                    Ok(account) => settled(engine.ask_balance(&account).await),
                    Err(failure) => Ok(Err(failure)),
                };
                progress.note(1);
                balance.map(|balance| (name, balance))
            });
        }
        tasks.join_all().await.into_iter().collect()
    }

    /// Whether the order list of an instance may be read. What is in it is of no interest.
    pub(super) async fn try_order_list(
        &self,
        account: &Account,
        spot: &Spot,
    ) -> Result<Result<(), Failure>, StoreError> {
        let Spot { product, region, instance, .. } = spot;
        let api = match Cloud::orders_api(*product) {
            Ok(api) => api,
            Err(not_built) => return Ok(Err(not_built.into())),
        };
        let about = About { region, order_row: None, instances: 1 };
        let permit = self.permit(account, api, region).await;
        let at = self.now();
        let from = at - LIST_WINDOW;
        if Cloud::order_lines_api(*product).is_some() {
            let call = self.read(api, account.cloud.orders_page(*product, from, at, None)).await;
            permit.written();
            settled(self.finish_call(account, api, about, at, call).await.map(drop))
        } else {
            let list = account.cloud.list_orders(*product, region, instance, from, at);
            let call = self.read(api, list).await;
            permit.written();
            settled(self.finish_call(account, api, about, at, call).await.map(drop))
        }
    }

    /// Whether the console's auto-renew may be read where a look does not show it.
    pub(super) async fn try_auto_renew(
        &self,
        account: &Account,
        spot: &Spot,
    ) -> Result<Result<(), Failure>, StoreError> {
        let Spot { product, region, instance, .. } = spot;
        let Some(api) = Cloud::auto_renew_api(*product) else { return Ok(Ok(())) };
        let about = About { region, order_row: None, instances: 1 };
        let permit = self.permit(account, api, region).await;
        let at = self.now();
        let ids = std::slice::from_ref(instance);
        let call = self.read(api, account.cloud.auto_renew(*product, ids)).await;
        permit.written();
        settled(self.finish_call(account, api, about, at, call).await.map(drop))
    }

    /// An account that calls can be made with.
    pub(super) async fn ready(&self, name: &AccountName) -> Result<Arc<Account>, Failure> {
        let account = self.accounts().get(name).map(Arc::clone).ok_or_else(|| {
            let message = format!("there is no account {name}");
            Failure::ours(Class::Rejected, "NoAccount", message)
        })?;
        if account.cloud.key_id().is_empty()
            && let Err(cause) = self.reread_secrets(&account).await
        {
            let code = match account.source() {
                Source::Read(_) => NO_SECRET,
                Source::Role(_) => NO_ROLE_KEYS,
            };
            return Err(Failure::ours(Class::Credential, code, cause));
        }
        Ok(account)
    }
}

/// The code of an account whose secrets cannot be read here.
pub const NO_SECRET: &str = "NoSecret";
/// The code of an account whose role has no keys here.
pub const NO_ROLE_KEYS: &str = "NoRoleKeys";

/// Whether no call was made for want of anything to sign with.
pub(super) fn is_without_keys(failure: &Failure) -> bool {
    [NO_SECRET, NO_ROLE_KEYS].contains(&failure.code.as_str())
}

/// What was only too fast is asked again: the limiter has closed the key for a while then.
#[derive(Default)]
struct Tries(u32);

impl Tries {
    fn again<T>(&mut self, answered: &Result<T, CallError>) -> bool {
        self.0 += 1;
        let is_too_fast =
            matches!(answered, Err(CallError::Cloud(failure)) if failure.class == Class::Throttled);
        is_too_fast && self.0 < TRIES_MAX
    }
}

fn settled<T>(answered: Result<T, CallError>) -> Result<Result<T, Failure>, StoreError> {
    match answered {
        Ok(answer) => Ok(Ok(answer)),
        Err(CallError::Cloud(failure)) => Ok(Err(failure)),
        Err(CallError::Store(error)) => Err(error),
    }
}

/// Whether the next question of the same kind would meet it too, perhaps after half a minute's wait.
fn is_for_all(account: &Account, failure: &Failure) -> bool {
    let is_lost = matches!(failure.class, Class::Unsent | Class::Throttled | Class::Unknown);
    is_lost || is_refused_key(account, failure) || is_missing_right(account, failure)
}

pub(super) fn is_missing_right(account: &Account, failure: &Failure) -> bool {
    cloud::cause(account.provider, &failure.code) == Some(Cause::Rights)
}

fn not_asked() -> Failure {
    Failure::ours(Class::Unsent, "NotAsked", "the price was not asked")
}
