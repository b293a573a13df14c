//! Calls that only read: a permit, the call, its record, and what it teaches about the cloud's clock.

use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use super::measures::OK;
use super::{Account, Engine};
use crate::cloud::{self, Api, Call, Cause, Cloud, Report};
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::observation::{Known, Observation, Presence};
use crate::domain::order::{OrderRow, Purchase};
use crate::domain::product::{Identity, InstanceId, Product, Region};
use crate::guard::SKEW_MAX;
use crate::limiter::{Key, Permit};
use crate::retry;
use crate::store::{Attempt, Sighting, StoreError};

/// The cloud's own clock has whole seconds; less than this is no news.
const SKEW_GRAIN: SignedDuration = SignedDuration::from_secs(2);
/// How long a key is closed after the cloud said that it is too fast.
const THROTTLED_HOLD: std::time::Duration = std::time::Duration::from_secs(1);

#[derive(Debug, Error)]
pub enum CallError {
    #[error(transparent)]
    Cloud(#[from] Failure),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a call was about, for its record.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub region: &'a Region,
    pub order_row: Option<OrderRow>,
    pub instances: usize,
}

impl Engine {
    pub(super) fn key(&self, account: &Account, api: Api, region: &Region) -> Key {
        // Billing has no regions: its quota is the account's.
        let region = if api.is_regional() { region.as_str().to_owned() } else { String::new() };
        Key { quota: account.quota(), api: api.name, region }
    }

    pub(super) async fn permit(&self, account: &Account, api: Api, region: &Region) -> Permit {
        let key = self.key(account, api, region);
        let asked = self.clock.monotonic();
        let permit = self.limiter.acquire(&key, || self.pace(account, &key, api)).await;
        self.measures.waited(&account.name, api, self.clock.monotonic().saturating_sub(asked));
        permit
    }

    /// The cloud said that it is too fast.
    pub(super) fn hold_key(&self, account: &Account, api: Api, region: &Region) {
        let key = self.key(account, api, region);
        self.limiter.hold(&key, || self.pace(account, &key, api), THROTTLED_HOLD);
    }

    /// A call that only reads is given up when the service stops; a purchase never is.
    pub(super) async fn read<T>(&self, api: Api, call: impl Future<Output = Call<T>>) -> Call<T> {
        tokio::select! {
            call = call => call,
            () = self.stopped() => {
                Call::unsent(api.name, Failure::ours(Class::Unsent, "Stopping", "the service is stopping"))
            }
        }
    }

    /// Asks for instances and records what was seen; answers what is known then, in the order asked, or why the cloud
    /// refuses to speak of that one.
    pub async fn observe(
        &self,
        account: &Account,
        product: Product,
        region: &Region,
        ids: &[InstanceId],
    ) -> Result<Vec<Result<Known, Failure>>, CallError> {
        let batch = Cloud::observe_batch_max(product).map_err(Failure::from)?;
        let mut known = Vec::with_capacity(ids.len());
        // One id that a cloud refuses to speak of must not hide all others: a refused batch is asked in halves.
        let mut batches: Vec<&[InstanceId]> = ids.chunks(batch).rev().collect();
        while let Some(ids) = batches.pop() {
            let observations = match self.look(account, product, region, ids).await {
                Err(CallError::Cloud(failure)) if failure.class == Class::Rejected => {
                    if ids.len() > 1 {
                        let (first, second) = ids.split_at(ids.len() / 2);
                        batches.extend([second, first]);
                    } else {
                        known.push(Err(failure));
                    }
                    continue;
                }
                looked => looked?,
            };
            let sightings = observations.into_iter().map(|observation| Sighting {
                identity: Identity::new(product, region, &observation.instance),
                observation,
            });
            known.extend(self.store.observe(sightings.collect()).await?.into_iter().map(Ok));
        }
        Ok(known)
    }

    /// One look at no more instances than one call may ask for, with their auto-renew; what was seen is not recorded.
    pub(super) async fn look(
        &self,
        account: &Account,
        product: Product,
        region: &Region,
        ids: &[InstanceId],
    ) -> Result<Vec<Observation>, CallError> {
        let api = Cloud::observe_api(product).map_err(Failure::from)?;
        let about = About { region, order_row: None, instances: ids.len() };
        let permit = self.permit(account, api, region).await;
        let at = self.now();
        let call = self.read(api, account.cloud.observe(product, region, ids)).await;
        permit.written();
        let mut observations = self.finish_call(account, api, about, at, call).await?;
        self.join_auto_renew(account, product, region, &mut observations).await?;
        Ok(observations)
    }

    pub(super) async fn price(&self, account: &Account, purchase: &Purchase) -> Result<Fen, CallError> {
        let api = Cloud::price_api(purchase.product, &purchase.goods).map_err(Failure::from)?;
        let about = About { region: &purchase.region, order_row: None, instances: 1 };
        let permit = self.permit(account, api, &purchase.region).await;
        let at = self.now();
        let call = self.read(api, account.cloud.price(purchase)).await;
        permit.written();
        self.finish_call(account, api, about, at, call).await
    }

