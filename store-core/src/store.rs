//! [`Store`]: all hosts, and what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use hashbrown::{HashMap, HashTable};

use crate::host::Host;
use crate::line::{NAME_BYTES_MAX, Refusal};
use crate::metric::{Aggregation, Catalog, Metric, MetricId, ServedMetric};
use crate::resolver::Resolver;
use crate::shape::{NewColumn, Shape, ShapeHash};

/// Bounds of what senders can make the store grow to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest name, in bytes; at most 255.
    pub name_bytes: usize,
    /// The most hosts that senders may bring it to. What is on disk or in the log is taken whatever the number.
    pub hosts: usize,
    /// The most series that senders may bring it to. What files and logs hold is taken whatever the number.
    pub series: usize,
    /// The most metrics, registered by senders or found in files.
    pub metrics: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { name_bytes: NAME_BYTES_MAX, hosts: 100_000, series: 20_000_000, metrics: 10_000 }
    }
}

/// All hosts, and what they share: the catalog, the shapes, the way from a line's prefix to a series.
#[derive(Debug)]
pub struct Store {
    catalog: Catalog,
    /// Taken before any host's mutex, and never while one is held.
    hosts: RwLock<HostTable>,
    shapes: Mutex<Shapes>,
    resolver: Resolver,
    limits: Limits,
    /// Frequency at which unknown metrics are registered; without one they are dropped.
    auto_frequency_s: Option<NonZeroU32>,
    series: AtomicUsize,
    /// Whether a host that nobody knew may still have rows in a log that is not read to its end.
    hosts_begin_loading: AtomicBool,
    /// Bytes of samples that wait for their hosts.
    deferred_bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct HostTable {
    clusters: BTreeMap<Box<str>, Cluster>,
    numbers: Vec<Option<Arc<Host>>>,
    count: usize,
    /// Bytes of the entries of hosts: counted as they come and go, for a walk over them would stop all writers.
    entry_bytes: usize,
    /// Clusters of which nobody can say yet which hosts they have: new hosts of theirs begin as loading.
    unlisted: BTreeSet<Box<str>>,
}

/// The shapes in use. No strong references: what no host and no block has any more goes.
#[derive(Debug, Default)]
struct Shapes {
    by_hash: HashMap<ShapeHash, Weak<Shape>>,
    /// What a shape became when so many columns were added to it the last time: hosts of a kind register alike.
    extensions: HashMap<(ShapeHash, usize), ShapeHash>,
}

impl Shapes {
    fn get(&self, hash: ShapeHash) -> Option<Arc<Shape>> {
        self.by_hash.get(&hash).and_then(Weak::upgrade)
    }

    fn intern(&mut self, shape: Arc<Shape>) -> Arc<Shape> {
        if let Some(stored) = self.get(shape.hash()) {
            return stored;
        }
        if is_to_grow(&self.by_hash) {
            self.by_hash.retain(|_, stored| stored.strong_count() > 0);
        }
        self.by_hash.insert(shape.hash(), Arc::downgrade(&shape));
        shape
    }

    /// Takes out a shape that is about to change.
    fn forget(&mut self, shape: &Arc<Shape>) {
        self.by_hash.remove(&shape.hash());
    }

    fn extension(&self, key: (ShapeHash, usize)) -> Option<Arc<Shape>> {
        self.get(*self.extensions.get(&key)?)
    }

    fn note_extension(&mut self, key: (ShapeHash, usize), hash: ShapeHash) {
        if is_to_grow(&self.extensions) {
            let by_hash = &self.by_hash;
            self.extensions
                .retain(|_, hash| by_hash.get(hash).is_some_and(|stored| stored.strong_count() > 0));
        }
        self.extensions.insert(key, hash);
    }
}

/// Whether a table of shapes grows with the next one: time to look what of it is still in use.
fn is_to_grow<K, V>(table: &HashMap<K, V>) -> bool {
    table.len() > 64 && table.len() == table.capacity()
}

/// The hosts of a cluster.
#[derive(Debug, Default)]
struct Cluster {
    by_name: BTreeMap<Box<str>, Arc<Host>>,
    /// The same by a hash of their names, keyed because senders choose them: each selection of a query looks for its
    /// host, and the way through the tree is long.
    by_hash: HashTable<Arc<Host>>,
    keys: RandomState,
}

/// Bytes of a host's entry in the table of its cluster: its name there and with the host, and its place in the tree, the
/// nodes of which are two thirds full.
fn entry_bytes(host: &Host) -> usize {
    2 * host.name().len() + host.cluster().len() + size_of::<(Box<str>, Arc<Host>)>() * 3 / 2
}

impl Cluster {
    fn get(&self, name: &str) -> Option<&Arc<Host>> {
        self.by_hash.find(self.keys.hash_one(name), |host| host.name() == name)
    }

