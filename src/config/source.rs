//! A configuration file in memory: its lines, and which part of a line may be shown.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::diagnostic::{Diagnostic, Place, Severity};
use crate::config::doubts::Doubts;
use crate::config::encoding::{self, Misread};
use crate::config::line::ShownLine;
use crate::config::regular;
use crate::domain::secret::SecretRef;

/// Stands for each character that is not shown, so that columns stay what they are.
const MASK: char = '*';

/// Words that, in a key or a value, make a line one that may hold a secret.
const SECRET_WORDS: [&str; 6] = ["secret", "token", "access_key", "password", "credential", "akid"];

/// The keys of an account that hold references to secrets, where a literal may stand by mistake.
const SECRET_KEYS: [&str; 6] =
    ["secret_id", "secret_key", "access_key_id", "secret_access_key", "token", "credentials"];

/// Keys of `renewd.toml` that hold no secret, at its top and in an account. Beside them any key may be a
/// misspelt one of [`SECRET_KEYS`].
const SHOWN_KEYS: [&str; 12] = [
    "database",
    "policies",
    "timezone",
    "log",
    "http",
    "retry",
    "history",
    "provider",
    "endpoint",
    "bare_time_zone",
    "rate",
    "budget",
];

/// Tables in which no key is near one of a secret, and those of an account that are alike.
const SHOWN_TABLES: [&str; 4] = ["log", "http", "retry", "history"];
const SHOWN_TABLES_OF_ACCOUNT: [&str; 2] = ["rate", "budget"];
pub(crate) const ACCOUNT: &str = "account";

/// How alike (of 1) a key must be to a known one to be shown as its misspelling.
const MISSPELT: f64 = 0.7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disclosure {
    /// Secrets have their place in this file: only what is known to be none is shown.
    Guarded,
    /// No secret belongs into this file: all is shown but what looks like one.
    Open,
}

pub(crate) struct SourceFile {
    path: Arc<Path>,
    text: String,
    line_starts: Vec<usize>,
    /// By line: whether it begins inside a text over several lines.
    inside_long_text: Vec<bool>,
    /// By line: the line of the header of the table that it stands in, none above the first.
    headers: Vec<Option<usize>>,
    doubts: Doubts,
    blanked: OnceCell<String>,
    disclosure: Disclosure,
    /// Lines as they may be shown; one long line may be the place of many mistakes.
    shown_lines: RefCell<HashMap<usize, Rc<ShownLine>>>,
}

impl SourceFile {
    /// # Errors
    /// The file cannot be read or is not UTF-8.
    pub(crate) fn read(path: &Path, disclosure: Disclosure) -> Result<SourceFile, Box<Diagnostic>> {
        let bytes = regular::read(path).map_err(|error| unreadable(path, &error))?;
        SourceFile::of_bytes(path, bytes, disclosure)
    }

    /// # Errors
    /// They are not UTF-8.
    pub(crate) fn of_bytes(
        path: &Path,
        bytes: Vec<u8>,
        disclosure: Disclosure,
    ) -> Result<SourceFile, Box<Diagnostic>> {
        encoding::decode(bytes).map(|text| SourceFile::new(path, text, disclosure)).map_err(|misread| {
            let Misread { text, span, message, help } = misread;
            let place = SourceFile::new(path, text, disclosure).place(span);
            let help = Some(help.to_owned());
            Box::new(Diagnostic { severity: Severity::Error, message, place, related: None, help })
        })
    }

    fn new(path: &Path, text: String, disclosure: Disclosure) -> SourceFile {
        let line_starts: Vec<usize> =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let inside_long_text = lines_inside_long_text(&text);
        let headers = headers_of_lines(&text, &inside_long_text);
        SourceFile {
            path: path.into(),
            text,
            line_starts,
            inside_long_text,
            headers,
            doubts: Doubts::default(),
            blanked: OnceCell::new(),
            disclosure,
            shown_lines: RefCell::default(),
        }
    }

    pub(crate) fn shared_path(&self) -> Arc<Path> {
        Arc::clone(&self.path)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text with these lines blank: all places stay what they are.
    pub(crate) fn with_blanks_for(&self, lines: &BTreeSet<usize>) -> Cow<'_, str> {
        if lines.is_empty() {
            return Cow::Borrowed(&self.text);
        }
        let blank = |(at, line): (usize, &str)| match lines.contains(&(at + 1)) {
            true => " ".repeat(line.len()),
            false => line.to_owned(),
        };
        Cow::Owned(self.text.split('\n').enumerate().map(blank).collect::<Vec<_>>().join("\n"))
    }

    /// As [`SourceFile::with_blanks_for`], once and for as long as the file is there.
    pub(crate) fn blanked(&self, lines: &BTreeSet<usize>) -> &str {
        if lines.is_empty() {
            return &self.text;
        }
        self.blanked.get_or_init(|| self.with_blanks_for(lines).into_owned())
    }

