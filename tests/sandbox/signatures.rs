//! Who may call: signatures, clocks, envelopes.

use jiff::Timestamp;
use renewd::clock::Clock;
use renewd::sandbox::SECRET_KEY;
use serde_json::{Value, json};

use crate::client::{Call, KEY, Stage, sign_flat};

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

/// The common parameters of "signature v1", with others in place of some; an empty one is left out.
fn v1<'a>(now: &'a str, others: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = vec![
        ("Action", "RenewInstance"),
        ("Version", "2018-04-12"),
        ("Region", "ap-guangzhou"),
        ("Timestamp", now),
        ("Nonce", "1"),
        ("SecretId", KEY),
        ("InstanceId", "crs-sandbox-1"),
        ("Period", "1"),
    ];
    pairs.retain(|(name, _)| others.iter().all(|(other, _)| other != name));
    pairs.extend(others.iter().filter(|(_, value)| !value.is_empty()));
    pairs
}

async fn post_v1(stage: &Stage, secret: &str, pairs: &[(&str, &str)]) -> Value {
    let form = sign_flat(&format!("POST{}/", stage.host()), secret, pairs);
    stage.post_form("/", form).await["Response"].take()
}

#[tokio::test]
async fn signature_v1_is_good_by_either_algorithm_by_post_or_get() {
    let stage = Stage::open().await;
    let now = stage.clock.now().as_second().to_string();
    for (nonce, algorithm) in [("1", ""), ("2", "HmacSHA1"), ("3", "HmacSHA256")] {
        let more =
            [("SignatureMethod", algorithm), ("Nonce", nonce), ("RequestClient", "SDK_PYTHON_3.1.195")];
        let answer = post_v1(&stage, SECRET_KEY, &v1(&now, &more)).await;
        assert!(answer["DealName"].is_string(), "{algorithm} {answer}");
    }
    let describe = [
        ("Action", "DescribeInstances"),
        ("Version", "2017-03-12"),
        ("InstanceId", ""),
        ("Period", ""),
        ("InstanceIds.0", "ins-sandbox-1"),
        ("Nonce", "4"),
        ("Language", "en-US"),
        ("Token", "FAKE-SESSION-TOKEN"),
    ];
    let query = sign_flat(&format!("GET{}/", stage.host()), SECRET_KEY, &v1(&now, &describe));
    let text =
        reqwest::get(format!("{}/?{query}", stage.cloud.base_url())).await.unwrap().text().await.unwrap();
    assert!(text.contains("\"InstanceId\":\"ins-sandbox-1\""), "{text}");
    assert_eq!(stage.cloud.ledger().len(), 3);
    assert_eq!(stage.cloud.requests()["redis:RenewInstance"].total, 3);
    assert_eq!(stage.cloud.requests()["cvm:DescribeInstances"].total, 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_signature_v1_has_its_documented_code() {
    let stage = Stage::open().await;
    let now = stage.clock.now().as_second();
    let (now, early, late) = (now.to_string(), (now - 301).to_string(), (now + 301).to_string());
    for (name, value, code) in [
        ("SecretId", "AKIDother", "AuthFailure.SecretIdNotFound"),
        ("SecretId", "", "MissingParameter"),
        ("Timestamp", early.as_str(), "AuthFailure.SignatureExpire"),
        ("Timestamp", late.as_str(), "AuthFailure.SignatureExpire"),
        ("Timestamp", "", "MissingParameter"),
        ("Nonce", "0", "InvalidParameter"),
        ("Version", "", "MissingParameter"),
        ("Version", "2017-03-12", "NoSuchVersion"),
        ("Action", "DestroyInstance", "InvalidAction"),
        ("Action", "InquiryInstancePrice", "InvalidAction"),
        ("Region", "", "MissingParameter"),
        ("InstanceName", "n", "UnknownParameter"),
    ] {
        let answer = post_v1(&stage, SECRET_KEY, &v1(&now, &[(name, value)])).await;
        assert_eq!(answer["Error"]["Code"], code, "{name}={value} {answer}");
    }
    let answer = post_v1(&stage, "another-secret", &v1(&now, &[("SignatureMethod", "HmacSHA256")])).await;
    assert_eq!(answer["Error"]["Code"], "AuthFailure.SignatureFailure");
    let signed = sign_flat(&format!("POST{}/", stage.host()), SECRET_KEY, &v1(&now, &[]));
    let changed = stage.post_form("/", signed.replace("crs-sandbox-1", "crs-sandbox-2")).await;
    assert_eq!(changed["Response"]["Error"]["Code"], "AuthFailure.SignatureFailure");
    assert!(stage.cloud.ledger().is_empty());
}

#[tokio::test]
async fn a_signature_v1_sent_twice_charges_once() {
    let stage = Stage::open().await;
    let now = stage.clock.now().as_second().to_string();
    let pairs = v1(&now, &[("Nonce", "7")]);
    assert!(post_v1(&stage, SECRET_KEY, &pairs).await["DealName"].is_string());
    let again = post_v1(&stage, SECRET_KEY, &pairs).await;
    assert_eq!(again["Error"]["Code"], "InvalidRequest.ReplayAttack");
    assert_eq!(stage.cloud.ledger().len(), 1);
}

#[tokio::test]
async fn an_unsigned_payload_is_good_where_a_header_says_so() {
    let stage = Stage::open().await;
    let post = Call { is_payload_signed: false, ..Call::renew("crs-sandbox-1", 1) };
    let get = Call { method: "GET", parameters: "InstanceId=crs-sandbox-1&Period=1".into(), ..post.clone() };
    assert_eq!(stage.code(&post).await, "ok");
    assert_eq!(stage.code(&get).await, "ok");
    let mut headers = post.headers(&stage.host(), stage.clock.now());
    headers.retain(|(name, _)| *name != "x-tc-content-sha256");
    let text = stage.send_with(&post, &headers).await.unwrap().text().await.unwrap();
    assert!(text.contains("AuthFailure.SignatureFailure"), "{text}");
    assert_eq!(stage.cloud.ledger().len(), 2);
}
