//! Due instants of (cron expression, time zone): pure arithmetic, no clock.
//!
//! Cron matching is croner's and works on wall time only; mapping wall time to instants is ours.
//! One rule covers every kind of transition: a wall time is due at the *first instant at which the
//! zone's clock shows it or a later time*. So wall times inside a gap fall onto the first instant
//! after it, in an overlap the first pass counts, and since the map never runs backwards the due
//! instants are a set in ascending order.

use std::fmt;
use std::sync::Arc;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{self, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

pub mod dialect;
mod gap;
mod missed;
mod recent;

pub use gap::Gap;
pub use missed::{COUNTED_MAX, Missed};

/// A parsed (expression, zone). Its pattern holds about 5 KB: parse when due, keep none; the latest few are remembered.
#[derive(Clone)]
pub struct Schedule {
    cron: Arc<Cron>,
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    #[error("`{expression}` is not a cron expression: {reason}")]
    BadExpression { expression: String, reason: String, help: String },
    #[error("`{expression}` never fires: no such day comes")]
    NeverFires { expression: String },
    #[error("`{zone}` is not a time zone of this machine's tz database")]
    UnknownZone { zone: String, nearest: Option<String> },
}

const EXPRESSION_HELP: &str = "write five fields (minute hour day-of-month month weekday), six with seconds \
    first, or one of @hourly, @daily, @weekly, @monthly, @yearly";
const MIDNIGHT: &str = "@midnight";
const NICKNAMES: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", MIDNIGHT, "@hourly"];

/// From the second on, the names that messages use for the fields, and what each takes.
const FIELD_NAMES: [&str; 6] = ["second", "minute", "hour", "day-of-month", "month", "weekday"];
const FIELD_RANGES: [&str; 6] =
    ["0-59", "0-59", "0-23", "1-31 or L", "1-12 or JAN-DEC", "0-7 (Sunday is 0 and 7) or SUN-SAT"];
const DAY_OF_MONTH: usize = 3;
const MONTH: usize = 4;
const WEEKDAY: usize = 5;
const MONTH_NAMES: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAY_NAMES: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// No zone ever set its clock back by more than a day (Alaska 1867); an overlap that began before
/// this long ago is over.
const LONGEST_OVERLAP: SignedDuration = SignedDuration::from_hours(26);

/// How far [`Schedule::longest_gap`] looks: every yearly pattern shows itself, and most leap days.
const GAP_HORIZON: SignedDuration = SignedDuration::from_hours(5 * 366 * 24);

impl Schedule {
    /// Seconds are optional, years are not taken, day-of-month and weekday are OR-ed as crontab does
    /// when neither is `*`, and Sunday is 0 or 7.
    ///
    /// # Errors
    /// An expression that does not parse or that no day ever matches, or a zone the tz database lacks.
    pub fn parse(expression: &str, zone: &str) -> Result<Schedule, ScheduleError> {
        let cron = recent::pattern(expression, || parse_firing(expression))?;
        Ok(Schedule { cron, zone: parse_zone(zone)? })
    }

    /// The first due instant strictly after `after`; none only past the end of the calendar.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let shown = self.latest_shown(after);
        let wall = self.cron.find_next_occurrence(&shown.wall, !shown.reached).ok()?;
        self.first_instant_showing(wall)
    }

    /// The due instants in (after, through], ascending and distinct.
    pub fn due_between(&self, after: Timestamp, through: Timestamp) -> impl Iterator<Item = Timestamp> {
        let due_by_end = move |due: &Timestamp| *due <= through;
        let first = self.next_after(after).filter(due_by_end);
        std::iter::successors(first, move |due| self.next_after(*due).filter(due_by_end))
    }

    /// The longest gap between successive firings within some years from `from`, if one is longer
    /// than `floor`. Leaps over everything shorter, so a firing each second costs no more than one a day.
    pub fn longest_gap(&self, from: Timestamp, floor: SignedDuration) -> Option<Gap> {
        let horizon = from.checked_add(GAP_HORIZON).unwrap_or(Timestamp::MAX);
        let mut longest: Option<Gap> = None;
        let mut firing = self.next_after(from)?;
        while firing < horizon {
            let reach = longest.map_or(floor, |gap| gap.length());
            let last_in_reach = firing.checked_add(reach).ok().and_then(|end| self.last_through(end))?;
            if last_in_reach > firing {
                firing = last_in_reach;
                continue;
            }
            let Some(next) = self.next_after(firing) else { break };
            longest = Some(Gap { from: firing, until: next });
            firing = next;
        }
        longest
    }

    /// The latest due instant at or before `through`.
    pub fn last_through(&self, through: Timestamp) -> Option<Timestamp> {
        let shown = self.latest_shown(through);
        let wall = self.cron.find_previous_occurrence(&shown.wall, shown.reached).ok()?;
        self.first_instant_showing(wall)
    }

    /// The latest wall time that the zone's clock has shown up to `at`. Inside the second pass of an
    /// overlap that is not what it shows now but the end of the first pass.
    fn latest_shown(&self, at: Timestamp) -> LatestShown {
        let now = self.zone.to_datetime(at);
        let just_after = at.checked_add(SignedDuration::from_nanos(1)).unwrap_or(at);
        let overlap_start = at.checked_sub(LONGEST_OVERLAP).unwrap_or(Timestamp::MIN);
        self.zone
            .preceding(just_after)
            .map(|transition| transition.timestamp())
            .take_while(|transition| *transition > overlap_start)
            .filter_map(|transition| self.wall_before(transition))
            .filter(|end| *end > now)
            .max()
            .map_or(LatestShown { wall: now, reached: true }, |end| LatestShown { wall: end, reached: false })
    }

    /// What the clock would have shown at a transition without it: the end of the time before.
    fn wall_before(&self, transition: Timestamp) -> Option<DateTime> {
        let before = transition.checked_sub(SignedDuration::from_secs(1)).ok()?;
        Some(self.zone.to_offset(before).to_datetime(transition))
    }

    fn first_instant_showing(&self, wall: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok(),
            AmbiguousOffset::Gap { before, after } => {
                let ahead_of_gap = after.to_timestamp(wall).ok()?;
                self.zone
                    .following(ahead_of_gap)
                    .find(|transition| transition.offset() == after)
                    .map(|transition| transition.timestamp())
                    .or_else(|| before.to_timestamp(wall).ok())
            }
        }
    }
}

