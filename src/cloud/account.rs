//! An account: whose keys sign, where its calls go and through which connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::clock::Clock;
use crate::cloud::call::{Api, Call, Reply, Report, SignedPurchase};
use crate::cloud::endpoint::Endpoint;
use crate::cloud::transport::{Exchange, Request, Transport};
use crate::domain::failure::{Class, Failure};
use crate::domain::secret::Secret;

#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub key_id: Secret,
    pub secret_key: Secret,
    /// Of temporary credentials.
    pub token: Option<Secret>,
}

impl Credentials {
    /// Blank: no call is made with them.
    pub fn none() -> Credentials {
        let none = || Secret::new("");
        Credentials { key_id: none(), secret_key: none(), token: None }
    }
}

/// What the providers' rooms work with.
pub(super) struct Account {
    pub endpoint: Option<Endpoint>,
    /// The zone of times that the cloud writes without one.
    pub bare_time_zone: TimeZone,
    transport: Transport,
    clock: Arc<dyn Clock>,
    credentials: ArcSwap<Credentials>,
}

/// Begun when its request leaves; ends as a [`Call`].
struct Stopwatch<'a> {
    clock: &'a dyn Clock,
    start: Duration,
}

impl Account {
    pub fn new(
        credentials: Credentials,
        endpoint: Option<Endpoint>,
        bare_time_zone: TimeZone,
        transport: Transport,
        clock: Arc<dyn Clock>,
    ) -> Account {
        let credentials = ArcSwap::from_pointee(credentials);
        Account { endpoint, bare_time_zone, transport, clock, credentials }
    }

    pub fn transport(&self) -> Transport {
        self.transport.clone()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A call that spends nothing: its request, if it could be built, is sent, and the answer handed to `read`.
    pub async fn ask<T>(
        &self,
        api: Api,
        request: Result<Request, Failure>,
        read: impl FnOnce(u16, &[u8]) -> Reply<T>,
    ) -> Call<T> {
        let request = match request {
            Ok(request) => request,
            Err(failure) => return Call::unsent(api.name, failure),
        };
        let watch = self.stopwatch();
        let exchange = self.transport.read(request).await;
        watch.stop(api, exchange, read)
    }

    /// Spends money.
    pub async fn buy<T>(
        &self,
        signed: SignedPurchase,
        on_written: impl FnOnce() + Send + 'static,
        read: impl FnOnce(u16, &[u8]) -> Reply<T>,
    ) -> Call<T> {
        let watch = self.stopwatch();
        let exchange = self.transport.purchase(signed.request, on_written).await;
        watch.stop(signed.api, exchange, read)
    }

    fn stopwatch(&self) -> Stopwatch<'_> {
        Stopwatch { clock: &*self.clock, start: self.clock.monotonic() }
    }

    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.load_full()
    }

    /// Those to sign with.
    ///
    /// # Errors
    /// They are blank: the cloud's answer to that would hide that they could not be read.
    pub fn to_sign(&self) -> Result<Arc<Credentials>, Failure> {
        let credentials = self.credentials();
        if credentials.key_id.is_empty() {
            return Err(Failure::ours(Class::Unsent, "NoSecrets", "the account's secrets cannot be read"));
        }
        Ok(credentials)
    }

    pub fn replace_credentials(&self, credentials: Credentials) {
        self.credentials.store(Arc::new(credentials));
    }
}

impl Stopwatch<'_> {
    /// Lets the provider read the exchange, and puts what is common to all calls around it.
    fn stop<T>(self, api: Api, exchange: Exchange, read: impl FnOnce(u16, &[u8]) -> Reply<T>) -> Call<T> {
        let duration = self.clock.monotonic().saturating_sub(self.start);
        let (http_status, server_date, reply) = match exchange {
            Ok(received) => {
                let reply = read(received.http_status, &received.body);
                (Some(received.http_status), received.server_date, reply)
            }
            Err(lost) => {
                let reply = Reply { request_id: None, result: Err(lost.failure) };
                (lost.http_status, lost.server_date, reply)
            }
        };
        let Reply { request_id, result } = reply;
        let result =
            result.map_err(|failure| Failure { request_id: request_id.clone(), http_status, ..failure });
        let report = Report { api: api.name, request_id, http_status, duration, server_date };
        Call { report, result }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}
