//! One test per defect of `noise::Tunn` (reference/boringtun.md, D1–D16). Each first asserts what
//! upstream does, so that an upgrade which cures it is noticed, and then that Shore's plane on the
//! same engine does not do it.
//!
//! Not here: D6 and D7 are defects of BoringTun's `device`, which Shore does not use (the lab moves
//! addresses and changes keys); D10 is its throughput (`make bench`); D14 needs 2^60 messages.

#[path = "../../dataplane-core/tests/wire/mod.rs"]
#[allow(dead_code)]
mod wire;

use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use mock_instant::MockClock;
use shore_dataplane_core::engine::tunn::Tunns;
use shore_dataplane_core::engine::{Engine, EngineFactory};
use shore_dataplane_core::facts::DropReason;
use shore_dataplane_core::time::Moment;
use wire::{Wire, desired, millis, outer, packet, peer, private, secs};

const TICK: Duration = Duration::from_millis(250);

// Upstream: two `Tunn`s and hand delivery.

fn public(n: u8) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(private(n))).to_bytes()
}

fn tunn(own: u8, peer: u8, keepalive: Option<u16>) -> Tunn {
    Tunn::new(
        StaticSecret::from(private(own)),
        PublicKey::from(public(peer)),
        None,
        keepalive,
        u32::from(own),
        None,
    )
}

fn sent(result: TunnResult) -> Option<Vec<u8>> {
    match result {
        TunnResult::WriteToNetwork(message) => Some(message.to_vec()),
        _ => None,
    }
}

fn initiate(from: &mut Tunn) -> Vec<u8> {
    sent(from.format_handshake_initiation(&mut [0; 148], true)).expect("forced")
}

fn take(to: &mut Tunn, message: &[u8]) -> Option<Vec<u8>> {
    sent(to.decapsulate(None, message, &mut vec![0; message.len().max(148)]))
}

fn seal(from: &mut Tunn, packet: &[u8]) -> Option<Vec<u8>> {
    sent(from.encapsulate(packet, &mut vec![0; packet.len().max(116) + 32]))
}

fn tick(tunn: &mut Tunn) -> Option<Vec<u8>> {
    sent(tunn.update_timers(&mut [0; 148]))
}

/// Lets time pass while both tick; what they send is lost.
fn idle(one: &mut Tunn, two: &mut Tunn, time: Duration) {
    let mut passed = Duration::ZERO;
    while passed < time {
        MockClock::advance(TICK);
        passed += TICK;
        tick(one);
        tick(two);
    }
}

fn shake(one: &mut Tunn, two: &mut Tunn) {
    let initiation = initiate(one);
    let response = take(two, &initiation).expect("a response");
    let keepalive = take(one, &response).expect("a keepalive");
    take(two, &keepalive);
}

fn established(keepalive: Option<u16>) -> (Tunn, Tunn) {
    let (mut one, mut two) = (tunn(1, 2, keepalive), tunn(2, 1, None));
    shake(&mut one, &mut two);
    (one, two)
}

fn ping(number: u32) -> Vec<u8> {
    packet(wire::inner(1), wire::inner(2), 8, number)
}

// Shore: two planes on the same engine, their clock and the mock one in step.

fn shore(keepalive: u16) -> Wire {
    let mut wire = Wire::new();
    let mut toward = peer(public(2), "10.0.0.2/32", Some(outer(2)));
    toward.keepalive_s = keepalive;
    toward.wanted = keepalive > 0;
    wire.join_with(Box::new(Tunns), 1, desired(private(1), vec![toward]));
    let back = peer(public(1), "10.0.0.1/32", None);
    wire.join_with(Box::new(Tunns), 2, desired(private(2), vec![back]));
    wire
}

fn run(wire: &mut Wire, time: Duration) {
    let end = wire.now + time;
    while wire.now < end {
        MockClock::advance(millis(5));
        wire.run(millis(5));
    }
}

