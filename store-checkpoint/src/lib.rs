//! Checkpoints of a metric store: what lies in its directory, and the formats of it.
//!
//! ```text
//! <directory>/<cluster>/<host>/<from>.json     readable dump of a host
//! <directory>/<cluster>/<host>/<from>.bin      binary dump (version 1), or a block file (version 3)
//! ```
//!
//! | noun | what |
//! |---|---|
//! | [`Run`] | values of one series at a fixed frequency |
//! | [`Dump`] | the runs of a host in a range of time: one `.json` or `.bin` version 1 file |
//! | [`mod@format`] | the formats, byte by byte, and their codecs |
//! | [`files`] | names, kinds, host directories, [`find_files`](files::find_files) |
//! | [`blockfile`] | block files, version 3: append, index without decoding |
//! | [`save`] | blocks of many hosts to their files, durably |
//! | [`roll`] | the block files of a host into one |
//! | [`superseded`] | how files of a host give way to others, all at one moment |
//! | [`dump_host`], [`load_dumps`] | one host to and from its files |
//! | [`for_each_host`] | many hosts at once, every failure with its host |
//! | [`cleanup`] | what may go, and when |
//!
//! This crate knows neither the tree nor the log: a dump comes in and goes out as names and numbers.
//!
//! # Example
//! ```
//! use std::path::Path;
//! use store_checkpoint::{Dump, DumpFormat, DurableDirs, Run, dump_host, load_dumps};
//! use store_disk::RealDisk;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let host_dir = directory.path().join("alpha/node01");
//! let load = Run {
//!     path: Vec::new(),
//!     metric: "cpu_load".into(),
//!     base: 1_700_000_000,
//!     frequency_s: 60,
//!     values: vec![1.0, f32::NAN, 2.5],
//! };
//! let dump = Dump::covering(1_700_000_000, 1_700_000_180, vec![load]);
//!
//! let disk = RealDisk::new(16);
//! let path = dump_host(&disk, &DurableDirs::new(), &host_dir, &dump, DumpFormat::Json)?;
//! assert_eq!(path, Some(host_dir.join("1700000000.json")));
//!
//! let loaded = load_dumps(&disk, &host_dir, 1_700_000_000)?;
//! assert_eq!(loaded.files[0].content.dump, dump);
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//! * **Bytes are never trusted.** No count allocates beyond the size of its file, nesting is bounded, and what
//!   cannot be read is an error with its place, never a panic.
//! * **Nothing is deleted because it cannot be read**: such a file is [set aside](files::set_aside) and goes by
//!   the time in its name.
//! * **Equal dumps give equal bytes**, and a writer refuses what a reader would.

#![forbid(unsafe_code)]

pub mod blockfile;
pub mod cleanup;
pub mod dump;
pub mod durable;
pub mod error;
pub mod files;
pub mod format;
pub mod load;
pub mod parallel;
pub mod roll;
pub mod run;
pub mod save;
pub mod superseded;

pub use crate::dump::{DumpError, DumpFormat, dump_host};
pub use crate::durable::DurableDirs;
pub use crate::error::{Damage, EncodeError, FormatError};
pub use crate::load::{LoadError, LoadedDumps, LoadedFile, load_dumps, load_listed};
pub use crate::parallel::{for_each_host, map_hosts};
pub use crate::run::{Dump, Run};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
