//! The prefix of a line: metric and tags, and the place of a series that they name.

use std::borrow::Cow;
use std::ops::Deref;

use super::name::{check_name, check_path_name};
use super::{BadLine, Fate, Malformed, Refusal};

const COMMA: u8 = 1;
const EQUALS: u8 = 2;
const SPACE: u8 = 4;
const CONTROL: u8 = 8;
const BACKSLASH: u8 = 16;

/// What ends a metric, unless escaped. Control characters cannot be.
const METRIC_ENDS: u8 = COMMA | SPACE | CONTROL;

/// What ends the name or value of a tag, or the name of a field.
pub(super) const TAG_ENDS: u8 = METRIC_ENDS | EQUALS;

/// The class of each byte; one bit, or none for what means nothing.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 32 {
        classes[byte] = CONTROL;
        byte += 1;
    }
    classes[0x7f] = CONTROL;
    classes[b',' as usize] = COMMA;
    classes[b'=' as usize] = EQUALS;
    classes[b' ' as usize] = SPACE;
    classes[b'\\' as usize] = BACKSLASH;
    classes
};

/// The prefix of a line, unescaped: the metric and the tags that name a series.
///
/// Tags that the store does not use are checked and left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix<'a> {
    /// Never empty.
    pub metric: Cow<'a, str>,
    /// `cluster`.
    pub cluster: Option<Cow<'a, str>>,
    /// `hostname`, or its alias `host`.
    pub host: Option<Cow<'a, str>>,
    /// `type`, as `socket`.
    pub component: Option<Cow<'a, str>>,
    /// `type-id`.
    pub component_id: Option<Cow<'a, str>>,
    /// `stype`.
    pub subcomponent: Option<Cow<'a, str>>,
    /// `stype-id`.
    pub subcomponent_id: Option<Cow<'a, str>>,
}

/// The names of the levels from the host down to a series: none for the host itself, at most two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path<'s> {
    names: [&'s str; 2],
    len: usize,
}

impl<'s> Deref for Path<'s> {
    type Target = [&'s str];

    fn deref(&self) -> &[&'s str] {
        &self.names[..self.len]
    }
}

/// Where a series is: all names are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'s> {
    /// The metric.
    pub metric: &'s str,
    /// The cluster, of the line or by default.
    pub cluster: &'s str,
    /// The host.
    pub host: &'s str,
    /// The levels below the host.
    pub path: Path<'s>,
}

impl Prefix<'_> {
    /// The levels below the host that hold the series, written into `scratch`.
    ///
    /// A component's name is its type and id, whichever of the two there is; the same for the subcomponent.
    /// `type=node` is the host itself, whatever its id. A subcomponent without a component is left out.
    pub fn path<'s>(&self, scratch: &'s mut String) -> Path<'s> {
        scratch.clear();
        if self.component.as_deref() == Some("node") {
            return Path { names: [""; 2], len: 0 };
        }
        let mut push = |kind: &Option<Cow<'_, str>>, id: &Option<Cow<'_, str>>| {
            scratch.push_str(kind.as_deref().unwrap_or_default());
            scratch.push_str(id.as_deref().unwrap_or_default());
            scratch.len()
        };
        let border = push(&self.component, &self.component_id);
        if border == 0 {
            return Path { names: [""; 2], len: 0 };
        }
        let end = push(&self.subcomponent, &self.subcomponent_id);
        let (component, subcomponent) = scratch.split_at(border);
        Path { names: [component, subcomponent], len: if end > border { 2 } else { 1 } }
    }

    /// Whether a subcomponent is left out because it has no component (or `node`) to stand under: then several
    /// series of a sender share one here, and the last line of a slot wins.
    #[must_use]
    pub fn merges_subcomponents(&self) -> bool {
        let component = match self.component.as_deref() {
            Some("node") => false,
            kind => kind.is_some() || self.component_id.is_some(),
        };
        !component && (self.subcomponent.is_some() || self.subcomponent_id.is_some())
    }

    /// The place that the names give, with every name checked; a name may have `name_bytes_max` bytes.
    ///
    /// # Errors
    /// [`Fate::Bad`] without any cluster; [`Fate::Refused`] without a host and for a name that the store does not take.
    pub fn place<'s>(
        &'s self,
        default_cluster: Option<&'s str>,
        name_bytes_max: usize,
        scratch: &'s mut String,
    ) -> Result<Place<'s>, Fate> {
        let refused = Fate::Refused;
        let host = self.host.as_deref().ok_or(refused(Refusal::HostMissing))?;
        let cluster = self
            .cluster
            .as_deref()
            .or(default_cluster)
            .filter(|cluster| !cluster.is_empty())
            .ok_or(BadLine::at(0, Malformed::ClusterMissing))?;
        check_name(&self.metric, name_bytes_max).map_err(|_| refused(Refusal::MetricName))?;
        check_path_name(cluster, name_bytes_max).map_err(|_| refused(Refusal::ClusterName))?;
        check_path_name(host, name_bytes_max).map_err(|_| refused(Refusal::HostName))?;
        let path = self.path(scratch);
        for name in &*path {
            check_name(name, name_bytes_max).map_err(|_| refused(Refusal::ComponentName))?;
        }
        Ok(Place { metric: &self.metric, cluster, host, path })
    }
}

