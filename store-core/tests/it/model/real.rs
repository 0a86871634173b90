//! The store under test, with what an engine does to it: a log that can be played again, seals, saves, rolls.

use std::borrow::Cow;
use std::sync::Arc;

use store_core::Timestamp;
use store_core::block::{Block, BlockState};
use store_core::buffer::Relog;
use store_core::host::{Host, HostState};
use store_core::ingest::Terms;
use store_core::journal::Journal;
use store_core::merge::merge;
use store_core::pages::{DamagedColumn, Pages, Unavailable};
use store_core::record::{self, RawSample, Record};
use store_core::row::{Row, RowView, Rows};
use store_core::shape::Shape;
use store_core::stamp::Stamp;
use store_core::store::Store;

use super::oracle::{METRICS, SERIES, Sample};
use crate::support;

/// The host that blocks are of when they come from a file.
const IDENTITY: u32 = 77;

/// The body of a block that was read.
#[derive(Debug)]
struct Read(Vec<u8>);

impl Pages for Read {
    fn ensure(&self, _: std::ops::Range<u64>) {}

    fn get(&self, range: std::ops::Range<u64>) -> Result<Cow<'_, [u8]>, Unavailable> {
        Ok(Cow::Borrowed(&self.0[range.start as usize..range.end as usize]))
    }

    fn read(&self, range: std::ops::Range<u64>) -> Result<Vec<u8>, Unavailable> {
        self.get(range).map(Cow::into_owned)
    }

    fn report(&self, damaged: &DamagedColumn<'_>) {
        panic!("nothing is damaged here: {damaged:?}");
    }

    fn is_mapped(&self) -> bool {
        true
    }
}

/// A log in memory: frames as they would be written, and when blocks were dropped.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    next: u64,
    frames: Vec<(Stamp, Frame)>,
}

#[derive(Debug)]
enum Frame {
    Record(u8, Vec<u8>),
    Drop(Timestamp),
}

impl Recorder {
    fn record(&mut self, record: &Record<'_>) -> Stamp {
        self.next += 1;
        let mut payload = Vec::new();
        record.encode(&mut payload);
        self.frames.push((Stamp(self.next), Frame::Record(record.kind(), payload)));
        Stamp(self.next)
    }

    fn rows_of(&mut self, host: &Host, shape: &Shape, rows: &[Row]) -> Stamp {
        let mut bytes = Vec::new();
        record::push_rows(&mut bytes, rows);
        let (cluster, host, shape) = (host.cluster(), host.name(), shape.hash());
        self.record(&Record::Rows { cluster, host, shape, rows: &bytes })
    }

    /// Every cell of the log: stamp, buffer, row.
    fn rows(&self) -> Vec<(Stamp, Row)> {
        let mut all = Vec::new();
        for (stamp, frame) in &self.frames {
            let Frame::Record(kind, payload) = frame else { continue };
            if let Record::Rows { rows, .. } = Record::decode(*kind, payload).unwrap() {
                let mut read = Rows::default();
                record::read_rows(rows, &mut read).unwrap();
                all.extend(read.as_slice().iter().map(|row| (*stamp, row.clone())));
            }
        }
        all
    }
}

impl Journal for Recorder {
    fn rows(&mut self, host: &Host, state: &mut HostState, rows: &[Row]) -> Stamp {
        let shape = Arc::clone(state.shape());
        self.rows_of(host, &shape, rows)
    }

    fn floors(&mut self, host: &Host, state: &mut HostState, floors: &[(u32, Timestamp)]) -> Stamp {
        let shape = state.shape().hash();
        self.record(&Record::Floors {
            cluster: host.cluster(),
            host: host.name(),
            shape,
            floors: floors.to_vec(),
        })
    }

    fn samples(&mut self, _: &Host, _: &[RawSample]) -> Stamp {
        unreachable!("the host is loaded")
    }
}

pub(super) struct Real {
    pub(super) store: Store,
    recorder: Recorder,
    fixed_phase: bool,
    oldest: Timestamp,
    /// Blocks that were saved at some time, by buffer.
    saved: Vec<Arc<Block>>,
}

impl Real {
    pub(super) fn new(fixed_phase: bool) -> Self {
        let (recorder, saved) = (Recorder::default(), Vec::new());
        Self { store: support::store(&METRICS), recorder, fixed_phase, oldest: Timestamp::MIN, saved }
    }

    fn host(&self) -> Option<Arc<Host>> {
        self.store.host(support::CLUSTER, "n1")
    }

    /// Calls `work` with the state of the host, if there is one.
    fn with_host<T: Default>(&mut self, work: impl FnOnce(&mut Self, &Host, &mut HostState) -> T) -> T {
        let Some(host) = self.host() else { return T::default() };
        let mut state = host.lock();
        work(self, &host, &mut state)
    }

