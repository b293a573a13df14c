//! Reading JSON that others wrote: bounded, strict about its end, lenient about how a value is spelt.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::cloud::call::Reply;
use crate::cloud::judged::Judged;
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::order::OrderId;

pub const HTTP_OK: u16 = 200;
/// Codes, request ids and messages are kept whole up to here; whoever answers may send anything.
pub const MESSAGE_MAX_CHARS: usize = 2_000;
pub const WORD_MAX_CHARS: usize = 200;
const FEN_DIGITS: usize = 2;
/// From 2000 to 2200. Where there is no date, clouds write the first of some calendar (0000, 0001 and 1970 were seen of
/// several vendors) or the last that a field can hold.
const DATES: Range<Timestamp> = Timestamp::constant(946_684_800, 0)..Timestamp::constant(7_258_118_400, 0);
/// From here on a float, which is what many writers of JSON keep a number in, no longer tells neighbouring integers
/// apart. No count and no amount is that large, and sums of what is smaller stay within an `i64`.
const EXACT_MAX: i64 = 1 << 53;
const EXACT_MAX_FLOAT: f64 = 9_007_199_254_740_992.0;

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

/// An answer without an error of the API under a status that no success has.
pub fn unusual_status(http_status: u16) -> Failure {
    let message =
        format!("HTTP status {http_status} without an error of the API; something in between answered");
    Failure::ours(Class::Unknown, "HttpStatus", message)
}

/// The error of an envelope, as all but the oldest have it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VendorError {
    #[serde(default)]
    code: Scalar,
    #[serde(default)]
    message: Scalar,
}

impl VendorError {
    pub fn into_failure(self, judge: impl FnOnce(&str) -> Judged) -> Failure {
        let Some(code) = self.code.text() else {
            return unreadable("the answer holds an error without a code");
        };
        let message = self.message.text().unwrap_or_default();
        Failure::ours(judge(code).class, &clip(code, WORD_MAX_CHARS), clip(message, MESSAGE_MAX_CHARS))
    }
}

pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    // Left to itself serde_json would not look into what it skips.
    let text = str::from_utf8(body).map_err(|error| unreadable(format!("the answer is no text: {error}")))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        unreadable(format!("the answer cannot be read at `{}`: {}", error.path(), error.inner()))
    })?;
    deserializer.end().map_err(|error| unreadable(format!("the answer goes on after its end: {error}")))?;
    Ok(parsed)
}

/// A value that is an object: left to itself serde would fill a struct from a list too.
#[derive(Deserialize)]
#[serde(transparent, bound = "T: DeserializeOwned")]
pub struct Object<T>(#[serde(deserialize_with = "object")] pub T);

fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
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

/// Below zero an amount to be paid is none.
pub fn is_payable(amount: &Fen) -> bool {
    amount.get() >= 0
}

pub fn clip(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).collect()
}

/// A value that the vendor writes as a number or as a string, as it pleases; null and absent are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scalar(Option<String>);

/// Where an amount between two fen goes: either way to the careful side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// For what is to be paid.
    Up,
    /// For what is there to pay with.
    Down,
}

impl Scalar {
    pub fn text(&self) -> Option<&str> {
        self.0.as_deref().map(str::trim).filter(|text| !text.is_empty())
    }

    pub fn integer(&self) -> Option<i64> {
        let down = self.scaled(0, Rounding::Down)?;
        (self.scaled(0, Rounding::Up)? == down).then_some(down)
    }

    /// An amount that the vendor gives in fen.
    pub fn fen(&self, rounding: Rounding) -> Option<Fen> {
        self.scaled(0, rounding).map(Fen::new)
    }

    /// An amount that the vendor gives in yuan.
    pub fn yuan(&self, rounding: Rounding) -> Option<Fen> {
        self.scaled(FEN_DIGITS, rounding).map(Fen::new)
    }

    /// A time with an offset of its own. What is no date and what lies outside of [`DATES`] is none.
    pub fn time(&self) -> Option<Timestamp> {
        let at: Timestamp = self.text()?.parse().ok()?;
        DATES.contains(&at).then_some(at)
    }

    /// As [`Scalar::time`], or a time without an offset that is read in `zone`.
    pub fn time_in(&self, zone: &TimeZone) -> Option<Timestamp> {
        let bare = || {
            let bare: civil::DateTime = self.text()?.parse().ok()?;
            let at = bare.to_zoned(zone.clone()).ok()?.timestamp();
            DATES.contains(&at).then_some(at)
        };
        self.time().or_else(bare)
    }

    /// `0` and the empty string stand for "none".
    pub fn order_id(&self) -> Option<OrderId> {
        self.text().filter(|text| *text != "0").map(|text| OrderId(text.to_owned()))
    }

    /// The number with its point moved by `digits` places and rounded, digit by digit and not through a float.
    fn scaled(&self, digits: usize, rounding: Rounding) -> Option<i64> {
        let text = self.text()?;
        let (is_negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, decimals) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !are_digits(whole) || !are_digits(decimals) {
            return None;
        }
        let (kept, rest) = decimals.split_at(decimals.len().min(digits));
        let size: i64 = format!("{whole}{kept:0<digits$}").parse().ok().filter(|size| *size < EXACT_MAX)?;
        let has_rest = rest.bytes().any(|byte| byte != b'0');
        let grows = has_rest && is_negative == (rounding == Rounding::Down);
        let size = size + i64::from(grows);
        Some(if is_negative { -size } else { size })
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
        Ok(Scalar((value.abs() < EXACT_MAX_FLOAT).then(|| value.to_string())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar(Some(value.to_owned())))
    }
}
