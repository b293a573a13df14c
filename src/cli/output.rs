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
    /// The heads of the columns that its table has no room for.
    pub(super) left_out: Vec<&'static str>,
    pub(super) exit: u8,
}

impl Answer {
    pub(super) fn print(&self) -> Outcome {
        print(&self.text)?;
        say_left_out(&self.left_out);
        Ok(ExitCode::from(self.exit))
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

pub(super) fn print_json(value: &impl Serialize) -> Outcome {
    print(&serde_json::to_string_pretty(value)?)
}

/// A reader that has seen enough, as `head` has, is no failure.
pub(super) fn print(text: &str) -> Outcome {
    Output::open().write(&format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Stdout, for what comes in pieces.
pub(super) struct Output(io::StdoutLock<'static>);

impl Output {
    pub(super) fn open() -> Output {
        Output(io::stdout().lock())
    }

    /// Whether anybody still listens.
    pub(super) fn write(&mut self, text: &str) -> io::Result<bool> {
        match self.0.write_all(text.as_bytes()).and_then(|()| self.0.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            written => written.map(|()| true),
        }
    }
}

/// A pretty JSON array, page by page.
#[derive(Default)]
pub(super) struct JsonArray {
    has_begun: bool,
}

impl JsonArray {
    pub(super) fn page<T: Serialize>(&mut self, rows: &[T]) -> serde_json::Result<String> {
        let mut text = String::new();
        for row in rows {
            text.push_str(if self.has_begun { ",\n  " } else { "[\n  " });
            // No text in JSON has a line break of its own.
            text.push_str(&serde_json::to_string_pretty(row)?.replace('\n', "\n  "));
            self.has_begun = true;
        }
        Ok(text)
    }

    pub(super) fn end(&self) -> String {
        if self.has_begun { "\n]\n" } else { "[]\n" }.to_owned()
    }
}

/// Of the terminal that stdout is; None where it goes elsewhere, or nobody knows.
pub(super) fn width() -> Option<usize> {
    // A width of nothing is one that nobody knows.
    table(&[]).width().filter(|width| *width > 0).map(usize::from)
}

/// Tells a person at a terminal which columns a table had no room for.
pub(super) fn say_left_out(heads: &[&str]) {
    if !heads.is_empty() && io::stderr().is_terminal() {
        say(&format!("renewd: no room for {}: a wider terminal or --json shows them", heads.join(", ")));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_in_pages_is_the_same_as_one_made_at_once() {
        let rows =
            [serde_json::json!({ "id": 1, "error": { "code": "a\nb" } }), serde_json::json!({ "id": 2 })];
        for rows in [&rows[..], &rows[..1], &[]] {
            let mut array = JsonArray::default();
            let pages: String =
                rows.iter().map(|row| array.page(std::slice::from_ref(row)).unwrap()).collect();
            assert_eq!(pages + &array.end(), serde_json::to_string_pretty(rows).unwrap() + "\n");
        }
    }
}
