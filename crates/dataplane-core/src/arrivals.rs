//! What a datagram is, whose it is, and what it leads to.
//!
//! The first byte tells WireGuard's four types and our three apart, STUN's answers have a cookie; the index,
//! or a hello's tag, names the peer. Only initiations must be opened to learn who sent them (`greetings`).

use crate::allowed_ips::addresses;
use crate::engine::{
    COOKIE_REPLY_LEN, DATA_OVERHEAD, INITIATION_LEN, Progress, RESPONSE_LEN, receiver_of,
};
use crate::facts::{DropReason, Fact};
use crate::fit::mss;
use crate::fit::pieces::{Joined, is_piece};
use crate::greetings::Greeted;
use crate::plane::{PeerSlot, Plane, Received, Source, is_syn};
use crate::probe;
use crate::stun;
use crate::time::Moment;

/// What became of a datagram, or whose drop it is and why.
pub(crate) type Outcome = Result<Received, (Option<PeerSlot>, DropReason)>;

impl Plane {
    pub(crate) fn demultiplex(
        &mut self,
        source: Source,
        datagram: &[u8],
        out: &mut [u8],
        now: Moment,
    ) -> Outcome {
        match (datagram.first_chunk::<4>(), datagram.len()) {
            (Some([4, 0, 0, 0]), len) if len >= DATA_OVERHEAD => {
                if out.len() < len {
                    Err((None, DropReason::Truncated))
                } else {
                    self.data(source, datagram, out, now)
                }
            }
            (Some([1, 0, 0, 0]), INITIATION_LEN) => self.initiation(source, datagram, now),
            (Some([2, 0, 0, 0]), RESPONSE_LEN) => self.response(source, datagram, now),
            (Some([3, 0, 0, 0]), COOKIE_REPLY_LEN) => self.cookie_reply(source, datagram, now),
            _ if stun::is_answer(datagram) => self
                .stun_answer(source, datagram, now)
                .map(|()| Received::Nothing)
                .map_err(|reason| (None, reason)),
            (Some([probe::HELLO | probe::WELCOME | probe::SEALED, ..]), _) => {
                self.probe_message(source, datagram, now)
            }
            _ => Err((None, DropReason::MalformedDatagram)),
        }
    }

    /// What a link to a relay says of itself, and of who is there: `LinkUp`, `LinkDown`, `LinkLeaving`, `Away`.
    ///
    /// A path to who is away is in doubt, as one that the kernel refuses is, and no more than that: a relay
    /// may lie, and the peer may be back.
    pub fn told_by_link(&mut self, fact: Fact, now: Moment) {
        match &fact {
            Fact::LinkDown { link, .. } => self.note_closed(*link, now),
            Fact::Away { link, remote } => self.doubt_place(
                Source {
                    socket: *link,
                    remote: *remote,
                },
                now,
            ),
            _ => {}
        }
        self.note_fact(fact, now);
    }

    fn doubt_place(&mut self, place: Source, now: Moment) {
        for peer in self.peers.iter_mut().flatten() {
            if peer.paths.refused(place, now) {
                peer.pump(&mut self.outputs, now);
            }
        }
    }

    fn data(&mut self, source: Source, datagram: &[u8], out: &mut [u8], now: Moment) -> Outcome {
        let index = receiver_of(datagram, 4);
        let Some(&slot) = self.by_index.get(&(index >> 8)) else {
            self.look_into_stray(source, now);
            return Err((None, DropReason::UnknownIndex));
        };
        let fail = |reason| (Some(slot), reason);
        let peer = self.peers[slot.0 as usize]
            .as_mut()
            .ok_or((None, DropReason::UnknownIndex))?;
        let opened = peer.open(index, source, datagram, out, &mut self.outputs, now);
        if opened == Err(DropReason::NoSession) {
            self.look_into_stray(source, now);
        }
        let (opened, moved) = opened.map_err(fail)?;
        if moved {
            self.endpoints.insert(source.remote, slot);
        }
        let peer = self.peers[slot.0 as usize]
            .as_mut()
            .ok_or((None, DropReason::UnknownIndex))?;
        if opened.len == 0 || peer.recognise(&out[..opened.len], &mut self.outputs, now) {
            return Ok(Received::Proof);
        }
        let mut len = opened.len;
        if is_piece(&out[..len]) && peer.paths.is_probed() {
            match peer.sizing.joiner.join(&out[..len], now) {
                Joined::Whole(whole) if whole.len() <= out.len() => {
                    len = whole.len();
                    out[..len].copy_from_slice(&whole);
                }
                Joined::Waiting => return Ok(Received::Proof),
                _ => return Err(fail(DropReason::MalformedPacket)),
            }
        }
        if is_syn(&out[..len]) {
            let to = peer.paths.primary().unwrap_or(source);
            let mtu = peer.inner_mtu(to, self.outputs.mtu);
            len = mss::clamp(out, len, mtu, false);
        }
        if !self.owns_source(slot, &out[..len]) {
            return Err(fail(DropReason::WrongSource));
        }
        if let Some(filter) = &mut self.filter
            && !filter.admits(&out[..len], now)
        {
            return Err(fail(DropReason::Filtered));
        }
        Ok(Received::Packet { peer: slot, len })
    }

