//! What people do through commands: pause, resume, resolve.

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::Value;

use crate::harness::{Daemon, Stage, policy, stderr, text, until};

#[test]
fn while_everything_an_account_or_a_policy_is_paused_nothing_is_ordered_and_resume_lets_it_go() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-9", 200);
    let idle = policy("idle", &["crs-sandbox-9"], "");
    stage.write_policies(&idle);
    let daemon = stage.start();

    for (instance, scope, words) in [
        ("crs-sandbox-1", &[][..], "everything is paused"),
        ("crs-sandbox-2", &["--account", "shop"], "account shop is paused"),
    ] {
        stage.ok(&[&["pause", "--note", "moving house"], scope].concat());
        stage.write_policies(&[idle.clone(), policy("month", &[instance], "")].concat());
        daemon.reload("config.reloaded");
        let run = stage.until_run(instance, "waiting");
        assert!(text(&run, "reason").contains(words), "{run:#}");
        assert!(text(&run, "reason").contains("moving house"), "{run:#}");
        assert_eq!(stage.charges_of(instance), 0);
        stage.ok(&[&["resume"], scope].concat());
        stage.until_order(instance, "confirmed");
    }

    stage.ok(&["pause", "--account", "shop"]);
    stage.write_policies(&[idle, policy("narrow", &["crs-sandbox-3"], "")].concat());
    daemon.reload("config.reloaded");
    stage.ok(&["pause", "--policy", "narrow"]);
    stage.ok(&["resume", "--account", "shop"]);
    until("the policy's own pause holds it", || {
        let runs = stage.runs_of("crs-sandbox-3");
        runs.iter()
            .any(|run| run["state"] == "waiting" && text(run, "reason").contains("paused: person pause"))
            .then_some(())
    });
    assert_eq!(stage.charges_of("crs-sandbox-3"), 0);
    stage.ok(&["resume", "--policy", "narrow"]);
    stage.until_order("crs-sandbox-3", "confirmed");

    for (event, level) in [("account.paused", "WARN"), ("account.resumed", "INFO")] {
        until("each act is logged", || (daemon.events(event).len() == 4).then_some(()));
        assert!(
            daemon.events(event).iter().all(|event| event["level"] == level && event["person"] == "operator")
        );
        let fields = |name: &str| daemon.events(event).iter().filter(|event| event[name].is_string()).count();
        assert!(fields("account") > 0 && fields("policy") > 0, "{:#?}", daemon.events(event));
        assert!(
            daemon.events(event).iter().all(|event| event["account"].is_null() || event["account"] == "shop")
        );
    }
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn an_instance_near_its_expiry_behind_a_pause_is_at_risk_and_the_pause_is_named_as_the_cause() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-9", 200);
    stage.write_policies(&policy("idle", &["crs-sandbox-9"], ""));
    stage.start().stop();
    stage.ok(&["pause", "--account", "shop", "--note", "moving house"]);
    stage.expires_in_days("crs-sandbox-1", 2);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let mut daemon = stage.start();
    stage.until_run("crs-sandbox-1", "waiting");
    until("a later firing is skipped for the elder one", || {
        stage.runs_of("crs-sandbox-1").iter().any(|run| run["state"] == "skipped").then_some(())
    });
    // The minute's look comes with the start, unless a minute has just begun.
    daemon.signal(rustix::process::Signal::TERM);
    daemon.until_end();
    let early = daemon.events("instance.at_risk").into_iter().next();
    daemon = stage.start();

    let risk = early.unwrap_or_else(|| daemon.until_event("instance.at_risk"));

    let said = text(&risk, "message");
    assert!(said.contains("account shop is paused by operator (moving house)"), "{said}");
    assert!(said.contains("`renewd resume --account shop`"), "{said}");
    assert_eq!(stage.status()["at_risk"][0]["instance"], "crs-sandbox-1");
    stage.ok(&["resume"]);
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn a_pause_set_while_the_service_is_down_holds_from_its_first_moment_on() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    stage.start().stop();
    stage.ok(&["pause"]);
    assert_eq!(stage.status()["paused"][0]["scope"], "all");
    stage.write_policies(&policy("month", &["crs-sandbox-2"], ""));

    let daemon = stage.start();
    daemon.until_event("account.paused");
    let run = stage.until_run("crs-sandbox-2", "waiting");
    assert!(text(&run, "reason").contains("everything is paused"), "{run:#}");
    daemon.stop();
    assert!(stage.orders().is_empty());
    stage.ok(&["resume"]);

    let daemon = stage.start();
    stage.until_order("crs-sandbox-2", "confirmed");
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn a_pause_ends_by_itself_at_its_time() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    stage.start().stop();
    stage.ok(&["pause", "--until", "4s"]);
    let paused: jiff::Timestamp = crate::harness::instant(&stage.status()["paused"][0]["until"]);
    stage.write_policies(&policy("month", &["crs-sandbox-2"], ""));
    let daemon = stage.start();
    let order = stage.until_order("crs-sandbox-2", "confirmed");
    let logged = daemon.until_event("account.paused");
    assert_eq!(crate::harness::instant(&logged["until"]), paused, "{logged:#}");
    daemon.stop();
    assert!(crate::harness::instant(&order["sent_at"]) >= paused, "{order:#}");
    stage.assert_agreement();
}

