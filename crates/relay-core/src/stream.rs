//! One node's stream: frames that are not whole yet, two queues towards the node, and a token bucket from it.
//!
//! What is small and urgent (probes, handshakes, control) waits in one queue, data in another; the first is served first, and a full one loses its
//! oldest: a datagram that waited is worth less than one that is new. Nothing waits behind these queues but what one `take` gave to the socket.

use std::collections::VecDeque;

use crate::frames::Tag;
use crate::tls::Tls;

pub const URGENT: usize = 64;
pub const DATA: usize = 256;
const BURST_S: f64 = 0.25;
const LEAST_BURST: f64 = 65_536.0;
/// WireGuard's transport data begins with this byte.
const TRANSPORT: u8 = 4;

pub struct Stream {
    pub tls: Tls,
    pub tag: Option<Tag>,
    pub inbox: Vec<u8>,
    pub queued: bool,
    pub bucket: Bucket,
    urgent: VecDeque<Vec<u8>>,
    data: VecDeque<Vec<u8>>,
}

impl Stream {
    pub fn new(tls: Tls) -> Self {
        Self {
            tls,
            tag: None,
            inbox: Vec::new(),
            queued: false,
            bucket: Bucket::new(0, 0.0),
            urgent: VecDeque::new(),
            data: VecDeque::new(),
        }
    }

    /// Queue a frame of the relay's own; returns how many were dropped for it.
    pub fn say(&mut self, frame: Vec<u8>) -> u64 {
        push(&mut self.urgent, frame, URGENT)
    }

    /// Queue a frame around this datagram; returns how many were dropped for it.
    pub fn deliver(&mut self, datagram: &[u8], frame: Vec<u8>) -> u64 {
        if datagram.first() == Some(&TRANSPORT) {
            push(&mut self.data, frame, DATA)
        } else {
            push(&mut self.urgent, frame, URGENT)
        }
    }

    /// Move at most about `most` bytes of frames into TLS; returns (frames, bytes).
    pub fn seal(&mut self, most: usize, plaintext: &mut Vec<u8>) -> (u64, u64) {
        plaintext.clear();
        let mut frames = 0;
        while plaintext.len() < most {
            let Some(frame) = self.urgent.pop_front().or_else(|| self.data.pop_front()) else {
                break;
            };
            plaintext.extend_from_slice(&frame);
            frames += 1;
        }
        if !plaintext.is_empty() {
            self.tls.send(plaintext);
        }
        (frames, plaintext.len() as u64)
    }

    pub fn waits(&self) -> bool {
        !self.urgent.is_empty() || !self.data.is_empty()
    }
}

fn push(queue: &mut VecDeque<Vec<u8>>, frame: Vec<u8>, longest: usize) -> u64 {
    let full = queue.len() >= longest;
    if full {
        queue.pop_front();
    }
    queue.push_back(frame);
    u64::from(full)
}

/// A token bucket; a rate of 0 is no limit.
pub struct Bucket {
    rate: f64,
    tokens: f64,
    at: f64,
}

impl Bucket {
    pub fn new(bytes_a_second: u64, now: f64) -> Self {
        let rate = bytes_a_second as f64;
        Self {
            rate,
            tokens: Self::burst(rate),
            at: now,
        }
    }

    pub fn takes(&mut self, bytes: usize, now: f64) -> bool {
        if self.rate == 0.0 {
            return true;
        }
        self.tokens =
            (self.tokens + (now - self.at).max(0.0) * self.rate).min(Self::burst(self.rate));
        self.at = now;
        let cost = bytes as f64;
        let takes = self.tokens >= cost;
        if takes {
            self.tokens -= cost;
        }
        takes
    }

    fn burst(rate: f64) -> f64 {
        (rate * BURST_S).max(LEAST_BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(1_000_000, 0.0);
        assert!(bucket.takes(250_000, 0.0));
        assert!(!bucket.takes(1_000, 0.0));
        assert!(bucket.takes(1_000, 0.001));
        assert!(!bucket.takes(1_000, 0.001));
        assert!(Bucket::new(0, 0.0).takes(usize::MAX, 0.0));
    }

    #[test]
    fn a_full_queue_loses_its_oldest() {
        let mut queue = VecDeque::new();
        assert_eq!((0..5).map(|n| push(&mut queue, vec![n], 3)).sum::<u64>(), 2);
        assert_eq!(queue, [vec![2], vec![3], vec![4]]);
    }
}
