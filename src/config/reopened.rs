//! Files that were read and let go, opened again for a place in them: one at a time.

use std::path::Path;
use std::sync::Arc;

use crate::config::disclosure::Disclosure;
use crate::config::source::SourceFile;

#[derive(Default)]
pub(crate) struct Reopened {
    latest: Option<(Arc<Path>, Option<SourceFile>)>,
}

impl Reopened {
    /// None where it cannot be read any more.
    pub(crate) fn file(&mut self, path: &Arc<Path>) -> Option<&SourceFile> {
        if self.latest.as_ref().is_none_or(|(open, _)| open != path) {
            self.latest = Some((Arc::clone(path), SourceFile::read(path, Disclosure::Open).ok()));
        }
        self.latest.as_ref().and_then(|(_, file)| file.as_ref())
    }
}
