//! From the raw prefix of a line to its series, without parsing it.
//!
//! A [`Resolver`] remembers what became of each prefix: a keyed 64-bit [hash](Hasher) of its bytes leads to a [`Target`]. It is a
//! cache: it may forget anything at any time, and what it does not know is parsed and told to it ([`Resolver::insert_many`]).
//!
//! ```
//! use store_core::resolver::{Resolver, Target};
//!
//! let resolver = Resolver::new(1_000_000);
//! let hasher = resolver.hasher(b"alpha");
//! let hash = hasher.hash(b"cpu_load,hostname=a01");
//! assert_eq!(resolver.reader().get(hash), None);
//! let series = Target::Series { host: 7, column: 3, prefix_bytes: 21, merges: false };
//! resolver.insert_many(&[(hash, series)], 1);
//! assert_eq!(resolver.reader().get(hash), Some(series));
//! ```
//!
//! # Speed
//! A sender's lines come in the same order again and again. Each entry knows the one that followed it last time, entries
//! lie in the order in which they were first seen, and the guess is accepted only if its hash is equal: so a batch as
//! usual is a walk through memory, and one that is permuted or lacks lines costs a look-up in the table where it
//! differs. An entry also knows how long its prefix is, so where the guess is right nobody looks for the prefix's end. (Guessing the n-th line by the n-th of last time fails from the first missing line on.)
//!
//! # Memory
//! 20 bytes an entry and 6 to 11 for the table. There are at most two entries for each series that the store has, and
//! [`ENTRIES_FREE`] more: a value of a tag that names no series (`jobid=`) makes an entry, and no series. Series and
//! negative answers (unknown metrics, refused names) are bounded apart; beyond its bound each forgets first what was
//! not asked for since it was last looked at, so a sender of ever new prefixes displaces its own.
//!
//! # When hosts go
//! A target names its host by a number that no other host ever gets. So an entry of a host that has gone is not wrong
//! but useless, and a batch that was half way through may leave one behind. [`Resolver::forget_hosts`] takes them out,
//! and leaves alone what is known of others.

mod hash;
mod table;

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::hash::Keys;
pub use self::hash::{Hasher, PREFIX_BYTES_MAX};
use self::table::{ENTRIES_MAX, Link, Table, Value};

/// What a prefix stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// A series.
    Series {
        /// Number of the host.
        host: u32,
        /// Column of the host, below 2^18.
        column: u32,
        /// Length of the prefix: where the line that is expected next has its space ([`Reader::expected_bytes`]). 0 where that is
        /// not known.
        prefix_bytes: u16,
        /// Whether what the prefix names is one of several that are one series: to be counted.
        merges: bool,
    },
    /// A metric that is not in the catalog.
    Unknown,
    /// Refused whatever its value and time; the number of a reason, which means nothing here.
    Refused(u8),
}

/// Entries that there may be however few series there are.
pub const ENTRIES_FREE: usize = 1 << 16;

/// Places that are looked at under one lock when hosts have gone: senders wait no longer than that.
const PLACES_AT_A_TIME: usize = 1 << 14;

/// What became of each prefix; see the [module](self).
///
/// All methods may be called from any thread. The lock inside guards the tables and is taken after any other.
pub struct Resolver {
    keys: Keys,
    tables: RwLock<Tables>,
}

/// Entries by kind; an entry is in one of the two.
struct Tables {
    series: Table,
    /// [`Target::Unknown`] and [`Target::Refused`].
    negative: Table,
}

/// Negative answers that are remembered however few series there may be.
const NEGATIVE_MAX_LEAST: usize = 1024;

impl Resolver {
    /// A resolver that remembers at most `entries_max` prefixes of series, and a quarter as many negative answers (at least 1,024).
    ///
    /// A series has as many prefixes as its senders have ways to write it.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self::with_keys(Keys::random(), entries_max)
    }

    fn with_keys(keys: Keys, entries_max: usize) -> Self {
        let entries_max = entries_max.clamp(1, ENTRIES_MAX);
        let negative_max = (entries_max / 4).max(NEGATIVE_MAX_LEAST);
        let tables = Tables { series: Table::new(entries_max), negative: Table::new(negative_max) };
        Self { keys, tables: RwLock::new(tables) }
    }

    /// Hashes prefixes of lines that belong to `default_cluster` unless they name another; once a batch.
    #[must_use]
    pub fn hasher(&self, default_cluster: &[u8]) -> Hasher<'_> {
        Hasher::new(&self.keys, default_cluster)
    }

    /// The hash of one prefix; [`hasher`](Self::hasher) spares the work of the default cluster for many.
    #[must_use]
    pub fn hash(&self, default_cluster: &[u8], prefix: &[u8]) -> u64 {
        self.hasher(default_cluster).hash(prefix)
    }

    /// Looks prefixes up in the order of their lines. While it lives, inserting and forgetting wait.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        Reader { tables, previous: Link::NONE, next: Link::NONE, found: Found::default() }
    }

    /// Remembers what prefixes stand for, in the order of their lines; what was known of them is replaced. The store
    /// has `series` series.
    pub fn insert_many(&self, learned: &[(u64, Target)], series: usize) {
        if learned.is_empty() {
            return;
        }
        let mut tables = self.write();
        let bounds = Bounds::of(series);
        let Tables { series, negative } = &mut *tables;
        for &(hash, target) in learned {
            match target {
                Target::Series { host, column, prefix_bytes, merges } => {
                    negative.remove(hash);
                    // A column that does not fit is not remembered.
                    if let Some(value) = Value::series(host, column, prefix_bytes, merges) {
                        series.insert(hash, value, bounds.series);
                    }
                }
                Target::Unknown | Target::Refused(_) => {
                    series.remove(hash);
                    negative.insert(hash, negative_value(target), bounds.negative);
                }
            }
        }
    }

    /// Forgets hosts that have gone, by their numbers, and what is too much for the `series` that are left.
    pub fn forget_hosts(&self, gone: &HashSet<u32>, series: usize) {
        let bounds = Bounds::of(series);
        let mut from = 0;
        while {
            let mut tables = self.write();
            tables.series.forget_hosts(from..from + PLACES_AT_A_TIME, gone);
            from += PLACES_AT_A_TIME;
            from < tables.series.places()
        } {}
        while self.write().series.displace_beyond(bounds.series, PLACES_AT_A_TIME) {}
        while self.write().negative.displace_beyond(bounds.negative, PLACES_AT_A_TIME) {}
        let mut tables = self.write();
        tables.series.compact();
        tables.negative.compact();
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many prefixes are remembered: of series, and negative answers.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        (tables.series.len(), tables.negative.len())
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.series.bytes() + tables.negative.bytes() + self.keys.bytes()
    }
}

