//! Two or more planes, a wire between them, and a clock that moves when it is told to.
#![allow(dead_code)]

pub mod two_paths;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_bytes::ByteArray;
use shore_dataplane_core::desired::{
    DesiredState, Interface, Lane, Path, PathKind, Peer, Redundancy, Socket, SocketId,
};
use shore_dataplane_core::engine::EngineFactory;
use shore_dataplane_core::engine::model::{Models, public_key};
use shore_dataplane_core::facts::{Fact, PeerCounters};
use shore_dataplane_core::plane::{Plane, Received, Source};
use shore_dataplane_core::time::Moment;

pub const SOCKET: u32 = 1;

pub struct Node {
    pub plane: Plane,
    pub address: SocketAddr,
    /// Further addresses, each of a socket of its own.
    pub others: Vec<(SocketId, SocketAddr)>,
    pub inner: Ipv4Addr,
    /// Answers requests, as a host that answers pings.
    pub echoes: bool,
    /// Inner packets that arrived: when, and their sequence numbers.
    pub requests: Vec<(Moment, u32)>,
    pub replies: Vec<(Moment, u32)>,
    pub facts: Vec<Fact>,
    pub desired: DesiredState,
}

impl Node {
    /// Where a socket sends from.
    pub fn place(&self, socket: SocketId) -> SocketAddr {
        let other = self.others.iter().find(|(id, _)| *id == socket);
        other.map_or(self.address, |(_, address)| *address)
    }

    fn socket(&self, address: SocketAddr) -> Option<SocketId> {
        if address == self.address {
            return Some(SOCKET);
        }
        let other = self.others.iter().find(|(_, other)| *other == address);
        other.map(|(id, _)| *id)
    }
}

struct Datagram {
    at: Moment,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// Whether the wire loses a datagram: (from, to, bytes, now).
type Loses = Box<dyn FnMut(SocketAddr, SocketAddr, &[u8], Moment) -> bool>;

pub struct Wire {
    pub now: Moment,
    pub nodes: Vec<Node>,
    pub latency: Duration,
    /// Added to the latency from an address.
    pub slower: BTreeMap<SocketAddr, Duration>,
    pub loses: Loses,
    /// Initiations that left a node, by its address.
    pub initiations: BTreeMap<SocketAddr, Vec<(Moment, Vec<u8>)>>,
    /// What was sent to die on the way: from, to, hops.
    pub brief: Vec<(SocketAddr, SocketAddr, u8)>,
    pub sent_bytes: BTreeMap<SocketAddr, usize>,
    pub models: Models,
    in_flight: Vec<Datagram>,
    sequence: u32,
}

pub fn private(n: u8) -> [u8; 32] {
    [n; 32]
}

pub fn outer(n: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)), 51820)
}

