//! Random calls on a few names, and how a disk answers them.

use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use store_disk::{Disk, DiskFile, DiskLock, EntryKind};

/// One random call; numbers choose among names, open files and held locks.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    CreateDir(u8),
    Create(u8),
    Append(u8, u16),
    Sync(u8),
    Close(u8),
    SyncFile(u8),
    SyncDir(u8),
    SyncAll(u8),
    Rename(u8, u8),
    RenameOver(u8, u8),
    Remove(u8),
    RemoveDir(u8),
    List(u8),
    Read(u8),
    ReadFront(u8, u8),
    Map(u8),
    Len(u8),
    Lock(u8),
    Unlock,
}

const NAMES: [&str; 9] = ["d", "e", "d/f", "d/g", "d/d", "d/d/f", "e/f", "f", ""];

/// Steps that change something come more often than looks at it.
pub(crate) fn steps(len: usize) -> impl Strategy<Value = Vec<Step>> {
    let name = || 0..NAMES.len() as u8;
    let step = prop_oneof![
        3 => name().prop_map(Step::CreateDir),
        6 => name().prop_map(Step::Create),
        6 => (any::<u8>(), 0u16..1500).prop_map(|(file, bytes)| Step::Append(file, bytes)),
        2 => any::<u8>().prop_map(Step::Sync),
        1 => any::<u8>().prop_map(Step::Close),
        1 => name().prop_map(Step::SyncFile),
        2 => name().prop_map(Step::SyncDir),
        1 => name().prop_map(Step::SyncAll),
        3 => (name(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => (name(), name()).prop_map(|(from, to)| Step::RenameOver(from, to)),
        2 => name().prop_map(Step::Remove),
        1 => name().prop_map(Step::RemoveDir),
        1 => name().prop_map(Step::List),
        1 => name().prop_map(Step::Read),
        1 => (name(), any::<u8>()).prop_map(|(file, len)| Step::ReadFront(file, len)),
        1 => name().prop_map(Step::Map),
        1 => name().prop_map(Step::Len),
        1 => name().prop_map(Step::Lock),
        1 => Just(Step::Unlock),
    ];
    prop::collection::vec(step, 0..len)
}

/// A disk with what a process holds on it.
pub(crate) struct Machine<D> {
    pub(crate) disk: D,
    root: PathBuf,
    files: Vec<Box<dyn DiskFile>>,
    locks: Vec<Box<dyn DiskLock>>,
    written: u8,
}

impl<D: Disk> Machine<D> {
    pub(crate) fn new(disk: D, root: &Path) -> Self {
        Self { disk, root: root.to_owned(), files: Vec::new(), locks: Vec::new(), written: 0 }
    }

    fn path(&self, name: u8) -> PathBuf {
        let name = NAMES[usize::from(name) % NAMES.len()];
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn file(&mut self, number: u8) -> Option<&mut Box<dyn DiskFile>> {
        let count = self.files.len();
        self.files.get_mut(usize::from(number) % count.max(1))
    }

    /// Does one step; what it gave, in words that are the same for every disk.
    pub(crate) fn step(&mut self, step: &Step) -> String {
        match self.answer(step) {
            Ok(answer) => answer,
            Err(error) => format!("{:?}", error.kind()),
        }
    }

    fn answer(&mut self, step: &Step) -> io::Result<String> {
        let done = || "done".to_owned();
        Ok(match step {
            Step::CreateDir(name) => self.disk.create_dir(&self.path(*name))?.to_string(),
            Step::Create(name) => {
                let file = self.disk.create(&self.path(*name))?;
                self.files.push(file);
                done()
            }
            Step::Append(file, bytes) => {
                self.written = self.written.wrapping_add(1);
                let content = vec![self.written; usize::from(*bytes)];
                if let Some(file) = self.file(*file) {
                    file.append(&content)?;
                }
                done()
            }
            Step::Sync(file) => {
                if let Some(file) = self.file(*file) {
                    file.sync()?;
                }
                done()
            }
            Step::Close(file) => {
                if !self.files.is_empty() {
                    self.files.remove(usize::from(*file) % self.files.len());
                }
                done()
            }
            Step::SyncFile(name) => self.disk.sync_file(&self.path(*name)).map(|()| done())?,
            Step::SyncDir(name) => self.disk.sync_dir(&self.path(*name)).map(|()| done())?,
            // Whether it is there depends on the machine.
            Step::SyncAll(name) => self.disk.sync_all(&self.path(*name)).map(|_| done())?,
            Step::Rename(from, to) => {
                self.disk.rename(&self.path(*from), &self.path(*to)).map(|()| done())?
            }
            Step::RenameOver(from, to) => {
                self.disk.rename_over(&self.path(*from), &self.path(*to)).map(|()| done())?
            }
            Step::Remove(name) => self.disk.remove(&self.path(*name)).map(|()| done())?,
            Step::RemoveDir(name) => self.disk.remove_dir(&self.path(*name)).map(|()| done())?,
            Step::List(name) => format!("{:?}", self.disk.list(&self.path(*name))?),
            Step::Read(name) => format!("{:?}", self.disk.read(&self.path(*name))?),
            Step::ReadFront(name, len) => {
                format!("{:?}", self.disk.read_front(&self.path(*name), usize::from(*len))?)
            }
            Step::Map(name) => format!("{:?}", {
                let opened = self.disk.open(&self.path(*name))?;
                opened.read_at(0..opened.len())?.into_owned()
            }),
            Step::Len(name) => self.disk.len(&self.path(*name))?.to_string(),
            Step::Lock(name) => {
                let lock = self.disk.lock(&self.path(*name))?;
                self.locks.push(lock);
                done()
            }
            Step::Unlock => {
                self.locks.pop();
                done()
            }
        })
    }

    /// All names below the root, with contents.
    pub(crate) fn tree(&self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut tree = Vec::new();
        let mut ahead = vec![PathBuf::new()];
        while let Some(dir) = ahead.pop() {
            for entry in self.disk.list(&self.root.join(&dir)).unwrap() {
                let path = dir.join(&entry.name);
                if entry.kind == EntryKind::Dir {
                    ahead.push(path.clone());
                    tree.push((path, None));
                } else {
                    let content = self.disk.read(&self.root.join(&path)).unwrap();
                    tree.push((path, Some(content)));
                }
            }
        }
        tree.sort();
        tree
    }
}
