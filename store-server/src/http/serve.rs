//! The accept loop: connections, their number, their time limits, and their end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::counters::Counters;
use super::seats::{Answer, Seat, Seats};
use super::self_waking::SelfWaking;
use super::stall::{StallGuard, StallLimits};
use super::unread::{Lingers, Unread};
use super::{App, Peer, Timeouts};

/// Bytes of an answer that the kernel holds for a client; it takes this twice, for what it adds to them.
const SENT_BYTES_MAX: usize = 256 << 10;

/// How many connections were open when the server was told to stop and did not end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Connections cut after the grace time.
    pub cut: usize,
}

/// Serves `router` on `listener` until `stop` is done; then lets requests under way finish, for the grace time.
///
/// No more than `connections_max` connections are served at a time; one more is open while it waits for its turn, and
/// others wait in the listener's queue. When all are taken, the one that has waited longest for its next request gives
/// way, if that is longer than [`Timeouts::idle_min`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    app: Arc<App>,
    connections_max: usize,
    stop: impl Future<Output = ()>,
) -> Served {
    let (stopping, told) = watch::channel(());
    let seats = Seats::new(connections_max, app.timeouts.idle_min);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    // A connection that was accepted, and waits for a seat.
    let mut waiting = None;
    loop {
        let next = async {
            match waiting {
                None => Next::Accepted(accept(&listener, &app.counters).await),
                // Only somebody who waits makes others give way.
                Some(_) => Next::Seat(seats.take().await),
            }
        };
        let next = tokio::select! {
            () = &mut stop => break,
            next = next => next,
            // Tasks that ended are taken out, or the set would grow for ever.
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match (next, waiting.take()) {
            (Next::Accepted(accepted), _) => waiting = Some(accepted),
            (Next::Seat(seat), Some((stream, peer))) => {
                let connection =
                    connection(stream, peer, seat, router.clone(), Arc::clone(&app), told.clone());
                connections.spawn(async move { SelfWaking::new(pin!(connection)).await });
            }
            (Next::Seat(_), None) => {}
        }
    }
    drop(listener);
    // Dropping the only sender tells all connections, also those that begin to listen later.
    drop(stopping);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(app.timeouts.grace, finished).await.is_err() {
        let cut = connections.len();
        connections.shutdown().await;
        return Served { cut };
    }
    Served { cut: 0 }
}

/// What the accept loop waits for.
enum Next {
    Accepted((TcpStream, SocketAddr)),
    Seat(Seat),
}

/// The next connection.
async fn accept(listener: &TcpListener, counters: &Counters) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                // No descriptors or no memory: it will not get better by trying at once.
                counters.accept_failed();
                tracing::warn!("cannot accept connections: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Whether an error of `accept` says something about the connection that was to be accepted, and not about us.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Keeps what the kernel holds for a slow reader to a part of what it would take by itself: of four megabytes one has to
/// be gone before more can be written, which takes a reader at 2 kB/s ten minutes.
fn limit_what_is_on_its_way(stream: &TcpStream) {
    if let Err(error) = setsockopt(stream, sockopt::SndBuf, &SENT_BYTES_MAX) {
        tracing::debug!("cannot limit what the kernel holds for a client: {error}");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    seat: Seat,
    router: Router,
    app: Arc<App>,
    mut told: watch::Receiver<()>,
) {
    let _open = app.counters.opened();
    // Answers are written whole; waiting for more to send only delays them. An error here shows up at the first read.
    drop(stream.set_nodelay(true));
    limit_what_is_on_its_way(&stream);
    let Timeouts { header, stall, patience, .. } = app.timeouts;
    let lingers = Lingers::default();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let unread = Unread::default();
        let body = unread.lend(body, &parts.headers);
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(Peer(peer));
        let (answering, request_taken) = (router.clone().oneshot(request), seat.request());
        let lingers = &lingers;
        async move {
            let Ok(mut response) = answering.await;
            unread.settle(&mut response, lingers).await;
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, request_taken)))
        }
    });
    let limits = StallLimits { short: stall, long: patience };
    let stream = StallGuard::new(stream, limits, Arc::clone(&app.budget), lingers.clone());
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header)
            // Who has said all and waits for the answer gets it.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
    );
    let told_to_end = async {
        tokio::select! {
            // The channel carries no values: it is done when the sender is gone.
            _ = told.changed() => {}
            () = seat.told_to_give_way() => {}
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_end => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, "connection ended: {error}");
    }
}
