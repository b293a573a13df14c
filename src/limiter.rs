//! The pace of each (access key id or role, API, region): governor on our clock, and a window that counts what is
//! really written.
//!
//! Invariant: no one-second window of requests leaving this process exceeds the configured pace. A permit is
//! held until its request is written; while it is held it counts as if it could be written at any moment.
//!
//! Invariant: what has left is never forgotten while the process lives, however often the configuration is read
//! again: another pace, another key of the same account, or an account that leaves and comes back goes on from it.

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
    /// An access key id, or a role whose key ids come and go.
    pub quota: String,
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
    flow: Mutex<Flow>,
}

struct Flow {
    per_second: f64,
    smooth: RateLimiter<NotKeyed, InMemoryState, OurClock, NoOpMiddleware<Nanos>>,
    window: Window,
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

/// Who waits for a slow pace looks again this often: it may have been raised.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

impl Limiter {
    pub fn new(clock: Arc<dyn Clock>) -> Limiter {
        Limiter { clock, gates: Mutex::new(HashMap::new()) }
    }

    /// A permit now, or how long to wait before asking again. `per_second` is asked for a key's first permit only;
    /// from then on the pace is what [`Limiter::set_paces`] makes it.
    pub fn try_acquire(&self, key: &Key, per_second: impl FnOnce() -> f64) -> Result<Permit, Duration> {
        self.gate(key, per_second).try_acquire()
    }

    /// Waits for a permit. Callers of one key are few: one lane, one reconcile, one watch.
    pub async fn acquire(&self, key: &Key, per_second: impl FnOnce() -> f64) -> Permit {
        let gate = self.gate(key, per_second);
        loop {
            match gate.try_acquire() {
                Ok(permit) => return permit,
                Err(wait) => self.clock.sleep(wait.min(LONGEST_WAIT)).await,
            }
        }
    }

    /// Closes a key for a while, after the cloud said that it is too fast.
    pub fn hold(&self, key: &Key, per_second: impl FnOnce() -> f64, pause: Duration) {
        let gate = self.gate(key, per_second);
        let until = self.clock.monotonic() + pause;
        let window = &mut gate.flow().window;
        window.closed_until = window.closed_until.max(until);
    }

    /// Gives each key the pace that is configured now; None leaves it as it is. Keys that share what has left share
    /// the lowest of their paces.
    pub fn set_paces(&self, per_second: impl Fn(&Key) -> Option<f64>) {
        let gates = self.gates();
        let mut lowest: HashMap<*const Gate, f64> = HashMap::new();
        for (key, gate) in gates.iter() {
            let Some(pace) = per_second(key) else { continue };
            lowest.entry(Arc::as_ptr(gate)).and_modify(|lowest| *lowest = lowest.min(pace)).or_insert(pace);
        }
        for gate in gates.values() {
            if let Some(pace) = lowest.get(&Arc::as_ptr(gate)) {
                gate.set_pace(*pace);
            }
        }
    }

    /// One takes another's place: what has left under the old one counts for the new one.
    pub fn replace_quota(&self, old: &str, new: &str) {
        if old == new {
            return;
        }
        let mut gates = self.gates();
        let of_old = gates.iter().filter(|(key, _)| key.quota == old);
        let of_new: Vec<_> = of_old
            .map(|(key, gate)| (Key { quota: new.to_owned(), ..key.clone() }, Arc::clone(gate)))
            .collect();
        for (key, gate) in of_new {
            gates.entry(key).or_insert(gate);
        }
    }

    fn gate(&self, key: &Key, per_second: impl FnOnce() -> f64) -> Arc<Gate> {
        let mut gates = self.gates();
        if let Some(gate) = gates.get(key) {
            return Arc::clone(gate);
        }
        // Asked under the lock: a pace that is changing meanwhile is either asked here or set there.
        let gate = Arc::new(Gate::new(Arc::clone(&self.clock), per_second()));
        gates.insert(key.clone(), Arc::clone(&gate));
        gate
    }

    fn gates(&self) -> MutexGuard<'_, HashMap<Key, Arc<Gate>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    fn new(clock: Arc<dyn Clock>, per_second: f64) -> Gate {
        let smooth = smooth(&clock, per_second);
        let (most, span) = bounds(per_second);
        let window = Window { most, span, ..Window::default() };
        Gate { clock, flow: Mutex::new(Flow { per_second, smooth, window }) }
    }

    fn try_acquire(self: &Arc<Gate>) -> Result<Permit, Duration> {
        let now = self.clock.monotonic();
        let mut flow = self.flow();
        flow.window.room(now)?;
        let clock = OurClock(Arc::clone(&self.clock));
        flow.smooth
            .check()
            .map_err(|not_until| not_until.wait_time_from(clock.now()).max(Duration::from_micros(100)))?;
        flow.window.held += 1;
        Ok(Permit { gate: Some(Arc::clone(self)) })
    }

    #[expect(clippy::float_cmp, reason = "the same configured number is the same pace")]
    fn set_pace(&self, per_second: f64) {
        let mut flow = self.flow();
        if flow.per_second != per_second {
            flow.per_second = per_second;
            flow.smooth = smooth(&self.clock, per_second);
            (flow.window.most, flow.window.span) = bounds(per_second);
        }
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn period(per_second: f64) -> Duration {
    Duration::from_secs_f64(1.0 / per_second.max(1e-6))
}

/// It starts empty: a restart forgets what was sent a moment ago.
fn smooth(
    clock: &Arc<dyn Clock>,
    per_second: f64,
) -> RateLimiter<NotKeyed, InMemoryState, OurClock, NoOpMiddleware<Nanos>> {
    // `with_period` refuses only a zero period.
    let quota = Quota::with_period(period(per_second).max(Duration::from_nanos(1)))
        .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
        .allow_burst(BURST);
    let smooth = RateLimiter::direct_with_clock(quota, OurClock(Arc::clone(clock)));
    for _ in 0..BURST.get() {
        let _ = smooth.check();
    }
    smooth
}

/// How many may leave in a window, and how long it is.
fn bounds(per_second: f64) -> (usize, Duration) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "paces are small and positive"
    )]
    let most = (per_second.floor() as usize).max(1);
    (most, period(per_second).max(Duration::from_secs(1)))
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
            let window = &mut gate.flow().window;
            window.held -= 1;
            window.written.push_back(now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.flow().window.held -= 1;
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
mod tests;
