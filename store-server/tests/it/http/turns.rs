//! Queries that take long: in turns with others, no longer than is allowed, and not for a client that has gone.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use store_server::http::Timeouts;

use super::client::{Answer, ask, ask_with};
use super::fake::{Fake, Server, Setup};

/// How long the fake store takes for a selection.
const SELECTION: Duration = Duration::from_millis(10);

/// A server whose store has a slow metric, and one that is not.
fn server(timeouts: Timeouts) -> Server {
    let mut fake = Fake { slow_takes: SELECTION, ..Fake::default() };
    fake.add("c/h//slow", 0, 10, &[1.0]);
    fake.add("c/h//fast", 0, 10, &[1.0]);
    Server::start_with(fake, Setup { timeouts, ..Setup::default() })
}

/// A request with so many selections of a host; one that is not there prints nothing.
fn selections(host: &str, metric: &str, count: usize) -> String {
    let one = format!(r#"{{"host": "{host}", "metric": "{metric}"}}"#);
    format!(r#"{{"cluster": "c", "from": 0, "to": 10, "queries": [{}]}}"#, vec![one; count].join(","))
}

fn query(server: &Server, body: &str) -> Answer {
    ask(server, "POST", "/api/query", body.as_bytes())
}

/// A connection on which a query was sent.
fn sent(server: &Server, encoding: &str, body: &str) -> TcpStream {
    let mut client = TcpStream::connect(server.addr).unwrap();
    let length = body.len();
    write!(
        client,
        "POST /api/query HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: {encoding}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    client
}

#[test]
fn long_queries_do_not_hold_the_slots_of_others() {
    let server = server(Timeouts::default());
    let slots = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).max(2);
    // So long that it is not answered by the thread that reads it.
    let short = selections("h", "fast", 1) + &" ".repeat(200 << 10);
    std::thread::scope(|scope| {
        for _ in 0..2 * slots {
            scope.spawn(|| assert_eq!(query(&server, &selections("h", "slow", 150)).status, 200));
        }
        // They are at it.
        while server.store.reads.load(Ordering::SeqCst) < 10 * slots {
            std::thread::sleep(Duration::from_millis(5));
        }
        let asked = Instant::now();
        assert_eq!(query(&server, &short).status, 200);
        let waited = asked.elapsed();
        assert!(waited < Duration::from_secs(1), "{waited:?}, and each of the long ones works for 1.5 s");
    });
    let once = selections("h", "slow", 1) + &" ".repeat(200 << 10);
    assert_eq!(query(&server, &once).json()["results"][0], query(&server, &short).json()["results"][0]);
}

#[test]
fn the_work_for_a_client_that_has_gone_ends() {
    let server = server(Timeouts { quiet: Duration::from_millis(100), ..Timeouts::default() });
    // Half a minute of work, with and without something to print.
    for (host, encoding, is_reset) in [
        ("h", "identity", true),
        ("h", "gzip", false),
        ("nobody", "identity", false),
        ("nobody", "gzip", true),
    ] {
        let before = server.store.reads.load(Ordering::SeqCst);
        let body = selections(host, "slow", 3000);
        let client = sent(&server, encoding, &body);
        while server.store.reads.load(Ordering::SeqCst) < before + 5 {
            std::thread::sleep(Duration::from_millis(5));
        }
        if is_reset {
            // What comes is then answered with a reset, as after a kill.
            let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&client, sockopt::Linger, &at_once).unwrap();
        }
        drop(client);
        let gone = Instant::now();
        let mut seen = server.store.reads.load(Ordering::SeqCst);
        loop {
            std::thread::sleep(5 * SELECTION);
            let now = server.store.reads.load(Ordering::SeqCst);
            if now == seen {
                break;
            }
            assert!(gone.elapsed() < Duration::from_secs(5), "{host}, {encoding}: it goes on");
            seen = now;
        }
    }
    assert_eq!(ask(&server, "GET", "/api/debug/status", b"").json()["http"]["held-bytes"], 0);
}

#[test]
fn an_answer_of_which_something_was_sent_early_says_what_others_say() {
    let early = Timeouts { quiet: Duration::ZERO, slice: Duration::from_millis(1), ..Timeouts::default() };
    for host in ["h", "nobody"] {
        let body = selections(host, "slow", 20);
        let texts = [early, Timeouts::default()].map(|timeouts| query(&server(timeouts), &body).json());
        assert_eq!(texts[0], texts[1]);
        assert_eq!(texts[0]["results"].as_array().unwrap().len(), 20);
    }
}

#[test]
fn work_has_an_end() {
    let work = Duration::from_millis(300);
    let body = selections("h", "slow", 1000);
    let asked = Instant::now();
    let answer = query(&server(Timeouts { work, ..Timeouts::default() }), &body);
    assert!(answer.error(400).contains("300ms of work"), "{answer:?}");
    // Of what was sent in part the rest is broken off.
    let timeouts = Timeouts { work, quiet: Duration::from_millis(50), ..Timeouts::default() };
    let server = server(timeouts);
    let mut got = String::new();
    sent(&server, "identity", &body).read_to_string(&mut got).unwrap();
    assert!(got.starts_with("HTTP/1.1 200") && got.contains("{\"results\":[["), "{got}");
    assert!(!got.ends_with("0\r\n\r\n"), "no end of it was sent: {got}");
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[test]
fn too_many_hosts_for_all_nodes_are_refused_before_one_of_them_is_looked_at() {
    let mut fake = Fake::default();
    for host in 0..2000 {
        fake.add(&format!("c/h{host}//m"), 0, 10, &[1.0]);
    }
    let server = Server::start(fake);
    let of_all = |metrics: usize| {
        let metrics = vec![r#""m""#; metrics].join(",");
        format!(r#"{{"cluster": "c", "from": 0, "to": 10, "for-all-nodes": [{metrics}]}}"#)
    };
    let text = query(&server, &of_all(501)).error(400);
    assert!(text.contains("1002000 selections"), "{text}");
    assert_eq!(server.store.listings.load(Ordering::SeqCst), 0);
    assert_eq!(query(&server, &of_all(2)).json()["results"].as_array().unwrap().len(), 4000);
    assert_eq!(server.store.listings.load(Ordering::SeqCst), 1);
    let gzip = ask_with(&server, "POST", "/api/query", &[("Accept-Encoding", "gzip")], of_all(2).as_bytes());
    assert_eq!(gzip.status, 200);
}
