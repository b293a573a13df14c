//! Lines whose syntax is broken, and how far what stands around them can be trusted.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

#[derive(Default)]
pub(crate) struct Doubts {
    lines: RefCell<BTreeSet<usize>>,
    /// From this line on all is misread.
    from: Cell<Option<usize>>,
    /// Any key may stand in another table than it seems to.
    is_any_table: Cell<bool>,
}

impl Doubts {
    pub(crate) fn mark(&self, line: usize) {
        self.lines.borrow_mut().insert(line);
    }

    /// A line and all behind it.
    pub(crate) fn mark_from(&self, line: usize) {
        let first = self.from.get().map_or(line, |from| from.min(line));
        self.from.set(Some(first));
        self.is_any_table.set(true);
    }

    /// A line, and where anything of the file belongs.
    pub(crate) fn mark_all_of(&self, line: usize) {
        self.mark(line);
        self.is_any_table.set(true);
    }

    pub(crate) fn is_misread(&self, line: usize) -> bool {
        self.from.get().is_some_and(|from| line >= from) || self.lines.borrow().contains(&line)
    }

    pub(crate) fn is_any_table(&self) -> bool {
        self.is_any_table.get()
    }

    pub(crate) fn any_line(&self, is_so: impl FnMut(usize) -> bool) -> bool {
        self.lines.borrow().iter().copied().any(is_so)
    }
}
