//! Stories that a person would tell, each played through once.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use renewd::clock::Clock;
use renewd::domain::policy::{ActionKind, Policy, RenewWhen};
use renewd::domain::product::{PolicyName, Product};
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use renewd::sandbox::instance::SpecChange;
use renewd::sandbox::world::Charge;
use renewd::store::Filter;

use crate::fleet::{
    CVM, CVM_V2, ECS, cny, days, every_fire, hours, key_id, policy, renew, schedule, upgrade, with,
};
use crate::operation::Operation;
use crate::oracle::lines_after;
use crate::play::play;
use crate::stage::Stage;

const RENEW_REDIS: &str = "redis:RenewInstance";
const LIST: &str = "billing:DescribeDealsByCond";

/// Monday, 2 March 2026, one o'clock; these instances, each with so many days left.
async fn stage(instances: &[(&str, i64)], policies: &[Policy]) -> Stage {
    let mut stage = Stage::bare().await.unwrap();
    for (id, left) in instances {
        stage.add_instance(id, stage.clocks.true_now() + days(*left));
    }
    set(&mut stage, policies).await;
    stage
}

async fn set(stage: &mut Stage, policies: &[Policy]) {
    stage.policies = policies.iter().map(|policy| (policy.name.to_string(), policy.clone())).collect();
    stage.reload().await.unwrap();
}

async fn pass(stage: &mut Stage, length: SignedDuration) {
    stage.advance(length).await.unwrap();
}

/// The books hold, and so many charges of this kind were for the instance.
async fn charged(stage: &mut Stage, id: &str, action: ActionKind) -> Vec<Charge> {
    stage.check_books().await.unwrap();
    let of_it = |charge: &Charge| charge.instance == id && charge.action == action;
    stage.cloud.ledger().into_iter().filter(of_it).collect()
}

async fn renewals(stage: &mut Stage, id: &str) -> usize {
    charged(stage, id, ActionKind::Renew).await.len()
}

async fn order_ends(stage: &mut Stage, id: &str) -> Vec<(String, Option<String>)> {
    let lines = lines_after(stage.database(), 0).await.unwrap();
    let of_it = lines.into_iter().filter(|line| line.instance == id);
    of_it.map(|line| (line.state, line.code)).collect()
}

