//! How a lane ends, and how it goes on after the database failed it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use renewd::domain::product::Product;
use renewd::sandbox::faults::{Effect, Spoilt};
use tokio::sync::watch;

use super::scene::{A_TURN, PATIENCE, RENEW_REDIS, Scene};
use crate::fleet::policy;

const SLOW: Spoilt = Spoilt::Stall(std::time::Duration::from_millis(20));

async fn scene(instances: &[(&str, i64)]) -> Scene {
    let ids: Vec<&str> = instances.iter().map(|(id, _)| *id).collect();
    Scene::open(instances, &[policy("cache", "shop", Product::REDIS, &ids)]).await
}

/// A lane that has one order under way and another run in hand is told to stop.
async fn stopped_with_work_in_hand(before: &'static str) -> Scene {
    let mut scene = scene(&[("crs-1", 5), ("crs-2", 6)]).await;
    scene.spoil(RENEW_REDIS, Effect::After, SLOW, 1);
    let mut lane = scene.another_lane("shop");
    scene.fire().await;
    lane.step().await.unwrap();
    assert_eq!(scene.states("crs-2").await, ["running"]);
    scene.sql(before).await;
    let (_stop, stopped) = watch::channel(true);
    lane.run(stopped).await;
    scene
}

#[tokio::test]
async fn at_a_stop_what_is_in_hand_is_given_back_and_what_is_under_way_waited_for() {
    let mut scene = stopped_with_work_in_hand("").await;
    assert_eq!(scene.states("crs-2").await, ["queued"]);
    assert_eq!(scene.order("crs-1").await.state, "placed");
    assert!(scene.orders("crs-2").await.is_empty());
    assert_eq!(scene.told("database.failed", &[]), [""; 0]);
}

#[tokio::test]
async fn at_a_stop_a_database_that_takes_nothing_back_is_told_and_answers_are_still_waited_for() {
    let mut scene = stopped_with_work_in_hand(
        "CREATE TRIGGER broken BEFORE UPDATE OF state ON runs WHEN NEW.state = 'queued'
         BEGIN SELECT RAISE(ABORT, 'no room'); END",
    )
    .await;
    let told = scene.told("database.failed", &["message"]);
    assert_eq!(told, ["warn claimed runs were not given back; the next start does it"]);
    assert_eq!(scene.states("crs-2").await, ["running"]);
    assert_eq!(scene.order("crs-1").await.state, "placed");
}

/// Its order is recorded and its answer never will be: the service must not go on as if nothing were.
#[tokio::test]
async fn a_lane_ends_with_a_send_that_panicked() {
    let mut scene = scene(&[("crs-1", 5)]).await;
    scene.fire().await;
    scene.stage.clocks.break_in_tasks();
    scene.step("shop").await;
    let steps = async {
        while AssertUnwindSafe(scene.step("shop")).catch_unwind().await.is_ok() {
            tokio::time::sleep(A_TURN).await;
        }
    };
    tokio::time::timeout(PATIENCE, steps).await.expect("it does not go on without the answer");
    assert_eq!(scene.order("crs-1").await.state, "intended");
}

/// Claimed, judged, and its end not written: nobody has it in hand.
#[tokio::test]
async fn a_run_that_a_failure_of_the_database_left_in_nobodys_hand_is_found_again() {
    let mut scene = scene(&[("crs-1", 40)]).await;
    scene.fire().await;
    scene
        .sql(
            "CREATE TRIGGER broken BEFORE UPDATE OF state ON runs WHEN NEW.state IN ('skipped', 'queued')
             BEGIN SELECT RAISE(ABORT, 'no room'); END",
        )
        .await;
    let (stop, stopped) = watch::channel(false);
    let lane = tokio::spawn(scene.another_lane("shop").run(stopped));
    scene.until(|scene| !scene.told("database.failed", &[]).is_empty()).await;
    assert_eq!(scene.states("crs-1").await, ["running"]);
    // What it has lost it cannot find either, as long as nothing can be written.
    wake(&mut scene).await;
    for _ in 0..50 {
        assert_eq!(scene.states("crs-1").await, ["running"]);
    }
    scene.sql("DROP TRIGGER broken").await;
    wake(&mut scene).await;
    let looking = async {
        while scene.states("crs-1").await != ["skipped"] {
            tokio::time::sleep(A_TURN).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it is not lost until the next start");
    stop.send(true).unwrap();
    let ended = tokio::time::timeout(PATIENCE, lane).await;
    ended.expect("it ends when it is told to").unwrap();
    assert_eq!(scene.told("database.recovered", &["message"]).len(), 1);
}

/// As a reload does it: each lane looks at once.
async fn wake(scene: &mut Scene) {
    let engine = Arc::clone(&scene.stage.life().engine);
    let settings = crate::life::settings();
    engine.replace(settings, engine.accounts().as_ref().clone(), Vec::new()).await.unwrap();
}
