//! Answers as documented and spoilt, and what must be understood from each.

use std::fs;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use renewd::cloud::Look;
use renewd::cloud::volcengine::{billing, read};
use renewd::domain::failure::{Class, Failure};
use renewd::domain::money::Fen;
use renewd::domain::observation::{AutoRenew, ChargeType, Facts, InstanceState, Observation, Presence};
use renewd::domain::order::{ListedKind, OrderId, Standing};
use renewd::domain::product::{InstanceId, VolcengineProduct};

const REQUEST_ID: &str = "2021062415303301022514515207C4";

fn file(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/replies/volcengine/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A body with such a `Result`.
fn with_result(json: &str) -> Vec<u8> {
    let body = format!(r#"{{"ResponseMetadata":{{"RequestId":"r"}},"Result":{json}}}"#);
    body.into_bytes()
}

fn ids(texts: &[&str]) -> Vec<InstanceId> {
    texts.iter().map(|text| InstanceId::parse(text).unwrap()).collect()
}

fn assert_unreadable<T: std::fmt::Debug>(result: Result<T, Failure>, message_part: &str) {
    let failure = result.unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (Class::Unknown, "Unreadable"), "{failure}");
    assert!(failure.message.contains(message_part), "{failure}");
}

mod purchase {
    use super::*;

    fn purchase(http_status: u16, body: &[u8]) -> Result<Option<OrderId>, Failure> {
        read::purchase(VolcengineProduct::Ecs, http_status, body).result
    }

    #[test]
    fn is_accepted_with_an_order_number() {
        for http_status in [200, 202] {
            let accepted = purchase(http_status, &file("renew.json"));
            assert_eq!(accepted, Ok(Some(OrderId("Order7007335217124000001".to_owned()))));
        }
        let reply = read::purchase(VolcengineProduct::Ecs, 200, &file("renew.json"));
        assert_eq!(reply.request_id.as_deref(), Some(REQUEST_ID));
    }

    #[test]
    fn is_unknown_without_one_though_nothing_says_that_it_failed() {
        let open = [
            ("renew_without_order.json", "neither an error nor an `OrderId`"),
            ("renew_without_result.json", "expected an object"),
            ("renew_trailing_comma.json", "cannot be read at `Result`"),
            ("renew_error_without_code.json", "an error without a code"),
            ("other_envelope.json", "missing field `ResponseMetadata`"),
        ];
        for (name, message_part) in open {
            assert_unreadable(purchase(200, &file(name)), message_part);
        }
        for body in ["", "null", "[]", "{}", r#"{"ResponseMetadata":null}"#, r#"{"ResponseMetadata":{}}"#] {
            assert_unreadable(purchase(200, body.as_bytes()), "");
        }
        for order_id in ["0", "null", "1e300", "[]", "{}"] {
            let body = format!(r#"{{"ResponseMetadata":{{}},"Result":{{"OrderId":{order_id}}}}}"#);
            assert_unreadable(purchase(200, body.as_bytes()), "");
        }
    }

    #[test]
    fn is_unknown_when_two_answers_arrive_as_one() {
        let doubled = [file("renew.json"), file("renew_no_balance.json")].concat();
        assert_unreadable(purchase(200, &doubled), "goes on after its end");
    }

    #[test]
    fn is_judged_by_its_error_whatever_the_status() {
        for http_status in [200, 400, 412, 500, 503] {
            let refused = |name| purchase(http_status, &file(name)).unwrap_err();
            assert_eq!(refused("renew_no_balance.json").class, Class::Blocked);
            assert_eq!(refused("renew_processing.json").class, Class::Unknown);
            assert_eq!(refused("renew_processing.json").code, "IdempotentProcessing");
        }
    }

    #[test]
    fn is_unknown_under_an_unusual_status_even_with_an_order_number() {
        for http_status in [302, 404, 500, 502] {
            let failure = purchase(http_status, &file("renew.json")).unwrap_err();
            assert_eq!((failure.class, failure.code.as_str()), (Class::Unknown, "HttpStatus"));
        }
        assert_unreadable(purchase(200, b"<html>busy</html>"), "expected value");
    }

    #[test]
    fn keeps_a_bounded_part_of_what_the_cloud_says() {
        let endless = "x".repeat(1_000_000);
        let error = format!(r#"{{"Code":"{endless}","Message":"{endless}"}}"#);
        let body = format!(r#"{{"ResponseMetadata":{{"Error":{error}}}}}"#);
        let failure = purchase(400, body.as_bytes()).unwrap_err();
        assert_eq!((failure.code.len(), failure.message.len()), (200, 2_000));
    }
}

mod observations {
    use super::*;

    const OBSERVED_AT: &str = "2026-01-20T00:00:00Z";

    fn observe(name: &str, wanted: &[&str]) -> Result<Vec<Observation>, Failure> {
        let ids = ids(wanted);
        let look = Look { ids: &ids, observed_at: OBSERVED_AT.parse().unwrap(), zone: &TimeZone::UTC };
        read::observations(VolcengineProduct::Ecs, 200, &file(name), &look).result
    }

    fn facts(id: &str) -> Facts {
        match observe("describe.json", &[id, "i-running"]).map(|seen| seen[0].presence.clone()) {
            Ok(Presence::Visible(facts)) => facts,
            other => panic!("{id}: {other:?}"),
        }
    }

    #[test]
    fn read_expiry_charge_and_no_auto_renew() {
        let expected = Facts {
            expires_at: Some("2026-03-29T15:59:59Z".parse().unwrap()),
            state: InstanceState::Running,
            charge: ChargeType::Prepaid,
            auto_renew: AutoRenew::Unreadable,
            renew_flag: None,
            spec: None,
            latest_operation: None,
        };
        assert_eq!(facts("i-running"), expected);
        assert_eq!(facts("i-hourly").charge, ChargeType::Postpaid);
        assert_eq!(facts("i-new").charge, ChargeType::Other("InstanceChargeType Reserved".to_owned()));
        for (id, why) in [("i-hourly", "empty"), ("i-deleting", "null"), ("i-vpc", "without an offset")] {
            assert_eq!(facts(id).expires_at, None, "{why}");
        }
    }

    #[test]
    fn tell_an_instance_shut_down_for_its_expiry_from_one_that_its_owner_stopped() {
        let other = |text: &str| InstanceState::Other(text.to_owned());
        for (id, state) in [
            ("i-overdue", InstanceState::Running),
            ("i-shut", InstanceState::Isolated),
            ("i-stopped", InstanceState::Running),
            ("i-vpc", InstanceState::Busy),
            ("i-deleting", InstanceState::Gone),
            ("i-error", other("Status ERROR")),
            ("i-new", other("Status HIBERNATED")),
        ] {
            assert_eq!(facts(id).state, state, "{id}");
        }
    }

    #[test]
    fn say_what_is_not_visible_only_of_a_whole_list() {
        let seen = observe("describe_nothing.json", &["i-running"]).unwrap();
        assert_eq!(seen[0].presence, Presence::NotVisible);
        assert!(observe("describe_goes_on.json", &["i-running"]).is_ok());
        assert_unreadable(observe("describe_goes_on.json", &["i-running", "i-b"]), "there are more");
        // Its count speaks of more than it lists.
        assert_unreadable(observe("describe.json", &["i-absent"]), "there are more");
        assert_unreadable(observe("describe_without_list.json", &["i-running"]), "no `Instances`");
    }
}

mod billing_answers {
    use super::*;

    #[test]
    fn say_who_renews_by_itself_and_never_guess_off() {
        let wanted = ids(&["i-none", "i-manual", "i-auto", "i-words", "i-twice", "i-absent"]);
        let settings = read::auto_renew(200, &file("available.json"), &wanted).result.unwrap();
        let expected = [
            AutoRenew::Off,
            AutoRenew::Off,
            AutoRenew::On,
            AutoRenew::Unreadable,
            AutoRenew::On,
            AutoRenew::Unreadable,
        ];
        let expected: Vec<_> = wanted.into_iter().zip(expected).collect();
        assert_eq!(settings, expected);
        assert_unreadable(read::auto_renew(200, &with_result("{}"), &[]).result, "InstanceList");
    }

    #[test]
    fn give_each_order_its_standing() {
        let page = read::orders_page(200, &file("orders.json")).result.unwrap();
        assert!(page.next.is_some());
        let standings: Vec<_> = page.orders.iter().map(|order| order.standing).collect();
        let expected = [
            Standing::Unpaid,
            Standing::Standing,
            Standing::Standing,
            Standing::Undelivered,
            Standing::Void,
            Standing::Void,
            Standing::Void,
            Standing::Unclear,
            Standing::Unclear,
            Standing::Unclear,
            Standing::Standing,
            Standing::Standing,
        ];
        assert_eq!(standings, expected);
        let others: Vec<_> = page.orders.iter().filter(|order| order.kind == ListedKind::Other).collect();
        assert_eq!(others.iter().map(|order| order.order_id.0.as_str()).collect::<Vec<_>>(), ["Order11"]);
    }

    #[test]
    fn give_orders_their_amount_and_moment() {
        let orders = read::orders_page(200, &file("orders.json")).result.unwrap().orders;
        assert_eq!(orders[0].amount, Some(Fen::new(10_000)));
        assert_eq!(orders[1].amount, Some(Fen::new(6_001)));
        assert_eq!(orders[2].amount, Some(Fen::new(10_000)));
        assert_eq!(orders[9].amount, None);
        assert_eq!(orders[0].created_at, orders[1].created_at);
        assert_eq!(orders[0].created_at, Some("2026-01-20T12:00:00Z".parse().unwrap()));
    }

    #[test]
    fn end_a_list_at_its_last_page_and_refuse_one_without_numbers() {
        let page = |json: &str| read::orders_page(200, &with_result(json)).result;
        assert!(page(r#"{"OrderInfos":[],"NextToken":"9"}"#).unwrap().next.is_none());
        assert!(page(r#"{"OrderInfos":[{"OrderID":"Order1"}],"NextToken":""}"#).unwrap().next.is_none());
        assert_unreadable(page("{}"), "no `OrderInfos`");
        assert_unreadable(page(r#"{"OrderInfos":[{"Status":"Paid"}]}"#), "no `OrderID`");
    }

    #[test]
    fn tie_an_order_to_all_that_it_names_or_to_nothing() {
        let named = read::order_lines(200, &file("order_lines.json")).result;
        assert_eq!(named, Ok(ids(&["i-running", "vol-system-disk"])));
        let lines = |json: &str| read::order_lines(200, &with_result(json)).result;
        assert_unreadable(lines(r#"{"OrderProductInfos":[]}"#), "no `OrderProductInfos`");
        assert_unreadable(lines(r#"{"OrderProductInfos":[{"Product":"ECS"}]}"#), "`InstanceID`");
        let full = vec![r#"{"InstanceID":"i-1"}"#; 100].join(",");
        assert!(lines(&format!(r#"{{"OrderProductInfos":[{full}],"NextToken":""}}"#)).is_ok());
        let cut = lines(&format!(r#"{{"OrderProductInfos":[{full}],"NextToken":"100"}}"#));
        assert_unreadable(cut, "there are more");
    }

    #[test]
    fn read_a_price_to_the_fen_and_up() {
        let price = |amount: &str, currency: &str| {
            let json = format!(r#"{{"Currency":{currency},"TotalDiscountAmount":{amount}}}"#);
            read::price(200, &with_result(&json)).result
        };
        for (amount, fen) in [
            (r#""1200.50""#, 120_050),
            (r#""0.07""#, 7),
            (r#""19.9""#, 1_990),
            (r#""100.000000""#, 10_000),
            (r#""100.001""#, 10_001),
            ("88", 8_800),
        ] {
            assert_eq!(price(amount, r#""CNY""#), Ok(Fen::new(fen)), "{amount}");
        }
        for amount in [r#""""#, r#""-1.00""#, r#""1,000.00""#, r#"".5""#, r#""99999999999999999999""#, "null"]
        {
            assert_unreadable(price(amount, r#""CNY""#), "TotalDiscountAmount");
        }
        assert_unreadable(price(r#""100.00""#, r#""USD""#), "USD");
        assert_unreadable(price(r#""100.00""#, "null"), "absent");
    }

    #[test]
    fn read_a_balance_to_the_fen_and_down() {
        let balance = |amount: &str| {
            read::balance(200, &with_result(&format!(r#"{{"AvailableBalance":"{amount}"}}"#))).result
        };
        for (amount, fen) in [("12.349", 1_234), ("-12.341", -1_235), ("-0.10", -10), ("0.00", 0), ("7", 700)]
        {
            assert_eq!(balance(amount), Ok(Fen::new(fen)), "{amount}");
        }
        for amount in ["", "-", "--1", "1.2.3", "ten"] {
            assert_unreadable(balance(amount), "AvailableBalance");
        }
        let foreign = r#"{"AvailableBalance":"1.00","Currency":"USD"}"#;
        assert_unreadable(read::balance(200, &with_result(foreign)).result, "USD");
    }
}

#[test]
fn a_window_of_orders_is_asked_in_utc_and_no_wider_than_the_api_takes() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let from = at("2026-01-01T08:00:00.9+08:00");
    let body = billing::list_orders(from, at("2026-01-20T12:00:00.1Z"), None).unwrap();
    let expected = concat!(
        r#"{"CreateTimeEnd":"2026-01-20T12:00:01Z","CreateTimeStart":"2026-01-01T00:00:00Z","#,
        r#""MaxResults":100,"OrderType":"Renew"}"#
    );
    assert_eq!(serde_json::to_string(&body).unwrap(), expected);
    let refused = billing::list_orders(from, at("2026-02-02T00:00:00Z"), None).map(|_| ()).unwrap_err();
    assert_eq!((refused.class, refused.code.as_str()), (Class::Rejected, "WindowTooWide"));
}
