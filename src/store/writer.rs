//! The one writer. It owns the only writing connection of the daemon, takes all changes that wait, commits
//! them in one transaction and then tells their callers: a reply means the change is on disk.

use std::any::{Any, TypeId};
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::histogram::Histogram;
use sqlx::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::trouble::Trouble;
use crate::clock::Stopwatch;

/// A kind of change. All waiting rows of a kind are applied at once.
///
/// Callers wait for their reply, so two rows of one batch never depend on each other.
pub(super) trait Change: Send + Sync + Sized + 'static {
    type Reply: Send + 'static;

    /// The answer where there is nothing to change, asked before a transaction is begun: an idle daemon's looks find
    /// nothing, and each would take the file's one lock for it.
    fn without_change(
        &self,
        _conn: &mut SqliteConnection,
    ) -> impl Future<Output = sqlx::Result<Option<Self::Reply>>> + Send {
        std::future::ready(Ok(None))
    }

    /// Applies all rows and answers each, in the rows' order.
    fn apply(
        rows: &[Self],
        conn: &mut SqliteConnection,
    ) -> impl Future<Output = sqlx::Result<Vec<Self::Reply>>> + Send;
}

#[derive(Clone)]
pub(super) struct Writer {
    changes: mpsc::Sender<Message>,
    /// Somebody met damage: what keeps an order single cannot be trusted any more.
    is_damaged: Arc<AtomicBool>,
    commit_seconds: Histogram,
}

/// From a good disk's fsync to the wait for a lock that another process holds.
const COMMIT_SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

enum Message {
    Change(Box<dyn Group>),
    Stop(oneshot::Sender<()>),
}

/// More callers than this wait outside; each waits for its reply anyway.
const WAITING_CHANGES_MAX: usize = 4096;

impl Writer {
    pub(super) fn start(conn: SqliteConnection) -> Writer {
        let (changes, inbox) = mpsc::channel(WAITING_CHANGES_MAX);
        let is_damaged = Arc::default();
        let commit_seconds = Histogram::new(COMMIT_SECONDS);
        tokio::spawn(run(conn, inbox, Arc::clone(&is_damaged), commit_seconds.clone()));
        Writer { changes, is_damaged, commit_seconds }
    }

    /// How long transactions took, from their begin until they were on disk or failed.
    pub(super) fn commit_seconds(&self) -> &Histogram {
        &self.commit_seconds
    }

    /// As [`Writer::submit`], for a change that lets money be spent: never on a damaged database.
    pub(super) async fn submit_purchase<C: Change>(&self, change: C) -> Result<C::Reply, StoreError> {
        if self.is_damaged.load(Ordering::SeqCst) {
            return Err(StoreError::Damaged);
        }
        self.submit(change).await
    }

    pub(super) fn note_damage(&self) {
        self.is_damaged.store(true, Ordering::SeqCst);
    }

    pub(super) async fn submit<C: Change>(&self, change: C) -> Result<C::Reply, StoreError> {
        let (sender, reply) = oneshot::channel();
        let group = Waiting { rows: vec![change], senders: vec![sender], replies: Vec::new() };
        self.changes.send(Message::Change(Box::new(group))).await.map_err(|_| StoreError::Stopped)?;
        reply.await.map_err(|_| StoreError::Stopped)?.map_err(StoreError::Write)
    }

    pub(super) async fn stop(&self) {
        let (sender, stopped) = oneshot::channel();
        if self.changes.send(Message::Stop(sender)).await.is_ok() {
            // An error means that the writer is already gone, which is what was asked for.
            let _ = stopped.await;
        }
    }
}

async fn run(
    mut conn: SqliteConnection,
    mut inbox: mpsc::Receiver<Message>,
    is_damaged: Arc<AtomicBool>,
    commit_seconds: Histogram,
) {
    let mut waiting = Vec::new();
    while inbox.recv_many(&mut waiting, WAITING_CHANGES_MAX).await > 0 {
        let mut groups: Vec<Box<dyn Group>> = Vec::new();
        let mut stop = None;
        for message in waiting.drain(..) {
            match message {
                Message::Change(change) => join(&mut groups, change),
                Message::Stop(sender) => stop = Some(sender),
            }
        }
        for group in &mut groups {
            if group.answer_unchanged(&mut conn).await == Some(Trouble::Damaged) {
                is_damaged.store(true, Ordering::SeqCst);
            }
        }
        groups.retain(|group| !group.is_empty());
        if !groups.is_empty() {
            let watch = Stopwatch::start();
            if commit(&mut conn, groups).await == Some(Trouble::Damaged) {
                is_damaged.store(true, Ordering::SeqCst);
            }
            commit_seconds.observe(watch.elapsed().as_secs_f64());
        }
        if let Some(sender) = stop {
            use sqlx::Connection;
            if let Err(error) = conn.close().await {
                tracing::warn!(%error, "the database did not close cleanly");
            }
            let _ = sender.send(());
            return;
        }
    }
}

fn join(groups: &mut Vec<Box<dyn Group>>, change: Box<dyn Group>) {
    match groups.iter_mut().find(|group| group.kind() == change.kind()) {
        Some(group) => group.absorb(change.into_any()),
        None => groups.push(change),
    }
}

