//! A small engine that does with the log what its user must, and the ledger of what was promised.
//!
//! Rows live in memory until they are *saved* (they then count as durable elsewhere), everything that is not
//! saved is logged again by a heal, and what a start finds is synced before it is relied upon. A row carries
//! its number, so that it is found again under whatever position.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store_disk::sim::Op;
use store_disk::{Disk, SimDisk};
use store_wal::{Appended, Log, LogOptions, LogPos, Until, replay, scan, sync_found};

use crate::support::{DIR, KIND, LINEAGE, Probe};

/// What the harness itself does wrong, to show that it would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    AckBeforeWrite,
    AckBeforeSync,
    NoSyncOfTheDirectory,
    NoSyncOfTheParent,
    NoSyncOfASegment,
    NoSyncOfWhatIsFound,
    RelogMisses,
    SafeTooGreat,
    ReplayFromTheLogStart,
    StartNamesItself,
}

/// What was promised, and what was sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    /// Payload by position, for everything that was logged.
    sent: BTreeMap<LogPos, Vec<u8>>,
    /// Greatest position given out by a log that had a segment.
    pub(crate) greatest: LogPos,
    /// Rows answered after the write, and after the sync.
    pub(crate) written: BTreeSet<u64>,
    pub(crate) synced: BTreeSet<u64>,
    /// Rows that are durable elsewhere: the log may forget them.
    pub(crate) saved: BTreeSet<u64>,
    /// Greatest S that retire was told, and that it has acknowledged.
    safe: LogPos,
    retired: LogPos,
    next_row: u64,
    /// A write or sync has failed and no heal has finished since: what was answered after the write is not
    /// promised to be synced by a later sync, not even by another process, who cannot know.
    pub(crate) fault: bool,
    /// What happened, for the message of a failure.
    story: Vec<String>,
}

impl Ledger {
    fn payload(&mut self, rng: &mut StdRng) -> Vec<u8> {
        self.next_row += 1;
        let mut payload = self.next_row.to_le_bytes().to_vec();
        // Some rows cross the border of a sector.
        let extra = if rng.random_ratio(1, 8) { 500 } else { 20 };
        payload.extend((0..rng.random_range(0..extra)).map(|_| rng.random::<u8>()));
        payload
    }

    fn given(&mut self, position: LogPos, open: bool) {
        assert!(position > self.greatest, "position {position} given out behind {}", self.greatest);
        if open {
            self.greatest = position;
        }
    }

    /// Everything answered after the write is synced now.
    fn all_synced(&mut self) {
        self.synced.extend(&self.written);
    }
}

fn row_of(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}

pub(crate) struct Engine {
    probe: Arc<Probe>,
    pub(crate) log: Arc<Log>,
    /// Rows that are not saved, with their positions.
    memory: Arc<Mutex<Memory>>,
    /// What an earlier process answered after the write is known to be synced.
    trusted: bool,
    /// Where the positions of this process begin.
    first: LogPos,
    mistake: Mistake,
}

#[derive(Default)]
pub(crate) struct Memory {
    rows: BTreeMap<u64, (LogPos, Vec<u8>)>,
    ledger: Ledger,
}

impl Memory {
    fn apply(&mut self, log: &Log, payload: Vec<u8>) -> Option<LogPos> {
        let open = log.is_open();
        let Appended::At { first, last, logged } = log.append(log.segment(), &[(KIND, &payload)]) else {
            panic!("nobody else switches")
        };
        assert_eq!(first, last);
        self.ledger.given(last, open);
        if logged {
            self.ledger.sent.insert(last, payload.clone());
        }
        self.ledger.story.push(format!(
            "row {} at {last}{}",
            row_of(&payload),
            if logged { "" } else { " unlogged" }
        ));
        self.rows.insert(row_of(&payload), (last, payload));
        logged.then_some(last)
    }
}

