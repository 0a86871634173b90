//! The original's `current.wal`: files that it wrote, damaged as they are found, and every cut and flip.

use proptest::prelude::*;
use store_wal::v1::{self, Record, Report};

const INTACT: &[u8] = include_bytes!("../golden/v1/intact.wal");

type Sample = (i64, String, Vec<String>, u32);

fn read(bytes: &[u8]) -> (Vec<Sample>, Report) {
    let mut records = Vec::new();
    let report = v1::replay(bytes, &mut |record| {
        let selector = record.selector.iter().map(|&element| element.to_owned()).collect();
        records.push((record.timestamp, record.metric.to_owned(), selector, record.value.to_bits()));
    });
    assert_eq!(report.records, records.len() as u64);
    (records, report)
}

fn sample(timestamp: i64, metric: &str, selector: &[&str], value: f32) -> Sample {
    let selector = selector.iter().map(|&element| element.to_owned()).collect();
    (timestamp, metric.to_owned(), selector, value.to_bits())
}

/// Where each record of `bytes` ends, from the lengths in an intact file.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![4];
    while ends[ends.len() - 1] < bytes.len() {
        let at = ends[ends.len() - 1];
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        ends.push(at + 12 + length as usize);
    }
    ends
}

#[test]
fn an_intact_file_gives_every_record_in_order_and_is_called_intact() {
    let (records, report) = read(INTACT);
    assert_eq!(report, Report { records: 100, bytes_damaged: 0, intact: true });
    assert_eq!(records[0], sample(1_700_000_000, "cpu_load", &[], 0.5));
    assert_eq!(records[1], sample(1_700_000_000, "net_bw", &[], 100.0));
    assert_eq!(records[2], sample(1_700_000_000, "cpu_user", &["hwthread0"], 0.0));
    assert_eq!(records[33], sample(1_700_000_660, "cpu_load", &[], 11.5));
    assert_eq!(records[50], sample(1_700_000_960, "cpu_user", &["hwthread0"], 16.0));
    assert_eq!(records[99], sample(1_700_000_390, "net_bw", &[], 139.0));
}

#[test]
fn selectors_and_values_of_the_original_are_read_as_they_stand() {
    let (records, report) = read(include_bytes!("../golden/v1/subtypes.wal"));
    assert!(report.intact && records.len() == 48);
    assert_eq!(records[1], sample(1_700_000_000, "core_temp", &["core1", "sensor7"], 50.0));
    let (records, report) = read(include_bytes!("../golden/v1/id-without-type.wal"));
    assert!(report.intact && records.len() == 40);
    assert_eq!(records[0], sample(1_700_000_000, "cpu_load", &["0"], 7.375));
    let (records, report) = read(include_bytes!("../golden/v1/values.wal"));
    assert!(report.intact && records.len() == 17);
    assert_eq!(records[5], sample(1_700_000_300, "cpu_load", &[], 123_456_792.0));
    assert_eq!(records[16], sample(1_700_000_960, "cpu_load", &[], 9.223_372e18));
}

#[test]
fn each_damaged_file_gives_all_but_the_records_that_were_hit() {
    let (whole, _) = read(INTACT);
    // Name, bytes, record that is lost, damaged bytes.
    let cases: [(&str, &[u8], Option<usize>, u64); 11] = [
        ("torn-tail", include_bytes!("../golden/v1/torn-tail.wal"), Some(99), 16),
        ("torn-in-header", include_bytes!("../golden/v1/torn-in-header.wal"), Some(99), 4),
        ("flip-value", include_bytes!("../golden/v1/flip-value.wal"), Some(50), 45),
        ("flip-length", include_bytes!("../golden/v1/flip-length.wal"), Some(33), 35),
        ("flip-magic", include_bytes!("../golden/v1/flip-magic.wal"), Some(33), 35),
        ("flip-crc", include_bytes!("../golden/v1/flip-crc.wal"), Some(50), 45),
        ("garbage-appended", include_bytes!("../golden/v1/garbage-appended.wal"), None, 97),
        ("zeroes-appended", include_bytes!("../golden/v1/zeroes-appended.wal"), None, 4096),
        ("length-huge", include_bytes!("../golden/v1/length-huge.wal"), None, 11),
        ("appended-behind-tear", include_bytes!("../golden/v1/appended-behind-tear.wal"), Some(50), 22),
        // The original reads nothing behind a wrong magic.
        ("bad-magic", include_bytes!("../golden/v1/bad-magic.wal"), None, 4),
    ];
    for (name, bytes, lost, damaged) in cases {
        let mut expected = whole.clone();
        lost.map(|lost| expected.remove(lost));
        let (records, report) = read(bytes);
        assert_eq!(records, expected, "{name}");
        assert_eq!((report.bytes_damaged, report.intact), (damaged, false), "{name}");
    }
}

#[test]
fn files_without_a_record_are_not_intact_whatever_they_hold() {
    for bytes in [
        &include_bytes!("../golden/v1/empty.wal")[..],
        include_bytes!("../golden/v1/only-magic.wal"),
        include_bytes!("../golden/v1/half-magic.wal"),
    ] {
        let (records, report) = read(bytes);
        let damaged = if bytes.len() == 2 { 2 } else { 0 };
        assert_eq!((records.len(), report.bytes_damaged, report.intact), (0, damaged, false));
    }
}

