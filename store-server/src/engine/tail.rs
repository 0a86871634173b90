//! [`LogTail`]: what the log of earlier processes holds, by host: where it stands, not what it says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::OnceLock;

use store_core::Timestamp;
use store_core::record::{Record, kind};
use store_core::shape::{Shape, ShapeHash};
use store_core::stamp::Stamp;
use store_disk::{Disk, Lineage, is_shortage};
use store_wal::{CallError, Found, FrameReader, LogPos, ReplayReport};

use super::scribe::stamp;

/// Where the frames about one host stand.
#[derive(Debug, Default)]
struct OfHost {
    /// In their order.
    frames: Vec<LogPos>,
    /// The shapes that they are numbered by, in the order of their first use; one may be there twice.
    shapes: Vec<ShapeHash>,
}

/// An index of the log, made in one pass. The frames of each host are read once more when its turn comes: of a log of
/// hours only their positions are in memory.
#[derive(Debug)]
pub(super) struct LogTail {
    hosts: BTreeMap<Box<str>, BTreeMap<Box<str>, OfHost>>,
    shapes: HashMap<ShapeHash, LogPos>,
    /// The time that was vouched for, as the log says it last.
    pub(super) vouched: Option<Timestamp>,
    pub(super) report: ReplayReport,
    /// Frames whose checksum is good and whose content is not: of a newer version, or mistakes of ours.
    pub(super) unreadable: u64,
    reader: FrameReader,
    /// See [`names`](Self::names).
    names: OnceLock<HashSet<u32>>,
}

impl LogTail {
    /// Finds the frames from `from` on.
    pub(super) fn index(disk: &dyn Disk, found: &Found, lineage: Lineage, from: LogPos) -> Self {
        let mut tail = Self {
            hosts: BTreeMap::new(),
            shapes: HashMap::new(),
            vouched: None,
            report: ReplayReport::default(),
            unreadable: 0,
            reader: FrameReader::new(found, lineage),
            names: OnceLock::new(),
        };
        // A segment says a shape once or twice, at its first use, and the time now and then: before `from` perhaps.
        let segment = LogPos::new(from.segment(), 0);
        let report =
            store_wal::replay(disk, found, lineage, segment, &mut |position, frame_kind, payload| {
                if position >= from || matches!(frame_kind, kind::SHAPE | kind::VOUCHED) {
                    tail.enter(position, frame_kind, payload);
                }
            });
        tail.report = report;
        tail
    }

    fn enter(&mut self, at: LogPos, frame_kind: u8, payload: &[u8]) {
        let (cluster, host, shape) = match Record::decode(frame_kind, payload) {
            Ok(Record::Shape(bytes)) => {
                self.shapes.insert(Shape::hash_of(bytes), at);
                return;
            }
            Ok(Record::Vouched(time)) => {
                self.vouched = Some(time);
                return;
            }
            Ok(Record::Rows { cluster, host, shape, .. } | Record::Floors { cluster, host, shape, .. }) => {
                (cluster, host, Some(shape))
            }
            Ok(Record::Samples { cluster, host, .. } | Record::NamedRows { cluster, host, .. }) => {
                (cluster, host, None)
            }
            Ok(_) | Err(_) => {
                self.unreadable += 1;
                return;
            }
        };
        let known = self.hosts.get_mut(cluster).and_then(|hosts| hosts.get_mut(host));
        let of_host = match known {
            Some(known) => known,
            None => self.hosts.entry(cluster.into()).or_default().entry(host.into()).or_default(),
        };
        of_host.frames.push(at);
        if shape.is_some() && of_host.shapes.last() != shape.as_ref() {
            of_host.shapes.extend(shape);
        }
    }

    /// Whether segments could not be read that may be read at another try: if that was the last one, only those for which
    /// the process had no descriptors or no memory.
    pub(super) fn is_unread_for_now(&self, is_last: bool) -> bool {
        let mut errors = self.report.unreadable.iter().map(|unreadable| &unreadable.source);
        errors.any(|error| is_shortage(error) || (!is_last && error.kind() != io::ErrorKind::InvalidData))
    }

    /// The identities of the hosts that there were when somebody first asked, by which files say whose they are.
    pub(super) fn names(&self, all: impl FnOnce() -> HashSet<u32>) -> &HashSet<u32> {
        self.names.get_or_init(all)
    }

    /// Whether the log holds nothing: it was stopped, or nothing came since its end was saved.
    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.unreadable == 0
    }

    /// Every host that a frame is about: its cluster and its name.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.hosts.iter().flat_map(|(cluster, hosts)| hosts.keys().map(move |host| (&**cluster, &**host)))
    }

    fn of_host(&self, cluster: &str, host: &str) -> Option<&OfHost> {
        self.hosts.get(cluster).and_then(|hosts| hosts.get(host))
    }

    /// The shapes by which the frames about one host are numbered.
    pub(super) fn shapes_of(&self, cluster: &str, host: &str) -> &[ShapeHash] {
        self.of_host(cluster, host).map_or(&[], |of_host| &of_host.shapes)
    }

    /// The bytes of a shape; `None` if the log does not say it.
    ///
    /// # Errors
    /// As [`each_record`](Self::each_record).
    pub(super) fn shape(
        &self,
        disk: &dyn Disk,
        hash: ShapeHash,
        patience: Patience,
    ) -> Result<Option<Vec<u8>>, CallError> {
        let Some(&at) = self.shapes.get(&hash) else { return Ok(None) };
        let mut walk = self.reader.walk(disk);
        match walk.frame(at) {
            Ok(Some((_, payload))) => Ok(Some(payload.to_vec())),
            Err(e) if patience == Patience::Left || is_shortage(&e.source) => Err(e),
            Ok(None) | Err(_) => {
                self.reader.give_up(at);
                Ok(None)
            }
        }
    }

    /// Calls `visit` with each record about one host, in the order of positions. Yields how many frames are not what they
    /// were when the log was indexed.
    ///
    /// # Errors
    /// A segment cannot be opened or read. If `patience` has run out only where that is for lack of descriptors or memory:
    /// otherwise the frame counts then as one that is not what it was, and its segment is kept.
    pub(super) fn each_record(
        &self,
        disk: &dyn Disk,
        (cluster, host): (&str, &str),
        patience: Patience,
        mut visit: impl FnMut(Stamp, Record<'_>),
    ) -> Result<u64, CallError> {
        let frames = self.of_host(cluster, host).map_or(&[][..], |of_host| &of_host.frames);
        let mut walk = self.reader.walk(disk);
        let mut lost = 0;
        for &at in frames {
            match walk.frame(at) {
                Ok(Some((frame_kind, payload))) => {
                    if let Ok(record) = Record::decode(frame_kind, payload) {
                        visit(stamp(at), record);
                    }
                }
                Err(e) if patience == Patience::Left || is_shortage(&e.source) => return Err(e),
                Ok(None) | Err(_) => {
                    self.reader.give_up(at);
                    lost += 1;
                }
            }
        }
        Ok(lost)
    }
}

/// Whether what cannot be read now is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Left,
    RunOut,
}
