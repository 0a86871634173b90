//! [`Store`]: what the routes need of the engine.
//!
//! A trait, so that the routes can be tested against a store that does as it is told: fails, loads, loses its log.

use std::fmt::Debug;
use std::time::Instant;

use crate::engine::{
    DebugError, Engine, FreeError, Freed, HealthAnswer, LastHosts, ReadError, ReadRequest, Series, Taken,
    TryWrite, WriteReport,
};

/// The calls of [`Engine`], each of which may block, but for `try_write`; see there.
#[expect(missing_docs, clippy::missing_errors_doc, reason = "described at Engine")]
pub trait Store: Send + Sync + Debug {
    fn write(&self, body: &[u8], default_cluster: Option<&str>) -> WriteReport;
    /// Until when a message that comes now may wait for the log.
    fn held_until(&self) -> Instant {
        Instant::now()
    }
    fn write_until(&self, body: &[u8], default_cluster: Option<&str>, _when: Instant) -> WriteReport {
        self.write(body, default_cluster)
    }
    fn try_write(&self, _body: &[u8], _default_cluster: Option<&str>) -> TryWrite {
        TryWrite::Busy
    }
    fn finish_write(&self, taken: Taken) -> WriteReport {
        taken.report
    }
    fn read_next(&self, request: &ReadRequest<'_>, last: &mut LastHosts)
    -> Result<Option<Series>, ReadError>;
    fn host_count(&self, cluster: &str) -> Result<usize, ReadError>;
    fn hosts(&self, cluster: &str) -> Result<Vec<String>, ReadError>;
    fn free(&self, to: i64, selectors: &[Vec<String>]) -> Result<Freed, FreeError>;
    fn debug_json(&self, selector: Option<&str>) -> Result<Vec<u8>, DebugError>;
    fn health(
        &self,
        cluster: &str,
        nodes: &[String],
        metrics: &[String],
    ) -> Result<Vec<(String, HealthAnswer)>, ReadError>;
    fn status(&self) -> serde_json::Result<serde_json::Value>;
    fn memory(&self) -> serde_json::Result<serde_json::Value>;
    fn ready(&self) -> bool;
}

impl Store for Engine {
    fn write(&self, body: &[u8], default_cluster: Option<&str>) -> WriteReport {
        Engine::write(self, body, default_cluster)
    }
    fn held_until(&self) -> Instant {
        Engine::held_until(self)
    }
    fn write_until(&self, body: &[u8], default_cluster: Option<&str>, when: Instant) -> WriteReport {
        Engine::write_until(self, body, default_cluster, when)
    }
    fn try_write(&self, body: &[u8], default_cluster: Option<&str>) -> TryWrite {
        Engine::try_write(self, body, default_cluster)
    }
    fn finish_write(&self, taken: Taken) -> WriteReport {
        Engine::finish_write(self, taken)
    }
    fn read_next(
        &self,
        request: &ReadRequest<'_>,
        last: &mut LastHosts,
    ) -> Result<Option<Series>, ReadError> {
        Engine::read_next(self, request, last)
    }
    fn host_count(&self, cluster: &str) -> Result<usize, ReadError> {
        Engine::host_count(self, cluster)
    }
    fn hosts(&self, cluster: &str) -> Result<Vec<String>, ReadError> {
        Engine::hosts(self, cluster)
    }
    fn free(&self, to: i64, selectors: &[Vec<String>]) -> Result<Freed, FreeError> {
        Engine::free(self, to, selectors)
    }
    fn debug_json(&self, selector: Option<&str>) -> Result<Vec<u8>, DebugError> {
        Engine::debug_json(self, selector)
    }
    fn health(
        &self,
        cluster: &str,
        nodes: &[String],
        metrics: &[String],
    ) -> Result<Vec<(String, HealthAnswer)>, ReadError> {
        Engine::health(self, cluster, nodes, metrics)
    }
    fn status(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(Engine::status(self))
    }
    fn memory(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(Engine::memory(self))
    }
    fn ready(&self) -> bool {
        Engine::ready(self)
    }
}
