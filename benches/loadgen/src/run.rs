//! Drives the fleet over N connections and measures what comes back.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use crate::body::BodyWriter;
use crate::fleet::Fleet;
use crate::http::Client;

/// How a run is driven.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The server.
    pub addr: SocketAddr,
    /// Path and query of the POSTs.
    pub path: String,
    /// How many connections; each carries the POSTs of its own hosts.
    pub connections: u32,
    /// Which steps are sent.
    pub steps: Range<u32>,
    /// With a seed, the lines of each POST are in a random order.
    pub shuffle: Option<u64>,
    /// How long one answer may take.
    pub timeout: Duration,
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct RunReport {
    /// POSTs answered with 200 or 204.
    pub posts: u64,
    /// POSTs answered otherwise.
    pub posts_failed: u64,
    /// The status of the first POST that failed.
    pub first_failure: Option<u16>,
    /// Lines in the POSTs that were answered with 200 or 204.
    pub lines: u64,
    /// Bytes of all bodies.
    pub bytes: u64,
    /// Sum of `X-Lines-Bad`.
    pub lines_bad: u64,
    /// Sum of `X-Lines-Refused`.
    pub lines_refused: u64,
    /// Answers with `X-Durability: memory`.
    pub memory_only: u64,
    /// From the first POST to the last answer.
    pub wall: Duration,
    /// The time from a POST to its answer, in microseconds, sorted.
    pub latencies_us: Vec<u32>,
}

impl RunReport {
    /// Lines per second of wall time.
    #[must_use]
    pub fn lines_per_second(&self) -> f64 {
        self.lines as f64 / self.wall.as_secs_f64().max(1e-9)
    }

    /// The latency that this share (0 to 1) of the answers does not exceed.
    #[must_use]
    pub fn latency(&self, share: f64) -> Duration {
        percentile(&self.latencies_us, share)
    }

    /// This run and the one after it as one.
    #[must_use]
    pub fn followed_by(mut self, next: Self) -> Self {
        self.wall += next.wall;
        self.add(next);
        self.latencies_us.sort_unstable();
        self
    }

    fn add(&mut self, other: Self) {
        self.posts += other.posts;
        self.posts_failed += other.posts_failed;
        self.first_failure = self.first_failure.or(other.first_failure);
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.lines_bad += other.lines_bad;
        self.lines_refused += other.lines_refused;
        self.memory_only += other.memory_only;
        self.latencies_us.extend(other.latencies_us);
    }
}

/// The value below which `share` (0 to 1) of the sorted `micros` lie; zero when there are none.
#[must_use]
pub fn percentile(micros: &[u32], share: f64) -> Duration {
    let index = (micros.len().saturating_sub(1) as f64 * share.clamp(0.0, 1.0)).round() as usize;
    Duration::from_micros(micros.get(index).copied().unwrap_or(0).into())
}

/// Sends the steps of all hosts: step after step, one POST per host, the hosts divided among the connections.
///
/// Answers that are not 200 are counted, not retried: a load that repeats itself measures something else. Only
/// what a connection swallowed that the server had closed is sent again.
///
/// # Errors
///
/// The first error of a connection; the others end after their current step.
pub fn run(fleet: &Fleet, options: &RunOptions) -> io::Result<RunReport> {
    let connections = options.connections.clamp(1, fleet.options().hosts.max(1));
    let begin = Instant::now();
    let results: Vec<io::Result<RunReport>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|first| scope.spawn(move || connection(fleet, options, first, connections)))
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker.join().unwrap_or_else(|_| Err(io::Error::other("a connection's thread panicked")))
            })
            .collect()
    });
    let wall = begin.elapsed();
    let mut total = RunReport::default();
    for result in results {
        total.add(result?);
    }
    total.wall = wall;
    total.latencies_us.sort_unstable();
    Ok(total)
}

