//! Who is silent: the state of a host by the age of its samples.

use crate::Timestamp;
use crate::host::HostState;
use crate::level::Level;
use crate::metric::{Catalog, MetricId};
use crate::query;

/// How many steps a series may be behind before it counts as degraded.
pub const STEPS_BEHIND_MAX: i64 = 5;

/// The state of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Every metric asked for arrives.
    Full,
    /// Some do not.
    Partial,
    /// None does, or there is no such host.
    Failed,
}

impl State {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }
}

/// What is wrong with a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub state: State,
    /// Metrics with a series that is behind.
    pub degraded: Vec<String>,
    /// Metrics without any sample, or not configured.
    pub missing: Vec<String>,
}

/// Looks for metrics anywhere below a host: one series that is behind makes its metric degraded.
pub fn of_host(state: &HostState, catalog: &Catalog, metrics: &[String], now: Timestamp) -> Health {
    let mut health = Health { state: State::Full, degraded: Vec::new(), missing: Vec::new() };
    let mut healthy = 0;
    for name in metrics {
        let mut ends = Vec::new();
        if let Some(metric) = catalog.served(name) {
            push_ends(state, state.shape().root(), metric.id(), &mut ends);
        }
        if ends.is_empty() {
            health.missing.push(name.clone());
        } else if ends.iter().any(|(end, step)| now.saturating_sub(*end) > STEPS_BEHIND_MAX * step) {
            health.degraded.push(name.clone());
        } else {
            healthy += 1;
        }
    }
    health.state = match (healthy, health.degraded.len() + health.missing.len()) {
        (_, 0) => State::Full,
        (0, _) => State::Failed,
        _ => State::Partial,
    };
    health
}

/// Of each series of a metric at a level and below, where the slot of its newest sample ends, and its step. What a
/// series holds at an older frequency counts only where it is newer.
fn push_ends(state: &HostState, level: &Level, metric: MetricId, ends: &mut Vec<(Timestamp, i64)>) {
    let newest = level.columns(metric).iter().filter_map(|&number| {
        let column = &state.shape().columns()[number as usize];
        let buffer = &state.buffers()[usize::from(column.buffer)];
        let step = i64::from(buffer.frequency_s());
        let last = query::last_sample(buffer, column.index, state.floors().of(number))?;
        Some((last - step / 2 + step, step))
    });
    ends.extend(newest.max());
    for (_, child) in level.children() {
        push_ends(state, child, metric, ends);
    }
}
