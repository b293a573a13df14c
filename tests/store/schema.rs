//! The schema repeats the state machines: what the code never does, nobody else can do either.

use jiff::SignedDuration;
use renewd::domain::failure::{Class, Failure};
use renewd::store::{Filter, NextForRun, OrderMove, OrderStep, Store};

use crate::stage::{Stage, days, policy, start};

/// Runs and orders: 1 failed with its order refused, 2 intended and running, 3 queued.
async fn stage() -> Stage {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1", "crs-2", "crs-3"])], start()).await;
    let now = start() + SignedDuration::from_hours(1);
    for id in ["crs-1", "crs-2", "crs-3"] {
        stage.see(id, now, now + days(3)).await;
    }
    stage.fire(now).await;
    let mut claims = stage.claim(epoch).await;
    let row = stage.intend(&claims[0], now).await.unwrap().row();
    let failure = Failure::ours(Class::Rejected, "Never", "never");
    let step = OrderStep::Refused { failure, next: NextForRun::Fail { reason: "never".to_owned() } };
    let order_move =
        OrderMove { row, run: claims[0].job.run, at: now, sent_at: None, step, look: None, amount: None };
    assert!(stage.store.move_order(order_move).await.unwrap());
    stage.intend(&claims[1], now).await.unwrap();
    stage.store.release(vec![claims.remove(2)]).await.unwrap();
    stage
}

#[tokio::test]
async fn what_has_ended_never_leaves_its_end() {
    let stage = stage().await;
    let mut sql = stage.sql().await;
    let refused = [
        ("UPDATE runs SET state = 'queued', finished_at_ms = NULL WHERE id = 1", "never leaves its end"),
        ("UPDATE runs SET state = 'succeeded' WHERE id = 1", "never leaves its end"),
        (
            "UPDATE orders SET state = 'unknown', settled_at_ms = NULL, next_look_at_ms = 1 WHERE id = 1",
            "never leaves its end",
        ),
        ("UPDATE orders SET state = 'confirmed' WHERE id = 1", "never leaves its end"),
        ("DELETE FROM orders WHERE id = 1", "kept for ever"),
        ("DELETE FROM runs WHERE id = 1", "FOREIGN KEY"),
    ];
    for (statement, why) in refused {
        let error = sqlx::query(statement).execute(&mut sql).await.unwrap_err().to_string();
        assert!(error.contains(why), "{statement}: {error}");
    }
}

#[tokio::test]
async fn states_and_the_columns_that_go_with_them_are_checked() {
    let stage = stage().await;
    let mut sql = stage.sql().await;
    let refused = [
        ("UPDATE runs SET state = 'paused' WHERE id = 3", "CHECK"),
        ("UPDATE runs SET state = 'running' WHERE id = 3", "running_has_epoch"),
        ("UPDATE runs SET epoch = 1 WHERE id = 3", "running_has_epoch"),
        ("UPDATE runs SET state = 'waiting' WHERE id = 3", "waiting_has_hold"),
        ("UPDATE runs SET state = 'waiting', hold = 'backoff' WHERE id = 3", "waiting_has_time"),
        ("UPDATE runs SET state = 'failed', reason = 'x' WHERE id = 3", "ended_has_time_and_reason"),
        ("UPDATE runs SET state = 'failed', finished_at_ms = 1 WHERE id = 3", "ended_has_time_and_reason"),
        ("UPDATE runs SET finished_at_ms = 1, reason = 'x' WHERE id = 3", "ended_has_time_and_reason"),
        ("UPDATE orders SET state = 'sent' WHERE id = 2", "CHECK"),
        ("UPDATE orders SET state = 'confirmed' WHERE id = 2", "settled_has_time"),
        ("UPDATE orders SET state = 'refused', settled_at_ms = 1 WHERE id = 2", "refused_has_error"),
        ("UPDATE orders SET state = 'unknown' WHERE id = 2", "open_is_looked_at"),
        ("UPDATE orders SET months = NULL WHERE id = 2", "renewal_has_months"),
        ("UPDATE daemon SET id = 2", "CHECK"),
    ];
    for (statement, why) in refused {
        let done = sqlx::query(statement).execute(&mut sql).await;
        assert!(done.as_ref().is_err_and(|error| error.to_string().contains(why)), "{statement}: {done:?}");
    }
}

