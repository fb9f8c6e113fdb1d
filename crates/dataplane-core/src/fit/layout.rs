//! Where the parts of an inner packet are, for whoever makes it fit.
//!
//! A packet may be followed by WireGuard's padding, so its length is what its own header says. IPv6
//! extension headers are walked up to the first one that names a payload; after a fragment header of
//! a later fragment there is no transport header, only bytes of one.

use super::read;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub v6: bool,
    /// Of the packet, without padding; never more than there are bytes.
    pub total: usize,
    /// Of the IPv4 header with options, or of the IPv6 header with its extensions.
    pub ip_len: usize,
    /// What follows the IP headers.
    pub protocol: u8,
    pub dont_fragment: bool,
    /// Payload bytes of the original packet before this fragment's.
    pub offset: usize,
    pub more_fragments: bool,
}

impl Layout {
    /// None if the headers contradict themselves or the length.
    pub fn read(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::read_v4(packet),
            6 => Self::read_v6(packet),
            _ => None,
        }
    }

    pub fn is_fragment(&self) -> bool {
        self.offset > 0 || self.more_fragments
    }

    /// The family's least header, which is what MSS arithmetic goes by (RFC 6691).
    pub fn fixed_len(&self) -> usize {
        if self.v6 { V6_LEN } else { V4_LEN }
    }

    fn read_v4(packet: &[u8]) -> Option<Self> {
        let ip_len = usize::from(packet[0] & 0xf) * 4;
        let total = usize::from(read(packet, 2)?);
        let word = read(packet, 6)?;
        let sound = ip_len >= V4_LEN && ip_len <= total && total <= packet.len();
        sound.then_some(Self {
            v6: false,
            total,
            ip_len,
            protocol: *packet.get(9)?,
            dont_fragment: word & DONT_FRAGMENT != 0,
            offset: usize::from(word & OFFSET) * 8,
            more_fragments: word & MORE_FRAGMENTS != 0,
        })
    }

    fn read_v6(packet: &[u8]) -> Option<Self> {
        let total = V6_LEN + usize::from(read(packet, 4)?);
        let packet = packet.get(..total)?;
        let mut layout = Self {
            v6: true,
            total,
            ip_len: V6_LEN,
            protocol: packet[6],
            dont_fragment: true,
            offset: 0,
            more_fragments: false,
        };
        for _ in 0..MOST_EXTENSIONS {
            let at = layout.ip_len;
            let len = match layout.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION => 8 + usize::from(*packet.get(at + 1)?) * 8,
                FRAGMENT => {
                    let word = read(packet, at + 2)?;
                    layout.offset = usize::from(word & !7);
                    layout.more_fragments = word & 1 != 0;
                    8
                }
                _ => return Some(layout),
            };
            layout.protocol = *packet.get(at)?;
            layout.ip_len = at + len;
            if layout.ip_len > total {
                return None;
            }
            if layout.offset > 0 {
                return Some(layout);
            }
        }
        None
    }
}

pub const V4_LEN: usize = 20;
pub const V6_LEN: usize = 40;
pub const DONT_FRAGMENT: u16 = 0x4000;
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// In units of 8 bytes.
pub const OFFSET: u16 = 0x1fff;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// RFC 8200 §4.1 names each header once, destination options twice.
const MOST_EXTENSIONS: usize = 8;

#[cfg(test)]
mod tests {
    use super::super::samples::{behind_extensions, tcp, udp};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn padding_is_not_part_of_the_packet() {
        let mut packet = udp(4, 100);
        packet.resize(packet.len() + 13, 0);
        assert_eq!(Layout::read(&packet).unwrap().total, 128);
    }

    #[test]
    fn extension_headers_are_walked() {
        let packet = behind_extensions(&tcp(6, 0x02, &[], 0), &[HOP_BY_HOP, DESTINATION]);
        let layout = Layout::read(&packet).unwrap();
        assert_eq!((layout.protocol, layout.ip_len), (6, 40 + 16));
    }

    #[test]
    fn a_later_fragment_has_no_transport_header() {
        let mut packet = behind_extensions(&udp(6, 64), &[FRAGMENT]);
        packet[42..44].copy_from_slice(&0x0081_u16.to_be_bytes());
        let layout = Layout::read(&packet).unwrap();
        assert_eq!((layout.offset, layout.more_fragments), (128, true));
        assert!(layout.is_fragment());
    }

    #[test]
    fn a_packet_shorter_than_its_header_says_is_none() {
        let packet = udp(4, 100);
        assert_eq!(Layout::read(&packet[..127]), None);
        assert_eq!(Layout::read(&udp(6, 100)[..100]), None);
        assert_eq!(Layout::read(&[0x40, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_in_bounds(bytes in super::super::samples::hostile()) {
            if let Some(layout) = Layout::read(&bytes) {
                prop_assert!(layout.ip_len <= layout.total && layout.total <= bytes.len());
            }
        }
    }
}
