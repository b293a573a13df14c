//! Faults: whether the charge happens and what the client sees of it.

use std::time::{Duration, Instant};

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::{Value, json};

use crate::client::{Call, Stage};

const RENEW: &str = "redis:RenewInstance";

fn fault(kind: &str, effect: &str) -> Value {
    json!({ "api": RENEW, "kind": kind, "effect": effect, "times": 1 })
}

/// The bytes of one spoilt renewal, and whether it was charged; the next one must be whole again.
async fn spoil(fault: Value) -> (String, bool) {
    let stage = Stage::open().await;
    stage.inject(&json!([fault])).await;
    let raw = String::from_utf8_lossy(&stage.raw(&Call::renew("crs-sandbox-1", 1)).await).into_owned();
    let charged = stage.cloud.ledger().len() == 1;
    let expected = if charged { "2026-02-25 20:00:00" } else { "2026-01-25 20:00:00" };
    assert_eq!(stage.deadline("crs-sandbox-1").await, expected, "ledger and expiry agree");
    assert_eq!(stage.code(&Call::renew("crs-sandbox-2", 1)).await, "ok", "a fault hits as often as asked");
    (raw, charged)
}

fn body(raw: &str) -> &str {
    raw.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn a_code_is_answered_before_and_after_the_charge() {
    for (effect, charges) in [("before", false), ("after", true)] {
        let mut fault = fault("code", effect);
        fault["code"] = json!("FailedOperation.PayFailed");
        let (raw, charged) = spoil(fault).await;
        assert!(raw.starts_with("HTTP/1.1 200 "), "{raw}");
        let answer: Value = serde_json::from_str(body(&raw)).unwrap();
        assert_eq!(answer["Response"]["Error"]["Code"], "FailedOperation.PayFailed");
        assert_eq!(charged, charges, "{effect}");
    }
}

#[tokio::test]
async fn a_gateway_answers_with_a_page_before_and_after_the_charge() {
    for (effect, charges) in [("before", false), ("after", true)] {
        let mut fault = fault("http", effect);
        fault["http_status"] = json!(503);
        let (raw, charged) = spoil(fault).await;
        assert!(raw.starts_with("HTTP/1.1 503 "), "{raw}");
        assert!(body(&raw).starts_with("<html>"), "{raw}");
        assert_eq!(charged, charges, "{effect}");
    }
}

#[tokio::test]
async fn a_dropped_connection_shows_not_one_byte() {
    for (effect, charges) in [("before", false), ("after", true)] {
        assert_eq!(spoil(fault("drop", effect)).await, (String::new(), charges), "{effect}");
    }
}

#[tokio::test]
async fn garbage_is_a_good_status_with_no_json() {
    for (effect, charges) in [("before", false), ("after", true)] {
        let (raw, charged) = spoil(fault("garbage", effect)).await;
        assert!(raw.starts_with("HTTP/1.1 200 "), "{raw}");
        assert!(serde_json::from_str::<Value>(body(&raw)).is_err(), "{raw}");
        assert_eq!(charged, charges, "{effect}");
    }
}

#[tokio::test]
async fn a_truncated_answer_announces_more_than_it_gives() {
    for (effect, charges) in [("before", false), ("after", true)] {
        let (raw, charged) = spoil(fault("truncate", effect)).await;
        let announced = raw.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let announced: usize = announced.parse().unwrap();
        assert_eq!(body(&raw).len(), announced / 2, "{raw}");
        assert!(body(&raw).starts_with("{\"Response\":"), "{raw}");
        assert_eq!(charged, charges, "{effect}");
    }
}

#[tokio::test]
async fn a_stalled_answer_comes_late_if_the_charge_happened_and_never_if_not() {
    for (effect, charges) in [("before", false), ("after", true)] {
        let mut fault = fault("stall", effect);
        fault["delay_ms"] = json!(200);
        let asked_at = Instant::now();
        let (raw, charged) = spoil(fault).await;
        assert!(asked_at.elapsed() >= Duration::from_millis(200));
        assert_eq!(body(&raw).contains("DealName"), charges, "{raw}");
        assert_eq!(raw.is_empty(), !charges, "{raw}");
        assert_eq!(charged, charges, "{effect}");
    }
}

#[tokio::test]
async fn a_client_that_gives_up_on_a_stalled_answer_was_charged_all_the_same() {
    let stage = Stage::open().await;
    stage.cloud.inject(vec![Fault::spoil(RENEW, Effect::After, Spoilt::Stall(Duration::from_secs(3_600)))]);
    let renew = Call::renew("crs-sandbox-1", 1);
    let charged = async {
        while stage.cloud.ledger().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        answer = stage.send(&renew) => panic!("a stalled call was answered: {answer:?}"),
        () = charged => {}
    }
    assert_eq!(stage.cloud.ledger().len(), 1);
    stage.cloud.stop().await;
}

#[tokio::test]
async fn a_lag_hides_expiry_and_order_until_it_is_over() {
    let stage = Stage::open().await;
    let lag =
        json!({ "api": "RenewInstance", "kind": "lag", "effect": "after", "delay_ms": 60_000, "times": 1 });
    stage.inject(&json!([lag, fault("drop", "after")])).await;
    assert!(stage.raw(&Call::renew("crs-sandbox-1", 1)).await.is_empty(), "lag and drop go together");
    assert_eq!(stage.cloud.ledger().len(), 1);
    let window = json!({ "StartTime": "2026-01-20 00:00:00", "EndTime": "2026-01-21 00:00:00" });
    let deals = Call::billing("DescribeDealsByCond", &window);
    for (wait, deadline, orders) in [(59_999, "2026-01-25 20:00:00", 0), (1, "2026-02-25 20:00:00", 1)] {
        stage.clock.advance(Duration::from_millis(wait));
        assert_eq!(stage.deadline("crs-sandbox-1").await, deadline);
        assert_eq!(stage.call(&deals).await["TotalCount"], orders);
    }
}

#[tokio::test]
async fn a_lag_on_a_read_shows_that_read_the_past() {
    let stage = Stage::open().await;
    stage.call(&Call::renew("crs-sandbox-1", 1)).await;
    stage.cloud.inject(vec![Fault::lag("redis:DescribeInstances", Duration::from_secs(30))]);
    assert_eq!(stage.deadline("crs-sandbox-1").await, "2026-01-25 20:00:00");
    assert_eq!(stage.deadline("crs-sandbox-1").await, "2026-02-25 20:00:00");
}

#[tokio::test]
async fn a_lag_before_the_charge_is_refused_on_a_purchase_and_means_nothing_on_a_read() {
    let stage = Stage::open().await;
    let lag = |api: &str, effect: &str| json!([{ "api": api, "kind": "lag", "effect": effect, "times": 1 }]);
    let purchases =
        [RENEW, "RenewInstance", "redis:UpgradeInstance", "cvm:RenewInstances", "ecs:RenewInstance"];
    for api in purchases {
        let (status, answer) = stage.admin("POST", "faults", &lag(api, "before").to_string()).await;
        assert_eq!(status, 400, "{api}: {answer}");
        let message = answer["error"].as_str().unwrap();
        assert!(message.contains(api) && message.contains("write \"after\""), "{message}");
    }
    assert_eq!(stage.admin("GET", "faults", "").await.1, json!([]), "a refused fault does not wait");
    stage.inject(&lag("redis:DescribeInstances", "before")).await;
    stage.inject(&lag(RENEW, "after")).await;
}

#[tokio::test]
async fn a_fault_waits_for_its_instance_and_hits_as_often_as_asked() {
    let stage = Stage::open().await;
    let internal = Spoilt::Code("InternalError".into());
    stage.cloud.inject(vec![Fault::spoil(RENEW, Effect::Before, internal).on("crs-sandbox-2").times(2)]);
    let mut codes = Vec::new();
    for number in [1, 2, 2, 2] {
        codes.push(stage.code(&Call::renew(&format!("crs-sandbox-{number}"), 1)).await);
    }
    assert_eq!(codes, ["ok", "InternalError", "InternalError", "ok"]);
    assert_eq!(stage.cloud.requests()[RENEW].by_code["InternalError"], 2);
}

#[tokio::test]
async fn a_fault_after_the_charge_is_not_spent_on_a_refused_call() {
    let stage = Stage::open().await;
    stage.cloud.inject(vec![Fault::spoil(RENEW, Effect::After, Spoilt::Drop)]);
    assert_eq!(stage.code(&Call::renew("crs-nowhere", 1)).await, "ResourceNotFound.InstanceNotExists");
    assert!(stage.raw(&Call::renew("crs-sandbox-1", 1)).await.is_empty());
    assert_eq!(stage.cloud.ledger().len(), 1);
}

#[tokio::test]
async fn reads_can_fail_too() {
    let stage = Stage::open().await;
    stage.cloud.inject(vec![Fault::spoil("DescribeInstances", Effect::Before, Spoilt::Http(500))]);
    assert_eq!(stage.send(&Call::describe("crs-sandbox-1")).await.unwrap().status(), 500);
    assert_eq!(stage.cloud.requests()["redis:DescribeInstances"].by_code["http 500"], 1);
}
