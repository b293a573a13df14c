//! Which run has its turn when, and how many at once.

use renewd::domain::policy::Policy;
use renewd::domain::product::Product;
use renewd::engine::Step;
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use renewd::store::Trigger;

use super::scene::{RENEW_REDIS, Scene, TO_THE_FIRING, operator, seconds};
use crate::fleet::{days, policy};

/// Longer than any call waits: no answer comes while a test looks.
const NO_ANSWER: Spoilt = Spoilt::Stall(std::time::Duration::from_secs(60));

/// Of real time, for what must not happen meanwhile.
const A_MOMENT: std::time::Duration = std::time::Duration::from_millis(30);

async fn trigger(scene: &mut Scene, policy: &str, instance: &str) {
    let now = scene.now();
    let wanted = Trigger { policy: policy.to_owned(), instance: Some(instance.to_owned()), again: false };
    scene.store().trigger(&wanted, &operator(now)).await.unwrap();
}

#[tokio::test]
async fn what_expires_soonest_is_ordered_first_by_what_was_just_seen() {
    let all = policy("cache", "shop", Product::REDIS, &["crs-1", "crs-2", "crs-3", "crs-4"]);
    let mut scene = Scene::open(&[("crs-1", 3), ("crs-2", 7), ("crs-3", 5), ("crs-4", 9)], &[all]).await;
    // Queued as the first, and by now the last.
    let later = scene.stage.instance("crs-1").expires_at + days(9);
    scene.stage.change("crs-1", |change| change.expires_at = Some(later));
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.charged(), ["crs-3", "crs-2", "crs-4", "crs-1"]);
}

