//! Slips in the syntax of TOML, in plain words.

use crate::config::disclosure::SHOWN_TABLES;

/// Values of other formats that are true or false there.
const BOOLEANS: [&str; 6] = ["yes", "no", "on", "off", "true", "false"];
const CURLY_QUOTES: [char; 6] = ['“', '”', '„', '‘', '’', '«'];

/// What is wrong at a place, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slip {
    pub(super) message: String,
    pub(super) help: &'static str,
    pub(super) reach: Reach,
}

/// What of the file a slip leaves in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Its line: the parser goes on at the next one.
    Line,
    /// Its line, which the parser takes for the end of the file.
    Stop,
    /// A list or table that nobody closes, from the key that it belongs to up to the line of the place.
    Unclosed,
    /// The table below a header that is none.
    Table,
    /// Any of it may stand in another table than it seems to.
    File,
}

/// Of a line that begins as a header does.
pub(super) fn slip_of_header(line: &str) -> Slip {
    let path = line.split('#').next().unwrap_or_default().trim();
    let (message, help) = match (path.starts_with("[["), path.starts_with('['), path.contains(']')) {
        (true, _, _) => HEADER_OF_LIST,
        (_, false, _) => ("the header is not opened", "begin the header with `[`"),
        (_, _, false) => HEADER_UNCLOSED,
        _ => (
            "this is no header that can be read",
            "write names of letters, digits, `-` and `_` with points between them in brackets, such as [policy.NAME], \
             and nothing behind them but a comment",
        ),
    };
    Slip { message: message.to_owned(), help, reach: Reach::Table }
}

pub(super) fn is_duplicate(message: &str) -> bool {
    message.starts_with("duplicate key")
}

/// Of a text whose closing quote is missing.
pub(super) fn slip_of_quote() -> Slip {
    Slip { message: "the text is not closed".to_owned(), help: CLOSE_QUOTE, reach: Reach::Unclosed }
}

/// Reads the parser's `message`; `before` is the line up to the place, `rest` the file from there on.
pub(super) fn slip(message: &str, before: &str, rest: &str) -> Slip {
    let is_at_header = before.trim() == "[" && begins_anew(&["[", rest].concat());
    if is_at_header || (before.trim().is_empty() && begins_anew(rest)) {
        let unclosed = UNCLOSED.iter().find(|(beginning, ..)| message.starts_with(beginning));
        if let Some((_, message, help)) = unclosed {
            return Slip { message: (*message).to_owned(), help, reach: Reach::Unclosed };
        }
    }
    if rest.starts_with(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        let message = "a control character stands here, which most editors do not show".to_owned();
        return Slip { message, help: "type anew what stands around it", reach: Reach::Line };
    }
    if rest.starts_with(|c: char| c.is_whitespace() && !c.is_ascii()) {
        let message = "a blank of another kind stands here, such as web pages have".to_owned();
        return Slip { message, help: "type a plain blank in its place", reach: Reach::Stop };
    }
    let reach = REACHES.iter().find(|(beginning, _)| message.starts_with(beginning));
    let reach = reach.map_or(Reach::Line, |(_, reach)| *reach);
    let known = KNOWN.iter().find(|(beginning, ..)| message.starts_with(beginning));
    let (plain, help) = match known {
        None => (message, "see https://toml.io for the syntax"),
        Some(_) if reach == Reach::Stop && is_key_with_colon(before, rest) => {
            ("there is a `:` where `=` belongs", "write key = value")
        }
        Some((_, _, "")) => unquoted(before, rest),
        Some((_, "", help)) => (message, *help),
        Some((_, plain, help)) => (*plain, *help),
    };
    Slip { message: plain.to_owned(), help, reach }
}

const REACHES: [(&str, Reach); 6] = [
    ("key with no value", Reach::Stop),
    ("missing value for key", Reach::Stop),
    ("unclosed array table", Reach::Table),
    ("unclosed table", Reach::Table),
    ("unclosed", Reach::Unclosed),
    ("invalid multi-line", Reach::File),
];

