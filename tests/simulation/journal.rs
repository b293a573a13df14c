//! What people and the world did in a list: what the oracle excuses, and what each policy owes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use renewd::domain::policy::{Policy, ScheduleText};
use renewd::schedule::Schedule;
use renewd::store::PauseScope;

#[derive(Default)]
pub struct Journal {
    pauses: Vec<(PauseScope, Option<Timestamp>)>,
    /// Expiries that truly went back by more than a correction: instance and true time.
    set_back: Vec<(String, Timestamp)>,
    /// Instances of whose orders somebody said what was not so.
    told_wrong: BTreeSet<String>,
    pub was_clock_set: bool,
    pub had_two_daemons: bool,
    debts: BTreeMap<String, Debt>,
}

/// The stretches of time whose due instants a policy owes.
#[derive(Default)]
pub struct Debt {
    pub is_every_fire: bool,
    /// Of the first set that names it; lists never change them.
    pub instances: Vec<String>,
    closed: Vec<Span>,
    open: Option<Span>,
    /// In no file since then; back unchanged it owes what came meanwhile.
    retired_at: Option<Timestamp>,
}

struct Span {
    schedule: ScheduleText,
    after: Timestamp,
    through: Timestamp,
}

impl Journal {
    pub fn pause(&mut self, scope: PauseScope, until: Option<Timestamp>) {
        self.pauses.push((scope, until));
    }

    pub fn resume(&mut self, scope: &PauseScope) {
        self.pauses.retain(|(paused, _)| *scope != PauseScope::All && paused != scope);
    }

    pub fn resume_all(&mut self) {
        self.pauses.clear();
    }

    pub fn is_paused(&self, account: &str, policy: &str, at: Timestamp) -> bool {
        self.pauses.iter().any(|(scope, until)| {
            let reaches = match scope {
                PauseScope::All => true,
                PauseScope::Account(name) => name.as_str() == account,
                PauseScope::Policy(name) => name.as_str() == policy,
            };
            reaches && until.is_none_or(|until| until > at)
        })
    }

    pub fn set_back(&mut self, instance: &str, at: Timestamp) {
        self.set_back.push((instance.to_owned(), at));
    }

    pub fn was_set_back(&self, instance: &str, between: (Timestamp, Timestamp)) -> bool {
        let (from, through) = between;
        self.set_back.iter().any(|(id, at)| id == instance && (from..=through).contains(at))
    }

    pub fn tell_wrong(&mut self, instance: &str) {
        self.told_wrong.insert(instance.to_owned());
    }

    pub fn was_told_wrong(&self, instance: &str) -> bool {
        self.told_wrong.contains(instance)
    }

    /// A set came into force.
    pub fn note_set(&mut self, set: &[Policy], now: Timestamp) {
        for policy in set {
            let debt = self.debts.entry(policy.name.to_string()).or_insert_with(|| Debt {
                is_every_fire: policy.terms.action.is_every_fire(),
                instances: policy.instances.iter().map(ToString::to_string).collect(),
                ..Debt::default()
            });
            debt.note(policy, now);
        }
        for (name, debt) in &mut self.debts {
            if !set.iter().any(|policy| policy.name.as_str() == name) && debt.retired_at.is_none() {
                debt.retired_at = Some(now);
            }
        }
    }

    pub fn debts(&self) -> &BTreeMap<String, Debt> {
        &self.debts
    }
}

impl Debt {
    fn note(&mut self, policy: &Policy, now: Timestamp) {
        let retired_at = self.retired_at.take();
        let goes_on = self.open.as_ref().is_some_and(|span| span.schedule == policy.schedule);
        if !(goes_on && policy.enabled)
            && let Some(span) = self.open.take()
        {
            self.closed.push(Span { through: retired_at.unwrap_or(now), ..span });
        }
        if policy.enabled && self.open.is_none() {
            self.open = Some(Span { schedule: policy.schedule.clone(), after: now, through: Timestamp::MAX });
        }
    }

    /// How many instants an instance of it is owed, with what was asked of each schedule through its watermark.
    pub fn owed(&self, watermark: impl Fn(&ScheduleText) -> Timestamp) -> usize {
        let open = self.open.iter().map(|span| {
            let through = self.retired_at.unwrap_or_else(|| watermark(&span.schedule));
            due(&span.schedule, span.after, through)
        });
        let closed = self.closed.iter().map(|span| due(&span.schedule, span.after, span.through));
        open.chain(closed).sum()
    }
}

fn due(schedule: &ScheduleText, after: Timestamp, through: Timestamp) -> usize {
    let schedule = Schedule::parse(&schedule.expression, &schedule.zone).unwrap();
    schedule.due_between(after, through).count()
}
