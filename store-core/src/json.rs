//! Numbers and strings as JSON text, written straight into the buffer that goes to the client.
//!
//! Values of an answer have a fixed number of decimals. What was an `f32` is exact when it is multiplied by 1000, and
//! the processor rounds it. All else is rounded on integers: a float is `m * 2^e` with `m` below 2^53, so `m * 1000`
//! fits 64 bits, and the bits that the exponent shifts out say exactly on which side of a half the value lies. The
//! text equals that of `format!("{value:.3}")` for every `f64`, about twenty times as fast.

/// Three digits each, the first in the least byte: entry `n` is `n` with leading zeros.
static TRIPLES: [u32; 1000] = triples();

const fn triples() -> [u32; 1000] {
    let mut table = [0; 1000];
    let mut n = 0;
    while n < 1000 {
        let digits = [b'0' + (n / 100) as u8, b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8, 0];
        table[n] = u32::from_le_bytes(digits);
        n += 1;
    }
    table
}

/// Room that the longest number of the fast path needs: sign, 19 digits, point, decimals and comma, and what is
/// written beyond its end.
const NUMBER_BYTES_MAX: usize = 32;

/// Where a number is written to.
type Room = [u8; NUMBER_BYTES_MAX];

/// Values that [`push_values`] writes at a time.
const CHUNK: usize = 32;

/// Appends `value` with exactly `D` decimals (1, 2 or 3), rounded half to even on its exact value.
///
/// NaN and the infinities are `null`. A negative value keeps its sign where it rounds to zero: `-0.000`.
pub fn push_fixed<const D: usize>(out: &mut Vec<u8>, value: f64) {
    let mut room = [0; NUMBER_BYTES_MAX];
    match put_fixed::<D>(&mut room, value) {
        Some(len) => out.extend_from_slice(&room[..len]),
        None => push_huge::<D>(out, value),
    }
}

/// Appends a JSON array of the values, each with three decimals as [`push_fixed`] writes them.
pub fn push_values(out: &mut Vec<u8>, values: &[f64]) {
    out.push(b'[');
    // Written here first: numbers are much shorter than the room they need while they are written.
    let mut text = [0; CHUNK * NUMBER_BYTES_MAX];
    for chunk in values.chunks(CHUNK) {
        let mut end = 0;
        for &value in chunk {
            let room = text[end..].first_chunk_mut();
            if let Some(len) = room.and_then(|room| put_fixed::<3>(room, value)) {
                // The comma is there already.
                end += len + 1;
            } else {
                out.extend_from_slice(&text[..end]);
                end = 0;
                push_huge::<3>(out, value);
                out.push(b',');
            }
        }
        out.extend_from_slice(&text[..end]);
    }
    if !values.is_empty() {
        out.pop();
    }
    out.push(b']');
}

/// Appends a whole number.
pub fn push_i64(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    push_u64(out, value.unsigned_abs());
}

/// Appends a whole number that has no sign.
pub fn push_u64(out: &mut Vec<u8>, value: u64) {
    let mut text = [0; NUMBER_BYTES_MAX];
    let len = put_integer(&mut text, value);
    out.extend_from_slice(&text[..len]);
}

/// Appends a JSON string with its quotes.
///
/// Quotes, backslashes and control characters are escaped; all else stays as it is, in UTF-8.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut copied = 0;
    while let Some(plain) = bytes[copied..].iter().position(|&byte| !is_plain(byte)) {
        let index = copied + plain;
        out.extend_from_slice(&bytes[copied..index]);
        copied = index + 1;
        match bytes[index] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Writes the number and a comma at the start of `to`, and gives the length of the number; `None` for finite values
/// of 2^53 and more, which are too long for the room there is.
#[inline(always)]
fn put_fixed<const D: usize>(to: &mut Room, value: f64) -> Option<usize> {
    const { assert!(D >= 1 && D <= 3, "one, two or three decimals") };
    /// From here on floats are whole numbers: adding it rounds what is less, ties to the even neighbour.
    const WHOLE: f64 = (1_u64 << 52) as f64;
    let scale = const { 10_u64.pow(D as u32) };
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as u32;
    let fraction = bits & ((1 << 52) - 1);
    let rounded = if fraction.trailing_zeros() >= 10 && exponent < 1023 + 42 {
        // What once was an f32: the product is exact.
        (value.abs() * scale as f64 + WHOLE).to_bits() & ((1 << 52) - 1)
    } else if exponent >= 1023 + 53 {
        if exponent == 0x7ff {
            to[..8].copy_from_slice(b"null,\0\0\0");
            return Some(4);
        }
        return None;
    } else {
        rounded_product(fraction, exponent, scale)
    };
    to[0] = b'-';
    let mut len = (bits >> 63) as usize;
    len += put_integer(&mut to[len..], rounded / scale);
    let decimals = TRIPLES[(rounded % scale) as usize] >> (8 * (3 - D));
    let tail = u64::from(b'.') | u64::from(decimals) << 8 | u64::from(b',') << (8 * (D + 1));
    to[len..len + 8].copy_from_slice(&tail.to_le_bytes());
    Some(len + 1 + D)
}

/// The whole number nearest to a value below 2^53 times `scale`, of two the even one.
fn rounded_product(fraction: u64, exponent: u32, scale: u64) -> u64 {
    // A subnormal has no hidden one, but it rounds to zero either way.
    let mantissa = fraction | 1 << 52;
    // value = mantissa / 2^shift, and the product stays below 2^63.
    let (product, shift) = (mantissa * scale, 1023 + 52 - exponent);
    if shift == 0 {
        product
    } else if shift < 64 {
        let half = 1_u64 << (shift - 1);
        // One less than half is added, and the one more if the kept part is odd: ties go to the even neighbour.
        (product + (half - 1) + (product >> shift & 1)) >> shift
    } else {
        0
    }
}

/// Writes `value` at the start of `to`, which has at least 22 bytes, and gives the number of digits.
#[inline(always)]
fn put_integer(to: &mut [u8], value: u64) -> usize {
    if value < 1000 {
        put_first(to, value as u32)
    } else if value < 1_000_000 {
        let value = value as u32;
        let len = put_first(to, value / 1000);
        len + put_triple(&mut to[len..], value % 1000)
    } else {
        put_long(to, value)
    }
}

/// The same for values of a million and more.
#[inline(never)]
fn put_long(to: &mut [u8], value: u64) -> usize {
    let len = put_integer(to, value / 1_000_000);
    let low = (value % 1_000_000) as u32;
    put_triple(&mut to[len..], low / 1000);
    len + 3 + put_triple(&mut to[len + 3..], low % 1000)
}

/// One to three digits, without leading zeros. Writes four bytes.
#[inline]
fn put_first(to: &mut [u8], n: u32) -> usize {
    let len = 1 + usize::from(n >= 10) + usize::from(n >= 100);
    let digits = TRIPLES[n as usize] >> (8 * (3 - len));
    to[..4].copy_from_slice(&digits.to_le_bytes());
    len
}

/// Three digits. Writes four bytes.
#[inline]
fn put_triple(to: &mut [u8], n: u32) -> usize {
    to[..4].copy_from_slice(&TRIPLES[n as usize].to_le_bytes());
    3
}

/// Finite values from 2^53 on: whole numbers with up to 309 digits.
#[cold]
fn push_huge<const D: usize>(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(format!("{value:.D$}").as_bytes());
}

#[cfg(test)]
mod tests;