/// A wall time the clock has come to, or (`reached` false) all but come to.
struct LatestShown {
    wall: DateTime,
    reached: bool,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({:?} in {})", self.cron.as_str(), self.zone.iana_name().unwrap_or("a zone"))
    }
}

impl ScheduleError {
    /// What to write instead.
    pub fn help(&self) -> String {
        match self {
            ScheduleError::BadExpression { help, .. } => help.clone(),
            ScheduleError::NeverFires { .. } => {
                "choose a day that its month has, or `L` for the last day of the month".to_owned()
            }
            ScheduleError::UnknownZone { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            ScheduleError::UnknownZone { nearest: None, .. } if zone_names().next().is_none() => {
                "this machine has no tz database: install the package tzdata".to_owned()
            }
            ScheduleError::UnknownZone { nearest: None, .. } => {
                "write a name such as `Asia/Shanghai` or `UTC`".to_owned()
            }
        }
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build()
}

fn parse_firing(expression: &str) -> Result<Cron, ScheduleError> {
    let cron = parse_expression(expression)?;
    // The calendar repeats within any 400 years, so a pattern without a match from here has none.
    let any_date = civil::date(2000, 1, 1).at(0, 0, 0, 0);
    if cron.find_next_occurrence(&any_date, true).is_err() {
        return Err(ScheduleError::NeverFires { expression: expression.to_owned() });
    }
    Ok(cron)
}

fn parse_expression(expression: &str) -> Result<Cron, ScheduleError> {
    let bad = |reason: String, help: &str| ScheduleError::BadExpression {
        expression: expression.to_owned(),
        reason,
        help: help.to_owned(),
    };
    let fields = fields_of(expression).map_err(|(reason, help)| bad(reason, help))?;
    fields.iter().try_for_each(|field| field.check()).map_err(|reason| bad(reason, EXPRESSION_HELP))?;
    // crontab's other name for it, which croner lacks.
    let is_midnight = expression.trim().eq_ignore_ascii_case(MIDNIGHT);
    let cron = parser().parse(if is_midnight { "@daily" } else { expression });
    cron.map_err(|error| bad(croner_words(&error), EXPRESSION_HELP))
}

/// One field on its own, with the place that tells its meaning.
struct Field<'a> {
    place: usize,
    text: &'a str,
}

/// The fields of an expression, none for a nickname.
fn fields_of(expression: &str) -> Result<Vec<Field<'_>>, (String, &'static str)> {
    let words: Vec<&str> = expression.split_whitespace().collect();
    let first_place = match words.as_slice() {
        [nickname] if nickname.eq_ignore_ascii_case("@reboot") => {
            let help = "a firing belongs to the calendar, not to a start: write @daily or `0 3 * * *`";
            return Err(("@reboot names no time".to_owned(), help));
        }
        [nickname] if NICKNAMES.iter().any(|known| known.eq_ignore_ascii_case(nickname)) => {
            return Ok(Vec::new());
        }
        [nickname] if nickname.starts_with('@') => {
            return Err(("there is no such name for a schedule".to_owned(), EXPRESSION_HELP));
        }
        [_, _, _, _, _] => 1,
        [_, _, _, _, _, _] => 0,
        [_, _, _, _, _, _, _] => {
            return Err(("it has 7 fields, and a year cannot be given".to_owned(), EXPRESSION_HELP));
        }
        words => return Err((format!("it has {} fields", words.len()), EXPRESSION_HELP)),
    };
    Ok(words.into_iter().zip(first_place..).map(|(text, place)| Field { place, text }).collect())
}

