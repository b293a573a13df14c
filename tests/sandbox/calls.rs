//! What the calls do: renewals, lists, prices, orders, quotas.

use std::time::Duration;

use renewd::domain::money::Fen;
use serde_json::{Value, json};

use crate::client::{Call, KEY, Stage};

fn deals(extra: &Value) -> Call {
    let mut parameters =
        json!({ "StartTime": "2026-01-20 00:00:00", "EndTime": "2026-01-21 00:00:00", "Limit": 20 });
    parameters.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    Call::billing("DescribeDealsByCond", &parameters)
}

#[tokio::test]
async fn a_renewal_moves_the_expiry_the_balance_and_the_ledger() {
    let stage = Stage::open().await;
    // 2026-01-25T12:00:00Z, written without a zone in UTC+8.
    assert_eq!(stage.deadline("crs-sandbox-1").await, "2026-01-25 20:00:00");
    let answer = stage.call(&Call::renew("crs-sandbox-1", 12)).await;
    let order_id = answer["DealName"].as_str().unwrap();
    assert_eq!(order_id.len(), 23);
    assert_eq!(answer.get("DealId"), None);
    assert_eq!(stage.deadline("crs-sandbox-1").await, "2027-01-25 20:00:00");
    let ledger = serde_json::to_value(stage.cloud.ledger()).unwrap();
    assert_eq!(
        ledger,
        json!([{
            "provider": "tencentcloud",
            "product": "redis",
            "action": "renew",
            "instance": "crs-sandbox-1",
            "months": 12,
            "order_id": order_id,
            "client_token": null,
            "amount_cny": 1200.0,
            "at": "2026-01-20T12:00:00Z",
            "expiry_before": "2026-01-25T12:00:00Z",
            "expiry_after": "2027-01-25T12:00:00Z",
        }])
    );
    let balance = stage.call(&Call::billing("DescribeAccountBalance", &json!({}))).await;
    assert_eq!(balance["Balance"], 9_880_000);
}

#[tokio::test]
async fn two_renewals_are_two_charges() {
    let stage = Stage::open().await;
    let first = stage.call(&Call::renew("crs-sandbox-1", 1)).await;
    let second = stage.call(&Call::renew("crs-sandbox-1", 1)).await;
    assert_ne!(first["DealName"], second["DealName"]);
    assert_eq!(stage.cloud.ledger().len(), 2);
    assert_eq!(stage.deadline("crs-sandbox-1").await, "2026-03-25 20:00:00");
}

#[tokio::test]
async fn every_reason_not_to_sell_has_its_documented_code() {
    let stage = Stage::open_with(
        "[[instances]]\nid = \"crs-busy\"\nstate = \"busy\"\n\
         [[instances]]\nid = \"crs-gone\"\nstate = \"gone\"\n\
         [[instances]]\nid = \"crs-hourly\"\ncharge_type = \"postpaid\"\n\
         [balances]\nAKIDsandbox-poor = 99.99\n",
    )
    .await;
    let period = |months: Value| {
        Call::redis("RenewInstance", &json!({ "InstanceId": "crs-sandbox-1", "Period": months }))
    };
    let poor = Call { key_id: "AKIDsandbox-poor".into(), ..Call::renew("crs-sandbox-1", 1) };
    let refusals = [
        (Call::renew("crs-nowhere", 1), "ResourceNotFound.InstanceNotExists"),
        (Call::renew("ins-sandbox-1", 1), "ResourceNotFound.InstanceNotExists"),
        (Call::renew("crs-busy", 1), "ResourceInUse.InstanceBeenLocked"),
        (Call::renew("crs-gone", 1), "ResourceUnavailable.InstanceDeleted"),
        (Call::renew("crs-hourly", 1), "FailedOperation.UnSupportError"),
        (Call::renew("", 1), "InvalidParameter.EmptyParam"),
        (poor, "ResourceUnavailable.AccountBalanceNotEnough"),
        (period(json!(0)), "LimitExceeded.PeriodLessThanMinLimit"),
        (period(json!(13)), "LimitExceeded.PeriodExceedMaxLimit"),
        (period(json!(37)), "LimitExceeded.PeriodExceedMaxLimit"),
        (period(json!("1")), "InvalidParameter"),
        (period(json!(1.5)), "InvalidParameter"),
        (period(Value::Null), "MissingParameter"),
        (Call { parameters: "[]".into(), ..Call::renew("", 1) }, "InvalidParameter"),
        (Call { parameters: "{\"Period\":".into(), ..Call::renew("", 1) }, "InvalidParameter"),
    ];
    for (call, code) in refusals {
        stage.clock.advance(Duration::from_secs(1));
        assert_eq!(stage.code(&call).await, code, "{}", call.parameters);
    }
    assert!(stage.cloud.ledger().is_empty());
}

