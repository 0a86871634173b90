//! [`Jobs`]: what goes on behind the requests, and whether it goes on.
//!
//! A job counts every host that it is done with, and every call of the disk when it begins and when it ends. So who looks
//! twice can tell a job that works, or waits for the disk, from one that is stuck.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// So many panics of one job within [`PANICS_WITHIN`] end the process.
const PANICS_MAX: usize = 3;

/// See [`PANICS_MAX`].
const PANICS_WITHIN: Duration = Duration::from_secs(60);

/// The jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// Reads what lies on disk.
    Load,
    /// Seals, saves, rolls, cleans up.
    Maintain,
    /// Writes or syncs the log.
    Flush,
    /// Saves everything at the end.
    Stop,
    /// What requests do with the log, whose threads are nobody's.
    Requests,
}

impl Name {
    const ALL: [Self; 5] = [Self::Load, Self::Maintain, Self::Flush, Self::Stop, Self::Requests];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Maintain => "maintain",
            Self::Flush => "flush",
            Self::Stop => "stop",
            Self::Requests => "requests",
        }
    }

    /// Whether it works with threads that do not know whose they are.
    fn has_workers(self) -> bool {
        self != Self::Flush
    }
}

thread_local! {
    /// Whose thread this is.
    static CURRENT: Cell<Option<Name>> = const { Cell::new(None) };
}

#[derive(Debug, Default)]
struct Job {
    busy: AtomicBool,
    moved: AtomicU64,
    calls: AtomicU64,
    panics: AtomicU64,
    /// When the last ones were. Held for memory work only.
    last_panics: Mutex<Vec<Instant>>,
}

/// How a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobStatus {
    /// Its name.
    pub name: &'static str,
    /// Whether it has something to do at this moment.
    pub busy: bool,
    /// Hosts it was done with, and calls of the disk that it began and ended.
    pub moved: u64,
    /// Calls of the disk that it waits for.
    pub disk_calls: u64,
    /// How often it panicked, and was started again.
    pub panics: u64,
}

/// All jobs of an engine.
#[derive(Debug, Default)]
pub(super) struct Jobs([Job; Name::ALL.len()]);

/// A job is busy, and this thread is its, while this lives.
#[derive(Debug)]
pub(super) struct Busy<'a> {
    jobs: &'a Jobs,
    name: Name,
    before: Option<Name>,
}

/// A call of the disk that is under way.
#[derive(Debug)]
pub(super) struct InCall<'a>(&'a Jobs, Name);

impl Jobs {
    fn job(&self, name: Name) -> &Job {
        &self.0[name as usize]
    }

    /// Makes this thread one of a job.
    pub(super) fn begin(&self, name: Name) -> Busy<'_> {
        self.job(name).busy.store(true, Ordering::Relaxed);
        Busy { jobs: self, name, before: CURRENT.replace(Some(name)) }
    }

    /// Makes this thread a worker of a job that is busy already.
    pub(super) fn work_for(name: Name) {
        CURRENT.set(Some(name));
    }

    /// Calls `visit` with the job of this thread; a thread that does not know is a worker of whoever is busy.
    fn each(&self, of: Option<Name>, visit: impl Fn(&Job)) {
        match of {
            Some(name) => visit(self.job(name)),
            None => {
                let with_workers = Name::ALL.into_iter().filter(|name| name.has_workers());
                with_workers
                    .map(|name| self.job(name))
                    .filter(|job| job.busy.load(Ordering::Relaxed))
                    .for_each(visit);
            }
        }
    }

    /// One host, or another piece of work, is done.
    pub(super) fn step(&self) {
        self.each(CURRENT.get(), |job| {
            job.moved.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// The disk is called. `shared`: also by threads of requests, so that one that does not know whose it is, is theirs.
    pub(super) fn enter_disk(&self, shared: bool) -> InCall<'_> {
        let of = match CURRENT.get() {
            Some(name) => name,
            None if shared => Name::Requests,
            None => {
                self.step();
                // The workers of a load know whose they are.
                Name::Maintain
            }
        };
        let job = self.job(of);
        job.calls.fetch_add(1, Ordering::Relaxed);
        job.moved.fetch_add(1, Ordering::Relaxed);
        InCall(self, of)
    }

    /// Notes a panic. Returns whether there were too many of late.
    pub(super) fn panicked(&self, name: Name) -> bool {
        let job = self.job(name);
        job.panics.fetch_add(1, Ordering::Relaxed);
        let mut last = job.last_panics.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|when| when.elapsed() < PANICS_WITHIN);
        last.push(Instant::now());
        last.len() >= PANICS_MAX
    }

    pub(super) fn status(&self) -> Vec<JobStatus> {
        let status = |name: Name| {
            let job = self.job(name);
            let disk_calls = job.calls.load(Ordering::Relaxed);
            JobStatus {
                name: name.as_str(),
                busy: job.busy.load(Ordering::Relaxed) || name == Name::Requests && disk_calls > 0,
                moved: job.moved.load(Ordering::Relaxed),
                disk_calls,
                panics: job.panics.load(Ordering::Relaxed),
            }
        };
        Name::ALL.into_iter().map(status).collect()
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.jobs.job(self.name).busy.store(false, Ordering::Relaxed);
        CURRENT.set(self.before);
    }
}

