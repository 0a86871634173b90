//! What a save answered `Ok` for is there after a power loss, whatever went wrong meanwhile; and nothing is there
//! that was not given.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store_checkpoint::blockfile::{BlockFileError, Moved};
use store_checkpoint::save::{HostWork, SYNC_EACH_MAX, SaveError, Saver};
use store_core::block::Block;
use store_disk::sim::{Crash, Effect, Fault, Keep, Op, Torn};
use store_disk::{Disk, RealDisk, SimDisk};

use crate::blocks::{Kit, LINEAGE, Probe, Probed, index_of, is_same, pages_of};

const DATA: &str = "/data";
/// So many that of three quarters of them most are still synced at once.
const MANY: usize = SYNC_EACH_MAX + 6;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EMFILE: i32 = 24;

fn new_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.put_dir(DATA).unwrap();
    disk
}

fn saver(disk: impl Disk + 'static) -> Saver {
    Saver::new(Arc::new(disk), DATA.into(), LINEAGE, 1, 100)
}

type HostKey = (&'static str, String);

fn dir_of((cluster, host): &HostKey) -> PathBuf {
    Path::new(DATA).join(cluster).join(host)
}

/// What was given to be saved, and what was answered.
#[derive(Clone, Default)]
struct Ledger {
    given: BTreeMap<HostKey, Vec<Arc<Block>>>,
    unsaved: BTreeMap<HostKey, Vec<Arc<Block>>>,
    saved: BTreeMap<HostKey, Vec<Arc<Block>>>,
    /// Columns and the times before which they were freed, per host.
    floors_given: BTreeMap<HostKey, BTreeSet<(u32, i64)>>,
    floors_unsaved: BTreeMap<HostKey, Vec<(u32, i64)>>,
    floors_saved: BTreeMap<HostKey, BTreeSet<(u32, i64)>>,
    /// What the saver gave for them, with bodies in their files.
    mapped: BTreeMap<HostKey, Vec<Arc<Block>>>,
    next: u64,
}

impl Ledger {
    /// New blocks and floors of a host.
    fn give(&mut self, kit: &Kit, key: &HostKey, rng: &mut StdRng) {
        for _ in 0..rng.random_range(1..3) {
            self.next += 1;
            let shape = rng.random_range(0..3);
            let from = rng.random_range(-20..20);
            let block = kit.block(shape, 0, from..from + rng.random_range(1..40), self.next);
            self.given.entry(key.clone()).or_default().push(Arc::clone(&block));
            self.unsaved.entry(key.clone()).or_default().push(block);
        }
        if rng.random_ratio(1, 3) {
            self.next += 1;
            let floor = (rng.random_range(0..2), i64::try_from(self.next).unwrap());
            self.floors_given.entry(key.clone()).or_default().insert(floor);
            self.floors_unsaved.entry(key.clone()).or_default().push(floor);
        }
    }

    /// All floors that a host was given.
    fn floors_of(&self, key: &HostKey) -> Option<Vec<(u32, i64)>> {
        self.floors_given.get(key).map(|floors| floors.iter().copied().collect())
    }

    fn work(&self, kit: &Kit, keys: &[HostKey]) -> Vec<HostWork> {
        let work = |key: &HostKey| HostWork {
            cluster: key.0.into(),
            host: key.1.as_str().into(),
            blocks: self.unsaved.get(key).cloned().unwrap_or_default(),
            floors: self.floors_unsaved.get(key).map(|floors| kit.floors(0, floors)).into_iter().collect(),
            all_floors: self.floors_of(key).map(|floors| kit.floors(0, &floors)).into_iter().collect(),
        };
        keys.iter().map(work).collect()
    }

    fn note_saved(&mut self, key: &HostKey) {
        self.saved.entry(key.clone()).or_default().extend(self.unsaved.remove(key).into_iter().flatten());
        let floors = self.floors_unsaved.remove(key).into_iter().flatten();
        self.floors_saved.entry(key.clone()).or_default().extend(floors);
    }

    /// Saves what is unsaved of these hosts, and notes what was answered.
    fn save(&mut self, kit: &Kit, saver: &mut Saver, keys: &[HostKey]) -> Vec<Result<(), SaveError>> {
        let results = saver.save(&kit.catalog, &self.work(kit, keys));
        assert_eq!(results.len(), keys.len());
        let note = |(key, result): (&HostKey, Result<Vec<Moved>, SaveError>)| {
            let moved = result?;
            self.note_saved(key);
            let held = self.mapped.entry(key.clone()).or_default();
            for Moved { from, to } in moved {
                assert!(to.is_in_file() && is_same(&from, &to));
                held.retain(|block| !Arc::ptr_eq(block, &from));
                held.push(to);
            }
            Ok(())
        };
        keys.iter().zip(results).map(note).collect()
    }

    /// Whether a disk holds what was answered, and nothing that was not given.
    fn check(&self, kit: &Kit, disk: &SimDisk) -> Result<(), String> {
        for (key, given) in &self.given {
            let seen = kit.look(disk, &dir_of(key));
            for block in &seen.blocks {
                if !given.iter().any(|given| is_same(given, block)) {
                    return Err(format!("{key:?}: invented a block as of {}", block.header().as_of));
                }
            }
            for saved in self.saved.get(key).into_iter().flatten() {
                if !seen.blocks.iter().any(|block| is_same(block, saved)) {
                    return Err(format!("{key:?}: lost the block as of {}", saved.header().as_of));
                }
            }
            let floors: BTreeSet<(u32, i64)> = seen
                .files
                .values()
                .flat_map(|index| &index.floors)
                .flat_map(|frame| frame.floors.iter().copied())
                .collect();
            let all = self.floors_given.get(key);
            if let Some(floor) = floors.iter().find(|floor| !all.is_some_and(|all| all.contains(floor))) {
                return Err(format!("{key:?}: invented {floor:?}"));
            }
            if let Some(floor) =
                self.floors_saved.get(key).into_iter().flatten().find(|f| !floors.contains(f))
            {
                return Err(format!("{key:?}: lost the floor {floor:?}"));
            }
        }
        Ok(())
    }
}

fn keys(count: usize) -> Vec<HostKey> {
    (0..count).map(|n| (["alpha", "beta"][n % 2], format!("n{}", n / 2))).collect()
}

/// A process that saves, a few times, some of the hosts.
fn history(kit: &Kit, saver: &mut Saver, ledger: &mut Ledger, keys: &[HostKey], rounds: usize, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..rounds {
        let some: Vec<HostKey> = keys.iter().filter(|_| rng.random_ratio(3, 4)).cloned().collect();
        for key in &some {
            ledger.give(kit, key, &mut rng);
        }
        ledger.save(kit, saver, &some);
        if rng.random_ratio(1, 3) {
            let (cluster, host) = &keys[0];
            saver.close(cluster, host);
        }
    }
}

#[test]
fn after_a_crash_at_any_call_everything_that_was_answered_is_there() {
    let kit = Kit::new();
    let (mut images, mut calls, mut second) = (HashSet::new(), 0, 0);
    // Few hosts are synced one by one; many at once, if the disk can.
    let torn = [Torn::Bytes(40), Torn::All, Torn::Sectors(1), Torn::Nothing];
    for (hosts, rounds, sync_all, torn) in
        [(3, 5, true, &torn[..]), (MANY, 3, true, &torn[..1]), (MANY, 2, false, &torn[..2])]
    {
        let keys = keys(hosts);
        for &torn in torn {
            for crash_at in 0.. {
                let disk = new_disk();
                disk.set_sync_all(sync_all);
                disk.crash_at(crash_at, torn);
                let mut ledger = Ledger::default();
                history(&kit, &mut saver(disk.clone()), &mut ledger, &keys, rounds, 1);
                for (crash, image) in disk.images(4, crash_at) {
                    if !images.insert((image.image_hash(), hosts, sync_all)) {
                        continue;
                    }
                    ledger
                        .check(&kit, &image)
                        .unwrap_or_else(|e| panic!("{e}, {crash:?} at call {crash_at}"));
                    if images.len() % 5 == 0 {
                        second += 1;
                        go_on(&kit, &image, ledger.clone(), &keys, |_| {}).unwrap_or_else(|e| {
                            panic!("{e}, {crash:?} at call {crash_at}, then a power loss")
                        });
                    }
                }
                if !disk.crashed() {
                    calls += crash_at;
                    break;
                }
            }
        }
    }
    println!("{calls} calls, {} distinct images, {second} of them lived on", images.len());
    assert!(calls > 300 && images.len() > 1000 && second > 200, "{calls} {} {second}", images.len());
}

/// The next process on what a crash left: saves everything, then the power fails.
fn go_on(
    kit: &Kit,
    image: &SimDisk,
    mut ledger: Ledger,
    keys: &[HostKey],
    spoil: impl FnOnce(&mut Probe),
) -> Result<(), String> {
    let mut probe = Probe::new(image);
    spoil(&mut probe);
    let mut saver = saver(Probed(Arc::new(probe)));
    let mut rng = StdRng::seed_from_u64(5);
    for key in keys {
        ledger.give(kit, key, &mut rng);
    }
    let before: BTreeMap<_, _> = image.files();
    if let Some(error) = ledger.save(kit, &mut saver, keys).into_iter().find_map(Result::err) {
        return Err(error.to_string());
    }
    for (path, content) in before {
        if image.contents(&path).as_ref() != Some(&content) {
            return Err(format!("{} is of an earlier process and was changed", path.display()));
        }
    }
    for (crash, after) in image.images(2, 3) {
        ledger.check(kit, &after).map_err(|e| format!("{e} after {crash:?}"))?;
    }
    Ok(())
}

#[test]
fn a_sync_that_is_left_out_is_noticed() {
    let kit = Kit::new();
    type Lie = fn(Op, &Path) -> bool;
    let lies: [(&str, usize, Lie); 5] = [
        ("content", 3, |op, _| op == Op::Sync),
        ("all", MANY, |op, _| op == Op::SyncAll),
        ("host directory", 3, |op, path| op == Op::SyncDir && path.components().count() == 4),
        ("cluster directory", 3, |op, path| op == Op::SyncDir && path.components().count() == 3),
        ("checkpoint directory", 3, |op, path| op == Op::SyncDir && path == Path::new(DATA)),
    ];
    for (name, hosts, lie) in lies {
        let disk = new_disk();
        let probe = Probe { lie: Box::new(lie), ..Probe::new(&disk) };
        let mut ledger = Ledger::default();
        history(&kit, &mut saver(Probed(Arc::new(probe))), &mut ledger, &keys(hosts), 3, 1);
        let lost = ledger.check(&kit, &disk.after_power_loss(&Keep::Nothing));
        assert!(lost.is_err_and(|e| e.contains("lost")), "{name}");
    }
}

#[test]
fn directories_of_a_killed_process_are_made_durable_by_the_next_one() {
    let kit = Kit::new();
    let keys = keys(2);
    let disk = new_disk();
    for key in &keys {
        disk.create_dir(dir_of(key).parent().unwrap()).unwrap();
        disk.create_dir(&dir_of(key)).unwrap();
    }
    let image = disk.after(&Crash::Kill);
    go_on(&kit, &image.fork(), Ledger::default(), &keys, |_| {}).unwrap();
    // And it shows if the next one leaves that to whoever creates them.
    for depth in [2, 3] {
        let lie = move |op, path: &Path| op == Op::SyncDir && path.components().count() == depth;
        let lost = go_on(&kit, &image.fork(), Ledger::default(), &keys, |probe| probe.lie = Box::new(lie));
        assert!(lost.is_err_and(|e| e.contains("lost")), "depth {depth}");
    }
}

#[test]
fn whatever_call_fails_nothing_false_is_answered_and_the_next_save_heals() {
    let kit = Kit::new();
    let effects = [
        Effect::Error(EIO),
        Effect::Error(ENOSPC),
        Effect::Error(EMFILE),
        Effect::Short(Torn::Bytes(70), ENOSPC),
        Effect::Lose(EIO),
        Effect::Done(EIO),
    ];
    let (mut runs, mut failed) = (0, 0);
    for (hosts, rounds, sync_all) in [(3, 3, true), (MANY, 2, true), (MANY, 2, false)] {
        let keys = keys(hosts);
        for effect in effects {
            for times in if hosts == MANY { vec![1] } else { vec![1, 3, u64::MAX] } {
                for number in 0.. {
                    let disk = new_disk();
                    disk.set_sync_all(sync_all);
                    disk.fail(Fault::new(effect, move |call| call.number >= number).times(times));
                    let mut saver = saver(disk.clone());
                    let mut ledger = Ledger::default();
                    history(&kit, &mut saver, &mut ledger, &keys, rounds, 2);
                    if disk.fault_hits() == 0 {
                        break;
                    }
                    runs += 1;
                    let check = |ledger: &Ledger, keep: &Keep| {
                        let image = disk.after_power_loss(keep);
                        ledger
                            .check(&kit, &image)
                            .unwrap_or_else(|e| panic!("{e}: {effect:?} at {number}, {keep:?}"));
                    };
                    [Keep::Nothing, Keep::Everything, Keep::Random(number)]
                        .iter()
                        .for_each(|k| check(&ledger, k));
                    failed += u64::from(!ledger.unsaved.is_empty());
                    disk.clear_faults();
                    // What failed a sync of its own, the next sync of everything reports once more.
                    if ledger.save(&kit, &mut saver, &keys).iter().any(Result::is_err) {
                        ledger.save(&kit, &mut saver, &keys).into_iter().for_each(Result::unwrap);
                    }
                    assert!(ledger.unsaved.is_empty() && ledger.floors_unsaved.is_empty());
                    check(&ledger, &Keep::Nothing);
                }
            }
        }
    }
    println!("{runs} histories with a failure, {failed} of them with blocks left unsaved");
    assert!(runs > 1000 && failed > 300, "{runs} {failed}");
}

#[test]
fn one_host_that_fails_does_not_keep_others_from_being_saved() {
    let kit = Kit::new();
    let keys = keys(SYNC_EACH_MAX + 4);
    for op in [Op::CreateDir, Op::Create, Op::Append, Op::Sync, Op::SyncDir] {
        let disk = new_disk();
        disk.set_sync_all(false);
        let dir = dir_of(&keys[3]);
        let fails = move |call: &store_disk::sim::Call| call.op == op && call.path.starts_with(&dir);
        disk.fail(Fault::new(Effect::Error(EIO), fails).for_ever());
        let mut ledger = Ledger::default();
        let mut rng = StdRng::seed_from_u64(3);
        keys.iter().for_each(|key| ledger.give(&kit, key, &mut rng));
        let results = ledger.save(&kit, &mut saver(disk.clone()), &keys);
        for (at, result) in results.iter().enumerate() {
            assert_eq!(result.is_err(), at == 3, "{op:?}: {result:?}");
        }
        ledger.check(&kit, &disk.after_power_loss(&Keep::Nothing)).unwrap();
        let expected = match results[3] {
            Err(SaveError::Dir { .. }) => Op::CreateDir,
            Err(SaveError::File(BlockFileError::Create { .. })) => Op::Create,
            Err(SaveError::File(BlockFileError::Append { .. })) => Op::Append,
            Err(SaveError::File(BlockFileError::Sync { .. })) => Op::Sync,
            Err(SaveError::SyncDir { .. }) => Op::SyncDir,
            ref other => panic!("{other:?}"),
        };
        assert_eq!(expected, op);
    }
}

#[test]
fn many_hosts_are_synced_at_once_and_fail_together() {
    let kit = Kit::new();
    let mut rng = StdRng::seed_from_u64(3);
    for (hosts, at_once) in [(SYNC_EACH_MAX, 0), (SYNC_EACH_MAX + 1, 1)] {
        let disk = new_disk();
        let mut ledger = Ledger::default();
        keys(hosts).iter().for_each(|key| ledger.give(&kit, key, &mut rng));
        ledger.save(&kit, &mut saver(disk.clone()), &keys(hosts)).into_iter().for_each(Result::unwrap);
        assert_eq!(disk.calls_of(Op::SyncAll), at_once);
        assert_eq!(disk.calls_of(Op::Sync), if at_once == 1 { 0 } else { hosts as u64 });
        assert!(disk.unsynced().is_empty(), "{:?}", disk.unsynced());
    }
    let keys = keys(SYNC_EACH_MAX + 1);
    let disk = new_disk();
    let (mut ledger, mut saver) = (Ledger::default(), saver(disk.clone()));
    history(&kit, &mut saver, &mut ledger, &keys, 1, 4);
    keys.iter().for_each(|key| ledger.give(&kit, key, &mut rng));
    disk.fail(Fault::new(Effect::Lose(EIO), |call| call.op == Op::SyncAll));
    let active: Vec<PathBuf> = disk.files().into_keys().filter(|path| saver.is_active(path)).collect();
    assert!(active.len() >= 4, "{active:?}");
    for result in ledger.save(&kit, &mut saver, &keys) {
        assert!(matches!(result, Err(SaveError::SyncAll { .. })), "{result:?}");
    }
    assert!(active.iter().all(|path| !saver.is_active(path)), "a file was kept after a failed sync");
    ledger.save(&kit, &mut saver, &keys).into_iter().for_each(Result::unwrap);
    ledger.check(&kit, &disk.after_power_loss(&Keep::Nothing)).unwrap();
}

#[test]
fn a_host_keeps_its_file_until_it_is_closed() {
    let kit = Kit::new();
    let disk = new_disk();
    let keys = keys(1);
    let (mut ledger, mut saver) = (Ledger::default(), saver(disk.clone()));
    let mut rng = StdRng::seed_from_u64(3);
    let mut files = Vec::new();
    for round in 0..6 {
        if round == 3 {
            saver.close(keys[0].0, &keys[0].1);
        }
        ledger.give(&kit, &keys[0], &mut rng);
        ledger.save(&kit, &mut saver, &keys)[0].as_ref().unwrap();
        files.push(disk.files().len());
        assert_eq!(disk.files().keys().filter(|path| saver.is_active(path)).count(), 1);
        assert_eq!(
            saver.written_bytes(),
            disk.files().values().map(|content| content.len() as u64).sum::<u64>()
        );
    }
    assert_eq!(files, [1, 1, 1, 2, 2, 2]);
    ledger.check(&kit, &disk.after_power_loss(&Keep::Nothing)).unwrap();
    // The file's name is free for a process that comes later, but never taken up again.
    go_on(&kit, &disk.after_kill(), ledger, &keys, |_| {}).unwrap();
}

#[test]
fn nothing_to_save_is_no_call() {
    let kit = Kit::new();
    let disk = new_disk();
    let work = HostWork {
        cluster: "alpha".into(),
        host: "n0".into(),
        blocks: vec![],
        floors: vec![],
        all_floors: vec![],
    };
    let results = saver(disk.clone()).save(&kit.catalog, &[work]);
    assert!(results.len() == 1 && results[0].is_ok());
    assert_eq!(disk.calls(), 0);
}

#[test]
fn no_more_files_stay_open_than_allowed_and_the_least_used_are_closed() {
    let kit = Kit::new();
    let disk = new_disk();
    let keys = keys(6);
    let mut saver = Saver::new(Arc::new(disk.clone()), DATA.into(), LINEAGE, 1, 4);
    let mut ledger = Ledger::default();
    let mut rng = StdRng::seed_from_u64(3);
    let mut save = |saver: &mut Saver, some: &[HostKey]| {
        some.iter().for_each(|key| ledger.give(&kit, key, &mut rng));
        ledger.save(&kit, saver, some).into_iter().for_each(Result::unwrap);
        ledger.check(&kit, &disk.after_power_loss(&Keep::Nothing)).unwrap();
        let open: Vec<PathBuf> = disk.files().into_keys().filter(|path| saver.is_active(path)).collect();
        assert!(open.len() <= 4, "{open:?}");
        let open = |key: &HostKey| open.iter().any(|path| path.starts_with(dir_of(key)));
        keys.iter().map(open).collect::<Vec<bool>>()
    };
    assert_eq!(save(&mut saver, &keys[..4]), [true, true, true, true, false, false]);
    save(&mut saver, &keys[..1]);
    assert_eq!(save(&mut saver, &keys[4..]).iter().filter(|open| **open).count(), 4);
    let open = save(&mut saver, &keys[..1]);
    assert!(open[0] && open[4] && open[5], "{open:?}");
    // All of them, in turns.
    assert_eq!(save(&mut saver, &keys).iter().filter(|open| **open).count(), 4);
}

#[test]
fn what_cannot_be_written_is_refused_and_costs_no_file() {
    let kit = Kit::new();
    let disk = new_disk();
    let mut saver = saver(disk.clone());
    let good = kit.block(0, 0, 0..4, 1);
    let mut work = HostWork {
        cluster: "alpha".into(),
        host: "n0".into(),
        blocks: vec![good],
        floors: vec![],
        all_floors: vec![],
    };
    saver.save(&kit.catalog, &[work.clone()])[0].as_ref().unwrap();
    let before = disk.files();
    let mut content = before.values().next().unwrap().clone();
    let found = index_of(&content.clone().into()).blocks.remove(0);
    content[usize::try_from(found.body_at).unwrap() + 4] ^= 1;
    let pages = pages_of(&content.into());
    work.blocks = vec![Arc::new(found.block(Arc::clone(&kit.shapes[0]), pages).unwrap())];
    for host in ["n0", "n1", "n1"] {
        work.host = host.into();
        let results = saver.save(&kit.catalog, &[work.clone()]);
        assert!(matches!(results[0], Err(SaveError::File(BlockFileError::BadBlock { .. }))), "{results:?}");
        assert_eq!(disk.files(), before, "no file for nothing");
        assert!(
            saver.is_active(before.keys().next().unwrap()),
            "nothing was written, the file is as good as before"
        );
    }
}

#[test]
fn a_full_disk_does_not_fill_with_empty_files() {
    let kit = Kit::new();
    let disk = new_disk();
    let mut saver = saver(disk.clone());
    disk.fail(Fault::new(Effect::Short(Torn::Bytes(30), ENOSPC), |call| call.op == Op::Append).for_ever());
    let mut ledger = Ledger::default();
    let keys = keys(2);
    let mut rng = StdRng::seed_from_u64(3);
    keys.iter().for_each(|key| ledger.give(&kit, key, &mut rng));
    for _ in 0..5 {
        assert!(ledger.save(&kit, &mut saver, &keys).iter().all(Result::is_err));
        assert_eq!(disk.files().len(), 0);
    }
}

#[test]
fn the_blocks_of_a_file_share_one_map() {
    let kit = Kit::new();
    let directory = tempfile::tempdir().unwrap();
    let keys = keys(1);
    for maps_max in [0, 2] {
        let real = Arc::new(RealDisk::new(maps_max));
        let mut saver = Saver::new(Arc::<RealDisk>::clone(&real), directory.path().into(), LINEAGE, 1, 4);
        let mut ledger = Ledger::default();
        let mut rng = StdRng::seed_from_u64(11);
        for _ in 0..5 {
            ledger.give(&kit, &keys[0], &mut rng);
            ledger.save(&kit, &mut saver, &keys)[0].as_ref().unwrap();
            let (saved, mapped) = (ledger.saved[&keys[0]].len(), ledger.mapped[&keys[0]].len());
            assert!(saved > 0 && mapped == if maps_max == 0 { 0 } else { saved }, "{mapped} of {saved}");
            assert_eq!(real.maps(), usize::from(maps_max > 0));
        }
        // Whoever gave a block up gets it from nobody.
        ledger.mapped.clear();
        assert_eq!(real.maps(), 0);
    }
}

#[test]
fn many_threads_on_a_real_disk_save_every_host() {
    let kit = Kit::new();
    let directory = tempfile::tempdir().unwrap();
    let keys = keys(40);
    let real = Arc::new(RealDisk::new(8));
    let mut saver = Saver::new(Arc::<RealDisk>::clone(&real), directory.path().into(), LINEAGE, 4, 16);
    let mut ledger = Ledger::default();
    let mut rng = StdRng::seed_from_u64(9);
    for _ in 0..3 {
        keys.iter().for_each(|key| ledger.give(&kit, key, &mut rng));
        ledger.save(&kit, &mut saver, &keys).into_iter().for_each(Result::unwrap);
    }
    // Looked at through a simulated disk with the same files.
    let disk = new_disk();
    let mut bytes = 0;
    for key in &keys {
        for entry in real.list(&directory.path().join(key.0).join(&key.1)).unwrap() {
            let content = real.read(&directory.path().join(key.0).join(&key.1).join(&entry.name)).unwrap();
            bytes += content.len() as u64;
            disk.put(dir_of(key).join(&entry.name), content).unwrap();
        }
    }
    ledger.check(&kit, &disk).unwrap();
    assert_eq!(saver.written_bytes(), bytes);
}
