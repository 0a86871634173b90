//! What happens with files: a write with its log, a save, a roll, a load of block files, a replay of the log.

#![expect(clippy::print_stdout, reason = "the slowest of many batches is a figure too")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use store_benches::{TERMS, catalog, fleet, messages, options};
use store_checkpoint::roll::roll;
use store_checkpoint::save::{HostWork, Saver};
use store_core::Timestamp;
use store_core::block::Block;
use store_core::ingest::Scratch;
use store_core::journal::Unlogged;
use store_core::store::{Limits, Store};
use store_disk::{Disk, Lineage, RealDisk};
use store_loadgen::Fleet;
use store_loadgen::run::percentile;
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

/// How long batches take that come while another thread seals, saves and rolls without end, to those that have the
/// engine for themselves. Printed: criterion has no eye for the slowest of many.
fn write_beside_saves(_: &mut Criterion) {
    let fleet = fleet(20);
    for (name, saves) in [("alone", false), ("beside saves", true)] {
        let (engine, _directory) = filled(&fleet);
        let done = AtomicBool::new(false);
        let (mut took_us, mut checkpoints) = (Vec::new(), 0_u32);
        thread::scope(|scope| {
            let saving = scope.spawn(|| {
                let mut count = 0;
                while saves && !done.load(Ordering::Relaxed) {
                    engine.tick();
                    engine.checkpoint();
                    engine.sweep();
                    count += 1;
                    thread::sleep(Duration::from_millis(20));
                }
                count
            });
            for step in STEPS..STEPS + 1500 {
                for body in messages(&fleet, step) {
                    let begin = Instant::now();
                    assert_eq!(engine.write(&body, None).good, fleet.series_per_host() as u64);
                    took_us.push(u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
            }
            done.store(true, Ordering::Relaxed);
            checkpoints = saving.join().expect("no panic");
        });
        took_us.sort_unstable();
        let [p50, p99, p9999, max] = [0.5, 0.99, 0.9999, 1.0].map(|share| percentile(&took_us, share));
        println!(
            "{} batches {name} ({checkpoints} checkpoints): median {p50:?}, of 100 {p99:?}, of 10,000 {p9999:?}, \
             slowest {max:?}",
            took_us.len()
        );
    }
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

const LINEAGE: Lineage = Lineage(*b"lineage of bench");

/// A store with sealed blocks of 64 rows.
fn sealed(fleet: &Fleet) -> Store {
    let store = Store::new(catalog(fleet), Limits::default(), None);
    let (mut journal, mut scratch) = (Unlogged::default(), Scratch::default());
    for step in 0..600 {
        for body in messages(fleet, step) {
            store.ingest(&body, &TERMS, &mut journal, &mut scratch);
        }
    }
    store
}

/// The blocks of every host.
fn work(store: &Store) -> Vec<HostWork> {
    let work = store.all_hosts().into_iter().map(|host| {
        let state = host.lock();
        let held = state.buffers().iter().flat_map(|buffer| buffer.blocks());
        let blocks: Vec<Arc<Block>> = held.map(|held| Arc::clone(&held.block)).collect();
        let (cluster, host) = (host.cluster().into(), host.name().into());
        HostWork { cluster, host, blocks, floors: Vec::new(), all_floors: Vec::new() }
    });
    work.collect()
}

fn saver(directory: &Path) -> Saver {
    Saver::new(Arc::new(RealDisk::default()), directory.into(), LINEAGE, 1, 4096)
}

/// Finished blocks into files that are there already, and the same bytes into one file without any of it.
fn save_blocks(c: &mut Criterion) {
    let store = sealed(&fleet(50));
    let all = work(&store);
    // The first block of each host is saved before: directories and files are made once in a host's life.
    let part = |first: bool| -> Vec<HostWork> {
        let blocks =
            |work: &HostWork| if first { work.blocks[..1].to_vec() } else { work.blocks[1..].to_vec() };
        all.iter().map(|work| HostWork { blocks: blocks(work), ..work.clone() }).collect()
    };
    let (before, measured) = (part(true), part(false));
    let bytes: Vec<u8> = measured
        .iter()
        .flat_map(|work| &work.blocks)
        .flat_map(|block| {
            let parts = block.to_parts(1).expect("an undamaged block");
            [&parts.front[..], &parts.body[..], &parts.behind[..]].concat()
        })
        .collect();
    let mut group = c.benchmark_group("save");
    group.sample_size(20).throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("finished blocks of 50 hosts", |b| {
        let prepare = || {
            let directory = tempfile::tempdir().expect("a directory");
            let mut saver = saver(directory.path());
            assert!(saver.save(store.catalog(), &before).iter().all(Result::is_ok));
            (directory, saver)
        };
        let save = |(directory, mut saver): (tempfile::TempDir, Saver)| {
            assert!(saver.save(store.catalog(), &measured).iter().all(Result::is_ok));
            (directory, saver)
        };
        b.iter_batched(prepare, save, BatchSize::PerIteration);
    });
    group.bench_function("the same bytes in one file, written and synced", |b| {
        let write = |directory: tempfile::TempDir| {
            let mut file = std::fs::File::create(directory.path().join("plain")).expect("a file");
            file.write_all(&bytes).expect("room");
            file.sync_data().expect("a disk");
            directory
        };
        b.iter_batched(|| tempfile::tempdir().expect("a directory"), write, BatchSize::PerIteration);
    });
    group.finish();
}

/// Short blocks of a host into long ones: all of them are encoded anew.
fn roll_blocks(c: &mut Criterion) {
    let store = sealed(&fleet(1));
    let work = work(&store);
    let shape = Arc::clone(store.all_hosts()[0].lock().shape());
    let samples: u64 = work[0].blocks.iter().map(|block| u64::from(block.header().rows)).sum::<u64>()
        * shape.columns().len() as u64;
    let mut group = c.benchmark_group("roll");
    group.sample_size(20).throughput(Throughput::Bytes(samples * 4));
    group.bench_function("short blocks of a host, bytes of f32", |b| {
        let prepare = || {
            let directory = tempfile::tempdir().expect("a directory");
            assert!(saver(directory.path()).save(store.catalog(), &work).iter().all(Result::is_ok));
            directory
        };
        let roll = |directory: tempfile::TempDir| {
            let disk = RealDisk::default();
            let dir = directory.path().join(&*work[0].cluster).join(&*work[0].host);
            let names = disk.list(&dir).expect("a directory");
            let sources: Vec<PathBuf> = names.iter().map(|entry| dir.join(&entry.name)).collect();
            let known = |_, _: &[u8]| Some(Arc::clone(&shape));
            let (catalog, notes) = (store.catalog(), Arc::default());
            let rolled =
                roll(&disk, &dir, &sources, LINEAGE, catalog, &shape, &known, Timestamp::MIN, &[], &notes);
            assert!(rolled.is_ok_and(|rolled| !rolled.blocks.is_empty()));
            directory
        };
        b.iter_batched(prepare, roll, BatchSize::PerIteration);
    });
    group.finish();
}

/// A start on block files, and one on a log.
fn load(c: &mut Criterion) {
    // So many that a few syncs are not most of it.
    let fleet = fleet(100);
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

criterion_group!(benches, write, write_beside_saves, save, save_blocks, roll_blocks, load);
criterion_main!(benches);
