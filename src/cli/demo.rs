//! `renewd demo`: the main job, whole and real, on the built-in practice cloud.
//!
//! A practice cloud, a configuration, policies and a database in a folder of their own; the daemon as the service
//! runs it; faults that the practice cloud plays. What is printed is read from the database, and at the end the
//! practice cloud's ledger is compared with it.

mod report;
mod scene;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::{EXIT_FAILED, Failure, Outcome, output};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Environment};
use crate::daemon::Daemon;
use crate::sandbox::{self, Options};
use crate::store::{Filter, RunRecord, Store, Trigger, Word};
use report::Progress;

/// The demo ends by itself long before; this is for a machine that stands still.
const LONGEST: Duration = Duration::from_secs(50);
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn demo() -> Outcome {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = Options { listen: ([127, 0, 0, 1], 0).into(), seed: None, clock: Arc::clone(&clock) };
    let cloud = sandbox::start(options).await?;
    let folder = tempfile::Builder::new().prefix("renewd-demo-").tempdir()?;
    let fires_at = scene::set(&cloud, folder.path(), clock.now())?;
    output::print(&scene::opening(&cloud.base_url(), fires_at))?;

    let environment = Environment::of_pairs([]);
    let config = config::load(&folder.path().join("renewd.toml"), &environment)?.value;
    let daemon = Daemon::start(config, &environment, Arc::clone(&clock)).await?;
    if clock.now() >= fires_at {
        // A machine that stood still while all this began: policies that come into force now have missed their instant.
        fire_by_hand(&daemon.engine().store, clock.as_ref()).await?;
    }
    let finished = follow(&daemon.engine().store, clock.as_ref()).await?;

    let store = &daemon.engine().store;
    let (orders, runs) = (store.orders(&Filter::default()).await?, store.runs(&Filter::default()).await?);
    let ledger = cloud.ledger();
    output::print(&report::table(&runs, &orders))?;
    let agreement = report::compare(&ledger, &orders);
    output::print(&agreement.text)?;
    daemon.stop().await;
    cloud.stop().await;
    if !finished {
        output::say(&format!("renewd: the demo did not come to its end within {} s", LONGEST.as_secs()));
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    Ok(if agreement.agrees { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

async fn fire_by_hand(store: &Store, clock: &dyn Clock) -> Result<(), Failure> {
    let word = Word { person: "demo".to_owned(), note: None, at: clock.now() };
    if !store.runs(&Filter::default()).await?.is_empty() {
        return Ok(());
    }
    for policy in store.policies(&Filter::default()).await? {
        store.trigger(&Trigger { policy: policy.policy, instance: None, again: false }, &word).await?;
    }
    Ok(())
}

/// Prints what happens as it happens, until every run has ended.
async fn follow(store: &Store, clock: &dyn Clock) -> Result<bool, Failure> {
    let mut progress = Progress::default();
    let deadline = clock.monotonic() + LONGEST;
    while clock.monotonic() < deadline {
        let (runs, orders) = (store.runs(&Filter::default()).await?, store.orders(&Filter::default()).await?);
        for line in progress.news(&runs, &orders, clock.now()) {
            output::print(&line)?;
        }
        if runs.len() >= scene::RUNS && runs.iter().all(has_ended) {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(false)
}

fn has_ended(run: &RunRecord) -> bool {
    run.finished_at.is_some()
}
