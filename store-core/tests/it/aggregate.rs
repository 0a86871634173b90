//! Several components as one series: uneven ones, ones that cannot be combined, and in whatever order they are asked.

use proptest::prelude::*;
use store_core::Timestamp;
use store_core::level::Element;
use store_core::metric::Aggregation;
use store_core::query::{QueryError, Series};
use store_core::store::Store;

use crate::support::{self, exact, range, send};

fn store() -> Store {
    support::store(&[
        ("sum", 10, Aggregation::Sum),
        ("avg", 10, Aggregation::Avg),
        ("none", 10, Aggregation::None),
    ])
}

fn line(metric: &str, socket: &str, time: Timestamp, value: f64) -> String {
    format!("{metric},hostname=n1,type=socket,type-id={socket} value={value} {time}\n")
}

fn group(names: &[&str]) -> Vec<Element> {
    vec![Element::Group(names.iter().map(|&name| name.into()).collect())]
}

fn all(store: &Store, selector: &[Element], metric: &str) -> Result<Option<Series>, QueryError> {
    support::read(store, "n1", selector, metric, &range(Timestamp::MIN, Timestamp::MAX))
}

/// The values as text: a missing one is not equal to itself.
fn values(store: &Store, selector: &[Element], metric: &str) -> String {
    format!("{:?}", all(store, selector, metric).unwrap().unwrap().values)
}

#[test]
fn a_slot_that_one_component_lacks_is_missing_in_the_sum_and_the_range_is_that_of_all() {
    let store = store();
    for (socket, from, to) in [("0", 100, 150), ("1", 120, 170)] {
        for time in (from..to).step_by(10) {
            send(&store, &line("sum", socket, time, 1.5));
        }
    }
    let sum = all(&store, &[], "sum").unwrap().unwrap();
    assert_eq!((sum.from, sum.to), (100, 170));
    assert_eq!(values(&store, &[], "sum"), "[NaN, NaN, 3.0, 3.0, 3.0, NaN, NaN]");
    assert_eq!(values(&store, &exact(&["socket0"]), "sum"), "[1.5, 1.5, 1.5, 1.5, 1.5]");
}

#[test]
fn an_average_counts_the_components_that_have_a_sample_and_no_others() {
    let store = store();
    for (socket, value) in [("0", 1.0), ("1", 2.0), ("2", 6.0)] {
        send(&store, &line("avg", socket, 100, value));
    }
    assert_eq!(values(&store, &[], "avg"), "[3.0]");
    assert_eq!(values(&store, &group(&["socket0", "socket2"]), "avg"), "[3.5]");
    assert_eq!(values(&store, &group(&["socket0", "socket9"]), "avg"), "[1.0]");
    let host = store.host(support::CLUSTER, "n1").unwrap();
    let mut state = host.lock();
    state.raise_floors(&[(2, 101)], store_core::stamp::Stamp(9));
    drop(state);
    assert_eq!(values(&store, &[], "avg"), "[1.5]", "socket2 is freed");
    assert_eq!(all(&store, &exact(&["socket2"]), "avg"), Ok(None));
}

#[test]
fn one_component_alone_is_not_combined_and_keeps_every_bit() {
    let store = store();
    send(&store, &line("avg", "0", 100, 0.1));
    send(&store, &line("none", "0", 100, -0.0));
    let bits = |metric: &str| all(&store, &[], metric).unwrap().unwrap().values[0].to_bits();
    assert_eq!(bits("avg"), f64::from(0.1_f32).to_bits());
    assert_eq!(bits("none"), (-0.0_f64).to_bits());
}

#[test]
fn several_components_of_a_metric_without_aggregation_are_an_error() {
    let store = store();
    send(&store, &line("none", "0", 100, 1.0));
    assert_eq!(values(&store, &[], "none"), "[1.0]");
    send(&store, &line("none", "1", 100, 2.0));
    assert_eq!(all(&store, &[], "none"), Err(QueryError::InvalidAggregation));
    assert_eq!(all(&store, &[Element::Any], "none"), Err(QueryError::InvalidAggregation));
    assert_eq!(values(&store, &exact(&["socket1"]), "none"), "[2.0]");
}

#[test]
fn sums_are_calculated_with_more_digits_than_the_values_have() {
    let store = store();
    for (socket, value) in [("0", 16_777_216.0), ("1", 1.0), ("2", 1.0)] {
        send(&store, &line("sum", socket, 100, value));
    }
    assert_eq!(values(&store, &[], "sum"), "[16777218.0]");
}

