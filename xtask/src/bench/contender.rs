//! The stores that are measured, and the interfaces they speak.

use std::env;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use store_loadgen::config::{ConfigOptions, catalog, config_text};
use store_loadgen::fleet::METRICS;
use store_loadgen::http::Client;
use store_loadgen::{Fleet, Scope};

use super::influx;
use crate::query::{self, Query, Request};
use crate::server::{Launch, free_addr};

/// Metrics of the node in the query of a job.
pub(super) const JOB_NODE_METRICS: [&str; 6] =
    ["load_one", "mem_used", "node_power", "net_bytes_in", "net_bytes_out", "lustre_read"];
/// Metrics that the query of a job sums over all threads.
pub(super) const JOB_THREAD_METRICS: [&str; 3] = ["flops_any", "flops_dp", "mem_bw"];
/// Metrics of the query over all nodes.
pub(super) const OVERVIEW_METRICS: [&str; 3] = ["load_one", "mem_used", "node_power"];
/// Hosts of the query of a job.
const JOB_HOSTS: u32 = 8;

/// The three questions that a web front end asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// One metric of all threads of one host, the whole range.
    Threads,
    /// 8 hosts × 9 metrics, 3 of them summed over all threads, the last hour.
    Job,
    /// 3 metrics of all nodes, the last five minutes.
    Overview,
}

/// All questions, with their names in the table.
pub(crate) const QUESTIONS: [(Question, &str); 3] = [
    (Question::Threads, "all threads of a host, whole range"),
    (Question::Job, "8 hosts x 9 metrics (3 summed), last hour"),
    (Question::Overview, "3 metrics of all nodes, last 5 min"),
];

/// One HTTP request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

/// The interface of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// The original's, and ours.
    Original,
    /// VictoriaMetrics': line protocol in, PromQL out.
    Victoria,
    /// InfluxDB's: line protocol in, InfluxQL out.
    Influx,
}

/// Whom and which times the questions are about.
#[derive(Debug, Clone)]
pub(super) struct Spans {
    pub(super) host: String,
    pub(super) hosts: Vec<String>,
    pub(super) everything: (i64, i64),
    pub(super) hour: (i64, i64),
    pub(super) minutes: (i64, i64),
}

/// A store to be measured.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    /// Its name in the table.
    pub(crate) name: String,
    /// The program.
    pub(crate) binary: PathBuf,
    /// What it speaks.
    pub(crate) api: Api,
}

/// What of a run the questions depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range<'a> {
    /// The hosts and metrics.
    pub(crate) fleet: &'a Fleet,
    /// How many steps were sent.
    pub(crate) steps: u32,
}

impl Range<'_> {
    pub(super) fn begin_s(&self) -> i64 {
        self.fleet.time_s(0)
    }

    pub(super) fn end_s(&self) -> i64 {
        self.fleet.time_s(self.steps)
    }

    fn spans(&self) -> Spans {
        let fleet = self.fleet;
        let (begin, end) = (self.begin_s(), self.end_s());
        Spans {
            host: fleet.host_name(fleet.options().hosts / 2),
            hosts: (0..JOB_HOSTS.min(fleet.options().hosts)).map(|host| fleet.host_name(host)).collect(),
            everything: (begin, end),
            hour: (end - 3600, end),
            minutes: (end - 300, end),
        }
    }
}

impl Contender {
    /// VictoriaMetrics and InfluxDB, where they are installed.
    pub(crate) fn installed() -> Vec<Self> {
        let known: [(&str, &[&str], Api); 2] = [
            ("VictoriaMetrics", &["victoria-metrics", "victoria-metrics-prod"], Api::Victoria),
            ("InfluxDB", &["influxd"], Api::Influx),
        ];
        let path = env::var_os("PATH").unwrap_or_default();
        let find = |(name, binaries, api): (&str, &[&str], Api)| {
            let binary = env::split_paths(&path)
                .flat_map(|directory| binaries.iter().map(move |binary| directory.join(binary)))
                .find(|path| path.is_file())?;
            Some(Self { name: name.to_owned(), binary, api })
        };
        known.into_iter().filter_map(find).collect()
    }

