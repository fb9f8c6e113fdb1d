//! Trials: how long does a NAT remember a mapping that nobody uses?
//!
//! The brain opens a socket for this alone, so that no mapping in use is put at risk, and wants a probe sent by
//! it whose echo the peer holds for so many seconds. An echo that comes after them proves that the mapping
//! lived; what it means when none comes is the brain's to judge. Such a probe is of no path: nothing is
//! counted, and its receiver learns no place from it, as it would probe that place and keep the mapping alive.
//!
//! As receiver we hold one echo for a place, four for a peer, ten minutes at most. What is not held, or not
//! for so long, is answered all the same, and the echo says how long it was held; so nobody takes our
//! refusal for a mapping that died.

use std::time::Duration;

use crate::facts::Fact;
use crate::outputs::Outputs;
use crate::peer::Peer;
use crate::plane::{Destination, Source};
use crate::probe::message::{Echo, Message, Probe, Report};
use crate::time::Moment;

/// One peer's part: trials of ours that wait, and echoes that we hold for it.
#[derive(Default)]
pub struct Trials {
    sent: Vec<Sent>,
    held: Vec<Held>,
}

struct Sent {
    number: u32,
    transaction: u32,
}

#[derive(Clone, Copy)]
struct Held {
    due: Moment,
    came: Moment,
    source: Source,
    transaction: u32,
    sent_at: u64,
}

impl Peer {
    /// Sends the trials that are new.
    pub fn try_mappings(&mut self, outputs: &mut Outputs, now: Moment) {
        let wanted = &self.desired.trials;
        let sent = &mut self.trials.sent;
        sent.retain(|sent| wanted.iter().any(|trial| trial.number == sent.number));
        let fresh = wanted
            .iter()
            .find(|trial| !sent.iter().any(|sent| trial.number == sent.number));
        let Some(trial) = fresh.copied() else {
            return;
        };
        if !outputs.commons.may_probe(&mut self.probing.share, now) {
            return;
        }
        let transaction = self.probing.next_transaction();
        let number = trial.number;
        self.trials.sent.push(Sent {
            number,
            transaction,
        });
        let probe = Message::Probe(Probe {
            trial: Some(trial.hold_s),
            ..Probe::of_no_path(transaction, now)
        });
        let to = Destination {
            socket: trial.socket,
            remote: trial.remote,
        };
        self.say(&probe, to, outputs);
    }

    /// Returns whether the echo is that of a trial.
    pub fn trial_echoed(&mut self, echo: &Echo, outputs: &mut Outputs, now: Moment) -> bool {
        let mut sent = self.trials.sent.iter();
        let Some(sent) = sent.find(|sent| sent.transaction == echo.transaction) else {
            return false;
        };
        let fact = Fact::TrialEchoed {
            public_key: self.key(),
            number: sent.number,
            held_s: f64::from(echo.held_us) / 1e6,
        };
        outputs.reports.tell(fact, now);
        true
    }

    /// The peer tries a mapping of its own.
    pub fn hold(
        &mut self,
        source: Source,
        probe: &Probe,
        hold_s: u16,
        outputs: &mut Outputs,
        now: Moment,
    ) {
        let hold = Duration::from_secs(u64::from(hold_s)).min(LONGEST_HOLD);
        let held = Held {
            due: now + hold,
            came: now,
            source,
            transaction: probe.transaction,
            sent_at: probe.sent_at,
        };
        self.trials.held.retain(|other| other.source != source);
        if hold.is_zero() || self.trials.held.len() >= MOST_HELD {
            self.release(held, outputs, now);
        } else {
            self.trials.held.push(held);
        }
    }

    pub fn release_echoes(&mut self, outputs: &mut Outputs, now: Moment) {
        let due = |held: &Held| held.due <= now;
        while let Some(place) = self.trials.held.iter().position(due) {
            let held = self.trials.held.swap_remove(place);
            self.release(held, outputs, now);
        }
    }

    fn release(&mut self, held: Held, outputs: &mut Outputs, now: Moment) {
        let echo = Message::Echo(Echo {
            transaction: held.transaction,
            held_us: u32::try_from(now.since(held.came).as_micros()).unwrap_or(u32::MAX),
            sent_at: held.sent_at,
            report: Report::default(),
            observed: held.source.remote,
        });
        self.say(&echo, held.source, outputs);
    }
}

const LONGEST_HOLD: Duration = Duration::from_secs(600);
const MOST_HELD: usize = 4;
