//! A store gives the answers of plain maps, whatever becomes of its rows: frozen, sealed, patched, saved, rolled,
//! read back, logged again, replayed.

mod oracle;
mod real;

use proptest::prelude::*;
use store_core::Timestamp;
use store_core::metric::Aggregation;
use store_core::query::{Range, Reader, Series};

use self::oracle::{METRICS, Oracle, SERIES, Sample, step_of};
use self::real::Real;
use crate::support::{self, exact};

/// In how many ranges answers are compared.
const RANGES: usize = 5;

/// What senders, operators and time do: the answers depend on it.
#[derive(Debug, Clone)]
enum Deed {
    /// One message: series, seconds before now, value.
    Send(Vec<(usize, i64, i16)>),
    /// All series of a metric, one message per step; how far each is off its step.
    Run { metric: usize, jitter: Vec<i64> },
    /// Steps of a metric pass.
    Pass { metric: usize, steps: i64 },
    /// What is older than so many steps of the metric goes.
    Drop { metric: usize, steps: i64 },
    /// A series is freed up to so many of its steps before now.
    Free { series: usize, steps: i64 },
}

/// What the store does for itself: the answers do not depend on it.
#[derive(Debug, Clone)]
enum Chore {
    Freeze,
    Seal {
        now_or_never: bool,
    },
    /// A late sample of these series comes between the encoding and the swap.
    SealTouched {
        series: usize,
        steps: i64,
    },
    Save,
    Roll,
    Reread,
    Relog,
}

fn deeds() -> impl Strategy<Value = Deed> {
    let sample = (0..SERIES.len(), prop_oneof![0..30_i64, 0..800_i64, 0..40_000_i64], any::<i16>());
    let jitter = prop_oneof![
        3 => prop::collection::vec(Just(0_i64), 1..90),
        2 => prop::collection::vec(-30..30_i64, 1..90),
        1 => prop::collection::vec(-600..600_i64, 1..20),
    ];
    let steps = prop_oneof![4 => 1..5_i64, 2 => 60..70_i64, 1 => 505..520_i64, 1 => 1000..3000_i64];
    let old = prop_oneof![0..10_i64, 0..800_i64];
    prop_oneof![
        4 => prop::collection::vec(sample, 1..12).prop_map(Deed::Send),
        6 => (0..METRICS.len(), jitter).prop_map(|(metric, jitter)| Deed::Run { metric, jitter }),
        3 => (0..METRICS.len(), steps).prop_map(|(metric, steps)| Deed::Pass { metric, steps }),
        1 => (0..METRICS.len(), 0..900_i64).prop_map(|(metric, steps)| Deed::Drop { metric, steps }),
        1 => (0..SERIES.len(), old).prop_map(|(series, steps)| Deed::Free { series, steps }),
    ]
}

fn chores() -> impl Strategy<Value = Chore> {
    prop_oneof![
        3 => Just(Chore::Freeze),
        3 => any::<bool>().prop_map(|now_or_never| Chore::Seal { now_or_never }),
        2 => (0..SERIES.len(), 0..70_i64).prop_map(|(series, steps)| Chore::SealTouched { series, steps }),
        2 => Just(Chore::Save),
        1 => Just(Chore::Roll),
        1 => Just(Chore::Reread),
        1 => Just(Chore::Relog),
    ]
}

/// The same deeds done to the store with and without chores, and to the maps.
struct World {
    now: Timestamp,
    fixed_phase: bool,
    dropped: Option<Timestamp>,
    oracle: Oracle,
    busy: Real,
    idle: Real,
}

impl World {
    fn new(now: Timestamp, fixed_phase: bool) -> Self {
        let (busy, idle) = (Real::new(fixed_phase), Real::new(fixed_phase));
        Self { now, fixed_phase, dropped: None, oracle: Oracle::default(), busy, idle }
    }

    fn send(&mut self, message: &[Sample]) {
        self.oracle.send(message, self.dropped.unwrap_or(Timestamp::MIN), self.fixed_phase);
        self.busy.send(message, self.now);
        self.idle.send(message, self.now);
    }

    fn do_deed(&mut self, deed: &Deed) {
        match deed {
            Deed::Send(samples) => {
                let message: Vec<Sample> = samples
                    .iter()
                    .map(|&(series, behind, value)| (series, self.now - behind, f32::from(value) / 8.0))
                    .collect();
                self.send(&message);
            }
            Deed::Run { metric, jitter } => {
                for (number, jitter) in jitter.iter().enumerate() {
                    self.now += i64::from(METRICS[*metric].1);
                    let series = (0..SERIES.len()).filter(|series| SERIES[*series].0 == *metric);
                    let time = self.now + jitter;
                    let message: Vec<Sample> =
                        series.map(|series| (series, time, number as f32 + series as f32 / 16.0)).collect();
                    self.send(&message);
                }
            }
            Deed::Pass { metric, steps } => self.now += steps * i64::from(METRICS[*metric].1) + steps % 3,
            Deed::Drop { metric, steps } => {
                let time = self.now - steps * i64::from(METRICS[*metric].1);
                self.dropped = self.dropped.max(Some(time));
                self.oracle.drop_before(time);
                self.busy.drop_before(time);
                self.idle.drop_before(time);
            }
            Deed::Free { series, steps } => {
                if let Some(before) = self.oracle.free(*series, self.now - steps * step_of(*series)) {
                    self.busy.free(*series, before);
                    self.idle.free(*series, before);
                }
            }
        }
    }

