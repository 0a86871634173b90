//! [`Budget`]: how much memory the requests under way may hold in sum.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that requests hold, and how many they may.
///
/// Each request alone is bounded by the limits of the config; this bounds their sum. A request that would exceed it is
/// refused rather than made to wait: those it would wait for may be waiting for it.
#[derive(Debug)]
pub struct Budget {
    held_bytes: AtomicU64,
    bytes_max: u64,
}

impl Budget {
    /// An unused budget.
    pub fn new(bytes_max: u64) -> Self {
        Self { held_bytes: AtomicU64::new(0), bytes_max }
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Whether more than half of it is held.
    pub(super) fn is_short(&self) -> bool {
        self.held_bytes() > self.bytes_max / 2
    }

    /// A part of the budget, empty at first.
    pub(super) fn part(self: &Arc<Self>) -> Held {
        Held { budget: Arc::clone(self), bytes: 0 }
    }
}

/// A part of a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Held {
    /// Takes `bytes` more; false if there are not as many left, and then nothing is taken.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let before = self.budget.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.budget.bytes_max {
            self.budget.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Gives back `bytes` of it.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let bytes = (bytes as u64).min(self.bytes);
        self.budget.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_given_back_and_what_is_refused_is_not_taken() {
        let budget = Arc::new(Budget::new(100));
        let mut first = budget.part();
        let mut second = budget.part();
        assert!(first.grow(60) && !second.grow(41) && second.grow(40) && !first.grow(1));
        assert_eq!(budget.held_bytes(), 100);
        drop(first);
        assert_eq!(budget.held_bytes(), 40);
        drop(second);
        assert_eq!(budget.held_bytes(), 0);
    }
}
