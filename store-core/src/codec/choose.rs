//! Encoding: which scheme a column gets.
//!
//! Frames are judged by their exact sizes, which are known before a byte is written.
//! The schemes that have a column inside (sparse, runs, dictionary) are tried only where a few samples, or the number
//! of runs, promise something; then the smaller of two finished encodings stays.

use super::{
    CANONICAL_NAN, ROWS_MAX, constant, dictionary,
    fit::{Fit, PATCH_BYTES, PATCHES_MAX, fit},
    frame::{self, DELTA_BYTES, FRAME_BYTES},
    image::{self, Image, MIDDLE},
    pack::packed_bytes,
    runs,
    scheme::{Rank, Scheme},
    sparse::{self, Hole, Places},
};

/// Appends a column that is not missing throughout.
pub(super) fn encode(values: &[f32], out: &mut Vec<u8>) {
    let mut bits = [0; ROWS_MAX];
    let bits = &mut bits[..values.len()];
    let mut missing = 0;
    for (slot, &value) in bits.iter_mut().zip(values) {
        *slot = if value.is_nan() { CANONICAL_NAN } else { value.to_bits() };
        missing += usize::from(value.is_nan());
    }
    if missing == 0 {
        encode_within(bits, Rank::Payload, out);
        return;
    }
    // Each place of a hole takes less than the value it saves, so that the bound holds with holes too.
    encode_holes(bits, CANONICAL_NAN, missing, out);
}

/// Appends a column without missing values that stands within one of rank `within`.
fn encode_within(bits: &[u32], within: Rank, out: &mut Vec<u8>) {
    let start = out.len();
    let runs = 1 + bits.array_windows().map(|[a, b]| usize::from(a != b)).sum::<usize>();
    if runs == 1 {
        constant::encode(bits[0], out);
        return;
    }
    let leaf = Leaf::plan(bits);
    let mut contest = Contest { start, bytes: leaf.bytes };
    let samples = Samples::take(bits);
    if within > Rank::Sparse {
        if samples.mode_count >= 4 {
            let holes = bits.iter().filter(|&&bits| bits == samples.mode).count();
            contest.enter(out, |out| encode_holes(bits, samples.mode, holes, out));
        }
        if let Some((stray, holes)) = leaf.stray {
            contest.enter(out, |out| encode_holes(bits, stray, holes, out));
        }
    }
    // Few runs and dictionaries come out below these sizes.
    let runs_bytes = 4 + runs / 2;
    if within > Rank::Runs && runs <= bits.len() / 2 && runs_bytes < contest.bytes {
        contest.enter(out, |out| encode_runs(bits, out));
    }
    let entries = samples.count - samples.repeated;
    let dictionary_bytes = 4 + packed_bytes(bits.len(), dictionary::width(entries)) + entries;
    if within > Rank::Dictionary && samples.repeated >= 2 && dictionary_bytes < contest.bytes {
        contest.enter(out, |out| encode_dictionary(bits, out));
    }
    if out.len() == start {
        leaf.encode(bits, out);
    }
}

/// The smallest encoding so far.
struct Contest {
    /// Where in the output it begins, once it stands there.
    start: usize,
    /// Its bytes.
    bytes: usize,
}

impl Contest {
    /// Leaves in the output what `encode` appends, if that is smaller than what was there.
    fn enter(&mut self, out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
        let from = out.len();
        encode(out);
        // Nothing was appended by one that gave up.
        let bytes = out.len() - from;
        if bytes > 0 && bytes < self.bytes {
            self.bytes = bytes;
            out.drain(self.start..from);
        } else {
            out.truncate(from);
        }
    }
}

/// Some values of a column, and how often they repeat each other.
struct Samples {
    /// Samples taken.
    count: usize,
    /// The value found most often.
    mode: u32,
    /// How often that is among the samples.
    mode_count: usize,
    /// Samples that equal another one before them.
    repeated: usize,
}

