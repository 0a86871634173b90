//! What a store must answer, from plain maps and the rules alone: no heads, no blocks, no log.

use std::collections::{BTreeMap, BTreeSet};

use store_core::Timestamp;
use store_core::metric::Aggregation;

/// A metric: name, seconds per step, how components are combined.
pub(super) const METRICS: [(&str, u32, Aggregation); 5] = [
    ("temp", 10, Aggregation::Avg),
    ("power", 10, Aggregation::Sum),
    ("load", 60, Aggregation::None),
    ("fan", 15, Aggregation::Avg),
    ("pages", 1, Aggregation::Sum),
];

/// A series: place of its metric in [`METRICS`], and its path below the host.
pub(super) const SERIES: [(usize, &[&str]); 10] = [
    (0, &["socket0"]),
    (0, &["socket1"]),
    (0, &["socket1", "die0"]),
    (1, &["socket0"]),
    (1, &["socket1"]),
    (2, &[]),
    (3, &[]),
    (3, &["fan1"]),
    (4, &["core0"]),
    (4, &["core1"]),
];

pub(super) fn step_of(series: usize) -> i64 {
    i64::from(METRICS[SERIES[series].0].1)
}

/// A sample: series, time, value.
pub(super) type Sample = (usize, Timestamp, f32);

/// The series that share their slots.
#[derive(Debug, Default)]
struct Buffer {
    step: i64,
    anchors: BTreeSet<Timestamp>,
    /// By anchor, slot and series.
    cells: BTreeMap<(Timestamp, Timestamp, usize), f32>,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    buffers: Vec<Buffer>,
    buffer_of: BTreeMap<usize, usize>,
    floors: BTreeMap<usize, Timestamp>,
    /// Everything older may have been dropped, or not.
    dropped: Option<Timestamp>,
}

impl Buffer {
    /// The anchor that governs a moment: the last that has begun. One begins half a step before itself, but behind
    /// the 512 slots of the one before it if it was set because they were over.
    fn anchor(&self, time: Timestamp) -> Option<Timestamp> {
        let half = self.step / 2;
        let mut governing = *self.anchors.first()?;
        for pair in self.anchors.iter().copied().collect::<Vec<_>>().windows(2) {
            let over = pair[0] + 512 * self.step - half;
            let begin = if pair[1] >= over { over.max(pair[1] - half) } else { pair[1] - half };
            if begin <= time {
                governing = pair[1];
            }
        }
        Some(governing)
    }

    fn slot(&self, anchor: Timestamp, time: Timestamp) -> Timestamp {
        anchor + (time - anchor + self.step / 2).div_euclid(self.step) * self.step
    }

    fn place(&self, time: Timestamp, fixed_phase: bool) -> (Timestamp, Timestamp) {
        let Some(anchor) = self.anchor(time) else { return (time, time) };
        let slot = self.slot(anchor, time);
        if slot < anchor + 512 * self.step {
            (anchor, slot)
        } else if fixed_phase {
            (slot, slot)
        } else {
            (time, time)
        }
    }
}

impl Oracle {
    pub(super) fn send(&mut self, message: &[Sample], oldest: Timestamp, fixed_phase: bool) {
        let message: Vec<_> = message.iter().filter(|(_, time, _)| *time >= oldest).collect();
        let known = self.buffers.len();
        let mut begun: Vec<Timestamp> = Vec::new();
        for &&(series, time, _) in &message {
            if self.buffer_of.contains_key(&series) {
                continue;
            }
            let step = step_of(series);
            let in_phase = |at: &usize| {
                let phase =
                    if *at < known { self.buffers[*at].anchor(time) } else { Some(begun[*at - known]) };
                self.buffers[*at].step == step && phase.is_some_and(|phase| (time - phase) % step == 0)
            };
            let buffer = (0..self.buffers.len()).find(in_phase).unwrap_or(self.buffers.len());
            if buffer == self.buffers.len() {
                self.buffers.push(Buffer { step, ..Buffer::default() });
                begun.push(time);
            }
            self.buffer_of.insert(series, buffer);
        }
        for &&(series, time, value) in &message {
            let buffer = &mut self.buffers[self.buffer_of[&series]];
            let (anchor, slot) = buffer.place(time, fixed_phase);
            if self.floors.get(&series).is_none_or(|floor| slot >= *floor) {
                buffer.anchors.insert(anchor);
                buffer.cells.insert((anchor, slot, series), value);
            }
        }
    }

