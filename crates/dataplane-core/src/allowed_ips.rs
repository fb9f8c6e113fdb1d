//! Cryptokey routing: which peer owns an inner address.
//!
//! One table holds the prefixes of all peers, so that the longest prefix decides, whoever owns it:
//! nested prefixes at different peers are legal, and a packet's source must lead to the very peer that
//! sealed it. The table is never changed, only replaced, so a prefix moves between peers at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ip_network::IpNetwork;
use ip_network_table::IpNetworkTable;

use crate::plane::PeerSlot;

pub struct AllowedIps {
    table: IpNetworkTable<PeerSlot>,
}

impl AllowedIps {
    pub fn empty() -> Self {
        Self {
            table: IpNetworkTable::new(),
        }
    }

    /// Fails when two peers claim the same prefix.
    pub fn new(claims: impl Iterator<Item = (IpNetwork, PeerSlot)>) -> Result<Self, String> {
        let mut table = IpNetworkTable::new();
        for (prefix, slot) in claims {
            if table
                .insert(prefix, slot)
                .is_some_and(|other| other != slot)
            {
                return Err(format!("two peers claim the prefix {prefix}"));
            }
        }
        Ok(Self { table })
    }

    pub fn owner(&self, address: IpAddr) -> Option<PeerSlot> {
        self.table.longest_match(address).map(|(_, slot)| *slot)
    }
}

/// `10.0.0.0/24`, `fd00::/64` or a bare address. Bits beyond the prefix are ignored.
pub fn prefix(text: &str) -> Result<IpNetwork, String> {
    let wrong = || format!("\"{text}\" is not a prefix such as 10.0.0.0/24");
    let (address, bits) = text
        .split_once('/')
        .map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(whole), str::parse).map_err(|_| wrong())?;
    IpNetwork::new_truncate(address, bits).map_err(|_| wrong())
}

/// Source and destination of an inner packet, if its header and length make sense.
pub fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<20>()?;
            Some((v4(&header[12..16])?, v4(&header[16..20])?))
        }
        6 => {
            let header = packet.first_chunk::<40>()?;
            Some((v6(&header[8..24])?, v6(&header[24..40])?))
        }
        _ => None,
    }
}

fn v4(octets: &[u8]) -> Option<IpAddr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into())
}

fn v6(octets: &[u8]) -> Option<IpAddr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(claims: &[(&str, u32)]) -> Result<AllowedIps, String> {
        AllowedIps::new(
            claims
                .iter()
                .map(|(text, slot)| (prefix(text).unwrap(), PeerSlot(*slot))),
        )
    }

    #[test]
    fn the_longest_prefix_decides_whoever_owns_it() {
        let table = table(&[
            ("10.0.0.0/8", 0),
            ("10.1.0.0/16", 1),
            ("10.1.2.3", 0),
            ("::/0", 2),
        ])
        .unwrap();
        let owner = |text: &str| table.owner(text.parse().unwrap());
        assert_eq!(owner("10.2.0.1"), Some(PeerSlot(0)));
        assert_eq!(owner("10.1.0.1"), Some(PeerSlot(1)));
        assert_eq!(owner("10.1.2.3"), Some(PeerSlot(0)));
        assert_eq!(owner("fd00::1"), Some(PeerSlot(2)));
        assert_eq!(owner("192.0.2.1"), None);
    }

    #[test]
    fn one_prefix_has_one_owner() {
        assert!(table(&[("10.0.0.0/24", 0), ("10.0.0.9/24", 1)]).is_err());
        assert!(table(&[("10.0.0.0/24", 0), ("10.0.0.0/24", 0)]).is_ok());
    }

    #[test]
    fn what_is_no_prefix_is_named() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "fd00::/129",
            "10.0.0.0/-1",
            "host/32",
        ] {
            assert!(prefix(text).unwrap_err().contains(text));
        }
    }
}