    pub(crate) fn line_up_to(&self, offset: usize) -> &str {
        &self.text[self.line_starts[self.line_number(offset) - 1]..offset]
    }

    /// The last line before the next header, or of the file.
    pub(crate) fn last_line_below(&self, header: usize) -> usize {
        let last = self.last_line();
        (header + 1..=last).find(|line| self.is_header(*line)).map_or(last, |next| next - 1)
    }

    pub(crate) fn last_line(&self) -> usize {
        self.line_starts.len()
    }

    /// Whether a message may repeat this key.
    pub(crate) fn may_tell(&self, key: &str) -> bool {
        self.disclosure == Disclosure::Open || !may_be_part_of_secret(key)
    }

    /// Whether a secret, or a reference to one, belongs on the line.
    pub(crate) fn is_place_of_secret(&self, line: usize) -> bool {
        let is_of_key = |c: char| c.is_alphanumeric() || c == '_';
        let key = self.line(line).split(|c| !is_of_key(c)).find(|word| !word.is_empty()).unwrap_or_default();
        self.disclosure == Disclosure::Guarded && likeness(key, &SECRET_KEYS) >= MISSPELT
    }

    /// From 1.
    pub(crate) fn line_number(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// Where a line begins, if there is one of that number.
    pub(crate) fn line_start(&self, line: usize) -> Option<usize> {
        self.line_starts.get(line.checked_sub(1)?).copied()
    }

    /// The line of the header of the table that the line stands in.
    pub(crate) fn header_line(&self, line: usize) -> Option<usize> {
        self.headers[line - 1]
    }

    pub(crate) fn is_header(&self, line: usize) -> bool {
        self.headers.get(line).is_some_and(|header| *header == Some(line))
    }

    pub(crate) fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    /// Whether what stands here may belong to another table: the header over it is broken.
    pub(crate) fn is_of_a_table_in_doubt(&self, offset: usize) -> bool {
        let header = self.header_line(self.line_number(offset));
        self.doubts.is_any_table() || header.is_some_and(|header| self.doubts.is_misread(header))
    }

    /// Whether what the table of `offset` (None: the file's own) lacks may stand in a broken line: one of its own, or
    /// one below a second header of its name.
    pub(crate) fn may_lack_by_a_slip(&self, offset: Option<usize>) -> bool {
        let of_line = |line| if self.is_header(line) { Some(line) } else { self.header_line(line) };
        let path = |header: Option<usize>| header.map(|header| path_of(self.line(header)));
        let own = path(offset.and_then(|offset| of_line(self.line_number(offset))));
        let may_hold = |line| match (path(of_line(line)), &own) {
            (Some(path), Some(own)) => path.starts_with(own),
            (path, own) => path.is_none() && own.is_none(),
        };
        self.doubts.is_any_table() || self.doubts.any_line(may_hold)
    }

    /// Whether a broken line may be, or hide, one of the names that stand in `table`.
    pub(crate) fn are_names_in_doubt(&self, table: &str) -> bool {
        let may_name = |line: usize| {
            let own = self.line(line);
            match path_of(if self.is_header(line) { own } else { self.header(line) }).as_slice() {
                [] => path_of(own.split('=').next().unwrap_or_default())
                    .first()
                    .is_none_or(|key| !SHOWN_KEYS.contains(key) || key == &table),
                [only] => !SHOWN_TABLES.contains(only),
                [first, ..] => self.is_header(line) && !SHOWN_TABLES.contains(first),
            }
        };
        self.doubts.is_any_table() || self.doubts.any_line(may_name)
    }

    /// The place of `span`; of a span over several lines, of its first.
    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        let line = self.line_number(span.start);
        let line_start = self.line_starts[line - 1];
        let of_line = |at: usize| at.saturating_sub(line_start);
        let spot = self.shown_line(line).spot(line, of_line(span.start)..of_line(span.end));
        Place { file: self.shared_path(), spot: Some(spot) }
    }

    pub(crate) fn line(&self, line: usize) -> &str {
        let start = self.line_starts[line - 1];
        let end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        self.text[start..end].trim_end_matches(['\n', '\r'])
    }

    /// The header of the table that the line stands in; a header stands in none.
    fn header(&self, line: usize) -> &str {
        self.headers[line - 1].map_or("", |header| self.line(header))
    }

    fn shown_line(&self, line: usize) -> Rc<ShownLine> {
        let mut shown_lines = self.shown_lines.borrow_mut();
        let shown = || Rc::new(ShownLine::new(self.line(line), &self.masked_line(line)));
        shown_lines.entry(line).or_insert_with(shown).clone()
    }

