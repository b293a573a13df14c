//! Due instants become runs once each, whatever happened in between.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use renewd::clock::ManualClock;
use renewd::domain::policy::Policy;
use renewd::engine::{Engine, Settings};
use renewd::retry::Pace;
use renewd::store::RunRecord;

use crate::stage::{Stage, at, days, every_fire, policy, start};

/// The engine of one life; without accounts it only fires.
pub async fn engine(stage: &Stage, now: Timestamp) -> (Arc<Engine>, Arc<ManualClock>) {
    let second = Duration::from_secs(1);
    let pace = Pace { first_delay: second, max_delay: second, max_attempts: 1 };
    let settings = Settings { pace, settle: second, zone: TimeZone::UTC };
    let clock = Arc::new(ManualClock::new(now));
    let engine = Arc::new(Engine::new(stage.store.clone(), clock.clone(), Vec::new(), settings));
    engine.begin_epoch().await.unwrap();
    (engine, clock)
}

fn fleet(policies: usize) -> Vec<Policy> {
    let policy = |number: usize| {
        let ids: Vec<String> = (0..1000).map(|id| format!("crs-{number}-{id}")).collect();
        policy(&format!("fleet-{number}"), &ids.iter().map(String::as_str).collect::<Vec<_>>())
    };
    (0..policies).map(policy).collect()
}

async fn assert_one_run_each(stage: &Stage, wanted: i64) {
    assert_eq!(stage.count("SELECT count(*) FROM runs").await, wanted);
    assert_eq!(stage.count("SELECT count(DISTINCT instance_id) FROM runs").await, wanted);
    assert_eq!(stage.count("SELECT count(*) FROM firings").await, 0);
}

/// Origin, due instant and missed count of each run of a policy, oldest first.
async fn runs_of(stage: &Stage, policy: &str) -> Vec<(String, Timestamp, u32)> {
    let of_policy = |run: &RunRecord| run.policy == policy;
    let mut runs: Vec<RunRecord> = stage.runs().await.into_iter().filter(of_policy).collect();
    runs.sort_by_key(|run| run.id);
    runs.into_iter().map(|run| (run.origin, at(&run.due_at), run.missed_count)).collect()
}

#[tokio::test]
async fn ten_thousand_instances_due_in_one_second_are_queued_once_each() {
    let stage = Stage::open().await;
    let (engine, clock) = engine(&stage, start()).await;
    stage.apply(&fleet(10), start()).await;
    engine.plan_schedules().await.unwrap();
    clock.jump_to(at("2026-03-01T04:00:00Z"));
    for _ in 0..2 {
        engine.fire_due().await.unwrap();
    }
    assert_one_run_each(&stage, 10_000).await;
}

#[tokio::test]
async fn a_crash_between_two_chunks_loses_and_doubles_nothing() {
    let stage = Stage::open().await;
    stage.apply(&fleet(12), start()).await;
    let due_at = at("2026-03-01T04:00:00Z");
    stage.record_firing(due_at).await;
    let stage = stage.reopen().await;
    assert!(stage.store.queue_runs(due_at).await.unwrap().is_some());
    let queued = stage.count("SELECT count(*) FROM runs").await;
    assert!((1..12_000).contains(&queued), "{queued} in the first chunk");

    let stage = stage.reopen().await;
    let (engine, _) = engine(&stage, due_at).await;
    engine.fire_due().await.unwrap();
    assert_one_run_each(&stage, 12_000).await;
}

#[tokio::test]
async fn a_firing_planned_from_an_outdated_watermark_is_void() {
    let stage = Stage::open().await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    let due = at("2026-03-01T04:00:00Z");
    stage.fire(due).await;
    let moved = stage.store.schedules_due(Timestamp::MAX).await.unwrap().remove(0);
    let outdated = renewd::store::Firing {
        schedule_id: moved.id,
        watermark_before: start(),
        watermark: start() + days(9),
        next_due: None,
        rows: Vec::new(),
        too_old: Vec::new(),
    };
    stage.store.fire(vec![outdated]).await.unwrap();
    assert_eq!(stage.store.schedules_due(Timestamp::MAX).await.unwrap().remove(0).watermark, due);
}

