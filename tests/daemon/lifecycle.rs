//! Stopping, and what a stop leaves to the next start.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{
    Settings, Stage, assert_each_second_is_accounted_for, command, instant, policy, text, until,
};

const DESCRIBE: &str = "redis:DescribeInstances";
const LIST: &str = "billing:DescribeDealsByCond";
const RENEW: &str = "redis:RenewInstance";

#[test]
fn a_stop_while_an_answer_is_on_its_way_waits_for_it_and_records_it() {
    let stage = Stage::new();
    let late = Spoilt::Stall(Duration::from_millis(1500));
    stage.cloud.inject(vec![Fault::spoil(RENEW, Effect::After, late)]);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let mut daemon = stage.start();
    until("the order is charged and not answered", || (stage.cloud.ledger().len() == 1).then_some(()));
    daemon.signal(Signal::TERM);
    let status = daemon.until_end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(daemon.events("service.stopping").len(), 1);
    assert_eq!(daemon.events("service.stopped").len(), 1);
    let order = stage.orders().remove(0);
    assert_eq!(order["state"], "placed");
    assert_eq!(order["order_id"], stage.cloud.ledger()[0].order_id.as_str());
    let status = stage.status();
    assert_eq!((&status["daemon"]["running"], &status["daemon"]["pid"]), (&false.into(), &().into()));

    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn a_look_that_a_stop_cuts_short_is_no_failure_and_its_run_goes_on_at_the_next_start() {
    let stage = Stage::new();
    let stalled = Fault::spoil(DESCRIBE, Effect::Before, Spoilt::Stall(Duration::from_secs(300)));
    stage.cloud.inject(vec![stalled.times(1000)]);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let mut daemon = stage.start();
    let is_running = |run: &serde_json::Value| run["state"] == "running";
    until("its run is looked at", || stage.runs_of("crs-sandbox-1").iter().any(is_running).then_some(()));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.until_end().code(), Some(0));
    assert!(daemon.events("run.retry").is_empty());
    for run in stage.runs_of("crs-sandbox-1") {
        assert_eq!(
            (&run["state"], &run["attempts"], &run["error"]),
            (&"queued".into(), &0.into(), &().into())
        );
    }

    stage.cloud.forget_faults();
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    assert_eq!(stage.charges_of("crs-sandbox-1"), 1);
    stage.assert_agreement();
}

#[test]
fn a_stop_while_the_order_list_is_read_asks_nobody_about_the_order() {
    let stage = Stage::new();
    stage.cloud.inject(vec![
        Fault::spoil(RENEW, Effect::Before, Spoilt::Drop),
        Fault::spoil(LIST, Effect::Before, Spoilt::Stall(Duration::from_secs(300))).times(1000),
    ]);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let mut daemon = stage.start();
    let unknown = stage.until_order("crs-sandbox-1", "unknown");
    until("the list is asked", || stage.cloud.requests().get(LIST).map(drop));
    let settled_at = instant(&unknown["sent_at"]) + jiff::SignedDuration::from_secs(4);
    until("its settling time is over", || (jiff::Timestamp::now() > settled_at).then_some(()));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.until_end().code(), Some(0));
    let errors: Vec<_> =
        daemon.events("order.unknown").into_iter().filter(|e| e["level"] == "ERROR").collect();
    assert!(errors.is_empty(), "{errors:#?}");

    stage.cloud.forget_faults();
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    assert_eq!(stage.charges_of("crs-sandbox-1"), 1);
}

#[test]
fn a_database_that_is_removed_under_the_service_is_missed_before_anything_is_paid_for() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    until("it was looked at", || (!stage.runs_of("crs-sandbox-1").is_empty()).then_some(()));
    let aside = stage.folder().join("aside.db");
    fs::rename(stage.database(), &aside).unwrap();
    stage.expires_in_days("crs-sandbox-1", 3);
    let told =
        daemon.until_event_that("database.failed", |event| text(event, "message").contains("was removed"));
    assert_eq!(told["level"], "ERROR");
    assert_eq!(stage.cloud.ledger().len(), 0);

    fs::rename(&aside, stage.database()).unwrap();
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    assert_eq!(stage.charges_of("crs-sandbox-1"), 1);
    stage.assert_agreement();
}

