//! Keeping the standing queue short where the data thread has no real-time priority.
//!
//! After CoDel (RFC 8289), with the length of the UDP receive queue for the sojourn time: when it has
//! stayed above 1 MB for 2 ms, one large datagram is dropped before it costs a decryption, the next
//! one after 10 ms / sqrt(n), until the queue was short for 100 ms. One lost segment makes a TCP sender
//! slow down; a full buffer would lose dozens in a row.

use std::time::Duration;

use shore_dataplane_core::time::Moment;

#[derive(Default)]
pub struct ReceiveQueue {
    above_since: Option<Moment>,
    short_since: Option<Moment>,
    dropped: u32,
    next: Moment,
}

impl ReceiveQueue {
    /// Whether to drop one datagram, given the queue's length in bytes.
    pub fn sheds(&mut self, queued: usize, now: Moment) -> bool {
        if queued < THRESHOLD {
            self.above_since = None;
            let since = *self.short_since.get_or_insert(now);
            if now.since(since) > CALM {
                self.dropped = 0;
            }
            return false;
        }
        self.short_since = None;
        let since = *self.above_since.get_or_insert(now);
        if now.since(since) < STANDING || now < self.next {
            return false;
        }
        self.dropped += 1;
        self.next = now + INTERVAL.div_f64(f64::from(self.dropped).sqrt());
        true
    }
}

/// Datagrams of acknowledgments and handshakes are never shed.
pub const SHED_ABOVE: usize = 1000;
const THRESHOLD: usize = 1_000_000;
const STANDING: Duration = Duration::from_millis(2);
const INTERVAL: Duration = Duration::from_millis(10);
const CALM: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_a_standing_queue_is_shed_ever_faster() {
        let mut queue = ReceiveQueue::default();
        let at = Moment::from_millis;
        assert!(!queue.sheds(2_000_000, at(0)));
        assert!(!queue.sheds(2_000_000, at(1)));
        assert!(queue.sheds(2_000_000, at(2)));
        assert!(!queue.sheds(2_000_000, at(11)));
        assert!(queue.sheds(2_000_000, at(12)));
        assert!(queue.sheds(2_000_000, at(20)));
        assert!(!queue.sheds(10_000, at(21)));
        assert!(!queue.sheds(2_000_000, at(22)));
    }
}
