//! The body of a query. Texts are borrowed from it where they can be: in large queries most of the time went into
//! allocating ids.
//!
//! As in the original, every field may be left out or `null`, a key may be written in any case, of one that stands twice
//! the last counts, unknown ones are ignored, and so is what stands behind the object.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use memchr::memchr_iter;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::object::key_of;

/// A text that borrows from the body if it has no escapes. `null` is the empty one.
///
/// A type of its own because serde borrows a `Cow` only where it is a field by itself, not in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Self)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }
}

/// The whole request.
#[derive(Debug, PartialEq)]
pub(super) struct QueryRequest<'a> {
    pub(super) cluster: Text<'a>,
    /// First second asked for.
    pub(super) from: i64,
    /// Second behind the last one asked for.
    pub(super) to: i64,
    pub(super) queries: Vec<Query<'a>>,
    /// Metrics that are asked of every host of the cluster.
    pub(super) for_all_nodes: Vec<Text<'a>>,
    pub(super) with_stats: bool,
    pub(super) with_data: bool,
    pub(super) with_padding: bool,
}

impl Default for QueryRequest<'_> {
    fn default() -> Self {
        Self {
            cluster: Text::default(),
            from: 0,
            to: 0,
            queries: Vec::new(),
            for_all_nodes: Vec::new(),
            with_stats: true,
            with_data: true,
            with_padding: true,
        }
    }
}

/// One query of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Query<'a> {
    pub(super) metric: Text<'a>,
    pub(super) host: Text<'a>,
    /// Seconds per point; 0 = the metric's frequency.
    pub(super) resolution: i64,
    /// Kind of the components asked for; without it the host itself.
    pub(super) type_: Option<Text<'a>>,
    pub(super) type_ids: Vec<Text<'a>>,
    pub(super) subtype: Option<Text<'a>>,
    pub(super) subtype_ids: Vec<Text<'a>>,
    /// Factor; 0 = 1.
    pub(super) scale_by: f64,
    /// One result for all components together.
    pub(super) aggregate: bool,
}

/// A struct whose fields may be left out, stand in any order, and stand more than once: then the last one counts.
trait Fields<'de>: Default {
    /// The keys, in lower case.
    const KEYS: &'static [&'static str];

    /// Takes the value of the key at `place` in [`Self::KEYS`].
    fn set<A: MapAccess<'de>>(&mut self, place: usize, map: &mut A) -> Result<(), A::Error>;
}

struct FieldsVisitor<T>(std::marker::PhantomData<T>);

impl<'de, T: Fields<'de>> Visitor<'de> for FieldsVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut read = T::default();
        while let Some(key) = key_of(&mut map, T::KEYS)? {
            match key {
                Ok(place) => read.set(place, &mut map)?,
                Err(_) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(read)
    }

    /// `null` is an object without fields.
    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }
}

fn read_fields<'de, T: Fields<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(FieldsVisitor(std::marker::PhantomData))
}

impl<'de: 'a, 'a> Deserialize<'de> for QueryRequest<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_fields(deserializer)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Query<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_fields(deserializer)
    }
}

impl<'de: 'a, 'a> Fields<'de> for QueryRequest<'a> {
    const KEYS: &'static [&'static str] =
        &["cluster", "from", "to", "queries", "for-all-nodes", "with-stats", "with-data", "with-padding"];

    fn set<A: MapAccess<'de>>(&mut self, place: usize, map: &mut A) -> Result<(), A::Error> {
        match place {
            0 => keep_unless_null(&mut self.cluster, map),
            1 => keep_unless_null(&mut self.from, map),
            2 => keep_unless_null(&mut self.to, map),
            3 => clear_if_null(&mut self.queries, map),
            4 => clear_if_null(&mut self.for_all_nodes, map),
            5 => keep_unless_null(&mut self.with_stats, map),
            6 => keep_unless_null(&mut self.with_data, map),
            _ => keep_unless_null(&mut self.with_padding, map),
        }
    }
}

impl<'de: 'a, 'a> Fields<'de> for Query<'a> {
    const KEYS: &'static [&'static str] =
        &["metric", "host", "resolution", "type", "type-ids", "subtype", "subtype-ids", "scale-by", "aggreg"];

    fn set<A: MapAccess<'de>>(&mut self, place: usize, map: &mut A) -> Result<(), A::Error> {
        match place {
            0 => keep_unless_null(&mut self.metric, map),
            1 => keep_unless_null(&mut self.host, map),
            2 => keep_unless_null(&mut self.resolution, map),
            3 => clear_if_null(&mut self.type_, map),
            4 => clear_if_null(&mut self.type_ids, map),
            5 => clear_if_null(&mut self.subtype, map),
            6 => clear_if_null(&mut self.subtype_ids, map),
            7 => keep_unless_null(&mut self.scale_by, map),
            _ => keep_unless_null(&mut self.aggregate, map),
        }
    }
}

