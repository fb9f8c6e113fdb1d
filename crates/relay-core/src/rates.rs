//! How much a node may send: one token bucket for each, whichever way its datagrams come.
//!
//! A bucket outlives its stream: who dials again goes on with what he had left. When there are many, those that are full again are forgotten,
//! as a new one is full too.

use std::collections::HashMap;

use crate::frames::Tag;

#[derive(Default)]
pub struct Rates {
    rate: u64,
    buckets: HashMap<Tag, Bucket>,
}

impl Rates {
    /// Bytes a second that each node may send from now on (0: no limit).
    pub fn set(&mut self, rate: u64) {
        if self.rate != rate {
            self.rate = rate;
            self.buckets.clear();
        }
    }

    /// Whether this node, which was admitted, may send so many now.
    pub fn take(&mut self, tag: Tag, bytes: usize, now: f64) -> bool {
        if self.rate == 0 {
            return true;
        }
        if self.buckets.len() >= MANY && !self.buckets.contains_key(&tag) {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let rate = self.rate as f64;
        let bucket = self.buckets.entry(tag);
        bucket
            .or_insert_with(|| Bucket::new(rate, now))
            .takes(bytes, now)
    }
}

/// A token bucket.
struct Bucket {
    rate: f64,
    tokens: f64,
    at: f64,
}

impl Bucket {
    fn new(rate: f64, now: f64) -> Self {
        Self {
            rate,
            tokens: Self::burst(rate),
            at: now,
        }
    }

    fn takes(&mut self, bytes: usize, now: f64) -> bool {
        self.fill(now);
        let cost = bytes as f64;
        let takes = self.tokens >= cost;
        if takes {
            self.tokens -= cost;
        }
        takes
    }

    fn is_full(&mut self, now: f64) -> bool {
        self.fill(now);
        self.tokens >= Self::burst(self.rate)
    }

    fn fill(&mut self, now: f64) {
        let gained = (now - self.at).max(0.0) * self.rate;
        self.tokens = (self.tokens + gained).min(Self::burst(self.rate));
        self.at = now;
    }

    fn burst(rate: f64) -> f64 {
        (rate * BURST_S).max(LEAST_BURST)
    }
}

const MANY: usize = 65_536;
const BURST_S: f64 = 0.25;
const LEAST_BURST: f64 = 65_536.0;

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Tag = [1; 8];

    #[test]
    fn a_node_has_its_burst_and_then_its_rate() {
        let mut rates = Rates::default();
        rates.set(1_000_000);
        assert!(rates.take(NODE, 250_000, 0.0));
        assert!(!rates.take(NODE, 1_000, 0.0));
        assert!(rates.take([2; 8], 1_000, 0.0));
        assert!(rates.take(NODE, 1_000, 0.001));
        assert!(!rates.take(NODE, 1_000, 0.001));
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        assert!(Rates::default().take(NODE, usize::MAX, 0.0));
    }

    #[test]
    fn of_very_many_those_are_forgotten_that_have_everything() {
        let mut rates = Rates::default();
        rates.set(1_000_000);
        rates.take(NODE, 250_000, 10.0);
        for n in 1..MANY as u64 {
            rates.take(n.to_be_bytes(), 1, 0.0);
        }
        rates.take([3; 8], 1, 10.0);
        assert_eq!(rates.buckets.len(), 2);
        assert!(!rates.take(NODE, 1_000, 10.0));
    }
}