/// Pings for a time; returns how many were sent and answered.
fn pings(wire: &mut Wire, every: Duration, time: Duration) -> (usize, usize) {
    let (end, before) = (wire.now + time, wire.nodes[0].replies.len());
    let mut sent = 0;
    while wire.now < end {
        wire.ping(0, 1);
        sent += 1;
        run(wire, every);
    }
    (sent, wire.nodes[0].replies.len() - before)
}

fn engines() -> (Box<dyn Engine>, Box<dyn Engine>) {
    let (one, two) = (Tunns.identity(&private(1)), Tunns.identity(&private(2)));
    let now = Moment::from_millis(1000);
    (
        one.engine(&public(2), None, 1, now),
        two.engine(&public(1), None, 2, now),
    )
}

const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn shake_engines(one: &mut dyn Engine, two: &mut dyn Engine, now: Moment) {
    let initiation = one.initiate(now).expect("an initiation");
    let mut response = [0; 148];
    two.handshake(SOMEWHERE, &initiation, &mut response, now)
        .expect("responded");
    let mut keepalive = [0; 148];
    one.handshake(SOMEWHERE, &response[..92], &mut keepalive, now)
        .expect("established");
    two.open(&keepalive[..32], &mut [0; 64], now)
        .expect("confirmed");
}

#[test]
fn d1_the_first_packet_after_an_idle_time_starts_no_handshake() {
    let (mut one, mut two) = established(None);
    let data = seal(&mut one, &ping(1)).unwrap();
    take(&mut two, &data);
    let answer = seal(&mut two, &ping(2)).unwrap();
    take(&mut one, &answer);
    idle(&mut one, &mut two, secs(20));
    seal(&mut one, &ping(3)).unwrap();
    MockClock::advance(TICK);
    assert_eq!(tick(&mut one).map(|message| message.len()), Some(148));

    let mut wire = shore(0);
    wire.latency = millis(200);
    assert_eq!(pings(&mut wire, secs(1), secs(2)), (2, 2));
    let before = wire.initiations_of(0);
    for _ in 0..4 {
        run(&mut wire, secs(20));
        assert_eq!(pings(&mut wire, secs(1), secs(1)), (1, 1));
    }
    assert_eq!(wire.initiations_of(0), before);
    assert_eq!(wire.initiations_of(1), 0);
}

#[test]
fn d2_an_idle_initiator_renews_before_its_session_dies() {
    let (mut one, mut two) = established(Some(25));
    for _ in 0..780 {
        MockClock::advance(TICK);
        if let Some(keepalive) = tick(&mut one) {
            assert_eq!(keepalive[0], 4, "no handshake is renewed");
            take(&mut two, &keepalive);
        }
    }
    assert_eq!(seal(&mut one, &ping(1)).map(|message| message[0]), Some(1));

    let mut wire = shore(25);
    run(&mut wire, secs(300));
    wire.ping(0, 1);
    run(&mut wire, millis(30));
    assert_eq!(wire.nodes[0].replies.len(), 1, "there was a session");
    assert!((2..=4).contains(&wire.initiations_of(0)));
    assert_eq!(wire.initiations_of(1), 0);
}

#[test]
fn d3_an_idle_tunnel_comes_back_after_a_long_outage() {
    let (mut one, mut two) = established(Some(25));
    idle(&mut one, &mut two, secs(600));
    for _ in 0..240 {
        MockClock::advance(TICK);
        assert!(matches!(
            one.update_timers(&mut [0; 148]),
            TunnResult::Err(WireGuardError::ConnectionExpired)
        ));
    }

    let mut wire = shore(25);
    run(&mut wire, secs(5));
    wire.cut();
    run(&mut wire, secs(600));
    wire.mend();
    run(&mut wire, secs(3));
    assert!(wire.counters(0).connected);
}

