//! The line protocol as a table of cases; the files of the original are read in the integration tests.

use proptest::prelude::*;

use super::*;

/// What becomes of one line when every metric is known and `alpha` is the default cluster.
fn fate(line: &str) -> Result<String, Fate> {
    let line = line.as_bytes();
    let (prefix, rest) = split_prefix(line);
    let named = parse_prefix(prefix)?;
    let (value, time) = parse_rest(rest).map_err(|fate| fate.shifted(prefix.len()))?;
    let mut scratch = String::new();
    let place = named.place(Some("alpha"), NAME_BYTES_MAX, &mut scratch)?;
    let time = time.map_or("now".to_owned(), |time| time.to_string());
    let path = place.path.join("/");
    Ok(format!("{}|{}|{}|{path}|{value}|{time}", place.metric, place.cluster, place.host))
}

#[track_caller]
fn good(line: &str, want: &str) {
    assert_eq!(fate(line).as_deref(), Ok(want), "{line}");
}

#[track_caller]
fn bad(line: &str, column: usize, what: Malformed) {
    assert_eq!(fate(line), Err(Fate::Bad(BadLine { column, what })), "{line}");
}

#[test]
fn a_byte_order_mark_before_a_line_is_passed_over() {
    let text = |body: &'static str| -> Vec<(usize, &str)> {
        lines(body.as_bytes()).map(|line| (line.number, std::str::from_utf8(line.bytes).unwrap())).collect()
    };
    assert_eq!(text("\u{feff}a value=1\nb value=2"), [(1, "a value=1"), (2, "b value=2")]);
    assert_eq!(text("a value=1\n\u{feff}b value=2\n"), [(1, "a value=1"), (2, "b value=2")]);
    assert_eq!(text("\u{feff}# note\n\u{feff}\n\u{feff}  c value=1"), [(3, "c value=1")]);
    // Within a name it is a part of it, and half of it is no mark.
    assert_eq!(text("a\u{feff} value=1\né value=1"), [(1, "a\u{feff} value=1"), (2, "é value=1")]);
}

#[test]
fn a_line_names_its_series_value_and_time() {
    good("m,hostname=h value=1 5", "m|alpha|h||1|5");
    good("m,cluster=c,hostname=h,type=socket,type-id=0 value=-1.5e2 -5", "m|c|h|socket0|-150|-5");
    good("m,hostname=h value=1", "m|alpha|h||1|now");
    good("m,hostname=h   value=7i   1700000000142   ", "m|alpha|h||7|1700000000");
    good("m,hostname=h value=1   ", "m|alpha|h||1|now");
    good("m,host=h value=1 5", "m|alpha|h||1|5");
    good("m=n,hostname=h value=1 5", "m=n|alpha|h||1|5");
}

#[test]
fn type_and_id_name_the_component_whatever_order_the_tags_come_in() {
    for line in [
        "m,hostname=h,type=core,type-id=1,stype=sensor,stype-id=7 value=1 5",
        "m,stype-id=7,stype=sensor,type-id=1,type=core,hostname=h value=1 5",
        "m,stype=sensor,type-id=1,hostname=h,stype-id=7,type=core,unit=% value=1 5",
    ] {
        good(line, "m|alpha|h|core1/sensor7|1|5");
    }
    good("m,hostname=h,type=core value=1 5", "m|alpha|h|core|1|5");
    good("m,hostname=h,type-id=3 value=1 5", "m|alpha|h|3|1|5");
    good("m,hostname=h,type=core,type-id=1,stype=s value=1 5", "m|alpha|h|core1/s|1|5");
    good("m,hostname=h,type=core,type-id=1,stype-id=7 value=1 5", "m|alpha|h|core1/7|1|5");
    let pci = "m,hostname=h,type=accelerator,type-id=00000000:49:00.0 value=1 5";
    good(pci, "m|alpha|h|accelerator00000000:49:00.0|1|5");
    good("m,hostname=h,type=../x,type-id=a/b value=1 5", "m|alpha|h|../xa/b|1|5");
}

#[test]
fn type_node_is_the_host_itself_whatever_its_id() {
    good("m,hostname=h,type=node value=1 5", "m|alpha|h||1|5");
    good("m,hostname=h,type=node,type-id=0 value=1 5", "m|alpha|h||1|5");
    good("m,type-id=17,hostname=h,type=node value=1 5", "m|alpha|h||1|5");
    good("m,hostname=h,type=node,type-id=0,stype=network,stype-id=lo value=1 5", "m|alpha|h||1|5");
    good("m,hostname=h,type=nodes value=1 5", "m|alpha|h|nodes|1|5");
}

