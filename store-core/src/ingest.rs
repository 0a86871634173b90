//! From the bytes of a message to cells in memory and rows in the journal.
//!
//! A message is taken in pieces, so that what it needs meanwhile is that of a piece, however long it is.

mod read;
mod scratch;

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::Timestamp;
use crate::host::{Host, HostState, Placing, Sample, Wanted};
use crate::journal::Journal;
use crate::line::{Refusal, Skip};
use crate::metric::{Metric, MetricId};
use crate::record::{self, RawSample};
use crate::resolver::Target;
use crate::row::{Row, Rows};
use crate::stamp::Stamp;
use crate::store::Store;

use self::read::Reading;
pub use self::scratch::Scratch;

/// What a message is taken under.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The cluster of lines that name none.
    pub default_cluster: Option<&'a str>,
    /// The time of lines that name none.
    pub now: Timestamp,
    /// Samples before this time are refused.
    pub oldest: Timestamp,
    /// Samples after this time are refused.
    pub newest: Timestamp,
    /// See [`Placing::fixed_phase`].
    pub fixed_phase: bool,
}

/// What became of the lines of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Samples that are in memory and in the journal.
    pub good: u64,
    /// Lines against the grammar.
    pub bad: u64,
    /// Lines passed over, by [`Skip`].
    pub skipped: [u64; Skip::ALL.len()],
    /// Samples that were refused, by [`Refusal`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Samples refused because they lie below a floor.
    pub freed: u64,
    /// Samples whose subcomponent has no component: those of one host and metric are one series.
    pub merged: u64,
    /// Samples without a time, which were given that of the caller's clock.
    pub stamped: u64,
    /// Series that were new.
    pub registered: u64,
    /// The first bad line: its number and the column, both from 1, and what is wrong there.
    pub first_bad: Option<(usize, usize, String)>,
    /// Who was refused last, and why: cluster, host or name as far as known.
    pub offender: Option<(Refusal, String)>,
    /// The journal had no room for a piece of the message: nothing of that, and of what is behind it, was taken.
    pub no_room: bool,
    /// The newest record of this message.
    pub last: Stamp,
}

/// The most lines of a piece.
pub const PIECE_LINES_MAX: usize = 1 << 16;

/// A piece ends with the first few thousand lines behind so many bytes.
pub const PIECE_BYTES: usize = 4 << 20;

/// Lines that the resolver does not know, or that are no samples, after which [`Store::try_ingest`] gives up: each costs
/// as much as fifty others.
const COLD_LINES_MAX: usize = 1024;

/// What the resolver learns at a time, so that who looks something up does not wait for all of a piece.
const LEARNED_AT_A_TIME: usize = 4096;

/// The frequency of a metric that nobody configured and no file tells of.
const MINUTE_S: NonZeroU32 = NonZeroU32::new(60).unwrap();

/// A sample on its way to its host.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Place in `Scratch::hosts`.
    host: u32,
    column: Place,
    time: Timestamp,
    value: f32,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Column(u32),
    /// Place in `Scratch::unresolved`.
    Unresolved(u32),
}

/// What of a line's prefix the resolver remembers.
#[derive(Debug, Clone, Copy)]
struct LineKey {
    hash: u64,
    prefix_bytes: u16,
    merges: bool,
}

/// A sample whose line's prefix is not known yet.
#[derive(Debug)]
struct Unresolved {
    /// What the resolver is to learn the series by.
    line: Option<LineKey>,
    path: Box<[Box<str>]>,
    id: MetricId,
    metric: Arc<Metric>,
}

/// A message that is taken piece by piece.
pub struct Message<'m> {
    store: &'m Store,
    terms: &'m Terms<'m>,
    reading: Reading<'m>,
    report: Ingested,
    has_more: bool,
    /// Lines that were passed before those that the journal had no room for.
    refused_behind: Option<usize>,
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("report", &self.report).finish_non_exhaustive()
    }
}

