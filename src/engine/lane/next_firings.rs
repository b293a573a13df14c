//! When each schedule fires next: a thousand claims share a few schedules, and parsing one for each of them
//! would be the slowest part of a lane.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::domain::policy::ScheduleText;
use crate::schedule::Schedule;

/// Memory follows distinct schedules: a moment and an answer each, no parsed pattern.
#[derive(Default)]
pub(super) struct NextFirings(Mutex<HashMap<ScheduleText, Known>>);

/// No instant lies between `after` and `next`; None: none ever comes.
#[derive(Clone, Copy)]
struct Known {
    after: Timestamp,
    next: Option<Timestamp>,
}

impl Known {
    fn answers(&self, after: Timestamp) -> bool {
        self.after <= after && self.next.is_none_or(|next| after < next)
    }
}

impl NextFirings {
    /// The first instant after `after`; None also where the schedule can no longer be read.
    pub(super) fn after(&self, text: &ScheduleText, after: Timestamp) -> Option<Timestamp> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(text).filter(|known| known.answers(after)) {
            return known.next;
        }
        let schedule = Schedule::parse(&text.expression, &text.zone).ok();
        let next = schedule.and_then(|schedule| schedule.next_after(after));
        known.insert(text.clone(), Known { after, next });
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_those_of_the_schedule_in_whatever_order_they_are_asked_for() {
        let text = ScheduleText { expression: "30 2 * * *".to_owned(), zone: "Europe/Berlin".to_owned() };
        let schedule = Schedule::parse(&text.expression, &text.zone).unwrap();
        let next_firings = NextFirings::default();
        let start: Timestamp = "2026-03-27T00:00:00Z".parse().unwrap();
        // Over the spring gap, back and forth, to the second around each instant.
        for step in 0..2000_i64 {
            let minutes = (step * 7919) % (6 * 24 * 60);
            for second in [-1, 0, 1] {
                let after = start + jiff::SignedDuration::from_secs(minutes * 60 + second);
                assert_eq!(next_firings.after(&text, after), schedule.next_after(after), "{after}");
            }
        }
    }
}
