//! A command as a user without rights of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

pub const NOBODY: u32 = 65_534;

/// Usable as long as it lives: the binary lies in a folder of its own.
pub struct OfNobody {
    pub command: Command,
    _place: TempDir,
}

/// Runs what was built; where the tests do not run as root, their user has no rights beyond the modes either.
pub fn as_nobody(mut built: Command) -> Output {
    if !rustix::process::getuid().is_root() {
        return built.output().unwrap();
    }
    of_nobody(&built).command.output().unwrap()
}

/// Only root can.
pub fn of_nobody(built: &Command) -> OfNobody {
    // Where that user can reach it: the binary may lie in root's home.
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = place.path().join("renewd");
    // By a process of its own: a file that another test's child still holds for writing cannot be run.
    let copied = Command::new("cp").arg(built.get_program()).arg(&binary).status().unwrap();
    assert!(copied.success());
    let mut command = Command::new(binary);
    command.args(built.get_args()).env_clear().uid(NOBODY).gid(NOBODY);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    OfNobody { command, _place: place }
}
