//! Logs: each event a sentence that stands alone, and fields with the contract's names.

use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines are written. They go to stderr: stdout is for results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, Error)]
pub enum LogError {
    #[error("the log level {level:?} is not a filter: {error}")]
    Level { level: String, error: tracing_subscriber::filter::ParseError },
    #[error("logging was set up twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

impl Format {
    /// Text for a person at a terminal, JSON for everything that collects logs.
    pub fn automatic() -> Format {
        if io::stderr().is_terminal() { Format::Text } else { Format::Json }
    }
}

/// Sets up logging for the whole process.
///
/// # Errors
/// The level is no filter, or logging is set up already.
pub fn init(format: Format, level: &str) -> Result<(), LogError> {
    let filter = own_filter(level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .finish()
            .try_init()?,
        Format::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).with_target(false).finish().try_init()?;
        }
    }
    Ok(())
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
