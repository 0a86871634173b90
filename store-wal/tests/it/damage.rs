//! Every cut, every flipped bit, and everything else that may lie in the directory.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use store_disk::frame::Damage;
use store_disk::sim::{Effect, Fault, Op};
use store_disk::{Disk, Lineage, SimDisk};
use store_wal::{ForeignKind, Log, LogOptions, LogPos, Until, replay, scan, set_aside};

use crate::support::{DIR, LINEAGE, append, found, new_disk, open, replay_from, replayed, segment};

type Rows = Vec<(LogPos, Vec<u8>)>;

/// A disk with one segment of `count` rows, and the rows.
fn one_segment(count: u32) -> (SimDisk, Rows) {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    let rows = (0..count).map(|number| {
        let row = vec![number as u8; number as usize % 7];
        (append(&log, &row), row)
    });
    let rows = rows.collect();
    log.flush(Until::Synced).unwrap();
    (disk, rows)
}

#[test]
fn every_cut_replays_a_prefix_and_accounts_for_every_byte() {
    let (disk, rows) = one_segment(20);
    let whole = disk.contents(segment(1)).unwrap().len();
    for cut in 0..=whole {
        let disk = disk.fork();
        disk.cut(segment(1), cut).unwrap();
        let (got, report) = replay_from(&disk, LogPos::ZERO);
        let kept = rows.iter().take_while(|(at, row)| at.offset() as usize + 16 + row.len() <= cut).count();
        assert_eq!(got, rows[..kept], "cut at {cut}");
        assert!(report.damaged.is_empty() && report.damaged_bytes == 0, "cut at {cut}");
        let end = got.last().map_or(88, |(at, row)| at.offset() as usize + 16 + row.len());
        let torn = if cut < 88 { cut.saturating_sub(64) } else { cut - end };
        assert_eq!(report.torn_tail_bytes, torn as u64, "cut at {cut}");
        // The next process begins behind it, in a segment of its own.
        let log = open(Arc::new(disk.clone()));
        assert_eq!((log.segment(), disk.contents(segment(1)).unwrap().len()), (2, cut));
    }
}

#[test]
fn every_flipped_bit_costs_at_most_its_frame() {
    let (disk, rows) = one_segment(20);
    let bits = disk.contents(segment(1)).unwrap().len() * 8;
    for bit in 0..bits {
        let disk = disk.fork();
        disk.flip(segment(1), bit).unwrap();
        let byte = bit / 8;
        let (got, report) = replay_from(&disk, LogPos::ZERO);
        let hit = rows.iter().position(|(at, row)| {
            (at.offset() as usize..at.offset() as usize + 16 + row.len()).contains(&byte)
        });
        let mut expected = rows.clone();
        if let Some(hit) = hit {
            expected.remove(hit);
        }
        assert_eq!(got, expected, "bit {bit}");
        let bytes = match hit {
            Some(hit) => 16 + rows[hit].1.len() as u64,
            // The header stands twice; the LogStart behind it is 24 bytes long.
            None if byte < 64 => 0,
            None => 24,
        };
        if hit == Some(rows.len() - 1) {
            assert_eq!((report.damaged_bytes, report.torn_tail_bytes), (0, bytes), "bit {bit}");
        } else {
            assert_eq!((report.damaged_bytes, report.torn_tail_bytes), (bytes, 0), "bit {bit}");
            assert_eq!(report.damaged_ranges, u64::from(bytes > 0), "bit {bit}");
            let offset = hit.map_or(64, |hit| u64::from(rows[hit].0.offset()));
            for range in &report.damaged {
                assert_eq!(
                    (range.offset, range.bytes, range.path.as_path()),
                    (offset, bytes, segment(1).as_path())
                );
            }
        }
        assert_eq!(found(&disk).lineage(), Some(LINEAGE), "bit {bit}");
    }
}

