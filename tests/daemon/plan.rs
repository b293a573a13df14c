//! What `plan` says, beside what the service then does; and what it says when the clouds do not answer.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{self, Daemon, Settings, Stage, instant, policy, stderr, text};

/// Until the new year nothing happens but what is planned.
const FAR_AWAY: &str = "0 0 1 1 *";

fn plan_of(stage: &Stage, arguments: &[&str]) -> (Value, Option<i32>) {
    let output = stage.renewd(&[&["plan", "--json"], arguments].concat());
    let answer = serde_json::from_slice(&output.stdout);
    (answer.unwrap_or_else(|error| panic!("{error}: {}", stderr(&output))), output.status.code())
}

fn plan(stage: &Stage) -> Value {
    let (plan, code) = plan_of(stage, &[]);
    assert_eq!(code, Some(0), "{plan:#}");
    plan
}

fn lines(plan: &Value) -> Vec<&Value> {
    plan["instances"].as_array().unwrap().iter().collect()
}

fn line<'a>(plan: &'a Value, instance: &str) -> &'a Value {
    lines(plan).into_iter().find(|line| line["instance"] == instance).unwrap_or_else(|| panic!("{plan:#}"))
}

fn marks<'a>(plan: &'a Value, instances: &[&str]) -> Vec<&'a str> {
    instances.iter().map(|instance| text(line(plan, instance), "mark")).collect()
}

fn upgrade(instance: &str) -> String {
    policy("grow", &[instance], "").replace("renew = { months = 1 }", "upgrade = { mem_size_mb = 2048 }")
}

fn rarely(policy: &str) -> String {
    policy.replace("* * * * * *", FAR_AWAY)
}

/// A service that has looked at everything, and has ended.
fn let_it_look(stage: &Stage) {
    let daemon = stage.start();
    harness::until("every instance was looked at", || {
        stage.list(&["instances"]).iter().all(|row| !row["observed_at"].is_null()).then_some(())
    });
    daemon.stop();
}

#[test]
fn what_is_planned_is_what_the_service_then_orders_and_nothing_else() {
    let stage = Stage::new();
    let due = ["crs-soon", "crs-lapsed"];
    stage.expires_in_days("crs-soon", 5);
    stage.expires_in_days("crs-lapsed", -1);
    stage.change("crs-lapsed", json!({ "state": "isolated" }));
    stage.expires_in_days("crs-later", 60);
    stage.expires_in_days("crs-auto", 5);
    stage.change("crs-auto", json!({ "auto_renew": true }));
    stage.expires_in_days("crs-dear", 5);
    stage.expires_in_days("crs-small", 100);
    let months = policy("month", &["crs-soon", "crs-lapsed", "crs-later", "crs-auto"], "");
    let capped = policy("capped", &["crs-dear"], "max_price_cny = 50");
    stage.write_policies(&[months, capped, upgrade("crs-small")].concat());

    let planned = plan(&stage);
    let untouched = ["crs-later", "crs-auto", "crs-dear"];
    assert_eq!(marks(&planned, &due), ["renew", "renew"]);
    assert_eq!(marks(&planned, &untouched), ["skip", "skip", "blocked"]);
    assert_eq!(marks(&planned, &["crs-small"]), ["upgrade"]);
    assert!(stage.cloud.ledger().is_empty() && !stage.database().exists(), "a plan leaves nothing behind");

    let daemon = stage.start();
    for instance in ["crs-soon", "crs-lapsed", "crs-small"] {
        stage.until_order(instance, "confirmed");
    }
    stage.until_run("crs-dear", "failed");
    let seen_meanwhile = plan(&stage);
    assert_eq!(seen_meanwhile["service_running"], true);
    assert_eq!(seen_meanwhile["is_in_force"], true);
    assert_eq!(marks(&seen_meanwhile, &["crs-soon", "crs-lapsed", "crs-small"]), ["skip", "skip", "skip"]);
    daemon.stop();

    stage.assert_agreement();
    let ledger = serde_json::to_value(stage.cloud.ledger()).unwrap();
    let charges = ledger.as_array().unwrap();
    assert_eq!(charges.len(), 3, "{ledger:#}");
    for charge in charges {
        let planned = line(&planned, text(charge, "instance"));
        assert_eq!(planned["action"], charge["action"]);
        assert_eq!(planned["months"], charge["months"]);
        assert_eq!(planned["price_cny"], charge["amount_cny"]);
        for time in ["expiry_before", "expiry_after"] {
            assert_eq!(instant(&planned[time]), instant(&charge[time]), "{time} of {planned:#}");
        }
    }
    let due = planned["totals"]["amount_cny"].as_f64().unwrap();
    let charged: f64 = charges.iter().map(|charge| charge["amount_cny"].as_f64().unwrap()).sum();
    assert!((due - charged).abs() < 0.001, "{due} and {charged}");
}