fn cut(api: &str, effect: Effect, times: u32) -> Fault {
    Fault::spoil(api, effect, Spoilt::Drop).times(times)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[tokio::test]
async fn an_instance_that_expires_between_two_monthly_firings_is_renewed_before() {
    let monthly = with(policy("web", "shop", Product::REDIS, &["crs-1"]), |policy| {
        policy.schedule = schedule("30 2 1 * *");
        policy.terms.action = renew(1, RenewWhen::WithinDays(3));
    });
    // Expires on 11 April, ten days after a firing and twenty before the next.
    let mut stage = stage(&[("crs-1", 40)], &[monthly]).await;
    for month in 0..8 {
        pass(&mut stage, days(30)).await;
        let expires_at = stage.instance("crs-1").expires_at;
        assert!(expires_at > stage.clocks.true_now(), "lapsed in month {month}: {expires_at}");
    }
    // Firings of April to October: seven, one term each.
    assert_eq!(renewals(&mut stage, "crs-1").await, 7);
}

#[tokio::test]
async fn an_account_topped_up_after_three_days_orders_again_by_itself() {
    let mut stage = stage(&[("crs-1", 10)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await;
    stage.cloud.set_balance(key_id("shop"), cny(0));
    stage.exact_events = u32::MAX;
    pass(&mut stage, days(3)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 0);
    let asked = stage.cloud.requests().get(RENEW_REDIS).map_or(0, |count| count.total);
    assert!((1..=3 * 24 * 6 + 6).contains(&asked), "{asked} orders were sent to an empty account");
    stage.cloud.set_balance(key_id("shop"), cny(500));
    pass(&mut stage, hours(2)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 1);
}

#[tokio::test]
async fn one_unpaid_order_holds_up_its_own_instance_and_none_of_the_forty_others() {
    let ids: Vec<String> = (1..=41).map(|number| format!("ins-{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let instances: Vec<(&str, i64)> = ids.iter().map(|id| (*id, 9)).collect();
    let mut stage = stage(&instances, &[policy("web", "shop", CVM, &ids)]).await;
    let unpaid = Spoilt::Code("InvalidAccount.UnpaidOrder".to_owned());
    stage.cloud.inject(vec![Fault::spoil("cvm:RenewInstances", Effect::Before, unpaid).on("ins-7").times(4)]);
    pass(&mut stage, hours(4)).await;
    assert_eq!(stage.cloud.ledger().len(), 40);
    assert_eq!(renewals(&mut stage, "ins-7").await, 0);
    let waiting = stage.life().engine.store.runs(&Filter::default()).await.unwrap();
    let waiting = waiting.into_iter().find(|run| run.instance == "ins-7").unwrap();
    assert_eq!(waiting.state, "waiting", "{waiting:?}");
    pass(&mut stage, hours(6)).await;
    assert_eq!(renewals(&mut stage, "ins-7").await, 1);
}

#[tokio::test]
async fn an_expiry_that_moves_by_hours_confirms_nothing() {
    let mut stage = stage(&[("crs-1", 9)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await;
    stage.cloud.inject(vec![cut(RENEW_REDIS, Effect::Before, 1)]);
    pass(&mut stage, hours(4)).await;
    assert_eq!(
        order_ends(&mut stage, "crs-1").await,
        [("unknown".to_owned(), Some("ConnectionCut".to_owned()))]
    );
    let moved = stage.instance("crs-1").expires_at + hours(5);
    stage.move_expiry("crs-1", moved);
    pass(&mut stage, days(2)).await;
    let ends = order_ends(&mut stage, "crs-1").await;
    assert_eq!(ends, [("refused".to_owned(), Some("NotOrdered".to_owned())), ("confirmed".to_owned(), None)]);
    assert_eq!(renewals(&mut stage, "crs-1").await, 1);
}

#[tokio::test]
async fn one_machine_under_two_products_and_two_accounts_is_renewed_once() {
    let both = [policy("new", "shop", CVM, &["ins-1"]), policy("old", "lab", CVM_V2, &["ins-1"])];
    let mut stage = stage(&[("ins-1", 9)], &both).await;
    pass(&mut stage, days(7)).await;
    assert_eq!(renewals(&mut stage, "ins-1").await, 1);
}

#[tokio::test]
async fn an_upgrade_left_unknown_does_not_hold_a_renewal_back_for_ever() {
    let grow = with(policy("grow", "shop", Product::REDIS, &["crs-1"]), |policy| {
        policy.terms.action = upgrade(2048, None);
    });
    let keep = with(policy("keep", "shop", Product::REDIS, &["crs-1"]), |policy| {
        policy.terms.action = renew(1, RenewWhen::WithinDays(4));
    });
    let mut stage = stage(&[("crs-1", 6)], &[grow, keep]).await;
    let forbidden = Spoilt::Code("UnauthorizedOperation".to_owned());
    stage.cloud.inject(vec![
        cut("redis:UpgradeInstance", Effect::Before, 1),
        Fault::spoil(LIST, Effect::Before, forbidden).times(10_000),
    ]);
    pass(&mut stage, days(5)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 1);
    assert_eq!(charged(&mut stage, "crs-1", ActionKind::Upgrade).await, []);
    let ends = order_ends(&mut stage, "crs-1").await;
    assert_eq!(ends[0].0, "unknown", "{ends:?}");
    assert_eq!(ends[1], ("confirmed".to_owned(), None));
}

#[tokio::test]
async fn every_fire_orders_once_a_day_through_an_edit_a_rename_and_ten_hours_off() {
    let daily = every_fire(policy("each", "shop", Product::REDIS, &["crs-1"]), "0 5 * * *");
    let mut stage = stage(&[("crs-1", 9)], std::slice::from_ref(&daily)).await;
    pass(&mut stage, hours(5)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 1);

    let edited = with(daily, |policy| policy.terms.max_price = Some(cny(500)));
    set(&mut stage, std::slice::from_ref(&edited)).await;
    pass(&mut stage, hours(1)).await;
    let renamed = with(edited, |policy| policy.name = PolicyName::parse("other").unwrap());
    set(&mut stage, std::slice::from_ref(&renamed)).await;
    pass(&mut stage, hours(16)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 1);
    pass(&mut stage, hours(6)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 2, "of the second day");

    let off = with(renamed.clone(), |policy| policy.enabled = false);
    set(&mut stage, &[off]).await;
    pass(&mut stage, hours(10)).await;
    set(&mut stage, &[renamed]).await;
    pass(&mut stage, hours(12)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 2, "on again after the day's firing");
    pass(&mut stage, hours(3)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 3, "of the third day");
}

#[tokio::test]
async fn every_fire_triggered_twice_orders_once_and_again_by_a_person_s_wish_once_more() {
    let daily = every_fire(policy("each", "shop", Product::REDIS, &["crs-1"]), "0 5 * * *");
    let mut stage = stage(&[("crs-1", 9)], std::slice::from_ref(&daily)).await;
    for again in [false, false, true] {
        play(&mut stage, &Operation::Trigger { policy: 0, instance: None, again }).await.unwrap();
        pass(&mut stage, SignedDuration::from_secs(120)).await;
    }
    assert_eq!(renewals(&mut stage, "crs-1").await, 2, "by the first trigger and by the one that says again");
    // Fired by hand at one o'clock, it does not order by its schedule at five.
    pass(&mut stage, hours(6)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 2);
    pass(&mut stage, days(1)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 3, "of the next day");
}

#[tokio::test]
async fn the_same_upgrade_is_made_again_a_year_later() {
    let grow = with(policy("grow", "shop", Product::REDIS, &["crs-1"]), |policy| {
        policy.terms.action = upgrade(2048, None);
        policy.schedule = schedule("0 6 10 3 *");
    });
    let mut stage = stage(&[("crs-1", 3_000)], &[grow]).await;
    pass(&mut stage, days(100)).await;
    assert_eq!(charged(&mut stage, "crs-1", ActionKind::Upgrade).await.len(), 1);
    let smaller = SpecChange { mem_size_mb: Some(1024), ..SpecChange::default() };
    stage.change("crs-1", |change| change.spec = Some(smaller));
    pass(&mut stage, days(200)).await;
    assert_eq!(charged(&mut stage, "crs-1", ActionKind::Upgrade).await.len(), 1);
    pass(&mut stage, days(100)).await;
    assert_eq!(charged(&mut stage, "crs-1", ActionKind::Upgrade).await.len(), 2);
}

#[tokio::test]
async fn an_expiry_that_goes_back_in_a_stale_read_is_not_paid_for_again() {
    let mut stage = stage(&[("crs-1", 9)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await;
    pass(&mut stage, hours(4)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 1);
    let stale = Fault::lag("redis:DescribeInstances", Duration::from_secs(3 * 24 * 3600)).times(3);
    stage.cloud.inject(vec![stale]);
    pass(&mut stage, days(3)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 1);
    pass(&mut stage, days(25)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 2, "the next term");
}

#[tokio::test]
async fn an_order_confirmed_while_the_list_was_down_gets_its_number_when_the_list_is_back() {
    let mut stage = stage(&[("crs-1", 9)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await;
    let down = Fault::spoil(LIST, Effect::Before, Spoilt::Http(503)).times(10_000);
    stage.cloud.inject(vec![cut(RENEW_REDIS, Effect::After, 1), down]);
    pass(&mut stage, hours(3 + 8)).await;
    let lines = lines_after(stage.database(), 0).await.unwrap();
    assert_eq!((lines[0].state.as_str(), &lines[0].order_id), ("confirmed", &None));
    stage.cloud.forget_faults();
    pass(&mut stage, days(1)).await;
    let lines = lines_after(stage.database(), 0).await.unwrap();
    assert_eq!(lines[0].order_id, Some(stage.cloud.ledger()[0].order_id.clone()));
    assert_eq!(renewals(&mut stage, "crs-1").await, 1);
}

/// No program can do better on reads that lag by more than it was told to wait; but it can say so, and stop trusting
/// them.
#[tokio::test]
async fn an_order_listed_later_than_the_settling_time_is_told_and_the_list_is_trusted_no_more() {
    let mut stage = stage(&[("crs-1", 9)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await;
    stage.exact_events = u32::MAX;
    let lag = |hours: u64| Fault::lag(RENEW_REDIS, Duration::from_secs(hours * 3600));
    stage.cloud.inject(vec![cut(RENEW_REDIS, Effect::After, 2), lag(20), lag(20)]);
    pass(&mut stage, days(3)).await;
    let ledger = stage.cloud.ledger();
    assert_eq!(ledger.len(), 2, "{ledger:#?}");
    let lines = lines_after(stage.database(), 0).await.unwrap();
    let of_row = |at: usize| {
        let line = &lines[at];
        (line.state.as_str(), line.code.as_deref(), line.order_id.as_deref())
    };
    assert_eq!(of_row(0), ("refused", Some("NotOrdered"), Some(ledger[0].order_id.as_str())));
    assert_eq!(of_row(1), ("confirmed", None, Some(ledger[1].order_id.as_str())));
    assert_eq!(lines.len(), 2, "{lines:#?}");
}

#[tokio::test]
async fn a_refunded_term_is_paid_again_once_it_is_believed_and_the_next_one_in_its_time() {
    let mut stage = stage(&[("crs-1", 9)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await;
    let before = stage.instance("crs-1").expires_at;
    pass(&mut stage, hours(4)).await;
    stage.move_expiry("crs-1", before);
    pass(&mut stage, hours(26)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 1, "one look is not enough");
    pass(&mut stage, days(2)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 2);
    pass(&mut stage, days(30)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 3, "the next term");
}

#[tokio::test]
async fn a_folder_empty_for_a_second_loses_no_run_and_makes_none_twice() {
    let keep = [policy("cache", "shop", Product::REDIS, &["crs-1"])];
    let mut stage = stage(&[("crs-1", 9)], &keep).await;
    stage.clocks.advance(Duration::from_secs(3 * 3600 - 1));
    set(&mut stage, &[]).await;
    stage.clocks.advance(Duration::from_secs(1));
    stage.turn(true).await.unwrap();
    set(&mut stage, &keep).await;
    pass(&mut stage, hours(1)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 1, "of the firing in the very second");
    let runs = stage.life().engine.store.runs(&Filter::default()).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.state.as_str()).collect::<Vec<_>>(), ["succeeded"]);
}

#[tokio::test]
async fn a_clock_that_runs_an_hour_ahead_shortens_no_settling() {
    let mut stage = stage(&[("crs-1", 9)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await;
    // It was charged, and readers see it only after most of the settling time.
    stage.cloud.inject(vec![
        cut(RENEW_REDIS, Effect::After, 1),
        Fault::lag(RENEW_REDIS, Duration::from_secs(5 * 3600 + 1800)),
    ]);
    stage.exact_events = u32::MAX;
    pass(&mut stage, hours(5)).await;
    stage.journal.was_clock_set = true;
    stage.clocks.jump(hours(1));
    pass(&mut stage, hours(2)).await;
    stage.clocks.set_right();
    pass(&mut stage, days(2)).await;
    assert_eq!(order_ends(&mut stage, "crs-1").await, [("confirmed".to_owned(), None)]);
    assert_eq!(renewals(&mut stage, "crs-1").await, 1);
}

#[tokio::test]
async fn a_clock_ten_years_ahead_at_boot_orders_nothing_until_it_is_right() {
    let both = [policy("cache", "shop", Product::REDIS, &["crs-1"]), policy("farm", "farm", ECS, &["i-1"])];
    let mut stage = stage(&[("crs-1", 40), ("i-1", 40)], &both).await;
    pass(&mut stage, days(1)).await;
    stage.life = None;
    stage.journal.was_clock_set = true;
    stage.clocks.jump(days(3652));
    stage.begin_life().await.unwrap();
    pass(&mut stage, days(2)).await;
    assert!(stage.cloud.ledger().is_empty(), "{:?}", stage.cloud.ledger());
    stage.clocks.set_right();
    pass(&mut stage, days(35)).await;
    for id in ["crs-1", "i-1"] {
        assert_eq!(renewals(&mut stage, id).await, 1, "{id}");
        assert!(stage.instance(id).expires_at > stage.clocks.true_now());
    }
}

#[tokio::test]
async fn a_process_stopped_between_commit_and_send_for_nine_hours_sends_nothing_old() {
    let mut stage = stage(&[("crs-1", 9)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await;
    stage.clocks.advance(Duration::from_secs(3 * 3600));
    let stop = Operation::StopBetweenCommitAndSend { steps: 0, seconds: 9 * 3600 };
    play(&mut stage, &stop).await.unwrap();
    let ends = order_ends(&mut stage, "crs-1").await;
    assert_eq!(ends[0], ("refused".to_owned(), Some("Unsent".to_owned())), "{ends:?}");
    assert_eq!(stage.cloud.requests().get(RENEW_REDIS).map_or(0, |count| count.total), 0);
    pass(&mut stage, hours(1)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 1);
}

#[tokio::test]
async fn an_order_that_a_person_calls_unpaid_at_once_is_looked_after_before_it_is_made_again() {
    let mut stage = stage(&[("crs-1", 9)], &[policy("cache", "shop", Product::REDIS, &["crs-1"])]).await;
    stage.cloud.inject(vec![cut(RENEW_REDIS, Effect::After, 1)]);
    stage.clocks.advance(Duration::from_secs(3 * 3600));
    stage.turn(true).await.unwrap();
    // It was charged, and the person has not looked.
    play(&mut stage, &Operation::Resolve { truthful: false }).await.unwrap();
    assert_eq!(
        order_ends(&mut stage, "crs-1").await,
        [("refused".to_owned(), Some("ResolvedNotPaid".to_owned()))]
    );
    pass(&mut stage, hours(1)).await;
    assert_eq!(renewals(&mut stage, "crs-1").await, 1);
}

#[tokio::test]
async fn an_intent_that_breaks_the_unique_index_fails_alone_in_its_batch() {
    let all = [
        policy("new", "shop", CVM, &["ins-1"]),
        policy("old", "lab", CVM_V2, &["ins-1"]),
        policy("farm", "farm", ECS, &["i-1"]),
    ];
    let mut stage = stage(&[("ins-1", 9), ("i-1", 9)], &all).await;
    stage.clocks.advance(Duration::from_secs(3 * 3600));
    let life = stage.life();
    life.tick().await.unwrap();
    // Each lane takes its run to the till at the same moment, so that their intents meet in one batch.
    let [farm, lab, shop] = &mut life.lanes[..] else { panic!("three accounts") };
    for _ in 0..4 {
        let steps = tokio::join!(farm.step(), lab.step(), shop.step());
        steps.0.and(steps.1).and(steps.2).unwrap();
    }
    stage.turn(true).await.unwrap();
    pass(&mut stage, hours(1)).await;
    assert_eq!(renewals(&mut stage, "ins-1").await, 1);
    assert_eq!(renewals(&mut stage, "i-1").await, 1);
    assert_eq!(order_ends(&mut stage, "ins-1").await, [("confirmed".to_owned(), None)]);
    assert!(stage.clocks.now() < at("2026-03-02T06:00:00Z"));
}
