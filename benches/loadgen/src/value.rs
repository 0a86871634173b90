//! What one series says at one step: kinds of values, their text, and how many bits they really carry.
//!
//! Collectors divide counter differences by measured seconds, so most numbers on the wire have a full mantissa;
//! beside them stand decimals, counters, constants and kilobyte-grained memory. A codec is only as good as the
//! mix it is measured with, hence [`Kind::floor_bits`]: the entropy of what is generated, which no lossless
//! codec can beat.

/// How the values of a metric come about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// What a difference divided by measured seconds looks like: a full mantissa, evenly spread above a level.
    Rate {
        /// The lowest level of a series; levels lie within a factor of two above it.
        level: u32,
        /// 1/16 of the level per unit.
        spread_16ths: u32,
        /// Share of the series that say 0 all the time, in 1/16.
        idle_16ths: u32,
    },
    /// `low + n / 10^digits` with `n` below `range`.
    Decimal {
        /// The smallest value.
        low: u32,
        /// How many different values there are.
        range: u32,
        /// Digits behind the point, 0 to 2.
        digits: u32,
    },
    /// A counter that only grows, by less than `increment` × 2 a step; printed as an integer (`17i`).
    Counter {
        /// The mean growth of a step.
        increment: u32,
    },
    /// Memory in kB, a multiple of 4 that moves every eighth step.
    Memory {
        /// The lowest level in kB.
        low_kb: u32,
        /// How many different amounts (of 4 kB each) there are.
        range: u32,
    },
    /// One number for ever.
    Constant {
        /// The number.
        value: u32,
    },
}

/// What identifies one value, already mixed into three words that do not depend on each other.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Random, the same for all steps of a series.
    pub series_word: u64,
    /// Random, another for each step of each series.
    pub step_word: u64,
    /// What becomes a random word that is the same for eight steps in a row; see [`mix`].
    pub slow_seed: u64,
    /// The number of the step.
    pub step: u32,
}

/// Digits behind the point of a rate.
const RATE_DIGITS: u32 = 11;
/// One, in units of the last digit of a rate.
const RATE_UNIT: u64 = 10u64.pow(RATE_DIGITS);

impl Kind {
    /// Appends the text of the value at `point`, as a collector would print it.
    pub fn push(self, point: Point, out: &mut Vec<u8>) {
        match self {
            Kind::Rate { level, spread_16ths, idle_16ths } => {
                if point.series_word & 15 < u64::from(idle_16ths) {
                    out.push(b'0');
                    return;
                }
                // In units of the last digit; there is no division by a number that is not constant in here.
                let unit = u64::from(level) * RATE_UNIT;
                let low = unit + scale(unit, point.series_word);
                let value = low + scale(low / 16 * u64::from(spread_16ths), point.step_word);
                push_u64(value / RATE_UNIT, out);
                out.push(b'.');
                push_padded(value % RATE_UNIT, RATE_DIGITS, out);
            }
            Kind::Decimal { low, range, digits } => {
                let unit = 10u64.pow(digits);
                let value = u64::from(low) * unit + scale(u64::from(range), point.step_word);
                push_u64(value / unit, out);
                if digits > 0 {
                    out.push(b'.');
                    push_padded(value % unit, digits, out);
                }
            }
            Kind::Counter { increment } => {
                let start = scale(1 << 22, point.series_word);
                let grown = u64::from(point.step) * u64::from(increment);
                push_u64(start + grown + scale(u64::from(increment), point.step_word), out);
                out.push(b'i');
            }
            Kind::Memory { low_kb, range } => {
                let level = u64::from(low_kb) + 4 * scale(u64::from(low_kb), point.series_word);
                push_u64((level & !3) + 4 * scale(u64::from(range), mix(point.slow_seed)), out);
            }
            Kind::Constant { value } => push_u64(u64::from(value), out),
        }
    }

