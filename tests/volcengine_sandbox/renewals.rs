//! Renewals: what they charge, what a client token is worth, and every reason not to sell.

use std::time::Duration;

use renewd::domain::money::Fen;
use renewd::domain::observation::{AutoRenew, ChargeType, InstanceState, Presence};
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::json;

use crate::client::{Call, ECS, KEY, Stage, instance, region};

#[tokio::test]
async fn a_renewal_moves_the_expiry_the_balance_and_the_ledger() {
    let stage = Stage::open().await;
    let result = stage.result(&Call::renew("i-sandbox-1", 12, "token-1")).await;
    let order_id = result["OrderId"].as_str().unwrap();
    assert!(order_id.starts_with("Order"), "{order_id}");
    let ledger = serde_json::to_value(stage.sandbox.ledger()).unwrap();
    assert_eq!(
        ledger,
        json!([{
            "provider": "volcengine",
            "product": "ecs",
            "action": "renew",
            "instance": "i-sandbox-1",
            "months": 12,
            "order_id": order_id,
            "client_token": "token-1",
            "amount_cny": 1200.0,
            "at": "2026-01-20T12:00:01Z",
            "expiry_before": "2026-01-25T12:00:00Z",
            "expiry_after": "2027-01-25T12:00:00Z",
        }])
    );
    assert_eq!(stage.cloud().balance().await.result, Ok(Fen::new(9_880_000)));
}

#[tokio::test]
async fn the_same_token_buys_once_and_answers_as_it_did() {
    let stage = Stage::open().await;
    let renewal = Call::renew("i-sandbox-1", 1, "token-1");
    let first = stage.result(&renewal).await;
    assert_eq!(stage.result(&renewal).await, first);
    let mismatch = (400, "IdempotentParameterMismatch".to_owned());
    assert_eq!(stage.code(&Call::renew("i-sandbox-1", 2, "token-1")).await, mismatch);
    assert_eq!(stage.code(&Call::renew("i-sandbox-2", 1, "token-1")).await, mismatch);
    assert_eq!(stage.sandbox.ledger().len(), 1);
    let other_key = Call { key_id: "AKLTsandbox-other".into(), ..renewal.clone() };
    assert_ne!(stage.result(&other_key).await, first);
    stage.clock.advance(Duration::from_secs(8 * 3_600));
    assert_eq!(stage.code(&renewal).await, (400, "InvalidIdempotency".to_owned()));
    assert_eq!(stage.sandbox.ledger().len(), 2);
}

#[tokio::test]
async fn a_token_is_in_process_until_readers_see_what_it_bought() {
    let stage = Stage::open().await;
    stage.inject(Fault::lag("ecs:RenewInstance", Duration::from_secs(30)));
    stage.inject(Fault::spoil("ecs:RenewInstance", Effect::After, Spoilt::Drop));
    let renewal = Call::renew("i-sandbox-1", 1, "token-1");
    assert!(stage.send(&renewal).await.is_err());
    assert_eq!(stage.code(&renewal).await, (412, "IdempotentProcessing".to_owned()));
    stage.clock.advance(Duration::from_secs(30));
    let order_id = stage.sandbox.ledger()[0].order_id.clone();
    assert_eq!(stage.result(&renewal).await["OrderId"], order_id.as_str());
    assert_eq!(stage.sandbox.ledger().len(), 1);
}

#[tokio::test]
async fn a_refused_renewal_leaves_its_token_free() {
    let stage = Stage::open_with(&format!("[balances]\n{KEY} = 1\n")).await;
    let renewal = Call::renew("i-sandbox-1", 1, "token-1");
    assert_eq!(stage.code(&renewal).await, (400, "Insufficient.Balance".to_owned()));
    stage.sandbox.set_balance(KEY, Fen::new(20_000));
    stage.result(&renewal).await;
    assert_eq!(stage.sandbox.ledger().len(), 1);
}

