//! Tests of the frame reader.

use proptest::prelude::*;

use super::*;

const SEED: u64 = 0x1234_5678_9abc_def0;
const START: usize = 64;

/// Kind and payload.
type Given = (u8, Vec<u8>);

/// A file with a header of [`START`] bytes and these frames; with the places where they stand.
fn file_of(seed: u64, frames: &[Given]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut file = vec![0xaa; START];
    let mut places = Vec::new();
    for (kind, payload) in frames {
        let offset = file.len();
        // In two parts, so that no test depends on there being one.
        let (front, back) = payload.split_at(payload.len() / 3);
        encode_into(&mut file, seed, offset as u64, *kind, &[front, back]);
        places.push(offset..file.len());
    }
    (file, places)
}

fn sample() -> Vec<Given> {
    let lens = [0, 1, 5, 40, 0, 17, 64, 3];
    lens.iter().zip(10..).map(|(len, kind)| (kind, (0..*len).map(|n| n as u8 ^ kind).collect())).collect()
}

/// Reads a file, and checks that the items cover it from the header on.
fn items(file: &[u8], seed: u64, check: Check) -> Vec<Item<'_>> {
    let items: Vec<Item<'_>> = Frames::new(file, seed, START as u64, check).collect();
    let mut at = START.min(file.len()) as u64;
    for item in &items {
        let (offset, bytes) = match item {
            Item::Frame(frame) => (frame.offset, frame.bytes()),
            Item::Damage { offset, bytes, .. } => (*offset, *bytes),
        };
        assert_eq!(offset, at, "a gap or an overlap before {item:?}");
        assert!(bytes > 0, "an empty item");
        at += bytes;
    }
    assert_eq!(at, file.len() as u64, "the items end before the file does");
    items
}

fn frames_in(items: &[Item<'_>]) -> Vec<(u64, Given)> {
    let frame = |item: &Item<'_>| match item {
        Item::Frame(frame) => Some((frame.offset, (frame.kind, frame.payload.to_vec()))),
        Item::Damage { .. } => None,
    };
    items.iter().filter_map(frame).collect()
}

fn damages_in(items: &[Item<'_>]) -> Vec<(Range<usize>, Damage)> {
    let damage = |item: &Item<'_>| match *item {
        Item::Frame(_) => None,
        Item::Damage { offset, bytes, what } => Some((offset as usize..(offset + bytes) as usize, what)),
    };
    items.iter().filter_map(damage).collect()
}

/// What should be read where only the frames that `whole` says are.
fn expected(
    given: &[Given],
    places: &[Range<usize>],
    whole: impl Fn(&Range<usize>) -> bool,
) -> Vec<(u64, Given)> {
    let all = given.iter().zip(places);
    all.filter(|(_, place)| whole(place)).map(|(frame, place)| (place.start as u64, frame.clone())).collect()
}

