//! The memory of an HPC metric store: buffers, blocks, levels and queries. No file, socket, clock or thread.
//!
//! A [`Store`] takes messages in line protocol and answers queries. Every accepted row goes to a
//! [`Journal`](journal::Journal), which the caller gives; rows of a host are first in a [`Head`](head::Head), and
//! once that is full, sealed into an immutable [`Block`](block::Block) of the whole host. What is unsaved, and
//! from where on the log is needed, is a property of blocks and heads: [`HostState::safe`](host::HostState::safe).
//!
//! ```
//! use store_core::ingest::{Scratch, Terms};
//! use store_core::journal::Unlogged;
//! use store_core::metric::{Aggregation, Catalog, Metric};
//! use store_core::query::{Range, Reader};
//! use store_core::store::{Limits, Store};
//!
//! let frequency_s = std::num::NonZeroU32::new(10).unwrap();
//! let load = Metric { name: "load".into(), frequency_s, aggregation: Aggregation::Avg, served: true };
//! let store = Store::new(Catalog::new([load]), Limits::default(), None);
//! let terms = Terms { default_cluster: Some("emmy"), now: 1000, oldest: 0, newest: 2000, fixed_phase: false };
//! let lines = b"load,hostname=n1 value=0.5 1000\nload,hostname=n1 value=1.5 1010\n";
//! let report = store.ingest(lines, &terms, &mut Unlogged::default(), &mut Scratch::default());
//! assert_eq!(report.good, 2);
//!
//! let metric = store.catalog().served("load").unwrap();
//! let host = store.host("emmy", "n1").unwrap();
//! let mut reader = Reader::new(&host.lock());
//! let range = Range { from: 0, to: 2000, resolution_s: 0, points_max: 100, cells_max: 100_000 };
//! let series = reader.read(&[], &metric, &range).unwrap().expect("there are samples");
//! assert_eq!((series.from, series.values), (1000, vec![0.5, 1.5]));
//! ```
//!
//! # Where to start reading
//! [`ingest`] and [`query`] are the two ways through; [`buffer`] is where rows live; [`grid`] says which slot a
//! moment falls into.

#![forbid(unsafe_code)]

pub mod anchors;
pub mod block;
pub mod buffer;
pub mod codec;
pub mod debug;
pub mod floor;
pub mod grid;
pub mod head;
pub mod health;
pub mod host;
pub mod import;
pub mod ingest;
pub mod journal;
pub mod json;
pub mod level;
pub mod line;
pub mod merge;
pub mod metric;
pub mod number;
pub mod pages;
pub mod query;
pub mod record;
pub mod resample;
pub mod resolver;
pub mod row;
pub mod shape;
pub mod stamp;
pub mod stats;
pub mod store;
pub mod wire;
pub mod witness;

pub use store::Store;

/// Seconds since the Unix epoch; negative before it.
pub type Timestamp = i64;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
