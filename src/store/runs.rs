//! The retry queue: claiming runs, and recording what became of those that did not end in an order.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::observations::{known, known_columns, name, product};
use super::people::pause_reaches;
use super::writer::Change;
use super::{Store, StoreError, at, at_opt, json, ms};
use crate::domain::failure::{Class, Failure};
use crate::domain::observation::Known;
use crate::domain::order::OrderRow;
use crate::domain::policy::{ScheduleText, Terms};
use crate::domain::product::{AccountName, InstanceId, PolicyName, Product, Provider, Region};
use crate::domain::run::{Epoch, Origin, Outcome, RunId};

/// A run in the hands of a lane. Recording an outcome or an intent's answer consumes it.
#[derive(Debug)]
pub struct Claim {
    epoch: Epoch,
    pub job: Job,
    /// What was seen before it does not count: the run may have waited, and somebody renewed by hand meanwhile.
    pub claimed_at: Timestamp,
    /// The latest of the instance; the lane renews it after each look.
    pub known: Known,
}

/// What a run is about, under the policy's present revision.
#[derive(Clone, Debug)]
pub struct Job {
    pub run: RunId,
    pub policy: PolicyName,
    pub revision: i64,
    pub account: AccountName,
    pub product: Product,
    pub region: Region,
    pub instance: InstanceId,
    pub terms: Terms,
    pub schedule: ScheduleText,
    pub origin: Origin,
    pub due_at: Timestamp,
    pub missed_count: u32,
    pub attempts: u32,
    /// Orders of the present cycle that were definitely refused: each makes a new idempotency token.
    pub refusals: i64,
    /// The code of the failure it waited for.
    pub last_code: Option<String>,
    /// The latest order of this firing that was refused, by this run or the one it retries: its row, its months, and
    /// the expiry it was to move.
    pub refused: Option<(OrderRow, u32, Timestamp)>,
    /// An earlier run of the same policy and instance, for an instant no later than its own, that has not ended.
    pub elder: Option<Elder>,
    /// The latest order on the instance that was not refused, when a firing of this very revision did not make
    /// it; of a run by hand the latest whoever made it.
    pub foreign_order_at: Option<Timestamp>,
    /// A person wants it although the instance was just ordered.
    pub again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elder {
    pub run: RunId,
    pub attempts: u32,
    /// It has sent an order that is not settled.
    pub has_ordered: bool,
}

impl Claim {
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// The end of a claim without an order.
#[derive(Debug)]
pub struct Finish {
    pub outcome: Outcome,
    /// The guard's tests as JSON, for `why`.
    pub verdict: Option<serde_json::Value>,
    pub at: Timestamp,
}

impl Store {
    /// Claims up to `limit` queued runs of an account, soonest expiry first. Of an older epoch: none; of triggers
    /// only those that have not lapsed.
    pub async fn claim(
        &self,
        account: &AccountName,
        provider: Provider,
        epoch: Epoch,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Claim>, StoreError> {
        let claim = ClaimRuns { account: account.clone(), provider, epoch, limit, now };
        self.writer.submit(claim).await
    }

    /// Records what became of claimed runs. A claim of an older epoch is dropped silently: rescue has it.
    pub async fn finish(&self, finished: Vec<(Claim, Finish)>) -> Result<(), StoreError> {
        if finished.is_empty() {
            return Ok(());
        }
        let rows = finished.iter().map(|(claim, finish)| FinishRow::new(claim, finish)).collect();
        self.writer.submit(FinishRuns(rows)).await
    }

    /// Puts claims back unjudged, when the lane cannot go on with them.
    pub async fn release(&self, claims: Vec<Claim>) -> Result<(), StoreError> {
        if claims.is_empty() {
            return Ok(());
        }
        let rows = claims.iter().map(|claim| (claim.job.run.0, claim.epoch.0)).collect();
        self.writer.submit(ReleaseRuns(rows)).await
    }

    /// Puts back what a lane lost to a failure of the database: runs of this epoch that nobody has in hand and
    /// that have no intent.
    pub async fn requeue_lost(
        &self,
        account: &AccountName,
        epoch: Epoch,
        in_hand: Vec<RunId>,
    ) -> Result<(), StoreError> {
        self.writer.submit(RequeueLost { account: account.clone(), epoch, in_hand }).await
    }

    /// Ends an earlier run that has nothing under way, in favour of a later firing's.
    pub async fn take_over(
        &self,
        elder: RunId,
        by: RunId,
        why: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let reason = format!("{why}; run {by} of a later firing took over");
        self.writer.submit(TakeOver { elder, reason, now_ms: ms(now) }).await
    }
}

struct ClaimRuns {
    account: AccountName,
    provider: Provider,
    epoch: Epoch,
    limit: u32,
    now: Timestamp,
}

/// When an instance last had an order that makes one of a policy's revision unwanted if it is too near: by another
/// policy or revision, or by hand; of a run by hand any.
macro_rules! foreign_order {
    ($instance:literal, $action:literal, $policy:literal, $revision:literal, $by_hand:literal) => {
        concat!(
            "(SELECT max(f.intended_at_ms) FROM orders f JOIN runs t ON t.id = f.run_id
               WHERE f.instance_id = ",
            $instance,
            " AND f.action = ",
            $action,
            " AND f.state <> 'refused' AND (f.policy_id <> ",
            $policy,
            " OR f.policy_revision <> ",
            $revision,
            " OR ",
            $by_hand,
            " OR t.by_hand))"
        )
    };
}
pub(super) use foreign_order;

impl Change for ClaimRuns {
    type Reply = Vec<Claim>;

