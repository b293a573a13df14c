//! Opening the database: what is checked before anything is written, and the one daemon's lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Access;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use thiserror::Error;

use super::readers::Readers;
use super::trouble::{Explained, Trouble};
use super::writer::Writer;
use super::{Store, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Older SQLite can corrupt a WAL when two connections write and checkpoint at once (3.7.0 to 3.51.2).
const SQLITE_OLDEST: (u32, u32, u32) = (3, 51, 3);
/// What the first migration writes into the file's head: `rnwd`.
const APPLICATION_ID: i64 = 0x726e_7764;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A status command holds the lock for an instant; a daemon that meets it tries again.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// A start checks up to so many orders, in about a second; damage among more of them shows itself when it is met.
const ORDERS_CHECKED_MAX: i64 = 200_000;

#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the folder {folder} of the database does not exist: create it, or correct `database` in {config}", folder = .0.display(), config = "renewd.toml")]
    NoFolder(PathBuf),
    #[error(
        "there is no database at {} yet: start the service, which makes it (`systemctl start renewd`, or `renewd run` \
         in the foreground)", .0.display()
    )]
    Missing(PathBuf),
    #[error("the database {} cannot be written: {reason}; renewd needs to write the file and its folder", path.display())]
    ReadOnly { path: PathBuf, reason: String },
    #[error("the database {} cannot be read: {reason}; let this user read the file and its folder", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error(
        "{} is a database of another program: nothing was changed; correct `database` in renewd.toml",
        .0.display()
    )]
    Foreign(PathBuf),
    #[error(
        "the database {} was written by a newer renewd (its schema is {found}, this version knows {known}): \
         install that version again, nothing was changed", path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("the database {} is of an older renewd: start the service once, it brings it up to date", .0.display())]
    Older(PathBuf),
    #[error(
        "the database {} is empty, not even a schema is in it: where it held records before, put a backup in its place \
         before the service starts; otherwise start the service, which fills it", .0.display()
    )]
    Empty(PathBuf),
    #[error("another renewd (pid {pid}) already runs on the database {}: nothing was touched", path.display())]
    SecondDaemon { path: PathBuf, pid: String },
    #[error("the lock file {} cannot be used: {error}", path.display())]
    Lock { path: PathBuf, error: io::Error },
    #[error("{} is not a database renewd can use: {}", path.display(), Explained(error))]
    Unusable { path: PathBuf, error: sqlx::Error },
    #[error(
        "the database {} is damaged, nothing was ordered: {found}{}", path.display(), Trouble::Damaged.advice()
    )]
    Damaged { path: PathBuf, found: String },
    #[error(
        "SQLite {0} is built in; renewd needs 3.51.3 or newer, which no longer damages a database in WAL mode"
    )]
    OldSqlite(String),
    #[error("the database {} could not be brought up to date: {error}", path.display())]
    Migration { path: PathBuf, error: MigrateError },
}

/// Held by the one daemon of a database, for its life. The kernel lets go of it when the process ends.
#[derive(Debug)]
pub struct DaemonLock {
    _file: File,
}

