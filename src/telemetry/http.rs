//! `/metrics`, `/healthz` and `/readyz`, for whoever watches the service.
//!
//! It has a thread and a runtime of its own: however many clients ask, and however slowly, they share one thread of the
//! machine and none of those that renew. hyper alone serves three fixed paths; it is in the program already, as a client
//! and as the practice cloud, and a framework would add nothing but itself.
//!
//! Invariant: connections, headers, answers a second, time and memory that clients can take are bounded, and bodies are
//! never read.

mod shared;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::metrics::{CONTENT_TYPE as METRICS_TYPE, Scrape};
use super::readiness::{Readiness, Ready};
use crate::engine::Engine;
pub(super) use shared::{Answer, Shared};

/// Others wait in the kernel's queue until one of these ends, which is soon.
const CONNECTIONS_MAX: usize = 256;
/// A request's head has this long, and so has a connection on which nothing is asked.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const HEAD_MAX_BYTES: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// However busy a connection is, or however slowly its answer is read, it ends after this and a bit.
const CONNECTION_AGE: Duration = Duration::from_secs(30);
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// Longer than any answer takes to be worked out and to get its turn, shorter than a scraper waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// Fifty answers a second are far more than anybody who watches needs; a flood of requests waits its turn instead of
/// taking the machine from the work.
const TURNS: usize = 5;
const TURN: Duration = Duration::from_millis(100);
/// A port that another program holds is tried again this often.
const BIND_PAUSE: Duration = Duration::from_secs(5);
/// Out of descriptors, most likely: some come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const PLAIN: &str = "text/plain; charset=utf-8";

/// The listener, until it is stopped or dropped.
pub struct Http {
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

impl Http {
    /// Serves from now on. What keeps it from that is logged and tried again: metrics are not worth an instance.
    pub fn start(listen: SocketAddr, engine: Arc<Engine>) -> Http {
        if !listen.ip().is_loopback() {
            tracing::warn!(
                event = "config.doubtful",
                "[http] listens on {listen}: whoever reaches it reads the names of accounts and instances, and what was \
                 spent; there is no password"
            );
        }
        let (stop, stopping) = oneshot::channel();
        let (ending, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("http".to_owned());
        let spawned = thread.spawn(move || {
            run(listen, engine, stopping);
            let _ = ending.send(());
        });
        if let Err(error) = spawned {
            log_failed(listen, &error, "restart the service for them");
        }
        Http { stop, stopped }
    }

    /// Cuts what is still open, and lets go of the database.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        // An error means that its thread is gone already.
        let _ = self.stopped.await;
    }
}

fn run(listen: SocketAddr, engine: Arc<Engine>, stopping: oneshot::Receiver<()>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        // A dropped sender stops it too.
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                () = serve(listen, engine) => {}
                _ = stopping => {}
            }
        }),
        Err(error) => log_failed(listen, &error, "restart the service for them"),
    }
}

fn log_failed(listen: SocketAddr, error: &std::io::Error, todo: &str) {
    tracing::error!(
        event = "http.failed", address = %listen, %error,
        "there are no /metrics and no /readyz on {listen}: {error}; instances are renewed all the same; {todo}"
    );
}

async fn serve(listen: SocketAddr, engine: Arc<Engine>) {
    let listener = bind(listen).await;
    let clock = Arc::clone(&engine.clock);
    let ready = Shared::start(Readiness::new(Arc::clone(&engine)), Arc::clone(&clock));
    let metrics = Shared::start(Scrape::new(engine, ready.clone()), clock);
    let desk = Desk { metrics, ready, turns: Arc::new(Semaphore::new(TURNS)) };
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, desk.clone(), slot));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Until it succeeds; told when it fails first, and when it succeeds.
async fn bind(listen: SocketAddr) -> TcpListener {
    let mut has_failed = false;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                // Port 0 is any.
                let address = listener.local_addr().unwrap_or(listen);
                tracing::info!(
                    event = "http.listening", %address,
                    "serving /metrics, /healthz and /readyz on http://{address}"
                );
                return listener;
            }
            Err(error) if !has_failed => {
                log_failed(
                    listen,
                    &error,
                    "free the address or change `listen` of [http]; it is tried again every few seconds",
                );
                has_failed = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(BIND_PAUSE).await;
    }
}

async fn converse(stream: TcpStream, desk: Desk, _slot: OwnedSemaphorePermit) {
    let service = service_fn(|request| desk.answer(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // It ends with an error whenever a client is slow, rude or gone: nothing to tell anyone.
    if tokio::time::timeout(CONNECTION_AGE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
    }
}

/// What every connection answers from.
#[derive(Clone)]
struct Desk {
    metrics: Shared<Bytes>,
    ready: Shared<Ready>,
    turns: Arc<Semaphore>,
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, async {
            self.take_turn().await;
            self.answer_in_turn(&request).await
        });
        let late = || plain(StatusCode::SERVICE_UNAVAILABLE, "the answer was not worked out in time");
        Ok(answered.await.ok().flatten().unwrap_or_else(late))
    }

    /// First come, first served; who is alone does not wait.
    async fn take_turn(&self) {
        if let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await {
            tokio::spawn(async move {
                tokio::time::sleep(TURN).await;
                drop(turn);
            });
        }
    }

    async fn answer_in_turn(&self, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(refused);
        }
        match request.uri().path() {
            "/metrics" => self.metrics.ask().await.map(|text| respond(StatusCode::OK, METRICS_TYPE, text)),
            "/readyz" => self.ready.ask().await.map(|ready| match ready {
                Ok(()) => plain(StatusCode::OK, "ready"),
                Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {why}")),
            }),
            "/healthz" => Some(plain(StatusCode::OK, "alive")),
            _ => Some(plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz")),
        }
    }
}

fn plain(status: StatusCode, sentence: &str) -> Response<Full<Bytes>> {
    respond(status, PLAIN, Bytes::from(format!("{sentence}\n")))
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
