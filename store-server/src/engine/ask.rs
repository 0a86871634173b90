//! Reading: queries, health, the dump for people, and freeing by request.

use std::sync::Arc;
use std::time::Duration;

use store_core::debug::{self, Selected};
use store_core::health::{self, State};
use store_core::host::Host;
use store_core::journal::Journal;
use store_core::query::{QueryError, Range, Reader};
use store_core::stamp::Stamp;

use super::Engine;
use super::answer::{
    DebugError, Durability, FreeError, Freed, HealthAnswer, HealthState, ReadError, ReadRequest, Series,
    Unready,
};
use super::scribe::position;
use super::waiting::{PATIENCE, Phase};
use super::write::Records;

/// How many hosts are remembered: a job has its metrics read host by host, or its hosts metric by metric.
const HOSTS_READ_MAX: usize = 32;

/// Hosts that were read just now, as they were then.
#[derive(Debug, Default)]
pub struct LastHosts(Vec<(Arc<Host>, Reader)>);

impl LastHosts {
    fn find(&self, cluster: &str, name: &str) -> Option<usize> {
        // Mostly it is the one that came last.
        self.0.iter().rposition(|(host, _)| host.name() == name && host.cluster() == cluster)
    }

    /// Takes one more, and forgets the others if they are many.
    fn enter(&mut self, host: Arc<Host>, patience: Duration) -> Option<usize> {
        if self.0.len() == HOSTS_READ_MAX {
            self.0.clear();
        }
        let reader = Reader::new(&*host.lock_loaded(patience)?);
        self.0.push((host, reader));
        Some(self.0.len() - 1)
    }
}

