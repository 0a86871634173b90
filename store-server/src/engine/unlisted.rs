//! [`Pending`]: directories that could not be listed at the start, and the hosts that are not loaded because of it.
//!
//! Nothing is renamed and nothing is made up: the directory is tried again every few seconds, as long as it takes.
//! Meanwhile samples of its hosts go to the log and wait, queries for them are told to come again, and the log is
//! kept from its start on.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};

use store_checkpoint::files::HostDirs;
use store_core::Timestamp;
use store_core::host::Host;
use store_core::store::Store;

use super::Engine;
use super::open::{describe, enter};
use super::status::Counters;
use super::tail::LogTail;
use super::waiting::Phase;

/// Seconds between two tries.
const TRY_EVERY_S: i64 = 5;

/// What is still to be listed.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Clusters whose hosts are not known.
    clusters: BTreeSet<Box<str>>,
    /// Number of hosts that are not loaded.
    hosts: usize,
    /// What the log holds of them, once the other hosts are loaded.
    tail: Option<Arc<LogTail>>,
    tried: Option<Timestamp>,
}

impl Pending {
    /// What could not be listed when the hosts were looked for.
    pub(super) fn of(store: &Store, counters: &Counters, listed: &HostDirs) -> Self {
        for unlisted in &listed.unlisted {
            tracing::error!(path = %unlisted.path.display(), error = %describe(unlisted),
                "directory of a cluster cannot be listed: tried again, its hosts are not served meanwhile");
            counters.problem("directory cannot be listed: tried again", &unlisted.path);
        }
        let clusters = clusters_of(listed);
        store.set_unlisted(clusters.clone());
        Self { clusters, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.hosts == 0
    }
}

/// The clusters whose directories could not be listed.
fn clusters_of(listed: &HostDirs) -> BTreeSet<Box<str>> {
    let name = |path: &std::path::Path| Some(path.file_name()?.to_str()?.into());
    listed.unlisted.iter().filter_map(|unlisted| name(&unlisted.path)).collect()
}

/// Whether nobody has read yet what there is of a host. One that a panic left half-changed was loaded.
fn is_loading(host: &Host) -> bool {
    !host.is_poisoned() && host.lock().is_loading()
}

impl Engine {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a directory is still to be listed.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending().is_empty()
    }

    /// Hosts that are not loaded because their directories cannot be listed.
    pub(super) fn hosts_unread(&self) -> usize {
        self.pending().hosts
    }

    /// Whether nobody can say what there is of a host, or whether there is one, and that will not change at once.
    pub(super) fn is_unread(&self, cluster: &str, host: Option<&Host>) -> bool {
        match host {
            Some(host) => self.waiting.phase() == Phase::Ready && is_loading(host),
            None => self.store.is_unlisted(cluster),
        }
    }

    /// The hosts that a selector is about.
    pub(super) fn selected(&self, selector: &[String]) -> Vec<Arc<Host>> {
        match selector {
            [] => self.store.all_hosts(),
            [cluster] => self.store.hosts(cluster),
            [cluster, host, ..] => self.store.host(cluster, host).into_iter().collect(),
        }
    }

    /// Whether a selector is about hosts that are not loaded, or may be.
    pub(super) fn any_unread(&self, selector: &[String]) -> bool {
        let unlisted = match selector {
            [] => !self.pending().clusters.is_empty(),
            [cluster] => self.store.is_unlisted(cluster),
            [cluster, host, ..] => {
                self.store.is_unlisted(cluster) && self.store.host(cluster, host).is_none()
            }
        };
        unlisted || self.selected(selector).iter().any(|host| is_loading(host))
    }

    /// To be called when everything is loaded that can be: the rest is tried again now and then.
    pub(super) fn keep_trying(&self, tail: &Arc<LogTail>) {
        let left = self.hosts_loading();
        for host in &left {
            self.counters.problem("directory cannot be read: tried again", &self.host_dir(host));
        }
        let mut pending = self.pending();
        pending.hosts = left.len();
        pending.tail = (!pending.is_empty()).then(|| Arc::clone(tail));
        pending.tried = Some(self.clock.now_s());
    }

    fn hosts_loading(&self) -> Vec<Arc<Host>> {
        self.store.all_hosts().into_iter().filter(|host| is_loading(host)).collect()
    }

    /// Tries again, if it is time, what could not be listed.
    pub(super) fn try_unlisted(&self, now: Timestamp) {
        let tail = {
            let mut pending = self.pending();
            let Some(tail) = pending.tail.clone() else { return };
            if pending.tried.is_some_and(|tried| (tried..tried.saturating_add(TRY_EVERY_S)).contains(&now)) {
                return;
            }
            pending.tried = Some(now);
            tail
        };
        if !self.pending().clusters.is_empty()
            && let Ok(listed) = HostDirs::list(&*self.disk, &self.options.directory)
        {
            let clusters = clusters_of(&listed);
            let found = |cluster: &str| self.store.is_unlisted(cluster) && !clusters.contains(cluster);
            for dir in listed.hosts.iter().filter(|dir| found(&dir.cluster)) {
                enter(&self.store, &self.counters, dir);
            }
            // Only now: who looked for one of these hosts before was told to come again.
            let still: BTreeSet<_> = self.pending().clusters.intersection(&clusters).cloned().collect();
            self.store.set_unlisted(still.clone());
            self.pending().clusters = still;
        }
        let mut left = 0;
        for host in self.hosts_loading() {
            if self.load_host(&host, &tail) {
                let (cluster, name) = (host.cluster(), host.name());
                tracing::info!(cluster, host = name, "directory could be listed: the host is loaded");
            } else {
                left += 1;
            }
        }
        let mut pending = self.pending();
        pending.hosts = left;
        if pending.is_empty() {
            pending.tail = None;
        }
        drop(pending);
        self.claim();
    }
}
