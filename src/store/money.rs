//! The money: intents before they are sent, and every move of an order after.
//!
//! Invariant: a purchase may be sent only with the [`Committed`] that [`Store::intend`] gives, and what must
//! be atomic with it (pause, epoch, budget, open order, cycle) is a condition of its own INSERT.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, SqliteConnection};

use super::runs::Claim;
use super::writer::Change;
use super::{Store, StoreError, at, at_opt, json, ms};
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::order::{Committed, Cycle, OrderId, OrderRow};
use crate::domain::run::{Hold, RunId};

/// What the lane wants to buy for a claimed run.
#[derive(Clone, Debug)]
pub struct Intent {
    /// None: the counter that the instance row holds.
    pub cycle: Option<Cycle>,
    pub months: Option<u32>,
    pub amount: Option<Fen>,
    pub client_token: Option<String>,
    pub expiry_before: Option<Timestamp>,
    /// The observation the guard judged; a newer one makes the intent void.
    pub observed_at: Timestamp,
    pub budget: Budget,
    pub at: Timestamp,
}

/// The account's limits; what already counts against them is summed in the INSERT.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// None: twice the account's instances, at least [`ORDERS_PER_DAY_LEAST`].
    pub orders_per_day: Option<u32>,
    pub per_day: Option<Fen>,
    pub per_month: Option<Fen>,
    pub day_start: Timestamp,
    pub month_start: Timestamp,
}

/// The least that an absent `orders_per_day` allows.
pub const ORDERS_PER_DAY_LEAST: u32 = 10;

/// Why an intent was not written. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// The claim is of an older epoch, or a person or rescue moved the run.
    Stale,
    /// The policy was edited or the instance observed anew since the guard looked.
    Superseded,
    Paused {
        until: Option<Timestamp>,
        note: String,
    },
    /// Another order on the instance is open.
    OpenOrder {
        row: OrderRow,
        same_cycle: bool,
    },
    /// An order of this very cycle stands confirmed.
    CyclePaid {
        row: OrderRow,
    },
    OrdersPerDay {
        limit: u32,
    },
    MoneyPerDay,
    MoneyPerMonth,
    /// A money budget is set and the price is not known.
    PriceUnknown,
}

/// One API call, for the record.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    pub account: String,
    pub api: &'static str,
    pub region: String,
    pub order_row: Option<OrderRow>,
    pub run_id: Option<RunId>,
    pub instances: usize,
    pub at_ms: i64,
    pub duration_ms: u64,
    /// `ok` or a failure's class.
    pub class: &'static str,
    pub code: Option<String>,
    pub http_status: Option<u16>,
    pub request_id: Option<String>,
}

/// Evidence about an open order, as `verdict.rs` reads it.
#[derive(Clone, Debug, Serialize)]
pub struct Look {
    pub at_ms: i64,
    pub monotonic_ms: u64,
    pub epoch: i64,
    pub evidence: serde_json::Value,
    pub finding: String,
}

/// A move of an order and of its run, with what it rests on.
#[derive(Clone, Debug)]
pub struct OrderMove {
    pub row: OrderRow,
    pub run: RunId,
    pub at: Timestamp,
    pub sent_at: Option<Timestamp>,
    pub step: OrderStep,
    pub look: Option<Look>,
    pub amount: Option<Fen>,
}

#[derive(Clone, Debug)]
pub enum OrderStep {
    Placed {
        order_id: Option<OrderId>,
        request_id: Option<String>,
        next_look_at: Timestamp,
    },
    Confirmed {
        order_id: Option<OrderId>,
        expiry_after: Option<Timestamp>,
        reason: String,
    },
    Refused {
        failure: Failure,
        next: NextForRun,
    },
    Unknown {
        failure: Failure,
        next_look_at: Timestamp,
    },
    /// Nothing new; `asked` the first time a person is asked.
    Watch {
        next_look_at: Timestamp,
        asked: bool,
    },
}

