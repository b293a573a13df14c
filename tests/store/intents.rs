//! What an intent's own INSERT refuses, whatever its caller believed a moment ago.

use jiff::{SignedDuration, Timestamp};
use renewd::domain::failure::{Class, Failure};
use renewd::domain::money::Fen;
use renewd::domain::order::{Committed, Cycle, OrderId, OrderRow};
use renewd::domain::policy::Policy;
use renewd::domain::product::{AccountName, PolicyName, Region};
use renewd::domain::run::Epoch;
use renewd::store::{
    AfterConfirmed, Budget, Claim, Intent, NextForRun, OrderMove, OrderStep, PauseScope, Withheld,
};

use crate::stage::{CVM, CVM_V2, Stage, budget, days, every_fire, intent, policy, start, word};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// One due instance, seen and claimed.
async fn one_claim(stage: &Stage) -> (Epoch, Claim, Timestamp) {
    let (epoch, mut claims, now) = claims_of(stage, &[policy("cache", &["crs-1"])]).await;
    (epoch, claims.remove(0), now)
}

async fn claims_of(stage: &Stage, set: &[Policy]) -> (Epoch, Vec<Claim>, Timestamp) {
    let epoch = stage.begin().await;
    stage.apply(set, start()).await;
    let now = start() + HOUR;
    for id in set.iter().flat_map(|policy| &policy.instances) {
        stage.see(id.as_str(), now, now + days(3)).await;
    }
    stage.fire(now).await;
    (epoch, stage.claim(epoch).await, now)
}

async fn settle(stage: &Stage, row: OrderRow, claim: &Claim, step: OrderStep, now: Timestamp) -> bool {
    let run = claim.job.run;
    let order_move = OrderMove { row, run, at: now, sent_at: None, step, look: None, amount: None };
    stage.store.move_order(order_move).await.unwrap()
}

fn confirmed() -> OrderStep {
    OrderStep::Confirmed {
        order_id: Some(OrderId("1".to_owned())),
        expiry_after: None,
        reason: "paid".to_owned(),
        next: AfterConfirmed::RunSucceeds,
    }
}

fn not_ordered() -> OrderStep {
    let failure = Failure::ours(Class::Unknown, "NotOrdered", "not seen");
    OrderStep::Refused { failure, next: NextForRun::Queue { reason: "again".to_owned() } }
}

fn paused(withheld: Result<Committed, Withheld>) -> bool {
    matches!(withheld, Err(Withheld::Paused { .. }))
}

