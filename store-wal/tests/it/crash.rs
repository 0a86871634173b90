//! Random histories, crashed at every call: what was committed is replayed, and nothing else.

use std::collections::HashSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store_disk::SimDisk;
use store_disk::sim::{Crash, Effect, Fault, Op, Torn};
use store_wal::LogPos;

use crate::engine::{Engine, Ledger, Mistake, judge};
use crate::support::new_disk;

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
            let op =
                [Op::Append, Op::Sync, Op::Sync, Op::SyncDir, Op::Create, Op::SyncFile, Op::List, Op::Remove];
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
            Err(ledger) => return *ledger,
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
    fn history(
        &mut self,
        base: &SimDisk,
        ledger: &Ledger,
        seed: u64,
        steps: u32,
        depth: usize,
    ) -> Result<(), String> {
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
                    self.image(&image, &ledger, &crash, depth, &mut rng)
                        .map_err(|error| format!("{error}; {}", what()))?;
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
                ledger.fault = false;
            }
            self.history(image, &ledger, rng.random(), 6, depth + 1)?;
        }
        Ok(())
    }
}

/// The seeds of the histories to crash: more by `CRASH_HISTORIES`, and others by `CRASH_SEED`, for a long campaign.
fn seeds(default: u64) -> std::ops::Range<u64> {
    let setting =
        |name, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let first: u64 = setting("CRASH_SEED", 0);
    first..first + setting("CRASH_HISTORIES", default)
}

#[test]
fn nothing_committed_is_lost_and_nothing_is_invented_by_a_crash_at_any_call() {
    let mut campaign = Campaign::new(Mistake::None);
    for seed in seeds(40) {
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
        let noticed =
            (0..40).find_map(|seed| campaign.history(&new_disk(), &Ledger::default(), seed, 14, 0).err());
        let Some(error) = noticed else { panic!("{mistake:?} passes: {:?}", campaign.counts) };
        println!("{mistake:?} noticed after {} images: {error}", campaign.counts.images);
    }
}
