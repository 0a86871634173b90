//! The rest of a line: fields and time.

use memchr::memchr2;

use super::prefix::{TAG_ENDS, Token};
use super::{BadLine, Fate, Malformed, Refusal, Skip};
use crate::Timestamp;
use crate::number::{self, NumberError};

/// Parses the rest of a line, as [`split_prefix`](super::split_prefix) gives it: the value, and the time if there is one.
///
/// # Errors
/// [`Fate`]: bad, skipped, or refused because `f32` cannot hold the value.
#[inline]
pub fn parse_rest(rest: &[u8]) -> Result<(f32, Option<Timestamp>), Fate> {
    match parse_plain(rest) {
        Some(sample) => Ok(sample),
        None => parse_any(rest),
    }
}

/// The form that senders use, and nothing else: ` value=NUMBER` and possibly ` INTEGER`.
#[inline]
fn parse_plain(rest: &[u8]) -> Option<(f32, Option<Timestamp>)> {
    let (value, time, used) = scan_plain(rest, &mut LastTime::default())?;
    (used == rest.len()).then_some((value, time))
}

/// The time of the line before as it was written: mostly the next line has the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct LastTime<'a> {
    /// With the space before it and a line end behind it, 8 to 16 bytes; or empty.
    text: &'a [u8],
    time: Timestamp,
}

impl<'a> LastTime<'a> {
    /// The time that `tail` begins with, and the length of its text, if it is the same as before.
    #[inline(always)]
    fn known(&self, tail: &[u8]) -> Option<(Timestamp, usize)> {
        let tail = tail.get(..self.text.len())?;
        // Two words that may overlap are all of it.
        let same = tail.first_chunk::<8>()? == self.text.first_chunk::<8>()?
            && tail.last_chunk::<8>()? == self.text.last_chunk::<8>()?;
        same.then_some((self.time, tail.len() - 1))
    }

    #[inline(always)]
    fn remember(&mut self, tail: &'a [u8], used: usize, time: Timestamp) {
        self.text = match tail.get(..used + 1) {
            Some(text) if text.ends_with(b"\n") && (8..=16).contains(&text.len()) => text,
            _ => &[],
        };
        self.time = time;
    }
}

/// Scans ` value=NUMBER` and, if there is one behind it, ` INTEGER`: the value, the time and how many bytes they take.
#[inline(always)]
pub(super) fn scan_plain<'a>(
    rest: &'a [u8],
    last: &mut LastTime<'a>,
) -> Option<(f32, Option<Timestamp>, usize)> {
    let tail = rest.strip_prefix(b" value=")?;
    let (value, used) = number::scan_value(tail)?;
    if !value.is_finite() {
        return None;
    }
    let tail = tail.get(used..)?;
    if tail.first() != Some(&b' ') {
        return Some((value, None, rest.len() - tail.len()));
    }
    let before = rest.len() - tail.len();
    if let Some((time, used)) = last.known(tail) {
        return Some((value, Some(time), before + used));
    }
    let (time, used) = number::scan_integer(tail.get(1..)?)?;
    let time = seconds(time);
    last.remember(tail, 1 + used, time);
    Some((value, Some(time), before + 1 + used))
}

/// A time in the unit that its size gives away, as seconds, rounded down.
///
/// Below 10^11 (the year 5138) seconds, below 10^14 ms, below 10^17 µs, otherwise ns.
#[inline]
#[must_use]
pub fn seconds(time: i64) -> Timestamp {
    match time.unsigned_abs() {
        0..100_000_000_000 => time,
        100_000_000_000..100_000_000_000_000 => time.div_euclid(1_000),
        100_000_000_000_000..100_000_000_000_000_000 => time.div_euclid(1_000_000),
        _ => time.div_euclid(1_000_000_000),
    }
}

/// Whatever a rest may hold.
#[cold]
fn parse_any(rest: &[u8]) -> Result<(f32, Option<Timestamp>), Fate> {
    let (fields, end) = parse_fields(rest)?;
    // Before all else: such a line is not meant for this store, so its other fields are none of our business.
    if let Some(message) = fields.message {
        return Err(Fate::Skip(message));
    }
    if let Some(at) = fields.unknown {
        return Err(BadLine::at(at, Malformed::UnknownField).into());
    }
    let value = match fields.value {
        // Without `value` there would have been an unknown field or a message.
        None => return Err(BadLine::at(end, Malformed::FieldMissing).into()),
        Some(Value::Text) => return Err(Fate::Skip(Skip::Text)),
        Some(Value::Number(value)) => value,
        Some(Value::Bad(bad)) => return Err(bad.into()),
    };
    let time = parse_time(rest, end)?;
    if value.is_finite() { Ok((value, time)) } else { Err(Fate::Refused(Refusal::ValueRange)) }
}

