//! Slips in the syntax of TOML, in plain words.

/// Values of other formats that are true or false there.
const BOOLEANS: [&str; 6] = ["yes", "no", "on", "off", "true", "false"];
const CURLY_QUOTES: [char; 6] = ['“', '”', '„', '‘', '’', '«'];

pub(super) fn is_duplicate(message: &str) -> bool {
    message.starts_with("duplicate key")
}

/// What to do about the parser's `message`; `rest` is the file from the place on.
pub(super) fn help(message: &str, rest: &str) -> &'static str {
    let is = |beginning: &str| message.starts_with(beginning);
    if is_duplicate(message) {
        return "each key and each [table] is written once";
    }
    if is("string values must be quoted") {
        return unquoted_help(rest);
    }
    for (beginning, help) in HELP {
        if is(beginning) {
            return help;
        }
    }
    "see https://toml.io for the syntax"
}

const HELP: [(&str, &str); 15] = [
    ("missing comma between", "put a comma between the items and `]` behind the last"),
    ("unclosed table", "close the header with `]`, such as [policy.NAME]"),
    ("unclosed array table", "write the header with one pair of brackets: [policy.NAME]"),
    ("unclosed array", "close the list with `]`"),
    ("unclosed inline table", "close it with `}`"),
    ("unexpected key or value", "only a comment that begins with `#` may follow on the line"),
    ("invalid basic string", "end the text with the quote that it began with, on the same line"),
    ("invalid literal string", "end the text with the quote that it began with, on the same line"),
    ("invalid multi-line", "end the text with the three quotes that it began with"),
    ("key with no value", "write key = value, or `#` before a comment"),
    ("missing assignment", "write key = value"),
    ("missing escaped value", "write `\\\\` for a backslash, or put the text in single quotes"),
    ("unexpected leading zero", "write the number without a zero before it"),
    ("invalid boolean", "write true or false, in small letters"),
    ("invalid mantissa", "write digits only, with a point before decimals"),
];

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
