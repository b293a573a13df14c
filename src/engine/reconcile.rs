//! Open orders followed to their end: looks at the instance and at the cloud's order list, and the verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch as channel};

use super::calls::CallError;
use super::events::job_event;
use super::order_list::Wanted;
use super::{Account, Engine, Part, Step, repeat};
use crate::cloud::{self, Cause, Cloud};
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::observation::{Facts, Known, Operation, Spec};
use crate::domain::order::{Cycle, DONE_ELSEWHERE, ListedOrder, NOT_ORDERED, OrderState, REFUNDED, Standing};
use crate::domain::policy::{Action, ActionKind};
use crate::domain::product::{InstanceId, Product, Region};
use crate::store::{AfterConfirmed, Look, NextForRun, OpenOrder, OrderMove, OrderStep, StoreError};
use crate::verdict::{self, EffectSeen, Evidence, Goal, ListSeen, Repeat, Verdict};

/// Open orders looked at in one round.
const ROUND: u32 = 200;
/// The order list is read from this long before the intent: a list read in a wrong zone is off by hours, and an
/// order that could be ours must never be overlooked.
pub(super) const LIST_MARGIN: SignedDuration = SignedDuration::from_hours(24);

/// Whole seconds in the list, and two clocks: an order this little older than the intent may be its own.
const SAME_MOMENT: SignedDuration = SignedDuration::from_secs(2);
const SECOND_SETTLES_LONGER: u32 = 4;
const LONGEST_MONTH_DAYS: i64 = 31;
const FURTHER_DAYS: i64 = 20;
/// What `LatestOperation` of Tencent CVM begins with for a renewal.
const RENEWAL: &str = "Renew";

pub struct Reconcile {
    pub(super) engine: Arc<Engine>,
    pub(super) account: Arc<Account>,
}

impl Reconcile {
    pub fn new(engine: Arc<Engine>, account: Arc<Account>) -> Reconcile {
        Reconcile { engine, account }
    }

    pub async fn run(mut self, stop: channel::Receiver<bool>, tick: Arc<Notify>) {
        repeat(&Arc::clone(&self.engine), &mut self, stop, &tick).await;
    }

    /// One round over the open orders whose next look is due.
    pub async fn step(&self) -> Result<Step, StoreError> {
        let (engine, account) = (&self.engine, &self.account);
        let now = engine.now();
        if !engine.store.has_orders_to_follow(&account.name, now).await? {
            return Ok(Step::Idle);
        }
        let open = engine
            .store
            .orders_to_look_at(&account.name, account.provider, engine.epoch(), now, ROUND)
            .await?;
        let unnumbered =
            engine.store.orders_without_number(&account.name, account.provider, now, ROUND).await?;
        // With a key that is known not to work nothing can be learnt; the account's pause says so.
        if (open.is_empty() && unnumbered.is_empty()) || engine.key_refused(account).await?.is_some() {
            return Ok(Step::Idle);
        }
        let mut places: BTreeMap<(Product, Region), Vec<OpenOrder>> = BTreeMap::new();
        for order in open {
            places.entry((order.product, order.region.clone())).or_default().push(order);
        }
        for ((product, region), orders) in places {
            self.look_at(product, &region, orders).await?;
        }
        for order in unnumbered {
            self.ask_for_number(&order).await?;
        }
        Ok(Step::Worked)
    }

    async fn look_at(
        &self,
        product: Product,
        region: &Region,
        orders: Vec<OpenOrder>,
    ) -> Result<(), StoreError> {
        let ids: Vec<InstanceId> = orders.iter().map(|order| order.instance.clone()).collect();
        let seen = match self.engine.observe(&self.account, product, region, &ids).await {
            Ok(seen) => seen.into_iter().map(|seen| seen.map_err(|refused| refused.to_string())).collect(),
            // The service's own stop says nothing of an order.
            Err(CallError::Cloud(_)) if self.engine.is_stopping() => return Ok(()),
            Err(CallError::Cloud(failure)) => vec![Err(failure.to_string()); orders.len()],
            Err(CallError::Store(error)) => return Err(error),
        };
        for (order, seen) in orders.iter().zip(seen) {
            let effect = match &seen {
                Ok(known) => effect_seen(goal(order), known),
                Err(why) => EffectSeen::Unread { why: why.clone() },
            };
            let facts = seen.as_ref().ok().and_then(Known::facts);
            let repeat = self.repeat_request(order, &effect, facts).await?;
            let list = match &repeat {
                Some(Repeat::Order(_)) => ListSeen::NotAsked,
                _ => self.list_seen(order, &effect).await?,
            };
            if self.engine.is_stopping() && matches!(list, ListSeen::Unread { .. }) {
                return Ok(());
            }
            let (spec, operation) = (facts.and_then(|facts| facts.spec), facts.and_then(renewal_seen));
            self.settle(order, Evidence { effect, list, operation, repeat }, spec).await?;
        }
        Ok(())
    }

