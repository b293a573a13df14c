//! Who may call: signatures, clocks, envelopes.

use jiff::Timestamp;
use renewd::clock::Clock;
use serde_json::json;

use crate::client::{Call, Stage};

#[tokio::test]
async fn signatures_over_two_or_three_headers_by_post_or_get_are_good() {
    let stage = Stage::open().await;
    let post = Call::describe("crs-sandbox-1");
    let doc_example = Call { signed_headers: "content-type;host;x-tc-action", ..post.clone() };
    let get =
        Call { method: "GET", parameters: "InstanceIds.0=crs-sandbox-1&Limit=5".into(), ..post.clone() };
    for call in [post, doc_example, get] {
        let answer = stage.call(&call).await;
        assert_eq!(answer["InstanceSet"][0]["InstanceId"], "crs-sandbox-1", "{} {answer}", call.method);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_signature_has_its_documented_code() {
    let stage = Stage::open().await;
    let good = Call::describe("crs-sandbox-1");
    let wrong = [
        (Call { secret: "another-secret".into(), ..good.clone() }, "AuthFailure.SignatureFailure"),
        (Call { key_id: "AKIDother".into(), ..good.clone() }, "AuthFailure.SecretIdNotFound"),
        (Call { skew_seconds: -301, ..good.clone() }, "AuthFailure.SignatureExpire"),
        (Call { skew_seconds: 301, ..good.clone() }, "AuthFailure.SignatureExpire"),
        (Call { signed_headers: "host", ..good.clone() }, "AuthFailure.InvalidAuthorization"),
        (Call { skew_seconds: -300, ..good.clone() }, "ok"),
        (Call { skew_seconds: 300, ..good.clone() }, "ok"),
    ];
    for (call, code) in wrong {
        assert_eq!(stage.code(&call).await, code, "{} {}", call.key_id, call.skew_seconds);
    }
}

#[tokio::test]
async fn a_request_changed_after_it_was_signed_is_refused() {
    let stage = Stage::open().await;
    let signed = Call::renew("crs-sandbox-1", 1);
    let headers = signed.headers(&stage.host(), stage.clock.now());
    let changed = stage.send_with(&Call::renew("crs-sandbox-2", 1), &headers).await.unwrap();
    let text = changed.text().await.unwrap();
    assert!(text.contains("AuthFailure.SignatureFailure"), "{text}");
    assert!(stage.cloud.ledger().is_empty());
}

#[tokio::test]
async fn each_missing_header_is_named() {
    let stage = Stage::open().await;
    let call = Call::describe("crs-sandbox-1");
    let all = call.headers(&stage.host(), stage.clock.now());
    for name in ["authorization", "x-tc-action", "x-tc-version", "x-tc-timestamp", "x-tc-region"] {
        let without: Vec<_> = all.iter().filter(|(known, _)| *known != name).cloned().collect();
        let text = stage.send_with(&call, &without).await.unwrap().text().await.unwrap();
        assert!(text.contains("\"MissingParameter\""), "{name}: {text}");
        assert!(text.to_lowercase().contains(name), "{name}: {text}");
    }
}

#[tokio::test]
async fn services_actions_versions_and_methods_we_do_not_play_are_refused() {
    let stage = Stage::open().await;
    let good = Call::describe("crs-sandbox-1");
    let wrong = [
        (Call { service: "mail", ..good.clone() }, "NoSuchProduct"),
        (Call { action: "DestroyInstance", ..good.clone() }, "InvalidAction"),
        (Call { service: "billing", ..good.clone() }, "InvalidAction"),
        (Call { version: "2017-03-12", ..good.clone() }, "NoSuchVersion"),
        (Call { method: "PUT", ..good.clone() }, "UnsupportedProtocol"),
    ];
    for (call, code) in wrong {
        assert_eq!(stage.code(&call).await, code);
    }
    // Billing does without a region, Redis does not.
    assert_eq!(stage.code(&Call { region: None, ..good }).await, "MissingParameter");
    assert_eq!(stage.code(&Call::billing("DescribeAccountBalance", &json!({}))).await, "ok");
}

#[tokio::test]
async fn answers_carry_the_clouds_own_date() {
    let stage = Stage::open().await;
    stage.clock.jump_to("2026-03-01T08:00:00Z".parse::<Timestamp>().unwrap());
    let answer = stage.send(&Call::describe("crs-sandbox-1")).await.unwrap();
    assert_eq!(answer.headers()["date"], "Sun, 01 Mar 2026 08:00:00 GMT");
}

#[tokio::test]
async fn bytes_that_are_no_request_do_not_bring_it_down() {
    let stage = Stage::open().await;
    let mut noise =
        b"POST / HTTP/1.1\r\nhost: x\r\nauthorization: TC3-HMAC-SHA256 Credential=\xff///".to_vec();
    noise.extend(b", SignedHeaders=;host;content-type, Signature=\r\nx-tc-action: \xf0\r\nx-tc-timestamp: 99999999999999999999\r\n");
    noise.extend(b"x-tc-version: 1\r\nconnection: close\r\ncontent-length: 3\r\n\r\n\x00\xff{");
    for bytes in [b"\x16\x03\x01\x02\x00 not http\r\n\r\n".to_vec(), noise] {
        stage.raw_bytes(bytes).await;
    }
    assert_eq!(stage.code(&Call::describe("crs-sandbox-1")).await, "ok");
}

#[tokio::test]
async fn a_request_beyond_ten_megabytes_is_refused() {
    let stage = Stage::open().await;
    let call = Call { parameters: " ".repeat(10 * 1024 * 1024 + 1), ..Call::describe("") };
    let sent = stage.send(&call).await;
    // The refusal may arrive while the rest is still being sent; then the connection ends.
    if let Ok(answer) = sent {
        assert!(answer.text().await.unwrap().contains("RequestSizeLimitExceeded"));
    }
    assert_eq!(stage.cloud.requests()["unknown"].by_code["RequestSizeLimitExceeded"], 1);
}
