//! A list that fits the terminal without breaking a word: columns that matter less are left out, sentences are cut.
//! Piped, it is as wide as it needs to be. It comes page by page: the first one settles the columns.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

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
    /// Of the page at hand.
    rows: Vec<Vec<String>>,
    /// The columns that fit, with their widths; none before the first page.
    shown: Vec<(usize, usize)>,
}

/// A sentence cut shorter tells nothing.
const SHORTEST_CUT: usize = 16;
/// The blanks between two cells.
const PADDING: usize = 2;

impl Listing {
    pub(super) fn new(columns: &[(&'static str, Room)]) -> Listing {
        Listing { columns: columns.to_vec(), rows: Vec::new(), shown: Vec::new() }
    }

    /// A cell for each column.
    pub(super) fn add(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// The lines of what was added since the last page, the heads before the first; no line break behind the last.
    /// For a terminal of that width; None: as wide as it needs to be.
    pub(super) fn text(&mut self, width: Option<usize>) -> String {
        let rows = std::mem::take(&mut self.rows);
        let mut text = String::new();
        if self.shown.is_empty() {
            let heads: Vec<String> = self.columns.iter().map(|(head, _)| (*head).to_owned()).collect();
            let widths = widths(rows.iter().chain([&heads]), self.columns.len());
            self.shown = fit(&self.columns, &widths, width.unwrap_or(usize::MAX));
            self.line(&heads, &mut text);
        } else {
            self.widen(&widths(&rows, self.columns.len()), width.is_some());
        }
        for row in &rows {
            self.line(row, &mut text);
        }
        text.pop();
        text
    }

    /// The heads of the columns that the first page had no room for.
    pub(super) fn left_out(&self) -> Vec<&'static str> {
        let is_shown = |column: usize| self.shown.iter().any(|(shown, _)| *shown == column);
        let columns = self.columns.iter().enumerate();
        columns.filter(|(column, _)| !is_shown(*column)).map(|(_, (head, _))| *head).collect()
    }

    /// What is kept whole may be longer on a later page.
    fn widen(&mut self, needed: &[usize], is_fitted: bool) {
        for (column, width) in &mut self.shown {
            if !is_fitted || self.columns[*column].1 != Room::Cut {
                *width = (*width).max(needed[*column]);
            }
        }
    }

    fn line(&self, row: &[String], text: &mut String) {
        let mut blanks = 0;
        for (column, width) in &self.shown {
            text.extend(std::iter::repeat_n(' ', blanks));
            let cell = cut(&row[*column], *width);
            blanks = width.saturating_sub(cell.width()) + PADDING;
            text.push_str(&cell);
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
}

fn widths<'r>(rows: impl IntoIterator<Item = &'r Vec<String>>, columns: usize) -> Vec<usize> {
    let mut widths = vec![0; columns];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    widths
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
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let wide = c.width().unwrap_or(0);
        let fits = wide <= left;
        left = left.saturating_sub(wide);
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[(&str, Room)] =
        &[("RUN", Room::Kept), ("INSTANCE", Room::Kept), ("DUE", Room::LeftOut(1)), ("REASON", Room::Cut)];

    fn row(run: &str, reason: &str) -> Vec<String> {
        [run, "ins-0123456789abcdef", "2026-11-20 04:00:00Z", reason].map(str::to_owned).to_vec()
    }

    fn page(list: &mut Listing, rows: &[Vec<String>], width: Option<usize>) -> String {
        rows.iter().for_each(|row| list.add(row.clone()));
        list.text(width)
    }

    #[test]
    fn what_has_no_room_is_known_by_its_head() {
        let left_out = |width| {
            let mut list = Listing::new(COLUMNS);
            page(&mut list, &[row("7", "the balance is too low: top up the account")], width);
            list.left_out()
        };
        assert_eq!(left_out(None), [""; 0]);
        assert_eq!(left_out(Some(60)), ["DUE"]);
        assert_eq!(left_out(Some(30)), ["DUE", "REASON"]);
    }

    fn render(width: Option<usize>) -> String {
        page(&mut Listing::new(COLUMNS), &[row("7", "the balance is too low: top up the account")], width)
    }

    fn widest(text: &str) -> usize {
        text.lines().map(UnicodeWidthStr::width).max().unwrap_or(0)
    }

    #[test]
    fn with_room_enough_or_piped_all_is_shown_whole() {
        for width in [None, Some(200)] {
            let text = render(width);
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
            let text = render(Some(width));
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
        assert!(render(Some(3)).contains("ins-0123456789abcdef"), "what is kept is kept whole");
    }

    #[test]
    fn later_pages_keep_the_columns_of_the_first_and_give_room_to_longer_cells() {
        let long = row("8", "the balance is too low: top up the account");
        let mut list = Listing::new(COLUMNS);
        page(&mut list, &[row("7", "not due")], Some(60));
        let later = page(&mut list, &[row("1000", "not due"), long.clone()], Some(60));
        assert!(!later.contains("RUN") && later.contains("1000  ins-0123456789abcdef  "), "{later}");
        assert!(later.contains("\n8     ins-0123456789abcdef  "), "{later}");

        let mut piped = Listing::new(COLUMNS);
        page(&mut piped, &[row("7", "not due")], None);
        let later = page(&mut piped, &[long], None);
        assert!(later.ends_with("top up the account"), "{later}");
    }

    #[test]
    fn wide_letters_count_for_what_they_take() {
        let text = page(
            &mut Listing::new(COLUMNS),
            &[row("7", "余额不足，请充值后重试：账户余额不足以支付")],
            Some(64),
        );
        assert!(widest(&text) <= 64 && text.contains("余额不足"), "{text}");
    }
}
