//! The daemon's epoch, what an older epoch left behind, and the policy set in force.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, SqliteConnection, SqliteExecutor};

use super::writer::Change;
use super::{Store, StoreError, at_opt, ms};
use crate::domain::order::OrderRow;
use crate::domain::run::Epoch;

/// What a new epoch found and put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescued {
    pub epoch: Epoch,
    /// When the daemon before this one was last known to live.
    pub runs_requeued: u64,
    /// Intents of which nobody can say whether their request left.
    pub orders_unknown: Vec<OrderRow>,
}

/// The policy set in force, and whether a newer one was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetInForce {
    pub digest: Option<String>,
    pub accepted_at: Option<Timestamp>,
    pub refused_at: Option<Timestamp>,
    pub refused_digest: Option<String>,
    pub refused_text: Option<String>,
}

impl Store {
    /// Takes the next epoch and rescues what older ones left: unsent runs go back to the queue, an intent
    /// becomes `unknown` and is looked at at once.
    pub async fn begin_epoch(&self, now: Timestamp, version: &str) -> Result<Rescued, StoreError> {
        let version = version.to_owned();
        self.writer.submit(BeginEpoch { now_ms: ms(now), version }).await
    }

    /// Of a daemon that has a successor already, nothing is marked.
    pub async fn mark_stopped(&self, epoch: Epoch, now: Timestamp) -> Result<(), StoreError> {
        self.writer.submit(MarkStopped { epoch, now_ms: ms(now) }).await
    }

    /// Changes nothing, and yet writes: whether the database takes anything.
    pub async fn prove_writable(&self) -> Result<(), StoreError> {
        self.check_place()?;
        self.writer.submit(ThereAndBack).await
    }

    /// The epoch in force and the process that began it.
    pub async fn epoch_in_force(&self) -> Result<(Epoch, i64), StoreError> {
        let row = sqlx::query("SELECT epoch, coalesce(pid, 0) FROM daemon")
            .fetch_one(&mut *self.readers.get().await?)
            .await?;
        Ok((Epoch(row.get(0)), row.get(1)))
    }

    /// Remembers that the set on disk is refused, so that commands can say so while the old one runs.
    pub async fn mark_refused(&self, now: Timestamp, digest: &str, text: &str) -> Result<(), StoreError> {
        let change = MarkRefused { now_ms: ms(now), digest: digest.to_owned(), text: text.to_owned() };
        self.writer.submit(change).await
    }

    pub async fn set_in_force(&self) -> Result<SetInForce, StoreError> {
        set_in_force(&mut *self.readers.get().await?).await
    }
}

pub(super) async fn set_in_force(readers: impl SqliteExecutor<'_>) -> Result<SetInForce, StoreError> {
    let row = sqlx::query(
        "SELECT set_digest, set_accepted_at_ms, refused_at_ms, refused_digest, refused_text FROM daemon",
    )
    .fetch_one(readers)
    .await?;
    Ok(SetInForce {
        digest: row.get(0),
        accepted_at: at_opt(row.get(1))?,
        refused_at: at_opt(row.get(2))?,
        refused_digest: row.get(3),
        refused_text: row.get(4),
    })
}

struct BeginEpoch {
    now_ms: i64,
    version: String,
}

impl Change for BeginEpoch {
    type Reply = Rescued;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Rescued>> {
        let mut replies = Vec::with_capacity(rows.len());
        for BeginEpoch { now_ms, version } in rows {
            let epoch: i64 = sqlx::query_scalar(
                "UPDATE daemon SET epoch = epoch + 1, pid = ?1, version = ?2, started_at_ms = ?3, stopped_at_ms = NULL
                 RETURNING epoch",
            )
            .bind(i64::from(std::process::id()))
            .bind(version)
            .bind(now_ms)
            .fetch_one(&mut *conn)
            .await?;
            let orders_unknown = intents_to_unknown(conn, *now_ms, epoch).await?;
            pull_back_times(conn, *now_ms).await?;
            let requeued = sqlx::query(
                "UPDATE runs SET state = 'queued', epoch = NULL, next_attempt_at_ms = NULL
                 WHERE finished_at_ms IS NULL AND state = 'running' AND epoch < ?1",
            )
            .bind(epoch)
            .execute(&mut *conn)
            .await?;
            replies.push(Rescued {
                epoch: Epoch(epoch),
                runs_requeued: requeued.rows_affected(),
                orders_unknown,
            });
        }
        Ok(replies)
    }
}

