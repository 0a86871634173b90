//! Instruction counts of the hot functions, as a gate: `cargo bench -p store-workloads`, which needs valgrind and
//! gungraun-runner of the version in `Cargo.lock`.
//!
//! Counts do not depend on what else the machine does. A limit stands an eighth above what was counted when it was
//! set, because compilers differ a little; whoever makes a function faster lowers it.

#![expect(missing_docs, reason = "modules that the macros make")]

use std::hint::black_box;

use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use store_core::codec;
use store_core::ingest::Scratch;
use store_core::journal::Unlogged;
use store_core::json;
use store_core::query::{Range, Reader};
use store_core::store::{Limits, Store};
use store_workloads::{TERMS, catalog, columns, fleet, messages};

/// Fails above so many instructions.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, instructions)]));
    config
}

/// A store that knows one host with so many rows, and the message of its next step.
fn filled(rows: u32) -> (Store, Scratch, Vec<u8>) {
    let fleet = fleet(1);
    let store = Store::new(catalog(&fleet), Limits::default(), None);
    let mut scratch = Scratch::default();
    for step in 0..rows {
        store.ingest(&messages(&fleet, step)[0], &TERMS, &mut Unlogged::default(), &mut scratch);
    }
    let next = messages(&fleet, rows).remove(0);
    (store, scratch, next)
}

// 540 known lines from their bytes to the head.
#[library_benchmark(config = at_most(325_000))]
#[bench::known(setup = filled, args = (3))]
fn ingest((store, mut scratch, message): (Store, Scratch, Vec<u8>)) -> (Store, Scratch) {
    let ingested = store.ingest(black_box(&message), &TERMS, &mut Unlogged::default(), &mut scratch);
    assert_eq!(ingested.good, 540);
    (store, scratch)
}

/// A host's 540 columns of 64 values.
fn raw() -> Vec<Vec<f32>> {
    columns(&fleet(1), 64)
}

#[library_benchmark(config = at_most(7_140_000))]
#[bench::columns_of_64(setup = raw)]
fn encode(columns: Vec<Vec<f32>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 18);
    black_box(&columns).iter().for_each(|column| codec::encode(column, &mut out));
    out
}

/// The same, encoded.
fn encoded() -> Vec<Vec<u8>> {
    let encode = |column: Vec<f32>| {
        let mut out = Vec::new();
        codec::encode(&column, &mut out);
        out
    };
    raw().into_iter().map(encode).collect()
}

#[library_benchmark(config = at_most(665_000))]
#[bench::columns_of_64(setup = encoded)]
fn decode(payloads: Vec<Vec<u8>>) -> [f32; 64] {
    let mut out = [0.0; 64];
    for payload in black_box(&payloads) {
        assert!(codec::decode(payload, 64, 0..64, &mut out).is_ok());
    }
    out
}

// The sum over 64 hardware threads, 600 values. A third of it is the checksum of each column, which is verified whenever
// the column is decoded.
#[library_benchmark(config = at_most(1_245_000))]
#[bench::sum_of_64(setup = filled, args = (600))]
fn read((store, _, _): (Store, Scratch, Vec<u8>)) -> (Store, usize) {
    let host = store.all_hosts().remove(0);
    let metric = store.catalog().served("flops_any").expect("a metric of the fleet");
    let range =
        Range { from: 0, to: i64::MAX / 4, resolution_s: 0, points_max: 1_000_000, cells_max: u64::MAX };
    let mut reader = Reader::new(&host.lock());
    let values = reader.read(&[], &metric, &range).expect("an answer").expect("a series").values.len();
    assert_eq!(values, 600);
    (store, values)
}

/// 2,880 full-mantissa values: two days at 60 s.
fn values() -> Vec<f64> {
    (0..2880_u16).map(|n| f64::from((f32::from(n) * 1234.567).sqrt())).collect()
}

#[library_benchmark(config = at_most(230_000))]
#[bench::values_2880(setup = values)]
fn text(values: Vec<f64>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 16);
    json::push_values(&mut out, black_box(&values));
    out
}

library_benchmark_group!(name = hot, benchmarks = [ingest, encode, decode, read, text]);
main!(library_benchmark_groups = hot);
