//! Firings: which schedules are due, and turning each due instant into queued runs.
//!
//! A firing row and the move of its schedule's watermark are one transaction; runs are then queued in chunks,
//! so that lanes get their turn at the writer. A crash in between goes on where the last chunk ended.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, SqliteConnection};

use super::writer::Change;
use super::{Store, StoreError, at, json, ms};
use crate::domain::policy::ScheduleText;
use crate::domain::run::Origin;

/// Runs queued in one transaction.
const CHUNK_RUNS: i64 = 10_000;

/// A schedule whose next instant has come or is near.
#[derive(Clone, Debug)]
pub struct DueSchedule {
    pub id: i64,
    pub text: ScheduleText,
    pub watermark: Timestamp,
    pub next_due: Timestamp,
    /// Policies that became active after the watermark, by that instant: they count fewer instants.
    pub joined_at: Vec<Timestamp>,
    pub has_every_fire: bool,
}

/// All that a schedule owes up to its new watermark.
#[derive(Clone, Debug)]
pub struct Firing {
    pub schedule_id: i64,
    /// The watermark that was planned from; a firing planned from another is void.
    pub watermark_before: Timestamp,
    pub watermark: Timestamp,
    pub next_due: Option<Timestamp>,
    pub rows: Vec<FiringRow>,
    /// What is not made up for.
    pub too_old: Vec<TooOld>,
}

/// Instants that `every_fire` policies, active since within a span, have missed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooOld {
    /// Since later than this …
    pub active_after: Option<Timestamp>,
    /// … and no later than this.
    pub active_through: Timestamp,
    pub count: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiringRow {
    pub origin: Origin,
    pub due_at: Timestamp,
    pub missed_count: u32,
    /// Only policies with `every_fire` or only those without; None: all.
    pub every_fire: Option<bool>,
    /// Only policies active since later than this …
    pub active_after: Option<Timestamp>,
    /// … and since no later than this.
    pub active_through: Timestamp,
    /// Only this policy.
    pub policy_id: Option<i64>,
}

/// Runs queued for one policy by one firing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    pub policy: String,
    pub origin: Origin,
    pub due_at: Timestamp,
    pub missed_count: u32,
    pub runs: u32,
    /// Some of its runs were queued before: it is the same firing.
    pub is_continued: bool,
}

impl Store {
    /// Schedules due by then, the most overdue first.
    pub async fn schedules_due(&self, by: Timestamp) -> Result<Vec<DueSchedule>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.id, s.expression, s.zone, s.watermark_ms, s.next_due_ms,
                    (SELECT json_group_array(DISTINCT p.active_since_ms) FROM policies p
                      WHERE p.schedule_id = s.id AND p.stopped_at_ms IS NULL AND p.active_since_ms > s.watermark_ms),
                    EXISTS (SELECT 1 FROM policies p
                      WHERE p.schedule_id = s.id AND p.stopped_at_ms IS NULL AND p.every_fire)
             FROM schedules s WHERE s.next_due_ms <= ?1 ORDER BY s.next_due_ms",
        )
        .bind(ms(by))
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        rows.iter()
            .map(|row| {
                let joined: Vec<i64> = serde_json::from_str(row.get(5))
                    .map_err(|error| StoreError::Decode(format!("active since: {error}")))?;
                Ok(DueSchedule {
                    id: row.get(0),
                    text: ScheduleText { expression: row.get(1), zone: row.get(2) },
                    watermark: at(row.get(3))?,
                    next_due: at(row.get(4))?,
                    joined_at: joined.into_iter().map(at).collect::<Result<_, _>>()?,
                    has_every_fire: row.get(6),
                })
            })
            .collect()
    }

    /// Makes the firings durable and moves the watermarks with them.
    pub async fn fire(&self, firings: Vec<Firing>) -> Result<(), StoreError> {
        if firings.is_empty() {
            return Ok(());
        }
        self.writer.submit(Fire(firings.iter().map(FireRow::from).collect())).await
    }

    /// Queues the next chunk of runs; None when every firing is queued whole.
    pub async fn queue_runs(&self, now: Timestamp) -> Result<Option<Vec<Fired>>, StoreError> {
        self.writer.submit(QueueRuns { now_ms: ms(now) }).await
    }

    /// When a policy fires next.
    pub async fn next_firing(&self, policy: &str) -> Result<Option<Timestamp>, StoreError> {
        let next: Option<Option<i64>> = sqlx::query_scalar(
            "SELECT s.next_due_ms FROM policies p JOIN schedules s ON s.id = p.schedule_id
             WHERE p.name = ?1 AND p.stopped_at_ms IS NULL",
        )
        .bind(policy)
        .fetch_optional(&mut *self.readers.get().await?)
        .await?;
        next.flatten().map(at).transpose()
    }

    /// Schedules whose watermark lies in the future: the clock went back since it was written.
    pub async fn schedules_ahead(
        &self,
        now: Timestamp,
    ) -> Result<Vec<(i64, ScheduleText, Timestamp)>, StoreError> {
        let rows =
            sqlx::query("SELECT id, expression, zone, watermark_ms FROM schedules WHERE watermark_ms > ?1")
                .bind(ms(now))
                .fetch_all(&mut *self.readers.get().await?)
                .await?;
        rows.iter()
            .map(|row| {
                Ok((row.get(0), ScheduleText { expression: row.get(1), zone: row.get(2) }, at(row.get(3))?))
            })
            .collect()
    }

    /// Schedules that a live policy uses and that have no next instant yet, as after an edit.
    pub async fn schedules_unplanned(&self) -> Result<Vec<(i64, ScheduleText, Timestamp)>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.id, s.expression, s.zone, s.watermark_ms FROM schedules s WHERE s.next_due_ms IS NULL AND EXISTS
                 (SELECT 1 FROM policies p WHERE p.schedule_id = s.id AND p.stopped_at_ms IS NULL)",
        )
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok((row.get(0), ScheduleText { expression: row.get(1), zone: row.get(2) }, at(row.get(3))?))
            })
            .collect()
    }
}

