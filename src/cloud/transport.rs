//! HTTP, with one question answered for every way it can end: may the cloud have acted?
//!
//! Invariant: nothing is ever sent twice here. No retries, no redirects, no proxy from the environment, no
//! second host, and a purchase never rides on a connection that served another call.

mod announced;
pub mod diagnosis;

use std::fmt;
use std::time::Duration;

use hyper::body::Bytes;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{DATE, HeaderMap};
use reqwest::{Client, ClientBuilder, Method, Response, Url, redirect, retry};

use crate::cloud::transport::announced::Announced;
use crate::domain::failure::{Class, Failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const PURCHASE_TIMEOUT: Duration = Duration::from_secs(60);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const READ_POOL_IDLE: Duration = Duration::from_secs(30);
/// An order's answer has a few hundred bytes, and many are under way at once.
const PURCHASE_ANSWER_MAX_BYTES: usize = 256 * 1024;
/// A thousand instances with all that a cloud says of each.
const READ_ANSWER_MAX_BYTES: usize = 16 * 1024 * 1024;

/// A limit on everything that another machine decides.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Shorter than the others: only then does a dead host count as "not sent" and not as "unknown".
    pub connect_timeout: Duration,
    pub purchase_timeout: Duration,
    pub read_timeout: Duration,
    pub purchase_answer_max_bytes: usize,
    pub read_answer_max_bytes: usize,
}

/// A request as it goes over the wire; its headers or its body hold the signature.
pub struct Request<B = Bytes> {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: B,
}

/// An answer that came whole.
#[derive(Debug)]
pub struct Received {
    pub http_status: u16,
    pub server_date: Option<Timestamp>,
    pub body: Vec<u8>,
}

/// No answer, or only the beginning of one.
#[derive(Debug)]
pub struct Lost {
    pub http_status: Option<u16>,
    pub server_date: Option<Timestamp>,
    pub failure: Failure,
}

pub type Exchange = Result<Received, Lost>;

#[derive(Clone)]
pub struct Transport {
    purchases: Client,
    reads: Client,
    limits: Limits,
}

/// Without the body and what the headers say: key id, token and signature stand in the one or the other.
impl<B> fmt::Debug for Request<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { method, url, headers, .. } = self;
        let names: Vec<_> = headers.keys().collect();
        write!(f, "Request({method} {url}, {names:?})")
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect_timeout: CONNECT_TIMEOUT,
            purchase_timeout: PURCHASE_TIMEOUT,
            read_timeout: READ_TIMEOUT,
            purchase_answer_max_bytes: PURCHASE_ANSWER_MAX_BYTES,
            read_answer_max_bytes: READ_ANSWER_MAX_BYTES,
        }
    }
}

impl Request {
    fn map_body<B>(self, map: impl FnOnce(Bytes) -> B) -> Request<B> {
        let Request { method, url, headers, body } = self;
        Request { method, url, headers, body: map(body) }
    }
}

impl Transport {
    pub fn new(limits: Limits) -> Result<Transport, reqwest::Error> {
        let purchases = client(limits.connect_timeout).timeout(limits.purchase_timeout);
        let reads =
            client(limits.connect_timeout).timeout(limits.read_timeout).pool_idle_timeout(READ_POOL_IDLE);
        Ok(Transport {
            purchases: purchases.pool_max_idle_per_host(0).build()?,
            reads: reads.build()?,
            limits,
        })
    }

    /// `on_written` is called when the request goes to the socket, and dropped if it never does.
    pub async fn purchase(&self, request: Request, on_written: impl FnOnce() + Send + 'static) -> Exchange {
        let request = request.map_body(|body| reqwest::Body::wrap(Announced::new(body, on_written)));
        exchange(&self.purchases, request, self.limits.purchase_answer_max_bytes).await
    }

    pub async fn read(&self, request: Request) -> Exchange {
        exchange(&self.reads, request.map_body(reqwest::Body::from), self.limits.read_answer_max_bytes).await
    }
}

pub fn client(connect_timeout: Duration) -> ClientBuilder {
    Client::builder()
        .http1_only()
        .retry(retry::never())
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(connect_timeout)
        .user_agent(concat!("renewd/", env!("CARGO_PKG_VERSION")))
}

async fn exchange(client: &Client, request: Request<reqwest::Body>, max_bytes: usize) -> Exchange {
    let Request { method, url, headers, body } = request;
    let host = url.host_str().unwrap_or_default().to_owned();
    let sent = client.request(method, url).headers(headers).body(body).send().await;
    let mut response = sent.map_err(|error| Lost {
        http_status: None,
        server_date: None,
        failure: diagnosis::failure(error, &host),
    })?;
    let http_status = response.status().as_u16();
    let server_date = server_date(response.headers());
    match bounded_body(&mut response, max_bytes, &host).await {
        Ok(body) => Ok(Received { http_status, server_date, body }),
        Err(failure) => Err(Lost { http_status: Some(http_status), server_date, failure }),
    }
}

async fn bounded_body(response: &mut Response, max_bytes: usize, host: &str) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| diagnosis::failure(error, host))? {
        if body.len() + chunk.len() > max_bytes {
            let message =
                format!("{host} sent more than {max_bytes} bytes; the answer was not read to its end");
            return Err(Failure::ours(Class::Unknown, "AnswerTooLarge", message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn server_date(headers: &HeaderMap) -> Option<Timestamp> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    PARSER.parse_timestamp(headers.get(DATE)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests;
