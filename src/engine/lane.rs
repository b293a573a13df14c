//! A lane: the runs of one account, soonest expiry first, from claim to recorded answer.
//!
//! ```text
//! claim ─► triage: observe in batches, guard ─► skip, wait, fail
//!              └─► due ─► till: permit ─► look again ─► guard ─► sign ─► intent ─► send ─► record
//! ```
//!
//! Invariant: the till serves one run at a time, so an account has at most one intent that is not yet being
//! sent. Invariant: no intent waits for a permit.

mod next_firings;
mod record;
mod till;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch as channel;
use tokio::task::JoinSet;

use super::calls::{CallError, is_refused_key};
use super::events::job_event;
use super::{Account, Engine, Part, Step, repeat, withheld};
use crate::cloud::{self, Cause};
use crate::domain::failure::{Class, Failure};
use crate::domain::order::OrderRow;
use crate::domain::product::{InstanceId, Product, Region};
use crate::domain::run::{Epoch, Hold, Origin, Outcome, RunId};
use crate::guard::{self, Decision, Price, Verdict};
use crate::retry::{self, Counted};
use crate::store::{Claim, Elder, Finish, Job, PauseScope, StoreError};
use crate::verdict::{self, EffectSeen, Goal};
use next_firings::NextFirings;

/// Runs claimed at once. A claim without an intent goes back to the queue after a crash, unharmed.
const CLAIM_BATCH: u32 = 1000;
/// Below this many in hand more are claimed, so that what became urgent meanwhile gets its turn.
const CLAIM_BELOW: usize = 500;
/// Requests under way at once: more would only wait for the pace.
const SENDS_MAX: usize = 64;

pub struct Lane {
    engine: Arc<Engine>,
    account: Arc<Account>,
    epoch: Epoch,
    in_hand: BinaryHeap<InHand>,
    /// The latest claim held runs that need no order: what is queued behind it is less urgent still.
    is_past_the_due: bool,
    sends: JoinSet<()>,
    /// A failure of the database may have left claimed runs in nobody's hand.
    has_lost: bool,
    /// The run and the attempt that came to the till last.
    last_started: Option<(RunId, u32)>,
    next_firings: NextFirings,
}

/// A due run, ordered so that the heap gives the soonest expiry first.
struct InHand(Claim);

impl InHand {
    fn rank(&self) -> (Option<Timestamp>, i64) {
        (self.0.known.expires_at(), self.0.job.run.0)
    }
}

impl PartialEq for InHand {
    fn eq(&self, other: &InHand) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for InHand {}

impl PartialOrd for InHand {
    fn partial_cmp(&self, other: &InHand) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for InHand {
    fn cmp(&self, other: &InHand) -> Ordering {
        other.rank().cmp(&self.rank())
    }
}

impl Lane {
    pub fn new(engine: Arc<Engine>, account: Arc<Account>) -> Lane {
        let epoch = engine.epoch();
        Lane {
            engine,
            account,
            epoch,
            in_hand: BinaryHeap::new(),
            is_past_the_due: false,
            sends: JoinSet::new(),
            has_lost: false,
            last_started: None,
            next_firings: NextFirings::default(),
        }
    }

    /// Until told to stop; then gives back what is in hand and waits for what is being sent.
    pub async fn run(mut self, stop: channel::Receiver<bool>) {
        let (engine, account) = (Arc::clone(&self.engine), Arc::clone(&self.account));
        repeat(&engine, &mut self, stop, &account.wake).await;
        self.put_down().await;
    }

    /// One round: claims if there is room, then serves one run at the till.
    pub async fn step(&mut self) -> Result<Step, StoreError> {
        while let Some(ended) = self.sends.try_join_next() {
            pass_on_panic(ended);
        }
        if self.epoch != self.engine.epoch() {
            // Rescue has these runs now.
            self.in_hand.clear();
            self.epoch = self.engine.epoch();
        }
        self.find_lost().await?;
        let has_room = self.in_hand.len() < if self.is_past_the_due { 1 } else { CLAIM_BELOW };
        let claimed = if has_room { self.claim().await? } else { 0 };
        let Some(InHand(claim)) = self.in_hand.pop() else {
            return Ok(if claimed > 0 { Step::Worked } else { Step::Idle });
        };
        if self.sends.len() >= SENDS_MAX {
            self.sends.join_next().await.into_iter().for_each(pass_on_panic);
        }
        self.serve(claim).await?;
        Ok(Step::Worked)
    }

