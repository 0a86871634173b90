//! The line protocol: from the bytes of a message to samples, without copying.
//!
//! ```text
//! cpu_load,cluster=alpha,hostname=a01,type=socket,type-id=0 value=4.5 1700000000
//! └─────────────────────── prefix ────────────────────────┘└─────── rest ──────┘
//! ```
//!
//! [`lines`] cuts a message into lines, [`Line::split`] a line in two. The *prefix* names the series; all lines of a
//! series have the same prefix byte for byte, so a [`Resolver`](crate::resolver::Resolver) turns the raw bytes into
//! a series, and the prefix is parsed only when it was never seen. The *rest* is always parsed ([`parse_rest`]).
//!
//! For a prefix that is not known the order is: the metric ([`metric_of`]; nothing more is parsed of a line whose metric
//! is not in the catalog), the prefix ([`parse_prefix`]), the rest, the names ([`Prefix::place`]). Only then is a
//! series registered, so that a bad line leaves no trace of a host.
//!
//! ```
//! use store_core::line::{self, NAME_BYTES_MAX};
//!
//! let body = b"# a comment\ncpu_load,hostname=a01,type=socket,type-id=0 value=4.5 1700000000\n";
//! let line = line::lines(body).next().unwrap();
//! assert_eq!(line.number, 2);
//! let (prefix, rest) = line.split();
//! assert_eq!(line::metric_of(prefix)?, "cpu_load");
//! let named = line::parse_prefix(prefix)?;
//! assert_eq!(line::parse_rest(rest), Ok((4.5, Some(1_700_000_000))));
//! let mut scratch = String::new();
//! let place = named.place(Some("alpha"), NAME_BYTES_MAX, &mut scratch).unwrap();
//! assert_eq!((place.cluster, place.host, &*place.path), ("alpha", "a01", &["socket0"][..]));
//! # Ok::<(), line::BadLine>(())
//! ```
//!
//! # Grammar
//! * A line ends with LF or CRLF, the last one also without. Spaces before it, a byte order mark before it, empty lines
//!   and lines that begin with `#` are passed over. A tab is no space: like every control character in a name it makes the line bad.
//! * The prefix ends at the first space without a backslash directly before it. `\,` `\ ` and in tags `\=` stand for the
//!   second character; any other backslash stands for itself. Quotes mean nothing here.
//! * Tags may come in any order; unknown ones are ignored; of a tag given twice the last one counts, `host` being the
//!   same tag as `hostname`. A tag without a key or a value makes the line bad.
//! * The one field is `value`: a number ([`crate::number`]). A string is skipped, a boolean is bad, as is any other
//!   field, but a line with a field `event`, `log` or `control` is no sample at all and skipped whatever else it holds.
//! * A string in double quotes ends at the first quote without a backslash before it (a backslash before a backslash makes a
//!   pair); it may hold line ends, see [`Lines::skip_string`].
//! * The time is an integer: seconds, or by its size ms, µs, ns ([`seconds`]).

mod name;
mod prefix;
mod rest;

use memchr::{memchr, memchr2};

use crate::Timestamp;

pub use self::name::{NAME_BYTES_MAX, NameError, check_name, check_path_name};
pub use self::prefix::{Path, Place, Prefix, metric_of, parse_prefix};
pub use self::rest::{LastTime, parse_rest, seconds};

/// What some editors put in front of a text, and what then stands in the middle of several put together.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of `body` that are neither empty nor comments.
#[must_use]
pub fn lines(body: &[u8]) -> Lines<'_> {
    Lines { body, number: 0 }
}

/// Iterator over the lines of a message; see [`lines`].
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    /// What lies behind the last line handed out.
    body: &'a [u8],
    /// Line ends passed so far.
    number: usize,
}

/// One line of a message, without its line end and the spaces before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Position in the message, counted from 1; empty lines and comments count.
    pub number: usize,
    /// Spaces that stood before it: what a column of [`BadLine`] lacks.
    pub indent: usize,
    /// The line.
    pub bytes: &'a [u8],
    /// Index of its first space, or its length.
    space: usize,
}