    /// The list is asked for when something depends on it: an unknown order, or a placed one that takes long;
    /// and once the term has moved, for what it cost.
    async fn list_seen(&self, order: &OpenOrder, effect: &EffectSeen) -> Result<ListSeen, StoreError> {
        let engine = &self.engine;
        let overdue = engine.now().duration_since(order.intended_at) >= signed(self.settle_time(order));
        let wants_number =
            order.order_id.is_none() && matches!(effect, EffectSeen::Expiry(_) | EffectSeen::Size(_));
        let wants_amount = order.amount.is_none()
            && self.account.may_list()
            // Where the whole list would have to be read for it, the amount is not worth the calls.
            && Cloud::order_lines_api(order.product).is_none()
            && verdict::is_reached(goal(order), effect);
        if order.state == OrderState::Placed && !overdue && !wants_number && !wants_amount {
            return Ok(ListSeen::NotAsked);
        }
        let from = order.intended_at - LIST_MARGIN;
        let wanted = Wanted {
            product: order.product,
            region: &order.region,
            instance: &order.instance,
            row: order.row,
            order_id: order.order_id.as_ref(),
            from,
        };
        match engine.list_orders(&self.account, wanted).await {
            Ok(listed) => {
                self.account.note_list_right(true);
                self.ours(order, listed, from).await
            }
            Err(CallError::Cloud(failure)) => Ok(self.not_read(&failure)),
            Err(CallError::Store(error)) => Err(error),
        }
    }

    fn not_read(&self, failure: &Failure) -> ListSeen {
        let why = failure.to_string();
        let cause = cloud::cause(self.account.provider, &failure.code);
        if cause != Some(Cause::Rights) {
            return ListSeen::Unread { why };
        }
        if self.account.note_list_right(false) {
            tracing::warn!(
                event = "account.rights", account = %self.account.name, class = %failure.class, code = failure.code,
                "account {} may not read its order list: unknown orders can only be settled by their expiry or by a \
                 person, and amounts stay unknown ({failure})", self.account.name
            );
        }
        ListSeen::Forbidden { why }
    }

    /// The listed order that is this one: by its number if it has one, else one that no other row of ours has.
    async fn ours(
        &self,
        order: &OpenOrder,
        listed: Vec<ListedOrder>,
        from: Timestamp,
    ) -> Result<ListSeen, StoreError> {
        if let Some(id) = &order.order_id {
            let found = listed.into_iter().find(|listed| listed.order_id == *id);
            return Ok(found.map_or(ListSeen::Nothing, ListSeen::Ours));
        }
        let numbers: Vec<_> = listed.iter().map(|listed| &listed.order_id).collect();
        let taken = self.engine.store.known_order_ids(&numbers, order.row).await?;
        let mut candidates: Vec<ListedOrder> = listed
            .into_iter()
            .filter(|listed| listed.kind.may_be(order.action) && !taken.contains(&listed.order_id))
            .filter(|listed| {
                order.months.is_none() || listed.months.is_none() || listed.months == order.months
            })
            .filter(|listed| listed.created_at.is_none_or(|at| at >= from))
            // A void order may be a person's, made and closed before ours was on its way.
            .filter(|listed| listed.standing != Standing::Void)
            .collect();
        self.give_back(order, &mut candidates).await?;
        candidates.sort_by_key(|listed| (listed.standing == Standing::Standing, listed.created_at));
        Ok(candidates.pop().map_or(ListSeen::Nothing, ListSeen::Ours))
    }

