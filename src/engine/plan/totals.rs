//! What a plan's lines come to: an account's orders against its budget and its balance.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::purse::{Held, Purse, Spending, Wish, plus};
use super::{Circumstances, Line, Mark};
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::product::{AccountName, Identity, Provider};
use crate::engine::{Account, Engine, withheld};
use crate::store::{ORDERS_PER_DAY_LEAST, PolicyEntry, Spent, Store, StoreError};

#[derive(Clone, Debug)]
pub struct AccountPlan {
    pub account: AccountName,
    pub provider: Provider,
    /// Lines by mark.
    pub lines: BTreeMap<Mark, usize>,
    /// Orders in the days looked at, and what those with a known price cost.
    pub orders: usize,
    pub amount: Fen,
    pub unpriced: usize,
    /// What the blocked lines with a known price would cost.
    pub blocked_amount: Fen,
    pub orders_per_day: Limited<u32>,
    pub cny_per_day: Limited<Option<Fen>>,
    pub cny_per_month: Limited<Option<Fen>>,
    pub balance: Balance,
    /// What the balance lacks for those orders, and when it will be used up.
    pub shortfall: Option<(Fen, Timestamp)>,
    pub troubles: Vec<Trouble>,
}

/// A limit of the budget with the fullest of its days or months.
#[derive(Clone, Copy, Debug)]
pub struct Limited<L> {
    pub limit: L,
    pub most: L,
    /// Where that day or month begins.
    pub on: Timestamp,
}

#[derive(Clone, Debug)]
pub enum Balance {
    NotAsked,
    Known(Fen),
    Unreadable(Failure),
}

/// Something that a cloud did not answer.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub words: String,
    pub failure: Failure,
    /// Instances could not be looked at.
    pub is_blind: bool,
}

pub(super) type AllSpent = BTreeMap<AccountName, Spent>;
type Balances = BTreeMap<AccountName, Result<Option<Fen>, Failure>>;

pub(super) async fn spent(engine: &Engine, store: &Store, now: Timestamp) -> Result<AllSpent, StoreError> {
    let mut all = AllSpent::new();
    for (name, account) in engine.accounts().iter() {
        let budget = engine.budget(account, now);
        all.insert(name.clone(), store.spent(name, budget.day_start, budget.month_start).await?);
    }
    Ok(all)
}

/// Of every account that the set uses. Lines for which the budget leaves no room become blocked.
pub(super) fn of(
    engine: &Engine,
    set: &[PolicyEntry],
    lines: &mut [Line],
    spent: &AllSpent,
    balances: Option<&Balances>,
    circumstances: &Circumstances,
) -> Vec<AccountPlan> {
    let used: BTreeSet<&AccountName> = set.iter().map(|entry| &entry.policy.account).collect();
    let accounts = engine.accounts();
    let used = accounts.values().filter(|account| used.contains(&account.name));
    used.map(|account| {
        let purse = Purse {
            budget_at: |at| engine.budget(account, at),
            orders_a_day: orders_a_day(account, set),
            spent: spent.get(&account.name).copied().unwrap_or_default(),
            now: circumstances.now,
            through: circumstances.through,
        };
        let spending = purse.spend(wishes(&account.name, lines));
        take(lines, &spending);
        let balance = balances.and_then(|balances| balances.get(&account.name));
        total(account, lines, &spending, purse.orders_a_day, balance)
    })
    .collect()
}

/// As the intent's INSERT has it.
fn orders_a_day(account: &Account, set: &[PolicyEntry]) -> u32 {
    account.limits().orders_per_day.unwrap_or_else(|| {
        let live = set.iter().map(|entry| &entry.policy);
        let live = live.filter(|policy| policy.enabled && policy.account == account.name);
        let identities: BTreeSet<Identity> = live
            .flat_map(|policy| {
                policy
                    .instances
                    .iter()
                    .map(|instance| Identity::new(policy.product, &policy.region, instance))
            })
            .collect();
        u32::try_from(2 * identities.len()).unwrap_or(u32::MAX).max(ORDERS_PER_DAY_LEAST)
    })
}

fn wishes(account: &AccountName, lines: &[Line]) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for (place, line) in lines.iter().enumerate().filter(|(_, line)| line.account == *account) {
        for at in &line.orders_at {
            for nth in 0..line.orders_each {
                // What the later orders of an upgrade cost is known when their turn comes.
                let amount = line.price.filter(|_| nth == 0);
                let expires_at = line.expiry_before;
                wishes.push(Wish { id: wishes.len(), line: place, at: *at, expires_at, amount });
            }
        }
    }
    wishes
}

