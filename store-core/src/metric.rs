//! [`Catalog`]: the metrics that a store knows, by name and by dense number.

use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashMap;

/// How the values of several components become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// Not defined: reading several components at once is an error.
    None,
    /// The values are added.
    Sum,
    /// The values are added and divided by the number of components.
    Avg,
}

/// Number of a metric in its [`Catalog`]; dense, given out in the order of registration, valid in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricId(pub u32);

/// A metric as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// The name, as senders and queries use it.
    pub name: Box<str>,
    /// Seconds from one sample to the next, at least 1.
    pub frequency_s: u32,
    /// How components are combined.
    pub aggregation: Aggregation,
    /// False for a metric that was found in files and is not configured: its samples are carried through every
    /// rewrite, new ones are dropped, and queries do not see it.
    pub served: bool,
}

/// The metrics of a store. Grows, never shrinks.
///
/// A snapshot behind a lock rather than a fixed table: with automatic registration, and with files that hold
/// metrics nobody configured, new ones arrive while the store runs.
#[derive(Debug, Default)]
pub struct Catalog {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    metrics: Vec<Arc<Metric>>,
    ids: HashMap<Box<str>, MetricId>,
}

impl Catalog {
    /// A catalog of `metrics`; of several with one name the first counts.
    pub fn new(metrics: impl IntoIterator<Item = Metric>) -> Self {
        let catalog = Self::default();
        for metric in metrics {
            catalog.register(metric);
        }
        catalog
    }

    /// Adds a metric, or returns the number of the one that has its name already.
    pub fn register(&self, metric: Metric) -> MetricId {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = inner.ids.get(&*metric.name) {
            return *id;
        }
        let id = MetricId(u32::try_from(inner.metrics.len()).unwrap_or(u32::MAX));
        inner.ids.insert(metric.name.clone(), id);
        inner.metrics.push(Arc::new(metric));
        id
    }

    /// The number of a metric, served or not.
    pub fn id(&self, name: &str) -> Option<MetricId> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).ids.get(name).copied()
    }

    /// A metric that is served, by name.
    pub fn served(&self, name: &str) -> Option<(MetricId, Arc<Metric>)> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let id = *inner.ids.get(name)?;
        let metric = inner.metrics.get(id.0 as usize)?;
        metric.served.then(|| (id, Arc::clone(metric)))
    }

    /// The metric of a number.
    ///
    /// # Panics
    /// If `id` is not of this catalog.
    pub fn get(&self, id: MetricId) -> Arc<Metric> {
        Arc::clone(&self.inner.read().unwrap_or_else(PoisonError::into_inner).metrics[id.0 as usize])
    }

    /// How many metrics are known, served or not.
    pub fn len(&self) -> usize {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).metrics.len()
    }

    /// Whether no metric is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, frequency_s: u32) -> Metric {
        Metric { name: name.into(), frequency_s, aggregation: Aggregation::Sum, served: true }
    }

    #[test]
    fn a_name_keeps_its_first_number_and_meaning() {
        let catalog = Catalog::new([metric("a", 10), metric("b", 60)]);
        assert_eq!(catalog.register(metric("a", 99)), MetricId(0));
        assert_eq!(catalog.get(MetricId(0)).frequency_s, 10);
        assert_eq!((catalog.id("b"), catalog.id("c"), catalog.len()), (Some(MetricId(1)), None, 2));
    }

    #[test]
    fn a_metric_that_is_only_carried_is_not_served() {
        let catalog = Catalog::default();
        catalog.register(Metric { served: false, ..metric("old", 60) });
        assert!(catalog.served("old").is_none());
        assert_eq!(catalog.id("old"), Some(MetricId(0)));
    }
}
