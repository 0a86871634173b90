//! Questions to a store, and its answers, in the JSON of `/api/query`.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use store_loadgen::http::Client;

/// How long a store that is still loading is asked again.
const LOADING_LIMIT: Duration = Duration::from_secs(120);

/// The body of a query.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Request {
    /// The cluster of all queries.
    pub(crate) cluster: String,
    /// From this time on, seconds.
    pub(crate) from: i64,
    /// Up to before this time, seconds.
    pub(crate) to: i64,
    /// Whether avg, min and max are wanted.
    pub(crate) with_stats: bool,
    /// Whether nulls are wanted in front, so that the data begins at `from`.
    pub(crate) with_padding: bool,
    /// One answer each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) queries: Vec<Query>,
    /// Metrics that are wanted of every host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) for_all_nodes: Vec<String>,
}

/// What is wanted of one host.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Query {
    /// The metric.
    pub(crate) metric: String,
    /// The host.
    pub(crate) host: String,
    /// The type of the components, unless the host itself is meant.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    /// The ids of the components.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) type_ids: Vec<String>,
    /// The type of the parts of the components.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subtype: Option<String>,
    /// The ids of the parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) subtype_ids: Vec<String>,
    /// One answer for all components together.
    pub(crate) aggreg: bool,
}

/// A store's answer.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Answer {
    /// Per query, per component asked for.
    pub(crate) results: Vec<Vec<Series>>,
}

/// The values of one series or aggregate.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Series {
    /// Why there are none.
    pub(crate) error: Option<String>,
    /// The values, `None` where there is none.
    pub(crate) data: Vec<Option<f64>>,
    /// The time of the first value.
    pub(crate) from: i64,
    /// Seconds from one value to the next.
    pub(crate) resolution: i64,
}

/// Asks, and asks again while the store says that it is still loading; gives the bytes of the answer.
pub(crate) fn ask_bytes(client: &mut Client, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let begin = Instant::now();
    let mut bytes = Vec::new();
    loop {
        let head =
            client.request_twice("GET", "/api/query", body, &mut bytes).context("the query got no answer")?;
        match head.status {
            200 => return Ok(bytes),
            503 if begin.elapsed() < LOADING_LIMIT => thread::sleep(Duration::from_millis(2)),
            status => bail!(
                "the query was answered with {status}: {}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(500)])
            ),
        }
    }
}

/// As [`ask_bytes`], with the answer parsed.
pub(crate) fn ask(client: &mut Client, request: &Request) -> anyhow::Result<Answer> {
    parse(&ask_bytes(client, &serde_json::to_vec(request)?)?)
}

/// Parses an answer.
pub(crate) fn parse(bytes: &[u8]) -> anyhow::Result<Answer> {
    serde_json::from_slice(bytes).context("the answer is not the JSON of a query")
}

/// A value as a store prints it: rounded once to f32, then to three decimals.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is the point")]
pub(crate) fn as_printed(value: f64) -> f64 {
    let text = format!("{:.3}", f64::from(value as f32));
    text.parse().unwrap_or(f64::NAN)
}

/// Whether a printed value is that of a sample, to the last of its three decimals, without printing it.
///
/// A thousand times an f32 is exact enough in f64 that only a tie could be judged either way.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is the point")]
pub(crate) fn is_printed(printed: f64, value: f64) -> bool {
    let value = f64::from(value as f32);
    (printed - value).abs() <= 0.000_500_001 + value.abs() * 1e-15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_names_of_the_interface() {
        let request = Request {
            cluster: "c".to_owned(),
            from: 1,
            to: 2,
            queries: vec![Query {
                metric: "m".to_owned(),
                host: "h".to_owned(),
                kind: Some("core".to_owned()),
                type_ids: vec!["0".to_owned()],
                ..Query::default()
            }],
            ..Request::default()
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"cluster":"c","from":1,"to":2,"with-stats":false,"with-padding":false,"queries":[{"metric":"m","host":"h","type":"core","type-ids":["0"],"aggreg":false}]}"#
        );
    }

    #[test]
    fn an_answer_with_gaps_errors_and_nothing_is_read() {
        let answer = parse(
            br#"{"results":[[{"data":[1.000,null,-0.500],"from":5,"to":8,"resolution":1}],[],[{"error":"no","from":0,"to":0}]]}"#,
        )
        .unwrap();
        assert_eq!(answer.results[0][0].data, [Some(1.0), None, Some(-0.5)]);
        assert!(answer.results[1].is_empty());
        assert_eq!(answer.results[2][0].error.as_deref(), Some("no"));
        assert!(parse(b"{}").is_err());
    }

    #[test]
    fn values_are_compared_as_they_are_printed() {
        assert_eq!(as_printed(24_403_499.0).to_bits(), 24_403_500.0f64.to_bits());
        assert_eq!(as_printed(0.031_159_000_000_000_003).to_bits(), 0.031f64.to_bits());
        for value in [0.0, 1.0 / 3.0, 24_403_499.0, 1e30, -7.123_456, 0.0004, 123_456.789] {
            assert!(is_printed(as_printed(value), value), "{value}");
            assert!(!is_printed(as_printed(value) + 0.001 + value.abs() * 1e-6, value), "{value}");
        }
    }
}
