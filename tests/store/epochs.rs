//! What a new epoch takes over from an older one.

use jiff::SignedDuration;
use renewd::domain::order::OrderId;
use renewd::store::{OrderMove, OrderStep};

use crate::stage::{Stage, days, policy, start};

#[tokio::test]
async fn a_crash_sends_unsent_runs_back_and_makes_intents_unknown() {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1", "crs-2", "crs-3"])], start()).await;
    let now = start() + SignedDuration::from_hours(1);
    for id in ["crs-1", "crs-2", "crs-3"] {
        stage.see(id, now, now + days(3)).await;
    }
    stage.fire(now).await;
    let claims = stage.claim(epoch).await;
    let row = stage.intend(&claims[0], now).await.unwrap().row();
    let placed = stage.intend(&claims[1], now).await.unwrap().row();
    let step = OrderStep::Placed { order_id: None, request_id: None, next_look_at: now };
    let order_move = OrderMove {
        row: placed,
        run: claims[1].job.run,
        at: now,
        sent_at: None,
        step,
        look: None,
        amount: None,
    };
    assert!(stage.store.move_order(order_move).await.unwrap());

    let stage = stage.reopen().await;
    let rescued = stage.store.begin_epoch(now, "test").await.unwrap();
    assert_eq!(rescued.epoch.0, epoch.0 + 1);
    assert_eq!((rescued.runs_requeued, rescued.orders_unknown), (1, vec![row]));
    let mut states: Vec<String> = stage.runs().await.into_iter().map(|run| run.state).collect();
    states.sort();
    assert_eq!(states, ["queued", "unknown", "waiting"]);
    let interrupted =
        "SELECT count(*) FROM orders WHERE state = 'unknown' AND error ->> 'code' = 'Interrupted'";
    assert_eq!(stage.count(interrupted).await, 1);
}

#[tokio::test]
async fn an_answer_that_comes_after_the_rescue_still_counts() {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    let now = start() + SignedDuration::from_hours(1);
    stage.see("crs-1", now, now + days(3)).await;
    stage.fire(now).await;
    let claim = stage.claim(epoch).await.remove(0);
    let row = stage.intend(&claim, now).await.unwrap().row();
    stage.begin().await;
    let order_id = Some(OrderId("20260301".to_owned()));
    let step = OrderStep::Placed { order_id, request_id: None, next_look_at: now };
    let order_move =
        OrderMove { row, run: claim.job.run, at: now, sent_at: None, step, look: None, amount: None };
    assert!(stage.store.move_order(order_move).await.unwrap());
    let placed =
        "SELECT count(*) FROM orders WHERE state = 'placed' AND order_id = '20260301' AND error IS NULL";
    assert_eq!(stage.count(placed).await, 1);
}

#[tokio::test]
async fn an_older_epoch_claims_nothing_and_ends_nothing() {
    let stage = Stage::open().await;
    let old = stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1", "crs-2"])], start()).await;
    stage.fire(start() + SignedDuration::from_hours(1)).await;
    let claims = stage.claim(old).await;
    let new = stage.begin().await;
    assert!(stage.claim(old).await.is_empty());
    stage.store.release(claims).await.unwrap();
    assert_eq!(stage.claim(new).await.len(), 2);
}
