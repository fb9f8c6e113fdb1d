//! TCP data that may be on its way: of each recent flow, the segment furthest ahead.
//!
//! When a path turns out to carry less than before, everything that was on its way in larger datagrams is
//! lost. TCP finds that out by its retransmission timer, which by then waits twice as long each time. Told
//! "fragmentation needed" (`too_big`), it sends at once what was too long (RFC 1191 §6.5).
//!
//! It believes that only of a segment on its way: one that was sent and is not acknowledged (RFC 5927
//! §7.2). Which ones are, its sender alone knows; but as long as any segment of a flow is, the one furthest
//! ahead is. A retransmission lies behind it and changes nothing. Of a super-packet it is the last whole
//! segment: the first may be acknowledged already, and a short rest was not lost for its size.
//!
//! Segments that a slightly smaller path would carry as well are of no interest. A flow that was silent for
//! so long that its ports may be another connection's begins anew. The table is small, and the flow that was
//! silent longest gives way: one that is not in it waits for its timer. Headers are all that is kept, and
//! all that is quoted: the ICMP of RFC 792 quotes no more than eight bytes behind the IP header.

use std::time::Duration;

use super::layout::Layout;
use super::too_big;
use crate::offload::VnetHeader;
use crate::offload::headers::{Headers, Transport, get_long, put_long};
use crate::time::Moment;

#[derive(Default)]
pub struct Outstanding {
    /// Empty until there are any.
    flows: Vec<Flow>,
}

#[derive(Clone, Copy)]
struct Flow {
    at: Moment,
    sequence: u32,
    /// Of the segment as a packet.
    length: u16,
    headers: Headers,
    quote: [u8; MOST_QUOTED],
}

impl Outstanding {
    /// `packet` leaves, a super-packet or not, on a path of this inner MTU.
    pub fn note(&mut self, header: VnetHeader, packet: &[u8], mtu: u16, now: Moment) {
        let least = mtu - mtu / 8;
        if packet.len() <= usize::from(least) {
            return;
        }
        let Some(flow) = Flow::of(header, packet, now).filter(|flow| flow.length > least) else {
            return;
        };
        let known = self.flows.iter().position(|known| known.is_same(&flow));
        let full = self.flows.len() >= MOST_FLOWS;
        let silent = || (0..MOST_FLOWS).min_by_key(|place| self.flows[*place].at);
        match known.or_else(|| full.then(silent).flatten()) {
            Some(place) if known.is_some() && self.flows[place].is_ahead_of(&flow) => {
                self.flows[place].at = now;
            }
            Some(place) => self.flows[place] = flow,
            None => self.flows.push(flow),
        }
    }

    /// Of each flow that is longer than `mtu`, what to quote.
    pub fn longer_than(&self, mtu: u16, now: Moment) -> impl Iterator<Item = Vec<u8>> + '_ {
        let recent = move |flow: &&Flow| flow.length > mtu && now.since(flow.at) < RECENT;
        self.flows.iter().filter(recent).map(Flow::quoted)
    }
}

impl Flow {
    fn of(header: VnetHeader, packet: &[u8], now: Moment) -> Option<Self> {
        let layout = Layout::read(packet)?;
        if layout.protocol != Transport::Tcp.number()
            || layout.is_fragment()
            || !too_big::is_answerable(&layout, packet)
        {
            return None;
        }
        let headers = Headers::read(packet, Transport::Tcp, layout.ip_len)?;
        let kept = packet.get(..headers.ip_len + TCP_LEN)?;
        let mut quote = [0; MOST_QUOTED];
        quote.get_mut(..kept.len())?.copy_from_slice(kept);
        let data = layout.total.checked_sub(headers.len)?;
        let size = if header.is_super_packet() {
            usize::from(header.gso_size).clamp(1, data.max(1))
        } else {
            data
        };
        let before = data.checked_div(size)?.saturating_sub(1) * size;
        Some(Self {
            at: now,
            sequence: get_long(packet, headers.ip_len + SEQUENCE).wrapping_add(before as u32),
            length: (headers.len + size) as u16,
            headers,
            quote,
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        let (from, to) = if self.headers.v6 { (8, 40) } else { (12, 20) };
        let ports = |flow: &Self| {
            let at = flow.headers.ip_len;
            [
                flow.quote[at],
                flow.quote[at + 1],
                flow.quote[at + 2],
                flow.quote[at + 3],
            ]
        };
        self.headers.v6 == other.headers.v6
            && self.quote[from..to] == other.quote[from..to]
            && ports(self) == ports(other)
    }

    /// Whether a newer packet of the same connection is one that was sent before.
    fn is_ahead_of(&self, newer: &Self) -> bool {
        let ahead = self.sequence.wrapping_sub(newer.sequence).cast_signed() > 0;
        ahead && newer.at.since(self.at) < RECENT
    }

    fn quoted(&self) -> Vec<u8> {
        let mut quote = self.quote[..self.headers.ip_len + TCP_LEN].to_vec();
        self.headers.write_total(&mut quote, self.length.into());
        put_long(&mut quote, self.headers.ip_len + SEQUENCE, self.sequence);
        quote
    }
}

pub const MOST_FLOWS: usize = 16;
/// The longest IPv4 header, or that of IPv6 with 20 bytes of extensions, and TCP's without options.
const MOST_QUOTED: usize = 80;
const TCP_LEN: usize = 20;
const SEQUENCE: usize = 4;
const RECENT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::samples::{hostile, tcp, udp, with_df};
    use super::*;
    use crate::offload::checksum::Sum;
    use crate::offload::headers::get;
    use crate::offload::{GSO_NONE, GSO_TCPV4, NEEDS_CSUM};
    use proptest::prelude::*;

    const ACK: u8 = 0x10;
    const MTU: u16 = 1440;

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    fn of_size(gso_size: u16) -> VnetHeader {
        VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: if gso_size == 0 { GSO_NONE } else { GSO_TCPV4 },
            gso_size,
            ..VnetHeader::default()
        }
    }

