//! Numbers of the line protocol: bytes to `f32` and to `i64`, exactly and fast.
//!
//! A value is read as `f64` and then rounded to `f32`, the two steps in which the original's files get
//! theirs, so the same text gives the same bits in both. The fast path never guesses: where it cannot prove its
//! answer it asks the standard library.
//!
//! * Digits are taken eight at a time from one machine word.
//! * Up to 2^53 and 10^±22 one multiplication or division of exact numbers is exact (Clinger, 1990).
//! * With more digits (`0.031159000000000003`: what collectors send as rates) that quotient is off by at most three
//!   units in the last of 53 bits. Only 24 of them are kept: if both ends of the uncertainty round to one `f32`, that is it.

/// What can be wrong with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NumberError {
    /// No number of the line protocol: `+5`, `nan`, `0x10`, `1_0`, `1i5`, `-3u`.
    #[error("no number")]
    Syntax,
    /// An integer (`i`) or a time that 64 signed bits cannot hold, or an unsigned integer (`u`) beyond 64 bits.
    #[error("integer out of range")]
    IntegerRange,
}

/// Powers of ten that `f64` holds exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Powers of ten by which a word of up to eight digits moves what stands before it.
const SHIFTS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// As many digits as 64 bits always hold.
const DIGITS_MAX: usize = 19;

/// Reads a value at the front of `bytes`: the number, rounded to `f32`, and how many bytes it takes.
///
/// A float, an integer with an `i` or an unsigned integer with a `u` behind it. What follows is the
/// caller's to judge. A number beyond `f32` comes back as an infinity. `None`: not even the front is a
/// number (or an integer of more than 18 digits: [`parse_value`] decides).
#[inline]
#[must_use]
pub fn scan_value(bytes: &[u8]) -> Option<(f32, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut word = 0;
    let whole = take_digits(bytes, start, &mut word);
    let mut end = start + whole;
    let mut fraction = 0;
    match bytes.get(end) {
        Some(b'.') => {
            fraction = take_digits(bytes, end + 1, &mut word);
            end += 1 + fraction;
        }
        Some(b'i') if (1..DIGITS_MAX).contains(&whole) => {
            return Some((signed(word as f64 as f32, negative && word != 0), end + 1));
        }
        Some(b'u') if (1..DIGITS_MAX).contains(&whole) && !negative => {
            return Some((word as f64 as f32, end + 1));
        }
        _ => {}
    }
    if whole + fraction == 0 {
        return None;
    }
    let mut exponent = 0;
    if let Some(b'e' | b'E') = bytes.get(end) {
        let (found, used) = take_exponent(bytes.get(end + 1..)?)?;
        exponent = found;
        end += 1 + used;
    }
    if whole + fraction <= DIGITS_MAX
        && let Some(value) = round(word, exponent.saturating_sub_unsigned(fraction as u32))
    {
        return Some((signed(value, negative), end));
    }
    // The scan has seen exactly what the standard library calls a float; no `inf`, `nan` or plus sign.
    let text = std::str::from_utf8(bytes.get(..end)?).ok()?;
    Some((text.parse::<f64>().ok()? as f32, end))
}

/// Reads `token`, all of it, as a value: a float, or an integer ending in `i` or `u`.
///
/// A number beyond `f32` comes back as an infinity.
///
/// # Errors
/// [`NumberError`]; a boolean or a string is no number.
pub fn parse_value(token: &[u8]) -> Result<f32, NumberError> {
    match scan_value(token) {
        Some((value, used)) if used == token.len() => return Ok(value),
        _ => {}
    }
    match token.split_last() {
        Some((b'i', digits)) => Ok(parse_integer(digits)? as f64 as f32),
        Some((b'u', digits)) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let text = std::str::from_utf8(digits).map_err(|_| NumberError::Syntax)?;
            text.parse::<u64>().map(|n| n as f64 as f32).map_err(|_| NumberError::IntegerRange)
        }
        _ => Err(NumberError::Syntax),
    }
}

