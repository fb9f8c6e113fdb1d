//! The filter against a model of rules and flows that is too simple to be wrong, and against hostile bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::tests::{START, closed, filter, open_to, ports};
use super::*;
use crate::allowed_ips::prefix;
use crate::desired::{self, Named, Ports, Protocol};
use crate::fit::samples::{hostile, ip};
use crate::offload::headers::put;

/// What happens to a filter between two hosts of a /30 each way, told without bytes.
#[derive(Clone, Debug)]
struct Step {
    outward: bool,
    v6: bool,
    protocol: u8,
    flags: u8,
    us: u8,
    them: u8,
    our_port: u16,
    their_port: u16,
    seconds: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let protocol = prop_oneof![Just(TCP), Just(17), Just(132), Just(50)];
    let port = || prop_oneof![Just(53_u16), Just(443), Just(40_000)];
    let step = (
        (any::<bool>(), any::<bool>(), protocol, any::<u8>()),
        (0..3_u8, 0..3_u8, port(), port(), 0..200_u64),
    );
    let step = step.prop_map(
        |((outward, v6, protocol, flags), (us, them, our_port, their_port, seconds))| Step {
            outward,
            v6,
            protocol,
            flags,
            us,
            them,
            our_port,
            their_port,
            seconds,
        },
    );
    proptest::collection::vec(step, 1..40)
}

fn some_rules() -> impl Strategy<Value = Vec<desired::Rule>> {
    let named = prop_oneof![Just(None), Just(Some(Named::Tcp)), Just(Some(Named::Udp))];
    let range = (
        named,
        prop_oneof![Just((0, 65535)), Just((53, 53)), Just((100, 500))],
    )
        .prop_map(|(named, (first, last))| ports(named, first, last));
    let side = |v4: &'static str, v6: &'static str| {
        prop_oneof![
            Just(vec![format!("{v4}0/30"), format!("{v6}0/126")]),
            Just(vec![format!("{v4}1/32")]),
            Just(vec![format!("{v6}1/128"), format!("{v6}2/128")]),
            Just(vec!["0.0.0.0/0".to_owned()]),
        ]
    };
    let rule = (
        side("10.0.0.", "fd00::"),
        side("10.1.0.", "fd01::"),
        proptest::collection::vec(range, 1..3),
    );
    let rule = rule.prop_map(|(sources, destinations, ports)| desired::Rule {
        sources,
        destinations,
        ports,
    });
    proptest::collection::vec(rule, 0..4)
}

impl Step {
    fn address(&self, network: u16, host: u8) -> IpAddr {
        if self.v6 {
            Ipv6Addr::new(0xfd00 + network, 0, 0, 0, 0, 0, 0, host.into()).into()
        } else {
            Ipv4Addr::new(10, network as u8, 0, host).into()
        }
    }

    /// (us, our port, them, their port, protocol)
    fn conversation(&self) -> (IpAddr, u16, IpAddr, u16, u8) {
        let (us, them) = (self.address(1, self.us), self.address(0, self.them));
        (us, self.our_port, them, self.their_port, self.protocol)
    }

    fn packet(&self) -> Vec<u8> {
        let mut transport = vec![0; 24];
        let (us, our_port, them, their_port, protocol) = self.conversation();
        let (from, from_port, to, to_port) = if self.outward {
            (us, our_port, them, their_port)
        } else {
            (them, their_port, us, our_port)
        };
        put(&mut transport, 0, from_port);
        put(&mut transport, 2, to_port);
        transport[12..14].copy_from_slice(&[0x50, self.flags]);
        let mut packet = ip(if self.v6 { 6 } else { 4 }, protocol, &transport);
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                packet[12..16].copy_from_slice(&from.octets());
                packet[16..20].copy_from_slice(&to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                packet[8..24].copy_from_slice(&from.octets());
                packet[24..40].copy_from_slice(&to.octets());
            }
            _ => unreachable!("one family"),
        }
        packet
    }

    /// Rule by rule and prefix by prefix.
    fn permitted(&self, rules: &[desired::Rule]) -> bool {
        let (us, port, them, _, protocol) = self.conversation();
        let holds = |texts: &[String], address: IpAddr| {
            texts
                .iter()
                .any(|text| prefix(text).unwrap().contains(address))
        };
        let covered = |ports: &Ports| match (ports.protocol, protocol) {
            (None, 50) => (ports.first, ports.last) == (0, 65535),
            (Some(Protocol::Named(Named::Tcp)), 6)
            | (Some(Protocol::Named(Named::Udp)), 17)
            | (None, _) => ports.first <= port && port <= ports.last,
            _ => false,
        };
        rules.iter().any(|rule| {
            holds(&rule.sources, them)
                && holds(&rule.destinations, us)
                && rule.ports.iter().any(covered)
        })
    }
}

proptest! {
    #[test]
    fn it_agrees_with_a_model_too_simple_to_be_wrong(rules in some_rules(), steps in steps()) {
        let mut filter = filter(&rules);
        let (mut now, mut sent) = (START, Vec::new());
        for step in steps {
            now = now + Duration::from_secs(step.seconds);
            if step.outward {
                filter.sent(&step.packet(), now);
                sent.push((step.conversation(), now));
                continue;
            }
            let began = |(conversation, at): &(_, Moment)| {
                *conversation == step.conversation() && now.since(*at) <= FLOW_LIFE
            };
            let expected = match step.protocol {
                TCP => step.flags & (SYN | ACK) != SYN || step.permitted(&rules),
                50 => step.permitted(&rules),
                _ => step.permitted(&rules) || sent.iter().any(began),
            };
            prop_assert_eq!(filter.admits(&step.packet(), now), expected, "{:?}", step);
        }
    }

    #[test]
    fn no_bytes_stop_it(packets in proptest::collection::vec(hostile(), 0..20)) {
        let mut filter = open_to(ports(None, 0, 65535));
        for packet in packets {
            filter.sent(&packet, START);
            filter.admits(&packet, START);
        }
    }

    #[test]
    fn no_quoted_bytes_stop_it_or_come_in_unasked(quoted in hostile(), kind in 0u8..20) {
        for family in [4, 6] {
            let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
            message.extend_from_slice(&quoted);
            let packet = ip(family, if family == 4 { 1 } else { 58 }, &message);
            let admitted = closed().admits(&packet, START);
            // Only TCP that quotes its receiver as sender needs no memory.
            let ours = quoted.windows(4).any(|four| four == [10, 0, 0, 2])
                || quoted.windows(4).any(|four| four == [0, 0, 0, 2]);
            prop_assert!(!admitted || ours);
        }
    }
}
