//! The billing centre, version 2022-01-01.
//!
//! Source: the billing pages of each action. All orders here are paid and delivered at once.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::domain::money::Fen;
use crate::sandbox::desk::{Act, ApiName, Refusal, Visit};
use crate::sandbox::instance::{Family, Instance, Look, RenewFlag, State};
use crate::sandbox::volcengine::arguments::{Arguments, Page};
use crate::sandbox::volcengine::{Api, Verb, missing};
use crate::sandbox::world::{NoSale, Order, Term, World};

const VERSION: &str = "2022-01-01";
const MAX_IDS: usize = 100;
const MAX_PRICED: usize = 20;
const DEFAULT_RESULTS: usize = 10;
const MAX_RESULTS: usize = 100;
const WINDOW_MAX: SignedDuration = SignedDuration::from_hours(31 * 24);
const WINDOW_DEFAULT: SignedDuration = SignedDuration::from_hours(1);
/// One owner stands behind all keys of an account.
const ACCOUNT_ID: u64 = 2_100_000_001;
const RENEWAL: &str = "Renew";
const PAID: &str = "Paid";
const ORDER_TYPES: [&str; 9] = [
    "Purchase",
    "Trial",
    "Modify",
    RENEWAL,
    "Formalize",
    "Unsubscribed",
    "RIAdjustment",
    "TempUpgrade",
    "CostAdjustment",
];
const STATUSES: [&str; 8] =
    ["UnPaid", PAID, "Closed", "Paying", "Refunded", "Refunding", "RefundFail", "PartialRefunded"];

const fn post(name: &'static str, per_second: usize, read: fn(Arguments) -> Result<Act, Refusal>) -> Api {
    Api { name: ApiName(name), version: VERSION, per_second, verb: Verb::Post, read }
}

/// The first two limits are documented; the others are not, and are the same as the second.
pub(super) const APIS: &[Api] = &[
    post("billing:ListAvailableInstances", 5, list_available_instances),
    post("billing:QueryPriceForRenew", 10, query_price_for_renew),
    post("billing:ListOrders", 10, list_orders),
    post("billing:GetOrder", 10, get_order),
    post("billing:ListOrderProductDetails", 10, list_order_product_details),
    Api {
        name: ApiName("billing:QueryBalanceAcct"),
        version: VERSION,
        per_second: 10,
        verb: Verb::Either,
        read: query_balance_acct,
    },
];

fn list_available_instances(mut arguments: Arguments) -> Result<Act, Refusal> {
    let ids = arguments.texts("InstanceIDs", MAX_IDS)?;
    let renew_type = arguments.word("RenewType", &["Manually", "Automatically", "NoRenew"])?;
    let product = arguments.text("Product")?;
    let page = Page::read(&mut arguments, DEFAULT_RESULTS, MAX_RESULTS)?;
    arguments.finish()?;
    Ok(Act {
        instances: ids.clone().unwrap_or_default(),
        perform: Box::new(move |world, visit| {
            let read_at = visit.read_at();
            let wants = |instance: &&Instance| {
                ids.as_ref().is_none_or(|ids| ids.contains(&instance.id))
                    && renew_type.is_none_or(|wanted| wanted == renew_type_of(&instance.look_at(read_at)))
                    && product.as_ref().is_none_or(|product| product.eq_ignore_ascii_case("ECS"))
            };
            let listed = world.instances(Family::Ecs).filter(wants);
            let max_results = page.max_results;
            let (page, next) = page.cut(listed.map(|instance| available(instance, read_at)).collect());
            Ok(json!({ "InstanceList": page, "NextToken": next, "MaxResults": max_results }))
        }),
    })
}

fn renew_type_of(look: &Look) -> &'static str {
    if look.renew_flag == RenewFlag::Auto { "Automatically" } else { "Manually" }
}

