//! How a time is written where programs read it: RFC 3339 in UTC with milliseconds, as the views of the database
//! have it.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

pub fn in_millis(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// For `serialize_with`.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&in_millis(*at))
}

/// The same of a time that may be absent.
///
/// # Errors
/// The serializer's.
pub fn serialize_option<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(in_millis).serialize(serializer)
}

/// The same of several.
///
/// # Errors
/// The serializer's.
pub fn serialize_all<S: Serializer>(at: &[Timestamp], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(at.iter().map(|at| in_millis(*at)))
}