    async fn without_change(&self, conn: &mut SqliteConnection) -> sqlx::Result<Option<Vec<Claim>>> {
        let has_queued: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM runs WHERE account = ?1 AND state = 'queued')")
                .bind(self.account.as_str())
                .fetch_one(conn)
                .await?;
        Ok((!has_queued).then(Vec::new))
    }

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Vec<Claim>>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            replies.push(claim_one(row, conn).await?);
        }
        Ok(replies)
    }
}

async fn claim_one(row: &ClaimRuns, conn: &mut SqliteConnection) -> sqlx::Result<Vec<Claim>> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "UPDATE runs SET state = 'running', epoch = ?2, hold = NULL, next_attempt_at_ms = NULL, lapses_at_ms = NULL,
                policy_revision = (SELECT revision FROM policies p WHERE p.id = policy_id)
         WHERE ?2 = (SELECT epoch FROM daemon) AND id IN (
             SELECT r.id FROM runs r
             JOIN policies p ON p.id = r.policy_id
             JOIN policy_instances pi ON pi.policy_id = r.policy_id AND pi.instance_id = r.instance_id
             WHERE r.account = ?1 AND r.state = 'queued' AND p.stopped_at_ms IS NULL AND pi.removed_at_ms IS NULL
               AND coalesce(r.lapses_at_ms > ?4, 1)
             ORDER BY r.priority_ms, r.id LIMIT ?3)
         RETURNING id",
    )
    .bind(row.account.as_str())
    .bind(row.epoch.0)
    .bind(row.limit)
    .bind(ms(row.now))
    .fetch_all(&mut *conn)
    .await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let found = sqlx::query(concat!(
        "SELECT r.id, p.name, p.revision, p.product, p.region, i.instance, p.terms, s.expression, s.zone, r.origin,
                r.due_at_ms, r.missed_count, r.attempts, ",
        foreign_order!("r.instance_id", "r.action", "r.policy_id", "p.revision", "r.by_hand"),
        ",
                r.error ->> 'code', l.id, l.attempts,
                EXISTS (SELECT 1 FROM orders o WHERE o.run_id = l.id AND o.state IN ('intended', 'placed', 'unknown')),
                (SELECT count(*) FROM orders o WHERE o.instance_id = r.instance_id AND o.action = r.action
                    AND o.cycle IN ('cycle:' || i.cycle, 'due:' || r.due_at_ms) AND o.state = 'refused'
                    AND o.error ->> 'code' NOT IN ('NotOrdered', 'Unsent')),
                f.id, f.months, f.expiry_before_ms, r.again, ",
        known_columns!(),
        " FROM json_each(?1) e JOIN runs r ON r.id = e.value JOIN policies p ON p.id = r.policy_id
         JOIN schedules s ON s.id = p.schedule_id JOIN instances i ON i.id = r.instance_id
         LEFT JOIN runs l ON l.id = (SELECT min(x.id) FROM runs x WHERE x.instance_id = r.instance_id
             AND x.policy_id = r.policy_id AND x.finished_at_ms IS NULL AND x.id < r.id AND x.due_at_ms <= r.due_at_ms)
         LEFT JOIN orders f ON f.id = (SELECT max(y.id) FROM orders y JOIN runs v ON v.id = y.run_id
             WHERE y.instance_id = r.instance_id AND y.policy_id = r.policy_id AND v.due_at_ms = r.due_at_ms
               AND y.state = 'refused' AND y.action = 'renew')
         ORDER BY r.priority_ms, r.id"
    ))
    .bind(json(&ids)?)
    .fetch_all(&mut *conn)
    .await?;
    let mut claims = Vec::with_capacity(found.len());
    for found in &found {
        match claim(row, found) {
            Ok(claim) => claims.push(claim),
            Err(error) => fail_unreadable(found.get(0), &error, conn).await?,
        }
    }
    Ok(claims)
}

