//! The resolver against a hash map, and its hash against its formula.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use proptest::prelude::*;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

/// Series of a store that has many: what is remembered is bounded by the resolver's own bound then.
const MANY: usize = 1 << 24;

/// The prefix of series `number` of a fleet.
fn prefix(number: u32) -> String {
    let (host, thread) = (number / 64, number % 64);
    format!("cpu_user,cluster=alpha,hostname=node{host:04},type=hwthread,type-id={thread}")
}

fn series(number: u32) -> Target {
    Target::Series {
        host: number / 64,
        column: number % 64,
        prefix_bytes: prefix(number).len() as u16,
        merges: number.is_multiple_of(7),
    }
}

/// A resolver that knows the series 0..`count`, and their hashes.
fn fleet(count: u32, entries_max: usize) -> (Resolver, Vec<u64>) {
    let resolver = Resolver::new(entries_max);
    let hasher = resolver.hasher(b"");
    let hashes: Vec<u64> = (0..count).map(|number| hasher.hash(prefix(number).as_bytes())).collect();
    let learned: Vec<_> = hashes.iter().zip(0..).map(|(hash, number)| (*hash, series(number))).collect();
    resolver.insert_many(&learned, MANY);
    (resolver, hashes)
}

#[test]
fn what_was_never_inserted_is_not_known() {
    let resolver = Resolver::new(10);
    assert!(resolver.is_empty());
    assert_eq!(resolver.reader().get(resolver.hash(b"c", b"m,hostname=h")), None);
    resolver.insert_many(&[], MANY);
    assert!(resolver.is_empty());
}

#[test]
fn a_prefix_is_not_confused_with_one_that_it_begins() {
    let resolver = Resolver::new(100);
    let hasher = resolver.hasher(b"c");
    let names = [
        "m,type-id=1",
        "m,type-id=12",
        "m,type-id=123",
        "m,type-id=",
        "m",
        "",
        "m,type-id=1\0",
        "m,type-id=1 ",
    ];
    let learned: Vec<_> = names
        .iter()
        .zip(0..)
        .map(|(name, column)| {
            (hasher.hash(name.as_bytes()), Target::Series { host: 1, column, prefix_bytes: 0, merges: false })
        })
        .collect();
    resolver.insert_many(&learned, MANY);
    assert_eq!(resolver.len(), (names.len(), 0));
    for (hash, target) in learned {
        assert_eq!(resolver.reader().get(hash), Some(target));
    }
}

#[test]
fn one_prefix_of_two_default_clusters_is_two_series() {
    let resolver = Resolver::new(100);
    let hashes =
        [&b"alpha"[..], b"beta", b"", b"alpha\0"].map(|cluster| resolver.hash(cluster, b"m,hostname=h"));
    assert_eq!(HashSet::from(hashes).len(), 4);
    // The border between cluster and prefix counts.
    assert_ne!(resolver.hash(b"a", b"bc"), resolver.hash(b"ab", b"c"));
    resolver.insert_many(&[(hashes[0], series(0)), (hashes[1], series(1))], MANY);
    let mut reader = resolver.reader();
    assert_eq!(hashes.map(|hash| reader.get(hash)), [Some(series(0)), Some(series(1)), None, None]);
}

#[test]
fn negative_answers_are_remembered_and_replaced_and_replace() {
    let resolver = Resolver::new(100);
    let [a, b, c] = [b"a", b"b", b"c"].map(|name| resolver.hash(b"", name));
    let get = |hash| resolver.reader().get(hash);
    resolver.insert_many(&[(a, Target::Unknown), (b, Target::Refused(0)), (c, Target::Refused(255))], MANY);
    assert_eq!(
        [a, b, c].map(get),
        [Some(Target::Unknown), Some(Target::Refused(0)), Some(Target::Refused(255))]
    );
    assert_eq!(resolver.len(), (0, 3));
    resolver.insert_many(&[(a, series(5)), (b, Target::Refused(1))], MANY);
    assert_eq!([a, b, c].map(get), [Some(series(5)), Some(Target::Refused(1)), Some(Target::Refused(255))]);
    assert_eq!(resolver.len(), (1, 2));
    resolver
        .insert_many(&[(a, Target::Unknown), (a, series(6)), (a, Target::Refused(9)), (c, series(7))], MANY);
    assert_eq!([a, b, c].map(get), [Some(Target::Refused(9)), Some(Target::Refused(1)), Some(series(7))]);
    assert_eq!(resolver.len(), (1, 2));
}

