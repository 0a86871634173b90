//! A life with stops, kills, saves, rolls and starts answers as a life without them, and both as a plain map.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use store_checkpoint::blockfile;
use store_checkpoint::format::{bin1, json};
use store_checkpoint::run::{Dump, Run};
use store_server::engine::{Engine, FileFormat, PathElement, ReadRequest};

use crate::site::{METRICS, NOW, Site, fill, filled, stop, values, values_of};

const HOSTS: [&str; 2] = ["h", "i"];

/// Number of the metric, and the component below the host.
const SERIES: [(usize, &[&str]); 7] =
    [(0, &[]), (1, &[]), (2, &[]), (3, &[]), (1, &["hwthread0"]), (0, &["socket0"]), (0, &["socket1"])];

const FORMATS: [(FileFormat, bool); 3] =
    [(FileFormat::Wal, false), (FileFormat::Json, false), (FileFormat::Wal, true)];

/// Samples of one series, one after the other.
#[derive(Debug, Clone)]
struct Burst {
    host: usize,
    series: usize,
    /// How many slots before now the last one is.
    late: i64,
    count: i64,
    /// Every how many slots there is one.
    stride: i64,
    /// Seconds off the grid that the first one is, in thirtieths of a slot; the next ones a bit less or more.
    jitter: i64,
    value: u32,
}

/// One thing that happens to a store.
#[derive(Debug, Clone)]
enum Step {
    Write(Burst),
    Free {
        host: usize,
        series: Option<usize>,
        back: i64,
    },
    Advance(i64),
    /// What no answer may depend on.
    Tick,
    Save,
    Roll,
    Sweep,
    Start {
        clean: bool,
        meanwhile: Vec<Burst>,
    },
    /// A process that ends before it has loaded anything.
    ShortLife {
        clean: bool,
        meanwhile: Vec<Burst>,
    },
}