#[test]
fn a_damaged_log_start_gives_way_to_the_one_before_it() {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    let first = append(&log, b"first");
    let second = append(&log, b"second");
    log.retire(second, true).unwrap();
    let named = |disk: &SimDisk| found(disk).start(LINEAGE);
    assert_eq!(named(&disk), Some(second));
    let len = disk.contents(segment(1)).unwrap().len();
    for bit in (len - 24) * 8..len * 8 {
        let disk = disk.fork();
        disk.flip(segment(1), bit).unwrap();
        assert_eq!(named(&disk), Some(LogPos::ZERO), "bit {bit}");
        assert_eq!(replayed(&disk).len(), 2, "bit {bit}");
    }
    // Without any: everything.
    disk.flip(segment(1), (len - 1) * 8).unwrap();
    disk.flip(segment(1), 70 * 8).unwrap();
    assert_eq!((named(&disk), replayed(&disk)[0].0), (Some(LogPos::ZERO), first));
}

#[test]
fn frames_behind_garbage_zeros_and_lost_pages_are_found() {
    let (disk, rows) = one_segment(30);
    type Patch = fn(&mut [u8]);
    let patches: [(&str, Patch); 3] = [
        ("zeros", |hole| hole.fill(0)),
        ("ones", |hole| hole.fill(0xFF)),
        ("noise", |hole| hole.iter_mut().zip(0u32..).for_each(|(byte, n)| *byte = (n * n * 31 + 7) as u8)),
    ];
    for (name, patch) in patches {
        for hole in [92..93, 100..200, 150..260] {
            let disk = disk.fork();
            disk.patch(segment(1), |bytes| patch(&mut bytes[hole.clone()])).unwrap();
            let (got, report) = replay_from(&disk, LogPos::ZERO);
            let whole = |(at, row): &&(LogPos, Vec<u8>)| {
                let (from, to) = (at.offset() as usize, at.offset() as usize + 16 + row.len());
                to <= hole.start || from >= hole.end
            };
            let expected: Rows = rows.iter().filter(whole).cloned().collect();
            assert_eq!(got, expected, "{name} at {hole:?}");
            assert_eq!(report.torn_tail_bytes, 0);
            let lost: u64 = rows.iter().filter(|row| !whole(row)).map(|(_, row)| row.len() as u64 + 16).sum();
            assert_eq!(report.damaged_bytes, lost, "{name} at {hole:?}");
        }
    }
    let torn = disk.fork();
    torn.patch(segment(1), |bytes| bytes.extend([0; 4096])).unwrap();
    let (got, report) = replay_from(&torn, LogPos::ZERO);
    assert_eq!((got, report.torn_tail_bytes), (rows, 4096));
}

#[test]
fn a_segment_whose_header_is_gone_is_read_by_the_lineage_of_the_others() {
    let (disk, rows) = one_segment(5);
    drop(open(Arc::new(disk.clone())));
    disk.patch(segment(1), |bytes| bytes[..64].fill(0)).unwrap();
    let (got, report) = replay_from(&disk, LogPos::ZERO);
    assert_eq!((got, report.damaged_headers, report.segments), (rows.clone(), 1, 2));
    assert!(report.unreadable.is_empty());
    // Its LogStart stands at a lesser position than another one.
    let log = open(Arc::new(disk.clone()));
    log.retire(rows[3].0, true).unwrap();
    assert_eq!(found(&disk).start(LINEAGE), Some(rows[3].0));
    // With a lineage that is known from elsewhere it is read all the same.
    for number in [2, 3] {
        disk.patch(segment(number), |bytes| bytes[..64].fill(0xEE)).unwrap();
    }
    assert_eq!((found(&disk).lineage(), found(&disk).start(LINEAGE)), (None, Some(rows[3].0)));
    assert_eq!(replayed(&disk), rows[3..]);
}

#[test]
fn a_crash_in_an_open_leaves_nothing_to_report() {
    for len in 0..=88 {
        let (disk, rows) = one_segment(2);
        drop(open(Arc::new(disk.clone())));
        disk.cut(segment(2), len).unwrap();
        if len % 2 == 1 {
            disk.patch(segment(2), |bytes| bytes.fill(0)).unwrap();
        }
        let (got, report) = replay_from(&disk, LogPos::ZERO);
        assert_eq!(got, rows);
        assert!(report.unreadable.is_empty() && report.damaged.is_empty(), "{len} bytes");
        let log = open(Arc::new(disk.clone()));
        assert_eq!(log.segment(), 3);
        assert_eq!(log.retire(log.end(), false).unwrap().segments, 2);
        assert_eq!(disk.files().len(), 1);
    }
}

