//! The threads behind the requests: loading, maintenance, and the log's clock.

use std::any::Any;
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use store_core::stamp::Stamp;
use store_wal::{RemoveError, Until};

use super::Engine;
use super::answer::StopReport;
use super::jobs::{Jobs, Name};
use super::open::describe;
use super::options::WalSync;
use super::save::{Saved, Seal, safe};
use super::tail::LogTail;
use super::waiting::Phase;

/// How often maintenance looks whether something is due.
const TICK: Duration = Duration::from_millis(500);

/// How often mode `none` writes the log.
pub(super) const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// How long a stop waits for background writers.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of log that a stop leaves behind rather than open a new segment for.
const LOG_BYTES_KEPT: u64 = 4 << 10;

/// The threads, and how they are told to end.
#[derive(Debug, Default)]
pub(super) struct Background {
    running: AtomicBool,
    ending: Mutex<bool>,
    end: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Background {
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Sleeps; false as soon as the threads are to end.
    fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ending {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return true };
            ending = self.end.wait_timeout(ending, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    /// Waits a little, where there is a background that others go on in.
    pub(super) fn pause(&self, time: Duration) {
        if self.is_running() {
            self.sleep(time);
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the threads to end, and waits for those that do in time. Returns whether all did.
    fn end(&self, patience: Duration) -> bool {
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.end.notify_all();
        let until = Instant::now() + patience;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let mut all = true;
        for thread in threads {
            while !thread.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
            all &= thread.is_finished() && thread.join().is_ok();
        }
        self.running.store(false, Ordering::Relaxed);
        all
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) {
        match thread::Builder::new().name(name.to_owned()).spawn(work) {
            Ok(thread) => self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread),
            Err(e) => tracing::error!(thread = name, error = %e, "thread could not be started"),
        }
    }
}

/// Ends the process, with a last line that says why. What was acknowledged is in the log.
fn give_up(job: Name) -> ! {
    let name = job.as_str();
    let _unheard =
        writeln!(io::stderr(), "job {name} panicked for the third time within a minute: ending at once");
    std::process::abort();
}

/// What a panic says.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

impl Engine {
    /// Starts the threads that load, maintain and flush. One that panics is started again, and after the third panic
    /// within a minute the process ends: a server that saves nothing and says nothing is the worse one.
    pub fn run_background(self: &Arc<Self>) {
        self.background.running.store(true, Ordering::Relaxed);
        let tail = OnceLock::new();
        self.supervise(Name::Load, move |engine| engine.load_in_background(&tail));
        self.supervise(Name::Maintain, |engine| {
            while engine.background.sleep(TICK) {
                let _busy = engine.jobs.begin(Name::Maintain);
                engine.tick();
            }
        });
        let (interval, until) = match self.options.wal_sync {
            WalSync::Always | WalSync::Write => return,
            WalSync::Interval => (self.options.wal_sync_interval, Until::Synced),
            WalSync::None => (FLUSH_INTERVAL, Until::Written),
        };
        self.supervise(Name::Flush, move |engine| {
            while engine.background.sleep(interval) {
                let _busy = engine.jobs.begin(Name::Flush);
                // An error leaves the log degraded; maintenance heals it.
                if let Err(e) = engine.log.flush(until)
                    && !engine.log.is_degraded()
                {
                    tracing::error!(error = %describe(&e), "the log could not be flushed");
                }
            }
        });
    }

    /// Runs a job to its end on a thread of its own, from the beginning again whenever it panics.
    fn supervise(self: &Arc<Self>, job: Name, work: impl Fn(&Self) + Send + 'static) {
        let engine = Arc::clone(self);
        self.background.spawn(job.as_str(), move || {
            // What a panic may leave half done: see `Host::is_poisoned`, `waiting::UnderWay`, `maintain::Undo`.
            while let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&engine))) {
                let (name, panic) = (job.as_str(), text_of(&*panic));
                tracing::error!(job = name, panic, "a job behind the requests panicked: it is started again");
                engine.counters.problem("a job behind the requests panicked", Path::new(name));
                if engine.jobs.panicked(job) {
                    give_up(job);
                }
                if !engine.background.sleep(TICK) {
                    break;
                }
            }
        });
    }

    fn load_in_background(&self, tail: &OnceLock<Arc<LogTail>>) {
        let _busy = self.jobs.begin(Name::Load);
        let tail = tail.get_or_init(|| Arc::new(self.index_log()));
        let panic = thread::scope(|scope| {
            let load = || {
                Jobs::work_for(Name::Load);
                while !self.background.is_ending() && self.load_next(tail) {}
            };
            let workers: Vec<_> = (0..self.options.num_workers.max(1)).map(|_| scope.spawn(load)).collect();
            // All are joined: a scope panics for those that are not.
            let panics: Vec<_> = workers.into_iter().filter_map(|worker| worker.join().err()).collect();
            panics.into_iter().next()
        });
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        if self.waiting.is_drained() {
            self.finish_loading(tail);
        }
    }

