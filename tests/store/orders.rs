//! What moves an order on, and what it does to its run and its instance.

use jiff::{SignedDuration, Timestamp};
use renewd::domain::failure::{Class, Failure};
use renewd::domain::money::Fen;
use renewd::domain::order::{Cycle, OrderId, OrderRow};
use renewd::domain::product::{AccountName, Provider};
use renewd::domain::run::{Epoch, Hold};
use renewd::store::{
    AfterConfirmed, Claim, Intent, Look, NewSet, NextForRun, OpenOrder, OrderMove, OrderStep,
};

use crate::stage::{Stage, at, days, intent, policy, start, word};

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

fn answered(class: Class, code: &str) -> Failure {
    Failure { request_id: Some(format!("request-{code}")), ..Failure::ours(class, code, "the cloud said so") }
}

/// State, number, request, when it was sent and the code of its failure.
async fn order_told(stage: &Stage, row: OrderRow) -> String {
    let order = stage.store.order(row).await.unwrap().unwrap();
    let code = order.error.map(|error| serde_json::from_str::<Failure>(error.get()).unwrap().code);
    format!(
        "{} {} {} {} {}",
        order.state,
        order.order_id.as_deref().unwrap_or("-"),
        order.request_id.as_deref().unwrap_or("-"),
        order.sent_at.as_deref().unwrap_or("-"),
        code.as_deref().unwrap_or("-")
    )
}

/// State, hold, attempts, next attempt, whether it ended, its reason and the code of its failure.
async fn run_told(stage: &Stage) -> String {
    let told = "SELECT format('%s %s %d %s %s %s: %s', state, coalesce(hold, '-'), attempts,
        coalesce(next_attempt_at_ms, '-'), iif(finished_at_ms IS NULL, 'lives', 'ended'), coalesce(error ->> 'code', '-'),
        reason) FROM runs";
    sqlx::query_scalar(told).fetch_one(&mut stage.sql().await).await.unwrap()
}

#[tokio::test]
async fn an_answer_is_written_down_in_the_order_and_in_its_run() {
    let (stage, claim, row, now) = intended().await;
    let failure = answered(Class::Unknown, "Cut");
    let sent = format!("{now:.3}");
    assert!(move_to(&stage, &claim, row, now, OrderStep::Unknown { failure, next_look_at: now }).await);
    assert_eq!(order_told(&stage, row).await, format!("unknown - request-Cut {sent} Cut"));
    let run = run_told(&stage).await;
    assert!(run.starts_with("unknown - 0 - lives Cut: its order is unknown: "), "{run}");

    let later = now + SignedDuration::from_secs(5);
    let order_id = None;
    let request_id = Some("request-2".to_owned());
    let step = OrderStep::Placed { order_id, request_id, next_look_at: later };
    assert!(move_to(&stage, &claim, row, later, step).await);
    assert_eq!(
        order_told(&stage, row).await,
        format!("placed - request-2 {sent} -"),
        "sent when it first was"
    );
    let waits = "waiting confirmation 0 - lives -: its order is placed and waits to be confirmed by the instance's expiry";
    assert_eq!(run_told(&stage).await, waits);

    // What comes after the order was accepted does not make it unknown again.
    let failure = answered(Class::Unknown, "Late");
    assert!(!move_to(&stage, &claim, row, later, OrderStep::Unknown { failure, next_look_at: later }).await);
    assert_eq!(run_told(&stage).await, waits);

    let step = OrderStep::Confirmed {
        order_id: Some(OrderId("4711".to_owned())),
        expiry_after: Some(now + days(33)),
        reason: "renewed".to_owned(),
        next: AfterConfirmed::RunSucceeds,
    };
    assert!(move_to(&stage, &claim, row, later, step).await);
    assert_eq!(order_told(&stage, row).await, format!("confirmed 4711 request-2 {sent} -"));
    assert_eq!(run_told(&stage).await, "succeeded - 0 - ended -: renewed");
    assert_eq!(stage.count("SELECT count(*) FROM orders WHERE settled_by = 'renewd'").await, 1);
}

