use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::tz::TimeZone;

use super::*;
use crate::clock::ManualClock;
use crate::cloud::listener::{Act, Listener, answer};
use crate::cloud::{Cloud, Endpoint};
use crate::domain::order::{ClientToken, Renewal, Target};
use crate::domain::product::Provider;
use crate::domain::secret::Secret;

const PRODUCT: Product = Product::Volcengine(VolcengineProduct::Ecs);
const KEY_ID: &str = "AKLTFAKEFAKEFAKE0001";
const SECRET_KEY: &str = "FakeSecretKeyForTestsOnly0001==";
const TOKEN: &str = "FAKESESSIONTOKEN0001==";
const AT: &str = "2024-01-02T03:04:05Z";
const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/volcengine");
const ACCEPTED: &str = r#"{"ResponseMetadata":{"RequestId":"r-1"},"Result":{"OrderId":"Order1"}}"#;

fn credentials(token: Option<&str>) -> Credentials {
    Credentials {
        key_id: Secret::new(KEY_ID),
        secret_key: Secret::new(SECRET_KEY),
        token: token.map(Secret::new),
    }
}

fn cloud(endpoint: Option<String>) -> Cloud {
    let clock = Arc::new(ManualClock::new(AT.parse().unwrap()));
    let endpoint = endpoint.map(|text| Endpoint::parse(&text).unwrap());
    Cloud::new(Provider::Volcengine, credentials(None), endpoint, TimeZone::UTC, clock).unwrap()
}

fn before(listener: &Listener) -> Cloud {
    cloud(Some(format!("http://{}", listener.address)))
}

fn renewal(client_token: Option<&str>) -> Purchase {
    Purchase {
        product: PRODUCT,
        region: Region::parse("cn-beijing").unwrap(),
        instance: InstanceId::parse("i-fake0000000000000001").unwrap(),
        goods: Goods::Renewal(Renewal {
            months: 1,
            renew_flag: None,
            renew_data_disks: false,
            client_token: client_token.map(|token| ClientToken(token.to_owned())),
        }),
    }
}

fn good_renewal() -> Purchase {
    renewal(Some("renewd-0123456789abcdef"))
}

fn vector(case: &str, stage: &str) -> String {
    std::fs::read_to_string(format!("{VECTORS}/{case}/{stage}")).unwrap()
}

fn header<'a>(signed: &'a SignedPurchase, name: &str) -> Option<&'a str> {
    signed.request.headers.get(name).map(|value| value.to_str().unwrap())
}

mod signing {
    use super::*;

    #[test]
    fn a_renewal_is_signed_as_published() {
        let signed = cloud(None).sign_purchase(&good_renewal()).unwrap();
        assert_eq!(signed.request.method, Method::GET);
        assert_eq!(signed.request.url.query(), Some(&*vector("v1-renew", "query")));
        assert_eq!(signed.request.url.host_str(), Some(&*vector("v1-renew", "host")));
        assert!(signed.request.body.is_empty());
        for (name, stage) in [
            ("host", "host"),
            ("x-date", "date"),
            ("x-content-sha256", "payload_hash"),
            ("authorization", "authorization"),
        ] {
            assert_eq!(header(&signed, name), Some(&*vector("v1-renew", stage)), "{name}");
        }
        assert_eq!((header(&signed, "content-type"), header(&signed, "x-security-token")), (None, None));
    }

    #[test]
    fn a_token_is_sent_and_signed() {
        let cloud = cloud(None);
        cloud.replace_credentials(credentials(Some(TOKEN)));
        let signed = cloud.sign_purchase(&good_renewal()).unwrap();
        assert_eq!(header(&signed, "x-security-token"), Some(TOKEN));
        assert_eq!(header(&signed, "authorization"), Some(&*vector("v3-renew-token", "authorization")));
    }

