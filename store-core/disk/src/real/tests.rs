//! Tests on the file system of the machine.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

fn scratch() -> (TempDir, RealDisk) {
    (TempDir::new().unwrap(), RealDisk::default())
}

/// A file that `disk` wrote and synced.
fn file(disk: &RealDisk, dir: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    let mut file = disk.create(&path).unwrap();
    file.append(content).unwrap();
    file.sync().unwrap();
    path
}

fn code<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

#[test]
fn what_is_appended_is_read_and_mapped() {
    let (dir, disk) = scratch();
    let path = dir.path().join("a");
    let mut file = disk.create(&path).unwrap();
    for part in [&b"one "[..], b"", b"two"] {
        file.append(part).unwrap();
    }
    file.sync().unwrap();
    disk.sync_file(&path).unwrap();
    disk.sync_dir(dir.path()).unwrap();
    assert_eq!(disk.read(&path).unwrap(), b"one two");
    assert_eq!(disk.read_front(&path, 3).unwrap(), b"one");
    assert_eq!(disk.read_front(&path, 300).unwrap(), b"one two");
    assert_eq!(disk.map(&path).unwrap(), &b"one two"[..]);
    assert_eq!(disk.len(&path).unwrap(), 7);
}

#[test]
fn a_map_outlives_the_name_and_gives_its_slot_back() {
    let (dir, disk) = scratch();
    let path = file(&disk, &dir, "a", b"content");
    let map = disk.map(&path).unwrap();
    assert_eq!(disk.maps(), 1, "is the directory for temporary files on a network file system?");
    let part = map.slice(3..);
    drop(map);
    disk.remove(&path).unwrap();
    assert_eq!(part, &b"tent"[..]);
    assert_eq!(disk.clone().maps(), 1);
    drop(part);
    assert_eq!(disk.maps(), 0);
}

#[test]
fn a_map_of_a_file_that_grows_holds_what_it_had() {
    let dir = TempDir::new().unwrap();
    let disk = RealDisk::new(2);
    let mut file = disk.create(&dir.path().join("grows")).unwrap();
    assert_eq!(file.map().unwrap().unwrap(), &b""[..]);
    file.append(b"first").unwrap();
    let first = file.map().unwrap().unwrap();
    file.append(b" second").unwrap();
    let second = file.map().unwrap().unwrap();
    assert_eq!((&first[..], &second[..]), (&b"first"[..], &b"first second"[..]));
    assert!(file.map().unwrap().is_none(), "beyond the budget");
    drop(first);
    assert!(file.map().unwrap().is_some(), "one was given back");
}

#[test]
fn beyond_the_budget_files_are_read_instead_of_mapped() {
    let dir = TempDir::new().unwrap();
    let disk = RealDisk::new(2);
    let path = file(&disk, &dir, "a", b"content");
    let mut maps: Vec<Bytes> = (0..5).map(|_| disk.map(&path).unwrap()).collect();
    assert!(maps.iter().all(|map| map == &b"content"[..]));
    assert_eq!(disk.maps(), 2);
    maps.remove(0);
    assert_eq!(disk.maps(), 1);
    assert_eq!(RealDisk::new(0).map(&path).unwrap(), &b"content"[..]);
}

#[test]
fn an_empty_file_is_not_mapped() {
    let (dir, disk) = scratch();
    let path = file(&disk, &dir, "a", b"");
    let map = disk.map(&path).unwrap();
    assert_eq!((map.len(), disk.maps()), (0, 0));
}

