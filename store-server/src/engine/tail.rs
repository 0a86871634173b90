//! [`LogTail`]: what the log of earlier processes holds, sorted by host.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use store_core::Timestamp;
use store_core::record::{Record, kind};
use store_core::shape::{Shape, ShapeHash};
use store_core::stamp::Stamp;
use store_disk::{Disk, Lineage};
use store_wal::{Found, LogPos, ReplayReport};

use super::scribe::stamp;

/// A frame that is about one host.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) stamp: Stamp,
    pub(super) kind: u8,
    pub(super) payload: Bytes,
}

/// Frames of the log by host, in the order of positions, and the shapes that they are numbered by.
#[derive(Debug, Default)]
pub(super) struct LogTail {
    hosts: BTreeMap<Box<str>, BTreeMap<Box<str>, Vec<Frame>>>,
    pub(super) shapes: HashMap<ShapeHash, Bytes>,
    /// The time that was vouched for, as the log says it last.
    pub(super) vouched: Option<Timestamp>,
    pub(super) report: ReplayReport,
    /// Frames whose checksum is good and whose content is not: of a newer version, or mistakes of ours.
    pub(super) unreadable: u64,
}

impl LogTail {
    /// Reads the frames from `from` on. Nothing is applied: each host is when its turn comes.
    pub(super) fn read(disk: &dyn Disk, found: &Found, lineage: Lineage, from: LogPos) -> Self {
        let mut tail = Self::default();
        // A segment says a shape once or twice, at its first use, and the time now and then: before `from` perhaps.
        let segment = LogPos::new(from.segment(), 0);
        let report =
            store_wal::replay(disk, found, lineage, segment, &mut |position, frame_kind, payload| {
                if position >= from || matches!(frame_kind, kind::SHAPE | kind::VOUCHED) {
                    tail.enter(Frame { stamp: stamp(position), kind: frame_kind, payload });
                }
            });
        tail.report = report;
        tail
    }

    fn enter(&mut self, frame: Frame) {
        let payload = frame.payload.clone();
        let (cluster, host) = match Record::decode(frame.kind, &payload) {
            Ok(Record::Shape(bytes)) => {
                debug_assert_eq!(frame.kind, kind::SHAPE);
                self.shapes.insert(Shape::hash_of(bytes), frame.payload);
                return;
            }
            Ok(Record::Vouched(time)) => {
                self.vouched = Some(time);
                return;
            }
            Ok(
                Record::Rows { cluster, host, .. }
                | Record::Floors { cluster, host, .. }
                | Record::Samples { cluster, host, .. }
                | Record::NamedRows { cluster, host, .. },
            ) => (cluster, host),
            Ok(_) | Err(_) => {
                self.unreadable += 1;
                return;
            }
        };
        if let Some(frames) = self.hosts.get_mut(cluster).and_then(|hosts| hosts.get_mut(host)) {
            frames.push(frame);
        } else {
            self.hosts.entry(cluster.into()).or_default().insert(host.into(), vec![frame]);
        }
    }

    /// Whether the log holds nothing: it was stopped, or nothing came since its end was saved.
    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.unreadable == 0
    }

    /// Every host that a frame is about: its cluster and its name.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.hosts.iter().flat_map(|(cluster, hosts)| hosts.keys().map(move |host| (&**cluster, &**host)))
    }

    /// The frames about one host, in the order of positions.
    pub(super) fn frames(&self, cluster: &str, host: &str) -> &[Frame] {
        self.hosts.get(cluster).and_then(|hosts| hosts.get(host)).map_or(&[], Vec::as_slice)
    }
}