    /// An order made before this one was on its way is an earlier row's that was called not to have happened.
    async fn give_back(
        &self,
        order: &OpenOrder,
        candidates: &mut Vec<ListedOrder>,
    ) -> Result<(), StoreError> {
        let is_earlier = |listed: &ListedOrder| {
            listed.created_at.filter(|at| order.intended_at.duration_since(*at) > SAME_MOMENT)
        };
        let earlier: Vec<_> = candidates
            .iter()
            .filter_map(|listed| Some((listed.order_id.clone(), is_earlier(listed)?)))
            .collect();
        if earlier.is_empty() {
            return Ok(());
        }
        for (row, order_id) in self.engine.store.attribute_late(order, earlier).await? {
            candidates.retain(|listed| listed.order_id != order_id);
            job_event!(error, "order.unknown", order, { order_row = row.0, order_id = order_id.0, },
                "order row {row} of {} was settled as not ordered, and the cloud now lists order {order_id} for it: \
                 row {} may be a second payment; compare both in the console", order.instance, order.row);
        }
        Ok(())
    }

    /// How long this order is watched before it may be called not ordered. Where the cycle's last order vanished as
    /// well, reads that lag behind would explain both, and every further one would be paid: it takes much longer.
    fn settle_time(&self, order: &OpenOrder) -> Duration {
        self.engine.settings().settle * if order.is_second { SECOND_SETTLES_LONGER } else { 1 }
    }

    fn question<'a>(&self, order: &'a OpenOrder) -> verdict::Question<'a> {
        verdict::Question {
            state: order.state,
            order_id: order.order_id.as_ref(),
            request_id: order.request_id.as_deref(),
            goal: goal(order),
            on_unknown: order.terms.unknown,
            settle: self.settle_time(order),
            age: self.engine.now().duration_since(order.intended_at),
            list_was_late: order.list_was_late,
        }
    }

    /// Adds the look to those before it, judges, and records both.
    async fn settle(
        &self,
        order: &OpenOrder,
        evidence: Evidence,
        spec: Option<Spec>,
    ) -> Result<(), StoreError> {
        let engine = &self.engine;
        let (now, monotonic) = (engine.now(), engine.clock.monotonic());
        let question = self.question(order);
        let age = question.age;
        let mut looks = earlier_looks(order);
        let as_json = serde_json::to_value(&evidence).unwrap_or_default();
        looks.push((monotonic, evidence));
        let verdict = verdict::judge(&question, &looks);
        let next_look = now + signed(verdict::next_look_in(order.state, age, question.settle));
        let next = after_confirmed(order, spec);
        let stands_aside = order.action == ActionKind::Upgrade && age >= signed(question.settle);
        let (step, amount) = step_for(order, &verdict, next_look, next, stands_aside);
        let look = Look {
            at_ms: now.as_millisecond(),
            monotonic_ms: u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX),
            epoch: engine.epoch().0,
            evidence: as_json,
            finding: finding(order, &verdict),
        };
        let order_move = OrderMove {
            row: order.row,
            run: order.run,
            at: now,
            sent_at: None,
            step,
            look: Some(look),
            amount,
        };
        if engine.store.move_order(order_move).await? {
            log_verdict(order, &verdict, next);
            self.account.wake.notify_one();
        }
        Ok(())
    }
}

impl Part for Reconcile {
    const NAME: &'static str = "reconcile";

    async fn step(&mut self) -> Result<Step, StoreError> {
        Reconcile::step(self).await
    }
}

pub(super) fn goal(order: &OpenOrder) -> Goal {
    match order.cycle {
        Some(Cycle::Target { dimension, target, .. }) => Goal::Size { dimension, target },
        _ => Goal::Term { months: order.months.unwrap_or(1), expiry_before: order.expiry_before },
    }
}

fn effect_seen(goal: Goal, known: &Known) -> EffectSeen {
    let Some(facts) = known.facts() else { return EffectSeen::Absent };
    let effect = match goal {
        Goal::Term { .. } => facts.expires_at.map(EffectSeen::Expiry),
        Goal::Size { dimension, .. } => facts.spec.map(|spec| EffectSeen::Size(dimension.of(spec))),
    };
    effect.unwrap_or(EffectSeen::Absent)
}