fn burst() -> impl Strategy<Value = Burst> {
    let late = prop_oneof![4 => Just(0_i64), 2 => 0..20_i64, 1 => 0..200_i64];
    let stride = prop_oneof![4 => Just(1_i64), 1 => 2..40_i64];
    let count = prop_oneof![3 => 1..6_i64, 2 => 1..90_i64];
    (0..HOSTS.len(), 0..SERIES.len(), late, count, stride, 0..30_i64, any::<u32>()).prop_map(
        |(host, series, late, count, stride, jitter, value)| Burst {
            host,
            series,
            late,
            count,
            stride,
            jitter,
            value,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let meanwhile = || prop::collection::vec(burst(), 0..3);
    prop_oneof![
        10 => burst().prop_map(Step::Write),
        1 => (0..HOSTS.len(), prop::option::of(0..SERIES.len()), 0..4000_i64)
            .prop_map(|(host, series, back)| Step::Free { host, series, back }),
        4 => prop_oneof![1..20_i64, 1..700_i64].prop_map(Step::Advance),
        2 => Just(Step::Tick),
        2 => Just(Step::Save),
        1 => Just(Step::Roll),
        1 => Just(Step::Sweep),
        3 => (any::<bool>(), meanwhile()).prop_map(|(clean, meanwhile)| Step::Start { clean, meanwhile }),
        1 => (any::<bool>(), meanwhile()).prop_map(|(clean, meanwhile)| Step::ShortLife { clean, meanwhile }),
    ]
}

/// Values of all kinds: whole, fractional, tiny, huge, zeros of both signs.
fn value(seed: u32) -> f32 {
    match seed % 8 {
        0 => -0.0,
        1 => f32::from_bits(seed % 0x0080_0000),
        2 => f32::MAX,
        3..6 => (seed % 1000) as f32 / 8.0,
        _ => Some(f32::from_bits(seed)).filter(|value| value.is_finite()).unwrap_or(1.5),
    }
}

impl Burst {
    fn samples(&self, now: i64) -> Vec<(i64, f32)> {
        let step = i64::from(METRICS[SERIES[self.series].0].1);
        (0..self.count)
            .map(|at| {
                let jitter = (self.jitter + at % 3 - 32) * step / 60;
                let seed = self.value.wrapping_add((at as u32).wrapping_mul(0x9E37_79B9));
                (now - (self.late + (self.count - 1 - at) * self.stride) * step + jitter, value(seed))
            })
            .collect()
    }

    fn body(&self, now: i64) -> String {
        let (metric, path) = SERIES[self.series];
        let host = HOSTS[self.host];
        let kind = match path {
            [] => String::new(),
            [name, ..] => {
                let digits = name.find(|c: char| c.is_ascii_digit()).unwrap();
                format!(",type={},type-id={}", &name[..digits], &name[digits..])
            }
        };
        let name = METRICS[metric].0;
        let line = |(time, value)| format!("{name},cluster=c,hostname={host}{kind} value={value} {time}\n");
        self.samples(now).into_iter().map(line).collect()
    }
}

/// What a store is, without blocks, heads, logs and files.
#[derive(Debug, Default)]
struct Model {
    /// The first sample of each host, frequency and phase.
    anchors: HashMap<(usize, i64, i64), i64>,
    phases: HashMap<(usize, usize), i64>,
    cells: BTreeMap<(usize, usize), BTreeMap<i64, f32>>,
    floors: HashMap<(usize, usize), i64>,
    /// A sample came 512 slots or more after the anchor: from there on the grid is another, and no such map knows.
    outgrown: bool,
    /// Everything of a host at one frequency and phase was freed.
    emptied: bool,
}

impl Model {
    fn write(&mut self, burst: &Burst, now: i64) {
        let key = (burst.host, burst.series);
        let step = i64::from(METRICS[SERIES[burst.series].0].1);
        for (time, value) in burst.samples(now) {
            let phase = *self.phases.entry(key).or_insert(time.rem_euclid(step));
            let anchor = *self.anchors.entry((burst.host, step, phase)).or_insert(time);
            let index = (time - anchor + step / 2).div_euclid(step);
            self.outgrown |= index >= 512;
            let slot = anchor + index * step;
            if slot >= self.floors.get(&key).copied().unwrap_or(i64::MIN) {
                self.cells.entry(key).or_default().insert(slot, value);
            }
        }
    }

    fn free(&mut self, host: usize, series: Option<usize>, to: i64) {
        for (at, (_, path)) in SERIES.iter().enumerate() {
            if series.is_some_and(|asked| !path.starts_with(SERIES[asked].1)) {
                continue;
            }
            let Some(cells) = self.cells.get_mut(&(host, at)) else { continue };
            let Some((&newest, _)) = cells.last_key_value() else { continue };
            let before = to.min(newest + 1);
            let kept = cells.split_off(&before);
            if !std::mem::replace(cells, kept).is_empty() {
                self.floors.insert((host, at), before);
                self.emptied |= !self.is_held(host, at);
            }
        }
    }

    /// Whether anything is left of the host at the frequency and phase of a series.
    fn is_held(&self, host: usize, series: usize) -> bool {
        let moments = |at: usize| (METRICS[SERIES[at].0].1, self.phases.get(&(host, at)));
        (0..SERIES.len())
            .filter(|at| moments(*at) == moments(series))
            .any(|at| self.cells.get(&(host, at)).is_some_and(|cells| !cells.is_empty()))
    }

    fn samples(&self, host: usize, series: usize) -> BTreeMap<i64, u64> {
        let cells = self.cells.get(&(host, series)).cloned().unwrap_or_default();
        cells.into_iter().map(|(slot, value)| (slot, f64::from(value).to_bits())).collect()
    }
}

/// Everything that can be asked, as text.
fn answers(engine: &Engine, now: i64) -> Vec<String> {
    let mut answers = vec![format!("{:?}", engine.hosts("c"))];
    let nodes = HOSTS.map(str::to_owned);
    let metrics = METRICS.map(|(name, ..)| name.to_owned());
    answers.push(format!("{:?}", engine.health("c", &nodes, &metrics)));
    let paths = [
        vec![],
        vec![PathElement::Exact("hwthread0".into())],
        vec![PathElement::Exact("socket0".into())],
        vec![PathElement::Group(vec!["socket1".into(), "socket0".into()])],
        vec![PathElement::Any],
    ];
    for host in HOSTS {
        for (metric, frequency_s, _) in METRICS {
            for path in &paths {
                let step = i64::from(frequency_s);
                for (from, to, resolution_s) in [
                    (NOW - 500_000, now + 500_000, 0),
                    (now - 1003, now + 7, 0),
                    (NOW - 20_000, now, step * 4),
                ] {
                    let path = path.clone();
                    let request = ReadRequest {
                        cluster: "c",
                        host,
                        metric,
                        path: path.into(),
                        from,
                        to,
                        resolution_s,
                        points_max: 2_000_000,
                        cells_max: u64::MAX,
                    };
                    let read = engine.read(&request).map(|series| {
                        series.map(|series| {
                            let bits: Vec<u64> = series.values.iter().map(|value| value.to_bits()).collect();
                            (series.from, series.to, series.resolution_s, bits)
                        })
                    });
                    answers.push(format!(
                        "{host} {metric} {:?} {from} {to} {resolution_s}: {read:?}",
                        request.path
                    ));
                }
            }
        }
    }
    answers
}

/// Lives through `steps`, or through those only that say something new. Returns all answers, the model that lived
/// along, and what each series holds.
fn live(site: &Site, steps: &[Step], plainly: bool) -> (Vec<String>, Model, Vec<BTreeMap<i64, u64>>) {
    let mut model = Model::default();
    let mut engine = site.start();
    let mut now = store_disk::Clock::now_s(&*site.clock);
    let write = |engine: &Engine, burst: &Burst, model: &mut Model, now| {
        let report = engine.write(burst.body(now).as_bytes(), None);
        assert_eq!((report.bad, report.good + report.skipped), (0, burst.count as u64), "{burst:?}");
        model.write(burst, now);
    };
    for step in steps {
        match step {
            Step::Write(burst) => write(&engine, burst, &mut model, now),
            Step::Free { host, series, back } => {
                let mut selector = vec!["c".to_owned(), HOSTS[*host].to_owned()];
                selector.extend(series.iter().flat_map(|at| SERIES[*at].1).map(|&name| name.to_owned()));
                engine.free(now - back, &[selector]).unwrap();
                model.free(*host, *series, now - back);
            }
            Step::Advance(seconds) => {
                site.clock.advance(*seconds);
                now += seconds;
            }
            Step::Start { meanwhile, .. } | Step::ShortLife { meanwhile, .. } if plainly => {
                meanwhile.iter().for_each(|burst| write(&engine, burst, &mut model, now));
            }
            _ if plainly => {}
            Step::Tick => engine.tick(),
            Step::Save => engine.checkpoint(),
            Step::Roll => HOSTS.iter().for_each(|host| engine.roll("c", host)),
            Step::Sweep => engine.sweep(),
            Step::Start { clean, meanwhile } => {
                if *clean {
                    assert_eq!(engine.stop().problems, Vec::<String>::new());
                }
                drop(engine);
                engine = site.open();
                meanwhile.iter().for_each(|burst| write(&engine, burst, &mut model, now));
                engine.load_all();
            }
            Step::ShortLife { clean, meanwhile } => {
                drop(engine);
                engine = site.open();
                meanwhile.iter().for_each(|burst| write(&engine, burst, &mut model, now));
                if *clean {
                    assert_eq!(engine.stop().problems, Vec::<String>::new());
                }
                drop(engine);
                engine = site.start();
            }
        }
    }
    if !plainly {
        stop(engine);
        engine = site.start();
    }
    let mut held = Vec::new();
    for host in HOSTS {
        for (metric, path) in SERIES {
            let values = values_of(&engine, host, METRICS[metric].0, path);
            held.push(values.into_iter().map(|(slot, value)| (slot, value.to_bits())).collect());
        }
    }
    (answers(&engine, now), model, held)
}

fn site(format: FileFormat, portable: bool) -> Site {
    Site::new().with(|options| {
        (options.format, options.portable) = (format, portable);
        (options.max_future_s, options.log_segment_bytes) = (500_000, 2000);
        // Nothing grows too old.
        options.retention_s = 10_000_000;
    })
}

fn compare(format: FileFormat, portable: bool, steps: &[Step]) -> Result<(), TestCaseError> {
    // Files of the original cannot say that something was freed: after a stop a series of which nothing is left is
    // forgotten, its phase too, and late samples below what was freed are taken again.
    let forgetful = format == FileFormat::Json || portable;
    // What came while a host was loading stands in the log without its slot. If it is freed before it is in a block,
    // the next replay counts slots from the first sample that was not freed.
    let mut unplaced = false;
    let mut kept = Vec::new();
    for step in steps {
        if let Step::Start { meanwhile, .. } | Step::ShortLife { meanwhile, .. } = step {
            unplaced |= !meanwhile.is_empty();
        }
        if !matches!(step, Step::Free { .. }) || !(forgetful || unplaced) {
            kept.push(step.clone());
        }
    }
    let mut steps = kept.as_slice();
    let (mut plain, mut model, _) = live(&site(format, portable), steps, true);
    if model.emptied {
        // Nothing is left that knows from where slots were counted: a restart may begin anew, a live store goes on.
        kept.retain(|step| !matches!(step, Step::Free { .. }));
        steps = kept.as_slice();
        (plain, model, _) = live(&site(format, portable), steps, true);
    }
    let (lived, _, held) = live(&site(format, portable), steps, false);
    for (plain, lived) in plain.iter().zip(&lived) {
        prop_assert_eq!(plain, lived);
    }
    prop_assert_eq!(plain.len(), lived.len());
    if !model.outgrown {
        for (at, held) in held.iter().enumerate() {
            let (host, series) = (at / SERIES.len(), at % SERIES.len());
            // A host that has no samples of its own is asked for, and answers with those below it.
            if SERIES[series].1.is_empty() && model.samples(host, series).is_empty() {
                continue;
            }
            prop_assert_eq!(&model.samples(host, series), held, "host {}, series {:?}", host, SERIES[series]);
        }
    }
    Ok(())
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 3000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn block_files_and_log_change_no_answer(steps in prop::collection::vec(step(), 1..30)) {
        compare(FileFormat::Wal, false, &steps)?;
    }

    #[test]
    fn json_files_change_no_answer(steps in prop::collection::vec(step(), 1..30)) {
        compare(FileFormat::Json, false, &steps)?;
    }

    #[test]
    fn portable_files_change_no_answer(steps in prop::collection::vec(step(), 1..30)) {
        compare(FileFormat::Wal, true, &steps)?;
    }
}

#[test]
fn answers_do_not_drift_over_a_hundred_restarts_in_any_format() {
    for (format, portable) in FORMATS {
        let site = site(format, portable);
        let engine = site.start();
        fill(&engine, "h", "load", NOW - 3000, 10, 200, 1);
        fill(&engine, "h", "disk", NOW - 3007, 60, 40, 1);
        fill(&engine, "i", "power", NOW - 1000, 1, 700, 1);
        let before = answers(&engine, NOW);
        stop(engine);
        for round in 0..100 {
            // The clock stands at odd moments, and is of no account.
            site.clock.advance(7);
            let engine = site.start();
            if round % 10 == 9 {
                assert_eq!(answers(&engine, NOW), before, "{format:?}, portable: {portable}, round {round}");
            }
            stop(engine);
        }
    }
}

#[test]
fn a_format_may_follow_any_other() {
    let mut site = Site::new();
    let mut expected = BTreeMap::new();
    for (at, (format, portable)) in (0..).zip(FORMATS.into_iter().cycle().take(7)) {
        (site.options.format, site.options.portable) = (format, portable);
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), expected, "start {at}");
        fill(&engine, "h", "load", NOW - 5000 + at * 200, 10, 30, at * 100);
        expected.extend(filled(NOW - 5000 + at * 200, 10, 30, at * 100));
        site.save(&engine);
        fill(&engine, "h", "load", NOW - 5000 + at * 200 + 50, 10, 3, 7000 + at);
        expected.extend(filled(NOW - 5000 + at * 200 + 50, 10, 3, 7000 + at));
        stop(engine);
    }
    assert_eq!(values(&site.start(), "h", "load"), expected);
}

