//! [`Waiting`]: hosts that are still to be loaded, and who waits for them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use store_core::host::Host;

/// How long a request waits for hosts to be loaded before it is told to come again.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How far the loading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The log is read: a host may turn up that no directory names.
    Indexing,
    /// All hosts are known, and read one after the other.
    Loading,
    /// Everything is in memory.
    Ready,
}

/// The queue of hosts to be loaded: those that are asked for go ahead.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug)]
struct Queue {
    phase: Phase,
    hosts: VecDeque<Arc<Host>>,
    /// Hosts that were asked for; they stand in `hosts` too, unless somebody took them there already.
    urgent: VecDeque<Arc<Host>>,
    under_way: usize,
}

/// A host that is being loaded. If that panics it goes back into the queue, behind all others.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    waiting: &'a Waiting,
    pub(super) host: Arc<Host>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut queue = self.waiting.lock();
        queue.under_way -= 1;
        if std::thread::panicking() {
            queue.hosts.push_back(Arc::clone(&self.host));
        }
    }
}

impl Waiting {
    pub(super) fn new() -> Self {
        let queue =
            Queue { phase: Phase::Indexing, hosts: VecDeque::new(), urgent: VecDeque::new(), under_way: 0 };
        Self { queue: Mutex::new(queue), changed: Condvar::new() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// How many hosts are still to be loaded.
    pub(super) fn left(&self) -> usize {
        let queue = self.lock();
        queue.hosts.len() + queue.under_way
    }

    /// All hosts are known: these are to be loaded.
    pub(super) fn begin(&self, hosts: Vec<Arc<Host>>) {
        let mut queue = self.lock();
        queue.phase = Phase::Loading;
        queue.hosts = hosts.into();
        self.changed.notify_all();
    }

    /// The next host to load, the ones asked for first; `None` if none is left. A host may be handed out twice;
    /// who loads looks whether it still waits.
    pub(super) fn next(&self) -> Option<UnderWay<'_>> {
        let mut queue = self.lock();
        let host = queue.urgent.pop_front().or_else(|| queue.hosts.pop_front())?;
        queue.under_way += 1;
        Some(UnderWay { waiting: self, host })
    }

    /// Whether every host that was handed out is done and none is left.
    pub(super) fn is_drained(&self) -> bool {
        let queue = self.lock();
        queue.phase == Phase::Loading && queue.hosts.is_empty() && queue.under_way == 0
    }

    /// Everything is loaded.
    pub(super) fn finish(&self) {
        self.lock().phase = Phase::Ready;
        self.changed.notify_all();
    }

    /// Puts a host ahead of the others.
    pub(super) fn hurry(&self, host: &Arc<Host>) {
        let mut queue = self.lock();
        if queue.phase != Phase::Ready && !queue.urgent.iter().any(|other| Arc::ptr_eq(other, host)) {
            queue.urgent.push_back(Arc::clone(host));
        }
    }

    /// Waits until a phase is reached; false if that takes too long.
    pub(super) fn wait_for(&self, phase: Phase, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut queue = self.lock();
        while queue.phase < phase {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
