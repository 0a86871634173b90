//! `POST /api/free?to=T`: frees what is older than T below each selector of the body.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize as _;

use super::write::DURABILITY;
use super::{ApiError, App, body, params};
use crate::auth::Access;
use crate::engine::{Durability, Freed};

/// Answers `buffers freed: N` as text.
pub(super) async fn free(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    app.authorize(Access::Administer, &parts)?;
    let to = params::get(&parts.uri, "to")?;
    let to = to.ok_or_else(|| ApiError::bad_request("'to' is a required query parameter"))?;
    let to: i64 =
        to.parse().map_err(|_| ApiError::bad_request(format!("to: {to:?} is no number of seconds")))?;
    let body = body::read_list(&app, &parts.headers, body).await?;
    let freed = app
        .call(
            |app| &app.looks,
            move |app| {
                // What stands behind the list is not looked at, as in every body.
                let read = Option::<Vec<Vec<String>>>::deserialize(
                    &mut serde_json::Deserializer::from_slice(body.bytes()),
                );
                // `null` is an empty list; within the list it is refused, where the original would free everything.
                let selectors = read
                    .map_err(|error| {
                        ApiError::bad_request(format!("a list of selectors is expected: {error}"))
                    })?
                    .unwrap_or_default();
                app.store.free(to, &selectors).map_err(|error| ApiError::busy(error.to_string()))
            },
        )
        .await??;
    let Freed { count, durability } = freed;
    tracing::info!(to, freed = count, "freed on request");
    let mut response = format!("buffers freed: {count}\n").into_response();
    if durability == Durability::Memory {
        response.headers_mut().insert(DURABILITY, HeaderValue::from_static("memory"));
    }
    Ok(response)
}
