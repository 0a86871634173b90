//! [`Witness`]: what a host has said of the time.

use crate::Timestamp;

/// The newest times that samples of one host brought since the process began.
///
/// A time that a sender wrote into its line says what time it is; one that our own clock put there says nothing that
/// the clock does not say. So both are kept apart: only what senders wrote *vouches*.
///
/// Kept with the host rather than read off its rows: no row remembers where its time came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Witness {
    newest: Option<Timestamp>,
    second: Option<Timestamp>,
    heard: Option<Timestamp>,
}

impl Witness {
    /// The newest time that the host vouched for.
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// The newest time that the host vouched for before that, in another message and of another moment.
    pub fn second(&self) -> Option<Timestamp> {
        self.second
    }

    /// The newest time of all its samples, also of those that brought none.
    pub fn heard(&self) -> Option<Timestamp> {
        self.heard
    }

    /// Notes a time that the host vouches for.
    pub fn vouch(&mut self, time: Timestamp) {
        self.heard = self.heard.max(Some(time));
        if Some(time) > self.newest {
            self.second = self.newest.replace(time);
        } else if Some(time) != self.newest {
            self.second = self.second.max(Some(time));
        }
    }

    /// Notes the times of one message. Samples of `stamped` had none, and were given that one by our clock.
    ///
    /// A message vouches once, for its newest time: it is one word of its sender, however many samples it has.
    pub fn note(&mut self, times: impl Iterator<Item = Timestamp>, stamped: Option<Timestamp>) {
        let mut newest = None;
        for time in times {
            if Some(time) == stamped {
                self.heard = self.heard.max(Some(time));
            } else {
                newest = newest.max(Some(time));
            }
        }
        if let Some(newest) = newest {
            self.vouch(newest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(witness: Witness) -> [Option<Timestamp>; 3] {
        [witness.newest(), witness.second(), witness.heard()]
    }

    #[test]
    fn the_two_newest_moments_are_kept_in_whichever_order_they_come() {
        for times in [[10, 20, 30, 30], [30, 20, 10, 30], [30, 30, 20, 20], [20, 30, 10, 20]] {
            let mut witness = Witness::default();
            times.into_iter().for_each(|time| witness.vouch(time));
            assert_eq!(said(witness), [Some(30), Some(20), Some(30)], "{times:?}");
        }
    }

    #[test]
    fn a_message_is_one_word_and_what_our_clock_stamped_is_none() {
        let mut witness = Witness::default();
        witness.note([5, 900, 7].into_iter(), None);
        assert_eq!(said(witness), [Some(900), None, Some(900)]);
        witness.note([5000, 5000].into_iter(), Some(5000));
        assert_eq!(said(witness), [Some(900), None, Some(5000)]);
        witness.note([5000, 910].into_iter(), Some(5000));
        assert_eq!(said(witness), [Some(910), Some(900), Some(5000)]);
    }
}