/// Answers what kept all of it from being committed, if something did.
async fn commit(conn: &mut SqliteConnection, mut groups: Vec<Box<dyn Group>>) -> Option<Trouble> {
    let mut outcome = together(conn, &mut groups).await;
    if let Err(error) = &outcome {
        roll_back(conn).await;
        if may_be_one_row(error) {
            // One bad row fails its own caller only.
            outcome = one_by_one(conn, &mut groups).await;
            if outcome.is_err() {
                roll_back(conn).await;
            }
        }
    }
    let failed = outcome.err().map(Arc::new);
    for group in groups {
        group.answer(failed.as_ref());
    }
    failed.map(|error| Trouble::of(&error))
}

/// A lock is no row's fault, and waiting for it again would make all callers wait twice; a damaged file is
/// written no more than it has to be.
fn may_be_one_row(error: &sqlx::Error) -> bool {
    !matches!(Trouble::of(error), Trouble::Locked | Trouble::Damaged)
}

async fn together(conn: &mut SqliteConnection, groups: &mut [Box<dyn Group>]) -> sqlx::Result<()> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    for group in groups {
        group.apply_all(conn).await?;
    }
    sqlx::query("COMMIT").execute(conn).await?;
    Ok(())
}

async fn one_by_one(conn: &mut SqliteConnection, groups: &mut [Box<dyn Group>]) -> sqlx::Result<()> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    for group in groups {
        group.apply_singly(conn).await?;
    }
    sqlx::query("COMMIT").execute(conn).await?;
    Ok(())
}

async fn roll_back(conn: &mut SqliteConnection) {
    // SQLite itself rolls back on some errors; then there is nothing left to undo and this one fails.
    let _ = sqlx::query("ROLLBACK").execute(conn).await;
}

type Applying<'a> = Pin<Box<dyn Future<Output = sqlx::Result<()>> + Send + 'a>>;
type Answering<'a> = Pin<Box<dyn Future<Output = Option<Trouble>> + Send + 'a>>;

trait Group: Send {
    fn kind(&self) -> TypeId;
    fn absorb(&mut self, other: Box<dyn Any>);
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
    fn is_empty(&self) -> bool;
    /// Answers and lets go of the rows that change nothing; what kept one from being asked, if something did.
    fn answer_unchanged<'a>(&'a mut self, conn: &'a mut SqliteConnection) -> Answering<'a>;
    fn apply_all<'a>(&'a mut self, conn: &'a mut SqliteConnection) -> Applying<'a>;
    fn apply_singly<'a>(&'a mut self, conn: &'a mut SqliteConnection) -> Applying<'a>;
    /// Tells each caller its own result, or that nothing was committed.
    fn answer(self: Box<Self>, failed: Option<&Arc<sqlx::Error>>);
}

type Reply<C> = Result<<C as Change>::Reply, Arc<sqlx::Error>>;

struct Waiting<C: Change> {
    rows: Vec<C>,
    senders: Vec<oneshot::Sender<Reply<C>>>,
    replies: Vec<Reply<C>>,
}

impl<C: Change> Group for Waiting<C> {
    fn kind(&self) -> TypeId {
        TypeId::of::<C>()
    }

    fn absorb(&mut self, other: Box<dyn Any>) {
        if let Ok(other) = other.downcast::<Waiting<C>>() {
            self.rows.extend(other.rows);
            self.senders.extend(other.senders);
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn answer_unchanged<'a>(&'a mut self, conn: &'a mut SqliteConnection) -> Answering<'a> {
        Box::pin(async move {
            let mut trouble = None;
            let waiting = mem::take(&mut self.rows).into_iter().zip(mem::take(&mut self.senders));
            for (row, sender) in waiting {
                let reply = match row.without_change(conn).await {
                    Ok(None) => {
                        self.rows.push(row);
                        self.senders.push(sender);
                        continue;
                    }
                    Ok(Some(reply)) => Ok(reply),
                    Err(error) => {
                        trouble = Some(Trouble::of(&error));
                        Err(Arc::new(error))
                    }
                };
                // A caller that no longer waits has dropped its future.
                let _ = sender.send(reply);
            }
            trouble
        })
    }

    fn apply_all<'a>(&'a mut self, conn: &'a mut SqliteConnection) -> Applying<'a> {
        Box::pin(async move {
            self.replies = C::apply(&self.rows, conn).await?.into_iter().map(Ok).collect();
            Ok(())
        })
    }

    fn apply_singly<'a>(&'a mut self, conn: &'a mut SqliteConnection) -> Applying<'a> {
        Box::pin(async move {
            let mut replies = Vec::with_capacity(self.rows.len());
            for row in &self.rows {
                sqlx::query("SAVEPOINT one").execute(&mut *conn).await?;
                let reply = C::apply(std::slice::from_ref(row), conn).await;
                if reply.is_err() {
                    sqlx::query("ROLLBACK TO one").execute(&mut *conn).await?;
                }
                sqlx::query("RELEASE one").execute(&mut *conn).await?;
                let reply = reply.and_then(|mut replies| replies.pop().ok_or(sqlx::Error::RowNotFound));
                replies.push(reply.map_err(Arc::new));
            }
            self.replies = replies;
            Ok(())
        })
    }

    fn answer(mut self: Box<Self>, failed: Option<&Arc<sqlx::Error>>) {
        let mut replies = mem::take(&mut self.replies).into_iter();
        for sender in self.senders {
            let reply = match failed {
                Some(error) => Err(Arc::clone(error)),
                None => replies.next().unwrap_or_else(|| Err(Arc::new(sqlx::Error::RowNotFound))),
            };
            // A caller that no longer waits has dropped its future; the change is committed all the same.
            let _ = sender.send(reply);
        }
    }
}
