//! The description of the format and the constants of the code are the same.

use super::*;

const PAGE: &str = include_str!("../../FORMAT.md");

/// Rows of the first table behind the heading `heading`: the cells, trimmed.
fn table(heading: &str) -> Vec<Vec<String>> {
    let (_, behind) = PAGE.split_once(heading).unwrap_or_else(|| panic!("no heading {heading}"));
    behind
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

fn offsets(heading: &str) -> Vec<(usize, usize, String)> {
    let number = |cell: &String| cell.parse::<usize>().unwrap_or_else(|_| panic!("{cell} is no number"));
    table(heading).iter().map(|row| (number(&row[0]), number(&row[1]), row[2].clone())).collect()
}

#[test]
fn the_table_of_the_header_is_the_layout_that_is_written() {
    let header = Header { version: VERSION, number: 0x0403_0201, lineage: Lineage([7; 16]) };
    let bytes = header.encode();
    let rows = offsets("### Header of a segment");
    let mut end = 0;
    for (offset, len, field) in &rows {
        assert_eq!(*offset, end, "{field} does not follow the field before");
        let field_bytes = &bytes[*offset..offset + len];
        match field.as_str() {
            "magic" => assert_eq!(field_bytes, MAGIC),
            "version" => assert_eq!(field_bytes, VERSION.to_le_bytes()),
            "number" => assert_eq!(field_bytes, [1, 2, 3, 4]),
            "lineage" => assert_eq!(field_bytes, [7; 16]),
            "header_crc" => assert_eq!(field_bytes, crc32fast::hash(&bytes[..*offset]).to_le_bytes()),
            "copy" => {
                assert_eq!((*offset, *len), (HALF_BYTES, HALF_BYTES));
                assert_eq!(field_bytes, &bytes[..HALF_BYTES]);
            }
            other => panic!("{other} is not a field"),
        }
        end = offset + len;
    }
    assert_eq!((rows.len(), end), (6, HEADER_BYTES));
}

#[test]
fn the_table_of_limits_is_that_of_the_code() {
    let limits: Vec<(String, u64)> = table("### Limits")
        .iter()
        .map(|row| (row[0].clone(), row[1].replace(' ', "").parse().unwrap_or_else(|_| panic!("{row:?}"))))
        .collect();
    let expected = [
        ("bytes of a payload", frame::PAYLOAD_BYTES_MAX as u64),
        ("bytes of a segment", u64::from(SEGMENT_BYTES_LIMIT)),
        ("number of a segment", u64::from(NUMBER_MAX)),
        ("number of a segment that is found", u64::from(NUMBER_FOUND_MAX)),
        ("least kind of a caller", u64::from(KIND_USER_MIN)),
        ("bytes of a segment without entries", FIRST_BYTES as u64),
        ("digits of a name", NAME_DIGITS as u64),
    ];
    assert_eq!(limits, expected.map(|(name, limit)| (name.to_owned(), limit)));
}

#[test]
fn the_tables_of_version_1_are_the_layout_that_is_written() {
    use crate::v1;

    let bytes = v1::encode(&[v1::Record {
        timestamp: -2,
        metric: "cpu_load",
        selector: vec!["socket0", "core1"],
        value: 1.5,
    }]);
    let record = &bytes[v1::FILE_MAGIC.len()..];
    let payload_len = record.len() - 12;
    for row in table("### Record of version 1") {
        let (offset, field) = (row[0].as_str(), row[2].as_str());
        match (offset, field) {
            ("0", "magic") => assert_eq!(record[..4], v1::RECORD_MAGIC),
            ("4", "payload_len") => {
                assert_eq!(record[4..8], u32::try_from(payload_len).unwrap().to_le_bytes())
            }
            ("8", "payload") => {}
            ("8+n", "payload_crc") => assert_eq!(
                record[8 + payload_len..],
                crc32fast::hash(&record[8..8 + payload_len]).to_le_bytes()
            ),
            other => panic!("{other:?} is not a field"),
        }
    }
    let payload = &record[8..8 + payload_len];
    let fields: Vec<String> = table("### Payload of version 1").iter().map(|row| row[1].clone()).collect();
    assert_eq!(fields, ["timestamp", "metric", "elements", "element", "value"]);
    assert_eq!(payload[..8], (-2i64).to_le_bytes());
    assert_eq!(payload[8..10], [8, 0]);
    assert_eq!(&payload[10..18], b"cpu_load");
    assert_eq!(payload[18], 2);
    assert_eq!(&payload[19..27], b"\x07socket0");
    assert_eq!(&payload[27..33], b"\x05core1");
    assert_eq!(payload[33..], 1.5f32.to_le_bytes());
    assert!(PAGE.contains("`01 A7 1D CC`") && v1::FILE_MAGIC == [0x01, 0xA7, 0x1D, 0xCC]);
    assert!(PAGE.contains("`A1 A7 1D CC`") && v1::RECORD_MAGIC == [0xA1, 0xA7, 0x1D, 0xCC]);
}

#[test]
fn a_header_is_read_from_either_half_and_from_no_damaged_one() {
    let header = Header { version: VERSION, number: 9, lineage: Lineage([3; 16]) };
    let bytes = header.encode();
    assert_eq!(Header::decode(&bytes), Some(header));
    for bit in 0..HEADER_BYTES * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::decode(&flipped), Some(header), "bit {bit}");
        let other = (bit + HALF_BYTES * 8) % (HEADER_BYTES * 8);
        flipped[other / 8] ^= 1 << (other % 8);
        assert_eq!(Header::decode(&flipped), None, "bits {bit} and {other}");
    }
    for cut in 0..HALF_BYTES {
        assert_eq!(Header::decode(&bytes[..cut]), None, "cut at {cut}");
    }
}

#[test]
fn only_exact_names_are_names_of_segments() {
    let path = segment_path(Path::new("log"), 42);
    assert_eq!(path, Path::new("log/00000000000000000042.wal"));
    assert_eq!(segment_number(path.file_name().unwrap()), Some(42));
    for name in [
        "42.wal",
        "00000000000000000000.wal",
        "0000000000000000004x.wal",
        "+0000000000000000042.wal",
        "00000000000000000042.wal.corrupt-1",
        "00000000000000000042",
        "00000000004000000001.wal",
        "00000000004294967297.wal",
        "99999999999999999999.wal",
        ".wal",
        "",
    ] {
        assert_eq!(segment_number(OsStr::new(name)), None, "{name}");
    }
    assert_eq!(segment_number(OsStr::new("00000000003999000000.wal")), Some(NUMBER_FOUND_MAX));
    assert_eq!(segment_number(OsStr::new("00000000003999000001.wal")), None);
}

#[test]
fn names_of_files_set_aside_are_told_from_others() {
    let aside = set_aside_path(&segment_path(Path::new("log"), 1), 12);
    assert_eq!(aside, Path::new("log/00000000000000000001.wal.corrupt-12"));
    assert!(is_set_aside(aside.file_name().unwrap()));
    for name in ["00000000000000000001.wal", "x.corrupt-", "x.corrupt-1a", "corrupt-1"] {
        assert!(!is_set_aside(OsStr::new(name)), "{name}");
    }
}
