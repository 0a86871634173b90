//! The horizon by itself: what moves it, what does not, and what it lets in.

use super::*;
use store_disk::ManualClock;

const NOW: Timestamp = 1_700_000_000;
const DAY: i64 = 86_400;
const RETENTION: i64 = 2 * DAY;
const MAX_FUTURE: i64 = 600;

struct Site {
    clock: Arc<ManualClock>,
    horizon: Horizon,
    hosts: Vec<Witness>,
}

impl Site {
    fn new(hosts: usize, found: FoundTime) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let horizon = Horizon {
            clock: Arc::<ManualClock>::clone(&clock),
            retention_s: RETENTION,
            max_future_s: MAX_FUTURE,
            vouched: AtomicI64::new(UNKNOWN),
            walk: Mutex::default(),
        };
        horizon.begin(found);
        Self { clock, horizon, hosts: vec![Witness::default(); hosts] }
    }

    fn look(&self) {
        let mut witnesses = Witnesses::default();
        self.hosts.iter().for_each(|host| witnesses.add(host));
        self.horizon.look(&witnesses);
    }

    /// Every `step` seconds these hosts say what time it truly is, for so long.
    fn live(&mut self, hosts: &[usize], truth: &mut Timestamp, seconds: i64, step: i64) {
        for _ in 0..seconds / step {
            *truth += step;
            self.clock.advance(step);
            hosts.iter().for_each(|host| self.hosts[*host].vouch(*truth));
            self.look();
        }
    }

    fn vouched(&self) -> Timestamp {
        self.horizon.vouched.load(Ordering::Relaxed)
    }

    fn keep_from(&self) -> Timestamp {
        self.horizon.keep_from("c", "h")
    }
}

/// Every way in which a clock was seen to be wrong, in seconds.
fn jumps() -> [i64; 8] {
    [-3600, 3600, DAY, 3 * DAY, -NOW + 100, 2_147_483_640 - NOW, 4_294_967_290 - NOW, 100 * 365 * DAY]
}

#[test]
fn before_a_start_knows_anything_nothing_is_too_old() {
    let site = Site::new(0, FoundTime::Nothing);
    site.horizon.vouched.store(UNKNOWN, Ordering::Relaxed);
    site.look();
    assert_eq!((site.keep_from(), site.horizon.accept_to()), (Timestamp::MIN, NOW + MAX_FUTURE));
}

#[test]
fn an_empty_store_goes_by_the_clock() {
    let site = Site::new(0, FoundTime::Nothing);
    assert_eq!((site.keep_from(), site.horizon.accept_to()), (NOW - RETENTION, NOW + MAX_FUTURE));
    assert_eq!(site.horizon.vouched(), None);
    site.clock.advance(5 * DAY);
    site.look();
    assert_eq!(site.keep_from(), NOW + 5 * DAY - RETENTION);
}

#[test]
fn neither_one_wrong_sample_nor_two_wrong_hosts_nor_silent_ones_move_it() {
    for wrong in jumps() {
        let mut site = Site::new(10, FoundTime::Nothing);
        let mut truth = NOW;
        // Four of ten speak, two of them nonsense.
        site.live(&[0, 1, 2], &mut truth, 60, 10);
        site.hosts[0].vouch(truth + wrong);
        site.hosts[3].vouch(truth + wrong + 5);
        site.clock.set(truth + wrong);
        site.look();
        site.live(&[1, 2], &mut truth, 600, 10);
        assert!((truth - 10..=truth).contains(&site.vouched()), "{wrong}: {}", site.vouched() - truth);
        assert!(site.keep_from() <= truth - RETENTION, "{wrong}");
        site.clock.set(truth);
        assert!((truth - RETENTION - 10..=truth - RETENTION).contains(&site.keep_from()), "{wrong}");
    }
}

#[test]
fn of_fewer_hosts_than_three_the_second_newest_word_counts() {
    let mut site = Site::new(1, FoundTime::Nothing);
    site.hosts[0].vouch(NOW - 50);
    site.look();
    assert_eq!(site.vouched(), NOW - 50, "the only one");
    site.hosts[0].vouch(NOW + 3 * DAY);
    site.look();
    assert_eq!(site.vouched(), NOW - 50);
    site.hosts[0].vouch(NOW - 20);
    site.look();
    assert_eq!(site.vouched(), NOW - 20);
    let mut site = Site::new(2, FoundTime::Nothing);
    site.hosts[0].vouch(NOW - 50);
    site.hosts[1].vouch(NOW + 3 * DAY);
    site.look();
    assert_eq!(site.vouched(), NOW - 50, "the other host, rather than one word of the newest");
}

#[test]
fn what_our_clock_stamped_moves_it_no_faster_than_steady_time() {
    for jump in jumps() {
        let mut site = Site::new(3, FoundTime::Nothing);
        let mut truth = NOW;
        site.live(&[0, 1, 2], &mut truth, 60, 10);
        site.clock.set(truth + jump);
        // An hour of lines without a time, and nobody else.
        for at in 1..=360 {
            site.clock.advance(10);
            site.hosts[0].note([truth + jump + at * 10].into_iter(), Some(truth + jump + at * 10));
            site.look();
        }
        assert!(site.vouched() <= truth + 3600, "{jump}");
        assert!(site.keep_from() <= truth + 3600 - RETENTION, "{jump}");
    }
}

