//! When something will be done about an instance, as far as one can tell now: the guard is asked at each instant
//! that may come into question, with what was seen last taken as seen a moment before.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::observation::{InstanceState, Known, Presence};
use crate::domain::policy::{Action, EVERY_FIRE_CATCH_UP, Policy, Renew};
use crate::domain::product::InstanceId;
use crate::domain::run::RunId;
use crate::engine::{Account, Settings};
use crate::guard::{self, Decision, Price, Question, Verdict};
use crate::schedule::{Missed, Schedule};
use crate::store::{Past, Standing};

/// Orders of one instance that are counted, one a firing: no longer term is looked at than a year of days.
const FURTHER_MAX: usize = 366;

/// What a look ahead begins with.
pub(super) struct Outset<'a> {
    pub policy: &'a Policy,
    pub account: Arc<Account>,
    pub settings: Arc<Settings>,
    pub instance: &'a InstanceId,
    pub standing: &'a Standing,
    pub schedule: &'a Schedule,
    /// Firings that are owed still.
    pub missed: Option<Missed>,
    pub now: Timestamp,
    pub through: Timestamp,
}

/// What brings a run about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    Schedule,
    /// The service makes up for so many firings as soon as it runs.
    CatchUp {
        missed_count: u32,
    },
    /// It is in the queue already.
    Run(RunId),
}

/// One run at its time.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub occasion: Occasion,
    /// When it is judged.
    pub at: Timestamp,
    pub due_at: Timestamp,
    pub verdict: Verdict,
}

impl Turn {
    pub fn would_order(&self) -> bool {
        matches!(self.verdict.decision, Decision::Order | Decision::AskPrice)
    }
}

impl Outset<'_> {
    /// The first run that does more than find it too early; if there is none through the end, the next. None: the
    /// policy never fires again.
    pub fn first_turn(&self) -> Option<Turn> {
        let known = &self.standing.known;
        let owed = self.owed();
        let acted = owed.map(|(occasion, at, due_at)| {
            let verdict = self.judge(occasion, at, due_at, known, &Price::NotAsked);
            Turn { occasion, at, due_at, verdict }
        });
        // What is owed and comes to nothing leaves the rest to the schedule.
        if let Some(turn) = acted.filter(|turn| !matches!(turn.verdict.decision, Decision::Skip { .. })) {
            return Some(turn);
        }
        let next = self.schedule.next_after(self.now)?;
        Some(self.turn_from(next, known))
    }

    /// What is there to be done as soon as a service runs.
    fn owed(&self) -> Option<(Occasion, Timestamp, Timestamp)> {
        if let Some(run) = &self.standing.run {
            let at = run.next_attempt_at.map_or(self.now, |at| at.max(self.now));
            return Some((Occasion::Run(run.run), at, run.due_at));
        }
        let Missed { count, last } = self.missed?;
        Some((Occasion::CatchUp { missed_count: count }, self.now, last))
    }

    /// The same turn, once the price is known.
    pub fn priced(&self, turn: Turn, price: &Price) -> Turn {
        let Turn { occasion, at, due_at, .. } = turn;
        let verdict = self.judge(occasion, at, due_at, &self.standing.known, price);
        Turn { occasion, at, due_at, verdict }
    }

    /// The firings after an order at which the same instance is ordered again, through the end.
    pub fn further_orders(&self, first: &Turn) -> Vec<Timestamp> {
        let Action::Renew(renew) = &self.policy.terms.action else { return Vec::new() };
        let mut known = self.standing.known.clone();
        let mut after = first.at;
        let mut orders = Vec::new();
        while orders.len() < FURTHER_MAX {
            self.take_term(&mut known, *renew);
            let next = self.schedule.next_after(after).filter(|next| *next <= self.through);
            let Some(turn) = next.map(|next| self.turn_from(next, &known)) else { break };
            if !turn.would_order() {
                break;
            }
            orders.push(turn.at);
            after = turn.at;
        }
        orders
    }

    /// As an order that is confirmed leaves it.
    fn take_term(&self, known: &mut Known, renew: Renew) {
        let Some(observation) = &mut known.observation else { return };
        let Presence::Visible(facts) = &mut observation.presence else { return };
        facts.expires_at = facts.expires_at.and_then(|at| self.account.cloud.term_end(at, renew.months));
        if facts.state == InstanceState::Isolated {
            facts.state = InstanceState::Running;
        }
        known.cycle += 1;
        known.expiry_high = known.expiry_high.max(facts.expires_at);
        known.lower = None;
    }

    /// The first firing from `next` on, through the end, that does more than find it too early; else that of `next`.
    fn turn_from(&self, next: Timestamp, known: &Known) -> Turn {
        let turn = |at| Turn {
            occasion: Occasion::Schedule,
            at,
            due_at: at,
            verdict: self.judge(Occasion::Schedule, at, at, known, &Price::NotAsked),
        };
        let of_next = turn(next);
        if !of_next.verdict.is_too_early() {
            return of_next;
        }
        let is_early = |at: Timestamp| turn(at).verdict.is_too_early();
        let found = if self.policy.terms.action.is_every_fire() {
            // How near an order is too near depends on the firing.
            let firings = self.schedule.due_between(next, self.through).take(FURTHER_MAX);
            firings.into_iter().find(|firing| !is_early(*firing))
        } else {
            first_past(self.schedule, next, self.through, is_early)
        };
        found.map_or(of_next, turn)
    }

    fn judge(
        &self,
        occasion: Occasion,
        at: Timestamp,
        due_at: Timestamp,
        known: &Known,
        price: &Price,
    ) -> Verdict {
        let mut known = known.clone();
        if let Some(observation) = &mut known.observation {
            observation.observed_at = at;
        }
        let terms = &self.policy.terms;
        let needs_price = terms.max_price.is_some() || self.account.needs_price();
        let next_firing = self.schedule.next_after(at.max(due_at));
        let run = self.standing.run.as_ref().filter(|_| matches!(occasion, Occasion::Run(_)));
        guard::judge(&Question {
            account: &self.account.name,
            provider: self.account.provider,
            region: &self.policy.region,
            instance: self.instance,
            terms,
            known: &known,
            now: at,
            due_at,
            look_after: at,
            next_firing,
            firing_after_next: next_firing.and_then(|next| self.schedule.next_after(next)),
            refused_yet_moved: None,
            foreign_order_at: match run {
                Some(run) if run.is_by_hand => run.latest_order_at,
                _ => self.standing.foreign_order_at,
            },
            again: run.is_some_and(|run| run.again),
            price: if needs_price { price.clone() } else { Price::NotNeeded },
            skew: self.account.skew(),
            settle: super::span(self.settings.settle),
            look_again: super::span(self.settings.pace.first_delay),
        })
    }
}

