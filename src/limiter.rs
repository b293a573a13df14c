//! The pace of each (access key id, API, region): governor on our clock, and a window that counts what is
//! really written.
//!
//! Invariant: no one-second window of requests leaving this process exceeds the configured pace. A permit is
//! held until its request is written; while it is held it counts as if it could be written at any moment.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::clock::Clock;

/// What shares one quota at a cloud.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub key_id: String,
    pub api: &'static str,
    pub region: String,
}

/// A map of direct limiters: a keyed governor would share a single quota over all keys.
pub struct Limiter {
    clock: Arc<dyn Clock>,
    gates: Mutex<HashMap<Key, Arc<Gate>>>,
}

struct Gate {
    clock: Arc<dyn Clock>,
    smooth: RateLimiter<NotKeyed, InMemoryState, OurClock, NoOpMiddleware<Nanos>>,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    most: usize,
    span: Duration,
    written: VecDeque<Duration>,
    held: usize,
    closed_until: Duration,
}

/// Leave to write one request. Dropped unwritten, it counts for nothing.
pub struct Permit {
    gate: Option<Arc<Gate>>,
}

/// One slot may be made up for: a sender that wakes a millisecond late at each slot would otherwise lose them all
/// for good, five slots in a hundred. The window, not the quota, bounds what leaves in a second.
const BURST: NonZeroU32 = NonZeroU32::new(2).expect("two is not zero");

/// When everything else is clear and only a held permit is in the way.
const HELD_WAIT: Duration = Duration::from_millis(2);

impl Limiter {
    pub fn new(clock: Arc<dyn Clock>) -> Limiter {
        Limiter { clock, gates: Mutex::new(HashMap::new()) }
    }

    /// A permit now, or how long to wait before asking again.
    pub fn try_acquire(&self, key: &Key, per_second: f64) -> Result<Permit, Duration> {
        self.gate(key, per_second).try_acquire()
    }

    /// Waits for a permit. Callers of one key are few: one lane, one reconcile, one watch.
    pub async fn acquire(&self, key: &Key, per_second: f64) -> Permit {
        let gate = self.gate(key, per_second);
        loop {
            match gate.try_acquire() {
                Ok(permit) => return permit,
                Err(wait) => self.clock.sleep(wait).await,
            }
        }
    }

    /// Closes a key for a while, after the cloud said that it is too fast.
    pub fn hold(&self, key: &Key, per_second: f64, pause: Duration) {
        let gate = self.gate(key, per_second);
        let until = self.clock.monotonic() + pause;
        let mut window = gate.window();
        window.closed_until = window.closed_until.max(until);
    }

    fn gate(&self, key: &Key, per_second: f64) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(key) {
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate::new(Arc::clone(&self.clock), per_second));
        gates.insert(key.clone(), Arc::clone(&gate));
        gate
    }
}

impl Gate {
    fn new(clock: Arc<dyn Clock>, per_second: f64) -> Gate {
        let period = Duration::from_secs_f64(1.0 / per_second.max(1e-6));
        // `with_period` refuses only a zero period.
        let quota = Quota::with_period(period.max(Duration::from_nanos(1)))
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(BURST);
        let smooth = RateLimiter::direct_with_clock(quota, OurClock(Arc::clone(&clock)));
        // It starts empty: a restart forgets what was sent a moment ago.
        for _ in 0..BURST.get() {
            let _ = smooth.check();
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "paces are small and positive"
        )]
        let most = (per_second.floor() as usize).max(1);
        let window = Window { most, span: period.max(Duration::from_secs(1)), ..Window::default() };
        Gate { clock, smooth, window: Mutex::new(window) }
    }

    fn try_acquire(self: &Arc<Gate>) -> Result<Permit, Duration> {
        let now = self.clock.monotonic();
        let mut window = self.window();
        window.room(now)?;
        let clock = OurClock(Arc::clone(&self.clock));
        self.smooth
            .check()
            .map_err(|not_until| not_until.wait_time_from(clock.now()).max(Duration::from_micros(100)))?;
        window.held += 1;
        Ok(Permit { gate: Some(Arc::clone(self)) })
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// Whether one more may be written at any moment from now on.
    fn room(&mut self, now: Duration) -> Result<(), Duration> {
        if now < self.closed_until {
            return Err(self.closed_until - now);
        }
        while self.written.front().is_some_and(|at| *at + self.span <= now) {
            self.written.pop_front();
        }
        if self.written.len() + self.held < self.most {
            return Ok(());
        }
        Err(self
            .written
            .front()
            .map_or(HELD_WAIT, |at| (*at + self.span).saturating_sub(now))
            .max(HELD_WAIT / 4))
    }
}

