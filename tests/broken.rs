//! Files that are wrong in every way there is: what `renewd check` says to them is pinned, to be read as an operator
//! reads it. (`cfg(test)` is always true here; it tells clippy that helpers may unwrap as tests do.)

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[cfg(test)]
#[path = "support/nobody.rs"]
mod nobody;

const REFUSED: i32 = 78;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken")
}

fn check(folder: &Path, config: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_renewd"));
    command.current_dir(folder).env_clear().args(["--config", config, "check"]);
    command
}

fn refusal(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(REFUSED), "{said}");
    assert!(output.stdout.is_empty(), "messages go to stderr");
    said
}

#[test]
fn every_mistake_of_thirty_broken_files_is_told_at_once_with_its_place_and_what_would_be_right() {
    let folder = fixtures();
    let files = fs::read_dir(folder.join("policies.d")).unwrap().count();
    assert!(files >= 30, "{files} files");
    let said = refusal(&check(&folder, "renewd.toml").output().unwrap());
    for file in fs::read_dir(folder.join("policies.d")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(said.contains(&format!("policies.d/{name}")), "nothing is said of {name}");
    }
    insta::with_settings!({ snapshot_path => "broken", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("check", said);
    });
}

#[test]
fn each_finding_has_its_place_and_its_help() {
    let output = check(&fixtures(), "renewd.toml").arg("--json").output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for found in told["diagnostics"].as_array().unwrap() {
        let is_folder = found["file"] == "policies.d/16-folder.toml";
        assert_eq!(found["line"].is_u64() && found["column"].is_u64(), !is_folder, "{found:#}");
        assert!(found["help"].as_str().is_some_and(|help| !help.is_empty()), "{found:#}");
    }
}

#[test]
fn files_and_folders_that_cannot_be_read_are_named_beside_the_mistakes_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = |name: &str| folder.path().join(name);
    let copy = |from: &str, to: &str| fs::copy(fixtures().join(from), path(to)).unwrap();
    fs::write(
        path("renewd.toml"),
        "[account.shop]\nprovider = \"tencentcloud\"\nsecret_id = \"credential:id\"\n",
    )
    .unwrap();
    fs::create_dir(path("policies.d")).unwrap();
    copy("policies.d/08-never-fires.toml", "policies.d/a.toml");
    copy("policies.d/08-never-fires.toml", "policies.d/b.toml");
    copy("policies.d/18-neither.toml", "policies.d/c.toml");
    fs::set_permissions(path("policies.d/b.toml"), fs::Permissions::from_mode(0o000)).unwrap();
    let told = |settings: &str| {
        fs::write(path("other.toml"), settings).unwrap();
        let config = path("other.toml");
        refusal(&nobody::as_nobody(check(folder.path(), config.to_str().unwrap())))
    };
    let settings = fs::read_to_string(path("renewd.toml")).unwrap();

    let said = told(&settings);

    let place =
        |name: &str| said.find(&path(name).display().to_string()).unwrap_or_else(|| panic!("{name}: {said}"));
    assert!(place("policies.d/a.toml") < place("policies.d/b.toml"));
    assert!(place("policies.d/b.toml") < place("policies.d/c.toml"), "in the order of the files");
    assert!(
        said.contains("cannot be read: Permission denied")
            && said.contains("let the user that renewd runs as")
    );
    assert!(said.contains("has no `secret_key`") && said.ends_with("\n5 mistakes\n"), "{said}");

    let said = told(&format!("policies = \"policies.d/a.toml/policies.d\"\n{settings}"));
    assert!(
        said.contains("Not a directory") && said.contains("a part of the path is a file and no folder"),
        "{said}"
    );
    let said = told(&format!("policies = \"policies\"\n{settings}"));
    assert!(
        said.contains("No such file or directory") && said.contains("create it, or name another path"),
        "{said}"
    );
    // A single file may stand for the folder; a main file does not.
    let said = told(&format!("policies = \"renewd.toml\"\n{settings}"));
    assert!(said.contains("renewd.toml:1:2") && said.contains("it belongs into renewd.toml"), "{said}");
}
