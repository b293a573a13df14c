//! What a cloud said about an instance at one moment.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::product::InstanceId;

/// One instance as one answer showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    pub instance: InstanceId,
    pub observed_at: Timestamp,
    pub presence: Presence,
}

/// An instance missing from a successful answer is a finding of its own, not an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    Visible(Facts),
    NotVisible,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// None when the cloud gives none (pay-as-you-go, zero date, unreadable date).
    pub expires_at: Option<Timestamp>,
    pub state: InstanceState,
    pub charge: ChargeType,
    pub auto_renew: AutoRenew,
    /// The flag in the cloud's own spelling, where a renewal has to send it back.
    pub renew_flag: Option<String>,
    pub spec: Option<Spec>,
    /// The latest operation that the cloud remembers: evidence, where no order number comes back.
    pub latest_operation: Option<Operation>,
}

/// `LatestOperation*` of Tencent CVM 2017-03-12.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub name: String,
    pub request_id: Option<String>,
    /// `SUCCESS`, `OPERATING`, `FAILED`; an open set.
    pub state: Option<String>,
}

/// What the vendor's state means for a purchase. The set is open: an unknown value is kept as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    Running,
    /// A flow of the cloud's own is at work on it.
    Busy,
    /// Shut off for lack of renewal; renewable while its expiry is past.
    Isolated,
    /// Returned, to be deleted or deleted: never ordered.
    Gone,
    Other(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeType {
    Prepaid,
    Postpaid,
    Other(String),
}

/// The console's auto-renew flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoRenew {
    On,
    Off,
    Unreadable,
}

/// Size, for upgrades: what an absolute target is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    pub mem_size_mb: u32,
    pub shards: u32,
    pub replicas: u32,
}

impl Facts {
    /// Only such an instance may be paid for; [`crate::guard`] says why not otherwise.
    pub fn is_prepaid(&self) -> bool {
        self.charge == ChargeType::Prepaid
    }
}

impl InstanceState {
    pub fn as_str(&self) -> &str {
        match self {
            InstanceState::Running => "running",
            InstanceState::Busy => "busy",
            InstanceState::Isolated => "isolated",
            InstanceState::Gone => "gone",
            InstanceState::Other(text) => text,
        }
    }

    pub fn from_text(text: &str) -> InstanceState {
        match text {
            "running" => InstanceState::Running,
            "busy" => InstanceState::Busy,
            "isolated" => InstanceState::Isolated,
            "gone" => InstanceState::Gone,
            other => InstanceState::Other(other.to_owned()),
        }
    }
}

impl ChargeType {
    pub fn as_str(&self) -> &str {
        match self {
            ChargeType::Prepaid => "prepaid",
            ChargeType::Postpaid => "postpaid",
            ChargeType::Other(text) => text,
        }
    }

    pub fn from_text(text: &str) -> ChargeType {
        match text {
            "prepaid" => ChargeType::Prepaid,
            "postpaid" => ChargeType::Postpaid,
            other => ChargeType::Other(other.to_owned()),
        }
    }
}

impl AutoRenew {
    pub fn as_str(self) -> &'static str {
        match self {
            AutoRenew::On => "on",
            AutoRenew::Off => "off",
            AutoRenew::Unreadable => "unreadable",
        }
    }

    pub fn from_text(text: &str) -> AutoRenew {
        match text {
            "on" => AutoRenew::On,
            "off" => AutoRenew::Off,
            _ => AutoRenew::Unreadable,
        }
    }
}

/// What is known of an instance: the latest observation and what led up to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub observation: Option<Observation>,
    /// The counter of promise 2: which term the next renewal pays for.
    pub cycle: i64,
    /// The latest expiry ever seen.
    pub expiry_high: Option<Timestamp>,
    /// Looks in a row that showed an expiry earlier than `expiry_high`.
    pub lower: Option<Lower>,
    /// Looks in a row that did not show the instance at all.
    pub invisible_looks: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lower {
    pub since: Timestamp,
    pub looks: u32,
}

impl Known {
    /// Of an instance that nobody has looked at.
    pub const NOTHING: Known =
        Known { observation: None, cycle: 1, expiry_high: None, lower: None, invisible_looks: 0 };

    pub fn facts(&self) -> Option<&Facts> {
        match &self.observation.as_ref()?.presence {
            Presence::Visible(facts) => Some(facts),
            Presence::NotVisible => None,
        }
    }

    pub fn expires_at(&self) -> Option<Timestamp> {
        self.facts()?.expires_at
    }
}
