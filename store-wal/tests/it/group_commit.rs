//! Many threads at once: one writes for all, nobody waits for what he need not, nobody is answered too early.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use store_disk::sim::{Effect, Fault, Keep, Op};
use store_wal::{Appended, LogOptions, LogPos, Until};

use crate::support::{KIND, Probe, append, new_disk, open, open_with, replayed};

#[test]
fn one_write_and_one_sync_serve_all_that_wait() {
    const THREADS: usize = 16;
    const ROUNDS: usize = 20;
    let disk = new_disk();
    let probe = Probe::arc(&disk);
    let log = Arc::new(open(probe.clone()));
    probe.set_hook(|op, _| {
        if op == Op::Sync {
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (log, barrier) = (Arc::clone(&log), Arc::clone(&barrier));
            std::thread::spawn(move || {
                for _ in 0..ROUNDS {
                    barrier.wait();
                    let position = append(&log, b"row");
                    log.commit(position, Until::Synced).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let stats = log.stats();
    println!("{} commits, {} writes, {} syncs", THREADS * ROUNDS, stats.writes, stats.syncs);
    // At best one a round; two where some append after the leader has begun; a thread may be late.
    assert!(stats.writes <= 3 * ROUNDS as u64 && stats.syncs <= 3 * ROUNDS as u64, "{stats:?}");
    assert_eq!(stats.frames, (THREADS * ROUNDS) as u64);
    assert_eq!(replayed(&disk.after_power_loss(&Keep::Nothing)).len(), THREADS * ROUNDS);
}

#[test]
fn who_waits_for_the_write_does_not_wait_for_the_sync() {
    const WRITERS: usize = 8;
    let disk = new_disk();
    let probe = Probe::arc(&disk);
    let log = Arc::new(open(probe.clone()));
    let (release_append, wait_append) = mpsc::channel::<()>();
    let (release_sync, wait_sync) = mpsc::channel::<()>();
    let waits = Mutex::new((wait_append, wait_sync));
    let held = Arc::new(AtomicU64::new(0));
    let holds = Arc::clone(&held);
    probe.set_hook(move |op, _| {
        let waits = waits.lock().unwrap();
        match op {
            Op::Append => {
                holds.fetch_add(1, Ordering::SeqCst);
                waits.0.recv().unwrap();
            }
            Op::Sync => waits.1.recv().unwrap(),
            _ => {}
        }
    });
    // The first leader is held in its write, until all others have appended and wait.
    let first = append(&log, b"first");
    let spawn = |position: LogPos, until: Until, done: mpsc::Sender<Until>| {
        let log = Arc::clone(&log);
        std::thread::spawn(move || {
            log.commit(position, until).unwrap();
            done.send(until).unwrap();
        })
    };
    let (done, is_done) = mpsc::channel();
    let mut threads = vec![spawn(first, Until::Written, done.clone())];
    while held.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    let position = append(&log, b"for the sync");
    threads.push(spawn(position, Until::Synced, done.clone()));
    for _ in 0..WRITERS {
        let position = append(&log, b"for the write");
        threads.push(spawn(position, Until::Written, done.clone()));
    }
    // The second leader is held in its write, until all others wait again: nothing but a word of his wakes them.
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(50));
        release_append.send(()).unwrap();
    }
    // The second leader may be one of them, and is held in the sync; all the others are through.
    for _ in 0..WRITERS {
        assert_eq!(is_done.recv_timeout(Duration::from_secs(10)).unwrap(), Until::Written);
    }
    for _ in 0..3 {
        release_sync.send(()).unwrap();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(is_done.try_iter().filter(|until| *until == Until::Synced).count(), 1);
}

#[test]
fn all_that_wait_are_told_when_the_write_fails() {
    const THREADS: usize = 8;
    let disk = new_disk();
    let log = Arc::new(open(Arc::new(disk.clone())));
    disk.fail(Fault::new(Effect::Error(libc::EIO), |call| call.op == Op::Sync));
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (log, barrier) = (Arc::clone(&log), Arc::clone(&barrier));
            std::thread::spawn(move || {
                let position = append(&log, b"row");
                barrier.wait();
                log.commit(position, Until::Synced).is_err()
            })
        })
        .collect();
    let failed = threads.into_iter().map(|thread| thread.join().unwrap()).filter(|failed| *failed).count();
    assert_eq!(failed, THREADS);
    assert!(log.is_degraded());
}

/// Threads append and commit while others switch, retire, break and heal the log; what was acknowledged is there.
#[test]
fn nothing_acknowledged_is_lost_among_threads_that_switch_retire_break_and_heal() {
    const THREADS: u64 = 4;
    const ROWS: u64 = 400;
    let disk = new_disk();
    let options = LogOptions { segment_bytes_max: 4096, ..LogOptions::default() };
    let probe = Probe::arc(&disk);
    let log = Arc::new(open_with(probe.clone(), options));
    // A disk that takes its time, so that there is something to be in the way of.
    probe.set_hook(|op, _| {
        if op == Op::Sync {
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    // Rows that are not durable, with their positions; a writer holds it over an append, as a host's mutex.
    let memory: Arc<Mutex<BTreeMap<u64, LogPos>>> = Arc::default();
    let synced: Arc<Mutex<Vec<u64>>> = Arc::default();
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (log, memory, synced) = (Arc::clone(&log), Arc::clone(&memory), Arc::clone(&synced));
            std::thread::spawn(move || {
                let mut last = LogPos::ZERO;
                for number in 0..ROWS {
                    let row = thread * ROWS + number;
                    let position = {
                        let mut memory = memory.lock().unwrap();
                        let mut segment = log.segment();
                        loop {
                            match log.append(segment, &[(KIND, &row.to_le_bytes())]) {
                                Appended::At { last: position, .. } => {
                                    memory.insert(row, position);
                                    break position;
                                }
                                Appended::NewSegment(current) => segment = current,
                                Appended::TooLong => panic!("eight bytes"),
                            }
                        }
                    };
                    assert!(position > last);
                    last = position;
                    let until = if row.is_multiple_of(3) { Until::Written } else { Until::Synced };
                    match log.commit(position, until) {
                        Ok(()) if until == Until::Synced => synced.lock().unwrap().push(row),
                        Ok(()) => {}
                        Err(_) => std::thread::sleep(Duration::from_millis(1)),
                    }
                }
            })
        })
        .collect();
    let keeper = {
        let (log, memory, over, disk) =
            (Arc::clone(&log), Arc::clone(&memory), Arc::clone(&over), disk.clone());
        std::thread::spawn(move || {
            let (mut heals, mut switches) = (0, 0);
            for round in 0u64.. {
                if over.load(Ordering::SeqCst) && round > 50 {
                    break;
                }
                if round % 16 == 7 {
                    disk.fail(Fault::new(Effect::Lose(libc::EIO), |call| call.op == Op::Sync));
                }
                if log.needs_switch() && log.switch().is_ok() {
                    switches += 1;
                }
                let safe = memory.lock().unwrap().values().min().copied().unwrap_or_default();
                log.retire(safe, round % 3 == 0).ok();
                if log.is_degraded() && log.heal_begin().is_ok() {
                    let mut rows = memory.lock().unwrap();
                    for (row, position) in rows.iter_mut() {
                        let segment = log.segment();
                        if let Appended::At { last, .. } = log.append(segment, &[(KIND, &row.to_le_bytes())])
                        {
                            *position = last;
                        }
                    }
                    drop(rows);
                    heals += u64::from(log.heal_finish().is_ok());
                }
                std::thread::sleep(Duration::from_micros(300));
            }
            (heals, switches)
        })
    };
    for writer in writers {
        writer.join().unwrap();
    }
    over.store(true, Ordering::SeqCst);
    let (heals, switches) = keeper.join().unwrap();
    let synced = synced.lock().unwrap();
    let rows: std::collections::BTreeSet<u64> = replayed(&disk.after_power_loss(&Keep::Nothing))
        .into_iter()
        .map(|(_, row)| u64::from_le_bytes(row.try_into().unwrap()))
        .collect();
    let lost: Vec<_> = synced.iter().filter(|row| !rows.contains(row)).collect();
    println!("{} synced rows, {heals} heals, {switches} switches, {} lost", synced.len(), lost.len());
    assert!(lost.is_empty(), "{lost:?}");
    assert!(synced.len() > 100 && heals > 0 && switches > 0, "{} {heals} {switches}", synced.len());
}