    /// Where the instances' own answer does not tell, asks for the console's auto-renew and puts it in. What cannot
    /// be asked stays unreadable, which the guard knows how to take.
    async fn join_auto_renew(
        &self,
        account: &Account,
        product: Product,
        region: &Region,
        observations: &mut [Observation],
    ) -> Result<(), CallError> {
        let Some(api) = Cloud::auto_renew_api(product) else { return Ok(()) };
        let ids: Vec<InstanceId> = observations.iter().map(|seen| seen.instance.clone()).collect();
        let about = About { region, order_row: None, instances: ids.len() };
        let permit = self.permit(account, api, region).await;
        let at = self.now();
        let call = self.read(api, account.cloud.auto_renew(product, &ids)).await;
        permit.written();
        let flags = match self.finish_call(account, api, about, at, call).await {
            Err(CallError::Cloud(_)) => return Ok(()),
            flags => flags?,
        };
        for (observation, (_, flag)) in observations.iter_mut().zip(flags) {
            if let Presence::Visible(facts) = &mut observation.presence {
                facts.auto_renew = flag;
            }
        }
        Ok(())
    }

    pub(super) async fn finish_call<T>(
        &self,
        account: &Account,
        api: Api,
        about: About<'_>,
        at: Timestamp,
        call: Call<T>,
    ) -> Result<T, CallError> {
        self.note_skew(account, &call.report, at);
        self.measures.call_ended(&account.name, &call.report, call.result.as_ref().err());
        if let Err(failure) = &call.result
            && failure.class == Class::Throttled
        {
            self.hold_key(account, api, about.region);
        }
        let attempt = attempt(account, about, at, &call.report, call.result.as_ref().err());
        self.store.record_attempts(vec![attempt]).await?;
        self.note_credential(account, at, call.result.as_ref().err()).await?;
        Ok(call.result?)
    }

    /// A refused key holds the account and has its secrets read again; a call that goes through frees it.
    async fn note_credential(
        &self,
        account: &Account,
        begun: Timestamp,
        failure: Option<&Failure>,
    ) -> Result<(), StoreError> {
        match failure {
            Some(failure) if is_refused_key(account, failure) => {
                account.is_refused.store(true, Ordering::SeqCst);
                self.hold_refused_key(account, begun, self.next_test(), failure).await.map(drop)
            }
            None if account.is_refused.swap(false, Ordering::SeqCst) => {
                if self.store.release_account(&account.name, Some("credential"), self.now()).await? > 0 {
                    tracing::info!(
                        event = "account.resumed", account = %account.name,
                        "account {} is resumed: its key is accepted", account.name
                    );
                }
                account.wake.notify_one();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// When a held account is tried again.
    pub(super) fn next_test(&self) -> Timestamp {
        let now = self.now();
        match retry::after(Class::Credential, None, 0, self.settings().pace, 0, now) {
            retry::Next::HoldAccount { at, .. } => at,
            _ => now,
        }
    }

    /// Compares the cloud's `Date` with our clock, and says so when orders start or stop being held for it.
    pub(super) fn note_skew(&self, account: &Account, report: &Report, sent_at: Timestamp) {
        let Some(server) = report.server_date else { return };
        let now = self.now();
        // The header was written somewhere between sending and now; only what lies outside counts.
        let skew = if server > now {
            server.duration_since(now)
        } else if server < sent_at {
            server.duration_since(sent_at)
        } else {
            SignedDuration::ZERO
        };
        let skew = if skew.abs() < SKEW_GRAIN { SignedDuration::ZERO } else { skew };
        let millis = i64::try_from(skew.as_millis()).unwrap_or(i64::MAX);
        let before = SignedDuration::from_millis(account.skew_ms.swap(millis, Ordering::Relaxed));
        if (before.abs() > SKEW_MAX) != (skew.abs() > SKEW_MAX) {
            let account = &account.name;
            if skew.abs() > SKEW_MAX {
                tracing::error!(
                    event = "clock.skewed", %account, skew_ms = millis,
                    "this machine's clock is {} s off the cloud's: orders of account {account} are held until it is right",
                    skew.as_secs().abs()
                );
            } else {
                tracing::info!(
                    event = "clock.skewed", %account, skew_ms = millis,
                    "this machine's clock agrees with the cloud's again: account {account} goes on"
                );
            }
        }
    }
}

/// A refused key is the whole account's; a missing right comes in the same family of codes and is not.
pub(super) fn is_refused_key(account: &Account, failure: &Failure) -> bool {
    let is_right = cloud::cause(account.provider, &failure.code) == Some(Cause::Rights);
    failure.class == Class::Credential && !is_right
}

pub(super) fn attempt(
    account: &Account,
    about: About<'_>,
    at: Timestamp,
    report: &Report,
    failure: Option<&Failure>,
) -> Attempt {
    Attempt {
        account: account.name.to_string(),
        api: report.api,
        region: about.region.to_string(),
        order_row: about.order_row,
        run_id: None,
        instances: about.instances,
        at_ms: at.as_millisecond(),
        duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
        class: failure.map_or(OK, |failure| failure.class.as_str()),
        code: failure.map(|failure| failure.code.clone()),
        http_status: report.http_status,
        request_id: report.request_id.clone(),
    }
}
