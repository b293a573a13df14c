//! A configuration file in memory: its lines, the tables that they stand in, and the places in them.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::diagnostic::{Diagnostic, Place, Severity};
use crate::config::disclosure::{Disclosure, SHOWN_KEYS, SHOWN_TABLES, path_of};
use crate::config::doubts::Doubts;
use crate::config::encoding::{self, Misread};
use crate::config::line::ShownLine;
use crate::config::regular;
use crate::config::repairs::Repairs;
use crate::config::syntax;

const NUL: char = '\0';

pub(crate) struct SourceFile {
    path: Arc<Path>,
    text: String,
    line_starts: Vec<usize>,
    long_texts: LongTexts,
    /// By line: the line of the header of the table that it stands in, none above the first.
    headers: Vec<Option<usize>>,
    doubts: Doubts,
    repaired: OnceCell<String>,
    /// By the names in a header: the line where they stand first.
    first_headers: OnceCell<HashMap<String, usize>>,
    /// See [`SourceFile::may_lack_by_a_slip`].
    doubtful_tables: OnceCell<HashSet<String>>,
    disclosure: Disclosure,
    /// Lines as they may be shown; one long line may be the place of many mistakes.
    shown_lines: RefCell<HashMap<usize, Rc<ShownLine>>>,
}

impl SourceFile {
    /// # Errors
    /// The file cannot be read or is not UTF-8.
    pub(crate) fn read(path: &Path, disclosure: Disclosure) -> Result<SourceFile, Box<Diagnostic>> {
        let bytes = regular::read(path).map_err(|error| unreadable(path, &error))?;
        Ok(SourceFile::of_bytes(path, bytes, disclosure).0)
    }

    /// As much of it as can be read, and what is wrong with it where it is not UTF-8.
    pub(crate) fn of_bytes(
        path: &Path,
        bytes: Vec<u8>,
        disclosure: Disclosure,
    ) -> (SourceFile, Option<Box<Diagnostic>>) {
        let Misread { text, span, message, help, stand_in } = match encoding::decode(bytes) {
            Ok(text) => return (SourceFile::new(path, text, disclosure), None),
            Err(misread) => misread,
        };
        let file = SourceFile::new(path, text, disclosure);
        for line in stand_in.into_iter().flat_map(|stand_in| file.lines_that_lost(stand_in)) {
            file.doubts.mark(line..=line);
        }
        let (place, help) = (file.place(span), Some(help.to_owned()));
        let misread = Diagnostic { severity: Severity::Error, message, place, related: None, help };
        (file, Some(Box::new(misread)))
    }

