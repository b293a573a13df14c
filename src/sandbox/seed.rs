//! What the practice cloud starts with beside its own instances: a TOML file, as [`FORMAT`] shows it.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;

use crate::domain::money::Fen;
use crate::domain::product::{InstanceId, NameError};
use crate::sandbox::faults::Fault;
use crate::sandbox::instance::{
    ChargeType, Family, Instance, InstanceChange, SpecChange, State, Switch, UnknownProduct,
};
use crate::sandbox::world::{days_later, default_expiry};
use crate::sandbox::yuan::Yuan;
use crate::sandbox::{TENCENT_KEY_PREFIX, VOLCENGINE_KEY_PREFIX};

/// A seed file that says what may stand in one.
pub const FORMAT: &str = "\
[[instances]]
id = \"crs-shop\"                        # or: prefix = \"crs-fleet-\" and count = 10000, numbered from 1
product = \"redis\"                      # optional: the id tells (crs- redis, ins- cvm, i- ecs)
expires_in_days = 3                    # or: expires_at = 2026-12-01T00:00:00Z, quoted or not; default 5 days
state = \"running\"                      # running | busy | isolated | gone
auto_renew = false
charge_type = \"prepaid\"                # prepaid | postpaid
spec = { mem_size_mb = 1024, shards = 1, replicas = 1 }
price_cny_per_month = 100.00
data_disk_price_cny_per_month = 0      # of CVM, where a renewal takes the disks along

[balances]                             # by key id (AKIDsandbox…, AKLTsandbox…); default 100000 CNY
AKIDsandbox-poor = 50

[[faults]]                             # as POST /_sandbox/faults takes them
api = \"redis:RenewInstance\"
effect = \"after\"
kind = \"drop\"
times = 1
";

/// A fleet of this size takes about a gigabyte.
const MAX_COUNT: u32 = 5_000_000;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    #[serde(default)]
    instances: Vec<Entry>,
    #[serde(default)]
    balances: BTreeMap<String, Yuan>,
    #[serde(default)]
    faults: Vec<Fault>,
}

/// One table of `[[instances]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "EntryFields")]
struct Entry {
    name: Name,
    family: Family,
    expires: Expires,
    change: InstanceChange,
}

#[derive(Clone, Debug)]
enum Name {
    One(String),
    Numbered { prefix: String, count: u32 },
}

#[derive(Clone, Copy, Debug)]
enum Expires {
    Default,
    At(Timestamp),
    InDays(i64),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryFields {
    id: Option<String>,
    prefix: Option<String>,
    count: Option<u32>,
    product: Option<Family>,
    expires_at: Option<ExpiresAt>,
    expires_in_days: Option<i64>,
    state: Option<State>,
    auto_renew: Option<Switch>,
    charge_type: Option<ChargeType>,
    spec: Option<SpecChange>,
    price_cny_per_month: Option<Yuan>,
    data_disk_price_cny_per_month: Option<Yuan>,
}

/// An instant, in quotes or as TOML's own kind of time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "toml::Value")]
struct ExpiresAt(Timestamp);

#[derive(Debug, Error)]
pub enum SeedError {
    /// Says line and column.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    #[error("[[instances]] has `{0}` twice: each id is one instance")]
    Twice(String),
    #[error(
        "[balances] has `{0}`, which begins with neither {TENCENT_KEY_PREFIX} nor {VOLCENGINE_KEY_PREFIX}: no call \
         can be made with it"
    )]
    ForeignKey(String),
}

#[derive(Debug, Error)]
enum BadEntry {
    #[error("an entry of [[instances]] has either `id`, or `prefix` and `count`")]
    NoName,
    #[error("`count` must be from 1 to {MAX_COUNT}, not {0}")]
    BadCount(u32),
    #[error("the id `{0}` {1}")]
    BadId(String, NameError),
    #[error("`expires_at` is a time with a zone such as 2026-12-01T00:00:00Z, not {0}")]
    BadExpiry(String),
    #[error("`expires_at` and `expires_in_days` exclude each other")]
    TwoExpiries,
    #[error(transparent)]
    UnknownProduct(#[from] UnknownProduct),
}

impl Seed {
    /// Reads a seed file's text.
    ///
    /// # Errors
    /// Unknown keys and impossible values, with line and column; ids that are there twice, keys of nobody.
    pub fn parse(text: &str) -> Result<Seed, SeedError> {
        let seed: Seed = toml::from_str(text)?;
        if let Some(twice) = seed.named_twice() {
            return Err(SeedError::Twice(twice));
        }
        let is_ours =
            |key: &&String| key.starts_with(TENCENT_KEY_PREFIX) || key.starts_with(VOLCENGINE_KEY_PREFIX);
        match seed.balances.keys().find(|key| !is_ours(key)) {
            Some(foreign) => Err(SeedError::ForeignKey(foreign.clone())),
            None => Ok(seed),
        }
    }

