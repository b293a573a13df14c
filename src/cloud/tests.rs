use std::sync::atomic::{AtomicBool, Ordering};

use jiff::tz::offset;
use reqwest::header::AUTHORIZATION;

use super::*;
use crate::clock::ManualClock;
use crate::cloud::listener::{Act, Listener, answer};
use crate::domain::observation::Presence;
use crate::domain::order::{Answer, Renewal, Standing, Target};
use crate::domain::product::{TencentProduct, VolcengineProduct};
use crate::domain::secret::Secret;

const KEY_ID: &str = "AKIDEXAMPLEexampleEXAMPLE0000000fake";
const SECRET_KEY: &str = "FAKEexampleKEY0000000000000fake";
const TOKEN: &str = "FAKE-SESSION-TOKEN";
const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/tencentcloud");

struct Scene {
    clock: Arc<ManualClock>,
    cloud: Cloud,
}

fn credentials(token: Option<&str>) -> Credentials {
    Credentials {
        key_id: Secret::new(KEY_ID),
        secret_key: Secret::new(SECRET_KEY),
        token: token.map(Secret::new),
    }
}

fn scene(at_second: i64, endpoint: Option<String>) -> Scene {
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(at_second).unwrap()));
    let endpoint = endpoint.map(|text| Endpoint::parse(&text).unwrap());
    let zone = TimeZone::fixed(offset(8));
    let cloud = Cloud::new(Provider::TencentCloud, credentials(None), endpoint, zone, clock.clone()).unwrap();
    Scene { clock, cloud }
}

fn before(listener: &Listener) -> Scene {
    scene(1_700_000_000, Some(format!("http://{}", listener.address)))
}

fn region(text: &str) -> Region {
    Region::parse(text).unwrap()
}

fn instance(text: &str) -> InstanceId {
    InstanceId::parse(text).unwrap()
}

fn renewal(months: u32) -> Purchase {
    Purchase {
        product: Product::REDIS,
        region: region("ap-guangzhou"),
        instance: instance("crs-fake0001"),
        goods: Goods::Renewal(Renewal {
            months,
            renew_flag: None,
            renew_data_disks: false,
            client_token: None,
        }),
    }
}

fn vector(case: &str, stage: &str) -> String {
    std::fs::read_to_string(format!("{VECTORS}/{case}/{stage}")).unwrap()
}

fn header<'a>(signed: &'a SignedPurchase, name: &str) -> Option<&'a str> {
    signed.request.headers.get(name).map(|value| value.to_str().unwrap())
}

mod signing {
    use super::*;

    fn assert_is_vector(signed: &SignedPurchase, case: &str) {
        assert_eq!(signed.request.body, vector(case, "payload"), "{case}");
        assert_eq!(signed.request.url.host_str(), Some(&*vector(case, "host")), "{case}");
        for (name, stage) in [
            ("host", "host"),
            ("content-type", "content_type"),
            ("x-tc-timestamp", "timestamp"),
            ("authorization", "authorization"),
        ] {
            assert_eq!(header(signed, name), Some(&*vector(case, stage)), "{case}: {name}");
        }
    }

    #[test]
    fn a_renewal_is_signed_as_published() {
        let Scene { cloud, .. } = scene(1_700_000_000, None);
        let signed = cloud.sign_purchase(&renewal(1)).unwrap();
        assert_is_vector(&signed, "a1-renew-compact");
        assert_eq!(header(&signed, "x-tc-action"), Some("RenewInstance"));
        assert_eq!(header(&signed, "x-tc-version"), Some("2018-04-12"));
        assert_eq!(header(&signed, "x-tc-region"), Some("ap-guangzhou"));
        assert_eq!(header(&signed, "x-tc-language"), Some("en-US"));
        assert_eq!(header(&signed, "x-tc-token"), None);
    }

    #[test]
    fn an_upgrade_in_a_finance_zone_goes_to_the_host_of_that_zone() {
        let Scene { cloud, .. } = scene(1_709_251_199, None);
        let goods = Target { mem_size_mb: 4096, shards: Some(3), replicas: Some(1) };
        let purchase = Purchase {
            region: region("ap-shanghai-fsi"),
            instance: instance("crs-fake0002"),
            goods: Goods::Upgrade(goods),
            ..renewal(1)
        };
        let signed = cloud.sign_purchase(&purchase).unwrap();
        assert_is_vector(&signed, "b1-upgrade-compact");
        assert_eq!(header(&signed, "x-tc-action"), Some("UpgradeInstance"));
    }

