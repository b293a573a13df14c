//! What follows a failed call: pure arithmetic over its class, its attempts and the clock.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};

use crate::domain::failure::Class;

/// `[retry]` of the configuration, as far as pacing goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub first_delay: Duration,
    pub max_delay: Duration,
    /// Of busy and unavailable answers.
    pub max_attempts: u32,
}

/// Why the cloud holds an order back until something outside changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    Balance,
    /// Rights, an unpaid order or a quota: only this instance waits.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Not done: again then. `counts` as one of the attempts; `exhausted` the moment they run out.
    Again { at: Timestamp, counts: bool, exhausted: bool },
    /// Not done, and the account's orders are held until a test then.
    HoldAccount { kind: &'static str, at: Timestamp },
    /// Not done and never will be.
    Fail,
    /// Perhaps done: look, do not repeat.
    Reconcile,
}

/// A throttled call needs the lane's next slots, not a pause.
const THROTTLED_DELAY: Duration = Duration::from_secs(2);
/// A held account is tested this often at most.
const HELD_DELAY: Duration = Duration::from_secs(600);

/// The next step after an order's answer of this class. `attempts` counts those before it; `seed` makes the
/// jitter its own for each run and repeatable for a test.
pub fn after(
    class: Class,
    blocked: Option<Blocked>,
    attempts: u32,
    pace: Pace,
    seed: u64,
    now: Timestamp,
) -> Next {
    let again = |delay, counts| Next::Again { at: later(now, delay), counts, exhausted: false };
    match class {
        Class::Throttled => {
            again(jittered(THROTTLED_DELAY, 0, pace.max_delay.max(THROTTLED_DELAY), seed), false)
        }
        Class::Unsent => again(jittered(pace.first_delay, 0, pace.max_delay, seed), false),
        Class::Busy | Class::Unavailable => {
            let Counted { at, exhausted } = counted(attempts, pace, seed, now);
            Next::Again { at, counts: true, exhausted }
        }
        Class::Blocked if blocked == Some(Blocked::Balance) => {
            Next::HoldAccount { kind: "balance", at: later(now, HELD_DELAY.min(pace.max_delay)) }
        }
        Class::Blocked => again(pace.max_delay, false),
        Class::Credential => {
            Next::HoldAccount { kind: "credential", at: later(now, HELD_DELAY.min(pace.max_delay)) }
        }
        Class::Rejected => Next::Fail,
        Class::Unknown => Next::Reconcile,
    }
}

/// When to try again after an attempt that counts, and whether it was the last of those that come soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub at: Timestamp,
    pub exhausted: bool,
}

/// The cloud was, or shows itself, busy or unavailable. `attempts` counts those before.
pub fn counted(attempts: u32, pace: Pace, seed: u64, now: Timestamp) -> Counted {
    let exponent = attempts.min(pace.max_attempts);
    let delay = if attempts + 1 >= pace.max_attempts {
        pace.max_delay
    } else {
        jittered(pace.first_delay, exponent, pace.max_delay, seed)
    };
    Counted { at: later(now, delay), exhausted: attempts + 1 == pace.max_attempts }
}

/// `first × 2^exponent` plus up to as much again, never past `max`.
pub fn jittered(first: Duration, exponent: u32, max: Duration, seed: u64) -> Duration {
    let delays = ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(max)
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
        .with_jitter_seed(seed)
        .build();
    let exponent = usize::try_from(exponent.min(64)).unwrap_or(64);
    delays.into_iter().nth(exponent).unwrap_or(max).min(max)
}

fn later(now: Timestamp, delay: Duration) -> Timestamp {
    now + SignedDuration::try_from(delay).unwrap_or(SignedDuration::from_hours(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace =
        Pace { first_delay: Duration::from_secs(30), max_delay: Duration::from_secs(3600), max_attempts: 12 };
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn delay(next: &Next) -> i64 {
        match next {
            Next::Again { at, .. } | Next::HoldAccount { at, .. } => at.as_second(),
            _ => panic!("no delay in {next:?}"),
        }
    }

    #[test]
    fn delays_double_with_jitter_and_stay_below_the_longest() {
        for attempts in 0..11 {
            for seed in 0..200 {
                let next = after(Class::Busy, None, attempts, PACE, seed, NOW);
                let base = (30_i64 << attempts).min(3600);
                assert!((base..=(2 * base).min(3600)).contains(&delay(&next)), "{attempts} {seed} {next:?}");
            }
        }
    }

    #[test]
    fn jitter_differs_between_runs_and_repeats_for_one() {
        let at = |seed| delay(&after(Class::Busy, None, 3, PACE, seed, NOW));
        assert_eq!(at(7), at(7));
        assert!((0..50).any(|seed| at(seed) != at(7)));
    }

    #[test]
    fn the_last_attempt_is_exhausted_once_and_waits_longest_from_then_on() {
        let next = after(Class::Unavailable, None, 11, PACE, 1, NOW);
        assert_eq!(
            next,
            Next::Again { at: NOW + SignedDuration::from_secs(3600), counts: true, exhausted: true }
        );
        let next = after(Class::Unavailable, None, 12, PACE, 1, NOW);
        assert_eq!(
            next,
            Next::Again { at: NOW + SignedDuration::from_secs(3600), counts: true, exhausted: false }
        );
    }

    #[test]
    fn the_last_attempt_is_the_one_of_the_configured_number() {
        // One before the last still waits its own delay, not the longest.
        let pace = Pace { max_attempts: 2, ..PACE };
        let first = after(Class::Busy, None, 0, pace, 1, NOW);
        assert!(matches!(first, Next::Again { exhausted: false, .. }) && delay(&first) <= 60, "{first:?}");
        let last = after(Class::Busy, None, 1, pace, 1, NOW);
        assert!(matches!(last, Next::Again { exhausted: true, .. }) && delay(&last) == 3600, "{last:?}");
    }

    #[test]
    fn throttled_and_unsent_never_count() {
        for class in [Class::Throttled, Class::Unsent] {
            let next = after(class, None, 11, PACE, 1, NOW);
            assert!(matches!(next, Next::Again { counts: false, exhausted: false, .. }), "{next:?}");
        }
    }

    #[test]
    fn an_empty_balance_holds_the_account_and_a_missing_right_only_the_instance() {
        let balance = after(Class::Blocked, Some(Blocked::Balance), 0, PACE, 1, NOW);
        assert!(matches!(balance, Next::HoldAccount { kind: "balance", .. }));
        let rights = after(Class::Blocked, Some(Blocked::Other), 0, PACE, 1, NOW);
        assert!(matches!(rights, Next::Again { counts: false, .. }));
    }

    #[test]
    fn an_unknown_outcome_is_never_repeated() {
        assert_eq!(after(Class::Unknown, None, 0, PACE, 1, NOW), Next::Reconcile);
    }
}
