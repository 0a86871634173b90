//! The questions that the original was asked, and its answers, or what is right where it is wrong: lines of the set
//! in order into an empty store, then a plan for each query. What only HTTP decides is not compared here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use store_core::debug::{self, Selected};
use store_core::health;
use store_core::host::Host;
use store_core::ingest::Terms;
use store_core::journal::Unlogged;
use store_core::level::Element;
use store_core::metric::{Aggregation, Catalog, Metric};
use store_core::query::{Range, Reader, Series};
use store_core::stats::Stats;
use store_core::store::{Limits, Store};

use crate::support;

/// Numbers have three decimals, and the original calculates in f64 what we keep in f32.
const VALUE_ABS: f64 = 0.0011;
/// The least, the greatest and the mean have two.
const STATS_ABS: f64 = 0.0101;
const VALUE_REL: f64 = 1e-6;

/// Long after all data of the set.
const NOW: i64 = 1_800_000_000;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(golden(name)).unwrap()
}

/// The first JSON value of a file: the original reads no further.
fn first_json(name: &str) -> Value {
    serde_json::Deserializer::from_str(&text(name)).into_iter().next().unwrap().unwrap()
}

/// The original puts a comma behind the last member of each object of its debug dump.
fn relaxed_json(name: &str) -> Value {
    let text = text(name);
    let mut strict = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if c != ',' || !text[at + 1..].trim_start().starts_with(['}', ']']) {
            strict.push(c);
        }
    }
    serde_json::from_str(&strict).unwrap()
}

fn manifest() -> Value {
    first_json("queries/MANIFEST.json")
}

/// The entries of the set with this kind of comparison.
fn entries(kind: &str) -> Vec<Value> {
    let all = manifest()["queries"].as_array().unwrap().clone();
    let of_kind: Vec<Value> = all.into_iter().filter(|entry| entry["compare"] == kind).collect();
    assert!(!of_kind.is_empty());
    of_kind
}

/// A store with the metrics of the original's config that took the lines of the set.
fn live() -> Store {
    let config = first_json("config.json");
    let metrics = config["metrics"].as_object().unwrap().iter().map(|(name, metric)| Metric {
        name: name.as_str().into(),
        frequency_s: u32::try_from(metric["frequency"].as_u64().unwrap()).unwrap().try_into().unwrap(),
        aggregation: match metric["aggregation"].as_str() {
            Some("sum") => Aggregation::Sum,
            Some("avg") => Aggregation::Avg,
            _ => Aggregation::None,
        },
        served: true,
    });
    let store = Store::new(Catalog::new(metrics), Limits::default(), None);
    let lines = first_json("lines/MANIFEST.json");
    for name in manifest()["lines"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        let query = lines[name]["query"].as_str().unwrap();
        let cluster = query.split_once("cluster=").map(|(_, cluster)| percent_decoded(cluster));
        let terms = Terms { default_cluster: cluster.as_deref(), ..support::ANY_TIME };
        let body = text(&format!("lines/{name}"));
        let report = support::send_under(&store, &body, &terms, &mut Unlogged::default());
        assert_eq!(report.bad, 0, "{name}: {:?}", report.first_bad);
    }
    store
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap().to_owned();
    for part in parts {
        decoded.push(char::from(u8::from_str_radix(&part[..2], 16).unwrap()));
        decoded.push_str(&part[2..]);
    }
    decoded
}

/// A request as the set has it, with what is left out filled in.
struct Request {
    cluster: String,
    from: i64,
    to: i64,
    with_stats: bool,
    with_data: bool,
    with_padding: bool,
    queries: Vec<Value>,
}

impl Request {
    fn read(store: &Store, entry: &Value) -> Self {
        let body = first_json(&format!("queries/{}", entry["request"].as_str().unwrap()));
        let flag = |name: &str| body[name].as_bool().unwrap_or(true);
        let cluster = body["cluster"].as_str().unwrap_or_default().to_owned();
        let mut queries = body["queries"].as_array().cloned().unwrap_or_default();
        let of_all = body["for-all-nodes"].as_array().cloned().unwrap_or_default();
        for host in store.hosts(&cluster) {
            queries.extend(of_all.iter().map(|metric| json!({ "host": host.name(), "metric": metric })));
        }
        Self {
            cluster,
            from: body["from"].as_i64().unwrap_or(0),
            to: body["to"].as_i64().unwrap_or(0),
            with_stats: flag("with-stats"),
            with_data: flag("with-data"),
            with_padding: flag("with-padding"),
            queries,
        }
    }
}

