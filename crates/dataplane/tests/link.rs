//! Links against a real TLS stream on loopback; only waiting for silence is done by telling the time.

mod relay;

use std::net::TcpStream;
use std::time::Duration;

use relay::{ADMISSION, Manner, NOBODY, TestRelay, pin, start};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_bytes::{ByteArray, ByteBuf};
use shore_dataplane::relay::link::{Link, State};
use shore_dataplane::sys;
use shore_dataplane_core::desired;
use shore_dataplane_core::facts::Fact;
use shore_dataplane_core::relay::place_of;

fn public() -> [u8; 32] {
    let key = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap();
    key.public_key().as_ref().try_into().unwrap()
}

fn wish(pin: Option<[u8; 32]>) -> desired::Link {
    desired::Link {
        id: 5,
        relay: String::new(),
        uplink: None,
        pin: pin.map(ByteArray::new),
        name: "127.0.0.1".into(),
        admission: ByteBuf::from(ADMISSION),
        admission_key: ByteArray::new(SEED),
    }
}

fn linked(relay: &TestRelay, pin: Option<[u8; 32]>) -> Link {
    let tcp = TcpStream::connect(relay.address).unwrap();
    Link::new(&wish(pin), tcp.into(), sys::now()).unwrap()
}

/// Lets the link go on until it has something to tell.
fn told(link: &mut Link) -> Vec<Fact> {
    for _ in 0..5000 {
        link.turn(sys::now());
        link.flush(sys::now());
        let facts: Vec<_> = link.facts().collect();
        if !facts.is_empty() {
            return facts;
        }
        sys::nap(Duration::from_millis(1));
    }
    panic!("nothing came of it within 5 s");
}

fn up() -> Fact {
    Fact::LinkUp {
        link: 5,
        observed: "192.0.2.7:4242".parse().unwrap(),
        udp: vec!["192.0.2.1:3478".parse().unwrap()],
    }
}

fn down(reason: &str) -> Fact {
    let reason = reason.into();
    Fact::LinkDown { link: 5, reason }
}

#[test]
fn a_relay_known_by_its_pin_lets_us_in_and_datagrams_pass() {
    let relay = start(Manner::Plain, public());
    let mut link = linked(&relay, Some(pin()));
    let place = place_of([9; 8]);
    assert!(!link.send(place, b"too early"));
    assert_eq!(told(&mut link), [up()]);
    let long = vec![4; 60_000];
    assert!(link.send(place, &long) && link.send(place, b"\x01probe"));
    let mut came = Vec::new();
    while came.len() < 2 || link.counters(sys::now()).rtt_ms.is_none() {
        link.flush(sys::now());
        link.turn(sys::now());
        came.extend(std::iter::from_fn(|| link.next_datagram()));
    }
    // What is urgent left first.
    assert_eq!(came, [(place, b"\x01probe".to_vec()), (place, long)]);
    drop(link);
    relay.thread.join().unwrap();
}

#[test]
fn who_is_not_there_is_told() {
    let relay = start(Manner::Plain, public());
    let mut link = linked(&relay, Some(pin()));
    told(&mut link);
    link.send(place_of(NOBODY), b"hello");
    let remote = place_of(NOBODY);
    assert_eq!(told(&mut link), [Fact::Away { link: 5, remote }]);
}

#[test]
fn a_relay_with_another_key_is_not_ours() {
    let relay = start(Manner::Plain, public());
    let mut link = linked(&relay, Some([1; 32]));
    assert!(matches!(&told(&mut link)[..], [Fact::LinkDown { .. }]));
    assert_eq!(link.counters(sys::now()).state, State::Down);
}

#[test]
fn a_certificate_that_nobody_vouches_for_needs_a_pin() {
    let relay = start(Manner::Plain, public());
    let mut link = linked(&relay, None);
    assert!(matches!(&told(&mut link)[..], [Fact::LinkDown { .. }]));
}

#[test]
fn another_admission_key_is_refused() {
    let relay = start(Manner::Plain, [3; 32]);
    let mut link = linked(&relay, Some(pin()));
    let reason = "the relay refused: the proof is wrong";
    assert_eq!(told(&mut link), [down(reason)]);
}

#[test]
fn a_web_server_is_no_relay() {
    let relay = start(Manner::Elsewhere, public());
    let mut link = linked(&relay, Some(pin()));
    assert_eq!(told(&mut link), [down("no relay answers there")]);
}

#[test]
fn a_relay_that_leaves_says_so_first() {
    let relay = start(Manner::Leaving, public());
    let mut link = linked(&relay, Some(pin()));
    let mut facts = told(&mut link);
    if facts.len() < 2 {
        facts.extend(told(&mut link));
    }
    let for_s = 1.5;
    assert_eq!(facts, [up(), Fact::LinkLeaving { link: 5, for_s }]);
}

#[test]
fn a_relay_that_falls_silent_is_dead_after_20_s() {
    let relay = start(Manner::Mute, public());
    let mut link = linked(&relay, Some(pin()));
    assert_eq!(told(&mut link), [up()]);
    let heard = sys::now();
    link.turn(heard + Duration::from_secs(19));
    assert_eq!(link.facts().count(), 0);
    link.turn(heard + Duration::from_secs(21));
    let facts: Vec<_> = link.facts().collect();
    assert_eq!(facts, [down("nothing was heard for 20 s")]);
}

const SEED: [u8; 32] = [42; 32];

#[test]
fn an_idle_link_is_pinged_every_15_s_and_one_in_use_every_2_s() {
    let relay = start(Manner::Plain, public());
    let mut link = linked(&relay, Some(pin()));
    assert_eq!(told(&mut link), [up()]);
    let after = |seconds| sys::now() + Duration::from_secs(seconds);
    let (second, later) = (after(2), after(3));
    assert!(link.deadline() <= second, "it was in use just now");
    link.turn(second);
    assert_eq!(link.deadline(), second + Duration::from_secs(15));
    link.send(place_of([9; 8]), b"\x04data");
    link.flush(later);
    assert_eq!(link.deadline(), second + Duration::from_secs(2));
}
