//! Runs that a person asks for: a policy fired now, a failed run made anew. They are queued like any other and pass
//! the same guards.

use jiff::{SignedDuration, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use thiserror::Error;

use super::{Word, write_act};
use crate::domain::run::{RunId, RunState};
use crate::store::writer::Change;
use crate::store::{Store, StoreError, ms};

/// A trigger that no daemon has taken by then is over: an order days after it was asked for surprises.
pub const TRIGGER_LAPSES_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// What `renewd trigger` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    pub policy: String,
    /// None: all of the policy.
    pub instance: Option<String>,
    /// Although its instance was ordered within half the interval of an `every_fire` policy.
    pub again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triggered {
    /// The others have the numbers after it.
    pub first: RunId,
    pub runs: u64,
    /// Runs that waited for their next attempt, and need not wait any longer.
    pub woken: u64,
    pub lapses_at: Timestamp,
}

#[derive(Debug, Error)]
pub enum TriggerRefused {
    #[error(
        "no policy {0:?} is in force: `renewd policies` lists them; a new one is once the service has read its file (`renewd status`)"
    )]
    NoSuchPolicy(String),
    #[error(
        "no policies are in force yet: start the service (`systemctl start renewd`), it takes them from the files; \
         nothing was fired"
    )]
    NothingInForce,
    #[error("policy {0} is retired, its files no longer have it: nothing was fired")]
    Retired(String),
    #[error("policy {0} is disabled: enable it in its file and reload the service; nothing was fired")]
    Disabled(String),
    #[error(
        "policy {policy} does not name {instance}: `renewd instances --policy {policy}` lists what it does"
    )]
    NotOfPolicy { policy: String, instance: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Error)]
pub enum RetryRefused {
    #[error("there is no run {0}: `renewd runs` lists them")]
    NoSuchRun(RunId),
    #[error("run {run} of {instance} is {state}, and only failed runs are retried: {todo}")]
    NotFailed { run: RunId, instance: String, state: String, todo: String },
    #[error(
        "run {run} of {instance} was retried by run {by}, which is {state}: `renewd why {instance}` tells more"
    )]
    Retried { run: RunId, instance: String, by: RunId, state: String },
    #[error(
        "policy {policy} no longer wants {instance} as run {run} did (disabled, retired or edited): \
         put it back in its file and reload the service"
    )]
    Unwanted { run: RunId, policy: String, instance: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Fires a policy now: one run an instance, taken by the daemon within a second or so, or lapsing.
    ///
    /// # Errors
    /// The policy is not in force, or does not name the instance. Nothing is queued then.
    pub async fn trigger(&self, trigger: &Trigger, word: &Word) -> Result<Triggered, TriggerRefused> {
        self.writer.submit(Fire { trigger: trigger.clone(), word: word.clone() }).await?
    }

    /// Queues a new run for a failed one: the same due instant, and so the same cycle.
    ///
    /// # Errors
    /// It has not failed, is being retried already, or its policy no longer wants it.
    pub async fn retry(&self, run: RunId, word: &Word) -> Result<RunId, RetryRefused> {
        self.writer.submit(Retry { run, word: word.clone() }).await?
    }
}

struct Fire {
    trigger: Trigger,
    word: Word,
}

impl Change for Fire {
    type Reply = Result<Triggered, TriggerRefused>;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Self::Reply>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            replies.push(match policy_in_force(&row.trigger.policy, conn).await? {
                Ok(policy) => fire(policy, row, conn).await?,
                Err(refused) => Err(refused),
            });
        }
        Ok(replies)
    }
}

