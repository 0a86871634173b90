//! `kill`: the real server, killed with SIGKILL in full flight, on one directory through all rounds.
//!
//! Writers keep a ledger of what was acknowledged. After each restart every acknowledged sample is asked for:
//! it has to be there with its value, or with a newer one whose answer the kill swallowed. Some kills wait for a
//! save or a new segment, some hit a clean stop, some the start itself.

mod ledger;
mod watch;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use store_loadgen::config::{ConfigOptions, config_text};
use store_loadgen::http::Client;

use crate::query::{self, Query, Request};
use crate::server::{Launch, Server, free_addr, log_tail, now_s};
use crate::table::{Table, grouped};
use crate::workspace;
use ledger::{FREQUENCY_S, Ledger, NODE_METRICS, SERIES, THREAD_METRICS, THREADS, Verdict, series_name};
use watch::{Seen, Watch};
use writer::{CLUSTER, Flight, Route, host_name};

/// Steps lie within this time before now; the retention is longer, a quarter of it is not, so that blocks roll.
const SPAN_S: i64 = 40 * 3600;
/// How long a kill waits for what it is meant to hit.
const AIM_LIMIT: Duration = Duration::from_secs(3);
/// How long a start may take until all is loaded.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// What is synced before an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sync {
    /// Every answer waits for the disk.
    Always,
    /// Answers wait for the kernel; the disk follows.
    Interval,
    /// Answers wait for the kernel.
    Write,
}

/// Arguments of `kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds of writes, kill, restart and questions.
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// The server's `wal-sync`.
    #[arg(long, value_enum, default_value_t = Sync::Interval)]
    sync: Sync,
    /// Seed of delays and contents; a random one by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Hosts.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=999))]
    hosts: u32,
    /// Connections that write at the same time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    writers: u32,
    /// Samples per second that all writers send together, at most.
    #[arg(long, default_value_t = 150_000)]
    rate: u32,
    /// The server's `checkpoint-interval`.
    #[arg(long, default_value = "2s")]
    checkpoint_interval: String,
    /// The server to run; built from this workspace by default.
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Keeps the directory and says where it is.
    #[arg(long)]
    keep: bool,
}

/// What a kill is meant to hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Aim {
    /// Any moment.
    Flight,
    /// A block file that grows.
    Save,
    /// A segment that comes or goes, or a roll.
    Segment,
    /// A stop that was asked for.
    Stop,
    /// A start that is not complete.
    Recovery,
    /// Nothing: the process had ended by itself, as it was asked to.
    TooLate,
}

impl fmt::Display for Aim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Aim::Flight => "flight",
            Aim::Save => "save",
            Aim::Segment => "segment or roll",
            Aim::Stop => "stop",
            Aim::Recovery => "recovery",
            Aim::TooLate => "nothing",
        })
    }
}

/// The aims of the rounds, in turn.
const AIMS: [Aim; 5] = [Aim::Flight, Aim::Save, Aim::Recovery, Aim::Stop, Aim::Segment];

/// Everything that lives through all rounds.
struct Campaign {
    launch: Launch,
    data: PathBuf,
    ledgers: Vec<Ledger>,
    route: Route,
    writers: usize,
    random: StdRng,
    /// How many kills hit what.
    hits: BTreeMap<Aim, u64>,
    /// How long the last start that was watched took until all was loaded.
    loading: Duration,
    /// How long a stop may be waited for so that the kill still hits it; learnt from the hits.
    stopping: Duration,
    flight: Flight,
    /// What the answers came to, over all restarts.
    total: Verdict,
    /// What the answers came to after the clean stop.
    last: Verdict,
    table: Table,
}

/// Runs the rounds; fails unless nothing acknowledged is missing.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = workspace::server_binary(arguments.server.as_deref())?;
    let mut directory = tempfile::Builder::new().prefix("kill-").tempdir()?;
    directory.disable_cleanup(arguments.keep);
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("seed {seed}, wal-sync {:?}, {} hosts", arguments.sync, arguments.hosts);
    let mut campaign = Campaign::new(&binary, directory.path(), arguments, seed)?;
    let ended = campaign.rounds(arguments.rounds);
    println!("{}", campaign.table.text());
    campaign.report();
    let mut problems = campaign.problems();
    if let Err(error) = ended {
        problems.push(format!("{error:#}\n{}", log_tail(&campaign.launch.log)));
    }
    if !problems.is_empty() {
        directory.disable_cleanup(true);
    }
    if arguments.keep || !problems.is_empty() {
        println!("the directory is kept: {}", directory.path().display());
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    println!("0 acknowledged samples missing");
    Ok(())
}