#[test]
fn the_order_of_the_components_asked_for_does_not_change_a_bit() {
    let store = store();
    for (socket, value) in [("0", 1e16), ("1", 0.3), ("2", -1e16), ("3", 7e-3)] {
        for time in [100, 110, 140] {
            send(&store, &line("avg", socket, time, value));
        }
    }
    let names = ["socket0", "socket1", "socket2", "socket3"];
    let expected = values(&store, &group(&names), "avg");
    for turn in 0..4 {
        let mut turned = names;
        turned.rotate_left(turn);
        assert_eq!(values(&store, &group(&turned), "avg"), expected);
        turned.reverse();
        assert_eq!(values(&store, &group(&turned), "avg"), expected);
    }
    assert_eq!(values(&store, &[Element::Any], "avg"), expected);
}

#[test]
fn a_component_that_is_named_twice_counts_twice() {
    let store = store();
    for (socket, value) in [("0", 1.0), ("1", 4.0)] {
        send(&store, &line("sum", socket, 100, value));
        send(&store, &line("avg", socket, 100, value));
    }
    for names in [["socket0", "socket1", "socket0"], ["socket1", "socket0", "socket0"]] {
        assert_eq!(values(&store, &group(&names), "sum"), "[6.0]");
        assert_eq!(values(&store, &group(&names), "avg"), "[2.0]");
    }
}

#[test]
fn components_that_are_sampled_at_other_moments_meet_in_the_slots_of_the_answer() {
    let store = store();
    for time in (100..140).step_by(10) {
        send(&store, &line("sum", "0", time, 1.0));
        send(&store, &line("sum", "1", time + 3, 10.0));
        send(&store, &line("sum", "2", time + 8, 100.0));
    }
    // Steps at 100, 110, …: socket1's slot 103 has begun by 100, socket2's slot 108 only by 103.
    assert_eq!(values(&store, &[], "sum"), "[NaN, 111.0, 111.0, 111.0, NaN]");
    let from_5 = support::read(&store, "n1", &[], "sum", &range(105, 135)).unwrap().unwrap();
    assert_eq!((from_5.from, from_5.values), (105, vec![111.0; 3]));
}

#[test]
fn a_level_that_holds_the_metric_answers_for_itself() {
    let store = store();
    send(&store, "sum,hostname=n1 value=5 100\n");
    send(&store, &line("sum", "0", 100, 1.0));
    assert_eq!(values(&store, &[], "sum"), "[5.0]");
    assert_eq!(values(&store, &[Element::Any], "sum"), "[1.0]");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: support::cases(64), ..ProptestConfig::default() })]

    /// However the rows are cut into blocks and heads, freed, or late: a sum is that of the series one by one.
    #[test]
    fn a_sum_is_that_of_its_series_slot_by_slot(
        samples in prop::collection::vec((0..4_u8, 0..300_i64, -1e6..1e6_f32), 1..300),
        sealed_after in prop::collection::vec(any::<bool>(), 300),
        floor in prop::option::of(0..3000_i64),
        (first, rows) in (0..350_i64, 1..300_i64),
    ) {
        let store = store();
        for ((socket, slot, value), seal) in samples.iter().zip(&sealed_after) {
            send(&store, &line("sum", &socket.to_string(), 1000 + slot * 10, f64::from(*value)));
            if *seal && slot % 7 == 0 {
                let host = store.host(support::CLUSTER, "n1").unwrap();
                let mut state = host.lock();
                let shape = std::sync::Arc::clone(state.shape());
                let buffer = &mut state.buffers_mut()[0];
                buffer.freeze(&shape);
                buffer.seal_frozen(&shape);
            }
        }
        if let Some(floor) = floor {
            let host = store.host(support::CLUSTER, "n1").unwrap();
            host.lock().raise_floors(&[(0, 1000 + floor)], store_core::stamp::Stamp(9));
        }
        let asked = range(500 + first * 10, 500 + (first + rows) * 10);
        let Some(sum) = support::read(&store, "n1", &[], "sum", &asked).unwrap() else { return Ok(()) };
        let (sum_from, mut expected) = (sum.from, vec![-0.0_f64; sum.values.len()]);
        let (mut from, mut to) = (Timestamp::MAX, Timestamp::MIN);
        for socket in 0..4 {
            // One that is freed altogether is none.
            let alone = exact(&[&format!("socket{socket}")]);
            if all(&store, &alone, "sum").unwrap().is_none() {
                continue;
            }
            let one = support::read(&store, "n1", &alone, "sum", &asked).unwrap().unwrap();
            // One that begins behind the range has no values, and ends where it begins.
            (from, to) = (from.min(one.from), to.max(one.to.min(asked.to)));
            for (row, sum) in expected.iter_mut().enumerate() {
                let value = usize::try_from((sum_from + row as i64 * 10 - one.from).div_euclid(10)).ok();
                *sum += value.and_then(|row| one.values.get(row)).copied().unwrap_or(f64::NAN);
            }
        }
        let bits = |values: &[f64]| values.iter().map(|v| if v.is_nan() { 0 } else { v.to_bits() }).collect::<Vec<_>>();
        prop_assert_eq!(bits(&sum.values), bits(&expected));
        prop_assert_eq!((sum.from, sum.to), (from, to.max(from)));
    }
}
