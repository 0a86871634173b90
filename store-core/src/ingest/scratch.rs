//! [`Scratch`]: memory for the samples of a piece of a message.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Entry, Place, Unresolved};
use crate::host::{Host, HostState, Sample};
use crate::journal::Journal;
use crate::metric::Catalog;
use crate::record::RawSample;
use crate::resolver::Target;
use crate::row::Rows;

/// Memory that is used again from piece to piece, and from message to message.
///
/// Between messages it keeps as much as a common one needs, and not what a long one needed: there may be hundreds.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) entries: Vec<Entry>,
    pub(super) unresolved: Vec<Unresolved>,
    pub(super) hosts: Vec<Arc<Host>>,
    /// Numbers of hosts, and their places in `hosts`.
    pub(super) places: HashMap<u32, u32>,
    pub(super) learned: Vec<(u64, Target)>,
    pub(super) samples: Vec<Sample>,
    pub(super) rows: Rows,
    pub(super) text: String,
}

/// The samples of a common message.
const SAMPLES_KEPT: usize = 1 << 12;

/// Series and hosts that are new to a common message.
const NEW_KEPT: usize = 1 << 9;

/// Bytes of the names of a common line.
const TEXT_KEPT: usize = 1 << 12;

/// Samples of more moments than this may concern as many blocks.
const MOMENTS_MAX: usize = 16;

/// Bytes of a record for one sample in a row of its own, for the names of a series beside their letters, and for a host:
/// its name, its cluster, and the frame.
const SAMPLE_BYTES: usize = 40;
const SERIES_BYTES: usize = 16;
const HOST_BYTES: usize = 640;

impl Scratch {
    /// Forgets the last piece.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.samples.clear();
        self.unresolved.clear();
        self.learned.clear();
        // Holds no host: one that goes before the next message is not to be kept by this.
        self.hosts.clear();
        self.places.clear();
    }

    /// Forgets all, and keeps the memory that a common message needs.
    pub fn rest(&mut self) {
        self.clear();
        self.entries.shrink_to(SAMPLES_KEPT);
        self.samples.shrink_to(SAMPLES_KEPT);
        self.unresolved.shrink_to(NEW_KEPT);
        self.learned.shrink_to(NEW_KEPT);
        self.hosts.shrink_to(NEW_KEPT);
        self.places.shrink_to(NEW_KEPT);
        self.text.shrink_to(TEXT_KEPT);
        self.rows.clear();
    }

    /// Whether what was read can be applied without waiting, and does not concern many blocks.
    pub(super) fn is_short(&self) -> bool {
        let changes = self.entries.windows(2).filter(|pair| {
            let [a, b] = pair else { return false };
            (a.host, a.time) != (b.host, b.time)
        });
        changes.count() < MOMENTS_MAX && !self.hosts.iter().any(|host| host.is_locked())
    }

    /// Whether the journal has room for what was read. Asked before the first host is locked.
    pub(super) fn has_room(&self, journal: &mut dyn Journal) -> bool {
        self.entries.is_empty() || journal.make_room(self.record_bytes())
    }

    /// Bytes that the records of these samples take at most: each in a row of its own, each new one with its names, and
    /// the shape of each host twice, as each segment says it.
    fn record_bytes(&self) -> u64 {
        let names_of = |series: &Unresolved| {
            let path: usize = series.path.iter().map(|name| name.len() + SERIES_BYTES).sum();
            path + series.metric.name.len() + SERIES_BYTES
        };
        // Each as itself, and in both copies of a shape that is new.
        let names: usize = self.unresolved.iter().map(names_of).sum::<usize>() * 3;
        let hosts: usize = self.hosts.iter().map(|host| HOST_BYTES + 2 * host.shape_bytes()).sum();
        (self.entries.len() * SAMPLE_BYTES + hosts + names) as u64
    }

    /// Bytes on the heap, without the letters of names.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.unresolved.capacity() * size_of::<Unresolved>()
            + self.hosts.capacity() * size_of::<Arc<Host>>()
            + self.places.allocation_size()
            + self.learned.capacity() * size_of::<(u64, Target)>()
            + self.samples.capacity() * size_of::<Sample>()
            + self.rows.heap_bytes()
            + self.text.capacity()
    }

    pub(super) fn enter(&mut self, host: Arc<Host>) -> u32 {
        let place = self.hosts.len() as u32;
        self.places.insert(host.number(), place);
        self.hosts.push(host);
        place
    }

    pub(super) fn raw(&self, state: &HostState, entry: &Entry) -> RawSample {
        let (time, value) = (entry.time, entry.value);
        match entry.column {
            Place::Unresolved(at) => {
                let series = &self.unresolved[at as usize];
                RawSample { path: series.path.clone(), metric: series.metric.name.clone(), time, value }
            }
            // A host that is loading has no column that the resolver could know.
            Place::Column(column) => {
                unreachable!("column {column} of {} before the host was loaded", state.shape().hash())
            }
        }
    }

    /// Entries of a host that is gone, with their series by name again.
    pub(super) fn rename(&mut self, catalog: &Catalog, gone: &HostState, group: &[Entry]) -> Vec<Entry> {
        let mut renamed = Vec::with_capacity(group.len());
        for entry in group {
            let column = match entry.column {
                Place::Unresolved(at) => Place::Unresolved(at),
                Place::Column(column) => match self.names(catalog, gone, column) {
                    Some(series) => {
                        self.unresolved.push(series);
                        Place::Unresolved(self.unresolved.len() as u32 - 1)
                    }
                    None => continue,
                },
            };
            renamed.push(Entry { column, ..*entry });
        }
        renamed
    }

    fn names(&self, catalog: &Catalog, gone: &HostState, column: u32) -> Option<Unresolved> {
        let column = gone.shape().columns().get(column as usize)?;
        let metric = catalog.of(column.metric);
        Some(Unresolved { line: None, path: column.path.clone(), id: column.metric, metric })
    }
}
