//! [`Anchors`]: from which moments a buffer counts its slots.

use std::sync::Arc;

use crate::Timestamp;
use crate::grid::Grid;

/// How many slots an anchor governs at most: the first sample so many slots or more after it sets a new one.
pub const ANCHOR_SLOTS: i64 = 512;

/// The moments from which the slots of a buffer are counted, in the order of time.
///
/// Each governs from half a step before it to where the next one begins, and never less than the samples that
/// were placed by it: the 512th slot of one anchor may reach into the first of the next, and keeps its moments.
/// The first governs everything before it, too. So the slot of a sample follows from this list alone, whether it
/// comes in time, late, or a second time from the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anchors {
    frequency_s: u32,
    /// Shared with the queries of the moment.
    sorted: Arc<Vec<Timestamp>>,
}

impl Anchors {
    /// No anchors, of slots of `frequency_s` seconds, at least 1.
    pub fn new(frequency_s: u32) -> Self {
        Self { frequency_s, sorted: Arc::default() }
    }

    /// Seconds per slot.
    pub fn frequency_s(&self) -> u32 {
        self.frequency_s
    }

    /// The anchors, in the order of time.
    pub fn as_slice(&self) -> &[Timestamp] {
        &self.sorted
    }

    /// Enters an anchor that a sample set, or that a row or a block names.
    pub fn note(&mut self, anchor: Timestamp) {
        if self.sorted.last() == Some(&anchor) {
            return;
        }
        if let Err(at) = self.sorted.binary_search(&anchor) {
            Arc::make_mut(&mut self.sorted).insert(at, anchor);
        }
    }

    /// Forgets the anchors that `keep` refuses.
    pub fn retain(&mut self, mut keep: impl FnMut(Timestamp) -> bool) {
        Arc::make_mut(&mut self.sorted).retain(|anchor| keep(*anchor));
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        // The counts of the shared list are two words.
        size_of::<Vec<Timestamp>>() + 2 * size_of::<usize>() + self.sorted.capacity() * size_of::<Timestamp>()
    }

    /// The grid of a moment: that of the anchor that governs it.
    pub fn grid(&self, time: Timestamp) -> Option<Grid> {
        Some(self.of(self.sorted[self.governing(time)?]))
    }

    /// The grid of a moment, and the moment at which the next one begins.
    pub fn grid_until(&self, time: Timestamp) -> Option<(Grid, Timestamp)> {
        let at = self.governing(time)?;
        Some((self.of(self.sorted[at]), self.end(at)))
    }

    /// The anchor and the slot of a sample. If that is a new anchor, it is to be [noted](Self::note) once the
    /// sample is accepted; with `fixed_phase` it is a slot of the present grid.
    pub fn place(&self, time: Timestamp, fixed_phase: bool) -> (Timestamp, Timestamp) {
        match self.grid(time) {
            Some(grid) if grid.index(time) < ANCHOR_SLOTS => (grid.anchor, grid.slot(time)),
            Some(grid) if fixed_phase => (grid.slot(time), grid.slot(time)),
            _ => (time, time),
        }
    }

    /// Whether an anchor is known and governs a slot counted from it, at least in part.
    pub fn governs(&self, anchor: Timestamp, slot: Timestamp) -> bool {
        let Ok(at) = self.sorted.binary_search(&anchor) else { return false };
        let step = i64::from(self.frequency_s);
        let from = slot.saturating_sub(step / 2);
        let (begin, end) = self.range(at);
        from < end && begin < from.saturating_add(step)
    }

    /// The moments that the anchor at a place governs: the first one, and the one behind the last.
    pub fn range(&self, at: usize) -> (Timestamp, Timestamp) {
        (if at == 0 { Timestamp::MIN } else { self.begin(at) }, self.end(at))
    }

    fn of(&self, anchor: Timestamp) -> Grid {
        Grid { anchor, frequency_s: self.frequency_s }
    }

    fn governing(&self, time: Timestamp) -> Option<usize> {
        let begun = self.sorted.partition_point(|anchor| self.of(*anchor).start() <= time);
        let last = begun.saturating_sub(1);
        if last > 0 && time < self.begin(last) {
            return Some(last - 1);
        }
        (last < self.sorted.len()).then_some(last)
    }

