//! Times on the command line.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned, civil};

/// RFC 3339, a date (its first moment here), a date and time of this machine's zone, or a span from now.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    parse_at(text, &here(), -1)
}

/// The same, where a bare span means the future.
pub(super) fn parse_future_time(text: &str) -> Result<Timestamp, String> {
    parse_at(text, &here(), 1)
}

fn here() -> Zoned {
    super::now().to_zoned(TimeZone::system())
}

fn parse_at(text: &str, now: &Zoned, direction: i32) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let zone: &TimeZone = now.time_zone();
    if let Ok(at) = text.parse::<civil::DateTime>() {
        return at.to_zoned(zone.clone()).map(|at| at.timestamp()).map_err(|error| error.to_string());
    }
    let words = || {
        format!(
            "{text:?} is not a time: write 2026-11-20T04:00:00Z, 2026-11-20, 2026-11-20T04:00 or a span such as 90m, 36h, 2d"
        )
    };
    let span = days(text).or_else(|| text.parse::<SignedDuration>().ok()).ok_or_else(words)?;
    now.timestamp().checked_add(span * direction).map_err(|error| error.to_string())
}

/// `2d`, which a duration of exact time does not read.
fn days(text: &str) -> Option<SignedDuration> {
    let count: i64 = text.strip_suffix('d')?.parse().ok()?;
    SignedDuration::try_from_hours(count.checked_mul(24)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_and_spans_are_read() {
        let now: Zoned = "2026-11-20T12:00:00+08:00[Asia/Shanghai]".parse().unwrap();
        let at = |text: &str| parse_at(text, &now, -1).map(|at| at.to_string());
        assert_eq!(at("2026-11-20T04:00:00Z").unwrap(), "2026-11-20T04:00:00Z");
        assert_eq!(at("2026-11-20").unwrap(), "2026-11-19T16:00:00Z");
        assert_eq!(at("2026-11-20T04:00").unwrap(), "2026-11-19T20:00:00Z");
        assert_eq!(at("36h").unwrap(), "2026-11-18T16:00:00Z");
        assert_eq!(at("2d").unwrap(), "2026-11-18T04:00:00Z");
        assert!(at("yesterday").is_err());
        assert_eq!(parse_at("90m", &now, 1).unwrap().to_string(), "2026-11-20T05:30:00Z");
    }
}
