//! The messages that the original was fed with, line by line: the good ones name what a naive reader finds in them, the
//! malformed ones cost their own line and no other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use store_core::line::{self, Fate, Malformed, NAME_BYTES_MAX, Refusal, Skip};

/// The metrics of the original's configuration; all others are unknown.
const CATALOG: [&str; 14] = [
    "acc_power",
    "acc_utilization",
    "core_temp",
    "cpu_load",
    "cpu_user",
    "disk_free",
    "fan_speed",
    "flops_any",
    "mem_bw",
    "net_bw",
    "never_sent",
    "pages_1hz",
    "power_1hz",
    "temp_1hz",
];

/// A sample: metric, cluster, host, levels, value, seconds.
type Sample = (String, String, String, Vec<String>, f32, Option<i64>);

/// A file of the manifest.
struct File {
    name: String,
    body: Vec<u8>,
    /// The cluster in the query string.
    cluster: Option<String>,
    lines: usize,
    bad_line: Option<usize>,
    statuses: Vec<u64>,
}

fn files() -> Vec<File> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/lines");
    let text = std::fs::read_to_string(directory.join("MANIFEST.json")).unwrap();
    let manifest: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let number = |value: &serde_json::Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let file = |(name, entry): (String, serde_json::Value)| File {
        body: std::fs::read(directory.join(&name)).unwrap(),
        cluster: entry["query"].as_str().unwrap().split_once("cluster=").map(|(_, c)| c.replace("%20", " ")),
        lines: number(&entry["lines"]),
        bad_line: entry.get("bad_line").map(number),
        statuses: entry["status"].as_array().unwrap().iter().map(|status| status.as_u64().unwrap()).collect(),
        name,
    };
    manifest.into_iter().map(file).collect()
}

/// What a store makes of a line: the order that [`line`] asks for.
fn take(line: &[u8], default_cluster: Option<&str>) -> Result<Sample, Fate> {
    let (prefix, rest) = line::split_prefix(line);
    if !CATALOG.contains(&&*line::metric_of(prefix)?) {
        return Err(Fate::Skip(Skip::UnknownMetric));
    }
    let named = line::parse_prefix(prefix)?;
    let (value, time) = line::parse_rest(rest).map_err(|fate| fate.shifted(prefix.len()))?;
    let mut scratch = String::new();
    let place = named.place(default_cluster, NAME_BYTES_MAX, &mut scratch)?;
    let path = place.path.iter().map(|&name| name.to_owned()).collect();
    Ok((place.metric.to_owned(), place.cluster.to_owned(), place.host.to_owned(), path, value, time))
}

/// The same by splitting text, for lines without escapes and trifles.
fn take_naively(line: &str, default_cluster: Option<&str>) -> Option<Sample> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (metric, tags) = words[0].split_once(',').unwrap_or((words[0], ""));
    let tags: BTreeMap<&str, &str> = tags.split(',').filter_map(|tag| tag.split_once('=')).collect();
    let join = |kind, id| format!("{}{}", tags.get(kind).unwrap_or(&""), tags.get(id).unwrap_or(&""));
    let mut path = vec![join("type", "type-id"), join("stype", "stype-id")];
    path.retain(|name| !name.is_empty());
    if tags.get("type").is_none_or(|kind| *kind == "node") {
        path.clear();
    }
    let number = words[1].strip_prefix("value=")?;
    let value: f64 = match number.strip_suffix(['i', 'u']) {
        Some(integer) => integer.parse::<i128>().ok()? as f64,
        None => number.parse().ok()?,
    };
    let cluster = tags.get("cluster").copied().or(default_cluster)?;
    let time = words.get(2).map(|time| match time.len() {
        10 => time.parse::<i64>().unwrap(),
        length => time.parse::<i64>().unwrap() / 10_i64.pow(u32::try_from(length).unwrap() - 10),
    });
    CATALOG.contains(&metric).then_some(())?;
    Some((
        metric.to_owned(),
        cluster.to_owned(),
        (*tags.get("hostname").or(tags.get("host"))?).to_owned(),
        path,
        value as f32,
        time,
    ))
}

#[test]
fn every_good_line_of_the_golden_set_names_what_a_naive_reader_finds() {
    let mut compared = 0;
    for file in files().iter().filter(|file| !file.name.starts_with("bad") && !file.name.contains("escapes"))
    {
        let cluster = file.cluster.as_deref();
        let mut all = file.body.split(|byte| *byte == b'\n').map(|line| std::str::from_utf8(line).unwrap());
        for line in line::lines(&file.body) {
            let text = std::str::from_utf8(line.bytes).unwrap().replace("a\\ b", "ab");
            let sample = take(line.bytes, cluster);
            match take_naively(&text, cluster) {
                Some(naive) => assert_eq!(sample, Ok(naive), "{} line {}: {text}", file.name, line.number),
                None => assert_eq!(
                    sample,
                    Err(Fate::Skip(Skip::UnknownMetric)),
                    "{} line {}",
                    file.name,
                    line.number
                ),
            }
            compared += 1;
        }
        // Nothing that a line looks like is passed over.
        let seen = all.by_ref().filter(|line| line.contains("value=") && !line.starts_with('#')).count();
        assert_eq!(line::lines(&file.body).count(), seen, "{}", file.name);
        assert!(seen <= file.lines, "{}", file.name);
    }
    assert_eq!(compared, 13_510);
}