#[test]
fn a_subtype_without_a_type_is_left_out_and_said() {
    good("m,hostname=h,stype=st,stype-id=1 value=1 5", "m|alpha|h||1|5");
    for (prefix, merges) in [
        ("m,hostname=h,stype=st,stype-id=1", true),
        ("m,hostname=h,type=node,stype=network,stype-id=lo", true),
        ("m,hostname=h,type=node,type-id=0,stype-id=lo", true),
        ("m,hostname=h,type=core,stype=st", false),
        ("m,hostname=h,type-id=1,stype=st", false),
        ("m,hostname=h,type=node", false),
        ("m,hostname=h", false),
    ] {
        assert_eq!(parse_prefix(prefix.as_bytes()).unwrap().merges_subcomponents(), merges, "{prefix}");
    }
}

#[test]
fn of_a_tag_given_twice_the_last_one_counts() {
    good("m,cluster=a,hostname=h,cluster=b value=1 5", "m|b|h||1|5");
    good("m,host=a,hostname=b value=1 5", "m|alpha|b||1|5");
    good("m,hostname=a,host=b value=1 5", "m|alpha|b||1|5");
    good("m,hostname=h,type=core,type-id=1,type=socket,type-id=2 value=1 5", "m|alpha|h|socket2|1|5");
    good("m,hostname=h,type=core,type-id=1,type=node value=1 5", "m|alpha|h||1|5");
}

#[test]
fn escapes_stand_for_the_second_character_and_other_backslashes_for_themselves() {
    good(r"m,cluster=del\ ta,hostname=node\ 9 value=1 5", "m|del ta|node 9||1|5");
    good(r"m,hostname=node\,9 value=1 5", "m|alpha|node,9||1|5");
    good(r"m,hostname=node\=9 value=1 5", "m|alpha|node=9||1|5");
    good(r"m,hostname=h,type=t,type-id=a\b value=1 5", r"m|alpha|h|ta\b|1|5");
    good(r"m,hostname=h,type=t,type-id=a\\b value=1 5", r"m|alpha|h|ta\\b|1|5");
    good(r"m,hostname=h,type=t,type-id=a\\\ b value=1 5", r"m|alpha|h|ta\\ b|1|5");
    good(r"m,hostname=h,type=t,type-id=\,\=\ x value=1 5", "m|alpha|h|t,= x|1|5");
    good(r"m\,n\ o,hostname=h value=1 5", "m,n o|alpha|h||1|5");
    good(r"m\=n,hostname=h value=1 5", r"m\=n|alpha|h||1|5");
    good(r"m,hostname=h,a\,b\=c=d\ e value=1 5", "m|alpha|h||1|5");
    // The backslash takes the space, so the line goes on and has no field.
    bad(r"m,hostname=h\ value=1", 20, Malformed::TagValueEquals);
    good("m,hostname=h,type=\"a,type-id=b\" value=1 5", "m|alpha|h|\"ab\"|1|5");
    good("m,hostname=ünï,type=\u{1f600} value=1 5", "m|alpha|ünï|\u{1f600}|1|5");
}