    pub(super) fn new(path: &Path, text: String, disclosure: Disclosure) -> SourceFile {
        let line_starts: Vec<usize> =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let long_texts = LongTexts::of(&text, disclosure);
        let headers = headers_of_lines(&text, &long_texts);
        SourceFile {
            path: path.into(),
            text,
            line_starts,
            long_texts,
            headers,
            doubts: Doubts::default(),
            repaired: OnceCell::new(),
            first_headers: OnceCell::new(),
            doubtful_tables: OnceCell::new(),
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

    /// The text with these repairs, once and for as long as the file is there.
    pub(crate) fn repaired(&self, repairs: &Repairs) -> &str {
        if repairs.is_empty() {
            return &self.text;
        }
        self.repaired.get_or_init(|| repairs.applied_to(&self.text).into_owned())
    }

    pub(crate) fn disclosure(&self) -> Disclosure {
        self.disclosure
    }

    /// A text of three quotes that nobody closes: its lines up to where something else begins.
    pub(crate) fn unclosed_text(&self) -> Option<RangeInclusive<usize>> {
        self.long_texts.unclosed.clone()
    }

    /// Not those where only a comment has lost letters.
    fn lines_that_lost(&self, stand_in: char) -> Vec<usize> {
        let is_told = |line: &usize| match stand_in {
            NUL => self.line(*line).contains(NUL),
            _ => self.line(*line).split('#').next().is_some_and(|told| told.contains(stand_in)),
        };
        (1..=self.last_line()).filter(is_told).collect()
    }

    /// The lines that no parser can make sense of.
    pub(crate) fn lines_with_nul(&self) -> Vec<usize> {
        if self.text.contains(NUL) { self.lines_that_lost(NUL) } else { Vec::new() }
    }

    /// Headers of two brackets, such as `[[policy.cache]]`: no list of tables is right in our files.
    pub(crate) fn headers_of_lists(&self) -> Vec<usize> {
        let is_list = |line: &usize| self.is_header(*line) && self.line(*line).trim_start().starts_with("[[");
        if self.text.contains("[[") { (1..=self.last_line()).filter(is_list).collect() } else { Vec::new() }
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
        let is_in_doubt = |line| self.doubts.is_misread(line) && !self.doubts.is_detached(line);
        self.doubts.is_any_table() || header.is_some_and(is_in_doubt)
    }

    /// The names in the header of a table that is read apart from all others.
    pub(crate) fn detached_path(&self, header: usize) -> Option<Vec<&str>> {
        let line = Some(self.line(header)).filter(|_| self.doubts.is_detached(header))?;
        Some(
            path_of(line).into_iter().map(|name| name.split('#').next().unwrap_or_default().trim()).collect(),
        )
    }

    /// Where what stands on the line for a second time stands first: a header, or a key of the same table.
    pub(crate) fn first_of_twice(&self, line: usize) -> Option<Range<usize>> {
        if self.is_header(line) {
            let first = *self
                .first_headers()
                .get(&joined(&path_of(self.line(line))))
                .filter(|first| **first < line)?;
            return Some(self.span_of(first, self.line(first)));
        }
        let key = |line| self.line(line).split('=').next().unwrap_or_default();
        let begin = self.header_line(line).unwrap_or_default() + 1;
        let first = (begin..line).find(|first| path_of(key(*first)) == path_of(key(line)))?;
        Some(self.span_of(first, key(first)))
    }

    fn first_headers(&self) -> &HashMap<String, usize> {
        self.first_headers.get_or_init(|| {
            let headers = (1..=self.last_line()).rev().filter(|line| self.is_header(*line));
            headers.map(|header| (joined(&path_of(self.line(header))), header)).collect()
        })
    }

    /// Of what the line begins with, without the blanks around it.
    pub(crate) fn span_of(&self, line: usize, beginning: &str) -> Range<usize> {
        let start = self.line_starts[line - 1] + beginning.len() - beginning.trim_start().len();
        start..start + beginning.trim().len()
    }

    /// Whether what the table of `offset` (None: the file's own) lacks may stand in a broken line: one of its own, or
    /// one below a second header of its name.
    pub(crate) fn may_lack_by_a_slip(&self, offset: Option<usize>) -> bool {
        let own = offset.and_then(|offset| self.path_at(self.line_number(offset)));
        let doubtful = self.doubtful_tables.get_or_init(|| self.find_doubtful_tables());
        let own = own.unwrap_or_default();
        // A table in a table whose own header is broken stands for that one as well.
        let is_of_a_broken_one = || (1..own.len()).any(|length| self.is_detached_table(&own[..length]));
        self.doubts.is_any_table() || doubtful.contains(&joined(&own)) || is_of_a_broken_one()
    }

    fn is_detached_table(&self, path: &[&str]) -> bool {
        let first = self.first_headers().get(&joined(path));
        first.is_some_and(|header| self.doubts.is_detached(*header))
    }

    /// The paths of the tables in which a line is broken, or in which such a table stands.
    fn find_doubtful_tables(&self) -> HashSet<String> {
        let mut found = HashSet::new();
        let up_to = |path: &[&str], found: &mut HashSet<String>| {
            found.extend((1..=path.len()).map(|length| joined(&path[..length])));
        };
        for line in self.doubts.lines() {
            match self.path_at(line) {
                None => drop(found.insert(String::new())),
                Some(path) => up_to(&path, &mut found),
            }
        }
        for header in self.doubts.detached() {
            if let Some([outer @ .., _]) = self.path_at(header).as_deref() {
                up_to(outer, &mut found);
            }
        }
        found
    }

    /// The names of the table that the line stands in, or is the header of; none at the top of the file.
    fn path_at(&self, line: usize) -> Option<Vec<&str>> {
        let header = if self.is_header(line) { Some(line) } else { self.header_line(line) };
        header.map(|header| path_of(self.line(header)))
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
        let doubtful = || self.doubts.lines().into_iter().chain(self.doubts.detached());
        self.doubts.is_any_table() || doubtful().any(may_name)
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
        let shown = || Rc::new(ShownLine::new(self.line(line), &self.masked(line)));
        shown_lines.entry(line).or_insert_with(shown).clone()
    }

    fn masked(&self, line: usize) -> Cow<'_, str> {
        let is_inside_long_text = self.long_texts.is_inside(line);
        self.disclosure.masked(self.line(line), self.header(line), is_inside_long_text)
    }

    #[cfg(test)]
    pub(super) fn as_shown(&self, line: usize) -> String {
        self.shown_line(line).text()
    }
}

/// The names of a table as one text.
fn joined(path: &[&str]) -> String {
    path.join("\0")
}

/// Where texts of three quotes go over several lines.
struct LongTexts {
    /// By line: whether it begins inside of one.
    inside: Vec<bool>,
    /// Of the last one, when nobody closes it.
    unclosed: Option<RangeInclusive<usize>>,
}

impl LongTexts {
    fn of(text: &str, disclosure: Disclosure) -> LongTexts {
        let mut open = [("\"\"\"", None), ("'''", None)];
        let mut inside = Vec::new();
        for (at, line) in text.split('\n').enumerate() {
            inside.push(open.iter().any(|(_, begun)| begun.is_some()));
            for (quotes, begun) in &mut open {
                if line.matches(*quotes).count() % 2 == 1 {
                    *begun = if begun.is_some() { None } else { Some(at + 1) };
                }
            }
        }
        let begun = open.iter().find_map(|(_, begun)| *begun);
        let unclosed = begun.map(|first| {
            // What looks like a key may be a part of a secret.
            let goes_on =
                |line: &&str| disclosure == Disclosure::Guarded || !syntax::begins_anew(line.trim_start());
            first..=first + text.split('\n').skip(first).take_while(goes_on).count()
        });
        if let Some(lines) = &unclosed {
            inside[*lines.end()..].fill(false);
        }
        LongTexts { inside, unclosed }
    }

    fn is_inside(&self, line: usize) -> bool {
        self.inside.get(line - 1) == Some(&true)
    }
}

/// By line: the last header before it.
fn headers_of_lines(text: &str, long_texts: &LongTexts) -> Vec<Option<usize>> {
    let mut header = None;
    let before = |(at, line): (usize, &str)| {
        let of_line = header;
        let is_header = line.trim_start().starts_with('[') || syntax::is_unopened_header(line);
        if is_header && !long_texts.is_inside(at + 1) {
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
        io::ErrorKind::FileTooLarge => Some("move away what is no configuration, or split it".to_owned()),
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
