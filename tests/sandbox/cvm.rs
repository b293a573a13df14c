//! One server behind two APIs, and the size of a Redis instance.

use jiff::tz::{TimeZone, offset};
use renewd::clock::Clock;
use renewd::cloud::{Cloud, Credentials, Endpoint};
use renewd::domain::money::Fen;
use renewd::domain::observation::{AutoRenew, Presence};
use renewd::domain::order::{Goods, Purchase, Renewal};
use renewd::domain::product::{InstanceId, Product, Provider, Region, TencentProduct};
use renewd::domain::secret::Secret;
use renewd::sandbox::SECRET_KEY;
use serde_json::{Value, json};

use crate::client::{Call, KEY, Stage, sign_flat};

fn cvm(action: &'static str, parameters: &Value) -> Call {
    Call { service: "cvm", version: "2017-03-12", ..Call::redis(action, parameters) }
}

fn renewal(instance: &str, prepaid: &Value) -> Value {
    json!({ "InstanceIds": [instance], "InstanceChargePrepaid": prepaid, "RenewPortableDataDisk": false })
}

async fn server(stage: &Stage, instance: &str) -> Value {
    let answer = stage.call(&cvm("DescribeInstances", &json!({ "InstanceIds": [instance] }))).await;
    answer["InstanceSet"][0].clone()
}

/// A form, signed by the rules of the v2 page.
fn v2(stage: &Stage, nonce: u32, method: Option<&str>, more: &[(&str, &str)]) -> String {
    let (nonce, now) = (nonce.to_string(), stage.clock.now().as_second().to_string());
    let mut pairs = vec![("Region", "gz"), ("Nonce", &nonce), ("Timestamp", &now), ("SecretId", KEY)];
    pairs.extend(method.map(|method| ("SignatureMethod", method)));
    pairs.extend(more);
    sign_flat(&format!("POST{}{V2_PATH}", stage.host()), SECRET_KEY, &pairs)
}

async fn post(stage: &Stage, form: String) -> Value {
    stage.post_form(V2_PATH, form).await
}

const V2_PATH: &str = "/v2/index.php";
const RENEW: [(&str, &str); 3] =
    [("Action", "RenewInstance"), ("instanceId", "ins-sandbox-1"), ("period", "1")];

#[tokio::test]
async fn both_apis_renew_one_server_and_the_ledger_names_which() {
    let stage = Stage::open().await;
    let prepaid = json!({ "Period": 1, "RenewFlag": "NOTIFY_AND_AUTO_RENEW" });
    let answer = stage.call(&cvm("RenewInstances", &renewal("ins-sandbox-1", &prepaid))).await;
    assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), ["RequestId"]);
    let seen = server(&stage, "ins-sandbox-1").await;
    assert_eq!(seen["ExpiredTime"], "2026-02-25T12:00:00Z");
    assert_eq!(seen["RenewFlag"], "NOTIFY_AND_AUTO_RENEW");
    assert_eq!(
        (&seen["LatestOperation"], &seen["LatestOperationState"]),
        (&json!("RenewInstances"), &json!("SUCCESS"))
    );
    assert_eq!(seen["LatestOperationRequestId"], answer["RequestId"]);

    let legacy = post(&stage, v2(&stage, 1, Some("HmacSHA256"), &RENEW)).await;
    assert_eq!((&legacy["code"], &legacy["codeDesc"]), (&json!(0), &json!("Success")));
    let list = [("Action", "DescribeInstances"), ("instanceIds.0", "ins-sandbox-1")];
    let listed = post(&stage, v2(&stage, 2, None, &list)).await;
    let seen = &listed["instanceSet"][0];
    assert_eq!((&listed["totalCount"], &seen["unInstanceId"]), (&json!(1), &json!("ins-sandbox-1")));
    assert_eq!((&seen["deadlineTime"], &seen["autoRenew"]), (&json!("2026-03-25 20:00:00"), &json!(1)));
    assert_eq!((&seen["cvmPayMode"], &seen["status"]), (&json!(1), &json!(2)));

    let ledger = stage.cloud.ledger();
    let products: Vec<_> = ledger.iter().map(|charge| charge.product.as_str()).collect();
    assert_eq!(products, ["cvm", "cvm-v2"]);
    assert_eq!(legacy["dealId"], json!(ledger[1].order_id));
}

#[tokio::test]
async fn a_renewal_without_a_flag_sets_the_documented_default() {
    let stage = Stage::open_with("[[instances]]\nid = \"ins-auto\"\nauto_renew = true\n").await;
    assert_eq!(server(&stage, "ins-auto").await["RenewFlag"], "NOTIFY_AND_AUTO_RENEW");
    stage.call(&cvm("RenewInstances", &renewal("ins-auto", &json!({ "Period": 1 })))).await;
    assert_eq!(server(&stage, "ins-auto").await["RenewFlag"], "NOTIFY_AND_MANUAL_RENEW");
}