    async fn find_lost(&mut self) -> Result<(), StoreError> {
        if self.has_lost {
            let in_hand = self.in_hand.iter().map(|InHand(claim)| claim.job.run).collect();
            self.engine.store.requeue_lost(&self.account.name, self.epoch, in_hand).await?;
            self.has_lost = false;
        }
        Ok(())
    }

    /// Waits for all that is being sent to be recorded.
    pub async fn settle(&mut self) {
        while self.sends.join_next().await.is_some() {}
    }

    async fn put_down(mut self) {
        let claims = self.in_hand.drain().map(|InHand(claim)| claim).collect();
        if let Err(error) = self.engine.store.release(claims).await {
            tracing::warn!(event = "database.failed", %error, "claimed runs were not given back; the next start does it");
        }
        self.settle().await;
    }

    async fn claim(&mut self) -> Result<usize, StoreError> {
        self.engine.test_balance(&self.account).await?;
        let Account { name, provider, .. } = &*self.account;
        let claims =
            self.engine.store.claim(name, *provider, self.epoch, CLAIM_BATCH, self.engine.now()).await?;
        let claimed = claims.len();
        if claimed > 0 {
            self.triage(claims).await?;
        }
        Ok(claimed)
    }

    /// Ends what is not due, looks at what has to be looked at, keeps what is due in hand.
    async fn triage(&mut self, claims: Vec<Claim>) -> Result<(), StoreError> {
        let paused = self.pause_in_force().await?;
        let mut finished = Vec::new();
        let mut to_observe: BTreeMap<(Product, Region), Vec<Claim>> = BTreeMap::new();
        for claim in self.latest_of_every_fire(claims, &mut finished) {
            let Some(claim) = self.beside_its_elder(claim, &mut finished).await? else { continue };
            match self.judge(&claim, Price::NotAsked).decision {
                Decision::Observe => {
                    let place = (claim.job.product, claim.job.region.clone());
                    to_observe.entry(place).or_default().push(claim);
                }
                _ => self.sort(claim, &paused, &mut finished),
            }
        }
        if let Some((until, reason)) = self.engine.key_refused(&self.account).await? {
            for claim in std::mem::take(&mut to_observe).into_values().flatten() {
                let (reason, hold) = (reason.clone(), Hold::Pause);
                let outcome = Outcome::Wait { until, reason, hold, failure: None, counts: false };
                finished.push((claim, Finish { outcome, verdict: None, at: self.engine.now() }));
            }
        }
        for ((product, region), mut claims) in to_observe {
            match self.observe(product, &region, &mut claims).await {
                Ok(refused) => {
                    for (claim, refused) in claims.into_iter().zip(refused) {
                        match refused {
                            None => self.sort(claim, &paused, &mut finished),
                            Some(failure) => finished.push(self.unseen(claim, &failure, None)),
                        }
                    }
                }
                // The stop may have cut the look short: nothing was learnt of them.
                Err(CallError::Cloud(_)) if self.engine.is_stopping() => {
                    self.engine.store.release(claims).await?;
                }
                Err(CallError::Cloud(failure)) => {
                    let note = is_refused_key(&self.account, &failure).then(|| self.engine.next_test());
                    finished.extend(claims.into_iter().map(|claim| self.unseen(claim, &failure, note)));
                }
                Err(CallError::Store(error)) => return Err(error),
            }
        }
        self.is_past_the_due = !finished.is_empty();
        self.engine.store.finish(finished).await
    }