#[test]
fn what_was_freed_stays_freed_in_any_format() {
    for (format, portable) in FORMATS {
        let site = site(format, portable);
        let engine = site.start();
        fill(&engine, "h", "load", NOW - 3000, 10, 200, 1);
        site.save(&engine);
        fill(&engine, "h", "load", NOW - 1000, 10, 50, 201);
        let selector = vec!["c".to_owned(), "h".to_owned()];
        assert!(engine.free(NOW - 2000, std::slice::from_ref(&selector)).unwrap().count > 0);
        let expected = filled(NOW - 2000, 10, 150, 101);
        assert_eq!(values(&engine, "h", "load"), expected);
        stop(engine);
        for _ in 0..3 {
            let engine = site.start();
            assert_eq!(values(&engine, "h", "load"), expected, "{format:?}, portable: {portable}");
            assert_eq!(engine.free(NOW - 2000, std::slice::from_ref(&selector)).unwrap().count, 0);
            site.save(&engine);
            stop(engine);
        }
    }
}

#[test]
fn samples_that_come_before_the_host_is_loaded_count_last() {
    for (format, portable) in FORMATS {
        let site = site(format, portable);
        let engine = site.start();
        fill(&engine, "h", "load", NOW - 3000, 10, 100, 1);
        stop(engine);
        let engine = site.open();
        // Over old slots, behind them, and of a series that is new.
        fill(&engine, "h", "load", NOW - 2100, 10, 20, 501);
        fill(&engine, "h", "disk", NOW - 2100, 60, 5, 901);
        engine.load_all();
        let mut expected = filled(NOW - 3000, 10, 100, 1);
        expected.extend(filled(NOW - 2100, 10, 20, 501));
        for _ in 0..2 {
            assert_eq!(values(&engine, "h", "load"), expected, "{format:?}, portable: {portable}");
        }
        drop(engine);
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), expected, "killed: {format:?}, portable: {portable}");
        assert_eq!(values(&engine, "h", "disk"), filled(NOW - 2100, 60, 5, 901));
        stop(engine);
        assert_eq!(values(&site.start(), "h", "load"), expected, "stopped: {format:?}, portable: {portable}");
    }
}

