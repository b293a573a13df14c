//! Secrets stay in memory, whatever goes wrong and however much is logged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use renewd::sandbox::SECRET_KEY;
use renewd::sandbox::faults::{Effect, Fault, Spoilt};

use crate::harness::{Daemon, KEY_ID, Settings, Stage, policy, text, until};

#[test]
fn no_secret_and_no_signature_reaches_log_database_or_output_after_every_fault() {
    let stage = Stage::with(&Settings { level: "trace,renewd=trace", ..Settings::default() });
    let wrong = "sandbox-secret-kye";
    stage.write_secret(wrong);
    let spoilt = [
        Spoilt::Code("InternalError".to_owned()),
        Spoilt::Code("AuthFailure.SignatureFailure".to_owned()),
        Spoilt::Code("ResourceInUse.InstanceBeenLocked".to_owned()),
        Spoilt::Http(502),
        Spoilt::Drop,
        Spoilt::Stall(Duration::from_millis(300)),
        Spoilt::Garbage,
        Spoilt::Truncate,
    ];
    let ids: Vec<String> = (1..=spoilt.len()).map(|number| format!("crs-secret-{number}")).collect();
    for (id, spoilt) in ids.iter().zip(spoilt) {
        stage.expires_in_days(id, 5);
        let on = |api| Fault::spoil(api, Effect::Before, spoilt.clone());
        stage.cloud.inject(vec![
            on("redis:RenewInstance").on(id),
            on("redis:DescribeInstances"),
            on("billing:DescribeDealsByCond").on(id),
        ]);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    stage.write_policies(&policy("month", &ids, "max_price_cny = 1000"));
    let daemon = stage.start();
    daemon.until_event("account.paused");
    stage.write_secret(SECRET_KEY);
    for id in &ids {
        stage.until_order(id, "confirmed");
    }
    let secrets =
        [SECRET_KEY, wrong, KEY_ID, "Signature=", "TC3-HMAC-SHA256", "tc3_request", "authorization"];
    let mut places: Vec<(String, String)> = Vec::new();
    for name in ["renewd.db", "renewd.db-wal"] {
        let bytes = std::fs::read(stage.folder().join(name)).unwrap();
        places.push((name.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    for command in ["orders", "runs", "instances", "policies", "status", "check"] {
        places.push((command.to_owned(), stage.ok(&[command, "--json"])));
    }
    places.push(("why".to_owned(), stage.ok(&["why", ids[1]])));
    let lines = daemon.stop();
    assert!(lines.iter().any(|line| !line.contains("renewd::")), "the libraries were let speak as well");
    places.push(("stderr".to_owned(), lines.join("\n")));
    for (place, text) in &places {
        for secret in secrets {
            let lowered = text.to_lowercase();
            assert!(!lowered.contains(&secret.to_lowercase()), "{secret} is in {place}");
        }
    }
    stage.assert_agreement();
}

#[test]
fn secrets_that_cannot_be_read_hold_their_account_with_the_true_cause_until_they_can() {
    let stage = Stage::new();
    let key = stage.folder().join("secret-key");
    let shared = fs::Permissions::from_mode(0o644);
    let private = fs::metadata(&key).unwrap().permissions();
    fs::set_permissions(&key, shared).unwrap();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();

    let cause = format!("`file:{}` is open to other users (mode 0644)", key.display());
    let paused = daemon.until_event("account.paused");
    assert_eq!((&paused["level"], &paused["class"]), (&"ERROR".into(), &"credential".into()));
    assert!(text(&paused, "message").contains(&cause), "{paused:#}");
    let run = stage.until_run("crs-sandbox-1", "waiting");
    assert!(text(&run, "reason").contains(&cause), "{run:#}");
    until_it_has_fired(&daemon, 4);
    let status = stage.status();
    assert!(text(&status["paused"][0], "note").contains(&cause), "{status:#}");
    assert!(stage.cloud.requests().is_empty(), "{:?}", stage.cloud.requests());
    assert_eq!(daemon.events("account.paused").len(), 1, "it is told once");

    fs::set_permissions(&key, private).unwrap();
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.until_event("account.resumed");
    assert_eq!(stage.status()["paused"].as_array().map(Vec::len), Some(0));
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn a_start_after_the_secret_was_put_right_does_not_wait_for_the_next_test() {
    let stage = Stage::with(&Settings { max_delay_seconds: 600, ..Settings::default() });
    let key = stage.folder().join("secret-key");
    fs::remove_file(&key).unwrap();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    let paused = daemon.until_event("account.paused");
    assert!(text(&paused, "message").contains("No such file"), "{paused:#}");
    daemon.stop();
    assert_eq!(stage.status()["paused"][0]["kind"], "credential");

    stage.write_secret(SECRET_KEY);
    let daemon = stage.start();
    daemon.until_event("account.resumed");
    stage.until_order("crs-sandbox-1", "confirmed");
    assert_eq!(stage.status()["paused"].as_array().map(Vec::len), Some(0));
    daemon.stop();
    assert!(stage.cloud.requests().values().all(|api| api.by_code.keys().all(|code| !code.contains("Auth"))));
    stage.assert_agreement();
}

#[test]
fn what_is_wrong_with_a_new_secret_is_told_rather_than_what_the_cloud_says_of_the_old_one() {
    let stage = Stage::with(&Settings { secret: "sandbox-secret-kye", ..Settings::default() });
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    let note_with = |words: &str| {
        until(&format!("status tells {words}"), || {
            let status = stage.status();
            status["paused"][0]["note"].as_str().filter(|note| note.contains(words)).map(str::to_owned)
        })
    };
    note_with("AuthFailure");
    fs::remove_file(stage.folder().join("secret-key")).unwrap();
    note_with("No such file");
    stage.write_secret(SECRET_KEY);
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    stage.assert_agreement();
}

/// So many times, each an occasion for a call.
fn until_it_has_fired(daemon: &Daemon, times: usize) {
    until("the policy fires on", || (daemon.events("schedule.fired").len() >= times).then_some(()));
}
