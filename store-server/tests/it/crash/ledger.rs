//! [`Ledger`]: what was sent, and what was promised of it.

use std::collections::BTreeMap;

/// A series and a slot.
pub(crate) type Key = (usize, usize, i64);

/// What was sent and acknowledged. Each value is its own number, so that the later one is the greater one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    next: u32,
    sent: BTreeMap<Key, Vec<u32>>,
    /// Acknowledged: a kill of the process must not lose it.
    written: BTreeMap<Key, u32>,
    /// Acknowledged and synced: a power loss must not lose it either.
    synced: BTreeMap<Key, u32>,
    /// Freed by request: host, metric -> floor that was asked for; and whether it was acknowledged.
    asked: BTreeMap<(usize, usize), i64>,
}

impl Ledger {
    pub(crate) fn send(&mut self, key: Key) -> u32 {
        self.next += 1;
        self.sent.entry(key).or_default().push(self.next);
        self.next
    }

    pub(crate) fn acknowledge(&mut self, sent: &[(Key, u32)], synced: bool) {
        for &(key, value) in sent {
            raise(&mut self.written, key, value);
            if synced {
                raise(&mut self.synced, key, value);
            }
        }
    }

    /// Everything that was acknowledged is synced now.
    pub(crate) fn sync(&mut self) {
        let written: Vec<_> = self.written.iter().map(|(key, value)| (*key, *value)).collect();
        written.into_iter().for_each(|(key, value)| raise(&mut self.synced, key, value));
    }

    /// Somebody asks to free what is older; from now on it may be gone.
    pub(crate) fn free(&mut self, host: usize, metric: usize, before: i64) {
        let floor = self.asked.entry((host, metric)).or_insert(i64::MIN);
        *floor = before.max(*floor);
    }

    /// What lies below a floor that was asked for may be there or not.
    fn may_be_freed(&self, key: Key) -> bool {
        self.asked.get(&(key.0, key.1)).is_some_and(|floor| key.2 < *floor)
    }

    /// Holds what is there against what was promised. Returns how many samples were asked for.
    pub(crate) fn check(&self, seen: &BTreeMap<Key, u32>, kill: bool, label: &str) -> u64 {
        let promised = if kill { &self.written } else { &self.synced };
        for (key, value) in promised {
            match seen.get(key) {
                Some(seen) => assert!(seen >= value, "{label}: {key:?} is {seen}, acknowledged was {value}"),
                None => assert!(self.may_be_freed(*key), "{label}: {key:?} = {value} is lost"),
            }
        }
        for (key, value) in seen {
            let sent = self.sent.get(key).is_some_and(|sent| sent.contains(value));
            assert!(sent, "{label}: {key:?} = {value} was never sent");
        }
        promised.len() as u64
    }

    /// What the next life may rely on: after a power loss only what was synced.
    pub(crate) fn survive(&mut self, kill: bool) {
        if !kill {
            self.written = self.synced.clone();
        }
    }
}

fn raise(map: &mut BTreeMap<Key, u32>, key: Key, value: u32) {
    let known = map.entry(key).or_default();
    *known = value.max(*known);
}
