//! Replay: what the log holds of a host, row by row, over what its files hold.

use std::sync::Arc;

use store_core::block::Block;
use store_core::host::{Sample, Wanted};
use store_core::record::{self, RawSample, Record};
use store_core::row::Rows;
use store_core::shape::ShapeHash;
use store_core::stamp::Stamp;

use super::load::Loading;

impl Loading<'_> {
    /// Applies what the log holds of this host, in the order of positions.
    pub(super) fn replay(&mut self) {
        let frames = self.frames().to_vec();
        let now = self.engine.now();
        let mut rows = Rows::default();
        for frame in frames {
            rows.clear();
            match Record::decode(frame.kind, &frame.payload) {
                Ok(Record::Rows { shape, rows: bytes, .. }) => {
                    self.rows_of_frame(shape, bytes, frame.stamp, &mut rows);
                }
                Ok(Record::Samples { samples, .. }) => self.rows_of_samples(&samples, frame.stamp, &mut rows),
                Ok(Record::Floors { shape, floors, .. }) => {
                    self.take_floors(shape, &floors, Some(frame.stamp))
                }
                _ => {}
            }
            self.host.apply(&mut self.state, rows.as_slice(), frame.stamp, now);
        }
    }

    fn rows_of_frame(&mut self, hash: ShapeHash, bytes: &[u8], at: Stamp, rows: &mut Rows) {
        let Some(shape) = self.shape(hash) else {
            self.engine.counters.frames_without_shape.add(1);
            return;
        };
        if record::read_rows(bytes, rows).is_err() {
            self.engine.counters.frames_unreadable.add(1);
        }
        if self.strangers.is_empty() && self.state.shape().extends(&shape) {
            self.leave_out_superseded(rows, at);
            return;
        }
        let mut samples = Vec::new();
        for row in rows.as_slice() {
            let Some(buffer) = shape.buffers().get(usize::from(row.buffer)) else { continue };
            for &(index, value) in &row.cells {
                let Some(&number) = buffer.columns.get(index as usize) else { continue };
                let column = &shape.columns()[number as usize];
                let metric = self.engine.store.catalog().get(column.metric).name.clone();
                samples.push(RawSample { path: column.path.clone(), metric, time: row.slot, value });
            }
        }
        rows.clear();
        self.rows_of_samples(&samples, at, rows);
    }

    /// Rows for samples that name their series, without those that a newer block of a file covers.
    pub(super) fn rows_of_samples(&mut self, samples: &[RawSample], at: Stamp, rows: &mut Rows) {
        let store = &self.engine.store;
        let samples: Vec<&RawSample> =
            samples.iter().filter(|sample| !self.is_known_better(sample, at)).collect();
        let wanted: Vec<Wanted> = samples
            .iter()
            .map(|sample| {
                // A metric that nobody configured is carried with the frequency that loses nothing.
                let fallback = store.auto_frequency_s().unwrap_or(1);
                let metric = store.metric_from_file(&sample.metric, fallback);
                let frequency_s = store.catalog().get(metric).frequency_s;
                Wanted { path: sample.path.clone(), metric, frequency_s, time: sample.time }
            })
            .collect();
        let room = store.series_room();
        let columns = self.state.register(store.catalog(), &wanted, room, |shape| store.intern(shape));
        self.blocks.resize_with(self.state.buffers().len(), Vec::new);
        let known: Vec<Sample> = samples
            .iter()
            .zip(columns)
            .filter_map(|(sample, column)| {
                Some(Sample { column: column?, time: sample.time, value: sample.value })
            })
            .collect();
        self.state.place(&known, self.engine.placing(), rows);
        self.leave_out_superseded(rows, at);
    }

    /// Empties rows that an intact block of a file knows better, one that covers the slot as of a later moment, and
    /// leaves out what was freed.
    fn leave_out_superseded(&mut self, rows: &mut Rows, at: Stamp) {
        let oldest = self.engine.oldest();
        let fixed_phase = self.engine.is_dumping();
        let shape = Arc::clone(self.state.shape());
        for row in rows.as_mut_slice() {
            let Some(blocks) = self.blocks.get(usize::from(row.buffer)) else {
                row.cells.clear();
                continue;
            };
            let buffer = &mut self.state.buffers_mut()[usize::from(row.buffer)];
            if !buffer.takes(row.anchor, row.slot) {
                (row.anchor, row.slot) = buffer.place(row.slot, fixed_phase);
            }
            let (anchor, slot) = (row.anchor, row.slot);
            let knows_better = |block: &Arc<Block>| {
                block.header().as_of > at && block.header().covers(anchor, slot) && block.check()
            };
            let step = i64::from(buffer.frequency_s());
            if slot.saturating_add(step) < oldest || blocks.iter().any(knows_better) {
                row.cells.clear();
                continue;
            }
            buffer.note_anchor(anchor);
            let columns = &shape.buffers()[usize::from(row.buffer)].columns;
            let floors = self.state.floors();
            row.cells.retain(|(index, value)| {
                columns
                    .get(*index as usize)
                    .is_some_and(|column| floors.is_empty() || slot >= floors.of(*column))
                    && !value.is_nan()
            });
        }
    }

    /// Whether a block of another history knows a sample better: one that holds its slot as of a later moment.
    fn is_known_better(&self, sample: &RawSample, at: Stamp) -> bool {
        self.strangers.iter().any(|block| {
            let (header, shape) = (block.header(), block.shape());
            let half = i64::from(header.grid.frequency_s / 2);
            header.as_of > at
                && (header.base - half..header.end() - half).contains(&sample.time)
                && shape.buffers()[usize::from(header.buffer)].columns[..header.columns as usize].iter().any(
                    |&number| {
                        let column = &shape.columns()[number as usize];
                        column.path == sample.path
                            && self.engine.store.catalog().get(column.metric).name == sample.metric
                    },
                )
                && block.check()
        })
    }
}
