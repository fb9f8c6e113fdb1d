//! One direction of a turn: from a socket to the TUN.

use std::io::ErrorKind;

use shore_dataplane_core::facts::DropReason;
use shore_dataplane_core::offload::coalesce::{Accepts, Coalescer};
use shore_dataplane_core::plane::{PeerSlot, Plane, Received, Source};
use shore_dataplane_core::time::Moment;

use crate::receive_queue::SHED_ABOVE;
use crate::relay::bound::{Bound, whose};
use crate::relay::link::Link;
use crate::tun::Tun;
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
        (udp, bound): (&mut Udp, &mut [Bound]),
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
        let here = Source {
            socket: udp.id,
            remote: arrived.remote,
        };
        let mut by_relay = whose(bound, arrived.remote);
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
                if at + datagram.len().max(LONGEST_JOINED) > self.arena.len() {
                    self.write(plane, tun, owner, now);
                    at = 0;
                }
                let room = &mut self.arena[at..];
                let whole = &self.datagrams[datagram.clone()];
                let received = match origin(&mut by_relay, here, whole, now) {
                    Some((source, begin)) => plane.receive(source, &whole[begin..], room, now),
                    None => Received::Nothing,
                };
                proven |= received != Received::Nothing;
                if let Received::Packet { peer, len } = received {
                    at = self.keep((at, len), datagram.len(), tun);
                    owner = Some(peer);
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

    /// What came by a link, up to the TUN. Returns the number of datagrams.
    pub fn take(
        &mut self,
        plane: &mut Plane,
        link: &mut Link,
        tun: &mut Option<Tun>,
        now: Moment,
    ) -> u32 {
        let (mut at, mut count, mut owner) = (0, 0, None);
        while let Some((remote, datagram)) = link.next_datagram() {
            count += 1;
            if at + datagram.len().max(LONGEST_JOINED) > self.arena.len() {
                self.write(plane, tun, owner, now);
                at = 0;
            }
            let socket = link.id;
            let room = &mut self.arena[at..];
            let received = plane.receive(Source { socket, remote }, &datagram, room, now);
            if let Received::Packet { peer, len } = received {
                at = self.keep((at, len), datagram.len(), tun);
                owner = Some(peer);
            }
        }
        if owner.is_some() {
            self.write(plane, tun, owner, now);
        }
        count
    }

    /// A packet waits in the arena to be joined and written. Returns where the next one begins.
    fn keep(&mut self, (at, len): (usize, usize), sealed: usize, tun: &Option<Tun>) -> usize {
        let accepts = tun.as_ref().map_or(NOTHING, Tun::accepts);
        self.coalescer.push(&self.arena, (at, len), accepts);
        self.packets += 1;
        // A packet that was joined is longer than its last piece.
        (at + sealed.max(len)).next_multiple_of(64)
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

/// Where a datagram is from, and where it begins in what came; None for a relay's own word.
fn origin(
    by_relay: &mut Option<&mut Bound>,
    here: Source,
    message: &[u8],
    now: Moment,
) -> Option<(Source, usize)> {
    match by_relay {
        Some(bound) => bound.hear(here, message, now),
        None => Some((here, 0)),
    }
}

/// The device was deleted under us.
pub fn gone_for_good(error: &std::io::Error) -> Option<i32> {
    error
        .raw_os_error()
        .filter(|errno| matches!(*errno, libc::EBADFD | libc::EBADF | libc::ENODEV))
}

const NOTHING: Accepts = Accepts {
    tcp: false,
    udp: false,
};
pub const MESSAGE: usize = 65_536;
/// 64 opened datagrams, each begun at a multiple of 64.
const ARENA: usize = MESSAGE + 64 * 64 + LONGEST_JOINED;
/// Four pieces of a jumbo frame.
const LONGEST_JOINED: usize = 36_000;