    fn masked_line(&self, line: usize) -> Cow<'_, str> {
        let text = self.line(line);
        let inside_long_text = self.inside_long_text.get(line - 1) == Some(&true);
        let hidden_from =
            if inside_long_text { Some(0) } else { self.disclosure.hidden_from(text, self.header(line)) };
        let Some(hidden_from) = hidden_from else { return text.into() };
        let (shown, hidden) = text.split_at(hidden_from);
        shown.chars().chain(hidden.chars().map(|c| if c == ' ' { ' ' } else { MASK })).collect()
    }
}

impl Disclosure {
    /// From where on the line, in the table of `header`, is not to be shown.
    fn hidden_from(self, line: &str, header: &str) -> Option<usize> {
        let Some((key, value)) = line.split_once('=') else {
            let is_shown = match self {
                Disclosure::Guarded => line.trim().is_empty() || is_known_header(line),
                Disclosure::Open => !may_hold_secret(line),
            };
            return if is_shown { None } else { Some(0) };
        };
        if is_reference(value) {
            return None;
        }
        if let Some((reference, comment)) = value.split_once('#')
            && is_reference(reference)
        {
            // What stood there before may have been left in the comment.
            return Some(line.len() - comment.len());
        }
        let is_known = match self {
            Disclosure::Guarded => {
                let path = [path_of(header), path_of(key)].concat();
                is_harmless(&path) && !key.contains('[') && !value.contains('@')
            }
            Disclosure::Open => true,
        };
        if self == Disclosure::Guarded && !is_known && may_be_part_of_secret(key) {
            return Some(0);
        }
        if (is_known || is_plain_number(value)) && !may_hold_secret(line) {
            return None;
        }
        let blanks = value.len() - value.trim_start().len();
        Some(key.len() + 1 + blanks)
    }
}

/// The words of a key or of a table's header.
fn path_of(text: &str) -> Vec<&str> {
    let words = text.trim_start().trim_start_matches('[').split(']').next().unwrap_or_default();
    words
        .split('.')
        .map(|word| word.trim().trim_matches(['"', '\'']))
        .filter(|word| !word.is_empty())
        .collect()
}

/// Whether the key at this path is known to hold no secret, or is a slip of one that holds none.
fn is_harmless(path: &[&str]) -> bool {
    let Some(key) = path.last() else { return false };
    let is_in_shown_table = match path {
        [table, _, ..] if SHOWN_TABLES.contains(table) => true,
        [ACCOUNT, _, table, _, ..] => SHOWN_TABLES_OF_ACCOUNT.contains(table),
        _ => false,
    };
    let likeness_to_secret = likeness(key, &SECRET_KEYS);
    if is_in_shown_table {
        return likeness_to_secret < MISSPELT;
    }
    let likeness_to_shown = likeness(key, &SHOWN_KEYS);
    likeness_to_shown >= MISSPELT && likeness_to_shown > likeness_to_secret
}

/// No key of ours looks like that; the second line of a wrapped secret does.
pub(crate) fn may_be_part_of_secret(key: &str) -> bool {
    let is_odd = |c: char| !c.is_ascii_lowercase() && !matches!(c, '_' | '-');
    // A colon is in the names of APIs.
    path_of(key).iter().all(|word| word.contains(is_odd) && !word.contains(':'))
}

/// To the most alike of them, of 1.
fn likeness(word: &str, known: &[&str]) -> f64 {
    let to = |name: &&str| strsim::normalized_damerau_levenshtein(word, name);
    known.iter().map(to).fold(0.0, f64::max)
}

