//! When to initiate, retry, renew and keep alive: every timer of one peer.
//!
//! The peer tells what happened (`sent`, `received`, `staged`, ...); `due` says what to do now. Nothing
//! here touches a session or a datagram, and no timer is set anywhere else.
//!
//! * **When there is no session** and the peer is wanted, has a keepalive, or packets wait: initiate.
//! * **When the session ages.** Whoever initiated it renews it at about 110 s, jittered, well before the
//!   120 s of the protocol; the responder leaves that to the peer and steps in at about 167 s. Either
//!   only if the session is used, wanted or kept alive. Jitter keeps both ends from renewing at once,
//!   and as the newest session decides who the initiator is, a fight ends with one loser.
//! * **When data is unanswered.** A peer that was restarted holds no session and stays silent; so does a
//!   dead path. If data has waited max(2 s, 3 RTT) and was insisted on (more was sent 0.5 s or more after
//!   it: the last ACK of a conversation has no answer, and nobody repeats it), initiate: any live peer
//!   answers that. Data that nobody repeats waits for the protocol's own 15 s; a live peer sends a
//!   passive keepalive after 10.
//! * **When the handshake was answered and data still is not,** the flow is one-way: told once, and early
//!   initiations then wait for the 15 s. Only inner data from the peer, or a renewal, lifts the mark.
//! * **When the brain renews:** at once, and on the quick part of the ladder, as a link has just changed.
//! * **When an initiation is unanswered,** the ladder of `attempt`: first the same bytes again (the initiation
//!   was lost), then fresh ones (the response was), never less than a second apart, as only the newest
//!   two can be answered. It ends in one every 2.5 s, in 15 s after half an hour, each with jitter. It
//!   goes on while the peer is wanted or has a keepalive, else until 90 s after the last packet for it.
//! * **When another path is primary** while an initiation is unanswered: the same bytes there at once. A node
//!   that was just started has its links to relays a moment after its sockets.
//! * **When data came and nothing went back for 10 s:** a keepalive. **When nothing was sent for the
//!   persistent interval:** a keepalive, also during a handshake, as the NAT mapping does not wait for it.

use std::time::Duration;

use crate::attempt::{Attempt, LONGEST_WAIT, Reason, rung};
use crate::chance::Chance;
use crate::engine::{REKEY_AFTER_MESSAGES, Session};
use crate::time::Moment;

/// What liveness asks of the configuration and the engine, read afresh each time.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The session that packets are sealed with now.
    pub session: Option<Session>,
    /// Wanted by the brain, or kept alive.
    pub wanted: bool,
    pub keepalive: Option<Duration>,
    pub has_path: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    Keepalive,
    /// Send an initiation: new bytes, or the last ones again.
    Initiate {
        fresh: bool,
    },
}

/// What is to be told about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tidings {
    Unanswered { waited: Duration, initiations: u32 },
    OneWay,
}

#[derive(Default)]
pub struct Liveness {
    unanswered: Option<Unanswered>,
    /// Data came at that time, and nothing went back since.
    owed_since: Option<Moment>,
    last_sent: Option<Moment>,
    last_received: Option<Moment>,
    last_data: Option<Moment>,
    /// The last packet that wanted to go there.
    last_offered: Option<Moment>,
    last_handshake: Option<Moment>,
    responded: Option<Moment>,
    rtt: Option<Duration>,
    renew: bool,
    answered_early: bool,
    one_way: bool,
    tell_one_way: bool,
    attempt: Option<Attempt>,
    renewal_jitter: Duration,
}

#[derive(Clone, Copy)]
struct Unanswered {
    since: Moment,
    insisted: bool,
}

impl Liveness {
    // What happened.

    pub fn sent_data(&mut self, now: Moment) {
        self.sent(now);
        self.last_data = Some(now);
        self.last_offered = Some(now);
        match &mut self.unanswered {
            Some(waiting) => waiting.insisted |= now.since(waiting.since) >= INSISTENCE,
            none => {
                *none = Some(Unanswered {
                    since: now,
                    insisted: false,
                })
            }
        }
    }

    /// Anything authenticated that is not data.
    pub fn sent(&mut self, now: Moment) {
        self.last_sent = Some(now);
        self.owed_since = None;
    }

    pub fn staged(&mut self, now: Moment) {
        self.last_offered = Some(now);
    }

    /// Anything authenticated.
    pub fn received(&mut self, now: Moment) {
        self.last_received = Some(now);
        self.unanswered = None;
    }