    fn named_twice(&self) -> Option<String> {
        // A fleet alone is numbered without a doubt, and may be of millions.
        if self.instances.len() < 2 {
            return None;
        }
        let mut seen = HashSet::new();
        let mut ids = self.instances.iter().flat_map(|entry| entry.name.ids());
        ids.find(|id| !seen.insert(id.clone()))
    }

    pub(crate) fn instances(&self, now: Timestamp) -> impl Iterator<Item = Instance> {
        self.instances.iter().flat_map(move |entry| entry.instances(now))
    }

    pub(crate) fn balances(&self) -> impl Iterator<Item = (&str, Fen)> {
        self.balances.iter().map(|(key_id, Yuan(balance))| (key_id.as_str(), *balance))
    }

    pub(crate) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }
}

impl Entry {
    fn instances(&self, now: Timestamp) -> impl Iterator<Item = Instance> {
        let expires_at = self.expires.after(now);
        self.name.ids().map(move |id| {
            let mut instance = Instance::new(id, self.family, expires_at, now);
            instance.change(&self.change);
            instance
        })
    }
}

impl Name {
    fn ids(&self) -> impl Iterator<Item = String> {
        let (stem, numbers) = match self {
            Name::One(id) => (id, None),
            Name::Numbered { prefix, count } => (prefix, Some(1..=*count)),
        };
        let one = numbers.is_none().then(|| stem.clone());
        let many = numbers.into_iter().flatten().map(move |number| format!("{stem}{number}"));
        one.into_iter().chain(many)
    }
}

impl Expires {
    fn after(self, now: Timestamp) -> Timestamp {
        match self {
            Expires::Default => default_expiry(now),
            Expires::At(at) => at,
            Expires::InDays(days) => days_later(now, days).unwrap_or(now),
        }
    }
}

impl TryFrom<EntryFields> for Entry {
    type Error = BadEntry;

    fn try_from(fields: EntryFields) -> Result<Entry, BadEntry> {
        let name = fields.name()?;
        let stem = match &name {
            Name::One(stem) | Name::Numbered { prefix: stem, .. } => stem,
        };
        InstanceId::parse(stem).map_err(|reason| BadEntry::BadId(stem.clone(), reason))?;
        let family = Family::agreed(stem, fields.product)?;
        let expires = match (fields.expires_at, fields.expires_in_days) {
            (None, None) => Expires::Default,
            (Some(ExpiresAt(at)), None) => Expires::At(at),
            (None, Some(days)) => Expires::InDays(days),
            (Some(_), Some(_)) => return Err(BadEntry::TwoExpiries),
        };
        let change = InstanceChange {
            state: fields.state,
            auto_renew: fields.auto_renew,
            charge_type: fields.charge_type,
            spec: fields.spec,
            price_cny_per_month: fields.price_cny_per_month,
            data_disk_price_cny_per_month: fields.data_disk_price_cny_per_month,
            ..InstanceChange::default()
        };
        Ok(Entry { name, family, expires, change })
    }
}

impl TryFrom<toml::Value> for ExpiresAt {
    type Error = BadEntry;

