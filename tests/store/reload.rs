//! What a change of the configuration does to runs that wait or are in somebody's hands.

use renewd::domain::failure::{Class, Failure};
use renewd::domain::policy::Policy;
use renewd::domain::product::AccountName;
use renewd::domain::run::{Hold, Outcome};
use renewd::store::{Claim, Finish};

use crate::stage::{Stage, days, policy, start};

fn account(name: &str) -> AccountName {
    AccountName::parse(name).unwrap()
}

fn given_to(account_name: &str, policy: &Policy) -> Policy {
    Policy { account: account(account_name), ..policy.clone() }
}

fn waits(code: &str) -> Outcome {
    let failure = Some(Failure::ours(Class::Blocked, code, "for a reason"));
    Outcome::Wait {
        until: start() + days(1),
        reason: "for a reason".to_owned(),
        hold: Hold::Backoff,
        failure,
        counts: false,
    }
}

/// A run of `shop`, in its hands while its policy is given to `lab`.
async fn claimed_and_moved(stage: &Stage) -> Claim {
    let month = policy("month", &["crs-1"]);
    stage.apply(std::slice::from_ref(&month), start() - days(1)).await;
    let epoch = stage.begin().await;
    stage.fire(start()).await;
    let claim = stage.claim(epoch).await.remove(0);
    stage.apply(&[given_to("lab", &month)], start()).await;
    claim
}

async fn is_labs(stage: &Stage) {
    let epoch = stage.store.epoch_in_force().await.unwrap().0;
    assert!(stage.claim(epoch).await.is_empty(), "it is no longer the old account's");
    let claims = stage.claim_of("lab", epoch).await;
    assert_eq!(claims.len(), 1, "nothing vanishes");
    assert_eq!((claims[0].job.account.as_str(), claims[0].job.revision), ("lab", 2));
}

#[tokio::test]
async fn a_run_that_is_given_back_is_the_accounts_that_its_policy_names_by_then() {
    let stage = Stage::open().await;
    let claim = claimed_and_moved(&stage).await;
    stage.store.release(vec![claim]).await.unwrap();
    is_labs(&stage).await;
}

#[tokio::test]
async fn so_is_one_that_waited() {
    let stage = Stage::open().await;
    let claim = claimed_and_moved(&stage).await;
    let finish = Finish { outcome: waits("Sold"), verdict: None, at: start() };
    stage.store.finish(vec![(claim, finish)]).await.unwrap();
    stage.store.promote(&[account("lab")], start() + days(2)).await.unwrap();
    is_labs(&stage).await;
}

#[tokio::test]
async fn and_one_that_another_life_left_in_its_hands() {
    let stage = Stage::open().await;
    drop(claimed_and_moved(&stage).await);
    stage.begin().await;
    is_labs(&stage).await;
}

#[tokio::test]
async fn what_a_budget_withheld_is_judged_anew_and_nothing_else_is() {
    let stage = Stage::open().await;
    let lab = given_to("lab", &policy("lab", &["crs-3"]));
    stage.apply(&[policy("shop", &["crs-1", "crs-2"]), lab], start() - days(1)).await;
    let epoch = stage.begin().await;
    stage.fire(start()).await;
    let claims = {
        let mut claims = stage.claim(epoch).await;
        claims.extend(stage.claim_of("lab", epoch).await);
        claims
    };
    let finished = claims.into_iter().map(|claim| {
        let code = if claim.job.instance.as_str() == "crs-2" { "Sold" } else { "OrdersPerDay" };
        (claim, Finish { outcome: waits(code), verdict: None, at: start() })
    });
    stage.store.finish(finished.collect()).await.unwrap();

    stage.store.retry_withheld(&account("shop"), &["OrdersPerDay", "CnyPerDay"], start()).await.unwrap();
    stage.store.promote(&[account("shop"), account("lab")], start()).await.unwrap();
    let queued: Vec<String> =
        stage.runs().await.into_iter().filter(|run| run.state == "queued").map(|run| run.instance).collect();
    assert_eq!(queued, ["crs-1"]);
}

#[tokio::test]
async fn the_settings_in_force_are_known_beside_the_daemon() {
    let stage = Stage::open().await;
    let beside = stage.command().await;
    let none = beside.settings_in_force().await.unwrap();
    assert_eq!((none.digest, none.accepted_at, none.needs_restart.len()), (None, None, 0));
    let keys = ["database".to_owned(), "log.format".to_owned()];
    stage.store.note_settings("abc", &keys, start()).await.unwrap();
    let settings = beside.settings_in_force().await.unwrap();
    assert_eq!((settings.digest.as_deref(), settings.accepted_at), (Some("abc"), Some(start())));
    assert_eq!(settings.needs_restart, keys);
}