impl<'a> Line<'a> {
    /// What [`split_prefix`] makes of it, without looking for the space again.
    #[inline]
    #[must_use]
    pub fn split(&self) -> (&'a [u8], &'a [u8]) {
        match self.bytes[..self.space].last() {
            Some(b'\\') => split_prefix(self.bytes),
            _ => self.bytes.split_at(self.space),
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    #[inline]
    fn next(&mut self) -> Option<Line<'a>> {
        while let Some(first) = self.body.first() {
            // What most lines begin with sorts behind both the space and the number sign.
            if *first > b'#' {
                if *first == BYTE_ORDER_MARK[0]
                    && let Some(rest) = self.body.strip_prefix(BYTE_ORDER_MARK)
                {
                    self.body = rest;
                    continue;
                }
                let (space, end) = match memchr2(b' ', b'\n', self.body) {
                    Some(space) if self.body[space] == b' ' => {
                        (space, memchr(b'\n', &self.body[space..]).map(|end| space + end))
                    }
                    end => (usize::MAX, end),
                };
                let bytes = strip_return(self.take_to(end));
                return Some(Line { number: self.number, indent: 0, bytes, space: space.min(bytes.len()) });
            }
            let line = strip_return(self.take_line());
            let indent = line.iter().take_while(|byte| **byte == b' ').count();
            if line.get(indent).is_some_and(|first| *first != b'#') {
                let bytes = &line[indent..];
                let space = memchr(b' ', bytes).unwrap_or(bytes.len());
                return Some(Line { number: self.number, indent, bytes, space });
            }
        }
        None
    }
}

impl std::iter::FusedIterator for Lines<'_> {}

/// A line whose prefix is as long as was expected, and whose rest is what senders send; see [`Lines::expect`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected<'a> {
    /// As [`Line::split`] gives it, *if* it is a prefix that was seen before.
    pub prefix: &'a [u8],
    /// The value.
    pub value: f32,
    /// The time, if there is one.
    pub time: Option<Timestamp>,
    /// Bytes of the line with its end.
    bytes: usize,
}

impl<'a> Lines<'a> {
    /// Lines that were passed so far; empty ones and comments count.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.number
    }

    /// Bytes that were not handed out yet.
    #[must_use]
    pub fn bytes_left(&self) -> usize {
        self.body.len()
    }

    /// The next line, if behind `prefix_bytes` bytes there is ` value=NUMBER`, perhaps a time, and the line's end. It is not passed.
    ///
    /// Nothing is said about those bytes: if they are, byte for byte, a prefix that a line had before, the line is what
    /// [`next`](Iterator::next) would give, without having looked for its ends. Otherwise it may be anything.
    #[inline]
    #[must_use]
    pub fn expect(&self, prefix_bytes: usize, last: &mut LastTime<'a>) -> Option<Expected<'a>> {
        let (prefix, rest) = self.body.split_at_checked(prefix_bytes)?;
        let (value, time, used) = rest::scan_plain(rest, last)?;
        let bytes = prefix_bytes + used;
        let end = match self.body.get(bytes) {
            Some(b'\n') => bytes + 1,
            None => bytes,
            Some(_) => return None,
        };
        Some(Expected { prefix, value, time, bytes: end })
    }

    /// Passes the line that [`expect`](Self::expect) gave.
    #[inline]
    pub fn pass(&mut self, line: &Expected<'a>) {
        self.number += 1;
        self.body = self.body.get(line.bytes..).unwrap_or_default();
    }

    /// Passes over what belongs to the line just handed out although a line end lies between: the remainder of a quoted string.
    ///
    /// Log messages have such strings. To be called, with the rest of the line, when it is not taken as a sample (bad, or
    /// of an unknown metric); costs one search for a quote when there is none. If it returns `true` the line was a message
    /// and counts as skipped. It passes over nothing and returns `false` unless the string is closed later on and its last line
    /// ends as a line may end: a stray quote does not cost the lines behind it.
    pub fn skip_string(&mut self, rest: &[u8]) -> bool {
        if memchr(b'"', rest).is_none() || !rest::opens_string(rest) {
            return false;
        }
        let Some(end) = rest::string_end(self.body) else {
            return false;
        };
        let mut behind = Lines { body: &self.body[end..], number: 0 };
        let tail = if behind.body.is_empty() { behind.body } else { behind.take_line() };
        if !rest::closes_line(strip_return(tail)) {
            return false;
        }
        let passed = &self.body[..self.body.len() - behind.body.len()];
        self.number += memchr::memchr_iter(b'\n', passed).count();
        self.body = behind.body;
        true
    }

    /// The bytes up to the next line end, which is passed.
    fn take_line(&mut self) -> &'a [u8] {
        self.take_to(memchr(b'\n', self.body))
    }

    /// The bytes up to a line end, or all.
    #[inline(always)]
    fn take_to(&mut self, end: Option<usize>) -> &'a [u8] {
        self.number += 1;
        match end {
            Some(end) => {
                let (line, tail) = (&self.body[..end], &self.body[end + 1..]);
                self.body = tail;
                line
            }
            None => std::mem::take(&mut self.body),
        }
    }
}

