//! [`Floors`]: what was freed by request.

use crate::Timestamp;
use crate::stamp::Stamp;

/// Below which time the samples of a column are hidden, and refused if they are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// The column of the host.
    pub column: u32,
    /// Slots before this time are hidden.
    pub before: Timestamp,
    /// Stamp of the record that says so.
    pub at: Stamp,
    /// Whether a synced block file says so too.
    pub saved: bool,
}

/// The floors of a host, by column.
#[derive(Debug, Clone, Default)]
pub struct Floors(Vec<Floor>);

impl Floors {
    /// Whether no column has a floor.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All floors, in the order of columns.
    pub fn iter(&self) -> impl Iterator<Item = &Floor> {
        self.0.iter()
    }

    /// The time below which a column is hidden.
    pub fn of(&self, column: u32) -> Timestamp {
        match self.0.binary_search_by_key(&column, |floor| floor.column) {
            Ok(at) => self.0[at].before,
            Err(_) => Timestamp::MIN,
        }
    }

    /// Raises a floor; a lower one than there is changes nothing.
    pub fn raise(&mut self, new: Floor) {
        match self.0.binary_search_by_key(&new.column, |floor| floor.column) {
            Ok(at) if self.0[at].before < new.before => {
                // Until the higher one is saved, the log is needed from whichever record is older.
                let old = self.0[at];
                let at_stamp = if old.saved { new.at } else { old.at.min(new.at) };
                self.0[at] = Floor { at: at_stamp, ..new };
            }
            Ok(_) => {}
            Err(at) => self.0.insert(at, new),
        }
    }

    /// Enters a floor that the log says again: a file may say it too, but that need not be durable.
    pub fn replay(&mut self, new: Floor) {
        match self.0.binary_search_by_key(&new.column, |floor| floor.column) {
            Ok(at) if self.0[at].before == new.before && self.0[at].saved => self.0[at] = new,
            _ => self.raise(new),
        }
    }

    /// The log is needed from here on for the floors.
    pub fn safe(&self) -> Stamp {
        self.0.iter().filter(|floor| !floor.saved).map(|floor| floor.at).min().unwrap_or(Stamp::MAX)
    }

    /// Floors that no block file holds yet.
    pub fn unsaved(&self) -> Vec<Floor> {
        self.0.iter().filter(|floor| !floor.saved).copied().collect()
    }

    /// Notes that these floors are in a synced file; one that was raised meanwhile is not.
    pub fn mark_saved(&mut self, saved: &[Floor]) {
        for floor in saved {
            if let Ok(at) = self.0.binary_search_by_key(&floor.column, |floor| floor.column)
                && self.0[at].before == floor.before
            {
                self.0[at].saved = true;
            }
        }
    }

    /// Gives all unsaved floors the stamp of a new record.
    pub fn restamp(&mut self, at: Stamp) {
        for floor in self.0.iter_mut().filter(|floor| !floor.saved) {
            floor.at = at;
        }
    }

    /// Forgets the floors that `keep` refuses: those that hide nothing any more.
    pub fn retain(&mut self, keep: impl FnMut(&Floor) -> bool) {
        self.0.retain(keep);
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Floor>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(column: u32, before: Timestamp, at: u64) -> Floor {
        Floor { column, before, at: Stamp(at), saved: false }
    }

    #[test]
    fn a_floor_only_rises() {
        let mut floors = Floors::default();
        floors.raise(floor(3, 100, 5));
        floors.raise(floor(3, 50, 6));
        floors.raise(floor(1, 70, 7));
        assert_eq!((floors.of(3), floors.of(1), floors.of(2)), (100, 70, Timestamp::MIN));
    }

    #[test]
    fn an_unsaved_floor_that_is_raised_still_needs_its_first_record() {
        let mut floors = Floors::default();
        floors.raise(floor(0, 100, 5));
        let saving = floors.unsaved();
        floors.raise(floor(0, 200, 9));
        assert_eq!(floors.safe(), Stamp(5));
        floors.mark_saved(&saving);
        assert_eq!(floors.safe(), Stamp(5), "what was saved is the lower floor");
        floors.mark_saved(&floors.unsaved());
        assert_eq!(floors.safe(), Stamp::MAX);
        floors.raise(floor(0, 300, 12));
        assert_eq!(floors.safe(), Stamp(12));
    }
}