#[test]
fn d4_a_session_is_young_though_nobody_ticked_before() {
    let (mut one, mut two) = (tunn(1, 2, None), tunn(2, 1, None));
    MockClock::advance(secs(200));
    tick(&mut one);
    let initiation = initiate(&mut one);
    let response = take(&mut two, &initiation).unwrap();
    let keepalive = take(&mut one, &response).unwrap();
    tick(&mut two);
    assert!(matches!(
        two.decapsulate(None, &keepalive, &mut [0; 148]),
        TunnResult::Err(WireGuardError::NoCurrentSession)
    ));

    let (mut one, mut two) = engines();
    MockClock::advance(secs(200));
    let now = Moment::from_millis(201_000);
    shake_engines(&mut *one, &mut *two, now);
    two.tick(now);
    assert!(two.session(now).is_some());
}

#[test]
fn d5_stragglers_of_the_old_session_are_taken_after_a_renewal() {
    let (mut one, mut two) = established(None);
    let sealed: Vec<_> = (0..1100)
        .map(|n| seal(&mut one, &ping(n)).unwrap())
        .collect();
    take(&mut two, sealed.last().unwrap());
    assert!(sealed[..70].iter().all(|old| matches!(
        two.decapsulate(None, old, &mut [0; 256]),
        TunnResult::Err(WireGuardError::InvalidCounter)
    )));

    let (mut one, mut two) = engines();
    let now = Moment::from_millis(1000);
    shake_engines(&mut *one, &mut *two, now);
    let old: Vec<_> = (0..200).map(|n| sealed_by(&mut *one, n, now)).collect();
    MockClock::advance(secs(1));
    let now = now + secs(1);
    shake_engines(&mut *one, &mut *two, now);
    for n in 0..1100 {
        let fresh = sealed_by(&mut *one, n, now);
        two.open(&fresh, &mut [0; 256], now).unwrap();
    }
    assert!(
        old.iter()
            .all(|late| two.open(late, &mut [0; 256], now).is_ok())
    );
}

fn sealed_by(engine: &mut dyn Engine, number: u32, now: Moment) -> Vec<u8> {
    let mut out = [0; 256];
    let len = engine.seal(&ping(number), &mut out, now).unwrap();
    out[..len].to_vec()
}

#[test]
fn d8_a_responder_with_packets_waiting_makes_no_second_handshake() {
    let (mut one, mut two) = (tunn(1, 2, None), tunn(2, 1, None));
    for n in 0..3 {
        seal(&mut two, &ping(n));
    }
    let initiation = initiate(&mut one);
    take(&mut two, &initiation).unwrap();
    let flushed = sent(two.decapsulate(None, &[], &mut [0; 256]));
    assert_eq!(flushed.map(|message| message[0]), Some(1));

    let mut wire = shore(0);
    wire.change(1, |desired| {
        desired.peers = vec![peer(public(1), "10.0.0.1/32", Some(outer(1)))];
    });
    wire.ping(1, 0);
    run(&mut wire, millis(2));
    wire.ping(0, 1);
    run(&mut wire, secs(2));
    assert_eq!(wire.nodes[0].replies.len() + wire.nodes[1].replies.len(), 2);
    assert!(wire.initiations_of(0) + wire.initiations_of(1) <= 2);
}

#[test]
fn d9_a_buffer_too_small_is_an_answer_and_no_panic() {
    let (mut one, _) = established(None);
    let upstream = catch_unwind(AssertUnwindSafe(|| {
        let _ = one.encapsulate(&[0x45; 300], &mut [0; 148]);
    }));
    assert!(upstream.is_err());

    let (mut one, mut two) = engines();
    let now = Moment::from_millis(1000);
    shake_engines(&mut *one, &mut *two, now);
    let refused = one.seal(&[0x45; 300], &mut [0; 148], now);
    assert_eq!(refused, Err(DropReason::MalformedPacket));
    let refused = two.open(&[4; 9000], &mut [0; 2048], now);
    assert_eq!(refused, Err(DropReason::MalformedDatagram));
}

