//! The HTTP API: routes, what surrounds them, and what they share.
//!
//! A request passes, from the outside in: the connection's limits ([`serve`]), compression of the answer, errors made
//! JSON, panics made errors, the limit on the body as sent, and the route, which checks the token, reads and
//! decompresses the body, and calls the store: here if that is soon done, else on a thread that may block.
//!
//! **Invariant:** what a request holds is counted in the [`Budget`] before it is there: its body as sent and
//! decompressed, by the room that it takes, what is needed to work on it, and its answer. Only what is soon done on the
//! few threads that serve connections is not, and a dump is counted when it is made, two at a time. So no number of requests can exhaust the process.
//!
//! **Invariant:** bodies that are long when decompressed are decompressed and parsed by no more threads than there are
//! processors, and never by those that serve connections.

mod answer;
mod backend;
mod body;
mod budget;
mod counters;
mod debug;
mod docs;
mod free;
mod healthcheck;
mod params;
mod paths;
mod query;
mod seats;
mod self_waking;
pub mod serve;
mod stall;
mod status;
mod unpack;
mod unread;
mod write;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use store_disk::Clock;
use tokio::sync::Semaphore;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::limit::RequestBodyLimitLayer;

pub use self::answer::ApiError;
pub use self::backend::Store;
pub use self::budget::Budget;
pub use self::counters::{Counters, HttpStatus};
use crate::auth::{Access, Auth, Requester};
use crate::config::Limits;

/// Writes that may be inside the store at once. They wait for the log together, so there may be many.
const WRITES_MAX: usize = 256;
/// Dumps, frees and looks at the counters that may be inside the store at once.
const LOOKS_MAX: usize = 2;
/// Answers below this size are not worth compressing, bytes.
const COMPRESSED_BYTES_MIN: u64 = 1024;
/// Memory for bodies and answers under way, bytes; more if one body may be longer than half of it.
const BUDGET_BYTES: usize = 1 << 30;

/// How long the parts of a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of one request to the end of the next one's headers.
    pub header: Duration,
    /// How long a connection may wait for its next request before it gives way to a new one for which there is no
    /// room.
    pub idle_min: Duration,
    /// Between two pieces of a body.
    pub body_idle: Duration,
    /// For a whole body.
    pub body: Duration,
    /// For the client to take a piece of the answer, where memory for answers is short.
    pub stall: Duration,
    /// The same where it is not: a slow reader holds up nobody.
    pub patience: Duration,
    /// Until a thread is free to work on the request.
    pub queue: Duration,
    /// For the work on an answer, in sum: what waits is not counted.
    pub work: Duration,
    /// How long an answer is worked on before others get their turn.
    pub slice: Duration,
    /// How long an answer is worked on before something of it is sent: so a client that has gone is noticed, and its
    /// work ends.
    pub quiet: Duration,
    /// For running requests when the server stops.
    pub grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(30),
            idle_min: Duration::from_secs(5),
            body_idle: Duration::from_secs(15),
            body: Duration::from_secs(120),
            stall: Duration::from_secs(30),
            patience: Duration::from_secs(600),
            queue: Duration::from_secs(10),
            work: Duration::from_secs(30),
            slice: Duration::from_millis(100),
            quiet: Duration::from_secs(1),
            grace: Duration::from_secs(5),
        }
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
struct Peer(SocketAddr);

/// What all routes share.
#[derive(Debug)]
pub struct App {
    store: Arc<dyn Store>,
    auth: Auth,
    limits: Limits,
    timeouts: Timeouts,
    clock: Arc<dyn Clock>,
    budget: Arc<Budget>,
    counters: Arc<Counters>,
    writes: Arc<Semaphore>,
    /// Bodies that take long, decompressed and parsed: as many as there are processors, so that short ones get theirs.
    long_bodies: Arc<Semaphore>,
    /// Apart from writes, so that no number of large queries keeps samples waiting.
    queries: Arc<Semaphore>,
    /// Queries on threads that serve connections.
    queries_here: Semaphore,
    /// Apart from queries, so that an admin sees what goes on when they are too many.
    looks: Arc<Semaphore>,
    started: Instant,
}

