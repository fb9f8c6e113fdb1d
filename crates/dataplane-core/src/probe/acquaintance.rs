//! What we share with one peer: the hello key, and the probe keys of the greetings so far.
//!
//! ```text
//! stranger --hello sent--> greeting --welcome--> acquainted      (we greeted)
//! stranger --hello heard-> offered --sealed message--> acquainted (the peer greeted)
//! ```
//!
//! A hello proves nothing: it may be a copy of an old one. So the keys that we offer in answer wait until
//! the peer uses them, and until then nothing of what we had is touched. A welcome is bound to our
//! ephemeral and proves the peer at once. When both greet at once there are two sets of keys; either end
//! sends with the one confirmed last and opens with all, so they need not agree.
//!
//! Hellos follow a session: five within 15 s, then one for each further session, as a peer that has never
//! answered is plain WireGuard. Keys are replaced after an hour, by a new hello of whoever is older by key.

use std::time::Duration;

use super::envelope::{self, Greeting, Introduction};
use super::keys::{Epoch, HelloKey, ProbeKeys, Secrets, Share, Tag};
use crate::engine::Key;
use crate::time::Moment;

pub struct Acquaintance {
    hello_key: HelloKey,
    /// Tags of our hellos and of theirs.
    our_tag: Tag,
    their_tag: Tag,
    /// Our hellos that wait for a welcome, newest first: one may be on its way when the next leaves.
    greetings: Vec<(Share, u32)>,
    greeted_at: Option<Moment>,
    /// When to greet, and how often we did since the last session.
    due: Option<Moment>,
    greeted: usize,
    answered: Option<Moment>,
    /// Answers of ours that nobody has used yet.
    offered: Vec<KeySet>,
    /// In use, newest first.
    acquainted: Vec<KeySet>,
    /// The epoch of the peer that we knew last.
    epoch: Option<Epoch>,
}

struct KeySet {
    keys: ProbeKeys,
    epoch: Epoch,
    ours: u32,
    theirs: u32,
    counter: u64,
    window: Window,
    made: Moment,
}

/// What a message led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Answer with this.
    Welcome(Box<Greeting>),
    /// There are new keys. `restarted`: the peer is not the process that it was.
    Acquainted { restarted: bool },
    /// The content of a sealed message; with `acquainted`, the first under new keys.
    Content {
        content: Vec<u8>,
        acquainted: Option<bool>,
    },
}

/// Which message it was, without having taken it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    index: u32,
    counter: u64,
}

impl Acquaintance {
    pub fn new(hello_key: HelloKey, own: &Key, peer: &Key) -> Self {
        Self {
            our_tag: hello_key.tag(own),
            their_tag: hello_key.tag(peer),
            hello_key,
            greetings: Vec::new(),
            greeted_at: None,
            due: None,
            greeted: 0,
            answered: None,
            offered: Vec::new(),
            acquainted: Vec::new(),
            epoch: None,
        }
    }

    /// How the peer's hellos are found.
    pub fn their_tag(&self) -> Tag {
        self.their_tag
    }

    /// Whether we have keys.
    pub fn is_acquainted(&self) -> bool {
        !self.acquainted.is_empty()
    }

    /// Every index by which the peer may name keys that we hold.
    pub fn indices(&self) -> impl Iterator<Item = u32> {
        let waiting = self.greetings.iter().map(|(_, index)| *index);
        let held = self.offered.iter().chain(&self.acquainted);
        waiting.chain(held.map(|set| set.ours))
    }

    /// A session came up: there is somebody to greet.
    pub fn session_established(&mut self, now: Moment) {
        if !self.is_acquainted() {
            self.greeted = self.greeted.min(GREETINGS.len() - 1);
            self.due = Some(now);
        }
    }

    /// Probes are not answered any more: the peer may have lost our keys. To be said while that lasts.
    pub fn doubt(&mut self, now: Moment) {
        let soon = self.greeted_at.map_or(now, |at| at + DOUBT_INTERVAL);
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    pub fn deadline(&self) -> Option<Moment> {
        self.due
    }

    /// The hello that is due. `index` is free.
    pub fn greet(
        &mut self,
        index: u32,
        secrets: &mut Secrets,
        epoch: Epoch,
        now: Moment,
    ) -> Option<Greeting> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        let wait = GREETINGS.get(self.greeted);
        self.greeted += 1;
        self.due = wait.map(|wait| now + *wait);
        self.greeted_at = Some(now);
        let share = Share::new(secrets.key(), epoch);
        let nonce = secrets.bytes();
        let greeting = envelope::hello(&self.hello_key, self.our_tag, nonce, &share, index);
        self.greetings.insert(0, (share, index));
        self.greetings.truncate(MOST_GREETINGS);
        Some(greeting)
    }