/// One row that this version cannot read must not hold up all others.
async fn fail_unreadable(run: i64, error: &StoreError, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    let text = error.to_string();
    let failure = Failure::ours(Class::Rejected, "Unreadable", &text);
    tracing::error!(
        event = "run.failed",
        run,
        class = "rejected",
        code = "Unreadable",
        "run {run} is failed: {text}"
    );
    sqlx::query(
        "UPDATE runs SET state = 'failed', epoch = NULL, reason = ?2, error = ?3,
                finished_at_ms = cast(unixepoch('subsec') * 1000 AS INTEGER) WHERE id = ?1",
    )
    .bind(run)
    .bind(&text)
    .bind(json(&failure)?)
    .execute(conn)
    .await?;
    Ok(())
}

fn claim(query: &ClaimRuns, row: &SqliteRow) -> Result<Claim, StoreError> {
    let origin: &str = row.get(9);
    let job = Job {
        run: RunId(row.get(0)),
        policy: name(row.get(1), PolicyName::parse)?,
        revision: row.get(2),
        account: query.account.clone(),
        product: product(query.provider, row.get(3))?,
        region: name(row.get(4), Region::parse)?,
        instance: name(row.get(5), InstanceId::parse)?,
        terms: terms(row.get(6))?,
        schedule: ScheduleText { expression: row.get(7), zone: row.get(8) },
        origin: Origin::parse(origin).ok_or_else(|| StoreError::Decode(format!("origin {origin}")))?,
        due_at: at(row.get(10))?,
        missed_count: row.get(11),
        attempts: row.get(12),
        foreign_order_at: at_opt(row.get(13))?,
        refusals: row.get(18),
        again: row.get(22),
        last_code: row.get(14),
        refused: refused(row, 19)?,
        elder: row.get::<Option<i64>, _>(15).map(|run| Elder {
            run: RunId(run),
            attempts: row.get(16),
            has_ordered: row.get(17),
        }),
    };
    Ok(Claim { epoch: query.epoch, job, claimed_at: query.now, known: known(row, 23)? })
}

fn refused(row: &SqliteRow, first: usize) -> Result<Option<(OrderRow, u32, Timestamp)>, StoreError> {
    let (id, months, before) = (row.get(first), row.get(first + 1), at_opt(row.get(first + 2))?);
    Ok(match (id, months, before) {
        (Some(id), Some(months), Some(before)) => Some((OrderRow(id), months, before)),
        _ => None,
    })
}

pub(super) fn terms(text: &str) -> Result<Terms, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Decode(format!("policy terms: {error}")))
}

#[derive(Serialize)]
struct FinishRow {
    run: i64,
    epoch: i64,
    now_ms: i64,
    state: &'static str,
    hold: Option<&'static str>,
    next_attempt_at_ms: Option<i64>,
    counts: bool,
    reason: String,
    verdict: Option<String>,
    error: Option<Failure>,
    finished_at_ms: Option<i64>,
}