    /// Ends the threads, saves everything and syncs the log. What could not be saved is still in the log.
    pub fn stop(&self) -> StopReport {
        let mut problems = Vec::new();
        if self.stopped.swap(true, Ordering::SeqCst) {
            return StopReport { problems };
        }
        let _busy = self.jobs.begin(Name::Stop);
        if !self.background.end(STOP_PATIENCE) {
            problems.push(format!("a background writer did not end within {STOP_PATIENCE:?}"));
        }
        let saved = self.save_the_rest();
        if let Some(problem) = self.left_unsaved(saved) {
            problems.push(problem);
        }
        self.tell_problems();
        if self.waiting.phase() != Phase::Ready || self.ground.lost().is_some() {
            return StopReport { problems };
        }
        if saved.left > 0 {
            problems.push(format!(
                "files of {} hosts that others took the place of could not be removed: the next start does it",
                saved.left
            ));
        }
        if !self.is_dumping() && self.is_all_saved() && self.log.stats().retained_bytes > LOG_BYTES_KEPT {
            // Nothing is needed of the segment, but the log goes on in it: it can only go once there is another.
            self.retire(false);
            if let Err(e) = self.log.switch() {
                tracing::warn!(error = %describe(&e), "the log could not go on to its next segment, and keeps the last");
            }
        }
        self.retire(true);
        if self.is_dumping() && saved.failed == 0 && self.is_all_saved() {
            // The original must find nothing that it does not know.
            match self.log.remove_all() {
                Ok(()) => {}
                // Not ours to remove, and nothing that was acknowledged.
                Err(RemoveError::NotEmpty { path, .. }) => {
                    tracing::warn!(path = %path.display(), "the log is gone; its directory stays, for other files lie there");
                }
                Err(e) => problems.push(format!("the log could not be removed: {}", describe(&e))),
            }
        }
        let unread = self.hosts_unread();
        if unread > 0 {
            problems.push(format!(
                "the directories of {unread} hosts could not be listed: what came for them meanwhile is in the log"
            ));
        }
        StopReport { problems }
    }

    /// Saves everything, with all the room there is. What is in no file is in the log afterwards, if that can be.
    fn save_the_rest(&self) -> Saved {
        if self.ground.lost().is_some() {
            return Saved::default();
        }
        let is_ready = self.waiting.phase() == Phase::Ready;
        if self.log.is_degraded() || self.log.has_holes() {
            // Files first: they take less room than the log does.
            if is_ready {
                self.seal(Seal::All);
                self.save_all();
            }
            self.heal();
        }
        // What was logged is on disk first: whatever fails below is in the log then.
        if let Err(e) = self.log.flush(Until::Synced)
            && !self.is_all_saved()
        {
            tracing::error!(error = %describe(&e), "the log could not be synced");
        }
        if !is_ready {
            return Saved::default();
        }
        self.seal(Seal::All);
        let saved = self.save_all();
        // To a new file the second time.
        if saved.failed + saved.left > 0 { self.save_all() } else { saved }
    }

    /// What a stop could not save, and what that means: for a person who is tired.
    fn left_unsaved(&self, saved: Saved) -> Option<String> {
        let at_risk = self.at_risk();
        if let Some(why) = self.ground.lost() {
            let only = if at_risk.is_nothing() {
                "nothing else was in memory".to_owned()
            } else {
                format!("LOST: {at_risk}, which were only in memory")
            };
            return Some(format!(
                "{why}: what its files hold went with it, so look for the directory first; {only}. Nothing was written \
                 to what stands under its name now"
            ));
        }
        if !at_risk.is_nothing() {
            let why = self.log.stats().last_error.unwrap_or_default();
            return Some(format!(
                "LOST: {at_risk}, which could be written neither to files nor to the log ({why}). What was saved or \
                 logged before is kept, and the next start reads it. Make room, or repair the disk, before that"
            ));
        }
        (saved.failed > 0).then(|| {
            format!(
                "{} hosts could not be saved to files; nothing is lost: the log holds their samples, and the next \
                 start reads them. Leave the directory `.wal` as it is",
                saved.failed
            )
        })
    }

    fn is_all_saved(&self) -> bool {
        self.store.all_hosts().iter().all(|host| safe(host) == Stamp::MAX && host.lock().is_saved())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_waits_for_its_threads_and_not_for_ever() {
        let background = Arc::new(Background::default());
        let asleep = Arc::clone(&background);
        background.spawn("good", move || while asleep.sleep(Duration::from_secs(60)) {});
        let begin = Instant::now();
        assert!(background.end(STOP_PATIENCE), "one that sleeps is woken");
        assert!(begin.elapsed() < STOP_PATIENCE);

        let (release, held) = std::sync::mpsc::channel::<()>();
        background.spawn("stuck", move || assert!(held.recv().is_err(), "nothing is ever sent"));
        assert!(
            !background.end(Duration::from_millis(20)),
            "one that is stuck is left behind, and that is said"
        );
        drop(release);
    }

    #[test]
    fn the_times_are_those_that_operators_are_used_to() {
        assert_eq!((FLUSH_INTERVAL, STOP_PATIENCE), (Duration::from_secs(5), Duration::from_secs(10)));
    }
}