#[test]
fn a_name_that_nothing_has_pauses_nothing() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    stage.start().stop();
    for arguments in
        [["pause", "--account", "shpo"], ["pause", "--policy", "mnoth"], ["resume", "--policy", "mnoth"]]
    {
        let output = stage.renewd(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(arguments[2]), "{}", stderr(&output));
    }
    assert_eq!(stage.status()["paused"].as_array().map(Vec::len), Some(0));
}

/// A stage with an order that was cut off before the charge, and an order list that may not be read: only a
/// person can tell what became of it.
fn stage_with_an_unknown_order(months: &str) -> (Stage, Daemon, i64) {
    let stage = Stage::new();
    let forbidden = Spoilt::Code("UnauthorizedOperation.CamNoAuth".to_owned());
    stage.cloud.inject(vec![
        Fault::spoil("redis:RenewInstance", Effect::Before, Spoilt::Drop),
        Fault::spoil("billing:DescribeDealsByCond", Effect::Before, forbidden).times(1000),
    ]);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], "").replace("months = 1 ", months));
    let daemon = stage.start();
    let asked = daemon.until_event_that("order.unknown", |event| event["level"] == "ERROR");
    let row = asked["order_row"].as_i64().unwrap();
    assert!(text(&asked, "message").contains(&format!("renewd resolve {row}")), "{asked:#}");
    assert_eq!(stage.status()["unknown_orders"], 1);
    assert_eq!(stage.until_run("crs-sandbox-1", "unknown")["id"], stage.orders()[0]["run_id"]);
    (stage, daemon, row)
}

