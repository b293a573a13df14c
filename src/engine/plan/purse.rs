//! An account's budget over the days to come: what may be ordered when, soonest expiry first, as the intent's own
//! INSERT would say at that time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::domain::money::Fen;
use crate::store::{Budget, Spent, Withheld};

/// From the start of any day, be it 23 or 25 hours long, this leads into the next.
const INTO_NEXT_DAY: SignedDuration = SignedDuration::from_hours(26);

/// One order that is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub id: usize,
    /// The place of its line.
    pub line: usize,
    pub at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub amount: Option<Fen>,
}

/// What became of the wishes.
#[derive(Debug, Default)]
pub(super) struct Spending {
    /// In the order of time.
    pub made: Vec<Wish>,
    /// By id, what had to wait.
    pub held: BTreeMap<usize, Held>,
    pub days: BTreeMap<Timestamp, Tally>,
    /// By the month's start: what is spent in it.
    pub months: BTreeMap<Timestamp, Fen>,
}

#[derive(Debug)]
pub(super) struct Held {
    pub wish: Wish,
    /// The reason that it met first.
    pub withheld: Withheld,
    /// When it is made after all; None: not through the end.
    pub made_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub orders: u32,
    pub spent: Fen,
}

pub(super) struct Purse<B> {
    /// The limits that count at a moment, with the start of its day and month.
    pub budget_at: B,
    pub orders_a_day: u32,
    pub spent: Spent,
    pub now: Timestamp,
    pub through: Timestamp,
}

impl<B: Fn(Timestamp) -> Budget> Purse<B> {
    pub fn spend(&self, wishes: Vec<Wish>) -> Spending {
        let mut spending = self.so_far();
        let mut of_days: BTreeMap<Timestamp, Vec<Wish>> = BTreeMap::new();
        for wish in wishes {
            of_days.entry((self.budget_at)(wish.at).day_start).or_default().push(wish);
        }
        while let Some((day, mut wishes)) = of_days.pop_first() {
            wishes.sort_by_key(|wish| (wish.at, wish.expires_at, wish.id));
            let mut left = Vec::new();
            for wish in wishes {
                if let Err(withheld) = self.admit(&mut spending, wish) {
                    let held = Held { wish, withheld, made_at: None };
                    spending.held.entry(wish.id).or_insert(held);
                    left.push(wish);
                }
            }
            let next_day = (self.budget_at)(day + INTO_NEXT_DAY).day_start;
            if !left.is_empty() && next_day <= self.through {
                // A run that waits tries again when the day begins.
                let tomorrow = left.into_iter().map(|wish| Wish { at: wish.at.max(next_day), ..wish });
                of_days.entry(next_day).or_default().extend(tomorrow);
            }
        }
        spending
    }

    fn so_far(&self) -> Spending {
        let budget = (self.budget_at)(self.now);
        let today = Tally { orders: self.spent.orders_today, spent: self.spent.today };
        Spending {
            days: BTreeMap::from([(budget.day_start, today)]),
            months: BTreeMap::from([(budget.month_start, self.spent.this_month)]),
            ..Spending::default()
        }
    }

    /// The conditions of the INSERT on money, in its order.
    fn admit(&self, spending: &mut Spending, wish: Wish) -> Result<(), Withheld> {
        let budget = (self.budget_at)(wish.at);
        let amount = wish.amount.unwrap_or_default();
        let day = spending.days.entry(budget.day_start).or_default();
        let month = spending.months.entry(budget.month_start).or_default();
        let (day_sum, month_sum) = (plus(day.spent, amount), plus(*month, amount));
        if day.orders >= self.orders_a_day {
            return Err(Withheld::OrdersPerDay { limit: self.orders_a_day });
        }
        if budget.per_day.is_some_and(|limit| day_sum > limit) {
            return Err(Withheld::MoneyPerDay);
        }
        if budget.per_month.is_some_and(|limit| month_sum > limit) {
            return Err(Withheld::MoneyPerMonth);
        }
        *day = Tally { orders: day.orders + 1, spent: day_sum };
        *month = month_sum;
        if let Some(held) = spending.held.get_mut(&wish.id) {
            held.made_at = Some(wish.at);
        }
        spending.made.push(wish);
        Ok(())
    }
}

