//! From many packets of a flow to one super-packet.
//!
//! Packets lie in an arena, each where it was opened; a *run* lists consecutive segments of one flow.
//! A packet joins the open run of its flow if it is the next segment of it: same addresses, ports,
//! TOS, TTL, acknowledgment, window and options, the expected sequence number, and no larger than the
//! first. A smaller one, or one with PSH, closes the run; so does every packet of the flow that cannot
//! join. Runs leave in the order in which they began, which keeps the order within each flow.
//!
//! A wrong checksum must stay wrong: the kernel is told to trust what is joined, so only packets whose
//! checksums are right join.

use super::checksum::Sum;
use super::headers::{ACK, FLAGS, Headers, PSH, Transport, get, get_long, put};
use super::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHeader};

/// A packet's place in the arena.
pub type Place = (usize, usize);

/// What the TUN takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepts {
    pub tcp: bool,
    pub udp: bool,
}

#[derive(Default)]
pub struct Coalescer {
    runs: Vec<Run>,
    spare: Vec<Vec<Place>>,
}

struct Run {
    flow: Option<Flow>,
    open: bool,
    /// The first packet whole, then payloads.
    places: Vec<Place>,
    headers: Option<Headers>,
    size: usize,
    total: usize,
    next_sequence: u32,
    next_id: u16,
    push: bool,
}

/// What segments of one flow share; a packet that differs in any of it belongs elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Flow {
    transport: Transport,
    v6: bool,
    addresses: [u8; 32],
    ports: u32,
}

struct Segment {
    flow: Flow,
    headers: Headers,
    payload: usize,
    sequence: u32,
    id: u16,
    /// Whether it may join or start a run at all.
    joins: bool,
    push: bool,
}

impl Coalescer {
    /// Takes the packet at `place` of the arena.
    pub fn push(&mut self, arena: &[u8], place: Place, accepts: Accepts) {
        let packet = &arena[place.0..place.0 + place.1];
        let segment = Segment::read(packet, accepts);
        let Some(segment) = segment else {
            self.begin(place, None);
            return;
        };
        let candidates = self.runs.iter_mut().rev().take(LOOK_BACK);
        let mut same_flow = candidates.filter(|run| run.open && run.flow == Some(segment.flow));
        if let Some(run) = same_flow.next() {
            if run.takes(arena, packet, &segment) {
                run.join(place, &segment);
                return;
            }
            run.open = false;
        }
        self.begin(place, Some(segment));
    }

    /// Hands out every run: its header, and its places in the arena, the first one with the IP and
    /// transport headers of the whole.
    pub fn flush(&mut self, arena: &mut [u8], mut each: impl FnMut(&[u8], VnetHeader, &[Place])) {
        let mut runs = std::mem::take(&mut self.runs);
        for run in &mut runs {
            let header = run.finish(arena);
            each(arena, header, &run.places);
            let mut places = std::mem::take(&mut run.places);
            places.clear();
            self.spare.push(places);
        }
        runs.clear();
        self.runs = runs;
    }

    fn begin(&mut self, place: Place, segment: Option<Segment>) {
        let mut places = self.spare.pop().unwrap_or_default();
        places.push(place);
        let run = match segment {
            Some(segment) => Run {
                flow: Some(segment.flow),
                open: segment.joins && !segment.push,
                places,
                headers: Some(segment.headers),
                size: segment.payload,
                total: place.1,
                next_sequence: segment.sequence.wrapping_add(segment.payload as u32),
                next_id: segment.id.wrapping_add(1),
                push: segment.push,
            },
            None => Run {
                flow: None,
                open: false,
                places,
                headers: None,
                size: 0,
                total: place.1,
                next_sequence: 0,
                next_id: 0,
                push: false,
            },
        };
        self.runs.push(run);
    }
}

impl Run {
    fn takes(&self, arena: &[u8], packet: &[u8], segment: &Segment) -> bool {
        let (at, len) = self.places[0];
        let first = &arena[at..at + len];
        let Some(headers) = self.headers else {
            return false;
        };
        segment.joins
            && segment.headers == headers
            && segment.payload <= self.size
            && self.total + segment.payload <= MOST_BYTES
            && self.places.len() < MOST_SEGMENTS
            && same_ip(first, packet, headers, self.next_id, segment.id)
            && match headers.transport {
                Transport::Udp => true,
                Transport::Tcp => {
                    segment.sequence == self.next_sequence && same_tcp(first, packet, headers)
                }
            }
    }

    fn join(&mut self, (at, len): Place, segment: &Segment) {
        self.places
            .push((at + segment.headers.len, len - segment.headers.len));
        self.total += segment.payload;
        self.next_sequence = self.next_sequence.wrapping_add(segment.payload as u32);
        self.next_id = self.next_id.wrapping_add(1);
        self.push |= segment.push;
        self.open = !segment.push && segment.payload == self.size;
    }

