//! What the JSON codec does with single numbers, keys and broken files.

use super::*;

fn only_run(text: &str) -> Run {
    let decoded = decode(text.as_bytes()).unwrap();
    assert_eq!(decoded.dump.runs.len(), 1);
    decoded.dump.runs.into_iter().next().unwrap()
}

#[test]
fn numbers_are_rounded_once_and_missing_ones_are_nan() {
    let run = only_run(
        r#"{"metrics":{"m":{"frequency":10,"start":5,"data":[1.5, null ,-0.0,16777217,1e-50]}},"from":0,"to":0}"#,
    );
    assert_eq!((run.base, run.frequency_s), (5, 10));
    let bits: Vec<u32> = run.values.iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits, [1.5, f32::NAN, -0.0, 16_777_216.0, 0.0].map(f32::to_bits));
}

#[test]
fn short_decimals_are_rounded_as_std_rounds_them() {
    let mut taken = 0;
    let mut check = |text: &str| {
        let Some(value) = short_decimal(text) else { return };
        assert_eq!(value.to_bits(), text.parse::<f32>().unwrap().to_bits(), "{text}");
        taken += 1;
    };
    // Around every border of rounding near 2^24, where neighbours are 1, 2 and 4 apart.
    for n in (1_u64 << 24) - 40..(1 << 24) + 40 {
        for tail in ["", ".0", ".5", ".49999", ".50001", ".000001"] {
            check(&format!("{n}{tail}"));
            check(&format!("-{}{tail}", n * 4 + 2));
        }
    }
    let mut state = 1_u64;
    for _ in 0..200_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let digits = (state >> 8) % 10_u64.pow(1 + (state >> 4) as u32 % 15);
        let text = digits.to_string();
        let point = state as usize % (text.len() + 1);
        check(&format!("{}0.{:0>3}", &text[..point], &text[point..]));
        check(&text);
    }
    for text in ["0", "-0", "0.0", "-0.0", "5.", "0.000000000000001", "999999999999999"] {
        check(text);
    }
    assert!(taken > 300_000, "{taken} numbers");
    for text in [
        "",
        "1e3",
        "1.2.3",
        "\"1\"",
        "1234567890123456",
        "0.1234567890123456",
        "123456789012345678901234567890",
    ] {
        assert_eq!(short_decimal(text), None, "{text}");
    }
}

#[test]
fn what_f32_cannot_hold_is_missing_and_counted() {
    let text = r#"{"metrics":{"m":{"frequency":1,"start":0,"data":[1e39,-1e999,3.4e38]}}}"#;
    let decoded = decode(text.as_bytes()).unwrap();
    assert_eq!(decoded.infinite, 2);
    assert_eq!(decoded.dump.runs[0].newest(), Some(2));
    assert_eq!(decoded.dump.runs[0].oldest(), Some(2));
}

#[test]
fn maps_that_are_null_or_absent_are_empty_and_foreign_keys_are_passed_over() {
    for text in [
        r#"{"metrics":null,"children":null,"from":1,"to":2}"#,
        r#"{"from":1,"to":2,"more":[{"metrics":1}]}"#,
        r#"{"metrics":{"m":{"frequency":60,"start":1,"data":[]},"n":{}},"from":1,"to":2}"#,
    ] {
        assert_eq!(decode(text.as_bytes()).unwrap().dump, Dump { from: 1, to: 2, runs: vec![] }, "{text}");
    }
}

#[test]
fn damage_is_named_with_its_place() {
    let cases = [
        (r#"{"metrics":{"m":{"frequency":1,"data":[1,"2"]}}}"#, 41, Damage::NotANumber),
        (r#"{"metrics":{"m":{"frequency":1,"data":7}}}"#, 38, Damage::NotANumber),
        (r#"{"metrics":{"m":{"frequency":0,"data":[7]}}}"#, 38, Damage::Frequency),
        (r#"{"metrics":{"m":{"frequency":4294967296,"data":[7]}}}"#, 47, Damage::Frequency),
        (r#"{"from":9,"to":8}"#, 0, Damage::EmptyRange),
        (r#"{"metrics":{"m":{"frequency":1,"data":[1,2"#, 42, Damage::CutShort),
        ("", 0, Damage::CutShort),
    ];
    for (text, at, what) in cases {
        match decode(text.as_bytes()) {
            Err(FormatError::Damaged { offset, damage }) => {
                assert_eq!((offset, damage), (at, what), "{text}")
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    for text in ["[1,2]", "{} {}", r#"{"from":"1"}"#, r#"{"metrics":{"m":3}}"#, "null"] {
        assert!(matches!(decode(text.as_bytes()), Err(FormatError::Json(_))), "{text}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| {
        let inner = r#"{"metrics":{"m":{"frequency":1,"start":0,"data":[1]}}}"#;
        let open = r#"{"children":{"c":"#.repeat(levels);
        format!("{open}{inner}{}", "}}".repeat(levels))
    };
    assert_eq!(only_run(&nested(LEVELS_MAX)).path.len(), LEVELS_MAX);
    let damage = decode(nested(LEVELS_MAX + 1).as_bytes()).unwrap_err().damage();
    assert_eq!(damage, Some(Damage::TooDeep));
    assert!(decode(nested(100_000).as_bytes()).is_err());
}

#[test]
fn the_range_is_found_behind_the_values() {
    assert_eq!(peek_range(br#"{"metrics":{"m":[1,2]},"from":-7,"to":9}"#), Some((-7, 9)));
    assert_eq!(peek_range(b"{}"), Some((0, 0)));
    assert_eq!(peek_range(b"[1,2]"), None);
    assert_eq!(peek_range(br#"{"from":1"#), None);
}
