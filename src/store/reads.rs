//! What commands and the at-risk look read: rows of the views.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use super::risk::Risk;
use super::{Store, StoreError, at, at_opt, ms};
use crate::domain::order::OrderRow;
use crate::domain::product::{Identity, InstanceId, Provider, Region};
use crate::domain::run::RunId;
use crate::domain::written_time;

/// A row of `orders_v`; the field names are the contract's.
#[derive(Clone, Debug, Serialize)]
pub struct OrderRecord {
    pub id: i64,
    pub run_id: i64,
    pub policy: String,
    pub policy_revision: i64,
    pub account: String,
    pub provider: String,
    pub product: String,
    pub region: String,
    pub instance: String,
    pub action: String,
    pub state: String,
    pub order_id: Option<String>,
    pub request_id: Option<String>,
    pub client_token: Option<String>,
    pub months: Option<u32>,
    pub amount_cny: Option<f64>,
    pub expiry_before: Option<String>,
    pub expiry_after: Option<String>,
    pub sent_at: Option<String>,
    pub settled_at: Option<String>,
    pub error: Option<Box<RawValue>>,
}

/// A row of `runs_v`.
#[derive(Clone, Debug, Serialize)]
pub struct RunRecord {
    pub id: i64,
    pub policy: String,
    pub policy_revision: i64,
    pub account: String,
    pub product: String,
    pub region: String,
    pub instance: String,
    pub action: String,
    pub origin: String,
    pub due_at: String,
    pub missed_count: u32,
    pub state: String,
    pub attempts: u32,
    pub next_attempt_at: Option<String>,
    pub reason: Option<String>,
    pub error: Option<Box<RawValue>>,
    pub created_at: String,
    pub finished_at: Option<String>,
}

/// A row of `instances_v`.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct InstanceRow {
    pub account: String,
    pub product: String,
    pub region: String,
    pub instance: String,
    pub policy: String,
    pub state: Option<String>,
    pub expires_at: Option<String>,
    pub observed_at: Option<String>,
    pub auto_renew: Option<String>,
    pub charge_type: Option<String>,
    pub at_risk: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct NextFiring {
    pub policy: String,
    #[serde(serialize_with = "written_time::serialize")]
    pub due_at: Timestamp,
}

/// A policy as it is in force.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct PolicyRow {
    pub policy: String,
    pub revision: i64,
    pub account: String,
    pub product: String,
    pub region: String,
    pub action: String,
    pub schedule: String,
    pub timezone: String,
    pub enabled: bool,
    pub retired: bool,
    pub instances: i64,
    pub next_due_at: Option<String>,
    pub source: String,
}

#[derive(Clone, Debug)]
pub struct StatusRow {
    pub epoch: i64,
    pub pid: Option<i64>,
    pub version: Option<String>,
    pub started_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    pub runs: Vec<(String, i64)>,
    pub unknown_orders: i64,
    pub next_firings: Vec<NextFiring>,
}

/// What `why` tells of an instance.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    pub run: RunRecord,
    pub verdict: Option<Box<RawValue>>,
    pub orders: Vec<OrderRecord>,
    pub looks: Vec<LookRecord>,
    pub attempts: Vec<AttemptRecord>,
}

#[derive(Clone, Debug, Serialize, FromRow)]
pub struct LookRecord {
    pub order_row: i64,
    pub at: String,
    pub finding: String,
}

#[derive(Clone, Debug, Serialize, FromRow)]
pub struct AttemptRecord {
    pub api: String,
    pub at: String,
    pub class: String,
    pub code: Option<String>,
    pub request_id: Option<String>,
    pub duration_ms: i64,
}

fn raw(text: Option<String>) -> Result<Option<Box<RawValue>>, StoreError> {
    text.map(RawValue::from_string).transpose().map_err(|error| StoreError::Decode(error.to_string()))
}

