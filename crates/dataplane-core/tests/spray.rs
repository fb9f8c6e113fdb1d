//! A path by chance: a fan of sockets before a NAT that draws ports, and a spray from the other end.

mod wire;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use shore_dataplane_core::desired::{Fan, Socket, Spray};
use shore_dataplane_core::engine::model::public_key;
use shore_dataplane_core::facts::Fact;
use shore_dataplane_core::path::State;
use wire::{SOCKET, Wire, desired, millis, outer, peer, private, secs};

/// The first of the fan's sockets, of which there are so many.
const FANNED: u32 = 100;
const SOCKETS: u32 = 256;

/// What node 1's NAT shows of a socket of the fan.
fn shown(n: u32) -> SocketAddr {
    let port = 2000 + n * 241;
    SocketAddr::new(outer(1).ip(), port as u16)
}

fn fan(number: u32) -> Fan {
    Fan {
        number,
        remote: outer(2),
        hops: 2,
        sockets: (FANNED..FANNED + SOCKETS).collect(),
    }
}

fn spray(number: u32) -> Spray {
    Spray {
        number,
        socket: SOCKET,
        address: outer(1).ip(),
        first: vec![7, 8],
    }
}

/// Datagrams that node 2 sent to node 1's address since: when, and to which port.
type Sent = Rc<RefCell<Vec<(u64, u16)>>>;

/// Nodes 1 and 2 acquainted; then nothing comes in to node 2 but from where it wrote to, and nothing to node 1
/// but by the fan.
fn parted() -> (Wire, Sent) {
    let mut wire = Wire::new();
    for (n, other) in [(1, 2), (2, 1)] {
        let allowed = format!("10.0.0.{other}/32");
        let theirs = peer(public_key(&private(other)), &allowed, Some(outer(other)));
        let mut state = desired(private(n), vec![theirs]);
        state.interface.probing = true;
        state.peers[0].wanted = true;
        if n == 1 {
            state.sockets.extend((0..SOCKETS).map(|number| Socket {
                id: FANNED + number,
                family: 4,
                uplink: None,
            }));
        }
        let models = Box::new(wire.models.clone());
        wire.join_with(models, n, state);
    }
    let sockets = (0..SOCKETS).map(|number| (FANNED + number, shown(number)));
    wire.nodes[0].others.extend(sockets);
    wire.run(secs(2));
    let sent = Sent::default();
    let log = Rc::clone(&sent);
    wire.loses = Box::new(move |from, to, _, now| {
        if from == outer(2) {
            log.borrow_mut().push((now.0.as_millis() as u64, to.port()));
            return to == outer(1);
        }
        from == outer(1) || !log.borrow().iter().any(|(_, port)| *port == from.port())
    });
    wire.ping_for(0, 1, millis(50), secs(3));
    wire.ping_for(1, 0, millis(50), secs(3));
    sent.borrow_mut().clear();
    (wire, sent)
}

/// The same, where no fan is open.
fn parted_without_a_fan() -> (Wire, Sent) {
    let (mut wire, sent) = parted();
    let log = Rc::clone(&sent);
    wire.loses = Box::new(move |from, to, _, now| {
        if from == outer(2) {
            log.borrow_mut().push((now.0.as_millis() as u64, to.port()));
        }
        true
    });
    (wire, sent)
}

fn live(wire: &Wire, node: usize) -> Vec<(u32, SocketAddr)> {
    let paths = wire.counters(node).paths.into_iter();
    paths
        .filter(|path| path.state == State::Live)
        .map(|path| (path.socket, path.remote))
        .collect()
}

#[test]
fn the_first_guess_that_meets_the_fan_makes_one_path_at_both_ends() {
    let (mut wire, sent) = parted();
    wire.change(0, |desired| desired.peers[0].fan = Some(fan(1)));
    wire.run(millis(400));
    let all = wire.brief.iter().filter(|(from, ..)| *from != outer(1));
    assert_eq!(all.count(), SOCKETS as usize);
    wire.change(1, |desired| desired.peers[0].spray = Some(spray(1)));
    wire.run(secs(3));
    let here = live(&wire, 0);
    let [(socket, remote)] = here[..] else {
        panic!("{here:?}");
    };
    assert_eq!(remote, outer(2));
    assert_eq!(live(&wire, 1), [(SOCKET, shown(socket - FANNED))]);
    let learned =
        |fact: &Fact| matches!(fact, Fact::Learned { socket: told, .. } if *told == socket);
    assert!(wire.nodes[0].facts.iter().any(learned));
    let count = sent.borrow().len();
    assert!(count < 1500, "it goes on guessing: {count}");
}

