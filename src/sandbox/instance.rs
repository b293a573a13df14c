//! What the practice cloud has on sale, and how it looks to those who read.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::domain::money::Fen;
use crate::domain::observation::Spec;
use crate::sandbox::yuan::{self, Yuan};

const DEFAULT_PRICE_PER_MONTH: Fen = Fen::new(10_000);
const DEFAULT_SPEC: Spec = Spec { mem_size_mb: 1024, shards: 1, replicas: 1 };

/// The kinds of machine; which API may renew one follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Redis,
    Cvm,
    Ecs,
}

/// States that matter to a purchase. Nothing lapses by itself: an instance stays what it was last set to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[default]
    Running,
    /// Another flow holds it.
    Busy,
    /// Shut off for lack of renewal; a renewal brings it back.
    Isolated,
    /// To be deleted; past saving.
    Gone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChargeType {
    #[default]
    Prepaid,
    Postpaid,
}

/// Written as `true` or `false`, also read as `"on"` or `"off"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SwitchText", into = "bool")]
pub struct Switch(pub bool);

/// What the cloud itself does at expiry. The controls know on and off; the APIs of CVM can set all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenewFlag {
    #[default]
    Manual,
    Auto,
    /// Manual, and the owner does not want to be reminded.
    Declined,
}

/// `LatestOperation*` of CVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub name: &'static str,
    /// None of an operation by another API.
    pub request_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected true, false, \"on\" or \"off\"")]
enum SwitchText {
    Bool(bool),
    Word(SwitchWord),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum SwitchWord {
    On,
    Off,
}

/// One instance, seen from every region and with every key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instance {
    pub id: String,
    #[serde(rename = "product")]
    pub family: Family,
    pub expires_at: Timestamp,
    pub state: State,
    #[serde(rename = "auto_renew", serialize_with = "is_auto")]
    pub renew_flag: RenewFlag,
    pub charge_type: ChargeType,
    /// Only Redis has these dimensions.
    pub spec: Option<Spec>,
    #[serde(rename = "price_cny_per_month", with = "yuan")]
    pub price_per_month: Fen,
    /// Of its elastic data disks, where a renewal takes them along.
    #[serde(rename = "data_disk_price_cny_per_month", with = "yuan")]
    pub data_disk_price_per_month: Fen,
    #[serde(skip)]
    pub latest_operation: Option<Operation>,
    pub created_at: Timestamp,
    /// What readers saw before each charge, oldest first.
    #[serde(skip)]
    history: Vec<Before>,
}

/// The look of an instance before one charge, shown to reads of moments before `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Before {
    until: Timestamp,
    look: Look,
}

/// The part of an instance that a charge changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub expires_at: Timestamp,
    pub state: State,
    pub renew_flag: RenewFlag,
    pub spec: Option<Spec>,
    pub latest_operation: Option<Operation>,
}

/// What a renewal changes.
#[derive(Clone, Debug)]
pub(crate) struct Renewed {
    pub expires_at: Timestamp,
    /// None leaves it as it is.
    pub renew_flag: Option<RenewFlag>,
    pub operation: Option<Operation>,
}

/// The body of `PUT /_sandbox/instances/ID`; what is absent stays as it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceChange {
    pub product: Option<Family>,
    pub expires_at: Option<Timestamp>,
    pub state: Option<State>,
    pub auto_renew: Option<Switch>,
    pub charge_type: Option<ChargeType>,
    pub spec: Option<SpecChange>,
    pub(crate) price_cny_per_month: Option<Yuan>,
    pub(crate) data_disk_price_cny_per_month: Option<Yuan>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecChange {
    pub mem_size_mb: Option<u32>,
    pub shards: Option<u32>,
    pub replicas: Option<u32>,
}

/// An id tells its product; no cloud has others.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnknownProduct {
    #[error("the id `{0}` begins with none of crs- (redis), ins- (cvm) and i- (ecs)")]
    Prefix(String),
    #[error("the id `{0}` is not one of that product: crs- is redis, ins- is cvm, i- is ecs")]
    OfAnother(String),
}

impl Family {
    /// What the id of an instance tells.
    pub fn of_id(id: &str) -> Result<Family, UnknownProduct> {
        let by_prefix = [("crs-", Family::Redis), ("ins-", Family::Cvm), ("i-", Family::Ecs)];
        let found = by_prefix.iter().find(|(prefix, _)| id.starts_with(prefix));
        found.map(|(_, family)| *family).ok_or_else(|| UnknownProduct::Prefix(id.to_owned()))
    }