#[derive(Clone, Debug)]
pub enum NextForRun {
    Queue { reason: String },
    Wait { until: Timestamp, reason: String, counts: bool },
    Fail { reason: String },
}

impl Store {
    /// Commits the order row. Only the `Committed` in the answer lets a purchase be sent.
    pub async fn intend(
        &self,
        claim: &Claim,
        intent: Intent,
    ) -> Result<Result<Committed, Withheld>, StoreError> {
        let row = IntentRow::new(claim, &intent);
        let written = self.writer.submit(row).await?;
        Ok(written.map(Committed::from_committed_row))
    }

    /// The order that keeps a claim's instance busy just now, as [`Store::intend`] would say it.
    pub async fn open_order(
        &self,
        claim: &Claim,
        cycle: Option<Cycle>,
    ) -> Result<Option<Withheld>, StoreError> {
        let found = sqlx::query(
            "SELECT o.id, o.action = r.action AND o.cycle = coalesce(?2, 'cycle:' || i.cycle)
             FROM runs r JOIN instances i ON i.id = r.instance_id JOIN orders o ON o.instance_id = r.instance_id
             WHERE r.id = ?1 AND o.state IN ('intended', 'placed', 'unknown')",
        )
        .bind(claim.job.run.0)
        .bind(cycle.map(|cycle| cycle.to_string()))
        .fetch_optional(&self.readers)
        .await?;
        Ok(found.map(|row| Withheld::OpenOrder { row: OrderRow(row.get(0)), same_cycle: row.get(1) }))
    }

    /// Moves an order; answers whether it did (a person or an earlier answer may have been faster).
    pub async fn move_order(&self, order_move: OrderMove) -> Result<bool, StoreError> {
        self.writer.submit(MoveRow::from(order_move)).await
    }

    pub async fn record_attempts(&self, attempts: Vec<Attempt>) -> Result<(), StoreError> {
        if attempts.is_empty() {
            return Ok(());
        }
        self.writer.submit(RecordAttempts(attempts)).await
    }

    /// Which of these order numbers other rows already carry.
    pub async fn known_order_ids(
        &self,
        ids: &[&OrderId],
        except: OrderRow,
    ) -> Result<Vec<OrderId>, StoreError> {
        let text = json(&ids)?;
        let found: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT order_id FROM orders WHERE order_id IN (SELECT value FROM json_each(?1)) AND id <> ?2",
        )
        .bind(text)
        .bind(except.0)
        .fetch_all(&self.readers)
        .await?;
        Ok(found.into_iter().map(OrderId).collect())
    }
}

#[derive(Serialize)]
struct IntentRow {
    run: i64,
    epoch: i64,
    revision: i64,
    cycle: Option<String>,
    months: Option<u32>,
    amount_fen: Option<i64>,
    client_token: Option<String>,
    expiry_before_ms: Option<i64>,
    observed_at_ms: i64,
    orders_per_day: Option<u32>,
    fen_per_day: Option<i64>,
    fen_per_month: Option<i64>,
    day_start_ms: i64,
    month_start_ms: i64,
    now_ms: i64,
}

impl IntentRow {
    fn new(claim: &Claim, intent: &Intent) -> IntentRow {
        IntentRow {
            run: claim.job.run.0,
            epoch: claim.epoch().0,
            revision: claim.job.revision,
            cycle: intent.cycle.as_ref().map(ToString::to_string),
            months: intent.months,
            amount_fen: intent.amount.map(Fen::get),
            client_token: intent.client_token.clone(),
            expiry_before_ms: intent.expiry_before.map(ms),
            observed_at_ms: ms(intent.observed_at),
            orders_per_day: intent.budget.orders_per_day,
            fen_per_day: intent.budget.per_day.map(Fen::get),
            fen_per_month: intent.budget.per_month.map(Fen::get),
            day_start_ms: ms(intent.budget.day_start),
            month_start_ms: ms(intent.budget.month_start),
            now_ms: ms(intent.at),
        }
    }
}