#[test]
fn a_malformed_prefix_is_bad_where_it_goes_wrong() {
    bad(",hostname=h value=1 5", 1, Malformed::MetricMissing);
    bad("", 1, Malformed::MetricMissing);
    bad(" value=1", 1, Malformed::MetricMissing);
    bad("\tm,hostname=h value=1 5", 1, Malformed::MetricMissing);
    bad("m,,hostname=h value=1 5", 3, Malformed::TagKeyMissing);
    bad("m,=h value=1 5", 3, Malformed::TagKeyMissing);
    bad("m,hostname=h, value=1 5", 14, Malformed::TagKeyMissing);
    bad("m,hostname value=1 5", 11, Malformed::TagEqualsMissing);
    bad("m,hostname,cluster=c value=1 5", 11, Malformed::TagEqualsMissing);
    bad("m,hostname= value=1 5", 12, Malformed::TagValueMissing);
    bad("m,hostname=,cluster=c value=1 5", 12, Malformed::TagValueMissing);
    bad("m,hostname=h,unit= value=1 5", 19, Malformed::TagValueMissing);
    bad("m,hostname==h value=1 5", 12, Malformed::TagValueMissing);
    bad("m,hostname=a=b value=1 5", 13, Malformed::TagValueEquals);
    bad("m\tx,hostname=h value=1 5", 2, Malformed::ControlCharacter);
    bad("m,host\tname=h value=1 5", 7, Malformed::ControlCharacter);
    bad("m,hostname=\0 value=1 5", 12, Malformed::ControlCharacter);
    bad("m,hostname=h\rx value=1 5", 13, Malformed::ControlCharacter);
    bad("m,hostname=h\tvalue=1 5", 13, Malformed::ControlCharacter);
    bad("m,hostname=h\u{7f} value=1 5", 13, Malformed::ControlCharacter);
    let column = |line: &[u8]| parse_prefix(line).unwrap_err();
    let utf8 = |column| BadLine { column, what: Malformed::InvalidUtf8 };
    assert_eq!(column(b"m\xff,hostname=h"), utf8(2));
    assert_eq!(column(b"m,hostname=a\xc3"), utf8(13));
    assert_eq!(column(b"m,hostname=h,\xff=1"), utf8(14));
    assert_eq!(column(b"m,hostname=h,unit=\xff"), utf8(19));
    assert_eq!(column(b"m,hostname=h x"), BadLine { column: 13, what: Malformed::Space });
}

#[test]
fn a_malformed_rest_is_bad_where_it_goes_wrong() {
    use Malformed as M;
    for (rest, column, what) in [
        ("", 1, M::FieldMissing),
        (" ", 2, M::FieldMissing),
        ("    ", 5, M::FieldMissing),
        (" 1700000060", 12, M::FieldEqualsMissing),
        (" value", 7, M::FieldEqualsMissing),
        (" value 5", 7, M::FieldEqualsMissing),
        (" =1 5", 2, M::FieldKeyMissing),
        (" ,value=1", 2, M::FieldKeyMissing),
        (" value=1, 5", 10, M::FieldKeyMissing),
        (" value=1,", 10, M::FieldKeyMissing),
        (" value=1,,x=2", 10, M::FieldKeyMissing),
        (" value= 5", 8, M::FieldValueMissing),
        (" value=", 8, M::FieldValueMissing),
        (" value=,x=1", 8, M::FieldValueMissing),
        (" val=1 5", 2, M::UnknownField),
        (" Value=1 5", 2, M::UnknownField),
        (" \"value\"=1 5", 2, M::UnknownField),
        (" value=1,x=2 5", 10, M::UnknownField),
        (" value=x,x=2,y=3 5", 10, M::UnknownField),
        (" foo=\"a\" 5", 2, M::UnknownField),
        (" value=+5 5", 8, M::Number),
        (" value=NaN 5", 8, M::Number),
        (" value=inf 5", 8, M::Number),
        (" value=-inf 5", 8, M::Number),
        (" value=0x10 5", 8, M::Number),
        (" value=1_0 5", 8, M::Number),
        (" value=1i5 5", 8, M::Number),
        (" value=-3u 5", 8, M::Number),
        (" value=1=2 5", 8, M::Number),
        (" value='1' 5", 8, M::Number),
        (" value=1\"a\" 5", 8, M::Number),
        (" value=tru 5", 8, M::Number),
        (" value=t 5", 8, M::Boolean),
        (" value=FALSE 5", 8, M::Boolean),
        (" value=9223372036854775808i 5", 8, M::IntegerRange),
        (" value=18446744073709551616u 5", 8, M::IntegerRange),
        (" value=\"a 5", 8, M::QuoteMissing),
        (" value=\"a\"b 5", 11, M::StringTail),
        (" value=1\t5", 9, M::ControlCharacter),
        (" val\tue=1", 5, M::ControlCharacter),
        (" \tvalue=1", 2, M::ControlCharacter),
        (" value=\"a\"\t5", 11, M::ControlCharacter),
        (" value=1 17000x", 10, M::Time),
        (" value=1 1700000000.5", 10, M::Time),
        (" value=1 +5", 10, M::Time),
        (" value=1 -", 10, M::Time),
        (" value=1 5s", 10, M::Time),
        (" value=1 5\t", 10, M::Time),
        (" value=1 9223372036854775808", 10, M::TimeRange),
        (" value=1 5 6", 12, M::TimeTail),
        (" value=1 5 value=2", 12, M::TimeTail),
        (" value=1e39 x", 13, M::Time),
    ] {
        assert_eq!(parse_rest(rest.as_bytes()), Err(Fate::Bad(BadLine { column, what })), "{rest}");
        // The column of the line counts the prefix too.
        bad(&format!("m,hostname=h{rest}"), 12 + column, what);
    }
}

