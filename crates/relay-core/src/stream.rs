//! One node's stream: frames that are not whole yet, and two queues towards the node.
//!
//! What is small and urgent (probes, handshakes, control) waits in one queue, data in another; the first is served first, and a full one loses its
//! oldest: a datagram that waited is worth less than one that is new. Nothing waits behind these queues but what one `take` gave to the socket.

use std::collections::VecDeque;

use crate::frames::Tag;
use crate::tls::Tls;

pub const URGENT: usize = 64;
pub const DATA: usize = 256;
/// WireGuard's transport data begins with this byte.
const TRANSPORT: u8 = 4;

pub struct Stream {
    pub tls: Tls,
    pub tag: Option<Tag>,
    pub inbox: Vec<u8>,
    pub queued: bool,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_its_oldest() {
        let mut queue = VecDeque::new();
        assert_eq!((0..5).map(|n| push(&mut queue, vec![n], 3)).sum::<u64>(), 2);
        assert_eq!(queue, [vec![2], vec![3], vec![4]]);
    }
}
