//! Counting instants that passed.

use jiff::{SignedDuration, Timestamp};

use super::Schedule;

/// Instants that passed without firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    pub count: u32,
    pub last: Timestamp,
}

/// Missed instants are counted one by one, about a microsecond each, no further than this.
pub const COUNTED_MAX: usize = 1_000_000;

impl Schedule {
    /// How many instants were due after `after`, through `through`, and the last of them; None: not one. Past
    /// [`COUNTED_MAX`] the count stops: it means "at least" then.
    pub fn missed_between(&self, after: Timestamp, through: Timestamp) -> Option<Missed> {
        let mut missed: Option<Missed> = None;
        for instant in self.due_between(after, through).take(COUNTED_MAX) {
            let count = missed.map_or(0, |missed| missed.count) + 1;
            missed = Some(Missed { count, last: instant });
        }
        let mut missed = missed?;
        if missed.count as usize == COUNTED_MAX {
            // So dense a schedule was due within the last days as well.
            let near = through.checked_sub(SignedDuration::from_hours(48)).unwrap_or(after).max(after);
            missed.last = self.due_between(near, through).last().unwrap_or(missed.last);
        }
        Some(missed)
    }
}
