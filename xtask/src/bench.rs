//! `bench`: the whole server, and others beside it, on the same bytes in one run.
//!
//! Every store lives twice. It gets the fleet of the load generator over HTTP, is asked the questions of a web front
//! end, stopped, and started again; then it gets the same fleet from the beginning, is killed, started, and asked for
//! every sample. Its CPU time and memory are read from `/proc`.

mod contender;
mod influx;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use store_loadgen::http::Client;
use store_loadgen::run::percentile;
use store_loadgen::{BodyWriter, Fleet, FleetOptions, RunOptions, RunReport, process, run as load};

use crate::server::{Launch, Server, free_addr, log_tail, now_s};
use crate::table::{Table, grouped};
use crate::workspace;
use contender::{Api, Ask, Contender, QUESTIONS, Question, Range};

/// How long a question is repeated.
const QUESTION_TIME: Duration = Duration::from_millis(1500);
/// How often a question is asked at least and at most.
const QUESTIONS_MIN: u32 = 20;
const QUESTIONS_MAX: u32 = 20_000;
/// How long a store may take until all hosts answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);
/// A store whose answers do not change for so long has lost what is missing.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing comes before a kill, for some stores promise nothing for the last seconds, and before files are
/// measured.
const QUIET: Duration = Duration::from_secs(12);

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Hosts of 540 series each; 1852 are a million series.
    #[arg(long, default_value_t = 100)]
    hosts: u32,
    /// Steps.
    #[arg(long, default_value_t = 600)]
    steps: u32,
    /// Seconds from one step to the next.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    frequency: u32,
    /// Leaves the second life out.
    #[arg(long)]
    no_kill: bool,
    /// Connections that write at the same time.
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Sends the lines of each POST in a random order.
    #[arg(long)]
    shuffled: bool,
    /// Sends a fleet without jobs.
    #[arg(long)]
    idle: bool,
    /// The seed of all values.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A program with the original's command line and interface, measured as well.
    #[arg(long, value_name = "NAME=PATH")]
    peer: Vec<String>,
    /// Leaves out VictoriaMetrics and InfluxDB, even where they are installed.
    #[arg(long)]
    alone: bool,
    /// Our `wal-sync`; its default (`interval`) when absent.
    #[arg(long)]
    sync: Option<String>,
    /// The server to measure; built from this workspace by default.
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
}

/// What was measured of one store.
#[derive(Debug, Default)]
struct Measured {
    rows: Vec<(&'static str, String)>,
    missing: u64,
}

impl Measured {
    fn add(&mut self, name: &'static str, value: String) {
        self.rows.push((name, value));
    }
}

/// Measures all stores and prints one table.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = workspace::server_binary(arguments.server.as_deref())?;
    let ours = Contender { name: "this store".to_owned(), binary, api: Api::Original };
    let mut contenders = vec![ours];
    for peer in &arguments.peer {
        contenders.push(Contender::peer(peer)?);
    }
    if !arguments.alone {
        contenders.extend(Contender::installed());
    }
    let step_s = i64::from(arguments.frequency);
    let fleet = Fleet::new(FleetOptions {
        seed: arguments.seed,
        hosts: arguments.hosts,
        start_s: now_s()?.div_euclid(step_s) * step_s - i64::from(arguments.steps) * step_s,
        frequency_s: arguments.frequency,
        idle: arguments.idle,
        ..FleetOptions::default()
    });
    println!(
        "{} series x {} steps of {} s = {} samples; lossless floor of the values as f32: {:.2} B/sample",
        grouped(fleet.series_total()),
        arguments.steps,
        arguments.frequency,
        grouped(fleet.series_total() * u64::from(arguments.steps)),
        fleet.floor_bytes_per_sample(),
    );
    let mut measured = Vec::new();
    for (index, contender) in contenders.iter().enumerate() {
        println!("measuring {} ...", contender.name);
        let sync = arguments.sync.as_deref().filter(|_| index == 0);
        let range = Range { fleet: &fleet, steps: arguments.steps };
        let measuring = Measuring { contender, arguments, range, sync };
        let mut results = Measured::default();
        in_directory(contender, |directory| measuring.live(directory, &mut results))?;
        if !arguments.no_kill {
            in_directory(contender, |directory| measuring.live_and_be_killed(directory, &mut results))?;
        }
        measured.push(results);
    }
    let mut heading = vec!["quantity"];
    heading.extend(contenders.iter().map(|contender| contender.name.as_str()));
    let mut table = Table::new(&heading);
    for (row, (name, _)) in measured[0].rows.iter().enumerate() {
        let values = measured.iter().map(|measured| measured.rows.get(row).map_or("", |(_, value)| value));
        table.row(std::iter::once(*name).chain(values).map(str::to_owned).collect());
    }
    println!("{}", table.text());
    // What a peer loses is a figure; what we lose is a failure.
    ensure!(measured[0].missing == 0, "{} acknowledged samples are missing", measured[0].missing);
    Ok(())
}

