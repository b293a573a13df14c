//! One line of a plan: what becomes of an instance, and why.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Circumstances, Draft, Occasion, Turn};
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::observation::AutoRenew;
use crate::domain::order::{Cycle, OrderState};
use crate::domain::policy::{Action, ActionKind};
use crate::domain::product::{AccountName, InstanceId, PolicyName, Product, Provider, Region};
use crate::engine::{Account, Engine, survey, withheld};
use crate::guard::Decision;
use crate::store::{OpenRow, Pause, UnfinishedRun, Withheld};

/// In the order of a list: what needs a person comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mark {
    Blocked,
    Renew,
    Upgrade,
    Skip,
}

impl Mark {
    pub fn as_str(self) -> &'static str {
        match self {
            Mark::Blocked => "blocked",
            Mark::Renew => "renew",
            Mark::Upgrade => "upgrade",
            Mark::Skip => "skip",
        }
    }

    pub fn is_order(self) -> bool {
        matches!(self, Mark::Renew | Mark::Upgrade)
    }
}

#[derive(Clone, Debug)]
pub struct Line {
    pub policy: PolicyName,
    pub account: AccountName,
    pub provider: Provider,
    pub product: Product,
    pub region: Region,
    pub instance: InstanceId,
    pub action: ActionKind,
    /// The zone of the policy's schedule.
    pub zone: String,
    pub mark: Mark,
    /// When that happens; None: its policy does not fire.
    pub at: Option<Timestamp>,
    pub occasion: Option<Occasion>,
    /// How many orders the days looked at bring.
    pub orders: usize,
    /// When they are wanted, and how many each time: an upgrade's sizes take one each.
    pub(super) orders_at: Vec<Timestamp>,
    pub(super) orders_each: u32,
    pub months: Option<u32>,
    pub expiry_before: Option<Timestamp>,
    /// Of what is renewed or upgraded.
    pub expiry_after: Option<Timestamp>,
    /// Of the first order.
    pub price: Option<Fen>,
    pub price_failure: Option<Failure>,
    pub max_price: Option<Fen>,
    pub reason: String,
    /// What stands in the way.
    pub failure: Option<Failure>,
    /// Why it could not be looked at now: all the rest goes by an earlier look.
    pub unseen: Option<Failure>,
    pub observed_at: Option<Timestamp>,
    /// It expires before its policy does anything about it.
    pub lapses_first: bool,
    /// Blocked by a budget, it is ordered then, once there is room.
    pub turn_comes_at: Option<Timestamp>,
}

impl Line {
    pub(super) fn rank(&self) -> impl Ord + use<> {
        (
            self.mark,
            self.at.unwrap_or(Timestamp::MAX),
            self.expiry_before.unwrap_or(Timestamp::MAX),
            self.instance.clone(),
            self.action,
        )
    }

    pub(super) fn block(&mut self, reason: String, failure: Option<Failure>) {
        (self.mark, self.reason, self.failure, self.expiry_after) = (Mark::Blocked, reason, failure, None);
    }
}

/// None for an account that there is not, which no valid set names.
pub(super) fn of(engine: &Engine, draft: Draft<'_>, circumstances: &Circumstances) -> Option<Line> {
    let account = engine.accounts().get(&draft.policy.account).map(Arc::clone)?;
    let mut line = blank(&draft);
    let Some(turn) = &draft.turn else {
        let is_enabled = draft.policy.enabled;
        line.reason = if is_enabled { "its schedule never fires again" } else { DISABLED }.to_owned();
        return Some(line);
    };
    (line.at, line.occasion) = (Some(turn.at), Some(turn.occasion));
    line.lapses_first = lapses_first(&draft, turn, circumstances.now);
    match &turn.verdict.decision {
        Decision::Skip { reason } => line.reason = reason.clone(),
        Decision::Wait { reason, failure, .. } => line.block(reason.clone(), failure.clone()),
        Decision::Fail { reason, failure } => line.block(reason.clone(), Some(failure.clone())),
        Decision::Observe => line.block(never_seen(&draft), draft.unseen.clone()),
        Decision::Order | Decision::AskPrice => match obstacle(&account, &draft, turn, circumstances) {
            Some((reason, failure)) => line.block(reason, failure),
            None => order(&mut line, engine, &account, &draft, turn, circumstances),
        },
    }
    Some(line)
}

const DISABLED: &str = "the policy is disabled: it does not fire";

/// A skipped line that nothing is known of yet.
fn blank(draft: &Draft<'_>) -> Line {
    let Draft { policy, instance, standing, .. } = draft;
    let (price, price_failure) = match &draft.price {
        Some(Ok(price)) => (Some(*price), None),
        Some(Err(failure)) => (None, Some(failure.clone())),
        None => (None, None),
    };
    Line {
        policy: policy.name.clone(),
        account: policy.account.clone(),
        provider: policy.provider(),
        product: policy.product,
        region: policy.region.clone(),
        instance: (*instance).clone(),
        action: policy.terms.action.kind(),
        zone: policy.schedule.zone.clone(),
        mark: Mark::Skip,
        at: None,
        occasion: None,
        orders: 0,
        orders_at: Vec::new(),
        orders_each: 1,
        months: match &policy.terms.action {
            Action::Renew(renew) => Some(renew.months),
            Action::Upgrade(_) => None,
        },
        expiry_before: standing.known.expires_at(),
        expiry_after: None,
        price,
        price_failure,
        max_price: policy.terms.max_price,
        reason: String::new(),
        failure: None,
        unseen: draft.unseen.clone(),
        observed_at: standing.known.observation.as_ref().map(|seen| seen.observed_at),
        lapses_first: false,
        turn_comes_at: None,
    }
}

