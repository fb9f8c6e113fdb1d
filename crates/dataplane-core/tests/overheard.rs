//! A firewall of the host drops what comes from where nobody expects it; what the device saw helps.

mod wire;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use shore_dataplane_core::plane::Source;
use wire::two_paths::{SECOND_SOCKET, path, second, two_paths};
use wire::{Wire, millis, outer, secs};

/// What node 2's device saw on its second uplink: from where, and what.
type Seen = Rc<RefCell<Vec<(SocketAddr, Vec<u8>)>>>;

/// Node 2 knows of one path only. On its second uplink a firewall lets in what answers, nothing else.
fn firewalled() -> (Wire, Seen) {
    let mut wire = two_paths();
    wire.change(1, |desired| {
        desired.peers[0].paths = vec![path(1, wire::SOCKET, outer(1))];
    });
    let seen = Seen::default();
    let (device, mut opened) = (seen.clone(), false);
    wire.loses = Box::new(move |from, to, bytes, _| {
        opened |= from == second(2) && to == second(1);
        if to == second(2) {
            device.borrow_mut().push((from, bytes.to_vec()));
        }
        to == second(2) && !opened
    });
    (wire, seen)
}

/// Shows node 2 what its device saw.
fn overhear(wire: &mut Wire, seen: &Seen) {
    for (remote, bytes) in seen.borrow_mut().drain(..) {
        let source = Source {
            socket: SECOND_SOCKET,
            remote,
        };
        let now = wire.now;
        wire.nodes[1].plane.overhear(source, &bytes, now);
    }
}

fn second_path_lives(wire: &Wire) -> bool {
    let paths = wire.counters(0).paths;
    paths
        .iter()
        .any(|path| path.id == Some(2) && path.rtt_ms.is_some())
}

fn run(wire: &mut Wire, seen: &Seen, listens: bool, time: Duration) {
    let end = wire.now + time;
    while wire.now < end {
        wire.run(millis(5));
        if listens {
            overhear(wire, seen);
        }
    }
}

#[test]
fn a_probe_that_only_the_device_saw_opens_the_firewall_for_the_next() {
    let (mut wire, seen) = firewalled();
    run(&mut wire, &seen, false, secs(20));
    assert!(!second_path_lives(&wire), "nobody listened");
    let (mut wire, seen) = firewalled();
    run(&mut wire, &seen, true, secs(20));
    assert!(second_path_lives(&wire));
}

#[test]
fn what_the_socket_brings_as_well_is_not_answered_twice() {
    let mut wire = two_paths();
    let sent = |wire: &Wire| wire.sent_bytes.get(&second(2)).copied().unwrap_or(0);
    wire.run(secs(20));
    let alone = sent(&wire);
    let mut wire = two_paths();
    let seen = Seen::default();
    let device = seen.clone();
    wire.loses = Box::new(move |from, to, bytes, _| {
        if to == second(2) {
            device.borrow_mut().push((from, bytes.to_vec()));
        }
        false
    });
    run(&mut wire, &seen, true, secs(20));
    assert_eq!(sent(&wire), alone);
}

#[test]
fn strangers_and_replays_get_no_byte() {
    let (mut wire, seen) = firewalled();
    run(&mut wire, &seen, true, secs(5));
    assert!(second_path_lives(&wire));
    let source = Source {
        socket: SECOND_SOCKET,
        remote: "192.0.2.99:7".parse().unwrap(),
    };
    // Their next probe, seen before it is sent: what was heard by the socket is old news.
    let captured: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let copy = captured.clone();
    wire.loses = Box::new(move |_, to, bytes, _| {
        if to == second(2) && bytes[0] == 0x83 {
            copy.borrow_mut().push(bytes.to_vec());
        }
        false
    });
    wire.ping_for(0, 1, millis(50), secs(2));
    let now = wire.now;
    let replays = captured.borrow().clone();
    assert!(!replays.is_empty());
    for bytes in &replays {
        wire.nodes[1].plane.overhear(source, bytes, now);
    }
    let mut forged = replays[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    wire.nodes[1].plane.overhear(source, &forged, now);
    wire.nodes[1].plane.overhear(source, &[0x83], now);
    let strangers: Rc<RefCell<usize>> = Rc::default();
    let count = strangers.clone();
    wire.loses = Box::new(move |_, to, _, _| {
        *count.borrow_mut() += usize::from(to == source.remote);
        false
    });
    wire.run(secs(1));
    assert_eq!(*strangers.borrow(), 0);
}
