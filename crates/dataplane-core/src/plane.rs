//! One tunnel, seen from its packets: who a packet is for, who a datagram is from, what is due.
//!
//! A packet from the TUN is routed (longest prefix) to a peer, which either seals it or, without a
//! session, stages it and shakes hands. A datagram names its peer by the upper 24 bits of its receiver
//! index; only initiations must be opened to learn who sent them, which `greetings` does behind the
//! limiter. What comes out of a data message is checked against the same prefixes: its source must
//! belong to the peer that sealed it.
//!
//! The plane has no thread and no clock. After any call there may be something to `transmit` and a
//! `fact` to tell; both wait until they are asked for.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::allowed_ips::{AllowedIps, addresses};
use crate::desired::{DesiredState, SocketId};
use crate::engine::{
    COOKIE_REPLY_LEN, DATA_OVERHEAD, EngineFactory, INITIATION_LEN, RESPONSE_LEN, receiver_of,
};
use crate::facts::{DropReason, Fact, PeerCounters};
use crate::greetings::{Greeted, Greetings};
use crate::limiter::Limiter;
use crate::peer::{Outputs, Peer};
use crate::reports::Losses;
use crate::time::Moment;

/// A peer's place in the plane. Stays the same while the peer is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerSlot(pub u32);

/// Where a datagram came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    pub socket: SocketId,
    pub remote: SocketAddr,
}

/// Where a datagram goes.
pub type Destination = Source;

/// A datagram that wants to leave: handshakes, cookie replies, keepalives, packets that were staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Whose it is; cookie replies belong to nobody.
    pub peer: Option<PeerSlot>,
    pub socket: SocketId,
    pub remote: SocketAddr,
    pub bytes: Vec<u8>,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// `out[..len]` is an inner packet of `peer`, its source address checked.
    Packet { peer: PeerSlot, len: usize },
    /// A keepalive or a handshake message that its peer made: it is where it says it is.
    Proof,
    /// Nothing for the TUN; there may be something to transmit.
    Nothing,
}

pub struct Plane {
    pub(crate) engines: Box<dyn EngineFactory>,
    pub(crate) desired: Option<DesiredState>,
    pub(crate) peers: Vec<Option<Peer>>,
    pub(crate) by_key: HashMap<[u8; 32], PeerSlot>,
    /// Peers by the 24-bit indices of their engines.
    pub(crate) by_index: HashMap<u32, PeerSlot>,
    /// Where peers were last; may name places they have left.
    pub(crate) endpoints: HashMap<SocketAddr, PeerSlot>,
    pub(crate) allowed: AllowedIps,
    /// The last look-up of a source, which is mostly the next one too.
    pub(crate) last_source: Option<(IpAddr, PeerSlot)>,
    pub(crate) greetings: Greetings,
    pub(crate) limiter: Limiter,
    pub(crate) outputs: Outputs,
    losses: Losses,
    drops: BTreeMap<DropReason, u64>,
    ticked: Moment,
    swept: Moment,
}

impl Plane {
    pub fn new(engines: Box<dyn EngineFactory>, seed: u64, now: Moment) -> Self {
        Self {
            engines,
            desired: None,
            peers: Vec::new(),
            by_key: HashMap::new(),
            by_index: HashMap::new(),
            endpoints: HashMap::new(),
            allowed: AllowedIps::empty(),
            last_source: None,
            greetings: Greetings::default(),
            limiter: Limiter::new(now),
            outputs: Outputs::new(seed),
            losses: Losses::default(),
            drops: BTreeMap::new(),
            ticked: now,
            swept: now,
        }
    }

    pub fn desired(&self) -> Option<&DesiredState> {
        self.desired.as_ref()
    }

    /// Whom a packet from the TUN is for; one look-up per super-packet. Counts the drop itself.
    pub fn route(&mut self, packet: &[u8], now: Moment) -> Result<PeerSlot, DropReason> {
        let owner = addresses(packet)
            .ok_or(DropReason::MalformedPacket)
            .and_then(|(_, to)| self.allowed.owner(to).ok_or(DropReason::NoRoute));
        owner.inspect_err(|reason| self.note_drop(None, *reason, 1, now))
    }

