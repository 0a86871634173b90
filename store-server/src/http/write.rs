//! `POST /api/write[?cluster=C]`: takes lines.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use memchr::memchr_iter;

use super::body::{self, Opened, Received, Sent};
use super::{ApiError, App, here, params};
use crate::auth::Access;
use crate::engine::{Durability, TryWrite, WriteReport};

/// Memory that the samples of a line take on their way, bytes.
const LINE_BYTES: usize = 192;
/// Memory that those of a piece of a message take at most; see [`store_core::ingest`].
const PIECE_BYTES_MAX: usize = 24 << 20;

const LINES_BAD: HeaderName = HeaderName::from_static("x-lines-bad");
const LINES_REFUSED: HeaderName = HeaderName::from_static("x-lines-refused");
pub(super) const DURABILITY: HeaderName = HeaderName::from_static("x-durability");

/// 200 with an empty body once the lines are as safe as the mode promises; see [`answer`] for the rest.
pub(super) async fn write(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    app.authorize(Access::Use, &parts)?;
    let cluster = params::get(&parts.uri, "cluster")?;
    let sent = body::receive(&app, &parts.headers, body).await?;
    let report = take(&app, sent, cluster.map(Cow::into_owned)).await?;
    Ok(answer(&report))
}

/// Hands a message to the store: here where that takes no longer than to call another thread, else on one that may
/// block.
///
/// The samples of one host at one moment are the common message. To wake a thread for it, and be woken by it, costs
/// as much as taking it.
///
/// Long ones are decompressed and parsed by no more threads than there are processors, so that however many come a
/// common one still gets its turn.
async fn take(app: &Arc<App>, sent: Sent, cluster: Option<String>) -> Result<WriteReport, ApiError> {
    // From here on, whoever is before it in the queue: a message waits once.
    let when = app.store.held_until();
    let body = match sent.open_here(app)? {
        Opened::Short(body) => body,
        Opened::Long(sent) => {
            let write = move |app: &App| write_counted(app, sent.open(app)?, cluster.as_deref(), when);
            return app.call(|app| &app.long_bodies, write).await?;
        }
    };
    if let Ok(slot) = app.writes.try_acquire() {
        let tried = here(|| app.store.try_write(body.bytes(), cluster.as_deref()));
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
    app.call(|app| &app.writes, move |app| write_counted(app, body, cluster.as_deref(), when)).await?
}

/// Takes a message on a thread that may block, of which there may be many: so what it needs is counted.
fn write_counted(
    app: &App,
    mut body: Received,
    cluster: Option<&str>,
    when: Instant,
) -> Result<WriteReport, ApiError> {
    let lines = memchr_iter(b'\n', body.bytes()).count() + 1;
    body.count_work(lines.saturating_mul(LINE_BYTES).min(PIECE_BYTES_MAX))?;
    Ok(app.store.write_until(body.bytes(), cluster, when))
}

/// What the sender is told.
///
/// 400 only if at least one line is bad and there is none that is not: a sender that gets a 400 sends the batch again
/// or gives it up, and either is wrong if part of it was taken. 503 if nothing may be promised.
fn answer(report: &WriteReport) -> Response {
    let mut response = if report.durability == Durability::Unavailable {
        ApiError::busy(what_is_not_kept(report)).into_response()
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

fn what_is_not_kept(report: &WriteReport) -> String {
    let why = "the log cannot be written, and nothing less may be promised";
    match report.stopped_behind {
        None => why.to_owned(),
        Some(0) => format!("{why}: no line was taken"),
        Some(lines) => format!(
            "{why}: the first {lines} lines are in memory and may be there alone, and those behind them were not taken"
        ),
    }
}

fn what_is_bad(report: &WriteReport) -> String {
    let Some(first) = &report.first_bad else { return format!("{} bad lines", report.bad) };
    let (line, column, what) = (first.line, first.column, &first.what);
    match report.bad {
        1 => format!("line {line}, column {column}: {what}"),
        bad => format!("line {line}, column {column}: {what} (the first of {bad} bad lines)"),
    }
}
