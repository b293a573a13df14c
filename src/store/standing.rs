//! How things stand with an instance, for a look ahead: read, never written.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::observations::{
    CYCLE_ADVANCE_MS, IdentityRow, LookRow, cycle_then, expiry_high_then, invisible_looks_then, known,
    known_columns, lower_looks_then, lower_since_then,
};
use super::runs::foreign_order;
use super::{Store, StoreError, at, at_opt, json, ms};
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::observation::{Known, Lower, Observation, Presence};
use crate::domain::order::{OrderRow, OrderState};
use crate::domain::policy::{ActionKind, ScheduleText};
use crate::domain::product::{AccountName, Identity, PolicyName};
use crate::domain::run::RunId;

/// One instance of one policy as the files have it, and what was seen of it a moment ago.
#[derive(Clone, Debug)]
pub struct Subject {
    pub identity: Identity,
    pub policy: PolicyName,
    /// Of what the policy says: with another one it is another revision.
    pub digest: String,
    pub action: ActionKind,
    pub seen: Option<Observation>,
}

/// What is known of it, and what stands in the way of an order.
#[derive(Clone, Debug)]
pub struct Standing {
    /// With what was seen taken in, as [`Store::observe`] would have done.
    pub known: Known,
    pub open: Option<OpenRow>,
    /// The latest order that stands for a cycle of the counter, with the cycle.
    pub paid: Option<(OrderRow, String)>,
    /// As [`super::Job::foreign_order_at`], for a firing of the schedule.
    pub foreign_order_at: Option<Timestamp>,
    pub run: Option<UnfinishedRun>,
}

/// An order that keeps the instance busy.
#[derive(Clone, Debug)]
pub struct OpenRow {
    pub row: OrderRow,
    pub action: ActionKind,
    pub cycle: String,
    pub state: OrderState,
}

/// The earliest run of the policy and the instance that has not ended.
#[derive(Clone, Debug)]
pub struct UnfinishedRun {
    pub run: RunId,
    pub due_at: Timestamp,
    pub next_attempt_at: Option<Timestamp>,
    /// It met something that may pass, and is not merely queued, paused or behind another order.
    pub is_held_up: bool,
    pub reason: Option<String>,
    pub error: Option<Failure>,
    pub is_by_hand: bool,
    pub again: bool,
    /// Of a run by hand: the latest order on the instance, whoever made it.
    pub latest_order_at: Option<Timestamp>,
}

/// What a name meant so far.
#[derive(Clone, Debug)]
pub struct Past {
    pub schedule: ScheduleText,
    /// Of its schedule.
    pub watermark: Timestamp,
    pub active_since: Timestamp,
    pub was_enabled: bool,
    pub retired_at: Option<Timestamp>,
}

/// What already counts against an account's budget.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    pub orders_today: u32,
    pub today: Fen,
    pub this_month: Fen,
}

impl Store {
    /// In the order asked, by one statement.
    pub async fn standings(&self, subjects: &[Subject]) -> Result<Vec<Standing>, StoreError> {
        let asked: Vec<SubjectRow<'_>> = subjects.iter().map(SubjectRow::from).collect();
        let rows = sqlx::query(concat!(
            "SELECT i.id, ",
            cycle_then!("i"),
            ", ",
            expiry_high_then!("i"),
            ", ",
            lower_since_then!("i"),
            ", ",
            lower_looks_then!("i"),
            ", ",
            invisible_looks_then!("i"),
            ", o.id, o.action, o.cycle, o.state, c.id, c.cycle, ",
            foreign_order!(
                "i.id",
                "e.value ->> 'action'",
                "coalesce(p.id, 0)",
                "iif(p.digest = e.value ->> 'digest', p.revision, 0)",
                "0"
            ),
            ", w.id, w.due_at_ms, w.next_attempt_at_ms, w.hold IS 'backoff', w.reason, w.error, w.by_hand, w.again,
               (SELECT max(l.intended_at_ms) FROM orders l WHERE w.by_hand AND l.instance_id = i.id
                   AND l.action = e.value ->> 'action' AND l.state <> 'refused'), ",
            known_columns!(),
            " FROM json_each(?1) e
             LEFT JOIN instances i ON i.provider = e.value ->> 'provider' AND i.region = e.value ->> 'region'
                 AND i.instance = e.value ->> 'instance'
             LEFT JOIN policies p ON p.name = e.value ->> 'policy'
             LEFT JOIN orders o ON o.id = (SELECT max(x.id) FROM orders x WHERE x.instance_id = i.id
                 AND x.state IN ('intended', 'placed', 'unknown')
                 AND (x.stands_aside = 0 OR x.action = e.value ->> 'action'))
             LEFT JOIN orders c ON c.id = (SELECT max(y.id) FROM orders y WHERE y.instance_id = i.id
                 AND y.action = e.value ->> 'action' AND y.state <> 'refused' AND y.cycle LIKE 'cycle:%')
             LEFT JOIN runs w ON w.id = (SELECT min(z.id) FROM runs z WHERE z.instance_id = i.id
                 AND z.policy_id = p.id AND z.finished_at_ms IS NULL)
             ORDER BY e.key"
        ))
        .bind(json(&asked)?)
        .bind(CYCLE_ADVANCE_MS)
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        subjects.iter().zip(&rows).map(|(subject, row)| standing(subject, row)).collect()
    }

