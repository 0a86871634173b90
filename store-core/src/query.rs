//! [`Reader`]: what queries need of a host, taken under its mutex and evaluated without it.

mod column;
mod samples;
mod sum;
mod window;

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use self::column::{BufferView, ColumnView, SelectedColumn};
use self::window::Window;
use crate::Timestamp;
use crate::anchors::Anchors;
use crate::floor::Floors;
use crate::grid::Grid;
use crate::host::HostState;
use crate::level::Element;
use crate::metric::{Aggregation, ServedMetric};
use crate::resample::{self, ResampleError, Resampler};
use crate::shape::Shape;

pub(crate) use self::samples::{last_sample, pieces_with_samples};

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
    /// How many values were read; resampling leaves fewer.
    pub points_read: usize,
    /// How many values of single series these were made of.
    pub cells_read: u64,
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
    /// More values of single series than allowed would have to be read.
    #[error("more than {limit} values of single series would have to be read")]
    TooManyCells {
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
    /// The most values of single series that may be read for them, which bounds the time that it takes. A series
    /// counts as at least [`SERIES_CELLS`].
    pub cells_max: u64,
}

/// What a series costs, however few values of it are read: to find it, and where its samples begin and end.
pub const SERIES_CELLS: u64 = 1024;

/// Levels and names that may be looked at for as many cells as are allowed: each takes as long as some of them.
const CELLS_A_STEP: u64 = 16;

/// Room for the columns of a selection that is kept for the next one.
const SELECTED_KEPT: usize = 1 << 10;

/// The most values of a run: two years of seconds. Samples further apart come from damage or a broken clock.
pub const RUN_ROWS_MAX: i64 = 1 << 26;

/// Everything queries need of one host at one moment, shared with it: lists of blocks, and rows of heads.
///
/// Evaluated without any lock, rather than under the host's: decoding, and reading what is only mapped, take longer
/// than a batch of samples may wait. What changes meanwhile is copied by whoever changes it; so a reader is not to be
/// kept for long. Several series of a host are best read by one reader: where their rows stand is then found once.
#[derive(Debug)]
pub struct Reader {
    shape: Arc<Shape>,
    floors: Floors,
    buffers: Vec<BufferView>,
    /// Room for the columns of one selection, and for those of them that are added block by block.
    selected: Vec<SelectedColumn>,
    simple: Vec<SelectedColumn>,
    window: Window,
}

/// A series by its columns: those at the frequency of the answer last, those of older frequencies in front.
#[derive(Debug, Clone, Copy)]
struct SelectedSeries<'r> {
    buffers: &'r [BufferView],
    columns: &'r [SelectedColumn],
    frequency_s: u32,
}

impl Reader {
    /// What `state` holds now.
    pub fn new(state: &HostState) -> Self {
        let numbers = 0..=u16::MAX;
        Self {
            shape: Arc::clone(state.shape()),
            floors: state.floors().clone(),
            buffers: numbers.zip(state.buffers()).map(|(n, buffer)| BufferView::new(buffer, n)).collect(),
            selected: Vec::new(),
            simple: Vec::new(),
            window: Window::default(),
        }
    }

    /// The samples in `[from, to)` of the series that has these columns, as values from slot to slot: the time of the
    /// first sample, and everything up to the last one. `None` if there is none. Of more than [`RUN_ROWS_MAX`] slots
    /// the newest.
    ///
    /// # Panics
    /// If the host has no such column.
    pub fn run(
        &self,
        columns: &[u32],
        frequency_s: u32,
        from: Timestamp,
        to: Timestamp,
    ) -> Option<(Timestamp, Vec<f32>)> {
        let mut selected = Vec::with_capacity(columns.len());
        push_series(&mut selected, columns, frequency_s, &self.shape, &self.floors);
        let series = SelectedSeries { buffers: &self.buffers, columns: &selected, frequency_s };
        let step = i64::from(frequency_s);
        let (first, end) = series.extent(Timestamp::MIN, Timestamp::MAX)?;
        let end = end.min(to);
        if from >= end {
            return None;
        }
        // All runs of a series have the phase of its first anchor, wherever they are cut.
        let anchor = series.anchors().as_slice().first().copied().unwrap_or(first);
        let mut base = Grid { anchor, frequency_s }.slot(first.max(from));
        if base < from {
            base += step;
        }
        let rows = (end - base + step - 1).max(0) / step;
        base += (rows - RUN_ROWS_MAX).max(0) * step;
        let points = usize::try_from(rows.min(RUN_ROWS_MAX)).ok()?;
        let mut values = vec![f32::NAN; points];
        series.read(base, &mut values);
        let head = values.iter().position(|value| !value.is_nan())?;
        let tail = values.iter().rposition(|value| !value.is_nan())?;
        values.truncate(tail + 1);
        values.drain(..head);
        Some((base + head as i64 * step, values))
    }

