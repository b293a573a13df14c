//! Policy files that change under the service, for better and for worse.

use serde_json::Value;

use crate::harness::{Stage, policy, stderr, text, until};

const BROKEN: &str = "[policy.month]\naccount = \"shop\"\nproduct = \"redsi\"\n";

#[test]
fn settings_refused_at_the_start_are_one_event_in_the_format_that_can_be_read_of_them() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let settings = std::fs::read_to_string(stage.folder().join("renewd.toml")).unwrap();
    let refused = |format: &str| {
        let wrong = settings.replace("level = \"info\"", "level = \"loud\"");
        stage.edit_settings(|_| wrong.replace("format = \"json\"", format));
        let output = stage.renewd(&["run"]);
        assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
        stderr(&output)
    };
    // To a pipe `auto` is JSON too, and a word that is no format is as good as none.
    for format in ["format = \"json\"", "format = \"auto\"", "format = \"yaml\"", ""] {
        let said = refused(format);
        let event: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
        assert_eq!((&event["event"], &event["level"]), (&"config.refused".into(), &"ERROR".into()), "{said}");
        let message = text(&event, "message");
        assert!(message.contains("renewd.toml") && message.contains("\"loud\""), "{message}");
        assert_eq!(event["mistakes"], if format.contains("yaml") { 2 } else { 1 });
    }
    let said = refused("format = \"text\"");
    assert!(said.contains("config.refused") && said.contains("\"loud\""), "{said}");
    assert!(!stage.database().exists() && stage.cloud.requests().is_empty());
}

#[test]
fn a_broken_set_with_none_ever_accepted_ends_with_78_and_makes_no_database() {
    let stage = Stage::new();
    stage.write_policies(BROKEN);
    let output = stage.renewd(&["run"]);
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    let logged = stderr(&output);
    let events: Vec<Value> = logged.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [refused] = events.as_slice() else { panic!("{logged}") };
    assert_eq!((&refused["event"], &refused["level"]), (&"config.refused".into(), &"ERROR".into()));
    assert!(text(refused, "message").contains("redsi"), "{logged}");
    assert!(!stage.database().exists());
    let made: Vec<_> =
        std::fs::read_dir(stage.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(made.iter().all(|name| !name.to_string_lossy().starts_with("renewd.db")), "{made:?}");
}

#[test]
fn a_broken_main_file_ends_with_78_whatever_was_accepted_before() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    stage.start().stop();
    let path = stage.folder().join("renewd.toml");
    let broken = std::fs::read_to_string(&path).unwrap().replace("first_delay_seconds", "first_delay");
    std::fs::write(path, broken).unwrap();
    for arguments in [&["run"][..], &["check"]] {
        let output = stage.renewd(arguments);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("first_delay"), "{}", stderr(&output));
    }
}

#[test]
fn a_mistake_in_the_main_file_does_not_keep_an_operator_from_looking_and_pausing() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    let path = stage.folder().join("renewd.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let good = format!("# database = \"commented.db\"\n{good}");
    let typing_errors = [
        good.replace("first_delay_seconds = 1", "first_delay = 1"),
        good.replace("provider = \"tencentcloud\"", "provider = tencentcloud"),
        good.replace("[retry]", "[retry"),
    ];
    for broken in &typing_errors {
        std::fs::write(&path, broken).unwrap();
        for arguments in [
            &["orders"][..],
            &["runs"],
            &["instances"],
            &["policies"],
            &["status"],
            &["why", "crs-sandbox-1"],
            &["pause", "--note", "looking"],
            &["resume"],
        ] {
            let output = stage.renewd(arguments);
            assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
            assert!(stderr(&output).contains("`renewd check` shows them"), "{}", stderr(&output));
        }
        assert_eq!(stage.orders().len(), 1);
    }
    // Where the mistake is about the database itself, no other one is taken for it.
    for broken in [
        good.replace("database = \"renewd.db\"", "databse = \"renewd.db\""),
        good.replace("database = \"renewd.db\"", "database = renewd.db"),
        good.replace("database = \"renewd.db\"", "database = 7"),
        good.replace("[retry]", "[retry]\ndatabase = \"other.db\""),
        good.replace("database = \"renewd.db\"", "database = \"renewd.db\"\ndatabase = \"other.db\""),
    ] {
        std::fs::write(&path, &broken).unwrap();
        assert_eq!(stage.renewd(&["pause"]).status.code(), Some(78), "{broken}");
    }
    daemon.stop();
}

