//! Orders that the intent's own INSERT withholds, and what their runs are told to do.

use renewd::domain::order::OrderRow;
use renewd::domain::policy::{Policy, RenewWhen};
use renewd::domain::product::Product;
use renewd::domain::run::RunId;
use renewd::engine::Limits;
use renewd::sandbox::faults::{Effect, Spoilt};

use super::scene::{RENEW_REDIS, Scene, operator, seconds, waiting};
use crate::fleet::{CVM, cny, days, policy, renew, schedule, upgrade, with};

const DAY: u64 = 24 * 3600;
/// Of a run behind another order: the second delay, and up to as much again.
const SECOND_DELAY_S: std::ops::RangeInclusive<i64> = 120..=240;

fn cache() -> Policy {
    policy("cache", "shop", Product::REDIS, &["crs-1"])
}

/// An order of the first firing whose fate nobody knows.
async fn with_unknown_order(policies: &[Policy], api: &str) -> Scene {
    let mut scene = Scene::open(&[("crs-1", 9)], policies).await;
    scene.spoil(api, Effect::Before, Spoilt::Drop, 1);
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.order("crs-1").await.state, "unknown");
    scene.forget_told();
    scene
}

async fn limit(scene: &mut Scene, limits: Limits) {
    scene.stage.budgets.insert("shop", limits);
    scene.stage.take_budgets().await.unwrap();
}

#[tokio::test]
async fn a_run_of_the_very_cycle_that_is_under_way_is_skipped_before_it_costs_a_permit() {
    let both = [cache(), policy("other", "shop", Product::REDIS, &["crs-1"])];
    let mut scene = with_unknown_order(&both, RENEW_REDIS).await;
    let run = scene.run("crs-1").await;
    assert_eq!(run.state, "skipped");
    assert_eq!(run.reason.as_deref(), Some("order row 1 of this very cycle is already under way"));
    assert_eq!(scene.asked(RENEW_REDIS), 1);
}

#[tokio::test]
async fn what_is_skipped_for_an_open_order_is_told_with_its_instant() {
    let both = [cache(), policy("other", "shop", Product::REDIS, &["crs-1"])];
    let mut scene = Scene::open(&[("crs-1", 9)], &both).await;
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.told("run.started", &["run"]), ["info 1"]);
    assert_eq!(
        scene.told("run.skipped", &["policy", "instance", "due_at", "message"]),
        [
            "info other crs-1 2026-03-02T04:00:00Z crs-1 is skipped: order row 1 of this very cycle is already under way"
        ]
    );
}

#[tokio::test]
async fn a_run_of_another_cycle_waits_for_the_open_order_and_is_no_error() {
    let each = with(cache(), |policy| {
        policy.terms.action = renew(1, RenewWhen::EveryFire);
        policy.schedule = schedule("0 4,5 * * *");
    });
    let mut scene = with_unknown_order(&[each], RENEW_REDIS).await;
    scene.pass(seconds(3600)).await;
    scene.work("shop").await;
    let run = scene.run("crs-1").await;
    assert_eq!((run.state.as_str(), run.hold.as_deref(), run.code), ("waiting", Some("open_order"), None));
    assert!(SECOND_DELAY_S.contains(&run.wait_s.unwrap()), "{:?}", run.wait_s);
    assert_eq!(run.reason.as_deref(), Some("order row 1 on the same instance is still open"));
    assert_eq!(scene.told("run.waiting", &["instance", "class"]), ["warn crs-1 -"]);
}

/// A person said that it was paid, and the instance does not show it: paying again is a person's to decide.
#[tokio::test]
async fn a_term_that_was_paid_for_and_does_not_show_fails_for_a_person() {
    let mut scene = with_unknown_order(&[cache()], RENEW_REDIS).await;
    let now = scene.now();
    scene.store().resolve_paid(OrderRow(1), None, &operator(now)).await.unwrap();
    scene.pass(seconds(DAY)).await;
    scene.work("shop").await;
    let run = scene.run("crs-1").await;
    assert_eq!(
        (run.state.as_str(), run.class.as_deref(), run.code.as_deref()),
        ("failed", Some("blocked"), Some("CyclePaid"))
    );
    let reason = run.reason.unwrap();
    assert!(
        reason.starts_with("order row 1 already paid for this term, and the instance is due all the same"),
        "{reason}"
    );
    assert_eq!(scene.told("run.failed", &["instance", "code"]), ["error crs-1 CyclePaid"]);
    assert!(scene.charged().is_empty());
}