#[test]
fn a_replaced_answer_is_not_found_through_an_old_guess_either() {
    let resolver = Resolver::new(100);
    let [a, b] = [b"a", b"b"].map(|name| resolver.hash(b"", name));
    resolver.insert_many(&[(a, series(1)), (b, Target::Unknown)], MANY);
    let pass = || {
        let mut reader = resolver.reader();
        [reader.get(a), reader.get(b)]
    };
    assert_eq!(pass(), [Some(series(1)), Some(Target::Unknown)]);
    assert_eq!(pass(), [Some(series(1)), Some(Target::Unknown)]);
    resolver.insert_many(&[(b, series(2))], MANY);
    assert_eq!(pass(), [Some(series(1)), Some(series(2))]);
}

#[test]
fn a_batch_as_usual_is_guessed_from_its_second_line_on() {
    let (resolver, hashes) = fleet(1000, 10_000);
    let unknown: Vec<u64> = (0..500).map(|n| resolver.hash(b"", format!("no_such_{n}").as_bytes())).collect();
    resolver.insert_many(&unknown.iter().map(|hash| (*hash, Target::Unknown)).collect::<Vec<_>>(), MANY);
    // Lines of unknown metrics stand among the others, as they do in what collectors send.
    let mut batch = hashes;
    for (place, hash) in unknown.into_iter().enumerate() {
        batch.insert(place * 3, hash);
    }
    for pass in 0..3 {
        let mut reader = resolver.reader();
        for hash in &batch {
            assert!(reader.get(*hash).is_some());
        }
        let found = reader.found();
        assert_eq!((found.predicted + found.searched, found.missing), (1500, 0));
        assert!(pass == 0 || found.searched == 1, "{found:?} in pass {pass}");
    }
}

#[test]
fn the_length_of_the_prefix_that_comes_next_is_known_beforehand() {
    let (resolver, hashes) = fleet(300, 1000);
    let mut reader = resolver.reader();
    assert_eq!(reader.expected_bytes(), 0, "nothing came before");
    assert_eq!(reader.get(hashes[0]), Some(series(0)));
    for number in 1..300 {
        assert_eq!(reader.expected_bytes(), prefix(number).len(), "series {number}");
        assert_eq!(reader.expect(hashes[0]), None, "another one is not what was expected");
        assert_eq!(reader.expect(hashes[number as usize]), Some(series(number)));
    }
    assert_eq!(reader.found().predicted, 299);
}

#[test]
fn a_column_or_a_length_that_does_not_fit_is_not_remembered() {
    let resolver = Resolver::new(10);
    let hash = resolver.hash(b"", b"m");
    let target = |column, prefix_bytes| Target::Series { host: 1, column, prefix_bytes, merges: true };
    resolver.insert_many(&[(hash, target(1 << 18, 1))], MANY);
    assert_eq!(resolver.reader().get(hash), None);
    resolver.insert_many(&[(hash, target((1 << 18) - 1, u16::MAX))], MANY);
    assert_eq!(resolver.reader().get(hash), Some(target((1 << 18) - 1, 0)));
    resolver.insert_many(&[(hash, target(0, PREFIX_BYTES_MAX as u16))], MANY);
    assert_eq!(resolver.reader().get(hash), Some(target(0, PREFIX_BYTES_MAX as u16)));
}

