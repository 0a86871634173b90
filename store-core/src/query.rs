//! [`Plan`]: what a query needs of a host, taken under its mutex and evaluated without it.

use std::sync::Arc;

use crate::block::Block;
use crate::buffer::{Buffer, grid_at};
use crate::grid::Grid;
use crate::head::Head;
use crate::host::HostState;
use crate::level::Element;
use crate::metric::{Aggregation, Metric, MetricId};
use crate::resample::{self, ResampleError, Resampler};
use crate::Timestamp;

/// The answer to a query: one value per step, NaN where there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The values; the first is that of `from`.
    pub values: Vec<f64>,
    /// Time of the first value: the time asked for, or the first sample if that is later.
    pub from: Timestamp,
    /// Time behind the last value.
    pub to: Timestamp,
    /// Seconds from one value to the next.
    pub resolution_s: i64,
}

/// Why a query has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// `from` is after `to`.
    #[error("invalid time range")]
    InvalidRange,
    /// Several components, and the metric does not say how they are combined.
    #[error("invalid aggregation")]
    InvalidAggregation,
    /// The answer would have more values than allowed.
    #[error("answer of {points} values is larger than the {limit} allowed")]
    TooManyPoints {
        /// What the answer would have.
        points: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The resolution does not go with the frequency.
    #[error(transparent)]
    Resample(#[from] ResampleError),
}

/// What is read, and how.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// First moment asked for.
    pub from: Timestamp,
    /// The moment behind the last one.
    pub to: Timestamp,
    /// Seconds per value that are enough; 0 for all there are.
    pub resolution_s: i64,
    /// The most values that may be computed.
    pub points_max: u64,
}

/// The blocks of a buffer, shared by all columns of it that a query reads.
#[derive(Debug)]
struct BufferPlan {
    frequency_s: u32,
    anchors: Vec<Timestamp>,
    /// In the order of bases.
    blocks: Vec<Arc<Block>>,
    overlapping: bool,
}

/// Rows of a head, copied for one column.
#[derive(Debug)]
struct Tail {
    grid: Grid,
    base: Timestamp,
    values: Vec<f32>,
}

#[derive(Debug)]
struct ColumnPlan {
    buffer: Arc<BufferPlan>,
    index: u32,
    tails: Vec<Tail>,
    floor: Timestamp,
}

/// Everything a query needs of one host: clones of blocks and copies of head cells.
///
/// Evaluated without any lock, rather than under the host's: decoding and aggregating take longer than a batch
/// of samples may wait.
#[derive(Debug)]
pub struct Plan {
    /// Per series, its columns: at the configured frequency last, older frequencies in front.
    series: Vec<Vec<ColumnPlan>>,
    frequency_s: u32,
    aggregation: Aggregation,
}

impl Plan {
    /// What `selector` means for `metric` on this host; `None` if there is no such series, or none with a sample.
    pub fn gather(state: &HostState, selector: &[Element], id: MetricId, metric: &Metric) -> Option<Self> {
        let mut selected = Vec::new();
        state.shape().root().select(selector, id, &mut selected);
        let mut buffers: Vec<Option<Arc<BufferPlan>>> = vec![None; state.buffers().len()];
        let mut series = Vec::with_capacity(selected.len());
        for columns in selected {
            let plans: Vec<ColumnPlan> = columns
                .iter()
                .map(|&number| ColumnPlan::gather(state, number, &mut buffers))
                .filter(|plan| plan.first().is_some())
                .collect();
            if !plans.is_empty() {
                series.push(plans);
            }
        }
        let (frequency_s, aggregation) = (metric.frequency_s, metric.aggregation);
        (!series.is_empty()).then_some(Self { series, frequency_s, aggregation })
    }

    /// The columns of one series of a host, to be read as a [`run`](Self::run).
    pub fn of_columns(state: &HostState, columns: &[u32], frequency_s: u32) -> Self {
        let mut buffers: Vec<Option<Arc<BufferPlan>>> = vec![None; state.buffers().len()];
        let plans = columns.iter().map(|&number| ColumnPlan::gather(state, number, &mut buffers)).collect();
        Self { series: vec![plans], frequency_s, aggregation: Aggregation::None }
    }

