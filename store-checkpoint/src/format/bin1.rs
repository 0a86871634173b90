//! `.bin` version 1: the original's binary snapshot, through bincode's encoder and decoder.
//!
//! The layout is fixed from outside and bincode's own conventions (u64 lengths) are not it, so every type has
//! a hand-written `Encode` or `Decode`; from bincode come the fixed-width little-endian integers, the sizing
//! pass before a buffer is allocated, and the traits. bincode stands in this module alone.

use std::cell::Cell;

use bincode::config;
use bincode::de::read::Reader;
use bincode::de::{Decode, Decoder, DecoderImpl};
use bincode::enc::write::Writer;
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError as BinError};

use super::collect::{Collector, check_range, cleanse, frequency};
use super::levels::{Level, in_order};
use super::{Decoded, LEVELS_MAX};
use crate::error::{Damage, EncodeError, FormatError};
use crate::run::{Dump, Run};

/// The first four bytes of a file, read little endian.
pub const MAGIC: u32 = 0xCC5B_0001;

/// Bytes of the header: magic, from, to.
pub const HEADER_BYTES: usize = 20;

/// Bytes of a series without name and values, and of a level without entries behind an empty name.
const SERIES_BYTES_MIN: usize = 22;
const CHILD_BYTES_MIN: usize = 10;

/// Values read at a time: a count that lies costs at most one such step of memory.
const VALUES_STEP: usize = 64 * 1024;

const _: () = assert!(HEADER_BYTES == 4 + 8 + 8);
const _: () = assert!(SERIES_BYTES_MIN == 2 + 8 + 8 + 4);
const _: () = assert!(CHILD_BYTES_MIN == 2 + 4 + 4);

/// The file of `dump`. Equal dumps give equal bytes; series without values are left out.
///
/// # Errors
/// Names the range or the series that a reader would refuse.
pub fn encode(dump: &Dump) -> Result<Vec<u8>, EncodeError> {
    let runs = in_order(dump)?;
    let file = FileOut { from: dump.from, to: dump.to, level: Level::host(&runs) };
    bincode::encode_to_vec(file, config::legacy()).map_err(EncodeError::Binary)
}

/// What the file `bytes` says.
///
/// Allocates in proportion to `bytes`, whatever the counts in it claim.
///
/// # Errors
/// The first rule of the format that is broken, and where; nothing is handed out then, because without a
/// checksum the rest is no better.
pub fn decode(bytes: &[u8]) -> Result<Decoded, FormatError> {
    let at = Cell::new(0);
    let reading = Reading {
        at: &at,
        bytes_total: bytes.len(),
        path: Vec::new(),
        collector: Collector::new(bytes.len()),
        damage: None,
    };
    let mut decoder = DecoderImpl::new(Source { bytes, at: &at }, config::legacy(), reading);
    match FileIn::decode(&mut decoder) {
        Ok(file) => std::mem::take(&mut decoder.context().collector).finish(file.from, file.to),
        Err(_) => {
            // Everything but the end of the bytes has left its name in the context.
            let (offset, damage) = decoder.context().damage.unwrap_or((at.get(), Damage::CutShort));
            Err(FormatError::Damaged { offset: offset as u64, damage })
        }
    }
}

/// The range in the header of a file of which at least [`HEADER_BYTES`] bytes are given; `None` if it is not
/// version 1 or says nonsense.
pub fn peek_range(bytes: &[u8]) -> Option<(i64, i64)> {
    let config = config::legacy();
    let ((magic, from, to), _) = bincode::decode_from_slice::<(u32, i64, i64), _>(bytes, config).ok()?;
    (magic == MAGIC && check_range(from, to).is_ok()).then_some((from, to))
}

/// True if `bytes` begin as a version 1 file does.
pub fn is_version_1(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC.to_le_bytes())
}

struct FileOut<'a> {
    from: i64,
    to: i64,
    level: Level<'a>,
}

impl Encode for FileOut<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), BinError> {
        MAGIC.encode(encoder)?;
        self.from.encode(encoder)?;
        self.to.encode(encoder)?;
        self.level.encode(encoder)
    }
}

impl Encode for Level<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), BinError> {
        encode_count(self.own().len(), encoder)?;
        for run in self.own() {
            run.encode(encoder)?;
        }
        encode_count(self.children().count(), encoder)?;
        for (name, level) in self.children() {
            encode_name(name, encoder)?;
            level.encode(encoder)?;
        }
        Ok(())
    }
}

