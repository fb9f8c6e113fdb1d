//! When each path of a Shore peer is probed, and what its answers change.
//!
//! A busy peer's primary path is probed often, as its silence is what people notice; its standby often
//! enough to be known alive; a path in doubt very often, until the doubt is settled, and so a sparse one that
//! loses messages, until it is known how many. A quiet peer's primary
//! path and standby are probed just often enough that our NAT remembers them, which is the brain's to know
//! (`quiet_s`); the others once a minute, as nobody waits for them.

use std::time::Duration;

use super::health::{ROW, State};
use super::{Paths, SECOND};
use crate::plane::{Destination, Source};
use crate::probe::message::{Echo, Probe, Report};
use crate::time::Moment;

impl Paths {
    /// There are probe keys: every path is to be proved.
    pub fn begin_probing(&mut self) {
        self.probed = true;
        self.poke_all();
    }

    /// The peer does not know our keys any more, or is plain WireGuard after all.
    pub fn end_probing(&mut self) {
        self.probed = false;
    }

    pub fn is_probed(&self) -> bool {
        self.probed
    }

    /// Where we are, or where the peer is, may have changed: prove every path anew.
    pub fn doubt(&mut self, now: Moment) {
        for path in &mut self.paths {
            path.health.doubt(now);
        }
        self.poke_all();
    }

    fn poke_all(&mut self) {
        for path in &mut self.paths {
            path.poked = true;
        }
    }

    /// A larger number than before: somebody wants to know how every path is now.
    pub fn poke(&mut self, before: u64, number: u64) {
        if number > before {
            for path in self.paths.iter_mut().take(MOST_PROBED) {
                path.poked = true;
                path.asked.want(number);
            }
        }
    }

    /// Whether a probe that somebody asked for has not left yet.
    pub fn is_poked(&self) -> bool {
        self.paths.iter().any(|path| path.asked.is_wanted())
    }

    /// The next probe that is due, if any: where it goes, and what it says.
    pub fn probe(
        &mut self,
        busy: bool,
        transaction: u32,
        now: Moment,
    ) -> Option<(Destination, Probe)> {
        let standby = self.standby(now);
        let place = (0..self.paths.len().min(MOST_PROBED))
            .find(|place| self.probe_at(*place, standby, busy, now) <= now)?;
        let path = &mut self.paths[place];
        path.poked = false;
        path.asked.sent(transaction, now);
        Some((path.destination, path.measure.probe(transaction, now)))
    }

    /// When the next probe is due.
    pub fn deadline_of_probe(&self, busy: bool, now: Moment) -> Option<Moment> {
        let standby = self.standby(now);
        (0..self.paths.len().min(MOST_PROBED))
            .map(|place| self.probe_at(place, standby, busy, now))
            .min()
    }

    /// When the next probe is due, or a sent one becomes late.
    pub fn deadline(&self, busy: bool, now: Moment) -> Option<Moment> {
        if !self.probed {
            return None;
        }
        let late = self
            .paths
            .iter()
            .filter_map(|path| path.measure.overdue_at());
        late.chain(self.deadline_of_probe(busy, now)).min()
    }

    fn probe_at(&self, place: usize, standby: Option<usize>, busy: bool, now: Moment) -> Moment {
        let path = &self.paths[place];
        let Some(sent) = path.measure.last_sent().filter(|_| !path.poked) else {
            return path.held_until;
        };
        let interval = self.interval(place, standby == Some(place), busy, now);
        path.held_until.max(sent + interval)
    }

    fn interval(&self, place: usize, is_standby: bool, busy: bool, now: Moment) -> Duration {
        let path = &self.paths[place];
        let of_primary = self.paths[self.primary].health.state(now);
        let pick = |when_busy, when_quiet| if busy { when_busy } else { when_quiet };
        match path.health.state(now) {
            State::Suspect if now.since(path.health.since()) < KEEN_FOR => KEEN,
            State::Suspect => SECOND / 4,
            State::Unproven if path.measure.in_a_row() < ROW => SECOND / 4,
            State::Dead | State::Unproven if of_primary != State::Live => SECOND,
            State::Dead | State::Unproven if path.is_new() && self.is_relayed() => 60 * SECOND,
            State::Dead | State::Unproven => pick(5 * SECOND, 60 * SECOND),
            _ if place == self.primary && busy && path.measure.is_keen(now) => KEEN,
            _ if place == self.primary => pick(PRIMARY_BUSY, path.quiet),
            _ if is_standby && of_primary != State::Live => 2 * KEEN,
            State::Held => pick(SECOND / 2, path.quiet),
            State::Live if is_standby => pick(SECOND / 2, path.quiet),
            State::Live => pick(5 * SECOND, path.quiet.max(60 * SECOND)),
        }
    }

