//! `.json`: the original's readable checkpoint.
//!
//! The arrays of values are nearly all of a file, so serde sees the structure only and each array is scanned
//! by hand; numbers go to f32 in one rounding.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::collect::{Collector, cleanse, frequency};
use super::levels::{Level, in_order};
use super::{Decoded, LEVELS_MAX};
use crate::error::{Damage, EncodeError, FormatError};
use crate::run::{Dump, Run};

/// The file of `dump`. Equal dumps give equal bytes; series without values are left out.
///
/// Numbers are the shortest that give the same f32 back; the original's one decimal would change them.
///
/// # Errors
/// Names the range or the series that a reader would refuse.
pub fn encode(dump: &Dump) -> Result<Vec<u8>, EncodeError> {
    let runs = in_order(dump)?;
    let level = LevelOut { from: dump.from, to: dump.to, level: Level::host(&runs) };
    let mut bytes = serde_json::to_vec(&level).map_err(EncodeError::Json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What the file `bytes` says.
///
/// # Errors
/// The first thing that is wrong; nothing is handed out then.
pub fn decode(bytes: &[u8]) -> Result<Decoded, FormatError> {
    let mut reading = Reading {
        begin: bytes.as_ptr() as usize,
        path: Vec::new(),
        collector: Collector::new(bytes.len()),
        damage: None,
    };
    let mut range = (0, 0);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = LevelIn { reading: &mut reading, range: Some(&mut range) }.deserialize(&mut json);
    match (read.and_then(|()| json.end()), reading.damage) {
        (Ok(()), _) => reading.collector.finish(range.0, range.1),
        (Err(_), Some((offset, damage))) => Err(FormatError::Damaged { offset, damage }),
        (Err(e), None) if is_cut(&e, bytes) => {
            Err(FormatError::Damaged { offset: bytes.len() as u64, damage: Damage::CutShort })
        }
        (Err(e), None) => Err(FormatError::Json(e)),
    }
}

/// True if the bytes are JSON as far as they go. serde_json calls a number that ends with the file no number,
/// rather than the end of the file.
fn is_cut(error: &serde_json::Error, bytes: &[u8]) -> bool {
    let at_end = || {
        let lines = bytes.split_inclusive(|&b| b == b'\n');
        let before: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
        before + error.column() >= bytes.len()
    };
    error.is_eof() || error.is_syntax() && at_end()
}

/// The range that a file says, without decoding its values; `None` if it is no JSON object.
pub fn peek_range(bytes: &[u8]) -> Option<(i64, i64)> {
    #[derive(Deserialize)]
    struct Range {
        #[serde(default)]
        from: i64,
        #[serde(default)]
        to: i64,
    }
    // serde takes an array for a struct, too.
    let object = bytes.trim_ascii_start().starts_with(b"{");
    let Range { from, to } = object.then(|| serde_json::from_slice(bytes).ok())??;
    Some((from, to))
}

struct LevelOut<'a> {
    from: i64,
    to: i64,
    level: Level<'a>,
}

impl Serialize for LevelOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("", 4)?;
        object.serialize_field("metrics", &MetricsOut(self.level))?;
        object.serialize_field("children", &ChildrenOut(self))?;
        object.serialize_field("from", &self.from)?;
        object.serialize_field("to", &self.to)?;
        object.end()
    }
}

struct MetricsOut<'a>(Level<'a>);

impl Serialize for MetricsOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = self.0.own();
        let mut map = serializer.serialize_map(Some(own.len()))?;
        for run in own {
            map.serialize_entry(&*run.metric, &RunOut(run))?;
        }
        map.end()
    }
}

struct ChildrenOut<'a>(&'a LevelOut<'a>);

impl Serialize for ChildrenOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let LevelOut { from, to, level } = *self.0;
        // Without a length, or the empty map would be written in another way.
        let mut map = serializer.serialize_map(None)?;
        for (name, level) in level.children() {
            map.serialize_entry(name, &LevelOut { from, to, level })?;
        }
        map.end()
    }
}

struct RunOut<'a>(&'a Run);

impl Serialize for RunOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("", 3)?;
        object.serialize_field("frequency", &self.0.frequency_s)?;
        object.serialize_field("start", &self.0.base)?;
        // serde_json writes NaN as null.
        object.serialize_field("data", &self.0.values)?;
        object.end()
    }
}

/// What has been read so far.
struct Reading {
    /// Address of the first byte of the file: offsets are counted from it.
    begin: usize,
    /// Names of the levels that are being read.
    path: Vec<Box<str>>,
    collector: Collector,
    /// serde's errors are texts; this is what was wrong.
    damage: Option<(u64, Damage)>,
}