    fn finish(&self, arena: &mut [u8]) -> VnetHeader {
        let (Some(headers), true) = (self.headers, self.places.len() > 1) else {
            return VnetHeader::default();
        };
        let (at, len) = self.places[0];
        let first = &mut arena[at..at + len];
        let start = headers.ip_len;
        headers.write_total(first, self.total);
        match headers.transport {
            Transport::Tcp if self.push => first[start + FLAGS] |= PSH,
            Transport::Tcp => {}
            Transport::Udp => put(first, start + 4, (self.total - start) as u16),
        }
        let field = start + headers.transport.checksum_at();
        let pseudo = headers.pseudo(first, self.total - start).folded();
        first[field..field + 2].copy_from_slice(&pseudo);
        VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: match (headers.transport, headers.v6) {
                (Transport::Udp, _) => GSO_UDP_L4,
                (Transport::Tcp, false) => GSO_TCPV4,
                (Transport::Tcp, true) => GSO_TCPV6,
            },
            hdr_len: headers.len as u16,
            gso_size: self.size as u16,
            csum_start: start as u16,
            csum_offset: headers.transport.checksum_at() as u16,
        }
    }
}

impl Segment {
    /// None for whatever is no whole TCP or UDP packet that the TUN could take joined.
    fn read(packet: &[u8], accepts: Accepts) -> Option<Self> {
        let v6 = packet.first()? >> 4 == 6;
        let ip_len = if v6 { 40 } else { 20 };
        let transport = match *packet.get(if v6 { 6 } else { 9 })? {
            6 if accepts.tcp => Transport::Tcp,
            17 if accepts.udp => Transport::Udp,
            _ => return None,
        };
        let headers = Headers::read(packet, transport, ip_len)?;
        let whole = if v6 {
            usize::from(get(packet, 4)) + 40 == packet.len()
        } else {
            usize::from(get(packet, 2)) == packet.len() && get(packet, 6) & !DONT_FRAGMENT == 0
        };
        if !whole {
            return None;
        }
        let mut addresses = [0; 32];
        let from = if v6 { &packet[8..40] } else { &packet[12..20] };
        addresses[..from.len()].copy_from_slice(from);
        let payload = packet.len() - headers.len;
        let (flags, sequence, plain) = match transport {
            Transport::Tcp => {
                let flags = packet[ip_len + FLAGS];
                let plain = flags & !PSH == ACK && packet[ip_len + 12] & 0xf == 0;
                (flags, get_long(packet, ip_len + 4), plain)
            }
            Transport::Udp => {
                let length = usize::from(get(packet, ip_len + 4));
                (
                    0,
                    0,
                    length + ip_len == packet.len() && get(packet, ip_len + 6) != 0,
                )
            }
        };
        Some(Self {
            flow: Flow {
                transport,
                v6,
                addresses,
                ports: get_long(packet, ip_len),
            },
            headers,
            payload,
            sequence,
            id: if v6 { 0 } else { get(packet, 4) },
            joins: plain && payload > 0 && has_right_checksums(packet, headers),
            push: flags & PSH != 0,
        })
    }
}

fn has_right_checksums(packet: &[u8], headers: Headers) -> bool {
    let start = headers.ip_len;
    let ip = headers.v6 || Sum::default().with(&packet[..start]).is_right();
    ip && headers
        .pseudo(packet, packet.len() - start)
        .with(&packet[start..])
        .is_right()
}

fn same_ip(first: &[u8], packet: &[u8], headers: Headers, next_id: u16, id: u16) -> bool {
    if headers.v6 {
        return first[..4] == packet[..4] && first[7] == packet[7];
    }
    let dont_fragment = get(packet, 6) & DONT_FRAGMENT != 0;
    first[1] == packet[1]
        && first[6..9] == packet[6..9]
        && (id == next_id || (dont_fragment && id == get(first, 4)))
}

/// Acknowledgment, window, urgent pointer and options.
fn same_tcp(first: &[u8], packet: &[u8], headers: Headers) -> bool {
    let start = headers.ip_len;
    first[start + 8..start + 12] == packet[start + 8..start + 12]
        && first[start + 14..start + 16] == packet[start + 14..start + 16]
        && first[start + 18..headers.len] == packet[start + 18..headers.len]
}

const DONT_FRAGMENT: u16 = 0x4000;
/// Runs that are looked at for a packet's flow; older ones stay as they are.
const LOOK_BACK: usize = 8;
const MOST_BYTES: usize = 65_535;
const MOST_SEGMENTS: usize = 64;