impl Engine {
    /// Begins a life on `disk`. The ledger if the log could not be read: it is to be tried again.
    pub(crate) fn start(
        disk: &SimDisk,
        ledger: Ledger,
        mistake: Mistake,
        rng: &mut StdRng,
    ) -> Result<Self, Box<Ledger>> {
        let probe = Probe::arc(disk);
        probe.set_lie(move |op, path| match mistake {
            Mistake::NoSyncOfTheDirectory => op == Op::SyncDir && path == Path::new(DIR),
            Mistake::NoSyncOfTheParent => op == Op::SyncDir && path == Path::new("/data"),
            Mistake::NoSyncOfASegment => op == Op::Sync,
            Mistake::NoSyncOfWhatIsFound => op == Op::SyncFile,
            _ => false,
        });
        let Ok(found) = scan(probe.as_ref(), Path::new(DIR)) else { return Err(Box::new(ledger)) };
        if !found.unreadable().is_empty() {
            return Err(Box::new(ledger));
        }
        let mut start = found.start(LINEAGE).unwrap_or_default();
        if mistake == Mistake::StartNamesItself {
            start = LogPos::new(found.greatest() + 1, 0);
        }
        let args = || (Arc::clone(&probe) as Arc<dyn Disk>, DIR.into(), &found, LINEAGE, 0, start);
        // Small, so that histories of a few rows want to switch.
        let options = LogOptions { segment_bytes_max: 600, ..LogOptions::default() };
        let (a, b, c, d, e, f) = args();
        let log = Log::open(a, b, c, d, e, f, options).unwrap_or_else(|_| {
            let (a, b, c, d, e, f) = args();
            Log::open_degraded(a, b, c, d, e, f, options)
        });
        let memory = Arc::new(Mutex::new(Memory { rows: BTreeMap::new(), ledger }));
        let first = log.end();
        let mut engine = Self { probe, log: Arc::new(log), memory, trusted: false, first, mistake };
        // Writes are accepted before the replay.
        if rng.random() {
            engine.write(rng);
        }
        let trusted = sync_found(engine.probe.as_ref(), &found, start).is_ok();
        let mut memory = engine.memory.lock().unwrap();
        engine.trusted = trusted && !memory.ledger.fault;
        memory.ledger.story.push(format!("started from {start}, at {}, trusted {trusted}", engine.log.end()));
        let mut replayed = BTreeMap::new();
        let report = replay(engine.probe.as_ref(), &found, LINEAGE, start, &mut |position, _, bytes| {
            replayed.insert(row_of(bytes), (position, bytes.to_vec()));
        });
        if !report.unreadable.is_empty() {
            // Another process may have more luck; this one has seen half of the rows.
            return Err(Box::new(std::mem::take(&mut memory.ledger)));
        }
        if engine.trusted {
            let promised: Vec<u64> =
                replayed.keys().copied().filter(|row| memory.ledger.written.contains(row)).collect();
            memory.ledger.synced.extend(promised);
        }
        memory.rows.extend(replayed);
        if !trusted {
            engine.log.degrade("what was found could not be synced");
        }
        drop(memory);
        Ok(engine)
    }

    pub(crate) fn ledger(&self) -> Ledger {
        let mut ledger = self.memory.lock().unwrap().ledger.clone();
        ledger.fault |= self.probe.take_failed();
        ledger
    }

    /// Everything in memory was flushed: all of it is promised now.
    pub(crate) fn acknowledge_all(&self) {
        let mut memory = self.memory.lock().unwrap();
        let rows: Vec<u64> = memory.rows.keys().copied().collect();
        memory.ledger.written.extend(&rows);
        memory.ledger.synced.extend(&rows);
    }

