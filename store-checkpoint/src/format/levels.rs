//! The way from runs to nested levels that both encoders go, and the check before it.

use super::collect::{check_range, check_run};
use crate::error::{Damage, EncodeError};
use crate::run::{Dump, Run};

/// The runs of `dump` in the order of files, after checking that a reader takes every one of them.
pub(super) fn in_order(dump: &Dump) -> Result<Vec<&Run>, EncodeError> {
    let (from, to) = (dump.from, dump.to);
    check_range(from, to).map_err(|damage| EncodeError::Range { from, to, damage })?;
    let refused = |run: &Run, damage| EncodeError::Series { series: run.series(), damage };
    let mut runs: Vec<&Run> = dump.runs.iter().filter(|run| !run.values.is_empty()).collect();
    runs.sort_by(|a, b| a.place().cmp(&b.place()));
    for run in &runs {
        check_run(run, from, to).map_err(|damage| refused(run, damage))?;
        if run.values.iter().any(|v| v.is_infinite()) {
            return Err(refused(run, Damage::NotANumber));
        }
    }
    for pair in runs.windows(2) {
        if let [a, b] = pair
            && a.place() == b.place()
        {
            return Err(refused(b, Damage::Duplicate));
        }
    }
    Ok(runs)
}

/// The level that all of `runs` share, `depth` names below the host. The runs are in order.
#[derive(Clone, Copy)]
pub(super) struct Level<'a> {
    runs: &'a [&'a Run],
    depth: usize,
}

impl<'a> Level<'a> {
    /// The host's own level.
    pub(super) fn host(runs: &'a [&'a Run]) -> Self {
        Self { runs, depth: 0 }
    }

    /// The level's own series.
    pub(super) fn own(&self) -> &'a [&'a Run] {
        self.split().0
    }

    /// The levels right below, with their names.
    pub(super) fn children(&self) -> impl Iterator<Item = (&'a str, Level<'a>)> + use<'a> {
        let depth = self.depth;
        let same_name = move |a: &&Run, b: &&Run| a.path.get(depth) == b.path.get(depth);
        self.split().1.chunk_by(same_name).filter_map(move |runs| {
            let name = runs.first()?.path.get(depth)?;
            Some((&**name, Level { runs, depth: depth + 1 }))
        })
    }

    /// A level's own series sort before those of its children, whose path is longer.
    fn split(&self) -> (&'a [&'a Run], &'a [&'a Run]) {
        let own = self.runs.partition_point(|run| run.path.len() <= self.depth);
        self.runs.split_at(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(path: &[&str], metric: &str) -> Run {
        let path = path.iter().map(|&name| name.into()).collect();
        Run { path, metric: metric.into(), base: 0, frequency_s: 1, values: vec![1.0] }
    }

    #[test]
    fn levels_come_back_as_they_were_nested() {
        let runs =
            [run(&["b"], "n"), run(&["a", "x"], "m"), run(&[], "z"), run(&["a"], "m"), run(&["ab"], "m")];
        let dump = Dump { from: 0, to: 10, runs: runs.to_vec() };
        let order = in_order(&dump).unwrap();
        let host = Level::host(&order);
        assert_eq!(host.own().iter().map(|r| r.series()).collect::<Vec<_>>(), ["z"]);
        let children: Vec<_> = host.children().collect();
        assert_eq!(children.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["a", "ab", "b"]);
        let (_, a) = children[0];
        assert_eq!(a.own().iter().map(|r| r.series()).collect::<Vec<_>>(), ["a/m"]);
        let (name, x) = a.children().next().unwrap();
        assert_eq!((name, x.own().len(), x.children().count()), ("x", 1, 0));
    }

    #[test]
    fn a_dump_that_no_reader_would_take_is_refused_by_name() {
        let refused = |from, to, runs: Vec<Run>| match in_order(&Dump { from, to, runs }) {
            Err(EncodeError::Series { series, damage }) => (series, damage),
            other => panic!("{other:?}"),
        };
        let twice = vec![run(&["a"], "m"), run(&["a"], "m")];
        assert_eq!(refused(0, 10, twice), ("a/m".to_owned(), Damage::Duplicate));
        let infinite = Run { values: vec![f32::INFINITY], ..run(&[], "m") };
        assert_eq!(refused(0, 10, vec![infinite]), ("m".to_owned(), Damage::NotANumber));
        let still = Run { frequency_s: 0, ..run(&[], "m") };
        assert_eq!(refused(0, 10, vec![still]), ("m".to_owned(), Damage::Frequency));
        let late = Run { base: 100, ..run(&[], "m") };
        assert_eq!(refused(0, 10, vec![late]), ("m".to_owned(), Damage::OutsideRange));
        let deep = Run { path: vec!["a".into(); 17], ..run(&[], "m") };
        assert_eq!(refused(0, 10, vec![deep]).1, Damage::TooDeep);
        let long = run(&[], &"x".repeat(65_536));
        assert_eq!(refused(0, 10, vec![long]).1, Damage::NameTooLong);
        let backwards = Dump { from: 10, to: 9, runs: Vec::new() };
        let range = in_order(&backwards);
        assert!(matches!(range, Err(EncodeError::Range { damage: Damage::EmptyRange, .. })), "{range:?}");
    }
}