impl Reading {
    fn damaged<E: serde::de::Error>(&mut self, at: &str, damage: Damage) -> E {
        let offset = (at.as_ptr() as usize).saturating_sub(self.begin);
        self.damage = Some((offset as u64, damage));
        E::custom(damage)
    }
}

/// One level of the tree.
struct LevelIn<'r> {
    reading: &'r mut Reading,
    /// Where the range goes; below the host it only repeats.
    range: Option<&'r mut (i64, i64)>,
}

impl<'de> DeserializeSeed<'de> for LevelIn<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LevelIn<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with metrics and children")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut range = (0, 0);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "metrics" => map.next_value_seed(NamedIn { reading: self.reading, what: What::Metrics })?,
                "children" => map.next_value_seed(NamedIn { reading: self.reading, what: What::Children })?,
                "from" => range.0 = map.next_value()?,
                "to" => range.1 = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if let Some(out) = self.range {
            *out = range;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum What {
    Metrics,
    Children,
}

/// The map below `metrics` or `children`, or `null`, which Go writes for a map that was never made.
struct NamedIn<'r> {
    reading: &'r mut Reading,
    what: What,
}

impl<'de> DeserializeSeed<'de> for NamedIn<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for NamedIn<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of metrics or children by name, or null")
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match self.what {
                What::Metrics => {
                    let series: SeriesIn<'de> = map.next_value()?;
                    series.collect(name.into_boxed_str(), self.reading)?;
                }
                What::Children if self.reading.path.len() == LEVELS_MAX => {
                    let level: &RawValue = map.next_value()?;
                    return Err(self.reading.damaged(level.get(), Damage::TooDeep));
                }
                What::Children => {
                    self.reading.path.push(name.into_boxed_str());
                    map.next_value_seed(LevelIn { reading: self.reading, range: None })?;
                    self.reading.path.pop();
                }
            }
        }
        Ok(())
    }
}

/// A series whose values are still text.
#[derive(Deserialize)]
struct SeriesIn<'a> {
    #[serde(default)]
    frequency: i64,
    #[serde(default)]
    start: i64,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

impl SeriesIn<'_> {
    fn collect<E: serde::de::Error>(self, metric: Box<str>, reading: &mut Reading) -> Result<(), E> {
        // No values: nothing to say, whatever else is missing too.
        let Some(data) = self.data else { return Ok(()) };
        let text = data.get();
        let mut values = scan(text).map_err(|at| reading.damaged(at, Damage::NotANumber))?;
        if values.is_empty() {
            return Ok(());
        }
        let frequency_s = frequency(self.frequency).map_err(|damage| reading.damaged(text, damage))?;
        reading.collector.infinite += cleanse(&mut values);
        let offset = (text.as_ptr() as usize).saturating_sub(reading.begin) as u64;
        let pushed = reading.collector.push(&reading.path, metric, self.start, frequency_s, values, offset);
        pushed.map_err(|damage| reading.damaged(text, damage))
    }
}

/// The numbers of a JSON array, `null` as missing; what is beyond f32 comes out infinite.
///
/// `text` is known to be JSON. Fails with the first element that is neither a number nor `null`.
fn scan(text: &str) -> Result<Vec<f32>, &str> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(text)?;
    if inner.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    // An element has at least two bytes with its comma, so this is at most twice the text.
    let mut values = Vec::with_capacity(1 + inner.bytes().filter(|&b| b == b',').count());
    for element in inner.split(',') {
        let element = element.trim_ascii();
        values.push(match element {
            "null" => f32::NAN,
            // JSON has no `inf` and `nan`, so that what std takes beyond JSON cannot stand here unquoted.
            number => match short_decimal(number) {
                Some(value) => value,
                None => number.parse().map_err(|_| number)?,
            },
        });
    }
    Ok(values)
}

/// Powers of ten that f64 holds exactly.
const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// A number of at most 15 digits without exponent, rounded as std does; `None` leaves it to std.
///
/// The quotient of two exact f64 is rounded once. Rounding it again to f32 gives the wrong neighbour only if it
/// lies half way between two f32, for then the first rounding may have put it there.
fn short_decimal(text: &str) -> Option<f32> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // With the point; also keeps the sum below 10^16.
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let (mut whole, mut decimals, mut point) = (0_u64, 0_usize, false);
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {
                whole = whole * 10 + u64::from(byte - b'0');
                decimals += usize::from(point);
            }
            b'.' if !point => point = true,
            _ => return None,
        }
    }
    if digits.len() - usize::from(point) > 15 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "below 10^15, so exact")]
    let value = whole as f64 / POWERS.get(decimals)?;
    let half_way = value.to_bits() & 0x1fff_ffff == 0x1000_0000;
    if half_way || whole != 0 && value < f64::from(f32::MIN_POSITIVE) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounds, and 10^15 is far below the end of f32")]
    let value = value as f32;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests;
