//! The controls of the practice cloud.

use serde_json::{Value, json};

use crate::client::{Call, Stage};

#[tokio::test]
async fn nine_instances_of_each_product_expire_in_five_days() {
    let stage = Stage::open().await;
    let list = stage.call(&Call::redis("DescribeInstances", &json!({ "Limit": 100 }))).await;
    assert_eq!(list["TotalCount"], 9);
    for prefix in ["crs", "ins", "i"] {
        for number in [1, 9] {
            let path = format!("instances/{prefix}-sandbox-{number}");
            let (status, instance) = stage.admin("PUT", &path, "{}").await;
            assert_eq!((status, &instance["expires_at"]), (200, &json!("2026-01-25T12:00:00Z")), "{path}");
        }
    }
}

#[tokio::test]
async fn the_ledger_and_the_counters_are_served_as_json() {
    let stage = Stage::open().await;
    assert_eq!(stage.admin("GET", "ledger", "").await, (200, json!([])));
    stage.call(&Call::renew("crs-sandbox-1", 1)).await;
    stage.call(&Call::renew("crs-nowhere", 1)).await;
    let (_, ledger) = stage.admin("GET", "ledger", "").await;
    assert_eq!(ledger, serde_json::to_value(stage.cloud.ledger()).unwrap());
    assert_eq!(ledger[0]["instance"], "crs-sandbox-1");
    let (_, requests) = stage.admin("GET", "requests", "").await;
    let expected = json!({ "redis:RenewInstance": {
        "total": 2, "max_in_one_second": 2, "by_code": { "ok": 1, "ResourceNotFound.InstanceNotExists": 1 },
    }});
    assert_eq!(requests, expected);
}

#[tokio::test]
async fn an_instance_is_changed_in_parts_and_made_when_there_is_none() {
    let stage = Stage::open().await;
    let change = json!({ "expires_at": "2026-01-21T00:00:00Z", "state": "isolated", "auto_renew": "on" });
    stage.admin("PUT", "instances/crs-sandbox-1", &change.to_string()).await;
    let (_, instance) =
        stage.admin("PUT", "instances/crs-sandbox-1", "{\"spec\": {\"mem_size_mb\": 2048}}").await;
    assert_eq!((&instance["state"], &instance["auto_renew"]), (&json!("isolated"), &json!(true)));
    let seen = stage.call(&Call::describe("crs-sandbox-1")).await["InstanceSet"][0].clone();
    assert_eq!((&seen["Status"], &seen["AutoRenewFlag"]), (&json!(-2), &json!(1)));
    assert_eq!(
        (&seen["DeadlineTime"], &seen["RedisShardSize"]),
        (&json!("2026-01-21 08:00:00"), &json!(2048))
    );
    assert_eq!(stage.admin("PUT", "instances/crs-new", "{}").await.0, 200);
    assert_eq!(stage.code(&Call::renew("crs-new", 1)).await, "ok");
}

#[tokio::test]
async fn a_balance_is_a_number_or_an_object() {
    let stage = Stage::open().await;
    let renew = Call { key_id: "AKIDsandbox-poor".into(), ..Call::renew("crs-sandbox-1", 1) };
    for (body, code) in [
        ("99.99", "ResourceUnavailable.AccountBalanceNotEnough"),
        ("100", "ok"),
        ("{\"cny\": 0}", "ResourceUnavailable.AccountBalanceNotEnough"),
        ("{\"cny\": 100.00}", "ok"),
    ] {
        assert_eq!(stage.admin("PUT", "balance/AKIDsandbox-poor", body).await.0, 200);
        assert_eq!(stage.code(&renew).await, code, "{body}");
    }
}

