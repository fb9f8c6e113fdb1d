//! BoringTun behind the engine trait: the one place with a clock, hidden in `Tunn`.
//!
//! `Tunn` mixes Noise with opinions about time. Here it keeps the first and loses the second: what
//! its timers would send is never sent, because `liveness` decides that for every engine alike. Five
//! of its habits shape this file.
//!
//! * *It learns the time only from `update_timers`*, and stamps sessions with what it learnt last. So
//!   it is ticked before each handshake message, whether or not its peer has an endpoint; else a fresh
//!   session is born old and dies at the next tick.
//! * *Ticking makes initiations.* A handshake older than 5 s is replaced by a new one. The new one is
//!   kept as `spare` and is the next that we send; older ones stay answerable as long as they are
//!   among the newest two. And once data has been unanswered for 15 s, counted from the last reception
//!   instead of from the first unanswered packet, it starts a handshake of its own: after each idle
//!   time, that is. A handshake that nobody sends ends, 90 s later, in all sessions being wiped, so
//!   ticks pause while that rule would fire. The peer's own rules initiate within those 15 s.
//! * *A response to the older of two initiations leaves the newer one open*, and that too would end in
//!   the wipe. Then the session says `unsettled`, and the peer makes one more handshake soon.
//! * *Without a session, `encapsulate` queues the packet and answers with an initiation*, and expiry
//!   is for ever until somebody initiates. So sealing is gated on a session younger than 178 s, the
//!   queue is never flushed, and `initiate` always forces.
//!
//! * *Its ring has eight places*, and each initiation that it answers takes the next one, confirmed or
//!   not. A peer whose handshakes fail, with another preshared key say, would push out the session that
//!   still carries data; such an initiation is refused.
//!
//! `notes` mirrors the session ring, as `Tunn` shows neither the age nor the role of its sessions.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{KeyInit, OsRng};

use super::{
    COOKIE_REPLY_LEN, DATA_OVERHEAD, Engine, EngineFactory, INITIATION_LEN, Identity, Key, Opened,
    Progress, REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, SEND_UNTIL, Session, counter_of,
    receiver_of, sender_of,
};
use crate::facts::DropReason;
use crate::time::Moment;

pub struct Tunns;

impl EngineFactory for Tunns {
    fn identity(&self, private_key: &Key) -> Box<dyn Identity> {
        let secret = StaticSecret::from(*private_key);
        let public = PublicKey::from(&secret);
        Box::new(TunnIdentity {
            lenient: Arc::new(RateLimiter::new(&public, u64::MAX)),
            strict: RateLimiter::new(&public, 0),
            secret,
            public,
        })
    }

    fn random(&self) -> Key {
        XChaCha20Poly1305::generate_key(&mut OsRng).into()
    }
}

struct TunnIdentity {
    secret: StaticSecret,
    public: PublicKey,
    /// Never under load: checks mac1 and nothing else. Shared by all engines of this identity.
    lenient: Arc<RateLimiter>,
    /// Always under load: checks mac2, or makes a cookie reply.
    strict: RateLimiter,
}

impl Identity for TunnIdentity {
    fn public_key(&self) -> Key {
        self.public.to_bytes()
    }

    fn shared_secret(&self, peer: &Key) -> Key {
        self.secret
            .diffie_hellman(&PublicKey::from(*peer))
            .to_bytes()
    }

    fn addressed_to_us(&self, message: &[u8]) -> bool {
        self.lenient.verify_packet(None, message, &mut []).is_ok()
    }

    fn proves_address(
        &self,
        source: IpAddr,
        message: &[u8],
        reply: &mut [u8; COOKIE_REPLY_LEN],
    ) -> bool {
        self.strict
            .verify_packet(Some(source), message, reply)
            .is_ok()
    }

    fn initiator_of(&self, initiation: &[u8]) -> Option<Key> {
        let Ok(Packet::HandshakeInit(init)) = Tunn::parse_incoming_packet(initiation) else {
            return None;
        };
        let half = parse_handshake_anon(&self.secret, &self.public, &init).ok()?;
        Some(half.peer_static_public)
    }

    fn engine(
        &self,
        peer: &Key,
        preshared_key: Option<&Key>,
        index: u32,
        now: Moment,
    ) -> Box<dyn Engine> {
        let tunn = Tunn::new(
            self.secret.clone(),
            PublicKey::from(*peer),
            preshared_key.copied(),
            None,
            index,
            Some(self.lenient.clone()),
        );
        Box::new(TunnEngine {
            tunn,
            spare: None,
            newest_initiation: None,
            open_initiation: false,
            unsettled: false,
            notes: [None; RING],
            current: 0,
            issued: 0,
            used: now,
            order: 0,
            last_received: now,
            data_unanswered: false,
        })
    }
}