fn connection(fleet: &Fleet, options: &RunOptions, first: u32, connections: u32) -> io::Result<RunReport> {
    let mut client = Client::connect(options.addr, options.timeout)?;
    let mut writer = BodyWriter::new(fleet);
    let mut report = RunReport::default();
    let (mut body, mut answer) = (Vec::new(), Vec::new());
    for step in options.steps.clone() {
        for host in (first..fleet.options().hosts).step_by(connections as usize) {
            body.clear();
            writer.write_step(host, step, options.shuffle, &mut body);
            let sent = Instant::now();
            let head = client.request_twice("POST", &options.path, &body, &mut answer)?;
            report.latencies_us.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
            report.bytes += body.len() as u64;
            report.lines_bad += head.lines_bad;
            report.lines_refused += head.lines_refused;
            report.memory_only += u64::from(head.memory_only);
            if matches!(head.status, 200 | 204) {
                report.posts += 1;
                report.lines += fleet.series_per_host() as u64;
            } else {
                report.posts_failed += 1;
                report.first_failure.get_or_insert(head.status);
            }
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::FleetOptions;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    /// A server that keeps all bodies; the third answer is a 503. Ends when its connections do.
    fn server(connections: usize) -> (SocketAddr, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let handle = thread::spawn(move || {
            let bodies = Arc::new(Mutex::new(Vec::new()));
            let workers: Vec<_> = (0..connections)
                .map(|_| {
                    let stream = listener.accept().unwrap().0;
                    let bodies = Arc::clone(&bodies);
                    thread::spawn(move || answer(stream, &bodies))
                })
                .collect();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            Arc::try_unwrap(bodies).unwrap().into_inner().unwrap()
        });
        (addr, handle)
    }

    fn answer(stream: std::net::TcpStream, bodies: &Mutex<Vec<String>>) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let mut line = String::new();
        let mut length = 0;
        while reader.read_line(&mut line).unwrap() > 0 {
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let mut bodies = bodies.lock().unwrap();
                bodies.push(String::from_utf8(body).unwrap());
                let status = if bodies.len() == 3 { "503 No" } else { "200 OK" };
                write!(stream, "HTTP/1.1 {status}\r\nX-Lines-Refused: 2\r\nContent-Length: 0\r\n\r\n")
                    .unwrap();
            }
            line.clear();
        }
    }

    #[test]
    fn every_host_posts_every_step_once_and_failures_are_counted() {
        let fleet =
            Fleet::new(FleetOptions { hosts: 5, hwthreads: 1, accelerators: 0, ..FleetOptions::default() });
        let (addr, server) = server(4);
        let options = |steps: Range<u32>| RunOptions {
            addr,
            path: "/api/write".to_owned(),
            connections: 2,
            steps,
            shuffle: None,
            timeout: Duration::from_secs(10),
        };
        let first = run(&fleet, &options(3..4)).unwrap();
        assert_eq!((first.posts, first.posts_failed), (4, 1));
        let report = first.followed_by(run(&fleet, &options(4..6)).unwrap());
        assert!(report.latencies_us.is_sorted());
        let mut bodies = server.join().unwrap();
        assert_eq!((report.posts, report.posts_failed, report.first_failure), (14, 1, Some(503)));
        assert_eq!((report.lines, report.lines_refused), (14 * 20, 15 * 2));
        assert_eq!(report.latencies_us.len(), 15);
        let mut wanted = Vec::new();
        let mut writer = BodyWriter::new(&fleet);
        for step in 3..6 {
            for host in 0..5 {
                let mut body = Vec::new();
                writer.write_step(host, step, None, &mut body);
                wanted.push(String::from_utf8(body).unwrap());
            }
        }
        bodies.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(bodies, wanted);
    }

    #[test]
    fn percentiles_are_taken_from_sorted_values() {
        let micros: Vec<u32> = (0..=100).collect();
        assert_eq!(percentile(&micros, 0.5), Duration::from_micros(50));
        assert_eq!(percentile(&micros, 0.99), Duration::from_micros(99));
        assert_eq!(percentile(&micros, 1.0), Duration::from_micros(100));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