/// Measures in a directory that is gone afterwards; an error comes with the end of the server's log.
fn in_directory(
    contender: &Contender,
    measure: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
    let log = directory.path().join("server.log");
    measure(directory.path()).with_context(|| format!("{}\n{}", contender.name, log_tail(&log)))
}

/// What all steps of a measurement need.
#[derive(Debug, Clone, Copy)]
struct Measuring<'a> {
    contender: &'a Contender,
    arguments: &'a Arguments,
    range: Range<'a>,
    sync: Option<&'a str>,
}

impl Measuring<'_> {
    /// A server on an empty directory.
    fn launch(self, directory: &Path) -> anyhow::Result<Launch> {
        self.contender.launch(directory, free_addr()?, self.range, self.sync)
    }

    /// Ingest, questions, a clean stop, and the start after it.
    fn live(self, directory: &Path, measured: &mut Measured) -> anyhow::Result<()> {
        let (api, range, data) = (self.contender.api, self.range, self.contender.data(directory));
        let launch = self.launch(directory)?;
        let mut server = Server::spawn(&launch)?;
        measured.add("first start: listening", millis(server.wait_listening()?));
        api.prepare(&mut server.client()?)?;
        let samples = self.ingest(&server, measured)?;
        memory(&server, measured)?;
        let written = Instant::now();
        let mut client = server.client()?;
        await_answers(&server, &mut client, api, range)?;
        for (question, name) in QUESTIONS {
            measured.add(name, ask(&server, &mut client, &api.ask(question, range)?, api, range, question)?);
        }
        drop(client);
        thread::sleep(QUIET.saturating_sub(written.elapsed()));
        let rss = process::memory(server.pid())?.rss_bytes;
        measured.add("RSS some seconds later", megabytes(rss));
        let disk = process::disk_bytes(&data)? as f64 / samples;
        measured.add("disk after ingest, B/sample", format!("{disk:.2}"));
        measured.add("clean stop", millis(server.stop()?));
        let disk = process::disk_bytes(&data)? as f64 / samples;
        measured.add("disk after clean stop, B/sample", format!("{disk:.2}"));
        let names = ["restart: listening", "... first write taken", "... all answered"];
        let server = restart(&launch, api, range, names, measured)?;
        let cpu = process::cpu_time(server.pid())?;
        measured.add("... CPU until then", millis(cpu));
        server.stop()?;
        Ok(())
    }

    /// Ingest, a kill, and the start after it.
    fn live_and_be_killed(self, directory: &Path, measured: &mut Measured) -> anyhow::Result<()> {
        let (api, range) = (self.contender.api, self.range);
        let launch = self.launch(directory)?;
        let mut server = Server::spawn(&launch)?;
        server.wait_listening()?;
        api.prepare(&mut server.client()?)?;
        self.ingest(&server, &mut Measured::default())?;
        thread::sleep(QUIET);
        server.kill()?;
        let names = ["restart after kill: listening", "... first write taken ", "... all answered "];
        let server = restart(&launch, api, range, names, measured)?;
        let mut client = server.client()?;
        for host in 0..range.fleet.options().hosts {
            measured.missing += api
                .missing(&mut client, range, host)
                .with_context(|| format!("asking for every sample of host {host}"))?;
        }
        measured.add("samples missing after kill", grouped(measured.missing));
        drop(client);
        server.stop()?;
        Ok(())
    }

    /// Sends the fleet; gives the number of samples.
    fn ingest(self, server: &Server, measured: &mut Measured) -> anyhow::Result<f64> {
        let arguments = self.arguments;
        let own = process::cpu_time(std::process::id())?;
        // The first step by itself: in it each line registers a series.
        let first = self.send(server, 0..arguments.steps.min(1))?;
        let others = self.send(server, 1..arguments.steps.max(1))?;
        let own = process::cpu_time(std::process::id())?.saturating_sub(own);
        let [of_first, of_others] = [&first, &others].map(Sent::per_cpu_second);
        let both = Sent { cpu: first.cpu + others.cpu, report: first.report.followed_by(others.report) };
        let report = &both.report;
        let samples = report.lines as f64;
        measured.add("samples per CPU second", both.per_cpu_second());
        measured.add("... of the first step, where series are new", of_first);
        measured.add("... of all further steps", of_others);
        measured.add("samples per second (wall)", format!("{:.0} k", report.lines_per_second() / 1e3));
        measured.add("bytes per line", format!("{:.1}", report.bytes as f64 / samples));
        measured.add("CPU of the load generator", format!("{:.1} s", own.as_secs_f64()));
        measured.add(
            "POST p50 / p99 / max",
            format!(
                "{} / {} / {}",
                millis(report.latency(0.5)),
                millis(report.latency(0.99)),
                millis(report.latency(1.0))
            ),
        );
        Ok(samples)
    }

    /// Sends some steps of the fleet, all of which must be taken.
    fn send(self, server: &Server, steps: std::ops::Range<u32>) -> anyhow::Result<Sent> {
        let arguments = self.arguments;
        let before = process::cpu_time(server.pid())?;
        let report = load(
            self.range.fleet,
            &RunOptions {
                addr: server.addr(),
                path: self.contender.api.write_path().to_owned(),
                connections: arguments.connections,
                steps,
                shuffle: arguments.shuffled.then_some(arguments.seed),
                timeout: Duration::from_secs(120),
            },
        )
        .context("ingest")?;
        let cpu = process::cpu_time(server.pid())?.saturating_sub(before);
        if report.posts_failed + report.lines_bad + report.lines_refused + report.memory_only > 0 {
            bail!("not everything was taken: {:?}", RunReport { latencies_us: Vec::new(), ..report });
        }
        Ok(Sent { report, cpu })
    }
}

