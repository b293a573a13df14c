//! One line of a file as it may be shown, and the places in it: each is found and cut out without going over the
//! whole line again, which may hold thousands of mistakes.

use std::ops::Range;

use crate::config::diagnostic::Spot;

/// In characters; a longer line is shown cut around the place.
const WIDEST: usize = 160;
/// How much of a long line is shown before the place.
const BEFORE: usize = 40;
const CUT: char = '…';

pub(crate) struct ShownLine {
    /// The byte at which each character of the line in the file begins.
    starts: Vec<usize>,
    /// As many characters as the line has; what may be a secret is masked.
    shown: Vec<char>,
}

impl ShownLine {
    /// `shown` is `line` with some characters masked.
    pub(crate) fn new(line: &str, shown: &str) -> ShownLine {
        let starts = line.char_indices().map(|(at, _)| at).collect();
        ShownLine { starts, shown: shown.chars().collect() }
    }

    /// `span` counts the bytes of the line in the file; what reaches beyond the line is not marked.
    pub(crate) fn spot(&self, line: usize, span: Range<usize>) -> Spot {
        let column = |at: usize| self.starts.partition_point(|start| *start < at);
        let (first, last) = (column(span.start), column(span.end.max(span.start)));
        let window = self.window(first);
        let mut text = String::new();
        if window.start > 0 {
            text.push(CUT);
        }
        let before = text.len();
        text.extend(&self.shown[window.clone()]);
        let offset = |column: usize| {
            let shown = &self.shown[window.start..column.clamp(window.start, window.end)];
            before + shown.iter().map(|c| c.len_utf8()).sum::<usize>()
        };
        let mark = offset(first)..offset(last);
        if window.end < self.shown.len() {
            text.push(CUT);
        }
        Spot { line, column: first + 1, text: text.into(), mark }
    }

    /// The characters that are shown around the place that begins at `first`.
    fn window(&self, first: usize) -> Range<usize> {
        let length = self.shown.len();
        if length <= WIDEST {
            return 0..length;
        }
        let start = first.saturating_sub(BEFORE).min(length - WIDEST);
        start..start + WIDEST
    }

    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        self.shown.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_line_is_shown_whole_and_its_bytes_are_counted_as_characters() {
        let spot = ShownLine::new("é = \"x\" y", "é = *** y").spot(3, 5..8);
        assert_eq!((spot.line, spot.column), (3, 5));
        assert_eq!((&*spot.text, &spot.text[spot.mark.clone()]), ("é = *** y", "***"));
    }

    #[test]
    fn a_long_line_is_cut_around_the_place_and_the_column_stays_that_of_the_file() {
        let line = format!("{}BAD{}", "é".repeat(500), "z".repeat(500));
        let spot = ShownLine::new(&line, &line).spot(1, 1000..1003);
        assert_eq!(spot.column, 501);
        assert_eq!(&spot.text[spot.mark.clone()], "BAD");
        assert!(spot.text.starts_with("…é") && spot.text.ends_with("z…"));
        assert_eq!(spot.text.chars().count(), WIDEST + 2);

        let end = ShownLine::new(&line, &line).spot(1, 1503..1503);
        assert_eq!((end.column, end.mark), (1004, end.text.len()..end.text.len()));
        assert!(end.text.ends_with('z'));
        let whole = ShownLine::new(&line, &line).spot(1, 0..1503);
        assert_eq!(whole.mark, 0..WIDEST * 2, "what is marked is cut too");
    }
}
