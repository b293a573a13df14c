//! Reading JSON that others wrote: bounded, strict about its end, lenient about how a value is spelt.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::cloud::call::Reply;
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::order::OrderId;

pub const HTTP_OK: u16 = 200;
/// Codes, request ids and messages are kept whole up to here; whoever answers may send anything.
pub const MESSAGE_MAX_CHARS: usize = 2_000;
pub const WORD_MAX_CHARS: usize = 200;
const FEN_DIGITS: usize = 2;
/// Past this a float no longer tells neighbouring integers apart.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

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

pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        unreadable(format!("the answer cannot be read at `{}`: {}", error.path(), error.inner()))
    })?;
    deserializer.end().map_err(|error| unreadable(format!("the answer goes on after its end: {error}")))?;
    Ok(parsed)
}

/// Left to itself serde would fill a struct from a list too.
pub fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
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

pub fn clip(text: &str, max_chars: usize) -> String {
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
