//! What is logged again: piece by piece, and no value behind one that came after it. And the room that a message asks for.

use std::ops::Range;
use std::sync::Arc;

use store_core::Timestamp;
use store_core::block::BlockState;
use store_core::buffer::Relog;
use store_core::host::{Host, HostState};
use store_core::journal::Journal;
use store_core::merge::Table;
use store_core::metric::Aggregation;
use store_core::record::{self, RawSample, Record};
use store_core::row::Row;
use store_core::stamp::Stamp;
use store_core::store::Store;

use crate::support::{ANY_TIME, CLUSTER, send, send_under, store};

const ALL: Range<Stamp> = Stamp::ZERO..Stamp(1000);

fn host_of(store: &Store) -> Arc<Host> {
    store.host(CLUSTER, "h").unwrap()
}

/// Puts a block of one column there, with the same value in all rows.
fn put(state: &mut HostState, rows: Range<i64>, value: f32, as_of: u64, block_state: BlockState) {
    let shape = Arc::clone(state.shape());
    let buffer = &mut state.buffers_mut()[0];
    let grid = buffer.grid(0).unwrap();
    let mut table = Table::new(grid, 0, rows.start * 10, (rows.end - rows.start) as u32, 1);
    for row in rows {
        table.write(row * 10, 0, value);
    }
    buffer.insert(Arc::new(table.seal(shape, Stamp(as_of))), block_state);
}

/// Slot and value of all cells of column 0 that are logged again, and their stamps from 500 on.
fn relogged(state: &mut HostState) -> Vec<(Timestamp, f32)> {
    let (mut logged, mut progress, mut next) = (Vec::new(), Relog::default(), 500);
    let mut visit = |rows: &[Row]| {
        logged.extend(rows.iter().flat_map(|row| row.cells.iter().map(|cell| (row.slot, cell.1))));
        next += 1;
        Stamp(next)
    };
    while state.buffers_mut()[0].relog(&(Stamp::ZERO..Stamp(500)), &mut progress, &mut visit) {}
    logged
}

#[test]
fn of_blocks_that_overlap_each_is_logged_again_where_it_wins_and_wins_there_afterwards() {
    let store = store(&[("load", 10, Aggregation::Avg)]);
    send(&store, "load,hostname=h value=0 0\n");
    let host = host_of(&store);
    let mut state = host.lock();
    state.drop_before(11);
    state.buffers_mut()[0].note_anchor(0);
    put(&mut state, 100..120, 1.0, 5, BlockState::Unsaved { first: Stamp(3) });
    put(&mut state, 110..115, 2.0, 9, BlockState::Saved);
    put(&mut state, 118..130, 3.0, 7, BlockState::Unsaved { first: Stamp(6) });
    let logged = relogged(&mut state);
    let expected = |slots: Range<i64>, value| slots.map(move |slot| (slot * 10, value));
    let mut sorted = logged.clone();
    sorted.sort_by_key(|(slot, _)| *slot);
    let all: Vec<_> =
        expected(100..110, 1.0).chain(expected(115..118, 1.0)).chain(expected(118..130, 3.0)).collect();
    assert_eq!(sorted, all, "a kill behind any of these records must not bring back what was overwritten");
    let buffer = &state.buffers()[0];
    for slot in 110..115 {
        let winner = &buffer.covering(0, slot * 10).unwrap().block;
        assert_eq!(winner.column(0)[0], 2.0, "slot {slot}");
    }
    assert!(state.safe() > Stamp(500), "all of it stands in the new records");
}

#[test]
fn a_wide_head_is_logged_again_in_pieces_and_keeps_the_log_for_what_is_written_between_them() {
    let columns = 5000;
    let store = store(&[("load", 10, Aggregation::Avg)]);
    let lines = |time: i64, columns: Range<u32>| -> String {
        let line = |core| format!("load,hostname=h,type=core,type-id={core} value={core} {time}\n");
        columns.map(line).collect()
    };
    // The first columns have nothing in this head but their names.
    for row in 0..40 {
        send(&store, &lines(1000 + row * 10, 4000..columns));
    }
    send(&store, &lines(500, 0..4000));
    let host = host_of(&store);
    let (mut progress, mut next, mut pieces, mut cells) = (Vec::<Relog>::new(), 100, 0, 0);
    loop {
        let mut state = host.lock();
        progress.resize_with(state.buffers().len(), Relog::default);
        let shape = Arc::clone(state.shape());
        let mut more = false;
        for (buffer, progress) in state.buffers_mut().iter_mut().zip(&mut progress) {
            more |= buffer.relog(&(Stamp::ZERO..Stamp(100)), progress, |rows| {
                let here: usize = rows.iter().map(|row| row.cells.len()).sum();
                assert!(here <= 1 << 17, "{here} cells under one hold of the mutex");
                (next, pieces, cells) = (next + 1, pieces + 1, cells + here);
                Stamp(next)
            });
        }
        if !more {
            break;
        }
        // Somebody writes the first column of the last row, of which the pieces before had nothing.
        next += 1;
        let row = Row {
            buffer: 0,
            anchor: state.buffers()[0].grid(1000).unwrap().anchor,
            slot: 1390,
            cells: vec![(0, 7.0)],
        };
        host.apply(&mut state, [row.view()], Stamp(next), 0);
        assert_eq!(shape.hash(), state.shape().hash());
        assert!(state.safe() <= Stamp(next), "the log is needed for what was just written");
    }
    assert!(pieces > 1, "{pieces} pieces");
    assert!(cells >= 40 * 1000 + 4000, "{cells} cells");
    let safe = host.lock().safe();
    assert!(safe > Stamp(100) && safe <= Stamp(102), "{safe}: the first record of all");
    assert!(ALL.contains(&safe));
}

