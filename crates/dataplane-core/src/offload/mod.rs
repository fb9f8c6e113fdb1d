//! Segmentation offload: one large packet at the TUN, many at the wire, and back.
//!
//! Between a TUN with IFF_VNET_HDR and the kernel each packet has a header of virtio-net in front. It
//! may name a *super-packet*, whose payload is many segments of one flow, and it may leave the
//! transport checksum to us (NEEDS_CSUM: the field holds the sum of the pseudo header, folded and not
//! complemented). `split` makes the segments of a super-packet in place; `coalesce` joins what came
//! out of the network into super-packets. Both follow virtio 1.2 §5.1.6 and what Linux does: PSH and
//! FIN belong to the last segment, CWR to the first, the IPv4 identification counts up.

pub mod checksum;
pub mod coalesce;
pub mod headers;
pub mod split;

/// `struct virtio_net_hdr`, 10 bytes in native byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    pub flags: u8,
    pub gso_type: u8,
    pub hdr_len: u16,
    pub gso_size: u16,
    pub csum_start: u16,
    pub csum_offset: u16,
}

impl VnetHeader {
    pub const LEN: usize = 10;

    /// Whether the packet is many segments in one.
    pub fn is_super_packet(&self) -> bool {
        self.gso_type & !GSO_ECN != GSO_NONE
    }

    pub fn read(bytes: &[u8; Self::LEN]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }

    pub fn bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        bytes[2..4].copy_from_slice(&self.hdr_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.csum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.csum_offset.to_ne_bytes());
        bytes
    }
}

pub const NEEDS_CSUM: u8 = 1;
pub const GSO_NONE: u8 = 0;
pub const GSO_TCPV4: u8 = 1;
pub const GSO_TCPV6: u8 = 4;
pub const GSO_UDP_L4: u8 = 5;
/// Beside any GSO type: the flow uses ECN.
pub const GSO_ECN: u8 = 0x80;
