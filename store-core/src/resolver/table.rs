//! Entries in the order in which they came, each with a guess at its successor, and a table that finds them by hash.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashTable;

use super::hash::PREFIX_BYTES_MAX;
use crate::shape::COLUMNS_MAX;

/// The most entries of a table: what a link can name.
pub(super) const ENTRIES_MAX: usize = (1 << 30) - 1;

/// What an insertion may cost on the average, in entries looked at for one to displace.
const STEPS_EACH: usize = 32;

/// What one insertion may cost at most: the saved steps of many.
const STEPS_MAX: usize = 1 << 16;

/// An entry of one of two tables. Only a guess: the entry it names may meanwhile be another.
///
/// Bits 0..30 are the place in the table, bit 30 says which table, bit 31 serves [`Entry::link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(u32);

const NEGATIVE: u32 = 1 << 30;
const USED: u32 = 1 << 31;

impl Link {
    /// Names no entry: one more than there can be.
    pub(super) const NONE: Link = Link(ENTRIES_MAX as u32);

    /// The same place in the table of negative answers.
    pub(super) fn negative(self) -> Self {
        Self(self.0 | NEGATIVE)
    }

    #[inline(always)]
    pub(super) fn is_negative(self) -> bool {
        self.0 & NEGATIVE != 0
    }

    #[inline(always)]
    fn place(self) -> usize {
        (self.0 & !(NEGATIVE | USED)) as usize
    }
}

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) host: u32,
    /// Column in the low bits, then [`MERGES`], then the length of the prefix: no wider than a column alone.
    packed: u32,
}

const COLUMN_BITS: u32 = 18;
const MERGES: u32 = 1 << COLUMN_BITS;
const LENGTH_SHIFT: u32 = COLUMN_BITS + 1;

const _: () = assert!(COLUMNS_MAX <= 1 << COLUMN_BITS && PREFIX_BYTES_MAX < 1 << (32 - LENGTH_SHIFT));

impl Value {
    /// `None` if the column is too large; a length that is becomes 0.
    pub(super) fn series(host: u32, column: u32, prefix_bytes: u16, merges: bool) -> Option<Self> {
        let length = if usize::from(prefix_bytes) <= PREFIX_BYTES_MAX { u32::from(prefix_bytes) } else { 0 };
        let flags = if merges { MERGES } else { 0 };
        (column < MERGES).then_some(Self { host, packed: column | flags | length << LENGTH_SHIFT })
    }

    /// `what` in the place of a host.
    pub(super) fn negative(what: u32) -> Self {
        Self { host: what, packed: 0 }
    }

    #[inline(always)]
    pub(super) fn column(self) -> u32 {
        self.packed & (MERGES - 1)
    }

    #[inline(always)]
    pub(super) fn merges(self) -> bool {
        self.packed & MERGES != 0
    }

    #[inline(always)]
    pub(super) fn prefix_bytes(self) -> u16 {
        (self.packed >> LENGTH_SHIFT) as u16
    }
}

/// Four-byte fields throughout: with a `u64` it would be 24 bytes.
struct Entry {
    /// Low and high half; 0 marks an entry that is free, and is the hash of nothing.
    hash: [u32; 2],
    value: Value,
    /// A [`Link`] to the successor, and in its bit 31 whether this entry was used since it was last considered for displacement.
    link: AtomicU32,
}

const _: () = assert!(size_of::<Entry>() == 20);

impl Entry {
    fn new(hash: u64, value: Value, link: Link) -> Self {
        Self { hash: [hash as u32, (hash >> 32) as u32], value, link: AtomicU32::new(link.0) }
    }

    fn is_free(&self) -> bool {
        self.hash == [0, 0]
    }

    #[inline(always)]
    fn hash(&self) -> u64 {
        u64::from(self.hash[1]) << 32 | u64::from(self.hash[0])
    }
}

/// Entries by hash, at most so many.
pub(super) struct Table {
    entries: Vec<Entry>,
    /// Places in `entries`.
    index: HashTable<u32>,
    /// Places of entries that were removed.
    free: Vec<u32>,
    entries_max: usize,
    /// Where the search for an entry to displace goes on.
    hand: usize,
    /// How far it may go.
    steps: usize,
}

