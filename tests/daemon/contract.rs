//! The names of INTERFACE section 4, in JSON and as columns of the database's views.

use std::collections::BTreeSet;

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Column, ConnectOptions, Executor, SqliteConnection};

use crate::harness::{Stage, policy};

const ORDER: &str = "id run_id policy policy_revision account provider product region instance action state order_id \
                     request_id client_token months amount_cny expiry_before expiry_after sent_at settled_at error";
const RUN: &str = "id policy policy_revision account product region instance action origin due_at missed_count state \
                   attempts next_attempt_at reason error created_at finished_at";
const INSTANCE: &str =
    "account product region instance policy state expires_at observed_at auto_renew charge_type at_risk";
const ERROR: &str = "class code message request_id http_status";
const STATUS: &str = "daemon runs unknown_orders paused at_risk next_firings";

#[test]
fn json_and_the_views_carry_the_names_of_the_contract_with_null_for_what_is_absent() {
    let stage = Stage::new();
    let refused = Spoilt::Code("LimitExceeded.PeriodExceedMaxLimit".to_owned());
    stage.cloud.inject(vec![
        Fault::spoil("redis:RenewInstance", Effect::Before, refused).on("crs-sandbox-2").times(1000),
    ]);
    stage.write_policies(&policy("month", &["crs-sandbox-1", "crs-sandbox-2"], ""));
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    stage.until_order("crs-sandbox-2", "refused");
    let status = stage.status();
    daemon.stop();

    let (orders, runs, instances) = (stage.orders(), stage.list(&["runs"]), stage.list(&["instances"]));
    for (what, rows, wanted) in
        [("order", &orders, ORDER), ("run", &runs, RUN), ("instance", &instances, INSTANCE)]
    {
        assert!(!rows.is_empty());
        for row in rows {
            assert_eq!(keys(row), names(wanted), "{what}");
        }
    }
    let errors = orders.iter().chain(&runs).map(|row| &row["error"]).filter(|error| !error.is_null());
    for error in errors.clone() {
        assert_eq!(keys(error), names(ERROR));
        assert_eq!(error["class"], "rejected");
        assert_eq!(error["code"], "LimitExceeded.PeriodExceedMaxLimit");
    }
    assert!(errors.count() >= 2, "an order and a run failed");
    let confirmed = stage.orders_of("crs-sandbox-1").remove(0);
    for absent in ["client_token", "error"] {
        assert_eq!(confirmed[absent], Value::Null);
    }
    assert_eq!(confirmed["action"], "renew");
    for time in ["expiry_before", "expiry_after", "sent_at", "settled_at"] {
        let text = confirmed[time].as_str().unwrap();
        assert!(text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(), "{time} {text}");
    }
    assert!(keys(&status).is_superset(&names(STATUS)), "{status:#}");
    assert!(keys(&status["daemon"]).is_superset(&names("running pid since version")));
    assert_eq!(status["daemon"]["running"], true);
    assert_eq!(keys(&status["next_firings"][0]), names("policy due_at"));
    assert!(status["runs"]["succeeded"].is_i64(), "{status:#}");

    stage.block_on(async {
        let options = SqliteConnectOptions::new().filename(stage.database()).read_only(true);
        let mut database = options.connect().await.unwrap();
        for (view, wanted) in
            [("orders_v", ORDER), ("runs_v", RUN), ("failures_v", RUN), ("instances_v", INSTANCE)]
        {
            assert_eq!(columns(view, &mut database).await, names(wanted), "{view}");
        }
        let failures: i64 =
            sqlx::query_scalar("SELECT count(*) FROM failures_v WHERE instance = 'crs-sandbox-2'")
                .fetch_one(&mut database)
                .await
                .unwrap();
        assert!(failures >= 1);
    });
}

#[test]
fn a_reader_before_the_first_start_is_told_that_there_is_no_database_yet_and_makes_none() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    for command in ["orders", "runs", "instances", "status", "policies"] {
        let output = stage.renewd(&[command, "--json"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(crate::harness::stderr(&output).contains("no database"), "{command}");
        assert!(!stage.database().exists());
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let stage = Stage::new();
    for arguments in [
        &["order"][..],
        &["orders", "--limit", "many"],
        &["resolve", "1"],
        &["resolve", "1", "--paid", "--not-paid"],
        &["resolve", "1", "--paid", "--force"],
        &["pause", "--account", "shop", "--policy", "month"],
        &["pause", "--until", "soon"],
        &["sandbox", "--listen", "nowhere"],
    ] {
        let output = stage.renewd(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", crate::harness::stderr(&output));
        assert!(output.stdout.is_empty(), "messages go to stderr");
    }
}

fn names(list: &str) -> BTreeSet<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object")).keys().cloned().collect()
}

async fn columns(view: &str, database: &mut SqliteConnection) -> BTreeSet<String> {
    let sql = sqlx::AssertSqlSafe(format!("SELECT * FROM {view}"));
    let described = database.describe(sqlx::SqlSafeStr::into_sql_str(sql)).await.unwrap();
    described.columns().iter().map(|column| column.name().to_owned()).collect()
}
