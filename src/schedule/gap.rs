//! How long a schedule leaves nothing due.

use jiff::{SignedDuration, Timestamp};

/// Two successive firings and nothing between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Gap {
    pub fn length(&self) -> SignedDuration {
        self.from.duration_until(self.until)
    }
}
