//! CPU time and memory of another process, from `/proc`.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Linux gives times in `/proc/PID/stat` in units of 1/100 s on every architecture we know (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident pages, of files and anonymous.
    pub rss_bytes: u64,
    /// Resident pages that no file backs: what cannot be dropped under pressure.
    pub anonymous_bytes: u64,
    /// The largest resident size so far.
    pub peak_rss_bytes: u64,
}

/// User and system CPU time of a process and its ended threads, to 10 ms.
///
/// # Errors
///
/// When the process is gone or `/proc` is not what we know.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

/// Memory of a process.
///
/// # Errors
///
/// When the process is gone, or belongs to another user.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(Memory {
        rss_bytes: field_bytes(&rollup, "Rss:")?,
        anonymous_bytes: field_bytes(&rollup, "Anonymous:")?,
        peak_rss_bytes: field_bytes(&status, "VmHWM:")?,
    })
}

/// What the files below a directory occupy on the disk, in bytes.
///
/// # Errors
///
/// When the directory cannot be read. Files that vanish meanwhile count as nothing.
pub fn disk_bytes(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(data) if data.is_dir() => disk_bytes(&entry.path())?,
            // 512 whatever the file system's block is.
            Ok(data) => data.blocks() * 512,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

fn parse_stat(text: &str) -> io::Result<Duration> {
    // The name in parentheses may hold spaces and parentheses itself; fields are counted behind the last one.
    let rest = text.rsplit_once(')').map(|(_, rest)| rest).ok_or_else(|| strange("stat"))?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks =
        || fields.next().and_then(|field| field.parse::<u64>().ok()).ok_or_else(|| strange("stat"));
    let total = ticks()? + ticks()?;
    Ok(Duration::from_millis(total * 1000 / TICKS_PER_SECOND))
}

fn field_bytes(text: &str, name: &str) -> io::Result<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok())
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| strange(name))
}

fn strange(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc does not say {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_spaces_and_parentheses() {
        let text = "42 (a (b) c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(parse_stat(text).unwrap(), Duration::from_secs(3));
        assert!(parse_stat("42 no name").is_err());
    }

    #[test]
    fn fields_in_kilobytes_are_found_by_name() {
        let text = "Rss:                2048 kB\nPss:  1 kB\nAnonymous:         4 kB\n";
        assert_eq!(field_bytes(text, "Anonymous:").unwrap(), 4096);
        assert!(field_bytes(text, "Swap:").is_err());
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.rss_bytes > 100_000 && memory.peak_rss_bytes >= memory.anonymous_bytes, "{memory:?}");
        cpu_time(std::process::id()).unwrap();
    }

    #[test]
    fn files_of_sub_directories_count() {
        let directory = std::env::temp_dir().join(format!("loadgen-disk-{}", std::process::id()));
        fs::create_dir_all(directory.join("a/b")).unwrap();
        let before = disk_bytes(&directory).unwrap();
        let mut file = fs::File::create(directory.join("a/b/c")).unwrap();
        io::Write::write_all(&mut file, &[7; 100_000]).unwrap();
        file.sync_all().unwrap();
        let after = disk_bytes(&directory).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert!(after - before >= 100_000, "{before} {after}");
    }
}
