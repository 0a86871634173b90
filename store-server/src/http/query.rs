//! `GET` or `POST /api/query`: series as JSON.
//!
//! One query is one or several selections; the outer list of the answer has an entry per query, the inner one an entry
//! per selection that exists. What goes wrong with a selection is said in its place, so that the others still count.
//!
//! A short answer is made whole. Of a long one no more is made than is being sent: when the client has taken a piece,
//! the next one is made. Nobody's thread waits for a client meanwhile, and no lock is held.
//!
//! Work is done in slices, in turns with other queries, and its sum has an end. Of an answer that takes long something is
//! sent now and then, if it is only a space: so it turns out that the client has gone, and then the work ends.

mod print;
mod request;
mod stream;
mod walk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::response::Response;

use self::request::{Query, QueryRequest};
use self::stream::{Streamed, streamed_json};
use self::walk::{Left, Pace, Walk};
use super::answer::counted_json;
use super::body::{self, Received};
use super::budget::Held;
use super::{ApiError, App, here};
use crate::auth::Access;
use crate::engine::PathElement;

/// Most selections in one request: what 10,000 hosts have in 100 metrics.
const SELECTIONS_MAX: usize = 1_000_000;
/// Most memory that a request may take when it is read, bytes.
const REQUEST_BYTES_MAX: usize = 256 << 20;
/// An answer longer than about this is sent while the rest of it is made, bytes.
const WHOLE_BYTES_MAX: usize = 1 << 20;

/// Longest request that is begun without calling another thread, and most that the [`paths`] of one of its queries
/// take, bytes.
const HERE_BYTES_MAX: usize = 128 << 10;
/// How long an answer is made without calling another thread; the selection that takes it beyond that is ended.
const HERE_TIME_MAX: Duration = Duration::from_millis(1);
/// Values of single series that a selection may read without calling another thread: some milliseconds.
const HERE_CELLS_MAX: u64 = 1 << 20;

/// Answers with `{"queries", "results"}`.
pub(super) async fn query(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    app.authorize(Access::Use, &parts)?;
    let body = body::read(&app, &parts.headers, body).await?;
    let mut made = match begin_here(&app, &body)? {
        Some((making, Left::AtEnd | Left::Enough)) => return making.respond(&app),
        Some((making, Left::Late | Left::Heavy)) => Made::Part(Box::new(making.into_owned())),
        None => {
            let shared = Arc::clone(&app);
            app.call(|app| &app.queries, move |_| Making::begin(&shared, body.bytes())?.slice(&shared))
                .await??
        }
    };
    loop {
        let making = match made {
            Made::Answer(response) => return Ok(response),
            Made::Part(making) => making,
        };
        let shared = Arc::clone(&app);
        // In turns with others, however long it takes.
        made = app.call(|app| &app.queries, move |_| making.slice(&shared)).await??;
    }
}

/// Makes the answer, or the beginning of one that takes long, on this thread; says where it was left.
///
/// To wake another thread and be woken by it costs as much as a common query. Only one at a time: it may wait for a
/// disk if what it reads was not used for long.
fn begin_here<'r>(app: &App, body: &'r Received) -> Result<Option<(Making<'r>, Left)>, ApiError> {
    if body.bytes().len() > HERE_BYTES_MAX || !app.store.ready() {
        return Ok(None);
    }
    let Ok(_slot) = app.queries_here.try_acquire() else { return Ok(None) };
    here(|| {
        let until = Instant::now() + HERE_TIME_MAX;
        let mut making = Making::begin(app, body.bytes())?;
        if making.paths_bytes > HERE_BYTES_MAX {
            return Ok(Some((making, Left::Heavy)));
        }
        let left = making.go_on(app, Pace { bytes: WHOLE_BYTES_MAX, until, cells_max: HERE_CELLS_MAX })?;
        Ok(Some((making, left)))
    })?
}

/// What became of an answer when it was worked on.
enum Made {
    /// It is whole, or long enough to be sent while the rest of it is made.
    Answer(Response),
    Part(Box<Making<'static>>),
}

/// An answer that is being made.
struct Making<'r> {
    walk: Walk<'r>,
    held: Held,
    /// Bytes that the [`paths`] of one query take at most.
    paths_bytes: usize,
    /// Bytes of the answer that are counted in `held`.
    text_bytes: usize,
    /// Whether it is whole.
    is_done: bool,
}