#[derive(Serialize)]
struct FireRow {
    schedule_id: i64,
    before_ms: i64,
    watermark_ms: i64,
    next_due_ms: Option<i64>,
    rows: Vec<PlannedRow>,
    too_old: Vec<TooOldRow>,
}

#[derive(Serialize)]
struct TooOldRow {
    active_after_ms: i64,
    active_through_ms: i64,
    count: u32,
}

#[derive(Serialize)]
struct PlannedRow {
    origin: &'static str,
    due_at_ms: i64,
    missed_count: u32,
    every_fire: Option<bool>,
    active_after_ms: i64,
    active_through_ms: i64,
    policy_id: Option<i64>,
}

impl From<&FiringRow> for PlannedRow {
    fn from(row: &FiringRow) -> PlannedRow {
        PlannedRow {
            origin: row.origin.as_str(),
            due_at_ms: ms(row.due_at),
            missed_count: row.missed_count,
            every_fire: row.every_fire,
            active_after_ms: row.active_after.map_or(i64::MIN, ms),
            active_through_ms: ms(row.active_through),
            policy_id: row.policy_id,
        }
    }
}

impl From<&Firing> for FireRow {
    fn from(firing: &Firing) -> FireRow {
        FireRow {
            schedule_id: firing.schedule_id,
            before_ms: ms(firing.watermark_before),
            watermark_ms: ms(firing.watermark),
            next_due_ms: firing.next_due.map(ms),
            rows: firing.rows.iter().map(PlannedRow::from).collect(),
            too_old: firing.too_old.iter().map(TooOldRow::from).collect(),
        }
    }
}

impl From<&TooOld> for TooOldRow {
    fn from(too_old: &TooOld) -> TooOldRow {
        TooOldRow {
            active_after_ms: too_old.active_after.map_or(i64::MIN, ms),
            active_through_ms: ms(too_old.active_through),
            count: too_old.count,
        }
    }
}

struct Fire(Vec<FireRow>);

impl Change for Fire {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        // One caller after the other: of two that planned from the same watermark the second finds it moved.
        for Fire(firings) in rows {
            fire(firings, conn).await?;
        }
        Ok(vec![(); rows.len()])
    }
}

