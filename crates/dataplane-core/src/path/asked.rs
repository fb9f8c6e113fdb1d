//! What became of the probe that somebody asked for, apart from those that are due anyway.
//!
//! The brain raises a number for each asking. A path remembers the newest one that it sent a probe for, and
//! its answer however late: a later probe's echo does not make it lost.

use std::time::Duration;

use crate::probe::message::Echo;
use crate::time::Moment;

#[derive(Default)]
pub struct Asked {
    /// Asked for, and not sent yet.
    wanted: Option<u64>,
    sent: Option<Sent>,
}

struct Sent {
    poke: u64,
    transaction: u32,
    at: Moment,
    rtt: Option<Duration>,
}

impl Asked {
    pub fn want(&mut self, poke: u64) {
        self.wanted = Some(poke);
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// A probe leaves; it serves the asking as well.
    pub fn sent(&mut self, transaction: u32, now: Moment) {
        if let Some(poke) = self.wanted.take() {
            self.sent = Some(Sent {
                poke,
                transaction,
                at: now,
                rtt: None,
            });
        }
    }

    pub fn answered(&mut self, echo: &Echo, now: Moment) {
        if let Some(sent) = &mut self.sent
            && sent.transaction == echo.transaction
        {
            let held = Duration::from_micros(u64::from(echo.held_us));
            let rtt = now.since(sent.at).saturating_sub(held);
            sent.rtt.get_or_insert(rtt);
        }
    }

    /// The newest number that a probe was sent for, and the round trip if it was answered.
    pub fn newest(&self) -> Option<(u64, Option<Duration>)> {
        self.sent.as_ref().map(|sent| (sent.poke, sent.rtt))
    }
}
