//! Triggers and retries: what they may not do twice, and when they are over.

use jiff::{SignedDuration, Timestamp};
use renewd::domain::failure::{Class, Failure};
use renewd::domain::order::{Cycle, OrderId};
use renewd::domain::policy::Policy;
use renewd::domain::product::{AccountName, Provider};
use renewd::domain::run::{Epoch, Hold, Origin, Outcome, RunId};
use renewd::store::{
    AfterConfirmed, Claim, Finish, Intent, OrderMove, OrderStep, RetryRefused, Store, TRIGGER_LAPSES_AFTER,
    Trigger, TriggerRefused, Triggered, Withheld,
};

use crate::stage::{Stage, days, every_fire, intent, policy, start, word};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

async fn stage_with(set: &[Policy]) -> (Stage, Epoch, Timestamp) {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(set, start()).await;
    let now = start() + HOUR;
    for id in set.iter().flat_map(|policy| &policy.instances) {
        stage.see(id.as_str(), now, now + days(3)).await;
    }
    (stage, epoch, now)
}

async fn trigger(store: &Store, policy: &str, at: Timestamp) -> Triggered {
    let trigger = Trigger { policy: policy.to_owned(), instance: None, again: false };
    store.trigger(&trigger, &word(at)).await.unwrap()
}

async fn claim_at(stage: &Stage, epoch: Epoch, now: Timestamp) -> Vec<Claim> {
    let account = AccountName::parse("shop").unwrap();
    stage.store.claim(&account, Provider::TencentCloud, epoch, 100, now).await.unwrap()
}

fn due_intent(claim: &Claim, now: Timestamp) -> Intent {
    Intent { cycle: Some(Cycle::Due(claim.job.due_at)), ..intent(claim, now) }
}

async fn fail(stage: &Stage, claim: Claim, at: Timestamp) -> RunId {
    let run = claim.job.run;
    let failure = Failure::ours(Class::Rejected, "Never", "never");
    let outcome = Outcome::Failed { reason: "never".to_owned(), failure: Some(failure) };
    stage.store.finish(vec![(claim, Finish { outcome, verdict: None, at })]).await.unwrap();
    run
}

#[tokio::test]
async fn of_two_triggers_judged_at_the_same_moment_the_second_is_void_once_the_first_is_paid() {
    let (stage, epoch, now) = stage_with(&[every_fire(policy("monthly", &["crs-1"]))]).await;
    trigger(&stage.store, "monthly", now).await;
    trigger(&stage.store, "monthly", now + SignedDuration::from_millis(5)).await;
    let mut claims = stage.claim(epoch).await;
    assert_eq!(claims.len(), 2);
    assert!(claims.iter().all(|claim| claim.job.foreign_order_at.is_none()));

    let row = stage.store.intend(&claims[0], due_intent(&claims[0], now)).await.unwrap().unwrap().row();
    let open = Withheld::OpenOrder { row, same_cycle: false };
    assert_eq!(stage.store.intend(&claims[1], due_intent(&claims[1], now)).await.unwrap().unwrap_err(), open);
    // Confirmed before the second has its turn at the till: no open order and another cycle.
    let order_id = Some(OrderId("1".to_owned()));
    let (reason, next) = ("paid".to_owned(), AfterConfirmed::RunSucceeds);
    let step = OrderStep::Confirmed { order_id, expiry_after: None, reason, next };
    let run = claims[0].job.run;
    let order_move = OrderMove { row, run, at: now, sent_at: None, step, look: None, amount: None };
    assert!(stage.store.move_order(order_move).await.unwrap());

    let withheld = stage.store.intend(&claims[1], due_intent(&claims[1], now)).await.unwrap().unwrap_err();
    assert_eq!(withheld, Withheld::Superseded);
    // Nor does a later look make up for what the guard did not know of.
    let later = now + SignedDuration::from_secs(1);
    claims[1].known = stage.see("crs-1", later, now + days(3)).await;
    let withheld = stage.store.intend(&claims[1], due_intent(&claims[1], later)).await.unwrap().unwrap_err();
    assert_eq!(withheld, Withheld::Superseded);
    stage.store.release(claims).await.unwrap();
    let again = stage.claim(epoch).await.remove(0);
    assert_eq!(again.job.foreign_order_at, Some(now), "the guard now sees the first one's order");
}

