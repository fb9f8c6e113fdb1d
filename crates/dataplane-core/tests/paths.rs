//! Two Shore nodes with two paths between them, on virtual time: greetings, probes, switches.

mod wire;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use shore_dataplane_core::desired::Redundancy;
use shore_dataplane_core::facts::{DropReason, Fact};
use shore_dataplane_core::path::{Cause, State};
use shore_dataplane_core::probe::message::{Candidate, CandidateKind};
use wire::two_paths::{path, second, two_paths};
use wire::{SOCKET, Wire, inner, millis, outer, packet, secs};

/// Drops what an uplink sends or receives.
fn cut(wire: &mut Wire, lost: fn(SocketAddr) -> bool) {
    wire.loses = Box::new(move |from, to, _, _| lost(from) || lost(to));
}

fn is_first(address: SocketAddr) -> bool {
    [outer(1), outer(2)].contains(&address)
}

fn is_second(address: SocketAddr) -> bool {
    [second(1), second(2)].contains(&address)
}

fn switches(wire: &Wire, node: usize) -> Vec<(SocketAddr, Cause)> {
    let facts = wire.nodes[node].facts.iter();
    let roamed = facts.filter_map(|fact| match fact {
        Fact::Roamed { remote, cause, .. } => Some((*remote, *cause)),
        _ => None,
    });
    roamed.collect()
}

#[test]
fn nodes_greet_and_every_path_is_proved_within_a_second() {
    let mut wire = two_paths();
    wire.run(secs(1));
    for node in [0, 1] {
        let counters = wire.counters(node);
        assert!(counters.probed);
        for path in &counters.paths {
            assert_eq!(path.state, State::Live, "{path:?}");
            assert!((19.0..26.0).contains(&path.rtt_ms.unwrap()), "{path:?}");
        }
        assert_eq!(counters.paths[0].observed, Some(outer(1 + node as u8)));
        assert_eq!(counters.switches, 0);
    }
}

#[test]
fn counters_are_told_where_something_but_an_age_has_changed() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(5));
    wire.run(secs(60));
    let plane = &mut wire.nodes[0].plane;
    assert_eq!(plane.tell_counters(true, wire.now).len(), 1);
    assert_eq!(plane.tell_counters(true, wire.now + secs(3)), []);
    assert_eq!(plane.tell_counters(false, wire.now + secs(3)).len(), 1);
    wire.ping(0, 1);
    wire.run(secs(1));
    let plane = &mut wire.nodes[0].plane;
    assert_eq!(plane.tell_counters(true, wire.now).len(), 1);
    assert_eq!(plane.tell_counters(true, wire.now), []);
    // It is called connected no more, though nothing came or went.
    cut(&mut wire, |_| true);
    wire.run(secs(120));
    let told = wire.nodes[0].plane.tell_counters(true, wire.now);
    assert!(!told[0].connected);
}

#[test]
fn a_quiet_plane_wakes_for_probes_and_four_times_a_second() {
    let mut wire = two_paths();
    wire.run(secs(60));
    let mut wakes = 0;
    let start = wire.now;
    while wire.now.since(start) < secs(60) {
        let next = wire.nodes[0].plane.deadline();
        wakes += usize::from(next <= wire.now + millis(5));
        wire.run(millis(5));
    }
    assert!((230..270).contains(&wakes), "{wakes}");
}

#[test]
fn plain_wireguard_is_greeted_and_left_in_peace() {
    let mut wire = two_paths();
    wire.change(1, |desired| desired.interface.probing = false);
    wire.restart(1);
    let (sent, answered) = wire.ping_for(0, 1, millis(100), secs(20));
    assert!(answered >= sent - 5, "{answered} of {sent}");
    assert!(!wire.counters(0).probed);
}

