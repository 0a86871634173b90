//! Values of other formats: off the grid, of several runs, over several restarts, and such as no store has written.

use std::sync::Arc;

use proptest::prelude::*;
use store_core::Timestamp;
use store_core::block::BlockState;
use store_core::buffer::Buffer;
use store_core::import::{Import, ImportRun};
use store_core::journal::Unlogged;
use store_core::metric::Aggregation;
use store_core::query::Reader;
use store_core::shape::Shape;
use store_core::stamp::Stamp;
use store_core::store::Store;

use crate::support::{self, CLUSTER, all_points, send};

fn store() -> Store {
    support::store(&[("load", 60, Aggregation::Avg), ("temp", 10, Aggregation::Avg)])
}

fn run(store: &Store, path: &[&str], metric: &str, base: Timestamp, values: &[f32]) -> ImportRun {
    let metric = store.catalog().id(metric).unwrap();
    ImportRun {
        path: path.iter().map(|&name| name.into()).collect(),
        metric,
        base,
        frequency_s: store.catalog().get(metric).unwrap().frequency_s.get(),
        values: values.to_vec(),
    }
}

fn import(store: &Store, runs: impl IntoIterator<Item = ImportRun>, oldest: Timestamp) -> u64 {
    let host = store.host_or_create(CLUSTER, "n1").unwrap();
    let mut import = Import::default();
    runs.into_iter().for_each(|run| import.push(run));
    let taken = import.build(store, &mut host.lock(), oldest);
    store.add_series(host.lock().shape().columns().len() - store.series());
    taken
}

/// What a dump writes of a series.
fn dumped(store: &Store, metric: &str, from: Timestamp, to: Timestamp) -> Option<(Timestamp, Vec<f32>)> {
    let host = store.host(CLUSTER, "n1").unwrap();
    let state = host.lock();
    let id = store.catalog().id(metric).unwrap();
    let frequency_s = store.catalog().get(id).unwrap().frequency_s.get();
    Reader::new(&state).run(state.shape().root().columns(id), frequency_s, from, to)
}

fn counted(range: std::ops::Range<u16>) -> Vec<f32> {
    range.map(f32::from).collect()
}

#[test]
fn runs_that_begin_off_the_grid_go_to_the_slots_of_the_oldest_and_no_restart_moves_them() {
    // A checkpoint at an odd second: the second run of the original began 17 s behind its step.
    let (first, second) = (1_700_000_000, 1_700_000_000 + 100 * 60 + 17);
    let mut runs = vec![(second, counted(100..150)), (first, counted(0..100))];
    let mut answers = Vec::new();
    for _ in 0..3 {
        let restarted = store();
        import(&restarted, runs.iter().map(|(base, values)| run(&restarted, &[], "load", *base, values)), 0);
        answers.push(all_points(&restarted, &[], "load"));
        // The next start finds what this one dumps, in files that are cut somewhere.
        let cut = first + 77 * 60 + 5;
        let dump = |from, to| dumped(&restarted, "load", from, to).unwrap();
        runs = vec![dump(Timestamp::MIN, cut), dump(cut, Timestamp::MAX)];
    }
    let expected: Vec<_> = (0..150).map(|slot| (first + slot * 60, slot as f64)).collect();
    assert!(answers.iter().all(|answer| *answer == expected), "{answers:?}");
}

#[test]
fn samples_that_come_after_an_import_go_to_its_slots_and_above_its_values() {
    let store = store();
    let runs = [run(&store, &[], "load", 6000, &[1.0, 2.0, f32::NAN, 4.0])];
    assert_eq!(import(&store, runs, 0), 3);
    send(
        &store,
        "load,hostname=n1 value=20 6083\nload,hostname=n1 value=30 6101\nload,hostname=n1 value=50 6260\n",
    );
    let expected = [(6000, 1.0), (6060, 20.0), (6120, 30.0), (6180, 4.0), (6240, 50.0)];
    assert_eq!(all_points(&store, &[], "load"), expected);
    let host = store.host(CLUSTER, "n1").unwrap();
    let state = host.lock();
    let states: Vec<_> = state.buffers()[0].blocks().iter().map(|held| held.state).collect();
    assert_eq!(
        states,
        [BlockState::Unsaved { first: Stamp(1) }],
        "the imported block and what was written to it"
    );
}

#[test]
fn of_two_runs_the_later_pushed_counts_but_its_gaps_do_not() {
    let store = store();
    let older = run(&store, &[], "load", 6000, &[1.0, 2.0, 3.0, 4.0]);
    let newer = run(&store, &[], "load", 6060, &[f32::NAN, 30.0]);
    import(&store, [older, newer], 0);
    assert_eq!(all_points(&store, &[], "load"), [(6000, 1.0), (6060, 2.0), (6120, 30.0), (6180, 4.0)]);
}

#[test]
fn values_older_than_wanted_are_left_out() {
    let store = store();
    let runs =
        [run(&store, &[], "load", 6000, &counted(0..10)), run(&store, &["socket0"], "load", 0, &[1.0])];
    assert_eq!(import(&store, runs, 6121), 7);
    assert_eq!(all_points(&store, &[], "load")[0], (6180, 3.0));
    let host = store.host(CLUSTER, "n1").unwrap();
    assert_eq!(host.lock().shape().columns().len(), 1, "a series of which nothing is left is none");
}

