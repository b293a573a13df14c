//! One life of the daemon: an engine on the list's database, its parts stepped by hand.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use jiff::tz::TimeZone;
use renewd::clock::{Clock, ManualClock};
use renewd::cloud::{Cloud, Credentials, Endpoint, Limits as CallLimits};
use renewd::domain::policy::Policy;
use renewd::domain::product::{AccountName, Provider};
use renewd::domain::secret::Secret;
use renewd::engine::{
    Account, Engine, Lane, Limits, Reconcile, SecondWatch, Settings, Source, Step, Terms, Ticker,
};
use renewd::retry::Pace;
use renewd::sandbox::SECRET_KEY;
use renewd::store::{DaemonLock, NewSet, PolicyEntry, Store};

use crate::clocks::Clocks;
use crate::fleet::{ACCOUNTS, key_id};

pub const SETTLE: Duration = Duration::from_secs(6 * 3600);
/// Of real time; nothing honest on this machine takes a tenth of it.
const CALL_TIMEOUT: Duration = Duration::from_millis(1500);
const MINUTE: Duration = Duration::from_secs(60);
/// More rounds than this without a rest would be a part that spins.
const ROUNDS_MAX: usize = 400;

/// A broken promise, or a part that failed, in words.
pub type Broken = String;

pub struct Life {
    pub engine: Arc<Engine>,
    ticker: Ticker,
    second: SecondWatch,
    pub lanes: Vec<Lane>,
    reconciles: Vec<Reconcile>,
    clocks: Arc<Clocks>,
    last_minute: Option<Duration>,
    _lock: DaemonLock,
}

/// What `[account.NAME.budget]` says in this life.
pub type Budgets = BTreeMap<&'static str, Limits>;

impl Life {
    /// Opens the database as a new process would. `number` names its lock: lives may overlap here.
    pub async fn begin(
        folder: &Path,
        number: u32,
        base_url: &str,
        clocks: &Arc<Clocks>,
        budgets: &Budgets,
    ) -> Result<Life, Broken> {
        let lock = DaemonLock::acquire(&folder.join(format!("life-{number}.db")))
            .map_err(|error| error.to_string())?;
        let store = Store::open_for_daemon(&folder.join("renewd.db"), &lock)
            .await
            .map_err(|error| error.to_string())?;
        let clock: Arc<dyn Clock> = Arc::clone(clocks) as Arc<dyn Clock>;
        let accounts = ACCOUNTS.iter().map(|(name, key_id, provider)| {
            let endpoint = Some(Endpoint::parse(base_url).unwrap());
            let zone = TimeZone::fixed(jiff::tz::offset(8));
            let cloud = clients().anew(*provider, keys(key_id), endpoint, zone, Arc::clone(&clock));
            Account::new(AccountName::parse(name).unwrap(), *provider, cloud, terms(name, budgets))
        });
        let accounts = accounts.collect();
        let engine = Arc::new(Engine::new(store, clock, accounts, settings()));
        engine.begin_epoch().await.map_err(|error| error.to_string())?;
        let each = |engine: &Arc<Engine>| engine.accounts().values().cloned().collect::<Vec<_>>();
        Ok(Life {
            ticker: Ticker::new(Arc::clone(&engine)),
            second: SecondWatch::new(Arc::clone(&engine)),
            lanes: each(&engine).into_iter().map(|account| Lane::new(Arc::clone(&engine), account)).collect(),
            reconciles: each(&engine)
                .into_iter()
                .map(|account| Reconcile::new(Arc::clone(&engine), account))
                .collect(),
            clocks: Arc::clone(clocks),
            last_minute: None,
            engine,
            _lock: lock,
        })
    }

    /// As a reload does it.
    pub async fn apply(&self, set: &[Policy]) -> Result<(), Broken> {
        let policies = set.iter().map(entry).collect();
        let set = Arc::new(NewSet { policies, digest: format!("{set:?}"), ..NewSet::default() });
        for _ in 0..ROUNDS_MAX {
            self.engine.fire_due().await.map_err(|error| error.to_string())?;
            let now = self.engine.clock.now();
            let applied = self.engine.store.apply_policies(Arc::clone(&set), now).await;
            if applied.map_err(|error| error.to_string())?.is_some() {
                return self.engine.plan_schedules().await.map_err(|error| error.to_string());
            }
        }
        Err("a set of policies never comes into force: something is always owed".to_owned())
    }