#[test]
fn a_plan_writes_nothing_and_takes_nothing_from_the_service() {
    let stage = Stage::new();
    stage.expires_in_days("crs-1", 5);
    stage.write_policies(&rarely(&policy("month", &["crs-1"], "")));
    let_it_look(&stage);
    let database = fs::read(stage.database()).unwrap();
    let files = || {
        fs::read_dir(stage.folder()).unwrap().map(|file| file.unwrap().file_name()).collect::<BTreeSet<_>>()
    };
    let before = files();
    plan(&stage);
    plan_of(&stage, &["--offline"]);
    assert_eq!((fs::read(stage.database()).unwrap(), files()), (database, before));
}

#[test]
fn firings_that_were_missed_are_planned_as_the_service_then_makes_up_for_them() {
    let stage = Stage::new();
    stage.expires_in_days("crs-late", 5);
    stage.change("crs-late", json!({ "auto_renew": true }));
    stage.write_policies(&policy("month", &["crs-late"], ""));
    let daemon = stage.start();
    stage.until_run("crs-late", "skipped");
    daemon.stop();
    stage.change("crs-late", json!({ "auto_renew": false }));
    let planned = harness::until("a firing was missed", || {
        let planned = plan(&stage);
        (line(&planned, "crs-late")["origin"] == "catch_up").then_some(planned)
    });
    let late = line(&planned, "crs-late");
    assert_eq!((text(late, "mark"), &late["due_at"]), ("renew", &planned["at"]), "{late:#}");
    assert!(
        late["missed_count"].as_u64() > Some(0) && text(late, "reason").contains("missed firing"),
        "{late:#}"
    );

    let daemon = stage.start();
    let order = stage.until_order("crs-late", "confirmed");
    daemon.stop();
    let runs = stage.runs_of("crs-late");
    let run = runs.iter().find(|run| run["id"] == order["run_id"]).unwrap();
    assert_eq!(run["origin"], "catch_up");
}

#[test]
fn with_a_wrong_key_everything_due_is_blocked_and_what_was_seen_before_still_tells_what_is_not() {
    let stage = Stage::new();
    stage.expires_in_days("crs-due", 5);
    stage.expires_in_days("crs-later", 900);
    stage.write_policies(&rarely(&policy("month", &["crs-due", "crs-later"], "")));
    let_it_look(&stage);
    stage.write_secret("another-secret");
    let (planned, code) = plan_of(&stage, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(marks(&planned, &["crs-due", "crs-later"]), ["blocked", "skip"]);
    let due = line(&planned, "crs-due");
    assert!(text(due, "reason").contains("the key of account shop is refused"), "{due:#}");
    assert_eq!(due["error"]["class"], "credential");
    assert!(!due["observed_at"].is_null(), "the earlier look is still shown");
    let warning = planned["accounts"][0]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("2 instances of redis in ap-guangzhou could not be looked at"), "{warning}");

    let words = stage.renewd(&["plan"]);
    let words = String::from_utf8_lossy(&words.stdout).into_owned();
    assert!(words.contains(&format!("  warning: {warning}\n")), "{words}");
    assert!(words.contains("balance          not readable: AuthFailure"), "{words}");
}

