//! A client in full flight: appends, leaves holes and fills them later, overwrites, and never waits for a kill.

use std::io;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use store_loadgen::http::Client;

use crate::kill::ledger::{FREQUENCY_S, Ledger, SERIES, series_name};

/// The cluster of all hosts.
pub(crate) const CLUSTER: &str = "killed";
/// Steps in one POST, at most.
const STEPS_PER_POST_MAX: u32 = 12;

/// What the writers of one life of the server saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flight {
    /// Samples acknowledged.
    pub(crate) acknowledged: u64,
    /// POSTs acknowledged.
    pub(crate) posts: u64,
    /// POSTs without an answer.
    pub(crate) unanswered: u64,
    /// Answers with 503, which promise nothing.
    pub(crate) unavailable: u64,
    /// Answers that promise memory only, which nothing here may cause.
    pub(crate) memory_only: u64,
    /// Any other answer.
    pub(crate) strange: Vec<String>,
}

impl Flight {
    /// Adds another flight to this one.
    pub(crate) fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.posts += other.posts;
        self.unanswered += other.unanswered;
        self.unavailable += other.unavailable;
        self.memory_only += other.memory_only;
        self.strange.extend(other.strange);
    }
}

/// What a writer needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    /// Where the server listens, or will.
    pub(crate) addr: SocketAddr,
    /// The time of step 0.
    pub(crate) start_s: i64,
    /// Steps that a host may have.
    pub(crate) steps_max: u32,
    /// Samples per second, at most.
    pub(crate) rate: u32,
}

/// The name of a host.
pub(crate) fn host_name(host: u32) -> String {
    format!("k{host:03}")
}

/// Writes for the hosts of `ledgers`, in turn, until the server dies or `stop` is set.
pub(crate) fn fly(ledgers: &mut [Ledger], route: Route, seed: u64, stop: &AtomicBool) -> Flight {
    let mut flight = Flight::default();
    let mut random = StdRng::seed_from_u64(seed);
    let Some(mut client) = connect(route.addr, stop) else { return flight };
    let (mut body, mut sent, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    let (begin, mut lines) = (Instant::now(), 0u64);
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let index = turn % ledgers.len();
        let ledger = &mut ledgers[index];
        body.clear();
        sent.clear();
        post(ledger, route, &mut random, &mut body, &mut sent);
        match client.request("POST", &format!("/api/write?cluster={CLUSTER}"), &body, &mut answer) {
            Ok(head) if head.status == 200 && head.lines_bad + head.lines_refused == 0 => {
                if head.memory_only {
                    flight.memory_only += 1;
                } else {
                    sent.iter().for_each(|(step, series)| ledger.acknowledge(*step, *series));
                    flight.acknowledged += sent.len() as u64;
                    flight.posts += 1;
                }
            }
            Ok(head) if head.status == 503 => flight.unavailable += 1,
            Ok(head) => {
                flight.strange.push(format!("{head:?}: {}", String::from_utf8_lossy(&answer)));
                break;
            }
            Err(_) => {
                flight.unanswered += 1;
                break;
            }
        }
        if client.is_closed() {
            match connect(route.addr, stop) {
                Some(fresh) => client = fresh,
                None => break,
            }
        }
        lines += sent.len() as u64;
        let due = Duration::from_secs_f64(lines as f64 / f64::from(route.rate.max(1)));
        thread::sleep(due.saturating_sub(begin.elapsed()).min(Duration::from_millis(20)));
    }
    flight
}

/// Connects as soon as the server listens; `None` when the flight is over before.
fn connect(addr: SocketAddr, stop: &AtomicBool) -> Option<Client> {
    while !stop.load(Ordering::Relaxed) {
        match Client::connect(addr, Duration::from_secs(30)) {
            Ok(client) => return Some(client),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                thread::sleep(Duration::from_micros(300));
            }
            Err(_) => return None,
        }
    }
    None
}

/// Composes a POST and notes what is in it.
fn post(
    ledger: &mut Ledger,
    route: Route,
    random: &mut StdRng,
    body: &mut Vec<u8>,
    sent: &mut Vec<(u32, usize)>,
) {
    let next = ledger.steps();
    let mut steps: Vec<u32> = Vec::new();
    let count = random.random_range(1..=STEPS_PER_POST_MAX);
    match random.random_range(0..100) {
        // Old samples again with new values: blocks that are sealed, saved or rolled have to change.
        0..8 if next > 0 => steps.extend((0..count).map(|_| random.random_range(0..next))),
        // The recent past: holes are filled, heads are overwritten.
        8..25 if next > 0 => {
            let first = next.saturating_sub(100);
            steps.extend((0..count).map(|_| random.random_range(first..next)));
        }
        // A gap, sometimes longer than a head.
        25..30 => {
            let gap = if random.random_bool(0.1) { 200 } else { 3 };
            steps.push(next + random.random_range(1..=gap));
        }
        _ => steps.extend(next..next + count),
    }
    steps.retain(|step| *step < route.steps_max);
    if steps.is_empty() {
        steps.push(random.random_range(0..next.max(1)));
    }
    steps.sort_unstable();
    steps.dedup();
    let whole = random.random_bool(0.7);
    let name = host_name(ledger.host);
    for step in steps {
        let time_s = route.start_s + i64::from(step) * FREQUENCY_S;
        for series in 0..SERIES {
            if !whole && random.random_bool(0.3) {
                continue;
            }
            let Some(value) = ledger.send(step, series) else { continue };
            let (metric, thread) = series_name(series);
            // Writing to a Vec does not fail.
            let _infallible = match thread {
                None => writeln!(body, "{metric},hostname={name},type=node value={value} {time_s}"),
                Some(id) => {
                    writeln!(
                        body,
                        "{metric},hostname={name},type=hwthread,type-id={id} value={value} {time_s}"
                    )
                }
            };
            sent.push((step, series));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_hold_what_the_ledger_was_told_and_stay_in_their_range() {
        let mut ledger = Ledger::new(4);
        let route = Route { addr: ([127, 0, 0, 1], 1).into(), start_s: 1000, steps_max: 50, rate: 1 };
        let mut random = StdRng::seed_from_u64(3);
        for _ in 0..200 {
            let (mut body, mut sent) = (Vec::new(), Vec::new());
            post(&mut ledger, route, &mut random, &mut body, &mut sent);
            let text = String::from_utf8(body).unwrap();
            assert_eq!(text.lines().count(), sent.len());
            for line in text.lines() {
                let time_s: i64 = line.rsplit(' ').next().unwrap().parse().unwrap();
                assert!((1000..1500).contains(&time_s), "{line}");
                assert!(line.contains(",hostname=k004,"), "{line}");
            }
        }
        assert_eq!(ledger.steps(), 50, "all steps are used after so many POSTs");
    }

    #[test]
    fn a_flight_without_a_server_ends_when_told() {
        let stop = AtomicBool::new(true);
        let route = Route { addr: ([127, 0, 0, 1], 1).into(), start_s: 0, steps_max: 50, rate: 1 };
        let mut ledgers = [Ledger::new(0)];
        assert_eq!(fly(&mut ledgers, route, 1, &stop), Flight::default());
    }
}
