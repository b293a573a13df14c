//! The money: intents before they are sent, and every move of an order after.
//!
//! Invariant: a purchase may be sent only with the [`Committed`] that [`Store::intend`] gives, and what must
//! be atomic with it (pause, epoch, budget, open order, cycle) is a condition of its own INSERT.

mod attempts;
mod intent;
mod moves;
mod numbers;
mod open_orders;
mod repeat;

use jiff::Timestamp;
use serde::Serialize;

use sqlx::Row;

use super::runs::Claim;
use super::{Store, StoreError, at, at_opt, json, ms};
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::order::{Committed, Cycle, OrderId, OrderRow};
use crate::domain::run::{Epoch, Hold, RunId};
use attempts::RecordAttempts;
use intent::IntentRow;
use moves::MoveRow;
pub(super) use moves::reopen_cycles;
pub use numbers::Unnumbered;
pub use open_orders::OpenOrder;
use repeat::RepeatRow;

/// What the lane wants to buy for a claimed run.
#[derive(Clone, Debug)]
pub struct Intent {
    /// None: the counter that the instance row holds.
    pub cycle: Option<Cycle>,
    pub months: Option<u32>,
    pub amount: Option<Fen>,
    pub client_token: Option<String>,
    pub expiry_before: Option<Timestamp>,
    /// The guard's tests as JSON, for `why`.
    pub verdict: Option<serde_json::Value>,
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
    /// The policy was edited, or the instance observed anew or ordered by somebody else, since the guard looked.
    Superseded,
    /// A pause of ours has run out, and another order is its test.
    TestUnderWay,
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
        next: AfterConfirmed,
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
        /// It has been open too long to hold a renewal of its instance back.
        stands_aside: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterConfirmed {
    RunSucceeds,
    /// The policy wants more than this order brought.
    RunGoesOn,
}

#[derive(Clone, Debug)]
pub enum NextForRun {
    Queue { reason: String },
    Wait { until: Timestamp, reason: String, hold: Hold, counts: bool },
    Fail { reason: String },
}

impl Store {
    /// Commits the order row. Only the `Committed` in the answer lets a purchase be sent.
    pub async fn intend(
        &self,
        claim: &Claim,
        intent: Intent,
    ) -> Result<Result<Committed, Withheld>, StoreError> {
        self.check_place()?;
        let row = IntentRow::new(claim, &intent);
        let written = self.writer.submit_purchase(row).await?;
        Ok(written.map(Committed::from_committed_row))
    }

    /// Leave to send an unknown order's request once more, with its own token; none while anything holds orders
    /// of its policy, once that was edited or the budget is less than what was ordered, once a person was asked, and
    /// once it is known what became of it. Until the answer is recorded nobody can resolve the order.
    pub async fn repeat_order(
        &self,
        row: OrderRow,
        epoch: Epoch,
        budget: Budget,
        now: Timestamp,
    ) -> Result<Option<Committed>, StoreError> {
        self.check_place()?;
        let may = self.writer.submit_purchase(RepeatRow { row, epoch, budget, now_ms: ms(now) }).await?;
        Ok(may.then(|| Committed::from_committed_row(row)))
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
             WHERE r.id = ?1 AND o.state IN ('intended', 'placed', 'unknown')
               AND (o.stands_aside = 0 OR r.action = o.action)",
        )
        .bind(claim.job.run.0)
        .bind(cycle.map(|cycle| cycle.to_string()))
        .fetch_optional(&mut *self.readers.get().await?)
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
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        Ok(found.into_iter().map(OrderId).collect())
    }
}