#[test]
fn without_a_right_to_prices_only_what_depends_on_them_is_blocked() {
    let stage = Stage::new();
    stage.expires_in_days("crs-free", 5);
    stage.expires_in_days("crs-capped", 5);
    let capped = policy("capped", &["crs-capped"], "max_price_cny = 500");
    stage.write_policies(&[policy("month", &["crs-free"], ""), capped].concat());
    let refused = Spoilt::Code("UnauthorizedOperation".to_owned());
    let fault = Fault::spoil("redis:InquiryPriceRenewInstance", Effect::Before, refused);
    stage.cloud.inject(vec![fault.times(1000)]);
    let planned = plan(&stage);
    assert_eq!(marks(&planned, &["crs-free", "crs-capped"]), ["renew", "blocked"]);
    assert!(text(line(&planned, "crs-capped"), "reason").contains("the price cannot be read"));
    assert_eq!(planned["totals"]["unpriced"], planned["totals"]["orders"]);
    let warning = planned["accounts"][0]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("the price of 2 orders could not be asked: UnauthorizedOperation"), "{warning}");

    let output = stage.renewd(&["check", "--online"]);
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(report.contains("redis:InquiryPriceRenewInstance  NOT ALLOWED"), "{report}");
    assert!(report.contains("help: grant redis:InquiryPriceRenewInstance to the key"), "{report}");
}