/// Takes the value of a key; `null` says nothing, also behind a value that the key had before.
fn keep_unless_null<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    field: &mut T,
    map: &mut A,
) -> Result<(), A::Error> {
    if let Some(value) = map.next_value::<Option<T>>()? {
        *field = value;
    }
    Ok(())
}

/// Takes the value of a key; `null` is none, also behind a value that the key had before.
fn clear_if_null<'de, T: OptionalField<'de>, A: MapAccess<'de>>(
    field: &mut T,
    map: &mut A,
) -> Result<(), A::Error> {
    *field = T::from(map.next_value::<Option<T::Value>>()?);
    Ok(())
}

/// A field that may have no value at all.
trait OptionalField<'de>: Sized {
    /// What it is read as.
    type Value: Deserialize<'de>;

    fn from(value: Option<Self::Value>) -> Self;
}

impl<'de, T: Deserialize<'de>> OptionalField<'de> for Option<T> {
    type Value = T;

    fn from(value: Option<T>) -> Self {
        value
    }
}

impl<'de, T: Deserialize<'de>> OptionalField<'de> for Vec<T> {
    type Value = Self;

    fn from(value: Option<Self>) -> Self {
        value.unwrap_or_default()
    }
}

/// Bytes that a request takes in memory when it is read, at most: a body of `{},{},` or `"","",` takes far more than
/// it is long.
pub(super) fn memory_bytes(body: &[u8]) -> usize {
    let (objects, quotes) = (memchr_iter(b'{', body).count(), memchr_iter(b'"', body).count());
    let read = objects * size_of::<Query<'_>>() + quotes / 2 * size_of::<Text<'_>>();
    // Lists double as they grow: the old and the new one are there at once.
    read.saturating_mul(3)
}

/// Why a body is no query.
#[derive(Debug, thiserror::Error)]
#[error("{}{what}", if path == "." { String::new() } else { format!("{path}: ") })]
pub(super) struct BadRequest {
    /// Path of the field, `.` for the whole.
    path: String,
    /// With line and column. Part of the text, not its source: the client gets one line.
    what: serde_json::Error,
}

impl<'a> QueryRequest<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// It is no JSON object, or a field has another type; with the path of the field, line and column.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, BadRequest> {
        // What is UTF-8 as a whole need not be looked at string by string.
        let read = match std::str::from_utf8(body) {
            Ok(text) => Self::deserialize(&mut serde_json::Deserializer::from_str(text)),
            Err(_) => Self::deserialize(&mut serde_json::Deserializer::from_slice(body)),
        };
        if let Ok(request) = read {
            return Ok(request);
        }
        // Once more with a record of the path, which costs too much to be kept for requests that are good.
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(body))
            .map_err(|error| BadRequest { path: error.path().to_string(), what: error.into_inner() })
    }
}

impl Text<'_> {
    fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }
}

fn all_owned(texts: Vec<Text<'_>>) -> Vec<Text<'static>> {
    texts.into_iter().map(Text::into_owned).collect()
}

impl QueryRequest<'_> {
    /// The same without the body.
    pub(super) fn into_owned(self) -> QueryRequest<'static> {
        QueryRequest {
            cluster: self.cluster.into_owned(),
            queries: self.queries.into_iter().map(Query::into_owned).collect(),
            for_all_nodes: all_owned(self.for_all_nodes),
            from: self.from,
            to: self.to,
            with_stats: self.with_stats,
            with_data: self.with_data,
            with_padding: self.with_padding,
        }
    }
}

impl Query<'_> {
    fn into_owned(self) -> Query<'static> {
        Query {
            metric: self.metric.into_owned(),
            host: self.host.into_owned(),
            resolution: self.resolution,
            type_: self.type_.map(Text::into_owned),
            type_ids: all_owned(self.type_ids),
            subtype: self.subtype.map(Text::into_owned),
            subtype_ids: all_owned(self.subtype_ids),
            scale_by: self.scale_by,
            aggregate: self.aggregate,
        }
    }
}

impl<'a> Query<'a> {
    /// The query for a metric of a whole node.
    pub(super) fn node(host: &'a str, metric: &'a str) -> Self {
        Self { metric: Text(Cow::Borrowed(metric)), host: Text(Cow::Borrowed(host)), ..Self::default() }
    }
}
