//! The second lane of a Shore peer: sparse flows, with counters and a replay window of their own.
//!
//! A copy on a slower path comes late, and one on a faster path makes what is on the slower one late. Where
//! bulk shares the counter, late is out of the window: at 300 Mbit/s 50 ms are 1,500 packets. So what is sparse
//! (`flows`) is sealed by lane 1, and bulk by lane 0.
//!
//! **Which lane** is decided for each packet, and for a super-packet, which is bulk, as a whole. Both lanes leave
//! by the same path in the order in which they were sealed, and what comes is opened at once, whatever its
//! lane. So a flow that becomes bulk, or ceases to be, takes the other lane with its next packet, and is not
//! reordered by that. While lane 1 is not fit for use, everything is sealed by lane 0: no packet waits for
//! lane 1. Keepalives and staged packets are lane 0's.
//!
//! **Each session of lane 0 is followed by one of lane 1,** which is fit for use while it is no older than that of
//! lane 0. So lane 1 has no clock of its own: what renews lane 0 (its age, the brain, other keys, a limit on
//! messages, data that is unanswered) renews both, and a peer that was restarted is never sent what it
//! cannot open. Who initiated the session of lane 0 initiates that of lane 1; the other end does, if nothing
//! came for 2 s, as the initiator's stamps may be refused. An initiation that is not answered is followed by a
//! fresh one, five in all: a peer that does not know lanes ignores them, and is asked again with the next session.
//!
//! **The handshake travels in signals,** under probe keys. A foreign peer therefore has one lane, and strangers get
//! no answer. An answer is shorter than what it answers, goes where that came from, moves no path, and
//! there are four a second at most.

use std::time::Duration;

use crate::desired::LaneId;
use crate::engine::{INITIATION_LEN, Progress, RESPONSE_LEN, Session, receiver_of};
use crate::facts::{DropReason, LaneCounters};
use crate::flows::Rate;
use crate::lane::{Keying, Lane};
use crate::outputs::Outputs;
use crate::peer::Peer;
use crate::plane::Source;
use crate::probe::message::Message;
use crate::time::Moment;

pub const FIRST: LaneId = 0;
pub const SECOND: LaneId = 1;

/// One peer's part.
pub struct Second {
    pub lane: Lane,
    pub rate: Rate,
    /// When the session of lane 0 came up that this attempt follows.
    follows: Option<Moment>,
    asked: u32,
    next: Moment,
    answered: Option<Moment>,
}

impl Second {
    pub fn new(keying: Keying) -> Self {
        Self {
            lane: Lane::new(keying),
            rate: Rate::default(),
            follows: None,
            asked: 0,
            next: Moment::default(),
            answered: None,
        }
    }

    /// Its session, if that is no older than the one of lane 0.
    fn fit(&self, first: Session, now: Moment) -> Option<Session> {
        let session = self.lane.session(now)?;
        (session.established >= first.established).then_some(session)
    }

    /// When to initiate, now that lane 0 has this session; None if nothing is lacking.
    fn due(&mut self, first: Session, now: Moment) -> Option<Moment> {
        if self.follows != Some(first.established) {
            self.follows = Some(first.established);
            self.asked = 0;
            self.next = first.established + if first.initiator { AT_ONCE } else { PATIENCE };
        }
        let settled = |session: Session| {
            !session.unsettled || now.since(session.established) < crate::liveness::SETTLE
        };
        let lacks = !self.fit(first, now).is_some_and(settled);
        (lacks && self.asked < MOST_ASKED).then_some(self.next)
    }
}

impl Peer {
    /// The lane that a packet takes.
    pub fn lane_for(&self, sparse: bool, now: Moment) -> LaneId {
        let fit = sparse && self.fit_second(now).is_some();
        if fit { SECOND } else { FIRST }
    }

    /// What both ends can open on lane 1 now.
    fn fit_second(&self, now: Moment) -> Option<Session> {
        let second = self.second.as_ref().filter(|_| self.wants_second())?;
        second.fit(self.lane.session(now)?, now)
    }

    fn wants_second(&self) -> bool {
        self.desired.lanes.iter().any(|lane| lane.id == SECOND)
    }

