//! The state of the practice cloud: instances, accounts, orders and the ledger of charges.
//!
//! A state machine without HTTP and without a clock: `now` is an argument.

use std::collections::HashMap;

use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::domain::money::Fen;
use crate::domain::order::Target;
use crate::domain::policy::ActionKind;
use crate::domain::product::{Product, TencentProduct, VolcengineProduct};
use crate::sandbox::instance::{
    ChargeType, Family, Instance, InstanceChange, Operation, RenewFlag, Renewed, State, UnknownProduct,
};
use crate::sandbox::tokens::{NoSecondSale, Tokens};
use crate::sandbox::upgrade::{NoUpgrade, Upgraded, upgrade};
use crate::sandbox::yuan;

/// The zone in which the providers count months and write times without a zone.
pub const CLOUD_ZONE: TimeZone = TimeZone::fixed(Offset::constant(8));

const DEFAULT_BALANCE: Fen = Fen::new(10_000_000);
const DEFAULT_LIFE_DAYS: i64 = 5;
const DEFAULT_INSTANCES_EACH: usize = 9;
const HOURS_PER_DAY: i64 = 24;

pub struct World {
    instances: Vec<Instance>,
    index: HashMap<String, usize>,
    accounts: HashMap<String, Account>,
    ledger: Vec<Charge>,
    orders_made: u64,
    tokens: Tokens,
}

/// One key id: its money and its orders.
struct Account {
    balance: Fen,
    orders: Vec<Order>,
}

/// A charge that took effect, as the ledger shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    pub provider: String,
    pub product: String,
    pub action: ActionKind,
    pub instance: String,
    /// None of an upgrade.
    pub months: Option<u32>,
    pub order_id: String,
    pub client_token: Option<String>,
    #[serde(rename = "amount_cny", with = "yuan")]
    pub amount: Fen,
    pub at: Timestamp,
    pub expiry_before: Timestamp,
    pub expiry_after: Timestamp,
}

/// An order as the account's order list shows it. All are paid and delivered at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub order_id: String,
    pub instance: String,
    pub family: Family,
    pub action: ActionKind,
    /// None of an upgrade.
    pub months: Option<u32>,
    pub amount: Fen,
    pub created_at: Timestamp,
    /// Lists of earlier moments do not show it.
    pub seen_from: Timestamp,
}

/// A renewal somebody with a good signature asks for.
#[derive(Clone, Debug)]
pub struct Renewal<'a> {
    pub key_id: &'a str,
    /// The product as which the API that was called knows the instance.
    pub product: Product,
    pub instance: &'a str,
    pub term: Term,
    /// None leaves it as it is.
    pub renew_flag: Option<RenewFlag>,
    /// What the instance then remembers as its latest operation.
    pub operation: Option<Operation>,
    /// From when on readers see it; `now` unless a fault delays it.
    pub seen_from: Timestamp,
}

/// What of an instance is paid for, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    pub months: u32,
    pub with_data_disks: bool,
}

/// An upgrade of a Redis instance.
#[derive(Clone, Debug)]
pub struct Upgrade<'a> {
    pub key_id: &'a str,
    pub instance: &'a str,
    pub target: Target,
    pub seen_from: Timestamp,
}

/// Why nothing is sold. Each provider has its own code for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoSale {
    #[error("there is no such instance")]
    NoInstance,
    #[error("the instance is to be deleted")]
    Gone,
    #[error("another flow holds the instance")]
    Busy,
    #[error("the instance is isolated")]
    Isolated,
    #[error("the instance is not prepaid")]
    NotPrepaid,
    #[error(transparent)]
    NoUpgrade(#[from] NoUpgrade),
    #[error("the balance is {balance} CNY, the order costs {price} CNY")]
    Balance { balance: Fen, price: Fen },
    #[error("the price or the new expiry is out of range")]
    OutOfRange,
}

/// One line of the ledger and of the order list, before it has a number.
struct Sale<'a> {
    key_id: &'a str,
    product: Product,
    instance: &'a str,
    action: ActionKind,
    months: Option<u32>,
    client_token: Option<&'a str>,
    amount: Fen,
    expiry_after: Timestamp,
    seen_from: Timestamp,
}

/// What a renewal would cost and bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    pub price: Fen,
    pub expiry_after: Timestamp,
}

impl World {
    /// Nine instances of each family that expire in five days.
    pub fn new(now: Timestamp) -> World {
        let mut world = World {
            instances: Vec::new(),
            index: HashMap::new(),
            accounts: HashMap::new(),
            ledger: Vec::new(),
            orders_made: 0,
            tokens: Tokens::default(),
        };
        for (prefix, family) in [("crs", Family::Redis), ("ins", Family::Cvm), ("i", Family::Ecs)] {
            let expires_at = default_expiry(now);
            world.add_instances(
                (1..=DEFAULT_INSTANCES_EACH).map(|number| {
                    Instance::new(format!("{prefix}-sandbox-{number}"), family, expires_at, now)
                }),
            );
        }
        world
    }