    /// Where the slots of an anchor begin, but not within those of the one before if it was set behind them.
    fn begin(&self, at: usize) -> Timestamp {
        let start = self.of(self.sorted[at]).start();
        let before = at.checked_sub(1).map(|before| self.of(self.sorted[before]));
        let full = before.filter(|before| before.index(self.sorted[at]) >= ANCHOR_SLOTS);
        full.map_or(start, |full| {
            start.max(full.start().saturating_add(ANCHOR_SLOTS * i64::from(self.frequency_s)))
        })
    }

    fn end(&self, at: usize) -> Timestamp {
        if at + 1 < self.sorted.len() { self.begin(at + 1) } else { Timestamp::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchors(of: &[Timestamp]) -> Anchors {
        let mut anchors = Anchors::new(10);
        of.iter().for_each(|anchor| anchors.note(*anchor));
        anchors
    }

    #[test]
    fn the_first_sample_512_slots_behind_the_anchor_sets_a_new_one() {
        let one = anchors(&[1003]);
        assert_eq!(one.place(1003 + 5114, false), (1003, 1003 + 5110));
        assert_eq!(one.place(1003 + 5115, false), (6118, 6118));
        assert_eq!(one.place(1003 + 5115, true), (1003 + 5120, 1003 + 5120), "of the same phase");
        assert_eq!(Anchors::new(10).place(77, true), (77, 77));
    }

    #[test]
    fn what_lies_before_the_first_anchor_is_counted_from_it() {
        assert_eq!(anchors(&[1003, 9000]).place(-1_000_001, false), (1003, -999_997));
    }

    #[test]
    fn a_late_sample_in_a_gap_between_two_anchors_sets_its_own() {
        let mut two = anchors(&[1003, 9_001_000]);
        assert_eq!(two.place(8_000_000, false), (8_000_000, 8_000_000));
        two.note(8_000_000);
        assert_eq!(two.place(8_000_004, false), (8_000_000, 8_000_000));
        assert_eq!(two.place(9_000_994, false), (9_000_994, 9_000_994));
        assert_eq!(two.place(9_000_995, false), (9_001_000, 9_001_000));
    }

    #[test]
    fn a_sample_has_one_slot_whether_it_comes_before_or_after_the_one_that_sets_the_next_anchor() {
        for jitter in -5..5 {
            let mut list = anchors(&[0]);
            let time = 5120 + jitter;
            let (anchor, _) = list.place(time, false);
            let before: Vec<_> = (5100..time).map(|late| list.place(late, false)).collect();
            list.note(anchor);
            let after: Vec<_> = (5100..time).map(|late| list.place(late, false)).collect();
            let differ = before.iter().zip(&after).position(|(b, a)| a != b);
            // Those that would have set an anchor themselves find one there.
            assert!(differ.is_none_or(|at| before[at].0 != 0), "{jitter}: {before:?} {after:?}");
        }
    }

    #[test]
    fn an_anchor_governs_a_slot_that_reaches_beyond_its_end() {
        let list = anchors(&[0, 5116, 8003]);
        // A sample at 5114 is in the slot 5110, whose moments end at 5115.
        assert_eq!(list.place(5114, false), (0, 5110));
        assert!(list.governs(0, 5110) && !list.governs(0, 5120));
        assert!(list.governs(5116, 5116) && !list.governs(5116, 5096));
        // A sample at 7997 is in the slot 7996, whose moments would end at 8001, but 8003 governs from 7998 on.
        assert_eq!(list.place(7997, false), (5116, 7996));
        assert!(list.governs(5116, 7996) && list.governs(8003, 8003) && !list.governs(8003, 7993));
        assert!(list.governs(0, -100_000) && list.governs(8003, 900_003) && !list.governs(1, 1));
        assert_eq!(list.grid_until(0).map(|(grid, end)| (grid.anchor, end)), Some((0, 5115)));
        assert_eq!(list.grid_until(5115).map(|(grid, end)| (grid.anchor, end)), Some((5116, 7998)));
    }
}
