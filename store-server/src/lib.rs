//! The server: config, command line, tokens, HTTP, start and stop around an [`engine`] that knows none of them.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`], [`config`], [`duration`] | what the operator says |
//! | [`engine`] | the store: blocking calls, no tokio |
//! | [`http`] | the API, one file per route |
//! | [`auth`] | who may do what |
//! | [`lifecycle`] | start, serve, stop |
//! | [`telemetry`] | the log on stderr |

#![forbid(unsafe_code)]

pub mod auth;
pub mod cli;
pub mod config;
pub mod duration;
pub mod engine;
pub mod http;
pub mod lifecycle;
mod listen;
mod object;
pub mod telemetry;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
