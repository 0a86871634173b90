//! `POST /api/write`.

use std::io::Write as _;
use std::time::Duration;

use store_server::engine::{Durability, FirstBad, WriteReport};

use super::client::{Client, ask, ask_with};
use super::fake::{Fake, Server};

fn told(report: WriteReport) -> Server {
    Server::start(Fake { report: Some(report), ..Fake::default() })
}

fn report(good: u64, bad: u64, skipped: u64, refused: u64) -> WriteReport {
    let first_bad = FirstBad { line: 2, column: 45, what: "\"+5\" is no number".to_owned() };
    WriteReport {
        good,
        bad,
        skipped,
        refused,
        first_bad: (bad > 0).then_some(first_bad),
        durability: Durability::Kept,
        stopped_behind: None,
    }
}

#[test]
fn lines_are_handed_to_the_store_and_answered_with_an_empty_200() {
    let server = Server::start(Fake::default());
    let answer = ask(&server, "POST", "/api/write?cluster=ep%20silon", b"a value=1\nb value=2\n");
    assert_eq!((answer.status, answer.text()), (200, ""));
    assert_eq!((answer.header("x-lines-bad"), answer.header("x-lines-refused")), (Some("0"), Some("0")));
    assert_eq!(answer.header("x-durability"), None);
    assert_eq!(ask(&server, "POST", "/api/write/", b"c value=3").status, 200);
    let expected =
        [(b"a value=1\nb value=2\n".to_vec(), Some("ep silon".to_owned())), (b"c value=3".to_vec(), None)];
    assert_eq!(*server.store.written.lock().unwrap(), expected);
}

#[test]
fn lines_left_out_are_counted_in_headers() {
    let answer = ask(&told(report(5, 2, 4, 3)), "POST", "/api/write", b"x");
    assert_eq!((answer.status, answer.text()), (200, ""));
    assert_eq!((answer.header("x-lines-bad"), answer.header("x-lines-refused")), (Some("2"), Some("3")));
}

#[test]
fn a_400_comes_only_if_no_line_was_good_or_skipped_and_names_the_first_bad_one() {
    let text = ask(&told(report(0, 1, 0, 0)), "POST", "/api/write", b"x").error(400);
    assert_eq!(text, "line 2, column 45: \"+5\" is no number");
    let text = ask(&told(report(0, 3, 0, 0)), "POST", "/api/write", b"x").error(400);
    assert_eq!(text, "line 2, column 45: \"+5\" is no number (the first of 3 bad lines)");
    for (good, bad, skipped) in [(1, 9, 0), (0, 9, 1), (0, 0, 5), (0, 0, 0)] {
        let answer = ask(&told(report(good, bad, skipped, 0)), "POST", "/api/write", b"x");
        assert_eq!(answer.status, 200, "{good} {bad} {skipped}");
    }
}

