//! The identity of one store's history: a random number in the header of every file that the store writes.

use std::fmt;

use rand::RngCore;

/// Sixteen random bytes, drawn once when a store is created and carried by every file of it.
///
/// Files of another lineage (a restored backup, a copied directory) are told from our own by it, and
/// [`seed`](Lineage::seed) makes frames of one file invalid in every other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lineage(pub [u8; 16]);

impl Lineage {
    /// A lineage that nobody has drawn before, from the system's random numbers.
    ///
    /// # Panics
    /// If the system gives out no random numbers at all.
    pub fn random() -> Self {
        Self::from_rng(&mut rand::rng())
    }

    /// A lineage drawn from `rng`: the same generator gives the same lineage, for tests that repeat.
    pub fn from_rng(rng: &mut dyn RngCore) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The frame seed of file number `number` of this lineage.
    ///
    /// Part of the formats: the two halves of the lineage, read little endian, and the number, combined by
    /// exclusive or, the second half rotated by 32 bits.
    pub fn seed(&self, number: u64) -> u64 {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_le_bytes(rest).rotate_left(32) ^ number
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// As `Display`: an array of numbers helps nobody who reads a log.
impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lineage({self})")
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::Lineage;

    #[test]
    fn the_same_generator_draws_the_same_lineage_and_another_one_does_not() {
        let draw = |seed| Lineage::from_rng(&mut StdRng::seed_from_u64(seed));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(Lineage::random(), Lineage::random());
    }

    #[test]
    fn a_lineage_prints_as_hexadecimal_digits() {
        let lineage = Lineage([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(lineage.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(format!("{lineage:?}"), "Lineage(000102030405060708090a0b0c0d0eff)");
    }

    #[test]
    fn the_seed_is_the_one_that_files_were_written_with() {
        let lineage = Lineage([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(lineage.seed(0), 0x0000_0002_0000_0001);
        assert_eq!(lineage.seed(0x10), 0x0000_0002_0000_0011);
    }
}