#[tokio::test]
async fn a_price_is_in_yuan_and_takes_the_disks_along_where_they_are_asked_for() {
    let seed = "[[instances]]\nid = \"ins-disks\"\nprice_cny_per_month = 19.99\n\
                data_disk_price_cny_per_month = 5\n";
    let stage = Stage::open_with(seed).await;
    let mut question = renewal("ins-disks", &json!({ "Period": 3 }));
    let ask = async |question: &Value| {
        let answer = stage.call(&cvm("InquiryPriceRenewInstances", question)).await;
        answer["Price"]["InstancePrice"]["DiscountPrice"].clone()
    };
    assert_eq!(ask(&question).await, json!(59.97));
    question["RenewPortableDataDisk"] = json!(true);
    assert_eq!(ask(&question).await, json!(74.97));
    let price = [
        ("Action", "InquiryInstancePrice"),
        ("instanceType", "1"),
        ("instanceId", "ins-disks"),
        ("period", "3"),
    ];
    assert_eq!(post(&stage, v2(&stage, 1, None, &price)).await["price"], json!(5_997));
}

#[tokio::test]
async fn every_reason_not_to_renew_a_server_has_its_documented_code() {
    let stage = Stage::open_with(
        "[[instances]]\nid = \"ins-busy\"\nstate = \"busy\"\n\
         [[instances]]\nid = \"ins-gone\"\nstate = \"gone\"\n\
         [[instances]]\nid = \"ins-hourly\"\ncharge_type = \"postpaid\"\n\
         [balances]\nAKIDsandbox-poor = 99.99\n",
    )
    .await;
    let month = json!({ "Period": 1 });
    let call = |instance: &str, prepaid: &Value| cvm("RenewInstances", &renewal(instance, prepaid));
    let poor = Call { key_id: "AKIDsandbox-poor".into(), ..call("ins-sandbox-1", &month) };
    let refusals = [
        (call("ins-nowhere", &month), "InvalidInstanceId.NotFound"),
        (call("crs-sandbox-1", &month), "InvalidInstanceId.Malformed"),
        (call("ins-busy", &month), "OperationDenied.InstanceOperationInProgress"),
        (call("ins-gone", &month), "UnsupportedOperation.InstanceStateTerminating"),
        (call("ins-hourly", &month), "UnsupportedOperation.InstanceChargeType"),
        (poor, "InvalidAccount.InsufficientBalance"),
        (call("ins-sandbox-1", &json!({ "Period": 13 })), "InvalidPeriod"),
        (call("ins-sandbox-1", &json!({ "Period": 1, "RenewFlag": "YES" })), "InvalidParameterValue"),
        (call("ins-sandbox-1", &json!({ "Period": 1, "Unit": "m" })), "UnknownParameter"),
        (cvm("RenewInstances", &json!({ "InstanceIds": ["ins-sandbox-1"] })), "MissingParameter"),
    ];
    for (call, code) in refusals {
        assert_eq!(stage.code(&call).await, code, "{}", call.parameters);
        stage.clock.advance(std::time::Duration::from_secs(1));
    }
    let legacy = [
        ("ins-nowhere", "1", json!(5_000), ""),
        ("ins-busy", "1", json!(5_100), "OperationConstraints.InvaildInstanceStatus"),
        ("ins-sandbox-1", "37", json!(4_000), "InvalidParameter"),
    ];
    for (nonce, (instance, period, code, word)) in (1..).zip(legacy) {
        let form = [("Action", "RenewInstance"), ("instanceId", instance), ("period", period)];
        let answer = post(&stage, v2(&stage, nonce, None, &form)).await;
        assert_eq!((&answer["code"], &answer["codeDesc"]), (&code, &json!(word)), "{answer}");
    }
    assert!(stage.cloud.ledger().is_empty());
}

#[tokio::test]
async fn several_servers_are_renewed_together_or_not_at_all() {
    let stage = Stage::open_with("[balances]\nAKIDsandbox-test = 150\n").await;
    let both = json!({ "InstanceIds": ["ins-sandbox-1", "ins-sandbox-2"], "InstanceChargePrepaid": { "Period": 1 } });
    assert_eq!(stage.code(&cvm("RenewInstances", &both)).await, "InvalidAccount.InsufficientBalance");
    assert!(stage.cloud.ledger().is_empty());
    stage.cloud.set_balance(KEY, Fen::new(20_000));
    assert_eq!(stage.code(&cvm("RenewInstances", &both)).await, "ok");
    assert_eq!(stage.cloud.ledger().len(), 2);
}

