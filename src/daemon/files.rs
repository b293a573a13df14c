//! Reading the policy files: only those that are other than when they were accepted are parsed.
//!
//! Invariant: the short way only ever accepts. Where the files that were parsed have any mistake, or do not go with
//! the policies of the others, all are read, and what is refused is told from the files.

use std::sync::Arc;

use super::start;
use crate::config::{Diagnostic, KnownFiles, Loaded, PolicySet, Refusal};
use crate::schedule::Schedule;
use crate::store::{FileEntry, NewSet, Store, StoreError};

/// Any schedule to try a zone with.
const ANY_EXPRESSION: &str = "@daily";

/// A set that was read, as the store takes it, and what was read with it.
pub(super) struct Read<T> {
    pub(super) with: T,
    pub(super) set: Arc<NewSet>,
    pub(super) files: Files,
    pub(super) warnings: Vec<Diagnostic>,
}

/// How many files a set was read from.
#[derive(Clone, Copy)]
pub(super) struct Files {
    pub(super) parsed: usize,
    pub(super) unchanged: usize,
}

/// Calls `load` with the files that it may pass over.
pub(super) async fn read<T: Send + 'static>(
    store: &Store,
    load: impl Fn(&KnownFiles) -> Result<Loaded<(T, PolicySet)>, Refusal> + Clone + Send + 'static,
) -> Result<Result<Read<T>, Refusal>, StoreError> {
    let known = KnownFiles(store.policy_files().await?);
    if !known.is_empty() {
        let load = load.clone();
        if let Ok(loaded) = blocking(move || load(&known)).await {
            let read = Read::of(loaded);
            if read.goes_with_the_unchanged(store).await? {
                return Ok(Ok(read));
            }
        }
    }
    Ok(blocking(move || load(&KnownFiles::default())).await.map(Read::of))
}

impl<T> Read<T> {
    pub(super) fn of(loaded: Loaded<(T, PolicySet)>) -> Read<T> {
        let Loaded { value: (with, mut set), warnings } = loaded;
        let files = Files { parsed: set.parsed_count, unchanged: set.unchanged.len() };
        let parsed = std::mem::take(&mut set.parsed).into_iter().map(|file| FileEntry {
            path: file.path,
            digest: file.digest,
            policies: file.policies.iter().map(ToString::to_string).collect(),
        });
        let new = NewSet {
            digest: set.digest.clone(),
            parsed: parsed.collect(),
            unchanged: std::mem::take(&mut set.unchanged),
            policies: start::entries(set),
        };
        Read { with, set: Arc::new(new), files, warnings }
    }

    /// Whether all that is judged over the files as a whole holds. A zone may have left the system since.
    async fn goes_with_the_unchanged(&self, store: &Store) -> Result<bool, StoreError> {
        if self.set.unchanged.is_empty() {
            return Ok(true);
        }
        let kept = store.kept_beside(&self.set.unchanged, &self.set.policies).await?;
        let knows = |zone: &String| Schedule::parse(ANY_EXPRESSION, zone).is_ok();
        let is_empty = kept.policies + self.set.policies.len() == 0;
        Ok(!kept.clashes && !is_empty && kept.zones.iter().all(knows))
    }
}

/// Files are read and parsed beside the work: a large set takes seconds.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
