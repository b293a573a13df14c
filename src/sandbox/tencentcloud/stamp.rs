//! Times without a zone, as Redis and billing write and read them: in UTC+8.

use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::sandbox::desk::Refusal;
use crate::sandbox::tencentcloud::invalid;
use crate::sandbox::world::CLOUD_ZONE;

const FORMAT: &str = "%Y-%m-%d %H:%M:%S";
/// Stands where there is no time to show.
pub(super) const NEVER: &str = "0000-00-00 00:00:00";

pub(super) fn write(at: Timestamp) -> String {
    at.to_zoned(CLOUD_ZONE).strftime(FORMAT).to_string()
}

pub(super) fn read(name: &str, text: &str) -> Result<Timestamp, Refusal> {
    let read = DateTime::strptime(FORMAT, text).and_then(|bare| bare.to_zoned(CLOUD_ZONE));
    let shape = |_| invalid(name, "is not a time such as 2026-01-31 23:59:59");
    read.map(|zoned| zoned.timestamp()).map_err(shape)
}
