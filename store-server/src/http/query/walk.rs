//! [`Walk`]: the way through the selections of a request, which can be left and taken up again.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::print::{Outcome, Printer};
use super::request::{Query, QueryRequest};
use super::{SELECTIONS_MAX, have_same_paths, paths, paths_bytes, selections};
use crate::engine::{LastHosts, PathElement, ReadError, ReadRequest, Series};
use crate::http::budget::Held;
use crate::http::{ApiError, Store};

/// Values of single series that one selection may read: some tenths of a second, which nothing interrupts. It is as many
/// as 256 hardware threads have in six days at one per second.
const CELLS_MAX: u64 = 128 << 20;

/// Memory that a point takes until it is printed, bytes: its value, that of one series, its text.
const POINT_BYTES: usize = 32;

/// Points of a selection for which memory is counted at once; for longer ones it is counted when their length is known.
const POINTS_AT_ONCE: usize = 4096;

/// What it takes to look whether a host has samples, in values read.
const HOST_CELLS: u64 = 256;

/// Memory that the name of a host takes, bytes.
const HOST_BYTES: usize = size_of::<String>() + 64;

/// An answer that is made piece by piece.
pub(super) struct Walk<'r> {
    request: QueryRequest<'r>,
    /// The most hosts that the queries for all nodes may be about.
    host_count: usize,
    /// Those hosts; `None` before they are asked for, or if there are none.
    hosts: Option<Vec<String>>,
    printer: Printer,
    /// Queries for all nodes that are repeated in the answer already; they come first.
    echoed: usize,
    /// Whether what follows are results.
    in_results: bool,
    /// Queries that are answered, those of the request and then those for all nodes.
    answered: usize,
    /// The selections of the query that is being answered; mostly those of the next one, too.
    paths: Vec<Vec<PathElement>>,
    /// How many of them are answered; `None` before the first.
    read: Option<usize>,
    /// How long it was worked on.
    worked: Duration,
}

/// How far a [`Walk`] goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Until so many bytes are printed and not taken, and the selection that was being read.
    pub(super) bytes: usize,
    /// Or until then.
    pub(super) until: Instant,
    /// And not over a selection, nor a list of hosts, that takes longer than to read so many values.
    pub(super) cells_max: u64,
}

impl Pace {
    /// On a thread that may block.
    pub(super) fn slice(bytes: usize, slice: Duration) -> Self {
        Self { bytes, until: Instant::now() + slice, cells_max: CELLS_MAX }
    }
}

/// Where a [`Walk`] was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// At the end of the answer.
    AtEnd,
    /// With the bytes that were asked for.
    Enough,
    /// When the time was over.
    Late,
    /// Before something that takes too long for the pace.
    Heavy,
}

impl<'r> Walk<'r> {
    /// The beginning of an answer of no more than `points_max` points in sum.
    ///
    /// # Errors
    /// The request asks for too much, or the store is still loading.
    pub(super) fn begin(
        store: &dyn Store,
        request: QueryRequest<'r>,
        points_max: usize,
    ) -> Result<Self, ApiError> {
        // Counted before one of them is looked at: to see which have samples each is locked.
        let host_count = match request.for_all_nodes.as_slice() {
            [] => 0,
            _ => store.host_count(&request.cluster).map_err(loading)?,
        };
        let selections = request
            .queries
            .iter()
            .map(|query| selections(query))
            .fold(host_count.saturating_mul(request.for_all_nodes.len()), usize::saturating_add);
        if selections > SELECTIONS_MAX {
            let text = format!("{selections} selections in one request, {SELECTIONS_MAX} are allowed");
            return Err(ApiError::bad_request(text));
        }
        let printer = Printer::new(&request, points_max);
        Ok(Self {
            request,
            host_count,
            hosts: None,
            printer,
            echoed: 0,
            in_results: false,
            answered: 0,
            paths: Vec::new(),
            read: None,
            worked: Duration::ZERO,
        })
    }

