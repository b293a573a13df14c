//! From text to a table past every slip: what the parser cannot read is read as if it were blank, so that what stands
//! around it is told as well.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::DeTable;

use crate::config::source::SourceFile;
use crate::config::syntax::{self, Reach, Slip};

/// Lists and tables that nobody closes are found one after the other; with more of them the rest is left unread.
const ROUNDS_MAX: usize = 100;

/// One broken place, and the lines that it makes unreadable.
pub(super) struct Mistake {
    pub(super) span: Range<usize>,
    pub(super) slip: Slip,
    pub(super) lines: RangeInclusive<usize>,
    pub(super) is_duplicate: bool,
}

impl Mistake {
    fn of(error: &toml::de::Error, file: &SourceFile) -> Mistake {
        let span = error.span().unwrap_or(0..0);
        let line = file.line_number(span.start);
        let (before, rest) = (file.line_up_to(span.start), &file.text()[span.start..]);
        let slip = syntax::slip(error.message(), before, rest);
        let is_duplicate = syntax::is_duplicate(error.message());
        let mistake = Mistake { span, slip, lines: line..=line, is_duplicate };
        match mistake.slip.reach {
            Reach::Unclosed => mistake.widened_to_its_opening(file, line),
            Reach::Table => Mistake { lines: line..=file.last_line_below(line), ..mistake },
            _ => mistake,
        }
    }

    fn widened_to_its_opening(self, file: &SourceFile, line: usize) -> Mistake {
        let is_at_begin = file.line_up_to(self.span.start).trim().is_empty();
        let last = if is_at_begin { line - 1 } else { line };
        match opening_up_to(file, last) {
            Some((first, opening)) => Mistake { span: opening..opening + 1, lines: first..=last, ..self },
            None => {
                let slip = Slip { reach: Reach::File, ..self.slip };
                Mistake { slip, lines: line..=file.last_line(), ..self }
            }
        }
    }

    pub(super) fn line(&self) -> usize {
        *self.lines.start()
    }

    fn has_to_be_blanked(&self) -> bool {
        matches!(self.slip.reach, Reach::Stop | Reach::Unclosed | Reach::Table)
    }

    /// What stopped the parser on a line comes first: a key with a strange character and no value is a slip of `=`.
    fn rank(&self) -> (usize, bool, bool, usize) {
        let reach = self.slip.reach;
        (self.line(), reach != Reach::Stop, reach == Reach::Unclosed, self.span.start)
    }
}

/// All that can be read, and one mistake a line.
pub(super) fn parse(file: &SourceFile) -> (Spanned<DeTable<'_>>, Vec<Mistake>) {
    let (root, errors) = DeTable::parse_recoverable(file.text());
    if errors.is_empty() {
        return (root, Vec::new());
    }
    let mut blank = BTreeSet::new();
    let mut mistakes = Vec::new();
    for round in 0..ROUNDS_MAX {
        let text = file.with_blanks_for(&blank);
        let (_, errors) = DeTable::parse_recoverable(&text);
        let mut found: Vec<Mistake> = errors.iter().map(|error| Mistake::of(error, file)).collect();
        found.sort_by_key(|mistake| mistake.span.start);
        let to_blank = lines_to_blank(&found, &blank);
        if to_blank.is_empty() || round + 1 == ROUNDS_MAX {
            mistakes.extend(found);
            break;
        }
        mistakes.extend(found.into_iter().filter(|mistake| to_blank.contains(&mistake.line())));
        blank.extend(to_blank);
    }
    mistakes.sort_by_key(Mistake::rank);
    mistakes.dedup_by_key(|mistake| mistake.line());
    let (root, _) = DeTable::parse_recoverable(file.blanked(&blank));
    (root, mistakes)
}

/// Behind what is not closed the parser misreads everything: what it says of that is asked for again.
fn lines_to_blank(found: &[Mistake], blank: &BTreeSet<usize>) -> BTreeSet<usize> {
    let reaches_on = |mistake: &Mistake| matches!(mistake.slip.reach, Reach::Unclosed | Reach::Table);
    let until = found.iter().position(reaches_on).map_or(found.len(), |first| first + 1);
    let lines = found[..until].iter().filter(|mistake| mistake.has_to_be_blanked());
    lines.flat_map(|mistake| mistake.lines.clone()).filter(|line| !blank.contains(line)).collect()
}

/// The nearest line up to `last` that begins with a key whose list or table it does not close, and where that opens.
fn opening_up_to(file: &SourceFile, last: usize) -> Option<(usize, usize)> {
    let first = (1..=last).rev().find(|line| syntax::begins_anew(file.line(*line).trim_start()))?;
    let line = file.line(first);
    let value = line.find('=')? + 1;
    let opening = value + opening_in(&line[value..])?;
    Some((first, file.line_start(first)? + opening))
}

/// Where the first list or table begins that the line does not close; a quote that is not closed hides what follows.
fn opening_in(value: &str) -> Option<usize> {
    let mut open = Vec::new();
    let mut quote = None;
    for (at, c) in value.char_indices() {
        match (quote, c) {
            (Some(begun), _) if begun == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => open.push(at),
            (None, ']' | '}') => drop(open.pop()),
            (None, '#') => break,
            (None, _) => {}
        }
    }
    open.first().copied()
}
