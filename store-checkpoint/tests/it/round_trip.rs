//! What is written is read back, to the bit, in both formats and whatever the names and values.

use proptest::collection::vec;
use proptest::prelude::*;
use store_checkpoint::format::{bin1, json};
use store_checkpoint::{Dump, DumpFormat, Run};

/// Every f32 that a store may hold: any pattern that is not infinite, missing ones often.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        2 => Just(f32::NAN),
        2 => (-1000_i16..1000).prop_map(|n| f32::from(n) / 8.0),
        6 => any::<u32>().prop_map(f32::from_bits).prop_filter("finite or missing", |v| !v.is_infinite()),
    ]
}

fn name() -> impl Strategy<Value = Box<str>> {
    prop_oneof!["[a-z]{1,8}[0-9]{0,3}", "\\PC{0,12}", "[\"\\\\/\u{0}-\u{20}<>&\u{2028}é]{1,6}"]
        .prop_map(String::into_boxed_str)
}

fn dump() -> impl Strategy<Value = Dump> {
    let base = prop_oneof![-1_000_000_i64..1_000_000, 1_600_000_000_i64..1_800_000_000];
    let run = (vec(name(), 0..4), name(), base, 1_u32..100_000, vec(value(), 1..40)).prop_map(
        |(path, metric, base, frequency_s, values)| Run { path, metric, base, frequency_s, values },
    );
    (vec(run, 0..20), any::<i32>(), any::<i32>()).prop_map(|(mut runs, a, b)| {
        runs.sort_by(|a, b| (&a.path, &a.metric).cmp(&(&b.path, &b.metric)));
        runs.dedup_by(|a, b| (&a.path, &a.metric) == (&b.path, &b.metric));
        Dump::covering(a.min(b).into(), a.max(b).into(), runs)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(dump in dump()) {
        for format in [DumpFormat::Json, DumpFormat::Bin1] {
            let bytes = format.encode(&dump).unwrap();
            let decoded = format.decode(&bytes).unwrap();
            prop_assert_eq!(&decoded.dump, &dump);
            prop_assert_eq!((decoded.infinite, decoded.names_mended), (0, 0));
        }
    }

    #[test]
    fn equal_dumps_give_equal_bytes(dump in dump(), turn in any::<prop::sample::Index>()) {
        let mut turned = dump.clone();
        if !turned.runs.is_empty() {
            turned.runs.rotate_left(turn.index(dump.runs.len()));
        }
        for format in [DumpFormat::Json, DumpFormat::Bin1] {
            prop_assert_eq!(format.encode(&turned).unwrap(), format.encode(&dump).unwrap());
        }
    }

    #[test]
    fn the_range_is_found_without_the_values(dump in dump()) {
        let range = Some((dump.from, dump.to));
        let bin = bin1::encode(&dump).unwrap();
        prop_assert_eq!(bin1::peek_range(&bin[..bin1::HEADER_BYTES]), range);
        prop_assert_eq!(json::peek_range(&json::encode(&dump).unwrap()), range);
    }
}

#[test]
fn a_run_padded_with_missing_values_up_to_the_end_of_its_file_is_read() {
    // As the original pads: `(to - from) / frequency + 1` slots from the first value on.
    let mut values = vec![1.0, 2.0];
    values.resize((1100 - 1000) / 10 + 1, f32::NAN);
    let dump = Dump { from: 1000, to: 1100, runs: vec![crate::run(&[], "m", 1050, 10, &values)] };
    for format in [DumpFormat::Json, DumpFormat::Bin1] {
        assert_eq!(format.decode(&format.encode(&dump).unwrap()).unwrap().dump, dump);
    }
}

#[test]
fn a_long_run_and_a_long_name_survive() {
    let values: Vec<f32> = (0..200_000_u32).map(|n| f32::from_bits(n * 7919)).collect();
    let long = "x".repeat(65_535);
    let dump = Dump::covering(0, 200_000, vec![crate::run(&["a", &long], "m", 0, 1, &values)]);
    for format in [DumpFormat::Json, DumpFormat::Bin1] {
        assert_eq!(format.decode(&format.encode(&dump).unwrap()).unwrap().dump, dump);
    }
}