pub(super) fn plus(one: Fen, other: Fen) -> Fen {
    Fen::new(one.get().saturating_add(other.get()))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    const NOW: &str = "2026-03-28T02:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Of days in a zone whose clocks go forward on the 29th.
    fn purse(
        orders_a_day: u32,
        per_day: Option<i64>,
        per_month: Option<i64>,
    ) -> Purse<impl Fn(Timestamp) -> Budget> {
        let budget_at = move |moment: Timestamp| {
            let zoned = moment.to_zoned(TimeZone::get("Europe/Berlin").unwrap());
            let month = zoned.first_of_month().unwrap().start_of_day().unwrap();
            Budget {
                orders_per_day: Some(orders_a_day),
                per_day: per_day.map(Fen::new),
                per_month: per_month.map(Fen::new),
                day_start: zoned.start_of_day().unwrap().timestamp(),
                month_start: month.timestamp(),
            }
        };
        let spent = Spent { orders_today: 1, today: Fen::new(100), this_month: Fen::new(300) };
        Purse { budget_at, orders_a_day, spent, now: at(NOW), through: at("2026-04-04T02:00:00Z") }
    }

    fn wish(id: usize, moment: &str, expires_in_days: i64) -> Wish {
        let expires_at = Some(at(NOW) + SignedDuration::from_hours(24 * expires_in_days));
        Wish { id, line: id, at: at(moment), expires_at, amount: Some(Fen::new(100)) }
    }

    fn made(spending: &Spending) -> Vec<(usize, String)> {
        spending.made.iter().map(|wish| (wish.id, wish.at.to_string())).collect()
    }

    #[test]
    fn what_was_ordered_today_counts_and_the_soonest_expiry_goes_first() {
        let noon = "2026-03-28T12:00:00Z";
        let spending = purse(2, None, None).spend(vec![wish(0, noon, 9), wish(1, noon, 3)]);
        // The next day begins when that zone's does, an hour shorter or not.
        let midnight = "2026-03-28T23:00:00Z";
        assert_eq!(made(&spending), [(1, noon.to_owned()), (0, midnight.to_owned())]);
        assert_eq!(spending.held[&0].withheld, Withheld::OrdersPerDay { limit: 2 });
        assert_eq!(spending.held[&0].made_at, Some(at(midnight)));
        let tallies: Vec<u32> = spending.days.values().map(|day| day.orders).collect();
        assert_eq!(tallies, [2, 1]);
    }

    #[test]
    fn a_day_that_is_full_fills_the_ones_after_it_also_where_the_clocks_change() {
        let noon = "2026-03-28T12:00:00Z";
        let spending = purse(2, None, None).spend((0..6).map(|id| wish(id, noon, 3)).collect());
        let days: Vec<Timestamp> = made(&spending).iter().map(|(_, moment)| at(moment)).collect();
        let starts = ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z"].map(at);
        assert_eq!(days[1..], [starts[0], starts[0], starts[1], starts[1], starts[2]]);
    }

    #[test]
    fn money_for_the_month_comes_back_with_the_next_one_and_a_smaller_order_passes_a_larger() {
        let noon = "2026-03-28T12:00:00Z";
        let small = Wish { amount: Some(Fen::new(40)), ..wish(1, noon, 9) };
        let spending = purse(10, None, Some(350)).spend(vec![wish(0, noon, 3), small]);
        assert_eq!(made(&spending), [(1, noon.to_owned()), (0, "2026-03-31T22:00:00Z".to_owned())]);
        assert_eq!(spending.held[&0].withheld, Withheld::MoneyPerMonth);
        let months: Vec<i64> = spending.months.values().map(|sum| sum.get()).collect();
        assert_eq!(months, [340, 100]);
    }

    #[test]
    fn what_no_day_has_room_for_is_held_to_the_end() {
        let spending = purse(10, Some(50), None).spend(vec![wish(0, "2026-03-28T12:00:00Z", 3)]);
        assert!(spending.made.is_empty());
        assert_eq!((&spending.held[&0].withheld, spending.held[&0].made_at), (&Withheld::MoneyPerDay, None));
    }
}
