//! What is replayed: the recorded POSTs, the 1 Hz telemetry, and a job archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, ensure};
use flate2::read::GzDecoder;
use serde::Deserialize;

use crate::demo::line::{self, Line, Place};
use crate::workspace;

/// The cluster of the recording, used for all input.
pub(crate) const CLUSTER: &str = "testbed";
/// Seconds between two POSTs of the recording.
pub(crate) const RECORDING_FREQUENCY_S: u32 = 5;
/// Rows of telemetry in one POST.
const ROWS_PER_POST: usize = 10;
/// Samples of a job's series in one POST.
const SAMPLES_PER_POST: usize = 60;

/// A source of POSTs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Input {
    /// What it is called in the table.
    pub(crate) name: &'static str,
    /// Bodies in the order in which they are sent, each with the path and query of its POST.
    pub(crate) posts: Vec<(String, String)>,
    /// Metrics and their frequencies in seconds.
    pub(crate) metrics: BTreeMap<String, u32>,
    /// Lines with a number.
    pub(crate) samples: u64,
    /// Lines with a string.
    pub(crate) texts: u64,
    /// The times of the first and the last sample.
    pub(crate) span_s: (i64, i64),
}

impl Input {
    fn add(&mut self, path: String, body: String, frequency_s: u32) -> anyhow::Result<()> {
        for text in body.lines() {
            match line::parse(text).with_context(|| format!("cannot read `{text}`"))? {
                Line::Text => self.texts += 1,
                Line::Sample { place, time_s, .. } => {
                    let (first, last) = if self.samples == 0 { (time_s, time_s) } else { self.span_s };
                    self.span_s = (first.min(time_s), last.max(time_s));
                    self.samples += 1;
                    self.metrics.entry(place.metric).or_insert(frequency_s);
                }
            }
        }
        self.posts.push((path, body));
        Ok(())
    }

    /// The same input, `shift_s` later.
    pub(crate) fn shifted(&self, name: &'static str, shift_s: i64) -> anyhow::Result<Self> {
        let mut shifted = Self { name, posts: Vec::new(), ..self.clone() };
        for (path, body) in &self.posts {
            let mut text = String::with_capacity(body.len());
            for line in body.lines() {
                text.push_str(&line::shifted(line, shift_s)?);
                text.push('\n');
            }
            shifted.posts.push((path.clone(), text));
        }
        shifted.span_s = (self.span_s.0 + shift_s, self.span_s.1 + shift_s);
        Ok(shifted)
    }
}

/// The recorded POSTs of a real node collector, as they were sent.
pub(crate) fn recording() -> anyhow::Result<Input> {
    #[derive(Deserialize)]
    struct Post {
        path: String,
        body: String,
    }
    let mut input = Input { name: "recorded POSTs", ..Input::default() };
    for line in BufReader::new(open("collector-http.jsonl.gz")?).lines() {
        let post: Post = serde_json::from_str(&line?).context("a recorded POST is not the JSON we know")?;
        input.add(post.path, post.body, RECORDING_FREQUENCY_S)?;
    }
    Ok(input)
}

/// The 1 Hz telemetry of one machine, its last row at `end_s`.
///
/// Its metrics get a suffix, because a metric has one frequency and some names are those of the recording.
pub(crate) fn telemetry(end_s: i64) -> anyhow::Result<Input> {
    let mut text = String::new();
    open("node-1hz.csv.gz")?.read_to_string(&mut text)?;
    let mut rows = text.lines();
    let heading = rows.next().unwrap_or_default().trim_start_matches('#');
    let prefixes: Vec<String> = heading.split(',').map(|column| place_of(column).prefix(CLUSTER)).collect();
    let rows: Vec<&str> = rows.collect();
    ensure!(!rows.is_empty(), "the telemetry has no rows");
    let start_s = end_s - rows.len() as i64 + 1;
    let mut input = Input { name: "1 Hz telemetry", ..Input::default() };
    for (chunk, rows) in rows.chunks(ROWS_PER_POST).enumerate() {
        let mut body = String::new();
        for (row, values) in rows.iter().enumerate() {
            let time_s = start_s + (chunk * ROWS_PER_POST + row) as i64;
            let values: Vec<&str> = values.split(',').collect();
            ensure!(
                values.len() == prefixes.len(),
                "a row of {} values for {} columns",
                values.len(),
                prefixes.len()
            );
            for (prefix, value) in prefixes.iter().zip(values) {
                body.push_str(&format!("{prefix} value={value} {time_s}\n"));
            }
        }
        input.add(format!("/api/write?cluster={CLUSTER}"), body, 1)?;
    }
    Ok(input)
}

