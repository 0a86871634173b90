//! Tests of atomic replacement, on a disk that crashes and fails at every call.

use super::*;
use crate::SimDisk;
use crate::sim::{Effect, Fault, Keep, Torn};

const OLD: &[u8] = b"old content";
const NEW: &[u8] = b"the new content";

fn path() -> &'static Path {
    Path::new("/d/name")
}

/// A disk with `/d`, and the old file in it if `old`.
fn disk(old: bool) -> SimDisk {
    let disk = SimDisk::new();
    disk.put_dir("/d").unwrap();
    if old {
        disk.put(path(), OLD).unwrap();
    }
    disk
}

/// In two parts, so that one may be lost without the other.
fn in_parts(file: &mut dyn DiskFile) -> io::Result<()> {
    let (front, back) = NEW.split_at(5);
    file.append(front)?;
    file.append(back)
}

fn replace_in_parts(disk: &SimDisk) -> Result<(), ReplaceError> {
    replace_with(disk, path(), in_parts)
}

type Way = fn(&SimDisk) -> Result<(), ReplaceError>;

/// Crashes `way` at every call, torn in every way, and looks at every image. Gives the first thing wrong.
fn harm(way: Way) -> Result<usize, String> {
    let mut images = 0;
    let calls = {
        let disk = disk(true);
        way(&disk).unwrap();
        disk.calls()
    };
    for number in 0..=calls {
        for torn in [Torn::Nothing, Torn::Bytes(2), Torn::All] {
            let disk = disk(true);
            disk.crash_at(number, torn);
            let done = way(&disk).is_ok();
            for (crash, image) in disk.images(50, number) {
                images += 1;
                let found = image.contents(path());
                let right = found.as_deref() == Some(NEW) || !done && found.as_deref() == Some(OLD);
                if !right {
                    return Err(format!("call {number}, {torn:?}, {crash:?}: {found:?}"));
                }
            }
        }
    }
    Ok(images)
}

#[test]
fn after_a_crash_at_any_call_the_name_holds_the_old_content_or_the_new() {
    let images = harm(replace_in_parts).unwrap();
    assert!(images > 50, "only {images} images");
}

#[test]
fn the_crash_test_finds_a_missing_sync_of_either_kind_and_writing_in_place() {
    let without_file_sync: Way = |disk| {
        let tmp = tmp_path(path(), 0);
        let fail = |source| ReplaceError::Tmp { path: "/d".into(), source };
        let mut file = disk.create(&tmp).map_err(fail)?;
        in_parts(&mut *file).map_err(fail)?;
        disk.rename_over(&tmp, path()).map_err(fail)?;
        disk.sync_dir(Path::new("/d")).map_err(fail)
    };
    let without_dir_sync: Way = |disk| {
        let tmp = tmp_path(path(), 0);
        let fail = |source| ReplaceError::Tmp { path: "/d".into(), source };
        let mut file = disk.create(&tmp).map_err(fail)?;
        in_parts(&mut *file).and_then(|()| file.sync()).map_err(fail)?;
        disk.rename_over(&tmp, path()).map_err(fail)
    };
    let in_place: Way = |disk| {
        let fail = |source| ReplaceError::Tmp { path: "/d".into(), source };
        disk.remove(path()).map_err(fail)?;
        let mut file = disk.create(path()).map_err(fail)?;
        in_parts(&mut *file).and_then(|()| file.sync()).map_err(fail)?;
        disk.sync_dir(Path::new("/d")).map_err(fail)
    };
    for (name, way) in [("file", without_file_sync), ("directory", without_dir_sync), ("in place", in_place)]
    {
        assert!(harm(way).is_err(), "{name}: not found");
    }
}