impl Message<'_> {
    /// Takes the next lines, no more than [`PIECE_LINES_MAX`]; false if there was none left, or the journal had no room
    /// for them: see [`Ingested::no_room`].
    ///
    /// A string in quotes, and the numbers of lines in what is reported, go on over pieces: where a message is cut
    /// changes nothing of what it means.
    pub fn take_piece(&mut self, journal: &mut dyn Journal, scratch: &mut Scratch) -> bool {
        if !self.has_more || self.refused_behind.is_some() {
            return false;
        }
        let Self { store, terms, reading, report, has_more, refused_behind } = self;
        let passed = reading.lines_passed();
        *has_more = store.read_piece(reading, scratch, report);
        let has_room = scratch.has_room(journal);
        if has_room {
            store.apply(terms, journal, scratch, report);
        } else {
            (*has_more, report.no_room, *refused_behind) = (true, true, Some(passed));
        }
        scratch.clear();
        has_room
    }

    /// Lines that were taken so far, good or not; empty ones count.
    pub fn lines_taken(&self) -> usize {
        self.refused_behind.unwrap_or_else(|| self.reading.lines_passed())
    }

    /// Whether there may be more of it.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// What became of what was taken.
    pub fn into_report(self) -> Ingested {
        self.report
    }
}

impl Store {
    /// A message of which nothing is taken yet.
    pub fn message<'m>(&'m self, body: &'m [u8], terms: &'m Terms<'m>) -> Message<'m> {
        let reading = self.reading(body, terms, usize::MAX);
        Message {
            store: self,
            terms,
            reading,
            report: Ingested::default(),
            has_more: true,
            refused_behind: None,
        }
    }

    /// Takes the lines of a message. A bad line costs itself and nothing else.
    pub fn ingest(
        &self,
        body: &[u8],
        terms: &Terms<'_>,
        journal: &mut dyn Journal,
        scratch: &mut Scratch,
    ) -> Ingested {
        let mut message = self.message(body, terms);
        while message.take_piece(journal, scratch) {}
        scratch.rest();
        message.into_report()
    }

    /// [`ingest`](Self::ingest), if it takes no longer than the length of `body` says: not if somebody works on a host
    /// of it, nor if it has samples of so many moments that many blocks may have to be encoded anew, nor if many of its
    /// lines are new, nor if it is more than a piece, nor if the journal has no room. `None` then, and no sample is taken.
    pub fn try_ingest(
        &self,
        body: &[u8],
        terms: &Terms<'_>,
        journal: &mut dyn Journal,
        scratch: &mut Scratch,
    ) -> Option<Ingested> {
        let mut report = Ingested::default();
        let mut reading = self.reading(body, terms, COLD_LINES_MAX);
        let is_whole = !self.read_piece(&mut reading, scratch, &mut report);
        let is_short = is_whole && scratch.is_short() && scratch.has_room(journal);
        if is_short {
            self.apply(terms, journal, scratch, &mut report);
        }
        scratch.rest();
        is_short.then_some(report)
    }

    /// Entries into memory and into the journal.
    fn apply(
        &self,
        terms: &Terms<'_>,
        journal: &mut dyn Journal,
        scratch: &mut Scratch,
        report: &mut Ingested,
    ) {
        // By host, and in the order of lines within each; mostly there is one.
        let mut entries = std::mem::take(&mut scratch.entries);
        if scratch.hosts.len() > 1 {
            entries.sort_by_key(|entry| entry.host);
        }
        for group in entries.chunk_by(|a, b| a.host == b.host) {
            let host = Arc::clone(&scratch.hosts[group[0].host as usize]);
            self.apply_group(host, group, terms, journal, scratch, report);
        }
        scratch.entries = entries;
        for learned in scratch.learned.chunks(LEARNED_AT_A_TIME) {
            self.resolver().insert_many(learned, self.series());
        }
    }

