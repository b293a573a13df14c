//! Money as integer fen (0.01 CNY); floats never carry it.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fen(i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MoneyError {
    #[error("is not an amount such as 1200 or 1200.50")]
    NotAnAmount,
    #[error("has more than two decimals")]
    TooFine,
    #[error("is negative")]
    Negative,
    #[error("is too large")]
    TooLarge,
}

impl Fen {
    pub const fn new(fen: i64) -> Fen {
        Fen(fen)
    }

    pub fn get(self) -> i64 {
        self.0
    }

    /// Reads `1200`, `1200.5` or `1200.50` (yuan) without passing through a float.
    pub fn parse_yuan(text: &str) -> Result<Fen, MoneyError> {
        if text.starts_with('-') {
            return Err(MoneyError::Negative);
        }
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || text.ends_with('.') {
            return Err(MoneyError::NotAnAmount);
        }
        if decimals.len() > 2 {
            return Err(MoneyError::TooFine);
        }
        let fen: i64 = format!("{whole}{decimals:0<2}").parse().map_err(|_| MoneyError::TooLarge)?;
        Ok(Fen(fen))
    }

    /// For JSON and metrics, where a reader expects a number of yuan.
    pub fn as_yuan_number(self) -> f64 {
        self.0 as f64 / 100.0
    }
}

impl fmt::Display for Fen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let fen = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", fen / 100, fen % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yuan_are_read_exactly() {
        assert_eq!(Fen::parse_yuan("1200"), Ok(Fen(120_000)));
        assert_eq!(Fen::parse_yuan("0.07"), Ok(Fen(7)));
        assert_eq!(Fen::parse_yuan("19.9"), Ok(Fen(1_990)));
        assert_eq!(Fen::parse_yuan("1.005"), Err(MoneyError::TooFine));
        assert_eq!(Fen::parse_yuan("-1"), Err(MoneyError::Negative));
        assert_eq!(Fen::parse_yuan("99999999999999999999"), Err(MoneyError::TooLarge));
        for bad in ["", ".", "1.", ".5", "1e3", "１２", "1,000"] {
            assert_eq!(Fen::parse_yuan(bad), Err(MoneyError::NotAnAmount), "{bad}");
        }
    }

    #[test]
    fn fen_print_as_yuan() {
        assert_eq!(Fen(120_007).to_string(), "1200.07");
        assert_eq!(Fen(-5).to_string(), "-0.05");
    }
}
