//! What is told to go wrong: failing calls, and the crash.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SimDisk;

/// The calls of [`Disk`](crate::Disk) and [`DiskFile`](crate::DiskFile).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Op {
    CreateDir,
    List,
    Read,
    ReadFront,
    Map,
    Len,
    Create,
    Append,
    /// [`DiskFile::sync`](crate::DiskFile::sync).
    Sync,
    SyncFile,
    SyncDir,
    SyncAll,
    Rename,
    RenameOver,
    Remove,
    RemoveDir,
    Lock,
    /// Not counted as a call, as the next two.
    Resolve,
    Identity,
    Space,
}

impl Op {
    /// Every operation.
    pub const ALL: [Op; 20] = [
        Op::CreateDir,
        Op::List,
        Op::Read,
        Op::ReadFront,
        Op::Map,
        Op::Len,
        Op::Create,
        Op::Append,
        Op::Sync,
        Op::SyncFile,
        Op::SyncDir,
        Op::SyncAll,
        Op::Rename,
        Op::RenameOver,
        Op::Remove,
        Op::RemoveDir,
        Op::Lock,
        Op::Resolve,
        Op::Identity,
        Op::Space,
    ];

    /// Whether the call changes what a reboot would find; a crash between two others tells nothing new.
    pub fn changes(self) -> bool {
        !matches!(
            self,
            Op::List
                | Op::Read
                | Op::ReadFront
                | Op::Map
                | Op::Len
                | Op::Lock
                | Op::Resolve
                | Op::Identity
                | Op::Space
        )
    }

    /// Whether the call is counted, and a crash may come at it.
    pub fn is_counted(self) -> bool {
        !matches!(self, Op::Resolve | Op::Identity | Op::Space)
    }

    /// Whether the call makes something durable.
    pub fn syncs(self) -> bool {
        matches!(self, Op::Sync | Op::SyncFile | Op::SyncDir | Op::SyncAll)
    }
}

/// One call, as predicates and traces see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Calls that were made before it.
    pub number: u64,
    /// Which call.
    pub op: Op,
    /// The path as given; of a file handle, the one it was created with.
    pub path: PathBuf,
    /// Where a rename goes to.
    pub to: Option<PathBuf>,
    /// Bytes to append.
    pub bytes: usize,
}

/// What happens to a call that is told to fail. Errors are system error numbers, `libc::EIO` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does nothing and fails; what was not synced stays unsynced, and a later sync makes it durable.
    Error(i32),
    /// An append writes part of its bytes and fails. Other calls as [`Error`](Effect::Error).
    Short(Torn, i32),
    /// A sync of content fails and leaves the pages clean, though they are not on disk. Other calls, syncs of
    /// a directory too, as [`Error`](Effect::Error).
    Lose(i32),
    /// It does its work and fails all the same.
    Done(i32),
}

/// How much of an append is done when it is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Torn {
    /// None of it.
    Nothing,
    /// That many bytes.
    Bytes(usize),
    /// Up to the n-th border of a 512-byte sector of the file behind the place where it begins (0: nothing).
    Sectors(usize),
    /// All of it; any other call is done too, and yet its result is never seen.
    All,
}

impl Torn {
    /// Bytes written of an append of `bytes` bytes that begins at `offset`.
    pub(super) fn len(self, offset: u64, bytes: usize) -> usize {
        const SECTOR_BYTES: u64 = 512;
        match self {
            Torn::Nothing | Torn::Sectors(0) => 0,
            Torn::Bytes(n) => n.min(bytes),
            Torn::Sectors(n) => {
                let border = (offset / SECTOR_BYTES).saturating_add(n as u64).saturating_mul(SECTOR_BYTES);
                usize::try_from(border - offset).unwrap_or(usize::MAX).min(bytes)
            }
            Torn::All => bytes,
        }
    }
}

type When = Arc<dyn Fn(&Call) -> bool + Send + Sync>;

/// Calls that fail: those that `when` says, but for the first few, a number of times.
///
/// `when` runs inside the call: it must not use the disk.
#[derive(Clone)]
pub struct Fault {
    effect: Effect,
    when: When,
    skip: u64,
    times: u64,
    on_looks: bool,
}

impl Fault {
    /// Fails the first call that `when` says, once.
    pub fn new(effect: Effect, when: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        Self { effect, when: Arc::new(when), skip: 0, times: 1, on_looks: false }
    }

    /// Fails call number `number` if it is made.
    pub fn at(effect: Effect, number: u64) -> Self {
        Self::new(effect, move |call| call.number == number)
    }

    /// Lets the first `skip` such calls pass.
    #[must_use]
    pub fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// Fails `times` such calls in a row.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Fails calls that are [not counted](Op::is_counted), and no others.
    #[must_use]
    pub fn on_looks(mut self) -> Self {
        self.on_looks = true;
        self
    }

    /// Goes on failing such calls until [`SimDisk::clear_faults`].
    #[must_use]
    pub fn for_ever(self) -> Self {
        self.times(u64::MAX)
    }

    fn hits(&mut self, call: &Call) -> bool {
        if self.times == 0 || self.on_looks == call.op.is_counted() || !(self.when)(call) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({:?}, after {}, {} times)", self.effect, self.skip, self.times)
    }
}

