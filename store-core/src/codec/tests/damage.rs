//! Bytes that no encoder wrote.

use super::{
    super::{CodecError, ROWS_MAX, decode},
    bits_of,
    columns::{BUSY, column},
    payload_of,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Payloads of all schemes, with their rows.
fn payloads() -> Vec<(Vec<u8>, usize)> {
    let mut rng = StdRng::seed_from_u64(21);
    let mut payloads = Vec::new();
    for rows in [2, 9, 40, 256] {
        for (kind, _) in BUSY {
            for missing in [0, 2, rows / 2] {
                let mut values = column(kind, rows, &mut rng);
                for _ in 0..missing {
                    values[rng.random_range(0..rows)] = f32::NAN;
                }
                payloads.push((payload_of(&values), rows));
            }
        }
    }
    payloads
}

/// Whatever the bytes are, a part that can be read is the same as in the whole, if that can be read.
fn assert_harmless(payload: &[u8], rows: usize, rng: &mut StdRng) {
    let whole = bits_of(payload, rows, 0..rows);
    for _ in 0..3 {
        let (a, b) = (rng.random_range(0..=rows), rng.random_range(0..=rows));
        let range = a.min(b)..a.max(b);
        let part = bits_of(payload, rows, range.clone());
        if let Ok(whole) = &whole {
            assert_eq!(part.unwrap(), whole[range]);
        }
    }
}

#[test]
fn every_cut_and_every_byte_too_many_is_an_error() {
    for (mut payload, rows) in payloads() {
        for cut in 1..payload.len() {
            assert!(bits_of(&payload[..cut], rows, 0..rows).is_err(), "cut at byte {cut} of {payload:02x?}");
        }
        if !payload.is_empty() {
            let offset = payload.len();
            payload.push(0);
            assert_eq!(bits_of(&payload, rows, 0..rows), Err(CodecError::Trailing { offset }));
        }
    }
}

#[test]
fn every_flipped_bit_gives_values_or_an_error() {
    let mut rng = StdRng::seed_from_u64(22);
    for (mut payload, rows) in payloads() {
        // All bits of what announces the rest, and a few of the rest.
        for bit in 0..payload.len() * 8 {
            if bit < 600 || bit % 37 == 0 {
                payload[bit / 8] ^= 1 << (bit % 8);
                assert_harmless(&payload, rows, &mut rng);
                payload[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

#[test]
fn random_bytes_give_values_or_an_error() {
    let mut rng = StdRng::seed_from_u64(23);
    for round in 0..200_000 {
        let rows = if round % 3 == 0 { rng.random_range(0..=ROWS_MAX) } else { rng.random_range(0..12) };
        let mut payload: Vec<u8> = (0..rng.random_range(0..40)).map(|_| rng.random()).collect();
        // Small numbers reach deeper.
        for byte in &mut payload {
            if rng.random() {
                *byte %= 8;
            }
        }
        assert_harmless(&payload, rows, &mut rng);
    }
}

#[test]
fn a_payload_for_other_rows_is_an_error_or_values() {
    let mut rng = StdRng::seed_from_u64(24);
    for (payload, _) in payloads() {
        for rows in [0, 1, 3, 39, 41, 255] {
            assert_harmless(&payload, rows, &mut rng);
        }
    }
}

fn error_of(payload: &[u8], rows: usize) -> CodecError {
    let mut out = [0.0; ROWS_MAX];
    decode(payload, rows, 0..rows, &mut out[..rows]).unwrap_err()
}

#[test]
fn each_damage_has_its_error() {
    let field = |offset, field| CodecError::Field { offset, field };
    assert_eq!(error_of(&[0x10, 0], 1), CodecError::Tag { offset: 0, tag: 0x10 });
    assert_eq!(error_of(&[0x21], 1), CodecError::Tag { offset: 0, tag: 0x21 });
    assert_eq!(error_of(&[0x82, 0], 1), CodecError::Tag { offset: 0, tag: 0x82 });
    assert_eq!(error_of(&[0x07], 1), CodecError::Tag { offset: 0, tag: 0x07 });
    assert_eq!(error_of(&[0x66], 1), CodecError::Tag { offset: 0, tag: 0x66 });
    assert_eq!(error_of(&[0x00, 1, 2, 3], 1), CodecError::CutShort { offset: 1 });
    assert_eq!(error_of(&[0x11, 0], 1), CodecError::Trailing { offset: 1 });
    assert_eq!(error_of(&[0x02, 33, 0, 0, 0, 0], 1), field(1, "width"));
    assert_eq!(error_of(&[0x02, 0x80, 0, 0, 0, 0, 0], 1), field(2, "shift"));
    assert_eq!(error_of(&[0x02, 0x80, 32, 0, 0, 0, 0], 1), field(2, "shift"));
    assert_eq!(error_of(&[0x02, 0x40, 0, 0, 0, 0, 0], 1), field(6, "number of patches"));
    assert_eq!(error_of(&[0x02, 0x40, 0, 0, 0, 0, 2, 0, 1], 1), field(6, "number of patches"));
    assert_eq!(error_of(&[0x02, 0x40, 0, 0, 0, 0, 2, 1, 1], 2), field(7, "places of patches"));
    assert_eq!(error_of(&[0x02, 0x40, 0, 0, 0, 0, 1, 2], 2), field(7, "places of patches"));
    assert_eq!(error_of(&[0x04, 0, 0], 2), field(1, "number of runs"));
    assert_eq!(error_of(&[0x04, 3, 0], 2), field(1, "number of runs"));
    assert_eq!(error_of(&[0x04, 1, 9], 2), field(2, "width"));
    assert_eq!(error_of(&[0x04, 1, 8, 2], 2), field(3, "lengths of runs"));
    assert_eq!(error_of(&[0x05, 0], 2), field(1, "number of entries"));
    assert_eq!(error_of(&[0x05, 3], 2), field(1, "number of entries"));
    assert_eq!(error_of(&[0x05, 3, 0b11_00_00, 0x11], 3), field(2, "number of an entry"));
    assert_eq!(error_of(&[0x16, 0, 0x11], 2), field(1, "number of places"));
    assert_eq!(error_of(&[0x16, 2, 0, 1, 0x11], 2), field(1, "number of places"));
    assert_eq!(error_of(&[0x16, 1, 2, 0x11], 2), field(1, "places"));
    assert_eq!(error_of(&[0x06, 0b101, 0x11], 2), field(1, "places"));
}

#[test]
fn schemes_stand_only_inside_of_those_that_may_hold_them() {
    // Two values in each column, so that every scheme is possible: a place and another one, two runs, two entries.
    let missing: &[u8] = &[0x16, 1, 0];
    let zero: &[u8] = &[0x36, 1, 0];
    let runs: &[u8] = &[0x04, 2, 0];
    let dictionary: &[u8] = &[0x05, 2, 0b10];
    let constant: &[u8] = &[0x11];
    // A place less leaves one value for the column inside.
    let one_run: &[u8] = &[0x04, 1, 0];
    let one_entry: &[u8] = &[0x05, 1];
    let decode = |parts: &[&[u8]], rows| bits_of(&parts.concat(), rows, 0..rows).map(|bits| bits.len());
    assert_eq!(decode(&[missing, one_run, one_entry, constant], 2), Ok(2));
    assert_eq!(decode(&[missing, zero, one_run, one_entry, constant], 3), Ok(3));
    assert_eq!(decode(&[runs, dictionary, constant], 2), Ok(2));
    for (parts, rows, offset) in [
        (&[missing, missing, constant][..], 3, 3),
        (&[zero, missing, constant], 3, 3),
        (&[zero, zero, constant], 3, 3),
        (&[runs, runs, constant], 2, 3),
        (&[dictionary, runs, constant], 2, 3),
        (&[dictionary, dictionary, constant], 2, 3),
        (&[runs, missing, constant], 2, 3),
        (&[dictionary, zero, constant], 2, 3),
    ] {
        let tag = parts[1][0];
        assert_eq!(decode(parts, rows), Err(CodecError::Tag { offset, tag }), "{parts:02x?}");
    }
}
