//! [`Horizon`]: how old is too old, and how new too new. Nothing else compares a time with the retention.
//!
//! Age is not judged by the clock alone, because a clock can be wrong and deleting cannot be undone. It counts from the
//! clock or the *vouched time*, whichever is earlier:
//!
//! * With three hosts or more, it is the third newest of the newest times that their senders wrote. So neither one
//!   wrong sample nor two wrong hosts move it, and hosts that are silent do not hold it back.
//! * With fewer hosts, it is the second newest time that any of them wrote, each in a message of its own.
//! * What our own clock stamped, because a line had no time, does not vouch.
//! * Where too few hosts speak to say it at once, or only lines without times arrive, the vouched time follows the
//!   newest sample no faster than steady time passes: a jump of the clock is none of that. Once such samples have been
//!   ahead of it for a whole retention of steady time they are believed, since all that came before them is that old.
//! * Until a host has vouched it is the clock as it stood at the start, and follows steady time.
//!
//! Before a start knows any of this nothing is too old. A clock that is behind what was vouched by more than
//! `max-future` is wrong beyond doubt, and nobody knows for how long the store was down: then samples up to a retention
//! ahead of the vouched time are taken, for any later one would be news of which no older sample could be kept.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use store_core::Timestamp;
use store_core::witness::Witness;
use store_disk::Clock;

use super::options::EngineOptions;

/// Hosts whose words are enough.
const WITNESSES: usize = 3;

/// Seconds by which samples may be ahead of the vouched time without being *apart* from it.
const APART_S: i64 = 60;

/// Nothing is known yet.
const UNKNOWN: Timestamp = Timestamp::MIN;

/// How old is too old, and how new too new: for what senders bring, and for what memory and files hold.
#[derive(Debug)]
pub(super) struct Horizon {
    clock: Arc<dyn Clock>,
    retention_s: i64,
    max_future_s: i64,
    /// The vouched time; [`UNKNOWN`] until a start knows it. One load on the way of every message.
    vouched: AtomicI64,
    walk: Mutex<Walk>,
}

/// How the vouched time came to be, and how it goes on.
#[derive(Debug, Default)]
struct Walk {
    basis: Basis,
    /// The vouched time, in milliseconds: steady time passes in small pieces.
    vouched_ms: i64,
    /// When it was looked at last, in steady milliseconds.
    looked_ms: i64,
    /// What three hosts said at the last look.
    said: Option<Timestamp>,
    /// Since when samples are apart from the vouched time, in steady milliseconds.
    apart_since_ms: Option<i64>,
    /// Whether the clock was found to be behind, which is told once.
    behind: bool,
}

/// What the vouched time rests on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// The clock: there is nothing else.
    #[default]
    Clock,
    /// Rows that were found, whoever gave them their times.
    Rows,
    /// What hosts said.
    Words,
}

/// What is known of the time when a start has looked at the log and the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundTime {
    /// The log says what was vouched for.
    Said(Timestamp),
    /// Rows are of this time.
    Rows(Timestamp),
    /// There are none.
    Nothing,
}

impl Horizon {
    /// Where nothing is known yet, and so nothing too old.
    pub(super) fn new(options: &EngineOptions, clock: Arc<dyn Clock>) -> Self {
        let (retention_s, max_future_s) = (options.retention_s, options.max_future_s);
        let vouched = AtomicI64::new(UNKNOWN);
        Self { clock, retention_s, max_future_s, vouched, walk: Mutex::default() }
    }

