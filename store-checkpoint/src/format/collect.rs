//! What both decoders do with a series they have read: check it, count its cost, keep it.

use super::{Decoded, LEVELS_MAX, NAME_BYTES_MAX};
use crate::error::{Damage, FormatError};
use crate::run::{Dump, Run};

/// A run takes this many times its share of the file at most...
const COST_PER_FILE_BYTE: usize = 16;

/// ... and this much more, so that a few long names above many short series are no matter.
const COST_FREE: usize = 4 << 20;

/// Checks the range of a file. A `to` of 0 says nothing.
pub(super) fn check_range(from: i64, to: i64) -> Result<(), Damage> {
    if to != 0 && to < from { Err(Damage::EmptyRange) } else { Ok(()) }
}

/// Checks one series against the limits of the formats and the range of its file.
pub(super) fn check_run(run: &Run, from: i64, to: i64) -> Result<(), Damage> {
    if run.path.len() > LEVELS_MAX {
        return Err(Damage::TooDeep);
    }
    if run.metric.len() > NAME_BYTES_MAX || run.path.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(Damage::NameTooLong);
    }
    if run.frequency_s == 0 {
        return Err(Damage::Frequency);
    }
    let count = u32::try_from(run.values.len()).map_err(|_| Damage::TooManyValues)?;
    let step = i64::from(run.frequency_s);
    let span = step.checked_mul(i64::from(count)).ok_or(Damage::TimeOverflow)?;
    run.base.checked_add(span).ok_or(Damage::TimeOverflow)?;
    check_inside(run, from, to, step)
}

/// A series that a reader of the original ever wrote begins at or behind `from` and ends before `to`. One step
/// is let pass on either side; what lies further out is a sign of damage in a format without checksum.
fn check_inside(run: &Run, from: i64, to: i64, step: i64) -> Result<(), Damage> {
    let Some(newest) = run.newest() else { return Ok(()) };
    if to != 0 && (run.base < from.saturating_sub(step) || newest > to.saturating_add(step)) {
        return Err(Damage::OutsideRange);
    }
    Ok(())
}

/// A frequency as files say it.
pub(super) fn frequency(frequency_s: i64) -> Result<u32, Damage> {
    u32::try_from(frequency_s).ok().filter(|&f| f > 0).ok_or(Damage::Frequency)
}

/// Makes every missing value the one NaN, and infinite ones missing. Returns the number of the latter.
pub(super) fn cleanse(values: &mut [f32]) -> u64 {
    let mut infinite = 0;
    for value in values {
        if !value.is_finite() {
            infinite += u64::from(value.is_infinite());
            *value = f32::NAN;
        }
    }
    infinite
}

/// Series of one file while it is read.
#[derive(Debug, Default)]
pub(super) struct Collector {
    runs: Vec<(Run, u64)>,
    cost_left: usize,
    pub(super) infinite: u64,
    pub(super) names_mended: u64,
}

impl Collector {
    /// For a file of `file_bytes` bytes.
    pub(super) fn new(file_bytes: usize) -> Self {
        let cost_left = file_bytes.saturating_mul(COST_PER_FILE_BYTE).saturating_add(COST_FREE);
        Self { cost_left, ..Self::default() }
    }

    /// Keeps the series `metric` of the level `path`, read at `offset`; one without values is dropped.
    ///
    /// Each run has names of its own. What they cost is counted, or a file of many series below one long name
    /// would take thousands of times its size.
    pub(super) fn push(
        &mut self,
        path: &[Box<str>],
        metric: Box<str>,
        base: i64,
        frequency_s: u32,
        values: Vec<f32>,
        offset: u64,
    ) -> Result<(), Damage> {
        if values.is_empty() {
            return Ok(());
        }
        let names = path.iter().map(|name| name.len() + size_of::<Box<str>>()).sum::<usize>();
        let cost = names + metric.len() + size_of::<(Run, u64)>() + size_of_val::<[f32]>(&values);
        self.cost_left = self.cost_left.checked_sub(cost).ok_or(Damage::OutOfProportion)?;
        self.runs.push((Run { path: path.to_vec(), metric, base, frequency_s, values }, offset));
        Ok(())
    }

    /// Checks everything against the range of the file, and puts the runs in order.
    pub(super) fn finish(mut self, from: i64, to: i64) -> Result<Decoded, FormatError> {
        let damaged = |offset, damage| FormatError::Damaged { offset, damage };
        check_range(from, to).map_err(|damage| damaged(0, damage))?;
        for (run, offset) in &self.runs {
            check_run(run, from, to).map_err(|damage| damaged(*offset, damage))?;
        }
        self.runs.sort_by(|(a, _), (b, _)| a.place().cmp(&b.place()));
        for pair in self.runs.windows(2) {
            if let [(a, _), (b, offset)] = pair
                && a.place() == b.place()
            {
                return Err(damaged(*offset, Damage::Duplicate));
            }
        }
        let runs = self.runs.into_iter().map(|(run, _)| run).collect();
        let dump = Dump { from, to, runs };
        Ok(Decoded { dump, infinite: self.infinite, names_mended: self.names_mended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_value_becomes_the_one_nan_and_infinite_ones_are_counted() {
        let mut values = [1.0, f32::from_bits(0xffc0_1234), f32::INFINITY, f32::NEG_INFINITY, -0.0];
        assert_eq!(cleanse(&mut values), 2);
        assert_eq!(values.map(f32::to_bits), [1.0, f32::NAN, f32::NAN, f32::NAN, -0.0].map(f32::to_bits));
    }

    #[test]
    fn many_series_below_one_long_name_cost_no_more_than_their_share() {
        let path = ["x".repeat(NAME_BYTES_MAX).into_boxed_str()];
        let mut collector = Collector::new(1000);
        let kept = (0..1000)
            .take_while(|i: &i32| collector.push(&path, i.to_string().into(), 0, 1, vec![1.0], 0).is_ok());
        let kept = kept.count();
        assert!((60..70).contains(&kept), "{kept} runs of 64 KiB within about 4 MiB");
    }

    #[test]
    fn one_step_outside_the_range_passes_and_more_does_not() {
        let run = |base, n| Run {
            path: Vec::new(),
            metric: "m".into(),
            base,
            frequency_s: 10,
            values: vec![1.0; n],
        };
        assert_eq!(check_run(&run(90, 2), 100, 200), Ok(()));
        assert_eq!(check_run(&run(89, 2), 100, 200), Err(Damage::OutsideRange));
        assert_eq!(check_run(&run(200, 2), 100, 200), Ok(()));
        assert_eq!(check_run(&run(201, 2), 100, 200), Err(Damage::OutsideRange));
        assert_eq!(check_run(&run(9, 2), 100, 0), Ok(()), "a file that does not say its range");
        let missing = Run { values: vec![f32::NAN; 100], ..run(190, 0) };
        assert_eq!(check_run(&missing, 100, 200), Ok(()), "padding behind the end");
        assert_eq!(check_run(&run(i64::MAX - 5, 2), 0, i64::MAX), Err(Damage::TimeOverflow));
    }
}
