//! What was observed of the instances, held against what the files say of them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::diagnostic::{Diagnostic, Place, Severity};
use crate::config::policies::{PolicySet, PolicySource};
use crate::config::reopened::Reopened;
use crate::domain::policy::Policy;
use crate::domain::product::InstanceId;

/// An instance that its policy comes too late for.
#[derive(Clone, Copy, Debug)]
pub struct TooLate<'p> {
    pub policy: &'p Policy,
    pub instance: &'p InstanceId,
    pub expires_at: Timestamp,
    pub fires_at: Timestamp,
}

/// A warning for each, at its place in the files.
pub fn warn_of_expiries(set: &PolicySet, found: &[TooLate<'_>]) -> Vec<Diagnostic> {
    let mut files = Reopened::default();
    let warning = |found: &TooLate<'_>| {
        let source = set.sources.get(&found.policy.name)?;
        let zone = TimeZone::get(&found.policy.schedule.zone).unwrap_or(TimeZone::UTC);
        let local = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:::z").to_string();
        let (id, policy) = (found.instance, &found.policy.name);
        Some(Diagnostic {
            severity: Severity::Warning,
            message: format!(
                "`{id}` expires at {}, before policy `{policy}` fires next, at {}",
                local(found.expires_at),
                local(found.fires_at)
            ),
            place: place_of(source, found.instance, &mut files),
            related: None,
            help: Some(format!(
                "fire it by hand once the policy is in force (`renewd trigger {policy} --instance {id}`), or fire earlier"
            )),
        })
    };
    found.iter().filter_map(warning).collect()
}

/// Of the id in its policy's list; the file alone where it has changed since it was read.
fn place_of(source: &PolicySource, instance: &InstanceId, files: &mut Reopened) -> Place {
    let spot = files.file(&source.file).and_then(|file| {
        let from = file.line_start(source.line)?;
        let quoted = ['"', '\''].map(|quote| format!("{quote}{instance}{quote}"));
        let found =
            quoted.iter().filter_map(|id| Some((from + file.text()[from..].find(id.as_str())?, id.len())));
        found.min().map(|(at, length)| file.place(at..at + length))
    });
    spot.unwrap_or_else(|| Place { file: source.file.clone(), spot: None })
}
