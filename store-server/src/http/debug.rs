//! `GET /api/debug[?selector=cluster:host:…]`: what lies below a level.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::answer::counted_json;
use super::{ApiError, App, params};
use crate::auth::Access;
use crate::engine::DebugError;

/// The dump as JSON, made whole before it is sent: no lock is held for a slow reader.
pub(super) async fn debug(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    app.authorize(Access::Administer, &parts)?;
    let selector = params::get(&parts.uri, "selector")?.map(Cow::into_owned);
    app.call(
        |app| &app.looks,
        move |app| {
            let text = app.store.debug_json(selector.as_deref()).map_err(|error| match error {
                DebugError::Loading => ApiError::busy(error.to_string()),
                _ => ApiError::bad_request(error.to_string()),
            })?;
            let mut held = app.budget.part();
            if !held.grow(text.len()) {
                return Err(ApiError::busy("no memory left for answers"));
            }
            Ok(counted_json(text, held))
        },
    )
    .await?
}
