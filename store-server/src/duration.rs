//! Durations as the config file has them: `48h`, `1h30m`, `500ms`, `-1.5h`.
//!
//! The grammar and its limits are those of Go's `time.ParseDuration`, because existing config files were checked
//! by it. Crates for durations accept more (`1d`) and less (`.5h`, `-1h`).

/// Nanoseconds, of either sign; what Go calls a duration.
pub type Nanoseconds = i64;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// Not a sequence of numbers with units.
    #[error("{0:?} is no duration (example: \"1h30m\")")]
    Malformed(String),
    /// A number without a unit behind it.
    #[error("{0:?} is no duration: a unit is missing (ns, us, ms, s, m or h)")]
    MissingUnit(String),
    /// A unit that does not exist.
    #[error("{text:?} is no duration: unknown unit {unit:?} (ns, us, ms, s, m or h)")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// What stands for a unit.
        unit: String,
    },
    /// More than 292 years.
    #[error("{0:?} is too long for a duration")]
    TooLong(String),
}

/// Magnitude of the smallest duration; one more than that of the largest.
const MAGNITUDE_MAX: u64 = 1 << 63;

fn unit_ns(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Parses a duration.
///
/// # Errors
/// The text is no duration, or one that does not fit in 64 bits of nanoseconds.
pub fn parse(text: &str) -> Result<Nanoseconds, DurationError> {
    let malformed = || DurationError::Malformed(text.to_owned());
    let too_long = || DurationError::TooLong(text.to_owned());
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if unsigned == "0" {
        return Ok(0);
    }
    if unsigned.is_empty() {
        return Err(malformed());
    }
    let mut total: u64 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let (whole, behind) = split_digits(rest);
        let (fraction, behind) = match behind.strip_prefix('.') {
            Some(behind) => split_digits(behind),
            None => ("", behind),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(malformed());
        }
        let unit_len = behind.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_len);
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let ns = unit_ns(unit)
            .ok_or_else(|| DurationError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned() })?;
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| too_long())? };
        let part = whole
            .checked_mul(ns)
            .and_then(|part| part.checked_add(fraction_ns(fraction, ns)))
            .filter(|part| *part <= MAGNITUDE_MAX)
            .ok_or_else(too_long)?;
        total = total.checked_add(part).filter(|total| *total <= MAGNITUDE_MAX).ok_or_else(too_long)?;
        rest = behind;
    }
    if negative {
        return Ok(0i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).map_err(|_| too_long())
}

/// The digits in front, and what follows them.
fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// `0.fraction` of a unit in whole nanoseconds, rounded down.
///
/// In floating point, digits beyond 63 bits dropped: the same rounding as the original's, to the nanosecond.
fn fraction_ns(fraction: &str, unit_ns: u64) -> u64 {
    let mut numerator: u64 = 0;
    let mut scale = 1.0f64;
    for digit in fraction.bytes().map(|byte| u64::from(byte - b'0')) {
        let Some(next) = numerator.checked_mul(10).and_then(|n| n.checked_add(digit)) else { break };
        if next >= MAGNITUDE_MAX {
            break;
        }
        numerator = next;
        scale *= 10.0;
    }
    // A float-to-integer cast saturates; the product is below `unit_ns` but for rounding.
    (numerator as f64 * (unit_ns as f64 / scale)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: i64 = 3_600_000_000_000;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases: [(&str, i64); 27] = [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("30s", 30_000_000_000),
            ("1478s", 1_478_000_000_000),
            ("+5s", 5_000_000_000),
            ("-5s", -5_000_000_000),
            ("5.0s", 5_000_000_000),
            ("5.6s", 5_600_000_000),
            ("5.s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1.004s", 1_004_000_000),
            ("100.00100s", 100_001_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13_000_000),
            ("15m", 900_000_000_000),
            ("48h", 48 * H),
            ("1h30m", H + H / 2),
            ("-1.5h", -(H + H / 2)),
            (".5h", H / 2),
            ("1h15m30.918s", 4_530_918_000_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("1000000h", 1_000_000 * H),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn a_fraction_longer_than_a_number_can_be_is_cut() {
        assert_eq!(parse("0.3333333333333333333h"), Ok(20 * 60_000_000_000));
        assert_eq!(parse("0.100000000000000000000h"), Ok(H / 10));
        assert_eq!(parse("0.830103483285477580700h"), Ok((49 * 60 + 48) * 1_000_000_000 + 372_539_827));
    }

    #[test]
    fn what_is_no_duration_is_refused_by_name() {
        let malformed = ["", "-", "+", ".", "-.", "s", ".s", "+.s", "h1", " 1h", "one hour"];
        for text in malformed {
            assert_eq!(parse(text), Err(DurationError::Malformed(text.to_owned())), "{text:?}");
        }
        for text in ["3", "1h5", "1.5", "0.0"] {
            assert_eq!(parse(text), Err(DurationError::MissingUnit(text.to_owned())), "{text:?}");
        }
        for (text, unit) in [("1d", "d"), ("1h 5m", "h "), ("12H", "H"), ("1month", "month"), ("5-s", "-s")] {
            let expected = DurationError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned() };
            assert_eq!(parse(text), Err(expected), "{text:?}");
        }
        let long = [
            "9223372036854775808ns",
            "-9223372036854775809ns",
            "9223372036854775.808us",
            "3000000h",
            "99999999999999999999h",
            "9223372036s1000000000000h",
        ];
        for text in long {
            assert_eq!(parse(text), Err(DurationError::TooLong(text.to_owned())), "{text:?}");
        }
    }
}
