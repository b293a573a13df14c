//! Redis, API version 2018-04-12.

use serde::{Deserialize, Serialize};

use crate::cloud::call::Api;
use crate::cloud::listing::{Listed, Look, unknown_value};
use crate::cloud::reading::{Rounding, Scalar, is_payable, unreadable};
use crate::cloud::tencentcloud::api3::Action;
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::observation::{AutoRenew, ChargeType, Facts, InstanceState, Spec};
use crate::domain::order::{Goods, Purchase, Renewal, Target};
use crate::domain::product::InstanceId;

/// Paces from the actions' pages; the two price actions state none and get the version's usual 20.
pub const RENEW: Action = action("redis:RenewInstance", 20);
pub const UPGRADE: Action = action("redis:UpgradeInstance", 20);
pub const DESCRIBE: Action = action("redis:DescribeInstances", 35);
pub const PRICE_RENEW: Action = action("redis:InquiryPriceRenewInstance", 20);
pub const PRICE_UPGRADE: Action = action("redis:InquiryPriceUpgradeInstance", 20);

/// `Limit` of DescribeInstances goes no further, and cuts lists of ids too.
pub const DESCRIBE_MAX_IDS: usize = 1_000;

/// Fen. The other documented unit, `microPent`, has no documented scale.
const UNIT_FEN: &str = "pent";
const CURRENCY: &str = "CNY";

const fn action(name: &'static str, documented_per_second: u32) -> Action {
    Action { api: Api::new(name, documented_per_second), version: "2018-04-12", regional: true }
}

pub fn purchase_action(goods: &Goods) -> &'static Action {
    match goods {
        Goods::Renewal(_) => &RENEW,
        Goods::Upgrade(_) => &UPGRADE,
    }
}

pub fn price_action(goods: &Goods) -> &'static Action {
    match goods {
        Goods::Renewal(_) => &PRICE_RENEW,
        Goods::Upgrade(_) => &PRICE_UPGRADE,
    }
}

/// What a purchase and the question for its price both say. Nothing optional goes along: `ModifyPayMode` would
/// convert a pay-as-you-go instance.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Body<'a> {
    #[serde(rename_all = "PascalCase")]
    Renewal { instance_id: &'a str, period: u32 },
    #[serde(rename_all = "PascalCase")]
    Upgrade {
        instance_id: &'a str,
        mem_size: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        redis_replicas_num: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        redis_shard_num: Option<u32>,
    },
}

pub fn body(purchase: &Purchase) -> Body<'_> {
    let instance_id = purchase.instance.as_str();
    match &purchase.goods {
        Goods::Renewal(Renewal { months, .. }) => Body::Renewal { instance_id, period: *months },
        Goods::Upgrade(Target { mem_size_mb, shards, replicas }) => Body::Upgrade {
            instance_id,
            mem_size: *mem_size_mb,
            redis_replicas_num: *replicas,
            redis_shard_num: *shards,
        },
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Describe<'a> {
    instance_ids: Vec<&'a str>,
    limit: usize,
    offset: usize,
}

pub fn describe(ids: &[InstanceId]) -> Describe<'_> {
    let instance_ids = ids.iter().map(InstanceId::as_str).collect();
    Describe { instance_ids, limit: ids.len(), offset: 0 }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Instance {
    instance_id: Scalar,
    status: Scalar,
    billing_mode: Scalar,
    deadline_time: Scalar,
    auto_renew_flag: Scalar,
    redis_shard_size: Scalar,
    redis_shard_num: Scalar,
    redis_replicas_num: Scalar,
}

impl Listed for Instance {
    const LIST: &'static str = "InstanceSet";

    fn names(&self) -> impl Iterator<Item = &str> {
        self.instance_id.text().into_iter()
    }

    fn facts(&self, look: &Look<'_>) -> Facts {
        Facts {
            expires_at: self.deadline_time.time_in(look.zone),
            state: self.state(),
            charge: self.charge(),
            auto_renew: self.auto_renew(),
            renew_flag: None,
            spec: self.spec(),
            latest_operation: None,
        }
    }
}

impl Instance {
    fn state(&self) -> InstanceState {
        match self.status.integer() {
            Some(2) => InstanceState::Running,
            Some(0 | 1) => InstanceState::Busy,
            Some(-2) => InstanceState::Isolated,
            Some(-3) => InstanceState::Gone,
            _ => InstanceState::Other(unknown_value("Status", &self.status)),
        }
    }

    /// A number here; only the filter of the same name takes words.
    fn charge(&self) -> ChargeType {
        match self.billing_mode.integer() {
            Some(1) => ChargeType::Prepaid,
            Some(0) => ChargeType::Postpaid,
            _ => ChargeType::Other(unknown_value("BillingMode", &self.billing_mode)),
        }
    }

    fn auto_renew(&self) -> AutoRenew {
        match self.auto_renew_flag.integer() {
            Some(1) => AutoRenew::On,
            Some(0 | 2) => AutoRenew::Off,
            _ => AutoRenew::Unreadable,
        }
    }

    fn spec(&self) -> Option<Spec> {
        let size = |value: &Scalar| value.integer().and_then(|value| u32::try_from(value).ok());
        Some(Spec {
            mem_size_mb: size(&self.redis_shard_size)?,
            shards: size(&self.redis_shard_num)?,
            replicas: size(&self.redis_replicas_num)?,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Price {
    price: Scalar,
    high_precision_price: Scalar,
    amount_unit: Scalar,
    currency: Scalar,
}

/// A price that is not certainly in fen is none: a guessed unit would be wrong by a factor of a hundred.
pub fn price(answer: Price) -> Result<Fen, Failure> {
    let unit = answer.amount_unit.text().unwrap_or("absent");
    if unit != UNIT_FEN {
        return Err(unreadable(format!(
            "the price's `AmountUnit` is {unit}; only {UNIT_FEN} (fen) can be read"
        )));
    }
    let currency = answer.currency.text().unwrap_or(CURRENCY);
    if !currency.eq_ignore_ascii_case(CURRENCY) {
        return Err(unreadable(format!("the price is in {currency}; only {CURRENCY} can be read")));
    }
    let amount = if answer.price.text().is_some() { &answer.price } else { &answer.high_precision_price };
    let fen = amount.fen(Rounding::Up).filter(is_payable);
    fen.ok_or_else(|| unreadable("the answer has no readable `Price`"))
}