#[test]
fn a_second_signal_ends_at_once_and_the_next_start_finds_what_became_of_the_order() {
    let stage = Stage::new();
    stage.cloud.inject(vec![Fault::spoil(RENEW, Effect::After, Spoilt::Stall(Duration::from_secs(300)))]);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let mut daemon = stage.start();
    until("the order is charged and not answered", || (stage.cloud.ledger().len() == 1).then_some(()));
    daemon.signal(Signal::TERM);
    daemon.until_event("service.stopping");
    assert_eq!(stage.orders()[0]["state"], "intended");
    daemon.signal(Signal::INT);
    assert_eq!(daemon.until_end().code(), Some(0));
    assert_eq!(stage.orders()[0]["state"], "intended");

    let daemon = stage.start();
    daemon.until_event_that("order.unknown", |event| event["code"] == "Interrupted");
    let order = stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    assert_eq!(stage.orders(), [order], "found, not ordered again");
    stage.assert_agreement();
}

#[test]
fn firings_missed_while_the_service_was_down_fold_into_one_counted_run() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    until("it fired", || (stage.runs_of("crs-sandbox-1").len() > 1).then_some(()));
    daemon.stop();
    let down_until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    until("some firings were missed", || (jiff::Timestamp::now() > down_until).then_some(()));

    let daemon = stage.start();
    let said = daemon.until_event_that("schedule.fired", |event| event["missed_count"].is_i64());
    assert_eq!(said["level"], "WARN");
    until("it fires by itself again", || {
        let runs = stage.runs_of("crs-sandbox-1");
        let caught_up = runs.iter().find(|run| run["origin"] == "catch_up")?;
        runs.iter().any(|run| instant(&run["due_at"]) > instant(&caught_up["due_at"])).then_some(())
    });
    daemon.stop();

    let mut runs = stage.runs_of("crs-sandbox-1");
    runs.sort_by_key(|run| instant(&run["due_at"]));
    let caught_up: Vec<_> = runs.iter().filter(|run| run["origin"] == "catch_up").collect();
    assert_eq!(caught_up.len(), 1, "{runs:#?}");
    assert!(caught_up[0]["missed_count"].as_i64().unwrap() >= 3, "{:#}", caught_up[0]);
    assert_eq!(said["missed_count"], caught_up[0]["missed_count"]);
    assert_each_second_is_accounted_for(runs);
}

#[test]
fn every_log_line_is_json_with_its_event_time_and_level() {
    let stage = Stage::new();
    stage.cloud.inject(vec![Fault::spoil(RENEW, Effect::After, Spoilt::Drop).on("crs-sandbox-2")]);
    stage.write_policies(&policy("month", &["crs-sandbox-1", "crs-sandbox-2"], ""));
    let daemon = stage.start();
    for instance in ["crs-sandbox-1", "crs-sandbox-2"] {
        stage.until_order(instance, "confirmed");
    }
    let lines = daemon.stop();
    let mut kinds = Vec::new();
    for line in &lines {
        let event: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        assert!(text(&event, "timestamp").parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert!(["ERROR", "WARN", "INFO"].contains(&text(&event, "level")), "{line}");
        assert!(!text(&event, "message").is_empty(), "{line}");
        kinds.push(text(&event, "event").to_owned());
    }
    for kind in [
        "config.loaded",
        "service.ready",
        "schedule.fired",
        "run.skipped",
        "order.intended",
        "order.placed",
        "order.unknown",
        "order.confirmed",
        "run.succeeded",
        "service.stopping",
        "service.stopped",
    ] {
        assert!(kinds.iter().any(|said| said == kind), "{kind} is not in {kinds:?}");
    }
    let confirmed = lines.iter().find(|line| line.contains("order.confirmed")).unwrap();
    let confirmed: serde_json::Value = serde_json::from_str(confirmed).unwrap();
    for field in [
        "policy",
        "revision",
        "account",
        "provider",
        "product",
        "region",
        "instance",
        "run",
        "order_row",
        "order_id",
        "expiry_before",
        "expiry_after",
    ] {
        assert!(!confirmed[field].is_null(), "{field} in {confirmed:#}");
    }
}

#[test]
fn a_log_that_nobody_reads_or_nothing_takes_neither_ends_nor_holds_up_the_service() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for (stderr, is_read) in [(Stdio::piped(), false), (Stdio::piped(), true), (full(), true)] {
        // At trace a pipe is full within a moment.
        let stage = Stage::with(&Settings { level: "trace", ..Settings::default() });
        stage.write_policies(&policy("month", &["crs-sandbox-1", "crs-sandbox-2"], ""));
        stage.start().stop();
        let mut child = command(stage.folder(), &["run"]).stderr(stderr).spawn().unwrap();
        // Kept unread, or closed at once.
        let kept = child.stderr.take().filter(|_| !is_read);

        stage.until_order("crs-sandbox-1", "confirmed");
        stage.until_order("crs-sandbox-2", "confirmed");
        assert!(child.try_wait().unwrap().is_none(), "it lives on");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = until("the service stops", || child.try_wait().unwrap());
        assert!(status.success(), "{status}");
        drop(kept);
        stage.assert_agreement();
    }
}