#[test]
fn a_run_longer_than_an_anchor_reads_as_if_its_values_had_come_one_by_one() {
    let values: Vec<f32> =
        (0..3000_u16).map(|n| if n % 700 > 600 { f32::NAN } else { f32::from(n) }).collect();
    let (imported, sent) = (store(), store());
    import(&imported, [run(&imported, &[], "load", -40_007, &values)], Timestamp::MIN);
    for (slot, value) in values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
        send(&sent, &format!("load,hostname=n1 value={value} {}\n", slot as i64 * 60 - 40_007));
    }
    assert_eq!(all_points(&imported, &[], "load"), all_points(&sent, &[], "load"));
    assert_eq!(
        all_points(&imported, &[], "load").len(),
        values.iter().filter(|value| !value.is_nan()).count()
    );
}

#[test]
fn rows_of_the_log_lie_above_what_is_imported_wherever_the_runs_end() {
    let store = store();
    let runs = (0..3).map(|part| run(&store, &[], "temp", 1000 + part * 1000, &counted(0..100)));
    import(&store, runs.collect::<Vec<_>>(), 0);
    let lines: String =
        (900..4200).step_by(10).map(|time| format!("temp,hostname=n1 value=-1 {time}\n")).collect();
    let report = support::send_under(&store, &lines, &support::ANY_TIME, &mut Unlogged::default());
    assert_eq!(report.good, 330);
    let expected: Vec<_> = (900..4200).step_by(10).map(|time| (time, -1.0)).collect();
    assert_eq!(all_points(&store, &[], "temp"), expected);
}

#[test]
fn runs_at_the_ends_of_time_are_refused_or_taken_and_never_overflow() {
    for base in [Timestamp::MIN, Timestamp::MIN + 1, -(1 << 61), -(1 << 59), 1 << 59, 1 << 61, Timestamp::MAX]
    {
        let store = store();
        let runs = [run(&store, &[], "temp", base, &[1.0; 600]), run(&store, &[], "temp", 0, &[2.0; 600])];
        let taken = import(&store, runs, Timestamp::MIN);
        assert_eq!(taken, if base.abs_diff(0) <= 1 << 60 { 1200 } else { 600 }, "{base}");
        let range = support::range(-100, 100);
        let near = support::read(&store, "n1", &[], "temp", &range).unwrap().unwrap();
        assert_eq!(near.values.iter().filter(|value| **value == 2.0).count(), 10, "{base}");
        dumped(&store, "temp", -1000, 1000).unwrap();
    }
}

#[test]
fn names_that_a_shape_cannot_hold_cost_their_own_series_only() {
    let store = store();
    let (long, deep) = ("x".repeat(70_000), ["level"; 17]);
    let runs = [&[&*long][..], &deep, &["socket0"]].map(|path| run(&store, path, "load", 6000, &[1.0]));
    assert_eq!(import(&store, runs, 0), 1);
    let host = store.host(CLUSTER, "n1").unwrap();
    let encoded = host.lock().shape().encode(store.catalog());
    let shape = Shape::decode(&encoded, |name, s| store.metric_from_file(name, s)).unwrap();
    assert_eq!(shape.hash(), host.lock().shape().hash());
}

#[test]
fn thousands_of_series_each_at_another_time_need_no_more_than_their_blocks() {
    let store = store();
    let runs = (0..2000).map(|number: i64| {
        run(&store, &[&format!("core{number}")], "temp", number * 1_000_000, &[number as f32])
    });
    assert_eq!(import(&store, runs.collect::<Vec<_>>(), Timestamp::MIN), 2000);
    let host = store.host(CLUSTER, "n1").unwrap();
    let blocks = |buffer: &Buffer| buffer.blocks().iter().map(|held| held.block.bytes()).sum::<usize>();
    let bytes: usize = host.lock().buffers().iter().map(blocks).sum();
    // An entry of eight bytes for each column up to the last one that has a value.
    assert!(bytes < 2000 * 2000 * 8 / 2 + 2000 * 2000, "{bytes}");
    assert_eq!(all_points(&store, &["core1999"], "temp"), [(1_999_000_000, 1999.0)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: support::cases(64), ..ProptestConfig::default() })]

    /// Runs of a series that overlap or not, at any seconds: the oldest sets the slots, the later pushed counts.
    #[test]
    fn an_import_is_what_its_runs_say_slot_by_slot(
        runs in prop::collection::vec((0..200_000_i64, prop::collection::vec(prop::option::of(any::<i8>()), 1..400)), 1..6),
        sealed_too in any::<bool>(),
    ) {
        let store = store();
        let imports: Vec<ImportRun> = runs
            .iter()
            .map(|(base, values)| {
                let values: Vec<f32> = values.iter().map(|value| value.map_or(f32::NAN, f32::from)).collect();
                run(&store, &[], "load", *base, &values)
            })
            .collect();
        let filled = imports.iter().filter(|run| run.values.iter().any(|value| !value.is_nan()));
        let Some(phase) = filled.map(|run| run.base).min() else { return Ok(()) };
        let mut expected = std::collections::BTreeMap::new();
        for run in &imports {
            for (row, value) in run.values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
                let time = run.base + row as i64 * 60;
                expected.insert(phase + (time - phase + 30).div_euclid(60) * 60, f64::from(*value));
            }
        }
        import(&store, imports, Timestamp::MIN);
        if sealed_too {
            // As a roll does: imported blocks that overlap nothing become long ones.
            let host = store.host(CLUSTER, "n1").unwrap();
            let mut state = host.lock();
            let shape = Arc::clone(state.shape());
            let buffer = &mut state.buffers_mut()[0];
            let blocks: Vec<_> = buffer.blocks().iter().map(|held| Arc::clone(&held.block)).collect();
            buffer.retain_blocks(|_| false);
            for block in store_core::merge::merge(&blocks, &shape, 1) {
                buffer.insert(block, BlockState::Saved);
            }
        }
        let points: Vec<_> = expected.into_iter().collect();
        prop_assert_eq!(all_points(&store, &[], "load"), points);
    }
}
