//! May this run order now? One verdict with all its tests, which `why` shows word for word.

mod upgrade;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::observation::{AutoRenew, Facts, InstanceState, Known, Presence};
use crate::domain::order::OrderRow;
use crate::domain::policy::{Action, EVERY_FIRE_CATCH_UP, OnAutoRenew, Renew, RenewWhen, Terms};
use crate::domain::product::{AccountName, InstanceId, Provider, Region};

/// Every verdict rests on an observation at most this old, and made since the run was claimed: one call looks at a batch.
pub const FRESH: SignedDuration = SignedDuration::from_secs(60);
/// Due as well when it would expire before, or this soon after, the next firing.
const NEXT_FIRING_MARGIN: SignedDuration = SignedDuration::from_hours(3 * 24);
/// Looks in a row that did not show an instance before its run fails.
const INVISIBLE_LOOKS: u32 = 3;
/// Two looks at the same thing are at least this far apart.
const SOONEST_LOOK: SignedDuration = SignedDuration::from_secs(1);
/// Looks over the settling time before an expiry earlier than one seen before is believed.
const LOWER_LOOKS: u32 = 3;
/// The code of a wait for the cloud, which shows that it is at work on the instance.
const AT_WORK: &str = "AtWork";
/// The code of a wait for the clock: the account's finding, told by `clock.skewed` when it begins.
pub const CLOCK_SKEWED: &str = "ClockSkewed";
/// The cloud's clock and ours may differ by this before orders are held.
pub const SKEW_MAX: SignedDuration = SignedDuration::from_secs(60);

/// Everything the verdict rests on.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    pub account: &'a AccountName,
    pub provider: Provider,
    pub region: &'a Region,
    pub instance: &'a InstanceId,
    pub terms: &'a Terms,
    pub known: &'a Known,
    pub now: Timestamp,
    pub due_at: Timestamp,
    /// What was seen earlier does not count.
    pub look_after: Timestamp,
    /// The policy's next firing after now.
    pub next_firing: Option<Timestamp>,
    pub firing_after_next: Option<Timestamp>,
    /// An order of this very firing that was refused, and whose term the expiry moved by all the same.
    pub refused_yet_moved: Option<OrderRow>,
    /// The latest order on the instance that no firing of this revision of the policy made.
    pub foreign_order_at: Option<Timestamp>,
    /// A person wants the order although the instance was just ordered.
    pub again: bool,
    pub price: Price,
    /// The cloud's `Date` less our clock, as last seen.
    pub skew: SignedDuration,
    pub settle: SignedDuration,
    /// How long to wait before looking again at something that may pass by itself.
    pub look_again: SignedDuration,
}

/// What is known of the price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Price {
    /// Nothing depends on it.
    NotNeeded,
    /// Something depends on it and it has not been asked.
    NotAsked,
    Known(Fen),
    Unreadable(Failure),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Test {
    pub test: &'static str,
    pub value: String,
    pub passed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub tests: Vec<Test>,
    pub decision: Decision,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Order,
    /// Ask the cloud for the instance, then judge again.
    Observe,
    /// Ask the cloud for the price, then judge again.
    AskPrice,
    Skip {
        reason: String,
    },
    Wait {
        until: Timestamp,
        reason: String,
        failure: Option<Failure>,
    },
    Fail {
        reason: String,
        failure: Failure,
    },
}

/// The tests that time alone makes pass.
const DUE: &str = "due";
const LAST_ORDER: &str = "last order";

impl Verdict {
    /// Whether nothing speaks against an order but that it is too early.
    pub fn is_too_early(&self) -> bool {
        self.tests.last().is_some_and(|test| !test.passed && matches!(test.test, DUE | LAST_ORDER))
    }

    /// What it found about that.
    pub fn due_words(&self) -> Option<&str> {
        self.tests.iter().find(|test| test.test == DUE).map(|test| test.value.as_str())
    }
}

/// Judges a run. The first test that does not pass decides; those before it are in the verdict.
pub fn judge(question: &Question<'_>) -> Verdict {
    let mut tests = Vec::new();
    let decision = decide(question, &mut tests).err().unwrap_or(Decision::Order);
    Verdict { tests, decision }
}

