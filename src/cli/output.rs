//! What is printed: tables and JSON to stdout, colour only on a terminal and never with `NO_COLOR`.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use super::Outcome;
use crate::domain::money::Fen;

/// What a command has to say, and the exit code that goes with it.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) exit: u8,
}

impl Answer {
    pub(super) fn print(&self) -> Outcome {
        print(&self.text).map(|_| ExitCode::from(self.exit))
    }
}

pub(super) fn colour_on_stderr() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

pub(super) fn colour_on_stdout() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A plain table that fits the terminal; piped, it is as wide as it needs to be.
pub(super) fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(heads.iter().copied());
    let arrangement =
        if io::stdout().is_terminal() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.set_content_arrangement(arrangement);
    table
}

/// Of the terminal that stdout is; None where it goes elsewhere, or nobody knows.
pub(super) fn width() -> Option<usize> {
    // A width of nothing is one that nobody knows.
    table(&[]).width().filter(|width| *width > 0).map(usize::from)
}

pub(super) fn print_json(value: &impl Serialize) -> Outcome {
    print(&serde_json::to_string_pretty(value)?)
}

/// A reader that has seen enough, as `head` has, is no failure.
pub(super) fn print(text: &str) -> Outcome {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

/// A message for the person, on stderr. Where nobody can read it there is nobody to complain to.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// `—` for what is not there.
pub(super) fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("—").to_owned()
}

/// `1 order`, `2 orders`.
pub(super) fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `12 340` or `12 340.50`.
pub(super) fn yuan(amount: Fen) -> String {
    let text = amount.to_string();
    let (whole, cents) = text.split_once('.').unwrap_or((&text, "00"));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::with_capacity(text.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    if cents == "00" { format!("{sign}{grouped}") } else { format!("{sign}{grouped}.{cents}") }
}
