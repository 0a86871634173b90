//! Config files, good and bad.

use super::*;

/// The smallest file that is accepted, with these sections put in.
fn minimal(main: &str, metrics: &str, store: &str) -> String {
    format!(
        r#"{{"main": {{{main}}}, "metrics": {{"cpu_load": {{"frequency": 60, "aggregation": null}}{metrics}}},
            "metric-store": {{"retention-in-memory": "48h", "memory-cap": 100{store}}}}}"#
    )
}

fn read(text: &str) -> Result<Config, String> {
    parse(text.as_bytes(), Path::new("c.json")).map_err(whole)
}

/// An error with its sources, as the program prints it.
fn whole(error: ConfigError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn what_is_left_out_has_the_defaults_of_the_original() {
    let config = good(&minimal("", "", ""));
    assert_eq!(config.main.addr, "0.0.0.0:8082");
    assert_eq!(config.main.jwt_public_key, None);
    assert!(config.main.require_roles);
    let store = &config.store;
    assert_eq!(store.retention_s, 48 * 3600);
    assert_eq!(store.memory_cap_bytes, 100_000_000_000);
    assert_eq!(store.checkpoint_interval_s, 12 * 3600);
    assert_eq!(store.directory, Path::new("./var/checkpoints"));
    assert_eq!((store.file_format, store.portable), (FileFormat::Wal, false));
    assert_eq!((store.wal_sync, store.wal_sync_interval), (WalSync::Interval, Duration::from_secs(1)));
    assert_eq!((store.max_future_s, store.max_wal_bytes, store.cleanup), (600, 0, Cleanup::Delete));
    assert!((1..=10).contains(&store.num_workers), "{}", store.num_workers);
    assert_eq!(config.limits, Limits::default());
    assert_eq!((config.limits.body_bytes, config.limits.decoded_bytes), (67_108_864, 268_435_456));
    assert_eq!((config.auto_frequency_s, config.warnings.len(), config.new_keys.len()), (None, 0, 0));
    assert_eq!(config.source, Source::File("c.json".into()));
}

#[test]
fn every_key_of_the_original_is_known() {
    let config = good(
        r#"{
        "main": {"addr": "localhost:9000", "https-cert-file": "", "https-key-file": null, "user": "", "group": "",
                 "backend-url": "", "jwt-public-key": "5o1HuF0FlBcACnK0ctY0oLvkdfjZ17xG9KMD4tFGw2E=",
                 "debug": {"dump-to-file": "", "gops": false}},
        "metrics": {"b": {"frequency": 10, "aggregation": "sum"}, "a": {"frequency": 60, "aggregation": "avg"},
                    "c": {"frequency": 1}, "d": {"frequency": 1, "aggregation": ""}},
        "nats": {"address": "", "username": "", "password": "", "creds-file-path": "", "nkey-seed-file": ""},
        "metric-store": {"retention-in-memory": "1h30m", "memory-cap": 0, "num-workers": 3,
                 "checkpoint-interval": "30m",
                 "checkpoints": {"file-format": "json", "directory": "/data/cp", "max-wal-size": 1000},
                 "cleanup": {"mode": "delete", "directory": ""}, "debug": {"dump-to-file": "", "gops": false},
                 "nats-subscriptions": []}
        }"#,
    );
    assert_eq!(config.main.addr, "localhost:9000");
    assert_eq!(config.main.jwt_public_key.unwrap()[..3], [0xe6, 0x8d, 0x47]);
    let metrics: Vec<_> = config
        .metrics
        .iter()
        .map(|metric| (metric.name.as_str(), metric.frequency_s, metric.aggregation))
        .collect();
    let expected = [
        ("a", 60, Aggregation::Avg),
        ("b", 10, Aggregation::Sum),
        ("c", 1, Aggregation::None),
        ("d", 1, Aggregation::None),
    ];
    assert_eq!(metrics, expected);
    let store = &config.store;
    assert_eq!((store.retention_s, store.memory_cap_bytes, store.num_workers), (5400, 0, 3));
    assert_eq!((store.checkpoint_interval_s, store.file_format), (1800, FileFormat::Json));
    assert_eq!((store.directory.as_path(), store.max_wal_bytes), (Path::new("/data/cp"), 1000));
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(config.new_keys, [""; 0]);
}