    /// The samples in `[from, to)` as values from slot to slot: the time of the first sample, and everything up
    /// to the last one. `None` if there is none.
    pub fn run(&self, from: Timestamp, to: Timestamp) -> Option<(Timestamp, Vec<f32>)> {
        let step = i64::from(self.frequency_s);
        let plans = self.series.first()?;
        let first = plans.iter().filter_map(ColumnPlan::first).min()?;
        let end = plans.iter().filter_map(|plan| plan.last_end(step)).max()?.min(to);
        // The slots of the configured frequency, which stands last; those of an older one only where it is alone.
        let buffer = &plans.last()?.buffer;
        let anchor = buffer.anchors.first().copied().unwrap_or(first);
        let grid = Grid { anchor, frequency_s: self.frequency_s };
        let mut base = grid.slot(first.max(from));
        if base < from {
            base += step;
        }
        let points = usize::try_from((end.saturating_sub(base)).max(0) / step + 1).ok()?;
        let mut values = vec![f32::NAN; points];
        for plan in plans {
            plan.read(base, step, &mut values);
        }
        while values.len() as i64 * step + base - step >= to {
            values.pop()?;
        }
        let head = values.iter().position(|value| !value.is_nan())?;
        let tail = values.iter().rposition(|value| !value.is_nan())?;
        values.truncate(tail + 1);
        values.drain(..head);
        Some((base + head as i64 * step, values))
    }

    /// Reads, aggregates and resamples.
    ///
    /// # Errors
    /// If the range is empty backwards, the series cannot be combined, the answer is too large, or the resolution
    /// is no multiple of the frequency.
    pub fn read(&self, range: &Range) -> Result<Series, QueryError> {
        if range.from > range.to {
            return Err(QueryError::InvalidRange);
        }
        if self.series.len() > 1 && self.aggregation == Aggregation::None {
            return Err(QueryError::InvalidAggregation);
        }
        let step = i64::from(self.frequency_s);
        let columns = || self.series.iter().flatten();
        let first = columns().filter_map(ColumnPlan::first).min().unwrap_or(range.to);
        let from = range.from.max(first);
        // The slot of the newest sample ends half a step before the next one's time.
        let behind_last = columns().filter_map(|plan| plan.last_end(step)).max().unwrap_or(from);
        let span = range.to.min(behind_last).saturating_sub(from).max(0);
        let points = span.div_euclid(step) + i64::from(span % step != 0);
        let points = u64::try_from(points).unwrap_or(0);
        if points > range.points_max {
            return Err(QueryError::TooManyPoints { points, limit: range.points_max });
        }
        let points = usize::try_from(points).unwrap_or(0);
        let values = self.values(from, points);
        let to = from + points as i64 * step;
        let (values, resolution_s) =
            resample::resample(Resampler::Lttb, values, step, range.resolution_s)?;
        Ok(Series { values, from, to, resolution_s })
    }

    fn values(&self, from: Timestamp, points: usize) -> Vec<f64> {
        let step = i64::from(self.frequency_s);
        let mut one = vec![f32::NAN; points];
        let mut sums: Vec<f64> = Vec::new();
        for plans in &self.series {
            one.fill(f32::NAN);
            // Older frequencies first: where both have a value, the configured one stays.
            for plan in plans {
                plan.read(from, step, &mut one);
            }
            if sums.is_empty() {
                sums.extend(one.iter().map(|&value| f64::from(value)));
            } else {
                sums.iter_mut().zip(&one).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        }
        if self.aggregation == Aggregation::Avg && self.series.len() > 1 {
            let share = 1.0 / self.series.len() as f64;
            sums.iter_mut().for_each(|sum| *sum *= share);
        }
        sums
    }
}

impl ColumnPlan {
    fn gather(state: &HostState, number: u32, buffers: &mut [Option<Arc<BufferPlan>>]) -> Self {
        let column = &state.shape().columns()[number as usize];
        let at = usize::from(column.buffer);
        let buffer = &state.buffers()[at];
        let plan = buffers[at].get_or_insert_with(|| Arc::new(BufferPlan::gather(buffer)));
        let tails = buffer
            .heads()
            .map(|head| Tail {
                grid: head.grid(),
                base: head.base(),
                values: head.column(column.index).collect(),
            })
            .collect();
        Self { buffer: Arc::clone(plan), index: column.index, tails, floor: state.floors().of(number) }
    }

    /// The slot of the oldest sample that is not hidden.
    fn first(&self) -> Option<Timestamp> {
        let blocks = self.buffer.blocks.iter().find_map(|block| first_in_block(block, self.index, self.floor));
        let tails = self.tails.iter().find_map(|tail| {
            first_in(tail.base, tail.grid.frequency_s, tail.values.iter().copied(), self.floor)
        });
        blocks.into_iter().chain(tails).min()
    }

