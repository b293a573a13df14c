//! What the service tells of itself: log lines, journal entries, metrics, and whether it is ready.
//!
//! Invariant: nobody who reads, or has stopped reading, is ever waited for by the work. Lines go through a bounded
//! queue to a thread of their own, and HTTP has another, with a runtime of its own.

mod http;
mod journal;
mod log;
mod message_ids;
mod metrics;
mod readiness;

pub use http::Http;
pub use journal::Journal;
pub use log::{Format, LogError, Logging, init, log_panics};
pub use message_ids::MESSAGE_IDS;
pub use readiness::TICK_MAX;
