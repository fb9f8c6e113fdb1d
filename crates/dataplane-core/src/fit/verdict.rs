//! What to do with a packet from the TUN, given what its path carries: decided here, done elsewhere.
//!
//! TCP is split as a network card would do it (`offload::split`), super-packets and single segments
//! alike: it costs a header, and bulk never waits for an ICMP message. A segment that is not plain data
//! (SYN, RST, URG), or whose checksum is already wrong, is left as it is. Other packets are fragmented
//! if they are IPv4 and allow it. The rest may not shrink: a Shore node on the far side gets them in
//! pieces, and no other peer gets them at all.
//!
//! Whoever sent what had to be split or cut is told as well (`too_big`), so that the next packets fit.
//! Only fragments are no news: without DF the sender has said that it does not care.

use super::layout::Layout;
use super::pieces::longest;
use crate::offload::checksum::Sum;
use crate::offload::headers::{ACK, CWR, FIN, FLAGS, Headers, PSH, Transport};
use crate::offload::{GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHeader};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fits, segment by segment where it is a super-packet.
    Fits,
    /// Split it by this header in place of its own.
    Split(VnetHeader),
    /// `fragment` each segment.
    Fragment,
    /// `pieces` of each segment.
    Cut,
    /// It cannot be carried.
    Refuse,
}

impl Verdict {
    /// Whether its sender should hear of the MTU.
    pub fn tells_sender(self) -> bool {
        matches!(self, Self::Split(_) | Self::Cut | Self::Refuse)
    }
}

/// `packet`: as it was read, with nothing behind it. `mtu`: the path's inner MTU. `joins`: the peer is a Shore node, which joins pieces. What cannot be
/// read fits: it is for others to refuse.
pub fn judge(header: VnetHeader, packet: &[u8], mtu: u16, joins: bool) -> Verdict {
    let Some(layout) = Layout::read(packet) else {
        return Verdict::Fits;
    };
    let mtu = usize::from(mtu);
    let longest_part = longest_segment(header, packet, &layout);
    if longest_part <= mtu {
        return Verdict::Fits;
    }
    if let Some(split) = smaller_segments(header, packet, &layout, mtu) {
        return Verdict::Split(split);
    }
    if !layout.dont_fragment {
        Verdict::Fragment
    } else if joins && longest_part <= longest(mtu as u16) {
        Verdict::Cut
    } else {
        Verdict::Refuse
    }
}

fn longest_segment(header: VnetHeader, packet: &[u8], layout: &Layout) -> usize {
    let transport = match header.gso_type & !GSO_ECN {
        GSO_TCPV4 | GSO_TCPV6 => Transport::Tcp,
        GSO_UDP_L4 => Transport::Udp,
        _ => return layout.total,
    };
    let size = usize::from(header.gso_size);
    Headers::read(packet, transport, layout.ip_len)
        .map_or(layout.total, |headers| layout.total.min(headers.len + size))
}

/// The header that makes TCP segments fit.
fn smaller_segments(
    header: VnetHeader,
    packet: &[u8],
    layout: &Layout,
    mtu: usize,
) -> Option<VnetHeader> {
    let whole = packet.len() == layout.total && !layout.is_fragment();
    if !whole || layout.protocol != TCP || header.gso_type == GSO_UDP_L4 {
        return None;
    }
    let headers = Headers::read(packet, Transport::Tcp, layout.ip_len)?;
    let size = mtu.saturating_sub(headers.len);
    let plain = packet[layout.ip_len + FLAGS] & !(FIN | PSH | CWR | ECE) == ACK;
    if size == 0 || !plain {
        return None;
    }
    let is_super = header.gso_type != GSO_NONE;
    if !is_super && header.flags & NEEDS_CSUM == 0 && !has_right_checksum(packet, layout, headers) {
        return None;
    }
    let ecn = header.gso_type & GSO_ECN;
    Some(VnetHeader {
        flags: NEEDS_CSUM,
        gso_type: ecn | if layout.v6 { GSO_TCPV6 } else { GSO_TCPV4 },
        hdr_len: headers.len as u16,
        gso_size: size as u16,
        csum_start: layout.ip_len as u16,
        csum_offset: Transport::Tcp.checksum_at() as u16,
    })
}

fn has_right_checksum(packet: &[u8], layout: &Layout, headers: Headers) -> bool {
    let segment = &packet[layout.ip_len..];
    let ip = Sum::default().with(&packet[..layout.ip_len]);
    (layout.v6 || ip.is_right())
        && headers
            .pseudo(packet, segment.len())
            .with(segment)
            .is_right()
}

const TCP: u8 = 6;
const ECE: u8 = 0x40;

#[cfg(test)]
mod tests {
    use super::super::samples::{behind_extensions, hostile, sums_up, tcp, udp, with_df};
    use super::*;
    use crate::offload::split::split;
    use proptest::prelude::*;

    const PLAIN: VnetHeader = VnetHeader {
        flags: 0,
        gso_type: GSO_NONE,
        hdr_len: 0,
        gso_size: 0,
        csum_start: 0,
        csum_offset: 0,
    };

