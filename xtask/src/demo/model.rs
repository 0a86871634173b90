//! What a store must answer after the lines it was sent: the last line per series and slot.

use std::collections::BTreeMap;

use crate::demo::line::{Line, Place};
use crate::query::{self, Query, Series};

/// Every sample that was sent, by series, in the order of sending.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    series: BTreeMap<Place, Vec<(i64, f64)>>,
}

/// What came of comparing answers with a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Series asked for.
    pub(crate) series: u64,
    /// Slots that hold a value.
    pub(crate) values: u64,
    /// Slots whose answer is another one.
    pub(crate) different: u64,
    /// The first few of them, in words.
    pub(crate) examples: Vec<String>,
}

impl Comparison {
    fn differs(&mut self, what: impl FnOnce() -> String) {
        self.different += 1;
        if self.examples.len() < 5 {
            self.examples.push(what());
        }
    }
}

impl Model {
    /// Remembers a line that was acknowledged.
    pub(crate) fn apply(&mut self, line: Line) {
        if let Line::Sample { place, time_s, value } = line {
            self.series.entry(place).or_default().push((time_s, value));
        }
    }

    /// The series, in the order of hosts.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.series.keys()
    }

    /// Compares the answer for one series, whose grid is that of `answer`'s resolution and the first sample.
    ///
    /// Samples at or behind `to_s` were not asked for.
    pub(crate) fn compare(&self, place: &Place, to_s: i64, answer: Option<&Series>, into: &mut Comparison) {
        into.series += 1;
        let samples = self.series.get(place).map_or(&[][..], Vec::as_slice);
        let Some((phase_s, _)) = samples.first() else { return };
        let Some(answer) = answer.filter(|answer| answer.error.is_none() && answer.resolution > 0) else {
            into.differs(|| format!("{place:?}: no answer, {answer:?}"));
            return;
        };
        // Slots begin half a step before their time, so that jitter of a sender does not move a sample.
        let slot = |time_s: i64| (time_s - phase_s + answer.resolution / 2).div_euclid(answer.resolution);
        let mut wanted = BTreeMap::new();
        for (time_s, value) in samples {
            let number = slot(*time_s);
            if phase_s + number * answer.resolution < to_s {
                wanted.insert(number, *value);
            }
        }
        for (index, got) in answer.data.iter().enumerate() {
            let time_s = answer.from + index as i64 * answer.resolution;
            let want = wanted.remove(&slot(time_s));
            into.values += u64::from(want.is_some());
            let equal = match (want, got) {
                (None, None) => true,
                (Some(want), Some(got)) => query::as_printed(want) == *got,
                _ => false,
            };
            if !equal {
                into.differs(|| format!("{place:?} at {time_s}: sent {want:?}, answered {got:?}"));
            }
        }
        for (number, want) in wanted {
            into.values += 1;
            let time_s = phase_s + number * answer.resolution;
            into.differs(|| format!("{place:?} at {time_s}: sent {want}, not in the answer"));
        }
    }
}

/// The query for one series.
pub(crate) fn query_of(place: &Place) -> Query {
    let part = |pair: &Option<(String, String)>| {
        pair.clone().map_or((None, Vec::new()), |(k, id)| (Some(k), vec![id]))
    };
    let (kind, type_ids) = part(&place.component);
    let (subtype, subtype_ids) = part(&place.part);
    Query {
        metric: place.metric.clone(),
        host: place.host.clone(),
        kind,
        type_ids,
        subtype,
        subtype_ids,
        aggreg: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(lines: &[(i64, f64)], to_s: i64, answer: &Series) -> Comparison {
        let place = Place::node("h", "m");
        let mut model = Model::default();
        for (time_s, value) in lines {
            model.apply(Line::Sample { place: place.clone(), time_s: *time_s, value: *value });
        }
        let mut comparison = Comparison::default();
        model.compare(&place, to_s, Some(answer), &mut comparison);
        comparison
    }

    fn answer(from: i64, data: &[Option<f64>]) -> Series {
        Series { data: data.to_vec(), from, resolution: 5, ..Series::default() }
    }

    #[test]
    fn the_last_line_of_a_slot_wins_and_jitter_stays_in_its_slot() {
        let lines = [(100, 1.0), (105, 2.0), (107, 3.0), (115, 4.0), (109, 5.0)];
        let good = answer(100, &[Some(1.0), Some(3.0), Some(5.0), Some(4.0)]);
        let comparison = compare(&lines, 1000, &good);
        assert_eq!((comparison.values, comparison.different), (4, 0), "{comparison:?}");
    }

    #[test]
    fn every_way_of_being_wrong_is_counted() {
        let lines = [(100, 1.0), (105, 2.0), (115, 4.0)];
        let good = [Some(1.0), Some(2.0), None, Some(4.0)];
        assert_eq!(compare(&lines, 1000, &answer(100, &good)).different, 0);
        let cases: [(&[Option<f64>], u64); 5] = [
            (&[Some(1.0), Some(2.001), None, Some(4.0)], 1),
            (&[Some(1.0), None, None, Some(4.0)], 1),
            (&[Some(1.0), Some(2.0), Some(9.0), Some(4.0)], 1),
            (&[Some(1.0), Some(2.0)], 1),
            (&[Some(1.0), Some(2.0), None, Some(4.0), Some(4.0)], 1),
        ];
        for (data, different) in cases {
            assert_eq!(compare(&lines, 1000, &answer(100, data)).different, different, "{data:?}");
        }
        let shifted = compare(&lines, 1000, &answer(105, &good));
        assert!(shifted.different >= 3, "{shifted:?}");
    }

    #[test]
    fn what_was_not_asked_for_is_not_missing() {
        let lines = [(100, 1.0), (105, 2.0), (110, 3.0)];
        assert_eq!(compare(&lines, 110, &answer(100, &[Some(1.0), Some(2.0)])).different, 0);
    }

    #[test]
    fn a_series_without_an_answer_is_a_difference() {
        let place = Place::node("h", "m");
        let mut model = Model::default();
        model.apply(Line::Sample { place: place.clone(), time_s: 1, value: 1.0 });
        let mut comparison = Comparison::default();
        model.compare(&place, 10, None, &mut comparison);
        assert_eq!(comparison.different, 1);
    }
}
