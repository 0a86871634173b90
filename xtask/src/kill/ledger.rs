//! What the store has acknowledged, and what an answer may therefore say.
//!
//! A sample may be sent several times with another value each time. Which value an answer may show follows from
//! two facts only: the newest version that was acknowledged, and the versions that were sent after it and got no
//! answer. Anything else is a loss, an older value back from the dead, or an invention.

use store_loadgen::value::mix;

/// Series of one host: metric, and the number of the hardware thread unless it is the node's.
pub(crate) const SERIES: usize = NODE_METRICS.len() + THREAD_METRICS.len() * THREADS as usize;
/// Metrics of the node.
pub(crate) const NODE_METRICS: [&str; 2] = ["kill_load", "kill_power"];
/// Metrics of each hardware thread.
pub(crate) const THREAD_METRICS: [&str; 3] = ["kill_flops", "kill_bw", "kill_clock"];
/// Hardware threads of a host.
pub(crate) const THREADS: u32 = 8;
/// Seconds from one step to the next.
pub(crate) const FREQUENCY_S: i64 = 10;
/// A sample is not sent more often than this.
const VERSION_MAX: u8 = 250;

/// The metric of a series, and its hardware thread.
pub(crate) fn series_name(series: usize) -> (&'static str, Option<u32>) {
    match series.checked_sub(NODE_METRICS.len()) {
        None => (NODE_METRICS[series], None),
        Some(index) => {
            let thread = u32::try_from(index % THREADS as usize).unwrap_or_default();
            (THREAD_METRICS[index / THREADS as usize], Some(thread))
        }
    }
}

/// The value of a version of a sample: an f32 with three decimals at most, so that it is printed exactly, and
/// different for every version.
pub(crate) fn value(host: u32, series: usize, step: u32, version: u8) -> f64 {
    let word = mix((u64::from(host) << 48) ^ ((series as u64) << 32) ^ u64::from(step));
    let eighths = (word >> 11).wrapping_add(u64::from(version) * 0x2_4681) & 0x7f_ffff;
    eighths as f64 / 8.0
}

/// What is known of one sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cell {
    /// The newest version that the store is known to hold; 0 for none.
    held: u8,
    /// The first version after `held` without an answer; beyond `sent` when there is none.
    open: u8,
    /// The newest version that was sent; 0 for none.
    sent: u8,
}

impl Cell {
    fn send(&mut self) -> u8 {
        if self.open > self.sent || self.sent == 0 {
            self.open = self.sent + 1;
        }
        self.sent += 1;
        self.sent
    }

    fn hold(&mut self, version: u8) {
        self.held = version;
        self.open = self.sent + 1;
    }

    fn may_be(&self, version: u8) -> bool {
        version == self.held || (version >= self.open && version <= self.sent)
    }
}

/// What the answers of a restarted store came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Acknowledged samples that were asked for.
    pub(crate) asked: u64,
    /// Of these, how many are not there.
    pub(crate) missing: u64,
    /// Of these, how many show a value older than the acknowledged one.
    pub(crate) stale: u64,
    /// Values that nobody sent for their series and slot.
    pub(crate) invented: u64,
    /// Versions without an acknowledgement that are there all the same, which is allowed.
    pub(crate) unacknowledged: u64,
}

impl Verdict {
    /// Adds another verdict to this one.
    pub(crate) fn add(&mut self, other: Self) {
        self.asked += other.asked;
        self.missing += other.missing;
        self.stale += other.stale;
        self.invented += other.invented;
        self.unacknowledged += other.unacknowledged;
    }

    /// How many samples break the promise.
    pub(crate) fn broken(&self) -> u64 {
        self.missing + self.stale + self.invented
    }
}

/// The samples of one host, step by step.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    /// The number of the host.
    pub(crate) host: u32,
    cells: Vec<Cell>,
}

impl Ledger {
    /// A host that has sent nothing.
    pub(crate) fn new(host: u32) -> Self {
        Self { host, cells: Vec::new() }
    }

    /// How many steps have been sent, at least in part.
    pub(crate) fn steps(&self) -> u32 {
        u32::try_from(self.cells.len() / SERIES).unwrap_or(u32::MAX)
    }

    /// Notes that a sample is about to be sent; gives its value, or `None` when it was sent too often.
    pub(crate) fn send(&mut self, step: u32, series: usize) -> Option<f64> {
        let index = step as usize * SERIES + series;
        if index >= self.cells.len() {
            self.cells.resize((step as usize + 1) * SERIES, Cell::default());
        }
        let cell = &mut self.cells[index];
        (cell.sent < VERSION_MAX).then(|| value(self.host, series, step, cell.send()))
    }