#[test]
fn a_dead_path_costs_half_a_second_of_pings_and_no_more() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(5));
    cut(&mut wire, is_first);
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(10));
    assert!(sent - answered <= 8, "{} lost", sent - answered);
    for node in [0, 1] {
        let switches = switches(&wire, node);
        assert_eq!(switches.len(), 1);
        assert_eq!(switches[0].0, second(2 - node as u8));
    }
}

#[test]
fn a_path_that_died_at_any_moment_of_a_quiet_time_costs_no_ping() {
    for quiet in 0..20 {
        let mut wire = two_paths();
        wire.ping_for(0, 1, millis(50), secs(5));
        wire.run(secs(60 + quiet));
        cut(&mut wire, is_first);
        wire.run(millis(300));
        let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(3));
        assert_eq!(sent - answered, 0, "after {quiet} s");
    }
}

#[test]
fn a_path_dead_in_one_direction_is_left_by_both() {
    for direction in [0, 1] {
        let mut wire = two_paths();
        wire.ping_for(0, 1, millis(50), secs(5));
        let deaf = outer(1 + direction);
        wire.loses = Box::new(move |from, _, _, _| from == deaf);
        let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(10));
        assert!(sent - answered <= 8, "{} lost", sent - answered);
        assert_eq!(wire.counters(0).endpoint, Some(second(2)));
        assert_eq!(wire.counters(1).endpoint, Some(second(1)));
    }
}

#[test]
fn interactive_flows_lose_nothing_when_a_path_dies() {
    let mut wire = two_paths();
    for node in [0, 1] {
        wire.change(node, |desired| {
            desired.peers[0].redundancy = Redundancy::Interactive;
        });
    }
    wire.ping_for(0, 1, millis(50), secs(5));
    cut(&mut wire, is_first);
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(10));
    assert_eq!(sent, answered);
}

#[test]
fn data_that_is_swallowed_while_probes_pass_is_noticed_within_two_seconds() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(5));
    wire.loses = Box::new(|from, to, bytes, _| bytes[0] == 4 && (is_first(from) || is_first(to)));
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(10));
    assert!(sent - answered <= 40, "{} lost", sent - answered);
    assert!(switches(&wire, 0).contains(&(second(2), Cause::Deaf)));
}

#[test]
fn the_first_packet_after_a_long_rest_finds_the_living_path() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(5));
    wire.run(secs(600));
    cut(&mut wire, is_first);
    let before = wire.nodes[0].replies.len();
    wire.ping(0, 1);
    wire.run(millis(90));
    assert_eq!(wire.nodes[0].replies.len(), before + 1);
}

#[test]
fn advice_moves_a_quiet_peer_at_once_and_loses_nothing() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(5));
    for node in [0, 1] {
        wire.change(node, |desired| desired.peers[0].paths.reverse());
    }
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(5));
    assert_eq!(sent, answered);
    assert_eq!(switches(&wire, 0), [(second(2), Cause::Advice)]);
}

#[test]
fn advice_moves_bulk_behind_a_new_session_and_nothing_falls_out_of_the_window() {
    for (slow, skew) in [(outer as fn(u8) -> SocketAddr, 50), (second, 50)] {
        let mut wire = two_paths();
        for n in [1, 2] {
            wire.slower.insert(slow(n), millis(skew));
        }
        wire.ping_for(0, 1, millis(50), secs(5));
        wire.nodes[1].echoes = false;
        let burst = |wire: &mut Wire| {
            for number in 0..150 {
                let bytes = packet(inner(1), inner(2), 8, number);
                wire.send(0, &bytes);
            }
            wire.run(millis(5));
        };
        (0..200).for_each(|_| burst(&mut wire));
        let advised = wire.counters(0).endpoint;
        wire.change(0, |desired| desired.peers[0].paths.reverse());
        (0..400).for_each(|_| burst(&mut wire));
        wire.run(secs(1));
        assert_ne!(wire.counters(0).endpoint, advised);
        assert_eq!(wire.nodes[1].requests.len(), 100 + 600 * 150);
    }
}