#[tokio::test]
async fn a_parameter_nobody_documented_is_refused_and_one_not_played_is_not_ignored() {
    let stage = Stage::open().await;
    let token = json!({ "InstanceId": "crs-sandbox-1", "Period": 1, "ClientToken": "once" });
    assert_eq!(stage.code(&Call::redis("RenewInstance", &token)).await, "UnknownParameter");
    let filter = json!({ "ProjectIds": [7] });
    assert_eq!(stage.code(&Call::redis("DescribeInstances", &filter)).await, "UnsupportedOperation");
    let convert = json!({ "InstanceId": "crs-sandbox-1", "Period": 1, "ModifyPayMode": "postpaid" });
    assert_eq!(stage.code(&Call::redis("RenewInstance", &convert)).await, "InvalidParameter");
    assert!(stage.cloud.ledger().is_empty());
}

#[tokio::test]
async fn an_isolated_instance_runs_again_from_its_old_expiry_on() {
    let stage = Stage::open_with(
        "[[instances]]\nid = \"crs-late\"\nstate = \"isolated\"\nexpires_at = \"2026-01-10T00:00:00Z\"\n",
    )
    .await;
    let before = stage.call(&Call::describe("crs-late")).await;
    assert_eq!(before["InstanceSet"][0]["Status"], -2);
    assert_eq!(before["InstanceSet"][0]["CloseTime"], "2026-01-10 08:00:00");
    stage.call(&Call::renew("crs-late", 1)).await;
    let after = stage.call(&Call::describe("crs-late")).await;
    assert_eq!(after["InstanceSet"][0]["Status"], 2);
    assert_eq!(after["InstanceSet"][0]["DeadlineTime"], "2026-02-10 08:00:00");
}

#[tokio::test]
async fn a_price_is_in_fen_and_refused_where_the_renewal_would_be() {
    let stage = Stage::open_with("[[instances]]\nid = \"crs-dear\"\nprice_cny_per_month = 19.99\n").await;
    let ask = |instance: &str| {
        let parameters = json!({ "InstanceId": instance, "Period": 3 });
        Call::redis("InquiryPriceRenewInstance", &parameters)
    };
    let answer = stage.call(&ask("crs-dear")).await;
    assert_eq!((&answer["Price"], &answer["HighPrecisionPrice"]), (&json!(5_997.0), &json!(5_997.0)));
    assert_eq!((&answer["AmountUnit"], &answer["Currency"]), (&json!("pent"), &json!("CNY")));
    assert_eq!(stage.code(&ask("crs-nowhere")).await, "ResourceNotFound.InstanceNotExists");
    assert!(stage.cloud.ledger().is_empty());
}

#[tokio::test]
async fn instances_come_in_pages_and_by_filter() {
    let stage = Stage::open_with(
        "[[instances]]\nprefix = \"crs-fleet-\"\ncount = 50\nauto_renew = \"on\"\nexpires_in_days = 30\n\
         [[instances]]\nid = \"crs-hourly\"\ncharge_type = \"postpaid\"\n\
         [[instances]]\nid = \"crs-big\"\nspec = { mem_size_mb = 4096, shards = 3, replicas = 2 }\n",
    )
    .await;
    let list = async |parameters: Value| stage.call(&Call::redis("DescribeInstances", &parameters)).await;
    let ids = |answer: &Value| -> Vec<String> {
        let set = answer["InstanceSet"].as_array().unwrap().iter();
        set.map(|instance| instance["InstanceId"].as_str().unwrap().to_owned()).collect()
    };
    let mut seen = Vec::new();
    for offset in [0, 25, 50] {
        let page = list(json!({ "Limit": 25, "Offset": offset })).await;
        assert_eq!(page["TotalCount"], 61);
        seen.extend(ids(&page));
    }
    assert_eq!(seen.len(), 61);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 61, "no instance on two pages");
    assert_eq!(ids(&list(json!({})).await).len(), 20);
    assert_eq!(list(json!({ "AutoRenew": [1] })).await["TotalCount"], 50);
    assert_eq!(ids(&list(json!({ "BillingMode": "postpaid" })).await), ["crs-hourly"]);
    assert_eq!(list(json!({ "Status": [-2, -3] })).await["TotalCount"], 0);
    let named = json!({ "InstanceIds": ["crs-fleet-7", "crs-nowhere", "crs-sandbox-2", "crs-fleet-7"] });
    assert_eq!(ids(&list(named).await), ["crs-fleet-7", "crs-sandbox-2"]);
    let soonest = list(json!({ "OrderBy": "curDeadline", "OrderType": 0, "Limit": 1 })).await;
    assert_eq!(soonest["InstanceSet"][0]["DeadlineTime"], "2026-01-25 20:00:00");
    for wrong in [json!({ "Limit": 1_001 }), json!({ "Limit": 0 }), json!({ "Limit": 20, "Offset": 30 })] {
        assert_eq!(list(wrong).await["Error"]["Code"], "InvalidParameter");
    }
}

