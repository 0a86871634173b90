//! What happens in memory: lines to samples, samples to rows, rows to blocks, blocks to answers.

#![expect(clippy::print_stdout, reason = "the size of the data is a figure too")]

use std::ops::ControlFlow;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use store_benches::{TERMS, catalog, columns, fleet, messages};
use store_core::block::{Block, BlockHeader};
use store_core::codec;
use store_core::grid::Grid;
use store_core::ingest::Scratch;
use store_core::journal::Unlogged;
use store_core::json;
use store_core::line;
use store_core::query::{Range, Reader};
use store_core::row::Rows;
use store_core::shape::{Shape, ShapeHash};
use store_core::stamp::Stamp;
use store_core::store::{Limits, Store};
use store_loadgen::{Fleet, FleetOptions};

/// Lines of one host's message, parsed in full: what a line costs the first time it is seen.
fn parse(c: &mut Criterion) {
    let fleet = fleet(1);
    let body = messages(&fleet, 0).remove(0);
    let parse_all = || {
        let mut good = 0;
        for line in line::lines(&body) {
            let (prefix, rest) = line::split_prefix(line.bytes);
            good += u64::from(line::parse_prefix(prefix).is_ok() && line::parse_rest(rest).is_ok());
        }
        good
    };
    assert_eq!(parse_all(), fleet.series_total());
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(fleet.series_total()));
    group.bench_function("full", |b| b.iter(parse_all));
    group.finish();
}

/// Messages of known series of a fleet into memory, without a log.
fn append(c: &mut Criterion) {
    let fleet = fleet(20);
    let steps: Vec<_> = (0..64).map(|step| messages(&fleet, step)).collect();
    let ingest_all = || {
        let store = Store::new(catalog(&fleet), Limits::default(), None);
        let (mut journal, mut scratch) = (Unlogged::default(), Scratch::default());
        let mut good = 0;
        for body in steps.iter().flatten() {
            good += store.ingest(body, &TERMS, &mut journal, &mut scratch).good;
        }
        good
    };
    let samples = fleet.series_total() * 64;
    assert_eq!(ingest_all(), samples);
    let mut group = c.benchmark_group("append");
    group.sample_size(10).throughput(Throughput::Elements(samples));
    group.bench_function("fleet of 20 hosts, 64 steps", |b| b.iter(ingest_all));
    group.finish();
}

/// Rows of a host to its head, and what is full of it to blocks.
fn apply(c: &mut Criterion) {
    let fleet = fleet(1);
    let store = Store::new(catalog(&fleet), Limits::default(), None);
    let (mut journal, mut scratch) = (Unlogged::default(), Scratch::default());
    store.ingest(&messages(&fleet, 0)[0], &TERMS, &mut journal, &mut scratch);
    let host = store.all_hosts().remove(0);
    let mut state = host.lock();
    let head = state.buffers()[0].heads().next().expect("a head").clone();
    let columns = columns(&fleet, 256);
    let fill = |rows: &mut Rows, step: i64| {
        rows.clear();
        let slot = head.base() + step * i64::from(fleet.options().frequency_s);
        let cells = &mut rows.add(0, head.grid().anchor, slot).cells;
        cells.extend((0..).zip(columns.iter().map(|column| column[step as usize % 256])));
    };
    let mut rows = Rows::default();
    let (mut count, mut step) = (0, 0);
    // Untimed, so that it holds whichever benches are asked for: full heads become blocks.
    while state.buffers()[0].blocks().is_empty() {
        (count, step) = (count + 1, step + 1);
        assert!(step < 4096, "a head that is never full");
        fill(&mut rows, step);
        host.apply(&mut state, rows.views(), Stamp(count), TERMS.now);
    }
    let mut group = c.benchmark_group("apply");
    group.throughput(Throughput::Elements(fleet.series_per_host() as u64));
    group.bench_function("row of a host to head", |b| {
        b.iter(|| {
            count += 1;
            host.apply(&mut state, rows.views(), Stamp(count), TERMS.now);
        });
    });
    group.bench_function("row of a host to head and block", |b| {
        b.iter(|| {
            step += 1;
            fill(&mut rows, step);
            host.apply(&mut state, rows.views(), Stamp(count + step as u64), TERMS.now);
        });
    });
    group.finish();
}

