//! Lists of instances: what was asked for, and what an answer shows of it.

use std::collections::HashMap;
use std::ptr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cloud::reading::{Object, Scalar, unreadable};
use crate::domain::failure::Failure;
use crate::domain::observation::{Facts, Observation, Presence};
use crate::domain::product::InstanceId;

/// One look at some instances.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The ids asked for.
    pub ids: &'a [InstanceId],
    /// The moment before the request left.
    pub observed_at: Timestamp,
    /// Of times that the cloud writes without one.
    pub zone: &'a TimeZone,
}

/// An entry of a list.
pub trait Listed: DeserializeOwned {
    /// The vendor's name of the list.
    const LIST: &'static str;

    /// The ids it answers to.
    fn names(&self) -> impl Iterator<Item = &str>;

    fn facts(&self, look: &Look<'_>) -> Facts;
}

/// The vendors name the parts of a list alike, but for case and a synonym.
#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub struct Listing<T> {
    #[serde(rename = "InstanceSet", alias = "instanceSet", alias = "Instances")]
    entries: Option<Vec<Object<T>>>,
    #[serde(rename = "TotalCount", alias = "totalCount", default)]
    total: Scalar,
    #[serde(rename = "NextToken", default)]
    next_token: Scalar,
}

impl<T: Listed> Listing<T> {
    /// One observation per id asked for, in the order asked. A list that is absent or goes on is no proof that an
    /// instance is missing, and one that says two things of an instance says none.
    pub fn observations(self, look: &Look<'_>) -> Result<Vec<Observation>, Failure> {
        let total = self.total.integer();
        let entries = entries(T::LIST, self.entries, total)?;
        let by_name = by_name(&entries, look)?;
        let is_missing = |id: &InstanceId| !by_name.contains_key(id.as_str());
        let goes_on = self.next_token.text().is_some() || lists_less(entries.len(), total);
        if goes_on && look.ids.iter().any(is_missing) {
            let count = entries.len();
            return Err(unreadable(format!("`{}` lists {count} instances and there are more", T::LIST)));
        }
        // One that is listed under no name may be any of those that seem to be missing.
        if entries.iter().any(|entry| entry.names().next().is_none()) && look.ids.iter().any(is_missing) {
            return Err(unreadable(format!("`{}` lists an instance without its id", T::LIST)));
        }
        let presence = |id: &InstanceId| {
            by_name
                .get(id.as_str())
                .map_or(Presence::NotVisible, |found| Presence::Visible(found.facts(look)))
        };
        let observation = |id: &InstanceId| Observation {
            instance: id.clone(),
            observed_at: look.observed_at,
            presence: presence(id),
        };
        Ok(look.ids.iter().map(observation).collect())
    }
}

/// What a list holds; a null one holds nothing only where its count says so.
pub fn entries<T>(
    list: &str,
    entries: Option<Vec<Object<T>>>,
    total: Option<i64>,
) -> Result<Vec<T>, Failure> {
    match (entries, total) {
        (Some(entries), _) => Ok(entries.into_iter().map(|Object(entry)| entry).collect()),
        (None, Some(0)) => Ok(Vec::new()),
        (None, _) => Err(unreadable(format!("the answer has no `{list}`"))),
    }
}

pub fn lists_less(count: usize, total: Option<i64>) -> bool {
    total.is_some_and(|total| usize::try_from(total).is_ok_and(|total| total > count))
}

/// The vendor's value under the vendor's name, so that it cannot be taken for a word of ours.
pub fn unknown_value(field: &str, value: &Scalar) -> String {
    format!("{field} {}", value.text().unwrap_or("absent"))
}

fn by_name<'a, T: Listed>(entries: &'a [T], look: &Look<'_>) -> Result<HashMap<&'a str, &'a T>, Failure> {
    let mut by_name: HashMap<&str, &T> = HashMap::with_capacity(entries.len());
    for entry in entries {
        for name in entry.names() {
            let earlier = by_name.insert(name, entry).filter(|earlier| !ptr::eq(*earlier, entry));
            if earlier.is_some_and(|earlier| earlier.facts(look) != entry.facts(look)) {
                return Err(unreadable(format!("`{}` lists {name} twice and not alike", T::LIST)));
            }
        }
    }
    Ok(by_name)
}