    /// Reads what `selector` means for a metric, aggregates and resamples. `None` if there is no series, or none with
    /// a sample.
    ///
    /// # Errors
    /// If the range is empty backwards, the series cannot be combined, the answer is too large or too much has to be read
    /// for it, or the resolution is no multiple of the frequency. What is too much is refused before it is read.
    pub fn read(
        &mut self,
        selector: &[Element],
        metric: &ServedMetric,
        range: &Range,
    ) -> Result<Option<Series>, QueryError> {
        if range.from > range.to {
            return Err(QueryError::InvalidRange);
        }
        let frequency_s = metric.frequency_s.get();
        let too_many_cells = QueryError::TooManyCells { limit: range.cells_max };
        if self.select(selector, metric, range.cells_max).is_break() {
            return Err(too_many_cells);
        }
        let aggregation = metric.aggregation;
        let Self { buffers, selected, simple, window, .. } = self;
        // Only columns that are read on their own grid, one for each series, can be added block by block.
        let mut found: Vec<SelectedSeries<'_>> = Vec::new();
        let mut extent: Option<(Timestamp, Timestamp)> = None;
        let mut count = 0;
        for columns in selected.chunk_by(|a, b| a.series == b.series) {
            let series = SelectedSeries { buffers, columns, frequency_s };
            let column = series.simple();
            let own = match (extent, column) {
                // Within what the others span it only matters that there is a sample.
                (Some((first, end)), Some(column)) if first <= range.from && column.buffer.ends_by <= end => {
                    column.first(Timestamp::MAX).map(|_| (first, end))
                }
                _ => series.extent(range.from, range.to),
            };
            let Some((first, end)) = own else { continue };
            let (least, greatest) = extent.unwrap_or((first, end));
            extent = Some((least.min(first), greatest.max(end)));
            if column.is_some() && simple.len() == count {
                simple.extend_from_slice(columns);
            } else {
                found.push(series);
            }
            count += 1;
        }
        if count > 1 && aggregation == Aggregation::None {
            return Err(QueryError::InvalidAggregation);
        }
        let Some((first, end)) = extent else { return Ok(None) };
        let from = range.from.max(first);
        let end = from.max(end).min(range.to);
        let step = i64::from(frequency_s);
        let span = end.saturating_sub(from).max(0);
        let points = span.div_euclid(step) + i64::from(span % step != 0);
        let points = u64::try_from(points).unwrap_or(0);
        if points > range.points_max {
            return Err(QueryError::TooManyPoints { points, limit: range.points_max });
        }
        let cells = points.saturating_mul(count as u64);
        if cells > range.cells_max {
            return Err(too_many_cells);
        }
        let points = usize::try_from(points).unwrap_or(0);
        // 0 + x is x for all but -0, which one series alone must keep.
        let mut values = vec![-0.0; points];
        for columns in simple.chunk_by(|a, b| a.buffer == b.buffer) {
            let buffer = &buffers[usize::from(columns[0].buffer)];
            sum::add(buffer, columns, window.open(buffer, from, points), &mut values);
        }
        let mut one = if found.is_empty() { Vec::new() } else { vec![f32::NAN; points] };
        for series in found {
            one.fill(f32::NAN);
            series.read(from, &mut one);
            values.iter_mut().zip(&one).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        if aggregation == Aggregation::Avg && count > 1 {
            let share = 1.0 / count as f64;
            values.iter_mut().for_each(|sum| *sum *= share);
        }
        let to = from + points as i64 * step;
        let (values, resolution_s) = resample::resample(Resampler::Lttb, values, step, range.resolution_s)?;
        Ok(Some(Series { values, from, to, resolution_s, points_read: points, cells_read: cells }))
    }

    /// Finds the columns that `selector` means; `Break` if they are too many for so many cells.
    fn select(&mut self, selector: &[Element], metric: &ServedMetric, cells_max: u64) -> ControlFlow<()> {
        let Self { shape, floors, selected, simple, .. } = self;
        selected.clear();
        selected.shrink_to(SELECTED_KEPT);
        simple.clear();
        simple.shrink_to(SELECTED_KEPT);
        let (mut cells_left, mut steps_left) = (cells_max, cells_max / CELLS_A_STEP);
        shape.root().select(selector, metric.id(), &mut steps_left, &mut |columns| {
            let Some(left) = cells_left.checked_sub(SERIES_CELLS) else { return ControlFlow::Break(()) };
            cells_left = left;
            push_series(selected, columns, metric.frequency_s.get(), shape, floors);
            ControlFlow::Continue(())
        })
    }
}

/// Adds the columns of one more series to those that are selected.
fn push_series(
    selected: &mut Vec<SelectedColumn>,
    columns: &[u32],
    frequency_s: u32,
    shape: &Shape,
    floors: &Floors,
) {
    let begin = selected.len();
    let series = selected.last().map_or(0, |last| last.series + 1);
    for &number in columns {
        let column = &shape.columns()[number as usize];
        let (buffer, index, floor) = (column.buffer, column.index, floors.of(number));
        selected.push(SelectedColumn { series, buffer, index, floor });
    }
    // Mostly there is one.
    selected[begin..]
        .sort_by_key(|column| shape.buffers()[usize::from(column.buffer)].frequency_s == frequency_s);
}

impl<'r> SelectedSeries<'r> {
    fn columns(self) -> impl DoubleEndedIterator<Item = ColumnView<'r>> {
        self.columns.iter().map(move |column| column.of(&self.buffers[usize::from(column.buffer)]))
    }

