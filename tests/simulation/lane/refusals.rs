//! What each kind of refusal does to its order, its run and its account, and at which level it is told.

use renewd::domain::product::Product;
use renewd::engine::{Reconcile, Settings};
use renewd::retry::Pace;

use super::scene::{RENEW_REDIS, Scene, seconds, waiting};
use crate::fleet::policy;

const LIST: &str = "billing:DescribeDealsByCond";
const BALANCE: &str = "billing:DescribeAccountBalance";
const MAX_DELAY_S: i64 = 3600;

/// One instance whose next orders are refused with this code, fired and worked on.
async fn refused(code: &str, times: u32) -> Scene {
    let mut scene = open(&["crs-1"]).await;
    scene.refuse(RENEW_REDIS, code, times);
    scene.fire().await;
    scene.work("shop").await;
    scene
}

async fn open(ids: &[&str]) -> Scene {
    let instances: Vec<(&str, i64)> = ids.iter().zip(5..).map(|(id, left)| (*id, left)).collect();
    Scene::open(&instances, &[policy("cache", "shop", Product::REDIS, ids)]).await
}

/// What was told of the run and its order: names, levels, class and code.
fn told(scene: &Scene) -> Vec<String> {
    let mut all = Vec::new();
    for event in ["order.refused", "run.failed", "run.waiting", "run.retry", "account.paused"] {
        let lines = scene.told(event, &["class", "code"]);
        all.extend(lines.into_iter().map(|line| format!("{event} {line}")));
    }
    all
}

async fn again(scene: &mut Scene) {
    scene.sql("UPDATE runs SET state = 'queued', hold = NULL, next_attempt_at_ms = NULL").await;
    scene.forget_told();
    scene.work("shop").await;
}

#[tokio::test]
async fn what_is_locked_is_tried_again_in_a_moment_and_counts_as_an_attempt() {
    let code = "ResourceUnavailable.InstanceLockedError";
    let mut scene = refused(code, 1).await;
    let run = scene.run("crs-1").await;
    assert_eq!((run.state.as_str(), run.hold.as_deref(), run.attempts), ("waiting", Some("backoff"), 1));
    assert!((30..=60).contains(&run.wait_s.unwrap()), "{run:?}");
    let reason = run.reason.unwrap();
    assert!(reason.starts_with(&format!("its order was refused: {code} (busy): ")), "{reason}");
    assert!(!reason.contains("unpaid"), "{reason}");
    let order = scene.order("crs-1").await;
    assert_eq!((order.state.as_str(), order.class.as_deref()), ("refused", Some("busy")));
    assert_eq!(
        told(&scene),
        [format!("order.refused warn busy {code}"), format!("run.retry warn busy {code}")]
    );
    let fields = ["instance", "run", "order_row", "revision", "region", "product", "provider"];
    let named = "warn crs-1 1 1 1 ap-guangzhou redis tencentcloud";
    assert_eq!(scene.told("order.refused", &fields), [named]);
    assert_eq!(scene.told("run.retry", &fields), [named]);
    assert_eq!((scene.asked(LIST), scene.asked(BALANCE)), (0, 0), "neither says anything about a lock");
}

#[tokio::test]
async fn the_answer_that_uses_up_the_attempts_is_told_as_an_error() {
    let code = "ResourceUnavailable.InstanceLockedError";
    let mut scene = open(&["crs-1"]).await;
    let pace = Pace { first_delay: seconds(30), max_delay: seconds(3600), max_attempts: 2 };
    let settings = Settings { pace, settle: crate::life::SETTLE, zone: jiff::tz::TimeZone::UTC };
    let engine = &scene.stage.life().engine;
    engine.replace(settings, engine.accounts().as_ref().clone(), Vec::new()).await.unwrap();
    scene.refuse(RENEW_REDIS, code, 3);
    scene.fire().await;
    scene.work("shop").await;
    assert_eq!(scene.told("run.retry", &[]), ["warn"]);
    again(&mut scene).await;
    let words = scene.told("run.retry", &["class", "code", "message"]);
    assert!(words[0].starts_with(&format!("error busy {code} crs-1 was refused 2 times")), "{words:?}");
    assert_eq!(words.len(), 2);
    assert_eq!(scene.waits("crs-1").await, waiting("backoff", MAX_DELAY_S));
    again(&mut scene).await;
    assert_eq!(scene.told("run.retry", &[]), ["warn"], "once");
}

