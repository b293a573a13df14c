//! `renewd.toml` edited while the service works: what it takes at once, and what it leaves to a restart.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::harness::{
    Daemon, Settings, Stage, command, instant, most_sent_in_a_second, policy, stderr, text, until,
};
use crate::nobody;

fn fleet(stage: &Stage, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|number| format!("crs-fleet-{number}")).collect();
    stage.expire_in_days(&ids, 5);
    ids
}

fn fleet_policy(ids: &[String]) -> String {
    policy("fleet", &ids.iter().map(String::as_str).collect::<Vec<_>>(), "")
}

/// Waits for the reload that the edit brings, nobody asking for it.
fn edit(stage: &Stage, daemon: &Daemon, from: &str, to: &str) -> Value {
    let edit = || {
        stage.edit_settings(|text| {
            assert!(text.contains(from), "{from} is not in {text}");
            text.replace(from, to)
        });
    };
    daemon.after(edit, "config.reloaded")
}

#[test]
fn a_budget_that_is_lowered_stops_orders_at_once_and_one_that_is_raised_lets_them_go_on_at_once() {
    let account =
        "[account.shop.rate]\n\"redis:RenewInstance\" = 3\n[account.shop.budget]\norders_per_day = 100";
    // What a budget withholds would be looked at again after ten minutes only.
    let stage = Stage::with(&Settings { account, max_delay_seconds: 600, ..Settings::default() });
    let ids = fleet(&stage, 12);
    stage.write_policies(&fleet_policy(&ids));
    let daemon = stage.start();
    until("some are ordered", || (stage.cloud.ledger().len() >= 3).then_some(()));

    let reloaded = edit(&stage, &daemon, "orders_per_day = 100", "orders_per_day = 2");
    assert_eq!(reloaded["settings"], "account.shop.budget.orders_per_day");
    assert!(
        text(&reloaded, "message").contains("account.shop.budget.orders_per_day 100 → 2"),
        "{reloaded:#}"
    );
    let ordered = stage.orders().len();
    assert!(ordered < ids.len(), "{ordered} were ordered before the edit was noticed");
    let told = daemon.until_event_that("run.waiting", |event| event["code"] == "OrdersPerDay");
    assert!(text(&told, "message").contains("budget of 2 orders a day"), "{told:#}");
    until("all others wait", || {
        let waiting = stage.list(&["runs", "--state", "waiting"]);
        let withheld = waiting.iter().filter(|run| run["error"]["code"] == "OrdersPerDay").count();
        (withheld == ids.len() - ordered).then_some(())
    });
    assert_eq!(stage.orders().len(), ordered);

    edit(&stage, &daemon, "orders_per_day = 2", "orders_per_day = 50");
    ids.iter().for_each(|id| drop(stage.until_order(id, "confirmed")));
    let withheld =
        daemon.events("run.waiting").iter().filter(|event| event["code"] == "OrdersPerDay").count();
    assert_eq!(withheld, 1, "told once of all of them");
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn a_pace_that_is_lowered_is_kept_from_then_on_and_one_that_is_raised_is_used() {
    let account =
        "[account.shop.rate]\n\"redis:RenewInstance\" = 10\n[account.shop.budget]\norders_per_day = 1000";
    let stage = Stage::with(&Settings { account, ..Settings::default() });
    let ids = fleet(&stage, 60);
    stage.write_policies(&fleet_policy(&ids).replace("* * * * * *", "*/2 * * * * *"));
    let daemon = stage.start();
    until("orders go out", || (stage.cloud.ledger().len() >= 10).then_some(()));

    let lowered = edit(&stage, &daemon, "RenewInstance\" = 10", "RenewInstance\" = 2");
    assert!(text(&lowered, "message").contains("\"redis:RenewInstance\" 10 → 2"), "{lowered:#}");
    // What had its permit by then may still leave.
    let since = instant(&lowered["timestamp"]) + SignedDuration::from_secs(1);
    let sent_after = |at: Timestamp| {
        let orders = stage.orders().into_iter();
        orders
            .filter(|order| order["sent_at"].is_string() && instant(&order["sent_at"]) >= at)
            .collect::<Vec<_>>()
    };
    until("orders go on", || (sent_after(since).len() >= 8).then_some(()));
    let slow = sent_after(since);
    let (first, last) = slow
        .iter()
        .map(|order| instant(&order["sent_at"]))
        .fold((Timestamp::MAX, Timestamp::MIN), |(first, last), at| (first.min(at), last.max(at)));
    assert!(most_sent_in_a_second(&slow) <= 2, "{slow:#?}");
    assert!(last.duration_since(first) >= SignedDuration::from_millis(2_900), "eight at two a second");

    let raised = instant(&edit(&stage, &daemon, "RenewInstance\" = 2", "RenewInstance\" = 15")["timestamp"]);
    ids.iter().for_each(|id| drop(stage.until_order(id, "confirmed")));
    let quick = sent_after(raised);
    assert!(most_sent_in_a_second(&quick) > 4, "the raised pace is used: {quick:#?}");
    daemon.stop();
    stage.assert_agreement();
    assert!(most_sent_in_a_second(&stage.orders()) <= 15);
}

#[test]
fn the_log_level_follows_the_file() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    const LOUD: &str = "level = \"info,hyper_util=debug\"";
    let is_debug = |line: &String| line.contains("\"level\":\"DEBUG\"");
    let reloaded = edit(&stage, &daemon, "level = \"info\"", LOUD);
    assert_eq!(reloaded["settings"], "log.level");
    // Each order has a connection of its own.
    stage.expires_in_days("crs-sandbox-1", 5);
    until("libraries are heard", || daemon.lines().iter().any(is_debug).then_some(()));

    edit(&stage, &daemon, LOUD, "level = \"warn\"");
    let lines = daemon.lines().len();
    // At warn nothing is left to say of good edits: only a bad one is heard.
    stage.edit_settings(|text| text.replace("[retry]", "[rety]"));
    daemon.until_event("config.refused");
    let later = daemon.lines().split_off(lines);
    assert!(later.iter().all(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")), "{later:#?}");
    daemon.stop();
}

#[test]
fn a_main_file_that_breaks_changes_nothing_and_status_says_so_until_it_is_repaired() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    assert_eq!(stage.status()["settings"]["is_on_disk"], true);

    let breaks = || stage.edit_settings(|text| text.replace("[retry]", "[rety]"));
    let refused = daemon.after(breaks, "config.refused");
    assert_eq!(refused["level"], "ERROR");
    assert!(text(&refused, "message").contains("renewd.toml:"), "{refused:#}");
    // A good edit of the policies beside it is not taken either.
    stage.write_policies(&policy("week", &["crs-sandbox-1"], ""));
    daemon.reload("config.refused");
    assert_eq!(stage.list(&["policies"])[0]["policy"], "month", "all stays as it runs");
    assert!(daemon.events("config.reloaded").is_empty());
    let status = stage.status();
    assert_eq!(
        (&status["settings"]["is_on_disk"], &status["policies"]["is_on_disk"]),
        (&false.into(), &Value::Null)
    );
    assert!(text(&status["policies"], "refused").contains("renewd.toml:"), "{status:#}");
    assert_eq!(status["settings"]["is_refused"], true);
    // A foreign letter in a comment leaves no doubt which database is meant: orders can be stopped.
    let path = stage.folder().join("renewd.toml");
    let broken = fs::read(&path).unwrap();
    fs::write(&path, [&broken[..], b"# caf\xe9\n"].concat()).unwrap();
    assert!(stage.ok(&["status"]).contains("the file on disk is REFUSED"), "{}", stage.ok(&["status"]));
    stage.ok(&["pause"]);
    stage.ok(&["resume"]);
    fs::write(&path, broken).unwrap();

    let repaired = edit(&stage, &daemon, "[rety]", "[retry]");
    assert_eq!((&repaired["added"], &repaired["retired"]), (&"week".into(), &"month".into()));
    let status = stage.status();
    assert_eq!(
        (&status["settings"]["is_on_disk"], &status["policies"]["is_on_disk"]),
        (&true.into(), &true.into())
    );
    assert_eq!(status["policies"]["refused"], Value::Null);
    daemon.stop();
}

#[test]
fn what_takes_a_restart_is_named_and_waits_for_it_while_the_rest_is_taken() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    let original = fs::read_to_string(stage.folder().join("renewd.toml")).unwrap();

    let edited = || {
        stage.edit_settings(|text| {
            text.replace(
                "[log]\nformat = \"json\"",
                "[http]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"text\"",
            )
            .replace("settle_seconds = 3", "settle_seconds = 4")
        });
    };
    let reloaded = daemon.after(edited, "config.reloaded");
    assert_eq!(reloaded["settings"], "retry.settle_seconds", "lines are still JSON: {reloaded:#}");
    let warned = daemon.until_event("config.needs_restart");
    assert_eq!((&warned["level"], &warned["settings"]), (&"WARN".into(), &"http.listen, log.format".into()));
    assert!(text(&warned, "message").contains("log.format json → text"), "{warned:#}");
    let status = stage.status();
    assert_eq!(status["settings"]["is_on_disk"], true);
    assert_eq!(status["settings"]["needs_restart"], serde_json::json!(["http.listen", "log.format"]));
    assert!(
        stage.ok(&["status"]).contains("`systemctl restart renewd` is needed for http.listen, log.format")
    );

    let back = daemon.after(|| stage.edit_settings(|_| original.clone()), "config.reloaded");
    assert_eq!(back["settings"], "retry.settle_seconds");
    assert_eq!(daemon.events("config.needs_restart").len(), 1, "nothing is left to a restart any more");
    assert_eq!(stage.status()["settings"]["needs_restart"], serde_json::json!([]));

    // Another database is none to go over to while orders are open in this one.
    stage.edit_settings(|text| text.replace("database = \"renewd.db\"", "database = \"other.db\""));
    daemon.until_event_that("config.needs_restart", |event| event["settings"] == "database");
    // Nor for a command that would only seem to stop orders.
    for command in ["pause", "resume", "status"] {
        let output = stage.renewd(&[command]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(stderr(&output).contains("not on the database"), "{}", stderr(&output));
    }
    assert!(!stage.folder().join("other.db").exists());
    // A file that cannot be read for certain is as good as one that names another.
    stage.edit_settings(|_| original.replace("database = \"renewd.db\"", "database: \"renewd.db\""));
    let output = stage.renewd(&["pause"]);
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    stage.edit_settings(|_| original);
    stage.ok(&["pause"]);
    stage.ok(&["resume"]);
    daemon.stop();
    stage.start().stop();
    assert_eq!(stage.status()["settings"]["needs_restart"], serde_json::json!([]));
}

#[test]
fn the_zone_of_the_main_file_moves_the_policies_that_name_none_and_their_folder_may_be_another() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    let early = policy("early", &["crs-sandbox-1"], "").replace("* * * * * *", "0 3 * * *");
    let fixed = policy("fixed", &["crs-sandbox-2"], "timezone = \"UTC\"").replace("* * * * * *", "0 3 * * *");
    stage.write_policies(&(early + &fixed));
    let daemon = stage.start();
    let zone = || stage.edit_settings(|text| format!("timezone = \"Asia/Shanghai\"\n{text}"));
    let reloaded = daemon.after(zone, "config.reloaded");
    assert_eq!((&reloaded["settings"], &reloaded["changed"]), (&"timezone".into(), &"early".into()));
    let moved = daemon.until_event_that("config.policy", |event| event["change"] == "changed");
    let hour = |at: &Value| instant(at).to_zoned(jiff::tz::TimeZone::UTC).hour();
    assert_eq!((hour(&moved["next_due_before"]), hour(&moved["next_due_at"])), (3, 19));

    fs::create_dir(stage.folder().join("other.d")).unwrap();
    fs::write(stage.folder().join("other.d/a.toml"), policy("other", &["crs-sandbox-1"], "")).unwrap();
    let reloaded = edit(&stage, &daemon, "\"policies.d\"", "\"other.d\"");
    assert_eq!((&reloaded["added"], &reloaded["retired"]), (&"other".into(), &"early, fixed".into()));
    // The new folder is watched, the old one is not.
    stage.write_policies("[broken");
    let more = policy("more", &["crs-sandbox-2"], "");
    let write = || fs::write(stage.folder().join("other.d/b.toml"), more).unwrap();
    assert_eq!(daemon.after(write, "config.reloaded")["added"], "more");
    assert!(daemon.events("config.refused").is_empty());
    daemon.stop();
}

#[test]
fn where_the_system_does_not_tell_of_edits_that_is_said_once_and_the_files_are_looked_at() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let built = command(stage.folder(), &["run"]);
    let nobodys;
    let run = if rustix::process::getuid().is_root() {
        let owner = format!("{0}:{0}", nobody::NOBODY);
        assert!(Command::new("chown").arg("-R").arg(owner).arg(stage.folder()).status().unwrap().success());
        nobodys = nobody::of_nobody(&built);
        nobodys.command
    } else {
        built
    };
    // Who may not list a folder may not watch it either.
    let mode = |mode| fs::set_permissions(stage.folder(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o311);
    let daemon = Daemon::spawn(run);
    daemon.until_event("service.ready");
    let warned = daemon.until_event("config.unwatched");
    assert_eq!(warned["level"], "WARN");
    assert!(text(&warned, "message").contains("every 10 s"), "{warned:#}");

    let reloaded = edit(&stage, &daemon, "settle_seconds = 3", "settle_seconds = 4");
    assert_eq!(reloaded["settings"], "retry.settle_seconds", "without a signal");
    assert_eq!(daemon.events("config.unwatched").len(), 1);
    daemon.stop();
    mode(0o755);
}
