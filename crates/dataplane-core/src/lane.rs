//! A session engine of a peer, and what happens when its keys change.
//!
//! Sessions outlive the keys they were made with. So a new private key or preshared key does not touch
//! the engine in use: a second one is made beside it, with an index of its own, and shakes hands. When
//! its session is up, sending moves there, and the old engine goes on opening what is still on its way
//! until its last session has died. Without a live session there is nothing to preserve, and the new
//! keys take over at once.

use std::time::Duration;

use crate::engine::{Engine, Key, REJECT_AFTER_TIME, Session};
use crate::time::Moment;

/// The keys an engine was made with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    pub private: Key,
    pub preshared: Option<Key>,
}

/// An engine under its index.
pub struct Keying {
    pub keys: Keys,
    pub index: u32,
    pub engine: Box<dyn Engine>,
}

pub struct Lane {
    active: Keying,
    next: Option<Keying>,
    retiring: Vec<(Keying, Moment)>,
}

impl Lane {
    pub fn new(keying: Keying) -> Self {
        Self {
            active: keying,
            next: None,
            retiring: Vec::new(),
        }
    }

    /// The keys that the configuration asks for.
    pub fn wanted_keys(&self) -> Keys {
        self.next.as_ref().unwrap_or(&self.active).keys
    }

    pub fn change(&mut self, keying: Keying, now: Moment) {
        if self.session(now).is_some() {
            let superseded = self.next.replace(keying);
            self.retire(superseded, now);
        } else {
            let old = std::mem::replace(&mut self.active, keying);
            let superseded = self.next.take();
            self.retire(Some(old), now);
            self.retire(superseded, now);
        }
    }

    /// The session that packets are sealed with.
    pub fn session(&self, now: Moment) -> Option<Session> {
        self.active.engine.session(now)
    }

    /// Whose session packets are sealed with.
    pub fn sealing(&mut self) -> &mut dyn Engine {
        self.active.engine.as_mut()
    }

    /// Who shakes hands.
    pub fn greeting(&mut self) -> &mut Keying {
        self.next.as_mut().unwrap_or(&mut self.active)
    }

    /// Who answers an initiation that was sent to this private key's public key.
    pub fn answering(&mut self, private: &Key) -> Option<&mut Keying> {
        let Self { active, next, .. } = self;
        next.iter_mut()
            .chain([active])
            .find(|keying| keying.keys.private == *private)
    }

    pub fn by_index(&mut self, index: u32) -> Option<&mut Keying> {
        if self.active.index == index {
            return Some(&mut self.active);
        }
        let Self { next, retiring, .. } = self;
        let retiring = retiring.iter_mut().map(|(keying, _)| keying);
        next.iter_mut()
            .chain(retiring)
            .find(|keying| keying.index == index)
    }

    /// A session came up on the engine of this index.
    pub fn established(&mut self, index: u32, now: Moment) {
        if self.next.as_ref().is_some_and(|next| next.index == index)
            && let Some(next) = self.next.take()
        {
            let old = std::mem::replace(&mut self.active, next);
            self.retire(Some(old), now);
        }
    }

    pub fn tick(&mut self, now: Moment) {
        self.retiring.retain(|(_, until)| now < *until);
        let Self {
            active,
            next,
            retiring,
            ..
        } = self;
        let retiring = retiring.iter_mut().map(|(keying, _)| keying);
        for keying in [active].into_iter().chain(next.iter_mut()).chain(retiring) {
            keying.engine.tick(now);
        }
    }

    pub fn indices(&self) -> impl Iterator<Item = u32> {
        let retiring = self.retiring.iter().map(|(keying, _)| keying);
        [&self.active]
            .into_iter()
            .chain(&self.next)
            .chain(retiring)
            .map(|keying| keying.index)
    }

    fn retire(&mut self, keying: Option<Keying>, now: Moment) {
        self.retiring
            .extend(keying.map(|keying| (keying, now + LINGER)));
        let excess = self.retiring.len().saturating_sub(MOST_RETIRING);
        self.retiring.drain(..excess);
    }
}

const LINGER: Duration = REJECT_AFTER_TIME;
/// Somebody who changes keys faster than that loses what is on its way.
const MOST_RETIRING: usize = 4;
