//! Lines whose syntax is broken, and how far what stands around them can be trusted.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

#[derive(Default)]
pub(crate) struct Doubts {
    lines: RefCell<BTreeSet<usize>>,
    /// The headers of tables that are read apart from all others.
    detached: RefCell<BTreeSet<usize>>,
    /// Any key may stand in another table than it seems to.
    is_any_table: Cell<bool>,
}

impl Doubts {
    pub(crate) fn mark(&self, lines: RangeInclusive<usize>) {
        self.lines.borrow_mut().extend(lines);
    }

    pub(crate) fn mark_detached(&self, header: usize) {
        self.detached.borrow_mut().insert(header);
    }

    pub(crate) fn mark_all(&self) {
        self.is_any_table.set(true);
    }

    pub(crate) fn is_misread(&self, line: usize) -> bool {
        self.lines.borrow().contains(&line)
    }

    pub(crate) fn is_detached(&self, header: usize) -> bool {
        self.detached.borrow().contains(&header)
    }

    pub(crate) fn is_any_table(&self) -> bool {
        self.is_any_table.get()
    }

    pub(crate) fn lines(&self) -> BTreeSet<usize> {
        self.lines.borrow().clone()
    }

    pub(crate) fn detached(&self) -> BTreeSet<usize> {
        self.detached.borrow().clone()
    }
}
