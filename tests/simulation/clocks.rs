//! The clock of the machine, the clock of the cloud, and what can happen between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use renewd::clock::{Clock, ManualClock, Sleep};

/// As the daemon reads it. The cloud's goes on beside it and is always right.
pub struct Clocks {
    machine: ManualClock,
    cloud: ManualClock,
    breaks_in_tasks: AtomicBool,
}

impl Clocks {
    pub fn new(start: Timestamp) -> Arc<Clocks> {
        let (machine, cloud) = (ManualClock::new(start), ManualClock::new(start));
        Arc::new(Clocks { machine, cloud, breaks_in_tasks: AtomicBool::new(false) })
    }

    pub fn advance(&self, by: Duration) {
        self.machine.advance(by);
        self.cloud.advance(by);
    }

    /// Somebody sets the machine's wall clock, or a time server does.
    pub fn jump(&self, by: SignedDuration) {
        let to = self.machine.now().checked_add(by).unwrap_or(self.machine.now());
        self.machine.jump_to(to);
    }

    pub fn set_right(&self) {
        self.machine.jump_to(self.cloud.now());
    }

    pub fn is_right(&self) -> bool {
        self.machine.now() == self.cloud.now()
    }

    /// The world goes on while the machine sleeps: its monotonic clock stands still.
    pub fn suspend(&self, length: Duration) {
        let length = SignedDuration::try_from(length).unwrap();
        self.machine.jump_to(self.machine.now() + length);
        self.cloud.jump_to(self.cloud.now() + length);
    }

    /// From now on it panics in a part of the daemon that runs in a task of its own.
    pub fn break_in_tasks(&self) {
        self.breaks_in_tasks.store(true, Ordering::Relaxed);
    }

    pub fn true_now(&self) -> Timestamp {
        self.cloud.now()
    }

    pub fn for_the_cloud(self: &Arc<Clocks>) -> Arc<dyn Clock> {
        Arc::new(CloudClock(Arc::clone(self)))
    }
}

impl Clock for Clocks {
    fn now(&self) -> Timestamp {
        let breaks = self.breaks_in_tasks.load(Ordering::Relaxed) && tokio::task::try_id().is_some();
        assert!(!breaks, "the clock is broken");
        self.machine.now()
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        drop(self.cloud.sleep(wait));
        self.machine.sleep(wait)
    }
}

struct CloudClock(Arc<Clocks>);

impl Clock for CloudClock {
    fn now(&self) -> Timestamp {
        self.0.cloud.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.cloud.monotonic()
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        self.0.sleep(wait)
    }
}
