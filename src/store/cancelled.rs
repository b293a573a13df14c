//! Unsent runs that end because nobody wants them any more.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::reads::RunRecord;
use super::writer::Change;
use super::{Store, StoreError, ms};
use crate::domain::run::RunId;

impl Store {
    /// Cancels unsent runs whose policy stopped wanting them before `stopped_before`.
    pub async fn cancel_unwanted(
        &self,
        now: Timestamp,
        stopped_before: Timestamp,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let change = CancelUnwanted { now_ms: ms(now), stopped_before_ms: ms(stopped_before) };
        let cancelled = self.writer.submit(change).await?;
        self.runs_by_id(&cancelled).await
    }

    /// Cancels triggers that nobody took in time.
    pub async fn lapse_triggers(&self, now: Timestamp) -> Result<Vec<RunRecord>, StoreError> {
        let lapsed = self.writer.submit(Lapse { now_ms: ms(now) }).await?;
        self.runs_by_id(&lapsed).await
    }
}

struct CancelUnwanted {
    now_ms: i64,
    stopped_before_ms: i64,
}

/// Unsent runs only: what was sent is followed to its end whatever becomes of its policy.
macro_rules! is_unwanted {
    ($now:literal, $stopped_before:literal) => {
        concat!(
            "finished_at_ms IS NULL AND (state = 'queued' OR (state = 'waiting' AND hold <> 'confirmation'))
               AND EXISTS (
                 SELECT 1 FROM policies p JOIN policy_instances pi ON pi.policy_id = p.id
                 WHERE p.id = runs.policy_id AND pi.instance_id = runs.instance_id
                   AND min(coalesce(p.stopped_at_ms, ",
            $now,
            "), coalesce(pi.removed_at_ms, ",
            $now,
            ")) <= ",
            $stopped_before,
            ")"
        )
    };
}

impl Change for CancelUnwanted {
    type Reply = Vec<RunId>;

    async fn without_change(&self, conn: &mut SqliteConnection) -> sqlx::Result<Option<Vec<RunId>>> {
        let query = concat!("SELECT EXISTS (SELECT 1 FROM runs WHERE ", is_unwanted!("?1", "?2"), ")");
        let has_unwanted: bool =
            sqlx::query_scalar(query).bind(self.now_ms).bind(self.stopped_before_ms).fetch_one(conn).await?;
        Ok((!has_unwanted).then(Vec::new))
    }

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Vec<RunId>>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            let ids: Vec<i64> = sqlx::query_scalar(concat!(
                "UPDATE runs SET state = 'cancelled', hold = NULL, next_attempt_at_ms = NULL, finished_at_ms = ?1,
                        lapses_at_ms = NULL,
                        reason = 'its policy was disabled or retired, or no longer names the instance'
                 WHERE ",
                is_unwanted!("?1", "?2"),
                " RETURNING id"
            ))
            .bind(row.now_ms)
            .bind(row.stopped_before_ms)
            .fetch_all(&mut *conn)
            .await?;
            replies.push(ids.into_iter().map(RunId).collect());
        }
        Ok(replies)
    }
}

struct Lapse {
    now_ms: i64,
}

impl Change for Lapse {
    type Reply = Vec<RunId>;

    async fn without_change(&self, conn: &mut SqliteConnection) -> sqlx::Result<Option<Vec<RunId>>> {
        let lapses: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM runs WHERE lapses_at_ms <= ?1 AND state = 'queued')",
        )
        .bind(self.now_ms)
        .fetch_one(conn)
        .await?;
        Ok((!lapses).then(Vec::new))
    }

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Vec<RunId>>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            let lapsed: Vec<i64> = sqlx::query_scalar(
                "UPDATE runs SET state = 'cancelled', lapses_at_ms = NULL, finished_at_ms = ?1,
                        reason = 'no service took it within 10 minutes of its trigger: trigger it again if it is still wanted'
                 WHERE lapses_at_ms <= ?1 AND state = 'queued' RETURNING id",
            )
            .bind(row.now_ms)
            .fetch_all(&mut *conn)
            .await?;
            replies.push(lapsed.into_iter().map(RunId).collect());
        }
        Ok(replies)
    }
}
