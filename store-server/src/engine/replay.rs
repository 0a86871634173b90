//! Replay: what the log holds of a host, row by row, over what its files hold.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use store_core::block::Block;
use store_core::host::{Sample, Wanted};
use store_core::record::{LoggedRow, RawSample, Record, logged_rows};
use store_core::row::{Row, RowView, Rows};
use store_core::shape::{Column, Shape, ShapeHash};
use store_core::stamp::Stamp;

use super::Engine;
use super::load::Loading;
use super::numbering::is_older;
use super::problems::Grade;

/// Where a row belongs, and what of it is to be taken.
struct Place {
    anchor: i64,
    slot: i64,
    /// The only columns that are to be taken: those that newer blocks had and lost.
    lost: Option<Vec<u32>>,
}

/// A row of a frame that is to be applied.
enum Taken<'f> {
    /// As it stands in the frame.
    AsLogged(RowView<'f>),
    /// This one of those that were unpacked.
    Unpacked(usize),
}

impl<'f> Taken<'f> {
    fn view<'r>(&self, unpacked: &'r Rows) -> RowView<'r>
    where
        'f: 'r,
    {
        match self {
            Self::AsLogged(row) => *row,
            Self::Unpacked(at) => unpacked.as_slice()[*at].view(),
        }
    }
}