    fn owns_source(&mut self, slot: PeerSlot, packet: &[u8]) -> bool {
        let Some((from, _)) = addresses(packet) else {
            return false;
        };
        if self.last_source != Some((from, slot)) {
            if self.allowed.owner(from) != Some(slot) {
                return false;
            }
            self.last_source = Some((from, slot));
        }
        true
    }

    /// A peer's endpoint sends on a session that we do not have: it was ours before a restart.
    fn look_into_stray(&mut self, source: Source, now: Moment) {
        if let Some(slot) = self.endpoints.get(&source.remote)
            && self.limiter.admit_stray(now)
            && let Some(peer) = &mut self.peers[slot.0 as usize]
        {
            peer.liveness.session_lost(now);
            peer.pump(&mut self.outputs, now);
        }
    }

    fn initiation(&mut self, source: Source, message: &[u8], now: Moment) -> Outcome {
        let mut reply = [0; INITIATION_LEN];
        match self.greet(source, message, &mut reply, now)? {
            Greeted::Answer { peer, len } => {
                self.outputs.send(peer, source, &reply[..len]);
                Ok(peer.map_or(Received::Nothing, |_| Received::Proof))
            }
            Greeted::Silence => Ok(Received::Nothing),
        }
    }

    fn response(&mut self, source: Source, message: &[u8], now: Moment) -> Outcome {
        let index = receiver_of(message, 8) >> 8;
        let slot = *self
            .by_index
            .get(&index)
            .ok_or((None, DropReason::UnknownIndex))?;
        let fail = |reason| (Some(slot), reason);
        if !self.greetings.is_for_us(message) {
            return Err((None, DropReason::BadMac));
        }
        if !self.limiter.admit_response(index, now) {
            return Err(fail(DropReason::RateLimited));
        }
        let peer = self.peers[slot.0 as usize]
            .as_mut()
            .ok_or((None, DropReason::UnknownIndex))?;
        let keying = peer
            .lane
            .by_index(index)
            .ok_or(fail(DropReason::HandshakeRefused))?;
        let mut reply = [0; INITIATION_LEN];
        let progress = keying
            .engine
            .handshake(source.remote.ip(), message, &mut reply, now)
            .map_err(fail)?;
        if let Progress::Established { len } = progress {
            peer.answered(index, source, &reply[..len], &mut self.outputs, now);
            self.endpoints.insert(source.remote, slot);
        }
        Ok(Received::Proof)
    }

    /// A hello, a welcome or a sealed message (docs/protocol/probe.md).
    fn probe_message(&mut self, source: Source, message: &[u8], now: Moment) -> Outcome {
        let malformed = (None, DropReason::MalformedDatagram);
        let (slot, unknown) = if message[0] == probe::HELLO {
            let tag = probe::tag_of(message).ok_or(malformed)?;
            (self.by_tag.get(&tag), DropReason::UnknownPeer)
        } else {
            let index = probe::receiver_of(message).ok_or(malformed)?;
            let slot = self.outputs.commons.indices.get(&index);
            (slot, DropReason::UnknownIndex)
        };
        let slot = *slot.ok_or((None, unknown))?;
        let outputs = &mut self.outputs;
        let peer = self.peers[slot.0 as usize]
            .as_mut()
            .ok_or((None, unknown))?;
        let heard = match message[0] {
            probe::HELLO => peer.hear_hello(source, message, outputs, now),
            probe::WELCOME => peer.hear_welcome(source, message, outputs, now),
            _ => peer.hear_sealed(source, message, outputs, now),
        };
        heard.map_err(|reason| (Some(slot), reason))?;
        peer.pump(outputs, now);
        if let Some(endpoint) = peer.endpoint() {
            self.endpoints.insert(endpoint, slot);
        }
        Ok(Received::Proof)
    }

    fn cookie_reply(&mut self, source: Source, message: &[u8], now: Moment) -> Outcome {
        let index = receiver_of(message, 4) >> 8;
        let slot = *self
            .by_index
            .get(&index)
            .ok_or((None, DropReason::UnknownIndex))?;
        let fail = |reason| (Some(slot), reason);
        let peer = self.peers[slot.0 as usize]
            .as_mut()
            .ok_or((None, DropReason::UnknownIndex))?;
        if peer.liveness.initiations() == 0 || !self.limiter.admit_response(index, now) {
            return Err(fail(DropReason::HandshakeRefused));
        }
        let keying = peer
            .lane
            .by_index(index)
            .ok_or(fail(DropReason::HandshakeRefused))?;
        let mut reply = [0; INITIATION_LEN];
        keying
            .engine
            .handshake(source.remote.ip(), message, &mut reply, now)
            .map_err(fail)?;
        peer.took_cookie(now);
        peer.pump(&mut self.outputs, now);
        Ok(Received::Nothing)
    }
}
