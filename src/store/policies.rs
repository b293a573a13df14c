//! Policies with their revisions: taking a whole valid set into force, all or nothing.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};

use super::firings::{FiringRow, insert_firing};
use super::policy_files::{FileEntry, forget_but, remember};
use super::writer::Change;
use super::{Store, StoreError, at, json, ms};
use crate::domain::policy::{EVERY_FIRE_CATCH_UP, Policy};
use crate::domain::product::Identity;
use crate::domain::run::Origin;
use crate::schedule::Schedule;

/// A policy of the set on disk.
#[derive(Clone, Debug)]
pub struct PolicyEntry {
    pub policy: Policy,
    /// `FILE:LINE` of its table, for people.
    pub source: String,
    /// Over everything the policy says; equal digests are the same revision.
    pub digest: String,
}

/// The set on disk, as it is taken into force.
#[derive(Clone, Debug, Default)]
pub struct NewSet {
    /// Those of all files but the unchanged ones.
    pub policies: Vec<PolicyEntry>,
    pub digest: String,
    /// Files to be known from now on.
    pub parsed: Vec<FileEntry>,
    /// The paths of known files, whose policies stay as they are.
    pub unchanged: Vec<String>,
}

/// What taking a set into force changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub changes: Vec<PolicyChange>,
    pub policies: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChange {
    pub policy: String,
    pub revision: i64,
    pub kind: ChangeKind,
    /// When it would have fired next; None where it did not.
    pub next_due_before: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Changed,
    /// It had been retired and is back under its old name.
    Returned,
    Retired,
}

impl ChangeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Added => "added",
            ChangeKind::Changed => "changed",
            ChangeKind::Returned => "returned",
            ChangeKind::Retired => "retired",
        }
    }
}

impl Store {
    /// Takes a set into force in one transaction. What is due under the old set is owed under it: while anything
    /// due is not queued yet the answer is None and nothing has changed; fire, and apply again.
    pub async fn apply_policies(
        &self,
        set: impl Into<Arc<NewSet>>,
        now: Timestamp,
    ) -> Result<Option<Applied>, StoreError> {
        self.writer.submit(Apply { set: set.into(), now_ms: ms(now) }).await
    }

    /// How many there are, the disabled with them.
    pub async fn policies_in_force(&self) -> Result<usize, StoreError> {
        Ok(in_force(&mut *self.readers.get().await?).await?)
    }
}

async fn in_force(conn: &mut SqliteConnection) -> sqlx::Result<usize> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM policies WHERE retired_at_ms IS NULL")
        .fetch_one(conn)
        .await?;
    Ok(usize::try_from(count).unwrap_or(0))
}

struct Apply {
    set: Arc<NewSet>,
    now_ms: i64,
}

/// What the database holds of a name.
struct Stored {
    id: i64,
    revision: i64,
    digest: String,
    source: String,
    schedule_id: i64,
    was_enabled: bool,
    retired_at_ms: Option<i64>,
    next_due_ms: Option<i64>,
}

impl Stored {
    fn is_retired(&self) -> bool {
        self.retired_at_ms.is_some()
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.next_due_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok())
    }
}

impl Change for Apply {
    type Reply = Option<Applied>;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Option<Applied>>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            replies.push(if owes_firings(row.now_ms, conn).await? {
                None
            } else {
                Some(apply_set(row, conn).await?)
            });
        }
        Ok(replies)
    }
}

async fn owes_firings(now_ms: i64, conn: &mut SqliteConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM schedules WHERE next_due_ms <= ?1) OR EXISTS (SELECT 1 FROM firings)",
    )
    .bind(now_ms)
    .fetch_one(conn)
    .await
}

