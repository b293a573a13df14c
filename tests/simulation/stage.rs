//! The stage of one list: clocks, practice cloud, database, the daemon's lives, and what was done to them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use renewd::clock::Clock;
use renewd::domain::policy::Policy;
use renewd::sandbox::instance::{Family, Instance, InstanceChange, State, Switch};
use renewd::sandbox::{self, Options, Running};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tempfile::TempDir;

use crate::clocks::Clocks;
use crate::fleet::{ACCOUNTS, INSTANCES, cny, days, hours, key_id};
use crate::journal::Journal;
use crate::life::{Broken, Budgets, Life};
use crate::oracle::Oracle;

/// Where databases cost no seek: each commit of the store waits for its fsync.
const MEMORY_FOLDER: &str = "/dev/shm";
const START: &str = "2026-03-02T01:00:00Z";
/// Events of a stretch of time that are met exactly; what is left of it passes in longer strides.
const EXACT_EVENTS: u32 = 10;
const SHORTEST_STEP: Duration = Duration::from_secs(1);
const CALM_EVENTS: u32 = 6;
const STRIDE: Duration = Duration::from_secs(9 * 3600);

pub struct Stage {
    pub clocks: Arc<Clocks>,
    pub cloud: Running,
    pub life: Option<Life>,
    /// The one before it, that does not know yet that it is over.
    pub elder: Option<Life>,
    /// What stands in the files, by name.
    pub policies: BTreeMap<String, Policy>,
    /// Taken out of the files.
    pub retired: BTreeMap<String, Policy>,
    pub budgets: Budgets,
    pub journal: Journal,
    pub oracle: Oracle,
    pub exact_events: u32,
    /// What is due within so long of one moment is done at the next one.
    pub shortest_step: Duration,
    database: SqliteConnection,
    lives: u32,
    folder: TempDir,
}

impl Stage {
    /// The fleet's instances with expiries drawn from the seed, and the daemon's first life with these policies.
    pub async fn open(seed: u64, policies: Vec<Policy>) -> Result<Stage, Broken> {
        let mut rng = Rng::with_seed(!seed);
        let mut stage = Stage::bare().await?;
        for id in INSTANCES {
            let expires_at = stage.clocks.true_now() + hours(rng.i64(-30..40 * 24));
            stage.add_instance(id, expires_at);
        }
        stage.policies = policies.into_iter().map(|policy| (policy.name.to_string(), policy)).collect();
        stage.reload().await?;
        Ok(stage)
    }

    /// With no instance of ours and no policy.
    pub async fn bare() -> Result<Stage, Broken> {
        let clocks = Clocks::new(START.parse().unwrap());
        let options =
            Options { listen: ([127, 0, 0, 1], 0).into(), seed: None, clock: clocks.for_the_cloud() };
        let cloud = sandbox::start(options).await.map_err(|error| error.to_string())?;
        let folder =
            tempfile::Builder::new().tempdir_in(memory_folder()).map_err(|error| error.to_string())?;
        let life = Life::begin(folder.path(), 0, &cloud.base_url(), &clocks, &Budgets::new()).await?;
        let file = folder.path().join("renewd.db");
        let database =
            SqliteConnectOptions::new().filename(file).connect().await.map_err(|error| error.to_string())?;
        Ok(Stage {
            clocks,
            cloud,
            life: Some(life),
            elder: None,
            policies: BTreeMap::new(),
            retired: BTreeMap::new(),
            budgets: Budgets::new(),
            journal: Journal::default(),
            oracle: Oracle::default(),
            exact_events: EXACT_EVENTS,
            shortest_step: SHORTEST_STEP,
            database,
            lives: 1,
            folder,
        })
    }

    pub fn add_instance(&self, id: &str, expires_at: Timestamp) {
        let family = Family::of_id(id).unwrap();
        self.cloud.add_instances([Instance::new(id, family, expires_at, self.clocks.true_now())]);
    }

    pub fn instance(&self, id: &str) -> Instance {
        self.cloud.instance(id).expect("an instance of the fleet")
    }

    pub fn change(&self, id: &str, set: impl FnOnce(&mut InstanceChange)) {
        let mut change = InstanceChange::default();
        set(&mut change);
        self.cloud.set_instance(id, change).unwrap();
    }

    pub fn move_expiry(&mut self, id: &str, to: Timestamp) {
        if to < self.instance(id).expires_at - days(1) {
            self.journal.set_back(id, self.clocks.true_now());
        }
        self.change(id, |change| change.expires_at = Some(to));
    }

