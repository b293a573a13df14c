//! Noticing edits: the system tells of changes in the folders that matter, an edit is given a moment to settle, and
//! now and then the files are looked at in any case, since not every file system tells.
//!
//! Invariant: what is told only wakes. What counts is what is on disk then, read anew and compared.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};

use crate::clock::Clock;
use crate::config::{Entries, Places};

/// An edit has settled when nothing more was told for so long: editors and configuration managers write, rename and
/// link in several steps.
const QUIET: Duration = Duration::from_millis(500);
/// What never comes to rest is read after this long.
const LONGEST_UNREST: Duration = Duration::from_secs(5);
/// The look in any case, and the one where the system does not tell.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const LOOK_BLINDLY_EVERY: Duration = Duration::from_secs(10);

/// Not of writes to an open file: it is read once it is closed, and a database in the same folder is written all day.
const TOLD: WatchMask = WatchMask::ATTRIB
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

const BUFFER_BYTES: usize = 4096;

pub(super) struct Edits {
    clock: Arc<dyn Clock>,
    told: Option<EventStream<[u8; BUFFER_BYTES]>>,
    watched: Watched,
    /// Not all that matters is watched.
    is_blind: bool,
    unrest: Option<Unrest>,
    /// By the monotonic clock.
    looked_at: Duration,
}

/// The entries that matter in each folder.
type Watched = HashMap<WatchDescriptor, Entries>;

/// Times of the monotonic clock.
#[derive(Clone, Copy)]
struct Unrest {
    began: Duration,
    latest: Duration,
}

impl Edits {
    /// Where the system cannot tell, that is said once, and the files are looked at more often instead.
    pub(super) fn notice(clock: Arc<dyn Clock>) -> Edits {
        let told = Inotify::init().and_then(|inotify| inotify.into_event_stream([0; BUFFER_BYTES]));
        let now = clock.monotonic();
        // What was written since the start began was not told of.
        let unrest = Some(Unrest { began: now, latest: now });
        let mut edits =
            Edits { clock, told: None, watched: Watched::new(), is_blind: false, unrest, looked_at: now };
        match told {
            Ok(told) => edits.told = Some(told),
            Err(error) => edits.go_blind("edits", &error),
        }
        edits
    }

    /// Returns when it is time to look: an edit has settled, or none was told of for long. Dropped and called anew
    /// it goes on.
    pub(super) async fn settled(&mut self) {
        loop {
            let now = self.clock.monotonic();
            let due = self.due();
            if now >= due {
                (self.unrest, self.looked_at) = (None, now);
                return;
            }
            tokio::select! {
                event = next(self.told.as_mut()) => if matters(&event, &self.watched) { self.note() },
                () = self.clock.sleep(due - now) => {}
            }
        }
    }

    fn due(&self) -> Duration {
        let in_any_case = self.looked_at + if self.is_blind { LOOK_BLINDLY_EVERY } else { LOOK_EVERY };
        let settled = |unrest: Unrest| (unrest.latest + QUIET).min(unrest.began + LONGEST_UNREST);
        self.unrest.map_or(in_any_case, |unrest| settled(unrest).min(in_any_case))
    }

    /// Watches these places and no others. A folder that was not watched before may have changed before it was: that
    /// counts as an edit.
    pub(super) fn follow(&mut self, places: &Places) {
        let Some(told) = &self.told else { return };
        let mut watches = told.watches();
        let mut watched = Watched::new();
        let mut failed = None;
        for (folder, entries) in &places.0 {
            match watches.add(folder, TOLD) {
                Ok(watch) => {
                    let others = watched.remove(&watch);
                    watched.insert(watch, others.map_or(entries.clone(), |others| both(others, entries)));
                }
                // The way ends before it; the folder above is watched, and tells when it goes on.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => failed = Some((folder, error)),
            }
        }
        let is_new = watched.keys().any(|watch| !self.watched.contains_key(watch));
        for (left, _) in self.watched.drain().filter(|(watch, _)| !watched.contains_key(watch)) {
            // Of a folder that is gone the system has ended the watch itself.
            let _ = watches.remove(left);
        }
        self.watched = watched;
        if is_new {
            self.note();
        }
        match failed {
            None => self.is_blind = false,
            Some((folder, error)) => self.go_blind(&format!("edits in {}", folder.display()), &error),
        }
    }

    fn note(&mut self) {
        let now = self.clock.monotonic();
        let began = self.unrest.map_or(now, |unrest| unrest.began);
        self.unrest = Some(Unrest { began, latest: now });
    }

    fn go_blind(&mut self, what: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.is_blind, true) {
            let seconds = LOOK_BLINDLY_EVERY.as_secs();
            tracing::warn!(
                event = "config.unwatched",
                %error,
                "{what} are not told of by the system ({error}): the files are looked at every {seconds} s instead, and \
                 at once on `systemctl reload renewd`"
            );
        }
    }
}

/// Never, where nothing tells. A failure to read is taken for news: the look that follows does no harm.
async fn next(told: Option<&mut EventStream<[u8; BUFFER_BYTES]>>) -> Option<EventOwned> {
    match told {
        Some(told) => match told.next().await {
            Some(event) => event.ok(),
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

fn matters(event: &Option<EventOwned>, watched: &Watched) -> bool {
    let Some(event) = event else { return true };
    // The end of a watch follows on what ended it, or on our own word.
    if event.mask.contains(EventMask::IGNORED) {
        return false;
    }
    match (watched.get(&event.wd), &event.name) {
        (Some(Entries::Named(names)), Some(name)) => names.contains(name),
        // The folder itself, or more than could be told.
        (_, None) | (Some(Entries::All), _) => true,
        (None, Some(_)) => false,
    }
}

fn both(one: Entries, other: &Entries) -> Entries {
    match (one, other) {
        (Entries::Named(one), Entries::Named(other)) => {
            Entries::Named(one.union(other).cloned().collect::<BTreeSet<_>>())
        }
        _ => Entries::All,
    }
}
