//! The narrow seam between the metric store and the machine: disk, clock, and checksummed frames.
//!
//! * [`Disk`] is everything the store does to a file system; [`RealDisk`] does it, [`SimDisk`] pretends to,
//!   keeps what is written apart from what is synced, and can crash or fail at any call.
//! * [`HeldDisk`] refuses what would go to another directory than the one that was locked.
//! * [`Clock`] is the only source of wall-clock time.
//! * [`frame`] is the checksummed unit that log segments and block files are made of; its seeds come from the
//!   [`Lineage`] of the store.
//! * [`replace`] is the one way to replace a file atomically.
//!
//! This crate knows nothing of metrics. store-core does not depend on it.

#![deny(unsafe_code)]

pub mod clock;
pub mod disk;
pub mod frame;
mod held;
mod lineage;
mod real;
pub mod replace;
pub mod sim;
mod view;

pub use clock::{Clock, ManualClock, SystemClock};
pub use disk::{Disk, DiskFile, DiskLock, Entry, EntryKind, Identity, Space, is_shortage};
pub use held::{HeldDisk, PathLost};
pub use lineage::Lineage;
pub use real::{PageAccess, RealDisk};
pub use sim::SimDisk;
pub use view::{FileView, ReadFile, WholeFile};

/// The examples of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