#[test]
fn runs_of_the_original_that_start_off_the_grid_stay_where_they_are() {
    for (format, portable) in FORMATS {
        let site = site(format, portable);
        let run = |base: i64, first: u16| Run {
            path: Vec::new(),
            metric: "disk".into(),
            base,
            frequency_s: 60,
            values: (0..20).map(|at| f32::from(first + at)).collect(),
        };
        // The second run was cut at an odd second, as after a checkpoint of the original: its slots are off the
        // grid of the first by 17 s.
        let first = NOW - 40_000;
        let second = first + 20 * 60 + 17;
        for (base, value) in [(first, 1), (second, 21)] {
            let dump = Dump { from: base, to: base + 1200, runs: vec![run(base, value)] };
            let file = format!("/var/store/c/h/{base}.bin");
            site.disk.put(file, bin1::encode(&dump).unwrap()).unwrap();
        }
        let expected = filled(first, 60, 40, 1);
        for start in 0..4 {
            let engine = site.start();
            assert_eq!(
                values(&engine, "h", "disk"),
                expected,
                "start {start}: {format:?}, portable: {portable}"
            );
            stop(engine);
        }
        // A live run goes on, on the grid of the first.
        let engine = site.start();
        fill(&engine, "h", "disk", first + 40 * 60 + 9, 60, 20, 41);
        stop(engine);
        for _ in 0..2 {
            let engine = site.start();
            assert_eq!(
                values(&engine, "h", "disk"),
                filled(first, 60, 60, 1),
                "{format:?}, portable: {portable}"
            );
            stop(engine);
        }
    }
}

