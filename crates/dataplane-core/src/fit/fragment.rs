//! Fragments of an IPv4 packet that may be cut (RFC 791 §3.2).
//!
//! All fragments but the last carry a multiple of 8 bytes. The first keeps the whole header; the
//! others keep the options whose *copied* flag is set, padded to whole words. A fragment is cut
//! again the same way: offsets go on from its own, and its last piece is the packet's last only if it
//! was that itself. Reassembly is the receiver's. A transport checksum that was left to us must have
//! been completed before, as no fragment has all of what it covers.

use std::ops::Range;

use super::layout::{DONT_FRAGMENT, Layout, MORE_FRAGMENTS, OFFSET, V4_LEN};
use crate::offload::checksum::Sum;
use crate::offload::headers::{get, put};
use crate::plane::padded_len;

/// The packet must not, or cannot, be cut to that size; nothing was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncuttable;

/// Hands fragments of at most `mtu` bytes to `each`, padded with zeros to 16 bytes, never above the
/// MTU. `room` takes one at a time and should have `mtu` bytes. Returns their number.
pub fn fragment(
    packet: &[u8],
    mtu: u16,
    room: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<usize, Uncuttable> {
    let layout = Layout::read(packet).ok_or(Uncuttable)?;
    let size = usize::from(mtu);
    let payload = layout.ip_len..layout.total;
    let share = size.saturating_sub(layout.ip_len) & !7;
    let beyond = layout.offset + payload.len() > MOST_PAYLOAD;
    if layout.dont_fragment || layout.v6 || share == 0 || beyond || size > room.len() {
        return Err(Uncuttable);
    }
    let mut header = [0; MOST_HEADER];
    header[..layout.ip_len].copy_from_slice(&packet[..layout.ip_len]);
    let mut header_len = layout.ip_len;
    let (mut at, mut count) = (payload.start, 0);
    while at < payload.end || count == 0 {
        let whole = payload.end - at <= size - header_len;
        let share = (size - header_len) & !7;
        let end = if whole { payload.end } else { at + share };
        let offset = layout.offset + at - payload.start;
        let more = layout.more_fragments || !whole;
        write(&header[..header_len], packet, at..end, (offset, more), room);
        let len = header_len + end - at;
        let padded = padded_len(len, mtu);
        room[len..padded].fill(0);
        each(&room[..padded]);
        if count == 0 {
            header_len = keep_copied(&mut header, header_len);
        }
        at = end;
        count += 1;
    }
    Ok(count)
}

fn write(
    header: &[u8],
    packet: &[u8],
    payload: Range<usize>,
    (offset, more): (usize, bool),
    room: &mut [u8],
) {
    let total = header.len() + payload.len();
    let out = &mut room[..total];
    out[..header.len()].copy_from_slice(header);
    out[header.len()..].copy_from_slice(&packet[payload]);
    put(out, 2, total as u16);
    let kept = get(out, 6) & !(DONT_FRAGMENT | MORE_FRAGMENTS | OFFSET);
    let flags = if more { MORE_FRAGMENTS } else { 0 };
    put(out, 6, kept | flags | (offset / 8) as u16);
    put(out, 10, 0);
    let sum = Sum::default().with(&out[..header.len()]).complement();
    out[10..12].copy_from_slice(&sum);
}

/// Leaves the options that every fragment has. Returns the header's new length.
fn keep_copied(header: &mut [u8; MOST_HEADER], len: usize) -> usize {
    let (mut at, mut kept) = (V4_LEN, V4_LEN);
    while at < len {
        let size = match header[at] {
            END => break,
            NOTHING => 1,
            _ if at + 1 < len => usize::from(header[at + 1]),
            _ => break,
        };
        if size == 0 || at + size > len || (size == 1 && header[at] != NOTHING) {
            break;
        }
        if header[at] & COPIED != 0 {
            header.copy_within(at..at + size, kept);
            kept += size;
        }
        at += size;
    }
    let new = kept.next_multiple_of(4);
    header[kept..new].fill(END);
    header[0] = 0x40 | (new / 4) as u8;
    new
}

const MOST_HEADER: usize = 60;
/// Of a reassembled packet with the least header.
const MOST_PAYLOAD: usize = 65_535 - V4_LEN;
const END: u8 = 0;
const NOTHING: u8 = 1;
const COPIED: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::super::samples::{hostile, seal_v4, udp, with_df, with_options};
    use super::*;
    use proptest::prelude::*;

    fn fragments(packet: &[u8], mtu: u16) -> Result<Vec<Vec<u8>>, Uncuttable> {
        let (mut room, mut out) = (vec![0xee; mtu.into()], Vec::new());
        let count = fragment(packet, mtu, &mut room, |piece| {
            assert!(piece.len() <= usize::from(mtu));
            let total = usize::from(get(piece, 2));
            assert!(piece[total..].iter().all(|byte| *byte == 0) && piece.len() < total + 16);
            out.push(piece[..total].to_vec());
        })?;
        assert_eq!(count, out.len());
        Ok(out)
    }

    /// Joins fragments in any order: the header of the first, the payload of all.
    fn reassembled(fragments: &[Vec<u8>]) -> Vec<u8> {
        let first = fragments.iter().find(|f| get(f, 6) & OFFSET == 0).unwrap();
        let header = usize::from(first[0] & 0xf) * 4;
        let mut out = first[..header].to_vec();
        let mut ended = false;
        for piece in fragments {
            let layout = Layout::read(piece).unwrap();
            let end = header + layout.offset + piece.len() - layout.ip_len;
            out.resize(out.len().max(end), 0xee);
            out[header + layout.offset..end].copy_from_slice(&piece[layout.ip_len..]);
            assert!(layout.more_fragments || !std::mem::replace(&mut ended, true));
            assert!(!layout.more_fragments || (piece.len() - layout.ip_len).is_multiple_of(8));
        }
        assert!(ended);
        let total = out.len() as u16;
        put(&mut out, 2, total);
        put(&mut out, 6, 0);
        seal_v4(&mut out);
        out
    }

    #[test]
    fn a_packet_of_1500_for_1240() {
        let packet = udp(4, 1472);
        let cut = fragments(&packet, 1240).unwrap();
        let lens: Vec<_> = cut.iter().map(Vec::len).collect();
        assert_eq!(lens, [20 + 1216, 20 + 264]);
        assert_eq!((get(&cut[0], 6), get(&cut[1], 6)), (0x2000, 152));
        assert_eq!((get(&cut[0], 4), get(&cut[1], 4)), (0x1234, 0x1234));
        assert_eq!(reassembled(&cut), packet);
    }

    #[test]
    fn the_reserved_bit_stays() {
        let mut packet = udp(4, 100);
        packet[6] = 0x80;
        seal_v4(&mut packet);
        let cut = fragments(&packet, 68).unwrap();
        assert!(cut.iter().all(|piece| get(piece, 6) & 0x8000 != 0));
    }

    #[test]
    fn a_fragment_is_cut_again() {
        let packet = udp(4, 3000);
        let again: Vec<_> = fragments(&packet, 1500)
            .unwrap()
            .iter()
            .flat_map(|piece| fragments(piece, 516).unwrap())
            .collect();
        assert_eq!(again.len(), 7);
        assert_eq!(reassembled(&again), packet);
    }

    #[test]
    fn options_are_copied_by_their_flag() {
        let record_route = [7, 7, 4, 0, 0, 0, 0];
        let router_alert = [0x94, 4, 0, 0];
        let options = [&record_route[..], &[1], &router_alert, &[0, 0, 0, 0]].concat();
        let packet = with_options(&udp(4, 200), &options);
        let cut = fragments(&packet, 116).unwrap();
        assert_eq!(cut[0][20..36], options);
        for piece in &cut[1..] {
            assert_eq!(piece[0], 0x46);
            assert_eq!(piece[20..24], router_alert);
            assert!(Sum::default().with(&piece[..24]).is_right());
        }
        assert_eq!(reassembled(&cut), packet);
    }

    #[test]
    fn what_must_not_be_cut_is_not() {
        assert_eq!(fragments(&with_df(udp(4, 1400)), 1240), Err(Uncuttable));
        assert_eq!(fragments(&udp(6, 1400), 1280), Err(Uncuttable));
        assert_eq!(fragments(&udp(4, 1400), 27), Err(Uncuttable));
        let mut beyond = udp(4, 1400);
        beyond[6..8].copy_from_slice(&[0x1f, 0xff]);
        assert_eq!(fragments(&beyond, 516), Err(Uncuttable));
    }

    proptest! {
        #[test]
        fn fragments_make_the_packet_again(payload in 0usize..4000, mtu in 68u16..2000, words in 0usize..=10) {
            let options: Vec<u8> = [0x88, 4, 1, 2, 0x07, 3, 4, 1].into_iter().cycle().take(words * 4).collect();
            let packet = with_options(&udp(4, payload), &options);
            let cut = fragments(&packet, mtu).unwrap();
            for piece in &cut {
                let header = usize::from(piece[0] & 0xf) * 4;
                prop_assert!(Sum::default().with(&piece[..header]).is_right());
            }
            prop_assert_eq!(reassembled(&cut), packet);
        }

        #[test]
        fn any_bytes_are_survived(bytes in hostile(), mtu: u16, room in 0usize..2000) {
            let _ = fragment(&bytes, mtu, &mut vec![0; room], |_| {});
        }

        #[test]
        fn any_options_are_survived(options: [u8; 40], payload in 0usize..300) {
            let packet = with_options(&udp(4, payload), &options);
            let cut = fragments(&packet, 76).unwrap();
            prop_assert_eq!(reassembled(&cut), packet);
        }
    }
}
