use std::collections::BTreeMap;
use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;

use rustix::fs::{SealFlags, fcntl_get_seals};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;
use tracing::subscriber::with_default;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

/// A journal that keeps what it is sent.
struct Fake {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Fake {
    fn new() -> Fake {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("socket")).unwrap();
        Fake { socket, folder }
    }

    fn open(&self) -> (Journal, WorkerGuard) {
        Journal::open(&self.folder.path().join("socket")).unwrap()
    }

    /// Runs the work with a journal that leads here; all it logged is sent when this returns.
    fn listen(&self, work: impl FnOnce()) {
        let (journal, logging) = self.open();
        with_default(tracing_subscriber::registry().with(journal), work);
        drop(logging);
    }

    /// What was sent so far, but for the empty datagram that asks whether anybody is there.
    fn received(&self) -> Vec<BTreeMap<String, String>> {
        self.socket.set_nonblocking(true).unwrap();
        let mut entries = Vec::new();
        let mut bytes = vec![0; 1 << 20];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            if length > 0 {
                entries.push(fields(&bytes[..length]));
            }
        }
        entries
    }
}

/// Reads the protocol as its page describes it.
fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let line = bytes.iter().position(|byte| *byte == b'\n').expect("a field ends its line");
        let (head, rest) = (&bytes[..line], &bytes[line + 1..]);
        let (name, value);
        match head.iter().position(|byte| *byte == b'=') {
            Some(equals) => {
                (name, value) = (&head[..equals], &head[equals + 1..]);
                bytes = rest;
            }
            None => {
                let length = u64::from_le_bytes(rest[..8].try_into().unwrap());
                let length = usize::try_from(length).unwrap();
                (name, value) = (head, &rest[8..8 + length]);
                assert_eq!(rest[8 + length], b'\n');
                bytes = &rest[8 + length + 1..];
            }
        }
        let name = String::from_utf8(name.to_vec()).unwrap();
        let is_allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(is_allowed) && name.len() <= 64 && !name.starts_with('_'), "{name}");
        assert!(fields.insert(name, String::from_utf8(value.to_vec()).unwrap()).is_none());
    }
    fields
}

#[test]
fn an_event_is_an_entry_with_our_fields_under_our_prefix() {
    let fake = Fake::new();
    fake.listen(|| {
        tracing::info!(
            event = "order.placed", policy = "cache", run = 42_i64, late = true, absent = None::<&str>,
            expiry = %"2026-12-01", "order {} is placed", 7
        );
    });
    let entries = fake.received();
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    let wanted = [
        ("MESSAGE", "order 7 is placed"),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "renewd"),
        ("RENEWD_EVENT", "order.placed"),
        ("RENEWD_POLICY", "cache"),
        ("RENEWD_RUN", "42"),
        ("RENEWD_LATE", "true"),
        ("RENEWD_EXPIRY", "2026-12-01"),
        ("CODE_FILE", file!()),
        ("RENEWD_TARGET", module_path!()),
    ];
    for (name, value) in wanted {
        assert_eq!(entry.get(name).map(String::as_str), Some(value), "{name} of {entry:#?}");
    }
    assert!(entry["CODE_LINE"].parse::<u32>().is_ok());
    assert_eq!(entry.len(), wanted.len() + 1, "{entry:#?}");
}

#[test]
fn each_level_has_its_priority_and_only_what_somebody_must_act_on_its_message_id() {
    let fake = Fake::new();
    fake.listen(|| {
        tracing::error!(event = "run.failed", "act");
        tracing::warn!(event = "run.failed", "look");
        tracing::info!(event = "run.failed", "know");
        tracing::debug!(event = "run.failed", "dig");
        tracing::error!(event = "of.nobody", "no words for it");
    });
    let entries = fake.received();
    let field = |name: &str| -> Vec<Option<&str>> {
        entries.iter().map(|entry| entry.get(name).map(String::as_str)).collect()
    };
    assert_eq!(field("PRIORITY"), [Some("3"), Some("4"), Some("6"), Some("7"), Some("3")]);
    let id = Some("516f5fbf7b0b4abc8f128340e7b65894");
    assert_eq!(field("MESSAGE_ID"), [id, None, None, None, None]);
}

#[test]
fn values_of_several_lines_and_names_that_the_journal_would_refuse_arrive_all_the_same() {
    let fake = Fake::new();
    let value = "line one\nMESSAGE=no message\n\n日本\n";
    fake.listen(|| {
        tracing::warn!(dotted.field = value, "first\nsecond");
        tracing::warn!(a_name_of_which_hardly_anybody_would_believe_that_it_is_meant_so = 1, "long");
    });
    let entries = fake.received();
    assert_eq!(entries[0]["RENEWD_DOTTED_FIELD"], value);
    assert_eq!(entries[0]["MESSAGE"], "first\nsecond");
    assert!(entries[1].keys().any(|name| name.starts_with("RENEWD_A_NAME_OF_WHICH") && name.len() == 64));
}

#[test]
fn an_entry_too_large_for_a_datagram_comes_as_a_sealed_file_of_memory() {
    let fake = Fake::new();
    let refusal = "a mistake in a line\n".repeat(1 << 20);
    // The thread that sends does not wait for who receives.
    fake.listen(|| tracing::error!(event = "config.refused", "{refusal}"));
    assert_eq!(fake.socket.recv(&mut [0; 16]).unwrap(), 0, "the first asks whether anybody is there");
    let file = received_file(&fake.socket);
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    assert_eq!(fcntl_get_seals(&file).unwrap(), seals);
    let file = fs::File::from(file);
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let entry = fields(&bytes);
    assert!(entry["MESSAGE"] == refusal, "{} bytes of message", entry["MESSAGE"].len());
    assert_eq!(entry["MESSAGE_ID"], "d8643b4275744c8b85688cf07d3f1778");
}

fn received_file(socket: &UnixDatagram) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 16];
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::empty()).unwrap();
    assert_eq!(received.bytes, 0);
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    files.flatten().next().expect("a file came")
}

#[test]
fn a_journal_that_goes_away_and_comes_back_is_told_how_much_it_missed() {
    let fake = Fake::new();
    let path = fake.folder.path().join("socket");
    let mut journal = JournalSocket::open(&path).unwrap();
    let mut log = |message: &str| {
        let mut entry = Entry::begin(&Level::INFO);
        entry.put("MESSAGE", message);
        journal.write_all(&entry.0)
    };
    log("before").unwrap();
    fs::remove_file(&path).unwrap();
    log("lost").unwrap_err();
    log("lost too").unwrap_err();
    let back = Fake { socket: UnixDatagram::bind(&path).unwrap(), folder: fake.folder };
    log("after").unwrap();
    log("later").unwrap();
    let messages: Vec<String> = back.received().iter().map(|entry| entry["MESSAGE"].clone()).collect();
    assert_eq!(messages, ["after", "2 log entries before this one found no journal", "later"]);
}

#[test]
fn nobody_waits_for_a_journal_that_does_not_read() {
    let fake = Fake::new();
    let (journal, logging) = fake.open();
    with_default(tracing_subscriber::registry().with(journal), || {
        // More than its socket and the queue to it hold: would one of them wait, this would not end.
        for number in 0..30_000 {
            tracing::info!(number, "nobody reads this");
        }
    });
    drop(logging);
    assert_eq!(fake.received()[0]["RENEWD_NUMBER"], "0");
}

#[test]
fn without_a_journal_there_is_none_to_open() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Journal::open(&folder.path().join("socket")).is_err());
}