#[test]
fn lines_that_lack_cost_a_search_each_and_no_more() {
    let (resolver, mut hashes) = fleet(1000, 10_000);
    let pass = |hashes: &[u64]| {
        let mut reader = resolver.reader();
        hashes.iter().for_each(|hash| assert!(reader.get(*hash).is_some()));
        reader.found().searched
    };
    pass(&hashes);
    assert_eq!(pass(&hashes), 1);
    let lacking = hashes.iter().copied().enumerate().filter(|(n, _)| n % 10 != 5).map(|(_, hash)| hash);
    let lacking = lacking.collect::<Vec<_>>();
    assert_eq!(pass(&lacking), 101);
    assert_eq!(pass(&lacking), 1);
    // And back, and in an order of its own.
    assert_eq!(pass(&hashes), 101);
    hashes.shuffle(&mut StdRng::seed_from_u64(1));
    assert!(pass(&hashes) > 900);
    assert_eq!(pass(&hashes), 1);
}

#[test]
fn a_line_that_is_not_known_does_not_break_the_chain() {
    let (resolver, hashes) = fleet(100, 1000);
    let unknown = resolver.hash(b"", b"never inserted");
    let mut reader = resolver.reader();
    for hash in hashes {
        assert_eq!(reader.get(unknown), None);
        assert!(reader.get(hash).is_some());
    }
    assert_eq!(reader.found(), Found { predicted: 99, searched: 1, missing: 100 });
}

#[test]
fn hosts_that_have_gone_are_forgotten_and_no_others() {
    // More than one lock's worth of places.
    let count = 3 * PLACES_AT_A_TIME as u32;
    let (resolver, hashes) = fleet(count, 1 << 20);
    let unknown = resolver.hash(b"", b"no_such_metric");
    resolver.insert_many(&[(unknown, Target::Unknown)], MANY);
    let full = resolver.bytes();
    // All hosts but every tenth.
    let gone: HashSet<u32> = (0..count / 64).filter(|host| host % 10 != 0).collect();
    resolver.forget_hosts(&gone, MANY);
    assert!(resolver.bytes() < full / 4, "{} of {full} bytes are left", resolver.bytes());
    for pass in 0..2 {
        let mut reader = resolver.reader();
        for (hash, number) in hashes.iter().zip(0..) {
            let is_gone = gone.contains(&(number / 64));
            assert_eq!(
                reader.get(*hash),
                (!is_gone).then(|| series(number)),
                "series {number} in pass {pass}"
            );
        }
        assert_eq!(reader.get(unknown), Some(Target::Unknown));
        // Those that are left still follow each other.
        assert!(reader.found().searched <= 3, "{:?} in pass {pass}", reader.found());
    }
    // A batch that began before they went leaves useless entries, which go the next time.
    resolver.insert_many(&[(hashes[70], series(70))], MANY);
    assert_eq!(resolver.reader().get(hashes[70]), Some(series(70)));
    resolver.forget_hosts(&gone, MANY);
    assert_eq!(resolver.reader().get(hashes[70]), None);
}

#[test]
fn what_is_remembered_is_bounded_by_the_series_that_there_are() {
    let resolver = Resolver::new(1 << 30);
    let hasher = resolver.hasher(b"");
    let hash = |n: u32| hasher.hash(format!("cpu_load,hostname=n1,jobid={n}").as_bytes());
    let entries = || resolver.len().0 + resolver.len().1;
    for (round, many) in [1000, 100_000].into_iter().enumerate() {
        for from in (0..400_000).step_by(50_000) {
            let learned = |n: u32| {
                (
                    hash(n + (round as u32) * 400_000),
                    if n.is_multiple_of(3) { Target::Unknown } else { series(7) },
                )
            };
            resolver.insert_many(&(from..from + 50_000).map(learned).collect::<Vec<_>>(), many);
            assert!(entries() <= 2 * many + ENTRIES_FREE, "{} entries for {many} series", entries());
        }
    }
    assert!(entries() > 200_000, "{} entries", entries());
    let full = resolver.bytes();
    // Series have gone, though not this host.
    resolver.forget_hosts(&HashSet::from([4711]), 10);
    assert!(entries() <= 20 + ENTRIES_FREE && entries() > 20, "{} entries", entries());
    assert!(resolver.bytes() < full / 2, "{} of {full} bytes are left", resolver.bytes());
}

