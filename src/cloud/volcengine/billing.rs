//! The billing centre, API version 2022-01-01: every action a POST of JSON, answered for all regions.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cloud::call::{Api, OrdersPage, PageToken};
use crate::cloud::reading::{Object, Rounding, Scalar, is_payable, unreadable};
use crate::cloud::volcengine::Action;
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::observation::AutoRenew;
use crate::domain::order::{ListedKind, ListedOrder, OrderId, Standing};
use crate::domain::product::InstanceId;

pub const LIST_AVAILABLE: Action = action(Api::new("billing:ListAvailableInstances", 5));
pub const PRICE_RENEW: Action = action(Api::new("billing:QueryPriceForRenew", 10));
/// No page publishes a limit for these; four calls a second were seen to be let through where twelve were not.
pub const LIST_ORDERS: Action = action(Api::paced("billing:ListOrders", 4));
pub const ORDER_LINES: Action = action(Api::paced("billing:ListOrderProductDetails", 4));
pub const BALANCE: Action = action(Api::paced("billing:QueryBalanceAcct", 4));

/// Of ids in one ListAvailableInstances, and of entries in one page of any list.
pub const LIST_MAX: usize = 100;
/// The widest window of ListOrders.
pub const ORDERS_WINDOW_MAX: SignedDuration = SignedDuration::from_hours(31 * 24);

/// As the official Terraform provider spells it; the pages have it in both cases.
const PRODUCT_ECS: &str = "ECS";
const CURRENCY: &str = "CNY";
const RENEWAL: &str = "Renew";
/// Every other type on the page. One that this build does not know may be a renewal, and is taken for one.
const OTHER_TYPES: [&str; 8] = [
    "Purchase",
    "Trial",
    "Modify",
    "Formalize",
    "Unsubscribed",
    "RIAdjustment",
    "TempUpgrade",
    "CostAdjustment",
];

const fn action(api: Api) -> Action {
    Action { api, version: "2022-01-01" }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListAvailable<'a> {
    #[serde(rename = "InstanceIDs")]
    instance_ids: Vec<&'a str>,
    max_results: usize,
}

