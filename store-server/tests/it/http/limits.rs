//! What a client cannot do to the server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use store_server::config::Limits;
use store_server::http::Timeouts;

use super::client::{Client, ask, ask_with};
use super::fake::{Fake, Server, Setup};

fn small() -> Setup {
    let limits = Limits { body_bytes: 1000, decoded_bytes: 5000, ..Limits::default() };
    Setup { limits, ..Setup::default() }
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let server = Server::start_with(Fake::default(), small());
    assert_eq!(ask(&server, "POST", "/api/write", &[b'x'; 1000]).status, 200);
    ask(&server, "POST", "/api/write", &[b'x'; 1001]).error(413);
    // Also where the length is not told in front.
    let mut client = Client::connect(&server);
    client.send(b"POST /api/write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        client.send(format!("190\r\n{}\r\n", "x".repeat(0x190)).as_bytes());
    }
    let text = client.answer().unwrap().error(413);
    assert!(text.contains("1000 bytes"), "{text}");
    assert_eq!(server.store.written.lock().unwrap().len(), 1);
}

#[test]
fn a_body_that_grows_too_long_when_decompressed_is_refused() {
    use std::io::Write as _;
    let server = Server::start_with(Fake::default(), small());
    let gzip_of = |bytes: usize| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![b'x'; bytes]).unwrap();
        gzip.finish().unwrap()
    };
    let send = |body: &[u8]| ask_with(&server, "POST", "/api/write", &[("Content-Encoding", "gzip")], body);
    assert_eq!(send(&gzip_of(5000)).status, 200);
    let bomb = gzip_of(500_000);
    assert!(bomb.len() < 1000, "{}", bomb.len());
    let text = send(&bomb).error(413);
    assert!(text.contains("5000 bytes"), "{text}");
    assert_eq!(server.store.written.lock().unwrap().len(), 1);
}