#[test]
fn whatever_call_fails_success_means_durable_and_an_error_says_what_is_left() {
    let calls = {
        let disk = disk(true);
        replace_in_parts(&disk).unwrap();
        disk.calls()
    };
    let mut failed = [0; 3];
    for number in 0..calls {
        for code in [libc::EIO, libc::ENOSPC, libc::EMFILE, libc::EROFS, libc::EACCES] {
            for effect in [Effect::Error(code), Effect::Short(Torn::Bytes(3), code), Effect::Lose(code)] {
                let disk = disk(true);
                disk.fail(Fault::at(effect, number));
                let error = replace_in_parts(&disk).expect_err("the failed call went unnoticed");
                let (now, source) = match &error {
                    ReplaceError::Tmp { source, .. } => (OLD, (0, source)),
                    ReplaceError::Rename { source, .. } => (OLD, (1, source)),
                    ReplaceError::SyncDir { source, .. } => (NEW, (2, source)),
                };
                failed[source.0] += 1;
                assert_eq!(source.1.raw_os_error(), Some(code));
                assert_eq!(disk.contents(path()).unwrap(), now, "{error}");
                assert_eq!(disk.files().len(), 1, "{error}: a temporary file is left");
                // Nothing is tried twice on the file whose sync failed: the second try is a new one.
                replace_in_parts(&disk).unwrap();
                assert_eq!(disk.after_power_loss(&Keep::Nothing).contents(path()).unwrap(), NEW);
            }
        }
    }
    assert!(failed.iter().all(|count| *count > 0), "{failed:?}");
}

#[test]
fn a_name_that_is_taken_is_not_created() {
    let taken = disk(true);
    let error = create(&taken, path(), NEW).unwrap_err();
    let ReplaceError::Rename { path: at, source } = &error else { panic!("{error:?}") };
    assert_eq!((at.as_path(), source.kind()), (path(), io::ErrorKind::AlreadyExists));
    assert_eq!(error.to_string(), "cannot rename to /d/name");
    assert_eq!(taken.files().into_values().collect::<Vec<_>>(), [OLD]);

    let free = disk(false);
    create_with(&free, path(), in_parts).unwrap();
    assert_eq!(free.after_power_loss(&Keep::Nothing).contents(path()).unwrap(), NEW);
}

#[test]
fn temporary_files_of_others_are_left_alone() {
    let disk = disk(true);
    disk.put("/d/name.tmp", "theirs").unwrap();
    disk.put("/d/name.1.tmp", "theirs too").unwrap();
    disk.record();
    replace(&disk, path(), NEW).unwrap();
    assert!(disk.trace().iter().any(|call| call.path == Path::new("/d/name.2.tmp")));
    assert_eq!(disk.contents(path()).unwrap(), NEW);
    assert_eq!(disk.files().len(), 3);
    assert_eq!(disk.contents("/d/name.tmp").unwrap(), b"theirs");
    for number in 2..TMP_NAMES_MAX {
        disk.put(format!("/d/name.{number}.tmp"), "").unwrap();
    }
    let error = replace(&disk, path(), OLD).unwrap_err();
    let ReplaceError::Tmp { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(disk.contents(path()).unwrap(), NEW);
}

#[test]
fn an_error_of_the_writer_leaves_the_old_content() {
    let disk = disk(true);
    let error = replace_with(&disk, path(), |_| Err(io::Error::other("no more"))).unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no more");
    assert_eq!(disk.files().into_iter().collect::<Vec<_>>(), [(path().to_owned(), OLD.to_vec())]);
}

#[test]
fn files_of_the_machine_are_replaced_too() {
    let dir = tempfile::TempDir::new().unwrap();
    let disk = crate::RealDisk::default();
    let path = dir.path().join("name");
    create(&disk, &path, OLD).unwrap();
    replace(&disk, &path, NEW).unwrap();
    assert_eq!(disk.read(&path).unwrap(), NEW);
    assert!(matches!(create(&disk, &path, OLD), Err(ReplaceError::Rename { .. })));
    assert_eq!(disk.list(dir.path()).unwrap().len(), 1);
}

#[test]
fn a_bare_name_stands_in_the_working_directory() {
    assert_eq!(directory_of(Path::new("name")), Path::new("."));
    assert_eq!(directory_of(Path::new("/name")), Path::new("/"));
    let disk = SimDisk::new();
    replace(&disk, Path::new("name"), NEW).unwrap();
    assert_eq!(disk.after_power_loss(&Keep::Nothing).contents("/name").unwrap(), NEW);
}