async fn change_orders(stage: &Stage, change: &str) {
    let changed = format!("UPDATE orders SET {change}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(changed)).execute(&mut stage.sql().await).await.unwrap();
}

#[tokio::test]
async fn a_claim_of_an_older_epoch_can_no_longer_be_ordered_for() {
    let stage = Stage::open().await;
    let (_, claim, now) = one_claim(&stage).await;
    // Whether the new life has sent the older one's runs back or not.
    sqlx::query("UPDATE daemon SET epoch = epoch + 1").execute(&mut stage.sql().await).await.unwrap();
    assert_eq!(stage.intend(&claim, now).await.unwrap_err(), Withheld::Stale);
    stage.begin().await;
    assert_eq!(stage.intend(&claim, now).await.unwrap_err(), Withheld::Stale);
    assert_eq!(stage.count("SELECT count(*) FROM orders").await, 0);
}

#[tokio::test]
async fn an_order_is_committed_once_for_a_claim() {
    let stage = Stage::open().await;
    let (_, claim, now) = one_claim(&stage).await;
    assert_eq!(stage.store.open_order(&claim, None).await.unwrap(), None);
    let row = stage.intend(&claim, now).await.unwrap().row();
    let again = stage.intend(&claim, now).await.unwrap_err();
    assert_eq!(again, Withheld::OpenOrder { row, same_cycle: true });
    assert_eq!(stage.store.open_order(&claim, None).await.unwrap(), Some(again));
}

#[tokio::test]
async fn a_pause_that_another_process_has_written_is_in_force_at_once() {
    let stage = Stage::open().await;
    let (_, mut claim, now) = one_claim(&stage).await;
    let command = stage.command().await;
    let scopes = [
        PauseScope::All,
        PauseScope::Account(AccountName::parse("shop").unwrap()),
        PauseScope::Policy(PolicyName::parse("cache").unwrap()),
    ];
    for scope in scopes {
        command.pause(&scope, None, &word(now)).await.unwrap();
        assert!(paused(stage.intend(&claim, now).await), "{scope}");
        assert_eq!(command.resume(&scope, &word(now)).await.unwrap(), 1, "{scope}");
    }
    let others = [
        PauseScope::Account(AccountName::parse("other").unwrap()),
        PauseScope::Policy(PolicyName::parse("other").unwrap()),
    ];
    for scope in others {
        command.pause(&scope, None, &word(now)).await.unwrap();
    }
    let now = stage.look_again(&mut claim, now).await;
    assert!(stage.intend(&claim, now).await.is_ok());
}

#[tokio::test]
async fn a_pause_with_an_end_holds_until_then_and_not_a_moment_longer() {
    let stage = Stage::open().await;
    let (_, mut claim, now) = one_claim(&stage).await;
    let until = now + HOUR;
    stage.store.pause(&PauseScope::All, Some(until), &word(now)).await.unwrap();
    assert!(paused(stage.intend(&claim, until - SignedDuration::from_millis(1)).await));
    let until = stage.look_again(&mut claim, until).await;
    assert!(stage.intend(&claim, until).await.is_ok());
}

#[tokio::test]
async fn a_held_account_lets_one_order_through_at_a_time_once_its_test_is_due() {
    let stage = Stage::open().await;
    let (_, claims, now) = claims_of(&stage, &[policy("cache", &["crs-1", "crs-2"])]).await;
    let account = AccountName::parse("shop").unwrap();
    stage.store.hold_account(&account, "balance", now + HOUR, "no money", now).await.unwrap();
    assert!(paused(stage.intend(&claims[0], now).await));
    let tested = stage.intend(&claims[0], now + HOUR).await.unwrap().row();
    assert_eq!(stage.intend(&claims[1], now + HOUR).await.unwrap_err(), Withheld::TestUnderWay);
    assert!(settle(&stage, tested, &claims[0], confirmed(), now + HOUR).await);
    assert!(stage.intend(&claims[1], now + HOUR).await.is_ok());
}

#[tokio::test]
async fn only_an_order_of_the_account_on_its_way_is_the_test_of_its_hold() {
    for change in ["account = 'other'", "state = 'placed', next_look_at_ms = 1"] {
        let stage = Stage::open().await;
        let (_, claims, now) = claims_of(&stage, &[policy("cache", &["crs-1", "crs-2"])]).await;
        let account = AccountName::parse("shop").unwrap();
        stage.store.hold_account(&account, "balance", now, "no money", now).await.unwrap();
        stage.intend(&claims[0], now).await.unwrap();
        assert_eq!(stage.intend(&claims[1], now).await.unwrap_err(), Withheld::TestUnderWay);
        change_orders(&stage, change).await;
        assert!(stage.intend(&claims[1], now).await.is_ok(), "{change}");
    }
}

#[tokio::test]
async fn a_persons_pause_that_has_run_out_is_no_hold_with_a_test() {
    let stage = Stage::open().await;
    let (_, claims, now) = claims_of(&stage, &[policy("cache", &["crs-1", "crs-2"])]).await;
    let past = now - HOUR / 2;
    stage.store.pause(&PauseScope::All, Some(past), &word(past - HOUR / 4)).await.unwrap();
    for claim in &claims {
        assert!(stage.intend(claim, now).await.is_ok());
    }
}

#[tokio::test]
async fn spellings_and_accounts_do_not_make_an_instance_another() {
    let stage = Stage::open().await;
    let long = Policy { product: CVM, ..policy("long", &["ins-1"]) };
    let short = Policy {
        product: CVM_V2,
        region: Region::parse("gz").unwrap(),
        account: AccountName::parse("other").unwrap(),
        ..policy("short", &["ins-1"])
    };
    let (epoch, claims, now) = claims_of(&stage, &[long, short]).await;
    let others = stage.claim_of("other", epoch).await;
    let row = stage.intend(&claims[0], now).await.unwrap().row();
    let withheld = stage.intend(&others[0], now).await.unwrap_err();
    assert_eq!(withheld, Withheld::OpenOrder { row, same_cycle: true });
    assert_eq!(stage.count("SELECT count(*) FROM instances").await, 1);
}

#[tokio::test]
async fn another_cycle_waits_for_the_open_order_instead_of_being_skipped() {
    let stage = Stage::open().await;
    let (epoch, claim, now) = one_claim(&stage).await;
    let row = stage.intend(&claim, now).await.unwrap().row();
    stage.apply(&[policy("cache", &["crs-1"]), every_fire(policy("monthly", &["crs-1"]))], now).await;
    stage.fire(now + HOUR).await;
    let claims = stage.claim(epoch).await;
    let monthly = claims.iter().find(|claim| claim.job.policy.as_str() == "monthly").unwrap();
    let cycle = Some(Cycle::Due(monthly.job.due_at));
    for state in ["intended", "unknown", "placed"] {
        change_orders(&stage, &format!("state = '{state}', next_look_at_ms = 1")).await;
        let intent = Intent { cycle: cycle.clone(), ..intent(monthly, now) };
        let withheld = stage.store.intend(monthly, intent).await.unwrap().unwrap_err();
        assert_eq!(withheld, Withheld::OpenOrder { row, same_cycle: false }, "{state}");
        assert_eq!(stage.store.open_order(monthly, cycle.clone()).await.unwrap(), Some(withheld), "{state}");
    }
}

#[tokio::test]
async fn a_cycle_that_is_paid_is_not_paid_again_until_the_expiry_moves_on() {
    let stage = Stage::open().await;
    let (epoch, claim, now) = one_claim(&stage).await;
    let row = stage.intend(&claim, now).await.unwrap().row();
    settle(&stage, row, &claim, confirmed(), now).await;
    stage.fire(now + HOUR).await;
    let claim = stage.claim(epoch).await.remove(0);
    assert_eq!(stage.intend(&claim, now).await.unwrap_err(), Withheld::CyclePaid { row });

    let later = now + days(31);
    stage.see("crs-1", later, now + days(34)).await;
    stage.fire(later).await;
    let claim = stage.claim(epoch).await.remove(0);
    assert!(stage.intend(&claim, later).await.is_ok());
}

#[tokio::test]
async fn a_cycle_whose_order_did_not_happen_may_be_ordered_again() {
    let stage = Stage::open().await;
    let (epoch, claim, now) = one_claim(&stage).await;
    let row = stage.intend(&claim, now).await.unwrap().row();
    settle(&stage, row, &claim, not_ordered(), now).await;
    let mut claim = stage.claim(epoch).await.remove(0);
    let now = stage.look_again(&mut claim, now).await;
    assert!(stage.intend(&claim, now).await.is_ok());
}

#[tokio::test]
async fn orders_a_day_are_counted_until_the_day_turns() {
    let stage = Stage::open().await;
    let (_, claims, now) = claims_of(&stage, &[policy("cache", &["crs-1", "crs-2", "crs-3"])]).await;
    let with = |claim: &Claim, day_start| Intent {
        budget: Budget { orders_per_day: Some(2), day_start, ..budget(now) },
        ..intent(claim, now)
    };
    for claim in &claims[..2] {
        assert!(stage.store.intend(claim, with(claim, now - HOUR)).await.unwrap().is_ok());
    }
    let third = &claims[2];
    let withheld = stage.store.intend(third, with(third, now - HOUR)).await.unwrap().unwrap_err();
    assert_eq!(withheld, Withheld::OrdersPerDay { limit: 2 });
    let next_day = now + SignedDuration::from_millis(1);
    assert!(stage.store.intend(third, with(third, next_day)).await.unwrap().is_ok());
}

#[tokio::test]
async fn an_absent_orders_a_day_is_twice_the_instances_and_at_least_ten() {
    let stage = Stage::open().await;
    let ids: Vec<String> = (1..=11).map(|id| format!("crs-{id}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (_, claims, now) = claims_of(&stage, &[policy("cache", &ids)]).await;
    for claim in &claims {
        assert!(stage.intend(claim, now).await.is_ok(), "eleven of twenty-two");
    }
}

#[tokio::test]
async fn an_absent_orders_a_day_counts_each_instance_that_the_account_has_now_once() {
    let stage = Stage::open().await;
    let ids: Vec<String> = (1..=8).map(|id| format!("crs-{id}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let other =
        Policy { account: AccountName::parse("other").unwrap(), ..policy("other", &["crs-21", "crs-22"]) };
    let twin = every_fire(policy("twin", &ids[..4]));
    let before = [policy("cache", &ids), policy("left", &["crs-31"]), twin.clone(), other.clone()];
    let after = [policy("cache", &ids[..6]), twin, other];
    let epoch = stage.begin().await;
    stage.apply(&before, start()).await;
    stage.apply(&after, start()).await;
    let now = start() + HOUR;
    stage.see("crs-1", now, now + days(3)).await;
    stage.see("crs-2", now, now + days(3)).await;
    stage.fire(now).await;
    let claims = stage.claim(epoch).await;
    let of = |id: &str| {
        let is_its =
            |claim: &&Claim| claim.job.policy.as_str() == "cache" && claim.job.instance.as_str() == id;
        claims.iter().find(is_its).unwrap()
    };
    stage.intend(of("crs-1"), now).await.unwrap();
    let more = "INSERT INTO orders (run_id, policy_id, policy_revision, instance_id, account, product, region, action,
            cycle, state, epoch, months, intended_at_ms, settled_at_ms)
        SELECT run_id, policy_id, policy_revision, instance_id, account, product, region, action, 'cycle:' || value,
            'confirmed', epoch, months, intended_at_ms, 1 FROM orders, json_each('[11,12,13,14,15,16,17,18,19,20,21]')";
    sqlx::query(more).execute(&mut stage.sql().await).await.unwrap();
    assert_eq!(stage.intend(of("crs-2"), now).await.unwrap_err(), Withheld::OrdersPerDay { limit: 12 });
    change_orders(&stage, "intended_at_ms = 0 WHERE cycle = 'cycle:11'").await;
    assert!(stage.intend(of("crs-2"), now).await.is_ok());
}

#[tokio::test]
async fn the_verdict_of_an_order_is_kept_and_that_of_a_withheld_one_is_not() {
    let stage = Stage::open().await;
    let (_, mut claim, now) = one_claim(&stage).await;
    let scope = PauseScope::All;
    stage.store.pause(&scope, None, &word(now)).await.unwrap();
    let judged = |claim: &Claim, at, word: &str| Intent { verdict: Some(word.into()), ..intent(claim, at) };
    assert!(paused(stage.store.intend(&claim, judged(&claim, now, "withheld")).await.unwrap()));
    assert_eq!(stage.count("SELECT count(*) FROM runs WHERE verdict IS NOT NULL").await, 0);
    stage.store.resume(&scope, &word(now)).await.unwrap();
    let now = stage.look_again(&mut claim, now).await;
    let row = stage.store.intend(&claim, judged(&claim, now, "ordered")).await.unwrap().unwrap().row();
    assert!(
        matches!(stage.intend(&claim, now).await, Err(Withheld::OpenOrder { row: open, .. }) if open == row)
    );
    assert_eq!(stage.count("SELECT count(*) FROM runs WHERE verdict LIKE '%ordered%'").await, 1);
}

#[tokio::test]
async fn money_budgets_hold_to_the_fen_and_want_a_known_price() {
    let stage = Stage::open().await;
    let (_, claims, now) = claims_of(&stage, &[policy("cache", &["crs-1", "crs-2", "crs-3"])]).await;
    let with = |claim: &Claim, amount, per_day, per_month| Intent {
        amount,
        budget: Budget { per_day, per_month, ..budget(now) },
        ..intent(claim, now)
    };
    let fen = |fen| Some(Fen::new(fen));
    let ask = async |claim: &Claim, intent| stage.store.intend(claim, intent).await.unwrap();
    let [first, second, third] = &claims[..] else { panic!("three claims") };
    assert_eq!(ask(first, with(first, None, fen(100), None)).await.unwrap_err(), Withheld::PriceUnknown);
    assert_eq!(ask(first, with(first, None, None, fen(100))).await.unwrap_err(), Withheld::PriceUnknown);
    assert_eq!(ask(first, with(first, fen(101), fen(100), None)).await.unwrap_err(), Withheld::MoneyPerDay);
    assert!(ask(first, with(first, fen(60), fen(100), fen(100))).await.is_ok());
    assert_eq!(ask(second, with(second, fen(41), fen(100), None)).await.unwrap_err(), Withheld::MoneyPerDay);
    assert_eq!(
        ask(second, with(second, fen(41), None, fen(100))).await.unwrap_err(),
        Withheld::MoneyPerMonth
    );
    // To the fen it is allowed, and the day is not blamed for what the month forbids.
    assert_eq!(
        ask(second, with(second, fen(40), fen(100), fen(99))).await.unwrap_err(),
        Withheld::MoneyPerMonth
    );
    assert!(ask(second, with(second, fen(40), fen(100), fen(100))).await.is_ok());
    assert!(ask(third, with(third, None, None, None)).await.is_ok());
}

#[tokio::test]
async fn what_another_account_ordered_was_refused_or_came_before_counts_against_no_budget() {
    let changes = [
        "account = 'other'",
        "state = 'refused', error = '{}', settled_at_ms = 1",
        "intended_at_ms = intended_at_ms - 11 * 86400000",
    ];
    for change in changes {
        let stage = Stage::open().await;
        let (_, claims, now) = claims_of(&stage, &[policy("cache", &["crs-1", "crs-2"])]).await;
        let amount = Some(Fen::new(60));
        let with = |claim: &Claim, limits| Intent { amount, budget: limits, ..intent(claim, now) };
        let each = [
            (Budget { orders_per_day: Some(1), ..budget(now) }, Withheld::OrdersPerDay { limit: 1 }),
            (Budget { per_day: Some(Fen::new(100)), ..budget(now) }, Withheld::MoneyPerDay),
            (Budget { per_month: Some(Fen::new(100)), ..budget(now) }, Withheld::MoneyPerMonth),
        ];
        assert!(stage.store.intend(&claims[0], with(&claims[0], budget(now))).await.unwrap().is_ok());
        for (limits, why) in each {
            let withheld = stage.store.intend(&claims[1], with(&claims[1], limits)).await.unwrap();
            assert_eq!(withheld.unwrap_err(), why, "before {change}");
        }
        change_orders(&stage, change).await;
        let limits = Budget { per_day: amount, per_month: amount, orders_per_day: Some(1), ..budget(now) };
        let answer = stage.store.intend(&claims[1], with(&claims[1], limits)).await.unwrap();
        assert!(answer.is_ok(), "{change}: {answer:?}");
    }
}

#[tokio::test]
async fn a_claim_whose_run_the_next_life_has_taken_is_stale() {
    let stage = Stage::open().await;
    let (_, old, now) = one_claim(&stage).await;
    let next = stage.begin().await;
    let taken = stage.claim(next).await.remove(0);
    assert_eq!(stage.intend(&old, now).await.unwrap_err(), Withheld::Stale);
    assert!(stage.intend(&taken, now).await.is_ok());
}

#[tokio::test]
async fn what_changed_since_the_guard_looked_makes_an_intent_void() {
    let stage = Stage::open().await;
    let (epoch, claim, now) = one_claim(&stage).await;
    stage.see("crs-1", now + SignedDuration::from_secs(1), now + days(40)).await;
    assert_eq!(stage.intend(&claim, now).await.unwrap_err(), Withheld::Superseded);
    stage.store.release(vec![claim]).await.unwrap();
    let claim = stage.claim(epoch).await.remove(0);
    let edited = policy("cache", &["crs-1", "crs-2"]);
    stage.apply(std::slice::from_ref(&edited), now).await;
    assert_eq!(stage.intend(&claim, now).await.unwrap_err(), Withheld::Superseded);
    stage.store.release(vec![claim]).await.unwrap();
    let claim = stage.claim(epoch).await.remove(0);
    stage.apply(&[Policy { enabled: false, ..edited.clone() }], now).await;
    assert_eq!(stage.intend(&claim, now).await.unwrap_err(), Withheld::Superseded);
    stage.apply(&[edited], now).await;
    stage.store.release(vec![claim]).await.unwrap();
    stage.fire(now + HOUR).await;
    let claims = stage.claim(epoch).await;
    let claim = claims.into_iter().find(|claim| claim.job.instance.as_str() == "crs-1").unwrap();
    stage.apply(&[policy("other", &["crs-9"])], now).await;
    assert_eq!(stage.intend(&claim, now).await.unwrap_err(), Withheld::Superseded, "retired");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_intents_at_once_on_one_instance_one_is_written_and_the_others_are_told() {
    let stage = Stage::open().await;
    let mut set: Vec<Policy> = (0..20).map(|number| policy(&format!("same-{number}"), &["crs-1"])).collect();
    set.push(policy("free", &["crs-2"]));
    let (_, claims, now) = claims_of(&stage, &set).await;
    assert_eq!(claims.len(), 21);
    let asked = claims.into_iter().map(|claim| {
        let store = stage.store.clone();
        tokio::spawn(async move {
            let answer = store.intend(&claim, intent(&claim, now)).await.unwrap();
            (claim.job.instance.to_string(), answer.map(|committed| committed.row()))
        })
    });
    let mut written = Vec::new();
    for asked in asked.collect::<Vec<_>>() {
        match asked.await.unwrap() {
            (instance, Ok(_)) => written.push(instance),
            (_, Err(withheld)) => assert!(matches!(withheld, Withheld::OpenOrder { same_cycle: true, .. })),
        }
    }
    written.sort();
    assert_eq!(written, ["crs-1", "crs-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_schema_refuses_fails_its_own_caller_only() {
    let stage = Stage::open().await;
    let (_, claims, now) = claims_of(&stage, &[policy("cache", &["crs-1", "crs-2", "crs-3"])]).await;
    let rule = "CREATE TRIGGER no_second BEFORE INSERT ON orders
         WHEN NEW.instance_id = (SELECT id FROM instances WHERE instance = 'crs-2')
         BEGIN SELECT RAISE(ABORT, 'not this one'); END";
    sqlx::query(rule).execute(&mut stage.sql().await).await.unwrap();
    let asked = claims.into_iter().map(|claim| {
        let store = stage.store.clone();
        tokio::spawn(async move {
            let answer = store.intend(&claim, intent(&claim, now)).await;
            (claim.job.instance.to_string(), answer.is_ok_and(|answer| answer.is_ok()))
        })
    });
    let mut answers = Vec::new();
    for asked in asked.collect::<Vec<_>>() {
        answers.push(asked.await.unwrap());
    }
    answers.sort();
    let wanted = [("crs-1", true), ("crs-2", false), ("crs-3", true)];
    assert_eq!(answers, wanted.map(|(id, written)| (id.to_owned(), written)));
    assert_eq!(stage.count("SELECT count(*) FROM orders").await, 2);
}