impl<'r> Making<'r> {
    fn begin(app: &App, body: &'r [u8]) -> Result<Self, ApiError> {
        let mut held = app.budget.part();
        let bytes = request::memory_bytes(body);
        if bytes > REQUEST_BYTES_MAX {
            return Err(ApiError::too_large("too many queries in one request"));
        }
        // The body may go before the request does, which then has all names itself.
        if !held.grow(bytes.saturating_add(body.len())) {
            return Err(ApiError::busy("no memory left for queries"));
        }
        let request = QueryRequest::parse(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
        let walk = Walk::begin(app.store.as_ref(), request, app.limits.points)?;
        let paths_bytes = walk.paths_bytes();
        if paths_bytes > REQUEST_BYTES_MAX {
            return Err(ApiError::too_large("too many selections, or names too long, in one query"));
        }
        if !held.grow(paths_bytes) {
            return Err(ApiError::busy("no memory left for queries"));
        }
        Ok(Self { walk, held, paths_bytes, text_bytes: 0, is_done: false })
    }

    /// Goes on at this pace, and counts what is made so far in the budget.
    fn go_on(&mut self, app: &App, pace: Pace) -> Result<Left, ApiError> {
        let left = self.walk.go_on(app.store.as_ref(), &mut self.held, pace)?;
        self.is_done |= left == Left::AtEnd;
        if left != Left::AtEnd && self.walk.worked() >= app.timeouts.work {
            return Err(too_much_work(app));
        }
        let bytes = self.walk.text_bytes();
        if !self.held.grow(bytes.saturating_sub(self.text_bytes)) {
            return Err(ApiError::busy("no memory left for answers"));
        }
        self.text_bytes = bytes.max(self.text_bytes);
        Ok(left)
    }

    /// Works on the answer for a moment.
    fn slice(mut self, app: &Arc<App>) -> Result<Made, ApiError> {
        // While hosts are still to be loaded, the last selection may say that there is no answer.
        let is_ready = app.store.ready();
        let bytes = if is_ready { WHOLE_BYTES_MAX } else { usize::MAX };
        let left = self.go_on(app, Pace::slice(bytes, app.timeouts.slice))?;
        let is_long = is_ready && (left == Left::Enough || self.walk.worked() >= app.timeouts.quiet);
        if left == Left::AtEnd || is_long {
            return self.respond(app).map(Made::Answer);
        }
        Ok(Made::Part(Box::new(self.into_owned())))
    }

    fn into_owned(self) -> Making<'static> {
        let Self { walk, held, paths_bytes, text_bytes, is_done } = self;
        Making { walk: walk.into_owned(), held, paths_bytes, text_bytes, is_done }
    }

    /// What is made so far, and the rest as the client takes it.
    fn respond(mut self, app: &Arc<App>) -> Result<Response, ApiError> {
        let text = self.walk.take();
        if self.is_done {
            return Ok(counted_json(text, self.held));
        }
        Ok(streamed_json(Streamed::new(Arc::clone(app), self.walk.into_owned(), text, self.held)))
    }
}

/// 400: the answer takes more work than any may.
fn too_much_work(app: &App) -> ApiError {
    let work = app.timeouts.work;
    ApiError::bad_request(format!("the answer takes more than {work:?} of work: ask for less at a time"))
}

/// How many [`paths`] a query has.
fn selections(query: &Query<'_>) -> usize {
    match (query.type_.is_none() || query.aggregate, query.subtype.is_some()) {
        (true, _) => 1,
        (false, false) => query.type_ids.len(),
        (false, true) => query.type_ids.len().saturating_mul(query.subtype_ids.len()),
    }
}

/// Bytes that the [`paths`] of a query take, at most: names are not bounded, and each is written out for each
/// selection.
fn paths_bytes(query: &Query<'_>) -> usize {
    let Some(kind) = query.type_.as_deref() else { return 0 };
    // With what the allocator keeps of each.
    let names = |kind: &str, ids: &[request::Text<'_>]| {
        let each = kind.len() + 2 * size_of::<PathElement>();
        ids.iter().map(|id| id.len() + each).fold(0, usize::saturating_add)
    };
    let here = names(kind, &query.type_ids);
    let below = query.subtype.as_deref().map_or(0, |subtype| names(subtype, &query.subtype_ids));
    if query.aggregate || query.subtype.is_none() {
        return here.saturating_add(below).saturating_add(selections(query).saturating_mul(64));
    }
    let each_below = here.saturating_mul(query.subtype_ids.len());
    let each_here = below.saturating_mul(query.type_ids.len());
    each_below.saturating_add(each_here).saturating_add(selections(query).saturating_mul(64))
}

/// Whether both queries have the same [`paths`].
fn have_same_paths(a: &Query<'_>, b: &Query<'_>) -> bool {
    a.type_.is_none() && b.type_.is_none()
        || (a.aggregate, &a.type_, &a.type_ids, &a.subtype, &a.subtype_ids)
            == (b.aggregate, &b.type_, &b.type_ids, &b.subtype, &b.subtype_ids)
}

/// The selections of a query, below its host.
fn paths(query: &Query<'_>) -> Vec<Vec<PathElement>> {
    let Some(kind) = query.type_.as_deref() else { return vec![Vec::new()] };
    let name = |kind: &str, id: &str| -> Box<str> { [kind, id].concat().into() };
    let subtype = query.subtype.as_deref();
    if query.aggregate {
        let element = |kind: &str, ids: &[request::Text<'_>]| match ids {
            [id] => PathElement::Exact(name(kind, id)),
            ids => {
                let mut names: Vec<Box<str>> = ids.iter().map(|id| name(kind, id)).collect();
                names.sort_unstable();
                PathElement::Group(names)
            }
        };
        let mut path = vec![element(kind, &query.type_ids)];
        path.extend(subtype.map(|subtype| element(subtype, &query.subtype_ids)));
        return vec![path];
    }
    let mut paths = Vec::with_capacity(query.type_ids.len());
    for id in &query.type_ids {
        let component = PathElement::Exact(name(kind, id));
        match subtype {
            None => paths.push(vec![component]),
            Some(subtype) => paths.extend(
                query
                    .subtype_ids
                    .iter()
                    .map(|sub_id| vec![component.clone(), PathElement::Exact(name(subtype, sub_id))]),
            ),
        }
    }
    paths
}