    pub fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("the daemon runs")
    }

    pub fn database(&mut self) -> &mut SqliteConnection {
        &mut self.database
    }

    /// As after an edit of the files.
    pub async fn reload(&mut self) -> Result<(), Broken> {
        let set: Vec<Policy> = self.policies.values().cloned().collect();
        if let Some(life) = &self.life {
            life.apply(&set).await?;
        }
        self.journal.note_set(&set, self.clocks.now());
        Ok(())
    }

    /// As after an edit of `renewd.toml`; whoever else runs goes by it as well.
    pub async fn take_budgets(&mut self) -> Result<(), Broken> {
        for life in self.life.iter().chain(&self.elder) {
            life.take_budgets(&self.budgets).await?;
        }
        Ok(())
    }

    /// A process that ends without a word, and another that finds what it left.
    pub async fn restart(&mut self) -> Result<(), Broken> {
        self.life = None;
        self.elder = None;
        self.begin_life().await
    }

    pub async fn begin_life(&mut self) -> Result<(), Broken> {
        let base_url = self.cloud.base_url();
        let life =
            Life::begin(self.folder.path(), self.lives, &base_url, &self.clocks, &self.budgets).await?;
        self.lives += 1;
        self.life = Some(life);
        self.reload().await
    }

    /// Time passes and the daemon works at each moment at which something is due.
    pub async fn advance(&mut self, length: SignedDuration) -> Result<(), Broken> {
        let end = self.clocks.monotonic() + Duration::try_from(length).unwrap();
        let mut events = 0;
        loop {
            self.turn(true).await?;
            let left = end.saturating_sub(self.clocks.monotonic());
            if left.is_zero() {
                return Ok(());
            }
            let shortest = if events < self.exact_events { self.shortest_step } else { STRIDE };
            let next = self.until_next_event().await?;
            self.clocks.advance(next.max(shortest).min(left));
            events += 1;
        }
    }

    /// One round of everything that runs, with the promises held against what it did.
    pub async fn turn(&mut self, is_settled: bool) -> Result<(), Broken> {
        if let Some(elder) = &mut self.elder {
            elder.turn(is_settled).await?;
        }
        if let Some(life) = &mut self.life {
            life.turn(is_settled).await?;
        }
        self.check_what_is_new().await
    }

    pub async fn check_what_is_new(&mut self) -> Result<(), Broken> {
        let Stage { oracle, database, journal, budgets, cloud, clocks, .. } = self;
        oracle.check_what_is_new(database, journal, budgets, cloud, clocks).await
    }

    pub async fn check_ended(&mut self) -> Result<(), Broken> {
        self.oracle.check_ended(&mut self.database).await
    }

    /// The whole books at the end of a list.
    pub async fn check_books(&mut self) -> Result<(), Broken> {
        self.check_what_is_new().await?;
        self.check_ended().await?;
        let Stage { oracle, database, journal, cloud, .. } = self;
        oracle.check_books(database, journal, &cloud.ledger()).await
    }

    /// All orders, and those that were ever looked at with doubt: by more than their confirmation needs.
    pub async fn count_orders(&mut self) -> Result<(usize, usize), Broken> {
        let (all, doubtful): (u32, u32) = sqlx::query_as(
            "SELECT count(*), coalesce(sum((SELECT count(*) FROM looks l WHERE l.order_row = o.id) > 1), 0) FROM orders o",
        )
        .fetch_one(&mut self.database)
        .await
        .map_err(|error| error.to_string())?;
        Ok((all.try_into().unwrap(), doubtful.try_into().unwrap()))
    }

    async fn until_next_event(&mut self) -> Result<Duration, Broken> {
        let next: Option<i64> = sqlx::query_scalar(
            "SELECT min(at) FROM (
                 SELECT min(next_due_ms) AS at FROM schedules
                 UNION ALL SELECT min(next_attempt_at_ms) FROM runs WHERE state = 'waiting' AND hold <> 'confirmation'
                 UNION ALL SELECT min(next_look_at_ms) FROM orders WHERE state IN ('placed', 'unknown'))",
        )
        .fetch_one(&mut self.database)
        .await
        .map_err(|error| error.to_string())?;
        let now = self.clocks.now().as_millisecond();
        let wait = next.map_or(i64::MAX, |next| next.saturating_sub(now).max(0));
        Ok(Duration::from_millis(u64::try_from(wait).unwrap()))
    }

    /// What stands in the way at the end of a list is put right, as people would; a while later every instance that
    /// somebody wants to live does.
    pub async fn calm(&mut self, policies: Vec<Policy>) -> Result<(), Broken> {
        self.clocks.set_right();
        self.cloud.forget_faults();
        for (account, ..) in ACCOUNTS {
            self.cloud.set_balance(key_id(account), cny(1_000_000));
        }
        for id in INSTANCES {
            let instance = self.instance(id);
            let state = if instance.state == State::Gone { State::Gone } else { State::Running };
            self.change(id, |change| {
                (change.state, change.auto_renew) = (Some(state), Some(Switch(false)));
            });
            // Long past its expiry it would take many terms to be alive again.
            let now = self.clocks.true_now();
            if instance.expires_at < now - days(20) {
                self.change(id, |change| change.expires_at = Some(now + days(2)));
            }
        }
        self.budgets.clear();
        self.policies = policies.into_iter().map(|policy| (policy.name.to_string(), policy)).collect();
        self.retired.clear();
        self.restart().await?;
        let now = self.clocks.now();
        let store = self.life().engine.store.clone();
        let word = renewd::store::Word { person: "operator".to_owned(), note: None, at: now };
        let resumed = store.resume(&renewd::store::PauseScope::All, &word).await;
        resumed.map_err(|error| error.to_string())?;
        self.journal.resume_all();
        self.exact_events = CALM_EVENTS;
        for _ in 0..2 {
            self.advance(days(2)).await?;
            crate::play::resolve(self, true).await?;
        }
        self.advance(days(1)).await?;
        self.check_books().await?;
        let Stage { oracle, database, journal, cloud, clocks, policies, .. } = self;
        oracle.check_nobody_lapsed(database, journal, cloud, clocks.true_now(), policies).await
    }
}

fn memory_folder() -> PathBuf {
    let folder = PathBuf::from(MEMORY_FOLDER);
    if folder.is_dir() { folder } else { std::env::temp_dir() }
}