#[test]
fn of_several_fields_value_only_the_last_counts() {
    good("m,hostname=h value=1,value=2 5", "m|alpha|h||2|5");
    good("m,hostname=h value=x,value=2 5", "m|alpha|h||2|5");
    bad("m,hostname=h value=1,value=x 5", 28, Malformed::Number);
}

#[test]
fn messages_of_other_kinds_are_skipped_whatever_else_they_hold() {
    for (rest, skip) in [
        (" event=\"node down\" 5", Skip::Event),
        (" event=\"a, \\\" b=c\" 5", Skip::Event),
        (" log=\"x\"", Skip::Log),
        (" control=\"get\" 5", Skip::Control),
        (" log=\"x\",level=3i nonsense", Skip::Log),
        (" value=1,event=\"x\" 5", Skip::Event),
        (" foo=1,control=\"x\" 5", Skip::Control),
        (" value=x,log=\"x\" 5", Skip::Log),
        (" value=\"cc-metric-colle\" 5", Skip::Text),
        (" value=\"\" 5", Skip::Text),
        (" value=\"1\"", Skip::Text),
        (" value=\"text\" nonsense", Skip::Text),
    ] {
        assert_eq!(parse_rest(rest.as_bytes()), Err(Fate::Skip(skip)), "{rest}");
    }
}

#[test]
fn a_value_that_f32_cannot_hold_is_refused() {
    let range = Err(Fate::Refused(Refusal::ValueRange));
    for value in ["1e39", "-1e39", "1e400", "-1e400", "3.5e38", "340282366920938463463374607431768211456"] {
        assert_eq!(parse_rest(format!(" value={value} 5").as_bytes()), range, "{value}");
        assert_eq!(parse_rest(format!(" value={value},value={value}").as_bytes()), range, "{value}");
    }
    assert_eq!(parse_rest(b" value=3.4028235e38 5"), Ok((f32::MAX, Some(5))));
    // Nearer to the greatest f32 than to the one that would come next.
    assert_eq!(parse_rest(b" value=3.40282356e38 5"), Ok((f32::MAX, Some(5))));
    assert_eq!(parse_rest(b" value=1e-400 5"), Ok((0.0, Some(5))));
}

#[test]
fn names_that_are_no_names_are_refused_and_not_bad() {
    let refused = |refusal| Err(Fate::Refused(refusal));
    assert_eq!(fate("m value=1 5"), refused(Refusal::HostMissing));
    assert_eq!(fate("m,cluster=c value=1 5"), refused(Refusal::HostMissing));
    assert_eq!(fate("m,hostname=../evil value=1 5"), refused(Refusal::HostName));
    assert_eq!(fate("m,hostname=a/b value=1 5"), refused(Refusal::HostName));
    assert_eq!(fate(r"m,hostname=a\\b value=1 5"), refused(Refusal::HostName));
    assert_eq!(fate("m,hostname=. value=1 5"), refused(Refusal::HostName));
    assert_eq!(fate("m,cluster=..,hostname=h value=1 5"), refused(Refusal::ClusterName));
    assert_eq!(fate("m,cluster=.wal,hostname=h value=1 5"), refused(Refusal::ClusterName));
    assert_eq!(fate("m,cluster=a\u{85}b,hostname=h value=1 5"), refused(Refusal::ClusterName));
    let long = "z".repeat(256);
    assert_eq!(fate(&format!("{long},hostname=h value=1 5")), refused(Refusal::MetricName));
    assert_eq!(fate(&format!("m,cluster={long},hostname=h value=1 5")), refused(Refusal::ClusterName));
    assert_eq!(fate(&format!("m,hostname={long} value=1 5")), refused(Refusal::HostName));
    assert_eq!(fate(&format!("m,hostname=h,type={long} value=1 5")), refused(Refusal::ComponentName));
    // The name counts as a whole: 200 + 56 bytes.
    let (kind, id) = (&long[..200], &long[..56]);
    let component = format!("m,hostname=h,type={kind},type-id={id} value=1 5");
    assert_eq!(fate(&component), refused(Refusal::ComponentName));
    let sub = format!("m,hostname=h,type=t,stype={kind},stype-id={id} value=1 5");
    assert_eq!(fate(&sub), refused(Refusal::ComponentName));
    // What is left out is not looked at.
    assert!(fate(&format!("m,hostname=h,type=node,type-id={long},stype={long} value=1 5")).is_ok());
    good(&format!("m,hostname={} value=1 5", &long[..255]), &format!("m|alpha|{}||1|5", &long[..255]));
}

