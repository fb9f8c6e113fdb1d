//! Splitting and joining undo each other, and neither trusts what it reads.

use proptest::prelude::*;
use shore_dataplane_core::offload::checksum::Sum;
use shore_dataplane_core::offload::coalesce::{Accepts, Coalescer};
use shore_dataplane_core::offload::split::split;
use shore_dataplane_core::offload::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHeader};

const ALL: Accepts = Accepts {
    tcp: true,
    udp: true,
};
const MTU: u16 = 1420;

#[derive(Clone, Debug)]
struct Shape {
    v6: bool,
    tcp: bool,
    payload: usize,
    size: usize,
    flags: u8,
}

/// A super-packet as the kernel hands it out, with 16 bytes of room behind.
fn super_packet(shape: &Shape) -> (VnetHeader, Vec<u8>, usize) {
    let start = if shape.v6 { 40 } else { 20 };
    let transport = if shape.tcp { 32 } else { 8 };
    let headers = start + transport;
    let len = headers + shape.payload;
    let mut packet: Vec<u8> = (0..len).map(|n| (n * 7 + n / 251) as u8).collect();
    let protocol = if shape.tcp { 6 } else { 17 };
    if shape.v6 {
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        packet[6] = protocol;
    } else {
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[6..8].copy_from_slice(&[0x40, 0]);
        packet[9] = protocol;
        packet[10..12].fill(0);
        let sum = Sum::default().with(&packet[..20]).complement();
        packet[10..12].copy_from_slice(&sum);
    }
    if shape.tcp {
        packet[start + 12] = 0x80;
        packet[start + 13] = shape.flags;
    } else {
        packet[start + 4..start + 6].copy_from_slice(&((len - start) as u16).to_be_bytes());
    }
    let field = start + if shape.tcp { 16 } else { 6 };
    let addresses = if shape.v6 { 8..40 } else { 12..20 };
    let pseudo = Sum::default()
        .with(&packet[addresses])
        .with_word(protocol.into())
        .with_word((len - start) as u16);
    packet[field..field + 2].copy_from_slice(&pseudo.folded());
    let header = VnetHeader {
        flags: NEEDS_CSUM,
        gso_type: match (shape.tcp, shape.v6) {
            (true, false) => GSO_TCPV4,
            (true, true) => GSO_TCPV6,
            (false, _) => GSO_UDP_L4,
        },
        hdr_len: headers as u16,
        gso_size: shape.size as u16,
        csum_start: start as u16,
        csum_offset: (field - start) as u16,
    };
    packet.resize(len + 16, 0xee);
    (header, packet, len)
}

fn segments_of(header: VnetHeader, mut packet: Vec<u8>, len: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    split(header, &mut packet, len, MTU, |segment| {
        out.push(unpadded(segment))
    })
    .unwrap();
    out
}

/// As the receiving tunnel cuts it: by the IP header's length.
fn unpadded(packet: &[u8]) -> Vec<u8> {
    let word = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let len = if packet[0] >> 4 == 6 {
        word(4) + 40
    } else {
        word(2)
    };
    assert!(packet.len() <= len.next_multiple_of(16));
    assert!(packet[len..].iter().all(|byte| *byte == 0));
    packet[..len].to_vec()
}

fn joined(segments: &[Vec<u8>], accepts: Accepts) -> Vec<(VnetHeader, Vec<u8>)> {
    let mut arena = Vec::new();
    let mut coalescer = Coalescer::default();
    let mut places = Vec::new();
    for segment in segments {
        places.push((arena.len(), segment.len()));
        arena.extend_from_slice(segment);
    }
    for place in places {
        coalescer.push(&arena, place, accepts);
    }
    let mut out = Vec::new();
    coalescer.flush(&mut arena, |arena, header, places| {
        let bytes = places.iter().flat_map(|(at, len)| &arena[*at..at + len]);
        out.push((header, bytes.copied().collect()));
    });
    out
}

fn shapes() -> impl Strategy<Value = Shape> {
    (
        any::<bool>(),
        any::<bool>(),
        500usize..1369,
        2usize..40,
        1usize..500,
        any::<bool>(),
    )
        .prop_map(|(v6, tcp, size, count, rest, push)| Shape {
            v6,
            tcp,
            payload: size * (count - 1) + rest,
            size,
            flags: if push { 0x18 } else { 0x10 },
        })
}