impl DaemonLock {
    /// Invariant: the lock is a file of its own. Closing any descriptor of the database file itself would
    /// drop SQLite's own locks of this process.
    pub fn acquire(database: &Path) -> Result<DaemonLock, OpenError> {
        check_folder(database)?;
        let path = lock_path(database);
        let failed = |error| OpenError::Lock { path: path.clone(), error };
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                        OpenError::ReadOnly { path: database.to_owned(), reason: error.to_string() }
                    }
                    _ => failed(error),
                }
            })?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => {
                    write_pid(&file).map_err(failed)?;
                    return Ok(DaemonLock { _file: file });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let pid = std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
        Err(OpenError::SecondDaemon { path: database.to_owned(), pid })
    }

    /// Whether a daemon holds the lock now.
    pub fn is_held(database: &Path) -> bool {
        let Ok(file) = File::open(lock_path(database)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

fn write_pid(mut file: &File) -> io::Result<()> {
    use io::Write;
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

/// Beside the file itself, by whatever links it is reached: two names of one database are one lock.
pub(super) fn lock_path(database: &Path) -> PathBuf {
    with_suffix(&std::fs::canonicalize(database).unwrap_or_else(|_| still_to_come(database)), ".lock")
}

/// Where a database that does not exist yet will be: a link may lead there before it does.
pub(super) fn still_to_come(database: &Path) -> PathBuf {
    let folder = folder_of(database);
    let target = std::fs::read_link(database).map_or_else(|_| database.to_owned(), |link| folder.join(link));
    let folder = target.parent().map(std::fs::canonicalize);
    match (folder, target.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => target,
    }
}

fn with_suffix(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn check_folder(database: &Path) -> Result<(), OpenError> {
    let folder = folder_of(database);
    if folder.is_dir() { Ok(()) } else { Err(OpenError::NoFolder(folder.to_owned())) }
}

impl Store {
    /// The daemon's way in: makes the file if it is missing, refuses a newer schema before anything is
    /// written, brings an older one up to date.
    pub async fn open_for_daemon(path: &Path, _lock: &DaemonLock) -> Result<Store, OpenError> {
        check_folder(path)?;
        let mut is_new = true;
        if path.exists() {
            check_writable(path)?;
            let schema = schema_of(path).await?;
            schema.not_newer(path)?;
            is_new = schema.found == 0;
        }
        let mut conn = connect(path, true).await?;
        check_sqlite(&mut conn, path).await?;
        if !is_new {
            check_money(&mut conn, path).await?;
        }
        MIGRATIONS.run(&mut conn).await.map_err(|error| not_migrated(path, error))?;
        Store::with(conn, path)
    }

    /// A command's way in: only a database of exactly this schema, never made, never migrated.
    pub async fn open_for_command(path: &Path) -> Result<Store, OpenError> {
        check_schema(path).await?;
        // Asked without opening the file: closing it again would drop the locks that SQLite has in this process.
        rustix::fs::access(path, Access::WRITE_OK)
            .map_err(|error| OpenError::ReadOnly { path: path.to_owned(), reason: error.to_string() })?;
        let conn = connect(path, false).await?;
        Store::with(conn, path)
    }

    /// The way in of a command that only reads: whoever may read the file may use it, daemon up or down, and
    /// nothing is left beside the database. A change handed to such a store fails.
    pub async fn open_for_reading(path: &Path) -> Result<Store, OpenError> {
        check_schema(path).await?;
        // A daemon that has just begun may be about to write what is taken for immutable.
        let is_daemon_up = DaemonLock::is_held(path);
        let is_at_rest = !is_daemon_up && is_at_rest(path);
        let options = options(path).read_only(true).immutable(is_at_rest);
        let conn = options.connect().await.map_err(|error| unreadable(path, &error))?;
        Ok(Store { is_at_rest, ..Store::of(conn, options, path) })
    }

    /// The way to go on reading what was at rest when it was opened and is written to now; None where all is as it was.
    pub(super) fn awake(&self) -> Option<Store> {
        let has_woken = self.is_at_rest && !is_at_rest(&self.path);
        has_woken.then(|| {
            let readers = Readers::new(options(&self.path).read_only(true));
            Store { readers, is_at_rest: false, ..self.clone() }
        })
    }

    /// An empty database of this schema that lives and ends with this process: what is written into it is nobody's
    /// record. For a look ahead before there is a database, and for whoever only asks the clouds.
    ///
    /// # Errors
    /// SQLite gives no memory.
    pub async fn in_memory() -> Result<Store, OpenError> {
        let path = Path::new(":memory:");
        // By this name each gets one of its own, which all of its connections share.
        let options: SqliteConnectOptions =
            "sqlite::memory:".parse().map_err(|error| unusable(path, error))?;
        let options = options.foreign_keys(true).disable_statement_logging();
        let mut conn = options.connect().await.map_err(|error| unusable(path, error))?;
        MIGRATIONS.run(&mut conn).await.map_err(|error| not_migrated(path, error))?;
        Ok(Store::of(conn, options, path))
    }

    fn with(conn: SqliteConnection, path: &Path) -> Result<Store, OpenError> {
        Ok(Store::of(conn, options(path).read_only(true), path))
    }

    fn of(conn: SqliteConnection, options: SqliteConnectOptions, path: &Path) -> Store {
        let readers = Readers::new(options);
        let identity = super::identity_of(path);
        Store { writer: Writer::start(conn), readers, is_at_rest: false, path: path.to_owned(), identity }
    }

    /// Whether another connection has committed since the last call with the same connection: what the
    /// daemon looks at to notice commands.
    pub async fn data_version(&self) -> Result<i64, StoreError> {
        self.writer.submit(DataVersion).await
    }
}

struct DataVersion;

impl super::writer::Change for DataVersion {
    type Reply = i64;

    async fn without_change(&self, conn: &mut SqliteConnection) -> sqlx::Result<Option<i64>> {
        Self::apply(std::slice::from_ref(self), conn).await.map(|versions| versions.first().copied())
    }

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<i64>> {
        let version: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(conn).await?;
        Ok(vec![version; rows.len()])
    }
}

pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

/// With no WAL there is nothing to share. SQLite would make one (and its index) only to read: impossible for a
/// user who may not write the folder, and in the daemon's way where it is possible.
fn reading_options(path: &Path) -> SqliteConnectOptions {
    options(path).read_only(true).immutable(is_at_rest(path))
}

fn is_at_rest(path: &Path) -> bool {
    !with_suffix(path, "-wal").exists()
}

async fn connect(path: &Path, create: bool) -> Result<SqliteConnection, OpenError> {
    options(path)
        .create_if_missing(create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
        .map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: sqlx::Error) -> OpenError {
    let text = error.to_string();
    if text.contains("readonly") || text.contains("read-only") || text.contains("unable to open") {
        OpenError::ReadOnly { path: path.to_owned(), reason: text }
    } else if Trouble::of(&error) == Trouble::Damaged {
        OpenError::Damaged { path: path.to_owned(), found: text }
    } else {
        OpenError::Unusable { path: path.to_owned(), error }
    }
}

fn not_migrated(path: &Path, error: MigrateError) -> OpenError {
    match error {
        MigrateError::Execute(error) if Trouble::of(&error) != Trouble::Other => unusable(path, error),
        error => OpenError::Migration { path: path.to_owned(), error },
    }
}

fn unreadable(path: &Path, error: &sqlx::Error) -> OpenError {
    OpenError::Unreadable { path: path.to_owned(), reason: error.to_string() }
}

/// Root may write what its mode forbids; an operator who made the file read-only meant it.
fn check_writable(path: &Path) -> Result<(), OpenError> {
    let refused = |reason: String| OpenError::ReadOnly { path: path.to_owned(), reason };
    let metadata = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?;
    if metadata.permissions().readonly() {
        return Err(refused("the file is marked read-only".to_owned()));
    }
    OpenOptions::new().append(true).open(path).map(drop).map_err(|error| refused(error.to_string()))
}

pub(super) struct Schema {
    pub(super) found: i64,
    pub(super) known: i64,
}

impl Schema {
    fn not_newer(&self, path: &Path) -> Result<(), OpenError> {
        let Schema { found, known } = *self;
        if found > known { Err(OpenError::Newer { path: path.to_owned(), found, known }) } else { Ok(()) }
    }
}

/// A command neither makes nor migrates a database.
async fn check_schema(path: &Path) -> Result<(), OpenError> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(OpenError::Missing(path.to_owned())),
        Err(error) => {
            return Err(OpenError::Unreadable { path: path.to_owned(), reason: error.to_string() });
        }
    }
    let schema = schema_of(path).await?;
    schema.not_newer(path)?;
    match schema.found {
        0 => Err(OpenError::Empty(path.to_owned())),
        found if found < schema.known => Err(OpenError::Older(path.to_owned())),
        _ => Ok(()),
    }
}

pub(super) async fn schema_of(path: &Path) -> Result<Schema, OpenError> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let (is_ours, found) = look_into(path).await.map_err(|error| cannot_look(path, error))?;
    if is_ours { Ok(Schema { found, known }) } else { Err(OpenError::Foreign(path.to_owned())) }
}

/// Whether it is a database of renewd, or an empty one, and its schema's version.
async fn look_into(path: &Path) -> sqlx::Result<(bool, i64)> {
    let mut conn = reading_options(path).connect().await?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut conn).await?;
    let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut conn).await?;
    let is_ours = tables == 0 || application == APPLICATION_ID;
    let found = match tables {
        0 => 0,
        _ if !is_ours => 0,
        _ => {
            sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
                .fetch_one(&mut conn)
                .await?
        }
    };
    conn.close().await?;
    Ok((is_ours, found))
}

