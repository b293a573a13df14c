//! Opening a file that a person named: only a regular one, and never waiting for somebody at the other end.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file for reading.
///
/// # Errors
/// It cannot be opened, or is a folder, a pipe, a socket or a device: reading those may never end.
pub(super) fn open(path: &Path) -> io::Result<File> {
    // Before the open, since opening a device may already do something; after it again, since what was judged
    // must be what is read. Without O_NONBLOCK a pipe put there in between would hang the open.
    refuse_special(fs::metadata(path)?.file_type())?;
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    refuse_special(file.metadata()?.file_type())?;
    Ok(file)
}

/// Several times what a policy of a hundred thousand instances takes: beyond it, it is something else.
const BYTES_MAX: u64 = 16 << 20;

/// # Errors
/// As [`open`], or it is too large for what a person writes.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        let too_large = format!("it is larger than {} MB", BYTES_MAX >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, too_large));
    }
    Ok(bytes)
}

fn refuse_special(kind: FileType) -> io::Result<()> {
    let refused = |kind: io::ErrorKind, what: &str| Err(io::Error::new(kind, format!("it is {what}")));
    let invalid = io::ErrorKind::InvalidInput;
    match kind {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => refused(io::ErrorKind::IsADirectory, "a folder"),
        kind if kind.is_fifo() => refused(invalid, "a named pipe, not a file"),
        kind if kind.is_socket() => refused(invalid, "a socket, not a file"),
        _ => refused(invalid, "a device, not a file"),
    }
}
