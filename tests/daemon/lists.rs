//! Lists of any length: page by page, in one order, to whoever still listens.

use std::io::{BufRead, BufReader, Read};

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::harness::{Stage, command, policy, text};

/// More than two pages, the last one not full.
const ROWS: i64 = 2_345;

/// A database that no daemon has made: one policy, and as many instances and runs as rows. Run N is of instance N and
/// due N seconds after the beginning of 2026; every third instance was never seen, the others expire in runs of ten.
fn stage_with_many_rows() -> Stage {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    stage.ok(&["resume"]);
    stage.block_on(async {
        let mut database = open(&stage).await;
        for statement in FILL {
            sqlx::query(statement).bind(ROWS).execute(&mut database).await.unwrap();
        }
        database.close().await.unwrap();
    });
    stage
}

const FILL: [&str; 6] = [
    "CREATE TEMP TABLE series AS WITH RECURSIVE series (value) AS (
         SELECT 1 UNION ALL SELECT value + 1 FROM series WHERE value < ?1) SELECT value FROM series",
    "INSERT INTO schedules (id, expression, zone, watermark_ms) SELECT 1, '0 3 * * *', 'UTC', ?1 * 0",
    "INSERT INTO policies (id, name, revision, digest, account, provider, product, region, action, every_fire, terms,
         schedule_id, source, enabled, active_since_ms, accepted_at_ms)
     SELECT value, iif(value = 1, 'month', 'p' || value), 1, '', 'shop', 'tencentcloud', 'redis', 'ap-guangzhou', 'renew',
            0, '{}', 1, 'x.toml:1', 1, 0, 1767225600000 + value / 10 * 1000 FROM series WHERE value <= ?1",
    "INSERT INTO instances (id, provider, region, instance, known_since_ms, observed_at_ms, visible, expires_at_ms, state)
     SELECT value, 'tencentcloud', 'ap-guangzhou', 'crs-' || value, 0, iif(value % 3, 1767225600000, NULL),
            iif(value % 3, 1, NULL), iif(value % 3, 1798761600000 - value / 10 * 1000, NULL), iif(value % 3, 'running', NULL)
     FROM series WHERE value <= ?1",
    "INSERT INTO policy_instances (policy_id, instance_id) SELECT 1, value FROM series WHERE value <= ?1",
    "INSERT INTO runs (id, policy_id, policy_revision, instance_id, account, action, origin, due_at_ms, state, priority_ms,
         reason, created_at_ms, finished_at_ms)
     SELECT value, 1, 1, value, iif(value % 2, 'shop', 'other'), 'renew', 'schedule', 1767225600000 + value * 1000,
            iif(value % 5, 'skipped', 'failed'), 0, 'not due', 1767225600000 + value * 1000, 1767225600000
     FROM series WHERE value <= ?1",
];

async fn open(stage: &Stage) -> SqliteConnection {
    SqliteConnectOptions::new().filename(stage.database()).connect().await.unwrap()
}

