//! The mark of a running service on the `renewd.toml` that it goes by: a lock on the file, that the kernel takes back
//! when the process ends. It tells a command that somebody runs by this file also where the file names another
//! database by now than the one that the service has open.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

/// A service that ends lets go of its database a moment before it ends.
const LOOKS: u32 = 10;
const LOOK_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct ServiceMark {
    _file: File,
}

impl ServiceMark {
    /// None where the file bears one already, or cannot be locked: a service does not depend on it.
    pub fn set(config: &Path) -> Option<ServiceMark> {
        let file = File::open(config).ok()?;
        file.try_lock().ok().map(|()| ServiceMark { _file: file })
    }

    /// Whether a service runs by this file, and goes on to for longer than the end of one takes.
    pub fn is_set(config: &Path) -> bool {
        let Ok(file) = File::open(config) else { return false };
        for look in 0..LOOKS {
            match file.try_lock_shared() {
                Err(TryLockError::WouldBlock) if look + 1 < LOOKS => std::thread::sleep(LOOK_PAUSE),
                Err(TryLockError::WouldBlock) => return true,
                _ => return false,
            }
        }
        true
    }
}
