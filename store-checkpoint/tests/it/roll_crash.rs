//! A crash at any call of a roll, and of the start after it, leaves every sample where it was: in the sources or in
//! the rolled file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store_checkpoint::roll::{roll, supersedes};
use store_disk::sim::{Keep, Op, Torn};
use store_disk::{Disk, SimDisk};

use crate::blocks::{Cells, Kit, LINEAGE, Probe, Probed, Seen, put_file};

const HOST: &str = "/data/alpha/n1";
/// Slots before this time may go.
const KEEP_FROM: i64 = -150;

fn host() -> &'static Path {
    Path::new(HOST)
}

/// A host with small files, one of them torn, and one block that is too old.
fn new_host(kit: &Kit) -> SimDisk {
    let disk = SimDisk::new();
    let old = [kit.block(0, 0, -30..-20, 1 << 32 | 5), kit.block(0, 0, 0..20, 1 << 32 | 70)];
    put_file(&disk, kit, host(), LINEAGE, &old, &[kit.floors(0, &[(1, 90)])]);
    let next = [kit.block(2, 0, 20..64, 1 << 32 | 90), kit.block(2, 1, 0..9, 1 << 32 | 90)];
    let torn = put_file(&disk, kit, host(), LINEAGE, &next, &[]);
    disk.patch(torn, |bytes| bytes.extend_from_slice(b"torn")).unwrap();
    let late = [kit.block(1, 0, 10..40, 2 << 32 | 1), kit.block(2, 0, 70..75, 2 << 32 | 4)];
    put_file(&disk, kit, host(), LINEAGE, &late, &[kit.floors(2, &[(3, 60)])]);
    assert!(disk.unsynced().is_empty());
    disk
}

fn block_files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_keys().filter(|path| path.extension().is_some_and(|e| e == "bin")).collect()
}

/// Rolls all files of the host.
fn roll_host(disk: &dyn Disk, kit: &Kit, sources: &[PathBuf]) -> Result<(), String> {
    let resolve = |hash, bytes: &[u8]| kit.resolve(hash, bytes);
    let shape = kit.newest();
    roll(
        disk,
        host(),
        sources,
        LINEAGE,
        &kit.catalog,
        shape,
        &resolve,
        KEEP_FROM,
        &[(1, 90), (3, 60)],
        &Arc::default(),
    )
    .map(drop)
    .map_err(|error| error.to_string())
}

/// What a start does with the files of a host: temporary ones go, and those that a rolled one supersedes.
fn start(disk: &SimDisk, kit: &Kit) -> std::io::Result<()> {
    for path in disk.files().into_keys().filter(|path| path.extension().is_some_and(|e| e == "tmp")) {
        disk.remove(&path)?;
    }
    let seen = kit.look(disk, host());
    for (path, index) in &seen.files {
        let by = seen.files.iter().filter(|(_, rolled)| supersedes(rolled, index));
        let superseded = by.map(|(rolled, _)| rolled).any(|rolled| !seen.damaged.contains(rolled));
        if superseded {
            disk.sync_dir(host())?;
            disk.remove(path)?;
        }
    }
    Ok(())
}

fn kept(seen: &Seen) -> Cells {
    seen.cells.iter().filter(|(key, _)| key.2 >= KEEP_FROM).map(|(key, bits)| (*key, *bits)).collect()
}

/// Whether a disk shows what the host showed.
fn check(kit: &Kit, before: &Seen, disk: &SimDisk) -> Result<(), String> {
    let after = kit.look(disk, host());
    if let Some((key, _)) = kept(before).iter().find(|(key, bits)| after.cells.get(key) != Some(bits)) {
        return Err(format!("lost or older {key:?}"));
    }
    if let Some((key, _)) = after.cells.iter().find(|(key, bits)| before.cells.get(key) != Some(bits)) {
        return Err(format!("invented {key:?}"));
    }
    if after.floors != before.floors {
        return Err(format!("floors {:?}", after.floors));
    }
    Ok(())
}

/// Starts on the image and rolls again, to the end.
fn finish(kit: &Kit, disk: &SimDisk) -> Result<(), String> {
    start(disk, kit).map_err(|error| error.to_string())?;
    match roll_host(disk, kit, &block_files(disk)) {
        Err(error) if error != "nothing to roll" => Err(error),
        _ => Ok(()),
    }
}

#[test]
fn a_crash_at_any_call_of_a_roll_loses_and_invents_nothing() {
    let kit = Kit::new();
    let before = kit.look(&new_host(&kit), host());
    assert!(kept(&before).len() > 100 && kept(&before).len() < before.cells.len());
    let (mut images, mut again, mut calls, mut both) = (HashSet::new(), HashSet::new(), 0, 0);
    for torn in [Torn::Nothing, Torn::Bytes(100), Torn::Sectors(2), Torn::All] {
        for number in 0.. {
            let disk = new_host(&kit);
            let sources = block_files(&disk);
            disk.crash_at(disk.calls() + number, torn);
            let done = roll_host(&disk, &kit, &sources);
            for (crash, image) in disk.images(100, number) {
                if !images.insert(image.image_hash()) {
                    continue;
                }
                let what = format!("{crash:?} at call {number}, {torn:?}");
                check(&kit, &before, &image).unwrap_or_else(|e| panic!("{e}: {what}"));
                both += u64::from(block_files(&image).len() == 4);
                crash_in_start(&kit, &before, &image, &what, &mut again);
                finish(&kit, &image).unwrap_or_else(|e| panic!("{e}: {what}"));
                let end = image.after_power_loss(&Keep::Nothing);
                check(&kit, &before, &end).unwrap_or_else(|e| panic!("{e}: {what}, rolled again"));
                assert_eq!(block_files(&image).len(), 1, "{what}");
            }
            if !disk.crashed() {
                done.unwrap();
                break;
            }
            calls += 1;
        }
    }
    println!(
        "{calls} calls, {} images, {both} with all files, {} after a second crash",
        images.len(),
        again.len()
    );
    assert!(calls >= 50 && images.len() >= 20 && again.len() >= 80 && both > 1);
}

/// Crashes at every call of the start and of the second roll.
fn crash_in_start(kit: &Kit, before: &Seen, image: &SimDisk, what: &str, again: &mut HashSet<u64>) {
    for number in 0.. {
        let disk = image.fork();
        disk.crash_at(disk.calls() + number, Torn::Nothing);
        let result = finish(kit, &disk);
        for (crash, image) in disk.images(20, number) {
            if again.insert(image.image_hash()) {
                check(kit, before, &image)
                    .unwrap_or_else(|e| panic!("{e}: {what}, then {crash:?} at call {number} of the start"));
            }
        }
        if !disk.crashed() {
            result.unwrap_or_else(|e| panic!("{e}: {what}"));
            break;
        }
    }
}

#[test]
fn a_sync_that_is_left_out_is_noticed() {
    let kit = Kit::new();
    let before = kit.look(&new_host(&kit), host());
    for lied in [Op::Sync, Op::SyncDir] {
        let mut lost = 0;
        let simulated = new_host(&kit);
        let probe = Probe { lie: Box::new(move |op, _| op == lied), ..Probe::new(&simulated) };
        let sources = block_files(&simulated);
        roll_host(&Probed(Arc::new(probe)), &kit, &sources).unwrap();
        for (_, image) in simulated.images(50, 1) {
            lost += u64::from(check(&kit, &before, &image).is_err());
        }
        assert!(lost > 0, "{lied:?}");
    }
}
