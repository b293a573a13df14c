//! The commands that need no database, as an operator meets them: the real binary on files in a folder.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

const REFUSED: i32 = 78;

const ACCOUNT: &str = "[account.shop]\nprovider = \"tencentcloud\"\n\
                       secret_id = \"credential:id\"\nsecret_key = \"credential:key\"\n";

const POLICY: &str = "[policy.cache]\naccount = \"shop\"\nproduct = \"redis\"\nregion = \"ap-guangzhou\"\n\
                      instances = [\"crs-1\"]\nschedule = \"0 3 * * *\"\ntimezone = \"Asia/Shanghai\"\n\
                      renew = { months = 12 }\n";

struct Folder(TempDir);

impl Folder {
    fn new(settings: &str, policies: &str) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        fs::write(folder.path("renewd.toml"), settings).unwrap();
        fs::create_dir(folder.path("policies.d")).unwrap();
        fs::write(folder.path("policies.d/a.toml"), policies).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn renewd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_renewd"));
        command.env_clear().arg("--config").arg(self.path("renewd.toml")).args(arguments);
        command
    }

    fn check(&self, arguments: &[&str]) -> Output {
        self.renewd(&[&["check"], arguments].concat()).output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_closing_line_names_the_folder_and_a_folder_without_a_policy_is_refused() {
    let folder = Folder::new(ACCOUNT, "# nothing yet\n");
    let output = folder.check(&[]);
    assert_eq!(output.status.code(), Some(REFUSED));
    assert!(stderr(&output).contains("hold no policy at all"), "{}", stderr(&output));
    let place = folder.path("policies.d");
    fs::write(folder.path("policies.d/a.toml"), POLICY).unwrap();
    let output = folder.check(&[]);
    assert!(stdout(&output).ends_with(&format!("fine: 1 policy in {}\n", place.display())));
    fs::remove_file(folder.path("policies.d/a.toml")).unwrap();
    let output = folder.check(&[]);
    assert_eq!(output.status.code(), Some(REFUSED));
    assert!(stderr(&output).contains("there is no policy file (*.toml) in "), "{}", stderr(&output));
}

#[test]
fn a_state_that_does_not_exist_is_wrong_usage_and_the_answer_names_those_that_do() {
    let folder = Folder::new(ACCOUNT, POLICY);
    for (list, known) in
        [("orders", "confirmed"), ("runs", "succeeded"), ("policies", "retired"), ("instances", "isolated")]
    {
        let bogus = folder.renewd(&[list, "--state", "bogus"]).output().unwrap();
        assert_eq!(bogus.status.code(), Some(2), "{}", stderr(&bogus));
        assert!(stderr(&bogus).contains(known), "{}", stderr(&bogus));
        let real = folder.renewd(&[list, "--state", known]).output().unwrap();
        assert!(stderr(&real).contains("no database"), "it came as far as that: {}", stderr(&real));
    }
}

#[test]
fn an_empty_variable_names_no_configuration_and_the_option_goes_before_the_variable() {
    let folder = Folder::new(ACCOUNT, POLICY);
    let renewd = |variable: &OsStr, arguments: &[&OsStr]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_renewd"));
        command.env_clear().env("RENEWD_CONFIG", variable).arg("check").args(arguments).output().unwrap()
    };
    let (here, settings) = (folder.0.path().as_os_str(), folder.path("renewd.toml"));
    let empty = OsStr::new("");
    let default_path = [OsStr::new("--config"), OsStr::new("/etc/renewd/renewd.toml")];
    assert_eq!(renewd(empty, &[]), renewd(empty, &default_path));
    assert!(renewd(settings.as_os_str(), &[]).status.success());
    assert!(renewd(here, &[OsStr::new("--config"), settings.as_os_str()]).status.success());
}

#[test]
fn firings_are_printed_in_the_zone_of_the_policy_and_as_utc_in_json() {
    let folder = Folder::new(ACCOUNT, POLICY);
    assert!(stdout(&folder.check(&[])).contains(" 03:00:00 +08:00\n"));
    let checked: Value = serde_json::from_str(&stdout(&folder.check(&["--json"]))).unwrap();
    let firings = checked[0]["next_firings"].as_array().unwrap();
    assert_eq!(firings.len(), 5);
    for firing in firings {
        let text = firing.as_str().unwrap();
        assert!(text.ends_with("T19:00:00.000Z") && text.parse::<Timestamp>().is_ok(), "{text}");
    }
}