/// The first firing after `early` that is not early any more; none through the end. What is due stays due, so halving
/// finds it, however dense the schedule is.
fn first_past(
    schedule: &Schedule,
    early: Timestamp,
    through: Timestamp,
    is_early: impl Fn(Timestamp) -> bool,
) -> Option<Timestamp> {
    let mut early = early;
    let mut found = schedule.last_through(through).filter(|last| *last > early && !is_early(*last))?;
    loop {
        let middle = early + early.duration_until(found) / 2;
        let after_middle = schedule.next_after(middle).filter(|firing| *firing < found);
        let candidate = after_middle.or_else(|| schedule.last_through(middle));
        let Some(candidate) = candidate.filter(|candidate| *candidate > early) else { return Some(found) };
        if is_early(candidate) {
            early = candidate;
        } else {
            found = candidate;
        }
    }
}

/// The firings that a policy is owed as soon as the set is loaded, as the ticker and the store count them.
pub(super) fn missed(past: &Past, policy: &Policy, now: Timestamp) -> Option<Missed> {
    if !past.was_enabled || !policy.enabled {
        return None;
    }
    let is_rescheduled = past.schedule != policy.schedule;
    let since = match past.retired_at {
        // Back under another schedule it begins anew.
        Some(_) if is_rescheduled => return None,
        Some(retired_at) => past.watermark.min(retired_at),
        None => past.watermark,
    };
    let mut since = since.max(past.active_since);
    if policy.terms.action.is_every_fire() {
        since = since.max(now - EVERY_FIRE_CATCH_UP);
    }
    // What is due under the old schedule is owed under it.
    let schedule = Schedule::parse(&past.schedule.expression, &past.schedule.zone).ok()?;
    schedule.missed_between(since, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn halving_finds_the_firing_that_a_walk_over_all_of_them_finds() {
        let through = at("2026-04-02T00:00:00Z");
        for expression in ["*/7 * * * *", "30 2 * * *", "0 0 1,15 * *", "0 12 * * 1", "* 3 * * *"] {
            let schedule = Schedule::parse(expression, "Europe/Berlin").unwrap();
            let first = schedule.next_after(at("2026-03-20T00:00:00Z")).unwrap();
            for hours in 0..14 * 24 {
                let due_from = at("2026-03-20T00:30:00Z") + jiff::SignedDuration::from_hours(hours);
                let is_early = |firing: Timestamp| firing < due_from;
                let walked = schedule.due_between(first, through).find(|firing| !is_early(*firing));
                assert_eq!(
                    first_past(&schedule, first, through, is_early),
                    walked,
                    "{expression} {due_from}"
                );
            }
        }
    }
}
