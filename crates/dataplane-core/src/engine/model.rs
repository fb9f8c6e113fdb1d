//! An engine without cryptography, on virtual time: WireGuard's message sizes, indices, replay
//! window and time limits, with checksums where keys would be. For tests and simulations; it
//! protects nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    COOKIE_REPLY_LEN, DATA_OVERHEAD, Engine, EngineFactory, INITIATION_LEN, Identity, Key, Opened,
    Progress, REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, RESPONSE_LEN, SEND_UNTIL, Session,
    counter_of, receiver_of,
};
use crate::facts::DropReason;
use crate::time::Moment;

/// Clones share the source of ephemerals, so that two planes of one simulation never draw the same.
#[derive(Clone, Default)]
pub struct Models {
    ephemerals: Arc<AtomicU64>,
}

impl Models {
    /// Draws of its own: planes of different seeds never draw the same.
    pub fn seeded(seed: u64) -> Self {
        Self {
            ephemerals: Arc::new(AtomicU64::new(seed << 32)),
        }
    }
}

/// The model's public key of a private key.
pub fn public_key(private_key: &Key) -> Key {
    private_key.map(|byte| byte ^ 0xA5)
}

impl EngineFactory for Models {
    fn identity(&self, private_key: &Key) -> Box<dyn Identity> {
        Box::new(ModelIdentity {
            public: public_key(private_key),
            ephemerals: self.ephemerals.clone(),
        })
    }

    fn random(&self) -> Key {
        let mut random = [0x5A; 32];
        let drawn = self.ephemerals.fetch_add(1, Ordering::Relaxed);
        random[..8].copy_from_slice(&drawn.to_le_bytes());
        random
    }
}

struct ModelIdentity {
    public: Key,
    ephemerals: Arc<AtomicU64>,
}

impl ModelIdentity {
    fn cookie(&self, source: IpAddr) -> [u8; 16] {
        sum(&[b"cookie", &self.public, source.to_string().as_bytes()])
    }
}

impl Identity for ModelIdentity {
    fn public_key(&self) -> Key {
        self.public
    }

    fn shared_secret(&self, peer: &Key) -> Key {
        let (low, high) = if self.public < *peer {
            (&self.public, peer)
        } else {
            (peer, &self.public)
        };
        let mut secret = [1; 32];
        secret[..16].copy_from_slice(&sum(&[low, high]));
        secret
    }

    fn addressed_to_us(&self, message: &[u8]) -> bool {
        let mac1 = message.len() - 32;
        message[mac1..mac1 + 16] == sum(&[&self.public, &message[..mac1]])
    }

    fn proves_address(
        &self,
        source: IpAddr,
        message: &[u8],
        reply: &mut [u8; COOKIE_REPLY_LEN],
    ) -> bool {
        let mac2 = message.len() - 16;
        let cookie = self.cookie(source);
        if message[mac2..] == sum(&[&cookie, &message[..mac2]]) {
            return true;
        }
        *reply = [0; COOKIE_REPLY_LEN];
        reply[0] = 3;
        reply[4..8].copy_from_slice(&message[4..8]);
        reply[32..48].copy_from_slice(&cookie);
        false
    }

    fn initiator_of(&self, initiation: &[u8]) -> Option<Key> {
        initiation.get(40..72)?.try_into().ok()
    }

    fn engine(
        &self,
        peer: &Key,
        preshared_key: Option<&Key>,
        index: u32,
        _now: Moment,
    ) -> Box<dyn Engine> {
        Box::new(Model {
            public: self.public,
            peer: *peer,
            preshared_key: preshared_key.copied().unwrap_or_default(),
            next_index: index << 8,
            ephemerals: self.ephemerals.clone(),
            in_flight: Vec::new(),
            latest_timestamp: 0,
            cookie: None,
            sessions: BTreeMap::new(),
            current: 0,
        })
    }
}

struct InFlight {
    index: u32,
    ephemeral: [u8; 32],
}

struct ModelSession {
    theirs: u32,
    key: [u8; 16],
    established: Moment,
    initiator: bool,
    order: u64,
    sent: u64,
    window: Window,
}

struct Model {
    public: Key,
    peer: Key,
    preshared_key: Key,
    next_index: u32,
    ephemerals: Arc<AtomicU64>,
    /// At most two, newest last.
    in_flight: Vec<InFlight>,
    latest_timestamp: u64,
    cookie: Option<[u8; 16]>,
    /// By our index.
    sessions: BTreeMap<u32, ModelSession>,
    current: u32,
}