    /// One of the same id is replaced.
    pub fn add_instances(&mut self, instances: impl IntoIterator<Item = Instance>) {
        for instance in instances {
            match self.index.get(&instance.id) {
                Some(&at) => self.instances[at] = instance,
                None => {
                    self.index.insert(instance.id.clone(), self.instances.len());
                    self.instances.push(instance);
                }
            }
        }
    }

    /// Changes an instance, or makes it when there is none of that id.
    pub fn set_instance(
        &mut self,
        id: &str,
        change: InstanceChange,
        now: Timestamp,
    ) -> Result<&Instance, UnknownProduct> {
        let family = Family::agreed(id, change.product)?;
        if !self.index.contains_key(id) {
            self.add_instances([Instance::new(id, family, default_expiry(now), now)]);
        }
        let instance = &mut self.instances[self.index[id]];
        instance.change(&change);
        Ok(instance)
    }

    pub fn set_balance(&mut self, key_id: &str, balance: Fen) {
        self.account(key_id).balance = balance;
    }

    pub fn balance(&self, key_id: &str) -> Fen {
        self.accounts.get(key_id).map_or(DEFAULT_BALANCE, |account| account.balance)
    }

    pub fn instance(&self, family: Family, id: &str) -> Option<&Instance> {
        let found = self.index.get(id).map(|&at| &self.instances[at]);
        found.filter(|instance| instance.family == family)
    }