const HEADER_UNCLOSED: (&str, &str) = ("the header is not closed", "close the header with `]`");
const HEADER_OF_LIST: (&str, &str) = (
    "a header of two brackets makes a list of tables",
    "write the header with one pair of brackets, such as [policy.NAME] or [account.NAME]",
);
const UNCLOSED_LIST: &str = "the list that begins here is not closed";
const UNCLOSED_TABLE: &str = "the table that begins here is not closed";

/// How the parser begins where the next key or header stands inside of what should have been closed.
const UNCLOSED: [(&str, &str, &str); 6] = [
    ("string values must be quoted", UNCLOSED_LIST, "close it with `]`"),
    ("missing comma between array elements", UNCLOSED_LIST, "close it with `]`"),
    ("missing comma between key-value pairs", UNCLOSED_TABLE, "close it with `}`"),
    ("missing key", UNCLOSED_TABLE, "close it with `}`"),
    ("invalid inline table element", UNCLOSED_TABLE, "close it with `}`"),
    ("extra assignment", UNCLOSED_TABLE, "close it with `}`"),
];

/// How the parser begins, what it means (nothing: its own words are plain), what to do (nothing: see the value).
const KNOWN: [(&str, &str, &str); 32] = [
    ("string values must be quoted", "text stands without quotes", ""),
    ("missing comma between array", "", "put a comma between the items and `]` behind the last"),
    ("missing comma between key-value pairs", "", "put a comma between them and `}` behind the last"),
    ("unclosed table", HEADER_UNCLOSED.0, HEADER_UNCLOSED.1),
    ("unclosed array table", HEADER_OF_LIST.0, HEADER_OF_LIST.1),
    ("unclosed array", UNCLOSED_LIST, "close it with `]`"),
    ("unclosed inline table", UNCLOSED_TABLE, "close it with `}`"),
    (
        "unexpected key or value",
        "something follows the value",
        "only a comment that begins with `#` may follow on the line",
    ),
    ("invalid basic string", "the text is not closed", CLOSE_QUOTE),
    ("invalid literal string", "the text is not closed", CLOSE_QUOTE),
    ("invalid multi-line", "the text is not closed", "end the text with the three quotes that it began with"),
    ("key with no value", "a key without a value", "write key = value, or `#` before a comment"),
    ("missing value for key", "a key without a value", "write key = value, or `#` before a comment"),
    ("missing assignment", "there is no `=` between key and value", "write key = value"),
    ("extra assignment", "", "write one `=` between key and value"),
    ("missing key", "there is no key before the value", "write key = value"),
    ("invalid key-value pair", "this is no key with its value", KEY_OR_HEADER),
    ("missing table open", "this is no header", KEY_OR_HEADER),
    ("unexpected content", "", KEY_OR_HEADER),
    (
        "invalid unquoted key",
        "the key holds a character that needs quotes",
        "put the key in quotes, or correct it: \"redis:RenewInstance\" = 5",
    ),
    ("unquoted keys cannot be empty", "a part of the key is missing", "write key = value, or [policy.NAME]"),
    ("extra comma", "", "write one comma between two items"),
    ("extra `=`", "there is one `=` too many", "write key = value"),
    ("redundant numeric sign", "the number has a sign too many", "write digits only"),
    ("unexpected sign", "the number has a sign too many", "write digits only"),
    (
        "missing escaped value",
        "a backslash stands for nothing here",
        "write `\\\\` for a backslash, or put the text in single quotes",
    ),
    ("unexpected leading zero", "a number begins with a zero", "write the number without a zero before it"),
    ("carriage return", "", "end the line as all others end, with a newline"),
    ("invalid boolean", "", ""),
    ("invalid float", "", ""),
    ("invalid mantissa", "the number is not one", "write digits only, with a point before decimals"),
    ("duplicate key", "this stands in the file a second time", "each key and each [table] is written once"),
];

