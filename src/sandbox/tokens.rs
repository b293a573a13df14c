//! What the practice cloud remembers of client tokens.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::sandbox::world::{NoSale, Renewal, Term};

/// The vendor publishes it for its message queues, for no other product.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(8);

/// By key id and token. A refused call leaves none behind.
#[derive(Default)]
pub struct Tokens(HashMap<(String, String), Use>);

struct Use {
    instance: String,
    term: Term,
    order_id: String,
    at: Timestamp,
    /// Until then the call is still at work.
    finished_at: Timestamp,
}

/// Why a token buys nothing, now or ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoSecondSale {
    #[error(transparent)]
    NoSale(#[from] NoSale),
    #[error("the request uses the same client token as a previous, but non-identical request")]
    OtherContent,
    #[error("the request uses the same client token as a previous one that is still in process")]
    StillRunning,
    #[error("the client token was used too long ago")]
    Forgotten,
}

impl Tokens {
    /// The order that this very renewal made before, if it did.
    pub fn recall(
        &self,
        renewal: &Renewal<'_>,
        token: &str,
        now: Timestamp,
    ) -> Result<Option<String>, NoSecondSale> {
        let Some(used) = self.0.get(&key(renewal, token)) else { return Ok(None) };
        if now.duration_since(used.at) > REMEMBERED {
            return Err(NoSecondSale::Forgotten);
        }
        if (used.instance.as_str(), used.term) != (renewal.instance, renewal.term) {
            return Err(NoSecondSale::OtherContent);
        }
        if now < used.finished_at {
            return Err(NoSecondSale::StillRunning);
        }
        Ok(Some(used.order_id.clone()))
    }

    /// A renewal that readers do not see yet is one that is still at work.
    pub fn remember(&mut self, renewal: &Renewal<'_>, token: &str, order_id: &str, now: Timestamp) {
        let used = Use {
            instance: renewal.instance.to_owned(),
            term: renewal.term,
            order_id: order_id.to_owned(),
            at: now,
            finished_at: renewal.seen_from,
        };
        self.0.insert(key(renewal, token), used);
    }
}

fn key(renewal: &Renewal<'_>, token: &str) -> (String, String) {
    (renewal.key_id.to_owned(), token.to_owned())
}