impl Field<'_> {
    /// Finds the field at fault, and what croner lets pass although it cannot be meant.
    fn check(&self) -> Result<(), String> {
        let (name, range) = (FIELD_NAMES[self.place], FIELD_RANGES[self.place]);
        let refuse = |reason: &str| Err(format!("{name} `{}`: {reason}; it takes {range}", self.text));
        if self.text.split(',').any(str::is_empty) {
            return refuse("an item of the list is empty");
        }
        if self.has_foreign_name() {
            return refuse("a name that does not belong into this field");
        }
        let mut alone = ["*"; 6];
        alone[self.place] = self.text;
        let cron = match parser().parse(&alone.join(" ")) {
            Ok(cron) => cron,
            Err(error) => return refuse(&croner_words(&error)),
        };
        let pattern = &cron.pattern;
        let components = [
            &pattern.seconds,
            &pattern.minutes,
            &pattern.hours,
            &pattern.days,
            &pattern.months,
            &pattern.days_of_week,
        ];
        let component = components[self.place];
        if component.step > component.max {
            return refuse("the step is larger than the field, so it would never repeat within it");
        }
        Ok(())
    }

    /// croner replaces names wherever they stand: `MON` as a minute would be minute 1.
    fn has_foreign_name(&self) -> bool {
        let own: &[&str] = match self.place {
            DAY_OF_MONTH => &["L", "W", "LW"],
            MONTH => &MONTH_NAMES,
            WEEKDAY => &WEEKDAY_NAMES,
            _ => &[],
        };
        let upper = self.text.to_ascii_uppercase();
        upper.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).any(|word| {
            let bare = if self.place == WEEKDAY { word.strip_suffix('L').unwrap_or(word) } else { word };
            !bare.is_empty() && !own.contains(&bare)
        })
    }
}

fn croner_words(error: &CronError) -> String {
    let words = match error {
        CronError::InvalidPattern(words)
        | CronError::IllegalCharacters(words)
        | CronError::ComponentError(words) => words.clone(),
        other => other.to_string(),
    };
    let mut words = words.trim_end_matches('.').to_owned();
    words.get_mut(..1).into_iter().for_each(str::make_ascii_lowercase);
    words
}