/// What we know of a session that `Tunn` holds.
#[derive(Clone, Copy)]
struct Note {
    index: u32,
    session: Session,
    /// Sessions in the order they were made; breaks ties within one `now`.
    order: u64,
}

struct TunnEngine {
    tunn: Tunn,
    spare: Option<[u8; INITIATION_LEN]>,
    /// Our index in the newest initiation, sent or spare.
    newest_initiation: Option<u32>,
    /// `Tunn` waits for a response.
    open_initiation: bool,
    unsettled: bool,
    notes: [Option<Note>; RING],
    current: usize,
    /// The low byte of the index given out last.
    issued: u8,
    /// When the current session last opened something.
    used: Moment,
    order: u64,
    last_received: Moment,
    data_unanswered: bool,
}

impl Engine for TunnEngine {
    fn tick(&mut self, now: Moment) {
        let would_misfire = !self.open_initiation
            && self.data_unanswered
            && now.since(self.last_received) >= MISFIRE_AFTER;
        if !would_misfire {
            self.update(now);
        }
        self.forget_old(now);
    }

    fn initiate(&mut self, now: Moment) -> Option<[u8; INITIATION_LEN]> {
        self.update(now);
        self.forget_old(now);
        if let Some(spare) = self.spare.take() {
            return Some(spare);
        }
        let mut out = [0; INITIATION_LEN];
        match self.tunn.format_handshake_initiation(&mut out, true) {
            TunnResult::WriteToNetwork(message) => {
                let index = sender_of(message);
                self.note_initiation(index);
                Some(out)
            }
            _ => None,
        }
    }

    fn handshake(
        &mut self,
        source: IpAddr,
        message: &[u8],
        reply: &mut [u8; INITIATION_LEN],
        now: Moment,
    ) -> Result<Progress, DropReason> {
        self.update(now);
        self.forget_old(now);
        if message[0] == 1 && self.would_push_out_current(now) {
            return Err(DropReason::RateLimited);
        }
        match self.tunn.decapsulate(Some(source), message, reply) {
            TunnResult::WriteToNetwork(made) if message[0] == 1 => {
                let (index, len) = (sender_of(made), made.len());
                self.note_response_sent(index, now);
                Ok(Progress::Responded { len })
            }
            TunnResult::WriteToNetwork(made) if message[0] == 2 => {
                let len = made.len();
                self.note_response_received(receiver_of(message, 8), now);
                Ok(Progress::Established { len })
            }
            TunnResult::Done => {
                self.spare = None;
                Ok(Progress::Cookie)
            }
            _ => Err(DropReason::HandshakeRefused),
        }
    }

    fn seal(&mut self, packet: &[u8], out: &mut [u8], now: Moment) -> Result<usize, DropReason> {
        if out.len() < packet.len() + DATA_OVERHEAD {
            return Err(DropReason::MalformedPacket);
        }
        self.session(now).ok_or(DropReason::NoSession)?;
        match self.tunn.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(message) if message[0] == 4 => {
                let (len, counter) = (message.len(), counter_of(message));
                if let Some(note) = &mut self.notes[self.current] {
                    note.session.messages = counter + 1;
                }
                self.data_unanswered |= !packet.is_empty();
                Ok(len)
            }
            TunnResult::WriteToNetwork(initiation) => {
                let made = <[u8; INITIATION_LEN]>::try_from(&*initiation).ok();
                self.notes[self.current] = None;
                self.keep_spare(made);
                Err(DropReason::NoSession)
            }
            _ => {
                self.notes[self.current] = None;
                Err(DropReason::NoSession)
            }
        }
    }

    fn open(&mut self, datagram: &[u8], out: &mut [u8], now: Moment) -> Result<Opened, DropReason> {
        if datagram.len() < DATA_OVERHEAD
            || out.len() < datagram.len()
            || counter_of(datagram) >= REJECT_AFTER_MESSAGES
        {
            return Err(DropReason::MalformedDatagram);
        }
        let index = receiver_of(datagram, 4);
        let slot = index as usize % RING;
        let alive = |note: Note| {
            note.index == index && now.since(note.session.established) <= REJECT_AFTER_TIME
        };
        let note = self.notes[slot]
            .filter(|note| alive(*note))
            .ok_or(DropReason::NoSession)?;
        let len = match self.tunn.decapsulate(None, datagram, out) {
            TunnResult::Done => 0,
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                packet.len()
            }
            TunnResult::Err(error) => return Err(reason(&error)),
            TunnResult::WriteToNetwork(_) => return Err(DropReason::MalformedDatagram),
        };
        self.note_received(now);
        Ok(Opened {
            len,
            confirmed: self.follow(slot, note, now),
        })
    }

    fn session(&self, now: Moment) -> Option<Session> {
        let session = self.notes[self.current]?.session;
        let usable =
            now.since(session.established) < SEND_UNTIL && session.messages < REJECT_AFTER_MESSAGES;
        usable.then_some(Session {
            unsettled: self.unsettled,
            ..session
        })
    }
}