    /// Firings of `every_fire` that were held up together are made up for by the latest of them, as those are that
    /// were missed: what was not bought while orders were held is not wanted all at once.
    fn latest_of_every_fire(&self, claims: Vec<Claim>, finished: &mut Vec<(Claim, Finish)>) -> Vec<Claim> {
        let key = |job: &Job| (job.policy.clone(), job.instance.clone());
        let mut latest = BTreeMap::new();
        // A person's word is not folded.
        let is_firing = |job: &Job| matches!(job.origin, Origin::Schedule | Origin::CatchUp);
        let folds = |job: &&Job| job.terms.action.is_every_fire() && is_firing(job);
        for job in claims.iter().map(|claim| &claim.job).filter(folds) {
            let run = latest.entry(key(job)).or_insert(job.run);
            *run = job.run.max(*run);
        }
        let is_latest = |claim: &Claim| {
            !is_firing(&claim.job) || latest.get(&key(&claim.job)).is_none_or(|run| *run == claim.job.run)
        };
        let (kept, earlier): (Vec<_>, Vec<_>) = claims.into_iter().partition(is_latest);
        for claim in earlier {
            let reason = "it was held up, and a later firing makes up for it".to_owned();
            finished.push(self.skip(claim, reason));
        }
        kept
    }

    /// None when the claim ends in favour of an earlier run of its policy and instance; else that one may.
    async fn beside_its_elder(
        &self,
        claim: Claim,
        finished: &mut Vec<(Claim, Finish)>,
    ) -> Result<Option<Claim>, StoreError> {
        let Some(elder) = claim.job.elder else { return Ok(Some(claim)) };
        let why = match claim.job.terms.action.is_every_fire() {
            true if elder.has_ordered => return Ok(Some(claim)),
            true => "it was held up",
            false if elder.attempts >= self.engine.settings().pace.max_attempts => {
                "its attempts were used up"
            }
            false => {
                finished.push(self.yield_to(claim, elder));
                return Ok(None);
            }
        };
        self.engine.store.take_over(elder.run, claim.job.run, why, self.engine.now()).await?;
        Ok(Some(claim))
    }

    /// An earlier firing's run is still at it, with its own backoff: this one would only rush it.
    fn yield_to(&self, claim: Claim, elder: Elder) -> (Claim, Finish) {
        let reason = format!("run {} of an earlier firing is still under way", elder.run);
        self.skip(claim, reason)
    }

    fn skip(&self, claim: Claim, reason: String) -> (Claim, Finish) {
        job_event!(info, "run.skipped", claim.job, { due_at = %claim.job.due_at, },
            "{} is skipped: {reason}", claim.job.instance);
        (claim, Finish { outcome: Outcome::Skipped { reason }, verdict: None, at: self.engine.now() })
    }

    /// By its verdict: into the hand, or to its end.
    fn sort(
        &mut self,
        claim: Claim,
        paused: &Option<(Timestamp, String)>,
        finished: &mut Vec<(Claim, Finish)>,
    ) {
        let verdict = self.judge(&claim, Price::NotAsked);
        match (&verdict.decision, paused) {
            (Decision::Order | Decision::AskPrice | Decision::Observe, Some((until, reason))) => {
                let outcome = Outcome::Wait {
                    until: *until,
                    reason: reason.clone(),
                    hold: Hold::Pause,
                    failure: None,
                    counts: false,
                };
                finished.push(self.finish(claim, outcome, &verdict));
            }
            (Decision::Order | Decision::AskPrice | Decision::Observe, None) => {
                self.in_hand.push(InHand(claim))
            }
            _ => finished.extend(self.end_by(claim, verdict)),
        }
    }

    /// The latest of each claim's instance, asked in batches; answers of which the cloud refuses to speak.
    async fn observe(
        &self,
        product: Product,
        region: &Region,
        claims: &mut [Claim],
    ) -> Result<Vec<Option<Failure>>, CallError> {
        let ids: Vec<InstanceId> = claims.iter().map(|claim| claim.job.instance.clone()).collect();
        let seen = self.engine.observe(&self.account, product, region, &ids).await?;
        let take = |(claim, seen): (&mut Claim, _)| match seen {
            Ok(known) => {
                claim.known = known;
                None
            }
            Err(refused) => Some(refused),
        };
        Ok(claims.iter_mut().zip(seen).map(take).collect())
    }

