//! `free`, `debug`, `healthcheck`, the pages, methods and paths; and who may.

use serde_json::json;

use super::client::{ask, ask_with};
use super::fake::{Fake, Server, Setup};
use store_server::engine::{Durability, WriteReport};

/// Tokens made by the original's tools, and what the original says of them.
const TOKENS: &str = include_str!("../../golden/jwt/tokens.json");

fn tokens() -> serde_json::Value {
    serde_json::from_str(TOKENS).unwrap()
}

fn guarded() -> Server {
    let key = tokens()["public-key"].as_str().unwrap().to_owned();
    let key = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, key).unwrap();
    let setup = Setup { key: Some(key.try_into().unwrap()), dev: true, ..Setup::default() };
    Server::start_with(Fake::with_series(), setup)
}

#[test]
fn free_takes_selectors_and_a_time() {
    let server = Server::start(Fake::default());
    let answer =
        ask(&server, "POST", "/api/free?to=1700000000", br#"[["alpha","a01"],["alpha","a01","socket0"],[]]"#);
    assert_eq!((answer.status, answer.text()), (200, "buffers freed: 3\n"));
    assert_eq!(ask(&server, "POST", "/api/free/?to=-5", b"[]").text(), "buffers freed: 0\n");
    let freed = server.store.freed.lock().unwrap().clone();
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let expected = vec![list(&["alpha", "a01"]), list(&["alpha", "a01", "socket0"]), vec![]];
    assert_eq!(freed, [(1_700_000_000, expected), (-5, vec![])]);
}

#[test]
fn a_free_that_is_only_in_memory_says_so() {
    for (durability, header) in [(Durability::Memory, Some("memory")), (Durability::Kept, None)] {
        let report = WriteReport {
            good: 1,
            bad: 0,
            skipped: 0,
            refused: 0,
            first_bad: None,
            durability,
            stopped_behind: None,
        };
        let server = Server::start(Fake { report: Some(report), ..Fake::default() });
        let answer = ask(&server, "POST", "/api/free?to=1", b"[]");
        assert_eq!((answer.status, answer.header("x-durability")), (200, header));
    }
}

#[test]
fn a_free_that_makes_no_sense_is_refused() {
    let server = Server::start(Fake::default());
    for (path, body, named) in [
        ("/api/free", "[]", "'to'"),
        ("/api/free?to=", "[]", "'to'"),
        ("/api/free?to=abc", "[]", "to: \"abc\" is no number"),
        ("/api/free?to=1.5", "[]", "to: \"1.5\" is no number"),
        ("/api/free?to=1", "{", "a list of selectors is expected"),
        ("/api/free?to=1", "[\"a\"]", "a list of selectors is expected"),
        ("/api/free?to=1", "", "a list of selectors is expected"),
    ] {
        let text = ask(&server, "POST", path, body.as_bytes()).error(400);
        assert!(text.starts_with(named), "{path} {body}: {text}");
    }
    assert_eq!(server.store.freed.lock().unwrap().len(), 0);
    let loading = Server::start(Fake { loading: true, ..Fake::default() });
    ask(&loading, "POST", "/api/free?to=1", b"[]").error(503);
}

#[test]
fn debug_shows_a_level_or_says_that_there_is_none() {
    let server = Server::start(Fake::default());
    for path in ["/api/debug", "/api/debug/", "/api/debug?selector=", "/api/debug?selector=alpha%3Aa01"] {
        let answer = ask(&server, "GET", path, b"");
        assert_eq!((answer.status, answer.json()), (200, json!({"data": {}})), "{path}");
    }
    let text = ask(&server, "GET", "/api/debug?selector=no:such", b"").error(400);
    assert_eq!(text, "not found: no:such");
    let loading = Server::start(Fake { loading: true, ..Fake::default() });
    ask(&loading, "GET", "/api/debug", b"").error(503);
}

#[test]
fn status_shows_counters_of_server_and_store() {
    let server = Server::start(Fake::default());
    let status = ask(&server, "GET", "/api/debug/status", b"").json();
    assert_eq!((&status["store"]["lines"]["good"], &status["ready"]), (&json!(7), &json!(true)));
    assert_eq!(status["http"]["connections-open"], 1);
    assert_eq!(ask(&server, "GET", "/api/debug/memory/", b"").json(), json!({"head-bytes": 11}));
}

#[test]
fn healthcheck_answers_per_host() {
    let server = Server::start(Fake::default());
    let body =
        br#"{"cluster": "alpha", "nodes": ["b", "no-such-host", "a", "b"], "metric-names": ["m", "n"]}"#;
    let answer = ask(&server, "GET", "/api/healthcheck", body);
    let partial = r#"{"State":"partial","HealthMetrics":"{\"degraded\":[],\"missing\":[\"m\",\"n\"]}"}"#;
    let expected = format!(
        "{{\"a\":{partial},\"b\":{partial},\"no-such-host\":{{\"State\":\"failed\",\"HealthMetrics\":\"\"}}}}\n"
    );
    assert_eq!((answer.status, answer.text()), (200, expected.as_str()));
    assert_eq!(ask(&server, "GET", "/api/healthcheck/", br#"{"cluster": "alpha"}"#).text(), "{}\n");
    assert_eq!(ask(&server, "GET", "/api/healthcheck", br#"{"nodes": null}"#).text(), "{}\n");
    for (body, named) in [
        ("", "EOF"),
        ("{\"cluster\":", "EOF"),
        ("{\"cluster\": \"a\", \"x\": 1}", "unknown field `x`"),
        ("[]", "invalid type"),
    ] {
        let text = ask(&server, "GET", "/api/healthcheck", body.as_bytes()).error(400);
        assert!(text.starts_with("parsing request body failed: ") && text.contains(named), "{text}");
    }
}

#[test]
fn unknown_paths_and_methods_are_said_to_be_so_in_json() {
    let server = Server::start(Fake::default());
    for path in ["/api/nothing", "/query", "/api/writex", "/docs", "/swagger/", "/api"] {
        ask(&server, "GET", path, b"").error(404);
    }
    for (method, path, allowed) in [
        ("GET", "/api/write", "POST"),
        ("GET", "/api/free?to=1", "POST"),
        ("DELETE", "/api/query", "GET,HEAD,POST"),
        ("POST", "/api/debug", "GET,HEAD"),
        ("POST", "/api/healthcheck", "GET,HEAD"),
        ("PUT", "/api/write/", "POST"),
    ] {
        let answer = ask(&server, method, path, b"");
        answer.error(405);
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
}

#[test]
fn the_root_says_what_this_is_and_dev_serves_the_page() {
    let server = guarded();
    let root = ask(&server, "GET", "/", b"");
    assert_eq!(root.status, 200);
    assert!(root.text().starts_with("store-server ") && root.text().contains("/api/query"));
    for path in ["/docs", "/docs/", "/swagger/", "/swagger/index.html"] {
        let page = ask(&server, "GET", path, b"");
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, Some("text/html; charset=utf-8")),
            "{path}"
        );
        assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert!(page.text().contains("/api/healthcheck"));
    }
}

#[test]
fn with_a_key_every_route_needs_a_token_and_free_and_debug_a_role() {
    let server = guarded();
    let routes: [(&str, &str, &[u8], bool); 7] = [
        ("POST", "/api/write?cluster=x", b"", false),
        ("GET", "/api/query", b"{}", false),
        ("GET", "/api/healthcheck", b"{}", false),
        ("POST", "/api/free?to=1", b"[]", true),
        ("GET", "/api/debug", b"", true),
        ("GET", "/api/debug/status", b"", true),
        ("GET", "/api/debug/memory", b"", true),
    ];
    let tokens = tokens();
    for (method, path, body, admin) in routes {
        let none = ask(&server, method, path, body);
        none.error(401);
        assert_eq!(none.header("www-authenticate"), Some("Bearer"));
        for token in tokens["tokens"].as_array().unwrap() {
            let name = token["name"].as_str().unwrap();
            let header = format!("Bearer {}", token["token"].as_str().unwrap());
            let answer = ask_with(&server, method, path, &[("Authorization", &header)], body);
            let valid = name.starts_with("valid-");
            let may =
                ["valid-admin", "valid-no-typ", "valid-no-times", "valid-role-api"].contains(&name) || !admin;
            match (valid, may) {
                (false, _) => drop(answer.error(401)),
                (true, false) => drop(answer.error(403)),
                (true, true) => assert_eq!(answer.status, 200, "{path} {name}: {answer:?}"),
            }
        }
    }
    assert_eq!(ask(&server, "GET", "/api/nothing", b"").status, 404);
}

#[test]
fn without_a_key_a_proxy_may_not_free() {
    let server = Server::start(Fake::default());
    assert_eq!(ask(&server, "POST", "/api/free?to=1", b"[]").status, 200);
    let forwarded = ask_with(&server, "POST", "/api/free?to=1", &[("X-Forwarded-For", "127.0.0.1")], b"[]");
    assert!(forwarded.error(403).contains("jwt-public-key"));
    let written = ask_with(&server, "POST", "/api/write", &[("X-Forwarded-For", "192.0.2.1")], b"a value=1");
    assert_eq!(written.status, 200);
}
