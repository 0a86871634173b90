//! Prints the answer to a query.
//!
//! By hand: the numbers have a fixed number of decimals, which no JSON library writes, and they are nearly all of it.

use store_core::json;
use store_core::stats::Stats;

use super::request::QueryRequest;
use crate::engine::{ReadError, Series};

/// Missing values, each with the comma before it.
static NULLS: [[u8; 5]; 64] = [*b",null"; 64];

/// Values of single series that count as one point: what a sum over the hardware threads of a node reads for it.
const CELLS_A_POINT: u64 = 64;

/// What became of one selection.
pub(super) enum Outcome<'e> {
    Series(Series),
    Error(&'e ReadError),
}

/// What a request wants to see.
#[derive(Debug, Clone, Copy)]
struct Shown {
    from: i64,
    to: i64,
    stats: bool,
    data: bool,
    padding: bool,
}

/// The answer as far as it is printed.
pub(super) struct Printer {
    out: Vec<u8>,
    shown: Shown,
    /// First time, end and resolution of the series printed last, and how they were: those of the next are mostly
    /// the same.
    times: Option<(i64, i64, i64)>,
    times_text: Vec<u8>,
    points_max: usize,
    points_left: usize,
    first_echo: bool,
    first_query: bool,
    first_inner: bool,
}

impl Printer {
    /// An answer that will have no more than `points_max` points.
    pub(super) fn new(request: &QueryRequest<'_>, points_max: usize) -> Self {
        let shown = Shown {
            from: request.from,
            to: request.to,
            stats: request.with_stats,
            data: request.with_data,
            padding: request.with_padding,
        };
        Self {
            out: vec![b'{'],
            shown,
            times: None,
            times_text: Vec::new(),
            points_max,
            points_left: points_max,
            first_echo: true,
            first_query: true,
            first_inner: true,
        }
    }

    /// Points that the next selection may have.
    pub(super) fn points_left(&self) -> usize {
        self.points_left
    }

    /// Bytes that are printed and not taken.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// Bytes that these take in memory.
    pub(super) fn capacity(&self) -> usize {
        self.out.capacity()
    }

    /// Takes what is printed.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// A query that the server has put behind those of the request; these come first, if there are any.
    pub(super) fn echo(&mut self, host: &str, metric: &str) {
        self.push(if self.first_echo { b"\"queries\":[{\"metric\":" } else { b",{\"metric\":" });
        self.first_echo = false;
        json::push_string(&mut self.out, metric);
        self.push(b",\"host\":");
        json::push_string(&mut self.out, host);
        self.push(b",\"resolution\":0,\"aggreg\":false}");
    }

    /// The results follow.
    pub(super) fn begin_results(&mut self) {
        self.push(if self.first_echo { b"\"results\":[" } else { b"],\"results\":[" });
    }

    pub(super) fn begin_query(&mut self) {
        self.push(if self.first_query { b"[" } else { b",[" });
        self.first_query = false;
        self.first_inner = true;
    }

    pub(super) fn end_query(&mut self) {
        self.push(b"]");
    }

    /// One selection, its values multiplied by `factor` (0 = 1).
    pub(super) fn outcome(&mut self, outcome: Outcome<'_>, factor: f64) {
        self.push(if self.first_inner { b"{" } else { b",{" });
        self.first_inner = false;
        match outcome {
            Outcome::Error(error) => self.error(&error.to_string()),
            Outcome::Series(series) => self.series(series, factor),
        }
        self.push(b"}");
    }

    fn error(&mut self, text: &str) {
        self.push(b"\"error\":");
        json::push_string(&mut self.out, text);
        self.push(b",\"from\":0,\"to\":0,\"resolution\":0,\"avg\":0.00,\"min\":0.00,\"max\":0.00");
    }

    fn series(&mut self, mut series: Series, factor: f64) {
        let shown = self.shown;
        // For what is read, not only for what is printed of it: a selection without points is work, too.
        let mut points = series.points_read.max(series.values.len()).max(1);
        points = points.max(usize::try_from(series.cells_read / CELLS_A_POINT).unwrap_or(usize::MAX));
        let padding = if shown.padding && shown.data { padding(shown, &series) } else { 0 };
        points = points.saturating_add(usize::try_from(padding).unwrap_or(usize::MAX));
        if points > self.points_left {
            let error = ReadError::TooManyPoints { points: points as u64, points_max: self.points_max };
            return self.error(&error.to_string());
        }
        self.points_left -= points;
        let zero = Stats { avg: 0.0, min: 0.0, max: 0.0 };
        let mut stats = if shown.stats { Stats::of(&series.values) } else { zero };
        if factor != 0.0 && factor != 1.0 {
            series.values.iter_mut().for_each(|value| *value *= factor);
            stats = stats.scaled(factor);
        }
        if shown.data && (padding > 0 || !series.values.is_empty()) {
            self.push(b"\"data\":");
            self.data(padding, &series.values);
            self.push(b",");
        }
        self.times(series.from, series.to, series.resolution_s);
        let numbers: [(&[u8], f64); 3] =
            [(b",\"avg\":", stats.avg), (b",\"min\":", stats.min), (b",\"max\":", stats.max)];
        for (name, number) in numbers {
            self.push(name);
            json::push_fixed::<2>(&mut self.out, number);
        }
    }

    fn times(&mut self, from: i64, to: i64, resolution_s: i64) {
        let times = Some((from, to, resolution_s));
        if self.times != times {
            self.times = times;
            let text = &mut self.times_text;
            text.clear();
            let numbers: [(&[u8], i64); 3] =
                [(b"\"from\":", from), (b",\"to\":", to), (b",\"resolution\":", resolution_s)];
            for (name, number) in numbers {
                text.extend_from_slice(name);
                json::push_i64(text, number);
            }
        }
        self.out.extend_from_slice(&self.times_text);
    }

    fn data(&mut self, padding: u64, values: &[f64]) {
        if padding == 0 {
            return json::push_values(&mut self.out, values);
        }
        let start = self.out.len();
        let mut left = padding;
        while left > 0 {
            let now = left.min(NULLS.len() as u64);
            self.push(NULLS[..now as usize].as_flattened());
            left -= now;
        }
        self.out[start] = b'[';
        if values.is_empty() {
            return self.push(b"]");
        }
        let end = self.out.len();
        json::push_values(&mut self.out, values);
        self.out[end] = b',';
    }

    /// A space, which means nothing between two selections.
    pub(super) fn space(&mut self) {
        self.push(b" ");
    }

    fn push(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// The end of the answer.
    pub(super) fn finish(&mut self) {
        self.push(b"]}\n");
    }
}

/// Nulls in front of the data, so that it begins at the `from` asked for: steps of the resolution returned, and none
/// that begins at or behind the `to` asked for.
fn padding(shown: Shown, series: &Series) -> u64 {
    if series.resolution_s <= 0 || series.from <= shown.from {
        return 0;
    }
    // 128 bits: from and to are any numbers.
    let step = i128::from(series.resolution_s);
    let (from, to, first) = (i128::from(shown.from), i128::from(shown.to), i128::from(series.from));
    let wanted = first.div_euclid(step) - from.div_euclid(step);
    let inside = (to - from + step - 1).div_euclid(step);
    u64::try_from(wanted.min(inside).max(0)).unwrap_or(u64::MAX)
}
