//! What the products' lists of instances have in common.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cloud::reading::{Scalar, unreadable};
use crate::domain::failure::Failure;
use crate::domain::observation::{Facts, Observation, Presence};
use crate::domain::product::InstanceId;

/// An entry of a list.
pub trait Listed {
    /// The ids it answers to.
    fn names(&self) -> impl Iterator<Item = &str>;

    /// `zone` is that of times without one.
    fn facts(&self, zone: &TimeZone) -> Facts;
}

/// A list that is absent or cut is no proof that an instance is missing.
pub fn whole<T>(field: &str, listed: Option<Vec<T>>, total: &Scalar) -> Result<Vec<T>, Failure> {
    let total = total.integer();
    let listed = match (listed, total) {
        (Some(listed), _) => listed,
        (None, Some(0)) => Vec::new(),
        (None, _) => return Err(unreadable(format!("the answer has no `{field}`"))),
    };
    let listed_count = i64::try_from(listed.len()).unwrap_or(i64::MAX);
    match total {
        Some(total) if total > listed_count => {
            Err(unreadable(format!("`{field}` lists {listed_count} of {total} instances")))
        }
        _ => Ok(listed),
    }
}

/// One observation per id asked for, in the order asked.
pub fn observations<T: Listed>(
    listed: &[T],
    ids: &[InstanceId],
    observed_at: Timestamp,
    zone: &TimeZone,
) -> Vec<Observation> {
    let by_name: HashMap<&str, &T> =
        listed.iter().flat_map(|entry| entry.names().map(move |name| (name, entry))).collect();
    let presence = |id: &InstanceId| {
        by_name.get(id.as_str()).map_or(Presence::NotVisible, |found| Presence::Visible(found.facts(zone)))
    };
    ids.iter().map(|id| Observation { instance: id.clone(), observed_at, presence: presence(id) }).collect()
}

/// The vendor's value under the vendor's name, so that it cannot be taken for a word of ours.
pub fn unknown_value(field: &str, value: &Scalar) -> String {
    format!("{field} {}", value.text().unwrap_or("absent"))
}