/// `Err` carries the decision of the test that did not pass.
fn decide(question: &Question<'_>, tests: &mut Vec<Test>) -> Result<(), Decision> {
    let mut test = |name, value: String, outcome: Result<(), Decision>| {
        tests.push(Test { test: name, value, passed: outcome.is_ok() });
        outcome
    };
    if question.due_at > question.now + SKEW_MAX {
        return test("firing", question.due_at.to_string(), Err(still_to_come(question)));
    }
    let Some(observation) = &question.known.observation else {
        return test("observed", "never".to_owned(), Err(Decision::Observe));
    };
    let age = question.now.duration_since(observation.observed_at);
    let fresh = age <= FRESH && age >= SignedDuration::ZERO && observation.observed_at >= question.look_after;
    let look = if fresh { Ok(()) } else { Err(Decision::Observe) };
    test("observed", format!("{} ago", words(age)), look)?;
    let Presence::Visible(facts) = &observation.presence else {
        return test("visible", "no".to_owned(), Err(not_visible(question)));
    };
    test("visible", "yes".to_owned(), Ok(()))?;
    test("prepaid", facts.charge.as_str().to_owned(), prepaid(facts))?;
    match &question.terms.action {
        Action::Renew(renew) => renewal(question, *renew, facts, &mut test)?,
        Action::Upgrade(wanted) => upgrade::upgrade(question, wanted, facts, &mut test)?,
    }
    test("clock", format!("{} off the cloud's", words(question.skew.abs())), clock(question))?;
    test("price", price_words(question), price(question))
}