#[test]
fn a_restarted_peer_is_noticed_by_its_silence() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(5));
    wire.restart(1);
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(5));
    assert!(sent - answered <= 30, "{} lost", sent - answered);
    let restarted = |fact: &Fact| {
        matches!(
            fact,
            Fact::Acquainted {
                restarted: true,
                ..
            }
        )
    };
    assert!(wire.nodes[0].facts.iter().any(restarted));
}

#[test]
fn a_peer_that_moves_is_followed_after_an_echo() {
    let mut wire = two_paths();
    cut(&mut wire, is_second);
    wire.ping_for(0, 1, millis(50), secs(5));
    wire.nodes[0].address.set_port(40000);
    wire.loses = Box::new(|from, to, _, _| {
        is_second(from) || is_second(to) || from == outer(1) || to == outer(1)
    });
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(5));
    assert!(sent - answered <= 10, "{} lost", sent - answered);
    assert_eq!(wire.counters(1).endpoint.unwrap().port(), 40000);
    let learned =
        |fact: &Fact| matches!(fact, Fact::Learned { remote, .. } if remote.port() == 40000);
    assert!(wire.nodes[1].facts.iter().any(learned));
}

#[test]
fn candidates_are_told_and_heard() {
    let mut wire = two_paths();
    let candidates = vec![Candidate {
        endpoint: "203.0.113.7:4242".parse().unwrap(),
        kind: CandidateKind::Host,
    }];
    let told = candidates.clone();
    wire.change(0, |desired| desired.peers[0].candidates = told);
    wire.run(secs(2));
    let heard = wire.nodes[1].facts.iter().any(
        |fact| matches!(fact, Fact::Candidates { candidates: heard, .. } if *heard == candidates),
    );
    assert!(heard);
}

#[test]
fn a_quiet_pair_sends_less_than_sixty_bytes_a_second() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(2));
    wire.run(secs(10));
    wire.sent_bytes.clear();
    wire.run(secs(600));
    for n in [1, 2] {
        let bytes: usize = [outer(n), second(n)]
            .iter()
            .filter_map(|address| wire.sent_bytes.get(address))
            .sum();
        assert!(bytes <= 600 * 40, "{} B/s", bytes / 600);
    }
}

#[test]
fn a_flapping_path_is_left_alone() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(5));
    wire.loses =
        Box::new(|from, to, _, now| (is_first(from) || is_first(to)) && now.0.as_secs() % 4 < 2);
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(300));
    assert!(
        (sent - answered) * 50 <= sent,
        "{} of {sent} lost",
        sent - answered
    );
    assert!(
        wire.counters(0).switches <= 30,
        "{}",
        wire.counters(0).switches
    );
}

#[test]
fn an_uplink_that_is_pulled_is_left_at_once_for_one_that_answered() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(5));
    cut(&mut wire, is_first);
    for node in [0, 1] {
        wire.change(node, |desired| {
            desired.sockets.retain(|socket| socket.id != SOCKET);
            desired.peers[0].paths.retain(|path| path.socket != SOCKET);
        });
    }
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(5));
    assert_eq!(sent, answered);
    assert_eq!(switches(&wire, 0), [(second(2), Cause::Gone)]);
}

#[test]
fn a_peer_that_sends_by_another_path_than_we_do_is_no_reason_to_follow() {
    let mut wire = two_paths();
    wire.change(1, |desired| desired.peers[0].paths.reverse());
    wire.ping_for(0, 1, millis(50), secs(5));
    assert_eq!(wire.counters(0).endpoint, Some(outer(2)));
    assert_eq!(wire.counters(1).endpoint, Some(second(1)));
    // Six datagrams go with each ping: never the same one of them three times in a row.
    let mut count = 0_u32;
    wire.loses = Box::new(move |from, _, bytes, _| {
        count += 1;
        bytes[0] == 0x83 && is_first(from) && count.is_multiple_of(11)
    });
    wire.ping_for(0, 1, millis(50), secs(20));
    assert_eq!(wire.counters(0).switches, 0);
}

