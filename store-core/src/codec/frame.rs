//! Frames: integers less a base in as few bits as most of them need, the others as patches.
//!
//! Laid over the integers themselves, or over the differences between neighbours.

use super::{
    CodecError,
    cursor::Cursor,
    fit::Fit,
    image::{Image, MIDDLE},
    pack::{pack, packed_bytes, unpack, with_room},
    scheme::Scheme,
};

/// Second byte: the width in its lower six bits.
const WIDTH: u8 = 0x3f;
/// Second byte: patches are there.
const PATCHED: u8 = 0x40;
/// Second byte: a shift is there.
const SHIFTED: u8 = 0x80;

/// Bytes of a frame without shift, patches and integers.
pub(super) const FRAME_BYTES: usize = 6;

/// The same of a frame over differences.
pub(super) const DELTA_BYTES: usize = 10;

/// Appends a frame over integers.
///
/// `bits` are the floats they stand for; where `inexact` says that an integer does not, the float becomes a patch.
pub(super) fn encode(
    image: Image,
    integers: &[u32],
    bits: &[u32],
    inexact: &[bool],
    fit: &Fit,
    out: &mut Vec<u8>,
) {
    let patches = || {
        let outside = integers.iter().zip(inexact).map(|(&x, &inexact)| inexact || !fit.holds(x));
        outside.zip(bits).enumerate().filter_map(|(index, (outside, &bits))| outside.then_some((index, bits)))
    };
    push_head(Scheme::Frame, image, fit, patches().next().is_some(), out);
    out.extend_from_slice(&fit.base.to_le_bytes());
    push_patches(patches, out);
    push_integers(integers, fit, out);
}

/// Appends a frame over the differences between integers, of which `first` is the first.
///
/// The top bit of the differences is flipped, so that they are ordered as the fit wants them; on disk it is not.
pub(super) fn encode_delta(image: Image, first: u32, flipped: &[u32], fit: &Fit, out: &mut Vec<u8>) {
    let patches = || {
        let outside = flipped.iter().enumerate().filter(|&(_, &difference)| !fit.holds(difference));
        outside.map(|(index, &difference)| (index, difference ^ MIDDLE))
    };
    push_head(Scheme::Delta, image, fit, fit.patches > 0, out);
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&(fit.base ^ MIDDLE).to_le_bytes());
    push_patches(patches, out);
    push_integers(flipped, fit, out);
}

fn push_head(scheme: Scheme, image: Image, fit: &Fit, patched: bool, out: &mut Vec<u8>) {
    let patched = if patched { PATCHED } else { 0 };
    let shifted = if fit.shift > 0 { SHIFTED } else { 0 };
    out.extend_from_slice(&[scheme.tag(image.code()), fit.width as u8 | patched | shifted]);
    if fit.shift > 0 {
        out.push(fit.shift as u8);
    }
}