impl App {
    /// What the routes of one server share.
    pub fn new(
        store: Arc<dyn Store>,
        auth: Auth,
        limits: Limits,
        timeouts: Timeouts,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
        let bytes = BUDGET_BYTES.max(limits.decoded_bytes.saturating_mul(2));
        Self {
            store,
            auth,
            limits,
            timeouts,
            clock,
            budget: Arc::new(Budget::new(u64::try_from(bytes).unwrap_or(u64::MAX))),
            counters: Arc::default(),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            long_bodies: Arc::new(Semaphore::new(cpus)),
            queries: Arc::new(Semaphore::new(cpus.max(2))),
            queries_here: Semaphore::new(1),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
            started: Instant::now(),
        }
    }

    /// Checks the token before anything of the body is read.
    fn authorize(&self, access: Access, parts: &axum::http::request::Parts) -> Result<(), ApiError> {
        // Without an address (no socket, as in tests) the request is not from this machine.
        let peer = parts.extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
        let requester = Requester { headers: &parts.headers, peer, target_host: parts.uri.host() };
        self.auth.check(access, requester, self.clock.now_s()).map_err(ApiError::from)
    }

    /// Calls the store on a thread that may block, when one of `slots` is free. The slot is free again when the work is
    /// done, also if nobody waits for it any more.
    async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        slots: impl Fn(&Self) -> &Arc<Semaphore>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let slot = Arc::clone(slots(self)).acquire_owned();
        let Ok(Ok(slot)) = tokio::time::timeout(self.timeouts.queue, slot).await else {
            return Err(ApiError::busy("too many requests are being worked on"));
        };
        let app = Arc::clone(self);
        // A panic was logged by the hook; the client learns that it is not its fault.
        let worked = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            work(&app)
        });
        worked.await.map_err(|_| ApiError::internal())
    }
}

/// Works on the thread that serves the connection.
fn here<T>(work: impl FnOnce() -> T) -> Result<T, ApiError> {
    // A panic was logged by the hook; the client learns that it is not its fault.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| ApiError::internal())
}

/// All routes, each with and without a slash behind it, and for all that lies below.
pub fn router(app: Arc<App>, dev: bool) -> Router {
    let methods_of = |path: &str| -> MethodRouter<Arc<App>> {
        match path {
            "/api/write" => post(write::write),
            "/api/query" => get(query::query).post(query::query),
            "/api/free" => post(free::free),
            "/api/debug" => get(debug::debug),
            "/api/debug/status" => get(status::status),
            "/api/debug/memory" => get(status::memory),
            "/api/healthcheck" => get(healthcheck::healthcheck),
            other => unreachable!("{other} is a route without methods"),
        }
    };
    let mut router = Router::new().route("/", get(docs::landing)).fallback(paths::elsewhere);
    for path in paths::ROUTES {
        let methods = methods_of(path);
        router = router
            .route(path, methods.clone())
            .route(&format!("{path}/"), methods.clone())
            .route(&format!("{path}/{{*below}}"), methods);
    }
    if dev {
        for path in ["/docs", "/docs/", "/swagger", "/swagger/", "/swagger/index.html"] {
            router = router.route(path, get(docs::page));
        }
    }
    let limits = app.limits;
    let counters = Arc::clone(&app.counters);
    let compression = CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN));
    router
        .layer(RequestBodyLimitLayer::new(limits.body_bytes))
        .layer(CatchPanicLayer::new())
        .layer(middleware::map_response(answer::errors_as_json))
        .layer(compression)
        .layer(middleware::map_request(async |request: Request| answer::with_identity(request)))
        .layer(middleware::from_fn(move |request: Request, next: middleware::Next| {
            let counters = Arc::clone(&counters);
            async move {
                let response: Response = next.run(request).await;
                counters.answered(response.status());
                response
            }
        }))
        .with_state(app)
}
