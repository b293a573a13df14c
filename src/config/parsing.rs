//! From text to a table past every slip: what the parser cannot read is read as if it were blank, and a table whose
//! header cannot be read, or stands for a second time, as one of its own, so that all other mistakes are told as well.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::DeTable;

use crate::config::disclosure::{Disclosure, path_of};
use crate::config::reader::alike_to;
use crate::config::repairs::Repairs;
use crate::config::source::SourceFile;
use crate::config::syntax::{self, Reach, Slip};

/// Lists and tables that nobody closes are found one after the other; with more of them the rest is left unread.
const ROUNDS_MAX: usize = 100;

/// So many of what the parser says of one line are looked at.
const ERRORS_OF_LINE_MAX: usize = 8;

/// One broken place, and the lines that it makes unreadable.
pub(super) struct Mistake {
    pub(super) span: Range<usize>,
    pub(super) slip: Slip,
    pub(super) lines: RangeInclusive<usize>,
    pub(super) is_duplicate: bool,
    /// Whether the table below is read all the same, apart from all others.
    pub(super) detaches: bool,
}

impl Mistake {
    fn of(error: &toml::de::Error, file: &SourceFile, made: &Repairs) -> Mistake {
        let span = error.span().unwrap_or(0..0);
        let line = file.line_number(span.start);
        // In a header that was written anew it may be the middle of a letter that stands in the file.
        let begin = file.text().floor_char_boundary(span.start);
        let slip = syntax::slip(error.message(), file.line_up_to(begin), &file.text()[begin..]);
        let is_duplicate = syntax::is_duplicate(error.message());
        let is_header = file.is_header(line);
        if is_header && !is_duplicate && !matches!(slip.reach, Reach::Unclosed | Reach::File) {
            return Mistake::of_header(file, line, span);
        }
        // A header that was written anew has its names elsewhere.
        let span = if is_header && made.has(line) { file.span_of(line, file.line(line)) } else { span };
        let mistake = Mistake { span, slip, lines: line..=line, is_duplicate, detaches: false };
        match mistake.slip.reach {
            Reach::Unclosed => mistake.widened_to_its_opening(file, line),
            Reach::File => mistake.of_an_unclosed_text(file),
            // The first one may be no header but a key with points.
            _ if is_duplicate && is_header && file.first_of_twice(line).is_some() => {
                Mistake { detaches: detached(file, line).is_some(), ..mistake }
            }
            _ => mistake,
        }
    }

    /// A header that cannot be read; `span` is where it stops being one.
    fn of_header(file: &SourceFile, line: usize, span: Range<usize>) -> Mistake {
        let text = file.line(line);
        let is_opened = text.trim_start().starts_with('[');
        let span = if is_opened { span } else { file.span_of(line, text) };
        let slip = syntax::slip_of_header(text);
        let mistake = Mistake { span, slip, lines: line..=line, is_duplicate: false, detaches: true };
        match detached(file, line) {
            Some(_) => mistake,
            None => Mistake { lines: line..=file.last_line_below(line), detaches: false, ..mistake },
        }
    }

    fn of_an_unclosed_text(self, file: &SourceFile) -> Mistake {
        let Some(lines) = file.unclosed_text() else { return self };
        let first = file.line(*lines.start());
        let quotes = ["\"\"\"", "'''"].iter().filter_map(|quotes| first.rfind(quotes)).max();
        let begun = file.line_start(*lines.start()).zip(quotes).map(|(start, quotes)| start + quotes);
        let span = begun.map_or(self.span, |begun| begun..begun + 3);
        Mistake { span, lines, slip: Slip { reach: Reach::Unclosed, ..self.slip }, ..self }
    }

    fn widened_to_its_opening(self, file: &SourceFile, line: usize) -> Mistake {
        let begin = file.text().floor_char_boundary(self.span.start);
        let is_at_begin = matches!(file.line_up_to(begin).trim(), "" | "[");
        let last = if is_at_begin { line - 1 } else { line };
        match opening_up_to(file, last) {
            Some((first, opening)) => match (first..=last).find_map(|line| open_quote_of(file, line)) {
                // What closes the list is there, and swallowed by a text.
                Some(quote) if first < last => Mistake {
                    span: quote..quote + 1,
                    lines: first..=last,
                    slip: syntax::slip_of_quote(),
                    ..self
                },
                _ => Mistake { span: opening..opening + 1, lines: first..=last, ..self },
            },
            None => {
                let slip = Slip { reach: Reach::File, ..self.slip };
                Mistake { slip, lines: line..=file.last_line(), ..self }
            }
        }
    }

    pub(super) fn line(&self) -> usize {
        *self.lines.start()
    }

