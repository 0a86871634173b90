//! Damaged files of either format give an error or a value, never a panic, and never more memory than their
//! size allows.

use proptest::prelude::*;
use store_checkpoint::format::{Decoded, bin1, json};
use store_checkpoint::{Damage, FormatError};

use crate::{golden, sample};

type Decode = fn(&[u8]) -> Result<Decoded, FormatError>;

/// Small whole files of both formats.
fn whole_files() -> Vec<(&'static str, Decode, Vec<u8>)> {
    vec![
        ("our bin", bin1::decode as Decode, bin1::encode(&sample()).unwrap()),
        ("bin", bin1::decode, golden("bin/alpha-a07.bin")),
        ("deep bin", bin1::decode, golden("bin/alpha-a11.bin")),
        ("our json", json::decode, json::encode(&sample()).unwrap()),
        ("json", json::decode, golden("json/alpha-a07.json")),
        ("deep json", json::decode, golden("json/alpha-a11.json")),
    ]
}

/// What is decoded is in proportion to the file, and a writer takes what a reader took.
fn check(decode: Decode, bytes: &[u8]) -> Result<Decoded, FormatError> {
    let decoded = decode(bytes)?;
    let values: usize = decoded.dump.runs.iter().map(|run| run.values.capacity() * 4).sum();
    assert!(values <= 2 * bytes.len(), "{values} bytes of values from a file of {}", bytes.len());
    let again = bin1::decode(&bin1::encode(&decoded.dump).unwrap()).unwrap();
    assert_eq!(again.dump, decoded.dump);
    let again = json::decode(&json::encode(&decoded.dump).unwrap()).unwrap();
    assert_eq!(again.dump, decoded.dump);
    Ok(decoded)
}

#[test]
fn every_cut_is_an_error_at_or_before_the_cut() {
    let mut cuts = 0;
    for (name, decode, whole) in whole_files() {
        let last = if name.contains("json") { whole.len() - 1 } else { whole.len() };
        for cut in 0..last {
            match check(decode, &whole[..cut]) {
                Err(FormatError::Damaged { offset, damage: Damage::CutShort | Damage::CountTooLarge }) => {
                    assert!(offset <= cut as u64, "{name} cut at {cut}: {offset}");
                }
                other => panic!("{name} cut at {cut}: {other:?}"),
            }
            cuts += 1;
        }
        assert!(check(decode, &whole).is_ok(), "{name}");
        assert!(check(decode, &whole[..last]).is_ok(), "{name} without its line feed");
    }
    assert!(cuts > 2000, "{cuts} cuts");
}

#[test]
fn every_flipped_bit_gives_an_error_or_a_value() {
    let (mut errors, mut values) = (0, 0);
    for (_, decode, whole) in whole_files() {
        let mut bytes = whole.clone();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            match check(decode, &bytes) {
                Ok(_) => values += 1,
                Err(_) => errors += 1,
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(bytes, whole);
    }
    println!("{errors} errors, {values} values");
    assert!(errors > values / 2 && values > 0, "{errors} errors, {values} values");
}

#[test]
fn every_byte_may_be_anything() {
    for (_, decode, whole) in whole_files() {
        let mut bytes = whole.clone();
        for at in 0..bytes.len() {
            let kept = bytes[at];
            for byte in [0, 1, 0x7f, 0x80, 0xff, b'"', b'[', b'{', b'}', b','] {
                bytes[at] = byte;
                drop(check(decode, &bytes));
            }
            bytes[at] = kept;
        }
    }
}

#[test]
fn a_count_that_the_file_cannot_hold_is_refused_where_it_stands() {
    let whole = bin1::encode(&sample()).unwrap();
    // Counts of metrics, of values, and of children of the host's level.
    let metrics = 20;
    let values = metrics + 4 + 2 + "cpu_load".len() + 8 + 8;
    let children = values + 4 + 3 * 4 + 2 + "flops".len() + 8 + 8 + 4 + 4;
    for at in [metrics, values, children] {
        for count in [u32::MAX, 1 << 30, 1 << 16] {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
            let expected = (at as u64, Damage::CountTooLarge);
            match check(bin1::decode, &bytes) {
                Err(FormatError::Damaged { offset, damage }) => assert_eq!((offset, damage), expected),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn levels_nested_without_end_are_refused() {
    let mut bytes = bin1::encode(&store_checkpoint::Dump { from: 0, to: 9, runs: Vec::new() }).unwrap();
    bytes.truncate(20);
    for _ in 0..100_000 {
        // No metrics, one child called "c".
        bytes.extend([0, 0, 0, 0, 1, 0, 0, 0, 1, 0, b'c']);
    }
    bytes.extend([0; 8]);
    let damage = check(bin1::decode, &bytes).unwrap_err().damage();
    assert_eq!(damage, Some(Damage::TooDeep));
}

#[test]
fn names_repeated_for_every_series_do_not_multiply_the_file() {
    // One level with a name of 65,535 bytes and 10,000 series of one value: 700 MB if each had the name.
    let mut bytes = Vec::new();
    bytes.extend(bin1::MAGIC.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend([0, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff]);
    bytes.extend([b'x'; 0xffff]);
    bytes.extend(10_000_u32.to_le_bytes());
    for n in 0..10_000_u16 {
        let name = format!("m{n}");
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(60_i64.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(1.0_f32.to_le_bytes());
    }
    bytes.extend([0; 4]);
    let damage = check(bin1::decode, &bytes).unwrap_err().damage();
    assert_eq!(damage, Some(Damage::OutOfProportion));
}

#[test]
fn bytes_behind_the_end_are_damage() {
    let mut bytes = bin1::encode(&sample()).unwrap();
    let end = bytes.len() as u64;
    bytes.push(0);
    match check(bin1::decode, &bytes) {
        Err(FormatError::Damaged { offset, damage }) => {
            assert_eq!((offset, damage), (end, Damage::TrailingBytes))
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn any_bytes_give_an_error_or_a_value(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(check(bin1::decode, &bytes));
        drop(check(json::decode, &bytes));
        let mut headed = bin1::MAGIC.to_le_bytes().to_vec();
        headed.extend([0; 16]);
        headed.extend(&bytes);
        drop(check(bin1::decode, &headed));
    }

    #[test]
    fn any_patchwork_of_whole_files_gives_an_error_or_a_value(
        parts in proptest::collection::vec((0_usize..6, any::<prop::sample::Index>(), 1_usize..80), 1..8),
    ) {
        let files = whole_files();
        let mut bytes = Vec::new();
        for (file, at, len) in parts {
            let whole = &files[file].2;
            let at = at.index(whole.len());
            bytes.extend(&whole[at..whole.len().min(at + len)]);
        }
        drop(check(bin1::decode, &bytes));
        drop(check(json::decode, &bytes));
    }
}
