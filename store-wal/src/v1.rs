//! The original's log, version 1 (`current.wal`): [`replay`] reads it, [`encode`] writes one for tests.
//!
//! The original stops at the first record that is not whole, and appends behind it after a crash.
//! [`replay`] looks for later whole records instead, so that damage costs the records it touches.
//! The layout is in [`format`](mod@crate::format).
//!
//! ```
//! use store_wal::v1;
//!
//! let load = |timestamp| v1::Record { timestamp, metric: "load", selector: vec!["socket0"], value: 0.5 };
//! let mut file = v1::encode(&[load(60), load(120), load(180)]);
//! file[50] ^= 1; // somewhere in the second record
//!
//! let mut times = Vec::new();
//! let report = v1::replay(&file, &mut |record| times.push(record.timestamp));
//! assert_eq!((times, report.records, report.intact), (vec![60, 180], 2, false));
//! ```

use memchr::memmem::Finder;

/// First bytes of a file.
pub const FILE_MAGIC: [u8; 4] = [0x01, 0xA7, 0x1D, 0xCC];

/// First bytes of a record.
pub const RECORD_MAGIC: [u8; 4] = [0xA1, 0xA7, 0x1D, 0xCC];

/// Longest name of a metric or a selector's element in bytes; a record with a longer one is damaged.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest payload that can be whole: the greatest timestamp, metric, elements and value that there can be.
pub const PAYLOAD_BYTES_MAX: usize = 8 + 2 + NAME_BYTES_MAX + 1 + 255 * (1 + NAME_BYTES_MAX) + 4;

/// Bytes of a record that are not payload.
const OVERHEAD_BYTES: usize = 12;

// The original allows payloads of 1 MiB; it cannot fill them with names that we accept.
const _: () = assert!(PAYLOAD_BYTES_MAX < 1 << 20);

/// One sample of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    /// Seconds since the epoch.
    pub timestamp: i64,
    /// Name of the metric.
    pub metric: &'a str,
    /// Names of the levels below the host, outermost first.
    pub selector: Vec<&'a str>,
    /// The value, as it stands there: any bit pattern, also NaN and infinities.
    pub value: f32,
}

/// What a replay met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Whole records, all of which were handed out.
    pub records: u64,
    /// Bytes that belong neither to a whole record nor to the magic of the file.
    pub bytes_damaged: u64,
    /// At least one record, and every byte of the file is accounted for: the file may go once its data is
    /// durable elsewhere.
    pub intact: bool,
}

/// Hands out the whole records of a `current.wal` in the order of the file.
///
/// A record is whole if its magic and checksum are right, its payload has exactly the length that its fields add
/// up to, and its names are UTF-8 of 1 to [`NAME_BYTES_MAX`] bytes without control characters. (The original
/// writes the length of a longer element modulo 256, under a valid checksum.)
/// Behind anything else the search goes on byte by byte. Takes time in proportion to the length, whatever the bytes.
pub fn replay(bytes: &[u8], sink: &mut dyn FnMut(Record<'_>)) -> Report {
    let mut report = Report::default();
    let finder = Finder::new(&RECORD_MAGIC);
    // Without its magic the file may still hold records: one flipped bit is not the end of all.
    let mut at = if bytes.starts_with(&FILE_MAGIC) { FILE_MAGIC.len() } else { 0 };
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some((record, length)) = decode(rest) {
            sink(record);
            report.records += 1;
            at += length;
        } else {
            let skipped =
                rest.get(1..).and_then(|rest| finder.find(rest)).map_or(rest.len(), |found| found + 1);
            report.bytes_damaged += skipped as u64;
            at += skipped;
        }
    }
    report.intact = report.records > 0 && report.bytes_damaged == 0 && bytes.starts_with(&FILE_MAGIC);
    report
}

/// The record at the front of `bytes`, and its length with all around it.
fn decode(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let rest = bytes.strip_prefix(&RECORD_MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > PAYLOAD_BYTES_MAX {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(length)?;
    let crc = rest.first_chunk::<4>()?;
    // The fields before the checksum: no name can hold a record's magic (A1 begins no character of UTF-8), so
    // crafted records cannot overlap and have the same bytes checksummed over and over.
    let record = decode_payload(payload)?;
    (crc32fast::hash(payload) == u32::from_le_bytes(*crc)).then_some((record, length + OVERHEAD_BYTES))
}

fn decode_payload(payload: &[u8]) -> Option<Record<'_>> {
    let (timestamp, rest) = payload.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (metric, rest) = split_name(rest, usize::from(u16::from_le_bytes(*length)))?;
    let (&elements, mut rest) = rest.split_first()?;
    let mut selector = Vec::with_capacity(usize::from(elements).min(4));
    for _ in 0..elements {
        let (&length, behind) = rest.split_first()?;
        let (element, behind) = split_name(behind, usize::from(length))?;
        selector.push(element);
        rest = behind;
    }
    let value = f32::from_le_bytes(rest.try_into().ok()?);
    Some(Record { timestamp: i64::from_le_bytes(*timestamp), metric, selector, value })
}

fn split_name(bytes: &[u8], length: usize) -> Option<(&str, &[u8])> {
    if !(1..=NAME_BYTES_MAX).contains(&length) {
        return None;
    }
    let (name, rest) = bytes.split_at_checked(length)?;
    let name = std::str::from_utf8(name).ok()?;
    (!name.chars().any(char::is_control)).then_some((name, rest))
}

/// A `current.wal` of `records`, as the original writes it: for tests and fixtures; the store writes none.
///
/// # Panics
/// If a name is longer than [`NAME_BYTES_MAX`], or a selector has more than 255 elements.
pub fn encode(records: &[Record<'_>]) -> Vec<u8> {
    let mut file = FILE_MAGIC.to_vec();
    for record in records {
        let mut payload = record.timestamp.to_le_bytes().to_vec();
        payload.extend_from_slice(&u16::from(name_length(record.metric)).to_le_bytes());
        payload.extend_from_slice(record.metric.as_bytes());
        let Ok(elements) = u8::try_from(record.selector.len()) else { panic!("more than 255 elements") };
        payload.push(elements);
        for element in &record.selector {
            payload.push(name_length(element));
            payload.extend_from_slice(element.as_bytes());
        }
        payload.extend_from_slice(&record.value.to_le_bytes());
        file.extend_from_slice(&RECORD_MAGIC);
        let Ok(length) = u32::try_from(payload.len()) else { panic!("a payload of {} bytes", payload.len()) };
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(&payload);
        file.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    }
    file
}

fn name_length(name: &str) -> u8 {
    let Ok(length) = u8::try_from(name.len()) else { panic!("a name of {} bytes", name.len()) };
    length
}