/// `cpu_idle.cpu` is the whole node, `cpu_idle.cpu3` a thread, `net_bytes_in.eth0` a part of a part.
fn place_of(column: &str) -> Place {
    let (metric, unit) = column.split_once('.').unwrap_or((column, ""));
    let mut place = Place::node("telemetry", &format!("{metric}_1hz"));
    match unit.strip_prefix("cpu") {
        Some("") => {}
        Some(number) => place.component = Some(("hwthread".to_owned(), number.to_owned())),
        None if unit.is_empty() => {}
        None => {
            place.component = Some(("socket".to_owned(), "0".to_owned()));
            place.part = Some(("network".to_owned(), unit.to_owned()));
        }
    }
    place
}

/// The series of a job archive file (metric, scope, series per host), the last sample of each at `end_s`.
/// Metrics get a suffix, as those of the telemetry do.
pub(crate) fn job(path: &Path, end_s: i64) -> anyhow::Result<Input> {
    #[derive(Deserialize)]
    struct Scope {
        timestep: u32,
        series: Vec<JobSeries>,
    }
    #[derive(Deserialize)]
    struct JobSeries {
        hostname: String,
        #[serde(default)]
        id: Option<String>,
        data: Vec<Option<serde_json::Number>>,
    }
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let gzip = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = if gzip { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    let job: BTreeMap<String, BTreeMap<String, Scope>> = serde_json::from_reader(BufReader::new(reader))
        .with_context(|| format!("{} is not a job archive", path.display()))?;
    let mut input = Input { name: "job archive", ..Input::default() };
    for (metric, scopes) in &job {
        for (scope, data) in scopes {
            for series in &data.series {
                let mut place = Place::node(&series.hostname, &format!("{metric}_{}s", data.timestep));
                if scope != "node" {
                    place.component = Some((scope.clone(), series.id.clone().unwrap_or_default()));
                }
                let prefix = place.prefix(CLUSTER);
                let step_s = i64::from(data.timestep);
                let start_s = (end_s - series.data.len() as i64 * step_s).div_euclid(step_s) * step_s;
                for (chunk, values) in series.data.chunks(SAMPLES_PER_POST).enumerate() {
                    let mut body = String::new();
                    for (index, value) in values.iter().enumerate() {
                        let time_s = start_s + (chunk * SAMPLES_PER_POST + index) as i64 * step_s;
                        if let Some(value) = value {
                            body.push_str(&format!("{prefix} value={value} {time_s}\n"));
                        }
                    }
                    if !body.is_empty() {
                        input.add(format!("/api/write?cluster={CLUSTER}"), body, data.timestep)?;
                    }
                }
            }
        }
    }
    Ok(input)
}

fn open(name: &str) -> anyhow::Result<GzDecoder<File>> {
    let path = workspace::root().join("xtask/data").join(name);
    Ok(GzDecoder::new(File::open(&path).with_context(|| format!("cannot open {}", path.display()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_is_what_its_readme_says() {
        let input = recording().unwrap();
        assert_eq!(input.posts.len(), 136);
        assert_eq!((input.samples, input.texts), (20_664 - 408, 408));
        assert_eq!(input.metrics.len(), 101, "104 metrics, of which three are strings");
        let later = input.shifted("later", 7).unwrap();
        assert_eq!(later.span_s.0, input.span_s.0 + 7);
        assert_eq!(later.posts[0].1.lines().count(), input.posts[0].1.lines().count());
    }

    #[test]
    fn the_telemetry_is_one_row_a_second_up_to_its_end() {
        let input = telemetry(10_000).unwrap();
        assert_eq!(input.span_s, (10_000 - 4211 + 1, 10_000));
        assert_eq!(input.samples, 4211 * input.posts[0].1.lines().count() as u64 / 10);
        assert_eq!(place_of("cpu_idle.cpu"), Place::node("telemetry", "cpu_idle_1hz"));
        assert_eq!(
            place_of("net_pkts_in.lo").prefix("c"),
            "net_pkts_in_1hz,cluster=c,hostname=telemetry,type=socket,type-id=0,stype=network,stype-id=lo"
        );
    }

    #[test]
    fn a_job_file_gives_a_line_for_each_value_that_is_not_null() {
        let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        let text = r#"{"ipc":{"node":{"timestep":60,"unit":{},"series":[{"hostname":"e1","statistics":{},"data":[1.5,null,0]}]}}}"#;
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        let input = job(file.path(), 6000).unwrap();
        assert_eq!(
            input.posts[0].1,
            "ipc_60s,cluster=testbed,hostname=e1,type=node value=1.5 5820\nipc_60s,cluster=testbed,hostname=e1,type=node value=0 5940\n"
        );
        assert_eq!(input.metrics["ipc_60s"], 60);
    }
}
