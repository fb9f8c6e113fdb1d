//! The answer to a packet that does not fit: ICMP "fragmentation needed" (RFC 792, RFC 1191) or
//! ICMPv6 "packet too big" (RFC 4443 §3.2), made for the TUN.
//!
//! A router answers from its own address. Here our own tunnel address will not do: an IPv4 packet that
//! arrives on the TUN from a local address is a martian to Linux, and dropped. So the answer comes from the packet's
//! *destination*, as if the far end had refused it: its route leads to the TUN, so the reverse path
//! filter is content, and whoever sent the packet judges by the quoted headers anyway.
//!
//! It quotes as much as fits in 576 bytes for IPv4 (RFC 1812 §4.3.2.3) and 1280 for IPv6. The quoted
//! transport checksum may be one that was left to us; nobody checks those.
//!
//! Nothing is answered that must not be (RFC 1122 §3.2.2, RFC 4443 §2.4): ICMP errors and redirects,
//! fragments but the first, and what came from or went to an address that is not one node's. RFC 4443
//! would allow the answer to an IPv6 multicast, but it cannot come from there. Nor is an answer given
//! that would be ignored: IPv4 without DF may be cut by anybody, and no host believes that an IPv6
//! path carries less than 1280 (RFC 8201 §4), so shorter packets must be carried by other means.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::layout::{Layout, V4_LEN, V6_LEN};
use super::pseudo;
use crate::limiter::{Bucket, Rate};
use crate::offload::checksum::Sum;
use crate::offload::headers::put;
use crate::time::Moment;

/// The answers that one peer's packets get: at most 20 at once and 50 a second.
pub struct TooBig {
    bucket: Bucket,
}

impl TooBig {
    pub fn new(now: Moment) -> Self {
        Self {
            bucket: Bucket::full(RATE, now),
        }
    }

    /// Writes the answer to `packet`, which is longer than the inner MTU, to `room`, which should have
    /// `MOST` bytes. Returns its length; None if there is to be no answer, or not now.
    pub fn answer(
        &mut self,
        packet: &[u8],
        mtu: u16,
        room: &mut [u8],
        now: Moment,
    ) -> Option<usize> {
        let layout = Layout::read(packet)?;
        let mtu = told(mtu, layout.v6);
        let deserved = layout.total > usize::from(mtu) && is_answerable(&layout, packet);
        if !deserved {
            return None;
        }
        self.write(&packet[..layout.total], mtu, room, now)
    }

    /// The same for a packet that was on its way when the MTU shrank to this. `quote` is what was kept of it:
    /// all its IP header and what follows, as far as it goes.
    pub fn answer_late(
        &mut self,
        quote: &[u8],
        mtu: u16,
        room: &mut [u8],
        now: Moment,
    ) -> Option<usize> {
        let mtu = told(mtu, quote.first()? >> 4 == 6);
        self.write(quote, mtu, room, now)
    }

    fn write(&mut self, quote: &[u8], mtu: u16, room: &mut [u8], now: Moment) -> Option<usize> {
        if !self.bucket.take(RATE, now) {
            return None;
        }
        let write = if quote[0] >> 4 == 6 {
            write_v6
        } else {
            write_v4
        };
        write(quote, mtu, room)
    }
}

/// Whether a packet may be answered at all, if it is too long.
pub(super) fn is_answerable(layout: &Layout, packet: &[u8]) -> bool {
    layout.dont_fragment
        && layout.offset == 0
        && !is_error(layout, packet)
        && is_between_nodes(layout, packet)
}

fn told(mtu: u16, v6: bool) -> u16 {
    mtu.max(if v6 { V6_LEAST } else { V4_LEAST })
}

fn is_error(layout: &Layout, packet: &[u8]) -> bool {
    let kind = packet.get(layout.ip_len).copied();
    match (layout.v6, layout.protocol, kind) {
        (false, ICMP, kind) => kind.is_none_or(|kind| V4_ERRORS.contains(&kind)),
        (true, ICMPV6, kind) => kind.is_none_or(|kind| kind < 128 || kind == V6_REDIRECT),
        _ => false,
    }
}

fn is_between_nodes(layout: &Layout, packet: &[u8]) -> bool {
    if layout.v6 {
        [8, 24].into_iter().all(|at| {
            let address = packet[at..at + 16].try_into().map(u128::from_be_bytes);
            address.is_ok_and(|bits| {
                let address = Ipv6Addr::from_bits(bits);
                !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
            })
        })
    } else {
        [12, 16].into_iter().all(|at| {
            let address = Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
            let first = address.octets()[0];
            first != 0 && first < FIRST_MULTICAST && !address.is_loopback()
        })
    }
}

