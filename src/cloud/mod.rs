//! The clouds: requests are signed, sent and read here, and nowhere else.
//!
//! ```text
//! Cloud ── product? ──► <provider>/mod ── product? ──► <product>: body, reading of the answer
//!                            │ sign, codes, answer         (pure)
//!                            ▼ (pure)
//!                        transport: unsent, unknown or an answer
//! ```
//!
//! Invariant: one call is one request. Whoever holds one permit sends one request, and nothing here repeats.
//! Invariant: the store is unknown here; a purchase is sent only against a [`Committed`] that the store gave.

mod account;
mod call;
pub mod canonical;
mod endpoint;
mod header;
mod judged;
mod listing;
mod reading;
mod role;
pub mod tencentcloud;
mod transport;
pub mod volcengine;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use thiserror::Error;

pub use crate::cloud::account::Credentials;
pub use crate::cloud::call::{
    Api, Call, Cause, NotBuilt, OrdersPage, PageToken, Reply, Report, SignedPurchase,
};
pub use crate::cloud::endpoint::{Endpoint, EndpointError};
pub use crate::cloud::listing::Look;
pub use crate::cloud::role::{Issued, NotARoleName, Role, RoleName};
pub use crate::cloud::transport::Limits;

use crate::clock::Clock;
use crate::cloud::account::Account;
use crate::cloud::transport::Transport;
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::observation::{AutoRenew, Observation};
use crate::domain::order::{Committed, Goods, ListedOrder, OrderId, Purchase};
use crate::domain::product::{InstanceId, Product, Provider, Region, VolcengineProduct};

/// Every API that this build calls: the keys that `[account.NAME.rate]` may hold.
pub fn all_apis() -> impl Iterator<Item = Api> {
    [tencentcloud::ALL_APIS, volcengine::ALL_APIS].into_iter().flatten().copied()
}

/// A signature older than this, either way, is not sent: the process stood still or the clock was set, and
/// what was checked before signing may no longer hold. The cloud itself would take it for five minutes.
const SIGNATURE_MAX_AGE: Duration = Duration::from_secs(60);

/// One account at one provider.
pub struct Cloud {
    provider: Provider,
    account: Account,
}

#[derive(Debug, Error)]
pub enum BuildError {
    #[error("the HTTP client could not be set up; are the system's CA certificates installed?")]
    HttpClient(#[from] reqwest::Error),
}

impl Cloud {
    pub fn new(
        provider: Provider,
        credentials: Credentials,
        endpoint: Option<Endpoint>,
        bare_time_zone: TimeZone,
        clock: Arc<dyn Clock>,
    ) -> Result<Cloud, BuildError> {
        Cloud::with_limits(provider, credentials, endpoint, bare_time_zone, clock, Limits::default())
    }