    /// Where the slot of the newest sample ends, in steps of the configured frequency.
    fn last_end(&self, step: i64) -> Option<Timestamp> {
        let mut blocks =
            self.buffer.blocks.iter().rev().filter_map(|block| last_in_block(block, self.index, self.floor));
        // Where blocks overlap, the one that begins last need not end last.
        let blocks = if self.buffer.overlapping { blocks.max() } else { blocks.next() };
        let tails = self.tails.iter().rev().find_map(|tail| {
            last_in(tail.base, tail.grid.frequency_s, tail.values.iter().copied(), self.floor)
        });
        blocks.into_iter().chain(tails).max().map(|last| last - step / 2 + step)
    }

    /// Fills `out`, one value per step from `from` on; leaves alone what has no sample here.
    fn read(&self, from: Timestamp, step: i64, out: &mut [f32]) {
        if i64::from(self.buffer.frequency_s) == step {
            self.read_on_grid(from, out);
        } else {
            self.read_off_grid(from, step, out);
        }
    }

    /// Steps of the buffer's own frequency: between two anchors, each step takes the slot behind the last one's.
    fn read_on_grid(&self, from: Timestamp, out: &mut [f32]) {
        let frequency_s = self.buffer.frequency_s;
        let (step, half) = (i64::from(frequency_s), i64::from(frequency_s / 2));
        let anchors = &self.buffer.anchors;
        let mut done = 0;
        while done < out.len() {
            let time = from + done as i64 * step;
            let Some(grid) = grid_at(anchors, frequency_s, time) else { return };
            let next = anchors.partition_point(|anchor| anchor.saturating_sub(half) <= time);
            let steps = anchors.get(next).map_or(out.len() - done, |anchor| {
                let span = anchor - half - time;
                ((span + step - 1) / step).clamp(1, (out.len() - done) as i64) as usize
            });
            self.read_slots(grid, grid.slot(time), &mut out[done..done + steps]);
            done += steps;
        }
    }

    /// Consecutive slots of one grid.
    fn read_slots(&self, grid: Grid, first: Timestamp, out: &mut [f32]) {
        let step = i64::from(grid.frequency_s);
        let end = first + out.len() as i64 * step;
        let reach = i64::from(crate::block::BLOCK_ROWS_MAX) * step;
        let blocks = &self.buffer.blocks;
        let from = blocks.partition_point(|block| block.header().base <= first - reach);
        let to = blocks.partition_point(|block| block.header().base < end);
        let mut here: Vec<&Arc<Block>> = blocks[from..to.max(from)]
            .iter()
            .filter(|block| block.header().grid == grid && block.header().end() > first)
            .collect();
        if self.buffer.overlapping {
            here.sort_by_key(|block| block.header().as_of);
        }
        for block in here {
            let header = block.header();
            if self.index >= header.columns {
                continue;
            }
            let (low, high) = (first.max(header.base), end.min(header.end()));
            let at = ((low - first) / step) as usize;
            let rows = ((low - header.base) / step) as usize..((high - header.base) / step) as usize;
            let target = &mut out[at..at + rows.len()];
            // A damaged block still says what it held: an older value must not show in its place.
            if !block.check() || block.decode(self.index, rows, target).is_err() {
                target.fill(f32::NAN);
            }
        }
        for tail in self.tails.iter().filter(|tail| tail.grid == grid) {
            for (row, value) in tail.values.iter().enumerate() {
                let offset = tail.base + row as i64 * step - first;
                if offset >= 0 && let Some(target) = out.get_mut((offset / step) as usize) {
                    *target = *value;
                }
            }
        }
        if self.floor > first {
            let hidden = (self.floor - first + step - 1) / step;
            let hidden = usize::try_from(hidden).unwrap_or(usize::MAX).min(out.len());
            out[..hidden].fill(f32::NAN);
        }
    }

