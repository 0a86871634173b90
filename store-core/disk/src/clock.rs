//! The only source of wall-clock time.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Says what time it is.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Milliseconds since the Unix epoch. May jump in either direction.
    fn now_ms(&self) -> i64;

    /// Seconds since the Unix epoch, rounded down.
    fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }

    /// Milliseconds since some moment before the first call, by a clock that nobody sets: it never jumps, and stands
    /// still while the machine is asleep. Says how long something took, not what time it is.
    fn steady_ms(&self) -> i64;

    /// Waits, before something is tried again. A clock that a test sets does not.
    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// From when on [`SystemClock`] counts steady time.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

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

    fn steady_ms(&self) -> i64 {
        i64::try_from(BEGIN.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// A clock that a test sets.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicI64,
    steady_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `now_s` seconds.
    pub fn at(now_s: i64) -> Self {
        Self { now_ms: AtomicI64::new(now_s * 1000), steady_ms: AtomicI64::new(0) }
    }

    /// Sets the clock, forwards or backwards: a jump, which takes no time.
    pub fn set(&self, now_s: i64) {
        self.now_ms.store(now_s * 1000, Ordering::SeqCst);
    }

    /// Lets `by_s` seconds pass; if negative the clock is set back, and none do.
    pub fn advance(&self, by_s: i64) {
        self.now_ms.fetch_add(by_s * 1000, Ordering::SeqCst);
        self.steady_ms.fetch_add(by_s.max(0) * 1000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn steady_ms(&self) -> i64 {
        self.steady_ms.load(Ordering::SeqCst)
    }

    fn pause(&self, _: Duration) {}
}
