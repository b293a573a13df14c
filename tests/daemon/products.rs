//! Every product that is built, whatever spoils the answer to its purchase.

use std::time::Duration;

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::Value;

use crate::harness::{Stage, policy, text, until};

/// A stall longer than no client waits is slow to test; a late true answer is the same to the books.
const LATE: Duration = Duration::from_millis(1500);

/// Volcengine's keys have other names, and its own pace is slow for a test.
const VOLCENGINE: [(&str, &str); 4] = [
    ("provider = \"tencentcloud\"", "provider = \"volcengine\""),
    ("secret_id =", "access_key_id ="),
    ("secret_key =", "secret_access_key ="),
    ("[retry]", "[account.shop.rate]\n\"ecs:RenewInstance\" = 8\n[retry]"),
];

struct Wares {
    product: &'static str,
    region: &'static str,
    purchase: &'static str,
    prefix: &'static str,
    /// A code that leaves open whether the cloud acted.
    ambiguous: &'static str,
}

const REDIS: Wares = Wares {
    product: "redis",
    region: "ap-guangzhou",
    purchase: "redis:RenewInstance",
    prefix: "crs",
    ambiguous: "FailedOperation.SystemError",
};
const CVM: Wares = Wares {
    product: "cvm",
    region: "ap-guangzhou",
    purchase: "cvm:RenewInstances",
    prefix: "ins",
    ambiguous: "InternalServerError",
};
const CVM_V2: Wares = Wares {
    product: "cvm-v2",
    region: "gz",
    purchase: "cvm-v2:RenewInstance",
    prefix: "ins",
    ambiguous: "OperationFail.SystemBusy",
};

const ECS: Wares = Wares {
    product: "ecs",
    region: "cn-beijing",
    purchase: "ecs:RenewInstance",
    prefix: "i",
    ambiguous: "InternalError",
};

