//! `/metrics`: every name of the contract, and the same numbers as the database, the ledger and the cloud's counters.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use renewd::sandbox::SECRET_KEY;
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::Value;

use crate::harness::{KEY_ID, Stage, instant, policy, text, until};
use crate::scrape::Scrape;

const RENEW: &str = "redis:RenewInstance";

/// INTERFACE section 5, as it stands there: name, labels, and the type that the name promises.
const CONTRACT: &[(&str, &[&str], &str)] = &[
    ("renewd_build_info", &[], "gauge"),
    ("renewd_runs", &["state"], "gauge"),
    ("renewd_runs_finished_total", &["account", "product", "state"], "counter"),
    ("renewd_orders_total", &["account", "product", "action", "state"], "counter"),
    ("renewd_orders_unknown", &[], "gauge"),
    ("renewd_instances_at_risk", &[], "gauge"),
    ("renewd_spend_cny_total", &["account"], "counter"),
    ("renewd_instance_expiry_timestamp_seconds", &["account", "product", "instance"], "gauge"),
    ("renewd_schedule_fired_total", &[], "counter"),
    ("renewd_schedule_missed_total", &["reason"], "counter"),
    ("renewd_schedule_lag_seconds", &[], "histogram"),
    ("renewd_api_requests_total", &["account", "api", "class"], "counter"),
    ("renewd_api_request_seconds", &["account", "api"], "histogram"),
    ("renewd_rate_wait_seconds", &["account", "api"], "histogram"),
    ("renewd_account_paused", &["account"], "gauge"),
    ("renewd_config_last_reload_successful", &[], "gauge"),
    ("renewd_config_last_reload_timestamp_seconds", &[], "gauge"),
    ("renewd_db_commit_seconds", &[], "histogram"),
];

/// Fires at the turn of the year, and whenever it is told to: nothing moves by itself.
fn resting(name: &str, instances: &[&str]) -> String {
    policy(name, instances, "").replace("* * * * * *", "0 0 1 1 *")
}

fn assert_is_there(scrape: &Scrape, name: &str, labels: &[&str], kind: &str) {
    assert_eq!(scrape.types.get(name).map(String::as_str), Some(kind), "{name}");
    let series = if kind == "histogram" { format!("{name}_count") } else { name.to_owned() };
    let samples = scrape.all(&series);
    assert!(!samples.is_empty(), "{name} has no series in\n{}", scrape.text);
    let wanted: BTreeSet<&str> = labels.iter().copied().collect();
    for sample in samples {
        let found: BTreeSet<&str> = sample.labels.keys().map(String::as_str).collect();
        // What a build has to say of itself is its own.
        assert!(found == wanted || name == "renewd_build_info", "{name} has the labels {found:?}");
    }
    if kind == "histogram" {
        for series in [format!("{name}_sum"), format!("{name}_bucket")] {
            assert!(!scrape.all(&series).is_empty(), "{series}");
        }
    }
}

#[test]
fn every_metric_of_the_contract_and_every_one_that_an_alert_asks_for_is_there_and_no_secret_is() {
    let stage = Stage::new();
    stage.listen("127.0.0.1:0");
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    let scrape = until("the confirmed order is in a scrape", || {
        let scrape = Scrape::of(daemon.http());
        (scrape.count("renewd_orders_total", &[("state", "confirmed")]) == Some(1)).then_some(scrape)
    });
    daemon.stop();

    for (name, labels, kind) in CONTRACT {
        assert_is_there(&scrape, name, labels, kind);
    }
    let rules = fs::read_to_string(root().join("config/prometheus/renewd.rules.yml")).unwrap();
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let asked = rules.split(|c| !is_of_a_name(c)).filter(|word| word.starts_with("renewd_"));
    let asked: BTreeSet<&str> = asked.collect();
    assert!(asked.len() > 5, "{asked:?}");
    for name in asked {
        assert!(!scrape.all(name).is_empty(), "an alert asks for {name}, which no scrape has");
    }
    let page = scrape.text.to_lowercase();
    for secret in [SECRET_KEY, KEY_ID, "signature", "authorization"] {
        assert!(!page.contains(&secret.to_lowercase()), "{secret} is in /metrics");
    }
    assert_passes_promtool(&scrape.text);
}