#[test]
fn the_cluster_comes_from_the_line_or_by_default_and_without_any_the_line_is_bad() {
    let place = |prefix: &str, default: Option<&str>| {
        let parsed = parse_prefix(prefix.as_bytes()).unwrap();
        parsed.place(default, NAME_BYTES_MAX, &mut String::new()).map(|place| place.cluster.to_owned())
    };
    let missing = Err(Fate::Bad(BadLine { column: 1, what: Malformed::ClusterMissing }));
    assert_eq!(place("m,cluster=c,hostname=h", Some("d")), Ok("c".to_owned()));
    assert_eq!(place("m,cluster=c,hostname=h", None), Ok("c".to_owned()));
    assert_eq!(place("m,hostname=h", Some("d")), Ok("d".to_owned()));
    assert_eq!(place("m,hostname=h", None), missing);
    assert_eq!(place("m,hostname=h", Some("")), missing);
    assert_eq!(place("m,hostname=h", Some("..")), Err(Fate::Refused(Refusal::ClusterName)));
    assert_eq!(place("m", None), Err(Fate::Refused(Refusal::HostMissing)));
}

#[test]
fn of_a_line_only_the_metric_is_parsed_first() {
    for (line, metric) in [
        ("this is not line protocol at all", "this"),
        ("{\"metric\":\"load\",\"value\":1}", "{\"metric\":\"load\""),
        ("m,hostname=", "m"),
        ("m,,,", "m"),
        ("m\tx", "m"),
        (r"m\ n\,o\p", r"m n,o\p"),
        ("m", "m"),
    ] {
        let (prefix, _) = split_prefix(line.as_bytes());
        assert_eq!(metric_of(prefix).as_deref(), Ok(metric), "{line}");
    }
    assert_eq!(metric_of(b""), Err(BadLine { column: 1, what: Malformed::MetricMissing }));
    assert_eq!(metric_of(b",a"), Err(BadLine { column: 1, what: Malformed::MetricMissing }));
    assert_eq!(metric_of(b"a\xffb,"), Err(BadLine { column: 2, what: Malformed::InvalidUtf8 }));
}

fn numbered(body: &str) -> Vec<(usize, usize, &str)> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    lines(body.as_bytes()).map(|line| (line.number, line.indent, text(line.bytes))).collect()
}

#[test]
fn empty_lines_comments_and_indentation_are_passed_over_and_counted() {
    assert_eq!(numbered(""), []);
    assert_eq!(numbered("\n\n\n"), []);
    assert_eq!(numbered("\r\n  \r\n   "), []);
    assert_eq!(numbered("a"), [(1, 0, "a")]);
    assert_eq!(numbered("a\nb\n"), [(1, 0, "a"), (2, 0, "b")]);
    assert_eq!(numbered("a\r\n  b \r\nc\r"), [(1, 0, "a"), (2, 2, "b "), (3, 0, "c")]);
    assert_eq!(numbered("# c\n\n  # d\n e#f"), [(4, 1, "e#f")]);
    assert_eq!(numbered("#\ta comment with a tab\n!a"), [(2, 0, "!a")]);
    assert_eq!(numbered("\ta\n\t\n,"), [(1, 0, "\ta"), (2, 0, "\t"), (3, 0, ",")]);
    assert_eq!(numbered("a\rb\n"), [(1, 0, "a\rb")]);
    let last = lines(b"a\n#").last().unwrap();
    assert_eq!((last.number, last.bytes), (1, &b"a"[..]));
}

/// The lines that remain when every bad line may be the beginning of a string over several.
fn joined(body: &str) -> Vec<(usize, String)> {
    let mut all = lines(body.as_bytes());
    let mut out = Vec::new();
    while let Some(line) = all.next() {
        let (prefix, rest) = split_prefix(line.bytes);
        let skipped = parse_rest(rest).is_err() && all.skip_string(rest);
        let text = if skipped { "skipped".to_owned() } else { String::from_utf8_lossy(prefix).into_owned() };
        out.push((line.number, text));
    }
    out
}

