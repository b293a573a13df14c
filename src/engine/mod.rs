//! The work: the only place where store and cloud meet.
//!
//! ```text
//! ticker ── firings ──► runs(queued) ──claim──► lane: permit, observe, guard, intent, send, record
//!                           ▲                                        │
//!                           └────── reconcile: look, verdict ◄── placed, unknown
//! ```
//!
//! A [`Keeper`] an account sees to it that one with the machine's role has keys to sign with.
//!
//! [`plan`] and [`inspect`] look ahead for people, with the same calls and the same guard.
//!
//! Each part is a struct with a `step` that does one round and says what it did, and a loop that only loops.
//! Settings and accounts are asked for anew in each step: a reload replaces them whole, between two reads of them.
//! Invariant: no part sleeps inside a step for anything but a permit or a call's answer.

mod account;
mod calls;
mod change;
mod events;
mod goods;
mod holds;
pub mod inspect;
mod lane;
mod measures;
mod numbers;
mod order_list;
pub mod plan;
mod reconcile;
mod repeat;
mod rescue;
mod role;
mod survey;
mod ticker;
mod watch;
mod withheld;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::{Notify, watch as channel};

pub use account::{Account, Limits, Source, Terms};
pub use calls::CallError;
pub use change::Accounts;
pub use lane::Lane;
pub use measures::{ApiLabels, ByApi, CallLabels, Measures};
pub use reconcile::Reconcile;
pub use rescue::Leap;
pub use role::{Keeper, RoleSource};
pub use survey::{NO_SECRET, Progress, Spot};
pub use ticker::Ticker;
pub use watch::{MinuteWatch, SecondWatch};

use crate::clock::Clock;
use crate::domain::run::Epoch;
use crate::limiter::Limiter;
use crate::retry::Pace;
use crate::store::{Budget, Store, StoreError, Trouble};

/// Everything the parts share.
pub struct Engine {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    limiter: Limiter,
    /// Replaced whole by a reload; who works on one that left ends its work with it.
    accounts: ArcSwap<Accounts>,
    settings: ArcSwap<Settings>,
    epoch: AtomicI64,
    /// When this epoch began: instants before it were missed, later ones are at worst late.
    began_ms: AtomicI64,
    /// When schedules were last looked at, by the monotonic clock.
    ticked_ms: AtomicU64,
    pub measures: Measures,
    stopping: channel::Sender<bool>,
    /// Why this process may not go on, once there is a reason.
    end: channel::Sender<Option<End>>,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub pace: Pace,
    /// How long an unknown outcome is watched before it may be called not ordered.
    pub settle: Duration,
    /// The zone of budget days.
    pub zone: TimeZone,
}

/// Why a process may not go on with its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Another process has taken it over.
    Successor { pid: i64 },
    /// It is damaged: what keeps an order single cannot be trusted any more.
    Damaged { found: String },
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Worked,
    Idle,
}

const NEVER_TICKED: u64 = u64::MAX;
/// After a failure of the database, before the same is tried again.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);
/// Failures in a row of one part from one telling to the next: about a minute.
const FAILURES_A_REMINDER: u32 = 60;

impl Engine {
    pub fn new(store: Store, clock: Arc<dyn Clock>, accounts: Vec<Account>, settings: Settings) -> Engine {
        let accounts: Accounts =
            accounts.into_iter().map(|account| (account.name.clone(), Arc::new(account))).collect();
        let limiter = Limiter::new(Arc::clone(&clock));
        Engine {
            store,
            clock,
            limiter,
            accounts: ArcSwap::from_pointee(accounts),
            settings: ArcSwap::from_pointee(settings),
            epoch: AtomicI64::new(0),
            began_ms: AtomicI64::new(0),
            ticked_ms: AtomicU64::new(NEVER_TICKED),
            measures: Measures::new(),
            stopping: channel::Sender::new(false),
            end: channel::Sender::new(None),
        }
    }