async fn apply_set(apply: &Apply, conn: &mut SqliteConnection) -> sqlx::Result<Applied> {
    let set = &apply.set;
    forget_but(&set.unchanged, conn).await?;
    let stored = stored(conn).await?;
    let mut changes = Vec::new();
    // Names already known first: one that comes back to a schedule at rest finds its watermark where it left it.
    let (known, new): (Vec<_>, Vec<_>) =
        set.policies.iter().partition(|entry| stored.contains_key(entry.policy.name.as_str()));
    for entry in known.into_iter().chain(new) {
        let name = entry.policy.name.as_str();
        let (kind, revision) = match stored.get(name) {
            Some(old) if old.digest == entry.digest && !old.is_retired() => {
                if old.source != entry.source {
                    move_source(old, entry, conn).await?;
                }
                continue;
            }
            Some(old) => (change(old, entry, apply.now_ms, conn).await?, old.revision),
            None => (add(entry, apply.now_ms, conn).await?, 0),
        };
        if let Some(old) = stored.get(name) {
            make_up_for_absence(old, conn).await?;
        }
        let revision = if kind == ChangeKind::Returned { revision } else { revision + 1 };
        let next_due_before = stored.get(name).and_then(Stored::next_due);
        changes.push(PolicyChange { policy: name.to_owned(), revision, kind, next_due_before });
    }
    changes.extend(retire(apply, &stored, conn).await?);
    remember(&set.parsed, conn).await?;
    rest_unused_schedules(conn).await?;
    if !changes.is_empty() {
        begin_totals(conn).await?;
    }
    sqlx::query(
        "UPDATE daemon SET set_digest = ?1, set_accepted_at_ms = ?2, refused_at_ms = NULL, refused_digest = NULL,
                refused_text = NULL",
    )
    .bind(&set.digest)
    .bind(apply.now_ms)
    .execute(&mut *conn)
    .await?;
    Ok(Applied { changes, policies: in_force(conn).await? })
}

/// A total that begins with its first event shows nobody that it grew: those of a new account or product begin with 0.
async fn begin_totals(conn: &mut SqliteConnection) -> sqlx::Result<()> {
    let totals = [
        "INSERT INTO spending (account, fen)
         SELECT DISTINCT account, 0 FROM policies WHERE retired_at_ms IS NULL ON CONFLICT DO NOTHING",
        "INSERT INTO run_ends (account, product, state, runs)
         SELECT p.account, p.product, s.value, 0
         FROM (SELECT DISTINCT account, product FROM policies WHERE retired_at_ms IS NULL) p
         CROSS JOIN json_each('[\"succeeded\", \"skipped\", \"failed\", \"cancelled\"]') s
         WHERE true ON CONFLICT DO NOTHING",
        "INSERT INTO order_entries (account, product, action, state, orders)
         SELECT p.account, p.product, p.action, s.value, 0
         FROM (SELECT DISTINCT account, product, action FROM policies WHERE retired_at_ms IS NULL) p
         CROSS JOIN json_each('[\"intended\", \"placed\", \"confirmed\", \"refused\", \"unknown\"]') s
         WHERE true ON CONFLICT DO NOTHING",
    ];
    for begin in totals {
        sqlx::query(begin).execute(&mut *conn).await?;
    }
    Ok(())
}

/// All but those of unchanged files.
async fn stored(conn: &mut SqliteConnection) -> sqlx::Result<HashMap<String, Stored>> {
    let rows = sqlx::query(
        "SELECT p.name, p.id, p.revision, p.digest, p.schedule_id, p.enabled, p.retired_at_ms,
                iif(p.stopped_at_ms IS NULL, s.next_due_ms, NULL), p.source
         FROM policies p JOIN schedules s ON s.id = p.schedule_id WHERE p.file_id IS NULL",
    )
    .fetch_all(conn)
    .await?;
    let stored = rows.iter().map(|row| {
        let stored = Stored {
            id: row.get(1),
            revision: row.get(2),
            digest: row.get(3),
            schedule_id: row.get(4),
            was_enabled: row.get(5),
            retired_at_ms: row.get(6),
            next_due_ms: row.get(7),
            source: row.get(8),
        };
        (row.get(0), stored)
    });
    Ok(stored.collect())
}

/// It says the same in another file, or on another line.
async fn move_source(old: &Stored, entry: &PolicyEntry, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    let update = sqlx::query("UPDATE policies SET source = ?2 WHERE id = ?1");
    update.bind(old.id).bind(&entry.source).execute(conn).await?;
    Ok(())
}

async fn add(entry: &PolicyEntry, now_ms: i64, conn: &mut SqliteConnection) -> sqlx::Result<ChangeKind> {
    let policy = &entry.policy;
    let schedule_id = schedule(entry, now_ms, conn).await?;
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO policies (name, revision, digest, account, provider, product, region, action, every_fire, terms,
             schedule_id, source, enabled, active_since_ms, accepted_at_ms, stopped_at_ms)
         VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13, iif(?12, NULL, ?13)) RETURNING id",
    )
    .bind(policy.name.as_str())
    .bind(&entry.digest)
    .bind(policy.account.as_str())
    .bind(policy.provider().as_str())
    .bind(policy.product.as_str())
    .bind(policy.region.as_str())
    .bind(policy.terms.action.kind().as_str())
    .bind(policy.terms.action.is_every_fire())
    .bind(json(&policy.terms)?)
    .bind(schedule_id)
    .bind(&entry.source)
    .bind(policy.enabled)
    .bind(now_ms)
    .fetch_one(&mut *conn)
    .await?;
    write_instances(id, policy, now_ms, conn).await?;
    write_revision(id, now_ms, conn).await?;
    Ok(ChangeKind::Added)
}