impl Samples {
    fn take(bits: &[u32]) -> Self {
        const SAMPLES: usize = 32;
        let stride = bits.len().div_ceil(SAMPLES);
        let mut samples = [0; SAMPLES];
        let mut count = 0;
        // One bit for each hash seen: few of the columns whose values all differ get beyond here.
        let mut seen = [0_u64; 32];
        let mut collisions = 0;
        for (slot, &bits) in samples.iter_mut().zip(bits.iter().step_by(stride)) {
            *slot = bits;
            count += 1;
            let hash = hash(bits) >> 21;
            let word = &mut seen[(hash >> 6) as usize % 32];
            collisions += *word >> (hash & 63) & 1;
            *word |= 1 << (hash & 63);
        }
        let samples = &mut samples[..count];
        let mut found = Self { count, mode: samples[0], mode_count: 1, repeated: 0 };
        if collisions < 2 {
            return found;
        }
        samples.sort_unstable();
        for same in samples.chunk_by(|a, b| a == b) {
            found.repeated += same.len() - 1;
            if same.len() > found.mode_count {
                (found.mode, found.mode_count) = (same[0], same.len());
            }
        }
        found
    }
}

/// Spreads the bits; the upper ones of the product depend on all of them.
fn hash(bits: u32) -> u32 {
    bits.wrapping_mul(0x9e37_79b1)
}

fn encode_holes(bits: &[u32], hole: u32, holes: usize, out: &mut Vec<u8>) {
    let mut places = Places::default();
    let mut others = [0; ROWS_MAX];
    let mut count = 0;
    for (index, &bits) in bits.iter().enumerate() {
        // Written in any case and overwritten by the next one, so that there is no branch.
        others[count] = bits;
        count += usize::from(bits != hole);
        places.add_if(bits == hole, index);
    }
    let hole = Hole::of(hole);
    sparse::encode_places(hole, &places, holes, bits.len(), out);
    encode_within(&others[..count], hole.rank(), out);
}

fn encode_runs(bits: &[u32], out: &mut Vec<u8>) {
    let (mut lengths, mut values) = ([0; ROWS_MAX], [0; ROWS_MAX]);
    let mut count = 0;
    for run in bits.chunk_by(|a, b| a == b) {
        lengths[count] = run.len() as u16;
        values[count] = run[0];
        count += 1;
    }
    runs::encode_lengths(&lengths[..count], out);
    encode_within(&values[..count], Rank::Runs, out);
}

/// Appends nothing if there are too many different values.
fn encode_dictionary(bits: &[u32], out: &mut Vec<u8>) {
    const SLOTS: usize = 512;
    // Entries by hash: 0 is an empty slot, n the entry n - 1.
    let mut slots = [0_u8; SLOTS];
    let (mut entries, mut numbers) = ([0; ROWS_MAX], [0_u8; ROWS_MAX]);
    let mut count = 0;
    let most = (bits.len() / 2).min(dictionary::ENTRIES_MAX);
    for (number, &bits) in numbers.iter_mut().zip(bits) {
        let mut slot = (hash(bits) >> 23) as usize % SLOTS;
        loop {
            match slots[slot] {
                0 => {
                    if count == most {
                        return;
                    }
                    entries[count] = bits;
                    *number = count as u8;
                    count += 1;
                    slots[slot] = count as u8;
                    break;
                }
                entry if entries[usize::from(entry) - 1] == bits => {
                    *number = entry - 1;
                    break;
                }
                _ => slot = (slot + 1) % SLOTS,
            }
        }
    }
    // Sorted, so that neighbours lie near each other.
    let mut order = [0_u8; ROWS_MAX];
    let order = &mut order[..count];
    for (index, slot) in order.iter_mut().enumerate() {
        *slot = index as u8;
    }
    order.sort_unstable_by_key(|&entry| image::ordered(entries[usize::from(entry)]));
    let (mut sorted, mut renamed) = ([0; ROWS_MAX], [0; ROWS_MAX]);
    for (index, &entry) in order.iter().enumerate() {
        sorted[index] = entries[usize::from(entry)];
        renamed[usize::from(entry)] = index as u8;
    }
    for number in &mut numbers[..bits.len()] {
        *number = renamed[usize::from(*number)];
    }
    dictionary::encode_numbers(&numbers[..bits.len()], count, out);
    encode_within(&sorted[..count], Rank::Dictionary, out);
}

const fn raw_bytes(count: usize) -> usize {
    1 + 4 * count
}

fn push_raw(bits: &[u32], out: &mut Vec<u8>) {
    out.push(Scheme::Raw.tag(0));
    for bits in bits {
        out.extend_from_slice(&bits.to_le_bytes());
    }
}

/// The best that can be done without a column inside.
struct Leaf {
    bytes: usize,
    /// The only value that is no decimal, and how often it is there: it keeps differences of decimals from being
    /// taken, and is better left out.
    stray: Option<(u32, usize)>,
    /// `None` is raw.
    frame: Option<Framed>,
}

