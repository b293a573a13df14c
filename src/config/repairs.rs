//! What is read in the place of lines that cannot be read as they stand, so that all others can: every place stays
//! what it is.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// By line, from 1: its text, which is no longer than what stands there.
#[derive(Default)]
pub(crate) struct Repairs(BTreeMap<usize, String>);

impl Repairs {
    /// Lines that are read as if they were blank.
    pub(crate) fn blanks(lines: impl IntoIterator<Item = usize>) -> Repairs {
        Repairs(lines.into_iter().map(|line| (line, String::new())).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn has(&self, line: usize) -> bool {
        self.0.contains_key(&line)
    }

    pub(crate) fn add(&mut self, more: BTreeMap<usize, String>) {
        self.0.extend(more);
    }

    pub(crate) fn applied_to<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.is_empty() {
            return text.into();
        }
        let repaired = |(at, line): (usize, &str)| match self.0.get(&(at + 1)) {
            Some(repair) => repair.clone() + &" ".repeat(line.len().saturating_sub(repair.len())),
            None => line.to_owned(),
        };
        text.split('\n').enumerate().map(repaired).collect::<Vec<_>>().join("\n").into()
    }
}
