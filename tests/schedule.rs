//! Due instants around the transitions of every zone of the tz database, against an oracle that
//! knows neither croner nor transitions: it walks the instants of a window one by one, reads the
//! zone's clock at each, and lets fire there every wall time that the clock shows, or has leapt
//! over, for the first time.
//!
//! `RENEWD_DST_TRANSITIONS` = how many transitions of each zone are looked at (default 3).

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use renewd::schedule::Schedule;

/// Divides every offset in force since 1972 and every second that the patterns name.
const STEP: SignedDuration = SignedDuration::from_secs(30);
/// More than the longest overlap there ever was.
const RUN_UP: SignedDuration = SignedDuration::from_hours(26);
const WINDOW: SignedDuration = SignedDuration::from_hours(26);

/// A cron pattern as sets of bits, with its text for the code under test.
#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: Option<u64>,
    months: u64,
    weekdays: Option<u64>,
}

impl Pattern {
    fn new(
        seconds: &[u8],
        minutes: Field,
        hours: Field,
        days: Field,
        months: Field,
        weekdays: Field,
    ) -> Self {
        let second_text = list(seconds);
        let prefix = if seconds == [0] { String::new() } else { format!("{second_text} ") };
        let fields = [&minutes, &hours, &days, &months, &weekdays].map(|field| field.text());
        Pattern {
            text: format!("{prefix}{}", fields.join(" ")),
            seconds: bits(seconds),
            minutes: minutes.mask(),
            hours: hours.mask(),
            days: days.mask_if_given(),
            months: months.mask(),
            weekdays: weekdays.mask_if_given(),
        }
    }

    fn matches(&self, wall: DateTime) -> bool {
        let has = |mask: u64, value: i8| mask >> value & 1 == 1;
        has(self.minutes, wall.minute())
            && has(self.seconds, wall.second())
            && has(self.hours, wall.hour())
            && has(self.months, wall.month())
            && self.matches_day(wall)
    }

    fn matches_day(&self, wall: DateTime) -> bool {
        let day = self.days.map(|mask| mask >> wall.day() & 1 == 1);
        let weekday = self.weekdays.map(|mask| mask >> wall.weekday().to_sunday_zero_offset() & 1 == 1);
        match (day, weekday) {
            (Some(day), Some(weekday)) => day || weekday,
            (one, other) => one.or(other).unwrap_or(true),
        }
    }
}

/// `None` is `*`.
#[derive(Clone, Debug)]
struct Field(Option<Vec<u8>>);

const ANY: Field = Field(None);

fn only(values: &[u8]) -> Field {
    Field(Some(values.to_vec()))
}

impl Field {
    fn text(&self) -> String {
        self.0.as_deref().map_or("*".to_owned(), list)
    }

    fn mask_if_given(&self) -> Option<u64> {
        self.0.as_deref().map(bits)
    }

    fn mask(&self) -> u64 {
        self.mask_if_given().unwrap_or(u64::MAX)
    }
}

fn list(values: &[u8]) -> String {
    values.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
}

fn bits(values: &[u8]) -> u64 {
    values.iter().fold(0, |mask, value| mask | 1 << value)
}

/// Fixed and wildcard patterns: inside the usual gaps, at their edges, at midnight, and the everyday ones.
fn patterns() -> Vec<Pattern> {
    let mut patterns = vec![
        Pattern::new(&[0], only(&[30]), only(&[2]), ANY, ANY, ANY),
        Pattern::new(&[0], only(&[0]), only(&[0]), ANY, ANY, ANY),
        Pattern::new(&[0], only(&[15]), only(&[1]), ANY, ANY, only(&[0])),
        Pattern::new(&[0], ANY, only(&[2]), ANY, ANY, ANY),
        Pattern::new(&[0], only(&[0]), only(&[0]), only(&[1]), ANY, ANY),
        Pattern::new(&[0], only(&[0]), only(&[3]), only(&[1, 15, 31]), ANY, only(&[1])),
        Pattern::new(&[0], only(&[0, 59]), only(&[0, 1, 2, 3, 23]), ANY, ANY, ANY),
        Pattern::new(&[30], only(&[59]), only(&[23]), ANY, ANY, ANY),
        Pattern::new(&[0, 30], only(&[0, 30]), only(&[1, 2, 3]), ANY, ANY, ANY),
    ];
    let mut half_hours = Pattern::new(&[0], only(&[0, 30]), ANY, ANY, ANY, ANY);
    half_hours.text = "*/30 * * * *".to_owned();
    patterns.push(half_hours);
    patterns
}