#[test]
fn ever_new_prefixes_displace_each_other_and_not_what_is_in_use() {
    let (resolver, hashes) = fleet(1000, 2000);
    let hasher = resolver.hasher(b"");
    let bytes_max = 2000 * 20 * 5 / 4 + 4096 * 5 + 64 + PREFIX_BYTES_MAX;
    for round in 0..100 {
        let junk = |n: u32| hasher.hash(format!("junk,tag={round}-{n}").as_bytes());
        resolver.insert_many(&(0..500).map(|n| (junk(n), series(n))).collect::<Vec<_>>(), MANY);
        resolver.insert_many(&(500..1000).map(|n| (junk(n), Target::Unknown)).collect::<Vec<_>>(), MANY);
        let mut reader = resolver.reader();
        let known = hashes.iter().zip(0..).filter(|(hash, n)| reader.get(**hash) == Some(series(*n))).count();
        assert_eq!(known, 1000, "in round {round}");
        drop(reader);
        let (series, negative) = resolver.len();
        assert!(series <= 2000 && negative <= 1024);
        assert!(resolver.bytes() < 2 * bytes_max, "{} bytes", resolver.bytes());
    }
    assert_eq!(resolver.len(), (2000, 1024));
}

#[test]
fn what_is_no_longer_asked_for_makes_room() {
    let (resolver, hashes) = fleet(3000, 2000);
    let (old, new) = hashes.split_at(1500);
    let mut missing = Vec::new();
    for round in 0..8 {
        let half = if round < 4 { old } else { new };
        let mut reader = resolver.reader();
        let learned: Vec<_> =
            half.iter().filter(|hash| reader.get(**hash).is_none()).map(|hash| (*hash, series(0))).collect();
        drop(reader);
        resolver.insert_many(&learned, MANY);
        missing.push(learned.len());
    }
    assert_eq!((missing[3], missing[7]), (0, 0), "{missing:?}");
    assert!(missing[4] > 0, "nothing was displaced");
}

#[test]
fn hashes_are_compared_whole() {
    let resolver = Resolver::new(100);
    let (first, second) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
    resolver.insert_many(&[(first, series(1)), (second, series(2))], MANY);
    for bit in 0..64 {
        let mut reader = resolver.reader();
        assert_eq!(reader.get(first ^ 1 << bit), None);
        assert_eq!(reader.get(first), Some(series(1)));
        // The second is the guess now.
        assert_eq!(reader.get(second ^ 1 << bit), None);
        assert_eq!(reader.get(second), Some(series(2)));
        assert_eq!(reader.found(), Found { predicted: 1, searched: 1, missing: 2 });
    }
}

#[test]
fn a_series_costs_at_most_36_bytes() {
    for count in [10_000_u32, 58_000, 200_000] {
        let (resolver, _) = fleet(count, 1 << 20);
        let each = (resolver.bytes() - PREFIX_BYTES_MAX) as f64 / f64::from(count);
        assert!((24.0..36.5).contains(&each), "{each} bytes at {count}");
    }
}

#[test]
fn readers_and_writers_at_once_never_get_another_series() {
    let (resolver, hashes) = fleet(2000, 1500);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (resolver, hashes) = (&resolver, &hashes);
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(thread);
                for _ in 0..200 {
                    let from = rng.random_range(0..1900);
                    let mut learned = Vec::new();
                    let mut reader = resolver.reader();
                    for (hash, number) in hashes.iter().zip(0..).skip(from).take(100) {
                        match reader.get(*hash) {
                            Some(target) => assert_eq!(target, series(number)),
                            None => learned.push((*hash, series(number))),
                        }
                    }
                    drop(reader);
                    resolver.insert_many(&learned, MANY);
                }
            });
        }
    });
    assert_eq!(resolver.len(), (1500, 0));
}