    /// As a reload does it.
    pub async fn take_budgets(&self, budgets: &Budgets) -> Result<(), Broken> {
        let accounts = self.engine.accounts();
        let terms =
            accounts.values().map(|account| (Arc::clone(account), terms(account.name.as_str(), budgets)));
        let replaced = self.engine.replace(settings(), accounts.as_ref().clone(), terms.collect()).await;
        replaced.map_err(|error| error.to_string())
    }

    /// Steps every part until all rest. Unsettled: answers may come during the steps of others.
    pub async fn turn(&mut self, is_settled: bool) -> Result<(), Broken> {
        for _ in 0..ROUNDS_MAX {
            if self.round(is_settled).await? == Step::Idle {
                return Ok(());
            }
        }
        Err(format!("the daemon finds no rest in {ROUNDS_MAX} rounds"))
    }

    async fn round(&mut self, is_settled: bool) -> Result<Step, Broken> {
        let mut step = self.tick().await?;
        for lane in &mut self.lanes {
            while lane.step().await.map_err(|error| format!("a lane: {error}"))? == Step::Worked {
                step = Step::Worked;
                if is_settled {
                    lane.settle().await;
                }
            }
        }
        for reconcile in &self.reconciles {
            if reconcile.step().await.map_err(|error| format!("reconcile: {error}"))? == Step::Worked {
                step = Step::Worked;
            }
        }
        Ok(step)
    }

    /// Everything but lanes and reconcile.
    pub async fn tick(&mut self) -> Result<Step, Broken> {
        let fired = self.ticker.step().await.map_err(|error| format!("the ticker: {error}"))?;
        self.second.step().await.map_err(|error| format!("the second's look: {error}"))?;
        let now = self.clocks.monotonic();
        if self.last_minute.is_none_or(|last| now >= last + MINUTE) {
            self.last_minute = Some(now);
            self.engine.each_minute().await.map_err(|error| format!("the minute's look: {error}"))?;
        }
        Ok(fired)
    }

    pub async fn settle(&mut self) {
        for lane in &mut self.lanes {
            lane.settle().await;
        }
    }
}

fn keys(key_id: &str) -> Credentials {
    Credentials { key_id: Secret::new(key_id), secret_key: Secret::new(SECRET_KEY), token: None }
}

fn terms(account: &str, budgets: &Budgets) -> Terms {
    let limits = budgets.get(account).copied().unwrap_or_default();
    let key_id = key_id(account);
    Terms { rates: HashMap::new(), limits, source: Source::Read(Arc::new(move || Ok(keys(key_id)))) }
}

fn entry(policy: &Policy) -> PolicyEntry {
    PolicyEntry { policy: policy.clone(), source: "list.toml:1".to_owned(), digest: format!("{policy:?}") }
}

pub fn settings() -> Settings {
    Settings {
        pace: Pace {
            first_delay: Duration::from_secs(30),
            max_delay: Duration::from_secs(3600),
            max_attempts: 12,
        },
        settle: SETTLE,
        zone: TimeZone::UTC,
    }
}

/// HTTP clients for all lives: each has to read the machine's certificates first.
fn clients() -> &'static Cloud {
    static CLIENTS: OnceLock<Cloud> = OnceLock::new();
    CLIENTS.get_or_init(|| {
        let none = Credentials { key_id: Secret::new(""), secret_key: Secret::new(""), token: None };
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        Cloud::with_limits(Provider::TencentCloud, none, None, TimeZone::UTC, clock, call_limits()).unwrap()
    })
}

fn call_limits() -> CallLimits {
    CallLimits {
        connect_timeout: CALL_TIMEOUT / 2,
        purchase_timeout: CALL_TIMEOUT,
        read_timeout: CALL_TIMEOUT,
        ..CallLimits::default()
    }
}

/// Runs work until it has had to wait so often, and then drops it where it stands.
pub async fn cut_after<T>(waits: u32, work: impl Future<Output = T>) -> Option<T> {
    let mut work = Box::pin(work);
    let mut left = waits;
    std::future::poll_fn(move |context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}
