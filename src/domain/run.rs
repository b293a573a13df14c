//! A run: one due instant of one policy for one instance, from firing to its one end.
//!
//! ```text
//! queued ──claim──► running ──► succeeded | skipped | failed | cancelled   (terminal, never left)
//!   ▲                  │
//!   │                  ├──► waiting   again at next_attempt_at, or its order is placed
//!   └──── due ─────────┤
//!   └── not ordered ───┴──► unknown   its order is unknown; reconcile or a person moves it on
//! ```

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::failure::Failure;

/// `runs.id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub i64);

/// One life of one daemon. A claim or an intent of an older epoch cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Fired and not yet looked at. The lane moves it on.
    Queued,
    /// In the hands of a lane of the present epoch.
    Running,
    /// Again at its next attempt, or its order is placed and awaits confirmation.
    Waiting,
    /// Its order is unknown. Reconcile moves it on, or a person.
    Unknown,
    Succeeded,
    Skipped,
    Failed,
    Cancelled,
}

impl RunState {
    pub const ALL: [RunState; 8] = [
        RunState::Queued,
        RunState::Running,
        RunState::Waiting,
        RunState::Unknown,
        RunState::Succeeded,
        RunState::Skipped,
        RunState::Failed,
        RunState::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Queued => "queued",
            RunState::Running => "running",
            RunState::Waiting => "waiting",
            RunState::Unknown => "unknown",
            RunState::Succeeded => "succeeded",
            RunState::Skipped => "skipped",
            RunState::Failed => "failed",
            RunState::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<RunState> {
        RunState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Why a run exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Schedule,
    /// Stands for all firings missed while the daemon was down.
    CatchUp,
    Trigger,
    Retry,
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Schedule => "schedule",
            Origin::CatchUp => "catch_up",
            Origin::Trigger => "trigger",
            Origin::Retry => "retry",
        }
    }

    pub fn parse(text: &str) -> Option<Origin> {
        [Origin::Schedule, Origin::CatchUp, Origin::Trigger, Origin::Retry]
            .into_iter()
            .find(|origin| origin.as_str() == text)
    }
}

/// What becomes of a claimed run that did not end in an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Skipped { reason: String },
    Failed { reason: String, failure: Option<Failure> },
    Wait { until: Timestamp, reason: String, hold: Hold, failure: Option<Failure>, counts: bool },
}

/// What a waiting run waits for: decides what wakes it early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// Its own backoff.
    Backoff,
    /// A pause; `resume` wakes it.
    Pause,
    /// Another order on the same instance; its end wakes it.
    OpenOrder,
    /// Its own order, placed and awaiting confirmation.
    Confirmation,
}

impl Hold {
    pub fn as_str(self) -> &'static str {
        match self {
            Hold::Backoff => "backoff",
            Hold::Pause => "pause",
            Hold::OpenOrder => "open_order",
            Hold::Confirmation => "confirmation",
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
