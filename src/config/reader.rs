//! A cursor over a parsed file that notes each mistake with its place and goes on.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::{Diagnostic, Place, Severity};
use crate::config::disclosure::Disclosure;
use crate::config::parsing::{self, Mistake};
use crate::config::secrets::SECRET_HELP;
use crate::config::source::SourceFile;
use crate::config::syntax::{self, Reach};

/// Longer offending text is shortened in messages; the marked line shows it whole.
const LONGEST_QUOTE: usize = 80;

/// How alike (of 1) a word must be to a known one to be taken for its misspelling.
const ALIKE: f64 = 0.5;

/// Known words listed where none is alike; accounts may be many.
const MOST_LISTED: usize = 24;

/// Everything found in all files, in the order of finding.
#[derive(Default)]
pub(crate) struct Findings {
    diagnostics: RefCell<Vec<Diagnostic>>,
}

impl Findings {
    pub(crate) fn note(&self, diagnostic: Diagnostic) {
        self.diagnostics.borrow_mut().push(diagnostic);
    }

    pub(crate) fn count(&self) -> usize {
        self.diagnostics.borrow().len()
    }

    pub(crate) fn mistake_count(&self) -> usize {
        let diagnostics = self.diagnostics.borrow();
        diagnostics.iter().filter(|found| found.severity == Severity::Error).count()
    }

    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics.into_inner()
    }

    /// A mistake that belongs to a file or folder as a whole.
    pub(crate) fn mistake_of_file(&self, file: &Path, message: String, help: &str) {
        self.note_of_file(Severity::Error, file, message, help);
    }

    pub(crate) fn note_of_file(&self, severity: Severity, file: &Path, message: String, help: &str) {
        self.note(Diagnostic {
            severity,
            message,
            place: Place { file: file.into(), spot: None },
            related: None,
            help: Some(help.to_owned()),
        });
    }
}

/// One file being read.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    file: &'a SourceFile,
    findings: &'a Findings,
}

/// Parses as much of the file as can be, noting one syntax mistake a line.
pub(crate) fn parse<'a>(file: &'a SourceFile, findings: &'a Findings) -> (Reader<'a>, Spanned<DeTable<'a>>) {
    let (root, mistakes) = parsing::parse(file);
    let reader = Reader { file, findings };
    let mut second_table = None;
    for mistake in mistakes {
        let line = mistake.line();
        let Mistake { span, slip, lines, is_duplicate, detaches } = mistake;
        if file.doubts().is_misread(line) {
            continue;
        }
        if line > 1 && file.doubts().is_misread(line - 1) && syntax::goes_on(file.line(line)) {
            // An item of what begins on the broken line before it.
            file.doubts().mark(lines);
            continue;
        }
        if is_duplicate {
            if file.is_header(line) {
                second_table = Some(line).filter(|_| !detaches);
            } else if second_table.is_some() && file.header_line(line) == second_table {
                // All that stands in the table is there twice because the table is.
                continue;
            }
        }
        let is_secret = file.disclosure().is_place_of_secret(file.line(line));
        let help = if is_secret { SECRET_HELP } else { slip.help };
        let first = file.first_of_twice(line).filter(|_| is_duplicate);
        reader.note_beside(first, Severity::Error, span, slip.message, help.to_owned());
        if detaches {
            file.doubts().mark_detached(line);
        }
        // Of two tables of one name each may have what the other lacks.
        if !detaches || file.first_of_twice(line).is_some() {
            file.doubts().mark(lines);
        }
        let is_twice_without_a_first = is_duplicate && file.is_header(line) && !detaches;
        if slip.reach == Reach::File || is_twice_without_a_first {
            file.doubts().mark_all();
        }
    }
    (reader, root)
}

impl<'a> Reader<'a> {
    /// Whether what `table` names may be more or less than what is read: a broken line may be one of its names.
    pub(crate) fn are_names_in_doubt(self, table: &str) -> bool {
        self.file.are_names_in_doubt(table)
    }

