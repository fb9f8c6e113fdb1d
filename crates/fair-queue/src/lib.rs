//! Datagrams that wait for one stream, shared fairly by those they are from, or for.
//!
//! A *party* is another node, as a frame names it; its *lanes* are the sessions of its data, which WireGuard's
//! receiver index tells apart without a key. Parties take turns of so many bytes, and so do the lanes of one party
//! (deficit round robin with RFC 8290's two lists, §4.1): who had nothing waiting comes first, once, and then takes
//! his turn like everybody else. So a ping waits for one turn of each other party at most, whatever they send.
//!
//! A full queue loses the oldest of the longest lane of the party that has most waiting: who floods drops his own.
//! A party has few lanes; whoever makes up more shares the last one, so that a thousand made up indices are worth
//! no more than one.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

/// How frames name a node.
pub type Party = [u8; 8];

/// Frames of at most so many, in fair turns.
pub struct FairQueue {
    parties: Turns<Party, Turns<u32, VecDeque<Vec<u8>>>>,
    len: usize,
    most: usize,
}

impl FairQueue {
    pub fn new(most: usize) -> Self {
        Self {
            parties: Turns::default(),
            len: 0,
            most,
        }
    }

    /// A frame around this datagram waits. Returns whether another one was dropped for it.
    pub fn push(&mut self, party: Party, datagram: &[u8], frame: Vec<u8>) -> bool {
        let lanes = self.parties.of(party);
        let lane = lane_of(datagram);
        let crowded = lanes.count() >= MOST_LANES && !lanes.has(lane);
        lanes
            .of(if crowded { OTHERS } else { lane })
            .push_back(frame);
        self.len += 1;
        let full = self.len > self.most;
        if full {
            self.len -= 1;
            self.parties.longest().longest().pop_front();
        }
        full
    }

    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let frame = self.parties.pop()?;
        self.len -= 1;
        Some(frame)
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The session of a data message: the upper 24 bits of its receiver index name the engine. Others have none.
fn lane_of(datagram: &[u8]) -> u32 {
    match datagram.first_chunk::<8>() {
        Some(&[TRANSPORT, _, _, _, index @ ..]) => u32::from_le_bytes(index) >> 8,
        _ => OTHERS,
    }
}

/// What can wait and be served.
trait Waiting: Default {
    fn waiting(&self) -> usize;
    fn serve(&mut self) -> Option<Vec<u8>>;
}

impl Waiting for VecDeque<Vec<u8>> {
    fn waiting(&self) -> usize {
        self.len()
    }

    fn serve(&mut self) -> Option<Vec<u8>> {
        self.pop_front()
    }
}

impl<K: Copy + Eq, Q: Waiting> Waiting for Turns<K, Q> {
    fn waiting(&self) -> usize {
        self.members().map(|member| member.queue.waiting()).sum()
    }

    fn serve(&mut self) -> Option<Vec<u8>> {
        self.pop()
    }
}

struct Member<K, Q> {
    key: K,
    queue: Q,
    /// Bytes of its turn that are left.
    left: isize,
}

/// Queues by key, served in turns. Those of both lists are few, and looked for one by one.
struct Turns<K, Q> {
    fresh: VecDeque<Member<K, Q>>,
    known: VecDeque<Member<K, Q>>,
}

impl<K, Q> Default for Turns<K, Q> {
    fn default() -> Self {
        Self {
            fresh: VecDeque::new(),
            known: VecDeque::new(),
        }
    }
}

impl<K: Copy + Eq, Q: Waiting> Turns<K, Q> {
    fn members(&self) -> impl Iterator<Item = &Member<K, Q>> {
        self.fresh.iter().chain(&self.known)
    }

    fn count(&self) -> usize {
        self.fresh.len() + self.known.len()
    }

    fn has(&self, key: K) -> bool {
        self.members().any(|member| member.key == key)
    }

    /// The queue of this key, made where there is none.
    fn of(&mut self, key: K) -> &mut Q {
        let there = |member: &Member<K, Q>| member.key == key;
        if let Some(place) = self.known.iter().position(there) {
            return &mut self.known[place].queue;
        }
        let place = self.fresh.iter().position(there).unwrap_or_else(|| {
            self.fresh.push_back(Member {
                key,
                queue: Q::default(),
                left: TURN,
            });
            self.fresh.len() - 1
        });
        &mut self.fresh[place].queue
    }

