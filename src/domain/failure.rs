//! What can go wrong with a call, in the classes of which each decides what happens next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The class of a failure. The one thing that matters most: may the cloud have acted?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Refused for pace. Not done; again later; never counts as an attempt.
    Throttled,
    /// Locked or in progress. Not done by this call, but the lock may be our own earlier order.
    Busy,
    /// Sold out, under maintenance, clock off. Not done; again in minutes to hours.
    Unavailable,
    /// Nothing left this process. Not done; again soon; never counts as an attempt.
    Unsent,
    /// Balance, rights, unpaid order. Not done; a person has to change something outside.
    Blocked,
    /// Permanently refused. Not done; the run has failed.
    Rejected,
    /// Key or token wrong. Not done; the account's calls are held.
    Credential,
    /// Nobody can say. Perhaps done: reconcile, never repeat blind.
    Unknown,
}

impl Class {
    pub const ALL: [Class; 8] = [
        Class::Throttled,
        Class::Busy,
        Class::Unavailable,
        Class::Unsent,
        Class::Blocked,
        Class::Rejected,
        Class::Credential,
        Class::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Class::Throttled => "throttled",
            Class::Busy => "busy",
            Class::Unavailable => "unavailable",
            Class::Unsent => "unsent",
            Class::Blocked => "blocked",
            Class::Rejected => "rejected",
            Class::Credential => "credential",
            Class::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.as_str() == text)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed call, with the cloud's own words kept whole beside our class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub class: Class,
    /// The cloud's code, or one of ours (`Timeout`, `ConnectionCut`, `NotOrdered`, …).
    pub code: String,
    pub message: String,
    pub request_id: Option<String>,
    pub http_status: Option<u16>,
}

impl Failure {
    pub fn ours(class: Class, code: &str, message: impl Into<String>) -> Failure {
        Failure { class, code: code.to_owned(), message: message.into(), request_id: None, http_status: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.class, self.message)
    }
}

impl std::error::Error for Failure {}