/// Every test that an intent must pass, as columns over the waiting intents `e`; used by the INSERT and,
/// for those that it left out, to say why.
macro_rules! intent_tests {
    () => {
        "SELECT e.key AS key, e.value AS j, r.id AS run_id, r.policy_id, r.instance_id, r.account, r.action, r.epoch,
            p.revision, p.product, p.region,
            coalesce(e.value ->> 'cycle', 'cycle:' || i.cycle) AS cycle,
            r.state = 'running' AND r.epoch IS e.value ->> 'epoch'
                AND r.epoch = (SELECT epoch FROM daemon) AS is_current,
            p.revision = e.value ->> 'revision' AND p.stopped_at_ms IS NULL
                AND i.observed_at_ms IS e.value ->> 'observed_at_ms' AS is_as_judged,
            (SELECT max(z.id) FROM pauses z
              WHERE z.lifted_at_ms IS NULL
                AND (z.scope = 'all' OR (z.scope = 'account' AND z.name = r.account)
                                     OR (z.scope = 'policy' AND z.name = p.name))
                AND (coalesce(z.until_ms > e.value ->> 'now_ms', 1)
                     -- A pause of ours that has run out lets one order through at a time, as its test.
                     OR (z.kind <> 'person' AND EXISTS (SELECT 1 FROM orders t
                                         WHERE t.account = r.account AND t.state = 'intended')))) AS pause_id,
            (SELECT o.id FROM orders o WHERE o.instance_id = r.instance_id
              AND o.state IN ('intended', 'placed', 'unknown')) AS open_id,
            (SELECT o.id FROM orders o WHERE o.instance_id = r.instance_id AND o.action = r.action
              AND o.cycle = coalesce(e.value ->> 'cycle', 'cycle:' || i.cycle) AND o.state <> 'refused') AS cycle_id,
            coalesce(e.value ->> 'orders_per_day', (SELECT max(?2, 2 * count(DISTINCT pi.instance_id))
                FROM policies q JOIN policy_instances pi ON pi.policy_id = q.id
                WHERE q.account = r.account AND q.stopped_at_ms IS NULL AND pi.removed_at_ms IS NULL)) AS orders_limit,
            (SELECT count(*) FROM orders b WHERE b.account = r.account AND b.state <> 'refused'
                AND b.intended_at_ms >= e.value ->> 'day_start_ms') AS orders_today,
            e.value ->> 'fen_per_day' AS day_limit,
            (SELECT coalesce(sum(b.amount_fen), 0) FROM orders b WHERE b.account = r.account AND b.state <> 'refused'
                AND b.intended_at_ms >= e.value ->> 'day_start_ms') + (e.value ->> 'amount_fen') AS day_sum,
            e.value ->> 'fen_per_month' AS month_limit,
            (SELECT coalesce(sum(b.amount_fen), 0) FROM orders b WHERE b.account = r.account AND b.state <> 'refused'
                AND b.intended_at_ms >= e.value ->> 'month_start_ms') + (e.value ->> 'amount_fen') AS month_sum
         FROM json_each(?1) e JOIN runs r ON r.id = e.value ->> 'run' JOIN policies p ON p.id = r.policy_id
         JOIN instances i ON i.id = r.instance_id"
    };
}

impl Change for IntentRow {
    type Reply = Result<OrderRow, Withheld>;

