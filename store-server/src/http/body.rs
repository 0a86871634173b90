//! Reads the body of a request, within its limits.

use std::error::Error;
use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use http_body_util::{BodyExt as _, LengthLimitError};
use tokio::time::{Instant, timeout, timeout_at};

use super::budget::Held;
use super::unpack::{Encoding, Unpacked, unpack};
use super::{ApiError, App, here};

/// A body, decompressed, and counted in the budget as long as it lives.
#[derive(Debug)]
pub(super) struct Received {
    bytes: Bytes,
    held: Held,
}

impl Received {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Counts what is needed to work on it.
    ///
    /// # Errors
    /// There is not as much left.
    pub(super) fn count_work(&mut self, bytes: usize) -> Result<(), ApiError> {
        if self.held.grow(bytes) { Ok(()) } else { Err(no_memory()) }
    }
}

/// A body as it was sent.
#[derive(Debug)]
pub(super) struct Sent {
    received: Received,
    encoding: Option<Encoding>,
    /// How long it may be, decompressed.
    bytes_max: usize,
}

/// Longest body that is worked on without calling another thread, decompressed, bytes: some hundred microseconds.
pub(super) const HERE_BYTES_MAX: usize = 256 << 10;

/// Longest compressed body of which that is tried: it may be many members of which each says nothing.
const HERE_PACKED_BYTES_MAX: usize = 64 << 10;

/// Longest list of names (selectors, nodes), bytes.
const LIST_BYTES_MAX: usize = 8 << 20;

/// How many times as much memory a list takes when it is read: `"",` is a text of 24 bytes, and lists double as they grow.
const LIST_TIMES: usize = 24;

/// A body that is [opened](Sent::open_here).
#[derive(Debug)]
pub(super) enum Opened {
    /// No longer than [`HERE_BYTES_MAX`].
    Short(Received),
    /// Longer, or nobody knows.
    Long(Sent),
}

impl Sent {
    /// Decompresses what is soon decompressed.
    ///
    /// # Errors
    /// It is badly compressed, or there is no memory left for it.
    pub(super) fn open_here(self, app: &App) -> Result<Opened, ApiError> {
        let Some(encoding) = self.encoding else {
            let is_short = self.received.bytes.len() <= HERE_BYTES_MAX;
            return Ok(if is_short { Opened::Short(self.received) } else { Opened::Long(self) });
        };
        if self.received.bytes.len() > HERE_PACKED_BYTES_MAX {
            return Ok(Opened::Long(self));
        }
        let bytes_max = self.bytes_max.min(HERE_BYTES_MAX);
        let mut held = app.budget.part();
        match here(|| unpack(&self.received.bytes, encoding, bytes_max, &mut held))?? {
            Unpacked::Whole(bytes) => Ok(Opened::Short(received(app, bytes.into(), held))),
            Unpacked::TooLong => Ok(Opened::Long(self)),
        }
    }

    /// Decompresses it, if it is compressed; on a thread that may block.
    ///
    /// # Errors
    /// It is badly compressed or too long, or there is no memory left for it.
    pub(super) fn open(self, app: &App) -> Result<Received, ApiError> {
        let Some(encoding) = self.encoding else { return Ok(self.received) };
        let mut held = app.budget.part();
        match unpack(&self.received.bytes, encoding, self.bytes_max, &mut held)? {
            Unpacked::Whole(bytes) => Ok(received(app, bytes.into(), held)),
            Unpacked::TooLong => Err(too_long(self.bytes_max)),
        }
    }
}

