//! One attempt at a handshake: why it was made, how often it asked, and when it asks again.
//!
//! The ladder repeats the same bytes first, as an initiation or its response may just have been lost,
//! then turns to fresh ones; after half an hour of silence it slows down and never ends by itself.

use std::time::Duration;

use crate::time::Moment;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NoSession,
    Age,
    Early,
    Renew,
}

pub struct Attempt {
    pub reason: Reason,
    /// Since when initiations wait for an answer; a renewal does not set it back.
    pub since: Moment,
    /// When it entered the ladder.
    pub started: Moment,
    pub sent: u32,
    /// How far up the ladder.
    pub step: usize,
    pub last: Moment,
    pub next: Moment,
    pub fresh: bool,
    pub tell_after: Duration,
    pub had_cookie: bool,
}

impl Attempt {
    pub fn new(reason: Reason, now: Moment) -> Self {
        Self {
            reason,
            since: now,
            started: now,
            sent: 0,
            step: 0,
            last: now,
            next: now,
            fresh: true,
            tell_after: TOLD_AFTER,
            had_cookie: false,
        }
    }

    /// From the foot of the ladder, with a fresh initiation.
    pub fn again(self, now: Moment) -> Self {
        let next = if self.sent > 0 {
            now.max(self.last + RENEWAL_SPACING)
        } else {
            now
        };
        Self {
            since: self.since,
            sent: self.sent,
            tell_after: self.tell_after,
            next,
            ..Self::new(Reason::Renew, now)
        }
    }
}

/// The wait after the initiation of this step, and whether the one after it is fresh.
pub fn rung(step: usize, outage: Duration) -> (Duration, bool) {
    if outage >= LONG_OUTAGE {
        return (SLOW, true);
    }
    LADDER[step.min(LADDER.len() - 1)]
}

const LADDER: [(Duration, bool); 5] = [
    (Duration::from_millis(300), false),
    (Duration::from_millis(700), true),
    (Duration::from_millis(600), false),
    (Duration::from_millis(1400), true),
    (LONGEST_WAIT, true),
];
const SLOW: Duration = Duration::from_secs(15);
const LONG_OUTAGE: Duration = Duration::from_secs(30 * 60);
const RENEWAL_SPACING: Duration = Duration::from_millis(250);
/// An attempt is told to the brain when it has waited this long, then at each doubling.
const TOLD_AFTER: Duration = Duration::from_secs(2);
pub const LONGEST_WAIT: Duration = Duration::from_millis(2500);
