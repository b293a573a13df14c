//! Firing: from due instants to queued runs.
//!
//! The clockwork wakes it each second; it looks two seconds ahead and waits for each instant exactly. What is
//! due stands in the database, so a late or lost tick costs lateness, never a firing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch as channel};

use super::rescue::{Leap, next_due};
use super::{Engine, Part, Step, repeat};
use crate::domain::policy::EVERY_FIRE_CATCH_UP;
use crate::domain::run::Origin;
use crate::schedule::{self, Schedule};
use crate::store::{DueSchedule, Fired, Firing, FiringRow, StoreError, TooOld};

/// How far ahead an instant is waited for exactly.
const AHEAD: SignedDuration = SignedDuration::from_secs(2);
/// In one life an instant this late still fires for itself; older ones fold into one catch-up run.
const LATE: SignedDuration = SignedDuration::from_secs(60);
/// More policies than this in one firing are logged as a sum.
const LOGGED_POLICIES: usize = 100;

pub struct Ticker {
    engine: Arc<Engine>,
    leap: Leap,
    /// A leap was seen and the epoch that follows from it could not be written yet.
    owes_epoch: bool,
}

impl Ticker {
    pub fn new(engine: Arc<Engine>) -> Ticker {
        let leap = Leap::new(&*engine.clock);
        Ticker { engine, leap, owes_epoch: false }
    }

    /// `tick` is the clockwork's.
    pub async fn run(mut self, stop: channel::Receiver<bool>, tick: Arc<Notify>) {
        repeat(&Arc::clone(&self.engine), &mut self, stop, &tick).await;
    }

    /// Fires everything due by now and queues its runs.
    pub async fn step(&mut self) -> Result<Step, StoreError> {
        if let Some(leapt) = self.leap.look(&*self.engine.clock) {
            tracing::error!(
                event = "clock.skewed",
                leapt_ms = i64::try_from(leapt.as_millis()).unwrap_or(0),
                "the clock leapt by {} s: acting as after a restart, open orders are looked at anew",
                leapt.as_secs()
            );
            self.owes_epoch = true;
        }
        if self.owes_epoch {
            self.engine.begin_epoch().await?;
            self.owes_epoch = false;
        }
        self.engine.fire_due().await
    }

    /// Waits for an instant that is near; Idle when there is none.
    async fn wait_for_next(&self) -> Result<Step, StoreError> {
        let now = self.engine.now();
        let near = self.engine.store.schedules_due(now + AHEAD).await?;
        let Some(first) = near.first() else { return Ok(Step::Idle) };
        let wait = first.next_due.duration_since(self.engine.now());
        tokio::time::sleep(Duration::try_from(wait).unwrap_or_default()).await;
        Ok(Step::Worked)
    }
}

impl Part for Ticker {
    const NAME: &'static str = "the ticker";

    async fn step(&mut self) -> Result<Step, StoreError> {
        match Ticker::step(self).await? {
            Step::Idle => self.wait_for_next().await,
            Step::Worked => Ok(Step::Worked),
        }
    }
}

impl Engine {
    /// Makes everything due by now durable and queues its runs.
    pub async fn fire_due(&self) -> Result<Step, StoreError> {
        let now = self.now();
        let due = self.store.schedules_due(now).await?;
        self.note_tick();
        if !due.is_empty() {
            let began = self.began();
            let planned = tokio::task::spawn_blocking(move || {
                due.iter().map(|due| plan(due, began, now)).collect::<Vec<_>>()
            });
            let planned = planned.await.map_err(|error| StoreError::Decode(error.to_string()))?;
            let (firings, missed): (Vec<_>, Vec<_>) = planned.into_iter().unzip();
            self.store.fire(firings).await?;
            missed.iter().flatten().for_each(log_missed);
        }
        let mut step = Step::Idle;
        while let Some(fired) = self.store.queue_runs(now).await? {
            let queued = self.now();
            log_fired(&fired, queued);
            self.measure_lag(&fired, queued);
            self.note_tick();
            self.wake_all();
            step = Step::Worked;
        }
        Ok(step)
    }

    /// Of firings in their time: what was missed is late by the downtime, and counted as missed.
    fn measure_lag(&self, fired: &[Fired], queued: Timestamp) {
        let in_time = |fired: &&Fired| fired.origin == Origin::Schedule && !fired.is_continued;
        for fired in fired.iter().filter(in_time) {
            let lag = queued.duration_since(fired.due_at).as_secs_f64();
            self.measures.schedule_lag_seconds.observe(lag.max(0.0));
        }
    }

    fn note_tick(&self) {
        let now = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        self.ticked_ms.store(now, Ordering::Relaxed);
    }

    /// How long ago schedules were last looked at, or runs of a firing queued; None before the first look.
    pub fn since_tick(&self) -> Option<Duration> {
        let ticked = self.ticked_ms.load(Ordering::Relaxed);
        let ticked = (ticked != super::NEVER_TICKED).then(|| Duration::from_millis(ticked))?;
        Some(self.clock.monotonic().saturating_sub(ticked))
    }
}

/// Firings that are recorded and not made up for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Missed {
    expression: String,
    count: u32,
    through: Timestamp,
}