#[tokio::test]
async fn a_firing_of_the_schedule_sees_the_order_that_a_trigger_made() {
    let (stage, epoch, now) = stage_with(&[every_fire(policy("monthly", &["crs-1"]))]).await;
    trigger(&stage.store, "monthly", now).await;
    let by_hand = stage.claim(epoch).await.remove(0);
    assert_eq!(by_hand.job.origin, Origin::Trigger);
    stage.store.intend(&by_hand, due_intent(&by_hand, now)).await.unwrap().unwrap();
    stage.fire(now + HOUR).await;
    stage.fire(now + HOUR * 2).await;
    let claims = stage.claim(epoch).await;
    assert_eq!(claims.len(), 2);
    assert!(claims.iter().all(|claim| claim.job.foreign_order_at == Some(now)));
}

#[tokio::test]
async fn a_trigger_that_nobody_took_in_ten_minutes_is_cancelled_and_never_claimed() {
    let (stage, epoch, now) = stage_with(&[policy("cache", &["crs-1"]), policy("other", &["crs-2"])]).await;
    trigger(&stage.store, "cache", now).await;
    let last = now + TRIGGER_LAPSES_AFTER - SignedDuration::from_millis(1);
    assert!(stage.store.lapse_triggers(last).await.unwrap().is_empty());
    let over = now + TRIGGER_LAPSES_AFTER;
    assert!(claim_at(&stage, epoch, over).await.is_empty());
    let lapsed = stage.store.lapse_triggers(over).await.unwrap();
    let [lapsed] = &lapsed[..] else { panic!("{lapsed:?}") };
    assert_eq!((lapsed.state.as_str(), lapsed.origin.as_str()), ("cancelled", "trigger"));
    assert!(lapsed.reason.as_deref().unwrap().contains("10 minutes"), "{lapsed:?}");

    trigger(&stage.store, "other", now).await;
    let taken = claim_at(&stage, epoch, last).await;
    assert_eq!(taken.len(), 1);
    stage.store.release(taken).await.unwrap();
    assert!(stage.store.lapse_triggers(over + days(1)).await.unwrap().is_empty());
    assert_eq!(claim_at(&stage, epoch, over + days(1)).await.len(), 1, "what was taken once is kept");
}

