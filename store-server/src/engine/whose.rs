//! Whose a block file is, and what of it ranks among our blocks: other stores, lost logs, other releases, other names.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use store_checkpoint::blockfile::{self, BlockFileDamage, Index, OtherRelease};
use store_core::Timestamp;
use store_core::host::Host;
use store_core::import::Import;
use store_disk::Lineage;
use store_wal::LogPos;

use super::block_files::{Indexed, push_runs};
use super::load::Loading;
use super::problems::Grade;
use super::scribe::position;

/// A series of a lineage: its path and its metric.
type Series = (Lineage, Box<[Box<str>]>, u32);

impl Loading<'_> {
    /// Whether a file is none of ours to read, because another release wrote it. A start refuses those of this store; one
    /// that it did not come to keeps its host from being served, because what else lies there is not all there is.
    pub(super) fn is_to_be_left(&mut self, path: &Path, index: &Index) -> bool {
        let is_ours = index.lineage.is_none_or(|lineage| lineage == self.engine.lineage);
        if let Some(other) = index.other_release {
            self.note_other_release(path, is_ours, other);
            return true;
        }
        let renamed = !index.is_of(&self.engine.host_dir(self.host), self.engine.lineage);
        if !index.has_unknown_kinds() || (is_ours && !renamed) {
            return false;
        }
        let what = "with frames of a later release, and of another store or name: left as it is";
        self.engine.counters.trouble(Grade::Warning, what, path, "the later release can take it");
        self.engine.counters.foreign_files.add(1);
        true
    }

    fn note_other_release(&mut self, path: &Path, is_ours: bool, other: OtherRelease) {
        let OtherRelease { version, flags } = other;
        let reads = blockfile::VERSION;
        if is_ours {
            tracing::error!(path = %path.display(), version, flags, reads,
                "written by another release: the host is not served, start the release that wrote it");
            self.engine.counters.problem("written by another release: its host is not served", path);
            self.unlisted = true;
        } else {
            tracing::warn!(path = %path.display(), version, flags, reads,
                "file of another store, written by another release: left as it is");
            self.engine.counters.foreign_files.add(1);
        }
    }

    /// Whether a file that was written under another name may be taken under that of its directory: if it is whole, and
    /// either the store was stopped before, or nobody has that name now. Otherwise rows of it may still lie in the log; or
    /// it is no file of a renamed host at all, but what a power loss left where a new one was not written yet.
    pub(super) fn may_be_taken(&self, path: &Path, index: &Index) -> bool {
        if !index.is_whole() {
            // What a crash left where a new file was not written yet, or misplaced and damaged.
            self.engine.set_aside(path, "written under another name, and not whole");
            return false;
        }
        let lineage = self.engine.lineage;
        let identity = |host: &Arc<Host>| blockfile::identity(lineage, &self.engine.host_dir(host));
        // Made once: there may be as many such files as hosts.
        let names = || self.tail.names(|| self.engine.store.all_hosts().iter().map(identity).collect());
        if self.tail.is_empty() || !index.identity().is_some_and(|identity| names().contains(&identity)) {
            return true;
        }
        let was = |(cluster, host): &(&str, &str)| index.is_of(&Path::new(cluster).join(host), lineage);
        let why = match self.tail.hosts().find(was) {
            Some((cluster, host)) => {
                format!("what the log holds of host {host} of cluster {cluster} stays under that name")
            }
            None => "there is a directory of that name".to_owned(),
        };
        let what =
            "written under another name, and not stopped since: taken by the first start after a clean stop";
        self.engine.counters.trouble(Grade::Warning, what, path, &why);
        self.engine.counters.foreign_files.add(1);
        false
    }

    /// Says once for a host that its files were written under another name.
    pub(super) fn note_renamed(&mut self, files: &[Indexed]) {
        let renamed = files.iter().filter(|file| file.renamed).count();
        if renamed > 0 {
            self.on_disk.is_renamed = true;
            let (cluster, host) = (self.host.cluster(), self.host.name());
            tracing::warn!(
                cluster,
                host,
                files = renamed,
                "files that were written under another name are taken under that of their directory, and written again"
            );
        }
    }

    /// Parts what ranks among our blocks from what ranks below them.
    pub(super) fn sorted(&mut self, mut file: Indexed) -> Indexed {
        let Index { blocks, floors, lineage, .. } = &mut file.index;
        // Without a header, its frames have told that it is of ours.
        if lineage.is_some_and(|lineage| lineage != self.engine.lineage) {
            (file.below, file.floors_below) = (std::mem::take(blocks), std::mem::take(floors));
            return file;
        }
        let given = &self.engine.given;
        let of_log = |found: &blockfile::Found| {
            let at = position(found.header.as_of);
            // Below every position: it never was in a log.
            at < LogPos::new(1, 0) || given.contains(at)
        };
        (*blocks, file.below) = std::mem::take(blocks).into_iter().partition(of_log);
        let newest = file.below.iter().map(|found| position(found.header.as_of)).max();
        self.lost = self.lost.max(newest);
        file
    }

    /// Ranks what was written under another name below everything that was written under this one, if there is anything: it
    /// was made without knowing that, and the other way round, so that only values decide.
    pub(super) fn rank_renamed(&self, files: &mut [Indexed], are_dumps: bool) {
        let is_alone = !are_dumps && self.tail.is_empty() && files.iter().all(|file| file.renamed);
        for file in files.iter_mut().filter(|file| file.renamed && !is_alone) {
            file.below.append(&mut file.index.blocks);
            file.floors_below.append(&mut file.index.floors);
        }
    }

    /// Puts what ranks below our blocks into `import`: other stores first, then what is of a log that is lost or of
    /// another name, each in its own order.
    pub(super) fn import_below(&mut self, files: &[Indexed], import: &mut Import, oldest: Timestamp) {
        let mut hidden: HashMap<Series, Timestamp> = HashMap::new();
        let mut blocks = Vec::new();
        for file in files {
            let whose = file.index.lineage.unwrap_or(self.engine.lineage);
            for found in &file.floors_below {
                let Some(shape) = self.shape(found.shape) else { continue };
                for &(number, before) in &found.floors {
                    let Some(column) = shape.columns().get(number as usize) else { continue };
                    let floor = hidden.entry((whose, column.path.clone(), column.metric.0)).or_insert(before);
                    *floor = before.max(*floor);
                }
            }
            let wanted = file.below.iter().filter(|found| found.header.end() >= oldest);
            blocks.extend(wanted.map(|found| (whose, found, file)));
        }
        if blocks.is_empty() {
            return;
        }
        let ours = self.engine.lineage;
        blocks.sort_by_key(|(whose, found, _)| (*whose == ours, *whose, found.header.as_of));
        for (whose, found, file) in &blocks {
            let shape = self.shape(found.header.shape);
            let block = shape.and_then(|shape| file.block(found, &shape).ok());
            if block.as_ref().is_none_or(|block| !block.sweep().is_empty()) {
                self.engine.counters.blocks_damaged.add(1);
                let what =
                    "block of another store, or of a lost log, that is damaged: what is whole of it is taken";
                self.engine.counters.problem(what, &file.path);
                self.on_disk.sources.retain(|path| *path != file.path);
                if !self.on_disk.damaged.contains(&file.path) {
                    self.on_disk.damaged.push(file.path.clone());
                }
            }
            let Some(block) = block else { continue };
            let (base, step) = (block.header().base, i64::from(block.header().grid.frequency_s));
            push_runs(import, &block, |column, values| {
                let series = (*whose, column.path.clone(), column.metric.0);
                if let Some(before) = hidden.get(&series) {
                    let freed = before.saturating_sub(base).max(0).saturating_add(step - 1) / step;
                    let freed = usize::try_from(freed).unwrap_or(usize::MAX).min(values.len());
                    values[..freed].fill(f32::NAN);
                }
            });
        }
        let (cluster, host, blocks) = (self.host.cluster(), self.host.name(), blocks.len());
        tracing::warn!(
            cluster,
            host,
            blocks,
            "blocks of another store, of a lost log or of another name: they rank below what this log holds, and are written again"
        );
    }

    /// Notes a file that goes once what is in it is saved elsewhere; a damaged one is set aside then.
    pub(super) fn note_source(&mut self, file: &Indexed) {
        let harmless = |what| matches!(what, BlockFileDamage::HeaderHalf);
        let is_damaged = file.index.damage.iter().any(|range| !harmless(range.what));
        let on_disk = &mut self.on_disk;
        if !on_disk.damaged.contains(&file.path) {
            let list = if is_damaged { &mut on_disk.damaged } else { &mut on_disk.sources };
            list.push(file.path.clone());
        }
    }
}
