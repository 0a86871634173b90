//! The body of a query. Texts are borrowed from it where they can be: in large queries most of the time went into
//! allocating ids.
//!
//! As in the original, every field may be left out or `null`, unknown fields are ignored, and so is what stands behind
//! the object.

use std::borrow::Cow;
use std::ops::Deref;

use memchr::memchr_iter;
use serde::{Deserialize, Deserializer};

use crate::object::Object;

/// A text that borrows from the body if it has no escapes.
///
/// A type of its own because serde borrows a `Cow` only where it is a field by itself, not in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The whole request.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct QueryRequest<'a> {
    #[serde(borrow, default, deserialize_with = "or_default")]
    pub(super) cluster: Text<'a>,
    /// First second asked for.
    #[serde(default, deserialize_with = "or_default")]
    pub(super) from: i64,
    /// Second behind the last one asked for.
    #[serde(default, deserialize_with = "or_default")]
    pub(super) to: i64,
    #[serde(borrow, default, deserialize_with = "or_default")]
    pub(super) queries: Vec<Object<Query<'a>>>,
    /// Metrics that are asked of every host of the cluster.
    #[serde(borrow, default, deserialize_with = "or_default")]
    pub(super) for_all_nodes: Vec<Text<'a>>,
    #[serde(default = "yes", deserialize_with = "or_yes")]
    pub(super) with_stats: bool,
    #[serde(default = "yes", deserialize_with = "or_yes")]
    pub(super) with_data: bool,
    #[serde(default = "yes", deserialize_with = "or_yes")]
    pub(super) with_padding: bool,
}

/// One query of a request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Query<'a> {
    #[serde(borrow, default, deserialize_with = "or_default")]
    pub(super) metric: Text<'a>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    pub(super) host: Text<'a>,
    /// Seconds per point; 0 = the metric's frequency.
    #[serde(default, deserialize_with = "or_default")]
    pub(super) resolution: i64,
    /// Kind of the components asked for; without it the host itself.
    #[serde(borrow, default, rename = "type")]
    pub(super) type_: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    pub(super) type_ids: Vec<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) subtype: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    pub(super) subtype_ids: Vec<Text<'a>>,
    /// Factor; 0 = 1.
    #[serde(default, deserialize_with = "or_default")]
    pub(super) scale_by: f64,
    /// One result for all components together.
    #[serde(rename = "aggreg", default, deserialize_with = "or_default")]
    pub(super) aggregate: bool,
}

fn yes() -> bool {
    true
}

/// `null` is what is left out.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn or_yes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Option::deserialize(deserializer).map(|value| value.unwrap_or(true))
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
            Ok(text) => Object::deserialize(&mut serde_json::Deserializer::from_str(text)),
            Err(_) => Object::deserialize(&mut serde_json::Deserializer::from_slice(body)),
        };
        if let Ok(Object(request)) = read {
            return Ok(request);
        }
        // Once more with a record of the path, which costs too much to be kept for requests that are good.
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(body))
            .map(|Object(request)| request)
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
            queries: self.queries.into_iter().map(|Object(query)| Object(query.into_owned())).collect(),
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
        Self {
            metric: Text(Cow::Borrowed(metric)),
            host: Text(Cow::Borrowed(host)),
            resolution: 0,
            type_: None,
            type_ids: Vec::new(),
            subtype: None,
            subtype_ids: Vec::new(),
            scale_by: 0.0,
            aggregate: false,
        }
    }
}
