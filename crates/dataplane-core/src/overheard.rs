//! Probes that a firewall of this host keeps from our sockets.
//!
//! A host that lets in only answers drops the probes of a peer that comes from where nobody expects it, as
//! behind a NAT that gives each flow another port. The peer cannot know, and we know nowhere to send to. But
//! before any filter the kernel shows a packet to those who listen to the device, and there the probe can be
//! *overheard*: what came there, and a moment later by no socket, is answered by one probe of no path. With
//! that the firewall lets the peer's next ones in.
//!
//! What was overheard proves nothing. It moves no data, makes no candidate and is counted nowhere; its counter
//! stays free, so that the socket may still bring it. One is looked into at a time for each peer.

use std::time::Duration;

use crate::outputs::Outputs;
use crate::peer::Peer;
use crate::plane::{Plane, Source};
use crate::probe::message::{Message, Probe};
use crate::probe::{self, Mark};
use crate::time::Moment;

/// A probe that waits for the socket to bring it.
#[derive(Clone, Copy)]
pub struct Overheard {
    source: Source,
    mark: Mark,
    pub due: Moment,
}

impl Plane {
    /// A datagram that was seen on its way to a socket of ours, which may or may not get it.
    pub fn overhear(&mut self, source: Source, datagram: &[u8], now: Moment) {
        if datagram.first() != Some(&probe::SEALED) {
            return;
        }
        let index = probe::receiver_of(datagram);
        let slot = index.and_then(|index| self.outputs.commons.indices.get(&index));
        if let Some(Some(peer)) = slot.and_then(|slot| self.peers.get_mut(slot.0 as usize))
            && peer.overhear(source, datagram, now)
        {
            peer.pump(&mut self.outputs, now);
        }
    }
}

impl Peer {
    /// Returns whether it is to be looked into.
    fn overhear(&mut self, source: Source, datagram: &[u8], now: Moment) -> bool {
        if self.probing.overheard.is_some() || self.paths.is_answered_from(source, now) {
            return false;
        }
        let known = self.probing.known.as_ref();
        let Some((mark, content)) = known.and_then(|known| known.peek(datagram)) else {
            return false;
        };
        let Some(Message::Probe(Probe { trial: None, .. })) = Message::decode(&content) else {
            return false;
        };
        self.probing.overheard = Some(Overheard {
            source,
            mark,
            due: now + BY_SOCKET,
        });
        true
    }

    /// Sends one probe to where one was overheard that no socket brought.
    pub fn answer_overheard(&mut self, outputs: &mut Outputs, now: Moment) {
        let Some(heard) = self.probing.overheard.take_if(|heard| heard.due <= now) else {
            return;
        };
        let known = self.probing.known.as_ref();
        if known.is_none_or(|known| known.has_heard(heard.mark))
            || !outputs.commons.may_probe(&mut self.probing.share, now)
        {
            return;
        }
        let probe = Probe::of_no_path(self.probing.next_transaction(), now);
        self.say(&Message::Probe(probe), heard.source, outputs);
    }
}

/// For so long a socket may still bring what was overheard.
const BY_SOCKET: Duration = Duration::from_millis(50);
