//! [`Run`] and [`Dump`]: what a `.json` or `.bin` version 1 file says, whatever its encoding.

/// Values of one series at a fixed frequency.
///
/// Names rather than numbers of a catalog: a file may hold metrics and levels that nobody configured.
#[derive(Debug, Clone)]
pub struct Run {
    /// Names of the levels below the host, outermost first; empty for the host itself.
    pub path: Vec<Box<str>>,
    /// Name of the metric.
    pub metric: Box<str>,
    /// Time of the first value, seconds since the epoch.
    pub base: i64,
    /// Seconds from one value to the next, at least 1.
    pub frequency_s: u32,
    /// The values in order of time; NaN where a sample is missing, never infinite.
    pub values: Vec<f32>,
}

impl Run {
    /// Time of the value at `index`, saturating at the ends of `i64`.
    pub fn time_of(&self, index: usize) -> i64 {
        let steps = i64::try_from(index).unwrap_or(i64::MAX);
        self.base.saturating_add(steps.saturating_mul(i64::from(self.frequency_s)))
    }

    /// Time of the first value that is not missing; `None` if all are.
    pub fn oldest(&self) -> Option<i64> {
        self.values.iter().position(|v| !v.is_nan()).map(|index| self.time_of(index))
    }

    /// Time of the last value that is not missing; `None` if all are.
    pub fn newest(&self) -> Option<i64> {
        self.values.iter().rposition(|v| !v.is_nan()).map(|index| self.time_of(index))
    }

    /// Orders runs as files hold them: a level's own metrics before its children, names by their bytes.
    pub(crate) fn place(&self) -> (&[Box<str>], &str) {
        (&self.path, &self.metric)
    }

    /// The series as an operator reads it: `socket0/cpu0/ipc`.
    pub(crate) fn series(&self) -> String {
        let mut text = self.path.join("/");
        if !text.is_empty() {
            text.push('/');
        }
        text.push_str(&self.metric);
        text
    }
}

/// Equal to the bit: −0 differs from 0, and missing equals missing.
impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        let bits = |v: &f32| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() };
        self.place() == other.place()
            && (self.base, self.frequency_s) == (other.base, other.frequency_s)
            && self.values.iter().map(bits).eq(other.values.iter().map(bits))
    }
}

impl Eq for Run {}

/// The content of one `.json` or `.bin` version 1 file: what a host held in a range of time.
///
/// Decoders hand out runs sorted by path and metric, each series once, none without values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// Begin of the range, seconds since the epoch; also the file's name.
    pub from: i64,
    /// End of the range, seconds since the epoch, itself outside. 0 in files that do not say.
    pub to: i64,
    /// The series.
    pub runs: Vec<Run>,
}

impl Dump {
    /// A dump of `runs` whose range is at least `[from, to)` and holds every value.
    ///
    /// The range is widened because both the original and this crate refuse or skip what lies outside it.
    pub fn covering(from: i64, to: i64, mut runs: Vec<Run>) -> Self {
        runs.retain(|run| !run.values.is_empty());
        runs.sort_by(|a, b| a.place().cmp(&b.place()));
        let from = runs.iter().map(|run| run.base).fold(from, i64::min);
        let to = runs.iter().filter_map(Run::newest).map(|t| t.saturating_add(1)).fold(to, i64::max);
        Self { from, to, runs }
    }

    /// Time of the oldest value that is not missing.
    pub fn oldest(&self) -> Option<i64> {
        self.runs.iter().filter_map(Run::oldest).min()
    }

    /// Time of the newest value that is not missing.
    pub fn newest(&self) -> Option<i64> {
        self.runs.iter().filter_map(Run::newest).max()
    }

    /// True if `time` is before everything that the range may hold; never for a file that does not say.
    pub fn ends_before(&self, time: i64) -> bool {
        range_ends_before(self.to, time)
    }
}

/// The original's rule for skipping a file: it ended before `time`, and says so.
pub(crate) fn range_ends_before(to: i64, time: i64) -> bool {
    to != 0 && to < time
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(metric: &str, base: i64, values: &[f32]) -> Run {
        Run { path: Vec::new(), metric: metric.into(), base, frequency_s: 10, values: values.to_vec() }
    }

    #[test]
    fn missing_values_count_neither_as_oldest_nor_as_newest() {
        let some = run("m", 100, &[f32::NAN, 1.0, f32::NAN, 2.0, f32::NAN]);
        assert_eq!((some.oldest(), some.newest()), (Some(110), Some(130)));
        let none = run("m", 100, &[f32::NAN; 3]);
        assert_eq!((none.oldest(), none.newest()), (None, None));
    }

    #[test]
    fn runs_are_equal_to_the_bit_and_missing_equals_missing() {
        let quiet = f32::from_bits(0x7fc0_0001);
        assert_eq!(run("m", 0, &[f32::NAN, 1.0]), run("m", 0, &[quiet, 1.0]));
        assert_ne!(run("m", 0, &[0.0]), run("m", 0, &[-0.0]));
        assert_ne!(run("m", 0, &[1.0]), run("m", 0, &[1.0, f32::NAN]));
    }

    #[test]
    fn a_covering_dump_widens_its_range_to_its_values_and_drops_empty_runs() {
        let runs = vec![run("b", 95, &[1.0, f32::NAN]), run("a", 100, &[1.0, 2.0]), run("c", 0, &[])];
        let dump = Dump::covering(100, 105, runs);
        assert_eq!((dump.from, dump.to), (95, 111));
        let names: Vec<&str> = dump.runs.iter().map(|run| &*run.metric).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!((dump.oldest(), dump.newest()), (Some(95), Some(110)));
    }

    #[test]
    fn times_saturate_at_the_ends_of_the_range() {
        assert_eq!(run("m", i64::MAX - 5, &[1.0, 2.0]).newest(), Some(i64::MAX));
    }
}
