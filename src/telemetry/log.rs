//! Logs: each event a sentence that stands alone, and fields with the contract's names, the same in every format.

use std::io::{self, IsTerminal};
use std::path::Path;

use thiserror::Error;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;

use super::journal::{self, Journal};

/// How log lines are written. Text and JSON go to stderr: stdout is for results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
    /// Native entries, each field one of the journal's.
    Journal,
}

#[derive(Debug, Error)]
pub enum LogError {
    #[error("the log level {level:?} is not a filter: {error}")]
    Level { level: String, error: tracing_subscriber::filter::ParseError },
    #[error("logging was set up twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
    #[error("the log level cannot be changed any more: {0}")]
    Gone(#[from] reload::Error),
}

impl Format {
    /// The journal where stderr leads there anyway, text for a person at a terminal, JSON for everything else that
    /// collects logs.
    pub fn automatic() -> Format {
        if journal::has_stderr() {
            Format::Journal
        } else if io::stderr().is_terminal() {
            Format::Text
        } else {
            Format::Json
        }
    }
}

/// Lines that wait for a reader; later ones are lost until it reads again.
const WAITING_LINES_MAX: usize = 10_000;

/// Writes out what is still waiting when it is dropped, for a second at most.
pub struct Logging {
    replace_filter: ReplaceFilter,
    _writes_the_rest: WorkerGuard,
}

type ReplaceFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

impl Logging {
    fn new<S: 'static>(handle: Handle<EnvFilter, S>, writes_the_rest: WorkerGuard) -> Logging {
        let replace_filter = Box::new(move |filter| handle.reload(filter));
        Logging { replace_filter, _writes_the_rest: writes_the_rest }
    }

    /// From the next event on.
    ///
    /// # Errors
    /// The level is no filter.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        Ok((self.replace_filter)(own_filter(level)?)?)
    }
}

/// Sets up logging for the whole process. A thread of its own writes the lines: renewals must not wait for a reader
/// that has stopped reading, nor end with one that is gone or a disk that is full. Without a journal to write to, its
/// entries become JSON lines.
///
/// # Errors
/// The level is no filter, or logging is set up already.
pub fn init(format: Format, level: &str) -> Result<Logging, LogError> {
    let filter = own_filter(level)?;
    match format {
        Format::Journal => match Journal::open(Path::new(journal::SOCKET)) {
            Ok((journal, writes_the_rest)) => {
                let (filter, handle) = reload::Layer::new(filter);
                tracing_subscriber::registry().with(filter).with(journal).try_init()?;
                Ok(Logging::new(handle, writes_the_rest))
            }
            Err(error) => {
                let logging = init_lines(Format::Json, filter)?;
                let socket = journal::SOCKET;
                tracing::warn!(
                    event = "config.doubtful",
                    "there is no journal at {socket} to log to: logging JSON lines to stderr instead: {error}"
                );
                Ok(logging)
            }
        },
        Format::Json | Format::Text => init_lines(format, filter),
    }
}

fn init_lines(format: Format, filter: EnvFilter) -> Result<Logging, LogError> {
    let (lines, writes_the_rest) = queued(io::stderr());
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_writer(lines);
    match format {
        Format::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let text = builder.with_ansi(colour).with_target(false).with_filter_reloading();
            let handle = text.reload_handle();
            text.finish().try_init()?;
            Ok(Logging::new(handle, writes_the_rest))
        }
        Format::Json | Format::Journal => {
            let json = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
            let json = json.with_filter_reloading();
            let handle = json.reload_handle();
            json.finish().try_init()?;
            Ok(Logging::new(handle, writes_the_rest))
        }
    }
}

/// The queue to a thread that writes.
pub(super) fn queued(writer: impl io::Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES_MAX);
    queue.finish(writer)
}

/// A defect shows as one event like all others, not as raw lines among them.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(event = "service.panicked", "a part of the service broke: {panic}");
    }));
}

/// A bare level is ours: libraries stay at warn. Anything more is taken as written.
fn own_filter(level: &str) -> Result<EnvFilter, LogError> {
    let text = if level.chars().all(char::is_alphabetic) {
        format!("warn,renewd={level}")
    } else {
        level.to_owned()
    };
    EnvFilter::try_new(&text).map_err(|error| LogError::Level { level: level.to_owned(), error })
}