impl Campaign {
    fn new(binary: &Path, directory: &Path, arguments: &Arguments, seed: u64) -> anyhow::Result<Self> {
        let addr = free_addr()?;
        let data = directory.join("checkpoints");
        let mode = match arguments.sync {
            Sync::Always => "always",
            Sync::Interval => "interval",
            Sync::Write => "write",
        };
        let catalog: Vec<_> = NODE_METRICS
            .iter()
            .chain(&THREAD_METRICS)
            .map(|metric| (*metric, u32::try_from(FREQUENCY_S).unwrap_or_default(), Some("sum")))
            .collect();
        let options = ConfigOptions {
            addr,
            directory: &data,
            retention: "48h",
            checkpoint_interval: &arguments.checkpoint_interval,
            wal_sync: Some(mode),
        };
        let config = directory.join("config.json");
        File::create(&config)?.write_all(config_text(&catalog, &options).as_bytes())?;
        let start_s = (now_s()? - SPAN_S).div_euclid(FREQUENCY_S) * FREQUENCY_S;
        Ok(Self {
            launch: Launch::with_config(binary, directory, &config, addr),
            data,
            ledgers: (0..arguments.hosts).map(Ledger::new).collect(),
            route: Route {
                addr,
                start_s,
                steps_max: u32::try_from(SPAN_S / FREQUENCY_S)?,
                rate: arguments.rate / arguments.writers,
            },
            writers: arguments.writers as usize,
            random: StdRng::seed_from_u64(seed),
            hits: BTreeMap::new(),
            loading: Duration::from_millis(100),
            stopping: Duration::from_millis(60),
            flight: Flight::default(),
            total: Verdict::default(),
            last: Verdict::default(),
            table: Table::new(&[
                "round",
                "kill",
                "acknowledged",
                "asked",
                "missing",
                "stale",
                "invented",
                "kept without answer",
                "all answered after",
            ]),
        })
    }

    /// Runs the rounds, and a clean stop and start at the end.
    fn rounds(&mut self, rounds: u32) -> anyhow::Result<()> {
        let mut server = Server::start(&self.launch)?;
        for round in 0..rounds {
            let before = self.flight.acknowledged;
            let hit = self.fly_and_kill(server, AIMS[round as usize % AIMS.len()])?;
            server = Server::start(&self.launch)?;
            // Every other time the questions come while the store is still loading.
            if round % 2 == 0 {
                self.loading = await_ready(&server)?;
            }
            let verdict = self.ask_all(&server)?;
            let mut row = vec![round.to_string(), hit, grouped(self.flight.acknowledged - before)];
            row.extend(
                [verdict.asked, verdict.missing, verdict.stale, verdict.invented, verdict.unacknowledged]
                    .map(grouped),
            );
            row.push(format!("{} ms", server.age().as_millis()));
            self.table.row(row);
            self.total.add(verdict);
        }
        server.stop().context("the clean stop after the last round")?;
        let server = Server::start(&self.launch)?;
        self.last = self.ask_all(&server)?;
        server.stop()?;
        Ok(())
    }