#[test]
fn what_meets_another_socket_of_the_fan_is_not_answered() {
    let (mut wire, _) = parted();
    wire.change(0, |desired| desired.peers[0].fan = Some(fan(1)));
    wire.run(millis(400));
    wire.change(1, |desired| {
        let mut guesses = spray(1);
        guesses.first = vec![shown(3).port(), shown(9).port(), shown(5).port()];
        desired.peers[0].spray = Some(guesses);
    });
    wire.run(secs(2));
    assert_eq!(live(&wire, 1), [(SOCKET, shown(3))]);
    assert_eq!(live(&wire, 0), [(FANNED + 3, outer(2))]);
}

#[test]
fn a_spray_has_two_thousand_probes_at_a_thousand_a_second_and_the_named_ports_come_first() {
    let (mut wire, sent) = parted_without_a_fan();
    wire.change(1, |desired| desired.peers[0].spray = Some(spray(1)));
    wire.run(secs(1));
    let guesses = |sent: &Sent| -> Vec<u16> {
        let sent = sent.borrow();
        let ports = sent.iter().map(|(_, port)| *port);
        ports.filter(|port| *port != outer(1).port()).collect()
    };
    let first = guesses(&sent);
    assert_eq!(first[..2], [7, 8]);
    assert!((900..=1030).contains(&first.len()), "{}", first.len());
    wire.run(secs(9));
    let all = guesses(&sent);
    assert!((2046..=2048).contains(&all.len()), "{}", all.len());
}

#[test]
fn another_spray_of_the_same_peer_waits_for_ten_minutes_whatever_is_asked() {
    let (mut wire, sent) = parted_without_a_fan();
    wire.change(1, |desired| desired.peers[0].spray = Some(spray(1)));
    wire.run(secs(4));
    wire.change(1, |desired| desired.peers[0].spray = None);
    for (number, wait, again) in [(2, 1, false), (3, 300, false), (4, 300, true)] {
        wire.run(secs(wait));
        sent.borrow_mut().clear();
        wire.change(1, |desired| desired.peers[0].spray = Some(spray(number)));
        wire.run(secs(1));
        let many = sent.borrow().len() > 500;
        assert_eq!(many, again, "{number}");
    }
}

#[test]
fn a_spray_that_is_no_longer_wanted_ends() {
    let (mut wire, sent) = parted_without_a_fan();
    wire.change(1, |desired| desired.peers[0].spray = Some(spray(1)));
    wire.run(millis(200));
    wire.change(1, |desired| desired.peers[0].spray = None);
    sent.borrow_mut().clear();
    wire.run(secs(1));
    assert!(sent.borrow().len() < 20, "{}", sent.borrow().len());
}

#[test]
fn guesses_by_a_socket_that_is_not_there_and_fans_too_wide_are_refused() {
    let (mut wire, _) = parted();
    let now = wire.now;
    let node = &mut wire.nodes[1];
    let mut state = node.desired.clone();
    state.peers[0].spray = Some(Spray {
        socket: 90,
        ..spray(1)
    });
    let refused = node.plane.apply(state.clone(), 0, now).unwrap_err();
    assert_eq!(refused, "spray 1 has no socket that leads to 192.0.2.1");
    state.peers[0].spray = None;
    state.peers[0].fan = Some(fan(1));
    let refused = node.plane.apply(state.clone(), 0, now).unwrap_err();
    assert_eq!(
        refused,
        "fan 1 has a socket that does not lead to 192.0.2.2:51820"
    );
    let wide = (0..257).collect();
    state.peers[0].fan = Some(Fan {
        sockets: wide,
        ..fan(1)
    });
    let refused = node.plane.apply(state, 0, now).unwrap_err();
    assert_eq!(refused, "fan 1 has more than 256 sockets");
}