#[tokio::test]
async fn an_instance_shows_the_documented_fields_in_their_types() {
    let stage = Stage::open_with("[[instances]]\nid = \"crs-hourly\"\ncharge_type = \"postpaid\"\n").await;
    let answer = stage.call(&Call { region: Some("ap-shanghai"), ..Call::describe("crs-sandbox-1") }).await;
    let instance = &answer["InstanceSet"][0];
    let expected = json!({
        "Status": 2, "BillingMode": 1, "AutoRenewFlag": 0, "RedisShardSize": 1024, "RedisShardNum": 1,
        "RedisReplicasNum": 1, "Size": 1024.0, "Region": "ap-shanghai", "RegionId": 4,
        "CloseTime": "0000-00-00 00:00:00", "OfflineTime": "",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&instance[name], value, "{name}");
    }
    let hourly = stage.call(&Call::describe("crs-hourly")).await;
    assert_eq!(hourly["InstanceSet"][0]["BillingMode"], 0);
    assert_eq!(hourly["InstanceSet"][0]["DeadlineTime"], "0000-00-00 00:00:00");
}

#[tokio::test]
async fn an_order_is_listed_under_the_id_that_the_renewal_gave() {
    let stage = Stage::open().await;
    let order_id = stage.call(&Call::renew("crs-sandbox-1", 3)).await["DealName"].clone();
    stage.call(&Call::renew("crs-sandbox-2", 1)).await;
    let answer = stage.call(&deals(&json!({ "ResourceId": "crs-sandbox-1" }))).await;
    assert_eq!(answer["TotalCount"], 1);
    let deal = &answer["Deals"][0];
    let expected = json!({
        "OrderId": order_id, "Status": 4, "Action": "renew", "TimeSpan": 3, "TimeUnit": "m", "RealTotalCost": 30_000,
        "CreateTime": "2026-01-20 20:00:00", "ResourceId": ["crs-sandbox-1"],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&deal[name], value, "{name}");
    }
    let found = async |extra: Value| stage.call(&deals(&extra)).await["TotalCount"].clone();
    assert_eq!(found(json!({ "OrderId": order_id })).await, 1);
    assert_eq!(found(json!({ "StatusSet": [1, 2, 3, 4] })).await, 2);
    assert_eq!(found(json!({ "Status": 1 })).await, 0);
    assert_eq!(found(json!({ "EndTime": "2026-01-20 19:59:59" })).await, 0);
    assert_eq!(found(json!({ "StartTime": "2026-01-20 20:00:00" })).await, 2);
    let stranger = Call { key_id: "AKIDsandbox-other".into(), ..deals(&json!({})) };
    assert_eq!(stage.call(&stranger).await["TotalCount"], 0);
}

#[tokio::test]
async fn orders_are_paged_by_page_number_and_long_pages_hide_their_instances() {
    let stage = Stage::open().await;
    for _ in 0..7 {
        stage.call(&Call::renew("crs-sandbox-1", 1)).await;
    }
    let mut seen = Vec::new();
    for (page, count) in [(0, 3), (1, 3), (2, 1), (3, 0)] {
        let answer = stage.call(&deals(&json!({ "Limit": 3, "Offset": page }))).await;
        let listed = answer["Deals"].as_array().unwrap().clone();
        assert_eq!((listed.len(), &answer["TotalCount"]), (count, &json!(7)), "page {page}");
        seen.extend(listed.iter().map(|deal| deal["OrderId"].as_str().unwrap().to_owned()));
    }
    let mut ledger: Vec<String> = stage.cloud.ledger().into_iter().map(|charge| charge.order_id).collect();
    ledger.reverse();
    assert_eq!(seen, ledger);
    let long = stage.call(&deals(&json!({ "Limit": 201 }))).await;
    assert_eq!(long["Deals"][0]["ResourceId"], Value::Null);
    assert_eq!(stage.code(&deals(&json!({ "StartTime": "yesterday" }))).await, "InvalidParameter");
    assert_eq!(stage.code(&deals(&json!({ "StartTime": "2026-02-01 00:00:00" }))).await, "InvalidParameter");
}

#[tokio::test]
async fn a_key_has_twenty_renewals_a_second_in_each_region() {
    let stage = Stage::open().await;
    stage.cloud.set_balance(KEY, Fen::new(1_000_000_000));
    let renew = Call::renew("crs-sandbox-1", 1);
    for _ in 0..20 {
        assert_eq!(stage.code(&renew).await, "ok");
    }
    assert_eq!(stage.code(&renew).await, "RequestLimitExceeded");
    let elsewhere = Call { region: Some("ap-shanghai"), ..renew.clone() };
    let someone_else = Call { key_id: "AKIDsandbox-2".into(), ..renew.clone() };
    assert_eq!(stage.code(&elsewhere).await, "ok");
    assert_eq!(stage.code(&someone_else).await, "ok");
    stage.clock.advance(Duration::from_millis(999));
    assert_eq!(stage.code(&renew).await, "RequestLimitExceeded");
    stage.clock.advance(Duration::from_millis(1));
    assert_eq!(stage.code(&renew).await, "ok");
    assert_eq!(stage.cloud.ledger().len(), 23);
    let count = &stage.cloud.requests()["redis:RenewInstance"];
    // All but the last call fall within 999 ms.
    assert_eq!((count.total, count.max_in_one_second), (25, 24));
    assert_eq!((count.by_code["ok"], count.by_code["RequestLimitExceeded"]), (23, 2));
}
