//! What the probing of all peers shares: secrets, our epoch, the indices given out, and a budget.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::engine::Key;
use crate::plane::PeerSlot;
use crate::probe::{Epoch, Secrets};
use crate::time::Moment;

pub struct Commons {
    pub secrets: Secrets,
    pub epoch: Epoch,
    /// Peers by the indices that they seal to.
    pub indices: HashMap<u32, PeerSlot>,
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
            tokens: BURST,
            filled: Moment::default(),
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

    /// Whether another probe may leave now.
    pub fn may_probe(&mut self, now: Moment) -> bool {
        let passed = now.since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * PROBES_PER_SECOND).min(BURST);
        self.filled = now;
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }
}

const PROBES_PER_SECOND: f64 = 50.0;
const BURST: f64 = 25.0;