pub fn inner(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

pub fn peer(public: [u8; 32], allowed: &str, endpoint: Option<SocketAddr>) -> Peer {
    let path = |remote| Path {
        id: 1,
        kind: PathKind::Direct,
        socket: SOCKET,
        remote,
        metered: false,
        mtu: None,
        quiet_s: 15,
    };
    Peer {
        public_key: ByteArray::new(public),
        preshared_key: None,
        allowed_ips: vec![allowed.into()],
        keepalive_s: 0,
        wanted: false,
        renew: 0,
        poke: 0,
        prime: 0,
        lanes: vec![Lane { id: 0 }, Lane { id: 1 }],
        redundancy: Redundancy::Auto,
        candidates: Vec::new(),
        paths: endpoint.into_iter().map(path).collect(),
        trials: Vec::new(),
        spray: None,
        fan: None,
    }
}

pub fn desired(private_key: [u8; 32], peers: Vec<Peer>) -> DesiredState {
    DesiredState {
        interface: Interface {
            private_key: Some(ByteArray::new(private_key)),
            mtu: 1420,
            offload: true,
            // Most dialogues are with plain WireGuard.
            probing: false,
            overhear: false,
        },
        sockets: vec![Socket {
            id: SOCKET,
            family: 4,
            uplink: None,
        }],
        peers,
        stun: Vec::new(),
        filter: None,
        links: Vec::new(),
        bindings: Vec::new(),
    }
}

impl Wire {
    pub fn new() -> Self {
        Self {
            now: Moment::from_millis(1000),
            nodes: Vec::new(),
            latency: Duration::from_millis(10),
            slower: BTreeMap::new(),
            loses: Box::new(|_, _, _, _| false),
            initiations: BTreeMap::new(),
            brief: Vec::new(),
            sent_bytes: BTreeMap::new(),
            models: Models::default(),
            in_flight: Vec::new(),
            sequence: 0,
        }
    }

    /// Nodes 1 and 2 on the model engine; 1 knows where 2 is, and 2 learns where 1 is.
    pub fn pair() -> Self {
        let mut wire = Self::new();
        wire.join(
            1,
            vec![peer(public_key(&private(2)), "10.0.0.2/32", Some(outer(2)))],
        );
        wire.join(2, vec![peer(public_key(&private(1)), "10.0.0.1/32", None)]);
        wire
    }

    pub fn join(&mut self, n: u8, peers: Vec<Peer>) -> usize {
        let models = self.models.clone();
        self.join_with(Box::new(models), n, desired(private(n), peers))
    }

    pub fn join_with(
        &mut self,
        engines: Box<dyn EngineFactory>,
        n: u8,
        desired: DesiredState,
    ) -> usize {
        let mut plane = Plane::new(engines, u64::from(n), self.now);
        plane.apply(desired.clone(), 0, self.now).unwrap();
        let (requests, replies, facts) = (Vec::new(), Vec::new(), Vec::new());
        let (address, inner) = (outer(n), inner(n));
        self.nodes.push(Node {
            plane,
            address,
            others: Vec::new(),
            inner,
            echoes: true,
            requests,
            replies,
            facts,
            desired,
        });
        self.nodes.len() - 1
    }

    /// The node's plane dies and a new one starts with the same desired state.
    pub fn restart(&mut self, node: usize) {
        let mut plane = Plane::new(
            Box::new(self.models.clone()),
            self.now.0.as_nanos() as u64,
            self.now,
        );
        plane
            .apply(self.nodes[node].desired.clone(), 0, self.now)
            .unwrap();
        self.nodes[node].plane = plane;
    }

    pub fn change(&mut self, node: usize, change: impl FnOnce(&mut DesiredState)) {
        let now = self.now;
        let node = &mut self.nodes[node];
        change(&mut node.desired);
        let seen = node.plane.last_fact();
        node.plane.apply(node.desired.clone(), seen, now).unwrap();
    }

    pub fn renew(&mut self, node: usize) {
        self.change(node, |desired| desired.peers[0].renew += 1);
    }

    pub fn cut(&mut self) {
        self.loses = Box::new(|_, _, _, _| true);
    }

    pub fn mend(&mut self) {
        self.loses = Box::new(|_, _, _, _| false);
    }

    /// A request from one node to another's inner address. Returns its number.
    pub fn ping(&mut self, from: usize, to: usize) -> u32 {
        self.sequence += 1;
        let packet = packet(
            self.nodes[from].inner,
            self.nodes[to].inner,
            8,
            self.sequence,
        );
        self.send(from, &packet);
        self.sequence
    }

    pub fn send(&mut self, from: usize, packet: &[u8]) {
        let now = self.now;
        let plane = &mut self.nodes[from].plane;
        let Ok(peer) = plane.route(packet, now) else {
            return;
        };
        let mut out = vec![0; packet.len() + 32];
        let Some(mut sealer) = plane.sealer(peer, packet, false, now) else {
            plane.stage(peer, packet, now);
            return self.drain(from);
        };
        let destinations = [Some(sealer.destination()), sealer.copy()];
        let len = sealer.seal(packet, &mut out).unwrap();
        out.truncate(len);
        for to in destinations.into_iter().flatten() {
            self.carry(self.nodes[from].place(to.socket), to.remote, out.clone());
        }
    }

    /// Lets time pass in steps of 5 ms.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Pings at an interval for a time; returns how many were answered within a second.
    pub fn ping_for(
        &mut self,
        from: usize,
        to: usize,
        every: Duration,
        time: Duration,
    ) -> (usize, usize) {
        let (end, before) = (self.now + time, self.nodes[from].replies.len());
        let mut sent = 0;
        while self.now < end {
            self.ping(from, to);
            sent += 1;
            self.run(every);
        }
        (sent, self.nodes[from].replies.len() - before)
    }

    pub fn counters(&self, node: usize) -> PeerCounters {
        self.nodes[node].plane.counters(self.now).remove(0)
    }

    pub fn initiations_of(&self, node: usize) -> usize {
        self.initiations
            .get(&self.nodes[node].address)
            .map_or(0, Vec::len)
    }

    pub fn carry(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if bytes.first() == Some(&1) {
            self.initiations
                .entry(from)
                .or_default()
                .push((self.now, bytes.clone()));
        }
        *self.sent_bytes.entry(from).or_default() += bytes.len();
        if !(self.loses)(from, to, &bytes, self.now) {
            let slower = self.slower.get(&from).copied().unwrap_or_default();
            self.in_flight.push(Datagram {
                at: self.now + self.latency + slower,
                from,
                to,
                bytes,
            });
        }
    }

    fn step(&mut self) {
        self.now = self.now + Duration::from_millis(5);
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.in_flight)
            .into_iter()
            .partition(|datagram| datagram.at <= now);
        self.in_flight = later;
        let due: Vec<Datagram> = due;
        for datagram in due {
            self.deliver(datagram);
        }
        for node in 0..self.nodes.len() {
            let plane = &mut self.nodes[node].plane;
            if plane.deadline() <= now {
                plane.tick(now);
            }
            self.drain(node);
        }
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Some(node) = self
            .nodes
            .iter()
            .position(|node| node.socket(datagram.to).is_some())
        else {
            return;
        };
        let mut out = vec![0; datagram.bytes.len()];
        let source = Source {
            socket: self.nodes[node].socket(datagram.to).unwrap(),
            remote: datagram.from,
        };
        let received = self.nodes[node]
            .plane
            .receive(source, &datagram.bytes, &mut out, self.now);
        if let Received::Packet { len, .. } = received {
            self.take(node, &out[..len]);
        }
        self.drain(node);
    }

    fn take(&mut self, node: usize, inner: &[u8]) {
        let number = u32::from_be_bytes(inner[24..28].try_into().unwrap());
        let from = Ipv4Addr::from(<[u8; 4]>::try_from(&inner[12..16]).unwrap());
        let at = (self.now, number);
        if inner[20] == 0 {
            self.nodes[node].replies.push(at);
            return;
        }
        self.nodes[node].requests.push(at);
        if self.nodes[node].echoes {
            let reply = packet(self.nodes[node].inner, from, 0, number);
            self.send(node, &reply);
        }
    }

    fn drain(&mut self, node: usize) {
        while let Some(transmit) = self.nodes[node].plane.transmit() {
            let from = self.nodes[node].place(transmit.socket);
            match transmit.hops {
                Some(hops) => self.brief.push((from, transmit.remote, hops)),
                None => self.carry(from, transmit.remote, transmit.bytes),
            }
        }
        while let Some((_, _, fact)) = self.nodes[node].plane.fact() {
            self.nodes[node].facts.push(fact);
        }
    }
}

/// An IPv4 packet of ICMP with a kind at byte 20 and a number at byte 24, 96 bytes long. As a kernel makes
/// them, its identification counts, and its checksum differs.
pub fn packet(from: Ipv4Addr, to: Ipv4Addr, kind: u8, number: u32) -> Vec<u8> {
    let mut packet = vec![0; 96];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&96_u16.to_be_bytes());
    packet[9] = 1;
    packet[4..6].copy_from_slice(&(number as u16).to_be_bytes());
    packet[10..12].copy_from_slice(&(!number as u16).to_be_bytes());
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    packet[20] = kind;
    packet[24..28].copy_from_slice(&number.to_be_bytes());
    packet
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