/// Steps that were sent, and the server's CPU time for them.
struct Sent {
    report: RunReport,
    cpu: Duration,
}

impl Sent {
    fn per_cpu_second(&self) -> String {
        format!("{:.0} k", self.report.lines as f64 / self.cpu.as_secs_f64().max(0.01) / 1e3)
    }
}

/// Sends what the first host said last once more, until it is taken; gives the time since the server was started.
fn await_write(server: &Server, client: &mut Client, api: Api, range: Range<'_>) -> anyhow::Result<Duration> {
    let mut body = Vec::new();
    BodyWriter::new(range.fleet).write_step(0, range.steps.saturating_sub(1), None, &mut body);
    loop {
        let head = client.request_twice("POST", api.write_path(), &body, &mut Vec::new())?;
        if matches!(head.status, 200 | 204) {
            return Ok(server.age());
        }
        ensure!(
            server.age() < ANSWER_LIMIT,
            "no write was taken, the last one answered with {}",
            head.status
        );
        thread::sleep(Duration::from_millis(1));
    }
}

fn memory(server: &Server, measured: &mut Measured) -> anyhow::Result<()> {
    let memory = process::memory(server.pid())?;
    measured.add("RSS after ingest", megabytes(memory.rss_bytes));
    measured.add("... of it anonymous", megabytes(memory.anonymous_bytes));
    measured.add("... peak", megabytes(memory.peak_rss_bytes));
    Ok(())
}

