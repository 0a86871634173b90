//! FORMAT.md says what the code does: its tables are read and compared with the constants, and files are
//! walked field by field as they say.

use std::collections::BTreeMap;

use serde_json::Value;
use store_checkpoint::format::{LEVELS_MAX, NAME_BYTES_MAX, bin1, json};

use crate::sample;

const FORMAT: &str = include_str!("../../FORMAT.md");

/// The rows of the table below a heading, cell by cell.
fn table(heading: &str) -> Vec<Vec<String>> {
    let (_, section) = FORMAT.split_once(&format!("# {heading}\n")).unwrap_or_else(|| panic!("{heading}"));
    let rows =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.skip(2).map(cells).collect()
}

fn column(heading: &str, index: usize) -> Vec<String> {
    table(heading).into_iter().map(|row| row[index].clone()).collect()
}

#[test]
fn the_limits_are_those_of_the_code() {
    let limits: BTreeMap<String, String> =
        table("Limits").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(limits["bytes of a name"], NAME_BYTES_MAX.to_string());
    assert_eq!(limits["levels below the host"], LEVELS_MAX.to_string());
    assert_eq!(limits["frequency, from 1"], u32::MAX.to_string());
    assert_eq!(limits["values of a series"], u32::MAX.to_string());
    assert_eq!(limits["time behind the last value"], i64::MAX.to_string());
}

#[test]
fn the_magic_and_the_header_are_those_of_the_code() {
    let rows = table("Version 1: file");
    assert!(rows[0][2].contains(&format!("{:08X}", bin1::MAGIC)), "{:?}", rows[0]);
    let bytes: Vec<String> = bin1::MAGIC.to_le_bytes().iter().map(|b| format!("{b:02X}")).collect();
    assert!(rows[0][2].contains(&bytes.join(" ")), "{:?}", rows[0]);
    let fixed: usize = rows.iter().filter_map(|row| row[0].parse::<usize>().ok()).sum();
    assert_eq!(fixed, bin1::HEADER_BYTES);
}

/// Walks a version 1 file as the tables say, and notes each field.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Field and its bytes as a number, or as text.
    fields: Vec<(String, String)>,
}

impl Walk<'_> {
    fn part(&mut self, table_name: &str) {
        let mut known: BTreeMap<String, u64> = BTreeMap::new();
        for row in table(&format!("Version 1: {table_name}")) {
            let (width, field, encoding) = (&row[0], &row[1], &row[2]);
            if width == "*" {
                let times = match field.as_str() {
                    "series" => known["metrics"],
                    "child" => known["children"],
                    _ => 1,
                };
                (0..times).for_each(|_| self.part(field));
                continue;
            }
            let width = width.split('*').map(str::trim);
            let width: u64 = width.map(|w| w.parse().unwrap_or_else(|_| known[w])).product();
            let bytes = &self.bytes[self.at..][..usize::try_from(width).unwrap()];
            self.at += bytes.len();
            let number = |n: usize| {
                let mut wide = [0; 8];
                wide[..n].copy_from_slice(bytes);
                u64::from_le_bytes(wide)
            };
            let text = match encoding.split([',', ' ']).next().unwrap() {
                "u16" => number(2).to_string(),
                "u32" => number(4).to_string(),
                "i64" => number(8).cast_signed().to_string(),
                "UTF-8" => String::from_utf8(bytes.to_vec()).unwrap(),
                "f32" => {
                    let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                    values.map(|v| v.to_string()).collect::<Vec<_>>().join(" ")
                }
                other => panic!("no such encoding: {other}"),
            };
            if let Ok(number) = text.parse() {
                known.insert(field.clone(), number);
            }
            self.fields.push((field.clone(), text));
        }
    }
}