fn available(instance: &Instance, read_at: Timestamp) -> Value {
    let look = instance.look_at(read_at);
    json!({
        "AccountID": ACCOUNT_ID,
        "InstanceID": instance.id,
        "InstanceName": instance.id,
        "Product": "ECS",
        "ProductName": "云服务器",
        "ConfigurationCode": "ecs.g3i.large.month",
        "BeginTime": utc(instance.created_at),
        "ExpiredTime": utc(look.expires_at),
        "RenewType": renew_type_of(&look),
        "RenewalDurationUnit": if look.renew_flag == RenewFlag::Auto { "Month" } else { "" },
        "RenewalTimes": "",
        "RemainRenewTimes": "",
        "Status": if look.state == State::Running { "Running" } else { "ShutDown" },
        "SubStatus": "",
        "PaymentMethod": "PrePaid",
    })
}

fn query_price_for_renew(mut arguments: Arguments) -> Result<Act, Refusal> {
    let product = arguments.required("Product")?;
    let ids = arguments.texts("InstanceIDList", MAX_PRICED)?.unwrap_or_default();
    let duration = arguments.integer("UseDuration")?.ok_or_else(|| missing("UseDuration"))?;
    arguments.finish()?;
    if !product.eq_ignore_ascii_case("ECS") || ids.is_empty() {
        return Err(Refusal::new("InvalidParam", "`Product` must be ECS, and `InstanceIDList` not empty"));
    }
    let months =
        u32::try_from(duration).map_err(|_| Refusal::new("InvalidParam", "`UseDuration` is negative"))?;
    Ok(Act {
        instances: ids.clone(),
        perform: Box::new(move |world, _| {
            let term = Term { months, with_data_disks: false };
            let quote =
                |id: &String| world.quote(Family::Ecs, id, term).map(|quote| (id.clone(), quote.price));
            let prices: Result<Vec<_>, NoSale> = ids.iter().map(quote).collect();
            prices.map(|prices| price_list(&prices)).map_err(|reason| {
                Refusal::new("InvalidParam", format!("no price for these instances: {reason}"))
            })
        }),
    })
}

fn price_list(prices: &[(String, Fen)]) -> Value {
    let total = Fen::new(prices.iter().fold(0_i64, |sum, (_, price)| sum.saturating_add(price.get())));
    let amounts = prices.iter().map(|(id, price)| {
        json!({
            "InstanceID": id,
            "Product": "ECS",
            "ConfigurationCode": "ecs.g3i.large.month",
            "OriginalAmount": price.to_string(),
            "DiscountAmount": price.to_string(),
        })
    });
    json!({
        "Currency": "CNY",
        "TotalOriginalAmount": total.to_string(),
        "TotalDiscountAmount": total.to_string(),
        "InstanceAmountList": amounts.collect::<Vec<_>>(),
    })
}

struct OrderQuery {
    window: Option<(Timestamp, Timestamp)>,
    order_type: Option<&'static str>,
    status: Option<&'static str>,
    page: Page,
}

fn list_orders(mut arguments: Arguments) -> Result<Act, Refusal> {
    let start = time(&mut arguments, "CreateTimeStart")?;
    let end = time(&mut arguments, "CreateTimeEnd")?;
    let window = match (start, end) {
        (None, None) => None,
        (Some(start), Some(end))
            if (SignedDuration::ZERO..=WINDOW_MAX).contains(&end.duration_since(start)) =>
        {
            Some((start, end))
        }
        _ => {
            let message = "`CreateTimeStart` and `CreateTimeEnd` come together and are at most 31 days apart";
            return Err(Refusal::new("InvalidParam", message));
        }
    };
    let query = OrderQuery {
        window,
        order_type: arguments.word("OrderType", &ORDER_TYPES)?,
        status: arguments.word("Status", &STATUSES)?,
        page: Page::read(&mut arguments, DEFAULT_RESULTS, MAX_RESULTS)?,
    };
    arguments.finish()?;
    Ok(Act { instances: Vec::new(), perform: Box::new(move |world, visit| Ok(query.answer(world, visit))) })
}

impl OrderQuery {
    fn answer(&self, world: &World, visit: &Visit<'_>) -> Value {
        let listed = visible_orders(world, visit).filter(|order| self.wants(order, visit.now));
        let (page, next) = self.page.cut(listed.map(order_info).collect());
        json!({ "OrderInfos": page, "NextToken": next })
    }

