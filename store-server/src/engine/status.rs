//! What the engine counts, and what it says of itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use store_core::block::BlockState;
use store_core::ingest::Ingested;
use store_core::line::{Refusal, Skip};
use store_disk::Clock;

use super::Engine;
use super::ground::AtRisk;
use super::jobs::JobStatus;
use super::on_disk::OnDisk;
use super::problems::{Grade, Problem, Problems};
use super::tail::LogTail;
use super::waiting::Phase;

/// Offenders that are listed; older ones give way.
const LISTED_MAX: usize = 50;

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    messages: Count,
    message_bytes: Count,
    good: Count,
    bad: Count,
    skipped: [Count; Skip::ALL.len()],
    refused: [Count; Refusal::ALL.len()],
    freed: Count,
    merged: Count,
    registered: Count,
    pub(super) memory_only: Count,
    pub(super) unavailable: Count,
    pub(super) blocks_sealed: Count,
    pub(super) blocks_saved: Count,
    pub(super) blocks_dropped: Count,
    pub(super) blocks_damaged: Count,
    pub(super) columns_damaged: Count,
    pub(super) stretches_damaged: Count,
    pub(super) saves: Count,
    pub(super) saves_failed: Count,
    pub(super) rolls: Count,
    pub(super) rolls_failed: Count,
    pub(super) healed: Count,
    pub(super) segments_retired: Count,
    pub(super) files_set_aside: Count,
    pub(super) files_removed: Count,
    pub(super) foreign_files: Count,
    pub(super) imported_values: Count,
    pub(super) infinite_values: Count,
    pub(super) frames_without_shape: Count,
    pub(super) frames_unreadable: Count,
    frames_replayed: Count,
    bytes_damaged: Count,
    torn_tail_bytes: Count,
    problems: Problems,
    offenders: Mutex<Vec<Offender>>,
}

impl Counters {
    fn offenders(&self) -> std::sync::MutexGuard<'_, Vec<Offender>> {
        self.offenders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, ingested: &Ingested, bytes: usize) {
        self.messages.add(1);
        self.message_bytes.add(bytes as u64);
        self.good.add(ingested.good);
        self.bad.add(ingested.bad);
        self.freed.add(ingested.freed);
        self.merged.add(ingested.merged);
        self.registered.add(ingested.registered);
        for (count, more) in self.skipped.iter().zip(ingested.skipped).filter(|(_, more)| *more > 0) {
            count.add(more);
        }
        for (count, more) in self.refused.iter().zip(ingested.refused).filter(|(_, more)| *more > 0) {
            count.add(more);
        }
        if let Some((reason, series)) = &ingested.offender {
            let offender = Offender { reason: reason.to_string(), series: series.clone() };
            let mut offenders = self.offenders();
            offenders.retain(|other| *other != offender);
            push_bounded(&mut offenders, offender);
        }
    }

    /// Counts nothing yet; problems are dated by `clock`.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { problems: Problems::new(clock), ..Self::default() }
    }

    /// Lists something about a file that an admin should look at, and that is said in the log by itself.
    pub(super) fn problem(&self, what: &'static str, path: &Path) {
        self.problems.list(what, path, None);
    }

    /// Lists something that may be wrong with many hosts or files at once: one line in the log a pass.
    pub(super) fn trouble(&self, grade: Grade, what: &'static str, path: &Path, why: &str) {
        self.problems.note(grade, what, path, why.to_owned());
    }

    /// Prints the lines of a pass.
    pub(super) fn tell(&self) {
        self.problems.tell();
    }

    pub(super) fn replayed(&self, tail: &LogTail) {
        self.frames_replayed.add(tail.report.frames);
        self.bytes_damaged.add(tail.report.damaged_bytes);
        self.torn_tail_bytes.add(tail.report.torn_tail_bytes);
        self.frames_unreadable.add(tail.unreadable);
        let torn = tail.report.torn_tail_bytes;
        if torn > 0 {
            tracing::info!(
                bytes = torn,
                "the log ends in an unfinished record, as a kill may leave it: left out"
            );
        }
        for unreadable in &tail.report.unreadable {
            tracing::error!(path = %unreadable.path.display(), error = %unreadable.source,
                "log segment that cannot be read: what is in it is not served, and it is kept");
            self.problem("log segment cannot be read", &unreadable.path);
        }
        for range in &tail.report.damaged {
            tracing::warn!(path = %range.path.display(), offset = range.offset, bytes = range.bytes,
                "damage in the log: frames around it are replayed");
            self.problem("damaged in part: log segment", &range.path);
        }
    }
}

