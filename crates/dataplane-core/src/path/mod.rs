//! The ways to one peer, and which of them is primary.
//!
//! The brain's list is advice in order of preference. A place nobody advised is *learned* when the peer
//! authenticates something from there.
//!
//! **A foreign peer** cannot be probed, so what it sends is all the proof there is. Its data moves the primary
//! path to another remote, never to another socket of ours: the socket is the brain's choice of uplink,
//! and which one a datagram enters by says nothing about the way back. A response does, as it answers an
//! initiation that left by that very socket. There is one learned path, and it goes with the next advice.
//!
//! **A Shore peer**, with whom we have probe keys, is probed on every path (`measure`), and each path has a
//! state (`health`). A proved path is not left on arrival alone: a learned one is a candidate until an echo proves it.
//! What to do follows from the states, here and nowhere else:
//!
//! * the primary path is dead, or held: the best live one that was proved since takes over;
//! * it was never proved: where the peer's data comes from, or what is proved first, takes over;
//! * it is suspect, or has not been heard of for 5 s: packets are copied to the standby;
//! * it is live: it stays, unless advice prefers another live one; then that is *wished*, and the peer
//!   moves there when it can do so without losing packets on their way.

mod asked;
mod health;
mod measure;
mod opening;
mod reflex;
mod schedule;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use asked::Asked;
use health::Health;
pub use health::State;
use measure::Measure;
use opening::Opening;

use crate::desired::{self, PathId, PathKind, SocketId};
use crate::plane::{Destination, Source};
use crate::relay::tag_at;
use crate::time::Moment;

pub struct Path {
    /// Absent for a learned path.
    pub id: Option<PathId>,
    pub kind: PathKind,
    pub destination: Destination,
    pub metered: bool,
    mtu: Option<u16>,
    /// In use, and advised no more: the peer moves off it as soon as it can.
    withdrawn: bool,
    /// How long its NAT mapping may be left without a datagram.
    quiet: Duration,
    pub measure: Measure,
    pub observed: Option<SocketAddr>,
    pub asked: Asked,
    health: Health,
    /// To be probed at once.
    poked: bool,
    /// What is still to be done to open the NATs before us.
    opening: Option<Opening>,
    /// No probe before this.
    held_until: Moment,
    heard: Option<Moment>,
    born: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    Data,
    Response,
}

/// Why the primary path is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Probes are unanswered.
    Dead,
    /// Probes pass, and data does not.
    Deaf,
    /// The peer sends from there now.
    PeerMoved,
    /// A handshake was answered there.
    Response,
    /// The brain prefers it.
    Advice,
    /// The socket of the other one is gone.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    pub from: Destination,
    pub to: Destination,
    pub cause: Cause,
}

#[derive(Default)]
pub struct Paths {
    advice: Vec<desired::Path>,
    paths: Vec<Path>,
    primary: usize,
    primary_since: Moment,
    /// Whether the peer answers probes.
    probed: bool,
    /// Where the peer's newest data came from.
    newest: Option<Source>,
    /// Learned, and not yet told.
    learned: Vec<Source>,
    deaf: bool,
    /// Where large datagrams never come, and how many in a row did not; not told yet.
    swallowed: Option<(Destination, u32)>,
    /// When data flowed again after a quiet time.
    woken: Option<Moment>,
    /// Data messages sent, copies not counted.
    offered: u32,
    /// When the peer's counts of all paths together were asked, what was offered by then, and their sum.
    taken: VecDeque<(Moment, u32, u32)>,
}

