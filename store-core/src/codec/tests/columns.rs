//! Columns as clusters make them: the mix on which sizes and speeds are judged.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// What a column looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Events per second: a count over a measured time, so all bits of the mantissa are used.
    Rate,
    /// The same in bursts over several orders of magnitude.
    BurstyRate,
    /// A ratio of two counts, narrow: instructions per cycle, vectorisation.
    Ratio,
    /// Clock frequency: full mantissa within a percent, walking.
    Clock,
    /// A share with two decimals.
    Percent,
    /// Watts with three decimals, walking.
    Power,
    /// Degrees, whole and slow.
    Temperature,
    /// Memory in kB, in steps of a page, walking.
    Memory,
    /// Memory in GB, counted in kB.
    MemoryGb,
    /// A counter that only grows.
    Counter,
    /// Load average: two decimals, smoothed.
    Load,
    /// The same value all the time.
    Constant,
    /// Nothing happens.
    Zero,
    /// Nothing most of the time, then a rate.
    Sparse,
    /// A few states.
    States,
    /// Idle, then a job's rate, then idle.
    Job,
}

/// Kinds and their shares in a busy fleet, in percent.
///
/// Half of it are counter rates and ratios per hardware thread, of which no codec can spare the mantissa.
pub(crate) const BUSY: [(Kind, usize); 16] = [
    (Kind::Rate, 27),
    (Kind::BurstyRate, 6),
    (Kind::Ratio, 9),
    (Kind::Clock, 9),
    (Kind::Percent, 7),
    (Kind::Power, 4),
    (Kind::Temperature, 3),
    (Kind::Memory, 4),
    (Kind::MemoryGb, 2),
    (Kind::Counter, 4),
    (Kind::Load, 3),
    (Kind::Constant, 4),
    (Kind::Zero, 8),
    (Kind::Sparse, 4),
    (Kind::States, 2),
    (Kind::Job, 4),
];

/// The same of a fleet in which nothing runs.
pub(crate) const IDLE: [(Kind, usize); 7] = [
    (Kind::Zero, 60),
    (Kind::Constant, 32),
    (Kind::Temperature, 3),
    (Kind::Memory, 1),
    (Kind::Counter, 1),
    (Kind::Load, 2),
    (Kind::Sparse, 1),
];

/// A standard normal deviate, nearly.
fn normal(rng: &mut StdRng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// A value that returns to `mean` from wherever noise brings it; `memory` of 0 is independent noise.
struct Walk {
    mean: f64,
    spread: f64,
    memory: f64,
    at: f64,
}

impl Walk {
    fn new(mean: f64, spread: f64, memory: f64) -> Self {
        Self { mean, spread, memory, at: 0.0 }
    }

    fn next(&mut self, rng: &mut StdRng) -> f64 {
        self.at = self.memory * self.at + (1.0 - self.memory * self.memory).sqrt() * normal(rng);
        self.mean + self.spread * self.at
    }
}

fn decimals(value: f64, digits: i32) -> f64 {
    let power = 10_f64.powi(digits);
    (value * power).round() / power
}

/// One column of that kind.
pub(crate) fn column(kind: Kind, rows: usize, rng: &mut StdRng) -> Vec<f32> {
    let interval_s = *[10.0, 30.0, 60.0].choose(rng).unwrap();
    // What the collector measures between two ticks.
    let elapsed = |rng: &mut StdRng| interval_s + 0.002 * normal(rng);
    let size = 10_f64.powf(rng.random_range(1.0..9.0));
    let memory = *[0.0, 0.0, 0.5, 0.9, 0.99].choose(rng).unwrap();
    let mut walk = Walk::new(size, size * rng.random_range(0.02..0.3), memory);
    let mut total = size.round() * 100.0;
    let threshold = rng.random_range(0.05..0.3);
    let (begin, end) = (rng.random_range(0..rows.max(1)), rng.random_range(0..rows.max(1)));
    let mut rate = |rng: &mut StdRng| (walk.next(rng).max(0.0) * interval_s).round() / elapsed(rng);
    let mut steps = Walk::new(0.0, 1.0, 0.98);
    let states: Vec<f64> = (0..rng.random_range(2..12)).map(|_| size * rng.random::<f64>()).collect();
    let mut state = states[0];
    let mut next = |row: usize, rng: &mut StdRng| match kind {
        Kind::Rate => rate(rng),
        Kind::BurstyRate => (rate(rng) * (1.5 * normal(rng)).exp()).round() / elapsed(rng),
        Kind::Ratio => 1.3 + 0.2 * steps.next(rng) + 0.03 * normal(rng),
        Kind::Clock => 2400.0 + 12.0 * steps.next(rng) + 0.5 * normal(rng),
        Kind::Percent => decimals((60.0 + 20.0 * steps.next(rng) + 3.0 * normal(rng)).clamp(0.0, 100.0), 2),
        Kind::Power => decimals(180.0 + 15.0 * steps.next(rng) + normal(rng), 3),
        Kind::Temperature => (55.0 + 4.0 * steps.next(rng)).round(),
        Kind::Memory => 4.0 * (5.0e6 + 2.0e5 * steps.next(rng) + 100.0 * normal(rng)).round(),
        Kind::MemoryGb => (5.0e7 + 1.0e6 * steps.next(rng)).round() / 1e6,
        Kind::Counter => {
            total += (1000.0 + 100.0 * normal(rng)).round();
            total
        }
        Kind::Load => decimals((32.0 + 8.0 * steps.next(rng)).max(0.0), 2),
        Kind::Constant => decimals(size, 2),
        Kind::Zero => 0.0,
        Kind::Sparse => {
            let rate = rate(rng);
            if rng.random::<f64>() < threshold { rate } else { 0.0 }
        }
        Kind::States => {
            if rng.random::<f64>() < threshold {
                state = *states.choose(rng).unwrap();
            }
            state
        }
        Kind::Job => {
            let rate = rate(rng);
            if (begin.min(end)..=begin.max(end)).contains(&row) { rate } else { 0.0 }
        }
    };
    (0..rows).map(|row| next(row, rng) as f32).collect()
}

/// A hundred columns in the shares given, some with a few missing values.
pub(crate) fn mix(shares: &[(Kind, usize)], rows: usize, seed: u64) -> Vec<(Kind, Vec<f32>)> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut columns = Vec::new();
    for &(kind, share) in shares {
        for _ in 0..share {
            let mut values = column(kind, rows, &mut rng);
            if rng.random_range(0..10) == 0 {
                for _ in 0..rng.random_range(1..4) {
                    let row = rng.random_range(0..rows);
                    values[row] = f32::NAN;
                }
            }
            columns.push((kind, values));
        }
    }
    columns
}