impl Loading<'_> {
    /// Applies what the log holds of this host, in the order of positions.
    pub(super) fn replay(&mut self) {
        let now = self.engine.now();
        let mut rows = Rows::default();
        self.each_record(|this, at, record| {
            rows.clear();
            match record {
                Record::Rows { shape, rows: bytes, .. } => this.replay_rows(shape, bytes, at, now, &mut rows),
                Record::NamedRows { shape, rows: bytes, .. } => {
                    this.replay_named_rows(shape, bytes, at, now, &mut rows);
                }
                Record::Samples { samples, .. } => {
                    this.rows_of_samples(&samples, at, &mut rows);
                    this.host.apply(&mut this.state, rows.views(), at, now);
                }
                Record::Floors { shape, floors, .. } => this.take_floors(shape, &floors, at),
                _ => {}
            }
        });
    }

    /// Calls `visit` with what the log holds of this host, record by record.
    pub(super) fn each_record(&mut self, mut visit: impl FnMut(&mut Self, Stamp, Record<'_>)) {
        let (engine, tail, patience) = (self.engine, self.tail, self.patience);
        let name = (self.host.cluster(), self.host.name());
        match tail.each_record(&*engine.disk, name, patience, |at, record| visit(self, at, record)) {
            Ok(0) => {}
            Ok(lost) => self.note_lost_frames(lost),
            Err(e) => self.cannot_read_log(&e),
        }
    }

    /// Says that frames of this host were in the log, and are not now.
    pub(super) fn note_lost_frames(&self, lost: u64) {
        let counters = &self.engine.counters;
        counters.frames_unreadable.add(lost);
        let what =
            "frames of the log cannot be read: what is in them is not served, and their segments are kept";
        counters.trouble(Grade::Error, what, &self.engine.host_dir(self.host), &format!("{lost} frames"));
    }

    fn replay_rows(&mut self, hash: ShapeHash, bytes: &[u8], at: Stamp, now: i64, rows: &mut Rows) {
        let Some(shape) = self.shape(hash) else {
            self.engine.counters.frames_without_shape.add(1);
            return;
        };
        let logged = logged(self.engine, bytes);
        if self.strangers.is_empty() && self.state.shape().extends(&shape) {
            let taken = self.take_rows(logged, at, rows);
            let views = taken.iter().map(|row| row.view(rows));
            self.host.apply(&mut self.state, views, at, now);
        } else {
            let samples = self.samples_of(logged, &shape);
            self.rows_of_samples(&samples, at, rows);
            self.host.apply(&mut self.state, rows.views(), at, now);
        }
    }

    /// Rows that bring the names of their columns.
    fn replay_named_rows(&mut self, shape: &[u8], bytes: &[u8], at: Stamp, now: i64, rows: &mut Rows) {
        let store = &self.engine.store;
        let Ok(shape) = Shape::decode(shape, |name, s| store.metric_from_file(name, s)) else {
            self.engine.counters.frames_unreadable.add(1);
            return;
        };
        let logged = logged(self.engine, bytes);
        if self.strangers.is_empty() {
            self.renumber(logged, &shape, at, rows);
        } else {
            let samples = self.samples_of(logged, &shape);
            self.rows_of_samples(&samples, at, rows);
        }
        self.host.apply(&mut self.state, rows.views(), at, now);
    }

    /// Rows that are numbered by `shape` as rows of this host, which gets the columns that it lacks.
    fn renumber<'f>(
        &mut self,
        logged: impl Iterator<Item = LoggedRow<'f>>,
        shape: &Shape,
        at: Stamp,
        rows: &mut Rows,
    ) {
        let (mut wanted, mut places) = (Vec::new(), Vec::new());
        self.each_cell(logged, shape, |row, Column { path, metric, buffer, .. }, value| {
            let frequency_s = shape.buffers()[usize::from(*buffer)].frequency_s;
            wanted.push(Wanted { path, metric: *metric, frequency_s, time: row.slot });
            places.push((row.anchor, row.slot, value));
        });
        let columns = self.register(&wanted);
        for (column, (anchor, slot, value)) in columns.into_iter().zip(places) {
            let Some(column) = column else { continue };
            let Column { buffer, index, .. } = self.state.shape().columns()[column as usize];
            rows.row(buffer, anchor, slot).cells.push((index, value));
        }
        self.settle(rows, at);
    }

    /// The columns of series; a buffer that is new has no blocks yet.
    pub(super) fn register(&mut self, wanted: &[Wanted<'_>]) -> Vec<Option<u32>> {
        let columns = self.state.register(&self.engine.store, wanted, usize::MAX);
        self.blocks.resize_with(self.state.buffers().len(), Vec::new);
        columns
    }

    /// The rows of a frame that are to be applied. Their places are all decided before the first one is, as they
    /// were when they came.
    fn take_rows<'f>(
        &mut self,
        logged: impl Iterator<Item = LoggedRow<'f>>,
        at: Stamp,
        rows: &mut Rows,
    ) -> Vec<Taken<'f>> {
        let mut taken = Vec::new();
        for row in logged {
            let Some(place) = self.place(row.buffer, row.anchor, row.slot, at) else { continue };
            let (buffer, Place { anchor, slot, lost }) = (row.buffer, place);
            let known = self.state.shape().buffers()[usize::from(buffer)].columns.len();
            let is_all = lost.is_none() && self.state.floors().is_empty();
            match row.first_cells().filter(|cells| cells.span() <= known && is_all) {
                Some(cells) => taken.push(Taken::AsLogged(RowView { buffer, anchor, slot, cells })),
                None => {
                    taken.push(Taken::Unpacked(rows.as_slice().len()));
                    let unpacked = rows.add(buffer, anchor, slot);
                    row.unpack(&mut unpacked.cells);
                    keep_lost(unpacked, lost.as_deref());
                    self.leave_out_freed(unpacked);
                }
            }
        }
        taken
    }

    /// The values of rows by the names of their series.
    fn samples_of<'f>(&self, logged: impl Iterator<Item = LoggedRow<'f>>, shape: &Shape) -> Vec<RawSample> {
        let mut samples = Vec::new();
        self.each_cell(logged, shape, |row, column, value| {
            let Some(metric) = self.engine.store.catalog().get(column.metric) else { return };
            let metric = metric.name.clone();
            samples.push(RawSample { path: column.path.clone(), metric, time: row.slot, value });
        });
        samples
    }

    /// Calls `visit` with each cell of rows that are numbered by `shape`: its row, its column, its value.
    ///
    /// A replay leaves nothing out for its age, for the sweep behind the load drops what is too old. Except here: rows
    /// that are numbered in another way than the host is now may be of a time before it was gone, and those that the
    /// sweep would drop are to leave neither series nor grids behind, by which newer rows would be counted.
    fn each_cell<'f, 's>(
        &self,
        logged: impl Iterator<Item = LoggedRow<'f>>,
        shape: &'s Shape,
        mut visit: impl FnMut(&LoggedRow<'f>, &'s Column, f32),
    ) {
        let mut cells = Vec::new();
        for row in logged {
            let Some(buffer) = shape.buffers().get(usize::from(row.buffer)) else { continue };
            if is_older(row.slot, buffer.frequency_s, self.from) {
                continue;
            }
            cells.clear();
            row.unpack(&mut cells);
            for &(index, value) in &cells {
                let Some(&number) = buffer.columns.get(index as usize) else { continue };
                visit(&row, &shape.columns()[number as usize], value);
            }
        }
    }

    /// Rows for samples that name their series, without those that a newer block of a file covers.
    pub(super) fn rows_of_samples(&mut self, samples: &[RawSample], at: Stamp, rows: &mut Rows) {
        let store = &self.engine.store;
        let samples: Vec<&RawSample> =
            samples.iter().filter(|sample| !self.is_known_better(sample, at)).collect();
        let wanted: Vec<Wanted<'_>> = samples
            .iter()
            .map(|sample| {
                // A metric that nobody configured is carried with the frequency that loses nothing.
                let fallback = store.auto_frequency_s().unwrap_or(NonZeroU32::MIN);
                let metric = store.metric_from_file(&sample.metric, fallback);
                let frequency_s =
                    store.catalog().get(metric).map_or(fallback, |metric| metric.frequency_s).get();
                Wanted { path: &sample.path, metric, frequency_s, time: sample.time }
            })
            .collect();
        let columns = self.register(&wanted);
        let known: Vec<Sample> = samples
            .iter()
            .zip(columns)
            .filter_map(|(sample, column)| {
                Some(Sample { column: column?, time: sample.time, value: sample.value })
            })
            .collect();
        self.state.place(&known, self.engine.placing(), rows);
        self.settle(rows, at);
    }

    /// Finds the places of rows, empties those that are superseded, and leaves out what was freed.
    fn settle(&mut self, rows: &mut Rows, at: Stamp) {
        for row in rows.as_mut_slice() {
            match self.place(row.buffer, row.anchor, row.slot, at) {
                Some(Place { anchor, slot, lost }) => {
                    (row.anchor, row.slot) = (anchor, slot);
                    keep_lost(row, lost.as_deref());
                    self.leave_out_freed(row);
                }
                None => row.cells.clear(),
            }
        }
    }

    /// The place of a row; `None` if a block of a file knows all of it better, one that
    /// covers the slot as of a later moment. What such blocks have lost the row fills, cell by cell.
    fn place(&mut self, buffer: u16, anchor: i64, slot: i64, at: Stamp) -> Option<Place> {
        let number = usize::from(buffer);
        let blocks = self.blocks.get(number)?;
        let buffer = &mut self.state.buffers_mut()[number];
        let (anchor, slot) = if buffer.takes(anchor, slot) {
            (anchor, slot)
        } else {
            buffer.place(slot, self.engine.is_dumping())
        };
        // They are in the order of their `as_of`, and most are older than the log.
        let newer = &blocks[blocks.partition_point(|block| block.header().as_of <= at)..];
        let mut lost: Option<Vec<u32>> = None;
        for block in newer.iter().filter(|block| block.header().covers(anchor, slot)) {
            let damaged = damaged_columns(&self.looked_at, block);
            let in_all = |column: &u32| damaged.contains(column);
            lost = Some(match lost {
                None => damaged.to_vec(),
                Some(lost) => lost.into_iter().filter(in_all).collect(),
            });
        }
        if lost.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        buffer.note_anchor(anchor);
        Some(Place { anchor, slot, lost })
    }

    fn leave_out_freed(&self, row: &mut Row) {
        let columns = &self.state.shape().buffers()[usize::from(row.buffer)].columns;
        let floors = self.state.floors();
        let slot = row.slot;
        row.cells.retain(|(index, value)| {
            columns.get(*index as usize).is_some_and(|column| floors.is_empty() || slot >= floors.of(*column))
                && !value.is_nan()
        });
    }

    /// Whether a block of another history knows a sample better: one that holds its slot as of a later moment.
    fn is_known_better(&self, sample: &RawSample, at: Stamp) -> bool {
        self.strangers.iter().any(|block| {
            let (header, shape) = (block.header(), block.shape());
            let half = i64::from(header.grid.frequency_s / 2);
            header.as_of > at
                && (header.base - half..header.end() - half).contains(&sample.time)
                && (0..header.columns).any(|index| {
                    let number = shape.buffers()[usize::from(header.buffer)].columns[index as usize];
                    let column = &shape.columns()[number as usize];
                    column.path == sample.path
                        && self
                            .engine
                            .store
                            .catalog()
                            .get(column.metric)
                            .is_some_and(|metric| metric.name == sample.metric)
                        && !damaged_columns(&self.looked_at, block).contains(&index)
                })
        })
    }
}

/// The columns of a block that are damaged; each block is looked at once.
fn damaged_columns(looked_at: &RefCell<HashMap<*const Block, Arc<[u32]>>>, block: &Arc<Block>) -> Arc<[u32]> {
    let look = || block.sweep().into_iter().map(|(column, _)| column).collect();
    // The blocks live as long as the host is loaded, so that no place is taken twice.
    Arc::clone(looked_at.borrow_mut().entry(Arc::as_ptr(block)).or_insert_with(look))
}

/// Leaves of a row only what newer blocks have lost, if there are any.
fn keep_lost(row: &mut Row, lost: Option<&[u32]>) {
    if let Some(lost) = lost {
        row.cells.retain(|(index, _)| lost.contains(index));
    }
}

/// The rows of a frame, up to the first that cannot be read.
fn logged<'f>(engine: &'f Engine, bytes: &'f [u8]) -> impl Iterator<Item = LoggedRow<'f>> {
    logged_rows(bytes).map_while(|row| {
        engine.counters.frames_unreadable.add(u64::from(row.is_err()));
        row.ok()
    })
}