impl Engine for Model {
    fn tick(&mut self, now: Moment) {
        self.sessions
            .retain(|_, session| now.since(session.established) <= REJECT_AFTER_TIME);
    }

    fn initiate(&mut self, now: Moment) -> Option<[u8; INITIATION_LEN]> {
        let (index, ephemeral) = (self.index(), self.ephemeral());
        let mut message = [0; INITIATION_LEN];
        message[0] = 1;
        message[4..8].copy_from_slice(&index.to_le_bytes());
        message[8..40].copy_from_slice(&ephemeral);
        message[40..72].copy_from_slice(&self.public);
        message[88..96].copy_from_slice(&(now.0.as_nanos() as u64 + 1).to_le_bytes());
        let proof = sum(&[b"static", &self.public, &self.peer, &message[..96]]);
        message[96..112].copy_from_slice(&proof);
        self.add_macs(&mut message);
        self.in_flight.push(InFlight { index, ephemeral });
        if self.in_flight.len() > 2 {
            self.in_flight.remove(0);
        }
        Some(message)
    }

    fn handshake(
        &mut self,
        _source: IpAddr,
        message: &[u8],
        reply: &mut [u8; INITIATION_LEN],
        now: Moment,
    ) -> Result<Progress, DropReason> {
        self.tick(now);
        match message[0] {
            1 => self.respond(message, reply, now),
            2 => self.establish(message, reply, now),
            _ => {
                self.cookie = message[32..48].try_into().ok();
                Ok(Progress::Cookie)
            }
        }
    }

    fn seal(&mut self, packet: &[u8], out: &mut [u8], now: Moment) -> Result<usize, DropReason> {
        let len = packet.len() + DATA_OVERHEAD;
        if out.len() < len {
            return Err(DropReason::MalformedPacket);
        }
        self.session(now).ok_or(DropReason::NoSession)?;
        let session = self
            .sessions
            .get_mut(&self.current)
            .ok_or(DropReason::NoSession)?;
        let counter = session.sent.to_le_bytes();
        session.sent += 1;
        out[..4].copy_from_slice(&[4, 0, 0, 0]);
        out[4..8].copy_from_slice(&session.theirs.to_le_bytes());
        out[8..16].copy_from_slice(&counter);
        out[16..len - 16].copy_from_slice(packet);
        out[len - 16..len].copy_from_slice(&sum(&[&session.key, &counter, packet]));
        Ok(len)
    }

    fn open(&mut self, datagram: &[u8], out: &mut [u8], now: Moment) -> Result<Opened, DropReason> {
        let index = receiver_of(datagram, 4);
        let session = self
            .sessions
            .get_mut(&index)
            .filter(|session| now.since(session.established) <= REJECT_AFTER_TIME)
            .ok_or(DropReason::NoSession)?;
        let (body, tag) = datagram[16..].split_at(datagram.len() - DATA_OVERHEAD);
        if tag != sum(&[&session.key, &datagram[8..16], body]) {
            return Err(DropReason::BadTag);
        }
        session.window.take(counter_of(datagram))?;
        let order = session.order;
        out[..body.len()].copy_from_slice(body);
        let confirmed = self
            .sessions
            .get(&self.current)
            .is_none_or(|current| current.order < order);
        if confirmed {
            self.current = index;
        }
        Ok(Opened {
            len: inner_len(body).ok_or(DropReason::MalformedPacket)?,
            confirmed,
        })
    }

    fn session(&self, now: Moment) -> Option<Session> {
        let session = self.sessions.get(&self.current)?;
        let usable =
            now.since(session.established) < SEND_UNTIL && session.sent < REJECT_AFTER_MESSAGES;
        usable.then_some(Session {
            established: session.established,
            initiator: session.initiator,
            messages: session.sent,
            unsettled: false,
        })
    }
}