#[test]
fn an_order_that_a_person_calls_paid_is_confirmed_with_the_number_and_settled_for_good() {
    let (stage, daemon, row) = stage_with_an_unknown_order("months = 1 ");
    let row = row.to_string();
    stage.ok(&["resolve", &row, "--paid", "20261121000123"]);
    let order = stage.orders().remove(0);
    assert_eq!((&order["state"], &order["order_id"]), (&"confirmed".into(), &"20261121000123".into()));
    assert_eq!(order["error"], Value::Null);
    let run = stage.until_run("crs-sandbox-1", "succeeded");
    assert_eq!(run["id"], order["run_id"]);
    assert!(text(&run, "reason").contains("operator"), "{run:#}");
    let said = daemon.until_event("order.resolved");
    assert_eq!(said["person"], "operator");

    for (arguments, words) in [
        (["resolve", row.as_str(), "--not-paid"], "is confirmed"),
        (["resolve", row.as_str(), "--paid"], "is confirmed"),
        (["resolve", "4711", "--paid"], "no order row 4711"),
    ] {
        let output = stage.renewd(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    // The instance is still due, and this term is paid for as far as anybody knows: a person has to look.
    let failed = stage.until_run("crs-sandbox-1", "failed");
    assert_eq!(failed["error"]["code"], "CyclePaid", "{failed:#}");
    daemon.stop();
    assert_eq!(stage.orders(), [order]);
    assert!(stage.cloud.ledger().is_empty());
}

#[test]
fn an_order_that_a_person_calls_not_paid_is_refused_and_made_anew() {
    let (stage, daemon, row) = stage_with_an_unknown_order("months = 1 ");
    stage.ok(&["resolve", &row.to_string(), "--not-paid"]);
    let order = stage.until_order("crs-sandbox-1", "confirmed");
    daemon.until_event("order.resolved");
    daemon.stop();
    let refused = stage.list(&["orders", "--state", "refused"]);
    assert_eq!(refused.len(), 1);
    assert_eq!((&refused[0]["id"], &refused[0]["error"]["code"]), (&row.into(), &"ResolvedNotPaid".into()));
    assert_eq!(order["run_id"], refused[0]["run_id"], "the same run, judged anew");
    stage.assert_agreement();
}

#[test]
fn not_paid_is_refused_while_the_expiry_says_otherwise_and_can_be_forced() {
    // Moved by more than a month, and by less than the year that was ordered: nobody's evidence.
    let (stage, daemon, row) = stage_with_an_unknown_order("months = 12 ");
    let moved = stage.expires_in_days("crs-sandbox-1", 40);
    until("the move is seen", || {
        let seen = stage.list(&["instances", "--instance", "crs-sandbox-1"]).remove(0);
        (crate::harness::instant(&seen["expires_at"]) == moved).then_some(())
    });
    let row = row.to_string();
    let output = stage.renewd(&["resolve", &row, "--not-paid"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("has moved"), "{}", stderr(&output));
    assert_eq!(stage.orders()[0]["state"], "unknown");

    stage.ok(&["resolve", &row, "--not-paid", "--force"]);
    assert_eq!(stage.orders()[0]["error"]["code"], "ResolvedNotPaid");
    let order = stage.orders().remove(0);
    until("its run is judged anew: the instance is not due any more", || {
        let runs = stage.runs_of("crs-sandbox-1");
        let run = runs.into_iter().find(|run| run["id"] == order["run_id"])?;
        (run["state"] == "skipped" && text(&run, "reason").contains("not due")).then_some(())
    });
    daemon.stop();
    assert_eq!(stage.orders().len(), 1);
    assert!(stage.cloud.ledger().is_empty());
}

#[test]
fn what_a_person_renews_behind_a_pause_is_not_ordered_when_the_pause_ends_however_soon() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-9", 200);
    let idle = policy("idle", &["crs-sandbox-9"], "");
    stage.write_policies(&idle);
    let daemon = stage.start();
    stage.ok(&["pause"]);
    stage.write_policies(&[idle, policy("month", &["crs-sandbox-1"], "")].concat());
    daemon.reload("config.reloaded");
    stage.until_run("crs-sandbox-1", "waiting");

    stage.expires_in_days("crs-sandbox-1", 35);
    stage.ok(&["resume"]);

    stage.until_run("crs-sandbox-1", "skipped");
    until("later firings are not due either", || {
        let runs = stage.runs_of("crs-sandbox-1");
        let is_not_due =
            |run: &&Value| run["reason"].as_str().is_some_and(|reason| reason.contains("not due"));
        (runs.iter().filter(is_not_due).count() > 1).then_some(())
    });
    daemon.stop();
    assert!(stage.cloud.ledger().is_empty());
}

#[test]
fn firings_of_every_fire_that_a_pause_held_up_are_made_up_for_once() {
    let stage = Stage::new();
    let every =
        |id: &str| policy("every", &[id], "").replace("{ months = 1 }", "{ months = 1, every_fire = true }");
    stage.expires_in_days("crs-sandbox-9", 200);
    stage.write_policies(&policy("idle", &["crs-sandbox-9"], ""));
    let daemon = stage.start();
    stage.ok(&["pause"]);
    stage.write_policies(&every("crs-sandbox-1").replace("* * * * * *", "*/2 * * * * *"));
    daemon.reload("config.reloaded");
    until("firings were held up", || (stage.runs_of("crs-sandbox-1").len() > 3).then_some(()));
    // No firing comes after the pause has ended.
    stage.write_policies(&every("crs-sandbox-1").replace("* * * * * *", "0 0 1 1 *"));
    daemon.reload("config.reloaded");

    stage.ok(&["resume"]);

    stage.until_order("crs-sandbox-1", "confirmed");
    until("nothing is under way", || {
        let runs = stage.runs_of("crs-sandbox-1");
        runs.iter().all(|run| run["finished_at"].is_string()).then_some(())
    });
    daemon.stop();
    assert_eq!(stage.charges_of("crs-sandbox-1"), 1);
    stage.assert_agreement();
}

#[test]
fn a_time_without_a_zone_is_one_of_the_configured_zone() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let path = stage.folder().join("renewd.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    // Fourteen hours ahead of UTC: what was created a moment ago lies before the next wall-clock hour there, and
    // half a day after the same words read in UTC.
    std::fs::write(&path, format!("timezone = \"Pacific/Kiritimati\"\n{settings}")).unwrap();
    let daemon = stage.start();
    stage.until_run("crs-sandbox-1", "skipped");
    daemon.stop();
    let there = jiff::tz::TimeZone::get("Pacific/Kiritimati").unwrap();
    let local = |hours: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        at.to_zoned(there.clone()).datetime().strftime("%Y-%m-%dT%H:%M:%S").to_string()
    };
    assert!(stage.list(&["runs", "--since", &local(1)]).is_empty(), "an hour from now, there");
    assert!(!stage.list(&["runs", "--since", &local(-1)]).is_empty(), "an hour ago, there");
    assert!(!stage.list(&["runs", "--since", "2h"]).is_empty());
    let paused = stage.ok(&["pause", "--until", &local(2)]);
    let until = stage.status()["paused"][0]["until"].as_str().unwrap().to_owned();
    assert!(until.ends_with(".000Z"), "one form of times everywhere: {until}");
    let shown = until
        .parse::<jiff::Timestamp>()
        .unwrap()
        .to_zoned(there)
        .strftime("%Y-%m-%d %H:%M:%S+14")
        .to_string();
    assert!(paused.contains(&shown), "{paused} {until}");
}