/// What a schedule owes: each instant on time for itself, missed ones folded into one catch-up.
fn plan(due: &DueSchedule, began: Timestamp, now: Timestamp) -> (Firing, Option<Missed>) {
    let firing = |rows, too_old, next_due| Firing {
        schedule_id: due.id,
        watermark_before: due.watermark,
        watermark: now,
        next_due,
        rows,
        too_old,
    };
    let Ok(schedule) = Schedule::parse(&due.text.expression, &due.text.zone) else {
        return (firing(Vec::new(), Vec::new(), next_due(&due.text.expression, &due.text.zone, now)), None);
    };
    let cutoff = began.max(now - LATE - SignedDuration::from_millis(1)).min(now).max(due.watermark);
    let owed = groups(due).map(|group| Owed::of(group, due.watermark, cutoff, now, &schedule));
    let owed: Vec<Owed> = owed.collect();
    let mut rows: Vec<FiringRow> = owed.iter().flat_map(|owed| owed.rows(due.has_every_fire)).collect();
    rows.extend(schedule.due_between(cutoff, now).map(on_time));
    let too_old: Vec<TooOld> = owed.iter().filter_map(|owed| owed.too_old(due.has_every_fire)).collect();
    let missed = too_old.iter().map(|too_old| too_old.count).max().map(|count| Missed {
        expression: due.text.expression.clone(),
        count,
        through: now - EVERY_FIRE_CATCH_UP,
    });
    (firing(rows, too_old, schedule.next_after(now)), missed)
}

/// Policies of one `active_since`, or those active since before the watermark.
#[derive(Clone, Copy)]
struct Group {
    active_after: Option<Timestamp>,
    active_through: Timestamp,
}

fn groups(due: &DueSchedule) -> impl Iterator<Item = Group> {
    let old = Group { active_after: None, active_through: due.watermark };
    let joined = due
        .joined_at
        .iter()
        .map(|at| Group { active_after: Some(*at - SignedDuration::from_millis(1)), active_through: *at });
    std::iter::once(old).chain(joined)
}

/// What a group missed, whole and of the last day.
struct Owed {
    group: Group,
    whole: Option<schedule::Missed>,
    recent: Option<schedule::Missed>,
}

impl Owed {
    fn of(
        group: Group,
        watermark: Timestamp,
        cutoff: Timestamp,
        now: Timestamp,
        schedule: &Schedule,
    ) -> Owed {
        let since = watermark.max(group.active_through);
        let whole = schedule.missed_between(since, cutoff);
        let recent = schedule.missed_between(since.max(now - EVERY_FIRE_CATCH_UP), cutoff);
        Owed { group, whole, recent }
    }

    fn rows(&self, has_every_fire: bool) -> impl Iterator<Item = FiringRow> {
        let Group { active_after, active_through } = self.group;
        let catch_up = move |missed: schedule::Missed, every_fire| FiringRow {
            origin: Origin::CatchUp,
            due_at: missed.last,
            missed_count: missed.count,
            every_fire,
            active_after,
            active_through,
            policy_id: None,
        };
        let whole = self.whole.map(|missed| catch_up(missed, has_every_fire.then_some(false)));
        let recent = self.recent.filter(|_| has_every_fire).map(|missed| catch_up(missed, Some(true)));
        whole.into_iter().chain(recent)
    }

    /// By `every_fire` policies only; all others make up for everything.
    fn too_old(&self, has_every_fire: bool) -> Option<TooOld> {
        let Group { active_after, active_through } = self.group;
        let count = |missed: Option<schedule::Missed>| missed.map_or(0, |missed| missed.count);
        let count = count(self.whole).saturating_sub(count(self.recent));
        (has_every_fire && count > 0).then_some(TooOld { active_after, active_through, count })
    }
}

fn on_time(instant: Timestamp) -> FiringRow {
    FiringRow {
        origin: Origin::Schedule,
        due_at: instant,
        missed_count: 0,
        every_fire: None,
        active_after: None,
        active_through: instant - SignedDuration::from_millis(1),
        policy_id: None,
    }
}

fn log_missed(missed: &Missed) {
    let Missed { expression, count, through } = missed;
    tracing::warn!(
        event = "schedule.missed",
        schedule = expression,
        missed_count = count,
        reason = "older than a day",
        "{count} firings of {expression:?} before {through} are too old for every_fire policies to make up for; \
         policies with an expiry test are caught up"
    );
}

fn log_fired(fired: &[Fired], now: Timestamp) {
    if fired.len() > LOGGED_POLICIES {
        let runs: u64 = fired.iter().map(|fired| u64::from(fired.runs)).sum();
        tracing::info!(
            event = "schedule.fired",
            policies = fired.len(),
            runs,
            "{} policies fired: {runs} runs queued",
            fired.len()
        );
        return;
    }
    for Fired { policy, origin, due_at, missed_count, runs, .. } in fired {
        let late_ms = i64::try_from(now.duration_since(*due_at).as_millis()).unwrap_or(i64::MAX);
        match origin {
            Origin::CatchUp => tracing::warn!(
                event = "schedule.fired", policy, due_at = %due_at, late_ms, missed_count, runs,
                "policy {policy} catches up: {missed_count} firings up to {due_at} were missed, {runs} runs queued"
            ),
            _ => tracing::info!(
                event = "schedule.fired", policy, due_at = %due_at, late_ms, runs,
                "policy {policy} fired: {runs} runs queued"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