    #[test]
    fn the_token_travels_beside_the_signature() {
        let Scene { cloud, .. } = scene(1_709_251_200, None);
        let without = cloud.sign_purchase(&renewal(12)).unwrap();
        cloud.replace_credentials(credentials(Some(TOKEN)));
        let with = cloud.sign_purchase(&renewal(12)).unwrap();
        assert_eq!(header(&with, "x-tc-token"), Some(TOKEN));
        assert_eq!(header(&with, "authorization"), header(&without, "authorization"));
        let authorization = vector("c-renew-token-after-midnight", "authorization");
        assert!(authorization.contains("SignedHeaders=content-type;host,"), "{authorization}");
    }

    #[test]
    fn an_endpoint_is_signed_with_its_port_under_the_service_of_the_api() {
        let Scene { cloud, .. } = scene(1_700_000_000, Some("http://127.0.0.1:9500".to_owned()));
        let purchase = Purchase { region: region("ap-shanghai-fsi"), ..renewal(1) };
        let signed = cloud.sign_purchase(&purchase).unwrap();
        assert_eq!(header(&signed, "host"), Some("127.0.0.1:9500"));
        assert!(header(&signed, "authorization").unwrap().contains("/2023-11-14/redis/tc3_request,"));
    }

    #[test]
    fn new_credentials_sign_from_then_on() {
        let Scene { cloud, .. } = scene(1_700_000_000, None);
        cloud.replace_credentials(Credentials { key_id: Secret::new("AKIDother"), ..credentials(None) });
        assert_eq!(cloud.key_id(), "AKIDother");
        let signed = cloud.sign_purchase(&renewal(1)).unwrap();
        assert!(header(&signed, "authorization").unwrap().contains("Credential=AKIDother/"));
    }

    #[test]
    fn what_no_header_can_carry_is_refused_without_being_repeated() {
        let Scene { cloud, .. } = scene(1_700_000_000, None);
        cloud.replace_credentials(credentials(Some("FAKE\nTOKEN")));
        let failure = cloud.sign_purchase(&renewal(1)).unwrap_err();
        assert_eq!(failure.class, Class::Credential);
        assert!(!failure.message.contains("TOKEN"), "{failure}");
    }

    fn cvm_renewal(product: TencentProduct, renew_flag: Option<&str>) -> Purchase {
        Purchase {
            product: Product::TencentCloud(product),
            region: region("ap-guangzhou"),
            instance: instance("ins-fake0001"),
            goods: Goods::Renewal(Renewal {
                months: 1,
                renew_flag: renew_flag.map(str::to_owned),
                renew_data_disks: false,
                client_token: None,
            }),
        }
    }

    #[test]
    fn a_cvm_renewal_sends_the_observed_flag_back_and_names_the_disks() {
        let Scene { cloud, .. } = scene(1_700_000_000, None);
        let purchase = cvm_renewal(TencentProduct::Cvm, Some("NOTIFY_AND_MANUAL_RENEW"));
        let signed = cloud.sign_purchase(&purchase).unwrap();
        assert_is_vector(&signed, "g1-cvm-renew-compact");
        assert_eq!(header(&signed, "x-tc-action"), Some("RenewInstances"));
        assert_eq!(header(&signed, "x-tc-version"), Some("2017-03-12"));
    }

