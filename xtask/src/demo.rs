//! `demo`: real input through the real server, over a clean restart and a kill.
//!
//! Recorded POSTs of a node collector, 1 Hz telemetry, and optionally a job archive are written; every value is
//! read back and compared; then the server is stopped and started, and killed and started, and has to give the
//! same bytes again. Last, the recorded POSTs are sent to a server without a config file.

mod input;
mod line;
mod model;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use store_loadgen::config::{ConfigOptions, config_text};
use store_loadgen::http::Client;

use crate::query::{self, Request};
use crate::server::{Launch, Server, free_addr, log_tail, now_s};
use crate::table::{Table, grouped};
use crate::workspace;
use input::{CLUSTER, Input};
use model::{Comparison, Model, query_of};

/// Series asked for in one request.
const QUERIES_PER_REQUEST: usize = 50;
/// Where a server without a config listens.
const DEFAULT_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8082);

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A job archive file (`.json` or `.json.gz`) to replay as well.
    #[arg(long, value_name = "FILE")]
    job: Option<PathBuf>,
    /// The server to run; built from this workspace by default.
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
}

/// Runs the demonstration.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = workspace::server_binary(arguments.server.as_deref())?;
    let now = now_s()?;
    let recording = input::recording()?;
    // A second pass of the recording follows the first; both must lie in the past.
    let length_s = recording.span_s.1 - recording.span_s.0 + i64::from(input::RECORDING_FREQUENCY_S);
    let recording = match now - recording.span_s.1 - length_s {
        room if room >= 0 => recording,
        room => recording.shifted(recording.name, room)?,
    };
    let again = recording.shifted("recorded POSTs again", length_s)?;
    let mut inputs = vec![recording, input::telemetry(now)?];
    if let Some(path) = &arguments.job {
        inputs.push(input::job(path, now)?);
    }

    let mut table =
        Table::new(&["step", "POSTs", "samples", "strings", "series", "values compared", "different"]);
    let directory = tempfile::Builder::new().prefix("demo-").tempdir()?;
    let mut bad = restarts(&binary, directory.path(), &inputs, &again, &mut table)
        .with_context(|| log_tail(&directory.path().join("server.log")))?;
    let directory = tempfile::Builder::new().prefix("demo-default-").tempdir()?;
    let recording = inputs.swap_remove(0);
    bad += without_config(&binary, directory.path(), &recording, &mut table)
        .with_context(|| log_tail(&directory.path().join("server.log")))?;
    println!("{}", table.text());
    if bad > 0 {
        bail!("{bad} differences");
    }
    println!("every value is there, bit for bit, after a clean restart and after a kill");
    Ok(())
}

/// The main act. Gives the number of differences.
fn restarts(
    binary: &Path,
    directory: &Path,
    inputs: &[Input],
    again: &Input,
    table: &mut Table,
) -> anyhow::Result<u64> {
    let addr = free_addr()?;
    let launch = Launch::with_config(binary, directory, &write_config(directory, addr, inputs)?, addr);
    let mut bad = 0;
    let mut model = Model::default();
    let server = Server::start(&launch)?;
    let mut client = server.client()?;
    for input in inputs {
        send(&mut client, input, &mut model, table)?;
    }
    let span = span(inputs);
    let first = Asked::new(&model, span)?;
    let answers = first.ask(&mut client)?;
    bad += compared(table, "asked", first.compare(&model, &answers)?);

    server.stop()?;
    let server = Server::start(&launch)?;
    let mut client = server.client()?;
    bad += same_bytes(table, "asked after stop and start", &answers, &first.ask(&mut client)?);

    // The last answer is hardly read when the process is gone.
    send(&mut client, again, &mut model, table)?;
    server.kill()?;
    let server = Server::start(&launch)?;
    let mut client = server.client()?;
    let all = Asked::new(&model, (span.0, span.1.max(again.span_s.1)))?;
    let answers = all.ask(&mut client)?;
    bad += compared(table, "asked after kill and start", all.compare(&model, &answers)?);
    server.kill()?;
    let server = Server::start(&launch)?;
    bad += same_bytes(table, "asked after another kill", &answers, &all.ask(&mut server.client()?)?);
    server.stop()?;
    Ok(bad)
}

/// The recorded POSTs, shifted to now, against a server without a config file.
fn without_config(
    binary: &Path,
    directory: &Path,
    recording: &Input,
    table: &mut Table,
) -> anyhow::Result<u64> {
    let shifted = recording.shifted("recorded POSTs, no config", now_s()? - recording.span_s.1)?;
    drop(TcpListener::bind(DEFAULT_ADDR).with_context(|| {
        format!("a server without a config listens on {DEFAULT_ADDR}, and somebody else does already")
    })?);
    let launch = Launch {
        binary: binary.to_owned(),
        arguments: Vec::new(),
        directory: directory.to_owned(),
        addr: DEFAULT_ADDR,
        log: directory.join("server.log"),
    };
    let server = Server::start(&launch)?;
    let mut client = server.client()?;
    let mut model = Model::default();
    send(&mut client, &shifted, &mut model, table)?;
    let asked = Asked::new(&model, shifted.span_s)?;
    let answers = asked.ask(&mut client)?;
    let bad = compared(table, "asked, no config", asked.compare(&model, &answers)?);
    server.stop()?;
    Ok(bad)
}

