//! Decompresses bodies: gzip of any number of members, which is what appending one compressed file to another gives, and
//! zstd of any number of frames.

use std::io::{self, Read};

use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::ApiError;
use super::body::make_room;
use super::budget::Held;

/// How far back a zstd frame may refer, as a power of two: 8 MiB, which is what every decoder has to know.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Memory that a decoder takes, bytes.
const DECODER_BYTES: usize = 1 << ZSTD_WINDOW_LOG_MAX;

/// Room for the first piece, bytes.
const PIECE_BYTES: usize = 64 << 10;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Gzip,
    Zstd,
}

impl Encoding {
    /// What the headers of a request say; `None`: as it is.
    ///
    /// # Errors
    /// It is another one.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let Some(given) = headers.get(CONTENT_ENCODING) else { return Ok(None) };
        let is = |name: &str| given.as_bytes().eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("gzip") || is("x-gzip") => Ok(Some(Self::Gzip)),
            () if is("zstd") => Ok(Some(Self::Zstd)),
            () if is("identity") => Ok(None),
            () => Err(ApiError::unknown_encoding()),
        }
    }
}

/// What became of a body that was to be decompressed.
#[derive(Debug)]
pub(super) enum Unpacked {
    Whole(Vec<u8>),
    /// It is longer than was asked for.
    TooLong,
}

/// Decompresses `packed` to no more than `bytes_max` bytes, which are counted in `held` as they grow.
///
/// # Errors
/// It is badly compressed or cut off, or there is no memory left for it.
pub(super) fn unpack(
    packed: &[u8],
    encoding: Encoding,
    bytes_max: usize,
    held: &mut Held,
) -> Result<Unpacked, ApiError> {
    // No member at all is an empty body, as no frame is.
    if packed.is_empty() {
        return Ok(Unpacked::Whole(Vec::new()));
    }
    if !held.grow(DECODER_BYTES) {
        return Err(ApiError::busy("no memory left for bodies"));
    }
    let unpacked = match encoding {
        Encoding::Gzip => read_all(MultiGzDecoder::new(packed), bytes_max, held),
        Encoding::Zstd => {
            let decoder = ZstdDecoder::with_buffer(packed).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Ok(decoder)
            });
            read_all(decoder.map_err(|error| cannot_unpack(&error))?, bytes_max, held)
        }
    };
    held.shrink(DECODER_BYTES);
    unpacked
}

fn read_all(mut decoder: impl Read, bytes_max: usize, held: &mut Held) -> Result<Unpacked, ApiError> {
    let mut bytes = Vec::new();
    loop {
        let more = if bytes.is_empty() { PIECE_BYTES } else { 1 };
        let more = more.min(bytes_max - bytes.len());
        if more == 0 {
            let behind = decoder.read(&mut [0]).map_err(|error| cannot_unpack(&error))?;
            return Ok(if behind == 0 { Unpacked::Whole(bytes) } else { Unpacked::TooLong });
        }
        if !make_room(&mut bytes, more, bytes_max, held) {
            return Err(ApiError::busy("no memory left for bodies"));
        }
        let room = bytes.capacity() - bytes.len();
        let read = decoder.by_ref().take(room as u64).read_to_end(&mut bytes);
        if read.map_err(|error| cannot_unpack(&error))? < room {
            return Ok(Unpacked::Whole(bytes));
        }
    }
}

fn cannot_unpack(error: &io::Error) -> ApiError {
    ApiError::bad_request(format!("cannot read the body: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use super::*;
    use crate::http::budget::Budget;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        gzip.finish().unwrap()
    }

    /// What a body is in memory, if it may be no longer than `bytes_max`; and what the budget says of it.
    fn unpacked(packed: &[u8], encoding: Encoding, bytes_max: usize) -> (Option<Vec<u8>>, u64) {
        let budget = Arc::new(Budget::new(1 << 30));
        let mut held = budget.part();
        match unpack(packed, encoding, bytes_max, &mut held).unwrap() {
            Unpacked::Whole(bytes) => (Some(bytes), budget.held_bytes()),
            Unpacked::TooLong => (None, budget.held_bytes()),
        }
    }

    #[test]
    fn what_fits_exactly_is_taken_and_one_byte_more_is_not() {
        let zstd = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        for length in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 300_000] {
            let text: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            for (packed, encoding) in [(gzip(&text), Encoding::Gzip), (zstd(&text), Encoding::Zstd)] {
                for bytes_max in [length, length + 1, 10 * length + 1] {
                    let (bytes, held) = unpacked(&packed, encoding, bytes_max);
                    let bytes = bytes.unwrap();
                    assert_eq!(bytes, text);
                    assert_eq!(bytes.capacity() as u64, held, "the room is counted, not what lies in it");
                    assert!(bytes.capacity() <= bytes_max);
                }
                if length > 0 {
                    assert!(unpacked(&packed, encoding, length - 1).0.is_none());
                }
            }
        }
    }

    #[test]
    fn members_and_frames_follow_one_another() {
        let zstd = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
        let packed = [gzip(b"one"), gzip(b""), gzip(b"two")].concat();
        assert_eq!(unpacked(&packed, Encoding::Gzip, 100).0.unwrap(), b"onetwo");
        let packed = [zstd("one"), zstd(""), zstd("two")].concat();
        assert_eq!(unpacked(&packed, Encoding::Zstd, 100).0.unwrap(), b"onetwo");
        assert_eq!(unpacked(b"", Encoding::Gzip, 100).0.unwrap(), b"");
    }

    #[test]
    fn a_frame_that_wants_more_than_8_mib_of_window_is_refused() {
        let budget = Arc::new(Budget::new(1 << 30));
        let frame = |window_log: u8| {
            // Magic, no flags, the window, and one last block of a byte.
            let block = [0x09, 0, 0, b'a'];
            [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, (window_log - 10) << 3][..], &block].concat()
        };
        let read = |window_log| unpack(&frame(window_log), Encoding::Zstd, 100, &mut budget.part());
        assert!(matches!(read(23), Ok(Unpacked::Whole(bytes)) if bytes == b"a"));
        assert!(read(24).is_err());
    }

    #[test]
    fn a_body_that_is_cut_off_is_refused() {
        let budget = Arc::new(Budget::new(1 << 30));
        let text = b"load,hostname=n1 value=1 60\n".repeat(1000);
        for (packed, encoding) in
            [(gzip(&text), Encoding::Gzip), (zstd::encode_all(&*text, 1).unwrap(), Encoding::Zstd)]
        {
            for cut in 1..packed.len() {
                let cut = unpack(&packed[..cut], encoding, 1 << 20, &mut budget.part());
                assert!(cut.unwrap_err().text().starts_with("cannot read the body: "));
            }
        }
    }
}
