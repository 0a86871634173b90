//! Inodes, names and pages of the simulated file system, live and durable.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::fault::{Op, Script, Verdict};
use super::file::{Chunk, FileNode, Page};
use crate::disk::{Entry, EntryKind, Space};

/// Number of an inode; never used twice on one disk.
pub(super) type Ino = u64;

pub(super) const ROOT: Ino = 0;

/// Names of a directory.
pub(super) type Names = BTreeMap<OsString, Ino>;

/// The error with a system error number.
pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// The whole disk. Inodes are shared between forks until one side changes them.
#[derive(Clone)]
pub(super) struct State {
    pub(super) nodes: BTreeMap<Ino, Arc<Node>>,
    next: Ino,
    /// Changes of names that no sync has covered, oldest first.
    pub(super) ops: Vec<NameOp>,
    pub(super) locks: BTreeSet<Ino>,
    pub(super) script: Script,
    /// Whether `sync_all` is there.
    pub(super) has_sync_all: bool,
    /// Bytes of content that fit; without it there is no end.
    pub(super) capacity: Option<u64>,
    /// Write-back errors of the file system, and those that `sync_all` has reported.
    errors: u32,
    errors_seen: u32,
}

#[derive(Clone)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
    /// A symbolic link, a socket or a device.
    Other,
}

#[derive(Clone, Default)]
pub(super) struct DirNode {
    pub(super) live: Names,
    pub(super) durable: Names,
}

/// A change of names within one directory; persists as a whole or not at all.
#[derive(Clone)]
pub(super) struct NameOp {
    pub(super) op: Op,
    /// As the call gave it; of a rename, the new one.
    pub(super) path: PathBuf,
    pub(super) dir: Ino,
    pub(super) changes: Vec<(OsString, Option<Ino>)>,
}

impl NameOp {
    pub(super) fn apply(&self, names: &mut Names) {
        for (name, ino) in &self.changes {
            match ino {
                Some(ino) => names.insert(name.clone(), *ino),
                None => names.remove(name),
            };
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self::of(BTreeMap::from([(ROOT, Arc::new(Node::Dir(DirNode::default())))]), 1)
    }
}

impl State {
    /// A disk that has just been started, with these inodes, all of them synced.
    pub(super) fn of(nodes: BTreeMap<Ino, Arc<Node>>, next: Ino) -> Self {
        Self {
            nodes,
            next,
            ops: Vec::new(),
            locks: BTreeSet::new(),
            script: Script::default(),
            has_sync_all: true,
            capacity: None,
            errors: 0,
            errors_seen: 0,
        }
    }

    pub(super) fn has_unreported_error(&self) -> bool {
        self.errors != self.errors_seen
    }

    /// What the next process finds when this one is gone and the kernel goes on. An error that nobody was told of
    /// is kept for it.
    pub(super) fn without_process(mut self) -> Self {
        self.locks.clear();
        self.script = Script::default();
        self
    }

    /// The room that is left: what has no name any more takes none.
    pub(super) fn space(&self) -> Space {
        /// So much that nobody comes near it.
        const ENDLESS: u64 = 1 << 50;
        let Some(total_bytes) = self.capacity else {
            return Space { free_bytes: ENDLESS, total_bytes: ENDLESS };
        };
        let mut used = 0;
        self.walk(true, &mut |_, ino| used += self.len_of(ino));
        Space { free_bytes: total_bytes.saturating_sub(used), total_bytes }
    }

    pub(super) fn inodes(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn next_ino(&self) -> Ino {
        self.next
    }

    // ------------------------------------------------------------------------------------------ paths

    pub(super) fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino).map(|node| &**node)
    }

