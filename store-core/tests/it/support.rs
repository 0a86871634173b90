//! What several claims need: a store that is fed with lines and asked for series.

use store_core::Timestamp;
use store_core::ingest::{Ingested, Scratch, Terms};
use store_core::journal::{Journal, Unlogged};
use store_core::level::Element;
use store_core::metric::{Aggregation, Catalog, Metric};
use store_core::query::{QueryError, Range, Reader, Series};
use store_core::store::{Limits, Store};

pub(crate) const CLUSTER: &str = "emmy";

/// How many cases of a property are tried: so many, unless somebody asks for more.
pub(crate) fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|asked| asked.parse().ok()).unwrap_or(usual)
}

/// A catalog of metrics by name, frequency and aggregation.
pub(crate) fn catalog(metrics: &[(&str, u32, Aggregation)]) -> Catalog {
    Catalog::new(metrics.iter().map(|&(name, frequency_s, aggregation)| Metric {
        name: name.into(),
        frequency_s: frequency_s.try_into().unwrap(),
        aggregation,
        served: true,
    }))
}

/// A store of such metrics.
pub(crate) fn store(metrics: &[(&str, u32, Aggregation)]) -> Store {
    Store::new(catalog(metrics), Limits::default(), None)
}

/// Samples of any time are taken, also of those that no clock shows.
pub(crate) const ANY_TIME: Terms<'_> = Terms {
    default_cluster: Some(CLUSTER),
    now: 0,
    oldest: Timestamp::MIN,
    newest: Timestamp::MAX,
    fixed_phase: false,
};

/// Sends lines, without a log.
pub(crate) fn send(store: &Store, lines: &str) -> Ingested {
    store.ingest(lines.as_bytes(), &ANY_TIME, &mut Unlogged::default(), &mut Scratch::default())
}

/// Sends lines under other terms.
pub(crate) fn send_under(
    store: &Store,
    lines: &str,
    terms: &Terms<'_>,
    journal: &mut dyn Journal,
) -> Ingested {
    store.ingest(lines.as_bytes(), terms, journal, &mut Scratch::default())
}

/// All there is in `[from, to)`, not resampled.
pub(crate) fn range(from: Timestamp, to: Timestamp) -> Range {
    Range { from, to, resolution_s: 0, points_max: 1_000_000, cells_max: u64::MAX }
}

/// Reads a range of what a selector means.
pub(crate) fn read(
    store: &Store,
    host: &str,
    selector: &[Element],
    metric: &str,
    range: &Range,
) -> Result<Option<Series>, QueryError> {
    let Some(metric) = store.catalog().served(metric) else { return Ok(None) };
    let Some(host) = store.host(CLUSTER, host) else { return Ok(None) };
    let mut reader = Reader::new(&host.lock());
    reader.read(selector, &metric, range)
}

/// The elements of a path.
pub(crate) fn exact(path: &[&str]) -> Vec<Element> {
    path.iter().map(|&name| Element::Exact(name.into())).collect()
}

/// Time and value of each sample of a series.
pub(crate) fn points(series: &Series) -> Vec<(Timestamp, f64)> {
    let times = (series.from..).step_by(usize::try_from(series.resolution_s).unwrap());
    times.zip(series.values.iter().copied()).filter(|(_, value)| !value.is_nan()).collect()
}

/// A whole series of a host, as points.
pub(crate) fn all_points(store: &Store, path: &[&str], metric: &str) -> Vec<(Timestamp, f64)> {
    let series = read(store, "n1", &exact(path), metric, &range(Timestamp::MIN, Timestamp::MAX));
    points(&series.unwrap().expect("the series has samples"))
}
