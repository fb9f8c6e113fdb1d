//! What a path is believed to be, as a table of states.
//!
//! ```text
//! unproven --answer--> live <--answer-- suspect        a probe is late: live -> suspect
//! unproven, suspect --three late in a row--> dead      data never arrives: live, suspect -> dead
//! dead --answer--> held --the hold is over--> live     the world changed: live -> suspect
//! ```
//!
//! *Suspect* is not worse, only unsure: data goes on there, and copies go elsewhere. *Held* is a path that died
//! and answers again; it is taken only if nothing better lives, until it has answered for its hold: 5 s,
//! twice as long for each death within five minutes of the last, a minute at most. So a path that flaps is
//! left quickly and returned to slowly.

use std::time::Duration;

use serde::Serialize;

use crate::time::Moment;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In the order in which a standby is chosen.
    Live,
    Held,
    Unproven,
    Suspect,
    Dead,
}

pub struct Health {
    state: State,
    since: Moment,
    proof: Option<Moment>,
    died: Option<Moment>,
    hold: Duration,
}

impl Health {
    pub fn new(now: Moment) -> Self {
        Self {
            state: State::Unproven,
            since: now,
            proof: None,
            died: None,
            hold: LEAST_HOLD,
        }
    }

    pub fn state(&self, now: Moment) -> State {
        match self.state {
            State::Held if now.since(self.since) >= self.hold => State::Live,
            state => state,
        }
    }

    /// Since when it is in this state; a hold that is over began where it began.
    pub fn since(&self) -> Moment {
        self.since
    }

    /// How long a held path must still answer before it is taken again.
    pub fn hold_left(&self, now: Moment) -> Option<Duration> {
        (self.state(now) == State::Held).then(|| self.hold.saturating_sub(now.since(self.since)))
    }

    /// How long it is held when it answers again: the shorter, the better its record.
    pub fn hold(&self) -> Duration {
        self.hold
    }

    /// The last time that an answer came by it.
    pub fn proof(&self) -> Option<Moment> {
        self.proof
    }

    /// Something came back that we had sent there.
    pub fn proved(&mut self, now: Moment) {
        self.proof = Some(now);
        match self.state {
            State::Live | State::Held => {}
            State::Dead => self.become_state(State::Held, now),
            State::Unproven | State::Suspect => self.become_state(State::Live, now),
        }
    }

    /// Probes are late: so many in a row by now.
    pub fn late(&mut self, in_a_row: u32, now: Moment) {
        match self.state(now) {
            State::Live => self.become_state(State::Suspect, now),
            State::Held => self.die(now),
            State::Unproven | State::Suspect if in_a_row >= ROW => self.die(now),
            _ => {}
        }
    }

    /// Not even the kernel takes what goes there.
    pub fn refused(&mut self, now: Moment) {
        match self.state(now) {
            State::Live => self.become_state(State::Suspect, now),
            State::Dead => {}
            _ => self.die(now),
        }
    }

    /// It carries probes and no data.
    pub fn deaf(&mut self, now: Moment) {
        self.die(now);
        self.hold = MOST_HOLD;
    }

    /// Where we are, or where the peer is, may have changed.
    pub fn doubt(&mut self, now: Moment) {
        if self.state(now) == State::Live {
            self.become_state(State::Suspect, now);
        }
    }

    fn die(&mut self, now: Moment) {
        let again = self.died.is_some_and(|died| now.since(died) < MEMORY);
        self.hold = if again {
            (self.hold * 2).min(MOST_HOLD)
        } else {
            LEAST_HOLD
        };
        self.died = Some(now);
        self.become_state(State::Dead, now);
    }

    fn become_state(&mut self, state: State, now: Moment) {
        self.state = state;
        self.since = now;
    }
}

/// Late probes in a row that make a path dead.
pub const ROW: u32 = 3;
const LEAST_HOLD: Duration = Duration::from_secs(5);
const MOST_HOLD: Duration = Duration::from_secs(60);
const MEMORY: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    #[test]
    fn a_path_that_flaps_is_held_ever_longer() {
        let mut health = Health::new(at(0));
        health.proved(at(0));
        let mut now = 0;
        for hold in [5, 10, 20, 40, 60, 60] {
            health.late(1, at(now));
            assert_eq!(health.state(at(now)), State::Suspect);
            health.late(3, at(now));
            assert_eq!(health.state(at(now)), State::Dead);
            health.proved(at(now + 2));
            assert_eq!(health.state(at(now + 2 + hold - 1)), State::Held);
            assert_eq!(health.state(at(now + 2 + hold)), State::Live);
            now += 2 + hold;
        }
        health.late(1, at(now + 400));
        health.late(3, at(now + 400));
        health.proved(at(now + 401));
        assert_eq!(health.state(at(now + 406)), State::Live);
    }

    #[test]
    fn an_answer_ends_suspicion_and_not_a_hold() {
        let mut health = Health::new(at(0));
        assert_eq!(health.state(at(0)), State::Unproven);
        health.proved(at(1));
        health.doubt(at(2));
        assert_eq!(health.state(at(2)), State::Suspect);
        health.proved(at(3));
        assert_eq!(health.state(at(3)), State::Live);
        health.deaf(at(4));
        health.proved(at(5));
        assert_eq!(health.state(at(64)), State::Held);
        assert_eq!(health.state(at(65)), State::Live);
    }
}
