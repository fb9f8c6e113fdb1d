//! Two Shore nodes and a path that carries less than before: who hears of it, and when.

mod wire;

use std::net::SocketAddr;

use shore_dataplane_core::facts::Fact;
use shore_dataplane_core::offload::VnetHeader;
use wire::two_paths::two_paths;
use wire::{Wire, inner, millis, outer, packet, secs};

/// Twenty packets of this size, as bulk is, each 20 ms.
fn bulk(wire: &mut Wire, size: usize, for_ms: u64) {
    let mut bytes = packet(inner(1), inner(2), 0, 1);
    bytes.resize(size, 0);
    bytes[2..4].copy_from_slice(&(size as u16).to_be_bytes());
    for _ in 0..for_ms / 20 {
        for _ in 0..20 {
            wire.send(0, &bytes);
        }
        wire.run(millis(20));
    }
}

fn swallow(wire: &mut Wire, longer: usize) {
    wire.loses = Box::new(move |_, _, bytes, _| bytes.len() + 28 > longer);
}

fn swallowed(wire: &Wire) -> Vec<(SocketAddr, u32)> {
    let facts = wire.nodes[0].facts.iter();
    let swallowed = facts.filter_map(|fact| match fact {
        Fact::Swallowed { remote, count, .. } => Some((*remote, *count)),
        _ => None,
    });
    swallowed.collect()
}

#[test]
fn large_data_that_vanishes_is_told_within_a_third_of_a_second() {
    for offset in (0..150).step_by(10) {
        let mut wire = two_paths();
        bulk(&mut wire, 1400, 2000);
        wire.run(millis(offset));
        bulk(&mut wire, 1400, 500);
        assert_eq!(swallowed(&wire), []);
        swallow(&mut wire, 1300);
        bulk(&mut wire, 1400, 340);
        let told = swallowed(&wire);
        assert!(!told.is_empty(), "after {offset} ms");
        assert!(
            told.iter()
                .all(|(to, count)| *to == outer(2) && *count >= 20)
        );
    }
}

#[test]
fn a_sender_that_stops_a_tenth_of_a_second_later_for_want_of_answers_is_enough() {
    for offset in (0..150).step_by(10) {
        let mut wire = two_paths();
        bulk(&mut wire, 1400, 2000);
        wire.run(millis(offset));
        bulk(&mut wire, 1400, 500);
        swallow(&mut wire, 1300);
        bulk(&mut wire, 1400, 120);
        wire.run(millis(220));
        assert!(!swallowed(&wire).is_empty(), "after {offset} ms");
    }
}

#[test]
fn nothing_is_told_while_most_large_datagrams_arrive() {
    let mut wire = two_paths();
    bulk(&mut wire, 1400, 2000);
    let mut count = 0;
    wire.loses = Box::new(move |_, _, bytes, _| {
        count += usize::from(bytes.len() > 1300);
        bytes.len() > 1300 && count % 5 < 2
    });
    bulk(&mut wire, 1400, 3000);
    assert_eq!(swallowed(&wire), []);
}

#[test]
fn small_data_that_vanishes_is_no_matter_of_size() {
    let mut wire = two_paths();
    bulk(&mut wire, 400, 2000);
    wire.loses = Box::new(|_, _, bytes, _| bytes[0] == 4 && bytes.len() > 100);
    bulk(&mut wire, 400, 2000);
    assert_eq!(swallowed(&wire), []);
}

#[test]
fn it_is_told_once_for_what_left_and_not_again_while_nothing_large_leaves() {
    let mut wire = two_paths();
    bulk(&mut wire, 1400, 2000);
    swallow(&mut wire, 1300);
    bulk(&mut wire, 1400, 400);
    wire.run(millis(200));
    let told = swallowed(&wire).len();
    bulk(&mut wire, 400, 3000);
    assert_eq!(swallowed(&wire).len(), told);
}

/// A segment of 1,440 bytes from node 1 to node 2 that may not be fragmented.
fn segment(sequence: u32) -> Vec<u8> {
    let mut bytes = packet(inner(1), inner(2), 0, 1);
    bytes.resize(1440, 0);
    bytes[2..4].copy_from_slice(&1440_u16.to_be_bytes());
    bytes[6] = 0x40;
    bytes[9] = 6;
    bytes[20..24].copy_from_slice(&[0x30, 0x39, 0x01, 0xbb]);
    bytes[24..28].copy_from_slice(&sequence.to_be_bytes());
    bytes[32..34].copy_from_slice(&[0x50, 0x10]);
    bytes
}

fn leaves(wire: &mut Wire, packet: &[u8]) {
    let plane = &mut wire.nodes[0].plane;
    let peer = plane.route(packet, wire.now).unwrap();
    let mut sealer = plane.sealer(peer, packet, false, wire.now).unwrap();
    sealer.note(VnetHeader::default(), packet);
}

fn proves(wire: &mut Wire, path: usize, mtu: u16) {
    wire.change(0, |desired| desired.peers[0].paths[path].mtu = Some(mtu));
}

fn words(wire: &mut Wire) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| wire.nodes[0].plane.word()).collect()
}

#[test]
fn who_sent_what_was_lost_for_its_size_is_told_when_a_path_shrinks() {
    let mut wire = two_paths();
    wire.run(secs(1));
    wire.ping(0, 1);
    proves(&mut wire, 0, 1500);
    leaves(&mut wire, &segment(7000));
    proves(&mut wire, 0, 1300);
    let words = words(&mut wire);
    assert_eq!(words.len(), 1);
    let word = &words[0];
    assert_eq!(word.len(), 20 + 8 + 40);
    assert_eq!(word[12..20], [10, 0, 0, 2, 10, 0, 0, 1]);
    assert_eq!(word[20..22], [3, 4], "fragmentation needed");
    assert_eq!(word[26..28], 1240_u16.to_be_bytes());
    assert_eq!(word[28 + 12..28 + 20], [10, 0, 0, 1, 10, 0, 0, 2]);
    assert_eq!(word[28 + 24..28 + 28], 7000_u32.to_be_bytes());
}

#[test]
fn neither_a_larger_mtu_nor_another_path_has_lost_anything() {
    let mut wire = two_paths();
    wire.run(secs(1));
    wire.ping(0, 1);
    proves(&mut wire, 0, 1500);
    leaves(&mut wire, &segment(7000));
    proves(&mut wire, 1, 1280);
    wire.change(0, |desired| desired.peers[0].paths.reverse());
    wire.run(secs(1));
    assert_eq!(wire.counters(0).endpoint, Some(wire::two_paths::second(2)));
    proves(&mut wire, 0, 1400);
    assert_eq!(words(&mut wire), Vec::<Vec<u8>>::new());
}