impl Store {
    /// One order; None if there is no such row.
    pub async fn order(&self, row: OrderRow) -> Result<Option<OrderRecord>, StoreError> {
        let found = sqlx::query("SELECT * FROM orders_v WHERE id = ?1")
            .bind(row.0)
            .fetch_optional(&mut *self.readers.get().await?)
            .await?;
        found.as_ref().map(order_record).transpose()
    }

    /// Accounts with orders that are not settled yet.
    pub async fn accounts_with_open_orders(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT DISTINCT account FROM orders WHERE settled_at_ms IS NULL")
            .fetch_all(&mut *self.readers.get().await?)
            .await?)
    }

    /// One run; None if there is none of that number.
    pub async fn run(&self, run: RunId) -> Result<Option<RunRecord>, StoreError> {
        Ok(self.runs_by_id(&[run]).await?.pop())
    }

    pub(super) async fn runs_by_id(&self, ids: &[RunId]) -> Result<Vec<RunRecord>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query("SELECT * FROM runs_v WHERE id IN (SELECT value FROM json_each(?1))")
            .bind(super::json(&ids)?)
            .fetch_all(&mut *self.readers.get().await?)
            .await?;
        rows.iter().map(run_record).collect()
    }

    pub async fn instances_at_risk(&self) -> Result<Vec<InstanceRow>, StoreError> {
        Ok(sqlx::query_as("SELECT * FROM instances_v WHERE at_risk ORDER BY expires_at, instance")
            .fetch_all(&mut *self.readers.get().await?)
            .await?)
    }

    /// Instances that were visible when last observed and expire before then; those that have expired too.
    pub async fn expiries_before(
        &self,
        before: Timestamp,
    ) -> Result<HashMap<Identity, Timestamp>, StoreError> {
        let rows = sqlx::query(
            "SELECT provider, region, instance, expires_at_ms FROM instances WHERE expires_at_ms < ?1 AND visible = 1",
        )
        .bind(ms(before))
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        let identity = |row: &SqliteRow| {
            let provider = Provider::parse(row.get(0))?;
            let (region, instance) = (Region::parse(row.get(1)).ok()?, InstanceId::parse(row.get(2)).ok()?);
            Some(Identity { provider, region, instance })
        };
        let known = rows.iter().filter_map(|row| Some((identity(row)?, at(row.get(3)).ok()?)));
        Ok(known.collect())
    }

    /// What `status` shows of the database; `firings` bounds the list of next firings.
    pub async fn status(&self, firings: u32) -> Result<StatusRow, StoreError> {
        let daemon = sqlx::query("SELECT epoch, pid, version, started_at_ms, stopped_at_ms FROM daemon")
            .fetch_one(&mut *self.readers.get().await?)
            .await?;
        let runs = sqlx::query_as("SELECT state, count(*) FROM runs GROUP BY state")
            .fetch_all(&mut *self.readers.get().await?)
            .await?;
        let unknown_orders = sqlx::query_scalar("SELECT count(*) FROM orders WHERE state = 'unknown'")
            .fetch_one(&mut *self.readers.get().await?)
            .await?;
        let next = sqlx::query(
            "SELECT p.name, s.next_due_ms FROM schedules s JOIN policies p ON p.schedule_id = s.id
             WHERE s.next_due_ms IS NOT NULL AND p.stopped_at_ms IS NULL ORDER BY s.next_due_ms, p.name LIMIT ?1",
        )
        .bind(firings)
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        let next_firings = next
            .iter()
            .map(|row| Ok(NextFiring { policy: row.get(0), due_at: at(row.get(1))? }))
            .collect::<Result<_, StoreError>>()?;
        Ok(StatusRow {
            epoch: daemon.get(0),
            pid: daemon.get(1),
            version: daemon.get(2),
            started_at: at_opt(daemon.get(3))?,
            stopped_at: at_opt(daemon.get(4))?,
            runs,
            unknown_orders,
            next_firings,
        })
    }

    /// The latest run of an instance for each policy, and whatever has not ended, with its tests, orders and evidence.
    pub async fn stories(&self, instance: &str) -> Result<Vec<Story>, StoreError> {
        let runs = sqlx::query(
            "SELECT v.*, r.verdict AS verdict FROM runs_v v JOIN runs r ON r.id = v.id
             WHERE v.id IN (SELECT max(r.id) FROM runs r JOIN instances i ON i.id = r.instance_id
                            WHERE i.instance = ?1 GROUP BY r.policy_id)
                OR (r.finished_at_ms IS NULL AND v.instance = ?1)
             ORDER BY v.id DESC",
        )
        .bind(instance)
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        let mut stories = Vec::with_capacity(runs.len());
        for row in &runs {
            stories.push(self.story(row).await?);
        }
        Ok(stories)
    }

    async fn story(&self, row: &SqliteRow) -> Result<Story, StoreError> {
        let run = run_record(row)?;
        let orders = sqlx::query("SELECT * FROM orders_v WHERE run_id = ?1 ORDER BY id")
            .bind(run.id)
            .fetch_all(&mut *self.readers.get().await?)
            .await?;
        let looks = sqlx::query_as(
            "SELECT order_row, strftime('%Y-%m-%dT%H:%M:%fZ', at_ms / 1000.0, 'unixepoch') AS at, finding FROM looks
             WHERE order_row IN (SELECT id FROM orders WHERE run_id = ?1) ORDER BY id",
        )
        .bind(run.id)
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        let attempts = sqlx::query_as(
            "SELECT api, strftime('%Y-%m-%dT%H:%M:%fZ', at_ms / 1000.0, 'unixepoch') AS at, class, code, request_id,
                    duration_ms FROM attempts
             WHERE order_row IN (SELECT id FROM orders WHERE run_id = ?1) ORDER BY id",
        )
        .bind(run.id)
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        let orders = orders.iter().map(order_record).collect::<Result<_, _>>()?;
        Ok(Story { run, verdict: raw(row.get("verdict"))?, orders, looks, attempts })
    }

    /// Marks at-risk instances as logged at `now` and answers those whose turn it is: daily, hourly on the
    /// last day.
    pub async fn risks_to_log(&self, now: Timestamp) -> Result<Vec<Risk>, StoreError> {
        self.writer.submit(super::risk::LogRisks { now_ms: ms(now) }).await
    }
}