    fn try_from(value: toml::Value) -> Result<ExpiresAt, BadEntry> {
        let text = match &value {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let is_time = matches!(value, toml::Value::String(_) | toml::Value::Datetime(_));
        let at = text.parse().ok().filter(|_| is_time);
        at.map(ExpiresAt).ok_or(BadEntry::BadExpiry(text))
    }
}

impl EntryFields {
    fn name(&self) -> Result<Name, BadEntry> {
        match (&self.id, &self.prefix, self.count) {
            (Some(id), None, None) => Ok(Name::One(id.clone())),
            (None, Some(prefix), Some(count)) if (1..=MAX_COUNT).contains(&count) => {
                Ok(Name::Numbered { prefix: prefix.clone(), count })
            }
            (None, Some(_), Some(count)) => Err(BadEntry::BadCount(count)),
            _ => Err(BadEntry::NoName),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-20T00:00:00Z";

    #[test]
    fn a_fleet_is_numbered_and_keeps_what_the_entry_says() {
        let seed = Seed::parse(
            "[[instances]]\nprefix = \"crs-fleet-\"\ncount = 3\nexpires_in_days = -1\nstate = \"isolated\"\n\
             price_cny_per_month = 19.90\nspec = { mem_size_mb = 4096 }\n",
        );
        let made: Vec<Instance> = seed.unwrap().instances(NOW.parse().unwrap()).collect();
        let ids: Vec<&str> = made.iter().map(|instance| instance.id.as_str()).collect();
        assert_eq!(ids, ["crs-fleet-1", "crs-fleet-2", "crs-fleet-3"]);
        assert_eq!(made[0].expires_at, "2026-01-19T00:00:00Z".parse().unwrap());
        assert_eq!(made[0].price_per_month, Fen::new(1_990));
        assert_eq!((made[0].state, made[0].family), (State::Isolated, Family::Redis));
        assert_eq!(made[0].spec.map(|spec| (spec.mem_size_mb, spec.shards)), Some((4_096, 1)));
    }

    #[test]
    fn the_format_that_is_shown_is_one_that_is_read() {
        let seed = Seed::parse(FORMAT).unwrap();
        assert_eq!(seed.instances.len() + seed.balances.len() + seed.faults.len(), 3);
    }

    #[test]
    fn an_expiry_may_be_a_time_of_toml() {
        for text in ["2026-12-01T00:00:00Z", "2026-12-01 08:00:00+08:00", "\"2026-12-01T00:00:00Z\""] {
            let seed = Seed::parse(&format!("[[instances]]\nid = \"crs-1\"\nexpires_at = {text}\n")).unwrap();
            let instance = seed.instances(NOW.parse().unwrap()).next().unwrap();
            assert_eq!(instance.expires_at, "2026-12-01T00:00:00Z".parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn an_id_twice_and_a_key_of_nobody_are_refused() {
        let message = |text: &str| Seed::parse(text).unwrap_err().to_string();
        let fleet = "[[instances]]\nprefix = \"crs-a\"\ncount = 12\n";
        assert!(message(&format!("{fleet}[[instances]]\nid = \"crs-a12\"\n")).contains("`crs-a12` twice"));
        assert!(
            message(&format!("{fleet}[[instances]]\nprefix = \"crs-a1\"\ncount = 1\n")).contains("`crs-a11`")
        );
        assert!(message("[balances]\nAKIDother = 5\n").contains("AKIDsandbox"));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let mistakes = [
            ("\n[[instances]]\nid = \"crs-1\"\nexpired = 3\n", "line 4", "expired"),
            ("[[instances]]\nid = \"crs-1\"\nprefix = \"crs-\"\ncount = 2\n", "line 1", "either `id`"),
            ("[[instances]]\nid = \"db-1\"\n", "line 1", "ins- (cvm)"),
            ("[[instances]]\nid = \"ins-1\"\nproduct = \"redis\"\n", "line 1", "not one of that product"),
            ("[[instances]]\nid = \"crs-1\"\nexpires_at = 2026-12-01\n", "line 3", "with a zone"),
            ("[[instances]]\nid = \"crs-1\"\nexpires_at = 5\n", "line 3", "with a zone"),
            ("[[instances]]\nid = \"crs 1\"\n", "line 1", "character"),
            ("[[instances]]\nprefix = \"i-\"\ncount = 0\n", "line 1", "count"),
            ("[balances]\nAKIDsandbox = -5\n", "line 2", "negative"),
            (
                "[[faults]]\napi = \"redis:Renew\"\nkind = \"drop\"\neffect = \"after\"\n",
                "line 1",
                "redis:Renew",
            ),
            ("[[faults]]\napi = \"redis:RenewInstance\"\nkind = \"drop\"\n", "line 1", "effect"),
        ];
        for (text, line, hint) in mistakes {
            let message = Seed::parse(text).unwrap_err().to_string();
            assert!(message.contains(line) && message.contains(hint), "{text}\n{message}");
        }
    }
}