fn push_bounded<T>(list: &mut Vec<T>, item: T) {
    if list.len() >= LISTED_MAX {
        list.remove(0);
    }
    list.push(item);
}

/// A line that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offender {
    /// Why.
    pub reason: String,
    /// What stood before its value.
    pub series: String,
}

/// Counters of the engine, since its start.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// Whether everything is loaded, and what is acknowledged is kept.
    pub ready: bool,
    /// Whether everything is loaded.
    pub loaded: bool,
    /// How the store does, in one line for a person.
    pub condition: String,
    /// What a kill at this moment would cost.
    pub at_risk: AtRisk,
    /// Hosts still to be loaded.
    pub hosts_loading: usize,
    /// Hosts.
    pub hosts: usize,
    /// Series.
    pub series: usize,
    /// Metrics.
    pub metrics: usize,
    /// Lines by fate.
    pub lines: Lines,
    /// What was found at start.
    pub start: Start,
    /// The log.
    pub log: LogStatus,
    /// Blocks and their files.
    pub saves: Saves,
    /// What was found damaged in block files.
    pub damage: DamageStatus,
    /// Memory.
    pub memory: MemoryStatus,
    /// The work behind the requests.
    pub jobs: Vec<JobStatus>,
    /// Files that something is wrong with, the newest last.
    pub problems: Vec<Problem>,
    /// Lines that were refused last.
    pub offenders: Vec<Offender>,
}

/// Lines by fate.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lines {
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub message_bytes: u64,
    /// Samples taken.
    pub good: u64,
    /// Lines against the grammar.
    pub bad: u64,
    /// Lines passed over, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Samples refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Samples refused because they were freed by request.
    pub below_floor: u64,
    /// Samples of subtypes that share one series.
    pub merged_subtypes: u64,
    /// Series registered.
    pub registered: u64,
    /// Messages answered from memory only, because the log did not work.
    pub memory_only: u64,
    /// Messages answered with 503, because the log did not work.
    pub unavailable: u64,
}

/// What was found at start.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Start {
    /// Frames of the log that were replayed.
    pub frames_replayed: u64,
    /// Bytes of the log that were damaged, and passed over.
    pub bytes_damaged: u64,
    /// Bytes behind the last whole frame.
    pub torn_tail_bytes: u64,
    /// Frames whose shape is nowhere.
    pub frames_without_shape: u64,
    /// Frames that this version does not understand.
    pub frames_unreadable: u64,
    /// Values taken from files of other formats.
    pub imported_values: u64,
    /// Values of such files that no f32 holds: missing now.
    pub infinite_values: u64,
    /// Files that were set aside.
    pub files_set_aside: u64,
    /// Files that are none of ours, and were left alone.
    pub foreign_files: u64,
    /// Blocks that were half written when the process before ended; the log has their rows.
    pub blocks_damaged: u64,
}

