//! Files that the original wrote are read, and what we write in their place differs in nothing but values that
//! the original had cut to one decimal, and the order of its maps.

use serde_json::Value;
use store_checkpoint::format::{bin1, json};
use store_checkpoint::{Damage, Dump, FormatError};

use crate::golden;

/// Hosts of which there is a dump in both formats.
const PAIRS: [&str; 8] =
    ["alpha-a04", "alpha-a07", "alpha-a08", "alpha-a10", "alpha-a11", "alpha-a12", "beta-b02", "delta-a08"];

fn pair(host: &str) -> (Dump, Dump) {
    let json = json::decode(&golden(&format!("json/{host}.json"))).unwrap();
    let bin = bin1::decode(&golden(&format!("bin/{host}.bin"))).unwrap();
    assert_eq!((json.infinite, json.names_mended), (0, 0), "{host}");
    assert_eq!((bin.infinite, bin.names_mended), (0, 0), "{host}");
    (json.dump, bin.dump)
}

#[test]
fn both_formats_of_a_host_say_the_same_but_for_the_one_decimal() {
    let mut values = 0;
    for host in PAIRS {
        let (json, bin) = pair(host);
        assert_eq!((json.from, json.to), (bin.from, bin.to), "{host}");
        assert_eq!(json.runs.len(), bin.runs.len(), "{host}");
        for (a, b) in json.runs.iter().zip(&bin.runs) {
            assert_eq!(
                (&a.path, &a.metric, a.base, a.frequency_s),
                (&b.path, &b.metric, b.base, b.frequency_s)
            );
            assert_eq!(a.values.len(), b.values.len(), "{host} {}", a.metric);
            for (x, y) in a.values.iter().zip(&b.values) {
                let near = (x - y).abs() <= 0.0501 + y.abs() * 1e-6;
                assert!(near || x.is_nan() && y.is_nan(), "{host} {}: {x} and {y}", a.metric);
                values += 1;
            }
        }
    }
    assert_eq!(values, 630, "values compared");
}

#[test]
fn a_known_file_has_the_values_that_were_sent() {
    let (json, bin) = pair("alpha-a10");
    assert_eq!((bin.from, bin.to), (1_699_999_900, 1_700_014_400));
    let expected = crate::run(&[], "cpu_load", 1_700_000_000, 60, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    assert_eq!(bin.runs, [expected]);
    assert_eq!(json, bin);
}

#[test]
fn decoding_encoding_and_decoding_again_changes_nothing() {
    for host in PAIRS {
        let (from_json, from_bin) = pair(host);
        for dump in [from_json, from_bin] {
            assert_eq!(json::decode(&json::encode(&dump).unwrap()).unwrap().dump, dump, "{host}");
            assert_eq!(bin1::decode(&bin1::encode(&dump).unwrap()).unwrap().dump, dump, "{host}");
        }
    }
}

#[test]
fn our_json_is_the_originals_byte_for_byte_where_numbers_print_alike() {
    for host in ["alpha-a04", "alpha-a08", "alpha-a10", "alpha-a11", "beta-b02", "delta-a08"] {
        let theirs = golden(&format!("json/{host}.json"));
        let ours = json::encode(&json::decode(&theirs).unwrap().dump).unwrap();
        assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(theirs).unwrap(), "{host}");
    }
}

#[test]
fn our_json_has_the_originals_structure_everywhere() {
    for host in PAIRS {
        let theirs = golden(&format!("json/{host}.json"));
        let ours = json::encode(&json::decode(&theirs).unwrap().dump).unwrap();
        let mut values: [Value; 2] = [&theirs, &ours].map(|text| serde_json::from_slice(text).unwrap());
        values.iter_mut().for_each(numbers_to_f32);
        let [theirs, ours] = values;
        assert_eq!(ours, theirs, "{host}");
    }
}

/// Both print an f32, the original with one decimal: equal as f32 is equal.
fn numbers_to_f32(value: &mut Value) {
    match value {
        Value::Number(n) if n.is_f64() => {
            let text = n.to_string();
            *value = Value::from(text.parse::<f32>().unwrap());
        }
        Value::Array(items) => items.iter_mut().for_each(numbers_to_f32),
        Value::Object(items) => items.values_mut().for_each(numbers_to_f32),
        _ => {}
    }
}

#[test]
fn our_version_1_is_the_originals_byte_for_byte_where_its_maps_have_one_order() {
    for host in ["alpha-a07", "alpha-a10", "beta-b02", "delta-a08"] {
        let theirs = golden(&format!("bin/{host}.bin"));
        assert_eq!(bin1::encode(&bin1::decode(&theirs).unwrap().dump).unwrap(), theirs, "{host}");
    }
    for host in PAIRS {
        let theirs = golden(&format!("bin/{host}.bin"));
        let mut ours = bin1::encode(&bin1::decode(&theirs).unwrap().dump).unwrap();
        let mut theirs = theirs;
        // The same bytes in another order.
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "{host}");
    }
}

#[test]
fn runs_that_overlap_agree_where_they_do() {
    let bin = bin1::decode(&golden("multi/m01/1700003600.bin")).unwrap().dump;
    let json = json::decode(&golden("multi/m01/1700006600.json")).unwrap().dump;
    assert!(json.from < bin.to && bin.to < json.to);
    let mut compared = 0;
    for late in &json.runs {
        let early =
            bin.runs.iter().find(|run| (&run.path, &run.metric) == (&late.path, &late.metric)).unwrap();
        for (index, value) in late.values.iter().enumerate() {
            let step = (late.time_of(index) - early.base) / i64::from(early.frequency_s);
            let Some(other) = usize::try_from(step).ok().and_then(|i| early.values.get(i)) else { continue };
            assert!(
                (value - other).abs() <= 0.051,
                "{} at {}: {value}, {other}",
                late.metric,
                late.time_of(index)
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 111, "values in both files");
}

#[test]
fn what_stopped_the_original_is_an_error_with_a_place() {
    let bin = |name: &str| match bin1::decode(&golden(&format!("damaged/{name}.bin"))) {
        Err(FormatError::Damaged { offset, damage }) => (offset, damage),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(bin("bin-truncated"), (417, Damage::CountTooLarge));
    assert_eq!(bin("bin-flip-metric-count"), (20, Damage::CountTooLarge));
    assert_eq!(bin("bin-empty"), (0, Damage::CutShort));
    assert_eq!(bin("bin-bad-magic"), (0, Damage::NotVersion1));
    assert_eq!(bin("bin-flip-value-count").1, Damage::CountTooLarge);

    let json = |name: &str| json::decode(&golden(&format!("damaged/{name}.json"))).unwrap_err();
    assert_eq!(json("json-empty").damage(), Some(Damage::CutShort));
    assert_eq!(json("json-half").damage(), Some(Damage::CutShort));
    assert!(matches!(json("json-not-an-object"), FormatError::Json(_)));

    assert_eq!(bin1::decode(&golden("damaged/whole.bin")).unwrap().dump.runs.len(), 4);
    assert_eq!(json::decode(&golden("damaged/whole.json")).unwrap().dump.runs.len(), 4);
}
