//! Amounts in JSON and TOML: numbers of yuan outside, fen inside.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

use crate::domain::money::Fen;

pub fn serialize<S: Serializer>(amount: &Fen, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(amount.as_yuan_number())
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fen, D::Error> {
    deserializer.deserialize_any(YuanVisitor)
}

/// An amount where serde has no place for `with`: in a map or an `Option`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub struct Yuan(#[serde(deserialize_with = "deserialize")] pub Fen);

struct YuanVisitor;

impl Visitor<'_> for YuanVisitor {
    type Value = Fen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount in CNY with at most two decimals")
    }

    fn visit_u64<E: Error>(self, yuan: u64) -> Result<Fen, E> {
        self.visit_str(&yuan.to_string())
    }

    fn visit_i64<E: Error>(self, yuan: i64) -> Result<Fen, E> {
        self.visit_str(&yuan.to_string())
    }

    /// The shortest decimal that names the float is what its writer typed.
    fn visit_f64<E: Error>(self, yuan: f64) -> Result<Fen, E> {
        self.visit_str(&yuan.to_string())
    }

    fn visit_str<E: Error>(self, yuan: &str) -> Result<Fen, E> {
        Fen::parse_yuan(yuan).map_err(|reason| E::custom(format!("the amount `{yuan}` {reason}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_without_rounding_and_written_as_a_number() {
        for (json, fen) in [("100", 10_000), ("100.0", 10_000), ("19.99", 1_999), ("\"0.07\"", 7)] {
            let Yuan(read) = serde_json::from_str(json).unwrap();
            assert_eq!(read, Fen::new(fen), "{json}");
        }
        for bad in ["-1", "1.005", "1e300", "null", "\"ten\"", "[1]"] {
            assert!(serde_json::from_str::<Yuan>(bad).is_err(), "{bad}");
        }
    }
}
