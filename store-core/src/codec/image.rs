//! Integers that stand for floats: what frames are laid over.
//!
//! Both images are ordered: a smaller float has a smaller integer, so that values near each other have a small range.

/// How an integer stands for a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Image {
    /// The bits of the float, turned so that they are ordered: all floats have one, each its own.
    Bits,
    /// The float is the one nearest to `n / 10^digits`, and the integer is `n` with its top bit flipped.
    Decimal {
        /// At most [`DIGITS_MAX`].
        digits: u8,
    },
}

/// Decimals that [`Image::Decimal`] has at most.
pub(super) const DIGITS_MAX: u8 = 6;

/// Powers of ten; all are exact.
const POWERS: [f32; DIGITS_MAX as usize + 1] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];

/// Up to here whole numbers have all their digits in a float.
const WHOLE_MAX: f64 = 16_777_216.0;

/// Up to here decimals lie at least as far from each other as floats; beyond, they save nothing.
const DECIMAL_MAX: f64 = 8_388_608.0;

/// The top bit: zero of the ordered integers.
pub(super) const MIDDLE: u32 = 1 << 31;

impl Image {
    /// The number that stands in the upper half of a tag.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Bits => 0,
            Self::Decimal { digits } => digits + 1,
        }
    }

    /// The image that a tag names.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Bits),
            1..=7 => Some(Self::Decimal { digits: code - 1 }),
            _ => None,
        }
    }

    /// The float of each integer.
    pub(super) fn floats(self, integers: &[u32], out: &mut [f32]) {
        match self {
            Self::Bits => {
                for (slot, &integer) in out.iter_mut().zip(integers) {
                    // All ones for what was negative.
                    let negative = ((integer ^ MIDDLE).cast_signed() >> 31).cast_unsigned();
                    *slot = f32::from_bits(integer ^ (negative | MIDDLE));
                }
            }
            Self::Decimal { digits: 0 } => {
                for (slot, &integer) in out.iter_mut().zip(integers) {
                    *slot = (integer ^ MIDDLE).cast_signed() as f32;
                }
            }
            Self::Decimal { digits } => {
                let power = POWERS[usize::from(digits.min(DIGITS_MAX))];
                for (slot, &integer) in out.iter_mut().zip(integers) {
                    *slot = (integer ^ MIDDLE).cast_signed() as f32 / power;
                }
            }
        }
    }
}

/// The ordered bits of each float.
pub(super) fn ordered_bits(bits: &[u32], out: &mut [u32]) {
    for (slot, &bits) in out.iter_mut().zip(bits) {
        *slot = ordered(bits);
    }
}

/// The ordered bits of one float.
pub(super) fn ordered(bits: u32) -> u32 {
    let negative = (bits.cast_signed() >> 31).cast_unsigned();
    bits ^ (negative | MIDDLE)
}

/// The whole number nearest to `value * power`, and whether it stands for exactly this float.
///
/// `n` and the power are floats themselves, so the division is the one rounding there is, and it rounds correctly:
/// the same on every machine. Minus zero has no decimal.
#[inline]
fn decimal(bits: u32, power: f32) -> (i32, bool) {
    // Adding this leaves the nearest whole number in the lower bits of the sum; beyond 2^31 it is nonsense, and the
    // comparison fails.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let scaled = f64::from(f32::from_bits(bits)) * f64::from(power);
    let n = (scaled + ROUND).to_bits() as u32;
    let n = n.cast_signed();
    let most = if power == 1.0 { WHOLE_MAX } else { DECIMAL_MAX };
    let exact = scaled.abs() <= most && (n as f32 / power).to_bits() == bits;
    (n, exact)
}

/// The number of decimals with which most of these floats are exact, judged by some of them; `None` if many have none.
pub(super) fn likely_digits(bits: &[u32]) -> Option<u8> {
    const SAMPLES: usize = 12;
    let stride = bits.len().div_ceil(SAMPLES).max(1);
    let (mut digits, mut samples, mut failures) = (0, 0, 0);
    for &bits in bits.iter().step_by(stride) {
        samples += 1;
        match least_digits(bits) {
            Some(least) => digits = digits.max(least),
            None => failures += 1,
        }
    }
    (failures * 4 <= samples).then_some(digits)
}

