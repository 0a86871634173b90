//! Reads the body of a request, within its limits.

use std::error::Error;
use std::io;

use axum::body::{Body, Bytes};
use http_body_util::{BodyExt as _, LengthLimitError};
use tokio::time::{Instant, timeout, timeout_at};

use super::budget::Held;
use super::{ApiError, App};

/// A body, counted in the budget as long as it lives.
#[derive(Debug)]
pub(super) struct Received {
    bytes: Bytes,
    _held: Held,
}

impl Received {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Longest list of names (selectors, nodes), bytes: in memory it takes about eight times as much.
const LIST_BYTES_MAX: usize = 8 << 20;

/// Reads a whole body, already decompressed by the layers around the route.
///
/// # Errors
/// It is too long, too slow, cut off or badly compressed, or there is no memory left for it.
pub(super) async fn read(app: &App, body: Body) -> Result<Received, ApiError> {
    read_up_to(app, body, app.limits.decoded_bytes).await
}

/// The same for a short list of names.
///
/// # Errors
/// As [`read`].
pub(super) async fn read_list(app: &App, body: Body) -> Result<Received, ApiError> {
    read_up_to(app, body, app.limits.decoded_bytes.min(LIST_BYTES_MAX)).await
}

async fn read_up_to(app: &App, mut body: Body, bytes_max: usize) -> Result<Received, ApiError> {
    let deadline = Instant::now() + app.timeouts.body;
    let mut held = app.budget.part();
    let mut pieces = Pieces::default();
    loop {
        let next = timeout_at(deadline, timeout(app.timeouts.body_idle, body.frame())).await;
        let Ok(Ok(frame)) = next else { return Err(ApiError::slow_body()) };
        let Some(frame) = frame else { break };
        let Ok(piece) = frame.map_err(|error| cannot_read(app, &error))?.into_data() else { continue };
        if pieces.len() + piece.len() > bytes_max {
            return Err(ApiError::too_large(format!("the body is longer than {bytes_max} bytes")));
        }
        if !held.grow(piece.len()) {
            return Err(ApiError::busy("no memory left for bodies"));
        }
        pieces.push(piece);
    }
    let bytes = pieces.into_bytes();
    app.counters.received(bytes.len());
    Ok(Received { bytes, _held: held })
}

fn cannot_read(app: &App, error: &axum::Error) -> ApiError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            let bytes_max = app.limits.body_bytes;
            return ApiError::too_large(format!("the body is longer than {bytes_max} bytes as sent"));
        }
        last = error.to_string();
        cause = cause_of(error);
    }
    ApiError::bad_request(format!("cannot read the body: {last}"))
}

/// What an error came from. The `source` of an I/O error passes over what it was made from.
fn cause_of<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// What has come so far: nearly always one piece, which is then never copied.
#[derive(Default)]
struct Pieces {
    first: Bytes,
    all: Vec<u8>,
}

impl Pieces {
    fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() && self.all.is_empty() {
            self.first = piece;
            return;
        }
        if self.all.is_empty() {
            self.all.reserve(self.first.len() + piece.len());
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&piece);
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.into() }
    }
}
