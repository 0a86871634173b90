//! What a kill or a power loss leaves of a random history is one of the states that the contract allows.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use store_disk::sim::{Keep, Unsynced};
use store_disk::{Disk, SimDisk};

use crate::random::{Machine, Step, steps};

fn run(steps: &[Step]) -> SimDisk {
    let disk = SimDisk::new();
    let mut machine = Machine::new(disk.clone(), Path::new("/"));
    for step in steps {
        machine.step(step);
    }
    disk
}

proptest! {
    #[test]
    fn the_same_calls_give_the_same_images(steps in steps(60), seed: u64) {
        let (one, two) = (run(&steps), run(&steps));
        prop_assert_eq!(one.image_hash(), two.image_hash());
        prop_assert_eq!(one.unsynced(), two.unsynced());
        let crashes = one.crashes(5, seed);
        prop_assert_eq!(&crashes, &two.crashes(5, seed));
        for crash in &crashes {
            let (one, two) = (one.after(crash), two.after(crash));
            prop_assert_eq!(one.image_hash(), two.image_hash());
            prop_assert_eq!(one.files(), two.files());
        }
    }

    #[test]
    fn a_kill_and_a_lucky_power_loss_lose_nothing(steps in steps(60)) {
        let disk = run(&steps);
        for after in [disk.after_kill(), disk.after_power_loss(&Keep::Everything)] {
            prop_assert_eq!(after.files(), disk.files());
            prop_assert_eq!(after.dirs(), disk.dirs());
        }
    }

    #[test]
    fn what_was_synced_is_found_after_every_power_loss(before in steps(40), after in steps(30), seed: u64) {
        let disk = run(&before);
        prop_assert!(disk.sync_all(Path::new("/")).unwrap());
        prop_assert_eq!(disk.unsynced(), []);
        let synced = disk.files();
        prop_assert_eq!(&disk.after_power_loss(&Keep::Nothing).files(), &synced);
        let mut machine = Machine::new(disk.clone(), Path::new("/"));
        for step in &after {
            machine.step(step);
        }
        // Names that no later call has touched still lead to what they led to; a file that was open
        // may have grown, but no step appends to one from before.
        let touched: BTreeSet<_> = disk.unsynced().into_iter().filter_map(|op| match op {
            Unsynced::Name { path, .. } => Some(path),
            Unsynced::Bytes { .. } => None,
        }).collect();
        let now = disk.files();
        for crash in disk.crashes(10, seed) {
            let found = disk.after(&crash).files();
            for (path, content) in &synced {
                let moved = touched.iter().any(|op| path.starts_with(op)) || now.get(path) != Some(content);
                prop_assert!(moved || found.get(path) == Some(content), "{:?} after {:?}", path, crash);
            }
        }
    }

    #[test]
    fn a_power_loss_leaves_a_disk_without_loose_ends(steps in steps(60), seed: u64) {
        for (crash, image) in run(&steps).images(10, seed) {
            if crash != store_disk::sim::Crash::Kill {
                prop_assert_eq!(image.unsynced(), []);
                prop_assert_eq!(image.after_power_loss(&Keep::Nothing).image_hash(), image.image_hash());
                prop_assert_eq!(image.after_kill().image_hash(), image.image_hash());
            }
            // It can be walked, read and written.
            let machine = Machine::new(image.clone(), Path::new("/"));
            let files = machine.tree().into_iter().filter(|(_, content)| content.is_some()).count();
            prop_assert_eq!(files, image.files().len());
            let mut file = image.create(Path::new("/new")).unwrap();
            file.append(b"new").unwrap();
            prop_assert_eq!(image.read(Path::new("/new")).unwrap(), b"new");
        }
    }

    #[test]
    fn a_fork_goes_its_own_way(before in steps(40), after in steps(40)) {
        let disk = run(&before);
        let (hash, fork) = (disk.image_hash(), disk.fork());
        prop_assert_eq!(fork.image_hash(), hash);
        let mut machine = Machine::new(fork, Path::new("/"));
        for step in &after {
            machine.step(step);
        }
        prop_assert_eq!(disk.image_hash(), hash);
    }
}