    /// As [`Cloud::new`], for tests that cannot wait a minute for a timeout.
    pub fn with_limits(
        provider: Provider,
        credentials: Credentials,
        endpoint: Option<Endpoint>,
        bare_time_zone: TimeZone,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Result<Cloud, BuildError> {
        let transport = Transport::new(limits)?;
        let account = Account::new(credentials, endpoint, bare_time_zone, transport, clock);
        Ok(Cloud { provider, account })
    }

    /// An account that nothing is known of yet, over the HTTP clients of this one: to make these takes longer than
    /// many calls, and tests begin a life of the daemon thousands of times.
    pub fn anew(
        &self,
        provider: Provider,
        credentials: Credentials,
        endpoint: Option<Endpoint>,
        bare_time_zone: TimeZone,
        clock: Arc<dyn Clock>,
    ) -> Cloud {
        let transport = self.account.transport();
        Cloud { provider, account: Account::new(credentials, endpoint, bare_time_zone, transport, clock) }
    }

    /// From the next signature on; what is signed stays as it is.
    pub fn replace_credentials(&self, credentials: Credentials) {
        self.account.replace_credentials(credentials);
    }

    /// Whether the next signature would be by these.
    pub fn signs_with(&self, credentials: &Credentials) -> bool {
        *self.account.credentials() == *credentials
    }

    /// Whose quota calls use up. Fit for a limiter's key, not for a log.
    pub fn key_id(&self) -> String {
        self.account.credentials().key_id.expose().to_owned()
    }

    /// The API that [`Cloud::send`] will call for such goods.
    pub fn purchase_api(product: Product, goods: &Goods) -> Result<Api, NotBuilt> {
        match product {
            Product::TencentCloud(tencent) => tencentcloud::purchase_api(tencent, goods),
            Product::Volcengine(volcengine) => volcengine::purchase_api(volcengine, goods),
        }
    }

    /// The API that [`Cloud::observe`] will call.
    pub fn observe_api(product: Product) -> Result<Api, NotBuilt> {
        match product {
            Product::TencentCloud(tencent) => Ok(tencentcloud::observe_api(tencent)),
            Product::Volcengine(volcengine) => Ok(volcengine::observe_api(volcengine)),
        }
    }

    /// The API that [`Cloud::auto_renew`] will call; none where [`Cloud::observe`] answers that as well.
    pub fn auto_renew_api(product: Product) -> Option<Api> {
        match product {
            Product::TencentCloud(_) => None,
            Product::Volcengine(VolcengineProduct::Ecs) => Some(volcengine::billing::LIST_AVAILABLE.api),
        }
    }

    /// The API that [`Cloud::list_orders`] or [`Cloud::orders_page`] will call.
    pub fn orders_api(product: Product) -> Result<Api, NotBuilt> {
        match product {
            Product::TencentCloud(_) => Ok(tencentcloud::ORDERS_API),
            Product::Volcengine(VolcengineProduct::Ecs) => Ok(volcengine::billing::LIST_ORDERS.api),
        }
    }

    /// The API that [`Cloud::order_lines`] will call. None where the list itself can be asked for an instance, by
    /// [`Cloud::list_orders`]; else it is read by [`Cloud::orders_page`], and each of its orders by this.
    pub fn order_lines_api(product: Product) -> Option<Api> {
        match product {
            Product::TencentCloud(_) => None,
            Product::Volcengine(VolcengineProduct::Ecs) => Some(volcengine::billing::ORDER_LINES.api),
        }
    }

    /// The widest window that [`Cloud::orders_page`] takes; none where there is no limit.
    pub fn orders_window_max(product: Product) -> Option<SignedDuration> {
        match product {
            Product::TencentCloud(_) => None,
            Product::Volcengine(VolcengineProduct::Ecs) => Some(volcengine::billing::ORDERS_WINDOW_MAX),
        }
    }

    /// The API that [`Cloud::price`] will call for such goods.
    pub fn price_api(product: Product, goods: &Goods) -> Result<Api, NotBuilt> {
        match product {
            Product::TencentCloud(tencent) => tencentcloud::price_api(tencent, goods),
            Product::Volcengine(volcengine) => volcengine::price_api(volcengine, goods),
        }
    }

    /// The API that [`Cloud::balance`] will call; none where this build has none.
    pub fn balance_api(provider: Provider) -> Option<Api> {
        match provider {
            Provider::TencentCloud => Some(tencentcloud::BALANCE_API),
            Provider::Volcengine => Some(volcengine::billing::BALANCE.api),
        }
    }

    /// How many ids one [`Cloud::observe`] or [`Cloud::auto_renew`] may ask for.
    pub fn observe_batch_max(product: Product) -> Result<usize, NotBuilt> {
        match product {
            Product::TencentCloud(tencent) => Ok(tencentcloud::observe_batch_max(tencent)),
            Product::Volcengine(volcengine) => Ok(volcengine::observe_batch_max(volcengine)),
        }
    }

    /// One observation per id, in the order asked; an id that a successful answer does not show is `NotVisible`.
    /// `observed_at` is the moment before the request left, so that its age is never understated.
    pub async fn observe(
        &self,
        product: Product,
        region: &Region,
        ids: &[InstanceId],
    ) -> Call<Vec<Observation>> {
        match product {
            Product::TencentCloud(tencent) => {
                tencentcloud::observe(&self.account, tencent, region, ids).await
            }
            Product::Volcengine(volcengine) => {
                volcengine::observe(&self.account, volcengine, region, ids).await
            }
        }
    }

    /// One setting per id, in the order asked; of an id that the answer does not show it is unreadable. For
    /// products with an [`Cloud::auto_renew_api`]: what [`Cloud::observe`] leaves out.
    pub async fn auto_renew(
        &self,
        product: Product,
        ids: &[InstanceId],
    ) -> Call<Vec<(InstanceId, AutoRenew)>> {
        match product {
            Product::TencentCloud(_) => NotBuilt::new(product).call(),
            Product::Volcengine(VolcengineProduct::Ecs) => volcengine::auto_renew(&self.account, ids).await,
        }
    }

    /// Where a term bought for an instance would end: months are counted in the zone of the cloud's zoneless times.
    /// None past the end of the calendar.
    pub fn term_end(&self, expires_at: Timestamp, months: u32) -> Option<Timestamp> {
        let months = Span::new().try_months(months).ok()?;
        let end = expires_at.to_zoned(self.account.bare_time_zone.clone()).checked_add(months).ok()?;
        Some(end.timestamp())
    }

    /// Builds and signs now; a [`SignedPurchase`] is never built or signed again.
    ///
    /// # Errors
    /// The product is not built, or key id or token cannot stand in a header. Nothing was sent.
    pub fn sign_purchase(&self, purchase: &Purchase) -> Result<SignedPurchase, Failure> {
        match purchase.product {
            Product::TencentCloud(tencent) => tencentcloud::sign_purchase(&self.account, tencent, purchase),
            Product::Volcengine(volcengine) => volcengine::sign_purchase(&self.account, volcengine, purchase),
        }
    }

    /// Spends money. `on_written` is called when the request goes to the socket, so that a permit can be let
    /// go; it is dropped uncalled if the request never leaves. Success may come without an order id.
    /// The committed row is used up, whatever comes of the request.
    pub async fn send(
        &self,
        _used_up: Committed,
        signed: SignedPurchase,
        on_written: impl FnOnce() + Send + 'static,
    ) -> Call<Option<OrderId>> {
        self.deliver(signed, on_written).await
    }

    async fn deliver(
        &self,
        signed: SignedPurchase,
        on_written: impl FnOnce() + Send + 'static,
    ) -> Call<Option<OrderId>> {
        if let Err(failure) = still_fresh(signed.signed_at, self.account.now()) {
            return Call::unsent(signed.api.name, failure);
        }
        let product = signed.product;
        let read = |http_status, body: &[u8]| match product {
            Product::TencentCloud(tencent) => tencentcloud::read::purchase(tencent, http_status, body),
            Product::Volcengine(volcengine) => volcengine::read::purchase(volcengine, http_status, body),
        };
        self.account.buy(signed, on_written, read).await
    }

    /// The orders of an instance in any state, unpaid and void ones too, created between `from` and `through`;
    /// the window asked for is a day wider on both sides, as the lists' zone is not documented.
    pub async fn list_orders(
        &self,
        product: Product,
        region: &Region,
        instance: &InstanceId,
        from: Timestamp,
        through: Timestamp,
    ) -> Call<Vec<ListedOrder>> {
        match product {
            Product::TencentCloud(_) => {
                tencentcloud::list_orders(&self.account, region, instance, from, through).await
            }
            Product::Volcengine(_) => {
                Call::unsent(volcengine::billing::LIST_ORDERS.api.name, not_by_instance())
            }
        }
    }

    /// Renewals of any instance in any state, created between `from` and `through`, for products with an
    /// [`Cloud::order_lines_api`]. Half of a list proves nothing: it is read up to the page without a `next`.
    pub async fn orders_page(
        &self,
        product: Product,
        from: Timestamp,
        through: Timestamp,
        page: Option<&PageToken>,
    ) -> Call<OrdersPage> {
        match product {
            Product::TencentCloud(_) => NotBuilt::new(product).call(),
            Product::Volcengine(VolcengineProduct::Ecs) => {
                volcengine::orders_page(&self.account, from, through, page).await
            }
        }
    }

    /// The instances and other resources that an order of [`Cloud::orders_page`] is for; never none.
    pub async fn order_lines(&self, product: Product, order_id: &OrderId) -> Call<Vec<InstanceId>> {
        match product {
            Product::TencentCloud(_) => NotBuilt::new(product).call(),
            Product::Volcengine(VolcengineProduct::Ecs) => {
                volcengine::order_lines(&self.account, order_id).await
            }
        }
    }

    /// What the account can pay with, vouchers not counted; rounded down to whole fen, negative when it owes. Credit
    /// is in Volcengine's number and not in Tencent Cloud's, where an order may still go through that it would not
    /// cover. A missing right to read it is a failure like any other.
    pub async fn balance(&self) -> Call<Fen> {
        match self.provider {
            Provider::TencentCloud => tencentcloud::balance(&self.account).await,
            Provider::Volcengine => volcengine::balance(&self.account).await,
        }
    }

    /// What the purchase would cost, rounded up to whole fen. A price in an unknown unit is a failure.
    pub async fn price(&self, purchase: &Purchase) -> Call<Fen> {
        match purchase.product {
            Product::TencentCloud(tencent) => tencentcloud::price(&self.account, tencent, purchase).await,
            Product::Volcengine(volcengine) => volcengine::price(&self.account, volcengine, purchase).await,
        }
    }
}

/// What a failure's code says beyond its class; `None` for our own codes and where nothing more is known.
pub fn cause(provider: Provider, code: &str) -> Option<Cause> {
    match provider {
        Provider::TencentCloud => tencentcloud::cause(code),
        Provider::Volcengine => volcengine::codes::judge(code).cause,
    }
}

fn not_by_instance() -> Failure {
    let message = "this order list cannot be asked for one instance; it is read by pages and by their orders";
    Failure::ours(Class::Rejected, "NotByInstance", message)
}

fn still_fresh(signed_at: Timestamp, now: Timestamp) -> Result<(), Failure> {
    let age = now.duration_since(signed_at).unsigned_abs();
    if age <= SIGNATURE_MAX_AGE {
        return Ok(());
    }
    let message = format!("signed {} s ago and not sent; it will be checked and signed anew", age.as_secs());
    Err(Failure::ours(Class::Unsent, "SignedTooLongAgo", message))
}

#[cfg(test)]
mod listener;
#[cfg(test)]
mod tests;
