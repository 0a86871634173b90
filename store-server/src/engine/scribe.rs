//! [`Scribe`]: writes records of hosts into the log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use store_core::Timestamp;
use store_core::host::{Host, HostState};
use store_core::journal::Journal;
use store_core::metric::Catalog;
use store_core::record::{self, RawSample, Record, kind};
use store_core::row::Row;
use store_core::shape::{Shape, ShapeHash};
use store_core::stamp::Stamp;
use store_wal::{Appended, Log, LogPos, Room, RoomFor};

/// How often a segment says a shape: one rotten frame must not cost the rows of every host that looks like that.
const SHAPE_COPIES: u8 = 2;

/// What the log's present segment says of shapes.
#[derive(Debug, Default)]
pub(super) struct Announced(Mutex<Segment>);

#[derive(Debug, Default)]
struct Segment {
    number: u32,
    shapes: HashMap<ShapeHash, Said>,
}

/// What a segment says of one shape.
#[derive(Debug, Default)]
struct Said {
    copies: u8,
    /// Cells that brought the names of their columns instead.
    named_cells: usize,
}

impl Announced {
    fn lock(&self) -> std::sync::MutexGuard<'_, Segment> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stamp of a position in the log.
pub(super) fn stamp(position: LogPos) -> Stamp {
    Stamp(position.to_u64())
}

/// The position in the log that a stamp was made from.
pub(super) fn position(stamp: Stamp) -> LogPos {
    LogPos::from_u64(stamp.0)
}

/// Writes records of hosts into the log, for one message. Knows afterwards how far to commit.
#[derive(Debug)]
pub(super) struct Scribe<'a> {
    log: &'a Log,
    announced: &'a Announced,
    catalog: &'a Catalog,
    payload: Vec<u8>,
    /// Bytes of all payloads so far.
    bytes: u64,
    last: Option<LogPos>,
    unlogged: bool,
    admission: Admission,
    room: Option<Room<'a>>,
}

/// How records of a message come into the log.
#[derive(Debug, Clone, Copy)]
pub(super) enum Admission {
    /// Without asking: few, or logged again.
    Free,
    /// With room that is there now, or not at all.
    AtOnce(RoomFor),
    /// With room that is waited for until then. Where there is none then, `or_pass`: they are kept in memory alone.
    Until { when: Instant, what: RoomFor, or_pass: bool },
    /// There was no room: they are in memory alone.
    Passed,
}

impl<'a> Scribe<'a> {
    pub(super) fn new(log: &'a Log, announced: &'a Announced, catalog: &'a Catalog) -> Self {
        Self {
            log,
            announced,
            catalog,
            payload: Vec::new(),
            bytes: 0,
            last: None,
            unlogged: false,
            admission: Admission::Free,
            room: None,
        }
    }