    /// The samples of one host: one lock, one record.
    fn apply_group(
        &self,
        host: Arc<Host>,
        group: &[Entry],
        terms: &Terms<'_>,
        journal: &mut dyn Journal,
        scratch: &mut Scratch,
        report: &mut Ingested,
    ) {
        let mut state = host.lock();
        if state.is_gone() {
            let renamed = scratch.rename(self.catalog(), &state, group);
            drop(state);
            match self.host_or_create(host.cluster(), host.name()) {
                Ok(again) => self.apply_group(again, &renamed, terms, journal, scratch, report),
                Err(reason) => report.refused[reason as usize] += group.len() as u64,
            }
            return;
        }
        let stamped = (report.stamped > 0).then_some(terms.now);
        state.witness_mut().note(group.iter().map(|entry| entry.time), stamped);
        if state.is_loading() {
            let raw: Vec<RawSample> = group.iter().map(|entry| scratch.raw(&state, entry)).collect();
            for piece in record::cut_samples(&raw) {
                let stamp = journal.samples(&host, piece);
                report.last = report.last.max(stamp);
                self.add_deferred(record::heap_bytes(piece));
                state.defer(stamp, piece.to_vec());
            }
            report.good += raw.len() as u64;
            return;
        }
        self.register_group(&host, &mut state, group, scratch, report);
        host.note_shape(&state);
        let placing = Placing { oldest: terms.oldest, fixed_phase: terms.fixed_phase };
        scratch.rows.clear();
        let placed = state.place(&scratch.samples, placing, &mut scratch.rows);
        report.good += placed.good;
        report.freed += placed.freed;
        report.refused[Refusal::TooOld as usize] += placed.too_old;
        for piece in record::cut_rows(scratch.rows.as_slice()) {
            let stamp = journal.rows(&host, &mut state, piece);
            host.apply(&mut state, piece.iter().map(Row::view), stamp, terms.now);
            report.last = report.last.max(stamp);
        }
    }

    /// Entries to samples with columns; those whose series are new are registered, all at once.
    fn register_group(
        &self,
        host: &Host,
        state: &mut HostState,
        group: &[Entry],
        scratch: &mut Scratch,
        report: &mut Ingested,
    ) {
        let wanted: Vec<Wanted<'_>> = group
            .iter()
            .filter_map(|entry| match entry.column {
                Place::Column(_) => None,
                Place::Unresolved(at) => {
                    let Unresolved { path, id, metric, .. } = &scratch.unresolved[at as usize];
                    let frequency_s = metric.frequency_s.get();
                    Some(Wanted { path, metric: *id, frequency_s, time: entry.time })
                }
            })
            .collect();
        let before = state.shape().columns().len();
        let columns = state.register(self, &wanted, self.series_room());
        let registered = state.shape().columns().len() - before;
        self.add_series(registered);
        report.registered += registered as u64;
        scratch.samples.clear();
        let mut columns = columns.into_iter();
        for entry in group {
            let column = match entry.column {
                Place::Column(column) => Some(column),
                Place::Unresolved(at) => {
                    let column = columns.next().flatten();
                    if let (Some(column), Some(line)) = (column, scratch.unresolved[at as usize].line) {
                        let LineKey { hash, prefix_bytes, merges } = line;
                        let series = Target::Series { host: host.number(), column, prefix_bytes, merges };
                        scratch.learned.push((hash, series));
                    }
                    column
                }
            };
            match column {
                Some(column) => {
                    scratch.samples.push(Sample { column, time: entry.time, value: entry.value });
                }
                None => report.refused[Refusal::Series as usize] += 1,
            }
        }
    }

    /// Applies samples that were deferred while their host was loaded. They were accepted and logged already, so
    /// only what is below a floor is left out. The caller counts the series.
    pub fn apply_deferred(
        &self,
        host: &Host,
        state: &mut HostState,
        samples: &[RawSample],
        stamp: Stamp,
        fixed_phase: bool,
        now: Timestamp,
    ) {
        let wanted: Vec<Wanted<'_>> = samples
            .iter()
            .map(|sample| {
                let default_s = self.auto_frequency_s().unwrap_or(MINUTE_S);
                let metric = self.metric_from_file(&sample.metric, default_s);
                let frequency_s = self.catalog().of(metric).frequency_s.get();
                Wanted { path: &sample.path, metric, frequency_s, time: sample.time }
            })
            .collect();
        let columns = state.register(self, &wanted, usize::MAX);
        let known: Vec<Sample> = samples
            .iter()
            .zip(columns)
            .filter_map(|(sample, column)| {
                Some(Sample { column: column?, time: sample.time, value: sample.value })
            })
            .collect();
        let mut rows = Rows::default();
        let placing = Placing { oldest: Timestamp::MIN, fixed_phase };
        state.place(&known, placing, &mut rows);
        host.apply(state, rows.views(), stamp, now);
    }
}