#[tokio::test]
async fn missed_firings_fold_into_one_catch_up_that_counts_from_when_each_policy_became_active() {
    let stage = Stage::open().await;
    let old = policy("old", &["crs-1"]);
    stage.apply(std::slice::from_ref(&old), start()).await;
    let set = [old, policy("young", &["crs-2"]), every_fire(policy("monthly", &["crs-3"]))];
    stage.apply(&set[..2], at("2026-03-02T12:00:00Z")).await;
    let (engine, clock) = engine(&stage, at("2026-03-04T00:00:00Z")).await;
    engine.plan_schedules().await.unwrap();
    engine.fire_due().await.unwrap();
    clock.advance(Duration::from_secs(4 * 3600));
    engine.fire_due().await.unwrap();

    let last_missed = at("2026-03-03T04:00:00Z");
    let on_time = ("schedule".to_owned(), at("2026-03-04T04:00:00Z"), 0);
    let caught_up = |missed| ("catch_up".to_owned(), last_missed, missed);
    assert_eq!(runs_of(&stage, "old").await, [caught_up(3), on_time.clone()]);
    assert_eq!(runs_of(&stage, "young").await, [caught_up(1), on_time]);
}

#[tokio::test]
async fn policies_that_order_at_every_firing_catch_up_one_day_only() {
    let stage = Stage::open().await;
    stage.apply(&[every_fire(policy("monthly", &["crs-1"])), policy("cache", &["crs-2"])], start()).await;
    let (engine, _) = engine(&stage, at("2026-03-04T00:00:00Z")).await;
    engine.plan_schedules().await.unwrap();
    engine.fire_due().await.unwrap();
    let caught_up = |missed| ("catch_up".to_owned(), at("2026-03-03T04:00:00Z"), missed);
    assert_eq!(runs_of(&stage, "monthly").await, [caught_up(1)]);
    assert_eq!(runs_of(&stage, "cache").await, [caught_up(3)]);
}

#[tokio::test]
async fn a_watermark_moves_back_only_to_now_and_only_from_the_future() {
    let stage = Stage::open().await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    let watermark = async || stage.store.schedules_due(Timestamp::MAX).await.unwrap().remove(0).watermark;
    let (first, clock) = engine(&stage, start()).await;
    first.plan_schedules().await.unwrap();
    clock.jump_to(at("2026-03-03T04:00:00Z"));
    first.fire_due().await.unwrap();
    assert_eq!(watermark().await, at("2026-03-03T04:00:00Z"));

    engine(&stage, at("2026-03-05T00:00:00Z")).await;
    assert_eq!(watermark().await, at("2026-03-03T04:00:00Z"), "in the past it stays");

    let back = at("2026-03-02T00:00:00Z");
    let (third, clock) = engine(&stage, back).await;
    assert_eq!(watermark().await, back, "from the future it comes back to now");
    let before = runs_of(&stage, "cache").await;
    clock.jump_to(at("2026-03-03T04:00:00Z"));
    third.fire_due().await.unwrap();
    let again = runs_of(&stage, "cache").await;
    let newer: Vec<_> = again.iter().filter(|run| !before.contains(run)).collect();
    assert!(
        newer.iter().all(|(_, due_at, _)| *due_at < at("2026-03-03T04:00:00Z")),
        "no instant twice: {newer:?}"
    );
}

#[tokio::test]
async fn an_instant_on_time_is_not_caught_up_as_well() {
    let stage = Stage::open().await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    let (engine, clock) = engine(&stage, start()).await;
    engine.plan_schedules().await.unwrap();
    for day in 0..3 {
        clock.jump_to(at("2026-03-01T04:00:00Z") + days(day) + SignedDuration::from_secs(1));
        engine.fire_due().await.unwrap();
    }
    let origins: Vec<String> = runs_of(&stage, "cache").await.into_iter().map(|run| run.0).collect();
    assert_eq!(origins, ["schedule", "schedule", "schedule"]);
}