fn write_v4(quoted: &[u8], mtu: u16, room: &mut [u8]) -> Option<usize> {
    let quoted = &quoted[..quoted.len().min(V4_MOST - V4_LEN - ICMP_LEN)];
    let total = V4_LEN + ICMP_LEN + quoted.len();
    let out = room.get_mut(..total)?;
    out[..V4_LEN + ICMP_LEN].fill(0);
    out[..2].copy_from_slice(&[0x45, INTERNETWORK_CONTROL]);
    put(out, 2, total as u16);
    out[8..10].copy_from_slice(&[TTL, ICMP]);
    out[12..16].copy_from_slice(&quoted[16..20]);
    out[16..20].copy_from_slice(&quoted[12..16]);
    let header = Sum::default().with(&out[..V4_LEN]).complement();
    out[10..12].copy_from_slice(&header);
    out[V4_LEN..V4_LEN + 2].copy_from_slice(&[UNREACHABLE, FRAGMENTATION_NEEDED]);
    put(out, V4_LEN + 6, mtu);
    out[V4_LEN + ICMP_LEN..].copy_from_slice(quoted);
    let checksum = Sum::default().with(&out[V4_LEN..]).complement();
    out[V4_LEN + 2..V4_LEN + 4].copy_from_slice(&checksum);
    Some(total)
}

fn write_v6(quoted: &[u8], mtu: u16, room: &mut [u8]) -> Option<usize> {
    let quoted = &quoted[..quoted.len().min(MOST - V6_LEN - ICMP_LEN)];
    let total = V6_LEN + ICMP_LEN + quoted.len();
    let out = room.get_mut(..total)?;
    out[..V6_LEN + ICMP_LEN].fill(0);
    out[0] = 0x60;
    put(out, 4, (total - V6_LEN) as u16);
    out[6..8].copy_from_slice(&[ICMPV6, TTL]);
    out[8..24].copy_from_slice(&quoted[24..40]);
    out[24..40].copy_from_slice(&quoted[8..24]);
    out[V6_LEN] = PACKET_TOO_BIG;
    put(out, V6_LEN + 6, mtu);
    out[V6_LEN + ICMP_LEN..].copy_from_slice(quoted);
    let checksum = pseudo(out, ICMPV6, total - V6_LEN)
        .with(&out[V6_LEN..])
        .complement();
    out[V6_LEN + 2..V6_LEN + 4].copy_from_slice(&checksum);
    Some(total)
}

/// Length of the longest answer.
pub const MOST: usize = 1280;
const V4_MOST: usize = 576;
const RATE: Rate = Rate {
    per_second: 50.0,
    burst: 20.0,
};
/// What any IPv4 link carries (RFC 791), and any IPv6 link.
const V4_LEAST: u16 = 68;
const V6_LEAST: u16 = 1280;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ICMP_LEN: usize = 8;
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const PACKET_TOO_BIG: u8 = 2;
/// Unreachable, source quench, redirect, time exceeded, parameter problem.
const V4_ERRORS: [u8; 5] = [3, 4, 5, 11, 12];
const V6_REDIRECT: u8 = 137;
const TTL: u8 = 64;
/// The precedence that RFC 1812 §4.3.2.5 gives ICMP errors.
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// 224.0.0.0, and above it nothing that a node may own.
const FIRST_MULTICAST: u8 = 224;

#[cfg(test)]
mod tests {
    use super::super::samples::{
        FROM_V4, FROM_V6, TO_V4, TO_V6, behind_extensions, hostile, icmp, seal_v4, sums_up, tcp,
        udp, with_df,
    };
    use super::*;
    use proptest::prelude::*;

    fn answered(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
        let mut room = [0xee; MOST];
        let now = Moment::default();
        let len = TooBig::new(now).answer(packet, mtu, &mut room, now)?;
        Some(room[..len].to_vec())
    }

    #[test]
    fn ipv4_is_told_the_mtu_and_quoted_548_bytes() {
        let packet = with_df(udp(4, 1400));
        let answer = answered(&packet, 1240).unwrap();
        assert_eq!(answer.len(), 576);
        assert!(sums_up(&answer, ICMP, 20));
        assert_eq!(answer[12..16], TO_V4);
        assert_eq!(answer[16..20], FROM_V4);
        assert_eq!(answer[20..22], [3, 4]);
        assert_eq!(answer[24..28], [0, 0, 0x04, 0xd8]);
        assert_eq!(answer[28..], packet[..548]);
    }

    #[test]
    fn ipv6_is_told_the_mtu_and_quoted_up_to_1280() {
        let packet = tcp(6, 0x10, &[], 1400);
        let answer = answered(&packet, 1380).unwrap();
        assert_eq!(answer.len(), 1280);
        assert!(sums_up(&answer, ICMPV6, 40));
        assert_eq!(answer[8..24], TO_V6);
        assert_eq!(answer[24..40], FROM_V6);
        assert_eq!(answer[40..42], [2, 0]);
        assert_eq!(answer[44..48], [0, 0, 0x05, 0x64]);
        assert_eq!(answer[48..], packet[..1232]);
    }