#[tokio::test]
async fn a_trigger_by_a_clock_that_was_ahead_is_over_when_the_clock_is_right_again() {
    let (stage, _, now) = stage_with(&[policy("cache", &["crs-1"])]).await;
    trigger(&stage.store, "cache", now + days(3650)).await;
    assert!(stage.store.lapse_triggers(now).await.unwrap().is_empty());
    stage.store.begin_epoch(now, "test").await.unwrap();
    assert_eq!(stage.store.lapse_triggers(now).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_untaken_trigger_of_a_policy_that_left_is_cancelled_with_its_other_runs() {
    let (stage, _, now) = stage_with(&[policy("cache", &["crs-1"]), policy("other", &["crs-2"])]).await;
    trigger(&stage.store, "cache", now).await;
    stage.apply(&[policy("other", &["crs-2"])], now).await;
    assert_eq!(stage.store.cancel_unwanted(now + HOUR, now).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_fired_is_refused_with_its_reason_and_queues_nothing() {
    let off = Policy { enabled: false, ..policy("off", &["crs-2"]) };
    let (stage, _, now) =
        stage_with(&[policy("cache", &["crs-1"]), off.clone(), policy("gone", &["crs-3"])]).await;
    stage.apply(&[policy("cache", &["crs-1"]), off], now).await;
    let refused = async |policy: &str, instance: Option<&str>| {
        let instance = instance.map(str::to_owned);
        let trigger = Trigger { policy: policy.to_owned(), instance, again: true };
        stage.store.trigger(&trigger, &word(now)).await.unwrap_err()
    };
    assert!(matches!(refused("cahce", None).await, TriggerRefused::NoSuchPolicy(_)));
    assert!(matches!(refused("off", None).await, TriggerRefused::Disabled(_)));
    assert!(matches!(refused("gone", None).await, TriggerRefused::Retired(_)));
    assert!(matches!(refused("cache", Some("crs-2")).await, TriggerRefused::NotOfPolicy { .. }));
    assert!(stage.runs().await.is_empty());
    assert!(stage.store.take_acts(now).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_trigger_wakes_the_run_that_waits_for_its_next_attempt_and_goes_behind_it() {
    let (stage, epoch, now) = stage_with(&[policy("cache", &["crs-1", "crs-2"])]).await;
    stage.fire(now).await;
    let waits = stage.claim(epoch).await.into_iter().map(|claim| {
        let hold = if claim.job.instance.as_str() == "crs-1" { Hold::Backoff } else { Hold::Pause };
        let (until, reason) = (now + days(1), "later".to_owned());
        let outcome = Outcome::Wait { until, reason, hold, failure: None, counts: false };
        (claim, Finish { outcome, verdict: None, at: now })
    });
    stage.store.pause(&renewd::store::PauseScope::All, None, &word(now)).await.unwrap();
    stage.store.finish(waits.collect()).await.unwrap();
    let fired = trigger(&stage.store, "cache", now + HOUR).await;
    assert_eq!((fired.runs, fired.woken), (2, 1), "a pause is no backoff");
    let account = AccountName::parse("shop").unwrap();
    stage.store.promote(&[account], now + HOUR).await.unwrap();
    let claims = stage.claim(epoch).await;
    let of = |instance: &str| {
        let mut of: Vec<&Claim> =
            claims.iter().filter(|claim| claim.job.instance.as_str() == instance).collect();
        of.sort_by_key(|claim| claim.job.run);
        of
    };
    assert_eq!(of("crs-1").len(), 2);
    assert_eq!(of("crs-1")[1].job.elder.unwrap().run, of("crs-1")[0].job.run);
    assert_eq!(of("crs-2").len(), 1);
}

#[tokio::test]
async fn a_retry_has_the_due_instant_of_the_failed_run_and_only_one_lives_at_a_time() {
    let (stage, epoch, now) = stage_with(&[policy("cache", &["crs-1"])]).await;
    stage.fire(now).await;
    let failed = fail(&stage, stage.claim(epoch).await.remove(0), now).await;
    let command = stage.command().await;
    let word_of = word(now + HOUR);
    let (one, other) = tokio::join!(stage.store.retry(failed, &word_of), command.retry(failed, &word_of));
    let (new, refused) = match (one, other) {
        (Ok(new), Err(refused)) | (Err(refused), Ok(new)) => (new, refused),
        both => panic!("one of two: {both:?}"),
    };
    assert!(matches!(refused, RetryRefused::Retried { by, .. } if by == new), "{refused}");
    let claim = stage.claim(epoch).await.remove(0);
    assert_eq!((claim.job.run, claim.job.origin, claim.job.due_at), (new, Origin::Retry, now));

    let new = fail(&stage, claim, now).await;
    let third = stage.store.retry(failed, &word(now + HOUR)).await.unwrap();
    let refused = stage.store.retry(new, &word(now + HOUR)).await.unwrap_err();
    assert!(matches!(refused, RetryRefused::Retried { by, .. } if by == third), "{refused}");
}

#[tokio::test]
async fn only_a_failed_run_that_is_still_wanted_is_retried() {
    let (stage, epoch, now) = stage_with(&[policy("cache", &["crs-1", "crs-2"])]).await;
    let refused = async |run: RunId| stage.store.retry(run, &word(now)).await.unwrap_err();
    assert!(matches!(refused(RunId(7)).await, RetryRefused::NoSuchRun(_)));
    stage.fire(now).await;
    let mut claims = stage.claim(epoch).await;
    let running = claims[0].job.run;
    let said = refused(running).await.to_string();
    assert!(said.contains("is running") && said.contains("goes on by itself"), "{said}");
    let intended = stage.intend(&claims[0], now).await.unwrap().row();
    stage.begin().await;
    let said = refused(running).await.to_string();
    assert!(said.contains(&format!("renewd resolve {intended}")), "{said}");

    let epoch = stage.begin().await;
    claims.clear();
    let failed = fail(&stage, stage.claim(epoch).await.remove(0), now).await;
    stage.apply(&[policy("cache", &["crs-1"])], now).await;
    assert!(matches!(refused(failed).await, RetryRefused::Unwanted { .. }));
}

#[tokio::test]
async fn the_retry_of_a_run_by_hand_is_by_hand() {
    let (stage, epoch, now) = stage_with(&[every_fire(policy("monthly", &["crs-1"]))]).await;
    let by_hand = Trigger { policy: "monthly".to_owned(), instance: None, again: true };
    stage.store.trigger(&by_hand, &word(now)).await.unwrap();
    let failed = fail(&stage, stage.claim(epoch).await.remove(0), now).await;
    stage.store.retry(failed, &word(now)).await.unwrap();
    assert!(stage.claim(epoch).await.remove(0).job.again);
    assert_eq!(stage.count("SELECT count(*) FROM runs WHERE by_hand AND lapses_at_ms IS NULL").await, 2);
}