    pub fn received_data(&mut self, now: Moment) {
        self.received(now);
        self.last_data = Some(now);
        self.owed_since.get_or_insert(now);
        self.answered_early = false;
        self.one_way = false;
        self.tell_one_way = false;
    }

    /// We answered an initiation and wait for the session to be confirmed.
    pub fn responded(&mut self, now: Moment) {
        self.received(now);
        self.sent(now);
        self.responded = Some(now);
    }

    /// A session came up. Returns the handshake's RTT where we can tell.
    pub fn established(
        &mut self,
        initiator: bool,
        chance: &mut Chance,
        now: Moment,
    ) -> Option<Duration> {
        self.received(now);
        self.last_handshake = Some(now);
        self.renewal_jitter = chance.upto(RENEWAL_JITTER);
        let attempt = self.attempt.take()?;
        self.answered_early |= attempt.reason == Reason::Early;
        if !initiator {
            return None;
        }
        // After a retry nobody knows which copy was answered (Karn).
        if attempt.sent == 1 || self.rtt.is_none() {
            self.rtt = Some(now.since(attempt.last));
        }
        self.rtt
    }

    /// The peer is under load and gave us a cookie; the next initiation carries it.
    pub fn cookie(&mut self, now: Moment) {
        if let Some(attempt) = &mut self.attempt {
            attempt.fresh = true;
            if !attempt.had_cookie {
                attempt.next = attempt.next.min(now + COOKIE_DELAY);
            }
            attempt.had_cookie = true;
        }
    }

    /// The brain asks for a fresh session.
    pub fn renew(&mut self) {
        self.renew = true;
        self.one_way = false;
        self.tell_one_way = false;
        self.answered_early = false;
    }

