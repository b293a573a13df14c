//! An unknown order's request once more, what is remembered of calls, and whose number is whose.

use jiff::{SignedDuration, Timestamp};
use renewd::domain::failure::{Class, Failure};
use renewd::domain::money::Fen;
use renewd::domain::order::{OrderId, OrderRow};
use renewd::domain::product::{AccountName, PolicyName};
use renewd::domain::run::Epoch;
use renewd::store::{Attempt, Budget, Claim, Intent, OrderMove, OrderStep, PauseScope, ResolveRefused};

use crate::stage::{Stage, budget, days, intent, policy, start, word};

const TOKEN: &str = "token-1";

struct Sent {
    stage: Stage,
    epoch: Epoch,
    claims: Vec<Claim>,
    rows: Vec<OrderRow>,
    now: Timestamp,
    budget: Budget,
}

/// Orders of `crs-1` and `crs-2`, the first with a token, of which no answer came.
async fn unanswered() -> Sent {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1", "crs-2"])], start()).await;
    let now = start() + SignedDuration::from_hours(1);
    for id in ["crs-1", "crs-2"] {
        stage.see(id, now, now + days(3)).await;
    }
    stage.fire(now).await;
    let claims = stage.claim(epoch).await;
    let mut rows = Vec::new();
    for (claim, client_token) in claims.iter().zip([Some(TOKEN.to_owned()), None]) {
        let committed = stage
            .store
            .intend(claim, Intent { client_token, amount: Some(Fen::new(100)), ..intent(claim, now) })
            .await;
        rows.push(committed.unwrap().unwrap().row());
    }
    let sent = Sent { stage, epoch, claims, rows, now, budget: budget(now) };
    for at in 0..2 {
        let failure = Failure::ours(Class::Unknown, "Timeout", "no answer");
        sent.move_on(at, OrderStep::Unknown { failure, next_look_at: now }).await;
    }
    sent
}

impl Sent {
    async fn move_on(&self, at: usize, step: OrderStep) {
        let (row, run) = (self.rows[at], self.claims[at].job.run);
        let moved =
            OrderMove { row, run, at: self.now, sent_at: Some(self.now), step, look: None, amount: None };
        assert!(self.stage.store.move_order(moved).await.unwrap());
    }

    async fn may_repeat(&self, at: usize) -> bool {
        let leave =
            self.stage.store.repeat_order(self.rows[at], self.epoch, self.budget, self.now).await.unwrap();
        assert!(leave.as_ref().is_none_or(|leave| leave.row() == self.rows[at]));
        leave.is_some()
    }
}

#[tokio::test]
async fn only_an_unknown_order_with_a_token_may_be_sent_again() {
    let sent = unanswered().await;
    assert_eq!((sent.may_repeat(0).await, sent.may_repeat(1).await), (true, false));
    let repeats = "SELECT repeats FROM orders WHERE client_token IS NOT NULL";
    assert_eq!(sent.stage.count(repeats).await, 1);
    let number = Some(OrderId("4711".to_owned()));
    sent.move_on(0, OrderStep::Placed { order_id: number, request_id: None, next_look_at: sent.now }).await;
    assert!(!sent.may_repeat(0).await, "it is known");
}

#[tokio::test]
async fn nothing_is_sent_again_once_orders_are_not_wanted_any_more() {
    let mut sent = unanswered().await;
    let scope = PauseScope::Policy(PolicyName::parse("cache").unwrap());
    sent.stage.store.pause(&scope, None, &word(sent.now)).await.unwrap();
    assert!(!sent.may_repeat(0).await, "paused");
    sent.stage.store.resume(&scope, &word(sent.now)).await.unwrap();
    assert!(sent.may_repeat(0).await);
    sent.epoch = Epoch(sent.epoch.0 - 1);
    assert!(!sent.may_repeat(0).await, "of an older epoch");
    sent.epoch = Epoch(sent.epoch.0 + 1);
    sent.stage.apply(&[policy("other", &["crs-9"])], sent.now).await;
    assert!(!sent.may_repeat(0).await, "retired");
}

#[tokio::test]
async fn a_budget_that_became_less_than_what_was_ordered_holds_a_request_back() {
    let mut sent = unanswered().await;
    let enough = sent.budget;
    for (less, just_enough) in [
        (Budget { orders_per_day: Some(1), ..enough }, Budget { orders_per_day: Some(2), ..enough }),
        (
            Budget { per_day: Some(Fen::new(199)), ..enough },
            Budget { per_day: Some(Fen::new(200)), ..enough },
        ),
        (
            Budget { per_month: Some(Fen::new(199)), ..enough },
            Budget { per_month: Some(Fen::new(200)), ..enough },
        ),
    ] {
        sent.budget = less;
        assert!(!sent.may_repeat(0).await, "{less:?}");
        sent.budget = just_enough;
        assert!(sent.may_repeat(0).await, "{just_enough:?}");
    }
}