#[test]
fn with_the_cloud_down_a_plan_goes_by_the_last_looks_and_says_so() {
    let stage = Stage::new();
    stage.expires_in_days("crs-due", 5);
    stage.expires_in_days("crs-auto", 5);
    stage.change("crs-auto", json!({ "auto_renew": true }));
    let first = policy("month", &["crs-due", "crs-auto"], "");
    stage.write_policies(&rarely(&first));
    let_it_look(&stage);
    let unknown = policy("new", &["crs-new"], "");
    stage.write_policies(&[first, unknown].concat());
    harness::write_settings(stage.folder(), "http://127.0.0.1:1", &Settings::default());
    let (planned, code) = plan_of(&stage, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(marks(&planned, &["crs-due", "crs-auto", "crs-new"]), ["renew", "skip", "blocked"]);
    assert!(text(line(&planned, "crs-new"), "reason").contains("could not be looked at, and never was"));
    let account = &planned["accounts"][0];
    let warning = account["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("3 instances") && warning.contains("2 of them go by earlier looks"),
        "{warning}"
    );
    assert_eq!(account["balance_error"]["class"], "unsent");
    assert_eq!(account["unpriced"], account["orders"]);

    let output = stage.renewd(&["check", "--online"]);
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(report.contains("KEY NOT TRIED") && report.contains("cannot be reached from here"), "{report}");
    assert!(report.ends_with("3 could not be looked at; 1 error, 0 warnings\n"), "{report}");
}

#[test]
fn a_budget_that_is_reached_blocks_what_it_leaves_no_room_for() {
    let account = "[account.shop.budget]\norders_per_day = 3\ncny_per_day = 250\n";
    let stage = Stage::with(&Settings { account, ..Settings::default() });
    let instances = ["crs-1", "crs-2", "crs-3", "crs-4"];
    for (days, instance) in instances.iter().enumerate() {
        stage.expires_in_days(instance, i64::try_from(days).unwrap() + 2);
    }
    stage.change("crs-4", json!({ "price_cny_per_month": 1 }));
    stage.write_policies(&policy("month", &instances, ""));
    let planned = plan(&stage);
    // Two for 100 each, no third of that price; a cheap one still fits.
    assert_eq!(marks(&planned, &instances), ["renew", "renew", "blocked", "renew"]);
    let blocked = line(&planned, "crs-3");
    assert!(text(blocked, "reason").contains("cny_per_day would be exceeded"), "{blocked:#}");
    assert_eq!(blocked["error"]["code"], "CnyPerDay");
    assert!(instant(&blocked["turn_comes_at"]) > instant(&blocked["due_at"]));
    let account = &planned["accounts"][0];
    assert_eq!(account["cny_per_day"]["limit"], 250.0);
    assert_eq!(account["cny_per_day"]["most"], 201.0);
    assert_eq!(
        (&account["orders_per_day"]["limit"], &account["orders_per_day"]["most"]),
        (&json!(3), &json!(3))
    );
}

#[test]
fn a_pause_blocks_what_it_reaches_until_it_ends() {
    let stage = Stage::new();
    stage.expires_in_days("crs-1", 5);
    stage.expires_in_days("crs-2", 5);
    let both = [policy("one", &["crs-1"], ""), policy("two", &["crs-2"], "")].concat();
    stage.write_policies(&rarely(&both));
    let_it_look(&stage);
    stage.ok(&["pause", "--policy", "one", "--note", "by hand this year"]);
    let planned = plan(&stage);
    assert_eq!(marks(&planned, &["crs-1", "crs-2"]), ["blocked", "renew"]);
    assert!(text(line(&planned, "crs-1"), "reason").ends_with("pause set by operator: by hand this year"));
    stage.ok(&["resume", "--policy", "one"]);
    stage.ok(&["pause", "--until", "1h"]);
    assert_eq!(marks(&plan(&stage), &["crs-1", "crs-2"]), ["renew", "renew"], "it ends before the firing");
}

#[test]
fn an_order_on_its_way_is_not_planned_again() {
    let stage = Stage::new();
    stage.expires_in_days("crs-1", 5);
    let lost = Fault::spoil("redis:RenewInstance", Effect::Before, Spoilt::Drop);
    stage.cloud.inject(vec![lost]);
    let settings = stage.folder().join("renewd.toml");
    let patient =
        fs::read_to_string(&settings).unwrap().replace("settle_seconds = 3", "settle_seconds = 21600");
    fs::write(&settings, patient).unwrap();
    stage.write_policies(&policy("month", &["crs-1"], ""));
    let daemon = stage.start();
    stage.until_order("crs-1", "unknown");
    let planned = plan(&stage);
    daemon.stop();
    let line = line(&planned, "crs-1");
    assert_eq!(line["mark"], "blocked");
    let reason = text(line, "reason");
    assert!(
        reason.contains("order row 1 of this very cycle") && reason.contains("nobody can say yet"),
        "{reason}"
    );
    assert_eq!(planned["totals"]["orders"], 0);
}

#[test]
fn what_was_just_ordered_by_hand_is_planned_for_the_first_firing_that_is_far_enough_away() {
    let stage = Stage::new();
    stage.expires_in_days("crs-1", 5);
    let each_month = policy("report", &["crs-1"], "").replace("months = 1", "months = 1, every_fire = true");
    stage.write_policies(&each_month.replace("* * * * * *", "0 0 1 * *"));
    let daemon = stage.start();
    stage.ok(&["trigger", "report"]);
    let order = stage.until_order("crs-1", "confirmed");
    daemon.stop();
    let (planned, _) = plan_of(&stage, &["--days", "60"]);
    let line = line(&planned, "crs-1");
    assert_eq!(line["mark"], "renew", "{line:#}");
    let apart = instant(&line["due_at"]).duration_since(instant(&order["sent_at"]));
    assert!(apart.as_hours() >= 14 * 24, "half the interval of its schedule: {line:#}");
}

#[test]
fn fifteen_hundred_redis_are_looked_at_in_two_calls() {
    let stage = Stage::new();
    let names: Vec<String> = (1..=1500).map(|number| format!("crs-fleet-{number}")).collect();
    for name in &names {
        stage.expires_in_days(name, 90);
    }
    stage.expires_in_days("crs-fleet-7", 3);
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.write_policies(&policy("fleet", &ids, ""));
    let planned = plan(&stage);
    assert_eq!(lines(&planned).len(), 1500);
    assert_eq!((&planned["totals"]["renew"], &planned["totals"]["skip"]), (&json!(1), &json!(1499)));
    let calls = serde_json::to_value(stage.cloud.requests()).unwrap();
    assert_eq!(calls["redis:DescribeInstances"]["total"], 2, "{calls:#}");
    assert_eq!(calls["redis:InquiryPriceRenewInstance"]["total"], 1, "{calls:#}");
}

#[test]
fn an_id_that_the_cloud_refuses_to_speak_of_hides_no_other() {
    let stage = Stage::with(&Settings { max_delay_seconds: 3600, ..Settings::default() });
    let ids = ["crs-1", "crs-2", "crs-odd", "crs-3"];
    for id in ids {
        stage.expires_in_days(id, 5);
    }
    let odd = Spoilt::Code("InvalidParameterValue.InvalidInstanceId".to_owned());
    stage
        .cloud
        .inject(vec![Fault::spoil("redis:DescribeInstances", Effect::Before, odd).on("crs-odd").times(9)]);
    stage.write_policies(&rarely(&policy("month", &ids, "")));
    let (planned, code) = plan_of(&stage, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(marks(&planned, &ids), ["renew", "renew", "blocked", "renew"]);
    assert_eq!(line(&planned, "crs-odd")["look_error"]["code"], "InvalidParameterValue.InvalidInstanceId");

    let daemon = stage.start();
    stage.ok(&["trigger", "month"]);
    for id in ["crs-1", "crs-2", "crs-3"] {
        stage.until_order(id, "confirmed");
    }
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn a_refused_set_is_told_as_check_tells_it() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-1"], "").replace("months = 1", "months = 13"));
    for arguments in [["plan", "--json"], ["plan", "--offline"]] {
        let [plan, check] = [stage.renewd(&arguments), stage.renewd(&["check", "--json"])];
        assert_eq!(plan.status.code(), Some(78));
        assert_eq!(stderr(&plan), stderr(&check));
        assert_eq!(plan.stdout.is_empty(), arguments[1] == "--offline");
    }
}

#[test]
fn check_online_tells_of_a_wrong_key_and_of_a_clock_that_is_off() {
    let stage = Stage::with_clock(&Settings::default(), std::sync::Arc::new(renewd_clock_ahead()));
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let check = |stage: &Stage| {
        let output = stage.renewd(&["check", "--online", "--json"]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let report = check(&stage);
    let account = &report["accounts"][0];
    assert_eq!((text(account, "key"), &account["findings"][0]["code"]), ("accepted", &json!("ClockSkewed")));
    assert!(account["clock_skew_seconds"].as_i64() > Some(100), "{account:#}");
    assert_eq!(report["instances"][0]["findings"], json!([]), "the clock is the account's matter");

    stage.write_secret("another-secret");
    let report = check(&stage);
    assert_eq!(report["accounts"][0]["key"], "refused");
    assert_eq!(
        report["accounts"][0]["rights"],
        json!([]),
        "a key that is refused says nothing of its rights"
    );
    assert_eq!(report["instances"][0]["error"]["class"], "credential");
}

/// Two minutes ahead: a signature still passes, orders would be held.
fn renewd_clock_ahead() -> renewd::clock::ManualClock {
    let ahead = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(120);
    renewd::clock::ManualClock::new(ahead)
}

/// Shells let what they start in the background ignore interrupts, and so whatever the tests start there.
fn minding_interrupts(command: &Command) -> Command {
    let mut minding = Command::new("/usr/bin/env");
    minding
        .arg("--default-signal=INT")
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    minding
}

#[test]
fn an_interrupt_ends_it_at_once() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let stall = Spoilt::Stall(Duration::from_secs(60));
    stage.cloud.inject(vec![Fault::spoil("redis:DescribeInstances", Effect::Before, stall).times(9)]);
    for arguments in [&["plan"][..], &["check", "--online"]] {
        let asked = || stage.cloud.requests().get("redis:DescribeInstances").map_or(0, |count| count.total);
        let before = asked();
        let mut command = Daemon::spawn(minding_interrupts(&harness::command(stage.folder(), arguments)));
        harness::until("the cloud is asked", || (asked() > before).then_some(()));
        let told = Instant::now();
        command.signal(Signal::INT);
        let ended = command.until_end();
        assert_eq!(ended.code(), None, "it does not linger to tidy up:\n{}", command.lines().join("\n"));
        assert!(told.elapsed() < Duration::from_secs(5));
    }
}
