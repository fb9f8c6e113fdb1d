//! Two planes on BoringTun itself, in real time: that messages and keys fit.

mod wire;

use std::cell::RefCell;
use std::rc::Rc;

use boringtun::x25519::{PublicKey, StaticSecret};
use serde_bytes::ByteArray;
use shore_dataplane_core::desired::DesiredState;
use shore_dataplane_core::engine::tunn::Tunns;
use shore_dataplane_core::facts::DropReason;
use shore_dataplane_core::plane::{Received, Source};
use wire::{Wire, desired, millis, outer, packet, peer, private, secs};

fn public(n: u8) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(private(n))).to_bytes()
}

fn pair(change: impl Fn(&mut DesiredState)) -> Wire {
    let mut wire = Wire::new();
    let mut one = desired(
        private(1),
        vec![peer(public(2), "10.0.0.2/32", Some(outer(2)))],
    );
    let mut two = desired(private(2), vec![peer(public(1), "10.0.0.1/32", None)]);
    change(&mut one);
    change(&mut two);
    wire.join_with(Box::new(Tunns), 1, one);
    wire.join_with(Box::new(Tunns), 2, two);
    wire
}

#[test]
fn the_first_packet_waits_for_the_handshake_and_arrives() {
    let mut wire = pair(|_| {});
    wire.ping(0, 1);
    wire.run(secs(1));
    assert_eq!(wire.nodes[0].replies.len(), 1);
    assert_eq!(wire.initiations_of(0), 1);
    assert_eq!(wire.initiations_of(1), 0);
    assert!(wire.counters(0).connected && wire.counters(1).connected);
}

#[test]
fn a_preshared_key_must_be_the_same_on_both_sides() {
    let mut wire = pair(|desired| desired.peers[0].preshared_key = Some(ByteArray::new([9; 32])));
    wire.ping(0, 1);
    wire.run(secs(1));
    assert_eq!(wire.nodes[0].replies.len(), 1);

    let mut wire = pair(|desired| {
        let own = desired.interface.private_key.unwrap()[0];
        desired.peers[0].preshared_key = Some(ByteArray::new([own; 32]));
    });
    wire.ping(0, 1);
    wire.run(secs(1));
    assert_eq!(wire.nodes[0].replies.len(), 0);
}

#[test]
fn a_changed_preshared_key_loses_nothing() {
    let mut wire = pair(|_| {});
    assert_eq!(wire.ping_for(0, 1, secs(1), secs(2)), (2, 2));
    for node in [0, 1] {
        wire.change(node, |desired| {
            desired.peers[0].preshared_key = Some(ByteArray::new([7; 32]))
        });
    }
    assert_eq!(wire.ping_for(0, 1, secs(1), secs(3)), (3, 3));
    assert!(wire.counters(0).handshakes >= 2);
}

#[test]
fn a_source_that_belongs_to_somebody_else_is_dropped() {
    let mut wire = pair(|_| {});
    wire.ping(0, 1);
    wire.run(secs(1));
    wire.send(0, &packet([10, 0, 0, 9].into(), [10, 0, 0, 2].into(), 8, 1));
    wire.run(secs(1));
    assert_eq!(wire.nodes[1].requests.len(), 1);
    assert_eq!(
        wire.counters(1).drops.get(&DropReason::WrongSource),
        Some(&1)
    );
}

#[test]
fn only_what_the_peer_made_proves_where_it_is() {
    let mut wire = pair(|_| {});
    let seen = Rc::new(RefCell::new(Vec::new()));
    let record = seen.clone();
    wire.loses = Box::new(move |_, _, bytes, _| {
        record.borrow_mut().push(bytes.to_vec());
        true
    });
    wire.ping(0, 1);
    wire.run(millis(20));
    let initiation = seen.borrow_mut().remove(0);
    let (source, now) = (
        Source {
            socket: 1,
            remote: outer(1),
        },
        wire.now,
    );
    let mut tell = |bytes: &[u8]| {
        wire.nodes[1]
            .plane
            .receive(source, bytes, &mut [0; 256], now)
    };
    assert_eq!(tell(&[1; 148]), Received::Nothing);
    assert_eq!(tell(&initiation), Received::Proof);
    let mut forged = initiation.clone();
    forged[60] ^= 1;
    assert_eq!(tell(&forged), Received::Nothing);
}
