//! Order lists, prices, quotas and spoilt answers.

use jiff::{SignedDuration, Timestamp};
use renewd::clock::Clock;
use renewd::domain::failure::Class;
use renewd::domain::money::Fen;
use renewd::domain::order::{ClientToken, Goods, ListedKind, Purchase, Renewal, Standing};
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::json;

use crate::client::{Call, ECS, KEY, Stage, instance, region};

fn hour_around(now: Timestamp) -> (Timestamp, Timestamp) {
    (now - SignedDuration::from_hours(1), now + SignedDuration::from_hours(1))
}

#[tokio::test]
async fn an_order_is_found_by_its_lines() {
    let stage = Stage::open().await;
    for name in ["i-sandbox-1", "i-sandbox-2"] {
        stage.result(&Call::renew(name, 3, name)).await;
    }
    let (from, through) = hour_around(stage.clock.now());
    let cloud = stage.cloud();
    let page = cloud.orders_page(ECS, from, through, None).await.result.unwrap();
    assert_eq!((page.orders.len(), &page.next), (2, &None));
    let newest = &page.orders[0];
    assert_eq!((newest.standing, newest.kind), (Standing::Standing, ListedKind::Renewal));
    assert_eq!((newest.amount, newest.created_at), (Some(Fen::new(30_000)), Some(stage.clock.now())));
    let lines = cloud.order_lines(ECS, &newest.order_id).await.result.unwrap();
    assert_eq!(lines, [instance("i-sandbox-2")]);
    let order = stage.result(&Call::billing("GetOrder", &json!({ "OrderID": newest.order_id }))).await;
    assert_eq!(order["OrderInfo"]["Status"], "Paid");
    let earlier = cloud.orders_page(ECS, from, from, None).await.result.unwrap();
    assert!(earlier.orders.is_empty());
}

#[tokio::test]
async fn a_long_list_of_orders_goes_on_where_its_page_ended() {
    let stage = Stage::open_with(&format!("[balances]\n{KEY} = 1000000\n")).await;
    for number in 0..101 {
        stage.result(&Call::renew("i-sandbox-1", 1, &format!("token-{number}"))).await;
    }
    let (from, through) = hour_around(stage.clock.now());
    let cloud = stage.cloud();
    let first = cloud.orders_page(ECS, from, through, None).await.result.unwrap();
    assert_eq!(first.orders.len(), 100);
    let second = cloud.orders_page(ECS, from, through, first.next.as_ref()).await.result.unwrap();
    assert_eq!((second.orders.len(), second.next), (1, None));
    assert!(first.orders.iter().all(|order| order.order_id != second.orders[0].order_id));
}

#[tokio::test]
async fn orders_lag_behind_and_belong_to_their_key() {
    let stage = Stage::open().await;
    stage.inject(Fault::lag("ecs:RenewInstance", std::time::Duration::from_secs(60)));
    let order_id = stage.result(&Call::renew("i-sandbox-1", 1, "t")).await["OrderId"].clone();
    let details = Call::billing("ListOrderProductDetails", &json!({ "OrderID": order_id }));
    assert_eq!(stage.code(&details).await, (400, "RecordNoFound".to_owned()));
    stage.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(stage.result(&details).await["OrderProductInfos"][0]["InstanceID"], "i-sandbox-1");
    let stranger = Call { key_id: "AKLTsandbox-other".into(), ..details };
    assert_eq!(stage.code(&stranger).await, (400, "RecordNoFound".to_owned()));
}

#[tokio::test]
async fn a_window_wider_than_documented_is_refused() {
    let stage = Stage::open().await;
    let window =
        |from, to| Call::billing("ListOrders", &json!({ "CreateTimeStart": from, "CreateTimeEnd": to }));
    let fits = window("2026-01-01T00:00:00Z", "2026-02-01T00:00:00+00:00");
    assert_eq!(stage.code(&fits).await, (200, "ok".to_owned()));
    for (from, to) in
        [("2026-01-01T00:00:00Z", "2026-02-01T00:00:01Z"), ("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z")]
    {
        assert_eq!(stage.code(&window(from, to)).await, (400, "InvalidParam".to_owned()));
    }
}

#[tokio::test]
async fn a_price_is_what_the_renewal_will_charge() {
    let stage = Stage::open_with("[[instances]]\nid = \"i-dear\"\nprice_cny_per_month = 19.99\n").await;
    let purchase = Purchase {
        product: ECS,
        region: region(),
        instance: instance("i-dear"),
        goods: Goods::Renewal(Renewal {
            months: 3,
            renew_flag: None,
            renew_data_disks: false,
            client_token: Some(ClientToken("t".to_owned())),
        }),
    };
    assert_eq!(stage.cloud().price(&purchase).await.result, Ok(Fen::new(5_997)));
    stage.result(&Call::renew("i-dear", 3, "t")).await;
    assert_eq!(stage.sandbox.ledger()[0].amount, Fen::new(5_997));
    let unknown = Purchase { instance: instance("i-nowhere"), ..purchase };
    assert_eq!(stage.cloud().price(&unknown).await.result.unwrap_err().class, Class::Rejected);
}

#[tokio::test]
async fn more_than_the_quota_is_refused_until_the_second_is_over() {
    let stage = Stage::open().await;
    let mut codes = Vec::new();
    for _ in 0..7 {
        codes.push(stage.cloud().auto_renew(ECS, &[instance("i-sandbox-1")]).await.result.is_ok());
    }
    assert_eq!(codes, [true, true, true, true, true, false, false]);
    let refused = stage.cloud().auto_renew(ECS, &[]).await;
    assert_eq!(refused.report.http_status, Some(429));
    assert_eq!(refused.result.unwrap_err().class, Class::Throttled);
    stage.clock.advance(std::time::Duration::from_secs(1));
    assert!(stage.cloud().auto_renew(ECS, &[]).await.result.is_ok());
}

#[tokio::test]
async fn a_spoilt_answer_tells_the_real_client_nothing() {
    let stage = Stage::open().await;
    let cloud = stage.cloud();
    for spoilt in [
        Spoilt::Code("InternalServiceTimeout".to_owned()),
        Spoilt::Http(502),
        Spoilt::Drop,
        Spoilt::Garbage,
        Spoilt::Truncate,
    ] {
        stage.inject(Fault::spoil("ecs:DescribeInstances", Effect::After, spoilt.clone()));
        let call = cloud.observe(ECS, &region(), &[instance("i-sandbox-1")]).await;
        assert_eq!(call.result.unwrap_err().class, Class::Unknown, "{spoilt:?}");
    }
    assert!(cloud.observe(ECS, &region(), &[instance("i-sandbox-1")]).await.result.is_ok());
}
