//! Billing, API version 2018-07-09: the orders ("deals") of any product's instance, and the account's balance.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cloud::call::Api;
use crate::cloud::listing::{self, lists_less};
use crate::cloud::reading::{Object, Rounding, Scalar, is_payable, unreadable};
use crate::cloud::tencentcloud::api3::Action;
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::order::{ListedKind, ListedOrder, Standing};
use crate::domain::product::InstanceId;

pub const LIST_DEALS: Action = action("billing:DescribeDealsByCond");
pub const BALANCE: Action = action("billing:DescribeAccountBalance");

const fn action(name: &'static str) -> Action {
    Action { api: Api::new(name, 20), version: "2018-07-09", regional: false }
}

/// Past 200 the answer leaves the list of resources out. One instance does not have a hundred orders in a
/// window of days, so one page is asked for, and a list that goes on is a failure, never half a truth.
const LIMIT: usize = 100;
/// The page's number, from 0; not an offset in deals.
const FIRST_PAGE: usize = 0;
/// Left out, only delivered orders (4) would be listed.
const EVERY_STATUS: [i64; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 30];
const WINDOW_PADDING: SignedDuration = SignedDuration::from_hours(24);
const BARE_TIME_FORMAT: &str = "%Y-%m-%d %H:%M:%S";

/// Each action of the page with what it buys; one that this build does not know may be anything.
const ACTIONS: [(&str, ListedKind); 5] = [
    ("renew", ListedKind::Renewal),
    ("upgrade", ListedKind::Resize),
    ("downgrade", ListedKind::Resize),
    ("purchase", ListedKind::Other),
    ("refund", ListedKind::Other),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListDeals<'a> {
    end_time: String,
    limit: usize,
    offset: usize,
    resource_id: &'a str,
    start_time: String,
    status_set: [i64; EVERY_STATUS.len()],
}

pub fn list_deals<'a>(
    instance: &'a InstanceId,
    from: Timestamp,
    through: Timestamp,
    zone: &TimeZone,
) -> ListDeals<'a> {
    let bare = |at: Timestamp| at.to_zoned(zone.clone()).strftime(BARE_TIME_FORMAT).to_string();
    ListDeals {
        end_time: bare(through.saturating_add(WINDOW_PADDING).unwrap_or(through)),
        limit: LIMIT,
        offset: FIRST_PAGE,
        resource_id: instance.as_str(),
        start_time: bare(from.saturating_sub(WINDOW_PADDING).unwrap_or(from)),
        status_set: EVERY_STATUS,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Deals {
    #[serde(default)]
    total_count: Scalar,
    deals: Option<Vec<Object<Deal>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Deal {
    order_id: Scalar,
    status: Scalar,
    action: Scalar,
    time_span: Scalar,
    time_unit: Scalar,
    real_total_cost: Scalar,
    create_time: Scalar,
    resource_id: Option<Vec<Scalar>>,
}

/// The orders that name the instance, or name nothing.
pub fn listed_orders(
    answer: Deals,
    instance: &InstanceId,
    zone: &TimeZone,
) -> Result<Vec<ListedOrder>, Failure> {
    let total = answer.total_count.integer();
    let deals = listing::entries("Deals", answer.deals, total)?;
    let is_cut = if total.is_some() { lists_less(deals.len(), total) } else { deals.len() >= LIMIT };
    if is_cut {
        return Err(unreadable(format!("`Deals` lists {} orders and there are more", deals.len())));
    }
    deals.iter().filter(|deal| deal.concerns(instance)).map(|deal| deal.listed(zone)).collect()
}

impl Deal {
    fn concerns(&self, instance: &InstanceId) -> bool {
        let named = self.resource_id.as_deref().unwrap_or_default();
        named.is_empty() || named.iter().any(|id| id.text() == Some(instance.as_str()))
    }

    fn listed(&self, zone: &TimeZone) -> Result<ListedOrder, Failure> {
        let order_id = self.order_id.order_id().ok_or_else(|| unreadable("a deal has no `OrderId`"))?;
        Ok(ListedOrder {
            order_id,
            standing: self.standing(),
            kind: self.kind(),
            months: self.months(),
            amount: self.real_total_cost.fen(Rounding::Up).filter(is_payable),
            created_at: self.create_time.time_in(zone),
        })
    }

    /// Refused by the one who was to pay on another's behalf (11) and awaiting a user's confirmation (30) are
    /// for a person to judge, like any status to come.
    fn standing(&self) -> Standing {
        match self.status.integer() {
            Some(1) => Standing::Unpaid,
            Some(2 | 3 | 4 | 12) => Standing::Standing,
            Some(5) => Standing::Undelivered,
            Some(6..=10 | 13) => Standing::Void,
            _ => Standing::Unclear,
        }
    }

    fn kind(&self) -> ListedKind {
        let action = self.action.text().unwrap_or_default();
        let known = ACTIONS.into_iter().find(|(known, _)| action.eq_ignore_ascii_case(known));
        known.map_or(ListedKind::Unclear, |(_, kind)| kind)
    }

    fn months(&self) -> Option<u32> {
        let span = u32::try_from(self.time_span.integer()?).ok()?;
        match self.time_unit.text()? {
            "m" | "M" => Some(span),
            "y" | "Y" => span.checked_mul(12),
            _ => None,
        }
    }
}

/// The optional `TempCredit` is left out: money lent for a while is not counted on.
#[derive(Serialize)]
pub struct AskBalance {}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Balance {
    real_balance: Scalar,
    balance: Scalar,
}

/// The account's own money in fen, rounded down, negative when it owes. Credit lines and vouchers are not in
/// it: an order may go through that it would not cover. `Balance` is the older name of the same amount.
pub fn balance(answer: Balance) -> Result<Fen, Failure> {
    let Balance { real_balance, balance } = answer;
    let fen = real_balance.fen(Rounding::Down).or_else(|| balance.fen(Rounding::Down));
    fen.ok_or_else(|| unreadable("the answer has no readable `RealBalance`"))
}
