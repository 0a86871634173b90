//! InfluxDB 1.x: line protocol in, InfluxQL out.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::contender::{
    Ask, JOB_NODE_METRICS, JOB_THREAD_METRICS, OVERVIEW_METRICS, Question, Range, Spans, encoded,
};

/// Where lines go to.
pub(super) const WRITE_PATH: &str = "/write?db=bench&precision=s";

/// To be sent to a server that has no data yet.
pub(super) fn create() -> Ask {
    let path = format!("/query?q={}", encoded("CREATE DATABASE bench"));
    Ask { method: "POST", path, body: Vec::new() }
}

/// The config of a server that keeps everything in `data`, and takes any number of series. `internal` is for its own
/// use.
pub(super) fn config_text(addr: SocketAddr, internal: SocketAddr, data: &Path) -> String {
    let data = data.display();
    format!(
        r#"reporting-disabled = true
bind-address = "{internal}"
[meta]
  dir = "{data}/meta"
[data]
  dir = "{data}/data"
  wal-dir = "{data}/wal"
  max-series-per-database = 0
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "{addr}"
  log-enabled = false
"#
    )
}

/// A question as one request.
pub(super) fn ask(question: Question, spans: &Spans, step_s: u32) -> Ask {
    let hosts: Vec<String> = spans.hosts.iter().map(|host| format!("hostname='{host}'")).collect();
    let hosts = hosts.join(" OR ");
    let nodes = JOB_NODE_METRICS.join(", ");
    match question {
        Question::Threads => select(&format!(
            "SELECT value FROM flops_any WHERE type='hwthread' AND hostname='{}' AND {} GROUP BY \"type-id\"",
            spans.host,
            within(spans.everything)
        )),
        Question::Job => {
            let hour = within(spans.hour);
            let summed = JOB_THREAD_METRICS.map(|metric| {
                format!(
                    "SELECT sum(value) FROM {metric} WHERE type='hwthread' AND ({hosts}) AND {hour} \
                     GROUP BY time({step_s}s), hostname fill(none)"
                )
            });
            let node = format!(
                "SELECT value FROM {nodes} WHERE type='node' AND ({hosts}) AND {hour} GROUP BY hostname"
            );
            select(&format!("{}; {node}", summed.join("; ")))
        }
        Question::Overview => select(&format!(
            "SELECT value FROM {} WHERE type='node' AND {} GROUP BY hostname",
            OVERVIEW_METRICS.join(", "),
            within(spans.minutes)
        )),
    }
}

/// One metric of every host.
pub(super) fn one_of_each(span: (i64, i64)) -> Ask {
    select(&format!("SELECT value FROM load_one WHERE type='node' AND {} GROUP BY hostname", within(span)))
}

/// How many samples of a host there are.
pub(super) fn count_of(host: &str, range: Range<'_>) -> Ask {
    let span = within((range.begin_s(), range.end_s()));
    select(&format!("SELECT count(value) FROM /.*/ WHERE hostname='{host}' AND {span}"))
}

fn select(statement: &str) -> Ask {
    let path = format!("/query?db=bench&epoch=s&q={}", encoded(statement));
    Ask { method: "GET", path, body: Vec::new() }
}

fn within((from, to): (i64, i64)) -> String {
    format!("time >= {from}s AND time < {to}s")
}

#[derive(Debug, Deserialize)]
struct Answer {
    results: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
struct Statement {
    #[serde(default)]
    series: Vec<Rows>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Rows {
    values: Vec<(i64, Option<f64>)>,
}

/// All values of an answer that are not null.
pub(super) fn values(bytes: &[u8]) -> anyhow::Result<Vec<f64>> {
    let answer: Answer = serde_json::from_slice(bytes).context("the answer is no list of results")?;
    if let Some(error) = answer.results.iter().find_map(|result| result.error.as_ref()) {
        bail!("{error}");
    }
    let rows = answer.results.iter().flat_map(|result| &result.series).flat_map(|series| &series.values);
    Ok(rows.filter_map(|(_, value)| *value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_all_statements_and_an_error_is_one() {
        let answer = br#"{"results":[{"statement_id":0,"series":[{"name":"a","columns":["time","value"],
            "values":[[1,2.5],[2,null]]}]},{"statement_id":1},{"statement_id":2,"series":[{"name":"b",
            "columns":["time","sum"],"values":[[1,7]]}]}]}"#;
        assert_eq!(values(answer).unwrap(), [2.5, 7.0]);
        let error = br#"{"results":[{"statement_id":0,"error":"database not found: bench"}]}"#;
        assert!(values(error).unwrap_err().to_string().contains("not found"));
    }

    #[test]
    fn a_job_is_one_request_of_four_statements() {
        let spans = Spans {
            host: "n1".to_owned(),
            hosts: vec!["n1".to_owned(), "n2".to_owned()],
            everything: (0, 100),
            hour: (10, 100),
            minutes: (50, 100),
        };
        let ask = ask(Question::Job, &spans, 60);
        assert_eq!(ask.path.matches("SELECT").count(), 4);
        assert!(ask.path.contains(&encoded("(hostname='n1' OR hostname='n2')")), "{}", ask.path);
    }
}