    /// What the id tells, if that is what was said.
    pub(crate) fn agreed(id: &str, said: Option<Family>) -> Result<Family, UnknownProduct> {
        let family = Family::of_id(id)?;
        if said.is_some_and(|said| said != family) {
            return Err(UnknownProduct::OfAnother(id.to_owned()));
        }
        Ok(family)
    }
}

impl Instance {
    /// A running prepaid one of default size and price.
    pub fn new(id: impl Into<String>, family: Family, expires_at: Timestamp, now: Timestamp) -> Instance {
        Instance {
            id: id.into(),
            family,
            expires_at: whole_second(expires_at),
            state: State::Running,
            renew_flag: RenewFlag::Manual,
            charge_type: ChargeType::Prepaid,
            spec: (family == Family::Redis).then_some(DEFAULT_SPEC),
            price_per_month: DEFAULT_PRICE_PER_MONTH,
            data_disk_price_per_month: Fen::new(0),
            latest_operation: None,
            created_at: now,
            history: Vec::new(),
        }
    }

    /// What is set is seen at once, also by reads that lag.
    pub fn change(&mut self, change: &InstanceChange) {
        self.history.clear();
        self.family = change.product.unwrap_or(self.family);
        self.expires_at = change.expires_at.map_or(self.expires_at, whole_second);
        self.state = change.state.unwrap_or(self.state);
        self.renew_flag = change.auto_renew.map_or(self.renew_flag, RenewFlag::of_switch);
        self.charge_type = change.charge_type.unwrap_or(self.charge_type);
        self.price_per_month = change.price_cny_per_month.map_or(self.price_per_month, |Yuan(price)| price);
        let disk_price = change.data_disk_price_cny_per_month.map(|Yuan(price)| price);
        self.data_disk_price_per_month = disk_price.unwrap_or(self.data_disk_price_per_month);
        if let Some(spec) = change.spec {
            let old = self.spec.unwrap_or(DEFAULT_SPEC);
            self.spec = Some(Spec {
                mem_size_mb: spec.mem_size_mb.unwrap_or(old.mem_size_mb),
                shards: spec.shards.unwrap_or(old.shards),
                replicas: spec.replicas.unwrap_or(old.replicas),
            });
        }
    }

    /// Takes a renewal that readers see from `seen_from` on.
    pub(crate) fn renew(&mut self, renewed: Renewed, seen_from: Timestamp) {
        self.history.push(Before { until: seen_from, look: self.look() });
        self.expires_at = renewed.expires_at;
        self.state = State::Running;
        self.renew_flag = renewed.renew_flag.unwrap_or(self.renew_flag);
        self.latest_operation = renewed.operation;
    }

    /// Takes an upgrade that readers see from `seen_from` on.
    pub(crate) fn resize(&mut self, spec: Spec, price_per_month: Fen, seen_from: Timestamp) {
        self.history.push(Before { until: seen_from, look: self.look() });
        self.spec = Some(spec);
        self.price_per_month = price_per_month;
    }

    /// How a read of that moment sees it.
    pub fn look_at(&self, moment: Timestamp) -> Look {
        let hidden = self.history.iter().find(|before| before.until > moment);
        hidden.map_or_else(|| self.look(), |before| before.look.clone())
    }

    fn look(&self) -> Look {
        Look {
            expires_at: self.expires_at,
            state: self.state,
            renew_flag: self.renew_flag,
            spec: self.spec,
            latest_operation: self.latest_operation.clone(),
        }
    }
}

impl RenewFlag {
    fn of_switch(switch: Switch) -> RenewFlag {
        if switch.0 { RenewFlag::Auto } else { RenewFlag::Manual }
    }

    /// As Redis and CVM v2 write it.
    pub fn number(self) -> i64 {
        match self {
            RenewFlag::Manual => 0,
            RenewFlag::Auto => 1,
            RenewFlag::Declined => 2,
        }
    }
}

fn is_auto<S: Serializer>(flag: &RenewFlag, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(*flag == RenewFlag::Auto)
}

/// Providers show expiries in whole seconds; the ledger must not know more than they show.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

impl InstanceChange {
    pub fn with_price_per_month(mut self, price: Fen) -> InstanceChange {
        self.price_cny_per_month = Some(Yuan(price));
        self
    }
}

impl From<SwitchText> for Switch {
    fn from(text: SwitchText) -> Switch {
        match text {
            SwitchText::Bool(on) => Switch(on),
            SwitchText::Word(SwitchWord::On) => Switch(true),
            SwitchText::Word(SwitchWord::Off) => Switch(false),
        }
    }
}

impl From<Switch> for bool {
    fn from(switch: Switch) -> bool {
        switch.0
    }
}
