//! The last words where a mapped page is lost between its check and its use: the name of the file.
//!
//! A page can be thrown out of memory at any time and its disk may refuse it the next moment. Nothing but a signal tells. The
//! process cannot go on, since whoever read the page was promised its bytes; but it can say which file it was. The next start reads
//! what it needs of the file, and finds the page.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Maps that can be named; of more the handler says only that it was one. As many as Linux allows a process by itself.
const MAPS_MAX: usize = 1 << 16;

/// Status of the process when it ends so: an error of input or output, by the convention of sysexits.h.
pub(super) const EXIT_STATUS: i32 = 74;

/// One map: written by its owner, read by the handler, which may not wait for a lock.
struct Entry {
    /// First address; 0: free. Written last, and cleared first.
    start: AtomicUsize,
    end: AtomicUsize,
    path: AtomicPtr<libc::c_char>,
}

impl Entry {
    #[expect(clippy::declare_interior_mutable_const, reason = "what each entry begins as")]
    const FREE: Self = Self {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        path: AtomicPtr::new(std::ptr::null_mut()),
    };
}

/// Pages of it that were never used take no memory.
static ENTRIES: [Entry; MAPS_MAX] = [const { Entry::FREE }; MAPS_MAX];

/// Where the search for a free entry begins.
static HINT: AtomicUsize = AtomicUsize::new(0);

/// Up to here entries were used: the handler looks no further.
static USED: AtomicUsize = AtomicUsize::new(0);

/// The value of `start` while an entry is being written: no address of a page.
const RESERVED: usize = 1;

static INSTALL: Once = Once::new();

/// The entry of a map, as long as that lives.
pub(super) struct Registered {
    at: Option<usize>,
    /// What the entry points to.
    _path: CString,
}

impl Registered {
    /// Enters a map, and installs the handler with the first one.
    pub(super) fn new(map: &[u8], path: &Path) -> Self {
        INSTALL.call_once(install);
        // A path has no zero bytes.
        let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        let begin = HINT.load(Ordering::Relaxed);
        let at = (0..MAPS_MAX).map(|n| (begin + n) % MAPS_MAX).find(|&at| {
            ENTRIES[at].start.compare_exchange(0, RESERVED, Ordering::Acquire, Ordering::Relaxed).is_ok()
        });
        if let Some(at) = at {
            let entry = &ENTRIES[at];
            entry.end.store(map.as_ptr().addr() + map.len(), Ordering::Relaxed);
            entry.path.store(path.as_ptr().cast_mut(), Ordering::Relaxed);
            entry.start.store(map.as_ptr().addr(), Ordering::Release);
            HINT.store(at + 1, Ordering::Relaxed);
            USED.fetch_max(at + 1, Ordering::Relaxed);
        }
        Self { at, _path: path }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            // Nobody touches the map any more, so that the handler does not read the path meanwhile.
            ENTRIES[at].start.store(0, Ordering::Release);
            HINT.fetch_min(at, Ordering::Relaxed);
        }
    }
}

/// The path of the map that holds an address.
fn path_of(address: usize) -> Option<*const libc::c_char> {
    let used = USED.load(Ordering::Relaxed).min(MAPS_MAX);
    let entry = ENTRIES[..used].iter().find(|entry| {
        let start = entry.start.load(Ordering::Acquire);
        start > RESERVED && (start..entry.end.load(Ordering::Relaxed)).contains(&address)
    })?;
    Some(entry.path.load(Ordering::Relaxed).cast_const())
}

#[expect(unsafe_code, reason = "a signal handler cannot be installed safely")]
fn install() {
    // SAFETY: `action` is zeroed, which is valid for it, and its fields are then set as sigaction(2) says. The
    // handler only does what is allowed in one: see there.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        // That it fails for a signal that can be caught cannot be: then the signal ends the process as it would have.
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

/// Names the file and ends the process; leaves what is no map of ours to the system.
#[expect(unsafe_code, reason = "a signal handler is called with pointers of the system")]
extern "C" fn on_sigbus(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: `info` is valid for the time of the call. Nothing here allocates, locks or unwinds: it loads atomics, and calls
    // write(2), strlen(3), sigaction(2) and _exit(2), which may be called in a handler. The path is owned by an entry whose map
    // is being read at this moment, so that it lives.
    unsafe {
        let Some(path) = path_of((*info).si_addr().addr()) else {
            // Returning runs the same instruction again, and the system does what it does without a handler.
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
            return;
        };
        let say = |bytes: *const libc::c_void, len| libc::write(libc::STDERR_FILENO, bytes, len);
        let (front, end) = (
            &b"fatal: a page of a mapped file was lost while it was read (the file was cut, or its disk refuses it): "[..],
            &b". Start again: what the file still gives is read, and what it does not is reported.\n"[..],
        );
        say(front.as_ptr().cast(), front.len());
        say(path.cast(), libc::strlen(path));
        say(end.as_ptr().cast(), end.len());
        libc::_exit(EXIT_STATUS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_map_leads_to_its_path_until_the_map_goes() {
        // Memory of this process, which nobody maps meanwhile.
        let one: Box<[u8]> = vec![0; 5000].into();
        let two: Box<[u8]> = vec![0; 5000].into();
        let name = |address: usize| {
            #[expect(unsafe_code, reason = "what the handler would print")]
            // SAFETY: the entry that it is found in lives in this test.
            path_of(address).map(|path| unsafe { std::ffi::CStr::from_ptr(path) }.to_owned())
        };
        let (a, b) = (Registered::new(&one, Path::new("/a")), Registered::new(&two, Path::new("/b")));
        assert_eq!(name(one.as_ptr().addr()).unwrap().to_bytes(), b"/a");
        assert_eq!(name(two.as_ptr().addr() + 4999).unwrap().to_bytes(), b"/b");
        drop(a);
        assert!(name(one.as_ptr().addr()).is_none());
        assert!(name(two.as_ptr().addr()).is_some());
        drop(b);
        assert!(name(two.as_ptr().addr()).is_none());
    }
}