#[test]
fn bulk_that_leaves_a_lossy_path_for_a_slower_one_is_not_overtaken() {
    let mut wire = two_paths();
    for n in [1, 2] {
        wire.slower.insert(second(n), millis(50));
    }
    wire.ping_for(0, 1, millis(50), secs(5));
    wire.nodes[1].echoes = false;
    let mut chance = 1_u64;
    wire.loses = Box::new(move |from, _, _, _| {
        chance = chance
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        from == outer(1) && (chance >> 33).is_multiple_of(16)
    });
    let burst = |wire: &mut Wire| {
        for number in 0..150 {
            let bytes = packet(inner(1), inner(2), 8, number);
            wire.send(0, &bytes);
        }
        wire.run(millis(5));
    };
    (0..1000).for_each(|_| burst(&mut wire));
    wire.change(0, |desired| desired.peers[0].paths.reverse());
    (0..1000).for_each(|_| burst(&mut wire));
    wire.run(secs(1));
    assert_eq!(wire.counters(0).endpoint, Some(second(2)));
    let too_old = wire.counters(1).drops.get(&DropReason::TooOld).copied();
    assert_eq!(too_old, None);
}

#[test]
fn data_never_goes_to_a_place_that_has_not_answered() {
    let mut wire = two_paths();
    let victim: SocketAddr = "203.0.113.7:4242".parse().unwrap();
    wire.change(0, |desired| {
        desired.peers[0].redundancy = Redundancy::Always;
        desired.peers[0].paths[1].remote = victim;
    });
    let astray = Rc::new(Cell::new(0));
    let counted = astray.clone();
    wire.loses = Box::new(move |from, to, bytes, _| {
        counted.set(counted.get() + usize::from(to == victim && bytes[0] == 4));
        is_second(from) || is_second(to)
    });
    wire.ping_for(0, 1, millis(50), secs(10));
    assert_eq!(astray.get(), 0);
}

#[test]
fn swallowed_data_is_noticed_where_everything_goes_out_twice() {
    let mut wire = two_paths();
    for node in [0, 1] {
        wire.change(node, |desired| {
            let peer = &mut desired.peers[0];
            peer.redundancy = Redundancy::Always;
            let remote = second(if node == 0 { 2 } else { 1 });
            peer.paths.insert(1, path(3, SOCKET, remote));
            peer.paths.truncate(3);
        });
    }
    wire.ping_for(0, 1, millis(50), secs(5));
    // Both the primary path and its copy leave by the first uplink.
    wire.loses = Box::new(|from, _, bytes, _| bytes[0] == 4 && is_first(from));
    wire.ping_for(0, 1, millis(50), secs(6));
    let before = wire.nodes[0].replies.len();
    let (sent, _) = wire.ping_for(0, 1, millis(50), secs(2));
    let answered = wire.nodes[0].replies.len() - before;
    assert!(answered + 3 >= sent, "{answered} of {sent}");
}

#[test]
fn a_deaf_path_is_left_though_copies_get_through_by_another() {
    let mut wire = two_paths();
    for node in [0, 1] {
        wire.change(node, |desired| {
            desired.peers[0].redundancy = Redundancy::Always
        });
    }
    wire.ping_for(0, 1, millis(50), secs(5));
    wire.loses = Box::new(|from, to, bytes, _| bytes[0] == 4 && (is_first(from) || is_first(to)));
    let (sent, answered) = wire.ping_for(0, 1, millis(50), secs(2));
    assert_eq!(sent, answered);
    for node in [0, 1] {
        let there = second(if node == 0 { 2 } else { 1 });
        assert!(switches(&wire, node).contains(&(there, Cause::Deaf)));
    }
}

