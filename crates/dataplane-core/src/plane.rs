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
use crate::desired::{DesiredState, Measurement, SocketId};
use crate::engine::EngineFactory;
use crate::facts::{DropReason, Fact, PeerCounters};
use crate::filter::Filter;
use crate::greetings::Greetings;
use crate::limiter::Limiter;
use crate::offload::headers::FLAGS;
use crate::outputs::Outputs;
use crate::peer::Peer;
use crate::probe::{Acquaintance, Tag};
use crate::reports::Losses;
pub use crate::sealer::Sealer;
use crate::stun::Stun;
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
    /// A question about a size: not to be fragmented, and to be told by this if it is refused.
    pub token: Option<u64>,
    /// How many hops it may make, where it shall not arrive.
    pub hops: Option<u8>,
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
    /// Peers by the pair tags of their hellos.
    pub(crate) by_tag: HashMap<Tag, PeerSlot>,
    /// Peers by the 24-bit indices of their engines.
    pub(crate) by_index: HashMap<u32, PeerSlot>,
    /// Where peers were last; may name places they have left.
    pub(crate) endpoints: HashMap<SocketAddr, PeerSlot>,
    pub(crate) allowed: AllowedIps,
    /// The last look-up of a source, which is mostly the next one too.
    pub(crate) last_source: Option<(IpAddr, PeerSlot)>,
    /// None lets in what allowed IPs let in.
    pub(crate) filter: Option<Filter>,
    pub(crate) greetings: Greetings,
    pub(crate) limiter: Limiter,
    pub(crate) outputs: Outputs,
    pub(crate) stun: Stun,
    losses: Losses,
    drops: BTreeMap<DropReason, u64>,
    ticked: Moment,
    swept: Moment,
}