/// Sends every POST and remembers its lines. Whatever is not a plain 200 is an error: nothing in the input is bad.
fn send(client: &mut Client, input: &Input, model: &mut Model, table: &mut Table) -> anyhow::Result<()> {
    let mut answer = Vec::new();
    for (index, (path, body)) in input.posts.iter().enumerate() {
        let head = client
            .request_twice("POST", path, body.as_bytes(), &mut answer)
            .with_context(|| format!("{}: POST {index} got no answer", input.name))?;
        ensure!(
            head.status == 200 && head.lines_bad == 0 && head.lines_refused == 0 && !head.memory_only,
            "{}: POST {index} was not taken whole: {head:?}, {}",
            input.name,
            String::from_utf8_lossy(&answer)
        );
        ensure!(answer.is_empty(), "{}: POST {index} was answered with a body", input.name);
        for line in body.lines() {
            model.apply(line::parse(line)?);
        }
    }
    let (samples, texts) = (grouped(input.samples), grouped(input.texts));
    table.row(vec![input.name.to_owned(), grouped(input.posts.len() as u64), samples, texts]);
    Ok(())
}

fn compared(table: &mut Table, name: &str, comparison: Comparison) -> u64 {
    let none = String::new;
    table.row(vec![
        name.to_owned(),
        none(),
        none(),
        none(),
        grouped(comparison.series),
        grouped(comparison.values),
        grouped(comparison.different),
    ]);
    for example in &comparison.examples {
        println!("different: {example}");
    }
    comparison.different
}

fn same_bytes(table: &mut Table, name: &str, before: &[Vec<u8>], after: &[Vec<u8>]) -> u64 {
    let different = before.iter().zip(after).filter(|(before, after)| before != after).count() as u64;
    let bytes: usize = before.iter().map(Vec::len).sum();
    let none = String::new;
    let row = [name.to_owned(), none(), none(), none(), none(), format!("{} bytes", grouped(bytes as u64))];
    table.row(row.into_iter().chain([format!("{different} of {} answers", before.len())]).collect());
    different
}

/// Questions for every series of a model, and what they are for.
#[derive(Debug)]
struct Asked {
    /// Bodies, each with the series in the order of its queries.
    requests: Vec<(Vec<u8>, Vec<line::Place>)>,
    to_s: i64,
}

impl Asked {
    fn new(model: &Model, (first_s, last_s): (i64, i64)) -> anyhow::Result<Self> {
        // A minute more than the samples need, so that no series begins or ends at the border.
        let (from, to) = (first_s - 60, last_s + 60);
        let places: Vec<line::Place> = model.places().cloned().collect();
        let mut requests = Vec::new();
        for chunk in places.chunks(QUERIES_PER_REQUEST) {
            let request = Request {
                cluster: CLUSTER.to_owned(),
                from,
                to,
                with_stats: true,
                queries: chunk.iter().map(query_of).collect(),
                ..Request::default()
            };
            requests.push((serde_json::to_vec(&request)?, chunk.to_vec()));
        }
        Ok(Self { requests, to_s: to })
    }

    fn ask(&self, client: &mut Client) -> anyhow::Result<Vec<Vec<u8>>> {
        self.requests.iter().map(|(body, _)| query::ask_bytes(client, body)).collect()
    }

    fn compare(&self, model: &Model, answers: &[Vec<u8>]) -> anyhow::Result<Comparison> {
        let mut comparison = Comparison::default();
        for ((_, places), bytes) in self.requests.iter().zip(answers) {
            let answer = query::parse(bytes)?;
            for (index, place) in places.iter().enumerate() {
                let series = answer.results.get(index).and_then(|results| results.first());
                model.compare(place, self.to_s, series, &mut comparison);
            }
        }
        Ok(comparison)
    }
}

fn span(inputs: &[Input]) -> (i64, i64) {
    let first = inputs.iter().map(|input| input.span_s.0).min().unwrap_or(0);
    (first, inputs.iter().map(|input| input.span_s.1).max().unwrap_or(0))
}

fn write_config(directory: &Path, addr: SocketAddr, inputs: &[Input]) -> anyhow::Result<PathBuf> {
    let metrics: BTreeMap<&str, u32> = inputs
        .iter()
        .flat_map(|input| &input.metrics)
        .map(|(name, frequency_s)| (name.as_str(), *frequency_s))
        .collect();
    let catalog: Vec<_> =
        metrics.into_iter().map(|(name, frequency_s)| (name, frequency_s, Some("sum"))).collect();
    let text = config_text(
        &catalog,
        &ConfigOptions {
            addr,
            directory: &directory.join("checkpoints"),
            retention: "1000000h",
            checkpoint_interval: "12h",
            wal_sync: None,
        },
    );
    let path = directory.join("config.json");
    File::create(&path)?.write_all(text.as_bytes())?;
    Ok(path)
}
