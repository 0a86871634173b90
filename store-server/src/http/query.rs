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

use axum::extract::{Request, State};
use axum::response::Response;

use self::request::{Query, QueryRequest};
use self::stream::{Streamed, streamed_json};
use self::walk::Walk;
use super::answer::counted_json;
use super::{ApiError, App, body};
use crate::auth::Access;
use crate::engine::PathElement;

/// Most selections in one request: what 10,000 hosts have in 100 metrics.
const SELECTIONS_MAX: usize = 1_000_000;
/// Most memory that a request may take when it is read, bytes.
const REQUEST_BYTES_MAX: usize = 256 << 20;
/// An answer longer than about this is sent while the rest of it is made, bytes.
const WHOLE_BYTES_MAX: usize = 1 << 20;

/// Answers with `{"queries", "results"}`.
pub(super) async fn query(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    app.authorize(Access::Use, &parts)?;
    let body = body::read(&app, body).await?;
    let shared = Arc::clone(&app);
    app.call(
        |app| &app.queries,
        move |app| {
            let mut held = app.budget.part();
            let bytes = request::memory_bytes(body.bytes());
            if bytes > REQUEST_BYTES_MAX {
                return Err(ApiError::too_large("too many queries in one request"));
            }
            if !held.grow(bytes) {
                return Err(ApiError::busy("no memory left for queries"));
            }
            let request = QueryRequest::parse(body.bytes())
                .map_err(|error| ApiError::bad_request(error.to_string()))?;
            let store = app.store.as_ref();
            let mut walk = Walk::begin(store, request, app.limits.points)?;
            // While hosts are still to be loaded, the last selection may say that there is no answer.
            let is_done = walk.go_on(store, if store.ready() { WHOLE_BYTES_MAX } else { usize::MAX })?;
            let text = walk.take();
            if !held.grow(text.capacity()) {
                return Err(ApiError::busy("no memory left for answers"));
            }
            if is_done {
                return Ok(counted_json(text, held));
            }
            Ok(streamed_json(Streamed::new(shared, walk.into_owned(), text, held)))
        },
    )
    .await?
}

/// How many [`paths`] a query has.
fn selections(query: &Query<'_>) -> usize {
    match (query.type_.is_none() || query.aggregate, query.subtype.is_some()) {
        (true, _) => 1,
        (false, false) => query.type_ids.len(),
        (false, true) => query.type_ids.len().saturating_mul(query.subtype_ids.len()),
    }
}

/// The selections of a query, below its host.
fn paths(query: &Query<'_>) -> Vec<Vec<PathElement>> {
    let Some(kind) = query.type_.as_deref() else { return vec![Vec::new()] };
    let name = |kind: &str, id: &str| -> Box<str> { [kind, id].concat().into() };
    let subtype = query.subtype.as_deref();
    if query.aggregate {
        let element = |kind: &str, ids: &[request::Text<'_>]| match ids {
            [id] => PathElement::Exact(name(kind, id)),
            ids => PathElement::Group(ids.iter().map(|id| name(kind, id)).collect()),
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