fn cannot_look(path: &Path, error: sqlx::Error) -> OpenError {
    match unusable(path, error) {
        OpenError::ReadOnly { path, reason } => OpenError::Unreadable { path, reason },
        other => other,
    }
}

async fn check_sqlite(conn: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(conn)
        .await
        .map_err(|error| unusable(path, error))?;
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < SQLITE_OLDEST { Err(OpenError::OldSqlite(version)) } else { Ok(()) }
}

/// Nothing but two unique indexes keeps an order single: one that lost an entry would let it be sent again.
async fn check_money(conn: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let failed = |error| unusable(path, error);
    let newest: Option<i64> =
        sqlx::query_scalar("SELECT max(id) FROM orders").fetch_one(&mut *conn).await.map_err(failed)?;
    let checks = ["PRAGMA integrity_check(pauses)", "PRAGMA integrity_check(orders)"];
    let may_take_long = newest.is_some_and(|newest| newest > ORDERS_CHECKED_MAX);
    for &check in &checks[..if may_take_long { 1 } else { 2 }] {
        let found: Vec<String> = sqlx::query_scalar(check).fetch_all(&mut *conn).await.map_err(failed)?;
        if let Some(found) = found.into_iter().find(|line| line != "ok") {
            return Err(OpenError::Damaged { path: path.to_owned(), found });
        }
    }
    Ok(())
}
