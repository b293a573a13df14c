//! Connections that only read: few, kept open, each in one reader's hands at a time.
//!
//! Not sqlx's pool: that asks a connection after each use, and by default before it too, whether it is still there.
//! SQLite lives in this process, where such a question costs as much as most reads do.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// At once; more wait for one of these to end.
const READERS_MAX: u32 = 4;

#[derive(Clone)]
pub(super) struct Readers(Arc<Shelf>);

struct Shelf {
    options: SqliteConnectOptions,
    /// The one put back last is taken first: its statements are prepared.
    idle: Mutex<Vec<SqliteConnection>>,
    room: Arc<Semaphore>,
}

/// A connection while somebody reads with it.
pub(super) struct Reader {
    /// None only while it is put back.
    conn: Option<SqliteConnection>,
    shelf: Arc<Shelf>,
    _room: OwnedSemaphorePermit,
}

impl Readers {
    /// Connections are made when they are needed.
    pub(super) fn new(options: SqliteConnectOptions) -> Readers {
        let room = Arc::new(Semaphore::new(READERS_MAX as usize));
        Readers(Arc::new(Shelf { options, idle: Mutex::default(), room }))
    }

    /// # Errors
    /// The file cannot be opened, or this was closed.
    pub(super) async fn get(&self) -> sqlx::Result<Reader> {
        let shelf = Arc::clone(&self.0);
        let room = Arc::clone(&shelf.room).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = shelf.idle().pop();
        let conn = match idle {
            Some(conn) => conn,
            None => shelf.options.connect().await?,
        };
        Ok(Reader { conn: Some(conn), shelf, _room: room })
    }

    /// Waits for all who read, then closes what they read with.
    pub(super) async fn close(&self) {
        // An error means that somebody else has closed it.
        let Ok(_all) = self.0.room.acquire_many(READERS_MAX).await else { return };
        self.0.room.close();
        let idle = std::mem::take(&mut *self.0.idle());
        for conn in idle {
            // Nothing was written with it: what closing says is of no use to anybody.
            let _ = conn.close().await;
        }
    }
}

impl Shelf {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Reader {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.conn.as_ref().expect("put back only when dropped")
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.conn.as_mut().expect("put back only when dropped")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let conn = self.conn.take();
        self.shelf.idle().extend(conn);
    }
}