    /// Its only column, if that has the frequency of the answer.
    fn simple(self) -> Option<ColumnView<'r>> {
        let on_grid = |column: &ColumnView<'_>| column.frequency_s() == self.frequency_s;
        if self.columns.len() == 1 { self.columns().next().filter(on_grid) } else { None }
    }

    /// From what its steps are counted: at the frequency of the answer, whatever that of the samples was.
    fn anchors(self) -> Cow<'r, Anchors> {
        let frequency_s = self.frequency_s;
        let Some(last) = self.columns().next_back() else { return Cow::Owned(Anchors::new(frequency_s)) };
        if last.frequency_s() == frequency_s && !last.anchors().as_slice().is_empty() {
            return Cow::Borrowed(last.anchors());
        }
        let mut anchors = Anchors::new(frequency_s);
        if let Some(first) = self.columns().find_map(|column| column.anchors().as_slice().first()) {
            anchors.note(*first);
        }
        Cow::Owned(anchors)
    }

    /// The slot of the first sample, and where the slot of the newest one ends; `None` without a sample. What is
    /// before `from`, or at or behind `to`, need not be exact.
    fn extent(self, from: Timestamp, to: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let frequency_s = self.frequency_s;
        let anchors = self.anchors();
        let step = i64::from(frequency_s);
        let mut extent: Option<(Timestamp, Timestamp)> = None;
        for column in self.columns() {
            let on_grid = column.frequency_s() == frequency_s;
            // Off the grid a sample is found up to half a step from its time.
            let margin = if on_grid { 0 } else { step };
            let (Some(mut first), Some(mut last)) =
                (column.first(from.saturating_sub(margin)), column.last(to.saturating_add(margin)))
            else {
                continue;
            };
            if !on_grid {
                first = anchors.grid(first)?.slot(first);
                last = anchors.grid(last)?.slot(last);
            }
            let (old_first, old_last) = extent.unwrap_or((first, last));
            extent = Some((old_first.min(first), old_last.max(last)));
        }
        extent.map(|(first, last)| (first, last - step / 2 + step))
    }

    /// Fills `out`, which is all missing, with one value per step from `from` on.
    fn read(self, from: Timestamp, out: &mut [f32]) {
        if let Some(only) = self.simple() {
            return only.read_on_grid(from, out);
        }
        let anchors = self.anchors();
        let mut of_column = vec![f32::NAN; out.len()];
        for column in self.columns() {
            of_column.fill(f32::NAN);
            if column.frequency_s() == self.frequency_s {
                column.read_on_grid(from, &mut of_column);
            } else {
                column.read_off_grid(&anchors, from, &mut of_column);
            }
            // Where two frequencies have a value, the configured one stays: it comes last.
            for (value, new) in out.iter_mut().zip(&of_column).filter(|(_, new)| !new.is_nan()) {
                *value = *new;
            }
        }
    }
}
