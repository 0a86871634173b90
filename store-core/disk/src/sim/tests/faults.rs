//! Tests of failing calls and of the crash.

use super::*;

#[test]
fn faults_hit_the_calls_they_are_told_to() {
    let disk = SimDisk::new();
    let creates = |call: &Call| call.op == Op::Create && call.path.starts_with("/x");
    disk.fail(Fault::new(Effect::Error(libc::EMFILE), creates).after(1).times(2));
    let create = |name: &str| disk.create(p(name)).map(drop).map_err(|e| e.raw_os_error());
    let failed = Err(Some(libc::EMFILE));
    assert_eq!(create("/x/none"), Err(Some(libc::ENOENT)), "the first passes, and fails for what it is");
    assert_eq!(create("/y"), Ok(()));
    assert_eq!(create("/x"), failed);
    assert_eq!(create("/x"), failed);
    assert_eq!(create("/x"), Ok(()));
    assert_eq!(disk.fault_hits(), 2);
    disk.fail(Fault::new(Effect::Error(libc::EROFS), |call| call.op.changes()).for_ever());
    for _ in 0..10 {
        assert_eq!(create("/z"), Err(Some(libc::EROFS)));
    }
    assert_eq!(disk.list(p("/")).unwrap().len(), 2);
    disk.clear_faults();
    assert_eq!(create("/z"), Ok(()));
}

#[test]
fn every_call_can_be_failed_by_its_number_and_then_does_nothing() {
    let run = |disk: &SimDisk| -> io::Result<()> {
        disk.create_dir(p("/d"))?;
        disk.resolve(p("/d"))?;
        disk.identity(p("/d"))?;
        disk.space(p("/d"))?;
        let lock = disk.lock(p("/d"))?;
        let mut file = disk.create(p("/d/a"))?;
        file.append(b"content")?;
        file.sync()?;
        disk.sync_file(p("/d/a"))?;
        disk.sync_dir(p("/d"))?;
        disk.sync_all(p("/"))?;
        disk.rename(p("/d/a"), p("/d/b"))?;
        disk.rename_over(p("/d/b"), p("/d/a"))?;
        disk.list(p("/d"))?;
        disk.read(p("/d/a"))?;
        disk.read_front(p("/d/a"), 3)?;
        disk.open(p("/d/a"))?;
        disk.len(p("/d/a"))?;
        drop(lock);
        disk.remove(p("/d/a"))?;
        disk.remove_dir(p("/d")).map(drop)
    };
    let disk = SimDisk::new();
    run(&disk).unwrap();
    assert_eq!(disk.calls(), Op::ALL.iter().filter(|op| op.is_counted()).count() as u64);
    assert_eq!(Op::ALL.map(|op| disk.calls_of(op)), Op::ALL.map(|op| u64::from(op.is_counted())));
    assert_eq!(disk.changes(), Op::ALL.iter().filter(|op| op.changes()).count() as u64);
    for number in 0..disk.calls() {
        let (failed, before, crashed) = (SimDisk::new(), SimDisk::new(), SimDisk::new());
        failed.fail(Fault::at(Effect::Error(libc::ENOSPC), number));
        assert_eq!(code(run(&failed)), Some(libc::ENOSPC));
        assert_eq!(failed.calls(), number + 1);
        before.crash_at(number, Torn::Nothing);
        assert!(SimDisk::is_crash(&run(&before).unwrap_err()));
        assert_eq!(failed.image_hash(), before.image_hash(), "call {number}");
        // Done and not told is the same as crashing one call later.
        crashed.crash_at(number, Torn::All);
        assert!(SimDisk::is_crash(&run(&crashed).unwrap_err()));
        let next = SimDisk::new();
        next.crash_at(number + 1, Torn::Nothing);
        assert_eq!(run(&next).is_ok(), number + 1 == disk.calls());
        assert_eq!(crashed.image_hash(), next.image_hash(), "call {number}");
        let done = SimDisk::new();
        done.fail(Fault::at(Effect::Done(libc::EIO), number));
        assert_eq!(code(run(&done)), Some(libc::EIO));
        assert_eq!(done.image_hash(), next.image_hash(), "call {number}");
    }
}

#[test]
fn a_short_write_leaves_its_beginning() {
    let (disk, mut file) = with_file();
    disk.fail(Fault::new(Effect::Short(Torn::Bytes(3), libc::ENOSPC), |call| call.op == Op::Append));
    assert_eq!(code(file.append(b"content")), Some(libc::ENOSPC));
    assert_eq!(content(&disk, "/d/a").unwrap(), "con");
    assert_eq!(content(&nothing(&disk), "/d/a").unwrap(), "");
}