    /// Borrow of a peer that has a live session and a path; taken once per super-packet.
    pub fn sealer(&mut self, peer: PeerSlot, now: Moment) -> Option<Sealer<'_>> {
        let mtu = self.outputs.mtu;
        let peer = self.peers.get_mut(peer.0 as usize)?.as_mut()?;
        let destination = peer.paths.primary()?;
        peer.lane.session(now)?;
        Some(Sealer {
            peer,
            destination,
            mtu,
            now,
        })
    }

    /// No session: keep the (single, not super-) packet for a second and start a handshake.
    pub fn stage(&mut self, peer: PeerSlot, packet: &[u8], now: Moment) {
        if let Some(Some(peer)) = self.peers.get_mut(peer.0 as usize) {
            peer.stage(packet, &mut self.outputs, now);
        }
    }

    /// From the network. `out` holds at least `datagram.len()` bytes; a longer datagram is dropped.
    pub fn receive(
        &mut self,
        source: Source,
        datagram: &[u8],
        out: &mut [u8],
        now: Moment,
    ) -> Received {
        let result = match (datagram.first_chunk::<4>(), datagram.len()) {
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
            _ => Err((None, DropReason::MalformedDatagram)),
        };
        result.unwrap_or_else(|(peer, reason)| {
            self.note_drop(peer, reason, 1, now);
            Received::Nothing
        })
    }

    /// To be called four times a second and at `deadline`.
    pub fn tick(&mut self, now: Moment) {
        self.ticked = now;
        self.outputs.soon = None;
        for peer in self.peers.iter_mut().flatten() {
            peer.tick(&mut self.outputs, now);
        }
        self.greetings.tick(now);
        for fact in self.losses.due(None, None, now) {
            self.outputs.reports.tell(fact, now);
        }
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.sweep();
        }
    }

    pub fn deadline(&self) -> Moment {
        let tick = self.ticked + TICK;
        self.outputs
            .soon
            .map_or(tick, |soon| soon.clamp(self.ticked, tick))
    }

    pub fn transmit(&mut self) -> Option<Transmit> {
        self.outputs.next()
    }

    pub fn fact(&mut self) -> Option<(u64, Moment, Fact)> {
        self.outputs.reports.next()
    }

    /// Serial of the last fact told.
    pub fn last_fact(&self) -> u64 {
        self.outputs.reports.serial()
    }

    /// In the order of the desired state.
    pub fn counters(&self, now: Moment) -> Vec<PeerCounters> {
        let configured = self.desired.iter().flat_map(|desired| &desired.peers);
        configured
            .filter_map(|peer| self.by_key.get(&*peer.public_key))
            .filter_map(|slot| self.peers[slot.0 as usize].as_ref())
            .map(|peer| peer.counters(now))
            .collect()
    }

    /// Counts what was dropped, here or by the IO side.
    pub fn note_drop(
        &mut self,
        peer: Option<PeerSlot>,
        reason: DropReason,
        count: u64,
        now: Moment,
    ) {
        if let Some(peer) = peer.and_then(|slot| self.peers.get_mut(slot.0 as usize)?.as_mut()) {
            peer.note_drop(reason, count, now);
            return;
        }
        *self.drops.entry(reason).or_default() += count;
        if matches!(reason, DropReason::SendError | DropReason::TunError) {
            self.losses.note(reason, count, now);
        }
    }

    /// Drops of no peer.
    pub fn drops(&self) -> &BTreeMap<DropReason, u64> {
        &self.drops
    }

    /// A fact of the IO side: `SocketFailed`, `TunFailed`, `Caught`.
    pub fn note_fact(&mut self, fact: Fact, now: Moment) {
        self.outputs.reports.tell(fact, now);
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
        if opened.len == 0 {
            return Ok(Received::Proof);
        }
        if !self.owns_source(slot, &out[..opened.len]) {
            return Err(fail(DropReason::WrongSource));
        }
        Ok(Received::Packet {
            peer: slot,
            len: opened.len,
        })
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
        if let crate::engine::Progress::Established { len } = progress {
            peer.answered(index, source, &reply[..len], &mut self.outputs, now);
            self.endpoints.insert(source.remote, slot);
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

    /// Forgets indices and endpoints that nobody uses any more.
    fn sweep(&mut self) {
        let peers = &self.peers;
        let alive = |slot: &PeerSlot| peers.get(slot.0 as usize).and_then(Option::as_ref);
        self.by_index.retain(|index, slot| {
            alive(slot).is_some_and(|peer| peer.lane.indices().any(|used| used == *index))
        });
        self.endpoints.retain(|remote, slot| {
            alive(slot).is_some_and(|peer| peer.endpoint() == Some(*remote))
        });
    }
}

/// A peer ready to send, borrowed for one super-packet.
pub struct Sealer<'a> {
    peer: &'a mut Peer,
    destination: Destination,
    mtu: u16,
    now: Moment,
}

impl Sealer<'_> {
    pub fn destination(&self) -> Destination {
        self.destination
    }

    /// The bound of padding.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// One WireGuard data message into `out`, which holds `packet.len() + 32` bytes or more; `packet`
    /// is already padded (`padded_len`). Returns `packet.len() + 32`.
    pub fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, DropReason> {
        self.peer.seal(packet, out, self.now)
    }
}

/// What became of a datagram, or whose drop it is and why.
pub(crate) type Outcome = Result<Received, (Option<PeerSlot>, DropReason)>;

/// `len` rounded up to WireGuard's 16 bytes, but not above the MTU (and never below `len`).
pub fn padded_len(len: usize, mtu: u16) -> usize {
    len.next_multiple_of(16).min(usize::from(mtu).max(len))
}

const TICK: Duration = Duration::from_millis(250);
const SWEEP: Duration = Duration::from_secs(60);
