//! The service: wiring, the clockwork, signals, readiness and a graceful stop.

mod clockwork;
mod start;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch as channel;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::config::{self, Config, Environment, PolicySet, Refusal};
use crate::engine::{End, Engine, Lane, MinuteWatch, Reconcile, SecondWatch, Ticker};
use crate::store::{COPY, ChangeKind, DaemonLock, OpenError, PolicyEntry, Store, StoreError};
use crate::telemetry::Http;
use clockwork::Clockwork;

/// How long a stop waits for requests under way; what is left then is a recorded intent for the next start.
const STOP_WAIT: Duration = Duration::from_secs(75);

#[derive(Debug, Error)]
pub enum DaemonError {
    #[error("{0}")]
    Refused(Refusal),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("account {account} cannot be set up: {reason}")]
    Account { account: String, reason: String },
    #[error("the zone {zone} cannot be used: {error}")]
    Zone { zone: String, error: jiff::Error },
    #[error("the scheduler did not start: {0}")]
    Clockwork(#[from] tokio_cron_scheduler::JobSchedulerError),
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
    #[error(
        "another renewd (process {pid}) has taken over the database {}: this one ends; only one may run on a database",
        path.display()
    )]
    Succeeded { path: PathBuf, pid: i64 },
    #[error("the database {} cannot be trusted any more, this service ends and orders nothing: {found}", path.display())]
    Damaged { path: PathBuf, found: String },
    #[error("a part of the service ended by itself ({0}): start again, what was under way is looked at then")]
    PartEnded(String),
}

impl DaemonError {
    fn of(end: End, database: &Path) -> DaemonError {
        let path = database.to_owned();
        match end {
            End::Successor { pid } => DaemonError::Succeeded { path, pid },
            End::Damaged { found } => DaemonError::Damaged { path, found },
        }
    }

    /// Whether a person has to correct a file before starting again makes sense.
    pub fn is_configuration(&self) -> bool {
        matches!(self, DaemonError::Refused(_))
    }
}

/// A running daemon.
pub struct Daemon {
    engine: Arc<Engine>,
    config: Config,
    environment: Environment,
    clock: Arc<dyn Clock>,
    stop: channel::Sender<bool>,
    tasks: JoinSet<()>,
    clockwork: Clockwork,
    http: Option<Http>,
    _lock: DaemonLock,
}

impl Daemon {
    /// From configuration to a working service. With a refused policy set it runs the last accepted one.
    ///
    /// # Errors
    /// The database cannot be used, an account cannot be set up, or no set was ever accepted.
    pub async fn start(
        config: Config,
        environment: &Environment,
        clock: Arc<dyn Clock>,
    ) -> Result<Daemon, DaemonError> {
        let policies = config::load_policies(&config, clock.now());
        let (lock, store) = start::open(&config, policies.as_ref().err()).await?;
        let engine = start::engine(&config, environment, store, Arc::clone(&clock))?;
        engine.begin_epoch().await?;
        warn_of_copy(&engine, clock.now()).await?;
        match policies {
            Ok(loaded) => {
                loaded.warnings.iter().for_each(log_warning);
                apply(&engine, loaded.value, clock.as_ref(), "config.loaded").await?;
            }
            Err(refusal) => log_refused(&engine, &config, &refusal, clock.as_ref()).await?,
        }
        start::check_accounts(&engine, &config).await?;
        start::warn_of_proxies(environment);
        let clockwork = Clockwork::start().await?;
        let mut daemon = Daemon {
            engine,
            config,
            environment: environment.clone(),
            clock,
            stop: channel::Sender::new(false),
            tasks: JoinSet::new(),
            clockwork,
            http: None,
            _lock: lock,
        };
        daemon.spawn_parts();
        daemon.http = daemon.config.http.map(|http| Http::start(http.listen, Arc::clone(&daemon.engine)));
        Ok(daemon)
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn spawn_parts(&mut self) {
        let stop = || self.stop.subscribe();
        let engine = &self.engine;
        let clockwork = &self.clockwork;
        self.tasks.spawn(Ticker::new(Arc::clone(engine)).run(stop(), clockwork.each_second()));
        self.tasks.spawn(SecondWatch::new(Arc::clone(engine)).run(stop(), clockwork.each_second()));
        self.tasks.spawn(MinuteWatch::new(Arc::clone(engine)).run(stop(), clockwork.each_minute()));
        for account in engine.accounts() {
            let part = || (Arc::clone(engine), Arc::clone(account));
            let (shared, account) = part();
            self.tasks.spawn(Lane::new(shared, account).run(stop()));
            let (shared, account) = part();
            self.tasks.spawn(Reconcile::new(shared, account).run(stop(), clockwork.each_second()));
        }
    }

    /// Waits for a part that ends without being told to: only a defect does that. Going on without it would look
    /// healthy while an account's orders stand still, so the service ends and its supervisor starts it anew.
    async fn part_ended(&mut self) -> DaemonError {
        match self.tasks.join_next().await {
            Some(Err(error)) => DaemonError::PartEnded(error.to_string()),
            Some(Ok(())) => DaemonError::PartEnded("it returned".to_owned()),
            None => std::future::pending().await,
        }
    }

    /// Reads the files again: what has any mistake is refused as a whole and all stays as it runs. Changes of
    /// `renewd.toml` itself are named; they take a restart.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reload(&self) -> Result<(), DaemonError> {
        match config::load(&self.config.source, &self.environment) {
            Ok(on_disk) => warn_of_differences(&self.config, &on_disk.value),
            Err(refusal) => {
                return log_refused(&self.engine, &self.config, &refusal, self.clock.as_ref()).await;
            }
        }
        let loaded = config::load_policies(&self.config, self.clock.now());
        match loaded {
            Ok(loaded) => {
                loaded.warnings.iter().for_each(log_warning);
                apply(&self.engine, loaded.value, self.clock.as_ref(), "config.reloaded").await?;
            }
            Err(refusal) => log_refused(&self.engine, &self.config, &refusal, self.clock.as_ref()).await?,
        }
        Ok(())
    }

