//! What all peers write to: datagrams that wait to leave, facts, and what they share.

use std::collections::VecDeque;

use crate::chance::Chance;
use crate::commons::Commons;
use crate::engine::Key;
use crate::plane::{Destination, PeerSlot, Transmit};
use crate::reports::Reports;
use crate::time::Moment;

pub struct Outputs {
    outbox: VecDeque<Transmit>,
    /// Packets for the TUN that no peer sent.
    inbox: VecDeque<Vec<u8>>,
    pub reports: Reports,
    pub chance: Chance,
    pub commons: Commons,
    /// Whether peers are greeted at all.
    pub probing: bool,
    pub mtu: u16,
    /// The next thing that is due before the next tick.
    pub soon: Option<Moment>,
    /// What was due then may be due later now.
    pub put_off: bool,
}

impl Outputs {
    pub fn new(seed: u64, secret: Key) -> Self {
        Self {
            outbox: VecDeque::new(),
            inbox: VecDeque::new(),
            reports: Reports::default(),
            chance: Chance::new(seed),
            commons: Commons::new(secret),
            probing: true,
            mtu: 1280,
            soon: None,
            put_off: false,
        }
    }

    /// False if there is no room.
    pub fn send(&mut self, peer: Option<PeerSlot>, to: Destination, bytes: &[u8]) -> bool {
        let room = self.outbox.len() < MOST_WAITING;
        if room {
            let bytes = bytes.to_vec();
            self.outbox.push_back(Transmit {
                peer,
                socket: to.socket,
                remote: to.remote,
                bytes,
                token: None,
                hops: None,
            });
        }
        room
    }

    /// A datagram for the NATs on the way: it opens them and is not to arrive.
    pub fn send_brief(&mut self, peer: PeerSlot, to: Destination, bytes: Vec<u8>, hops: u8) {
        self.outbox.push_back(Transmit {
            peer: Some(peer),
            socket: to.socket,
            remote: to.remote,
            bytes,
            token: None,
            hops: Some(hops),
        });
    }

    /// A question about a size: it must not be fragmented, and its refusal is news.
    pub fn send_sized(&mut self, peer: PeerSlot, to: Destination, bytes: Vec<u8>, token: u64) {
        self.outbox.push_back(Transmit {
            peer: Some(peer),
            socket: to.socket,
            remote: to.remote,
            bytes,
            token: Some(token),
            hops: None,
        });
    }

    /// A word to whoever sends packets into the tunnel; dropped if there is no room.
    pub fn send_back(&mut self, packet: Vec<u8>) {
        if self.inbox.len() < MOST_WORDS {
            self.inbox.push_back(packet);
        }
    }

    pub fn next(&mut self) -> Option<Transmit> {
        self.outbox.pop_front()
    }

    pub fn next_back(&mut self) -> Option<Vec<u8>> {
        self.inbox.pop_front()
    }
}

const MOST_WAITING: usize = 4096;
const MOST_WORDS: usize = 256;