async fn fire(firings: &[FireRow], conn: &mut SqliteConnection) -> sqlx::Result<()> {
    let text = json(&firings)?;
    sqlx::query(
        "INSERT INTO firings (schedule_id, policy_id, origin, due_at_ms, missed_count, every_fire,
                 active_after_ms, active_through_ms)
             SELECT s.id, r.value ->> 'policy_id', r.value ->> 'origin', r.value ->> 'due_at_ms',
                    r.value ->> 'missed_count', r.value ->> 'every_fire', r.value ->> 'active_after_ms',
                    r.value ->> 'active_through_ms'
             FROM json_each(?1) e
             JOIN schedules s ON s.id = e.value ->> 'schedule_id' AND s.watermark_ms = e.value ->> 'before_ms'
             JOIN json_each(e.value, '$.rows') r",
    )
    .bind(&text)
    .execute(&mut *conn)
    .await?;
    if firings.iter().any(|firing| !firing.too_old.is_empty()) {
        count_too_old(&text, conn).await?;
    }
    sqlx::query(
            "UPDATE schedules SET watermark_ms = e.value ->> 'watermark_ms', next_due_ms = e.value ->> 'next_due_ms'
             FROM json_each(?1) e WHERE schedules.id = e.value ->> 'schedule_id' AND watermark_ms = e.value ->> 'before_ms'",
        )
        .bind(&text)
        .execute(conn)
        .await?;
    Ok(())
}

/// Before the watermarks move, as they tell which of the firings are void. Each policy misses each instant.
async fn count_too_old(firings: &str, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE firing_counts SET firings = firings + coalesce((
             SELECT sum(t.value ->> 'count') FROM json_each(?1) e
             JOIN schedules s ON s.id = e.value ->> 'schedule_id' AND s.watermark_ms = e.value ->> 'before_ms'
             JOIN json_each(e.value, '$.too_old') t
             JOIN policies p ON p.schedule_id = s.id AND p.stopped_at_ms IS NULL AND p.every_fire
              AND p.active_since_ms > t.value ->> 'active_after_ms'
              AND p.active_since_ms <= t.value ->> 'active_through_ms'), 0)
         WHERE kind = 'too_old'",
    )
    .bind(firings)
    .execute(conn)
    .await?;
    Ok(())
}

/// One more firing, beside its schedule's own course.
pub(super) async fn insert_firing(
    schedule_id: i64,
    row: &FiringRow,
    conn: &mut SqliteConnection,
) -> sqlx::Result<()> {
    let row = PlannedRow::from(row);
    sqlx::query(
        "INSERT INTO firings (schedule_id, policy_id, origin, due_at_ms, missed_count, every_fire,
             active_after_ms, active_through_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(schedule_id)
    .bind(row.policy_id)
    .bind(row.origin)
    .bind(row.due_at_ms)
    .bind(row.missed_count)
    .bind(row.every_fire)
    .bind(row.active_after_ms)
    .bind(row.active_through_ms)
    .execute(conn)
    .await?;
    Ok(())
}

struct QueueRuns {
    now_ms: i64,
}

impl Change for QueueRuns {
    type Reply = Option<Vec<Fired>>;

    async fn without_change(&self, conn: &mut SqliteConnection) -> sqlx::Result<Option<Self::Reply>> {
        let has_firing: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM firings)").fetch_one(conn).await?;
        Ok((!has_firing).then_some(None))
    }

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Self::Reply>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            replies.push(queue_chunk(row.now_ms, conn).await?);
        }
        Ok(replies)
    }
}

/// Which policies and instances a firing `f` is for, beyond its cursor, in cursor order.
macro_rules! firing_targets {
    () => {
        "FROM firings f JOIN policies p ON p.schedule_id = f.schedule_id AND p.stopped_at_ms IS NULL
                                       AND p.id >= f.queued_policy_id
         CROSS JOIN policy_instances pi ON pi.policy_id = p.id AND pi.removed_at_ms IS NULL
         WHERE f.id = ?1 AND (p.id > f.queued_policy_id OR pi.instance_id > f.queued_instance_id)
           AND p.active_since_ms > f.active_after_ms AND p.active_since_ms <= f.active_through_ms
           AND (f.every_fire IS NULL OR p.every_fire = f.every_fire)
           AND (f.policy_id IS NULL OR p.id = f.policy_id)"
    };
}

