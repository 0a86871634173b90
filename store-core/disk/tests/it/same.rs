//! The simulated disk answers every call as the file system of the machine does.

use std::path::Path;

use proptest::prelude::*;
use store_disk::{RealDisk, SimDisk};

use crate::random::{Machine, Step, steps};

proptest! {
    #[test]
    fn both_disks_answer_alike_and_hold_the_same(steps in steps(60)) {
        let dir = tempfile::TempDir::new().unwrap();
        let mut real = Machine::new(RealDisk::default(), dir.path());
        let mut sim = Machine::new(SimDisk::new(), Path::new("/"));
        for step in &steps {
            // The root of a real disk is no place to rename, and its parent is none of ours.
            if touches_root(step) {
                continue;
            }
            prop_assert_eq!(sim.step(step), real.step(step), "{:?}", step);
        }
        prop_assert_eq!(sim.tree(), real.tree());
    }
}

fn touches_root(step: &Step) -> bool {
    const ROOT: u8 = 8;
    match step {
        Step::Rename(from, to) | Step::RenameOver(from, to) => *from == ROOT || *to == ROOT,
        Step::Create(name) | Step::Remove(name) | Step::RemoveDir(name) => *name == ROOT,
        _ => false,
    }
}
