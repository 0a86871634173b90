//! `POST /api/write[?cluster=C]`: takes lines.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::body::{self, Received};
use super::{ApiError, App, here, params};
use crate::auth::Access;
use crate::engine::{Durability, TryWrite, WriteReport};

/// Longest body that is taken without calling another thread, bytes: some hundred microseconds.
const HERE_BYTES_MAX: usize = 256 << 10;

const LINES_BAD: HeaderName = HeaderName::from_static("x-lines-bad");
const LINES_REFUSED: HeaderName = HeaderName::from_static("x-lines-refused");
pub(super) const DURABILITY: HeaderName = HeaderName::from_static("x-durability");

/// 200 with an empty body once the lines are as safe as the mode promises; see [`answer`] for the rest.
pub(super) async fn write(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    app.authorize(Access::Use, &parts)?;
    let cluster = params::get(&parts.uri, "cluster")?;
    let body = body::read(&app, body).await?;
    let report = take(&app, body, cluster.as_deref()).await?;
    Ok(answer(&report))
}

/// Hands a message to the store: here where that takes no longer than to call another thread, else on one that may
/// block.
///
/// The samples of one host at one moment are the common message. To wake a thread for it, and be woken by it, costs
/// as much as taking it.
async fn take(app: &Arc<App>, body: Received, cluster: Option<&str>) -> Result<WriteReport, ApiError> {
    if body.bytes().len() <= HERE_BYTES_MAX
        && let Ok(slot) = app.writes.try_acquire()
    {
        let tried = here(|| app.store.try_write(body.bytes(), cluster));
        // Before another one is waited for: who holds one and waits for one would wait for its like.
        drop(slot);
        match tried? {
            TryWrite::Done(report) => return Ok(report),
            TryWrite::Taken(taken) => {
                return app.call(|app| &app.writes, move |app| app.store.finish_write(taken)).await;
            }
            TryWrite::Busy => {}
        }
    }
    let cluster = cluster.map(str::to_owned);
    app.call(|app| &app.writes, move |app| app.store.write(body.bytes(), cluster.as_deref())).await
}

/// What the sender is told.
///
/// 400 only if at least one line is bad and there is none that is not: a sender that gets a 400 sends the batch again
/// or gives it up, and either is wrong if part of it was taken. 503 if nothing may be promised.
fn answer(report: &WriteReport) -> Response {
    let mut response = if report.durability == Durability::Unavailable {
        ApiError::busy("the log cannot be written, and wal-sync \"always\" promises that it is")
            .into_response()
    } else if report.bad > 0 && report.good == 0 && report.skipped == 0 {
        ApiError::bad_request(what_is_bad(report)).into_response()
    } else {
        StatusCode::OK.into_response()
    };
    let headers = response.headers_mut();
    headers.insert(LINES_BAD, HeaderValue::from(report.bad));
    headers.insert(LINES_REFUSED, HeaderValue::from(report.refused));
    if report.durability == Durability::Memory {
        headers.insert(DURABILITY, HeaderValue::from_static("memory"));
    }
    response
}

fn what_is_bad(report: &WriteReport) -> String {
    let Some(first) = &report.first_bad else { return format!("{} bad lines", report.bad) };
    let (line, column, what) = (first.line, first.column, &first.what);
    match report.bad {
        1 => format!("line {line}, column {column}: {what}"),
        bad => format!("line {line}, column {column}: {what} (the first of {bad} bad lines)"),
    }
}