#[test]
fn what_cannot_be_read_is_reported_and_set_aside_and_never_unlinked() {
    let (disk, _) = one_segment(2);
    let garbage = vec![0x5A; 500];
    disk.put(segment(2), garbage.clone()).unwrap();
    let broken = disk.contents(segment(1)).unwrap();
    let log = open(Arc::new(disk.clone()));
    let row = append(&log, b"row");
    log.flush(Until::Synced).unwrap();
    drop(log);
    disk.fail(
        Fault::new(Effect::Error(libc::EIO), |call| {
            matches!(call.op, Op::ReadFront | Op::Read) && call.path == segment(1)
        })
        .for_ever(),
    );
    let found = found(&disk);
    assert_eq!(found.unreadable(), [segment(1).as_path()]);
    assert_eq!(found.lineage(), Some(LINEAGE));
    let mut got = Vec::new();
    let report = replay(&disk, &found, LINEAGE, LogPos::ZERO, &mut |position, _, _| got.push(position));
    assert_eq!(got, [row]);
    let unreadable: Vec<_> = report.unreadable.iter().map(|one| one.path.clone()).collect();
    assert_eq!(unreadable, [segment(1), segment(2)]);
    assert_eq!(report.unreadable[0].source.raw_os_error(), Some(libc::EIO));

    let log = Log::open(
        Arc::new(disk.clone()),
        DIR.into(),
        &found,
        LINEAGE,
        0,
        found.start(LINEAGE).unwrap(),
        LogOptions::default(),
    )
    .unwrap();
    // A name that is taken is left alone.
    disk.put(format!("{}.corrupt-1", segment(1).display()), b"older").unwrap();
    let retired = log.retire(log.end(), false).unwrap();
    assert_eq!(retired.segments, 1);
    let aside =
        |number, count| std::path::PathBuf::from(format!("{}.corrupt-{count}", segment(number).display()));
    assert_eq!(retired.set_aside, [aside(1, 2), aside(2, 1)]);
    assert_eq!(disk.contents(aside(1, 2)).unwrap(), broken);
    assert_eq!(disk.contents(aside(2, 1)).unwrap(), garbage);
    // The next start counts them, and finds nothing else.
    let found = scan(&disk, Path::new(DIR)).unwrap();
    assert_eq!((found.set_aside_before(), found.len(), found.foreign(LINEAGE).len()), (3, 1, 0));
}

#[test]
fn a_segment_that_fails_only_in_the_replay_is_kept_by_a_log_that_was_open_before() {
    for recovers in [false, true] {
        let (disk, rows) = one_segment(2);
        let broken = disk.contents(segment(1)).unwrap();
        drop(open(Arc::new(disk.clone())));
        let found = found(&disk);
        let options = LogOptions::default();
        let log =
            Log::open(Arc::new(disk.clone()), DIR.into(), &found, LINEAGE, 0, LogPos::ZERO, options).unwrap();
        disk.fail(Fault::new(Effect::Error(libc::EIO), |call| {
            call.op == Op::Read && call.path == segment(1)
        }));
        let mut got = Vec::new();
        let mut read =
            || replay(&disk, &found, LINEAGE, LogPos::ZERO, &mut |at, _, row| got.push((at, row.to_vec())));
        assert_eq!(read().unreadable.len(), 1);
        if recovers {
            assert!(read().unreadable.is_empty());
            assert_eq!(got, rows);
        }
        disk.record();
        let retired = log.retire(log.end(), false).unwrap();
        assert_eq!((retired.segments, retired.set_aside.len()), if recovers { (2, 0) } else { (1, 1) });
        let kept = disk.files().values().any(|bytes| *bytes == broken);
        assert_eq!(kept, !recovers);
        // It is set aside for good before S moves: where S has moved, what lies before it is unlinked.
        let calls: Vec<Op> = disk.trace().iter().map(|call| call.op).take(3).collect();
        assert_eq!(calls == [Op::Rename, Op::SyncDir, Op::Append], !recovers, "{calls:?}");
    }
}