#[test]
fn a_refused_set_is_told_in_json_too_with_each_place_and_what_would_be_right() {
    let second = POLICY.replace("policy.cache", "policy.other").replace("\"redis\"", "\"redsi\"");
    let third = POLICY.replace("policy.cache", "policy.third").replace("ap-guangzhou", "ap-shanghai");
    let folder = Folder::new(
        &ACCOUNT.replace("\"credential:key\"", "\"hunter2\""),
        &[POLICY, &second, &third].concat(),
    );
    let output = folder.check(&["--json"]);
    assert_eq!(output.status.code(), Some(REFUSED));
    let said = stdout(&output);
    assert!(!said.contains("hunter2"), "{said}");
    let refused: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(refused["mistakes"], 3, "{said}");
    let policies = folder.path("policies.d/a.toml");
    let [literal, product, clash] = refused["diagnostics"].as_array().unwrap().as_slice() else {
        panic!("{said}")
    };
    assert_eq!((&literal["line"], &literal["column"]), (&4.into(), &14.into()));
    assert_eq!(literal["text"], "*********");
    assert_eq!(
        *product,
        json!({
            "severity": "error",
            "file": policies.to_str(),
            "line": 11,
            "column": 11,
            "text": "\"redsi\"",
            "message": "there is no product `redsi`",
            "help": "did you mean `redis`?",
            "related": null,
        })
    );
    assert_eq!((&clash["line"], &clash["text"]), (&21.into(), &"\"crs-1\"".into()));
    assert_eq!((&clash["related"]["line"], &clash["related"]["column"]), (&5.into(), &14.into()));

    fs::remove_file(folder.path("renewd.toml")).unwrap();
    let output = folder.check(&["--json"]);
    assert_eq!(output.status.code(), Some(REFUSED));
    let refused: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(refused["diagnostics"][0]["line"], Value::Null, "a file as a whole has no line");
}

