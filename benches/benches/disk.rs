//! What happens with files: a write with its log, a save, a load of block files, a replay of the log.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use store_benches::{fleet, messages, options};
use store_loadgen::Fleet;
use store_server::engine::Engine;

const STEPS: u32 = 64;

/// An engine in a fresh directory that has taken `STEPS` steps of the fleet, and the directory.
fn filled(fleet: &Fleet) -> (Engine, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = Engine::open(options(fleet, directory.path().join("checkpoints"))).expect("a start");
    engine.load_all();
    let mut good = 0;
    for step in 0..STEPS {
        for body in messages(fleet, step) {
            good += engine.write(&body, None).good;
        }
    }
    assert_eq!(good, fleet.series_total() * u64::from(STEPS));
    (engine, directory)
}

/// A message through parse, memory and log, to the moment it may be answered.
fn write(c: &mut Criterion) {
    let fleet = fleet(20);
    let (engine, _directory) = filled(&fleet);
    let body = &messages(&fleet, STEPS)[7];
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Elements(fleet.series_per_host() as u64));
    group.bench_function("message of 540 known series, logged", |b| b.iter(|| engine.write(body, None).good));
    group.finish();
}

/// A clean stop: everything sealed, saved, synced.
fn save(c: &mut Criterion) {
    let fleet = fleet(10);
    let mut group = c.benchmark_group("save");
    group.sample_size(10).throughput(Throughput::Elements(fleet.series_total() * u64::from(STEPS)));
    group.bench_function("clean stop of 10 hosts, 64 rows", |b| {
        b.iter_batched(
            || filled(&fleet),
            |(engine, directory)| {
                assert!(engine.stop().problems.is_empty());
                (engine, directory)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A start on block files, and one on a log.
fn load(c: &mut Criterion) {
    let fleet = fleet(10);
    let samples = fleet.series_total() * u64::from(STEPS);
    let mut group = c.benchmark_group("start");
    group.sample_size(10).throughput(Throughput::Elements(samples));
    for (name, stopped) in [("load of block files", true), ("replay of the log", false)] {
        let (engine, directory) = filled(&fleet);
        if stopped {
            engine.stop();
        }
        drop(engine);
        group.bench_function(name, |b| {
            b.iter(|| {
                let engine =
                    Engine::open(options(&fleet, directory.path().join("checkpoints"))).expect("a start");
                engine.load_all();
                assert_eq!(engine.status().series as u64, fleet.series_total());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, write, save, load);
criterion_main!(benches);
