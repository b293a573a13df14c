//! A configuration file in memory: its lines, and which part of a line may be shown.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::diagnostic::{Diagnostic, Place, Severity, Spot};
use crate::domain::secret::SecretRef;

/// What stands where a value was cut out.
const CUT: &str = "…";

/// Words that, in a key or a value, make a line one that may hold a secret.
const SECRET_WORDS: [&str; 6] = ["secret", "token", "access_key", "password", "credential", "akid"];

/// Keys of `renewd.toml` whose values are shown. Every other value could be a secret under a
/// misspelt key, so it is not.
const SHOWN_KEYS: [&str; 13] = [
    "database",
    "policies",
    "timezone",
    "log",
    "format",
    "level",
    "http",
    "listen",
    "provider",
    "endpoint",
    "bare_time_zone",
    "retry",
    "history",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disclosure {
    /// Secrets have their place in this file: only what is known to be none is shown.
    Guarded,
    /// No secret belongs into this file: all is shown but what looks like one.
    Open,
}

pub(crate) struct SourceFile {
    path: PathBuf,
    text: String,
    line_starts: Vec<usize>,
    disclosure: Disclosure,
    /// Lines as they may be shown; one long line may be the place of many mistakes.
    shown_lines: RefCell<HashMap<usize, ShownLine>>,
}

#[derive(Clone)]
struct ShownLine {
    text: Arc<str>,
    /// Where the cut begins.
    cut_at: Option<usize>,
}

impl SourceFile {
    /// # Errors
    /// The file cannot be read or is not UTF-8.
    pub(crate) fn read(path: &Path, disclosure: Disclosure) -> Result<SourceFile, Box<Diagnostic>> {
        let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(SourceFile::new(path, text, disclosure)),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let lossy = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let end = at + char::REPLACEMENT_CHARACTER.len_utf8();
                let file = SourceFile::new(path, lossy, disclosure);
                Err(Box::new(Diagnostic {
                    severity: Severity::Error,
                    message: "the file is not UTF-8 text".to_owned(),
                    place: file.place(at..end),
                    related: None,
                    help: Some("save it as UTF-8".to_owned()),
                }))
            }
        }
    }

    fn new(path: &Path, text: String, disclosure: Disclosure) -> SourceFile {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        SourceFile { path: path.to_owned(), text, line_starts, disclosure, shown_lines: RefCell::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// From 1.
    pub(crate) fn line_number(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// The place of `span`; of a span over several lines, of its first.
    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        let line = self.line_number(span.start);
        let line_start = self.line_starts[line - 1];
        let shown = self.shown_line(line);
        let mut mark = span.start - line_start..span.end.max(span.start) - line_start;
        if let Some(cut_at) = shown.cut_at.filter(|cut_at| mark.end > *cut_at) {
            mark = mark.start.min(cut_at)..shown.text.len();
        }
        mark = mark.start.min(shown.text.len())..mark.end.min(shown.text.len());
        let column = shown.text[..mark.start].chars().count() + 1;
        Place { file: self.path.clone(), spot: Some(Spot { line, column, text: shown.text, mark }) }
    }

    fn shown_line(&self, line: usize) -> ShownLine {
        let mut shown_lines = self.shown_lines.borrow_mut();
        shown_lines.entry(line).or_insert_with(|| self.cut_line(line)).clone()
    }

    fn cut_line(&self, line: usize) -> ShownLine {
        let start = self.line_starts[line - 1];
        let end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        let text = self.text[start..end].trim_end_matches(['\n', '\r']);
        let inside_long_text = is_inside_long_text(&self.text[..start]);
        let cut_at = if inside_long_text { Some(0) } else { self.disclosure.cut_at(text) };
        match cut_at {
            None => ShownLine { text: text.into(), cut_at: None },
            Some(at) => ShownLine { text: format!("{}{CUT}", &text[..at]).into(), cut_at: Some(at) },
        }
    }
}

impl Disclosure {
    /// From where on the line is not to be shown.
    fn cut_at(self, line: &str) -> Option<usize> {
        let Some((key, value)) = line.split_once('=') else {
            let is_structure = line.trim_start().starts_with(['[', '#']) || line.trim().is_empty();
            let is_shown = (is_structure || self == Disclosure::Open) && !may_hold_secret(line);
            return if is_shown || is_structure { None } else { Some(0) };
        };
        if is_reference(value) {
            return None;
        }
        let last_key = key.rsplit('.').next().unwrap_or(key).trim().trim_matches(['"', '\'']);
        let is_known = match self {
            Disclosure::Guarded => SHOWN_KEYS.contains(&last_key) && !value.contains('@'),
            Disclosure::Open => true,
        };
        if (is_known || is_plain_number(value)) && !may_hold_secret(line) {
            return None;
        }
        let blanks = value.len() - value.trim_start().len();
        Some(key.len() + 1 + blanks)
    }
}

fn may_hold_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| text.contains(word))
}

