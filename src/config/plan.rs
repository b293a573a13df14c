//! Schedules of policies: each distinct one is judged once, however many policies share it.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use crate::config::policy::months_in_words;
use crate::config::reader::Entry;
use crate::domain::policy::{Renew, RenewWhen, ScheduleText};
use crate::schedule::{Schedule, ScheduleError, dialect};

/// Firings over which the pace of an `every_fire` policy is averaged.
const FIRINGS_AVERAGED: i32 = 12;
/// The least by which a month ordered must move the expiry to count as its own.
const SHORTEST_MONTH_DAYS: i64 = 27;
const DAY_SECONDS: i64 = 86_400;

/// What zone and expression are each checked with, so that one's mistake does not hide the other's.
const ANY_EXPRESSION: &str = "@daily";
const ANY_ZONE: &str = "UTC";

/// Only verdicts are kept, no parsed schedule.
pub(crate) struct Plans {
    now: Timestamp,
    expressions: HashMap<String, Result<(), ScheduleError>>,
    zones: HashMap<String, Result<(), ScheduleError>>,
    longest_gaps: HashMap<(ScheduleText, u32), Option<SignedDuration>>,
    paces: HashMap<ScheduleText, Option<SignedDuration>>,
}

impl Plans {
    pub(crate) fn new(now: Timestamp) -> Plans {
        Plans {
            now,
            expressions: HashMap::new(),
            zones: HashMap::new(),
            longest_gaps: HashMap::new(),
            paces: HashMap::new(),
        }
    }

    pub(crate) fn check_expression(&mut self, expression: &str) -> Result<(), ScheduleError> {
        check(&mut self.expressions, expression, |expression| Schedule::parse(expression, ANY_ZONE))
    }

    pub(crate) fn check_zone(&mut self, zone: &str) -> Result<(), ScheduleError> {
        check(&mut self.zones, zone, |zone| Schedule::parse(ANY_EXPRESSION, zone))
    }

    /// Warns of a schedule that fires too seldom, or too often, for what the policy buys.
    pub(crate) fn warn(
        &mut self,
        schedule_entry: &Entry<'_>,
        days_entry: Option<&Entry<'_>>,
        schedule: &ScheduleText,
        renew: Renew,
    ) {
        match renew.when {
            RenewWhen::WithinDays(days) => self.warn_of_gap(schedule_entry, days_entry, schedule, days),
            RenewWhen::EveryFire => self.warn_of_pace(schedule_entry, schedule, renew.months),
        }
    }

    fn warn_of_gap(
        &mut self,
        schedule_entry: &Entry<'_>,
        days_entry: Option<&Entry<'_>>,
        schedule: &ScheduleText,
        days: u32,
    ) {
        let now = self.now;
        let gap = *self.longest_gaps.entry((schedule.clone(), days)).or_insert_with(|| {
            let floor = SignedDuration::from_secs(i64::from(days) * DAY_SECONDS);
            let parsed = Schedule::parse(&schedule.expression, &schedule.zone).ok()?;
            Some(parsed.longest_gap(now, floor)?.length())
        });
        let Some(gap) = gap else { return };
        let gap_days = whole_days_up(gap);
        let by_default = if days_entry.is_none() { " (the default)" } else { "" };
        schedule_entry.reader.warn(
            schedule_entry.span(),
            format!(
                "up to {gap_days} days pass between two firings, more than `within_days` = {days}{by_default}"
            ),
            match dialect::seconds_meant(&schedule.expression) {
                Some(meant) => format!("fire more often: {meant}; or write within_days = {gap_days} or more"),
                None => format!("fire more often, or write within_days = {gap_days} or more"),
            },
        );
    }

    fn warn_of_pace(&mut self, schedule_entry: &Entry<'_>, schedule: &ScheduleText, months: u32) {
        let now = self.now;
        let pace = *self.paces.entry(schedule.clone()).or_insert_with(|| {
            let parsed = Schedule::parse(&schedule.expression, &schedule.zone).ok()?;
            let first = parsed.next_after(now)?;
            let last = (0..FIRINGS_AVERAGED).try_fold(first, |firing, _| parsed.next_after(firing))?;
            Some(first.duration_until(last) / FIRINGS_AVERAGED)
        });
        let bought = SignedDuration::from_secs(i64::from(months) * SHORTEST_MONTH_DAYS * DAY_SECONDS);
        let Some(pace) = pace.filter(|pace| *pace < bought) else { return };
        schedule_entry.reader.warn(
            schedule_entry.span(),
            format!(
                "each firing buys {}, and one comes every {:#}: it buys faster than time passes",
                months_in_words(months),
                in_seconds(pace)
            ),
            "fire less often, or drop `every_fire` so that only what is about to expire is renewed",
        );
    }
}

fn check(
    verdicts: &mut HashMap<String, Result<(), ScheduleError>>,
    text: &str,
    parse: impl Fn(&str) -> Result<Schedule, ScheduleError>,
) -> Result<(), ScheduleError> {
    if let Some(verdict) = verdicts.get(text) {
        return verdict.clone();
    }
    let verdict = parse(text).map(|_| ());
    verdicts.insert(text.to_owned(), verdict.clone());
    verdict
}

fn in_seconds(duration: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(duration.as_secs())
}

fn whole_days_up(duration: SignedDuration) -> i64 {
    (duration.as_secs() + DAY_SECONDS - 1) / DAY_SECONDS
}
