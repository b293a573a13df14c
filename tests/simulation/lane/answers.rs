//! What comes of an order that was answered well, not at all, or too late.

use jiff::SignedDuration;
use renewd::domain::order::{OrderId, OrderRow};
use renewd::domain::product::Product;
use renewd::engine::Reconcile;
use renewd::sandbox::faults::{Effect, Spoilt};

use super::scene::{PATIENCE, RENEW_REDIS, Scene, operator, seconds};
use crate::fleet::{ECS, policy};

/// Time enough for somebody to settle it before.
const SLOW: Spoilt = Spoilt::Stall(std::time::Duration::from_millis(400));

async fn scene() -> Scene {
    Scene::open(&[("crs-1", 9)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await
}

#[tokio::test]
async fn an_order_that_was_accepted_is_placed_and_told_once() {
    let mut scene = scene().await;
    scene.fire().await;
    scene.work("shop").await;
    let order = scene.order("crs-1").await;
    let number = scene.stage.cloud.ledger()[0].order_id.clone();
    assert_eq!((order.state.as_str(), order.order_id.as_deref()), ("placed", Some(number.as_str())));
    assert_eq!(order.look_s, Some(1), "looked at at once");
    let run = scene.run("crs-1").await;
    assert_eq!((run.state.as_str(), run.hold.as_deref()), ("waiting", Some("confirmation")));
    let told =
        scene.told("order.placed", &["policy", "account", "instance", "order_row", "order_id", "message"]);
    assert_eq!(told, [format!("info cache shop crs-1 1 {number} order {number} for crs-1 is placed")]);
    let request_id = scene.told("order.placed", &["request_id", "duration_ms"]).remove(0);
    assert!(!request_id.contains('-') || request_id.len() > 20, "{request_id}");
    for silent in ["order.unknown", "order.refused", "run.waiting", "run.retry", "run.failed"] {
        assert_eq!(scene.told(silent, &["message"]), [""; 0], "{silent}");
    }
    assert_eq!(scene.asked("billing:DescribeAccountBalance"), 0);
}

#[tokio::test]
async fn an_order_that_nobody_can_speak_for_is_unknown_and_told_as_a_warning() {
    let mut scene = scene().await;
    scene.spoil(RENEW_REDIS, Effect::After, Spoilt::Drop, 1);
    scene.fire().await;
    scene.work("shop").await;
    let order = scene.order("crs-1").await;
    assert_eq!((order.state.as_str(), order.code.as_deref()), ("unknown", Some("ConnectionCut")));
    assert_eq!(order.look_s, Some(1), "looked at at once");
    assert_eq!(scene.states("crs-1").await, ["unknown"]);
    let reason = scene.reason("crs-1").await;
    assert!(reason.starts_with("its order is unknown: ConnectionCut (unknown)"), "{reason}");
    let told = scene.told("order.unknown", &["instance", "order_row", "class", "code"]);
    assert_eq!(told, ["warn crs-1 1 unknown ConnectionCut"]);
    assert_eq!(scene.asked("billing:DescribeAccountBalance"), 0);
}

/// The send is under way when the clock leaps: the order is unknown in the new epoch, and a person settles it.
async fn settled_under_way(settle: impl AsyncFnOnce(&mut Scene, OrderId)) -> Scene {
    let mut scene = scene().await;
    scene.spoil(RENEW_REDIS, Effect::After, SLOW, 1);
    scene.fire().await;
    scene.step("shop").await;
    scene.until(|scene| !scene.charged().is_empty()).await;
    scene.stage.life().engine.begin_epoch().await.unwrap();
    let number = OrderId(scene.stage.cloud.ledger()[0].order_id.clone());
    settle(&mut scene, number).await;
    scene.forget_told();
    scene.lane("shop").settle().await;
    scene
}

fn late(scene: &Scene) -> Vec<String> {
    let events = ["order.placed", "order.unknown"];
    let lines = events.iter().flat_map(|event| scene.told(event, &["order_row", "message"]));
    // The answer itself is told first, as each is.
    lines.filter(|line| !line.contains("is placed")).collect()
}

const SAYS_THE_SAME: &str = "debug 1 the answer to the confirmed order for crs-1 came late and says the same";
const COMPARE: &str = "error 1 the cloud accepted the order for crs-1 after its row 1 was settled: compare both in the \
                       console";

#[tokio::test]
async fn a_late_answer_that_says_what_was_settled_is_no_news() {
    let scene = settled_under_way(async |scene, number| {
        let now = scene.now();
        scene.store().resolve_paid(OrderRow(1), Some(number), &operator(now)).await.unwrap();
    })
    .await;
    assert_eq!(late(&scene), [SAYS_THE_SAME]);
}

#[tokio::test]
async fn a_late_answer_gives_its_number_to_an_order_that_was_called_paid_without_one() {
    let mut scene = settled_under_way(async |scene, _| {
        let now = scene.now();
        scene.store().resolve_paid(OrderRow(1), None, &operator(now)).await.unwrap();
    })
    .await;
    assert_eq!(late(&scene), [SAYS_THE_SAME]);
    let number = scene.stage.cloud.ledger()[0].order_id.clone();
    assert_eq!(scene.order("crs-1").await.order_id, Some(number));
}

#[tokio::test]
async fn a_late_answer_with_another_number_is_for_a_person_to_compare() {
    let scene = settled_under_way(async |scene, _| {
        let (now, other) = (scene.now(), OrderId("20990101000000".to_owned()));
        scene.store().resolve_paid(OrderRow(1), Some(other), &operator(now)).await.unwrap();
    })
    .await;
    assert_eq!(late(&scene), [COMPARE]);
}

#[tokio::test]
async fn a_late_answer_to_an_order_that_was_called_unpaid_is_for_a_person_to_compare() {
    let mut scene = settled_under_way(async |scene, _| {
        let now = scene.now();
        scene.store().resolve_not_paid(OrderRow(1), true, &operator(now)).await.unwrap();
    })
    .await;
    assert_eq!(late(&scene), [COMPARE]);
    assert_eq!(scene.order("crs-1").await.state, "refused", "settled stays settled");
}

/// The cloud that takes tokens names the first order when it is asked again with the same one.
#[tokio::test]
async fn a_token_that_was_sent_is_remembered_for_the_same_request_again() {
    let mut scene = Scene::open(&[("i-1", 9)], &[policy("farm", "farm", ECS, &["i-1"])]).await;
    scene.spoil("ecs:RenewInstance", Effect::Before, Spoilt::Drop, 1);
    scene.fire().await;
    scene.work("farm").await;
    assert_eq!(scene.order("i-1").await.state, "unknown");
    scene.stage.clocks.advance(seconds(30));
    let account = scene.account("farm");
    let engine = std::sync::Arc::clone(&scene.stage.life().engine);
    Reconcile::new(engine, account).step().await.unwrap();
    assert_eq!(scene.order("i-1").await.repeats, 1);
    assert_eq!(scene.charged(), ["i-1"]);
}

/// A failure that passes is waited out; what the cloud said is kept meanwhile.
#[tokio::test]
async fn an_answer_that_the_database_does_not_take_is_written_again_and_not_given_up() {
    let mut scene = scene().await;
    scene.fire().await;
    scene
        .sql(
            "CREATE TRIGGER broken BEFORE UPDATE OF state ON orders WHEN NEW.state = 'placed'
             BEGIN SELECT RAISE(ABORT, 'no room'); END",
        )
        .await;
    scene.step("shop").await;
    scene.until(|scene| !scene.told("database.failed", &[]).is_empty()).await;
    let told = scene.told("database.failed", &["run", "order_row", "message"]).remove(0);
    assert!(
        told.starts_with("error 1 1 the answer to order row 1 could not be recorded, trying again: "),
        "{told}"
    );
    scene.sql("DROP TRIGGER broken").await;
    scene.lane("shop").settle().await;
    assert_eq!(scene.order("crs-1").await.state, "placed");
}

/// Nothing is written to a damaged database any more: the log has the answer, and the lane can end.
#[tokio::test]
async fn an_answer_that_a_damaged_database_cannot_take_is_left_to_the_log() {
    let mut scene = scene().await;
    scene.fire().await;
    // An index that has lost its pages, met when the answer is written.
    scene
        .sql(
            "CREATE VIRTUAL TABLE lost USING fts5 (word);
             DELETE FROM lost_data;
             CREATE TRIGGER broken BEFORE UPDATE OF state ON orders WHEN NEW.state = 'placed'
             BEGIN INSERT INTO lost VALUES ('word'); END",
        )
        .await;
    scene.step("shop").await;
    let settled = tokio::time::timeout(PATIENCE, scene.lane("shop").settle()).await;
    settled.expect("it is not tried for ever");
    let told = scene.told("database.failed", &["order_row", "message"]);
    let words = "error 1 the answer to order row 1 could not be recorded, its log says what it was: ";
    assert!(told[0].starts_with(words), "{told:?}");
    assert_eq!(scene.told("order.placed", &["order_row"]), ["info 1"], "and it does");
    assert_eq!(scene.order("crs-1").await.state, "intended");
}

/// Each answer carries the cloud's clock: what comes next is judged by it.
#[tokio::test]
async fn the_answer_to_an_order_tells_how_far_the_clock_is_off() {
    let ids = ["crs-1", "crs-2", "crs-3"];
    let left = [("crs-1", 5), ("crs-2", 6), ("crs-3", 7)];
    let mut scene = Scene::open(&left, &[policy("cache", "shop", Product::REDIS, &ids)]).await;
    scene.fire().await;
    scene.stage.clocks.jump(SignedDuration::from_secs(50));
    scene.serve("shop").await;
    assert_eq!(scene.told("clock.skewed", &[]), [""; 0]);
    scene.stage.clocks.jump(SignedDuration::from_secs(20));
    scene.serve("shop").await;
    assert_eq!(scene.told("clock.skewed", &["account"]), ["error shop"]);
    scene.work("shop").await;
    assert_eq!(scene.run("crs-3").await.code.as_deref(), Some("ClockSkewed"));
    assert_eq!(scene.charged(), ["crs-1", "crs-2"]);
}
