//! A price that a cap or a budget depends on is asked before the order, and only then.

use std::sync::Arc;
use std::time::Duration;

use renewd::domain::money::Fen;
use renewd::domain::policy::{OnAutoRenew, Policy};
use renewd::domain::product::{InstanceId, Product, Region};
use renewd::engine::{Limits, Step};
use renewd::sandbox::faults::{Effect, Spoilt};
use renewd::sandbox::instance::{InstanceChange, SpecChange, Switch};

use super::scene::{Scene, seconds, waiting};
use crate::fleet::{cny, hours, policy, upgrade, with};
use crate::stage::Stage;

const PRICE: &str = "redis:InquiryPriceRenewInstance";

fn capped(cap: Fen) -> Policy {
    with(policy("cache", "shop", Product::REDIS, &["crs-1"]), |policy| policy.terms.max_price = Some(cap))
}

async fn fired(policy: Policy) -> Scene {
    let mut scene = Scene::open(&[("crs-1", 9)], &[policy]).await;
    scene.fire().await;
    scene
}

#[tokio::test]
async fn a_price_above_the_cap_is_not_paid() {
    let mut scene = fired(capped(cny(99))).await;
    scene.work("shop").await;
    assert_eq!(scene.asked(PRICE), 1);
    let run = scene.run("crs-1").await;
    assert_eq!((run.state.as_str(), run.code.as_deref()), ("failed", Some("PriceAboveCap")));
    assert_eq!(run.reason.as_deref(), Some("the price is 100.00 CNY, above max_price_cny = 99.00"));
    assert_eq!(
        scene.told("run.failed", &["instance", "class", "code"]),
        ["error crs-1 rejected PriceAboveCap"]
    );
    assert!(scene.charged().is_empty());
}

#[tokio::test]
async fn a_price_within_the_cap_is_paid_and_stands_with_its_order() {
    let mut scene = fired(capped(cny(100))).await;
    scene.work("shop").await;
    let order = scene.order("crs-1").await;
    assert_eq!((order.state.as_str(), order.amount_fen), ("placed", Some(10_000)));
    let told =
        scene.told("order.intended", &["instance", "order_row", "attempt", "price_cny", "expiry_before"]);
    assert_eq!(told, ["info crs-1 1 1 100.00 2026-03-11T01:00:00Z"]);
    assert_eq!(
        scene.told("run.started", &["instance", "attempt", "due_at"]),
        ["info crs-1 1 2026-03-02T04:00:00Z"]
    );
}

/// The minute's look, say: the order would rest on an older one than there is.
#[tokio::test]
async fn a_look_of_somebody_else_while_the_price_is_asked_brings_the_run_back_and_it_is_told_of_once() {
    let mut scene = fired(capped(cny(100))).await;
    scene.spoil(PRICE, Effect::After, Spoilt::Stall(Duration::from_millis(200)), 1);
    let mut lane = scene.another_lane("shop");
    let (engine, account) = (Arc::clone(&scene.stage.life().engine), scene.account("shop"));
    let clocks = Arc::clone(&scene.stage.clocks);
    let another_look = async {
        scene.until(|scene| scene.asked(PRICE) == 1).await;
        clocks.advance(seconds(1));
        let (region, id) = (Region::parse("ap-guangzhou").unwrap(), InstanceId::parse("crs-1").unwrap());
        assert!(engine.observe(&account, Product::REDIS, &region, &[id]).await.is_ok());
    };
    let (stepped, ()) = tokio::join!(lane.step(), another_look);
    assert_eq!(stepped.unwrap(), Step::Worked);
    assert_eq!(scene.run("crs-1").await.state, "queued", "it goes by the newer look");
    assert!(scene.orders("crs-1").await.is_empty());

    while lane.step().await.unwrap() == Step::Worked {
        lane.settle().await;
    }
    assert_eq!(scene.order("crs-1").await.state, "placed");
    assert_eq!(scene.told("run.started", &["instance", "attempt"]), ["info crs-1 1"]);
}

#[tokio::test]
async fn a_price_that_nothing_depends_on_is_not_asked() {
    let mut scene = fired(policy("cache", "shop", Product::REDIS, &["crs-1"])).await;
    scene.work("shop").await;
    assert_eq!(scene.asked(PRICE), 0);
    assert_eq!(scene.order("crs-1").await.amount_fen, None);
    let told = scene.told("order.intended", &["price_cny", "message"]);
    assert_eq!(told, ["info - ordering 1 month of crs-1"]);
}

