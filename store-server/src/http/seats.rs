//! [`Seats`]: how many connections may be open, and which one gives way when there is no room for the next.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// In place of a time: the connection works on a request, or was told to give way.
const NOT_IDLE: u64 = u64::MAX;

/// Seats for connections.
///
/// A connection that has waited for its next request for long gives way to a new one when all seats are taken: the
/// one that has waited longest. Nobody loses a request by it, since collectors open a new connection when an idle one
/// was closed. Without it a few thousand forgotten connections would keep everybody else out.
#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    /// How long a connection must have waited before it gives way.
    idle_min: Duration,
    begin: Instant,
    /// Held for look-ups only.
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_number: HashMap<u64, Arc<Idle>>,
    next: u64,
}

/// What others may know of a connection.
#[derive(Debug)]
struct Idle {
    /// Milliseconds after `begin`.
    since_ms: AtomicU64,
    give_way: Notify,
}

/// A seat that is taken. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    idle: Arc<Idle>,
    _permit: OwnedSemaphorePermit,
}

/// A request that is worked on, until its answer was handed over to the connection as a whole.
#[derive(Debug)]
pub(super) struct Request {
    begin: Instant,
    idle: Arc<Idle>,
}

impl Seats {
    /// So many seats; who has waited for `idle_min` may be told to give way.
    pub(super) fn new(count: usize, idle_min: Duration) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(count));
        Arc::new(Self { free, idle_min, begin: Instant::now(), taken: Mutex::default() })
    }

    /// The next seat, as soon as one is free. Tells connections to give way while none is.
    pub(super) async fn take(self: &Arc<Self>) -> Seat {
        loop {
            let wait = match Arc::clone(&self.free).try_acquire_owned() {
                Ok(permit) => return self.seated(permit),
                Err(_) => self.make_room(),
            };
            let free = Arc::clone(&self.free).acquire_owned();
            if let Ok(Ok(permit)) = tokio::time::timeout(wait, free).await {
                return self.seated(permit);
            }
        }
    }

    fn seated(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Seat {
        let idle = Arc::new(Idle { since_ms: AtomicU64::new(ms_since(self.begin)), give_way: Notify::new() });
        let mut taken = self.taken();
        let number = taken.next;
        taken.next += 1;
        taken.by_number.insert(number, Arc::clone(&idle));
        drop(taken);
        Seat { seats: Arc::clone(self), number, idle, _permit: permit }
    }

    /// Tells the connection that has waited longest to give way, if it has waited long enough. Returns how long it is
    /// worth waiting before the next look.
    fn make_room(&self) -> Duration {
        let taken = self.taken();
        let longest = taken.by_number.values().min_by_key(|idle| idle.since_ms.load(Ordering::Relaxed));
        let Some(longest) = longest else { return self.idle_min };
        let since_ms = longest.since_ms.load(Ordering::Relaxed);
        if since_ms == NOT_IDLE {
            return self.idle_min;
        }
        let waited = Duration::from_millis(ms_since(self.begin).saturating_sub(since_ms));
        if waited < self.idle_min {
            return self.idle_min - waited;
        }
        // A request that came meanwhile is answered before the connection ends.
        longest.since_ms.store(NOT_IDLE, Ordering::Relaxed);
        longest.give_way.notify_one();
        self.idle_min
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Done when the connection is to end as soon as it has answered what it works on.
    pub(super) async fn told_to_give_way(&self) {
        self.idle.give_way.notified().await;
    }

    /// Says that a request has come.
    pub(super) fn request(&self) -> Request {
        self.idle.since_ms.store(NOT_IDLE, Ordering::Relaxed);
        Request { begin: self.seats.begin, idle: Arc::clone(&self.idle) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().by_number.remove(&self.number);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.idle.since_ms.store(ms_since(self.begin), Ordering::Relaxed);
    }
}

/// The body of an answer, with the request that it answers.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    _request: Request,
}

impl Answer {
    pub(super) fn new(body: Body, request: Request) -> Self {
        Self { body, _request: request }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn ms_since(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_millis()).unwrap_or(NOT_IDLE - 1)
}
