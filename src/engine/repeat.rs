//! The same request with the same token, soon after an ambiguous answer: the cloud names the first one's order, or
//! makes it now, and either way there is one.
//!
//! Invariant: never later than [`TOKEN_TRUST`] after the first was sent, by the wall clock and by the monotonic one, and
//! never by another life of the process: how long a cloud remembers a token is not documented.
//! Invariant: it may be the request that is paid, so what would have held the first one back holds it back too.

use std::sync::PoisonError;
use std::time::Duration;

use jiff::SignedDuration;

use super::calls::{About, CallError};
use super::reconcile::Reconcile;
use super::{Account, Engine};
use crate::cloud::{self, Cause, Cloud};
use crate::domain::failure::{Class, Failure};
use crate::domain::observation::{AutoRenew, Facts, InstanceState};
use crate::domain::order::{Goods, OrderRow, OrderState, Purchase, Renewal};
use crate::store::{OpenOrder, StoreError};
use crate::verdict::{self, EffectSeen, Repeat};

/// Source: the vendor's message queues remember tokens for 8 hours, its other services do not say.
const TOKEN_TRUST: Duration = Duration::from_secs(300);

impl Account {
    pub(super) fn note_token_sent(&self, row: OrderRow, at: Duration) {
        let mut sent = self.tokens_sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.retain(|_, sent_at| at.saturating_sub(*sent_at) <= TOKEN_TRUST);
        sent.insert(row, at);
    }

    fn token_sent_at(&self, row: OrderRow) -> Option<Duration> {
        self.tokens_sent.lock().unwrap_or_else(PoisonError::into_inner).get(&row).copied()
    }

    fn forget_token(&self, row: OrderRow) {
        self.tokens_sent.lock().unwrap_or_else(PoisonError::into_inner).remove(&row);
    }
}

impl Reconcile {
    /// Sends an unknown order's request again, where its token makes that harmless and nothing speaks against it.
    pub(super) async fn repeat_request(
        &self,
        order: &OpenOrder,
        effect: &EffectSeen,
        facts: Option<&Facts>,
    ) -> Result<Option<Repeat>, StoreError> {
        let (engine, account) = (&self.engine, &self.account);
        let is_wanted = is_wanted(order, effect) && facts.is_some_and(may_be_paid_for);
        let Some(purchase) = repeatable(order).filter(|_| is_wanted) else { return Ok(None) };
        let Ok(api) = Cloud::purchase_api(purchase.product, &purchase.goods) else { return Ok(None) };
        if !engine.trusts_token(account, order) || !self.costs_the_same(order, &purchase).await? {
            return Ok(None);
        }
        let permit = engine.permit(account, api, &purchase.region).await;
        if !engine.trusts_token(account, order) {
            return Ok(None);
        }
        let Ok(signed) = account.cloud.sign_purchase(&purchase) else { return Ok(None) };
        let now = engine.now();
        let budget = engine.budget(account, now);
        let leave = engine.store.repeat_order(order.row, engine.epoch(), budget, now).await?;
        let Some(committed) = leave else { return Ok(None) };
        let call = account.cloud.send(committed, signed, move || permit.written()).await;
        let about = About { region: &order.region, order_row: Some(order.row), instances: 1 };
        match engine.finish_call(account, api, about, now, call).await {
            Ok(Some(order_id)) => Ok(Some(Repeat::Order(order_id))),
            Ok(None) => Ok(Some(Repeat::Lost { why: "the answer names no order".to_owned() })),
            Err(CallError::Cloud(failure)) => Ok(Some(self.not_repeated(order, &failure))),
            Err(CallError::Store(error)) => Err(error),
        }
    }

    /// Where the price decided about the first request, it decides about this one, which may be the one that is paid.
    async fn costs_the_same(&self, order: &OpenOrder, purchase: &Purchase) -> Result<bool, StoreError> {
        if order.terms.max_price.is_none() && !self.account.needs_price() {
            return Ok(true);
        }
        match self.engine.price(&self.account, purchase).await {
            Ok(price) => Ok(order.amount == Some(price)),
            Err(CallError::Cloud(_)) => Ok(false),
            Err(CallError::Store(error)) => Err(error),
        }
    }

    /// A refusal says nothing about the first request; it only ends the asking.
    fn not_repeated(&self, order: &OpenOrder, failure: &Failure) -> Repeat {
        if cloud::cause(self.account.provider, &failure.code) == Some(Cause::Processing) {
            return Repeat::AtWork;
        }
        let may_pass = matches!(failure.class, Class::Unknown | Class::Throttled | Class::Unsent);
        if !may_pass {
            self.account.forget_token(order.row);
        }
        let why = failure.to_string();
        if failure.class == Class::Unknown { Repeat::Lost { why } } else { Repeat::Failed { why } }
    }
}

impl Engine {
    fn trusts_token(&self, account: &Account, order: &OpenOrder) -> bool {
        let Some(sent_at) = account.token_sent_at(order.row) else { return false };
        let by_monotonic = self.clock.monotonic().saturating_sub(sent_at);
        let by_wall = self.now().duration_since(order.intended_at);
        let trust = SignedDuration::try_from(TOKEN_TRUST).unwrap_or_default();
        by_monotonic <= TOKEN_TRUST && (SignedDuration::ZERO..=trust).contains(&by_wall)
    }
}

/// What an order needs of an instance: the debit of its auto-renew would be a second payment.
fn may_be_paid_for(facts: &Facts) -> bool {
    facts.is_prepaid() && facts.auto_renew == AutoRenew::Off && facts.state != InstanceState::Gone
}

/// An instance that shows the term already needs no second request.
fn is_wanted(order: &OpenOrder, effect: &EffectSeen) -> bool {
    let unmoved = order.expiry_before.is_some_and(|before| *effect == EffectSeen::Expiry(before));
    order.state == OrderState::Unknown
        && unmoved
        && !verdict::is_reached(super::reconcile::goal(order), effect)
}

/// The very purchase again; None for what carries no token.
fn repeatable(order: &OpenOrder) -> Option<Purchase> {
    let renewal = Renewal {
        months: order.months?,
        renew_flag: None,
        renew_data_disks: false,
        client_token: Some(order.client_token.clone()?),
    };
    Some(Purchase {
        product: order.product,
        region: order.region.clone(),
        instance: order.instance.clone(),
        goods: Goods::Renewal(renewal),
    })
}