    /// A lane has one intent waiting at a time, so the sums of one account never miss a sibling of the batch.
    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Self::Reply>> {
        let text = json(&rows)?;
        let written = sqlx::query(concat!(
            "WITH tests AS (",
            intent_tests!(),
            ")
             INSERT INTO orders (run_id, policy_id, policy_revision, instance_id, account, product, region, action,
                 cycle, state, epoch, client_token, months, amount_fen, expiry_before_ms, intended_at_ms)
             SELECT run_id, policy_id, revision, instance_id, account, product, region, action, cycle, 'intended',
                 epoch, j ->> 'client_token', j ->> 'months', j ->> 'amount_fen', j ->> 'expiry_before_ms',
                 j ->> 'now_ms'
             FROM tests
             WHERE is_current AND is_as_judged AND pause_id IS NULL AND open_id IS NULL AND cycle_id IS NULL
               AND orders_today < orders_limit
               AND (day_limit IS NULL OR coalesce(day_sum <= day_limit, 0))
               AND (month_limit IS NULL OR coalesce(month_sum <= month_limit, 0))
             ON CONFLICT DO NOTHING RETURNING id, run_id"
        ))
        .bind(&text)
        .bind(ORDERS_PER_DAY_LEAST)
        .fetch_all(&mut *conn)
        .await?;
        let id_of = |run: i64| written.iter().find(|row| row.get::<i64, _>(1) == run).map(|row| row.get(0));
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            replies.push(match id_of(row.run) {
                Some(id) => Ok(OrderRow(id)),
                None => Err(why_withheld(row, conn).await?),
            });
        }
        Ok(replies)
    }
}

async fn why_withheld(row: &IntentRow, conn: &mut SqliteConnection) -> sqlx::Result<Withheld> {
    let tests = sqlx::query(concat!(
        "WITH tests AS (",
        intent_tests!(),
        ") SELECT is_current, is_as_judged, pause_id, open_id, cycle_id, orders_today, orders_limit,
               day_limit, day_sum, month_limit, month_sum, z.until_ms, z.note, z.kind, z.set_by, o.cycle = tests.cycle
           FROM tests LEFT JOIN pauses z ON z.id = pause_id LEFT JOIN orders o ON o.id = open_id"
    ))
    .bind(json(&[row])?)
    .bind(ORDERS_PER_DAY_LEAST)
    .fetch_optional(conn)
    .await?;
    let Some(tests) = tests else { return Ok(Withheld::Stale) };
    let number = |column: usize| tests.get::<Option<i64>, _>(column);
    let over = |limit: usize, sum: usize| {
        number(limit).is_some_and(|limit| number(sum).is_some_and(|sum| sum > limit))
    };
    if !tests.get::<Option<bool>, _>(0).unwrap_or(false) {
        Ok(Withheld::Stale)
    } else if let Some(open) = number(3) {
        let same_cycle = tests.get::<Option<bool>, _>(15).unwrap_or(false);
        Ok(Withheld::OpenOrder { row: OrderRow(open), same_cycle })
    } else if let Some(paid) = number(4) {
        Ok(Withheld::CyclePaid { row: OrderRow(paid) })
    } else if number(2).is_some() {
        let until = number(11).map(Timestamp::from_millisecond).and_then(Result::ok);
        let (kind, by): (String, String) = (tests.get(13), tests.get(14));
        let note = tests.get::<Option<String>, _>(12).map(|note| format!(": {note}")).unwrap_or_default();
        Ok(Withheld::Paused { until, note: format!("{kind} pause set by {by}{note}") })
    } else if number(5) >= number(6) {
        Ok(Withheld::OrdersPerDay { limit: u32::try_from(number(6).unwrap_or(0)).unwrap_or(u32::MAX) })
    } else if over(7, 8) {
        Ok(Withheld::MoneyPerDay)
    } else if over(9, 10) {
        Ok(Withheld::MoneyPerMonth)
    } else if (number(7).is_some() || number(9).is_some()) && row.amount_fen.is_none() {
        Ok(Withheld::PriceUnknown)
    } else {
        Ok(Withheld::Superseded)
    }
}

#[derive(Serialize, Default)]
struct MoveRow {
    row: i64,
    run: i64,
    now_ms: i64,
    sent_at_ms: Option<i64>,
    state: Option<&'static str>,
    order_id: Option<String>,
    request_id: Option<String>,
    amount_fen: Option<i64>,
    expiry_after_ms: Option<i64>,
    error: Option<Failure>,
    settled_at_ms: Option<i64>,
    next_look_at_ms: Option<i64>,
    asked: bool,
    run_state: Option<&'static str>,
    run_hold: Option<&'static str>,
    run_next_ms: Option<i64>,
    run_reason: String,
    run_counts: bool,
    run_ended: bool,
    look: Option<Look>,
}

