//! Recorded and spoilt answers, and what must be understood from each.

use std::fs;

use jiff::Timestamp;
use jiff::tz::{TimeZone, offset};
use renewd::cloud::tencentcloud::read;
use renewd::cloud::{Look, Reply};
use renewd::domain::failure::{Class, Failure};
use renewd::domain::money::Fen;
use renewd::domain::observation::{AutoRenew, ChargeType, Facts, InstanceState, Observation, Presence, Spec};
use renewd::domain::order::{ListedKind, ListedOrder, OrderId, Standing};
use renewd::domain::product::{InstanceId, TencentProduct};

const REQUEST_ID: &str = "495d8e9f-61bf-465e-aa4e-14be54a9095a";

pub fn file(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/replies/tencentcloud/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

pub fn assert_unreadable<T: std::fmt::Debug>(result: Result<T, Failure>, message_part: &str) {
    let failure = result.unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (Class::Unknown, "Unreadable"), "{failure}");
    assert!(failure.message.contains(message_part), "{failure}");
}

mod purchase {
    use super::*;

    fn purchase(name: &str) -> Reply<Option<OrderId>> {
        purchase_of(200, &file(name))
    }

    fn purchase_of(http_status: u16, body: &[u8]) -> Reply<Option<OrderId>> {
        read::purchase(TencentProduct::Redis, http_status, body)
    }

    #[test]
    fn is_accepted_with_either_kind_of_order_number_or_none() {
        let accepted = [
            ("renew_deal_name.json", Some("20231114123456789012345")),
            ("renew_deal_id.json", Some("6954225")),
            ("renew_deal_id_number.json", Some("6954225")),
            ("renew_deal_number_too_long.json", None),
            ("renew_without_deal.json", None),
        ];
        for (name, order_id) in accepted {
            let reply = purchase(name);
            assert_eq!(reply.result, Ok(order_id.map(|id| OrderId(id.to_owned()))), "{name}");
            assert_eq!(reply.request_id.as_deref(), Some(REQUEST_ID), "{name}");
        }
    }

