//! The two directions of a turn: from a socket to the TUN, and from the TUN to the sockets.

use std::io::ErrorKind;

use shore_dataplane_core::engine::DATA_OVERHEAD;
use shore_dataplane_core::facts::DropReason;
use shore_dataplane_core::offload::coalesce::{Accepts, Coalescer};
use shore_dataplane_core::offload::split::split;
use shore_dataplane_core::plane::{PeerSlot, Plane, Received, Source};
use shore_dataplane_core::time::Moment;

use crate::egress::Egress;
use crate::receive_queue::SHED_ABOVE;
use crate::tun::{HEADROOM, Tun};
use crate::udp::Udp;

pub struct Inbound {
    /// To the TUN so far.
    pub packets: u64,
    /// The errno that said that the TUN is gone.
    pub tun_gone: Option<i32>,
    datagrams: Box<[u8]>,
    arena: Box<[u8]>,
    coalescer: Coalescer,
}

impl Inbound {
    pub fn new() -> Self {
        Self {
            packets: 0,
            tun_gone: None,
            datagrams: vec![0; MESSAGE].into(),
            arena: vec![0; ARENA].into(),
            coalescer: Coalescer::default(),
        }
    }

    /// Drops what a caught panic may have left half done.
    pub fn reset(&mut self) {
        self.coalescer = Coalescer::default();
    }

    /// One message, if there is one, up to the TUN. Returns the number of its datagrams.
    pub fn receive(
        &mut self,
        plane: &mut Plane,
        udp: &mut Udp,
        tun: &mut Option<Tun>,
        sheds: bool,
        now: Moment,
    ) -> u32 {
        let mut shed = sheds && udp.sheds(now);
        let Ok(arrived) = udp.receive(&mut self.datagrams) else {
            return 0;
        };
        if arrived.truncated {
            plane.note_drop(None, DropReason::Truncated, 1, now);
            return 1;
        }
        let source = Source {
            socket: udp.id,
            remote: arrived.remote,
        };
        let (mut at, mut count, mut owner, mut proven) = (0, 0, None, false);
        let len = arrived.len;
        let mut rest = 0..len;
        loop {
            let end = (rest.start + arrived.stride).min(len);
            let datagram = rest.start..end;
            rest.start = end;
            count += 1;
            if shed && datagram.len() > SHED_ABOVE {
                shed = false;
                plane.note_drop(None, DropReason::ReceiveQueue, 1, now);
            } else {
                if at + datagram.len() > self.arena.len() {
                    self.write(plane, tun, owner, now);
                    at = 0;
                }
                let room = &mut self.arena[at..];
                let received = plane.receive(source, &self.datagrams[datagram.clone()], room, now);
                proven |= received != Received::Nothing;
                if let Received::Packet { peer, len } = received {
                    let accepts = tun.as_ref().map_or(NOTHING, Tun::accepts);
                    self.coalescer.push(&self.arena, (at, len), accepts);
                    at = (at + datagram.len()).next_multiple_of(64);
                    owner = Some(peer);
                    self.packets += 1;
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        if proven {
            udp.stick(arrived.remote, arrived.local);
        }
        if owner.is_some() {
            self.write(plane, tun, owner, now);
        }
        count
    }

    fn write(
        &mut self,
        plane: &mut Plane,
        tun: &mut Option<Tun>,
        owner: Option<PeerSlot>,
        now: Moment,
    ) {
        let gone = &mut self.tun_gone;
        self.coalescer
            .flush(&mut self.arena, |arena, header, places| {
                let Some(tun) = tun else {
                    plane.note_drop(owner, DropReason::TunError, places.len() as u64, now);
                    return;
                };
                if let Err(error) = tun.write(arena, header, places) {
                    let full = error.kind() == ErrorKind::WouldBlock;
                    let reason = if full {
                        DropReason::TunQueue
                    } else {
                        DropReason::TunError
                    };
                    plane.note_drop(owner, reason, places.len() as u64, now);
                    *gone = gone.or(gone_for_good(&error));
                }
            });
    }
}

pub struct Outbound {
    /// From the TUN so far, super-packets counted by their segments.
    pub packets: u64,
    /// The errno that said that the TUN is gone.
    pub tun_gone: Option<i32>,
    buffer: Box<[u8]>,
}

impl Outbound {
    pub fn new() -> Self {
        Self {
            packets: 0,
            tun_gone: None,
            buffer: vec![0; HEADROOM + MESSAGE + 64].into(),
        }
    }

    /// Packets from the TUN to the sockets, until it is empty or the turn is full.
    pub fn read(
        &mut self,
        plane: &mut Plane,
        tun: &Tun,
        sockets: &mut [Udp],
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
            let packet = &mut self.buffer[HEADROOM..];
            let Ok(slot) = plane.route(&packet[..len], now) else {
                count += 1;
                continue;
            };
            let mut refused = None;
            let crowd = header.is_super_packet();
            let handed = if let Some(mut sealer) = plane.sealer(slot, &packet[..len], crowd, now) {
                let place = (Some(slot), sealer.destination());
                let copy = sealer.copy().map(|to| (None, to));
                split(header, packet, len, sealer.mtu(), |segment| {
                    let size = segment.len() + DATA_OVERHEAD;
                    let sealed =
                        egress.append(sockets, place, size, |out| sealer.seal(segment, out));
                    if let (Ok(()), Some(copy)) = (&sealed, copy) {
                        copies.append_copy(sockets, copy, egress.last(size));
                    }
                    refused = refused.or(sealed.err());
                })
            } else {
                split(header, packet, len, 0, |segment| {
                    plane.stage(slot, segment, now)
                })
            };
            match handed {
                Ok(segments) => count += segments as u32,
                Err(_) => plane.note_drop(Some(slot), DropReason::MalformedPacket, 1, now),
            }
            if let Some(reason) = refused {
                plane.note_drop(Some(slot), reason, 1, now);
            }
            bytes += len;
            if bytes >= MOST_BYTES {
                break;
            }
        }
        self.packets += u64::from(count);
        count
    }
}

/// The device was deleted under us.
fn gone_for_good(error: &std::io::Error) -> Option<i32> {
    error
        .raw_os_error()
        .filter(|errno| matches!(*errno, libc::EBADFD | libc::EBADF | libc::ENODEV))
}

const NOTHING: Accepts = Accepts {
    tcp: false,
    udp: false,
};
const MESSAGE: usize = 65_536;
/// 64 opened datagrams, each begun at a multiple of 64.
const ARENA: usize = MESSAGE + 64 * 64 + 4096;
/// Small packets share sends; a turn must not starve the other direction.
const MOST_READS: usize = 64;
const MOST_BYTES: usize = 262_144;
