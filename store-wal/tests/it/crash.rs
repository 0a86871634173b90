//! Random histories, crashed at every call: what was committed is replayed, and nothing else.
//!
//! The small engine here does with the log what its user must: rows live in memory until they are *saved*
//! (they then count as durable elsewhere), everything that is not saved is logged again by a heal, and
//! what a start finds is synced before it is relied upon. A row carries its number, so that it is found again
//! under whatever position.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store_disk::sim::{Crash, Effect, Fault, Op, Torn};
use store_disk::{Disk, SimDisk};
use store_wal::{Appended, Log, LogOptions, LogPos, Until, replay, scan, sync_found};

use crate::support::{DIR, KIND, LINEAGE, Probe, new_disk};

/// What the harness itself does wrong, to show that it would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
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
struct Ledger {
    /// Payload by position, for everything that was logged.
    sent: BTreeMap<LogPos, Vec<u8>>,
    /// Greatest position given out by a log that had a segment.
    greatest: LogPos,
    /// Rows answered after the write, and after the sync.
    written: BTreeSet<u64>,
    synced: BTreeSet<u64>,
    /// Rows that are durable elsewhere: the log may forget them.
    saved: BTreeSet<u64>,
    /// Greatest S that retire was told, and that it has acknowledged.
    safe: LogPos,
    retired: LogPos,
    next_row: u64,
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

struct Engine {
    probe: Arc<Probe>,
    log: Arc<Log>,
    /// Rows that are not saved, with their positions.
    memory: Arc<Mutex<Memory>>,
    mistake: Mistake,
}

#[derive(Default)]
struct Memory {
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
        self.rows.insert(row_of(&payload), (last, payload));
        logged.then_some(last)
    }
}

impl Engine {
    /// Begins a life on `disk`. None if it crashed before the log was there.
    fn start(disk: &SimDisk, ledger: Ledger, mistake: Mistake, rng: &mut StdRng) -> Result<Self, Ledger> {
        let probe = Probe::arc(disk);
        probe.set_lie(move |op, path| match mistake {
            Mistake::NoSyncOfTheDirectory => op == Op::SyncDir && path == Path::new(DIR),
            Mistake::NoSyncOfTheParent => op == Op::SyncDir && path == Path::new("/data"),
            Mistake::NoSyncOfASegment => op == Op::Sync,
            Mistake::NoSyncOfWhatIsFound => op == Op::SyncFile,
            _ => false,
        });
        let Ok(found) = scan(probe.as_ref(), Path::new(DIR)) else { return Err(ledger) };
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
        let mut engine = Self { probe, log: Arc::new(log), memory, mistake };
        // Writes are accepted before the replay.
        if rng.random() {
            engine.write(rng);
        }
        let trusted = sync_found(engine.probe.as_ref(), &found, start).is_ok();
        let mut memory = engine.memory.lock().unwrap();
        let mut replayed = BTreeMap::new();
        replay(engine.probe.as_ref(), &found, LINEAGE, start, &mut |position, _, bytes| {
            replayed.insert(row_of(&bytes), (position, bytes.to_vec()));
        });
        for (row, at) in replayed {
            memory.rows.entry(row).or_insert(at);
        }
        if trusted {
            let present: Vec<u64> = memory.rows.keys().copied().collect();
            let written: Vec<u64> =
                present.into_iter().filter(|row| memory.ledger.written.contains(row)).collect();
            memory.ledger.synced.extend(written);
        } else {
            engine.log.degrade("what was found could not be synced");
        }
        drop(memory);
        Ok(engine)
    }

    fn ledger(&self) -> Ledger {
        self.memory.lock().unwrap().ledger.clone()
    }

    /// One to three rows, and perhaps a commit.
    fn write(&mut self, rng: &mut StdRng) {
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
        if result.is_ok() {
            let mut memory = self.memory.lock().unwrap();
            memory.ledger.written.extend(rows);
            if until == Until::Synced {
                // What was answered before stands before it.
                memory.ledger.all_synced();
            }
        }
    }