#[test]
fn a_name_that_is_taken_is_neither_created_nor_renamed_to() {
    let (dir, disk) = scratch();
    let (a, b) = (file(&disk, &dir, "a", b"a"), file(&disk, &dir, "b", b"b"));
    assert_eq!(disk.create(&a).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(disk.rename(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(rename_where_free(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!((disk.read(&a).unwrap(), disk.read(&b).unwrap()), (b"a".to_vec(), b"b".to_vec()));
    disk.rename_over(&a, &b).unwrap();
    assert_eq!(disk.read(&b).unwrap(), b"a");
    disk.rename(&b, &a).unwrap();
    rename_where_free(&a, &b).unwrap();
    assert_eq!(disk.read(&b).unwrap(), b"a");
    assert_eq!(code(disk.read(&a)), Some(libc::ENOENT));
}

#[test]
fn directories_are_listed_in_the_order_of_names() {
    let (dir, disk) = scratch();
    for name in ["b", "a", "c"] {
        file(&disk, &dir, name, b"");
    }
    assert!(disk.create_dir(&dir.path().join("aa")).unwrap());
    assert!(!disk.create_dir(&dir.path().join("aa")).unwrap());
    assert_eq!(disk.create_dir(&dir.path().join("a")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    symlink("a", dir.path().join("d")).unwrap();
    let listed = disk.list(dir.path()).unwrap();
    let listed: Vec<_> = listed.iter().map(|entry| (entry.name.to_str().unwrap(), entry.kind)).collect();
    let (file, folder, other) = (EntryKind::File, EntryKind::Dir, EntryKind::Other);
    assert_eq!(listed, [("a", file), ("aa", folder), ("b", file), ("c", file), ("d", other)]);
    disk.remove_dir(&dir.path().join("aa")).unwrap();
    assert_eq!(disk.list(dir.path()).unwrap().len(), 4);
}

#[test]
fn symbolic_links_are_not_followed() {
    let (dir, disk) = scratch();
    let (to_file, to_dir) = (dir.path().join("f"), dir.path().join("d"));
    file(&disk, &dir, "a", b"content");
    symlink("a", &to_file).unwrap();
    symlink(".", &to_dir).unwrap();
    assert_eq!(code(disk.read(&to_file)), Some(libc::ELOOP));
    assert_eq!(code(disk.read_front(&to_file, 1)), Some(libc::ELOOP));
    assert_eq!(code(disk.map(&to_file)), Some(libc::ELOOP));
    assert_eq!(code(disk.len(&to_file)), Some(libc::ELOOP));
    assert_eq!(code(disk.sync_file(&to_file)), Some(libc::ELOOP));
    assert_eq!(disk.create(&to_file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    for error in [
        disk.list(&to_dir).map(drop).unwrap_err(),
        disk.sync_dir(&to_dir).unwrap_err(),
        disk.lock(&to_dir).map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }
    assert_eq!(disk.create_dir(&to_dir).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let (dir, disk) = scratch();
    assert_eq!(disk.read(dir.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    assert_eq!(disk.len(dir.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    // A device that never ends.
    let zeros = Path::new("/dev/zero");
    assert_eq!(disk.read(zeros).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(disk.map(zeros).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    // A pipe that nobody writes to: opening it must not wait.
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if made.is_ok_and(|status| status.success()) {
        assert_eq!(disk.read(&pipe).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(disk.list(dir.path()).unwrap()[0].kind, EntryKind::Other);
    }
}

#[test]
fn a_directory_is_locked_once() {
    let (dir, disk) = scratch();
    let lock = disk.lock(dir.path()).unwrap();
    let second = RealDisk::default().lock(dir.path());
    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    let again = disk.lock(dir.path()).unwrap();
    drop(again);
}

#[test]
fn new_files_and_directories_have_the_promised_modes() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, disk) = scratch();
    disk.create_dir(&dir.path().join("d")).unwrap();
    file(&disk, &dir, "f", b"");
    let mode = |name| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    // The umask may take bits away, and adds none.
    assert_eq!((mode("d") & !0o755, mode("f") & !0o644), (0, 0));
    assert_eq!((mode("d") & 0o700, mode("f") & 0o600), (0o700, 0o600));
}

#[test]
fn all_is_synced_at_once_where_the_kernel_can() {
    let (dir, disk) = scratch();
    let mut file = disk.create(&dir.path().join("a")).unwrap();
    file.append(b"content").unwrap();
    let own = is_own(&open_dir(dir.path()).unwrap());
    assert_eq!(disk.sync_all(dir.path()).unwrap(), syncfs_reports() && own);
    assert_eq!(disk.known().len(), 1, "one descriptor for one file system");
    assert_eq!(code(disk.sync_all(&dir.path().join("none"))), Some(libc::ENOENT));
}

#[test]
fn releases_of_kernels_are_told_apart() {
    for (release, reports) in [
        ("5.8.0-generic", true),
        ("5.10.209", true),
        ("6.1.0-18-amd64\n", true),
        ("10.0", true),
        ("5.7.19", false),
        ("4.19.0", false),
        ("5", false),
        ("", false),
        ("weird", false),
    ] {
        assert_eq!(release_is_5_8(release), reports, "{release}");
    }
}

#[test]
fn an_interrupted_call_is_made_again() {
    let mut calls = 0;
    let result = retry(|| {
        calls += 1;
        if calls < 3 {
            Err(io::ErrorKind::Interrupted.into())
        } else {
            Err::<(), _>(io::ErrorKind::NotFound.into())
        }
    });
    assert_eq!((calls, result.unwrap_err().kind()), (3, io::ErrorKind::NotFound));
}

#[test]
fn a_full_file_is_an_error_and_not_a_short_write() {
    // The device that is always full.
    let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut full = RealFile { file, shared: RealDisk::default().shared };
    assert_eq!(full.append(b"content").unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_link_to_a_directory_is_resolved_and_a_plain_path_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::default();
    let (target, link) = (dir.path().join("target"), dir.path().join("link"));
    std::fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("dangling")).unwrap();
    assert_eq!(disk.resolve(&target).unwrap(), target);
    assert_eq!(disk.resolve(&link).unwrap(), target.canonicalize().unwrap());
    let error = disk.resolve(&dir.path().join("dangling")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_directory_is_known_by_its_number_whatever_its_name_is() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::default();
    let (here, away) = (dir.path().join("here"), dir.path().join("away"));
    disk.create_dir(&here).unwrap();
    let lock = disk.lock(&here).unwrap();
    assert_eq!(disk.identity(&here).unwrap(), lock.identity());
    disk.rename(&here, &away).unwrap();
    disk.create_dir(&here).unwrap();
    assert_ne!(disk.identity(&here).unwrap(), lock.identity());
    assert_eq!(disk.identity(&away).unwrap(), lock.identity());
}

#[test]
fn there_is_no_more_room_than_the_file_system_has() {
    let dir = tempfile::tempdir().unwrap();
    let space = RealDisk::default().space(dir.path()).unwrap();
    assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes, "{space:?}");
}
