//! What moves an order on, and what it does to its run and its instance.

use jiff::{SignedDuration, Timestamp};
use renewd::domain::failure::{Class, Failure};
use renewd::domain::order::{OrderId, OrderRow};
use renewd::domain::product::AccountName;
use renewd::store::{AfterConfirmed, Claim, Look, NewSet, NextForRun, OrderMove, OrderStep};

use crate::stage::{Stage, at, days, policy, start, word};

/// One claimed run of `crs-1`, due in three days, with its intent committed.
async fn intended() -> (Stage, Claim, OrderRow, Timestamp) {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    let now = start() + SignedDuration::from_hours(1);
    stage.see("crs-1", now, now + days(3)).await;
    stage.fire(now).await;
    let claim = stage.claim(epoch).await.remove(0);
    let row = stage.intend(&claim, now).await.unwrap().row();
    (stage, claim, row, now)
}

async fn move_to(stage: &Stage, claim: &Claim, row: OrderRow, at: Timestamp, step: OrderStep) -> bool {
    let look = Look {
        at_ms: at.as_millisecond(),
        monotonic_ms: 0,
        epoch: claim.epoch().0,
        evidence: serde_json::json!({}),
        finding: "seen".to_owned(),
    };
    let run = claim.job.run;
    let order_move = OrderMove { row, run, at, sent_at: Some(at), step, look: Some(look), amount: None };
    stage.store.move_order(order_move).await.unwrap()
}

fn placed(number: &str, next_look_at: Timestamp) -> OrderStep {
    OrderStep::Placed { order_id: Some(OrderId(number.to_owned())), request_id: None, next_look_at }
}

#[tokio::test]
async fn watching_a_placed_order_moves_its_next_look_and_remembers_that_a_person_was_asked() {
    let (stage, claim, row, now) = intended().await;
    assert!(move_to(&stage, &claim, row, now, placed("1", now)).await);
    let later = now + SignedDuration::from_hours(7);
    assert!(
        move_to(
            &stage,
            &claim,
            row,
            now,
            OrderStep::Watch { next_look_at: later, asked: true, stands_aside: false }
        )
        .await
    );
    assert_eq!(stage.store.next_look(&AccountName::parse("shop").unwrap()).await.unwrap(), Some(later));
    let next = format!("{}", later.as_millisecond());
    let looked = "SELECT next_look_at_ms FROM orders WHERE person_asked_ms IS NOT NULL AND state = 'placed'";
    assert_eq!(stage.count(looked).await.to_string(), next);
    assert_eq!(stage.count("SELECT count(*) FROM looks").await, 2);
}