    /// Initiates on lane 1 if it is time.
    pub fn follow_first(&mut self, outputs: &mut Outputs, now: Moment) {
        let wanted = self.wants_second() && self.paths.is_probed();
        let (Some(second), Some(first), Some(path)) = (
            self.second.as_mut().filter(|_| wanted),
            self.lane.session(now),
            self.paths.primary(),
        ) else {
            return;
        };
        let Some(due) = second.due(first, now) else {
            return;
        };
        if due <= now {
            let message = second.lane.greeting().engine.initiate(now);
            second.next = now + RETRY * (1 << second.asked);
            second.asked += 1;
            if let Some(message) = message {
                self.say_on_second(&message, path, outputs);
            }
        }
        let again = self.second.as_mut().and_then(|it| it.due(first, now));
        outputs.soon = [outputs.soon, again].into_iter().flatten().min();
    }

    /// A handshake message came inside a signal.
    pub fn hear_lane(
        &mut self,
        (lane, message): (LaneId, &[u8]),
        source: Source,
        outputs: &mut Outputs,
        now: Moment,
    ) -> Result<(), DropReason> {
        if lane != SECOND || !self.wants_second() {
            return Ok(());
        }
        match (message.first_chunk(), message.len()) {
            (Some([1, 0, 0, 0]), INITIATION_LEN) => self.answer(message, source, outputs, now),
            (Some([2, 0, 0, 0]), RESPONSE_LEN) => self.take_answer(message, source, outputs, now),
            _ => Err(DropReason::MalformedDatagram),
        }
    }

    fn answer(
        &mut self,
        initiation: &[u8],
        source: Source,
        outputs: &mut Outputs,
        now: Moment,
    ) -> Result<(), DropReason> {
        let second = self.second.as_mut().ok_or(DropReason::HandshakeRefused)?;
        if second
            .answered
            .is_some_and(|at| now.since(at) < ANSWER_SPACING)
        {
            return Err(DropReason::RateLimited);
        }
        second.answered = Some(now);
        let mut reply = [0; INITIATION_LEN];
        let engine = &mut second.lane.greeting().engine;
        match engine.handshake(source.remote.ip(), initiation, &mut reply, now)? {
            Progress::Responded { len } => {
                self.say_on_second(&reply[..len], source, outputs);
                Ok(())
            }
            _ => Err(DropReason::HandshakeRefused),
        }
    }

    fn take_answer(
        &mut self,
        response: &[u8],
        source: Source,
        outputs: &mut Outputs,
        now: Moment,
    ) -> Result<(), DropReason> {
        let refused = DropReason::HandshakeRefused;
        let second = self.second.as_mut().ok_or(refused)?;
        let index = receiver_of(response, 8) >> 8;
        let keying = second.lane.by_index(index).ok_or(refused)?;
        let mut confirmation = [0; INITIATION_LEN];
        let engine = &mut keying.engine;
        let progress = engine.handshake(source.remote.ip(), response, &mut confirmation, now)?;
        let Progress::Established { len } = progress else {
            return Err(refused);
        };
        second.lane.established(index, now);
        self.liveness.sent(now);
        self.transmit(&confirmation[..len], outputs, now);
        Ok(())
    }

    fn say_on_second(&mut self, message: &[u8], to: Source, outputs: &mut Outputs) {
        let signal = Message::Lane {
            lane: SECOND,
            message: message.to_vec(),
        };
        self.say(&signal, to, outputs);
    }

    /// Of the engines of both lanes.
    pub fn indices(&self) -> impl Iterator<Item = u32> {
        let second = self.second.iter().flat_map(|second| second.lane.indices());
        self.lane.indices().chain(second)
    }

    /// The lanes that packets can take now.
    pub fn lane_counters(&self, now: Moment) -> Vec<LaneCounters> {
        let first = self.lane.session(now).map(|session| (FIRST, session));
        let second = self.fit_second(now).map(|session| (SECOND, session));
        let of = |(id, session): (LaneId, Session)| LaneCounters {
            id,
            session_age_s: now.since(session.established).as_secs_f64(),
            messages: session.messages,
        };
        first.into_iter().chain(second).map(of).collect()
    }
}

const AT_ONCE: Duration = Duration::ZERO;
/// How long the end that did not initiate on lane 0 leaves lane 1 to the other.
const PATIENCE: Duration = Duration::from_secs(2);
/// After the first initiation; twice as long after each further one.
const RETRY: Duration = Duration::from_secs(1);
const MOST_ASKED: u32 = 5;
const ANSWER_SPACING: Duration = Duration::from_millis(250);
