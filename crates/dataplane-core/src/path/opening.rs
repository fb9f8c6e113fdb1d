//! How a direct path that nobody has proved is opened while a relay carries the packets.
//!
//! Some NATs take what comes from outside before anything went there from inside for a flow of their own, and
//! give the flow that follows from inside another port: the hole is then where nobody looks for it. So both ends
//! first send what dies on the way: two hops open a NAT that is the first one; three and four, a chain of two
//! or three. These follow later, since where two NATs are neighbours they would reach the other one, and by
//! then that is open from its own side.
//!
//! What is to arrive is held back until the other end has had time to do the same: no probe of a path leaves of
//! itself before, the further steps do not, and neither greetings, initiations nor questions about sizes go where
//! only luck would let them in. How long that takes is the brain's to know: it says when the peer has done its
//! part (`release`); a second after it asked for the opening, and three after a path is new, luck is tried. After
//! its first probes such a path is tried when the brain asks for it, as a NAT that was spoilt forgets that only
//! when it is left alone.
//!
//! Where no relay carries anything, nothing is held back.

use std::time::Duration;

use super::{Destination, Moment, Path, PathKind, Paths};

/// The steps that are left to take.
#[derive(Clone, Copy)]
pub(super) struct Opening {
    step: usize,
    due: Moment,
}

impl Opening {
    pub(super) fn new(now: Moment) -> Self {
        Self { step: 0, due: now }
    }
}

impl Paths {
    /// Opens, from the first step, what has never answered or does not any more.
    pub fn open(&mut self, now: Moment) {
        let relayed = self.is_relayed();
        for path in self
            .paths
            .iter_mut()
            .filter(|path| path.may_lack_a_hole(now))
        {
            path.opening = Some(Opening::new(now));
            if relayed && path.proof().is_none() {
                path.held_until = now + HOLD;
            }
        }
    }

    /// The same, where packets have a relay to go by, for what has never answered: the peer is known only now.
    pub fn open_new(&mut self, now: Moment) {
        let all: Vec<_> = self.paths.iter().map(|path| path.destination).collect();
        self.open_fresh(&all, now);
    }

    /// The same for paths that were not there before.
    pub(super) fn open_fresh(&mut self, fresh: &[Destination], now: Moment) {
        if self.is_relayed() {
            let is_fresh = |path: &&mut Path| path.is_new() && fresh.contains(&path.destination);
            for path in self.paths.iter_mut().filter(is_fresh) {
                path.opening = Some(Opening::new(now));
                path.held_until = now + HOLD_NEW;
            }
        }
    }

    /// The peer is told something that it needs for its own part.
    pub fn hold_back(&mut self, now: Moment) {
        if self.is_relayed() {
            for path in self.paths.iter_mut().filter(|path| path.is_new()) {
                path.held_until = path.held_until.max(now + HOLD);
            }
        }
    }

    /// The peer has done its part, or is about to.
    pub fn release(&mut self, now: Moment) {
        for path in &mut self.paths {
            path.held_until = path.held_until.min(now + SETTLE);
        }
    }

    /// What is to be sent now to open the way: where to, and for how many hops each.
    pub fn openings(&mut self, now: Moment) -> Vec<(Destination, &'static [u8])> {
        let mut due = Vec::new();
        for path in &mut self.paths {
            let Some(opening) = path.opening.filter(|_| path.opens_at() <= Some(now)) else {
                continue;
            };
            path.opening = (opening.step + 1 < STEPS.len()).then(|| Opening {
                step: opening.step + 1,
                due: now + BETWEEN,
            });
            due.push((path.destination, STEPS[opening.step]));
        }
        due
    }

    pub fn next_opening(&self) -> Option<Moment> {
        self.paths.iter().filter_map(Path::opens_at).min()
    }

    /// Whether packets have a relay to go by.
    pub fn is_relayed(&self) -> bool {
        self.paths.iter().any(|path| path.kind == PathKind::Relay)
    }

    /// Whether only a probe that is due may go there.
    pub fn is_shut(&self, destination: Destination) -> bool {
        let place = self.position(destination);
        self.is_relayed() && place.is_some_and(|place| self.paths[place].is_new())
    }

    /// Where what asks for an answer may go at the `n`-th try in a row.
    pub(super) fn is_in_turn(&self, path: &Path, n: u32) -> bool {
        n >= RELAYS_ALONE || !path.is_new() || !self.is_relayed()
    }
}

impl Path {
    /// A direct path that has never answered, and where the peer did not speak from.
    pub(super) fn is_new(&self) -> bool {
        self.kind == PathKind::Direct && self.proof().is_none() && self.heard.is_none()
    }

    /// When the next step is due: the first at once, the others with what is to arrive.
    fn opens_at(&self) -> Option<Moment> {
        let opening = self.opening?;
        let held = (opening.step > 0).then_some(self.held_until);
        Some(opening.due.max(held.unwrap_or_default()))
    }

    fn may_lack_a_hole(&self, now: Moment) -> bool {
        let state = self.state(now);
        self.kind == PathKind::Direct
            && matches!(state, super::State::Unproven | super::State::Dead)
    }
}

const STEPS: [&[u8]; 2] = [&[2], &[3, 4]];
const BETWEEN: Duration = Duration::from_millis(150);
/// Words that bring the peer to the same place take the server's round trip, and two busy machines' time.
const HOLD: Duration = Duration::from_secs(1);
const HOLD_NEW: Duration = Duration::from_secs(3);
/// Calls that cross each other arrive with so much between them.
const SETTLE: Duration = Duration::from_millis(150);
/// The ladder of initiations has climbed for some five seconds by then.
const RELAYS_ALONE: u32 = 6;