/// By more than any calendar makes of the months that were ordered.
fn moved_further(order: &OpenOrder, effect: &EffectSeen) -> bool {
    let (Some(before), Some(months), EffectSeen::Expiry(after)) = (order.expiry_before, order.months, effect)
    else {
        return false;
    };
    let days = i64::from(months) * LONGEST_MONTH_DAYS + FURTHER_DAYS;
    after.duration_since(before) > SignedDuration::from_hours(24 * days)
}

/// The latest operation, where it is a renewal: others say nothing about an order of ours.
fn renewal_seen(facts: &Facts) -> Option<Operation> {
    facts.latest_operation.clone().filter(|operation| operation.name.starts_with(RENEWAL))
}

/// Several dimensions are several orders, each confirmed before the next.
fn after_confirmed(order: &OpenOrder, spec: Option<Spec>) -> AfterConfirmed {
    match (&order.terms.action, order.action, spec) {
        (Action::Upgrade(upgrade), ActionKind::Upgrade, Some(spec))
            if upgrade.next_resize(spec).is_some() =>
        {
            AfterConfirmed::RunGoesOn
        }
        _ => AfterConfirmed::RunSucceeds,
    }
}

/// Looks that an older version wrote and this one cannot read do not count.
fn earlier_looks(order: &OpenOrder) -> Vec<(Duration, Evidence)> {
    let read = |(at, evidence): &(u64, serde_json::Value)| {
        let evidence = serde_json::from_value(evidence.clone()).ok()?;
        Some((Duration::from_millis(*at), evidence))
    };
    order.looks.iter().filter_map(read).collect()
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn step_for(
    order: &OpenOrder,
    verdict: &Verdict,
    next_look_at: Timestamp,
    next: AfterConfirmed,
    stands_aside: bool,
) -> (OrderStep, Option<Fen>) {
    let queue = |reason: &str| NextForRun::Queue { reason: reason.to_owned() };
    let watch = |asked| OrderStep::Watch { next_look_at, asked, stands_aside };
    match verdict {
        Verdict::Confirmed { order_id, effect, amount } => {
            let expiry_after = match effect {
                EffectSeen::Expiry(expiry) => Some(*expiry),
                _ => None,
            };
            let (order_id, reason) = (order_id.clone(), effect_words(order, effect));
            (OrderStep::Confirmed { order_id, expiry_after, reason, next }, *amount)
        }
        Verdict::Placed { order_id, amount } => {
            let request_id = None;
            (OrderStep::Placed { order_id: Some(order_id.clone()), request_id, next_look_at }, *amount)
        }
        Verdict::NotOrdered { why } => {
            let failure = Failure::ours(Class::Unknown, NOT_ORDERED, why);
            (OrderStep::Refused { failure, next: queue("its order did not happen: judged anew") }, None)
        }
        Verdict::Void { order_id } => {
            let reason = format!("order {order_id} was refunded or closed: somebody decided so");
            let failure = Failure::ours(Class::Rejected, REFUNDED, &reason);
            (OrderStep::Refused { failure, next: NextForRun::Fail { reason } }, None)
        }
        Verdict::DoneElsewhere { effect } => {
            let why = format!("{} and no order of ours did it", verdict::said(goal(order), effect));
            let failure = Failure::ours(Class::Unknown, DONE_ELSEWHERE, why);
            (OrderStep::Refused { failure, next: queue("done elsewhere: judged anew") }, None)
        }
        Verdict::KeepWatching { .. } => (watch(false), None),
        Verdict::AskPerson { .. } => (watch(!order.person_asked), None),
    }
}

/// What a confirmed order brought.
fn effect_words(order: &OpenOrder, effect: &EffectSeen) -> String {
    match (goal(order), effect) {
        (_, EffectSeen::Expiry(expiry)) => format!("renewed: it now expires at {expiry}"),
        (Goal::Size { dimension, .. }, EffectSeen::Size(size)) => format!("upgraded: {dimension} is {size}"),
        _ => "confirmed".to_owned(),
    }
}

fn finding(order: &OpenOrder, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Confirmed { effect, .. } => effect_words(order, effect),
        Verdict::Placed { order_id, .. } => format!("the cloud names order {order_id}"),
        Verdict::NotOrdered { why } => format!("not ordered: {why}"),
        Verdict::Void { order_id } => format!("order {order_id} was refunded or closed"),
        Verdict::DoneElsewhere { effect } => {
            format!("done elsewhere: {}", verdict::said(goal(order), effect))
        }
        Verdict::KeepWatching { why } => format!("still open: {why}"),
        Verdict::AskPerson { why } => format!("a person has to decide: {why}"),
    }
}