    #[test]
    fn a_short_packet_is_quoted_whole_and_without_padding() {
        let mut packet = with_df(udp(4, 500));
        packet.resize(packet.len() + 16, 0);
        let answer = answered(&packet, 516).unwrap();
        assert_eq!(answer[28..], packet[..528]);
    }

    #[test]
    fn no_ipv6_host_is_told_less_than_1280() {
        let answer = answered(&udp(6, 1400), 1220).unwrap();
        assert_eq!(answer[44..48], [0, 0, 0x05, 0x00]);
        assert_eq!(answered(&udp(6, 1232), 1220), None);
    }

    #[test]
    fn what_fits_or_may_be_fragmented_is_not_answered() {
        assert_eq!(answered(&with_df(udp(4, 1000)), 1240), None);
        assert_eq!(answered(&udp(4, 1400), 1240), None);
    }

    #[test]
    fn echoes_are_answered_and_errors_are_not() {
        assert!(answered(&with_df(icmp(4, 8, 1400)), 1240).is_some());
        assert!(answered(&icmp(6, 128, 1400), 1300).is_some());
        for kind in V4_ERRORS {
            assert_eq!(answered(&with_df(icmp(4, kind, 1400)), 1240), None);
        }
        for kind in [1, 2, 3, 4, 127, V6_REDIRECT] {
            assert_eq!(answered(&icmp(6, kind, 1400), 1300), None);
            let hidden = behind_extensions(&icmp(6, kind, 1400), &[0, 60]);
            assert_eq!(answered(&hidden, 1300), None);
        }
    }

    #[test]
    fn of_fragments_only_the_first_is_answered() {
        let mut first = with_df(udp(4, 1400));
        first[6] |= 0x20;
        seal_v4(&mut first);
        assert!(answered(&first, 1240).is_some());
        first[7] = 1;
        seal_v4(&mut first);
        assert_eq!(answered(&first, 1240), None);
        let mut later = behind_extensions(&udp(6, 1400), &[44]);
        assert!(answered(&later, 1300).is_some());
        later[43] = 8;
        assert_eq!(answered(&later, 1300), None);
    }

    #[test]
    fn addresses_that_are_not_one_nodes_are_not_answered() {
        let addresses = [
            [224, 0, 0, 1],
            [255; 4],
            [0; 4],
            [127, 0, 0, 1],
            [240, 0, 0, 1],
        ];
        for (at, address) in [12, 16]
            .into_iter()
            .flat_map(|at| addresses.map(|a| (at, a)))
        {
            let mut packet = with_df(udp(4, 1400));
            packet[at..at + 4].copy_from_slice(&address);
            assert_eq!(answered(&packet, 1240), None, "{address:?}");
        }
        for (at, address) in [8, 24].into_iter().flat_map(|at| {
            let addresses = [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST];
            [addresses[0], addresses[1], "ff02::1".parse().unwrap()].map(|a: Ipv6Addr| (at, a))
        }) {
            let mut packet = udp(6, 1400);
            packet[at..at + 16].copy_from_slice(&address.octets());
            assert_eq!(answered(&packet, 1300), None, "{address}");
        }
    }

    #[test]
    fn answers_are_rationed_and_the_unanswerable_costs_nothing() {
        let (start, mut room) = (Moment::default(), [0; MOST]);
        let mut too_big = TooBig::new(start);
        let packet = with_df(udp(4, 1400));
        let mut count = |too_big: &mut TooBig, packet: &[u8], now| {
            (0..100)
                .filter(|_| too_big.answer(packet, 1240, &mut room, now).is_some())
                .count()
        };
        assert_eq!(count(&mut too_big, &udp(4, 1400), start), 0);
        assert_eq!(count(&mut too_big, &packet, start), 20);
        assert_eq!(count(&mut too_big, &packet, Moment::from_millis(100)), 5);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            bytes in hostile(),
            more in 0usize..1400,
            mtu: u16,
            room in 0usize..1500,
        ) {
            let mut packet = bytes;
            packet.resize(packet.len() + more, 0x5a);
            if packet.len() > 40 {
                let at = if packet[0] >> 4 == 4 { 2 } else { 4 };
                let len = packet.len() - if at == 2 { 0 } else { 40 };
                put(&mut packet, at, len as u16);
            }
            let mut room = vec![0; room];
            let now = Moment::default();
            if let Some(len) = TooBig::new(now).answer(&packet, mtu, &mut room, now) {
                let (most, protocol, start) = if packet[0] >> 4 == 6 {
                    (MOST, ICMPV6, V6_LEN)
                } else {
                    (V4_MOST, ICMP, V4_LEN)
                };
                prop_assert!(len <= most);
                prop_assert!(sums_up(&room[..len], protocol, start));
            }
        }
    }
}
