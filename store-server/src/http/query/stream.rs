//! [`Streamed`]: the body of a long answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Frame;

use super::too_much_work;
use super::walk::{Left, Pace, Walk};
use crate::http::answer::{APPLICATION_JSON, next_piece};
use crate::http::budget::Held;
use crate::http::{ApiError, App};

/// How much is made at a time, bytes.
const MADE_BYTES: usize = 256 << 10;

type Making = Pin<Box<dyn Future<Output = Result<(Box<Walk<'static>>, Held, bool), ApiError>> + Send>>;

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
    /// The part of the budget; with the walk while a piece is made.
    held: Option<Held>,
    /// Bytes of the longest piece so far, which `held` has.
    held_bytes: usize,
}

impl Streamed {
    /// The answer that begins with `text`, which is counted in `held`.
    pub(super) fn new(app: Arc<App>, walk: Walk<'static>, text: Vec<u8>, held: Held) -> Self {
        let held_bytes = text.capacity();
        let rest = Rest::Waiting(Box::new(walk));
        Self { app, text: text.into(), rest, held: Some(held), held_bytes }
    }

    fn make(&mut self, walk: Box<Walk<'static>>) -> Making {
        let held = self.held.take().unwrap_or_else(|| self.app.budget.part());
        Box::pin(make(Arc::clone(&self.app), walk, held))
    }

    fn made(
        &mut self,
        (mut walk, mut held, is_done): (Box<Walk<'static>>, Held, bool),
    ) -> Result<(), ApiError> {
        let text = walk.take();
        let more = text.capacity().saturating_sub(self.held_bytes);
        if !held.grow(more) {
            return Err(ApiError::busy("no memory left for answers"));
        }
        self.held_bytes += more;
        self.held = Some(held);
        self.text = text.into();
        self.rest = if is_done { Rest::Nothing } else { Rest::Waiting(walk) };
        Ok(())
    }
}

/// Makes the next piece, in slices. One that takes long is shorter, and if there is nothing of it yet it is a space: the
/// client may have gone.
async fn make(
    app: Arc<App>,
    mut walk: Box<Walk<'static>>,
    mut held: Held,
) -> Result<(Box<Walk<'static>>, Held, bool), ApiError> {
    let quiet_until = walk.worked() + app.timeouts.quiet;
    loop {
        let slice = move |app: &App| {
            let left =
                walk.go_on(app.store.as_ref(), &mut held, Pace::slice(MADE_BYTES, app.timeouts.slice))?;
            Ok::<_, ApiError>((walk, held, left))
        };
        let left;
        (walk, held, left) = app.call(|app| &app.queries, slice).await??;
        match left {
            Left::AtEnd => return Ok((walk, held, true)),
            _ if walk.worked() >= app.timeouts.work => return Err(too_much_work(&app)),
            Left::Enough => return Ok((walk, held, false)),
            Left::Late | Left::Heavy if walk.worked() >= quiet_until => {
                walk.space();
                return Ok((walk, held, false));
            }
            Left::Late | Left::Heavy => {}
        }
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
                Rest::Waiting(walk) => {
                    let making = self.make(walk);
                    self.rest = Rest::Making(making);
                }
                Rest::Making(mut making) => {
                    let Poll::Ready(made) = making.as_mut().poll(cx) else {
                        self.rest = Rest::Making(making);
                        return Poll::Pending;
                    };
                    // The status is sent already: all that is left is to break off, so that nobody takes a part for
                    // the whole.
                    if let Err(error) = made.and_then(|made| self.made(made)) {
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