    /// `NAME=PATH`, a program with the original's interface.
    pub(crate) fn peer(text: &str) -> anyhow::Result<Self> {
        let (name, path) = text.split_once('=').context("a peer is NAME=PATH")?;
        let binary = Path::new(path).canonicalize().with_context(|| format!("cannot find {path}"))?;
        Ok(Self { name: name.to_owned(), binary, api: Api::Original })
    }

    /// How it is started on a directory.
    pub(crate) fn launch(
        &self,
        directory: &Path,
        addr: SocketAddr,
        range: Range<'_>,
        wal_sync: Option<&str>,
    ) -> anyhow::Result<Launch> {
        let data = self.data(directory);
        match self.api {
            Api::Original => {
                // So long that nothing is too old while the measurement lasts.
                let hours = ((range.end_s() - range.begin_s()) / 3600 + 2).max(48);
                let options = ConfigOptions {
                    addr,
                    directory: &data,
                    retention: &format!("{hours}h"),
                    checkpoint_interval: "12h",
                    wal_sync,
                };
                let config = directory.join("config.json");
                File::create(&config)?.write_all(config_text(&catalog(range.fleet), &options).as_bytes())?;
                Ok(Launch::with_config(&self.binary, directory, &config, addr))
            }
            Api::Victoria => Ok(Launch {
                binary: self.binary.clone(),
                arguments: vec![
                    format!("-storageDataPath={}", data.display()),
                    format!("-httpListenAddr={addr}"),
                    "-retentionPeriod=100y".to_owned(),
                    "-influxSkipSingleField".to_owned(),
                    "-search.latencyOffset=0s".to_owned(),
                    "-search.maxUniqueTimeseries=20000000".to_owned(),
                ],
                directory: directory.to_owned(),
                addr,
                log: directory.join("server.log"),
            }),
            Api::Influx => {
                let config = directory.join("influxdb.conf");
                File::create(&config)?
                    .write_all(influx::config_text(addr, free_addr()?, &data).as_bytes())?;
                Ok(Launch::with_config(&self.binary, directory, &config, addr))
            }
        }
    }

    /// Where it keeps its data.
    pub(crate) fn data(&self, directory: &Path) -> PathBuf {
        directory.join("data")
    }
}