/// The least number of decimals with which this float is exact.
fn least_digits(bits: u32) -> Option<u8> {
    let size = f64::from(f32::from_bits(bits)).abs();
    // A float that is exact with some decimals is so with more, up to where floats lie closer than decimals: one test
    // tells most floats that have none.
    let most = POWERS.iter().rposition(|&power| size * f64::from(power) <= DECIMAL_MAX).unwrap_or(0);
    if !decimal(bits, POWERS[most]).1 {
        return None;
    }
    let least = POWERS[..most].iter().position(|&power| decimal(bits, power).1).unwrap_or(most);
    u8::try_from(least).ok()
}

/// The decimals of the floats, and which of the floats have none; their places hold the one before.
pub(super) fn decimals(bits: &[u32], digits: u8, out: &mut [u32], inexact: &mut [bool]) -> usize {
    let power = POWERS[usize::from(digits.min(DIGITS_MAX))];
    let mut count = 0;
    for ((slot, inexact), &bits) in out.iter_mut().zip(&mut *inexact).zip(bits) {
        let (n, exact) = decimal(bits, power);
        *slot = n.cast_unsigned() ^ MIDDLE;
        *inexact = !exact;
        count += usize::from(!exact);
    }
    if count > 0 {
        let first = inexact.iter().position(|&inexact| !inexact).map_or(MIDDLE, |index| out[index]);
        let mut last = first;
        for (slot, &inexact) in out.iter_mut().zip(&*inexact) {
            if inexact {
                *slot = last;
            }
            last = *slot;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::{DIGITS_MAX, Image, decimals, least_digits, likely_digits, ordered_bits};

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn ordered_bits_are_ordered_and_come_back() {
        let values =
            [f32::NEG_INFINITY, f32::MIN, -1.5, -1e-45, -0.0, 0.0, 1e-45, 1.5, f32::MAX, f32::INFINITY];
        let mut integers = [0; 10];
        ordered_bits(&bits(&values), &mut integers);
        assert!(integers.is_sorted_by(|a, b| a < b));
        let mut floats = [7.0; 10];
        Image::Bits.floats(&integers, &mut floats);
        assert_eq!(bits(&floats), bits(&values));
    }

    #[test]
    fn decimals_have_the_digits_they_were_written_with() {
        for (value, digits) in
            [(0.0, 0), (-17.0, 0), (0.5, 1), (12.34, 2), (-99.999, 3), (1e-6, 6), (8.000_001, 6)]
        {
            assert_eq!(least_digits(f32::to_bits(value)), Some(digits), "{value}");
        }
        for value in [-0.0, 1e-7, 0.123_456_79, 3.0e7, 1e30, f32::INFINITY, std::f32::consts::PI * 1000.0] {
            assert_eq!(least_digits(f32::to_bits(value)), None, "{value}");
        }
        assert_eq!(likely_digits(&bits(&[1.5, 2.25, 3.0])), Some(2));
        assert_eq!(likely_digits(&bits(&[1.5, 0.333_333_34, 3.0])), None);
    }

    #[test]
    fn every_decimal_comes_back_and_what_is_none_holds_the_one_before() {
        for digits in 0..=DIGITS_MAX {
            let power = 10_f64.powi(i32::from(digits));
            let values: Vec<f32> =
                (-4000..4000).map(|i| (f64::from(i * 2097 + i % 7) / power) as f32).collect();
            let (mut integers, mut inexact) = (vec![0; 8000], vec![false; 8000]);
            assert_eq!(decimals(&bits(&values), digits, &mut integers, &mut inexact), 0, "{digits} digits");
            assert!(integers.is_sorted());
            let mut floats = vec![7.0; 8000];
            Image::Decimal { digits }.floats(&integers, &mut floats);
            assert_eq!(bits(&floats), bits(&values), "{digits} digits");
        }
        let (mut integers, mut inexact) = ([0; 4], [false; 4]);
        assert_eq!(decimals(&bits(&[-0.0, 2.0, 0.1, 3.0]), 0, &mut integers, &mut inexact), 2);
        assert_eq!(inexact, [true, false, true, false]);
        assert_eq!((integers[0], integers[2]), (integers[1], integers[1]));
    }
}
