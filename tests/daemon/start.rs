//! What the service refuses to start on, and that it leaves everything as it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use renewd::cloud::canonical::sha256_hex;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::harness::{Stage, command, policy, stderr, text};

#[test]
fn a_missing_database_folder_is_named_and_not_made() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let path = stage.folder().join("renewd.toml");
    let settings = fs::read_to_string(&path).unwrap().replace("renewd.db", "state/renewd.db");
    fs::write(path, settings).unwrap();
    let before = files(stage.folder());

    let output = stage.renewd(&["run"]);

    assert_refused(&output, "state");
    assert_refused(&output, "does not exist");
    assert_eq!(files(stage.folder()), before);
    assert!(!stage.folder().join("state").exists());
    assert!(stage.cloud.requests().is_empty(), "no call was made");
}

#[test]
fn a_read_only_database_is_refused_also_for_root_and_stays_as_it_is() {
    let stage = stopped_after_a_renewal();
    let writable = fs::metadata(stage.database()).unwrap().permissions();
    fs::set_permissions(stage.database(), fs::Permissions::from_mode(0o444)).unwrap();
    let before = files(stage.folder());

    let output = stage.renewd(&["run"]);

    assert_refused(&output, "cannot be written");
    assert_eq!(files(stage.folder()), before);
    fs::set_permissions(stage.database(), writable).unwrap();
    stage.start().stop();
    stage.assert_agreement();
}

#[test]
fn a_newer_schema_is_refused_by_the_service_and_by_commands_and_nothing_is_changed() {
    let stage = stopped_after_a_renewal();
    stage.block_on(async {
        let options = SqliteConnectOptions::new().filename(stage.database());
        let mut database = options.connect().await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'of tomorrow', TRUE, x'00', 0)",
        )
        .execute(&mut database)
        .await
        .unwrap();
        database.close().await.unwrap();
    });
    let before = files(stage.folder());

    for arguments in [&["run"][..], &["orders"], &["pause"]] {
        let output = stage.renewd(arguments);
        assert_refused(&output, "newer renewd");
        assert_refused(&output, "9999");
        assert_eq!(files(stage.folder()), before, "{arguments:?}");
    }
}

#[test]
fn a_database_of_another_program_is_refused_and_stays_as_it_is() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    stage.block_on(async {
        let options = SqliteConnectOptions::new().filename(stage.database()).create_if_missing(true);
        let mut database = options.connect().await.unwrap();
        sqlx::query("CREATE TABLE cookies (name TEXT)").execute(&mut database).await.unwrap();
        database.close().await.unwrap();
    });
    let before = files(stage.folder());
    for arguments in [&["run"][..], &["orders"], &["pause"]] {
        assert_refused(&stage.renewd(arguments), "a database of another program");
        assert_eq!(files(stage.folder()), before, "{arguments:?}");
    }
}

#[test]
fn who_may_only_read_the_database_can_look_after_a_clean_stop_and_beside_the_daemon() {
    let stage = stopped_after_a_renewal();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&stage.database(), 0o444);
    mode(stage.folder(), 0o555);
    let before = files(stage.folder());
    let looks =
        [&["orders"][..], &["runs"], &["instances"], &["policies"], &["status"], &["why", "crs-sandbox-1"]];
    for arguments in looks {
        let output = as_nobody(&stage, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    }
    assert_eq!(files(stage.folder()), before, "nothing is left beside the database");
    let pause = as_nobody(&stage, &["pause"]);
    assert_refused(&pause, "cannot be written");

    mode(&stage.database(), 0o000);
    let output = as_nobody(&stage, &["orders"]);
    assert_refused(&output, "cannot be read");
    assert!(!stderr(&output).contains("writ"), "{}", stderr(&output));

    mode(stage.folder(), 0o755);
    mode(&stage.database(), 0o644);
    let daemon = stage.start();
    for arguments in looks {
        let output = as_nobody(&stage, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    }
    daemon.stop();
}

#[test]
fn a_second_daemon_is_refused_and_the_first_one_goes_on() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let first = stage.start();

    let output = stage.renewd(&["run"]);

    assert_refused(&output, "another renewd");
    assert_refused(&output, &first.pid().to_string());
    let status = stage.status();
    assert_eq!(status["daemon"]["running"], true);
    assert_eq!(status["daemon"]["pid"], first.pid(), "the second left no trace");
    let due = text(&stage.until_order("crs-sandbox-1", "confirmed"), "policy").to_owned();
    assert_eq!(due, "month");
    let fired = first.events("schedule.fired").len();
    crate::harness::until("the first fires on", || {
        (first.events("schedule.fired").len() > fired + 1).then_some(())
    });
    first.stop();
    stage.assert_agreement();
}

#[test]
fn a_second_daemon_is_refused_by_whatever_link_it_reaches_the_database() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let settings = fs::read_to_string(stage.folder().join("renewd.toml")).unwrap();
    let link = stage.folder().join("by-link.db");
    // The link is there before the database it leads to.
    std::os::unix::fs::symlink("renewd.db", &link).unwrap();
    fs::write(stage.folder().join("renewd.toml"), settings.replace("\"renewd.db\"", "\"by-link.db\""))
        .unwrap();
    let first = stage.start();
    fs::write(stage.folder().join("renewd.toml"), settings).unwrap();

    assert_refused(&stage.renewd(&["run"]), "another renewd");

    first.stop();
}

#[test]
fn a_daemon_whose_database_another_has_taken_over_says_so_and_ends() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let mut first = stage.start();
    fs::remove_file(stage.folder().join("renewd.db.lock")).unwrap();

    let second = stage.start();

    assert_eq!(first.until_end().code(), Some(1));
    let said = first.events("service.stopped");
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(text(&said[0], "message").contains(&format!("process {}", second.pid())), "{said:#?}");
    assert_eq!(said[0]["level"], "ERROR");
    let status = stage.status();
    assert_eq!(
        (&status["daemon"]["running"], &status["daemon"]["pid"]),
        (&true.into(), &second.pid().into())
    );
    stage.until_order("crs-sandbox-1", "confirmed");
    second.stop();
    stage.assert_agreement();
}

/// A stage whose database has a confirmed order and no daemon.
fn stopped_after_a_renewal() -> Stage {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    stage
}

fn as_nobody(stage: &Stage, arguments: &[&str]) -> Output {
    crate::nobody::as_nobody(command(stage.folder(), arguments))
}

fn assert_refused(output: &Output, words: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(words), "{words:?} is not in {said}");
}

/// Every file of the folder with a digest of its bytes. The lock file names whoever tried last: it is no part
/// of what is kept.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files
        .map(|entry| (entry.file_name().into_string().unwrap(), sha256_hex(&fs::read(entry.path()).unwrap())))
        .filter(|(name, _)| name != "renewd.db.lock")
        .collect()
}
