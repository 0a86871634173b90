//! What the tests of block files share: shapes, blocks, a disk that lies, and an oracle of what a host shows.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use store_checkpoint::blockfile::{self, BlockFile, FloorsFrame, Index, Opened};
use store_core::block::{Block, BlockHeader};
use store_core::codec;
use store_core::grid::Grid;
use store_core::metric::{Aggregation, Catalog, Metric};
use store_core::pages::Pages;
use store_core::shape::{NewColumn, Shape, ShapeHash};
use store_core::stamp::Stamp;
use store_disk::sim::Op;
use store_disk::{Disk, DiskFile, DiskLock, Entry, Lineage, SimDisk, WholeFile};

pub(crate) const LINEAGE: Lineage = Lineage([7; 16]);
pub(crate) const FOREIGN: Lineage = Lineage([8; 16]);

/// Shapes of one host, each extending the one before it.
pub(crate) struct Kit {
    pub(crate) catalog: Catalog,
    pub(crate) shapes: Vec<Arc<Shape>>,
}

impl Kit {
    /// Buffer 0 has steps of 10 s and two columns, then three; buffer 1 has steps of 60 s and comes with the
    /// third shape.
    pub(crate) fn new() -> Self {
        let metric = |name: &str, frequency_s: u32| Metric {
            name: name.into(),
            frequency_s: frequency_s.try_into().unwrap(),
            aggregation: Aggregation::Sum,
            served: true,
        };
        let catalog = Catalog::new([metric("a", 10), metric("b", 10), metric("slow", 60)]);
        let column = |path: &[&str], name: &str, buffer| NewColumn {
            path: path.iter().map(|&name| name.into()).collect(),
            metric: catalog.id(name).unwrap(),
            buffer,
        };
        let first =
            Shape::empty(&catalog).extended(&catalog, &[10], &[column(&[], "a", 0), column(&[], "b", 0)]);
        let second = first.extended(&catalog, &[], &[column(&["socket0"], "a", 0)]);
        let third =
            second.extended(&catalog, &[60], &[column(&[], "slow", 1), column(&["socket0"], "slow", 1)]);
        let shapes = [first, second, third].map(Arc::new).to_vec();
        Self { catalog, shapes }
    }

    pub(crate) fn newest(&self) -> &Arc<Shape> {
        self.shapes.last().unwrap()
    }

    pub(crate) fn resolve(&self, hash: ShapeHash, bytes: &[u8]) -> Option<Arc<Shape>> {
        let shape = Shape::decode(bytes, |name, _| self.catalog.id(name).unwrap()).ok()?;
        (shape.hash() == hash).then(|| Arc::new(shape))
    }

    /// A block of some rows (in steps from 0) of a buffer, with values that tell slot, column and stamp; raw, so
    /// that equal shapes and rows give frames of equal length.
    pub(crate) fn block(
        &self,
        shape: usize,
        buffer: u16,
        rows: std::ops::Range<i64>,
        as_of: u64,
    ) -> Arc<Block> {
        self.block_on(shape, buffer, 0, rows, as_of)
    }

    /// As [`block`](Self::block), on a grid counted from `anchor`.
    pub(crate) fn block_on(
        &self,
        shape: usize,
        buffer: u16,
        anchor: i64,
        rows: std::ops::Range<i64>,
        as_of: u64,
    ) -> Arc<Block> {
        let shape = &self.shapes[shape];
        let in_buffer = &shape.buffers()[usize::from(buffer)];
        let step = i64::from(in_buffer.frequency_s);
        let header = BlockHeader {
            codec: codec::RAW,
            buffer,
            grid: Grid { anchor, frequency_s: in_buffer.frequency_s },
            base: anchor + rows.start * step,
            rows: u32::try_from(rows.end - rows.start).unwrap(),
            columns: u32::try_from(in_buffer.columns.len()).unwrap(),
            as_of: Stamp(as_of),
            shape: shape.hash(),
            body_bytes: 0,
        };
        Arc::new(Block::seal(header, Arc::clone(shape), |column, out| {
            for (row, value) in rows.clone().zip(out) {
                *value = self::value(as_of, row, column);
            }
        }))
    }

