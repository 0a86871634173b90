//! Numbering: by which shape the columns of a host that is loaded are numbered, and what was numbered by another one.

use std::sync::Arc;

use store_checkpoint::blockfile;
use store_core::floor::{Floor, FloorState};
use store_core::host::Wanted;
use store_core::record::{Record, logged_rows};
use store_core::shape::{Shape, ShapeHash};
use store_core::stamp::Stamp;

use super::block_files::Indexed;
use super::load::Loading;
use super::scribe::stamp;

impl Loading<'_> {
    /// The shape of a hash, wherever it stands: with another host, in a file of this one, or in the log.
    pub(super) fn shape(&mut self, hash: ShapeHash) -> Option<Arc<Shape>> {
        if let Some(known) = self.shapes.get(&hash) {
            return known.clone();
        }
        // Mostly another host has brought it: to decode it for each would be most of a start.
        let found = match self.engine.store.shape(hash) {
            Some(known) => Some(known),
            None => self.decode_shape(hash)?,
        };
        self.shapes.insert(hash, found.clone());
        found
    }

    /// A shape of a file or of the log, or that there is none; `None` if the log cannot be read now.
    fn decode_shape(&mut self, hash: ShapeHash) -> Option<Option<Arc<Shape>>> {
        let store = &self.engine.store;
        let decode = |bytes: &[u8]| Shape::decode(bytes, |name, s| store.metric_from_file(name, s)).ok();
        let shape = match self.bytes.get(&hash) {
            Some(bytes) => decode(bytes),
            None => match self.tail.shape(&*self.engine.disk, hash, self.patience) {
                Ok(bytes) => bytes.as_deref().and_then(decode),
                Err(e) => {
                    self.cannot_read_log(&e);
                    return None;
                }
            },
        };
        Some(shape.map(|shape| store.intern(shape)))
    }

    /// The host's shape is the longest that anything names. The others are prefixes of it, unless the host has
    /// more than one history: then it begins with an empty one.
    pub(super) fn take_shapes(&mut self, files: &[Indexed], oldest: i64) {
        for (hash, bytes) in files.iter().flat_map(|file| &file.index.shapes) {
            self.bytes.insert(*hash, bytes.clone());
        }
        // A host that comes back after all of it was too old is numbered anew, in the same files.
        let blocks = files.iter().flat_map(|file| &file.index.blocks);
        let blocks = blocks.filter(|found| found.header.end() >= oldest).map(|found| found.header.shape);
        let floors = files.iter().flat_map(|file| &file.index.floors);
        let hides = |found: &&blockfile::FoundFloors| found.floors.iter().any(|(_, before)| *before > oldest);
        let floors = floors.filter(hides).map(|found| found.shape);
        let of_files: Vec<ShapeHash> = blocks.chain(floors).collect();
        // Mostly all belong together, and nobody need look into every record.
        let of_log = self.tail.shapes_of(self.host.cluster(), self.host.name());
        let longest = self.longest_of([&of_files, of_log].concat()).or_else(|| {
            let of_log = self.shapes_from(oldest);
            self.longest_of([of_files, of_log].concat())
        });
        if let Some(longest) = longest {
            self.state.set_shape(longest);
        }
    }

    /// The shapes of those records of the log that say anything of the time from `oldest` on.
    fn shapes_from(&mut self, oldest: i64) -> Vec<ShapeHash> {
        let mut hashes = Vec::new();
        self.each_record(|this, _, record| {
            let (shape, is_from) = match record {
                Record::Rows { shape, .. } if hashes.last() == Some(&shape) => return,
                Record::Rows { shape, rows, .. } => (shape, this.has_rows_from(shape, rows, oldest)),
                Record::Floors { shape, floors, .. } => {
                    (shape, floors.iter().any(|(_, before)| *before > oldest))
                }
                _ => return,
            };
            if is_from {
                hashes.push(shape);
            }
        });
        hashes
    }

    /// The longest of these shapes, if it extends all others.
    fn longest_of(&mut self, mut hashes: Vec<ShapeHash>) -> Option<Arc<Shape>> {
        hashes.sort_unstable();
        hashes.dedup();
        let shapes: Vec<Arc<Shape>> = hashes.into_iter().filter_map(|hash| self.shape(hash)).collect();
        let longest = shapes.iter().max_by_key(|shape| shape.columns().len())?;
        shapes.iter().all(|shape| longest.extends(shape)).then(|| Arc::clone(longest))
    }

    fn has_rows_from(&mut self, shape: ShapeHash, rows: &[u8], oldest: i64) -> bool {
        let Some(shape) = self.shape(shape) else { return false };
        logged_rows(rows).flatten().any(|row| {
            let buffer = shape.buffers().get(usize::from(row.buffer));
            buffer.is_some_and(|buffer| !is_older(row.slot, buffer.frequency_s, oldest))
        })
    }

    /// Floors of files that hide anything still; those of other histories go by name, like their blocks.
    pub(super) fn take_floors_of_files(&mut self, files: &[Indexed], oldest: i64) {
        let s = stamp(self.engine.log.start());
        let floors = files.iter().flat_map(|file| file.index.floors.iter().map(move |found| (file, found)));
        for (file, found) in floors {
            // Those of several histories go too.
            let stays = self.strangers.is_empty() && !file.is_source();
            let state = if stays { FloorState::Saved } else { FloorState::Logged };
            let floors: Vec<_> =
                found.floors.iter().filter(|(_, before)| *before > oldest).copied().collect();
            if floors.is_empty() {
                continue;
            }
            for (column, before) in self.columns_of_floors(found.shape, &floors) {
                self.state.floors_mut().raise(Floor::new(column, before, s, state));
            }
        }
    }

    /// Floors of the log.
    pub(super) fn take_floors(&mut self, hash: ShapeHash, floors: &[(u32, i64)], at: Stamp) {
        for (column, before) in self.columns_of_floors(hash, floors) {
            self.state.floors_mut().replay(Floor::new(column, before, at, FloorState::Logged));
        }
    }

    /// Floors by the columns of this host, which gets those that it lacks: what was freed is not to be taken again,
    /// whether or not there is anything left of the series.
    fn columns_of_floors(&mut self, hash: ShapeHash, floors: &[(u32, i64)]) -> Vec<(u32, i64)> {
        let Some(shape) = self.shape(hash) else {
            self.engine.counters.frames_without_shape.add(1);
            return Vec::new();
        };
        if self.state.shape().extends(&shape) {
            let is_one = |(number, _): &&(u32, i64)| (*number as usize) < shape.columns().len();
            return floors.iter().filter(is_one).copied().collect();
        }
        let oldest = self.from;
        let theirs = |&(number, before): &(u32, i64)| Some((shape.columns().get(number as usize)?, before));
        let named: Vec<_> = floors.iter().filter(|(_, before)| *before > oldest).filter_map(theirs).collect();
        let wanted: Vec<Wanted<'_>> = named
            .iter()
            .map(|&(column, time)| {
                let frequency_s = shape.buffers()[usize::from(column.buffer)].frequency_s;
                Wanted { path: &column.path, metric: column.metric, frequency_s, time }
            })
            .collect();
        let columns = self.register(&wanted);
        let known = columns.into_iter().zip(named);
        known.filter_map(|(column, (_, before))| Some((column?, before))).collect()
    }
}

/// Whether a slot ends before `oldest`.
pub(super) fn is_older(slot: i64, frequency_s: u32, oldest: i64) -> bool {
    slot.saturating_add(i64::from(frequency_s)) < oldest
}
