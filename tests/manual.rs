//! Completions and the manual: made from the definitions of the command line, and usable as a package installs them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

fn renewd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_renewd")).env_clear().args(arguments).output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = renewd(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// As `renewd --help` lists them, but for `help` itself.
fn commands() -> BTreeSet<String> {
    let help = stdout(&["-h"]);
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    let names: BTreeSet<String> = names.filter(|name| name != "help").collect();
    assert!(names.contains("check") && names.len() > 10, "{names:?}");
    names
}

/// Whether the machine has the program; what needs it is skipped without it, and says so.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: there is no {program} here");
    }
    found
}

#[test]
fn every_shell_has_completions_and_another_name_is_wrong_usage() {
    for shell in SHELLS {
        assert!(stdout(&["completions", shell]).contains("renewd"), "{shell}");
    }
    let unknown = renewd(&["completions", "cmd"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&unknown.stderr).contains("powershell"),
        "those that are known are named"
    );
}

#[test]
fn bash_takes_its_completions_without_a_word_and_completes_commands_options_and_states() {
    if !has("bash") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("renewd.bash");
    fs::write(&script, stdout(&["completions", "bash"])).unwrap();
    let completed = |words: &[&str]| {
        let ask = "set -u; source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(( $# - 1 ))
            _renewd \"$1\" \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
            printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc", "-c", ask, "bash"]).arg(&script).args(words);
        let output = bash.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // `compopt` belongs to a line that is being typed.
        let said: Vec<&str> = said.lines().filter(|line| !line.contains("compopt")).collect();
        assert!(output.status.success() && said.is_empty(), "{words:?}: {said:?}");
        let reply = String::from_utf8(output.stdout).unwrap();
        reply.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert!(completed(&["renewd", ""]).is_superset(&commands()));
    assert_eq!(completed(&["renewd", "pol"]), set(&["policies"]));
    assert_eq!(completed(&["renewd", "re"]), set(&["resolve", "resume", "retry"]));
    assert_eq!(completed(&["renewd", "runs", "--st"]), set(&["--state"]));
    assert!(completed(&["renewd", "runs", "--state", "wa"]).contains("waiting"));
    assert_eq!(completed(&["renewd", "completions", "fi"]), set(&["fish"]));
}

#[test]
fn the_manual_has_a_page_for_renewd_each_command_and_the_configuration_and_groff_finds_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("not/there/yet");
    let said = stdout(&["man", place.to_str().unwrap()]);
    let pages = |place: &Path| {
        let names =
            fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<BTreeSet<_>>()
    };
    let mut expected: BTreeSet<String> =
        commands().iter().map(|command| format!("renewd-{command}.1")).collect();
    expected.extend(["renewd.1".to_owned(), "renewd.toml.5".to_owned()]);
    assert_eq!(pages(&place), expected);
    assert!(said.starts_with(&format!("{} pages in ", expected.len())), "{said}");

    let main = fs::read_to_string(place.join("renewd.1")).unwrap();
    for section in [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "\"EXIT STATUS\"",
        "ENVIRONMENT",
        "FILES",
        "\"SEE ALSO\"",
    ] {
        assert!(main.contains(&format!("\n.SH {section}\n")), "{section}");
    }
    for command in commands() {
        assert!(main.contains(&format!("renewd\\-{command}(1)")), "{command}");
    }
    let settings = fs::read_to_string(place.join("renewd.toml.5")).unwrap();
    for key in ["settle_seconds", "bare_time_zone", "on_auto_renew", "allow_shrink", "every_fire"] {
        assert!(settings.contains(key), "{key}");
    }

    if !has("groff") {
        return;
    }
    for page in expected {
        let mut groff = Command::new("groff");
        let output =
            groff.args(["-k", "-man", "-ww", "-z", "-Tutf8"]).arg(place.join(&page)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{page}: {said}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let output = renewd(&["man", file.join("man1").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("file/man1 cannot be written"));
}
