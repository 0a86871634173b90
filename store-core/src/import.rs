//! [`Import`]: values of other formats on their way into blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::block::{BLOCK_ROWS_MAX, BlockState};
use crate::buffer::ANCHOR_SLOTS;
use crate::grid::Grid;
use crate::host::{HostState, Wanted};
use crate::merge::Table;
use crate::metric::MetricId;
use crate::stamp::Stamp;
use crate::store::Store;
use crate::Timestamp;

/// Values of one series at a fixed frequency, as a file holds them.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportRun {
    /// The levels below the host.
    pub path: Box<[Box<str>]>,
    /// The metric.
    pub metric: MetricId,
    /// Time of the first value.
    pub base: Timestamp,
    /// Seconds from value to value, at least 1.
    pub frequency_s: u32,
    /// The values; NaN where there is none.
    pub values: Vec<f32>,
}

/// Runs of one host, in the order of their precedence: where two have a value for a slot, the later counts.
///
/// The oldest run of a series sets the phase of its slots; values of runs that begin off that grid go to the
/// slots that contain their times.
#[derive(Debug, Default)]
pub struct Import {
    runs: Vec<ImportRun>,
}

/// The most rows that a run may have, and the furthest that one may lie from another: what is beyond is no
/// measurement but damage that its file's bounds do not show.
pub const IMPORT_ROWS_MAX: i64 = 1 << 32;

/// Rows by buffer, anchor, and number of the block's worth of rows behind the anchor.
type Chunks = BTreeMap<(u16, Timestamp, i64), Table>;

impl Import {
    /// Adds a run above those that are here.
    pub fn push(&mut self, run: ImportRun) {
        if !run.values.is_empty() && run.frequency_s > 0 {
            self.runs.push(run);
        }
    }

    /// Whether there is nothing to import.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Puts the runs into blocks of `state`, below everything that has a stamp: state [`BlockState::Imported`].
    /// Values before `oldest` are left out. Returns how many values were taken.
    ///
    /// To be called before rows of the log are applied. The caller counts the series.
    pub fn build(self, store: &Store, state: &mut HostState, oldest: Timestamp) -> u64 {
        let columns = self.register(store, state, oldest);
        let mut chunks = Chunks::new();
        let mut taken = 0;
        for (run, column) in self.runs.iter().zip(columns) {
            if let Some(column) = column {
                taken += lay(run, column, state, oldest, &mut chunks);
            }
        }
        let shape = Arc::clone(state.shape());
        for ((buffer, ..), table) in chunks {
            if let Some(table) = table.trimmed() {
                let block = Arc::new(table.seal(Arc::clone(&shape), Stamp::ZERO));
                state.buffers_mut()[usize::from(buffer)].insert(block, BlockState::Imported);
            }
        }
        taken
    }

    /// The column of each run; the oldest run of each series decides its buffer.
    fn register(&self, store: &Store, state: &mut HostState, oldest: Timestamp) -> Vec<Option<u32>> {
        let mut order: Vec<usize> = (0..self.runs.len()).collect();
        order.sort_by_key(|&at| self.runs[at].base);
        let mut columns = vec![None; self.runs.len()];
        for at in order {
            let run = &self.runs[at];
            let step = i64::from(run.frequency_s);
            let end = run.base.checked_add((run.values.len() as i64).saturating_mul(step));
            if end.is_none_or(|end| end <= oldest) || run.values.iter().all(|value| value.is_nan()) {
                continue;
            }
            let wanted = Wanted {
                path: run.path.clone(),
                metric: run.metric,
                frequency_s: run.frequency_s,
                time: run.base,
            };
            // One at a time, because each sets the phase that the next may share; shapes of a load are few.
            let column = match state.column(&run.path, run.metric, run.frequency_s) {
                Some(column) => column,
                None => state.register(store.catalog(), &[wanted], Arc::new)[0],
            };
            let number = state.shape().columns()[column as usize].buffer;
            let buffer = &mut state.buffers_mut()[usize::from(number)];
            if buffer.anchors().is_empty() {
                buffer.note_anchor(run.base);
            }
            columns[at] = Some(column);
        }
        let shape = store.intern((**state.shape()).clone());
        state.set_shape(shape);
        columns
    }
}

/// Lays the values of a run over the chunks of its buffer.
fn lay(run: &ImportRun, column: u32, state: &mut HostState, oldest: Timestamp, chunks: &mut Chunks) -> u64 {
    let place = &state.shape().columns()[column as usize];
    let (number, index) = (place.buffer, place.index);
    let width = state.shape().buffers()[usize::from(number)].columns.len() as u32;
    let buffer = &mut state.buffers_mut()[usize::from(number)];
    let step = i64::from(run.frequency_s);
    let mut taken = 0;
    for (row, &value) in run.values.iter().enumerate() {
        let time = run.base + row as i64 * step;
        if value.is_nan() || time < oldest {
            continue;
        }
        let Some(grid) = buffer.grid(time) else { return taken };
        let mut slot_index = grid.index(time);
        if slot_index.abs() > IMPORT_ROWS_MAX {
            return taken;
        }
        let mut anchor = grid.anchor;
        if slot_index >= ANCHOR_SLOTS {
            // An anchor every so many slots, as a store that took the samples one by one would have set them.
            anchor += slot_index.div_euclid(ANCHOR_SLOTS) * ANCHOR_SLOTS * step;
            slot_index = slot_index.rem_euclid(ANCHOR_SLOTS);
            buffer.note_anchor(anchor);
        }
        let rows_max = i64::from(BLOCK_ROWS_MAX);
        let chunk = slot_index.div_euclid(rows_max);
        let table = chunks.entry((number, anchor, chunk)).or_insert_with(|| {
            let grid = Grid { anchor, frequency_s: run.frequency_s };
            Table::new(grid, number, anchor + chunk * rows_max * step, BLOCK_ROWS_MAX, width)
        });
        table.write(anchor + slot_index * step, index, value);
        taken += 1;
    }
    taken
}
