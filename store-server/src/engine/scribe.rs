//! [`Scribe`]: writes records of hosts into the log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use store_core::Timestamp;
use store_core::host::{Host, HostState};
use store_core::journal::Journal;
use store_core::metric::Catalog;
use store_core::record::{self, RawSample, Record, kind};
use store_core::row::Row;
use store_core::shape::{Shape, ShapeHash};
use store_core::stamp::Stamp;
use store_wal::{Appended, Log, LogPos};

/// How often a segment says a shape: one rotten frame must not cost the rows of every host that looks like that.
const SHAPE_COPIES: u8 = 2;

/// Which shapes the log's present segment holds.
#[derive(Debug, Default)]
pub(super) struct Announced(Mutex<Segment>);

#[derive(Debug, Default)]
struct Segment {
    number: u32,
    copies: HashMap<ShapeHash, u8>,
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
    last: Option<LogPos>,
    unlogged: bool,
}

impl<'a> Scribe<'a> {
    pub(super) fn new(log: &'a Log, announced: &'a Announced, catalog: &'a Catalog) -> Self {
        Self { log, announced, catalog, payload: Vec::new(), last: None, unlogged: false }
    }

    /// The position of the newest record, if there was one.
    pub(super) fn last(&self) -> Option<LogPos> {
        self.last
    }

    /// Whether a record is only in memory, because the log is degraded.
    pub(super) fn is_unlogged(&self) -> bool {
        self.unlogged
    }

    /// Rows of a host, numbered by `shape`.
    pub(super) fn rows_of(&mut self, host: &Host, shape: &Shape, rows: &[Row]) -> Stamp {
        self.payload.clear();
        record::push_rows_front(&mut self.payload, host.cluster(), host.name(), shape.hash());
        record::push_rows(&mut self.payload, rows);
        self.append(kind::ROWS, Some(shape))
    }

    /// Appends `payload` as one frame, behind the shape that it is numbered by.
    fn append(&mut self, kind: u8, shape: Option<&Shape>) -> Stamp {
        loop {
            let (segment, with_shape) = {
                let announced = self.announced.lock();
                let lacks = |shape: &&Shape| {
                    announced.copies.get(&shape.hash()).is_none_or(|copies| *copies < SHAPE_COPIES)
                };
                (announced.number, shape.filter(lacks))
            };
            let encoded = with_shape.map(|shape| shape.encode(self.catalog));
            let mut entries: Vec<(u8, &[u8])> = Vec::with_capacity(2);
            if let Some(encoded) = &encoded {
                entries.push((kind::SHAPE, encoded));
            }
            entries.push((kind, &self.payload));
            match self.log.append(segment, &entries) {
                Appended::At { last, logged, .. } => {
                    if let Some(shape) = with_shape {
                        let mut announced = self.announced.lock();
                        if announced.number == segment {
                            *announced.copies.entry(shape.hash()).or_default() += 1;
                        }
                    }
                    self.unlogged |= !logged;
                    self.last = self.last.max(Some(last));
                    return stamp(last);
                }
                Appended::NewSegment(number) => {
                    let mut announced = self.announced.lock();
                    if announced.number < number {
                        *announced = Segment { number, copies: HashMap::new() };
                    }
                }
            }
        }
    }
}

impl Journal for Scribe<'_> {
    fn rows(&mut self, host: &Host, state: &mut HostState, rows: &[Row]) -> Stamp {
        let shape = std::sync::Arc::clone(state.shape());
        self.rows_of(host, &shape, rows)
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