#[test]
fn a_segment_that_could_not_be_read_once_is_tried_again() {
    let (disk, rows) = one_segment(3);
    disk.fail(Fault::new(Effect::Error(libc::EMFILE), |call| call.op == Op::Read));
    let found = found(&disk);
    assert_eq!(found.unreadable().len(), 1);
    // Not `None`: there is a log, and nobody can say where it begins.
    assert_eq!(found.start(LINEAGE), Some(LogPos::ZERO));
    let mut got = Vec::new();
    replay(&disk, &found, LINEAGE, LogPos::ZERO, &mut |at, _, bytes| got.push((at, bytes.to_vec())));
    assert_eq!(got, rows);
    assert!(found.unreadable().is_empty());
}

#[test]
fn segments_of_another_lineage_are_set_aside_and_those_of_another_version_left() {
    let (disk, rows) = one_segment(3);
    // A later segment of somebody else's log, and one of a later release.
    let other = new_disk();
    let theirs = Lineage([1; 16]);
    let empty = scan(&other, Path::new(DIR)).unwrap();
    let log = Log::open(
        Arc::new(other.clone()),
        DIR.into(),
        &empty,
        theirs,
        8,
        LogPos::ZERO,
        LogOptions::default(),
    )
    .unwrap();
    append(&log, b"theirs");
    log.flush(Until::Synced).unwrap();
    disk.put(segment(9), other.contents(segment(9)).unwrap()).unwrap();
    let mut newer = disk.contents(segment(1)).unwrap();
    for half in [0, 32] {
        newer[half + 4] = 2;
        let crc = crc32fast::hash(&newer[half..half + 28]).to_le_bytes();
        newer[half + 28..half + 32].copy_from_slice(&crc);
    }
    disk.put(segment(5), newer).unwrap();
    disk.put(format!("{DIR}/README"), b"").unwrap();
    disk.put_dir(format!("{DIR}/old")).unwrap();
    disk.put_other(format!("{DIR}/00000000000000000003.wal")).unwrap();

    let found = found(&disk);
    assert_eq!(found.lineage(), Some(theirs), "the greatest whole header");
    let foreign: Vec<_> = found.foreign(LINEAGE).into_iter().map(|one| one.what).collect();
    let (name, no_file) = (ForeignKind::Name, ForeignKind::NotAFile);
    assert_eq!(foreign, [ForeignKind::Version(2), ForeignKind::Lineage(theirs), no_file, name, no_file]);
    assert_eq!(replay_from(&disk, LogPos::ZERO).0, rows);
    // Seen from the other side, ours is the foreign one.
    assert_eq!(found.start(theirs), Some(LogPos::ZERO));
    let mut got = Vec::new();
    replay(&disk, &found, theirs, LogPos::ZERO, &mut |_, _, bytes| got.push(bytes.to_vec()));
    assert_eq!(got, [b"theirs"]);

    let before = disk.files();
    let done: Vec<_> = set_aside(&disk, &found, LINEAGE).into_iter().map(Result::unwrap).collect();
    let aside = |number| std::path::PathBuf::from(format!("{}.corrupt-1", segment(number).display()));
    assert_eq!(done, [aside(9)]);
    assert_eq!(disk.contents(segment(5)), before.get(&segment(5)).cloned());
    let ours = found.lineages();
    assert_eq!(ours, [theirs, LINEAGE], "of both there are frames");
    assert_eq!(found.other_version(LINEAGE), Some((&*segment(5), 2)));
    assert_eq!(found.other_version(theirs), None);
    assert_eq!(
        disk.after_power_loss(&store_disk::sim::Keep::Nothing).contents(aside(9)),
        before.get(&segment(9)).cloned()
    );
    // The number of the directory entry still counts.
    let log = open(Arc::new(disk.clone()));
    assert_eq!(log.segment(), 6);
    log.retire(log.end(), false).unwrap();
    assert_eq!(disk.contents(segment(5)), before.get(&segment(5)).cloned());
    assert_eq!(disk.contents(format!("{DIR}/README")).unwrap(), b"");
}

