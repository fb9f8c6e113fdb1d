//! STUN on the sockets that carry data: who is asked, and what is believed.

mod wire;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use shore_dataplane_core::desired::StunQuery;
use shore_dataplane_core::facts::{DropReason, Fact};
use shore_dataplane_core::plane::Source;
use shore_dataplane_core::time::Moment;
use wire::{SOCKET, Wire, outer, secs};

type Requests = Rc<RefCell<Vec<(Moment, Vec<u8>)>>>;

fn server() -> SocketAddr {
    "203.0.113.1:3478".parse().unwrap()
}

/// Node 1 asks a server; what it asks is kept.
fn asking(wanted: bool) -> (Wire, Requests) {
    let mut wire = Wire::pair();
    let requests = Requests::default();
    let kept = Rc::clone(&requests);
    wire.loses = Box::new(move |_, to, bytes, now| {
        if to == server() {
            kept.borrow_mut().push((now, bytes.to_vec()));
        }
        false
    });
    wire.change(0, |desired| {
        desired.peers[0].wanted = wanted;
        desired.stun = vec![StunQuery {
            socket: SOCKET,
            server: server(),
        }];
    });
    (wire, requests)
}

/// A success response that says 198.51.100.7:1234.
fn response(request: &[u8]) -> Vec<u8> {
    let mut response = vec![1, 1, 0, 12];
    response.extend(&request[4..20]);
    response.extend([0, 1, 0, 8, 0, 1, 4, 210, 198, 51, 100, 7]);
    response
}

fn hears(wire: &mut Wire, remote: SocketAddr, bytes: &[u8]) {
    let source = Source {
        socket: SOCKET,
        remote,
    };
    let now = wire.now;
    let mut out = vec![0; bytes.len()];
    wire.nodes[0].plane.receive(source, bytes, &mut out, now);
    wire.run(secs(1));
}

fn mapped(wire: &Wire) -> Vec<SocketAddr> {
    let facts = wire.nodes[0].facts.iter();
    let mapped = facts.filter_map(|fact| match fact {
        Fact::Mapped { mapped, .. } => Some(*mapped),
        _ => None,
    });
    mapped.collect()
}

#[test]
fn a_server_is_asked_every_25_seconds_while_a_peer_is_wanted() {
    let (mut wire, requests) = asking(true);
    wire.run(secs(101));
    let requests = requests.borrow();
    assert_eq!(requests.len(), 5);
    assert!(requests.iter().all(|(_, bytes)| bytes.len() == 20));
    let ids: std::collections::HashSet<_> = requests.iter().map(|(_, bytes)| &bytes[8..]).collect();
    assert_eq!(ids.len(), 5);
}

#[test]
fn nobody_is_asked_while_no_peer_is_wanted() {
    let (mut wire, requests) = asking(false);
    wire.run(secs(101));
    assert!(requests.borrow().is_empty());
}

#[test]
fn an_answer_to_what_was_asked_is_told_and_anything_else_is_counted() {
    let (mut wire, requests) = asking(true);
    wire.run(secs(1));
    let good = response(&requests.borrow()[0].1);
    hears(&mut wire, outer(2), &good);
    let mut guessed = good.clone();
    guessed[12] ^= 1;
    hears(&mut wire, server(), &guessed);
    hears(&mut wire, server(), &good[..30]);
    assert_eq!(mapped(&wire), []);
    hears(&mut wire, server(), &good);
    hears(&mut wire, server(), &good);
    assert_eq!(mapped(&wire), ["198.51.100.7:1234".parse().unwrap()]);
    let drops = wire.nodes[0].plane.drops();
    assert_eq!(drops.get(&DropReason::StrayStun), Some(&4));
}

#[test]
fn a_server_that_no_socket_leads_to_is_refused() {
    let (mut wire, _) = asking(true);
    let mut state = wire.nodes[0].desired.clone();
    state.stun[0].server = "[2001:db8::1]:3478".parse().unwrap();
    let now = wire.now;
    let refused = wire.nodes[0].plane.apply(state, 0, now).unwrap_err();
    assert_eq!(
        refused,
        "the STUN server [2001:db8::1]:3478 has no socket that leads to it"
    );
}
