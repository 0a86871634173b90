//! [`Streamed`]: the body of a long answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Frame;

use super::walk::Walk;
use crate::http::answer::{APPLICATION_JSON, next_piece};
use crate::http::budget::Held;
use crate::http::{ApiError, App};

/// How much is made at a time, bytes.
const MADE_BYTES: usize = 256 << 10;

type Making = Pin<Box<dyn Future<Output = Result<(Box<Walk<'static>>, bool), ApiError>> + Send>>;

/// What is still to be made.
enum Rest {
    Waiting(Box<Walk<'static>>),
    Making(Making),
    Nothing,
}

/// A body of which a piece is made when the one before is taken.
///
/// Made on demand rather than by a thread that goes ahead and waits: threads that query are few, and clients that
/// read slowly would hold them.
pub(super) struct Streamed {
    app: Arc<App>,
    text: Bytes,
    rest: Rest,
    held: Held,
    /// Bytes of the longest piece so far, which `held` has.
    held_bytes: usize,
}

impl Streamed {
    /// The answer that begins with `text`, which is counted in `held`.
    pub(super) fn new(app: Arc<App>, walk: Walk<'static>, text: Vec<u8>, held: Held) -> Self {
        let held_bytes = text.capacity();
        Self { app, text: text.into(), rest: Rest::Waiting(Box::new(walk)), held, held_bytes }
    }

    fn make(&self, mut walk: Box<Walk<'static>>) -> Making {
        let app = Arc::clone(&self.app);
        Box::pin(async move {
            let go_on = move |app: &App| {
                let is_done = walk.go_on(app.store.as_ref(), |bytes| bytes >= MADE_BYTES)?;
                Ok((walk, is_done))
            };
            app.call(|app| &app.queries, go_on).await?
        })
    }

    fn made(&mut self, mut walk: Box<Walk<'static>>, is_done: bool) -> Result<(), ApiError> {
        let text = walk.take();
        let more = text.capacity().saturating_sub(self.held_bytes);
        if !self.held.grow(more) {
            return Err(ApiError::busy("no memory left for answers"));
        }
        self.held_bytes += more;
        self.text = text.into();
        self.rest = if is_done { Rest::Nothing } else { Rest::Waiting(walk) };
        Ok(())
    }
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(piece) = next_piece(&mut self.text) {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match std::mem::replace(&mut self.rest, Rest::Nothing) {
                Rest::Nothing => return Poll::Ready(None),
                Rest::Waiting(walk) => self.rest = Rest::Making(self.make(walk)),
                Rest::Making(mut making) => {
                    let Poll::Ready(made) = making.as_mut().poll(cx) else {
                        self.rest = Rest::Making(making);
                        return Poll::Pending;
                    };
                    // The status is sent already: all that is left is to break off, so that nobody takes a part for
                    // the whole.
                    if let Err(error) = made.and_then(|(walk, is_done)| self.made(walk, is_done)) {
                        tracing::warn!("an answer was broken off: {}", error.text());
                        return Poll::Ready(Some(Err(io::Error::other(error.text().to_owned()))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty() && matches!(self.rest, Rest::Nothing)
    }
}

/// An answer of JSON whose length nobody knows yet.
pub(super) fn streamed_json(body: Streamed) -> Response {
    ([(axum::http::header::CONTENT_TYPE, APPLICATION_JSON)], Body::new(body)).into_response()
}
