//! A defect that a file meets in the reader costs that edit: the service that runs goes on with what it has.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::config::diagnostic::{Diagnostic, Place, Severity};

/// # Errors
/// The reader panicked. What it noted until then stays noted, and whatever it would have given is given up.
pub(super) fn contained<T>(path: &Path, read: impl FnOnce() -> T) -> Result<T, Box<Diagnostic>> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| {
        let help =
            "undo the last edit of this file, and report it to the makers of renewd with a copy of the file";
        Box::new(Diagnostic {
            severity: Severity::Error,
            message: format!("renewd broke while it read {}: that is a defect of renewd", path.display()),
            place: Place { file: path.into(), spot: None },
            related: None,
            help: Some(help.to_owned()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_breaks_is_a_mistake_of_its_file() {
        let found = contained(Path::new("a.toml"), || panic!("out of range")).map(|(): ()| ()).unwrap_err();
        assert!(found.message.contains("a.toml") && found.severity == Severity::Error, "{found}");
        assert_eq!(contained(Path::new("a.toml"), || 7).unwrap(), 7);
    }
}
