//! What a person's word on an order does to its run, and to what waits for it.

use jiff::{SignedDuration, Timestamp};
use renewd::domain::failure::{Class, Failure};
use renewd::domain::observation::{Facts, Observation, Presence, Spec};
use renewd::domain::order::{Cycle, OrderRow};
use renewd::domain::policy::{Action, Policy, Terms, Upgrade};
use renewd::domain::product::{Identity, InstanceId, Product, Region};
use renewd::domain::run::{Hold, Outcome, RunId};
use renewd::domain::upgrade::Dimension;
use renewd::store::{
    Finish, Intent, NextForRun, OrderMove, OrderStep, ResolveRefused, Sighting, Withheld, Word,
};

use crate::stage::{Stage, days, intent, observation, policy, start, word};

fn upgrade(shards: Option<u32>) -> Policy {
    let grow = policy("grow", &["crs-1"]);
    let wanted = Upgrade { mem_size_mb: 4096, shards, replicas: None, allow_shrink: false };
    Policy { terms: Terms { action: Action::Upgrade(wanted), ..grow.terms.clone() }, ..grow }
}

async fn see_size(stage: &Stage, mem_size_mb: u32, now: Timestamp) {
    see_spec(stage, Spec { mem_size_mb, shards: 1, replicas: 1 }, now).await;
}

async fn see_spec(stage: &Stage, spec: Spec, now: Timestamp) {
    let seen = observation("crs-1", now, now + days(90));
    let Presence::Visible(facts) = seen.presence.clone() else { unreachable!() };
    let facts = Facts { spec: Some(spec), ..facts };
    let observation = Observation { presence: Presence::Visible(facts), ..seen };
    let region = Region::parse("ap-guangzhou").unwrap();
    let identity = Identity::new(Product::REDIS, &region, &InstanceId::parse("crs-1").unwrap());
    stage.store.observe(vec![Sighting { identity, observation }]).await.unwrap();
}

/// An upgrade of the memory whose outcome nobody knows.
async fn unknown_upgrade(shards: Option<u32>) -> (Stage, OrderRow, Timestamp) {
    unknown_upgrade_of(Dimension::MemSizeMb, 4096, shards).await
}

async fn unknown_upgrade_of(
    dimension: Dimension,
    target: u32,
    shards: Option<u32>,
) -> (Stage, OrderRow, Timestamp) {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(&[upgrade(shards)], start()).await;
    let now = start() + SignedDuration::from_hours(1);
    see_size(&stage, 1024, now).await;
    stage.fire(now).await;
    let claim = stage.claim(epoch).await.remove(0);
    let cycle = Some(Cycle::Target { due: now, dimension, target });
    let intent = Intent { cycle, months: None, expiry_before: None, ..intent(&claim, now) };
    let row = stage.store.intend(&claim, intent).await.unwrap().unwrap().row();
    let failure = Failure::ours(Class::Unknown, "Cut", "cut");
    let step = OrderStep::Unknown { failure, next_look_at: now };
    let run = claim.job.run;
    let order_move = OrderMove { row, run, at: now, sent_at: None, step, look: None, amount: None };
    assert!(stage.store.move_order(order_move).await.unwrap());
    (stage, row, now)
}

#[tokio::test]
async fn a_paid_upgrade_ends_its_run_only_when_no_other_size_is_wanted() {
    for (shards, state) in [(None, "succeeded"), (Some(1), "succeeded"), (Some(3), "queued")] {
        let (stage, row, now) = unknown_upgrade(shards).await;
        stage.store.resolve_paid(row, None, &word(now)).await.unwrap();
        assert_eq!(stage.runs().await[0].state, state, "{shards:?}");
        let order = stage.store.order(row).await.unwrap().unwrap();
        assert_eq!((order.state.as_str(), order.expiry_after), ("confirmed", None));
    }
}

#[tokio::test]
async fn an_upgrade_whose_size_is_there_is_not_called_unpaid_unless_forced() {
    let (stage, row, now) = unknown_upgrade(None).await;
    see_size(&stage, 4096, now + SignedDuration::from_secs(1)).await;
    let refused = stage.store.resolve_not_paid(row, false, &word(now)).await.unwrap_err();
    assert!(matches!(refused, ResolveRefused::SizeReached { .. }), "{refused}");
    assert!(stage.store.take_acts(now).await.unwrap().is_empty());
    let note = Some("looked in the console".to_owned());
    stage.store.resolve_not_paid(row, true, &Word { note, ..word(now) }).await.unwrap();
    assert_eq!(stage.runs().await[0].state, "queued");

    let act = stage.store.take_acts(now).await.unwrap().remove(0);
    assert_eq!((act.person.as_str(), act.event.as_str()), ("operator", "order.resolved"));
    assert_eq!(act.said.as_deref(), Some("not paid (forced)"));
    assert_eq!(act.note.as_deref(), Some("looked in the console"));
}

#[tokio::test]
async fn the_size_that_contradicts_a_person_is_the_one_that_was_ordered() {
    for (dimension, reached) in [(Dimension::Shards, true), (Dimension::Replicas, false)] {
        let (stage, row, now) = unknown_upgrade_of(dimension, 3, Some(3)).await;
        let spec = Spec { mem_size_mb: 1024, shards: 3, replicas: 1 };
        see_spec(&stage, spec, now + SignedDuration::from_secs(1)).await;
        let answer = stage.store.resolve_not_paid(row, false, &word(now)).await;
        let is_refused = matches!(answer, Err(ResolveRefused::SizeReached { .. }));
        assert_eq!(is_refused, reached, "{dimension}: {answer:?}");
    }
}