    /// Another frequency than the configured one: each sample goes to the step whose slot contains its time.
    fn read_off_grid(&self, from: Timestamp, step: i64, out: &mut [f32]) {
        let grid = Grid { anchor: from, frequency_s: u32::try_from(step).unwrap_or(u32::MAX) };
        let mut put = |base: Timestamp, frequency_s: u32, values: &[f32]| {
            for (row, value) in values.iter().enumerate() {
                let slot = base + row as i64 * i64::from(frequency_s);
                if value.is_nan() || slot < self.floor {
                    continue;
                }
                if let Ok(at) = usize::try_from(grid.index(slot))
                    && let Some(target) = out.get_mut(at)
                {
                    *target = *value;
                }
            }
        };
        let mut blocks: Vec<&Arc<Block>> = self.buffer.blocks.iter().collect();
        if self.buffer.overlapping {
            blocks.sort_by_key(|block| block.header().as_of);
        }
        for block in blocks {
            put(block.header().base, block.header().grid.frequency_s, &block.column(self.index));
        }
        for tail in &self.tails {
            put(tail.base, tail.grid.frequency_s, &tail.values);
        }
    }
}

impl BufferPlan {
    fn gather(buffer: &Buffer) -> Self {
        let blocks: Vec<Arc<Block>> = buffer.blocks().iter().map(|held| Arc::clone(&held.block)).collect();
        let overlapping = blocks.windows(2).any(|pair| pair[0].header().end() > pair[1].header().base);
        Self { frequency_s: buffer.frequency_s(), anchors: buffer.anchors().to_vec(), blocks, overlapping }
    }
}

fn first_in(
    base: Timestamp,
    frequency_s: u32,
    values: impl Iterator<Item = f32>,
    floor: Timestamp,
) -> Option<Timestamp> {
    values
        .enumerate()
        .map(|(row, value)| (base + row as i64 * i64::from(frequency_s), value))
        .find(|(slot, value)| !value.is_nan() && *slot >= floor)
        .map(|(slot, _)| slot)
}

fn last_in(
    base: Timestamp,
    frequency_s: u32,
    values: impl DoubleEndedIterator<Item = f32> + ExactSizeIterator,
    floor: Timestamp,
) -> Option<Timestamp> {
    let rows = values.len();
    values
        .rev()
        .enumerate()
        .map(|(back, value)| (base + (rows - 1 - back) as i64 * i64::from(frequency_s), value))
        .find(|(slot, value)| !value.is_nan() && *slot >= floor)
        .map(|(slot, _)| slot)
}

fn first_in_block(block: &Block, index: u32, floor: Timestamp) -> Option<Timestamp> {
    let header = block.header();
    if header.end() <= floor {
        return None;
    }
    block.payload(index)?;
    first_in(header.base, header.grid.frequency_s, block.column(index).into_iter(), floor)
}

fn last_in_block(block: &Block, index: u32, floor: Timestamp) -> Option<Timestamp> {
    let header = block.header();
    if header.end() <= floor {
        return None;
    }
    block.payload(index)?;
    last_in(header.base, header.grid.frequency_s, block.column(index).into_iter(), floor)
}

/// The rows of a head that was written to, as base, frequency and values of a column.
fn head_values(head: &Head, index: u32) -> Vec<f32> {
    head.column(index).collect()
}

/// The slot of the oldest sample of a column at or above its floor.
pub fn first_sample(buffer: &Buffer, index: u32, floor: Timestamp) -> Option<Timestamp> {
    let blocks = buffer.blocks().iter().find_map(|held| first_in_block(&held.block, index, floor));
    let heads = buffer.heads().find_map(|head| {
        first_in(head.base(), head.grid().frequency_s, head_values(head, index).into_iter(), floor)
    });
    blocks.into_iter().chain(heads).min()
}

/// The slot of the newest sample of a column at or above its floor.
pub fn last_sample(buffer: &Buffer, index: u32, floor: Timestamp) -> Option<Timestamp> {
    let heads = buffer.heads().rev().find_map(|head| {
        last_in(head.base(), head.grid().frequency_s, head_values(head, index).into_iter(), floor)
    });
    // Blocks are only newer than a head after samples came late from a clock that stood still.
    let blocks = match heads {
        Some(_) => None,
        None => buffer.blocks().iter().rev().find_map(|held| last_in_block(&held.block, index, floor)),
    };
    blocks.into_iter().chain(heads).max()
}

/// How many blocks and heads hold a sample of a column in `[floor, before)`.
pub(crate) fn pieces_with_samples(
    buffer: &Buffer,
    index: u32,
    floor: Timestamp,
    before: Timestamp,
) -> u64 {
    let blocks = buffer
        .blocks()
        .iter()
        .filter_map(|held| first_in_block(&held.block, index, floor))
        .filter(|slot| *slot < before)
        .count();
    let heads = buffer
        .heads()
        .filter_map(|head| {
            first_in(head.base(), head.grid().frequency_s, head_values(head, index).into_iter(), floor)
        })
        .filter(|slot| *slot < before)
        .count();
    (blocks + heads) as u64
}