#[tokio::test]
async fn a_refusal_is_written_down_with_what_its_run_does_next() {
    let until = start() + days(1);
    let reason = || "as judged".to_owned();
    let wait = |counts| NextForRun::Wait { until, reason: reason(), hold: Hold::Backoff, counts };
    let at = until.as_millisecond();
    for (next, told) in [
        (NextForRun::Queue { reason: reason() }, "queued - 0 - lives Sold: as judged".to_owned()),
        (wait(true), format!("waiting backoff 1 {at} lives Sold: as judged")),
        (wait(false), format!("waiting backoff 0 {at} lives Sold: as judged")),
        (NextForRun::Fail { reason: reason() }, "failed - 0 - ended Sold: as judged".to_owned()),
    ] {
        let (stage, claim, row, now) = intended().await;
        let failure = answered(Class::Rejected, "Sold");
        assert!(move_to(&stage, &claim, row, now, OrderStep::Refused { failure, next }).await);
        assert_eq!(order_told(&stage, row).await, format!("refused - request-Sold {now:.3} Sold"));
        assert_eq!(run_told(&stage).await, told);
    }
}

#[tokio::test]
async fn nothing_is_watched_before_it_was_sent() {
    let (stage, claim, row, now) = intended().await;
    let step = OrderStep::Watch { next_look_at: now, asked: false, stands_aside: false };
    assert!(!move_to(&stage, &claim, row, now, step).await);
    assert_eq!(stage.count("SELECT count(*) FROM looks").await, 0);
    assert_eq!(order_told(&stage, row).await, "intended - - - -");
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
async fn an_order_after_its_term_was_taken_back_begins_its_cycle_where_the_instance_is_now() {
    // Seen before, seen when it is ordered, seen when it is paid, all in days.
    for (opened, before, after) in [(100, 3, 103), (3, 10, 24)] {
        let stage = Stage::open().await;
        let epoch = stage.begin().await;
        stage.apply(&[policy("cache", &["crs-1"])], start()).await;
        let now = start() + SignedDuration::from_hours(1);
        stage.see("crs-1", start(), now + days(opened)).await;
        stage.see("crs-1", now, now + days(before)).await;
        stage.fire(now).await;
        let claim = stage.claim(epoch).await.remove(0);
        stage.intend(&claim, now).await.unwrap();
        let known = stage.see("crs-1", now + days(1), now + days(after)).await;
        assert_eq!(
            known.cycle, 2,
            "{before} days left of {opened} became {after}: the next term is not this one"
        );
    }
}

#[tokio::test]
async fn an_order_of_a_due_instant_leaves_the_cycle_where_it_began() {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    let now = start() + SignedDuration::from_hours(1);
    stage.see("crs-1", start(), now + days(100)).await;
    stage.see("crs-1", now, now + days(3)).await;
    stage.fire(now).await;
    let claim = stage.claim(epoch).await.remove(0);
    let due = Intent { cycle: Some(Cycle::Due(now)), ..intent(&claim, now) };
    let row = stage.store.intend(&claim, due).await.unwrap().unwrap().row();
    let (order_id, reason, next) = (None, "renewed".to_owned(), AfterConfirmed::RunSucceeds);
    let step = OrderStep::Confirmed { order_id, expiry_after: Some(now + days(33)), reason, next };
    assert!(move_to(&stage, &claim, row, now, step).await);
    let known = stage.see("crs-1", now + days(1), now + days(103)).await;
    assert_eq!((known.cycle, known.expiry_high), (1, Some(now + days(103))));
    assert_eq!(
        stage.count("SELECT cycle_expiry_ms FROM instances").await,
        (now + days(100)).as_millisecond()
    );
}

#[tokio::test]
async fn what_an_order_is_known_by_outlives_the_moves_that_do_not_name_it() {
    let (stage, claim, row, now) = intended().await;
    let run = claim.job.run;
    let bare = |at, step, amount| OrderMove { row, run, at, sent_at: None, step, look: None, amount };
    let watch = || OrderStep::Watch { next_look_at: now, asked: true, stands_aside: false };
    let failure = answered(Class::Unknown, "Cut");
    let unknown = OrderStep::Unknown { failure, next_look_at: now };
    let later = now + SignedDuration::from_secs(9);
    assert!(stage.store.move_order(bare(now, unknown, Some(Fen::new(100)))).await.unwrap());
    assert!(stage.store.move_order(bare(now, watch(), None)).await.unwrap());
    assert_eq!(order_told(&stage, row).await, "unknown - request-Cut - Cut");
    assert!(stage.store.move_order(bare(later, watch(), None)).await.unwrap());
    let asked = stage.count("SELECT person_asked_ms FROM orders").await;
    assert_eq!(asked, now.as_millisecond(), "when a person was first asked");
    // The life that sent it was killed before it could say when.
    assert!(stage.store.move_order(bare(later, placed("4711", later), None)).await.unwrap());
    assert_eq!(order_told(&stage, row).await, format!("placed 4711 request-Cut {now:.3} -"));
    let confirmed = || OrderStep::Confirmed {
        order_id: None,
        expiry_after: None,
        reason: "renewed".to_owned(),
        next: AfterConfirmed::RunSucceeds,
    };
    assert!(stage.store.move_order(bare(later, confirmed(), None)).await.unwrap());
    assert_eq!(order_told(&stage, row).await, format!("confirmed 4711 request-Cut {now:.3} -"));
    assert_eq!(stage.count("SELECT amount_fen FROM orders").await, 100);
    assert!(!stage.store.move_order(bare(later, placed("4712", later), None)).await.unwrap());
    assert_eq!(
        order_told(&stage, row).await,
        format!("confirmed 4711 request-Cut {now:.3} -"),
        "the first number"
    );
}

#[tokio::test]
async fn a_confirmation_takes_the_failure_of_an_unknown_order_off_its_run() {
    let (stage, claim, row, now) = intended().await;
    let failure = answered(Class::Unknown, "Cut");
    move_to(&stage, &claim, row, now, OrderStep::Unknown { failure, next_look_at: now }).await;
    let step = OrderStep::Confirmed {
        order_id: None,
        expiry_after: None,
        reason: "renewed".to_owned(),
        next: AfterConfirmed::RunSucceeds,
    };
    assert!(move_to(&stage, &claim, row, now, step).await);
    assert_eq!(run_told(&stage).await, "succeeded - 0 - ended -: renewed");
}

#[tokio::test]
async fn the_marks_of_an_instance_begin_anew_only_below_the_highest_expiry_and_advance_once() {
    let far = Some(4_000_000_000_000_i64);
    // The highest expiry seen before, whether the term was seen before its order was confirmed, the cycle then.
    for (high, is_seen, cycle) in [(far, false, 2), (far, true, 2), (None, false, 1), (None, true, 2)] {
        let (stage, claim, row, now) = intended().await;
        move_to(&stage, &claim, row, now, placed("1", now)).await;
        let after = now + days(34);
        if is_seen {
            stage.see("crs-1", now + days(1), after).await;
        }
        sqlx::query("UPDATE instances SET expiry_high_ms = coalesce(?1, expiry_high_ms)")
            .bind(high)
            .execute(&mut stage.sql().await)
            .await
            .unwrap();
        let (order_id, reason, next) = (None, "renewed".to_owned(), AfterConfirmed::RunSucceeds);
        let step = OrderStep::Confirmed { order_id, expiry_after: Some(after), reason, next };
        assert!(move_to(&stage, &claim, row, now + days(1), step).await);
        assert_eq!(stage.count("SELECT cycle FROM instances").await, cycle, "{high:?} {is_seen}");
    }
}

/// `crs-1` again, after its first order was called not to have happened; answers what is looked at.
async fn ordered_again() -> (Stage, OrderRow, OpenOrder, Timestamp) {
    let (stage, claim, first, now) = intended().await;
    let failure = answered(Class::Unknown, "NotOrdered");
    let next = NextForRun::Queue { reason: "judged anew".to_owned() };
    assert!(move_to(&stage, &claim, first, now, OrderStep::Refused { failure, next }).await);
    let epoch = claim.epoch();
    let mut claim = stage.claim(epoch).await.remove(0);
    let now = stage.look_again(&mut claim, now).await;
    let second = stage.intend(&claim, now).await.unwrap().row();
    let failure = answered(Class::Unknown, "Cut");
    assert!(move_to(&stage, &claim, second, now, OrderStep::Unknown { failure, next_look_at: now }).await);
    let open = looked_at(&stage, epoch, now).await.remove(0);
    assert_eq!(open.row, second);
    (stage, first, open, now)
}

async fn looked_at(stage: &Stage, epoch: Epoch, now: Timestamp) -> Vec<OpenOrder> {
    let account = AccountName::parse("shop").unwrap();
    let provider = Provider::TencentCloud;
    let open = stage.store.orders_to_look_at(&account, provider, epoch, now, 10).await.unwrap();
    let is_due = stage.store.has_orders_to_follow(&account, now).await.unwrap();
    assert!(is_due || open.is_empty());
    open
}

#[tokio::test]
async fn a_listed_order_is_an_earlier_rows_that_was_sent_by_then_give_or_take_a_minute() {
    for (seconds_before, is_taken) in [(-3600, true), (0, true), (59, true), (61, false)] {
        let (stage, first, open, now) = ordered_again().await;
        assert_eq!((open.is_second, open.list_was_late), (true, false));
        let number = OrderId("4711".to_owned());
        let listed = vec![(number.clone(), now - SignedDuration::from_secs(seconds_before))];
        let taken = stage.store.attribute_late(&open, listed).await.unwrap();
        let expected = if is_taken { vec![(first, number)] } else { vec![] };
        assert_eq!(taken, expected, "{seconds_before} s before the intent");
        let told = order_told(&stage, first).await;
        assert_eq!(told.contains("4711"), is_taken, "{told}");
        let epoch = stage.store.epoch_in_force().await.unwrap().0;
        assert_eq!(looked_at(&stage, epoch, now).await[0].list_was_late, is_taken);
        assert!(looked_at(&stage, epoch, now - SignedDuration::from_millis(1)).await.is_empty());
    }
}

#[tokio::test]
async fn looks_of_an_earlier_life_are_no_evidence_in_the_next() {
    let (stage, _, open, now) = ordered_again().await;
    assert_eq!(open.looks.len(), 1);
    let next_life = stage.begin().await;
    let open = looked_at(&stage, next_life, now).await.remove(0);
    assert!(open.looks.is_empty(), "{:?}", open.looks);
}

#[tokio::test]
async fn a_persons_word_below_an_expiry_seen_before_opens_the_next_cycle_only_with_the_term_in_sight() {
    for (moved_days, cycle) in [(1, 1), (20, 2), (31, 2)] {
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
async fn an_expiry_that_has_not_moved_is_not_what_a_persons_paid_order_brought() {
    for (moved_days, is_brought) in [(0, false), (31, true)] {
        let (stage, claim, row, now) = intended().await;
        move_to(&stage, &claim, row, now, placed("1", now)).await;
        stage.see("crs-1", now + days(1), now + days(3 + moved_days)).await;
        stage.store.resolve_paid(row, None, &word(now + days(1))).await.unwrap();
        let order = stage.store.order(row).await.unwrap().unwrap();
        assert_eq!(order.expiry_after.is_some(), is_brought, "moved by {moved_days} days");
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
