//! What a person at a terminal sees while the clouds are asked.

use std::fs::File;
use std::io::Read;
use std::process::Command;
use std::time::Duration;

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::{self, Stage, policy, stderr};

/// Longer than is passed over in silence.
const SLOW: Duration = Duration::from_millis(1600);

fn slow_stage() -> Stage {
    let stage = Stage::new();
    stage.expires_in_days("crs-1", 5);
    stage.write_policies(&policy("month", &["crs-1"], ""));
    stage
}

fn stall(stage: &Stage) {
    let stall = Fault::spoil("redis:DescribeInstances", Effect::After, Spoilt::Stall(SLOW));
    stage.cloud.inject(vec![stall]);
}

/// All that the command writes to the terminal that it runs on.
fn on_a_terminal(stage: &Stage, arguments: &[&str]) -> String {
    on_a_terminal_of(0, stage, arguments)
}

/// As [`on_a_terminal`]; of 0 columns is one whose width nobody knows.
fn on_a_terminal_of(columns: u16, stage: &Stage, arguments: &[&str]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut stty = Command::new("stty");
    assert!(stty.args(["cols", &columns.to_string()]).stdin(slave()).status().unwrap().success());
    // It holds the terminal open as well.
    drop(stty);
    let mut command = harness::command(stage.folder(), arguments);
    let mut child = command.env("TERM", "xterm").stdout(slave()).stderr(slave()).spawn().unwrap();
    // It holds the terminal open for writing.
    drop(command);
    let mut written = Vec::new();
    // The last writer gone, a terminal answers with an error and not with an end.
    let _ = File::from(master).read_to_end(&mut written);
    assert!(child.wait().unwrap().success());
    String::from_utf8_lossy(&written).into_owned()
}

#[test]
fn on_a_terminal_what_takes_long_shows_how_far_it_has_come_and_then_clears_it() {
    let stage = slow_stage();
    for arguments in [&["plan"][..], &["check", "--online"]] {
        stall(&stage);
        let written = on_a_terminal(&stage, arguments);
        assert!(written.contains("asking the clouds"), "{written:?}");
        assert!(written.contains("0 of 1"), "{written:?}");
    }
    assert!(!on_a_terminal(&stage, &["plan"]).contains("asking the clouds"), "it was quick");
}

#[test]
fn piped_nothing_is_shown_of_the_way() {
    let stage = slow_stage();
    for arguments in [&["plan"][..], &["check", "--online"]] {
        stall(&stage);
        let output = stage.renewd(arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    }
}

#[test]
fn a_terminal_too_narrow_for_a_table_is_told_which_columns_it_does_not_show() {
    let stage = slow_stage();
    let daemon = stage.start();
    stage.until_order("crs-1", "confirmed");
    daemon.stop();
    for (arguments, left_out) in
        [(&["orders"][..], "ACTION, MONTHS"), (&["runs"], "ATTEMPTS"), (&["plan", "--offline"], "POLICY")]
    {
        let narrow = on_a_terminal_of(60, &stage, arguments);
        let told =
            narrow.lines().find(|line| line.contains("no room for")).unwrap_or_else(|| panic!("{narrow}"));
        assert!(told.contains(left_out) && told.contains("--json shows them"), "{told}");
        for columns in [0, 400] {
            let wide = on_a_terminal_of(columns, &stage, arguments);
            assert!(!wide.contains("no room for"), "{wide}");
        }
        assert!(stderr(&stage.renewd(arguments)).is_empty(), "piped, nothing is left out");
    }
}