    /// The peer's probe came from `source`. Returns what its echo reports.
    pub fn probed_from(&mut self, source: Source, probe: &Probe, now: Moment) -> Report {
        let place = self.place_of(source, now);
        self.paths[place].measure.arrived(probe, now)
    }

    /// A data message was opened that came from `source`.
    pub fn data_from(&mut self, source: Source, large: bool, now: Moment) {
        if !self.probed {
            return;
        }
        let place = self.place_of(source, now);
        self.paths[place].measure.data_arrived(large);
    }

    /// The second copy of a message came from `source`. It proves nothing, so it makes no place known.
    pub fn copy_from(&mut self, source: Source, large: bool) {
        if let Some(place) = self.position(source).filter(|_| self.probed) {
            self.paths[place].measure.data_arrived(large);
        }
    }

    /// An echo came. Returns whether it answers a probe of ours.
    pub fn answered(&mut self, echo: &Echo, now: Moment) -> bool {
        for path in &mut self.paths {
            path.asked.answered(echo, now);
        }
        let Some(place) = self
            .paths
            .iter_mut()
            .position(|path| path.measure.answered(echo, now))
        else {
            return false;
        };
        let path = &mut self.paths[place];
        path.observed = Some(echo.observed);
        path.health.proved(now);
        if self.is_deaf(place, now) {
            let path = &mut self.paths[place];
            path.health.deaf(now);
            path.measure.forget_data();
            self.deaf |= place == self.primary;
        }
        if place == self.primary {
            let path = &self.paths[place];
            let count = path.measure.swallowed();
            self.swallowed = (count >= SWALLOWED_AFTER).then_some((path.destination, count));
        }
        true
    }

    /// Large datagrams on the primary path that the newest echo says never came: where to, and how many. Said
    /// once.
    pub fn take_swallowed(&mut self) -> Option<(Destination, u32)> {
        self.swallowed.take()
    }

    /// Whether a path answers and the data that goes there goes astray; or, if it is the primary one, all of it.
    fn is_deaf(&mut self, place: usize, now: Moment) -> bool {
        let path = &self.paths[place];
        if !matches!(path.health.state(now), State::Live | State::Held) {
            return false;
        }
        let own = path.measure.data_delivered(SECOND, now);
        own.is_some_and(|(sent, arrived)| sent.small() >= DEAF_AFTER && arrived.all == 0)
            || (place == self.primary && self.is_nothing_taken(now))
    }

    /// Whether no path brings anything, whichever counts what.
    fn is_nothing_taken(&mut self, now: Moment) -> bool {
        let counts = self.paths.iter().map(|path| path.measure.reported);
        let sum = counts.fold(0, u32::wrapping_add);
        if self.taken.back().is_some_and(|(.., taken)| *taken != sum) {
            self.taken.clear();
        }
        let mut early = self.taken.iter().rev();
        let old = early.find(|(at, ..)| now.since(*at) >= SECOND);
        let offered = self
            .taken
            .front()
            .zip(old)
            .map_or(0, |(first, old)| old.1.wrapping_sub(first.1));
        self.taken.push_back((now, self.offered, sum));
        if self.taken.len() > MOST_TAKEN {
            // What stands between tells nothing more.
            self.taken.remove(1);
        }
        offered >= DEAF_AFTER
    }

    /// Probes that are late by now change what is believed.
    pub fn overdue(&mut self, now: Moment) {
        for path in &mut self.paths {
            if path.measure.overdue(now) > 0 {
                path.health.late(path.measure.in_a_row(), now);
            }
        }
    }

    /// The kernel refuses to send there. Returns whether another path carries the packets.
    pub fn refused(&mut self, destination: Destination, now: Moment) -> bool {
        let Some(place) = self.position(destination).filter(|_| self.probed) else {
            return false;
        };
        self.paths[place].health.refused(now);
        place != self.primary || self.standby(now).is_some()
    }
}

const PRIMARY_BUSY: Duration = Duration::from_millis(150);
const KEEN: Duration = Duration::from_millis(50);
const KEEN_FOR: Duration = Duration::from_secs(1);
/// Data messages of a second that must all be missing.
const DEAF_AFTER: u32 = 3;
/// Large datagrams that must be missing.
const SWALLOWED_AFTER: u32 = 3;
const MOST_PROBED: usize = 8;
const MOST_TAKEN: usize = 64;
