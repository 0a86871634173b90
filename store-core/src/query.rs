//! [`Plan`]: what a query needs of a host, taken under its mutex and evaluated without it.

mod column;
mod samples;

use std::borrow::Cow;
use std::sync::Arc;

use self::column::{BufferPlan, ColumnPlan};
use crate::Timestamp;
use crate::anchors::Anchors;
use crate::grid::Grid;
use crate::host::HostState;
use crate::level::Element;
use crate::metric::{Aggregation, Metric, MetricId};
use crate::resample::{self, ResampleError, Resampler};

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

/// The most values of a run: two years of seconds. Samples further apart come from damage or a broken clock.
pub const RUN_ROWS_MAX: i64 = 1 << 26;

/// Everything a query needs of one host: clones of blocks and copies of head cells.
///
/// Evaluated without any lock, rather than under the host's: decoding, and reading what is only mapped, take longer
/// than a batch of samples may wait.
#[derive(Debug)]
pub struct Plan {
    series: Vec<SeriesPlan>,
    aggregation: Aggregation,
    frequency_s: u32,
}

/// One series: its columns at the frequency of the answer last, those of older frequencies in front.
#[derive(Debug)]
struct SeriesPlan {
    columns: Vec<ColumnPlan>,
    frequency_s: u32,
}

impl Plan {
    /// What `selector` means for `metric` on this host.
    pub fn gather(state: &HostState, selector: &[Element], id: MetricId, metric: &Metric) -> Self {
        let mut selected = Vec::new();
        state.shape().root().select(selector, id, &mut selected);
        Self::of(state, &selected, metric.frequency_s, metric.aggregation)
    }

    /// The columns of one series of a host, to be read as a [`run`](Self::run).
    pub fn of_columns(state: &HostState, columns: &[u32], frequency_s: u32) -> Self {
        Self::of(state, &[columns], frequency_s, Aggregation::None)
    }

    fn of(state: &HostState, selected: &[&[u32]], frequency_s: u32, aggregation: Aggregation) -> Self {
        let mut buffers: Vec<Option<Arc<BufferPlan>>> = vec![None; state.buffers().len()];
        let series = selected
            .iter()
            .map(|columns| {
                let gather = |&number: &u32| ColumnPlan::gather(state, number, &mut buffers);
                let mut columns: Vec<ColumnPlan> = columns.iter().map(gather).collect();
                columns.sort_by_key(|column| column.frequency_s() == frequency_s);
                SeriesPlan { columns, frequency_s }
            })
            .collect();
        Self { series, aggregation, frequency_s }
    }

    /// The samples in `[from, to)` as values from slot to slot: the time of the first sample, and everything up
    /// to the last one. `None` if there is none. Of more than [`RUN_ROWS_MAX`] slots the newest.
    pub fn run(&self, from: Timestamp, to: Timestamp) -> Option<(Timestamp, Vec<f32>)> {
        let series = self.series.first()?;
        let step = i64::from(self.frequency_s);
        let (first, end) = series.extent(Timestamp::MIN, Timestamp::MAX)?;
        let end = end.min(to);
        if from >= end {
            return None;
        }
        // All runs of a series have the phase of its first anchor, wherever they are cut.
        let anchor = series.anchors().as_slice().first().copied().unwrap_or(first);
        let mut base = Grid { anchor, frequency_s: self.frequency_s }.slot(first.max(from));
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

    /// Reads, aggregates and resamples. `None` if there is no series, or none with a sample.
    ///
    /// # Errors
    /// If the range is empty backwards, the series cannot be combined, the answer is too large, or the resolution
    /// is no multiple of the frequency.
    pub fn read(&self, range: &Range) -> Result<Option<Series>, QueryError> {
        if range.from > range.to {
            return Err(QueryError::InvalidRange);
        }
        let found: Vec<(&SeriesPlan, (Timestamp, Timestamp))> = self
            .series
            .iter()
            .filter_map(|series| Some((series, series.extent(range.from, range.to)?)))
            .collect();
        if found.len() > 1 && self.aggregation == Aggregation::None {
            return Err(QueryError::InvalidAggregation);
        }
        let extents = || found.iter().map(|(_, extent)| *extent);
        let Some(first) = extents().map(|(first, _)| first).min() else { return Ok(None) };
        let from = range.from.max(first);
        let end = extents().map(|(_, end)| end).fold(from, Timestamp::max).min(range.to);
        let step = i64::from(self.frequency_s);
        let span = end.saturating_sub(from).max(0);
        let points = span.div_euclid(step) + i64::from(span % step != 0);
        let points = u64::try_from(points).unwrap_or(0);
        if points > range.points_max {
            return Err(QueryError::TooManyPoints { points, limit: range.points_max });
        }
        let points = usize::try_from(points).unwrap_or(0);
        let values = self.values(found.iter().map(|(series, _)| *series), from, points);
        let to = from + points as i64 * step;
        let (values, resolution_s) = resample::resample(Resampler::Lttb, values, step, range.resolution_s)?;
        Ok(Some(Series { values, from, to, resolution_s }))
    }

    fn values<'a>(
        &self,
        series: impl ExactSizeIterator<Item = &'a SeriesPlan>,
        from: Timestamp,
        points: usize,
    ) -> Vec<f64> {
        let count = series.len();
        let mut one = vec![f32::NAN; points];
        // 0 + x is x for all but -0, which one series alone must keep.
        let mut sums = vec![-0.0; points];
        for series in series {
            one.fill(f32::NAN);
            series.read(from, &mut one);
            sums.iter_mut().zip(&one).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        if self.aggregation == Aggregation::Avg && count > 1 {
            let share = 1.0 / count as f64;
            sums.iter_mut().for_each(|sum| *sum *= share);
        }
        sums
    }
}

impl SeriesPlan {
    /// From what its steps are counted: at the frequency of the answer, whatever that of the samples was.
    fn anchors(&self) -> Cow<'_, Anchors> {
        let Some(last) = self.columns.last() else { return Cow::Owned(Anchors::new(self.frequency_s)) };
        if last.frequency_s() == self.frequency_s && !last.anchors().as_slice().is_empty() {
            return Cow::Borrowed(last.anchors());
        }
        let mut anchors = Anchors::new(self.frequency_s);
        if let Some(first) = self.columns.iter().find_map(|column| column.anchors().as_slice().first()) {
            anchors.note(*first);
        }
        Cow::Owned(anchors)
    }

    /// The slot of the first sample, and where the slot of the newest one ends; `None` without a sample. What is
    /// before `from`, or at or behind `to`, need not be exact.
    fn extent(&self, from: Timestamp, to: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let anchors = self.anchors();
        let step = i64::from(self.frequency_s);
        let mut extent: Option<(Timestamp, Timestamp)> = None;
        for column in &self.columns {
            let on_grid = column.frequency_s() == self.frequency_s;
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
    fn read(&self, from: Timestamp, out: &mut [f32]) {
        if let [only] = &self.columns[..]
            && only.frequency_s() == self.frequency_s
        {
            return only.read_on_grid(from, out);
        }
        let anchors = self.anchors();
        let mut of_column = vec![f32::NAN; out.len()];
        for column in &self.columns {
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

#[cfg(test)]
mod tests;