#[test]
fn writes_are_torn_at_sectors_of_the_file() {
    for (torn, offset, bytes, written) in [
        (Torn::Nothing, 0, 2000, 0),
        (Torn::Bytes(7), 100, 2000, 7),
        (Torn::Bytes(7), 100, 5, 5),
        (Torn::Sectors(0), 100, 2000, 0),
        (Torn::Sectors(1), 0, 2000, 512),
        (Torn::Sectors(1), 100, 2000, 412),
        (Torn::Sectors(3), 100, 2000, 1436),
        (Torn::Sectors(9), 100, 2000, 2000),
        (Torn::Sectors(usize::MAX), 100, 2000, 2000),
        (Torn::All, 100, 2000, 2000),
    ] {
        assert_eq!(torn.len(offset, bytes), written, "{torn:?} at {offset}");
    }
}

#[test]
fn from_the_crash_on_every_call_fails_and_nothing_changes() {
    let (disk, mut file) = with_file();
    let lock = disk.lock(p("/d")).unwrap();
    disk.crash_when(|call| call.op == Op::Append, 1, Torn::Sectors(1));
    file.append(b"whole").unwrap();
    assert!(!disk.crashed());
    assert!(SimDisk::is_crash(&file.append(&[b'x'; 600]).unwrap_err()));
    assert!(disk.crashed());
    let image = disk.image_hash();
    assert_eq!(disk.contents("/d/a").unwrap().len(), 512);
    for error in [
        file.append(b"more").unwrap_err(),
        file.sync().unwrap_err(),
        disk.read(p("/d/a")).map(drop).unwrap_err(),
        disk.sync_all(p("/")).map(drop).unwrap_err(),
        disk.sync_file(p("/none")).unwrap_err(),
        disk.sync_all(p("/none")).map(drop).unwrap_err(),
        disk.remove(p("/d/a")).unwrap_err(),
    ] {
        assert!(SimDisk::is_crash(&error), "{error}");
    }
    assert_eq!(disk.image_hash(), image);
    let killed = disk.after_kill();
    drop(killed.lock(p("/d")).unwrap());
    drop(lock);
    assert!(!SimDisk::is_crash(&killed.read(p("/d")).unwrap_err()));
    disk.fork().crash_now();
}

#[test]
fn calls_are_recorded() {
    let disk = SimDisk::new();
    disk.create_dir(p("/d")).unwrap();
    disk.record();
    write(&disk, "/d/a", &[b"abc"]);
    disk.rename(p("/d/a"), p("/d/b")).unwrap();
    let call = |number, op, to: Option<&str>, bytes| {
        let (path, to) = (PathBuf::from("/d/a"), to.map(PathBuf::from));
        Call { number, op, path, to, bytes }
    };
    assert_eq!(
        disk.trace(),
        [call(1, Op::Create, None, 0), call(2, Op::Append, None, 3), call(3, Op::Rename, Some("/d/b"), 0)]
    );
}

#[test]
fn looks_are_not_counted_and_are_hit_by_what_they_are() {
    let disk = SimDisk::new();
    disk.fail(Fault::new(Effect::Error(libc::EIO), |call| call.op == Op::Identity).times(2).on_looks());
    disk.fail(Fault::at(Effect::Error(libc::ENOSPC), 0));
    assert_eq!(code(disk.identity(p("/")).map(drop)), Some(libc::EIO));
    assert_eq!(code(disk.identity(p("/")).map(drop)), Some(libc::EIO));
    disk.identity(p("/")).unwrap();
    assert_eq!((disk.calls(), disk.fault_hits()), (0, 2));
    assert_eq!(code(disk.create_dir(p("/d")).map(drop)), Some(libc::ENOSPC), "the first that is counted");
}

#[test]
fn a_disk_with_an_end_takes_what_fits_and_what_is_removed_makes_room() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(10));
    let mut file = disk.create(p("/a")).unwrap();
    file.append(b"1234567").unwrap();
    assert_eq!(disk.space(p("/")).unwrap().free_bytes, 3);
    assert_eq!(code(file.append(b"89abcdef")), Some(libc::ENOSPC));
    assert_eq!(disk.contents("/a").unwrap(), b"123456789a");
    disk.remove(p("/a")).unwrap();
    assert_eq!(disk.space(p("/")).unwrap().free_bytes, 10);
}
