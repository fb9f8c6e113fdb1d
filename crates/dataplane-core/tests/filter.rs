//! A plane with a filter: what it lets through of what peers send, and what it counts.

mod wire;

use shore_dataplane_core::desired::{DesiredState, Named, Ports, Protocol, Rule};
use shore_dataplane_core::engine::model::public_key;
use shore_dataplane_core::facts::DropReason;
use shore_dataplane_core::filter::{Filter, Rules};
use shore_dataplane_core::fit::pieces::Cutter;
use shore_dataplane_core::time::Moment;
use wire::{Wire, desired, inner, millis, outer, peer, private, secs};

const ICMP: u8 = 1;
const UDP: u8 = 17;

fn allow(sources: &str, destinations: &str, protocol: Named) -> Rule {
    Rule {
        sources: vec![sources.into()],
        destinations: vec![destinations.into()],
        ports: vec![Ports {
            protocol: Some(Protocol::Named(protocol)),
            first: 0,
            last: 65535,
        }],
    }
}

/// Two nodes that pinged once; the second has these rules.
fn pair_with(rules: Vec<Rule>) -> Wire {
    let mut wire = Wire::pair();
    wire.change(1, |desired| desired.filter = Some(rules));
    wire.send(0, &packet(0, 1, ICMP, 8));
    wire.run(millis(100));
    wire
}

/// An IPv4 packet between nodes: `kind` is the first byte of its transport.
fn packet(from: usize, to: usize, protocol: u8, kind: u8) -> Vec<u8> {
    let mut packet = wire::packet(inner(from as u8 + 1), inner(to as u8 + 1), kind, 7);
    packet[9] = protocol;
    packet
}

fn filtered(wire: &Wire, node: usize) -> u64 {
    let drops = wire.counters(node).drops;
    drops
        .get(&DropReason::Filtered)
        .copied()
        .unwrap_or_default()
}

#[test]
fn no_rules_let_nothing_in_and_each_drop_is_counted_at_its_peer() {
    let mut wire = pair_with(Vec::new());
    assert_eq!((wire.nodes[1].requests.len(), filtered(&wire, 1)), (0, 1));
    wire.send(0, &packet(0, 1, ICMP, 8));
    wire.run(millis(100));
    assert_eq!((wire.nodes[1].requests.len(), filtered(&wire, 1)), (0, 2));
    assert!(
        wire.counters(1).connected,
        "the session is none of its business"
    );
}

#[test]
fn a_rule_lets_in_what_it_names_and_the_answer_needs_none() {
    let mut wire = pair_with(vec![allow("10.0.0.1/32", "10.0.0.2/32", Named::Icmp)]);
    assert_eq!((wire.nodes[1].requests.len(), filtered(&wire, 1)), (1, 0));
    wire.change(0, |desired| desired.filter = Some(Vec::new()));
    wire.send(0, &packet(0, 1, ICMP, 8));
    wire.run(millis(100));
    assert_eq!((wire.nodes[0].replies.len(), filtered(&wire, 0)), (2, 0));
}

#[test]
fn new_rules_are_in_force_at_once_and_the_same_rules_forget_nothing() {
    let mut wire = pair_with(Vec::new());
    wire.nodes[0].echoes = false;
    wire.send(1, &packet(1, 0, UDP, 9));
    wire.run(millis(100));
    wire.change(1, |desired| desired.peers[0].wanted = true);
    let mut answer = packet(0, 1, UDP, 0);
    answer[20..24].copy_from_slice(&[0, 0, 9, 0]);
    wire.send(0, &answer);
    wire.run(millis(100));
    assert_eq!(wire.nodes[1].replies.len(), 1, "the flow is ours");
    wire.change(1, |desired| desired.filter = None);
    wire.send(0, &packet(0, 1, ICMP, 8));
    wire.run(secs(1));
    assert_eq!(wire.nodes[1].requests.len(), 1);
}

#[test]
fn a_rule_that_is_none_is_refused_and_the_last_ones_stay() {
    let mut wire = pair_with(Vec::new());
    let wrong = DesiredState {
        filter: Some(vec![allow("10.0.0.1/40", "10.0.0.2/32", Named::Icmp)]),
        ..wire.nodes[1].desired.clone()
    };
    let now = wire.now;
    let refused = wire.nodes[1].plane.apply(wrong, 0, now);
    assert!(refused.unwrap_err().contains("10.0.0.1/40"));
    wire.send(0, &packet(0, 1, ICMP, 8));
    wire.run(millis(100));
    assert_eq!(wire.nodes[1].requests.len(), 0);
}

