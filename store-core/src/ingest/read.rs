//! Lines to entries: what each line of a message is, without any host's lock.

use std::sync::Arc;

use super::{Entry, Ingested, LineKey, PIECE_BYTES, PIECE_LINES_MAX, Place, Scratch, Terms, Unresolved};
use crate::Timestamp;
use crate::line::{self, Expected, Fate, LastTime, Line, Lines, Prefix, Refusal, Skip};
use crate::metric::ServedMetric;
use crate::resolver::{Hasher, Reader, Target};
use crate::store::Store;

/// Lines after which the resolver is let go of for a moment: who wants to teach it something waits no longer.
const LINES_AT_A_TIME: usize = 4096;

const _: () = assert!(PIECE_LINES_MAX.is_multiple_of(LINES_AT_A_TIME));

/// How far the reading of a message is.
pub(super) struct Reading<'m> {
    terms: &'m Terms<'m>,
    hasher: Hasher<'m>,
    lines: Lines<'m>,
    last: LastTime<'m>,
    /// The host of the line before: its number, and its place in `Scratch::hosts`.
    host: Option<(u32, u32)>,
    /// Lines so far that were parsed in full, or are no samples.
    cold_lines: usize,
    /// How many of them a piece may have.
    cold_lines_max: usize,
}

/// Why [`Store::read_some`] has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// There are no more lines.
    AtEnd,
    /// So many lines are enough for once.
    Amid,
    /// Too many lines are cold.
    Cold,
}