    /// One to three rows, and perhaps a commit.
    pub(crate) fn write(&mut self, rng: &mut StdRng) {
        let mut memory = self.memory.lock().unwrap();
        let mut last = None;
        let mut rows = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let payload = memory.ledger.payload(rng);
            rows.push(row_of(&payload));
            last = memory.apply(&self.log, payload);
        }
        drop(memory);
        if let Some(last) = last
            && rng.random_ratio(7, 10)
        {
            let until = if rng.random() { Until::Synced } else { Until::Written };
            self.commit(Some(last), until, &rows);
        }
    }

    fn commit(&mut self, position: Option<LogPos>, until: Until, rows: &[u64]) {
        if self.mistake == Mistake::AckBeforeWrite {
            self.memory.lock().unwrap().ledger.written.extend(rows);
        }
        if self.mistake == Mistake::AckBeforeSync && until == Until::Synced {
            self.memory.lock().unwrap().ledger.synced.extend(rows);
        }
        let result = match position {
            Some(position) => self.log.commit(position, until),
            None => self.log.flush(until),
        };
        let mut memory = self.memory.lock().unwrap();
        memory.ledger.story.push(format!("commit {position:?} {until:?} of {rows:?}: {result:?}"));
        if result.is_ok() {
            memory.ledger.written.extend(rows);
            if until == Until::Synced {
                memory.ledger.synced.extend(rows);
                if self.trusted {
                    // What was answered before stands before it.
                    memory.ledger.all_synced();
                }
            }
        }
    }

    pub(crate) fn switch(&mut self, rng: &mut StdRng) {
        // Rows come while the segments change, also between the calls on the disk.
        let seed = rng.random();
        let (log, memory) = (Arc::clone(&self.log), Arc::clone(&self.memory));
        let mut rng = StdRng::seed_from_u64(seed);
        let old = log.segment();
        let name = format!("{old:020}.wal");
        self.probe.set_hook(move |op, path| {
            if !op.changes() || rng.random_ratio(1, 3) {
                return;
            }
            let mut memory = memory.lock().unwrap();
            let payload = memory.ledger.payload(&mut rng);
            let row = row_of(&payload);
            let at = memory.apply(&log, payload);
            // While the old segment is at the disk there is a leader, who would wait for himself.
            let led = path.ends_with(&name) || log.segment() != old;
            if let Some(at) = at
                && !led
                && rng.random()
                && log.commit(at, Until::Written).is_ok()
            {
                memory.ledger.written.insert(row);
            }
        });
        let switched = self.log.switch();
        self.probe.clear_hook();
        self.memory.lock().unwrap().ledger.story.push(format!("switch from {old}: {switched:?}"));
        if switched.is_ok() {
            assert!(self.log.segment() > old);
            if !self.trusted {
                return;
            }
            // The old segment is synced to its end.
            let mut memory = self.memory.lock().unwrap();
            let answered: Vec<u64> = memory
                .rows
                .iter()
                .filter(|(row, (at, _))| at.segment() <= old && memory.ledger.written.contains(row))
                .map(|(row, _)| *row)
                .collect();
            memory.ledger.synced.extend(answered);
        }
    }

    /// Saves the older part of the rows, by position, and retires the log behind it.
    pub(crate) fn retire(&mut self, rng: &mut StdRng) {
        let mut memory = self.memory.lock().unwrap();
        // Read before the rows are looked at.
        let end = self.log.end();
        if self.log.is_degraded() {
            return;
        }
        let mut positions: Vec<LogPos> = memory.rows.values().map(|(position, _)| *position).collect();
        positions.sort_unstable();
        positions.push(end);
        let mut safe = positions[rng.random_range(0..positions.len())].min(end);
        let saved: Vec<u64> =
            memory.rows.iter().filter(|(_, (position, _))| *position < safe).map(|(row, _)| *row).collect();
        if self.mistake == Mistake::SafeTooGreat {
            safe = end;
        }
        for row in saved {
            memory.rows.remove(&row);
            memory.ledger.saved.insert(row);
        }
        memory.ledger.safe = memory.ledger.safe.max(safe);
        drop(memory);
        let force = rng.random();
        let before = self.log.start();
        let result = self.log.retire(safe, force);
        self.memory.lock().unwrap().ledger.story.push(format!("retire {safe} {force}: {result:?}"));
        if let Ok(retired) = result {
            assert!(self.log.start() >= before.max(safe), "S moved back");
            if force && retired.failed.is_empty() {
                self.memory.lock().unwrap().ledger.retired = self.log.start();
            }
        }
    }

    pub(crate) fn heal(&mut self, rng: &mut StdRng) {
        if !self.log.is_degraded() || self.log.heal_begin().is_err() {
            return;
        }
        let mut memory = self.memory.lock().unwrap();
        let rows: Vec<Vec<u8>> = memory.rows.values().map(|(_, payload)| payload.clone()).collect();
        for payload in rows {
            if self.mistake == Mistake::RelogMisses && rng.random() {
                continue;
            }
            if self.log.needs_switch() && self.log.switch().is_err() {
                break;
            }
            memory.apply(&self.log, payload);
        }
        // A live row that comes meanwhile is logged, and not acknowledged.
        let payload = memory.ledger.payload(rng);
        if let Some(at) = memory.apply(&self.log, payload) {
            assert!(
                self.log.commit(at, Until::Written).is_err(),
                "acknowledged before the heal has finished"
            );
        }
        let finished = self.log.heal_finish();
        memory.ledger.story.push(format!("healed: {finished:?}"));
        if finished.is_ok() {
            assert!(!self.log.is_degraded());
            memory.ledger.all_synced();
            memory.ledger.fault = false;
            self.probe.take_failed();
            self.trusted = true;
        }
    }

    pub(crate) fn step(&mut self, rng: &mut StdRng) {
        match rng.random_range(0..20) {
            0..10 => self.write(rng),
            10 | 11 => {
                let rows: Vec<u64> = {
                    let memory = self.memory.lock().unwrap();
                    // Of a flush that covers what an earlier process wrote, nobody can say that it is synced.
                    let ours = |position: &LogPos| self.trusted || *position >= self.first;
                    let logged = |position| memory.ledger.sent.contains_key(position) && ours(position);
                    let rows = memory.rows.iter().filter(|(_, (position, _))| logged(position));
                    rows.map(|(row, _)| *row).collect()
                };
                let until = if rng.random() { Until::Synced } else { Until::Written };
                self.commit(None, until, &rows);
            }
            12..15 => self.switch(rng),
            15..18 => self.retire(rng),
            _ => self.heal(rng),
        }
        if self.log.is_degraded() && rng.random() {
            self.heal(rng);
        }
    }
}