impl FinishRow {
    fn new(claim: &Claim, finish: &Finish) -> FinishRow {
        let row = FinishRow {
            run: claim.job.run.0,
            epoch: claim.epoch.0,
            now_ms: ms(finish.at),
            state: "",
            hold: None,
            next_attempt_at_ms: None,
            counts: false,
            reason: String::new(),
            verdict: finish.verdict.as_ref().map(ToString::to_string),
            error: None,
            finished_at_ms: Some(ms(finish.at)),
        };
        match &finish.outcome {
            Outcome::Skipped { reason } => FinishRow { state: "skipped", reason: reason.clone(), ..row },
            Outcome::Failed { reason, failure } => {
                FinishRow { state: "failed", reason: reason.clone(), error: failure.clone(), ..row }
            }
            Outcome::Wait { until, reason, hold, failure, counts } => FinishRow {
                state: "waiting",
                hold: Some(hold.as_str()),
                next_attempt_at_ms: Some(ms(*until)),
                counts: *counts,
                reason: reason.clone(),
                error: failure.clone(),
                finished_at_ms: None,
                ..row
            },
        }
    }
}

struct FinishRuns(Vec<FinishRow>);

impl Change for FinishRuns {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        let all: Vec<&FinishRow> = rows.iter().flat_map(|row| &row.0).collect();
        sqlx::query(concat!(
            "UPDATE runs SET state = e.value ->> 'state', epoch = NULL, hold = e.value ->> 'hold',
                    -- A pause that was lifted a moment ago has already woken its runs: this one must not sleep on.
                    next_attempt_at_ms = iif(e.value ->> 'hold' = 'pause' AND NOT EXISTS (
                            SELECT 1 FROM pauses z WHERE z.lifted_at_ms IS NULL AND ",
            pause_reaches!("z", "runs.account", "(SELECT p.name FROM policies p WHERE p.id = runs.policy_id)"),
            "),
                        e.value ->> 'now_ms', e.value ->> 'next_attempt_at_ms'),
                    attempts = attempts + (e.value ->> 'counts'), reason = e.value ->> 'reason',
                    verdict = coalesce(e.value ->> 'verdict', verdict), error = nullif(e.value -> 'error', 'null'),
                    finished_at_ms = e.value ->> 'finished_at_ms'
             FROM json_each(?1) e
             WHERE runs.id = e.value ->> 'run' AND state = 'running' AND epoch = e.value ->> 'epoch'
               AND epoch = (SELECT epoch FROM daemon)"
        ))
        .bind(json(&all)?)
        .execute(conn)
        .await?;
        Ok(vec![(); rows.len()])
    }
}

struct ReleaseRuns(Vec<(i64, i64)>);

impl Change for ReleaseRuns {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        let all: Vec<&(i64, i64)> = rows.iter().flat_map(|row| &row.0).collect();
        sqlx::query(
            "UPDATE runs SET state = 'queued', epoch = NULL FROM json_each(?1) e
             WHERE runs.id = e.value ->> 0 AND state = 'running' AND epoch = e.value ->> 1",
        )
        .bind(json(&all)?)
        .execute(conn)
        .await?;
        Ok(vec![(); rows.len()])
    }
}

struct RequeueLost {
    account: AccountName,
    epoch: Epoch,
    in_hand: Vec<RunId>,
}

impl Change for RequeueLost {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        for row in rows {
            sqlx::query(
                "UPDATE runs SET state = 'queued', epoch = NULL
                 WHERE finished_at_ms IS NULL AND account = ?1 AND state = 'running' AND epoch = ?2
                   AND id NOT IN (SELECT value FROM json_each(?3))
                   AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.run_id = runs.id AND o.state = 'intended')",
            )
            .bind(row.account.as_str())
            .bind(row.epoch.0)
            .bind(json(&row.in_hand)?)
            .execute(&mut *conn)
            .await?;
        }
        Ok(vec![(); rows.len()])
    }
}

struct TakeOver {
    elder: RunId,
    reason: String,
    now_ms: i64,
}

impl Change for TakeOver {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        for row in rows {
            sqlx::query(
                "UPDATE runs SET state = 'skipped', hold = NULL, next_attempt_at_ms = NULL, finished_at_ms = ?3, reason = ?2
                 WHERE id = ?1 AND state IN ('waiting', 'queued') AND coalesce(hold, '') <> 'confirmation'",
            )
            .bind(row.elder.0)
            .bind(&row.reason)
            .bind(row.now_ms)
            .execute(&mut *conn)
            .await?;
        }
        Ok(vec![(); rows.len()])
    }
}
