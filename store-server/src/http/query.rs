//! `GET` or `POST /api/query`: series as JSON.
//!
//! One query is one or several selections; the outer list of the answer has an entry per query, the inner one an entry
//! per selection that exists. What goes wrong with a selection is said in its place, so that the others still count.

mod print;
mod request;

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use self::print::{Outcome, Printer};
use self::request::{Query, QueryRequest};
use super::answer::counted_json;
use super::{ApiError, App, Store, body};
use crate::auth::Access;
use crate::engine::{PathElement, ReadError, ReadRequest};
use crate::object::Object;

/// Most selections in one request: what 10,000 hosts have in 100 metrics.
const SELECTIONS_MAX: usize = 1_000_000;
/// Most memory that a request may take when it is read, bytes.
const REQUEST_BYTES_MAX: usize = 256 << 20;

/// Answers with `{"queries", "results"}`.
pub(super) async fn query(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    app.authorize(Access::Use, &parts)?;
    let body = body::read(&app, body).await?;
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
            let text = answer(app.store.as_ref(), &request, app.limits.points)?;
            if !held.grow(text.capacity()) {
                return Err(ApiError::busy("no memory left for answers"));
            }
            Ok(counted_json(text, held))
        },
    )
    .await?
}

/// Asks the store and prints the answer; no more than `points_max` points in sum.
///
/// # Errors
/// The request asks for too much, or the store is still loading: part of an answer is none.
fn answer(store: &dyn Store, request: &QueryRequest<'_>, points_max: usize) -> Result<Vec<u8>, ApiError> {
    let loading = |error: ReadError| ApiError::busy(error.to_string());
    let hosts = match request.for_all_nodes.as_slice() {
        [] => Vec::new(),
        _ => store.hosts(&request.cluster).map_err(loading)?,
    };
    let selections = request
        .queries
        .iter()
        .map(|query| selections(query))
        .fold(hosts.len().saturating_mul(request.for_all_nodes.len()), usize::saturating_add);
    if selections > SELECTIONS_MAX {
        let text = format!("{selections} selections in one request, {SELECTIONS_MAX} are allowed");
        return Err(ApiError::bad_request(text));
    }
    // Made anew each time they are needed: as a list they would be the largest part of a large request.
    let all_nodes = || {
        let metrics = &request.for_all_nodes;
        hosts.iter().flat_map(move |host| metrics.iter().map(move |metric| Query::node(host, metric)))
    };
    let mut printer = Printer::new(request, points_max);
    printer.echo(all_nodes());
    for query in
        request.queries.iter().map(|Object(query)| Cow::Borrowed(query)).chain(all_nodes().map(Cow::Owned))
    {
        printer.begin_query();
        for path in paths(&query) {
            let read = ReadRequest {
                cluster: &request.cluster,
                host: &query.host,
                metric: &query.metric,
                path,
                from: request.from,
                to: request.to,
                resolution_s: query.resolution,
                points_max: printer.points_left(),
            };
            match store.read(&read) {
                Ok(None) => {}
                Ok(Some(series)) => printer.outcome(Outcome::Series(series), query.scale_by),
                Err(error @ ReadError::Loading) => return Err(loading(error)),
                Err(error) => printer.outcome(Outcome::Error(&error), query.scale_by),
            }
        }
        printer.end_query();
    }
    Ok(printer.finish())
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
