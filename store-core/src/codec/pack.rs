//! Integers of a fixed number of bits, one behind the other.
//!
//! Value `i` of width `w` takes the bits `i*w .. (i+1)*w` of the bytes, where bit `b` is bit `b % 8` (from the least)
//! of byte `b / 8`. The last byte is filled up with zeros.

use super::ROWS_MAX;

/// Bytes that `count` values of `width` bits take.
pub(super) const fn packed_bytes(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Bits that `value` needs: 0 for 0.
pub(super) const fn bits_of(value: u32) -> u32 {
    u32::BITS - value.leading_zeros()
}

/// All values that have at most `width` bits, as a mask.
pub(super) const fn mask(width: u32) -> u32 {
    if width == 0 { 0 } else { u32::MAX >> (32 - width) }
}

/// Appends the lower `width` bits of the values.
pub(super) fn pack(values: impl IntoIterator<Item = u32>, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let mask = u64::from(mask(width));
    let (mut word, mut bits) = (0_u64, 0);
    for value in values {
        word |= (u64::from(value) & mask) << bits;
        bits += width;
        if bits >= 32 {
            out.extend_from_slice(&(word as u32).to_le_bytes());
            word >>= 32;
            bits -= 32;
        }
    }
    let bytes = bits.div_ceil(8) as usize;
    out.extend_from_slice(&word.to_le_bytes()[..bytes]);
}

/// Values that are unpacked together: they take whole bytes, whatever their width.
const GROUP: usize = 8;

/// Rows of a block that was a head: its columns take little enough time that clearing more room than they need shows.
pub(super) const SHORT: usize = 64;

/// Where values are unpacked to.
pub(super) type Room = [[u32; GROUP]];

/// Calls `work` with room to unpack `len` values to, [`ROWS_MAX`] at most.
#[inline]
pub(super) fn with_room<R>(len: usize, work: impl FnOnce(&mut Room) -> R) -> R {
    // One group more: the first value may be the last of its group.
    if len <= SHORT {
        work(&mut [[0; GROUP]; SHORT / GROUP + 1])
    } else {
        work(&mut [[0; GROUP]; ROWS_MAX / GROUP + 1])
    }
}

/// Reads `len` values of `width` bits, from the `skip`-th on.
///
/// # Panics
/// If `bytes` holds fewer values, or `room` is not one for as many.
pub(super) fn unpack<'a>(
    bytes: &[u8],
    width: u32,
    skip: usize,
    len: usize,
    room: &'a mut Room,
) -> &'a mut [u32] {
    let before = skip % GROUP;
    let groups = (before + len).div_ceil(GROUP);
    let bytes = &bytes[(skip - before) / 8 * width as usize..packed_bytes(skip + len, width)];
    unpack_groups(bytes, width, &mut room[..groups]);
    &mut room.as_flattened_mut()[before..before + len]
}

/// Unpacks with code made for the width: all shifts are constants then.
fn unpack_groups(bytes: &[u8], width: u32, groups: &mut [[u32; GROUP]]) {
    macro_rules! by_width {
        ($($width:literal)*) => {
            match width {
                $($width => unpack_width::<$width>(bytes, groups),)*
                _ => groups.fill([0; GROUP]),
            }
        };
    }
    by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
}

fn unpack_width<const WIDTH: usize>(bytes: &[u8], groups: &mut [[u32; GROUP]]) {
    // Eight bytes are read wherever a value begins; the last groups, of less than WIDTH + 8 bytes together, get a
    // copy that has them.
    let whole = groups.len().min(bytes.len().saturating_sub(8) / WIDTH);
    let (groups, last_groups) = groups.split_at_mut(whole);
    for (group, bytes) in groups.iter_mut().zip(bytes.windows(WIDTH + 8).step_by(WIDTH)) {
        unpack_group::<WIDTH>(bytes, group);
    }
    let mut padded = [0; 80];
    let rest = &bytes[whole * WIDTH..];
    padded[..rest.len()].copy_from_slice(rest);
    for (group, bytes) in last_groups.iter_mut().zip(padded.windows(WIDTH + 8).step_by(WIDTH)) {
        unpack_group::<WIDTH>(bytes, group);
    }
}

#[inline]
fn unpack_group<const WIDTH: usize>(bytes: &[u8], group: &mut [u32; GROUP]) {
    let mask = const { mask(WIDTH as u32) };
    let bytes = &bytes[..WIDTH + 8];
    for (index, slot) in group.iter_mut().enumerate() {
        let bit = index * WIDTH;
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[bit / 8..bit / 8 + 8]);
        *slot = (u64::from_le_bytes(word) >> (bit % 8)) as u32 & mask;
    }
}

#[cfg(test)]
mod tests {
    use super::{bits_of, mask, pack, packed_bytes, unpack, with_room};
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn bits_are_laid_out_from_the_least_on() {
        let mut out = vec![7];
        pack([0b101, 0b011, 0b111, 0b1_000], 3, &mut out);
        assert_eq!(out, [7, 0b1101_1101, 0b0000_0001]);
    }

    #[test]
    fn masks_and_bit_counts_agree() {
        for width in 0..=32 {
            assert_eq!(bits_of(mask(width)), width);
        }
    }

    #[test]
    fn every_width_and_count_comes_back_from_every_start() {
        let mut rng = StdRng::seed_from_u64(1);
        for width in 0..=32 {
            for count in [0, 1, 2, 7, 8, 9, 31, 64, 255, 256] {
                let values: Vec<u32> = (0..count).map(|_| rng.random::<u32>() & mask(width)).collect();
                let mut bytes = Vec::new();
                pack(values.iter().copied(), width, &mut bytes);
                assert_eq!(bytes.len(), packed_bytes(count, width));
                for skip in [0, 1, 3, 8, 100, 255] {
                    if skip <= count {
                        with_room(count - skip, |room| {
                            let got = unpack(&bytes, width, skip, count - skip, room);
                            assert_eq!(got, &values[skip..], "width {width}, {count} values from {skip}");
                        });
                    }
                }
            }
        }
    }
}