#[tokio::test]
async fn what_another_account_ordered_was_refused_or_came_before_does_not_hold_a_request_back() {
    let changes = [
        "account = 'other'",
        "state = 'refused', error = '{}', settled_at_ms = 1",
        "intended_at_ms = intended_at_ms - 11 * 86400000",
    ];
    for change in changes {
        let mut sent = unanswered().await;
        let enough = sent.budget;
        let amount = Some(Fen::new(100));
        for less in [
            Budget { orders_per_day: Some(1), ..enough },
            Budget { per_day: amount, ..enough },
            Budget { per_month: amount, ..enough },
        ] {
            sent.budget = less;
            assert!(!sent.may_repeat(0).await, "before {change}: {less:?}");
        }
        let changed = format!("UPDATE orders SET {change} WHERE client_token IS NULL");
        sqlx::raw_sql(sqlx::AssertSqlSafe(changed)).execute(&mut sent.stage.sql().await).await.unwrap();
        sent.budget = Budget { orders_per_day: Some(1), per_day: amount, per_month: amount, ..enough };
        assert!(sent.may_repeat(0).await, "{change}");
    }
}

#[tokio::test]
async fn a_pause_of_a_person_ends_for_a_repeated_request_and_one_of_ours_does_not_by_itself() {
    let sent = unanswered().await;
    let store = &sent.stage.store;
    let second = SignedDuration::from_secs(1);
    let ahead = Sent { now: sent.now + second, ..unanswered().await };
    for (until, may) in [(ahead.now + second, false), (ahead.now, true)] {
        let scope = PauseScope::All;
        ahead.stage.store.pause(&scope, Some(until), &word(sent.now)).await.unwrap();
        assert_eq!(ahead.may_repeat(0).await, may, "until {until}");
        ahead.stage.store.resume(&scope, &word(sent.now)).await.unwrap();
    }
    let account = AccountName::parse("shop").unwrap();
    store.hold_account(&account, "balance", sent.now - second, "no money", sent.now - second).await.unwrap();
    assert!(!sent.may_repeat(0).await, "the test is another order's");
}

#[tokio::test]
async fn nobody_resolves_an_order_whose_request_was_just_sent_again() {
    let sent = unanswered().await;
    let store = &sent.stage.store;
    assert!(sent.may_repeat(0).await);
    let refused = store.resolve_not_paid(sent.rows[0], false, &word(sent.now)).await.unwrap_err();
    assert!(matches!(refused, ResolveRefused::OnItsWay { .. }), "{refused}");
    sent.move_on(0, OrderStep::Watch { next_look_at: sent.now, asked: false, stands_aside: false }).await;
    store.resolve_not_paid(sent.rows[0], false, &word(sent.now)).await.unwrap();
}

#[tokio::test]
async fn a_request_that_an_earlier_life_sent_again_keeps_nobody_from_resolving_its_order() {
    let sent = unanswered().await;
    assert!(sent.may_repeat(0).await);
    sent.stage.begin().await;
    sent.stage.store.resolve_not_paid(sent.rows[0], false, &word(sent.now)).await.unwrap();
}

#[tokio::test]
async fn nothing_is_sent_again_of_an_edited_policy_or_once_a_person_was_asked() {
    let sent = unanswered().await;
    sent.stage.apply(&[policy("cache", &["crs-1", "crs-2", "crs-3"])], sent.now).await;
    assert!(!sent.may_repeat(0).await, "edited");
    let sent = unanswered().await;
    sent.move_on(0, OrderStep::Watch { next_look_at: sent.now, asked: true, stands_aside: false }).await;
    assert!(!sent.may_repeat(0).await, "asked");
}

#[tokio::test]
async fn numbers_that_another_row_carries_are_known() {
    let sent = unanswered().await;
    let [mine, other] = ["4711", "4712"].map(|number| OrderId(number.to_owned()));
    let step = OrderStep::Placed { order_id: Some(mine.clone()), request_id: None, next_look_at: sent.now };
    sent.move_on(0, step).await;
    let known = async |except: usize| {
        sent.stage.store.known_order_ids(&[&mine, &other], sent.rows[except]).await.unwrap()
    };
    assert_eq!(known(1).await, std::slice::from_ref(&mine));
    assert!(known(0).await.is_empty(), "its own is not another's");
}

#[tokio::test]
async fn each_call_is_on_record_with_its_order_and_its_failure() {
    let sent = unanswered().await;
    let call = |code: Option<&str>| Attempt {
        account: "shop".to_owned(),
        api: "redis:RenewInstance",
        region: "ap-guangzhou".to_owned(),
        order_row: Some(sent.rows[0]),
        run_id: Some(sent.claims[0].job.run),
        instances: 1,
        at_ms: sent.now.as_millisecond(),
        duration_ms: 17,
        class: if code.is_some() { "busy" } else { "ok" },
        code: code.map(str::to_owned),
        http_status: Some(200),
        request_id: Some("request-1".to_owned()),
    };
    let calls = vec![call(Some("ResourceInUse")), call(None)];
    sent.stage.store.record_attempts(calls).await.unwrap();
    let story = sent.stage.store.stories("crs-1").await.unwrap().remove(0);
    let told: Vec<_> = story
        .attempts
        .iter()
        .map(|call| (call.api.as_str(), call.class.as_str(), call.code.as_deref(), call.duration_ms))
        .collect();
    let api = "redis:RenewInstance";
    assert_eq!(told, [(api, "busy", Some("ResourceInUse"), 17), (api, "ok", None, 17)]);
}