impl Drop for InCall<'_> {
    fn drop(&mut self) {
        let Self(jobs, of) = self;
        let job = jobs.job(*of);
        job.calls.fetch_sub(1, Ordering::Relaxed);
        job.moved.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tells from one look to the next whether every job lives.
#[derive(Debug, Default)]
pub struct Watch {
    moved: Vec<u64>,
}

impl Watch {
    /// Looks at all jobs. `Err` names one that is neither idle, nor has moved since the last look, nor waits for the disk;
    /// `Ok` names those that wait for the disk, and have done so since the last look.
    ///
    /// # Errors
    /// The name of the job that is stuck.
    pub fn look(&mut self, jobs: &[JobStatus]) -> Result<Vec<&'static str>, &'static str> {
        let before = std::mem::replace(&mut self.moved, jobs.iter().map(|job| job.moved).collect());
        let still = |(at, job): &(usize, &JobStatus)| job.busy && before.get(*at) == Some(&job.moved);
        let still: Vec<&JobStatus> = jobs.iter().enumerate().filter(still).map(|(_, job)| job).collect();
        // Who writes the log writes it for others, who wait for that call without one of their own.
        let log_hangs = still.iter().any(|job| job.name == Name::Requests.as_str());
        match still.iter().find(|job| job.disk_calls == 0 && !log_hangs) {
            Some(stuck) => Err(stuck.name),
            None => Ok(still.iter().map(|job| job.name).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_stuck_if_it_is_busy_and_neither_moves_nor_waits_for_the_disk() {
        let jobs = Jobs::default();
        let mut watch = Watch::default();
        assert_eq!(watch.look(&jobs.status()), Ok(vec![]));
        let busy = jobs.begin(Name::Maintain);
        jobs.step();
        assert_eq!(watch.look(&jobs.status()), Ok(vec![]), "it has moved");
        assert_eq!(watch.look(&jobs.status()), Err("maintain"));
        let call = jobs.enter_disk(true);
        assert_eq!(watch.look(&jobs.status()), Ok(vec![]), "it has moved");
        assert_eq!(watch.look(&jobs.status()), Ok(vec!["maintain"]), "it waits for the disk");
        drop(call);
        watch.look(&jobs.status()).unwrap();
        drop(busy);
        assert_eq!(watch.look(&jobs.status()), Ok(vec![]), "it is idle");
    }

    #[test]
    fn a_worker_moves_the_job_that_is_busy_and_a_stranger_none() {
        let jobs = Jobs::default();
        let _busy = jobs.begin(Name::Load);
        let moved = || jobs.status()[0].moved;
        std::thread::scope(|scope| {
            scope.spawn(|| jobs.step());
        });
        assert_eq!(moved(), 1);
        std::thread::scope(|scope| {
            scope.spawn(|| drop(jobs.enter_disk(true)));
        });
        assert_eq!(moved(), 1, "a call of a request");
        std::thread::scope(|scope| {
            scope.spawn(|| drop(jobs.enter_disk(false)));
        });
        assert_eq!(moved(), 2, "a call of a worker");
    }

    #[test]
    fn who_waits_for_another_that_writes_the_log_waits_for_the_disk() {
        let jobs = Jobs::default();
        let mut watch = Watch::default();
        let _busy = jobs.begin(Name::Flush);
        std::thread::scope(|scope| {
            let request = scope.spawn(|| jobs.enter_disk(true));
            let _call = request.join().unwrap();
            watch.look(&jobs.status()).unwrap();
            assert_eq!(watch.look(&jobs.status()), Ok(vec!["flush", "requests"]));
        });
        watch.look(&jobs.status()).unwrap_err();
    }

    #[test]
    fn the_third_panic_in_a_minute_is_too_many() {
        let jobs = Jobs::default();
        let too_many = [Name::Load, Name::Flush, Name::Load, Name::Load].map(|name| jobs.panicked(name));
        assert_eq!(too_many, [false, false, false, true]);
        assert_eq!(jobs.status()[0].panics, 3);
    }
}
