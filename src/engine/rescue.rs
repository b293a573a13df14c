//! A new life: the next epoch, what the old one left, and clocks that leapt.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Engine;
use super::events::order_event;
use crate::clock::Clock;
use crate::schedule::Schedule;
use crate::store::{Firing, OrderRecord, Rescued, StoreError};

/// A wall clock that parts from the monotonic one by more acts like a restart.
const LEAP: SignedDuration = SignedDuration::from_secs(60);

impl Engine {
    /// Takes the next epoch: at start, and after a leap of the clock.
    pub async fn begin_epoch(&self) -> Result<Rescued, StoreError> {
        let now = self.now();
        let rescued = self.store.begin_epoch(now, env!("CARGO_PKG_VERSION")).await?;
        // Before any lane knows the new epoch and could claim one that was asked for in another life.
        self.lapse_triggers(now).await?;
        self.epoch.store(rescued.epoch.0, Ordering::SeqCst);
        self.began_ms.store(now.as_millisecond(), Ordering::SeqCst);
        for row in &rescued.orders_unknown {
            if let Some(order) = self.store.order(*row).await? {
                log_interrupted(&order);
            }
        }
        self.pull_back_watermarks(now).await?;
        self.wake_all();
        Ok(rescued)
    }

    pub(super) fn began(&self) -> Timestamp {
        Timestamp::from_millisecond(self.began_ms.load(Ordering::SeqCst)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// A watermark moves back only to now, and only when it lies in the future.
    async fn pull_back_watermarks(&self, now: Timestamp) -> Result<(), StoreError> {
        let ahead = self.store.schedules_ahead(now).await?;
        let mut firings = Vec::with_capacity(ahead.len());
        for (schedule_id, text, watermark) in ahead {
            tracing::error!(
                event = "clock.skewed",
                schedule = text.expression,
                zone = text.zone,
                "schedule {:?} was last looked at on {watermark}, which is still to come: the clock went back; \
                 firings go on from now",
                text.expression
            );
            firings.push(Firing {
                schedule_id,
                watermark_before: watermark,
                watermark: now,
                next_due: next_due(&text.expression, &text.zone, now),
                rows: Vec::new(),
                too_old: Vec::new(),
            });
        }
        self.store.fire(firings).await
    }

    /// Gives schedules that live policies use, and that have no next instant, their next one.
    pub async fn plan_schedules(&self) -> Result<(), StoreError> {
        let unplanned = self.store.schedules_unplanned().await?;
        let firings = unplanned.into_iter().map(|(schedule_id, text, watermark)| Firing {
            schedule_id,
            watermark_before: watermark,
            watermark,
            next_due: next_due(&text.expression, &text.zone, watermark),
            rows: Vec::new(),
            too_old: Vec::new(),
        });
        self.store.fire(firings.collect()).await
    }
}

fn log_interrupted(order: &OrderRecord) {
    order_event!(warn, "order.unknown", order, { class = "unknown", code = "Interrupted", },
        "the order for {} was recorded and its answer never came: looking for what became of it", order.instance);
}

pub(super) fn next_due(expression: &str, zone: &str, after: Timestamp) -> Option<Timestamp> {
    match Schedule::parse(expression, zone) {
        Ok(schedule) => schedule.next_after(after),
        Err(error) => {
            // It was valid when its policy was accepted; only the system's zone data can have changed since.
            tracing::error!(
                event = "schedule.missed",
                schedule = expression,
                zone,
                "schedule {expression:?} in {zone} can no longer be read: {error}; its policies do not fire"
            );
            None
        }
    }
}

/// Compares wall and monotonic time from look to look.
pub struct Leap {
    wall: Timestamp,
    monotonic: Duration,
}

impl Leap {
    pub fn new(clock: &dyn Clock) -> Leap {
        Leap { wall: clock.now(), monotonic: clock.monotonic() }
    }

    /// By how much the wall clock leapt since the last look; None when both went on together.
    pub fn look(&mut self, clock: &dyn Clock) -> Option<SignedDuration> {
        let (wall, monotonic) = (clock.now(), clock.monotonic());
        let passed = SignedDuration::try_from(monotonic.saturating_sub(self.monotonic)).unwrap_or_default();
        let leapt = wall.duration_since(self.wall) - passed;
        (self.wall, self.monotonic) = (wall, monotonic);
        (leapt.abs() > LEAP).then_some(leapt)
    }
}
