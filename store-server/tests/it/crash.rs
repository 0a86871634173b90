//! The engine on a simulated disk, crashed at every call of random histories.
//!
//! After each crash the disk shows what a kill leaves, or what a power loss leaves with any part of what was
//! not synced. Whatever was acknowledged is then asked for, nothing that was not sent may be there, and a second
//! recovery gives the same answers.
//!
//! `CRASH_HISTORIES` and `CRASH_SEED` in the environment make a long campaign of it.

#![expect(clippy::print_stdout, reason = "a campaign says what it did")]

mod history;
mod ledger;

use store_disk::SimDisk;
use store_disk::sim::{Crash, Fault, Torn};
use store_server::engine::WalSync;

use history::{History, Lengths};

/// Error numbers as the system gives them.
const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// What was done, for the closing line.
#[derive(Debug, Default)]
struct Tally {
    histories: u64,
    crashes: u64,
    images: std::collections::HashSet<u64>,
    samples: u64,
    deep: u64,
}

/// Runs one history, crashed at every call that changes something, and judges what each crash leaves.
fn judge(seed: u64, mode: WalSync, tally: &mut Tally) {
    let whole = SimDisk::new();
    History::new(seed, mode, Lengths::FIRST).run(&whole);
    let calls = whole.calls();
    tally.histories += 1;
    for number in 0..calls {
        let disk = SimDisk::new();
        let torn = match (seed + number) % 3 {
            0 => Torn::Bytes(0),
            1 => Torn::Bytes(7),
            _ => Torn::Sectors(1),
        };
        disk.crash_at(number, torn);
        let mut history = History::new(seed, mode, Lengths::FIRST);
        history.run(&disk);
        tally.crashes += 1;
        for crash in disk.crashes(1, seed ^ number) {
            let image = disk.after(&crash);
            if !tally.images.insert(image.image_hash()) {
                continue;
            }
            let label = format!("seed {seed}, {mode:?}, call {number} of {calls}, {crash:?}");
            tally.samples += history.judge(&image, matches!(crash, Crash::Kill), &label);
            // Now and then the next life is crashed too.
            if tally.images.len().is_multiple_of(40) {
                tally.deep += 1;
                judge_next_life(&history, &image, &crash, seed ^ number, &label, tally);
            }
        }
    }
}

fn judge_next_life(
    history: &History,
    image: &SimDisk,
    crash: &Crash,
    seed: u64,
    label: &str,
    tally: &mut Tally,
) {
    let next = history.next_life(matches!(crash, Crash::Kill), seed);
    let whole = image.fork();
    let before = whole.calls();
    next.clone().run(&whole);
    for number in (before..whole.calls()).step_by(7) {
        let disk = image.fork();
        disk.crash_at(number, Torn::Bytes(3));
        let mut life = next.clone();
        life.run(&disk);
        for crash in disk.crashes(1, seed ^ number) {
            let image = disk.after(&crash);
            if tally.images.insert(image.image_hash()) {
                let label = format!("{label}; then call {number}, {crash:?}");
                tally.samples += life.judge(&image, matches!(crash, Crash::Kill), &label);
            }
        }
    }
}

fn campaign(mode: WalSync, histories: u64) {
    let (histories, first) = (setting("CRASH_HISTORIES", histories), setting("CRASH_SEED", 1));
    let mut tally = Tally::default();
    for seed in first..first + histories {
        judge(seed, mode, &mut tally);
    }
    println!(
        "{mode:?}: {} histories, {} crashes, {} distinct images ({} crashed again), {} samples asked for",
        tally.histories,
        tally.crashes,
        tally.images.len(),
        tally.deep,
        tally.samples
    );
    assert!(tally.images.len() as u64 > histories * 20, "too few crash states: {tally:?}");
    assert!(tally.samples > histories * 500, "too few samples asked for");
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_invented_in_mode_always() {
    campaign(WalSync::Always, 20);
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_invented_in_mode_interval() {
    campaign(WalSync::Interval, 20);
}

/// Fails one call, or several, or all from there on, and heals afterwards: no panic, no acknowledgement that
/// does not hold, and everything that was acknowledged is there after the next start.
#[test]
fn a_failing_call_costs_no_acknowledged_sample() {
    use store_disk::sim::Effect;
    let histories = setting("CRASH_HISTORIES", 3);
    let (mut faults, mut samples, mut hits) = (0, 0, 0);
    for seed in 1..=histories {
        let whole = SimDisk::new();
        History::new(seed, WalSync::Always, Lengths::FIRST).run(&whole);
        for number in 0..whole.calls() {
            for (kind, times) in [(EIO, 1), (ENOSPC, 3), (EMFILE, 20)] {
                let effect =
                    if (number + seed).is_multiple_of(2) { Effect::Error(kind) } else { Effect::Lose(kind) };
                let disk = SimDisk::new();
                disk.fail(Fault::at(effect, number).times(times));
                let mut history = History::new(seed, WalSync::Always, Lengths::FIRST);
                history.run(&disk);
                faults += 1;
                hits += disk.fault_hits();
                disk.clear_faults();
                let label = format!("seed {seed}, call {number} fails with {kind}, {times} times");
                samples += history.judge(&disk.after_kill(), true, &label);
            }
        }
    }
    println!("{faults} faults, {hits} failed calls, {samples} samples asked for");
    assert!(hits > faults / 2 && samples > 1000, "the faults hit too little");
}

#[test]
fn a_kill_at_the_end_of_many_lives_loses_nothing() {
    let first = setting("CRASH_SEED", 1);
    let mut samples = 0;
    for seed in first..first + setting("CRASH_HISTORIES", 300) {
        let mode = if seed.is_multiple_of(2) { WalSync::Always } else { WalSync::Write };
        let disk = SimDisk::new();
        let mut history = History::new(seed, mode, Lengths::FIRST);
        history.run(&disk);
        samples += history.judge(&disk.after_kill(), true, &format!("seed {seed}"));
    }
    println!("{samples} samples asked for");
    assert!(samples > 10 * setting("CRASH_HISTORIES", 300), "too few samples asked for");
}
