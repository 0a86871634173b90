//! Fewer points for long ranges: largest triangle three buckets, averages, or every n-th value.
//!
//! All three leave a series alone that has fewer than [`POINTS_MIN`] points, and report the resolution that the
//! answer really has.

/// A series shorter than this is answered as it is.
pub const POINTS_MIN: usize = 1000;

/// How points are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resampler {
    /// Largest triangle three buckets: keeps the points that a chart shows, peaks among them.
    #[default]
    Lttb,
    /// The mean of each bucket's values.
    Average,
    /// The first value of each bucket.
    Simple,
}

impl Resampler {
    /// The resampler of that name; the empty name is [`Resampler::Lttb`].
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "" | "lttb" => Some(Self::Lttb),
            "average" => Some(Self::Average),
            "simple" => Some(Self::Simple),
            _ => None,
        }
    }
}

/// Why a series cannot be resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResampleError {
    /// Only whole numbers of steps can be put together.
    #[error("new sampling frequency ({new_s}) must be a multiple of old frequency ({old_s})")]
    NotAMultiple {
        /// Seconds per point asked for.
        new_s: i64,
        /// Seconds per point of the series.
        old_s: i64,
    },
}

/// Reduces `values`, one every `old_frequency_s` seconds, to about one every `new_s` seconds.
///
/// Gives the points and the seconds that lie between them. The values come back untouched, with the old resolution,
/// if no coarser resolution is asked for (`new_s` of 0, negative, or at most `old_frequency_s`), if there are fewer
/// than [`POINTS_MIN`], or if not even one bucket is full.
///
/// # Errors
/// [`ResampleError::NotAMultiple`] if a coarser resolution is no multiple of the old one.
pub fn resample(
    kind: Resampler,
    values: Vec<f64>,
    old_frequency_s: i64,
    new_s: i64,
) -> Result<(Vec<f64>, i64), ResampleError> {
    if old_frequency_s <= 0 || new_s <= old_frequency_s {
        return Ok((values, old_frequency_s));
    }
    if new_s % old_frequency_s != 0 {
        return Err(ResampleError::NotAMultiple { new_s, old_s: old_frequency_s });
    }
    // A step beyond the address space is beyond the length of any series.
    let step = usize::try_from(new_s / old_frequency_s).unwrap_or(usize::MAX);
    let points = values.len() / step;
    if values.len() < POINTS_MIN || points == 0 {
        return Ok((values, old_frequency_s));
    }
    let reduced = match kind {
        Resampler::Lttb => largest_triangles(&values, points),
        Resampler::Average => values.chunks_exact(step).map(mean).collect(),
        Resampler::Simple => values.chunks_exact(step).map(|bucket| bucket[0]).collect(),
    };
    Ok((reduced, new_s))
}

/// Mean of the values that are not NaN, NaN if there is none.
fn mean(bucket: &[f64]) -> f64 {
    let (mut sum, mut count) = (0.0, 0_u32);
    for &value in bucket {
        if !value.is_nan() {
            sum += value;
            count += 1;
        }
    }
    if count == 0 { f64::NAN } else { sum / f64::from(count) }
}

/// Largest triangle three buckets with `points` points of at least [`POINTS_MIN`] values.
///
/// The first and the last value are always kept, so that even one point asked for gives two. Every value belongs to
/// a bucket; of each bucket that point is kept which makes the largest triangle with the point kept before it and
/// the average of the bucket behind it. A missing value makes an area NaN, and such an area beats what came before
/// it: a gap stays visible.
fn largest_triangles(values: &[f64], points: usize) -> Vec<f64> {
    let last = values.len() - 1;
    let inner = points.saturating_sub(2);
    let mut kept = Vec::with_capacity(inner + 2);
    kept.push(values[0]);
    let bucket_size = (values.len() - 2) as f64 / inner as f64;
    // Truncation is the floor here: the products are positive and far below 2^53.
    let limit = |bucket: usize| (bucket as f64 * bucket_size) as usize + 1;
    let (mut a, mut low) = (0, 1);
    let mut middle = if inner == 0 { 1 } else { limit(1) };
    for bucket in 0..inner {
        // The upper limit is inclusive, and the last value is a bucket of its own.
        let high = limit(bucket + 2).min(last - 1);
        let next = &values[middle..=high];
        // Of three points the middle one has no bucket behind it: the areas are NaN, and the last value of its bucket is
        // kept, as in the original.
        let c_x = middle as f64 + (next.len() as f64 - 1.0) / 2.0;
        let c_y = next.iter().sum::<f64>() / next.len() as f64;
        let (a_x, a_y) = (a as f64, values[a]);
        let mut largest = -1.0;
        for (index, &b_y) in values.iter().enumerate().take(middle).skip(low) {
            let area = ((a_x - c_x) * (b_y - a_y) - (a_x - index as f64) * (c_y - a_y)).abs() * 0.5;
            if area > largest || area.is_nan() {
                largest = area;
                a = index;
            }
        }
        kept.push(values[a]);
        low = middle;
        middle = high;
    }
    kept.push(values[last]);
    kept
}

#[cfg(test)]
mod tests {
    use super::{POINTS_MIN, ResampleError, Resampler, resample};

    /// A sawtooth with a slow drift, so that no two points make equal triangles.
    fn series(len: usize) -> Vec<f64> {
        (0..len).map(|i| ((i * 7919) % 1009) as f64 * 0.5 + i as f64 * 0.125).collect()
    }

