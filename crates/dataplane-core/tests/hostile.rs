//! No datagram and no packet of any length or content stops a plane or its sessions.

mod wire;

use boringtun::x25519::{PublicKey, StaticSecret};
use proptest::prelude::*;
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_datagram_from_anywhere_is_survived(
        hostile in proptest::collection::vec((message(), any::<bool>()), 1..40),
    ) {
        let mut wire = established();
        for (bytes, from_the_peer) in hostile {
            if bytes.is_empty() {
                continue;
            }
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