    /// The same for a message, which asks for room first.
    pub(super) fn admitted(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// The position of the newest record, if there was one.
    pub(super) fn last(&self) -> Option<LogPos> {
        self.last
    }

    /// Length of all records so far, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a record is only in memory, because the log is degraded.
    pub(super) fn is_unlogged(&self) -> bool {
        self.unlogged
    }

    /// What was only in memory so far was logged again.
    pub(super) fn was_healed(&mut self) {
        self.unlogged = false;
    }

    /// Rows of a host, numbered by `shape`.
    pub(super) fn rows_of(&mut self, host: &Host, shape: &Shape, rows: &[Row]) -> Stamp {
        self.payload.clear();
        record::push_rows_front(&mut self.payload, host.cluster(), host.name(), shape.hash());
        record::push_rows(&mut self.payload, rows);
        self.append(kind::ROWS, Some(shape))
    }

    /// The time that hosts vouch for.
    pub(super) fn vouched(&mut self, time: Timestamp) {
        self.payload.clear();
        Record::Vouched(time).encode(&mut self.payload);
        self.append(kind::VOUCHED, None);
    }

    /// Whether rows are to bring the names of their columns, rather than the segment a shape that it does not hold
    /// yet. That costs less as long as fewer names were brought than the shape has: a host whose series come one by one
    /// has another shape each time, and all of them together would be quadratically long.
    fn is_said_by_names(&self, shape: &Shape, rows: &[Row]) -> bool {
        let cells: usize = rows.iter().map(|row| row.cells.len()).sum();
        // Mostly a message has all series of its host: nobody need be asked.
        if cells >= shape.columns().len() {
            return false;
        }
        let mut announced = self.announced.lock();
        let said = announced.shapes.entry(shape.hash()).or_default();
        if said.copies > 0 {
            return false;
        }
        said.named_cells += cells;
        said.named_cells < shape.columns().len()
    }

    /// Rows of a host, with the names of their columns.
    fn named_rows(&mut self, host: &Host, shape: &Shape, rows: &[Row]) -> Stamp {
        let (part, renumbered) = shape.of_rows(self.catalog, rows);
        let mut bytes = Vec::new();
        record::push_rows(&mut bytes, &renumbered);
        let encoded = part.encode(self.catalog);
        let (cluster, name) = (host.cluster(), host.name());
        self.payload.clear();
        Record::NamedRows { cluster, host: name, shape: &encoded, rows: &bytes }.encode(&mut self.payload);
        self.append(kind::NAMED_ROWS, None)
    }

    fn noted(&mut self, at: LogPos, logged: bool) -> Stamp {
        self.bytes += self.payload.len() as u64;
        self.unlogged |= !logged;
        self.last = self.last.max(Some(at));
        stamp(at)
    }

    /// Appends `payload` as one frame, behind the shape that it is numbered by. Rows mostly follow one another, and
    /// the next ones bring the second copy; behind floors nobody may come.
    fn append(&mut self, kind: u8, shape: Option<&Shape>) -> Stamp {
        loop {
            let (segment, lacking) = {
                let announced = self.announced.lock();
                let said = |shape: &Shape| announced.shapes.get(&shape.hash()).map_or(0, |said| said.copies);
                (announced.number, shape.map_or(0, |shape| SHAPE_COPIES.saturating_sub(said(shape))))
            };
            let copies = if kind == kind::FLOORS { lacking } else { lacking.min(1) };
            let encoded = shape.filter(|_| copies > 0).map(|shape| shape.encode(self.catalog));
            let mut entries: Vec<(u8, &[u8])> = Vec::with_capacity(2);
            if let Some(encoded) = &encoded {
                entries.extend((0..copies).map(|_| (kind::SHAPE, &encoded[..])));
            }
            entries.push((kind, &self.payload));
            let appended = match (&self.admission, &mut self.room) {
                (Admission::Passed, _) => Appended::TooLong,
                (_, Some(room)) => room.append(segment, &entries),
                (_, None) => self.log.append(segment, &entries),
            };
            match appended {
                Appended::At { last, logged, .. } => {
                    if let Some(shape) = shape.filter(|_| copies > 0 && logged) {
                        let mut announced = self.announced.lock();
                        if announced.number == segment {
                            announced.shapes.entry(shape.hash()).or_default().copies += copies;
                        }
                    }
                    return self.noted(last, logged);
                }
                Appended::NewSegment(number) => {
                    let mut announced = self.announced.lock();
                    if announced.number < number {
                        *announced = Segment { number, shapes: HashMap::new() };
                    }
                }
                // There was no room, or a shape is longer than any frame, which none of ours is.
                Appended::TooLong => return self.noted(self.log.pass(), false),
            }
        }
    }
}

impl Journal for Scribe<'_> {
    fn make_room(&mut self, bytes: u64) -> bool {
        // Of the last piece, before somebody waits: it may be all there is.
        self.room = None;
        match self.admission {
            Admission::Free | Admission::Passed => return true,
            Admission::AtOnce(what) => self.room = self.log.try_reserve(bytes, what),
            Admission::Until { when, what, or_pass } => {
                self.room = self.log.reserve(bytes, what, when);
                if self.room.is_none() && or_pass {
                    self.admission = Admission::Passed;
                    return true;
                }
            }
        }
        self.room.is_some()
    }

    fn rows(&mut self, host: &Host, state: &mut HostState, rows: &[Row]) -> Stamp {
        let shape = std::sync::Arc::clone(state.shape());
        if self.is_said_by_names(&shape, rows) {
            self.named_rows(host, &shape, rows)
        } else {
            self.rows_of(host, &shape, rows)
        }
    }

    fn floors(&mut self, host: &Host, state: &mut HostState, floors: &[(u32, Timestamp)]) -> Stamp {
        let shape = std::sync::Arc::clone(state.shape());
        self.payload.clear();
        let (cluster, name) = (host.cluster(), host.name());
        Record::Floors { cluster, host: name, shape: shape.hash(), floors: floors.to_vec() }
            .encode(&mut self.payload);
        self.append(kind::FLOORS, Some(&shape))
    }

    fn samples(&mut self, host: &Host, samples: &[RawSample]) -> Stamp {
        self.payload.clear();
        let (cluster, name) = (host.cluster(), host.name());
        Record::Samples { cluster, host: name, samples: samples.to_vec() }.encode(&mut self.payload);
        self.append(kind::SAMPLES, None)
    }
}
