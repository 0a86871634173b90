//! A reader of line protocol that shares nothing with the store's, for input that is known to be well formed.

use anyhow::{Context as _, bail};

/// Where a series lives: everything that a query needs to name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// The host.
    pub(crate) host: String,
    /// The metric.
    pub(crate) metric: String,
    /// Type and id of a component; `None` for the host itself.
    pub(crate) component: Option<(String, String)>,
    /// Type and id of a part of the component.
    pub(crate) part: Option<(String, String)>,
}

impl Place {
    /// A series of the host itself.
    pub(crate) fn node(host: &str, metric: &str) -> Self {
        Self { host: host.to_owned(), metric: metric.to_owned(), component: None, part: None }
    }

    /// What stands before the first space of a line of this series.
    pub(crate) fn prefix(&self, cluster: &str) -> String {
        let mut text = format!("{},cluster={cluster},hostname={}", self.metric, self.host);
        match &self.component {
            None => text.push_str(",type=node"),
            Some((kind, id)) => text.push_str(&format!(",type={kind},type-id={id}")),
        }
        if let Some((kind, id)) = &self.part {
            text.push_str(&format!(",stype={kind},stype-id={id}"));
        }
        text
    }
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Line {
    /// A number.
    Sample {
        /// Whose.
        place: Place,
        /// When, seconds since the epoch.
        time_s: i64,
        /// How much.
        value: f64,
    },
    /// A string: not for a metric store.
    Text,
}

/// Reads one line.
pub(crate) fn parse(line: &str) -> anyhow::Result<Line> {
    let (prefix, rest) = line.split_once(' ').context("no value")?;
    let (field, time) = rest.rsplit_once(' ').context("no time")?;
    let value = field.strip_prefix("value=").context("the field is not `value`")?;
    if value.starts_with('"') {
        return Ok(Line::Text);
    }
    let value: f64 = value.trim_end_matches(['i', 'u']).parse().context("the value is no number")?;
    let time_s: i64 = time.parse().context("the time is no number of seconds")?;
    let mut words = prefix.split(',');
    let metric = words.next().unwrap_or_default();
    let mut tags = [("hostname", ""), ("type", ""), ("type-id", ""), ("stype", ""), ("stype-id", "")];
    for word in words {
        let (key, value) = word.split_once('=').context("a tag without a value")?;
        if let Some(tag) = tags.iter_mut().find(|tag| tag.0 == key) {
            tag.1 = value;
        }
    }
    let [host, kind, id, part, part_id] = tags.map(|tag| tag.1.to_owned());
    if host.is_empty() {
        bail!("no host");
    }
    let mut place = Place::node(&host, metric);
    // A subtype below `node` is no level of its own: the last line of a slot is the host's value.
    if !kind.is_empty() && kind != "node" {
        place.component = Some((kind, id));
        place.part = (!part.is_empty()).then_some((part, part_id));
    }
    Ok(Line::Sample { place, time_s, value })
}

/// The same line, `shift_s` later.
pub(crate) fn shifted(line: &str, shift_s: i64) -> anyhow::Result<String> {
    let (rest, time) = line.rsplit_once(' ').context("no time")?;
    let time_s: i64 = time.parse().context("the time is no number of seconds")?;
    Ok(format!("{rest} {}", time_s + shift_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_component_names_its_series() {
        let line =
            "mem_bw,cluster=c,hostname=h,type=socket,type-id=1,unit=GB/s,stype=dimm,stype-id=3 value=4i 170";
        let Line::Sample { place, time_s, value } = parse(line).unwrap() else {
            panic!("{line} is a sample")
        };
        assert_eq!((time_s, value), (170, 4.0));
        assert_eq!(place.component, Some(("socket".to_owned(), "1".to_owned())));
        assert_eq!(place.part, Some(("dimm".to_owned(), "3".to_owned())));
        assert_eq!(
            place.prefix("c"),
            "mem_bw,cluster=c,hostname=h,type=socket,type-id=1,stype=dimm,stype-id=3"
        );
    }

    #[test]
    fn a_node_with_a_subtype_is_the_host_and_a_string_is_no_sample() {
        let line = "net,cluster=c,hostname=h,stype=network,stype-id=lo,type=node value=0.5 -3";
        assert_eq!(
            parse(line).unwrap(),
            Line::Sample { place: Place::node("h", "net"), time_s: -3, value: 0.5 }
        );
        assert_eq!(parse("top,hostname=h,type=node value=\"a b\" 7").unwrap(), Line::Text);
        assert!(parse("top,type=node value=1 7").is_err());
        assert!(parse("top,hostname=h value=x 7").is_err());
    }

    #[test]
    fn a_line_is_shifted_in_time() {
        assert_eq!(shifted("a b=\"c d\" 100", 5).unwrap(), "a b=\"c d\" 105");
        assert!(shifted("a b", 5).is_err());
    }
}