    /// What breaks a promise, in words.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.total.broken() > 0 {
            problems.push(format!("after kills: {:?}", self.total));
        }
        if self.last.broken() > 0 {
            problems.push(format!("after a clean stop: {:?}", self.last));
        }
        if self.flight.memory_only > 0 {
            problems.push(format!("{} answers promised memory only", self.flight.memory_only));
        }
        problems.extend(self.flight.strange.iter().map(|what| format!("an unexpected answer: {what}")));
        if self.flight.acknowledged == 0 {
            problems.push("nothing was acknowledged, so nothing was shown".to_owned());
        }
        problems
    }

    /// Writes, kills, and for some aims starts and kills again before the start is complete; gives what was hit.
    fn fly_and_kill(&mut self, server: Server, aim: Aim) -> anyhow::Result<String> {
        let mut hits = vec![self.one_life(server, aim)?];
        if aim == Aim::Recovery {
            for _ in 0..self.random.random_range(1..=3) {
                let server = Server::spawn(&self.launch)?;
                hits.push(self.one_life(server, Aim::Recovery)?);
            }
        }
        let names: Vec<String> = hits.iter().map(Aim::to_string).collect();
        for hit in hits {
            *self.hits.entry(hit).or_default() += 1;
        }
        Ok(names.join(", "))
    }

    /// Lets the writers fly at a server and kills it at the moment that `aim` asks for; gives what the kill hit.
    fn one_life(&mut self, mut server: Server, aim: Aim) -> anyhow::Result<Aim> {
        let stop = AtomicBool::new(false);
        let starting = server.age() < Duration::from_millis(50) && aim == Aim::Recovery;
        let delay = match (aim, starting) {
            (_, true) => self.loading.mul_f64(self.random.random_range(0.01..1.1)),
            (Aim::Flight | Aim::Recovery, false) => {
                Duration::from_millis(self.random.random_range(150..1500))
            }
            _ => Duration::from_millis(self.random.random_range(100..700)),
        };
        let grace = self.stopping.mul_f64(self.random.random_range(0.0..1.0));
        let seeds: Vec<u64> = (0..self.writers).map(|_| self.random.random()).collect();
        let (route, per_writer) = (self.route, self.ledgers.len().div_ceil(self.writers));
        let ledgers = &mut self.ledgers;
        let data = &self.data;
        let (hit, flights) = thread::scope(|scope| {
            let writers: Vec<_> = ledgers
                .chunks_mut(per_writer)
                .zip(seeds)
                .map(|(ledgers, seed)| {
                    let stop = &stop;
                    scope.spawn(move || writer::fly(ledgers, route, seed, stop))
                })
                .collect();
            let hit = kill_at(&mut server, data, aim, starting, delay, grace);
            // Whatever came of it, the writers must not wait for a server that is gone.
            let killed = server.kill();
            stop.store(true, Ordering::Relaxed);
            let flights: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
            (killed.and(hit), flights)
        });
        for flight in flights {
            self.flight.add(flight.ok().context("a writer panicked")?);
        }
        let hit = hit?;
        match hit {
            Aim::TooLate => self.stopping /= 2,
            Aim::Stop => self.stopping = self.stopping.mul_f64(1.3),
            _ => {}
        }
        Ok(hit)
    }

    /// Asks for every sample of every host.
    fn ask_all(&mut self, server: &Server) -> anyhow::Result<Verdict> {
        let mut client = server.client()?;
        let mut verdict = Verdict::default();
        for ledger in &mut self.ledgers {
            if ledger.steps() == 0 {
                continue;
            }
            let from = self.route.start_s;
            let request = Request {
                cluster: CLUSTER.to_owned(),
                from,
                to: from + i64::from(ledger.steps()) * FREQUENCY_S,
                queries: queries(&host_name(ledger.host)),
                ..Request::default()
            };
            let answer = query::ask(&mut client, &request)?;
            let flat = flattened(&answer.results);
            for series in 0..SERIES {
                let answer = flat.get(series).copied().flatten();
                if let Some(error) = answer.and_then(|answer| answer.error.as_ref()) {
                    bail!("host {}: {:?}: {error}", ledger.host, series_name(series));
                }
                verdict.add(ledger.judge(series, |step| {
                    let answer = answer?;
                    let offset_s = from + i64::from(step) * FREQUENCY_S - answer.from;
                    let index = usize::try_from(offset_s.div_euclid(FREQUENCY_S)).ok()?;
                    answer.data.get(index).copied().flatten()
                }));
            }
        }
        Ok(verdict)
    }

    fn report(&self) {
        let kills: u64 = self.hits.values().sum();
        let hits: Vec<String> = self.hits.iter().map(|(aim, count)| format!("{count} in {aim}")).collect();
        let plain = [Aim::Flight, Aim::TooLate].iter().filter_map(|aim| self.hits.get(aim)).sum::<u64>();
        let (flight, total) = (&self.flight, &self.total);
        println!(
            "{kills} kills: {}; {} % inside a save, a roll, a switch of segments, a stop or a start",
            hits.join(", "),
            100 * (kills - plain) / kills.max(1),
        );
        println!(
            "{} samples acknowledged in {} POSTs; {} POSTs unanswered, {} answered 503",
            grouped(flight.acknowledged),
            grouped(flight.posts),
            grouped(flight.unanswered),
            grouped(flight.unavailable),
        );
        println!(
            "asked {} times: {} missing, {} stale, {} invented; {} are there after the clean stop",
            grouped(total.asked + self.last.asked),
            grouped(total.missing + self.last.missing),
            grouped(total.stale + self.last.stale),
            grouped(total.invented + self.last.invented),
            grouped(self.last.asked - self.last.missing),
        );
    }
}