impl Plane {
    pub fn new(engines: Box<dyn EngineFactory>, seed: u64, now: Moment) -> Self {
        let secret = engines.random();
        Self {
            engines,
            desired: None,
            peers: Vec::new(),
            by_key: HashMap::new(),
            by_tag: HashMap::new(),
            by_index: HashMap::new(),
            endpoints: HashMap::new(),
            allowed: AllowedIps::empty(),
            last_source: None,
            filter: None,
            greetings: Greetings::default(),
            limiter: Limiter::new(now),
            outputs: Outputs::new(seed, secret),
            stun: Stun::default(),
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
        if let (Ok(_), Some(filter)) = (owner, &mut self.filter) {
            filter.sent(packet, now);
        }
        owner.inspect_err(|reason| self.note_drop(None, *reason, 1, now))
    }

    /// Borrow of a peer that has a live session and a path; taken once per super-packet. `crowd`: the
    /// packet is one.
    pub fn sealer(
        &mut self,
        peer: PeerSlot,
        packet: &[u8],
        crowd: bool,
        now: Moment,
    ) -> Option<Sealer<'_>> {
        let interface = self.outputs.mtu;
        let peer = self.peers.get_mut(peer.0 as usize)?.as_mut()?;
        let destination = peer.paths.primary()?;
        peer.lane.session(now)?;
        peer.wake_if_quiet(now);
        let sparse = !crowd && peer.is_sparse(packet, now);
        let lane = peer.lane_for(sparse, now);
        let copy = peer.copies_to(sparse, lane, now);
        let here = peer.inner_mtu(destination, interface);
        let there = copy.map_or(here, |copy| peer.inner_mtu(copy, interface));
        Some(Sealer {
            peer,
            lane,
            destination,
            copy,
            mtu: here.min(there),
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
        let result = self.demultiplex(source, datagram, out, now);
        result.unwrap_or_else(|(peer, reason)| {
            self.note_drop(peer, reason, 1, now);
            Received::Nothing
        })
    }

    /// To be called at `deadline`. Everything is looked after four times a second; in between, those peers
    /// that have something to do.
    pub fn tick(&mut self, now: Moment) {
        let everything = now.since(self.ticked) >= TICK;
        for peer in self.peers.iter_mut().flatten() {
            if everything || peer.due.is_some_and(|due| due <= now) {
                peer.tick(&mut self.outputs, now);
            }
        }
        self.outputs.put_off = true;
        if !everything {
            return;
        }
        self.ticked = now;
        self.greetings.tick(now);
        self.ask_stun(now);
        for fact in self.losses.due(None, None, now) {
            self.outputs.reports.tell(fact, now);
        }
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.sweep();
        }
    }

    pub fn deadline(&mut self) -> Moment {
        if std::mem::take(&mut self.outputs.put_off) {
            let peers = self.peers.iter().flatten();
            self.outputs.soon = peers.filter_map(|peer| peer.due).min();
        }
        let tick = self.ticked + TICK;
        self.outputs
            .soon
            .map_or(tick, |soon| soon.clamp(self.ticked, tick))
    }

    pub fn transmit(&mut self) -> Option<Transmit> {
        self.outputs.next()
    }

    /// A packet for the TUN that comes from no peer: a word to senders whose packets were lost for their size.
    pub fn word(&mut self) -> Option<Vec<u8>> {
        self.outputs.next_back()
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

    /// The same to be told: all, or those only that are `changed` since they were told last.
    pub fn tell_counters(&mut self, changed: bool, now: Moment) -> Vec<PeerCounters> {
        let configured = self.desired.iter().flat_map(|desired| &desired.peers);
        let slots = configured.filter_map(|peer| self.by_key.get(&*peer.public_key));
        let slots: Vec<_> = slots.map(|slot| slot.0 as usize).collect();
        let told = slots
            .into_iter()
            .filter_map(|slot| self.peers[slot].as_mut()?.tell_counters(changed, now));
        told.collect()
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

    /// Counts what the kernel did not take. An error is news about the path, and a loss of ours only
    /// where packets depend on that path.
    pub fn note_refused(
        &mut self,
        (owner, destination): (Option<PeerSlot>, Destination),
        reason: DropReason,
        count: u64,
        now: Moment,
    ) {
        let peer = owner.and_then(|slot| self.peers.get_mut(slot.0 as usize)?.as_mut());
        if let Some(peer) = peer
            && reason == DropReason::SendError
            && peer.paths.refused(destination, now)
        {
            peer.pump(&mut self.outputs, now);
            return;
        }
        self.note_drop(owner, reason, count, now);
    }

    /// Asks a peer whether a size gets there; the answer is a fact.
    pub fn measure(&mut self, question: &Measurement, now: Moment) {
        let slot = self.by_key.get(&*question.public_key);
        if let Some(Some(peer)) = slot.and_then(|slot| self.peers.get_mut(slot.0 as usize)) {
            peer.measure(question, &mut self.outputs, now);
        }
    }

    /// Our own device does not take a datagram of the size that was asked about.
    pub fn measure_refused(&mut self, peer: Option<PeerSlot>, token: u64, now: Moment) {
        let peer = peer.and_then(|slot| self.peers.get_mut(slot.0 as usize)?.as_mut());
        if let Some(peer) = peer {
            peer.tell_measured(token, true, &mut self.outputs, now);
        }
    }

    /// Nothing goes or comes by this socket or link any more, until a desired state names another.
    pub fn note_closed(&mut self, socket: SocketId, now: Moment) {
        for peer in self.peers.iter_mut().flatten() {
            if let Some(switch) = peer.paths.retain(|open| open != socket, now) {
                peer.switched(switch, &mut self.outputs, now);
                peer.pump(&mut self.outputs, now);
            }
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

    /// Forgets indices and endpoints that nobody uses any more.
    fn sweep(&mut self) {
        let peers = &self.peers;
        let alive = |slot: &PeerSlot| peers.get(slot.0 as usize).and_then(Option::as_ref);
        self.by_index.retain(|index, slot| {
            alive(slot).is_some_and(|peer| peer.indices().any(|used| used == *index))
        });
        self.endpoints.retain(|remote, slot| {
            alive(slot).is_some_and(|peer| peer.endpoint() == Some(*remote))
        });
        self.outputs.commons.indices.retain(|index, slot| {
            let known = alive(slot).and_then(|peer| peer.probing.known.as_ref());
            let mut indices = known.into_iter().flat_map(Acquaintance::indices);
            indices.any(|used| used == *index)
        });
    }
}

/// Whether a packet begins or answers a TCP connection, or cannot be told at a glance.
pub(crate) fn is_syn(packet: &[u8]) -> bool {
    let flags = match packet.first().map(|first| first >> 4) {
        Some(4) if packet.get(9) == Some(&TCP) => {
            packet.get(usize::from(packet[0] & 15) * 4 + FLAGS)
        }
        Some(6) if packet.get(6) == Some(&TCP) => packet.get(40 + FLAGS),
        Some(6) => return packet.get(6).is_some_and(|next| EXTENSIONS.contains(next)),
        _ => None,
    };
    flags.is_some_and(|flags| flags & SYN != 0)
}

/// `len` rounded up to WireGuard's 16 bytes, but not above the MTU (and never below `len`).
pub fn padded_len(len: usize, mtu: u16) -> usize {
    len.next_multiple_of(16).min(usize::from(mtu).max(len))
}

const TCP: u8 = 6;
const SYN: u8 = 2;
/// IPv6 headers that may stand before TCP: hop-by-hop, routing, fragment, authentication, options.
const EXTENSIONS: [u8; 5] = [0, 43, 44, 51, 60];
const TICK: Duration = Duration::from_millis(250);
const SWEEP: Duration = Duration::from_secs(60);