    pub(crate) fn floors(&self, shape: usize, floors: &[(u32, i64)]) -> FloorsFrame {
        FloorsFrame { shape: Arc::clone(&self.shapes[shape]), floors: floors.to_vec() }
    }

    /// What the block files of a host show.
    pub(crate) fn look(&self, disk: &SimDisk, host_dir: &Path) -> Seen {
        let files = disk.files().into_iter().filter(|(path, _)| {
            path.parent() == Some(host_dir) && path.extension().is_some_and(|extension| extension == "bin")
        });
        let files: BTreeMap<PathBuf, Index> = files
            .map(|(path, content)| (path, index_of(&content.clone().into())))
            .filter(|(_, index)| index.is_of(host_dir, LINEAGE))
            .collect();
        let shapes: BTreeMap<ShapeHash, &Bytes> =
            files.values().flat_map(|index| &index.shapes).map(|(hash, bytes)| (*hash, bytes)).collect();
        let (mut blocks, mut damaged) = (Vec::new(), BTreeSet::new());
        let mut floors: BTreeMap<u32, i64> = BTreeMap::new();
        for (path, index) in &files {
            let pages = pages_of(&disk.contents(path).unwrap().into());
            for found in &index.blocks {
                let shape = shapes.get(&found.header.shape).and_then(|b| self.resolve(found.header.shape, b));
                let Some(shape) = shape else { continue };
                let rank = (index.lineage == Some(LINEAGE), found.header.as_of);
                let block = found.block(shape, Arc::clone(&pages)).unwrap();
                if block.damaged_columns().is_empty() {
                    blocks.push((rank, block));
                } else {
                    damaged.insert(path.clone());
                }
            }
            for &(column, before) in index.floors.iter().flat_map(|frame| &frame.floors) {
                let floor = floors.entry(column).or_insert(before);
                *floor = before.max(*floor);
            }
        }
        blocks.sort_by_key(|(rank, _)| *rank);
        let mut cells = Cells::new();
        for (_, block) in &blocks {
            lay(&mut cells, block);
        }
        let blocks = blocks.into_iter().map(|(_, block)| block).collect();
        Seen { cells, floors, files, blocks, damaged }
    }
}

/// What is in a block file with this content.
pub(crate) fn index_of(content: &Bytes) -> Index {
    blockfile::index(&WholeFile::read(content.clone()))
}

/// The bytes of a block file, for its blocks.
pub(crate) fn pages_of(content: &Bytes) -> Arc<dyn Pages> {
    Opened::of_bytes(content.clone(), Path::new("in memory"), &Arc::default()).pages
}

/// A whole number that f32 holds exactly, or missing.
fn value(as_of: u64, row: i64, column: u32) -> f32 {
    let mixed = (as_of * 31 + u64::from(column) * 7)
        .wrapping_add_signed(row * 13)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    if mixed >> 61 == 0 { f32::NAN } else { (mixed >> 40) as f32 }
}

/// Bits of the value by buffer, anchor, slot and column.
pub(crate) type Cells = BTreeMap<(u16, i64, i64, u32), u32>;

/// Lays a block over what is there, missing values too.
pub(crate) fn lay(cells: &mut Cells, block: &Block) {
    let header = block.header();
    for column in 0..header.columns {
        for (row, value) in (0..).zip(block.column(column)) {
            let slot = header.base + row * i64::from(header.grid.frequency_s);
            let key = (header.buffer, header.grid.anchor, slot, column);
            if value.is_nan() {
                cells.remove(&key);
            } else {
                cells.insert(key, value.to_bits());
            }
        }
    }
}

/// What a host shows.
pub(crate) struct Seen {
    pub(crate) cells: Cells,
    pub(crate) floors: BTreeMap<u32, i64>,
    pub(crate) files: BTreeMap<PathBuf, Index>,
    pub(crate) blocks: Vec<Block>,
    /// Files with a block that is not what was written.
    pub(crate) damaged: BTreeSet<PathBuf>,
}

