//! The look that an order rests on: in whose company it is made, and what comes of one that fails or is too old.

use jiff::SignedDuration;
use renewd::domain::product::{Product, Region};
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use renewd::sandbox::instance::State;

use super::scene::{DESCRIBE_REDIS, RENEW_REDIS, Scene, seconds, waiting};
use crate::fleet::{CVM, days, hours, policy, with};

const NO_RIGHT: &str = "UnauthorizedOperation";
const NO_SUCH_KEY: &str = "AuthFailure.SecretIdNotFound";
const MAX_DELAY_S: i64 = 3600;
/// Past what an order may rest on.
const TOO_OLD: u64 = 61;

async fn scene(ids: &[&str]) -> Scene {
    let instances: Vec<(&str, i64)> = ids.iter().zip(5..).map(|(id, left)| (*id, left)).collect();
    Scene::open(&instances, &[policy("cache", "shop", Product::REDIS, ids)]).await
}

/// Calls so far, as what they asked, where, and for how many.
async fn looks(scene: &mut Scene) -> Vec<(String, String, i64)> {
    sqlx::query_as("SELECT api, region, instances FROM attempts WHERE api LIKE '%Describe%' ORDER BY id")
        .fetch_all(scene.stage.database())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_look_that_has_grown_old_is_made_again_at_the_till_for_all_of_its_place() {
    let mut there = policy("there", "shop", Product::REDIS, &["crs-8"]);
    there.region = Region::parse("ap-beijing").unwrap();
    let all = [
        policy("cache", "shop", Product::REDIS, &["crs-1", "crs-2", "crs-3"]),
        there,
        policy("web", "shop", CVM, &["ins-1"]),
    ];
    let mut scene =
        Scene::open(&[("crs-1", 3), ("crs-2", 4), ("crs-3", 5), ("crs-8", 6), ("ins-1", 7)], &all).await;
    scene.fire().await;
    scene.serve("shop").await;
    let before = looks(&mut scene).await.len();
    scene.stage.clocks.advance(seconds(TOO_OLD));
    scene.work("shop").await;
    let call = |api: &str, region: &str, instances| (api.to_owned(), region.to_owned(), instances);
    assert_eq!(
        looks(&mut scene).await[before..],
        [
            call("redis:DescribeInstances", "ap-guangzhou", 2),
            call("redis:DescribeInstances", "ap-beijing", 1),
            call("cvm:DescribeInstances", "ap-guangzhou", 1),
        ]
    );
    assert_eq!(scene.charged(), ["crs-1", "crs-2", "crs-3", "crs-8", "ins-1"]);
}

#[tokio::test]
async fn what_was_renewed_by_hand_meanwhile_is_seen_at_the_till() {
    let mut scene = scene(&["crs-1", "crs-2"]).await;
    scene.fire().await;
    scene.serve("shop").await;
    scene.stage.clocks.advance(seconds(TOO_OLD));
    let renewed = scene.stage.instance("crs-2").expires_at + days(31);
    scene.stage.change("crs-2", |change| change.expires_at = Some(renewed));
    scene.work("shop").await;
    assert_eq!(scene.charged(), ["crs-1"]);
    assert_eq!(scene.states("crs-2").await, ["skipped"]);
    assert_eq!(scene.told("run.skipped", &["instance"]), ["info crs-2"]);
}

#[tokio::test]
async fn what_is_gone_when_its_turn_comes_fails_with_the_reason() {
    let mut scene = scene(&["crs-1", "crs-2"]).await;
    scene.fire().await;
    scene.serve("shop").await;
    scene.stage.clocks.advance(seconds(TOO_OLD));
    scene.stage.change("crs-2", |change| change.state = Some(State::Gone));
    scene.work("shop").await;
    let run = scene.run("crs-2").await;
    assert_eq!(
        (run.state.as_str(), run.class.as_deref(), run.code.as_deref()),
        ("failed", Some("rejected"), Some("Gone"))
    );
    assert_eq!(
        scene.told("run.failed", &["instance", "class", "code", "message"]),
        [
            "error crs-2 rejected Gone crs-2 is not ordered: it was returned or is being deleted: it is never ordered"
        ]
    );
}

#[tokio::test]
async fn a_look_that_is_not_answered_is_tried_again_soon_and_is_no_error() {
    let mut scene = scene(&["crs-1", "crs-2"]).await;
    scene.fire().await;
    scene.spoil(DESCRIBE_REDIS, Effect::Before, Spoilt::Http(503), 1);
    scene.work("shop").await;
    let mut waits = Vec::new();
    for id in ["crs-1", "crs-2"] {
        let run = scene.run(id).await;
        assert_eq!((run.state.as_str(), run.hold.as_deref(), run.attempts), ("waiting", Some("backoff"), 0));
        assert!((30..=60).contains(&run.wait_s.unwrap()), "{run:?}");
        let reason = run.reason.unwrap();
        assert!(reason.starts_with("the instance could not be looked at: "), "{reason}");
        assert_eq!(run.class.as_deref(), Some("unknown"));
        waits.push(run.wait_s);
    }
    assert_ne!(waits[0], waits[1], "each has a delay of its own");
    let told = scene.told("run.retry", &["instance", "class"]);
    assert_eq!(told, ["warn crs-1 unknown", "warn crs-2 unknown"]);
    assert_eq!(scene.told("run.waiting", &[]), [""; 0]);
    assert!(scene.charged().is_empty());
}

/// A right is the account's: one error a day, whatever number of instances is without it.
#[tokio::test]
async fn a_missing_right_to_look_is_told_once_a_day_and_asked_for_seldom() {
    let mut scene = scene(&["crs-1", "crs-2"]).await;
    scene.fire().await;
    scene.refuse(DESCRIBE_REDIS, NO_RIGHT, 1000);
    scene.work("shop").await;
    assert_eq!(scene.waits("crs-1").await, waiting("backoff", MAX_DELAY_S));
    assert_eq!(scene.waits("crs-2").await, waiting("backoff", MAX_DELAY_S));
    let told = scene.told("run.waiting", &["instance", "class", "code", "next_attempt_at"]);
    let [first, second] = &told[..] else { panic!("{told:#?}") };
    assert!(first.starts_with(&format!("error crs-1 blocked {NO_RIGHT} 2026-03-02T05:00:00")), "{first}");
    assert!(second.starts_with("warn crs-2 - - 2026-03-02T05:00:00"), "{second}");
    scene.forget_told();
    scene.pass(seconds(3601)).await;
    scene.work("shop").await;
    assert_eq!(scene.told("run.waiting", &["instance"]), ["warn crs-1", "warn crs-2"]);
    scene.forget_told();
    scene.pass(seconds(20 * 3600)).await;
    scene.work("shop").await;
    let levels = scene.told("run.waiting", &[]);
    assert_eq!(levels.iter().filter(|level| *level == "error").count(), 1, "{levels:?}");
}

#[tokio::test]
async fn a_key_that_is_refused_holds_what_was_to_be_looked_at_until_its_next_test() {
    let mut scene = scene(&["crs-1"]).await;
    scene.fire().await;
    scene.refuse(DESCRIBE_REDIS, NO_SUCH_KEY, 1);
    scene.work("shop").await;
    assert_eq!(scene.waits("crs-1").await, waiting("pause", 600));
    assert_eq!(
        scene.told("run.waiting", &["instance", "class", "code"]),
        [format!("error crs-1 credential {NO_SUCH_KEY}")]
    );
    // While it is held nothing is asked with it.
    let looks = scene.asked(DESCRIBE_REDIS);
    scene.sql("UPDATE runs SET state = 'queued', hold = NULL, next_attempt_at_ms = NULL").await;
    scene.work("shop").await;
    assert_eq!(scene.asked(DESCRIBE_REDIS), looks);
    assert_eq!(scene.waits("crs-1").await.1.as_deref(), Some("pause"));
    let reason = scene.reason("crs-1").await;
    assert!(reason.starts_with("the key of account shop is refused since 2026-03-02T04:00:00"), "{reason}");
}

#[tokio::test]
async fn one_instance_that_the_cloud_refuses_to_speak_of_waits_alone() {
    let mut scene = scene(&["crs-1", "crs-2"]).await;
    scene.fire().await;
    let refused = Spoilt::Code("InvalidParameter".to_owned());
    scene
        .stage
        .cloud
        .inject(vec![Fault::spoil(DESCRIBE_REDIS, Effect::Before, refused).on("crs-1").times(2)]);
    scene.work("shop").await;
    assert_eq!(scene.waits("crs-1").await, waiting("backoff", MAX_DELAY_S));
    assert_eq!(scene.told("run.waiting", &["instance", "class"]), ["error crs-1 rejected"]);
    assert_eq!(scene.charged(), ["crs-2"]);
}

#[tokio::test]
async fn a_look_that_fails_at_the_till_makes_its_run_wait_and_no_other() {
    let mut scene = scene(&["crs-1", "crs-2", "crs-3"]).await;
    scene.fire().await;
    scene.serve("shop").await;
    scene.stage.clocks.advance(seconds(TOO_OLD));
    scene.spoil(DESCRIBE_REDIS, Effect::Before, Spoilt::Drop, 1);
    scene.work("shop").await;
    let run = scene.run("crs-2").await;
    assert_eq!((run.state.as_str(), run.hold.as_deref()), ("waiting", Some("backoff")));
    assert!((30..=60).contains(&run.wait_s.unwrap()), "{run:?}");
    assert_eq!(scene.charged(), ["crs-1", "crs-3"]);
}

#[tokio::test]
async fn a_key_that_is_refused_at_the_till_holds_the_run_until_its_next_test() {
    let mut scene = scene(&["crs-1", "crs-2"]).await;
    scene.fire().await;
    scene.serve("shop").await;
    scene.stage.clocks.advance(seconds(TOO_OLD));
    scene.refuse(DESCRIBE_REDIS, NO_SUCH_KEY, 1);
    scene.step("shop").await;
    assert_eq!(scene.waits("crs-2").await, waiting("pause", 600));
}

/// One that the cloud refuses to speak of is first in the answer: it must not be taken for seen.
#[tokio::test]
async fn one_that_the_cloud_refuses_to_speak_of_at_the_till_waits_alone() {
    let mut scene = scene(&["crs-1", "crs-2", "crs-3"]).await;
    scene.fire().await;
    scene.serve("shop").await;
    scene.stage.clocks.advance(seconds(TOO_OLD));
    let refused = Spoilt::Code("InvalidParameter".to_owned());
    scene
        .stage
        .cloud
        .inject(vec![Fault::spoil(DESCRIBE_REDIS, Effect::Before, refused).on("crs-2").times(2)]);
    scene.work("shop").await;
    assert_eq!(scene.waits("crs-2").await, waiting("backoff", MAX_DELAY_S));
    assert_eq!(scene.charged(), ["crs-1", "crs-3"]);
}

#[tokio::test]
async fn after_two_looks_that_do_not_get_fresh_the_clock_is_suspected() {
    let mut scene = scene(&["crs-1"]).await;
    scene.fire().await;
    // What stands in the record was seen by a clock that was half a minute ahead.
    scene.sql("UPDATE instances SET observed_at_ms = observed_at_ms + 10800000 + 30000").await;
    let looks = scene.asked(DESCRIBE_REDIS);
    scene.work("shop").await;
    assert_eq!(scene.asked(DESCRIBE_REDIS), looks + 3, "one of the batch, two at the till");
    assert_eq!(scene.waits("crs-1").await, waiting("backoff", 30));
    let reason = "the instance was looked at and the look is not fresh: the clock was set back";
    assert_eq!(scene.reason("crs-1").await, reason);
    let told = scene.told("run.waiting", &["instance", "code", "next_attempt_at"]);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("warn crs-1 - 2026-03-02T04:00:30"), "{told:?}");
    assert_eq!(scene.asked(RENEW_REDIS), 0);
}