#[test]
fn long_bodies_are_worked_on_by_as_many_threads_as_there_are_processors_and_hold_up_nobody() {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    (0..48).for_each(|_| gzip.write_all(&[b'#'; 1 << 20]).unwrap());
    let gzip = gzip.finish().unwrap();
    let server = Server::start(Fake { long_write_takes: Duration::from_millis(30), ..Fake::default() });
    let done = AtomicUsize::new(0);
    let mut waited = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let headers = [("Content-Encoding", "gzip")];
                let answer = ask_with(&server, "POST", "/api/write", &headers, &gzip);
                assert_eq!(answer.status, 200, "{answer:?}");
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        while done.load(Ordering::SeqCst) < 32 {
            let asked = Instant::now();
            assert_eq!(ask(&server, "POST", "/api/write", b"load,hostname=n1 value=1").status, 200);
            waited.push(asked.elapsed());
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    waited.sort_unstable();
    // Of a machine that does other things, too, one in ten may be late.
    let (late, worst) = (waited[waited.len() * 9 / 10], waited.last().unwrap());
    assert!(waited.len() > 10, "{waited:?}");
    assert!(late < Duration::from_millis(200), "{late:?}, at most {worst:?}, of {}", waited.len());
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (now, most) = *server.store.long_writes.lock().unwrap();
    assert!(now == 0 && most <= cpus, "{most} at once");
}

#[test]
fn a_health_check_of_many_metrics_of_many_nodes_is_refused_before_it_is_made() {
    let server = Server::start(Fake::default());
    let names = |kind: &str, count: usize| -> String {
        (0..count).map(|n| format!(r#""{kind}{n}""#)).collect::<Vec<_>>().join(",")
    };
    let check = |nodes: usize, metrics: &str| {
        let body = format!(r#"{{"nodes": [{}], "metric-names": [{metrics}]}}"#, names("n", nodes));
        ask(&server, "GET", "/api/healthcheck", body.as_bytes())
    };
    assert_eq!(check(5000, &names("m", 100)).status, 200);
    check(200_000, &names("m", 200_000)).error(413);
    let often = vec![r#""m""#; 200_000].join(",");
    assert_eq!(check(5, &often).json(), check(5, r#""m""#).json());
    assert_eq!(ask(&server, "GET", "/api/debug/status", b"").json()["http"]["held-bytes"], 0);
}

#[test]
fn memory_for_bodies_is_given_back() {
    let server = Server::start(Fake::default());
    for _ in 0..5 {
        assert_eq!(ask(&server, "POST", "/api/write", &vec![b'x'; 1 << 20]).status, 200);
    }
    let status = ask(&server, "GET", "/api/debug/status", b"").json();
    assert_eq!(
        (&status["http"]["held-bytes"], &status["http"]["body-bytes"]),
        (&0.into(), &(5 << 20).into())
    );
}

#[test]
fn a_small_body_cannot_ask_for_a_large_answer() {
    let mut fake = Fake::default();
    for host in 0..2000 {
        fake.add(&format!("c/h{host}//m"), 0, 10, &[1.0]);
    }
    let server = Server::start(fake);
    let refused = |request: String| ask(&server, "GET", "/api/query", request.as_bytes()).error(400);
    let ids = ["\"0\""; 2000].join(",");
    let every = format!(
        r#"{{"queries": [{{"metric": "m", "type": "t", "type-ids": [{ids}], "subtype": "s", "subtype-ids": [{ids}]}}]}}"#
    );
    assert!(refused(every).starts_with("4000000 selections"));
    let metrics = ["\"m\""; 501].join(",");
    let all_nodes = format!(r#"{{"cluster": "c", "for-all-nodes": [{metrics}]}}"#);
    assert!(refused(all_nodes).starts_with("1002000 selections"));
    let empty_queries = format!(r#"{{"queries": [{}]}}"#, ["{}"; 2_000_000].join(","));
    ask(&server, "GET", "/api/query", empty_queries.as_bytes()).error(413);
    let nodes = format!(r#"{{"nodes": [{}]}}"#, ["\"\""; 3_000_000].join(","));
    ask(&server, "GET", "/api/healthcheck", nodes.as_bytes()).error(413);
}

fn hasty() -> Setup {
    let timeouts = Timeouts {
        header: Duration::from_millis(200),
        idle_min: Duration::from_millis(200),
        body_idle: Duration::from_millis(200),
        body: Duration::from_millis(600),
        stall: Duration::from_millis(100),
        patience: Duration::from_millis(300),
        queue: Duration::from_millis(200),
        grace: Duration::from_millis(300),
        ..Timeouts::default()
    };
    Setup { timeouts, ..Setup::default() }
}

#[test]
fn headers_that_never_end_close_the_connection() {
    let server = Server::start_with(Fake::default(), hasty());
    let begun = Instant::now();
    let mut client = Client::connect(&server);
    client.send(b"POST /api/write HTTP/1.1\r\nHost: x\r\n");
    if let Some(answer) = client.answer() {
        assert_eq!(answer.status, 408);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let mut silent = Client::connect(&server);
    assert!(silent.answer().is_none_or(|answer| answer.status == 408));
}

#[test]
fn a_body_that_never_ends_is_answered_with_408() {
    let server = Server::start_with(Fake::default(), hasty());
    let mut client = Client::connect(&server);
    client.send(b"POST /api/write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    client.answer().unwrap().error(408);
    // A piece now and then does not help.
    let mut client = Client::connect(&server);
    client.send(b"POST /api/write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n");
    for _ in 0..7 {
        client.send(b"x");
        std::thread::sleep(Duration::from_millis(100));
    }
    client.answer().unwrap().error(408);
    assert_eq!(server.store.written.lock().unwrap().len(), 0);
}

#[test]
fn a_client_that_does_not_read_is_cut_and_its_answer_forgotten() {
    let mut fake = Fake::default();
    fake.add("c/h//m", 0, 1, &vec![1.5; 2_000_000]);
    let server = Server::start_with(fake, hasty());
    let request = r#"{"cluster": "c", "from": 0, "to": 2000000, "queries": [{"metric": "m", "host": "h"},
                     {"metric": "m", "host": "h"}, {"metric": "m", "host": "h"}]}"#;
    let mut client = Client::connect(&server);
    client.send(
        format!("GET /api/query HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{request}", request.len())
            .as_bytes(),
    );
    let held =
        || ask(&server, "GET", "/api/debug/status", b"").json()["http"]["held-bytes"].as_u64().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let mut seen = false;
    loop {
        let held = held();
        seen |= held > 1 << 20;
        if seen && held == 0 {
            break;
        }
        assert!(Instant::now() < until, "{held} bytes are still held; ever seen: {seen}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn answers_that_wait_to_be_gone_on_with_are_counted() {
    let mut fake = Fake { slow_takes: Duration::from_millis(100), ..Fake::default() };
    fake.add("c/h//m", 0, 1, &vec![1.5; 400_000]);
    let server = Server::start(fake);
    let send = |metric: &str, count: usize| {
        let queries = vec![format!(r#"{{"metric": "{metric}", "host": "h"}}"#); count].join(",");
        let request = format!(r#"{{"cluster": "c", "from": 0, "to": 400000, "queries": [{queries}]}}"#);
        let mut client = Client::connect(&server);
        let len = request.len();
        client.send(
            format!("GET /api/query HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n{request}")
                .as_bytes(),
        );
        client
    };
    // They take all the threads for queries.
    let threads = std::thread::available_parallelism().unwrap().get().max(2);
    let _slow: Vec<Client> = (0..threads).map(|_| send("slow", 40)).collect();
    std::thread::sleep(Duration::from_millis(1000));
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(send("m", 2));
        // Each is begun: one at a time is, where it was read.
        std::thread::sleep(Duration::from_millis(200));
    }
    let held = ask(&server, "GET", "/api/debug/status", b"").json()["http"]["held-bytes"].as_u64().unwrap();
    assert!(held > 5 << 20, "{held} bytes are counted");
}

#[test]
fn names_that_are_written_out_many_times_are_refused() {
    let server = Server::start(Fake::default());
    let (kind, ids) = ("t".repeat(1 << 20), vec![r#""0""#; 1000].join(","));
    for subtype in ["", r#""subtype": "s", "subtype-ids": ["0"],"#, r#""aggreg": true, "#] {
        let request = format!(
            r#"{{"cluster": "c", "queries": [{{"metric": "m", "type": "{kind}", {subtype} "type-ids": [{ids}]}}]}}"#
        );
        ask(&server, "GET", "/api/query", request.as_bytes()).error(413);
    }
}

#[test]
fn more_connections_than_allowed_wait_for_their_turn() {
    let setup = Setup { connections_max: 2, ..Setup::default() };
    let server = Server::start_with(Fake::default(), setup);
    let mut first = Client::connect(&server);
    let second = Client::connect(&server);
    assert_eq!(first.request("POST", "/api/write", &[], b"a").status, 200);
    let mut third = Client::connect(&server);
    third.send(b"POST /api/write HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nb");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(server.store.written.lock().unwrap().len(), 1);
    drop(second);
    assert_eq!(third.answer().unwrap().status, 200);
}

/// One seat less than clients, and little patience with who waits.
fn crowded(connections_max: usize) -> Setup {
    let timeouts = Timeouts { idle_min: Duration::from_millis(150), ..Timeouts::default() };
    Setup { connections_max, timeouts, ..Setup::default() }
}

#[test]
fn the_connection_that_waits_longest_gives_way_to_a_new_one() {
    let server = Server::start_with(Fake::default(), crowded(2));
    let write = |client: &mut Client| client.request("POST", "/api/write", &[], b"a").status;
    let (mut first, mut second) = (Client::connect(&server), Client::connect(&server));
    assert_eq!((write(&mut first), write(&mut second)), (200, 200));
    std::thread::sleep(Duration::from_millis(200));
    // The first one is not the one that waits longest any more.
    assert_eq!(write(&mut first), 200);
    let mut third = Client::connect(&server);
    assert_eq!(write(&mut third), 200);
    assert!(second.answer().is_none(), "the second one was closed");
    assert_eq!((write(&mut first), write(&mut third)), (200, 200));
}

#[test]
fn a_connection_does_not_give_way_before_its_request_is_answered() {
    let mut fake = Fake { write_takes: Duration::from_millis(500), ..Fake::default() };
    fake.add("c/h//m", 0, 1, &vec![1.5; 400_000]);
    let server = Server::start_with(fake, crowded(2));
    let mut writing = Client::connect(&server);
    writing.send(b"POST /api/write HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nb");
    let mut reading = Client::connect(&server);
    let query = r#"{"cluster": "c", "from": 0, "to": 400000, "queries": [{"metric": "m", "host": "h"}]}"#;
    let len = query.len();
    reading.send(
        format!("GET /api/query HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n{query}").as_bytes(),
    );
    // It is there before either of them is done, and one of them has to go for it.
    let mut third = Client::connect(&server);
    third.send(b"POST /api/write HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nc");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(writing.answer().unwrap().status, 200);
    let answer = reading.answer().unwrap().json();
    assert_eq!(answer["results"][0][0]["data"].as_array().unwrap().len(), 400_000);
    assert_eq!(third.answer().unwrap().status, 200);
}
