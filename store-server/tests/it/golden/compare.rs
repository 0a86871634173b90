//! When two answers are the same: numbers nearly, everything else exactly.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Steps of rounding of `avg`, `min` and `max`, which have two decimals.
const STATS_ABS: f64 = 0.0101;

/// How an answer is compared.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) abs: f64,
    pub(super) rel: f64,
    /// The order of hosts is anybody's.
    pub(super) unordered: bool,
    /// Nulls at the end of `data`, and `to`, do not count.
    pub(super) loose_tail: bool,
    /// Of a `kept` answer, from here on everything counts.
    pub(super) keep_from: i64,
    /// The request of a `kept` answer.
    pub(super) request: Value,
}

impl Default for Rules {
    fn default() -> Self {
        let request = Value::Null;
        Self { abs: 0.0011, rel: 1e-6, unordered: false, loose_tail: false, keep_from: 0, request }
    }
}

impl Rules {
    /// Takes over the tolerances that an entry of the manifest names.
    pub(super) fn tolerate(&mut self, tolerance: &Value) {
        self.abs = tolerance["abs"].as_f64().unwrap_or(self.abs);
        self.rel = tolerance["rel"].as_f64().unwrap_or(self.rel);
    }

    fn close(&self, a: f64, b: f64) -> bool {
        (a - b).abs() <= self.abs.max(self.rel * a.abs().max(b.abs()))
    }

    fn value(&self, expected: &Value, got: &Value, place: &str) -> Result<(), String> {
        let same = match (expected.as_f64(), got.as_f64()) {
            (Some(a), Some(b)) => self.close(a, b),
            _ => expected.is_null() && got.is_null(),
        };
        if same { Ok(()) } else { Err(format!("{place}: {expected} expected, got {got}")) }
    }
}

/// Compares an answer in the way that `kind` names.
pub(super) fn compare(kind: &str, expected: &[u8], got: &[u8], rules: &Rules) -> Result<(), String> {
    let text = String::from_utf8_lossy(got);
    match kind {
        "status" => return Ok(()),
        "error" => return error_body(got),
        "freed" => {
            let count = |body: &[u8]| -> Option<u64> {
                std::str::from_utf8(body).ok()?.trim().strip_prefix("buffers freed: ")?.parse().ok()
            };
            // How a store cuts its buffers is its own affair; whether something went is not.
            return match (count(expected), count(got)) {
                (Some(a), Some(b)) if (a > 0) == (b > 0) => Ok(()),
                other => Err(format!("{other:?}: {text}")),
            };
        }
        _ => {}
    }
    let expected = relaxed(expected)?;
    let got: Value = serde_json::from_slice(got).map_err(|e| format!("no JSON ({e}): {text}"))?;
    match kind {
        "query" => query(&expected, &got, rules),
        "points" => points(&expected, &got, rules),
        "kept" => kept(&expected, &got, rules),
        "debug" => debug(object(&expected["data"])?, object(&got["data"])?, "data"),
        "health" => health(&expected, &got),
        other => Err(format!("unknown kind of comparison {other}")),
    }
}

/// Whether a body is an error like every other.
pub(super) fn error_body(body: &[u8]) -> Result<(), String> {
    let told = || format!("no error body: {}", String::from_utf8_lossy(body));
    let value: Value = serde_json::from_slice(body).map_err(|_| told())?;
    if value["status"].is_string() && value["error"].is_string() { Ok(()) } else { Err(told()) }
}

/// JSON in which the last member of an object may have a comma behind it, as in the dump of the original.
fn relaxed(text: &[u8]) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_slice(text) {
        return Ok(value);
    }
    let mut strict = Vec::with_capacity(text.len());
    for (at, &byte) in text.iter().enumerate() {
        let next = text[at + 1..].iter().find(|next| !next.is_ascii_whitespace());
        if byte != b',' || !matches!(next, Some(b'}' | b']')) {
            strict.push(byte);
        }
    }
    serde_json::from_slice(&strict).map_err(|e| format!("the expected answer is no JSON: {e}"))
}

fn object(value: &Value) -> Result<&Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("an object expected, got {value}"))
}

fn list<'v>(value: &'v Value, what: &str) -> Result<&'v Vec<Value>, String> {
    value.as_array().ok_or_else(|| format!("{what}: a list expected, got {value}"))
}

fn without_tail(data: &[Value]) -> &[Value] {
    let end = data.iter().rposition(|value| !value.is_null()).map_or(0, |last| last + 1);
    &data[..end]
}

