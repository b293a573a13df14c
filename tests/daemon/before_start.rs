//! Commands on a machine where the service was installed and has not run yet.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::harness::{Daemon, Stage, command, policy, stderr, text};
use crate::nobody;

#[test]
fn a_pause_before_the_first_start_holds_from_the_first_moment_on() {
    for scope in [&[][..], &["--account", "shop"], &["--policy", "month"]] {
        let stage = Stage::new();
        stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
        let paused = stage.renewd(&[&["pause", "--note", "not yet"], scope].concat());
        assert!(paused.status.success(), "{}", stderr(&paused));
        assert!(stderr(&paused).contains("made the database"), "{}", stderr(&paused));
        assert!(stage.ok(&["status"]).contains("was never started"), "{}", stage.ok(&["status"]));

        let daemon = stage.start();
        let run = stage.until_run("crs-sandbox-1", "waiting");
        assert!(text(&run, "reason").contains("not yet"), "{run:#}");
        let said = daemon.until_event("account.paused");
        assert_eq!(said["person"], "operator");
        assert!(stage.orders().is_empty());

        stage.ok(&[&["resume"], scope].concat());
        stage.until_order("crs-sandbox-1", "confirmed");
        daemon.stop();
        stage.assert_agreement();
    }
}

#[test]
fn a_pause_until_a_time_that_is_past_makes_no_database_and_an_empty_one_is_called_empty() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let refused = stage.renewd(&["pause", "--until", "2020-01-01"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("already past"), "{}", stderr(&refused));
    assert!(!stage.database().exists());

    fs::write(stage.database(), "").unwrap();
    for arguments in [&["status"][..], &["trigger", "month"]] {
        let output = stage.renewd(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = stderr(&output);
        assert!(said.contains("is empty") && said.contains("a backup"), "{arguments:?}: {said}");
    }
    assert_eq!(fs::metadata(stage.database()).unwrap().len(), 0);
}

#[test]
fn what_only_the_files_name_can_be_paused_also_while_they_have_mistakes_and_a_slip_of_the_name_pauses_nothing()
 {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-9", 200);
    let idle = policy("idle", &["crs-sandbox-9"], "");
    stage.write_policies(&idle);
    let daemon = stage.start();
    let settings = fs::read_to_string(stage.folder().join("renewd.toml")).unwrap();
    fs::write(
        stage.folder().join("renewd.toml"),
        format!("{settings}[account.new]\nprovider = \"tencentcloud\"\nsecret_id = \"env:A\"\nsecret_key = \"env:B\"\n"),
    )
    .unwrap();
    stage.write_policies(&[idle.clone(), policy("month", &["crs-sandbox-1"], "enabled = 1")].concat());

    stage.ok(&["pause", "--policy", "month"]);
    stage.ok(&["pause", "--account", "new"]);
    for (arguments, near) in [(["--policy", "mnoth"], "month"), (["--account", "shpo"], "shop")] {
        let output = stage.renewd(&[&["pause"], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("nothing was changed"), "{}", stderr(&output));
        assert!(stderr(&output).contains(&format!("did you mean `{near}`?")), "{}", stderr(&output));
    }
    assert_eq!(stage.status()["paused"].as_array().map(Vec::len), Some(2));

    stage.write_policies(&[idle, policy("month", &["crs-sandbox-1"], "")].concat());
    daemon.reload("config.reloaded");
    stage.until_run("crs-sandbox-1", "waiting");
    daemon.stop();
    assert!(stage.orders().is_empty());
}

#[test]
fn a_trigger_before_the_first_start_is_refused_and_says_what_to_do() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let refused = || {
        let output = stage.renewd(&["trigger", "month"]);
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    assert!(refused().contains("there is no database"), "{}", refused());
    assert!(refused().contains("`systemctl start renewd`"), "{}", refused());
    assert!(!stage.database().exists());

    let nothing = stage.ok(&["resume"]);
    assert!(nothing.contains("nothing to resume"), "{nothing}");
    assert!(refused().contains("no policies are in force yet: start the service"), "{}", refused());
    assert!(stage.ok(&["status"]).contains("policies  none yet"));
    stage.start().stop();
}

#[test]
fn a_folder_that_only_the_first_start_would_make_is_made_and_one_above_it_is_not() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let path = stage.folder().join("renewd.toml");
    let settings = fs::read_to_string(&path).unwrap();
    let database = |place: &str| fs::write(&path, settings.replace("renewd.db", place)).unwrap();

    database("state/lib/renewd.db");
    let output = stage.renewd(&["pause"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("does not exist"), "{}", stderr(&output));
    assert!(!stage.folder().join("state").exists());

    database("state/renewd.db");
    stage.ok(&["pause"]);
    assert_eq!(mode(&stage.folder().join("state")), 0o700);
    assert_eq!(mode(&stage.folder().join("state/renewd.db")), 0o600);
    let daemon = stage.start();
    stage.until_run("crs-sandbox-1", "waiting");
    daemon.stop();
}

#[test]
fn an_empty_file_that_a_crash_left_in_the_place_of_the_database_is_made_one() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    fs::write(stage.database(), "").unwrap();
    stage.ok(&["pause"]);
    let daemon = stage.start();
    stage.until_run("crs-sandbox-1", "waiting");
    daemon.stop();
}

#[test]
fn what_root_makes_in_the_folder_of_the_service_belongs_to_the_service() {
    if !rustix::process::getuid().is_root() {
        eprintln!("SKIPPED: only root can make files for somebody else");
        return;
    }
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    for path in [".", "secret-id", "secret-key"] {
        chown(stage.folder().join(path), Some(nobody::NOBODY), Some(nobody::NOBODY)).unwrap();
    }
    stage.ok(&["pause"]);
    for entry in fs::read_dir(stage.folder()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("renewd.db") {
            assert_eq!(entry.metadata().unwrap().uid(), nobody::NOBODY, "{name}");
            assert_eq!(mode(&entry.path()) & 0o077, 0, "{name}");
        }
    }

    let nobodys = nobody::of_nobody(&command(stage.folder(), &["run"]));
    let daemon = Daemon::spawn(nobodys.command);
    daemon.until_event("service.ready");
    stage.until_run("crs-sandbox-1", "waiting");
    // Beside the daemon root writes too, and leaves nothing that shuts it out.
    stage.ok(&["resume"]);
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn in_a_folder_that_a_group_shares_the_database_is_the_groups_too() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    fs::set_permissions(stage.folder(), fs::Permissions::from_mode(0o770)).unwrap();
    stage.ok(&["pause"]);
    assert_eq!(mode(&stage.database()), 0o660);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_resume_says_what_still_holds_the_orders() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    for scope in [&[][..], &["--account", "shop"], &["--policy", "month"]] {
        stage.ok(&[&["pause"], scope].concat());
    }
    // For the account that the policy is of.
    stage.start().stop();
    let said = |scope: &[&str]| {
        let output = stage.renewd(&[&["resume"], scope].concat());
        assert!(output.status.success());
        stderr(&output)
    };
    let of_policy = said(&["--policy", "month"]);
    assert!(of_policy.contains("everything is still paused"), "{of_policy}");
    assert!(of_policy.contains("account shop is still paused"), "{of_policy}");
    assert!(!of_policy.contains("policy month is still paused"), "{of_policy}");
    let of_account = said(&["--account", "shop"]);
    assert!(of_account.contains("everything is still paused"), "{of_account}");
    assert_eq!(of_account.lines().count(), 1, "{of_account}");
    assert_eq!(said(&[]), "");
}
