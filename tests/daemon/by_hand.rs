//! `trigger` and `retry`: what a person fires passes the same tests, and is never paid twice.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor};

use crate::harness::{Stage, command, policy, stderr, text, until};

/// A policy that no test lives to see fire by itself: monthly, about two weeks from now.
fn monthly(name: &str, instances: &[&str]) -> String {
    let then = (Timestamp::now() + SignedDuration::from_hours(14 * 24)).to_zoned(TimeZone::UTC);
    policy(name, instances, "").replace("* * * * * *", &format!("0 0 {} * *", then.day().min(28)))
}

fn monthly_every_fire(name: &str, instances: &[&str]) -> String {
    monthly(name, instances).replace("months = 1 ", "months = 1, every_fire = true ")
}

fn refusal(stage: &Stage, arguments: &[&str]) -> String {
    let output = stage.renewd(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    stderr(&output)
}

fn in_state<'a>(runs: &'a [Value], state: &str) -> Vec<&'a Value> {
    runs.iter().filter(|run| run["state"] == state).collect()
}

#[test]
fn a_policy_fired_by_hand_orders_what_is_due_within_moments_and_says_who_fired_it() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-2", 200);
    stage.write_policies(&monthly("month", &["crs-sandbox-1", "crs-sandbox-2"]));
    let daemon = stage.start();
    let said = stage.ok(&["trigger", "month", "--note", "before the holidays"]);
    assert!(said.contains("policy month fired: runs 1 to 2 are queued"), "{said}");
    let order = stage.until_order("crs-sandbox-1", "confirmed");
    let run = stage.until_run("crs-sandbox-1", "succeeded");
    assert_eq!((&run["origin"], &run["id"]), (&"trigger".into(), &order["run_id"]));
    assert!(text(&stage.until_run("crs-sandbox-2", "skipped"), "reason").contains("not due"));
    let fired = daemon.until_event_that("schedule.fired", |event| event["origin"] == "trigger");
    assert_eq!((&fired["person"], &fired["policy"]), (&"operator".into(), &"month".into()));
    assert!(text(&fired, "message").contains("before the holidays"), "{fired:#}");

    // The same once more: it is not due any more.
    let said = stage.ok(&["trigger", "month", "--instance", "crs-sandbox-1", "--again"]);
    assert!(said.contains("run 3 is queued"), "{said}");
    until("the third run has ended", || {
        stage.runs_of("crs-sandbox-1").into_iter().find(|run| run["id"] == 3 && run["state"] == "skipped")
    });
    daemon.stop();
    assert_eq!(stage.charges_of("crs-sandbox-2"), 0);
    stage.assert_agreement();
}

