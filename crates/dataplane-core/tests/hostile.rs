//! No datagram and no packet of any length or content stops a plane or its sessions.

mod wire;

use boringtun::x25519::{PublicKey, StaticSecret};
use proptest::prelude::*;
use serde_bytes::ByteArray;
use shore_dataplane_core::engine::tunn::Tunns;
use wire::{Wire, desired, inner, millis, outer, packet, peer, private, secs};

fn public(n: u8) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(private(n))).to_bytes()
}

fn established() -> Wire {
    let mut wire = Wire::new();
    let toward = peer(public(2), "10.0.0.2/32", Some(outer(2)));
    let back = peer(public(1), "10.0.0.1/32", None);
    wire.join_with(Box::new(Tunns), 1, desired(private(1), vec![toward]));
    wire.join_with(Box::new(Tunns), 2, desired(private(2), vec![back]));
    wire.ping(0, 1);
    wire.run(millis(100));
    assert_eq!(wire.nodes[0].replies.len(), 1);
    wire
}

/// Bytes that look like a message of the protocol for as long as it takes to be read.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        Just(0),
        0..200_usize,
        Just(148),
        Just(92),
        Just(64),
        Just(65_507)
    ];
    (length, 0..6_u8, any::<[u8; 32]>(), any::<u8>()).prop_map(|(length, kind, start, fill)| {
        let mut bytes = vec![fill; length];
        let shared = length.min(start.len());
        bytes[..shared].copy_from_slice(&start[..shared]);
        if let Some(header) = bytes.get_mut(..4) {
            header.copy_from_slice(&[kind, 0, 0, 0]);
        }
        bytes
    })
}

/// Prefixes, right ones and others.
fn prefixes() -> impl Strategy<Value = Vec<String>> {
    let some = prop_oneof![
        Just("10.0.0.2/32".to_owned()),
        Just("10.0.0.0/8".to_owned()),
        Just("::/0".to_owned()),
        ".{0,20}",
        "[0-9.:/a-f]{0,20}",
    ];
    proptest::collection::vec(some, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_datagram_from_anywhere_is_survived(
        hostile in proptest::collection::vec((message(), any::<bool>()), 1..40),
    ) {
        let mut wire = established();
        for (bytes, from_the_peer) in hostile {
            let source = if from_the_peer { outer(2) } else { outer(77) };
            wire.carry(source, outer(1), bytes);
        }
        wire.run(secs(1));
        let before = wire.nodes[0].replies.len();
        wire.ping(0, 1);
        wire.run(secs(1));
        prop_assert_eq!(wire.nodes[0].replies.len(), before + 1);
    }

    #[test]
    fn any_packet_from_the_tun_is_survived(
        hostile in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..40),
    ) {
        let mut wire = established();
        wire.nodes[1].echoes = false;
        for bytes in hostile {
            // What gets through arrives as it is; only its way is under test.
            let now = wire.now;
            if let Ok(peer) = wire.nodes[0].plane.route(&bytes, now) {
                wire.nodes[0].plane.stage(peer, &bytes, now);
            }
        }
        wire.nodes[1].echoes = true;
        let (from, to) = (inner(1), inner(2));
        wire.send(0, &packet(from, to, 8, 9));
        wire.run(secs(1));
        prop_assert!(wire.nodes[0].replies.iter().any(|(_, number)| *number == 9));
    }

    #[test]
    fn any_desired_state_is_taken_whole_or_refused(
        mtu in any::<u16>(),
        key in any::<Option<[u8; 32]>>(),
        family in any::<u8>(),
        peers in proptest::collection::vec(
            (0..3_u8, prefixes(), any::<u16>(), 0..3_u32, any::<u64>()),
            0..5,
        ),
    ) {
        let mut wire = established();
        let before = wire.nodes[0].plane.desired().cloned();
        let mut hostile = desired(private(1), vec![]);
        hostile.interface.private_key = key.map(ByteArray::new);
        hostile.interface.mtu = mtu;
        hostile.sockets[0].family = family;
        for (n, allowed_ips, keepalive_s, socket, renew) in peers {
            let mut other = peer(public(n), "::/0", Some(outer(n)));
            other.allowed_ips = allowed_ips;
            other.keepalive_s = keepalive_s;
            other.renew = renew;
            other.paths[0].socket = socket;
            hostile.peers.push(other);
        }
        let now = wire.now;
        let taken = wire.nodes[0].plane.apply(hostile.clone(), 0, now).is_ok();
        let after = wire.nodes[0].plane.desired().cloned();
        prop_assert_eq!(after, if taken { Some(hostile) } else { before });
        wire.ping(0, 1);
        wire.run(secs(20));
    }

    #[test]
    fn a_datagram_cut_or_changed_anywhere_is_not_taken(at in 0..128_usize, cut in any::<bool>()) {
        let mut wire = established();
        let before = wire.nodes[1].requests.len();
        wire.loses = Box::new(|_, _, bytes, _| bytes[0] == 4);
        let request = packet(inner(1), inner(2), 8, 5);
        let now = wire.now;
        let peer = wire.nodes[0].plane.route(&request, now).unwrap();
        let mut sealed = vec![0; request.len() + 32];
        let len = wire.nodes[0].plane.sealer(peer, &request, false, now).unwrap().seal(&request, &mut sealed).unwrap();
        sealed.truncate(len);
        let at = at % sealed.len();
        if cut {
            sealed.truncate(at.max(1));
        } else {
            sealed[at] ^= 0x40;
        }
        wire.mend();
        wire.carry(outer(1), outer(2), sealed);
        wire.run(millis(100));
        prop_assert_eq!(wire.nodes[1].requests.len(), before);
    }
}
