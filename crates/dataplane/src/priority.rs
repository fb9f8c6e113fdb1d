//! The real-time priority that the brain may have granted, and giving it back.
//!
//! A data thread at SCHED_RR that is flooded could hold a core; above 90 % of one for a second it
//! returns to the fair scheduler by itself.

use std::time::Duration;

use shore_dataplane_core::time::Moment;

use crate::sys;

#[derive(Default)]
pub struct Priority {
    realtime: bool,
    looked: Moment,
    used: Duration,
}

impl Priority {
    pub fn is_realtime(&self) -> bool {
        self.realtime
    }

    /// Once a second: what the scheduler says, and whether we ask too much of it.
    pub fn look(&mut self, now: Moment) {
        let wall = now.since(self.looked);
        if wall < INTERVAL {
            return;
        }
        let used = sys::thread_cpu();
        let greedy = used.saturating_sub(self.used) > wall.mul_f64(GREED);
        (self.looked, self.used) = (now, used);
        self.realtime = sys::is_realtime();
        if self.realtime && greedy {
            sys::demote();
            self.realtime = false;
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(1);
const GREED: f64 = 0.9;