    pub(crate) fn fail(self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.note(Severity::Error, span, message.into(), help.into());
    }

    pub(crate) fn warn(self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.note(Severity::Warning, span, message.into(), help.into());
    }

    pub(crate) fn note(self, severity: Severity, span: Range<usize>, message: String, help: String) {
        self.note_beside(None, severity, span, message, help);
    }

    /// Of a line whose syntax is broken no more is said: it may be only misread. `first` is where the same stands
    /// already.
    fn note_beside(
        self,
        first: Option<Range<usize>>,
        severity: Severity,
        span: Range<usize>,
        message: String,
        help: String,
    ) {
        if self.file.doubts().is_misread(self.file.line_number(span.start)) {
            return;
        }
        let (message, help) = (Disclosure::tellable(message), Disclosure::tellable(help));
        let place = self.file.place(span);
        let related = first.map(|first| (self.file.place(first), "first here".to_owned()));
        self.findings.note(Diagnostic { severity, message, place, related, help: Some(help) });
    }

    pub(crate) fn root(self, table: &'a Spanned<DeTable<'a>>) -> Table<'a> {
        Table {
            reader: self,
            title: None,
            span: 0..0,
            entries: table.get_ref(),
            asked: Vec::new(),
            missing: Vec::new(),
        }
    }
}

/// A table, and which of its keys were asked for: the rest is unknown.
pub(crate) struct Table<'a> {
    reader: Reader<'a>,
    /// None: the file's own.
    title: Option<String>,
    /// Where something missing is reported.
    span: Range<usize>,
    entries: &'a DeTable<'a>,
    asked: Vec<&'static str>,
    missing: Vec<Missing>,
}

/// What should be there, told once all that is there is known: a key misspelt is one mistake, not two.
struct Missing {
    any_of: Vec<&'static str>,
    help: String,
}

/// What to say of a key that is known, but not here.
pub(crate) type Elsewhere = fn(&str) -> Option<&'static str>;

impl<'a> Table<'a> {
    pub(crate) fn title(&self) -> &str {
        self.title.as_deref().unwrap_or("the file")
    }

    pub(crate) fn take(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.asked.push(key);
        let (key, value) = self.entries.get_key_value(key)?;
        Some(Entry { reader: self.reader, key: key.get_ref(), key_span: key.span(), value })
    }

