//! One peer, ready to send: what becomes of a packet from the TUN once it is known whom it is for.

use crate::desired::LaneId;
use crate::facts::DropReason;
use crate::fit::mss;
use crate::offload::VnetHeader;
use crate::peer::Peer;
use crate::plane::{Destination, is_syn};
use crate::sizing::is_large;
use crate::time::Moment;

/// A peer ready to send, borrowed for one super-packet.
pub struct Sealer<'a> {
    pub(crate) peer: &'a mut Peer,
    pub(crate) lane: LaneId,
    pub(crate) destination: Destination,
    pub(crate) copy: Option<Destination>,
    pub(crate) mtu: u16,
    pub(crate) now: Moment,
}

impl Sealer<'_> {
    pub fn destination(&self) -> Destination {
        self.destination
    }

    /// Where the same datagrams go as well, while the primary path is in doubt.
    pub fn copy(&self) -> Option<Destination> {
        self.copy
    }

    /// The longest packet that fits into one datagram, and the bound of padding.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Whether the datagrams may forbid fragmentation: their size was proved, and the peer is a Shore node.
    pub fn forbids_fragments(&self) -> bool {
        self.joins() && self.peer.paths.mtu_of(self.destination).is_some()
    }

    /// Whether the peer joins pieces.
    pub fn joins(&self) -> bool {
        self.peer.paths.is_probed()
    }

    /// Lowers the MSS of a SYN in `buffer[..len]`. Returns its length.
    pub fn clamp(&self, buffer: &mut [u8], len: usize, partial: bool) -> usize {
        if is_syn(&buffer[..len]) {
            mss::clamp(buffer, len, self.mtu, partial)
        } else {
            len
        }
    }

    /// The answer to a packet that is too long, for the TUN; None if there is to be none.
    pub fn too_big(&mut self, packet: &[u8], room: &mut [u8]) -> Option<usize> {
        let (mtu, now) = (self.mtu, self.now);
        self.peer.sizing.too_big.answer(packet, mtu, room, now)
    }

    /// Keeps in mind that a packet leaves, in case the path carries less by then.
    pub fn note(&mut self, header: VnetHeader, packet: &[u8]) {
        let outstanding = &mut self.peer.sizing.outstanding;
        outstanding.note(header, packet, self.mtu, self.now);
    }

    /// Cuts a packet that may not shrink into pieces that fit; each is to be sealed.
    pub fn cut(
        &mut self,
        packet: &[u8],
        room: &mut [u8],
        mut each: impl FnMut(&mut Self, &[u8]),
    ) -> Result<(), DropReason> {
        let (mut cutter, mtu) = (self.peer.sizing.cutter, self.mtu);
        let cut = cutter.cut(packet, mtu, room, |piece| each(self, piece));
        self.peer.sizing.cutter = cutter;
        cut.map(drop).map_err(|_| DropReason::TooBig)
    }

    /// One WireGuard data message into `out`, which holds `packet.len() + 32` bytes or more; `packet`
    /// is already padded (`padded_len`). Returns `packet.len() + 32`.
    pub fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, DropReason> {
        let len = self.peer.seal(self.lane, packet, out, self.now)?;
        let large = is_large(len, self.destination);
        self.peer.paths.sent_data(large, self.copy);
        Ok(len)
    }
}
