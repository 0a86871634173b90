//! The golden set: what the original was sent, what lay in its directories, and how it answered.
//!
//! Each state runs on an engine of its own, on a simulated disk, behind the real HTTP routes. Where a state holds
//! data it is then stopped and started on what it left, twice: the answers must be the same bytes.
//!
//! `GOLDEN_SET` in the environment names another set of the same kind.

mod compare;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use serde_json::Value;
use store_disk::{ManualClock, SimDisk};
use store_server::config;
use store_server::engine::{Engine, FileFormat};

use compare::{Rules, compare, error_body};
use server::Server;

/// The time at which the set is run: years behind its data.
const NOW: i64 = 1_795_000_000;

const DIRECTORY: &str = "/golden/checkpoints";

fn set() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::env::var_os("GOLDEN_SET").map_or(own, PathBuf::from)
}

fn read(path: &str) -> Vec<u8> {
    let path = set().join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn manifest(path: &str) -> Value {
    serde_json::from_slice(&read(path)).unwrap()
}

/// Lays the files below a directory of the set into the directory of the checkpoints.
fn lay(disk: &SimDisk, from: &Path, to: &Path) {
    disk.put_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            lay(disk, &path, &to);
        } else {
            disk.put(to, std::fs::read(path).unwrap()).unwrap();
        }
    }
}

/// What was held against the set.
#[derive(Debug, Default)]
struct Tally {
    compared: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn note(&mut self, what: &str, found: Result<(), String>) {
        self.compared += 1;
        if let Err(why) = found {
            self.wrong.push(format!("{what}: {why}"));
        }
    }

    fn end(self) {
        assert!(
            self.wrong.is_empty(),
            "{} of {}:\n{}",
            self.wrong.len(),
            self.compared,
            self.wrong.join("\n")
        );
        assert!(self.compared > 0, "nothing was compared");
    }
}

/// A disk and a clock, and the engine that runs on them.
struct Running {
    engine: Arc<Engine>,
    server: Server,
}

fn start(disk: &SimDisk, format: &str, key: Option<[u8; 32]>) -> Running {
    let text = String::from_utf8(read("config.json")).unwrap().replace("PORT", "0");
    let config = config::parse(text.as_bytes(), Path::new("config.json")).unwrap();
    let mut options = config.engine_options();
    options.directory = DIRECTORY.into();
    options.format = if format == "json" { FileFormat::Json } else { FileFormat::Wal };
    let clock = Arc::new(ManualClock::at(NOW));
    let engine =
        Engine::open_with(options, Arc::new(disk.clone()), Arc::<ManualClock>::clone(&clock)).unwrap();
    engine.load_all();
    let engine = Arc::new(engine);
    Running { server: Server::start(Arc::clone(&engine), key, clock), engine }
}

impl Running {
    fn stop(self) {
        drop(self.server);
        assert_eq!(self.engine.stop().problems, Vec::<String>::new());
    }

    fn send_lines(&self, names: &Value, tally: &mut Tally) {
        let files = manifest("lines/MANIFEST.json");
        for name in names.as_array().into_iter().flatten().filter_map(Value::as_str) {
            let entry = &files["files"][name];
            let path = format!("/api/write{}", entry["query"].as_str().unwrap());
            let (status, body) = self.server.ask("POST", &path, &[], &read(&format!("lines/{name}")));
            let wanted = entry.get("expect_status").unwrap_or(&entry["status"]);
            let mut found = expect_status(wanted, status, &body);
            if found.is_ok() && status == 400 {
                found = error_body(&body);
            }
            tally.note(name, found);
        }
    }

