//! A checkpoint directory may hold anything: hosts are found, the rest is reported and left alone.

use std::path::{Path, PathBuf};

use store_checkpoint::files::{HostDirs, HostFiles};
use store_disk::sim::{Effect, Fault, Op};
use store_disk::{RealDisk, SimDisk};

fn hosts(found: &HostDirs) -> Vec<(&str, &str)> {
    found.hosts.iter().map(|dir| (&*dir.cluster, &*dir.host)).collect()
}

fn strewn() -> SimDisk {
    let disk = SimDisk::new();
    disk.put("data/alpha/n2/1000.bin", Vec::new()).unwrap();
    disk.put_dir("data/alpha/n1").unwrap();
    disk.put_dir("data/empty").unwrap();
    disk.put("data/beta/current.wal", Vec::new()).unwrap();
    disk.put_dir("data/beta/del ta,9").unwrap();
    disk.put("data/README.txt", Vec::new()).unwrap();
    disk.put_other("data/link").unwrap();
    disk.put("data/.wal/00000000000000000001.wal", Vec::new()).unwrap();
    disk
}

#[test]
fn hosts_are_found_between_strays() {
    let found = HostDirs::list(&strewn(), Path::new("data")).unwrap();
    assert_eq!(hosts(&found), [("alpha", "n1"), ("alpha", "n2"), ("beta", "del ta,9")]);
    assert_eq!(found.hosts[0].path, Path::new("data/alpha/n1"));
    let strays = ["data/README.txt", "data/beta/current.wal", "data/link"].map(PathBuf::from);
    assert_eq!(found.strays, strays);
    assert!(found.unlisted.is_empty());
}

#[test]
fn a_cluster_that_cannot_be_listed_costs_no_other() {
    let disk = strewn();
    let denied = |call: &store_disk::sim::Call| call.op == Op::List && call.path.ends_with("alpha");
    disk.fail(Fault::new(Effect::Error(13), denied));
    let found = HostDirs::list(&disk, Path::new("data")).unwrap();
    assert_eq!(hosts(&found), [("beta", "del ta,9")]);
    let unlisted: Vec<_> = found.unlisted.iter().map(|e| e.path.as_path()).collect();
    assert_eq!(unlisted, [Path::new("data/alpha")]);
}

#[test]
fn a_directory_that_is_not_there_is_empty_and_one_that_cannot_be_listed_is_an_error() {
    let disk = strewn();
    assert!(HostDirs::list(&disk, Path::new("nothing")).unwrap().hosts.is_empty());
    assert_eq!(HostFiles::list(&disk, Path::new("nothing/at/all")).unwrap(), HostFiles::default());
    let error = HostDirs::list(&disk, Path::new("data/README.txt")).unwrap_err();
    assert_eq!(error.to_string(), "cannot list data/README.txt");
}

#[test]
fn names_that_are_not_utf_8_are_strays_or_foreign() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let directory = tempfile::tempdir().unwrap();
    let odd = OsStr::from_bytes(b"n\xff");
    let cluster = directory.path().join("alpha");
    std::fs::create_dir_all(cluster.join(odd)).unwrap();
    std::fs::create_dir_all(cluster.join("n1")).unwrap();
    std::fs::create_dir_all(directory.path().join(odd)).unwrap();
    std::fs::File::create(cluster.join("n1").join(OsStr::from_bytes(b"\xff.json"))).unwrap();

    let disk = RealDisk::new(0);
    let found = HostDirs::list(&disk, directory.path()).unwrap();
    assert_eq!(hosts(&found), [("alpha", "n1")]);
    assert_eq!(found.strays, [cluster.join(odd), directory.path().join(odd)]);
    let files = HostFiles::list(&disk, &cluster.join("n1")).unwrap();
    assert_eq!(files.unnumbered, [OsStr::from_bytes(b"\xff.json")]);
}
