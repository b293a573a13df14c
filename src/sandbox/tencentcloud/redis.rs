//! Redis, version 2018-04-12.
//!
//! Source: the Redis pages RenewInstance, UpgradeInstance, DescribeInstances, InquiryPriceRenewInstance and
//! InquiryPriceUpgradeInstance.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::domain::money::Fen;
use crate::domain::observation::Spec;
use crate::domain::order::Target;
use crate::domain::product::Product;
use crate::sandbox::desk::{Act, ApiName, Refusal, Visit};
use crate::sandbox::instance::{ChargeType, Family, Instance, Look, State};
use crate::sandbox::tencentcloud::arguments::Arguments;
use crate::sandbox::tencentcloud::{Api, invalid, missing, stamp};
use crate::sandbox::upgrade::NoUpgrade;
use crate::sandbox::world::{NoSale, Renewal, Term, Upgrade, World, days_later};

const VERSION: &str = "2018-04-12";
const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 1_000;
const OFFLINE_AFTER_ISOLATION_DAYS: i64 = 7;
const PORT: u16 = 6_379;
/// Documented filters that are not played here.
const UNPLAYED: [&str; 17] = [
    "VpcIds",
    "SubnetIds",
    "SearchKey",
    "ProjectIds",
    "InstanceName",
    "UniqVpcIds",
    "UniqSubnetIds",
    "RegionIds",
    "TypeVersion",
    "EngineName",
    "Type",
    "SearchKeys",
    "TypeList",
    "InstanceTags",
    "TagKeys",
    "ProductVersions",
    "AzMode",
];
/// Source: the region table of the service; others exist.
const REGION_IDS: [(&str, u32); 15] = [
    ("ap-guangzhou", 1),
    ("ap-shanghai", 4),
    ("ap-hongkong", 5),
    ("ap-shanghai-fsi", 7),
    ("ap-beijing", 8),
    ("ap-singapore", 9),
    ("ap-shenzhen-fsi", 11),
    ("na-siliconvalley", 15),
    ("ap-chengdu", 16),
    ("eu-frankfurt", 17),
    ("ap-seoul", 18),
    ("ap-chongqing", 19),
    ("na-ashburn", 22),
    ("ap-bangkok", 23),
    ("ap-tokyo", 25),
];

pub(super) const APIS: &[Api] = &[
    Api {
        name: ApiName("redis:RenewInstance"),
        version: VERSION,
        per_second: 20,
        is_regional: true,
        read: renew_instance,
    },
    Api {
        name: ApiName("redis:InquiryPriceRenewInstance"),
        version: VERSION,
        per_second: 20,
        is_regional: true,
        read: inquiry_price_renew_instance,
    },
    Api {
        name: ApiName("redis:UpgradeInstance"),
        version: VERSION,
        per_second: 20,
        is_regional: true,
        read: upgrade_instance,
    },
    Api {
        name: ApiName("redis:InquiryPriceUpgradeInstance"),
        version: VERSION,
        per_second: 20,
        is_regional: true,
        read: inquiry_price_upgrade_instance,
    },
    Api {
        name: ApiName("redis:DescribeInstances"),
        version: VERSION,
        per_second: 35,
        is_regional: true,
        read: describe_instances,
    },
];

/// Answers with `DealName` alone, as the mainland service does today; older pages show `DealId`.
fn renew_instance(mut arguments: Arguments) -> Result<Act, Refusal> {
    let instance = instance_id(&mut arguments)?;
    let months = period(&mut arguments)?;
    if let Some(pay_mode) = arguments.text("ModifyPayMode")?
        && !pay_mode.eq_ignore_ascii_case("prepaid")
    {
        return Err(invalid("ModifyPayMode", "can only be prepaid"));
    }
    arguments.finish()?;
    Ok(Act {
        instances: vec![instance.clone()],
        perform: Box::new(move |world, visit| {
            let renewal = Renewal {
                key_id: visit.key_id,
                product: Product::REDIS,
                instance: &instance,
                term: Term { months, with_data_disks: false },
                renew_flag: None,
                operation: None,
                seen_from: visit.seen_from(),
            };
            let order_id =
                world.renew(&renewal, visit.now).map_err(|reason| refuse_sale(&instance, reason))?;
            Ok(json!({ "DealName": order_id }))
        }),
    })
}