/// One selection of one query.
fn inner(expected: &Value, got: &Value, rules: &Rules, place: &str) -> Result<(), String> {
    let members = object(got)?;
    if expected.get("error").is_some() {
        let is_error = got["error"].as_str().is_some_and(|text| !text.is_empty());
        return if is_error && !members.contains_key("data") {
            Ok(())
        } else {
            Err(format!("{place}: an error expected ({}), got {got}", expected["error"]))
        };
    }
    if members.contains_key("error") {
        return Err(format!("{place}: error not expected: {got}"));
    }
    let none = Vec::new();
    let (mut a, mut b) = (
        expected["data"].as_array().unwrap_or(&none).as_slice(),
        got["data"].as_array().unwrap_or(&none).as_slice(),
    );
    if rules.loose_tail {
        (a, b) = (without_tail(a), without_tail(b));
    } else if expected.get("data").is_some() != got.get("data").is_some() {
        return Err(format!("{place}: data is there or not: {got}"));
    }
    let exact: &[&str] =
        if rules.loose_tail { &["from", "resolution"] } else { &["from", "to", "resolution"] };
    for key in exact {
        if expected[key] != got[key] {
            return Err(format!("{place}.{key}: {} expected, got {}", expected[key], got[key]));
        }
    }
    let keys = ["avg", "data", "from", "max", "min", "resolution", "to"];
    let unknown = members.keys().any(|key| !keys.contains(&key.as_str()));
    if unknown || keys.iter().any(|key| *key != "data" && !members.contains_key(*key)) {
        return Err(format!("{place}: other members expected: {:?}", members.keys().collect::<Vec<_>>()));
    }
    if a.len() != b.len() {
        return Err(format!("{place}.data: {} values expected, got {}", a.len(), b.len()));
    }
    for (at, (a, b)) in a.iter().zip(b).enumerate() {
        rules.value(a, b, &format!("{place}.data[{at}]"))?;
    }
    let stats = Rules { abs: rules.abs.max(STATS_ABS), ..rules.clone() };
    ["avg", "min", "max"]
        .iter()
        .try_for_each(|key| stats.value(&expected[key], &got[key], &format!("{place}.{key}")))
}

fn query(expected: &Value, got: &Value, rules: &Rules) -> Result<(), String> {
    let (a, b) = (list(&expected["results"], "results")?, list(&got["results"], "results")?);
    let none = Vec::new();
    let echoed = |value: &Value| value["queries"].as_array().unwrap_or(&none).clone();
    let (asked, echo) = (echoed(expected), echoed(got));
    if a.len() != b.len() || asked.len() != echo.len() {
        return Err(format!(
            "{} results and {} queries expected, got {} and {}",
            a.len(),
            asked.len(),
            b.len(),
            echo.len()
        ));
    }
    if expected.get("queries").is_some() != got.get("queries").is_some() {
        return Err("`queries` is there or not".to_owned());
    }
    for query in &echo {
        if ["metric", "host", "resolution", "aggreg"].iter().any(|key| query.get(key).is_none()) {
            return Err(format!("an echoed query lacks members: {query}"));
        }
    }
    let first = a.len() - asked.len();
    let order = |queries: &[Value]| {
        let key = |value: &Value| (value["host"].to_string(), value["metric"].to_string());
        let mut order: Vec<_> = queries.iter().map(key).zip(first..).collect();
        if rules.unordered {
            order.sort();
        }
        order
    };
    let mut pairs: Vec<(String, usize, usize)> =
        (0..first).map(|at| (format!("results[{at}]"), at, at)).collect();
    for ((of_a, at_a), (of_b, at_b)) in order(&asked).into_iter().zip(order(&echo)) {
        if of_a != of_b {
            return Err(format!("echoed query {of_a:?} expected, got {of_b:?}"));
        }
        pairs.push((format!("results{of_a:?}"), at_a, at_b));
    }
    for (place, at_a, at_b) in pairs {
        let (a, b) = (list(&a[at_a], &place)?, list(&b[at_b], &place)?);
        if a.len() != b.len() {
            return Err(format!("{place}: {} selections expected, got {}", a.len(), b.len()));
        }
        for (at, (a, b)) in a.iter().zip(b).enumerate() {
            inner(a, b, rules, &format!("{place}[{at}]"))?;
        }
    }
    Ok(())
}

/// `{"points": [[time, value], …]}`: every other slot of the one answer must be null.
fn points(expected: &Value, got: &Value, rules: &Rules) -> Result<(), String> {
    let result = &got["results"][0][0];
    let (from, step) = (result["from"].as_i64(), result["resolution"].as_i64());
    let (Some(from), Some(step)) = (from, step) else {
        return Err(format!("one result expected, got {got}"));
    };
    let pairs = list(&expected["points"], "points")?.iter();
    let mut wanted: BTreeMap<i64, &Value> =
        pairs.map(|pair| (pair[0].as_i64().unwrap_or_default(), &pair[1])).collect();
    let none = Vec::new();
    for (at, value) in (0..).zip(result["data"].as_array().unwrap_or(&none)) {
        let time = from + at * step;
        rules.value(wanted.remove(&time).unwrap_or(&Value::Null), value, &format!("time {time}"))?;
    }
    wanted.retain(|_, value| !value.is_null());
    if wanted.is_empty() { Ok(()) } else { Err(format!("times not in the answer: {:?}", wanted.keys())) }
}

