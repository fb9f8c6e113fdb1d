//! One node's stream: frames that are not whole yet, and what waits towards the node.
//!
//! What is small and urgent (probes, handshakes) waits in one queue, data in another, and each is shared fairly by those who send to this node
//! (`shore_fair_queue`). The relay's own words come first, then what is urgent; but of that so many bytes at once while data waits, as urgent is
//! what its sender calls so. A full queue loses the oldest of whoever fills it: a datagram that waited is worth less than one that is new. Nothing
//! waits behind these queues but what one `take` gave to the socket.

use std::collections::VecDeque;

use shore_fair_queue::FairQueue;

use crate::frames::Tag;
use crate::tls::Tls;

pub const URGENT: usize = 64;
pub const DATA: usize = 256;
const WORDS: usize = 64;
/// Bytes of urgent datagrams before one of data.
const URGENT_AT_ONCE: usize = 8_192;
/// WireGuard's transport data begins with this byte.
const TRANSPORT: u8 = 4;

pub struct Stream {
    pub tls: Tls,
    pub tag: Option<Tag>,
    pub inbox: Vec<u8>,
    pub queued: bool,
    queues: Queues,
}

impl Stream {
    pub fn new(tls: Tls) -> Self {
        Self {
            tls,
            tag: None,
            inbox: Vec::new(),
            queued: false,
            queues: Queues::default(),
        }
    }

    /// Queue a frame of the relay's own; returns how many were dropped for it.
    pub fn say(&mut self, frame: Vec<u8>) -> u64 {
        self.queues.say(frame)
    }

    /// Queue a frame around this datagram of `source`; returns how many were dropped for it.
    pub fn deliver(&mut self, source: Tag, datagram: &[u8], frame: Vec<u8>) -> u64 {
        self.queues.deliver(source, datagram, frame)
    }

    /// Move at most about `most` bytes of frames into TLS; returns (frames, bytes).
    pub fn seal(&mut self, most: usize, plaintext: &mut Vec<u8>) -> (u64, u64) {
        plaintext.clear();
        let mut frames = 0;
        while plaintext.len() < most {
            let Some(frame) = self.queues.pop() else {
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
        !self.queues.is_empty()
    }
}

/// What waits for one node.
struct Queues {
    words: VecDeque<Vec<u8>>,
    urgent: FairQueue,
    data: FairQueue,
    /// Bytes of urgent datagrams since the last of data.
    urged: usize,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            words: VecDeque::new(),
            urgent: FairQueue::new(URGENT),
            data: FairQueue::new(DATA),
            urged: 0,
        }
    }
}

impl Queues {
    fn say(&mut self, frame: Vec<u8>) -> u64 {
        let full = self.words.len() >= WORDS;
        if full {
            self.words.pop_front();
        }
        self.words.push_back(frame);
        u64::from(full)
    }

    fn deliver(&mut self, source: Tag, datagram: &[u8], frame: Vec<u8>) -> u64 {
        let queue = if datagram.first() == Some(&TRANSPORT) {
            &mut self.data
        } else {
            &mut self.urgent
        };
        u64::from(queue.push(source, datagram, frame))
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        if let Some(word) = self.words.pop_front() {
            return Some(word);
        }
        if (self.data.is_empty() || self.urged < URGENT_AT_ONCE)
            && let Some(frame) = self.urgent.pop()
        {
            self.urged += frame.len();
            return Some(frame);
        }
        self.urged = 0;
        self.data.pop()
    }

    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.urgent.is_empty() && self.data.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOODER: Tag = [1; 8];
    const OTHER: Tag = [2; 8];

    fn deliver(queues: &mut Queues, source: Tag, datagram: &[u8]) -> u64 {
        queues.deliver(source, datagram, datagram.to_vec())
    }

    #[test]
    fn the_relays_own_words_come_before_probes_and_probes_before_data() {
        let mut queues = Queues::default();
        deliver(&mut queues, OTHER, &[TRANSPORT, 0]);
        deliver(&mut queues, OTHER, &[1, 0]);
        queues.say(vec![9]);
        let order: Vec<_> = std::iter::from_fn(|| queues.pop()).collect();
        assert_eq!(order, [vec![9], vec![1, 0], vec![TRANSPORT, 0]]);
        assert!(queues.is_empty());
    }

    #[test]
    fn a_flood_of_probes_leaves_room_for_another_nodes_probes_and_data() {
        let mut queues = Queues::default();
        deliver(&mut queues, OTHER, &[TRANSPORT, 1]);
        deliver(&mut queues, OTHER, &[1, 1]);
        let mut flood = vec![1; 1_000];
        flood[1] = 0;
        let (mut bytes, mut waited) = (0, Vec::new());
        while waited.len() < 2 {
            for _ in 0..URGENT {
                deliver(&mut queues, FLOODER, &flood);
            }
            let frame = queues.pop().unwrap();
            bytes += frame.len();
            if frame[1] == 1 {
                waited.push((frame[0], bytes));
            }
        }
        assert_eq!(waited[0].0, 1);
        assert!(waited[0].1 <= 2_000, "{waited:?}");
        assert_eq!(waited[1].0, TRANSPORT);
        assert!(waited[1].1 <= URGENT_AT_ONCE + 2_000, "{waited:?}");
    }

    #[test]
    fn words_without_end_lose_their_oldest() {
        let mut queues = Queues::default();
        let said = (0..WORDS + 5).map(|n| queues.say(vec![n as u8]));
        assert_eq!(said.sum::<u64>(), 5);
        assert_eq!(queues.pop(), Some(vec![5]));
    }
}
