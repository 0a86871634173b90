//! [`Import`]: values of other formats on their way into blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Timestamp;
use crate::anchors::ANCHOR_SLOTS;
use crate::block::{BLOCK_ROWS_MAX, BlockState};
use crate::grid::{Grid, TIMES};
use crate::host::{HostState, Wanted};
use crate::merge::Table;
use crate::metric::MetricId;
use crate::stamp::Stamp;
use crate::store::Store;

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

    /// The column of each run, `None` if it is not taken; the oldest run of each series decides its buffer.
    fn register(&self, store: &Store, state: &mut HostState, oldest: Timestamp) -> Vec<Option<u32>> {
        let mut order: Vec<usize> =
            (0..self.runs.len()).filter(|&at| is_wanted(&self.runs[at], oldest)).collect();
        order.sort_by_key(|&at| self.runs[at].base);
        let wanted: Vec<Wanted<'_>> = order
            .iter()
            .map(|&at| {
                let run = &self.runs[at];
                Wanted { path: &run.path, metric: run.metric, frequency_s: run.frequency_s, time: run.base }
            })
            .collect();
        let found = state.register(store, &wanted, usize::MAX);
        let mut columns = vec![None; self.runs.len()];
        for (at, column) in order.into_iter().zip(found) {
            columns[at] = column;
            let Some(column) = column else { continue };
            let number = state.shape().columns()[column as usize].buffer;
            let buffer = &mut state.buffers_mut()[usize::from(number)];
            if buffer.anchors().as_slice().is_empty() {
                buffer.note_anchor(self.runs[at].base);
            }
        }
        columns
    }
}

/// Whether a run has a value that may be taken, and no time that cannot be.
fn is_wanted(run: &ImportRun, oldest: Timestamp) -> bool {
    let rows = i64::try_from(run.values.len()).unwrap_or(i64::MAX);
    let end = run.base.saturating_add(rows.saturating_mul(i64::from(run.frequency_s)));
    TIMES.contains(&run.base)
        && TIMES.contains(&end)
        && end > oldest
        && run.values.iter().any(|value| !value.is_nan())
}

/// Lays the values of a run over the chunks of its buffer.
fn lay(run: &ImportRun, column: u32, state: &mut HostState, oldest: Timestamp, chunks: &mut Chunks) -> u64 {
    let place = &state.shape().columns()[column as usize];
    let (number, index) = (place.buffer, place.index);
    let width = state.shape().buffers()[usize::from(number)].columns.len() as u32;
    let buffer = &mut state.buffers_mut()[usize::from(number)];
    let (step, rows_max) = (i64::from(run.frequency_s), i64::from(BLOCK_ROWS_MAX));
    let old = oldest.saturating_sub(run.base).max(0).saturating_add(step - 1) / step;
    let mut rest = run.values.get(usize::try_from(old).unwrap_or(usize::MAX)..).unwrap_or_default();
    let mut taken = 0;
    while let Some(missing) = rest.iter().position(|value| !value.is_nan()) {
        rest = &rest[missing..];
        let time = run.base + (run.values.len() - rest.len()) as i64 * step;
        let Some((grid, until)) = buffer.anchors().grid_until(time) else { return taken };
        let mut slot = grid.index(time);
        let mut anchor = grid.anchor;
        if slot >= ANCHOR_SLOTS {
            // An anchor every so many slots, as a store that took the samples one by one would have set them.
            anchor += slot.div_euclid(ANCHOR_SLOTS) * ANCHOR_SLOTS * step;
            slot = slot.rem_euclid(ANCHOR_SLOTS);
            buffer.note_anchor(anchor);
        }
        let chunk = slot.div_euclid(rows_max);
        let row = slot.rem_euclid(rows_max);
        let table = chunks.entry((number, anchor, chunk)).or_insert_with(|| {
            let grid = Grid { anchor, frequency_s: run.frequency_s };
            Table::new(grid, number, anchor + chunk * rows_max * step, BLOCK_ROWS_MAX, width)
        });
        // One value after the other is one slot after the other, up to the end of the chunk or of the anchor.
        let governed = until.saturating_sub(time).saturating_add(step - 1) / step;
        let (here, behind) = rest.split_at(rest.len().min((rows_max - row).min(governed).max(1) as usize));
        taken += table.write_run(row as u32, index, here);
        rest = behind;
    }
    taken
}
