//! Gzip bodies of any number of members, which is what appending one compressed file to another gives.

use std::io;

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::{BodyDataStream, BodyExt as _};
use tokio_util::io::{ReaderStream, StreamReader};

/// The request with its body decompressed, if it is gzip; any other stays as it is.
///
/// The layer that decompresses the other encodings ends a gzip body with its first member, and what lies behind would
/// be lost in silence.
pub(super) fn decompressed(request: Request) -> Request {
    let names: [&[u8]; 2] = [b"gzip", b"x-gzip"];
    let encoding = request.headers().get(CONTENT_ENCODING);
    if !encoding.is_some_and(|given| names.iter().any(|name| given.as_bytes().eq_ignore_ascii_case(name))) {
        return request;
    }
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(CONTENT_ENCODING);
    parts.headers.remove(CONTENT_LENGTH);
    let pieces = BodyDataStream::new(body.map_err(io::Error::other));
    let mut decoder = GzipDecoder::new(StreamReader::new(pieces));
    decoder.multiple_members(true);
    Request::from_parts(parts, Body::from_stream(ReaderStream::with_capacity(decoder, PIECE_BYTES)))
}

/// Bytes that are decompressed at a time.
const PIECE_BYTES: usize = 64 << 10;