fn spoilt(ambiguous: &str) -> [(&'static str, Spoilt); 6] {
    [
        ("code", Spoilt::Code(ambiguous.to_owned())),
        ("http", Spoilt::Http(502)),
        ("drop", Spoilt::Drop),
        ("stall", Spoilt::Stall(LATE)),
        ("garbage", Spoilt::Garbage),
        ("truncate", Spoilt::Truncate),
    ]
}

/// One instance for each fault, before and after the charge, and one without.
fn each_fault_charges_once(wares: &Wares) -> Stage {
    let stage = Stage::new();
    if wares.product == "ecs" {
        use_volcengine(&stage);
    }
    let mut all = vec![format!("{}-plain", wares.prefix)];
    for (name, spoilt) in spoilt(wares.ambiguous) {
        for (effect, word) in [(Effect::Before, "before"), (Effect::After, "after")] {
            let id = format!("{}-{name}-{word}", wares.prefix);
            stage.cloud.inject(vec![Fault::spoil(wares.purchase, effect, spoilt.clone()).on(&id)]);
            all.push(id);
        }
    }
    for id in &all {
        stage.expires_in_days(id, 5);
    }
    let ids: Vec<&str> = all.iter().map(String::as_str).collect();
    let policy = policy("month", &ids, "").replace("\"redis\"", &format!("{:?}", wares.product));
    stage.write_policies(&policy.replace("\"ap-guangzhou\"", &format!("{:?}", wares.region)));
    let daemon = stage.start();
    let confirmed: Vec<Value> = ids.iter().map(|id| stage.until_order(id, "confirmed")).collect();
    daemon.stop();

    stage.assert_agreement();
    for (id, order) in ids.iter().zip(&confirmed) {
        assert_eq!(text(order, "product"), wares.product, "{id}");
        // With a token the same order is sent again at once; without one it takes evidence and a new order.
        let ordered = if id.ends_with("before") && wares.product != "ecs" { 2 } else { 1 };
        assert_eq!(stage.orders_of(id).len(), ordered, "{id}: {:#?}", stage.orders_of(id));
    }
    stage
}

fn use_volcengine(stage: &Stage) {
    let path = stage.folder().join("renewd.toml");
    let tencent = std::fs::read_to_string(&path).unwrap();
    let volcengine = VOLCENGINE.iter().fold(tencent, |text, (from, to)| text.replace(from, to));
    std::fs::write(path, volcengine).unwrap();
    std::fs::write(stage.folder().join("secret-id"), "AKLTsandboxshop").unwrap();
}

#[test]
fn redis_is_charged_once_whatever_spoils_the_answer() {
    each_fault_charges_once(&REDIS);
}

#[test]
fn cvm_is_charged_once_whatever_spoils_the_answer_and_takes_its_number_from_the_order_list() {
    each_fault_charges_once(&CVM);
}

#[test]
fn cvm_v2_is_charged_once_whatever_spoils_the_answer() {
    each_fault_charges_once(&CVM_V2);
}

#[test]
fn ecs_is_charged_once_whatever_spoils_the_answer_and_sends_its_token_again_at_once() {
    let stage = each_fault_charges_once(&ECS);
    for order in stage.orders() {
        assert!(text(&order, "client_token").len() <= 36, "{order:#}");
    }
}

#[test]
fn a_token_of_an_earlier_life_is_sent_again_only_once_evidence_says_not_ordered() {
    let stage = Stage::new();
    use_volcengine(&stage);
    stage.expires_in_days("i-stalled", 5);
    let stall = Fault::spoil(ECS.purchase, Effect::Before, Spoilt::Stall(Duration::from_secs(30)));
    stage.cloud.inject(vec![stall.on("i-stalled")]);
    let policy = policy("month", &["i-stalled"], "").replace("\"redis\"", "\"ecs\"");
    stage.write_policies(&policy.replace("\"ap-guangzhou\"", "\"cn-beijing\""));
    let killed = stage.start();
    stage.until_order("i-stalled", "intended");
    drop(killed);

    let daemon = stage.start();
    stage.until_order("i-stalled", "confirmed");
    daemon.stop();

    let orders = stage.orders_of("i-stalled");
    assert_eq!(orders.len(), 2, "{orders:#?}");
    assert_eq!(orders[1]["error"]["code"], "NotOrdered");
    assert_eq!(orders[0]["client_token"], orders[1]["client_token"], "the token belongs to the cycle");
    let requests = serde_json::to_value(stage.cloud.requests()).unwrap();
    assert_eq!(
        requests["ecs:RenewInstance"]["total"], 2,
        "the second life did not trust the first one's token"
    );
    stage.assert_agreement();
}

#[test]
fn a_token_whose_first_request_is_still_at_work_is_asked_about_until_it_names_the_order() {
    let stage = Stage::new();
    use_volcengine(&stage);
    stage.expires_in_days("i-slow", 5);
    stage.cloud.inject(vec![
        Fault::lag(ECS.purchase, Duration::from_secs(3)).on("i-slow"),
        Fault::spoil(ECS.purchase, Effect::After, Spoilt::Drop).on("i-slow"),
    ]);
    let policy = policy("month", &["i-slow"], "").replace("\"redis\"", "\"ecs\"");
    stage.write_policies(&policy.replace("\"ap-guangzhou\"", "\"cn-beijing\""));
    let daemon = stage.start();
    stage.until_order("i-slow", "confirmed");
    daemon.stop();
    let requests = serde_json::to_value(stage.cloud.requests()).unwrap();
    let codes = &requests["ecs:RenewInstance"]["by_code"];
    assert!(codes["IdempotentProcessing"].as_u64() >= Some(1), "{codes:#}");
    assert_eq!(stage.orders_of("i-slow").len(), 1);
    stage.assert_agreement();
}

#[test]
fn a_token_is_not_sent_again_once_the_first_request_would_not_be_made_any_more() {
    let auto_renew = serde_json::json!({ "auto_renew": true });
    let dear = serde_json::json!({ "price_cny_per_month": 900 });
    for (change, end) in [(auto_renew, "skipped"), (dear, "failed")] {
        let stage = Stage::new();
        use_volcengine(&stage);
        stage.expires_in_days("i-lost", 5);
        let drop = Fault::spoil(ECS.purchase, Effect::Before, Spoilt::Drop);
        stage.cloud.inject(vec![drop.on("i-lost").times(1000)]);
        let policy = policy("month", &["i-lost"], "max_price_cny = 150").replace("\"redis\"", "\"ecs\"");
        stage.write_policies(&policy.replace("\"ap-guangzhou\"", "\"cn-beijing\""));
        let daemon = stage.start();
        let sent = || {
            let requests = serde_json::to_value(stage.cloud.requests()).unwrap();
            requests[ECS.purchase]["total"].as_u64().unwrap_or(0)
        };
        let before = until("the request is sent again", || Some(sent()).filter(|sent| *sent >= 2));
        stage.change("i-lost", change);
        let order = stage.until_order("i-lost", "refused");
        assert_eq!(order["error"]["code"], "NotOrdered", "{order:#}");
        stage.until_run("i-lost", end);
        daemon.stop();
        assert!(sent() <= before + 1, "one may have been under way: {} after {before}", sent());
        assert_eq!(stage.charges_of("i-lost"), 0);
    }
}

#[test]
fn a_cvm_renewal_sends_the_flag_back_as_it_was_seen() {
    let stage = Stage::new();
    stage.expires_in_days("ins-auto", 5);
    stage.change("ins-auto", serde_json::json!({ "auto_renew": true }));
    let more = "on_auto_renew = \"renew\"";
    stage.write_policies(&policy("month", &["ins-auto"], more).replace("\"redis\"", "\"cvm\""));
    let daemon = stage.start();
    stage.until_order("ins-auto", "confirmed");
    daemon.stop();
    stage.assert_agreement();
    let seen = stage.list(&["instances", "--instance", "ins-auto"]);
    assert_eq!(text(&seen[0], "auto_renew"), "on", "the renewal did not switch it off");
}