impl Paths {
    pub fn advise(&mut self, advice: &[desired::Path], now: Moment) {
        if self.advice == advice {
            return;
        }
        let before = self.primary();
        let same_favourite = self.advice.first() == advice.first();
        let kept = self.primary().filter(|_| same_favourite || self.probed);
        self.advice = advice.to_vec();
        let mut old = std::mem::take(&mut self.paths);
        let (probed, mut fresh) = (self.probed, Vec::new());
        for advised in advice {
            let destination = Destination::from(advised);
            let known = old
                .iter()
                .position(|path| path.destination == destination)
                .map(|place| old.swap_remove(place));
            let mut path = known.unwrap_or_else(|| {
                fresh.push(destination);
                Path::new(destination, now)
            });
            path.id = Some(advised.id);
            path.kind = advised.kind;
            path.metered = advised.metered;
            path.mtu = advised.mtu;
            path.withdrawn = false;
            path.quiet = Duration::from_secs(u64::from(advised.quiet_s.max(1)));
            self.paths.push(path);
        }
        if self.probed {
            // Learned places that still speak, and the one in use, outlive the advice.
            let speaks = |path: &Path| path.heard.is_some_and(|at| now.since(at) < LEARNED_FOR);
            old.retain(|path| {
                kept == Some(path.destination) || (path.id.is_none() && speaks(path))
            });
            for path in &mut old {
                path.withdrawn |= path.id.take().is_some();
            }
            self.paths.append(&mut old);
        }
        self.primary = kept.and_then(|kept| self.position(kept)).unwrap_or(0);
        if self.primary() != before {
            self.primary_since = now;
        }
        if probed {
            self.open_fresh(&fresh, now);
        }
    }

    /// Drops paths whose socket is gone; where that was the primary path, one that has answered takes
    /// over. Returns how the primary path moved for it.
    pub fn retain(&mut self, is_open: impl Fn(SocketId) -> bool, now: Moment) -> Option<Switch> {
        let from = self.primary()?;
        self.paths.retain(|path| is_open(path.destination.socket));
        // No place is primary while the best is sought.
        self.primary = self.position(from).unwrap_or(usize::MAX);
        if self.primary == usize::MAX {
            let heir = self.copies_to(now).and_then(|heir| self.position(heir));
            self.primary = heir.unwrap_or(0);
        }
        let to = self.primary().filter(|to| *to != from)?;
        self.primary_since = now;
        Some(Switch::new(from, to, Cause::Gone))
    }

    pub fn primary(&self) -> Option<Destination> {
        self.paths.get(self.primary).map(|path| path.destination)
    }

    /// The longest datagram, with its IP header, that was proved to get there.
    pub fn mtu_of(&self, destination: Destination) -> Option<u16> {
        let place = self.position(destination)?;
        self.paths[place].mtu
    }

    /// Since when it is the primary one.
    pub fn primary_since(&self) -> Moment {
        self.primary_since
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Path, bool)> {
        let primary = self.primary;
        self.paths
            .iter()
            .enumerate()
            .map(move |(place, path)| (path, place == primary))
    }

    /// Where the `n`-th initiation in a row goes: the primary path first, then the others in turn.
    pub fn in_turn(&self, n: u32) -> Option<Destination> {
        let (ahead, behind) = self.paths.split_at_checked(self.primary)?;
        let order = behind.iter().chain(ahead);
        let open: Vec<_> = order.filter(|path| self.is_in_turn(path, n)).collect();
        let place = (n as usize).checked_rem(open.len())?;
        Some(open[place].destination)
    }

    /// The peer proved that it is at `source`. Returns how the primary path moved.
    pub fn follow(&mut self, source: Source, proof: Proof, now: Moment) -> Option<Switch> {
        let Some(primary) = self.primary() else {
            self.learn(source, now);
            return Some(Switch::new(source, source, Cause::PeerMoved));
        };
        if self.probed {
            return self.heard(source, proof, now);
        }
        if primary == source || (proof == Proof::Data && primary.remote == source.remote) {
            return None;
        }
        match self.position(source) {
            Some(place) => {
                self.primary = place;
                self.primary_since = now;
            }
            None if primary.remote == source.remote => return None,
            None => self.learn(source, now),
        }
        let cause = match proof {
            Proof::Data => Cause::PeerMoved,
            Proof::Response => Cause::Response,
        };
        Some(Switch::new(primary, source, cause))
    }

