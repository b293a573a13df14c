//! Logs: each event a sentence that stands alone, and fields with the contract's names, the same in every format.

use std::io::{self, IsTerminal};
use std::path::Path;

use thiserror::Error;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
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
    _writes_the_rest: WorkerGuard,
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
            Ok((journal, logging)) => {
                tracing_subscriber::registry().with(filter).with(journal).try_init()?;
                Ok(logging)
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
    let (lines, logging) = queued(io::stderr());
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_writer(lines);
    match format {
        Format::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).with_target(false).finish().try_init()?;
        }
        Format::Json | Format::Journal => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .finish()
            .try_init()?,
    }
    Ok(logging)
}

/// The queue to a thread that writes.
pub(super) fn queued(writer: impl io::Write + Send + 'static) -> (NonBlocking, Logging) {
    let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES_MAX);
    let (lines, guard) = queue.finish(writer);
    (lines, Logging { _writes_the_rest: guard })
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