/// A policy starts at now when it is new, re-enabled or rescheduled; one that comes back unchanged keeps its
/// past, so that firings missed while its file was away are caught up.
async fn change(
    old: &Stored,
    entry: &PolicyEntry,
    now_ms: i64,
    conn: &mut SqliteConnection,
) -> sqlx::Result<ChangeKind> {
    let policy = &entry.policy;
    let schedule_id = schedule(entry, now_ms, conn).await?;
    let starts_now = schedule_id != old.schedule_id || !old.was_enabled;
    let is_new_revision = old.digest != entry.digest;
    sqlx::query(
        "UPDATE policies SET revision = revision + ?2, digest = ?3, account = ?4, provider = ?5, product = ?6,
                region = ?7, action = ?8, every_fire = ?9, terms = ?10, schedule_id = ?11, source = ?12, enabled = ?13,
                active_since_ms = iif(?14, ?15, active_since_ms), accepted_at_ms = ?15,
                stopped_at_ms = iif(?13, NULL, coalesce(stopped_at_ms, ?15)), retired_at_ms = NULL
         WHERE id = ?1",
    )
    .bind(old.id)
    .bind(is_new_revision)
    .bind(&entry.digest)
    .bind(policy.account.as_str())
    .bind(policy.provider().as_str())
    .bind(policy.product.as_str())
    .bind(policy.region.as_str())
    .bind(policy.terms.action.kind().as_str())
    .bind(policy.terms.action.is_every_fire())
    .bind(json(&policy.terms)?)
    .bind(schedule_id)
    .bind(&entry.source)
    .bind(policy.enabled)
    .bind(starts_now)
    .bind(now_ms)
    .execute(&mut *conn)
    .await?;
    write_instances(old.id, policy, now_ms, conn).await?;
    move_unsent_runs(old.id, policy, conn).await?;
    if is_new_revision {
        write_revision(old.id, now_ms, conn).await?;
    }
    Ok(if old.is_retired() && !is_new_revision { ChangeKind::Returned } else { ChangeKind::Changed })
}

/// Unsent work is judged under the new revision, and so paid for by the new account.
async fn move_unsent_runs(policy_id: i64, policy: &Policy, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE runs SET account = ?2 WHERE policy_id = ?1 AND account <> ?2
           AND (state = 'queued' OR (state = 'waiting' AND hold <> 'confirmation'))",
    )
    .bind(policy_id)
    .bind(policy.account.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

/// An enabled policy that is back to a schedule which others kept going, if only for a while, has missed what fired
/// meanwhile: it is caught up in the same transaction, so that no crash can lose it.
async fn make_up_for_absence(old: &Stored, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    let Some(retired_at_ms) = old.retired_at_ms else { return Ok(()) };
    let row = sqlx::query(
        "SELECT p.id, s.id, s.expression, s.zone, s.watermark_ms, p.every_fire
         FROM policies p JOIN schedules s ON s.id = p.schedule_id
         WHERE p.id = ?1 AND p.stopped_at_ms IS NULL AND s.watermark_ms > ?2
           AND p.active_since_ms <= ?2",
    )
    .bind(old.id)
    .bind(retired_at_ms)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let decode = |error: StoreError| sqlx::Error::Decode(error.into());
    let through = at(row.get(4)).map_err(decode)?;
    let mut after = at(retired_at_ms).map_err(decode)?;
    if row.get(5) {
        after = after.max(through - EVERY_FIRE_CATCH_UP);
    }
    let Ok(schedule) = Schedule::parse(row.get(2), row.get(3)) else { return Ok(()) };
    let Some(missed) = schedule.missed_between(after, through) else { return Ok(()) };
    let row_of_firing = FiringRow {
        origin: Origin::CatchUp,
        due_at: missed.last,
        missed_count: missed.count,
        every_fire: None,
        active_after: None,
        active_through: after,
        policy_id: Some(row.get(0)),
    };
    insert_firing(row.get(1), &row_of_firing, conn).await
}

/// The row of (expression, zone). One that slept, used by nobody, wakes at its old watermark only for a policy
/// that comes back to it, whose active_since is older; newcomers are not owed what came before them.
async fn schedule(entry: &PolicyEntry, now_ms: i64, conn: &mut SqliteConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "INSERT INTO schedules (expression, zone, watermark_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (expression, zone) DO UPDATE SET watermark_ms = iif(
             next_due_ms IS NULL AND NOT EXISTS (SELECT 1 FROM policies p
                 WHERE p.schedule_id = schedules.id AND (p.stopped_at_ms IS NULL OR p.name = ?4)),
             max(?3, watermark_ms), watermark_ms)
         RETURNING id",
    )
    .bind(&entry.policy.schedule.expression)
    .bind(&entry.policy.schedule.zone)
    .bind(now_ms)
    .bind(entry.policy.name.as_str())
    .fetch_one(conn)
    .await
}

