//! A plan as programs read it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{Foreseen, words};
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::written_time;
use crate::engine::plan::{AccountPlan, Balance, Limited, Line, Mark, Occasion};

#[derive(Serialize)]
pub(super) struct Foretold<'a> {
    #[serde(serialize_with = "written_time::serialize")]
    at: Timestamp,
    days: u32,
    #[serde(serialize_with = "written_time::serialize")]
    through: Timestamp,
    offline: bool,
    service_running: bool,
    is_in_force: bool,
    instances: Vec<InstanceAnswer<'a>>,
    accounts: Vec<AccountAnswer<'a>>,
    totals: Totals,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct InstanceAnswer<'a> {
    policy: &'a str,
    account: &'a str,
    provider: &'static str,
    product: &'static str,
    region: &'a str,
    instance: &'a str,
    action: &'static str,
    mark: &'static str,
    #[serde(serialize_with = "written_time::serialize_option")]
    due_at: Option<Timestamp>,
    timezone: &'a str,
    origin: Option<&'static str>,
    run_id: Option<i64>,
    missed_count: u32,
    orders: usize,
    months: Option<u32>,
    #[serde(serialize_with = "written_time::serialize_option")]
    expiry_before: Option<Timestamp>,
    #[serde(serialize_with = "written_time::serialize_option")]
    expiry_after: Option<Timestamp>,
    lapses_first: bool,
    #[serde(serialize_with = "written_time::serialize_option")]
    turn_comes_at: Option<Timestamp>,
    price_cny: Option<f64>,
    max_price_cny: Option<f64>,
    reason: &'a str,
    error: Option<&'a Failure>,
    #[serde(serialize_with = "written_time::serialize_option")]
    observed_at: Option<Timestamp>,
    look_error: Option<&'a Failure>,
    price_error: Option<&'a Failure>,
}

#[derive(Serialize)]
struct AccountAnswer<'a> {
    account: &'a str,
    provider: &'static str,
    #[serde(flatten)]
    totals: Totals,
    blocked_cny: f64,
    orders_per_day: Use<u32>,
    cny_per_day: Use<Option<f64>>,
    cny_per_month: Use<Option<f64>>,
    balance_cny: Option<f64>,
    balance_error: Option<&'a Failure>,
    shortfall_cny: Option<f64>,
    #[serde(serialize_with = "written_time::serialize_option")]
    shortfall_at: Option<Timestamp>,
    warnings: Vec<&'a str>,
}

#[derive(Serialize)]
struct Totals {
    renew: usize,
    upgrade: usize,
    blocked: usize,
    skip: usize,
    orders: usize,
    amount_cny: f64,
    /// Orders whose price is not known.
    unpriced: usize,
}

#[derive(Serialize)]
struct Use<L> {
    limit: L,
    most: L,
    /// Where the fullest day or month begins.
    #[serde(serialize_with = "written_time::serialize")]
    on: Timestamp,
}

impl<'a> Foretold<'a> {
    pub(super) fn of(foreseen: &'a Foreseen) -> Foretold<'a> {
        let plan = &foreseen.plan;
        let amount = plan.accounts.iter().map(|account| account.amount.get()).sum();
        let marks = plan.lines.iter().fold(BTreeMap::new(), |mut marks, line| {
            *marks.entry(line.mark).or_default() += 1;
            marks
        });
        Foretold {
            at: plan.at,
            days: foreseen.days,
            through: plan.through,
            offline: foreseen.is_offline,
            service_running: foreseen.is_service_running,
            is_in_force: foreseen.is_in_force,
            instances: plan.lines.iter().map(InstanceAnswer::of).collect(),
            accounts: plan.accounts.iter().map(AccountAnswer::of).collect(),
            totals: Totals::new(
                &marks,
                plan.accounts.iter().map(|account| account.orders).sum(),
                Fen::new(amount),
                plan.accounts.iter().map(|account| account.unpriced).sum(),
            ),
            warnings: words::warnings(foreseen),
        }
    }
}

impl Totals {
    fn new(marks: &BTreeMap<Mark, usize>, orders: usize, amount: Fen, unpriced: usize) -> Totals {
        let count = |mark| marks.get(&mark).copied().unwrap_or(0);
        Totals {
            renew: count(Mark::Renew),
            upgrade: count(Mark::Upgrade),
            blocked: count(Mark::Blocked),
            skip: count(Mark::Skip),
            orders,
            amount_cny: amount.as_yuan_number(),
            unpriced,
        }
    }
}

impl<'a> InstanceAnswer<'a> {
    fn of(line: &'a Line) -> InstanceAnswer<'a> {
        let (origin, run_id, missed_count) = match line.occasion {
            None => (None, None, 0),
            Some(Occasion::Schedule) => (Some("schedule"), None, 0),
            Some(Occasion::CatchUp { missed_count }) => (Some("catch_up"), None, missed_count),
            Some(Occasion::Run(run)) => (Some("run"), Some(run.0), 0),
        };
        InstanceAnswer {
            policy: line.policy.as_str(),
            account: line.account.as_str(),
            provider: line.provider.as_str(),
            product: line.product.as_str(),
            region: line.region.as_str(),
            instance: line.instance.as_str(),
            action: line.action.as_str(),
            mark: line.mark.as_str(),
            due_at: line.at,
            timezone: &line.zone,
            origin,
            run_id,
            missed_count,
            orders: line.orders,
            months: line.months,
            expiry_before: line.expiry_before,
            expiry_after: line.expiry_after,
            lapses_first: line.lapses_first,
            turn_comes_at: line.turn_comes_at,
            price_cny: line.price.map(Fen::as_yuan_number),
            max_price_cny: line.max_price.map(Fen::as_yuan_number),
            reason: &line.reason,
            error: line.failure.as_ref(),
            observed_at: line.observed_at,
            look_error: line.unseen.as_ref(),
            price_error: line.price_failure.as_ref(),
        }
    }
}

impl<'a> AccountAnswer<'a> {
    fn of(account: &'a AccountPlan) -> AccountAnswer<'a> {
        let (balance_cny, balance_error) = match &account.balance {
            Balance::Known(balance) => (Some(balance.as_yuan_number()), None),
            Balance::Unreadable(failure) => (None, Some(failure)),
            Balance::NotAsked => (None, None),
        };
        let money = |limited: Limited<Option<Fen>>| Use {
            limit: limited.limit.map(Fen::as_yuan_number),
            most: limited.most.map(Fen::as_yuan_number),
            on: limited.on,
        };
        let Limited { limit, most, on } = account.orders_per_day;
        AccountAnswer {
            account: account.account.as_str(),
            provider: account.provider.as_str(),
            totals: Totals::new(&account.lines, account.orders, account.amount, account.unpriced),
            blocked_cny: account.blocked_amount.as_yuan_number(),
            orders_per_day: Use { limit, most, on },
            cny_per_day: money(account.cny_per_day),
            cny_per_month: money(account.cny_per_month),
            balance_cny,
            balance_error,
            shortfall_cny: account.shortfall.map(|(missing, _)| missing.as_yuan_number()),
            shortfall_at: account.shortfall.map(|(_, at)| at),
            warnings: account.troubles.iter().map(|trouble| trouble.words.as_str()).collect(),
        }
    }
}