/// Two Shore nodes that know each other.
fn shore_pair() -> Wire {
    let mut wire = Wire::new();
    for (n, other) in [(1, 2), (2, 1)] {
        let allowed = format!("10.0.0.{other}/32");
        let peer = peer(public_key(&private(other)), &allowed, Some(outer(other)));
        let mut state = desired(private(n), vec![peer]);
        state.interface.probing = true;
        state.peers[0].wanted = true;
        let models = Box::new(wire.models.clone());
        wire.join_with(models, n, state);
    }
    wire.run(secs(3));
    assert!(wire.counters(1).probed);
    wire
}

/// Each piece as a data message of its own.
fn send_in_pieces(wire: &mut Wire, packet: &[u8]) {
    let now = wire.now;
    let plane = &mut wire.nodes[0].plane;
    let slot = plane.route(packet, now).unwrap();
    let to = plane
        .sealer(slot, packet, false, now)
        .unwrap()
        .destination();
    let (mut pieces, mut room) = (Vec::new(), [0; 80]);
    Cutter::new(1)
        .cut(packet, 80, &mut room, |piece| pieces.push(piece.to_vec()))
        .unwrap();
    assert_eq!(pieces.len(), 2);
    for piece in pieces {
        let mut out = vec![0; piece.len() + 32];
        let sealer = wire.nodes[0].plane.sealer(slot, packet, false, now);
        sealer.unwrap().seal(&piece, &mut out).unwrap();
        wire.carry(outer(1), to.remote, out);
    }
    wire.run(millis(100));
}

#[test]
fn a_packet_in_pieces_is_judged_when_it_is_whole() {
    let mut wire = shore_pair();
    wire.change(1, |desired| desired.filter = Some(Vec::new()));
    send_in_pieces(&mut wire, &packet(0, 1, ICMP, 8));
    assert_eq!((wire.nodes[1].requests.len(), filtered(&wire, 1)), (0, 1));
    let ping = allow("10.0.0.1/32", "10.0.0.2/32", Named::Icmp);
    wire.change(1, |desired| desired.filter = Some(vec![ping]));
    send_in_pieces(&mut wire, &packet(0, 1, ICMP, 8));
    assert_eq!((wire.nodes[1].requests.len(), filtered(&wire, 1)), (1, 1));
}

/// What a packet costs, in nanoseconds, with a thousand rules of a thousand sources each.
/// `cargo test --release -p shore-dataplane-core --test filter -- --ignored --nocapture`
#[test]
#[ignore = "times; run alone, in a release build"]
#[allow(clippy::disallowed_methods)]
fn established_tcp_costs_a_look_at_its_flags() {
    let sources: Vec<String> = (0..1000)
        .map(|n| format!("100.64.{}.{}/32", n / 100, n % 100 * 2))
        .collect();
    let rules: Vec<Rule> = (0..1000)
        .map(|_| Rule {
            sources: sources.clone(),
            ..allow("10.0.0.1/32", "10.0.0.2/32", Named::Tcp)
        })
        .collect();
    let began = std::time::Instant::now();
    let mut filter = Filter::new(Rules::new(&rules).unwrap());
    println!("compiling: {:?}", began.elapsed());
    let now = Moment::from_millis(1000);
    let mut cost = |name: &str, packet: &[u8], admitted: bool| {
        let began = std::time::Instant::now();
        for _ in 0..ROUNDS {
            assert_eq!(filter.admits(std::hint::black_box(packet), now), admitted);
        }
        let nanos = began.elapsed().as_nanos() as f64 / f64::from(ROUNDS);
        println!("{name}: {nanos:.1} ns");
        nanos
    };
    let mut segment = packet(0, 1, 6, 0);
    segment[33] = 0x10;
    let established = cost("established TCP", &segment, true);
    segment[33] = 0x02;
    let syn = cost("a SYN that no rule lets in", &segment, false);
    cost("UDP that no rule lets in", &packet(0, 1, UDP, 0), false);
    assert!(established < 20.0 && syn > established);
    let datagram = packet(1, 0, UDP, 0);
    filter.sent(&datagram, now);
    let mut answer = packet(0, 1, UDP, 0);
    answer[20..24].copy_from_slice(&[0, 0, 0, 0]);
    let began = std::time::Instant::now();
    for _ in 0..ROUNDS {
        filter.sent(std::hint::black_box(&datagram), now);
        assert!(filter.admits(std::hint::black_box(&answer), now));
    }
    let nanos = began.elapsed().as_nanos() as f64 / f64::from(ROUNDS);
    println!("UDP, a question and its answer: {nanos:.1} ns");
    assert!(nanos < 500.0);
}

const ROUNDS: u32 = 200_000;