    fn judge(&self, claim: &Claim, price: Price) -> Verdict {
        let Job { terms, instance, region, due_at, foreign_order_at, again, schedule, .. } = &claim.job;
        let now = self.engine.now();
        let firings = self.next_firings.after(schedule, now.max(*due_at));
        let needs_price = terms.max_price.is_some() || self.account.needs_price();
        guard::judge(&guard::Question {
            account: &self.account.name,
            provider: self.account.provider,
            region,
            instance,
            terms,
            known: &claim.known,
            now,
            due_at: *due_at,
            look_after: claim.claimed_at,
            refused_yet_moved: refused_yet_moved(claim).map(|(row, _)| row),
            next_firing: firings.next,
            firing_after_next: firings.following,
            foreign_order_at: *foreign_order_at,
            again: *again,
            price: if needs_price { price } else { Price::NotNeeded },
            skew: self.account.skew(),
            settle: duration(self.engine.settings().settle),
            look_again: duration(self.engine.settings().pace.first_delay),
        })
    }

    /// The end that a verdict other than to order gives a claim.
    fn end_by(&self, claim: Claim, verdict: Verdict) -> Option<(Claim, Finish)> {
        let outcome = match &verdict.decision {
            Decision::Order | Decision::Observe | Decision::AskPrice => return None,
            Decision::Skip { reason } => {
                self.log_moved_all_the_same(&claim);
                job_event!(info, "run.skipped", claim.job, { due_at = %claim.job.due_at, },
                    "{} is skipped: {reason}", claim.job.instance);
                Outcome::Skipped { reason: reason.clone() }
            }
            // At work for long it is looked at ever more seldom, and somebody is told once.
            Decision::Wait { reason, failure: Some(failure), .. } if failure.class == Class::Busy => {
                self.wait_for_the_cloud(&claim.job, reason.clone(), failure)
            }
            Decision::Wait { until, reason, failure } => {
                self.log_wait(&claim, reason, *until, failure.as_ref());
                let (reason, failure) = (reason.clone(), failure.clone());
                Outcome::Wait { until: *until, reason, hold: Hold::Backoff, failure, counts: false }
            }
            Decision::Fail { reason, failure } => {
                job_event!(error, "run.failed", claim.job, { class = %failure.class, code = failure.code, },
                    "{} is not ordered: {reason}", claim.job.instance);
                Outcome::Failed { reason: reason.clone(), failure: Some(failure.clone()) }
            }
        };
        Some(self.finish(claim, outcome, &verdict))
    }

    fn wait_for_the_cloud(&self, job: &Job, reason: String, failure: &Failure) -> Outcome {
        let pace = self.engine.settings().pace;
        let Counted { at: until, exhausted } =
            retry::counted(job.attempts, pace, seed(job), self.engine.now());
        if exhausted {
            job_event!(error, "run.waiting", job, { class = %failure.class, code = failure.code, next_attempt_at = %until, },
                "{} was looked at {} times and the cloud is still at work on it: from now on it is looked at only seldom; \
                 see in the console what keeps it", job.instance, job.attempts + 1);
        } else {
            job_event!(warn, "run.waiting", job, { next_attempt_at = %until, }, "{} waits until {until:.0}: {reason}", job.instance);
        }
        Outcome::Wait { until, reason, hold: Hold::Backoff, failure: Some(failure.clone()), counts: true }
    }

    /// The term moved although this run's own order was refused: a refusal that was none, or somebody else's doing.
    fn log_moved_all_the_same(&self, claim: &Claim) {
        if let Some((row, expiry)) = refused_yet_moved(claim) {
            job_event!(error, "order.refused", claim.job, { order_row = row.0, expiry_after = %expiry, },
                "the cloud refused the order for {} (row {row}), and its expiry moved by the whole term to {expiry} all \
                 the same: compare row and console", claim.job.instance);
        }
    }

    fn finish(&self, claim: Claim, outcome: Outcome, verdict: &Verdict) -> (Claim, Finish) {
        let verdict = serde_json::to_value(&verdict.tests).ok();
        (claim, Finish { outcome, verdict, at: self.engine.now() })
    }

