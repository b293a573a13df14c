//! Several firings of one policy for one instance that come to the lane together, or while an earlier one waits.

use renewd::domain::policy::{OnAutoRenew, Policy, RenewWhen};
use renewd::domain::product::Product;
use renewd::engine::Settings;
use renewd::retry::Pace;
use renewd::sandbox::faults::{Effect, Spoilt};
use renewd::sandbox::instance::Switch;
use renewd::store::Trigger;

use super::scene::{DESCRIBE_REDIS, RENEW_REDIS, Scene, operator, seconds};
use crate::fleet::{policy, renew, schedule, with};

const BUSY: &str = "ResourceUnavailable.InstanceLockedError";
const HOUR: u64 = 3600;

fn hourly() -> Policy {
    with(policy("cache", "shop", Product::REDIS, &["crs-1"]), |policy| {
        policy.schedule = schedule("0 * * * *");
    })
}

fn each_hour() -> Policy {
    with(hourly(), |policy| policy.terms.action = renew(1, RenewWhen::EveryFire))
}

/// With so many attempts before a run counts as used up.
async fn scene(policy: Policy, max_attempts: u32) -> Scene {
    let mut scene = Scene::open(&[("crs-1", 9)], &[policy]).await;
    let pace = Pace { first_delay: seconds(30), max_delay: seconds(HOUR), max_attempts };
    let settings = Settings { pace, settle: crate::life::SETTLE, zone: jiff::tz::TimeZone::UTC };
    let engine = &scene.stage.life().engine;
    engine.replace(settings, engine.accounts().as_ref().clone(), Vec::new()).await.unwrap();
    scene
}

#[tokio::test]
async fn firings_of_every_fire_that_were_held_up_together_are_made_up_for_by_the_latest() {
    let mut scene = scene(each_hour(), 12).await;
    for _ in 0..3 {
        scene.pass(seconds(HOUR)).await;
    }
    scene.work("shop").await;
    assert_eq!(scene.states("crs-1").await, ["skipped", "skipped", "waiting"]);
    assert_eq!(scene.charged(), ["crs-1"]);
    let reasons = scene.runs("crs-1").await.into_iter().map(|run| run.reason.unwrap());
    assert_eq!(
        reasons.take(2).collect::<Vec<_>>(),
        ["it was held up, and a later firing makes up for it"; 2]
    );
    let skipped = scene.told("run.skipped", &["run", "message"]);
    assert_eq!(skipped[0], "info 1 crs-1 is skipped: it was held up, and a later firing makes up for it");
}

#[tokio::test]
async fn a_persons_word_is_neither_folded_into_a_firing_nor_a_firing_into_it() {
    let mut scene = scene(each_hour(), 12).await;
    scene.pass(seconds(HOUR)).await;
    let now = scene.now();
    let trigger = Trigger { policy: "cache".to_owned(), instance: None, again: true };
    scene.store().trigger(&trigger, &operator(now)).await.unwrap();
    scene.work("shop").await;
    let reasons: Vec<_> = scene.runs("crs-1").await.into_iter().filter_map(|run| run.reason).collect();
    assert!(reasons.iter().all(|reason| !reason.contains("makes up for it")), "{reasons:?}");
}

#[tokio::test]
async fn of_two_firings_within_a_term_that_come_together_the_first_orders() {
    let mut scene = scene(hourly(), 12).await;
    scene.pass(seconds(HOUR)).await;
    scene.pass(seconds(HOUR)).await;
    scene.work("shop").await;
    assert_eq!(scene.states("crs-1").await, ["waiting", "skipped"]);
    assert_eq!(scene.reason("crs-1").await, "run 1 of an earlier firing is still under way");
    assert_eq!(scene.charged(), ["crs-1"]);
}

/// What never counts as an attempt does not use them up either.
#[tokio::test]
async fn a_later_firing_leaves_the_order_to_an_earlier_one_with_attempts_left() {
    let mut scene = scene(hourly(), 2).await;
    scene.refuse(RENEW_REDIS, BUSY, 1);
    scene.pass(seconds(HOUR - 20)).await;
    trigger_of_the_policy(&mut scene).await;
    scene.work("shop").await;
    let first = scene.run("crs-1").await;
    assert_eq!((first.state.as_str(), first.attempts), ("waiting", 1));
    scene.pass(seconds(20)).await;
    scene.forget_told();
    scene.work("shop").await;
    assert_eq!(scene.states("crs-1").await, ["waiting", "skipped"]);
    let skipped = scene.told("run.skipped", &["policy", "instance", "run", "due_at", "message"]);
    let words = "crs-1 is skipped: run 1 of an earlier firing is still under way";
    assert_eq!(skipped, [format!("info cache crs-1 2 2026-03-02T02:00:00Z {words}")]);
}

