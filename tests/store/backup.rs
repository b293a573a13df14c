//! A copy of the database: whole whatever is written meanwhile, and born with a pause that every intent asks for.

use jiff::SignedDuration;
use renewd::domain::product::AccountName;
use renewd::domain::run::Epoch;
use renewd::store::{BackupError, DaemonLock, PauseScope, Store, Withheld};

use crate::stage::{Stage, budget, days, policy, start, word};

async fn due_stage() -> (Stage, Epoch) {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1", "crs-2"])], start()).await;
    (stage, epoch)
}

#[tokio::test]
async fn an_intent_on_a_copy_is_held_until_everything_is_resumed_and_the_open_order_is_not_lost() {
    let (stage, epoch) = due_stage().await;
    let now = start() + SignedDuration::from_hours(1);
    stage.see("crs-1", now, now + days(3)).await;
    stage.see("crs-2", now, now + days(3)).await;
    stage.fire(now).await;
    let claims = stage.claim(epoch).await;
    let row = stage.intend(&claims[0], now).await.unwrap().row();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("renewd.db");
    stage.store.backup(&file, "operator", now).await.unwrap();
    stage.intend(&claims[1], now).await.expect("the original is not held");

    let copy = stage.reopen_at(folder).await;
    let rescued = copy.store.begin_epoch(now, "test").await.unwrap();
    assert_eq!((rescued.runs_requeued, rescued.orders_unknown), (1, vec![row]));
    let mut claims = copy.claim(rescued.epoch).await;
    let withheld = copy.intend(&claims[0], now).await.unwrap_err();
    assert!(matches!(withheld, Withheld::Paused { until: None, .. }), "{withheld:?}");
    assert!(copy.store.repeat_order(row, rescued.epoch, budget(now), now).await.unwrap().is_none());

    let shop = AccountName::parse("shop").unwrap();
    copy.store.release_account(&shop, None, now).await.unwrap();
    assert_eq!(copy.store.resume(&PauseScope::Account(shop), &word(now)).await.unwrap(), 0);
    copy.intend(&claims[0], now).await.unwrap_err();
    assert_eq!(copy.store.resume(&PauseScope::All, &word(now)).await.unwrap(), 1);
    let now = copy.look_again(&mut claims[0], now).await;
    copy.intend(&claims[0], now).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_in_the_midst_of_writing_is_one_moment_of_it() {
    let (stage, _) = due_stage().await;
    let store = stage.store.clone();
    let writing = tokio::spawn(async move {
        for round in 0..300 {
            let at = word(start() + SignedDuration::from_secs(round));
            store.pause(&PauseScope::All, None, &at).await.unwrap();
            store.resume(&PauseScope::All, &at).await.unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let file = folder.path().join(format!("{round}.db"));
        stage.command().await.backup(&file, "operator", start()).await.unwrap();
        let copy = Store::open_for_command(&file).await.unwrap();
        let pauses = copy.pauses(start() + days(1)).await.unwrap();
        assert!(pauses.len() <= 2, "its own mark and at most one pause that was not lifted yet: {pauses:?}");
        assert_eq!(pauses.last().unwrap().kind, "copy");
        copy.close().await;
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn a_copy_that_does_not_pass_its_tests_is_not_left_behind() {
    let (stage, _) = due_stage().await;
    let mut sql = stage.sql().await;
    for statement in [
        "PRAGMA foreign_keys = OFF",
        "INSERT INTO looks (order_row, epoch, at_ms, monotonic_ms, evidence, finding) VALUES (4711, 1, 1, 1, '{}', 'x')",
    ] {
        sqlx::query(statement).execute(&mut sql).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let refused = stage.store.backup(&folder.path().join("copy.db"), "operator", start()).await.unwrap_err();
    assert!(matches!(refused, BackupError::Damaged { .. }), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_copy_of_a_copy_is_held_as_well() {
    let (stage, _) = due_stage().await;
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one.db"), folder.path().join("two.db"));
    stage.store.backup(&one, "operator", start()).await.unwrap();
    Store::open_for_command(&one).await.unwrap().backup(&two, "operator", start()).await.unwrap();
    let lock = DaemonLock::acquire(&two).unwrap();
    let copy = Store::open_for_daemon(&two, &lock).await.unwrap();
    assert_eq!(copy.pauses(start()).await.unwrap().len(), 2);
    assert_eq!(copy.resume(&PauseScope::All, &word(start())).await.unwrap(), 2);
}