fn inquiry_price_renew_instance(mut arguments: Arguments) -> Result<Act, Refusal> {
    let instance = instance_id(&mut arguments)?;
    let months = period(&mut arguments)?;
    arguments.finish()?;
    Ok(Act {
        instances: vec![instance.clone()],
        perform: Box::new(move |world, _| {
            let quote = world.quote(Family::Redis, &instance, Term { months, with_data_disks: false });
            quote.map(|quote| price(quote.price)).map_err(|reason| refuse_sale(&instance, reason))
        }),
    })
}

fn upgrade_instance(mut arguments: Arguments) -> Result<Act, Refusal> {
    let instance = instance_id(&mut arguments)?;
    let target = target(&mut arguments)?;
    if !matches!(arguments.integer("SwitchOption")?, None | Some(1 | 2)) {
        return Err(invalid("SwitchOption", "must be 1 or 2"));
    }
    arguments.refuse_unplayed(&["NodeSet"])?;
    arguments.finish()?;
    Ok(Act {
        instances: vec![instance.clone()],
        perform: Box::new(move |world, visit| {
            let upgrade =
                Upgrade { key_id: visit.key_id, instance: &instance, target, seen_from: visit.seen_from() };
            let order_id =
                world.upgrade(&upgrade, visit.now).map_err(|reason| refuse_upgrade(&instance, reason))?;
            Ok(json!({ "DealName": order_id }))
        }),
    })
}

fn inquiry_price_upgrade_instance(mut arguments: Arguments) -> Result<Act, Refusal> {
    let instance = instance_id(&mut arguments)?;
    let target = target(&mut arguments)?;
    arguments.finish()?;
    Ok(Act {
        instances: vec![instance.clone()],
        perform: Box::new(move |world, _| {
            let upgraded = world.quote_upgrade(&instance, &target);
            upgraded.map(|upgraded| price(upgraded.price)).map_err(|reason| refuse_upgrade(&instance, reason))
        }),
    })
}

fn describe_instances(mut arguments: Arguments) -> Result<Act, Refusal> {
    let query = InstanceQuery::read(&mut arguments)?;
    arguments.refuse_unplayed(&UNPLAYED)?;
    arguments.finish()?;
    Ok(Act {
        instances: query.ids.clone().unwrap_or_default(),
        perform: Box::new(move |world, visit| Ok(query.answer(world, visit))),
    })
}

fn instance_id(arguments: &mut Arguments) -> Result<String, Refusal> {
    let id = arguments.text("InstanceId")?.ok_or_else(|| missing("InstanceId"))?;
    if id.is_empty() {
        return Err(Refusal::new("InvalidParameter.EmptyParam", "`InstanceId` is empty"));
    }
    Ok(id)
}

fn period(arguments: &mut Arguments) -> Result<u32, Refusal> {
    let period = arguments.integer("Period")?.ok_or_else(|| missing("Period"))?;
    if period < 1 {
        let message = "`Period` is at least one month";
        return Err(Refusal::new("LimitExceeded.PeriodLessThanMinLimit", message));
    }
    let on_sale = |months: &u32| Product::REDIS.sells_months(*months);
    u32::try_from(period).ok().filter(on_sale).ok_or_else(|| {
        let message = format!("`Period` is {} months, not {period}", Product::REDIS.months_on_sale());
        Refusal::new("LimitExceeded.PeriodExceedMaxLimit", message)
    })
}

fn target(arguments: &mut Arguments) -> Result<Target, Refusal> {
    let mut number = |name: &str| {
        let given = arguments.integer(name)?.map(u32::try_from).transpose();
        given.map_err(|_| invalid(name, "is out of range"))
    };
    Ok(Target {
        mem_size_mb: number("MemSize")?.ok_or_else(|| missing("MemSize"))?,
        shards: number("RedisShardNum")?,
        replicas: number("RedisReplicasNum")?,
    })
}

fn refuse_upgrade(instance: &str, reason: NoSale) -> Refusal {
    let code = match reason {
        NoSale::NoUpgrade(NoUpgrade::MemSize) => "InvalidParameterValue.MemSizeNotInRange",
        NoSale::NoUpgrade(NoUpgrade::Shrinks) => "InvalidParameterValue.ReduceCapacityNotAllowed",
        NoSale::NoUpgrade(NoUpgrade::NoSuchSpec) => "InvalidParameterValue.SpecNotExist",
        NoSale::NoUpgrade(_) => "InvalidParameter.InvalidParameter",
        NoSale::Busy | NoSale::Isolated => "ResourceUnavailable.InstanceStatusAbnormal",
        _ => return refuse_sale(instance, reason),
    };
    Refusal::new(code, format!("{instance}: {reason}"))
}

