//! What a lane asks of a WireGuard implementation.
//!
//! An engine is Noise state and session keys, nothing else: when to initiate, retry, renew or keep
//! alive is the peer's business (`liveness`), so that it is the same for every engine and testable
//! on virtual time. `tunn` is BoringTun, `model` a stand-in without cryptography.
//!
//! A session is *established* for the initiator by the response, for the responder by the first
//! data message on it; before that the responder goes on sending on the session it had.

pub mod model;
pub mod tunn;

use std::net::IpAddr;
use std::time::Duration;

use crate::facts::DropReason;
use crate::time::Moment;

pub const INITIATION_LEN: usize = 148;
pub const RESPONSE_LEN: usize = 92;
pub const COOKIE_REPLY_LEN: usize = 64;
/// Header and tag of a data message.
pub const DATA_OVERHEAD: usize = 32;
/// The paper's limits (section 6), and the age at which we stop sending: a little before the peer
/// stops listening.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
pub const SEND_UNTIL: Duration = Duration::from_secs(178);

pub type Key = [u8; 32];

/// Makes identities; the one thing a plane is given that knows a concrete engine.
pub trait EngineFactory: Send {
    fn identity(&self, private_key: &Key) -> Box<dyn Identity>;
    /// 32 bytes that nobody can guess.
    fn random(&self) -> Key;
}

/// What depends on our private key alone: the checks in front of any peer.
pub trait Identity: Send {
    fn public_key(&self) -> Key;
    /// DH(static, static); zeros for a key of low order.
    fn shared_secret(&self, peer: &Key) -> Key;
    /// Whether mac1 of an initiation or response (of exact length) is right.
    fn addressed_to_us(&self, message: &[u8]) -> bool;
    /// Whether mac2 proves that the sender receives at `source`; else `reply` holds a cookie reply.
    fn proves_address(
        &self,
        source: IpAddr,
        message: &[u8],
        reply: &mut [u8; COOKIE_REPLY_LEN],
    ) -> bool;
    /// The public key an initiation claims. Costs one Diffie-Hellman.
    fn initiator_of(&self, initiation: &[u8]) -> Option<Key>;
    /// `index` has 24 bits.
    fn engine(
        &self,
        peer: &Key,
        preshared_key: Option<&Key>,
        index: u32,
        now: Moment,
    ) -> Box<dyn Engine>;
}

/// The session an engine sends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub established: Moment,
    pub initiator: bool,
    /// Sent on it so far.
    pub messages: u64,
    /// An initiation is still open inside the engine; another handshake is wanted soon.
    pub unsettled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// We responded; `reply[..len]` is the response. The session waits for its first data message.
    Responded { len: usize },
    /// Our initiation was answered; `reply[..len]` is a keepalive that confirms the session.
    Established { len: usize },
    /// A cookie was taken: the next fresh initiation will carry it.
    Cookie,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Length of the inner packet; zero for a keepalive.
    pub len: usize,
    /// This message moved sending to a session in which we are the responder.
    pub confirmed: bool,
}

pub trait Engine: Send {
    /// To be called four times a second. Never makes a datagram.
    fn tick(&mut self, now: Moment);
    /// A fresh initiation. At most the newest two can be answered.
    fn initiate(&mut self, now: Moment) -> Option<[u8; INITIATION_LEN]>;
    /// An initiation, response or cookie reply of exact length.
    fn handshake(
        &mut self,
        source: IpAddr,
        message: &[u8],
        reply: &mut [u8; INITIATION_LEN],
        now: Moment,
    ) -> Result<Progress, DropReason>;
    /// Needs `out.len() >= packet.len() + 32`; an empty packet is a keepalive.
    fn seal(&mut self, packet: &[u8], out: &mut [u8], now: Moment) -> Result<usize, DropReason>;
    /// A data message of 32 bytes or more. Needs `out.len() >= datagram.len()`.
    fn open(&mut self, datagram: &[u8], out: &mut [u8], now: Moment) -> Result<Opened, DropReason>;
    /// The session `seal` would use now.
    fn session(&self, now: Moment) -> Option<Session>;
}

/// Our or their index, as the sender of a message of type 1 or 2.
pub(crate) fn sender_of(message: &[u8]) -> u32 {
    word(message, 4)
}

/// The receiver's index, at byte 4 of types 3 and 4, at byte 8 of type 2.
pub(crate) fn receiver_of(message: &[u8], at: usize) -> u32 {
    word(message, at)
}

pub(crate) fn counter_of(data: &[u8]) -> u64 {
    u64::from(word(data, 8)) | u64::from(word(data, 12)) << 32
}

fn word(message: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([
        message[at],
        message[at + 1],
        message[at + 2],
        message[at + 3],
    ])
}
