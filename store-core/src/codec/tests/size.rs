//! How many bytes columns take.

use super::{
    super::{ROWS_MAX, encode, payload_bytes_max},
    assert_lossless,
    columns::{BUSY, IDLE, Kind, column, mix},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

fn bytes_per_sample(columns: &[(Kind, Vec<f32>)]) -> f64 {
    let samples: usize = columns.iter().map(|(_, values)| values.len()).sum();
    let bytes: usize = columns.iter().map(|(_, values)| assert_lossless(values).len()).sum();
    bytes as f64 / samples as f64
}

#[test]
fn a_busy_fleet_takes_about_two_bytes_a_sample() {
    for (rows, most) in [(64, 2.1), (256, 2.0)] {
        let got = bytes_per_sample(&mix(&BUSY, rows, 5));
        assert!((1.5..most).contains(&got), "{got:.3} B/sample at {rows} rows");
    }
}

#[test]
fn an_idle_fleet_takes_next_to_nothing() {
    for (rows, most) in [(64, 0.15), (256, 0.12)] {
        let got = bytes_per_sample(&mix(&IDLE, rows, 6));
        assert!(got < most, "{got:.3} B/sample at {rows} rows");
    }
}

#[test]
fn random_bits_take_one_byte_more_than_they_have() {
    let mut rng = StdRng::seed_from_u64(7);
    for rows in [1, 2, 3, 5, 64, 255, 256] {
        for share in [0.0, 0.01, 0.1, 0.5, 0.9] {
            let values: Vec<f32> = (0..rows)
                .map(|_| if rng.random_bool(share) { f32::NAN } else { f32::from_bits(rng.random()) })
                .collect();
            let len = assert_lossless(&values).len();
            assert!(len <= payload_bytes_max(rows), "{len} bytes for {rows} rows");
            assert!(rows < 64 || len as f64 <= 4.1 * rows as f64);
        }
    }
}

#[test]
fn missing_values_and_outliers_cost_only_themselves() {
    let mut rng = StdRng::seed_from_u64(8);
    for kind in [Kind::Rate, Kind::Percent, Kind::Counter, Kind::Load, Kind::Clock, Kind::Temperature] {
        for _ in 0..10 {
            let values = column(kind, ROWS_MAX, &mut rng);
            let whole = assert_lossless(&values).len();
            let mut holed = values.clone();
            for row in [3, 77, 78, 200] {
                holed[row] = f32::NAN;
            }
            let with_holes = assert_lossless(&holed).len();
            // Three gaps: each is a place, and over differences a patch.
            assert!(with_holes <= whole + 30, "{kind:?}: {whole} bytes, with four missing {with_holes}");
            let mut spiked = values.clone();
            spiked[100] = 3.3e33;
            let with_spike = assert_lossless(&spiked).len();
            // This one is no decimal: among decimals it leaves frames, but no differences.
            let most = whole + whole / 10 + 30;
            assert!(with_spike <= most, "{kind:?}: {whole} bytes, with an outlier {with_spike}");
        }
    }
}

#[test]
fn what_hardly_changes_takes_a_few_bytes() {
    let size = |value: &dyn Fn(usize) -> f32| {
        let values: Vec<f32> = (0..ROWS_MAX).map(value).collect();
        assert_lossless(&values).len()
    };
    assert_eq!(size(&|_| 0.0), 1);
    assert_eq!(size(&|_| 42.1), 5);
    // A counter at a steady pace is a frame of no bits over its differences.
    assert_eq!(size(&|row| 1000.0 + 17.0 * row as f32), 10);
    // One jump: two runs.
    assert!(size(&|row| if row < 100 { 1.25 } else { 7.5 }) <= 18);
    // One lonely event.
    assert!(size(&|row| if row == 99 { 0.123_456 } else { 0.0 }) <= 16);
    // Two states in turn: a bit each.
    assert!(size(&|row| [1.0e-3, 9.87e7][row % 2]) <= 32 + 12);
    // Whole pages: the lowest twelve bits are spared.
    assert!(size(&|row| 1.0e10_f32 + 4096.0 * ((row * 7) % 16) as f32) <= 128 + 8);
}

#[test]
fn an_encoder_appends_and_never_touches_what_is_there() {
    let mut rng = StdRng::seed_from_u64(9);
    let mut out = vec![1, 2, 3];
    for (kind, _) in BUSY {
        let before = out.clone();
        encode(&column(kind, 64, &mut rng), &mut out);
        assert_eq!(out[..before.len()], before);
    }
}