const KEY_OR_HEADER: &str = "write key = value, a header such as [policy.NAME], or `#` before a comment";
const CLOSE_QUOTE: &str = "end the text with the quote that it began with, on the same line";

/// Whether the line is an item, or the end, of something that begins above it.
pub(super) fn goes_on(line: &str) -> bool {
    line.trim_start().starts_with(['"', '\'', ']', '}', ')'])
}

/// Whether a key with its `=`, or a header, begins here.
pub(super) fn begins_anew(rest: &str) -> bool {
    let line = rest.lines().next().unwrap_or_default();
    let is_header = line.strip_prefix('[').is_some_and(|name| {
        let path = name.split(']').next().unwrap_or_default();
        // A single name in quotes is an item of a list.
        is_name(path) || (path.contains('.') && is_path(path))
    });
    let is_key = |key: &str| !key.contains(['"', '\'']) && is_path(key);
    is_header || line.split_once('=').is_some_and(|(key, _)| is_key(key))
}

/// Whether the line is a header but for its first bracket: names with a point between them, and a bracket behind.
pub(super) fn is_unopened_header(line: &str) -> bool {
    let Some((path, behind)) = line.trim().split_once(']') else { return false };
    let behind = behind.trim_start();
    let is_ours = path.contains('.') || SHOWN_TABLES.contains(&path.trim());
    is_ours && is_path(path) && (behind.is_empty() || behind.starts_with('#'))
}

/// Names, perhaps in quotes, with points between them; a number with a point is none.
fn is_path(text: &str) -> bool {
    let mut parts = text.split('.').map(|part| part.trim().trim_matches(['"', '\'']));
    parts.next().is_some_and(is_name) && parts.all(is_bare)
}

/// One that needs no quotes, and is no number.
fn is_name(text: &str) -> bool {
    let text = text.trim();
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && is_bare(text)
}

fn is_bare(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

fn is_key_with_colon(before: &str, rest: &str) -> bool {
    let line = [before, rest.lines().next().unwrap_or_default()].concat();
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\'');
    line.trim_start().trim_start_matches(is_of_key).trim_start().starts_with(':')
}

/// A word that should stand in quotes, or is meant to be true or false.
fn unquoted(before: &str, rest: &str) -> (&'static str, &'static str) {
    let begun = before.len() - before.trim_end_matches(char::is_alphanumeric).len();
    let value = [&before[before.len() - begun..], rest.lines().next().unwrap_or_default()].concat();
    let value = value.trim();
    let word = value.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let text = "text stands without quotes";
    if value.starts_with(CURLY_QUOTES) {
        (text, "use straight quotes: key = \"value\"")
    } else if value.is_empty() || value.starts_with('#') {
        ("the value is missing", "write key = \"value\"")
    } else if is_meant_as_boolean(word) {
        (text, "write true or false, in small letters")
    } else if is_followed_by_a_key(value) {
        ("a comma is missing before the next key", "put a comma between them and `}` behind the last")
    } else if word.starts_with(|c: char| c.is_ascii_digit()) {
        (text, "write a number with digits only, or put the value in quotes: key = \"value\"")
    } else {
        (text, "put the value in quotes: key = \"value\"")
    }
}

/// Such as `1 within_days = 2 }`.
fn is_followed_by_a_key(value: &str) -> bool {
    let rest = value.trim_start_matches(|c: char| c.is_alphanumeric() || c == '.');
    let Some((key, _)) = rest.split_once('=') else { return false };
    rest.starts_with([' ', '\t', ';']) && is_name(key.trim_start_matches([' ', '\t', ';']))
}

fn is_meant_as_boolean(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let is_near = |name: &str| strsim::normalized_damerau_levenshtein(&word, name) >= ONE_LETTER_OFF;
    BOOLEANS.contains(&word.as_str()) || is_near("true") || is_near("false")
}

const ONE_LETTER_OFF: f64 = 0.75;
