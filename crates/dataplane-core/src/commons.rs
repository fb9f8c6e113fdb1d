//! What the probing of all peers shares: secrets, our epoch, the indices given out, and a budget.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use crate::engine::Key;
use crate::plane::PeerSlot;
use crate::probe::{Epoch, Secrets};
use crate::time::Moment;

pub struct Commons {
    pub secrets: Secrets,
    pub epoch: Epoch,
    /// Peers by the indices that they seal to.
    pub indices: HashMap<u32, PeerSlot>,
    /// How many peers share the budget.
    pub peers: usize,
    budget: Bucket,
    guesses: Bucket,
}

/// Tokens that come at a rate, up to a number.
#[derive(Default)]
pub struct Bucket {
    tokens: f64,
    filled: Moment,
}

impl Commons {
    pub fn new(seed: Key) -> Self {
        let mut secrets = Secrets::new(seed);
        Self {
            epoch: secrets.bytes(),
            secrets,
            indices: HashMap::new(),
            peers: 0,
            budget: Bucket::default(),
            guesses: Bucket::default(),
        }
    }

    /// A free index for keys that this peer may seal to.
    pub fn index_for(&mut self, slot: PeerSlot) -> u32 {
        loop {
            let index = u32::from_le_bytes(self.secrets.bytes());
            if let Entry::Vacant(free) = self.indices.entry(index) {
                free.insert(slot);
                return index;
            }
        }
    }

    /// Whether another probe of a peer may leave now. What a peer sends beyond its own `share` must
    /// leave half of the budget to the others.
    pub fn may_probe(&mut self, share: &mut Bucket, now: Moment) -> bool {
        let fair = PROBES_PER_SECOND / self.peers.max(1) as f64;
        share.fill(fair, BURST_OF_PEER, now);
        self.budget.fill(PROBES_PER_SECOND, BURST, now);
        let spare = if share.tokens >= 1.0 {
            0.0
        } else {
            BURST / 2.0
        };
        let may = self.budget.tokens >= spare + 1.0;
        if may {
            self.budget.tokens -= 1.0;
            share.tokens = (share.tokens - 1.0).max(0.0);
        }
        may
    }

    /// Whether another datagram of a spray or a fan may leave now.
    pub fn may_guess(&mut self, now: Moment) -> bool {
        self.guesses.fill(GUESSES_PER_SECOND, BURST_OF_GUESSES, now);
        let may = self.guesses.tokens >= 1.0;
        if may {
            self.guesses.tokens -= 1.0;
        }
        may
    }
}

impl Bucket {
    fn fill(&mut self, rate: f64, most: f64, now: Moment) {
        let passed = now.since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * rate).min(most);
        self.filled = now;
    }
}

/// How long it takes until the budget has another one.
pub const NEXT_TOKEN: Duration = Duration::from_millis(20);
const PROBES_PER_SECOND: f64 = 50.0;
const BURST: f64 = 25.0;
const BURST_OF_PEER: f64 = 4.0;
const GUESSES_PER_SECOND: f64 = 1000.0;
const BURST_OF_GUESSES: f64 = 20.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_in_doubt_leaves_the_others_their_share_of_fifty_probes_a_second() {
        let mut commons = Commons::new([1; 32]);
        commons.peers = 5;
        let (mut keen, mut modest) = (Bucket::default(), Bucket::default());
        let (mut keen_sent, mut modest_sent) = (0, 0);
        for millis in 60_000..70_000 {
            let now = Moment::from_millis(millis);
            keen_sent += u32::from(commons.may_probe(&mut keen, now));
            if millis % 100 == 0 {
                modest_sent += u32::from(commons.may_probe(&mut modest, now));
            }
        }
        assert!(modest_sent >= 99, "{modest_sent}");
        assert!(
            (450..=550).contains(&(keen_sent + modest_sent)),
            "{keen_sent}"
        );
    }
}
