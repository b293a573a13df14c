//! Times on the command line.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};

use super::Failure;
use crate::config::Config;

/// A time as it was written; what it means may depend on the zone of `renewd.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeArgument {
    Instant(Timestamp),
    /// A date is its first moment.
    Wall(civil::DateTime),
    Span(SignedDuration),
}

/// Which way from now a span leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Back,
    Ahead,
}

impl TimeArgument {
    pub(super) fn parse(text: &str) -> Result<TimeArgument, String> {
        let written = as_shown(text);
        let instant = || written.parse().ok().map(TimeArgument::Instant);
        let wall = || written.parse().ok().map(TimeArgument::Wall);
        let span = || days(text).or_else(|| text.parse().ok()).map(TimeArgument::Span);
        instant().or_else(wall).or_else(span).ok_or_else(|| {
            "write a time such as 2026-11-20T04:00:00Z, 2026-11-20T04:00:00+08:00, 2026-11-20T04:00 or 2026-11-20 \
             (in the `timezone` of renewd.toml), or a span such as 90m, 36h, 2d"
                .to_owned()
        })
    }

    pub(super) fn resolve(
        self,
        config: &Config,
        now: Timestamp,
        direction: Direction,
    ) -> Result<Timestamp, Failure> {
        self.resolve_in(&TimeZone::get(&config.timezone)?, now, direction)
    }

    fn resolve_in(self, zone: &TimeZone, now: Timestamp, direction: Direction) -> Result<Timestamp, Failure> {
        Ok(match (self, direction) {
            (TimeArgument::Instant(at), _) => at,
            (TimeArgument::Wall(wall), _) => wall.to_zoned(zone.clone())?.timestamp(),
            (TimeArgument::Span(span), Direction::Back) => now.checked_sub(span)?,
            (TimeArgument::Span(span), Direction::Ahead) => now.checked_add(span)?,
        })
    }
}

/// As `check`, `plan` and sentences show a time: perhaps a weekday before it, a blank before the offset.
fn as_shown(text: &str) -> String {
    let text = WEEKDAYS.iter().find_map(|day| text.strip_prefix(day)).unwrap_or(text).trim();
    match text.rsplit_once(' ') {
        Some((time, offset)) if offset.starts_with(['+', '-']) => format!("{time}{offset}"),
        _ => text.to_owned(),
    }
}

const WEEKDAYS: [&str; 7] = ["Mon ", "Tue ", "Wed ", "Thu ", "Fri ", "Sat ", "Sun "];

/// `2d`, which a duration of exact time does not read.
fn days(text: &str) -> Option<SignedDuration> {
    let count: i64 = text.strip_suffix('d')?.parse().ok()?;
    SignedDuration::try_from_hours(count.checked_mul(24)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_and_spans_are_read_and_what_names_no_zone_is_in_the_configured_one() {
        let now: Timestamp = "2026-11-20T04:00:00Z".parse().unwrap();
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let at = |text: &str, direction| {
            TimeArgument::parse(text).unwrap().resolve_in(&zone, now, direction).unwrap().to_string()
        };
        let since = |text: &str| at(text, Direction::Back);
        assert_eq!(since("2026-11-20T04:00:00Z"), "2026-11-20T04:00:00Z");
        assert_eq!(since("2026-11-20T04:00:00+02:00"), "2026-11-20T02:00:00Z");
        assert_eq!(since("2026-11-20"), "2026-11-19T16:00:00Z");
        assert_eq!(since("2026-11-20T04:00"), "2026-11-19T20:00:00Z");
        assert_eq!(since("2026-11-20 04:00:00"), "2026-11-19T20:00:00Z");
        assert_eq!(since("2026-11-20 04:00 +02:00"), "2026-11-20T02:00:00Z");
        assert_eq!(since("Fri 2026-11-20 04:00:00 +02:00"), "2026-11-20T02:00:00Z");
        assert_eq!(since("2026-11-20 04:00:00+02"), "2026-11-20T02:00:00Z");
        assert_eq!(since("36h"), "2026-11-18T16:00:00Z");
        assert_eq!(since("2d"), "2026-11-18T04:00:00Z");
        assert_eq!(at("90m", Direction::Ahead), "2026-11-20T05:30:00Z");
        for text in ["yesterday", "", "2026-13-01", "04:00", "2x"] {
            let error = TimeArgument::parse(text).unwrap_err();
            assert!(error.contains("2026-11-20T04:00") && error.contains("36h"), "{text}: {error}");
        }
    }

    #[test]
    fn a_span_beyond_the_calendar_is_refused() {
        let now: Timestamp = "2026-11-20T04:00:00Z".parse().unwrap();
        for (text, direction) in [("100000000d", Direction::Ahead), ("100000000d", Direction::Back)] {
            let argument = TimeArgument::parse(text).unwrap();
            assert!(argument.resolve_in(&TimeZone::UTC, now, direction).is_err());
        }
    }
}