#[test]
fn our_keys_are_known_and_listed_as_ours() {
    let config = good(&minimal(
        r#""require-roles": false"#,
        "",
        r#", "wal-sync": "always", "wal-sync-interval": "250ms", "max-future": "1h",
           "checkpoints": {"portable": true, "min-free-bytes": 1234},
           "limits": {"body-bytes": 1000, "decoded-bytes": 2000, "points": 3000, "name-bytes": 100, "hosts": 5,
                      "series": 6, "metrics": 7},
           "nats-subscriptions": [{"subscribe-to": "a", "cluster-tag": "x", "stream": "s"},
                                  {"subscribe-to": "b", "stream": "s"}]"#,
    ));
    assert!(!config.main.require_roles);
    let store = &config.store;
    assert_eq!((store.wal_sync, store.wal_sync_interval), (WalSync::Always, Duration::from_millis(250)));
    assert_eq!((store.max_future_s, store.portable, store.min_free_bytes), (3600, true, Some(1234)));
    let limits = Limits {
        body_bytes: 1000,
        decoded_bytes: 2000,
        points: 3000,
        name_bytes: 100,
        hosts: 5,
        series: 6,
        metrics: 7,
    };
    assert_eq!(config.limits, limits);
    let mut keys = config.new_keys.clone();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "main.require-roles",
            "metric-store.checkpoints.min-free-bytes",
            "metric-store.checkpoints.portable",
            "metric-store.limits",
            "metric-store.max-future",
            "metric-store.nats-subscriptions[].stream",
            "metric-store.wal-sync",
            "metric-store.wal-sync-interval",
        ]
    );
}