#[test]
fn what_cannot_be_logged_is_said() {
    let memory = WriteReport { durability: Durability::Memory, ..report(1, 0, 0, 0) };
    let answer = ask(&told(memory), "POST", "/api/write", b"x");
    assert_eq!((answer.status, answer.header("x-durability")), (200, Some("memory")));

    let unavailable = WriteReport { durability: Durability::Unavailable, ..report(1, 0, 0, 0) };
    let answer = ask(&told(unavailable), "POST", "/api/write", b"x");
    assert!(answer.error(503).contains("the log cannot be written"));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[test]
fn compressed_bodies_are_decompressed() {
    let server = Server::start(Fake::default());
    let lines = "cpu_load,hostname=a value=1 1700000000\n".repeat(1000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(lines.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    assert!(gzip.len() < 1000);
    let answer = ask_with(&server, "POST", "/api/write", &[("Content-Encoding", "gzip")], &gzip);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = ask_with(&server, "POST", "/api/write", &[("Content-Encoding", "zstd")], ZSTD_OF_1000_A);
    assert_eq!(answer.status, 200, "{answer:?}");
    let written = server.store.written.lock().unwrap();
    assert_eq!(written[0].0, lines.as_bytes());
    assert_eq!(written[1].0, vec![b'a'; 1000]);
}

/// `head -c 1000 /dev/zero | tr '\0' a | zstd`, with one block that says *a, 1000 times*.
const ZSTD_OF_1000_A: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0x60, 0xe8, 0x02, 0x43, 0x1f, 0x00, b'a'];

#[test]
fn every_member_of_a_gzip_body_counts() {
    let server = Server::start(Fake::default());
    let member = |text: &str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let two = [member("a,hostname=h value=1\n"), member("b,hostname=h value=2\n")].concat();
    for name in ["gzip", "GZIP", "x-gzip"] {
        assert_eq!(ask_with(&server, "POST", "/api/write", &[("Content-Encoding", name)], &two).status, 200);
    }
    let expected = b"a,hostname=h value=1\nb,hostname=h value=2\n".as_slice();
    assert_eq!(server.store.written.lock().unwrap().iter().filter(|(body, _)| body == expected).count(), 3);
    let junk = [member("a,hostname=h value=1\n"), b"junk that is no member".to_vec()].concat();
    let answer = ask_with(&server, "POST", "/api/write", &[("Content-Encoding", "gzip")], &junk);
    assert!(answer.error(400).starts_with("cannot read the body"), "{answer:?}");
}

#[test]
fn a_badly_compressed_body_is_refused() {
    let server = Server::start(Fake::default());
    for encoding in ["gzip", "zstd"] {
        let answer =
            ask_with(&server, "POST", "/api/write", &[("Content-Encoding", encoding)], b"not compressed");
        assert!(answer.error(400).starts_with("cannot read the body: "), "{answer:?}");
    }
    let answer = ask_with(&server, "POST", "/api/write", &[("Content-Encoding", "br")], b"x");
    assert!(answer.error(415).contains("gzip, zstd"), "{answer:?}");
    assert_eq!(server.store.written.lock().unwrap().len(), 0);
}

#[test]
fn many_requests_go_over_one_connection() {
    let server = Server::start(Fake::default());
    let mut client = Client::connect(&server);
    for n in 0..50 {
        assert_eq!(client.request("POST", "/api/write", &[], format!("m value={n}").as_bytes()).status, 200);
    }
    let status = client.request("GET", "/api/debug/status", &[], b"").json();
    assert_eq!(
        (status["http"]["connections"].as_u64(), status["http"]["bodies"].as_u64()),
        (Some(1), Some(50))
    );
    assert_eq!(status["http"]["answers-2xx"], 50);
}

#[test]
fn a_chunked_body_is_read_whole() {
    let server = Server::start(Fake::default());
    let mut client = Client::connect(&server);
    client.send(b"POST /api/write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab c\r\n");
    std::thread::sleep(Duration::from_millis(50));
    client.send(b"2\r\nde\r\n");
    std::thread::sleep(Duration::from_millis(50));
    client.send(b"1\r\nf\r\n0\r\n\r\n");
    assert_eq!(client.answer().unwrap().status, 200);
    assert_eq!(server.store.written.lock().unwrap()[0].0, b"ab cdef");
}

#[test]
fn who_ends_sending_behind_a_request_gets_its_answer() {
    let server = Server::start(Fake { write_takes: Duration::from_millis(20), ..Fake::default() });
    for _ in 0..20 {
        let mut client = Client::connect(&server);
        client.send(b"POST /api/write HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na value=1");
        client.end_sending();
        assert_eq!(client.answer().expect("an answer").status, 200);
        assert!(client.answer().is_none(), "the connection ends");
    }
}

#[test]
fn a_panic_in_the_store_is_a_500_and_nothing_else_ends() {
    let server = Server::start(Fake::default());
    let mut client = Client::connect(&server);
    let text = client.request("POST", "/api/write", &[], b"panic").error(500);
    assert!(!text.contains("told to panic"), "{text}");
    assert_eq!(client.request("POST", "/api/write", &[], b"a value=1").status, 200);
}
