//! The only reader of wall time. Everything else takes `now` as an argument or asks a [`Clock`].

use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Wall time for what is written down, monotonic time for how long something took.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
    /// Since an arbitrary start; never goes back.
    fn monotonic(&self) -> Duration;
    /// Ends when about so much of its monotonic time has passed.
    fn sleep(&self, wait: Duration) -> Sleep;
}

pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The machine's clocks.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // Milliseconds are what the database keeps; finer digits would make stored and live times differ.
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(wait))
    }
}

/// How long something of our own takes, for figures alone: nothing is decided by it.
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that moves only when told, for tests that step the engine.
pub struct ManualClock {
    wall_ms: AtomicI64,
    monotonic_ms: AtomicI64,
}

impl ManualClock {
    pub fn new(start: Timestamp) -> ManualClock {
        ManualClock { wall_ms: AtomicI64::new(start.as_millisecond()), monotonic_ms: AtomicI64::new(0) }
    }

    /// Time passes: both clocks move.
    pub fn advance(&self, by: Duration) {
        let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// The wall clock is set: only it moves, either way.
    pub fn jump_to(&self, to: Timestamp) {
        self.wall_ms.store(to.as_millisecond(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.wall_ms.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.monotonic_ms.load(Ordering::SeqCst)).unwrap_or(0))
    }

    /// Nobody else would move it on: who waits is the one who does, and lets others have their turn.
    fn sleep(&self, wait: Duration) -> Sleep {
        self.advance(wait.max(Duration::from_millis(1)));
        Box::pin(tokio::task::yield_now())
    }
}