    /// The entropy of a sample in bits, as f32 and given all samples before it: the lossless floor.
    ///
    /// For rates this integrates over the cells of f32 between the ends of the noise, averaged over the levels
    /// of the series; for the others it is the logarithm of the number of choices.
    #[must_use]
    pub fn floor_bits(self) -> f64 {
        match self {
            Kind::Rate { level, spread_16ths, idle_16ths } => {
                let levels = 64;
                let mean = (0..levels)
                    .map(|index| {
                        let low = f64::from(level) * (1.0 + f64::from(index) / f64::from(levels));
                        let width = low * f64::from(spread_16ths) / 16.0;
                        (width / ulp_f32(low + width / 2.0)).log2()
                    })
                    .sum::<f64>()
                    / f64::from(levels);
                mean * f64::from(16 - idle_16ths) / 16.0
            }
            Kind::Decimal { range, .. } => f64::from(range).log2(),
            Kind::Counter { increment } => f64::from(increment).log2(),
            Kind::Memory { range, .. } => f64::from(range).log2() / 8.0,
            Kind::Constant { .. } => 0.0,
        }
    }
}

/// The distance from `value` to the next f32 above it.
fn ulp_f32(value: f64) -> f64 {
    let near = value as f32;
    f64::from(near.next_up()) - f64::from(near)
}

/// Maps a random word to `0..range` without a division.
fn scale(range: u64, word: u64) -> u64 {
    // The product shifted by 64 is below `range`.
    ((u128::from(range) * u128::from(word)) >> 64) as u64
}

/// One round of splitmix64: neighbouring inputs give unrelated words.
#[must_use]
pub fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The decimal digits of 00 to 99.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// Appends `value` in decimal.
pub(crate) fn push_u64(value: u64, out: &mut Vec<u8>) {
    let digits = value.checked_ilog10().unwrap_or(0) + 1;
    push_padded(value, digits, out);
}

/// Appends the last `digits` decimal digits of `value`, with zeros in front.
pub(crate) fn push_padded(mut value: u64, digits: u32, out: &mut Vec<u8>) {
    let digits = digits as usize;
    debug_assert!(digits <= 20, "no u64 has {digits} digits");
    let mut text = [b'0'; 20];
    let mut at = 20;
    while at >= 2 && 20 - at < digits {
        let pair = PAIRS[(value % 100) as usize];
        value /= 100;
        at -= 2;
        text[at..at + 2].copy_from_slice(&pair);
    }
    out.extend_from_slice(&text[20 - digits..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u32) -> Point {
        let word = mix(u64::from(step) + 77);
        Point { series_word: mix(3), step_word: word, slow_seed: word, step }
    }

    fn text(kind: Kind, step: u32) -> String {
        let mut out = Vec::new();
        kind.push(point(step), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_are_printed_as_the_standard_library_prints_them() {
        for value in [0, 1, 9, 10, 99, 100, 101, 12_345, 999_999, 10_000_000_000, u64::MAX] {
            let mut out = Vec::new();
            push_u64(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
        let mut out = Vec::new();
        push_padded(7, 11, &mut out);
        assert_eq!(out, b"00000000007");
    }

    #[test]
    fn rates_have_a_full_mantissa_and_stay_in_their_range() {
        let kind = Kind::Rate { level: 1000, spread_16ths: 8, idle_16ths: 0 };
        let mut low_bits = 0;
        for step in 0..1000 {
            let value: f64 = text(kind, step).parse().unwrap();
            assert!((1000.0..3000.0).contains(&value), "{value}");
            let bits = (value as f32).to_bits();
            low_bits |= bits & 0xff;
        }
        assert_eq!(low_bits, 0xff, "the low bits of the mantissa are in use");
    }

    #[test]
    fn counters_never_fall() {
        let kind = Kind::Counter { increment: 256 };
        let values: Vec<u64> =
            (0..500).map(|step| text(kind, step).trim_end_matches('i').parse().unwrap()).collect();
        assert!(values.is_sorted());
        assert!(values[0] < values[499]);
    }

    #[test]
    fn memory_is_a_multiple_of_four_kilobytes_and_decimals_have_their_digits() {
        for step in 0..100 {
            let kb: u64 = text(Kind::Memory { low_kb: 1 << 20, range: 4096 }, step).parse().unwrap();
            assert_eq!(kb % 4, 0);
            let decimal = text(Kind::Decimal { low: 20, range: 500, digits: 2 }, step);
            assert_eq!(decimal.split_once('.').unwrap().1.len(), 2, "{decimal}");
        }
    }

    #[test]
    fn the_floor_of_a_rate_lies_where_real_collectors_are() {
        let bytes = Kind::Rate { level: 1000, spread_16ths: 8, idle_16ths: 0 }.floor_bits() / 8.0;
        assert!((2.4..2.95).contains(&bytes), "{bytes}");
        assert!(Kind::Constant { value: 5 }.floor_bits() == 0.0);
    }
}