/// The metric of a line, of which nothing more is parsed.
///
/// # Errors
/// [`BadLine`] if there is none, or if it is no UTF-8.
pub fn metric_of(prefix: &[u8]) -> Result<Cow<'_, str>, BadLine> {
    metric(prefix).map(|(name, _)| name)
}

/// Parses the prefix of a line, as [`split_prefix`](super::split_prefix) gives it.
///
/// # Errors
/// [`BadLine`] with the first thing that is wrong, in tags that are not used too.
pub fn parse_prefix(prefix: &[u8]) -> Result<Prefix<'_>, BadLine> {
    let (metric, mut at) = metric(prefix)?;
    let mut parsed = Prefix {
        metric,
        cluster: None,
        host: None,
        component: None,
        component_id: None,
        subcomponent: None,
        subcomponent_id: None,
    };
    while let Some(separator) = prefix.get(at) {
        match separator {
            b',' => at += 1,
            b'=' => return Err(BadLine::at(at, Malformed::TagValueEquals)),
            b' ' => return Err(BadLine::at(at, Malformed::Space)),
            _ => return Err(BadLine::at(at, Malformed::ControlCharacter)),
        }
        let key = Token::scan(prefix, at, TAG_ENDS);
        match prefix.get(key.end) {
            Some(b'=') if key.is_empty() => return Err(BadLine::at(at, Malformed::TagKeyMissing)),
            Some(b'=') => {}
            Some(b) if CLASSES[usize::from(*b)] == CONTROL => {
                return Err(BadLine::at(key.end, Malformed::ControlCharacter));
            }
            _ if key.is_empty() => return Err(BadLine::at(at, Malformed::TagKeyMissing)),
            _ => return Err(BadLine::at(key.end, Malformed::TagEqualsMissing)),
        }
        let value = Token::scan(prefix, key.end + 1, TAG_ENDS);
        if value.is_empty() && prefix.get(value.end).is_none_or(|b| CLASSES[usize::from(*b)] != CONTROL) {
            return Err(BadLine::at(value.start, Malformed::TagValueMissing));
        }
        let tag = match key.raw(prefix) {
            b"cluster" => &mut parsed.cluster,
            b"hostname" | b"host" => &mut parsed.host,
            b"type" => &mut parsed.component,
            b"type-id" => &mut parsed.component_id,
            b"stype" => &mut parsed.subcomponent,
            b"stype-id" => &mut parsed.subcomponent_id,
            _ => {
                key.text(prefix)?;
                value.text(prefix)?;
                at = value.end;
                continue;
            }
        };
        *tag = Some(value.text(prefix)?);
        at = value.end;
    }
    Ok(parsed)
}

/// The metric at the front of a prefix, and where it ends.
fn metric(prefix: &[u8]) -> Result<(Cow<'_, str>, usize), BadLine> {
    let token = Token::scan(prefix, 0, METRIC_ENDS);
    if token.is_empty() {
        return Err(BadLine::at(0, Malformed::MetricMissing));
    }
    Ok((token.text(prefix)?, token.end))
}

/// A stretch of a line in which escapes count.
pub(super) struct Token {
    start: usize,
    pub(super) end: usize,
    /// The classes of bytes that a backslash escapes, if there is such a backslash; otherwise 0.
    escaped: u8,
}

impl Token {
    /// From `start` up to a byte of one of the classes `ends`, or the end.
    pub(super) fn scan(bytes: &[u8], start: usize, ends: u8) -> Self {
        let escapable = ends & !CONTROL;
        let mut escaped = 0;
        let mut end = start;
        while let Some(byte) = bytes.get(end) {
            let class = CLASSES[usize::from(*byte)];
            if class & ends != 0 {
                break;
            }
            if class == BACKSLASH
                && bytes.get(end + 1).is_some_and(|next| CLASSES[usize::from(*next)] & escapable != 0)
            {
                escaped = escapable;
                end += 1;
            }
            end += 1;
        }
        Self { start, end, escaped }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// As it stands in the line.
    pub(super) fn raw<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start..self.end]
    }

    /// Without its escapes.
    fn text<'a>(&self, bytes: &'a [u8]) -> Result<Cow<'a, str>, BadLine> {
        let raw = std::str::from_utf8(self.raw(bytes))
            .map_err(|error| BadLine::at(self.start + error.valid_up_to(), Malformed::InvalidUtf8))?;
        if self.escaped == 0 {
            return Ok(Cow::Borrowed(raw));
        }
        let mut text = String::with_capacity(raw.len());
        let mut chars = raw.chars().peekable();
        while let Some(c) = chars.next() {
            let escape =
                |next: &char| u8::try_from(*next).is_ok_and(|b| CLASSES[usize::from(b)] & self.escaped != 0);
            text.push(if c == '\\' { chars.next_if(escape).unwrap_or(c) } else { c });
        }
        Ok(Cow::Owned(text))
    }
}