/// What a renewal must pass and an upgrade need not.
fn renewal(
    question: &Question<'_>,
    renew: Renew,
    facts: &Facts,
    test: &mut impl FnMut(&'static str, String, Result<(), Decision>) -> Result<(), Decision>,
) -> Result<(), Decision> {
    let Some(expires_at) = facts.expires_at else {
        return test("expiry", "unreadable".to_owned(), Err(no_expiry(question)));
    };
    test("expiry", expires_at.to_string(), believed(question, expires_at))?;
    test(DUE, due_words(question, renew, expires_at), due(question, renew, expires_at))?;
    test("refused order", refused_words(question), truly_refused(question, expires_at))?;
    test("state", facts.state.as_str().to_owned(), orderable(question, facts, expires_at))?;
    test("auto-renew", facts.auto_renew.as_str().to_owned(), auto_renew(question, facts, expires_at))?;
    test("firing", question.due_at.to_string(), not_too_old(question))?;
    test(LAST_ORDER, last_order_words(question), not_just_ordered(question))
}

/// Fired by a clock that was ahead. No look could be made since its firing, and its policy fires meanwhile as it
/// should: it waits for its own instant, and stands in nobody's way.
fn still_to_come(question: &Question<'_>) -> Decision {
    let until = question.due_at;
    let reason = format!("its firing is due on {until}: the clock was ahead when it was queued");
    Decision::Wait { until, reason, failure: None }
}

fn not_visible(question: &Question<'_>) -> Decision {
    let Question { instance, region, account, .. } = question;
    let reason = format!("{instance} is not visible in {region} with account {account}");
    if question.known.invisible_looks >= INVISIBLE_LOOKS {
        let failure = Failure::ours(Class::Rejected, "NotVisible", &reason);
        Decision::Fail {
            reason: format!("{reason}: correct the policy, or give the account the right"),
            failure,
        }
    } else {
        look_again(question, reason, None)
    }
}

/// Waits for something to pass, and then looks: what one observation said is never asked of it twice.
fn look_again(question: &Question<'_>, reason: String, failure: Option<Failure>) -> Decision {
    look_in(question, question.look_again, reason, failure)
}

fn look_in(
    question: &Question<'_>,
    delay: SignedDuration,
    reason: String,
    failure: Option<Failure>,
) -> Decision {
    let observed_at = question.known.observation.as_ref().map_or(Timestamp::MIN, |seen| seen.observed_at);
    let until = observed_at.saturating_add(delay.max(SOONEST_LOOK)).unwrap_or(question.now);
    if until <= question.now { Decision::Observe } else { Decision::Wait { until, reason, failure } }
}

fn prepaid(facts: &Facts) -> Result<(), Decision> {
    if facts.is_prepaid() {
        return Ok(());
    }
    let reason = format!(
        "it is {}, not prepaid: renewd pays for prepaid instances only; take it out of the policy",
        facts.charge.as_str()
    );
    Err(fail("NotPrepaid", reason))
}

fn no_expiry(question: &Question<'_>) -> Decision {
    let reason = "the cloud shows no readable expiry, so nobody can say whether it is due".to_owned();
    let failure = Failure::ours(Class::Unavailable, "NoExpiry", &reason);
    look_again(question, reason, Some(failure))
}

/// An expiry earlier than one seen before may be a stale read: ordering on it could pay twice.
fn believed(question: &Question<'_>, expires_at: Timestamp) -> Result<(), Decision> {
    let Some(lower) = question.known.lower else { return Ok(()) };
    let watched = question.now.duration_since(lower.since);
    if lower.looks >= LOWER_LOOKS && watched >= question.settle {
        return Ok(());
    }
    let high = question.known.expiry_high.map(|high| high.to_string()).unwrap_or_default();
    let reason =
        format!("the cloud shows an expiry of {expires_at}, earlier than {high} seen before: looking again");
    Err(look_in(question, question.settle / 3, reason, None))
}

fn due(question: &Question<'_>, renew: Renew, expires_at: Timestamp) -> Result<(), Decision> {
    let RenewWhen::WithinDays(days) = renew.when else { return Ok(()) };
    let window = SignedDuration::from_hours(24 * i64::from(days));
    let in_window = expires_at <= question.now + window;
    let before_next = question.next_firing.is_some_and(|next| expires_at < next + NEXT_FIRING_MARGIN);
    if in_window || before_next {
        return Ok(());
    }
    let left = words(expires_at.duration_since(question.now));
    let reason = format!("not due: it expires at {expires_at}, in {left}; due within {days} days of that");
    Err(Decision::Skip { reason })
}

fn due_words(question: &Question<'_>, renew: Renew, expires_at: Timestamp) -> String {
    let left = expires_at.duration_since(question.now);
    match renew.when {
        RenewWhen::EveryFire => "every firing orders".to_owned(),
        RenewWhen::WithinDays(days) if left.is_negative() => {
            format!("expired {} ago, window {days} days", words(left.abs()))
        }
        RenewWhen::WithinDays(days) => format!("expires in {}, window {days} days", words(left)),
    }
}

fn refused_words(question: &Question<'_>) -> String {
    question.refused_yet_moved.map_or_else(|| "none that took effect".to_owned(), |row| format!("row {row}"))
}

/// A term that moved although its order was refused was perhaps paid for: this firing does not pay again.
fn truly_refused(question: &Question<'_>, expires_at: Timestamp) -> Result<(), Decision> {
    let Some(row) = question.refused_yet_moved else { return Ok(()) };
    let reason = format!(
        "its order row {row} was refused, and the expiry moved by the whole term to {expires_at:.0} all the same: it \
         may have been paid; look in the console"
    );
    Err(fail("RefusedYetMoved", reason))
}

/// Isolated and past its expiry is due; isolated before it was returned by somebody and is left alone.
fn orderable(question: &Question<'_>, facts: &Facts, expires_at: Timestamp) -> Result<(), Decision> {
    match &facts.state {
        InstanceState::Gone => Err(gone()),
        InstanceState::Isolated if expires_at > question.now => Err(fail(
            "Returned",
            format!(
                "it is isolated although its term runs until {expires_at}: somebody returned it; never ordered"
            ),
        )),
        InstanceState::Busy => Err(at_work(question)),
        InstanceState::Isolated | InstanceState::Running | InstanceState::Other(_) => Ok(()),
    }
}

fn fail(code: &str, reason: String) -> Decision {
    let failure = Failure::ours(Class::Rejected, code, &reason);
    Decision::Fail { reason, failure }
}

fn gone() -> Decision {
    fail("Gone", "it was returned or is being deleted: it is never ordered".to_owned())
}

fn at_work(question: &Question<'_>) -> Decision {
    let reason = "the cloud is at work on the instance: looking again".to_owned();
    let failure = Failure::ours(Class::Busy, AT_WORK, &reason);
    look_again(question, reason, Some(failure))
}

/// How long before the expiry the vendor's own auto-renew may debit (Tencent: on the expiry day; Volcengine:
/// from 7 days before), and a day to spare.
fn auto_renew_lead(provider: Provider) -> SignedDuration {
    match provider {
        Provider::TencentCloud => SignedDuration::from_hours(24),
        Provider::Volcengine => SignedDuration::from_hours(8 * 24),
    }
}

fn auto_renew(question: &Question<'_>, facts: &Facts, expires_at: Timestamp) -> Result<(), Decision> {
    let on = match (facts.auto_renew, question.terms.on_auto_renew) {
        (AutoRenew::Off, _) => return Ok(()),
        (AutoRenew::On, OnAutoRenew::Skip) => {
            let reason =
                "the console's auto-renew is on and the policy says on_auto_renew = \"skip\"".to_owned();
            return Err(Decision::Skip { reason });
        }
        (AutoRenew::On, OnAutoRenew::Renew) => "is on",
        (AutoRenew::Unreadable, _) => "cannot be read",
    };
    if expires_at > question.now + auto_renew_lead(question.provider) {
        return Ok(());
    }
    let reason = format!(
        "the console's auto-renew {on} and may debit at any moment this close to the expiry: \
         an order now could pay twice; turn auto-renew off, or renew by hand"
    );
    let failure = Failure::ours(Class::Blocked, "AutoRenewNear", &reason);
    Err(Decision::Wait { until: question.now + question.look_again * 4, reason, failure: Some(failure) })
}

/// `every_fire` has no expiry to tell whether it is still wanted: a firing held up for more than a day is over.
fn not_too_old(question: &Question<'_>) -> Result<(), Decision> {
    let age = question.now.duration_since(question.due_at);
    if !question.terms.action.is_every_fire() || age <= EVERY_FIRE_CATCH_UP {
        return Ok(());
    }
    let reason = format!("its firing is {} old, and every_fire makes up for a day at most", words(age));
    Err(Decision::Skip { reason })
}

fn last_order_words(question: &Question<'_>) -> String {
    let again = if question.again { ", ordered again by a person's wish" } else { "" };
    let last = question.foreign_order_at.map(|at| at.to_string());
    format!("{}{again}", last.as_deref().unwrap_or("none by another revision or by hand"))
}

/// After an edit, a rename or a trigger, `every_fire` does not order within half its interval of the last order:
/// its cycle is the due instant, so nothing else would keep two triggers in a row from paying twice.
fn not_just_ordered(question: &Question<'_>) -> Result<(), Decision> {
    if !question.terms.action.is_every_fire() || question.again {
        return Ok(());
    }
    let Some(last) = question.foreign_order_at else { return Ok(()) };
    // From the due instant: a run that waited for the very order that came in its place is not wanted later either.
    if interval(question).is_some_and(|interval| question.due_at.duration_since(last) >= interval / 2) {
        return Ok(());
    }
    let when = if last > question.due_at {
        "since this firing was due"
    } else {
        "less than half the interval of its schedule before this firing"
    };
    let reason = format!(
        "the instance was ordered at {last}, {when}; \
         `renewd trigger --again` orders all the same"
    );
    Err(Decision::Skip { reason })
}

/// Of the schedule about the due instant. A trigger may fall just before a firing, so the one after counts as well.
fn interval(question: &Question<'_>) -> Option<SignedDuration> {
    let next = question.next_firing?;
    let to_next = next.duration_since(question.due_at).abs();
    let following = question.firing_after_next.map(|following| following.duration_since(next));
    Some(following.map_or(to_next, |following| following.max(to_next)))
}

fn clock(question: &Question<'_>) -> Result<(), Decision> {
    if question.skew.abs() <= SKEW_MAX {
        return Ok(());
    }
    let reason = format!(
        "this machine's clock is {} off the cloud's: orders are held until it is set right",
        words(question.skew.abs())
    );
    let failure = Failure::ours(Class::Unavailable, CLOCK_SKEWED, &reason);
    // Only a call tells how far the clocks are apart now.
    Err(look_again(question, reason, Some(failure)))
}

fn price_words(question: &Question<'_>) -> String {
    let cap = question.terms.max_price.map_or_else(String::new, |cap| format!(", cap {cap} CNY"));
    match &question.price {
        Price::NotNeeded => "not asked: no cap and no money budget".to_owned(),
        Price::NotAsked => "to be asked".to_owned(),
        Price::Known(price) => format!("{price} CNY{cap}"),
        Price::Unreadable(failure) => format!("unreadable: {failure}"),
    }
}

fn price(question: &Question<'_>) -> Result<(), Decision> {
    match &question.price {
        Price::NotNeeded => Ok(()),
        Price::NotAsked => Err(Decision::AskPrice),
        Price::Known(price) => match question.terms.max_price {
            Some(cap) if *price > cap => {
                let reason = format!("the price is {price} CNY, above max_price_cny = {cap}");
                let failure = Failure::ours(Class::Rejected, "PriceAboveCap", &reason);
                Err(Decision::Fail { reason, failure })
            }
            _ => Ok(()),
        },
        Price::Unreadable(failure) => {
            let reason =
                format!("a price cap or money budget is set and the price cannot be read: {failure}");
            let until = question.now + question.look_again * 4;
            Err(Decision::Wait { until, reason, failure: Some(failure.clone()) })
        }
    }
}

/// `3 days 4 hours`, to the two largest units.
fn words(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let parts = [(seconds / 86_400, "day"), (seconds / 3_600 % 24, "hour"), (seconds / 60 % 60, "minute")];
    let shown: Vec<String> = parts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}{}", if *count == 1 { "" } else { "s" }))
        .collect();
    if shown.is_empty() { format!("{} s", seconds) } else { shown.join(" ") }
}

#[cfg(test)]
mod tests;
