//! A packet that may not shrink, cut into pieces that fit and joined by the peer. Between Shore nodes
//! only: neither a router nor a host sees more than the whole packet.
//!
//! Each piece is the plaintext of an ordinary WireGuard data message, and looks like an IPv4 packet, as
//! such plaintexts must:
//!
//! ```text
//!  0  IPv4 header: 20 bytes, DF, TTL 1, protocol 253
//!     from 240.83.72.1 to 240.83.72.2
//! 20  index      1 byte    of this piece
//! 21  count      1 byte    of pieces, 2 to 4
//! 22  total      2 bytes   length of the packet
//! 24  id         4 bytes   of the packet, counted up by the sender
//! 28  a share of the packet: total / count, rounded up; the last piece has the rest
//! ```
//!
//! Addresses in 240.0.0.0/4 are reserved (RFC 1112 §4): by RFC 6890 they are nobody's, neither source
//! nor destination, and are not forwarded. Protocol 253 is for experiments (RFC 3692). So should a
//! piece ever come to a node that does not know it, it falls out of the allowed IPs, or dies of its TTL.
//! What comes from the TUN with such an address is to be dropped: it would be taken for a piece.
//!
//! Where a share lies follows from its index, so pieces cannot overlap, and a length that does not
//! follow is refused, as are a second piece of one index and pieces that do not agree. The counter of
//! 32 bits does not come around within the second that a packet may stay incomplete. All incomplete
//! packets of a peer share 64 KiB; the oldest gives way. A joined packet has yet to be checked like any
//! that was opened: its source is inside, and no piece bears witness to it.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::layout::{DONT_FRAGMENT, Layout, V4_LEN};
use super::read;
use crate::offload::checksum::Sum;
use crate::offload::headers::{get_long, put, put_long};
use crate::plane::padded_len;
use crate::time::Moment;

/// Whether a packet has the reserved prefix in its source or destination: from a peer it is a piece,
/// from the TUN an impostor.
pub fn is_piece(packet: &[u8]) -> bool {
    packet.len() >= V4_LEN
        && packet[0] >> 4 == 4
        && (packet[12..15] == PREFIX || packet[16..19] == PREFIX)
}

/// The longest packet that can be cut for an inner MTU.
pub fn longest(mtu: u16) -> usize {
    MOST_PIECES * usize::from(mtu).saturating_sub(HEADER)
}

/// Cuts the packets for one peer.
#[derive(Clone, Copy)]
pub struct Cutter {
    next_id: u32,
}

/// The packet is no packet, or longer than four pieces; nothing was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncuttable;

impl Cutter {
    /// `first_id`: by chance, so that a new data plane does not go on in the old one's packets.
    pub fn new(first_id: u32) -> Self {
        Self { next_id: first_id }
    }

    /// Hands pieces of at most `mtu` bytes to `each`, padded with zeros to 16 bytes, never above the
    /// MTU. `room` takes one at a time and should have `mtu` bytes. Returns their number.
    pub fn cut(
        &mut self,
        packet: &[u8],
        mtu: u16,
        room: &mut [u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<usize, Uncuttable> {
        let total = Layout::read(packet).ok_or(Uncuttable)?.total;
        if total > longest(mtu) || usize::from(mtu) > room.len() {
            return Err(Uncuttable);
        }
        let count = total.div_ceil(usize::from(mtu) - HEADER).max(2);
        let shape = Shape { count, total };
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        for index in 0..count {
            let share = &packet[shape.share(index).ok_or(Uncuttable)?];
            let len = HEADER + share.len();
            write_header(&mut room[..HEADER], len, index, shape, id);
            room[HEADER..len].copy_from_slice(share);
            let padded = padded_len(len, mtu);
            room[len..padded].fill(0);
            each(&room[..padded]);
        }
        Ok(count)
    }
}

/// What became of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// It was the last one missing; this is the packet, to be checked by the caller.
    Whole(Vec<u8>),
    /// Others are missing.
    Waiting,
    /// It is malformed, was there before, or contradicts another.
    Refused,
}

/// Joins the packets of one peer.
#[derive(Default)]
pub struct Joiner {
    /// In the order of their first pieces.
    incomplete: VecDeque<Incomplete>,
    bytes: usize,
    given_up: u64,
}

impl Joiner {
    /// Takes a packet for which `is_piece` is true.
    pub fn join(&mut self, packet: &[u8], now: Moment) -> Joined {
        self.expire(now);
        let Some(piece) = Piece::read(packet) else {
            return Joined::Refused;
        };
        let known = self.incomplete.iter().rposition(|it| it.id == piece.id);
        let place = known.unwrap_or_else(|| self.begin(&piece, now));
        let incomplete = &mut self.incomplete[place];
        if !incomplete.fill(&piece) {
            return Joined::Refused;
        }
        if incomplete.missing != 0 {
            return Joined::Waiting;
        }
        self.bytes -= piece.shape.total;
        match self.incomplete.remove(place) {
            Some(whole) if !is_piece(&whole.packet) => Joined::Whole(whole.packet),
            _ => Joined::Refused,
        }
    }