    /// In the order in which they came to be.
    pub fn instances(&self, family: Family) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(move |instance| instance.family == family)
    }

    /// Newest first.
    pub fn orders(&self, key_id: &str) -> impl Iterator<Item = &Order> {
        self.accounts.get(key_id).into_iter().flat_map(|account| account.orders.iter().rev())
    }

    pub fn ledger(&self) -> &[Charge] {
        &self.ledger
    }

    /// What a renewal would cost; refused as the renewal would be, save for the balance.
    pub fn quote(&self, family: Family, id: &str, term: Term) -> Result<Quote, NoSale> {
        let instance = self.on_sale(family, id)?;
        let disks = if term.with_data_disks { instance.data_disk_price_per_month.get() } else { 0 };
        let per_month = instance.price_per_month.get().checked_add(disks);
        let price = per_month.and_then(|fen| fen.checked_mul(i64::from(term.months)));
        let price = Fen::new(price.ok_or(NoSale::OutOfRange)?);
        let expiry_after = months_later(instance.expires_at, term.months).ok_or(NoSale::OutOfRange)?;
        Ok(Quote { price, expiry_after })
    }

    /// What an upgrade would cost and lead to; refused as the upgrade would be, save for the balance.
    pub fn quote_upgrade(&self, id: &str, target: &Target) -> Result<Upgraded, NoSale> {
        let instance = self.on_sale(Family::Redis, id)?;
        if instance.state == State::Isolated {
            return Err(NoSale::Isolated);
        }
        let spec = instance.spec.ok_or(NoUpgrade::NoSuchSpec)?;
        Ok(upgrade(spec, target, instance.price_per_month)?)
    }

    fn on_sale(&self, family: Family, id: &str) -> Result<&Instance, NoSale> {
        let instance = self.instance(family, id).ok_or(NoSale::NoInstance)?;
        match (instance.state, instance.charge_type) {
            (State::Gone, _) => Err(NoSale::Gone),
            (State::Busy, _) => Err(NoSale::Busy),
            (_, ChargeType::Postpaid) => Err(NoSale::NotPrepaid),
            (State::Running | State::Isolated, ChargeType::Prepaid) => Ok(instance),
        }
    }

    /// Takes the money and moves the expiry, both or neither.
    pub fn renew(&mut self, renewal: &Renewal<'_>, now: Timestamp) -> Result<String, NoSale> {
        self.renew_with(renewal, None, now)
    }

    /// As [`World::renew`], once for each token: the same renewal again gives the first order and costs nothing.
    pub fn renew_once(
        &mut self,
        renewal: &Renewal<'_>,
        token: &str,
        now: Timestamp,
    ) -> Result<String, NoSecondSale> {
        if let Some(order_id) = self.tokens.recall(renewal, token, now)? {
            return Ok(order_id);
        }
        let order_id = self.renew_with(renewal, Some(token), now)?;
        self.tokens.remember(renewal, token, &order_id, now);
        Ok(order_id)
    }

    fn renew_with(
        &mut self,
        renewal: &Renewal<'_>,
        client_token: Option<&str>,
        now: Timestamp,
    ) -> Result<String, NoSale> {
        let Renewal { key_id, product, instance, term, renew_flag, seen_from, .. } = *renewal;
        let quote = self.quote(Family::of_product(product), instance, term)?;
        let sale = Sale {
            key_id,
            product,
            instance,
            action: ActionKind::Renew,
            months: Some(term.months),
            client_token,
            amount: quote.price,
            expiry_after: quote.expiry_after,
            seen_from,
        };
        let order_id = self.sell(&sale, now)?;
        let operation = renewal.operation.clone();
        let renewed = Renewed { expires_at: quote.expiry_after, renew_flag, operation };
        self.instances[self.index[instance]].renew(renewed, seen_from);
        Ok(order_id)
    }

    /// All of them or none. A refusal names the instance at fault, unless it is of their sum.
    pub fn renew_together<'a>(
        &mut self,
        renewals: &[Renewal<'a>],
        now: Timestamp,
    ) -> Result<(), (Option<&'a str>, NoSale)> {
        for key_id in renewals.iter().map(|renewal| renewal.key_id) {
            let mut price = 0_i64;
            for renewal in renewals.iter().filter(|renewal| renewal.key_id == key_id) {
                let family = Family::of_product(renewal.product);
                let at_fault = |reason| (Some(renewal.instance), reason);
                let quote = self.quote(family, renewal.instance, renewal.term).map_err(at_fault)?;
                price = price.checked_add(quote.price.get()).ok_or(at_fault(NoSale::OutOfRange))?;
            }
            self.check_balance(key_id, Fen::new(price)).map_err(|reason| (None, reason))?;
        }
        let mut renew = |renewal: &Renewal<'a>| self.renew(renewal, now).map(|_| ());
        renewals
            .iter()
            .try_for_each(|renewal| renew(renewal).map_err(|reason| (Some(renewal.instance), reason)))
    }

    /// Takes the money and changes the size, both or neither. The new size is there at once.
    pub fn upgrade(&mut self, wanted: &Upgrade<'_>, now: Timestamp) -> Result<String, NoSale> {
        let Upgrade { key_id, instance, ref target, seen_from } = *wanted;
        let upgraded = self.quote_upgrade(instance, target)?;
        let sale = Sale {
            key_id,
            product: Product::REDIS,
            instance,
            action: ActionKind::Upgrade,
            months: None,
            client_token: None,
            amount: upgraded.price,
            expiry_after: self.instances[self.index[instance]].expires_at,
            seen_from,
        };
        let order_id = self.sell(&sale, now)?;
        let Upgraded { spec, price_per_month, .. } = upgraded;
        self.instances[self.index[instance]].resize(spec, price_per_month, seen_from);
        Ok(order_id)
    }

    /// Takes the money and writes the order down, before the instance changes.
    fn sell(&mut self, sale: &Sale<'_>, now: Timestamp) -> Result<String, NoSale> {
        let Sale { key_id, product, instance, action, months, client_token, amount, expiry_after, seen_from } =
            *sale;
        let balance = self.check_balance(key_id, amount)?;
        let order_id = self.next_order_id(product, now);
        let account = self.account(key_id);
        account.balance = Fen::new(balance.get() - amount.get());
        account.orders.push(Order {
            order_id: order_id.clone(),
            instance: instance.to_owned(),
            family: Family::of_product(product),
            action,
            months,
            amount,
            created_at: now,
            seen_from,
        });
        self.ledger.push(Charge {
            provider: product.provider().to_string(),
            product: product.to_string(),
            action,
            instance: instance.to_owned(),
            months,
            order_id: order_id.clone(),
            client_token: client_token.map(str::to_owned),
            amount,
            at: now,
            expiry_before: self.instances[self.index[instance]].expires_at,
            expiry_after,
        });
        Ok(order_id)
    }

    fn check_balance(&self, key_id: &str, price: Fen) -> Result<Fen, NoSale> {
        let balance = self.balance(key_id);
        if balance < price { Err(NoSale::Balance { balance, price }) } else { Ok(balance) }
    }

    fn account(&mut self, key_id: &str) -> &mut Account {
        let fresh = || Account { balance: DEFAULT_BALANCE, orders: Vec::new() };
        self.accounts.entry(key_id.to_owned()).or_insert_with(fresh)
    }

    /// 23 digits as the real ones have: the second in the cloud's zone and a number; Volcengine says `Order` first.
    fn next_order_id(&mut self, product: Product, now: Timestamp) -> String {
        self.orders_made += 1;
        let second = now.to_zoned(CLOUD_ZONE).strftime("%Y%m%d%H%M%S");
        let prefix = match product {
            Product::TencentCloud(_) => "",
            Product::Volcengine(_) => "Order",
        };
        format!("{prefix}{second}{:09}", self.orders_made)
    }
}

