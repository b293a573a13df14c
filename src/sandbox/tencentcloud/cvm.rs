//! CVM, version 2017-03-12.
//!
//! Source: the CVM pages RenewInstances, DescribeInstances and InquiryPriceRenewInstances.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::domain::money::Fen;
use crate::domain::product::{Product, TencentProduct};
use crate::sandbox::desk::{Act, ApiName, Refusal, Visit};
use crate::sandbox::instance::{ChargeType, Family, Instance, Look, Operation, RenewFlag, State};
use crate::sandbox::tencentcloud::arguments::Arguments;
use crate::sandbox::tencentcloud::{Api, missing};
use crate::sandbox::world::{NoSale, Renewal, Term, World};

pub(super) const PRODUCT: Product = Product::TencentCloud(TencentProduct::Cvm);
/// What an instance then remembers of a renewal, whichever API it came by.
pub(super) const RENEWED: &str = "RenewInstances";

const VERSION: &str = "2017-03-12";
const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;
const MAX_IDS: usize = 100;
const ID_PREFIX: &str = "ins-";
const RENEW_FLAGS: [(&str, RenewFlag); 3] = [
    ("NOTIFY_AND_MANUAL_RENEW", RenewFlag::Manual),
    ("NOTIFY_AND_AUTO_RENEW", RenewFlag::Auto),
    ("DISABLE_NOTIFY_AND_MANUAL_RENEW", RenewFlag::Declined),
];

pub(super) const APIS: &[Api] = &[
    Api {
        name: ApiName("cvm:RenewInstances"),
        version: VERSION,
        per_second: 10,
        is_regional: true,
        read: renew_instances,
    },
    Api {
        name: ApiName("cvm:InquiryPriceRenewInstances"),
        version: VERSION,
        per_second: 10,
        is_regional: true,
        read: inquiry_price_renew_instances,
    },
    Api {
        name: ApiName("cvm:DescribeInstances"),
        version: VERSION,
        per_second: 40,
        is_regional: true,
        read: describe_instances,
    },
];

/// What a renewal and the question for its price both say.
struct Terms {
    ids: Vec<String>,
    term: Term,
    renew_flag: RenewFlag,
}

impl Terms {
    /// With the documented defaults, which a careful caller does not leave to the cloud: the flag becomes manual,
    /// and the disks are renewed too.
    fn read(arguments: &mut Arguments) -> Result<Terms, Refusal> {
        let mut ids = ids(arguments)?.ok_or_else(|| missing("InstanceIds"))?;
        // An instance named twice is one instance, and is renewed once.
        let mut seen = HashSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        let prepaid = arguments.object("InstanceChargePrepaid")?;
        let mut prepaid = prepaid.ok_or_else(|| missing("InstanceChargePrepaid"))?;
        let months = period(&mut prepaid)?;
        let renew_flag = renew_flag(&mut prepaid)?;
        prepaid.finish()?;
        let with_data_disks = arguments.boolean("RenewPortableDataDisk")?.unwrap_or(true);
        Ok(Terms { ids, term: Term { months, with_data_disks }, renew_flag })
    }
}

/// Answers with a request id alone: no order number.
fn renew_instances(mut arguments: Arguments) -> Result<Act, Refusal> {
    let Terms { ids, term, renew_flag } = Terms::read(&mut arguments)?;
    arguments.finish()?;
    Ok(Act {
        instances: ids.clone(),
        perform: Box::new(move |world, visit| {
            let operation = Operation { name: RENEWED, request_id: Some(visit.request_id.to_owned()) };
            let renewal = |id| Renewal {
                key_id: visit.key_id,
                product: PRODUCT,
                instance: id,
                term,
                renew_flag: Some(renew_flag),
                operation: Some(operation.clone()),
                seen_from: visit.seen_from(),
            };
            let renewals: Vec<_> = ids.iter().map(|id| renewal(id)).collect();
            world
                .renew_together(&renewals, visit.now)
                .map_err(|(instance, reason)| refuse_sale(instance.unwrap_or(&ids.join(", ")), reason))?;
            Ok(json!({}))
        }),
    })
}

fn inquiry_price_renew_instances(mut arguments: Arguments) -> Result<Act, Refusal> {
    let Terms { ids, term, .. } = Terms::read(&mut arguments)?;
    arguments.refuse_unplayed(&["DryRun"])?;
    arguments.finish()?;
    Ok(Act {
        instances: ids.clone(),
        perform: Box::new(move |world, _| {
            let quote = |id: &String| {
                let quote = world.quote(Family::Cvm, id, term).map_err(|reason| refuse_sale(id, reason));
                quote.map(|quote| quote.price.get())
            };
            let fen = ids.iter().map(quote).sum::<Result<i64, _>>()?;
            let yuan = Fen::new(fen).as_yuan_number();
            let price = json!({ "OriginalPrice": yuan, "DiscountPrice": yuan, "Discount": 100.0 });
            Ok(json!({ "Price": { "InstancePrice": price, "BandwidthPrice": Value::Null } }))
        }),
    })
}

fn describe_instances(mut arguments: Arguments) -> Result<Act, Refusal> {
    let ids = ids(&mut arguments)?;
    let limit = arguments.integer("Limit")?.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Refusal::new("InvalidParameterValue.LimitExceeded", "`Limit` must be from 1 to 100"));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let offset = usize::try_from(arguments.integer("Offset")?.unwrap_or(0))
        .map_err(|_| Refusal::new("InvalidParameterValue", "`Offset` is at least 0"))?;
    arguments.refuse_unplayed(&["Filters"])?;
    arguments.finish()?;
    Ok(Act {
        instances: ids.clone().unwrap_or_default(),
        perform: Box::new(move |world, visit| {
            let matches = matches(world, ids.as_deref());
            let page = matches.iter().skip(offset).take(limit);
            let page: Vec<Value> = page.map(|instance| to_json(instance, visit)).collect();
            Ok(json!({ "TotalCount": matches.len(), "InstanceSet": page }))
        }),
    })
}

