//! The NATs before us are opened for a peer by datagrams that die on the way.

mod wire;

use wire::two_paths::{second, two_paths};
use wire::{millis, secs};

#[test]
fn only_paths_without_an_answer_are_primed_and_once_for_each_time_it_is_asked() {
    let mut wire = two_paths();
    wire.run(secs(2));
    wire.change(0, |desired| desired.peers[0].prime = 1);
    wire.run(millis(50));
    assert_eq!(wire.brief, [], "all paths live");
    wire.loses = Box::new(|from, to, _, _| from == second(1) || to == second(1));
    wire.ping_for(0, 1, millis(50), secs(15));
    wire.change(0, |desired| desired.peers[0].prime = 2);
    wire.change(0, |desired| desired.peers[0].prime = 2);
    wire.run(millis(100));
    assert_eq!(wire.brief, [(second(1), second(2), 2)]);
    wire.run(millis(100));
    let to_second = [2, 3, 4].map(|hops| (second(1), second(2), hops));
    assert_eq!(wire.brief, to_second);
}
