//! An order: one purchase request, recorded before it is sent and followed to its end.
//!
//! ```text
//! intended ──► placed ──────► confirmed          (terminal: the money bought what was asked)
//!    │  │         │
//!    │  └──► unknown ──► placed | confirmed
//!    └───────────┴─────────► refused             (terminal: it did not happen or does not stand)
//! ```

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::policy::ActionKind;
use crate::domain::product::{InstanceId, Product, Region};
use crate::domain::upgrade::Dimension;

/// `orders.id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderRow(pub i64);

/// The cloud's number of an order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(pub String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderState {
    /// Committed; its request may or may not have left. The lane moves it on, after a crash rescue does.
    Intended,
    /// The cloud gave or listed an order. An observation moves it on.
    Placed,
    Confirmed,
    Refused,
    /// Nobody can say yet. Evidence moves it on, or a person.
    Unknown,
}

impl OrderState {
    pub const ALL: [OrderState; 5] = [
        OrderState::Intended,
        OrderState::Placed,
        OrderState::Confirmed,
        OrderState::Refused,
        OrderState::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            OrderState::Intended => "intended",
            OrderState::Placed => "placed",
            OrderState::Confirmed => "confirmed",
            OrderState::Refused => "refused",
            OrderState::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<OrderState> {
        OrderState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Our own codes of `refused`: an order found not to have happened or not to stand.
pub const NOT_ORDERED: &str = "NotOrdered";
pub const RESOLVED_NOT_PAID: &str = "ResolvedNotPaid";
pub const REFUNDED: &str = "Refunded";
pub const DONE_ELSEWHERE: &str = "RenewedElsewhere";
pub const UNSENT: &str = "Unsent";

/// Promise 2's key: at most one order takes effect per (identity, action, cycle).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cycle {
    /// Of a renewal: a counter per identity that only an observed expiry advances.
    Counter(i64),
    /// Of `every_fire`: the due instant.
    Due(Timestamp),
    /// Of an upgrade: the due instant and what is to be reached.
    Target { due: Timestamp, dimension: Dimension, target: u32 },
}

impl Cycle {
    /// As it is written; None for what an other version wrote.
    pub fn parse(text: &str) -> Option<Cycle> {
        let at = |ms: &str| Timestamp::from_millisecond(ms.parse().ok()?).ok();
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            ["cycle", counter] => counter.parse().ok().map(Cycle::Counter),
            ["due", due] => at(due).map(Cycle::Due),
            ["upgrade", due, dimension, target] => Some(Cycle::Target {
                due: at(due)?,
                dimension: Dimension::parse(dimension)?,
                target: target.parse().ok()?,
            }),
            _ => None,
        }
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cycle::Counter(counter) => write!(f, "cycle:{counter}"),
            Cycle::Due(due) => write!(f, "due:{}", due.as_millisecond()),
            Cycle::Target { due, dimension, target } => {
                write!(f, "upgrade:{}:{dimension}:{target}", due.as_millisecond())
            }
        }
    }
}

/// What is bought. Built from a policy and an observation, before anything is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    pub product: Product,
    pub region: Region,
    pub instance: InstanceId,
    pub goods: Goods,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goods {
    Renewal(Renewal),
    Upgrade(Target),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    pub months: u32,
    /// The observed auto-renew flag in the cloud's spelling, sent back so that a renewal does not switch it.
    pub renew_flag: Option<String>,
    /// Elastic data disks too (Tencent CVM).
    pub renew_data_disks: bool,
    /// Of APIs that take one (Volcengine): belongs to the cycle, stable over crashes and re-orders.
    pub client_token: Option<ClientToken>,
}

/// What an upgrade leads to, all dimensions named: the changed one and the present values of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub mem_size_mb: u32,
    /// None where the edition takes no such parameter.
    pub shards: Option<u32>,
    pub replicas: Option<u32>,
}

/// At most 36 URL-safe ASCII characters: the shortest limit of the APIs that take one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientToken(pub String);

/// Proof that an order row is committed as `intended` by this epoch. Only the store makes one
/// (`tests/tidy.rs` holds it to that), sending consumes it: no row, no purchase; one row, one purchase.
#[derive(Debug)]
pub struct Committed {
    row: OrderRow,
}

impl Committed {
    pub(crate) fn from_committed_row(row: OrderRow) -> Committed {
        Committed { row }
    }

    pub fn row(&self) -> OrderRow {
        self.row
    }
}

/// What came of sending a purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The cloud accepted it; some APIs give no order id.
    Accepted {
        order_id: Option<OrderId>,
        request_id: Option<String>,
    },
    Failed(Failure),
}

/// An order as the cloud's order list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedOrder {
    pub order_id: OrderId,
    pub standing: Standing,
    pub kind: ListedKind,
    pub months: Option<u32>,
    pub amount: Option<Fen>,
    /// Read in the account's zone; the lists give none.
    pub created_at: Option<Timestamp>,
}

/// What a listed order bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListedKind {
    Renewal,
    Resize,
    Other,
    /// Absent, or a word that this build does not know: it may be any, and an order overlooked would be paid twice.
    Unclear,
}

impl ListedKind {
    pub fn may_be(self, action: ActionKind) -> bool {
        match self {
            ListedKind::Renewal => action == ActionKind::Renew,
            ListedKind::Resize => action == ActionKind::Upgrade,
            ListedKind::Other => false,
            ListedKind::Unclear => true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Unpaid,
    /// Paid or being paid, delivered or being delivered.
    Standing,
    /// Money was taken and delivery failed.
    Undelivered,
    /// Refunded, closed, expired or void: nothing stands.
    Void,
    /// A status this build does not know.
    Unclear,
}

impl fmt::Display for OrderRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