/// A clock that was ahead once left times behind that are still to come: until then looks would be refused as
/// old, open orders not looked at and policies not fired. They are pulled back to now, or to not having been.
async fn pull_back_times(conn: &mut SqliteConnection, now_ms: i64) -> sqlx::Result<()> {
    let pull_backs = [
        "UPDATE instances SET observed_at_ms = 0 WHERE observed_at_ms > ?1",
        "UPDATE instances SET lower_since_ms = ?1 WHERE lower_since_ms > ?1",
        "UPDATE instances SET known_since_ms = ?1 WHERE known_since_ms > ?1",
        "UPDATE instances SET risk_logged_at_ms = NULL WHERE risk_logged_at_ms > ?1",
        "UPDATE policies SET active_since_ms = ?1 WHERE active_since_ms > ?1",
        "UPDATE orders SET next_look_at_ms = ?1 WHERE state IN ('placed', 'unknown') AND next_look_at_ms > ?1",
        "UPDATE runs SET lapses_at_ms = ?1 WHERE lapses_at_ms > ?1 + 600000",
        // No delay is longer than a day.
        "UPDATE runs SET next_attempt_at_ms = ?1
         WHERE finished_at_ms IS NULL AND state = 'waiting' AND next_attempt_at_ms > ?1 + 86400000",
        "UPDATE orders SET number_wanted_at_ms = ?1 WHERE number_wanted_at_ms > ?1 + 7 * 86400000",
        "UPDATE pauses SET until_ms = ?1 WHERE kind <> 'person' AND lifted_at_ms IS NULL AND until_ms > ?1 + 86400000",
    ];
    for pull_back in pull_backs {
        sqlx::query(pull_back).bind(now_ms).execute(&mut *conn).await?;
    }
    Ok(())
}

async fn intents_to_unknown(
    conn: &mut SqliteConnection,
    now_ms: i64,
    epoch: i64,
) -> sqlx::Result<Vec<OrderRow>> {
    let error = crate::domain::failure::Failure::ours(
        crate::domain::failure::Class::Unknown,
        "Interrupted",
        "renewd ended between recording this order and reading its answer",
    );
    let rows = sqlx::query(
        "UPDATE orders SET state = 'unknown', next_look_at_ms = ?1, error = ?2
         WHERE settled_at_ms IS NULL AND state = 'intended' AND epoch < ?3 RETURNING id, run_id",
    )
    .bind(now_ms)
    .bind(super::json(&error)?)
    .bind(epoch)
    .fetch_all(&mut *conn)
    .await?;
    #[derive(Serialize)]
    struct Run(i64);
    let runs: Vec<Run> = rows.iter().map(|row| Run(row.get(1))).collect();
    sqlx::query(
        "UPDATE runs SET state = 'unknown', epoch = NULL, hold = NULL, next_attempt_at_ms = NULL,
                reason = 'renewd ended before its order was answered'
         WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at_ms IS NULL",
    )
    .bind(super::json(&runs)?)
    .execute(conn)
    .await?;
    Ok(rows.iter().map(|row| OrderRow(row.get(0))).collect())
}

struct ThereAndBack;

impl Change for ThereAndBack {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        // SQLite does not write a page for a value that is the one it has.
        for _ in ["there", "back"] {
            sqlx::query("UPDATE daemon SET pid = -pid").execute(&mut *conn).await?;
        }
        Ok(vec![(); rows.len()])
    }
}

struct MarkStopped {
    epoch: Epoch,
    now_ms: i64,
}

impl Change for MarkStopped {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        for MarkStopped { epoch, now_ms } in rows {
            sqlx::query("UPDATE daemon SET stopped_at_ms = ?1 WHERE epoch = ?2")
                .bind(now_ms)
                .bind(epoch.0)
                .execute(&mut *conn)
                .await?;
        }
        Ok(vec![(); rows.len()])
    }
}

struct MarkRefused {
    now_ms: i64,
    digest: String,
    text: String,
}

impl Change for MarkRefused {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        for MarkRefused { now_ms, digest, text } in rows {
            sqlx::query("UPDATE daemon SET refused_at_ms = ?1, refused_digest = ?2, refused_text = ?3")
                .bind(now_ms)
                .bind(digest)
                .bind(text)
                .execute(&mut *conn)
                .await?;
        }
        Ok(vec![(); rows.len()])
    }
}