#[tokio::test]
async fn of_two_people_who_settle_an_order_the_second_is_told_and_changes_nothing() {
    let (stage, row, now) = unknown_upgrade(None).await;
    let command = stage.command().await;
    let at = word(now);
    let (paid, not_paid) =
        tokio::join!(stage.store.resolve_paid(row, None, &at), command.resolve_not_paid(row, false, &at));
    let refused = paid.and(not_paid).unwrap_err();
    assert!(matches!(refused, ResolveRefused::NotOpen { .. }), "{refused}");
    assert_eq!(stage.count("SELECT count(*) FROM acts").await, 1);
}

#[tokio::test]
async fn a_run_that_waited_for_the_order_need_not_wait_any_longer() {
    let (stage, row, now) = unknown_upgrade(None).await;
    stage.fire(now + SignedDuration::from_hours(1)).await;
    let epoch = stage.store.epoch_in_force().await.unwrap().0;
    let claim = stage.claim(epoch).await.remove(0);
    let (until, reason, hold) = (now + days(1), "open".to_owned(), Hold::OpenOrder);
    let outcome = Outcome::Wait { until, reason, hold, failure: None, counts: false };
    stage.store.finish(vec![(claim, Finish { outcome, verdict: None, at: now })]).await.unwrap();
    stage.store.resolve_paid(row, None, &word(now)).await.unwrap();
    stage.store.promote(&[], now).await.unwrap();
    assert_eq!(stage.runs().await[0].state, "queued");
}

#[tokio::test]
async fn an_upgrade_that_stands_aside_holds_upgrades_back_and_renewals_no_longer() {
    let (stage, row, now) = unknown_upgrade(None).await;
    stage.apply(&[upgrade(None), policy("cache", &["crs-1"])], now).await;
    stage.fire(now + SignedDuration::from_hours(1)).await;
    let claims = stage.claim(stage.store.epoch_in_force().await.unwrap().0).await;
    let of = |name: &str| claims.iter().find(|claim| claim.job.policy.as_str() == name).unwrap();
    let (grow, cache) = (of("grow"), of("cache"));
    let cycle = Cycle::Target { due: grow.job.due_at, dimension: Dimension::MemSizeMb, target: 4096 };
    let again =
        || Intent { cycle: Some(cycle.clone()), months: None, expiry_before: None, ..intent(grow, now) };
    let open = Withheld::OpenOrder { row, same_cycle: false };
    assert_eq!(stage.intend(cache, now).await.unwrap_err(), open);
    let step = OrderStep::Watch { next_look_at: now, asked: false, stands_aside: true };
    let run = claims[0].job.run;
    let order_move = OrderMove { row, run, at: now, sent_at: None, step, look: None, amount: None };
    assert!(stage.store.move_order(order_move.clone()).await.unwrap());
    let step = OrderStep::Watch { next_look_at: now, asked: false, stands_aside: false };
    assert!(stage.store.move_order(OrderMove { step, ..order_move }).await.unwrap(), "it stays aside");
    assert_eq!(stage.store.intend(grow, again()).await.unwrap().unwrap_err(), open);
    assert_eq!(stage.store.open_order(grow, Some(cycle.clone())).await.unwrap(), Some(open));
    assert_eq!(stage.store.open_order(cache, None).await.unwrap(), None);
    assert!(stage.intend(cache, now).await.is_ok());
}

#[tokio::test]
async fn only_what_waits_for_this_very_order_is_woken_and_only_when_it_no_longer_holds_it() {
    let watch = |stands_aside| OrderStep::Watch { next_look_at: start(), asked: false, stands_aside };
    let refused = || OrderStep::Refused {
        failure: Failure::ours(Class::Unknown, "NotOrdered", "not seen"),
        next: NextForRun::Fail { reason: "over".to_owned() },
    };
    for (step, wakes) in
        [(Some(watch(false)), false), (Some(watch(true)), true), (Some(refused()), true), (None, true)]
    {
        let (stage, row, now) = unknown_upgrade(None).await;
        let order_run = stage.store.order(row).await.unwrap().unwrap().run_id;
        stage
            .apply(&[upgrade(None), policy("cache", &["crs-1", "crs-2"]), policy("twin", &["crs-1"])], now)
            .await;
        stage.fire(now + SignedDuration::from_hours(1)).await;
        let claims = stage.claim(stage.store.epoch_in_force().await.unwrap().0).await;
        let waits = claims.into_iter().map(|claim| {
            let hold = if claim.job.policy.as_str() == "twin" { Hold::Backoff } else { Hold::OpenOrder };
            let (until, reason) = (now + days(1), "open".to_owned());
            let outcome = Outcome::Wait { until, reason, hold, failure: None, counts: false };
            (claim, Finish { outcome, verdict: None, at: now })
        });
        stage.store.finish(waits.collect()).await.unwrap();
        if let Some(step) = step {
            let run = RunId(order_run);
            let order_move = OrderMove { row, run, at: now, sent_at: None, step, look: None, amount: None };
            assert!(stage.store.move_order(order_move).await.unwrap());
        } else {
            stage.store.resolve_paid(row, None, &word(now)).await.unwrap();
        }
        let woken = format!("SELECT count(*) FROM runs WHERE next_attempt_at_ms = {}", now.as_millisecond());
        let woken: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(woken)).fetch_one(&mut stage.sql().await).await.unwrap();
        // The upgrade's own next firing and the renewal of its instance.
        assert_eq!(woken, if wakes { 2 } else { 0 });
    }
}
