//! What says what time it is: hosts while they send, and at a start what the log and the files hold.

use std::path::Path;
use std::sync::Arc;

use store_checkpoint::blockfile;
use store_checkpoint::files::HostFiles;
use store_checkpoint::format::bin1;
use store_core::host::{Host, HostState};
use store_core::record::{Record, logged_rows};
use store_core::witness::Witness;
use store_disk::Disk;
use store_wal::Until;

use super::Engine;
use super::horizon::{FoundTime, Witnesses};
use super::open::describe;
use super::tail::{LogTail, Patience};

/// Seconds after which the log is told again what is vouched for.
const NOTE_EVERY_S: i64 = 60;

/// Files of a host that are asked, those with the greatest numbers: the others are mostly older, and a time that is
/// too early only makes a start read more.
const FILES_ASKED: usize = 2;

impl Engine {
    /// Takes in what hosts have said of the time by now.
    pub(super) fn look_at_time(&self) {
        let mut witnesses = Witnesses::default();
        for host in self.store.all_hosts() {
            witnesses.add(host.lock().witness());
        }
        self.horizon.look(&witnesses);
    }

    /// Writes the vouched time into the log, if it moved or a new segment lacks it: what stands there cannot be
    /// mistaken for what our own clock put into rows. Lost with its segment, or if a kill comes first, it is as if it had
    /// not been written, and the rows are asked.
    pub(super) fn note_time(&self) {
        self.look_at_time();
        let Some(vouched) = self.horizon.vouched() else { return };
        let segment = self.log.segment();
        let mut noted = self.time_noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_known = noted.is_some_and(|(number, time)| {
            number == segment && vouched.abs_diff(time) < NOTE_EVERY_S.unsigned_abs()
        });
        if !is_known && !self.log.is_degraded() {
            self.scribe().vouched(vouched);
            // Where nobody sends, nobody else would write it. If that fails the log is degraded, and heals.
            if self.log.flush(Until::Written).is_ok() {
                *noted = Some((segment, vouched));
            }
        }
    }

    /// The first look at a start, before any file is read: what is there decides which files are.
    pub(super) fn begin_time(&self, tail: &LogTail) {
        let found = match tail.vouched {
            Some(time) => FoundTime::Said(time),
            None => self.time_of_files(tail),
        };
        tracing::debug!(?found, "the time that what was found is of");
        self.horizon.begin(found);
    }

    /// The second look, once everything is in memory: rows say it better than names and headers. But not better than
    /// the log.
    pub(super) fn begin_time_again(&self) {
        if self.horizon.is_said() {
            return;
        }
        let mut witnesses = Witnesses::default();
        for host in self.store.all_hosts() {
            let state = host.lock();
            if let Some(witness) = of_rows(&state) {
                witnesses.add(&witness);
            }
        }
        self.horizon.begin(found_by(&witnesses));
    }

    /// What names and headers of files say, and the rows of the log.
    fn time_of_files(&self, tail: &LogTail) -> FoundTime {
        let mut witnesses = Witnesses::default();
        for host in self.store.all_hosts() {
            let mut witness = of_files(&*self.disk, &self.host_dir(&host));
            of_log(&*self.disk, tail, &host, &mut witness);
            if witness.newest().is_some() {
                witnesses.add(&witness);
            }
        }
        found_by(&witnesses)
    }
}

fn found_by(witnesses: &Witnesses) -> FoundTime {
    witnesses.said().map_or(FoundTime::Nothing, FoundTime::Rows)
}

/// The newest rows of a host in memory; of a head or block of one row there is one, of others two.
fn of_rows(state: &HostState) -> Option<Witness> {
    let mut witness = Witness::default();
    for buffer in state.buffers() {
        let step = i64::from(buffer.frequency_s());
        let blocks = buffer.blocks().iter().map(|held| held.block.header());
        let blocks = blocks.map(|header| (header.end(), header.rows));
        for (end, rows) in buffer.heads().map(|head| (head.end(), head.rows())).chain(blocks) {
            vouch_for_rows(&mut witness, end, rows, step);
        }
    }
    witness.newest().map(|_| witness)
}

/// The last rows before `end`. A slot may begin half a step before the sample that is in it.
fn vouch_for_rows(witness: &mut Witness, end: i64, rows: u32, step: i64) {
    for back in 1..=i64::from(rows.min(2)) {
        witness.vouch(end - back * step - step / 2);
    }
}

fn of_files(disk: &dyn Disk, dir: &Path) -> Witness {
    let mut witness = Witness::default();
    let Ok(mut files) = HostFiles::list(disk, dir) else { return witness };
    files.numbered.sort();
    for file in files.numbered.iter().rev().take(FILES_ASKED) {
        // Nothing in a file is older than its name.
        let path = dir.join(&file.name);
        let front = if file.json { None } else { disk.read_front(&path, bin1::HEADER_BYTES).ok() };
        match front {
            Some(front) if bin1::is_version_1(&front) => {
                let range = bin1::peek_range(&front);
                witness.vouch(file.number);
                range.into_iter().for_each(|(_, to)| witness.vouch(to.max(file.number)));
            }
            Some(_) => {
                let Ok(file) = disk.open(&path) else { continue };
                for found in blockfile::index(&*file).blocks {
                    let header = found.header;
                    let step = i64::from(header.grid.frequency_s);
                    vouch_for_rows(&mut witness, header.end(), header.rows, step);
                }
            }
            None => witness.vouch(file.number),
        }
    }
    witness
}

fn of_log(disk: &dyn Disk, tail: &LogTail, host: &Arc<Host>, witness: &mut Witness) {
    let name = (host.cluster(), host.name());
    let read = tail.each_record(disk, name, Patience::Left, |_, record| match record {
        Record::Rows { rows, .. } | Record::NamedRows { rows, .. } => {
            logged_rows(rows).flatten().for_each(|row| witness.vouch(row.slot));
        }
        Record::Samples { samples, .. } => samples.iter().for_each(|sample| witness.vouch(sample.time)),
        _ => {}
    });
    if let Err(e) = read {
        // The load tries it again; here there are other hosts to say what time it is.
        tracing::warn!(error = %describe(&e), "log cannot be read: what it says of the time of a host is passed over");
    }
}