impl Model {
    fn respond(
        &mut self,
        message: &[u8],
        reply: &mut [u8; INITIATION_LEN],
        now: Moment,
    ) -> Result<Progress, DropReason> {
        let timestamp = counter_of(&message[80..]);
        let proof = sum(&[b"static", &self.peer, &self.public, &message[..96]]);
        if message[40..72] != self.peer
            || message[96..112] != proof
            || timestamp <= self.latest_timestamp
        {
            return Err(DropReason::HandshakeRefused);
        }
        self.latest_timestamp = timestamp;
        let (index, ephemeral) = (self.index(), self.ephemeral());
        let key = sum(&[&message[8..40], &ephemeral, &self.preshared_key]);
        let response = &mut reply[..RESPONSE_LEN];
        response.fill(0);
        response[0] = 2;
        response[4..8].copy_from_slice(&index.to_le_bytes());
        response[8..12].copy_from_slice(&message[4..8]);
        response[12..44].copy_from_slice(&ephemeral);
        response[44..60].copy_from_slice(&sum(&[b"nothing", &key]));
        self.add_macs(response);
        self.keep(index, super::sender_of(message), key, false, now);
        Ok(Progress::Responded { len: RESPONSE_LEN })
    }

    fn establish(
        &mut self,
        message: &[u8],
        reply: &mut [u8; INITIATION_LEN],
        now: Moment,
    ) -> Result<Progress, DropReason> {
        let index = receiver_of(message, 8);
        let place = self
            .in_flight
            .iter()
            .position(|sent| sent.index == index)
            .ok_or(DropReason::HandshakeRefused)?;
        let key = sum(&[
            &self.in_flight[place].ephemeral,
            &message[12..44],
            &self.preshared_key,
        ]);
        if message[44..60] != sum(&[b"nothing", &key]) {
            return Err(DropReason::HandshakeRefused);
        }
        self.in_flight.remove(place);
        self.current = self.keep(index, super::sender_of(message), key, true, now);
        let len = self.seal(&[], reply, now)?;
        Ok(Progress::Established { len })
    }

    fn keep(&mut self, ours: u32, theirs: u32, key: [u8; 16], initiator: bool, now: Moment) -> u32 {
        let order = self.ephemerals.fetch_add(1, Ordering::Relaxed);
        let window = Window::default();
        let established = now;
        let session = ModelSession {
            theirs,
            key,
            established,
            initiator,
            order,
            sent: 0,
            window,
        };
        self.sessions.insert(ours, session);
        ours
    }

    fn index(&mut self) -> u32 {
        self.next_index = self.next_index & !0xff | (self.next_index + 1) & 0xff;
        self.next_index
    }

    fn ephemeral(&self) -> [u8; 32] {
        let drawn = sum(&[
            b"ephemeral",
            &self
                .ephemerals
                .fetch_add(1, Ordering::Relaxed)
                .to_le_bytes(),
        ]);
        let mut ephemeral = [0; 32];
        ephemeral[..16].copy_from_slice(&drawn);
        ephemeral
    }

    fn add_macs(&self, message: &mut [u8]) {
        let mac1 = message.len() - 32;
        let made = sum(&[&self.peer, &message[..mac1]]);
        message[mac1..mac1 + 16].copy_from_slice(&made);
        if let Some(cookie) = self.cookie {
            let made = sum(&[&cookie, &message[..mac1 + 16]]);
            message[mac1 + 16..].copy_from_slice(&made);
        }
    }
}

/// BoringTun's replay window: the newest 1,024 counters.
#[derive(Default)]
struct Window {
    next: u64,
    seen: BTreeSet<u64>,
}

impl Window {
    fn take(&mut self, counter: u64) -> Result<(), DropReason> {
        if counter + 1024 < self.next {
            return Err(DropReason::TooOld);
        }
        if !self.seen.insert(counter) {
            return Err(DropReason::Replayed);
        }
        self.next = self.next.max(counter + 1);
        self.seen = self.seen.split_off(&self.next.saturating_sub(1024));
        Ok(())
    }
}

/// The length that the inner header tells, which removes the padding.
fn inner_len(packet: &[u8]) -> Option<usize> {
    let len = match packet.first().map(|byte| byte >> 4) {
        None => 0,
        Some(4) if packet.len() >= 20 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        Some(6) if packet.len() >= 40 => {
            usize::from(u16::from_be_bytes([packet[4], packet[5]])) + 40
        }
        Some(_) => return None,
    };
    (len <= packet.len()).then_some(len)
}

/// Two rounds of FNV-1a over length-prefixed parts.
fn sum(parts: &[&[u8]]) -> [u8; 16] {
    let mut made = [0; 16];
    for (half, start) in made
        .chunks_exact_mut(8)
        .zip([0xcbf2_9ce4_8422_2325_u64, 0x8422_2325_cbf2_9ce4])
    {
        let mut hash = start;
        for part in parts {
            for byte in (part.len() as u32).to_le_bytes().iter().chain(*part) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        half.copy_from_slice(&hash.to_le_bytes());
    }
    made
}