    /// By the names of all policies that ever were.
    pub async fn pasts(&self) -> Result<HashMap<String, Past>, StoreError> {
        let rows = sqlx::query(
            "SELECT p.name, s.expression, s.zone, s.watermark_ms, p.active_since_ms, p.enabled, p.retired_at_ms
             FROM policies p JOIN schedules s ON s.id = p.schedule_id",
        )
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        rows.iter().map(|row| Ok((row.get(0), past(row)?))).collect()
    }

    /// What an intent's INSERT would count.
    pub async fn spent(
        &self,
        account: &AccountName,
        day_start: Timestamp,
        month_start: Timestamp,
    ) -> Result<Spent, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE intended_at_ms >= ?2),
                    coalesce(sum(amount_fen) FILTER (WHERE intended_at_ms >= ?2), 0),
                    coalesce(sum(amount_fen) FILTER (WHERE intended_at_ms >= ?3), 0)
             FROM orders WHERE account = ?1 AND state <> 'refused' AND intended_at_ms >= min(?2, ?3)",
        )
        .bind(account.as_str())
        .bind(ms(day_start))
        .bind(ms(month_start))
        .fetch_one(&mut *self.readers.get().await?)
        .await?;
        let (today, this_month) = (Fen::new(row.get(1)), Fen::new(row.get(2)));
        Ok(Spent { orders_today: row.get(0), today, this_month })
    }
}

#[derive(Serialize)]
struct SubjectRow<'a> {
    #[serde(flatten)]
    identity: IdentityRow<'a>,
    policy: &'a str,
    digest: &'a str,
    action: &'static str,
    #[serde(flatten)]
    look: Option<LookRow<'a>>,
}

impl<'a> From<&'a Subject> for SubjectRow<'a> {
    fn from(subject: &'a Subject) -> SubjectRow<'a> {
        SubjectRow {
            identity: (&subject.identity).into(),
            policy: subject.policy.as_str(),
            digest: &subject.digest,
            action: subject.action.as_str(),
            look: subject.seen.as_ref().map(LookRow::from),
        }
    }
}

/// The first of [`known_columns`].
const KNOWN: usize = 22;

fn standing(subject: &Subject, row: &SqliteRow) -> Result<Standing, StoreError> {
    let is_stored = row.get::<Option<i64>, _>(0).is_some();
    let known = match (&subject.seen, is_stored) {
        (Some(seen), _) => known_then(seen.clone(), row)?,
        (None, true) => known(row, KNOWN)?,
        (None, false) => Known::NOTHING,
    };
    let paid = row.get::<Option<i64>, _>(10).map(OrderRow).zip(row.get(11));
    Ok(Standing {
        known,
        open: open_row(row)?,
        paid,
        foreign_order_at: at_opt(row.get(12))?,
        run: unfinished_run(row)?,
    })
}

fn past(row: &SqliteRow) -> Result<Past, StoreError> {
    Ok(Past {
        schedule: ScheduleText { expression: row.get(1), zone: row.get(2) },
        watermark: at(row.get(3))?,
        active_since: at(row.get(4))?,
        was_enabled: row.get(5),
        retired_at: at_opt(row.get(6))?,
    })
}

/// Of an instance without a row the columns are NULL, and the look is its first.
fn known_then(seen: Observation, row: &SqliteRow) -> Result<Known, StoreError> {
    let is_seen = matches!(seen.presence, Presence::Visible(_));
    let lower_since = at_opt(row.get(3))?;
    let lower_looks: Option<u32> = row.get(4);
    Ok(Known {
        observation: Some(seen),
        cycle: row.get::<Option<i64>, _>(1).unwrap_or(Known::NOTHING.cycle),
        expiry_high: at_opt(row.get(2))?,
        lower: lower_since.zip(lower_looks).map(|(since, looks)| Lower { since, looks }),
        invisible_looks: row.get::<Option<u32>, _>(5).unwrap_or(u32::from(!is_seen)),
    })
}

fn open_row(row: &SqliteRow) -> Result<Option<OpenRow>, StoreError> {
    let Some(id) = row.get::<Option<i64>, _>(6) else { return Ok(None) };
    let (action, state): (&str, &str) = (row.get(7), row.get(9));
    let unreadable = |what: &str| StoreError::Decode(format!("{what} of order row {id}"));
    Ok(Some(OpenRow {
        row: OrderRow(id),
        action: ActionKind::parse(action).ok_or_else(|| unreadable("action"))?,
        cycle: row.get(8),
        state: OrderState::parse(state).ok_or_else(|| unreadable("state"))?,
    }))
}

fn unfinished_run(row: &SqliteRow) -> Result<Option<UnfinishedRun>, StoreError> {
    let Some(id) = row.get::<Option<i64>, _>(13) else { return Ok(None) };
    let error = row.get::<Option<String>, _>(18).map(|text| serde_json::from_str(&text));
    Ok(Some(UnfinishedRun {
        run: RunId(id),
        due_at: at(row.get(14))?,
        next_attempt_at: at_opt(row.get(15))?,
        is_held_up: row.get(16),
        reason: row.get(17),
        error: error
            .transpose()
            .map_err(|error| StoreError::Decode(format!("error of run {id}: {error}")))?,
        is_by_hand: row.get(19),
        again: row.get(20),
        latest_order_at: at_opt(row.get(21))?,
    }))
}
