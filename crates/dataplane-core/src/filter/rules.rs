//! Rules in a form that is quick to ask: prefixes become sorted ranges that do not touch.

use std::net::IpAddr;

use ip_network::IpNetwork;

use super::flow::{Flow, ICMP, ICMPV6};
use crate::allowed_ips::prefix;
use crate::desired;

/// A union: what no rule names is refused.
pub struct Rules {
    rules: Vec<Rule>,
}

struct Rule {
    sources: Ranges,
    destinations: Ranges,
    ports: Vec<desired::Ports>,
}

impl Rules {
    /// Fails at the first prefix or range of ports that is none.
    pub fn new(rules: &[desired::Rule]) -> Result<Self, String> {
        let rules = rules.iter().map(Rule::new).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    pub fn permit(&self, flow: &Flow) -> bool {
        self.rules.iter().any(|rule| rule.permits(flow))
    }
}

impl Rule {
    fn new(rule: &desired::Rule) -> Result<Self, String> {
        for ports in &rule.ports {
            if ports.first > ports.last {
                let (first, last) = (ports.first, ports.last);
                return Err(format!("{first}-{last} is not a range of ports"));
            }
        }
        Ok(Self {
            sources: Ranges::new(&rule.sources)?,
            destinations: Ranges::new(&rule.destinations)?,
            ports: rule.ports.clone(),
        })
    }

    fn permits(&self, flow: &Flow) -> bool {
        self.ports.iter().any(|ports| covers(ports, flow))
            && self.destinations.hold(flow.to)
            && self.sources.hold(flow.from)
    }
}

/// A protocol without ports is covered whole by rules that name it, and by those for every protocol only
/// where they are for every port.
fn covers(ports: &desired::Ports, flow: &Flow) -> bool {
    let named = match ports.protocol {
        None => true,
        Some(desired::Protocol::Named(desired::Named::Tcp)) => flow.protocol == 6,
        Some(desired::Protocol::Named(desired::Named::Udp)) => flow.protocol == 17,
        Some(desired::Protocol::Named(desired::Named::Icmp)) => {
            matches!(flow.protocol, ICMP | ICMPV6)
        }
        Some(desired::Protocol::Number(number)) => flow.protocol == number,
    };
    let all = ports.first == 0 && ports.last == u16::MAX;
    named
        && flow.port().map_or(all || ports.protocol.is_some(), |port| {
            (ports.first..=ports.last).contains(&port)
        })
}

/// Addresses of both families: first and last of each range, in order.
struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    fn new(prefixes: &[String]) -> Result<Self, String> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for text in prefixes {
            match prefix(text)? {
                IpNetwork::V4(network) => v4.push((
                    network.network_address().to_bits(),
                    network.broadcast_address().to_bits(),
                )),
                IpNetwork::V6(network) => v6.push((
                    network.network_address().to_bits(),
                    network.last_address().to_bits(),
                )),
            }
        }
        Ok(Self {
            v4: joined(v4),
            v6: joined(v6),
        })
    }

    fn hold(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => holds(&self.v4, address.to_bits()),
            IpAddr::V6(address) => holds(&self.v6, address.to_bits()),
        }
    }
}

fn joined<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after > 0 && address <= ranges[after - 1].1
}