pub fn list_available(ids: &[InstanceId]) -> ListAvailable<'_> {
    ListAvailable { instance_ids: ids.iter().map(InstanceId::as_str).collect(), max_results: LIST_MAX }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Available {
    instance_list: Option<Vec<Object<AvailableInstance>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AvailableInstance {
    #[serde(rename = "InstanceID")]
    instance_id: Scalar,
    renew_type: Scalar,
}

/// One setting per id asked for; of an id that is not listed it is unreadable, never off.
pub fn auto_renew(answer: Available, ids: &[InstanceId]) -> Result<Vec<(InstanceId, AutoRenew)>, Failure> {
    let listed = answer.instance_list.ok_or_else(|| unreadable("the answer has no `InstanceList`"))?;
    let mut by_id: HashMap<&str, AutoRenew> = HashMap::new();
    for Object(instance) in &listed {
        let Some(id) = instance.instance_id.text() else { continue };
        let setting = instance.setting();
        by_id.entry(id).and_modify(|seen| *seen = more_careful(*seen, setting)).or_insert(setting);
    }
    let setting = |id: &InstanceId| by_id.get(id.as_str()).copied().unwrap_or(AutoRenew::Unreadable);
    Ok(ids.iter().map(|id| (id.clone(), setting(id))).collect())
}

impl AvailableInstance {
    /// Not the words that SetRenewalType takes.
    fn setting(&self) -> AutoRenew {
        match self.renew_type.text() {
            Some("Automatically") => AutoRenew::On,
            Some("Manually" | "NoRenew") => AutoRenew::Off,
            _ => AutoRenew::Unreadable,
        }
    }
}

/// Of an id that is listed twice.
fn more_careful(one: AutoRenew, other: AutoRenew) -> AutoRenew {
    match (one, other) {
        (AutoRenew::On, _) | (_, AutoRenew::On) => AutoRenew::On,
        (AutoRenew::Off, AutoRenew::Off) => AutoRenew::Off,
        _ => AutoRenew::Unreadable,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListOrders<'a> {
    create_time_end: String,
    create_time_start: String,
    max_results: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<&'a str>,
    order_type: &'static str,
}

/// Renewals in every status. Times are in UTC and whole seconds: down for the start, up for the end.
///
/// # Errors
/// The window is wider than the API takes.
pub fn list_orders(
    from: Timestamp,
    through: Timestamp,
    page: Option<&PageToken>,
) -> Result<ListOrders<'_>, Failure> {
    let end = Timestamp::from_second(through.as_second().saturating_add(1)).unwrap_or(through);
    let start = Timestamp::from_second(from.as_second()).unwrap_or(from);
    if end.duration_since(start) > ORDERS_WINDOW_MAX {
        let message = "ListOrders takes a window of at most 31 days; ask for a part of it";
        return Err(Failure::ours(Class::Rejected, "WindowTooWide", message));
    }
    let text = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Ok(ListOrders {
        create_time_end: text(end),
        create_time_start: text(start),
        max_results: LIST_MAX,
        next_token: page.map(|PageToken(token)| token.as_str()),
        order_type: RENEWAL,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Orders {
    order_infos: Option<Vec<Object<Order>>>,
    #[serde(default)]
    next_token: Scalar,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Order {
    #[serde(rename = "OrderID")]
    order_id: Scalar,
    order_type: Scalar,
    status: Scalar,
    create_time: Scalar,
    payable_amount: Scalar,
    paid_amount: Scalar,
    currency_settlement: Scalar,
    order_fail_refund_info: Option<serde_json::Value>,
}

pub fn orders_page(answer: Orders) -> Result<OrdersPage, Failure> {
    let orders = answer.order_infos.ok_or_else(|| unreadable("the answer has no `OrderInfos`"))?;
    // An empty page with a token would be followed for ever.
    let next = answer.next_token.text().filter(|_| !orders.is_empty());
    let next = next.map(|token| PageToken(token.to_owned()));
    Ok(OrdersPage {
        orders: orders.iter().map(|Object(order)| order.listed()).collect::<Result<_, _>>()?,
        next,
    })
}

impl Order {
    fn listed(&self) -> Result<ListedOrder, Failure> {
        let order_id = self.order_id.order_id().ok_or_else(|| unreadable("an order has no `OrderID`"))?;
        Ok(ListedOrder {
            order_id,
            standing: self.standing(),
            kind: self.kind(),
            months: None,
            amount: self.amount(),
            created_at: self.create_time.time(),
        })
    }

    fn standing(&self) -> Standing {
        match self.status.text() {
            Some("UnPaid") => Standing::Unpaid,
            // Says that the fulfilment failed; the refund may still be on its way.
            Some("Paid" | "Paying") if self.has_failed() => Standing::Undelivered,
            Some("Paid" | "Paying") => Standing::Standing,
            Some("Closed" | "Refunded" | "PartialRefunded") => Standing::Void,
            // `Refunding` and `RefundFail` are for a person to judge, like any status to come.
            _ => Standing::Unclear,
        }
    }

    fn has_failed(&self) -> bool {
        use serde_json::Value;
        match &self.order_fail_refund_info {
            None | Some(Value::Null) => false,
            Some(Value::Object(fields)) => fields.values().any(|value| !matches!(value, Value::Null)),
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Bool(_) | Value::Number(_)) => true,
        }
    }

    fn kind(&self) -> ListedKind {
        let order_type = self.order_type.text().unwrap_or_default();
        let is = |known: &str| order_type.eq_ignore_ascii_case(known);
        match order_type {
            _ if is(RENEWAL) => ListedKind::Renewal,
            _ if OTHER_TYPES.into_iter().any(is) => ListedKind::Other,
            _ => ListedKind::Unclear,
        }
    }

    /// What was paid after vouchers, of an unpaid order what is to be paid.
    fn amount(&self) -> Option<Fen> {
        let currency = self.currency_settlement.text().unwrap_or(CURRENCY);
        let is_paid =
            self.status.text().is_some_and(|status| !matches!(status, "UnPaid" | "Paying" | "Closed"));
        let amount = if is_paid && self.paid_amount.text().is_some() {
            &self.paid_amount
        } else {
            &self.payable_amount
        };
        amount.yuan(Rounding::Up).filter(|fen| currency.eq_ignore_ascii_case(CURRENCY) && is_payable(fen))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OrderLines<'a> {
    max_results: usize,
    #[serde(rename = "OrderID")]
    order_id: &'a str,
}

pub fn order_lines(OrderId(order_id): &OrderId) -> OrderLines<'_> {
    OrderLines { max_results: LIST_MAX, order_id }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Lines {
    order_product_infos: Option<Vec<Object<Line>>>,
    #[serde(default)]
    next_token: Scalar,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Line {
    #[serde(rename = "InstanceID")]
    instance_id: Scalar,
}

/// What an order is for. An order whose lines name nothing, or not all, is unreadable: taken for someone else's,
/// it would be paid for again.
pub fn instances(answer: Lines) -> Result<Vec<InstanceId>, Failure> {
    let lines = answer.order_product_infos.unwrap_or_default();
    if lines.is_empty() {
        return Err(unreadable("the order has no `OrderProductInfos`"));
    }
    if answer.next_token.text().is_some() && lines.len() >= LIST_MAX {
        return Err(unreadable(format!(
            "`OrderProductInfos` lists {} lines and there are more",
            lines.len()
        )));
    }
    let id = |Object(line): &Object<Line>| InstanceId::parse(line.instance_id.text().unwrap_or_default());
    let ids: Result<_, _> = lines.iter().map(id).collect();
    ids.map_err(|reason| unreadable(format!("the `InstanceID` of a line {reason}")))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PriceForRenew<'a> {
    #[serde(rename = "InstanceIDList")]
    instance_ids: [&'a str; 1],
    product: &'static str,
    use_duration: u32,
}

pub fn price_for_renew(instance: &InstanceId, months: u32) -> PriceForRenew<'_> {
    PriceForRenew { instance_ids: [instance.as_str()], product: PRODUCT_ECS, use_duration: months }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Price {
    #[serde(default)]
    currency: Scalar,
    #[serde(default)]
    total_discount_amount: Scalar,
}

/// Rounded up to whole fen.
pub fn price(answer: Price) -> Result<Fen, Failure> {
    check_currency("price", answer.currency.text().unwrap_or("absent"))?;
    let price = answer.total_discount_amount.yuan(Rounding::Up).filter(is_payable);
    price.ok_or_else(|| unreadable("the answer has no readable `TotalDiscountAmount`"))
}

#[derive(Serialize)]
pub struct NoParameters {}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Balance {
    #[serde(default)]
    available_balance: Scalar,
    #[serde(default)]
    currency: Scalar,
}

/// Rounded down to whole fen; below zero when the account is in arrears. Vouchers are not in it.
pub fn balance(answer: Balance) -> Result<Fen, Failure> {
    // Its page shows no currency, only the SDK does.
    check_currency("balance", answer.currency.text().unwrap_or(CURRENCY))?;
    let balance = answer.available_balance.yuan(Rounding::Down);
    balance.ok_or_else(|| unreadable("the answer has no readable `AvailableBalance`"))
}

fn check_currency(what: &str, currency: &str) -> Result<(), Failure> {
    if currency.eq_ignore_ascii_case(CURRENCY) {
        return Ok(());
    }
    Err(unreadable(format!("the currency of the {what} is {currency}; only {CURRENCY} can be read")))
}