    pub(super) fn send(&mut self, message: &[Sample], now: Timestamp) {
        let lines: String = message.iter().map(line).collect();
        let terms = Terms {
            default_cluster: Some(support::CLUSTER),
            now,
            oldest: self.oldest,
            newest: Timestamp::MAX,
            fixed_phase: self.fixed_phase,
        };
        let report = support::send_under(&self.store, &lines, &terms, &mut self.recorder);
        assert_eq!((report.bad, report.skipped), (0, [0; 5]), "{:?}", report.first_bad);
        let taken = report.good + report.freed + report.refused.iter().sum::<u64>();
        assert_eq!(taken, message.len() as u64);
    }

    pub(super) fn freeze(&mut self) {
        self.with_host(|_, _, state| {
            let shape = Arc::clone(state.shape());
            state.buffers_mut().iter_mut().for_each(|buffer| buffer.freeze(&shape));
        });
    }

    /// Encodes frozen heads without the lock; `late` is sent between the encoding and the swap.
    pub(super) fn seal(&mut self, now_or_never: bool, late: &[Sample], now: Timestamp) {
        let Some(host) = self.host() else { return };
        let (shape, ripe) = {
            let state = host.lock();
            let ripe: Vec<_> = state.buffers().iter().map(|buffer| buffer.ripe(now_or_never)).collect();
            (Arc::clone(state.shape()), ripe)
        };
        if !late.is_empty() {
            self.send(late, now);
        }
        for (number, head) in ripe.into_iter().enumerate() {
            let Some(head) = head else { continue };
            let columns = shape.buffers()[number].columns.len() as u32;
            let block = head.seal(number as u16, columns, Arc::clone(&shape));
            let swapped = host.lock().buffers_mut()[number].swap(&head, block);
            assert!(swapped || !late.is_empty(), "nothing was written meanwhile");
        }
    }

    pub(super) fn save(&mut self) {
        self.with_host(|real, _, state| {
            for buffer in state.buffers_mut() {
                let blocks: Vec<_> = buffer.blocks().iter().map(|held| Arc::clone(&held.block)).collect();
                blocks.iter().for_each(|block| buffer.mark_saved(block));
                real.saved.extend(blocks);
            }
            let floors = state.floors().unsaved();
            state.floors_mut().mark_saved(&floors);
        });
    }

    /// What a roll does: saved blocks become long ones.
    pub(super) fn roll(&mut self) {
        self.save();
        self.with_host(|real, _, state| {
            let shape = Arc::clone(state.shape());
            for (number, buffer) in state.buffers_mut().iter_mut().enumerate() {
                let blocks: Vec<_> = buffer.blocks().iter().map(|held| Arc::clone(&held.block)).collect();
                let merged = merge(&blocks, &shape, shape.buffers()[number].columns.len() as u32);
                buffer.retain_blocks(|_| false);
                for block in merged {
                    real.saved.push(Arc::clone(&block));
                    buffer.insert(block, BlockState::Saved);
                }
            }
        });
    }

    /// All blocks as a file would give them back.
    pub(super) fn reread(&mut self) {
        self.with_host(|_, _, state| {
            for buffer in state.buffers_mut() {
                let held: Vec<_> = buffer.blocks().to_vec();
                buffer.retain_blocks(|_| false);
                for held in held {
                    let parts = held.block.to_parts(IDENTITY).unwrap();
                    let (pages, shape) = (Arc::new(Read(parts.body.into_owned())), held.block.shape());
                    let header = *held.block.header();
                    let read = Block::in_file(header, IDENTITY, pages, 0, Arc::clone(shape)).unwrap();
                    assert_eq!(read.damaged_columns(), []);
                    buffer.insert(Arc::new(read), held.state);
                }
            }
        });
    }

    pub(super) fn relog(&mut self) {
        self.with_host(|real, host, state| {
            let shape = Arc::clone(state.shape());
            for buffer in state.buffers_mut() {
                let (within, mut progress) = (Stamp::ZERO..Stamp(real.recorder.next), Relog::default());
                while buffer.relog(&within, &mut progress, |rows| real.recorder.rows_of(host, &shape, rows)) {
                }
            }
        });
    }

    pub(super) fn drop_before(&mut self, time: Timestamp) {
        self.oldest = self.oldest.max(time);
        self.recorder.frames.push((Stamp(self.recorder.next), Frame::Drop(time)));
        self.with_host(|_, _, state| state.drop_before(time));
    }