    /// The clock: what samples without a time are given.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now_s()
    }

    /// The time from which age counts.
    fn present(&self) -> Timestamp {
        self.now().min(self.vouched.load(Ordering::Relaxed))
    }

    /// What of a host ends before this time is too old: to be taken, to be read, to be kept.
    ///
    /// All hosts have the same today. Data of running jobs will be kept longer, and a job runs on certain hosts.
    pub(super) fn keep_from(&self, _cluster: &str, _host: &str) -> Timestamp {
        self.keep_from_of_any()
    }

    /// What ends before this time is too old whichever host it is of.
    pub(super) fn keep_from_of_any(&self) -> Timestamp {
        self.present().saturating_sub(self.retention_s)
    }

    /// What of a host ends before this time is older than so many quarters of what is kept.
    pub(super) fn older_than_quarters(&self, cluster: &str, host: &str, quarters: i64) -> Timestamp {
        self.keep_from(cluster, host).saturating_add(self.retention_s / 4 * (4 - quarters))
    }

    /// Samples after this time are too new.
    pub(super) fn accept_to(&self) -> Timestamp {
        let (now, vouched) = (self.now(), self.vouched.load(Ordering::Relaxed));
        let to = now.max(vouched).saturating_add(self.max_future_s);
        if self.is_behind(now, vouched) { to.saturating_add(self.retention_s) } else { to }
    }

    /// Whether the clock is wrong beyond doubt: an honest one lets nobody vouch for so late a time.
    fn is_behind(&self, now: Timestamp, vouched: Timestamp) -> bool {
        vouched > now.saturating_add(self.max_future_s)
    }

    /// Seconds of a part of the retention: how often something is due that depends on it, how long files are.
    pub(super) fn part_s(&self, parts: i64) -> i64 {
        self.retention_s / parts
    }

    /// The time that hosts vouched for, or rows that were found; `None` where only the clock is known.
    pub(super) fn vouched(&self) -> Option<Timestamp> {
        let basis = self.walk().basis;
        Some(self.vouched.load(Ordering::Relaxed)).filter(|time| *time != UNKNOWN && basis != Basis::Clock)
    }

    /// Begins with what a start has found. May be told again once it knows better, while nobody has looked.
    pub(super) fn begin(&self, found: FoundTime) {
        let mut walk = self.walk();
        let (basis, vouched) = match found {
            FoundTime::Said(time) => (Basis::Words, time),
            FoundTime::Rows(time) => (Basis::Rows, time),
            FoundTime::Nothing => (Basis::Clock, self.now()),
        };
        *walk = Walk { basis, looked_ms: self.clock.steady_ms(), ..Walk::default() };
        self.set(&mut walk, vouched.saturating_mul(1000));
    }

    /// Whether the vouched time rests on more than rows.
    pub(super) fn is_said(&self) -> bool {
        self.walk().basis == Basis::Words
    }

    /// Takes in what hosts have said by now.
    pub(super) fn look(&self, witnesses: &Witnesses) {
        let mut walk = self.walk();
        if self.vouched.load(Ordering::Relaxed) == UNKNOWN {
            return;
        }
        let steady_ms = self.clock.steady_ms();
        let passed_ms = (steady_ms - walk.looked_ms).max(0);
        walk.looked_ms = steady_ms;
        let (before_ms, heard_ms) = (walk.vouched_ms, witnesses.heard.map(to_ms));
        let walked_ms = before_ms.saturating_add(passed_ms).min(match heard_ms {
            Some(heard_ms) => heard_ms.max(before_ms),
            // Of an empty store time passes all the same.
            None if walk.basis == Basis::Clock => i64::MAX,
            None => before_ms,
        });
        let next_ms = match witnesses.said().map(to_ms) {
            None => walked_ms,
            Some(said_ms) if walk.basis == Basis::Clock => said_ms,
            // What three hosts say now takes the place of what a start has found, also where that was later.
            Some(said_ms) if witnesses.hosts >= WITNESSES => {
                said_ms.max(walked_ms.min(heard_ms.unwrap_or(said_ms)))
            }
            Some(said_ms) => said_ms.max(walked_ms),
        };
        if witnesses.said().is_some() {
            walk.basis = Basis::Words;
        }
        let next_ms = self.believe(&mut walk, witnesses, next_ms, steady_ms);
        self.set(&mut walk, next_ms);
    }

    /// The time that samples are of which nobody vouches for, if they have been ahead for a whole retention, and who
    /// might have vouched was silent meanwhile; else `vouched_ms`.
    fn believe(&self, walk: &mut Walk, witnesses: &Witnesses, vouched_ms: i64, steady_ms: i64) -> i64 {
        let said = std::mem::replace(&mut walk.said, witnesses.said());
        let heard_ms = witnesses.heard.map_or(i64::MIN, to_ms);
        if heard_ms <= vouched_ms.saturating_add(APART_S * 1000) || walk.said > said {
            walk.apart_since_ms = None;
            return vouched_ms;
        }
        let since_ms = *walk.apart_since_ms.get_or_insert(steady_ms);
        if steady_ms - since_ms < self.retention_s.saturating_mul(1000) {
            return vouched_ms;
        }
        walk.apart_since_ms = None;
        heard_ms
    }

    fn set(&self, walk: &mut Walk, vouched_ms: i64) {
        walk.vouched_ms = vouched_ms;
        let (now, vouched) = (self.now(), vouched_ms.div_euclid(1000));
        self.vouched.store(vouched, Ordering::Relaxed);
        let behind = walk.basis != Basis::Clock && self.is_behind(now, vouched);
        if behind && !walk.behind {
            tracing::warn!(clock = now, vouched, "the clock is behind what hosts say: is it set?");
        }
        walk.behind = behind;
    }

    fn walk(&self) -> std::sync::MutexGuard<'_, Walk> {
        self.walk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_ms(time: Timestamp) -> i64 {
    time.saturating_mul(1000)
}

/// What hosts say of the time, all together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Witnesses {
    /// Hosts that might say something.
    hosts: usize,
    /// The newest words of the hosts whose words are newest, newest first.
    newest: [Option<Timestamp>; WITNESSES],
    /// The two newest words, also if they are of one host.
    words: [Option<Timestamp>; 2],
    /// The newest sample.
    heard: Option<Timestamp>,
}

impl Witnesses {
    /// Takes in what one more host says, or that it says nothing.
    pub(super) fn add(&mut self, witness: &Witness) {
        self.hosts += 1;
        insert(&mut self.newest, witness.newest());
        insert(&mut self.words, witness.newest());
        insert(&mut self.words, witness.second());
        self.heard = self.heard.max(witness.heard());
    }

    /// The time that they vouch for.
    pub(super) fn said(&self) -> Option<Timestamp> {
        match self.hosts {
            WITNESSES.. => self.newest[WITNESSES - 1],
            _ => self.words[1].or(self.words[0]),
        }
    }
}

/// Puts a time in its place among the greatest.
fn insert(greatest: &mut [Option<Timestamp>], mut time: Option<Timestamp>) {
    for other in greatest {
        if time > *other {
            std::mem::swap(other, &mut time);
        }
    }
}

#[cfg(test)]
mod tests;
