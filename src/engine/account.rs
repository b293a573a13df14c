//! An account: what makes it the one it is, what a reload may change about it, and what this life knows of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::holds::Shortage;
use super::role::RoleSource;
use crate::cloud::{Api, Cloud, Credentials};
use crate::domain::money::Fen;
use crate::domain::order::OrderRow;
use crate::domain::product::{AccountName, Provider};

/// One account: its cloud, its pace, its money.
///
/// Invariant: where its calls go never changes. An order rests on a look at the same place; an account that moves
/// is another one, whose work begins when the old one's has ended.
pub struct Account {
    pub name: AccountName,
    pub provider: Provider,
    pub cloud: Cloud,
    terms: ArcSwap<Terms>,
    pub(super) skew_ms: AtomicI64,
    pub(super) is_held: AtomicBool,
    /// Its key was refused by the last call that told.
    pub(super) is_refused: AtomicBool,
    /// Whether its order list may be read, as far as the last call told.
    may_list: AtomicBool,
    /// Orders that this life sent with a token, with the monotonic time of sending.
    pub(super) tokens_sent: Mutex<HashMap<OrderRow, Duration>>,
    /// What its balance was when it was last too little.
    pub(super) shortage: Mutex<Option<Shortage>>,
    /// What somebody was told of the whole account, by code, with the day it was told for.
    told: Mutex<BTreeMap<String, Timestamp>>,
    /// Since when it has the secrets that it has.
    secrets_since_ms: AtomicI64,
    pub(super) wake: Notify,
}

/// What a reload may change while the account's work goes on.
pub struct Terms {
    /// Requests per second by API name; absent: a share of the documented limit.
    pub rates: HashMap<String, f64>,
    pub limits: Limits,
    pub source: Source,
}

/// Where an account's keys come from.
#[derive(Clone)]
pub enum Source {
    /// Reads files and variables again.
    Read(Arc<dyn Fn() -> Result<Credentials, String> + Send + Sync>),
    /// The machine's role, whose keys are fetched beforehand.
    Role(Arc<RoleSource>),
}

/// `[account.NAME.budget]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub orders_per_day: Option<u32>,
    pub per_day: Option<Fen>,
    pub per_month: Option<Fen>,
}

impl Source {
    /// Whose quota calls use up: that of the key, or that of the role whatever its key is by now. Fit for a limiter's
    /// key, not for a log.
    pub(super) fn quota(&self, cloud: &Cloud) -> String {
        match self {
            Source::Read(_) => cloud.key_id(),
            Source::Role(role) => role.quota(),
        }
    }
}

/// Of the documented limit, what an account uses unless told otherwise.
const SHARE_OF_LIMIT: f64 = 0.9;

impl Account {
    pub fn new(name: AccountName, provider: Provider, cloud: Cloud, terms: Terms) -> Account {
        Account {
            name,
            provider,
            cloud,
            terms: ArcSwap::from_pointee(terms),
            skew_ms: AtomicI64::new(0),
            is_held: AtomicBool::new(true),
            is_refused: AtomicBool::new(false),
            may_list: AtomicBool::new(true),
            tokens_sent: Mutex::default(),
            shortage: Mutex::default(),
            told: Mutex::default(),
            secrets_since_ms: AtomicI64::new(i64::MIN),
            wake: Notify::new(),
        }
    }

    /// From now on; answers whether the limits are others than before. A role that stays keeps its keys; where another
    /// one comes, nothing is signed any more with the keys of what was there before.
    pub(super) fn replace_terms(&self, mut terms: Terms) -> bool {
        let limits = terms.limits;
        if let Source::Role(role) = &terms.source {
            match self.source() {
                Source::Role(old) if old.is_same(role) => terms.source = Source::Role(old),
                _ => self.cloud.replace_credentials(Credentials::none()),
            }
        }
        self.terms.swap(Arc::new(terms)).limits != limits
    }

    pub(super) fn source(&self) -> Source {
        self.terms.load().source.clone()
    }

    pub(super) fn goes_by(&self, role: &RoleSource) -> bool {
        matches!(&self.terms.load().source, Source::Role(own) if std::ptr::eq(&raw const **own, role))
    }

    pub(super) fn quota(&self) -> String {
        self.terms.load().source.quota(&self.cloud)
    }

    pub(super) fn limits(&self) -> Limits {
        self.terms.load().limits
    }

    pub(super) fn rate(&self, api: Api) -> f64 {
        self.terms.load().rates.get(api.name).copied().unwrap_or_else(|| api.pace(SHARE_OF_LIMIT))
    }

    /// The cloud's clock less ours, as last seen.
    pub(super) fn skew(&self) -> SignedDuration {
        SignedDuration::from_millis(self.skew_ms.load(Ordering::Relaxed))
    }

    pub(super) fn may_list(&self) -> bool {
        self.may_list.load(Ordering::Relaxed)
    }

    /// Answers whether that is news.
    pub(super) fn note_list_right(&self, may_list: bool) -> bool {
        self.may_list.swap(may_list, Ordering::Relaxed) != may_list
    }

    /// Whether somebody was not yet told of this on that day; from now on they are.
    pub(super) fn is_news(&self, code: &str, day: Timestamp) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(code.to_owned(), day) != Some(day)
    }

    /// What was told of these is over: should it come again, it is news.
    pub(super) fn forget_told(&self, codes: &[&str]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|code, _| !codes.contains(&code.as_str()));
    }

    pub(super) fn needs_price(&self) -> bool {
        let limits = self.limits();
        limits.per_day.is_some() || limits.per_month.is_some()
    }

    pub(super) fn note_secrets_replaced(&self, at: Timestamp) {
        self.secrets_since_ms.store(at.as_millisecond(), Ordering::SeqCst);
    }

    /// Whether a call begun then may have been signed with secrets that are no longer these.
    pub(super) fn had_other_secrets(&self, begun: Timestamp) -> bool {
        begun.as_millisecond() <= self.secrets_since_ms.load(Ordering::SeqCst)
    }
}