#[tokio::test]
async fn a_later_firing_takes_over_from_one_whose_attempts_are_used_up() {
    let mut scene = scene(hourly(), 2).await;
    scene.refuse(RENEW_REDIS, BUSY, 2);
    scene.pass(seconds(HOUR)).await;
    scene.work("shop").await;
    scene.pass(seconds(70)).await;
    scene.work("shop").await;
    let first = scene.run("crs-1").await;
    assert_eq!((first.state.as_str(), first.attempts), ("waiting", 2));
    scene.pass(seconds(HOUR - 70)).await;
    scene.work("shop").await;
    let runs = scene.runs("crs-1").await;
    assert_eq!(
        runs[0].reason.as_deref(),
        Some("its attempts were used up; run 2 of a later firing took over")
    );
    assert_eq!(scene.states("crs-1").await, ["skipped", "waiting"]);
    assert_eq!(scene.charged(), ["crs-1"]);
}

#[tokio::test]
async fn a_later_firing_of_every_fire_takes_over_from_one_that_only_waited() {
    let careful = with(each_hour(), |policy| policy.terms.on_auto_renew = OnAutoRenew::Renew);
    let mut scene = scene(careful, 12).await;
    let soon = scene.now() + jiff::SignedDuration::from_hours(20);
    scene.stage.change("crs-1", |change| {
        (change.expires_at, change.auto_renew) = (Some(soon), Some(Switch(true)));
    });
    // Lower than before, and so believed only after a while.
    scene.sql("UPDATE instances SET expiry_high_ms = NULL, lower_since_ms = NULL, lower_looks = 0").await;
    scene.pass(seconds(HOUR)).await;
    scene.work("shop").await;
    assert_eq!(scene.states("crs-1").await, ["waiting"]);
    // Found free as the next firing comes.
    scene.stage.change("crs-1", |change| change.auto_renew = Some(Switch(false)));
    scene.sql("UPDATE runs SET next_attempt_at_ms = next_attempt_at_ms + 7200000").await;
    scene.pass(seconds(HOUR)).await;
    scene.work("shop").await;
    let first = scene.runs("crs-1").await.remove(0);
    assert_eq!(first.reason.as_deref(), Some("it was held up; run 2 of a later firing took over"));
    assert_eq!(scene.states("crs-1").await, ["skipped", "waiting"]);
    assert_eq!(scene.charged(), ["crs-1"]);
}

/// Its order may have been paid: it stays beside the later one, which has a cycle of its own.
#[tokio::test]
async fn a_firing_of_every_fire_that_has_ordered_is_never_taken_over() {
    let mut scene = scene(each_hour(), 12).await;
    scene.spoil(RENEW_REDIS, Effect::Before, Spoilt::Drop, 1);
    scene.pass(seconds(HOUR)).await;
    scene.work("shop").await;
    assert_eq!(scene.states("crs-1").await, ["unknown"]);
    scene.pass(seconds(HOUR)).await;
    scene.work("shop").await;
    assert_eq!(scene.states("crs-1").await, ["unknown", "waiting"]);
    assert_eq!(scene.run("crs-1").await.hold.as_deref(), Some("open_order"));
}

/// The lane looks at an instance once for all the firings that it has of it.
#[tokio::test]
async fn what_is_skipped_for_an_earlier_firing_costs_no_call() {
    let mut scene = scene(hourly(), 12).await;
    scene.refuse(RENEW_REDIS, "RequestLimitExceeded", 1);
    scene.pass(seconds(HOUR - 1)).await;
    trigger_of_the_policy(&mut scene).await;
    scene.work("shop").await;
    scene.stage.clocks.advance(seconds(1));
    scene.stage.life().engine.fire_due().await.unwrap();
    let looks = scene.asked(DESCRIBE_REDIS);
    scene.work("shop").await;
    assert_eq!(scene.states("crs-1").await, ["waiting", "skipped"]);
    assert_eq!(scene.asked(DESCRIBE_REDIS), looks);
}

async fn trigger_of_the_policy(scene: &mut Scene) {
    let now = scene.now();
    let trigger = Trigger { policy: "cache".to_owned(), instance: None, again: false };
    scene.store().trigger(&trigger, &operator(now)).await.unwrap();
}
