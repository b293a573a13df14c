//! The envelope of every answer: `{"Response": {…, "RequestId"}}`, with `Error` inside when it failed.
//!
//! `Response.Error` decides first, whatever the HTTP status. Without it, only a whole answer of status 200 is
//! a success; everything else leaves open what the cloud did. Source: "common error codes" and "return
//! results" of the API 3.0 pages.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cloud::call::Reply;
use crate::cloud::reading::{
    HTTP_OK, MESSAGE_MAX_CHARS, Scalar, WORD_MAX_CHARS, clip, object, parse, unreadable,
};
use crate::cloud::tencentcloud::codes;
use crate::domain::failure::{Class, Failure};
use crate::domain::order::OrderId;

/// Zero dates come with and without seconds, and some are dates to a calendar that has a year zero.
const YEAR_ZERO: &str = "0000";

/// Reads the envelope, and what is in it as `T` when it holds no error.
pub fn read<T: DeserializeOwned>(http_status: u16, body: &[u8]) -> Reply<T> {
    let head = parse::<Envelope<Head>>(body).map(|envelope| envelope.response);
    let request_id = head.as_ref().ok().and_then(|head| head.request_id.text());
    let request_id = request_id.map(|text| clip(text, WORD_MAX_CHARS));
    let result = match head {
        Ok(Head { error: Some(error), .. }) => Err(error.into_failure()),
        _ if http_status != HTTP_OK => Err(unusual_status(http_status)),
        Ok(_) => parse::<Envelope<T>>(body).map(|envelope| envelope.response),
        Err(failure) => Err(failure),
    };
    Reply { request_id, result }
}

/// The answer to a purchase. Accepted needs a sign of acceptance: an order number or at least a request id.
pub fn purchase(http_status: u16, body: &[u8]) -> Reply<Option<OrderId>> {
    let Reply { request_id, result } = read::<Deal>(http_status, body);
    let accepted = result.and_then(|deal| match deal.order_id() {
        None if request_id.is_none() => {
            Err(unreadable("the answer has neither an order number nor a request id"))
        }
        order_id => Ok(order_id),
    });
    Reply { request_id, result: accepted }
}

/// A time with an offset of its own, or one without that is read in `zone`. Zero dates, empty and unreadable
/// ones are none.
pub fn time(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if text.starts_with(YEAR_ZERO) {
        return None;
    }
    let bare = || text.parse::<civil::DateTime>().ok()?.to_zoned(zone.clone()).ok();
    text.parse().ok().or_else(|| bare().map(|zoned| zoned.timestamp()))
}

pub(super) fn unusual_status(http_status: u16) -> Failure {
    let message =
        format!("HTTP status {http_status} without an error of the API; something in between answered");
    Failure::ours(Class::Unknown, "HttpStatus", message)
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Envelope<T> {
    #[serde(rename = "Response", deserialize_with = "object")]
    response: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Head {
    error: Option<VendorError>,
    #[serde(default)]
    request_id: Scalar,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VendorError {
    #[serde(default)]
    code: Scalar,
    #[serde(default)]
    message: Scalar,
}

/// Older pages show `DealId`, newer answers bring `DealName`; both are optional.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Deal {
    #[serde(default)]
    deal_name: Scalar,
    #[serde(default)]
    deal_id: Scalar,
}

impl VendorError {
    fn into_failure(self) -> Failure {
        let Some(code) = self.code.text() else {
            return unreadable("the answer holds an error without a code");
        };
        let message = self.message.text().unwrap_or_default();
        Failure::ours(codes::judge(code).class, &clip(code, WORD_MAX_CHARS), clip(message, MESSAGE_MAX_CHARS))
    }
}

impl Deal {
    fn order_id(&self) -> Option<OrderId> {
        self.deal_name.order_id().or_else(|| self.deal_id.order_id())
    }
}