#[tokio::test]
async fn a_money_budget_asks_for_the_price_as_a_cap_does() {
    let mut scene =
        Scene::open(&[("crs-1", 9)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await;
    let limits = Limits { orders_per_day: None, per_day: None, per_month: Some(cny(99)) };
    scene.stage.budgets.insert("shop", limits);
    scene.stage.take_budgets().await.unwrap();
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.asked(PRICE), 1);
    assert_eq!(scene.run("crs-1").await.code.as_deref(), Some("CnyPerMonth"));
    assert!(scene.charged().is_empty());
}

/// The right to ask for prices is the account's: one error for all its runs.
#[tokio::test]
async fn a_price_that_cannot_be_read_is_waited_for() {
    let mut scene = fired(capped(cny(100))).await;
    scene.refuse(PRICE, "UnauthorizedOperation", 2);
    scene.work("shop").await;
    assert_eq!(scene.waits("crs-1").await, waiting("backoff", 120));
    let reason = scene.reason("crs-1").await;
    assert!(
        reason.starts_with("a price cap or money budget is set and the price cannot be read"),
        "{reason}"
    );
    assert_eq!(
        scene.told("run.waiting", &["instance", "class", "code"]),
        ["error crs-1 blocked UnauthorizedOperation"]
    );
    assert!(scene.charged().is_empty());
}

/// While the price is on its way a minute goes by, and the look that it belongs to is too old to be ordered on.
async fn step_with_a_slow_price(scene: &mut Scene, api: &str, meanwhile: impl FnOnce(&Stage)) {
    let slow = Spoilt::Stall(Duration::from_millis(50));
    scene.spoil(api, Effect::After, slow, 1);
    let mut lane = scene.another_lane("shop");
    let step = tokio::spawn(async move { lane.step().await.map(|_| lane) });
    scene.until(|scene| scene.asked(api) == 1).await;
    meanwhile(&scene.stage);
    scene.stage.clocks.advance(seconds(61));
    step.await.unwrap().unwrap().settle().await;
}

#[tokio::test]
async fn a_price_that_was_asked_before_the_last_look_is_asked_again() {
    let mut scene = fired(capped(cny(100))).await;
    step_with_a_slow_price(&mut scene, PRICE, |stage| {
        let dearer = InstanceChange::default().with_price_per_month(cny(101));
        stage.cloud.set_instance("crs-1", dearer).unwrap();
    })
    .await;
    assert_eq!(scene.asked(PRICE), 2);
    assert_eq!(scene.run("crs-1").await.code.as_deref(), Some("PriceAboveCap"));
    assert!(scene.charged().is_empty());
}

/// Somebody added a replica by hand meanwhile: what is left to buy costs more than what was asked for.
#[tokio::test]
async fn the_price_of_an_upgrade_is_that_of_the_size_last_seen() {
    let grow = with(capped(cny(100)), |policy| policy.terms.action = upgrade(2048, None));
    let mut scene = fired(grow).await;
    step_with_a_slow_price(&mut scene, "redis:InquiryPriceUpgradeInstance", |stage| {
        let spec = SpecChange { replicas: Some(2), ..SpecChange::default() };
        let mut change = InstanceChange::default().with_price_per_month(cny(200));
        change.spec = Some(spec);
        stage.cloud.set_instance("crs-1", change).unwrap();
    })
    .await;
    assert_eq!(scene.run("crs-1").await.code.as_deref(), Some("PriceAboveCap"), "{:?}", scene.charged());
}

/// A run's own trouble is told once, however often it is met.
#[tokio::test]
async fn a_trouble_of_one_run_is_an_error_when_it_begins_and_a_warning_while_it_lasts() {
    let careful = with(policy("cache", "shop", Product::REDIS, &["crs-1"]), |policy| {
        policy.terms.on_auto_renew = OnAutoRenew::Renew;
    });
    let mut scene = Scene::open(&[], &[careful]).await;
    scene.stage.add_instance("crs-1", scene.stage.clocks.true_now() + hours(20));
    scene.stage.change("crs-1", |change| change.auto_renew = Some(Switch(true)));
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.waits("crs-1").await, waiting("backoff", 120));
    let told = scene.told("run.waiting", &["instance", "class", "code", "next_attempt_at"]);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("error crs-1 blocked AutoRenewNear 2026-03-02T04:02:00"), "{told:?}");
    scene.forget_told();
    scene.pass(seconds(121)).await;
    scene.work("shop").await;
    assert_eq!(scene.told("run.waiting", &["instance", "class", "code"]), ["warn crs-1 - -"]);
    assert!(scene.charged().is_empty());
}
