//! The accept loop: connections, their number, their time limits, and their end.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::counters::Counters;
use super::self_waking::SelfWaking;
use super::stall::StallGuard;
use super::{App, Peer, Timeouts};

/// How many connections were open when the server was told to stop and did not end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Connections cut after the grace time.
    pub cut: usize,
}

/// Serves `router` on `listener` until `stop` is done; then lets requests under way finish, for the grace time.
///
/// No more than `connections_max` connections are open at a time; more wait in the listener's queue.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    app: Arc<App>,
    connections_max: usize,
    stop: impl Future<Output = ()>,
) -> Served {
    let (stopping, told) = watch::channel(());
    let slots = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &slots, &app.counters) => accepted,
            // Tasks that ended are taken out, or the set would grow for ever.
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let (stream, peer, slot) = accepted;
        let connection = connection(stream, peer, router.clone(), Arc::clone(&app), told.clone());
        connections.spawn(async move {
            SelfWaking::new(pin!(connection)).await;
            drop(slot);
        });
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

/// The next connection, when there is room for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    counters: &Counters,
) -> (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
            // The semaphore is never closed.
            std::future::pending::<()>().await;
            continue;
        };
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
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

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    app: Arc<App>,
    mut told: watch::Receiver<()>,
) {
    let _open = app.counters.opened();
    // Answers are written whole; waiting for more to send only delays them. An error here shows up at the first read.
    drop(stream.set_nodelay(true));
    let Timeouts { header, stall, .. } = app.timeouts;
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request)
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header)
            // Who has said all and waits for the answer gets it.
            .half_close(true)
            .serve_connection(TokioIo::new(StallGuard::new(stream, stall)), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // The channel carries no values: it is done when the sender is gone.
        _ = told.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, "connection ended: {error}");
    }
}
