//! How long a mapping lives that nobody uses, asked of a peer by echoes that it holds.

mod wire;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use shore_dataplane_core::desired::{Socket, Trial};
use shore_dataplane_core::engine::model::public_key;
use shore_dataplane_core::facts::Fact;
use shore_dataplane_core::time::Moment;
use wire::{Wire, desired, millis, outer, peer, private, secs};

/// The first of the sockets that are for trials.
const TRIAL_SOCKET: u32 = 7;

fn apart(n: u32) -> SocketAddr {
    format!("192.0.2.1:{}", 60_000 + n).parse().unwrap()
}

/// Nodes 1 and 2 acquainted; node 1 has six sockets for trials.
fn acquainted() -> Wire {
    let mut wire = Wire::new();
    for (n, other, endpoint) in [(1, 2, Some(outer(2))), (2, 1, None)] {
        let allowed = format!("10.0.0.{other}/32");
        let theirs = peer(public_key(&private(other)), &allowed, endpoint);
        let mut state = desired(private(n), vec![theirs]);
        state.interface.probing = true;
        state.peers[0].wanted = n == 1;
        if n == 1 {
            state.sockets.extend((0..6).map(|number| Socket {
                id: TRIAL_SOCKET + number,
                family: 4,
                uplink: None,
            }));
        }
        let models = Box::new(wire.models.clone());
        wire.join_with(models, n, state);
    }
    let sockets = (0..6).map(|number| (TRIAL_SOCKET + number, apart(number)));
    wire.nodes[0].others.extend(sockets);
    wire.run(secs(1));
    wire
}

fn trial(number: u32, socket: u32, hold_s: u16) -> Trial {
    Trial {
        number,
        socket: TRIAL_SOCKET + socket,
        remote: outer(2),
        hold_s,
    }
}

fn wants(wire: &mut Wire, trials: Vec<Trial>) {
    wire.change(0, |desired| desired.peers[0].trials = trials);
}

fn echoed(wire: &Wire) -> Vec<(u32, u64)> {
    let facts = wire.nodes[0].facts.iter();
    let echoed = facts.filter_map(|fact| match fact {
        Fact::TrialEchoed { number, held_s, .. } => Some((*number, held_s.round() as u64)),
        _ => None,
    });
    echoed.collect()
}

/// A NAT before node 1 that forgets a mapping after so long without a datagram from inside.
fn forgets_after(wire: &mut Wire, seconds: u64) {
    let mut seen: Vec<(SocketAddr, Moment)> = Vec::new();
    wire.loses = Box::new(move |from, to, _, now| {
        if from.ip() == outer(1).ip() {
            seen.retain(|(address, _)| *address != from);
            seen.push((from, now));
            return false;
        }
        let mapping = seen.iter().find(|(address, _)| *address == to);
        mapping.is_none_or(|(_, at)| now.since(*at) > secs(seconds))
    });
}

#[test]
fn an_echo_is_held_for_as_long_as_asked_and_asked_for_once() {
    let mut wire = acquainted();
    wants(&mut wire, vec![trial(1, 0, 0), trial(2, 1, 30)]);
    wire.run(secs(1));
    assert_eq!(echoed(&wire), [(1, 0)]);
    wire.run(secs(28));
    assert_eq!(echoed(&wire), [(1, 0)]);
    wire.run(secs(3));
    assert_eq!(echoed(&wire), [(1, 0), (2, 30)]);
    wire.run(secs(60));
    assert_eq!(echoed(&wire).len(), 2);
}

#[test]
fn an_echo_comes_while_the_nat_remembers_and_not_after() {
    let mut wire = acquainted();
    forgets_after(&mut wire, 20);
    wants(&mut wire, vec![trial(1, 0, 19), trial(2, 1, 21)]);
    wire.run(secs(30));
    assert_eq!(echoed(&wire), [(1, 19)]);
}

#[test]
fn a_trial_is_of_no_path() {
    let mut wire = acquainted();
    let (sent, seen) = (Rc::new(RefCell::new(0)), apart(0));
    let count = Rc::clone(&sent);
    wire.loses = Box::new(move |_, to, _, _| {
        *count.borrow_mut() += u32::from(to == seen);
        false
    });
    wants(&mut wire, vec![trial(1, 0, 0)]);
    wire.run(secs(120));
    assert_eq!(*sent.borrow(), 1);
    assert!(
        !wire.nodes[1]
            .facts
            .iter()
            .any(|fact| matches!(fact, Fact::Learned { remote, .. } if *remote == seen))
    );
    assert!(
        wire.counters(1)
            .paths
            .iter()
            .all(|path| path.remote != seen)
    );
}

#[test]
fn what_is_not_held_is_answered_at_once_and_says_so() {
    let mut wire = acquainted();
    let trials = (0..6).map(|number| trial(number, number, 40)).collect();
    wants(&mut wire, trials);
    wire.run(secs(5));
    assert_eq!(echoed(&wire), [(4, 0), (5, 0)]);
    wire.run(secs(40));
    assert_eq!(echoed(&wire).len(), 6);
    wants(&mut wire, vec![trial(9, 0, 3600)]);
    wire.run(secs(605));
    assert_eq!(echoed(&wire).last(), Some(&(9, 600)));
}

#[test]
fn a_new_trial_from_a_place_takes_the_place_of_the_old_one() {
    let mut wire = acquainted();
    wants(&mut wire, vec![trial(1, 0, 20)]);
    wire.run(secs(5));
    wants(&mut wire, vec![trial(1, 0, 20), trial(2, 0, 10)]);
    wire.run(secs(60));
    assert_eq!(echoed(&wire), [(2, 10)]);
}

#[test]
fn a_trial_by_a_socket_that_is_not_there_is_refused() {
    let mut wire = acquainted();
    let mut state = wire.nodes[0].desired.clone();
    state.peers[0].trials = vec![trial(1, 90, 20)];
    let now = wire.now;
    let refused = wire.nodes[0].plane.apply(state, 0, now).unwrap_err();
    assert_eq!(
        refused,
        "trial 1 has no socket that leads to 192.0.2.2:51820"
    );
}

#[test]
fn a_quiet_path_hears_from_us_as_often_as_it_needs() {
    for quiet_s in [5, 15, 90] {
        let mut wire = acquainted();
        wire.change(0, |desired| desired.peers[0].paths[0].quiet_s = quiet_s);
        wire.change(1, |desired| desired.peers[0].paths.clear());
        wire.run(secs(100));
        let gaps = Rc::new(RefCell::new((wire.now, millis(0))));
        let longest = Rc::clone(&gaps);
        wire.loses = Box::new(move |from, _, _, now| {
            let mut gaps = longest.borrow_mut();
            if from == outer(1) {
                *gaps = (now, gaps.1.max(now.since(gaps.0)));
            }
            false
        });
        wire.run(secs(900));
        let longest = gaps.borrow().1;
        assert!(
            longest <= secs(u64::from(quiet_s)) + millis(300),
            "{longest:?}"
        );
    }
}