    fn points(kind: Resampler, values: &[f64], new_s: i64) -> Vec<f64> {
        let (got, resolution_s) = resample(kind, values.to_vec(), 10, new_s).unwrap();
        assert_eq!(resolution_s, new_s);
        got
    }

    #[test]
    fn names_are_known_and_the_empty_one_is_lttb() {
        assert_eq!(Resampler::from_name(""), Some(Resampler::Lttb));
        assert_eq!(Resampler::from_name("lttb"), Some(Resampler::Lttb));
        assert_eq!(Resampler::from_name("average"), Some(Resampler::Average));
        assert_eq!(Resampler::from_name("simple"), Some(Resampler::Simple));
        assert_eq!(Resampler::from_name("LTTB"), None);
    }

    #[test]
    fn a_resolution_that_is_not_coarser_changes_nothing() {
        let values = series(2000);
        for new_s in [0, -60, 1, 9, 10] {
            let (got, resolution_s) = resample(Resampler::Lttb, values.clone(), 10, new_s).unwrap();
            assert_eq!((got, resolution_s), (values.clone(), 10), "resolution {new_s}");
        }
    }

    #[test]
    fn a_resolution_that_is_no_multiple_is_refused_even_for_a_short_series() {
        let error = resample(Resampler::Simple, series(3), 10, 25).unwrap_err();
        assert_eq!(error, ResampleError::NotAMultiple { new_s: 25, old_s: 10 });
        assert_eq!(error.to_string(), "new sampling frequency (25) must be a multiple of old frequency (10)");
    }

    #[test]
    fn short_series_and_empty_buckets_keep_the_old_resolution() {
        let short = series(POINTS_MIN - 1);
        assert_eq!(resample(Resampler::Lttb, short.clone(), 10, 20).unwrap(), (short, 10));
        let long = series(POINTS_MIN);
        let huge_s = 10 * (POINTS_MIN as i64 + 1);
        assert_eq!(resample(Resampler::Average, long.clone(), 10, huge_s).unwrap(), (long, 10));
        assert_eq!(resample(Resampler::Simple, Vec::new(), 10, i64::MAX - 7).unwrap(), (Vec::new(), 10));
    }

    #[test]
    fn lttb_keeps_the_ends_and_has_the_length_asked_for() {
        let values = series(1500);
        for (new_s, len) in [(20, 750), (30, 500), (70, 214), (100, 150), (600, 25), (6000, 2), (7510, 2)] {
            let got = points(Resampler::Lttb, &values, new_s);
            assert_eq!(got.len(), len, "resolution {new_s}");
            assert_eq!(got[0], values[0]);
            assert_eq!(got[len - 1], values[1499]);
        }
    }

    #[test]
    fn lttb_to_three_points_keeps_the_ends_and_the_one_before_the_last() {
        for len in [1000, 1500, 2001] {
            let values = series(len);
            let got = points(Resampler::Lttb, &values, 10 * (len as i64 / 3));
            assert_eq!(got, [values[0], values[len - 2], values[len - 1]], "{len}");
        }
    }

    #[test]
    fn lttb_gives_some_of_the_values_whatever_the_length_and_the_step() {
        for len in (1000..1010).chain([2047, 2048, 4999]) {
            let values = series(len);
            for step in (2..=len).step_by(if cfg!(debug_assertions) { 7 } else { 1 }).chain(len / 5..len / 2)
            {
                let got = points(Resampler::Lttb, &values, 10 * step as i64);
                assert_eq!(got.len(), (len / step).max(2), "{len} by {step}");
                assert!(got.iter().all(|value| values.contains(value)), "{len} by {step}");
            }
        }
    }

    #[test]
    fn lttb_chooses_these_points() {
        let got = points(Resampler::Lttb, &series(1000), 700);
        let expected = [
            0.0, 474.375, 36.5, 485.0, 47.125, 541.875, 57.75, 552.5, 84.5, 563.125, 125.25, 606.0, 135.875,
            385.375,
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn lttb_keeps_a_peak() {
        let mut values: Vec<f64> = vec![1.0; 1200];
        values[777] = 50.0;
        assert!(points(Resampler::Lttb, &values, 100).contains(&50.0));
    }

    #[test]
    fn lttb_shows_a_gap_as_missing_and_goes_on_behind_it() {
        let mut values = series(1400);
        values[300..440].fill(f64::NAN);
        let got = points(Resampler::Lttb, &values, 50);
        assert_eq!(got.len(), 280);
        let missing = got.iter().filter(|value| value.is_nan()).count();
        assert!((27..=30).contains(&missing), "{missing} of 280 points are missing");
        assert!(got[..59].iter().chain(&got[90..]).all(|value| !value.is_nan()));
    }

    #[test]
    fn averages_leave_out_what_is_missing() {
        let mut values = vec![1.0; 1000];
        values[4] = 4.0;
        values[5] = f64::NAN;
        values[8..12].fill(f64::NAN);
        let got = points(Resampler::Average, &values, 40);
        assert_eq!(got.len(), 250);
        assert_eq!(got[1], 2.0);
        assert!(got[2].is_nan());
        assert_eq!(got[3], 1.0);
    }

    #[test]
    fn simple_takes_the_first_of_each_full_bucket() {
        let values = series(1003);
        let got = points(Resampler::Simple, &values, 40);
        assert_eq!(got.len(), 250);
        assert!(got.iter().enumerate().all(|(i, &value)| value == values[4 * i]));
    }
}
