//! Recording the answer of a purchase: what became of the order, of its run and of its account.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::calls::{About, attempt};
use super::super::events::job_event;
use super::super::holds::BALANCE;
use super::super::order_list::Wanted;
use super::super::{Account, DATABASE_PAUSE, Engine, FAILURES_A_REMINDER};
use super::seed;
use crate::cloud::{self, Api, Call, Cause};
use crate::domain::failure::{Class, Failure};
use crate::domain::order::{OrderId, OrderRow, OrderState, Standing, UNSENT};
use crate::domain::run::Hold;
use crate::retry::{self, Blocked, Next};
use crate::store::{Attempt, Job, NextForRun, OrderMove, OrderRecord, OrderStep, StoreError, Trouble};
use crate::verdict;

/// Unpaid orders lapse after days.
const UNPAID_WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);

impl Engine {
    /// Never gives up: an answer that is not recorded is an order whose fate only evidence could settle.
    #[expect(clippy::too_many_arguments, reason = "each is a different fact about one answer")]
    pub(super) async fn record_answer(
        &self,
        account: &Account,
        api: Api,
        job: &Job,
        row: OrderRow,
        begun: Timestamp,
        sent_at: Option<Timestamp>,
        call: Call<Option<OrderId>>,
    ) {
        self.note_skew(account, &call.report, begun);
        self.measures.call_ended(&account.name, &call.report, call.result.as_ref().err());
        let about = About { region: &job.region, order_row: Some(row), instances: 1 };
        let record = attempt(account, about, begun, &call.report, call.result.as_ref().err());
        let step = match &call.result {
            Ok(order_id) => self.placed(order_id.clone(), call.report.request_id.clone()),
            Err(failure) => self.after_failure(account, api, job, row, begun, failure).await,
        };
        let order_move = OrderMove {
            row,
            run: job.run,
            at: self.now(),
            sent_at: sent_at.or_else(|| call.result.is_ok().then_some(begun)),
            step,
            look: None,
            amount: None,
        };
        log_answer(job, row, &order_move.step, &call);
        if !self.write_answer(record, order_move).await {
            self.log_late(job, row, &call).await;
        }
        match &call.result {
            Ok(_) => self.free_account(account).await,
            Err(failure) if cloud::cause(account.provider, &failure.code) == Some(Cause::Balance) => {
                if let Err(error) = self.note_shortage(account).await {
                    tracing::warn!(event = "database.failed", account = %account.name, %error, "the balance could not be noted");
                }
            }
            Err(_) => {}
        }
        account.wake.notify_one();
    }

    /// Which order it is that stands unpaid, where the list may be read.
    async fn unpaid_words(&self, account: &Account, job: &Job, row: OrderRow) -> String {
        let Job { product, region, instance, .. } = job;
        let from = self.now() - UNPAID_WINDOW;
        let wanted = Wanted { product: *product, region, instance, row, order_id: None, from };
        let listed = self.list_orders(account, wanted).await.unwrap_or_default();
        match listed.into_iter().find(|order| order.standing == Standing::Unpaid) {
            Some(order) => format!("order {} is unpaid: pay it or cancel it in the console", order.order_id),
            None => "look for an unpaid order in the console: pay it or cancel it".to_owned(),
        }
    }

    /// Answers whether the order was still open. Where the answer cannot be written any more, the order's log has it.
    async fn write_answer(&self, record: Attempt, order_move: OrderMove) -> bool {
        let (row, run) = (order_move.row, order_move.run);
        for failures in 0_u32.. {
            let moved = self.store.move_order(order_move.clone()).await;
            let error = match moved {
                Ok(is_open) => {
                    // Only the record of the call: the answer itself is safe.
                    if let Err(error) = self.store.record_attempts(vec![record]).await {
                        tracing::warn!(event = "database.failed", run = run.0, order_row = row.0, %error, "a call was not recorded");
                    }
                    return is_open;
                }
                Err(StoreError::Stopped) => break,
                Err(error) => error,
            };
            let is_lost = error.trouble() == Trouble::Damaged;
            let then = if is_lost { "its log says what it was" } else { "trying again" };
            if failures.is_multiple_of(FAILURES_A_REMINDER) {
                tracing::error!(
                    event = "database.failed", run = run.0, order_row = row.0, %error,
                    "the answer to order row {row} could not be recorded, {then}: {error}"
                );
            }
            if is_lost {
                break;
            }
            tokio::time::sleep(DATABASE_PAUSE).await;
        }
        true
    }

    /// The order was settled while its answer was still on its way. A number is kept with its row; that the money
    /// may have been spent against what was settled is for a person.
    async fn log_late(&self, job: &Job, row: OrderRow, call: &Call<Option<OrderId>>) {
        let Ok(order_id) = &call.result else { return };
        let settled = self.store.order(row).await.ok().flatten();
        let id = order_id.as_ref().map(|id| id.0.as_str());
        let agrees = |order: OrderRecord| {
            order.state == "confirmed" && (id.is_none() || order.order_id.as_deref() == id)
        };
        if settled.is_some_and(agrees) {
            job_event!(debug, "order.placed", job, { order_row = row.0, order_id = id, },
                "the answer to the confirmed order for {} came late and says the same", job.instance);
        } else {
            job_event!(error, "order.unknown", job, { order_row = row.0, order_id = id, },
                "the cloud accepted the order for {} after its row {row} was settled: compare both in the console",
                job.instance);
        }
    }

    fn placed(&self, order_id: Option<OrderId>, request_id: Option<String>) -> OrderStep {
        OrderStep::Placed { order_id, request_id, next_look_at: self.first_look() }
    }