#[tokio::test]
async fn of_one_expiry_the_run_that_was_queued_first_goes_first() {
    let ids = ["crs-5", "crs-1", "crs-4", "crs-2", "crs-3"];
    let left = ids.map(|id| (id, 5));
    let mut scene = Scene::open(&left, &[policy("cache", "shop", Product::REDIS, &ids)]).await;
    scene.fire().await;
    let mut by_run = Vec::new();
    for id in ids {
        by_run.push((scene.run(id).await.id, id));
    }
    by_run.sort_unstable();
    scene.work("shop").await;
    assert_eq!(scene.charged(), by_run.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_round_says_whether_there_was_anything_to_do() {
    let ids = ["crs-1", "crs-2"];
    let mut scene =
        Scene::open(&[("crs-1", 40), ("crs-2", 41)], &[policy("cache", "shop", Product::REDIS, &ids)]).await;
    assert_eq!(scene.step("shop").await, Step::Idle);
    scene.fire().await;
    let looks = scene.asked(super::scene::DESCRIBE_REDIS);
    assert_eq!(scene.step("shop").await, Step::Worked);
    assert_eq!(scene.step("shop").await, Step::Idle);
    // Neither was worth a place at the till, and one call looked at both.
    assert_eq!(scene.asked(super::scene::DESCRIBE_REDIS), looks + 1);
    assert_eq!(scene.told("run.started", &["instance"]), [""; 0]);
    let skipped = scene.told("run.skipped", &["instance", "due_at"]);
    assert_eq!(skipped, ["info crs-1 2026-03-02T04:00:00Z", "info crs-2 2026-03-02T04:00:00Z"]);
    assert_eq!(scene.states("crs-1").await, ["skipped"]);
    let reason = scene.reason("crs-1").await;
    assert!(reason.starts_with("not due: it expires at 2026-04-11"), "{reason}");
}

/// One that fires hours after the others.
fn late() -> Policy {
    crate::fleet::with(policy("late", "shop", Product::REDIS, &["crs-9"]), |policy| {
        policy.schedule = crate::fleet::schedule("0 9 * * *");
    })
}

/// Two due in hand; what becomes urgent meanwhile has its turn before the second.
#[tokio::test]
async fn while_all_that_was_claimed_is_due_more_is_claimed_at_once() {
    let mut scene = Scene::open(
        &[("crs-1", 5), ("crs-2", 6), ("crs-9", 1)],
        &[policy("cache", "shop", Product::REDIS, &["crs-1", "crs-2"]), late()],
    )
    .await;
    scene.fire().await;
    scene.step("shop").await;
    trigger(&mut scene, "late", "crs-9").await;
    scene.work("shop").await;
    assert_eq!(scene.charged(), ["crs-1", "crs-9", "crs-2"]);
}

#[tokio::test]
async fn behind_a_run_that_needed_no_order_nothing_is_claimed_before_the_hand_is_empty() {
    let mut scene = Scene::open(
        &[("crs-1", 5), ("crs-2", 6), ("crs-3", 50), ("crs-9", 60)],
        &[policy("cache", "shop", Product::REDIS, &["crs-1", "crs-2", "crs-3"]), late()],
    )
    .await;
    scene.fire().await;
    scene.step("shop").await;
    trigger(&mut scene, "late", "crs-9").await;
    scene.step("shop").await;
    assert_eq!(scene.states("crs-9").await, ["queued"]);
    scene.work("shop").await;
    assert_eq!(scene.states("crs-9").await, ["skipped"]);
    assert_eq!(scene.charged(), ["crs-1", "crs-2"]);
}

#[tokio::test]
async fn a_slow_answer_holds_up_no_other_order() {
    let ids = ["crs-1", "crs-2"];
    let mut scene =
        Scene::open(&[("crs-1", 5), ("crs-2", 6)], &[policy("cache", "shop", Product::REDIS, &ids)]).await;
    scene.stage.cloud.inject(vec![Fault::spoil(RENEW_REDIS, Effect::After, NO_ANSWER).on("crs-1")]);
    scene.fire().await;
    scene.step("shop").await;
    scene.step("shop").await;
    assert_eq!(scene.order("crs-1").await.state, "intended");
    assert_eq!(scene.orders("crs-2").await.len(), 1);
}

#[tokio::test]
async fn no_more_than_sixty_four_requests_are_under_way_at_once() {
    let ids: Vec<String> = (0..66).map(|number| format!("crs-{number:02}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let instances: Vec<(&str, i64)> = ids.iter().map(|id| (*id, 5)).collect();
    let mut scene = Scene::open(&instances, &[policy("cache", "shop", Product::REDIS, &ids)]).await;
    scene.spoil(RENEW_REDIS, Effect::After, NO_ANSWER, 66);
    scene.fire().await;
    for _ in 0..64 {
        scene.step("shop").await;
    }
    // Whoever comes next waits for an answer, and none comes so soon.
    let _ = tokio::time::timeout(A_MOMENT, scene.step("shop")).await;
    let mut under_way = 0;
    for id in &ids {
        under_way += scene.orders(id).await.iter().filter(|order| order.state == "intended").count();
    }
    assert!(under_way <= 64, "{under_way}");
}

/// As after a leap of the clock: rescue has put back what the lane had in hand.
#[tokio::test]
async fn what_another_epoch_claimed_is_claimed_anew_and_ordered_once() {
    let ids = ["crs-1", "crs-2", "crs-3"];
    let left = [("crs-1", 5), ("crs-2", 6), ("crs-3", 7)];
    let mut scene = Scene::open(&left, &[policy("cache", "shop", Product::REDIS, &ids)]).await;
    scene.fire().await;
    scene.serve("shop").await;
    scene.stage.life().engine.begin_epoch().await.unwrap();
    scene.work("shop").await;
    assert_eq!(scene.charged(), ids);
    // Each was taken to the till once in the life that ordered it.
    assert_eq!(scene.told("run.started", &["instance", "attempt"]).len(), 3);
}

#[tokio::test]
async fn lanes_leave_alone_what_is_another_accounts() {
    let both = [
        policy("cache", "shop", Product::REDIS, &["crs-1"]),
        policy("other", "lab", Product::REDIS, &["crs-2"]),
    ];
    let mut scene = Scene::open(&[("crs-1", 5), ("crs-2", 6)], &both).await;
    scene.pass(TO_THE_FIRING + seconds(1)).await;
    scene.work("lab").await;
    assert_eq!(scene.charged(), ["crs-2"]);
    assert_eq!(scene.states("crs-1").await, ["queued"]);
}
