//! Average, minimum and maximum of an answer's values.

/// What an answer says about its values besides the values themselves.
///
/// Invariant: either all three are numbers, or, where there was no value, all three are NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// Mean of the values that are not missing.
    pub avg: f64,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
}

impl Stats {
    /// Nothing was there: NaN throughout.
    pub const NONE: Self = Self { avg: f64::NAN, min: f64::NAN, max: f64::NAN };

    /// Statistics over all values that are not NaN.
    ///
    /// The sum runs from the first value to the last in `f64`: the same values give the same bits.
    pub fn of(values: &[f64]) -> Self {
        let (mut count, mut sum) = (0_u64, 0.0_f64);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        for &value in values {
            // Without a branch: gaps come as they like. A sum that began at plus zero is never minus zero, so that
            // adding zero for what is missing keeps its bits; and a NaN is neither less nor greater.
            let is_there = !value.is_nan();
            count += u64::from(is_there);
            sum += if is_there { value } else { 0.0 };
            min = if value < min { value } else { min };
            max = if value > max { value } else { max };
        }
        if count == 0 {
            return Self::NONE;
        }
        // A column of one infinity leaves the comparison above where it began, which is that infinity.
        Self { avg: sum / count as f64, min, max }
    }

    /// The statistics of the values multiplied by `factor`, each of the three multiplied for itself: after a negative
    /// factor `min` is the greater one, as clients have always got it.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { avg: self.avg * factor, min: self.min * factor, max: self.max * factor }
    }
}

#[cfg(test)]
mod tests {
    use super::Stats;

    #[test]
    fn missing_values_do_not_count() {
        let stats = Stats::of(&[f64::NAN, 1.0, 4.0, f64::NAN, -2.0]);
        assert_eq!(stats, Stats { avg: 1.0, min: -2.0, max: 4.0 });
    }

    #[test]
    fn no_value_gives_nan_throughout() {
        for values in [&[][..], &[f64::NAN, f64::NAN][..]] {
            let stats = Stats::of(values);
            assert!(stats.avg.is_nan() && stats.min.is_nan() && stats.max.is_nan(), "{stats:?}");
        }
    }

    #[test]
    fn scaling_multiplies_each_of_the_three() {
        let stats = Stats::of(&[1.0, 2.0]).scaled(-2.0);
        assert_eq!(stats, Stats { avg: -3.0, min: -2.0, max: -4.0 });
    }

    #[test]
    fn one_infinity_is_its_own_extreme() {
        let stats = Stats::of(&[f64::NEG_INFINITY]);
        assert_eq!((stats.min, stats.max), (f64::NEG_INFINITY, f64::NEG_INFINITY));
    }
}