    /// A hello with the peer's tag. `index` is free.
    pub fn hello(
        &mut self,
        message: &[u8],
        index: u32,
        secrets: &mut Secrets,
        epoch: Epoch,
        now: Moment,
    ) -> Option<Heard> {
        let theirs = envelope::open_hello(&self.hello_key, message)?;
        if self
            .answered
            .is_some_and(|at| now.since(at) < ANSWER_INTERVAL)
        {
            return None;
        }
        self.answered = Some(now);
        let share = Share::new(secrets.key(), epoch);
        self.offered.truncate(MOST_OFFERED - 1);
        let set = self.set(&share, &theirs, index, false, now)?;
        self.offered.insert(0, set);
        let nonce = secrets.bytes();
        let welcome = envelope::welcome(&self.hello_key, nonce, &share, index, &theirs);
        Some(Heard::Welcome(Box::new(welcome)))
    }

    /// A welcome to the index of our hello.
    pub fn welcome(&mut self, message: &[u8], now: Moment) -> Option<Heard> {
        let named = envelope::receiver_of(message)?;
        let (share, index) = self.greetings.iter().find(|(_, index)| *index == named)?;
        let theirs = envelope::open_welcome(&self.hello_key, message, share)?;
        let set = self.set(share, &theirs, *index, true, now)?;
        self.greetings.clear();
        let restarted = self.adopt(set);
        Some(Heard::Acquainted { restarted })
    }

    /// A sealed message to one of our indices.
    pub fn open(&mut self, message: &[u8]) -> Option<Heard> {
        let index = envelope::receiver_of(message)?;
        if let Some(set) = self.acquainted.iter_mut().find(|set| set.ours == index) {
            let content = set.open(message)?;
            return Some(Heard::Content {
                content,
                acquainted: None,
            });
        }
        let place = self.offered.iter().position(|set| set.ours == index)?;
        let content = self.offered[place].open(message)?;
        let set = self.offered.remove(place);
        let acquainted = Some(self.adopt(set));
        Some(Heard::Content {
            content,
            acquainted,
        })
    }

    /// What a sealed message says that was not heard yet. It may still be opened, once.
    pub fn peek(&self, message: &[u8]) -> Option<(Mark, Vec<u8>)> {
        let index = envelope::receiver_of(message)?;
        let set = self.holding(index)?;
        let (counter, content) = envelope::open(&set.keys.receiving, message)?;
        set.window
            .is_free(counter)
            .then_some((Mark { index, counter }, content))
    }

    /// Whether it was opened since, or cannot be any more.
    pub fn has_heard(&self, mark: Mark) -> bool {
        self.holding(mark.index)
            .is_none_or(|set| !set.window.is_free(mark.counter))
    }

    fn holding(&self, index: u32) -> Option<&KeySet> {
        let mut held = self.offered.iter().chain(&self.acquainted);
        held.find(|set| set.ours == index)
    }

    pub fn seal(&mut self, content: &[u8]) -> Option<Vec<u8>> {
        let set = self.acquainted.first_mut()?;
        set.counter += 1;
        Some(envelope::seal(
            &set.keys.sending,
            set.theirs,
            set.counter - 1,
            content,
        ))
    }

    pub fn tick(&mut self, now: Moment) {
        let current = self.acquainted.first().map(|set| set.made);
        if current.is_some_and(|made| now.since(made) > RENEW_AFTER) && self.due.is_none() {
            self.greeted = GREETINGS.len() - 1;
            self.due = Some(now);
        }
        self.acquainted
            .retain(|set| now.since(set.made) < REJECT_AFTER);
        self.offered.retain(|set| now.since(set.made) < OFFER_FOR);
    }

    fn set(
        &self,
        share: &Share,
        theirs: &Introduction,
        index: u32,
        greeted: bool,
        now: Moment,
    ) -> Option<KeySet> {
        let keys = ProbeKeys::new(
            &self.hello_key,
            share,
            &theirs.ephemeral,
            &theirs.epoch,
            greeted,
        )?;
        Some(KeySet {
            keys,
            epoch: theirs.epoch,
            ours: index,
            theirs: theirs.index,
            counter: 0,
            window: Window::default(),
            made: now,
        })
    }

    fn adopt(&mut self, set: KeySet) -> bool {
        let restarted = self.epoch.is_some_and(|known| known != set.epoch);
        if restarted {
            self.acquainted.clear();
        }
        self.epoch = Some(set.epoch);
        self.due = None;
        self.greeted = 0;
        self.greeted_at = None;
        self.acquainted.insert(0, set);
        self.acquainted.truncate(MOST_ACQUAINTED);
        restarted
    }
}

impl KeySet {
    fn open(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let (counter, content) = envelope::open(&self.keys.receiving, message)?;
        self.window.take(counter).then_some(content)
    }
}