    fn repair(&self, file: &SourceFile) -> BTreeMap<usize, String> {
        if self.detaches {
            return detached(file, self.line()).unwrap_or_default();
        }
        match self.slip.reach {
            Reach::Stop | Reach::Unclosed | Reach::Table => {
                self.lines.clone().map(|line| (line, String::new())).collect()
            }
            Reach::Line | Reach::File => BTreeMap::new(),
        }
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
    let lists = file.headers_of_lists();
    if errors.is_empty() && lists.is_empty() {
        return (root, Vec::new());
    }
    let mut repairs = Repairs::blanks(file.lines_with_nul());
    let mut mistakes: Vec<Mistake> = lists
        .into_iter()
        .map(|line| Mistake::of_header(file, line, file.span_of(line, file.line(line))))
        .collect();
    repairs.add(mistakes.iter().flat_map(|mistake| mistake.repair(file)).collect());
    for round in 0..ROUNDS_MAX {
        let text = repairs.applied_to(file.text());
        let (_, errors) = DeTable::parse_recoverable(&text);
        let mut found = first_of_each_line(&errors, file, &repairs);
        let (until, more) = repairs_of(&found, file, &repairs);
        if more.is_empty() {
            mistakes.extend(found);
            break;
        }
        if round + 1 == ROUNDS_MAX {
            found.truncate(until);
            if let Some(last) = found.last_mut() {
                last.lines = last.line()..=file.last_line();
                repairs.add(last.lines.clone().map(|line| (line, String::new())).collect());
            }
            found.iter_mut().for_each(|mistake| mistake.slip.reach = Reach::File);
            mistakes.extend(found);
            break;
        }
        mistakes.extend(found.into_iter().filter(|mistake| more.contains_key(&mistake.line())));
        repairs.add(more);
    }
    mistakes.sort_by_key(Mistake::rank);
    mistakes.dedup_by_key(|mistake| mistake.line());
    let (root, _) = DeTable::parse_recoverable(file.repaired(&repairs));
    (root, mistakes)
}

fn first_of_each_line(errors: &[toml::de::Error], file: &SourceFile, made: &Repairs) -> Vec<Mistake> {
    let mut of_line = BTreeMap::new();
    let is_of_the_first = |error: &&toml::de::Error| {
        let line = file.line_number(error.span().unwrap_or_default().start);
        let count = of_line.entry(line).or_insert(0);
        *count += 1;
        *count <= ERRORS_OF_LINE_MAX
    };
    let first = errors.iter().filter(is_of_the_first);
    let mut found: Vec<Mistake> = first.map(|error| Mistake::of(error, file, made)).collect();
    found.sort_by_key(|mistake| mistake.span.start);
    found
}

/// Behind what is not closed the parser misreads everything: what it says of that is asked for again.
fn repairs_of(found: &[Mistake], file: &SourceFile, made: &Repairs) -> (usize, BTreeMap<usize, String>) {
    let reaches_on =
        |mistake: &Mistake| !mistake.detaches && matches!(mistake.slip.reach, Reach::Unclosed | Reach::Table);
    let until = found.iter().position(reaches_on).map_or(found.len(), |first| first + 1);
    let repairs = found[..until].iter().flat_map(|mistake| mistake.repair(file));
    (until, repairs.filter(|(line, _)| !made.has(*line)).collect())
}

/// The headers that make the table of this header, with the tables in it, one of its own: named after its line, since
/// no key of ours is a number. None where it is not clear what the table should be, or there is no room.
fn detached(file: &SourceFile, header: usize) -> Option<BTreeMap<usize, String>> {
    let path = path_of(file.line(header));
    let is_known = match (path.as_slice(), file.disclosure()) {
        ([first, _] | [first, _, _], disclosure) => alike_to(disclosure.named_table(), first),
        ([_], Disclosure::Guarded) => true,
        _ => false,
    };
    if !is_known {
        return None;
    }
    let own = format!("[{header}]");
    let mut headers = BTreeMap::from([(header, own)]);
    for line in (header + 1..=file.last_line()).filter(|line| file.is_header(*line)) {
        let inner = path_of(file.line(line));
        let Some([last]) = inner.strip_prefix(path.as_slice()) else { break };
        headers.insert(line, format!("[{header}.{last}]"));
    }
    headers.iter().all(|(line, own)| own.len() <= file.line(*line).len()).then_some(headers)
}

/// The nearest line up to `last` that begins with a key whose list or table it does not close, and where that opens.
fn opening_up_to(file: &SourceFile, last: usize) -> Option<(usize, usize)> {
    let first = (1..=last).rev().find(|line| syntax::begins_anew(file.line(*line).trim_start()))?;
    let line = file.line(first);
    let value = line.find('=')? + 1;
    let opening = value + LeftOpen::by(&line[value..]).bracket?;
    Some((first, file.line_start(first)? + opening))
}

fn open_quote_of(file: &SourceFile, line: usize) -> Option<usize> {
    Some(file.line_start(line)? + LeftOpen::by(file.line(line)).quote?)
}

/// What a piece of a line leaves open.
struct LeftOpen {
    /// Where its first list or table begins that it does not close.
    bracket: Option<usize>,
    /// Where its text begins; what follows is hidden by it.
    quote: Option<usize>,
}

impl LeftOpen {
    fn by(text: &str) -> LeftOpen {
        let (mut brackets, mut quote) = (Vec::new(), None);
        for (at, c) in text.char_indices() {
            match (quote, c) {
                (Some((_, begun)), _) if begun == c => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some((at, c)),
                (None, '[' | '{') => brackets.push(at),
                (None, ']' | '}') => drop(brackets.pop()),
                (None, '#') => break,
                (None, _) => {}
            }
        }
        LeftOpen { bracket: brackets.first().copied(), quote: quote.map(|(at, _)| at) }
    }
}