    /// No new orders from now on; what is under way is finished and recorded.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        self.engine.stop_reading();
        self.clockwork.stop().await;
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WAIT, finished).await.is_err() {
            tracing::warn!(
                event = "service.stopping",
                "requests are still under way: their orders are recorded, the next start looks for what became of them"
            );
        }
        if let Err(error) = self.engine.store.mark_stopped(self.engine.epoch(), self.clock.now()).await {
            tracing::warn!(event = "database.failed", %error, "the stop could not be recorded");
        }
        if let Some(http) = self.http {
            http.stop().await;
        }
        self.engine.store.close().await;
    }
}

/// An engine to ask the clouds with and to order nothing: the database it stands on is an empty one in memory, so
/// nothing that it notes down outlives it, and no running service is in its way. Accounts whose secrets cannot be read
/// are there all the same, and make no call.
///
/// # Errors
/// An account cannot be set up.
pub async fn engine_to_ask(
    config: &Config,
    environment: &Environment,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Engine>, DaemonError> {
    engine_on(config, environment, Store::in_memory().await?, clock)
}

/// An engine on a database, with the configuration's accounts. Nothing of it runs yet.
///
/// # Errors
/// An account cannot be set up.
pub fn engine_on(
    config: &Config,
    environment: &Environment,
    store: Store,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Engine>, DaemonError> {
    start::engine(config, environment, store, clock)
}

/// What people and systemd tell a service. Listened to before anything else: until then each of them ends the process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// # Errors
    /// The system gives no handler.
    pub fn listen() -> Result<Signals, DaemonError> {
        let listen = |kind| signal(kind).map_err(DaemonError::Signals);
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }
}

/// `renewd run`: until SIGTERM or SIGINT; SIGHUP reloads.
///
/// # Errors
/// As [`Daemon::start`]; once it runs it ends well, unless a part of it ends by itself.
pub async fn run(
    config: Config,
    environment: &Environment,
    clock: Arc<dyn Clock>,
    signals: Signals,
) -> Result<(), DaemonError> {
    let Signals { mut terminate, mut interrupt, mut hang_up } = signals;
    let source = config.source.clone();
    let mut daemon = Daemon::start(config, environment, clock).await?;
    announce_ready(&daemon, &source);
    let each_day = daemon.clockwork.each_day();
    let engine = Arc::clone(&daemon.engine);
    let ended = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hang_up.recv() => reload(&daemon).await,
            () = each_day.notified() => {
                remind_of_refusal(&daemon).await;
                remind_of_copy(&daemon).await;
            }
            end = engine.ended() => break Some(DaemonError::of(end, &daemon.config.database)),
            ended = daemon.part_ended() => break Some(ended),
        }
    };
    tracing::info!(event = "service.stopping", "stopping: no new orders; requests under way are finished");
    notify(&[sd_notify::NotifyState::Stopping]);
    tokio::select! {
        () = daemon.stop() => {}
        _ = terminate.recv() => tracing::warn!(event = "service.stopping", "stopping at once: a second signal came"),
        _ = interrupt.recv() => tracing::warn!(event = "service.stopping", "stopping at once: a second signal came"),
    }
    if let Some(ended) = ended {
        return Err(ended);
    }
    tracing::info!(event = "service.stopped", "stopped");
    Ok(())
}

fn announce_ready(daemon: &Daemon, source: &Path) {
    tracing::info!(
        event = "service.ready",
        version = env!("CARGO_PKG_VERSION"),
        epoch = daemon.engine.epoch().0,
        "renewd {} is ready with {}",
        env!("CARGO_PKG_VERSION"),
        source.display()
    );
    notify(&[sd_notify::NotifyState::Ready]);
}