impl Api {
    /// Path and query of the POSTs of lines.
    pub(crate) fn write_path(self) -> &'static str {
        match self {
            Api::Original => "/api/write",
            Api::Victoria => "/write?precision=s",
            Api::Influx => influx::WRITE_PATH,
        }
    }

    /// Makes a store that has no data yet ready to take some.
    pub(crate) fn prepare(self, client: &mut Client) -> anyhow::Result<()> {
        if self == Api::Influx {
            let create = influx::create();
            let head = client.request_twice(create.method, &create.path, &create.body, &mut Vec::new())?;
            ensure!(head.status == 200, "the database was refused with {}", head.status);
        }
        Ok(())
    }

    /// A question as requests.
    pub(crate) fn ask(self, question: Question, range: Range<'_>) -> anyhow::Result<Vec<Ask>> {
        let fleet = range.fleet;
        let spans = range.spans();
        let Spans { host, hosts, everything, hour, minutes } = spans.clone();
        match self {
            Api::Influx => Ok(vec![influx::ask(question, &spans, fleet.options().frequency_s)]),
            Api::Original => {
                let (span, queries, for_all_nodes) = match question {
                    Question::Threads => {
                        (everything, vec![threads(fleet, &host, "flops_any", false)], Vec::new())
                    }
                    Question::Job => {
                        let node = |host: &String| {
                            JOB_NODE_METRICS.map(|metric| Query {
                                metric: metric.to_owned(),
                                host: host.clone(),
                                ..Query::default()
                            })
                        };
                        let summed = |host: &String| {
                            JOB_THREAD_METRICS.map(|metric| threads(fleet, host, metric, true))
                        };
                        let queries = hosts
                            .iter()
                            .flat_map(|host| node(host).into_iter().chain(summed(host)))
                            .collect();
                        (hour, queries, Vec::new())
                    }
                    Question::Overview => {
                        let metrics = OVERVIEW_METRICS.iter().map(|&metric| metric.to_owned()).collect();
                        (minutes, Vec::new(), metrics)
                    }
                };
                Ok(vec![original(fleet, span, queries, for_all_nodes)?])
            }
            Api::Victoria => Ok(match question {
                Question::Threads => {
                    vec![promql(
                        fleet,
                        everything,
                        &format!("flops_any{{hostname=\"{host}\",type=\"hwthread\"}}"),
                    )]
                }
                Question::Job => {
                    let hosts = hosts.join("|");
                    let nodes = JOB_NODE_METRICS.join("|");
                    let node = format!("{{__name__=~\"{nodes}\",type=\"node\",hostname=~\"{hosts}\"}}");
                    let summed = JOB_THREAD_METRICS.map(|metric| {
                        format!("sum({metric}{{type=\"hwthread\",hostname=~\"{hosts}\"}}) by (hostname)")
                    });
                    summed.iter().chain([&node]).map(|query| promql(fleet, hour, query)).collect()
                }
                Question::Overview => {
                    let metrics = OVERVIEW_METRICS.join("|");
                    let query = format!("{{__name__=~\"{metrics}\",type=\"node\"}}");
                    vec![promql(fleet, minutes, &query)]
                }
            }),
        }
    }

    /// The share of the whole range that the hosts answer, by one metric of each; `None` while the store
    /// says that it is still loading, or fails otherwise.
    pub(crate) fn answered(self, client: &mut Client, range: Range<'_>) -> anyhow::Result<Option<f64>> {
        let (fleet, span) = (range.fleet, (range.begin_s(), range.end_s()));
        let ask = match self {
            Api::Original => original(fleet, span, Vec::new(), vec!["load_one".to_owned()])?,
            Api::Victoria => promql(fleet, span, "load_one{type=\"node\"}"),
            Api::Influx => influx::one_of_each(span),
        };
        let mut bytes = Vec::new();
        let head = client.request_twice(ask.method, &ask.path, &ask.body, &mut bytes)?;
        if head.status != 200 {
            return Ok(None);
        }
        let wanted = u64::from(fleet.options().hosts) * u64::from(range.steps);
        Ok(Some(self.count(&bytes)? as f64 / wanted.max(1) as f64))
    }

    /// How many values that are not null an answer has.
    pub(crate) fn count(self, bytes: &[u8]) -> anyhow::Result<u64> {
        let count = match self {
            Api::Original => query::parse(bytes)?
                .results
                .iter()
                .flatten()
                .flat_map(|series| &series.data)
                .flatten()
                .count(),
            Api::Victoria => matrix(bytes)?.data.result.iter().map(|series| series.values.len()).sum(),
            Api::Influx => influx::values(bytes)?.len(),
        };
        Ok(count as u64)
    }

    /// Asks for every sample of a host and counts those that are missing or have another value.
    pub(crate) fn missing(self, client: &mut Client, range: Range<'_>, host: u32) -> anyhow::Result<u64> {
        let fleet = range.fleet;
        let name = fleet.host_name(host);
        match self {
            Api::Original => {
                let queries = METRICS
                    .iter()
                    .enumerate()
                    .map(|(index, metric)| Query {
                        metric: metric.name.to_owned(),
                        host: name.clone(),
                        kind: (metric.scope != Scope::Node).then(|| metric.scope.name().to_owned()),
                        type_ids: match metric.scope {
                            Scope::Node => Vec::new(),
                            _ => ids(fleet, index),
                        },
                        ..Query::default()
                    })
                    .collect();
                let ask = original(fleet, (range.begin_s(), range.end_s()), queries, Vec::new())?;
                let answer = query::parse(&query::ask_bytes(client, &ask.body)?)?;
                let by_metric: Vec<&[query::Series]> = answer.results.iter().map(Vec::as_slice).collect();
                let mut missing = 0;
                for (index, series) in fleet.series().iter().enumerate() {
                    let got =
                        by_metric.get(series.metric).and_then(|results| results.get(series.id as usize));
                    missing += missing_of(range, host, index, got);
                }
                Ok(missing)
            }
            Api::Victoria => {
                // An export is exact, and complete whatever the resolution of a query would make of it.
                let selector = encoded(&format!("{{hostname=\"{name}\"}}"));
                let mut bytes = Vec::new();
                let path = format!("/api/v1/export?match[]={selector}");
                let head = client.request_twice("GET", &path, b"", &mut bytes)?;
                ensure!(head.status == 200, "the export was answered with {}", head.status);
                let mut found = 0;
                for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let line: Export = serde_json::from_slice(line).context("a line of the export")?;
                    found += line.timestamps.len() as u64;
                }
                let wanted = fleet.series_per_host() as u64 * u64::from(range.steps);
                Ok(wanted.saturating_sub(found))
            }
            Api::Influx => {
                let ask = influx::count_of(&name, range);
                let mut bytes = Vec::new();
                let head = client.request_twice(ask.method, &ask.path, &ask.body, &mut bytes)?;
                ensure!(head.status == 200, "the count was answered with {}", head.status);
                let found: f64 = influx::values(&bytes)?.iter().sum();
                let wanted = fleet.series_per_host() as u64 * u64::from(range.steps);
                Ok(wanted.saturating_sub(found as u64))
            }
        }
    }
}

