//! Packets that wait for a session.
//!
//! Few, young, and the oldest goes first: what comes after a handshake should be the newest SYN or
//! query of each flow, not a burst of packets whose senders have long given up on them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Moment;

#[derive(Default)]
pub struct Stage {
    packets: VecDeque<(Moment, Vec<u8>)>,
}

impl Stage {
    /// Returns how many packets had to leave for it.
    pub fn push(&mut self, packet: &[u8], now: Moment) -> u64 {
        let overflow = self.packets.len() >= CAPACITY;
        if overflow {
            self.packets.pop_front();
        }
        self.packets.push_back((now, packet.to_vec()));
        u64::from(overflow)
    }

    /// Returns how many packets became too old.
    pub fn expire(&mut self, now: Moment) -> u64 {
        let old = self
            .packets
            .iter()
            .take_while(|(at, _)| now.since(*at) > MAX_AGE)
            .count();
        self.packets.drain(..old);
        old as u64
    }

    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.packets.pop_front().map(|(_, packet)| packet)
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

const CAPACITY: usize = 64;
const MAX_AGE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_dropped_first() {
        let mut stage = Stage::default();
        let dropped: u64 = (0..70u8).map(|n| stage.push(&[n], Moment::default())).sum();
        assert_eq!(dropped, 6);
        assert_eq!(stage.pop(), Some(vec![6]));
    }

    #[test]
    fn nothing_older_than_a_second_stays() {
        let mut stage = Stage::default();
        stage.push(b"old", Moment::from_millis(0));
        stage.push(b"young", Moment::from_millis(500));
        assert_eq!(stage.expire(Moment::from_millis(1001)), 1);
        assert_eq!(stage.pop(), Some(b"young".to_vec()));
        assert!(stage.is_empty());
    }
}
