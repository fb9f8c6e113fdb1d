//! Two lanes between Shore nodes, on virtual time: their sessions, and who takes which.

mod wire;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use serde_bytes::ByteArray;
use shore_dataplane_core::desired::Redundancy;
use shore_dataplane_core::facts::{DropReason, LaneCounters};
use wire::two_paths::{second, two_paths};
use wire::{Wire, inner, millis, outer, packet, secs};

fn lanes(wire: &Wire, node: usize) -> Vec<u8> {
    let lanes = wire.counters(node).lanes;
    lanes.iter().map(|lane| lane.id).collect()
}

fn lane(wire: &Wire, node: usize, id: u8) -> LaneCounters {
    let lanes = wire.counters(node).lanes;
    lanes.into_iter().find(|lane| lane.id == id).unwrap()
}

/// A signal with a handshake message of a lane: an envelope of 32 bytes, a head of 4.
fn is_lane_signal(bytes: &[u8]) -> bool {
    bytes[0] == 0x83 && [32 + 4 + 148, 32 + 4 + 92].contains(&bytes.len())
}

fn count_lane_signals(wire: &mut Wire) -> Rc<Cell<usize>> {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    wire.loses = Box::new(move |_, _, bytes, _| {
        counted.set(counted.get() + usize::from(is_lane_signal(bytes)));
        false
    });
    count
}

/// So many packets of one flow from node 1 to node 2, of 640 bytes; nobody answers them.
fn bulk(wire: &mut Wire, count: u32) {
    let mut bytes = packet(inner(1), inner(2), 8, 0);
    bytes.resize(640, 0);
    bytes[2..4].copy_from_slice(&640_u16.to_be_bytes());
    bytes[9] = 17;
    bytes[20] = 0;
    for number in 0..count as u16 {
        bytes[4..6].copy_from_slice(&number.to_be_bytes());
        bytes[10..12].copy_from_slice(&(!number).to_be_bytes());
        wire.send(0, &bytes);
    }
}

fn too_old(wire: &Wire, node: usize) -> u64 {
    let drops = wire.counters(node).drops;
    drops.get(&DropReason::TooOld).copied().unwrap_or_default()
}

#[test]
fn nodes_that_greeted_have_a_session_on_each_lane_within_a_second() {
    let mut wire = two_paths();
    let signals = count_lane_signals(&mut wire);
    wire.ping_for(0, 1, millis(50), secs(1));
    assert_eq!(lanes(&wire, 0), [0, 1]);
    assert_eq!(lanes(&wire, 1), [0, 1]);
    assert_eq!(signals.get(), 2, "an initiation and a response");
}

#[test]
fn sparse_flows_take_lane_1_and_bulk_lane_0() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(1));
    let before = [0, 1].map(|id| lane(&wire, 0, id).messages);
    wire.ping_for(0, 1, millis(50), secs(1));
    let after = [0, 1].map(|id| lane(&wire, 0, id).messages);
    assert_eq!([0, 1].map(|id| after[id] - before[id]), [0, 20]);
    bulk(&mut wire, 1000);
    let now = [0, 1].map(|id| lane(&wire, 0, id).messages);
    assert_eq!([0, 1].map(|id| now[id] - after[id]), [980, 20]);
}

#[test]
fn plain_wireguard_has_one_lane() {
    let mut wire = two_paths();
    wire.change(1, |desired| desired.interface.probing = false);
    wire.restart(1);
    let (sent, answered) = wire.ping_for(0, 1, millis(100), secs(10));
    assert!(answered >= sent - 5, "{answered} of {sent}");
    assert_eq!(lanes(&wire, 0), [0]);
}

#[test]
fn a_node_that_does_not_know_lanes_is_asked_five_times_a_session_and_nothing_waits_for_it() {
    let mut wire = two_paths();
    wire.change(1, |desired| desired.peers[0].lanes.truncate(1));
    wire.restart(1);
    wire.ping_for(0, 1, millis(50), secs(2));
    let signals = count_lane_signals(&mut wire);
    wire.renew(0);
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(90));
    assert_eq!(sent, answered);
    assert_eq!(signals.get(), 5);
    assert_eq!(lanes(&wire, 0), [0]);
}

#[test]
fn nothing_waits_for_a_lane_whose_handshake_is_lost() {
    let mut wire = two_paths();
    wire.loses = Box::new(|_, _, bytes, now| is_lane_signal(bytes) && now.0 < secs(5));
    wire.ping_for(0, 1, millis(50), secs(1));
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(3));
    assert_eq!(sent, answered);
    assert_eq!(lanes(&wire, 0), [0]);
    wire.ping_for(0, 1, millis(50), secs(8));
    assert_eq!(lanes(&wire, 0), [0, 1]);
    assert_eq!(lanes(&wire, 1), [0, 1]);
}