impl Store {
    /// The beginning of a message of which each piece may have so many cold lines.
    pub(super) fn reading<'m>(
        &'m self,
        body: &'m [u8],
        terms: &'m Terms<'m>,
        cold_lines_max: usize,
    ) -> Reading<'m> {
        let default = terms.default_cluster.unwrap_or_default().as_bytes();
        let hasher = self.resolver().hasher(default);
        let (lines, last) = (line::lines(body), LastTime::default());
        Reading { terms, hasher, lines, last, host: None, cold_lines: 0, cold_lines_max }
    }

    /// Puts the samples of the next piece into `scratch`, and what becomes of its other lines into `report`. Says whether
    /// there may be more lines behind it.
    pub(super) fn read_piece(
        &self,
        reading: &mut Reading<'_>,
        scratch: &mut Scratch,
        report: &mut Ingested,
    ) -> bool {
        scratch.clear();
        (reading.host, reading.cold_lines) = (None, 0);
        let enough = reading.lines.bytes_left().saturating_sub(PIECE_BYTES);
        for _ in 0..PIECE_LINES_MAX / LINES_AT_A_TIME {
            match self.read_some(reading, &mut self.resolver().reader(), scratch, report) {
                Stopped::AtEnd => return false,
                Stopped::Cold => return true,
                Stopped::Amid if reading.lines.bytes_left() <= enough => break,
                Stopped::Amid => {}
            }
        }
        reading.lines.bytes_left() > 0
    }

    /// Reads up to [`LINES_AT_A_TIME`] lines.
    fn read_some(
        &self,
        reading: &mut Reading<'_>,
        reader: &mut Reader<'_>,
        scratch: &mut Scratch,
        report: &mut Ingested,
    ) -> Stopped {
        for _ in 0..LINES_AT_A_TIME {
            if let Some(expected) = reading.lines.expect(reader.expected_bytes(), &mut reading.last)
                && let Some(series @ Target::Series { .. }) =
                    reader.expect(reading.hasher.hash(expected.prefix))
            {
                // Bytes that were a prefix before: this is a line, and all of it.
                reading.lines.pass(&expected);
                self.enter_expected(reading, &expected, series, scratch, report);
                continue;
            }
            let Some(line) = reading.lines.next() else { return Stopped::AtEnd };
            match self.read_line(reading, reader, &line, scratch, report) {
                Ok(entry) => scratch.entries.push(entry),
                Err(fate) => reading.give_up(&line, fate, report),
            }
            if reading.cold_lines > reading.cold_lines_max {
                return Stopped::Cold;
            }
        }
        Stopped::Amid
    }

    /// The sample of a line that was expected.
    #[inline(always)]
    fn enter_expected(
        &self,
        reading: &mut Reading<'_>,
        line: &Expected<'_>,
        series: Target,
        scratch: &mut Scratch,
        report: &mut Ingested,
    ) {
        let Target::Series { host, column, merges, .. } = series else { return };
        let (value, prefix) = (line.value, line.prefix);
        let entered = taken(line.time, reading.terms).and_then(|time| {
            report.stamped += u64::from(line.time.is_none());
            report.merged += u64::from(merges);
            match self.known_host(host, reading, scratch) {
                Some(host) => Ok(Entry { host, column: Place::Column(column), time, value }),
                None => {
                    let named = self.named(reading.hasher.hash(prefix), prefix)?;
                    self.unknown(&named, (value, time), reading.terms, scratch, report)
                }
            }
        });
        match entered {
            Ok(entry) => scratch.entries.push(entry),
            Err(fate) => count(fate, prefix, report),
        }
    }

    /// The sample of any line.
    fn read_line(
        &self,
        reading: &mut Reading<'_>,
        reader: &mut Reader<'_>,
        line: &Line<'_>,
        scratch: &mut Scratch,
        report: &mut Ingested,
    ) -> Result<Entry, Fate> {
        let (prefix, rest) = line.split();
        let hash = reading.hasher.hash(prefix);
        let mut sample = || {
            let (value, time) =
                line::parse_rest(rest).map_err(|fate| fate.shifted(line.bytes.len() - rest.len()))?;
            let entered = taken(time, reading.terms)?;
            report.stamped += u64::from(time.is_none());
            Ok((value, entered))
        };
        match reader.get(hash) {
            Some(Target::Series { host, column, merges, .. }) => {
                let (value, time) = sample()?;
                let Some(host) = self.known_host(host, reading, scratch) else {
                    let named = self.named(hash, prefix)?;
                    return self.unknown(&named, (value, time), reading.terms, scratch, report);
                };
                report.merged += u64::from(merges);
                Ok(Entry { host, column: Place::Column(column), time, value })
            }
            Some(Target::Unknown) => Err(Fate::Skip(Skip::UnknownMetric)),
            Some(Target::Refused(reason)) => {
                if let Err(fate @ Fate::Bad(_)) = sample() {
                    return Err(fate);
                }
                let reason = Refusal::ALL.get(usize::from(reason));
                Err(reason.map_or(Fate::Skip(Skip::UnknownMetric), |reason| Fate::Refused(*reason)))
            }
            None => {
                reading.cold_lines += 1;
                // Of a line that is bad in both prefix and rest the first mistake is told.
                let named = match self.named(hash, prefix) {
                    Err(fate @ Fate::Skip(Skip::UnknownMetric)) => {
                        scratch.learned.push((hash, Target::Unknown));
                        return Err(fate);
                    }
                    named => named?,
                };
                self.unknown(&named, sample()?, reading.terms, scratch, report)
            }
        }
    }

    /// The place of a host that the resolver named.
    #[inline(always)]
    fn known_host(&self, number: u32, reading: &mut Reading<'_>, scratch: &mut Scratch) -> Option<u32> {
        match reading.host {
            Some((last, place)) if last == number => Some(place),
            _ => self.other_host(number, reading, scratch),
        }
    }

    #[inline(never)]
    fn other_host(&self, number: u32, reading: &mut Reading<'_>, scratch: &mut Scratch) -> Option<u32> {
        let place = match scratch.places.get(&number) {
            Some(place) => *place,
            None => scratch.enter(self.host_of(number)?),
        };
        reading.host = Some((number, place));
        Some(place)
    }

    /// The place of a host by name, which is made if it is new.
    fn place_of_host(&self, named: &line::Place<'_>, scratch: &mut Scratch) -> Result<u32, Refusal> {
        // Mostly that of the line before.
        let last = scratch.hosts.last();
        if last.is_some_and(|last| (last.name(), last.cluster()) == (named.host, named.cluster)) {
            return Ok(scratch.hosts.len() as u32 - 1);
        }
        // All lines so far that nobody knew may be series; a host for which none is left would be none.
        let host = self.host_for_samples(named.cluster, named.host, scratch.unresolved.len())?;
        let known = scratch.places.get(&host.number()).copied();
        Ok(known.unwrap_or_else(|| scratch.enter(host)))
    }

    /// The names of a line whose metric is taken: it is configured, or unknown ones are registered. Nothing more is
    /// parsed of another line.
    #[cold]
    fn named<'p>(&self, hash: u64, prefix: &'p [u8]) -> Result<Named<'p>, Fate> {
        let metric = self.catalog().served(&line::metric_of(prefix)?);
        if metric.is_none() && self.auto_frequency_s().is_none() {
            return Err(Fate::Skip(Skip::UnknownMetric));
        }
        let names = line::parse_prefix(prefix)?;
        let prefix_bytes = u16::try_from(prefix.len()).unwrap_or(0);
        let merges = names.merges_subcomponents();
        Ok(Named { key: LineKey { hash, prefix_bytes, merges }, names, metric })
    }

    /// A good line whose prefix the resolver does not know, or whose host is gone: finds or makes its host and its
    /// metric. Nothing of a line that is refused is left behind.
    #[cold]
    fn unknown(
        &self,
        named: &Named<'_>,
        (value, time): (f32, Timestamp),
        terms: &Terms<'_>,
        scratch: &mut Scratch,
        report: &mut Ingested,
    ) -> Result<Entry, Fate> {
        let Named { key, names, metric } = named;
        let mut text = std::mem::take(&mut scratch.text);
        let placed =
            names.place(terms.default_cluster, self.limits().name_bytes, &mut text).and_then(|place| {
                if metric.is_none() {
                    self.check_metric(&names.metric).map_err(Fate::Refused)?;
                }
                let path: Box<[Box<str>]> = place.path.iter().map(|&name| name.into()).collect();
                Ok((self.place_of_host(&place, scratch), path))
            });
        scratch.text = text;
        let (host, path) = match placed {
            Ok((Ok(host), path)) => (host, path),
            // Not learned: what goes makes room.
            Ok((Err(reason), _)) => return Err(Fate::Refused(reason)),
            Err(fate) => {
                if let Fate::Refused(reason) = fate {
                    scratch.learned.push((key.hash, Target::Refused(reason as u8)));
                }
                return Err(fate);
            }
        };
        let metric = match metric {
            Some(metric) => metric.clone(),
            None => self.metric_for_samples(&names.metric).map_err(Fate::Refused)?,
        };
        report.merged += u64::from(key.merges);
        let (id, metric) = (metric.id(), Arc::clone(metric.metric()));
        scratch.unresolved.push(Unresolved { line: Some(*key), path, id, metric });
        Ok(Entry { host, column: Place::Unresolved(scratch.unresolved.len() as u32 - 1), time, value })
    }
}

