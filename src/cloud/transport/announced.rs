//! A request body that says when it is being written.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

type Notice = Box<dyn FnOnce() + Send>;

/// One frame of known size, so that it travels with a `Content-Length`; or none, as a GET has it.
///
/// The frame is asked for after the head of the request and before both are flushed: the last moment at which
/// "not sent" is certain. A body without one is only asked whether it has ended, once, by the connection that
/// is about to write the head; the tests of the transport hold the HTTP client to that.
pub struct Announced {
    bytes: Bytes,
    /// Never fought over: the mutex makes the body `Sync`, which the client asks for.
    notice: Mutex<Option<Notice>>,
}

impl Announced {
    pub fn new(bytes: Bytes, on_written: impl FnOnce() + Send + 'static) -> Announced {
        Announced { bytes, notice: Mutex::new(Some(Box::new(on_written))) }
    }

    fn announce(&self) {
        let notice = self.notice.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(on_written) = notice {
            on_written();
        }
    }
}

impl Body for Announced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.announce();
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        if self.bytes.is_empty() {
            self.announce();
        }
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