/// What the vendor renews by itself does not lapse.
fn lapses_first(draft: &Draft<'_>, turn: &Turn, now: Timestamp) -> bool {
    let Some(facts) = draft.standing.known.facts() else { return false };
    let is_renewal = draft.policy.terms.action.kind() == ActionKind::Renew;
    let is_between = facts.expires_at.is_some_and(|expiry| now < expiry && expiry < turn.at);
    is_renewal && is_between && facts.is_prepaid() && facts.auto_renew != AutoRenew::On
}

fn never_seen(draft: &Draft<'_>) -> String {
    match &draft.unseen {
        Some(failure) => format!("it could not be looked at, and never was: {failure}"),
        None => "it was never looked at: only a look tells whether it is due".to_owned(),
    }
}

/// What keeps an order from being made that the guard would make.
fn obstacle(
    account: &Account,
    draft: &Draft<'_>,
    turn: &Turn,
    circumstances: &Circumstances,
) -> Option<(String, Option<Failure>)> {
    if let Some(withheld) = withheld_by(draft, turn, circumstances) {
        let mut reason = withheld::reason(&withheld, draft.policy.terms.action.kind());
        if draft.standing.open.as_ref().is_some_and(|open| open.state == OrderState::Unknown) {
            reason += ", and nobody can say yet whether it was charged";
        }
        let failure = withheld::code(&withheld).map(|code| Failure::ours(Class::Blocked, code, &reason));
        return Some((reason, failure));
    }
    if let Some(failure) = circumstances.refused_keys.get(&account.name) {
        let reason = if survey::is_without_keys(failure) {
            failure.message.clone()
        } else {
            format!("the key of account {} is refused: {failure}", account.name)
        };
        return Some((reason, Some(failure.clone())));
    }
    // The service could not look at it either.
    let is_lasting =
        |failure: &&Failure| matches!(failure.class, Class::Blocked | Class::Rejected | Class::Credential);
    if let Some(failure) = draft.unseen.as_ref().filter(is_lasting) {
        return Some((format!("it could not be looked at: {failure}"), Some(failure.clone())));
    }
    let is_of_run = matches!(turn.occasion, Occasion::Run(_));
    let held_up = draft.standing.run.as_ref().filter(|run| run.is_held_up && is_of_run)?;
    let UnfinishedRun { run, reason, error, .. } = held_up;
    let reason = reason.as_deref().unwrap_or("something that may pass");
    Some((format!("run {run} waits: {reason}"), error.clone()))
}

/// The conditions of the intent's own INSERT, in its order, save for the budget.
fn withheld_by(draft: &Draft<'_>, turn: &Turn, circumstances: &Circumstances) -> Option<Withheld> {
    let Draft { policy, standing, .. } = draft;
    let kind = policy.terms.action.kind();
    let counter = Cycle::Counter(standing.known.cycle);
    let cycle = draft.want(turn).cycle().unwrap_or(counter).to_string();
    if let Some(OpenRow { row, action, cycle: of_order, .. }) = &standing.open {
        let same_cycle = *action == kind && *of_order == cycle;
        return Some(Withheld::OpenOrder { row: *row, same_cycle });
    }
    if let Some((row, _)) = standing.paid.as_ref().filter(|(_, of_order)| *of_order == cycle) {
        return Some(Withheld::CyclePaid { row: *row });
    }
    let reaches = |pause: &&Pause| pause.reaches(&policy.account, &policy.name) && pause.holds_at(turn.at);
    let pause = circumstances.pauses.iter().rfind(reaches)?;
    Some(Withheld::Paused { until: pause.until, note: pause.words() })
}

fn order(
    line: &mut Line,
    engine: &Engine,
    account: &Account,
    draft: &Draft<'_>,
    turn: &Turn,
    circumstances: &Circumstances,
) {
    let verdict = &turn.verdict;
    line.reason = match &draft.policy.terms.action {
        Action::Renew(renew) => {
            let after = line.expiry_before.and_then(|before| account.cloud.term_end(before, renew.months));
            (line.mark, line.expiry_after) = (Mark::Renew, after);
            verdict.due_words().unwrap_or_default().to_owned()
        }
        Action::Upgrade(wanted) => {
            let spec = draft.standing.known.facts().and_then(|facts| facts.spec);
            let resizes = spec.map(|spec| wanted.resizes(spec)).unwrap_or_default();
            line.orders_each = u32::try_from(resizes.len()).unwrap_or(u32::MAX).max(1);
            (line.mark, line.expiry_after) = (Mark::Upgrade, line.expiry_before);
            resizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
    };
    if turn.at > circumstances.through {
        line.reason += "; later than the days looked at";
    } else {
        line.orders_at.push(turn.at);
        let further = draft.outset(engine, circumstances).map(|outset| outset.further_orders(turn));
        line.orders_at.extend(further.unwrap_or_default());
    }
    let needs_price = line.max_price.is_some() || account.needs_price();
    if needs_price && line.price.is_none() && line.price_failure.is_none() {
        line.reason += "; its price is asked then";
    }
    if line.orders_at.len() > 1 {
        line.reason += &format!("; {} orders in these days", line.orders_at.len());
    }
    match turn.occasion {
        Occasion::Schedule => {}
        Occasion::CatchUp { missed_count: 1 } => line.reason += "; makes up for a missed firing",
        Occasion::CatchUp { missed_count } => {
            line.reason += &format!("; makes up for {missed_count} missed firings");
        }
        Occasion::Run(run) => line.reason += &format!("; run {run} is in the queue"),
    }
}