/// The field `value`; given twice, the last one counts.
enum Value {
    Number(f32),
    Text,
    Bad(BadLine),
}

#[derive(Default)]
struct Fields {
    value: Option<Value>,
    /// What a field says that is no sample.
    message: Option<Skip>,
    /// Where the first field begins that nobody knows.
    unknown: Option<usize>,
}

/// Goes through all fields; says where they end.
fn parse_fields(rest: &[u8]) -> Result<(Fields, usize), BadLine> {
    let mut fields = Fields::default();
    let mut at = skip_spaces(rest, 0);
    if at == rest.len() {
        return Err(BadLine::at(at, Malformed::FieldMissing));
    }
    loop {
        let key = Token::scan(rest, at, TAG_ENDS);
        match rest.get(key.end) {
            Some(byte) if byte.is_ascii_control() => {
                return Err(BadLine::at(key.end, Malformed::ControlCharacter));
            }
            _ if key.is_empty() => return Err(BadLine::at(at, Malformed::FieldKeyMissing)),
            Some(b'=') => {}
            _ => return Err(BadLine::at(key.end, Malformed::FieldEqualsMissing)),
        }
        let start = key.end + 1;
        let end = field_value_end(rest, start)?;
        match key.raw(rest) {
            b"value" => fields.value = Some(read_value(&rest[start..end], start)),
            b"event" => fields.message = Some(Skip::Event),
            b"log" => fields.message = Some(Skip::Log),
            b"control" => fields.message = Some(Skip::Control),
            _ => fields.unknown = fields.unknown.or(Some(at)),
        }
        match rest.get(end) {
            Some(b',') => at = end + 1,
            None | Some(b' ') => return Ok((fields, end)),
            Some(byte) if byte.is_ascii_control() => {
                return Err(BadLine::at(end, Malformed::ControlCharacter));
            }
            Some(_) => return Err(BadLine::at(end, Malformed::StringTail)),
        }
    }
}

/// Where the value of a field ends that begins at `start`; it has at least one byte.
fn field_value_end(rest: &[u8], start: usize) -> Result<usize, BadLine> {
    let token = &rest[start..];
    if let Some(body) = token.strip_prefix(b"\"") {
        let length = string_end(body).ok_or(BadLine::at(start, Malformed::QuoteMissing))?;
        return Ok(start + 1 + length);
    }
    match token.iter().position(|byte| matches!(byte, b',' | b' ') || byte.is_ascii_control()) {
        Some(0) => Err(BadLine::at(start, Malformed::FieldValueMissing)),
        Some(length) => Ok(start + length),
        None if token.is_empty() => Err(BadLine::at(start, Malformed::FieldValueMissing)),
        None => Ok(rest.len()),
    }
}

/// Reads the value of the field `value`, which begins at `start`.
fn read_value(token: &[u8], start: usize) -> Value {
    if token.starts_with(b"\"") {
        return Value::Text;
    }
    let what = match number::parse_value(token) {
        Ok(value) => return Value::Number(value),
        Err(NumberError::IntegerRange) => Malformed::IntegerRange,
        Err(_) if is_boolean(token) => Malformed::Boolean,
        Err(_) => Malformed::Number,
    };
    Value::Bad(BadLine::at(start, what))
}

fn is_boolean(token: &[u8]) -> bool {
    matches!(token, b"t" | b"T" | b"true" | b"True" | b"TRUE" | b"f" | b"F" | b"false" | b"False" | b"FALSE")
}

/// The time behind the fields, which end at `at`.
fn parse_time(rest: &[u8], at: usize) -> Result<Option<Timestamp>, BadLine> {
    let start = skip_spaces(rest, at);
    let token = &rest[start..];
    if token.is_empty() {
        return Ok(None);
    }
    let token = &token[..token.iter().position(|byte| *byte == b' ').unwrap_or(token.len())];
    let time = number::parse_integer(token).map_err(|error| {
        let range = error == NumberError::IntegerRange;
        BadLine::at(start, if range { Malformed::TimeRange } else { Malformed::Time })
    })?;
    let end = skip_spaces(rest, start + token.len());
    if end < rest.len() {
        return Err(BadLine::at(end, Malformed::TimeTail));
    }
    Ok(Some(seconds(time)))
}