/// A firing's leftover chunk or several small firings at once, up to the chunk's size.
async fn queue_chunk(now_ms: i64, conn: &mut SqliteConnection) -> sqlx::Result<Option<Vec<Fired>>> {
    let mut fired = Vec::new();
    let mut room = CHUNK_RUNS;
    let mut any = false;
    while room > 0 {
        let firing: Option<i64> = sqlx::query_scalar("SELECT id FROM firings ORDER BY id LIMIT 1")
            .fetch_optional(&mut *conn)
            .await?;
        let Some(firing) = firing else { break };
        any = true;
        let queued = queue_firing(firing, room, now_ms, conn).await?;
        room -= queued.iter().map(|fired| i64::from(fired.runs)).sum::<i64>().max(1);
        fired.extend(queued);
    }
    count_fired(&fired, conn).await?;
    Ok(any.then_some(fired))
}

async fn count_fired(fired: &[Fired], conn: &mut SqliteConnection) -> sqlx::Result<()> {
    let begun = || fired.iter().filter(|fired| !fired.is_continued);
    let missed: u64 = begun().map(|fired| u64::from(fired.missed_count)).sum();
    for (kind, firings) in [("fired", begun().count() as u64), ("caught_up", missed)] {
        if firings > 0 {
            sqlx::query("UPDATE firing_counts SET firings = firings + ?2 WHERE kind = ?1")
                .bind(kind)
                .bind(i64::try_from(firings).unwrap_or(i64::MAX))
                .execute(&mut *conn)
                .await?;
        }
    }
    Ok(())
}

async fn queue_firing(
    firing: i64,
    room: i64,
    now_ms: i64,
    conn: &mut SqliteConnection,
) -> sqlx::Result<Vec<Fired>> {
    let last = sqlx::query(concat!(
        "SELECT p.id, pi.instance_id ",
        firing_targets!(),
        " ORDER BY p.id, pi.instance_id LIMIT 1 OFFSET ?2"
    ))
    .bind(firing)
    .bind(room - 1)
    .fetch_optional(&mut *conn)
    .await?;
    let last: Option<(i64, i64)> = last.map(|row| (row.get(0), row.get(1)));
    let (policy, instance) = last.unwrap_or((i64::MAX, i64::MAX));
    sqlx::query(concat!(
        "INSERT INTO runs (policy_id, policy_revision, instance_id, account, action, origin, due_at_ms,
             missed_count, priority_ms, created_at_ms)
         SELECT p.id, p.revision, pi.instance_id, p.account, p.action, f.origin, f.due_at_ms, f.missed_count,
             coalesce((SELECT expires_at_ms FROM instances i WHERE i.id = pi.instance_id), 0), ?2 ",
        firing_targets!(),
        " AND (p.id < ?3 OR (p.id = ?3 AND pi.instance_id <= ?4))
         ORDER BY p.id, pi.instance_id ON CONFLICT DO NOTHING"
    ))
    .bind(firing)
    .bind(now_ms)
    .bind(policy)
    .bind(instance)
    .execute(&mut *conn)
    .await?;
    let fired = fired_by(firing, policy, instance, conn).await?;
    if last.is_some() {
        sqlx::query("UPDATE firings SET queued_policy_id = ?2, queued_instance_id = ?3 WHERE id = ?1")
            .bind(firing)
            .bind(policy)
            .bind(instance)
            .execute(conn)
            .await?;
    } else {
        sqlx::query("DELETE FROM firings WHERE id = ?1").bind(firing).execute(conn).await?;
    }
    Ok(fired)
}

async fn fired_by(
    firing: i64,
    policy: i64,
    instance: i64,
    conn: &mut SqliteConnection,
) -> sqlx::Result<Vec<Fired>> {
    let rows = sqlx::query(concat!(
        "SELECT p.name, f.origin, f.due_at_ms, f.missed_count, count(*),
             p.id = f.queued_policy_id AND f.queued_instance_id > 0 ",
        firing_targets!(),
        " AND (p.id < ?2 OR (p.id = ?2 AND pi.instance_id <= ?3)) GROUP BY p.id"
    ))
    .bind(firing)
    .bind(policy)
    .bind(instance)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let decode = |error: StoreError| sqlx::Error::Decode(error.into());
            Ok(Fired {
                policy: row.get(0),
                origin: Origin::parse(row.get(1)).unwrap_or(Origin::Schedule),
                due_at: at(row.get(2)).map_err(decode)?,
                missed_count: row.get(3),
                runs: row.get(4),
                is_continued: row.get(5),
            })
        })
        .collect()
}