    /// Notes that the newest version of a sample was acknowledged.
    pub(crate) fn acknowledge(&mut self, step: u32, series: usize) {
        let cell = &mut self.cells[step as usize * SERIES + series];
        cell.hold(cell.sent);
    }

    /// Judges the answer for one series, `at(step)` being what it says. What was seen once must stay: from now
    /// on the store holds it.
    pub(crate) fn judge(&mut self, series: usize, at: impl Fn(u32) -> Option<f64>) -> Verdict {
        let mut verdict = Verdict::default();
        for step in 0..self.steps() {
            let host = self.host;
            let cell = &mut self.cells[step as usize * SERIES + series];
            let before = *cell;
            verdict.asked += u64::from(before.held > 0);
            let Some(seen) = at(step) else {
                verdict.missing += u64::from(before.held > 0);
                cell.hold(0);
                continue;
            };
            let found = (1..=before.sent).rev().find(|version| value(host, series, step, *version) == seen);
            match found {
                Some(version) if before.may_be(version) => {
                    verdict.unacknowledged += u64::from(version != before.held);
                    cell.hold(version);
                }
                Some(version) => {
                    verdict.stale += 1;
                    cell.hold(version);
                }
                None => {
                    verdict.invented += 1;
                    cell.hold(0);
                }
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger in which version 1 of step 0 is acknowledged and version 2 is in flight.
    fn in_flight() -> Ledger {
        let mut ledger = Ledger::new(3);
        ledger.send(0, 5).unwrap();
        ledger.acknowledge(0, 5);
        ledger.send(0, 5).unwrap();
        ledger
    }

    fn judged(ledger: &mut Ledger, seen: Option<f64>) -> Verdict {
        ledger.judge(5, |step| seen.filter(|_| step == 0))
    }

    #[test]
    fn the_acknowledged_version_and_the_one_in_flight_are_right_and_stay_so() {
        for version in [1, 2] {
            let mut ledger = in_flight();
            let verdict = judged(&mut ledger, Some(value(3, 5, 0, version)));
            assert_eq!((verdict.asked, verdict.broken()), (1, 0), "{verdict:?}");
            assert_eq!(verdict.unacknowledged, u64::from(version == 2));
            let other = judged(&mut ledger, Some(value(3, 5, 0, 3 - version)));
            assert_eq!(other.stale, 1, "version {version} was seen: {other:?}");
        }
    }

    #[test]
    fn what_is_missing_stale_or_invented_is_told_apart() {
        assert_eq!(judged(&mut in_flight(), None).missing, 1);
        assert_eq!(judged(&mut in_flight(), Some(0.0625)).invented, 1);
        let mut ledger = in_flight();
        ledger.acknowledge(0, 5);
        assert_eq!(judged(&mut ledger, Some(value(3, 5, 0, 1))).stale, 1);
        let mut other_series = in_flight();
        let verdict = other_series.judge(6, |_| Some(1.0));
        assert_eq!((verdict.asked, verdict.invented), (0, 1), "nobody sent series 6");
    }

    #[test]
    fn a_version_that_was_lost_in_flight_may_not_come_back_later() {
        let mut ledger = in_flight();
        assert_eq!(judged(&mut ledger, Some(value(3, 5, 0, 1))).broken(), 0);
        ledger.send(0, 5).unwrap();
        assert_eq!(judged(&mut ledger.clone(), Some(value(3, 5, 0, 3))).broken(), 0);
        assert_eq!(judged(&mut ledger, Some(value(3, 5, 0, 2))).stale, 1);
    }

    #[test]
    fn a_first_version_in_flight_may_be_there_or_not() {
        let mut ledger = Ledger::new(3);
        ledger.send(0, 5).unwrap();
        assert_eq!(judged(&mut ledger.clone(), None).broken(), 0);
        let verdict = judged(&mut ledger, Some(value(3, 5, 0, 1)));
        assert_eq!((verdict.broken(), verdict.unacknowledged), (0, 1));
    }

    #[test]
    fn versions_of_a_sample_differ_and_are_exact_in_f32_with_three_decimals() {
        let mut seen = std::collections::BTreeSet::new();
        for version in 1..=VERSION_MAX {
            let value = value(7, 11, 13, version);
            assert!(seen.insert(value.to_bits()));
            assert!(value == f64::from(value as f32) && value * 1000.0 == (value * 1000.0).trunc());
        }
    }

    #[test]
    fn series_have_a_metric_each_and_threads_below_it() {
        assert_eq!(SERIES, 26);
        let names: std::collections::BTreeSet<_> = (0..SERIES).map(series_name).collect();
        assert_eq!(names.len(), SERIES);
        assert_eq!(series_name(0), ("kill_load", None));
        assert_eq!(series_name(SERIES - 1), ("kill_clock", Some(7)));
    }
}