impl From<OrderMove> for MoveRow {
    fn from(order_move: OrderMove) -> MoveRow {
        let row = MoveRow {
            row: order_move.row.0,
            run: order_move.run.0,
            now_ms: ms(order_move.at),
            sent_at_ms: order_move.sent_at.map(ms),
            amount_fen: order_move.amount.map(Fen::get),
            look: order_move.look,
            ..MoveRow::default()
        };
        let now_ms = row.now_ms;
        match order_move.step {
            OrderStep::Placed { order_id, request_id, next_look_at } => MoveRow {
                state: Some("placed"),
                order_id: order_id.map(|id| id.0),
                request_id,
                next_look_at_ms: Some(ms(next_look_at)),
                run_state: Some("waiting"),
                run_hold: Some(Hold::Confirmation.as_str()),
                run_reason: "its order is placed and waits to be confirmed by the instance's expiry"
                    .to_owned(),
                ..row
            },
            OrderStep::Confirmed { order_id, expiry_after, reason } => MoveRow {
                state: Some("confirmed"),
                order_id: order_id.map(|id| id.0),
                expiry_after_ms: expiry_after.map(ms),
                settled_at_ms: Some(now_ms),
                run_state: Some("succeeded"),
                run_reason: reason,
                run_ended: true,
                ..row
            },
            OrderStep::Refused { failure, next } => refused(row, failure, next),
            OrderStep::Unknown { failure, next_look_at } => MoveRow {
                state: Some("unknown"),
                request_id: failure.request_id.clone(),
                run_reason: format!("its order is unknown: {failure}"),
                error: Some(failure),
                next_look_at_ms: Some(ms(next_look_at)),
                run_state: Some("unknown"),
                ..row
            },
            OrderStep::Watch { next_look_at, asked } => {
                MoveRow { next_look_at_ms: Some(ms(next_look_at)), asked, ..row }
            }
        }
    }
}

fn refused(row: MoveRow, failure: Failure, next: NextForRun) -> MoveRow {
    let row = MoveRow {
        state: Some("refused"),
        request_id: failure.request_id.clone(),
        error: Some(failure),
        settled_at_ms: Some(row.now_ms),
        ..row
    };
    match next {
        NextForRun::Queue { reason } => MoveRow { run_state: Some("queued"), run_reason: reason, ..row },
        NextForRun::Wait { until, reason, counts } => MoveRow {
            run_state: Some("waiting"),
            run_hold: Some(Hold::Backoff.as_str()),
            run_next_ms: Some(ms(until)),
            run_reason: reason,
            run_counts: counts,
            ..row
        },
        NextForRun::Fail { reason } => {
            MoveRow { run_state: Some("failed"), run_reason: reason, run_ended: true, ..row }
        }
    }
}

