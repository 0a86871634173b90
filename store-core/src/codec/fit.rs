//! The frame that holds most of some integers in the fewest bytes.

use super::pack::{bits_of, mask, packed_bytes};

/// Bytes of a patch: its place and four bytes in full.
pub(super) const PATCH_BYTES: usize = 5;

/// Patches that a frame has at most: their number is one byte.
pub(super) const PATCHES_MAX: usize = 255;

/// A frame: an integer `x` is stored as `(x - base) >> shift` if that has at most `width` bits, else as a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    /// What is taken off each integer.
    pub(super) base: u32,
    /// Bits at the lower end that all integers share with the base.
    pub(super) shift: u32,
    /// Bits that each integer takes.
    pub(super) width: u32,
    /// Integers outside of the frame.
    pub(super) patches: usize,
}

impl Fit {
    /// Bytes of `count` integers and their patches, the number of patches included where there is one.
    pub(super) fn bytes(&self, count: usize) -> usize {
        let patches = if self.patches == 0 { 0 } else { 1 + PATCH_BYTES * self.patches };
        packed_bytes(count, self.width) + patches + usize::from(self.shift > 0)
    }

    /// Whether the frame holds `x`.
    #[inline]
    pub(super) fn holds(&self, x: u32) -> bool {
        // What lies below the base wraps around to something large.
        x.wrapping_sub(self.base) >> self.shift <= mask(self.width)
    }
}

/// Places that a frame is divided into to see where the integers lie.
const BUCKETS: usize = 64;

/// Finds a frame for integers of which smaller ones compare smaller.
///
/// It begins with the frame that holds all of them, and looks, as long as that saves bytes, for the window of a half, a
/// quarter, … of it that holds the most.
pub(super) fn fit(integers: &[u32]) -> Fit {
    let (mut least, mut greatest, mut differing) = (u32::MAX, 0, 0);
    let first = integers.first().copied().unwrap_or(0);
    for &x in integers {
        least = least.min(x);
        greatest = greatest.max(x);
        differing |= x ^ first;
    }
    if differing == 0 {
        return Fit { base: first, shift: 0, width: 0, patches: 0 };
    }
    // The lowest bit in which two integers differ is that of their difference.
    let shift = differing.trailing_zeros();
    let mut best = Fit { base: least, shift, width: bits_of((greatest - least) >> shift), patches: 0 };
    while best.width > 0 {
        let Some(better) = shrink(integers, best) else { break };
        best = better;
    }
    best
}

/// A window of the frame that costs less, if there is one.
fn shrink(integers: &[u32], frame: Fit) -> Option<Fit> {
    let count = integers.len();
    let bucket_shift = frame.shift + frame.width.saturating_sub(BUCKETS.trailing_zeros());
    let buckets = 1_usize << frame.width.min(BUCKETS.trailing_zeros());
    let mut histogram = [0_i16; BUCKETS];
    for &x in integers {
        let bucket = (x.wrapping_sub(frame.base) >> bucket_shift) as usize;
        if bucket < BUCKETS {
            histogram[bucket] += 1;
        }
    }
    // below[b]: integers in the buckets before b. Signed, because the greatest of signed ones is found eight at a time.
    let mut below = [0_i16; BUCKETS + 1];
    let mut sum = 0;
    for (below, &bucket) in below[1..=buckets].iter_mut().zip(&histogram) {
        sum += bucket;
        *below = sum;
    }
    let held = |window: usize| below[window..=buckets].iter().zip(&below).map(|(end, start)| end - start);
    let mut best: Option<(usize, Fit)> = None;
    let mut best_bytes = frame.bytes(count);
    for halvings in 1..=buckets.trailing_zeros() {
        let window = buckets >> halvings;
        let most = held(window).fold(0, i16::max);
        let patches = count - most as usize;
        let narrower = Fit { width: frame.width - halvings, patches, ..frame };
        if patches <= PATCHES_MAX && narrower.bytes(count) < best_bytes {
            best_bytes = narrower.bytes(count);
            best = Some((held(window).position(|held| held == most).unwrap_or(0), narrower));
        }
    }
    let (start, mut narrower) = best?;
    // The window may begin at its first integer, which lets in some more at its end.
    let edge = (start as u32) << (bucket_shift - frame.shift) << frame.shift;
    let above = integers.iter().map(|x| x.wrapping_sub(frame.base));
    let first = above.map(|above| if above >= edge { above } else { u32::MAX }).min()?;
    narrower.base = frame.base.wrapping_add(first);
    narrower.patches = integers.iter().map(|&x| u32::from(!narrower.holds(x))).sum::<u32>() as usize;
    Some(narrower)
}

#[cfg(test)]
mod tests {
    use super::{Fit, fit};

    #[test]
    fn equal_integers_need_no_bits_and_steps_of_a_power_of_two_share_a_shift() {
        assert_eq!(fit(&[7; 9]), Fit { base: 7, shift: 0, width: 0, patches: 0 });
        assert_eq!(fit(&[]), Fit { base: 0, shift: 0, width: 0, patches: 0 });
        let pages: Vec<u32> = (0..100).map(|i| 13 + 4096 * (i * 7 % 16)).collect();
        assert_eq!(fit(&pages), Fit { base: 13, shift: 12, width: 4, patches: 0 });
    }

    #[test]
    fn outliers_on_both_sides_do_not_widen_the_frame() {
        let mut integers: Vec<u32> = (0..256).map(|i| 1_000_000_000 + i * 37 % 256).collect();
        integers[17] = 3;
        integers[99] = u32::MAX;
        let frame = fit(&integers);
        assert_eq!((frame.width, frame.patches), (8, 2));
        assert!(!frame.holds(3) && !frame.holds(u32::MAX) && frame.holds(1_000_000_000));
    }

    #[test]
    fn the_number_of_patches_is_that_of_the_integers_outside() {
        // Spread over all scales, so that windows are narrowed again and again.
        let integers: Vec<u32> =
            (0..256_u32).map(|i| (i * i * i).wrapping_mul(if i % 9 == 0 { 50_000 } else { 1 })).collect();
        let frame = fit(&integers);
        assert_eq!(frame.patches, integers.iter().filter(|&&x| !frame.holds(x)).count());
        assert!(frame.patches > 0 && frame.bytes(256) < Fit { width: 32, patches: 0, ..frame }.bytes(256));
    }
}
