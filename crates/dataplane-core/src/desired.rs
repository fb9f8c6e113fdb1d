//! What the brain wants: the whole configuration of one tunnel, as it arrives on the control
//! socket (docs/protocol/dataplane.md). A desired state is whole and idempotent: applying it twice
//! is applying it once.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use crate::probe::message::Candidate;

pub type SocketId = u32;
pub type PathId = u32;
pub type LaneId = u8;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct DesiredState {
    pub interface: Interface,
    pub sockets: Vec<Socket>,
    pub peers: Vec<Peer>,
    /// STUN servers, each with a socket to ask it by.
    #[serde(default)]
    pub stun: Vec<StunQuery>,
    /// What peers may send us; absent where everything that allowed IPs let in may come.
    #[serde(default)]
    pub filter: Option<Vec<Rule>>,
    /// Streams to relays; their ids are of the same kind as those of sockets.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Addresses at the UDP side of relays; their ids are of the same kind.
    #[serde(default)]
    pub bindings: Vec<Binding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Interface {
    /// Absent until somebody configures a key (`shore-wg`): then nothing is sent or accepted.
    pub private_key: Option<ByteArray<32>>,
    /// The longest packet, in bytes, on a path of which nothing was proved.
    pub mtu: u16,
    /// False switches the reflexes' segmentation offloads off (a debugging aid).
    pub offload: bool,
    /// False greets nobody: every peer is taken for plain WireGuard.
    #[serde(default = "yes")]
    pub probing: bool,
    /// Whether ears that come are listened to (`Plane::overhear`).
    #[serde(default)]
    pub overhear: bool,
}

/// A UDP socket that the brain opened; its descriptor travels beside the message.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Socket {
    pub id: SocketId,
    /// 4 or 6.
    pub family: u8,
    /// The uplink the socket is bound to, or absent for the unbound socket of its family.
    pub uplink: Option<String>,
}

/// A connected TCP socket that is to become a stream to a relay (docs/protocol/relay.md).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Link {
    pub id: SocketId,
    /// The relay's id, for the brain's own use.
    #[serde(default)]
    pub relay: String,
    /// By which uplink its packets leave, where that is known; for the brain's own use as well.
    #[serde(default)]
    pub uplink: Option<String>,
    /// SHA-256 of the relay's SubjectPublicKeyInfo; absent where the system's CAs judge `name`.
    pub pin: Option<ByteArray<32>>,
    /// The host that was dialled: a name, or an address without brackets.
    pub name: String,
    /// The admission as `prove` carries it.
    pub admission: ByteBuf,
    /// Ed25519 seed of the key that the admission names.
    pub admission_key: ByteArray<32>,
    /// Places of nodes that the relay is asked about: from which address do they speak to it?
    #[serde(default)]
    pub asks: Vec<SocketAddr>,
}

/// An address of ours at the UDP side of a relay (docs/protocol/relay.md).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Binding {
    pub id: SocketId,
    /// The stream to that relay, whose ticket is used; it may be gone again.
    pub link: SocketId,
    /// By which datagrams leave.
    pub socket: SocketId,
    pub server: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct StunQuery {
    pub socket: SocketId,
    pub server: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Peer {
    pub public_key: ByteArray<32>,
    pub preshared_key: Option<ByteArray<32>>,
    /// Inner prefixes, `10.0.0.0/24` or `fd00::/64`; unique over all peers.
    pub allowed_ips: Vec<String>,
    /// Persistent keepalive interval in seconds, 0 for none.
    pub keepalive_s: u16,
    /// Whether a session is kept alive without traffic.
    pub wanted: bool,
    /// Raised by one for each renewal the brain asks for: a larger number than the last one seen
    /// makes one handshake initiation at once.
    pub renew: u64,
    /// Raised by one for each time that every path is to be probed at once.
    #[serde(default)]
    pub poke: u64,
    /// Raised by one for each time that the NATs before us are to be opened for it.
    #[serde(default)]
    pub prime: u64,
    pub lanes: Vec<Lane>,
    #[serde(default)]
    pub redundancy: Redundancy,
    /// Where we may be, to be told to the peer if it is a Shore node.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
    /// In order of preference; the first one is the primary path unless a reflex knows better.
    pub paths: Vec<Path>,
    /// Asked of a Shore peer once each.
    #[serde(default)]
    pub trials: Vec<Trial>,
    /// Its ports are guessed.
    #[serde(default)]
    pub spray: Option<Spray>,
    /// Ours are guessed.
    #[serde(default)]
    pub fan: Option<Fan>,
}

/// When packets go out on two paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Redundancy {
    Off,
    /// While the primary path is in doubt.
    #[default]
    Auto,
    /// Sparse flows always, others as in `Auto`.
    Interactive,
    Always,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Lane {
    pub id: LaneId,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Path {
    pub id: PathId,
    pub kind: PathKind,
    pub socket: SocketId,
    pub remote: SocketAddr,
    /// Costs money: standby only, and no copies of bulk.
    #[serde(default)]
    pub metered: bool,
    /// The longest datagram that was proved to get there, with its IP header.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// How many seconds our NAT remembers it without a datagram, a margin included.
    #[serde(default = "first_quiet")]
    pub quiet_s: u16,
}

/// From any of `sources` to any of `destinations` (prefixes), at any of `ports`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rule {
    pub sources: Vec<String>,
    pub destinations: Vec<String>,
    pub ports: Vec<Ports>,
}

/// A protocol, absent for every one, and its ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ports {
    pub protocol: Option<Protocol>,
    pub first: u16,
    pub last: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Protocol {
    Named(Named),
    Number(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Named {
    Tcp,
    Udp,
    /// Of both families.
    Icmp,
}

/// A question about one size on one path; its answer is the fact `measured`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Measurement {
    pub public_key: ByteArray<32>,
    pub socket: SocketId,
    pub remote: SocketAddr,
    /// Of the datagram, with its IP header.
    pub size: u16,
    pub token: u64,
    /// Our tunnel address and the peer's, by which plain WireGuard is measured.
    pub ends: Option<(IpAddr, IpAddr)>,
}

/// A probe that is of no path, and whose echo the peer holds for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Trial {
    /// A number that was not there before is a new trial.
    pub number: u32,
    pub socket: SocketId,
    pub remote: SocketAddr,
    pub hold_s: u16,
}

/// Probes to one port after another of an address that a relay vouched for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Spray {
    /// A number that was not there before is a new spray.
    pub number: u32,
    pub socket: SocketId,
    pub address: IpAddr,
    /// Ports to be tried before all others.
    pub first: Vec<u16>,
}

/// Sockets of which each opens the NATs before us for the peer's endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Fan {
    /// A number that was not there before is a new fan.
    pub number: u32,
    pub remote: SocketAddr,
    /// How far the datagrams go that open the NATs.
    pub hops: u8,
    pub sockets: Vec<SocketId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    Direct,
    Relay,
}

fn yes() -> bool {
    true
}

fn first_quiet() -> u16 {
    FIRST_QUIET_S
}

pub const FIRST_QUIET_S: u16 = 15;
