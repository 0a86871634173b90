//! [`Journal`]: where accepted rows are written down.

use crate::Timestamp;
use crate::host::{Host, HostState};
use crate::record::RawSample;
use crate::row::Row;
use crate::stamp::Stamp;

/// Writes records of a host down and says in which order they came.
///
/// Every call is made under the host's mutex and must not block on a disk: lock order is host table, host, log.
pub trait Journal {
    /// Called once for each piece of a message, before its first host is locked: makes room for records of at most `bytes`
    /// bytes, shapes included. May block. False: nothing of the piece is to be taken.
    fn make_room(&mut self, bytes: u64) -> bool {
        let _ = bytes;
        true
    }

    /// Rows of a host that is loaded.
    fn rows(&mut self, host: &Host, state: &mut HostState, rows: &[Row]) -> Stamp;

    /// Floors of columns of a host that is loaded.
    fn floors(&mut self, host: &Host, state: &mut HostState, floors: &[(u32, Timestamp)]) -> Stamp;

    /// Samples of a host that is not loaded yet.
    fn samples(&mut self, host: &Host, samples: &[RawSample]) -> Stamp;
}

/// A journal that keeps nothing: for a store in memory only, and for tests.
#[derive(Debug, Default)]
pub struct Unlogged {
    next: u64,
}

impl Unlogged {
    fn stamp(&mut self) -> Stamp {
        self.next += 1;
        Stamp(self.next)
    }
}

impl Journal for Unlogged {
    fn rows(&mut self, _: &Host, _: &mut HostState, _: &[Row]) -> Stamp {
        self.stamp()
    }

    fn floors(&mut self, _: &Host, _: &mut HostState, _: &[(u32, Timestamp)]) -> Stamp {
        self.stamp()
    }

    fn samples(&mut self, _: &Host, _: &[RawSample]) -> Stamp {
        self.stamp()
    }
}