    /// Enters a host that is not there.
    fn insert(&mut self, host: &Arc<Host>) {
        let Self { by_name, by_hash, keys } = self;
        by_name.insert(host.name().into(), Arc::clone(host));
        by_hash
            .insert_unique(keys.hash_one(host.name()), Arc::clone(host), |host| keys.hash_one(host.name()));
    }

    fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
        if let Ok(entry) = self.by_hash.find_entry(self.keys.hash_one(name), |host| host.name() == name) {
            entry.remove();
        }
    }
}

impl Store {
    /// An empty store.
    pub fn new(catalog: Catalog, limits: Limits, auto_frequency_s: Option<NonZeroU32>) -> Self {
        Self {
            catalog,
            hosts: RwLock::default(),
            shapes: Mutex::default(),
            resolver: Resolver::new(limits.series.saturating_mul(2).max(1024)),
            limits,
            auto_frequency_s,
            series: AtomicUsize::new(0),
            hosts_begin_loading: AtomicBool::new(false),
            deferred_bytes: AtomicUsize::new(0),
        }
    }

    /// The metrics.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The way from a line's prefix to a series.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.series.load(Ordering::Relaxed)
    }

    /// How many more series there may be.
    pub fn series_room(&self) -> usize {
        self.limits.series.saturating_sub(self.series())
    }

    /// Counts series that were registered.
    pub fn add_series(&self, count: usize) {
        self.series.fetch_add(count, Ordering::Relaxed);
    }

    /// The frequency at which unknown metrics are registered, where they are.
    pub fn auto_frequency_s(&self) -> Option<NonZeroU32> {
        self.auto_frequency_s
    }

    /// Whether hosts that are new begin as loading: while a log with rows of unknown hosts is read.
    pub fn set_hosts_begin_loading(&self, loading: bool) {
        // Under the table's lock, so that whoever lists the hosts afterwards sees all that began as loading.
        let _table = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        self.hosts_begin_loading.store(loading, Ordering::Relaxed);
    }

    /// The clusters of which nobody can say yet which hosts they have: new hosts of theirs begin as loading, until a
    /// later call leaves the cluster out.
    pub fn set_unlisted(&self, clusters: BTreeSet<Box<str>>) {
        self.hosts.write().unwrap_or_else(PoisonError::into_inner).unlisted = clusters;
    }

    /// Bytes of samples that wait in memory until their hosts are loaded.
    pub fn deferred_bytes(&self) -> usize {
        self.deferred_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn add_deferred(&self, bytes: usize) {
        self.deferred_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// To be called with what [`record::heap_bytes`](crate::record::heap_bytes) says of samples that wait no more.
    pub fn take_deferred(&self, bytes: usize) {
        self.deferred_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether a cluster may have hosts that nobody knows yet.
    pub fn is_unlisted(&self, cluster: &str) -> bool {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).unlisted.contains(cluster)
    }

    /// Whether samples of a metric may be taken, without registering it.
    ///
    /// # Errors
    /// The name cannot be taken, or that were one metric too many.
    pub(crate) fn check_metric(&self, name: &str) -> Result<(), Refusal> {
        if self.catalog.served(name).is_some() {
            return Ok(());
        }
        if self.auto_frequency_s.is_none() || crate::line::check_name(name, self.limits.name_bytes).is_err() {
            return Err(Refusal::MetricName);
        }
        if self.catalog.len() >= self.limits.metrics { Err(Refusal::Metrics) } else { Ok(()) }
    }

    /// The metric of a name: configured, or registered now where that is allowed.
    ///
    /// # Errors
    /// The name cannot be taken, or that were one metric too many.
    pub(crate) fn metric_for_samples(&self, name: &str) -> Result<ServedMetric, Refusal> {
        if let Some(found) = self.catalog.served(name) {
            return Ok(found);
        }
        self.check_metric(name)?;
        let frequency_s = self.auto_frequency_s.ok_or(Refusal::MetricName)?;
        let aggregation = Aggregation::Avg;
        self.catalog.register(Metric { name: name.into(), frequency_s, aggregation, served: true });
        self.catalog.served(name).ok_or(Refusal::Metrics)
    }

    /// The number of a metric that was found in a file or in the log: registered with its frequency if nobody
    /// configured it, and served only where unknown metrics are.
    pub fn metric_from_file(&self, name: &str, frequency_s: NonZeroU32) -> MetricId {
        self.catalog.id(name).unwrap_or_else(|| {
            self.catalog.register(Metric {
                name: name.into(),
                frequency_s,
                aggregation: if self.auto_frequency_s.is_some() {
                    Aggregation::Avg
                } else {
                    Aggregation::None
                },
                served: self.auto_frequency_s.is_some(),
            })
        })
    }

    /// The stored copy of a shape.
    pub fn intern(&self, shape: Shape) -> Arc<Shape> {
        self.shapes().intern(Arc::new(shape))
    }

    /// Adds buffers and columns to a shape, as [`Shape::extend`] does, and makes it the stored copy.
    pub(crate) fn extend_shape(
        &self,
        shape: &mut Arc<Shape>,
        frequencies_s: &[u32],
        added: &[NewColumn<'_>],
    ) {
        let key = (shape.hash(), added.len());
        let known = self.shapes().extension(key);
        if let Some(known) = known.filter(|known| known.is_extension(shape, frequencies_s, added)) {
            *shape = known;
            return;
        }
        // What nobody else has grows as it is: a host whose series come one by one would copy all of them each time.
        if Arc::strong_count(shape) == 1 {
            self.shapes().forget(shape);
        }
        match Arc::get_mut(shape) {
            Some(own) => own.extend(&self.catalog, frequencies_s, added),
            None => *shape = Arc::new(shape.extended(&self.catalog, frequencies_s, added)),
        }
        let mut shapes = self.shapes();
        *shape = shapes.intern(Arc::clone(shape));
        shapes.note_extension(key, shape.hash());
    }

    /// The stored copy of a shape that is in use.
    pub fn shape(&self, hash: ShapeHash) -> Option<Arc<Shape>> {
        self.shapes().get(hash)
    }

    /// All shapes in use.
    pub fn all_shapes(&self) -> Vec<Arc<Shape>> {
        self.shapes().by_hash.values().filter_map(Weak::upgrade).collect()
    }

    fn shapes(&self) -> MutexGuard<'_, Shapes> {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host that is known.
    pub fn host(&self, cluster: &str, name: &str) -> Option<Arc<Host>> {
        let table = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        table.clusters.get(cluster)?.get(name).cloned()
    }

    /// The host of a number, if it is still there.
    pub fn host_of(&self, number: u32) -> Option<Arc<Host>> {
        let table = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        table.numbers.get(number as usize)?.clone()
    }

    /// A host, entered into the table if it is new.
    ///
    /// # Errors
    /// If that were one host too many.
    pub fn host_or_create(&self, cluster: &str, name: &str) -> Result<Arc<Host>, Refusal> {
        if let Some(host) = self.host(cluster, name) {
            return Ok(host);
        }
        self.create(cluster, name, None)
    }

    /// A host for a sample of it: a new one only if there is room for its first series behind `before` others.
    ///
    /// # Errors
    /// If that were one host, or one series, too many.
    pub(crate) fn host_for_samples(
        &self,
        cluster: &str,
        name: &str,
        before: usize,
    ) -> Result<Arc<Host>, Refusal> {
        if let Some(host) = self.host(cluster, name) {
            return Ok(host);
        }
        if self.series_room() <= before { Err(Refusal::Series) } else { self.create(cluster, name, None) }
    }

    /// A host that was found on disk or in the log, entered as one that is to be loaded, whatever the limit: what was
    /// acknowledged is not left out.
    ///
    /// # Errors
    /// If hosts run out of numbers, of which there are 2³².
    pub fn found_host(&self, cluster: &str, name: &str) -> Result<Arc<Host>, Refusal> {
        self.create(cluster, name, Some(true))
    }

    fn create(&self, cluster: &str, name: &str, loading: Option<bool>) -> Result<Arc<Host>, Refusal> {
        let shape = self.intern(Shape::empty(&self.catalog));
        let mut table = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = table.clusters.get(cluster).and_then(|hosts| hosts.get(name)) {
            return Ok(Arc::clone(host));
        }
        let is_found = loading.is_some();
        if !is_found && table.count >= self.limits.hosts {
            return Err(Refusal::Hosts);
        }
        let may_have_more =
            || self.hosts_begin_loading.load(Ordering::Relaxed) || table.unlisted.contains(cluster);
        let loading = loading.unwrap_or_else(may_have_more);
        let number = u32::try_from(table.numbers.len()).map_err(|_| Refusal::Hosts)?;
        let host = Arc::new(Host::new(number, cluster, name, shape, loading));
        table.numbers.push(Some(Arc::clone(&host)));
        table.count += 1;
        table.entry_bytes += entry_bytes(&host);
        table.clusters.entry(cluster.into()).or_default().insert(&host);
        Ok(host)
    }

    /// The clusters, in the order of their names.
    pub fn clusters(&self) -> Vec<Box<str>> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).clusters.keys().cloned().collect()
    }

    /// The hosts of a cluster, in the order of their names.
    pub fn hosts(&self, cluster: &str) -> Vec<Arc<Host>> {
        let table = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        table.clusters.get(cluster).map(|hosts| hosts.by_name.values().cloned().collect()).unwrap_or_default()
    }

    /// How many hosts of a cluster there are, with and without samples.
    pub fn host_count_of(&self, cluster: &str) -> usize {
        let table = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        table.clusters.get(cluster).map_or(0, |hosts| hosts.by_name.len())
    }

    /// All hosts, by cluster and name.
    pub fn all_hosts(&self) -> Vec<Arc<Host>> {
        let table = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        table.clusters.values().flat_map(|hosts| hosts.by_name.values()).cloned().collect()
    }

    /// How many hosts there are.
    pub fn host_count(&self) -> usize {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).count
    }

    /// Bytes of the names of hosts, and of the tables that lead to them.
    pub fn host_table_bytes(&self) -> usize {
        let table = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        let by_hash = table.clusters.values().map(|cluster| cluster.by_hash.allocation_size());
        table.entry_bytes + by_hash.sum::<usize>() + table.numbers.capacity() * size_of::<Option<Arc<Host>>>()
    }

    /// Takes hosts of which nothing is left out of the table. Returns those that went.
    pub fn prune(&self) -> Vec<Arc<Host>> {
        // One that a panic left half-changed may only look empty.
        let is_candidate = |host: &Arc<Host>| !host.is_poisoned() && host.lock().is_empty();
        let candidates: Vec<_> = self.all_hosts().into_iter().filter(is_candidate).collect();
        if candidates.is_empty() {
            return candidates;
        }
        let mut gone = Vec::new();
        let mut table = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        for host in candidates {
            // Looked at again under the table's lock: who holds the host meanwhile finds it marked.
            let mut state = host.lock();
            if state.is_empty() && !state.is_gone() {
                state.mark_gone();
                let columns = state.shape().columns().len();
                drop(state);
                self.series.fetch_sub(columns, Ordering::Relaxed);
                table.count -= 1;
                table.entry_bytes -= entry_bytes(&host);
                table.numbers[host.number() as usize] = None;
                if let Some(hosts) = table.clusters.get_mut(host.cluster()) {
                    hosts.remove(host.name());
                    if hosts.by_name.is_empty() {
                        table.clusters.remove(host.cluster());
                    }
                }
                gone.push(host);
            }
        }
        drop(table);
        let numbers = gone.iter().map(|host: &Arc<Host>| host.number()).collect();
        self.resolver.forget_hosts(&numbers, self.series());
        gone
    }
}