#[test]
fn a_fleet_that_sends_no_times_ages_by_the_clock_and_not_by_its_jumps() {
    let mut site = Site::new(5, FoundTime::Nothing);
    let stamp = |site: &mut Site, seconds: i64| {
        for _ in 0..seconds / 10 {
            site.clock.advance(10);
            let now = site.horizon.now();
            site.hosts.iter_mut().for_each(|host| host.note([now].into_iter(), Some(now)));
            site.look();
        }
    };
    stamp(&mut site, DAY);
    assert_eq!(site.keep_from(), NOW + DAY - RETENTION);
    site.clock.set(NOW + 30 * DAY);
    stamp(&mut site, 3600);
    assert_eq!(site.keep_from(), NOW + DAY + 3600 - RETENTION);
    // Such samples are believed in the end: all that came before them is a retention old by now.
    stamp(&mut site, RETENTION);
    assert_eq!(site.keep_from(), NOW + 30 * DAY + 3600);
}

#[test]
fn two_hosts_that_are_left_of_many_move_it_on() {
    let mut site = Site::new(100, FoundTime::Nothing);
    let mut truth = NOW;
    let all: Vec<usize> = (0..100).collect();
    site.live(&all, &mut truth, 60, 10);
    site.live(&[7, 8], &mut truth, 10 * DAY, 600);
    assert!((truth - 600..=truth).contains(&site.vouched()), "{}", site.vouched() - truth);
}

#[test]
fn one_wrong_host_is_not_believed_however_long_it_is_wrong() {
    let mut site = Site::new(4, FoundTime::Nothing);
    let mut truth = NOW;
    site.clock.set(NOW + 10 * DAY);
    for _ in 0..3 * RETENTION / 600 {
        site.hosts[3].vouch(site.horizon.now());
        site.live(&[0, 1, 2], &mut truth, 600, 600);
    }
    assert!(site.vouched() <= truth, "{}", site.vouched() - truth);
}

#[test]
fn a_silent_store_keeps_what_it_has() {
    let mut site = Site::new(3, FoundTime::Nothing);
    let mut truth = NOW;
    site.live(&[0, 1, 2], &mut truth, 60, 10);
    site.live(&[], &mut truth, 30 * DAY, 600);
    assert_eq!(site.keep_from(), NOW + 60 - RETENTION);
    // The first three that speak again move it at once.
    site.live(&[0, 1, 2], &mut truth, 10, 10);
    assert_eq!(site.keep_from(), truth - RETENTION);
}

#[test]
fn live_samples_are_taken_whichever_way_the_clock_is_wrong() {
    for jump in jumps() {
        for found in [FoundTime::Said(NOW - 60), FoundTime::Rows(NOW - 60)] {
            for hosts in [1, 2, 3, 50] {
                let mut site = Site::new(hosts, found);
                site.clock.set(NOW + jump);
                site.look();
                let mut truth = NOW;
                for _ in 0..10 {
                    assert!(site.keep_from() <= truth - DAY && truth <= site.horizon.accept_to(), "{jump}");
                    site.live(&[0, hosts / 2, hosts - 1], &mut truth, 10, 10);
                }
            }
        }
    }
}

#[test]
fn with_a_right_clock_samples_far_ahead_are_refused_whatever_hosts_say_within_the_limit() {
    let mut site = Site::new(3, FoundTime::Said(NOW - 30));
    assert_eq!(site.horizon.accept_to(), NOW + MAX_FUTURE);
    site.hosts.iter_mut().for_each(|host| host.vouch(NOW + MAX_FUTURE));
    site.look();
    assert_eq!(site.horizon.accept_to(), NOW + 2 * MAX_FUTURE);
    assert_eq!(site.keep_from(), NOW - RETENTION, "and age counts from the clock");
}

#[test]
fn what_a_start_found_stands_until_three_hosts_say_otherwise() {
    // Three wrong hosts had vouched for it when the clock was wrong too.
    let mut site = Site::new(20, FoundTime::Said(NOW + 900 * DAY));
    assert_eq!(site.keep_from(), NOW - RETENTION);
    site.hosts[0].vouch(NOW);
    site.hosts[1].vouch(NOW);
    site.look();
    assert_eq!(site.vouched(), NOW + 900 * DAY);
    site.hosts[2].vouch(NOW);
    site.look();
    assert_eq!((site.vouched(), site.horizon.accept_to()), (NOW, NOW + MAX_FUTURE));
}

#[test]
fn quarters_and_parts_are_of_the_retention() {
    let site = Site::new(0, FoundTime::Nothing);
    let quarters = [4, 3, 2, 1].map(|quarters| site.horizon.older_than_quarters("c", "h", quarters) - NOW);
    assert_eq!(quarters, [-2 * DAY, -DAY - DAY / 2, -DAY, -DAY / 2]);
    assert_eq!(site.horizon.part_s(8), RETENTION / 8);
}