fn take(lines: &mut [Line], spending: &Spending) {
    for wish in &spending.made {
        lines[wish.line].orders += 1;
    }
    for Held { wish, withheld, made_at } in spending.held.values() {
        let line = &mut lines[wish.line];
        // A line that begins well is not blocked for what comes later.
        if line.mark == Mark::Blocked || line.orders_at.first() != Some(&wish.at) {
            continue;
        }
        let reason = withheld::reason(withheld, line.action);
        let failure = withheld::code(withheld).map(|code| Failure::ours(Class::Blocked, code, &reason));
        line.block(reason, failure);
        line.turn_comes_at = *made_at;
    }
}

fn total(
    account: &Account,
    lines: &[Line],
    spending: &Spending,
    orders_a_day: u32,
    balance: Option<&Result<Option<Fen>, Failure>>,
) -> AccountPlan {
    let own: Vec<&Line> = lines.iter().filter(|line| line.account == account.name).collect();
    let mut marks = BTreeMap::new();
    for line in &own {
        *marks.entry(line.mark).or_default() += 1;
    }
    let amount = sum(spending.made.iter().filter_map(|wish| wish.amount));
    let for_good = own.iter().filter(|line| line.mark == Mark::Blocked && line.orders == 0);
    let balance = match balance {
        Some(Ok(Some(balance))) => Balance::Known(*balance),
        Some(Err(failure)) => Balance::Unreadable(failure.clone()),
        None | Some(Ok(None)) => Balance::NotAsked,
    };
    AccountPlan {
        account: account.name.clone(),
        provider: account.provider,
        lines: marks,
        orders: spending.made.len(),
        amount,
        unpriced: spending.made.iter().filter(|wish| wish.amount.is_none()).count(),
        blocked_amount: sum(for_good.filter_map(|line| line.price)),
        orders_per_day: fullest(&spending.days, orders_a_day, |tally| tally.orders),
        cny_per_day: fullest(&spending.days, account.limits().per_day, |tally| Some(tally.spent)),
        cny_per_month: fullest(&spending.months, account.limits().per_month, |sum| Some(*sum)),
        shortfall: shortfall(spending, amount, &balance),
        balance,
        troubles: troubles(&own),
    }
}

fn sum(amounts: impl Iterator<Item = Fen>) -> Fen {
    amounts.fold(Fen::default(), plus)
}

/// The earliest of the fullest.
fn fullest<T, L: Ord + Copy>(
    spans: &BTreeMap<Timestamp, T>,
    limit: L,
    use_of: impl Fn(&T) -> L,
) -> Limited<L> {
    let fullest = spans.iter().rev().max_by_key(|(_, span)| use_of(span));
    // A spending begins with what was spent so far: there is always one.
    fullest.map_or(Limited { limit, most: limit, on: Timestamp::MIN }, |(on, span)| Limited {
        limit,
        most: use_of(span),
        on: *on,
    })
}

fn shortfall(spending: &Spending, amount: Fen, balance: &Balance) -> Option<(Fen, Timestamp)> {
    let Balance::Known(balance) = *balance else { return None };
    let mut left = balance;
    let used_up = spending.made.iter().find(|wish| {
        left = Fen::new(left.get().saturating_sub(wish.amount.unwrap_or_default().get()));
        left < Fen::default()
    })?;
    Some((Fen::new(amount.get().saturating_sub(balance.get())), used_up.at))
}

/// Each once, with how many it concerns.
fn troubles(own: &[&Line]) -> Vec<Trouble> {
    let mut unseen: BTreeMap<(String, &str), (usize, usize, &Failure)> = BTreeMap::new();
    let mut unpriced: BTreeMap<&str, (usize, &Failure)> = BTreeMap::new();
    for line in own {
        if let Some(failure) = &line.unseen {
            let place = format!("{} in {}", line.product, line.region);
            let (count, known, _) = unseen.entry((place, &failure.code)).or_insert((0, 0, failure));
            *count += 1;
            *known += usize::from(line.observed_at.is_some());
        } else if let Some(failure) = &line.price_failure {
            unpriced.entry(&failure.code).or_insert((0, failure)).0 += 1;
        }
    }
    let unseen = unseen.into_iter().map(|((place, _), (count, known, failure))| {
        let instances = if count == 1 { "instance" } else { "instances" };
        let then = match known {
            0 if count == 1 => "nothing is known of it".to_owned(),
            0 => "nothing is known of them".to_owned(),
            known if known == count => "what is said here goes by earlier looks".to_owned(),
            known => format!("{known} of them go by earlier looks"),
        };
        let words = format!("{count} {instances} of {place} could not be looked at: {failure}; {then}");
        Trouble { words, failure: failure.clone(), is_blind: true }
    });
    let unpriced = unpriced.into_values().map(|(count, failure)| {
        let orders = if count == 1 { "order" } else { "orders" };
        let words = format!("the price of {count} {orders} could not be asked: {failure}");
        Trouble { words, failure: failure.clone(), is_blind: false }
    });
    unseen.chain(unpriced).collect()
}
