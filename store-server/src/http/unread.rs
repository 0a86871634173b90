//! What becomes of a body that the answer did not wait for: what is small is read and forgotten, so that the connection
//! can go on; else the answer says that it is closed, and it is closed so that the client still gets the answer.
//!
//! To close a connection while data is on its way to us makes the kernel tell the client that the connection was reset,
//! and the client then forgets what it received: the 401 that says what is wrong. So we stop sending and read on for a
//! moment.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// Most that is read and forgotten, bytes: as the original does.
const DRAINED_BYTES_MAX: u64 = 256 << 10;
/// How long it may take.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(500);

/// Says that a connection is to be closed although the client may still be sending.
#[derive(Debug, Clone, Default)]
pub(super) struct Lingers(Arc<AtomicBool>);

impl Lingers {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Where a body goes when nobody reads it any more.
#[derive(Debug, Default)]
pub(super) struct Unread(Arc<Mutex<Option<Left>>>);

/// What nobody read.
#[derive(Debug)]
enum Left {
    /// The rest of a body.
    Rest(Incoming),
    /// A body that the client has not begun to send: it waits to be asked for it.
    NotSent,
}

impl Unread {
    /// A body that comes back here if it is dropped before its end.
    pub(super) fn lend(&self, body: Incoming, headers: &HeaderMap) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        // A client that waits to be asked for its body is not asked for it only to be ignored.
        let waits = headers.contains_key(header::EXPECT);
        Body::new(Lent { body: Some(body), waits, home: Arc::clone(&self.0) })
    }

    /// Reads what is left of the body, or lets the answer say that the connection is closed.
    pub(super) async fn settle(self, response: &mut Response, lingers: &Lingers) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let is_read = match left {
            None => true,
            Some(Left::NotSent) => false,
            // Who did not send it in the time for a body does not do so now.
            Some(Left::Rest(_)) if response.status() == StatusCode::REQUEST_TIMEOUT => false,
            Some(Left::Rest(body)) => timeout(DRAIN_TIME_MAX, drain(body)).await == Ok(true),
        };
        if is_read {
            return;
        }
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        lingers.set();
    }
}

/// Reads a body to its end; false if it is long or broken.
async fn drain(mut body: Incoming) -> bool {
    let mut left = DRAINED_BYTES_MAX;
    loop {
        if body.size_hint().lower() > left {
            return false;
        }
        match body.frame().await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(rest) = left.checked_sub(bytes) else { return false };
                left = rest;
            }
        }
    }
}

/// A body on its way through the layers.
struct Lent {
    /// `None` when it is at its end, or will be read by nobody.
    body: Option<Incoming>,
    /// Nothing of it was asked for yet, and the client sends nothing before.
    waits: bool,
    home: Arc<Mutex<Option<Left>>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if body.is_end_stream() {
            return;
        }
        let left = if self.waits { Left::NotSent } else { Left::Rest(body) };
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
    }
}