    pub(crate) fn require(&mut self, key: &'static str, help: &str) -> Option<Entry<'a>> {
        let found = self.take(key);
        if found.is_none() {
            self.fail_missing(&[key], help);
        }
        found
    }

    /// One of `any_of` should be there.
    pub(crate) fn fail_missing(&mut self, any_of: &[&'static str], help: &str) {
        self.missing.push(Missing { any_of: any_of.to_vec(), help: help.to_owned() });
    }

    /// All entries of a table whose keys are names, in the order of the file.
    pub(crate) fn named_entries(&self) -> Vec<Entry<'a>> {
        let mut entries: Vec<_> = self
            .entries
            .iter()
            .map(|(key, value)| Entry {
                reader: self.reader,
                key: key.get_ref(),
                key_span: key.span(),
                value,
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        entries
    }

    /// Tables whose header is broken or stands for a second time, each with the names that its header gives it.
    pub(crate) fn detached_entries(&self) -> Vec<(Vec<&'a str>, Entry<'a>)> {
        let file = self.reader.file;
        let own_name = |entry: Entry<'a>| {
            let header = file.line_number(entry.key_span.start);
            let path = file.detached_path(header)?;
            let key = path.get(1).or(path.first()).copied()?;
            Some((path, Entry { key, key_span: file.span_of(header, file.line(header)), ..entry }))
        };
        self.named_entries().into_iter().filter_map(own_name).collect()
    }

    pub(crate) fn refuse_unknown_keys(self) {
        self.refuse_unknown_keys_but_for(|_| None);
    }

    pub(crate) fn refuse_unknown_keys_but_for(self, elsewhere: Elsewhere) {
        let file = self.reader.file;
        let place = self.title.as_ref().map(|title| format!(" in {title}")).unwrap_or_default();
        let mut meant = Vec::new();
        for entry in self.named_entries() {
            let is_in_doubt = file.is_of_a_table_in_doubt(entry.key_span.start);
            if self.asked.contains(&entry.key) || entry.is_detached() || is_in_doubt {
                continue;
            }
            let known = self.asked.iter().copied();
            let help = match elsewhere(entry.key) {
                Some(help) => help.to_owned(),
                None => suggestion(entry.key, known.clone()),
            };
            meant.extend(nearest(entry.key, known));
            let told = if file.disclosure().may_tell(entry.key) {
                quoted(entry.key)
            } else {
                "(not shown)".to_owned()
            };
            entry.fail_at_key(format!("unknown key {told}{place}"), help);
        }
        if file.may_lack_by_a_slip(self.title.is_some().then_some(self.span.start)) {
            return;
        }
        for Missing { any_of, help } in &self.missing {
            if any_of.iter().any(|key| meant.contains(key)) {
                continue;
            }
            let message = match any_of.as_slice() {
                [one, other] => format!("{} has neither `{one}` nor `{other}`", self.title()),
                keys => format!("{} has no `{}`", self.title(), keys.join("`, `")),
            };
            self.reader.fail(self.span.clone(), message, help.as_str());
        }
    }
}

/// A key with its value.
#[derive(Clone)]
pub(crate) struct Entry<'a> {
    pub(crate) reader: Reader<'a>,
    pub(crate) key: &'a str,
    pub(crate) key_span: Range<usize>,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Entry<'a> {
    /// Of the value; what the parser puts in the place of one that it could not read stands where the key does.
    pub(crate) fn span(&self) -> Range<usize> {
        Some(self.value.span()).filter(|span| !span.is_empty()).unwrap_or(self.key_span.clone())
    }

    /// Whether the syntax around it is broken, so that it may be only a part of what is meant.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let file = self.reader.file;
        file.doubts().is_misread(file.line_number(self.span().start))
    }

    /// Whether its name cannot be relied on: its header is broken, or stands for a second time.
    pub(crate) fn is_detached(&self) -> bool {
        let file = self.reader.file;
        file.doubts().is_detached(file.line_number(self.key_span.start))
    }

    pub(crate) fn fail(&self, message: impl Into<String>, help: impl Into<String>) {
        self.reader.fail(self.span(), message, help);
    }

    pub(crate) fn fail_at_key(&self, message: impl Into<String>, help: impl Into<String>) {
        self.reader.fail(self.key_span.clone(), message, help);
    }

    fn fail_kind(&self, wanted: &str) {
        self.fail_kind_with(wanted, &format!("write {wanted}"));
    }

    fn fail_kind_with(&self, wanted: &str, help: &str) {
        let found = kind_of(self.value.get_ref());
        self.fail(format!("`{}` must be {wanted}, not {found}", self.key), help);
    }