    #[test]
    fn a_cvm_renewal_is_not_signed_while_its_flag_is_not_known() {
        let Scene { cloud, .. } = scene(1_700_000_000, None);
        let failure = cloud.sign_purchase(&cvm_renewal(TencentProduct::Cvm, None)).unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (Class::Unavailable, "RenewFlagNotKnown"));
    }

    /// All fields of the form but the nonce and the signature, and these two.
    fn form(signed: &SignedPurchase) -> (String, String, String) {
        let mut pairs: Vec<(String, String)> =
            form_urlencoded::parse(&signed.request.body).into_owned().collect();
        pairs.sort_unstable();
        let mut take = |name: &str| {
            let at = pairs.iter().position(|(known, _)| known == name).unwrap();
            pairs.remove(at).1
        };
        let (nonce, signature) = (take("Nonce"), take("Signature"));
        let rest: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (rest.join("&"), nonce, signature)
    }

    #[test]
    fn a_v2_renewal_is_a_signed_form_with_a_nonce_of_its_own() {
        let Scene { cloud, .. } = scene(1_700_000_000, None);
        cloud.replace_credentials(credentials(Some(TOKEN)));
        let purchase = cvm_renewal(TencentProduct::CvmV2, None);
        let (first, second) =
            (cloud.sign_purchase(&purchase).unwrap(), cloud.sign_purchase(&purchase).unwrap());
        assert_eq!(first.request.url.as_str(), "https://cvm.api.qcloud.com/v2/index.php");
        assert_eq!(header(&first, "content-type"), Some("application/x-www-form-urlencoded"));
        let (fields, nonce, signature) = form(&first);
        let expected = "Action=RenewInstance&Region=gz&SecretId=AKIDEXAMPLEexampleEXAMPLE0000000fake\
                        &SignatureMethod=HmacSHA256&Timestamp=1700000000&Token=FAKE-SESSION-TOKEN\
                        &instanceId=ins-fake0001&period=1";
        assert_eq!(fields, expected);
        let source = expected.replacen("&Region", &format!("&Nonce={nonce}&Region"), 1);
        let source = format!("POSTcvm.api.qcloud.com/v2/index.php?{source}");
        let hmac = canonical::hmac_sha256(SECRET_KEY.as_bytes(), source.as_bytes());
        assert_eq!(signature, data_encoding::BASE64.encode(&hmac));
        assert!((1..=i64::from(i32::MAX)).contains(&nonce.parse().unwrap()), "{nonce}");
        assert_ne!(form(&second).1, nonce);
        for secret in [KEY_ID, TOKEN, SECRET_KEY, &signature] {
            assert!(!format!("{first:?}").contains(secret));
        }
    }

    #[test]
    fn a_v2_call_goes_to_its_own_path_of_an_endpoint_and_signs_the_host_it_names() {
        let Scene { cloud, .. } = scene(1_700_000_000, Some("http://127.0.0.1:9500".to_owned()));
        let purchase = Purchase { region: region("gz"), ..cvm_renewal(TencentProduct::CvmV2, None) };
        let signed = cloud.sign_purchase(&purchase).unwrap();
        assert_eq!(signed.request.url.as_str(), "http://127.0.0.1:9500/v2/index.php");
        assert_eq!(header(&signed, "host"), Some("127.0.0.1:9500"));
    }

    #[test]
    fn a_region_without_a_v2_code_is_refused() {
        let Scene { cloud, .. } = scene(1_700_000_000, None);
        let elsewhere = region("ap-nanjing");
        let purchase = Purchase { region: elsewhere, ..cvm_renewal(TencentProduct::CvmV2, None) };
        let failure = cloud.sign_purchase(&purchase).unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (Class::Rejected, "InvalidRegion"));
    }

    #[test]
    fn neither_credentials_nor_signature_print_themselves() {
        let Scene { cloud, .. } = scene(1_700_000_000, None);
        cloud.replace_credentials(credentials(Some(TOKEN)));
        let signed = cloud.sign_purchase(&renewal(1)).unwrap();
        let printed = format!("{signed:?} {:?}", credentials(Some(TOKEN)));
        let signature = vector("a1-renew-compact", "signature");
        assert!(signed.request.headers[AUTHORIZATION].to_str().unwrap().contains(&signature));
        for secret in [&*signature, SECRET_KEY, TOKEN, KEY_ID] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}

mod purchases {
    use super::*;

    const ACCEPTED: &str = r#"{"Response":{"DealName":"20231114","RequestId":"r-1"}}"#;
    const LOCKED: &str = r#"{"Response":{"Error":{"Code":"ResourceInUse.InstanceBeenLocked","Message":"m"},"RequestId":"r-2"}}"#;

    #[tokio::test]
    async fn come_back_with_their_order_number_and_a_report() {
        let listener = Listener::start([Act::Answer(answer("200 OK", ACCEPTED))]);
        let Scene { cloud, .. } = before(&listener);
        let signed = cloud.sign_purchase(&renewal(1)).unwrap();
        let (report, answer) = cloud.deliver(signed, || ()).await.into_answer();
        let expected = Answer::Accepted {
            order_id: Some(OrderId("20231114".to_owned())),
            request_id: Some("r-1".to_owned()),
        };
        assert_eq!(answer, expected);
        assert_eq!((report.api, report.http_status), ("redis:RenewInstance", Some(200)));
        assert_eq!(report.request_id.as_deref(), Some("r-1"));
        assert_eq!(report.server_date, Some(Timestamp::from_second(1_700_000_000).unwrap()));
    }