#[test]
fn each_session_of_lane_0_is_followed_by_one_of_lane_1() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(1));
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(600));
    assert_eq!(sent, answered);
    for node in [0, 1] {
        let ages = [0, 1].map(|id| lane(&wire, node, id).session_age_s);
        assert!(ages[0] < 120.0 && ages[0] - ages[1] < 0.2, "{ages:?}");
    }
    wire.renew(0);
    wire.ping_for(0, 1, millis(50), secs(1));
    assert!(lane(&wire, 0, 1).session_age_s < 1.0);
    assert!(lane(&wire, 1, 1).session_age_s < 1.0);
}

#[test]
fn other_keys_reach_both_lanes_and_cost_no_packet() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(5));
    for node in [0, 1] {
        wire.change(node, |desired| {
            desired.peers[0].preshared_key = Some(ByteArray::new([7; 32]));
        });
    }
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(5));
    assert_eq!(sent, answered);
    for node in [0, 1] {
        assert_eq!(lanes(&wire, node), [0, 1]);
        assert!(lane(&wire, node, 1).session_age_s < 5.0);
    }
}

#[test]
fn a_peer_that_was_restarted_is_not_sent_what_it_cannot_open() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(5));
    wire.restart(1);
    wire.loses = Box::new(|_, _, bytes, _| bytes[0] == 0x83);
    // The session comes back on lane 0 alone, as no signal passes.
    wire.ping_for(0, 1, millis(50), secs(4));
    assert_eq!(lanes(&wire, 0), [0]);
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(1));
    assert_eq!(sent, answered);
    wire.mend();
    wire.ping_for(0, 1, millis(50), secs(20));
    assert_eq!(lanes(&wire, 0), [0, 1]);
}

#[test]
fn a_brain_that_names_lane_1_no_more_stops_its_use_at_both_ends_and_costs_no_packet() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(5));
    wire.change(1, |desired| desired.peers[0].lanes.truncate(1));
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(300));
    assert_eq!(sent, answered);
    assert_eq!((lanes(&wire, 0), lanes(&wire, 1)), (vec![0], vec![0]));
}

#[test]
fn copies_of_a_sparse_flow_survive_beside_bulk_on_a_path_that_is_50_ms_slower() {
    for slow in [outer as fn(u8) -> SocketAddr, second] {
        let mut wire = two_paths();
        for node in [0, 1] {
            wire.change(node, |desired| {
                desired.peers[0].redundancy = Redundancy::Interactive;
            });
        }
        for n in [1, 2] {
            wire.slower.insert(slow(n), millis(50));
        }
        wire.ping_for(0, 1, millis(50), secs(5));
        let mut count = 0;
        wire.loses = Box::new(move |from, _, bytes, _| {
            let ping = bytes[0] == 4 && bytes.len() == 128 && from == outer(1);
            count += usize::from(ping);
            ping && count % 2 == 0
        });
        let before = wire.nodes[0].replies.len();
        for turn in 0..2000 {
            bulk(&mut wire, 150);
            if turn % 10 == 0 {
                wire.ping(0, 1);
            }
            wire.run(millis(5));
        }
        wire.run(secs(1));
        assert_eq!(wire.counters(0).endpoint, Some(outer(2)));
        assert_eq!(wire.nodes[0].replies.len() - before, 200);
        assert_eq!(too_old(&wire, 1), 0);
    }
}

#[test]
fn a_flow_that_becomes_bulk_keeps_its_order() {
    let mut wire = two_paths();
    wire.nodes[1].echoes = false;
    wire.ping_for(0, 1, millis(50), secs(2));
    let before = wire.nodes[1].requests.len();
    for _ in 0..20 {
        for _ in 0..40 {
            wire.ping(0, 1);
        }
        wire.run(millis(300));
    }
    let arrived = &wire.nodes[1].requests[before..];
    assert_eq!(arrived.len(), 800);
    assert!(arrived.is_sorted_by_key(|(_, number)| *number));
}

#[test]
fn the_other_end_steps_in_where_initiations_of_the_first_are_refused() {
    let mut wire = two_paths();
    wire.loses = Box::new(|from, _, bytes, _| {
        is_lane_signal(bytes) && bytes.len() == 184 && [outer(1), second(1)].contains(&from)
    });
    wire.ping_for(0, 1, millis(50), secs(2));
    assert_eq!(lanes(&wire, 0), [0]);
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(1));
    assert_eq!(sent, answered);
    assert_eq!((lanes(&wire, 0), lanes(&wire, 1)), (vec![0, 1], vec![0, 1]));
}
