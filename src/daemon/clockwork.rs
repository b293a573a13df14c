//! The service's clockwork: a handful of fixed jobs whose callbacks only wake their loop.
//!
//! Invariant: policies are never jobs here. The scheduler keeps a zone's offset from the day a job was made, loses
//! jobs when thousands are due in one second, and makes up for nothing after a downtime; the database is the plan.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

pub(super) struct Clockwork {
    scheduler: JobScheduler,
    second: Listeners,
    minute: Listeners,
    day: Listeners,
}

/// Whoever is to be woken by one job, for as long as it listens.
type Listeners = Arc<Mutex<Vec<Weak<Notify>>>>;

const EACH_SECOND: &str = "* * * * * *";
const EACH_MINUTE: &str = "0 * * * * *";
const EACH_DAY: &str = "0 0 9 * * *";

impl Clockwork {
    pub(super) async fn start() -> Result<Clockwork, JobSchedulerError> {
        let scheduler = JobScheduler::new().await?;
        let second = add(&scheduler, EACH_SECOND).await?;
        let minute = add(&scheduler, EACH_MINUTE).await?;
        let day = add(&scheduler, EACH_DAY).await?;
        scheduler.start().await?;
        Ok(Clockwork { scheduler, second, minute, day })
    }

    pub(super) fn each_second(&self) -> Arc<Notify> {
        listen(&self.second)
    }

    pub(super) fn each_minute(&self) -> Arc<Notify> {
        listen(&self.minute)
    }

    /// As if a minute had begun: what came with a reload is looked at without waiting for it.
    pub(super) fn begin_minute(&self) {
        wake(&self.minute);
    }

    pub(super) fn each_day(&self) -> Arc<Notify> {
        listen(&self.day)
    }

    pub(super) async fn stop(&mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::warn!(event = "service.stopping", %error, "the scheduler did not stop cleanly");
        }
    }
}

async fn add(scheduler: &JobScheduler, expression: &str) -> Result<Listeners, JobSchedulerError> {
    let listeners = Listeners::default();
    let shared = Arc::clone(&listeners);
    let job = Job::new_async(expression, move |_, _| {
        let shared = Arc::clone(&shared);
        Box::pin(async move { wake(&shared) })
    })?;
    scheduler.add(job).await?;
    Ok(listeners)
}

fn listen(listeners: &Listeners) -> Arc<Notify> {
    let notify = Arc::new(Notify::new());
    listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&notify));
    notify
}

fn wake(listeners: &Listeners) {
    let mut listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
    listeners.retain(|listener| listener.upgrade().map(|listener| listener.notify_one()).is_some());
}