#[tokio::test]
async fn a_placed_order_that_asked_a_person_no_longer_hides_that_its_instance_is_at_risk() {
    let (stage, claim, row, now) = intended().await;
    move_to(&stage, &claim, row, now, placed("1", now)).await;
    let late = now + days(2);
    stage.see("crs-1", late, now + days(3)).await;
    assert_eq!(stage.store.risks_to_log(late).await.unwrap().len(), 0);
    move_to(
        &stage,
        &claim,
        row,
        late,
        OrderStep::Watch { next_look_at: late, asked: true, stands_aside: false },
    )
    .await;
    assert_eq!(stage.store.risks_to_log(late).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_number_that_comes_after_the_order_was_settled_is_kept_and_the_order_stays_settled() {
    let (stage, claim, row, now) = intended().await;
    let failure = Failure::ours(Class::Unknown, "NotOrdered", "no sign of it");
    let next = NextForRun::Queue { reason: "judged anew".to_owned() };
    assert!(move_to(&stage, &claim, row, now, OrderStep::Refused { failure, next }).await);
    assert!(!move_to(&stage, &claim, row, now, placed("4711", now)).await);
    let order = stage.store.order(row).await.unwrap().unwrap();
    assert_eq!((order.state.as_str(), order.order_id.as_deref()), ("refused", Some("4711")));
}

#[tokio::test]
async fn a_renewal_confirmed_below_an_expiry_seen_before_opens_the_next_cycle() {
    let (stage, claim, row, now) = intended().await;
    move_to(&stage, &claim, row, now, placed("1", now)).await;
    // A refund took a long term back before: the highest expiry seen lies far ahead.
    let high = "UPDATE instances SET expiry_high_ms = 4000000000000, cycle_expiry_ms = 4000000000000";
    sqlx::query(high).execute(&mut stage.sql().await).await.unwrap();
    let after = now + days(34);
    let step = OrderStep::Confirmed {
        order_id: None,
        expiry_after: Some(after),
        reason: "renewed".to_owned(),
        next: AfterConfirmed::RunSucceeds,
    };
    assert!(move_to(&stage, &claim, row, now, step).await);
    let known = stage.see("crs-1", now + days(1), after).await;
    assert_eq!((known.cycle, known.expiry_high, known.lower), (2, Some(after), None));
}

#[tokio::test]
async fn a_persons_word_below_an_expiry_seen_before_opens_the_next_cycle_only_with_the_term_in_sight() {
    for (moved_days, cycle) in [(1, 1), (31, 2)] {
        let (stage, claim, row, now) = intended().await;
        move_to(&stage, &claim, row, now, placed("1", now)).await;
        let high = "UPDATE instances SET expiry_high_ms = 4000000000000, cycle_expiry_ms = 4000000000000";
        sqlx::query(high).execute(&mut stage.sql().await).await.unwrap();
        stage.see("crs-1", now + days(1), now + days(3 + moved_days)).await;
        stage.store.resolve_paid(row, None, &word(now + days(1))).await.unwrap();
        let known = stage.see("crs-1", now + days(2), now + days(3 + moved_days)).await;
        assert_eq!(known.cycle, cycle, "moved by {moved_days} days");
    }
}

#[tokio::test]
async fn runs_that_a_failure_of_the_database_left_in_nobodys_hand_go_back_to_the_queue() {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1", "crs-2", "crs-3"])], start()).await;
    let now = start() + SignedDuration::from_hours(1);
    for id in ["crs-1", "crs-2", "crs-3"] {
        stage.see(id, now, now + days(3)).await;
    }
    stage.fire(now).await;
    let claims = stage.claim(epoch).await;
    stage.intend(&claims[0], now).await.unwrap();
    let account = claims[0].job.account.clone();
    stage.store.requeue_lost(&account, epoch, vec![claims[1].job.run]).await.unwrap();
    let mut states: Vec<(i64, String)> =
        stage.runs().await.into_iter().map(|run| (run.id, run.state)).collect();
    states.sort();
    let states: Vec<&str> = states.iter().map(|(_, state)| state.as_str()).collect();
    assert_eq!(states, ["running", "running", "queued"]);
}

#[tokio::test]
async fn times_that_a_clock_ahead_left_in_the_future_are_pulled_back_by_the_next_life() {
    let (stage, claim, row, now) = intended().await;
    let ahead = at("2036-01-01T00:00:00Z");
    move_to(&stage, &claim, row, now, placed("1", ahead)).await;
    stage.see("crs-1", ahead, now + days(3)).await;
    stage.store.begin_epoch(now, "test").await.unwrap();
    assert_eq!(
        stage.count("SELECT next_look_at_ms FROM orders").await,
        now.as_millisecond(),
        "the open order is looked at again"
    );
    let known = stage.see("crs-1", now, now + days(33)).await;
    assert_eq!(known.expires_at(), Some(now + days(33)), "a look of now is believed again");
}

#[tokio::test]
async fn a_later_firing_names_the_earlier_run_that_is_still_under_way() {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    let now = start() + SignedDuration::from_hours(1);
    stage.see("crs-1", now, now + days(3)).await;
    stage.fire(now).await;
    stage.fire(now + days(1)).await;
    let claims = stage.claim(epoch).await;
    assert_eq!(claims[0].job.elder, None);
    assert_eq!(claims[1].job.elder.map(|elder| elder.run), Some(claims[0].job.run));
}

#[tokio::test]
async fn unsent_runs_follow_their_policy_to_another_account() {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    let now = start() + SignedDuration::from_hours(1);
    stage.fire(now).await;
    let mut moved = policy("cache", &["crs-1"]);
    moved.account = renewd::domain::product::AccountName::parse("lab").unwrap();
    stage.apply(&[moved], now).await;
    assert_eq!(stage.claim(epoch).await.len(), 0);
    assert_eq!(stage.claim_of("lab", epoch).await.len(), 1);
}

#[tokio::test]
async fn a_set_is_not_taken_while_the_old_one_is_owed_a_firing() {
    let stage = Stage::open().await;
    stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    let now = start() + SignedDuration::from_hours(1);
    stage.record_firing(now).await;
    let applied = stage.store.apply_policies(NewSet::default(), now).await.unwrap();
    assert_eq!(applied, None);
    while stage.store.queue_runs(now).await.unwrap().is_some() {}
    assert!(stage.store.apply_policies(NewSet::default(), now).await.unwrap().is_some());
}
