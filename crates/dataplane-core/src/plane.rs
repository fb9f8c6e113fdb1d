//! One tunnel, seen from its packets: who a packet is for, who a datagram is from, what is due.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::desired::{DesiredState, SocketId};
use crate::engine::EngineFactory;
use crate::facts::{DropReason, Fact, PeerCounters};
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
    /// Nothing for the TUN; there may be something to transmit.
    Nothing,
}

pub struct Plane {
    desired: Option<DesiredState>,
    drops: BTreeMap<DropReason, u64>,
    now: Moment,
}

impl Plane {
    pub fn new(_engines: Box<dyn EngineFactory>, _seed: u64, now: Moment) -> Self {
        Self {
            desired: None,
            drops: BTreeMap::new(),
            now,
        }
    }

    /// Whole and idempotent. `seen` is the last fact serial the brain has read. On `Err` nothing changed.
    pub fn apply(&mut self, desired: DesiredState, _seen: u64, now: Moment) -> Result<(), String> {
        self.now = now;
        self.desired = Some(desired);
        Ok(())
    }

    pub fn desired(&self) -> Option<&DesiredState> {
        self.desired.as_ref()
    }

    /// Whom a packet from the TUN is for; one look-up per super-packet. Counts the drop itself.
    pub fn route(&mut self, _packet: &[u8], _now: Moment) -> Result<PeerSlot, DropReason> {
        *self.drops.entry(DropReason::NoRoute).or_default() += 1;
        Err(DropReason::NoRoute)
    }

    /// Borrow of a peer that has a live session and a path; taken once per super-packet.
    pub fn sealer(&mut self, _peer: PeerSlot, _now: Moment) -> Option<Sealer<'_>> {
        None
    }

    /// No session: keep the (single, not super-) packet for a second and start a handshake.
    pub fn stage(&mut self, _peer: PeerSlot, _packet: &[u8], _now: Moment) {}

    /// From the network. `out` holds at least `datagram.len()` bytes; a longer datagram is dropped.
    pub fn receive(
        &mut self,
        _source: Source,
        _datagram: &[u8],
        _out: &mut [u8],
        _now: Moment,
    ) -> Received {
        Received::Nothing
    }

    /// To be called four times a second and at `deadline`.
    pub fn tick(&mut self, now: Moment) {
        self.now = now;
    }

    pub fn deadline(&self) -> Moment {
        self.now + std::time::Duration::from_millis(250)
    }

    pub fn transmit(&mut self) -> Option<Transmit> {
        None
    }

    pub fn fact(&mut self) -> Option<(u64, Moment, Fact)> {
        None
    }

    /// Serial of the last fact told.
    pub fn last_fact(&self) -> u64 {
        0
    }

    pub fn counters(&self, _now: Moment) -> Vec<PeerCounters> {
        Vec::new()
    }

    /// What the IO side dropped.
    pub fn note_drop(
        &mut self,
        _peer: Option<PeerSlot>,
        reason: DropReason,
        count: u64,
        _now: Moment,
    ) {
        *self.drops.entry(reason).or_default() += count;
    }

    /// Drops of no peer.
    pub fn drops(&self) -> &BTreeMap<DropReason, u64> {
        &self.drops
    }

    /// A fact of the IO side: `SocketFailed`, `TunFailed`, `Caught`.
    pub fn note_fact(&mut self, _fact: Fact, _now: Moment) {}
}

/// A peer ready to send, borrowed for one super-packet.
pub struct Sealer<'a> {
    plane: &'a mut Plane,
    destination: Destination,
    mtu: u16,
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
    pub fn seal(&mut self, _packet: &[u8], _out: &mut [u8]) -> Result<usize, DropReason> {
        let _ = &self.plane;
        Err(DropReason::NoSession)
    }
}

/// `len` rounded up to WireGuard's 16 bytes, but not above the MTU (and never below `len`).
pub fn padded_len(len: usize, mtu: u16) -> usize {
    len.next_multiple_of(16).min(usize::from(mtu).max(len))
}
