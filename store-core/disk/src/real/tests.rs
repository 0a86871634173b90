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

/// A file, mapped.
fn map(disk: &RealDisk, path: &Path) -> Option<Arc<dyn FileView>> {
    disk.open(path).unwrap().view().unwrap()
}

fn bytes_of(view: &dyn FileView) -> Vec<u8> {
    view.ensure(0..view.len());
    view.get(0..view.len()).unwrap().into_owned()
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
    let opened = disk.open(&path).unwrap();
    assert_eq!((opened.len(), &*opened.read_at(4..7).unwrap()), (7, &b"two"[..]));
    assert_eq!(opened.read_at(4..8).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let view = opened.view().unwrap().unwrap();
    assert_eq!((bytes_of(&*view), view.read(2..5).unwrap()), (b"one two".to_vec(), b"e t".to_vec()));
    assert_eq!(view.get(4..8).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(disk.len(&path).unwrap(), 7);
}

#[test]
fn a_map_outlives_the_name_and_gives_its_slot_back() {
    let (dir, disk) = scratch();
    let path = file(&disk, &dir, "a", b"content");
    let map = map(&disk, &path).expect("is the directory for temporary files on a network file system?");
    assert_eq!(disk.maps(), 1);
    disk.remove(&path).unwrap();
    map.ensure(3..7);
    assert_eq!(&*map.get(3..7).unwrap(), b"tent");
    assert_eq!(map.read(0..3).unwrap(), b"con", "also where there is no name to read it by");
    assert_eq!(disk.clone().maps(), 1);
    drop(map);
    assert_eq!(disk.maps(), 0);
}

#[test]
fn a_map_of_a_file_that_grows_holds_what_it_had() {
    let dir = TempDir::new().unwrap();
    let disk = RealDisk::new(2);
    let mut file = disk.create(&dir.path().join("grows")).unwrap();
    assert!(file.view().unwrap().is_none(), "of nothing there is no map");
    file.append(b"first").unwrap();
    let first = file.view().unwrap().unwrap();
    file.append(b" second").unwrap();
    let second = file.view().unwrap().unwrap();
    assert_eq!((bytes_of(&*first), bytes_of(&*second)), (b"first".to_vec(), b"first second".to_vec()));
    assert!(file.view().unwrap().is_none(), "beyond the budget");
    drop(first);
    assert!(file.view().unwrap().is_some(), "one was given back");
}

#[test]
fn beyond_the_budget_files_are_read_instead_of_mapped() {
    let dir = TempDir::new().unwrap();
    let disk = RealDisk::new(2);
    let path = file(&disk, &dir, "a", b"content");
    let mut maps: Vec<_> = (0..5).map(|_| map(&disk, &path)).collect();
    assert_eq!(maps.iter().flatten().count(), 2);
    assert_eq!(disk.maps(), 2);
    maps.remove(0);
    assert_eq!(disk.maps(), 1);
    let (none, opened) = (RealDisk::new(0), RealDisk::new(0).open(&path).unwrap());
    assert!(map(&none, &path).is_none());
    assert_eq!(&*opened.read_at(0..7).unwrap(), b"content");
}

#[test]
fn an_empty_file_is_not_mapped() {
    let (dir, disk) = scratch();
    let path = file(&disk, &dir, "a", b"");
    assert!(map(&disk, &path).is_none());
    assert_eq!((disk.open(&path).unwrap().len(), disk.maps()), (0, 0));
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
    assert_eq!(code(disk.open(&to_file)), Some(libc::ELOOP));
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
    assert_eq!(disk.open(zeros).unwrap_err().kind(), io::ErrorKind::InvalidInput);
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
    assert_eq!(disk.sync_all(dir.path()).unwrap(), kernel_is(SYNCFS_REPORTS_SINCE) && own);
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
        assert_eq!(release_is(release, (5, 8)), reports, "{release}");
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
    let mut full = RealFile { file, path: "/dev/full".into(), shared: RealDisk::default().shared };
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

/// Both ways to the bytes of a map.
const WAYS: [PageAccess; 2] = [PageAccess::Populate, PageAccess::Read];

/// A file of `pages` pages, each full of its number, and a map of it.
fn paged(access: PageAccess, pages: u8) -> (TempDir, PathBuf, Arc<dyn FileView>) {
    let (dir, disk) = (TempDir::new().unwrap(), RealDisk::with_access(10, access));
    let content: Vec<u8> = (0..pages).flat_map(|page| [page; 4096]).collect();
    let path = file(&disk, &dir, "paged", &content);
    let view = map(&disk, &path).unwrap();
    (dir, path, view)
}

#[test]
fn a_file_that_is_cut_under_its_map_gives_what_it_still_has_and_errors_for_the_rest() {
    for access in WAYS {
        let (_dir, path, view) = paged(access, 8);
        // Looked at before, so that its pages are in the map.
        assert_eq!(bytes_of(&*view).len(), 8 * 4096);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(3 * 4096 + 10).unwrap();
        for page in [7, 0, 4, 2] {
            let range = page * 4096..(page + 1) * 4096;
            view.ensure(range.clone());
            match view.get(range.clone()) {
                Ok(bytes) => assert_eq!((page < 3, &*bytes), (true, &[page as u8; 4096][..]), "page {page}"),
                Err(e) => assert_eq!((page < 3, e.kind()), (false, io::ErrorKind::UnexpectedEof)),
            }
            assert_eq!(view.read(range).is_ok(), page < 3);
        }
        // A run that is good in part only.
        view.ensure(2 * 4096..5 * 4096);
        assert_eq!(view.get(2 * 4096..3 * 4096).unwrap()[0], 2);
        assert!(view.get(2 * 4096..5 * 4096).is_err());
    }
}

#[test]
fn another_file_under_the_name_of_a_map_is_not_taken_for_it() {
    for access in WAYS {
        let (dir, path, view) = paged(access, 2);
        fs::remove_file(&path).unwrap();
        std::io::Write::write_all(&mut fs::File::create(&path).unwrap(), &[9; 8192]).unwrap();
        assert_eq!((bytes_of(&*view)[4096], view.read(0..1).unwrap()), (1, vec![0]), "{access:?}");
        drop(dir);
    }
}

/// Names the test below to a process of its own, which it ends.
const CHILD: &str = "TOUCHES_A_LOST_PAGE";

/// Runs a test of this crate in a process of its own.
fn in_another_process(name: &str) -> std::process::Output {
    let test = std::env::current_exe().unwrap();
    let run = [name, "--exact", "--nocapture"];
    std::process::Command::new(test).args(run).env(CHILD, "1").output().unwrap()
}

#[test]
fn touching_a_page_that_is_lost() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let (_dir, path, view) = paged(PageAccess::Populate, 2);
    view.ensure(0..8192);
    let bytes = view.get(0..8192).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(bytes[4097], 1, "this is not come to");
}

#[test]
fn a_page_that_is_lost_between_its_check_and_its_use_ends_the_process_with_the_name_of_the_file() {
    let output = in_another_process("real::tests::touching_a_page_that_is_lost");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(sigbus::EXIT_STATUS), "{out}{err}");
    assert!(err.contains("/paged. Start again"), "{out}{err}");
}