    /// Nothing that ends before `time` is left; what overlaps it may be there or not.
    pub(super) fn drop_before(&mut self, time: Timestamp) {
        self.dropped = self.dropped.max(Some(time));
        for buffer in &mut self.buffers {
            let newest = |anchor: &Timestamp| {
                buffer
                    .cells
                    .range((*anchor, Timestamp::MIN, 0)..=(*anchor, Timestamp::MAX, usize::MAX))
                    .next_back()
            };
            let kept: BTreeSet<Timestamp> = buffer
                .anchors
                .iter()
                .copied()
                .filter(|anchor| newest(anchor).is_some_and(|((_, slot, _), _)| slot + buffer.step >= time))
                .collect();
            buffer.cells.retain(|(anchor, ..), _| kept.contains(anchor));
            buffer.anchors = kept;
        }
    }

    /// The slots of samples that are certainly there.
    fn seen(&self, series: usize) -> BTreeSet<Timestamp> {
        let Some(&buffer) = self.buffer_of.get(&series) else { return BTreeSet::new() };
        let floor = self.floors.get(&series).copied().max(self.dropped).unwrap_or(Timestamp::MIN);
        let cells = self.buffers[buffer].cells.keys();
        cells.filter(|(_, slot, of)| *of == series && *slot >= floor).map(|(_, slot, _)| *slot).collect()
    }

    /// Frees a series; returns the floor, `None` if that hides nothing or if it is not certain what it hides.
    pub(super) fn free(&mut self, series: usize, to: Timestamp) -> Option<Timestamp> {
        let seen = self.seen(series);
        let before = to.min(seen.last()? + 1);
        (*seen.first()? < before).then(|| {
            self.floors.insert(series, before);
            before
        })
    }

    /// The first and the last slot of samples of a series that are certainly there.
    pub(super) fn extent(&self, series: usize) -> Option<(Timestamp, Timestamp)> {
        let seen = self.seen(series);
        Some((*seen.first()?, *seen.last()?))
    }

    /// Time of the first value, and the values, of the sum of some series from `from` on; all must have samples.
    pub(super) fn read(&self, series: &[usize], from: Timestamp, to: Timestamp) -> (Timestamp, Vec<f64>) {
        let step = step_of(series[0]);
        let extents: Vec<_> = series.iter().map(|&series| self.extent(series).unwrap()).collect();
        let from = from.max(extents.iter().map(|(first, _)| *first).min().unwrap());
        let last = extents.iter().map(|(_, last)| *last).max().unwrap();
        let to = to.min(last - step / 2 + step);
        let mut values = Vec::new();
        let mut time = from;
        while time < to {
            values.push(series.iter().map(|&series| f64::from(self.value(series, time))).sum());
            time += step;
        }
        (from, values)
    }

    /// The value of the slot that contains a moment.
    fn value(&self, series: usize, time: Timestamp) -> f32 {
        let buffer = &self.buffers[self.buffer_of[&series]];
        let Some(anchor) = buffer.anchor(time) else { return f32::NAN };
        let slot = buffer.slot(anchor, time);
        let hidden = self.floors.get(&series).is_some_and(|floor| slot < *floor);
        let cell = buffer.cells.get(&(anchor, slot, series)).filter(|_| !hidden);
        cell.copied().unwrap_or(f32::NAN)
    }
}
