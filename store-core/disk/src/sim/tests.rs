//! Tests of the simulated disk: one rule of the model each.

use std::collections::BTreeSet;

use super::*;
use crate::disk::EntryKind;

mod faults;

fn p(path: &str) -> &Path {
    Path::new(path)
}

/// Appends to a new file and syncs neither it nor its name.
fn write(disk: &SimDisk, path: &str, parts: &[&[u8]]) -> Box<dyn DiskFile> {
    let mut file = disk.create(p(path)).unwrap();
    for part in parts {
        file.append(part).unwrap();
    }
    file
}

/// A disk with the durable directory `/d`, and in it a durable name `/d/a` of an empty file.
fn with_file() -> (SimDisk, Box<dyn DiskFile>) {
    let disk = SimDisk::new();
    disk.put_dir("/d").unwrap();
    let file = disk.create(p("/d/a")).unwrap();
    disk.sync_dir(p("/d")).unwrap();
    (disk, file)
}

fn nothing(disk: &SimDisk) -> SimDisk {
    disk.after_power_loss(&Keep::Nothing)
}

fn only(disk: &SimDisk, kept: impl IntoIterator<Item = usize>) -> SimDisk {
    disk.after_power_loss(&Keep::Only(kept.into_iter().collect()))
}

fn content(disk: &SimDisk, path: &str) -> Option<String> {
    disk.contents(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn code<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

// ------------------------------------------------------------------------------------------ power loss

#[test]
fn a_kill_loses_nothing_and_syncs_nothing() {
    let (disk, mut file) = with_file();
    file.append(b"one").unwrap();
    write(&disk, "/d/b", &[b"two"]);
    let killed = disk.after_kill();
    assert_eq!(killed.files(), disk.files());
    assert_eq!(killed.unsynced(), disk.unsynced());
    assert_eq!(killed.calls(), 0);
    assert_eq!(nothing(&killed).files(), nothing(&disk).files());
}

#[test]
fn content_that_was_not_synced_is_lost_and_its_name_stays() {
    let (disk, mut file) = with_file();
    file.append(b"one ").unwrap();
    file.sync().unwrap();
    file.append(b"two").unwrap();
    assert_eq!(content(&nothing(&disk), "/d/a").unwrap(), "one ");
    assert_eq!(content(&disk.after_power_loss(&Keep::Everything), "/d/a").unwrap(), "one two");
}

#[test]
fn a_synced_file_is_gone_when_its_name_was_not_synced() {
    let (disk, _file) = with_file();
    write(&disk, "/d/b", &[b"b"]).sync().unwrap();
    assert_eq!(content(&nothing(&disk), "/d/b"), None);
    disk.sync_dir(p("/d")).unwrap();
    assert_eq!(content(&nothing(&disk), "/d/b").unwrap(), "b");
}

#[test]
fn a_synced_name_may_lead_to_an_empty_file() {
    let (disk, _file) = with_file();
    write(&disk, "/d/b", &[b"b"]);
    disk.sync_dir(p("/d")).unwrap();
    assert_eq!(content(&nothing(&disk), "/d/b").unwrap(), "");
}

#[test]
fn all_in_a_directory_is_gone_when_its_own_name_was_not_synced() {
    let disk = SimDisk::new();
    assert!(disk.create_dir(p("/d")).unwrap());
    write(&disk, "/d/a", &[b"a"]).sync().unwrap();
    disk.sync_dir(p("/d")).unwrap();
    assert_eq!(nothing(&disk).list(p("/")).unwrap(), []);
    disk.sync_dir(p("/")).unwrap();
    assert_eq!(content(&nothing(&disk), "/d/a").unwrap(), "a");
}

#[test]
fn sync_all_makes_names_and_contents_durable() {
    let disk = SimDisk::new();
    disk.create_dir(p("/d")).unwrap();
    write(&disk, "/d/a", &[b"a"]);
    assert!(disk.sync_all(p("/")).unwrap());
    assert_eq!(disk.unsynced(), []);
    assert_eq!(nothing(&disk).files(), disk.files());
    disk.set_sync_all(false);
    write(&disk, "/d/b", &[b"b"]);
    assert!(!disk.sync_all(p("/")).unwrap());
    assert_eq!(disk.unsynced().len(), 2);
}

#[test]
fn sync_file_makes_durable_what_an_earlier_process_wrote() {
    let (disk, mut file) = with_file();
    file.append(b"one").unwrap();
    let killed = disk.after_kill();
    killed.sync_file(p("/d/a")).unwrap();
    assert_eq!(content(&nothing(&killed), "/d/a").unwrap(), "one");
    assert_eq!(content(&nothing(&disk), "/d/a").unwrap(), "");
}

#[test]
fn each_append_is_lost_by_itself_and_leaves_zeros_in_the_middle() {
    let (disk, mut file) = with_file();
    for part in ["aa", "bb", "cc"] {
        file.append(part.as_bytes()).unwrap();
    }
    let but = |lost| content(&disk.after_power_loss(&Keep::AllBut(lost)), "/d/a").unwrap();
    assert_eq!([but(0), but(1), but(2)], ["\0\0bbcc", "aa\0\0cc", "aabb"]);
    assert_eq!(content(&only(&disk, [2]), "/d/a").unwrap(), "\0\0\0\0cc");
}

#[test]
fn a_removed_file_comes_back_when_its_removal_is_lost() {
    let (disk, mut file) = with_file();
    file.append(b"a").unwrap();
    file.sync().unwrap();
    disk.remove(p("/d/a")).unwrap();
    assert_eq!(content(&disk, "/d/a"), None);
    assert_eq!(content(&nothing(&disk), "/d/a").unwrap(), "a");
    disk.sync_dir(p("/d")).unwrap();
    assert_eq!(content(&nothing(&disk), "/d/a"), None);
    // Somebody may still write to it, and to no effect.
    file.append(b"b").unwrap();
    file.sync().unwrap();
    assert_eq!(disk.unsynced(), []);
}

#[test]
fn what_no_crash_can_bring_back_is_forgotten() {
    let (disk, _file) = with_file();
    write(&disk, "/d/b", &[b"b"]);
    for path in ["/d/a", "/d/b"] {
        disk.remove(p(path)).unwrap();
    }
    disk.remove_dir(p("/d")).unwrap();
    assert_eq!(disk.state().inodes(), 4);
    assert_eq!(disk.unsynced().len(), 5);
    disk.sync_dir(p("/")).unwrap();
    // The directory is gone for good, and with it all that was to be synced in it.
    assert_eq!(disk.unsynced(), []);
    assert_eq!(disk.state().inodes(), 1, "the root");
}

#[test]
fn a_rename_within_a_directory_persists_whole_or_not_at_all() {
    let (disk, mut file) = with_file();
    file.append(b"new").unwrap();
    file.sync().unwrap();
    disk.put("/d/b", "old").unwrap();
    disk.rename_over(p("/d/a"), p("/d/b")).unwrap();
    let state = |disk: &SimDisk| (content(disk, "/d/a"), content(disk, "/d/b"));
    assert_eq!(state(&disk), (None, Some("new".into())));
    assert_eq!(state(&nothing(&disk)), (Some("new".into()), Some("old".into())));
    assert_eq!(state(&disk.after_power_loss(&Keep::Everything)), state(&disk));
}

#[test]
fn a_move_between_directories_is_two_operations() {
    let (disk, _file) = with_file();
    disk.put_dir("/e").unwrap();
    disk.rename(p("/d/a"), p("/e/a")).unwrap();
    assert_eq!(disk.unsynced().len(), 2);
    let names = |disk: &SimDisk| disk.files().into_keys().collect::<Vec<_>>();
    assert_eq!(names(&only(&disk, [0])), [p("/d/a"), p("/e/a")]);
    assert_eq!(names(&only(&disk, [1])), Vec::<PathBuf>::new());
    // Who syncs the source first has lost the file.
    disk.sync_dir(p("/d")).unwrap();
    assert_eq!(names(&nothing(&disk)), Vec::<PathBuf>::new());
}

#[test]
fn a_directory_whose_move_persisted_in_part_has_one_name() {
    let disk = SimDisk::new();
    disk.put_dir("/from/moved").unwrap();
    disk.put_dir("/to").unwrap();
    disk.put("/from/moved/a", "a").unwrap();
    disk.rename(p("/from/moved"), p("/to/moved")).unwrap();
    assert_eq!(only(&disk, [0]).files().len(), 1);
    assert_eq!(only(&disk, [1]).files().len(), 0);
    assert_eq!(only(&disk, [0, 1]).files().into_keys().collect::<Vec<_>>(), [p("/to/moved/a")]);
}

#[test]
fn unsynced_operations_are_listed_by_name() {
    let (disk, mut file) = with_file();
    file.append(b"one").unwrap();
    file.append(b"three").unwrap();
    disk.rename(p("/d/a"), p("/d/b")).unwrap();
    let path = || PathBuf::from("/d/b");
    assert_eq!(
        disk.unsynced(),
        [
            Unsynced::Name { op: Op::Rename, path: path() },
            Unsynced::Bytes { path: path(), offset: 0, bytes: 3 },
            Unsynced::Bytes { path: path(), offset: 3, bytes: 5 },
        ]
    );
}

#[test]
fn random_losses_are_repeatable_and_keep_what_was_synced() {
    let (disk, mut file) = with_file();
    disk.put("/d/other", vec![b'o'; 3000]).unwrap();
    file.append(b"synced").unwrap();
    file.sync().unwrap();
    for _ in 0..4 {
        file.append(&[b'x'; 1000]).unwrap();
    }
    let mut seen = [false; 5];
    let mut images = BTreeSet::new();
    for seed in 0..200 {
        let image = disk.after_power_loss(&Keep::Random(seed));
        assert_eq!(image.image_hash(), disk.after_power_loss(&Keep::Random(seed)).image_hash());
        images.insert(image.image_hash());
        let bytes = image.contents("/d/a").unwrap();
        assert!(bytes.starts_with(b"synced") && bytes.len() <= 4006);
        let tail = &bytes[6..];
        seen[0] |= tail.contains(&0);
        seen[1] |= tail.windows(8).any(|w| w == b"oooooooo");
        seen[2] |= tail.iter().any(|byte| !b"\0xo".contains(byte));
        seen[3] |= tail.len() % 1000 != 0;
        seen[4] |= tail.chunks_exact(1000).any(|part| part.contains(&b'x') && part.contains(&0));
    }
    assert_eq!(seen, [true; 5], "zeros, bytes of another file, garbage, odd lengths, torn sectors");
    assert!(images.len() > 100, "{} images", images.len());
}

// ------------------------------------------------------------------------------------------ failed syncs

#[test]
fn after_a_sync_that_lost_pages_a_later_one_succeeds_and_they_are_not_on_disk() {
    let (disk, mut file) = with_file();
    file.append(b"lost").unwrap();
    disk.fail(Fault::new(Effect::Lose(libc::EIO), |call| call.op == Op::Sync));
    assert_eq!(code(file.sync()), Some(libc::EIO));
    assert_eq!(content(&disk, "/d/a").unwrap(), "lost", "the cache still has it");
    file.append(b"kept").unwrap();
    file.sync().unwrap();
    assert_eq!(disk.unsynced(), []);
    assert_eq!(content(&nothing(&disk), "/d/a").unwrap(), "\0\0\0\0kept");
    assert_eq!(content(&nothing(&disk.after_kill()), "/d/a").unwrap(), "\0\0\0\0kept");
}

#[test]
fn a_sync_that_only_fails_leaves_pages_for_the_next_one() {
    let (disk, mut file) = with_file();
    file.append(b"content").unwrap();
    disk.fail(Fault::new(Effect::Error(libc::EIO), |call| call.op == Op::Sync));
    assert_eq!(code(file.sync()), Some(libc::EIO));
    file.sync().unwrap();
    assert_eq!(content(&nothing(&disk), "/d/a").unwrap(), "content");
}

#[test]
fn a_failed_sync_all_is_reported_once_by_each_file_that_lost_pages() {
    let (disk, mut file) = with_file();
    let mut clean = write(&disk, "/d/b", &[]);
    file.append(b"lost").unwrap();
    disk.fail(Fault::new(Effect::Lose(libc::EIO), |call| call.op == Op::SyncAll));
    assert_eq!(code(disk.sync_all(p("/"))), Some(libc::EIO));
    clean.sync().unwrap();
    assert_eq!(code(file.sync()), Some(libc::EIO));
    file.sync().unwrap();
    assert_eq!(content(&nothing(&disk), "/d/a").unwrap(), "");
    // Whoever opens it now was not there.
    disk.sync_file(p("/d/a")).unwrap();
}

#[test]
fn an_error_that_nobody_was_told_of_is_reported_to_who_opens_the_file_next() {
    let (disk, mut file) = with_file();
    file.append(b"lost").unwrap();
    disk.fail(Fault::new(Effect::Lose(libc::EIO), |call| call.op == Op::SyncAll));
    assert_eq!(code(disk.sync_all(p("/"))), Some(libc::EIO));
    let killed = disk.after_kill();
    assert_ne!(killed.image_hash(), {
        disk.sync_file(p("/d/a")).unwrap_err();
        disk.image_hash()
    });
    assert_eq!(code(killed.sync_file(p("/d/a"))), Some(libc::EIO));
    killed.sync_file(p("/d/a")).unwrap();
}

#[test]
fn a_file_that_lost_pages_is_reported_by_the_next_sync_all() {
    let (disk, mut file) = with_file();
    file.append(b"lost").unwrap();
    disk.fail(Fault::new(Effect::Lose(libc::EIO), |call| call.op == Op::Sync));
    assert_eq!(code(file.sync()), Some(libc::EIO));
    // To whoever asks first, be it the next process.
    let killed = disk.after_kill();
    for disk in [&disk, &killed] {
        let before = disk.image_hash();
        assert_eq!(code(disk.sync_all(p("/"))), Some(libc::EIO));
        assert_ne!(disk.image_hash(), before);
        assert!(disk.sync_all(p("/")).unwrap());
    }
    assert!(killed.after_kill().sync_all(p("/")).unwrap(), "once is enough");
    assert!(nothing(&disk).sync_all(p("/")).unwrap());
}

#[test]
fn a_failed_directory_sync_leaves_names_unsynced() {
    let (disk, _file) = with_file();
    write(&disk, "/d/b", &[]);
    disk.fail(Fault::new(Effect::Lose(libc::EIO), |call| call.op == Op::SyncDir));
    assert_eq!(code(disk.sync_dir(p("/d"))), Some(libc::EIO));
    assert_eq!(content(&nothing(&disk), "/d/b"), None);
    disk.sync_dir(p("/d")).unwrap();
    assert_eq!(content(&nothing(&disk), "/d/b").unwrap(), "");
}

// ------------------------------------------------------------------------------------------ handles

#[test]
fn clones_share_a_disk_and_forks_do_not() {
    let (disk, mut file) = with_file();
    let (same, other) = (disk.clone(), disk.fork());
    file.append(b"new").unwrap();
    assert_eq!(content(&same, "/d/a").unwrap(), "new");
    assert_eq!(content(&other, "/d/a").unwrap(), "");
    other.remove(p("/d/a")).unwrap();
    assert_eq!(content(&disk, "/d/a").unwrap(), "new");
    assert_eq!(other.calls(), disk.calls(), "two of them before, one each since");
}

#[test]
fn a_lock_is_held_until_it_is_dropped() {
    let (disk, _file) = with_file();
    let lock = disk.lock(p("/d")).unwrap();
    assert_eq!(disk.lock(p("/d")).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(disk.lock(p("/")).unwrap());
    drop(lock);
    drop(disk.lock(p("/d")).unwrap());
}

#[test]
fn a_map_is_a_copy() {
    let (disk, mut file) = with_file();
    file.append(b"one").unwrap();
    let map = disk.open(p("/d/a")).unwrap().view().unwrap().unwrap();
    file.append(b"two").unwrap();
    disk.remove(p("/d/a")).unwrap();
    assert_eq!(&*map.get(0..map.len()).unwrap(), b"one");
}

// ------------------------------------------------------------------------------------------ images

#[test]
fn images_are_distinct_and_cover_every_single_loss() {
    let (disk, mut file) = with_file();
    for part in [b"aa", b"bb", b"cc"] {
        file.append(part).unwrap();
    }
    write(&disk, "/d/b", &[]);
    assert_eq!(disk.unsynced().len(), 4);
    assert_eq!(disk.crashes(5, 1).len(), 1 + 2 + 4 + 5);
    let images: Vec<_> = disk.images(0, 0).collect();
    let hashes: BTreeSet<u64> = images.iter().map(|(_, image)| image.image_hash()).collect();
    assert_eq!((images.len(), hashes.len()), (7, 7));
    assert!(images.iter().all(|(crash, image)| image.image_hash() == disk.after(crash).image_hash()));
    // Nothing unsynced: a power loss is a power loss.
    disk.sync_all(p("/")).unwrap();
    assert_eq!(disk.images(20, 0).count(), 1, "a kill leaves the same");
}

#[test]
fn the_hash_tells_apart_what_the_next_crash_will() {
    let (disk, mut file) = with_file();
    file.append(b"aabb").unwrap();
    let (other, mut parts) = with_file();
    parts.append(b"aa").unwrap();
    parts.append(b"bb").unwrap();
    assert_ne!(disk.image_hash(), other.image_hash(), "the parts may be lost one by one");
    file.sync().unwrap();
    assert_ne!(disk.image_hash(), other.image_hash(), "one is synced");
    parts.sync().unwrap();
    assert_eq!(disk.image_hash(), other.image_hash(), "how it came to be does not matter any more");
    disk.remove(p("/d/a")).unwrap();
    other.put("/d/a", "aacc").unwrap();
    other.remove(p("/d/a")).unwrap();
    assert_ne!(disk.image_hash(), other.image_hash(), "what would come back differs");
}

#[test]
fn the_hash_tells_in_which_directory_a_file_may_come_back() {
    let hash = |dir: &str| {
        let disk = SimDisk::new();
        disk.put_dir("/d").unwrap();
        disk.put_dir("/e").unwrap();
        let path = p(dir).join("a");
        drop(disk.create(&path).unwrap());
        disk.remove(&path).unwrap();
        disk.image_hash()
    };
    assert_eq!(hash("/d"), hash("/d"));
    assert_ne!(hash("/d"), hash("/e"));
}

// ------------------------------------------------------------------------------------------ laying in

#[test]
fn files_are_laid_in_patched_and_taken_durably() {
    let disk = SimDisk::new();
    disk.put("/d/e/a", "abc").unwrap();
    disk.put_other("/d/link").unwrap();
    assert_eq!(nothing(&disk).files(), disk.files());
    assert_eq!(disk.dirs(), [p("/d"), p("/d/e")]);
    assert_eq!(disk.list(p("/d")).unwrap()[1].kind, EntryKind::Other);
    assert_eq!(code(disk.read(p("/d/link"))), Some(libc::ELOOP));
    disk.flip("/d/e/a", 0).unwrap();
    assert_eq!(content(&disk, "/d/e/a").unwrap(), "`bc");
    disk.flip("/d/e/a", 24).unwrap();
    disk.cut("/d/e/a", 2).unwrap();
    assert_eq!(content(&nothing(&disk), "/d/e/a").unwrap(), "`b");
    disk.take("/d/e/a").unwrap();
    assert_eq!(content(&nothing(&disk), "/d/e/a"), None);
    assert_eq!(disk.put("/d/e", "x").unwrap_err().raw_os_error(), Some(libc::EISDIR));
    assert_eq!(disk.put("/d/link/a", "x").unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
    assert_eq!(disk.put_dir("/d/link").unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
    assert_eq!(disk.calls(), 2);
}

#[test]
fn what_is_laid_in_is_not_undone_by_a_sync_of_earlier_changes() {
    let (disk, _file) = with_file();
    disk.remove(p("/d/a")).unwrap();
    disk.put("/d/a", "laid in").unwrap();
    write(&disk, "/d/b", &[]);
    disk.take("/d/b").unwrap();
    disk.create_dir(p("/d/new")).unwrap();
    disk.put("/d/new/a", "in a new directory").unwrap();
    assert_eq!(disk.unsynced(), []);
    let there = nothing(&disk);
    assert_eq!(there.files(), disk.files());
    disk.sync_dir(p("/d")).unwrap();
    assert_eq!(nothing(&disk).files(), there.files());
    assert_eq!(there.files().len(), 2);
}