/// Reads a decimal integer at the front of `bytes` and says how many bytes it takes.
///
/// `None`: no digit, or perhaps too many of them ([`parse_integer`] decides).
#[inline]
#[must_use]
pub fn scan_integer(bytes: &[u8]) -> Option<(i64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut word = 0;
    let digits = take_digits(bytes, start, &mut word);
    if !(1..=DIGITS_MAX).contains(&digits) {
        return None;
    }
    let integer = i64::try_from(word).ok()?;
    Some((if negative { -integer } else { integer }, start + digits))
}

/// Reads `token`, all of it, as a decimal integer.
///
/// # Errors
/// [`NumberError`]; a plus sign is none of an integer.
pub fn parse_integer(token: &[u8]) -> Result<i64, NumberError> {
    match scan_integer(token) {
        Some((integer, used)) if used == token.len() => return Ok(integer),
        _ => {}
    }
    let digits = token.strip_prefix(b"-").unwrap_or(token);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NumberError::Syntax);
    }
    let text = std::str::from_utf8(token).map_err(|_| NumberError::Syntax)?;
    text.parse().map_err(|_| NumberError::IntegerRange)
}

/// Adds the run of digits at `at` to `word` (wrapping beyond [`DIGITS_MAX`]) and returns its length.
#[inline(always)]
fn take_digits(bytes: &[u8], at: usize, word: &mut u64) -> usize {
    let mut end = at;
    while let Some(chunk) = bytes.get(end..).and_then(|tail| tail.first_chunk::<8>()) {
        // '0'..='9' become 0..=9. A byte that is no digit may spoil the flags of those behind it, never before it.
        let nibbles = u64::from_le_bytes(*chunk) ^ 0x3030_3030_3030_3030;
        let others = (nibbles.wrapping_add(0x7676_7676_7676_7676) | nibbles) & 0x8080_8080_8080_8080;
        if others == 0 {
            *word = word.wrapping_mul(SHIFTS[8]).wrapping_add(eight_digits(nibbles));
            end += 8;
            continue;
        }
        let count = others.trailing_zeros() as usize / 8;
        if count > 0 {
            // The digits move to the high end; zeros come in before them.
            *word = word.wrapping_mul(SHIFTS[count]).wrapping_add(eight_digits(nibbles << (64 - 8 * count)));
        }
        return end + count - at;
    }
    while let Some(digit) = bytes.get(end).filter(|byte| byte.is_ascii_digit()) {
        *word = word.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        end += 1;
    }
    end - at
}

/// The number of eight digits, the first in the lowest byte, each byte 0..=9.
#[inline(always)]
fn eight_digits(nibbles: u64) -> u64 {
    const PAIRS: u64 = 0x0000_00FF_0000_00FF;
    let pairs = nibbles.wrapping_mul(10).wrapping_add(nibbles >> 8);
    let high = (pairs & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let low = ((pairs >> 16) & PAIRS).wrapping_mul(1 + (10_000 << 32));
    high.wrapping_add(low) >> 32
}

/// The exponent behind an `e`, bounded to what tells zero from infinity, and its length.
fn take_exponent(bytes: &[u8]) -> Option<(i32, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let start = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let mut exponent = 0_i32;
    let mut end = start;
    while let Some(digit) = bytes.get(end).filter(|byte| byte.is_ascii_digit()) {
        exponent = exponent.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
        end += 1;
    }
    (end > start).then_some((if negative { -exponent } else { exponent }, end))
}

/// `word` · 10^`exponent` as `f64` as `f32`, or `None` where that takes more than one operation to prove.
#[inline(always)]
fn round(word: u64, exponent: i32) -> Option<f32> {
    let power = *TENS.get(exponent.unsigned_abs() as usize)?;
    // One instruction for a signed integer, several for an unsigned one.
    let exact = i64::try_from(word).map_or_else(|_| word as f64, |word| word as f64);
    let close = if exponent < 0 { exact / power } else { exact * power };
    if word <= 1 << 53 {
        return Some(close as f32);
    }
    // Two roundings of at most half a unit each, and the one that the exact answer has itself: below 4 units.
    let low = f64::from_bits(close.to_bits() - 4) as f32;
    let high = f64::from_bits(close.to_bits() + 4) as f32;
    (low.to_bits() == high.to_bits()).then_some(low)
}

#[inline(always)]
fn signed(value: f32, negative: bool) -> f32 {
    if negative { -value } else { value }
}

#[cfg(test)]
mod tests;