/// Prometheus' own reading of the page.
fn assert_passes_promtool(page: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!("SKIPPED: without promtool nobody but ourselves reads the page");
        return;
    };
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Renewed; refused for good; charged with the answer lost.
fn three_fates() -> Stage {
    let stage = Stage::new();
    for id in ["crs-refused", "crs-lost"] {
        stage.expires_in_days(id, 5);
    }
    let refused = Spoilt::Code("LimitExceeded.PeriodExceedMaxLimit".to_owned());
    stage.cloud.inject(vec![
        Fault::spoil(RENEW, Effect::Before, refused).on("crs-refused"),
        Fault::spoil(RENEW, Effect::After, Spoilt::Drop).on("crs-lost"),
    ]);
    stage.listen("127.0.0.1:0");
    stage.write_policies(&resting("year", &["crs-sandbox-1", "crs-sandbox-2", "crs-refused", "crs-lost"]));
    stage
}

#[test]
fn the_numbers_are_those_of_the_database_the_ledger_and_the_cloud_and_survive_a_restart() {
    let stage = three_fates();
    let daemon = stage.start();
    let before = Scrape::of(daemon.http());
    assert_eq!(before.count("renewd_orders_total", &[("account", "shop"), ("state", "confirmed")]), Some(0));
    assert_eq!(before.count("renewd_runs_finished_total", &[("state", "failed")]), Some(0));
    assert_eq!(before.count("renewd_spend_cny_total", &[("account", "shop")]), Some(0));

    stage.ok(&["trigger", "year"]);
    for id in ["crs-sandbox-1", "crs-sandbox-2", "crs-lost"] {
        stage.until_order(id, "confirmed");
    }
    stage.until_order("crs-refused", "refused");
    let after = until("the end of all of them is in a scrape", || {
        let scrape = Scrape::of(daemon.http());
        let finished = scrape.count("renewd_runs_finished_total", &[])?;
        (finished == 4).then_some(scrape)
    });
    assert_totals(&stage, &after);
    assert_calls(&stage, &after);
    daemon.stop();
    stage.assert_agreement();

    let daemon = stage.start();
    let again = Scrape::of(daemon.http());
    assert_totals(&stage, &again);
    assert_eq!(again.count("renewd_api_requests_total", &[("api", RENEW)]), None, "of this life only");
    daemon.stop();
}

fn assert_totals(stage: &Stage, scrape: &Scrape) {
    let entered = |state| scrape.count("renewd_orders_total", &[("action", "renew"), ("state", state)]);
    let orders = stage.orders();
    let ended = |state: &str| orders.iter().filter(|order| order["state"] == state).count() as u64;
    assert_eq!(entered("intended"), Some(orders.len() as u64));
    assert_eq!(
        (entered("confirmed"), entered("refused")),
        (Some(ended("confirmed")), Some(ended("refused")))
    );
    assert_eq!(
        (entered("placed"), entered("unknown")),
        (Some(2), Some(1)),
        "lost is confirmed by its expiry"
    );
    assert_eq!(scrape.count("renewd_orders_unknown", &[]), Some(0));

    let runs = stage.status()["runs"].clone();
    for (state, count) in runs.as_object().unwrap() {
        assert_eq!(scrape.count("renewd_runs", &[("state", state)]), count.as_u64(), "{state} runs");
        let finished = [("account", "shop"), ("product", "redis"), ("state", state)];
        assert_eq!(scrape.count("renewd_runs_finished_total", &finished), count.as_u64(), "{state} runs");
    }
    let charged: f64 = stage.cloud.ledger().iter().map(|charge| charge.amount.as_yuan_number()).sum();
    let spent = scrape.sum("renewd_spend_cny_total", &[("account", "shop")]).unwrap();
    assert!((spent - charged).abs() < 0.005, "{spent} spent, {charged} charged");

    let instances = stage.list(&["instances"]);
    let at_risk = instances.iter().filter(|instance| instance["at_risk"] == true).count() as u64;
    assert_eq!(scrape.count("renewd_instances_at_risk", &[]), Some(at_risk));
    for instance in &instances {
        let labels = [("account", "shop"), ("product", "redis"), ("instance", text(instance, "instance"))];
        let expiry = scrape.sum("renewd_instance_expiry_timestamp_seconds", &labels).unwrap();
        let wanted = instant(&instance["expires_at"]).as_duration().as_secs_f64();
        assert!((expiry - wanted).abs() < 0.001, "{instance:#}: {expiry}");
    }
}

