//! What lies in memory, as JSON for people.

use crate::Timestamp;
use crate::block::BlockState;
use crate::buffer::Buffer;
use crate::host::{Host, HostState};
use crate::json;
use crate::level::Level;
use crate::metric::Catalog;
use crate::pages::Present;
use crate::store::Store;

/// Where a selector of names joined by colons leads.
#[derive(Debug)]
pub enum Selected {
    /// All clusters.
    All,
    /// One cluster.
    Cluster(Box<str>),
    /// One host, and the path below it.
    Host(std::sync::Arc<Host>, Vec<Box<str>>),
}

/// Resolves `cluster:host:component…`. Names may hold colons themselves (a PCI id does): at each level the
/// longest name that exists is taken. `None` if there is no such level.
pub fn select(store: &Store, selector: &str) -> Option<Selected> {
    if selector.is_empty() {
        return Some(Selected::All);
    }
    let clusters = store.clusters();
    let (cluster, rest) = split_at_name(selector, |name| clusters.iter().any(|cluster| **cluster == *name))?;
    let Some(rest) = rest else { return Some(Selected::Cluster(cluster.into())) };
    let (name, rest) = split_at_name(rest, |name| store.host(cluster, name).is_some())?;
    let host = store.host(cluster, name)?;
    let mut path = Vec::new();
    if let Some(mut rest) = rest {
        let state = host.lock();
        let mut level = state.shape().root();
        loop {
            let (name, behind) = split_at_name(rest, |name| level.child(name).is_some())?;
            level = level.child(name)?;
            path.push(name.into());
            match behind {
                Some(behind) => rest = behind,
                None => break,
            }
        }
    }
    Some(Selected::Host(host, path))
}

/// The longest prefix of `text` up to a colon, or all of it, that `exists`; and what is behind the colon.
fn split_at_name(text: &str, exists: impl Fn(&str) -> bool) -> Option<(&str, Option<&str>)> {
    if exists(text) {
        return Some((text, None));
    }
    text.rmatch_indices(':')
        .map(|(at, _)| (&text[..at], Some(&text[at + 1..])))
        .find(|(name, _)| exists(name))
}

/// Writes a level of a host: per metric its buffers, then its children nested. Levels without a sample are left
/// out; returns whether this one had any.
pub fn push_level(out: &mut Vec<u8>, catalog: &Catalog, state: &HostState, level: &Level) -> bool {
    let start = out.len();
    out.push(b'{');
    let empty = out.len();
    for (id, columns) in level.metrics() {
        let metric = catalog.of(id);
        if !metric.served {
            continue;
        }
        let mut pieces: Vec<Piece> = columns.iter().flat_map(|&column| pieces(state, column)).collect();
        pieces.sort_by_key(|piece| piece.first);
        if !pieces.is_empty() {
            push_key(out, empty, &metric.name);
            push_pieces(out, &pieces);
        }
    }
    for (name, child) in level.children() {
        let before = out.len();
        push_key(out, empty, name);
        if !push_level(out, catalog, state, child) {
            out.truncate(before);
        }
    }
    if out.len() == empty {
        out.truncate(start);
        return false;
    }
    out.push(b'}');
    true
}

/// Writes `"name":`, behind a comma unless it is the first member of the object that begins at `empty`.
pub fn push_key(out: &mut Vec<u8>, empty: usize, name: &str) {
    if out.len() > empty {
        out.push(b',');
    }
    json::push_string(out, name);
    out.push(b':');
}

/// Samples of one column in one block or head.
struct Piece {
    first: Timestamp,
    last: Timestamp,
    frequency_s: u32,
    saved: bool,
}

fn pieces(state: &HostState, number: u32) -> Vec<Piece> {
    let column = &state.shape().columns()[number as usize];
    let buffer: &Buffer = &state.buffers()[usize::from(column.buffer)];
    let floor = state.floors().of(number);
    let piece = |base: Timestamp, frequency_s: u32, values: &[f32], saved: bool| {
        let slot = |row: usize| base + row as i64 * i64::from(frequency_s);
        let seen = |row: &usize| !values[*row].is_nan() && slot(*row) >= floor;
        let first = (0..values.len()).find(seen)?;
        let last = (0..values.len()).rfind(seen)?;
        Some(Piece { first: slot(first), last: slot(last), frequency_s, saved })
    };
    let blocks =
        buffer.blocks().iter().filter(|held| held.block.is_filled(column.index, &Present::default())).map(
            |held| {
                let header = held.block.header();
                let values = held.block.column(column.index);
                piece(header.base, header.grid.frequency_s, &values, held.state == BlockState::Saved)
            },
        );
    let heads = buffer.heads().map(|head| {
        let values: Vec<f32> = head.column(column.index).collect();
        piece(head.base(), head.grid().frequency_s, &values, false)
    });
    blocks.chain(heads).flatten().collect()
}

fn push_pieces(out: &mut Vec<u8>, pieces: &[Piece]) {
    out.push(b'[');
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        let step = i64::from(piece.frequency_s);
        out.extend_from_slice(b"{\"start\":");
        // Both as the original counts: from where the first slot begins, half a step before its time.
        let (start, slots) = (piece.first - step / 2, (piece.last - piece.first) / step + 1);
        json::push_i64(out, start);
        out.extend_from_slice(b",\"len\":");
        json::push_i64(out, slots);
        out.extend_from_slice(b",\"end\":");
        json::push_i64(out, start + slots * step);
        if piece.saved {
            out.extend_from_slice(b",\"saved\":true");
        }
        out.push(b'}');
    }
    out.push(b']');
}