/// The log.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogStatus {
    /// Nothing is logged at the moment, or something is in memory alone because there was no room.
    pub degraded: bool,
    /// The present segment.
    pub segment: u32,
    /// From here on it is needed: segment and offset.
    pub start: String,
    /// Its end.
    pub end: String,
    /// Segments on disk.
    pub segments: u64,
    /// Their bytes.
    pub retained_bytes: u64,
    /// Frames appended.
    pub frames: u64,
    /// Their bytes.
    pub frame_bytes: u64,
    /// Calls of write.
    pub writes: u64,
    /// Calls of sync.
    pub syncs: u64,
    /// Calls of write or sync that failed.
    pub errors: u64,
    /// How often the log worked again after an error.
    pub healed: u64,
    /// Segments unlinked.
    pub segments_retired: u64,
    /// The last error.
    pub last_error: Option<String>,
}

/// Blocks and their files.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Saves {
    /// Passes that wrote something.
    pub passes: u64,
    /// Hosts that could not be saved, each time counted.
    pub failed: u64,
    /// Heads sealed in the background.
    pub blocks_sealed: u64,
    /// Blocks saved.
    pub blocks_saved: u64,
    /// Blocks and heads dropped because of their age or of the memory cap.
    pub blocks_dropped: u64,
    /// Rolls of a host's files.
    pub rolls: u64,
    /// Rolls that failed.
    pub rolls_failed: u64,
    /// Old files removed.
    pub files_removed: u64,
}

/// What was found damaged in block files since the start.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DamageStatus {
    /// Columns of blocks that are not what was written: their samples are missing.
    pub columns: u64,
    /// Stretches of files that are no frames: headers, cut ends, bytes that came in or went.
    pub stretches: u64,
    /// Half-written blocks of a save that a kill ended; the log has their rows.
    pub half_saved: u64,
}

/// Where the memory is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemoryStatus {
    /// Cells of heads.
    pub head_bytes: u64,
    /// Blocks that are not saved.
    pub unsaved_block_bytes: u64,
    /// Blocks that are saved, and on the heap all the same: their files cannot be mapped.
    pub saved_block_bytes: u64,
    /// Blocks whose bytes are those of a file: memory that the system can take back. Not in the total.
    pub mapped_block_bytes: u64,
    /// Levels and columns.
    pub shape_bytes: u64,
    /// The way from a line's prefix to a series.
    pub resolver_bytes: u64,
    /// Hosts with their names, directories and tables, buffers and floors.
    pub host_bytes: u64,
    /// Samples that wait for their hosts to be loaded.
    pub deferred_bytes: u64,
    /// All of these but what is mapped.
    pub total_bytes: u64,
    /// Blocks.
    pub blocks: u64,
}

impl Engine {
    /// Bytes of the tables of hosts and of their directories.
    fn tables_bytes(&self) -> usize {
        let on_disk = self.on_disk();
        self.store.host_table_bytes()
            + self.durable_dirs.heap_bytes()
            + on_disk.capacity() * size_of::<(u32, OnDisk)>()
            + on_disk.values().map(OnDisk::heap_bytes).sum::<usize>()
    }

    /// Where the memory is.
    pub fn memory(&self) -> MemoryStatus {
        let mut memory = MemoryStatus { host_bytes: self.tables_bytes() as u64, ..MemoryStatus::default() };
        for host in self.store.all_hosts() {
            let state = host.lock();
            // With the counts of what is shared.
            memory.host_bytes += (size_of_val(&*host) + 2 * size_of::<usize>() + state.fixed_bytes()) as u64;
            for buffer in state.buffers() {
                memory.head_bytes += buffer.heads().map(|head| head.heap_bytes() as u64).sum::<u64>();
                for held in buffer.blocks() {
                    memory.blocks += 1;
                    let bytes = held.block.bytes() as u64;
                    match held.state {
                        _ if held.block.is_in_file() => memory.mapped_block_bytes += bytes,
                        BlockState::Saved => memory.saved_block_bytes += bytes,
                        BlockState::Unsaved { .. } | BlockState::Imported => {
                            memory.unsaved_block_bytes += bytes
                        }
                    }
                }
            }
        }
        memory.shape_bytes = self.store.all_shapes().iter().map(|shape| shape.heap_bytes() as u64).sum();
        memory.resolver_bytes = self.store.resolver().bytes() as u64;
        memory.deferred_bytes = self.store.deferred_bytes() as u64;
        memory.total_bytes = memory.head_bytes
            + memory.unsaved_block_bytes
            + memory.saved_block_bytes
            + memory.shape_bytes
            + memory.resolver_bytes
            + memory.host_bytes
            + memory.deferred_bytes;
        memory
    }