#[tokio::test]
async fn what_is_refused_for_good_fails_with_its_reason() {
    let code = "InvalidParameterValue";
    let mut scene = refused(code, 1).await;
    let run = scene.run("crs-1").await;
    assert_eq!((run.state.as_str(), run.attempts), ("failed", 0));
    assert!(run.reason.unwrap().starts_with(&format!("its order was refused: {code} (rejected): ")));
    assert_eq!(
        told(&scene),
        [format!("order.refused error rejected {code}"), format!("run.failed error rejected {code}")]
    );
}

/// Whatever family of codes it came in: the account's other instances may well be within its rights.
#[tokio::test]
async fn a_missing_right_holds_its_instance_and_neither_account_nor_key() {
    for code in ["AuthFailure.UnauthorizedOperation", "UnauthorizedOperation"] {
        let mut scene = open(&["crs-1", "crs-2"]).await;
        scene.refuse(RENEW_REDIS, code, 1);
        scene.fire().await;
        scene.work("shop").await;
        assert_eq!(scene.waits("crs-1").await, waiting("backoff", MAX_DELAY_S), "{code}");
        assert_eq!(scene.charged(), ["crs-2"]);
        assert_eq!(scene.run("crs-1").await.attempts, 0);
        assert_eq!(scene.told("account.paused", &[]), [""; 0]);
    }
}

#[tokio::test]
async fn what_somebody_must_put_right_is_an_error_when_it_begins_and_a_warning_while_it_lasts() {
    let code = "UnauthorizedOperation";
    let mut scene = refused(code, 2).await;
    assert_eq!(
        told(&scene),
        [format!("order.refused warn blocked {code}"), format!("run.waiting error blocked {code}")]
    );
    let waits = scene.told("run.waiting", &["next_attempt_at", "message"]);
    assert!(waits[0].starts_with("error 2026-03-02T05:00:00"), "{waits:?}");
    assert!(
        waits[0].contains("for something outside to change: UnauthorizedOperation (blocked)"),
        "{waits:?}"
    );
    again(&mut scene).await;
    assert_eq!(
        told(&scene),
        [format!("order.refused warn blocked {code}"), format!("run.retry warn blocked {code}")]
    );
}

#[tokio::test]
async fn a_refused_key_holds_the_account_until_its_next_test() {
    let code = "AuthFailure.SecretIdNotFound";
    let mut scene = refused(code, 1).await;
    assert_eq!(scene.waits("crs-1").await, waiting("pause", 600));
    let now = scene.now();
    let [pause] = &scene.store().pauses(now).await.unwrap()[..] else { panic!("one pause") };
    assert_eq!(pause.kind, "credential");
    assert_eq!(
        told(&scene),
        [
            format!("order.refused warn credential {code}"),
            format!("run.retry warn credential {code}"),
            format!("account.paused error credential {code}"),
        ]
    );
    assert_eq!(scene.asked(BALANCE), 0);
}