impl Encode for Run {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), BinError> {
        encode_name(&self.metric, encoder)?;
        i64::from(self.frequency_s).encode(encoder)?;
        self.base.encode(encoder)?;
        encode_count(self.values.len(), encoder)?;
        if cfg!(target_endian = "little") {
            return encoder.writer().write(bytemuck::cast_slice(&self.values));
        }
        self.values.iter().try_for_each(|value| encoder.writer().write(&value.to_le_bytes()))
    }
}

fn encode_count<E: Encoder>(count: usize, encoder: &mut E) -> Result<(), BinError> {
    u32::try_from(count).map_err(|_| BinError::Other("more than 2^32 - 1 entries"))?.encode(encoder)
}

fn encode_name<E: Encoder>(name: &str, encoder: &mut E) -> Result<(), BinError> {
    u16::try_from(name.len()).map_err(|_| BinError::Other("name over 65,535 bytes"))?.encode(encoder)?;
    encoder.writer().write(name.as_bytes())
}

/// The bytes of a file and how far they were read; the latter is shared with [`Reading`], which needs it to
/// say where damage lies.
struct Source<'a> {
    bytes: &'a [u8],
    at: &'a Cell<usize>,
}

impl Reader for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> Result<(), DecodeError> {
        let end = self.at.get() + out.len();
        let part = self
            .bytes
            .get(self.at.get()..end)
            .ok_or_else(|| DecodeError::UnexpectedEnd { additional: end.saturating_sub(self.bytes.len()) })?;
        out.copy_from_slice(part);
        self.at.set(end);
        Ok(())
    }
}

/// bincode's context: what has been read so far.
struct Reading<'a> {
    at: &'a Cell<usize>,
    bytes_total: usize,
    /// Names of the levels that are being read.
    path: Vec<Box<str>>,
    collector: Collector,
    damage: Option<(usize, Damage)>,
}

impl Reading<'_> {
    fn bytes_left(&self) -> usize {
        self.bytes_total - self.at.get()
    }

    /// Notes what is wrong at `offset`; bincode's error cannot say it.
    fn damaged(&mut self, offset: usize, damage: Damage) -> DecodeError {
        self.damage = Some((offset, damage));
        DecodeError::Other("damaged")
    }

    /// Refuses a count of entries that cannot all stand in the rest of the file.
    fn check_count(&mut self, offset: usize, count: u32, entry_bytes: usize) -> Result<(), DecodeError> {
        match usize::try_from(count).ok().and_then(|n| n.checked_mul(entry_bytes)) {
            Some(bytes) if bytes <= self.bytes_left() => Ok(()),
            _ => Err(self.damaged(offset, Damage::CountTooLarge)),
        }
    }
}

struct FileIn {
    from: i64,
    to: i64,
}

impl<'a> Decode<Reading<'a>> for FileIn {
    fn decode<D: Decoder<Context = Reading<'a>>>(decoder: &mut D) -> Result<Self, DecodeError> {
        if u32::decode(decoder)? != MAGIC {
            return Err(decoder.context().damaged(0, Damage::NotVersion1));
        }
        let (from, to) = (i64::decode(decoder)?, i64::decode(decoder)?);
        check_range(from, to).map_err(|damage| decoder.context().damaged(4, damage))?;
        LevelIn::decode(decoder)?;
        let reading = decoder.context();
        if reading.bytes_left() > 0 {
            let offset = reading.at.get();
            return Err(reading.damaged(offset, Damage::TrailingBytes));
        }
        Ok(Self { from, to })
    }
}

/// A level whose series went to the collector.
struct LevelIn;

impl<'a> Decode<Reading<'a>> for LevelIn {
    fn decode<D: Decoder<Context = Reading<'a>>>(decoder: &mut D) -> Result<Self, DecodeError> {
        for _ in 0..decode_count(decoder, SERIES_BYTES_MIN)? {
            SeriesIn::decode(decoder)?;
        }
        for _ in 0..decode_count(decoder, CHILD_BYTES_MIN)? {
            let offset = decoder.context().at.get();
            let Name(name) = Name::decode(decoder)?;
            let reading = decoder.context();
            if reading.path.len() == LEVELS_MAX {
                return Err(reading.damaged(offset, Damage::TooDeep));
            }
            reading.path.push(name);
            Self::decode(decoder)?;
            decoder.context().path.pop();
        }
        Ok(Self)
    }
}

/// A series that went to the collector.
struct SeriesIn;

impl<'a> Decode<Reading<'a>> for SeriesIn {
    fn decode<D: Decoder<Context = Reading<'a>>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let offset = decoder.context().at.get();
        let Name(metric) = Name::decode(decoder)?;
        let at_frequency = decoder.context().at.get();
        let frequency_s = frequency(i64::decode(decoder)?)
            .map_err(|damage| decoder.context().damaged(at_frequency, damage))?;
        let base = i64::decode(decoder)?;
        let Values(mut values) = Values::decode(decoder)?;
        let Reading { path, collector, .. } = decoder.context();
        collector.infinite += cleanse(&mut values);
        collector
            .push(path, metric, base, frequency_s, values, offset as u64)
            .map_err(|damage| decoder.context().damaged(offset, damage))?;
        Ok(Self)
    }
}