#[test]
fn frames_of_another_segment_or_place_are_never_taken_for_ones() {
    let (disk, rows) = one_segment(6);
    let whole = disk.contents(segment(1)).unwrap();
    // The same bytes again behind the end, as a recycled block of the disk would show them; and whole under
    // another number, with a header that claims it.
    disk.patch(segment(1), |bytes| bytes.extend_from_slice(&whole)).unwrap();
    drop(open(Arc::new(disk.clone())));
    let header = disk.contents(segment(2)).unwrap();
    disk.patch(segment(2), |bytes| {
        bytes.truncate(64);
        bytes.extend_from_slice(&whole[64..]);
    })
    .unwrap();
    assert_eq!(header.len(), 88);
    let (got, report) = replay_from(&disk, LogPos::ZERO);
    assert_eq!(got, rows);
    assert_eq!(report.torn_tail_bytes, (whole.len() + whole.len() - 64) as u64);
}

#[test]
fn segments_are_replayed_in_the_order_of_their_numbers_over_gaps_from_the_position_asked_for() {
    let disk = new_disk();
    let mut rows = Vec::new();
    for number in 0..12u32 {
        let log = open(Arc::new(disk.clone()));
        for row in [[number as u8, 0], [number as u8, 1]] {
            rows.push((append(&log, &row), row.to_vec()));
        }
        log.flush(Until::Synced).unwrap();
    }
    for gone in [2, 7, 8] {
        disk.take(segment(gone)).unwrap();
    }
    rows.retain(|(at, _)| ![2, 7, 8].contains(&at.segment()));
    let (first, last) = (rows[0].0, rows[rows.len() - 1].0);
    for from in
        [LogPos::ZERO, first, rows[5].0, LogPos::new(7, 99), LogPos::new(9, 89), last, LogPos::new(13, 0)]
    {
        let (got, report) = replay_from(&disk, from);
        let expected: Rows = rows.iter().filter(|(at, _)| *at >= from).cloned().collect();
        assert_eq!(got, expected, "from {from}");
        assert_eq!((report.frames, report.torn_tail_bytes), (expected.len() as u64, 0));
        assert_eq!(report.payload_bytes, 2 * report.frames);
    }
    // Damage before the position asked for is nobody's loss.
    disk.flip(segment(1), 89 * 8).unwrap();
    assert_eq!(replay_from(&disk, rows[1].0).1.damaged_bytes, 0);
    assert_eq!(replay_from(&disk, rows[0].0).1.damaged_bytes, 18);
}

#[test]
fn kinds_of_the_log_that_this_release_does_not_know_are_counted_and_not_handed_out() {
    let (disk, rows) = one_segment(1);
    disk.patch(segment(1), |bytes| {
        let offset = bytes.len() as u64;
        store_disk::frame::encode_into(bytes, LINEAGE.seed(1), offset, 15, &[b"of the future"]);
    })
    .unwrap();
    let (got, report) = replay_from(&disk, LogPos::ZERO);
    assert_eq!((got, report.unknown_frames, report.damaged_bytes), (rows, 1, 0));
}

#[test]
fn a_long_list_of_damage_is_cut_and_the_rest_counted() {
    let (disk, rows) = one_segment(2500);
    disk.patch(segment(1), |bytes| {
        for (at, _) in rows.iter().step_by(2) {
            bytes[at.offset() as usize + 9] ^= 1;
        }
    })
    .unwrap();
    let (got, report) = replay_from(&disk, LogPos::ZERO);
    assert_eq!(got.len(), 1250);
    assert_eq!((report.damaged_ranges, report.damaged.len()), (1250, 1000));
    assert_eq!(report.damaged[0].what, Damage::BadHeader);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever lies under the name of a segment, a start goes on, finds what is ours, and changes nothing.
    #[test]
    fn any_bytes_may_lie_in_a_segment(bytes in proptest::collection::vec(any::<u8>(), 0..600), front in 0usize..100) {
        let (disk, rows) = one_segment(4);
        let mut foreign = disk.contents(segment(1)).unwrap();
        foreign.truncate(front);
        foreign.extend_from_slice(&bytes);
        disk.put(segment(2), foreign.clone()).unwrap();
        let got = replay_from(&disk, LogPos::ZERO).0;
        prop_assert_eq!(got, rows);
        prop_assert_eq!(found(&disk).start(LINEAGE), Some(LogPos::ZERO));
        let log = open(Arc::new(disk.clone()));
        prop_assert_eq!(log.segment(), 3);
        prop_assert_eq!(disk.read(&segment(2)).unwrap(), foreign);
    }
}