    /// Asks one request of the set. Returns the body, and whether it is as it should be.
    fn ask(&self, query: &Value) -> (Vec<u8>, Result<(), String>) {
        let deviates = query.get("deviates").is_some();
        let text = |key: &str| query[key].as_str();
        let pick = |ours: &'static str, theirs: &'static str| match query.get(ours) {
            Some(value) if deviates => Some(value),
            _ => query.get(theirs),
        };
        let body = text("request").map(|name| read(&format!("queries/{name}"))).unwrap_or_default();
        let headers: Vec<(String, String)> = query["headers"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        let (status, got) = self.server.ask(text("method").unwrap(), text("path").unwrap(), &headers, &body);
        let mut rules = Rules {
            unordered: query["unordered"].as_bool().unwrap_or(false),
            loose_tail: pick("expect_loose_tail", "loose_tail").and_then(Value::as_bool).unwrap_or(false),
            keep_from: query["keep_from"].as_i64().unwrap_or(0),
            request: serde_json::from_slice(&body).unwrap_or(Value::Null),
            ..Rules::default()
        };
        rules.tolerate(&query["tolerance"]);
        if deviates {
            rules.tolerate(&query["expect_tolerance"]);
        }
        let wanted = pick("expect_status", "status").unwrap();
        let mut found = expect_status(wanted, status, &got);
        let as_theirs = query["status"].as_u64() == Some(u64::from(status));
        if found.is_ok() && (as_theirs || ![401, 403, 405].contains(&status)) {
            let kind = pick("expect_compare", "compare").and_then(Value::as_str).unwrap();
            let expected = pick("expect", "response").and_then(Value::as_str);
            let expected = expected.map(|name| read(&format!("queries/{name}"))).unwrap_or_default();
            found = compare(kind, &expected, &got, &rules);
        }
        (got, found)
    }
}

fn expect_status(wanted: &Value, status: u16, body: &[u8]) -> Result<(), String> {
    let is = |value: &Value| value.as_u64() == Some(u64::from(status));
    if is(wanted) || wanted.as_array().is_some_and(|several| several.iter().any(is)) {
        return Ok(());
    }
    Err(format!("status {wanted} expected, got {status} {}", String::from_utf8_lossy(body)))
}

/// Runs a state of the set, and if `restarts` twice more on what it leaves. The requests asked again must be
/// answered by the same bytes.
fn run(name: &str, restarts: bool) {
    let all = manifest("queries/MANIFEST.json");
    let state = &all["states"][name];
    let queries: Vec<&Value> =
        all["queries"].as_array().unwrap().iter().filter(|query| query["state"] == name).collect();
    let (disk, mut tally) = (SimDisk::new(), Tally::default());
    if let Some(directory) = state["checkpoints"].as_str() {
        lay(&disk, &set().join(directory), Path::new(DIRECTORY));
    }
    let key = state["jwt_public_key"]
        .as_str()
        .map(|key| base64::engine::general_purpose::STANDARD.decode(key).unwrap().try_into().unwrap());
    let format = state["file_format"].as_str().unwrap();
    let running = start(&disk, format, key);
    running.send_lines(&state["lines"], &mut tally);
    let mut answers = BTreeMap::new();
    for query in &queries {
        let what = format!("{} {}", query["id"], query["name"]);
        let (body, found) = running.ask(query);
        // What the original did is no measure where it deviates and nothing says what is right.
        if query.get("deviates").is_none()
            || query.get("expect").is_some()
            || query.get("expect_status").is_some()
        {
            tally.note(&what, found);
        }
        if ["query", "points", "health"].contains(&query["compare"].as_str().unwrap()) {
            answers.insert(what, (*query, body));
        }
    }
    running.stop();
    for round in if restarts { 1..3 } else { 0..0 } {
        let running = start(&disk, format, key);
        for (what, (query, before)) in &answers {
            let (after, _) = running.ask(query);
            let same = if after == *before { Ok(()) } else { Err(differ(before, &after)) };
            tally.note(&format!("restart {round}: {what}"), same);
        }
        running.stop();
    }
    tally.end();
}

fn differ(before: &[u8], after: &[u8]) -> String {
    let at = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let cut = |text: &[u8]| {
        String::from_utf8_lossy(&text[at.saturating_sub(20)..text.len().min(at + 60)]).into_owned()
    };
    format!("not the same bytes as before: {} became {}", cut(before), cut(after))
}

#[test]
fn live_lines_are_answered_as_by_the_original_and_so_after_restarts() {
    run("live", true);
}

#[test]
fn malformed_bodies_cost_only_their_malformed_lines() {
    run("bad", true);
}

#[test]
fn timestamps_are_taken_in_any_unit() {
    run("units", true);
}

#[test]
fn json_checkpoints_are_loaded() {
    run("checkpoints-json", true);
}

#[test]
fn binary_checkpoints_are_loaded() {
    run("checkpoints-bin", true);
}

#[test]
fn logs_of_a_killed_original_are_loaded() {
    run("checkpoints-wal", true);
}

#[test]
fn binary_checkpoints_with_logs_behind_them_are_loaded() {
    run("checkpoints-bin-wal", true);
}

#[test]
fn checkpoints_of_several_runs_that_overlap_are_merged() {
    run("checkpoints-multi", true);
}

#[test]
fn what_is_freed_is_gone_and_nothing_else() {
    // The requests free more and more: earlier answers do not hold at the end.
    run("free", false);
}

#[test]
fn tokens_are_judged_as_by_the_original_or_more_strictly() {
    run("jwt", false);
}

#[test]
fn the_health_of_hosts_depends_on_the_clock() {
    let recipe = manifest("queries/healthcheck-now.json");
    let mut tally = Tally::default();
    let running = start(&SimDisk::new(), "wal", None);
    let mut body = String::new();
    for line in recipe["lines"].as_array().unwrap() {
        let (text, offset) = (line[0].as_str().unwrap(), line[1].as_i64().unwrap());
        body += &text.replace(&format!("{{now{offset:+}}}"), &(NOW + offset).to_string());
        body.push('\n');
    }
    assert!(!body.contains("{now"), "an offset was not replaced");
    let path = format!("/api/write{}", recipe["query"].as_str().unwrap());
    let (status, _) = running.server.ask("POST", &path, &[], body.as_bytes());
    assert_eq!(status, 200);
    for check in recipe["checks"].as_array().unwrap() {
        let request = serde_json::to_vec(&check["request"]).unwrap();
        let (status, got) = running.server.ask("GET", "/api/healthcheck", &[], &request);
        assert_eq!(status, 200);
        let expected = serde_json::to_vec(check.get("expect").unwrap_or(&check["response"])).unwrap();
        tally.note(&check["name"].to_string(), compare("health", &expected, &got, &Rules::default()));
    }
    tally.end();
}

#[test]
fn damaged_directories_start_serve_what_is_undamaged_and_lose_no_byte() {
    let cases = manifest("damaged/MANIFEST.json");
    let mut tally = Tally::default();
    for (name, case) in cases["cases"].as_object().unwrap() {
        let disk = SimDisk::new();
        lay(&disk, &set().join("damaged").join(name), Path::new(DIRECTORY));
        for dir in case["empty_dirs"].as_array().into_iter().flatten() {
            disk.put_dir(Path::new(DIRECTORY).join(dir.as_str().unwrap())).unwrap();
        }
        let damaged = case["what"].as_str().unwrap().split(' ').next().unwrap();
        let loses = case["lost"].as_array().is_some_and(|lost| !lost.is_empty());
        let damaged: Vec<Vec<u8>> = disk
            .files()
            .into_iter()
            .filter(|(path, content)| loses && path.ends_with(damaged) && !content.is_empty())
            .map(|(_, content)| content)
            .collect();
        // Twice: what the first start set aside must not trouble the second.
        for round in 1..3 {
            let running = start(&disk, case["file_format"].as_str().unwrap_or("wal"), None);
            for query in case["queries"].as_array().unwrap() {
                let mut rules = Rules { loose_tail: true, ..Rules::default() };
                rules.tolerate(&query["tolerance"]);
                let request = serde_json::to_vec(&query["request"]).unwrap();
                let (status, got) = running.server.ask("GET", "/api/query", &[], &request);
                let expected = serde_json::to_vec(&query["response"]).unwrap();
                let found = expect_status(&Value::from(200), status, &got)
                    .and_then(|()| compare("query", &expected, &got, &rules));
                tally.note(&format!("{name}, start {round}: {}", query["name"]), found);
            }
            running.stop();
        }
        let left = disk.files();
        let kept = damaged.iter().all(|bytes| left.values().any(|content| content == bytes));
        tally.note(name, if kept { Ok(()) } else { Err("its bytes are gone".to_owned()) });
    }
    tally.end();
}

#[test]
fn every_state_of_the_set_is_run() {
    let all = manifest("queries/MANIFEST.json");
    let mut states: Vec<&String> = all["states"].as_object().unwrap().keys().collect();
    states.sort();
    let run = [
        "bad",
        "checkpoints-bin",
        "checkpoints-bin-wal",
        "checkpoints-json",
        "checkpoints-multi",
        "checkpoints-wal",
        "free",
        "jwt",
        "live",
        "now",
        "units",
    ];
    assert_eq!(states, run);
}
