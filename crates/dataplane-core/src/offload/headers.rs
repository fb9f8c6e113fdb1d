//! Where the headers of a TCP or UDP packet are, for both families.

use super::checksum::Sum;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// Offset of the checksum in the transport header.
    pub fn checksum_at(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// Lengths in bytes; every one lies inside the packet they were read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    pub v6: bool,
    pub transport: Transport,
    /// Where the transport header starts.
    pub ip_len: usize,
    /// Where the payload starts.
    pub len: usize,
}

impl Headers {
    /// Reads the headers of a packet whose transport header starts at `ip_len`. None if anything
    /// contradicts itself.
    pub fn read(packet: &[u8], transport: Transport, ip_len: usize) -> Option<Self> {
        let v6 = match packet.first()? >> 4 {
            4 => false,
            6 => true,
            _ => return None,
        };
        let sound = if v6 {
            ip_len >= 40
        } else {
            ip_len >= 20
                && usize::from(packet[0] & 0xf) * 4 == ip_len
                && packet.get(9) == Some(&transport.number())
        };
        let len = match transport {
            Transport::Tcp => {
                let words = usize::from(packet.get(ip_len + 12)? >> 4);
                if words < 5 {
                    return None;
                }
                ip_len + words * 4
            }
            Transport::Udp => ip_len + 8,
        };
        (sound && len <= packet.len()).then_some(Self {
            v6,
            transport,
            ip_len,
            len,
        })
    }

    /// The pseudo header's sum for a transport length (header and payload).
    pub fn pseudo(&self, packet: &[u8], length: usize) -> Sum {
        let addresses = if self.v6 { 8..40 } else { 12..20 };
        Sum::default()
            .with(&packet[addresses])
            .with_word(u16::from(self.transport.number()))
            .with_word(length as u16)
    }

    /// Writes the IP header for a packet of `total` bytes; the IPv4 checksum is made anew.
    pub fn write_total(&self, packet: &mut [u8], total: usize) {
        if self.v6 {
            put(packet, 4, (total - 40) as u16);
            return;
        }
        put(packet, 2, total as u16);
        put(packet, 10, 0);
        let sum = Sum::default().with(&packet[..self.ip_len]).complement();
        packet[10..12].copy_from_slice(&sum);
    }
}

pub fn put(packet: &mut [u8], at: usize, word: u16) {
    packet[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

pub fn get(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

pub fn put_long(packet: &mut [u8], at: usize, long: u32) {
    packet[at..at + 4].copy_from_slice(&long.to_be_bytes());
}

pub fn get_long(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

pub const FIN: u8 = 0x01;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const CWR: u8 = 0x80;
/// Offset of the flags in a TCP header.
pub const FLAGS: usize = 13;