    fn do_chore(&mut self, chore: &Chore) {
        match chore {
            Chore::Freeze => self.busy.freeze(),
            Chore::Seal { now_or_never } => self.busy.seal(*now_or_never, &[], self.now),
            Chore::SealTouched { series, steps } => {
                let late = [(*series, self.now - steps * step_of(*series), 0.5)];
                self.oracle.send(&late, self.dropped.unwrap_or(Timestamp::MIN), self.fixed_phase);
                self.idle.send(&late, self.now);
                if self.busy.store.host(support::CLUSTER, "n1").is_some() {
                    self.busy.seal(true, &late, self.now);
                } else {
                    self.busy.send(&late, self.now);
                }
            }
            Chore::Save => self.busy.save(),
            Chore::Roll => self.busy.roll(),
            Chore::Reread => self.busy.reread(),
            Chore::Relog => self.busy.relog(),
        }
        self.busy.check(self.dropped);
    }

    /// Each series alone, and all of a metric together, in several ranges, as the maps say.
    fn compare(&self, real: &Real, what: &str) {
        let Some(host) = real.store.host(support::CLUSTER, "n1") else { return };
        // One for all of them, and range by range: what it keeps of one series must do for the next.
        let mut reader = Reader::new(&host.lock());
        let mut read = |metric: &str, path: &[&str], range: &Range| {
            let metric = real.store.catalog().served(metric).unwrap();
            reader.read(&exact(path), &metric, range).unwrap().expect("there are samples")
        };
        for range in 0..RANGES {
            for (metric, &(_, _, aggregation)) in METRICS.iter().enumerate() {
                let of_metric: Vec<usize> =
                    (0..SERIES.len()).filter(|series| SERIES[*series].0 == metric).collect();
                for &series in &of_metric {
                    self.compare_one(range, &[series], SERIES[series].1, 1.0, what, &mut read);
                }
                let level = |&series: &usize| SERIES[series].1.len() == 1;
                let whole: Vec<usize> = of_metric.into_iter().filter(level).collect();
                let share = match aggregation {
                    Aggregation::Avg => 1.0 / whole.len() as f64,
                    _ => 1.0,
                };
                // The fans of a level above hide those below, and die0 is hidden by its socket.
                if whole.len() > 1 && whole.iter().all(|series| self.oracle.extent(*series).is_some()) {
                    self.compare_one(range, &whole, &[], share, what, &mut read);
                }
            }
        }
    }

    fn compare_one(
        &self,
        range: usize,
        series: &[usize],
        path: &[&str],
        share: f64,
        what: &str,
        read: &mut dyn FnMut(&str, &[&str], &Range) -> Series,
    ) {
        let metric = METRICS[SERIES[series[0]].0].0;
        let extents: Vec<_> = series.iter().filter_map(|series| self.oracle.extent(*series)).collect();
        let Some(first) = extents.iter().map(|(first, _)| *first).min() else { return };
        let step = step_of(series[0]);
        let middle = first + (self.now - first) / 2;
        let ranges: [_; RANGES] = [
            (first, Timestamp::MAX),
            (first + step / 2, self.now),
            (middle, middle + 70 * step),
            (middle + 7, self.now + 1000 * step),
            (self.now - 3 * step, self.now + step),
        ];
        let (from, to) = ranges[range];
        // What is older may have been dropped, or not.
        let from = from.max(first);
        if from > to {
            return;
        }
        let (expected_from, mut expected) = self.oracle.read(series, from, to);
        expected.iter_mut().for_each(|value| *value *= share);
        let answer = read(metric, path, &support::range(from, to));
        assert_eq!((answer.from, answer.resolution_s), (expected_from, step), "{what}: {metric} {path:?}");
        assert_eq!(answer.to, answer.from + answer.values.len() as i64 * step);
        let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
        let differs = answer.values.iter().zip(&expected).position(|pair| !same(pair));
        assert!(
            differs.is_none() && answer.values.len() == expected.len(),
            "{what}: {metric} {path:?} [{from}, {to}): {} values, {} expected, the first that differs is {:?}",
            answer.values.len(),
            expected.len(),
            differs.map(|at| (answer.from + at as i64 * step, answer.values[at], expected[at])),
        );
    }

    fn compare_all(&self) {
        self.compare(&self.busy, "sealed and rolled");
        self.compare(&self.idle, "left alone");
        self.compare(&self.busy.replayed(), "replayed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: support::cases(64), ..ProptestConfig::default() })]

    #[test]
    fn a_store_answers_as_plain_maps_do_whatever_becomes_of_its_rows(
        start in prop_oneof![Just(1_700_000_003_i64), Just(-1_234_567), Just(0)],
        fixed_phase in any::<bool>(),
        steps in prop::collection::vec((deeds(), prop::collection::vec(chores(), 0..4)), 1..14),
    ) {
        let mut world = World::new(start, fixed_phase);
        for (deed, chores) in &steps {
            world.do_deed(deed);
            world.compare(&world.busy, "on the way");
            for chore in chores {
                world.do_chore(chore);
            }
        }
        world.compare_all();
    }
}