/// The list names no order that is unpaid, so the words name none: least of all one that was paid.
#[tokio::test]
async fn an_unpaid_order_is_looked_for_in_the_list_of_a_week() {
    let code = "UnsupportedOperation.NotSupportUnpaidOrder";
    let mut scene = refused("ResourceUnavailable.InstanceLockedError", 1).await;
    scene.pass(seconds(61)).await;
    scene.work("shop").await;
    assert_eq!(scene.charged(), ["crs-1"]);
    confirm(&mut scene).await;
    // The term was taken back, and the next order meets one that is not paid for.
    let soon = scene.now() + crate::fleet::days(3);
    scene.stage.change("crs-1", |change| change.expires_at = Some(soon));
    scene
        .sql(
            "UPDATE instances SET expiry_high_ms = NULL, lower_since_ms = NULL, lower_looks = 0, cycle = cycle + 1,
                    cycle_expiry_ms = NULL",
        )
        .await;
    scene.refuse(RENEW_REDIS, code, 1);
    scene.pass(seconds(24 * 3600)).await;
    scene.work("shop").await;
    let reason = scene.reason("crs-1").await;
    assert!(reason.ends_with("; look for an unpaid order in the console: pay it or cancel it"), "{reason}");
    let listed = &scene.stage.cloud.requests()[LIST];
    assert_eq!(
        listed.by_code.keys().collect::<Vec<_>>(),
        ["ok"],
        "each question was one that can be answered"
    );
    assert_eq!(scene.waits("crs-1").await, waiting("backoff", MAX_DELAY_S));
}

async fn confirm(scene: &mut Scene) {
    let account = scene.account("shop");
    let engine = std::sync::Arc::clone(&scene.stage.life().engine);
    scene.stage.clocks.advance(seconds(600));
    Reconcile::new(engine, account).step().await.unwrap();
    assert_eq!(scene.order("crs-1").await.state, "confirmed");
}

/// A second's rest for the key; a lock elsewhere is no reason for one.
#[tokio::test]
async fn only_an_answer_that_says_too_fast_closes_the_key_for_a_second() {
    for (code, is_closed) in
        [("RequestLimitExceeded", true), ("ResourceUnavailable.InstanceLockedError", false)]
    {
        let mut scene = open(&["crs-1", "crs-2"]).await;
        scene.refuse(RENEW_REDIS, code, 1);
        scene.fire().await;
        scene.serve("shop").await;
        let refused_at = scene.now();
        scene.serve("shop").await;
        assert_eq!(scene.charged(), ["crs-2"]);
        let waited = scene.stage.cloud.ledger()[0].at.duration_since(refused_at).as_millis();
        assert_eq!(waited >= 1000, is_closed, "{code}: {waited} ms");
    }
}

#[tokio::test]
async fn an_answer_that_says_too_fast_is_no_attempt_and_tried_again_within_seconds() {
    let mut scene = refused("RequestLimitExceeded", 1).await;
    let run = scene.run("crs-1").await;
    assert_eq!((run.hold.as_deref(), run.attempts), (Some("backoff"), 0));
    assert!((2..=4).contains(&run.wait_s.unwrap()), "{run:?}");
    assert_eq!(
        told(&scene),
        [
            "order.refused warn throttled RequestLimitExceeded",
            "run.retry warn throttled RequestLimitExceeded"
        ]
    );
}

/// The process stood still between commit and send: the signature is too old to be sent.
#[tokio::test]
async fn what_never_left_is_recorded_as_unsent_with_what_stood_in_its_way() {
    let mut scene = open(&["crs-1"]).await;
    scene.fire().await;
    scene.step("shop").await;
    scene.stage.clocks.advance(seconds(120));
    scene.lane("shop").settle().await;
    let order = scene.order("crs-1").await;
    assert_eq!(
        (order.state.as_str(), order.class.as_deref(), order.code.as_deref()),
        ("refused", Some("unsent"), Some("Unsent"))
    );
    let message = order.message.unwrap();
    let (code, words) = message.split_once(": ").expect("the transport's own code and words");
    assert!(!code.is_empty() && !code.contains(' ') && !words.is_empty() && code != "Unsent", "{message}");
    let run = scene.run("crs-1").await;
    assert_eq!((run.state.as_str(), run.attempts), ("waiting", 0));
    assert!((30..=60).contains(&run.wait_s.unwrap()), "{run:?}");
    assert_eq!(told(&scene), ["order.refused warn unsent Unsent", "run.retry warn unsent Unsent"]);
    assert_eq!(scene.asked(RENEW_REDIS), 0);
}
