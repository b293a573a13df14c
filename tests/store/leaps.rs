//! A wall clock that leaps against the monotonic one: set by hand, a suspend, a snapshot brought back.

use jiff::{SignedDuration, Timestamp};
use renewd::domain::run::Epoch;
use renewd::engine::Ticker;
use std::time::Duration;

use crate::firings::engine;
use crate::stage::{Stage, at, policy, start};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// An order whose answer is still to come, and a claimed run beside it.
async fn under_way(stage: &Stage, epoch: Epoch, now: Timestamp) {
    stage.apply(&[policy("cache", &["crs-1", "crs-2"])], start()).await;
    for id in ["crs-1", "crs-2"] {
        stage.see(id, now, now + SignedDuration::from_hours(72)).await;
    }
    stage.fire(now).await;
    let claims = stage.claim(epoch).await;
    stage.intend(&claims[0], now).await.unwrap();
}

async fn states(stage: &Stage) -> (i64, i64, i64) {
    (
        stage.count("SELECT epoch FROM daemon").await,
        stage
            .count("SELECT count(*) FROM orders WHERE state = 'unknown' AND error ->> 'code' = 'Interrupted'")
            .await,
        stage.count("SELECT count(*) FROM runs WHERE state = 'queued' AND epoch IS NULL").await,
    )
}

#[tokio::test]
async fn a_leap_either_way_acts_like_a_restart_and_only_once() {
    for leap_seconds in [-DAY, -HOUR, -61, 61, HOUR, 9 * HOUR, DAY, 10 * 365 * DAY] {
        let stage = Stage::open().await;
        let now = at("2026-03-01T02:00:00Z");
        let (engine, clock) = engine(&stage, now).await;
        let mut ticker = Ticker::new(engine.clone());
        under_way(&stage, engine.epoch(), now).await;
        ticker.step().await.unwrap();
        assert_eq!(states(&stage).await, (1, 0, 0), "nothing leapt yet");

        clock.jump_to(now + SignedDuration::from_secs(leap_seconds));
        for _ in 0..2 {
            ticker.step().await.unwrap();
            let (epoch, unknown, queued) = states(&stage).await;
            assert_eq!((epoch, unknown), (2, 1), "a leap of {leap_seconds} s");
            assert!(queued >= 1, "the claimed run is queued again");
        }
        assert_eq!(engine.epoch(), Epoch(2));
    }
}

#[tokio::test]
async fn time_that_only_passes_is_no_leap_however_long_nobody_looked() {
    let stage = Stage::open().await;
    let now = at("2026-03-01T02:00:00Z");
    let (engine, clock) = engine(&stage, now).await;
    let mut ticker = Ticker::new(engine.clone());
    under_way(&stage, engine.epoch(), now).await;
    // A stopped process: both clocks went on.
    clock.advance(Duration::from_secs(9 * 3600));
    ticker.step().await.unwrap();
    // A clock that is brought right a minute at a time.
    clock.jump_to(now + SignedDuration::from_hours(9) + SignedDuration::from_secs(60));
    ticker.step().await.unwrap();
    let (epoch, unknown, _) = states(&stage).await;
    assert_eq!((epoch, unknown), (1, 0));
}

#[tokio::test]
async fn a_leap_while_the_database_takes_nothing_is_made_up_for_when_it_does() {
    let stage = Stage::open().await;
    let now = at("2026-03-01T02:00:00Z");
    let (engine, clock) = engine(&stage, now).await;
    let mut ticker = Ticker::new(engine.clone());
    under_way(&stage, engine.epoch(), now).await;
    let mut other = stage.sql().await;
    let refuse = "CREATE TRIGGER no_room BEFORE UPDATE ON daemon BEGIN SELECT RAISE(ABORT, 'no room'); END";
    sqlx::query(refuse).execute(&mut other).await.unwrap();

    clock.jump_to(now + SignedDuration::from_hours(1));
    for _ in 0..2 {
        ticker.step().await.unwrap_err();
        assert_eq!(states(&stage).await.0, 1);
    }
    sqlx::query("DROP TRIGGER no_room").execute(&mut other).await.unwrap();
    ticker.step().await.unwrap();

    let (epoch, unknown, _) = states(&stage).await;
    assert_eq!((epoch, unknown), (2, 1));
}

#[tokio::test]
async fn a_clock_set_back_fires_on_from_there_and_no_instant_twice() {
    let stage = Stage::open().await;
    let (engine, clock) = engine(&stage, start()).await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    engine.plan_schedules().await.unwrap();
    let mut ticker = Ticker::new(engine.clone());
    let at_four = at("2026-03-01T04:00:00Z");
    for at in
        [at_four, at_four - SignedDuration::from_hours(1), at_four, at_four + SignedDuration::from_hours(24)]
    {
        clock.jump_to(at);
        ticker.step().await.unwrap();
    }
    let due = "SELECT count(*) FROM runs WHERE due_at_ms = unixepoch('2026-03-01T04:00:00Z') * 1000";
    assert_eq!(stage.count(due).await, 1);
    assert_eq!(stage.count("SELECT count(DISTINCT due_at_ms) FROM runs").await, 2, "the next day fires too");
}
