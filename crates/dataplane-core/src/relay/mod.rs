//! A relay as its nodes see it (docs/protocol/relay.md): frames, places and what waits to leave.
//!
//! A peer's *place* at a relay is an address that nobody has: `100::/64` (RFC 6666) with the peer's tag as
//! its lower half, port 1, on the link as its socket. So a relayed path is a path like any other; only who
//! sends and receives datagrams knows the difference. A relay claims a sender, and no more: what came is a
//! hint until a session or a probe key opens it.
//!
//! A stream delivers everything, late if need be, which is worse than losing it. So little is given to it in
//! advance (TCP_NOTSENT_LOWAT), and what waits is bounded: probes and handshakes apart from data and
//! served first, the oldest dropped where there is no room.

pub mod binding;
pub mod frames;
pub mod queue;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use sha2::{Digest, Sha256};

pub type Tag = [u8; 8];

/// By which frames name a node.
pub fn tag_of(node_key: &[u8; 32]) -> Tag {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(b"shore tag v1\0")
        .chain_update(node_key)
        .finalize()
        .into();
    let mut tag = Tag::default();
    tag.copy_from_slice(&digest[..8]);
    tag
}

/// Where the node of this tag is, at any relay.
pub fn place_of(tag: Tag) -> SocketAddr {
    let mut octets = [0; 16];
    octets[0] = 1;
    octets[8..].copy_from_slice(&tag);
    SocketAddr::new(Ipv6Addr::from(octets).into(), PORT)
}

/// The tag of a place; None for an endpoint of the underlay.
pub fn tag_at(remote: SocketAddr) -> Option<Tag> {
    let IpAddr::V6(ip) = remote.ip() else {
        return None;
    };
    let octets = ip.octets();
    (octets[..8] == PREFIX && remote.port() == PORT)
        .then(|| octets[8..].try_into().ok())
        .flatten()
}

const PREFIX: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];
const PORT: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_the_one_of_the_vectors_and_its_place_leads_back_to_it() {
        let key = std::array::from_fn(|n| n as u8);
        let tag = tag_of(&key);
        assert_eq!(tag, [0x97, 0x2c, 0x74, 0xe0, 0x2d, 0x3e, 0x21, 0xd2]);
        let place = place_of(tag);
        assert_eq!(place.to_string(), "[100::972c:74e0:2d3e:21d2]:1");
        assert_eq!(tag_at(place), Some(tag));
    }

    #[test]
    fn an_endpoint_of_the_underlay_is_no_place() {
        for endpoint in [
            "192.0.2.1:1",
            "[2001:db8::1]:1",
            "[100::1]:2",
            "[100:1::1]:1",
        ] {
            assert_eq!(tag_at(endpoint.parse().unwrap()), None, "{endpoint}");
        }
    }
}