#[tokio::test]
async fn a_legacy_request_counts_once_and_only_with_a_good_signature() {
    let stage = Stage::open().await;
    let form = v2(&stage, 7, Some("HmacSHA256"), &RENEW);
    let changed = form.replace("period=1", "period=2");
    assert_eq!(post(&stage, changed).await["code"], 4_100);
    assert_eq!(post(&stage, form.replace(KEY, "AKIDother")).await["code"], 4_104);
    assert_eq!(post(&stage, form.clone()).await["code"], 0);
    assert_eq!(post(&stage, form).await["code"], 4_500);
    let late = v2(&stage, 8, None, &RENEW);
    stage.clock.advance(std::time::Duration::from_secs(301));
    assert_eq!(post(&stage, late).await["code"], 4_500);
    assert_eq!(post(&stage, v2(&stage, 9, None, &[("Action", "Reboot")])).await["code"], 6_100);
    assert_eq!(stage.cloud.ledger().len(), 1);
}

#[tokio::test]
async fn faults_aim_at_either_api_and_answer_in_its_envelope() {
    let stage = Stage::open().await;
    let code = |api: &str, code: &str| json!({ "api": api, "effect": "after", "kind": "code", "code": code, "times": 1 });
    stage
        .inject(&json!([
            code("cvm-v2:RenewInstance", "6000"),
            code("cvm:RenewInstances", "InternalServerError")
        ]))
        .await;
    let answer = post(&stage, v2(&stage, 1, None, &RENEW)).await;
    assert_eq!((&answer["code"], answer.get("dealId")), (&json!(6_000), None));
    let renew = cvm("RenewInstances", &renewal("ins-sandbox-1", &json!({ "Period": 1 })));
    assert_eq!(stage.code(&renew).await, "InternalServerError");
    assert_eq!(stage.cloud.ledger().len(), 2);
}

#[tokio::test]
async fn an_upgrade_is_charged_listed_and_seen() {
    let stage = Stage::open().await;
    let target =
        json!({ "InstanceId": "crs-sandbox-1", "MemSize": 4096, "RedisShardNum": 1, "RedisReplicasNum": 1 });
    let price = stage.call(&Call::redis("InquiryPriceUpgradeInstance", &target)).await;
    assert_eq!((&price["Price"], &price["AmountUnit"]), (&json!(30_000.0), &json!("pent")));
    let order_id = stage.call(&Call::redis("UpgradeInstance", &target)).await["DealName"].clone();
    let seen = stage.call(&Call::describe("crs-sandbox-1")).await["InstanceSet"][0].clone();
    assert_eq!(
        (&seen["RedisShardSize"], &seen["DeadlineTime"]),
        (&json!(4096), &json!("2026-01-25 20:00:00"))
    );
    let charge = serde_json::to_value(stage.cloud.ledger()).unwrap()[0].clone();
    assert_eq!(
        (&charge["action"], &charge["months"], &charge["amount_cny"]),
        (&json!("upgrade"), &Value::Null, &json!(300.0))
    );
    let window = json!({ "StartTime": "2026-01-20 00:00:00", "EndTime": "2026-01-21 00:00:00", "Limit": 20 });
    let deals = stage.call(&Call::billing("DescribeDealsByCond", &window)).await;
    assert_eq!((&deals["Deals"][0]["Action"], &deals["Deals"][0]["OrderId"]), (&json!("upgrade"), &order_id));
    let refused = async |parameters: Value| stage.code(&Call::redis("UpgradeInstance", &parameters)).await;
    assert_eq!(refused(target.clone()).await, "InvalidParameter.InvalidParameter");
    let smaller = json!({ "InstanceId": "crs-sandbox-1", "MemSize": 1024 });
    assert_eq!(refused(smaller).await, "InvalidParameterValue.ReduceCapacityNotAllowed");
    let two = json!({ "InstanceId": "crs-sandbox-1", "MemSize": 8192, "RedisShardNum": 2 });
    assert_eq!(refused(two).await, "InvalidParameter.InvalidParameter");
    assert_eq!(stage.cloud.ledger().len(), 1);
}

#[tokio::test]
async fn an_upgrade_that_lags_shows_the_old_size() {
    let stage = Stage::open().await;
    stage
        .inject(&json!([{ "api": "redis:UpgradeInstance", "kind": "lag", "delay_ms": 60_000, "times": 1 }]))
        .await;
    let target = json!({ "InstanceId": "crs-sandbox-1", "MemSize": 2048 });
    stage.call(&Call::redis("UpgradeInstance", &target)).await;
    let size = async || {
        stage.call(&Call::describe("crs-sandbox-1")).await["InstanceSet"][0]["RedisShardSize"].clone()
    };
    assert_eq!(size().await, 1_024);
    stage.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(size().await, 2_048);
}

