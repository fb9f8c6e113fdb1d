//! What a packet is about, as far as policy cares: protocol, addresses and ports.

use std::net::IpAddr;

use crate::allowed_ips::addresses;
use crate::fit::layout::Layout;
use crate::offload::headers::{get, get_long, put};

/// One direction of a conversation. An echo has its identifier in place of both ports, and is always
/// that of the request, whichever direction it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub protocol: u8,
    pub from: IpAddr,
    pub to: IpAddr,
    pub from_port: u16,
    pub to_port: u16,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// A conversation has no first packet that could be told from its others.
    Either,
    Request,
    Reply,
}

impl Flow {
    /// Of a protocol without ports.
    pub fn bare(protocol: u8, from: IpAddr, to: IpAddr) -> Self {
        Self {
            protocol,
            from,
            to,
            from_port: 0,
            to_port: 0,
            way: Way::Either,
        }
    }

    /// What answers it.
    pub fn back(&self) -> Self {
        Self {
            protocol: self.protocol,
            from: self.to,
            to: self.from,
            from_port: self.to_port,
            to_port: self.from_port,
            way: match self.way {
                Way::Either => Way::Either,
                Way::Request => Way::Reply,
                Way::Reply => Way::Request,
            },
        }
    }

    pub fn is_echo_reply(&self) -> bool {
        self.way == Way::Reply
    }

    /// The port that rules speak of, absent where the protocol has none.
    pub fn port(&self) -> Option<u16> {
        (self.protocol == TCP || has_ports(self.protocol)).then_some(self.to_port)
    }

    fn with_ports(self, transport: &[u8]) -> Option<Self> {
        let transport = transport.first_chunk::<LEAST_TRANSPORT>()?;
        Some(Self {
            from_port: get(transport, 0),
            to_port: get(transport, 2),
            ..self
        })
    }

    fn with_echo(self, transport: &[u8]) -> Option<Self> {
        let transport = transport.first_chunk::<LEAST_TRANSPORT>()?;
        let way = match (self.protocol, transport[0]) {
            (ICMP, 8) | (ICMPV6, 128) => Way::Request,
            (ICMP, 0) | (ICMPV6, 129) => Way::Reply,
            _ => return Some(self),
        };
        let id = get(transport, 4);
        Some(Self {
            from_port: id,
            to_port: id,
            way,
            ..self
        })
    }

    fn of(protocol: u8, (from, to): (IpAddr, IpAddr), transport: &[u8]) -> Option<Self> {
        let bare = Self::bare(protocol, from, to);
        match protocol {
            ICMP | ICMPV6 => bare.with_echo(transport),
            TCP => bare.with_ports(transport),
            _ if has_ports(protocol) => bare.with_ports(transport),
            _ => Some(bare),
        }
    }
}

/// Of a packet with its transport header; None where that is cut off, and for later fragments.
pub fn flow_of(packet: &[u8], layout: &Layout) -> Option<Flow> {
    if layout.offset > 0 {
        return None;
    }
    let transport = packet.get(layout.ip_len..layout.total)?;
    Flow::of(layout.protocol, addresses(packet)?, transport)
}

/// What an ICMP error says it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoted {
    Flow(Flow),
    /// An error that quotes nothing that can be read.
    Nothing,
}

impl Quoted {
    /// None if the message is no error.
    pub fn read(protocol: u8, transport: &[u8]) -> Option<Self> {
        let kind = *transport.first()?;
        let error = match protocol {
            ICMP => matches!(kind, 3 | 11 | 12),
            _ => matches!(kind, 1..=4),
        };
        error.then(|| quoted_flow(transport).map_or(Self::Nothing, Self::Flow))
    }
}

/// A quoted packet is cut short: its length is made to say so before it is read.
fn quoted_flow(transport: &[u8]) -> Option<Flow> {
    let quote = transport.get(LEAST_TRANSPORT..)?;
    let mut room = [0; MOST_QUOTED];
    let len = quote.len().min(MOST_QUOTED);
    let quote = &mut room[..len];
    quote.copy_from_slice(&transport[LEAST_TRANSPORT..LEAST_TRANSPORT + len]);
    match quote.first()? >> 4 {
        4 if len >= 20 && usize::from(get(quote, 2)) > len => put(quote, 2, len as u16),
        6 if len >= 40 && usize::from(get(quote, 4)) > len - 40 => {
            put(quote, 4, (len - 40) as u16);
        }
        _ => {}
    }
    flow_of(quote, &Layout::read(quote)?)
}

/// What the fragments of one packet have in common; None if it is not a fragment.
pub fn identification(packet: &[u8]) -> Option<u32> {
    if packet.first()? >> 4 == 4 {
        let header = packet.first_chunk::<20>()?;
        return Some(u32::from(header[9]) << 16 | u32::from(get(header, 4)));
    }
    let (mut next, mut at) = (*packet.get(6)?, 40);
    for _ in 0..MOST_EXTENSIONS {
        match next {
            FRAGMENT => return packet.get(at..at + 8).map(|header| get_long(header, 4)),
            HOP_BY_HOP | ROUTING | DESTINATION => {
                next = *packet.get(at)?;
                at += 8 + usize::from(*packet.get(at + 1)?) * 8;
            }
            _ => return None,
        }
    }
    None
}

/// UDP, DCCP, SCTP, UDP-Lite: ports first, and no SYN to go by.
pub fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 17 | 33 | 132 | 136)
}

pub fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, ICMP | ICMPV6)
}

pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;
const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const MOST_EXTENSIONS: usize = 8;
/// UDP's header, ICMP's, and what every error quotes of TCP's (RFC 792).
const LEAST_TRANSPORT: usize = 8;
const MOST_QUOTED: usize = 128;
