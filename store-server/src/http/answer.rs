//! What is sent back: errors as JSON `{"status", "error"}`, and bodies whose memory is counted until they are sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use store_core::json;

use super::budget::Held;
use crate::auth::Denied;

/// How a body may be compressed.
const ENCODINGS: &str = "gzip, zstd";

/// An answer that says what went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    text: String,
    /// Whether the same request may succeed a second later.
    retry: bool,
}

impl ApiError {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), retry: false }
    }

    /// 400: the request makes no sense.
    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 408: the body takes too long.
    pub(super) fn slow_body() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the body took too long")
    }

    /// 415: nobody knows how the body is compressed.
    pub(super) fn unknown_encoding() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("unknown content encoding; {ENCODINGS} and none are known"),
        )
    }

    /// 413: the body is too long.
    pub(super) fn too_large(text: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    /// 500: our fault.
    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error, see the log of the server")
    }

    /// What went wrong.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// 503: the same request may succeed a second later.
    pub(super) fn busy(text: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, text: text.into(), retry: true }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let status = match denied {
            Denied::NoToken | Denied::BadToken(_) => StatusCode::UNAUTHORIZED,
            Denied::Role | Denied::NotLocal => StatusCode::FORBIDDEN,
        };
        Self::new(status, denied.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json(error_text(self.status, &self.text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if self.retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(ENCODINGS));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn error_text(status: StatusCode, text: &str) -> Vec<u8> {
    let mut out = b"{\"status\":".to_vec();
    json::push_string(&mut out, status.canonical_reason().unwrap_or("Error"));
    out.extend_from_slice(b",\"error\":");
    json::push_string(&mut out, text);
    out.extend_from_slice(b"}\n");
    out
}

/// Gives errors that did not come from a route (no such path, wrong method, body too long, a panic) the same form.
pub(super) async fn errors_as_json(response: Response) -> Response {
    let status = response.status();
    let is_json = response.headers().get(header::CONTENT_TYPE) == Some(&APPLICATION_JSON);
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let text = match status {
        StatusCode::NOT_FOUND => "no such path",
        StatusCode::METHOD_NOT_ALLOWED => "this path does not know this method",
        StatusCode::PAYLOAD_TOO_LARGE => "the body is too long",
        status if status.is_server_error() => "internal error, see the log of the server",
        _ => "the request makes no sense",
    };
    let mut error = ApiError::new(status, text).into_response();
    if let Some(value) = response.headers().get(header::ALLOW) {
        error.headers_mut().insert(header::ALLOW, value.clone());
    }
    error
}

/// Takes back that a client refuses an answer as it is. What it asked for is carried out, and an answer that says so in
/// a form it did not want is worth more to it than none.
pub(super) fn with_identity(mut request: Request) -> Request {
    let values =
        request.headers().get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let elements: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
    let kept: Vec<&str> = elements.iter().copied().filter(|element| !refuses_identity(element)).collect();
    if kept.len() < elements.len() {
        let kept = HeaderValue::from_str(&kept.join(","));
        request.headers_mut().remove(header::ACCEPT_ENCODING);
        if let Ok(kept) = kept {
            request.headers_mut().insert(header::ACCEPT_ENCODING, kept);
        }
    }
    request
}

/// Whether an element of `Accept-Encoding` says that an answer may not come as it is: `identity` or `*`, of weight 0.
fn refuses_identity(element: &str) -> bool {
    let (coding, weight) = element.split_once(';').unwrap_or((element, ""));
    let weight = weight.trim().strip_prefix(['q', 'Q']).and_then(|weight| weight.strip_prefix('='));
    let coding = coding.trim();
    (coding == "*" || coding.eq_ignore_ascii_case("identity"))
        && weight.is_some_and(|weight| weight.parse() == Ok(0.0))
}

pub(super) const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A short answer of JSON.
pub(super) fn json(text: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, APPLICATION_JSON)], text).into_response()
}

/// An answer of JSON that may be long: `held` is given back when it is sent.
pub(super) fn counted_json(text: Vec<u8>, held: Held) -> Response {
    let body = Counted { text: text.into(), _held: held };
    ([(header::CONTENT_TYPE, APPLICATION_JSON)], Body::new(body)).into_response()
}

/// A body that holds on to its part of the budget.
struct Counted {
    text: Bytes,
    _held: Held,
}

/// Pieces that are handed on at once: what compression works through before others get their turn.
const PIECE_BYTES: usize = 64 << 10;

/// Takes the next piece of a text, if any is left. What is little longer than a piece is one.
pub(super) fn next_piece(text: &mut Bytes) -> Option<Bytes> {
    if text.len() > PIECE_BYTES + PIECE_BYTES / 2 {
        return Some(text.split_to(PIECE_BYTES));
    }
    Some(std::mem::take(text)).filter(|piece| !piece.is_empty())
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(next_piece(&mut self.text).map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.len() as u64)
    }
}
