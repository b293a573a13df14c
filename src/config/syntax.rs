//! Slips in the syntax of TOML, in plain words.

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
    /// All behind the place is misread: a list or table that nobody closes swallows it.
    Rest,
    /// Any of it may stand in another table than it seems to.
    File,
}

pub(super) fn is_duplicate(message: &str) -> bool {
    message.starts_with("duplicate key")
}

/// Whether the parser takes a key whose `=` is missing for the end of the file.
pub(super) fn stops_parser(message: &str) -> bool {
    message.starts_with("key with no value") || message.starts_with("missing value for key")
}

/// Reads the parser's `message`; `rest` is the file from the place on.
pub(super) fn slip(message: &str, rest: &str) -> Slip {
    let swallowed = UNCLOSED.iter().find(|(beginning, ..)| message.starts_with(beginning));
    if let Some((_, message, help)) = swallowed.filter(|_| begins_anew(rest)) {
        return Slip { message: (*message).to_owned(), help, reach: Reach::Rest };
    }
    let known = KNOWN.iter().find(|(beginning, ..)| message.starts_with(beginning));
    let (plain, help) = match known {
        None => ("", "see https://toml.io for the syntax"),
        Some((_, plain, "")) => (*plain, unquoted_help(rest)),
        Some((_, plain, help)) => (*plain, *help),
    };
    let plain = if plain.is_empty() { message } else { plain };
    let reaches_on = REACHES_ON.iter().any(|beginning| message.starts_with(beginning));
    let reach = if reaches_on { Reach::File } else { Reach::Line };
    Slip { message: plain.to_owned(), help, reach }
}

/// What the parser begins with where it cannot know the end of what is not closed.
const REACHES_ON: [&str; 3] = ["unclosed", "invalid multi-line", "invalid inline table element"];

/// Where the next key or table begins inside of what should have been closed.
const UNCLOSED: [(&str, &str, &str); 3] = [
    ("missing comma between array elements", "the list before this line is not closed", "close it with `]`"),
    (
        "missing comma between key-value pairs",
        "the table before this line is not closed",
        "close it with `}`",
    ),
    ("invalid inline table element", "the table before this line is not closed", "close it with `}`"),
];

/// How the parser begins, what it means (nothing: its own words are plain), what to do (nothing: see the value).
const KNOWN: [(&str, &str, &str); 30] = [
    ("string values must be quoted", "text stands without quotes", ""),
    ("missing comma between array", "", "put a comma between the items and `]` behind the last"),
    ("missing comma between key-value pairs", "", "put a comma between them and `}` behind the last"),
    ("unclosed table", "the header is not closed", "close the header with `]`, such as [policy.NAME]"),
    (
        "unclosed array table",
        "a header of two brackets makes a list of tables",
        "write the header with one pair of brackets: [policy.NAME]",
    ),
    ("unclosed array", "the list is not closed", "close the list with `]`"),
    ("unclosed inline table", "the table is not closed", "close it with `}`"),
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
    ("redundant numeric sign", "the number has a sign too many", "write digits only"),
    ("unexpected sign", "the number has a sign too many", "write digits only"),
    (
        "missing escaped value",
        "a backslash stands for nothing here",
        "write `\\\\` for a backslash, or put the text in single quotes",
    ),
    ("unexpected leading zero", "a number begins with a zero", "write the number without a zero before it"),
    ("carriage return", "", "end the line as all others end, with a newline"),
    ("invalid boolean", "", "write true or false, in small letters"),
    ("invalid mantissa", "the number is not one", "write digits only, with a point before decimals"),
    ("duplicate key", "this stands in the file a second time", "each key and each [table] is written once"),
];

const KEY_OR_HEADER: &str = "write key = value, a header such as [policy.NAME], or `#` before a comment";
const CLOSE_QUOTE: &str = "end the text with the quote that it began with, on the same line";

/// Whether a key with its `=`, or a header, begins here.
fn begins_anew(rest: &str) -> bool {
    let line = rest.lines().next().unwrap_or_default();
    let is_name = |text: &str| {
        let text = text.trim();
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    let is_header = line.strip_prefix('[').is_some_and(|name| name.split(']').next().is_some_and(is_name));
    is_header || line.split_once('=').is_some_and(|(key, _)| is_name(key))
}

fn unquoted_help(rest: &str) -> &'static str {
    let value = rest.lines().next().unwrap_or_default().trim();
    let word = value.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    if value.starts_with(CURLY_QUOTES) {
        "use straight quotes: key = \"value\""
    } else if value.is_empty() {
        "the value is missing: write key = \"value\""
    } else if BOOLEANS.contains(&word.to_ascii_lowercase().as_str()) {
        "write true or false, in small letters"
    } else if word.starts_with(|c: char| c.is_ascii_digit()) {
        "write a number with digits only, or put the value in quotes: key = \"value\""
    } else {
        "put the value in quotes: key = \"value\""
    }
}