    /// Counters.
    pub fn status(&self) -> Status {
        self.report_damage();
        let counters = &self.counters;
        let log = self.log.stats();
        let memory = self.memory();
        // Copied at the end, and at once: writers that list a refused line wait for it.
        let (problems, offenders) = (counters.problems.listed(), counters.offenders().clone());
        Status {
            ready: self.is_sound(),
            loaded: self.waiting.phase() == Phase::Ready,
            condition: self.condition(),
            at_risk: self.at_risk(),
            hosts_loading: self.waiting.left() + self.hosts_unread(),
            hosts: self.store.host_count(),
            series: self.store.series(),
            metrics: self.store.catalog().len(),
            lines: counters.lines(),
            start: counters.start(),
            log: LogStatus {
                degraded: log.degraded || log.holes,
                segment: self.log.segment(),
                start: self.log.start().to_string(),
                end: self.log.end().to_string(),
                segments: log.segments,
                retained_bytes: log.retained_bytes,
                frames: log.frames,
                frame_bytes: log.frame_bytes,
                writes: log.writes,
                syncs: log.syncs,
                errors: log.write_errors + log.sync_errors + log.open_errors,
                healed: counters.healed.get(),
                segments_retired: counters.segments_retired.get(),
                last_error: log.last_error,
            },
            saves: counters.saves(),
            damage: counters.damage(),
            memory,
            jobs: self.jobs(),
            problems,
            offenders,
        }
    }
}

impl Counters {
    fn lines(&self) -> Lines {
        let named = |name: String, count: &Count| (name, count.get());
        Lines {
            messages: self.messages.get(),
            message_bytes: self.message_bytes.get(),
            good: self.good.get(),
            bad: self.bad.get(),
            skipped: Skip::ALL.iter().zip(&self.skipped).map(|(why, n)| named(why.to_string(), n)).collect(),
            refused: Refusal::ALL
                .iter()
                .zip(&self.refused)
                .map(|(why, n)| named(why.to_string(), n))
                .collect(),
            below_floor: self.freed.get(),
            merged_subtypes: self.merged.get(),
            registered: self.registered.get(),
            memory_only: self.memory_only.get(),
            unavailable: self.unavailable.get(),
        }
    }

    fn start(&self) -> Start {
        Start {
            frames_replayed: self.frames_replayed.get(),
            bytes_damaged: self.bytes_damaged.get(),
            torn_tail_bytes: self.torn_tail_bytes.get(),
            frames_without_shape: self.frames_without_shape.get(),
            frames_unreadable: self.frames_unreadable.get(),
            imported_values: self.imported_values.get(),
            infinite_values: self.infinite_values.get(),
            files_set_aside: self.files_set_aside.get(),
            foreign_files: self.foreign_files.get(),
            blocks_damaged: self.blocks_damaged.get(),
        }
    }

    fn damage(&self) -> DamageStatus {
        DamageStatus {
            columns: self.columns_damaged.get(),
            stretches: self.stretches_damaged.get(),
            half_saved: self.blocks_damaged.get(),
        }
    }

    fn saves(&self) -> Saves {
        Saves {
            passes: self.saves.get(),
            failed: self.saves_failed.get(),
            blocks_sealed: self.blocks_sealed.get(),
            blocks_saved: self.blocks_saved.get(),
            blocks_dropped: self.blocks_dropped.get(),
            rolls: self.rolls.get(),
            rolls_failed: self.rolls_failed.get(),
            files_removed: self.files_removed.get(),
        }
    }
}
