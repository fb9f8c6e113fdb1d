//! What the data plane tells: facts, in the past tense and coalesced, and counters on request.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use serde_bytes::ByteArray;

use crate::desired::{LaneId, PathId, PathKind, SocketId};
use crate::path::{Cause, State};
use crate::probe::message::Candidate;

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Fact {
    /// A session came up.
    SessionEstablished {
        public_key: ByteArray<32>,
        initiator: bool,
        /// Absent where we responded.
        rtt_ms: Option<f64>,
    },
    /// The session died and nothing replaced it.
    SessionExpired { public_key: ByteArray<32> },
    /// The primary path is another one: the peer's datagrams come from there, or a reflex switched.
    Roamed {
        public_key: ByteArray<32>,
        socket: SocketId,
        remote: SocketAddr,
        cause: Cause,
        /// Where the peer was before.
        left: SocketAddr,
        left_socket: SocketId,
    },
    /// The peer is a Shore node, and we share probe keys.
    Acquainted {
        public_key: ByteArray<32>,
        restarted: bool,
    },
    /// The peer speaks from a place that nobody advised.
    Learned {
        public_key: ByteArray<32>,
        socket: SocketId,
        remote: SocketAddr,
    },
    /// Where the peer says that it may be: its whole list.
    Candidates {
        public_key: ByteArray<32>,
        candidates: Vec<Candidate>,
    },
    /// A trial was answered, after the peer had held the echo for so long.
    TrialEchoed {
        public_key: ByteArray<32>,
        number: u32,
        held_s: f64,
    },
    /// Initiations have gone unanswered for `for_s`; repeated each time the wait doubles.
    Unanswered {
        public_key: ByteArray<32>,
        for_s: f64,
        initiations: u32,
    },
    /// The handshake was answered and data still is not.
    OneWay { public_key: ByteArray<32> },
    /// A question about a size was answered, or our own device refused to send it.
    Measured {
        public_key: ByteArray<32>,
        token: u64,
        refused: bool,
    },
    /// So many large datagrams that left for there never came, most or all of them, and a probe behind them did.
    Swallowed {
        public_key: ByteArray<32>,
        socket: SocketId,
        remote: SocketAddr,
        count: u32,
    },
    /// Packets were lost for a reason of our own, for 3 s or more.
    Losing {
        public_key: Option<ByteArray<32>>,
        reason: DropReason,
        for_s: f64,
        count: u64,
    },
    /// A STUN server sees us there.
    Mapped {
        socket: SocketId,
        server: SocketAddr,
        mapped: SocketAddr,
    },
    /// A relay let us in.
    LinkUp {
        link: SocketId,
        /// Where it sees us.
        observed: SocketAddr,
        /// Of its UDP side.
        udp: Vec<SocketAddr>,
    },
    /// A stream to a relay ended, or never came up.
    LinkDown { link: SocketId, reason: String },
    /// A relay closes the stream after so long.
    LinkLeaving { link: SocketId, for_s: f64 },
    /// A relay's UDP side forwards to us.
    Bound { binding: SocketId },
    /// It answers no longer.
    Unbound { binding: SocketId },
    /// No node is at this place.
    Away { link: SocketId, remote: SocketAddr },
    /// A relay says from where the node at this place speaks to it.
    Seen {
        link: SocketId,
        remote: SocketAddr,
        address: IpAddr,
    },
    /// A socket reports an error that is not about one destination.
    SocketFailed { socket: SocketId, errno: i32 },
    /// The TUN device is gone or refuses us (EBADFD: deleted).
    TunFailed { errno: i32 },
    /// A panic was caught; the part named was rebuilt.
    Caught { part: String, text: String },
}

/// Why a packet or datagram went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// From the TUN: no peer's allowed IPs hold the destination.
    NoRoute,
    /// From the TUN: not an IP packet, or a header that contradicts itself.
    MalformedPacket,
    /// From the TUN: longer than the path carries, and not to be cut.
    TooBig,
    /// From the TUN: the peer has no path.
    NoPath,
    /// From the TUN: staged for a session that did not come in time.
    StageOverflow,
    StageExpired,
    /// The socket's send buffer was full.
    SendQueue,
    SendError,
    TunQueue,
    TunError,
    /// Shed at the receive queue to keep it short.
    ReceiveQueue,
    /// From the network: not WireGuard, or of an impossible length.
    MalformedDatagram,
    /// A STUN answer that nobody asked for.
    StrayStun,
    /// Longer than the receive buffer.
    Truncated,
    BadMac,
    RateLimited,
    UnknownPeer,
    UnknownIndex,
    HandshakeRefused,
    /// Authentication of a data message failed.
    BadTag,
    /// Opened before: a replay, or the second of two copies.
    Replayed,
    /// Fell out of the replay window.
    TooOld,
    /// Opened, but the source address belongs to another peer or to none.
    WrongSource,
    /// No live session for the index.
    NoSession,
    /// Refused by policy.
    Filtered,
}

/// Answer to the brain's question about one peer. Ages in seconds, absent if never.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerCounters {
    pub public_key: ByteArray<32>,
    pub endpoint: Option<SocketAddr>,
    pub socket: Option<SocketId>,
    pub connected: bool,
    pub last_received_age_s: Option<f64>,
    pub last_handshake_age_s: Option<f64>,
    /// Age of the session in use.
    pub session_age_s: Option<f64>,
    pub handshake_rtt_ms: Option<f64>,
    /// How long the oldest unanswered packet has waited.
    pub unanswered_s: Option<f64>,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub handshakes: u64,
    /// Whether it is a Shore node that answers probes.
    pub probed: bool,
    pub switches: u64,
    /// How long the primary path has been the primary one.
    pub primary_age_s: f64,
    /// Those that packets can take now.
    pub lanes: Vec<LaneCounters>,
    pub paths: Vec<PathCounters>,
    pub drops: BTreeMap<DropReason, u64>,
}

/// One lane's session: its age, and how many messages were sent on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaneCounters {
    pub id: LaneId,
    pub session_age_s: f64,
    pub messages: u64,
}

/// One path's numbers; losses are shares from 0 to 1, absent until known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathCounters {
    /// Absent for a path that nobody advised.
    pub id: Option<PathId>,
    pub kind: PathKind,
    pub socket: SocketId,
    pub remote: SocketAddr,
    pub primary: bool,
    pub state: State,
    pub state_age_s: f64,
    pub rtt_ms: Option<f64>,
    pub jitter_ms: Option<f64>,
    pub loss_tx: Option<f64>,
    pub loss_rx: Option<f64>,
    /// Data messages since the path was last taken, copies included, and what the peer counted of them.
    pub data_sent: u32,
    pub data_arrived: u32,
    /// Of those, datagrams of more than 1200 bytes with their IP header.
    pub large_sent: u32,
    pub large_arrived: u32,
    /// Probes of this path and what the peer counted of them, as its last echo says; neither ever falls.
    pub probes_sent: u32,
    pub probes_arrived: u32,
    pub proof_age_s: Option<f64>,
    /// How long a held path must still answer before it is taken again.
    pub hold_s: Option<f64>,
    /// The newest `poke` that a probe was sent for, and the round trip if it was answered.
    pub poke: Option<u64>,
    pub poke_rtt_ms: Option<f64>,
    /// What we look like from there.
    pub observed: Option<SocketAddr>,
}
