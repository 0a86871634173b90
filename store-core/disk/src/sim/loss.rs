//! What a reboot would find.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::SimDisk;
use super::fault::Op;
use super::file::{Chunk, FileNode, Page};
use super::state::{DirNode, Ino, Names, Node, ROOT, State};

/// An operation that may or may not have persisted when the power fails.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unsynced {
    /// A change of a name.
    Name {
        /// Which call.
        op: Op,
        /// The name; of a rename within a directory the new one.
        path: PathBuf,
    },
    /// The bytes of one append.
    Bytes {
        /// A name of the file, the present one first; of a file without any, empty.
        path: PathBuf,
        /// Where the append began.
        offset: u64,
        /// Bytes appended.
        bytes: usize,
    },
}

/// Which of the unsynced operations persist when the power fails; indices are those of [`SimDisk::unsynced`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Keep {
    /// None of them.
    Nothing,
    /// All of them.
    Everything,
    /// All but one.
    AllBut(usize),
    /// These only.
    Only(BTreeSet<usize>),
    /// A random subset, drawn from this seed; besides, what was lost within a file reads as zeros, as
    /// garbage, as bytes of another file or in some sectors as it should, and files may keep their length
    /// though the bytes at their end are lost.
    Random(u64),
}

/// A way to end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Crash {
    /// The process dies, the kernel goes on.
    Kill,
    /// The kernel dies.
    Power(Keep),
}

impl SimDisk {
    /// What the next process finds after this one was killed: all that was written; what was not synced is
    /// not synced yet. Without locks, faults and counts.
    pub fn after_kill(&self) -> SimDisk {
        Self::from_state(self.state().clone().without_process())
    }

    /// What a reboot finds after a power loss in which the operations that `keep` says persisted. All that it
    /// holds is durable. Without locks, faults and counts.
    pub fn after_power_loss(&self, keep: &Keep) -> SimDisk {
        Self::from_state(Loss::new(&self.state(), keep).image())
    }

    /// [`after_kill`](SimDisk::after_kill) or [`after_power_loss`](SimDisk::after_power_loss).
    pub fn after(&self, crash: &Crash) -> SimDisk {
        match crash {
            Crash::Kill => self.after_kill(),
            Crash::Power(keep) => self.after_power_loss(keep),
        }
    }

    /// The operations that no sync has covered: changes of names in the order of the calls, then appends file
    /// by file.
    pub fn unsynced(&self) -> Vec<Unsynced> {
        let state = self.state();
        let paths = state.paths();
        let names = state.ops.iter().map(|op| Unsynced::Name { op: op.op, path: op.path.clone() });
        let appends = state.dirty().map(|(ino, offset, chunk)| Unsynced::Bytes {
            path: paths.get(&ino).cloned().unwrap_or_default(),
            offset,
            bytes: chunk.bytes.len(),
        });
        names.chain(appends).collect()
    }

    /// The ways to end worth trying now: a kill, a power loss that keeps nothing, everything, all but each
    /// single operation, and `random` random subsets drawn from `seed`.
    pub fn crashes(&self, random: u64, seed: u64) -> Vec<Crash> {
        let count = self.state().unsynced_len();
        let power = [Keep::Nothing, Keep::Everything].into_iter();
        let power = power.chain((0..count).map(Keep::AllBut));
        let power = power.chain((0..random).map(|n| Keep::Random(seed.wrapping_add(n))));
        std::iter::once(Crash::Kill).chain(power.map(Crash::Power)).collect()
    }

    /// The distinct images that [`crashes`](SimDisk::crashes) leave, each with one crash that leaves it.
    pub fn images(&self, random: u64, seed: u64) -> impl Iterator<Item = (Crash, SimDisk)> + use<> {
        // A copy, so that the caller may go on with this disk meanwhile.
        let (disk, mut seen) = (self.fork(), BTreeSet::new());
        self.crashes(random, seed).into_iter().filter_map(move |crash| {
            let image = disk.after(&crash);
            seen.insert(image.image_hash()).then_some((crash, image))
        })
    }

    /// A hash of everything that decides what this disk and any later crash of it will show: names, contents,
    /// and what of them is unsynced. For counting distinct states within one run; not stable over releases.
    pub fn image_hash(&self) -> u64 {
        self.state().hash()
    }
}

impl State {
    /// Dirty chunks in the order of [`SimDisk::unsynced`], each with its inode and offset.
    fn dirty(&self) -> impl Iterator<Item = (Ino, u64, &Chunk)> {
        self.nodes.iter().flat_map(|(ino, node)| {
            let chunks: &[Chunk] = match &**node {
                Node::File(file) => &file.chunks,
                Node::Dir(_) | Node::Other => &[],
            };
            with_offsets(chunks)
                .filter(|(_, chunk)| chunk.state == Page::Dirty)
                .map(|(offset, chunk)| (*ino, offset, chunk))
        })
    }

