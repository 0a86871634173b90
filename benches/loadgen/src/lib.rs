//! The fleet of simulated compute nodes that loads a metric store over HTTP.
//!
//! Everything here is black-box: it speaks line protocol and JSON to a server and looks at it from outside.
//! It names no crate of the store, so that a fault of the store cannot hide in the tool that measures it.
//!
//! * [`Fleet`] says what hosts, metrics and values there are. A value is a pure function of
//!   `(seed, host, series, step)`, so whoever checks an answer asks the fleet again instead of keeping a copy.
//! * [`BodyWriter`] prints one host's step as a POST body, from preformatted prefixes.
//! * [`http::Client`] is a keep-alive HTTP/1.1 client on one `TcpStream`.
//! * [`mod@run`] drives N connections and reports lines, wall time and latency.
//! * [`process`] reads CPU time and memory of the server from `/proc`.
//! * [`config`] prints the config file with the fleet's metrics.
//!
//! ```
//! use store_loadgen::{BodyWriter, Fleet, FleetOptions};
//!
//! let fleet = Fleet::new(FleetOptions { hosts: 2, ..FleetOptions::default() });
//! assert_eq!(fleet.series_per_host(), 540);
//! let mut body = Vec::new();
//! BodyWriter::new(&fleet).write_step(1, 0, None, &mut body);
//! assert_eq!(body.iter().filter(|byte| **byte == b'\n').count(), 540);
//! ```

#![forbid(unsafe_code)]

pub mod body;
pub mod config;
pub mod fleet;
pub mod http;
pub mod process;
pub mod run;
pub mod value;

pub use crate::body::BodyWriter;
pub use crate::fleet::{Fleet, FleetOptions, Metric, Scope, Series};
pub use crate::run::{RunOptions, RunReport, run};