/// Reads a whole body, and decompresses it.
///
/// # Errors
/// It is too long, too slow, cut off or badly compressed, or there is no memory left for it.
pub(super) async fn read(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Received, ApiError> {
    open(app, receive(app, headers, body).await?).await
}

/// The same for a short list of names.
///
/// # Errors
/// As [`read`].
pub(super) async fn read_list(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Received, ApiError> {
    let bytes_max = app.limits.decoded_bytes.min(LIST_BYTES_MAX);
    let mut list = open(app, receive_up_to(app, headers, body, bytes_max).await?).await?;
    list.count_work(LIST_TIMES * list.bytes.len())?;
    Ok(list)
}

async fn open(app: &Arc<App>, sent: Sent) -> Result<Received, ApiError> {
    match sent.open_here(app)? {
        Opened::Short(received) => Ok(received),
        Opened::Long(plain) if plain.encoding.is_none() => Ok(plain.received),
        Opened::Long(sent) => app.call(|app| &app.long_bodies, move |app| sent.open(app)).await?,
    }
}

/// Reads a whole body as it is sent.
///
/// # Errors
/// It is too long, too slow or cut off, in an encoding that nobody knows, or there is no memory left for it.
pub(super) async fn receive(app: &App, headers: &HeaderMap, body: Body) -> Result<Sent, ApiError> {
    receive_up_to(app, headers, body, app.limits.decoded_bytes).await
}

async fn receive_up_to(
    app: &App,
    headers: &HeaderMap,
    mut body: Body,
    bytes_max: usize,
) -> Result<Sent, ApiError> {
    let encoding = Encoding::of(headers)?;
    let sent_bytes_max = if encoding.is_some() { app.limits.body_bytes } else { bytes_max };
    let deadline = Instant::now() + app.timeouts.body;
    let mut held = app.budget.part();
    let mut pieces = Pieces::default();
    loop {
        let next = timeout_at(deadline, timeout(app.timeouts.body_idle, body.frame())).await;
        let Ok(Ok(frame)) = next else { return Err(ApiError::slow_body()) };
        let Some(frame) = frame else { break };
        let Ok(piece) = frame.map_err(|error| cannot_read(app, &error))?.into_data() else { continue };
        if pieces.len() + piece.len() > sent_bytes_max {
            return Err(too_long(sent_bytes_max));
        }
        if !pieces.push(piece, sent_bytes_max, &mut held) {
            return Err(no_memory());
        }
    }
    let bytes = pieces.into_bytes();
    let received = match encoding {
        None => received(app, bytes, held),
        // It is counted when it is decompressed.
        Some(_) => Received { bytes, held },
    };
    Ok(Sent { received, encoding, bytes_max })
}

fn received(app: &App, bytes: Bytes, held: Held) -> Received {
    app.counters.received(bytes.len());
    Received { bytes, held }
}

fn too_long(bytes_max: usize) -> ApiError {
    ApiError::too_large(format!("the body is longer than {bytes_max} bytes"))
}

fn no_memory() -> ApiError {
    ApiError::busy("no memory left for bodies")
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

    /// Takes one more of a body of no more than `bytes_max` bytes; false if there is no memory left for it.
    fn push(&mut self, piece: Bytes, bytes_max: usize, held: &mut Held) -> bool {
        if self.first.is_empty() && self.all.is_empty() {
            if !held.grow(piece.len()) {
                return false;
            }
            self.first = piece;
            return true;
        }
        if !make_room(&mut self.all, self.first.len() + piece.len(), bytes_max, held) {
            return false;
        }
        let first = std::mem::take(&mut self.first);
        self.all.extend_from_slice(&first);
        self.all.extend_from_slice(&piece);
        held.shrink(first.len());
        true
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.into() }
    }
}

/// Makes room for `more` bytes behind those of a body, which has no more than `bytes_max` in the end; false if there is no
/// memory left.
///
/// What is counted is the room, not what lies in it, and the new one before the old one is given back: they are there at
/// once.
pub(super) fn make_room(bytes: &mut Vec<u8>, more: usize, bytes_max: usize, held: &mut Held) -> bool {
    let (needed, old) = (bytes.len() + more, bytes.capacity());
    if needed <= old {
        return true;
    }
    let new = old.saturating_mul(2).min(bytes_max).max(needed);
    if !held.grow(new) {
        return false;
    }
    let mut grown = Vec::with_capacity(new);
    grown.extend_from_slice(bytes);
    *bytes = grown;
    held.shrink(old);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::budget::Budget;

    #[test]
    fn the_room_for_a_body_is_counted_and_not_what_lies_in_it() {
        let budget = Arc::new(Budget::new(1 << 20));
        let (mut held, mut pieces) = (budget.part(), Pieces::default());
        for n in 1..=100_usize {
            assert!(pieces.push(Bytes::from(vec![b'x'; 1000]), 120_000, &mut held));
            let room = if n == 1 { 1000 } else { pieces.all.capacity() };
            assert_eq!(budget.held_bytes(), room as u64, "after {n} pieces");
            assert!(room <= 120_000);
        }
        assert_eq!(pieces.into_bytes().len(), 100_000);
    }

    #[test]
    fn the_old_room_is_counted_beside_the_new_one() {
        // It grows from 64,000 to 120,000.
        let budget = Arc::new(Budget::new(64_000 + 120_000 - 1));
        let (mut held, mut bytes) = (budget.part(), Vec::new());
        assert!(make_room(&mut bytes, 64_000, 120_000, &mut held));
        bytes.resize(64_000, b'x');
        assert!(!make_room(&mut bytes, 1, 120_000, &mut held));
        assert_eq!((bytes.len(), budget.held_bytes()), (64_000, 64_000));
        assert!(make_room(&mut bytes, 1, 119_999, &mut held));
        assert_eq!(budget.held_bytes(), 119_999);
    }
}
