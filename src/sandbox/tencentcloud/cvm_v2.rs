//! CVM of the legacy v2 API.
//!
//! Source: the CVM v2 pages RenewInstance, DescribeInstances and InquiryInstancePrice.

use serde_json::{Value, json};

use crate::domain::product::{Product, TencentProduct};
use crate::sandbox::desk::{Act, ApiName, Refusal, Visit};
use crate::sandbox::instance::{ChargeType, Family, Instance, Operation, State};
use crate::sandbox::tencentcloud::arguments::Arguments;
use crate::sandbox::tencentcloud::{Api, cvm, invalid, missing, stamp};
use crate::sandbox::world::{NoSale, Renewal, Term};

const PRODUCT: Product = Product::TencentCloud(TencentProduct::CvmV2);
const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;
const MAX_IDS: usize = 100;
/// No page states a pace.
const PER_SECOND: usize = 10;
/// `instanceType` of a server that is there already, the one kind that is played.
const RENEWAL: i64 = 1;
/// Without seconds, unlike other times.
const NEVER: &str = "0000-00-00 00:00";

pub(super) const APIS: &[Api] = &[
    Api { read: renew_instance, ..api("cvm-v2:RenewInstance") },
    Api { read: describe_instances, ..api("cvm-v2:DescribeInstances") },
    Api { read: inquiry_instance_price, ..api("cvm-v2:InquiryInstancePrice") },
];

const fn api(name: &'static str) -> Api {
    Api { name: ApiName(name), version: "", per_second: PER_SECOND, is_regional: true, read: renew_instance }
}

/// The order number is in the page's example and not in its table.
fn renew_instance(mut arguments: Arguments) -> Result<Act, Refusal> {
    let (instance, months) = term(&mut arguments)?;
    arguments.finish()?;
    Ok(Act {
        instances: vec![instance.clone()],
        perform: Box::new(move |world, visit| {
            let renewal = Renewal {
                key_id: visit.key_id,
                product: PRODUCT,
                instance: &instance,
                term: Term { months, with_data_disks: false },
                renew_flag: None,
                operation: Some(Operation { name: cvm::RENEWED, request_id: None }),
                seen_from: visit.seen_from(),
            };
            let order_id =
                world.renew(&renewal, visit.now).map_err(|reason| refuse_sale(&instance, reason))?;
            Ok(json!({ "dealId": order_id }))
        }),
    })
}

/// In fen.
fn inquiry_instance_price(mut arguments: Arguments) -> Result<Act, Refusal> {
    if arguments.integer("instanceType")? != Some(RENEWAL) {
        return Err(invalid("instanceType", "can only be 1 here"));
    }
    let (instance, months) = term(&mut arguments)?;
    arguments.finish()?;
    Ok(Act {
        instances: vec![instance.clone()],
        perform: Box::new(move |world, _| {
            let quote = world.quote(Family::Cvm, &instance, Term { months, with_data_disks: false });
            let fen = quote.map_err(|reason| refuse_sale(&instance, reason))?.price.get();
            Ok(json!({ "price": fen, "originalPrice": fen }))
        }),
    })
}

fn describe_instances(mut arguments: Arguments) -> Result<Act, Refusal> {
    let ids = arguments.texts("instanceIds")?.filter(|ids| !ids.is_empty());
    if ids.as_ref().is_some_and(|ids| ids.len() > MAX_IDS) {
        return Err(invalid("instanceIds", "holds at most 100 ids"));
    }
    let limit = arguments.integer("limit")?.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(invalid("limit", "must be from 1 to 100"));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let offset = usize::try_from(arguments.integer("offset")?.unwrap_or(0))
        .map_err(|_| invalid("offset", "is at least 0"))?;
    arguments.refuse_unplayed(&["lanIps", "searchWord", "status", "projectId", "zoneId", "simplify"])?;
    arguments.finish()?;
    Ok(Act {
        instances: ids.clone().unwrap_or_default(),
        perform: Box::new(move |world, visit| {
            let matches = cvm::matches(world, ids.as_deref());
            let page = matches.iter().skip(offset).take(limit);
            let page: Vec<Value> = page.map(|instance| to_json(instance, visit)).collect();
            Ok(json!({ "totalCount": matches.len(), "instanceSet": page }))
        }),
    })
}

fn term(arguments: &mut Arguments) -> Result<(String, u32), Refusal> {
    let instance = arguments.text("instanceId")?.filter(|id| !id.is_empty());
    let instance = instance.ok_or_else(|| missing("instanceId"))?;
    let period = arguments.integer("period")?.ok_or_else(|| missing("period"))?;
    let months = u32::try_from(period).ok().filter(|months| PRODUCT.sells_months(*months));
    let months = months.ok_or_else(|| invalid("period", "must be from 1 to 36"))?;
    Ok((instance, months))
}

/// `Invaild` is how the page and the wire spell it.
fn refuse_sale(instance: &str, reason: NoSale) -> Refusal {
    let code = match reason {
        NoSale::NoInstance => "5000",
        NoSale::Gone | NoSale::Busy | NoSale::Isolated | NoSale::NotPrepaid | NoSale::NoUpgrade(_) => {
            "OperationConstraints.InvaildInstanceStatus"
        }
        NoSale::Balance { .. } => "OperationConstraints.AccountBalanceNotEnough",
        NoSale::OutOfRange => "4000",
    };
    Refusal::new(code, format!("{instance}: {reason}"))
}

/// There is no number for an isolated instance; it is stopped.
fn status(state: State) -> i64 {
    match state {
        State::Running => 2,
        State::Isolated => 4,
        State::Gone => 6,
        State::Busy => 7,
    }
}

fn to_json(instance: &Instance, visit: &Visit<'_>) -> Value {
    let Instance { id, charge_type, created_at, .. } = instance;
    let look = instance.look_at(visit.read_at());
    let is_prepaid = *charge_type == ChargeType::Prepaid;
    json!({
        "unInstanceId": id,
        "instanceName": id,
        "Region": visit.region,
        "zoneId": 0,
        "projectId": 0,
        "status": status(look.state),
        "createTime": stamp::write(*created_at),
        "deadlineTime": if is_prepaid { stamp::write(look.expires_at) } else { NEVER.to_owned() },
        "autoRenew": look.renew_flag.number(),
        "cvmPayMode": if is_prepaid { 1 } else { 2 },
    })
}
