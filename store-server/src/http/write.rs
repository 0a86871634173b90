//! `POST /api/write[?cluster=C]`: takes lines.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::{ApiError, App, body, params};
use crate::auth::Access;
use crate::engine::{Durability, WriteReport};

const LINES_BAD: HeaderName = HeaderName::from_static("x-lines-bad");
const LINES_REFUSED: HeaderName = HeaderName::from_static("x-lines-refused");
const DURABILITY: HeaderName = HeaderName::from_static("x-durability");

/// 200 with an empty body once the lines are as safe as the mode promises; see [`answer`] for the rest.
pub(super) async fn write(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    app.authorize(Access::Use, &parts)?;
    let cluster = params::get(&parts.uri, "cluster")?.map(Cow::into_owned);
    let body = body::read(&app, body).await?;
    let report =
        app.call(|app| &app.writes, move |app| app.store.write(body.bytes(), cluster.as_deref())).await?;
    Ok(answer(&report))
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