/// After a free up to `keep_from`: from there on everything is as before, what is older may be there or not.
fn kept(expected: &Value, got: &Value, rules: &Rules) -> Result<(), String> {
    let padded = rules.request["with-padding"].as_bool().unwrap_or(true);
    let asked_from = rules.request["from"].as_i64().unwrap_or(0);
    let values = |result: &Value| -> BTreeMap<i64, f64> {
        let (step, first) =
            (result["resolution"].as_i64().unwrap_or(1), result["from"].as_i64().unwrap_or(0));
        let padding = if padded { (first.div_euclid(step) - asked_from.div_euclid(step)).max(0) } else { 0 };
        let data = result["data"].as_array().into_iter().flatten();
        let timed = (0..).zip(data).map(|(at, value)| (first + (at - padding) * step, value));
        timed
            .filter(|(time, _)| *time >= rules.keep_from)
            .filter_map(|(time, value)| Some((time, value.as_f64()?)))
            .collect()
    };
    let (a, b) = (list(&expected["results"], "results")?, list(&got["results"], "results")?);
    let lengths =
        |results: &[Value]| results.iter().map(|of| of.as_array().map(Vec::len)).collect::<Vec<_>>();
    if lengths(a) != lengths(b) {
        return Err("another number of results".to_owned());
    }
    let inners = |results: &'_ [Value]| {
        results.iter().flat_map(|of| of.as_array().cloned().unwrap_or_default()).collect::<Vec<_>>()
    };
    for (at, (a, b)) in inners(a).iter().zip(&inners(b)).enumerate() {
        let (a, b) = (values(a), values(b));
        if !a.keys().eq(b.keys()) || b.iter().any(|(time, value)| !rules.close(a[time], *value)) {
            return Err(format!(
                "result {at}: {} values from {} on expected, got {}",
                a.len(),
                rules.keep_from,
                b.len()
            ));
        }
    }
    Ok(())
}

/// The same levels and metrics, and the same begin and end of each chain; not how it is cut.
fn debug(expected: &Map<String, Value>, got: &Map<String, Value>, place: &str) -> Result<(), String> {
    fn is_empty(level: &Map<String, Value>) -> bool {
        level.values().all(|member| member.as_object().is_some_and(is_empty))
    }
    let keys = |level: &Map<String, Value>, lists: bool| -> Vec<String> {
        let mut keys: Vec<String> = level
            .iter()
            .filter(|(_, member)| {
                if lists {
                    member.is_array()
                } else {
                    member.as_object().is_some_and(|level| !is_empty(level))
                }
            })
            .map(|(key, _)| key.clone())
            .collect();
        keys.sort();
        keys
    };
    for lists in [true, false] {
        let (a, b) = (keys(expected, lists), keys(got, lists));
        if a != b {
            return Err(format!("{place}: {a:?} expected, got {b:?}"));
        }
    }
    for metric in keys(expected, true) {
        let (a, b) = (list(&expected[&metric], place)?, list(&got[&metric], place)?);
        let ends = |chain: &[Value]| Some((chain.first()?["start"].clone(), chain.last()?["end"].clone()));
        if ends(a) != ends(b)
            || b.iter().any(|piece| ["start", "len", "end"].iter().any(|key| piece.get(key).is_none()))
        {
            return Err(format!("{place}.{metric}: {a:?} expected, got {b:?}"));
        }
    }
    keys(expected, false)
        .iter()
        .try_for_each(|key| debug(object(&expected[key])?, object(&got[key])?, &format!("{place}:{key}")))
}

fn health(expected: &Value, got: &Value) -> Result<(), String> {
    // Lists of metrics are sets, and stand as text in a string.
    let sets = |text: &Value| -> Result<BTreeMap<String, Vec<String>>, String> {
        let text = text.as_str().ok_or("HealthMetrics is no string")?;
        let mut sets: BTreeMap<String, Vec<String>> = match text {
            "" => BTreeMap::new(),
            text => serde_json::from_str(text).map_err(|e| format!("{e}: {text}"))?,
        };
        sets.values_mut().for_each(|set| set.sort());
        Ok(sets)
    };
    let (a, b) = (object(expected)?, object(got)?);
    if a.keys().ne(b.keys()) {
        return Err(format!("hosts {:?} expected, got {:?}", a.keys(), b.keys()));
    }
    for (host, a) in a {
        let b = &b[host];
        let members = b.as_object().map_or(0, Map::len);
        if a["State"] != b["State"]
            || sets(&a["HealthMetrics"])? != sets(&b["HealthMetrics"])?
            || members != 2
        {
            return Err(format!("{host}: {a} expected, got {b}"));
        }
    }
    Ok(())
}