#[tokio::test]
async fn faults_that_wait_can_be_seen_and_forgotten() {
    let stage = Stage::open().await;
    let fault = json!({ "api": "redis:RenewInstance", "instance": "crs-sandbox-1", "effect": "after", "kind": "stall",
        "delay_ms": 5, "times": 3 });
    stage.inject(&json!([fault])).await;
    assert_eq!(stage.admin("GET", "faults", "").await, (200, json!([fault])));
    stage.admin("DELETE", "faults", "").await;
    assert_eq!(stage.admin("GET", "faults", "").await, (200, json!([])));
}

#[tokio::test]
async fn a_seed_brings_its_own_faults() {
    let stage = Stage::open_with(
        "[[faults]]\napi = \"RenewInstance\"\neffect = \"before\"\nkind = \"code\"\ncode = \"ResourceInUse\"\n",
    )
    .await;
    assert_eq!(stage.code(&Call::renew("crs-sandbox-1", 1)).await, "ResourceInUse");
    assert_eq!(stage.code(&Call::renew("crs-sandbox-1", 1)).await, "ok");
}

#[tokio::test]
async fn expiries_are_kept_in_whole_seconds_as_readers_see_them() {
    let stage = Stage::open().await;
    let change = "{\"expires_at\": \"2026-01-31T23:59:59.999Z\"}";
    let (_, instance) = stage.admin("PUT", "instances/crs-sandbox-1", change).await;
    assert_eq!(instance["expires_at"], "2026-01-31T23:59:59Z");
}

#[tokio::test]
async fn bad_admin_calls_say_what_is_wrong_and_change_nothing() {
    let stage = Stage::open().await;
    let good_fault = json!({ "api": "RenewInstance", "effect": "before", "kind": "drop", "times": 1 });
    let with = |name: &str, value: Value| {
        let mut bad = good_fault.clone();
        bad[name] = value;
        json!([good_fault, bad]).to_string()
    };
    let bad = [
        ("POST", "faults", with("api", json!("redis:Renew")), "redis:RenewInstance"),
        ("POST", "faults", with("kind", json!("explode")), "explode"),
        ("POST", "faults", with("effect", Value::Null), "effect"),
        ("POST", "faults", with("times", json!(0)), "times"),
        ("POST", "faults", with("time", json!(1)), "unknown field `time`"),
        ("POST", "faults", "[".to_owned(), "line 1"),
        ("PUT", "instances/crs-1", "{\"state\": \"asleep\"}".to_owned(), "asleep"),
        ("PUT", "instances/crs-1", "{\"expires_at\": \"soon\"}".to_owned(), "expires_at"),
        ("PUT", "instances/db-1", "{}".to_owned(), "ins- (cvm)"),
        ("PUT", "instances/ins-1", "{\"product\": \"redis\"}".to_owned(), "not one of that product"),
        ("PUT", "instances/crs-sandbox-1", "{\"product\": \"ecs\"}".to_owned(), "not one of that product"),
        ("PUT", "instances/crs%201", "{}".to_owned(), "character"),
        ("PUT", "balance/AKIDsandbox", "-5".to_owned(), "negative"),
        ("PUT", "balance/someone", "5".to_owned(), "AKIDsandbox"),
    ];
    for (method, path, body, hint) in bad {
        let (status, answer) = stage.admin(method, path, &body).await;
        let message = answer["error"].as_str().unwrap();
        assert!(status == 400 && message.contains(hint), "{method} {path} {body}: {status} {message}");
    }
    assert_eq!(stage.admin("GET", "faults", "").await.1, json!([]));
    assert_eq!(stage.admin("GET", "elsewhere", "").await.0, 404);
}

#[tokio::test]
async fn the_root_lists_the_controls() {
    let stage = Stage::open().await;
    let url = format!("{}/_sandbox/", stage.cloud.base_url());
    let help = reqwest::get(url).await.unwrap().text().await.unwrap();
    for call in [
        "[[instances]]",
        "[balances]",
        "/_sandbox/ledger",
        "/_sandbox/requests",
        "/_sandbox/faults",
        "/_sandbox/balance",
    ] {
        assert!(help.contains(call), "{call}");
    }
}
