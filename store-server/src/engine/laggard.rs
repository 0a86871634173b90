//! Laggards: hosts that fell silent in the middle of a head, for which the log of everybody would have to be kept.
//!
//! A head that pins much more of the log than others do while they fill is sealed if it is worth a block, and else logged
//! again, with its host's floors: a few rows behind the others instead of all that came since. Where the rows stand then is
//! behind the old ones, and the log is retired only by a LogStart behind both.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use store_core::host::Host;
use store_core::stamp::Stamp;
use store_wal::LogPos;

use super::Engine;
use super::open::describe;
use super::save::Seal;
use super::scribe::{position, stamp};

/// Rows of a head that are worth a block of their own.
pub(super) const LAGGARD_ROWS_MIN: u32 = 16;

/// What a head may pin whatever the others do, in segments: 64 MiB of log, unless somebody says otherwise.
const PINNED_SEGMENTS_MIN: u64 = 1;

/// How much more than what is logged while the median head fills a head may pin.
const PINNED_FILLS_MAX: u64 = 2;

/// Of what is logged, at most this part is logged again for laggards.
const PART_LOGGED_AGAIN: u64 = 100;

/// Heads of which is known how much was logged while they filled: those that filled last.
const FILLS_KEPT: usize = 1 << 10;

/// What is known of how heads fill, and what was done for those that do not.
#[derive(Debug, Default)]
pub(super) struct Laggards {
    fills: Mutex<Fills>,
    /// Bytes that were logged again.
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Fills {
    /// Where the heads begin that were filled since the last look.
    fresh: Vec<Stamp>,
    /// Bytes that were logged while a head filled.
    bytes: VecDeque<u64>,
}

impl Laggards {
    /// Notes that a head that began at `first` is full.
    pub(super) fn filled(&self, first: Stamp) {
        let mut fills = self.fills.lock().unwrap_or_else(PoisonError::into_inner);
        if fills.fresh.len() < FILLS_KEPT {
            fills.fresh.push(first);
        }
    }

    /// Bytes that were logged while the median head filled, if any has.
    fn median_fill(&self, lengths: &[(u32, u64)]) -> Option<u64> {
        let mut fills = self.fills.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = std::mem::take(&mut fills.fresh);
        fills.bytes.extend(fresh.into_iter().map(|first| bytes_from(lengths, position(first))));
        let beyond = fills.bytes.len().saturating_sub(FILLS_KEPT);
        fills.bytes.drain(..beyond);
        let mut sorted: Vec<u64> = fills.bytes.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

impl Engine {
    /// The stamp before which the log is needed by laggards alone, if they keep a segment from going. Seals those of them
    /// that are worth a block, to be saved with the others.
    pub(super) fn seal_laggards(&self) -> Option<Stamp> {
        let bound = self.laggards_before()?;
        self.seal(Seal::LaggingBefore(bound));
        Some(bound)
    }

    fn laggards_before(&self) -> Option<Stamp> {
        let lengths = self.log.segment_lengths();
        let median = self.laggards.median_fill(&lengths)?;
        let floor = PINNED_SEGMENTS_MIN * self.options.log_segment_bytes;
        let allowed = floor.max(median.saturating_mul(PINNED_FILLS_MAX));
        if self.log.is_degraded() {
            return None;
        }
        // The segments behind the bound hold what is allowed, and at least one does not.
        let mut behind = 0;
        let within = lengths.iter().rev().take_while(|(_, bytes)| {
            behind += bytes;
            behind <= allowed
        });
        let (number, _) = within.last()?;
        let is_older = |(older, _): &(u32, u64)| older < number;
        lengths.iter().any(is_older).then(|| stamp(LogPos::new(*number, 0)))
    }

    /// Logs again what laggards hold that could not be saved, as far as it costs little.
    pub(super) fn log_laggards_again(&self, bound: Stamp) {
        let mut scribe = self.scribe();
        for host in self.store.all_hosts() {
            if !is_lagging(&host, bound) {
                continue;
            }
            let spent = self.laggards.bytes.load(Ordering::Relaxed) + scribe.bytes();
            if spent > self.log.stats().frame_bytes / PART_LOGGED_AGAIN {
                break;
            }
            if let Err(e) = self.log_host_again(&mut scribe, &host, &(Stamp::ZERO..bound)) {
                tracing::error!(error = %describe(&e), "the log failed while it took rows of silent hosts again");
                break;
            }
        }
        self.laggards.bytes.fetch_add(scribe.bytes(), Ordering::Relaxed);
    }
}

/// Whether the host needs the log before `bound` for rows that no block holds, and floors. Blocks are saved, and a save
/// that failed is tried again.
fn is_lagging(host: &Arc<Host>, bound: Stamp) -> bool {
    if host.is_poisoned() {
        return false;
    }
    let state = host.lock();
    !state.is_loading() && state.blocks_are_durable() && state.safe() < bound
}

/// Bytes of log from a position on.
fn bytes_from(lengths: &[(u32, u64)], from: LogPos) -> u64 {
    let before = |number: u32| if number == from.segment() { u64::from(from.offset()) } else { 0 };
    let behind = lengths.iter().filter(|(number, _)| *number >= from.segment());
    behind.map(|(number, bytes)| bytes.saturating_sub(before(*number))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_pins_what_stands_behind_it() {
        let lengths = [(3, 100), (5, 50), (6, 20)];
        let pinned = |segment, offset| bytes_from(&lengths, LogPos::new(segment, offset));
        assert_eq!(
            [pinned(1, 0), pinned(3, 90), pinned(4, 7), pinned(5, 20), pinned(6, 30)],
            [170, 80, 70, 50, 0]
        );
    }

    #[test]
    fn the_median_is_of_the_heads_that_filled_last_and_silent_ones_do_not_count() {
        let laggards = Laggards::default();
        let lengths = [(3, 1000)];
        assert_eq!(laggards.median_fill(&lengths), None);
        for offset in [900, 100, 800] {
            laggards.filled(stamp(LogPos::new(3, offset)));
        }
        assert_eq!(laggards.median_fill(&lengths), Some(200));
        for _ in 0..FILLS_KEPT {
            laggards.filled(stamp(LogPos::new(3, 990)));
        }
        assert_eq!(laggards.median_fill(&lengths), Some(10));
    }
}
