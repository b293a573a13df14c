//! SQLite: the plan, the queue, the money and what was seen. All SQL of renewd lives in this room.
//!
//! Writes go through one [`writer`]: callers hand it typed changes and wait for the commit; it commits all
//! that wait in one transaction, one statement a kind. Reads have connections of their own (WAL).
//!
//! Invariant: no transaction is open while a cloud is called; none is ever handed out of this room.

mod backup;
mod cancelled;
mod daemon;
mod figures;
mod firings;
mod lists;
mod make;
mod money;
mod observations;
mod open;
mod people;
mod policies;
mod policy_files;
mod promote;
mod readers;
mod reads;
mod risk;
mod runs;
mod settings;
mod standing;
mod trouble;
mod writer;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::metrics::histogram::Histogram;
use thiserror::Error;

pub use backup::{BackupError, COPY};
pub use daemon::{Rescued, SetInForce};
pub use figures::{Expiry, Figures, Glance, OrderEntries, RunEnds};
pub use firings::{DueSchedule, Fired, Firing, FiringRow, TooOld};
pub use lists::{Filter, InstanceKey, Listed, Pages};
pub use money::{
    AfterConfirmed, Attempt, Budget, Intent, Look, NextForRun, ORDERS_PER_DAY_LEAST, OpenOrder, OrderMove,
    OrderStep, Unnumbered, Withheld,
};
pub use observations::{Sighting, Unseen};
pub use open::{DaemonLock, OpenError};
pub use people::{
    Act, Pause, PauseScope, ResolveRefused, RetryRefused, TRIGGER_LAPSES_AFTER, Trigger, TriggerRefused,
    Triggered, Word,
};
pub use policies::{Applied, ChangeKind, NewSet, PolicyChange, PolicyEntry};
pub use policy_files::{FileEntry, Kept};
pub use reads::{InstanceRow, NextFiring, OrderRecord, PolicyRow, RunRecord, StatusRow, Story};
pub use risk::{Cause, Risk};
pub use runs::{Claim, Elder, Finish, Job};
pub use settings::SettingsInForce;
pub use standing::{OpenRow, Past, Spent, Standing, Subject, UnfinishedRun};
pub use trouble::Trouble;

use readers::Readers;
use trouble::Explained;
use writer::Writer;

/// The database of one daemon.
#[derive(Clone)]
pub struct Store {
    writer: Writer,
    readers: Readers,
    /// Whether what is read is taken for immutable: no daemon wrote to it when it was opened.
    is_at_rest: bool,
    path: PathBuf,
    /// Which file it was when it was opened; None of one in memory.
    identity: Option<FileIdentity>,
}

/// Device and inode.
type FileIdentity = (u64, u64);

#[derive(Debug, Error)]
pub enum StoreError {
    /// Shared by all callers whose changes were in the transaction that failed.
    #[error("the database did not take a change: {}", Explained(.0))]
    Write(#[source] Arc<sqlx::Error>),
    #[error("the database could not be read: {}", Explained(.0))]
    Read(#[from] sqlx::Error),
    #[error("the database holds what this version cannot read: {0}")]
    Decode(String),
    #[error("the database is damaged: nothing is ordered any more{}", Trouble::Damaged.advice())]
    Damaged,
    #[error(
        "the database file {} is not the one that this service has open: it was removed or replaced. Nothing is ordered \
         any more: stop the service, put the file or a backup in place, and start it again", .0.display()
    )]
    Displaced(PathBuf),
    #[error("the database writer has stopped")]
    Stopped,
}

impl StoreError {
    pub fn trouble(&self) -> Trouble {
        match self {
            StoreError::Write(error) => Trouble::of(error),
            StoreError::Read(error) => Trouble::of(error),
            StoreError::Damaged => Trouble::Damaged,
            StoreError::Decode(_) | StoreError::Displaced(_) | StoreError::Stopped => Trouble::Other,
        }
    }
}

impl Store {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is written into a file that was removed is nobody's record once this process ends: no money is spent on it.
    ///
    /// # Errors
    /// The file at the path is another one by now, or none.
    fn check_place(&self) -> Result<(), StoreError> {
        match self.identity {
            Some(_) if identity_of(&self.path) != self.identity => {
                Err(StoreError::Displaced(self.path.clone()))
            }
            _ => Ok(()),
        }
    }

    /// How long the writer's transactions took in this process.
    pub fn commit_seconds(&self) -> &Histogram {
        self.writer.commit_seconds()
    }

    /// From now on no order is recorded, and so none is sent.
    pub fn note_damage(&self) {
        self.writer.note_damage();
    }

    /// Waits for what was handed in, then closes. Later calls answer [`StoreError::Stopped`].
    ///
    /// The writer goes last: only a connection that may write brings the log home into the database, and whoever
    /// copies the file of a stopped service would else copy next to nothing.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.stop().await;
    }
}

fn identity_of(path: &Path) -> Option<FileIdentity> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn ms(at: Timestamp) -> i64 {
    at.as_millisecond()
}

fn at(ms: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(ms).map_err(|error| StoreError::Decode(format!("time {ms} ms: {error}")))
}

fn at_opt(ms: Option<i64>) -> Result<Option<Timestamp>, StoreError> {
    ms.map(at).transpose()
}

fn json(rows: &impl serde::Serialize) -> sqlx::Result<String> {
    serde_json::to_string(rows).map_err(|error| sqlx::Error::Encode(error.into()))
}