    #[tokio::test]
    async fn fail_with_the_words_and_the_request_id_of_the_cloud() {
        let listener = Listener::start([Act::Answer(answer("200 OK", LOCKED))]);
        let Scene { cloud, .. } = before(&listener);
        let signed = cloud.sign_purchase(&renewal(1)).unwrap();
        let failure = cloud.deliver(signed, || ()).await.result.unwrap_err();
        let expected = Failure {
            class: Class::Busy,
            code: "ResourceInUse.InstanceBeenLocked".to_owned(),
            message: "m".to_owned(),
            request_id: Some("r-2".to_owned()),
            http_status: Some(200),
        };
        assert_eq!(failure, expected);
    }

    #[tokio::test]
    async fn are_not_sent_on_a_signature_that_waited_too_long() {
        let listener = Listener::start([Act::Answer(answer("200 OK", ACCEPTED))]);
        let Scene { clock, cloud } = before(&listener);
        for jump_seconds in [61, -61] {
            let signed = cloud.sign_purchase(&renewal(1)).unwrap();
            clock.jump_to(signed.signed_at() + jiff::SignedDuration::from_secs(jump_seconds));
            let was_written = Arc::new(AtomicBool::new(false));
            let notice = Arc::clone(&was_written);
            let call = cloud.deliver(signed, move || notice.store(true, Ordering::SeqCst)).await;
            let failure = call.result.unwrap_err();
            assert_eq!((failure.class, failure.code.as_str()), (Class::Unsent, "SignedTooLongAgo"));
            assert!(!was_written.load(Ordering::SeqCst));
        }
        // The one connection that the listener accepts is still to come.
        let signed = cloud.sign_purchase(&renewal(1)).unwrap();
        clock.advance(Duration::from_secs(60));
        assert!(cloud.deliver(signed, || ()).await.result.is_ok());
        assert!(!listener.finish().await.is_another_waiting);
    }
}

mod reads {
    use super::*;

