//! The fast path against the standard library, at random and where it hurts.

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

/// What the standard library makes of a float, as the line protocol restricts it.
fn oracle(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) && !text.starts_with('+');
    plain.then(|| text.parse::<f64>().ok().map(|value| (value as f32).to_bits()))?
}

fn parsed(text: &str) -> Option<u32> {
    parse_value(text.as_bytes()).ok().map(f32::to_bits)
}

#[track_caller]
fn same(text: &str) {
    assert_eq!(parsed(text), oracle(text), "{text}");
    // Bytes behind the number change neither its value nor its end.
    for tail in [" ", " 1700000000", ",", "x12345678", ""] {
        let longer = format!("{text}{tail}");
        let scanned = scan_value(longer.as_bytes());
        if let Some(bits) = oracle(text) {
            assert_eq!(scanned.map(|(v, used)| (v.to_bits(), used)), Some((bits, text.len())), "{longer}");
        }
    }
}

#[test]
fn the_number_forms_of_the_protocol_are_numbers() {
    let cases: &[(&str, f32)] = &[
        ("4i", 4.0),
        ("4u", 4.0),
        ("-4i", -4.0),
        ("0i", 0.0),
        ("-0i", 0.0),
        ("007i", 7.0),
        ("007", 7.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("5.e1", 50.0),
        ("1e3", 1000.0),
        ("1E3", 1000.0),
        ("1e+3", 1000.0),
        ("1e-3", 0.001),
        ("-0", -0.0),
        ("-0.0", -0.0),
        ("123456789i", 123_456_790.0),
        ("18446744073709551615u", 18_446_744_073_709_551_615.0),
        ("9223372036854775807i", 9_223_372_036_854_775_807.0),
        ("-9223372036854775808i", -9_223_372_036_854_775_808.0),
        ("0.031159000000000003", 0.031_159),
        ("2.5165824e+07", 25_165_824.0),
        ("1e39", f32::INFINITY),
        ("-1e400", f32::NEG_INFINITY),
        ("1e-400", 0.0),
        ("0e999999999999", 0.0),
        ("340282346638528859811704183484516925440", f32::MAX),
    ];
    for &(text, value) in cases {
        assert_eq!(parse_value(text.as_bytes()).map(f32::to_bits), Ok(value.to_bits()), "{text}");
    }
}

#[test]
fn what_is_no_number_is_refused_with_its_reason() {
    for text in [
        "", "-", ".", "-.", "+5", "+5i", "nan", "NaN", "inf", "-inf", "infinity", "0x10", "-0x1p3", "1_0",
        "1i5", "1e", "1e+", "e5", "-3u", "i", "u", "-i", "1.5i", "1e3i", "1.5u", "t", "true", "\"a\"", "1 ",
        " 1", "1\r", "--1", "1-", "1.2.3", "1,5", "\u{661}", "1f", "i4",
    ] {
        assert_eq!(parse_value(text.as_bytes()), Err(NumberError::Syntax), "{text}");
    }
    for text in
        ["9223372036854775808i", "-9223372036854775809i", "18446744073709551616u", "99999999999999999999999i"]
    {
        assert_eq!(parse_value(text.as_bytes()), Err(NumberError::IntegerRange), "{text}");
    }
}

#[test]
fn integers_are_read_whole_or_refused() {
    for (text, want) in [
        ("0", Ok(0)),
        ("-1", Ok(-1)),
        ("1700000000", Ok(1_700_000_000)),
        ("1725827464642231296", Ok(1_725_827_464_642_231_296)),
        ("9223372036854775807", Ok(i64::MAX)),
        ("-9223372036854775808", Ok(i64::MIN)),
        ("9223372036854775808", Err(NumberError::IntegerRange)),
        ("000000000000000000000000007", Ok(7)),
        ("", Err(NumberError::Syntax)),
        ("-", Err(NumberError::Syntax)),
        ("+1", Err(NumberError::Syntax)),
        ("1.5", Err(NumberError::Syntax)),
        ("17000x", Err(NumberError::Syntax)),
        ("12345678-", Err(NumberError::Syntax)),
    ] {
        assert_eq!(parse_integer(text.as_bytes()), want, "{text}");
    }
}

#[test]
fn every_count_of_digits_around_the_word_border_is_exact() {
    for whole in 0..24 {
        for fraction in 0..24 {
            for digit in ['0', '1', '9'] {
                let ones = |n: usize| std::iter::repeat_n(digit, n).collect::<String>();
                same(&format!("{}.{}", ones(whole), ones(fraction)));
                same(&format!("-{}.{}e-3", ones(whole), ones(fraction)));
                same(&ones(whole));
            }
        }
    }
}

#[test]
fn texts_next_to_the_border_between_two_f32_are_rounded_as_the_standard_library_does() {
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..15_000 {
        // The border lies half way between neighbours; 17 to 19 digits come closer to it than 53 bits can tell.
        let below = f32::from_bits(rng.random_range(0x3000_0000_u32..0x5000_0000));
        let border = (f64::from(below) + f64::from(f32::from_bits(below.to_bits() + 1))) / 2.0;
        for ulps in -6_i64..=6 {
            let near = f64::from_bits(border.to_bits().wrapping_add_signed(ulps));
            same(&format!("{near:.*}", rng.random_range(0..20)));
            same(&format!("{near:.*e}", rng.random_range(14..19)));
        }
    }
}

#[test]
fn borders_in_plain_decimals_are_rounded_as_the_standard_library_does() {
    // Integers between neighbouring f32, and one unit to either side, as floats of 17 to 19 digits.
    let mut rng = StdRng::seed_from_u64(8);
    for _ in 0..25_000 {
        let exponent = rng.random_range(54..64);
        let mantissa = rng.random_range(1_u64 << 24..1 << 25) | 1;
        let border = mantissa << (exponent - 25);
        for text in [border, border - 1, border + 1, border - 600, border + 600, border + 1024] {
            same(&text.to_string());
            same(&format!("{text}e-2"));
            same(&format!("{text}.0"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_f32_written_shortest_comes_back(bits in any::<u32>()) {
        let value = f32::from_bits(bits);
        prop_assume!(value.is_finite());
        prop_assert_eq!(parsed(&format!("{value}")), Some(bits));
        prop_assert_eq!(parsed(&format!("{value:e}")), Some(bits));
    }

    #[test]
    fn any_f64_written_shortest_is_rounded_once(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        same(&format!("{value:e}"));
        same(&format!("{value}"));
    }

    #[test]
    fn rates_with_full_mantissas_are_exact(a in 0_u64..1 << 40, b in 1_u64..1 << 20) {
        same(&format!("{}", a as f64 / b as f64));
    }

    #[test]
    fn any_text_of_number_bytes_is_read_as_the_standard_library_reads_it(text in "-?[0-9]{0,22}(\\.[0-9]{0,22})?([eE][-+]?[0-9]{0,4})?") {
        same(&text);
    }

    #[test]
    fn any_text_of_likely_bytes_is_read_as_the_standard_library_reads_it(text in "[-+.0-9eE]{0,12}") {
        prop_assert_eq!(parsed(&text), oracle(&text), "{}", text);
    }

    #[test]
    fn integers_equal_the_standard_library(text in "-?[0-9]{0,21}", suffix in "[iu]") {
        let float = text.parse::<i64>().ok().map(|n| (n as f64 as f32).to_bits());
        let unsigned = text.parse::<u64>().ok().map(|n| (n as f64 as f32).to_bits());
        prop_assert_eq!(parsed(&format!("{text}{suffix}")), if suffix == "i" { float } else { unsigned });
        prop_assert_eq!(parse_integer(text.as_bytes()).ok(), text.parse::<i64>().ok());
    }

    #[test]
    fn any_bytes_never_panic_and_never_claim_more_than_there_is(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Some((_, used)) = scan_value(&bytes) {
            prop_assert!(used <= bytes.len());
            prop_assert!(parse_value(&bytes[..used]).is_ok());
        }
        if let Some((_, used)) = scan_integer(&bytes) {
            prop_assert!(parse_integer(&bytes[..used]).is_ok());
        }
    }
}
