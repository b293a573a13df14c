//! `renewd backup`: a whole copy of a working database, on which nothing is ordered until a person says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::Value;

use crate::harness::{
    self, Settings, Stage, assert_agreement, list, ok, policy, renewd, start, stderr, text, until,
    write_policies, write_settings,
};

/// A second place with the settings and policies of the first, and a copy of its database.
struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    fn of(stage: &Stage, policies: &str) -> Copy {
        let copy = Copy { folder: tempfile::tempdir().unwrap() };
        write_settings(copy.folder(), &stage.cloud.base_url(), &Settings::default());
        write_policies(copy.folder(), policies);
        stage.ok(&["backup", copy.database().to_str().unwrap()]);
        copy
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn database(&self) -> PathBuf {
        self.folder().join("renewd.db")
    }

    fn orders_of(&self, instance: &str) -> Vec<Value> {
        list(self.folder(), &["orders", "--instance", instance])
    }

    fn until_order(&self, instance: &str, state: &str) -> Value {
        until(&format!("the copy has an order of {instance} that is {state}"), || {
            self.orders_of(instance).into_iter().find(|order| order["state"] == state)
        })
    }

    fn until_held(&self, instance: &str) -> Value {
        until(&format!("the copy's run for {instance} is held"), || {
            let runs = list(self.folder(), &["runs", "--instance", instance]);
            let is_held = |run: &Value| {
                run["state"] == "waiting" && text(run, "reason").contains("everything is paused")
            };
            runs.into_iter().find(is_held)
        })
    }
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_copy_of_a_working_database_is_whole_private_and_never_written_over_anything() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1", "crs-sandbox-2"], ""));
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    stage.until_order("crs-sandbox-2", "confirmed");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    let name = file.to_str().unwrap();
    let said = stage.ok(&["backup", name]);
    assert!(said.contains("holds all orders until `renewd resume`"), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(folder.path()), ["copy.db"]);

    let before = fs::read(&file).unwrap();
    let output = stage.renewd(&["backup", name]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("exists already"), "{}", stderr(&output));
    assert_eq!(fs::read(&file).unwrap(), before);
    let own = stage.database();
    assert_eq!(stage.renewd(&["backup", own.to_str().unwrap()]).status.code(), Some(1));
    let nowhere = folder.path().join("no/such/copy.db");
    let output = stage.renewd(&["backup", nowhere.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no copy was made"), "{}", stderr(&output));
    assert_eq!(stage.renewd(&["backup"]).status.code(), Some(2));
    assert_eq!(names(folder.path()), ["copy.db"]);

    // The original knows nothing of a mark, and goes on.
    assert_eq!(stage.status()["paused"], Value::Array(Vec::new()));
    write_settings(folder.path(), &stage.cloud.base_url(), &Settings::default());
    fs::rename(&file, folder.path().join("renewd.db")).unwrap();
    let orders = list(folder.path(), &["orders"]);
    daemon.stop();
    assert_eq!(orders, stage.orders());
    stage.assert_agreement();
}

#[test]
fn a_service_started_on_a_copy_holds_all_orders_and_says_why_until_somebody_resumes() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    let due = policy("month", &["crs-sandbox-1", "crs-sandbox-2"], "");
    let copy = Copy::of(&stage, &due);
    daemon.stop();
    stage.expires_in_days("crs-sandbox-2", 2);

    let daemon = start(copy.folder());
    let error = daemon.until_event_that("account.paused", |event| event["level"] == "ERROR");
    let said = text(&error, "message");
    let original = fs::canonicalize(stage.database()).unwrap();
    for words in ["this is a copy that operator made at", original.to_str().unwrap(), "`renewd resume`"] {
        assert!(said.contains(words), "{said}");
    }
    let run = copy.until_held("crs-sandbox-2");
    assert!(text(&run, "reason").contains("by backup: this is a copy"), "{run:#}");
    let status: Value = serde_json::from_str(&ok(copy.folder(), &["status", "--json"])).unwrap();
    let paused = &status["paused"][0];
    assert_eq!((&paused["scope"], &paused["kind"]), (&"all".into(), &"copy".into()));
    assert_eq!(status["at_risk"][0]["instance"], "crs-sandbox-2");
    // By hand it is held as well, and no narrower resume lifts it.
    ok(copy.folder(), &["trigger", "month", "--instance", "crs-sandbox-2", "--again"]);
    let narrow = ok(copy.folder(), &["resume", "--account", "shop"]);
    assert!(narrow.contains("nothing to resume"), "{narrow}");
    daemon.stop();
    assert_eq!(stage.charges_of("crs-sandbox-2"), 0);

    let daemon = start(copy.folder());
    daemon.until_event_that("account.paused", |event| event["level"] == "ERROR");
    let risk = daemon.until_event_that("instance.at_risk", |event| event["instance"] == "crs-sandbox-2");
    assert!(text(&risk, "message").contains("no other renewd runs on the original"), "{risk:#}");
    ok(copy.folder(), &["resume"]);
    copy.until_order("crs-sandbox-2", "confirmed");
    daemon.stop();
    assert!(start(copy.folder()).stop().iter().all(|line| !line.contains("this is a copy")));
    let ledger = serde_json::to_value(stage.cloud.ledger()).unwrap();
    assert_agreement(ledger.as_array().unwrap(), &list(copy.folder(), &["orders"]));
}

#[test]
fn orders_open_in_a_copy_are_followed_to_their_end_and_not_made_anew_while_it_holds() {
    let stage = Stage::new();
    let stall = Spoilt::Stall(std::time::Duration::from_secs(30));
    stage.cloud.inject(vec![
        // Charged, and its answer still on its way when the copy is made.
        Fault::spoil("redis:RenewInstance", Effect::After, stall).on("crs-sandbox-1"),
        // Never charged.
        Fault::spoil("redis:RenewInstance", Effect::Before, Spoilt::Drop).on("crs-sandbox-2"),
    ]);
    let policies = policy("month", &["crs-sandbox-1", "crs-sandbox-2"], "");
    stage.write_policies(&policies);
    let mut daemon = stage.start();
    stage.until_order("crs-sandbox-1", "intended");
    stage.until_order("crs-sandbox-2", "unknown");
    until("the charge is in the ledger", || (stage.charges_of("crs-sandbox-1") == 1).then_some(()));
    let copy = Copy::of(&stage, &policies);
    daemon.signal(rustix::process::Signal::KILL);
    daemon.until_end();

    let daemon = start(copy.folder());
    let interrupted = daemon.until_event_that("order.unknown", |event| event["code"] == "Interrupted");
    assert_eq!(interrupted["instance"], "crs-sandbox-1");
    copy.until_order("crs-sandbox-1", "confirmed");
    let refused = copy.until_order("crs-sandbox-2", "refused");
    assert_eq!(refused["error"]["code"], "NotOrdered", "{refused:#}");
    let held = copy.until_held("crs-sandbox-2");
    assert_eq!(held["id"], refused["run_id"], "its own run goes on, once it may");
    assert_eq!(stage.charges_of("crs-sandbox-2"), 0);

    assert_eq!(renewd(copy.folder(), &["resume"]).status.code(), Some(0));
    let order = copy.until_order("crs-sandbox-2", "confirmed");
    assert_eq!(order["run_id"], refused["run_id"]);
    daemon.stop();
    let ledger = serde_json::to_value(stage.cloud.ledger()).unwrap();
    harness::assert_agreement(ledger.as_array().unwrap(), &list(copy.folder(), &["orders"]));
}