#[test]
fn two_resolvers_do_not_share_their_secret() {
    let [a, b] = [Resolver::new(1), Resolver::new(1)];
    assert_ne!(a.hash(b"c", b"m"), b.hash(b"c", b"m"));
    assert_ne!(a.hash(b"c", &[b'm'; 5000]), b.hash(b"c", &[b'm'; 5000]));
    assert!(!format!("{a:?}{:?}{:?}", a.hasher(b""), a.reader()).contains("keys"));
}

/// Words that are no secret, for the formula.
fn known_words() -> impl Iterator<Item = u64> {
    let mut rng = StdRng::seed_from_u64(3);
    std::iter::repeat_with(move || rng.random())
}

#[test]
fn the_hash_is_what_its_formula_says() {
    let keys = Keys::from_words(known_words());
    let words: Vec<u64> = known_words().take(256 + 10).collect();
    let mix = |n: usize| u128::from(words[256 + 2 * n]) << 64 | u128::from(words[257 + 2 * n]);
    let bytes: Vec<u8> = (0..PREFIX_BYTES_MAX).map(|n| (n * 167 + n / 256) as u8).collect();
    for length in (0..200).chain([1000, 2031, 2032, 2033, 2047, 2048]) {
        let message = &bytes[..length];
        let word = |at: usize| u64::from_le_bytes(message[at..at + 8].try_into().unwrap());
        let mut pairs: Vec<[u64; 2]> = (0..length / 16).map(|n| [word(16 * n), word(16 * n + 8)]).collect();
        match length {
            _ if length % 16 == 0 => {}
            16.. => pairs.push([word(length - 16), word(length - 8)]),
            8.. => pairs.push([word(0), word(length - 8)]),
            _ => pairs.push([message.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0]),
        }
        let mut sum = 0_u128;
        for (pair, key) in pairs.iter().zip(words.chunks(2)) {
            let [a, b] = [pair[0].wrapping_add(key[0]), pair[1].wrapping_add(key[1])];
            sum = sum.wrapping_add(u128::from(a) * u128::from(b));
        }
        let cluster = keys.slow[0].hash_one(&b"c"[..]);
        let inputs = [sum as u64, (sum >> 64) as u64, length as u64, cluster];
        let terms = inputs.iter().zip(1..).map(|(input, n)| mix(n).wrapping_mul(u128::from(*input)));
        let want = terms.fold(mix(0), u128::wrapping_add) >> 64;
        assert_eq!(u128::from(Hasher::new(&keys, b"c").hash(message)), want, "{length} bytes");
    }
}

#[test]
fn every_byte_and_the_length_count_also_beyond_the_keys() {
    let resolver = Resolver::new(1);
    let hasher = resolver.hasher(b"c");
    let mut hashes = HashSet::new();
    for length in (0..70).chain([2047, 2048, 2049, 2100]) {
        let mut message = vec![0_u8; length];
        assert!(hashes.insert(hasher.hash(&message)), "{length} zeros");
        for at in 0..length {
            for bit in [1, 0x80] {
                message[at] ^= bit;
                assert!(hashes.insert(hasher.hash(&message)), "bit {bit} of byte {at} of {length}");
                message[at] ^= bit;
            }
        }
    }
}

#[test]
fn a_fleet_has_no_two_equal_hashes_and_its_bits_are_even() {
    // Keys that stay the same: the proof is about pairs, so with one key in some thousands a bit leans by more than this.
    let resolver = Resolver::with_keys(Keys::from_words(known_words()), 1);
    let hasher = resolver.hasher(b"");
    let hashes: Vec<u64> = (0..300_000).map(|number| hasher.hash(prefix(number).as_bytes())).collect();
    let mut ones = [0_u32; 64];
    for hash in &hashes {
        (0..64).for_each(|bit| ones[bit] += (hash >> bit & 1) as u32);
    }
    assert_eq!(hashes.into_iter().collect::<HashSet<_>>().len(), 300_000);
    // Seven standard deviations.
    assert!(ones.iter().all(|ones| ones.abs_diff(150_000) < 7 * 274), "{ones:?}");
}