    fn log_wait(&self, claim: &Claim, reason: &str, until: Timestamp, failure: Option<&Failure>) {
        // Somebody must act, and is told so once: of a run's own trouble by the run, of an account's each day.
        let is_news = |failure: &&Failure| {
            if failure.code == guard::CLOCK_SKEWED {
                return false;
            }
            let is_right = cloud::cause(self.account.provider, &failure.code) == Some(Cause::Rights);
            if is_right || withheld::BUDGET_CODES.contains(&failure.code.as_str()) {
                let today = self.engine.budget(&self.account, self.engine.now()).day_start;
                return self.account.is_news(&failure.code, today);
            }
            claim.job.last_code.as_deref() != Some(&failure.code)
        };
        match failure.filter(is_news) {
            Some(failure) => job_event!(error, "run.waiting", claim.job,
                { class = %failure.class, code = failure.code, next_attempt_at = %until, },
                "{} waits until {until:.0}: {reason}", claim.job.instance),
            None => job_event!(warn, "run.waiting", claim.job, { next_attempt_at = %until, },
                "{} waits until {until:.0}: {reason}", claim.job.instance),
        }
    }

    /// A run whose instance could not be looked at: nothing was ordered, so it only waits.
    fn unseen(&self, claim: Claim, failure: &Failure, held_until: Option<Timestamp>) -> (Claim, Finish) {
        let pace = self.engine.settings().pace;
        let delay = match failure.class {
            Class::Blocked | Class::Rejected => pace.max_delay,
            _ => retry::jittered(pace.first_delay, 0, pace.max_delay, seed(&claim.job)),
        };
        let until = held_until.unwrap_or(self.engine.now() + duration(delay));
        let reason = format!("the instance could not be looked at: {failure}");
        match failure.class {
            Class::Blocked | Class::Rejected | Class::Credential => {
                self.log_wait(&claim, &reason, until, Some(failure));
            }
            _ => job_event!(warn, "run.retry", claim.job,
                { class = %failure.class, code = failure.code, next_attempt_at = %until, },
                "{} is tried again at {until:.0}: {reason}", claim.job.instance),
        }
        let hold = if held_until.is_some() { Hold::Pause } else { Hold::Backoff };
        let outcome = Outcome::Wait { until, reason, hold, failure: Some(failure.clone()), counts: false };
        (claim, Finish { outcome, verdict: None, at: self.engine.now() })
    }

    /// A pause that reaches the whole account, with how long a run should wait and why.
    async fn pause_in_force(&self) -> Result<Option<(Timestamp, String)>, StoreError> {
        let now = self.engine.now();
        let pauses = self.engine.store.pauses(now).await?;
        let is_ours = |name: &Option<String>| name.as_deref() == Some(self.account.name.as_str());
        let found = pauses
            .into_iter()
            .filter(|pause| pause.scope == "all" || (pause.scope == "account" && is_ours(&pause.name)))
            .find(|pause| pause.until.is_none_or(|until| until > now));
        let longest = now + duration(self.engine.settings().pace.max_delay);
        Ok(found.map(|pause| {
            let until = pause.until.unwrap_or(longest).min(longest);
            let note = pause.note.map(|note| format!(": {note}")).unwrap_or_default();
            let scope = PauseScope::describe(&pause.scope, pause.name.as_deref());
            (until, format!("{scope} is paused since {} by {}{note}", pause.since, pause.set_by))
        }))
    }
}

impl Part for Lane {
    const NAME: &'static str = "a lane";

    async fn step(&mut self) -> Result<Step, StoreError> {
        let step = Lane::step(self).await;
        self.has_lost |= step.is_err();
        step
    }
}

fn refused_yet_moved(claim: &Claim) -> Option<(OrderRow, Timestamp)> {
    let (row, months, before) = claim.job.refused?;
    let expiry = claim.known.expires_at()?;
    let goal = Goal::Term { months, expiry_before: Some(before) };
    verdict::is_reached(goal, &EffectSeen::Expiry(expiry)).then_some((row, expiry))
}

/// A send that panicked left its order unrecorded: its lane ends, and the service with it.
fn pass_on_panic(ended: Result<(), tokio::task::JoinError>) {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
}

fn duration(duration: std::time::Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX)
}

/// Its own for each run and attempt, the same whenever it is computed again.
fn seed(job: &Job) -> u64 {
    job.run.0.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(job.attempts)
}