#[test]
fn the_room_that_is_left_free_is_no_negative_number_and_by_default_the_disk_decides() {
    let with = |bytes: &str| minimal("", "", &format!(r#", "checkpoints": {{"min-free-bytes": {bytes}}}"#));
    assert_eq!(good(&with("0")).store.min_free_bytes, Some(0));
    assert_eq!(good(&minimal("", "", "")).store.min_free_bytes, None);
    assert_eq!(Config::embedded(10).store.min_free_bytes, None);
    let error = parse(with("-1").as_bytes(), Path::new("c.json")).unwrap_err().to_string();
    assert!(error.contains("metric-store.checkpoints.min-free-bytes: "), "{error}");
}

#[test]
fn both_layouts_of_the_checkpoint_interval_are_read() {
    let interval =
        |store: &str| read(&minimal("", "", store)).map(|config| config.store.checkpoint_interval_s);
    assert_eq!(interval(r#", "checkpoint-interval": "2h""#), Ok(7200));
    assert_eq!(interval(r#", "checkpoints": {"interval": "2h"}"#), Ok(7200));
    assert_eq!(interval(r#", "checkpoint-interval": "2h", "checkpoints": {"interval": "120m"}"#), Ok(7200));
    assert_eq!(interval(r#", "checkpoint-interval": "", "checkpoints": {"interval": ""}"#), Ok(43_200));
    let refusal =
        interval(r#", "checkpoint-interval": "2h", "checkpoints": {"interval": "3h"}"#).unwrap_err();
    assert!(refusal.contains("metric-store.checkpoints.interval: says something else"), "{refusal}");
}

#[test]
fn a_checkpoint_interval_of_zero_or_less_is_off_and_a_short_one_is_not() {
    let interval = |text: &str| {
        good(&minimal("", "", &format!(r#", "checkpoint-interval": "{text}""#))).store.checkpoint_interval_s
    };
    assert_eq!((interval("0"), interval("-5h"), interval("500ms"), interval("1500ms")), (0, 0, 1, 1));
}

#[test]
fn what_is_not_built_yet_is_accepted_with_one_warning_each() {
    let config = good(
        r#"{"main": {"user": "nobody", "group": "nogroup", "backend-url": "http://b", "debug": {"gops": true}},
            "metrics": {"a": {"frequency": 60}}, "nats": {"address": "nats://h:4222", "password": "secret"},
            "metric-store": {"retention-in-memory": "48h", "memory-cap": 1,
              "cleanup": {"mode": "archive", "directory": "/archive"},
              "nats-subscriptions": [{"subscribe-to": "hpc", "cluster-tag": "x"}]}}"#,
    );
    let mut keys: Vec<&str> =
        config.warnings.iter().map(|warning| warning.split(": ").next().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "main.backend-url",
            "main.debug.gops",
            "main.group",
            "main.user",
            "metric-store.cleanup.mode",
            "nats"
        ]
    );
    assert!(!config.warnings.join(" ").contains("secret"));
}

/// Configs that the original starts with, and what we warn of.
#[test]
fn what_the_original_accepts_is_accepted_with_a_warning() {
    let key = "5o1HuF0FlBcACnK0ctY0oLvkdfjZ17xG9KMD4tFGw2E=";
    let with_section = |section: &str| {
        minimal("", "", "").strip_suffix('}').map(|text| format!("{text}, {section}}}")).unwrap()
    };
    let store = |store: &str| minimal("", "", store);
    let cases = [
        (
            minimal("", r#", "x": {"frequency": 1, "aggregation": "max"}"#, ""),
            "metrics.x.aggregation: \"max\"",
        ),
        (
            minimal("", r#", "x": {"frequency": 1, "aggregation": "SUM"}"#, ""),
            "metrics.x.aggregation: \"SUM\"",
        ),
        (store(r#", "checkpoints": {"file-format": ""}"#), "metric-store.checkpoints.file-format: is empty"),
        (store(r#", "cleanup": {"mode": ""}"#), "metric-store.cleanup.mode: is empty"),
        (with_section(r#""cron": {"a": [1, {}]}"#), "cron: unknown section"),
        (with_section(r#""archive": {"kind": "file"}"#), "archive: unknown section"),
        (with_section(r#""auth": null"#), "auth: unknown section"),
        (with_section(r#""Main": {"addr": ":1"}"#), "Main: unknown section"),
        (minimal(&format!(r#""jwt-public-key": "{key}\n""#), "", ""), "main.jwt-public-key: has line ends"),
        (minimal(&format!(r#""jwt-public-key": "\r\n{key}""#), "", ""), "main.jwt-public-key: has line ends"),
    ];
    for (text, expected) in cases {
        let config = good(&text);
        assert_eq!(config.warnings.len(), 1, "{text}: {:?}", config.warnings);
        assert!(config.warnings[0].starts_with(expected), "{text}: {:?}", config.warnings);
    }
}

#[test]
fn keys_are_found_in_any_case_but_sections_and_metrics_are_not() {
    let config = good(
        r#"{"main": {"Addr": "localhost:9000", "JWT-Public-Key": "", "Debug": {"GOPS": false}},
            "metrics": {"A": {"Frequency": 7, "AGGREGATION": "sum"}, "a": {"frequency": 8}},
            "nats": {"Address": "", "UserName": "x"},
            "metric-store": {"Retention-In-Memory": "2h", "Memory-Cap": 1,
              "Checkpoints": {"File-Format": "json", "Directory": "/d"}, "Cleanup": {"Mode": "delete"}}}"#,
    );
    assert_eq!(config.main.addr, "localhost:9000");
    assert_eq!((config.metrics[0].frequency_s, config.metrics[0].aggregation), (7, Aggregation::Sum));
    assert_eq!((config.metrics[1].name.as_str(), config.metrics[1].frequency_s), ("a", 8));
    assert_eq!((config.store.retention_s, config.store.file_format), (7200, FileFormat::Json));
    assert_eq!((config.store.directory.as_path(), config.warnings.len()), (Path::new("/d"), 0));
}

#[test]
fn a_section_that_may_stand_for_a_missing_one_is_refused() {
    let rest = r#""metrics": {"a": {"frequency": 1}}, "metric-store": {"retention-in-memory": "1h", "memory-cap": 0}"#;
    for (section, expected) in [
        (r#""Main": {}"#, "Main: unknown section; it has to stand here as \"main\""),
        (r#""main-file": "main.json""#, "main-file: unknown section; it has to stand here as \"main\""),
        (r#""mian": {}"#, "main: missing, and nobody knows what \"mian\" is"),
        (r#""main": {}, "nats-file": "n.json""#, "nats-file: unknown section"),
        (r#""main": {}, "main": {}"#, "c.json: section `main` stands here twice"),
    ] {
        let refusal = read(&format!("{{{section}, {rest}}}")).unwrap_err();
        assert!(refusal.contains(expected), "{section}: {refusal}");
    }
    let refusal = read(r#"{"main": {}, "metrics": {"a": {"frequency": 1}}, "metricstore": {}}"#).unwrap_err();
    assert!(refusal.contains("metric-store.retention-in-memory: missing"), "{refusal}");
}

#[test]
fn archiving_keeps_files_rather_than_deleting_them() {
    let store = r#", "cleanup": {"mode": "archive", "directory": "/archive"}"#;
    assert_eq!(good(&minimal("", "", store)).engine_options().cleanup, Cleanup::Keep);
}

#[test]
fn an_unknown_key_is_refused_by_its_path() {
    let cases = [
        (minimal(r#""adr": ":1""#, "", ""), "main.adr: unknown field `adr`"),
        (minimal(r#""debug": {"gop": true}"#, "", ""), "main.debug.gop: unknown field `gop`"),
        (
            minimal("", r#", "x": {"frequency": 1, "aggr": "sum"}"#, ""),
            "metrics.x.aggr: unknown field `aggr`",
        ),
        (minimal("", "", r#", "retention": "1h""#), "metric-store.retention: unknown field `retention`"),
        (
            minimal("", "", r#", "checkpoints": {"dir": "x"}"#),
            "metric-store.checkpoints.dir: unknown field `dir`",
        ),
        (minimal("", "", r#", "cleanup": {"moed": "delete"}"#), "metric-store.cleanup.moed: unknown field"),
        (minimal("", "", r#", "limits": {"point": 1}"#), "metric-store.limits.point: unknown field"),
        (
            minimal("", "", r#", "nats-subscriptions": [{"subscribe-to": "a", "tag": "b"}]"#),
            "metric-store.nats-subscriptions[0].tag: unknown field `tag`",
        ),
        (
            r#"{"metrics": {"a": {"frequency": 1}}, "nats": {"adress": "x"},
                "metric-store": {"retention-in-memory": "1h", "memory-cap": 0}}"#
                .to_owned(),
            "nats.adress: unknown key",
        ),
    ];
    for (text, expected) in cases {
        let refusal = read(&text).unwrap_err();
        assert!(refusal.starts_with(&format!("c.json: {expected}")), "{expected}\n{refusal}");
        assert!(!refusal.contains('\n'), "{refusal}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_refused_by_path_line_and_column() {
    let cases = [
        (minimal("", r#", "x": {"frequency": "60"}"#, ""), "metrics.x.frequency: invalid type"),
        (minimal("", r#", "x": {"frequency": 1.5}"#, ""), "metrics.x.frequency: invalid type"),
        (minimal("", r#", "x": {"aggregation": "sum"}"#, ""), "metrics.x: missing field `frequency`"),
        (
            minimal("", r#", "x": {"frequency": 1, "aggregation": 5}"#, ""),
            "metrics.x.aggregation: invalid type",
        ),
        (
            minimal("", r#", "cpu_load": {"frequency": 1}"#, ""),
            "metrics: metric `cpu_load` stands here twice",
        ),
        (minimal("", "", r#", "num-workers": "2""#), "metric-store.num-workers: invalid type"),
        (minimal("", "", r#", "checkpoint-interval": 12"#), "metric-store.checkpoint-interval: invalid type"),
        (
            minimal("", "", r#", "checkpoints": {"file-format": "avro"}"#),
            "metric-store.checkpoints.file-format: unknown variant `avro`",
        ),
        (
            minimal("", "", r#", "wal-sync": "sometimes""#),
            "metric-store.wal-sync: unknown variant `sometimes`",
        ),
        (minimal(r#""addr": "a:1", "addr": "b:1""#, "", ""), "main: duplicate field `addr`"),
        ("{".to_owned(), "EOF while parsing"),
        (String::new(), "EOF while parsing"),
        ("[]".to_owned(), "invalid type: sequence, expected an object"),
        (r#"{"main": [":80"]}"#.to_owned(), "main: invalid type: sequence, expected an object"),
        (minimal("", r#", "x": [60, "sum"]"#, ""), "metrics.x: invalid type: sequence, expected an object"),
        (minimal("", "", "") + "x", "trailing characters"),
    ];
    for (text, expected) in cases {
        let refusal = read(&text).unwrap_err();
        assert!(refusal.starts_with(&format!("c.json: {expected}")), "{expected}\n{refusal}");
        assert!(refusal.contains(" line ") && refusal.contains(" column "), "{refusal}");
    }
}

#[test]
fn a_value_that_makes_no_sense_is_refused_by_its_path() {
    let store = |store: &str| minimal("", "", store);
    let without = |retention: &str| {
        format!(
            r#"{{"metrics": {{"a": {{"frequency": 1}}}}, "metric-store": {{"memory-cap": 1{retention}}}}}"#
        )
    };
    let cases = [
        (without(""), "metric-store.retention-in-memory: missing"),
        (
            without(r#", "retention-in-memory": "2d""#),
            "metric-store.retention-in-memory: \"2d\" is no duration: unknown unit \"d\"",
        ),
        (
            without(r#", "retention-in-memory": "48""#),
            "metric-store.retention-in-memory: \"48\" is no duration: a unit is missing",
        ),
        (
            without(r#", "retention-in-memory": "-1h""#),
            "metric-store.retention-in-memory: \"-1h\" is less than a second",
        ),
        (
            without(r#", "retention-in-memory": "900ms""#),
            "metric-store.retention-in-memory: \"900ms\" is less than a second",
        ),
        (without(r#", "retention-in-memory": """#), "metric-store.retention-in-memory: \"\" is no duration"),
        (
            r#"{"metrics": {"a": {"frequency": 1}}, "metric-store": {"retention-in-memory": "1h"}}"#.into(),
            "metric-store.memory-cap: missing",
        ),
        (r#"{"metric-store": {"retention-in-memory": "1h", "memory-cap": 0}}"#.into(), "metrics: missing"),
        (
            r#"{"metrics": {}, "metric-store": {"retention-in-memory": "1h", "memory-cap": 0}}"#.into(),
            "metrics: empty",
        ),
        (minimal("", r#", "x": {"frequency": 0}"#, ""), "metrics.x.frequency: 0 is not between 1 and"),
        (minimal("", r#", "x": {"frequency": -5}"#, ""), "metrics.x.frequency: -5 is not between 1 and"),
        (
            minimal("", r#", "x": {"frequency": 4294967297}"#, ""),
            "metrics.x.frequency: 4294967297 is not between",
        ),
        (minimal("", r#", "": {"frequency": 1}"#, ""), "metrics.: a name has 1 to 255 bytes"),
        (minimal("", r#", "a\u0000b": {"frequency": 1}"#, ""), "metrics.a\0b: a name has 1 to 255 bytes"),
        (store(r#", "num-workers": -1"#), "metric-store.num-workers: -1 is less than 0"),
        (
            store(r#", "checkpoint-interval": "soon""#),
            "metric-store.checkpoint-interval: \"soon\" is no duration",
        ),
        (
            store(r#", "checkpoints": {"max-wal-size": -1}"#),
            "metric-store.checkpoints.max-wal-size: -1 is less than 0",
        ),
        (store(r#", "cleanup": {"mode": "archive"}"#), "metric-store.cleanup.directory: missing"),
        (
            store(r#", "wal-sync-interval": "0s""#),
            "metric-store.wal-sync-interval: \"0s\" is less than a millisecond",
        ),
        (store(r#", "max-future": "-1s""#), "metric-store.max-future: \"-1s\" is negative"),
        (store(r#", "limits": {"points": 0}"#), "metric-store.limits.points: 0 is not between 1 and"),
        (
            store(r#", "limits": {"name-bytes": 256}"#),
            "metric-store.limits.name-bytes: 256 is not between 1 and 255",
        ),
        (
            minimal("", r#", "x": {"frequency": 1}"#, r#", "limits": {"metrics": 1}"#),
            "metrics: 2 metrics; the limit is 1",
        ),
        (minimal(r#""addr": "localhost""#, "", ""), "main.addr: \"localhost\" has no port"),
        (
            minimal(r#""addr": "localhost:http""#, "", ""),
            "main.addr: \"http\" in \"localhost:http\" is no port number",
        ),
        (minimal(r#""addr": "localhost:70000""#, "", ""), "main.addr: \"70000\" in"),
        (
            minimal(r#""addr": "::1:80""#, "", ""),
            "main.addr: an IPv6 address stands in brackets: \"[::1]:80\"",
        ),
        (minimal(r#""addr": "[::g]:80""#, "", ""), "main.addr: \"::g\" in \"[::g]:80\" is no IPv6 address"),
        (minimal(r#""jwt-public-key": "@@""#, "", ""), "main.jwt-public-key: not base64"),
        (
            minimal(r#""jwt-public-key": "AAAA""#, "", ""),
            "main.jwt-public-key: an Ed25519 key has 32 bytes, this one has 3",
        ),
        (
            minimal(r#""https-cert-file": "c.pem""#, "", ""),
            "main.https-cert-file: HTTPS is not supported yet",
        ),
        (minimal(r#""https-key-file": "k.pem""#, "", ""), "main.https-key-file: HTTPS is not supported yet"),
    ];
    for (text, expected) in cases {
        let refusal = read(&text).unwrap_err();
        assert!(refusal.starts_with(&format!("c.json: {expected}")), "{expected}\n{refusal}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let refusal =
        read(&minimal(r#""addr": "x""#, r#", "m": {"frequency": 0}"#, r#", "num-workers": -1"#)).unwrap_err();
    assert_eq!(refusal.matches("; ").count(), 2, "{refusal}");
}

#[test]
fn addresses_of_every_kind_are_accepted() {
    for addr in [":8082", "localhost:8082", "127.0.0.1:0", "[::1]:8082", "[::]:1", "node-1.example.org:65535"]
    {
        assert_eq!(good(&minimal(&format!(r#""addr": "{addr}""#), "", "")).main.addr, addr);
    }
}

#[test]
fn a_file_that_is_named_and_missing_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.json");
    let refusal = whole(find(Some(&path), 10).unwrap_err());
    assert!(refusal.starts_with(&format!("cannot read the config file {}: ", path.display())), "{refusal}");
}

#[test]
fn the_embedded_default_is_on_loopback_and_registers_unknown_metrics() {
    let config = Config::embedded(30);
    assert_eq!(config.source, Source::Embedded);
    assert_eq!(config.main.addr, "127.0.0.1:8082");
    let options = config.engine_options();
    assert_eq!((options.retention_s, options.checkpoint_interval_s), (172_800, 43_200));
    assert_eq!(options.directory, Path::new("./var/checkpoints"));
    assert_eq!((options.auto_register, options.memory_cap_bytes), (Some(30), 0));
    assert!(options.metrics.len() < options.limits.metrics, "no room to register any");
}
