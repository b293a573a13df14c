//! The cloud's clock and ours apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use renewd::clock::{Clock, Sleep, SystemClock};

use crate::harness::{Settings, Stage, policy, text, until};

/// The machine's clock, set wrong by so much.
struct Wrong {
    clock: SystemClock,
    by_seconds: AtomicI64,
}

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        self.clock.now() + SignedDuration::from_secs(self.by_seconds.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        self.clock.sleep(wait)
    }
}

fn held_until_right(by_seconds: i64, code: Option<&str>) {
    let clock = Arc::new(Wrong { clock: SystemClock::new(), by_seconds: by_seconds.into() });
    let stage = Stage::with_clock(&Settings::default(), clock.clone());
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    let skewed = daemon.until_event("clock.skewed");
    assert_eq!((&skewed["level"], &skewed["account"]), (&"ERROR".into(), &"shop".into()));
    let words = text(&skewed, "message");
    assert!(words.contains("orders of account shop are held"), "{words}");
    let off = skewed["skew_ms"].as_i64().unwrap() - by_seconds * 1000;
    assert!(off.abs() < 5_000, "{skewed:#}");
    // Held over several firings and looks, and told once.
    let waited = |after: usize| {
        until("it waits on", || (daemon.events("schedule.fired").len() > after + 2).then_some(()))
    };
    waited(daemon.events("schedule.fired").len());
    let run = stage.until_run("crs-sandbox-1", "waiting");
    assert_eq!(run["attempts"], 0, "{run:#}");
    if let Some(code) = code {
        assert!(text(&run, "reason").contains(code), "{run:#}");
    }
    assert_eq!(daemon.events("clock.skewed").len(), 1);
    assert!(stage.orders().is_empty() && stage.cloud.ledger().is_empty());

    clock.by_seconds.store(0, Ordering::SeqCst);
    stage.until_order("crs-sandbox-1", "confirmed");
    assert_eq!(daemon.events("clock.skewed")[1]["level"], "INFO");
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn a_cloud_clock_minutes_ahead_holds_orders_until_they_agree() {
    held_until_right(180, None);
}

#[test]
fn a_cloud_clock_so_far_back_that_signatures_are_refused_holds_orders_until_they_agree() {
    held_until_right(-900, Some("AuthFailure.SignatureExpire"));
}
