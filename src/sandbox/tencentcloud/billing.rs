//! Billing, version 2018-07-09: the order list and the balance.
//!
//! Source: the billing pages DescribeDealsByCond and DescribeAccountBalance.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sandbox::desk::{Act, ApiName, Refusal, Visit};
use crate::sandbox::instance::Family;
use crate::sandbox::tencentcloud::arguments::Arguments;
use crate::sandbox::tencentcloud::{Api, invalid, missing, stamp};
use crate::sandbox::world::{Order, World};

const VERSION: &str = "2018-07-09";
const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 1_000;
/// Longer pages do not say which instances an order is for.
const MAX_LIMIT_WITH_RESOURCES: usize = 200;
/// The only status an order here can have, and the only one listed unless others are asked for.
const DELIVERED: i64 = 4;
/// One owner stands behind all keys of an account.
const UIN: &str = "100000000001";

pub(super) const APIS: &[Api] = &[
    Api {
        name: ApiName("billing:DescribeDealsByCond"),
        version: VERSION,
        per_second: 20,
        is_regional: false,
        read: describe_deals_by_cond,
    },
    Api {
        name: ApiName("billing:DescribeAccountBalance"),
        version: VERSION,
        per_second: 20,
        is_regional: false,
        read: describe_account_balance,
    },
];

fn describe_deals_by_cond(mut arguments: Arguments) -> Result<Act, Refusal> {
    let query = DealQuery::read(&mut arguments)?;
    arguments.finish()?;
    Ok(Act {
        instances: query.resource_id.iter().cloned().collect(),
        perform: Box::new(move |world, visit| Ok(query.answer(world, visit))),
    })
}

fn describe_account_balance(mut arguments: Arguments) -> Result<Act, Refusal> {
    arguments.boolean("TempCredit")?;
    arguments.finish()?;
    Ok(Act { instances: Vec::new(), perform: Box::new(|world, visit| Ok(balance(world, visit))) })
}

/// In fen.
fn balance(world: &World, visit: &Visit<'_>) -> Value {
    let fen = world.balance(visit.key_id).get();
    let amount = fen as f64;
    json!({
        "Balance": fen,
        "Uin": UIN.parse::<u64>().unwrap_or_default(),
        "RealBalance": amount,
        "CashAccountBalance": amount,
        "IncomeIntoAccountBalance": 0.0,
        "PresentAccountBalance": 0.0,
        "FreezeAmount": 0.0,
        "OweAmount": 0.0,
        "IsAllowArrears": false,
        "IsCreditLimited": false,
        "CreditAmount": 0.0,
        "CreditBalance": 0.0,
        "RealCreditBalance": amount,
        "TempCredit": 0.0,
        "TempAmountInfoList": [],
    })
}

struct DealQuery {
    from: Timestamp,
    to: Timestamp,
    limit: usize,
    /// Counted from 0, unlike the offsets of other actions.
    page: usize,
    statuses: Vec<i64>,
    order_id: Option<String>,
    resource_id: Option<String>,
}

