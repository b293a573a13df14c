//! A consistent copy of the database, made while the daemon runs.
//!
//! Invariant: a file of the wanted name appears only whole, verified, and with the mark that holds all orders of a
//! daemon started on it: what the original has ordered since, the copy does not know.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tempfile::NamedTempFile;
use thiserror::Error;

use super::open::{self, schema_of};
use super::{OpenError, Store, ms};

/// The kind of pause that a copy is born with, and who is said to have set it.
pub const COPY: &str = "copy";
const SET_BY: &str = "backup";

#[derive(Debug, Error)]
pub enum BackupError {
    #[error("{} exists already: nothing was written; name a file that does not", .0.display())]
    Exists(PathBuf),
    #[error("no copy was made, {} cannot be written: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("no copy was made of {}: {error}", path.display())]
    Copy { path: PathBuf, error: sqlx::Error },
    #[error("the copy of {} was not kept, it is damaged: {found}", path.display())]
    Damaged { path: PathBuf, found: String },
    #[error("the copy was not kept, it does not open: {0}")]
    Open(#[from] OpenError),
}

impl Store {
    /// Writes the copy and answers its size in bytes. Nobody but its owner may read it.
    ///
    /// # Errors
    /// The file exists, cannot be written, or the copy did not pass its tests; nothing is left behind then.
    pub async fn backup(&self, file: &Path, person: &str, now: Timestamp) -> Result<u64, BackupError> {
        if file.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(file.to_owned()));
        }
        let failed = |error| BackupError::File { path: file.to_owned(), error };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Beside it, so that the last step is a rename; removed when dropped; mode 0600 from its first moment on.
        let copy = NamedTempFile::with_prefix_in(".renewd-backup-", folder).map_err(failed)?;
        self.copy_into(copy.path()).await.map_err(|error| self.not_copied(error))?;
        self.mark(copy.path(), person, now).await.map_err(|error| self.not_copied(error))?;
        self.verify(copy.path()).await?;
        copy.as_file().sync_all().map_err(failed)?;
        let bytes = copy.as_file().metadata().map_err(failed)?.len();
        copy.persist_noclobber(file).map_err(|refused| match refused.error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(file.to_owned()),
            _ => failed(refused.error),
        })?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(bytes)
    }

    fn not_copied(&self, error: sqlx::Error) -> BackupError {
        BackupError::Copy { path: self.path.clone(), error }
    }

    /// One read transaction of SQLite's own, however long it takes; the daemon goes on writing.
    async fn copy_into(&self, copy: &Path) -> sqlx::Result<()> {
        let Some(copy) = copy.to_str() else {
            return Err(sqlx::Error::Configuration("the file's name is not UTF-8".into()));
        };
        sqlx::query("VACUUM INTO ?1").bind(copy).execute(&mut *self.readers.get().await?).await?;
        Ok(())
    }

    async fn mark(&self, copy: &Path, person: &str, now: Timestamp) -> sqlx::Result<()> {
        let original = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let note = format!(
            "this is a copy that {person} made at {now} of {}, and knows nothing of what was ordered since",
            original.display()
        );
        let mut conn = connect(copy).await?;
        sqlx::query(
            "INSERT INTO pauses (scope, name, kind, since_ms, until_ms, note, set_by)
             VALUES ('all', NULL, ?1, ?2, NULL, ?3, ?4)",
        )
        .bind(COPY)
        .bind(ms(now))
        .bind(note)
        .bind(SET_BY)
        .execute(&mut conn)
        .await?;
        conn.close().await
    }

    /// Opens the copy as a daemon would find it.
    async fn verify(&self, copy: &Path) -> Result<(), BackupError> {
        let schema = schema_of(copy).await?;
        let damaged = |found: String| BackupError::Damaged { path: self.path.clone(), found };
        if schema.found != schema.known {
            return Err(damaged(format!("its schema is {}, not {}", schema.found, schema.known)));
        }
        match faults_of(copy).await.map_err(|error| self.not_copied(error))? {
            None => Ok(()),
            Some(found) => Err(damaged(found)),
        }
    }
}

async fn connect(copy: &Path) -> sqlx::Result<SqliteConnection> {
    // No write-ahead log beside a file that is about to get another name.
    open::options(copy).journal_mode(SqliteJournalMode::Delete).connect().await
}

/// What SQLite finds wrong with the file, and whether the mark is there; None when all is well.
async fn faults_of(copy: &Path) -> sqlx::Result<Option<String>> {
    let look: SqliteConnectOptions = open::options(copy).read_only(true);
    let mut conn = look.connect().await?;
    let integrity: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut conn).await?;
    let strays: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pragma_foreign_key_check").fetch_one(&mut conn).await?;
    let marks: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pauses WHERE kind = ?1 AND lifted_at_ms IS NULL")
            .bind(COPY)
            .fetch_one(&mut conn)
            .await?;
    conn.close().await?;
    Ok(if integrity != "ok" {
        Some(integrity)
    } else if strays > 0 {
        Some(format!("{strays} rows belong to nothing"))
    } else if marks == 0 {
        Some("it does not hold orders".to_owned())
    } else {
        None
    })
}
