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
        let format = if self.0 == TimeZone::UTC { "%Y-%m-%d %H:%M:%SZ" } else { "%Y-%m-%d %H:%M:%S%:::z" };
        at.to_zoned(self.0.clone()).strftime(format).to_string()
    }

    /// The same of a time as the database's views write it.
    pub(super) fn text(&self, text: Option<&str>) -> String {
        let at = text.and_then(|text| text.parse().ok());
        at.map_or_else(|| or_dash(text), |at| self.at(at))
    }
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
    fn what_is_shown_can_be_given_back_on_the_command_line() {
        let at: Timestamp = "2026-11-20T04:00:00Z".parse().unwrap();
        for zone in ["UTC", "Asia/Shanghai", "Asia/Kolkata", "Europe/London"] {
            let shown = Times(TimeZone::get(zone).unwrap()).at(at);
            assert_eq!(TimeArgument::parse(&shown), Ok(TimeArgument::Instant(at)), "{shown}");
        }
    }
}
