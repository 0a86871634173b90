//! `GET /api/debug/status` and `GET /api/debug/memory`: every counter, and where the memory is.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::{ApiError, App, answer};
use crate::auth::Access;

/// Counters of the server and of the engine.
pub(super) async fn status(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    show(&app, request, |app| {
        let store = app.store.status()?;
        // Loaded is not enough: what is acknowledged is to be kept, too.
        let ready = store["ready"].as_bool().unwrap_or_else(|| app.store.ready());
        let http = app.counters.snapshot(app.budget.held_bytes());
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime-s": app.started.elapsed().as_secs(),
            "ready": ready,
            "http": http,
            "store": store,
        }))
    })
    .await
}

/// Where the memory is.
pub(super) async fn memory(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    show(&app, request, |app| app.store.memory()).await
}

async fn show(
    app: &Arc<App>,
    request: Request,
    look: impl FnOnce(&App) -> serde_json::Result<Value> + Send + 'static,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    app.authorize(Access::Administer, &parts)?;
    let value = app.call(|app| &app.looks, look).await?.map_err(|_| ApiError::internal())?;
    let mut text = serde_json::to_vec_pretty(&value).map_err(|_| ApiError::internal())?;
    text.push(b'\n');
    Ok(answer::json(text))
}
