//! `GET` or `POST /api/query`: series as JSON.
//!
//! One query is one or several selections; the outer list of the answer has an entry per query, the inner one an entry
//! per selection that exists. What goes wrong with a selection is said in its place, so that the others still count.
//!
//! A short answer is made whole. Of a long one no more is made than is being sent: when the client has taken a piece,
//! the next one is made. Nobody's thread waits for a client meanwhile, and no lock is held.

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
use self::walk::Walk;
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

/// Answers with `{"queries", "results"}`.
pub(super) async fn query(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    app.authorize(Access::Use, &parts)?;
    let body = body::read(&app, &parts.headers, body).await?;
    let begun = match begin_here(&app, &body)? {
        Some((making, true)) => return making.respond(app, true),
        Some((making, false)) => Some(making.into_owned()),
        None => None,
    };
    let shared = Arc::clone(&app);
    app.call(
        |app| &app.queries,
        move |app| {
            let mut making = match begun {
                Some(begun) => begun,
                None => Making::begin(app, body.bytes())?,
            };
            // While hosts are still to be loaded, the last selection may say that there is no answer.
            let is_ready = app.store.ready();
            let is_done = making.go_on(app, |bytes| is_ready && bytes >= WHOLE_BYTES_MAX)?;
            making.respond(shared, is_done)
        },
    )
    .await?
}

/// Makes the answer, or the beginning of one that takes long, on this thread; says whether it is whole.
///
/// To wake another thread and be woken by it costs as much as a common query. Only one at a time: it may wait for a
/// disk if what it reads was not used for long.
fn begin_here<'r>(app: &App, body: &'r Received) -> Result<Option<(Making<'r>, bool)>, ApiError> {
    if body.bytes().len() > HERE_BYTES_MAX || !app.store.ready() {
        return Ok(None);
    }
    let Ok(_slot) = app.queries_here.try_acquire() else { return Ok(None) };
    here(|| {
        let deadline = Instant::now() + HERE_TIME_MAX;
        let mut making = Making::begin(app, body.bytes())?;
        if making.paths_bytes > HERE_BYTES_MAX {
            return Ok(Some((making, false)));
        }
        let is_done = making.go_on(app, |bytes| bytes >= WHOLE_BYTES_MAX || Instant::now() >= deadline)?;
        // It may have to wait for a thread.
        making.count_text()?;
        Ok(Some((making, is_done)))
    })?
}

/// An answer that is being made.
struct Making<'r> {
    walk: Walk<'r>,
    held: Held,
    /// Bytes that the [`paths`] of one query take at most.
    paths_bytes: usize,
    /// Bytes of the answer that are counted in `held`.
    text_bytes: usize,
}

impl<'r> Making<'r> {
    fn begin(app: &App, body: &'r [u8]) -> Result<Self, ApiError> {
        let mut held = app.budget.part();
        let bytes = request::memory_bytes(body);
        if bytes > REQUEST_BYTES_MAX {
            return Err(ApiError::too_large("too many queries in one request"));
        }
        if !held.grow(bytes) {
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
        Ok(Self { walk, held, paths_bytes, text_bytes: 0 })
    }

    fn go_on(&mut self, app: &App, is_enough: impl Fn(usize) -> bool) -> Result<bool, ApiError> {
        self.walk.go_on(app.store.as_ref(), is_enough)
    }

    /// Counts what is made so far in the budget.
    fn count_text(&mut self) -> Result<(), ApiError> {
        let bytes = self.walk.text_bytes();
        if !self.held.grow(bytes.saturating_sub(self.text_bytes)) {
            return Err(ApiError::busy("no memory left for answers"));
        }
        self.text_bytes = bytes.max(self.text_bytes);
        Ok(())
    }

    fn into_owned(self) -> Making<'static> {
        let Self { walk, held, paths_bytes, text_bytes } = self;
        Making { walk: walk.into_owned(), held, paths_bytes, text_bytes }
    }

    /// What is made so far, and the rest as the client takes it.
    fn respond(mut self, app: Arc<App>, is_done: bool) -> Result<Response, ApiError> {
        self.count_text()?;
        let text = self.walk.take();
        if is_done {
            return Ok(counted_json(text, self.held));
        }
        Ok(streamed_json(Streamed::new(app, self.walk.into_owned(), text, self.held)))
    }
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
