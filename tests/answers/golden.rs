//! Each documented answer against the reading that it must have.

use std::collections::BTreeSet;

use renewd::cloud::{Reply, all_apis};
use renewd::domain::failure::Class;
use renewd::domain::money::Fen;
use renewd::domain::observation::{
    AutoRenew, ChargeType, Facts, InstanceState, Observation, Operation, Presence, Spec,
};
use renewd::domain::order::{ListedKind, ListedOrder, OrderId, Standing};
use renewd::domain::product::InstanceId;

use crate::reader::{Golden, Reading, goldens, observed_at};

#[test]
fn every_api_that_is_called_has_a_documented_answer() {
    let named: BTreeSet<String> =
        goldens().into_iter().map(|golden| golden.name.split('.').next().unwrap().to_owned()).collect();
    let called: BTreeSet<String> = all_apis().map(|api| api.name.replace(':', "-")).collect();
    assert_eq!(named, called);
}

#[test]
fn every_documented_answer_is_read_as_it_says() {
    for Golden { name, reader, body } in goldens() {
        let Reply { request_id, result } = reader.read(200, &body);
        match (expected(&name), result) {
            (Expected::Reading(expected), Ok(Reading::Page(page))) => {
                assert_eq!(Reading::Listed(page.orders), expected, "{name}");
                assert!(page.next.is_some(), "{name}");
            }
            (Expected::Reading(expected), result) => assert_eq!(result, Ok(expected), "{name}"),
            (Expected::Failure(class, code), result) => {
                let failure = result.unwrap_err();
                assert_eq!((failure.class, failure.code.as_str()), (class, code), "{name}: {failure}");
            }
        }
        let has_request_id = String::from_utf8(body).unwrap().contains("\"RequestId\"");
        let is_json = !name.starts_with("ecs-RenewInstance.page");
        assert_eq!(request_id.is_some(), has_request_id && is_json, "{name}");
    }
}

