//! Relayed paths: places at a relay are paths like any other, on a wire that is a relay.

mod wire;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use serde_bytes::{ByteArray, ByteBuf};
use shore_dataplane_core::desired::{Link, Path, PathKind, SocketId};
use shore_dataplane_core::engine::model::public_key;
use shore_dataplane_core::facts::Fact;
use shore_dataplane_core::relay::{place_of, tag_at, tag_of};
use shore_dataplane_core::time::Moment;
use wire::{SOCKET, Wire, desired, millis, outer, peer, private, secs};

const LINK: SocketId = 7;

fn place(n: u8) -> SocketAddr {
    place_of(tag_of(&public_key(&private(n))))
}

fn path(id: u32, kind: PathKind, socket: SocketId, remote: SocketAddr) -> Path {
    Path {
        id,
        kind,
        socket,
        remote,
        metered: false,
        mtu: None,
        quiet_s: 15,
    }
}

fn link() -> Link {
    Link {
        id: LINK,
        relay: String::new(),
        uplink: None,
        pin: Some(ByteArray::new([1; 32])),
        name: "relay.example".into(),
        admission: ByteBuf::from([2; 8]),
        admission_key: ByteArray::new([3; 32]),
    }
}

/// Nodes 1 and 2, each with a link to one relay and a direct path; the first advised is `first`.
fn linked(first: PathKind) -> Wire {
    let mut wire = Wire::new();
    for (n, other) in [(1, 2), (2, 1)] {
        let key = public_key(&private(other));
        let mut state = desired(
            private(n),
            vec![peer(key, &format!("10.0.0.{other}/32"), None)],
        );
        state.interface.probing = true;
        state.links.push(link());
        state.peers[0].wanted = n == 1;
        state.peers[0].paths = vec![
            path(1, PathKind::Direct, SOCKET, outer(other)),
            path(2, PathKind::Relay, LINK, place(other)),
        ];
        if first == PathKind::Relay {
            state.peers[0].paths.reverse();
        }
        let models = Box::new(wire.models.clone());
        let node = wire.join_with(models, n, state);
        wire.nodes[node].others.push((LINK, place(n)));
    }
    wire
}

/// What loses every datagram that is not relayed.
fn block_udp(wire: &mut Wire) {
    wire.loses = Box::new(|from, _, _, _| tag_at(from).is_none());
}

fn endpoint(wire: &Wire) -> Option<SocketAddr> {
    wire.counters(0).endpoint
}

#[test]
fn where_udp_is_blocked_the_first_packet_goes_by_the_relay() {
    let mut wire = linked(PathKind::Relay);
    block_udp(&mut wire);
    assert_eq!(wire.ping_for(0, 1, millis(100), secs(5)), (50, 50));
    assert_eq!(endpoint(&wire), Some(place(2)));
    let counters = wire.counters(0);
    assert!(counters.probed && counters.connected);
    let relayed = counters.paths.iter().find(|path| path.primary).unwrap();
    assert_eq!(relayed.kind, PathKind::Relay);
}

#[test]
fn a_direct_path_that_dies_leaves_its_packets_to_the_relay_within_a_second() {
    let mut wire = linked(PathKind::Direct);
    wire.ping_for(0, 1, millis(100), secs(5));
    assert_eq!(endpoint(&wire), Some(outer(2)));
    block_udp(&mut wire);
    let (sent, answered) = wire.ping_for(0, 1, millis(20), secs(3));
    assert!(sent - answered <= 50, "{answered} of {sent}");
    assert_eq!(endpoint(&wire), Some(place(2)));
}

#[test]
fn going_from_the_relay_to_a_direct_path_loses_nothing() {
    let mut wire = linked(PathKind::Relay);
    block_udp(&mut wire);
    wire.ping_for(0, 1, millis(100), secs(2));
    wire.mend();
    // A path that was dead must prove itself for a while.
    wire.ping_for(0, 1, millis(100), secs(60));
    for node in 0..2 {
        wire.change(node, |desired| desired.peers[0].paths.reverse());
    }
    assert_eq!(wire.ping_for(0, 1, millis(20), secs(5)), (250, 250));
    assert_eq!(endpoint(&wire), Some(outer(2)));
}

#[test]
fn a_link_that_goes_down_is_left_at_once() {
    let mut wire = linked(PathKind::Relay);
    wire.ping_for(0, 1, millis(100), secs(3));
    assert_eq!(endpoint(&wire), Some(place(2)));
    let now = wire.now;
    let reason = String::from("the relay closed it");
    let ended = Fact::LinkDown { link: LINK, reason };
    wire.nodes[0].plane.told_by_link(ended, now);
    assert_eq!(endpoint(&wire), Some(outer(2)));
}