    /// Text on one line. Of any other nothing is ever repeated: for want of a closing quote it may
    /// have swallowed a secret.
    pub(crate) fn text(&self) -> Option<&'a str> {
        self.text_or("write text in quotes")
    }

    /// As [`Entry::text`]; `help` says how it is written.
    pub(crate) fn text_or(&self, help: &str) -> Option<&'a str> {
        self.text_that_is("text in quotes", help)
    }

    /// As [`Entry::text`], where what is wanted has a name of its own.
    pub(crate) fn text_that_is(&self, wanted: &str, help: &str) -> Option<&'a str> {
        let Some(text) = self.value.get_ref().as_str() else {
            self.fail_kind_with(wanted, help);
            return None;
        };
        if text.contains(char::is_control) {
            self.fail(
                format!("`{}` has several lines or control characters", self.key),
                "write it on one line, between one pair of quotes",
            );
            return None;
        }
        Some(text)
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        let boolean = self.value.get_ref().as_bool();
        if boolean.is_none() {
            self.fail_kind("true or false");
        }
        boolean
    }

    pub(crate) fn whole_number<N>(&self, range: RangeInclusive<N>) -> Option<N>
    where
        N: TryFrom<u64> + PartialOrd + fmt::Display,
    {
        let help = format!("write a whole number from {} to {}", range.start(), range.end());
        self.whole_number_or(range, &help)
    }

    /// As [`Entry::whole_number`]; `help` says which numbers are right.
    pub(crate) fn whole_number_or<N>(&self, range: RangeInclusive<N>, help: &str) -> Option<N>
    where
        N: TryFrom<u64> + PartialOrd + fmt::Display,
    {
        let Some(integer) = self.value.get_ref().as_integer() else {
            self.fail_kind("a whole number");
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number =
            number.and_then(|number| N::try_from(number).ok()).filter(|number| range.contains(number));
        if number.is_none() {
            let message = format!("`{}` is {integer}, out of range", self.key);
            self.fail(message, help);
        }
        number
    }

    /// A number as the file spells it, quoted or not: money never passes through a float.
    pub(crate) fn number_text(&self, wanted: &str) -> Option<String> {
        match self.value.get_ref() {
            DeValue::Integer(integer) if integer.radix() == 10 => Some(integer.as_str().to_owned()),
            DeValue::Float(float) => Some(float.as_str().to_owned()),
            DeValue::String(_) => self.text().map(str::to_owned),
            _ => {
                self.fail_kind(wanted);
                None
            }
        }
    }

    pub(crate) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let known: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let text = self.text_or(&format!("write {}", known.join(" or ")))?;
        let found = choices.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let message = format!("`{}` cannot be {}", self.key, quoted(text));
            self.fail(message, suggestion(text, choices.iter().map(|(name, _)| *name)));
        }
        found.map(|(_, value)| *value)
    }

    /// `title` is what messages call it, `help` how it is written.
    pub(crate) fn table(&self, title: impl Into<String>, help: &str) -> Option<Table<'a>> {
        let Some(entries) = self.value.get_ref().as_table() else {
            self.fail_kind_with("a table", help);
            return None;
        };
        Some(Table {
            reader: self.reader,
            title: Some(title.into()),
            span: self.key_span.clone(),
            entries,
            asked: Vec::new(),
            missing: Vec::new(),
        })
    }

    /// The items of a list, each an entry under the list's key.
    pub(crate) fn items(&self, wanted: &str, help: &str) -> Option<Vec<Entry<'a>>> {
        let Some(items) = self.value.get_ref().as_array() else {
            self.fail_kind_with(wanted, help);
            return None;
        };
        Some(items.iter().map(|value| Entry { value, ..self.clone() }).collect())
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with decimals",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Offending text for a message: on one line, not endless, in backticks.
pub(crate) fn quoted(text: &str) -> String {
    let escaped: String = text.chars().take(LONGEST_QUOTE).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(LONGEST_QUOTE).is_some() { "…" } else { "" };
    format!("`{}{more}`", escaped.replace("\\'", "'").replace("\\\"", "\""))
}

/// The known word that was probably meant, else all known ones.
pub(crate) fn suggestion<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(word, known.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if known.is_empty() => "remove it".to_owned(),
        None if known.len() > MOST_LISTED => {
            format!("known here: {} and {} more", known[..MOST_LISTED].join(", "), known.len() - MOST_LISTED)
        }
        None => format!("known here: {}", known.join(", ")),
    }
}

/// Whether `word` may be a misspelling of `known`, or is it.
pub(crate) fn alike_to(known: &str, word: &str) -> bool {
    nearest(word, [known]).is_some()
}

pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(&word, &name.to_ascii_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}