    fn first_look(&self) -> Timestamp {
        let soon = verdict::next_look_in(OrderState::Placed, SignedDuration::ZERO, self.settings().settle);
        self.now() + SignedDuration::try_from(soon).unwrap_or_default()
    }

    async fn after_failure(
        &self,
        account: &Account,
        api: Api,
        job: &Job,
        row: OrderRow,
        begun: Timestamp,
        failure: &Failure,
    ) -> OrderStep {
        let cause = cloud::cause(account.provider, &failure.code);
        let blocked = Some(if cause == Some(Cause::Balance) { Blocked::Balance } else { Blocked::Other });
        // A missing right is this instance's, whatever family of codes it came in.
        let class = if cause == Some(Cause::Rights) { Class::Blocked } else { failure.class };
        if failure.class == Class::Throttled {
            self.hold_key(account, api, &job.region);
        }
        let next = retry::after(class, blocked, job.attempts, self.settings().pace, seed(job), self.now());
        let mut reason = format!("its order was refused: {failure}");
        if cause == Some(Cause::UnpaidOrder) {
            reason = format!("{reason}; {}", self.unpaid_words(account, job, row).await);
        }
        let refused = |next| OrderStep::Refused { failure: as_recorded(failure), next };
        match next {
            Next::Again { at, counts, exhausted } => {
                if exhausted {
                    job_event!(error, "run.retry", job, { class = %failure.class, code = failure.code, next_attempt_at = %at, },
                        "{} was refused {} times and is tried again only seldom now: {failure}",
                        job.instance, job.attempts + 1);
                }
                refused(NextForRun::Wait { until: at, reason, hold: Hold::Backoff, counts })
            }
            Next::HoldAccount { kind, at } => {
                let held = match kind {
                    BALANCE => self.hold_for_balance(account, at, failure).await.map(|()| true),
                    _ => self.hold_refused_key(account, begun, at, failure).await,
                };
                let is_held = held.unwrap_or_else(|error| {
                    tracing::error!(event = "database.failed", account = %account.name, %error, "the account could not be held");
                    true
                });
                // The next test is the soonest expiry's; refused again it stands back for another, perhaps cheaper.
                let was_tested = job.last_code.as_deref() == Some(&failure.code);
                let until = match is_held {
                    false => self.now(),
                    true if was_tested => at + at.duration_since(self.now()),
                    true => at,
                };
                refused(NextForRun::Wait { until, reason, hold: Hold::Pause, counts: false })
            }
            Next::Fail => refused(NextForRun::Fail { reason }),
            Next::Reconcile => {
                OrderStep::Unknown { failure: failure.clone(), next_look_at: self.first_look() }
            }
        }
    }
}

/// An order that never left carries our own code; what stood in its way is in the message.
fn as_recorded(failure: &Failure) -> Failure {
    if failure.class != Class::Unsent {
        return failure.clone();
    }
    Failure {
        code: UNSENT.to_owned(),
        message: format!("{}: {}", failure.code, failure.message),
        ..failure.clone()
    }
}

fn log_answer(job: &Job, row: OrderRow, step: &OrderStep, call: &Call<Option<OrderId>>) {
    let duration_ms =
        u64::try_from(call.report.duration.min(Duration::from_secs(3600)).as_millis()).unwrap_or(0);
    let request_id = call.report.request_id.as_deref();
    match step {
        OrderStep::Placed { order_id, .. } => {
            let id = order_id.as_ref().map_or("without a number", |id| id.0.as_str());
            job_event!(info, "order.placed", job, { order_row = row.0, order_id = id, request_id, duration_ms, },
                "order {id} for {} is placed", job.instance);
        }
        OrderStep::Unknown { failure, .. } => {
            job_event!(warn, "order.unknown", job,
                { order_row = row.0, request_id, duration_ms, class = %failure.class, code = failure.code, },
                "nobody can say whether {} was ordered: {failure}; looking for what became of it", job.instance);
        }
        OrderStep::Refused { failure, next } => log_refused(job, row, failure, next, duration_ms),
        OrderStep::Confirmed { .. } | OrderStep::Watch { .. } => {}
    }
}

fn log_refused(job: &Job, row: OrderRow, failure: &Failure, next: &NextForRun, duration_ms: u64) {
    let (class, code) = (failure.class, failure.code.as_str());
    let request_id = failure.request_id.as_deref();
    match next {
        NextForRun::Fail { .. } => {
            job_event!(error, "order.refused", job, { order_row = row.0, request_id, duration_ms, class = %class, code, },
                "the order for {} was refused: {failure}", job.instance);
            job_event!(error, "run.failed", job, { order_row = row.0, class = %class, code, },
                "{} is not renewed: {failure}", job.instance);
        }
        // That a whole account is held was said once, when it was.
        NextForRun::Wait { until, hold, .. } => {
            job_event!(warn, "order.refused", job, { order_row = row.0, request_id, duration_ms, class = %class, code, },
                "the order for {} was refused for now: {failure}", job.instance);
            let is_news = job.last_code.as_deref() != Some(code);
            if class == Class::Blocked && *hold != Hold::Pause && is_news {
                job_event!(error, "run.waiting", job, { order_row = row.0, class = %class, code, next_attempt_at = %until, },
                    "{} waits until {until:.0} for something outside to change: {failure}", job.instance);
            } else {
                job_event!(warn, "run.retry", job, { order_row = row.0, class = %class, code, next_attempt_at = %until, },
                    "{} is tried again at {until:.0}", job.instance);
            }
        }
        NextForRun::Queue { .. } => {}
    }
}