impl Permit {
    /// The request is being written now.
    pub fn written(mut self) {
        if let Some(gate) = self.gate.take() {
            let now = gate.clock.monotonic();
            let mut window = gate.window();
            window.held -= 1;
            window.written.push_back(now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.window().held -= 1;
        }
    }
}

#[derive(Clone)]
struct OurClock(Arc<dyn Clock>);

impl governor::clock::Clock for OurClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.monotonic())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::clock::ManualClock;

    fn key() -> Key {
        Key { key_id: "key".to_owned(), api: "redis:RenewInstance", region: "ap-guangzhou".to_owned() }
    }

    /// Simulates a busy sender: takes permits as they come and writes each `latency(i)` later.
    fn writes(per_second: f64, seconds: u64, latency: impl Fn(usize) -> Duration) -> Vec<Duration> {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let limiter = Limiter::new(clock.clone());
        let mut held: Vec<(Duration, Permit)> = Vec::new();
        let mut written = Vec::new();
        let step = Duration::from_millis(1);
        while clock.monotonic() < Duration::from_secs(seconds) {
            let now = clock.monotonic();
            let (due, later): (Vec<_>, Vec<_>) = held.into_iter().partition(|(at, _)| *at <= now);
            held = later;
            for (_, permit) in due {
                permit.written();
                written.push(now);
            }
            if let Ok(permit) = limiter.try_acquire(&key(), per_second) {
                held.push((now + latency(written.len() + held.len()), permit));
            }
            clock.advance(step);
        }
        written
    }

    fn worst_window(written: &[Duration]) -> usize {
        let end_of = |start: Duration| start + Duration::from_secs(1);
        let count =
            |start: &Duration| written.iter().filter(|at| *at >= start && **at < end_of(*start)).count();
        written.iter().map(count).max().unwrap_or(0)
    }

    #[test]
    fn no_second_holds_more_than_the_pace_however_long_a_request_takes_to_be_written() {
        for per_second in [1.0, 2.5, 18.0, 31.5] {
            for spread in [0, 3, 40, 170] {
                let latency = |i: usize| Duration::from_millis((i as u64 * 7919) % (spread + 1));
                let written = writes(per_second, 20, latency);
                assert!(
                    worst_window(&written) as f64 <= per_second.max(1.0),
                    "{per_second}/s, spread {spread} ms"
                );
            }
        }
    }

    #[test]
    fn quick_requests_use_nearly_the_whole_pace() {
        let written = writes(18.0, 60, |_| Duration::ZERO);
        assert!(written.len() >= 18 * 60 * 98 / 100, "{} of {}", written.len(), 18 * 60);
    }

    #[test]
    fn a_sender_that_wakes_a_little_late_at_each_slot_keeps_the_pace() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let limiter = Limiter::new(clock.clone());
        let mut written = Vec::new();
        while clock.monotonic() < Duration::from_secs(60) {
            match limiter.try_acquire(&key(), 18.0) {
                Ok(permit) => {
                    clock.advance(Duration::from_millis(2));
                    permit.written();
                    written.push(clock.monotonic());
                }
                Err(wait) => clock.advance(wait + Duration::from_millis(4)),
            }
        }
        assert!(written.len() >= 18 * 60 * 98 / 100, "{} of {}", written.len(), 18 * 60);
        assert!(worst_window(&written) <= 18, "{} in one second", worst_window(&written));
    }

    #[test]
    fn a_permit_that_is_dropped_unwritten_gives_its_place_back() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let limiter = Limiter::new(clock.clone());
        assert!(limiter.try_acquire(&key(), 1.0).is_err());
        clock.advance(Duration::from_secs(2));
        drop(limiter.try_acquire(&key(), 1.0).unwrap());
        clock.advance(Duration::from_secs(2));
        assert!(limiter.try_acquire(&key(), 1.0).is_ok());
    }

    #[test]
    fn it_starts_empty_and_keys_do_not_share() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let limiter = Limiter::new(clock.clone());
        assert!(limiter.try_acquire(&key(), 1.0).is_err());
        clock.advance(Duration::from_secs(1));
        let other = Key { region: "ap-shanghai".to_owned(), ..key() };
        assert!(limiter.try_acquire(&other, 1.0).is_err());
        assert!(limiter.try_acquire(&key(), 1.0).is_ok());
    }
}