    fn live(&self, dir: Ino) -> io::Result<&Names> {
        match self.node(dir) {
            Some(Node::Dir(dir)) => Ok(&dir.live),
            Some(_) => Err(errno(libc::ENOTDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    fn live_mut(&mut self, dir: Ino) -> io::Result<&mut Names> {
        match self.nodes.get_mut(&dir).map(Arc::make_mut) {
            Some(Node::Dir(dir)) => Ok(&mut dir.live),
            _ => Err(errno(libc::ENOTDIR)),
        }
    }

    pub(super) fn resolve(&self, path: &Path) -> io::Result<Ino> {
        let mut ino = ROOT;
        for component in path.components() {
            match component {
                Component::Normal(name) => {
                    ino = *self.live(ino)?.get(name).ok_or_else(|| errno(libc::ENOENT))?;
                }
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(errno(libc::EINVAL)),
            }
        }
        Ok(ino)
    }

    /// The directory that `path` stands in and its last component.
    fn place<'a>(&self, path: &'a Path) -> io::Result<(Ino, &'a OsStr)> {
        let name = path.file_name().ok_or_else(|| errno(libc::EINVAL))?;
        let dir = self.resolve(path.parent().unwrap_or(Path::new("")))?;
        self.live(dir)?;
        Ok((dir, name))
    }

    pub(super) fn dir(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.resolve(path)?;
        self.live(ino).map(|_| ino)
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<(Ino, &FileNode)> {
        let ino = self.resolve(path)?;
        match self.node(ino) {
            Some(Node::File(file)) => Ok((ino, file)),
            Some(Node::Dir(_)) => Err(errno(libc::EISDIR)),
            Some(Node::Other) => Err(errno(libc::ELOOP)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    fn file_mut(&mut self, ino: Ino) -> Option<&mut FileNode> {
        match self.nodes.get_mut(&ino).map(Arc::make_mut) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let names = self.live(self.resolve(dir)?)?;
        let kind = |ino: &Ino| match self.node(*ino) {
            Some(Node::File(_)) => EntryKind::File,
            Some(Node::Dir(_)) => EntryKind::Dir,
            Some(Node::Other) | None => EntryKind::Other,
        };
        Ok(names.iter().map(|(name, ino)| Entry { name: name.clone(), kind: kind(ino) }).collect())
    }

    // ------------------------------------------------------------------------------------------ names

    pub(super) fn add_node(&mut self, node: Node) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, Arc::new(node));
        ino
    }

    fn change(
        &mut self,
        op: Op,
        path: &Path,
        dir: Ino,
        changes: Vec<(OsString, Option<Ino>)>,
    ) -> io::Result<()> {
        let op = NameOp { op, path: path.to_owned(), dir, changes };
        op.apply(self.live_mut(dir)?);
        self.ops.push(op);
        Ok(())
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<bool> {
        match self.resolve(path) {
            Ok(ino) => self.live(ino).map(|_| false).map_err(|_| errno(libc::EEXIST)),
            Err(_) => {
                let (dir, name) = self.place(path)?;
                let ino = self.add_node(Node::Dir(DirNode::default()));
                self.change(Op::CreateDir, path, dir, vec![(name.to_owned(), Some(ino))])?;
                Ok(true)
            }
        }
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<Ino> {
        let (dir, name) = self.place(path)?;
        if self.live(dir)?.contains_key(name) {
            return Err(errno(libc::EEXIST));
        }
        let ino = self.add_node(Node::File(FileNode::default()));
        self.change(Op::Create, path, dir, vec![(name.to_owned(), Some(ino))])?;
        Ok(ino)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, over: bool) -> io::Result<()> {
        let ((from_dir, from_name), (to_dir, to_name)) = (self.place(from)?, self.place(to)?);
        let ino = *self.live(from_dir)?.get(from_name).ok_or_else(|| errno(libc::ENOENT))?;
        let moves_dir = matches!(self.node(ino), Some(Node::Dir(_)));
        let there = self.live(to_dir)?.get(to_name).copied();
        if there.is_some() && !over {
            return Err(errno(libc::EEXIST));
        }
        // The order of the refusals is that of Linux.
        if names(to).starts_with(&names(from)) && names(to) != names(from) {
            return Err(errno(libc::EINVAL));
        }
        if names(from).starts_with(&names(to)) && names(to) != names(from) {
            return Err(errno(libc::ENOTEMPTY));
        }
        if there == Some(ino) {
            return Ok(());
        }
        match there.and_then(|there| self.node(there)) {
            None => {}
            Some(Node::Dir(_)) if !moves_dir => return Err(errno(libc::EISDIR)),
            Some(Node::Dir(dir)) if !dir.live.is_empty() => return Err(errno(libc::ENOTEMPTY)),
            Some(Node::Dir(_)) => {}
            Some(_) if moves_dir => return Err(errno(libc::ENOTDIR)),
            Some(_) => {}
        }
        let op = if over { Op::RenameOver } else { Op::Rename };
        let (gone, come) = ((from_name.to_owned(), None), (to_name.to_owned(), Some(ino)));
        if from_dir == to_dir {
            self.change(op, to, to_dir, vec![gone, come])
        } else {
            self.change(op, to, to_dir, vec![come])?;
            self.change(op, from, from_dir, vec![gone])
        }
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        let ino = self.resolve(path)?;
        if matches!(self.node(ino), Some(Node::Dir(_))) {
            return Err(errno(libc::EISDIR));
        }
        self.change(Op::Remove, path, dir, vec![(name.to_owned(), None)])
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        if !self.live(self.resolve(path)?)?.is_empty() {
            return Err(errno(libc::ENOTEMPTY));
        }
        self.change(Op::RemoveDir, path, dir, vec![(name.to_owned(), None)])
    }

    // ------------------------------------------------------------------------------------------ contents

    pub(super) fn len_of(&self, ino: Ino) -> u64 {
        match self.node(ino) {
            Some(Node::File(file)) => file.len(),
            _ => 0,
        }
    }

    pub(super) fn content_of(&self, ino: Ino) -> Vec<u8> {
        match self.node(ino) {
            Some(Node::File(file)) => file.content(),
            _ => Vec::new(),
        }
    }

    /// Appends to a file; to one that is gone for good, into the void.
    pub(super) fn append(&mut self, ino: Ino, bytes: &[u8]) {
        if !bytes.is_empty()
            && let Some(file) = self.file_mut(ino)
        {
            file.chunks.push(Chunk { bytes: Bytes::copy_from_slice(bytes), state: Page::Dirty });
        }
    }

    /// Syncs a file through a descriptor that has reported `errors_seen` of its errors.
    pub(super) fn sync(&mut self, ino: Ino, errors_seen: &mut u32, verdict: Verdict) -> io::Result<()> {
        let Some(file) = self.file_mut(ino) else { return verdict.into_result() };
        match verdict {
            Verdict::Fail(error) | Verdict::Short(_, error) => Err(error),
            Verdict::Lose(error) => {
                file.settle(Page::Lost);
                file.errors += 1;
                file.reported = true;
                *errors_seen = file.errors;
                self.errors += 1;
                Err(error)
            }
            Verdict::Go | Verdict::Done(_) if *errors_seen != file.errors => {
                *errors_seen = file.errors;
                file.reported = true;
                file.settle(Page::Lost);
                Err(errno(libc::EIO))
            }
            verdict @ (Verdict::Go | Verdict::Done(_)) => {
                file.settle(Page::Durable);
                verdict.into_result()
            }
        }
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.dir(path)?;
        self.persist_names(|op| op.dir == dir);
        Ok(())
    }

    pub(super) fn sync_all(&mut self, dir: &Path, verdict: Verdict) -> io::Result<bool> {
        if let Err(error) = self.dir(dir) {
            return verdict.into_result().and(Err(error));
        }
        match verdict {
            Verdict::Fail(error) | Verdict::Short(_, error) => return Err(error),
            Verdict::Go if !self.has_sync_all => return Ok(false),
            Verdict::Lose(error) => {
                for ino in self.files() {
                    if let Some(file) = self.file_mut(ino)
                        && file.settle(Page::Lost)
                    {
                        file.errors += 1;
                        file.reported = false;
                    }
                }
                return Err(error);
            }
            Verdict::Go | Verdict::Done(_) => {}
        }
        for ino in self.files() {
            if let Some(file) = self.file_mut(ino) {
                file.settle(Page::Durable);
            }
        }
        self.persist_names(|_| true);
        verdict.into_result()?;
        // All is written; that something was lost before is reported once all the same.
        if self.has_unreported_error() {
            self.errors_seen = self.errors;
            return Err(errno(libc::EIO));
        }
        Ok(true)
    }

    /// The files with pages that a sync would change.
    fn files(&self) -> Vec<Ino> {
        let dirty = |node: &Node| match node {
            Node::File(file) => file.chunks.iter().any(|chunk| chunk.state == Page::Dirty),
            Node::Dir(_) | Node::Other => false,
        };
        self.nodes.iter().filter(|(_, node)| dirty(node)).map(|(ino, _)| *ino).collect()
    }

    fn persist_names(&mut self, covered: impl Fn(&NameOp) -> bool) {
        let (synced, left) = std::mem::take(&mut self.ops).into_iter().partition(|op| covered(op));
        self.ops = left;
        let mut removed = false;
        let synced: Vec<NameOp> = synced;
        for op in &synced {
            removed |= op.op != Op::Create && op.op != Op::CreateDir;
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(&op.dir).map(Arc::make_mut) {
                op.apply(&mut dir.durable);
            }
        }
        if removed {
            self.forget_unreachable();
        }
    }

    /// Drops inodes that no name leads to, now or after any power loss.
    fn forget_unreachable(&mut self) {
        let mut unsynced: BTreeMap<Ino, Vec<Ino>> = BTreeMap::new();
        for op in &self.ops {
            unsynced.entry(op.dir).or_default().extend(op.changes.iter().filter_map(|(_, ino)| *ino));
        }
        let mut reached = BTreeSet::new();
        let mut ahead = vec![ROOT];
        while let Some(ino) = ahead.pop() {
            if reached.insert(ino)
                && let Some(Node::Dir(dir)) = self.node(ino)
            {
                ahead.extend(dir.live.values().chain(dir.durable.values()));
                ahead.extend(unsynced.remove(&ino).unwrap_or_default());
            }
        }
        self.nodes.retain(|ino, _| reached.contains(ino));
        self.ops.retain(|op| reached.contains(&op.dir));
    }
}

/// The components of a path that are names.
fn names(path: &Path) -> Vec<&OsStr> {
    let name = |component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

impl Verdict {
    /// The result of a call that has nothing more to do.
    pub(super) fn into_result(self) -> io::Result<()> {
        match self {
            Verdict::Go => Ok(()),
            Verdict::Done(error) | Verdict::Fail(error) | Verdict::Lose(error) | Verdict::Short(_, error) => {
                Err(error)
            }
        }
    }
}