#[test]
fn a_version_1_file_is_what_the_tables_say_field_by_field() {
    let bytes = bin1::encode(&sample()).unwrap();
    let mut walk = Walk { bytes: &bytes, at: 0, fields: Vec::new() };
    walk.part("file");
    assert_eq!(walk.at, bytes.len(), "nothing follows");
    let magic = bin1::MAGIC.to_string();
    let expected = [
        ("magic", magic.as_str()),
        ("from", "1000"),
        ("to", "1100"),
        ("metrics", "2"),
        ("name_len", "8"),
        ("name", "cpu_load"),
        ("frequency", "10"),
        ("start", "1000"),
        ("values", "3"),
        ("data", "1.5 NaN -0"),
        ("name_len", "5"),
        ("name", "flops"),
        ("frequency", "30"),
        ("start", "1005"),
        ("values", "1"),
        ("data", "340000000000000000000000000000000000000"),
        ("children", "2"),
        ("name_len", "7"),
        ("name", "socket0"),
        ("metrics", "1"),
        ("name_len", "6"),
        ("name", "mem_bw"),
        ("frequency", "20"),
        ("start", "1000"),
        ("values", "2"),
        ("data", "0.0000000000000000000000000000000000000001 0.1"),
        ("children", "1"),
        ("name_len", "5"),
        ("name", "core1"),
        ("metrics", "1"),
        ("name_len", "3"),
        ("name", "ipc"),
        ("frequency", "60"),
        ("start", "1010"),
        ("values", "2"),
        ("data", "NaN 2"),
        ("children", "0"),
        ("name_len", "7"),
        ("name", "socket1"),
        ("metrics", "1"),
        ("name_len", "6"),
        ("name", "mem_bw"),
        ("frequency", "20"),
        ("start", "1000"),
        ("values", "1"),
        ("data", "NaN"),
        ("children", "0"),
    ];
    let fields: Vec<(&str, &str)> = walk.fields.iter().map(|(f, t)| (f.as_str(), t.as_str())).collect();
    assert_eq!(fields, expected);
}

#[test]
fn the_smallest_entries_are_as_small_as_the_page_says() {
    let fixed = |heading: &str| -> usize {
        column(heading, 0).iter().filter_map(|width| width.parse::<usize>().ok()).sum()
    };
    let (series, level) = (fixed("Version 1: series"), fixed("Version 1: level"));
    let child = fixed("Version 1: child") + level;
    let said = format!("({series} bytes a series, {child} a child, 4 a value)");
    assert!(FORMAT.contains(&said), "{said}");
}

#[test]
fn json_keys_stand_in_the_order_of_the_tables() {
    let text = String::from_utf8(json::encode(&sample()).unwrap()).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"metrics":{"#,
            r#""cpu_load":{"frequency":10,"start":1000,"data":[1.5,null,-0.0]},"#,
            r#""flops":{"frequency":30,"start":1005,"data":[3.4e+38]}},"#,
            r#""children":{"#,
            r#""socket0":{"metrics":{"mem_bw":{"frequency":20,"start":1000,"data":[1e-40,0.1]}},"children":{"#,
            r#""core1":{"metrics":{"ipc":{"frequency":60,"start":1010,"data":[null,2.0]}},"#,
            r#""children":{},"from":1000,"to":1100}},"from":1000,"to":1100},"#,
            r#""socket1":{"metrics":{"mem_bw":{"frequency":20,"start":1000,"data":[null]}},"#,
            r#""children":{},"from":1000,"to":1100}},"#,
            r#""from":1000,"to":1100}"#,
            "\n"
        )
    );
    let begins =
        |keys: &[String]| keys.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
    let series: Vec<usize> = begins(&column("json: series", 0));
    assert!(series.is_sorted() && series.len() == 3, "{series:?}");
    assert_eq!(column("json: level", 0), ["metrics", "children", "from", "to"]);
}

#[test]
fn the_example_on_the_page_is_one() {
    let (_, rest) = FORMAT.split_once("```json\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let decoded = json::decode(example.as_bytes()).unwrap();
    assert_eq!((decoded.dump.from, decoded.dump.to), (1_700_000_000, 1_700_043_200));
    assert_eq!(decoded.dump.runs.len(), 1);
    let again: Value = serde_json::from_slice(&json::encode(&decoded.dump).unwrap()).unwrap();
    assert_eq!(again["metrics"], serde_json::from_str::<Value>(example).unwrap()["metrics"]);
}

#[test]
fn every_damage_that_the_page_names_exists_and_the_other_way_round() {
    let source = include_str!("../../src/error.rs");
    let (_, body) = source.split_once("pub enum Damage {").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let variants: Vec<&str> = body.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    assert_eq!(variants.len(), 14, "{variants:?}");
    for variant in variants {
        assert!(FORMAT.contains(&format!("`{variant}`")), "{variant} is not in FORMAT.md");
    }
}
