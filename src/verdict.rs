//! What the evidence says about an open order: confirmed, standing, not ordered, or not yet known.
//!
//! Invariant: nothing here says "not ordered" on the strength of a missing answer. It takes several looks over
//! the whole settling time within one process life, each with an unchanged expiry *and* a readable order list
//! that shows no order of ours, not even an unpaid one.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::domain::money::Fen;
use crate::domain::observation::Operation;
use crate::domain::order::{ListedOrder, OrderId, OrderState, Standing};
use crate::domain::policy::OnUnknown;
use crate::domain::upgrade::Dimension;

/// One look at an open order; kept with the order as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub effect: EffectSeen,
    pub list: ListSeen,
    /// What the cloud calls its latest renewal of the instance, where it says.
    pub operation: Option<Operation>,
    /// What the same request with the same token was answered, where it was sent again.
    pub repeat: Option<Repeat>,
}

/// The answer to a request that was sent again with the token of the first one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// The first one's order, or the one that this made: the token makes them one.
    Order(OrderId),
    /// The first one is still at work.
    AtWork,
    /// Sent, and nobody knows what became of it either.
    Lost { why: String },
    /// Nothing ordered by it, and nothing learnt.
    Failed { why: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectSeen {
    /// Of a renewal.
    Expiry(Timestamp),
    /// Of an upgrade: the dimension that it changes.
    Size(u32),
    /// Visible without a readable expiry or size, or not visible at all.
    Absent,
    /// The instance could not be asked for.
    Unread { why: String },
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
    pub request_id: Option<&'a str>,
    pub goal: Goal,
    pub on_unknown: OnUnknown,
    pub settle: Duration,
    /// Since the intent, by the wall clock: how long a person has been waiting.
    pub age: SignedDuration,
    /// The order list has lately shown that it can lag behind by more than the settling time: what it does not show
    /// proves nothing.
    pub list_was_late: bool,
}

/// What the instance shows once the order took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    Term { months: u32, expiry_before: Option<Timestamp> },
    Size { dimension: Dimension, target: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Confirmed {
        order_id: Option<OrderId>,
        effect: EffectSeen,
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
    /// The term was extended or the size changed, and not by us.
    DoneElsewhere {
        effect: EffectSeen,
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
/// Settling times that one order may begin, by restarts of the service, before a person is asked.
const SETTLINGS_MAX: i32 = 8;
const SOONEST_LOOK: Duration = Duration::from_secs(1);
/// A placed order is looked at at least this often.
const PLACED_LOOK: Duration = Duration::from_secs(300);

/// Judges the latest look in the light of those before it (all of this process life, oldest first, each with
/// its monotonic time; the latest is the last).
pub fn judge(question: &Question<'_>, looks: &[(Duration, Evidence)]) -> Verdict {
    let Some((_, latest)) = looks.last() else {
        return Verdict::KeepWatching { why: "not looked at yet".to_owned() };
    };
    if let (Some(Repeat::Order(id)), OrderState::Unknown) = (&latest.repeat, question.state) {
        return repeated(question, latest, id);
    }
    match &latest.effect {
        effect if is_reached(question.goal, effect) => reached(question, looks, effect),
        EffectSeen::Unread { why } => match &latest.list {
            ListSeen::Ours(order) => listed(question, order),
            _ => unread(question, looks, format!("the instance could not be looked at: {why}")),
        },
        _ => unmoved(question, looks, latest),
    }
}

fn repeated(question: &Question<'_>, latest: &Evidence, id: &OrderId) -> Verdict {
    let (order_id, amount) = (id.clone(), None);
    if is_reached(question.goal, &latest.effect) {
        return Verdict::Confirmed { order_id: Some(order_id), effect: latest.effect.clone(), amount };
    }
    Verdict::Placed { order_id, amount }
}

/// Whether the instance shows what was ordered: the expiry moved by the whole term (less is somebody else's doing),
/// or the size is the target's.
pub fn is_reached(goal: Goal, effect: &EffectSeen) -> bool {
    match (goal, effect) {
        (Goal::Term { months, expiry_before }, EffectSeen::Expiry(expiry)) => {
            let term = SignedDuration::from_hours(24 * DAYS_A_MONTH * i64::from(months));
            expiry_before.is_some_and(|before| expiry.duration_since(before) >= term)
        }
        (Goal::Size { target, .. }, EffectSeen::Size(size)) => *size == target,
        _ => false,
    }
}

/// Somebody's order was delivered. Whose, the list says when it can.
fn reached(question: &Question<'_>, looks: &[(Duration, Evidence)], effect: &EffectSeen) -> Verdict {
    let confirmed =
        |order_id: Option<OrderId>| Verdict::Confirmed { order_id, effect: effect.clone(), amount: None };
    let said = said(question.goal, effect);
    let list = looks.last().map(|(_, evidence)| &evidence.list);
    match list {
        Some(ListSeen::Ours(order)) => reached_with(order, effect, &said),
        // Some answers bring no number: the list, which lags behind, is given time to name it.
        Some(ListSeen::Nothing | ListSeen::Unread { .. })
            if question.state == OrderState::Placed
                && question.order_id.is_none()
                && question.age < settle_signed(question) =>
        {
            Verdict::KeepWatching { why: format!("{said}: waiting for the order's number") }
        }
        _ if question.state == OrderState::Placed => confirmed(question.order_id.cloned()),
        Some(ListSeen::Forbidden { .. }) => confirmed(None),
        // A list that stays unreadable is no better than a forbidden one; the effect is there all the same.
        Some(ListSeen::Unread { .. }) if question.age >= settle_signed(question) => confirmed(None),
        Some(ListSeen::Nothing) if agreed_nothing(question, looks) => {
            Verdict::DoneElsewhere { effect: effect.clone() }
        }
        _ if is_beyond_evidence(question, looks) => {
            Verdict::AskPerson { why: format!("{said}, and the order list does not show whose order did it") }
        }
        _ => {
            Verdict::KeepWatching { why: format!("{said}: waiting for the order list to say by which order") }
        }
    }
}

/// What the instance shows, in words.
pub fn said(goal: Goal, effect: &EffectSeen) -> String {
    match (goal, effect) {
        (_, EffectSeen::Expiry(expiry)) => format!("the expiry moved to {expiry}"),
        (Goal::Size { dimension, .. }, EffectSeen::Size(size)) => format!("{dimension} is {size}"),
        _ => "nothing to be seen".to_owned(),
    }
}

/// The effect is there and the list shows our order: its standing says whether it was ours that brought it.
fn reached_with(order: &ListedOrder, effect: &EffectSeen, said: &str) -> Verdict {
    let id = &order.order_id;
    match order.standing {
        Standing::Standing => {
            Verdict::Confirmed { order_id: Some(id.clone()), effect: effect.clone(), amount: order.amount }
        }
        Standing::Void => Verdict::DoneElsewhere { effect: effect.clone() },
        Standing::Unpaid | Standing::Undelivered => Verdict::AskPerson {
            why: format!(
                "{said} without order {id}, which is {}: settle it in the console",
                if order.standing == Standing::Unpaid { "unpaid" } else { "paid and not delivered" }
            ),
        },
        Standing::Unclear => {
            Verdict::KeepWatching { why: format!("order {id} is in a status this version does not know") }
        }
    }
}

fn unmoved(question: &Question<'_>, looks: &[(Duration, Evidence)], latest: &Evidence) -> Verdict {
    if question.state == OrderState::Placed && has_failed(question, latest) {
        let why = "the cloud says that the operation of this very request failed: it may have been paid all the same";
        return Verdict::AskPerson { why: why.to_owned() };
    }
    match &latest.list {
        ListSeen::Ours(order) => listed(question, order),
        ListSeen::Nothing if question.state == OrderState::Unknown => {
            if agreed_nothing(question, looks) {
                let why = format!(
                    "{} and the order list shows no order, over the whole settling time",
                    nothing_yet(question)
                );
                Verdict::NotOrdered { why }
            } else if is_beyond_evidence(question, looks) {
                Verdict::AskPerson { why: beyond_evidence(question).to_owned() }
            } else {
                Verdict::KeepWatching { why: "no sign of an order yet: more looks are needed".to_owned() }
            }
        }
        ListSeen::Forbidden { why } if question.state == OrderState::Unknown => {
            let accepted = question.on_unknown == OnUnknown::Resend;
            if accepted && agreed_on(question, looks, |list| matches!(list, ListSeen::Forbidden { .. })) {
                let why = format!(
                    "{} over the whole settling time; the order list may not be read and the policy says \
                     unknown = \"resend\"",
                    nothing_yet(question)
                );
                return Verdict::NotOrdered { why };
            }
            waiting(question, format!("the order list may not be read: {why}"))
        }
        ListSeen::Unread { why } => {
            unread(question, looks, format!("the order list could not be read: {why}"))
        }
        _ => waiting(question, format!("the order is placed and {} yet", nothing_yet(question))),
    }
}

fn has_failed(question: &Question<'_>, latest: &Evidence) -> bool {
    let Some(operation) = &latest.operation else { return false };
    let is_ours = question.request_id.is_some() && operation.request_id.as_deref() == question.request_id;
    is_ours && operation.state.as_deref() == Some("FAILED")
}

/// The cloud is at work on a renewal, perhaps this one, or was asked for it again just now: an order list that shows
/// nothing yet proves nothing.
fn is_at_work(evidence: &Evidence) -> bool {
    let operating = evidence.operation.as_ref().and_then(|operation| operation.state.as_deref());
    operating == Some("OPERATING") || matches!(evidence.repeat, Some(Repeat::AtWork | Repeat::Lost { .. }))
}

fn nothing_yet(question: &Question<'_>) -> String {
    match question.goal {
        Goal::Term { .. } => "the expiry has not moved".to_owned(),
        Goal::Size { dimension, target } => format!("{dimension} is not {target}"),
    }
}

fn listed(question: &Question<'_>, order: &ListedOrder) -> Verdict {
    let id = &order.order_id;
    match order.standing {
        Standing::Standing if question.state == OrderState::Unknown => {
            Verdict::Placed { order_id: id.clone(), amount: order.amount }
        }
        Standing::Standing => {
            waiting(question, format!("order {id} stands and {} yet", nothing_yet(question)))
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

/// Calls that fail say nothing of the order, least of all just after a start: a person is asked once this life has
/// tried for the settling time, or lives that ended too soon for it have for much longer.
fn unread(question: &Question<'_>, looks: &[(Duration, Evidence)], why: String) -> Verdict {
    let is_young = question.age <= settle_signed(question) * SETTLINGS_MAX;
    if watched(looks) < question.settle && is_young {
        return Verdict::KeepWatching { why };
    }
    waiting(question, why)
}

/// How long this life has looked.
fn watched(looks: &[(Duration, Evidence)]) -> Duration {
    let at = |look: Option<&(Duration, Evidence)>| look.map_or(Duration::ZERO, |(at, _)| *at);
    at(looks.last()).saturating_sub(at(looks.first()))
}

fn agreed_nothing(question: &Question<'_>, looks: &[(Duration, Evidence)]) -> bool {
    !question.list_was_late && agreed_on(question, looks, |list| *list == ListSeen::Nothing)
}

/// Looks that were going to agree would have done so by now: this life has looked for twice the settling time, or
/// lives that ended too soon for it have for much longer.
fn is_beyond_evidence(question: &Question<'_>, looks: &[(Duration, Evidence)]) -> bool {
    watched(looks) > question.settle * 2 || question.age > settle_signed(question) * SETTLINGS_MAX
}

fn beyond_evidence(question: &Question<'_>) -> &'static str {
    if question.list_was_late {
        return "the order list shows no order, but it has lately been later than the settling time: raise settle_seconds";
    }
    "the order list shows no order, but the looks at the instance do not agree long enough"
}

/// Enough looks, far enough apart, over the settling time, all with such a list and one and the same effect.
fn agreed_on(
    question: &Question<'_>,
    looks: &[(Duration, Evidence)],
    agrees: impl Fn(&ListSeen) -> bool,
) -> bool {
    let Some((latest_at, latest)) = looks.last() else { return false };
    if matches!(latest.effect, EffectSeen::Absent | EffectSeen::Unread { .. }) {
        return false;
    }
    let apart = question.settle / 3;
    let mut counted = 0;
    let mut first = *latest_at;
    let mut next_before = Some(Duration::MAX);
    for (at, evidence) in looks.iter().rev() {
        if !agrees(&evidence.list) || evidence.effect != latest.effect || is_at_work(evidence) {
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