impl Engine {
    /// Reads one series or aggregate; `None`: no such host, or no such series with a sample.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, request: &ReadRequest<'_>) -> Result<Option<Series>, ReadError> {
        self.read_next(request, &mut LastHosts::default())
    }

    /// The same, for one of several requests that follow each other at once and are mostly about the same hosts: `last`
    /// keeps what was found of them. What they get meanwhile is not seen.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_next(
        &self,
        request: &ReadRequest<'_>,
        last: &mut LastHosts,
    ) -> Result<Option<Series>, ReadError> {
        if request.from > request.to {
            return Err(ReadError::InvalidRange);
        }
        let metric = self
            .store
            .catalog()
            .served(request.metric)
            .ok_or_else(|| ReadError::UnknownMetric(request.metric.to_owned()))?;
        let at = match last.find(request.cluster, request.host) {
            Some(at) => at,
            None => {
                let found = self.known_host(request.cluster, request.host);
                let Some(host) = found.map_err(|Unready| ReadError::Loading)? else { return Ok(None) };
                last.enter(host, self.patience()).ok_or(ReadError::Loading)?
            }
        };
        let (_, reader) = &mut last.0[at];
        let range = Range {
            from: request.from,
            to: request.to,
            resolution_s: request.resolution_s,
            points_max: request.points_max as u64,
            cells_max: request.cells_max,
        };
        reader.read(&request.path, &metric, &range).map_err(|e| match e {
            QueryError::InvalidRange => ReadError::InvalidRange,
            QueryError::InvalidAggregation => ReadError::InvalidAggregation,
            QueryError::TooManyPoints { points, .. } => {
                ReadError::TooManyPoints { points, points_max: request.points_max }
            }
            QueryError::TooManyCells { limit } => ReadError::TooManyCells { cells_max: limit },
            other => ReadError::Resample(other.to_string()),
        })
    }

    /// Nobody loads in the background before that was started, or after the stop: then nobody waits either.
    fn patience(&self) -> Duration {
        if self.background.is_running() { PATIENCE } else { Duration::ZERO }
    }

    /// A host by name, put ahead in the queue if it is still to be loaded. Until the log is read nobody can say
    /// that there is no such host.
    fn known_host(&self, cluster: &str, name: &str) -> Result<Option<Arc<Host>>, Unready> {
        let mut host = self.store.host(cluster, name);
        if host.is_none() && self.waiting.phase() == Phase::Indexing {
            if !self.waiting.wait_for(Phase::Loading, self.patience()) {
                return Err(Unready);
            }
            host = self.store.host(cluster, name);
        }
        if self.is_unread(cluster, host.as_deref()) {
            return Err(Unready);
        }
        if let Some(host) = &host {
            self.hurry(host);
        }
        Ok(host)
    }

    /// How many hosts of a cluster there may be: no fewer than [`hosts`](Self::hosts) says, and none of them is locked.
    ///
    /// # Errors
    /// [`ReadError::Loading`].
    pub fn host_count(&self, cluster: &str) -> Result<usize, ReadError> {
        if !self.waiting.wait_for(Phase::Loading, self.patience()) {
            return Err(ReadError::Loading);
        }
        Ok(self.store.host_count_of(cluster))
    }

    /// Hosts of a cluster, sorted.
    ///
    /// # Errors
    /// [`ReadError::Loading`].
    pub fn hosts(&self, cluster: &str) -> Result<Vec<String>, ReadError> {
        if !self.waiting.wait_for(Phase::Loading, self.patience()) {
            return Err(ReadError::Loading);
        }
        if self.store.is_unlisted(cluster) {
            return Err(ReadError::Loading);
        }
        let is_there = |host: &&Arc<Host>| {
            let state = host.lock();
            state.is_loading() || state.has_samples()
        };
        Ok(self.store.hosts(cluster).iter().filter(is_there).map(|host| host.name().to_owned()).collect())
    }

    /// Frees what is older than `to` below each selector. Returns how many blocks and heads of series were hidden
    /// in whole or in part; selectors that lead nowhere count for nothing.
    ///
    /// # Errors
    /// The store is still loading, or in mode `always` the log does not work: nothing is promised then.
    pub fn free(&self, to: i64, selectors: &[Vec<String>]) -> Result<Freed, FreeError> {
        if !self.waiting.wait_for(Phase::Ready, self.patience()) {
            return Err(FreeError::Loading);
        }
        if selectors.iter().any(|selector| self.any_unread(selector)) {
            return Err(FreeError::Loading);
        }
        let mut count = 0;
        let mut earlier: Option<Stamp> = None;
        let mut scribe = self.scribe();
        for selector in selectors {
            let path: Vec<&str> = selector.iter().skip(2).map(String::as_str).collect();
            for host in self.selected(selector) {
                // Of many hosts that is much. An error is of the log, and seen below.
                self.log.relieve().ok();
                let mut state = host.lock();
                let mut columns = Vec::new();
                if let Some(level) = state.shape().root().descend(path.iter().copied()) {
                    level.all_columns(&mut columns);
                }
                let (floors, hidden) = state.to_free(&columns, to);
                if !floors.is_empty() {
                    let at = scribe.floors(&host, &mut state, &floors);
                    state.raise_floors(&floors, at);
                    count += hidden;
                }
                // A request that comes again finds nothing to hide, and waits for what the first one has logged.
                earlier = earlier.max(state.floors_from(&columns));
            }
        }
        // What is hidden now stays hidden: the answer waits for the log as that of a write does.
        // What an earlier process logged was replayed: it is in the log.
        let earlier = earlier.map(position).filter(|position| *position >= self.began);
        let is_in_memory = earlier
            .is_some_and(|at| self.log.is_hole(at) || self.until().is_none() && self.log.is_degraded());
        match self.acknowledge(Records::of(&scribe).and(earlier, is_in_memory)) {
            Durability::Unavailable => Err(FreeError::Unlogged),
            durability => Ok(Freed { count, durability }),
        }
    }

    /// The dump of a level as JSON, `{"data": …}`.
    ///
    /// # Errors
    /// Nothing has this selector, or the store is still loading.
    pub fn debug_json(&self, selector: Option<&str>) -> Result<Vec<u8>, DebugError> {
        let selector = selector.unwrap_or_default();
        if !self.waiting.wait_for(Phase::Ready, self.patience()) {
            return Err(DebugError::Loading);
        }
        let selected = debug::select(&self.store, selector);
        let unread = match &selected {
            None | Some(Selected::All) => self.is_pending(),
            Some(Selected::Cluster(cluster)) => self.any_unread(&[cluster.to_string()]),
            Some(Selected::Host(host, _)) => host.lock().is_loading(),
        };
        if unread {
            return Err(DebugError::Loading);
        }
        let selected = selected.ok_or_else(|| DebugError::NotFound(selector.to_owned()))?;
        let mut out = b"{\"data\":".to_vec();
        match selected {
            Selected::All => self.push_clusters(&mut out),
            Selected::Cluster(cluster) => self.push_hosts(&mut out, &cluster),
            Selected::Host(host, path) => {
                let state = host.lock();
                let level = state.shape().root().descend(path.iter().map(|name| &**name));
                let written = level
                    .is_some_and(|level| debug::push_level(&mut out, self.store.catalog(), &state, level));
                if !written {
                    out.extend_from_slice(b"{}");
                }
            }
        }
        out.extend_from_slice(b"}\n");
        Ok(out)
    }

    fn push_clusters(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        let empty = out.len();
        for cluster in self.store.clusters() {
            debug::push_key(out, empty, &cluster);
            self.push_hosts(out, &cluster);
        }
        out.push(b'}');
    }

    fn push_hosts(&self, out: &mut Vec<u8>, cluster: &str) {
        out.push(b'{');
        let empty = out.len();
        for host in self.store.hosts(cluster) {
            let before = out.len();
            debug::push_key(out, empty, host.name());
            // One host's lock at a time, and none while the answer goes out.
            let state = host.lock();
            if !debug::push_level(out, self.store.catalog(), &state, state.shape().root()) {
                out.truncate(before);
            }
        }
        out.push(b'}');
    }

    /// The health of hosts.
    ///
    /// # Errors
    /// [`ReadError::Loading`].
    pub fn health(
        &self,
        cluster: &str,
        nodes: &[String],
        metrics: &[String],
    ) -> Result<Vec<(String, HealthAnswer)>, ReadError> {
        let now = self.now();
        nodes
            .iter()
            .map(|node| {
                let host = self.known_host(cluster, node).map_err(|Unready| ReadError::Loading)?;
                let Some(host) = host else { return Ok((node.clone(), HealthAnswer::not_found())) };
                let state = host.lock_loaded(self.patience()).ok_or(ReadError::Loading)?;
                if !state.has_samples() {
                    return Ok((node.clone(), HealthAnswer::not_found()));
                }
                let health = health::of_host(&state, self.store.catalog(), metrics, now);
                let answer = HealthAnswer {
                    found: true,
                    state: match health.state {
                        State::Full => HealthState::Full,
                        State::Partial => HealthState::Partial,
                        State::Failed => HealthState::Failed,
                    },
                    degraded: health.degraded,
                    missing: health.missing,
                };
                Ok((node.clone(), answer))
            })
            .collect()
    }

    /// Whether everything is loaded.
    pub fn ready(&self) -> bool {
        self.waiting.phase() == Phase::Ready
    }
}

impl HealthAnswer {
    fn not_found() -> Self {
        Self { found: false, state: HealthState::Failed, degraded: Vec::new(), missing: Vec::new() }
    }
}
