//! Every column comes back bit for bit, whole or in part.

use super::{
    super::{
        ADAPTIVE, CANONICAL_NAN, CodecError, RAW, ROWS_MAX, decode_with, encode, encode_with, is_known,
        sum_into,
    },
    assert_lossless, bits_of, canonical,
    columns::{BUSY, column},
    payload_of,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Columns that no cluster makes: what the edges of each scheme look like.
fn odd_columns(rows: usize, rng: &mut StdRng) -> Vec<Vec<f32>> {
    let mut make = |next: &mut dyn FnMut(usize, &mut StdRng) -> f32| -> Vec<f32> {
        (0..rows).map(|row| next(row, rng)).collect()
    };
    vec![
        make(&mut |_, rng| f32::from_bits(rng.random())),
        make(&mut |_, rng| f32::from_bits(rng.random_range(0..1 << 23))),
        make(&mut |_, rng| if rng.random() { 0.0 } else { -0.0 }),
        make(&mut |row, _| if row % 50 == 7 { -0.0 } else { row as f32 / 4.0 }),
        make(&mut |row, rng| if row % 17 == 3 { f32::NAN } else { rng.random_range(0..100) as f32 }),
        make(&mut |row, rng| {
            if row % 17 == 3 { rng.random() } else { rng.random_range(0..100) as f32 / 100.0 }
        }),
        make(&mut |_, rng| rng.random_range(-1000..1000) as f32 / 10_f32.powi(rng.random_range(0..8))),
        make(&mut |row, _| (row * row * row) as f32 - 5.0e6),
        make(&mut |row, rng| (row as f32 * 1e30).copysign(rng.random_range(-1.0..1.0))),
        make(&mut |row, _| if row == 100 { f32::INFINITY } else { 3.0 + row as f32 }),
        make(&mut |row, _| (row / 40) as f32 * 0.1),
        make(&mut |row, rng| if row % 2 == 0 { 5.5 } else { rng.random() }),
        make(&mut |row, rng| {
            if rng.random_range(0..9) == 0 { f32::NAN } else { [0.0, 1e-7, 3.3e9][row / 5 % 3] }
        }),
        make(&mut |row, rng| 16_777_216.0 + 512.0 * row as f32 + 2.0 * rng.random_range(0..4) as f32),
        make(&mut |row, _| f32::from_bits(if row % 3 == 0 { 0x7fa0_0001 } else { 0xffff_ffff })),
        make(&mut |row, rng| if row == rows - 1 { 1.0 } else { rng.random::<f32>() * f32::NAN }),
        make(&mut |row, rng| if row < rows / 2 { rng.random::<f32>() } else { 1e9 * rng.random::<f32>() }),
        make(&mut |_, rng| rng.random_range(0..100) as f32 * 1.0e-3 + 8000.0),
    ]
}

#[test]
fn columns_of_every_kind_and_length_come_back() {
    let mut rng = StdRng::seed_from_u64(11);
    for rows in 1..=ROWS_MAX {
        for (kind, _) in BUSY {
            assert_lossless(&column(kind, rows, &mut rng));
        }
        for values in odd_columns(rows, &mut rng) {
            assert_lossless(&values);
        }
    }
}

#[test]
fn a_part_is_what_the_whole_has_there() {
    let mut rng = StdRng::seed_from_u64(12);
    for rows in [1, 2, 7, 8, 9, 63, 64, 200, 256] {
        let mut columns = odd_columns(rows, &mut rng);
        columns.extend(BUSY.iter().map(|&(kind, _)| column(kind, rows, &mut rng)));
        for values in columns {
            let (payload, expected) = (payload_of(&values), canonical(&values));
            for _ in 0..40 {
                let (a, b) = (rng.random_range(0..=rows), rng.random_range(0..=rows));
                let range = a.min(b)..a.max(b);
                assert_eq!(bits_of(&payload, rows, range.clone()).unwrap(), expected[range]);
            }
        }
    }
}

#[test]
fn a_column_without_values_has_no_bytes_and_one_value_is_kept() {
    assert_eq!(payload_of(&[]), []);
    assert_eq!(payload_of(&[f32::NAN; 256]), []);
    assert_eq!(bits_of(&[], 256, 3..6).unwrap(), [CANONICAL_NAN; 3]);
    for row in [0, 1, 100, 255] {
        let mut values = [f32::NAN; 256];
        values[row] = -1.5e-40;
        assert!(assert_lossless(&values).len() <= 38);
    }
}

#[test]
fn every_nan_becomes_the_canonical_one() {
    let nans = [0x7f80_0001, 0xff80_0001, 0xffff_ffff, 0x7fff_ffff, 0xffc0_0000].map(f32::from_bits);
    for codec in [RAW, ADAPTIVE] {
        let mut payload = Vec::new();
        let values: Vec<f32> = nans.iter().copied().chain([1.0]).collect();
        encode_with(codec, &values, &mut payload);
        let mut out = [0.0; 6];
        decode_with(codec, &payload, 6, 0..6, &mut out).unwrap();
        let bits = out.map(f32::to_bits);
        assert_eq!(
            bits,
            [CANONICAL_NAN, CANONICAL_NAN, CANONICAL_NAN, CANONICAL_NAN, CANONICAL_NAN, 0x3f80_0000]
        );
    }
}

#[test]
fn the_raw_codec_keeps_every_value() {
    let mut rng = StdRng::seed_from_u64(13);
    for values in odd_columns(100, &mut rng) {
        let mut payload = Vec::new();
        encode_with(RAW, &values, &mut payload);
        if values.iter().all(|value| value.is_nan()) {
            assert_eq!(payload, []);
            continue;
        }
        assert_eq!(payload.len(), 400);
        let mut out = [0.0; 30];
        decode_with(RAW, &payload, 100, 20..50, &mut out).unwrap();
        assert_eq!(out.map(f32::to_bits).as_slice(), &canonical(&values)[20..50]);
    }
}

#[test]
fn sums_add_values_and_missing_ones_make_nan() {
    let values = [1.5, f32::NAN, -2.0, 4.0];
    let payload = payload_of(&values);
    let mut sums = [10.0, 20.0, 30.0];
    sum_into(ADAPTIVE, &payload, 4, 0..3, &mut sums).unwrap();
    assert_eq!((sums[0], sums[2]), (11.5, 28.0));
    assert!(sums[1].is_nan());
    sum_into(ADAPTIVE, &[], 4, 3..4, &mut sums[..1]).unwrap();
    assert!(sums[0].is_nan(), "an empty payload is missing values");
    let mut sums = [7.0; 4];
    assert!(sum_into(ADAPTIVE, &payload[..3], 4, 0..4, &mut sums).is_err());
    assert_eq!(sums, [7.0; 4], "nothing is added when the payload is damaged");
}

#[test]
fn unknown_codecs_and_impossible_ranges_are_errors() {
    let payload = payload_of(&[1.0, 2.0]);
    let mut out = [0.0; 300];
    assert!(is_known(RAW) && is_known(ADAPTIVE) && !is_known(2));
    assert_eq!(decode_with(2, &payload, 2, 0..2, &mut out[..2]), Err(CodecError::UnknownCodec { codec: 2 }));
    let rows = 257;
    assert_eq!(decode_with(ADAPTIVE, &[], rows, 0..2, &mut out[..2]), Err(CodecError::TooManyRows { rows }));
    for (start, end) in [(0, 3), (2, 1), (3, 3)] {
        let error = decode_with(RAW, &payload, 2, start..end, &mut out[..end.saturating_sub(start)]);
        assert_eq!(error, Err(CodecError::Range { start, end, rows: 2 }));
    }
}

#[test]
#[should_panic(expected = "a block has at most 256 rows, not 257")]
fn more_rows_than_a_block_has_are_refused() {
    encode(&[1.0; 257], &mut Vec::new());
}

#[test]
#[should_panic(expected = "the output is as long as the range")]
fn an_output_of_another_length_is_refused() {
    let payload = payload_of(&[1.0, 2.0]);
    let _ignored = decode_with(ADAPTIVE, &payload, 2, 0..2, &mut [0.0; 3]);
}

/// A value out of a palette that the column shares, or one of its own.
fn columns_of_a_palette() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        any::<u32>().prop_map(f32::from_bits),
        (-2_000_000_i32..2_000_000, 0..7).prop_map(|(n, digits)| n as f32 / 10_f32.powi(digits)),
        Just(0.0_f32),
        Just(-0.0_f32),
        Just(f32::NAN),
        Just(f32::MAX),
        Just(f32::MIN_POSITIVE / 3.0),
    ];
    prop::collection::vec(value, 1..40).prop_flat_map(|palette| {
        prop::collection::vec((0..palette.len(), 1_usize..20), 1..=ROWS_MAX).prop_map(move |runs| {
            let values = runs.iter().flat_map(|&(entry, length)| std::iter::repeat_n(palette[entry], length));
            values.take(ROWS_MAX).collect()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bits_come_back(bits in prop::collection::vec(any::<u32>(), 1..=ROWS_MAX)) {
        let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        assert_lossless(&values);
    }

    #[test]
    fn any_runs_out_of_any_palette_come_back(values in columns_of_a_palette()) {
        assert_lossless(&values);
    }

    #[test]
    fn any_narrow_column_with_outliers_comes_back(
        base in any::<u32>(),
        steps in prop::collection::vec((0_u32..200, prop::option::weighted(0.05, any::<u32>())), 1..=ROWS_MAX),
        shift in 0..20,
    ) {
        let bits = steps.into_iter().map(|(step, outlier)| outlier.unwrap_or(base.wrapping_add(step << shift)));
        let values: Vec<f32> = bits.map(f32::from_bits).collect();
        assert_lossless(&values);
    }

    #[test]
    fn any_decimals_come_back(
        start in -30_000_i32..30_000,
        steps in prop::collection::vec(-50_i32..50, 1..=ROWS_MAX),
        digits in 0..7,
    ) {
        let mut n = start;
        let values: Vec<f32> = steps.into_iter().map(|step| { n += step; n as f32 / 10_f32.powi(digits) }).collect();
        assert_lossless(&values);
    }
}