async fn policy_in_force(
    name: &str,
    conn: &mut SqliteConnection,
) -> sqlx::Result<Result<i64, TriggerRefused>> {
    let found = sqlx::query(
        "SELECT id, retired_at_ms IS NOT NULL, stopped_at_ms IS NOT NULL FROM policies WHERE name = ?1",
    )
    .bind(name)
    .fetch_optional(&mut *conn)
    .await?;
    let was_ever_loaded: bool =
        sqlx::query_scalar("SELECT set_digest IS NOT NULL FROM daemon").fetch_one(conn).await?;
    let name = name.to_owned();
    Ok(match found.map(|row| (row.get(0), row.get(1), row.get(2))) {
        None if !was_ever_loaded => Err(TriggerRefused::NothingInForce),
        None => Err(TriggerRefused::NoSuchPolicy(name)),
        Some((_, true, _)) => Err(TriggerRefused::Retired(name)),
        Some((_, false, true)) => Err(TriggerRefused::Disabled(name)),
        Some((id, false, false)) => Ok(id),
    })
}

async fn fire(
    policy: i64,
    Fire { trigger, word }: &Fire,
    conn: &mut SqliteConnection,
) -> sqlx::Result<Result<Triggered, TriggerRefused>> {
    let lapses_at = word.at + TRIGGER_LAPSES_AFTER;
    let runs: Vec<i64> = sqlx::query_scalar(
        "INSERT INTO runs (policy_id, policy_revision, instance_id, account, action, origin, due_at_ms, by_hand, again,
             lapses_at_ms, priority_ms, created_at_ms)
         SELECT p.id, p.revision, i.id, p.account, p.action, 'trigger', ?2, 1, ?3, ?4, coalesce(i.expires_at_ms, 0), ?2
         FROM policies p JOIN policy_instances pi ON pi.policy_id = p.id AND pi.removed_at_ms IS NULL
         JOIN instances i ON i.id = pi.instance_id
         WHERE p.id = ?1 AND (?5 IS NULL OR i.instance = ?5) ORDER BY i.id RETURNING id",
    )
    .bind(policy)
    .bind(ms(word.at))
    .bind(trigger.again)
    .bind(ms(lapses_at))
    .bind(&trigger.instance)
    .fetch_all(&mut *conn)
    .await?;
    let (Some(first), Some(last)) = (runs.iter().min(), runs.iter().max()) else {
        let (policy, instance) = (trigger.policy.clone(), trigger.instance.clone().unwrap_or_default());
        return Ok(Err(TriggerRefused::NotOfPolicy { policy, instance }));
    };
    let woken = wake_backoffs(policy, *first, ms(word.at), conn).await?;
    let again = if trigger.again { ", although just ordered" } else { "" };
    let said = match runs.len() {
        1 => format!("run {first} is queued{again}"),
        _ => format!("runs {first} to {last} are queued{again}"),
    };
    write_act("schedule.fired", &trigger.policy, Some(&said), word, conn).await?;
    Ok(Ok(Triggered { first: RunId(*first), runs: runs.len() as u64, woken, lapses_at }))
}

/// An earlier run goes before the one by hand; whoever says "now" does not mean its next attempt in an hour.
async fn wake_backoffs(
    policy: i64,
    first: i64,
    now_ms: i64,
    conn: &mut SqliteConnection,
) -> sqlx::Result<u64> {
    let woken = sqlx::query(
        "UPDATE runs SET next_attempt_at_ms = ?3
         WHERE state = 'waiting' AND hold = 'backoff' AND next_attempt_at_ms > ?3 AND policy_id = ?1 AND id < ?2
           AND instance_id IN (SELECT t.instance_id FROM runs t WHERE t.id >= ?2)",
    )
    .bind(policy)
    .bind(first)
    .bind(now_ms)
    .execute(conn)
    .await?;
    Ok(woken.rows_affected())
}

struct Retry {
    run: RunId,
    word: Word,
}

impl Change for Retry {
    type Reply = Result<RunId, RetryRefused>;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Self::Reply>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            replies.push(retry(row, conn).await?);
        }
        Ok(replies)
    }
}