/// What may happen to a resolver.
#[derive(Debug, Clone)]
enum Step {
    /// Look these series up; those in the second list are then inserted, with another column if asked for.
    Batch(Vec<u32>, Vec<(u32, Kind)>),
    /// The hosts of these series go.
    Gone(Vec<u32>),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Series(u32),
    Unknown,
    Refused(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        6 => (0..3_u32).prop_map(Kind::Series),
        1 => Just(Kind::Unknown),
        1 => any::<u8>().prop_map(Kind::Refused),
    ];
    // Runs in order with lines left out and lines twice, and whole permutations.
    let run =
        (0..60_u32, 0..60_u32, proptest::collection::vec(0..60_u32, 0..4)).prop_map(|(from, to, odd)| {
            let mut run: Vec<u32> = (from..to).filter(|n| !odd.contains(n)).collect();
            run.extend(odd);
            run
        });
    let permuted = Just((0..60).collect::<Vec<u32>>()).prop_shuffle();
    let batch = (prop_oneof![run, permuted], proptest::collection::vec((0..60_u32, kind), 0..40));
    let step = prop_oneof![20 => batch.prop_map(|(a, b)| Step::Batch(a, b)), 1 => proptest::collection::vec(0..60_u32, 0..50).prop_map(Step::Gone)];
    proptest::collection::vec(step, 0..30)
}

fn check_against_map(steps: Vec<Step>, entries_max: usize, forgets: bool) -> Result<(), TestCaseError> {
    let resolver = Resolver::new(entries_max);
    let mut model: HashMap<u32, Target> = HashMap::new();
    for step in steps {
        let hasher = resolver.hasher(b"c");
        match step {
            Step::Batch(asked, learned) => {
                let mut reader = resolver.reader();
                for number in asked {
                    let found = reader.get(hasher.hash(prefix(number).as_bytes()));
                    if !(forgets && found.is_none()) {
                        prop_assert_eq!(found, model.get(&number).copied(), "series {}", number);
                    }
                }
                drop(reader);
                let target = |number, kind| match kind {
                    Kind::Series(column) => {
                        Target::Series { host: number, column, prefix_bytes: 9, merges: false }
                    }
                    Kind::Unknown => Target::Unknown,
                    Kind::Refused(reason) => Target::Refused(reason),
                };
                let learned: Vec<_> = learned.into_iter().map(|(n, kind)| (n, target(n, kind))).collect();
                let hash = |number: u32| hasher.hash(prefix(number).as_bytes());
                resolver.insert_many(
                    &learned.iter().map(|(n, target)| (hash(*n), *target)).collect::<Vec<_>>(),
                    MANY,
                );
                model.extend(learned);
            }
            Step::Gone(hosts) => {
                let gone: HashSet<u32> = hosts.into_iter().collect();
                resolver.forget_hosts(&gone, MANY);
                model.retain(
                    |_, target| !matches!(target, Target::Series { host, .. } if gone.contains(host)),
                );
            }
        }
        let (series, _) = resolver.len();
        prop_assert!(series <= entries_max);
        if !forgets {
            let series_known =
                model.values().filter(|target| matches!(target, Target::Series { .. })).count();
            prop_assert_eq!(resolver.len(), (series_known, model.len() - series_known));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_resolver_is_a_map_whatever_the_order_of_lines(steps in steps()) {
        check_against_map(steps, 1000, false)?;
    }

    #[test]
    fn a_resolver_that_is_too_small_forgets_and_never_errs(steps in steps(), entries_max in 1..40_usize) {
        check_against_map(steps, entries_max, true)?;
    }
}
