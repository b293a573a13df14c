//! Waking runs whose time has come.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::writer::Change;
use super::{Store, StoreError, json, ms};
use crate::domain::product::AccountName;

impl Store {
    /// Queues what has waited long enough; answers which of the accounts have queued runs.
    pub async fn promote(
        &self,
        accounts: &[AccountName],
        now: Timestamp,
    ) -> Result<Vec<AccountName>, StoreError> {
        self.writer.submit(Promote { accounts: accounts.to_vec(), now_ms: ms(now) }).await
    }
}

struct Promote {
    accounts: Vec<AccountName>,
    now_ms: i64,
}

/// Runs that have waited long enough.
macro_rules! has_waited {
    ($now:literal) => {
        concat!("state = 'waiting' AND hold <> 'confirmation' AND next_attempt_at_ms <= ", $now)
    };
}

impl Change for Promote {
    type Reply = Vec<AccountName>;

    async fn without_change(&self, conn: &mut SqliteConnection) -> sqlx::Result<Option<Vec<AccountName>>> {
        let query = concat!("SELECT EXISTS (SELECT 1 FROM runs WHERE ", has_waited!("?1"), ")");
        let has_waited: bool = sqlx::query_scalar(query).bind(self.now_ms).fetch_one(&mut *conn).await?;
        if has_waited { Ok(None) } else { self.ready(conn).await.map(Some) }
    }

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Vec<AccountName>>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            sqlx::query(concat!(
                "UPDATE runs SET state = 'queued', hold = NULL, next_attempt_at_ms = NULL WHERE ",
                has_waited!("?1")
            ))
            .bind(row.now_ms)
            .execute(&mut *conn)
            .await?;
            replies.push(row.ready(conn).await?);
        }
        Ok(replies)
    }
}

impl Promote {
    /// Those of its accounts that have queued runs.
    async fn ready(&self, conn: &mut SqliteConnection) -> sqlx::Result<Vec<AccountName>> {
        let ready: Vec<String> = sqlx::query_scalar(
            "SELECT value FROM json_each(?1)
             WHERE EXISTS (SELECT 1 FROM runs WHERE account = value AND state = 'queued')",
        )
        .bind(json(&self.accounts)?)
        .fetch_all(conn)
        .await?;
        let is_ready = |name: &&AccountName| ready.iter().any(|text| text == name.as_str());
        Ok(self.accounts.iter().filter(is_ready).cloned().collect())
    }
}