#[test]
fn a_string_over_several_lines_belongs_to_its_line() {
    let skipped = |number| (number, "skipped".to_owned());
    let line = |number, text: &str| (number, text.to_owned());
    assert_eq!(joined("a log=\"x\ny\" 5\nb value=1 5\n"), [skipped(1), line(3, "b")]);
    assert_eq!(joined("a log=\"x\r\n\r\n\\\"y\" 5\r\nb value=1 5"), [skipped(1), line(4, "b")]);
    assert_eq!(joined("a value=1,log=\"x\ny\",level=3,z=\"\"  5 \nb value=1"), [skipped(1), line(3, "b")]);
    assert_eq!(joined("a log=\"x\n\""), [skipped(1)]);
    assert_eq!(joined("a log=\"x\n\"\nb value=1"), [skipped(1), line(3, "b")]);
    // A sample in a message is text.
    assert_eq!(joined("a log=\"x\nb value=1 5\n\" 5\nc value=2"), [skipped(1), line(4, "c")]);
}

#[test]
fn a_stray_quote_costs_its_own_line_only() {
    let line = |number, text: &str| (number, text.to_owned());
    assert_eq!(joined("a value=\"x\nb value=1 5\n"), [line(1, "a"), line(2, "b")]);
    assert_eq!(
        joined("a value=\"x 5\nb value=\"y\" 5\nc value=1"),
        [line(1, "a"), line(2, "b"), line(3, "c")]
    );
    assert_eq!(joined("a value=\"\\\"\nb value=1"), [line(1, "a"), line(2, "b")]);
    assert_eq!(joined("a x\"y=\nb\" 5"), [line(1, "a"), line(2, "b\"")]);
    assert_eq!(joined("a value=\"x\ny\"5\nb value=1"), [line(1, "a"), line(2, "y\"5"), line(3, "b")]);
    assert_eq!(joined("a value=\"x\ny\" 5s\nb value=1"), [line(1, "a"), line(2, "y\""), line(3, "b")]);
    assert_eq!(joined("a value=\"x\ny\",z\nb value=1"), [line(1, "a"), line(2, "y\",z"), line(3, "b")]);
}

#[test]
fn an_error_names_the_thing_and_the_place() {
    let line = b"cpu_load,hostname=h val=1 5";
    let (prefix, rest) = split_prefix(line);
    let Err(Fate::Bad(bad)) = parse_rest(rest) else { panic!("a bad line") };
    let bad = bad.shifted(prefix.len());
    assert_eq!(bad.to_string(), "unknown field at column 21");
    assert_eq!(bad.describe(line), "unknown field at column 21: \"val=1 5\"");
    assert_eq!(Fate::Bad(bad).to_string(), bad.to_string());
    assert_eq!(Fate::Skip(Skip::Event).to_string(), "skipped: an event");
    assert_eq!(Fate::Refused(Refusal::HostName).to_string(), "refused: host name");
    let end = BadLine { column: 4, what: Malformed::FieldMissing };
    assert_eq!(end.describe(b"abc"), "field missing at column 4, the end of the line");
    assert_eq!(end.describe(b""), "field missing at column 4, the end of the line");
    let long = BadLine { column: 1, what: Malformed::MetricMissing }.describe(&[0; 50]);
    assert_eq!(long, format!("metric name missing at column 1: \"{}...\"", "\\x00".repeat(40)));
}

#[test]
fn the_lists_of_reasons_are_whole_and_in_order() {
    for (number, refusal) in Refusal::ALL.into_iter().enumerate() {
        assert_eq!(refusal as usize, number);
    }
    assert_eq!(Refusal::Metrics as usize + 1, Refusal::ALL.len());
    for (number, skip) in Skip::ALL.into_iter().enumerate() {
        assert_eq!(skip as usize, number);
    }
    assert_eq!(Skip::UnknownMetric as usize + 1, Skip::ALL.len());
}

/// [`split_prefix`] one byte at a time: escapes are pairs of a backslash and one of three bytes.
fn split_slowly(line: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    while at < line.len() {
        let pair = line[at] == b'\\' && line.get(at + 1).is_some_and(|next| b" ,=".contains(next));
        if line[at] == b' ' {
            return line.split_at(at);
        }
        at += if pair { 2 } else { 1 };
    }
    (line, &[])
}