pub(super) fn order_record(row: &SqliteRow) -> Result<OrderRecord, StoreError> {
    Ok(OrderRecord {
        id: row.get("id"),
        run_id: row.get("run_id"),
        policy: row.get("policy"),
        policy_revision: row.get("policy_revision"),
        account: row.get("account"),
        provider: row.get("provider"),
        product: row.get("product"),
        region: row.get("region"),
        instance: row.get("instance"),
        action: row.get("action"),
        state: row.get("state"),
        order_id: row.get("order_id"),
        request_id: row.get("request_id"),
        client_token: row.get("client_token"),
        months: row.get("months"),
        amount_cny: row.get("amount_cny"),
        expiry_before: row.get("expiry_before"),
        expiry_after: row.get("expiry_after"),
        sent_at: row.get("sent_at"),
        settled_at: row.get("settled_at"),
        error: raw(row.get("error"))?,
    })
}

pub(super) fn run_record(row: &SqliteRow) -> Result<RunRecord, StoreError> {
    Ok(RunRecord {
        id: row.get("id"),
        policy: row.get("policy"),
        policy_revision: row.get("policy_revision"),
        account: row.get("account"),
        product: row.get("product"),
        region: row.get("region"),
        instance: row.get("instance"),
        action: row.get("action"),
        origin: row.get("origin"),
        due_at: row.get("due_at"),
        missed_count: row.get("missed_count"),
        state: row.get("state"),
        attempts: row.get("attempts"),
        next_attempt_at: row.get("next_attempt_at"),
        reason: row.get("reason"),
        error: raw(row.get("error"))?,
        created_at: row.get("created_at"),
        finished_at: row.get("finished_at"),
    })
}