    pub(super) fn free(&mut self, series: usize, before: Timestamp) {
        let raised = self.with_host(|real, host, state| {
            let level = state.shape().root().descend(SERIES[series].1.iter().copied()).unwrap();
            let id = real.store.catalog().id(METRICS[SERIES[series].0].0).unwrap();
            let (floors, hidden) = state.to_free(level.columns(id), before);
            let at = real.recorder.floors(host, state, &floors);
            state.raise_floors(&floors, at);
            assert!(hidden > 0);
            floors
        });
        assert_eq!(raised.iter().map(|(_, before)| *before).collect::<Vec<_>>(), [before]);
    }

    /// A store that knows only what the log says.
    pub(super) fn replayed(&self) -> Self {
        let replayed = Self::new(self.fixed_phase);
        let Some(live) = self.host() else { return replayed };
        let host = replayed.store.host_or_create(support::CLUSTER, "n1").unwrap();
        let mut state = host.lock();
        let encoded = live.lock().shape().encode(self.store.catalog());
        let shape = Shape::decode(&encoded, |name, s| replayed.store.metric_from_file(name, s)).unwrap();
        assert_eq!(shape.hash(), live.lock().shape().hash());
        state.set_shape(replayed.store.intern(shape));
        for (stamp, frame) in &self.recorder.frames {
            match frame {
                Frame::Drop(time) => {
                    state.drop_before(*time);
                }
                Frame::Record(kind, payload) => match Record::decode(*kind, payload).unwrap() {
                    Record::Rows { rows, .. } => {
                        let mut read = Rows::default();
                        record::read_rows(rows, &mut read).unwrap();
                        // As a start does: rows that can be copied are not unpacked.
                        let views = record::logged_rows(rows).zip(read.views()).map(|(logged, row)| {
                            let cells = logged.unwrap().first_cells().unwrap_or(row.cells);
                            RowView { cells, ..row }
                        });
                        host.apply(&mut state, views, *stamp, 0);
                    }
                    Record::Floors { floors, .. } => state.raise_floors(&floors, *stamp),
                    other => panic!("{other:?}"),
                },
            }
        }
        drop(state);
        replayed
    }

    /// What holds whatever was done: pieces of one grid are disjoint and in order, and the log below `safe` is not
    /// needed.
    pub(super) fn check(&mut self, dropped: Option<Timestamp>) {
        self.with_host(|real, _, state| {
            for buffer in state.buffers() {
                let blocks = buffer.blocks().iter().map(|held| held.block.header());
                assert!(blocks.clone().is_sorted_by_key(|header| header.base), "blocks are sorted");
                let mut pieces: Vec<_> = blocks
                    .map(|header| (header.grid.anchor, header.base, header.end()))
                    .chain(buffer.heads().map(|head| (head.grid().anchor, head.base(), head.end())))
                    .collect();
                pieces.sort_unstable();
                for pair in pieces.windows(2) {
                    assert!(pair[0].0 != pair[1].0 || pair[0].2 <= pair[1].1, "overlap: {pieces:?}");
                }
            }
            let (safe, rows) = (state.safe(), real.recorder.rows());
            for (stamp, row) in rows.iter().filter(|(stamp, _)| *stamp < safe) {
                for &(column, value) in &row.cells {
                    let same = |other: &Row| {
                        (other.buffer, other.anchor, other.slot) == (row.buffer, row.anchor, row.slot)
                            && other.cells.iter().any(|(index, _)| *index == column)
                    };
                    let is_saved = real.saved.iter().any(|block| {
                        let header = block.header();
                        header.buffer == row.buffer && header.covers(row.anchor, row.slot) && {
                            let at = (row.slot - header.base) / i64::from(header.grid.frequency_s);
                            header.as_of >= *stamp || block.column(column)[at as usize] == value
                        }
                    });
                    let step = i64::from(state.shape().buffers()[usize::from(row.buffer)].frequency_s);
                    assert!(
                        is_saved
                            || dropped.is_some_and(|time| row.slot + step < time)
                            || rows.iter().any(|(later, other)| *later >= safe && same(other)),
                        "{row:?} at {stamp} is in the log below {safe} alone"
                    );
                }
            }
        });
    }
}

fn line(&(series, time, value): &Sample) -> String {
    let (metric, path) = SERIES[series];
    let [mut component, mut subcomponent] = [String::new(), String::new()];
    let split = |name: &str| name.find(|c: char| c.is_ascii_digit()).unwrap();
    if let Some(name) = path.first() {
        let (kind, id) = name.split_at(split(name));
        component = format!(",type={kind},type-id={id}");
    }
    if let Some(name) = path.get(1) {
        let (kind, id) = name.split_at(split(name));
        subcomponent = format!(",stype={kind},stype-id={id}");
    }
    format!("{},hostname=n1{component}{subcomponent} value={value} {time}\n", METRICS[metric].0)
}
