use jiff::Timestamp;

use super::*;
use crate::clock::ManualClock;

fn key() -> Key {
    Key { quota: "key".to_owned(), api: "redis:RenewInstance", region: "ap-guangzhou".to_owned() }
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
        if let Ok(permit) = limiter.try_acquire(&key(), || per_second) {
            held.push((now + latency(written.len() + held.len()), permit));
        }
        clock.advance(step);
    }
    written
}

fn worst_window(written: &[Duration]) -> usize {
    let end_of = |start: Duration| start + Duration::from_secs(1);
    let count = |start: &Duration| written.iter().filter(|at| *at >= start && **at < end_of(*start)).count();
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
        match limiter.try_acquire(&key(), || 18.0) {
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
    assert!(limiter.try_acquire(&key(), || 1.0).is_err());
    clock.advance(Duration::from_secs(2));
    drop(limiter.try_acquire(&key(), || 1.0).unwrap());
    clock.advance(Duration::from_secs(2));
    assert!(limiter.try_acquire(&key(), || 1.0).is_ok());
}

#[test]
fn it_starts_empty_and_keys_do_not_share() {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let limiter = Limiter::new(clock.clone());
    assert!(limiter.try_acquire(&key(), || 1.0).is_err());
    clock.advance(Duration::from_secs(1));
    let other = Key { region: "ap-shanghai".to_owned(), ..key() };
    assert!(limiter.try_acquire(&other, || 1.0).is_err());
    assert!(limiter.try_acquire(&key(), || 1.0).is_ok());
}

#[test]
fn a_lowered_pace_holds_at_once_and_counts_what_left_before() {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let limiter = Limiter::new(clock.clone());
    let mut written = Vec::new();
    while clock.monotonic() < Duration::from_secs(10) {
        if clock.monotonic() == Duration::from_secs(4) {
            limiter.set_paces(|_| Some(5.0));
        }
        if let Ok(permit) = limiter.try_acquire(&key(), || 18.0) {
            permit.written();
            written.push(clock.monotonic());
        }
        clock.advance(Duration::from_millis(1));
    }
    let (_, after) = written.split_at(written.partition_point(|at| *at < Duration::from_secs(4)));
    let first = after[0];
    assert!(first >= Duration::from_millis(4_700), "eighteen had just left, and five went on at {first:?}");
    assert_eq!(worst_window(after), 5);
    assert_eq!(worst_window(&written), 18, "before it was lowered");
}

#[test]
fn however_often_the_pace_is_set_no_more_leaves_than_the_highest_of_them_allows() {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let limiter = Limiter::new(clock.clone());
    let mut written = Vec::new();
    let _ = limiter.try_acquire(&key(), || 18.0);
    for step in 0..20_000_u64 {
        if step % 10 == 0 {
            limiter.set_paces(|_| Some(if step % 1_000 < 500 { 18.0 } else { 17.0 }));
            limiter.replace_quota("key", "other");
        }
        let key_id = if step % 3 == 0 { "key" } else { "other" };
        if let Ok(permit) = limiter.try_acquire(&Key { quota: key_id.to_owned(), ..key() }, || 18.0) {
            permit.written();
            written.push(clock.monotonic());
        }
        clock.advance(Duration::from_millis(1));
    }
    assert!(!written.is_empty());
    assert!(worst_window(&written) <= 18, "{} in one second", worst_window(&written));

    // The same settings read again and again cost nothing.
    let begun = clock.monotonic();
    limiter.set_paces(|_| Some(18.0));
    let mut sent = 0;
    while clock.monotonic() < begun + Duration::from_secs(20) {
        limiter.set_paces(|_| Some(18.0));
        if let Ok(permit) = limiter.try_acquire(&key(), || 18.0) {
            permit.written();
            sent += 1;
        }
        clock.advance(Duration::from_millis(1));
    }
    assert!(sent >= 18 * 20 * 98 / 100, "{sent} of {}", 18 * 20);
}

#[test]
fn keys_that_took_each_others_place_share_the_lowest_of_their_paces() {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let limiter = Limiter::new(clock.clone());
    let new = Key { quota: "new".to_owned(), ..key() };
    let _ = limiter.try_acquire(&key(), || 1.0);
    limiter.replace_quota("key", "new");
    clock.advance(Duration::from_secs(1));
    limiter.try_acquire(&key(), || 1.0).unwrap().written();
    assert!(limiter.try_acquire(&new, || 1.0).is_err(), "what left under the old key counts");

    limiter.set_paces(|key| Some(if key.quota == "new" { 100.0 } else { 2.0 }));
    clock.advance(Duration::from_millis(500));
    limiter.try_acquire(&new, || 1.0).unwrap().written();
    assert!(limiter.try_acquire(&new, || 1.0).is_err());
    clock.advance(Duration::from_millis(20));
    assert!(limiter.try_acquire(&new, || 1.0).is_err());
}

#[tokio::test]
async fn who_waits_for_a_slow_pace_notices_soon_that_it_was_raised() {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let limiter = Arc::new(Limiter::new(clock.clone()));
    let waiting = Arc::clone(&limiter);
    let waiter = tokio::spawn(async move { waiting.acquire(&key(), || 0.001).await });
    tokio::task::yield_now().await;
    limiter.set_paces(|_| Some(10.0));
    let raised = clock.monotonic();
    drop(waiter.await.unwrap());
    assert!(clock.monotonic() - raised <= Duration::from_secs(2), "{:?}", clock.monotonic() - raised);
}