#[derive(Clone, Copy)]
struct Framed {
    image: Image,
    delta: bool,
    fit: Fit,
}

impl Leaf {
    fn plan(bits: &[u32]) -> Self {
        let mut leaf = Self { bytes: raw_bytes(bits.len()), stray: None, frame: None };
        let mut integers = [0; ROWS_MAX];
        let integers = &mut integers[..bits.len()];
        let mut inexact = bits.len();
        if let Some(digits) = image::likely_digits(bits) {
            let mut strays = [false; ROWS_MAX];
            inexact = image::decimals(bits, digits, integers, &mut strays);
            leaf.consider(Image::Decimal { digits }, integers, inexact);
            if let Some(first) = strays.iter().position(|&stray| stray) {
                let same = bits.iter().filter(|&&other| other == bits[first]).count();
                leaf.stray = (same == inexact && same < bits.len()).then_some((bits[first], same));
            }
        }
        // There are never more decimals than floats in a range, so that those need no look if all are exact.
        if inexact > 0 {
            image::ordered_bits(bits, integers);
            leaf.consider(Image::Bits, integers, 0);
        }
        leaf
    }

    /// Takes frames over the integers, or over their differences, if they are smaller.
    fn consider(&mut self, image: Image, integers: &[u32], inexact: usize) {
        let count = integers.len();
        let frame = fit(integers);
        // An integer that is no float's may lie outside of the frame too; then it is counted twice.
        let patches = frame.patches + inexact;
        if patches <= PATCHES_MAX {
            let counted = usize::from(inexact > 0 && frame.patches == 0);
            let bytes = FRAME_BYTES + frame.bytes(count) + counted + PATCH_BYTES * inexact;
            self.take(bytes, Framed { image, delta: false, fit: frame });
        }
        // A wrong float could be patched, but not the differences on both its sides.
        if inexact > 0 || !promises_small_differences(integers, &frame) {
            return;
        }
        let mut flipped = [0; ROWS_MAX];
        let flipped = &mut flipped[..count - 1];
        differences(integers, flipped);
        let frame = fit(flipped);
        let bytes = DELTA_BYTES + frame.bytes(count - 1);
        self.take(bytes, Framed { image, delta: true, fit: frame });
    }

    fn take(&mut self, bytes: usize, framed: Framed) {
        if bytes < self.bytes {
            self.bytes = bytes;
            self.frame = Some(framed);
        }
    }

    fn encode(&self, bits: &[u32], out: &mut Vec<u8>) {
        let Some(Framed { image, delta, fit }) = self.frame else {
            push_raw(bits, out);
            return;
        };
        let mut integers = [0; ROWS_MAX];
        let integers = &mut integers[..bits.len()];
        let mut inexact = [false; ROWS_MAX];
        match image {
            Image::Bits => image::ordered_bits(bits, integers),
            Image::Decimal { digits } => {
                image::decimals(bits, digits, integers, &mut inexact);
            }
        }
        if delta {
            let mut flipped = [0; ROWS_MAX];
            let flipped = &mut flipped[..bits.len() - 1];
            differences(integers, flipped);
            frame::encode_delta(image, integers[0], flipped, &fit, out);
        } else {
            frame::encode(image, integers, bits, &inexact, &fit, out);
        }
    }
}

/// Whether differences may need fewer bits than the integers.
///
/// Independent values lie apart, on average, by a fifth of their range, and the differences have a greater range
/// than the values. From a seventh on the steps are small enough to be worth a look.
fn promises_small_differences(integers: &[u32], frame: &Fit) -> bool {
    let count = integers.len() as u64;
    let range = 1_u64 << (frame.width + frame.shift);
    // A step out of the frame and back counts no more than the frame: patches see to those.
    let most = u32::try_from(range).unwrap_or(u32::MAX);
    let steps: u64 = integers.array_windows().map(|&[a, b]| u64::from(a.abs_diff(b).min(most))).sum();
    count > 2 && steps / count < range / 7
}

/// The differences between neighbours, modulo 2^32, their top bit flipped so that they are ordered.
fn differences(integers: &[u32], flipped: &mut [u32]) {
    for (slot, &[a, b]) in flipped.iter_mut().zip(integers.array_windows()) {
        *slot = b.wrapping_sub(a) ^ MIDDLE;
    }
}
