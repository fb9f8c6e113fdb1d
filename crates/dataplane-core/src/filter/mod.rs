//! Policy at the receiver: what comes out of a peer's session and may go on to the TUN.
//!
//! Rules say who may begin a conversation; an answer needs none. How an answer is known depends on what
//! forgetting would cost:
//!
//! * TCP is judged by its first SYN. A segment without SYN, or with ACK, passes: a host drops it unless it
//!   knows the connection, so there is nothing to remember and nothing to lose at a restart.
//! * What has ports but no SYN (UDP, SCTP) and ICMP echo is judged by flow: a packet that we sent opens the
//!   way back for five minutes. Flows that the rules let in anyhow are not kept. The table is bounded; the
//!   oldest flow goes first, and the next packet that we send brings it back.
//! * An ICMP error is judged by the packet it quotes, which must be one that this node could have sent.
//! * Anything else is judged by the rules alone.
//!
//! Of a fragmented packet the first fragment decides, and must hold the whole transport header; later ones
//! follow it, and may not reach into what it was judged by (RFC 1858, RFC 3128). IPv6 extension headers
//! are walked as far as `Layout` does; a packet that hides its transport further back is refused.
//!
//! A change of rules is in force for the next packet; TCP that is established goes on, as in the languages
//! that policies are written in.

#[cfg(test)]
mod agreement;
mod flow;
mod recent;
mod rules;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use flow::{Flow, Quoted, flow_of, has_ports, identification, is_icmp};
use recent::Recent;
pub use rules::Rules;

use crate::allowed_ips::addresses;
use crate::fit::layout::Layout;
use crate::offload::headers::{ACK, FLAGS};
use crate::time::Moment;

pub struct Filter {
    rules: Rules,
    /// Flows as we sent them.
    sent: Recent<Flow>,
    /// Packets whose first fragment was let in.
    fragments: Recent<Fragmented>,
    last_sent: Option<(Flow, Moment)>,
    last_admitted: Option<(Flow, Moment)>,
}

/// What fragments of one packet share.
type Fragmented = (IpAddr, IpAddr, u32);

impl Filter {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            sent: Recent::new(MOST_FLOWS, FLOW_LIFE),
            fragments: Recent::new(MOST_FRAGMENTED, FRAGMENT_LIFE),
            last_sent: None,
            last_admitted: None,
        }
    }

    /// Other rules; flows that we began live on.
    pub fn obey(&mut self, rules: Rules) {
        self.rules = rules;
        self.last_sent = None;
        self.last_admitted = None;
    }

    /// Takes note of a packet that goes out, so that its answer finds the way back.
    pub fn sent(&mut self, packet: &[u8], now: Moment) {
        if is_bare(packet, TCP) {
            return;
        }
        let Some(flow) = Layout::read(packet).and_then(|layout| flow_of(packet, &layout)) else {
            return;
        };
        if is_fresh(self.last_sent, flow, now) {
            return;
        }
        self.last_sent = Some((flow, now));
        if !self.sent.refresh(flow, now) && !self.rules.permit(&flow.back()) {
            self.sent.note(flow, now);
        }
    }

    /// Whether a packet from a peer, its source checked, may come in.
    pub fn admits(&mut self, packet: &[u8], now: Moment) -> bool {
        is_established(packet) || self.judge(packet, now)
    }

    fn judge(&mut self, packet: &[u8], now: Moment) -> bool {
        let (Some(layout), Some((from, to))) = (Layout::read(packet), addresses(packet)) else {
            return false;
        };
        if !layout.is_fragment() {
            return self.judge_whole(packet, &layout, (from, to), now);
        }
        let Some(id) = identification(packet) else {
            return false;
        };
        if layout.offset > 0 {
            return layout.offset >= LEAST_OFFSET && self.fragments.has(&(from, to, id), now);
        }
        let admitted = self.judge_whole(packet, &layout, (from, to), now);
        if admitted {
            self.fragments.note((from, to, id), now);
        }
        admitted
    }

    /// Of a packet whose transport header is there.
    fn judge_whole(
        &mut self,
        packet: &[u8],
        layout: &Layout,
        (from, to): (IpAddr, IpAddr),
        now: Moment,
    ) -> bool {
        let transport = &packet[layout.ip_len..layout.total];
        match layout.protocol {
            TCP if transport.len() < TCP_LEN => false,
            TCP if !is_first_syn(transport[FLAGS]) => true,
            protocol if protocol == TCP || has_ports(protocol) || is_icmp(protocol) => {
                if is_icmp(protocol)
                    && let Some(quoted) = Quoted::read(protocol, transport)
                {
                    return self.answers_to(quoted, to, now);
                }
                flow_of(packet, layout).is_some_and(|flow| self.admits_flow(flow, now))
            }
            protocol => self.rules.permit(&Flow::bare(protocol, from, to)),
        }
    }

    fn admits_flow(&mut self, flow: Flow, now: Moment) -> bool {
        if is_fresh(self.last_admitted, flow, now) {
            return true;
        }
        let may_answer = flow.is_echo_reply() || has_ports(flow.protocol);
        let answers = may_answer && self.sent.has(&flow.back(), now);
        let admitted = answers || self.rules.permit(&flow);
        if admitted && flow.protocol != TCP {
            self.last_admitted = Some((flow, now));
        }
        admitted
    }

    /// An ICMP error: is the packet that it quotes one of ours?
    fn answers_to(&mut self, quoted: Quoted, to: IpAddr, now: Moment) -> bool {
        match quoted {
            Quoted::Nothing => false,
            Quoted::Flow(flow) => {
                let ours = flow.from == to;
                let known = flow.protocol == TCP
                    || self.sent.has(&flow, now)
                    || self.rules.permit(&flow.back());
                ours && known
            }
        }
    }
}

/// TCP that begins nothing, told at a glance: without IP options or extension headers, not a fragment.
fn is_established(packet: &[u8]) -> bool {
    let ip_len = if packet.first() == Some(&PLAIN_V4) {
        20
    } else {
        40
    };
    is_bare(packet, TCP)
        && packet.len() >= ip_len + TCP_LEN
        && !is_first_syn(packet[ip_len + FLAGS])
}

fn is_bare(packet: &[u8], protocol: u8) -> bool {
    match packet.first_chunk::<20>() {
        Some(header) if header[0] == PLAIN_V4 => {
            header[9] == protocol && header[6] & 0x3f | header[7] == 0
        }
        Some(header) => header[0] >> 4 == 6 && header[6] == protocol,
        None => false,
    }
}

fn is_first_syn(flags: u8) -> bool {
    flags & (SYN | ACK) == SYN
}

fn is_fresh(last: Option<(Flow, Moment)>, flow: Flow, now: Moment) -> bool {
    last.is_some_and(|(known, at)| known == flow && now.since(at) < FRESH)
}

const PLAIN_V4: u8 = 0x45;
const TCP: u8 = 6;
const SYN: u8 = 2;
const TCP_LEN: usize = 20;
/// A later fragment that starts before could overwrite ports or flags.
const LEAST_OFFSET: usize = 24;
const MOST_FLOWS: usize = 16_384;
/// RFC 4787 §4.3 asks for two minutes at least and recommends five.
const FLOW_LIFE: Duration = Duration::from_secs(300);
const MOST_FRAGMENTED: usize = 1024;
/// As long as Linux waits for the rest of an IPv4 packet.
const FRAGMENT_LIFE: Duration = Duration::from_secs(30);
/// How long one packet of a flow speaks for those right behind it.
const FRESH: Duration = Duration::from_secs(1);