    #[tokio::test]
    async fn of_instances_ask_for_all_ids_at_once() {
        let body = r#"{"Response":{"TotalCount":1,"InstanceSet":[{"InstanceId":"crs-b"}],"RequestId":"r"}}"#;
        let listener = Listener::start([Act::Answer(answer("200 OK", body))]);
        let Scene { clock, cloud } = before(&listener);
        let ids = [instance("crs-a"), instance("crs-b")];
        let call = cloud.observe(Product::REDIS, &region("ap-guangzhou"), &ids).await;
        let seen = call.result.unwrap();
        assert_eq!(seen[0].presence, Presence::NotVisible);
        assert_eq!((&seen[1].instance, seen[1].observed_at), (&ids[1], clock.now()));
        let request = &listener.finish().await.requests[0];
        assert!(request.ends_with(r#"{"InstanceIds":["crs-a","crs-b"],"Limit":2,"Offset":0}"#), "{request}");
        assert!(request.contains("x-tc-action: DescribeInstances\r\n"), "{request}");
    }

    #[tokio::test]
    async fn of_orders_ask_billing_for_every_status_in_a_wider_window_of_the_account_zone() {
        let body = r#"{"Response":{"TotalCount":1,"Deals":[{"OrderId":"1","Status":1}],"RequestId":"r"}}"#;
        let listener = Listener::start([Act::Answer(answer("200 OK", body))]);
        let Scene { cloud, .. } = before(&listener);
        let from = "2023-11-14T22:00:00Z".parse().unwrap();
        let through = "2023-11-15T01:00:00Z".parse().unwrap();
        let (region, id) = (region("ap-guangzhou"), instance("crs-fake0001"));
        let call = cloud.list_orders(Product::REDIS, &region, &id, from, through).await;
        assert_eq!(call.report.api, "billing:DescribeDealsByCond");
        assert_eq!(call.result.unwrap()[0].standing, Standing::Unpaid);
        let request = &listener.finish().await.requests[0];
        let expected = concat!(
            r#"{"EndTime":"2023-11-16 09:00:00","Limit":100,"Offset":0,"ResourceId":"crs-fake0001","#,
            r#""StartTime":"2023-11-14 06:00:00","StatusSet":[1,2,3,4,5,6,7,8,9,10,11,12,13,30]}"#
        );
        assert!(request.ends_with(expected), "{request}");
        assert!(request.contains("/2023-11-14/billing/tc3_request,"), "{request}");
        assert!(!request.contains("x-tc-region"), "{request}");
    }

    #[tokio::test]
    async fn of_the_price_ask_what_would_be_bought() {
        let body = r#"{"Response":{"Price":12000,"AmountUnit":"pent","RequestId":"r"}}"#;
        let listener = Listener::start([Act::Answer(answer("200 OK", body))]);
        let Scene { cloud, .. } = before(&listener);
        let call = cloud.price(&renewal(12)).await;
        assert_eq!(call.result, Ok(Fen::new(12_000)));
        let request = &listener.finish().await.requests[0];
        assert!(request.ends_with(r#"{"InstanceId":"crs-fake0001","Period":12}"#), "{request}");
        assert!(request.contains("x-tc-action: InquiryPriceRenewInstance\r\n"), "{request}");
    }
}

mod balances {
    use super::*;

    #[tokio::test]
    async fn are_the_accounts_own_money_in_fen_rounded_down() {
        let bodies = [
            (r#""RealBalance":12345.67,"Balance":1,"RealCreditBalance":99999.0"#, Ok(12_345)),
            (r#""Balance":500"#, Ok(500)),
            (r#""RealBalance":-0.5"#, Ok(-1)),
            (r#""RealBalance":null"#, Err(Class::Unknown)),
            (r#""Error":{"Code":"UnauthorizedOperation.CamNoAuth","Message":"m"}"#, Err(Class::Blocked)),
        ];
        let answers = bodies.map(|(fields, _)| format!(r#"{{"Response":{{{fields},"RequestId":"r"}}}}"#));
        let listener = Listener::start(answers.iter().map(|body| Act::Answer(answer("200 OK", body))));
        let Scene { cloud, .. } = before(&listener);
        for (fields, expected) in bodies {
            let call = cloud.balance().await;
            assert_eq!(call.report.api, "billing:DescribeAccountBalance");
            assert_eq!(call.result.map(Fen::get).map_err(|failure| failure.class), expected, "{fields}");
        }
        let requests = listener.finish().await.requests;
        assert!(
            requests[0].ends_with("\r\n\r\n{}") && !requests[0].contains("x-tc-region"),
            "{}",
            requests[0]
        );
    }
}

#[test]
fn the_api_of_each_step_is_one_that_rates_can_name() {
    let goods = renewal(1).goods;
    let ecs = Product::Volcengine(VolcengineProduct::Ecs);
    for product in Provider::TencentCloud.products().iter().copied().chain([ecs]) {
        let apis = [
            Cloud::purchase_api(product, &goods),
            Cloud::observe_api(product),
            Cloud::orders_api(product),
            Cloud::price_api(product, &goods),
        ];
        for api in apis {
            let api = api.unwrap();
            assert!(all_apis().any(|known| known == api), "{api:?}");
        }
    }
    for provider in [Provider::TencentCloud, Provider::Volcengine] {
        let api = Cloud::balance_api(provider).unwrap();
        assert!(all_apis().any(|known| known == api), "{api:?}");
    }
}

#[tokio::test]
async fn goods_that_a_product_does_not_have_are_refused_and_not_called() {
    let Scene { cloud, .. } = scene(0, None);
    let goods = Goods::Upgrade(Target { mem_size_mb: 4096, shards: None, replicas: None });
    for product in [
        Product::TencentCloud(TencentProduct::Cvm),
        Product::TencentCloud(TencentProduct::CvmV2),
        Product::Volcengine(VolcengineProduct::Ecs),
    ] {
        let purchase = Purchase { product, goods: goods.clone(), ..renewal(1) };
        let failure = cloud.sign_purchase(&purchase).unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (Class::Rejected, "NotBuilt"));
        assert!(Cloud::purchase_api(product, &goods).is_err());
        assert_eq!(cloud.price(&purchase).await.result, Err(failure));
    }
}

#[test]
fn calls_can_run_on_any_thread() {
    fn assert_send(_: impl Send) {}
    let Scene { cloud, .. } = scene(0, None);
    let signed = cloud.sign_purchase(&renewal(1)).unwrap();
    assert_send(cloud.deliver(signed, || ()));
    assert_send(cloud.observe(Product::REDIS, &region("ap-guangzhou"), &[]));
}
