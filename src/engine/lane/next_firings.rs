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

/// No instant lies between `after` and the next.
#[derive(Clone, Copy)]
struct Known {
    after: Timestamp,
    firings: Firings,
}

/// The next two firings, whose distance is the schedule's interval; None: it never comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Firings {
    pub(super) next: Option<Timestamp>,
    pub(super) following: Option<Timestamp>,
}

impl Known {
    fn answers(&self, after: Timestamp) -> bool {
        self.after <= after && self.firings.next.is_none_or(|next| after < next)
    }
}

impl NextFirings {
    /// The first two instants after `after`; none also where the schedule can no longer be read.
    pub(super) fn after(&self, text: &ScheduleText, after: Timestamp) -> Firings {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(text).filter(|known| known.answers(after)) {
            return known.firings;
        }
        let schedule = Schedule::parse(&text.expression, &text.zone).ok();
        let next_after = |at| schedule.as_ref().and_then(|schedule| schedule.next_after(at));
        let next = next_after(after);
        let firings = Firings { next, following: next.and_then(next_after) };
        known.insert(text.clone(), Known { after, firings });
        firings
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
        let ask = |after: Timestamp| {
            let next = schedule.next_after(after);
            let following = next.and_then(|next| schedule.next_after(next));
            assert_eq!(next_firings.after(&text, after), Firings { next, following }, "{after}");
            next.unwrap()
        };
        // Over the spring gap, back and forth, to the second around each moment and the instant that follows it.
        let around = [-1, 0, 1].map(jiff::SignedDuration::from_secs);
        for step in 0..500_i64 {
            let minutes = (step * 7919) % (6 * 24 * 60);
            for second in around {
                let next = ask(start + jiff::SignedDuration::from_mins(minutes) + second);
                for second in around {
                    ask(next + second);
                }
            }
        }
    }
}