impl TunnEngine {
    /// Tells `Tunn` the time and keeps the initiation it may make; its keepalives are dropped.
    fn update(&mut self, _now: Moment) {
        let mut out = [0; INITIATION_LEN];
        match self.tunn.update_timers(&mut out) {
            TunnResult::WriteToNetwork(message) if message.len() == INITIATION_LEN => {
                self.keep_spare(Some(out))
            }
            TunnResult::Err(WireGuardError::ConnectionExpired) => {
                self.notes = [None; RING];
                self.spare = None;
                self.open_initiation = false;
                self.unsettled = false;
            }
            _ => {}
        }
    }

    fn keep_spare(&mut self, made: Option<[u8; INITIATION_LEN]>) {
        let Some(message) = made else { return };
        self.note_initiation(sender_of(&message));
        self.spare = Some(message);
    }

    fn note_initiation(&mut self, index: u32) {
        self.issued = index as u8;
        self.newest_initiation = Some(index);
        self.open_initiation = true;
    }

    fn would_push_out_current(&self, now: Moment) -> bool {
        let next = usize::from(self.issued.wrapping_add(1)) % RING;
        next == self.current && self.notes[next].is_some() && now.since(self.used) < IN_USE
    }

    fn forget_old(&mut self, now: Moment) {
        for note in &mut self.notes {
            note.take_if(|note| now.since(note.session.established) > REJECT_AFTER_TIME);
        }
    }

    fn note_response_sent(&mut self, index: u32, now: Moment) {
        self.issued = index as u8;
        self.note_session(index, false, now);
        self.note_received(now);
        self.spare = None;
        self.open_initiation = false;
        self.unsettled = false;
    }

    fn note_response_received(&mut self, index: u32, now: Moment) {
        self.current = self.note_session(index, true, now);
        self.used = now;
        self.note_received(now);
        self.unsettled = self.open_initiation && self.newest_initiation != Some(index);
        self.open_initiation = self.unsettled;
        self.spare = None;
    }

    fn note_session(&mut self, index: u32, initiator: bool, now: Moment) -> usize {
        self.order += 1;
        let session = Session {
            established: now,
            initiator,
            messages: 0,
            unsettled: false,
        };
        let slot = index as usize % RING;
        self.notes[slot] = Some(Note {
            index,
            session,
            order: self.order,
        });
        slot
    }

    fn note_received(&mut self, now: Moment) {
        self.last_received = now;
        self.data_unanswered = false;
    }

    /// Data arrived on `note`: a session newer than the current one becomes the current one.
    fn follow(&mut self, slot: usize, note: Note, now: Moment) -> bool {
        let older = self.notes[self.current].is_some_and(|current| current.order >= note.order);
        if !older {
            self.current = slot;
        }
        if self.current == slot {
            self.used = now;
        }
        !older
    }
}

fn reason(error: &WireGuardError) -> DropReason {
    match error {
        WireGuardError::InvalidAeadTag => DropReason::BadTag,
        WireGuardError::DuplicateCounter => DropReason::Replayed,
        WireGuardError::InvalidCounter => DropReason::TooOld,
        WireGuardError::NoCurrentSession | WireGuardError::WrongIndex => DropReason::NoSession,
        WireGuardError::InvalidPacket => DropReason::MalformedPacket,
        _ => DropReason::MalformedDatagram,
    }
}

/// Sessions that `Tunn` keeps.
const RING: usize = 8;
/// A session that opened something so recently is not given up for an unproven one.
const IN_USE: Duration = Duration::from_secs(15);
/// A second before `Tunn`'s own KEEPALIVE_TIMEOUT + REKEY_TIMEOUT.
const MISFIRE_AFTER: Duration = Duration::from_secs(14);
