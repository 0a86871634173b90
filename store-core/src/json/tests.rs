//! The text of numbers is compared with that of the standard library, digit for digit.

use super::{push_fixed, push_i64, push_string, push_u64, push_values};
use rand::{Rng, SeedableRng, rngs::StdRng};

fn fixed<const D: usize>(value: f64) -> String {
    let mut out = b"x".to_vec();
    push_fixed::<D>(&mut out, value);
    assert_eq!(out[0], b'x', "what stood there before stays");
    String::from_utf8(out.split_off(1)).unwrap()
}

fn assert_as_std(value: f64) {
    assert_eq!(fixed::<1>(value), format!("{value:.1}"), "{value:e}");
    assert_eq!(fixed::<2>(value), format!("{value:.2}"), "{value:e}");
    assert_eq!(fixed::<3>(value), format!("{value:.3}"), "{value:e}");
}

#[test]
fn ties_go_to_the_even_neighbour() {
    assert_eq!(fixed::<3>(0.0625), "0.062");
    assert_eq!(fixed::<3>(0.1875), "0.188");
    assert_eq!(fixed::<2>(0.125), "0.12");
    assert_eq!(fixed::<2>(0.375), "0.38");
    assert_eq!(fixed::<1>(0.25), "0.2");
    assert_eq!(fixed::<1>(-0.75), "-0.8");
}

#[test]
fn what_only_looks_like_a_tie_is_rounded_by_its_exact_value() {
    // 1.0005 lies below the half in f64, 1.0015 above it in f32.
    assert_eq!(fixed::<3>(1.0005), "1.000");
    assert_eq!(fixed::<3>(f64::from(1.0015_f32)), "1.002");
    assert_eq!(fixed::<2>(1.005), "1.00");
}

#[test]
fn zeros_keep_their_sign() {
    assert_eq!(fixed::<3>(0.0), "0.000");
    assert_eq!(fixed::<3>(-0.0), "-0.000");
    assert_eq!(fixed::<3>(-1e-9), "-0.000");
    assert_eq!(fixed::<2>(-f64::MIN_POSITIVE), "-0.00");
}

#[test]
fn what_is_no_number_is_null() {
    for value in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(fixed::<3>(value), "null");
        assert_eq!(fixed::<2>(value), "null");
    }
}

#[test]
fn the_borders_of_the_fast_path_read_as_the_standard_library_writes_them() {
    let two53 = (1_u64 << 53) as f64;
    for value in
        [two53, two53 - 1.0, two53 / 2.0, two53 / 2.0 - 0.5, two53 + 2.0, f64::MAX, 5e-324, 1e22, 0.4999]
    {
        assert_as_std(value);
        assert_as_std(-value);
    }
    for power in 0..16 {
        for delta in [-1.0, -0.001, -0.0005, 0.0, 0.0005, 1.0] {
            assert_as_std(10_f64.powi(power) + delta);
        }
    }
}

#[test]
fn random_values_of_every_size_read_as_the_standard_library_writes_them() {
    let mut rng = StdRng::seed_from_u64(3);
    for _ in 0..60_000 {
        let value = f64::from_bits(rng.random());
        if value.is_finite() {
            assert_as_std(value);
        }
        let single = f32::from_bits(rng.random());
        if single.is_finite() {
            assert_as_std(f64::from(single));
        }
        // Multiples of 2^-16 hit ties all the time.
        assert_as_std(f64::from(rng.random_range(-9_000_000..9_000_000)) / 65_536.0);
        assert_as_std(rng.random_range(-1e7..1e7));
    }
}

#[test]
fn values_on_both_sides_of_what_is_rounded_by_the_processor_read_alike() {
    let mut rng = StdRng::seed_from_u64(6);
    for _ in 0..60_000 {
        // Up to 2^44, and 8 to 11 bits at the end of the fraction that are zero.
        let exponent = 1023 + rng.random_range(0..45_u64);
        let fraction = (rng.random::<u64>() & ((1 << 52) - 1)) >> 12 << rng.random_range(8..12);
        assert_as_std(f64::from_bits(exponent << 52 | fraction));
        // Ties of each number of decimals.
        let whole = f64::from(rng.random_range(-1_000_000..1_000_000));
        for odd in [0.5, 0.25, 0.125, 0.0625, 0.1875] {
            assert_as_std(whole + odd);
        }
    }
}

#[test]
fn an_array_is_its_values_with_commas() {
    let mut rng = StdRng::seed_from_u64(4);
    for len in [0, 1, 2, 127, 128, 129, 600] {
        let values: Vec<f64> = (0..len)
            .map(|_| match rng.random_range(0..20) {
                0 => f64::NAN,
                1 => 1e300,
                2 => -0.0,
                _ => rng.random_range(-1e6..1e12),
            })
            .collect();
        let expected: Vec<String> = values
            .iter()
            .map(|value| if value.is_nan() { "null".to_owned() } else { format!("{value:.3}") })
            .collect();
        let mut out = b"{\"data\":".to_vec();
        push_values(&mut out, &values);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{{\"data\":[{}]", expected.join(",")));
    }
}

#[test]
fn whole_numbers_have_no_leading_zeros() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut numbers = vec![0, 1, 9, 10, 99, 100, 999, 1000, 999_999, 1_000_000, u64::MAX, u64::MAX / 2];
    numbers.extend((0..5000).map(|_| rng.random::<u64>() >> rng.random_range(0..64)));
    for number in numbers {
        let mut out = Vec::new();
        push_u64(&mut out, number);
        assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        let signed = number.cast_signed();
        let mut out = Vec::new();
        push_i64(&mut out, signed);
        assert_eq!(String::from_utf8(out).unwrap(), signed.to_string());
    }
}

#[test]
fn strings_are_escaped_and_otherwise_left_alone() {
    let mut out = Vec::new();
    push_string(&mut out, "a\"b\\c\u{1}\n\r\t\u{7f}ü€</x>");
    assert_eq!(String::from_utf8(out).unwrap(), "\"a\\\"b\\\\c\\u0001\\n\\r\\t\u{7f}ü€</x>\"");
    let mut out = Vec::new();
    push_string(&mut out, "");
    assert_eq!(out, b"\"\"");
}