fn log_verdict(order: &OpenOrder, verdict: &Verdict, next: AfterConfirmed) {
    let row = order.row;
    let instance = &order.instance;
    let number = order.order_id.as_ref().map(|id| id.0.as_str());
    match verdict {
        Verdict::Confirmed { order_id, effect, .. } => {
            let order_id = order_id.as_ref().map(|id| id.0.as_str()).or(number);
            let expiry_before = order.expiry_before.map(|at| at.to_string());
            let expiry_after = match effect {
                EffectSeen::Expiry(at) => Some(at.to_string()),
                _ => None,
            };
            let months = order.months.unwrap_or_default();
            if moved_further(order, effect) && order.is_second {
                job_event!(error, "order.unknown", order, { order_row = row.0, order_id, expiry_before, expiry_after, },
                    "{instance} was moved by more than the {months} months of order row {row}, and an earlier row of this \
                     term was settled as not ordered: most likely both were paid; compare `renewd orders --instance \
                     {instance}` with the console");
            } else if moved_further(order, effect) {
                job_event!(warn, "order.confirmed", order, { order_row = row.0, order_id, expiry_before, expiry_after, },
                    "{instance} was moved by more than the {months} months of order row {row}: somebody else renewed it \
                     as well, or an order that a person called not paid was paid");
            }
            job_event!(info, "order.confirmed", order, { order_row = row.0, order_id, expiry_before, expiry_after, },
                "the order for {instance} is confirmed: {}", finding(order, verdict));
            if next == AfterConfirmed::RunSucceeds {
                job_event!(info, "run.succeeded", order, { order_row = row.0, order_id, },
                    "the run for {instance} succeeded");
            }
        }
        Verdict::Placed { order_id, .. } => {
            job_event!(info, "order.placed", order, { order_row = row.0, order_id = order_id.0, },
                "the unknown order for {instance} was placed: its number is {order_id}");
        }
        Verdict::NotOrdered { .. } | Verdict::DoneElsewhere { .. } => {
            let is_elsewhere = matches!(verdict, Verdict::DoneElsewhere { .. });
            let code = if is_elsewhere { DONE_ELSEWHERE } else { NOT_ORDERED };
            job_event!(warn, "order.refused", order, { order_row = row.0, class = %Class::Unknown, code, },
                "the unknown order for {instance} is settled: {}", finding(order, verdict));
        }
        Verdict::Void { .. } => {
            job_event!(error, "order.refused", order, { order_row = row.0, order_id = number, class = "rejected", code = REFUNDED, },
                "the order for {instance} does not stand: {}", finding(order, verdict));
            job_event!(error, "run.failed", order, { order_row = row.0, class = "rejected", code = REFUNDED, },
                "the run for {instance} failed: {}", finding(order, verdict));
        }
        Verdict::AskPerson { why } if !order.person_asked && order.state == OrderState::Placed => {
            job_event!(error, "order.placed", order, { order_row = row.0, order_id = number, },
                "a person has to look after the placed order for {instance}: {why}; when the console shows what became \
                 of it, `renewd resolve {row} --paid` or `--not-paid`");
        }
        Verdict::AskPerson { why } if !order.person_asked => {
            job_event!(error, "order.unknown", order, { order_row = row.0, order_id = number, class = "unknown", },
                "a person has to decide about the order for {instance}: {why}; look in the console, then \
                 `renewd resolve {row} --paid` or `--not-paid`");
        }
        Verdict::AskPerson { .. } | Verdict::KeepWatching { .. } => {}
    }
}