#[test]
fn a_start_with_a_broken_set_runs_the_last_accepted_one_and_says_so() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    stage.start().stop();
    stage.expires_in_days("crs-sandbox-2", 5);
    stage.write_policies(BROKEN);

    let daemon = stage.start();
    let refused = daemon.until_event("config.refused");
    assert_eq!(refused["level"], "ERROR");
    assert!(text(&refused, "message").contains("redsi"));
    let fires = |event: &Value| event["policy"] == "month";
    daemon.until_event_that("schedule.fired", fires);
    let status = stage.status();
    assert!(text(&status["policies"], "refused").contains("redsi"), "{status:#}");
    assert_eq!(status["policies"]["is_on_disk"], false);
    assert!(stage.ok(&["status"]).contains("REFUSED"));

    stage.write_policies(&policy("month", &["crs-sandbox-2"], ""));
    daemon.reload("config.reloaded");
    let status = stage.status();
    assert_eq!(status["policies"]["refused"], Value::Null, "{status:#}");
    assert_eq!(status["policies"]["is_on_disk"], true);
    stage.until_order("crs-sandbox-2", "confirmed");
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn a_reload_takes_a_good_edit_whole_and_refuses_a_broken_one_whole() {
    let stage = Stage::new();
    let ids = ["crs-sandbox-1", "crs-sandbox-2", "crs-sandbox-3"];
    for id in ids {
        stage.expires_in_days(id, 200);
    }
    let old = [policy("stays", &ids[..1], ""), policy("goes", &ids[1..2], "")].concat();
    stage.write_policies(&old);
    let daemon = stage.start();

    let changed = policy("stays", &ids[..1], "").replace("months = 1", "months = 2");
    stage.write_policies(&[changed.clone(), policy("comes", &ids[2..], "")].concat());
    daemon.reload("config.reloaded");
    let in_force = stage.list(&["policies"]);
    let of = |name: &str| in_force.iter().find(|row| row["policy"] == name).unwrap();
    assert_eq!((&of("stays")["revision"], &of("stays")["retired"]), (&2.into(), &false.into()));
    assert_eq!((&of("comes")["revision"], &of("comes")["retired"]), (&1.into(), &false.into()));
    assert_eq!(of("goes")["retired"], true);
    for (name, word) in [("stays", "changed"), ("comes", "added"), ("goes", "retired")] {
        daemon.until_event_that("config.policy", |event| {
            event["policy"] == name && text(event, "message").contains(word)
        });
    }

    // One good new policy beside a mistake: nothing of the set is taken.
    let due = stage.expires_in_days("crs-sandbox-9", 3);
    stage.write_policies(&[changed, policy("early", &["crs-sandbox-9"], ""), BROKEN.to_owned()].concat());
    let refused = daemon.reload("config.refused");
    assert_eq!(refused["level"], "ERROR");
    assert_eq!(without_next_firing(stage.list(&["policies"])), without_next_firing(in_force));
    let fired =
        |name: &str| daemon.events("schedule.fired").iter().filter(|event| event["policy"] == name).count();
    let before = fired("comes");
    until("the old set fires on", || (fired("comes") > before + 2).then_some(()));
    assert_eq!(fired("early"), 0, "an instance due on {due} is nobody's yet");
    daemon.stop();
    assert!(stage.cloud.ledger().is_empty());
    assert!(stage.orders().is_empty());
}

#[test]
fn a_set_emptied_by_an_editor_or_a_full_disk_retires_nothing() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    stage.write_policies("");
    let refused = daemon.reload("config.refused");
    assert_eq!(refused["level"], "ERROR");
    assert!(text(&refused, "message").contains("hold no policy at all"), "{refused:#}");
    assert_eq!(stage.list(&["policies"])[0]["retired"], false);
    daemon.stop();

    let stage = Stage::new();
    stage.write_policies("# nothing yet\n");
    assert_eq!(stage.renewd(&["run"]).status.code(), Some(78), "nothing was ever accepted");
}

/// Next firings move on by themselves.
fn without_next_firing(mut policies: Vec<Value>) -> Vec<Value> {
    policies.iter_mut().for_each(|row| row["next_due_at"] = Value::Null);
    policies
}
