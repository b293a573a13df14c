//! What the evidence says about an open order: confirmed, standing, not ordered, or not yet known.
//!
//! Invariant: nothing here says "not ordered" on the strength of a missing answer. It takes several looks over
//! the whole settling time within one process life, each with an unchanged expiry *and* a readable order list
//! that shows no order of ours, not even an unpaid one.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::domain::money::Fen;
use crate::domain::order::{ListedOrder, OrderId, OrderState, Standing};
use crate::domain::policy::OnUnknown;

/// One look at an open order; kept with the order as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub expiry: ExpirySeen,
    pub list: ListSeen,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpirySeen {
    At(Timestamp),
    /// Visible without a readable expiry, or not visible at all.
    Absent,
    /// The instance could not be asked for.
    Unread {
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListSeen {
    /// Not asked: nothing depends on it yet.
    NotAsked,
    /// Read, and no order in it can be this one.
    Nothing,
    /// Read, with an order that no other row of ours has.
    Ours(ListedOrder),
    /// No right to read it.
    Forbidden {
        why: String,
    },
    Unread {
        why: String,
    },
}

/// What is asked about.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    pub state: OrderState,
    pub order_id: Option<&'a OrderId>,
    pub months: u32,
    pub expiry_before: Option<Timestamp>,
    pub on_unknown: OnUnknown,
    pub settle: Duration,
    /// Since the intent, by the wall clock: how long a person has been waiting.
    pub age: SignedDuration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Confirmed {
        order_id: Option<OrderId>,
        expiry_after: Option<Timestamp>,
        amount: Option<Fen>,
    },
    /// The cloud has the order; the expiry will confirm it.
    Placed {
        order_id: OrderId,
        amount: Option<Fen>,
    },
    /// Nothing was ordered: it may be ordered again.
    NotOrdered {
        why: String,
    },
    /// It was ordered and then refunded or closed: nothing stands.
    Void {
        order_id: OrderId,
    },
    /// The term was extended, and not by us.
    RenewedElsewhere {
        expiry: Timestamp,
    },
    KeepWatching {
        why: String,
    },
    /// Evidence does not settle it: a person has to.
    AskPerson {
        why: String,
    },
}

/// Shortest month less a day for clamped month ends and zone shifts: a move of this many days a month is the term.
const DAYS_A_MONTH: i64 = 27;
/// Looks that agree before an order may be called not ordered.
const LOOKS: usize = 3;
const SOONEST_LOOK: Duration = Duration::from_secs(1);
/// A placed order is looked at at least this often.
const PLACED_LOOK: Duration = Duration::from_secs(300);

/// Judges the latest look in the light of those before it (all of this process life, oldest first, each with
/// its monotonic time; the latest is the last).
pub fn judge(question: &Question<'_>, looks: &[(Duration, Evidence)]) -> Verdict {
    let Some((_, latest)) = looks.last() else {
        return Verdict::KeepWatching { why: "not looked at yet".to_owned() };
    };
    match &latest.expiry {
        ExpirySeen::At(expiry) if is_whole_term(question, *expiry) => moved(question, looks, *expiry),
        ExpirySeen::At(_) | ExpirySeen::Absent => unmoved(question, looks, latest),
        ExpirySeen::Unread { why } => match &latest.list {
            ListSeen::Ours(order) => listed(question, order),
            _ => waiting(question, format!("the instance could not be looked at: {why}")),
        },
    }
}

/// Whether the expiry moved by the term that was ordered; less is somebody else's doing.
pub fn is_whole_term(question: &Question<'_>, expiry: Timestamp) -> bool {
    let term = SignedDuration::from_hours(24 * DAYS_A_MONTH * i64::from(question.months));
    question.expiry_before.is_some_and(|before| expiry.duration_since(before) >= term)
}

/// The expiry moved by the whole term: somebody's order was delivered. Whose, the list says when it can.
fn moved(question: &Question<'_>, looks: &[(Duration, Evidence)], expiry: Timestamp) -> Verdict {
    let confirmed = |order_id: Option<OrderId>, amount| Verdict::Confirmed {
        order_id,
        expiry_after: Some(expiry),
        amount,
    };
    let list = looks.last().map(|(_, evidence)| &evidence.list);
    match list {
        Some(ListSeen::Ours(order)) => moved_with(order, expiry),
        // Some answers bring no number: the list, which lags behind, is given time to name it.
        Some(ListSeen::Nothing | ListSeen::Unread { .. })
            if question.state == OrderState::Placed
                && question.order_id.is_none()
                && question.age < settle_signed(question) =>
        {
            Verdict::KeepWatching {
                why: format!("the expiry moved to {expiry}: waiting for the order's number"),
            }
        }
        _ if question.state == OrderState::Placed => confirmed(question.order_id.cloned(), None),
        Some(ListSeen::Forbidden { .. }) => confirmed(None, None),
        // A list that stays unreadable is no better than a forbidden one; the term has moved all the same.
        Some(ListSeen::Unread { .. }) if question.age >= settle_signed(question) => confirmed(None, None),
        Some(ListSeen::Nothing) if agreed_nothing(question, looks) => Verdict::RenewedElsewhere { expiry },
        _ if question.age > settle_signed(question) * 2 => Verdict::AskPerson {
            why: format!("the expiry moved to {expiry}, and the order list does not show whose order did it"),
        },
        _ => Verdict::KeepWatching {
            why: format!("the expiry moved to {expiry}: waiting for the order list to say by which order"),
        },
    }
}

/// The term moved and the list shows our order: its standing says whether it was ours that moved it.
fn moved_with(order: &ListedOrder, expiry: Timestamp) -> Verdict {
    let id = &order.order_id;
    match order.standing {
        Standing::Standing => Verdict::Confirmed {
            order_id: Some(id.clone()),
            expiry_after: Some(expiry),
            amount: order.amount,
        },
        Standing::Void => Verdict::RenewedElsewhere { expiry },
        Standing::Unpaid | Standing::Undelivered => Verdict::AskPerson {
            why: format!(
                "the expiry moved to {expiry} without order {id}, which is {}: settle it in the console",
                if order.standing == Standing::Unpaid { "unpaid" } else { "paid and not delivered" }
            ),
        },
        Standing::Unclear => {
            Verdict::KeepWatching { why: format!("order {id} is in a status this version does not know") }
        }
    }
}

fn unmoved(question: &Question<'_>, looks: &[(Duration, Evidence)], latest: &Evidence) -> Verdict {
    match &latest.list {
        ListSeen::Ours(order) => listed(question, order),
        ListSeen::Nothing if question.state == OrderState::Unknown => {
            if agreed_nothing(question, looks) {
                let why = "the expiry has not moved and the order list shows no order, over the whole settling time";
                Verdict::NotOrdered { why: why.to_owned() }
            } else if question.age > settle_signed(question) * 2 {
                let why =
                    "the order list shows no order, but the looks at the instance do not agree long enough";
                Verdict::AskPerson { why: why.to_owned() }
            } else {
                Verdict::KeepWatching { why: "no sign of an order yet: more looks are needed".to_owned() }
            }
        }
        ListSeen::Forbidden { why } if question.state == OrderState::Unknown => {
            let accepted = question.on_unknown == OnUnknown::Resend;
            if accepted && agreed_on(question, looks, |list| matches!(list, ListSeen::Forbidden { .. })) {
                let why = "the expiry has not moved over the whole settling time; the order list may not be read and \
                           the policy says unknown = \"resend\"";
                return Verdict::NotOrdered { why: why.to_owned() };
            }
            waiting(question, format!("the order list may not be read: {why}"))
        }
        ListSeen::Unread { why } => waiting(question, format!("the order list could not be read: {why}")),
        _ => waiting(question, "the order is placed and the expiry has not moved yet".to_owned()),
    }
}

fn listed(question: &Question<'_>, order: &ListedOrder) -> Verdict {
    let id = &order.order_id;
    match order.standing {
        Standing::Standing if question.state == OrderState::Unknown => {
            Verdict::Placed { order_id: id.clone(), amount: order.amount }
        }
        Standing::Standing => {
            waiting(question, format!("order {id} stands and the expiry has not moved yet"))
        }
        Standing::Void => Verdict::Void { order_id: id.clone() },
        Standing::Unpaid => {
            Verdict::AskPerson { why: format!("order {id} is unpaid: pay it or cancel it in the console") }
        }
        Standing::Undelivered => Verdict::AskPerson {
            why: format!("order {id} was paid and its delivery failed: ask the cloud's support"),
        },
        Standing::Unclear => {
            waiting(question, format!("order {id} is in a status this version does not know"))
        }
    }
}

/// Watch while the settling time runs; then a person is asked, and watching goes on.
fn waiting(question: &Question<'_>, why: String) -> Verdict {
    if question.age < settle_signed(question) {
        Verdict::KeepWatching { why }
    } else {
        Verdict::AskPerson { why }
    }
}

fn agreed_nothing(question: &Question<'_>, looks: &[(Duration, Evidence)]) -> bool {
    agreed_on(question, looks, |list| *list == ListSeen::Nothing)
}

/// Enough looks, far enough apart, over the settling time, all with such a list and with one and the same expiry.
fn agreed_on(
    question: &Question<'_>,
    looks: &[(Duration, Evidence)],
    agrees: impl Fn(&ListSeen) -> bool,
) -> bool {
    let Some((latest_at, latest)) = looks.last() else { return false };
    let ExpirySeen::At(expiry) = latest.expiry else { return false };
    let apart = question.settle / 3;
    let mut counted = 0;
    let mut first = *latest_at;
    let mut next_before = Some(Duration::MAX);
    for (at, evidence) in looks.iter().rev() {
        if !agrees(&evidence.list) || evidence.expiry != ExpirySeen::At(expiry) {
            break;
        }
        first = *at;
        if next_before.is_some_and(|latest| *at <= latest) {
            counted += 1;
            next_before = at.checked_sub(apart);
        }
    }
    counted >= LOOKS && latest_at.saturating_sub(first) >= question.settle
}

fn settle_signed(question: &Question<'_>) -> SignedDuration {
    SignedDuration::try_from(question.settle).unwrap_or(SignedDuration::MAX)
}

/// When to look again: soon at first, when an answer is most likely, then a third of the settling time apart.
pub fn next_look_in(state: OrderState, age: SignedDuration, settle: Duration) -> Duration {
    let apart = (settle / 3).max(SOONEST_LOOK);
    let growing = Duration::try_from(age / 2).unwrap_or(SOONEST_LOOK).max(SOONEST_LOOK);
    let longest = if state == OrderState::Placed { apart.min(PLACED_LOOK) } else { apart };
    growing.min(longest)
}

#[cfg(test)]
mod tests;
