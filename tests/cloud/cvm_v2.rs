//! What is read from the answers of the legacy v2 API.

use jiff::Timestamp;
use jiff::tz::{TimeZone, offset};
use renewd::cloud::Look;
use renewd::cloud::tencentcloud::read;
use renewd::domain::failure::{Class, Failure};
use renewd::domain::money::Fen;
use renewd::domain::observation::{AutoRenew, ChargeType, Facts, InstanceState, Presence};
use renewd::domain::order::OrderId;
use renewd::domain::product::{InstanceId, TencentProduct};

use crate::replies::{assert_unreadable, file};

fn purchase(body: &str) -> Result<Option<OrderId>, Failure> {
    read::purchase(TencentProduct::CvmV2, 200, body.as_bytes()).result
}

fn refused(body: &str) -> (Class, String) {
    let failure = purchase(body).unwrap_err();
    (failure.class, failure.code)
}

#[test]
fn an_order_number_is_found_under_every_name_it_was_seen_under() {
    let places = [
        (r#""dealId":"2790804""#, Some("2790804")),
        (r#""dealId":2790804"#, Some("2790804")),
        (r#""dealIds":[2790804]"#, Some("2790804")),
        (r#""dealIds":["2790804"]"#, Some("2790804")),
        (r#""data":{"dealId":2790804}"#, Some("2790804")),
        (r#""data":{"dealIds":["2790804"]}"#, Some("2790804")),
        (r#""dealId":null,"data":{"dealId":"7"}"#, Some("7")),
        (r#""dealIds":[1,2]"#, None),
        (r#""dealIds":[],"data":[]"#, None),
        (r#""dealId":1e40,"data":"nothing""#, None),
        (r#""dealId":{"a":1}"#, None),
        (r#""message":"""#, None),
    ];
    for (fields, order_id) in places {
        for code in ["0", "\"0\""] {
            let body = format!(r#"{{"codeDesc":"Success","code":{code},{fields}}}"#);
            assert_eq!(purchase(&body), Ok(order_id.map(|id| OrderId(id.to_owned()))), "{body}");
        }
    }
}

#[test]
fn a_refusal_is_judged_by_its_word_and_else_by_its_number() {
    let body = r#"{"code":100207,"codeDesc":"OperationConstraints.AccountBalanceNotEnough","message":"m"}"#;
    assert_eq!(refused(body), (Class::Blocked, "OperationConstraints.AccountBalanceNotEnough".to_owned()));
    assert_eq!(purchase(body).unwrap_err().message, "m (100207)");
    assert_eq!(refused(r#"{"code":"4400","message":"slow down"}"#), (Class::Throttled, "4400".to_owned()));
    assert_eq!(refused(r#"{"code":4100,"codeDesc":"Success"}"#), (Class::Credential, "4100".to_owned()));
    assert_eq!(
        refused(r#"{"code":4500,"codeDesc":"","message":"replay"}"#),
        (Class::Unknown, "4500".to_owned())
    );
    assert_eq!(refused(r#"{"code":7777,"codeDesc":"NewWord"}"#), (Class::Unknown, "NewWord".to_owned()));
    assert_eq!(refused(r#"{"code":"Broken"}"#), (Class::Unknown, "Broken".to_owned()));
    let refused_by_gateway =
        read::purchase(TencentProduct::CvmV2, 502, br#"{"code":4000}"#).result.unwrap_err();
    assert_eq!(refused_by_gateway.class, Class::Rejected);
}

#[test]
fn an_answer_that_leaves_open_what_happened_is_unknown() {
    let open = [
        ("", "EOF"),
        ("[]", "expected an object"),
        ("null", "expected an object"),
        (r#"{"code":0,"codeDesc":"OperationFail.SystemBusy"}"#, "`code` says success"),
        ("{}", "no `code`"),
        (r#"{"code":null}"#, "no `code`"),
        (r#"{"code":0"#, "EOF"),
        (r#"{"code":0}{"code":4000}"#, "goes on after its end"),
        (r#"{"Response":{"RequestId":"r"}}"#, "API 3.0"),
    ];
    for (body, message_part) in open {
        assert_unreadable(purchase(body), message_part);
    }
    for (http_status, body) in [(502, "<html>"), (500, r#"{"code":0,"dealId":1}"#)] {
        let failure = read::purchase(TencentProduct::CvmV2, http_status, body.as_bytes()).result.unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (Class::Unknown, "HttpStatus"));
    }
    let other =
        r#"{"Response":{"Error":{"Code":"AuthFailure.SignatureFailure","Message":"m"},"RequestId":"r"}}"#;
    assert_eq!(refused(other), (Class::Credential, "AuthFailure.SignatureFailure".to_owned()));
}

fn facts(id: &str) -> Facts {
    let ids = [InstanceId::parse(id).unwrap()];
    let zone = TimeZone::fixed(offset(8));
    let look = Look { ids: &ids, observed_at: Timestamp::UNIX_EPOCH, zone: &zone };
    let seen = read::observations(TencentProduct::CvmV2, 200, &file("cvm_v2_describe.json"), &look).result;
    match seen.unwrap().remove(0).presence {
        Presence::Visible(facts) => facts,
        Presence::NotVisible => panic!("{id} is not visible"),
    }
}

#[test]
fn an_instance_is_read_by_either_of_its_ids() {
    let running = Facts {
        expires_at: Some("2026-03-01T04:30:00Z".parse().unwrap()),
        state: InstanceState::Running,
        charge: ChargeType::Prepaid,
        auto_renew: AutoRenew::Off,
        renew_flag: None,
        spec: None,
        latest_operation: None,
    };
    assert_eq!(facts("ins-running"), running);
    assert_eq!(facts("qcvm8e7bf56c"), running);
    assert_eq!(facts("ins-strings"), Facts { auto_renew: AutoRenew::On, ..running });
}

#[test]
fn zero_dates_are_none_and_unknown_numbers_are_kept() {
    for id in ["ins-hourly", "ins-returned", "ins-novel"] {
        assert_eq!(facts(id).expires_at, None, "{id}");
    }
    let hourly = facts("ins-hourly");
    assert_eq!((hourly.state, hourly.charge), (InstanceState::Busy, ChargeType::Postpaid));
    assert_eq!(facts("ins-returned").state, InstanceState::Gone);
    let novel = facts("ins-novel");
    assert_eq!(novel.state, InstanceState::Other("status 42".to_owned()));
    assert_eq!(novel.charge, ChargeType::Other("cvmPayMode 9".to_owned()));
    assert_eq!(novel.auto_renew, AutoRenew::Unreadable);
}

#[test]
fn a_price_is_in_fen_or_none() {
    let price = |fields: &str| {
        let body = format!(r#"{{"code":0,{fields}}}"#);
        read::price(TencentProduct::CvmV2, 200, body.as_bytes()).result.map(Fen::get)
    };
    assert_eq!(price(r#""price":10050,"originalPrice":20000"#), Ok(10_050));
    assert_eq!(price(r#""price":"100.5""#), Ok(101));
    for nothing in [r#""originalPrice":20000"#, r#""price":-1"#, r#""price":"free""#] {
        assert_unreadable(price(nothing), "price");
    }
}