    /// How long it was worked on.
    pub(super) fn worked(&self) -> Duration {
        self.worked
    }

    /// Goes on at this pace, and says where it is left. What is needed meanwhile is counted in `held`.
    ///
    /// # Errors
    /// The store is still loading: part of an answer is none. Or there is no memory left.
    pub(super) fn go_on(&mut self, store: &dyn Store, held: &mut Held, pace: Pace) -> Result<Left, ApiError> {
        let begun = Instant::now();
        let mut counted = Counted { held, points: 0 };
        let left = counted.points(POINTS_AT_ONCE).and_then(|()| self.walk(store, &mut counted, pace));
        counted.give_back();
        self.worked += begun.elapsed();
        left
    }

    fn walk(&mut self, store: &dyn Store, counted: &mut Counted<'_>, pace: Pace) -> Result<Left, ApiError> {
        if !self.list_hosts(store, counted, pace)? {
            return Ok(Left::Heavy);
        }
        if let Some(left) = self.echo(pace) {
            return Ok(left);
        }
        if !self.in_results {
            self.printer.begin_results();
            self.in_results = true;
        }
        self.answer(store, counted, pace)
    }

    /// The results, as far as the pace allows.
    fn answer(&mut self, store: &dyn Store, counted: &mut Counted<'_>, pace: Pace) -> Result<Left, ApiError> {
        let Self { request, hosts, printer, answered, paths: kept, read, .. } = self;
        let hosts = hosts.as_deref().unwrap_or_default();
        let (queries, of_all) = (request.queries.len(), hosts.len() * request.for_all_nodes.len());
        // Not kept for longer than this: what it shares with the host is copied by whoever writes.
        let mut last = LastHosts::default();
        while *answered < queries + of_all {
            let query = match request.queries.get(*answered) {
                Some(query) => Cow::Borrowed(query),
                None => {
                    let (host, metric) = of_all_nodes(request, hosts, *answered - queries);
                    Cow::Owned(Query::node(host, metric))
                }
            };
            if read.is_none() {
                printer.begin_query();
                // Those for all nodes come last, and all have the same.
                let is_repeated = match answered.checked_sub(1).map(|before| request.queries.get(before)) {
                    None => false,
                    Some(None) => true,
                    Some(Some(before)) => have_same_paths(before, &query),
                };
                if !is_repeated {
                    *kept = paths(&query);
                }
            }
            let at = read.get_or_insert(0);
            while let Some(path) = kept.get(*at) {
                let asked = ReadRequest {
                    cluster: &request.cluster,
                    host: &query.host,
                    metric: &query.metric,
                    path: path.into(),
                    from: request.from,
                    to: request.to,
                    resolution_s: query.resolution,
                    points_max: printer.points_left(),
                    cells_max: pace.cells_max,
                };
                match read_counted(store, asked, &mut last, counted)? {
                    Ok(None) => {}
                    Ok(Some(series)) => printer.outcome(Outcome::Series(series), query.scale_by),
                    Err(error @ ReadError::Loading) => return Err(loading(error)),
                    Err(ReadError::TooManyCells { cells_max }) if cells_max < CELLS_MAX => {
                        return Ok(Left::Heavy);
                    }
                    Err(error) => printer.outcome(Outcome::Error(&error), query.scale_by),
                }
                *at += 1;
                if let Some(left) = pace.left(printer.len()) {
                    return Ok(left);
                }
            }
            *read = None;
            *answered += 1;
            printer.end_query();
        }
        printer.finish();
        Ok(Left::AtEnd)
    }

    /// Lists the hosts of the queries for all nodes, unless that takes too long for the pace: then false.
    fn list_hosts(
        &mut self,
        store: &dyn Store,
        counted: &mut Counted<'_>,
        pace: Pace,
    ) -> Result<bool, ApiError> {
        if self.hosts.is_some() || self.host_count == 0 {
            return Ok(true);
        }
        if pace.cells_max < CELLS_MAX && self.host_count as u64 > pace.cells_max / HOST_CELLS {
            return Ok(false);
        }
        if !counted.held.grow(self.host_count * HOST_BYTES) {
            return Err(no_memory());
        }
        self.hosts = Some(store.hosts(&self.request.cluster).map_err(loading)?);
        Ok(true)
    }