#[test]
fn a_secret_file_that_the_service_could_not_use_is_a_mistake_at_its_reference() {
    let settings = ACCOUNT.replace("credential:id", "file:id").replace("credential:key", "file:key");
    let folder = Folder::new(&settings, POLICY);
    let write = |name: &str, text: &str, mode: u32| {
        fs::write(folder.path(name), text).unwrap();
        fs::set_permissions(folder.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    write("id", "AKIDhunter2", 0o600);
    for (text, mode, reason) in [
        (None, 0, "cannot be read: No such file"),
        (Some("hunter2"), 0o644, "is open to other users (mode 0644)"),
        (Some("hunter2"), 0o640, "is open to other users (mode 0640)"),
        (Some(" \n"), 0o600, "is empty"),
        (Some("hunter2\nhunter2"), 0o600, "it has several lines"),
    ] {
        if let Some(text) = text {
            write("key", text, mode);
        }
        let output = folder.check(&[]);
        assert_eq!(output.status.code(), Some(REFUSED), "{reason}");
        let said = stderr(&output);
        assert!(said.contains("renewd.toml:4:14\n") && said.contains(reason), "{said}");
        assert!(said.ends_with("\n1 mistake\n") && !said.contains("hunter2"), "{said}");
    }
    write("key", "hunter2", 0o600);
    let output = folder.check(&[]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn a_variable_that_only_the_service_may_have_is_a_warning_and_a_credential_is_not_asked_for() {
    let settings = ACCOUNT.replace("credential:key", "env:SHOP_KEY");
    let folder = Folder::new(&settings, POLICY);
    let output = folder.check(&[]);
    assert!(output.status.success());
    let said = stderr(&output);
    assert!(said.starts_with("warning: `env:SHOP_KEY`: ") && said.contains("renewd.toml:4:14\n"), "{said}");
    assert!(stdout(&output).ends_with(", 1 warning\n"));
    let output = folder.renewd(&["check"]).env("SHOP_KEY", "hunter2").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn commands_that_need_no_secret_do_not_ask_for_one() {
    let folder = Folder::new(&ACCOUNT.replace("credential:key", "file:nowhere"), POLICY);
    let output = folder.renewd(&["orders"]).output().unwrap();
    assert!(stderr(&output).contains("no database"), "it came as far as that: {}", stderr(&output));
}

#[test]
fn a_pipe_or_a_socket_in_the_place_of_a_file_is_a_mistake_and_nothing_waits_for_it() {
    let settings = ACCOUNT.replace("credential:key", "file:key");
    let folder = Folder::new(&settings, POLICY);
    let refused = |file: &str, arguments: &[&str], reason: &str| {
        let output = folder.renewd(arguments).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(REFUSED), "{said}");
        assert!(said.contains(file) && said.contains(reason), "{said}");
    };
    let make_pipe = |name: &str| {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.path(name), mode).unwrap();
    };
    make_pipe("key");
    refused("renewd.toml:4:14", &["check"], "a named pipe, not a file");
    fs::remove_file(folder.path("key")).unwrap();
    fs::create_dir(folder.path("key")).unwrap();
    refused("renewd.toml:4:14", &["check"], "it is a folder");
    fs::remove_dir(folder.path("key")).unwrap();
    fs::write(folder.path("key"), "hunter2").unwrap();
    fs::set_permissions(folder.path("key"), fs::Permissions::from_mode(0o600)).unwrap();

    make_pipe("policies.d/b.toml");
    refused("policies.d/b.toml", &["check"], "a named pipe, not a file");
    refused("policies.d/b.toml", &["run"], "a named pipe, not a file");
    fs::remove_file(folder.path("policies.d/b.toml")).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(folder.path("policies.d/b.toml")).unwrap();
    refused("policies.d/b.toml", &["check"], "a socket, not a file");

    fs::remove_file(folder.path("renewd.toml")).unwrap();
    make_pipe("renewd.toml");
    for command in ["check", "status", "run"] {
        refused("renewd.toml", &[command], "a named pipe, not a file");
    }
}

#[test]
fn a_log_level_is_refused_by_check_and_by_run_alike_wherever_it_is_written() {
    let folder = Folder::new(&format!("{ACCOUNT}[log]\nlevel = \"LOUD\"\n"), POLICY);
    for command in ["check", "run"] {
        let output = folder.renewd(&[command]).output().unwrap();
        assert_eq!(output.status.code(), Some(REFUSED), "{command}");
        assert!(stderr(&output).contains("renewd.toml:6:9"), "{}", stderr(&output));
    }
    fs::write(folder.path("renewd.toml"), ACCOUNT).unwrap();
    for command in ["check", "run"] {
        let output = folder.renewd(&[command]).env("RENEWD_LOG", "[x]").output().unwrap();
        assert_eq!(output.status.code(), Some(REFUSED), "{command}");
        assert!(stderr(&output).contains("RENEWD_LOG is not a level: `[x]`"), "{}", stderr(&output));
    }
}

#[test]
fn help_as_a_command_shows_the_help_and_succeeds() {
    let folder = Folder::new(ACCOUNT, POLICY);
    for arguments in [&["help"][..], &["help", "orders"], &["--help"], &["orders", "--help"]] {
        let output = folder.renewd(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(stdout(&output).contains("Usage: renewd"), "{arguments:?}: {}", stdout(&output));
    }
    let help = stdout(&folder.renewd(&["orders", "--help"]).output().unwrap());
    assert!(help.contains("`timezone` of renewd.toml"), "{help}");
    let output = folder.renewd(&["orders", "--since", "yesterday"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("2026-11-20T04:00"), "{}", stderr(&output));
}

#[test]
fn the_practice_cloud_shows_the_format_of_a_seed_and_refuses_a_wrong_one() {
    let folder = Folder::new(ACCOUNT, POLICY);
    let help = stdout(&folder.renewd(&["sandbox", "--help"]).output().unwrap());
    assert!(help.contains("[[instances]]") && help.contains("expires_in_days"), "{help}");
    fs::write(folder.path("seed.toml"), "[balances]\nAKIDother = 5\n").unwrap();
    let seed = folder.path("seed.toml");
    let mut command = folder.renewd(&["sandbox", "--listen", "localhost:0", "--seed"]);
    let output = command.arg(seed).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "localhost is an address: {}", stderr(&output));
    assert!(stderr(&output).contains("AKIDother"), "{}", stderr(&output));
    let output = folder.renewd(&["sandbox", "--listen", "9500"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("localhost:9500"), "{}", stderr(&output));
}
