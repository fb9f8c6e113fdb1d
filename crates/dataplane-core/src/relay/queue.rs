//! Frames that wait for a stream to take them.

use std::collections::VecDeque;

use shore_fair_queue::FairQueue;

use crate::relay::Tag;
use crate::relay::frames::{SEND, frame};

/// Urgent ones (everything but WireGuard's data messages) leave first, our own words before them. Both kinds are
/// shared fairly by the nodes that they are for, and data by its sessions, so that a ping waits for no bulk.
pub struct Queue {
    words: VecDeque<Vec<u8>>,
    urgent: FairQueue,
    data: FairQueue,
    pub drops: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            words: VecDeque::new(),
            urgent: FairQueue::new(MOST_URGENT),
            data: FairQueue::new(MOST_DATA),
            drops: 0,
        }
    }
}

impl Queue {
    /// A datagram for the node of this tag.
    pub fn push(&mut self, to: Tag, datagram: &[u8]) {
        let mut bytes = Vec::with_capacity(datagram.len() + 12);
        frame(SEND, &[&to, datagram], &mut bytes);
        let queue = if datagram.first() == Some(&DATA) {
            &mut self.data
        } else {
            &mut self.urgent
        };
        self.drops += u64::from(queue.push(to, datagram, bytes));
    }

    /// A frame of the stream's own, ahead of everything.
    pub fn push_control(&mut self, kind: u8, content: &[u8]) {
        let mut bytes = Vec::new();
        frame(kind, &[content], &mut bytes);
        self.words.push_back(bytes);
        if self.words.len() > MOST_WORDS {
            self.words.pop_front();
        }
    }

    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let word = self.words.pop_front();
        word.or_else(|| self.urgent.pop())
            .or_else(|| self.data.pop())
    }

    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.urgent.is_empty() && self.data.is_empty()
    }
}

/// First byte of a WireGuard data message.
const DATA: u8 = 4;
const MOST_WORDS: usize = 64;
const MOST_URGENT: usize = 64;
const MOST_DATA: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::frames::{PING, Word, first};

    fn popped(queue: &mut Queue) -> Option<(u8, u8)> {
        let bytes = queue.pop()?;
        Some((bytes[0], bytes[bytes.len() - 1]))
    }

    #[test]
    fn handshakes_and_probes_leave_before_data_and_pings_before_both() {
        let mut queue = Queue::default();
        queue.push([1; 8], &[4, 1]);
        queue.push([1; 8], &[1, 2]);
        queue.push_control(PING, &[3]);
        let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue)).collect();
        assert_eq!(order, [(PING, 3), (SEND, 2), (SEND, 1)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_oldest_data_gives_way_and_no_data_displaces_a_probe() {
        let mut queue = Queue::default();
        queue.push([1; 8], &[128, 0]);
        for n in 0..=255u8 {
            queue.push([1; 8], &[4, n]);
        }
        queue.push([1; 8], &[4, 77]);
        assert_eq!(queue.drops, 1);
        assert_eq!(popped(&mut queue), Some((SEND, 0)));
        let oldest = queue.pop().unwrap();
        assert_eq!(oldest[oldest.len() - 1], 1);
        assert!(matches!(first(&oldest), Ok(Some((Word::Unknown, _)))));
    }
}