/// Answers from a host with 2,880 rows: two days of minutes.
fn read(c: &mut Criterion) {
    const ROWS: u32 = 2880;
    let fleet = fleet(1);
    let store = Store::new(catalog(&fleet), Limits::default(), None);
    let (mut journal, mut scratch) = (Unlogged::default(), Scratch::default());
    for step in 0..ROWS {
        store.ingest(&messages(&fleet, step)[0], &TERMS, &mut journal, &mut scratch);
    }
    let host = store.all_hosts().remove(0);
    let range =
        Range { from: 0, to: i64::MAX / 4, resolution_s: 0, points_max: 1_000_000, cells_max: u64::MAX };
    let ask = |name: &str| {
        let metric = store.catalog().served(name).expect("a metric of the fleet");
        let mut reader = Reader::new(&host.lock());
        reader.read(&[], &metric, &range).expect("an answer").expect("a series").values
    };
    let ask_text = |name: &str| {
        let mut out = Vec::new();
        json::push_values(&mut out, &ask(name));
        out.len()
    };
    let names = store_loadgen::config::catalog(&fleet);
    let of_threads = |name: &&str| {
        let metric = store.catalog().served(name).expect("a metric of the fleet");
        let state = host.lock();
        let mut found = 0;
        let mut steps = u64::MAX;
        let flow = state.shape().root().select(&[], metric.id(), &mut steps, &mut |_| {
            found += 1;
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        found == 64
    };
    let node = names[0].0;
    let threads = names.iter().map(|entry| entry.0).find(of_threads).expect("a metric of hardware threads");
    assert_eq!((ask(node).len(), ask(threads).len()), (ROWS as usize, ROWS as usize));
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(u64::from(ROWS)));
    group.bench_function("one series to text", |b| b.iter(|| ask_text(node)));
    group.throughput(Throughput::Elements(64 * u64::from(ROWS)));
    group.bench_function("64 series summed", |b| b.iter(|| ask(threads)));
    group.finish();
}

/// Values as the text of an answer.
fn print(c: &mut Criterion) {
    let fleet = fleet(1);
    let values: Vec<f64> = (0..64)
        .flat_map(|series| (0..600).map(move |step| (series, step)))
        .map(|(series, step)| f64::from(fleet.value(0, series, step) as f32))
        .collect();
    let print_all = || {
        let mut out = Vec::new();
        json::push_values(&mut out, &values);
        out.len()
    };
    let expected: usize = values.iter().map(|value| format!("{value:.3},").len()).sum();
    assert_eq!(print_all(), expected + 1);
    let mut group = c.benchmark_group("print");
    group.throughput(Throughput::Bytes(print_all() as u64));
    group.bench_function("values of a fleet", |b| b.iter(print_all));
    group.finish();
}

/// Bytes a sample of a sealed block, the offsets of its columns included.
fn block_bytes(fleet: &Fleet, rows: u32) -> f64 {
    let columns = columns(fleet, rows);
    let series = columns.len() as u32;
    let header = BlockHeader {
        codec: codec::ADAPTIVE,
        buffer: 0,
        grid: Grid { anchor: 0, frequency_s: fleet.options().frequency_s },
        base: 0,
        rows,
        columns: series,
        as_of: Stamp::ZERO,
        shape: ShapeHash([0; 16]),
        body_bytes: 0,
    };
    let shape = Arc::new(Shape::empty(&catalog(fleet)));
    let block = Block::seal(header, shape, |column, out| out.copy_from_slice(&columns[column as usize]));
    f64::from(block.header().body_bytes) / f64::from(rows * series)
}

/// The codec on the fleet's values, 256 rows a block.
fn seal(c: &mut Criterion) {
    let fleet = fleet(1);
    let columns = columns(&fleet, 256);
    let encode_all = || {
        let mut out = Vec::new();
        columns.iter().for_each(|column| codec::encode(column, &mut out));
        out.len()
    };
    println!(
        "codec: {:.3} bytes a sample, lossless floor {:.3}",
        encode_all() as f64 / (columns.len() * 256) as f64,
        fleet.floor_bytes_per_sample()
    );
    for (name, idle) in [("busy", false), ("idle", true)] {
        let fleet = Fleet::new(FleetOptions { idle, ..fleet.options().clone() });
        for rows in [64, 256] {
            println!("block of {rows} rows, {name}: {:.3} bytes a sample", block_bytes(&fleet, rows));
        }
    }
    let mut group = c.benchmark_group("seal");
    group.throughput(Throughput::Elements(columns.len() as u64 * 256));
    group.bench_function("encode", |b| b.iter(encode_all));
    let encoded: Vec<Vec<u8>> = columns
        .iter()
        .map(|column| {
            let mut out = Vec::new();
            codec::encode(column, &mut out);
            out
        })
        .collect();
    let mut values = vec![0.0; 256];
    let mut decode_all = || {
        for column in &encoded {
            codec::decode(column, 256, 0..256, &mut values).expect("what was encoded");
        }
    };
    group.bench_function("decode", |b| b.iter(&mut decode_all));
    group.finish();
}

criterion_group!(benches, parse, append, apply, read, print, seal);
criterion_main!(benches);