#[test]
fn samples_that_wait_for_their_host_are_logged_again_in_the_order_in_which_they_came() {
    let store = store(&[("load", 10, Aggregation::Avg)]);
    store.set_hosts_begin_loading(true);
    let host = store.host_or_create(CLUSTER, "h").unwrap();
    let mut state = host.lock();
    let sample = |value| RawSample { path: Box::default(), metric: "load".into(), time: 10, value };
    for (stamp, value) in [(10, 1.0), (20, 2.0), (110, 3.0)] {
        state.defer(Stamp(stamp), vec![sample(value)]);
    }
    // The third one came when a heal had begun, at 100: it stands in the log, and behind it what came before.
    let mut next = 200;
    let mut logged = Vec::new();
    while state.restamp_deferred(Stamp(100), |samples| {
        logged.push(samples[0].value);
        next += 1;
        Stamp(next)
    }) {}
    assert_eq!(logged, [1.0, 2.0, 3.0]);
}

/// Counts what records would take that say each shape twice.
#[derive(Default)]
struct Counting {
    room: u64,
    bytes: u64,
    last: u64,
}

impl Counting {
    fn count(&mut self, payload: &[u8], shape: Option<Vec<u8>>) -> Stamp {
        let frames = 1 + 2 * usize::from(shape.is_some());
        self.bytes += (payload.len() + 2 * shape.map_or(0, |shape| shape.len()) + 32 * frames) as u64;
        self.last += 1;
        Stamp(self.last)
    }
}

/// The catalog is needed to say a shape.
struct InStore<'a>(&'a Store, Counting);

impl Journal for InStore<'_> {
    fn make_room(&mut self, bytes: u64) -> bool {
        self.1.room = bytes;
        true
    }

    fn rows(&mut self, host: &Host, state: &mut HostState, rows: &[Row]) -> Stamp {
        let mut payload = Vec::new();
        record::push_rows_front(&mut payload, host.cluster(), host.name(), state.shape().hash());
        record::push_rows(&mut payload, rows);
        self.1.count(&payload, Some(state.shape().encode(self.0.catalog())))
    }

    fn floors(&mut self, _: &Host, _: &mut HostState, _: &[(u32, Timestamp)]) -> Stamp {
        unreachable!("a message frees nothing")
    }

    fn samples(&mut self, host: &Host, samples: &[RawSample]) -> Stamp {
        let mut payload = Vec::new();
        let (cluster, host) = (host.cluster(), host.name());
        Record::Samples { cluster, host, samples: samples.to_vec() }.encode(&mut payload);
        self.1.count(&payload, None)
    }
}

#[test]
fn a_message_asks_for_at_least_the_room_that_its_records_take_shapes_included() {
    let long = "x".repeat(200);
    let host = |host: u32| -> String {
        let line = |core| format!("load,hostname=n{host}{long},type=core,type-id={core}{long} value=1 ");
        (0..20).map(|core| line(core) + "100\n").collect()
    };
    let new: String = (0..20).map(host).collect();
    let one_each: String = (0..20)
        .map(|host| format!("load,hostname=n{host}{long},type=core,type-id=7{long} value=1 110\n"))
        .collect();
    for loading in [false, true] {
        let store = store(&[("load", 10, Aggregation::Avg)]);
        store.set_hosts_begin_loading(loading);
        for lines in [&new, &one_each, &new] {
            let mut journal = InStore(&store, Counting::default());
            assert!(send_under(&store, lines, &ANY_TIME, &mut journal).good >= 20);
            let Counting { room, bytes, .. } = journal.1;
            assert!(bytes <= room && room < 10 * bytes, "{bytes} of {room} bytes, loading: {loading}");
        }
    }
}
