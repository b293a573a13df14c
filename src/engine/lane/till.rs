//! The till: one due run at a time, with the permit in hand before anything is committed.

use std::sync::{Arc, OnceLock};

use jiff::{SignedDuration, Timestamp};

use super::super::calls::{CallError, is_refused_key};
use super::super::events::job_event;
use super::super::goods::{Want, token_of};
use super::super::withheld;
use super::{InHand, Lane, duration, pass_on_panic, seed};
use crate::cloud::{Cloud, SignedPurchase};
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::order::{Committed, Goods, Purchase};
use crate::domain::policy::ActionKind;
use crate::domain::product::Provider;
use crate::domain::run::{Hold, Outcome};
use crate::guard::{Decision, Price, Verdict};
use crate::limiter::Permit;
use crate::retry;
use crate::store::{Claim, Finish, Intent, Job, StoreError, Withheld};

/// Looks at one instance in a row, before the clock is suspected.
const LOOKS_MAX: u32 = 2;
/// Others of the same region that are looked at together with the one at the till.
const LOOK_ALONG: usize = 500;
/// A run held by an order under test, or by a budget, looks again no sooner than this.
const SOON: SignedDuration = SignedDuration::from_secs(5);

impl Lane {
    /// Takes one due run through permit, look, guard, intent and send.
    pub(super) async fn serve(&mut self, claim: Claim) -> Result<(), StoreError> {
        let Some((mut claim, mut purchase)) = self.worth_a_permit(claim).await? else { return Ok(()) };
        let api = match Cloud::purchase_api(purchase.product, &purchase.goods) {
            Ok(api) => api,
            Err(not_built) => return self.refuse(claim, not_built.into()).await,
        };
        let permit = self.engine.permit(&self.account, api, &purchase.region).await;
        self.log_started(&claim.job);
        let mut price = Price::NotAsked;
        let mut looks = 0;
        loop {
            let verdict = self.judge(&claim, price.clone());
            match &verdict.decision {
                Decision::Observe if looks < LOOKS_MAX => {
                    looks += 1;
                    if let Err(error) = self.look(&mut claim).await {
                        return self.not_seen(claim, error).await;
                    }
                    // A price asked before the look may be another purchase's.
                    price = Price::NotAsked;
                    purchase = Want::from(&claim).purchase().unwrap_or(purchase);
                }
                Decision::Observe => return self.no_fresh_look(claim, verdict).await,
                Decision::AskPrice => {
                    price = self.ask_price(&purchase).await?;
                    if matches!(price, Price::Unreadable(_)) && self.engine.is_stopping() {
                        return self.engine.store.release(vec![claim]).await;
                    }
                }
                Decision::Order => return self.order(claim, &price, verdict, permit).await,
                _ => return self.give_up(claim, verdict).await,
            }
        }
    }

    /// Once an attempt, however often a fresh look or an order under test sends it back.
    fn log_started(&mut self, job: &Job) {
        let attempt = job.attempts + 1;
        if self.last_started.replace((job.run, attempt)) != Some((job.run, attempt)) {
            job_event!(info, "run.started", job, { due_at = %job.due_at, attempt, },
                "the run for {} is at the till", job.instance);
        }
    }

    /// Ends what needs no permit to be ended: firings pile up behind a pause or an open order, and each of them
    /// would cost a slot that another instance needs. What is asked here only saves slots; the intent's own INSERT
    /// decides.
    async fn worth_a_permit(&mut self, mut claim: Claim) -> Result<Option<(Claim, Purchase)>, StoreError> {
        if Want::from(&claim).purchase().is_none()
            && let Err(error) = self.look(&mut claim).await
        {
            return self.not_seen(claim, error).await.map(|()| None);
        }
        let verdict = self.judge(&claim, Price::NotAsked);
        let goes_on = matches!(verdict.decision, Decision::Order | Decision::Observe | Decision::AskPrice);
        let Some(purchase) = Want::from(&claim).purchase().filter(|_| goes_on) else {
            // Without a purchase only a look that is not fresh can want another.
            return if goes_on {
                self.no_fresh_look(claim, verdict).await
            } else {
                self.give_up(claim, verdict).await
            }
            .map(|()| None);
        };
        match self.engine.store.open_order(&claim, Want::from(&claim).cycle()).await? {
            Some(open) => self.withhold(claim, open, verdict).await.map(|()| None),
            None => Ok(Some((claim, purchase))),
        }
    }

    /// The account's test decides for all: this run keeps its place in the hand until its answer is there.
    async fn await_test(&mut self, claim: Claim) -> Result<(), StoreError> {
        if self.sends.is_empty() {
            // The test is another life's or was just settled: the next round asks again.
            return self.engine.store.release(vec![claim]).await;
        }
        self.in_hand.push(InHand(claim));
        self.sends.join_next().await.into_iter().for_each(pass_on_panic);
        Ok(())
    }

    /// Ends a claim by the verdict already reached: a second one, a moment later, may want another look.
    async fn give_up(&mut self, claim: Claim, verdict: Verdict) -> Result<(), StoreError> {
        match self.end_by(claim, verdict) {
            Some(finished) => self.engine.store.finish(vec![finished]).await,
            None => Ok(()),
        }
    }

