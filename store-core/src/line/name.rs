//! Which names the store takes.

/// Greatest length of a name in bytes: what a file name may have, and one byte in the original's log counts.
pub const NAME_BYTES_MAX: usize = 255;

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No byte at all.
    #[error("empty name")]
    Empty,
    /// Too long.
    #[error("name of {bytes} bytes, {bytes_max} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A control character, ASCII or not.
    #[error("control character at byte {at} of name")]
    Control {
        /// Index of its first byte.
        at: usize,
    },
    /// A slash or backslash in the name of a cluster or host.
    #[error("path separator at byte {at} of name")]
    Separator {
        /// Its index.
        at: usize,
    },
    /// `.` or `..`, or `.wal`, the directory of the log beside those of the clusters, or `*.corrupt-<n>`, which a start
    /// takes for something that was set aside.
    #[error("reserved name")]
    Reserved,
}

/// Checks the name of a metric or component: 1 to `bytes_max` bytes (at most [`NAME_BYTES_MAX`]), no control characters.
///
/// # Errors
/// [`NameError`] says what is wrong with it.
pub fn check_name(name: &str, bytes_max: usize) -> Result<(), NameError> {
    let bytes_max = bytes_max.min(NAME_BYTES_MAX);
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > bytes_max {
        return Err(NameError::TooLong { bytes: name.len(), bytes_max });
    }
    match name.find(char::is_control) {
        Some(at) => Err(NameError::Control { at }),
        None => Ok(()),
    }
}

/// Checks the name of a cluster or host, which becomes a directory: as [`check_name`], and nothing that a path means otherwise.
///
/// # Errors
/// [`NameError`] says what is wrong with it.
pub fn check_path_name(name: &str, bytes_max: usize) -> Result<(), NameError> {
    check_name(name, bytes_max)?;
    if let Some(at) = name.find(['/', '\\']) {
        return Err(NameError::Separator { at });
    }
    if matches!(name, "." | ".." | ".wal") || is_set_aside(name) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// Whether a name ends in `.corrupt-<n>`.
fn is_set_aside(name: &str) -> bool {
    name.rsplit_once(".corrupt-")
        .is_some_and(|(_, count)| !count.is_empty() && count.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_may_hold_what_a_host_may_not() {
        for name in ["a/b", "a\\b", ".", "..", ".wal", "00000000:49:00.0", " ", "ünï", "/"] {
            assert_eq!(check_name(name, NAME_BYTES_MAX), Ok(()), "{name}");
        }
        let separator = |at| Err(NameError::Separator { at });
        assert_eq!(check_path_name("a/b", 255), separator(1));
        assert_eq!(check_path_name("../evil", 255), separator(2));
        assert_eq!(check_path_name("\\", 255), separator(0));
        for name in [".", "..", ".wal", "node.corrupt-1", ".corrupt-20"] {
            assert_eq!(check_path_name(name, 255), Err(NameError::Reserved), "{name}");
        }
        for name in
            ["...", ".hidden", "a.b", "node 9", "node,9", "node=9", "%2e%2e", "n.corrupt-", "n.corrupt-x"]
        {
            assert_eq!(check_path_name(name, 255), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_have_one_to_255_bytes_whatever_the_limit_asked_for() {
        for check in [check_name, check_path_name] {
            assert_eq!(check("", 255), Err(NameError::Empty));
            assert_eq!(check(&"z".repeat(255), 255), Ok(()));
            let error = |bytes, bytes_max| Err(NameError::TooLong { bytes, bytes_max });
            assert_eq!(check(&"z".repeat(256), 255), error(256, 255));
            assert_eq!(check(&"z".repeat(300), 1000), error(300, 255));
            assert_eq!(check("abcd", 3), error(4, 3));
            assert_eq!(check(&"ü".repeat(128), 255), error(256, 255));
        }
    }

    #[test]
    fn control_characters_are_refused_wherever_they_come_from() {
        for (name, at) in [("\0", 0), ("a\nb", 1), ("ü\u{7f}", 2), ("ab\u{85}", 2), ("\t", 0)] {
            assert_eq!(check_name(name, 255), Err(NameError::Control { at }), "{name:?}");
            assert_eq!(check_path_name(name, 255), Err(NameError::Control { at }), "{name:?}");
        }
    }
}