    /// Gives up what has been incomplete for more than a second.
    pub fn expire(&mut self, now: Moment) {
        while let Some(oldest) = self.incomplete.front()
            && now.since(oldest.begun) > MAX_AGE
        {
            self.give_up();
        }
    }

    /// How many packets were given up since this was last asked.
    pub fn given_up(&mut self) -> u64 {
        std::mem::take(&mut self.given_up)
    }

    /// Returns its place.
    fn begin(&mut self, piece: &Piece, now: Moment) -> usize {
        let shape = piece.shape;
        while self.bytes + shape.total > MOST_BYTES || self.incomplete.len() >= MOST_PACKETS {
            self.give_up();
        }
        self.bytes += shape.total;
        self.incomplete.push_back(Incomplete {
            id: piece.id,
            begun: now,
            shape,
            missing: (1 << shape.count) - 1,
            packet: vec![0; shape.total],
        });
        self.incomplete.len() - 1
    }

    fn give_up(&mut self) {
        if let Some(oldest) = self.incomplete.pop_front() {
            self.bytes -= oldest.shape.total;
            self.given_up += 1;
        }
    }
}

struct Incomplete {
    id: u32,
    begun: Moment,
    shape: Shape,
    /// A bit for each piece.
    missing: u8,
    packet: Vec<u8>,
}

impl Incomplete {
    /// Returns whether the piece was one that is missing.
    fn fill(&mut self, piece: &Piece) -> bool {
        let bit = 1 << piece.index;
        if self.shape != piece.shape || self.missing & bit == 0 {
            return false;
        }
        self.packet[piece.place.clone()].copy_from_slice(piece.share);
        self.missing &= !bit;
        true
    }
}

/// How a packet is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    count: usize,
    total: usize,
}

impl Shape {
    /// Where a share lies; None if there is nothing left for it.
    fn share(&self, index: usize) -> Option<Range<usize>> {
        let share = self.total.div_ceil(self.count);
        let start = index * share;
        (start < self.total).then(|| start..self.total.min(start + share))
    }
}

struct Piece<'a> {
    id: u32,
    index: usize,
    shape: Shape,
    place: Range<usize>,
    share: &'a [u8],
}

impl<'a> Piece<'a> {
    fn read(packet: &'a [u8]) -> Option<Self> {
        let layout = Layout::read(packet)?;
        let ours = packet[0] == 0x45
            && layout.protocol == PROTOCOL
            && !layout.is_fragment()
            && packet[12..16] == FROM
            && packet[16..20] == TO
            && layout.total > HEADER;
        if !ours {
            return None;
        }
        let (index, count) = (usize::from(packet[20]), usize::from(packet[21]));
        if !(2..=MOST_PIECES).contains(&count) || index >= count {
            return None;
        }
        let total = usize::from(read(packet, 22)?);
        let shape = Shape { count, total };
        shape.share(count - 1)?;
        let place = shape.share(index)?;
        let share = &packet[HEADER..layout.total];
        (place.len() == share.len()).then(|| Self {
            id: get_long(packet, 24),
            index,
            shape,
            place,
            share,
        })
    }
}

fn write_header(out: &mut [u8], len: usize, index: usize, shape: Shape, id: u32) {
    out.fill(0);
    out[0] = 0x45;
    put(out, 2, len as u16);
    put(out, 6, DONT_FRAGMENT);
    out[8..10].copy_from_slice(&[TTL, PROTOCOL]);
    out[12..16].copy_from_slice(&FROM);
    out[16..20].copy_from_slice(&TO);
    let sum = Sum::default().with(&out[..V4_LEN]).complement();
    out[10..12].copy_from_slice(&sum);
    out[20..22].copy_from_slice(&[index as u8, shape.count as u8]);
    put(out, 22, shape.total as u16);
    put_long(out, 24, id);
}