/// Which of the newest 128 counters were seen.
#[derive(Default)]
struct Window {
    /// One more than the highest counter seen.
    next: u64,
    /// Bit n is counter `next - 1 - n`.
    seen: u128,
}

impl Window {
    fn is_free(&self, counter: u64) -> bool {
        if counter >= self.next {
            return counter != u64::MAX;
        }
        let age = self.next - 1 - counter;
        age < 128 && self.seen >> age & 1 == 0
    }

    fn take(&mut self, counter: u64) -> bool {
        if !self.is_free(counter) {
            return false;
        }
        if counter >= self.next {
            let shift = counter - self.next + 1;
            self.seen = u32::try_from(shift)
                .ok()
                .and_then(|shift| self.seen.checked_shl(shift))
                .unwrap_or(0);
            self.seen |= 1;
            self.next = counter + 1;
            return true;
        }
        self.seen |= 1 << (self.next - 1 - counter);
        true
    }
}

/// Waits after each hello for a session; after the last one no more are sent.
const GREETINGS: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_millis(1500),
    Duration::from_secs(4),
    Duration::from_secs(9),
];
/// Between hellos to a peer that we know and that is silent.
const DOUBT_INTERVAL: Duration = Duration::from_millis(2500);
const MOST_GREETINGS: usize = 2;
const ANSWER_INTERVAL: Duration = Duration::from_secs(1);
const OFFER_FOR: Duration = Duration::from_secs(10);
const RENEW_AFTER: Duration = Duration::from_secs(3600);
const REJECT_AFTER: Duration = Duration::from_secs(3600 + 300);
const MOST_OFFERED: usize = 3;
const MOST_ACQUAINTED: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    struct End {
        known: Acquaintance,
        secrets: Secrets,
        epoch: Epoch,
    }

    fn end(own: u8, peer: u8) -> End {
        let key = HelloKey::new(&[7; 32], None).unwrap();
        End {
            known: Acquaintance::new(key, &[own; 32], &[peer; 32]),
            secrets: Secrets::new([own; 32]),
            epoch: [own; 8],
        }
    }

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    impl End {
        fn greets(&mut self, index: u32, now: Moment) -> Greeting {
            self.known.session_established(now);
            self.known
                .greet(index, &mut self.secrets, self.epoch, now)
                .unwrap()
        }

        fn hears(&mut self, hello: &[u8], index: u32, now: Moment) -> Option<Heard> {
            self.known
                .hello(hello, index, &mut self.secrets, self.epoch, now)
        }
    }

    fn acquaint(a: &mut End, b: &mut End, now: Moment) {
        let hello = a.greets(11, now);
        let Some(Heard::Welcome(welcome)) = b.hears(&hello, 22, now) else {
            panic!("no welcome");
        };
        let heard = a.known.welcome(&*welcome, now);
        assert!(matches!(heard, Some(Heard::Acquainted { .. })));
    }

    #[test]
    fn a_greeting_makes_keys_for_both_directions() {
        let (mut a, mut b) = (end(1, 2), end(2, 1));
        acquaint(&mut a, &mut b, at(0));
        assert!(a.known.is_acquainted() && !b.known.is_acquainted());
        let first = a.known.seal(b"first").unwrap();
        let heard = b.known.open(&first).unwrap();
        let (content, acquainted) = (b"first".to_vec(), Some(false));
        assert_eq!(
            heard,
            Heard::Content {
                content,
                acquainted
            }
        );
        let answer = b.known.seal(b"answer").unwrap();
        let heard = a.known.open(&answer).unwrap();
        let (content, acquainted) = (b"answer".to_vec(), None);
        assert_eq!(
            heard,
            Heard::Content {
                content,
                acquainted
            }
        );
    }

    #[test]
    fn a_message_is_heard_once() {
        let (mut a, mut b) = (end(1, 2), end(2, 1));
        acquaint(&mut a, &mut b, at(0));
        let message = a.known.seal(b"once").unwrap();
        assert!(b.known.open(&message).is_some());
        assert_eq!(b.known.open(&message), None);
    }

    #[test]
    fn a_replayed_hello_changes_nothing_and_is_answered_once_a_second() {
        let (mut a, mut b) = (end(1, 2), end(2, 1));
        let old = a.greets(11, at(0));
        b.hears(&old, 21, at(0));
        acquaint(&mut a, &mut b, at(2000));
        let message = a.known.seal(b"x").unwrap();
        assert!(b.known.open(&message).is_some());
        assert!(b.hears(&old, 23, at(4000)).is_some());
        assert_eq!(b.hears(&old, 24, at(4500)), None);
        let message = a.known.seal(b"y").unwrap();
        assert!(b.known.open(&message).is_some());
    }

    #[test]
    fn both_greet_at_once_and_understand_each_other() {
        let (mut a, mut b) = (end(1, 2), end(2, 1));
        let (from_a, from_b) = (a.greets(11, at(0)), b.greets(12, at(0)));
        let (Some(Heard::Welcome(to_a)), Some(Heard::Welcome(to_b))) =
            (b.hears(&from_a, 22, at(10)), a.hears(&from_b, 21, at(10)))
        else {
            panic!("no welcome");
        };
        a.known.welcome(&*to_a, at(20)).unwrap();
        b.known.welcome(&*to_b, at(20)).unwrap();
        for _ in 0..3 {
            let message = a.known.seal(b"a").unwrap();
            assert!(b.known.open(&message).is_some());
            let message = b.known.seal(b"b").unwrap();
            assert!(a.known.open(&message).is_some());
        }
    }

    #[test]
    fn another_epoch_is_a_restart_and_the_same_one_is_not() {
        let (mut a, mut b) = (end(1, 2), end(2, 1));
        acquaint(&mut a, &mut b, at(0));
        a.known.doubt(at(2000));
        let again = a
            .known
            .greet(13, &mut a.secrets, a.epoch, at(2000))
            .unwrap();
        let Some(Heard::Welcome(welcome)) = b.hears(&again, 23, at(2000)) else {
            panic!("no welcome");
        };
        assert_eq!(
            a.known.welcome(&*welcome, at(2000)),
            Some(Heard::Acquainted { restarted: false })
        );
        let mut reborn = end(2, 1);
        reborn.epoch = [99; 8];
        a.known.doubt(at(4000));
        let hello = a
            .known
            .greet(14, &mut a.secrets, a.epoch, at(4000))
            .unwrap();
        let Some(Heard::Welcome(welcome)) = reborn.hears(&hello, 24, at(4000)) else {
            panic!("no welcome");
        };
        assert_eq!(
            a.known.welcome(&*welcome, at(4000)),
            Some(Heard::Acquainted { restarted: true })
        );
    }

    #[test]
    fn a_welcome_that_crosses_with_the_next_hello_is_taken() {
        let (mut a, mut b) = (end(1, 2), end(2, 1));
        let hello = a.greets(11, at(0));
        let Some(Heard::Welcome(welcome)) = b.hears(&hello, 22, at(400)) else {
            panic!("no welcome");
        };
        let next = a.known.greet(12, &mut a.secrets, a.epoch, at(500)).unwrap();
        assert_eq!(b.hears(&next, 23, at(900)), None);
        let heard = a.known.welcome(&*welcome, at(800));
        assert!(matches!(heard, Some(Heard::Acquainted { .. })));
    }

    #[test]
    fn a_silent_peer_is_greeted_evenly_and_never_twice_within_its_answer_interval() {
        let (mut a, mut b) = (end(1, 2), end(2, 1));
        acquaint(&mut a, &mut b, at(0));
        let mut greeted = Vec::new();
        for millis in (10_000..60_000).step_by(10) {
            a.known.doubt(at(millis));
            let hello = a.known.greet(9, &mut a.secrets, a.epoch, at(millis));
            greeted.extend(hello.map(|_| millis));
        }
        let waits = greeted.windows(2).map(|pair| pair[1] - pair[0]);
        let waits: Vec<_> = waits.skip(1).collect();
        assert!(
            waits.iter().all(|wait| (1000..=2500).contains(wait)),
            "{waits:?}"
        );
    }

    #[test]
    fn a_peer_that_never_answers_is_greeted_five_times_and_then_once_a_session() {
        let mut a = end(1, 2);
        a.known.session_established(at(0));
        let mut greeted = 0;
        for millis in (0..120_000).step_by(100) {
            if a.known
                .greet(greeted, &mut a.secrets, a.epoch, at(millis))
                .is_some()
            {
                greeted += 1;
            }
        }
        assert_eq!(greeted, 5);
        a.known.session_established(at(120_000));
        let mut again = 0;
        for millis in (120_000..240_000).step_by(100) {
            if a.known
                .greet(9, &mut a.secrets, a.epoch, at(millis))
                .is_some()
            {
                again += 1;
            }
        }
        assert!((1..=2).contains(&again), "{again}");
    }

    #[test]
    fn the_window_takes_each_of_the_newest_128_once() {
        let mut window = Window::default();
        assert!(window.take(0) && window.take(5) && window.take(3));
        assert!(!window.take(5) && !window.take(3) && !window.take(0));
        assert!(window.take(200));
        assert!(!window.take(72) && window.take(73));
        assert!(window.take(u64::MAX - 1));
        assert!(!window.take(u64::MAX) && !window.take(u64::MAX - 1) && !window.take(200));
    }
}
