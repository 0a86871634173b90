//! An append-only log of opaque frames, in segments, replayed at start-up.
//!
//! [`Log`] appends, commits for many threads at once, and unlinks segments that are not needed any more;
//! [`scan()`] and [`replay()`] read what survived, in the order of positions. A frame is a kind and some bytes: this
//! crate does not know what they say. It never appends behind what an earlier process wrote, never removes
//! what it could not read, and heals after errors of the disk.
//!
//! # What survives
//!
//! | after                            | process killed | power lost |
//! |----------------------------------|----------------|------------|
//! | [`Log::append`]                  | no             | no         |
//! | [`Log::commit`] until [`Until::Written`] | yes    | no         |
//! | [`Log::commit`] until [`Until::Synced`]  | yes    | yes        |
//! | any of them, with an error       | perhaps        | perhaps    |
//!
//! # Example
//!
//! ```
//! use std::path::{Path, PathBuf};
//! use std::sync::Arc;
//! use store_disk::{Disk, Lineage, SimDisk};
//! use store_wal::{Appended, Log, LogOptions, LogPos, Until, replay, scan, sync_found};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! const NOTE: u8 = 16;
//! let disk = SimDisk::new(); // store_disk::RealDisk for a real one
//! let (dir, lineage) = (PathBuf::from("/log"), Lineage::random());
//!
//! let found = scan(&disk, &dir)?;
//! let log =
//!     Log::open(Arc::new(disk.clone()), dir.clone(), &found, lineage, 0, LogPos::ZERO, LogOptions::default())?;
//! let Appended::At { last, logged: true, .. } = log.append(log.segment(), &[(NOTE, b"to keep")]) else {
//!     panic!("only in another segment, or degraded");
//! };
//! log.commit(last, Until::Synced)?;
//!
//! // The next process.
//! let disk = disk.after_kill();
//! let found = scan(&disk, &dir)?;
//! let lineage = found.lineage().ok_or("nothing survived")?;
//! let start = found.start(lineage).ok_or("nothing survived")?;
//! let log = Log::open(Arc::new(disk.clone()), dir, &found, lineage, 0, start, LogOptions::default())?;
//! sync_found(&disk, &found, start)?; // what was written need not have been synced
//! let mut notes = Vec::new();
//! let report = replay(&disk, &found, lineage, start, &mut |position, kind, bytes| notes.push((position, kind, bytes.to_vec())));
//! assert_eq!((notes.len(), notes[0].0, notes[0].1, &notes[0].2[..]), (1, last, NOTE, &b"to keep"[..]));
//! assert_eq!((report.damaged_bytes, report.torn_tail_bytes), (0, 0));
//!
//! // Everything replayed is kept elsewhere now: the log may forget it.
//! assert_eq!(log.retire(log.end(), false)?.segments, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # After an error
//!
//! A segment that could not be written or synced is never touched again, since nobody can say what of it is on
//! disk. The log is *degraded* then: appends are given positions, which go on growing, and are not logged;
//! commits fail at once. [`Log::heal_begin`] opens a new segment; the caller appends everything that is not
//! durable elsewhere; [`Log::heal_finish`] syncs it, and from then on commits succeed.
//!
//! # Room
//!
//! The buffer is bounded, and a log that is full does not give itself up: who appends what comes from outside
//! [reserves](Log::reserve) room before it takes a lock that others need, and waits there. Who finds none may keep what it has
//! in memory alone ([`Log::pass`]) and append it later ([`Log::fill_holes`]). What is logged again after an error needs
//! no room, and makes some itself ([`Log::relieve`]).
//!
//! # Limits
//!
//! Payloads of at most 256 MiB; segments ask to be left at [`LogOptions::segment_bytes_max`] and end at 3 GiB; 4·10⁹
//! segments. One process per directory: the caller holds a lock on it. See [`mod@format`].
//!
//! # Invariants
//!
//! * **W1** Positions grow: no position of a frame is given out twice, over restarts, errors and lost directories; what is
//!   passed over for want of room names no frame, and may share one. (For lost
//!   directories the caller knows a number, the argument `number_above`.)
//! * **W2** A position is given out only in a segment whose header and name are durable, or none was opened yet
//!   ([`Log::is_open`]).
//! * **W3** A byte that was written is never rewritten, and nothing is written behind a byte of an earlier process or
//!   of a failed call.
//! * **W4** A file is never synced after a sync of it failed.
//! * **W5** An acknowledged position is covered, and so are all before it, but for those that were refused.
//! * **W6** Segments go only when a synced LogStart names a position behind them.
//! * **W7** Only [`Log::retire`] moves S; every new segment's LogStart names the S of before.
//!
//! # Format
//!
//! See [`mod@format`]; for the log of the original, [`v1`].

#![forbid(unsafe_code)]

mod commit;
mod error;
pub mod format;
mod log;
mod position;
mod reader;
mod replay;
mod room;
mod scan;
mod segments;
mod stats;
pub mod v1;

pub use crate::error::{CallError, CommitError, OpenError, RemoveError, ScanError, SwitchError};
pub use crate::log::{Appended, Log, LogOptions, Retired, Until};
pub use crate::position::LogPos;
pub use crate::reader::{FrameReader, FrameWalk};
pub use crate::replay::{DamagedRange, ReplayReport, Unreadable, replay};
pub use crate::room::{Room, RoomFor};
pub use crate::scan::{Foreign, ForeignKind, Found, Given, scan, set_aside, sync_found};
pub use crate::stats::LogStats;