fn skip_spaces(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| **byte == b' ').count()
}

/// Where the string ends whose opening quote lies before `body`: one behind the closing quote.
pub(super) fn string_end(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', body.get(at..)?)?;
        if body[at] == b'"' {
            return Some(at + 1);
        }
        // A backslash takes the next byte with it, whatever it is: only a quote or a backslash matters here.
        at += 2;
    }
}

/// Whether the line ends inside of a string.
pub(super) fn opens_string(rest: &[u8]) -> bool {
    matches!(parse_fields(rest), Err(BadLine { what: Malformed::QuoteMissing, .. }))
}

/// Whether `tail` may stand behind a string up to the end of the line: further fields, a time.
pub(super) fn closes_line(tail: &[u8]) -> bool {
    let end = match tail.strip_prefix(b",") {
        Some(more) => match parse_fields(more) {
            Ok((_, end)) => end + 1,
            Err(_) => return false,
        },
        None => 0,
    };
    tail.get(end).is_none_or(|byte| *byte == b' ') && parse_time(tail, end).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pieces of which rests are made, good and bad ones.
    const PIECES: &[&str] = &[
        " ",
        " ",
        " value=",
        " value=",
        "value=",
        "1",
        "4.5",
        "0.031159000000000003",
        "24403499i",
        "7u",
        "-0",
        "1e39",
        "1e400",
        "x",
        "t",
        "\"a b\"",
        "\"",
        "\\",
        ",",
        "=",
        "\t",
        " 1700000000",
        " 1700000000",
        " 1700000000142",
        " -5",
        " 17000x",
        "event=\"x\"",
        ",log=1",
        "foo=1",
        "99999999999999999999",
        "9223372036854775808i",
        ".",
        "i",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40_000))]

        #[test]
        fn the_short_way_never_says_anything_but_the_long_one(picks in proptest::collection::vec(0..PIECES.len(), 0..7)) {
            let rest: String = picks.into_iter().map(|pick| PIECES[pick]).collect();
            if let Some((value, time)) = parse_plain(rest.as_bytes()) {
                let long = parse_any(rest.as_bytes()).map(|(value, time)| (value.to_bits(), time));
                prop_assert_eq!(long, Ok((value.to_bits(), time)), "{}", rest);
            }
        }
    }

    #[test]
    fn the_short_way_takes_what_collectors_send() {
        for rest in [
            " value=1 1700000000",
            " value=0.031159000000000003 1700000000",
            " value=24403499i 1700000000",
            " value=2.5165824e+07 1725827464642231296",
            " value=-1.5",
        ] {
            assert!(parse_plain(rest.as_bytes()).is_some(), "{rest}");
        }
    }

    #[test]
    fn the_unit_of_a_time_follows_from_its_size() {
        for (time, want) in [
            (0, 0),
            (-1, -1),
            (1_700_000_000, 1_700_000_000),
            (99_999_999_999, 99_999_999_999),
            (-99_999_999_999, -99_999_999_999),
            (100_000_000_000, 100_000_000),
            (1_700_000_000_142, 1_700_000_000),
            (-1_700_000_000_142, -1_700_000_001),
            (99_999_999_999_999, 99_999_999_999),
            (100_000_000_000_000, 100_000_000),
            (1_700_000_000_142_857, 1_700_000_000),
            (99_999_999_999_999_999, 99_999_999_999),
            (100_000_000_000_000_000, 100_000_000),
            (1_725_827_464_642_231_296, 1_725_827_464),
            (-1_725_827_464_642_231_296, -1_725_827_465),
            (i64::MAX, 9_223_372_036),
            (i64::MIN, -9_223_372_037),
        ] {
            assert_eq!(seconds(time), want, "{time}");
        }
    }

    #[test]
    fn a_string_ends_at_the_first_quote_that_no_backslash_takes_along() {
        for (body, end) in [
            ("a\"", Some(2)),
            ("\"", Some(1)),
            (r#"a\"b" x"#, Some(5)),
            (r#"a\\" x"#, Some(4)),
            (r#"a\\\"b""#, Some(7)),
            ("a\nb\"", Some(4)),
            ("", None),
            ("abc", None),
            (r#"a\""#, None),
            (r"a\", None),
            (r"\", None),
        ] {
            assert_eq!(string_end(body.as_bytes()), end, "{body}");
        }
    }
}
