//! A keyed hash of prefixes, with a proof.
//!
//! Whoever does not know the keys cannot name two different prefixes (with their default clusters) that are confused with a
//! chance above 2^-62; nothing else is compared, so with n series the chance that any two of a process are confused is at
//! most n²·2^-63 (a million: one in nine million; ten million: one in ninety thousand). Hashes must not be shown to anyone. The parts, each well known:
//!
//! * *NH* (Black et al., UMAC, 1999) over pairs of 64-bit words: the sum of (w₁ + k₁)(w₂ + k₂) modulo 2^128, the inner sums modulo
//!   2^64. Different messages of one length collide with a chance of at most 2^-64. Its products do not wait for each
//!   other, unlike those of the folding hashes of hash maps, which besides come without a proof.
//! * *Multilinear* (Lemire and Kaser, 2014) over NH's two words, the length, and the digest of the default
//!   cluster: the upper half of m₀ + Σ mᵢ·xᵢ modulo 2^128 is strongly universal: 2^-64.
//! * SipHash of the standard library for the digest of the default cluster, once a batch, and in place of NH for prefixes longer
//!   than the keys.

use std::hash::{BuildHasher, RandomState};

use super::random_words;

/// The longest prefix in bytes that is hashed the fast way.
pub const PREFIX_BYTES_MAX: usize = BLOCKS * BLOCK;

/// Bytes that one product takes.
const BLOCK: usize = 16;

const BLOCKS: usize = 128;

/// The secret of a resolver.
pub(super) struct Keys {
    blocks: Box<[[u64; 2]; BLOCKS]>,
    /// Base, and a factor for each of four words.
    mix: [u128; 5],
    /// For what is hashed rarely or too long; two, because they give 64 bits each.
    pub(super) slow: [RandomState; 2],
}

impl Keys {
    pub(super) fn random() -> Self {
        Self::from_words(random_words())
    }

    pub(super) fn from_words(mut words: impl Iterator<Item = u64>) -> Self {
        let mut word = || words.next().unwrap_or_default();
        let blocks = Box::new(std::array::from_fn(|_| [word(), word()]));
        let mix = std::array::from_fn(|_| u128::from(word()) << 64 | u128::from(word()));
        Self { blocks, mix, slow: [RandomState::new(), RandomState::new()] }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.blocks)
    }

    /// NH of `bytes`, or for long ones something as good.
    #[inline(always)]
    fn digest(&self, bytes: &[u8]) -> u128 {
        if bytes.len() > PREFIX_BYTES_MAX {
            return self.digest_long(bytes);
        }
        let (whole, tail) = bytes.as_chunks::<BLOCK>();
        let mut sum = 0_u128;
        for (block, keys) in whole.iter().zip(self.blocks.iter()) {
            sum = sum.wrapping_add(product(words(block), *keys));
        }
        if tail.is_empty() {
            return sum;
        }
        // Which bytes make which word depends on the length alone, and all of them do: that is all the proof asks for. So
        // the last block may overlap the one before.
        let last = match bytes.last_chunk::<BLOCK>() {
            Some(block) => words(block),
            None => short_words(bytes),
        };
        let keys = self.blocks.get(whole.len()).copied().unwrap_or_default();
        sum.wrapping_add(product(last, keys))
    }

    #[cold]
    fn digest_long(&self, bytes: &[u8]) -> u128 {
        let [low, high] = &self.slow;
        u128::from(high.hash_one(bytes)) << 64 | u128::from(low.hash_one(bytes))
    }
}

/// Hashes the prefixes of a batch; see [`Resolver::hasher`](super::Resolver::hasher).
#[derive(Clone, Copy)]
pub struct Hasher<'a> {
    keys: &'a Keys,
    /// What the base and the default cluster give.
    base: u128,
}

impl<'a> Hasher<'a> {
    pub(super) fn new(keys: &'a Keys, default_cluster: &[u8]) -> Self {
        let digest = keys.slow[0].hash_one(default_cluster);
        let base = keys.mix[0].wrapping_add(keys.mix[4].wrapping_mul(u128::from(digest)));
        Self { keys, base }
    }

    /// The hash of the bytes of a prefix; never 0.
    #[inline]
    #[must_use]
    pub fn hash(&self, prefix: &[u8]) -> u64 {
        let digest = self.keys.digest(prefix);
        let [_, low, high, length, _] = self.keys.mix;
        let sum = self
            .base
            .wrapping_add(low.wrapping_mul(digest & u128::from(u64::MAX)))
            .wrapping_add(high.wrapping_mul(digest >> 64))
            .wrapping_add(length.wrapping_mul(prefix.len() as u128));
        ((sum >> 64) as u64).max(1)
    }
}

impl std::fmt::Debug for Hasher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

#[inline(always)]
fn product([a, b]: [u64; 2], [k, l]: [u64; 2]) -> u128 {
    u128::from(a.wrapping_add(k)) * u128::from(b.wrapping_add(l))
}

#[inline(always)]
fn words(block: &[u8; BLOCK]) -> [u64; 2] {
    let both = u128::from_le_bytes(*block);
    [both as u64, (both >> 64) as u64]
}

/// All of 1 to 15 bytes, in a way that depends on how many they are.
fn short_words(bytes: &[u8]) -> [u64; 2] {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return [u64::from_le_bytes(*first), u64::from_le_bytes(*last)];
    }
    let mut padded = [0; 8];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    [u64::from_le_bytes(padded), 0]
}
