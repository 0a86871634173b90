//! Looking at all files, and laying files in: what tests do to a disk beside the calls of the store.
//!
//! Nothing here counts as a call, fails by a fault, or is unsynced.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::SimDisk;
use super::file::FileNode;
use super::state::{DirNode, Ino, Node, ROOT, State, errno};

impl SimDisk {
    /// Every file with its content as a process reads it now.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let mut files = BTreeMap::new();
        state.walk(true, &mut |path, ino| {
            if let Some(Node::File(file)) = state.node(ino) {
                files.insert(path.to_owned(), file.content());
            }
        });
        files
    }

    /// Every directory but the root.
    pub fn dirs(&self) -> Vec<PathBuf> {
        let state = self.state();
        let mut dirs = Vec::new();
        state.walk(true, &mut |path, ino| {
            if ino != ROOT && matches!(state.node(ino), Some(Node::Dir(_))) {
                dirs.push(path.to_owned());
            }
        });
        dirs
    }

    /// Content of a file, if it is one.
    pub fn contents(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        self.state().file(path.as_ref()).ok().map(|(_, file)| file.content())
    }

    /// Lays in a durable file, with the directories above it; replaces one that is there.
    ///
    /// # Errors
    /// If the path leads through something that is no directory, or names one.
    pub fn put(&self, path: impl AsRef<Path>, content: impl Into<Vec<u8>>) -> io::Result<()> {
        let node = Node::File(FileNode::durable(content.into().into()));
        self.state().lay(path.as_ref(), node)
    }

    /// Lays in a durable directory, with those above it.
    ///
    /// # Errors
    /// If the path leads through or names something that is no directory.
    pub fn put_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.state().lay_dir(path.as_ref()).map(|_| ())
    }

    /// Lays in something that is neither file nor directory, as a symbolic link.
    ///
    /// # Errors
    /// As [`put`](SimDisk::put).
    pub fn put_other(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.state().lay(path.as_ref(), Node::Other)
    }

    /// Takes a file away, durably.
    ///
    /// # Errors
    /// As [`Disk::remove`](crate::Disk::remove).
    pub fn take(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut state = self.state();
        state.remove(path.as_ref())?;
        let Some(op) = state.ops.pop() else { return Ok(()) };
        for (name, _) in op.changes {
            state.settle_name(op.dir, &name, None);
        }
        Ok(())
    }

    /// Changes the bytes of a file by `change`; the result is durable. For rot, cuts and repairs.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn patch(&self, path: impl AsRef<Path>, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.state();
        let (ino, file) = state.file(path.as_ref())?;
        let mut content = file.content();
        change(&mut content);
        state.nodes.insert(ino, Arc::new(Node::File(FileNode::durable(content.into()))));
        Ok(())
    }

    /// Flips bit `bit` of a file, counted from the lowest bit of its first byte; behind its end nothing
    /// happens.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn flip(&self, path: impl AsRef<Path>, bit: usize) -> io::Result<()> {
        self.patch(path, |content| {
            if let Some(byte) = content.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        })
    }

    /// Cuts a file to `len` bytes.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn cut(&self, path: impl AsRef<Path>, len: usize) -> io::Result<()> {
        self.patch(path, |content| content.truncate(len))
    }

    /// Bounds the bytes of all contents: an append that does not fit writes what fits and gives `ENOSPC`. `None`, as
    /// on a new disk: no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Says whether [`sync_all`](crate::Disk::sync_all) is there (as on a new disk) or answers `Ok(false)`.
    pub fn set_sync_all(&self, available: bool) {
        self.state().has_sync_all = available;
    }
}

impl State {
    fn lay_dir(&mut self, path: &Path) -> io::Result<Ino> {
        let mut dir = ROOT;
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name,
                Component::RootDir | Component::CurDir => continue,
                Component::ParentDir | Component::Prefix(_) => return Err(errno(libc::EINVAL)),
            };
            let found = match self.node(dir) {
                Some(Node::Dir(names)) => names.live.get(name).copied(),
                _ => return Err(errno(libc::ENOTDIR)),
            };
            let next = match found {
                Some(next) => next,
                None => self.add_node(Node::Dir(DirNode::default())),
            };
            self.lay_name(dir, name, next);
            dir = next;
        }
        match self.node(dir) {
            Some(Node::Dir(_)) => Ok(dir),
            _ => Err(errno(libc::ENOTDIR)),
        }
    }

    fn lay(&mut self, path: &Path, node: Node) -> io::Result<()> {
        let name = path.file_name().ok_or_else(|| errno(libc::EINVAL))?;
        if let Ok(there) = self.resolve(path)
            && matches!(self.node(there), Some(Node::Dir(_)))
        {
            return Err(errno(libc::EISDIR));
        }
        let dir = self.lay_dir(path.parent().unwrap_or(Path::new("")))?;
        let ino = self.add_node(node);
        self.lay_name(dir, name, ino);
        Ok(())
    }

    fn lay_name(&mut self, dir: Ino, name: &OsStr, ino: Ino) {
        if let Some(Node::Dir(names)) = self.nodes.get_mut(&dir).map(Arc::make_mut) {
            names.live.insert(name.to_owned(), ino);
        }
        self.settle_name(dir, name, Some(ino));
    }

    /// Makes what a name is now durable. Earlier changes of it that are not synced are forgotten, or a later
    /// sync would bring them about.
    fn settle_name(&mut self, dir: Ino, name: &OsStr, ino: Option<Ino>) {
        for op in self.ops.iter_mut().filter(|op| op.dir == dir) {
            op.changes.retain(|(changed, _)| changed != name);
        }
        self.ops.retain(|op| !op.changes.is_empty());
        if let Some(Node::Dir(names)) = self.nodes.get_mut(&dir).map(Arc::make_mut) {
            match ino {
                Some(ino) => names.durable.insert(name.to_owned(), ino),
                None => names.durable.remove(name),
            };
        }
    }
}
