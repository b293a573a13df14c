//! Native entries of systemd's journal: every field can be searched for, `journalctl RENEWD_RUN=42`.
//!
//! tracing-journald would send from whichever thread logs, and wait there for a journal that is busy; and it knows no
//! message ids. The protocol is small: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

mod socket;

use std::fmt::{Debug, Write as _};
use std::io::{self, Write as _};
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::log::queued;
use super::message_ids;
use socket::JournalSocket;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

const IDENTIFIER: &str = "renewd";
/// Keeps our fields apart from the journal's own.
const PREFIX: &str = "RENEWD_";
/// The journal drops a field with a longer name.
const NAME_MAX_BYTES: usize = 64;

/// Whether stderr leads to the journal, as systemd says of the service it started.
pub(super) fn has_stderr() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    // A child may have inherited the variable and not the stream.
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// Turns events into entries and hands them to a thread that sends them.
pub struct Journal {
    entries: NonBlocking,
}

impl Journal {
    /// # Errors
    /// Nobody listens there.
    pub fn open(path: &Path) -> io::Result<(Journal, WorkerGuard)> {
        let (entries, writes_the_rest) = queued(JournalSocket::open(path)?);
        Ok((Journal { entries }, writes_the_rest))
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Into the queue; what does not fit there any more is lost, as with lines.
        let _ = self.entries.clone().write_all(&entry(event));
    }
}

fn entry(event: &Event<'_>) -> Vec<u8> {
    let about: &Metadata<'_> = event.metadata();
    let mut entry = Entry::begin(about.level());
    entry.put(&format!("{PREFIX}TARGET"), about.target());
    if let (Some(file), Some(line)) = (about.file(), about.line()) {
        entry.put("CODE_FILE", file);
        entry.put("CODE_LINE", &line.to_string());
    }
    let mut fields = Fields { entry, is_error: *about.level() == Level::ERROR };
    event.record(&mut fields);
    fields.entry.0
}

/// An entry as it is sent.
struct Entry(Vec<u8>);

impl Entry {
    fn begin(level: &Level) -> Entry {
        let mut entry = Entry(Vec::with_capacity(512));
        entry.put("SYSLOG_IDENTIFIER", IDENTIFIER);
        entry.put("PRIORITY", priority(level));
        entry
    }

    /// `NAME=value`; a value of several lines is announced by its length.
    fn put(&mut self, name: &str, value: &str) {
        let Entry(bytes) = self;
        bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    }
}

/// As in syslog: error, warning, informational, debug.
fn priority(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// Puts an event's fields into its entry.
struct Fields {
    entry: Entry,
    is_error: bool,
}

impl Fields {
    fn put(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.entry.put("MESSAGE", value),
            name => self.entry.put(&journal_name(name), value),
        }
        if field.name() == "event"
            && self.is_error
            && let Some(id) = message_ids::of(value)
        {
            self.entry.put("MESSAGE_ID", &format!("{id:032x}"));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // Only a value that refuses to be shown fails; what it has shown by then is kept.
        let _ = write!(text, "{value:?}");
        self.put(field, &text);
    }
}

/// Capital letters, digits and `_` are all that a name may have.
fn journal_name(field: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let mut name: String = PREFIX.chars().chain(field.chars().map(allowed)).collect();
    name.truncate(NAME_MAX_BYTES);
    name
}

#[cfg(test)]
mod tests;
