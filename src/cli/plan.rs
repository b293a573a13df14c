//! `renewd plan`.

mod json;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::check::refused;
use super::output::Answer;
use super::{EXIT_FAILED, Failure, Outcome, output, progress};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Environment};
use crate::daemon;
use crate::engine::Progress;
use crate::engine::plan::{Outlook, Plan, Survey};
use crate::store::{DaemonLock, Store};

/// Long enough to top an account up, short enough for what is seen now to hold.
const DEFAULT_DAYS: u32 = 7;
const MOST_DAYS: i64 = 366;

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// How far to look ahead.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_DAYS, value_parser = clap::value_parser!(u32).range(1..=MOST_DAYS))]
    pub(super) days: u32,
    /// Ask no cloud and need no secrets: go by the last looks at the instances, without prices and balances.
    #[arg(long)]
    pub(super) offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// A plan with what it was made from.
struct Foreseen {
    plan: Plan,
    days: u32,
    is_offline: bool,
    /// The zone of budgets.
    zone: String,
    database: PathBuf,
    has_database: bool,
    is_service_running: bool,
    /// Whether the files are what the service runs.
    is_in_force: bool,
}

pub(super) async fn plan(path: &Path, args: &PlanArgs) -> Outcome {
    let clock = Arc::new(SystemClock::new());
    match answer(path, args, &Environment::of_process(), clock, output::width()).await? {
        Ok(answer) => answer.print(),
        Err(code) => Ok(code),
    }
}

/// What is to be printed, or the exit code after the files were refused.
pub(super) async fn answer(
    path: &Path,
    args: &PlanArgs,
    environment: &Environment,
    clock: Arc<dyn Clock>,
    width: Option<usize>,
) -> Result<Result<Answer, ExitCode>, Failure> {
    let foreseen = match foresee(path, args, environment, clock).await? {
        Ok(foreseen) => foreseen,
        Err(code) => return Ok(Err(code)),
    };
    let (text, left_out) = if args.json {
        (serde_json::to_string_pretty(&json::Foretold::of(&foreseen))?, Vec::new())
    } else {
        words::of(&foreseen, width)
    };
    let mut troubles = foreseen.plan.accounts.iter().flat_map(|account| &account.troubles);
    let is_blind = troubles.any(|trouble| trouble.is_blind);
    Ok(Ok(Answer { text, left_out, exit: if is_blind { EXIT_FAILED } else { 0 } }))
}

/// The plan, or the exit code after the files were refused.
async fn foresee(
    path: &Path,
    args: &PlanArgs,
    environment: &Environment,
    clock: Arc<dyn Clock>,
) -> Result<Result<Foreseen, ExitCode>, Failure> {
    let read = {
        let (path, environment, now) = (path.to_owned(), environment.clone(), clock.now());
        move || config::load_all(&path, &environment, now)
    };
    let (config, set) = match progress::waited_busy("reading the files", read).await? {
        Ok(loaded) => loaded.value,
        Err(refusal) => return refused(&refusal, args.json).map(Err),
    };
    // What cannot be read is said before anybody has waited for the clouds.
    open(&config.database).await?.close().await;
    let engine = daemon::engine_to_ask(&config, environment, clock).await?;
    let digest = set.digest.clone();
    let set = daemon::entries(set);
    let progress = Arc::new(Progress::default());
    let work = async {
        let survey: Option<Survey> =
            if args.offline { None } else { Some(engine.survey(&set, &progress).await?) };
        // Opened only now: asking took its time, and the service has not stood still.
        let store = open(&config.database).await?;
        let outlook = Outlook { set: &set, store: &store, survey, days: args.days, progress: &progress };
        let plan = engine.plan(outlook).await?;
        let in_force = store.set_in_force().await?.digest;
        Ok::<_, Failure>((plan, in_force))
    };
    let (plan, in_force) = progress::shown(&progress, work).await?;
    Ok(Ok(Foreseen {
        plan,
        days: args.days,
        is_offline: args.offline,
        zone: config.timezone,
        has_database: config.database.exists(),
        is_service_running: DaemonLock::is_held(&config.database),
        database: config.database,
        is_in_force: in_force == Some(digest),
    }))
}

/// Before the service has first run there is none, and nothing is known.
async fn open(database: &Path) -> Result<Store, Failure> {
    // A folder that may not be looked into is told as such.
    if database.try_exists().unwrap_or(true) {
        Ok(Store::open_for_reading(database).await?)
    } else {
        Ok(Store::in_memory().await?)
    }
}
