//! [`BlockPages`]: a block file as blocks read it, and [`DamageNotes`]: what they found damaged there.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use store_core::Timestamp;
use store_core::block::ColumnDamage;
use store_core::metric::MetricId;
use store_core::pages::{DamagedColumn, Pages, Unavailable};
use store_core::shape::{Shape, ShapeHash};
use store_disk::{Disk, FileView, WholeFile};

use super::{Index, index};

/// Columns that are remembered, so that each is told once. What is found beyond them is not told.
const COLUMNS_MAX: usize = 10_000;

/// A column of a block that was not what was written when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageNote {
    /// The block file.
    pub path: Arc<Path>,
    /// Time of the first row that is missing now.
    pub from: Timestamp,
    /// Time behind the last one.
    pub to: Timestamp,
    /// The level of the series below its host.
    pub level: Box<[Box<str>]>,
    /// The metric of the series.
    pub metric: MetricId,
    /// What is wrong with the column.
    pub what: ColumnDamage,
}

/// Damage that was found while columns were read: each column once, until somebody takes the notes.
#[derive(Debug, Default)]
pub struct DamageNotes {
    notes: Mutex<Notes>,
    /// Whether there is something to take: asked twice a second.
    fresh: AtomicBool,
}

#[derive(Debug, Default)]
struct Notes {
    /// By file, place of the block, and column.
    known: HashSet<(Arc<Path>, u64, u32)>,
    fresh: Vec<DamageNote>,
}

impl DamageNotes {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found since the last call.
    pub fn take(&self) -> Vec<DamageNote> {
        if self.fresh.swap(false, Ordering::Relaxed) {
            std::mem::take(&mut self.notes().fresh)
        } else {
            Vec::new()
        }
    }

    fn enter(&self, path: &Arc<Path>, damaged: &DamagedColumn<'_>) {
        let mut notes = self.notes();
        let key = (Arc::clone(path), damaged.at, damaged.column);
        if notes.known.len() >= COLUMNS_MAX || !notes.known.insert(key) {
            return;
        }
        let of_buffer = &damaged.shape.buffers()[usize::from(damaged.header.buffer)].columns;
        let column = &damaged.shape.columns()[of_buffer[damaged.column as usize] as usize];
        notes.fresh.push(DamageNote {
            path: Arc::clone(path),
            from: damaged.header.base,
            to: damaged.header.end(),
            level: column.path.clone(),
            metric: column.metric,
            what: damaged.what,
        });
        self.fresh.store(true, Ordering::Relaxed);
    }
}

/// A block file at hand: its blocks read their columns from here.
#[derive(Debug)]
pub(crate) struct BlockPages {
    view: Arc<dyn FileView>,
    path: Arc<Path>,
    notes: Arc<DamageNotes>,
}

impl BlockPages {
    pub(crate) fn shared(view: Arc<dyn FileView>, path: &Path, notes: &Arc<DamageNotes>) -> Arc<dyn Pages> {
        Arc::new(Self { view, path: path.into(), notes: Arc::clone(notes) })
    }
}

impl Pages for BlockPages {
    fn ensure(&self, range: Range<u64>) {
        self.view.ensure(range);
    }

    fn get(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, Unavailable> {
        self.view.get(range).map_err(|_| Unavailable)
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<u8>, Unavailable> {
        self.view.read(range).map_err(|_| Unavailable)
    }

    fn report(&self, damaged: &DamagedColumn<'_>) {
        self.notes.enter(&self.path, damaged);
    }

    fn is_mapped(&self) -> bool {
        self.view.is_mapped()
    }
}

/// A block file that was opened: what is in it, and the bytes for its blocks.
#[derive(Debug)]
pub struct Opened {
    /// What is in it.
    pub index: Index,
    /// Its bytes: mapped, or read where they cannot be.
    pub pages: Arc<dyn Pages>,
}

impl Opened {
    /// Opens a block file to keep it: what is in it is found by reading, and the blocks get a map.
    ///
    /// # Errors
    /// The disk does not give it.
    pub fn open(disk: &dyn Disk, path: &Path, notes: &Arc<DamageNotes>) -> io::Result<Self> {
        let file = disk.open(path)?;
        let index = index(&*file);
        let view = match file.view()? {
            Some(view) => view,
            None => Arc::new(WholeFile::read(file.read_at(0..file.len())?.into_owned().into())),
        };
        Ok(Self { index, pages: BlockPages::shared(view, path, notes) })
    }

    /// Opens a block file to go through all of it once: into memory, not through a map.
    ///
    /// # Errors
    /// The disk does not give it.
    pub fn read(disk: &dyn Disk, path: &Path, notes: &Arc<DamageNotes>) -> io::Result<Self> {
        Ok(Self::of_bytes(disk.read(path)?.into(), path, notes))
    }

    /// Whether every column of its blocks is what was written; reads all of them. A block whose shape the file does not
    /// have counts as damaged.
    pub fn is_undamaged(&self) -> bool {
        let mut metrics: HashMap<Box<str>, MetricId> = HashMap::new();
        let mut number = |name: &str| {
            // Only what is read here is numbered by them.
            let next = MetricId(u32::try_from(metrics.len()).unwrap_or(u32::MAX));
            *metrics.entry(name.into()).or_insert(next)
        };
        let mut shapes: HashMap<ShapeHash, Arc<Shape>> = HashMap::new();
        for (hash, bytes) in &self.index.shapes {
            if let Ok(shape) = Shape::decode(bytes, |name, _frequency_s| number(name)) {
                shapes.insert(*hash, Arc::new(shape));
            }
        }
        self.index.blocks.iter().all(|found| {
            let shape = shapes.get(&found.header.shape);
            let block = shape.and_then(|shape| found.block(Arc::clone(shape), Arc::clone(&self.pages)).ok());
            block.is_some_and(|block| block.damaged_columns().is_empty())
        })
    }

    /// A block file whose bytes are in memory.
    pub fn of_bytes(bytes: Bytes, path: &Path, notes: &Arc<DamageNotes>) -> Self {
        let whole = WholeFile::read(bytes);
        Self { index: index(&whole), pages: BlockPages::shared(Arc::new(whole), path, notes) }
    }
}
