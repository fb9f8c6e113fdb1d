//! Facts on their way to the brain, and losses on their way to becoming facts.
//!
//! Facts wait until somebody reads them, the newest 1,024 of them, and one of a kind per peer: a newer
//! one replaces the older and takes a new serial.
//!
//! A loss for a reason of our own is no fact yet: most pass within a second. It becomes `Losing` after
//! 3 s during which it never paused for more than a second, and again for each further 3 s.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use serde_bytes::ByteArray;

use crate::facts::{DropReason, Fact};
use crate::time::Moment;

#[derive(Default)]
pub struct Reports {
    serial: u64,
    waiting: VecDeque<(u64, Moment, Fact)>,
}

impl Reports {
    /// Returns the fact's serial.
    pub fn tell(&mut self, fact: Fact, now: Moment) -> u64 {
        let kind = kind(&fact);
        self.waiting
            .retain(|(_, _, older)| self::kind(older) != kind);
        if self.waiting.len() >= CAPACITY {
            self.waiting.pop_front();
        }
        self.serial += 1;
        self.waiting.push_back((self.serial, now, fact));
        self.serial
    }

    pub fn next(&mut self) -> Option<(u64, Moment, Fact)> {
        self.waiting.pop_front()
    }

    pub fn serial(&self) -> u64 {
        self.serial
    }
}

/// Runs of losses of one peer, or of none.
#[derive(Default)]
pub struct Losses {
    runs: BTreeMap<DropReason, Run>,
}

struct Run {
    since: Moment,
    last: Moment,
    count: u64,
    tell_at: Moment,
}

impl Losses {
    pub fn note(&mut self, reason: DropReason, count: u64, now: Moment) {
        if !is_our_fault(reason) {
            return;
        }
        let fresh = Run {
            since: now,
            last: now,
            count: 0,
            tell_at: now + LOSING_AFTER,
        };
        let run = self.runs.entry(reason).or_insert(fresh);
        run.last = now;
        run.count += count;
    }

    /// The facts that are due. `heard`: when something from the peer was last opened; a run of failed
    /// opens during which others succeed is not ours.
    pub fn due(
        &mut self,
        peer: Option<ByteArray<32>>,
        heard: Option<Moment>,
        now: Moment,
    ) -> Vec<Fact> {
        self.runs.retain(|reason, run| {
            let refuted = is_failed_open(*reason) && heard.is_some_and(|heard| heard > run.since);
            now.since(run.last) <= PAUSE && !refuted
        });
        let due = self.runs.iter_mut().filter(|(_, run)| run.tell_at <= now);
        due.map(|(reason, run)| {
            run.tell_at = now + LOSING_AFTER;
            let for_s = now.since(run.since).as_secs_f64();
            Fact::Losing {
                public_key: peer,
                reason: *reason,
                for_s,
                count: run.count,
            }
        })
        .collect()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

fn is_our_fault(reason: DropReason) -> bool {
    use DropReason::{NoSession, SendError, StageExpired, StageOverflow, TunError};
    matches!(
        reason,
        SendError | TunError | StageExpired | StageOverflow | NoSession
    ) || is_failed_open(reason)
}

fn is_failed_open(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::BadTag | DropReason::Replayed | DropReason::TooOld | DropReason::UnknownIndex
    )
}

/// Facts that replace each other.
fn kind(fact: &Fact) -> (Discriminant<Fact>, Option<ByteArray<32>>, u64) {
    let (peer, other) = match fact {
        Fact::SessionEstablished { public_key, .. }
        | Fact::SessionExpired { public_key }
        | Fact::Roamed { public_key, .. }
        | Fact::Acquainted { public_key, .. }
        | Fact::Learned { public_key, .. }
        | Fact::Candidates { public_key, .. }
        | Fact::Unanswered { public_key, .. }
        | Fact::Swallowed { public_key, .. }
        | Fact::OneWay { public_key } => (Some(*public_key), 0),
        Fact::Measured {
            public_key, token, ..
        } => (Some(*public_key), *token),
        Fact::TrialEchoed {
            public_key, number, ..
        } => (Some(*public_key), u64::from(*number)),
        Fact::Losing {
            public_key, reason, ..
        } => (*public_key, *reason as u64),
        Fact::SocketFailed { socket, .. } => (None, u64::from(*socket)),
        Fact::LinkUp { link, .. }
        | Fact::LinkDown { link, .. }
        | Fact::LinkLeaving { link, .. }
        | Fact::Bound { binding: link }
        | Fact::Unbound { binding: link } => (None, u64::from(*link)),
        Fact::Away {
            link: socket,
            remote: server,
        }
        | Fact::Seen {
            link: socket,
            remote: server,
            ..
        }
        | Fact::Mapped { socket, server, .. } => {
            let mut hasher = DefaultHasher::new();
            (socket, server).hash(&mut hasher);
            (None, hasher.finish())
        }
        Fact::TunFailed { .. } | Fact::Caught { .. } => (None, 0),
    };
    (discriminant(fact), peer, other)
}

const CAPACITY: usize = 1024;
const LOSING_AFTER: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_per_peer_waits_and_the_newest_wins() {
        let mut reports = Reports::default();
        let roamed = |remote: &str| Fact::Roamed {
            cause: crate::path::Cause::PeerMoved,
            left: "192.0.2.9:9".parse().unwrap(),
            left_socket: 1,
            public_key: ByteArray::new([1; 32]),
            socket: 1,
            remote: remote.parse().unwrap(),
        };
        reports.tell(roamed("192.0.2.1:1"), Moment::default());
        reports.tell(
            Fact::OneWay {
                public_key: ByteArray::new([1; 32]),
            },
            Moment::default(),
        );
        reports.tell(roamed("192.0.2.2:2"), Moment::default());
        assert_eq!(reports.next().map(|(serial, ..)| serial), Some(2));
        assert_eq!(
            reports.next().map(|(serial, _, fact)| (serial, fact)),
            Some((3, roamed("192.0.2.2:2")))
        );
        assert!(reports.next().is_none());
    }

    #[test]
    fn a_thousand_and_twenty_four_facts_wait_at_most() {
        let mut reports = Reports::default();
        for socket in 0..2000 {
            reports.tell(Fact::SocketFailed { socket, errno: 1 }, Moment::default());
        }
        assert_eq!(reports.next().map(|(serial, ..)| serial), Some(977));
    }

    #[test]
    fn a_loss_is_told_after_three_seconds_without_a_pause() {
        let mut losses = Losses::default();
        for millis in (0..3500).step_by(250) {
            losses.note(DropReason::SendError, 2, Moment::from_millis(millis));
            let due = losses.due(None, None, Moment::from_millis(millis));
            assert_eq!(due.len(), usize::from(millis == 3000));
        }
        losses.note(DropReason::SendError, 1, Moment::from_millis(6000));
        assert!(losses.due(None, None, Moment::from_millis(8000)).is_empty());
    }
}