impl Family {
    fn of_product(product: Product) -> Family {
        match product {
            Product::TencentCloud(TencentProduct::Redis) => Family::Redis,
            Product::TencentCloud(TencentProduct::Cvm | TencentProduct::CvmV2) => Family::Cvm,
            Product::Volcengine(VolcengineProduct::Ecs) => Family::Ecs,
        }
    }
}

/// Days as hours: an expiry is an instant, not a date in some zone.
pub(crate) fn days_later(from: Timestamp, days: i64) -> Option<Timestamp> {
    from.checked_add(Span::new().try_hours(days.checked_mul(HOURS_PER_DAY)?).ok()?).ok()
}

/// The same day of a later month, or its last day; counted in the cloud's zone.
fn months_later(from: Timestamp, months: u32) -> Option<Timestamp> {
    let later = from.to_zoned(CLOUD_ZONE).checked_add(Span::new().try_months(months).ok()?);
    later.ok().map(|zoned| zoned.timestamp())
}

pub(crate) fn default_expiry(now: Timestamp) -> Timestamp {
    days_later(now, DEFAULT_LIFE_DAYS).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-20T00:00:00Z";

    fn renewal(instance: &str, months: u32) -> Renewal<'_> {
        let seen_from = NOW.parse().unwrap();
        Renewal {
            key_id: "AKIDsandbox",
            product: Product::REDIS,
            instance,
            term: Term { months, with_data_disks: false },
            renew_flag: None,
            operation: None,
            seen_from,
        }
    }

    #[test]
    fn a_month_ends_where_the_next_one_ends_in_the_clouds_zone() {
        // 2026-01-31 00:30 in UTC+8 is still the 30th in UTC; a month later both are 28 February.
        let before: Timestamp = "2026-01-30T16:30:00Z".parse().unwrap();
        assert_eq!(months_later(before, 1), Some("2026-02-27T16:30:00Z".parse().unwrap()));
        assert_eq!(months_later(before, 2), Some("2026-03-30T16:30:00Z".parse().unwrap()));
    }

    #[test]
    fn a_sale_moves_money_expiry_ledger_and_order_list_together() {
        let now = NOW.parse().unwrap();
        let mut world = World::new(now);
        let order_id = world.renew(&renewal("crs-sandbox-1", 3), now).unwrap();
        assert_eq!(order_id.len(), 23);
        assert_eq!(world.balance("AKIDsandbox"), Fen::new(10_000_000 - 30_000));
        assert_eq!(world.ledger()[0].expiry_before, "2026-01-25T00:00:00Z".parse().unwrap());
        assert_eq!(world.ledger()[0].expiry_after, "2026-04-25T00:00:00Z".parse().unwrap());
        assert_eq!(world.orders("AKIDsandbox").next().unwrap().order_id, order_id);
        assert_eq!(world.orders("AKIDsandbox-other").count(), 0);
    }

    #[test]
    fn a_refused_sale_moves_nothing() {
        let now = NOW.parse().unwrap();
        let mut world = World::new(now);
        world.set_balance("AKIDsandbox", Fen::new(9_999));
        let refused = world.renew(&renewal("crs-sandbox-1", 1), now).unwrap_err();
        assert_eq!(refused, NoSale::Balance { balance: Fen::new(9_999), price: Fen::new(10_000) });
        assert_eq!(world.renew(&renewal("ins-sandbox-1", 1), now), Err(NoSale::NoInstance));
        for (state, refusal) in [(State::Gone, NoSale::Gone), (State::Busy, NoSale::Busy)] {
            let change = InstanceChange { state: Some(state), ..InstanceChange::default() };
            world.set_instance("crs-sandbox-2", change, now).unwrap();
            assert_eq!(world.renew(&renewal("crs-sandbox-2", 1), now), Err(refusal));
        }
        assert!(world.ledger().is_empty());
        assert_eq!(world.balance("AKIDsandbox"), Fen::new(9_999));
        assert_eq!(world.instance(Family::Redis, "crs-sandbox-1").unwrap().expires_at, default_expiry(now));
    }

    #[test]
    fn readers_of_earlier_moments_see_the_old_state() {
        let now = NOW.parse().unwrap();
        let seen_from = "2026-01-20T00:01:00Z".parse().unwrap();
        let mut world = World::new(now);
        world.renew(&Renewal { seen_from, ..renewal("crs-sandbox-1", 1) }, now).unwrap();
        let instance = world.instance(Family::Redis, "crs-sandbox-1").unwrap();
        assert_eq!(instance.look_at(now).expires_at, default_expiry(now));
        assert_eq!(instance.look_at(seen_from).expires_at, instance.expires_at);
    }
}
