//! [`Problems`]: what an admin should look at: one list, and one line in the log a pass.
//!
//! A full disk fails for every host at once, twice a second. So whoever works through hosts notes here what failed, and
//! the line is printed when the pass ends: how many, and the first of them. The list has each of them, up to a bound.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use store_core::Timestamp;
use store_disk::{Clock, SystemClock};

/// Problems that are listed; those that were seen longest ago give way.
const LISTED_MAX: usize = 50;

/// Seconds between two lines about the same thing while it goes on.
const AGAIN_S: i64 = 60;

/// A file or directory that something is wrong with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong, and what was done.
    pub what: &'static str,
    /// The file or directory.
    pub path: String,
    /// What the system said, the last time.
    pub why: Option<String>,
    /// How often it was seen.
    pub count: u64,
    /// When it was seen first, seconds since 1970.
    pub first: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
}

/// What is wrong with a thing, and how loudly it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grade {
    /// Nothing is lost.
    Warning,
    /// Something is lost, or will be if nobody acts.
    Error,
}

/// The problems of an engine.
#[derive(Debug)]
pub(super) struct Problems {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The one that was seen last stands last.
    listed: Vec<Problem>,
    tallies: BTreeMap<&'static str, Tally>,
}

/// What is to be said about one kind of problem.
#[derive(Debug)]
struct Tally {
    grade: Grade,
    /// Since the last line.
    count: u64,
    path: String,
    why: String,
    told: Option<Timestamp>,
}

impl Default for Problems {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl Problems {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a problem; the caller says it in the log if it is worth a line.
    pub(super) fn list(&self, what: &'static str, path: &Path, why: Option<String>) {
        let now = self.clock.now_s();
        self.lock().list(what, path.display().to_string(), why, now);
    }

    /// Lists a problem, and counts it for the line that [`tell`](Self::tell) prints.
    pub(super) fn note(&self, grade: Grade, what: &'static str, path: &Path, why: String) {
        let (now, path) = (self.clock.now_s(), path.display().to_string());
        let mut inner = self.lock();
        inner.list(what, path.clone(), Some(why.clone()), now);
        let tally = inner.tallies.entry(what).or_insert_with(|| Tally {
            grade,
            count: 0,
            path: String::new(),
            why: String::new(),
            told: None,
        });
        if tally.count == 0 {
            (tally.path, tally.why) = (path, why);
        }
        tally.count += 1;
    }

    /// Ends a pass: prints a line for each kind that was noted. One that goes on is told again once a minute.
    pub(super) fn tell(&self) {
        for (what, grade, count, first, why) in self.take() {
            match grade {
                Grade::Warning => tracing::warn!(count, first, error = why, "{what}"),
                Grade::Error => tracing::error!(count, first, error = why, "{what}"),
            }
        }
    }

    /// What is to be told now.
    fn take(&self) -> Vec<(&'static str, Grade, u64, String, String)> {
        let now = self.clock.now_s();
        let mut due = Vec::new();
        let mut inner = self.lock();
        inner.tallies.retain(|what, tally| {
            let quiet = tally.told.is_some_and(|told| (0..AGAIN_S).contains(&(now - told)));
            if tally.count > 0 && !quiet {
                let (path, why) = (std::mem::take(&mut tally.path), std::mem::take(&mut tally.why));
                due.push((*what, tally.grade, tally.count, path, why));
                (tally.count, tally.told) = (0, Some(now));
            }
            tally.count > 0 || quiet || tally.told == Some(now)
        });
        due
    }

    /// All that are listed, the one that was seen last at the end.
    pub(super) fn listed(&self) -> Vec<Problem> {
        self.lock().listed.clone()
    }
}

impl Inner {
    fn list(&mut self, what: &'static str, path: String, why: Option<String>, now: Timestamp) {
        let known = self.listed.iter().position(|one| one.what == what && one.path == path);
        let mut problem = match known {
            Some(at) => self.listed.remove(at),
            None => Problem { what, path, why: None, count: 0, first: now, last: now },
        };
        problem.count += 1;
        problem.last = now;
        problem.why = why.or(problem.why);
        if self.listed.len() >= LISTED_MAX {
            self.listed.remove(0);
        }
        self.listed.push(problem);
    }
}

#[cfg(test)]
mod tests {
    use store_disk::ManualClock;

    use super::*;

    fn note(problems: &Problems, host: u32) {
        let path = format!("/d/c/h{host}");
        problems.note(Grade::Error, "host could not be saved", Path::new(&path), "no space".into());
    }

    #[test]
    fn a_pass_over_many_hosts_is_one_line_with_their_number_and_the_first() {
        let clock = Arc::new(ManualClock::at(1000));
        let problems = Problems::new(Arc::<ManualClock>::clone(&clock));
        (0..300).for_each(|host| note(&problems, host));
        let line = |count, first: &str| {
            vec![("host could not be saved", Grade::Error, count, first.to_owned(), "no space".to_owned())]
        };
        assert_eq!(problems.take(), line(300, "/d/c/h0"));
        (5..10).for_each(|host| note(&problems, host));
        clock.advance(5);
        assert_eq!(problems.take(), [], "the same again within a minute");
        clock.advance(AGAIN_S);
        assert_eq!(problems.take(), line(5, "/d/c/h5"));
        clock.advance(AGAIN_S);
        assert_eq!(problems.take(), [], "nothing happened since");
        note(&problems, 7);
        assert_eq!(problems.take(), line(1, "/d/c/h7"));
    }

    #[test]
    fn a_problem_is_listed_once_with_its_first_and_last_time_and_its_count() {
        let clock = Arc::new(ManualClock::at(1000));
        let problems = Problems::new(Arc::<ManualClock>::clone(&clock));
        note(&problems, 1);
        note(&problems, 2);
        clock.advance(30);
        note(&problems, 1);
        let listed = problems.listed();
        let seen: Vec<_> =
            listed.iter().map(|one| (one.path.as_str(), one.count, one.first, one.last)).collect();
        assert_eq!(seen, [("/d/c/h2", 1, 1000, 1000), ("/d/c/h1", 2, 1000, 1030)]);
        (0..1000).for_each(|host| note(&problems, host));
        assert_eq!(problems.listed().len(), LISTED_MAX);
    }
}