/// Our counters against the cloud's own, and against the record of calls.
fn assert_calls(stage: &Stage, scrape: &Scrape) {
    let requests = stage.cloud.requests();
    assert!(requests.len() > 2, "{requests:?}");
    for (api, count) in &requests {
        let labels = [("account", "shop"), ("api", api.as_str())];
        assert_eq!(scrape.count("renewd_api_requests_total", &labels), Some(count.total), "{api}");
        assert_eq!(scrape.count("renewd_api_request_seconds_count", &labels), Some(count.total), "{api}");
        assert!(scrape.count("renewd_rate_wait_seconds_count", &labels) >= Some(count.total), "{api}");
    }
    let of_class = |class| scrape.count("renewd_api_requests_total", &[("api", RENEW), ("class", class)]);
    assert_eq!((of_class("ok"), of_class("rejected"), of_class("unknown")), (Some(2), Some(1), Some(1)));
    let recorded: Vec<(String, String, i64)> = stage.block_on(async {
        use sqlx::ConnectOptions;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(stage.database()).read_only(true);
        sqlx::query_as("SELECT api, class, count(*) FROM attempts GROUP BY api, class")
            .fetch_all(&mut options.connect().await.unwrap())
            .await
            .unwrap()
    });
    assert_eq!(recorded.len(), scrape.all("renewd_api_requests_total").len());
    for (api, class, count) in recorded {
        let counted = scrape.count("renewd_api_requests_total", &[("api", &api), ("class", &class)]);
        assert_eq!(counted, Some(count.unsigned_abs()), "{api} {class}");
    }
}

#[test]
fn pauses_refused_files_and_missed_firings_show() {
    let stage = Stage::new();
    stage.listen("127.0.0.1:0");
    stage.expires_in_days("crs-sandbox-1", 200);
    let good = policy("month", &["crs-sandbox-1"], "");
    stage.write_policies(&good);
    let daemon = stage.start();
    let shows = |address, name: &'static str, labels: &[(&str, &str)], value| {
        until(&format!("{name} is {value}"), || {
            (Scrape::of(address).count(name, labels) == Some(value)).then_some(())
        });
    };
    let address = daemon.http();
    shows(address, "renewd_account_paused", &[("account", "shop")], 0);
    for (pause, resume) in [(&["--account", "shop"][..], &["--account", "shop"][..]), (&[], &[])] {
        stage.ok(&[&["pause"], pause].concat());
        shows(address, "renewd_account_paused", &[("account", "shop")], 1);
        stage.ok(&[&["resume"], resume].concat());
        shows(address, "renewd_account_paused", &[("account", "shop")], 0);
    }
    stage.ok(&["pause", "--policy", "month"]);
    shows(address, "renewd_account_paused", &[("account", "shop")], 0);

    let accepted = Scrape::of(address).sum("renewd_config_last_reload_timestamp_seconds", &[]).unwrap();
    stage.write_policies("[policy.month]\nmonths = 0\n");
    daemon.reload("config.refused");
    shows(address, "renewd_config_last_reload_successful", &[], 0);
    let refused = Scrape::of(address).sum("renewd_config_last_reload_timestamp_seconds", &[]).unwrap();
    assert!(refused > accepted, "{refused} is when it was tried");
    stage.write_policies(&good);
    daemon.reload("config.reloaded");
    shows(address, "renewd_config_last_reload_successful", &[], 1);

    let fired = Scrape::of(address).count("renewd_schedule_fired_total", &[]).unwrap();
    daemon.stop();
    let down_until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    until("some firings were missed", || (jiff::Timestamp::now() > down_until).then_some(()));
    let daemon = stage.start();
    let caught_up = daemon.until_event_that("schedule.fired", |event| event["missed_count"].is_i64());
    let missed = caught_up["missed_count"].as_u64().unwrap();
    shows(daemon.http(), "renewd_schedule_missed_total", &[("reason", "caught_up")], missed);
    let scrape = Scrape::of(daemon.http());
    assert_eq!(scrape.count("renewd_schedule_missed_total", &[("reason", "too_old")]), Some(0));
    assert!(scrape.count("renewd_schedule_fired_total", &[]) > Some(fired));
    let in_time = |run: &&Value| run["origin"] == "schedule";
    let runs = stage.runs_of("crs-sandbox-1");
    assert!(
        scrape.count("renewd_schedule_fired_total", &[])
            <= Some(runs.iter().filter(in_time).count() as u64 + 1)
    );
    daemon.stop();
}
