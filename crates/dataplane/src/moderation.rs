//! When a busy loop rests before it asks again: interrupt coalescing done by hand.
//!
//! With 24 packets or more in a millisecond the loop, once it found nothing to do, sleeps for a moment
//! and polls again before it blocks; so packets are handled in batches of tens instead of one wake-up
//! each. Below that rate it blocks at once, and requests and answers pass untouched. After a full last
//! batch the rest is shorter: there is more to come.

use std::time::Duration;

use shore_dataplane_core::time::Moment;

#[derive(Default)]
pub struct Moderation {
    since: Moment,
    packets: u32,
    busy: bool,
    rested: bool,
}

impl Moderation {
    pub fn handled(&mut self, packets: u32) {
        self.packets += packets;
        self.rested = false;
    }

    /// The loop found no work: how long to sleep before polling again, or None to block.
    pub fn rest(&mut self, last_batch: u32, now: Moment) -> Option<Duration> {
        let window = now.since(self.since);
        if window >= WINDOW {
            self.busy = u128::from(self.packets) * WINDOW.as_micros()
                >= u128::from(PACKETS_PER_WINDOW) * window.as_micros();
            self.packets = 0;
            self.since = now;
        }
        if !self.busy || self.rested {
            return None;
        }
        self.rested = true;
        Some(if last_batch >= FULL_BATCH {
            SHORT
        } else {
            REST
        })
    }
}

const WINDOW: Duration = Duration::from_millis(1);
const PACKETS_PER_WINDOW: u32 = 24;
const FULL_BATCH: u32 = 128;
const REST: Duration = Duration::from_micros(200);
const SHORT: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_loop_blocks_at_once() {
        let mut moderation = Moderation::default();
        moderation.handled(20);
        assert_eq!(moderation.rest(20, Moment::from_millis(1)), None);
    }

    #[test]
    fn a_busy_loop_rests_once_and_then_blocks() {
        let mut moderation = Moderation::default();
        moderation.handled(24);
        assert_eq!(moderation.rest(24, Moment::from_millis(1)), Some(REST));
        assert_eq!(moderation.rest(0, Moment::from_millis(1)), None);
        moderation.handled(1);
        assert_eq!(moderation.rest(1, Moment::from_millis(1)), Some(REST));
        assert_eq!(moderation.rest(0, Moment::from_millis(9)), None);
    }
}
