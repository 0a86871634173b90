//! What a message leaves behind: its good samples, and of its other lines no trace but a count.

use store_core::Timestamp;
use store_core::host::{Host, HostState};
use store_core::ingest::{Ingested, Scratch, Terms};
use store_core::journal::{Journal, Unlogged};
use store_core::line::{Refusal, Skip};
use store_core::metric::{Aggregation, Catalog};
use store_core::record::RawSample;
use store_core::row::Row;
use store_core::stamp::Stamp;
use store_core::store::{Limits, Store};

use crate::support::{self, ANY_TIME, CLUSTER, all_points, send};

fn store() -> Store {
    support::store(&[("load", 60, Aggregation::Avg)])
}

fn limited(limits: Limits) -> Store {
    Store::new(support::catalog(&[("load", 60, Aggregation::Avg)]), limits, None)
}

fn refused(report: &Ingested, reason: Refusal) -> u64 {
    report.refused[reason as usize]
}

#[test]
fn a_line_that_is_not_taken_leaves_no_host_and_no_metric_behind() {
    let store = Store::new(Catalog::default(), Limits::default(), Some(10));
    let terms = Terms { oldest: 100, newest: 200, ..ANY_TIME };
    let lines = "m1,hostname=h1 value=x 150\nm2,hostname=h2 value=1 99\nm3,hostname=h3 value=1 201\n\
                 m4,hostname=.. value=1 150\nm5 value=1 150\nsome prose in a message\nm6,hostname=h6 event=\"x\" 150\n";
    let report = support::send_under(&store, lines, &terms, &mut Unlogged::default());
    assert_eq!((report.good, report.bad, report.skipped[Skip::Event as usize]), (0, 2, 1));
    let reasons = [Refusal::TooOld, Refusal::TooNew, Refusal::HostName, Refusal::HostMissing];
    assert!(reasons.into_iter().all(|reason| refused(&report, reason) == 1), "{report:?}");
    assert_eq!((store.host_count(), store.catalog().len()), (0, 0));
}

#[test]
fn the_limit_on_series_is_kept_within_one_message() {
    let store = limited(Limits { series: 5, ..Limits::default() });
    let lines: String = (0..8)
        .flat_map(|n| vec![format!("load,hostname=n1,type=core,type-id={n} value=1 60\n"); 2])
        .collect();
    let report = send(&store, &lines);
    assert_eq!((report.good, report.registered, refused(&report, Refusal::Series)), (10, 5, 6));
    assert_eq!(store.series(), 5);
    let again = send(&store, &lines.replace(" 60\n", " 120\n"));
    assert_eq!((again.good, again.registered, refused(&again, Refusal::Series)), (10, 0, 6));
}

#[test]
fn one_host_too_many_is_refused_until_another_one_goes() {
    let store = limited(Limits { hosts: 1, ..Limits::default() });
    send(&store, "load,hostname=n1 value=1 60\n");
    let report = send(&store, "load,hostname=n2 value=1 60\nload,hostname=n1 value=2 120\n");
    assert_eq!((report.good, refused(&report, Refusal::Hosts)), (1, 1));
    store.host(CLUSTER, "n1").unwrap().lock().drop_before(1000);
    assert_eq!(store.prune().len(), 1);
    assert_eq!((store.series(), store.host_count()), (0, 0));
    assert_eq!(send(&store, "load,hostname=n2 value=1 60\n").good, 1);
}

#[test]
fn a_host_that_went_between_two_messages_is_there_again_with_the_next() {
    let store = store();
    let mut scratch = Scratch::default();
    let mut journal = Unlogged::default();
    store.ingest(b"load,hostname=n1 value=1 60\n", &ANY_TIME, &mut journal, &mut scratch);
    let gone = store.host(CLUSTER, "n1").unwrap();
    gone.lock().drop_before(1000);
    store.prune();
    assert!(gone.lock().is_gone());
    let report = store.ingest(b"load,hostname=n1 value=2 2000\n", &ANY_TIME, &mut journal, &mut scratch);
    assert_eq!((report.good, report.registered), (1, 1));
    assert_eq!(all_points(&store, &[], "load"), [(2000, 2.0)]);
    assert!(!std::sync::Arc::ptr_eq(&gone, &store.host(CLUSTER, "n1").unwrap()));
}

#[test]
fn samples_below_a_floor_are_refused_and_counted() {
    let store = store();
    send(&store, "load,hostname=n1 value=1 600\nload,hostname=n1 value=2 660\n");
    store.host(CLUSTER, "n1").unwrap().lock().raise_floors(&[(0, 660)], Stamp(9));
    let report = send(&store, "load,hostname=n1 value=8 600\nload,hostname=n1 value=9 720\n");
    assert_eq!((report.good, report.freed), (1, 1));
    assert_eq!(all_points(&store, &[], "load"), [(660, 2.0), (720, 9.0)]);
}

/// Keeps what it is given, in the order in which it comes.
#[derive(Default)]
struct Kept(Vec<(String, Vec<RawSample>)>);

impl Journal for Kept {
    fn rows(&mut self, host: &Host, _: &mut HostState, rows: &[Row]) -> Stamp {
        self.0.push((format!("{} {} rows", host.name(), rows.len()), Vec::new()));
        Stamp(self.0.len() as u64)
    }

    fn floors(&mut self, _: &Host, _: &mut HostState, _: &[(u32, Timestamp)]) -> Stamp {
        unreachable!("nothing is freed")
    }

    fn samples(&mut self, host: &Host, samples: &[RawSample]) -> Stamp {
        self.0.push((host.name().to_owned(), samples.to_vec()));
        Stamp(self.0.len() as u64)
    }
}

#[test]
fn samples_of_a_host_that_is_loading_are_logged_at_once_and_applied_in_order_behind_what_was_loaded() {
    let store = store();
    let host = store.found_host(CLUSTER, "n1").unwrap();
    let mut journal = Kept::default();
    for lines in
        ["load,hostname=n1 value=1 60\nload,hostname=n2 value=5 60\n", "load,hostname=n1 value=2 60\n"]
    {
        let report = support::send_under(&store, lines, &ANY_TIME, &mut journal);
        assert_eq!(report.good, lines.lines().count() as u64);
        assert_eq!(report.last, Stamp(journal.0.len() as u64));
    }
    let logged: Vec<&str> = journal.0.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(logged, ["n1", "n2 1 rows", "n1"]);
    assert_eq!((&*journal.0[2].1[0].metric, journal.0[2].1[0].value), ("load", 2.0));

    let mut state = host.lock();
    assert_eq!(state.safe(), Stamp(1), "what waits is only in the log");
    let stamps: Vec<Stamp> = state.deferred().iter().map(|(stamp, _)| *stamp).collect();
    assert_eq!(stamps, [Stamp(1), Stamp(3)]);
    for (stamp, samples) in state.finish_loading() {
        store.apply_deferred(&host, &mut state, &samples, stamp, false, 0);
    }
    assert_eq!((state.safe(), state.is_loading()), (Stamp(1), false));
    drop(state);
    assert_eq!(all_points(&store, &[], "load"), [(60, 2.0)]);
}

#[test]
fn lines_without_a_time_get_that_of_the_message() {
    let store = store();
    let terms = Terms { now: 6000, ..ANY_TIME };
    let report = support::send_under(&store, "load,hostname=n1 value=1\n", &terms, &mut Unlogged::default());
    assert_eq!(report.good, 1);
    assert_eq!(all_points(&store, &[], "load"), [(6000, 1.0)]);
}