async fn reload(daemon: &Daemon) {
    notify(&[sd_notify::NotifyState::Reloading]);
    if let Err(error) = daemon.reload().await {
        tracing::error!(event = "config.refused", %error, "the policies could not be reloaded; the running set stays");
    }
    notify(&[sd_notify::NotifyState::Ready]);
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(event = "service.notify", %error, "systemd could not be told");
    }
}

async fn remind_of_refusal(daemon: &Daemon) {
    match daemon.engine.store.set_in_force().await {
        Ok(set) => {
            if let (Some(since), Some(text)) = (set.refused_at, set.refused_text) {
                tracing::error!(
                    event = "config.refused",
                    "the files on disk are refused since {since}, an older set runs: {text}"
                );
            }
        }
        Err(error) => {
            tracing::error!(event = "database.failed", %error, "the set in force could not be read")
        }
    }
}

async fn remind_of_copy(daemon: &Daemon) {
    if let Err(error) = warn_of_copy(&daemon.engine, daemon.clock.now()).await {
        tracing::error!(event = "database.failed", %error, "the pauses could not be read");
    }
}

/// A database made by `renewd backup` does not know what the one it was copied from has ordered since.
async fn warn_of_copy(engine: &Engine, now: Timestamp) -> Result<(), StoreError> {
    let pauses = engine.store.pauses(now).await?;
    for note in pauses.into_iter().filter(|pause| pause.kind == COPY).filter_map(|pause| pause.note) {
        tracing::error!(
            event = "account.paused",
            kind = COPY,
            "all orders are held: {note}. Make sure that no other renewd runs on the original, then `renewd resume`"
        );
    }
    Ok(())
}

async fn apply(
    engine: &Engine,
    set: PolicySet,
    clock: &dyn Clock,
    event: &'static str,
) -> Result<(), DaemonError> {
    let digest = set.digest.clone();
    let set = entries(set);
    let applied = loop {
        // What came due under the old set is owed under the old set.
        engine.fire_due().await?;
        if let Some(applied) = engine.store.apply_policies(set.clone(), &digest, clock.now()).await? {
            break applied;
        }
    };
    engine.plan_schedules().await?;
    for change in &applied.changes {
        let (policy, kind) = (change.policy.as_str(), change.kind.as_str());
        let next = engine.store.next_firing(policy).await?.map(|at| at.to_string());
        match change.kind {
            ChangeKind::Retired => tracing::warn!(
                event = "config.policy",
                policy,
                revision = change.revision,
                "policy {policy} is retired: its orders stay, its unsent runs are cancelled in 10 minutes"
            ),
            _ => tracing::info!(
                event = "config.policy",
                policy,
                revision = change.revision,
                next_due_at = next,
                "policy {policy} is {kind}, revision {}; next firing {}",
                change.revision,
                next.as_deref().unwrap_or("none")
            ),
        }
    }
    let (policies, changes) = (applied.policies, applied.changes.len());
    let are = if policies == 1 { "policy is" } else { "policies are" };
    // `event` is not a literal here, so the two kinds are told apart by hand.
    if event == "config.loaded" {
        tracing::info!(
            event = "config.loaded",
            policies,
            changes,
            "{policies} {are} in force, {changes} changed"
        );
    } else {
        tracing::info!(
            event = "config.reloaded",
            policies,
            changes,
            "{policies} {are} in force, {changes} changed"
        );
    }
    Ok(())
}

async fn log_refused(
    engine: &Engine,
    config: &Config,
    refusal: &Refusal,
    clock: &dyn Clock,
) -> Result<(), DaemonError> {
    let digest = config::digest_on_disk(config).unwrap_or_default();
    let text = refusal.render_for_log();
    tracing::error!(
        event = "config.refused",
        mistakes = refusal.mistakes().count(),
        "the files on disk are refused, all stays as it runs, with the last accepted set:\n{text}"
    );
    engine.store.mark_refused(clock.now(), &digest, &text).await?;
    Ok(())
}

fn warn_of_differences(running: &Config, on_disk: &Config) {
    let differences = running.differences(on_disk);
    if !differences.is_empty() {
        tracing::warn!(
            event = "config.doubtful",
            "{} has changed and goes on as it was read at the start: {} take a restart",
            running.source.display(),
            differences.join(", ")
        );
    }
}

fn log_warning(warning: &config::Diagnostic) {
    tracing::warn!(event = "config.doubtful", "{}", warning.render(false));
}

/// A set as the database takes it.
pub fn entries(mut set: PolicySet) -> Vec<PolicyEntry> {
    let sources = std::mem::take(&mut set.sources);
    let place = |policy: &crate::domain::policy::Policy| {
        sources
            .get(&policy.name)
            .map_or_else(String::new, |source| format!("{}:{}", source.file.display(), source.line))
    };
    set.policies
        .into_iter()
        .map(|policy| PolicyEntry { source: place(&policy), digest: start::digest(&policy), policy })
        .collect()
}
