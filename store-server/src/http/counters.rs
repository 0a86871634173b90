//! What the HTTP server counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use serde::Serialize;

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Counters {
    connections: AtomicU64,
    connections_open: AtomicU64,
    accept_errors: AtomicU64,
    answers_2xx: AtomicU64,
    answers_4xx: AtomicU64,
    answers_5xx: AtomicU64,
    answers_other: AtomicU64,
    bodies: AtomicU64,
    body_bytes: AtomicU64,
}

/// The [`Counters`] at one moment, as `GET /api/debug/status` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are what an admin reads; there is no more to say")]
pub struct HttpStatus {
    pub connections: u64,
    pub connections_open: u64,
    pub accept_errors: u64,
    pub answers_2xx: u64,
    pub answers_4xx: u64,
    pub answers_5xx: u64,
    pub answers_other: u64,
    pub bodies: u64,
    pub body_bytes: u64,
    pub held_bytes: u64,
}

impl Counters {
    /// Counts a connection, as open until the returned value is dropped: also when its task is cut.
    pub(super) fn opened(&self) -> Open<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.connections_open.fetch_add(1, Ordering::Relaxed);
        Open(self)
    }

    pub(super) fn accept_failed(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn received(&self, body_bytes: usize) {
        self.bodies.fetch_add(1, Ordering::Relaxed);
        self.body_bytes.fetch_add(body_bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, status: StatusCode) {
        let counter = match status.as_u16() {
            200..=299 => &self.answers_2xx,
            400..=499 => &self.answers_4xx,
            500..=599 => &self.answers_5xx,
            _ => &self.answers_other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All of them, and the bytes held in the budget.
    pub(super) fn snapshot(&self, held_bytes: u64) -> HttpStatus {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HttpStatus {
            connections: get(&self.connections),
            connections_open: get(&self.connections_open),
            accept_errors: get(&self.accept_errors),
            answers_2xx: get(&self.answers_2xx),
            answers_4xx: get(&self.answers_4xx),
            answers_5xx: get(&self.answers_5xx),
            answers_other: get(&self.answers_other),
            bodies: get(&self.bodies),
            body_bytes: get(&self.body_bytes),
            held_bytes,
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Open<'a>(&'a Counters);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}