/// A quoted reference to a secret and nothing behind it.
fn is_reference(value: &str) -> bool {
    let value = value.trim();
    let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    inner.is_some_and(|inner| !inner.contains(['"', '\'']) && SecretRef::parse(inner).is_ok())
}

fn is_plain_number(value: &str) -> bool {
    let value = value.trim();
    value.parse::<f64>().is_ok() || matches!(value, "true" | "false")
}

/// Whether text over several lines is open where `before` ends.
fn is_inside_long_text(before: &str) -> bool {
    ["\"\"\"", "'''"].iter().any(|quotes| before.matches(quotes).count() % 2 == 1)
}

pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Box<Diagnostic> {
    let help = match error.kind() {
        io::ErrorKind::NotFound => Some("create it, or name another path".to_owned()),
        io::ErrorKind::PermissionDenied => Some("let the user that renewd runs as read it".to_owned()),
        io::ErrorKind::IsADirectory => Some("this is a folder: name the file in it".to_owned()),
        _ => None,
    };
    Box::new(Diagnostic {
        severity: Severity::Error,
        message: format!("{} cannot be read: {error}", path.display()),
        place: Place { file: path.to_owned(), spot: None },
        related: None,
        help,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(disclosure: Disclosure, line: &str) -> String {
        let file = SourceFile::new(Path::new("x.toml"), line.to_owned(), disclosure);
        file.shown_line(1).text.to_string()
    }

    #[test]
    fn a_value_that_may_be_a_secret_is_cut_out_of_its_line() {
        for line in [
            "secret_key = \"hunter2\"",
            "secret_kye = hunter2",
            "secretkey = \"env:X\" # hunter2",
            "frobnicate = \"hunter2\"",
            "account.shop = { x = \"hunter2\" }",
            "endpoint = \"http://me:hunter2@host\"",
            "log = { token = \"hunter2\" }",
            "\"hunter2\"",
        ] {
            let shown = shown(Disclosure::Guarded, line);
            assert!(shown.ends_with(CUT) && !shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(shown(Disclosure::Open, "secret_key = \"hunter2\""), "secret_key = …");
    }

    #[test]
    fn what_is_known_to_be_no_secret_is_shown() {
        for line in [
            "secret_key = \"credential:shop-key\"",
            "secret_id = 'env:SHOP'",
            "level = \"inof\"",
            "[account.shop]",
            "\"redis:RenewInstance\" = 5000",
        ] {
            assert_eq!(shown(Disclosure::Guarded, line), line);
        }
        let policy_line = "instances = [\"crs-1\", \"crs-2\"]";
        assert_eq!(shown(Disclosure::Open, policy_line), policy_line);
    }

    #[test]
    fn lines_of_a_long_text_are_not_shown_at_all() {
        let text = "secret_key = \"\"\"\nhunter2\n".to_owned();
        let file = SourceFile::new(Path::new("x.toml"), text, Disclosure::Guarded);
        assert_eq!(&*file.shown_line(2).text, CUT);
    }
}
