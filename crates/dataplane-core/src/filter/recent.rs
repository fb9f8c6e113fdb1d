//! What happened lately, in bounded room: the oldest is forgotten first.
//!
//! Two halves: what is noted goes into the young one; when that is full, or has lived as long as an
//! entry may, it becomes the old one, and the old one is gone. So nothing is ever searched for the oldest.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::time::Moment;

pub struct Recent<K> {
    young: HashMap<K, Moment>,
    old: HashMap<K, Moment>,
    half: usize,
    life: Duration,
    turned: Moment,
}

impl<K: Eq + Hash + Copy> Recent<K> {
    /// At most `most` entries, each for `life` after it was last noted.
    pub fn new(most: usize, life: Duration) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: most / 2,
            life,
            turned: Moment::default(),
        }
    }

    pub fn note(&mut self, key: K, now: Moment) {
        let full = self.young.len() >= self.half && !self.young.contains_key(&key);
        if full || now.since(self.turned) > self.life {
            self.old = std::mem::take(&mut self.young);
            self.turned = now;
        }
        self.young.insert(key, now);
    }

    /// Notes it again if it is there. Returns whether it was.
    pub fn refresh(&mut self, key: K, now: Moment) -> bool {
        let known = self.has(&key, now);
        if known {
            self.note(key, now);
        }
        known
    }

    pub fn has(&self, key: &K, now: Moment) -> bool {
        let noted = self.young.get(key).or_else(|| self.old.get(key));
        noted.is_some_and(|at| now.since(*at) <= self.life)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    #[test]
    fn an_entry_lives_for_its_time_and_longer_if_it_is_noted_again() {
        let mut recent = Recent::new(8, Duration::from_secs(10));
        recent.note('a', at(100));
        assert!(recent.has(&'a', at(110)));
        assert!(!recent.has(&'a', at(111)));
        assert!(recent.refresh('a', at(109)) && recent.has(&'a', at(119)));
        assert!(!recent.refresh('b', at(109)) && !recent.has(&'b', at(109)));
    }

    #[test]
    fn room_is_bounded_and_the_newest_half_stays() {
        let mut recent = Recent::new(8, Duration::from_secs(10));
        for number in 0..100 {
            recent.note(number, at(1));
            assert!(recent.len() <= 8);
        }
        assert!((96..100).all(|number| recent.has(&number, at(1))));
        assert!(!recent.has(&80, at(1)));
    }

    #[test]
    fn the_dead_are_buried_by_the_next_ones() {
        let mut recent = Recent::new(8, Duration::from_secs(10));
        recent.note(1, at(1));
        recent.note(2, at(20));
        recent.note(3, at(40));
        assert_eq!(recent.len(), 2);
    }
}