fn every_minute() -> Pattern {
    Pattern::new(&[0], ANY, ANY, ANY, ANY, ANY)
}

/// The due instants of each pattern in (after, through].
fn oracle(
    zone: &TimeZone,
    patterns: &[Pattern],
    after: Timestamp,
    through: Timestamp,
) -> Vec<Vec<Timestamp>> {
    let mut due = vec![Vec::new(); patterns.len()];
    let mut at = after - RUN_UP;
    let mut shown = zone.to_datetime(at);
    while at < through {
        at += STEP;
        let now = zone.to_datetime(at);
        let mut fires = vec![false; patterns.len()];
        while shown < now {
            shown += STEP;
            for (fires, pattern) in fires.iter_mut().zip(patterns) {
                *fires |= pattern.matches(shown);
            }
        }
        let fired = due.iter_mut().zip(fires).filter(|(_, fires)| *fires && at > after);
        fired.for_each(|(due, _)| due.push(at));
    }
    due
}

/// Every zone of the tz database once, with its transitions from 2000 to 2037: links and zones that
/// agree over all of that time are one.
fn distinct_zones() -> Vec<(String, TimeZone, Vec<Timestamp>)> {
    let (start, end) = (instant("2000-01-01T00:00:00Z"), instant("2038-01-01T00:00:00Z"));
    let mut seen = BTreeMap::new();
    for name in jiff::tz::db().available() {
        let zone = TimeZone::get(name.as_str()).unwrap();
        let transitions: Vec<_> = zone
            .following(start)
            .take_while(|transition| transition.timestamp() < end)
            .map(|transition| (transition.timestamp(), transition.offset()))
            .collect();
        let instants = transitions.iter().map(|(at, _)| *at).collect();
        let key = (zone.to_offset(start), transitions);
        seen.entry(key).or_insert((name.to_string(), zone, instants));
    }
    seen.into_values().collect()
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn transitions_per_zone() -> usize {
    std::env::var("RENEWD_DST_TRANSITIONS").map_or(3, |text| text.parse().expect("a number"))
}

/// A spread of them that differs from zone to zone, so that together the zones cover all years.
fn sample(transitions: &[Timestamp], zone_number: usize, count: usize) -> Vec<Timestamp> {
    if transitions.len() <= count {
        return transitions.to_vec();
    }
    (0..count)
        .map(|part| transitions[(part * transitions.len() / count + zone_number) % transitions.len()])
        .collect()
}

/// Those whose clock moved by anything but a full hour: half hours, changes of the date line, mere renamings.
fn unusual(zone: &TimeZone, transitions: &[Timestamp]) -> Vec<Timestamp> {
    let offset = |at: Timestamp| zone.to_offset(at).seconds();
    let moved = |at: &Timestamp| (offset(*at) - offset(*at - 1.second())).abs();
    transitions.iter().copied().filter(|at| moved(at) != 3600).collect()
}

fn check_around(name: &str, zone: &TimeZone, transition: Timestamp, patterns: &[Pattern]) {
    let (after, through) = (transition - WINDOW, transition + WINDOW);
    for (pattern, expected) in patterns.iter().zip(oracle(zone, patterns, after, through)) {
        let schedule = Schedule::parse(&pattern.text, name).unwrap();
        let due: Vec<_> = schedule.due_between(after, through).collect();
        assert_eq!(due, expected, "`{}` in {name} around {transition}", pattern.text);
    }
}

#[test]
fn around_transitions_of_all_zones_the_due_instants_are_the_oracles() {
    let patterns = patterns();
    let mut windows = 0;
    for (number, (name, zone, transitions)) in distinct_zones().iter().enumerate() {
        for transition in sample(transitions, number, transitions_per_zone()) {
            check_around(name, zone, transition, &patterns);
            windows += 1;
        }
    }
    assert!(windows > 100, "only {windows} windows: is there a tz database?");
}

#[test]
fn around_every_unusual_transition_the_due_instants_are_the_oracles() {
    let mut patterns = patterns();
    patterns.push(every_minute());
    let mut windows = 0;
    for (name, zone, transitions) in &distinct_zones() {
        let mut unusual = unusual(zone, transitions);
        unusual.truncate(2 * transitions_per_zone());
        for transition in unusual {
            check_around(name, zone, transition, &patterns);
            windows += 1;
        }
    }
    assert!(windows > 20, "only {windows} windows: is there a tz database?");
}

fn field(values: std::ops::Range<u8>) -> impl Strategy<Value = Field> {
    let all: Vec<u8> = values.collect();
    let most = all.len().min(4);
    prop_oneof![Just(ANY), prop::sample::subsequence(all, 1..=most).prop_map(|values| Field(Some(values)))]
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    let seconds = prop_oneof![Just(vec![0]), Just(vec![30]), Just(vec![0, 30])];
    (seconds, field(0..60), field(0..24), field(1..29), field(1..13), field(0..7)).prop_map(
        |(seconds, minutes, hours, days, months, weekdays)| {
            Pattern::new(&seconds, minutes, hours, days, months, weekdays)
        },
    )
}

/// Random patterns asked at random instants near random transitions: the two functions agree with the
/// oracle and with each other, also from inside a second pass and from between two seconds.
#[test]
fn from_any_instant_the_next_firing_is_the_first_of_those_to_come() {
    let zones: Vec<_> = distinct_zones().into_iter().filter(|(_, _, at)| !at.is_empty()).collect();
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let from = prop_oneof![-2 * 3600..2 * 3600_i64, -30 * 3600..30 * 3600_i64];
    let any_case =
        (any_pattern(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), from, 0..1000_i64);
    let outcome = runner.run(&any_case, |(pattern, zone, transition, seconds, milliseconds)| {
        let (name, zone, transitions) = zone.get(&zones);
        let start = *transition.get(transitions) + SignedDuration::from_secs(seconds / 30 * 30);
        let after = start + SignedDuration::from_millis(milliseconds);
        let through = start + SignedDuration::from_hours(36);
        let expected = oracle(zone, std::slice::from_ref(&pattern), start, through).remove(0);
        let schedule = Schedule::parse(&pattern.text, name).unwrap();
        let due: Vec<_> = schedule.due_between(after, through).collect();
        prop_assert_eq!(&due, &expected, "`{}` in {} after {}", pattern.text, name, after);
        let next = schedule.next_after(after);
        match expected.first() {
            Some(first) => prop_assert_eq!(next, Some(*first)),
            None => prop_assert!(next.is_none_or(|next| next > through)),
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn the_longest_gap_is_that_of_the_firings_listed_one_by_one() {
    for (expression, zone) in [
        ("0 3 * * 1,4", "Europe/Berlin"),
        ("*/20 9-17 * * 1-5", "America/New_York"),
        ("0 0 1,20 * *", "Asia/Shanghai"),
    ] {
        let schedule = Schedule::parse(expression, zone).unwrap();
        let (from, floor) = (instant("2026-01-01T00:00:00Z"), SignedDuration::from_hours(12));
        let firings: Vec<_> = schedule.due_between(from, instant("2030-06-01T00:00:00Z")).collect();
        let longest = firings.windows(2).map(|pair| pair[0].duration_until(pair[1])).max();
        assert_eq!(schedule.longest_gap(from, floor).map(|gap| gap.length()), longest, "{expression}");
    }
}