/// CRC-32/IEEE bit by bit, as the page of the format says it.
fn crc_by_hand(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn a_frame_has_the_bytes_that_the_table_says() {
    assert_eq!(crc_by_hand(b"123456789"), 0xcbf4_3926);
    let mut file = Vec::new();
    encode_into(&mut file, SEED, 4096, 9, &[b"ab", b"", b"c"]);
    let front = [3, 0, 0, 0, 9, 0, 0, 0];
    let header = crc_by_hand(&[&SEED.to_le_bytes()[..], &4096u64.to_le_bytes(), &front].concat());
    let payload = crc_by_hand(&[&header.to_le_bytes()[..], b"abc"].concat());
    let by_hand = [&front[..], &header.to_le_bytes(), b"abc", &payload.to_le_bytes()].concat();
    assert_eq!(file, by_hand);
    assert_eq!(file.len(), OVERHEAD_BYTES + 3);
}

#[test]
fn what_was_written_is_read_in_order() {
    let given = sample();
    let (file, places) = file_of(SEED, &given);
    for check in [Check::Payload, Check::HeaderOnly] {
        let items = items(&file, SEED, check);
        assert_eq!(frames_in(&items), expected(&given, &places, |_| true));
        assert_eq!(damages_in(&items), []);
    }
}

#[test]
fn a_frame_says_where_it_and_its_payload_stand() {
    let given = sample();
    let (file, places) = file_of(SEED, &given);
    for (place, (_, payload)) in places.iter().zip(&given) {
        let frame = Frame::at(&file, SEED, place.start as u64).unwrap();
        assert_eq!(frame.offset..frame.end(), place.start as u64..place.end as u64);
        let range = frame.payload_range();
        assert_eq!(&file[range.start as usize..range.end as usize], payload);
        assert!(frame.verify());
    }
    assert_eq!(Frame::at(&file, SEED, START as u64 + 1), Err(Damage::BadHeader));
    assert_eq!(Frame::at(&file, SEED, file.len() as u64), Err(Damage::CutShort));
    assert_eq!(Frame::at(&file, SEED, u64::MAX), Err(Damage::CutShort));
}

#[test]
fn every_cut_reads_the_frames_before_it_and_reports_the_torn_tail() {
    let given = sample();
    let (file, places) = file_of(SEED, &given);
    for cut in 0..=file.len() {
        for check in [Check::Payload, Check::HeaderOnly] {
            let items = items(&file[..cut], SEED, check);
            assert_eq!(
                frames_in(&items),
                expected(&given, &places, |place| place.end <= cut),
                "cut at {cut}"
            );
            let torn = places.iter().find(|place| place.start < cut && cut < place.end);
            let torn: Vec<_> = torn.map(|place| (place.start..cut, Damage::CutShort)).into_iter().collect();
            assert_eq!(damages_in(&items), torn, "cut at {cut}");
        }
    }
}

#[test]
fn every_flipped_bit_costs_the_frame_it_stands_in_and_no_other() {
    let given = sample();
    let (mut file, places) = file_of(SEED, &given);
    for bit in START * 8..file.len() * 8 {
        file[bit / 8] ^= 1 << (bit % 8);
        let hit = places.iter().find(|place| place.contains(&(bit / 8))).unwrap();
        let what = if bit / 8 < hit.start + HEADER_BYTES { Damage::BadHeader } else { Damage::BadPayload };

        let all_checked = items(&file, SEED, Check::Payload);
        assert_eq!(frames_in(&all_checked), expected(&given, &places, |place| place != hit), "bit {bit}");
        assert_eq!(damages_in(&all_checked), [(hit.clone(), what)], "bit {bit}");

        // Without a look at the payload its damage is seen by `verify`, and only there.
        let lazy = items(&file, SEED, Check::HeaderOnly);
        let verified = lazy.iter().filter(|item| matches!(item, Item::Frame(frame) if frame.verify()));
        let verified: Vec<Item<'_>> = verified.copied().collect();
        assert_eq!(frames_in(&verified), expected(&given, &places, |place| place != hit), "bit {bit}");
        let damages = if what == Damage::BadHeader { vec![(hit.clone(), what)] } else { Vec::new() };
        assert_eq!(damages_in(&lazy), damages, "bit {bit}");
        file[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_frame_image_inside_a_payload_is_never_found() {
    // Images that were valid at the beginning of this file, at 0, and of a frame that follows.
    let mut images = Vec::new();
    for offset in [0, START as u64, 300] {
        encode_into(&mut images, SEED, offset, 77, &[b"stale"]);
    }
    let given = [(1, b"first".to_vec()), (2, images), (3, b"last".to_vec())];
    let (mut file, places) = file_of(SEED, &given);
    for bit in places[1].start * 8..places[1].end * 8 {
        file[bit / 8] ^= 1 << (bit % 8);
        for check in [Check::Payload, Check::HeaderOnly] {
            let read = frames_in(&items(&file, SEED, check));
            assert!(read.iter().all(|(_, (kind, _))| *kind != 77), "bit {bit}: {read:?}");
            assert!(read.iter().any(|(_, (kind, _))| *kind == 3), "bit {bit}: the last frame is not found");
        }
        file[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn frames_of_another_file_are_not_taken_for_ours_though_they_stand_in_the_same_places() {
    let given = sample();
    let (ours, places) = file_of(SEED, &given);
    let (theirs, _) = file_of(SEED + 1, &given);
    // The end of another file behind the middle of ours, as a tail of stale blocks.
    for middle in START..ours.len() {
        let mixed = [&ours[..middle], &theirs[middle..]].concat();
        let read = frames_in(&items(&mixed, SEED, Check::Payload));
        assert_eq!(read, expected(&given, &places, |place| place.end <= middle), "from {middle} on");
    }
}

#[test]
fn lost_stretches_cost_the_frames_they_touch() {
    let given: Vec<Given> = (0..200u8).map(|n| (n, vec![n; usize::from(n) % 50])).collect();
    let (file, places) = file_of(SEED, &given);
    for len in [1, 16, 100, 512] {
        for from in (START..file.len()).step_by(37) {
            let lost = from..(from + len).min(file.len());
            for filler in [0u8, 0xff, 0x5a] {
                let mut file = file.clone();
                file[lost.clone()].fill(filler);
                let read = frames_in(&items(&file, SEED, Check::Payload));
                let untouched = |place: &Range<usize>| place.end <= lost.start || place.start >= lost.end;
                // A stretch may happen to hold what it held before.
                let rest = expected(&given, &places, untouched);
                assert!(rest.iter().all(|frame| read.contains(frame)), "{lost:?} filled with {filler}");
                let all = expected(&given, &places, |_| true);
                assert!(read.iter().all(|frame| all.contains(frame)), "{lost:?}: a frame nobody wrote");
            }
        }
    }
}

#[test]
fn behind_a_bad_header_only_a_frame_with_a_good_payload_is_believed() {
    let given = sample();
    let (mut file, places) = file_of(SEED, &given);
    file[places[2].start] ^= 1;
    file[places[3].end - 1] ^= 1;
    let read = items(&file, SEED, Check::HeaderOnly);
    assert_eq!(damages_in(&read), [(places[2].start..places[3].end, Damage::BadHeader)]);
    let whole = |place: &Range<usize>| *place != places[2] && *place != places[3];
    assert_eq!(frames_in(&read), expected(&given, &places, whole));
}

#[test]
fn a_file_of_zeros_holds_no_frame() {
    for seed in 0..200 {
        let zeros = vec![0; START + 100];
        assert_eq!(
            damages_in(&items(&zeros, seed, Check::Payload)),
            [(START..START + 100, Damage::BadHeader)]
        );
    }
}

#[test]
fn a_start_behind_the_end_reads_nothing() {
    for start in [10, 11, u64::MAX] {
        assert_eq!(Frames::new(&[1; 10], SEED, start, Check::Payload).count(), 0);
    }
}

#[test]
#[should_panic(expected = "are allowed")]
fn a_payload_that_readers_would_refuse_is_not_written() {
    let part: &[u8] = &[0; 1 << 20];
    encode_into(&mut Vec::new(), SEED, 0, 1, &[part; 257]);
}

proptest! {
    #[test]
    fn any_frames_are_read_back(given in frames_of_any_kind(), seed: u64) {
        let (file, places) = file_of(seed, &given);
        let read = items(&file, seed, Check::Payload);
        prop_assert_eq!(frames_in(&read), expected(&given, &places, |_| true));
    }

    #[test]
    fn any_bytes_are_covered_and_hold_no_frame(bytes: Vec<u8>, seed: u64) {
        for check in [Check::Payload, Check::HeaderOnly] {
            prop_assert_eq!(frames_in(&items(&bytes, seed, check)), []);
        }
    }

    #[test]
    fn any_damage_costs_only_what_it_touches(
        given in frames_of_any_kind(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (mut file, places) = file_of(SEED, &given);
        let whole = file.clone();
        if file.len() > START {
            for (index, byte) in &damage {
                let at = START + index.index(file.len() - START);
                file[at] = *byte;
            }
        }
        let read = frames_in(&items(&file, SEED, Check::Payload));
        prop_assert_eq!(read, expected(&given, &places, |place| file[place.clone()] == whole[place.clone()]));
    }
}

fn frames_of_any_kind() -> impl Strategy<Value = Vec<Given>> {
    prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)), 0..12)
}