/// The selectors that a query means: one for an aggregate, else one per component.
fn selectors(query: &Value) -> Vec<Vec<Element>> {
    let Some(kind) = query["type"].as_str() else { return vec![Vec::new()] };
    let names = |kind: &str, ids: &Value| -> Vec<Box<str>> {
        let ids = ids.as_array().into_iter().flatten();
        ids.map(|id| format!("{kind}{}", id.as_str().unwrap()).into()).collect()
    };
    let components = names(kind, &query["type-ids"]);
    let subcomponents = query["subtype"].as_str().map(|kind| names(kind, &query["subtype-ids"]));
    if query["aggreg"] == true {
        let element = |names: Vec<Box<str>>| match &names[..] {
            [name] => Element::Exact(name.clone()),
            _ => Element::Group(names),
        };
        return vec![std::iter::once(components).chain(subcomponents).map(element).collect()];
    }
    let exact = |name: &str| Element::Exact(name.into());
    let below = |component: &str| match &subcomponents {
        None => vec![vec![exact(component)]],
        Some(names) => names.iter().map(|name| vec![exact(component), exact(name)]).collect(),
    };
    components.iter().flat_map(|component| below(component)).collect()
}

/// What the store says to one selector of a query: nothing, a series, or an error.
fn ask(
    store: &Store,
    request: &Request,
    query: &Value,
    selector: &[Element],
) -> Option<Result<Series, String>> {
    let name = query["metric"].as_str().unwrap_or_default();
    if request.from > request.to {
        return Some(Err("invalid time range".into()));
    }
    let Some(metric) = store.catalog().served(name) else {
        return Some(Err(format!("unknown metric: {name}")));
    };
    let host = store.host(&request.cluster, query["host"].as_str().unwrap_or_default())?;
    let mut reader = Reader::new(&host.lock());
    let resolution_s = query["resolution"].as_i64().unwrap_or(0);
    let range = Range {
        from: request.from,
        to: request.to,
        resolution_s,
        points_max: 1_000_000,
        cells_max: u64::MAX,
    };
    reader.read(selector, &metric, &range).map_err(|error| error.to_string()).transpose()
}

fn close(expected: &Value, got: f64, abs: f64) -> bool {
    match expected.as_f64() {
        None => got.is_nan(),
        Some(expected) => (expected - got).abs() <= abs.max(VALUE_REL * expected.abs().max(got.abs())),
    }
}

/// Compares one object of the inner list. `Err` says what differs.
fn compare(
    entry: &Value,
    request: &Request,
    query: &Value,
    expected: &Value,
    got: Result<Series, String>,
) -> Result<(), String> {
    let mut series = match (got, expected.get("error")) {
        (Err(_), Some(_)) => return Ok(()),
        (Err(error), None) => return Err(format!("error {error:?} not expected")),
        (Ok(_), Some(error)) => return Err(format!("error {error} expected")),
        (Ok(series), None) => series,
    };
    let loose_tail = entry["loose_tail"] == true;
    let step = series.resolution_s;
    let wanted = series.from.div_euclid(step) - request.from.div_euclid(step);
    let inside = (request.to - request.from + step - 1).div_euclid(step);
    let padding = if request.with_padding { wanted.min(inside).max(0) } else { 0 };

    let stats = Stats::of(&series.values);
    let factor = query["scale-by"].as_f64().filter(|factor| *factor != 0.0).unwrap_or(1.0);
    series.values.iter_mut().for_each(|value| *value *= factor);
    for (name, number) in [("from", series.from), ("to", series.to), ("resolution", step)] {
        if expected[name] != number && !(loose_tail && name == "to") {
            return Err(format!("{name} is {number}, {} expected", expected[name]));
        }
    }
    if request.with_stats {
        let stats = stats.scaled(factor);
        for (name, number) in [("avg", stats.avg), ("min", stats.min), ("max", stats.max)] {
            if !close(&expected[name], number, STATS_ABS) {
                return Err(format!("{name} is {number}, {} expected", expected[name]));
            }
        }
    }
    if !request.with_data {
        return Ok(());
    }
    let mut data = vec![f64::NAN; usize::try_from(padding).unwrap()];
    data.extend(&series.values);
    let mut expected = expected["data"].as_array().cloned().unwrap_or_default();
    if loose_tail {
        data.truncate(data.iter().rposition(|value| !value.is_nan()).map_or(0, |last| last + 1));
        expected.truncate(expected.iter().rposition(|value| !value.is_null()).map_or(0, |last| last + 1));
    }
    if data.len() != expected.len() {
        return Err(format!("{} values, {} expected", data.len(), expected.len()));
    }
    let differs = data.iter().zip(&expected).position(|(got, expected)| !close(expected, *got, VALUE_ABS));
    differs.map_or(Ok(()), |at| Err(format!("value {at} is {}, {} expected", data[at], expected[at])))
}

