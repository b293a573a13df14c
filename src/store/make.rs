//! Making the database before the service has: whoever installs renewd paused wants its first moment paused too.

use std::fs::{DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, fchown};
use std::path::Path;

use super::Store;
use super::open::{DaemonLock, OpenError, check_folder, folder_of, lock_path, schema_of, still_to_come};

/// Of a folder that is made here: as the unit has it.
const FOLDER_MODE: u32 = 0o700;
const OWNER_ONLY: u32 = 0o600;
const GROUP: u32 = 0o060;
const GROUP_WRITES: u32 = 0o020;

impl Store {
    /// As [`Store::open_for_command`], and makes the database first where there is none, in a folder that is made
    /// too if only it is missing. Answers whether it was made.
    ///
    /// What root makes belongs to whoever owns the folder: the service has to be able to use it.
    ///
    /// # Errors
    /// As [`Store::open_for_command`] and [`Store::open_for_daemon`].
    pub async fn open_or_make(path: &Path) -> Result<(Store, bool), OpenError> {
        let is_made = !holds_a_schema(path).await? && make(path).await?;
        Ok((Store::open_for_command(path).await?, is_made))
    }
}

async fn holds_a_schema(path: &Path) -> Result<bool, OpenError> {
    match path.try_exists() {
        Ok(true) => Ok(schema_of(path).await?.found > 0),
        Ok(false) => Ok(false),
        Err(error) => Err(OpenError::Unreadable { path: path.to_owned(), reason: error.to_string() }),
    }
}

/// Under the daemon's lock, so that no daemon makes it at the same time. Where one is at it already, it is left to it.
async fn make(path: &Path) -> Result<bool, OpenError> {
    let refused = |error: io::Error| OpenError::ReadOnly { path: path.to_owned(), reason: error.to_string() };
    make_folder(path).map_err(refused)?;
    check_folder(path)?;
    make_file(&lock_path(path)).map_err(refused)?;
    let lock = match DaemonLock::acquire(path) {
        Err(OpenError::SecondDaemon { .. }) => return Ok(false),
        lock => lock?,
    };
    make_file(&still_to_come(path)).map_err(refused)?;
    Store::open_for_daemon(path, &lock).await?.close().await;
    Ok(true)
}

fn make_folder(database: &Path) -> io::Result<()> {
    let folder = folder_of(database);
    if folder.exists() {
        return Ok(());
    }
    let above = folder_of(folder).metadata();
    match (above, DirBuilder::new().mode(FOLDER_MODE).create(folder)) {
        (Ok(above), Ok(())) => chown_as_root(&above, |uid, gid| chown(folder, uid, gid)),
        // The folder above is missing as well: that is told in its own words.
        _ => Ok(()),
    }
}

/// An empty file with the rights that the folder gives. It comes into being with its owner: a crash in between must
/// not leave one behind that the service cannot open.
fn make_file(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    let of_folder = folder.metadata()?;
    let shared = if of_folder.mode() & GROUP_WRITES == 0 { 0 } else { GROUP };
    let file = tempfile::NamedTempFile::new_in(folder)?;
    file.as_file().set_permissions(Permissions::from_mode(OWNER_ONLY | shared))?;
    chown_as_root(&of_folder, |uid, gid| fchown(file.as_file(), uid, gid))?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
        Ok(_) => Ok(()),
    }
}

/// Others could not give away what they make, nor need they.
fn chown_as_root(
    like: &Metadata,
    chown: impl FnOnce(Option<u32>, Option<u32>) -> io::Result<()>,
) -> io::Result<()> {
    if rustix::process::geteuid().is_root() { chown(Some(like.uid()), Some(like.gid())) } else { Ok(()) }
}