    /// The record holds a later look than the clock allows: it was set back since.
    async fn no_fresh_look(&mut self, claim: Claim, verdict: Verdict) -> Result<(), StoreError> {
        let pace = self.engine.settings().pace;
        let until = self.engine.now() + duration(pace.first_delay);
        let reason =
            "the instance was looked at and the look is not fresh: the clock was set back".to_owned();
        let outcome = wait(until, reason, Hold::Backoff, None);
        self.log_outcome(&claim, &outcome);
        let finished = self.finish(claim, outcome, &verdict);
        self.engine.store.finish(vec![finished]).await
    }

    /// Nothing could be signed: for good, or because the look lacked what the request has to repeat.
    async fn refuse(&mut self, claim: Claim, failure: Failure) -> Result<(), StoreError> {
        let reason = failure.message.clone();
        let outcome = if failure.class == Class::Rejected {
            Outcome::Failed { reason, failure: Some(failure) }
        } else {
            let until = self.engine.now() + duration(self.engine.settings().pace.first_delay);
            Outcome::Wait { until, reason, hold: Hold::Backoff, failure: Some(failure), counts: false }
        };
        self.log_outcome(&claim, &outcome);
        self.engine
            .store
            .finish(vec![(claim, Finish { outcome, verdict: None, at: self.engine.now() })])
            .await
    }

    async fn not_seen(&mut self, claim: Claim, error: CallError) -> Result<(), StoreError> {
        match error {
            CallError::Store(error) => Err(error),
            // The stop may have cut the look short: nothing was learnt of the instance.
            CallError::Cloud(_) if self.engine.is_stopping() => self.engine.store.release(vec![claim]).await,
            CallError::Cloud(failure) => {
                let held_until = is_refused_key(&self.account, &failure).then(|| self.engine.next_test());
                let finished = self.unseen(claim, &failure, held_until);
                self.engine.store.finish(vec![finished]).await
            }
        }
    }

    /// A fresh look at the one at the till, and in the same call at those of its region that come next.
    async fn look(&mut self, claim: &mut Claim) -> Result<(), CallError> {
        let mut along = Vec::new();
        let mut rest = Vec::new();
        while let Some(InHand(next)) = self.in_hand.pop() {
            let is_near = next.job.product == claim.job.product && next.job.region == claim.job.region;
            if is_near && along.len() < LOOK_ALONG {
                along.push(next);
            } else {
                rest.push(next);
            }
        }
        let ids = std::iter::once(&*claim).chain(&along).map(|claim| claim.job.instance.clone());
        let ids: Vec<_> = ids.collect();
        let seen = self.engine.observe(&self.account, claim.job.product, &claim.job.region, &ids).await;
        let mut refused = None;
        let looked = seen.map(|seen| {
            let mut seen = seen.into_iter();
            match seen.next() {
                Some(Ok(known)) => claim.known = known,
                other => refused = other.and_then(Result::err),
            }
            // Of those that come next, one that is refused is looked at again when its turn comes.
            for (next, seen) in along.iter_mut().zip(seen) {
                if let Ok(known) = seen {
                    next.known = known;
                }
            }
        });
        self.in_hand.extend(along.into_iter().chain(rest).map(InHand));
        match refused {
            Some(failure) => Err(CallError::Cloud(failure)),
            None => looked,
        }
    }

    async fn ask_price(&self, purchase: &Purchase) -> Result<Price, StoreError> {
        match self.engine.price(&self.account, purchase).await {
            Ok(price) => Ok(Price::Known(price)),
            Err(CallError::Cloud(failure)) => Ok(Price::Unreadable(failure)),
            Err(CallError::Store(error)) => Err(error),
        }
    }

    /// Signs, commits the intent, and only with its row sends.
    async fn order(
        &mut self,
        claim: Claim,
        price: &Price,
        verdict: Verdict,
        permit: Permit,
    ) -> Result<(), StoreError> {
        // Built from the look that the guard has just judged, not from an earlier one.
        let Some(purchase) = Want::from(&claim).purchase() else { return self.give_up(claim, verdict).await };
        let signed = match self.account.cloud.sign_purchase(&purchase) {
            Ok(signed) => signed,
            Err(failure) => return self.refuse(claim, failure).await,
        };
        let intent = self.intent(&claim, &purchase, price, &verdict);
        let amount = intent.amount;
        match self.engine.store.intend(&claim, intent).await? {
            Ok(committed) => {
                job_event!(info, "order.intended", claim.job, {
                    order_row = committed.row().0, attempt = claim.job.attempts + 1,
                    price_cny = amount.map(|fen| fen.to_string()), expiry_before = claim.known.expires_at().map(|at| at.to_string()),
                }, "ordering {} of {}", Want::from(&claim).words(), purchase.instance);
                self.dispatch(claim, committed, signed, permit);
                Ok(())
            }
            Err(withheld) => self.withhold(claim, withheld, verdict).await,
        }
    }

