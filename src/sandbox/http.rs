//! The wire: connections are accepted, requests bounded, answers sent whole, halved, late or never.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, DATE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::sandbox::delivery::{Answer, Delivery};
use crate::sandbox::{Shared, admin, metadata, tencentcloud, volcengine};

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers until told to stop, then cuts what is still open.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(converse(stream, Arc::clone(&shared))); }
                // Out of descriptors, most likely: some come back when connections end.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            _ = &mut stopped => return,
        }
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    // Without it small answers would wait for the client's acknowledgement; the answer is right either way.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| handle(Arc::clone(&shared), request));
    let served =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    // Ends with an error whenever a fault or the client cuts the connection: nothing to tell anyone.
    let _ = served.await;
}

/// The connection is to end without (the rest of) an answer.
#[derive(Debug, Error)]
#[error("the connection is cut, as a fault asked for")]
struct Cut;

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<WireBody>, Cut> {
    let (head, body) = request.into_parts();
    let whole = match Limited::new(body, tencentcloud::MAX_REQUEST_BYTES).collect().await {
        Ok(body) => Some(Request::from_parts(head, body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => None,
        Err(_) => return Err(Cut),
    };
    let delivery = answer(&shared, whole);
    deliver(delivery, &shared).await
}

/// The providers stand side by side here, told apart as the real ones are.
fn answer(shared: &Shared, request: Option<Request<Bytes>>) -> Delivery {
    let is_admin = |request: &Request<Bytes>| request.uri().path().starts_with(admin::ROOT);
    if let Some(request) = request.as_ref().filter(|request| !is_admin(request)) {
        let mut memory = shared.lock();
        let (now, moment) = (shared.clock.now(), shared.clock.monotonic());
        if let Some(delivery) = metadata::answer(&mut memory, request, now, moment) {
            return delivery;
        }
    }
    let read = match request {
        Some(request) if is_admin(&request) => return Delivery::Whole(admin::answer(shared, &request)),
        Some(request) if request.uri().path() == tencentcloud::V2_PATH => {
            tencentcloud::read_v2(&request, shared.clock.now())
        }
        Some(request) if request.uri().path() != "/" => return Delivery::Whole(Answer::gateway(404)),
        Some(request) if volcengine::is_meant(&request) => volcengine::read(&request, shared.clock.now()),
        Some(request) => tencentcloud::read(&request, shared.clock.now()),
        None => tencentcloud::read_too_large(),
    };
    let mut memory = shared.lock();
    // Asked for under the lock, so that moments come in order.
    let (now, moment) = (shared.clock.now(), shared.clock.monotonic());
    read.answer(&mut memory, now, moment)
}

async fn deliver(delivery: Delivery, shared: &Shared) -> Result<Response<WireBody>, Cut> {
    match delivery {
        Delivery::Whole(answer) => Ok(respond(answer, shared.clock.now(), WireBody::whole)),
        Delivery::Half(answer) => Ok(respond(answer, shared.clock.now(), WireBody::half)),
        Delivery::Nothing => Err(Cut),
        Delivery::Late { wait, then } => {
            tokio::time::sleep(wait).await;
            then.map(|answer| respond(answer, shared.clock.now(), WireBody::whole)).ok_or(Cut)
        }
    }
}

fn respond(answer: Answer, now: Timestamp, body: fn(Bytes) -> WireBody) -> Response<WireBody> {
    let mut response = Response::new(body(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    // The practice cloud's clock, not the machine's: clients measure their own against it.
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
    if let Some(date) = date.ok().and_then(|date| HeaderValue::from_str(&date).ok()) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

/// A body that may break off.
enum WireBody {
    Whole(Option<Bytes>),
    Half { stated_bytes: u64, first: Option<Bytes>, is_flushed: bool },
}

impl WireBody {
    fn whole(body: Bytes) -> WireBody {
        WireBody::Whole(Some(body))
    }

    fn half(body: Bytes) -> WireBody {
        let stated_bytes = body.len() as u64;
        WireBody::Half { stated_bytes, first: Some(body.slice(..body.len() / 2)), is_flushed: false }
    }
}

impl Body for WireBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            WireBody::Whole(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            WireBody::Half { first, is_flushed, .. } => match first.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                // hyper flushes when a body has nothing to give, and not when it fails.
                None if !*is_flushed => {
                    *is_flushed = true;
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                None => Poll::Ready(Some(Err(Cut))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, WireBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            WireBody::Whole(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            WireBody::Half { stated_bytes, .. } => SizeHint::with_exact(*stated_bytes),
        }
    }
}