fn refuse_sale(instance: &str, reason: NoSale) -> Refusal {
    let code = match reason {
        NoSale::NoInstance => "ResourceNotFound.InstanceNotExists",
        NoSale::Gone => "ResourceUnavailable.InstanceDeleted",
        NoSale::Busy => "ResourceInUse.InstanceBeenLocked",
        NoSale::Isolated => "ResourceUnavailable.InstanceIsolated",
        NoSale::NotPrepaid | NoSale::NoUpgrade(_) => "FailedOperation.UnSupportError",
        NoSale::Balance { .. } => "ResourceUnavailable.AccountBalanceNotEnough",
        NoSale::OutOfRange => "LimitExceeded.PeriodExceedMaxLimit",
    };
    Refusal::new(code, format!("{instance}: {reason}"))
}

/// In fen; `pent` is the vendor's word for it.
fn price(price: Fen) -> Value {
    let fen = price.get() as f64;
    json!({
        "Price": fen,
        "HighPrecisionPrice": fen,
        "OriginalPrice": fen,
        "HighPrecisionOriginalPrice": fen,
        "Currency": "CNY",
        "AmountUnit": "pent",
    })
}

/// What to list; a filter that is absent lets everything through.
struct InstanceQuery {
    limit: usize,
    offset: usize,
    ids: Option<Vec<String>>,
    charge_type: Option<ChargeType>,
    auto_renew_flags: Option<Vec<i64>>,
    statuses: Option<Vec<i64>>,
    order: Option<Order>,
}

enum Order {
    SoonestFirst,
    LatestFirst,
}

/// An instance as the moment of the read shows it.
struct Seen<'a> {
    instance: &'a Instance,
    look: Look,
}

impl InstanceQuery {
    fn read(arguments: &mut Arguments) -> Result<InstanceQuery, Refusal> {
        let limit = arguments.integer("Limit")?.unwrap_or(DEFAULT_LIMIT);
        let offset = arguments.integer("Offset")?.unwrap_or(0);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(invalid("Limit", "must be from 1 to 1000"));
        }
        if offset < 0 || offset % limit != 0 {
            return Err(invalid("Offset", "must be a multiple of `Limit`"));
        }
        let (one, many) = (arguments.text("InstanceId")?, arguments.texts("InstanceIds")?);
        Ok(InstanceQuery {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            offset: usize::try_from(offset).unwrap_or(usize::MAX),
            ids: one.map(|id| vec![id]).or(many.filter(|ids| !ids.is_empty())),
            charge_type: charge_type(arguments)?,
            auto_renew_flags: arguments.integers("AutoRenew")?,
            statuses: arguments.integers("Status")?,
            order: Order::read(arguments)?,
        })
    }

    fn answer(&self, world: &World, visit: &Visit<'_>) -> Value {
        let mut seen = self.matches(world, visit.read_at());
        match self.order {
            None => {}
            Some(Order::SoonestFirst) => seen.sort_by_key(|seen| seen.look.expires_at),
            Some(Order::LatestFirst) => seen.sort_by_key(|seen| std::cmp::Reverse(seen.look.expires_at)),
        }
        let page = seen.iter().skip(self.offset).take(self.limit);
        let page: Vec<Value> = page.map(|seen| seen.to_json(visit.region)).collect();
        json!({ "TotalCount": seen.len(), "InstanceSet": page })
    }

    fn matches<'a>(&self, world: &'a World, read_at: Timestamp) -> Vec<Seen<'a>> {
        let see = |instance: &'a Instance| Seen { instance, look: instance.look_at(read_at) };
        match &self.ids {
            None => world.instances(Family::Redis).map(see).filter(|seen| self.wants(seen)).collect(),
            Some(ids) => {
                let mut ids: Vec<&String> = ids.iter().collect();
                ids.sort_unstable();
                ids.dedup();
                let found = ids.into_iter().filter_map(|id| world.instance(Family::Redis, id));
                found.map(see).filter(|seen| self.wants(seen)).collect()
            }
        }
    }

    fn wants(&self, seen: &Seen<'_>) -> bool {
        let charge_fits = self.charge_type.is_none_or(|wanted| wanted == seen.instance.charge_type);
        charge_fits
            && self.auto_renew_flags.as_ref().is_none_or(|wanted| wanted.contains(&seen.auto_renew_flag()))
            && self.statuses.as_ref().is_none_or(|wanted| wanted.contains(&seen.status()))
    }
}

