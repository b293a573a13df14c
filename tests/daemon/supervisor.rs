//! What the service tells whoever started it, as systemd would hear it. The real one is in `tests/systemd`.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::harness::{Daemon, Stage, command, policy, until};

const STATES: [&str; 3] = ["READY=1", "RELOADING=1", "STOPPING=1"];
const BEAT: &str = "WATCHDOG=1";
/// A beat is wanted each two seconds.
const WATCHDOG_USEC: &str = "2000000";

/// The socket that systemd listens on.
struct Ear(UnixDatagram);

impl Ear {
    /// Starts the service with one, and waits until it is ready.
    fn of_a_service(stage: &Stage) -> (Ear, Daemon) {
        let path = stage.folder().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(45))).unwrap();
        let mut run = command(stage.folder(), &["run"]);
        run.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", WATCHDOG_USEC);
        let (ear, daemon) = (Ear(socket), Daemon::spawn(run));
        assert_eq!(ear.next_state().0, "READY=1");
        (ear, daemon)
    }

    /// The lines of the next message.
    fn next(&self) -> Vec<String> {
        let mut message = [0; 512];
        let length = self.0.recv(&mut message).unwrap();
        std::str::from_utf8(&message[..length]).unwrap().lines().map(str::to_owned).collect()
    }

    fn next_line_that(&self, fits: impl Fn(&str) -> bool) -> (String, Vec<String>) {
        until("systemd hears what is waited for", || {
            let lines = self.next();
            let line = lines.iter().find(|line| fits(line))?.clone();
            Some((line, lines))
        })
    }

    /// The next change of state, with all that came in its message.
    fn next_state(&self) -> (String, Vec<String>) {
        self.next_line_that(|line| STATES.contains(&line))
    }

    fn forget_what_was_said(&self) {
        self.0.set_nonblocking(true).unwrap();
        let end = until("all is heard", || self.0.recv(&mut [0; 512]).err());
        assert_eq!(end.kind(), ErrorKind::WouldBlock);
        self.0.set_nonblocking(false).unwrap();
    }
}

#[test]
fn systemd_is_told_of_each_reload_and_of_its_end() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let (ear, daemon) = Ear::of_a_service(&stage);
    let is_reloading = || {
        let (state, lines) = ear.next_state();
        let since = lines.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok());
        assert!(state == "RELOADING=1" && since > Some(0), "{lines:?}");
    };

    daemon.signal(Signal::HUP);
    is_reloading();
    assert_eq!(ear.next_state().0, "READY=1");
    stage.write_policies("[broken");
    is_reloading();
    assert_eq!(ear.next_state().0, "READY=1", "whatever came of it");
    daemon.signal(Signal::TERM);
    assert_eq!(ear.next_state().0, "STOPPING=1");
}

#[test]
fn systemd_is_told_how_many_runs_are_in_which_state_and_that_the_files_are_refused() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let (ear, daemon) = Ear::of_a_service(&stage);
    stage.ok(&["pause", "--policy", "month"]);
    ear.next_line_that(|line| {
        line.starts_with("STATUS=runs: ")
            && line.contains(" skipped")
            && line.ends_with("; unknown orders: 0; instances at risk: 0; pauses: 1")
    });
    stage.write_policies("[broken");
    ear.next_line_that(|line| line.starts_with("STATUS=") && line.ends_with("the files on disk are REFUSED"));
    daemon.stop();
}

#[test]
fn the_watchdog_is_fed_also_while_the_database_takes_nothing_since_a_restart_would_not_help() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let (ear, daemon) = Ear::of_a_service(&stage);
    let beats = || ear.next_line_that(|line| line == BEAT);
    beats();
    beats();

    let options = SqliteConnectOptions::new().filename(stage.database());
    let held = stage.block_on(async {
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
        connection
    });
    daemon.until_event("database.failed");
    ear.forget_what_was_said();
    beats();
    stage.block_on(held.close()).unwrap();
    daemon.until_event("database.recovered");
    daemon.stop();
}