    /// Repeats the queries for all nodes; where it was left, if not at their end.
    fn echo(&mut self, pace: Pace) -> Option<Left> {
        let hosts = self.hosts.as_deref().unwrap_or_default();
        while self.echoed < hosts.len() * self.request.for_all_nodes.len() {
            let (host, metric) = of_all_nodes(&self.request, hosts, self.echoed);
            self.printer.echo(host, metric);
            self.echoed += 1;
            if let Some(left) = pace.left(self.printer.len()) {
                return Some(left);
            }
        }
        None
    }

    /// Prints something that means nothing, so that there is something to send.
    pub(super) fn space(&mut self) {
        self.printer.space();
    }

    /// Bytes that the selections take of the query that has most.
    pub(super) fn paths_bytes(&self) -> usize {
        self.request.queries.iter().map(|query| paths_bytes(query)).max().unwrap_or(0)
    }

    /// Bytes that what is printed and not taken has in memory.
    pub(super) fn text_bytes(&self) -> usize {
        self.printer.capacity()
    }

    /// What is printed since this was last called.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.printer.take()
    }

    /// The same without the body of the request.
    pub(super) fn into_owned(self) -> Walk<'static> {
        Walk {
            request: self.request.into_owned(),
            host_count: self.host_count,
            hosts: self.hosts,
            printer: self.printer,
            echoed: self.echoed,
            in_results: self.in_results,
            answered: self.answered,
            paths: self.paths,
            read: self.read,
            worked: self.worked,
        }
    }
}

impl Pace {
    /// Where a walk is left that has printed so many bytes; `None` if it goes on.
    fn left(self, bytes: usize) -> Option<Left> {
        if bytes >= self.bytes {
            return Some(Left::Enough);
        }
        (Instant::now() >= self.until).then_some(Left::Late)
    }
}

/// Memory for the points of the selection that is read.
struct Counted<'h> {
    held: &'h mut Held,
    points: usize,
}

impl Counted<'_> {
    /// Counts memory for selections of so many points.
    fn points(&mut self, points: usize) -> Result<(), ApiError> {
        let more = points.saturating_sub(self.points);
        if !self.held.grow(more.saturating_mul(POINT_BYTES)) {
            return Err(no_memory());
        }
        self.points += more;
        Ok(())
    }

    fn give_back(self) {
        self.held.shrink(self.points * POINT_BYTES);
    }
}

/// Reads a selection for whose points memory is counted first.
fn read_counted(
    store: &dyn Store,
    asked: ReadRequest<'_>,
    last: &mut LastHosts,
    counted: &mut Counted<'_>,
) -> Result<Result<Option<Series>, ReadError>, ApiError> {
    let points_max = asked.points_max;
    let mut asked = ReadRequest { points_max: points_max.min(counted.points), ..asked };
    let mut read = store.read_next(&asked, last);
    if let Err(ReadError::TooManyPoints { points, .. }) = read
        && let Some(points) = usize::try_from(points).ok().filter(|points| *points <= points_max)
    {
        counted.points(points)?;
        asked.points_max = points;
        read = store.read_next(&asked, last);
    }
    if let Err(ReadError::TooManyPoints { points_max: allowed, .. }) = &mut read {
        *allowed = points_max;
    }
    Ok(read)
}

fn no_memory() -> ApiError {
    ApiError::busy("no memory left for answers")
}

/// Host and metric of the `n`-th query for all nodes. Made anew each time they are needed: as a list of queries they
/// would be the largest part of a large request.
fn of_all_nodes<'q>(request: &'q QueryRequest<'_>, hosts: &'q [String], n: usize) -> (&'q str, &'q str) {
    let metrics = &request.for_all_nodes;
    (&hosts[n / metrics.len()], &metrics[n % metrics.len()])
}

