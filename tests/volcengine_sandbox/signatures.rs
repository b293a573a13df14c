//! Which signatures are let in.

use crate::client::{Call, Stage};

#[tokio::test]
async fn a_call_that_is_not_well_signed_is_refused_with_its_documented_code() {
    let stage = Stage::open().await;
    let good = Call::renew("i-sandbox-1", 1, "t");
    let unknown_action = Call::ecs("RenewInstances", &[]);
    let refusals = [
        (Call { secret: "another".into(), ..good.clone() }, 401, "SignatureDoesNotMatch"),
        (Call { key_id: "AKLTnobody".into(), ..good.clone() }, 401, "InvalidAccessKey"),
        (Call { skew_seconds: -901, ..good.clone() }, 400, "InvalidTimestamp"),
        (Call { skew_seconds: 901, ..good.clone() }, 400, "InvalidTimestamp"),
        (Call { service: "ecss", ..good.clone() }, 404, "ServiceNotFound"),
        (Call { service: "billing", ..good.clone() }, 404, "InvalidActionOrVersion"),
        (Call { method: "POST", ..good.clone() }, 405, "MethodNotAllowed"),
        (unknown_action, 404, "InvalidActionOrVersion"),
    ];
    for (call, status, code) in refusals {
        assert_eq!(stage.code(&call).await, (status, code.to_owned()));
    }
    assert!(stage.sandbox.ledger().is_empty());
    for skew_seconds in [-900, 900] {
        let call = Call { skew_seconds, ..Call::ecs("DescribeInstances", &[]) };
        assert_eq!(stage.code(&call).await, (200, "ok".to_owned()), "{skew_seconds}");
    }
}

#[tokio::test]
async fn a_call_without_a_signature_is_told_so_in_the_providers_own_envelope() {
    let stage = Stage::open().await;
    let url = format!("{}/?Action=RenewInstance&Version=2020-04-01", stage.sandbox.base_url());
    let response = reqwest::get(url).await.unwrap();
    assert_eq!(response.status(), 401);
    let text = response.text().await.unwrap();
    assert!(text.contains("\"Code\":\"MissingAuthenticationToken\""), "{text}");
}