    fn intent(&self, claim: &Claim, purchase: &Purchase, price: &Price, verdict: &Verdict) -> Intent {
        let now = self.engine.now();
        let observed_at = claim.known.observation.as_ref().map_or(Timestamp::MIN, |seen| seen.observed_at);
        Intent {
            cycle: Want::from(claim).cycle(),
            months: match &purchase.goods {
                Goods::Renewal(renew) => Some(renew.months),
                Goods::Upgrade(_) => None,
            },
            amount: match price {
                Price::Known(fen) => Some(*fen),
                _ => None::<Fen>,
            },
            client_token: token_of(purchase),
            expiry_before: claim.known.expires_at(),
            verdict: serde_json::to_value(&verdict.tests).ok(),
            observed_at,
            budget: self.engine.budget(&self.account, now),
            at: now,
        }
    }

    /// The request goes its own way; the till is free as soon as it is written.
    fn dispatch(&mut self, claim: Claim, committed: Committed, signed: SignedPurchase, permit: Permit) {
        let (engine, account) = (Arc::clone(&self.engine), Arc::clone(&self.account));
        let row = committed.row();
        if claim.job.product.provider() == Provider::Volcengine {
            account.note_token_sent(row, engine.clock.monotonic());
        }
        self.sends.spawn(async move {
            let sent_at = Arc::new(OnceLock::new());
            let note = Arc::clone(&sent_at);
            let clock = Arc::clone(&engine.clock);
            // Keys that are replaced between signing and sending are not those that the cloud speaks of.
            let begun = signed.signed_at();
            let api = signed.api();
            let call = account.cloud.send(committed, signed, move || {
                let _ = note.set(clock.now());
                permit.written();
            });
            let call = call.await;
            let sent_at = sent_at.get().copied();
            engine.record_answer(&account, api, &claim.job, row, begun, sent_at, call).await;
        });
    }

    /// The INSERT's conditions did not hold: nothing was sent.
    async fn withhold(
        &mut self,
        claim: Claim,
        withheld: Withheld,
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        let now = self.engine.now();
        let longest = now + duration(self.engine.settings().pace.max_delay);
        // The configured longest delay may be shorter still.
        let soonest = longest.min(now + SOON);
        let budget = self.engine.budget(&self.account, now);
        let next_day = (budget.day_start + SignedDuration::from_hours(24)).clamp(soonest, longest);
        let action = claim.job.terms.action.kind();
        let (reason, code) = (withheld::reason(&withheld, action), withheld::code(&withheld));
        let outcome = match withheld {
            Withheld::Stale => return Ok(()),
            // As is one whose price was not needed when the guard looked, and now is.
            Withheld::Superseded | Withheld::PriceUnknown => {
                return self.engine.store.release(vec![claim]).await;
            }
            Withheld::TestUnderWay => return self.await_test(claim).await,
            Withheld::Paused { until, .. } => {
                wait(until.unwrap_or(longest).clamp(soonest, longest), reason, Hold::Pause, code)
            }
            Withheld::OpenOrder { same_cycle: true, .. } => Outcome::Skipped { reason },
            Withheld::OpenOrder { same_cycle: false, .. } => {
                wait(now + self.second_delay(&claim.job), reason, Hold::OpenOrder, code)
            }
            Withheld::CyclePaid { .. } if action == ActionKind::Upgrade => {
                wait(now + self.second_delay(&claim.job), reason, Hold::Backoff, code)
            }
            Withheld::CyclePaid { .. } => Outcome::Failed {
                failure: code.map(|code| Failure::ours(Class::Blocked, code, &reason)),
                reason,
            },
            Withheld::OrdersPerDay { .. } | Withheld::MoneyPerDay | Withheld::MoneyPerMonth => {
                wait(next_day, reason, Hold::Backoff, code)
            }
        };
        self.log_outcome(&claim, &outcome);
        let finished = self.finish(claim, outcome, &verdict);
        self.engine.store.finish(vec![finished]).await
    }

    /// For what waits on another order of its instance.
    fn second_delay(&self, job: &Job) -> SignedDuration {
        let pace = self.engine.settings().pace;
        duration(retry::jittered(pace.first_delay, 2, pace.max_delay, seed(job)))
    }

    fn log_outcome(&self, claim: &Claim, outcome: &Outcome) {
        let job: &Job = &claim.job;
        match outcome {
            Outcome::Skipped { reason } => {
                job_event!(info, "run.skipped", job, { due_at = %job.due_at, }, "{} is skipped: {reason}", job.instance);
            }
            Outcome::Failed { reason, failure } => {
                let code = failure.as_ref().map(|failure| failure.code.as_str());
                job_event!(error, "run.failed", job, { code, }, "{} is not ordered: {reason}", job.instance);
            }
            Outcome::Wait { until, reason, failure, .. } => {
                self.log_wait(claim, reason, *until, failure.as_ref())
            }
        }
    }
}

/// Waits that count as no attempt; with a `code` they are an error for somebody to act on.
fn wait(until: Timestamp, reason: String, hold: Hold, code: Option<&str>) -> Outcome {
    Outcome::Wait {
        until,
        failure: code.map(|code| Failure::ours(Class::Blocked, code, &reason)),
        reason,
        hold,
        counts: false,
    }
}