fn loading(error: ReadError) -> ApiError {
    ApiError::busy(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::engine::{DebugError, FreeError, Freed, HealthAnswer, WriteReport};
    use crate::http::Budget;

    /// A store of series of so many points, which looks whether memory for them is counted when they are read.
    #[derive(Debug)]
    struct Counting {
        points: usize,
        budget: Arc<Budget>,
        read: AtomicUsize,
    }

    impl Store for Counting {
        fn write(&self, _: &[u8], _: Option<&str>) -> WriteReport {
            unreachable!("nothing is written")
        }

        fn read_next(&self, asked: &ReadRequest<'_>, _: &mut LastHosts) -> Result<Option<Series>, ReadError> {
            let (points, points_max) = (self.points, asked.points_max);
            if points > points_max {
                return Err(ReadError::TooManyPoints { points: points as u64, points_max });
            }
            assert!(self.budget.held_bytes() >= (points * POINT_BYTES) as u64, "it is not counted");
            self.read.fetch_add(1, Ordering::SeqCst);
            let (values, to) = (vec![0.0; points], points as i64);
            Ok(Some(Series { values, from: 0, to, resolution_s: 1, points_read: points, cells_read: 0 }))
        }

        fn host_count(&self, _: &str) -> Result<usize, ReadError> {
            Ok(3)
        }

        fn hosts(&self, _: &str) -> Result<Vec<String>, ReadError> {
            Ok(vec!["a".to_owned(); 3])
        }

        fn free(&self, _: i64, _: &[Vec<String>]) -> Result<Freed, FreeError> {
            unreachable!("nothing is freed")
        }

        fn debug_json(&self, _: Option<&str>) -> Result<Vec<u8>, DebugError> {
            unreachable!("nothing is dumped")
        }

        fn health(
            &self,
            _: &str,
            _: &[String],
            _: &[String],
        ) -> Result<Vec<(String, HealthAnswer)>, ReadError> {
            unreachable!("nobody asks for it")
        }

        fn status(&self) -> serde_json::Result<serde_json::Value> {
            unreachable!("nobody asks for it")
        }

        fn memory(&self) -> serde_json::Result<serde_json::Value> {
            unreachable!("nobody asks for it")
        }

        fn ready(&self) -> bool {
            true
        }
    }

    /// Walks through three hosts, whose series have so many points, with so much memory: where it is left, and how many
    /// series were read.
    fn walked(points: usize, budget_bytes: usize) -> (Result<Left, ApiError>, usize) {
        let budget = Arc::new(Budget::new(budget_bytes as u64));
        let store = Counting { points, budget: Arc::clone(&budget), read: AtomicUsize::new(0) };
        let request = QueryRequest::parse(br#"{"for-all-nodes": ["m"], "with-data": false}"#).unwrap();
        let mut walk = Walk::begin(&store, request, 1_000_000).unwrap();
        let mut held = budget.part();
        let left = walk.go_on(&store, &mut held, Pace::slice(usize::MAX, Duration::from_secs(60)));
        assert!(budget.held_bytes() < 1 << 20, "what was needed to read is given back");
        (left, store.read.into_inner())
    }

    #[test]
    fn memory_for_points_is_counted_before_they_are_read() {
        let enough = 200_000 * POINT_BYTES + 3 * HOST_BYTES;
        assert_eq!(walked(10, enough), (Ok(Left::AtEnd), 3));
        assert_eq!(walked(200_000, enough), (Ok(Left::AtEnd), 3));
        assert_eq!(walked(200_000, enough - 1), (Err(no_memory()), 0));
    }

    #[test]
    fn more_points_than_an_answer_may_have_are_an_error_in_its_place() {
        assert_eq!(walked(400_000, 1 << 30), (Ok(Left::AtEnd), 2), "the third one is too much");
    }
}