impl Order {
    fn read(arguments: &mut Arguments) -> Result<Option<Order>, Refusal> {
        let by = arguments.text("OrderBy")?;
        let order = match arguments.integer("OrderType")? {
            Some(0) => Order::SoonestFirst,
            None | Some(1) => Order::LatestFirst,
            Some(_) => return Err(invalid("OrderType", "must be 0 or 1")),
        };
        match by.as_deref() {
            None => Ok(None),
            Some("curDeadline") => Ok(Some(order)),
            Some(_) => Err(Refusal::new("UnsupportedOperation", "only `curDeadline` is played of `OrderBy`")),
        }
    }
}

/// The filter takes words where the answer gives numbers.
fn charge_type(arguments: &mut Arguments) -> Result<Option<ChargeType>, Refusal> {
    match arguments.text("BillingMode")?.as_deref() {
        None => Ok(None),
        Some("prepaid") => Ok(Some(ChargeType::Prepaid)),
        Some("postpaid") => Ok(Some(ChargeType::Postpaid)),
        Some(_) => Err(invalid("BillingMode", "must be prepaid or postpaid")),
    }
}

impl Seen<'_> {
    fn status(&self) -> i64 {
        match self.look.state {
            State::Busy => 1,
            State::Running => 2,
            State::Isolated => -2,
            State::Gone => -3,
        }
    }

    fn auto_renew_flag(&self) -> i64 {
        self.look.renew_flag.number()
    }

    fn to_json(&self, region: &str) -> Value {
        let Instance { id, charge_type, created_at, .. } = self.instance;
        let Spec { mem_size_mb, shards, replicas } =
            self.look.spec.unwrap_or(Spec { mem_size_mb: 0, shards: 0, replicas: 0 });
        let is_prepaid = *charge_type == ChargeType::Prepaid;
        let expires_at = self.look.expires_at;
        let is_shut = matches!(self.look.state, State::Isolated | State::Gone);
        let offline_at = days_later(expires_at, OFFLINE_AFTER_ISOLATION_DAYS).unwrap_or(expires_at);
        let known = REGION_IDS.iter().find(|(name, _)| *name == region);
        json!({
            "InstanceId": id,
            "InstanceName": id,
            "InstanceTitle": "运行中",
            "Appid": 0,
            "ProjectId": 0,
            "ProjectName": "",
            "Region": region,
            "RegionId": known.map_or(0, |(_, region_id)| *region_id),
            "ZoneId": 0,
            "VpcId": 0,
            "SubnetId": 0,
            "UniqVpcId": "",
            "UniqSubnetId": "",
            "WanIp": "",
            "Port": PORT,
            "Status": self.status(),
            "SubStatus": 0,
            "Createtime": stamp::write(*created_at),
            "BillingMode": i64::from(is_prepaid),
            "DeadlineTime": if is_prepaid { stamp::write(expires_at) } else { stamp::NEVER.to_owned() },
            "AutoRenewFlag": self.auto_renew_flag(),
            "CloseTime": if is_shut { stamp::write(expires_at) } else { stamp::NEVER.to_owned() },
            "OfflineTime": if is_shut { stamp::write(offline_at) } else { String::new() },
            "Size": f64::from(mem_size_mb) * f64::from(shards),
            // What upgrades count on.
            "SizeUsed": f64::from(mem_size_mb) * f64::from(shards) / 2.0,
            "RedisShardSize": mem_size_mb,
            "RedisShardNum": shards,
            "RedisReplicasNum": replicas,
            "Type": if shards > 1 { 7 } else { 6 },
            "ProductType": if shards > 1 { "cluster" } else { "standalone" },
            "Engine": "Redis",
            "CurrentRedisVersion": "5.0",
            "DeleteProtectionSwitch": 0,
            "Tags": [],
            "InstanceTags": [],
            "InstanceNode": [],
            "NodeSet": [],
        })
    }
}
