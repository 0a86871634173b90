//! Frames are had once more where a replay saw them, and nothing of the log is kept in memory for that.

use std::sync::Arc;

use store_disk::sim::{Effect, Fault, Op};
use store_wal::{FrameReader, FrameWalk, Log, LogOptions, LogPos, Until};

use crate::support::{DIR, LINEAGE, append, found, new_disk, open, replay_from, segment};

/// What a walk yields at each position.
fn walked(walk: &mut FrameWalk<'_>, positions: impl IntoIterator<Item = LogPos>) -> Vec<Option<Vec<u8>>> {
    let payload = |at| walk.frame(at).unwrap().map(|(_, payload)| payload.to_vec());
    positions.into_iter().map(payload).collect()
}

#[test]
fn every_frame_of_a_replay_is_read_once_more_in_any_order_and_of_any_length() {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    for number in 0..60_usize {
        // From nothing to beyond what is read at once, over two segments.
        append(&log, &vec![number as u8; (number * 997) % 20_000]);
        if number == 30 {
            log.switch().unwrap();
        }
    }
    log.flush(Until::Written).unwrap();
    let disk = disk.after_kill();
    let (frames, _) = replay_from(&disk, LogPos::ZERO);
    assert_eq!(frames.len(), 60);
    let reader = FrameReader::new(&found(&disk), LINEAGE);
    let wanted: Vec<_> = frames.iter().map(|(_, payload)| Some(payload.clone())).collect();
    let positions = || frames.iter().map(|(at, _)| *at);
    assert_eq!(walked(&mut reader.walk(&disk), positions()), wanted);
    // Those of one host, as it were, and backwards.
    let (mut some, mut of_some) = (positions().step_by(7).collect::<Vec<_>>(), Vec::new());
    of_some.extend(wanted.iter().step_by(7).cloned());
    assert_eq!(walked(&mut reader.walk(&disk), some.iter().copied()), of_some);
    some.reverse();
    of_some.reverse();
    assert_eq!(walked(&mut reader.walk(&disk), some), of_some);
}

#[test]
fn what_is_not_what_it_was_is_not_handed_out_and_a_read_that_fails_says_so() {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    let at: Vec<LogPos> = (0..3).map(|number| append(&log, &[number; 100])).collect();
    log.flush(Until::Written).unwrap();
    let disk = disk.after_kill();
    let reader = FrameReader::new(&found(&disk), LINEAGE);
    disk.flip(segment(1), 8 * (at[1].offset() as usize + 40)).unwrap();
    let nowhere = [LogPos::new(1, at[2].offset() + 1), LogPos::new(1, 1 << 30), LogPos::new(7, 64)];
    let payloads = walked(&mut reader.walk(&disk), at.iter().copied().chain(nowhere));
    assert_eq!(payloads, [Some(vec![0; 100]), None, Some(vec![2; 100]), None, None, None]);

    let again = FrameReader::new(&found(&disk), LINEAGE);
    disk.fail(Fault::new(Effect::Error(libc::EMFILE), |call| call.op == Op::Map));
    let mut walk = again.walk(&disk);
    let error = walk.frame(at[0]).unwrap_err();
    assert_eq!((error.path, error.source.raw_os_error()), (segment(1), Some(libc::EMFILE)));
    assert_eq!(walked(&mut walk, [at[0]]), [Some(vec![0; 100])], "it is tried again");
}

#[test]
fn a_segment_of_which_something_was_given_up_is_kept_under_another_name() {
    for gives_up in [false, true] {
        let disk = new_disk();
        let log = open(Arc::new(disk.clone()));
        let at = append(&log, b"lost");
        log.flush(Until::Synced).unwrap();
        drop(log);
        let disk = disk.after_kill();
        let found = found(&disk);
        let reader = FrameReader::new(&found, LINEAGE);
        let start = found.start(LINEAGE).unwrap();
        let log =
            Log::open(Arc::new(disk.clone()), DIR.into(), &found, LINEAGE, 0, start, LogOptions::default())
                .unwrap();
        if gives_up {
            reader.give_up(at);
        }
        log.switch().unwrap();
        log.retire(log.end(), true).unwrap();
        let kept = disk.files().into_keys().any(|path| path.to_string_lossy().contains(".corrupt-"));
        assert_eq!(kept, gives_up);
    }
}
