//! Sets of policies taken into force one after the other.

use std::time::Duration;

use jiff::SignedDuration;
use renewd::domain::policy::{Policy, ScheduleText};
use renewd::store::{OrderMove, OrderStep};

use crate::firings::engine;
use crate::stage::{Stage, at, days, policy, start};

fn change(name: &str, revision: i64, kind: &'static str) -> (String, i64, &'static str) {
    (name.to_owned(), revision, kind)
}

#[tokio::test]
async fn each_set_says_what_it_added_changed_brought_back_and_retired() {
    let stage = Stage::open().await;
    let (a, b) = (policy("a", &["crs-1"]), policy("b", &["crs-2"]));
    let edited = policy("a", &["crs-1", "crs-3"]);
    let first = stage.apply(&[a.clone(), b.clone()], start()).await;
    assert_eq!(first, [change("a", 1, "added"), change("b", 1, "added")]);
    assert_eq!(stage.apply(&[a, b.clone()], start()).await, []);
    let third = stage.apply(std::slice::from_ref(&edited), start()).await;
    assert_eq!(third, [change("a", 2, "changed"), change("b", 1, "retired")]);
    let fourth = stage.apply(&[edited.clone(), b], start()).await;
    assert_eq!(fourth, [change("b", 1, "returned")]);
    let other = policy("b", &["crs-4"]);
    stage.apply(std::slice::from_ref(&edited), start()).await;
    assert_eq!(stage.apply(&[edited, other], start()).await, [change("b", 2, "changed")]);
    assert_eq!(stage.count("SELECT count(*) FROM policy_revisions").await, 4);
}

#[tokio::test]
async fn a_name_that_comes_back_is_owed_what_it_missed_while_it_was_away() {
    let stage = Stage::open().await;
    let cache = policy("cache", &["crs-1"]);
    stage.apply(std::slice::from_ref(&cache), start()).await;
    stage.apply(&[], start() + days(1)).await;
    stage.apply(&[cache], start() + days(3)).await;
    let (engine, _) = engine(&stage, start() + days(3)).await;
    engine.plan_schedules().await.unwrap();
    engine.fire_due().await.unwrap();
    let runs = stage.runs().await;
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].origin.as_str(), runs[0].missed_count), ("catch_up", 3));
}

#[tokio::test]
async fn a_newcomer_on_a_schedule_that_slept_is_owed_nothing_from_before() {
    let stage = Stage::open().await;
    stage.apply(&[policy("first", &["crs-1"])], start()).await;
    stage.apply(&[], start()).await;
    stage.apply(&[policy("second", &["crs-2"])], start() + days(3)).await;
    let (engine, _) = engine(&stage, start() + days(3)).await;
    engine.plan_schedules().await.unwrap();
    engine.fire_due().await.unwrap();
    assert!(stage.runs().await.is_empty());
}

#[tokio::test]
async fn a_policy_with_another_schedule_or_enabled_again_starts_at_now() {
    let stage = Stage::open().await;
    let daily = policy("cache", &["crs-1"]);
    let hourly = Policy {
        schedule: ScheduleText { expression: "@hourly".to_owned(), zone: "UTC".to_owned() },
        ..daily.clone()
    };
    stage.apply(&[daily], start()).await;
    stage.apply(std::slice::from_ref(&hourly), start() + days(3)).await;
    let active_since = "SELECT active_since_ms FROM policies";
    assert_eq!(stage.count(active_since).await, (start() + days(3)).as_millisecond());
    stage.apply(&[Policy { enabled: false, ..hourly.clone() }], start() + days(4)).await;
    stage.apply(&[hourly], start() + days(5)).await;
    assert_eq!(stage.count(active_since).await, (start() + days(5)).as_millisecond());
}

#[tokio::test]
async fn unsent_runs_of_a_stopped_policy_are_cancelled_after_ten_minutes_and_sent_ones_are_kept() {
    let stage = Stage::open().await;
    let (engine, clock) = engine(&stage, start()).await;
    let cache = policy("cache", &["crs-1", "crs-2", "crs-3", "crs-4"]);
    stage.apply(std::slice::from_ref(&cache), start()).await;
    let now = at("2026-03-01T04:00:00Z");
    for id in ["crs-1", "crs-2", "crs-3", "crs-4"] {
        stage.see(id, now, now + days(3)).await;
    }
    stage.fire(now).await;
    let mut claims = stage.claim(engine.epoch()).await;
    let unknown = stage.intend(&claims[0], now).await.unwrap().row();
    let placed = stage.intend(&claims[1], now).await.unwrap().row();
    let failure = renewd::domain::failure::Failure::ours(
        renewd::domain::failure::Class::Unknown,
        "Timeout",
        "no answer",
    );
    let steps = [
        (unknown, &claims[0], OrderStep::Unknown { failure, next_look_at: now }),
        (placed, &claims[1], OrderStep::Placed { order_id: None, request_id: None, next_look_at: now }),
    ];
    for (row, claim, step) in steps {
        let order_move =
            OrderMove { row, run: claim.job.run, at: now, sent_at: None, step, look: None, amount: None };
        assert!(stage.store.move_order(order_move).await.unwrap());
    }
    stage.store.release(claims.split_off(2)).await.unwrap();

    clock.jump_to(now);
    stage.apply(&[Policy { enabled: false, ..cache }], now).await;
    assert!(stage.claim(engine.epoch()).await.is_empty(), "nothing more is begun");
    let states = async || {
        let mut states: Vec<String> = stage.runs().await.into_iter().map(|run| run.state).collect();
        states.sort();
        states
    };
    clock.advance(Duration::from_millis(599_999));
    engine.each_minute().await.unwrap();
    assert_eq!(states().await, ["queued", "queued", "unknown", "waiting"]);
    clock.advance(Duration::from_millis(1));
    engine.each_minute().await.unwrap();
    assert_eq!(states().await, ["cancelled", "cancelled", "unknown", "waiting"]);
}

#[tokio::test]
async fn an_instance_taken_out_of_its_policy_loses_its_unsent_run_alone() {
    let stage = Stage::open().await;
    let (engine, clock) = engine(&stage, start()).await;
    stage.apply(&[policy("cache", &["crs-1", "crs-2"])], start()).await;
    let now = start() + SignedDuration::from_hours(4);
    stage.fire(now).await;
    stage.apply(&[policy("cache", &["crs-2"])], now).await;
    clock.jump_to(now + SignedDuration::from_mins(10));
    engine.each_minute().await.unwrap();
    let cancelled = stage.runs().await.into_iter().filter(|run| run.state == "cancelled");
    let cancelled: Vec<String> = cancelled.map(|run| run.instance).collect();
    assert_eq!(cancelled, ["crs-1"]);
}

#[tokio::test]
async fn a_policy_that_comes_back_within_the_grace_keeps_its_runs() {
    let stage = Stage::open().await;
    let (engine, clock) = engine(&stage, start()).await;
    let cache = policy("cache", &["crs-1"]);
    stage.apply(std::slice::from_ref(&cache), start()).await;
    let now = start() + SignedDuration::from_hours(4);
    stage.fire(now).await;
    stage.apply(&[], now).await;
    stage.apply(&[cache], now + SignedDuration::from_mins(9)).await;
    clock.jump_to(now + SignedDuration::from_mins(30));
    engine.each_minute().await.unwrap();
    assert_eq!(stage.claim(engine.epoch()).await.len(), 1);
}
