//! The HTTP API over a real socket, in front of a store that does as it is told.

mod admin;
mod client;
mod fake;
mod limits;
mod original;
mod query;
mod stop;
mod turns;
mod write;
