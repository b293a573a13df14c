//! The `renewd.toml` in force, as commands beside the daemon see it, and what follows from a change of it.

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};

use super::writer::Change;
use super::{Store, StoreError, at_opt, json, ms};
use crate::domain::product::AccountName;

/// Which `renewd.toml` the daemon goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsInForce {
    pub digest: Option<String>,
    pub accepted_at: Option<Timestamp>,
    /// The keys whose new values only a restart would take.
    pub needs_restart: Vec<String>,
}

impl Store {
    pub async fn note_settings(
        &self,
        digest: &str,
        needs_restart: &[String],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let change = NoteSettings {
            digest: digest.to_owned(),
            needs_restart: needs_restart.to_vec(),
            now_ms: ms(now),
        };
        self.writer.submit(change).await
    }

    /// What is in force was looked for on disk, and is there still.
    pub async fn note_unchanged(&self, now: Timestamp) -> Result<(), StoreError> {
        self.writer.submit(NoteUnchanged { now_ms: ms(now) }).await
    }

    pub async fn settings_in_force(&self) -> Result<SettingsInForce, StoreError> {
        let row = sqlx::query("SELECT settings_digest, settings_accepted_at_ms, needs_restart FROM daemon")
            .fetch_one(&mut *self.readers.get().await?)
            .await?;
        let needs_restart = row.get::<Option<&str>, _>(2).map_or(Ok(Vec::new()), serde_json::from_str);
        Ok(SettingsInForce {
            digest: row.get(0),
            accepted_at: at_opt(row.get(1))?,
            needs_restart: needs_restart.map_err(|error| StoreError::Decode(error.to_string()))?,
        })
    }

    /// Runs of an account that wait for one of these codes are judged anew at once.
    pub async fn retry_withheld(
        &self,
        account: &AccountName,
        codes: &'static [&'static str],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.writer.submit(RetryWithheld { account: account.clone(), codes, now_ms: ms(now) }).await
    }
}

struct NoteSettings {
    digest: String,
    needs_restart: Vec<String>,
    now_ms: i64,
}

impl Change for NoteSettings {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        for row in rows {
            sqlx::query(
                "UPDATE daemon SET settings_digest = ?1, needs_restart = ?2, settings_accepted_at_ms = ?3",
            )
            .bind(&row.digest)
            .bind(json(&row.needs_restart)?)
            .bind(row.now_ms)
            .execute(&mut *conn)
            .await?;
        }
        Ok(vec![(); rows.len()])
    }
}

struct NoteUnchanged {
    now_ms: i64,
}

impl Change for NoteUnchanged {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        for row in rows {
            sqlx::query("UPDATE daemon SET set_accepted_at_ms = ?1, settings_accepted_at_ms = ?1")
                .bind(row.now_ms)
                .execute(&mut *conn)
                .await?;
        }
        Ok(vec![(); rows.len()])
    }
}

struct RetryWithheld {
    account: AccountName,
    codes: &'static [&'static str],
    now_ms: i64,
}

impl Change for RetryWithheld {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        for row in rows {
            sqlx::query(
                "UPDATE runs SET next_attempt_at_ms = ?3
                 WHERE account = ?1 AND state = 'waiting' AND hold = 'backoff'
                   AND error ->> 'code' IN (SELECT value FROM json_each(?2))",
            )
            .bind(row.account.as_str())
            .bind(json(&row.codes)?)
            .bind(row.now_ms)
            .execute(&mut *conn)
            .await?;
        }
        Ok(vec![(); rows.len()])
    }
}