    fn segments(verdict: Verdict, packet: &[u8], mtu: u16) -> Vec<Vec<u8>> {
        let Verdict::Split(header) = verdict else {
            panic!("{verdict:?}");
        };
        let (mut buffer, mut out) = (packet.to_vec(), Vec::new());
        buffer.resize(packet.len() + 16, 0);
        split(header, &mut buffer, packet.len(), mtu, |segment| {
            assert!(segment.len() <= usize::from(mtu));
            let total = Layout::read(segment).unwrap().total;
            out.push(segment[..total].to_vec());
        })
        .unwrap();
        out
    }

    #[test]
    fn what_fits_is_left_alone() {
        for packet in [with_df(udp(4, 1392)), udp(6, 1372), tcp(4, ACK, &[], 1380)] {
            assert_eq!(judge(PLAIN, &packet, 1420, true), Verdict::Fits);
        }
        assert_eq!(judge(PLAIN, &[0x45; 10], 1420, true), Verdict::Fits);
    }

    #[test]
    fn a_segment_of_1420_becomes_two_with_all_of_its_payload() {
        let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        for packet in [
            with_df(tcp(4, ACK | PSH, &options, 1368)),
            behind_extensions(&tcp(6, ACK | PSH, &options, 1340), &[60]),
        ] {
            let layout = Layout::read(&packet).unwrap();
            let headers = layout.ip_len + 32;
            let parts = segments(judge(PLAIN, &packet, 1280, true), &packet, 1280);
            assert_eq!((parts.len(), parts[0].len()), (2, 1280));
            assert!(parts.iter().all(|part| sums_up(part, TCP, layout.ip_len)));
            let payload: Vec<u8> = parts
                .iter()
                .flat_map(|part| part[headers..].to_vec())
                .collect();
            assert_eq!(payload, packet[headers..]);
        }
    }

    #[test]
    fn a_super_packet_is_split_to_the_paths_size() {
        let packet = with_df(tcp(4, ACK, &[], 20_000));
        let header = VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4 | GSO_ECN,
            hdr_len: 40,
            gso_size: 1380,
            csum_start: 20,
            csum_offset: 16,
        };
        assert_eq!(judge(header, &packet, 1420, false), Verdict::Fits);
        let verdict = judge(header, &packet, 1419, false);
        let smaller = VnetHeader {
            gso_size: 1379,
            ..header
        };
        assert_eq!(verdict, Verdict::Split(smaller));
        assert!(verdict.tells_sender());
    }

    #[test]
    fn damaged_segments_and_those_that_are_no_data_are_not_split() {
        let mut damaged = with_df(tcp(4, ACK, &[], 1380));
        damaged[700] ^= 1;
        let urgent = with_df(tcp(4, ACK | 0x20, &[], 1380));
        let syn = with_df(tcp(4, 0x02, &[], 1380));
        for packet in [damaged, urgent, syn] {
            assert_eq!(judge(PLAIN, &packet, 1280, true), Verdict::Cut);
            assert_eq!(judge(PLAIN, &packet, 1280, false), Verdict::Refuse);
        }
    }

    #[test]
    fn a_checksum_left_to_us_is_no_damage() {
        let mut packet = with_df(tcp(4, ACK, &[], 1380));
        packet[36] ^= 0xff;
        let header = VnetHeader {
            flags: NEEDS_CSUM,
            csum_start: 20,
            csum_offset: 16,
            ..PLAIN
        };
        let parts = segments(judge(header, &packet, 1280, true), &packet, 1280);
        assert!(parts.iter().all(|part| sums_up(part, TCP, 20)));
    }

    #[test]
    fn datagrams_are_fragmented_cut_or_refused() {
        assert_eq!(judge(PLAIN, &udp(4, 1472), 1280, true), Verdict::Fragment);
        assert!(!Verdict::Fragment.tells_sender());
        for packet in [with_df(udp(4, 1472)), udp(6, 1232)] {
            assert_eq!(judge(PLAIN, &packet, 1200, true), Verdict::Cut);
            assert_eq!(judge(PLAIN, &packet, 1200, false), Verdict::Refuse);
        }
        let jumbo = with_df(udp(4, 8972));
        assert_eq!(judge(PLAIN, &jumbo, 1200, true), Verdict::Refuse);
    }

    #[test]
    fn datagrams_in_a_super_packet_are_judged_by_their_own_size() {
        let header = VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_UDP_L4,
            hdr_len: 28,
            gso_size: 1300,
            csum_start: 20,
            csum_offset: 6,
        };
        let packet = with_df(udp(4, 20_000));
        assert_eq!(judge(header, &packet, 1328, true), Verdict::Fits);
        assert_eq!(judge(header, &packet, 1327, true), Verdict::Cut);
        assert_eq!(judge(header, &packet, 1327, false), Verdict::Refuse);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_and_a_split_fits(
            bytes in hostile(),
            flags: u8,
            gso_type in prop_oneof![Just(0u8), Just(1), Just(4), Just(5), any::<u8>()],
            gso_size: u16,
            mtu in 0u16..200,
            joins: bool,
        ) {
            let header = VnetHeader { flags, gso_type, gso_size, ..PLAIN };
            let verdict = judge(header, &bytes, mtu, joins);
            if let Verdict::Split(_) = verdict {
                segments(verdict, &bytes, mtu);
            }
        }
    }
}