/// Of the ids asked for those that there are, or all.
pub(super) fn matches<'a>(world: &'a World, ids: Option<&[String]>) -> Vec<&'a Instance> {
    match ids {
        None => world.instances(Family::Cvm).collect(),
        Some(ids) => {
            let mut ids: Vec<&String> = ids.iter().collect();
            ids.sort_unstable();
            ids.dedup();
            ids.into_iter().filter_map(|id| world.instance(Family::Cvm, id)).collect()
        }
    }
}

fn ids(arguments: &mut Arguments) -> Result<Option<Vec<String>>, Refusal> {
    let Some(ids) = arguments.texts("InstanceIds")?.filter(|ids| !ids.is_empty()) else { return Ok(None) };
    if ids.len() > MAX_IDS {
        return Err(Refusal::new(
            "InvalidParameterValue.LimitExceeded",
            "`InstanceIds` holds at most 100 ids",
        ));
    }
    match ids.iter().find(|id| !id.starts_with(ID_PREFIX)) {
        Some(id) => {
            Err(Refusal::new("InvalidInstanceId.Malformed", format!("`{id}` is not the id of an instance")))
        }
        None => Ok(Some(ids)),
    }
}

fn period(prepaid: &mut Arguments) -> Result<u32, Refusal> {
    let period = prepaid.integer("Period")?;
    let period = period.ok_or_else(|| missing("InstanceChargePrepaid.Period"))?;
    let on_sale = |months: &u32| PRODUCT.sells_months(*months);
    u32::try_from(period).ok().filter(on_sale).ok_or_else(|| {
        let message = format!("`Period` is {} months, not {period}", PRODUCT.months_on_sale());
        Refusal::new("InvalidPeriod", message)
    })
}

fn renew_flag(prepaid: &mut Arguments) -> Result<RenewFlag, Refusal> {
    let Some(text) = prepaid.text("RenewFlag")? else { return Ok(RenewFlag::Manual) };
    let known = RENEW_FLAGS.iter().find(|(word, _)| *word == text);
    known
        .map(|(_, flag)| *flag)
        .ok_or_else(|| Refusal::new("InvalidParameterValue", format!("`RenewFlag` cannot be `{text}`")))
}

fn refuse_sale(instance: &str, reason: NoSale) -> Refusal {
    let code = match reason {
        NoSale::NoInstance => "InvalidInstanceId.NotFound",
        NoSale::Gone => "UnsupportedOperation.InstanceStateTerminating",
        NoSale::Busy => "OperationDenied.InstanceOperationInProgress",
        NoSale::Isolated => "UnsupportedOperation.InstanceStateIsolating",
        NoSale::NotPrepaid => "UnsupportedOperation.InstanceChargeType",
        NoSale::NoUpgrade(_) => "InvalidInstance.NotSupported",
        NoSale::Balance { .. } => "InvalidAccount.InsufficientBalance",
        NoSale::OutOfRange => "InvalidPeriod",
    };
    Refusal::new(code, format!("{instance}: {reason}"))
}

/// An explicit UTC, unlike the times of Redis and of CVM v2.
fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What lapsed is shut down and in the recycle bin.
fn states(look: &Look) -> (&'static str, &'static str, &'static str) {
    match look.state {
        State::Running => ("RUNNING", "NORMAL", "NOTISOLATED"),
        State::Busy => ("REBOOTING", "NORMAL", "NOTISOLATED"),
        State::Isolated => ("SHUTDOWN", "PROTECTIVELY_ISOLATED", "EXPIRE"),
        State::Gone => ("TERMINATING", "PROTECTIVELY_ISOLATED", "EXPIRE"),
    }
}

fn to_json(instance: &Instance, visit: &Visit<'_>) -> Value {
    let Instance { id, charge_type, created_at, .. } = instance;
    let look = instance.look_at(visit.read_at());
    let (state, restrict_state, isolated_source) = states(&look);
    let is_prepaid = *charge_type == ChargeType::Prepaid;
    let flag = RENEW_FLAGS.iter().find(|(_, flag)| *flag == look.renew_flag).map(|(word, _)| *word);
    let operation = look.latest_operation.as_ref();
    json!({
        "Placement": { "Zone": format!("{}-1", visit.region), "ProjectId": 0 },
        "InstanceId": id,
        "InstanceName": id,
        "InstanceType": "S5.MEDIUM4",
        "CPU": 2,
        "Memory": 4,
        "RestrictState": restrict_state,
        "IsolatedSource": isolated_source,
        "InstanceChargeType": if is_prepaid { "PREPAID" } else { "POSTPAID_BY_HOUR" },
        "InstanceState": state,
        "StopChargingMode": "NOT_APPLICABLE",
        "RenewFlag": flag.filter(|_| is_prepaid),
        "CreatedTime": utc(*created_at),
        "ExpiredTime": is_prepaid.then(|| utc(look.expires_at)),
        "LatestOperation": operation.map(|operation| operation.name),
        "LatestOperationState": operation.map(|_| "SUCCESS"),
        "LatestOperationRequestId": operation.and_then(|operation| operation.request_id.as_deref()),
        "PrivateIpAddresses": [],
        "PublicIpAddresses": [],
        "SecurityGroupIds": [],
        "DataDisks": [],
        "Tags": [],
    })
}
