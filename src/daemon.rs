//! The service: wiring, the clockwork, signals, readiness and a graceful stop.

mod clockwork;
mod edits;
mod files;
mod news;
mod parts;
mod reload;
mod start;
mod supervisor;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock::Clock;
use crate::config::{Config, Environment, OnDisk, Refusal, ServiceMark};
use crate::engine::{End, Engine};
use crate::store::{COPY, DaemonLock, OpenError, Store, StoreError};
use crate::telemetry::{Http, Logging};
use clockwork::Clockwork;
use edits::Edits;
use files::Read;
use parts::Parts;
use reload::{Occasion, Seen};
pub use start::entries;

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
    /// What is in force: of the file on disk all that a running service can take.
    config: Config,
    environment: Environment,
    clock: Arc<dyn Clock>,
    parts: Parts,
    /// None where it is to be read again, whatever it is.
    seen: Option<Seen>,
    http: Option<Http>,
    mark: Option<ServiceMark>,
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
        // Before they are read: what is written meanwhile is another edit.
        let on_disk =
            OnDisk { settings: config.digest.clone(), policies: OnDisk::policies(&config.policies) };
        let (lock, store, policies) = start::open(&config, clock.now()).await?;
        let mark = ServiceMark::set(&config.source);
        let is_accepted = policies.is_ok();
        let engine = start::engine(&config, environment, store, Arc::clone(&clock))?;
        engine.begin_epoch().await?;
        warn_of_copy(&engine, clock.now()).await?;
        match policies {
            Ok(Read { set, files, warnings, .. }) => {
                warnings.iter().for_each(news::log_warning);
                let applied = reload::apply(&engine, set).await?;
                let policies = applied.policies;
                news::log_loaded(policies, &news::log_policies(&engine, applied).await?, files);
            }
            Err(refusal) => news::log_refused(&engine, &config, &refusal).await?,
        }
        engine.store.note_settings(&config.digest, &[], clock.now()).await?;
        for account in engine.accounts().values() {
            start::try_secrets(&engine, account).await?;
        }
        start::miss_accounts(&engine, &config).await?;
        start::warn_of_proxies(environment);
        let mut parts = Parts::start(&engine, Clockwork::start().await?);
        if environment.variable("NOTIFY_SOCKET").is_some() {
            parts.tell_supervisor();
        }
        let http = config.http.map(|http| Http::start(http.listen, Arc::clone(&engine)));
        Ok(Daemon {
            engine,
            config,
            environment: environment.clone(),
            clock,
            parts,
            seen: Some(Seen { on_disk, is_accepted }),
            http,
            mark,
            _lock: lock,
        })
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// An editor may have put another file in the place of the one that is marked.
    fn mark_again(&mut self) {
        if let Some(mark) = ServiceMark::set(&self.config.source) {
            self.mark = Some(mark);
        }
    }

    /// No new orders from now on; what is under way is finished and recorded.
    pub async fn stop(mut self) {
        self.engine.stop_reading();
        self.parts.stop().await;
        if tokio::time::timeout(STOP_WAIT, self.parts.ended()).await.is_err() {
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

/// `renewd run`: until SIGTERM or SIGINT; SIGHUP reloads, and so does an edit of the files.
///
/// # Errors
/// As [`Daemon::start`]; once it runs it ends well, unless a part of it ends by itself.
pub async fn run(
    config: Config,
    environment: &Environment,
    clock: Arc<dyn Clock>,
    signals: Signals,
    logging: &Logging,
) -> Result<(), DaemonError> {
    let Signals { mut terminate, mut interrupt, mut hang_up } = signals;
    let mut daemon = Daemon::start(config, environment, Arc::clone(&clock)).await?;
    log_ready(&daemon);
    supervisor::announce_ready();
    let mut edits = Edits::notice(clock);
    edits.follow(&daemon.places().await);
    let each_day = daemon.parts.clockwork.each_day();
    let engine = Arc::clone(&daemon.engine);
    let ended = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hang_up.recv() => reload(&mut daemon, Occasion::Asked, &mut edits, logging).await,
            () = edits.settled() => reload(&mut daemon, Occasion::Noticed, &mut edits, logging).await,
            () = each_day.notified() => {
                remind_of_refusal(&daemon).await;
                remind_of_copy(&daemon).await;
            }
            end = engine.ended() => break Some(DaemonError::of(end, &daemon.config.database)),
            part = daemon.parts.broken() => break Some(DaemonError::PartEnded(part)),
        }
    };
    tracing::info!(event = "service.stopping", "stopping: no new orders; requests under way are finished");
    supervisor::announce_stopping();
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

fn log_ready(daemon: &Daemon) {
    tracing::info!(
        event = "service.ready",
        version = env!("CARGO_PKG_VERSION"),
        epoch = daemon.engine.epoch().0,
        "renewd {} is ready with {}",
        env!("CARGO_PKG_VERSION"),
        daemon.config.source.display()
    );
}

async fn reload(daemon: &mut Daemon, occasion: Occasion, edits: &mut Edits, logging: &Logging) {
    let level = daemon.config.log.level.clone();
    if let Err(error) = daemon.reload(occasion).await {
        tracing::error!(
            event = "config.refused",
            %error,
            "what is on disk could not be taken, or not be told of, and is tried again: {error}"
        );
    }
    edits.follow(&daemon.places().await);
    let new_level = &daemon.config.log.level;
    if *new_level != level {
        match logging.set_level(new_level) {
            Ok(()) => tracing::info!(event = "config.log_level", "the log level is {new_level} now"),
            Err(error) => {
                tracing::error!(event = "config.refused", %error, "the log level stays as it was: {error}")
            }
        }
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