fn push_patches<I: Iterator<Item = (usize, u32)>>(patches: impl Fn() -> I, out: &mut Vec<u8>) {
    let count = patches().count();
    if count > 0 {
        out.push(u8::try_from(count).expect("a fit has at most 255 patches"));
        out.extend(patches().map(|(index, _)| index as u8));
        for (_, value) in patches() {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

fn push_integers(integers: &[u32], fit: &Fit, out: &mut Vec<u8>) {
    pack(integers.iter().map(|x| x.wrapping_sub(fit.base) >> fit.shift), fit.width, out);
}

/// What precedes the integers of a frame.
struct Head<'a> {
    width: u32,
    shift: u32,
    /// The first integer, in a frame over differences.
    first: u32,
    base: u32,
    patches: Patches<'a>,
    integers: &'a [u8],
}

impl<'a> Head<'a> {
    /// Reads a frame of `count` integers behind its tag, to the end of the payload.
    fn read(cursor: &mut Cursor<'a>, count: usize, delta: bool) -> Result<Self, CodecError> {
        let offset = cursor.offset();
        let second = cursor.u8()?;
        let width = u32::from(second & WIDTH);
        if width > 32 {
            return Err(Cursor::bad(offset, "width"));
        }
        let mut shift = 0;
        if second & SHIFTED != 0 {
            let offset = cursor.offset();
            shift = u32::from(cursor.u8()?);
            if !(1..32).contains(&shift) {
                return Err(Cursor::bad(offset, "shift"));
            }
        }
        let first = if delta { cursor.u32()? } else { 0 };
        let base = cursor.u32()?;
        let patches = if second & PATCHED == 0 { Patches::NONE } else { Patches::read(cursor, count)? };
        let integers = cursor.take(packed_bytes(count, width))?;
        cursor.finish()?;
        Ok(Self { width, shift, first, base, patches, integers })
    }
}

/// Integers that a frame does not hold, by their places.
struct Patches<'a> {
    places: &'a [u8],
    values: &'a [[u8; 4]],
}

impl<'a> Patches<'a> {
    const NONE: Self = Self { places: &[], values: &[] };

    fn read(cursor: &mut Cursor<'a>, count: usize) -> Result<Self, CodecError> {
        let offset = cursor.offset();
        let patches = usize::from(cursor.u8()?);
        if patches == 0 || patches > count {
            return Err(Cursor::bad(offset, "number of patches"));
        }
        let offset = cursor.offset();
        let places = cursor.take(patches)?;
        if !places.is_sorted_by(|a, b| a < b) || usize::from(places[patches - 1]) >= count {
            return Err(Cursor::bad(offset, "places of patches"));
        }
        let (values, _) = cursor.take(4 * patches)?.as_chunks();
        Ok(Self { places, values })
    }

    /// Hands out the patches that fall into `len` places from `skip` on, as (place less `skip`, value).
    fn each(&self, skip: usize, len: usize, mut put: impl FnMut(usize, u32)) {
        for (&place, value) in self.places.iter().zip(self.values) {
            if let Some(index) = usize::from(place).checked_sub(skip).filter(|&index| index < len) {
                put(index, u32::from_le_bytes(*value));
            }
        }
    }
}

/// Reads `out.len()` values from the `skip`-th on, of a frame of `count`.
pub(super) fn decode(
    image: Image,
    cursor: &mut Cursor<'_>,
    count: usize,
    skip: usize,
    out: &mut [f32],
) -> Result<(), CodecError> {
    let head = Head::read(cursor, count, false)?;
    with_room(out.len(), |room| {
        let integers = unpack(head.integers, head.width, skip, out.len(), room);
        for x in &mut *integers {
            *x = head.base.wrapping_add(*x << head.shift);
        }
        image.floats(integers, out);
    });
    head.patches.each(skip, out.len(), |index, bits| out[index] = f32::from_bits(bits));
    Ok(())
}

/// The same of a frame over differences, which needs all that lies before.
pub(super) fn decode_delta(
    image: Image,
    cursor: &mut Cursor<'_>,
    count: usize,
    skip: usize,
    out: &mut [f32],
) -> Result<(), CodecError> {
    let head = Head::read(cursor, count.saturating_sub(1), true)?;
    if out.is_empty() {
        return Ok(());
    }
    let len = skip + out.len() - 1;
    with_room(len, |room| {
        sum_differences(image, &head, unpack(head.integers, head.width, 0, len, room), out)
    });
    Ok(())
}

/// Turns differences into the floats that they lead to, the last of them into `out`.
fn sum_differences(image: Image, head: &Head<'_>, integers: &mut [u32], out: &mut [f32]) {
    let skip = integers.len() + 1 - out.len();
    for difference in &mut *integers {
        *difference = head.base.wrapping_add(*difference << head.shift);
    }
    head.patches.each(0, integers.len(), |index, difference| integers[index] = difference);
    // The differences become the integers that they lead to; the first integer has none.
    let mut x = head.first;
    for integer in &mut *integers {
        x = x.wrapping_add(*integer);
        *integer = x;
    }
    match skip {
        0 => {
            let (first, behind) = out.split_at_mut(1);
            image.floats(&[head.first], first);
            image.floats(integers, behind);
        }
        _ => image.floats(&integers[skip - 1..], out),
    }
}