fn ids(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

#[test]
fn a_list_of_several_pages_is_whole_in_order_and_filtered() {
    let stage = stage_with_many_rows();
    let newest_first =
        |keep: &dyn Fn(i64) -> bool| (1..=ROWS).rev().filter(|id| keep(*id)).collect::<Vec<_>>();
    let runs = |arguments: &[&str]| ids(&stage.list(&[&["runs"], arguments].concat()));
    assert_eq!(runs(&[]), newest_first(&|_| true));
    assert_eq!(runs(&["--state", "failed"]), newest_first(&|id| id % 5 == 0));
    assert_eq!(runs(&["--account", "other", "--policy", "month"]), newest_first(&|id| id % 2 == 0));
    assert_eq!(runs(&["--policy", "p2"]), [0; 0]);
    assert_eq!(runs(&["--instance", "crs-7"]), [7]);
    assert_eq!(runs(&["--limit", "1500"]), (ROWS - 1499..=ROWS).rev().collect::<Vec<_>>());
    assert_eq!(runs(&["--limit", "0"]), [0; 0]);
    let since = ["--since", "2026-01-01T00:38:20Z"];
    assert_eq!(runs(&since), newest_first(&|id| id >= 2_300));

    let instances = stage.list(&["instances"]);
    let by_expiry = |id: &i64| (id % 3 != 0).then_some(-(id / 10));
    let mut expected: Vec<i64> = (1..=ROWS).collect();
    expected.sort_by_key(|id| (by_expiry(id), *id));
    let names: Vec<String> = expected.iter().map(|id| format!("crs-{id}")).collect();
    assert_eq!(instances.iter().map(|row| text(row, "instance")).collect::<Vec<_>>(), names);
    assert_eq!(
        stage.list(&["instances", "--state", "running"]).len(),
        (1..=ROWS).filter(|id| id % 3 != 0).count()
    );
    assert_eq!(stage.list(&["instances", "--instance", "crs-8", "--policy", "month"]).len(), 1);

    let policies = stage.list(&["policies"]);
    let mut expected: Vec<(i64, String)> = (1..=ROWS)
        .map(|id| (-(id / 10), if id == 1 { "month".to_owned() } else { format!("p{id}") }))
        .collect();
    expected.sort();
    let names: Vec<&str> = expected.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(policies.iter().map(|row| text(row, "policy")).collect::<Vec<_>>(), names);
    assert_eq!(stage.list(&["policies", "--since", "2026-01-01T00:03:54Z"]).len(), 6, "those accepted last");
}

#[test]
fn the_table_has_one_head_and_a_row_for_each_and_times_in_the_configured_zone_or_utc() {
    let stage = stage_with_many_rows();
    let path = stage.folder().join("renewd.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("timezone = \"Asia/Shanghai\"\n{settings}")).unwrap();
    let table = stage.ok(&["runs"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 1 + usize::try_from(ROWS).unwrap());
    assert_eq!(lines.iter().filter(|line| line.starts_with("RUN ")).count(), 1);
    let last = lines.last().unwrap();
    assert!(last.starts_with("1     skipped  crs-1") && last.contains(" 2026-01-01 08:00:01+08 "), "{last}");
    let in_utc = stage.ok(&["runs", "--utc", "--instance", "crs-1"]);
    assert!(in_utc.contains(" 2026-01-01 00:00:01Z "), "{in_utc}");
    assert_eq!(stage.list(&["runs", "--instance", "crs-1"])[0]["due_at"], "2026-01-01T00:00:01.000Z");
    assert_eq!(stage.ok(&["orders"]).lines().count(), 1, "the head of an empty list");
}

#[test]
fn an_empty_list_of_a_name_that_nothing_has_says_so() {
    let stage = stage_with_many_rows();
    let said = |arguments: &[&str]| {
        let output = command(stage.folder(), arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(
        said(&["orders", "--policy", "moth"]),
        "renewd: no policy \"moth\" is in the database; did you mean `month`?\n"
    );
    let told = said(&["runs", "--account", "shp", "--json"]);
    assert_eq!(told, "renewd: no policy of account \"shp\" is in the database; did you mean `shop`?\n");
    assert_eq!(said(&["orders", "--instance", "crs-0"]), "renewd: no policy names instance \"crs-0\"\n");
    for arguments in [&["orders", "--policy", "month"][..], &["orders", "--instance", "crs-1"], &["orders"]] {
        assert_eq!(said(arguments), "", "{arguments:?}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure_and_nothing_is_said() {
    let stage = stage_with_many_rows();
    for arguments in [&["runs"][..], &["runs", "--json"], &["instances"], &["policies", "--json"]] {
        let mut child = command(stage.folder(), arguments).spawn().unwrap();
        let mut first = String::new();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        reader.read_line(&mut first).unwrap();
        drop(reader);
        let status = child.wait().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(status.success() && said.is_empty(), "{arguments:?}: {status} {said}");
        assert!(!first.is_empty());
    }
}

#[test]
fn a_service_that_starts_while_a_list_is_read_changes_no_row_of_it() {
    let stage = stage_with_many_rows();
    stage.expires_in_days("crs-sandbox-1", 200);
    let mut child = command(stage.folder(), &["runs", "--json"]).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    // The pipe is full before the list has ended: the rest is read when the service has begun to write.
    let mut all = String::new();
    reader.read_line(&mut all).unwrap();
    let daemon = stage.start();
    stage.until_run("crs-sandbox-1", "skipped");
    reader.read_to_string(&mut all).unwrap();
    assert!(child.wait().unwrap().success());
    daemon.stop();
    let rows: Vec<Value> = serde_json::from_str(&all).unwrap();
    assert_eq!(ids(&rows), (1..=ROWS).rev().collect::<Vec<_>>());
}