/// Without the carriage return of a CRLF.
#[inline(always)]
fn strip_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Cuts a line behind its prefix, which ends at the first space that is not escaped.
///
/// The rest begins with that space (a column in the rest plus the length of the prefix is a column of the line), or is empty.
#[inline]
#[must_use]
pub fn split_prefix(line: &[u8]) -> (&[u8], &[u8]) {
    let mut from = 0;
    while let Some(space) = memchr(b' ', &line[from..]) {
        let space = from + space;
        // No escape ends in a backslash, so the byte before the space decides alone.
        if space == 0 || line[space - 1] != b'\\' {
            return line.split_at(space);
        }
        from = space + 1;
    }
    (line, &[])
}

/// Why a line is not a sample that can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fate {
    /// Against the grammar.
    #[error(transparent)]
    Bad(BadLine),
    /// Not for this store, and nothing wrong with it.
    #[error("skipped: {0}")]
    Skip(Skip),
    /// A sample that the store does not take.
    #[error("refused: {0}")]
    Refused(Refusal),
}

impl From<BadLine> for Fate {
    fn from(bad: BadLine) -> Self {
        Fate::Bad(bad)
    }
}

impl Fate {
    /// The same with a column that counts from `bytes` further left; see [`BadLine::shifted`].
    #[must_use]
    pub fn shifted(self, bytes: usize) -> Self {
        match self {
            Fate::Bad(bad) => Fate::Bad(bad.shifted(bytes)),
            other => other,
        }
    }
}

/// A line against the grammar: what is wrong, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at column {column}")]
pub struct BadLine {
    /// Byte of what was parsed at which it goes wrong, counted from 1; one behind the last if something is missing there.
    pub column: usize,
    /// What is wrong there.
    pub what: Malformed,
}

impl BadLine {
    /// `what` is wrong at `column`, which counts from 1.
    #[must_use]
    pub fn new(column: usize, what: Malformed) -> Self {
        Self { column, what }
    }

    fn at(index: usize, what: Malformed) -> Self {
        Self { column: index + 1, what }
    }

    /// The same with a column that counts from `bytes` further left: a prefix before the rest, the spaces before the line.
    #[must_use]
    pub fn shifted(self, bytes: usize) -> Self {
        Self { column: self.column + bytes, ..self }
    }

    /// The error with the place in `line` (what the column counts in), for whoever sent it.
    #[must_use]
    pub fn describe(&self, line: &[u8]) -> String {
        const SHOWN: usize = 40;
        let here = line.get(self.column.saturating_sub(1)..).unwrap_or_default();
        let shown = here.get(..SHOWN).unwrap_or(here).escape_ascii();
        match here.len() {
            0 => format!("{self}, the end of the line"),
            1..=SHOWN => format!("{self}: \"{shown}\""),
            _ => format!("{self}: \"{shown}...\""),
        }
    }
}