    fn switch(&mut self, rng: &mut StdRng) {
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
        if switched.is_ok() {
            assert!(self.log.segment() > old);
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
    fn retire(&mut self, rng: &mut StdRng) {
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
        if let Ok(retired) = self.log.retire(safe, force) {
            assert!(self.log.start() >= before.max(safe), "S moved back");
            if force && retired.failed.is_empty() {
                self.memory.lock().unwrap().ledger.retired = self.log.start();
            }
        }
    }

    fn heal(&mut self, rng: &mut StdRng) {
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
            assert!(self.log.commit(at, Until::Written).is_err(), "acknowledged before the heal has finished");
        }
        if self.log.heal_finish().is_ok() {
            assert!(!self.log.is_degraded());
            memory.ledger.all_synced();
        }
    }

    fn step(&mut self, rng: &mut StdRng) {
        match rng.random_range(0..20) {
            0..10 => self.write(rng),
            10 | 11 => {
                let rows: Vec<u64> = {
                    let memory = self.memory.lock().unwrap();
                    let logged = |position| memory.ledger.sent.contains_key(position);
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
fn judge(image: &SimDisk, ledger: &Ledger, kill: bool, mistake: Mistake) -> Result<(), String> {
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
    replay(image, &found, LINEAGE, from, &mut |position, kind, bytes| got.push((position, kind, bytes.to_vec())));
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
            return Err(format!("row {row} lost"));
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
    replay(&next, &again, LINEAGE, from, &mut |position, kind, bytes| second.push((position, kind, bytes.to_vec())));
    if second != got || again.start(LINEAGE).unwrap_or_default() < named.unwrap_or_default() {
        return Err("a second start finds something else".to_owned());
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Counts {
    histories: u64,
    crashes: u64,
    images: u64,
    kills: u64,
    deep: [u64; 3],
    faults: u64,
}

struct Campaign {
    mistake: Mistake,
    counts: Counts,
    seen: HashSet<(u64, bool, usize, usize, usize, LogPos)>,
}

impl Campaign {
    fn new(mistake: Mistake) -> Self {
        Self { mistake, counts: Counts::default(), seen: HashSet::new() }
    }

    /// Lives once on `disk`, until the crash or for `steps` steps.
    fn live(&mut self, disk: &SimDisk, ledger: Ledger, seed: u64, steps: u32) -> Ledger {
        let mut rng = StdRng::seed_from_u64(seed);
        if rng.random_ratio(2, 5) {
            let op = [Op::Append, Op::Sync, Op::Sync, Op::SyncDir, Op::Create, Op::SyncFile, Op::List, Op::Remove];
            let op = op[rng.random_range(0..op.len())];
            let effect = [
                Effect::Error(libc::EIO),
                Effect::Error(libc::ENOSPC),
                Effect::Short(Torn::Bytes(30), libc::ENOSPC),
                Effect::Lose(libc::EIO),
            ];
            let effect = effect[rng.random_range(0..effect.len())];
            let fault = Fault::new(effect, move |call| call.op == op).after(rng.random_range(0..6));
            disk.fail(fault.times([1, 1, 2, 5][rng.random_range(0..4)]));
            self.counts.faults += 1;
        }
        let mut engine = match Engine::start(disk, ledger, self.mistake, &mut rng) {
            Ok(engine) => engine,
            Err(ledger) => return ledger,
        };
        for _ in 0..steps {
            if disk.crashed() {
                break;
            }
            engine.step(&mut rng);
        }
        engine.ledger()
    }

    /// Crashes one history at every call.
    fn history(&mut self, base: &SimDisk, ledger: &Ledger, seed: u64, steps: u32, depth: usize) -> Result<(), String> {
        let whole = base.fork();
        whole.record();
        self.live(&whole, ledger.clone(), seed, steps);
        let trace = whole.trace();
        let mut rng = StdRng::seed_from_u64(seed ^ 0xC4A5);
        self.counts.histories += 1;
        for call in trace {
            if !call.op.changes() {
                continue;
            }
            if depth > 0 && !rng.random_ratio(1, 4) {
                continue;
            }
            let mut torn = vec![Torn::Nothing, Torn::All];
            if call.op == Op::Append {
                torn.extend([Torn::Bytes(rng.random_range(0..call.bytes.max(1))), Torn::Sectors(1)]);
            }
            for torn in torn {
                let disk = base.fork();
                disk.crash_at(call.number, torn);
                let ledger = self.live(&disk, ledger.clone(), seed, steps);
                self.counts.crashes += 1;
                for (crash, image) in disk.images(if depth == 0 { 4 } else { 2 }, rng.random()) {
                    let what = || format!("seed {seed}, depth {depth}, {call:?}, {torn:?}, {crash:?}");
                    self.image(&image, &ledger, &crash, depth, &mut rng).map_err(|error| format!("{error}; {}", what()))?;
                }
            }
        }
        Ok(())
    }

    fn image(
        &mut self,
        image: &SimDisk,
        ledger: &Ledger,
        crash: &Crash,
        depth: usize,
        rng: &mut StdRng,
    ) -> Result<(), String> {
        let kill = *crash == Crash::Kill;
        let sizes = (ledger.written.len(), ledger.synced.len(), ledger.saved.len());
        if !self.seen.insert((image.image_hash(), kill, sizes.0, sizes.1, sizes.2, ledger.greatest)) {
            return Ok(());
        }
        self.counts.images += 1;
        self.counts.kills += u64::from(kill);
        self.counts.deep[depth] += 1;
        judge(image, ledger, kill, self.mistake)?;
        if depth < 2 && rng.random_ratio(1, 60) {
            let mut ledger = ledger.clone();
            if !kill {
                // What was not promised to survive this may be gone.
                ledger.written.clone_from(&ledger.synced);
            }
            self.history(image, &ledger, rng.random(), 6, depth + 1)?;
        }
        Ok(())
    }
}

/// How many histories to crash: more by `STORE_WAL_HISTORIES` for a long campaign.
fn histories(default: u64) -> u64 {
    std::env::var("STORE_WAL_HISTORIES").ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_committed_is_lost_and_nothing_is_invented_by_a_crash_at_any_call() {
    let mut campaign = Campaign::new(Mistake::None);
    for seed in 0..histories(40) {
        if let Err(error) = campaign.history(&new_disk(), &Ledger::default(), seed, 14, 0) {
            panic!("{error}");
        }
    }
    let counts = campaign.counts;
    println!("{counts:?}");
    assert!(counts.images > 5_000 && counts.deep[1] > 500 && counts.kills > 500, "{counts:?}");
}

#[test]
fn the_harness_notices_each_planted_mistake() {
    let planted = [
        Mistake::AckBeforeWrite,
        Mistake::AckBeforeSync,
        Mistake::NoSyncOfTheDirectory,
        Mistake::NoSyncOfTheParent,
        Mistake::NoSyncOfASegment,
        Mistake::NoSyncOfWhatIsFound,
        Mistake::RelogMisses,
        Mistake::SafeTooGreat,
        Mistake::ReplayFromTheLogStart,
        Mistake::StartNamesItself,
    ];
    for mistake in planted {
        let mut campaign = Campaign::new(mistake);
        let noticed = (0..40)
            .find_map(|seed| campaign.history(&new_disk(), &Ledger::default(), seed, 14, 0).err());
        let Some(error) = noticed else { panic!("{mistake:?} passes: {:?}", campaign.counts) };
        println!("{mistake:?} noticed after {} images: {error}", campaign.counts.images);
    }
}
