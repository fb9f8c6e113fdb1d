//! Packets for the tests of this folder: right in every field, or hostile.

use proptest::prelude::*;

use super::pseudo;
use crate::offload::checksum::Sum;
use crate::offload::headers::put;

pub const FROM_V4: [u8; 4] = [10, 0, 0, 1];
pub const TO_V4: [u8; 4] = [10, 0, 0, 2];
pub const FROM_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const TO_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// Headers of `family` around a payload. IPv4 without DF.
pub fn ip(family: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = if family == 4 {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        put(&mut packet, 2, (20 + payload.len()) as u16);
        put(&mut packet, 4, 0x1234);
        packet[8..10].copy_from_slice(&[64, protocol]);
        packet[12..16].copy_from_slice(&FROM_V4);
        packet[16..20].copy_from_slice(&TO_V4);
        seal_v4(&mut packet);
        packet
    } else {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        put(&mut packet, 4, payload.len() as u16);
        packet[6..8].copy_from_slice(&[protocol, 64]);
        packet[8..24].copy_from_slice(&FROM_V6);
        packet[24..40].copy_from_slice(&TO_V6);
        packet
    };
    packet.extend_from_slice(payload);
    packet
}

pub fn tcp(family: u8, flags: u8, options: &[u8], payload: usize) -> Vec<u8> {
    let len = 20 + options.len();
    let mut segment = vec![0; len];
    segment[..4].copy_from_slice(&[0x30, 0x39, 0x01, 0xbb]);
    segment[12] = (len / 4) as u8 * 16;
    segment[13] = flags;
    segment[20..].copy_from_slice(options);
    segment.extend(filling(payload));
    let mut packet = ip(family, 6, &segment);
    write_checksum(&mut packet, 6, 16);
    packet
}

pub fn udp(family: u8, payload: usize) -> Vec<u8> {
    let mut datagram = vec![0x30, 0x39, 0x01, 0xbb, 0, 0, 0, 0];
    put(&mut datagram, 4, (8 + payload) as u16);
    datagram.extend(filling(payload));
    let mut packet = ip(family, 17, &datagram);
    write_checksum(&mut packet, 17, 6);
    packet
}

/// ICMP or ICMPv6 with its checksum.
pub fn icmp(family: u8, kind: u8, rest: usize) -> Vec<u8> {
    let mut message = vec![0; 8 + rest];
    message[0] = kind;
    let protocol = if family == 4 { 1 } else { 58 };
    let mut packet = ip(family, protocol, &message);
    write_checksum(&mut packet, protocol, 2);
    packet
}

pub fn with_df(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] |= 0x40;
    seal_v4(&mut packet);
    packet
}

/// IPv4 options between header and payload.
pub fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut out = [&packet[..20], options, &packet[20..]].concat();
    out[0] = 0x40 | ((20 + options.len()) / 4) as u8;
    let total = out.len() as u16;
    put(&mut out, 2, total);
    seal_v4(&mut out);
    out
}

/// Extension headers of 8 bytes between an IPv6 header and what follows.
pub fn behind_extensions(packet: &[u8], kinds: &[u8]) -> Vec<u8> {
    let mut out = packet[..40].to_vec();
    let mut next_at = 6;
    for kind in kinds {
        let next = std::mem::replace(&mut out[next_at], *kind);
        next_at = out.len();
        out.extend_from_slice(&[next, 0, 0, 0, 0, 0, 0, 0]);
    }
    out.extend_from_slice(&packet[40..]);
    let payload = (out.len() - 40) as u16;
    put(&mut out, 4, payload);
    out
}

pub fn seal_v4(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 0xf) * 4;
    put(packet, 10, 0);
    let sum = Sum::default().with(&packet[..len]).complement();
    packet[10..12].copy_from_slice(&sum);
}

/// Whether the IPv4 header and the transport, which must be where `start` says, sum up.
pub fn sums_up(packet: &[u8], protocol: u8, start: usize) -> bool {
    let header = packet[0] >> 4 == 6
        || Sum::default()
            .with(&packet[..usize::from(packet[0] & 0xf) * 4])
            .is_right();
    let bare = packet[0] >> 4 == 4 && protocol == 1;
    let sum = if bare {
        Sum::default()
    } else {
        pseudo(packet, protocol, packet.len() - start)
    };
    header && sum.with(&packet[start..]).is_right()
}

/// Any bytes, half of them with a first byte that gets past the first look.
pub fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
    let first = prop_oneof![Just(0x45), Just(0x4f), Just(0x60), any::<u8>()];
    let lengths = (first, any::<bool>(), 0u8..80).prop_flat_map(move |(first, sound, next)| {
        bytes().prop_map(move |mut bytes| {
            if sound && bytes.len() >= 40 {
                let (at, len) = if first >> 4 == 4 {
                    (2, bytes.len())
                } else {
                    (4, bytes.len() - 40)
                };
                put(&mut bytes, at, len as u16);
                bytes[if first >> 4 == 4 { 9 } else { 6 }] = next;
                bytes[0] = first;
            }
            bytes
        })
    });
    prop_oneof![bytes(), lengths.clone(), lengths]
}

fn filling(len: usize) -> impl Iterator<Item = u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8)
}

fn write_checksum(packet: &mut [u8], protocol: u8, field: usize) {
    let start = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let bare = start == 20 && protocol == 1;
    let sum = if bare {
        Sum::default()
    } else {
        pseudo(packet, protocol, packet.len() - start)
    };
    let checksum = sum.with(&packet[start..]).complement();
    packet[start + field..start + field + 2].copy_from_slice(&checksum);
}
