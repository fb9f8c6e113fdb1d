//! Chance as an argument: splitmix64, seeded by whoever makes the plane. For jitter and indices,
//! never for keys.

use std::time::Duration;

pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Somewhere in `0..=bound`.
    pub fn upto(&mut self, bound: Duration) -> Duration {
        Duration::from_nanos(self.draw() % (bound.as_nanos() as u64 + 1))
    }
}