    /// Gives up calls that only read, so that a stop waits for purchases alone.
    pub fn stop_reading(&self) {
        self.stopping.send_replace(true);
    }

    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        if stopping.wait_for(|stopping| *stopping).await.is_err() {
            std::future::pending().await
        }
    }

    /// Returns when this process may not go on with its database.
    pub async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await.map(|end| end.clone()) {
            Ok(Some(end)) => end,
            _ => std::future::pending().await,
        }
    }

    /// The first reason stands.
    fn end(&self, reason: End) {
        self.end.send_if_modified(|end| end.is_none() && end.replace(reason).is_none());
    }

    /// Those of this moment.
    pub fn accounts(&self) -> Arc<Accounts> {
        self.accounts.load_full()
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::SeqCst))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn wake_all(&self) {
        for account in self.accounts().values() {
            account.wake.notify_one();
        }
    }

    fn budget(&self, account: &Account, now: Timestamp) -> Budget {
        let today = now.to_zoned(self.settings().zone.clone());
        let day_start = today.start_of_day().map_or(now, |start| start.timestamp());
        let month = today.first_of_month().and_then(|first| first.start_of_day());
        let limits = account.limits();
        Budget {
            orders_per_day: limits.orders_per_day,
            per_day: limits.per_day,
            per_month: limits.per_month,
            day_start,
            month_start: month.map_or(day_start, |start| start.timestamp()),
        }
    }
}

/// One of the loops that make up a running engine.
trait Part {
    /// Who it is, in the log.
    const NAME: &'static str;
    /// With nothing to do it looks again this often, should a wake-up be lost.
    const IDLE_LOOK: Duration = Duration::from_secs(5);

    /// One round.
    fn step(&mut self) -> impl Future<Output = Result<Step, StoreError>> + Send;
}

/// Runs a part's steps until told to stop; waits for its wake-up when there is nothing to do.
async fn repeat<P: Part + Send>(
    engine: &Engine,
    part: &mut P,
    mut stop: channel::Receiver<bool>,
    wake: &Notify,
) {
    let mut failures: u32 = 0;
    while !*stop.borrow() {
        let mut stepped = part.step().await;
        if failures > 0 && stepped.is_ok() {
            // A step that had nothing to write proves nothing.
            stepped = engine.store.prove_writable().await.and(stepped);
        }
        note_database(engine, P::NAME, &mut failures, stepped.as_ref().err());
        let pause = match stepped {
            Ok(Step::Worked) => continue,
            Ok(Step::Idle) => P::IDLE_LOOK,
            Err(_) => DATABASE_PAUSE,
        };
        tokio::select! {
            _ = stop.changed() => {}
            () = wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A failure is told when it begins and now and then while it lasts, its end once.
fn note_database(engine: &Engine, part: &str, failures: &mut u32, error: Option<&StoreError>) {
    let Some(error) = error else {
        if std::mem::take(failures) > 0 {
            tracing::info!(event = "database.recovered", "{part} can use the database again");
        }
        return;
    };
    if failures.is_multiple_of(FAILURES_A_REMINDER) {
        tracing::error!(event = "database.failed", %error, "{part} could not use the database, trying again: {error}");
    }
    *failures += 1;
    if error.trouble() == Trouble::Damaged {
        engine.store.note_damage();
        engine.end(End::Damaged { found: error.to_string() });
    }
}

#[cfg(test)]
impl Engine {
    /// For tests of whoever watches it: a database of its own, no account, and a clock that moves when told.
    pub(crate) async fn alone(
        folder: &std::path::Path,
    ) -> (Arc<Engine>, Arc<crate::clock::ManualClock>, crate::store::DaemonLock) {
        let path = folder.join("renewd.db");
        let lock = crate::store::DaemonLock::acquire(&path).unwrap();
        let store = Store::open_for_daemon(&path, &lock).await.unwrap();
        let clock = Arc::new(crate::clock::ManualClock::new(Timestamp::UNIX_EPOCH));
        let second = Duration::from_secs(1);
        let pace = Pace { first_delay: second, max_delay: second, max_attempts: 1 };
        let settings = Settings { pace, settle: second, zone: TimeZone::UTC };
        (Arc::new(Engine::new(store, clock.clone(), Vec::new(), settings)), clock, lock)
    }
}