    fn wants(&self, order: &Order, now: Timestamp) -> bool {
        let (start, end) = self.window.unwrap_or((now.saturating_sub(WINDOW_DEFAULT).unwrap_or(now), now));
        // Times are listed in whole seconds, and compared as listed.
        (start.as_second()..=end.as_second()).contains(&order.created_at.as_second())
            && self.order_type.is_none_or(|wanted| wanted == RENEWAL)
            && self.status.is_none_or(|wanted| wanted == PAID)
    }
}

fn get_order(mut arguments: Arguments) -> Result<Act, Refusal> {
    let order_id = arguments.required("OrderID")?;
    arguments.finish()?;
    Ok(Act {
        instances: Vec::new(),
        perform: Box::new(move |world, visit| {
            Ok(json!({ "OrderInfo": order_info(find_order(world, visit, &order_id)?) }))
        }),
    })
}

fn list_order_product_details(mut arguments: Arguments) -> Result<Act, Refusal> {
    let order_id = arguments.required("OrderID")?;
    let page = Page::read(&mut arguments, DEFAULT_RESULTS, MAX_RESULTS)?;
    arguments.finish()?;
    Ok(Act {
        instances: Vec::new(),
        perform: Box::new(move |world, visit| {
            let lines = vec![order_line(find_order(world, visit, &order_id)?)];
            let (page, next) = page.cut(lines);
            Ok(json!({ "OrderProductInfos": page, "NextToken": next }))
        }),
    })
}

fn visible_orders<'a>(world: &'a World, visit: &Visit<'_>) -> impl Iterator<Item = &'a Order> {
    let read_at = visit.read_at();
    let orders = world.orders(visit.key_id).filter(|order| order.family == Family::Ecs);
    orders.filter(move |order| order.seen_from <= read_at)
}

fn find_order<'a>(world: &'a World, visit: &Visit<'_>, order_id: &str) -> Result<&'a Order, Refusal> {
    let found = visible_orders(world, visit).find(|order| order.order_id == order_id);
    found.ok_or_else(|| Refusal::new("RecordNoFound", format!("there is no order {order_id}")))
}

fn order_info(order: &Order) -> Value {
    let amount = order.amount.to_string();
    json!({
        "OrderID": order.order_id,
        "OrderType": RENEWAL,
        "Status": PAID,
        "CreateTime": utc(order.created_at),
        "OriginalAmount": amount,
        "DiscountAmount": amount,
        "CouponAmount": "0.00",
        "PayableAmount": amount,
        "PaidAmount": amount,
        "CurrencySettlement": "CNY",
        "BuyerID": ACCOUNT_ID,
        "PayerID": ACCOUNT_ID,
        "SellerID": 0,
    })
}

fn order_line(order: &Order) -> Value {
    json!({
        "InstanceID": order.instance,
        "Product": "ECS",
        "ConfigurationCode": "ecs.g3i.large.month",
        "Status": PAID,
        "PaymentMethod": "PrePaid",
        "Period": "Month",
        "Times": order.months.map(|months| months.to_string()),
        "BeginTime": utc(order.created_at),
        "PaidAmount": order.amount.to_string(),
    })
}

fn query_balance_acct(arguments: Arguments) -> Result<Act, Refusal> {
    arguments.finish()?;
    Ok(Act {
        instances: Vec::new(),
        perform: Box::new(|world, visit| {
            let balance = world.balance(visit.key_id).to_string();
            Ok(json!({
                "AccountID": ACCOUNT_ID,
                "AvailableBalance": balance,
                "CashBalance": balance,
                "CreditLimit": "0.00",
                "FreezeAmount": "0.00",
                "ArrearsBalance": "0.00",
                "Currency": "CNY",
            }))
        }),
    })
}

fn time(arguments: &mut Arguments, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = arguments.text(name)? else { return Ok(None) };
    let problem =
        |_| Refusal::new("InvalidParam", format!("`{name}` is not a time such as 2026-01-31T00:00:00Z"));
    text.parse().map(Some).map_err(problem)
}

fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
