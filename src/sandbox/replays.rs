//! Calls that may be made once only, told apart by the number and the second they are signed with.

use std::collections::HashSet;

use jiff::Timestamp;

/// How far the clock of such a signature may be off, either way; so long its number is remembered.
pub(crate) const MAX_SKEW_SECONDS: u64 = 300;
/// Signatures at rest are forgotten once there are this many.
const KEPT: usize = 4_096;

/// What a call may be made with only once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Once {
    pub key_id: String,
    pub nonce: u64,
    pub signed_at: i64,
    /// The code that the second time is refused with.
    pub code: &'static str,
}

/// The pairs of nonce and timestamp that were seen within the time a signature is good for.
#[derive(Default)]
pub(crate) struct Replays(HashSet<Once>);

impl Replays {
    /// Whether this is the first time.
    pub(crate) fn admit(&mut self, once: Once, now: Timestamp) -> bool {
        if self.0.len() >= KEPT {
            self.0.retain(|seen| seen.signed_at.abs_diff(now.as_second()) <= MAX_SKEW_SECONDS);
        }
        self.0.insert(once)
    }
}