/// A header, perhaps misspelt, with nothing behind it but a comment.
fn is_known_header(line: &str) -> bool {
    let tables = [&SHOWN_TABLES[..], &[ACCOUNT]].concat();
    let behind = line.rsplit_once(']').map_or("", |(_, behind)| behind.trim_start());
    line.trim_start().starts_with('[')
        && path_of(line).first().is_some_and(|first| likeness(first, &tables) >= MISSPELT)
        && (behind.is_empty() || behind.starts_with('#'))
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

fn lines_inside_long_text(text: &str) -> Vec<bool> {
    let mut open = [("\"\"\"", false), ("'''", false)];
    let mut line_begins_inside = |line: &str| {
        let inside = open.iter().any(|(_, is_open)| *is_open);
        for (quotes, is_open) in &mut open {
            *is_open ^= line.matches(*quotes).count() % 2 == 1;
        }
        inside
    };
    text.split('\n').map(&mut line_begins_inside).collect()
}

/// By line: the last header before it.
fn headers_of_lines(text: &str, inside_long_text: &[bool]) -> Vec<Option<usize>> {
    let mut header = None;
    let before = |(at, line): (usize, &str)| {
        let of_line = header;
        if !inside_long_text[at] && line.trim_start().starts_with('[') {
            header = Some(at + 1);
        }
        of_line
    };
    text.split('\n').enumerate().map(before).collect()
}

pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Box<Diagnostic> {
    let help = match error.kind() {
        io::ErrorKind::NotFound => Some("create it, or name another path".to_owned()),
        io::ErrorKind::PermissionDenied => Some("let the user that renewd runs as read it".to_owned()),
        io::ErrorKind::IsADirectory => Some("name the file in the folder".to_owned()),
        io::ErrorKind::NotADirectory => {
            Some("a part of the path is a file and no folder: correct it".to_owned())
        }
        io::ErrorKind::InvalidInput => Some("put a plain file in its place".to_owned()),
        _ => None,
    };
    Box::new(Diagnostic {
        severity: Severity::Error,
        message: format!("{} cannot be read: {error}", path.display()),
        place: Place { file: path.into(), spot: None },
        related: None,
        help,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(disclosure: Disclosure, line: &str) -> String {
        let file = SourceFile::new(Path::new("x.toml"), line.to_owned(), disclosure);
        file.shown_line(1).text()
    }

    fn last_shown(text: &str) -> String {
        let file = SourceFile::new(Path::new("x.toml"), text.to_owned(), Disclosure::Guarded);
        file.shown_line(text.lines().count()).text()
    }

    #[test]
    fn a_value_that_may_be_a_secret_is_masked() {
        for line in [
            "secret_key = \"hunter2\"",
            "secret_kye = hunter2",
            "secretkey = \"env:X\" # hunter2",
            "frobnicate = \"hunter2\"",
            "account.shop = { x = \"hunter2\" }",
            "endpoint = \"http://me:hunter2@host\"",
            "log = { token = \"hunter2\" }",
            "[log] x = \"hunter2\"",
            "\"hunter2\"",
            "[account.shop] hunter2",
        ] {
            let shown = shown(Disclosure::Guarded, line);
            assert!(shown.ends_with(MASK) && !shown.contains("hunter2"), "{shown}");
            assert_eq!(shown.chars().count(), line.chars().count());
        }
        assert_eq!(shown(Disclosure::Open, "secret_key = \"hunter2\""), "secret_key = *********");
    }

    #[test]
    fn under_an_account_each_key_that_is_not_known_to_be_harmless_may_be_a_misspelt_secret() {
        for header in ["[account.shop]", "[acount.shop]", "[account.\"my shop\"] # pays"] {
            for key in ["secret_kee", "tokne", "acces_key_id", "kye", "secert"] {
                let text = format!("{header}\n{key} = \"hunter2\"\n");
                assert_eq!(last_shown(&text), format!("{key} = *********"), "{text}");
            }
        }
        assert_eq!(last_shown("[retry]\ntokne = \"hunter2\"\n"), "tokne = *********", "out of its place");
    }

    #[test]
    fn what_is_known_to_be_no_secret_is_shown() {
        for line in [
            "secret_key = \"credential:shop-key\"",
            "secret_id = 'env:SHOP'",
            "databse = \"x.db\"",
            "[account.shop]",
            "[histroy]",
            "log = { format = \"jsn\" }",
            "\"redis:RenewInstance\" = 5000",
        ] {
            assert_eq!(shown(Disclosure::Guarded, line), line);
        }
        for (header, line) in [
            ("[history]", "runs_days = \"many\""),
            ("[history] # kept", "run_days = x"),
            ("[retry]", "max_attempts = -1.5e"),
            ("[log]", "level = \"inof\""),
            ("[account.shop]", "endpoint = \"ftp://host\""),
            ("[account.shop]", "providr = \"tencent\""),
            ("[account.shop]", "budget = { order_per_day = x }"),
            ("[account.shop.budget]", "cny_per_dya = \"much\""),
            ("[account.shop.rate]", "\"redis:Renew\" = \"fast\""),
        ] {
            assert_eq!(last_shown(&format!("{header}\n{line}\n")), line, "{header}");
        }
        let shown_reference = "secret_key = \"env:KEY\" #";
        assert_eq!(
            shown(Disclosure::Guarded, &format!("{shown_reference} hunter2")),
            format!("{shown_reference} *******")
        );
        let policy_line = "instances = [\"crs-1\", \"crs-2\"]";
        assert_eq!(shown(Disclosure::Open, policy_line), policy_line);
    }

    #[test]
    fn lines_of_a_long_text_are_not_shown_at_all() {
        let text = "secret_key = \"\"\"\nhunter2\n".to_owned();
        let file = SourceFile::new(Path::new("x.toml"), text, Disclosure::Guarded);
        assert_eq!(file.shown_line(2).text(), "*******");
    }
}