/// Lines of bytes that mean something, escapes among them.
fn likely_bytes(bytes_max: usize) -> impl Strategy<Value = Vec<u8>> {
    let likely = proptest::sample::select(&b"aav=,,   \\\\\"\n\r\t#15.-ie"[..]);
    proptest::collection::vec(prop_oneof![8 => likely, 1 => any::<u8>()], 0..bytes_max)
}

/// [`lines`] by the letter of its grammar.
fn lines_slowly(body: &[u8]) -> Vec<(usize, usize, &[u8])> {
    let cut = |number: usize, line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let indent = line.iter().position(|byte| *byte != b' ')?;
        (line[indent] != b'#').then_some((number + 1, indent, line.len()))
    };
    let all = body.split(|byte| *byte == b'\n').enumerate();
    all.filter_map(|(number, line)| cut(number, line).map(|(n, indent, end)| (n, indent, &line[indent..end])))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_message_is_cut_where_a_slow_reader_cuts_it(body in likely_bytes(120)) {
        let found: Vec<_> = lines(&body).map(|line| (line.number, line.indent, line.bytes)).collect();
        prop_assert_eq!(found, lines_slowly(&body));
    }

    #[test]
    fn the_prefix_ends_where_a_slow_reader_finds_its_end(line in likely_bytes(60)) {
        prop_assert_eq!(split_prefix(&line), split_slowly(&line));
    }

    #[test]
    fn any_bytes_are_taken_apart_without_a_panic_and_columns_lie_in_their_line(body in likely_bytes(200)) {
        let mut all = lines(&body);
        let mut before = 0;
        while let Some(line) = all.next() {
            prop_assert!(line.number > before);
            before = line.number;
            prop_assert!(!line.bytes.is_empty() && !line.bytes.contains(&b'\n'));
            let (prefix, rest) = split_prefix(line.bytes);
            prop_assert_eq!(line.split(), (prefix, rest));
            prop_assert_eq!(&[prefix, rest].concat()[..], line.bytes);
            let named = parse_prefix(prefix);
            match (&named, metric_of(prefix)) {
                (Ok(named), metric) => prop_assert_eq!(Ok(&named.metric), metric.as_ref()),
                (Err(bad), _) => {
                    prop_assert!((1..=prefix.len() + 1).contains(&bad.column));
                    prop_assert!(!bad.describe(line.bytes).is_empty());
                }
            }
            if let Ok(named) = named {
                named.place(Some("c"), NAME_BYTES_MAX, &mut String::new()).ok();
            }
            match parse_rest(rest) {
                Ok((value, _)) => prop_assert!(value.is_finite()),
                Err(Fate::Bad(bad)) => prop_assert!((1..=rest.len() + 1).contains(&bad.column)),
                Err(_) => {}
            }
            all.skip_string(rest);
        }
        let ends = body.iter().filter(|byte| **byte == b'\n').count();
        prop_assert!(before <= ends + 1);
    }

    #[test]
    fn what_is_escaped_comes_back(
        names in proptest::collection::vec("[a-zA-Z0-9 ,=.:%ü\"-]{1,12}", 7),
        order in Just(vec![0, 1, 2, 3, 4, 5]).prop_shuffle(),
    ) {
        let escape = |name: &str, which: &[char]| {
            name.chars().flat_map(|c| which.contains(&c).then_some('\\').into_iter().chain([c])).collect::<String>()
        };
        let tags = ["cluster", "hostname", "type", "type-id", "stype", "stype-id"];
        let mut line = escape(&names[6], &[',', ' ']);
        for tag in order {
            line += &format!(",{}={}", tags[tag], escape(&names[tag], &[',', ' ', '=']));
        }
        let whole = format!("{line} value=1 5");
        let (prefix, rest) = split_prefix(whole.as_bytes());
        prop_assert_eq!((prefix, rest), (line.as_bytes(), &b" value=1 5"[..]));
        let named = parse_prefix(prefix).unwrap();
        let found = [&named.cluster, &named.host, &named.component, &named.component_id, &named.subcomponent, &named.subcomponent_id];
        for (found, name) in found.into_iter().zip(&names) {
            prop_assert_eq!(found.as_deref(), Some(&name[..]));
        }
        prop_assert_eq!(&named.metric, &names[6]);
    }
}
