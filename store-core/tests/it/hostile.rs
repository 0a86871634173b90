//! Input that nobody sends in good faith, and that a broken clock or file produces: no overflow, no endless loop, no
//! quadratic work, and nothing else lost.

use store_core::Timestamp;
use store_core::block::BLOCK_ROWS_MAX;
use store_core::host::BUFFERS_MAX;
use store_core::level::Element;
use store_core::metric::Aggregation;
use store_core::query::{QueryError, Range, SERIES_CELLS};
use store_core::row::Row;
use store_core::stamp::Stamp;
use store_core::store::Store;

use crate::support::{self, CLUSTER, all_points, send};

fn store() -> Store {
    support::store(&[
        ("load", 60, Aggregation::Avg),
        ("pages", 1, Aggregation::Sum),
        ("disk", 3600, Aggregation::None),
    ])
}

fn blocks(store: &Store) -> usize {
    let host = store.host(CLUSTER, "n1").unwrap();
    let state = host.lock();
    state.buffers().iter().map(|buffer| buffer.blocks().len()).sum()
}

fn seal(store: &Store) {
    let host = store.host(CLUSTER, "n1").unwrap();
    let mut state = host.lock();
    let shape = std::sync::Arc::clone(state.shape());
    for buffer in state.buffers_mut() {
        buffer.freeze(&shape);
        buffer.seal_frozen(&shape);
    }
}