/// The names of a line, and the metric if it is configured.
struct Named<'p> {
    key: LineKey,
    names: Prefix<'p>,
    metric: Option<ServedMetric>,
}

impl Reading<'_> {
    /// Lines that were passed so far.
    pub(super) fn lines_passed(&self) -> usize {
        self.lines.passed()
    }

    /// Counts a line that is no sample, and passes over what belongs to it.
    #[cold]
    fn give_up(&mut self, line: &Line<'_>, fate: Fate, report: &mut Ingested) {
        let (prefix, rest) = line.split();
        if matches!(fate, Fate::Refused(_)) {
            return count(fate, prefix, report);
        }
        let is_message = self.lines.skip_string(rest);
        match fate {
            Fate::Bad(_) if is_message => count(Fate::Skip(Skip::Text), prefix, report),
            Fate::Bad(bad) => {
                self.cold_lines += 1;
                report.bad += 1;
                if report.first_bad.is_none() {
                    let what = bad.describe(line.bytes);
                    let what = what.replacen(&format!(" at column {}", bad.column), "", 1);
                    report.first_bad = Some((line.number, bad.column + line.indent, what));
                }
            }
            Fate::Skip(_) | Fate::Refused(_) => count(fate, prefix, report),
        }
    }
}

/// Counts a line that is passed over or refused.
#[cold]
fn count(fate: Fate, prefix: &[u8], report: &mut Ingested) {
    match fate {
        Fate::Skip(skip) => report.skipped[skip as usize] += 1,
        Fate::Refused(reason) => {
            report.refused[reason as usize] += 1;
            let shown = &prefix[..prefix.len().min(120)];
            report.offender = Some((reason, String::from_utf8_lossy(shown).into_owned()));
        }
        Fate::Bad(_) => report.bad += 1,
    }
}

/// The time of a sample, if it is one that is taken.
#[inline(always)]
fn taken(time: Option<Timestamp>, terms: &Terms<'_>) -> Result<Timestamp, Fate> {
    let time = time.unwrap_or(terms.now);
    if time < terms.oldest {
        return Err(Fate::Refused(Refusal::TooOld));
    }
    if time > terms.newest {
        return Err(Fate::Refused(Refusal::TooNew));
    }
    Ok(time)
}
