//! What follows from the states of a Shore peer's paths: switch, wish, copy.

use std::time::Duration;

use super::health::State;
use super::{Cause, Path, Paths, SECOND, Switch};
use crate::plane::{Destination, Source};
use crate::time::Moment;

impl Paths {
    /// The switch that the states demand, already carried out.
    pub fn decide(&mut self, now: Moment) -> Option<Switch> {
        let primary = self.paths.get(self.primary)?;
        let state = primary.health.state(now);
        let since = primary.health.since();
        let newest = self.newest.and_then(|newest| self.position(newest));
        // A deaf path has answered all the time, and so did the others: nothing has just changed.
        let since = if self.deaf { now - SECOND } else { since };
        let fresh = |path: &Path| path.health.proof().is_some_and(|proof| proof >= since);
        match state {
            State::Live => None,
            State::Unproven => {
                let live = self.best(|path| path.health.state(now) == State::Live, now)?;
                Some(self.switch(live, Cause::PeerMoved, now))
            }
            State::Suspect => {
                // A place that came up since the primary path fell silent; a peer may well send by
                // another path than we do.
                let took_over = |path: &Path| {
                    fresh(path) && primary.heard.is_none_or(|heard| heard < path.born)
                };
                let moved = newest
                    .filter(|place| *place != self.primary && took_over(&self.paths[*place]))?;
                Some(self.switch(moved, Cause::PeerMoved, now))
            }
            State::Dead | State::Held => {
                let live = |path: &Path| path.health.state(now) == State::Live && fresh(path);
                let held = |path: &Path| {
                    state == State::Dead && path.health.state(now) == State::Held && fresh(path)
                };
                // Data passes at least where the peer's comes from: of two that died before that one is
                // better, and where probes pass and data does not, it is better than any.
                let other = newest.filter(|place| *place != self.primary);
                let spoken = other.filter(|place| held(&self.paths[*place]));
                let brings = |path: &Path| {
                    matches!(path.health.state(now), State::Live | State::Held)
                        && path.heard.is_some_and(|at| now.since(at) < SECOND)
                };
                let deaf = other.filter(|place| self.deaf && brings(&self.paths[*place]));
                let to = deaf
                    .or_else(|| self.best(live, now))
                    .or(spoken)
                    .or_else(|| self.best(held, now))?;
                let cause = if std::mem::take(&mut self.deaf) {
                    Cause::Deaf
                } else {
                    Cause::Dead
                };
                Some(self.switch(to, cause, now))
            }
        }
    }

    /// The live path that advice prefers to the primary one.
    pub fn wish(&self, now: Moment) -> Option<Destination> {
        let primary = self.paths.get(self.primary)?;
        let learned = primary.id.is_none() && !primary.withdrawn;
        if learned || primary.health.state(now) != State::Live {
            return None;
        }
        let before = self.paths[..self.primary].iter();
        before
            .filter(|path| path.id.is_some() && path.health.state(now) == State::Live)
            .map(|path| path.destination)
            .next()
    }

    /// How much longer or shorter a round trip over `to` takes than over the primary path.
    pub fn skew(&self, to: Destination) -> Duration {
        let rtt = |place: Option<usize>| place.and_then(|place| self.paths[place].measure.rtt());
        let (here, there) = (rtt(Some(self.primary)), rtt(self.position(to)));
        here.zip(there)
            .map_or(Duration::ZERO, |(here, there)| here.abs_diff(there))
    }

    pub fn move_to(&mut self, to: Destination, now: Moment) -> Option<Switch> {
        let place = self.position(to).filter(|place| *place != self.primary)?;
        Some(self.switch(place, Cause::Advice, now))
    }

    /// Data flows again after a quiet time: whatever was known of the paths may have changed meanwhile.
    pub fn wake(&mut self, now: Moment) {
        self.woken = Some(now);
    }

    /// Whether the primary path is in doubt, so that packets go out on the standby as well.
    pub fn is_doubtful(&self, now: Moment) -> bool {
        let Some(primary) = self.paths.get(self.primary).filter(|_| self.probed) else {
            return false;
        };
        let proof = primary.health.proof().max(primary.heard);
        primary.health.state(now) != State::Live
            || proof.is_none_or(|proof| now.since(proof) > IDLE_PROOF || Some(proof) < self.woken)
    }

    /// Whether no path answers any more.
    pub fn is_silent(&self, now: Moment) -> bool {
        let silent = |path: &Path| matches!(path.health.state(now), State::Dead | State::Unproven);
        self.paths.iter().all(silent)
            && self
                .paths
                .iter()
                .any(|path| path.health.state(now) == State::Dead)
    }

    /// A path that answered lately.
    pub fn proven(&self, now: Moment) -> Option<Destination> {
        let newest = self.paths.iter().max_by_key(|path| path.health.proof())?;
        let proof = newest.health.proof()?;
        (now.since(proof) < 2 * SECOND).then_some(newest.destination)
    }

    /// Whether there is a path to that place which answers.
    pub fn is_answered_from(&self, source: Source, now: Moment) -> bool {
        let place = self.position(source);
        place.is_some_and(|place| self.paths[place].state(now) == State::Live)
    }

    /// A place that the peer spoke from, to be told once.
    pub fn take_learned(&mut self) -> Option<Source> {
        self.learned.pop()
    }

    pub fn is_metered(&self, destination: Destination) -> bool {
        self.position(destination)
            .is_some_and(|place| self.paths[place].metered)
    }

    /// Where copies go: never to a place that has not answered, as the peer may have named a victim's.
    pub fn copies_to(&self, now: Moment) -> Option<Destination> {
        let others = self.paths.iter().enumerate();
        let proved =
            others.filter(|(place, path)| *place != self.primary && path.health.proof().is_some());
        proved
            .min_by_key(|(place, path)| (path.metered, path.health.state(now), *place))
            .map(|(_, path)| path.destination)
    }

    /// A data message leaves by the primary path, and a copy perhaps by another.
    pub fn sent_data(&mut self, large: bool, copied: Option<Destination>) {
        // Large ones may vanish alone: that is the path's MTU, and no reason to leave it.
        self.offered = self.offered.wrapping_add(u32::from(!large));
        let copied = copied.and_then(|copied| self.position(copied));
        for place in [Some(self.primary), copied].into_iter().flatten() {
            if let Some(path) = self.paths.get_mut(place) {
                path.measure.data_sent(large);
            }
        }
    }

    pub(super) fn standby(&self, now: Moment) -> Option<usize> {
        let others = self.paths.iter().enumerate();
        others
            .filter(|(place, _)| *place != self.primary)
            .min_by_key(|(place, path)| (path.metered, path.health.state(now), *place))
            .map(|(place, _)| place)
    }

    pub(super) fn best(&self, fits: impl Fn(&Path) -> bool, now: Moment) -> Option<usize> {
        let others = self.paths.iter().enumerate();
        others
            .filter(|(place, path)| *place != self.primary && fits(path))
            .min_by_key(|(place, path)| {
                let record = match path.health.state(now) {
                    State::Held => path.health.hold(),
                    _ => Duration::ZERO,
                };
                (path.metered, record, *place)
            })
            .map(|(place, _)| place)
    }
}

/// A primary path that was silent for so long is not trusted with a packet alone.
const IDLE_PROOF: Duration = Duration::from_secs(5);
