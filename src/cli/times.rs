//! Times as tables and sentences show them: in the `timezone` of renewd.toml, in which `--since` and `--until` are read
//! too, or in UTC. Each says its offset, so that it means the same wherever it is pasted.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Failure;
use super::output::or_dash;
use crate::config::Config;

pub(super) struct Times(TimeZone);

impl Times {
    pub(super) fn of(config: &Config, in_utc: bool) -> Result<Times, Failure> {
        Ok(Times(if in_utc { TimeZone::UTC } else { TimeZone::get(&config.timezone)? }))
    }

    /// `2026-11-20 12:00:00+08`, `2026-11-20 04:00:00Z`: seconds are enough for a person.
    pub(super) fn at(&self, at: Timestamp) -> String {
        in_zone(at, &self.0)
    }

    /// A text with the times in it shown like the others.
    pub(super) fn sentence(&self, text: &str) -> String {
        sentence_in(text, &self.0)
    }

    /// The same of a time as the database's views write it.
    pub(super) fn text(&self, text: Option<&str>) -> String {
        let at = text.and_then(|text| text.parse().ok());
        at.map_or_else(|| or_dash(text), |at| self.at(at))
    }
}

fn in_zone(at: Timestamp, zone: &TimeZone) -> String {
    let format = if *zone == TimeZone::UTC { "%Y-%m-%d %H:%M:%SZ" } else { "%Y-%m-%d %H:%M:%S%:::z" };
    at.to_zoned(zone.clone()).strftime(format).to_string()
}

/// What is kept, and printed as JSON, has its times in UTC: `2026-11-20T04:00:00Z`.
pub(super) fn sentence_in(text: &str, zone: &TimeZone) -> String {
    let shown = |word: &str| {
        let time = word.trim_matches(|c: char| c.is_whitespace() || "():;,.".contains(c));
        let is_time =
            time.ends_with('Z') && time.starts_with(|c: char| c.is_ascii_digit()) && time.contains('T');
        match time.parse().ok().filter(|_| is_time) {
            Some(at) => word.replacen(time, &in_zone(at, zone), 1),
            None => word.to_owned(),
        }
    };
    text.split_inclusive(char::is_whitespace).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::time_argument::TimeArgument;

    #[test]
    fn a_time_is_shown_in_its_zone_with_the_offset_that_it_had_then() {
        let shown = |zone: &str, text: &str| Times(TimeZone::get(zone).unwrap()).text(Some(text));
        assert_eq!(shown("Asia/Shanghai", "2026-11-20T04:00:00.000Z"), "2026-11-20 12:00:00+08");
        assert_eq!(shown("Europe/Berlin", "2026-07-20T04:00:00.999Z"), "2026-07-20 06:00:00+02");
        assert_eq!(shown("Asia/Kolkata", "2026-11-20T04:00:00Z"), "2026-11-20 09:30:00+05:30");
        assert_eq!(shown("Europe/London", "2026-11-20T04:00:00Z"), "2026-11-20 04:00:00+00");
        assert_eq!(shown("UTC", "2026-11-20T04:00:00Z"), "2026-11-20 04:00:00Z");
        assert_eq!(Times(TimeZone::UTC).text(None), "—");
    }

    #[test]
    fn times_within_a_sentence_are_shown_like_those_beside_it() {
        let kept = "renewed:  it expires at 2027-01-01T19:19:05Z, (seen 2026-11-20T04:00:00.500Z);\nT-1Z, Z at Tuesday";
        let shanghai = Times(TimeZone::get("Asia/Shanghai").unwrap());
        assert_eq!(
            shanghai.sentence(kept),
            "renewed:  it expires at 2027-01-02 03:19:05+08, (seen 2026-11-20 12:00:00+08);\nT-1Z, Z at Tuesday"
        );
        assert_eq!(Times(TimeZone::UTC).sentence("until 2026-11-20T04:00:00Z"), "until 2026-11-20 04:00:00Z");
    }

    #[test]
    fn what_is_shown_can_be_given_back_on_the_command_line() {
        let at: Timestamp = "2026-11-20T04:00:00Z".parse().unwrap();
        for zone in ["UTC", "Asia/Shanghai", "Asia/Kolkata", "Europe/London"] {
            let shown = Times(TimeZone::get(zone).unwrap()).at(at);
            assert_eq!(TimeArgument::parse(&shown), Ok(TimeArgument::Instant(at)), "{shown}");
        }
    }
}
