//! Two Shore nodes and a path that carries less than before: who hears of it, and when.

mod wire;

use shore_dataplane_core::offload::VnetHeader;
use wire::two_paths::two_paths;
use wire::{Wire, inner, packet, secs};

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
