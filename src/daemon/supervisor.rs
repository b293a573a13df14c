//! What systemd is told: ready, reloading, stopping, how things stand, and that the service gets on with its work.
//!
//! Invariant: no timer feeds the watchdog. The clockwork's second wakes the pulse, and it beats only where the ticker
//! has looked for what is due and the writer has answered a change. That the disk has no room is an answer too: a
//! restart would not make any, and lose what waits in memory for it.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{Notify, watch as channel};

use crate::clock::Stopwatch;
use crate::engine::Engine;
use crate::store::{Glance, StoreError};
use crate::telemetry::TICK_MAX;

/// Beats in the time within which systemd wants one.
const BEATS: u32 = 4;
/// Figures that took long to read are read seldom: never more than this share of the time goes into them.
const SHARE_OF_TIME: u32 = 50;
const STATUS_LEAST: Duration = Duration::from_secs(5);
const STATUS_MOST: Duration = Duration::from_secs(60);

pub(super) fn announce_ready() {
    notify(&[NotifyState::Ready]);
}

pub(super) fn announce_stopping() {
    notify(&[NotifyState::Stopping]);
}

/// systemd from 253 on wants to know when, to tell this answer to its signal from an earlier one.
pub(super) fn announce_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => {
            tracing::warn!(event = "service.notify", %error, "the monotonic clock could not be read")
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(event = "service.notify", %error, "systemd could not be told");
    }
}

/// Tells systemd that work goes on, and how things stand.
pub(super) struct Pulse {
    engine: Arc<Engine>,
    /// None where no watchdog waits for one.
    beat_every: Option<Duration>,
    /// By the monotonic clock, as all times here.
    next_beat: Duration,
    next_status: Duration,
    told: Option<String>,
}

impl Pulse {
    pub(super) fn new(engine: Arc<Engine>) -> Pulse {
        let beat_every = sd_notify::watchdog_enabled().map(|wanted| wanted / BEATS);
        Pulse { engine, beat_every, next_beat: Duration::ZERO, next_status: Duration::ZERO, told: None }
    }

    /// `tick` is the clockwork's.
    pub(super) async fn run(mut self, mut stop: channel::Receiver<bool>, tick: Arc<Notify>) {
        while !*stop.borrow() {
            tokio::select! {
                _ = stop.changed() => {}
                () = async { tick.notified().await; self.step().await } => {}
            }
        }
    }

    async fn step(&mut self) {
        if let Some(every) = self.beat_every.filter(|_| self.is_due(self.next_beat))
            && self.is_working().await
        {
            notify(&[NotifyState::Watchdog]);
            self.next_beat = self.engine.clock.monotonic() + every;
        }
        if self.is_due(self.next_status) {
            self.tell_status().await;
        }
    }

    fn is_due(&self, at: Duration) -> bool {
        self.engine.clock.monotonic() >= at
    }

    /// Waits for the writer for as long as it takes: without its answer there is no beat.
    async fn is_working(&self) -> bool {
        self.engine.since_tick().is_some_and(|since| since <= TICK_MAX)
            && !matches!(self.engine.store.prove_writable().await, Err(StoreError::Stopped))
    }

    async fn tell_status(&mut self) {
        let watch = Stopwatch::start();
        let status = match self.engine.store.glance(self.engine.clock.now()).await {
            Ok(glance) => words(&glance),
            Err(error) => error.to_string(),
        };
        let pause = (watch.elapsed() * SHARE_OF_TIME).clamp(STATUS_LEAST, STATUS_MOST);
        self.next_status = self.engine.clock.monotonic() + pause;
        if self.told.as_ref() != Some(&status) {
            notify(&[NotifyState::Status(&status)]);
            self.told = Some(status);
        }
    }
}

fn words(glance: &Glance) -> String {
    let runs = glance.runs.iter().filter(|(_, count)| *count > 0);
    let runs: Vec<String> = runs.map(|(state, count)| format!("{count} {state}")).collect();
    let runs = if runs.is_empty() { "none yet".to_owned() } else { runs.join(", ") };
    let mut words = format!(
        "runs: {runs}; unknown orders: {}; instances at risk: {}",
        glance.orders_unknown, glance.instances_at_risk
    );
    if glance.pauses > 0 {
        words.push_str(&format!("; pauses: {}", glance.pauses));
    }
    if glance.is_refused {
        words.push_str("; the files on disk are REFUSED");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_pulse_beats_while_the_scheduler_ticks_and_the_writer_answers_and_at_no_other_time() {
        let folder = tempfile::tempdir().unwrap();
        let second = Duration::from_secs(1);
        let (engine, clock, _lock) = Engine::alone(folder.path()).await;
        let pulse = Pulse::new(Arc::clone(&engine));

        assert!(!pulse.is_working().await, "the scheduler has not ticked yet");
        engine.fire_due().await.unwrap();
        clock.advance(TICK_MAX);
        assert!(pulse.is_working().await);
        clock.advance(second);
        assert!(!pulse.is_working().await, "the scheduler stands still");
        engine.fire_due().await.unwrap();
        assert!(pulse.is_working().await);
        engine.store.close().await;
        assert!(!pulse.is_working().await, "the writer has gone");
    }

    #[test]
    fn the_status_has_the_counts_that_an_operator_looks_for_first() {
        let mut glance = Glance {
            runs: vec![("queued".to_owned(), 2), ("running".to_owned(), 0), ("succeeded".to_owned(), 24)],
            orders_unknown: 1,
            instances_at_risk: 3,
            pauses: 0,
            is_refused: false,
        };
        let counts = "runs: 2 queued, 24 succeeded; unknown orders: 1; instances at risk: 3";
        assert_eq!(words(&glance), counts);
        (glance.pauses, glance.is_refused) = (1, true);
        assert_eq!(words(&glance), format!("{counts}; pauses: 1; the files on disk are REFUSED"));
    }
}