proptest! {
    #[test]
    fn what_was_split_is_joined_to_the_same_bytes(shape in shapes()) {
        let (header, packet, len) = super_packet(&shape);
        let segments = segments_of(header, packet.clone(), len);
        prop_assert_eq!(segments.len(), shape.payload.div_ceil(shape.size));
        let whole = joined(&segments, ALL);
        prop_assert_eq!(whole.len(), 1);
        prop_assert_eq!(whole[0].0, header);
        prop_assert_eq!(&whole[0].1, &packet[..len]);
    }

    #[test]
    fn every_segment_has_right_checksums(shape in shapes()) {
        let (header, packet, len) = super_packet(&shape);
        for segment in segments_of(header, packet, len) {
            let start = if shape.v6 { 40 } else { 20 };
            let addresses = if shape.v6 { 8..40 } else { 12..20 };
            let sum = Sum::default()
                .with(&segment[addresses])
                .with_word(if shape.tcp { 6 } else { 17 })
                .with_word((segment.len() - start) as u16)
                .with(&segment[start..]);
            prop_assert!(sum.is_right());
            prop_assert!(shape.v6 || Sum::default().with(&segment[..20]).is_right());
        }
    }

    #[test]
    fn a_hostile_header_never_panics(
        header in any::<[u8; 10]>(),
        kind in prop_oneof![Just(0u8), Just(1), Just(4), Just(5), Just(0x81), any::<u8>()],
        first in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
        mut packet in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut header = VnetHeader::read(&header);
        header.gso_type = kind;
        if let Some(byte) = packet.first_mut() {
            *byte = first;
        }
        let len = packet.len();
        let mut handed_out = 0;
        if let Ok(count) = split(header, &mut packet, len, MTU, |_| handed_out += 1) {
            prop_assert_eq!(count, handed_out);
        }
    }

    #[test]
    fn packets_of_any_content_pass_unchanged_or_joined(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..20),
    ) {
        let out = joined(&packets, ALL);
        prop_assert_eq!(out.len(), packets.len());
        for ((header, bytes), packet) in out.iter().zip(&packets) {
            prop_assert_eq!(header, &VnetHeader::default());
            prop_assert_eq!(bytes, packet);
        }
    }
}

fn tcp(flags: u8) -> Shape {
    Shape {
        v6: false,
        tcp: true,
        payload: 3000,
        size: 1000,
        flags,
    }
}

#[test]
fn fin_and_psh_come_last_and_cwr_first() {
    let (header, packet, len) = super_packet(&tcp(0x80 | 0x18 | 0x01));
    let flags: Vec<u8> = segments_of(header, packet, len)
        .iter()
        .map(|s| s[33])
        .collect();
    assert_eq!(flags, [0x90, 0x10, 0x19]);
}

#[test]
fn the_ipv4_identification_counts_up() {
    let (header, packet, len) = super_packet(&tcp(0x10));
    let first = u16::from_be_bytes([packet[4], packet[5]]);
    let segments = segments_of(header, packet, len);
    let ids = segments.iter().map(|s| u16::from_be_bytes([s[4], s[5]]));
    assert_eq!(ids.collect::<Vec<_>>(), [first, first + 1, first + 2]);
}

#[test]
fn a_wrong_checksum_stays_wrong_and_alone() {
    let (header, packet, len) = super_packet(&tcp(0x10));
    let mut segments = segments_of(header, packet, len);
    segments[1][100] ^= 1;
    let out = joined(&segments, ALL);
    assert_eq!(out.len(), 3);
    assert_eq!(out[1], (VnetHeader::default(), segments[1].clone()));
}

#[test]
fn a_gap_or_another_flow_begins_a_new_run_and_order_is_kept() {
    let (header, packet, len) = super_packet(&tcp(0x10));
    let segments = segments_of(header, packet, len);
    let swapped = [
        segments[0].clone(),
        segments[2].clone(),
        segments[1].clone(),
    ];
    let out = joined(&swapped, ALL);
    let bytes: Vec<_> = out.into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(bytes, swapped);
}

#[test]
fn two_interleaved_flows_make_two_runs() {
    let (header, packet, len) = super_packet(&tcp(0x10));
    let mut other = packet.clone();
    other[23] ^= 1;
    let (one, two) = (
        segments_of(header, packet, len),
        segments_of(header, other, len),
    );
    let mixed: Vec<_> = one
        .iter()
        .zip(&two)
        .flat_map(|(a, b)| [a.clone(), b.clone()])
        .collect();
    assert_eq!(joined(&mixed, ALL).len(), 2);
}

#[test]
fn nothing_is_joined_for_a_tun_that_takes_nothing() {
    let (header, packet, len) = super_packet(&tcp(0x10));
    let none = Accepts {
        tcp: false,
        udp: false,
    };
    assert_eq!(joined(&segments_of(header, packet, len), none).len(), 3);
}

#[test]
fn a_small_packet_whose_checksum_was_left_to_us_is_completed() {
    let (header, packet, len) = super_packet(&tcp(0x10));
    let plain = VnetHeader {
        gso_type: 0,
        gso_size: 0,
        ..header
    };
    let segments = segments_of(plain, packet, len);
    let sum = Sum::default()
        .with(&segments[0][12..20])
        .with_word(6)
        .with_word((len - 20) as u16)
        .with(&segments[0][20..]);
    assert!(sum.is_right());
}