const HEADER: usize = V4_LEN + 8;
const MOST_PIECES: usize = 4;
const PREFIX: [u8; 3] = [240, 83, 72];
const FROM: [u8; 4] = [240, 83, 72, 1];
const TO: [u8; 4] = [240, 83, 72, 2];
const PROTOCOL: u8 = 253;
const TTL: u8 = 1;

const MOST_BYTES: usize = 65_536;
/// Packets that are cut have at least some hundred bytes; smaller ones must not make a long list.
const MOST_PACKETS: usize = 64;
const MAX_AGE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::samples::{hostile, ip, udp};
    use super::*;
    use proptest::prelude::*;

    const START: Moment = Moment::from_millis(5000);

    fn cut(cutter: &mut Cutter, packet: &[u8], mtu: u16) -> Vec<Vec<u8>> {
        let (mut room, mut out) = (vec![0xee; mtu.into()], Vec::new());
        let count = cutter.cut(packet, mtu, &mut room, |piece| out.push(piece.to_vec()));
        assert_eq!(count, Ok(out.len()));
        out
    }

    fn join_all(joiner: &mut Joiner, pieces: &[Vec<u8>], now: Moment) -> Vec<Joined> {
        pieces.iter().map(|piece| joiner.join(piece, now)).collect()
    }

    #[test]
    fn an_ipv6_packet_of_1280_passes_a_path_of_1280() {
        let packet = udp(6, 1232);
        let pieces = cut(&mut Cutter::new(7), &packet, 1200);
        assert_eq!(pieces.len(), 2);
        for piece in &pieces {
            assert!(is_piece(piece) && piece.len() <= 1200);
            assert_eq!(Layout::read(piece).unwrap().total, 28 + 640);
            assert!(Sum::default().with(&piece[..20]).is_right());
        }
        let mut joiner = Joiner::default();
        let expected = [Joined::Waiting, Joined::Whole(packet)];
        assert_eq!(join_all(&mut joiner, &pieces, START), expected);
        assert_eq!((joiner.bytes, joiner.incomplete.len()), (0, 0));
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let pieces = cut(&mut Cutter::new(0x0102_0304), &udp(4, 1272), 516);
        let header = [
            0x45, 0, 1, 0xce, 0, 0, 0x40, 0, 1, 253, 0, 0, 240, 83, 72, 1, 240, 83, 72, 2,
        ];
        assert_eq!(pieces[1][..10], header[..10]);
        assert_eq!(pieces[1][12..20], header[12..]);
        assert_eq!(pieces[1][20..28], [1, 3, 5, 0x14, 1, 2, 3, 4]);
    }

    #[test]
    fn more_than_four_pieces_are_not_made() {
        let (mut cutter, mut room) = (Cutter::new(0), [0; 516]);
        assert_eq!(longest(516), 1952);
        let mut count = |len: usize| cutter.cut(&udp(4, len - 28), 516, &mut room, |_| {});
        assert_eq!(count(1952), Ok(4));
        assert_eq!(count(1953), Err(Uncuttable));
    }

    #[test]
    fn a_piece_that_was_there_is_refused_and_the_packet_still_comes() {
        let packet = udp(4, 1400);
        let pieces = cut(&mut Cutter::new(0), &packet, 516);
        let mut joiner = Joiner::default();
        let order = [2, 2, 0, 2, 1].map(|at| pieces[at].clone());
        let [waiting, refused] = [Joined::Waiting, Joined::Refused];
        let expected = [
            waiting.clone(),
            refused.clone(),
            waiting,
            refused,
            Joined::Whole(packet),
        ];
        assert_eq!(join_all(&mut joiner, &order, START), expected);
    }

    #[test]
    fn pieces_that_contradict_each_other_are_refused() {
        let first = cut(&mut Cutter::new(0), &udp(4, 1400), 516);
        let other = cut(&mut Cutter::new(0), &udp(4, 1300), 516);
        let mut joiner = Joiner::default();
        assert_eq!(joiner.join(&first[0], START), Joined::Waiting);
        assert_eq!(joiner.join(&other[1], START), Joined::Refused);
    }

    #[test]
    fn malformed_pieces_are_refused() {
        let good = cut(&mut Cutter::new(0), &udp(4, 1400), 516).remove(0);
        for (at, byte) in [
            (9, 17),
            (6, 0x20),
            (15, 9),
            (19, 9),
            (20, 3),
            (21, 1),
            (21, 5),
            (23, 0),
        ] {
            let mut piece = good.clone();
            piece[at] = byte;
            assert_eq!(
                Joiner::default().join(&piece, START),
                Joined::Refused,
                "byte {at}"
            );
        }
        assert_eq!(Joiner::default().join(&good[..100], START), Joined::Refused);
    }

    #[test]
    fn a_piece_in_pieces_is_refused() {
        let inner = cut(&mut Cutter::new(0), &udp(4, 1400), 516).remove(0);
        let pieces = cut(&mut Cutter::new(1), &inner, 400);
        let expected = [Joined::Waiting, Joined::Refused];
        assert_eq!(join_all(&mut Joiner::default(), &pieces, START), expected);
    }

    #[test]
    fn after_a_second_it_is_too_late() {
        let pieces = cut(&mut Cutter::new(0), &udp(4, 1400), 1200);
        let mut joiner = Joiner::default();
        joiner.join(&pieces[0], START);
        joiner.expire(START + Duration::from_millis(1000));
        assert_eq!(joiner.given_up(), 0);
        let late = START + Duration::from_millis(1001);
        assert_eq!(joiner.join(&pieces[1], late), Joined::Waiting);
        assert_eq!((joiner.given_up(), joiner.given_up()), (1, 0));
    }

    #[test]
    fn the_oldest_gives_way_within_64_kib() {
        let (mut cutter, mut joiner) = (Cutter::new(0), Joiner::default());
        let all: Vec<_> = (0..10)
            .map(|_| cut(&mut cutter, &udp(4, 7972), 2100))
            .collect();
        for pieces in &all {
            assert_eq!(joiner.join(&pieces[0], START), Joined::Waiting);
        }
        assert_eq!((joiner.given_up(), joiner.bytes), (2, 64_000));
        let rest = join_all(&mut joiner, &all[9][1..], START);
        assert!(matches!(rest.last(), Some(Joined::Whole(_))));
    }

    #[test]
    fn tiny_packets_do_not_make_a_long_list() {
        let (mut cutter, mut joiner) = (Cutter::new(0), Joiner::default());
        for _ in 0..1000 {
            let pieces = cut(&mut cutter, &udp(4, 100), 100);
            joiner.join(&pieces[0], START);
        }
        assert_eq!(joiner.incomplete.len(), MOST_PACKETS);
    }

    #[test]
    fn only_the_reserved_prefix_makes_a_piece() {
        assert!(!is_piece(&udp(4, 10)) && !is_piece(&udp(6, 10)) && !is_piece(&[]));
        let mut impostor = udp(4, 10);
        impostor[16..20].copy_from_slice(&[240, 83, 72, 200]);
        assert!(is_piece(&impostor));
        assert_eq!(Joiner::default().join(&impostor, START), Joined::Refused);
    }

    proptest! {
        #[test]
        fn whatever_order_they_come_in_the_packet_is_the_same(
            (mtu, len) in (68u16..2100).prop_flat_map(|mtu| (Just(mtu), 0..=longest(mtu) - 20)),
            order in Just([0usize, 1, 2, 3]).prop_shuffle(),
        ) {
            let packet = ip(4, 17, &vec![0x5a; len]);
            let pieces = cut(&mut Cutter::new(u32::MAX), &packet, mtu);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= usize::from(mtu)));
            let mut joiner = Joiner::default();
            let shuffled: Vec<_> = order.iter().filter_map(|at| pieces.get(*at).cloned()).collect();
            let last = join_all(&mut joiner, &shuffled, START).pop();
            prop_assert_eq!(last, Some(Joined::Whole(packet)));
        }

        #[test]
        fn any_bytes_are_survived_within_the_budget(
            pieces in proptest::collection::vec((hostile(), 0u8..6, 0u8..6, 0u16..200, 0u32..4), 0..40),
        ) {
            let mut joiner = Joiner::default();
            for (mut bytes, index, count, total, id) in pieces {
                if bytes.len() > HEADER {
                    let len = bytes.len();
                    write_header(&mut bytes[..HEADER], len, index.into(), Shape { count: count.into(), total: total.into() }, id);
                }
                joiner.join(&bytes, START);
                let held: usize = joiner.incomplete.iter().map(|it| it.packet.len()).sum();
                prop_assert!(held == joiner.bytes && held <= MOST_BYTES);
            }
        }
    }
}
