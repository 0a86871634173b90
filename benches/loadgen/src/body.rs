//! One host's step as the body of a POST, at a cost that does not compete with the server's.
//!
//! The prefixes of a host are formatted once; all names of hosts are equally long, so going to the next host
//! only overwrites the name in place. Formatting each line anew takes more CPU than a good server needs for it.

use crate::fleet::Fleet;
use crate::value::{mix, push_u64};

/// Writes bodies for any host of a fleet, from one set of preformatted prefixes.
#[derive(Debug)]
pub struct BodyWriter<'a> {
    fleet: &'a Fleet,
    /// The prefixes of all series one after the other, each up to and with ` value=`.
    prefixes: Vec<u8>,
    /// Where each prefix ends, and where in it the host's name stands.
    pieces: Vec<Piece>,
    host: u32,
    order: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    start: usize,
    name: usize,
    end: usize,
}

impl<'a> BodyWriter<'a> {
    /// Formats the prefixes of a host.
    #[must_use]
    pub fn new(fleet: &'a Fleet) -> Self {
        let mut prefixes = Vec::new();
        let mut pieces = Vec::with_capacity(fleet.series_per_host());
        for series in fleet.series() {
            let start = prefixes.len();
            let prefix = fleet.prefix(0, *series);
            let name = prefix.find(",hostname=").map_or(0, |at| at + ",hostname=".len());
            prefixes.extend_from_slice(prefix.as_bytes());
            prefixes.extend_from_slice(b" value=");
            pieces.push(Piece { start, name: start + name, end: prefixes.len() });
        }
        Self { fleet, prefixes, pieces, host: 0, order: Vec::new() }
    }

    /// Appends the lines of `host` at `step` to `out`; with a seed in `shuffle` in a random order.
    ///
    /// # Panics
    ///
    /// When the fleet has no such host: its name would not fit.
    pub fn write_step(&mut self, host: u32, step: u32, shuffle: Option<u64>, out: &mut Vec<u8>) {
        assert!(host < self.fleet.options().hosts, "host {host} is not in the fleet");
        self.go_to(host);
        let mut time = Vec::with_capacity(24);
        push_time(self.fleet.time_s(step), &mut time);
        let values = self.fleet.step(host, step);
        match shuffle {
            None => {
                for (index, piece) in self.pieces.iter().enumerate() {
                    out.extend_from_slice(&self.prefixes[piece.start..piece.end]);
                    values.push(index, out);
                    out.extend_from_slice(&time);
                }
            }
            Some(seed) => {
                self.permute(mix(seed ^ mix((u64::from(host) << 32) | u64::from(step))));
                for index in &self.order {
                    let piece = self.pieces[*index as usize];
                    out.extend_from_slice(&self.prefixes[piece.start..piece.end]);
                    values.push(*index as usize, out);
                    out.extend_from_slice(&time);
                }
            }
        }
    }

    fn go_to(&mut self, host: u32) {
        if host != self.host {
            let name = self.fleet.host_name(host);
            for piece in &self.pieces {
                self.prefixes[piece.name..piece.name + name.len()].copy_from_slice(name.as_bytes());
            }
            self.host = host;
        }
    }

    /// Fisher and Yates, from a cheap generator.
    fn permute(&mut self, mut word: u64) {
        let count = u32::try_from(self.pieces.len()).unwrap_or(u32::MAX);
        self.order.clear();
        self.order.extend(0..count);
        for upper in (1..self.order.len()).rev() {
            word = mix(word);
            self.order.swap(upper, (word % (upper as u64 + 1)) as usize);
        }
    }
}

/// Appends ` <seconds>\n`.
fn push_time(time_s: i64, out: &mut Vec<u8>) {
    out.push(b' ');
    if time_s < 0 {
        out.push(b'-');
    }
    push_u64(time_s.unsigned_abs(), out);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::FleetOptions;

    fn lines(fleet: &Fleet, host: u32, step: u32, shuffle: Option<u64>) -> Vec<String> {
        let mut writer = BodyWriter::new(fleet);
        let mut body = Vec::new();
        // Another host before, so that the name has to be replaced.
        writer.write_step(0, 0, None, &mut body);
        body.clear();
        writer.write_step(host, step, shuffle, &mut body);
        String::from_utf8(body).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_the_prefix_the_value_and_the_time_of_each_series() {
        let fleet = Fleet::new(FleetOptions { hosts: 12, ..FleetOptions::default() });
        let lines = lines(&fleet, 11, 3, None);
        assert_eq!(lines.len(), 540);
        for (index, line) in lines.iter().enumerate() {
            let mut words = line.split(' ');
            assert_eq!(words.next().unwrap(), fleet.prefix(11, fleet.series()[index]));
            let value = words.next().unwrap().strip_prefix("value=").unwrap();
            let value: f64 = value.trim_end_matches('i').parse().unwrap();
            assert_eq!(value.to_bits(), fleet.value(11, index, 3).to_bits());
            assert_eq!(words.next().unwrap().parse::<i64>().unwrap(), fleet.time_s(3));
        }
    }

    #[test]
    fn a_shuffled_body_has_the_same_lines_in_another_order() {
        let fleet = Fleet::new(FleetOptions::default());
        let mut straight = lines(&fleet, 5, 1, None);
        let mut shuffled = lines(&fleet, 5, 1, Some(9));
        assert_ne!(straight, shuffled);
        straight.sort_unstable();
        shuffled.sort_unstable();
        assert_eq!(straight, shuffled);
    }

    #[test]
    fn lines_are_about_as_long_as_those_of_a_real_collector() {
        let fleet = Fleet::new(FleetOptions::default());
        let bytes: usize = lines(&fleet, 5, 1, None).iter().map(|line| line.len() + 1).sum();
        let mean = bytes / fleet.series_per_host();
        assert!((78..=94).contains(&mean), "{mean} bytes a line");
    }
}
