//! What a message leaves behind: its good samples, and of its other lines no trace but a count.

use proptest::prelude::*;
use store_core::Timestamp;
use store_core::host::{Deferred, Host, HostState};
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
    let store = Store::new(Catalog::default(), Limits::default(), std::num::NonZeroU32::new(10));
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
fn a_host_for_whose_series_there_is_no_room_is_not_made() {
    let store = limited(Limits { series: 5, ..Limits::default() });
    let line = |host: u32, core: u32| format!("load,hostname=n{host},type=core,type-id={core} value=1 60\n");
    let lines: String = (0..5).map(|core| line(0, core)).chain((1..9).map(|host| line(host, 0))).collect();
    let report = send(&store, &lines);
    assert_eq!((report.good, report.registered, refused(&report, Refusal::Series)), (5, 5, 8));
    assert_eq!((store.series(), store.host_count()), (5, 1));
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
fn the_table_of_hosts_accounts_for_those_that_are_there() {
    let store = store();
    let empty = store.host_table_bytes();
    let bytes_of = |hosts: u32| {
        for host in 0..hosts {
            send(&store, &format!("load,hostname=a-name-of-some-length-{host:04} value=1 60\n"));
        }
        store.host_table_bytes() - empty
    };
    let (few, many) = (bytes_of(10), bytes_of(1000));
    assert!(few >= 10 * 2 * 26, "{few}");
    assert!((1000 * 2 * 26..1000 * 400).contains(&many), "{many}");
    for host in store.hosts(CLUSTER) {
        host.lock().drop_before(1000);
    }
    assert_eq!(store.prune().len(), 1000);
    // What is left is the list of numbers, which are not given out again.
    let left = store.host_table_bytes() - empty;
    assert!(left <= 2048 * size_of::<usize>(), "{left}");
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
    let stamps: Vec<Stamp> = state.deferred().iter().map(|deferred| deferred.stamp).collect();
    assert_eq!(stamps, [Stamp(1), Stamp(3)]);
    for Deferred { stamp, samples } in state.finish_loading() {
        store.apply_deferred(&host, &mut state, &samples.unwrap(), stamp, false, 0);
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

#[test]
fn what_is_refused_for_want_of_room_leaves_neither_host_nor_metric_behind() {
    let limits = Limits { hosts: 1, metrics: 2, series: 2, ..Limits::default() };
    let store = Store::new(Catalog::default(), limits, std::num::NonZeroU32::new(10));
    assert_eq!(send(&store, "a,hostname=n1 value=1 60\n").good, 1);
    let report = send(&store, "b,hostname=n2 value=1 60\n");
    assert_eq!((refused(&report, Refusal::Hosts), store.catalog().len()), (1, 1), "the metric is not there");
    assert_eq!(send(&store, "b,hostname=n1 value=1 60\n").good, 1);

    let store = Store::new(Catalog::default(), Limits { hosts: 9, ..limits }, std::num::NonZeroU32::new(10));
    assert_eq!(send(&store, "a,hostname=n1 value=1 60\nb,hostname=n1 value=1 60\n").good, 2);
    let report = send(&store, "c,hostname=n2 value=1 60\na,hostname=n3 value=1 60\n");
    assert_eq!((refused(&report, Refusal::Metrics), refused(&report, Refusal::Series)), (1, 1));
    assert_eq!(store.host_count(), 1);
}

#[test]
fn a_string_over_several_lines_is_skipped_and_not_bad_also_under_a_metric_that_is_known() {
    let store = store();
    let report = send(&store, "load,hostname=n1 value=\"one\ntwo\" 60\nload,hostname=n1 value=2 60\n");
    assert_eq!((report.good, report.bad, report.skipped[Skip::Text as usize]), (1, 0, 1));
    let stray = send(&store, "load,hostname=n1 value=\"one\nload,hostname=n1 value=2 120\n");
    assert_eq!((stray.good, stray.bad), (1, 1), "a quote that nothing closes is bad");
}

#[test]
fn samples_of_a_subcomponent_without_a_component_are_counted_each_time() {
    let store = store();
    let line = |at: i64| format!("load,hostname=n1,type=node,stype=net,stype-id=eth0 value=1 {at}\n");
    for at in 1..4 {
        let report = send(&store, &format!("{}load,hostname=n1 value=1 {}\n", line(at * 60), at * 60));
        assert_eq!((report.good, report.merged), (2, 1), "message {at}");
    }
    let report = send(&store, &(1..100).map(|at| line(at * 60)).collect::<String>());
    assert_eq!((report.good, report.merged), (99, 99));
}

#[test]
fn a_message_longer_than_what_is_read_at_a_time_is_taken_whole() {
    let store = store();
    let lines = |at: i64| -> String {
        (0..10_000).map(|id| format!("load,hostname=n1,type=core,type-id={id} value={id} {at}\n")).collect()
    };
    for at in [60, 120] {
        assert_eq!(send(&store, &lines(at)).good, 10_000);
    }
    for id in [0, 4095, 4096, 9999] {
        let value = f64::from(id);
        assert_eq!(all_points(&store, &[&format!("core{id}")], "load"), [(60, value), (120, value)]);
    }
}

#[test]
fn a_message_of_many_moments_or_of_a_host_that_somebody_holds_is_not_taken_at_once() {
    let store = store();
    let attempt = |lines: &str| {
        let (mut journal, mut scratch) = (Unlogged::default(), Scratch::default());
        store.try_ingest(lines.as_bytes(), &ANY_TIME, &mut journal, &mut scratch).map(|report| report.good)
    };
    let line = |at: i64| format!("load,hostname=n1 value=1 {at}\n");
    assert_eq!(attempt(&line(60)), Some(1));
    let host = store.host(CLUSTER, "n1").unwrap();
    let held = host.lock();
    assert_eq!(attempt(&line(120)), None);
    drop(held);
    assert_eq!(attempt(&(0..100).map(|n| line(n * 6000)).collect::<String>()), None);
    assert_eq!(all_points(&store, &[], "load"), [(60, 1.0)], "nothing was taken of either");
    assert_eq!(attempt(&line(120)), Some(1));
}

/// Lines as they come, and such as come instead: another end, no time, another time, a series that is new, no line.
const PIECES: [&str; 14] = [
    "load,hostname=n1,type=core,type-id=1 value=1.5 1000\n",
    "load,hostname=n1,type=core,type-id=2 value=2 1000\n",
    "load,hostname=n1,type=core,type-id=12 value=3i 1000\n",
    "load,hostname=n1,type=core,type-id=12 value=3.25 1060\n",
    "load,hostname=n2 value=4 1000\n",
    "load,hostname=n2 value=4 10000\n",
    "load,hostname=n2 value=5 1000\r\n",
    "load,hostname=n2 value=6\n",
    "load,hostname=n2 value=7 99\n",
    "load,hostname=n2 value=8 99999\n",
    "load,hostname=n1,type=core,type-id=1 value=x 1000\n",
    "load,hostname=n1,type=core,type-id=1 value=\"x\n\" 1000\n",
    "  load,hostname=n\\ 3 value=1 1000\n",
    "other,hostname=n1 value=1 1000\n",
];

proptest! {
    /// A line is the same whether it is what was expected, known, or seen for the first time.
    #[test]
    fn what_is_expected_never_changes_what_a_message_means(
        messages in prop::collection::vec(prop::collection::vec(0..PIECES.len(), 0..30), 1..6),
        cut in 0..60_usize,
    ) {
        let terms = Terms { now: 2000, oldest: 100, newest: 20_000, ..ANY_TIME };
        let (knowing, forgetful) = (store(), store());
        for message in &messages {
            let mut lines: String = message.iter().map(|piece| PIECES[*piece]).collect();
            lines.truncate(lines.len().saturating_sub(cut));
            for _ in 0..2 {
                let hosts = forgetful.all_hosts();
                forgetful.resolver().forget_hosts(&hosts.iter().map(|host| host.number()).collect(), 0);
                let want = support::send_under(&forgetful, &lines, &terms, &mut Unlogged::default());
                let got = support::send_under(&knowing, &lines, &terms, &mut Unlogged::default());
                prop_assert_eq!(&got, &Ingested { last: got.last, ..want }, "{}", lines);
            }
        }
        let range = support::range(Timestamp::MIN, Timestamp::MAX);
        for (host, path) in [("n2", &[][..]), ("n1", &["core1"]), ("n1", &["core2"]), ("n1", &["core12"]), ("n 3", &[])] {
            let all = |store: &Store| {
                let series = support::read(store, host, &support::exact(path), "load", &range).unwrap();
                series.map(|series| support::points(&series))
            };
            prop_assert_eq!(all(&knowing), all(&forgetful), "{} {:?}", host, path);
        }
    }
}
