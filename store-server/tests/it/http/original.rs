//! What the original answers to odd requests, and what we answer: one table. Add a row for whatever a client notices.
//!
//! The original's column was measured on its HTTP library and its JSON decoder (Go 1.26), with its routes and structs.

use super::client::{Answer, Client};
use super::fake::{Fake, Server};

/// A request in one line, its body, the original's answer in words, and ours: status, and what stands in it.
type Row = (&'static str, &'static str, &'static str, u16, &'static str);

/// The metric `cpu_load` of `alpha/a01` has twelve values from 1700000000 on.
const LOAD: &str =
    r#"{"cluster":"alpha","from":1700000000,"to":1700000060,"queries":[{"metric":"cpu_load","host":"a01"}]}"#;
const FOUND: &str = "34.875";
const NOTHING: &str = r#"{"results":[]}"#;

/// Paths and methods.
const TARGETS: &[Row] = &[
    ("GET /api/query", LOAD, "200", 200, FOUND),
    ("GET /api/query/", LOAD, "200", 200, FOUND),
    ("GET /api/query/x", LOAD, "200", 200, FOUND),
    ("GET /api/query/x/y?version=v2", LOAD, "200", 200, FOUND),
    ("GET //api/query", LOAD, "307 to /api/query", 307, "/api/query"),
    ("GET //api//query?version=v2", LOAD, "307 to /api/query?version=v2", 307, "/api/query?version=v2"),
    ("GET /api/./query", LOAD, "307 to /api/query", 307, "/api/query"),
    ("GET /api/x/../query", LOAD, "307 to /api/query", 307, "/api/query"),
    ("GET /api/query//", LOAD, "307 to /api/query/", 200, FOUND),
    ("GET /api/%71uery", LOAD, "200", 307, "/api/query"),
    ("GET http://localhost/api/query", LOAD, "200", 200, FOUND),
    ("GET http://localhost//api/query", LOAD, "307 to /api/query", 307, "/api/query"),
    ("GET /API/query", LOAD, "404", 404, ""),
    ("GET /api%2fquery", LOAD, "404", 404, ""),
    ("GET /api/query%2f", LOAD, "404", 404, ""),
    ("GET //example.org", LOAD, "404", 404, ""),
    ("POST /api/query", LOAD, "405", 200, FOUND),
    ("PUT /api/query", LOAD, "405", 405, ""),
    ("OPTIONS /api/query", "", "405", 405, ""),
    ("get /api/query", LOAD, "405", 405, ""),
    ("GET /api/write/x", "", "405", 405, ""),
    ("POST //api/write?cluster=c", "a value=1", "307 to /api/write?cluster=c", 307, "/api/write?cluster=c"),
    ("POST /api/write/x?cluster=c", "a value=1", "200", 200, ""),
    ("POST /api/free/x?to=5", "[]", "200", 200, "buffers freed: 0"),
    ("GET /api/debug/x", "", "200", 200, "data"),
    ("GET /api/healthcheck/x", "{}", "200", 200, "{}"),
];

