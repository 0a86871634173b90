//! Payloads of every scheme, byte for byte: what is written today must be read for ever.
//!
//! Never change a payload here. An encoder that chooses otherwise may change what is written, and then the new payload
//! is added; what stands here must go on being read.

use super::{assert_lossless, bits_of, canonical};

fn bits(bits: u32) -> f32 {
    f32::from_bits(bits)
}

fn column(rows: usize, value: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..rows).map(value).collect()
}

/// What the payload is called, its bytes, and the values it stands for.
fn golden() -> Vec<(&'static str, &'static str, Vec<f32>)> {
    vec![
        ("zero", "11", column(9, |_| 0.0)),
        ("constant", "01 00002a42", column(5, |_| 42.5)),
        ("raw", "00 0000803f 7c6ffcf1", vec![1.0, -2.5e30]),
        (
            "frame over bits",
            "02 07 000028c2 8002a505e54c679dc8e3922a2a74",
            column(16, |i| bits(0x4228_0000 + (i * i * 5 % 97) as u32)),
        ),
        (
            "frame over decimals",
            "32 04 64000080 7092b416385a",
            column(12, |i| (i * 7 % 12 + 100) as f32 / 100.0),
        ),
        (
            "frame with a shift",
            "02 84 02 f90215d0 7092b416385a",
            column(12, |i| 1.0e10 + 4096.0 * (i * 7 % 12) as f32),
        ),
        (
            "frame with a patch",
            "22 44 00000080 01 07 00000080 705e3caaf8d6b492705e",
            column(20, |i| if i == 7 { -0.0 } else { (i * 7 % 16) as f32 / 10.0 }),
        ),
        ("steady counter", "13 00 e8030080 11000000", column(10, |i| 1000.0 + 17.0 * i as f32)),
        (
            "delta over decimals",
            "23 03 50c30080 a8000000 070ee0c0011c388003",
            column(24, |i| (50_000 + 170 * i + i * 5 % 7) as f32 / 10.0),
        ),
        (
            "delta with a patch",
            "13 43 00000080 0f000000 01 14 afbb0d00 070ee0c0011c3880030770e0000e1c",
            column(40, |i| (17 * i + i * 5 % 7 + if i > 20 { 900_000 } else { 0 }) as f32),
        ),
        (
            "delta over bits of negative values",
            "03 03 98badc3e 13fcffff f8f11f3ffee3c77ffcf88f1ffff103",
            column(40, |i| bits(0xc123_4567 + (1000 * i + i * 5 % 7) as u32)),
        ),
        (
            "runs of raw values",
            "04 03 05 1827 00 0000a03f aa0b2e4e cdccccbd",
            column(60, |i| [1.25, 7.3e8, -0.1][i / 25]),
        ),
        (
            "dictionary",
            "05 04 7d038f9073b44c7d038f 00 cdccccbd 51069e3f 33335340 aa0b2e4e",
            column(40, |i| [1.234_567_8, 7.3e8, -0.1, 3.3][(i * i + i * i * i / 7) % 4]),
        ),
        (
            "sparse over another value, listed",
            "56 dbb32277 01 09 13 04 e8030080 0f000000 05055050 5f500005 05505000 05055050 000505",
            column(40, |i| if i == 9 { 3.3e33 } else { (1000 + 17 * i + i * 3 % 5) as f32 }),
        ),
        (
            "sparse over zero, bitmap",
            "26 efdfbf7fff 00 89094b41 4ddb2342 1d7a8a42 9206c342",
            column(40, |i| if i % 9 == 4 { 0.123_456_7 + i as f32 * std::f32::consts::PI } else { 0.0 }),
        ),
        (
            "missing, listed",
            "16 02 0427 12 02 00000080 e4393939393939393909",
            column(40, |i| if i == 4 || i == 39 { f32::NAN } else { (i % 4) as f32 }),
        ),
        (
            "missing, bitmap",
            "06 499204 12 02 00000080 49e34903",
            column(20, |i| if i % 3 == 0 { f32::NAN } else { (i % 4) as f32 }),
        ),
        (
            "missing, then runs, then a dictionary",
            "16 06 000a141e2832 04 0a 03 6459b22c 05 04 322103 00 00000000 08e53c1e fa7eaa3e 00005e42",
            column(60, |i| match i {
                _ if i % 10 == 0 => f32::NAN,
                _ if i / 6 % 2 == 1 => 0.0,
                _ => [0.333, 55.5, 1e-20][i / 12 % 3],
            }),
        ),
    ]
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

#[test]
fn golden_payloads_are_read_as_ever() {
    for (name, payload, values) in golden() {
        let got = bits_of(&bytes(payload), values.len(), 0..values.len());
        assert_eq!(got, Ok(canonical(&values)), "{name}");
    }
}

#[test]
fn golden_columns_are_written_as_ever() {
    for (name, payload, values) in golden() {
        assert_eq!(assert_lossless(&values), bytes(payload), "{name}");
    }
}

#[test]
fn schemes_that_encoders_nest_rarely_are_read_too() {
    // Missing, then another value than zero, both listed; the others are a frame of 32 bits.
    let payload = bytes("16 01 02 56 0000c842 02 00 03 02 20 00000000 000080bf ffff7f40");
    let values = [100.0, 1.0, f32::NAN, -1.0, 100.0];
    assert_eq!(bits_of(&payload, 5, 0..5), Ok(canonical(&values)));
}