/// How many samples of a series an answer lacks or has wrong.
fn missing_of(range: Range<'_>, host: u32, series: usize, answer: Option<&query::Series>) -> u64 {
    let frequency_s = i64::from(range.fleet.options().frequency_s);
    let at = |step: u32| {
        let answer = answer?;
        let index = (range.fleet.time_s(step) - answer.from).div_euclid(frequency_s);
        answer.data.get(usize::try_from(index).ok()?).copied().flatten()
    };
    let right = |step: &u32| {
        at(*step).is_some_and(|seen| query::is_printed(seen, range.fleet.value(host, series, *step)))
    };
    (0..range.steps).filter(|step| !right(step)).count() as u64
}

fn ids(fleet: &Fleet, metric: usize) -> Vec<String> {
    fleet
        .series()
        .iter()
        .filter(|series| series.metric == metric)
        .map(|series| fleet.type_id(*series))
        .collect()
}

fn threads(fleet: &Fleet, host: &str, metric: &str, aggreg: bool) -> Query {
    Query {
        metric: metric.to_owned(),
        host: host.to_owned(),
        kind: Some("hwthread".to_owned()),
        type_ids: (0..fleet.options().hwthreads).map(|id| id.to_string()).collect(),
        aggreg,
        ..Query::default()
    }
}

fn original(
    fleet: &Fleet,
    (from, to): (i64, i64),
    queries: Vec<Query>,
    for_all_nodes: Vec<String>,
) -> anyhow::Result<Ask> {
    let request = Request {
        cluster: fleet.options().cluster.clone(),
        from,
        to,
        with_stats: true,
        with_padding: false,
        queries,
        for_all_nodes,
    };
    Ok(Ask { method: "GET", path: "/api/query".to_owned(), body: serde_json::to_vec(&request)? })
}