    fn heard(&mut self, source: Source, proof: Proof, now: Moment) -> Option<Switch> {
        let place = self.place_of(source, now);
        match proof {
            Proof::Data => {
                self.newest = Some(source);
                // A primary path that never answered has no claim to what the peer can be sent elsewhere.
                let claims = self.paths[self.primary].health.proof().is_some();
                (place != self.primary && !claims)
                    .then(|| self.switch(place, Cause::PeerMoved, now))
            }
            Proof::Response => {
                self.paths[place].health.proved(now);
                let doubted = self.paths[self.primary].health.state(now) != State::Live;
                (place != self.primary && doubted).then(|| self.switch(place, Cause::Response, now))
            }
        }
    }

    fn switch(&mut self, to: usize, cause: Cause, now: Moment) -> Switch {
        let from = std::mem::replace(&mut self.primary, to);
        self.primary_since = now;
        self.paths[to].measure.forget_data();
        self.taken.clear();
        let switch = Switch::new(
            self.paths[from].destination,
            self.paths[to].destination,
            cause,
        );
        if self.paths[from].withdrawn {
            self.paths.remove(from);
            self.primary -= usize::from(from < to);
        }
        switch
    }

    /// The path of a place that the peer speaks from; made, if there is none.
    fn place_of(&mut self, source: Source, now: Moment) -> usize {
        let place = self.position(source).unwrap_or_else(|| {
            let learned = self
                .paths
                .iter()
                .enumerate()
                .filter(|(place, path)| path.id.is_none() && *place != self.primary);
            let count = self.paths.iter().filter(|path| path.id.is_none()).count();
            let oldest = (count >= MOST_LEARNED)
                .then(|| learned.min_by_key(|(_, path)| path.heard))
                .flatten()
                .map(|(place, _)| place);
            self.learned.push(source);
            match oldest {
                Some(place) => {
                    self.paths[place] = Path::new(source, now);
                    place
                }
                None => {
                    self.paths.push(Path::new(source, now));
                    self.paths.len() - 1
                }
            }
        });
        self.paths[place].heard = Some(now);
        place
    }

    fn learn(&mut self, source: Source, now: Moment) {
        self.paths.retain(|path| path.id.is_some());
        self.paths.insert(0, Path::new(source, now));
        self.primary = 0;
        self.primary_since = now;
    }

    fn position(&self, destination: Destination) -> Option<usize> {
        if self.primary() == Some(destination) {
            return Some(self.primary);
        }
        self.paths
            .iter()
            .position(|path| path.destination == destination)
    }
}

impl Path {
    fn new(destination: Destination, now: Moment) -> Self {
        Self {
            id: None,
            kind: if tag_at(destination.remote).is_some() {
                PathKind::Relay
            } else {
                PathKind::Direct
            },
            destination,
            metered: false,
            mtu: None,
            withdrawn: false,
            quiet: FIRST_QUIET,
            measure: Measure::default(),
            observed: None,
            asked: Asked::default(),
            health: Health::new(now),
            poked: true,
            opening: None,
            held_until: Moment::default(),
            heard: None,
            born: now,
        }
    }

    pub fn state(&self, now: Moment) -> State {
        self.health.state(now)
    }

    pub fn since(&self) -> Moment {
        self.health.since()
    }

    pub fn proof(&self) -> Option<Moment> {
        self.health.proof()
    }

    pub fn hold_left(&self, now: Moment) -> Option<Duration> {
        self.health.hold_left(now)
    }
}

impl Switch {
    fn new(from: Destination, to: Destination, cause: Cause) -> Self {
        Self { from, to, cause }
    }
}

impl From<&desired::Path> for Destination {
    fn from(path: &desired::Path) -> Self {
        Self {
            socket: path.socket,
            remote: path.remote,
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// Until the brain knows better: a mapping of 20 s lives.
const FIRST_QUIET: Duration = Duration::from_secs(desired::FIRST_QUIET_S as u64);
const MOST_LEARNED: usize = 4;
const LEARNED_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
