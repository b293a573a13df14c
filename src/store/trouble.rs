//! What SQLite's refusals mean to an operator, and to the service.

use std::fmt;

/// Why the database did not do what it was asked, where that decides what is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No room on its disk: passes once there is.
    Full,
    /// Another process holds it locked: passes when that lets go.
    Locked,
    /// Its disk failed to read or write.
    Disk,
    /// Its file is not what SQLite wrote. The indexes that keep an order single cannot be trusted any more.
    Damaged,
    /// A single change or question was refused.
    Other,
}

/// Primary result codes: <https://www.sqlite.org/rescode.html>.
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const IO_ERROR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const NOT_A_DATABASE: u32 = 26;
/// An extended result code holds its primary one in the lowest eight bits.
const PRIMARY: u32 = 0xff;

impl Trouble {
    pub(super) fn of(error: &sqlx::Error) -> Trouble {
        let sqlx::Error::Database(error) = error else { return Trouble::Other };
        let Some(code) = error.code().and_then(|code| code.parse::<u32>().ok()) else {
            return Trouble::Other;
        };
        match code & PRIMARY {
            FULL => Trouble::Full,
            BUSY | LOCKED => Trouble::Locked,
            IO_ERROR => Trouble::Disk,
            CORRUPT | NOT_A_DATABASE => Trouble::Damaged,
            _ => Trouble::Other,
        }
    }

    /// What it is, before SQLite's own words.
    fn what(self) -> &'static str {
        match self {
            Trouble::Full => "there is no room left on its disk: ",
            Trouble::Locked => "another process holds it locked: ",
            Trouble::Disk => "its disk does not read or write: ",
            Trouble::Damaged => "it is damaged: ",
            Trouble::Other => "",
        }
    }

    /// What to do, after them.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Trouble::Full => "; free some, nothing is ordered until there is room",
            Trouble::Locked => "; end what holds it, nothing is ordered until then",
            Trouble::Disk => "; look at its room, quota and health, nothing is ordered until it does",
            Trouble::Damaged => {
                "; keep its files, put the latest `renewd backup` in their place, and compare the orders of the \
                 console before `renewd resume`"
            }
            Trouble::Other => "",
        }
    }
}

/// An error of SQLite with what it means and what to do.
pub(super) struct Explained<'a>(pub &'a sqlx::Error);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trouble = Trouble::of(self.0);
        match self.0 {
            sqlx::Error::Database(error) => write!(f, "{}{error}{}", trouble.what(), trouble.advice()),
            error => write!(f, "{error}"),
        }
    }
}