impl DealQuery {
    fn read(arguments: &mut Arguments) -> Result<DealQuery, Refusal> {
        let from = time(arguments, "StartTime")?;
        let to = time(arguments, "EndTime")?;
        if to < from {
            return Err(invalid("EndTime", "is before `StartTime`"));
        }
        let limit = arguments.integer("Limit")?.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(invalid("Limit", "must be from 1 to 1000"));
        }
        let page = usize::try_from(arguments.integer("Offset")?.unwrap_or(0));
        let one_status = arguments.integer("Status")?.map(|status| vec![status]);
        let statuses = arguments.integers("StatusSet")?.filter(|statuses| !statuses.is_empty());
        arguments.refuse_unplayed(&["BigDealId"])?;
        Ok(DealQuery {
            from,
            to,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            page: page.map_err(|_| invalid("Offset", "is a page number from 0 on"))?,
            statuses: statuses.or(one_status).unwrap_or_else(|| vec![DELIVERED]),
            order_id: arguments.text("OrderId")?,
            resource_id: arguments.text("ResourceId")?,
        })
    }

    fn answer(&self, world: &World, visit: &Visit<'_>) -> Value {
        let read_at = visit.read_at();
        let ours = world.orders(visit.key_id).filter_map(|order| Some((order, product_code(order.family)?)));
        let matches: Vec<_> = ours.filter(|(order, _)| self.wants(order, read_at)).collect();
        let page = matches.iter().skip(self.page.saturating_mul(self.limit)).take(self.limit);
        let page: Vec<Value> = page.map(|(order, product_code)| self.deal(order, product_code)).collect();
        json!({ "Deals": page, "TotalCount": matches.len() })
    }

    fn wants(&self, order: &Order, read_at: Timestamp) -> bool {
        // Times are listed in whole seconds, and compared as listed.
        let created_at = order.created_at.as_second();
        self.statuses.contains(&DELIVERED)
            && order.seen_from <= read_at
            && (self.from.as_second()..=self.to.as_second()).contains(&created_at)
            && self.order_id.as_ref().is_none_or(|wanted| *wanted == order.order_id)
            && self.resource_id.as_ref().is_none_or(|wanted| *wanted == order.instance)
    }

    fn deal(&self, order: &Order, product_code: &str) -> Value {
        let fen = order.amount.get();
        let says_resources = self.limit <= MAX_LIMIT_WITH_RESOURCES;
        json!({
            "OrderId": order.order_id,
            "BigDealId": order.order_id,
            "Status": DELIVERED,
            "Action": order.action.as_str(),
            "Creator": UIN,
            "Payer": UIN,
            "CreateTime": stamp::write(order.created_at),
            "TimeSpan": order.months.unwrap_or_default(),
            "TimeUnit": "m",
            "Currency": "CNY",
            "Policy": 100.0,
            "Price": fen as f64,
            "TotalCost": fen as f64,
            "RealTotalCost": fen,
            "VoucherDecline": 0,
            "PayMode": "prePay",
            "ProjectId": 0,
            "GoodsCategoryId": 0,
            "ProductCode": product_code,
            "SubProductCode": format!("s{product_code}"),
            "ProductInfo": [],
            "Formula": "",
            "RefReturnDeals": "",
            "ZoneCode": "",
            "ResourceId": says_resources.then_some([&order.instance]),
        })
    }
}

/// None of what another provider sells: its orders are in its own list.
fn product_code(family: Family) -> Option<&'static str> {
    match family {
        Family::Redis => Some("p_redis"),
        Family::Cvm => Some("p_cvm"),
        Family::Ecs => None,
    }
}

fn time(arguments: &mut Arguments, name: &str) -> Result<Timestamp, Refusal> {
    let text = arguments.text(name)?.ok_or_else(|| missing(name))?;
    stamp::read(name, &text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::domain::product::{Product, TencentProduct, VolcengineProduct};
    use crate::sandbox::world::{Renewal, Term};

    use super::*;

    #[test]
    fn the_deals_are_those_of_this_provider_whoever_else_sold_to_the_key() {
        let now: Timestamp = "2026-01-20T12:00:00Z".parse().unwrap();
        let mut world = World::new(now);
        for (product, instance) in [
            (Product::Volcengine(VolcengineProduct::Ecs), "i-sandbox-1"),
            (Product::REDIS, "crs-sandbox-1"),
            (Product::TencentCloud(TencentProduct::Cvm), "ins-sandbox-1"),
        ] {
            let term = Term { months: 1, with_data_disks: false };
            let renewal = Renewal {
                key_id: "one-key",
                product,
                instance,
                term,
                renew_flag: None,
                operation: None,
                seen_from: now,
            };
            world.renew(&renewal, now).unwrap();
        }
        let query = DealQuery {
            from: now,
            to: now,
            limit: 20,
            page: 0,
            statuses: vec![DELIVERED],
            order_id: None,
            resource_id: None,
        };
        let visit = Visit { key_id: "one-key", region: "", now, request_id: "r", lag: Duration::ZERO };
        let answer = query.answer(&world, &visit);
        assert_eq!(answer["TotalCount"], 2);
        let products = [&answer["Deals"][0]["ProductCode"], &answer["Deals"][1]["ProductCode"]];
        assert_eq!(products, ["p_cvm", "p_redis"]);
    }
}
