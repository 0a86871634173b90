//! `/api/query`: the answers are those of the original, byte for byte.

use serde_json::json;

use super::client::{ask, ask_with};
use super::fake::{Fake, Server, Setup};
use store_server::config::Limits;

/// The answer to a request, and that it is one.
fn answer(server: &Server, request: &str) -> String {
    let answer = ask(server, "GET", "/api/query", request.as_bytes());
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
    answer.text().to_owned()
}

const DATA: &str = "34.875,38.750,44.250,44.375";
const STATS: &str =
    "\"from\":1700000000,\"to\":1700000240,\"resolution\":60,\"avg\":40.56,\"min\":34.88,\"max\":44.38";
const NO_STATS: &str =
    "\"from\":1700000000,\"to\":1700000240,\"resolution\":60,\"avg\":0.00,\"min\":0.00,\"max\":0.00";

#[test]
fn stats_data_and_padding_can_be_left_out() {
    let server = Server::start(Fake::with_series());
    for (stats, data, padding, expected) in [
        (true, true, true, format!("\"data\":[null,null,{DATA}],{STATS}")),
        (true, true, false, format!("\"data\":[{DATA}],{STATS}")),
        (true, false, true, STATS.to_owned()),
        (true, false, false, STATS.to_owned()),
        (false, true, true, format!("\"data\":[null,null,{DATA}],{NO_STATS}")),
        (false, false, false, NO_STATS.to_owned()),
    ] {
        let request = format!(
            r#"{{"cluster": "alpha", "from": 1699999880, "to": 1700000240, "queries": [{{"metric": "cpu_load", "host": "a01"}}],
                "with-stats": {stats}, "with-data": {data}, "with-padding": {padding}}}"#
        );
        assert_eq!(answer(&server, &request), format!("{{\"results\":[[{{{expected}}}]]}}\n"));
    }
    // All three are true when they are left out, or null.
    let request = r#"{"cluster": "alpha", "from": 1699999880, "to": 1700000240, "with-stats": null,
        "queries": [{"metric": "cpu_load", "host": "a01", "type": null, "scale-by": null, "type-ids": null}]}"#;
    let expected = format!("{{\"results\":[[{{\"data\":[null,null,{DATA}],{STATS}}}]]}}\n");
    assert_eq!(answer(&server, request), expected);
}

/// The one result of a query for a metric of `alpha/a01`, with more fields of the query.
fn one(server: &Server, metric: &str, from: i64, to: i64, more: &str) -> serde_json::Value {
    let request = format!(
        r#"{{"cluster": "alpha", "from": {from}, "to": {to}, "queries": [{{"metric": "{metric}", "host": "a01"{more}}}]}}"#
    );
    let answer: serde_json::Value = serde_json::from_str(&answer(server, &request)).unwrap();
    answer["results"][0][0].clone()
}

#[test]
fn padding_counts_steps_and_never_reaches_beyond_to() {
    let server = Server::start(Fake::with_series());
    let nulls = |from, to| {
        let result = one(&server, "cpu_load", from, to, "");
        let data = result["data"].as_array().cloned().unwrap_or_default();
        data.iter().take_while(|value| value.is_null()).count()
    };
    // Fully before the data: a null per step of the range asked for, not one per step up to the data.
    assert_eq!(nulls(1_699_992_800, 1_699_996_400), 60);
    assert_eq!(nulls(1_699_999_905, 1_700_000_205), 2);
    assert_eq!(nulls(1_699_999_400, 1_700_000_600), 10);
    assert_eq!(nulls(1_700_000_000, 1_700_000_600), 0);
    assert_eq!(nulls(1_699_999_990, 1_699_999_990), 0);
    assert_eq!(nulls(1_699_999_700, 1_699_999_790), 2);
}

#[test]
fn a_range_with_nothing_in_it_has_no_data_and_null_stats() {
    let server = Server::start(Fake::with_series());
    let request = r#"{"cluster": "alpha", "from": 1699992800, "to": 1699996400, "with-padding": false,
        "queries": [{"metric": "cpu_load", "host": "a01"}]}"#;
    let expected = "{\"results\":[[{\"from\":1700000000,\"to\":1700000000,\"resolution\":60,\"avg\":null,\"min\":null,\"max\":null}]]}\n";
    // The stand-in counts back from the end of the range; what matters here is the form.
    assert_eq!(answer(&server, request), expected);
}