/// The CROSS JOINs keep the policy's ids outside: the planner would walk all instances of the region for each of them.
async fn write_instances(
    policy_id: i64,
    policy: &Policy,
    now_ms: i64,
    conn: &mut SqliteConnection,
) -> sqlx::Result<()> {
    let ids: Vec<&str> = policy.instances.iter().map(|id| id.as_str()).collect();
    let text = json(&ids)?;
    let provider = policy.provider().as_str();
    let region = policy.instances.first().map(|id| Identity::new(policy.product, &policy.region, id).region);
    let region = region.as_ref().map_or("", |region| region.as_str());
    sqlx::query(
        "INSERT INTO instances (provider, region, instance, known_since_ms)
         SELECT ?1, ?2, value, ?3 FROM json_each(?4) WHERE true ON CONFLICT DO NOTHING",
    )
    .bind(provider)
    .bind(region)
    .bind(now_ms)
    .bind(&text)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "INSERT INTO policy_instances (policy_id, instance_id)
         SELECT ?1, i.id FROM json_each(?2) e
         CROSS JOIN instances i ON i.provider = ?3 AND i.region = ?4 AND i.instance = e.value
         WHERE true ON CONFLICT (policy_id, instance_id) DO UPDATE SET removed_at_ms = NULL",
    )
    .bind(policy_id)
    .bind(&text)
    .bind(provider)
    .bind(region)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "UPDATE policy_instances SET removed_at_ms = ?2
         WHERE policy_id = ?1 AND removed_at_ms IS NULL AND instance_id NOT IN (
             SELECT i.id FROM json_each(?3) e
             CROSS JOIN instances i ON i.provider = ?4 AND i.region = ?5 AND i.instance = e.value)",
    )
    .bind(policy_id)
    .bind(now_ms)
    .bind(&text)
    .bind(provider)
    .bind(region)
    .execute(conn)
    .await?;
    Ok(())
}

async fn write_revision(policy_id: i64, now_ms: i64, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO policy_revisions (policy_id, revision, body, accepted_at_ms)
         SELECT p.id, p.revision, json_object('account', p.account, 'product', p.product, 'region', p.region,
                'schedule', s.expression, 'timezone', s.zone, 'enabled', p.enabled, 'terms', json(p.terms)), ?2
         FROM policies p JOIN schedules s ON s.id = p.schedule_id WHERE p.id = ?1",
    )
    .bind(policy_id)
    .bind(now_ms)
    .execute(conn)
    .await?;
    Ok(())
}

async fn retire(
    apply: &Apply,
    stored: &HashMap<String, Stored>,
    conn: &mut SqliteConnection,
) -> sqlx::Result<Vec<PolicyChange>> {
    let names: Vec<&str> = apply.set.policies.iter().map(|entry| entry.policy.name.as_str()).collect();
    let rows = sqlx::query(
        "UPDATE policies SET retired_at_ms = ?1, stopped_at_ms = coalesce(stopped_at_ms, ?1)
         WHERE retired_at_ms IS NULL AND file_id IS NULL AND name NOT IN (SELECT value FROM json_each(?2)) RETURNING name, revision",
    )
    .bind(apply.now_ms)
    .bind(json(&names)?)
    .fetch_all(conn)
    .await?;
    let retired = rows.iter().map(|row| {
        let policy: String = row.get(0);
        let next_due_before = stored.get(&policy).and_then(Stored::next_due);
        PolicyChange { policy, revision: row.get(1), kind: ChangeKind::Retired, next_due_before }
    });
    Ok(retired.collect())
}

async fn rest_unused_schedules(conn: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE schedules SET next_due_ms = NULL WHERE next_due_ms IS NOT NULL AND NOT EXISTS
             (SELECT 1 FROM policies p WHERE p.schedule_id = schedules.id AND p.stopped_at_ms IS NULL)",
    )
    .execute(conn)
    .await?;
    Ok(())
}
