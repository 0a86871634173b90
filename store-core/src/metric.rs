//! [`Catalog`]: the metrics that a store knows, by name and by dense number.

use std::num::NonZeroU32;
use std::ops::Deref;
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
    /// Seconds from one sample to the next.
    pub frequency_s: NonZeroU32,
    /// How components are combined.
    pub aggregation: Aggregation,
    /// False for a metric that was found in files and is not configured: its samples are carried through every
    /// rewrite, new ones are dropped, and queries do not see it.
    pub served: bool,
}

/// A metric that is served, and its number: what a query needs to know of it.
///
/// The two come from the catalog together, rather than as two arguments: a number with the metric of another one would
/// give the right values at the wrong times. It is for hosts whose shapes were made with the same catalog.
#[derive(Debug, Clone)]
pub struct ServedMetric {
    id: MetricId,
    metric: Arc<Metric>,
}

impl ServedMetric {
    /// Its number.
    pub fn id(&self) -> MetricId {
        self.id
    }

    /// The metric itself, to be kept.
    pub fn metric(&self) -> &Arc<Metric> {
        &self.metric
    }
}

impl Deref for ServedMetric {
    type Target = Metric;

    fn deref(&self) -> &Metric {
        &self.metric
    }
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
    pub fn served(&self, name: &str) -> Option<ServedMetric> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let id = *inner.ids.get(name)?;
        let metric = inner.metrics.get(id.0 as usize)?;
        metric.served.then(|| ServedMetric { id, metric: Arc::clone(metric) })
    }

    /// The metric of a number; `None` if no metric of this catalog has it.
    pub fn get(&self, id: MetricId) -> Option<Arc<Metric>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).metrics.get(id.0 as usize).cloned()
    }

    /// The metric of a number that stands in a shape made with this catalog.
    pub(crate) fn of(&self, id: MetricId) -> Arc<Metric> {
        self.get(id).expect("numbers of metrics in shapes are of the store's catalog")
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
        let frequency_s = NonZeroU32::new(frequency_s).unwrap();
        Metric { name: name.into(), frequency_s, aggregation: Aggregation::Sum, served: true }
    }

    #[test]
    fn a_name_keeps_its_first_number_and_meaning() {
        let catalog = Catalog::new([metric("a", 10), metric("b", 60)]);
        assert_eq!(catalog.register(metric("a", 99)), MetricId(0));
        assert_eq!(catalog.get(MetricId(0)).unwrap().frequency_s.get(), 10);
        assert_eq!((catalog.id("b"), catalog.id("c"), catalog.len()), (Some(MetricId(1)), None, 2));
    }

    #[test]
    fn a_number_of_another_catalog_is_of_no_metric() {
        assert_eq!(Catalog::new([metric("a", 10)]).get(MetricId(1)), None);
        assert_eq!(Catalog::default().get(MetricId(u32::MAX)), None);
    }

    #[test]
    fn a_metric_that_is_only_carried_is_not_served() {
        let catalog = Catalog::default();
        catalog.register(Metric { served: false, ..metric("old", 60) });
        assert!(catalog.served("old").is_none());
        assert_eq!(catalog.id("old"), Some(MetricId(0)));
    }
}
