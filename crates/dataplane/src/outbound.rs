//! The other direction of a turn: from the TUN to the sockets.
//!
//! A packet is routed once, judged once against what its path carries, and then split, cut or sealed as
//! it is, straight into the send buffer. Whoever sends what does not fit is told by an ICMP message through
//! the TUN, while the packet itself goes on where it can.

use shore_dataplane_core::engine::DATA_OVERHEAD;
use shore_dataplane_core::facts::DropReason;
use shore_dataplane_core::fit::fragment::fragment;
use shore_dataplane_core::fit::pieces::is_piece;
use shore_dataplane_core::fit::verdict::{Verdict, judge};
use shore_dataplane_core::offload::split::{Malformed, split};
use shore_dataplane_core::offload::{NEEDS_CSUM, VnetHeader};
use shore_dataplane_core::plane::{Plane, Sealer};
use shore_dataplane_core::time::Moment;

use crate::egress::{Egress, Place};
use crate::sockets::Sockets;
use crate::transfer::{MESSAGE, gone_for_good};
use crate::tun::{HEADROOM, Tun};

pub struct Outbound {
    /// From the TUN so far, super-packets counted by their segments.
    pub packets: u64,
    /// The errno that said that the TUN is gone.
    pub tun_gone: Option<i32>,
    buffer: Box<[u8]>,
    room: Box<[u8]>,
    answer: Box<[u8]>,
}

impl Outbound {
    pub fn new() -> Self {
        Self {
            packets: 0,
            tun_gone: None,
            buffer: vec![0; HEADROOM + MESSAGE + 64].into(),
            room: vec![0; MESSAGE].into(),
            answer: vec![0; MOST_ANSWER].into(),
        }
    }

    /// Packets from the TUN to the sockets, until it is empty or the turn is full.
    pub fn read(
        &mut self,
        plane: &mut Plane,
        tun: &mut Tun,
        sockets: &mut Sockets,
        (egress, copies): (&mut Egress, &mut Egress),
        now: Moment,
    ) -> u32 {
        let (mut count, mut bytes) = (0, 0);
        for _ in 0..MOST_READS {
            let (header, len) = match tun.read(&mut self.buffer) {
                Ok(read) => read,
                Err(error) => {
                    self.tun_gone = gone_for_good(&error);
                    break;
                }
            };
            bytes += len;
            let packet = &mut self.buffer[HEADROOM..];
            let Ok(slot) = plane.route(&packet[..len], now) else {
                count += 1;
                continue;
            };
            if is_piece(&packet[..len]) {
                plane.note_drop(Some(slot), DropReason::MalformedPacket, 1, now);
                continue;
            }
            let crowd = header.is_super_packet();
            let mut refused = None;
            let handed = if let Some(sealer) = plane.sealer(slot, &packet[..len], crowd, now) {
                let mut hand = Hand {
                    place: Place {
                        owner: Some(slot),
                        destination: sealer.destination(),
                        whole: sealer.forbids_fragments(),
                    },
                    copy: sealer.copy().map(|destination| Place {
                        owner: None,
                        destination,
                        whole: sealer.forbids_fragments(),
                    }),
                    sealer,
                    sockets: &mut *sockets,
                    egress: &mut *egress,
                    copies: &mut *copies,
                    refused: None,
                };
                let partial = header.flags & NEEDS_CSUM != 0;
                let len = hand.sealer.clamp(packet, len, partial);
                hand.sealer.note(header, &packet[..len]);
                let verdict = judge(
                    header,
                    &packet[..len],
                    hand.sealer.mtu(),
                    hand.sealer.joins(),
                );
                if verdict.tells_sender()
                    && let Some(size) = hand.sealer.too_big(&packet[..len], &mut self.answer)
                {
                    let _ = tun.write(&self.answer, VnetHeader::default(), &[(0, size)]);
                }
                let handed = hand.over(verdict, header, packet, len, &mut self.room);
                refused = hand.refused;
                handed
            } else {
                split(header, packet, len, 0, |segment| {
                    plane.stage(slot, segment, now)
                })
            };
            match handed {
                Ok(segments) => count += segments as u32,
                Err(Malformed) => plane.note_drop(Some(slot), DropReason::MalformedPacket, 1, now),
            }
            if let Some(reason) = refused {
                plane.note_drop(Some(slot), reason, 1, now);
            }
            if bytes >= MOST_BYTES {
                break;
            }
        }
        self.packets += u64::from(count);
        count
    }
}

/// One packet on its way out.
struct Hand<'a> {
    sealer: Sealer<'a>,
    place: Place,
    copy: Option<Place>,
    sockets: &'a mut Sockets,
    egress: &'a mut Egress,
    copies: &'a mut Egress,
    refused: Option<DropReason>,
}

impl Hand<'_> {
    /// Does what was judged. Returns the number of segments.
    fn over(
        &mut self,
        verdict: Verdict,
        header: VnetHeader,
        packet: &mut [u8],
        len: usize,
        room: &mut [u8],
    ) -> Result<usize, Malformed> {
        let mtu = self.sealer.mtu();
        match verdict {
            Verdict::Fits => split(header, packet, len, mtu, |segment| self.put(segment)),
            Verdict::Split(smaller) => {
                split(smaller, packet, len, mtu, |segment| self.put(segment))
            }
            Verdict::Fragment => split(header, packet, len, mtu, |segment| {
                let cut = fragment(segment, mtu, room, |piece| self.put(piece));
                self.refused = self.refused.or(cut.err().map(|_| DropReason::TooBig));
            }),
            Verdict::Cut => split(header, packet, len, mtu, |segment| self.cut(segment, room)),
            // To plain WireGuard over IPv4 the underlay may fragment what we may not.
            Verdict::Refuse if !self.sealer.joins() && self.place.destination.remote.is_ipv4() => {
                split(header, packet, len, mtu, |segment| self.put(segment))
            }
            Verdict::Refuse => {
                self.refused = Some(DropReason::TooBig);
                Ok(1)
            }
        }
    }

    fn cut(&mut self, segment: &[u8], room: &mut [u8]) {
        let mut pieces = Vec::new();
        let cut = self
            .sealer
            .cut(segment, room, |_, piece| pieces.push(piece.to_vec()));
        for piece in &pieces {
            self.put(piece);
        }
        self.refused = self.refused.or(cut.err());
    }

    fn put(&mut self, segment: &[u8]) {
        let size = segment.len() + DATA_OVERHEAD;
        let sealer = &mut self.sealer;
        let sealed = self.egress.append(self.sockets, self.place, size, |out| {
            sealer.seal(segment, out)
        });
        if let (Ok(()), Some(copy)) = (&sealed, self.copy) {
            self.copies
                .append_copy(self.sockets, copy, self.egress.last(size));
        }
        self.refused = self.refused.or(sealed.err());
    }
}

/// Small packets share sends; a turn must not starve the other direction.
const MOST_READS: usize = 64;
const MOST_BYTES: usize = 262_144;
/// An ICMPv6 answer is never longer than the least MTU.
const MOST_ANSWER: usize = 2048;
