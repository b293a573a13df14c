//! What is read from the answers of CVM 2017-03-12.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use renewd::cloud::Look;
use renewd::cloud::tencentcloud::read;
use renewd::domain::failure::{Class, Failure};
use renewd::domain::money::Fen;
use renewd::domain::observation::{AutoRenew, ChargeType, Facts, InstanceState, Operation, Presence};
use renewd::domain::product::{InstanceId, TencentProduct};

use crate::replies::{assert_unreadable, file};

fn facts(id: &str) -> Facts {
    let ids = [InstanceId::parse(id).unwrap()];
    let look = Look { ids: &ids, observed_at: Timestamp::UNIX_EPOCH, zone: &TimeZone::UTC };
    let seen = read::observations(TencentProduct::Cvm, 200, &file("cvm_describe.json"), &look).result;
    match seen.unwrap().remove(0).presence {
        Presence::Visible(facts) => facts,
        Presence::NotVisible => panic!("{id} is not visible"),
    }
}

#[test]
fn an_instance_is_read_with_its_flag_and_its_latest_operation() {
    let expected = Facts {
        expires_at: Some("2026-03-01T04:30:00Z".parse().unwrap()),
        state: InstanceState::Running,
        charge: ChargeType::Prepaid,
        auto_renew: AutoRenew::Off,
        renew_flag: Some("NOTIFY_AND_MANUAL_RENEW".to_owned()),
        spec: None,
        latest_operation: Some(Operation {
            name: "RenewInstances".to_owned(),
            request_id: Some("3c8b1b9e".to_owned()),
            state: Some("SUCCESS".to_owned()),
        }),
    };
    assert_eq!(facts("ins-running"), expected);
    let stopped = facts("ins-stopped");
    assert_eq!((stopped.state, stopped.auto_renew), (InstanceState::Running, AutoRenew::On));
    assert_eq!(stopped.latest_operation, None);
}

#[test]
fn what_lapsed_is_isolated_and_what_was_returned_is_gone() {
    let states = [
        ("ins-lapsed", InstanceState::Isolated),
        ("ins-isolated", InstanceState::Isolated),
        ("ins-returned", InstanceState::Gone),
        ("ins-gone", InstanceState::Gone),
        ("ins-hourly", InstanceState::Busy),
        ("ins-novel", InstanceState::Other("InstanceState DREAMING".to_owned())),
        ("ins-bare", InstanceState::Other("InstanceState absent".to_owned())),
    ];
    for (id, state) in states {
        assert_eq!(facts(id).state, state, "{id}");
    }
}

#[test]
fn a_flag_that_is_absent_or_new_is_unreadable_and_a_new_one_is_kept() {
    assert_eq!(facts("ins-lapsed").auto_renew, AutoRenew::Off);
    let hourly = facts("ins-hourly");
    assert_eq!((hourly.auto_renew, hourly.renew_flag), (AutoRenew::Unreadable, None));
    assert_eq!((hourly.charge, hourly.expires_at), (ChargeType::Postpaid, None));
    let novel = facts("ins-novel");
    assert_eq!((novel.auto_renew, novel.expires_at), (AutoRenew::Unreadable, None));
    assert_eq!(novel.renew_flag.as_deref(), Some("NOTIFY_NOBODY"));
    assert_eq!(novel.charge, ChargeType::Other("InstanceChargeType SPOTPAID".to_owned()));
}

#[test]
fn a_renewal_is_accepted_without_an_order_number() {
    let reply = read::purchase(TencentProduct::Cvm, 200, br#"{"Response":{"RequestId":"3c8b1b9e"}}"#);
    assert_eq!((reply.result, reply.request_id.as_deref()), (Ok(None), Some("3c8b1b9e")));
}

fn price(item: &str) -> Result<i64, Failure> {
    let body = format!(r#"{{"Response":{{"Price":{{{item}}},"RequestId":"r"}}}}"#);
    read::price(TencentProduct::Cvm, 200, body.as_bytes()).result.map(Fen::get)
}

#[test]
fn a_price_is_read_in_yuan_digit_by_digit_and_rounded_up() {
    let instance = |fields: &str| price(&format!(r#""InstancePrice":{{{fields}}}"#));
    assert_eq!(instance(r#""DiscountPrice":100.07,"OriginalPrice":200.0"#), Ok(10_007));
    assert_eq!(instance(r#""DiscountPrice":null,"OriginalPrice":0.29"#), Ok(29));
    assert_eq!(instance(r#""DiscountPrice":1.15"#), Ok(115));
    assert_eq!(instance(r#""DiscountPrice":1.1501"#), Ok(116));
    assert_eq!(instance(r#""DiscountPrice":"1.1500""#), Ok(115));
    assert_eq!(instance(r#""DiscountPrice":120"#), Ok(12_000));
    assert_eq!(instance(r#""DiscountPrice":0"#), Ok(0));
    let with_bandwidth = r#""InstancePrice":{"DiscountPrice":1.5},"BandwidthPrice":{"DiscountPrice":2.25}"#;
    assert_eq!(price(with_bandwidth), Ok(375));
    let by_use =
        r#""InstancePrice":{"DiscountPrice":1.5},"BandwidthPrice":{"UnitPrice":0.8,"ChargeUnit":"GB"}"#;
    assert_eq!(price(by_use), Ok(150));
}

#[test]
fn a_price_is_never_guessed() {
    for nothing in [
        "",
        r#""InstancePrice":null"#,
        r#""InstancePrice":{"UnitPrice":0.3}"#,
        r#""InstancePrice":{"DiscountPrice":1e300}"#,
    ] {
        assert_unreadable(price(nothing), "InstancePrice");
    }
    for nonsense in ["-1", "\"1e3\"", "true", "\"1.\u{0661}\"", "\"1,5\""] {
        assert_unreadable(price(&format!(r#""InstancePrice":{{"DiscountPrice":{nonsense}}}"#)), "price");
    }
    assert_eq!(price("").unwrap_err().class, Class::Unknown);
}
