//! [`Walk`]: the way through the selections of a request, which can be left and taken up again.

use std::borrow::Cow;

use super::print::{Outcome, Printer};
use super::request::{Query, QueryRequest};
use super::{SELECTIONS_MAX, have_same_paths, paths, paths_bytes, selections};
use crate::engine::{LastHosts, PathElement, ReadError, ReadRequest};
use crate::http::{ApiError, Store};

/// An answer that is made piece by piece.
pub(super) struct Walk<'r> {
    request: QueryRequest<'r>,
    /// The hosts of the queries for all nodes.
    hosts: Vec<String>,
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
        let hosts = match request.for_all_nodes.as_slice() {
            [] => Vec::new(),
            _ => store.hosts(&request.cluster).map_err(loading)?,
        };
        let selections = request
            .queries
            .iter()
            .map(|query| selections(query))
            .fold(hosts.len().saturating_mul(request.for_all_nodes.len()), usize::saturating_add);
        if selections > SELECTIONS_MAX {
            let text = format!("{selections} selections in one request, {SELECTIONS_MAX} are allowed");
            return Err(ApiError::bad_request(text));
        }
        let printer = Printer::new(&request, points_max);
        Ok(Self {
            request,
            hosts,
            printer,
            echoed: 0,
            in_results: false,
            answered: 0,
            paths: Vec::new(),
            read: None,
        })
    }

    /// Goes on until `is_enough` says so of the bytes that are printed and not taken, or the answer ends: then true.
    ///
    /// # Errors
    /// The store is still loading: part of an answer is none.
    pub(super) fn go_on(
        &mut self,
        store: &dyn Store,
        is_enough: impl Fn(usize) -> bool,
    ) -> Result<bool, ApiError> {
        let Self { request, hosts, printer, echoed, in_results, answered, paths: kept, read } = self;
        let of_all = hosts.len() * request.for_all_nodes.len();
        while *echoed < of_all {
            let (host, metric) = of_all_nodes(request, hosts, *echoed);
            printer.echo(host, metric);
            *echoed += 1;
            if is_enough(printer.len()) {
                return Ok(false);
            }
        }
        if !*in_results {
            printer.begin_results();
            *in_results = true;
        }
        let queries = request.queries.len();
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
                *at += 1;
                let asked = ReadRequest {
                    cluster: &request.cluster,
                    host: &query.host,
                    metric: &query.metric,
                    path: path.into(),
                    from: request.from,
                    to: request.to,
                    resolution_s: query.resolution,
                    points_max: printer.points_left(),
                };
                match store.read_next(&asked, &mut last) {
                    Ok(None) => {}
                    Ok(Some(series)) => printer.outcome(Outcome::Series(series), query.scale_by),
                    Err(error @ ReadError::Loading) => return Err(loading(error)),
                    Err(error) => printer.outcome(Outcome::Error(&error), query.scale_by),
                }
                if is_enough(printer.len()) {
                    return Ok(false);
                }
            }
            *read = None;
            *answered += 1;
            printer.end_query();
        }
        printer.finish();
        Ok(true)
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
            hosts: self.hosts,
            printer: self.printer,
            echoed: self.echoed,
            in_results: self.in_results,
            answered: self.answered,
            paths: self.paths,
            read: self.read,
        }
    }
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