/// JSON bodies.
const BODIES: &[Row] = &[
    (
        "GET /api/query",
        r#"{"Cluster":"alpha","FROM":1700000000,"To":1700000060,"Queries":[{"Metric":"cpu_load","HOST":"a01"}]}"#,
        "200, found",
        200,
        FOUND,
    ),
    (
        "GET /api/query",
        r#"{"cluſter":"alpha","from":1700000000,"to":1700000060,"queries":[{"metric":"cpu_load","host":"a01"}]}"#,
        "200, found",
        200,
        FOUND,
    ),
    (
        "GET /api/query",
        r#"{"cluster":"x","cluster":"alpha","from":5,"FROM":1700000000,"to":1700000060,"queries":[{"metric":"z","metric":"cpu_load","host":"a01"}]}"#,
        "200, the last counts",
        200,
        FOUND,
    ),
    (
        "GET /api/query",
        r#"{"cluster":"alpha","cluster":null,"from":1700000000,"to":1700000060,"queries":[],"queries":[{"metric":"cpu_load","host":"a01","resolution":null}]}"#,
        "200, null says nothing",
        200,
        FOUND,
    ),
    (
        "GET /api/query",
        r#"{"cluster":"alpha","with-data":false,"With-Data":null,"from":1700000000,"to":1700000060,"queries":[{"metric":"cpu_load","host":"a01"}]}"#,
        "200, without data",
        200,
        r#"[[{"from":1700000000,"to""#,
    ),
    (
        "GET /api/query",
        r#"{"with_stats":false,"withdata":false}"#,
        "200, unknown keys are ignored",
        200,
        NOTHING,
    ),
    (
        "GET /api/query",
        r#"{"queries":[null]}"#,
        "200, a query without a metric",
        200,
        r#"{"results":[[{"error""#,
    ),
    ("GET /api/query", r#"{"for-all-nodes":["m"],"for-all-nodes":null}"#, "200, none", 200, NOTHING),
    ("GET /api/query", "null", "200, nothing", 200, NOTHING),
    ("GET /api/query", "{} x", "200, what stands behind is not read", 200, NOTHING),
    ("GET /api/query", r#"{"x":1e999}"#, "200, what is ignored is not read", 200, NOTHING),
    ("GET /api/query", "", "400", 400, "EOF"),
    ("GET /api/query", "[]", "400", 400, "expected an object"),
    ("GET /api/query", r#"{"From":"1"}"#, "400", 400, "From: invalid type"),
    ("GET /api/query", r#"{"from":1.0}"#, "400", 400, "from: invalid type"),
    ("GET /api/query", r#"{"from":9223372036854775808}"#, "400", 400, "from: invalid value"),
    ("GET /api/query", r#"{"queries":{}}"#, "400", 400, "queries: invalid type"),
    ("GET /api/query", r#"{"queries":[["m"]]}"#, "400", 400, "queries[0]: invalid type"),
    ("GET /api/query", r#"{"cluster":"\ud800"}"#, "200, with a replacement character", 400, "cluster: "),
    ("GET /api/query", "\u{feff}{}", "400", 400, "expected value"),
    (
        "GET /api/healthcheck",
        r#"{"Cluster":"c","NODES":["a"],"Metric-Names":["m"]}"#,
        "200",
        200,
        r#"{"a":{"#,
    ),
    ("GET /api/healthcheck", r#"{"nodes":["a"],"nodes":["b"]}"#, "200, the last counts", 200, r#"{"b":{"#),
    ("GET /api/healthcheck", r#"{"nodes":[null]}"#, "200, an empty name", 200, r#"{"":{"#),
    ("GET /api/healthcheck", "null", "200", 200, "{}"),
    ("GET /api/healthcheck", r#"{"node":["a"]}"#, "400", 400, "unknown field"),
    ("GET /api/healthcheck", "[]", "400", 400, "expected an object"),
    ("POST /api/free?to=5", "null", "200, none", 200, "buffers freed: 0"),
    ("POST /api/free?to=5", "[null]", "200, everything is freed", 400, "a list of selectors"),
    ("POST /api/free?to=5", r#"[["a"]] x"#, "200", 200, "buffers freed: 1"),
];

/// Numbers and texts behind the question mark.
const PARAMETERS: &[Row] = &[
    ("POST /api/free?to=%2B5", "[]", "200", 200, "buffers freed"),
    ("POST /api/free?to=+5", "[]", "500, a plus is a blank", 200, "buffers freed"),
    ("POST /api/free?to=-0", "[]", "200", 200, "buffers freed"),
    ("POST /api/free?to=007", "[]", "200", 200, "buffers freed"),
    ("POST /api/free?to=5&to=x", "[]", "200, the first counts", 200, "buffers freed"),
    ("POST /api/free?TO=5", "[]", "400", 400, "'to'"),
    ("POST /api/free?to=5%20", "[]", "500", 400, "no number"),
    ("POST /api/free?to=1_0", "[]", "500", 400, "no number"),
    ("POST /api/free?to=0x5", "[]", "500", 400, "no number"),
    ("POST /api/free?to=1e3", "[]", "500", 400, "no number"),
    ("POST /api/free?to=9223372036854775808", "[]", "500", 400, "no number"),
    ("GET /api/query?version=v9", LOAD, "200", 200, FOUND),
    ("GET /api/debug?selector=alpha:a01", "", "200", 200, "data"),
];

fn ask(server: &Server, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let (method, path) = target.split_once(' ').unwrap();
    Client::connect(server).request(method, path, headers, body.as_bytes())
}

#[test]
fn odd_requests_are_answered_as_the_original_does_or_as_is_said_here() {
    let server = Server::start(Fake::with_series());
    for (target, body, original, status, text) in [TARGETS, BODIES, PARAMETERS].concat() {
        let answer = ask(&server, target, &[], body);
        let about = format!("{target} {body}, the original: {original}\n{answer:?}");
        assert_eq!(answer.status, status, "{about}");
        if status == 307 {
            assert_eq!(answer.header("location"), Some(text), "{about}");
        } else {
            assert!(answer.text().contains(text), "{about}");
        }
    }
}

/// A request that is refused before its body was read, the length of the body, and whether the connection goes on.
const REFUSED: &[(&str, u16, usize, bool)] = &[
    ("PUT /api/query", 405, 5, true),
    ("PUT /api/query", 405, 200_000, true),
    ("PUT /api/query", 405, 3_000_000, false),
    ("POST /api/nothing", 404, 200_000, true),
    ("POST /api/nothing", 404, 3_000_000, false),
    ("POST //api/write", 307, 200_000, true),
    ("POST //api/write", 307, 3_000_000, false),
    ("POST /api/free", 400, 200_000, true),
    ("POST /api/free", 400, 3_000_000, false),
    ("GET /api/debug", 200, 200_000, true),
    ("GET /api/debug", 200, 3_000_000, false),
    ("POST /api/write?cluster=%ff", 400, 3_000_000, false),
];

/// As the original: up to 256 KiB are read and forgotten.
#[test]
fn who_is_answered_before_the_body_was_read_gets_the_answer_and_knows_whether_to_go_on() {
    let server = Server::start(Fake::with_series());
    for &(target, status, bytes, goes_on) in REFUSED {
        let (method, path) = target.split_once(' ').unwrap();
        let mut client = Client::connect(&server);
        let body = vec![b'x'; bytes];
        let answer = client.request(method, path, &[], &body);
        assert_eq!(answer.status, status, "{target}, {bytes} bytes");
        let closes = answer.header("connection") == Some("close");
        assert_eq!(closes, !goes_on, "{target}, {bytes} bytes: {answer:?}");
        if goes_on {
            assert_eq!(client.request("GET", "/api/query", &[], b"{}").status, 200, "{target}");
        } else {
            assert!(client.answer().is_none(), "{target}");
        }
    }
}

#[test]
fn a_body_that_was_not_asked_for_is_not_asked_for_to_be_ignored() {
    let server = Server::start(Fake::with_series());
    let head = |target: &str| {
        format!("{target} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    };
    let mut client = Client::connect(&server);
    client.send(head("PUT /api/query").as_bytes());
    let refused = client.answer().unwrap();
    assert_eq!((refused.status, refused.header("connection")), (405, Some("close")));
    let mut client = Client::connect(&server);
    client.send(head("GET /api/query").as_bytes());
    assert_eq!(client.answer().unwrap().status, 100);
    client.send(b"{}");
    assert_eq!(client.answer().unwrap().status, 200);
}

#[test]
fn bodies_are_read_in_pieces_and_by_any_name_of_their_encoding() {
    use std::io::Write as _;
    let server = Server::start(Fake::with_series());
    let mut client = Client::connect(&server);
    client.send(b"GET /api/query HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for byte in LOAD.bytes() {
        client.send(format!("1;a=b\r\n{}\r\n", char::from(byte)).as_bytes());
    }
    client.send(b"0\r\nTrailer: x\r\n\r\n");
    assert!(client.answer().unwrap().text().contains(FOUND));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(LOAD.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    for (encoding, body, status) in [
        ("gzip", gzip.as_slice(), 200),
        ("GZIP", &gzip, 200),
        ("x-gzip", &gzip, 200),
        ("identity", LOAD.as_bytes(), 200),
        ("br", &gzip, 415),
    ] {
        let answer = client.request("GET", "/api/query", &[("Content-Encoding", encoding)], body);
        assert_eq!(answer.status, status, "{encoding}: {answer:?}");
    }
}