fn decode_count<'a, D>(decoder: &mut D, entry_bytes: usize) -> Result<u32, DecodeError>
where
    D: Decoder<Context = Reading<'a>>,
{
    let offset = decoder.context().at.get();
    let count = u32::decode(decoder)?;
    decoder.context().check_count(offset, count, entry_bytes)?;
    Ok(count)
}

struct Name(Box<str>);

impl<'a> Decode<Reading<'a>> for Name {
    fn decode<D: Decoder<Context = Reading<'a>>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut bytes = vec![0; usize::from(u16::decode(decoder)?)];
        decoder.reader().read(&mut bytes)?;
        let name = String::from_utf8(bytes).unwrap_or_else(|broken| {
            decoder.context().collector.names_mended += 1;
            String::from_utf8_lossy(broken.as_bytes()).into_owned()
        });
        Ok(Self(name.into_boxed_str()))
    }
}

struct Values(Vec<f32>);

impl<'a> Decode<Reading<'a>> for Values {
    fn decode<D: Decoder<Context = Reading<'a>>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let count = decode_count(decoder, size_of::<f32>())? as usize;
        read_values(count, |part| decoder.reader().read(part)).map(Self)
    }
}

/// Reads `count` values step by step: even if the bound on counts were wrong, a step is all that is allocated
/// before the bytes are there.
fn read_values(
    count: usize,
    mut read: impl FnMut(&mut [u8]) -> Result<(), DecodeError>,
) -> Result<Vec<f32>, DecodeError> {
    let mut values: Vec<f32> = Vec::with_capacity(count.min(VALUES_STEP));
    while values.len() < count {
        let begin = values.len();
        let step = (count - begin).min(VALUES_STEP);
        values.resize(begin + step, 0.0);
        let Some(fresh) = values.get_mut(begin..) else { break };
        read(bytemuck::cast_slice_mut(fresh))?;
        if cfg!(target_endian = "big") {
            fresh.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits().swap_bytes()));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_steps_and_a_lying_count_costs_one_of_them() {
        let (mut largest, mut given) = (0, 0);
        let error = read_values(u32::MAX as usize, |part| {
            largest = largest.max(part.len());
            given += part.len();
            if given > 1 << 20 { Err(DecodeError::UnexpectedEnd { additional: 1 }) } else { Ok(()) }
        });
        assert!(error.is_err());
        assert_eq!(largest, VALUES_STEP * 4);
    }

    #[test]
    fn values_over_several_steps_come_back_in_order() {
        let mut next = 0_u32;
        let values = read_values(VALUES_STEP * 2 + 3, |part| {
            for four in part.chunks_exact_mut(4) {
                #[expect(clippy::cast_precision_loss, reason = "far below 2^24")]
                four.copy_from_slice(&(next as f32).to_le_bytes());
                next += 1;
            }
            Ok(())
        });
        let values = values.unwrap();
        assert_eq!(values.len(), VALUES_STEP * 2 + 3);
        assert!(values.windows(2).all(|pair| pair[0] + 1.0 == pair[1]));
    }

    #[test]
    fn the_header_says_the_range_without_the_rest_of_the_file() {
        let dump = Dump { from: -5, to: 7, runs: Vec::new() };
        let file = encode(&dump).unwrap();
        assert_eq!(peek_range(&file[..HEADER_BYTES]), Some((-5, 7)));
        assert_eq!(peek_range(&file[..HEADER_BYTES - 1]), None);
        let mut other = file.clone();
        other[0] ^= 1;
        assert_eq!(peek_range(&other), None);
        assert!(is_version_1(&file) && !is_version_1(&other) && !is_version_1(&file[..3]));
    }

    #[test]
    fn names_that_are_not_utf_8_are_mended_and_counted() {
        let mut file = encode(&Dump {
            from: 0,
            to: 10,
            runs: vec![Run {
                path: vec!["ab".into()],
                metric: "m".into(),
                base: 0,
                frequency_s: 1,
                values: vec![1.0],
            }],
        })
        .unwrap();
        let at = file.windows(2).position(|w| w == b"ab").unwrap();
        file[at] = 0xe4;
        let decoded = decode(&file).unwrap();
        assert_eq!(decoded.names_mended, 1);
        assert_eq!(&*decoded.dump.runs[0].path[0], "\u{fffd}b");
    }
}
