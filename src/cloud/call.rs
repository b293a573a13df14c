//! What a call is, and what it leaves behind.

use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use crate::cloud::transport;
use crate::domain::failure::{Class, Failure};
use crate::domain::order::{Answer, ListedOrder, OrderId};
use crate::domain::product::{Product, Provider};

/// One API with the pace that its page documents: what a permit is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Api {
    /// `service:Action`, the spelling of rate keys, logs and metrics.
    pub name: &'static str,
    /// Where none is documented, the pace we keep of our own accord.
    pub documented_per_second: u32,
    is_documented: bool,
}

/// A finished call, whatever came of it. One call is one request: its permit is good for no second one.
#[derive(Clone, Debug)]
pub struct Call<T> {
    pub report: Report,
    pub result: Result<T, Failure>,
}

/// A provider's reading of an answer.
#[derive(Clone, Debug)]
pub struct Reply<T> {
    pub request_id: Option<String>,
    pub result: Result<T, Failure>,
}

/// What every call is recorded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub api: &'static str,
    pub request_id: Option<String>,
    pub http_status: Option<u16>,
    pub duration: Duration,
    /// The cloud's own clock, from its `Date` header.
    pub server_date: Option<Timestamp>,
}

/// A part of an order list, for products whose list knows no instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrdersPage {
    /// Renewals of any instance of the account, in any state.
    pub orders: Vec<ListedOrder>,
    /// Where the list goes on; none on its last page.
    pub next: Option<PageToken>,
}

/// The cloud's own word for the next page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageToken(pub(super) String);

/// A purchase as it will leave, or never: built and signed once.
#[derive(Debug)]
pub struct SignedPurchase {
    pub(super) product: Product,
    pub(super) api: Api,
    pub(super) signed_at: Timestamp,
    pub(super) request: transport::Request,
}

/// This build has no room for the product yet. Configuration refuses it, but the set accepted by a newer
/// build may still be in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this build cannot serve {provider} {product}; install one that can")]
pub struct NotBuilt {
    provider: Provider,
    product: Product,
}

/// What a [`Failure`]'s code says beyond its class, where that decides what is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The account has not enough money.
    Balance,
    /// An unpaid order of the instance stands in the way.
    UnpaidOrder,
    /// The key may not do this. Also of a credential failure that is really one of rights.
    Rights,
    Quota,
    /// An earlier request with the same token is still at work: asked again with that token, the cloud will say what
    /// came of it; with another one it would buy twice.
    Processing,
}

impl Api {
    pub const fn new(name: &'static str, documented_per_second: u32) -> Api {
        Api { name, documented_per_second, is_documented: true }
    }

    /// One whose pages publish no limit: the pace is ours, and kept whole.
    pub const fn paced(name: &'static str, own_per_second: u32) -> Api {
        Api { name, documented_per_second: own_per_second, is_documented: false }
    }

    /// Calls a second: `share` of the documented limit, which others use too, or the whole of a pace of our own.
    pub fn pace(self, share: f64) -> f64 {
        f64::from(self.documented_per_second) * if self.is_documented { share } else { 1.0 }
    }

    /// The service: of Tencent Cloud the first label of the host too.
    pub fn service(self) -> &'static str {
        self.name.split_once(':').map_or(self.name, |(service, _)| service)
    }

    pub fn action(self) -> &'static str {
        self.name.split_once(':').map_or(self.name, |(_, action)| action)
    }

    /// Whether its quota is counted by region. Billing has none.
    pub fn is_regional(self) -> bool {
        !self.name.starts_with("billing:")
    }
}

impl SignedPurchase {
    pub fn api(&self) -> Api {
        self.api
    }

    pub fn signed_at(&self) -> Timestamp {
        self.signed_at
    }
}

impl Call<Option<OrderId>> {
    /// The purchase's outcome in the words of orders, and the report beside it.
    pub fn into_answer(self) -> (Report, Answer) {
        let answer = match self.result {
            Ok(order_id) => Answer::Accepted { order_id, request_id: self.report.request_id.clone() },
            Err(failure) => Answer::Failed(failure),
        };
        (self.report, answer)
    }
}

impl<T> Call<T> {
    /// A call that ended before anything was sent.
    /// A call that was never made, or given up.
    pub fn unsent(api: &'static str, failure: impl Into<Failure>) -> Call<T> {
        let report =
            Report { api, request_id: None, http_status: None, duration: Duration::ZERO, server_date: None };
        Call { report, result: Err(failure.into()) }
    }
}

impl NotBuilt {
    pub(super) fn new(product: Product) -> NotBuilt {
        NotBuilt { provider: product.provider(), product }
    }

    /// For a call that was asked of it all the same.
    pub(super) fn call<T>(self) -> Call<T> {
        Call::unsent(self.product.as_str(), self)
    }
}

impl From<NotBuilt> for Failure {
    fn from(refusal: NotBuilt) -> Failure {
        Failure::ours(Class::Rejected, "NotBuilt", refusal.to_string())
    }
}
