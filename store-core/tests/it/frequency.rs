//! A configured frequency that changed: what was stored before keeps its own, and answers are on the new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use store_core::Timestamp;
use store_core::block::BlockState;
use store_core::buffer::Relog;
use store_core::health;
use store_core::metric::Aggregation;
use store_core::query::Reader;
use store_core::row::Row;
use store_core::shape::Shape;
use store_core::stamp::Stamp;
use store_core::store::Store;

use crate::support::{self, CLUSTER, all_points, points, send};

fn store(frequency_s: u32) -> Store {
    support::store(&[("load", frequency_s, Aggregation::Avg), ("other", frequency_s, Aggregation::Sum)])
}

/// A store with another frequency that found what `old` has saved, and the rows that are only in its log.
fn restarted(old: &Store, frequency_s: u32, sealed: bool) -> Store {
    let new = store(frequency_s);
    let (before, host) = (old.host(CLUSTER, "n1").unwrap(), new.host_or_create(CLUSTER, "n1").unwrap());
    let (mut before, mut state) = (before.lock(), host.lock());
    let encoded = before.shape().encode(old.catalog());
    let shape = Shape::decode(&encoded, |name, s| new.metric_from_file(name, s)).unwrap();
    state.set_shape(new.intern(shape));
    let shape = Arc::clone(before.shape());
    for (number, buffer) in before.buffers_mut().iter_mut().enumerate() {
        if sealed {
            buffer.freeze(&shape);
            buffer.seal_frozen(&shape);
            for held in buffer.blocks() {
                state.buffers_mut()[number].insert(Arc::clone(&held.block), BlockState::Saved);
            }
        } else {
            let mut rows: Vec<Row> = Vec::new();
            let mut keep = |of_piece: &[Row]| {
                rows.extend_from_slice(of_piece);
                Stamp::MAX
            };
            let (all, mut progress) = (Stamp::ZERO..Stamp::MAX, Relog::default());
            while buffer.relog(&all, &mut progress, &mut keep) {}
            host.apply(&mut state, rows.iter().map(Row::view), Stamp(1), 0);
        }
    }
    drop(state);
    new
}

fn lines(metric: &str, samples: &[(Timestamp, f32)]) -> String {
    samples.iter().map(|(time, value)| format!("{metric},hostname=n1 value={value} {time}\n")).collect()
}

#[test]
fn old_values_stand_beside_new_ones_in_the_same_block() {
    let old = store(10);
    send(&old, &lines("load", &[(1000, 1.0), (1010, 2.0), (1060, 3.0)]));
    let new = restarted(&old, 60, true);
    // The other metric makes the rows of the block; load comes later and is missing in the first of them.
    send(&new, &lines("other", &[(1000, 7.0), (1060, 7.0), (1120, 7.0), (1180, 7.0)]));
    send(&new, &lines("load", &[(1180, 5.0)]));
    let expected = [(1000, 2.0), (1060, 3.0), (1180, 5.0)];
    assert_eq!(all_points(&new, &[], "load"), expected);
    let host = new.host(CLUSTER, "n1").unwrap();
    let mut state = host.lock();
    let shape = Arc::clone(state.shape());
    for buffer in state.buffers_mut() {
        buffer.freeze(&shape);
        buffer.seal_frozen(&shape);
    }
    drop(state);
    assert_eq!(all_points(&new, &[], "load"), expected, "sealed");
}

#[test]
fn where_both_frequencies_have_a_value_the_configured_one_counts_also_after_changing_back() {
    let first = store(60);
    send(&first, &lines("load", &[(6000, 1.0), (6060, 2.0)]));
    let second = restarted(&first, 10, true);
    send(&second, &lines("load", &[(6060, 20.0), (6070, 21.0)]));
    assert_eq!(all_points(&second, &[], "load"), [(6000, 1.0), (6060, 20.0), (6070, 21.0)]);
    let third = restarted(&second, 60, true);
    send(&third, &lines("load", &[(6120, 3.0)]));
    // The series of 60 s goes on where it stood: its 2.0 counts again, though its column is the older one.
    assert_eq!(all_points(&third, &[], "load"), [(6000, 1.0), (6060, 2.0), (6120, 3.0)]);
    let host = third.host(CLUSTER, "n1").unwrap();
    assert_eq!(host.lock().shape().columns().len(), 2);
}