/// What [`Script::begin`] decides.
pub(super) enum Verdict {
    Go,
    Fail(io::Error),
    Short(Torn, io::Error),
    Lose(io::Error),
    Done(io::Error),
}

/// Marks the error that every call gives from the crash on.
#[derive(Debug, thiserror::Error)]
#[error("the simulated machine has crashed")]
struct Crashed;

/// Counts calls and decides their fate.
#[derive(Clone, Default)]
pub(super) struct Script {
    pub(super) calls: u64,
    changes: u64,
    by_op: [u64; Op::ALL.len()],
    faults: Vec<Fault>,
    hits: u64,
    crash: Option<(When, u64, Torn)>,
    crashed: bool,
    trace: Option<Vec<Call>>,
}

impl Script {
    pub(super) fn begin(&mut self, op: Op, path: &Path, to: Option<&Path>, bytes: usize) -> Verdict {
        let call = Call { number: self.calls, op, path: path.to_owned(), to: to.map(Path::to_owned), bytes };
        self.calls += 1;
        self.changes += u64::from(op.changes());
        if let Some(count) = self.by_op.get_mut(op as usize) {
            *count += 1;
        }
        let verdict = self.judge(&call);
        if let Some(trace) = &mut self.trace {
            trace.push(call);
        }
        verdict
    }

    /// A call that is not counted, at which no crash comes, and that only faults for such calls hit.
    pub(super) fn look(&mut self, op: Op, path: &Path) -> Verdict {
        if self.crashed {
            return Verdict::Fail(io::Error::other(Crashed));
        }
        let call = Call { number: self.calls, op, path: path.to_owned(), to: None, bytes: 0 };
        let mut effect = None;
        for fault in &mut self.faults {
            if fault.hits(&call) {
                effect.get_or_insert(fault.effect);
            }
        }
        self.hits += u64::from(effect.is_some());
        match effect {
            Some(Effect::Error(code) | Effect::Short(_, code) | Effect::Lose(code) | Effect::Done(code)) => {
                Verdict::Fail(io::Error::from_raw_os_error(code))
            }
            None => Verdict::Go,
        }
    }

    fn judge(&mut self, call: &Call) -> Verdict {
        if self.crashed {
            return Verdict::Fail(io::Error::other(Crashed));
        }
        if let Some((when, skip, torn)) = &mut self.crash
            && when(call)
        {
            if *skip == 0 {
                let torn = *torn;
                self.crashed = true;
                let error = io::Error::other(Crashed);
                return match torn {
                    Torn::All => Verdict::Done(error),
                    _ => Verdict::Short(torn, error),
                };
            }
            *skip -= 1;
        }
        // All faults see the call, so that counting in one does not depend on another.
        let mut effect = None;
        for fault in &mut self.faults {
            if fault.hits(call) {
                effect.get_or_insert(fault.effect);
            }
        }
        self.hits += u64::from(effect.is_some());
        let error = io::Error::from_raw_os_error;
        match effect {
            None => Verdict::Go,
            Some(Effect::Error(code)) => Verdict::Fail(error(code)),
            Some(Effect::Short(torn, code)) => Verdict::Short(torn, error(code)),
            Some(Effect::Lose(code)) => Verdict::Lose(error(code)),
            Some(Effect::Done(code)) => Verdict::Done(error(code)),
        }
    }
}

impl SimDisk {
    /// Calls so far, failed ones included: the number that the next one will have.
    pub fn calls(&self) -> u64 {
        self.state().script.calls
    }

    /// Calls so far that [change](Op::changes) the disk.
    pub fn changes(&self) -> u64 {
        self.state().script.changes
    }

    /// Calls of one operation so far.
    pub fn calls_of(&self, op: Op) -> u64 {
        self.state().script.by_op.get(op as usize).copied().unwrap_or(0)
    }

    /// Begins to record calls, or begins again.
    pub fn record(&self) {
        self.state().script.trace = Some(Vec::new());
    }

    /// The calls since [`record`](SimDisk::record).
    pub fn trace(&self) -> Vec<Call> {
        self.state().script.trace.clone().unwrap_or_default()
    }

    /// Crashes at call number `number`: that call does what `torn` says and fails, as does every later one.
    pub fn crash_at(&self, number: u64, torn: Torn) {
        self.crash_when(move |call| call.number == number, 0, torn);
    }

    /// Crashes at the first call that `when` says behind `skip` others. Replaces an earlier crash that is
    /// still to come. `when` runs inside the call: it must not use the disk.
    pub fn crash_when(&self, when: impl Fn(&Call) -> bool + Send + Sync + 'static, skip: u64, torn: Torn) {
        self.state().script.crash = Some((Arc::new(when), skip, torn));
    }

    /// Crashes now: every later call fails.
    pub fn crash_now(&self) {
        self.state().script.crashed = true;
    }

    /// Whether the crash has come.
    pub fn crashed(&self) -> bool {
        self.state().script.crashed
    }

    /// Whether `error` is what calls give from the crash on.
    pub fn is_crash(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Crashed>())
    }

    /// Adds a fault. Where several hit the same call, the one added first decides.
    pub fn fail(&self, fault: Fault) {
        self.state().script.faults.push(fault);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.state().script.faults.clear();
    }

    /// Calls that a fault has hit.
    pub fn fault_hits(&self) -> u64 {
        self.state().script.hits
    }
}