#[test]
fn ranges_up_to_the_ends_of_time_are_answered_or_refused() {
    let store = store();
    send(&store, "load,hostname=n1 value=1 -50000\nload,hostname=n1 value=2 1700000000\n");
    let ends =
        [Timestamp::MIN, Timestamp::MIN + 1, -50_000, 0, 1_700_000_000, Timestamp::MAX - 1, Timestamp::MAX];
    for from in ends {
        for to in ends {
            for resolution_s in [0, 60, 600, i64::MAX / 60 * 60, i64::MIN] {
                let asked = Range { from, to, resolution_s, points_max: 1000, cells_max: u64::MAX };
                let answer = support::read(&store, "n1", &[], "load", &asked);
                let touches = from <= 1_700_000_000 && to > -50_000 && from <= to;
                match answer {
                    Err(QueryError::InvalidRange) => assert!(from > to, "{asked:?}"),
                    Err(QueryError::TooManyPoints { points, limit: 1000 }) => {
                        assert!(points > 1000, "{asked:?}")
                    }
                    Ok(Some(series)) => assert!(series.values.is_empty() || touches, "{asked:?}"),
                    other => panic!("{asked:?}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn the_points_limit_is_checked_before_anything_is_allocated() {
    let store = store();
    send(&store, "pages,hostname=n1 value=1 -1000000000\npages,hostname=n1 value=2 99999999999\n");
    let asked = Range { points_max: u64::MAX >> 40, ..support::range(Timestamp::MIN, Timestamp::MAX) };
    let refused = support::read(&store, "n1", &[], "pages", &asked);
    assert_eq!(refused, Err(QueryError::TooManyPoints { points: 101_000_000_000, limit: 16_777_215 }));
}

#[test]
fn times_in_any_unit_and_sign_are_stored_where_they_lie() {
    let store = store();
    let times = ["9223372036854775807", "-9223372036854775808", "99999999999", "-99999999999", "0"];
    let lines: String = times.map(|time| format!("disk,hostname=n1 value=3 {time}\n")).concat();
    assert_eq!(send(&store, &lines).good, 5);
    let seconds = [9_223_372_036, -9_223_372_037, 99_999_999_999, -99_999_999_999, 0];
    for (again, time) in seconds.into_iter().enumerate() {
        let asked = support::range(time, time + 1);
        let series = support::read(&store, "n1", &[], "disk", &asked).unwrap().unwrap();
        assert_eq!(series.values, [3.0], "{time}");
        if again == 2 {
            seal(&store);
        }
    }
}

#[test]
fn rows_that_no_store_of_ours_has_written_are_left_out() {
    let store = store();
    send(&store, "load,hostname=n1 value=1 6000\n");
    let host = store.host(CLUSTER, "n1").unwrap();
    let mut state = host.lock();
    let row = |buffer, anchor, slot, index| Row { buffer, anchor, slot, cells: vec![(index, 9.0)] };
    let rows = [
        row(1, 6000, 6060, 0),
        row(0, 6000, 6060, 1),
        row(0, 6000, 6060, u32::MAX),
        row(0, 6000, 6061, 0),
        row(0, Timestamp::MIN, Timestamp::MAX, 0),
        row(0, 6000, i64::MAX / 60 * 60, 0),
        row(0, -(1 << 62), -(1 << 62), 0),
        Row { cells: Vec::new(), ..row(0, 6000, 6060, 0) },
        row(0, 6000, 6120, 0),
    ];
    host.apply(&mut state, rows.iter().map(Row::view), Stamp(2), 0);
    drop(state);
    assert_eq!(all_points(&store, &[], "load"), [(6000, 1.0), (6120, 9.0)]);
}

#[test]
fn many_late_rows_in_one_message_make_few_blocks_and_each_is_encoded_about_once() {
    let store = store();
    send(&store, "pages,hostname=n1 value=1 1000000\n");
    // Backwards, and every slot twice: the later line of a slot counts.
    let lines: String = (0..60_000)
        .rev()
        .flat_map(|n| {
            [format!("pages,hostname=n1 value=7 {n}\n"), format!("pages,hostname=n1 value={n} {n}\n")]
        })
        .collect();
    let report = send(&store, &lines);
    assert_eq!(report.good, 120_000);
    assert!(blocks(&store) <= 60_000 / BLOCK_ROWS_MAX as usize + 1, "{}", blocks(&store));
    let late = support::read(&store, "n1", &[], "pages", &support::range(0, 60_000)).unwrap().unwrap();
    assert!(late.values.iter().enumerate().all(|(n, value)| *value == n as f64));
    // The same slots again, now all in blocks that are there.
    let lines: String = (0..60_000).rev().map(|n| format!("pages,hostname=n1 value=5 {n}\n")).collect();
    send(&store, &lines);
    assert!(blocks(&store) <= 60_000 / BLOCK_ROWS_MAX as usize + 1, "{}", blocks(&store));
    let patched = support::read(&store, "n1", &[], "pages", &support::range(0, 60_000)).unwrap().unwrap();
    assert!(patched.values.iter().all(|value| *value == 5.0));
}

#[test]
fn a_sender_that_counts_time_backwards_fills_blocks_to_their_end() {
    let store = store();
    for n in (0..3000).rev() {
        send(&store, &format!("pages,hostname=n1 value={n} {}\n", 5000 + n));
    }
    assert!(blocks(&store) <= 3000 / BLOCK_ROWS_MAX as usize + 2, "{}", blocks(&store));
    let expected: Vec<_> = (0..3000).map(|n| (5000 + n, n as f64)).collect();
    assert_eq!(all_points(&store, &[], "pages"), expected);
}

#[test]
fn a_gap_is_missing_values_however_long_it_is() {
    let store = store();
    send(&store, "load,hostname=n1 value=1 0\n");
    send(&store, "load,hostname=n1 value=2 60000000\n");
    let all = Range { points_max: 1_000_001, ..support::range(0, Timestamp::MAX) };
    let series = support::read(&store, "n1", &[], "load", &all).unwrap().unwrap();
    assert_eq!(series.values.len(), 1_000_001);
    assert_eq!(support::points(&series), [(0, 1.0), (60_000_000, 2.0)]);
    let inside = support::read(&store, "n1", &[], "load", &support::range(600, 1200)).unwrap().unwrap();
    assert_eq!((inside.from, inside.values.len(), support::points(&inside).len()), (600, 10, 0));
}

#[test]
fn phases_beyond_the_last_buffer_are_found_less_than_a_step_away() {
    let store = store();
    let phases = 2000_usize;
    // Every series has its own second, three rounds of samples.
    for round in 0..3 {
        let lines: String = (0..phases)
            .map(|n| {
                format!("disk,hostname=n1,type=core,type-id={n} value={n} {}\n", round * 3600 + n as i64)
            })
            .collect();
        assert_eq!(send(&store, &lines).good, phases as u64);
    }
    let host = store.host(CLUSTER, "n1").unwrap();
    assert_eq!(host.lock().shape().buffers().len(), BUFFERS_MAX);
    for n in [0, 1, 700, BUFFERS_MAX - 1, BUFFERS_MAX, phases - 1] {
        let points = all_points(&store, &[&format!("core{n}")], "disk");
        assert_eq!(points.len(), 3, "core{n}");
        for (round, (time, value)) in points.into_iter().enumerate() {
            assert_eq!(value, n as f64);
            let off = time - (round * 3600 + n) as i64;
            assert!(if n < BUFFERS_MAX { off == 0 } else { off.abs() <= 1800 }, "core{n}: {off} s");
        }
    }
}

#[test]
fn a_block_whose_rows_are_off_its_grid_or_beyond_all_times_is_refused() {
    use store_core::block::HeaderPlace::Front;
    use store_core::block::{BlockError, BlockHeader};
    use store_core::grid::Grid;
    let store = store();
    send(&store, "load,hostname=n1 value=1 6000\n");
    seal(&store);
    let host = store.host(CLUSTER, "n1").unwrap();
    let good = *host.lock().buffers()[0].blocks()[0].block.header();
    assert_eq!(BlockHeader::decode(&good.encode(7, Front), 7), Ok((good, Front)));
    let grid = |anchor| Grid { anchor, ..good.grid };
    for bad in [
        BlockHeader { base: 6001, ..good },
        BlockHeader { base: Timestamp::MAX / 60 * 60, grid: grid(0), ..good },
        BlockHeader { base: 0, grid: grid(Timestamp::MIN), ..good },
    ] {
        assert_eq!(BlockHeader::decode(&bad.encode(7, Front), 7), Err(BlockError::Field), "{bad:?}");
    }
}

/// A store of one host with so many hardware threads, each with two samples.
fn threads(count: usize) -> Store {
    let store = store();
    let line = |n: usize| format!("load,hostname=n1,type=hwthread,type-id={n} value=1 60\n");
    let lines: String = (0..count).map(line).collect();
    send(&store, &(lines.clone() + &lines.replace(" 60\n", " 6000\n")));
    store
}

#[test]
fn what_an_aggregate_reads_is_counted_and_refused_before_it_is_read() {
    let store = threads(100);
    let read = |cells_max: u64| {
        let range = Range { cells_max, ..support::range(0, Timestamp::MAX) };
        support::read(&store, "n1", &[], "load", &range)
    };
    // 100 series of 100 steps; by themselves they count as more.
    let series = read(u64::MAX).unwrap().unwrap();
    assert_eq!((series.points_read, series.cells_read), (100, 10_000));
    let enough = 100 * SERIES_CELLS;
    assert!(read(enough).is_ok());
    assert_eq!(read(enough - 1), Err(QueryError::TooManyCells { limit: enough - 1 }));
    // A gap that is long makes a series long.
    send(&store, &format!("load,hostname=n1,type=hwthread,type-id=7 value=1 {}\n", 60 * 5000));
    assert_eq!(read(u64::MAX).unwrap().unwrap().cells_read, 500_000);
    assert_eq!(read(499_999), Err(QueryError::TooManyCells { limit: 499_999 }));
}

#[test]
fn names_that_are_asked_for_many_times_end_a_selection_soon() {
    let store = threads(100);
    let cells_max = 64 << 20;
    let range = Range { cells_max, ..support::range(0, Timestamp::MAX) };
    let group = |name: &str| Element::Group(vec![name.into(); 20_000]);
    let refused = Err(QueryError::TooManyCells { limit: cells_max });
    // Each of a thousand million pairs, whether there is one or not.
    for selector in [vec![group("hwthread1"), group("core1")], vec![group("hwthread1"), group("")]] {
        assert_eq!(support::read(&store, "n1", &selector, "load", &range), refused);
    }
    // And where all of them are there.
    let again: Vec<Box<str>> = (0..100).flat_map(|n| vec![format!("hwthread{n}").into(); 1000]).collect();
    assert_eq!(support::read(&store, "n1", &[Element::Group(again)], "load", &range), refused);
    let twice = [Element::Group(vec!["hwthread1".into(); 2])];
    let series = support::read(&store, "n1", &twice, "load", &range).unwrap().unwrap();
    assert_eq!((series.values[0], series.cells_read), (1.0, 200));
}