#[tokio::test]
async fn our_own_client_reads_one_server_through_either_api() {
    let stage = Stage::open().await;
    let credentials = Credentials {
        key_id: Secret::new(KEY),
        secret_key: Secret::new(SECRET_KEY),
        token: Some(Secret::new("FAKE-SESSION-TOKEN")),
    };
    let endpoint = Endpoint::parse(&stage.cloud.base_url()).unwrap();
    let zone = TimeZone::fixed(offset(8));
    let cloud =
        Cloud::new(Provider::TencentCloud, credentials, Some(endpoint), zone, stage.clock.clone()).unwrap();
    let (region, id) = (Region::parse("ap-guangzhou").unwrap(), InstanceId::parse("ins-sandbox-1").unwrap());
    for product in [TencentProduct::Cvm, TencentProduct::CvmV2].map(Product::TencentCloud) {
        let seen = cloud.observe(product, &region, std::slice::from_ref(&id)).await.result.unwrap().remove(0);
        let Presence::Visible(facts) = seen.presence else { panic!("{product} does not see it") };
        assert_eq!(facts.expires_at, Some("2026-01-25T12:00:00Z".parse().unwrap()), "{product}");
        assert!(facts.is_prepaid() && facts.auto_renew == AutoRenew::Off, "{product}");
        let goods = Goods::Renewal(Renewal {
            months: 3,
            renew_flag: facts.renew_flag,
            renew_data_disks: false,
            client_token: None,
        });
        let purchase = Purchase { product, region: region.clone(), instance: id.clone(), goods };
        assert_eq!(cloud.price(&purchase).await.result, Ok(Fen::new(30_000)), "{product}");
    }
    assert_eq!(cloud.balance().await.result, Ok(Fen::new(10_000_000)));
}

#[tokio::test]
async fn an_instance_named_twice_is_charged_once_and_a_missing_one_is_named_alone() {
    let stage = Stage::open().await;
    let call = |ids: &[&str]| {
        cvm("RenewInstances", &json!({ "InstanceIds": ids, "InstanceChargePrepaid": { "Period": 1 } }))
    };
    stage.call(&call(&["ins-sandbox-1", "ins-sandbox-2", "ins-sandbox-1"])).await;
    let charged: Vec<_> = stage.cloud.ledger().into_iter().map(|charge| charge.instance).collect();
    assert_eq!(charged, ["ins-sandbox-1", "ins-sandbox-2"]);
    let price = json!({ "InstanceIds": ["ins-sandbox-1", "ins-sandbox-1"], "InstanceChargePrepaid": { "Period": 1 } });
    let answer = stage.call(&cvm("InquiryPriceRenewInstances", &price)).await;
    assert_eq!(answer["Price"]["InstancePrice"]["OriginalPrice"], 100.0);

    let refused = stage.call(&call(&["ins-sandbox-3", "ins-nowhere"])).await;
    assert_eq!(refused["Error"]["Code"], "InvalidInstanceId.NotFound");
    let message = refused["Error"]["Message"].as_str().unwrap();
    assert!(message.contains("ins-nowhere") && !message.contains("ins-sandbox-3"), "{message}");
    assert_eq!(stage.cloud.ledger().len(), 2, "all of them or none");
}

#[tokio::test]
async fn a_region_that_does_not_exist_is_refused_and_every_other_sees_all_instances() {
    let stage = Stage::open().await;
    for region in ["ap-guangzhou", "ap-shanghai-fsi", "na-ashburn"] {
        let call = Call { region: Some(region), ..Call::describe("crs-sandbox-1") };
        assert_eq!(stage.code(&call).await, "ok", "{region}");
    }
    for region in ["ap-guangzou", "gz", "mars"] {
        let call = Call { region: Some(region), ..Call::renew("crs-sandbox-1", 1) };
        assert_eq!(stage.code(&call).await, "UnsupportedRegion", "{region}");
    }
    let (now, more) = (stage.clock.now().as_second().to_string(), RENEW);
    let mut pairs = vec![("Region", "zz"), ("Nonce", "7"), ("Timestamp", &now), ("SecretId", KEY)];
    pairs.extend(more);
    let form = sign_flat(&format!("POST{}{V2_PATH}", stage.host()), SECRET_KEY, &pairs);
    assert_eq!(post(&stage, form).await["code"], 4000);
    assert!(stage.cloud.ledger().is_empty());
}