#[test]
fn a_series_is_as_healthy_as_its_newest_samples_whatever_their_frequency() {
    let old = store(10);
    send(&old, &lines("load", &[(1000, 1.0)]));
    let new = restarted(&old, 60, true);
    send(&new, &lines("load", &[(9000, 1.0)]));
    let host = new.host(CLUSTER, "n1").unwrap();
    let metrics = ["load".to_owned()];
    let degraded = |now| health::of_host(&host.lock(), new.catalog(), &metrics, now).degraded.len();
    assert_eq!((degraded(9000 + 30 + 300), degraded(9000 + 30 + 301)), (0, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: support::cases(256), ..ProptestConfig::default() })]

    /// By the rule: answers are on the configured grid, old values in the slot that contains them, and of several
    /// in one slot the newest.
    #[test]
    fn old_values_are_in_the_slots_that_contain_them(
        (old_step, new_step) in prop_oneof![Just((10_i64, 60_i64)), Just((60, 10)), Just((15, 10)), Just((7, 60)), Just((60, 7))],
        olds in prop::collection::btree_map(0..300_i64, any::<i8>(), 1..60),
        news in prop::collection::btree_map(0..300_i64, any::<i8>(), 0..60),
        gap in -40..40_i64,
        phase in 0..60_i64,
        sealed in any::<bool>(),
        from in 0..2000_i64,
    ) {
        let base = 1_700_000_000;
        let olds: Vec<_> =
            olds.iter().map(|(slot, value)| (base + slot * old_step, f32::from(*value))).collect();
        let begin = olds[olds.len() - 1].0 + gap * new_step + phase;
        let news: Vec<_> = news.iter().map(|(slot, value)| (begin + slot * new_step, f32::from(*value))).collect();
        let old = store(old_step as u32);
        send(&old, &lines("load", &olds));
        let new = restarted(&old, new_step as u32, sealed);
        send(&new, &lines("load", &news));

        let anchor = news.first().map_or(olds[0].0, |(time, _)| *time);
        let slot = |time: i64| anchor + (time - anchor + new_step / 2).div_euclid(new_step) * new_step;
        let mut expected = BTreeMap::new();
        for (time, value) in olds.iter().chain(&news) {
            expected.insert(slot(*time), f64::from(*value));
        }
        let all: Vec<_> = expected.iter().map(|(time, value)| (*time, *value)).collect();
        prop_assert_eq!(all_points(&new, &[], "load"), all.clone());

        // From any second on, each step takes the slot that contains it.
        let first = *expected.keys().next().unwrap();
        let asked = support::range(first + from, first + from + 50 * new_step);
        let series = support::read(&new, "n1", &[], "load", &asked).unwrap().unwrap();
        prop_assert_eq!(series.from, asked.from);
        let steps = (asked.from..asked.to).step_by(new_step as usize);
        let stepped: Vec<_> =
            steps.filter_map(|time| Some((time, *expected.get(&slot(time))?))).collect();
        prop_assert_eq!(points(&series), stepped);

        // What a dump writes is the same.
        let host = new.host(CLUSTER, "n1").unwrap();
        let state = host.lock();
        let id = new.catalog().id("load").unwrap();
        let columns = state.shape().root().columns(id);
        let (begun, values) =
            Reader::new(&state).run(columns, new_step as u32, Timestamp::MIN, Timestamp::MAX).unwrap();
        let dumped: Vec<_> = (begun..)
            .step_by(new_step as usize)
            .zip(values)
            .filter(|(_, value)| !value.is_nan())
            .map(|(time, value)| (time, f64::from(value)))
            .collect();
        prop_assert_eq!(dumped, all);
    }
}