/// Asks a question again and again; gives its CPU time on the server and its latency.
fn ask(
    server: &Server,
    client: &mut Client,
    asks: &[Ask],
    api: Api,
    range: Range<'_>,
    question: Question,
) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let mut values = 0;
    for ask in asks {
        let head = client
            .request_twice(ask.method, &ask.path, &ask.body, &mut bytes)
            .with_context(|| format!("asking for {question:?}"))?;
        ensure!(head.status == 200, "{question:?} was answered with {}", head.status);
        values += api.count(&bytes)?;
    }
    if question == Question::Threads {
        let wanted = u64::from(range.fleet.options().hwthreads) * u64::from(range.steps);
        ensure!(values == wanted, "{values} values instead of {wanted} in the answer to {question:?}");
    }
    ensure!(values > 0, "no values in the answer to {question:?}");
    let mut latencies_us = Vec::new();
    let before = process::cpu_time(server.pid())?;
    let begin = Instant::now();
    let mut count = 0;
    while count < QUESTIONS_MIN || (begin.elapsed() < QUESTION_TIME && count < QUESTIONS_MAX) {
        let sent = Instant::now();
        for ask in asks {
            client.request_twice(ask.method, &ask.path, &ask.body, &mut bytes)?;
        }
        latencies_us.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        count += 1;
    }
    let cpu = process::cpu_time(server.pid())?.saturating_sub(before) / count;
    latencies_us.sort_unstable();
    let (p50, p99) = (percentile(&latencies_us, 0.5), percentile(&latencies_us, 0.99));
    Ok(format!("CPU {}, p50 {}, p99 {}", millis(cpu), millis(p50), millis(p99)))
}

fn restart(
    launch: &Launch,
    api: Api,
    range: Range<'_>,
    names: [&'static str; 3],
    measured: &mut Measured,
) -> anyhow::Result<Server> {
    let [listening, written, answered] = names;
    let mut server = Server::spawn(launch)?;
    measured.add(listening, millis(server.wait_listening()?));
    let mut client = server.client()?;
    measured.add(written, millis(await_write(&server, &mut client, api, range)?));
    let (duration, share) = await_answers(&server, &mut client, api, range)?;
    measured
        .add(answered, if share < 1.0 { format!("never: {:.1} %", share * 100.0) } else { millis(duration) });
    Ok(server)
}

/// Waits until all hosts answer the whole range, or nothing more comes; gives the time since the start, and the
/// share that is answered.
fn await_answers(
    server: &Server,
    client: &mut Client,
    api: Api,
    range: Range<'_>,
) -> anyhow::Result<(Duration, f64)> {
    let begin = Instant::now();
    let (mut best, mut since) = (None, begin);
    loop {
        let share = api.answered(client, range).context("asking whether all hosts answer")?;
        if share.is_some_and(|share| share >= 1.0) {
            return Ok((server.age(), 1.0));
        }
        if share > best {
            (best, since) = (share, Instant::now());
        }
        let stuck = best.is_some() && since.elapsed() > ANSWER_PATIENCE;
        if stuck || begin.elapsed() > ANSWER_LIMIT {
            return Ok((server.age(), best.unwrap_or(0.0)));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    let digits = if millis < 1.0 {
        3
    } else if millis < 100.0 {
        1
    } else {
        0
    };
    format!("{millis:.digits$} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_with_three_digits_that_matter() {
        assert_eq!(millis(Duration::from_micros(123)), "0.123 ms");
        assert_eq!(millis(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(millis(Duration::from_millis(1234)), "1234 ms");
    }
}
