//! Policies: what an operator wants done to which instances, and when.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::domain::money::Fen;
use crate::domain::product::{AccountName, InstanceId, PolicyName, Product, Provider, Region};

/// A policy as its file says it, whole and valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub name: PolicyName,
    pub account: AccountName,
    pub product: Product,
    pub region: Region,
    pub instances: Vec<InstanceId>,
    pub schedule: ScheduleText,
    pub enabled: bool,
    pub terms: Terms,
}

/// A cron expression with its zone: the key of a stored schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScheduleText {
    pub expression: String,
    pub zone: String,
}

/// What to buy and under which conditions; kept as JSON with each revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub action: Action,
    pub max_price: Option<Fen>,
    pub on_auto_renew: OnAutoRenew,
    pub unknown: OnUnknown,
    pub renew_data_disks: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Renew(Renew),
    Upgrade(Upgrade),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    pub months: u32,
    pub when: RenewWhen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewWhen {
    /// Due once the expiry is this near.
    WithinDays(u32),
    /// No expiry test: each firing orders once.
    EveryFire,
}

/// `every_fire` policies make up for missed firings this far back.
pub const EVERY_FIRE_CATCH_UP: SignedDuration = SignedDuration::from_hours(24);

/// Absolute targets; a dimension that is not named stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    pub mem_size_mb: u32,
    pub shards: Option<u32>,
    pub replicas: Option<u32>,
    pub allow_shrink: bool,
}

/// What to do when the console's auto-renew is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAutoRenew {
    #[default]
    Skip,
    Renew,
}

/// What to do with an order whose fate no evidence settles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    #[default]
    Person,
    Resend,
}

/// The two actions without their data: the key of promise 2 and a column of runs and orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    Renew,
    Upgrade,
}

impl ActionKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ActionKind::Renew => "renew",
            ActionKind::Upgrade => "upgrade",
        }
    }

    pub fn parse(text: &str) -> Option<ActionKind> {
        [ActionKind::Renew, ActionKind::Upgrade].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl Action {
    pub fn kind(&self) -> ActionKind {
        match self {
            Action::Renew(_) => ActionKind::Renew,
            Action::Upgrade(_) => ActionKind::Upgrade,
        }
    }

    pub fn is_every_fire(&self) -> bool {
        matches!(self, Action::Renew(Renew { when: RenewWhen::EveryFire, .. }))
    }
}

impl Policy {
    pub fn provider(&self) -> Provider {
        self.product.provider()
    }
}
