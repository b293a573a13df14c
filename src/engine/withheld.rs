//! Why an order is withheld although its instance is due, in words.

use crate::domain::policy::ActionKind;
use crate::store::Withheld;

const ORDERS_PER_DAY: &str = "OrdersPerDay";
const MONEY_PER_DAY: &str = "CnyPerDay";
const MONEY_PER_MONTH: &str = "CnyPerMonth";
/// What an account's budget withholds for: one finding for all its runs.
pub(super) const BUDGET_CODES: &[&str] = &[ORDERS_PER_DAY, MONEY_PER_DAY, MONEY_PER_MONTH];

/// What a person reads, of an order that would be of that kind.
pub(super) fn reason(withheld: &Withheld, action: ActionKind) -> String {
    match withheld {
        Withheld::Stale => "the run is in other hands".to_owned(),
        Withheld::Superseded => "what it was judged by has changed".to_owned(),
        Withheld::TestUnderWay => "another order of the account is under test".to_owned(),
        Withheld::Paused { note, .. } => format!("orders are paused: {note}"),
        Withheld::OpenOrder { row, same_cycle: true } => {
            format!("order row {row} of this very cycle is already under way")
        }
        Withheld::OpenOrder { row, same_cycle: false } => {
            format!("order row {row} on the same instance is still open")
        }
        Withheld::CyclePaid { row } if action == ActionKind::Upgrade => format!(
            "order row {row} already changed this size, and the instance does not show it: looking again"
        ),
        Withheld::CyclePaid { row } => format!(
            "order row {row} already paid for this term, and the instance is due all the same: look at that order in \
             the console before paying again"
        ),
        Withheld::OrdersPerDay { limit } => {
            format!("the account's budget of {limit} orders a day is used up: raise orders_per_day, or wait")
        }
        Withheld::MoneyPerDay => "the account's cny_per_day would be exceeded: raise it, or wait".to_owned(),
        Withheld::MoneyPerMonth => {
            "the account's cny_per_month would be exceeded: raise it, or wait".to_owned()
        }
        Withheld::PriceUnknown => "a money budget is set and the price is not known".to_owned(),
    }
}

/// The code under which it is an error for somebody to act on; None: it passes by itself.
pub(super) fn code(withheld: &Withheld) -> Option<&'static str> {
    match withheld {
        Withheld::OrdersPerDay { .. } => Some(ORDERS_PER_DAY),
        Withheld::MoneyPerDay => Some(MONEY_PER_DAY),
        Withheld::MoneyPerMonth => Some(MONEY_PER_MONTH),
        Withheld::CyclePaid { .. } => Some("CyclePaid"),
        Withheld::PriceUnknown => Some("PriceUnknown"),
        Withheld::Stale
        | Withheld::Superseded
        | Withheld::TestUnderWay
        | Withheld::Paused { .. }
        | Withheld::OpenOrder { .. } => None,
    }
}
