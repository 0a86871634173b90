//! [`Grid`]: which slot a moment falls into.

use std::ops::RangeInclusive;

use crate::Timestamp;

/// The times that a store takes. Within them no sum of a time and the longest block overflows, so that only what
/// comes from outside is compared with them, and everything behind it calculates freely.
pub const TIMES: RangeInclusive<Timestamp> = -(1 << 60)..=(1 << 60);

/// Slots of one frequency, counted from an anchor.
///
/// The slot of time `s` holds the moments from `s - ⌊frequency/2⌋` up to one frequency later, so that jitter of
/// up to half a step lands in the right slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// A slot's time; every slot is a whole number of frequencies away from it.
    pub anchor: Timestamp,
    /// Seconds per slot, at least 1.
    pub frequency_s: u32,
}

impl Grid {
    /// The number of the slot that contains `time`, counted from the anchor; negative before it.
    pub fn index(&self, time: Timestamp) -> i64 {
        let step = i64::from(self.frequency_s);
        time.saturating_sub(self.anchor).saturating_add(step / 2).div_euclid(step)
    }

    /// The time of the slot that contains `time`.
    pub fn slot(&self, time: Timestamp) -> Timestamp {
        self.anchor.saturating_add(self.index(time).saturating_mul(i64::from(self.frequency_s)))
    }

    /// The first moment that belongs to this grid's slot 0.
    pub fn start(&self) -> Timestamp {
        self.anchor.saturating_sub(i64::from(self.frequency_s / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_begins_half_a_step_before_its_time() {
        let grid = Grid { anchor: 1000, frequency_s: 60 };
        assert_eq!(
            (grid.slot(969), grid.slot(970), grid.slot(1029), grid.slot(1030)),
            (940, 1000, 1000, 1060)
        );
    }

    #[test]
    fn an_odd_frequency_rounds_its_half_down() {
        let grid = Grid { anchor: 0, frequency_s: 15 };
        assert_eq!((grid.slot(-8), grid.slot(-7), grid.slot(7), grid.slot(8)), (-15, 0, 0, 15));
    }

    #[test]
    fn the_longest_step_takes_the_furthest_times_without_overflow() {
        for anchor in [*TIMES.start(), *TIMES.end()] {
            let grid = Grid { anchor, frequency_s: u32::MAX };
            for time in [*TIMES.start(), *TIMES.end()] {
                assert_eq!((grid.slot(time) - anchor) % i64::from(u32::MAX), 0, "{anchor} {time}");
            }
        }
    }

    #[test]
    fn a_frequency_of_one_second_has_no_half() {
        let grid = Grid { anchor: 5, frequency_s: 1 };
        assert_eq!((grid.slot(-3), grid.slot(5), grid.slot(6)), (-3, 5, 6));
    }
}