/// What can be wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The line begins with a comma or a control character.
    #[error("metric name missing")]
    MetricMissing,
    /// A tab or another control character outside of a string.
    #[error("control character")]
    ControlCharacter,
    /// A space that would end the prefix, inside of what was given as a prefix.
    #[error("unescaped space")]
    Space,
    /// A name or a tag that is no UTF-8.
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// Nothing, or an equals sign, behind a comma of the prefix.
    #[error("tag name missing")]
    TagKeyMissing,
    /// A tag without an equals sign.
    #[error("'=' missing behind tag name")]
    TagEqualsMissing,
    /// Nothing behind the equals sign of a tag.
    #[error("tag value missing")]
    TagValueMissing,
    /// An equals sign in a tag's value, which must be escaped.
    #[error("unescaped '=' in tag value")]
    TagValueEquals,
    /// No cluster, neither in the line nor from the request.
    #[error("no cluster")]
    ClusterMissing,
    /// The line ends behind its prefix.
    #[error("field missing")]
    FieldMissing,
    /// Nothing before the equals sign of a field, or nothing behind a comma.
    #[error("field name missing")]
    FieldKeyMissing,
    /// A field without an equals sign.
    #[error("'=' missing behind field name")]
    FieldEqualsMissing,
    /// A field that is not `value`.
    #[error("unknown field")]
    UnknownField,
    /// Nothing behind the equals sign of a field.
    #[error("field value missing")]
    FieldValueMissing,
    /// A value that is neither number nor string nor boolean.
    #[error("value is no number")]
    Number,
    /// A value that is `true` or `false` in one of their spellings.
    #[error("value is a boolean")]
    Boolean,
    /// An integer value beyond the 64 bits of its type.
    #[error("integer out of range")]
    IntegerRange,
    /// A string without its closing quote.
    #[error("closing quote missing")]
    QuoteMissing,
    /// Something other than a comma, a space or the end behind a string.
    #[error("unexpected text behind string")]
    StringTail,
    /// A time that is no integer.
    #[error("time is no integer")]
    Time,
    /// A time that 64 bits cannot hold.
    #[error("time out of range")]
    TimeRange,
    /// Something behind the time.
    #[error("unexpected text behind time")]
    TimeTail,
}

/// Why a line is passed over although nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Skip {
    /// A line with a field `event`.
    #[error("an event")]
    Event,
    /// A line with a field `log`.
    #[error("a log message")]
    Log,
    /// A line with a field `control`.
    #[error("a control message")]
    Control,
    /// A string as `value`.
    #[error("a string")]
    Text,
    /// A metric that is not in the catalog; the caller's verdict, never this module's.
    #[error("unknown metric")]
    UnknownMetric,
}

impl Skip {
    /// All of them, for counters.
    pub const ALL: [Skip; 5] = [Skip::Event, Skip::Log, Skip::Control, Skip::Text, Skip::UnknownMetric];
}

/// Why a well-formed sample is not stored.
///
/// The first six are found here; the others are verdicts of the store, listed so that all are counted in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
#[repr(u8)]
pub enum Refusal {
    /// No `hostname`.
    #[error("no hostname")]
    HostMissing,
    /// A metric name that [`check_name`] refuses.
    #[error("metric name")]
    MetricName,
    /// A cluster name that [`check_path_name`] refuses.
    #[error("cluster name")]
    ClusterName,
    /// A host name that [`check_path_name`] refuses.
    #[error("host name")]
    HostName,
    /// A component name that [`check_name`] refuses.
    #[error("component name")]
    ComponentName,
    /// A value that `f32` cannot hold.
    #[error("value out of range")]
    ValueRange,
    /// Older than the retention.
    #[error("too old")]
    TooOld,
    /// Too far ahead of the clock.
    #[error("too new")]
    TooNew,
    /// One host more than allowed.
    #[error("too many hosts")]
    Hosts,
    /// One series more than allowed.
    #[error("too many series")]
    Series,
    /// One metric more than allowed.
    #[error("too many metrics")]
    Metrics,
}

impl Refusal {
    /// All of them, in the order of their numbers, for counters.
    pub const ALL: [Refusal; 11] = [
        Refusal::HostMissing,
        Refusal::MetricName,
        Refusal::ClusterName,
        Refusal::HostName,
        Refusal::ComponentName,
        Refusal::ValueRange,
        Refusal::TooOld,
        Refusal::TooNew,
        Refusal::Hosts,
        Refusal::Series,
        Refusal::Metrics,
    ];
}

#[cfg(test)]
mod tests;
