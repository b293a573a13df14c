//! The envelope of every answer: `{"Response": {…, "RequestId"}}`, with `Error` inside when it failed.
//!
//! `Response.Error` decides first, whatever the HTTP status. Without it, only a whole answer of status 200 is
//! a success; everything else leaves open what the cloud did. Source: "common error codes" and "return
//! results" of the API 3.0 pages.

use std::fmt;
use std::marker::PhantomData;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::cloud::call::Reply;
use crate::cloud::tencentcloud::codes;
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::order::OrderId;

/// Codes, request ids and messages are kept whole up to here; whoever answers may send anything.
pub(super) const MESSAGE_MAX_CHARS: usize = 2_000;
pub(super) const WORD_MAX_CHARS: usize = 200;
pub(super) const HTTP_OK: u16 = 200;
const FEN_DIGITS: usize = 2;
/// Zero dates come with and without seconds, and some are dates to a calendar that has a year zero.
const YEAR_ZERO: &str = "0000";
/// Past this a float no longer tells neighbouring integers apart.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

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

impl<T> Reply<T> {
    pub(super) fn failed(failure: Failure) -> Reply<T> {
        Reply { request_id: None, result: Err(failure) }
    }

    pub(super) fn and_then<U>(self, read: impl FnOnce(T) -> Result<U, Failure>) -> Reply<U> {
        Reply { request_id: self.request_id, result: self.result.and_then(read) }
    }
}

pub fn unreadable(message: impl AsRef<str>) -> Failure {
    Failure::ours(Class::Unknown, "Unreadable", clip(message.as_ref(), MESSAGE_MAX_CHARS))
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

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        unreadable(format!("the answer cannot be read at `{}`: {}", error.path(), error.inner()))
    })?;
    deserializer.end().map_err(|error| unreadable(format!("the answer goes on after its end: {error}")))?;
    Ok(parsed)
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Envelope<T> {
    #[serde(rename = "Response", deserialize_with = "object")]
    response: T,
}

/// Left to itself serde would fill a struct from a list too.
pub(super) fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
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

pub(super) fn clip(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).collect()
}

/// A value that the vendor writes as a number or as a string, as it pleases; null and absent are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scalar(Option<String>);

impl Scalar {
    pub fn text(&self) -> Option<&str> {
        self.0.as_deref().map(str::trim).filter(|text| !text.is_empty())
    }

    pub fn integer(&self) -> Option<i64> {
        self.decimal().filter(|(_, fraction)| !fraction).map(|(whole, _)| whole)
    }

    /// Rounded up; for amounts, where the larger reading is the careful one.
    pub fn ceiling(&self) -> Option<i64> {
        let (whole, fraction) = self.decimal()?;
        let is_negative = self.text()?.starts_with('-');
        if fraction && !is_negative { whole.checked_add(1) } else { Some(whole) }
    }

    /// Rounded down; for balances, where the smaller reading is the careful one.
    pub fn floor(&self) -> Option<i64> {
        let (whole, fraction) = self.decimal()?;
        let is_negative = self.text()?.starts_with('-');
        if fraction && is_negative { whole.checked_sub(1) } else { Some(whole) }
    }

    /// An amount of yuan in fen, rounded up, digit by digit and not through a float. None when negative.
    pub fn yuan_ceiling(&self) -> Option<Fen> {
        let (whole, decimals) = self.text().map(|text| text.split_once('.').unwrap_or((text, "")))?;
        let (cents, rest) = decimals.split_at_checked(FEN_DIGITS).unwrap_or((decimals, ""));
        if !rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let fen = Fen::parse_yuan(format!("{whole}.{cents:0<FEN_DIGITS$}").as_str()).ok()?.get();
        let is_finer = rest.bytes().any(|byte| byte != b'0');
        fen.checked_add(i64::from(is_finer)).map(Fen::new)
    }

    /// `0` and the empty string stand for "none".
    pub fn order_id(&self) -> Option<OrderId> {
        self.text().filter(|text| *text != "0").map(|text| OrderId(text.to_owned()))
    }

    /// The whole part, and whether anything but zeros follows the point.
    fn decimal(&self) -> Option<(i64, bool)> {
        let (whole, decimals) = self.text().map(|text| text.split_once('.').unwrap_or((text, "")))?;
        if !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some((whole.parse().ok()?, decimals.bytes().any(|byte| byte != b'0')))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scalar, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or null")
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar(None))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(Some(value.to_string())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(Some(value.to_string())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(Some(value.to_string())))
    }

    /// A number too long to be exact counts as absent: a wrong order number would be worse than none.
    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar((value.abs() < EXACT_FLOAT_MAX).then(|| value.to_string())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar(Some(value.to_owned())))
    }
}