/// Waits for the moment of a kill; gives what goes on at that moment.
fn kill_at(
    server: &mut Server,
    data: &Path,
    aim: Aim,
    starting: bool,
    delay: Duration,
    grace: Duration,
) -> anyhow::Result<Aim> {
    if starting {
        thread::sleep(delay.saturating_sub(server.age()));
        if let Some(status) = server.ended()? {
            bail!("the server ended by itself: {status}\n{}", server.log_tail());
        }
        return Ok(if is_ready(server.addr()) { Aim::Flight } else { Aim::Recovery });
    }
    thread::sleep(delay);
    if let Some(status) = server.ended()? {
        bail!("the server ended by itself: {status}\n{}", server.log_tail());
    }
    if aim == Aim::Stop {
        server.terminate()?;
        thread::sleep(grace);
        return Ok(if server.ended()?.is_some() { Aim::TooLate } else { Aim::Stop });
    }
    let mut watch = Watch::new(data);
    let begin = Instant::now();
    loop {
        thread::sleep(Duration::from_micros(500));
        let seen = watch.look();
        let wanted = match aim {
            Aim::Save => seen.save,
            Aim::Segment => seen.segment || seen.roll,
            _ => true,
        };
        if wanted || begin.elapsed() > AIM_LIMIT {
            return Ok(match seen {
                Seen { roll: true, .. } | Seen { segment: true, .. } => Aim::Segment,
                Seen { save: true, .. } => Aim::Save,
                Seen { .. } => Aim::Flight,
            });
        }
    }
}

/// Whether a store says that all is loaded; one that does not listen yet has loaded nothing.
fn is_ready(addr: SocketAddr) -> bool {
    let mut answer = Vec::new();
    Client::connect(addr, Duration::from_secs(2))
        .and_then(|mut client| client.request("GET", "/api/debug/status", b"", &mut answer))
        .is_ok_and(|head| head.status == 200 && find_true(&answer, "ready"))
}

/// Whether a JSON text holds `"name": true`, wherever it stands.
fn find_true(json: &[u8], name: &str) -> bool {
    fn holds(value: &Value, name: &str) -> bool {
        match value {
            Value::Object(members) => {
                members.get(name) == Some(&Value::Bool(true))
                    || members.values().any(|value| holds(value, name))
            }
            _ => false,
        }
    }
    serde_json::from_slice(json).is_ok_and(|value| holds(&value, name))
}

/// Waits until all is loaded; gives the time since the start.
fn await_ready(server: &Server) -> anyhow::Result<Duration> {
    while !is_ready(server.addr()) {
        if server.age() > READY_LIMIT {
            bail!("the server has not loaded everything after {READY_LIMIT:?}\n{}", server.log_tail());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(server.age())
}

/// One query for each metric, all threads in one.
fn queries(host: &str) -> Vec<Query> {
    let node = NODE_METRICS.iter().map(|metric| Query {
        metric: (*metric).to_owned(),
        host: host.to_owned(),
        ..Query::default()
    });
    let threads = THREAD_METRICS.iter().map(|metric| Query {
        metric: (*metric).to_owned(),
        host: host.to_owned(),
        kind: Some("hwthread".to_owned()),
        type_ids: (0..THREADS).map(|id| id.to_string()).collect(),
        ..Query::default()
    });
    node.chain(threads).collect()
}

/// The series of an answer to [`queries`], in the order of [`series_name`].
fn flattened(results: &[Vec<query::Series>]) -> Vec<Option<&query::Series>> {
    let widths = NODE_METRICS.iter().map(|_| 1).chain(THREAD_METRICS.iter().map(|_| THREADS as usize));
    results.iter().zip(widths).flat_map(|(series, width)| (0..width).map(|index| series.get(index))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_name_the_series_in_the_order_of_the_ledger() {
        let names: Vec<(String, Option<u32>)> = queries("h")
            .into_iter()
            .flat_map(|query| {
                let metric = query.metric;
                let ids = if query.type_ids.is_empty() {
                    vec![None]
                } else {
                    query.type_ids.iter().map(|id| id.parse().ok()).collect()
                };
                ids.into_iter().map(move |id| (metric.clone(), id))
            })
            .collect();
        let wanted: Vec<_> =
            (0..SERIES).map(series_name).map(|(metric, id)| (metric.to_owned(), id)).collect();
        assert_eq!(names, wanted);
    }

    #[test]
    fn readiness_is_read_from_wherever_the_status_says_it() {
        assert!(find_true(br#"{"engine":{"ready":true}}"#, "ready"));
        assert!(!find_true(br#"{"engine":{"ready":false,"other":true}}"#, "ready"));
        assert!(!find_true(b"ready", "ready"));
    }

    #[test]
    fn a_query_without_an_answer_leaves_the_others_in_their_places() {
        let one = || vec![query::Series { from: 7, ..query::Series::default() }];
        let results = vec![vec![], one(), one(), vec![], one()];
        let flat = flattened(&results);
        assert_eq!(flat.len(), SERIES);
        let present: Vec<usize> = (0..SERIES).filter(|index| flat[*index].is_some()).collect();
        assert_eq!(present, [1, 2, 18]);
    }
}