    /// The queue with most waiting. There is one.
    fn longest(&mut self) -> &mut Q {
        let all = self.fresh.iter_mut().chain(&mut self.known);
        let longest = all.max_by_key(|member| member.queue.waiting());
        &mut longest.expect("a full queue has members").queue
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        loop {
            let fresh = !self.fresh.is_empty();
            let list = if fresh {
                &mut self.fresh
            } else {
                &mut self.known
            };
            let mut member = list.pop_front()?;
            if member.left <= 0 {
                member.left += TURN;
                self.known.push_back(member);
                continue;
            }
            match member.queue.serve() {
                Some(frame) => {
                    member.left -= frame.len() as isize;
                    list.push_front(member);
                    return Some(frame);
                }
                // Whoever came first once does not do so again before the others had a turn.
                None if fresh && !self.known.is_empty() => self.known.push_back(member),
                None => {}
            }
        }
    }
}

/// First byte of a WireGuard data message.
const TRANSPORT: u8 = 4;
const TURN: isize = 1_600;
/// Two lanes, each with a session that follows another one.
const MOST_LANES: usize = 4;
const OTHERS: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    const FLOODER: Party = [1; 8];
    const OTHER: Party = [2; 8];

    fn data(index: u32, n: u8) -> Vec<u8> {
        let mut datagram = vec![TRANSPORT, 0, 0, 0];
        datagram.extend_from_slice(&(index << 8).to_le_bytes());
        datagram.push(n);
        datagram.resize(1_400, 0);
        datagram
    }

    fn push(queue: &mut FairQueue, party: Party, datagram: Vec<u8>) -> bool {
        queue.push(party, &datagram.clone(), datagram)
    }

    /// Index and number of what comes out.
    fn popped(queue: &mut FairQueue) -> Option<(u32, u8)> {
        let datagram = queue.pop()?;
        Some((lane_of(&datagram), datagram[8]))
    }

    #[test]
    fn what_one_party_sends_in_one_session_keeps_its_order() {
        let mut queue = FairQueue::new(256);
        for n in 0..100 {
            assert!(!push(&mut queue, FLOODER, data(7, n)));
        }
        let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue)).collect();
        assert_eq!(order, (0..100).map(|n| (7, n)).collect::<Vec<_>>());
        assert!(queue.is_empty());
    }

    #[test]
    fn a_flood_drops_its_own_oldest_and_nobody_elses() {
        let mut queue = FairQueue::new(64);
        push(&mut queue, OTHER, data(9, 0));
        let dropped = (0..200).filter(|n| push(&mut queue, FLOODER, data(7, *n)));
        assert_eq!(dropped.count(), 200 - 63);
        let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue)).collect();
        assert_eq!(order[0], (9, 0));
        assert_eq!(order[1..], (137..200).map(|n| (7, n)).collect::<Vec<_>>());
    }

    #[test]
    fn a_ping_waits_for_one_turn_of_a_flood() {
        let mut queue = FairQueue::new(256);
        let mut waited = Vec::new();
        for n in 0..50 {
            for _ in 0..20 {
                push(&mut queue, FLOODER, data(7, n));
            }
            push(&mut queue, OTHER, data(9, n));
            let place = (0..).find(|_| popped(&mut queue) == Some((9, n)));
            waited.push(place.unwrap());
        }
        assert!(waited.iter().all(|turns| *turns <= 2), "{waited:?}");
    }

    #[test]
    fn two_that_never_stop_share_by_halves() {
        let mut queue = FairQueue::new(64);
        let mut served = [0u32, 0];
        for _ in 0..1_000 {
            for _ in 0..3 {
                push(&mut queue, FLOODER, data(7, 0));
            }
            push(&mut queue, OTHER, data(9, 0));
            let (index, _) = popped(&mut queue).unwrap();
            served[usize::from(index == 9)] += 1;
        }
        assert!(served[0].abs_diff(served[1]) <= 32, "{served:?}");
    }

    #[test]
    fn a_sparse_lane_is_not_behind_the_bulk_of_its_own_party() {
        let mut queue = FairQueue::new(256);
        for n in 0..200 {
            push(&mut queue, OTHER, data(7, n));
        }
        popped(&mut queue);
        push(&mut queue, OTHER, data(8, 99));
        let place = (0..).find(|_| popped(&mut queue) == Some((8, 99)));
        assert!(place.unwrap() <= 1);
    }

    #[test]
    fn a_thousand_made_up_sessions_are_one_party() {
        let mut queue = FairQueue::new(64);
        for n in 0..1_000 {
            push(&mut queue, FLOODER, data(n, 0));
        }
        push(&mut queue, OTHER, data(5_000, 1));
        let place = (0..).find(|_| popped(&mut queue) == Some((5_000, 1)));
        assert!(place.unwrap() <= 2);
    }
}