#[test]
fn escaped_names_of_the_golden_set_come_out_as_they_were_asked_for() {
    let files = files();
    let file = files.iter().find(|file| file.name == "12-escapes.lp").unwrap();
    let samples: Vec<Sample> =
        line::lines(&file.body).map(|line| take(line.bytes, file.cluster.as_deref()).unwrap()).collect();
    assert_eq!(samples.len(), 24);
    for (sample, number) in samples.into_iter().zip(0_i16..) {
        let (step, hundreds) = (number % 6, f32::from(number % 6));
        let (metric, host, path, offset) = match number / 6 {
            0 => ("cpu_load", "node 9", vec![], 0.25),
            1 => ("cpu_load", "node,9", vec![], 0.25),
            2 => ("cpu_load", "node=9", vec![], 0.25),
            _ => ("cpu_user", "a08", vec!["hwthreada b".to_owned()], 0.5),
        };
        let time = Some(1_700_000_000 + 60 * i64::from(step));
        let want = (metric.to_owned(), "del ta".to_owned(), host.to_owned(), path, hundreds + offset, time);
        assert_eq!(sample, want);
    }
}

#[test]
fn each_malformed_line_of_the_golden_set_has_its_reason_and_place() {
    use Malformed as M;
    let bad = |column, what| Fate::Bad(line::BadLine::new(column, what));
    let table: &[(&str, Fate)] = &[
        ("bad-01-plus-sign", bad(45, M::Number)),
        ("bad-02-nan", bad(45, M::Number)),
        ("bad-03-inf", bad(45, M::Number)),
        ("bad-04-overflow", Fate::Refused(Refusal::ValueRange)),
        ("bad-05-hex", bad(45, M::Number)),
        ("bad-06-bool", bad(45, M::Boolean)),
        ("bad-07-string", Fate::Skip(Skip::Text)),
        ("bad-08-field-name", bad(39, M::UnknownField)),
        ("bad-09-field-event", Fate::Skip(Skip::Event)),
        ("bad-10-no-field", bad(49, M::FieldEqualsMissing)),
        ("bad-11-tags-only", bad(38, M::FieldMissing)),
        ("bad-12-empty-value", bad(45, M::FieldValueMissing)),
        ("bad-13-two-fields", bad(47, M::UnknownField)),
        ("bad-14-empty-host", bad(33, M::TagValueMissing)),
        ("bad-15-host-without-equals", bad(32, M::TagEqualsMissing)),
        ("bad-16-double-comma", bad(10, M::TagKeyMissing)),
        ("bad-17-comma-space", bad(39, M::TagKeyMissing)),
        ("bad-18-no-measurement", bad(1, M::MetricMissing)),
        ("bad-19-int-suffix", bad(45, M::Number)),
        ("bad-20-int-overflow", bad(45, M::IntegerRange)),
        ("bad-21-negative-unsigned", bad(45, M::Number)),
        ("bad-22-tab", bad(38, M::ControlCharacter)),
        ("bad-23-quoted-field", bad(39, M::UnknownField)),
        ("bad-24-prose", Fate::Skip(Skip::UnknownMetric)),
        ("bad-25-json", Fate::Skip(Skip::UnknownMetric)),
        ("bad-26-traversal-host", Fate::Refused(Refusal::HostName)),
        ("bad-27-slash-host", Fate::Refused(Refusal::HostName)),
        ("bad-28-backslash-host", Fate::Refused(Refusal::HostName)),
        ("bad-29-traversal-cluster", Fate::Refused(Refusal::ClusterName)),
        ("bad-30-no-host", Fate::Refused(Refusal::HostMissing)),
        ("bad-31-no-cluster-no-host", Fate::Refused(Refusal::HostMissing)),
        ("bad-32-time-garbage", bad(48, M::Time)),
        ("bad-33-time-fraction", bad(48, M::Time)),
        ("bad-34-only-prose", Fate::Skip(Skip::UnknownMetric)),
        ("bad-35-only-bad-number", bad(47, M::Number)),
        ("bad-36-only-unknown-field", bad(41, M::UnknownField)),
        ("bad-37-only-no-field", bad(40, M::FieldMissing)),
        ("bad-38-only-traversal", Fate::Refused(Refusal::HostName)),
        ("bad-39-only-unknown-metric", Fate::Skip(Skip::UnknownMetric)),
    ];
    let bad_files: Vec<File> = files().into_iter().filter(|file| file.name.starts_with("bad")).collect();
    assert_eq!(bad_files.len(), table.len());
    for (file, (name, want)) in bad_files.iter().zip(table) {
        assert_eq!(file.name, format!("{name}.lp"));
        let mut good = 0;
        for line in line::lines(&file.body) {
            match take(line.bytes, file.cluster.as_deref()) {
                Ok(_) => good += 1,
                Err(fate) => {
                    assert_eq!(fate, *want, "{name}");
                    assert_eq!(line.number, file.bad_line.unwrap_or(1), "{name}");
                }
            }
        }
        // Every other line is kept.
        assert_eq!(good, file.lines - 1, "{name}");
        // Bad, and nothing else in the message: that is a bad request.
        let status = if good == 0 && matches!(want, Fate::Bad(_)) { 400 } else { 200 };
        assert!(file.statuses.contains(&status), "{name}: {status}");
    }
}