/// A firing that is still to come by this clock waits for its instant, and is no error.
#[tokio::test]
async fn a_run_that_a_clock_too_far_ahead_fired_waits_for_its_own_instant() {
    let mut scene = scene(&["crs-1"]).await;
    scene.fire().await;
    scene.stage.clocks.jump(-hours(1));
    scene.work("shop").await;
    assert_eq!(scene.waits("crs-1").await, waiting("backoff", 3600));
    assert!(scene.told("run.waiting", &["instance", "class"]).contains(&"warn crs-1 -".to_owned()));
}

/// The account's finding, told by `clock.skewed` when it begins: its runs repeat no error.
#[tokio::test]
async fn a_clock_that_is_off_the_clouds_holds_orders_and_is_told_once() {
    let mut scene = scene(&["crs-1", "crs-2"]).await;
    scene.fire().await;
    scene.stage.clocks.jump(SignedDuration::from_secs(120));
    scene.work("shop").await;
    assert_eq!(scene.told("clock.skewed", &["account"]), ["error shop"]);
    let told = scene.told("run.waiting", &["instance", "class", "code"]);
    assert_eq!(told, ["warn crs-1 - -", "warn crs-2 - -"]);
    let run = scene.run("crs-1").await;
    assert_eq!((run.hold.as_deref(), run.code.as_deref()), (Some("backoff"), Some("ClockSkewed")));
    assert!(scene.charged().is_empty());
}

/// A size can only be read off a look: without one there is nothing to buy.
#[tokio::test]
async fn an_upgrade_whose_size_was_never_seen_is_looked_at_before_it_asks_for_a_permit() {
    let grow = with(policy("grow", "shop", Product::REDIS, &["crs-1"]), |policy| {
        policy.terms.action = crate::fleet::upgrade(2048, None);
    });
    let mut scene = Scene::open(&[("crs-1", 40)], &[grow]).await;
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.charged(), ["crs-1"]);
    assert_eq!(scene.stage.instance("crs-1").spec.unwrap().mem_size_mb, 2048);
}