#[test]
fn after_a_stop_in_json_or_portable_mode_only_files_of_the_original_are_there() {
    for (format, portable) in [(FileFormat::Json, false), (FileFormat::Wal, true), (FileFormat::Json, true)] {
        // What other modes and crashes leave goes with the first stop.
        let mut site = Site::new();
        let engine = site.start();
        fill(&engine, "h", "load", NOW - 9000, 10, 100, 1);
        fill(&engine, "i", "disk", NOW - 9001, 60, 50, 1);
        site.save(&engine);
        fill(&engine, "h", "load", NOW - 8000, 10, 100, 101);
        drop(engine);
        site = site.killed();
        (site.options.format, site.options.portable) = (format, portable);
        for life in 0..3 {
            let engine = site.start();
            fill(&engine, "h", "load", NOW - 7000 + life * 1000, 10, 100, 201 + life * 100);
            if life == 1 {
                site.save(&engine);
                fill(&engine, "h", "load", NOW - 8990, 10, 1, 2);
            }
            stop(engine);
            let mut samples = BTreeMap::new();
            let (mut ranges, mut hosts) = (Vec::new(), 0);
            for (path, bytes) in site.disk.files() {
                let decoded = match path.extension().unwrap().to_str().unwrap() {
                    "json" if format == FileFormat::Json => json::decode(&bytes).unwrap(),
                    "bin" if format == FileFormat::Wal => {
                        assert!(!blockfile::is_block_file(&bytes));
                        bin1::decode(&bytes).unwrap()
                    }
                    _ => panic!("{} is left in {format:?}, portable: {portable}", path.display()),
                };
                let dump = decoded.dump;
                assert_eq!(path.file_stem().unwrap().to_str().unwrap(), dump.from.to_string());
                hosts += u32::from(path.starts_with("/var/store/c/i"));
                if path.starts_with("/var/store/c/h") {
                    ranges.push((dump.from, dump.to));
                    for run in &dump.runs {
                        assert_eq!((&*run.metric, run.frequency_s, run.path.len()), ("load", 10, 0));
                        assert!(dump.from <= run.base, "{run:?}");
                        for (at, value) in run.values.iter().enumerate().filter(|(_, value)| !value.is_nan())
                        {
                            assert_eq!(
                                samples.insert(run.time_of(at), f64::from(*value)),
                                None,
                                "in two files"
                            );
                        }
                    }
                }
            }
            assert_eq!(hosts, 1);
            assert_eq!(samples, filled(NOW - 9000, 10, 300 + life * 100, 1), "{format:?}, life {life}");
            ranges.sort_unstable();
            assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "files overlap: {ranges:?}");
            assert_eq!(
                site.disk.dirs().iter().filter(|dir| dir.ends_with(".wal")).count(),
                0,
                "the log is there"
            );
        }
    }
}