impl Table {
    pub(super) fn new(entries_max: usize) -> Self {
        let entries_max = entries_max.min(ENTRIES_MAX);
        Self {
            entries: Vec::new(),
            index: HashTable::new(),
            free: Vec::new(),
            entries_max,
            hand: 0,
            steps: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.index.allocation_size()
            + self.free.capacity() * size_of::<u32>()
    }

    /// Places, with those that are free.
    pub(super) fn places(&self) -> usize {
        self.entries.len()
    }

    /// Takes out what stands in `places` and is of a host in `gone`.
    pub(super) fn forget_hosts(&mut self, places: Range<usize>, gone: &HashSet<u32>) {
        for place in places.start..places.end.min(self.entries.len()) {
            let entry = &self.entries[place];
            if !entry.is_free() && gone.contains(&entry.value.host) {
                self.remove(entry.hash());
            }
        }
    }

    /// Takes out entries until there are at most `entries_max`, but no more than `count` of them. Returns whether
    /// there are still too many.
    pub(super) fn displace_beyond(&mut self, entries_max: usize, count: usize) -> bool {
        for _ in 0..count.min(self.len().saturating_sub(entries_max)) {
            self.steps = (self.steps + STEPS_EACH).min(STEPS_MAX);
            let place = self.displace();
            self.set_free(place);
        }
        self.len() > entries_max
    }

    /// Gives memory back, if most places are free. Entries keep their order, in which each is likely to be followed
    /// by the next.
    pub(super) fn compact(&mut self) {
        if self.free.len() <= self.entries.len() / 2 {
            return;
        }
        let mut entries = Vec::with_capacity(self.index.len());
        for (entry, next) in self.entries.drain(..).filter(|entry| !entry.is_free()).zip(1..) {
            let link = AtomicU32::new(next | entry.link.into_inner() & USED);
            entries.push(Entry { link, ..entry });
        }
        let mut index = HashTable::with_capacity(entries.len());
        for (entry, place) in entries.iter().zip(0_u32..) {
            index.insert_unique(entry.hash(), place, |place: &u32| entries[*place as usize].hash());
        }
        *self = Self { entries, index, ..Self::new(self.entries_max) };
    }

    /// The value of the entry at `link` and the link to its successor, if it has this hash.
    #[inline(always)]
    pub(super) fn follow(&self, link: Link, hash: u64) -> Option<(Value, Link)> {
        let entry = self.entries.get(link.place()).filter(|entry| entry.hash() == hash)?;
        let next = entry.link.load(Ordering::Relaxed);
        if next & USED == 0 {
            // Two readers may race here, and one of their links be lost; a lost guess costs a search.
            entry.link.store(next | USED, Ordering::Relaxed);
        }
        Some((entry.value, Link(next & !USED)))
    }

    /// The length of the prefix of the entry at `link`; 0 if it is not known.
    #[inline(always)]
    pub(super) fn prefix_bytes(&self, link: Link) -> usize {
        self.entries.get(link.place()).map_or(0, |entry| usize::from(entry.value.prefix_bytes()))
    }

    /// Remembers that `next` followed the entry at `link`.
    pub(super) fn learn(&self, link: Link, next: Link) {
        if let Some(entry) = self.entries.get(link.place()) {
            entry.link.store(next.0 | USED, Ordering::Relaxed);
        }
    }

    pub(super) fn find(&self, hash: u64) -> Option<Link> {
        self.index.find(hash, |place| self.hash_at(*place) == hash).map(|place| Link(*place))
    }

    fn hash_at(&self, place: u32) -> u64 {
        self.entries[place as usize].hash()
    }

    /// Puts a value in, in place of the one that this hash had, or, if there are `entries_max`, of another that is not
    /// used.
    pub(super) fn insert(&mut self, hash: u64, value: Value, entries_max: usize) {
        if let Some(link) = self.find(hash) {
            self.entries[link.place()].value = value;
            return;
        }
        self.steps = (self.steps + STEPS_EACH).min(STEPS_MAX);
        let place = if self.len() >= entries_max.clamp(1, self.entries_max) {
            self.displace()
        } else {
            self.free.pop().unwrap_or(self.entries.len() as u32)
        };
        // What is inserted next is likely to be what follows.
        let entry = Entry::new(hash, value, Link(place + 1));
        match self.entries.get_mut(place as usize) {
            Some(old) => *old = entry,
            None => {
                if self.entries.len() == self.entries.capacity() {
                    // By a quarter: doubling would leave half of a large table empty.
                    self.entries.reserve_exact((self.entries.len() / 4).max(64));
                }
                self.entries.push(entry);
            }
        }
        let entries = &self.entries;
        self.index.insert_unique(hash, place, |place| entries[*place as usize].hash());
    }

    pub(super) fn remove(&mut self, hash: u64) {
        if let Some(place) = self.unindex(hash) {
            self.set_free(place);
        }
    }

    fn set_free(&mut self, place: u32) {
        self.entries[place as usize] = Entry::new(0, Value::negative(0), Link::NONE);
        self.free.push(place);
    }

    /// A place whose entry is out of the index: the first that was not used since the hand last passed it, or, if that
    /// takes too long, one that was. There is an entry.
    fn displace(&mut self) -> u32 {
        loop {
            let place = self.hand;
            self.hand = self.after(place);
            let entry = &mut self.entries[place];
            if entry.is_free() {
                continue;
            }
            let link = entry.link.get_mut();
            if *link & USED == 0 || self.steps == 0 {
                let hash = entry.hash();
                self.unindex(hash);
                return place as u32;
            }
            self.steps -= 1;
            *link &= !USED;
        }
    }

    fn after(&self, place: usize) -> usize {
        if place + 1 < self.entries.len() { place + 1 } else { 0 }
    }

    /// Takes the entry with this hash out of the index, if there is one, and says where it lies.
    fn unindex(&mut self, hash: u64) -> Option<u32> {
        let entries = &self.entries;
        let found = self.index.find_entry(hash, |place| entries[*place as usize].hash() == hash).ok()?;
        Some(found.remove().0)
    }
}
