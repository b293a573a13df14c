//! What is paused does not come to the till, and the run says by whom and for how long.

use renewd::domain::product::{AccountName, PolicyName, Product};
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use renewd::store::PauseScope;

use super::scene::{RENEW_REDIS, Scene, operator, seconds, waiting};
use crate::fleet::{cny, key_id, policy};

const MAX_DELAY_S: i64 = 3600;
/// From one test of an account to the next.
const TEST_S: i64 = 600;
const EMPTY: &str = "ResourceUnavailable.AccountBalanceNotEnough";

fn account(name: &str) -> PauseScope {
    PauseScope::Account(AccountName::parse(name).unwrap())
}

async fn scene() -> Scene {
    Scene::open(&[("crs-1", 9)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await
}

#[tokio::test]
async fn a_paused_account_takes_nothing_to_the_till_and_says_by_whom() {
    let mut scene = scene().await;
    let since = scene.now();
    scene.pause(account("shop"), None).await;
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.waits("crs-1").await, waiting("pause", MAX_DELAY_S));
    let reason = scene.reason("crs-1").await;
    assert_eq!(reason, format!("account shop is paused since {since} by operator"));
    assert_eq!(scene.run("crs-1").await.attempts, 0);
    assert_eq!(scene.told("run.started", &[]), [""; 0]);
    assert!(scene.orders("crs-1").await.is_empty());
}

#[tokio::test]
async fn a_pause_of_everything_reaches_each_account_with_its_note() {
    let mut scene = scene().await;
    let now = scene.now();
    let mut word = operator(now);
    word.note = Some("moving house".to_owned());
    scene.store().pause(&PauseScope::All, None, &word).await.unwrap();
    scene.fire().await;
    scene.work("shop").await;
    let reason = scene.reason("crs-1").await;
    assert_eq!(reason, format!("everything is paused since {now} by operator: moving house"));
}

#[tokio::test]
async fn a_pause_that_ends_soon_is_waited_for_and_a_long_one_asked_for_again() {
    for (length, wait_s) in [(600, 600), (2 * 3600, MAX_DELAY_S)] {
        let mut scene = scene().await;
        scene.pause(account("shop"), Some(super::scene::TO_THE_FIRING + seconds(length))).await;
        scene.fire().await;
        scene.work("shop").await;
        assert_eq!(scene.waits("crs-1").await, waiting("pause", wait_s));
        assert!(scene.reason("crs-1").await.starts_with("account shop is paused since"));
    }
}

#[tokio::test]
async fn another_accounts_pause_holds_nothing_here() {
    let mut scene = scene().await;
    scene.pause(account("lab"), None).await;
    scene.pause(PauseScope::Policy(PolicyName::parse("other").unwrap()), None).await;
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.charged(), ["crs-1"]);
}

/// A policy and an account may bear one name.
#[tokio::test]
async fn a_policys_pause_is_not_that_of_the_account_of_its_name() {
    let both = [
        policy("shop", "shop", Product::REDIS, &["crs-1"]),
        policy("cache", "shop", Product::REDIS, &["crs-2"]),
    ];
    let mut scene = Scene::open(&[("crs-1", 5), ("crs-2", 6)], &both).await;
    scene.pause(PauseScope::Policy(PolicyName::parse("shop").unwrap()), None).await;
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.charged(), ["crs-2"]);
    assert_eq!(scene.waits("crs-1").await, waiting("pause", MAX_DELAY_S));
    assert_eq!(scene.reason("crs-1").await, "orders are paused: person pause set by operator");
}

/// The till's own answer: the lane as a whole is not paused, this policy is, and for less than a moment.
#[tokio::test]
async fn a_pause_that_is_as_good_as_over_is_waited_for_at_least_five_seconds() {
    let mut scene = scene().await;
    let soon = super::scene::TO_THE_FIRING + seconds(2);
    scene.pause(PauseScope::Policy(PolicyName::parse("cache").unwrap()), Some(soon)).await;
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.waits("crs-1").await, waiting("pause", 5));
}