/// Compares one series with `points`; every other value must be missing.
fn compare_points(expected: &Value, got: Option<Result<Series, String>>) -> Result<(), String> {
    let series = got.ok_or("no answer")??;
    let points = expected["points"].as_array().unwrap();
    let mut points: BTreeMap<i64, &Value> =
        points.iter().map(|point| (point[0].as_i64().unwrap(), &point[1])).collect();
    for (at, value) in series.values.iter().enumerate() {
        let time = series.from + at as i64 * series.resolution_s;
        let expected = points.remove(&time).unwrap_or(&Value::Null);
        if !close(expected, *value, VALUE_ABS) {
            return Err(format!("at {time} is {value}, {expected} expected"));
        }
    }
    points.retain(|_, value| !value.is_null());
    if points.is_empty() { Ok(()) } else { Err(format!("not in the answer: {points:?}")) }
}

/// Compares the answers to one entry of the set.
fn compare_entry(store: &Store, entry: &Value) -> Result<(), String> {
    let request = Request::read(store, entry);
    let answer = entry.get("expect").unwrap_or(&entry["response"]).as_str().unwrap();
    let expected = first_json(&format!("queries/{answer}"));
    let answers = |query: &Value| -> Vec<Result<Series, String>> {
        selectors(query).iter().filter_map(|selector| ask(store, &request, query, selector)).collect()
    };
    if entry["expect_compare"] == "points" {
        return compare_points(&expected, answers(&request.queries[0]).pop());
    }
    let results = expected["results"].as_array().unwrap();
    let echoed = expected["queries"].as_array().map_or(0, Vec::len);
    let plain = results.len() - echoed;
    if results.len() != request.queries.len() {
        return Err(format!("{} queries, {} expected", request.queries.len(), results.len()));
    }
    for (at, query) in request.queries.iter().enumerate() {
        // The original's order of hosts is that of a hash table.
        let place = if at < plain {
            at
        } else {
            let same = |other: &Value| other["host"] == query["host"] && other["metric"] == query["metric"];
            let echoed = expected["queries"].as_array().unwrap();
            plain + echoed.iter().position(same).ok_or(format!("no answer for {query} expected"))?
        };
        let (expected, got) = (results[place].as_array().unwrap(), answers(query));
        if got.len() != expected.len() {
            return Err(format!("query {at}: {} inner results, {} expected", got.len(), expected.len()));
        }
        for (expected, got) in expected.iter().zip(got) {
            compare(entry, &request, query, expected, got).map_err(|what| format!("query {at}: {what}"))?;
        }
    }
    Ok(())
}