    fn segment(sequence: u32, payload: usize) -> Vec<u8> {
        let mut packet = with_df(tcp(4, ACK, &[], payload));
        put_long(&mut packet, 24, sequence);
        packet
    }

    fn by_port(port: u16) -> Vec<u8> {
        let mut packet = segment(1, 1400);
        packet[20..22].copy_from_slice(&port.to_be_bytes());
        packet
    }

    fn sequences(outstanding: &Outstanding, mtu: u16, now: Moment) -> Vec<u32> {
        let quotes = outstanding.longer_than(mtu, now);
        quotes.map(|quote| get_long(&quote, 24)).collect()
    }

    #[test]
    fn the_segment_furthest_ahead_is_quoted_and_a_retransmission_changes_nothing() {
        let mut outstanding = Outstanding::default();
        for sequence in [1000, 3800, 2400] {
            outstanding.note(of_size(0), &segment(sequence, 1400), MTU, at(0));
        }
        assert_eq!(sequences(&outstanding, 1240, at(10)), [3800]);
        assert!(sequences(&outstanding, 1440, at(10)).is_empty());
    }

    #[test]
    fn sequence_numbers_come_around() {
        let mut outstanding = Outstanding::default();
        for sequence in [u32::MAX - 100, 1300] {
            outstanding.note(of_size(0), &segment(sequence, 1400), MTU, at(0));
        }
        assert_eq!(sequences(&outstanding, 1240, at(10)), [1300]);
    }

    #[test]
    fn of_a_super_packet_it_is_the_last_whole_segment() {
        let mut outstanding = Outstanding::default();
        outstanding.note(of_size(1400), &segment(1000, 3 * 1400 + 7), MTU, at(0));
        let quotes: Vec<_> = outstanding.longer_than(1240, at(0)).collect();
        assert_eq!(quotes.len(), 1);
        assert_eq!((quotes[0].len(), get(&quotes[0], 2)), (40, 1440));
        assert_eq!(get_long(&quotes[0], 24), 1000 + 2 * 1400);
        assert!(Sum::default().with(&quotes[0][..20]).is_right());
    }

    #[test]
    fn a_flow_that_was_silent_begins_anew_and_is_forgotten() {
        let mut outstanding = Outstanding::default();
        outstanding.note(of_size(0), &segment(9000, 1400), MTU, at(0));
        assert!(sequences(&outstanding, 1240, at(10_000)).is_empty());
        outstanding.note(of_size(0), &segment(10, 1400), MTU, at(10_000));
        assert_eq!(sequences(&outstanding, 1240, at(10_000)), [10]);
    }

    #[test]
    fn what_a_slightly_smaller_path_carries_and_what_may_not_be_answered_is_not_kept() {
        let mut outstanding = Outstanding::default();
        let small = segment(1, 1200);
        let fragmentable = tcp(4, ACK, &[], 1400);
        for packet in [small, fragmentable, with_df(udp(4, 1400))] {
            outstanding.note(of_size(0), &packet, MTU, at(0));
        }
        assert!(sequences(&outstanding, 68, at(0)).is_empty());
    }

    #[test]
    fn both_families_have_their_flows() {
        let mut outstanding = Outstanding::default();
        outstanding.note(of_size(0), &tcp(6, ACK, &[], 1360), 1420, at(0));
        outstanding.note(of_size(0), &segment(1, 1380), 1420, at(0));
        let lengths: Vec<_> = outstanding
            .longer_than(1280, at(0))
            .map(|q| q.len())
            .collect();
        assert_eq!(lengths, [60, 40]);
    }

    #[test]
    fn the_flow_that_was_silent_longest_gives_way() {
        let mut outstanding = Outstanding::default();
        for port in 0..=MOST_FLOWS as u16 {
            let now = at(u64::from(port));
            outstanding.note(of_size(0), &by_port(port), MTU, now);
        }
        let quotes: Vec<_> = outstanding.longer_than(1240, at(99)).collect();
        assert_eq!(quotes.len(), MOST_FLOWS);
        assert!(quotes.iter().all(|quote| get(quote, 20) != 0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            bytes in hostile(),
            more in 0usize..1400,
            gso_type in prop_oneof![Just(0u8), Just(1), Just(4), Just(5), any::<u8>()],
            gso_size: u16,
            mtu: u16,
        ) {
            let mut packet = bytes;
            packet.resize(packet.len() + more, 0x5a);
            let header = VnetHeader { gso_type, gso_size, ..VnetHeader::default() };
            let mut outstanding = Outstanding::default();
            outstanding.note(header, &packet, mtu, at(0));
            prop_assert!(outstanding.longer_than(0, at(0)).all(|quote| quote.len() <= MOST_QUOTED));
        }
    }
}