#[test]
fn d11_a_flood_from_elsewhere_does_not_lock_a_new_peer_out() {
    let limiter = Arc::new(RateLimiter::new(&PublicKey::from(public(2)), 10));
    let initiation = initiate(&mut tunn(1, 2, None));
    let under_load = (0..20).any(|n| {
        let source = IpAddr::V4(Ipv4Addr::new(198, 51, 100, n));
        limiter
            .verify_packet(Some(source), &initiation, &mut [0; 64])
            .is_err()
    });
    assert!(under_load, "twenty sources share ten handshakes");

    let mut wire = shore(0);
    let flood = initiate(&mut tunn(9, 2, None));
    for n in 0..2000_u32 {
        let source = std::net::SocketAddr::from(([203, 0, 113, (n % 3) as u8], 5000));
        wire.carry(source, outer(2), flood.clone());
        if n % 100 == 0 {
            run(&mut wire, millis(5));
        }
    }
    assert_eq!(pings(&mut wire, secs(1), secs(6)).1, 6);
}

#[test]
fn d12_keepalives_go_on_while_a_handshake_is_lost() {
    let (mut one, mut two) = established(Some(5));
    idle(&mut one, &mut two, secs(1));
    initiate(&mut one);
    let kinds: Vec<u8> = (0..240)
        .filter_map(|_| {
            MockClock::advance(TICK);
            tick(&mut one).map(|message| message[0])
        })
        .collect();
    assert!(!kinds.contains(&4), "no keepalive for a minute: {kinds:?}");

    // An initiation refreshes a NAT mapping too; only where none is due does a keepalive go out.
    let mut wire = shore(1);
    run(&mut wire, secs(2));
    wire.loses = Box::new(|_, _, bytes, _| bytes[0] != 4);
    wire.renew(0);
    run(&mut wire, secs(60));
    assert!(wire.counters(1).last_received_age_s.unwrap() < 3.0);
}

#[test]
fn d13_an_old_key_is_not_used_though_nobody_ticks() {
    let (mut one, _) = established(None);
    MockClock::advance(secs(300));
    assert_eq!(seal(&mut one, &ping(1)).map(|message| message[0]), Some(4));

    let (mut one, mut two) = engines();
    let now = Moment::from_millis(1000);
    shake_engines(&mut *one, &mut *two, now);
    MockClock::advance(secs(179));
    let refused = one.seal(&ping(1), &mut [0; 256], now + secs(179));
    assert_eq!(refused, Err(DropReason::NoSession));
}

#[test]
fn d15_a_storm_of_handshakes_does_not_push_out_the_session_in_use() {
    let (mut one, mut two) = established(None);
    let data = seal(&mut one, &ping(1)).unwrap();
    for _ in 0..8 {
        MockClock::advance(secs(1));
        let initiation = initiate(&mut tunn(1, 2, None));
        take(&mut two, &initiation);
    }
    assert!(matches!(
        two.decapsulate(None, &data, &mut [0; 256]),
        TunnResult::Err(_)
    ));

    let (mut one, mut two) = engines();
    let now = Moment::from_millis(1000);
    shake_engines(&mut *one, &mut *two, now);
    for n in 1..=8 {
        MockClock::advance(secs(1));
        let initiation = initiate(&mut tunn(1, 2, None));
        let _ = two.handshake(SOMEWHERE, &initiation, &mut [0; 148], now + secs(n));
    }
    let data = sealed_by(&mut *one, 1, now + secs(8));
    assert!(two.open(&data, &mut [0; 256], now + secs(8)).is_ok());
}

#[test]
fn d16_a_slow_path_completes_its_handshake() {
    let (mut one, mut two) = (tunn(1, 2, None), tunn(2, 1, None));
    let first = initiate(&mut one);
    let response = take(&mut two, &first).unwrap();
    for _ in 0..2 {
        MockClock::advance(secs(1));
        initiate(&mut one);
    }
    assert_eq!(take(&mut one, &response), None, "the first answer is late");

    let mut wire = shore(0);
    wire.latency = secs(1);
    wire.ping(0, 1);
    run(&mut wire, secs(20));
    assert!(wire.counters(0).session_age_s.is_some());
}