#[test]
fn every_kind_of_value_is_the_same_after_a_restart() {
    for (format, portable) in FORMATS {
        let site = site(format, portable);
        let engine = site.start();
        let values: Vec<f32> = (0..2000_u32).map(|seed| value(seed.wrapping_mul(0x9E37_79B9))).collect();
        for (at, value) in (0..).zip(&values) {
            let line = crate::site::line("load", value, NOW - 30_000 + at * 10);
            assert_eq!(engine.write(line.as_bytes(), None).good, 1);
        }
        stop(engine);
        let held = crate::site::values(&site.start(), "h", "load");
        assert_eq!(held.len(), values.len());
        for (held, value) in held.values().zip(&values) {
            assert_eq!(
                held.to_bits(),
                f64::from(*value).to_bits(),
                "{format:?}, portable: {portable}: {value:e}"
            );
        }
    }
}

#[test]
fn late_samples_before_the_oldest_dump_cost_no_later_one() {
    let burst = |host, series, count| {
        Step::Write(Burst { host, series, late: 0, count, stride: 1, jitter: 0, value: 7 })
    };
    let steps = [
        burst(1, 2, 1),
        Step::Save,
        Step::Advance(13),
        burst(1, 0, 1),
        Step::Save,
        // Into the first file and the second one, ...
        burst(1, 0, 19),
        Step::Save,
        // ... and before the first one, which gets another name.
        burst(1, 0, 20),
    ];
    for (format, portable) in FORMATS {
        compare(format, portable, &steps).unwrap();
    }
}

#[test]
fn a_stop_that_finds_other_files_beside_the_log_leaves_them_and_is_clean() {
    for (format, portable) in [FORMATS[1], FORMATS[2]] {
        let site = site(format, portable);
        let engine = site.start();
        fill(&engine, "h", "load", NOW - 3000, 10, 20, 1);
        let note = std::path::Path::new(crate::site::DIRECTORY).join(".wal/note.txt");
        site.disk.put(&note, b"keep me".to_vec()).unwrap();
        stop(engine);
        assert_eq!(site.segments(), [note]);
        assert_eq!(values(&site.start(), "h", "load").len(), 20);
    }
}