#[test]
fn a_standby_that_swallows_copies_is_no_standby() {
    let mut wire = two_paths();
    wire.change(0, |desired| {
        desired.peers[0].redundancy = Redundancy::Always
    });
    wire.ping_for(0, 1, millis(50), secs(5));
    wire.loses = Box::new(|from, to, bytes, _| bytes[0] == 4 && (is_second(from) || is_second(to)));
    wire.ping_for(0, 1, millis(50), secs(10));
    let state = |remote| {
        let paths = wire.counters(0).paths;
        let path = paths.into_iter().find(|path| path.remote == remote);
        path.unwrap().state
    };
    assert_eq!(state(outer(2)), State::Live);
    assert_ne!(state(second(2)), State::Live);
}

#[test]
fn a_poke_probes_every_path_once_and_tells_of_its_own_probe() {
    let mut wire = two_paths();
    wire.run(secs(40));
    cut(&mut wire, is_second);
    let newest = |wire: &Wire| -> Vec<(Option<u64>, bool)> {
        let paths = wire.counters(0).paths;
        let asked = paths
            .iter()
            .map(|path| (path.poke, path.poke_rtt_ms.is_some()));
        asked.collect()
    };
    assert_eq!(newest(&wire), [(None, false); 2]);
    wire.change(0, |desired| desired.peers[0].poke = 1);
    wire.run(millis(19));
    assert_eq!(
        newest(&wire),
        [(Some(1), false); 2],
        "both are on their way"
    );
    wire.run(millis(20));
    assert_eq!(newest(&wire), [(Some(1), true), (Some(1), false)]);
    let rtt = wire.counters(0).paths[0].poke_rtt_ms.unwrap();
    assert!((19.0..26.0).contains(&rtt), "{rtt}");
    wire.loses = Box::new(|_, _, _, _| false);
    wire.run(secs(2));
    assert_eq!(
        newest(&wire)[1],
        (Some(1), false),
        "a later echo answers another probe"
    );
    wire.change(0, |desired| desired.peers[0].poke = 2);
    wire.run(millis(50));
    assert_eq!(newest(&wire), [(Some(2), true); 2]);
}

#[test]
fn a_quiet_session_without_an_answering_path_is_not_connected() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(100), secs(2));
    assert!(wire.counters(0).connected);
    wire.run(secs(10));
    wire.loses = Box::new(|_, _, _, _| true);
    wire.change(0, |desired| desired.peers[0].poke = 1);
    wire.run(secs(8));
    assert!(wire.counters(0).session_age_s.is_some());
    assert!(!wire.counters(0).connected);
}

#[test]
fn how_long_a_path_has_been_primary_is_known() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(50), secs(5));
    assert!(wire.counters(0).primary_age_s >= 5.0);
    cut(&mut wire, is_first);
    wire.ping_for(0, 1, millis(50), secs(2));
    let counters = wire.counters(0);
    assert_eq!(counters.endpoint, Some(second(2)));
    assert!(counters.primary_age_s < 2.0, "{}", counters.primary_age_s);
    wire.loses = Box::new(|_, _, _, _| false);
    wire.ping_for(0, 1, millis(50), secs(6));
    let left = wire.counters(0).paths.iter().find_map(|path| path.hold_s);
    assert!(
        left.is_some_and(|left| left > 0.0 && left <= 5.0),
        "{left:?}"
    );
}

/// Sessions are renewed meanwhile, and each renewal is confirmed by a keepalive, which nobody counts.
#[test]
fn ten_idle_minutes_change_no_path_and_cost_little() {
    let mut wire = two_paths();
    wire.ping_for(0, 1, millis(100), secs(2));
    let before: usize = wire.sent_bytes.values().sum();
    wire.run(secs(600));
    let sent = wire.sent_bytes.values().sum::<usize>() - before;
    for node in [0, 1] {
        assert_eq!(switches(&wire, node), []);
        for path in &wire.counters(node).paths {
            assert_eq!(path.state, State::Live, "{path:?}");
        }
    }
    assert!(sent / 600 < 2 * 60, "{} bytes a second", sent / 600);
}