/// The most entries of each kind: together two a series, and [`ENTRIES_FREE`].
struct Bounds {
    series: usize,
    negative: usize,
}

impl Bounds {
    fn of(series: usize) -> Self {
        let quarter = (2 * series.min(ENTRIES_MAX) + ENTRIES_FREE) / 4;
        Self { series: 3 * quarter, negative: quarter }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (series, negative) = self.len();
        // Not the keys: they are a secret.
        f.debug_struct("Resolver")
            .field("series", &series)
            .field("negative", &negative)
            .finish_non_exhaustive()
    }
}

/// How look-ups of a [`Reader`] ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// The successor of the one before.
    pub predicted: u64,
    /// Elsewhere in the table.
    pub searched: u64,
    /// Not known.
    pub missing: u64,
}

/// Looks up prefixes in the order of their lines; see [`Resolver::reader`].
///
/// It holds the resolver's lock for reading: drop it before inserting, and now and then in a long batch.
pub struct Reader<'a> {
    tables: RwLockReadGuard<'a, Tables>,
    /// What was found last.
    previous: Link,
    /// What followed it last time.
    next: Link,
    found: Found,
}

impl Reader<'_> {
    /// The length of the prefix that is expected next, if it is one of a series; 0 if nobody knows.
    #[inline]
    #[must_use]
    pub fn expected_bytes(&self) -> usize {
        if self.next.is_negative() { 0 } else { self.tables.series.prefix_bytes(self.next) }
    }

    /// What the prefix that is expected next stands for, if this is its hash; else nothing is looked for.
    #[inline]
    pub fn expect(&mut self, hash: u64) -> Option<Target> {
        let guess = self.next;
        let (value, next) = self.tables.table(guess).follow(guess, hash)?;
        self.previous = guess;
        self.next = next;
        self.found.predicted += 1;
        Some(target(guess, value))
    }

    /// What the prefix with this hash stands for, if that is known; the hash is one that a [`Hasher`] gave.
    #[inline]
    pub fn get(&mut self, hash: u64) -> Option<Target> {
        self.expect(hash).or_else(|| self.search(hash))
    }

    /// How the look-ups so far ended.
    #[must_use]
    pub fn found(&self) -> Found {
        self.found
    }

    #[inline(never)]
    fn search(&mut self, hash: u64) -> Option<Target> {
        let tables = &*self.tables;
        let Some(link) = tables.series.find(hash).or_else(|| Some(tables.negative.find(hash)?.negative()))
        else {
            // The guess stays as it is: what is not known was not there last time.
            self.found.missing += 1;
            return None;
        };
        let (value, next) = tables.table(link).follow(link, hash)?;
        tables.table(self.previous).learn(self.previous, link);
        self.previous = link;
        self.next = next;
        self.found.searched += 1;
        Some(target(link, value))
    }
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("found", &self.found).finish_non_exhaustive()
    }
}

impl Tables {
    #[inline(always)]
    fn table(&self, link: Link) -> &Table {
        if link.is_negative() { &self.negative } else { &self.series }
    }
}

/// Marks [`Target::Unknown`] among negative answers; no reason has this number.
const UNKNOWN: u32 = 256;

fn negative_value(target: Target) -> Value {
    Value::negative(if let Target::Refused(reason) = target { u32::from(reason) } else { UNKNOWN })
}

#[inline(always)]
fn target(link: Link, value: Value) -> Target {
    if !link.is_negative() {
        return Target::Series {
            host: value.host,
            column: value.column(),
            prefix_bytes: value.prefix_bytes(),
            merges: value.merges(),
        };
    }
    u8::try_from(value.host).map_or(Target::Unknown, Target::Refused)
}

/// Secret words from the randomness that the standard library takes from the system for its hash maps.
fn random_words() -> impl Iterator<Item = u64> {
    let secret = std::hash::RandomState::new();
    (0_u64..).map(move |number| secret.hash_one(number))
}

#[cfg(test)]
mod tests;