    fn unsynced_len(&self) -> usize {
        self.ops.len() + self.dirty().count()
    }

    /// A path of every inode that has one, live names first.
    fn paths(&self) -> BTreeMap<Ino, PathBuf> {
        let mut paths = BTreeMap::new();
        for live in [true, false] {
            self.walk(live, &mut |path, ino| {
                paths.entry(ino).or_insert_with(|| path.to_owned());
            });
        }
        paths
    }

    /// Visits every name in the live or the durable tree, directories before what they hold.
    pub(super) fn walk(&self, live: bool, visit: &mut dyn FnMut(&Path, Ino)) {
        let mut ahead = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, ino)) = ahead.pop() {
            visit(&path, ino);
            if let Some(Node::Dir(dir)) = self.node(ino) {
                let names = if live { &dir.live } else { &dir.durable };
                ahead.extend(names.iter().rev().map(|(name, ino)| (path.join(name), *ino)));
            }
        }
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.walk(true, &mut |path, ino| self.hash_node(path, ino, &mut hasher));
        if !self.ops.is_empty() {
            self.walk(false, &mut |path, ino| self.hash_node(path, ino, &mut hasher));
        }
        for op in &self.ops {
            (op.op, &op.path).hash(&mut hasher);
            for (name, ino) in &op.changes {
                (name, ino.is_some()).hash(&mut hasher);
                if let Some(ino) = ino {
                    self.hash_node(name.as_ref(), *ino, &mut hasher);
                }
            }
        }
        self.has_unreported_error().hash(&mut hasher);
        hasher.finish()
    }

    /// Content is hashed as one stream, so that it does not matter in how many pieces durable bytes came.
    fn hash_node(&self, path: &Path, ino: Ino, hasher: &mut DefaultHasher) {
        path.hash(hasher);
        match self.node(ino) {
            Some(Node::File(file)) => {
                (1u8, file.len(), file.has_unreported_error()).hash(hasher);
                for chunk in &file.chunks {
                    hasher.write(&chunk.bytes);
                }
                for (offset, chunk) in with_offsets(&file.chunks) {
                    if chunk.state != Page::Durable {
                        (offset, chunk.bytes.len(), chunk.state).hash(hasher);
                    }
                }
                // The end of the list, so that it is not taken for what follows.
                u64::MAX.hash(hasher);
            }
            Some(Node::Dir(_)) => 2u8.hash(hasher),
            Some(Node::Other) | None => 3u8.hash(hasher),
        }
    }
}

fn with_offsets(chunks: &[Chunk]) -> impl Iterator<Item = (u64, &Chunk)> {
    chunks.iter().scan(0u64, |next, chunk| {
        let offset = *next;
        *next += chunk.bytes.len() as u64;
        Some((offset, chunk))
    })
}

/// A power loss that is being decided.
struct Loss<'a> {
    state: &'a State,
    /// Unsynced operations that persist, by index.
    kept: Vec<bool>,
    /// Index of the next dirty chunk.
    next: usize,
    /// Decides what random losses look like; none: lost bytes are zeros, and files end before them.
    rng: Option<StdRng>,
}

impl<'a> Loss<'a> {
    fn new(state: &'a State, keep: &Keep) -> Self {
        let count = state.unsynced_len();
        let mut rng = None;
        let kept = match keep {
            Keep::Nothing => vec![false; count],
            Keep::Everything => vec![true; count],
            Keep::AllBut(lost) => (0..count).map(|index| index != *lost).collect(),
            Keep::Only(kept) => (0..count).map(|index| kept.contains(&index)).collect(),
            Keep::Random(seed) => {
                let rng = rng.insert(StdRng::seed_from_u64(*seed));
                // Some images keep nearly all, some nearly nothing: a fair coin would hardly ever draw those.
                let share = [0.05, 0.3, 0.5, 0.7, 0.95][rng.random_range(0..5)];
                (0..count).map(|_| rng.random_bool(share)).collect()
            }
        };
        Self { state, kept, next: state.ops.len(), rng }
    }