impl Change for MoveRow {
    type Reply = bool;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<bool>> {
        let text = json(&rows)?;
        // A late answer still counts after rescue has called its order unknown; a settled order stays settled.
        let moved: Vec<i64> = sqlx::query_scalar(
            "UPDATE orders SET
                state = coalesce(e.value ->> 'state', state), order_id = coalesce(e.value ->> 'order_id', order_id),
                request_id = coalesce(e.value ->> 'request_id', request_id),
                amount_fen = coalesce(e.value ->> 'amount_fen', amount_fen),
                expiry_after_ms = coalesce(e.value ->> 'expiry_after_ms', expiry_after_ms),
                sent_at_ms = coalesce(sent_at_ms, e.value ->> 'sent_at_ms'),
                error = CASE WHEN e.value ->> 'state' IN ('placed', 'confirmed') THEN NULL
                             ELSE coalesce(nullif(e.value -> 'error', 'null'), error) END,
                settled_at_ms = e.value ->> 'settled_at_ms',
                settled_by = iif(e.value ->> 'settled_at_ms' IS NULL, NULL, 'renewd'),
                next_look_at_ms = e.value ->> 'next_look_at_ms',
                person_asked_ms = coalesce(person_asked_ms, iif(e.value ->> 'asked', e.value ->> 'now_ms', NULL))
             FROM json_each(?1) e
             WHERE orders.id = e.value ->> 'row' AND settled_at_ms IS NULL
               AND NOT (e.value ->> 'state' = 'unknown' AND state = 'placed')
               AND NOT (e.value ->> 'state' IS NULL AND state = 'intended')
             RETURNING id",
        )
        .bind(&text)
        .fetch_all(&mut *conn)
        .await?;
        let moved_text = json(&moved)?;
        move_runs(&text, &moved_text, conn).await?;
        sqlx::query(
            "INSERT INTO looks (order_row, epoch, at_ms, monotonic_ms, evidence, finding)
             SELECT e.value ->> 'row', e.value ->> '$.look.epoch', e.value ->> '$.look.at_ms',
                    e.value ->> '$.look.monotonic_ms', e.value -> '$.look.evidence', e.value ->> '$.look.finding'
             FROM json_each(?1) e WHERE e.value ->> '$.look.at_ms' IS NOT NULL",
        )
        .bind(&text)
        .execute(conn)
        .await?;
        Ok(rows.iter().map(|row| moved.contains(&row.row)).collect())
    }
}

async fn move_runs(text: &str, moved: &str, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE runs SET state = e.value ->> 'run_state', epoch = NULL, hold = e.value ->> 'run_hold',
                next_attempt_at_ms = e.value ->> 'run_next_ms', reason = e.value ->> 'run_reason',
                attempts = attempts + (e.value ->> 'run_counts'),
                error = iif(e.value ->> 'run_state' = 'succeeded' OR e.value ->> 'run_hold' = 'confirmation', NULL,
                            coalesce(nullif(e.value -> 'error', 'null'), error)),
                finished_at_ms = iif(e.value ->> 'run_ended', e.value ->> 'now_ms', NULL)
         FROM json_each(?1) e
         WHERE runs.id = e.value ->> 'run' AND finished_at_ms IS NULL AND e.value ->> 'run_state' IS NOT NULL
           AND e.value ->> 'row' IN (SELECT value FROM json_each(?2))",
    )
    .bind(text)
    .bind(moved)
    .execute(&mut *conn)
    .await?;
    // What waited for this order to end need not wait any longer.
    sqlx::query(
        "UPDATE runs SET next_attempt_at_ms = e.value ->> 'now_ms'
         FROM json_each(?1) e JOIN orders o ON o.id = e.value ->> 'row'
         WHERE runs.state = 'waiting' AND runs.hold = 'open_order' AND runs.instance_id = o.instance_id
           AND e.value ->> 'settled_at_ms' IS NOT NULL",
    )
    .bind(text)
    .execute(conn)
    .await?;
    Ok(())
}

struct RecordAttempts(Vec<Attempt>);

impl Change for RecordAttempts {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        let all: Vec<&Attempt> = rows.iter().flat_map(|row| &row.0).collect();
        sqlx::query(
            "INSERT INTO attempts (account, api, region, order_row, run_id, instances, at_ms, duration_ms, class, code,
                 http_status, request_id)
             SELECT value ->> 'account', value ->> 'api', value ->> 'region', value ->> 'order_row',
                    value ->> 'run_id', value ->> 'instances', value ->> 'at_ms', value ->> 'duration_ms',
                    value ->> 'class', value ->> 'code', value ->> 'http_status', value ->> 'request_id'
             FROM json_each(?1)",
        )
        .bind(json(&all)?)
        .execute(conn)
        .await?;
        Ok(vec![(); rows.len()])
    }
}

mod open_orders;
pub use open_orders::OpenOrder;
