//! The cycle counter, and looks that arrive out of order.

use jiff::SignedDuration;

use crate::stage::{Stage, days, policy, start};

async fn stage() -> Stage {
    let stage = Stage::open().await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    stage
}

#[tokio::test]
async fn only_an_expiry_twenty_days_later_opens_the_next_cycle() {
    let stage = stage().await;
    let first = start() + days(3);
    let steps = [
        (first, 1),
        (first + SignedDuration::from_hours(5), 1),
        (first + days(20) - SignedDuration::from_millis(1), 1),
        (first + days(20), 2),
        (first + days(39), 2),
        (first + days(40), 3),
        (first, 3),
        (first + days(41), 3),
    ];
    for (number, (expiry, cycle)) in steps.into_iter().enumerate() {
        let observed_at = start() + SignedDuration::from_secs(i64::try_from(number).unwrap());
        assert_eq!(stage.see("crs-1", observed_at, expiry).await.cycle, cycle, "look {number}: {expiry}");
    }
}

#[tokio::test]
async fn small_corrections_never_add_up_to_a_cycle_within_twenty_days() {
    let stage = stage().await;
    let first = start() + days(3);
    for day in 0..20 {
        let observed_at = start() + SignedDuration::from_secs(day);
        assert_eq!(stage.see("crs-1", observed_at, first + days(day)).await.cycle, 1, "{day} days later");
    }
}

#[tokio::test]
async fn an_older_look_never_replaces_a_newer_one() {
    let stage = stage().await;
    let (new, old) = (start() + SignedDuration::from_secs(9), start());
    stage.see("crs-1", new, start() + days(33)).await;
    let known = stage.see("crs-1", old, start() + days(3)).await;
    assert_eq!(known.expires_at(), Some(start() + days(33)));
    assert_eq!(known.observation.unwrap().observed_at, new);
    assert!(known.lower.is_none(), "an old look is no evidence of an expiry that went back");
}

#[tokio::test]
async fn an_expiry_that_goes_back_is_counted_look_by_look_until_it_recovers() {
    let stage = stage().await;
    let high = start() + days(33);
    let second = SignedDuration::from_secs(1);
    stage.see("crs-1", start(), high).await;
    for looks in 1..=3 {
        let known = stage.see("crs-1", start() + second * looks, start() + days(3)).await;
        let lower = known.lower.unwrap();
        assert_eq!((lower.since, i32::try_from(lower.looks).unwrap()), (start() + second, looks));
        assert_eq!(known.expiry_high, Some(high));
    }
    assert!(stage.see("crs-1", start() + second * 4, high).await.lower.is_none());
}