#[test]
fn every_cut_gives_the_records_before_it() {
    let (whole, _) = read(INTACT);
    let ends = ends(INTACT);
    for cut in 0..INTACT.len() {
        let (records, report) = read(&INTACT[..cut]);
        let kept = ends.iter().skip(1).filter(|end| **end <= cut).count();
        assert_eq!(records, whole[..kept], "cut at {cut}");
        assert_eq!(report.intact, kept > 0 && ends.contains(&cut), "cut at {cut}");
        let last = if cut < 4 { 0 } else { ends[kept] };
        assert_eq!(report.bytes_damaged, (cut - last) as u64, "cut at {cut}");
    }
}

#[test]
fn every_flipped_bit_costs_the_record_it_is_in() {
    let (whole, _) = read(INTACT);
    let ends = ends(INTACT);
    for bit in 0..INTACT.len() * 8 {
        let mut bytes = INTACT.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let hit = ends.partition_point(|end| *end <= bit / 8);
        let mut expected = whole.clone();
        let damaged = if hit == 0 {
            4
        } else {
            expected.remove(hit - 1);
            ends[hit] - ends[hit - 1]
        };
        let (records, report) = read(&bytes);
        assert_eq!(records, expected, "bit {bit}");
        assert_eq!((report.bytes_damaged, report.intact), (damaged as u64, false), "bit {bit}");
    }
}

/// A record with a valid checksum around any payload.
fn record(payload: &[u8]) -> Vec<u8> {
    let mut bytes = v1::RECORD_MAGIC.to_vec();
    bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    bytes
}

fn payload(metric: &[u8], elements: &[&[u8]]) -> Vec<u8> {
    let mut payload = 60i64.to_le_bytes().to_vec();
    payload.extend_from_slice(&u16::try_from(metric.len()).unwrap().to_le_bytes());
    payload.extend_from_slice(metric);
    payload.push(u8::try_from(elements.len()).unwrap());
    for element in elements {
        // As the original: the length modulo 256.
        payload.push((element.len() % 256) as u8);
        payload.extend_from_slice(element);
    }
    payload.extend_from_slice(&1f32.to_le_bytes());
    payload
}

#[test]
fn names_that_no_line_may_carry_are_damage_under_a_valid_checksum() {
    let (long, longest) = (vec![b'z'; 300], vec![b'z'; 255]);
    let good =
        [payload(b"load", &[]), payload(&longest, &[&longest, b"a"]), payload("größe".as_bytes(), &[b"0"])];
    let bad = [
        payload(&long, &[]),
        payload(b"", &[]),
        payload(b"load", &[&long]),
        payload(b"load", &[&long, &long]),
        payload(b"load", &[b"socket0", b""]),
        payload(b"lo\xFFad", &[]),
        payload(b"load", &[b"\xC3"]),
        payload(b"lo\nad", &[]),
        payload(b"load", &["\u{85}".as_bytes()]),
    ];
    for payload in &good {
        let (records, report) = read(&[&v1::FILE_MAGIC[..], &record(payload)].concat());
        assert_eq!((records.len(), report.intact), (1, true));
    }
    for payload in &bad {
        let between = [&v1::FILE_MAGIC[..], &record(&good[0]), &record(payload), &record(&good[0])].concat();
        let (records, report) = read(&between);
        assert_eq!((records.len(), report.intact), (2, false), "{payload:?}");
        assert_eq!(report.bytes_damaged, record(payload).len() as u64);
    }
    // Fields that do not add up to the length.
    for change in [-1i32, 1, 4] {
        let mut payload = payload(b"load", &[b"socket0"]);
        payload.resize(payload.len().wrapping_add_signed(change as isize), 0);
        assert_eq!(read(&[&v1::FILE_MAGIC[..], &record(&payload)].concat()).1.records, 0, "{change}");
    }
}

#[test]
fn crafted_headers_cost_no_more_than_their_bytes() {
    // A million beginnings of records, each of which claims all that follows, would take hours to checksum.
    let mut bytes = v1::FILE_MAGIC.to_vec();
    for _ in 0..1_000_000 {
        bytes.extend_from_slice(&v1::RECORD_MAGIC);
        bytes.extend_from_slice(&60_000u32.to_le_bytes());
    }
    let start = std::time::Instant::now();
    let (records, report) = read(&bytes);
    assert_eq!((records.len(), report.bytes_damaged), (0, 8_000_000));
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9_:. ä]{1,20}"
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_replayed(
        samples in proptest::collection::vec((any::<i64>(), name(), proptest::collection::vec(name(), 0..4), any::<u32>()), 1..20)
    ) {
        let records: Vec<Record<'_>> = samples
            .iter()
            .map(|(timestamp, metric, selector, bits)| Record {
                timestamp: *timestamp,
                metric,
                selector: selector.iter().map(String::as_str).collect(),
                value: f32::from_bits(*bits),
            })
            .collect();
        let (read, report) = read(&v1::encode(&records));
        prop_assert_eq!(read, samples);
        prop_assert!(report.intact && report.bytes_damaged == 0);
    }

    #[test]
    fn any_bytes_are_accounted_for(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..3624) {
        let mut file = INTACT[..at].to_vec();
        file.extend_from_slice(&bytes);
        let (records, report) = read(&file);
        let (whole, _) = read(INTACT);
        prop_assert!(records.len() <= whole.len() && records.iter().zip(&whole).all(|(got, sent)| got == sent));
        prop_assert!(report.bytes_damaged <= file.len() as u64);
    }
}
