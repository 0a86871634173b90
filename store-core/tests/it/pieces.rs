//! A long message is taken in pieces: where it is cut changes nothing of what it means, and it takes no more memory than
//! a piece.

use store_core::ingest::{Ingested, PIECE_BYTES, PIECE_LINES_MAX, Scratch};
use store_core::journal::Unlogged;
use store_core::line::Skip;
use store_core::metric::Aggregation;
use store_core::store::Store;

use crate::support::{self, ANY_TIME, all_points, send};

/// What a piece may take in memory, bytes.
const PIECE_HEAP_MAX: usize = 32 << 20;

fn store() -> Store {
    support::store(&[("load", 60, Aggregation::Avg)])
}

/// Takes a message, and says how much memory a piece took at most, and what is kept behind it.
fn peak_of(store: &Store, body: &[u8]) -> (Ingested, usize, usize) {
    let (mut scratch, mut journal) = (Scratch::default(), Unlogged::default());
    let mut message = store.message(body, &ANY_TIME);
    let mut peak = 0;
    while message.take_piece(&mut journal, &mut scratch) {
        peak = peak.max(scratch.heap_bytes());
    }
    scratch.rest();
    (message.into_report(), peak, scratch.heap_bytes())
}

/// So many short comments: lines that cost nothing.
fn comments(count: usize) -> String {
    "#\n".repeat(count)
}

/// Lines of a metric that nobody knows, as many as a piece has.
fn a_piece() -> String {
    "q value=1 60\n".repeat(PIECE_LINES_MAX)
}

#[test]
fn what_two_million_lines_teach_takes_no_more_memory_than_a_piece() {
    for line in ["q\n".to_owned(), "load,hostname=n1 value=1 60\n".to_owned(), "load value=1 60\n".to_owned()]
    {
        let lines = 2_000_000;
        let (report, peak, kept) = peak_of(&store(), line.repeat(lines).as_bytes());
        let skipped: u64 = report.skipped.iter().chain(&report.refused).sum();
        assert_eq!(report.good + report.bad + skipped, lines as u64, "{line}");
        assert!(peak < PIECE_HEAP_MAX, "{line}: {peak} bytes");
        assert!(kept < 1 << 20, "{line}: {kept} bytes are kept");
    }
}

#[test]
fn long_lines_of_new_series_take_no_more_memory_than_a_piece() {
    let name = "x".repeat(200);
    let line = |n: usize| format!("load,hostname=n1,type={name},type-id={n} value=1 60\n");
    let body: String = (0..60_000).map(line).collect();
    assert!(body.len() > 3 * PIECE_BYTES);
    let store = store();
    let (mut scratch, mut journal) = (Scratch::default(), Unlogged::default());
    let mut message = store.message(body.as_bytes(), &ANY_TIME);
    let mut pieces = 0;
    while message.take_piece(&mut journal, &mut scratch) {
        pieces += 1;
    }
    assert!(pieces > 2, "{pieces} pieces");
    assert_eq!(message.into_report().good, 60_000);
}

#[test]
fn lines_keep_their_numbers_over_pieces() {
    let body = a_piece() + "\n# a comment\nload,hostname=n1 value=x 60\n";
    let report = send(&store(), &body);
    assert_eq!((report.bad, report.skipped[Skip::UnknownMetric as usize]), (1, PIECE_LINES_MAX as u64));
    let (line, column, _) = report.first_bad.unwrap();
    assert_eq!((line, column), (PIECE_LINES_MAX + 3, 24));
}

#[test]
fn a_string_in_quotes_goes_on_over_a_cut() {
    // The line that opens the string is the last one of a piece, and its other lines would be samples.
    let mut body = a_piece();
    body.truncate(body.len() - "q value=1 60\n".len());
    body += "slurm,hostname=n1 event=\"begin\nload,hostname=n1 value=7 60\nend\" 60\nload,hostname=n1 value=1 120\n";
    let store = store();
    let report = send(&store, &body);
    assert_eq!((report.good, report.bad), (1, 0), "{report:?}");
    assert_eq!(all_points(&store, &[], "load"), [(120, 1.0)]);
}

#[test]
fn samples_on_both_sides_of_a_cut_are_those_of_one_series() {
    let store = store();
    let line = |at: i64| format!("load,hostname=n1 value={} {}\n", at % 1000, at * 60);
    let count = PIECE_LINES_MAX as i64 + 10;
    let report = send(&store, &(0..count).map(line).collect::<String>());
    assert_eq!((report.good, report.registered), (count as u64, 1));
    let points = all_points(&store, &[], "load");
    assert_eq!(points.len(), count as usize);
    assert!((0..count).zip(&points).all(|(at, &point)| point == (at * 60, (at % 1000) as f64)));
}

#[test]
fn comments_and_empty_lines_are_no_pieces() {
    let (report, ..) = peak_of(&store(), (comments(3_000_000) + "load,hostname=n1 value=1 60\n").as_bytes());
    assert_eq!(report.good, 1);
}

#[test]
fn a_message_of_many_new_or_bad_lines_or_of_more_than_a_piece_is_not_taken_at_once() {
    let store = store();
    let attempt = |lines: &str| {
        let (mut journal, mut scratch) = (Unlogged::default(), Scratch::default());
        let report = store.try_ingest(lines.as_bytes(), &ANY_TIME, &mut journal, &mut scratch);
        report.map(|report| (report.good, report.bad))
    };
    let new = |count: usize| -> String {
        (0..count).map(|n| format!("load,hostname=n1,type=core,type-id={n} value=1 60\n")).collect()
    };
    assert_eq!(attempt(&new(2000)), None);
    assert_eq!(store.series(), 0);
    assert_eq!(attempt(&new(1000)), Some((1000, 0)));
    assert_eq!(attempt(&"load,hostname=n1 value=x 60\n".repeat(2000)), None);
    assert_eq!(attempt(&"load,hostname=n1 value=x 60\n".repeat(500)), Some((0, 500)));
    send(&store, &new(2000));
    assert_eq!(attempt(&new(2000)), Some((2000, 0)), "what is known is short, however many lines it has");
    assert_eq!(attempt(&(comments(70_000) + &new(1))), Some((1, 0)));
    send(&store, "q value=1 60\n");
    assert_eq!(attempt(&a_piece()), Some((0, 0)));
    assert_eq!(attempt(&(a_piece() + "q value=1 60\n")), None);
}