#[tokio::test]
async fn what_is_not_due_ends_during_a_pause_as_at_any_time() {
    let mut scene =
        Scene::open(&[("crs-1", 40)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await;
    scene.pause(account("shop"), None).await;
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.states("crs-1").await, ["skipped"]);
}

/// Two due instances, and an order that was refused for want of money.
async fn with_an_empty_balance() -> Scene {
    let ids = ["crs-1", "crs-2"];
    let mut scene =
        Scene::open(&[("crs-1", 5), ("crs-2", 6)], &[policy("cache", "shop", Product::REDIS, &ids)]).await;
    scene.stage.cloud.set_balance(key_id("shop"), cny(0));
    scene.fire().await;
    scene.work("shop").await;
    scene
}

#[tokio::test]
async fn an_empty_balance_holds_the_account_and_is_tested_by_one_order_at_the_very_moment() {
    let mut scene = with_an_empty_balance().await;
    assert_eq!(scene.asked(RENEW_REDIS), 1, "the first order's answer is every order's");
    assert_eq!(scene.waits("crs-1").await, waiting("pause", TEST_S));
    assert_eq!(scene.waits("crs-2").await.1.as_deref(), Some("pause"));
    let now = scene.now();
    let [pause] = &scene.store().pauses(now).await.unwrap()[..] else { panic!("one pause") };
    assert_eq!((pause.kind.as_str(), pause.name.as_deref()), ("balance", Some("shop")));
    // The balance is asked for once, so that its rise can be told; a test that had no hope is put off.
    assert_eq!(scene.asked("billing:DescribeAccountBalance"), 1);
    assert_eq!(
        scene.told("account.paused", &["account", "class", "code"]),
        [format!("error shop blocked {EMPTY}")]
    );
    // That a whole account is held was said once: its runs are no errors of their own.
    assert_eq!(
        scene.told("run.retry", &["instance", "class", "code"]),
        [format!("warn crs-1 blocked {EMPTY}")]
    );
}

/// A test without hope is put off; money that came lifts the pause, and the soonest expiry goes first.
#[tokio::test]
async fn no_order_is_sent_to_an_account_as_empty_as_before_and_a_top_up_frees_all() {
    let mut scene = with_an_empty_balance().await;
    scene.pass(seconds(601)).await;
    scene.work("shop").await;
    assert_eq!(scene.asked(RENEW_REDIS), 1, "nothing has changed");
    scene.stage.cloud.set_balance(key_id("shop"), cny(500));
    scene.pass(seconds(602)).await;
    scene.work("shop").await;
    assert_eq!(scene.told("account.resumed", &["account"]), ["info shop"]);
    assert_eq!(scene.charged(), ["crs-1", "crs-2"]);
}

/// Whoever was the test and was refused again stands back for another, whose price may fit.
#[tokio::test]
async fn who_was_tested_in_vain_waits_twice_as_long_as_the_next_test() {
    let mut scene = scene().await;
    scene.refuse(RENEW_REDIS, EMPTY, 2);
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.waits("crs-1").await, waiting("pause", TEST_S));
    scene.sql("UPDATE pauses SET until_ms = until_ms - 600000").await;
    scene.sql("UPDATE runs SET state = 'queued', hold = NULL, next_attempt_at_ms = NULL").await;
    // With nothing known of the balance there is nothing to compare with.
    scene.stage.restart().await.unwrap();
    scene.tick().await;
    scene.work("shop").await;
    assert_eq!(scene.asked(RENEW_REDIS), 2);
    assert_eq!(scene.waits("crs-1").await, waiting("pause", 2 * TEST_S));
    assert_eq!(scene.reason("crs-1").await.split(':').next(), Some("its order was refused"));
}

#[tokio::test]
async fn a_test_is_let_through_at_the_very_instant_for_which_it_was_put_off() {
    let mut scene = scene().await;
    let until = scene.now() + jiff::SignedDuration::try_from(super::scene::TO_THE_FIRING).unwrap();
    let (account, now) = (AccountName::parse("shop").unwrap(), scene.now());
    scene.store().hold_account(&account, "balance", until, "no money", now).await.unwrap();
    scene.fire().await;
    scene.work("shop").await;

    assert_eq!(scene.charged(), ["crs-1"]);
}

/// The test's answer is every order's: who comes meanwhile keeps its place in the hand.
#[tokio::test]
async fn while_one_order_tests_the_account_the_next_waits_for_its_answer_and_then_goes() {
    let ids = ["crs-1", "crs-2"];
    let mut scene =
        Scene::open(&[("crs-1", 5), ("crs-2", 6)], &[policy("cache", "shop", Product::REDIS, &ids)]).await;
    let (account, now) = (AccountName::parse("shop").unwrap(), scene.now());
    scene.store().hold_account(&account, "balance", now, "no money", now).await.unwrap();
    let slow = Spoilt::Stall(std::time::Duration::from_millis(200));
    scene.stage.cloud.inject(vec![Fault::spoil(RENEW_REDIS, Effect::After, slow).on("crs-1")]);
    scene.fire().await;
    scene.step("shop").await;
    assert_eq!(scene.order("crs-1").await.state, "intended");
    scene.step("shop").await;
    assert_eq!(scene.order("crs-1").await.state, "placed", "its answer was waited for");
    assert_eq!(scene.states("crs-2").await, ["running"], "and the next is still in hand");
    scene.work("shop").await;
    assert_eq!(scene.charged(), ["crs-1", "crs-2"]);
}