/// A size shows later than its order ends: the firing looks again instead of failing.
#[tokio::test]
async fn a_size_that_was_paid_for_and_does_not_show_is_looked_at_again() {
    let grow = with(cache(), |policy| policy.terms.action = upgrade(2048, Some(2)));
    let mut scene = with_unknown_order(&[grow], "redis:UpgradeInstance").await;
    let now = scene.now();
    scene.store().resolve_paid(OrderRow(1), None, &operator(now)).await.unwrap();
    scene.work("shop").await;
    let run = scene.run("crs-1").await;
    assert_eq!(
        (run.state.as_str(), run.hold.as_deref(), run.code.as_deref()),
        ("waiting", Some("backoff"), Some("CyclePaid"))
    );
    assert!(SECOND_DELAY_S.contains(&run.wait_s.unwrap()), "{:?}", run.wait_s);
    let told = scene.told("run.waiting", &["instance", "class", "code"]);
    assert_eq!(told, ["error crs-1 blocked CyclePaid"]);
}

/// The budget is the account's: one error for all its runs, and all wait for midnight.
#[tokio::test]
async fn orders_past_the_days_number_wait_for_the_next_day() {
    let ids = ["crs-1", "crs-2", "crs-3"];
    let late = with(policy("cache", "shop", Product::REDIS, &ids), |policy| {
        policy.schedule = schedule("30 23 * * *")
    });
    let mut scene = Scene::open(&[("crs-1", 5), ("crs-2", 6), ("crs-3", 7)], &[late]).await;
    limit(&mut scene, Limits { orders_per_day: Some(1), per_day: None, per_month: None }).await;
    scene.pass(seconds(22 * 3600 + 1800)).await;
    scene.work("shop").await;
    assert_eq!(scene.charged(), ["crs-1"]);
    for id in ["crs-2", "crs-3"] {
        assert_eq!(scene.waits(id).await, waiting("backoff", 1800));
        assert_eq!(scene.run(id).await.code.as_deref(), Some("OrdersPerDay"));
    }
    let told = scene.told("run.waiting", &["instance", "class", "code", "next_attempt_at"]);
    assert_eq!(
        told,
        ["error crs-2 blocked OrdersPerDay 2026-03-03T00:00:00Z", "warn crs-3 - - 2026-03-03T00:00:00Z"]
    );
}

#[tokio::test]
async fn money_past_the_days_sum_waits_as_long_as_the_longest_delay_allows() {
    let ids = ["crs-1", "crs-2"];
    let mut scene =
        Scene::open(&[("crs-1", 5), ("crs-2", 6)], &[policy("cache", "shop", Product::REDIS, &ids)]).await;
    limit(&mut scene, Limits { orders_per_day: None, per_day: Some(cny(150)), per_month: None }).await;
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.charged(), ["crs-1"]);
    assert_eq!(scene.waits("crs-2").await, waiting("backoff", 3600));
    assert_eq!(scene.run("crs-2").await.code.as_deref(), Some("CnyPerDay"));
}

#[tokio::test]
async fn a_run_whose_policy_was_edited_while_it_was_in_hand_is_judged_anew() {
    let ids = ["crs-1", "crs-2"];
    let before = policy("cache", "shop", Product::REDIS, &ids);
    let mut scene = Scene::open(&[("crs-1", 5), ("crs-2", 6)], std::slice::from_ref(&before)).await;
    scene.fire().await;
    scene.step("shop").await;
    let after = with(before, |policy| policy.terms.action = renew(2, RenewWhen::WithinDays(15)));
    scene.set(&[after]).await;
    scene.step("shop").await;
    assert_eq!(scene.states("crs-2").await, ["queued"]);
    scene.work("shop").await;
    let months: Vec<_> = scene.stage.cloud.ledger().into_iter().map(|charge| charge.months).collect();
    assert_eq!(months, [Some(1), Some(2)]);
}