enum Expected {
    Reading(Reading),
    Failure(Class, &'static str),
}

fn expected(name: &str) -> Expected {
    let reading = match name {
        "redis-RenewInstance.page.json" => order("6954225"),
        "redis-RenewInstance.deal_name.json" => order("20250825297021530591847"),
        "redis-UpgradeInstance.page.json" => order("6954227"),
        "redis-UpgradeInstance.deal_name.json" => order("20250825297021509398751"),
        "redis-RenewInstance.refused.json" => {
            return Expected::Failure(Class::Credential, "AuthFailure.SignatureFailure");
        }
        "redis-DescribeInstances.json" => redis(),
        "redis-InquiryPriceRenewInstance.json" => amount(30_400),
        "redis-InquiryPriceUpgradeInstance.json" => amount(21),
        "cvm-RenewInstances.json" => Reading::Accepted(None),
        "cvm-DescribeInstances.json" => cvm("ResetInstancesType", "SUCCESS"),
        "cvm-DescribeInstances.operating.json" => cvm("StopInstances", "OPERATING"),
        "cvm-DescribeInstances.by_tag.json" => cvm_by_tag(),
        "cvm-InquiryPriceRenewInstances.json" => amount(120),
        "cvm-v2-RenewInstance.page.json" => order("2790804"),
        "cvm-v2-RenewInstance.refused.json" => {
            return Expected::Failure(Class::Busy, "OperationConstraints.InvaildInstanceStatus");
        }
        "cvm-v2-DescribeInstances.json" => cvm_v2(),
        "cvm-v2-InquiryInstancePrice.json" => amount(12_300),
        "billing-DescribeDealsByCond.json" => Reading::Listed(vec![deal()]),
        "billing-DescribeAccountBalance.json" => amount(0),
        // A comma too many: what the page shows is no JSON.
        "ecs-RenewInstance.page.json" => return Expected::Failure(Class::Unknown, "Unreadable"),
        "ecs-RenewInstance.json" => order("Order7007335217124******"),
        "ecs-RenewInstance.processing.json" => {
            return Expected::Failure(Class::Unknown, "IdempotentProcessing");
        }
        "ecs-RenewInstance.gateway.json" => {
            return Expected::Failure(Class::Credential, "SignatureDoesNotMatch");
        }
        "ecs-DescribeInstances.json" => ecs(),
        "billing-ListAvailableInstances.json" => Reading::Settings(vec![
            (id("i-3thhlu8byl4bwbha0001"), AutoRenew::Off),
            (id("i-3thhlu8byl4bwbha0002"), AutoRenew::On),
        ]),
        "billing-ListOrders.json" => Reading::Listed(orders()),
        "billing-ListOrderProductDetails.json" => {
            Reading::Lines(vec![id("i-3thhlu8byl4bwbha0001"), id("vol-3tzg6y5imn3b9fchg001")])
        }
        "billing-QueryPriceForRenew.json" => amount(5_000),
        "billing-QueryBalanceAcct.json" => amount(7_701),
        // Without its metadata an answer is somebody else's.
        "billing-QueryBalanceAcct.page.json" => return Expected::Failure(Class::Unknown, "Unreadable"),
        _ => panic!("{name} has no expected reading"),
    };
    Expected::Reading(reading)
}

fn order(id: &str) -> Reading {
    Reading::Accepted(Some(OrderId(id.to_owned())))
}

fn amount(fen: i64) -> Reading {
    Reading::Amount(Fen::new(fen))
}

fn id(text: &str) -> InstanceId {
    InstanceId::parse(text).unwrap()
}

fn seen(id_text: &str, facts: Facts) -> Observation {
    Observation { instance: id(id_text), observed_at: observed_at(), presence: Presence::Visible(facts) }
}

fn prepaid(expires_at: &str) -> Facts {
    Facts {
        expires_at: Some(expires_at.parse().unwrap()),
        state: InstanceState::Running,
        charge: ChargeType::Prepaid,
        auto_renew: AutoRenew::Off,
        renew_flag: None,
        spec: None,
        latest_operation: None,
    }
}

/// Its count says eight and it lists two: those that are asked for, so nothing is missing.
fn redis() -> Reading {
    let spec = Some(Spec { mem_size_mb: 4096, shards: 1, replicas: 2 });
    let busy = Facts { state: InstanceState::Busy, spec, ..prepaid("2023-05-17T11:32:18+08:00") };
    let running = Facts { spec, ..prepaid("2023-05-17T11:47:01+08:00") };
    Reading::Seen(vec![seen("crs-4nmzc0ul", busy), seen("crs-46njvft9", running)])
}

/// Shown as isolated, for which nobody would renew it, and as paid by the hour.
fn cvm(operation: &str, state: &str) -> Reading {
    let facts = Facts {
        state: InstanceState::Isolated,
        charge: ChargeType::Postpaid,
        renew_flag: Some("NOTIFY_AND_MANUAL_RENEW".to_owned()),
        latest_operation: Some(Operation {
            name: operation.to_owned(),
            request_id: Some("c7de1287-061d-4ace-8caf-6ad8e5a2f29a".to_owned()),
            state: Some(state.to_owned()),
        }),
        ..prepaid("2020-09-22T00:00:00Z")
    };
    Reading::Seen(vec![unseen("ins-9bxebleo"), seen("ins-xlsyru2j", facts)])
}

fn unseen(text: &str) -> Observation {
    Observation { instance: id(text), observed_at: observed_at(), presence: Presence::NotVisible }
}

fn cvm_by_tag() -> Reading {
    let facts = Facts {
        renew_flag: Some("NOTIFY_AND_MANUAL_RENEW".to_owned()),
        latest_operation: Some(Operation {
            name: "RenewInstances".to_owned(),
            request_id: Some("3554eb5b-1cfa-471a-ae76-dc436c9d43e8".to_owned()),
            state: Some("SUCCESS".to_owned()),
        }),
        ..prepaid("2020-04-10T02:47:36Z")
    };
    Reading::Seen(vec![seen("ins-9bxebleo", facts), unseen("ins-xlsyru2j")])
}

/// One is asked for by the id of before `ins-`.
fn cvm_v2() -> Reading {
    let by_old_id = prepaid("2017-01-02T00:22:48+08:00");
    let hourly = Facts { expires_at: None, charge: ChargeType::Postpaid, ..by_old_id.clone() };
    Reading::Seen(vec![seen("ins-5678efgh", hourly), seen("qcvm8e7bf56c115c53ce2d2a1ac2ea6e657a", by_old_id)])
}

fn ecs() -> Reading {
    let running = Facts { auto_renew: AutoRenew::Unreadable, ..prepaid("2024-02-01T23:59:59+08:00") };
    let hourly = Facts { expires_at: None, charge: ChargeType::Postpaid, ..running.clone() };
    Reading::Seen(vec![seen("i-3thhlu8byl4bwbha0001", running), seen("i-3thhlu8byl4bwbha0002", hourly)])
}

fn deal() -> ListedOrder {
    ListedOrder {
        order_id: OrderId("20220214710000851640811".to_owned()),
        standing: Standing::Standing,
        kind: ListedKind::Other,
        months: Some(1),
        amount: Some(Fen::new(17_000)),
        created_at: Some("2020-09-22T00:00:00+08:00".parse().unwrap()),
    }
}

fn orders() -> Vec<ListedOrder> {
    let paid = ListedOrder {
        order_id: OrderId("Order7007335217124000001".to_owned()),
        standing: Standing::Standing,
        kind: ListedKind::Renewal,
        months: None,
        amount: Some(Fen::new(8_000)),
        created_at: Some("2024-01-20T04:00:00Z".parse().unwrap()),
    };
    let unpaid = ListedOrder {
        order_id: OrderId("Order7007335217124000002".to_owned()),
        standing: Standing::Unpaid,
        amount: Some(Fen::new(10_000)),
        created_at: Some("2024-01-20T05:00:00Z".parse().unwrap()),
        ..paid.clone()
    };
    vec![paid, unpaid]
}