#[test]
fn missing_values_are_null_and_small_ones_keep_their_sign() {
    let server = Server::start(Fake::with_series());
    let request = |metric: &str| {
        format!(
            r#"{{"cluster": "alpha", "from": 1700000000, "to": 1700000240, "queries": [{{"metric": "{metric}", "host": "a01"}}]}}"#
        )
    };
    let gaps = answer(&server, &request("gaps"));
    assert!(gaps.contains("\"data\":[1.000,null,-0.000,null],"), "{gaps}");
    assert!(gaps.contains("\"avg\":0.50,\"min\":-0.00,\"max\":1.00"), "{gaps}");
    let empty = answer(&server, &request("empty"));
    assert!(empty.contains("\"data\":[null,null],"), "{empty}");
    assert!(empty.contains("\"avg\":null,\"min\":null,\"max\":null"), "{empty}");
}

#[test]
fn scaling_applies_to_data_and_stats() {
    let server = Server::start(Fake::with_series());
    let scaled = |factor: &str| {
        let more = format!(r#", "scale-by": {factor}"#);
        let result = one(&server, "cpu_load", 1_700_000_000, 1_700_000_120, &more);
        (result["data"].clone(), result["avg"].clone(), result["min"].clone(), result["max"].clone())
    };
    let plain = (json!([34.875, 38.75]), json!(36.81), json!(34.88), json!(38.75));
    assert_eq!((scaled("0"), scaled("1")), (plain.clone(), plain));
    assert_eq!(scaled("2"), (json!([69.75, 77.5]), json!(73.62), json!(69.75), json!(77.5)));
    // As clients have always got it: min and max are scaled, not exchanged.
    assert_eq!(scaled("-1"), (json!([-34.875, -38.75]), json!(-36.81), json!(-34.88), json!(-38.75)));
    assert_eq!(scaled("1e308").0, json!([null, null]));
}

#[test]
fn selections_come_in_the_order_asked_and_missing_ones_are_left_out() {
    let server = Server::start(Fake::with_series());
    let firsts = |more: &str| {
        let request = format!(
            r#"{{"cluster": "alpha", "from": 1700000000, "to": 1700000060, "queries": [{{"host": "a01", {more}}}]}}"#
        );
        let answer: serde_json::Value = serde_json::from_str(&answer(&server, &request)).unwrap();
        let inner = answer["results"][0].as_array().unwrap().clone();
        inner.iter().map(|result| result["data"][0].as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(
        firsts(r#""metric": "cpu_user", "type": "hwthread", "type-ids": ["1", "77", "0", "1"]"#),
        [2.5, 1.5, 2.5]
    );
    assert_eq!(
        firsts(r#""metric": "cpu_user", "type": "hwthread", "type-ids": ["0", "1"], "aggreg": true"#),
        [2.0]
    );
    assert_eq!(
        firsts(r#""metric": "cpu_user", "type": "hwthread", "type-ids": ["1"], "aggreg": true"#),
        [2.5]
    );
    assert_eq!(firsts(r#""metric": "cpu_user", "type": "hwthread", "type-ids": []"#), [0.0; 0]);
    assert_eq!(firsts(r#""metric": "cpu_user", "type": "hwthread", "aggreg": true"#), [0.0; 0]);
    assert_eq!(firsts(r#""metric": "cpu_load", "type-ids": ["0"]"#), [34.875]);
    let both = r#""metric": "temp", "type": "hwthread", "type-ids": ["1", "0"], "subtype": "sensor", "subtype-ids": ["0", "1"]"#;
    assert_eq!(firsts(both), [2.5, 2.5, 1.5, 1.5]);
}

#[test]
fn what_is_wrong_with_one_query_stands_in_its_place() {
    let server = Server::start(Fake::with_series());
    let request = r#"{"cluster": "alpha", "from": 1700000000, "to": 1700000060, "queries": [
        {"metric": "cpu_load", "host": "a01"}, {"metric": "no_such\"metric", "host": "a01"},
        {"metric": "cpu_load", "host": "no-such-host"}, {"host": "a01"}]}"#;
    let no_data = "\"from\":0,\"to\":0,\"resolution\":0,\"avg\":0.00,\"min\":0.00,\"max\":0.00";
    let expected = format!(
        "{{\"results\":[[{{\"data\":[34.875],\"from\":1700000000,\"to\":1700000060,\"resolution\":60,\"avg\":34.88,\"min\":34.88,\"max\":34.88}}],\
         [{{\"error\":\"unknown metric: no_such\\\"metric\",{no_data}}}],[],[{{\"error\":\"unknown metric: \",{no_data}}}]]}}\n"
    );
    assert_eq!(answer(&server, request), expected);
    let backwards = one(&server, "cpu_load", 2, 1, "");
    assert_eq!(backwards["error"], "invalid time range");
}

#[test]
fn queries_for_all_nodes_are_put_behind_and_echoed() {
    let server = Server::start(Fake::with_series());
    let request = r#"{"cluster": "beta", "from": 1700000000, "to": 1700000120, "for-all-nodes": ["cpu_load", "none"],
        "queries": [{"metric": "none", "host": "b01"}]}"#;
    let inner = |data: &str, avg: &str, max: &str| {
        format!(
            "[{{\"data\":[{data}],\"from\":1700000000,\"to\":1700000120,\"resolution\":60,\"avg\":{avg},\"min\":0.00,\"max\":{max}}}]"
        )
    };
    let echo = |metric: &str, host: &str| {
        format!("{{\"metric\":\"{metric}\",\"host\":\"{host}\",\"resolution\":0,\"aggreg\":false}}")
    };
    let expected = format!(
        "{{\"queries\":[{},{},{},{}],\"results\":[[],{},[],{},[]]}}\n",
        echo("cpu_load", "b01"),
        echo("none", "b01"),
        echo("cpu_load", "b02"),
        echo("none", "b02"),
        inner("0.000,1.000", "0.50", "1.00"),
        inner("0.000,2.000", "1.00", "2.00"),
    );
    assert_eq!(answer(&server, request), expected);
}

#[test]
fn nothing_asked_is_nothing_answered() {
    let server = Server::start(Fake::with_series());
    for request in [
        "{}",
        r#"{"cluster": "beta", "for-all-nodes": []}"#,
        r#"{"cluster": "no-such-cluster", "for-all-nodes": ["cpu_load"]}"#,
        r#"{"cluster": "alpha", "queries": null, "for-all-nodes": null}"#,
        r#"{"foo": [1, {"bar": null}], "queries": []} and more behind"#,
    ] {
        assert_eq!(answer(&server, request), "{\"results\":[]}\n", "{request}");
    }
    assert_eq!(
        answer(&server, r#"{"queries": [{"metric": "cpu_load", "host": "a01"}]}"#),
        "{\"results\":[[]]}\n"
    );
}

#[test]
fn escapes_in_names_are_understood() {
    let mut fake = Fake::default();
    fake.add("al\"pha/a\u{e9}//cpu\\load", 0, 10, &[1.0]);
    let server = Server::start(fake);
    let request = r#"{"cluster": "al\"pha", "from": 0, "to": 10, "queries": [{"metric": "cpu\\load", "host": "a\u00e9"}]}"#;
    assert!(answer(&server, request).contains("\"data\":[1.000]"));
}

#[test]
fn get_and_post_with_and_without_slash_and_version_are_the_same() {
    let server = Server::start(Fake::with_series());
    let request = br#"{"cluster": "beta", "from": 1700000000, "to": 1700000060, "queries": [{"metric": "cpu_load", "host": "b01"}]}"#;
    let expected = ask(&server, "GET", "/api/query", request).body;
    for (method, path) in [
        ("POST", "/api/query"),
        ("GET", "/api/query/"),
        ("GET", "/api/query?version=v1"),
        ("POST", "/api/query/?version=v2"),
    ] {
        assert_eq!(ask(&server, method, path, request).body, expected, "{method} {path}");
    }
}

#[test]
fn a_request_that_makes_no_sense_is_refused_with_path_and_place() {
    let server = Server::start(Fake::with_series());
    for (request, named) in [
        ("", "EOF"),
        (r#"{"cluster": ""#, "cluster: EOF"),
        ("hello", "expected value"),
        ("[]", "invalid type: sequence"),
        (r#"{"queries": [[]]}"#, "queries[0]: invalid type: sequence"),
        (r#"{"from": "1"}"#, "from: invalid type: string"),
        (r#"{"from": 1.5}"#, "from: invalid type: floating point"),
        (r#"{"queries": {}}"#, "queries: invalid type: map"),
        (r#"{"queries": [{}, {"type-ids": ["0", 1]}]}"#, "queries[1].type-ids[1]: invalid type: integer"),
        (r#"{"from": 99999999999999999999}"#, "from: "),
        (r#"{"cluster": "\ud800"}"#, "cluster: "),
    ] {
        let text = ask(&server, "GET", "/api/query", request.as_bytes()).error(400);
        assert!(text.starts_with(named) && text.contains(" line "), "{request}: {text}");
    }
    let not_text = ask(&server, "GET", "/api/query", b"{\"cluster\": \"\xff\"}").error(400);
    assert!(not_text.contains("line 1"), "{not_text}");
    let deep = ask(&server, "GET", "/api/query", "[".repeat(100_000).as_bytes());
    deep.error(400);
    let deep = ask(&server, "GET", "/api/query", format!("{{\"x\": {}", "[".repeat(100_000)).as_bytes());
    deep.error(400);
}

#[test]
fn while_loading_there_is_no_partial_answer() {
    let server = Server::start(Fake { loading: true, ..Fake::with_series() });
    for request in [
        r#"{"cluster": "alpha", "queries": [{"metric": "cpu_load", "host": "a01"}]}"#,
        r#"{"cluster": "alpha", "for-all-nodes": ["cpu_load"]}"#,
    ] {
        let answer = ask(&server, "GET", "/api/query", request.as_bytes());
        assert!(answer.error(503).contains("loading"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

#[test]
fn no_range_makes_more_points_than_the_limit() {
    let setup = Setup { limits: Limits { points: 100, ..Limits::default() }, ..Setup::default() };
    let mut fake = Fake::default();
    fake.add("c/h//m", 1_000_000, 10, &[1.0; 60]);
    let server = Server::start_with(fake, setup);
    let query = r#"{"metric": "m", "host": "h"}"#;
    let ask_range = |from: i64, to: i64, queries: &str| {
        let request = format!(r#"{{"cluster": "c", "from": {from}, "to": {to}, "queries": [{queries}]}}"#);
        let answer: serde_json::Value = serde_json::from_str(&answer(&server, &request)).unwrap();
        let results = answer["results"].as_array().unwrap().clone();
        results
            .iter()
            .map(|inner| match inner[0]["error"].as_str() {
                Some(error) => Err(error.split(':').next().unwrap().to_owned()),
                None => Ok(inner[0]["data"].as_array().unwrap().len()),
            })
            .collect::<Vec<_>>()
    };
    let too_many = || Err("too many points".to_owned());
    // In sum over the queries; what is small enough behind the one that was not is still answered.
    assert_eq!(ask_range(1_000_000, 1_000_600, &[query; 2].join(",")), [Ok(60), too_many()]);
    // Padding counts, and no number is too large to be counted.
    assert_eq!(ask_range(0, 1_000_600, query), [too_many()]);
    assert_eq!(ask_range(i64::MIN, i64::MAX, query), [too_many()]);
    assert_eq!(ask_range(999_800, 1_000_600, query), [Ok(80)]);
}

/// A server, and a request whose answer is worth being compressed.
fn with_a_long_answer() -> (Server, &'static [u8]) {
    let mut fake = Fake::default();
    fake.add("c/h//m", 0, 1, &[1.5; 5000]);
    let request = br#"{"cluster": "c", "from": 0, "to": 5000, "queries": [{"metric": "m", "host": "h"}]}"#;
    (Server::start(fake), request)
}

#[test]
fn answers_are_compressed_when_asked_for() {
    let (server, request) = with_a_long_answer();
    let plain = ask(&server, "GET", "/api/query", request);
    assert_eq!((plain.header("content-encoding"), plain.body.len() > 30_000), (None, true));
    let gzip = ask_with(&server, "GET", "/api/query", &[("Accept-Encoding", "gzip")], request);
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    let mut text = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(gzip.body.as_slice()), &mut text).unwrap();
    assert_eq!(text, plain.body);
    let zstd = ask_with(&server, "GET", "/api/query", &[("Accept-Encoding", "zstd")], request);
    assert_eq!(zstd.header("content-encoding"), Some("zstd"));
    assert_eq!(zstd.body[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    let small = ask_with(&server, "GET", "/api/query", &[("Accept-Encoding", "gzip")], b"{}");
    assert_eq!((small.header("content-encoding"), small.text()), (None, "{\"results\":[]}\n"));
}

#[test]
fn whoever_refuses_answers_as_they_are_gets_one_all_the_same() {
    let (server, request) = with_a_long_answer();
    let plain = ask(&server, "GET", "/api/query", request);
    for (refusal, encoding) in [
        ("br, *;q=0", None),
        ("*;q=0", None),
        ("identity;q=0", None),
        ("IDENTITY;q=0", None),
        ("gzip;q=0, identity; Q=0.000", None),
        ("identity;q=0, zstd", Some("zstd")),
        ("*;q=0, gzip;q=0.5", Some("gzip")),
    ] {
        let answer = ask_with(&server, "GET", "/api/query", &[("Accept-Encoding", refusal)], request);
        assert_eq!((answer.status, answer.header("content-encoding")), (200, encoding), "{refusal}");
        assert_eq!(answer.body == plain.body, encoding.is_none(), "{refusal}");
    }
}

#[test]
fn a_long_answer_is_sent_in_pieces_and_says_what_short_ones_say() {
    let mut fake = Fake::default();
    for host in 0..40 {
        for metric in ["a", "b", "c"] {
            let values: Vec<f64> = (0..4000).map(|n| f64::from(host * n) / 8.0).collect();
            fake.add(&format!("c/h{host:02}//{metric}"), 0, 10, &values);
        }
    }
    let server = Server::start(fake);
    let queries: Vec<(String, &str)> =
        (0..40).flat_map(|host| ["c", "a"].map(|metric| (format!("h{host:02}"), metric))).collect();
    let asked = |(host, metric): &(String, &str)| format!(r#"{{"host":"{host}","metric":"{metric}"}}"#);
    let request = |queries: String, all: &str| {
        format!(r#"{{"cluster":"c","from":0,"to":40000,"queries":[{queries}],"for-all-nodes":[{all}]}}"#)
    };
    let result = |query: &(String, &str)| {
        let text = answer(&server, &request(asked(query), ""));
        text.strip_prefix("{\"results\":[").unwrap().strip_suffix("]}\n").unwrap().to_owned()
    };
    let of_all: Vec<(String, &str)> = (0..40).map(|host| (format!("h{host:02}"), "b")).collect();
    let echo: Vec<String> = of_all
        .iter()
        .map(|(host, metric)| {
            format!(r#"{{"metric":"{metric}","host":"{host}","resolution":0,"aggreg":false}}"#)
        })
        .collect();
    let results: Vec<String> = queries.iter().chain(&of_all).map(result).collect();
    let expected = format!("{{\"queries\":[{}],\"results\":[{}]}}\n", echo.join(","), results.join(","));
    assert!(expected.len() > 3 << 20, "{}", expected.len());
    let all: Vec<String> = queries.iter().map(asked).collect();
    let long = ask(&server, "POST", "/api/query", request(all.join(","), "\"b\"").as_bytes());
    assert_eq!((long.status, long.header("content-length")), (200, None));
    assert!(long.text() == expected, "another text than that of the short answers");
    let status = ask(&server, "GET", "/api/debug/status", b"").json();
    assert_eq!(status["http"]["held-bytes"], 0);
}