    #[test]
    fn is_unknown_when_the_answer_leaves_open_what_happened() {
        let open = [
            ("renew_without_anything.json", "neither an order number nor a request id"),
            ("renew_truncated.json", "EOF while parsing"),
            ("renew_v2_envelope.json", "missing field `Response`"),
            ("renew_error_without_code.json", "an error without a code"),
            ("gateway.html", "expected value"),
        ];
        for (name, message_part) in open {
            assert_unreadable(purchase(name).result, message_part);
        }
        for response in ["null", r#""ok""#, "7", "[]", r#"["20231114","495d8e9f"]"#] {
            let body = format!(r#"{{"Response":{response}}}"#);
            assert_unreadable(purchase_of(200, body.as_bytes()).result, "expected an object");
        }
        for body in ["", "null", "[]", "{}"] {
            assert_unreadable(purchase_of(200, body.as_bytes()).result, "");
        }
    }

    #[test]
    fn is_unknown_when_two_answers_arrive_as_one() {
        let doubled = [file("renew_deal_id.json"), file("renew_locked.json")].concat();
        assert_unreadable(purchase_of(200, &doubled).result, "goes on after its end");
    }

    #[test]
    fn is_judged_by_its_error_whatever_the_status() {
        for http_status in [200, 403, 500, 503] {
            let Reply { request_id, result } = purchase_of(http_status, &file("renew_locked.json"));
            let failure = result.unwrap_err();
            assert_eq!(failure.class, Class::Busy);
            assert_eq!(failure.code, "ResourceInUse.InstanceBeenLocked");
            assert_eq!(failure.message, "The instance has been locked by another process.");
            assert_eq!(request_id.as_deref(), Some(REQUEST_ID));
        }
    }

    #[test]
    fn is_unknown_under_an_unusual_status_even_with_an_order_number() {
        for (http_status, name) in [(502, "gateway.html"), (500, "renew_deal_id.json"), (302, "gateway.html")]
        {
            let failure = purchase_of(http_status, &file(name)).result.unwrap_err();
            assert_eq!((failure.class, failure.code.as_str()), (Class::Unknown, "HttpStatus"), "{name}");
        }
    }

    #[test]
    fn keeps_a_bounded_part_of_what_the_cloud_says() {
        let endless = "x".repeat(1_000_000);
        let body = format!(r#"{{"Response":{{"Error":{{"Code":"{endless}","Message":"{endless}"}}}}}}"#);
        let failure = purchase_of(200, body.as_bytes()).result.unwrap_err();
        assert_eq!((failure.code.len(), failure.message.len()), (200, 2_000));
    }
}

mod observations {
    use super::*;

    const OBSERVED_AT: Timestamp = Timestamp::UNIX_EPOCH;

    fn observe(name: &str, ids: &[&str]) -> Result<Vec<Observation>, Failure> {
        let ids: Vec<_> = ids.iter().map(|id| InstanceId::parse(id).unwrap()).collect();
        let zone = TimeZone::fixed(offset(8));
        let look = Look { ids: &ids, observed_at: OBSERVED_AT, zone: &zone };
        read::observations(TencentProduct::Redis, 200, &file(name), &look).result
    }

    fn facts(id: &str) -> Facts {
        match observe("describe.json", &[id]).unwrap().remove(0).presence {
            Presence::Visible(facts) => facts,
            Presence::NotVisible => panic!("{id} is not visible"),
        }
    }

    #[test]
    fn read_numbers_and_strings_alike_in_the_zone_of_the_account() {
        let running = Facts {
            expires_at: Some("2026-03-01T04:30:00Z".parse().unwrap()),
            state: InstanceState::Running,
            charge: ChargeType::Prepaid,
            auto_renew: AutoRenew::Off,
            renew_flag: None,
            latest_operation: None,
            spec: Some(Spec { mem_size_mb: 1024, shards: 3, replicas: 1 }),
        };
        assert_eq!(facts("crs-running"), running);
        let strings = Facts {
            auto_renew: AutoRenew::On,
            spec: Some(Spec { mem_size_mb: 1024, shards: 1, replicas: 0 }),
            ..running
        };
        assert_eq!(facts("crs-strings"), strings);
    }

    #[test]
    fn take_sentinels_for_no_date_and_keep_an_offset_that_is_given() {
        assert_eq!(facts("crs-postpaid").expires_at, None);
        assert_eq!(facts("crs-gone").expires_at, None);
        assert_eq!(facts("crs-novel").expires_at, None);
        assert_eq!(facts("crs-isolated").expires_at, Some("2023-11-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn translate_the_states_and_keep_unknown_ones() {
        let state = |id| facts(id).state;
        assert_eq!(state("crs-postpaid"), InstanceState::Busy);
        assert_eq!(state("crs-isolated"), InstanceState::Isolated);
        assert_eq!(state("crs-gone"), InstanceState::Gone);
        let novel = Facts {
            expires_at: None,
            state: InstanceState::Other("Status 42".to_owned()),
            charge: ChargeType::Other("BillingMode 9".to_owned()),
            auto_renew: AutoRenew::Unreadable,
            renew_flag: None,
            spec: None,
            latest_operation: None,
        };
        assert_eq!(facts("crs-novel"), novel);
        let bare = Facts {
            state: InstanceState::Other("Status absent".to_owned()),
            charge: ChargeType::Other("BillingMode absent".to_owned()),
            ..novel
        };
        assert_eq!(facts("crs-bare"), bare);
        assert_eq!(facts("crs-postpaid").charge, ChargeType::Postpaid);
        assert_eq!(facts("crs-postpaid").auto_renew, AutoRenew::Off);
    }

    #[test]
    fn come_one_per_id_in_the_order_asked_and_name_what_is_missing() {
        let seen = observe("describe.json", &["crs-strings", "crs-missing", "crs-running"]).unwrap();
        let ids: Vec<_> = seen.iter().map(|observation| observation.instance.as_str()).collect();
        assert_eq!(ids, ["crs-strings", "crs-missing", "crs-running"]);
        assert_eq!(seen[1].presence, Presence::NotVisible);
        assert!(matches!(seen[2].presence, Presence::Visible(_)));
        let nothing = observe("describe_nothing.json", &["crs-running"]).unwrap();
        assert_eq!(nothing[0].presence, Presence::NotVisible);
    }

    #[test]
    fn fail_rather_than_call_an_instance_missing_on_an_answer_that_is_not_whole() {
        assert_unreadable(observe("describe_without_set.json", &["crs-running"]), "no `InstanceSet`");
        assert_unreadable(observe("describe_cut.json", &["crs-running", "crs-other"]), "there are more");
        assert!(observe("describe_cut.json", &["crs-running"]).is_ok());
        let path = "Response.InstanceSet[0].Status";
        assert_unreadable(observe("describe_wrong_shape.json", &["crs-running"]), path);
    }
}

mod orders {
    use super::*;

    fn list(name: &str) -> Result<Vec<ListedOrder>, Failure> {
        let instance = InstanceId::parse("crs-fake0001").unwrap();
        let zone = TimeZone::fixed(offset(8));
        read::orders(200, &file(name), &instance, &zone).result
    }

    #[test]
    fn are_read_with_what_they_bought_and_how_they_stand() {
        let order = |id: &str, standing, kind| ListedOrder {
            order_id: OrderId(id.to_owned()),
            standing,
            kind,
            months: None,
            amount: None,
            created_at: None,
        };
        let expected = [
            ListedOrder {
                months: Some(3),
                amount: Some(Fen::new(36_000)),
                created_at: Some("2023-11-14T00:00:00Z".parse().unwrap()),
                ..order("20231114000000000000001", Standing::Standing, ListedKind::Renewal)
            },
            ListedOrder {
                months: Some(12),
                amount: Some(Fen::new(120_000)),
                ..order("20231114", Standing::Unpaid, ListedKind::Renewal)
            },
            ListedOrder {
                amount: Some(Fen::new(13)),
                ..order("upgrade", Standing::Standing, ListedKind::Resize)
            },
            order("novel", Standing::Unclear, ListedKind::Unclear),
            order("bare", Standing::Unclear, ListedKind::Unclear),
        ];
        assert_eq!(list("deals.json").unwrap(), expected);
        assert_eq!(list("deals_none.json").unwrap(), []);
    }

    #[test]
    fn stand_by_their_status_as_the_page_lists_it() {
        let standing = |status: i64| {
            let deal = format!(r#"{{"OrderId":"1","Status":{status}}}"#);
            let body = format!(r#"{{"Response":{{"TotalCount":1,"Deals":[{deal}],"RequestId":"r"}}}}"#);
            let instance = InstanceId::parse("crs-fake0001").unwrap();
            read::orders(200, body.as_bytes(), &instance, &TimeZone::UTC).result.unwrap()[0].standing
        };
        let table = [
            (&[1][..], Standing::Unpaid),
            (&[2, 3, 4, 12], Standing::Standing),
            (&[5], Standing::Undelivered),
            (&[6, 7, 8, 9, 10, 13], Standing::Void),
            (&[0, 11, 14, 30], Standing::Unclear),
        ];
        for (statuses, expected) in table {
            for status in statuses {
                assert_eq!(standing(*status), expected, "status {status}");
            }
        }
    }

    #[test]
    fn are_no_list_when_the_answer_may_hide_one() {
        assert_unreadable(list("deals_absent.json"), "no `Deals`");
        assert_unreadable(list("deals_more.json"), "there are more");
        assert_unreadable(list("deals_without_order_id.json"), "no `OrderId`");
    }
}

mod price {
    use super::*;

    fn price(fields: &str) -> Result<Fen, Failure> {
        let body = format!(r#"{{"Response":{{{fields},"RequestId":"r"}}}}"#);
        read::price(TencentProduct::Redis, 200, body.as_bytes()).result
    }

    #[test]
    fn is_read_in_fen_and_rounded_up() {
        let fen = |fields| price(fields).map(Fen::get);
        assert_eq!(fen(r#""Price":120.0,"OriginalPrice":150,"AmountUnit":"pent","Currency":"CNY""#), Ok(120));
        assert_eq!(fen(r#""Price":"120.00","AmountUnit":"pent""#), Ok(120));
        assert_eq!(fen(r#""Price":119.01,"AmountUnit":"pent""#), Ok(120));
        assert_eq!(fen(r#""Price":120,"HighPrecisionPrice":7.0,"AmountUnit":"pent""#), Ok(120));
        assert_eq!(fen(r#""Price":null,"HighPrecisionPrice":119.5,"AmountUnit":"pent""#), Ok(120));
    }

    #[test]
    fn is_never_guessed() {
        assert_unreadable(price(r#""Price":120"#), "absent");
        assert_unreadable(price(r#""Price":120,"AmountUnit":"microPent""#), "microPent");
        assert_unreadable(price(r#""Price":120,"AmountUnit":"pent","Currency":"USD""#), "USD");
        assert_unreadable(price(r#""AmountUnit":"pent""#), "no readable `Price`");
        for nonsense in ["-1", "\"abc\"", "1e300", "\"1e3\"", "true", "\"\""] {
            assert_unreadable(price(&format!(r#""Price":{nonsense},"AmountUnit":"pent""#)), "Price");
        }
    }
}