    fn image(mut self) -> State {
        let mut dirs: BTreeMap<Ino, Names> = BTreeMap::new();
        for (ino, node) in &self.state.nodes {
            if let Node::Dir(dir) = &**node {
                dirs.insert(*ino, dir.durable.clone());
            }
        }
        for (op, kept) in self.state.ops.iter().zip(&self.kept) {
            if *kept && let Some(names) = dirs.get_mut(&op.dir) {
                op.apply(names);
            }
        }
        let reached = reach(&mut dirs);
        let mut nodes = BTreeMap::new();
        for (ino, node) in &self.state.nodes {
            let node = match &**node {
                // Also of files that nothing leads to: indices and random numbers must not depend on it.
                Node::File(file) => self.file(*ino, file, node),
                Node::Dir(_) => {
                    let names = dirs.remove(ino).unwrap_or_default();
                    Arc::new(Node::Dir(DirNode { live: names.clone(), durable: names }))
                }
                Node::Other => Arc::clone(node),
            };
            if reached.contains(ino) {
                nodes.insert(*ino, node);
            }
        }
        let mut image = State::of(nodes, self.state.next_ino());
        image.has_sync_all = self.state.has_sync_all;
        image
    }

    fn file(&mut self, ino: Ino, file: &FileNode, shared: &Arc<Node>) -> Arc<Node> {
        if file.chunks.iter().all(|chunk| chunk.state == Page::Durable) {
            return Arc::clone(shared);
        }
        let mut content = Vec::new();
        // End of the last byte that persisted, and of the file as its length says.
        let mut end = 0;
        for chunk in &file.chunks {
            if self.keeps(chunk) {
                content.extend_from_slice(&chunk.bytes);
                end = content.len();
            } else {
                let hole = self.hole(ino, content.len(), &chunk.bytes);
                content.extend_from_slice(&hole);
            }
        }
        if let Some(rng) = &mut self.rng {
            match rng.random_range(0..4) {
                0 => end = content.len(),
                1 => end = rng.random_range(end..=content.len()),
                _ => {}
            }
        }
        content.truncate(end);
        Arc::new(Node::File(FileNode::durable(content.into())))
    }

    /// Whether the bytes of this chunk, the next one in order, are on disk.
    fn keeps(&mut self, chunk: &Chunk) -> bool {
        match (chunk.state, &mut self.rng) {
            (Page::Durable, _) => true,
            (Page::Dirty, _) => {
                self.next += 1;
                self.kept.get(self.next - 1).copied().unwrap_or(false)
            }
            // The sync that failed may have written some of it.
            (Page::Lost, Some(rng)) => rng.random_bool(0.25),
            (Page::Lost, None) => false,
        }
    }

    /// What is read where `bytes`, at `offset` of file `ino`, were lost.
    fn hole(&mut self, ino: Ino, offset: usize, bytes: &Bytes) -> Vec<u8> {
        let mut hole = vec![0; bytes.len()];
        let Some(rng) = &mut self.rng else { return hole };
        match rng.random_range(0..4) {
            0 => rng.fill_bytes(&mut hole),
            1 => {
                if let Some(stale) = stale_bytes(self.state, ino, rng) {
                    // As if the file had been given blocks of the other one: the same place in it.
                    for (byte, old) in hole.iter_mut().zip(stale.iter().skip(offset)) {
                        *byte = *old;
                    }
                }
            }
            2 => {
                for (lost, whole) in hole.chunks_mut(512).zip(bytes.chunks(512)) {
                    if rng.random() {
                        lost.copy_from_slice(whole);
                    }
                }
            }
            _ => {}
        }
        hole
    }
}

/// Content of some other file.
fn stale_bytes(state: &State, ino: Ino, rng: &mut StdRng) -> Option<Vec<u8>> {
    let others = state.nodes.iter().filter_map(|(other, node)| match &**node {
        Node::File(file) if *other != ino => Some(file),
        _ => None,
    });
    let others: Vec<&FileNode> = others.collect();
    let chosen = rng.random_range(0..others.len().max(1));
    others.get(chosen).map(|file| file.content())
}

/// The inodes that names lead to. A directory has one name: where a move persisted in part left two, the
/// later one found goes.
fn reach(dirs: &mut BTreeMap<Ino, Names>) -> BTreeSet<Ino> {
    let mut reached = BTreeSet::from([ROOT]);
    let mut ahead = vec![ROOT];
    while let Some(dir) = ahead.pop() {
        let mut names = dirs.remove(&dir).unwrap_or_default();
        names.retain(|_, ino| {
            let first = reached.insert(*ino);
            // `dir` itself is taken out of the map for the moment, but it was reached before.
            let is_dir = dirs.contains_key(ino) || *ino == dir;
            if first && is_dir {
                ahead.push(*ino);
            }
            first || !is_dir
        });
        dirs.insert(dir, names);
    }
    reached
}