fn promql(fleet: &Fleet, (from, to): (i64, i64), query: &str) -> Ask {
    let step = fleet.options().frequency_s;
    // The end is included there, and excluded here.
    let end = to - i64::from(step);
    let query = encoded(query);
    let path = format!("/api/v1/query_range?nocache=1&start={from}&end={end}&step={step}s&query={query}");
    Ask { method: "GET", path, body: Vec::new() }
}

/// Percent-encodes everything but letters and digits.
pub(super) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[derive(Debug, Deserialize)]
struct Matrix {
    data: MatrixData,
}

#[derive(Debug, Deserialize)]
struct MatrixData {
    result: Vec<MatrixSeries>,
}

#[derive(Debug, Deserialize)]
struct MatrixSeries {
    values: Vec<(f64, String)>,
}

#[derive(Debug, Deserialize)]
struct Export {
    timestamps: Vec<i64>,
}

fn matrix(bytes: &[u8]) -> anyhow::Result<Matrix> {
    match serde_json::from_slice(bytes) {
        Ok(matrix) => Ok(matrix),
        Err(error) => bail!("the answer is no matrix: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_loadgen::FleetOptions;

    fn fleet() -> Fleet {
        Fleet::new(FleetOptions { hosts: 10, ..FleetOptions::default() })
    }

    #[test]
    fn questions_name_series_that_the_fleet_has() {
        let fleet = fleet();
        let range = Range { fleet: &fleet, steps: 600 };
        for metric in JOB_NODE_METRICS.iter().chain(&OVERVIEW_METRICS) {
            assert!(
                METRICS.iter().any(|known| known.name == *metric && known.scope == Scope::Node),
                "{metric}"
            );
        }
        for metric in JOB_THREAD_METRICS {
            assert!(
                METRICS.iter().any(|known| known.name == metric && known.aggregation == Some("sum")),
                "{metric}"
            );
        }
        let asks = Api::Original.ask(Question::Job, range).unwrap();
        let request: serde_json::Value = serde_json::from_slice(&asks[0].body).unwrap();
        assert_eq!(request["queries"].as_array().unwrap().len(), 72);
        assert_eq!(Api::Victoria.ask(Question::Job, range).unwrap().len(), 4);
    }

    #[test]
    fn values_are_counted_in_both_interfaces() {
        let ours =
            br#"{"results":[[{"data":[1.0,null],"from":0,"to":2,"resolution":1}],[],[{"data":[2.0]}]]}"#;
        assert_eq!(Api::Original.count(ours).unwrap(), 2);
        let theirs = br#"{"status":"success","data":{"result":[{"metric":{},"values":[[1,"2"],[3,"4"]]}]}}"#;
        assert_eq!(Api::Victoria.count(theirs).unwrap(), 2);
        assert!(Api::Victoria.count(ours).is_err());
    }

    #[test]
    fn a_series_with_holes_wrong_values_or_none_is_counted_as_missing() {
        let fleet = fleet();
        let range = Range { fleet: &fleet, steps: 5 };
        let mut answer = query::Series {
            data: (0..5).map(|step| Some(query::as_printed(fleet.value(3, 20, step)))).collect(),
            from: fleet.time_s(0),
            resolution: 10,
            ..query::Series::default()
        };
        assert_eq!(missing_of(range, 3, 20, Some(&answer)), 0);
        answer.data[1] = None;
        answer.data[2] = answer.data[2].map(|value| value + 0.01);
        assert_eq!(missing_of(range, 3, 20, Some(&answer)), 2);
        assert_eq!(missing_of(range, 3, 20, None), 5);
    }

    #[test]
    fn a_query_is_percent_encoded_and_a_peer_needs_a_name_and_a_path() {
        assert_eq!(encoded("a{b=\"c\"}"), "a%7Bb%3D%22c%22%7D");
        assert!(Contender::peer("no path").is_err());
        assert_eq!(Contender::peer("x=/bin/sh").unwrap().name, "x");
    }
}