async fn retry(
    Retry { run, word }: &Retry,
    conn: &mut SqliteConnection,
) -> sqlx::Result<Result<RunId, RetryRefused>> {
    let found = sqlx::query(
        "SELECT i.instance, r.state, p.name, r.reason, b.id, b.state,
                (SELECT max(o.id) FROM orders o WHERE o.run_id = r.id AND o.settled_at_ms IS NULL)
         FROM runs r JOIN policies p ON p.id = r.policy_id JOIN instances i ON i.id = r.instance_id
         LEFT JOIN runs b ON b.id = (SELECT max(x.id) FROM runs x
             WHERE x.policy_id = r.policy_id AND x.instance_id = r.instance_id AND x.due_at_ms = r.due_at_ms
               AND x.origin = 'retry' AND (x.finished_at_ms IS NULL OR x.state = 'succeeded'))
         WHERE r.id = ?1",
    )
    .bind(run.0)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(found) = found else { return Ok(Err(RetryRefused::NoSuchRun(*run))) };
    let (instance, state): (String, String) = (found.get(0), found.get(1));
    if state != RunState::Failed.as_str() {
        let todo = instead_of_retry(&found);
        return Ok(Err(RetryRefused::NotFailed { run: *run, instance, state, todo }));
    }
    if let Some(by) = found.get::<Option<i64>, _>(4) {
        return Ok(Err(RetryRefused::Retried { run: *run, instance, by: RunId(by), state: found.get(5) }));
    }
    let Some(new) = queue_retry(*run, ms(word.at), conn).await? else {
        return Ok(Err(RetryRefused::Unwanted { run: *run, policy: found.get(2), instance }));
    };
    let said = format!("run {new} is queued");
    write_act("run.retry", &run.to_string(), Some(&said), word, conn).await?;
    Ok(Ok(new))
}

/// For a run that has not failed.
fn instead_of_retry(run: &SqliteRow) -> String {
    let (instance, state, policy): (&str, &str, &str) = (run.get(0), run.get(1), run.get(2));
    let reason: &str = run.get::<Option<&str>, _>(3).unwrap_or("no reason is recorded");
    let order: Option<i64> = run.get(6);
    match (RunState::parse(state), order) {
        (Some(RunState::Succeeded), _) => "there is nothing left to do".to_owned(),
        (Some(RunState::Skipped | RunState::Cancelled), _) => {
            format!("{reason}; `renewd trigger {policy} --instance {instance}` fires it now")
        }
        (Some(RunState::Unknown), Some(row)) => format!(
            "its order row {row} is watched; if you know from the console what became of it, say \
             `renewd resolve {row} --paid` or `--not-paid`"
        ),
        _ => format!("it goes on by itself; `renewd why {instance}` tells what it waits for"),
    }
}

/// None: its policy no longer wants it.
async fn queue_retry(run: RunId, now_ms: i64, conn: &mut SqliteConnection) -> sqlx::Result<Option<RunId>> {
    let queued: Option<i64> = sqlx::query_scalar(
        "INSERT INTO runs (policy_id, policy_revision, instance_id, account, action, origin, due_at_ms, by_hand, again,
             priority_ms, created_at_ms)
         SELECT p.id, p.revision, i.id, p.account, p.action, 'retry', r.due_at_ms, r.by_hand, r.again,
             coalesce(i.expires_at_ms, 0), ?2
         FROM runs r JOIN policies p ON p.id = r.policy_id AND p.stopped_at_ms IS NULL AND p.action = r.action
         JOIN policy_instances pi ON pi.policy_id = p.id AND pi.instance_id = r.instance_id AND pi.removed_at_ms IS NULL
         JOIN instances i ON i.id = r.instance_id
         WHERE r.id = ?1 AND r.state = 'failed' RETURNING id",
    )
    .bind(run.0)
    .bind(now_ms)
    .fetch_optional(conn)
    .await?;
    Ok(queued.map(RunId))
}
