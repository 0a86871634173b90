//! The only source of wall-clock time.

use std::sync::atomic::{AtomicI64, Ordering};

/// Says what time it is.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Milliseconds since the Unix epoch. May jump in either direction.
    fn now_ms(&self) -> i64;

    /// Seconds since the Unix epoch, rounded down.
    fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        use std::time::{SystemTime, UNIX_EPOCH};
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }
}

/// A clock that a test sets.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `now_s` seconds.
    pub fn at(now_s: i64) -> Self {
        Self(AtomicI64::new(now_s * 1000))
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, now_s: i64) {
        self.0.store(now_s * 1000, Ordering::SeqCst);
    }

    /// Moves the clock on by `by_s` seconds, backwards if negative.
    pub fn advance(&self, by_s: i64) {
        self.0.fetch_add(by_s * 1000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}