#[test]
fn triggers_of_every_fire_at_the_same_moment_are_one_charge_until_somebody_says_again() {
    let stage = Stage::new();
    stage.write_policies(&monthly_every_fire("monthly", &["crs-sandbox-1"]));
    let daemon = stage.start();
    let children: Vec<_> =
        (0..6).map(|_| command(stage.folder(), &["trigger", "monthly"]).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    until("one run of the six has succeeded and the others are skipped", || {
        let runs = stage.runs_of("crs-sandbox-1");
        (in_state(&runs, "succeeded").len() == 1 && in_state(&runs, "skipped").len() == 5).then_some(())
    });
    stage.assert_agreement();
    let runs = stage.runs_of("crs-sandbox-1");
    let ordered = &in_state(&runs, "succeeded")[0]["due_at"];
    for skipped in in_state(&runs, "skipped") {
        // Two of the same millisecond are of one cycle, and the second may come while the order is on its way.
        if skipped["due_at"] == *ordered && text(skipped, "reason").contains("of this very cycle") {
            continue;
        }
        assert!(text(skipped, "reason").contains("the instance was ordered at"), "{skipped:#}");
        assert!(text(skipped, "reason").contains("`renewd trigger --again`"), "{skipped:#}");
    }

    // Again overrides that and nothing else.
    stage.ok(&["pause"]);
    let output = stage.renewd(&["trigger", "monthly", "--again"]);
    assert!(stderr(&output).contains("everything is paused"), "{}", stderr(&output));
    let waiting = stage.until_run("crs-sandbox-1", "waiting");
    assert!(text(&waiting, "reason").contains("paused"), "{waiting:#}");
    assert_eq!(stage.charges_of("crs-sandbox-1"), 1);
    stage.ok(&["resume"]);
    until("it is ordered again", || {
        let runs = stage.runs_of("crs-sandbox-1");
        (in_state(&runs, "succeeded").len() == 2).then_some(())
    });
    daemon.stop();
    assert_eq!(stage.charges_of("crs-sandbox-1"), 2);
    assert_eq!(stage.list(&["orders", "--state", "confirmed"]).len(), 2);
    assert_eq!(stage.orders().len(), 2);
}

#[test]
fn a_trigger_written_while_the_service_is_down_is_taken_at_its_start_or_lapses() {
    let stage = Stage::new();
    stage.write_policies(&[monthly("one", &["crs-sandbox-1"]), monthly("two", &["crs-sandbox-2"])].concat());
    stage.start().stop();
    let output = stage.renewd(&["trigger", "one"]);
    assert!(stderr(&output).contains("is not running"), "{}", stderr(&output));
    stage.ok(&["trigger", "two"]);
    let over = stage.runs_of("crs-sandbox-2").remove(0);
    // As if eleven minutes had passed.
    stage.block_on(async {
        let mut sql = SqliteConnectOptions::new().filename(stage.database()).connect().await.unwrap();
        let statement = "UPDATE runs SET lapses_at_ms = lapses_at_ms - 660000 WHERE id = 2";
        assert_eq!(sql.execute(statement).await.unwrap().rows_affected(), 1);
    });

    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    let cancelled = daemon.until_event("run.cancelled");
    assert_eq!((&cancelled["run"], &cancelled["instance"]), (&over["id"], &"crs-sandbox-2".into()));
    assert!(text(&cancelled, "message").contains("no service took it within 10 minutes"), "{cancelled:#}");
    daemon.stop();
    let run = stage.runs_of("crs-sandbox-2").remove(0);
    assert_eq!((&run["state"], &run["origin"]), (&"cancelled".into(), &"trigger".into()));
    assert_eq!(stage.charges_of("crs-sandbox-2"), 0);
    stage.assert_agreement();
}

#[test]
fn what_cannot_be_fired_or_retried_is_refused_in_words() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    let off = monthly("off", &["crs-sandbox-2"]) + "enabled = false\n";
    stage.write_policies(&[monthly("month", &["crs-sandbox-1"]), off.clone()].concat());
    let missing = refusal(&stage, &["trigger", "month"]);
    assert!(missing.contains("there is no database"), "{missing}");
    let daemon = stage.start();
    for (arguments, words) in [
        (&["trigger", "mnoth"][..], "no policy \"mnoth\" is in force"),
        (&["trigger", "off"], "policy off is disabled"),
        (&["trigger", "month", "--instance", "crs-sandbox-2"], "policy month does not name crs-sandbox-2"),
        (&["retry", "4711"], "there is no run 4711"),
    ] {
        let said = refusal(&stage, arguments);
        assert!(said.contains(words), "{said}");
    }
    stage.write_policies(&off);
    daemon.reload("config.reloaded");
    assert!(refusal(&stage, &["trigger", "month"]).contains("policy month is retired"));
    for usage in [&["trigger"][..], &["retry", "one"]] {
        assert_eq!(stage.renewd(usage).status.code(), Some(2), "{usage:?}");
    }
    daemon.stop();
    assert!(stage.list(&["runs"]).is_empty());
}

#[test]
fn a_failed_run_is_retried_by_one_run_with_the_same_due_instant() {
    let stage = Stage::new();
    let refused = Spoilt::Code("LimitExceeded.PeriodExceedMaxLimit".to_owned());
    stage.cloud.inject(vec![Fault::spoil("redis:RenewInstance", Effect::Before, refused)]);
    stage.write_policies(&monthly_every_fire("monthly", &["crs-sandbox-1"]));
    let daemon = stage.start();
    stage.ok(&["trigger", "monthly"]);
    let failed = stage.until_run("crs-sandbox-1", "failed");
    let number = failed["id"].to_string();

    let children: Vec<_> =
        (0..4).map(|_| command(stage.folder(), &["retry", &number]).spawn().unwrap()).collect();
    let codes: Vec<_> = children.into_iter().map(|mut child| child.wait().unwrap().code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    let run = stage.until_run("crs-sandbox-1", "succeeded");
    assert_eq!((&run["origin"], &run["due_at"]), (&"retry".into(), &failed["due_at"]));
    let logged = daemon.until_event_that("run.retry", |event| event["person"] == "operator");
    for (field, of_run) in
        [("run", "id"), ("policy", "policy"), ("account", "account"), ("instance", "instance")]
    {
        assert_eq!(logged[field], failed[of_run], "{field} of {logged:#}");
    }

    let said = refusal(&stage, &["retry", &number]);
    assert!(said.contains(&format!("was retried by run {}, which is succeeded", run["id"])), "{said}");
    let said = refusal(&stage, &["retry", &run["id"].to_string()]);
    assert!(said.contains("is succeeded, and only failed runs are retried"), "{said}");
    daemon.stop();
    assert_eq!(stage.runs_of("crs-sandbox-1").len(), 2);
    stage.assert_agreement();
}
