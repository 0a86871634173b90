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
    /// The log is needed from here on for it: a lower floor, that files may not say either, was logged earlier.
    needed_from: Stamp,
    /// Where it is said besides.
    pub state: FloorState,
}

/// Where a floor is said besides the record of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloorState {
    /// Nowhere: files may still hold what it hides.
    Logged,
    /// Nowhere, but no file holds what it hides: those of the original cannot say that something was freed. The record
    /// is needed all the same, for what was freed is not to be taken again.
    Applied,
    /// In a synced block file.
    Saved,
}

impl Floor {
    /// A floor that the record `at` says, and maybe no other place.
    pub fn new(column: u32, before: Timestamp, at: Stamp, state: FloorState) -> Self {
        Self { column, before, at, needed_from: at, state }
    }

    /// Whether the log is not needed for it.
    pub fn is_saved(&self) -> bool {
        self.state == FloorState::Saved
    }
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
                let needed_from =
                    if old.is_saved() { new.needed_from } else { old.needed_from.min(new.needed_from) };
                self.0[at] = Floor { needed_from, ..new };
            }
            Ok(_) => {}
            Err(at) => self.0.insert(at, new),
        }
    }

    /// Enters a floor that the log says again: a file may say it too, but that need not be durable.
    pub fn replay(&mut self, new: Floor) {
        match self.0.binary_search_by_key(&new.column, |floor| floor.column) {
            Ok(at) if self.0[at].before == new.before && self.0[at].is_saved() => self.0[at] = new,
            _ => self.raise(new),
        }
    }

    /// The log is needed from here on for the floors.
    pub fn safe(&self) -> Stamp {
        self.0
            .iter()
            .filter(|floor| !floor.is_saved())
            .map(|floor| floor.needed_from)
            .min()
            .unwrap_or(Stamp::MAX)
    }

    /// Floors that no block file holds yet.
    pub fn unsaved(&self) -> Vec<Floor> {
        self.0.iter().filter(|floor| !floor.is_saved()).copied().collect()
    }

    /// Floors whose hidden samples files may still hold.
    pub fn unapplied(&self) -> Vec<Floor> {
        self.0.iter().filter(|floor| floor.state == FloorState::Logged).copied().collect()
    }

    /// Notes that these floors are in a synced file; one that was raised meanwhile is not.
    pub fn mark_saved(&mut self, saved: &[Floor]) {
        self.mark(saved, FloorState::Saved);
    }

    /// Notes that no file holds what these floors hide; one that was raised meanwhile still hides something.
    pub fn mark_applied(&mut self, applied: &[Floor]) {
        self.mark(applied, FloorState::Applied);
    }

    fn mark(&mut self, floors: &[Floor], state: FloorState) {
        for floor in floors {
            if let Ok(at) = self.0.binary_search_by_key(&floor.column, |floor| floor.column)
                && self.0[at].before == floor.before
            {
                self.0[at].state = state;
            }
        }
    }

    /// Gives all unsaved floors the stamp of a new record.
    pub fn restamp(&mut self, at: Stamp) {
        for floor in self.0.iter_mut().filter(|floor| !floor.is_saved()) {
            (floor.at, floor.needed_from) = (at, at);
        }
    }

    /// Notes that a new record says all floors, those of block files too: these may go.
    pub fn log_again(&mut self, at: Stamp) {
        for floor in &mut self.0 {
            (floor.at, floor.needed_from) = (at, at);
            if floor.is_saved() {
                floor.state = FloorState::Applied;
            }
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
        Floor::new(column, before, Stamp(at), FloorState::Logged)
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

    #[test]
    fn a_floor_that_no_file_can_say_needs_its_record_for_ever() {
        let mut floors = Floors::default();
        floors.raise(floor(0, 100, 5));
        floors.mark_applied(&floors.unapplied());
        assert_eq!((floors.unapplied(), floors.safe()), (vec![], Stamp(5)));
        floors.restamp(Stamp(9));
        assert_eq!((floors.unapplied(), floors.safe()), (vec![], Stamp(9)));
        floors.raise(floor(0, 200, 12));
        assert_eq!((floors.unapplied().len(), floors.safe()), (1, Stamp(9)));
    }
}