    #[test]
    fn a_renewal_without_a_client_token_is_no_purchase() {
        let failure = cloud(None).sign_purchase(&renewal(None)).unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (Class::Rejected, "NoClientToken"));
    }

    #[test]
    fn an_upgrade_is_refused() {
        let goods = Goods::Upgrade(Target { mem_size_mb: 1024, shards: None, replicas: None });
        assert!(Cloud::purchase_api(PRODUCT, &goods).is_err());
        let failure = cloud(None).sign_purchase(&Purchase { goods, ..good_renewal() }).unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (Class::Rejected, "NotBuilt"));
    }

    #[test]
    fn regions_that_the_central_host_does_not_serve_have_their_own() {
        for (region, host) in [
            ("cn-shanghai", "open.volcengineapi.com"),
            ("ap-southeast-1", "open.volcengineapi.com"),
            ("ap-southeast-3", "ecs.ap-southeast-3.volcengineapi.com"),
            ("cn-beijing-selfdrive", "ecs.cn-beijing-selfdrive.volcengineapi.com"),
        ] {
            let purchase = Purchase { region: Region::parse(region).unwrap(), ..good_renewal() };
            let signed = cloud(None).sign_purchase(&purchase).unwrap();
            assert_eq!((signed.request.url.host_str(), header(&signed, "host")), (Some(host), Some(host)));
            assert!(header(&signed, "authorization").unwrap().contains(&format!("/{region}/ecs/request,")));
        }
    }

    #[test]
    fn neither_credentials_nor_signature_print_themselves() {
        let cloud = cloud(None);
        cloud.replace_credentials(credentials(Some(TOKEN)));
        let printed = format!("{:?}", cloud.sign_purchase(&good_renewal()).unwrap());
        for secret in [&*vector("v3-renew-token", "signature"), SECRET_KEY, TOKEN, KEY_ID] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}

#[tokio::test]
async fn a_renewal_is_one_get_and_is_announced_when_it_leaves() {
    let listener = Listener::start([Act::Answer(answer("200 OK", ACCEPTED))]);
    let cloud = before(&listener);
    let was_written = Arc::new(AtomicBool::new(false));
    let notice = Arc::clone(&was_written);
    let signed = cloud.sign_purchase(&good_renewal()).unwrap();
    let call = cloud.deliver(signed, move || notice.store(true, Ordering::SeqCst)).await;
    assert_eq!(call.result, Ok(Some(OrderId("Order1".to_owned()))));
    assert_eq!((call.report.api, call.report.request_id.as_deref()), ("ecs:RenewInstance", Some("r-1")));
    assert!(was_written.load(Ordering::SeqCst));
    let served = listener.finish().await;
    assert!(!served.is_another_waiting);
    let line = format!("GET /?{} HTTP/1.1\r\n", vector("v1-renew", "query"));
    assert!(served.requests[0].starts_with(&line), "{}", served.requests[0]);
}

#[tokio::test]
async fn reads_of_billing_are_posts_of_json_signed_for_one_region() {
    let body = r#"{"ResponseMetadata":{},"Result":{"InstanceList":[]}}"#;
    let listener = Listener::start([Act::Answer(answer("200 OK", body))]);
    let ids = [InstanceId::parse("i-a").unwrap()];
    let call = before(&listener).auto_renew(PRODUCT, &ids).await;
    assert_eq!(call.result, Ok(vec![(ids[0].clone(), AutoRenew::Unreadable)]));
    let request = &listener.finish().await.requests[0];
    let line = "POST /?Action=ListAvailableInstances&Version=2022-01-01 HTTP/1.1\r\n";
    assert!(request.starts_with(line), "{request}");
    assert!(request.contains("content-type: application/json; charset=utf-8\r\n"), "{request}");
    assert!(
        request.contains("/20240102/cn-beijing/billing/request, SignedHeaders=content-type;host;"),
        "{request}"
    );
    assert!(request.ends_with(r#"{"InstanceIDs":["i-a"],"MaxResults":100}"#), "{request}");
}

#[tokio::test]
async fn orders_are_not_asked_for_by_instance() {
    let cloud = cloud(None);
    let Purchase { region, instance, .. } = good_renewal();
    let (from, through) = (AT.parse().unwrap(), AT.parse().unwrap());
    let call = cloud.list_orders(PRODUCT, &region, &instance, from, through).await;
    assert_eq!(call.result.unwrap_err().code, "NotByInstance");
}

#[test]
fn a_pace_of_our_own_is_kept_whole_and_a_documented_one_is_shared() {
    assert!((ecs::RENEW.api.pace(0.9) - 1.0).abs() < f64::EPSILON);
    assert!((billing::PRICE_RENEW.api.pace(0.9) - 9.0).abs() < f64::EPSILON);
}