/// What the next process finds, compared with what was promised. Yields the rows found.
pub(crate) fn judge(image: &SimDisk, ledger: &Ledger, kill: bool, mistake: Mistake) -> Result<(), String> {
    let before = image.files();
    let found = scan(image, Path::new(DIR)).map_err(|error| error.to_string())?;
    let named = found.start(LINEAGE);
    if let Some(named) = named
        && (named > ledger.safe || named < ledger.retired)
    {
        return Err(format!("S is {named}, told {}, acknowledged {}", ledger.safe, ledger.retired));
    }
    let mut from = named.unwrap_or_default();
    if mistake == Mistake::ReplayFromTheLogStart {
        from = LogPos::new(found.greatest(), 64);
    }
    let mut got = Vec::new();
    replay(image, &found, LINEAGE, from, &mut |position, kind, bytes| {
        got.push((position, kind, bytes.to_vec()))
    });
    if !got.is_sorted_by(|a, b| a.0 < b.0) {
        return Err("out of order".to_owned());
    }
    for (position, kind, payload) in &got {
        if *position < from || *kind != KIND || ledger.sent.get(position) != Some(payload) {
            return Err(format!("invented at {position}"));
        }
    }
    let rows: HashSet<u64> = got.iter().map(|(_, _, payload)| row_of(payload)).collect();
    let promised = if kill { &ledger.written } else { &ledger.synced };
    for row in promised.union(&ledger.synced) {
        if !rows.contains(row) && !ledger.saved.contains(row) {
            return Err(format!("row {row} lost; {:#?}", ledger.story));
        }
    }
    let next = image.fork();
    let log = Log::open(
        Arc::new(next.clone()),
        DIR.into(),
        &found,
        LINEAGE,
        0,
        named.unwrap_or_default(),
        LogOptions::default(),
    )
    .map_err(|error| error.to_string())?;
    if log.end() <= ledger.greatest {
        return Err(format!("position {} again, {} was given out", log.end(), ledger.greatest));
    }
    let after = next.files();
    for (path, content) in &before {
        if after.get(path) != Some(content) {
            return Err(format!("{} was changed by a start", path.display()));
        }
    }
    let again = scan(&next, Path::new(DIR)).map_err(|error| error.to_string())?;
    let mut second = Vec::new();
    replay(&next, &again, LINEAGE, from, &mut |position, kind, bytes| {
        second.push((position, kind, bytes.to_vec()))
    });
    if second != got || again.start(LINEAGE).unwrap_or_default() < named.unwrap_or_default() {
        return Err("a second start finds something else".to_owned());
    }
    Ok(())
}