#[tokio::test]
async fn moves_that_the_state_machines_do_not_know_are_refused() {
    let stage = stage().await;
    let mut sql = stage.sql().await;
    let wait = "UPDATE runs SET state = 'waiting', hold = 'backoff', next_attempt_at_ms = 1 WHERE id = 3";
    sqlx::query(wait).execute(&mut sql).await.unwrap();
    let claim = "UPDATE runs SET state = 'running', hold = NULL, epoch = 1 WHERE id = 3";
    let error = sqlx::query(claim).execute(&mut sql).await.unwrap_err().to_string();
    assert!(error.contains("only a queued run is claimed"), "{error}");

    let unknown = "UPDATE orders SET state = 'unknown', next_look_at_ms = 1 WHERE id = 2";
    sqlx::query(unknown).execute(&mut sql).await.unwrap();
    let intend = "UPDATE orders SET state = 'intended' WHERE id = 2";
    let error = sqlx::query(intend).execute(&mut sql).await.unwrap_err().to_string();
    assert!(error.contains("intended once"), "{error}");
}

#[tokio::test]
async fn two_open_orders_of_an_instance_and_two_that_stand_in_a_cycle_cannot_be_written() {
    let stage = stage().await;
    let mut sql = stage.sql().await;
    let copy = "INSERT INTO orders (run_id, policy_id, policy_revision, instance_id, account, product, region, action,
             cycle, state, epoch, months, intended_at_ms, settled_at_ms)
         SELECT run_id, policy_id, policy_revision, instance_id, account, product, region, action, ?1, ?2, epoch,
             months, intended_at_ms, ?3 FROM orders WHERE id = 2";
    for (cycle, state, settled) in [("cycle:9", "intended", None), ("cycle:1", "confirmed", Some(1_i64))] {
        let copied = sqlx::query(copy).bind(cycle).bind(state).bind(settled).execute(&mut sql).await;
        assert!(copied.unwrap_err().to_string().contains("UNIQUE"), "{cycle} {state}");
    }
    let twice = "INSERT INTO runs (policy_id, policy_revision, instance_id, account, action, origin, due_at_ms, priority_ms,
             created_at_ms)
         SELECT policy_id, policy_revision, instance_id, account, action, origin, due_at_ms, 0, 0 FROM runs WHERE id = 3";
    assert!(sqlx::query(twice).execute(&mut sql).await.unwrap_err().to_string().contains("UNIQUE"));
}

#[tokio::test]
async fn who_is_at_risk_is_asked_without_walking_all_orders_for_each() {
    let stage = stage().await;
    let plan = "EXPLAIN QUERY PLAN SELECT * FROM instances_v WHERE at_risk";
    let steps: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(plan).fetch_all(&mut stage.sql().await).await.unwrap();
    let of_orders: Vec<&str> = steps
        .iter()
        .map(|step| step.3.as_str())
        .filter(|step| step.split(' ').any(|word| word == "o"))
        .collect();
    assert!(!of_orders.is_empty() && of_orders.iter().all(|step| step.starts_with("SEARCH")), "{steps:#?}");
}

#[tokio::test]
async fn a_closed_database_is_one_file_that_holds_all_that_was_written() {
    let stage = Stage::open().await;
    stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    // A reader is open beside the writer.
    assert!(stage.runs().await.is_empty());
    stage.store.close().await;
    assert!(!stage.folder.path().join("renewd.db-wal").exists());
    let copy = stage.folder.path().join("copy.db");
    std::fs::copy(stage.path(), &copy).unwrap();
    let copied = Store::open_for_command(&copy).await.unwrap();
    assert_eq!(copied.policies(&Filter::default()).await.unwrap().len(), 1);
}