#[test]
fn packets_for_a_peer_that_its_relay_calls_away_go_by_another_path_as_well_at_once() {
    let mut wire = linked(PathKind::Relay);
    wire.ping_for(0, 1, millis(100), secs(5));
    assert_eq!(endpoint(&wire), Some(place(2)));
    wire.loses = Box::new(|from, _, _, _| from == place(1));
    say_away(&mut wire, place(2));
    assert_eq!(wire.ping_for(0, 1, millis(20), secs(3)), (150, 150));
    assert_eq!(endpoint(&wire), Some(outer(2)));
}

#[test]
fn a_relay_that_lies_about_who_is_away_costs_nothing() {
    let mut wire = linked(PathKind::Relay);
    block_udp(&mut wire);
    wire.ping_for(0, 1, millis(100), secs(5));
    for _ in 0..10 {
        say_away(&mut wire, place(2));
        say_away(&mut wire, place(3));
        assert_eq!(wire.ping_for(0, 1, millis(100), secs(1)), (10, 10));
    }
    assert_eq!(endpoint(&wire), Some(place(2)));
}

fn say_away(wire: &mut Wire, remote: SocketAddr) {
    let now = wire.now;
    let away = Fact::Away { link: LINK, remote };
    wire.nodes[0].plane.told_by_link(away, now);
}

#[test]
fn a_path_by_a_link_leads_to_a_place_and_no_other_does() {
    for (socket, remote) in [(LINK, outer(2)), (SOCKET, place(2)), (99, place(2))] {
        let mut wire = linked(PathKind::Direct);
        let mut state = wire.nodes[0].desired.clone();
        state.peers[0].paths = vec![path(1, PathKind::Relay, socket, remote)];
        let now = wire.now;
        assert!(wire.nodes[0].plane.apply(state, 0, now).is_err());
    }
}

/// What left a node for the other one's endpoint with enough hops to arrive, and when: nothing of it does.
fn watch_direct(wire: &mut Wire) -> Rc<RefCell<Vec<(SocketAddr, Moment)>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let kept = seen.clone();
    wire.loses = Box::new(move |from, _, _, now| {
        let direct = tag_at(from).is_none();
        if direct {
            kept.borrow_mut().push((from, now));
        }
        direct
    });
    seen
}

#[test]
fn nothing_arrives_at_a_nat_before_both_ends_had_time_to_open_their_own() {
    let mut wire = linked(PathKind::Relay);
    let (seen, began) = (watch_direct(&mut wire), wire.now);
    wire.ping(0, 1);
    while !(wire.counters(0).probed && wire.counters(1).probed) {
        assert!(
            wire.now.since(began) < secs(3),
            "they did not become acquainted"
        );
        wire.run(millis(10));
    }
    wire.run(millis(180));
    let opened = [(outer(1), outer(2), 2), (outer(2), outer(1), 2)];
    assert!(opened.iter().all(|brief| wire.brief.contains(brief)));
    assert!(wire.brief.len() <= 6, "{:?}", wire.brief);
    assert_eq!(*seen.borrow(), [], "it was too early");
    wire.run(secs(1));
    let senders: Vec<_> = seen.borrow().iter().map(|(from, _)| *from).collect();
    assert!(senders.contains(&outer(1)) && senders.contains(&outer(2)));
}

#[test]
fn a_place_that_never_answered_is_left_alone_until_it_is_opened_again() {
    let mut wire = linked(PathKind::Relay);
    let seen = watch_direct(&mut wire);
    wire.ping(0, 1);
    wire.run(secs(5));
    seen.borrow_mut().clear();
    wire.ping_for(0, 1, millis(50), secs(30));
    assert_eq!(*seen.borrow(), []);
    wire.change(0, |desired| desired.peers[0].prime += 1);
    wire.change(0, |desired| desired.peers[0].poke += 1);
    wire.run(millis(200));
    assert_eq!(*seen.borrow(), [], "the one that calls waits");
    wire.change(1, |desired| {
        desired.peers[0].prime += 1;
        desired.peers[0].poke += 1;
    });
    wire.run(millis(20));
    let senders: Vec<_> = seen.borrow().iter().map(|(from, _)| *from).collect();
    assert_eq!(senders, [outer(2)], "the one that was called does not");
    wire.run(millis(100));
    assert!(seen.borrow().iter().any(|(from, _)| *from == outer(1)));
}
