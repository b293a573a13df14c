//! The metadata services: a role's temporary keys, and what calls with them are worth.

use serde_json::{Value, json};

use crate::client::{Call, Stage};

const TENCENT: &str = "/latest/meta-data/cam/security-credentials/";
const VOLCENGINE: &str = "/volcstack/latest/iam/security_credentials";

async fn get(stage: &Stage, path: &str, session: Option<&str>) -> (u16, String) {
    let request = reqwest::Client::new().get(format!("{}{path}", stage.cloud.base_url()));
    let request = match session {
        Some(session) => request.header("X-volc-ecs-metadata-token", session),
        None => request,
    };
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn put_session(stage: &Stage, ttl: &str) -> (u16, String) {
    let url = format!("{}/latest/api/token", stage.cloud.base_url());
    let request = reqwest::Client::new().put(url).header("X-volc-ecs-metadata-token-ttl-seconds", ttl);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_machine_of_tencent_cloud_asks_for_its_role_and_then_for_keys_that_are_other_ones_each_time() {
    let stage = Stage::open().await;
    assert_eq!(get(&stage, TENCENT, None).await, (200, "renewd-practice".to_owned()));
    let path = format!("{TENCENT}renewd-practice");
    let keys: Value = serde_json::from_str(&get(&stage, &path, None).await.1).unwrap();
    assert_eq!((&keys["Code"], &keys["TmpSecretKey"]), (&json!("Success"), &json!("sandbox-secret-key")));
    assert_eq!(keys["ExpiredTime"], 1_768_910_400 + 6 * 3_600);
    assert!(keys["TmpSecretId"].as_str().unwrap().starts_with("AKIDsandbox"));
    let others: Value = serde_json::from_str(&get(&stage, &path, None).await.1).unwrap();
    assert_ne!(keys["Token"], others["Token"]);
    assert_eq!(get(&stage, &format!("{TENCENT}nobody"), None).await.0, 404);
}

#[tokio::test]
async fn a_machine_of_volcengine_begins_a_session_first() {
    let stage = Stage::open().await;
    let list = format!("{VOLCENGINE}?type=user&format=json");
    assert_eq!(get(&stage, &list, None).await.0, 401);
    assert_eq!(get(&stage, &list, Some("1768910400-guessed")).await.0, 401);
    assert_eq!(put_session(&stage, "0").await.0, 400);
    assert_eq!(get(&stage, "/latest/api/token", None).await.0, 405);
    let (_, session) = put_session(&stage, "21600").await;
    assert_eq!(get(&stage, &list, Some(&session)).await, (200, "[\"renewd-practice\"]".to_owned()));
    let path = format!("{VOLCENGINE}/renewd-practice");
    let keys: Value = serde_json::from_str(&get(&stage, &path, Some(&session)).await.1).unwrap();
    assert_eq!(keys["ExpiredTime"], "2026-01-21T02:00:00+08:00");
    assert!(keys["AccessKeyId"].as_str().unwrap().starts_with("AKLTsandbox"));
    assert!(keys["SessionToken"].is_string() && keys["SecretAccessKey"] == "sandbox-secret-key");
}

#[tokio::test]
async fn temporary_keys_without_their_token_are_refused_and_a_machine_may_have_no_role_or_several() {
    let stage = Stage::open().await;
    let path = format!("{TENCENT}renewd-practice");
    let keys: Value = serde_json::from_str(&get(&stage, &path, None).await.1).unwrap();
    let key_id = keys["TmpSecretId"].as_str().unwrap().to_owned();
    let renew = Call { key_id, ..Call::renew("crs-sandbox-1", 1) };
    assert_eq!(stage.code(&renew).await, "AuthFailure.TokenFailure");
    assert!(stage.cloud.ledger().is_empty());

    let several = json!({ "names": ["one", "two"], "lifetime_seconds": 60 });
    assert_eq!(stage.admin("PUT", "role", &several.to_string()).await, (200, several.clone()));
    assert_eq!(stage.admin("GET", "role", "").await, (200, several));
    assert_eq!(get(&stage, TENCENT, None).await, (200, "one\ntwo".to_owned()));
    stage.admin("PUT", "role", "{\"names\": []}").await;
    assert_eq!(get(&stage, TENCENT, None).await.0, 404);
    assert_eq!(stage.admin("DELETE", "role/keys", "").await.0, 200);
    let fault = json!([{ "api": "metadata:roles", "effect": "before", "kind": "http", "http_status": 503 }]);
    stage.admin("POST", "faults", &fault.to_string()).await;
    assert_eq!(get(&stage, TENCENT, None).await.0, 503);
    assert_eq!(stage.cloud.requests()["metadata:roles"].total, 3);
}
