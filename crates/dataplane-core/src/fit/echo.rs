//! Echo requests through the tunnel, by which a path to plain WireGuard is measured.
//!
//! A foreign peer answers no probes of ours, but the host behind it answers a ping of its tunnel
//! address. An ICMP (RFC 792) or ICMPv6 (RFC 4443 §4.1) echo request of a chosen size, from our tunnel
//! address to its own, comes back whole, so one reply proves both directions. It is sealed as it is,
//! without padding, and its datagram has DF; the reply is padded by the peer to 16 bytes, so the way
//! back can need up to 15 bytes more than the size names, and sizes that are multiples of 16 say most.
//!
//! Replies are ours to consume, and nobody else's may be: not those of a `ping` that runs beside us.
//! So a reply counts only if it comes from that address to ours, has the identifier, is not a fragment,
//! has a right checksum, and carries the token and its own size in the payload. The token is drawn by
//! chance for each peer; who cannot read the tunnel cannot guess it, and who can may as well answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::layout::{DONT_FRAGMENT, Layout, V4_LEN, V6_LEN};
use super::{pseudo, read};
use crate::offload::checksum::Sum;
use crate::offload::headers::{get, put};

/// The echoes to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    ends: Ends,
    identifier: u16,
    token: [u8; 8],
}

/// Our tunnel address, and the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// What a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub sequence: u16,
    /// Of the inner packet, in both directions.
    pub size: u16,
}

impl Echo {
    /// From our tunnel address to the peer's. None if they are of different families.
    pub fn new(from: IpAddr, to: IpAddr, identifier: u16, token: u64) -> Option<Self> {
        let ends = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Ends::V4(from, to),
            (IpAddr::V6(from), IpAddr::V6(to)) => Ends::V6(from, to),
            _ => return None,
        };
        Some(Self {
            ends,
            identifier,
            token: token.to_be_bytes(),
        })
    }

    /// The size of the smallest request.
    pub fn least(&self) -> u16 {
        (self.ip_len() + ICMP_LEN + MARK) as u16
    }

    /// Writes a request of `size` bytes. None if that is too small, or there is no room for it.
    pub fn request(&self, sequence: u16, size: u16, room: &mut [u8]) -> Option<usize> {
        if size < self.least() {
            return None;
        }
        let out = room.get_mut(..usize::from(size))?;
        let start = self.ip_len();
        self.write_ip(out);
        let message = &mut out[start..];
        message[..ICMP_LEN].fill(0);
        message[0] = self.kinds().request;
        put(message, 4, self.identifier);
        put(message, 6, sequence);
        message[ICMP_LEN..ICMP_LEN + 8].copy_from_slice(&self.token);
        put(message, ICMP_LEN + 8, size);
        for (n, byte) in message[ICMP_LEN + MARK..].iter_mut().enumerate() {
            *byte = n as u8;
        }
        let checksum = self.sum(out, start).complement();
        out[start + 2..start + 4].copy_from_slice(&checksum);
        Some(usize::from(size))
    }

    /// What an opened packet answers, if it answers a request of ours.
    pub fn recognise(&self, packet: &[u8]) -> Option<Reply> {
        let layout = Layout::read(packet)?;
        let packet = &packet[..layout.total];
        let start = layout.ip_len;
        let kinds = self.kinds();
        let ours = layout.v6 == matches!(self.ends, Ends::V6(..))
            && layout.protocol == kinds.protocol
            && !layout.is_fragment()
            && self.is_from_peer(packet)
            && layout.total >= start + ICMP_LEN + MARK
            && packet[start..start + 2] == [kinds.reply, 0]
            && get(packet, start + 4) == self.identifier
            && packet[start + ICMP_LEN..start + ICMP_LEN + 8] == self.token;
        let size = read(packet, start + ICMP_LEN + 8)?;
        let whole = usize::from(size) == layout.total;
        (ours && whole && self.sum(packet, start).is_right()).then(|| Reply {
            sequence: get(packet, start + 6),
            size,
        })
    }

    fn ip_len(&self) -> usize {
        match self.ends {
            Ends::V4(..) => V4_LEN,
            Ends::V6(..) => V6_LEN,
        }
    }

    fn kinds(&self) -> &'static Kinds {
        match self.ends {
            Ends::V4(..) => &V4,
            Ends::V6(..) => &V6,
        }
    }

    fn write_ip(&self, out: &mut [u8]) {
        let total = out.len();
        match self.ends {
            Ends::V4(from, to) => {
                out[..V4_LEN].fill(0);
                out[0] = 0x45;
                put(out, 2, total as u16);
                put(out, 6, DONT_FRAGMENT);
                out[8..10].copy_from_slice(&[HOPS, V4.protocol]);
                out[12..16].copy_from_slice(&from.octets());
                out[16..20].copy_from_slice(&to.octets());
                let sum = Sum::default().with(&out[..V4_LEN]).complement();
                out[10..12].copy_from_slice(&sum);
            }
            Ends::V6(from, to) => {
                out[..V6_LEN].fill(0);
                out[0] = 0x60;
                put(out, 4, (total - V6_LEN) as u16);
                out[6..8].copy_from_slice(&[V6.protocol, HOPS]);
                out[8..24].copy_from_slice(&from.octets());
                out[24..40].copy_from_slice(&to.octets());
            }
        }
    }

    fn is_from_peer(&self, packet: &[u8]) -> bool {
        match self.ends {
            Ends::V4(from, to) => packet[12..16] == to.octets() && packet[16..20] == from.octets(),
            Ends::V6(from, to) => packet[8..24] == to.octets() && packet[24..40] == from.octets(),
        }
    }

    fn sum(&self, packet: &[u8], start: usize) -> Sum {
        let sum = match self.ends {
            Ends::V4(..) => Sum::default(),
            Ends::V6(..) => pseudo(packet, V6.protocol, packet.len() - start),
        };
        sum.with(&packet[start..])
    }
}