    /// The primary path is another one: what waits for an answer is said there as well.
    pub fn moved(&mut self, now: Moment) {
        if let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.sent > 0) {
            attempt.next = attempt.next.min(now);
            attempt.fresh = false;
        }
    }

    /// The peer seems to use a session that we do not have.
    pub fn session_lost(&mut self, now: Moment) {
        let quiet = self
            .last_handshake
            .is_none_or(|at| now.since(at) >= PATIENCE);
        if quiet && self.attempt.is_none() {
            self.renew = true;
        }
    }

    pub fn initiated(&mut self, chance: &mut Chance, now: Moment) {
        self.sent(now);
        let rtt = self.rtt.unwrap_or_default();
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        attempt.sent += 1;
        attempt.last = now;
        let (interval, fresh) = rung(attempt.step, now.since(attempt.started));
        attempt.step += 1;
        let interval = interval.max(rtt.mul_f64(1.25).min(LONGEST_WAIT));
        attempt.next = now + interval + chance.upto(interval / 10);
        attempt.fresh = fresh;
    }

    // What to do.

    pub fn due(&mut self, view: &View, now: Moment) -> Due {
        self.begin_or_end(view, now);
        if let Some(attempt) = self.attempt.as_ref().filter(|attempt| attempt.next <= now) {
            return Due::Initiate {
                fresh: attempt.fresh,
            };
        }
        if view.session.is_some()
            && view.has_path
            && self.keepalive_at(view).is_some_and(|at| at <= now)
        {
            return Due::Keepalive;
        }
        Due::Nothing
    }

    pub fn tidings(&mut self, now: Moment) -> Option<Tidings> {
        if std::mem::take(&mut self.tell_one_way) {
            return Some(Tidings::OneWay);
        }
        let attempt = self.attempt.as_mut()?;
        let waited = now.since(attempt.since);
        if waited < attempt.tell_after {
            return None;
        }
        attempt.tell_after = waited * 2;
        Some(Tidings::Unanswered {
            waited,
            initiations: attempt.sent,
        })
    }

    /// When `due` should be asked again, as far as it is known now. What `due` does nothing about is no
    /// deadline: an instant that has passed would be asked about for ever.
    pub fn deadline(&self, view: &View) -> Option<Moment> {
        if !view.has_path {
            return None;
        }
        let keepalive = view.session.and(self.keepalive_at(view));
        let unattempted = view.session.filter(|_| self.attempt.is_none());
        let early = unattempted.and_then(|_| self.early_at());
        let next = self.attempt.as_ref().map(|attempt| attempt.next);
        [keepalive, early, next].into_iter().flatten().min()
    }

    // What is known.

    pub fn connected(&self, session: Option<Session>, now: Moment) -> bool {
        let fresh = self.last_received.is_some_and(|at| now.since(at) < PROOF);
        let waiting = self.waiting(now).is_some_and(|waited| waited > EARLY);
        fresh || (session.is_some() && !waiting)
    }

    /// How long the oldest unanswered packet or initiation has waited.
    pub fn waiting(&self, now: Moment) -> Option<Duration> {
        let data = self.unanswered.map(|waiting| waiting.since);
        let attempt = self
            .attempt
            .as_ref()
            .filter(|attempt| attempt.sent > 0)
            .map(|attempt| attempt.since);
        [data, attempt]
            .into_iter()
            .flatten()
            .min()
            .map(|since| now.since(since))
    }

    pub fn last_received(&self) -> Option<Moment> {
        self.last_received
    }

    pub fn last_handshake(&self) -> Option<Moment> {
        self.last_handshake
    }

    /// The last packet that was sealed or opened.
    pub fn last_data(&self) -> Option<Moment> {
        self.last_data
    }

    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// How many initiations of the present attempt were sent.
    pub fn initiations(&self) -> u32 {
        self.attempt.as_ref().map_or(0, |attempt| attempt.sent)
    }

    fn begin_or_end(&mut self, view: &View, now: Moment) {
        if !view.has_path {
            self.attempt = None;
            return;
        }
        if self
            .attempt
            .as_ref()
            .is_some_and(|attempt| self.gives_up(attempt, view, now))
        {
            self.attempt = None;
        }
        if std::mem::take(&mut self.renew) {
            self.attempt = Some(match self.attempt.take() {
                Some(older) => older.again(now),
                None => Attempt::new(Reason::Renew, now),
            });
        }
        if self.attempt.is_none() {
            self.attempt = self
                .reason(view, now)
                .map(|reason| Attempt::new(reason, now));
        }
    }

    fn gives_up(&self, attempt: &Attempt, view: &View, now: Moment) -> bool {
        let asked = self
            .last_offered
            .map_or(attempt.started, |at| at.max(attempt.started));
        !view.wanted && now.since(asked) >= GIVE_UP
    }

    fn reason(&mut self, view: &View, now: Moment) -> Option<Reason> {
        let recently = |at: Option<Moment>, within| at.is_some_and(|at| now.since(at) < within);
        let Some(session) = view.session else {
            let needed = view.wanted || recently(self.last_offered, OFFERED);
            let comes = recently(self.responded, CONFIRMATION);
            return (needed && !comes).then_some(Reason::NoSession);
        };
        let age = now.since(session.established);
        let used = view.wanted || recently(self.last_data, USED);
        let renewal = if session.initiator {
            RENEW_AS_INITIATOR
        } else {
            RENEW_AS_RESPONDER
        };
        let old = used && age >= renewal + self.renewal_jitter;
        let worn = session.messages >= REKEY_AFTER_MESSAGES || (session.unsettled && age >= SETTLE);
        if old || worn {
            return Some(Reason::Age);
        }
        if self.early_at()? > now {
            return None;
        }
        if self.answered_early && !self.one_way {
            self.one_way = true;
            self.tell_one_way = true;
            return None;
        }
        Some(Reason::Early)
    }

    /// When unanswered data makes an initiation.
    fn early_at(&self) -> Option<Moment> {
        let waiting = self.unanswered?;
        let patience = if waiting.insisted && !self.one_way {
            EARLY.max(self.rtt.unwrap_or_default() * 3).min(PATIENCE)
        } else {
            PATIENCE
        };
        Some(waiting.since + patience)
    }

    fn keepalive_at(&self, view: &View) -> Option<Moment> {
        let passive = self.owed_since.map(|since| since + PASSIVE);
        let persistent = view
            .keepalive
            .map(|interval| self.last_sent.unwrap_or_default() + interval);
        [passive, persistent].into_iter().flatten().min()
    }
}

const GIVE_UP: Duration = Duration::from_secs(90);
const COOKIE_DELAY: Duration = Duration::from_millis(200);

const EARLY: Duration = Duration::from_secs(2);
const INSISTENCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(15);
const PROOF: Duration = Duration::from_secs(5);

const RENEW_AS_INITIATOR: Duration = Duration::from_secs(107);
const RENEW_AS_RESPONDER: Duration = Duration::from_secs(166);
const RENEWAL_JITTER: Duration = Duration::from_secs(5);
pub const SETTLE: Duration = Duration::from_secs(20);
/// Data younger than this makes a session worth renewing.
const USED: Duration = Duration::from_secs(20);
/// A packet younger than this makes a session worth having.
const OFFERED: Duration = Duration::from_secs(1);
/// How long a responder waits for the first data on its session before it initiates itself.
const CONFIRMATION: Duration = Duration::from_secs(1);
const PASSIVE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
