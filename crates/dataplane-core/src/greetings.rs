//! Initiations: from a stranger's 148 bytes to a peer's response.
//!
//! The order is that of their price. A copy of an initiation that we answered gets the same response
//! again: its sender lost the first one, and would be refused as a replay otherwise. Then mac1, then the
//! limiter, then one Diffie-Hellman to learn who claims to have sent it, and only then the peer's engine.
//!
//! An initiation proves who sent it, but not when: after a restart an old one is as good as new. So it
//! moves no endpoint of a peer that has one; the data that confirms the session does.
//!
//! For three minutes after our private key has changed, initiations to the former key are answered by
//! the engines that still hold it.

use std::collections::HashMap;
use std::time::Duration;

use crate::engine::{
    COOKIE_REPLY_LEN, INITIATION_LEN, Identity, Key, Progress, REJECT_AFTER_TIME, RESPONSE_LEN,
};
use crate::facts::DropReason;
use crate::limiter::Admission;
use crate::path::Proof;
use crate::plane::{PeerSlot, Plane, Source};
use crate::time::Moment;

/// What an initiation leads to.
pub enum Greeted {
    /// `reply[..len]` goes back to where it came from.
    Answer {
        peer: Option<PeerSlot>,
        len: usize,
    },
    Silence,
}

#[derive(Default)]
pub struct Greetings {
    /// Newest first; the first one is that of the desired state.
    identities: Vec<Identified>,
    /// By the initiation's ephemeral key.
    answered: HashMap<Key, Answered>,
}

struct Identified {
    private: Key,
    identity: Box<dyn Identity>,
    until: Option<Moment>,
}

struct Answered {
    peer: PeerSlot,
    initiation: [u8; INITIATION_LEN],
    response: [u8; RESPONSE_LEN],
    at: Moment,
    repeats: u32,
}

impl Greetings {
    /// The private key is `private` from now on.
    pub fn become_identity(&mut self, private: Key, identity: Box<dyn Identity>, now: Moment) {
        for former in &mut self.identities {
            former.until.get_or_insert(now + REJECT_AFTER_TIME);
        }
        self.identities.retain(|former| former.private != private);
        self.identities.insert(
            0,
            Identified {
                private,
                identity,
                until: None,
            },
        );
    }

    pub fn forget_identities(&mut self) {
        self.identities.clear();
    }

    /// The identity in force.
    pub fn identity(&self) -> Option<(Key, &dyn Identity)> {
        self.identities
            .first()
            .map(|first| (first.private, first.identity.as_ref()))
    }

    pub fn is_for_us(&self, message: &[u8]) -> bool {
        self.addressed(message).is_some()
    }

    pub fn tick(&mut self, now: Moment) {
        self.identities
            .retain(|identity| identity.until.is_none_or(|until| now < until));
        self.answered
            .retain(|_, answered| now.since(answered.at) < REMEMBERED);
    }

    fn addressed(&self, message: &[u8]) -> Option<&Identified> {
        self.identities
            .iter()
            .find(|known| known.identity.addressed_to_us(message))
    }

    fn repeat(&mut self, message: &[u8], reply: &mut [u8], now: Moment) -> Option<Greeted> {
        let answered = self.answered.get_mut(ephemeral(message)?)?;
        if now.since(answered.at) >= REMEMBERED || answered.initiation != message {
            return None;
        }
        if answered.repeats >= MOST_REPEATS {
            return Some(Greeted::Silence);
        }
        answered.repeats += 1;
        reply[..RESPONSE_LEN].copy_from_slice(&answered.response);
        Some(Greeted::Answer {
            peer: Some(answered.peer),
            len: RESPONSE_LEN,
        })
    }

    fn remember(&mut self, peer: PeerSlot, message: &[u8], response: &[u8], now: Moment) {
        if self.answered.len() >= MOST_REMEMBERED {
            self.answered.clear();
        }
        let (Some(ephemeral), Ok(initiation), Ok(response)) =
            (ephemeral(message), message.try_into(), response.try_into())
        else {
            return;
        };
        self.answered.insert(
            *ephemeral,
            Answered {
                peer,
                initiation,
                response,
                at: now,
                repeats: 0,
            },
        );
    }
}

impl Plane {
    pub(crate) fn greet(
        &mut self,
        source: Source,
        message: &[u8],
        reply: &mut [u8; INITIATION_LEN],
        now: Moment,
    ) -> Result<Greeted, (Option<PeerSlot>, DropReason)> {
        if let Some(repeated) = self.greetings.repeat(message, reply, now) {
            return Ok(repeated);
        }
        let addressed = self
            .greetings
            .addressed(message)
            .ok_or((None, DropReason::BadMac))?;
        let endpoint = self.endpoints.contains_key(&source.remote);
        let admission = self.limiter.admit(source.remote, endpoint, now);
        if admission == Admission::Prove {
            let mut cookie = [0; COOKIE_REPLY_LEN];
            if !addressed
                .identity
                .proves_address(source.remote.ip(), message, &mut cookie)
            {
                if !self.limiter.may_answer(source.remote, now) {
                    return Err((None, DropReason::RateLimited));
                }
                reply[..COOKIE_REPLY_LEN].copy_from_slice(&cookie);
                return Ok(Greeted::Answer {
                    peer: None,
                    len: COOKIE_REPLY_LEN,
                });
            }
            if !self.limiter.admit_proven(source.remote, now) {
                return Err((None, DropReason::RateLimited));
            }
        }
        let claimed = addressed
            .identity
            .initiator_of(message)
            .ok_or((None, DropReason::HandshakeRefused))?;
        let private = addressed.private;
        let slot = *self
            .by_key
            .get(&claimed)
            .ok_or((None, DropReason::UnknownPeer))?;
        let len = self.respond(slot, &private, source, message, reply, now)?;
        if admission == Admission::Calm {
            self.limiter.welcome();
        }
        self.greetings.remember(slot, message, &reply[..len], now);
        Ok(Greeted::Answer {
            peer: Some(slot),
            len,
        })
    }

    fn respond(
        &mut self,
        slot: PeerSlot,
        private: &Key,
        source: Source,
        message: &[u8],
        reply: &mut [u8; INITIATION_LEN],
        now: Moment,
    ) -> Result<usize, (Option<PeerSlot>, DropReason)> {
        let refused = (Some(slot), DropReason::HandshakeRefused);
        let peer = self.peers[slot.0 as usize].as_mut().ok_or(refused)?;
        let keying = peer.lane.answering(private).ok_or(refused)?;
        let progress = keying
            .engine
            .handshake(source.remote.ip(), message, reply, now);
        let Ok(Progress::Responded { len }) = progress else {
            return Err(refused);
        };
        peer.liveness.responded(now);
        if peer.paths.primary().is_none()
            && peer.follow(source, Proof::Data, &mut self.outputs, now)
        {
            self.endpoints.insert(source.remote, slot);
        }
        Ok(len)
    }
}

fn ephemeral(initiation: &[u8]) -> Option<&Key> {
    initiation.get(8..40)?.try_into().ok()
}

const REMEMBERED: Duration = Duration::from_secs(10);
const MOST_REMEMBERED: usize = 256;
const MOST_REPEATS: u32 = 8;