fn parse_zone(name: &str) -> Result<TimeZone, ScheduleError> {
    match TimeZone::get(name) {
        Ok(zone) if !zone.is_unknown() => Ok(zone),
        _ => Err(ScheduleError::UnknownZone { zone: name.to_owned(), nearest: nearest_zone(name) }),
    }
}

fn nearest_zone(name: &str) -> Option<String> {
    const ALIKE: f64 = 0.75;
    let wanted = name.to_ascii_lowercase().replace(' ', "_");
    let likeness = |zone: &str| {
        let zone = zone.to_ascii_lowercase();
        let city = zone.rsplit('/').next().unwrap_or(&zone);
        // A city without its continent is a guess less sure than the whole name.
        let by_city = strsim::normalized_damerau_levenshtein(city, &wanted) - 0.01;
        strsim::normalized_damerau_levenshtein(&zone, &wanted).max(by_city)
    };
    zone_names()
        .map(|zone| (likeness(&zone), zone))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, zone)| zone)
}

fn zone_names() -> impl Iterator<Item = String> {
    jiff::tz::db().available().map(|zone| zone.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn due(expression: &str, zone: &str, after: &str, through: &str) -> Vec<String> {
        let schedule = Schedule::parse(expression, zone).unwrap();
        schedule.due_between(at(after), at(through)).map(|due| due.to_string()).collect()
    }

    fn refusal(expression: &str) -> ScheduleError {
        Schedule::parse(expression, "UTC").unwrap_err()
    }

    #[test]
    fn a_time_inside_a_gap_fires_at_the_first_instant_after_it() {
        let due = due("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(due, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn all_times_inside_a_gap_and_the_one_after_it_are_one_firing() {
        let due = due("*/20 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", "2026-03-29T01:20:00Z");
        assert_eq!(due, ["2026-03-29T00:40:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:20:00Z"]);
    }

    #[test]
    fn in_an_overlap_only_the_first_pass_fires() {
        let due = due("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", "2026-10-25T02:00:00Z");
        assert_eq!(due, ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z"]);
    }

    #[test]
    fn a_day_that_a_zone_skipped_fires_once_when_the_next_one_begins() {
        let due = due("0 */6 * * *", "Pacific/Apia", "2011-12-30T03:00:00Z", "2011-12-30T17:00:00Z");
        assert_eq!(due, ["2011-12-30T04:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T16:00:00Z"]);
    }

    #[test]
    fn a_day_that_a_zone_lived_twice_fires_in_its_first_pass() {
        let due = due("0 12 * * *", "Pacific/Kwajalein", "1969-09-29T00:00:00Z", "1969-10-02T12:00:00Z");
        assert_eq!(due, ["1969-09-29T01:00:00Z", "1969-09-30T01:00:00Z", "1969-10-02T00:00:00Z"]);
    }

    #[test]
    fn day_of_month_and_weekday_are_alternatives_and_sunday_has_two_numbers() {
        let both = due("0 0 15 * 1", "UTC", "2026-06-01T00:00:00Z", "2026-06-16T00:00:00Z");
        assert_eq!(both, ["2026-06-08T00:00:00Z", "2026-06-15T00:00:00Z"]);
        let sundays = |weekday: &str| {
            due(&format!("0 0 * * {weekday}"), "UTC", "2026-06-01T00:00:00Z", "2026-07-01T00:00:00Z")
        };
        assert_eq!(sundays("0"), sundays("7"));
        assert_eq!(sundays("0"), sundays("SUN"));
    }

    #[test]
    fn six_fields_begin_with_seconds() {
        let due = due("30 59 23 * * *", "UTC", "2026-06-01T00:00:00Z", "2026-06-02T00:00:00Z");
        assert_eq!(due, ["2026-06-01T23:59:30Z"]);
    }

    #[test]
    fn the_longest_gap_is_found_behind_many_short_ones() {
        let schedule = Schedule::parse("* * 1 1,2,6 *", "UTC").unwrap();
        let gap = schedule.longest_gap(at("2026-01-01T00:00:00Z"), SignedDuration::from_hours(24)).unwrap();
        assert_eq!(gap.from, at("2026-06-01T23:59:00Z"));
        assert_eq!(gap.until, at("2027-01-01T00:00:00Z"));
    }

    #[test]
    fn a_gap_no_longer_than_the_floor_is_none() {
        let schedule = Schedule::parse("@daily", "Europe/Berlin").unwrap();
        let gap_over = |hours| {
            schedule
                .longest_gap(at("2026-01-01T00:00:00Z"), SignedDuration::from_hours(hours))
                .map(|g| g.length())
        };
        assert_eq!(gap_over(24), Some(SignedDuration::from_hours(25)));
        assert_eq!(gap_over(25), None);
    }

    #[test]
    fn a_leap_day_shows_its_gap_of_four_years() {
        let schedule = Schedule::parse("0 0 29 2 *", "UTC").unwrap();
        let gap = schedule.longest_gap(at("2025-01-01T00:00:00Z"), SignedDuration::ZERO).unwrap();
        assert_eq!(gap.until, at("2032-02-29T00:00:00Z"));
    }

    #[test]
    fn a_wrong_number_of_fields_is_told_with_the_right_one() {
        for (expression, reason) in [
            ("", "it has 0 fields"),
            ("0 3 * *", "it has 4 fields"),
            ("0 0 3 * * * 2027", "it has 7 fields, and a year cannot be given"),
            ("@reboot", "@reboot names no time"),
            ("@fortnightly", "there is no such name for a schedule"),
        ] {
            let error = refusal(expression);
            assert_eq!(error.to_string(), format!("`{expression}` is not a cron expression: {reason}"));
            assert!(!error.help().is_empty());
        }
        assert_eq!(refusal("0 3 * *").help(), EXPRESSION_HELP);
    }

    #[test]
    fn the_field_at_fault_is_named() {
        for (expression, piece) in [
            ("0 25 * * *", "hour `25`: number out of bounds; it takes 0-23"),
            ("5/5 * * * *", "minute `5/5`: "),
            ("*/90 * * * *", "minute `*/90`: the step is larger"),
            ("0 0 * * MONDAY", "weekday `MONDAY`: "),
            ("MON * * * *", "minute `MON`: a name that does not belong"),
            ("0 0 * MON *", "month `MON`: a name that does not belong"),
            ("0 0 1,,2 * *", "day-of-month `1,,2`: an item of the list is empty"),
            (", * * * *", "minute `,`: an item of the list is empty"),
        ] {
            let message = refusal(expression).to_string();
            assert!(message.contains(piece), "{message}");
        }
    }

    #[test]
    fn what_croner_offers_beyond_crontab_is_taken() {
        for expression in [
            "0 0 L * *",
            "0 0 LW * *",
            "0 0 15W * *",
            "0 0 * * 5L",
            "0 0 * * FRI#2",
            "0 0 ? * MON-FRI",
            "0 0 13 * +FRI",
            "0 0 * jan,jul *",
            "@weekly",
            "  0 3 * * *  ",
        ] {
            assert!(Schedule::parse(expression, "UTC").is_ok(), "{expression}");
        }
    }

    #[test]
    fn a_day_that_never_comes_is_refused() {
        let never = refusal("0 0 31 2 *");
        assert_eq!(never, ScheduleError::NeverFires { expression: "0 0 31 2 *".to_owned() });
    }

    #[test]
    fn an_unknown_zone_is_told_with_the_nearest_known_one() {
        let nearest = |zone: &str| Schedule::parse("@daily", zone).unwrap_err().help();
        assert_eq!(nearest("Asia/Shanghia"), "did you mean `Asia/Shanghai`?");
        assert_eq!(nearest("Shanghai"), "did you mean `Asia/Shanghai`?");
        assert_eq!(nearest("+08:00"), "write a name such as `Asia/Shanghai` or `UTC`");
        assert!(Schedule::parse("@daily", "Etc/Unknown").is_err());
    }
}
