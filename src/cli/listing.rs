//! A list that fits the terminal without breaking a word: columns that matter less are left out, sentences are cut.
//! Piped, it is as wide as it needs to be.

use super::Outcome;
use super::output::{print, table, width};

/// What becomes of a column where there is no room for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Kept,
    /// Left out, the highest number first.
    LeftOut(u8),
    /// Sentences: cut to what is left, and left out last where that is too little.
    Cut,
}

pub(super) struct Listing {
    columns: Vec<(&'static str, Room)>,
    rows: Vec<Vec<String>>,
}

/// A sentence cut shorter tells nothing.
const SHORTEST_CUT: usize = 16;
/// The blanks around a cell.
const PADDING: usize = 2;

impl Listing {
    pub(super) fn new(columns: &[(&'static str, Room)]) -> Listing {
        Listing { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// A cell for each column.
    pub(super) fn add(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    pub(super) fn print(&self) -> Outcome {
        print(&self.text(width()))
    }

    /// For a terminal of that width; None: as wide as it needs to be.
    pub(super) fn text(&self, width: Option<usize>) -> String {
        let shown = fit(&self.columns, &self.widths(), width.unwrap_or(usize::MAX));
        let mut fitted = table(&shown.iter().map(|(column, _)| self.columns[*column].0).collect::<Vec<_>>());
        fitted.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
        for row in &self.rows {
            fitted.add_row(shown.iter().map(|(column, width)| cut(&row[*column], *width)));
        }
        fitted.trim_fmt()
    }

    fn widths(&self) -> Vec<usize> {
        let heads = self.columns.iter().map(|(head, _)| head.chars().count());
        let mut widths: Vec<usize> = heads.collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

/// The columns to show, each with its width.
fn fit(columns: &[(&str, Room)], widths: &[usize], limit: usize) -> Vec<(usize, usize)> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let least = |column: usize| match columns[column].1 {
        Room::Cut => widths[column].min(SHORTEST_CUT),
        Room::Kept | Room::LeftOut(_) => widths[column],
    };
    let needed = |shown: &[usize]| shown.iter().map(|column| least(*column) + PADDING).sum::<usize>();
    while needed(&shown) > limit {
        let rank = |column: &usize| match columns[*column].1 {
            Room::Kept => None,
            Room::Cut => Some(0),
            Room::LeftOut(rank) => Some(1 + u32::from(rank)),
        };
        let Some(last) = shown.iter().copied().filter(|column| rank(column).is_some()).max_by_key(rank)
        else {
            break;
        };
        shown.retain(|column| *column != last);
    }
    let mut spare = limit.saturating_sub(needed(&shown));
    let mut width = |column: usize| {
        let more = (widths[column] - least(column)).min(spare);
        spare -= more;
        least(column) + more
    };
    shown.into_iter().map(|column| (column, width(column))).collect()
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Listing {
        let columns =
            [("RUN", Room::Kept), ("INSTANCE", Room::Kept), ("DUE", Room::LeftOut(1)), ("REASON", Room::Cut)];
        let mut list = Listing::new(&columns);
        let row = [
            "7",
            "ins-0123456789abcdef",
            "2026-11-20 04:00:00Z",
            "the balance is too low: top up the account",
        ];
        list.add(row.map(str::to_owned));
        list
    }

    fn widest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
    }

    #[test]
    fn with_room_enough_or_piped_all_is_shown_whole() {
        for width in [None, Some(200)] {
            let text = list().text(width);
            assert!(
                text.contains("2026-11-20 04:00:00Z  the balance is too low: top up the account"),
                "{text}"
            );
            assert_eq!(text.lines().count(), 2);
        }
    }

    #[test]
    fn a_narrow_terminal_cuts_the_sentence_and_then_leaves_columns_out_and_breaks_no_word() {
        let at = |width| {
            let text = list().text(Some(width));
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.contains("ins-0123456789abcdef"), "{text}");
            assert!(widest(&text) <= width, "{width}: {text}");
            text
        };
        let cut = at(80);
        assert!(cut.contains("2026-11-20 04:00:00Z  the balance is") && cut.ends_with('…'), "{cut}");
        let without_due = at(60);
        assert!(!without_due.contains("DUE") && without_due.contains("the balance"), "{without_due}");
        let ids = at(30);
        assert!(!ids.contains("REASON"), "{ids}");
        assert!(list().text(Some(3)).contains("ins-0123456789abcdef"), "what is kept is kept whole");
    }
}
