//! The service under a journal: entries that can be searched for, under systemd without being asked.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use renewd::telemetry::MESSAGE_IDS;

use crate::harness::{Daemon, Stage, command, policy, text, until};

type Entry = BTreeMap<String, String>;

/// Gives a process a `/run` of its own in which this folder is the journal's, and says of its stderr what systemd says
/// of a stream that leads there.
const UNDER_A_JOURNAL: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && \
     mount --bind \"$0\" /run/systemd/journal && \
     JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) && export JOURNAL_STREAM && exec \"$@\"";

struct Journal {
    folder: tempfile::TempDir,
    entries: Receiver<Entry>,
}

impl Journal {
    fn new() -> Journal {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("socket")).unwrap();
        let (sender, entries) = channel();
        std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 20];
            while let Ok(length) = socket.recv(&mut bytes) {
                if length > 0 && sender.send(entry(&bytes[..length])).is_err() {
                    return;
                }
            }
        });
        Journal { folder, entries }
    }

    /// None where nobody may make a namespace.
    fn service(&self, folder: &Path) -> Option<Daemon> {
        let renewd = command(folder, &["run"]);
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "sh", "-c", UNDER_A_JOURNAL])
            .arg(self.folder.path())
            .arg(renewd.get_program())
            .args(renewd.get_args())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let may = Command::new("unshare").args(["--mount", "true"]).output();
        may.is_ok_and(|output| output.status.success()).then(|| Daemon::spawn(unshare))
    }

    /// All entries up to the first of that kind.
    fn until_event(&self, kind: &str) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            let entry = self.entries.recv_timeout(Duration::from_secs(45));
            let entry = entry.unwrap_or_else(|_| panic!("no {kind} came: {entries:#?}"));
            let is_it = entry.get("RENEWD_EVENT").is_some_and(|event| event == kind);
            entries.push(entry);
            if is_it {
                return entries;
            }
        }
    }
}

/// Without values of several lines.
fn entry(bytes: &[u8]) -> Entry {
    let text = String::from_utf8_lossy(bytes);
    let fields = text.lines().filter_map(|line| line.split_once('='));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn set_format(stage: &Stage, format: &str) {
    let path = stage.folder().join("renewd.toml");
    let settings = fs::read_to_string(&path).unwrap();
    fs::write(path, settings.replace("format = \"json\"", &format!("format = \"{format}\""))).unwrap();
}

#[test]
fn under_systemd_the_journal_has_every_event_and_one_id_finds_all_of_a_run() {
    for format in ["auto", "journal"] {
        let stage = Stage::new();
        set_format(&stage, format);
        stage.expires_in_days("crs-refused", 5);
        let refused = Spoilt::Code("LimitExceeded.PeriodExceedMaxLimit".to_owned());
        let refused = Fault::spoil("redis:RenewInstance", Effect::Before, refused);
        // Also at the next firings, which may come before the stop.
        stage.cloud.inject(vec![refused.on("crs-refused").times(1000)]);
        stage.write_policies(&policy("month", &["crs-sandbox-1", "crs-refused"], ""));
        let journal = Journal::new();
        let Some(daemon) = journal.service(stage.folder()) else {
            eprintln!("SKIPPED: without a mount namespace there is no journal to log to");
            return;
        };
        let mut entries = journal.until_event("service.ready");
        let order = stage.until_order("crs-sandbox-1", "confirmed");
        stage.until_order("crs-refused", "refused");
        assert_eq!(daemon.lines(), [""; 0], "nothing is told twice");
        daemon.stop();
        entries.extend(journal.until_event("service.stopped"));

        for entry in &entries {
            assert_eq!(entry["SYSLOG_IDENTIFIER"], "renewd");
            assert!(!entry["MESSAGE"].is_empty() && entry.contains_key("RENEWD_EVENT"), "{entry:#?}");
            let acts = MESSAGE_IDS.iter().find(|(kind, _)| *kind == entry["RENEWD_EVENT"]);
            let id = acts.filter(|_| entry["PRIORITY"] == "3").map(|(_, id)| format!("{id:032x}"));
            assert_eq!(entry.get("MESSAGE_ID"), id.as_ref(), "{entry:#?}");
        }
        let run = order["run_id"].to_string();
        let of_run = entries.iter().filter(|entry| entry.get("RENEWD_RUN") == Some(&run));
        let kinds: Vec<&str> = of_run.clone().map(|entry| entry["RENEWD_EVENT"].as_str()).collect();
        assert_eq!(
            kinds,
            ["run.started", "order.intended", "order.placed", "order.confirmed", "run.succeeded"]
        );
        for entry in of_run {
            assert_eq!(
                (entry["RENEWD_INSTANCE"].as_str(), entry["RENEWD_POLICY"].as_str()),
                ("crs-sandbox-1", "month")
            );
        }
        let has_number =
            |entry: &&Entry| entry.get("RENEWD_ORDER_ID").map(String::as_str) == order["order_id"].as_str();
        assert!(entries.iter().filter(has_number).count() > 1, "its number finds it as well");
        let failed = entries.iter().find(|entry| entry["RENEWD_EVENT"] == "run.failed").unwrap();
        assert_eq!(
            (failed["PRIORITY"].as_str(), failed["RENEWD_CODE"].as_str()),
            ("3", "LimitExceeded.PeriodExceedMaxLimit")
        );
        stage.assert_agreement();
    }
}

#[test]
fn under_systemd_settings_refused_at_the_start_are_in_the_journal_too() {
    let stage = Stage::new();
    stage.edit_settings(|settings| settings.replace("format = \"json\"", "format = \"auto\"") + "[retry]\n");
    let journal = Journal::new();
    let Some(mut daemon) = journal.service(stage.folder()) else {
        eprintln!("SKIPPED: without a mount namespace there is no journal to log to");
        return;
    };
    assert_eq!(daemon.until_end().code(), Some(78));
    let entries = journal.until_event("config.refused");
    let [refused] = entries.as_slice() else { panic!("{entries:#?}") };
    assert_eq!(refused["PRIORITY"], "3");
    assert_eq!(daemon.lines(), [""; 0], "nothing is told twice");
}

#[test]
fn a_journal_that_goes_away_neither_ends_nor_holds_up_the_service() {
    let stage = Stage::new();
    set_format(&stage, "journal");
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let journal = Journal::new();
    let Some(daemon) = journal.service(stage.folder()) else {
        eprintln!("SKIPPED: without a mount namespace there is no journal to log to");
        return;
    };
    journal.until_event("service.ready");
    fs::remove_file(journal.folder.path().join("socket")).unwrap();
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn where_there_is_no_journal_its_entries_become_json_lines_and_that_is_said() {
    let stage = Stage::new();
    set_format(&stage, "journal");
    if Path::new("/run/systemd/journal/socket").exists() {
        eprintln!("SKIPPED: this machine has a journal, and its entries would go there");
        return;
    }
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    let said = daemon.until_event_that("config.doubtful", |event| text(event, "message").contains("journal"));
    assert_eq!(said["level"], "WARN");
    stage.until_order("crs-sandbox-1", "confirmed");
    until("it logs on", || (!daemon.events("order.confirmed").is_empty()).then_some(()));
    daemon.stop();
}