#[tokio::test]
async fn what_cannot_be_signed_for_want_of_a_flag_waits_for_a_better_look() {
    let mut scene = Scene::open(&[("ins-1", 9)], &[policy("web", "shop", CVM, &["ins-1"])]).await;
    scene.fire().await;
    seen_now(&mut scene, "UPDATE instances SET renew_flag = NULL").await;
    scene.work("shop").await;
    assert_eq!(scene.waits("ins-1").await, waiting("backoff", 30));
    let run = scene.run("ins-1").await;
    assert_eq!((run.class.as_deref(), run.code.as_deref()), (Some("unavailable"), Some("RenewFlagNotKnown")));
    let told = scene.told("run.waiting", &["instance", "class", "code"]);
    assert_eq!(told, ["error ins-1 unavailable RenewFlagNotKnown"]);
    assert!(scene.orders("ins-1").await.is_empty());
}

#[tokio::test]
async fn what_no_api_can_order_fails_without_an_order() {
    let grow =
        with(policy("web", "shop", CVM, &["ins-1"]), |policy| policy.terms.action = upgrade(2048, None));
    let mut scene = Scene::open(&[("ins-1", 40)], &[grow]).await;
    scene.fire().await;
    seen_now(&mut scene, "UPDATE instances SET mem_size_mb = 1024, shards = 1, replicas = 1").await;
    scene.work("shop").await;
    let run = scene.run("ins-1").await;
    assert_eq!(
        (run.state.as_str(), run.class.as_deref(), run.code.as_deref()),
        ("failed", Some("rejected"), Some("NotBuilt"))
    );
    assert_eq!(scene.told("run.failed", &["instance", "code"]), ["error ins-1 NotBuilt"]);
}

/// As if a look of this very moment had shown it.
async fn seen_now(scene: &mut Scene, statement: &'static str) {
    scene.sql(statement).await;
    let now = scene.now().as_millisecond();
    sqlx::query("UPDATE instances SET observed_at_ms = ?1")
        .bind(now)
        .execute(scene.stage.database())
        .await
        .unwrap();
}

/// The term moved although this firing's own order was refused: it is not paid twice, and somebody is told.
#[tokio::test]
async fn a_term_that_moved_although_its_order_was_refused_is_told() {
    let mut scene = Scene::open(&[("crs-1", 9)], &[cache()]).await;
    let locked = Spoilt::Code("ResourceUnavailable.InstanceLockedError".to_owned());
    scene.spoil(RENEW_REDIS, Effect::After, locked, 1);
    scene.fire().await;
    scene.work("shop").await;
    let after = scene.stage.instance("crs-1").expires_at;
    scene.pass(seconds(61)).await;
    scene.forget_told();
    scene.work("shop").await;
    assert_eq!(scene.states("crs-1").await, ["skipped"]);
    assert_eq!(scene.charged(), ["crs-1"]);
    let told = scene.told("order.refused", &["instance", "order_row", "expiry_after"]);
    assert_eq!(told, [format!("error crs-1 1 {after}")]);
    assert!(after > scene.now() + days(30));
}

#[tokio::test]
async fn a_term_of_every_fire_that_moved_although_its_order_was_refused_fails_for_a_person() {
    let each = with(cache(), |policy| policy.terms.action = renew(1, RenewWhen::EveryFire));
    let mut scene = Scene::open(&[("crs-1", 9)], &[each]).await;
    let locked = Spoilt::Code("ResourceUnavailable.InstanceLockedError".to_owned());
    scene.spoil(RENEW_REDIS, Effect::After, locked, 1);
    scene.fire().await;
    scene.work("shop").await;
    scene.pass(seconds(61)).await;
    scene.work("shop").await;
    let run = scene.run("crs-1").await;
    assert_eq!((run.state.as_str(), run.code.as_deref()), ("failed", Some("RefusedYetMoved")));
    assert_eq!(scene.charged(), ["crs-1"]);
}

/// Its own refused order is no sign that a term moved.
#[tokio::test]
async fn a_retry_of_a_run_that_failed_orders_in_its_stead() {
    let mut scene = Scene::open(&[("crs-1", 9)], &[cache()]).await;
    scene.refuse(RENEW_REDIS, "InvalidParameterValue", 1);
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.states("crs-1").await, ["failed"]);
    let now = scene.now();
    scene.store().retry(RunId(1), &operator(now)).await.unwrap();
    scene.work("shop").await;
    assert_eq!(scene.states("crs-1").await, ["failed", "waiting"]);
    assert_eq!(scene.charged(), ["crs-1"]);
    assert_eq!(scene.told("order.refused", &["expiry_after"]).len(), 1, "only the refusal itself");
}