#[test]
fn every_query_of_the_golden_set_has_the_answer_of_the_original_or_a_better_one() {
    let store = live();
    let mut compared = 0;
    let wrong: Vec<String> = entries("query")
        .iter()
        .filter_map(|entry| {
            compared += 1;
            let what = compare_entry(&store, entry).err()?;
            Some(format!("{} {}: {what}", entry["id"], entry["name"]))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(compared, 151);
}

#[test]
fn the_golden_set_is_answered_alike_when_everything_is_sealed() {
    let store = live();
    for cluster in store.clusters() {
        for host in store.hosts(&cluster) {
            let mut state = host.lock();
            let shape = std::sync::Arc::clone(state.shape());
            for buffer in state.buffers_mut() {
                buffer.freeze(&shape);
                buffer.seal_frozen(&shape);
            }
        }
    }
    for entry in entries("query") {
        assert_eq!(compare_entry(&store, &entry), Ok(()), "{} {}", entry["id"], entry["name"]);
    }
}

fn dump_of(store: &Store, host: &Host, path: &[Box<str>]) -> Value {
    let state = host.lock();
    let level = state.shape().root().descend(path.iter().map(|name| &**name)).unwrap();
    let mut out = Vec::new();
    if !debug::push_level(&mut out, store.catalog(), &state, level) {
        return json!({});
    }
    serde_json::from_slice(&out).unwrap()
}

fn dump_of_cluster(store: &Store, cluster: &str) -> Value {
    let hosts = store.hosts(cluster);
    hosts.iter().map(|host| (host.name().to_owned(), dump_of(store, host, &[]))).collect::<Map<_, _>>().into()
}

fn dump(store: &Store, selector: &str) -> Option<Value> {
    Some(match debug::select(store, selector)? {
        Selected::All => {
            let clusters = store.clusters();
            let dumps = clusters.iter().map(|cluster| (cluster.to_string(), dump_of_cluster(store, cluster)));
            dumps.collect::<Map<_, _>>().into()
        }
        Selected::Cluster(cluster) => dump_of_cluster(store, &cluster),
        Selected::Host(host, path) => dump_of(store, &host, &path),
    })
}

/// The same levels and metrics, the same start of the first and end of the last piece of each series.
fn compare_dumps(expected: &Value, got: &Value, place: &str) {
    let members = |value: &Value| {
        let object = value.as_object().unwrap();
        let filled = object.iter().filter(|(_, member)| **member != json!({}));
        filled.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let (mut names, mut got_names) = (members(expected), members(got));
    names.sort_unstable();
    got_names.sort_unstable();
    assert_eq!(got_names, names, "{place}");
    for name in names {
        let (expected, got) = (&expected[&name], &got[&name]);
        let place = format!("{place}:{name}");
        let (Some(expected_pieces), Some(pieces)) = (expected.as_array(), got.as_array()) else {
            compare_dumps(expected, got, &place);
            continue;
        };
        assert_eq!(pieces[0]["start"], expected_pieces[0]["start"], "{place}");
        assert_eq!(pieces.last().unwrap()["end"], expected_pieces.last().unwrap()["end"], "{place}");
        assert!(pieces.iter().all(|piece| piece["len"].as_u64() > Some(0)), "{place}");
    }
}

fn selector(entry: &Value) -> String {
    let path = entry["path"].as_str().unwrap();
    path.split_once("selector=").map(|(_, selector)| percent_decoded(selector)).unwrap_or_default()
}

#[test]
fn the_debug_dump_has_the_levels_and_ranges_of_the_original() {
    let store = live();
    for entry in entries("debug") {
        let answer = entry.get("expect").unwrap_or(&entry["response"]).as_str().unwrap();
        let expected = relaxed_json(&format!("queries/{answer}"));
        let dump = dump(&store, &selector(&entry)).unwrap();
        compare_dumps(&expected["data"], &dump, entry["name"].as_str().unwrap());
    }
    for entry in entries("error") {
        assert_eq!(dump(&store, &selector(&entry)), None, "{}", entry["name"]);
    }
}

#[test]
fn the_health_of_the_golden_hosts_is_that_of_the_original() {
    let store = live();
    let list = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    for entry in entries("health") {
        let request = first_json(&format!("queries/{}", entry["request"].as_str().unwrap()));
        let expected = first_json(&format!("queries/{}", entry["response"].as_str().unwrap()));
        let nodes = list(&request["nodes"]);
        assert_eq!(expected.as_object().unwrap().len(), nodes.len(), "{}", entry["name"]);
        for node in nodes {
            let expected = &expected[&node];
            let Some(host) = store.host(request["cluster"].as_str().unwrap_or_default(), &node) else {
                assert_eq!(expected["HealthMetrics"], "", "{}: {node}", entry["name"]);
                continue;
            };
            let mut health =
                health::of_host(&host.lock(), store.catalog(), &list(&request["metric-names"]), NOW);
            assert_eq!(expected["State"], health.state.as_str(), "{}: {node}", entry["name"]);
            let metrics: Value = serde_json::from_str(expected["HealthMetrics"].as_str().unwrap()).unwrap();
            for (name, found) in [("degraded", &mut health.degraded), ("missing", &mut health.missing)] {
                let mut expected = list(&metrics[name]);
                expected.sort_unstable();
                found.sort_unstable();
                assert_eq!(found, &expected, "{}: {node}: {name}", entry["name"]);
            }
        }
    }
}