#[tokio::test]
async fn every_reason_not_to_sell_has_its_documented_code_and_status() {
    let stage = Stage::open_with(
        "[[instances]]\nid = \"i-busy\"\nstate = \"busy\"\n\
         [[instances]]\nid = \"i-gone\"\nstate = \"gone\"\n\
         [[instances]]\nid = \"i-hourly\"\ncharge_type = \"postpaid\"\n",
    )
    .await;
    let raw = |parameters: &[(&'static str, &str)]| Call::ecs("RenewInstance", parameters);
    let id = ("InstanceId", "i-sandbox-1");
    let refusals = [
        (Call::renew("i-nowhere", 1, "t"), 404, "InvalidInstance.NotFound"),
        (Call::renew("crs-sandbox-1", 1, "t"), 404, "InvalidInstance.NotFound"),
        (Call::renew("i-gone", 1, "t"), 404, "InvalidInstance.NotFound"),
        (Call::renew("i-busy", 1, "t"), 412, "OperationDenied.ResourceLocked"),
        (Call::renew("i-hourly", 1, "t"), 400, "InvalidChargeType"),
        (Call::renew("i-sandbox-1", 10, "t"), 400, "InvalidPeriod"),
        (Call::renew("i-sandbox-1", 0, "t"), 400, "InvalidPeriod"),
        (Call::renew("i-sandbox-1", 48, "t"), 400, "InvalidPeriod"),
        (Call::renew("i-sandbox-1", 1, &"t".repeat(65)), 400, "InvalidClientToken.Malformed"),
        (Call::renew("i-sandbox-1", 1, "ключ"), 400, "InvalidClientToken.Malformed"),
        (Call::renew("", 1, "t"), 400, "MissingParameter.InstanceId"),
        (raw(&[id, ("Period", "1"), ("PeriodUnit", "Week")]), 400, "InvalidPeriodUnit"),
        (raw(&[id, ("PeriodUnit", "Month")]), 400, "MissingParameter.Period"),
        (raw(&[id, ("Period", "one")]), 400, "InvalidArgument"),
        (raw(&[id, ("Period", "1"), ("AutoPay", "true")]), 400, "InvalidArgument"),
    ];
    for (call, status, code) in refusals {
        assert_eq!(stage.code(&call).await, (status, code.to_owned()), "{:?}", call.parameters);
    }
    assert!(stage.sandbox.ledger().is_empty());
}

#[tokio::test]
async fn instances_are_seen_as_they_stand_by_the_real_client() {
    let stage = Stage::open_with(
        "[[instances]]\nid = \"i-late\"\nstate = \"isolated\"\nexpires_at = \"2026-01-10T00:00:00Z\"\n\
         auto_renew = true\n[[instances]]\nid = \"i-hourly\"\ncharge_type = \"postpaid\"\n",
    )
    .await;
    let cloud = stage.cloud();
    let ids = ["i-late", "i-hourly", "i-sandbox-1", "i-nowhere"].map(instance);
    let seen = cloud.observe(ECS, &region(), &ids).await.result.unwrap();
    let facts = |at: usize| match &seen[at].presence {
        Presence::Visible(facts) => facts.clone(),
        Presence::NotVisible => panic!("{} is not visible", seen[at].instance),
    };
    assert_eq!(facts(0).state, InstanceState::Isolated);
    assert_eq!(facts(0).expires_at, Some("2026-01-10T00:00:00Z".parse().unwrap()));
    assert_eq!((facts(1).charge, facts(1).expires_at), (ChargeType::Postpaid, None));
    assert_eq!(facts(2).expires_at, Some("2026-01-25T12:00:00Z".parse().unwrap()));
    assert_eq!(seen[3].presence, Presence::NotVisible);
    let settings = cloud.auto_renew(ECS, &ids).await.result.unwrap();
    let settings: Vec<_> = settings.into_iter().map(|(_, setting)| setting).collect();
    assert_eq!(settings, [AutoRenew::On, AutoRenew::Off, AutoRenew::Off, AutoRenew::Unreadable]);
}

#[tokio::test]
async fn instances_are_listed_by_pages() {
    let stage = Stage::open_with("[[instances]]\nprefix = \"i-fleet-\"\ncount = 6\n").await;
    let first = stage.result(&Call::ecs("DescribeInstances", &[])).await;
    assert_eq!((first["Instances"].as_array().unwrap().len(), &first["TotalCount"]), (10, &json!(15)));
    let token = first["NextToken"].as_str().unwrap().to_owned();
    let second = stage.result(&Call::ecs("DescribeInstances", &[("NextToken", &token)])).await;
    assert_eq!((second["Instances"].as_array().unwrap().len(), &second["NextToken"]), (5, &json!("")));
    let too_many = Call::ecs("DescribeInstances", &[("MaxResults", "101")]);
    assert_eq!(stage.code(&too_many).await, (400, "InvalidArgument".to_owned()));
}