/// Whether two blocks are the same, byte by byte.
pub(crate) fn is_same(a: &Block, b: &Block) -> bool {
    let bytes = |block: &Block| {
        let parts = block.to_parts(1).unwrap();
        (parts.front, parts.body.into_owned(), parts.behind)
    };
    bytes(a) == bytes(b)
}

/// Writes a durable block file and returns its path.
pub(crate) fn put_file(
    disk: &SimDisk,
    kit: &Kit,
    host_dir: &Path,
    lineage: Lineage,
    blocks: &[Arc<Block>],
    floors: &[FloorsFrame],
) -> PathBuf {
    disk.put_dir(host_dir).unwrap();
    let base = blocks.first().map_or(0, |block| block.header().base);
    let mut file = BlockFile::create(disk, host_dir, base, lineage, &Arc::default()).unwrap();
    file.append(&kit.catalog, blocks, floors).unwrap();
    assert!(disk.sync_all(host_dir).unwrap());
    file.path().to_owned()
}

type Lie = Box<dyn Fn(Op, &Path) -> bool + Send + Sync>;
type Change = Box<dyn Fn(&Path, &mut Vec<u8>) + Send + Sync>;

/// A simulated disk that plays tricks.
pub(crate) struct Probe {
    pub(crate) disk: SimDisk,
    /// Syncs that do nothing and say that they did.
    pub(crate) lie: Lie,
    /// Changes what is read.
    pub(crate) read: Change,
    /// Changes what is written.
    pub(crate) write: Change,
}

impl Probe {
    pub(crate) fn new(disk: &SimDisk) -> Self {
        Self {
            disk: disk.clone(),
            lie: Box::new(|_, _| false),
            read: Box::new(|_, _| {}),
            write: Box::new(|_, _| {}),
        }
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

/// A file of a probe. It keeps the trick as the probe has it.
struct ProbeFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    probe: Arc<Probe>,
}

impl std::fmt::Debug for ProbeFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.fmt(f)
    }
}

impl DiskFile for ProbeFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = bytes.to_vec();
        (self.probe.write)(&self.path, &mut bytes);
        self.file.append(&bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        if (self.probe.lie)(Op::Sync, &self.path) { Ok(()) } else { self.file.sync() }
    }
}

/// The handle by which a probe is used.
#[derive(Debug)]
pub(crate) struct Probed(pub(crate) Arc<Probe>);

impl Disk for Probed {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.0.disk.create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.0.disk.list(dir)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = self.0.disk.read(path)?;
        (self.0.read)(path, &mut bytes);
        Ok(bytes)
    }
    fn read_front(&self, path: &Path, len: usize) -> io::Result<Vec<u8>> {
        self.0.disk.read_front(path, len)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.0.disk.len(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.0.disk.create(path)?;
        Ok(Box::new(ProbeFile { file, path: path.to_owned(), probe: Arc::clone(&self.0) }))
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.0.disk.sync_file(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if (self.0.lie)(Op::SyncDir, dir) { Ok(()) } else { self.0.disk.sync_dir(dir) }
    }
    fn sync_all(&self, dir: &Path) -> io::Result<bool> {
        if (self.0.lie)(Op::SyncAll, dir) { Ok(true) } else { self.0.disk.sync_all(dir) }
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.disk.rename(from, to)
    }
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.disk.rename_over(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.disk.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.disk.remove_dir(path)
    }
    fn resolve(&self, dir: &Path) -> io::Result<PathBuf> {
        self.0.disk.resolve(dir)
    }
    fn identity(&self, path: &Path) -> io::Result<store_disk::Identity> {
        self.0.disk.identity(path)
    }
    fn space(&self, dir: &Path) -> io::Result<store_disk::Space> {
        self.0.disk.space(dir)
    }
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.0.disk.lock(dir)
    }
}