struct Kinds {
    protocol: u8,
    request: u8,
    reply: u8,
}

const V4: Kinds = Kinds {
    protocol: 1,
    request: 8,
    reply: 0,
};
const V6: Kinds = Kinds {
    protocol: 58,
    request: 128,
    reply: 129,
};
const ICMP_LEN: usize = 8;
/// The token and the size.
const MARK: usize = 10;
const HOPS: u8 = 64;

#[cfg(test)]
mod tests {
    use super::super::samples::{behind_extensions, hostile, seal_v4, sums_up};
    use super::*;
    use proptest::prelude::*;

    fn echo(family: u8) -> Echo {
        let (from, to) = if family == 4 {
            ("10.0.0.1", "10.0.0.2")
        } else {
            ("fd00::1", "fd00::2")
        };
        let parse = |text: &str| text.parse().unwrap();
        Echo::new(parse(from), parse(to), 0xabcd, 0x0102_0304_0506_0708).unwrap()
    }

    fn request(echo: &Echo, size: u16) -> Vec<u8> {
        let mut room = vec![0xee; 9000];
        let len = echo.request(7, size, &mut room).unwrap();
        room.truncate(len);
        room
    }

    /// What the peer's host makes of it.
    fn answer(request: &[u8]) -> Vec<u8> {
        let mut packet = request.to_vec();
        let v4 = packet[0] >> 4 == 4;
        let (at, len, start) = if v4 { (12, 4, 20) } else { (8, 16, 40) };
        for n in at..at + len {
            packet.swap(n, n + len);
        }
        packet[start] = if v4 { 0 } else { 129 };
        seal(&mut packet);
        packet
    }

    fn seal(packet: &mut [u8]) {
        let v4 = packet[0] >> 4 == 4;
        let start = if v4 { 20 } else { 40 };
        put(packet, start + 2, 0);
        let sum = if v4 {
            seal_v4(packet);
            Sum::default()
        } else {
            pseudo(packet, 58, packet.len() - start)
        };
        let checksum = sum.with(&packet[start..]).complement();
        packet[start + 2..start + 4].copy_from_slice(&checksum);
    }

    #[test]
    fn a_request_has_the_size_asked_for_and_right_checksums() {
        for family in [4, 6] {
            let echo = echo(family);
            for size in [echo.least(), 576, 1280, 1421, 9000] {
                let packet = request(&echo, size);
                assert_eq!(packet.len(), usize::from(size));
                let layout = Layout::read(&packet).unwrap();
                assert_eq!((layout.total, layout.dont_fragment), (packet.len(), true));
                assert!(sums_up(&packet, layout.protocol, layout.ip_len));
            }
            assert_eq!(echo.request(0, echo.least() - 1, &mut [0; 100]), None);
            assert_eq!(echo.request(0, 101, &mut [0; 100]), None);
        }
    }

    #[test]
    fn our_reply_is_recognised_padding_aside() {
        for family in [4, 6] {
            let echo = echo(family);
            let mut reply = answer(&request(&echo, 1390));
            let expected = Some(Reply {
                sequence: 7,
                size: 1390,
            });
            assert_eq!(echo.recognise(&reply), expected);
            reply.resize(1392, 0);
            assert_eq!(echo.recognise(&reply), expected);
        }
    }

    #[test]
    fn nothing_else_is() {
        for family in [4, 6] {
            let echo = echo(family);
            let sent = request(&echo, 200);
            assert_eq!(echo.recognise(&sent), None, "the request itself");
            let reply = answer(&sent);
            let start = if family == 4 { 20 } else { 40 };
            let last_of_source = if family == 4 { 15 } else { 23 };
            for at in [
                last_of_source,
                start,
                start + 1,
                start + 4,
                start + 5,
                start + 8,
                start + 17,
            ] {
                let mut other = reply.clone();
                other[at] ^= 1;
                seal(&mut other);
                assert_eq!(echo.recognise(&other), None, "byte {at}");
            }
            let mut damaged = reply.clone();
            damaged[150] ^= 1;
            assert_eq!(echo.recognise(&damaged), None);
            assert_eq!(echo.recognise(&reply[..199]), None);
        }
    }

    #[test]
    fn a_reply_of_another_size_or_in_fragments_is_not() {
        let (v4, v6) = (echo(4), echo(6));
        let mut fragment = answer(&request(&v4, 200));
        fragment[6] = 0x20;
        seal_v4(&mut fragment);
        assert_eq!(v4.recognise(&fragment), None);
        let longer = behind_extensions(&answer(&request(&v6, 200)), &[60]);
        assert_eq!(v6.recognise(&longer), None);
    }

    #[test]
    fn families_do_not_mix() {
        let (v4, v6) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        assert_eq!(Echo::new(v4, v6, 0, 0), None);
        assert_eq!(echo(4).recognise(&answer(&request(&echo(6), 200))), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in hostile(), six: bool) {
            prop_assert_eq!(echo(if six { 6 } else { 4 }).recognise(&bytes), None);
        }

        #[test]
        fn every_request_is_recognised_when_it_comes_back(size in 58u16..9000, sequence: u16, six: bool) {
            let echo = echo(if six { 6 } else { 4 });
            let mut room = vec![0; size.into()];
            echo.request(sequence, size, &mut room).unwrap();
            prop_assert_eq!(echo.recognise(&answer(&room)), Some(Reply { sequence, size }));
        }
    }
}
