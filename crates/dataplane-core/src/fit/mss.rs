//! The MSS option of SYN and SYN-ACK, lowered to what the path carries.
//!
//! The option says how much its *receiver* may send in one segment. So the SYN that leaves bounds what
//! comes back, the one that arrives bounds what we send, and as both nodes clamp both directions the
//! smaller of their two inner MTUs counts. The bound is the inner MTU less the fixed headers, 40 bytes
//! for IPv4 and 60 for IPv6; options and extension headers are the sender's to subtract (RFC 6691 §2).
//! An option is lowered, never raised.
//!
//! Without the option a sender must assume 536 bytes for IPv4 and 1220 for IPv6 (RFC 9293 §3.7.1,
//! MUST-15). To add one above that would raise it, so it is added only where the path carries less
//! than that default (1220 is too much for an IPv6 path of 1280, as the tunnel needs 80), and only to
//! a SYN that has room for it and no data: with data, the packet might grow out of the MTU itself.
//!
//! Checksums are updated, not made anew (RFC 1624), so a packet that was damaged stays damaged. Where
//! the checksum was left to us (virtio's NEEDS_CSUM) the field holds the sum of the pseudo header
//! alone: another MSS does not change it, another length does.

use super::layout::{Layout, V4_LEN};
use super::read;
use crate::offload::checksum::Sum;
use crate::offload::headers::{FLAGS, get, put};

/// Clamps `buffer[..len]`, an inner packet, to an inner MTU. `partial`: its TCP checksum is left to us.
/// Returns its length, which is `ADDED` more if an option was added; `buffer` should have that much
/// room behind `len`, else none is added.
pub fn clamp(buffer: &mut [u8], len: usize, mtu: u16, partial: bool) -> usize {
    let Some(syn) = buffer.get(..len).and_then(Syn::read) else {
        return len;
    };
    let limit = usize::from(mtu)
        .saturating_sub(syn.layout.fixed_len() + TCP_LEN)
        .max(LEAST) as u16;
    let checksum = (!partial).then_some(syn.tcp + CHECKSUM);
    if lower(&mut buffer[..len], &syn, limit, checksum) {
        return len;
    }
    let default = if syn.layout.v6 {
        V6_DEFAULT
    } else {
        V4_DEFAULT
    };
    let roomy = syn.end - syn.tcp <= MOST_TCP - ADDED && len + ADDED <= buffer.len();
    if limit >= default || syn.has_data || !roomy {
        return len;
    }
    add(buffer, len, &syn, limit, partial);
    len + ADDED
}

struct Syn {
    layout: Layout,
    /// Where the TCP header starts and ends.
    tcp: usize,
    end: usize,
    has_data: bool,
}

impl Syn {
    fn read(packet: &[u8]) -> Option<Self> {
        let layout = Layout::read(packet)?;
        let tcp = layout.ip_len;
        if layout.protocol != TCP || layout.is_fragment() || layout.total < tcp + TCP_LEN {
            return None;
        }
        let end = tcp + usize::from(packet[tcp + 12] >> 4) * 4;
        let syn = packet[tcp + FLAGS] & (SYN | RST) == SYN;
        let sound = end >= tcp + TCP_LEN && end <= layout.total;
        (syn && sound).then_some(Self {
            layout,
            tcp,
            end,
            has_data: layout.total > end,
        })
    }
}

/// Returns whether there is an option, lowered or low enough.
fn lower(packet: &mut [u8], syn: &Syn, limit: u16, checksum: Option<usize>) -> bool {
    let (mut at, mut found) = (syn.tcp + TCP_LEN, false);
    while at < syn.end {
        let len = match (packet[at], packet.get(at + 1)) {
            (END, _) => break,
            (NOTHING, _) => 1,
            (_, Some(len)) if *len >= 2 => usize::from(*len),
            _ => break,
        };
        if at + len > syn.end {
            break;
        }
        if packet[at] == MSS && len == ADDED {
            found = true;
            if get(packet, at + 2) > limit {
                replace(packet, syn.tcp, at + 2, limit, checksum);
            }
        }
        at += len;
    }
    found
}

/// Puts an option behind the fixed header, where no end of options can hide it.
fn add(buffer: &mut [u8], len: usize, syn: &Syn, limit: u16, partial: bool) {
    let at = syn.tcp + TCP_LEN;
    buffer.copy_within(at..len, at + ADDED);
    buffer[at..at + 2].copy_from_slice(&[MSS, ADDED as u8]);
    put(buffer, at + 2, limit);
    let field = syn.tcp + CHECKSUM;
    let length = (syn.layout.total - syn.tcp) as u16;
    if partial {
        let sum = Sum::default()
            .with_word(get(buffer, field))
            .with_word(!length)
            .with_word(length + ADDED as u16)
            .folded();
        buffer[field..field + 2].copy_from_slice(&sum);
    } else {
        let option = Sum::default().with(&buffer[at..at + ADDED]).folded();
        update(buffer, field, 0, u16::from_be_bytes(option));
        update(buffer, field, length, length + ADDED as u16);
    }
    let words = get(buffer, syn.tcp + 12) + 0x1000 * (ADDED / 4) as u16;
    replace(
        buffer,
        syn.tcp,
        syn.tcp + 12,
        words,
        (!partial).then_some(field),
    );
    if syn.layout.v6 {
        let payload = get(buffer, 4) + ADDED as u16;
        put(buffer, 4, payload);
    } else {
        let total = (syn.layout.total + ADDED) as u16;
        replace(buffer, 0, 2, total, Some(V4_CHECKSUM));
    }
}

/// Writes a word at any place after `start`; the checksum at `field` follows it.
fn replace(packet: &mut [u8], start: usize, at: usize, word: u16, field: Option<usize>) {
    let even = at - (at - start) % 2;
    let words =
        |packet: &[u8]| [read(packet, even), read(packet, even + 2)].map(Option::unwrap_or_default);
    let old = words(packet);
    put(packet, at, word);
    let new = words(packet);
    if let Some(field) = field {
        for (old, new) in old.into_iter().zip(new) {
            update(packet, field, old, new);
        }
    }
}

/// RFC 1624, equation 3.
fn update(packet: &mut [u8], field: usize, old: u16, new: u16) {
    let sum = Sum::default()
        .with_word(!get(packet, field))
        .with_word(!old)
        .with_word(new)
        .complement();
    packet[field..field + 2].copy_from_slice(&sum);
}

/// Bytes that an added option takes.
pub const ADDED: usize = 4;
const TCP: u8 = 6;
const TCP_LEN: usize = 20;
const MOST_TCP: usize = 60;
const CHECKSUM: usize = 16;
const V4_CHECKSUM: usize = V4_LEN - 10;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;
const V4_DEFAULT: u16 = 536;
const V6_DEFAULT: u16 = 1220;
/// Below this Linux refuses an MSS (`tcp_min_snd_mss`).
const LEAST: usize = 48;

#[cfg(test)]
mod tests {
    use super::super::samples::{behind_extensions, hostile, sums_up, tcp};
    use super::*;
    use proptest::prelude::*;

    const SYN_ACK: u8 = 0x12;
    const OF_1460: [u8; 4] = [2, 4, 0x05, 0xb4];

    fn clamped(mut packet: Vec<u8>, mtu: u16) -> Vec<u8> {
        let len = packet.len();
        packet.resize(len + ADDED, 0xee);
        let len = clamp(&mut packet, len, mtu, false);
        packet.truncate(len);
        packet
    }

    fn mss_of(packet: &[u8]) -> Option<u16> {
        let start = Layout::read(packet).unwrap().ip_len;
        (packet[start + 12] >> 4 > 5).then(|| get(packet, start + TCP_LEN + 2))
    }

    #[test]
    fn it_is_lowered_to_the_mtu_less_fixed_headers() {
        for (family, flags, mtu, expected) in [
            (4, SYN, 1240, 1200),
            (6, SYN, 1240, 1180),
            (4, SYN_ACK, 516, 476),
            (4, SYN, 40, LEAST as u16),
        ] {
            let packet = clamped(tcp(family, flags, &OF_1460, 0), mtu);
            assert_eq!(mss_of(&packet), Some(expected));
            assert!(sums_up(&packet, TCP, Layout::read(&packet).unwrap().ip_len));
        }
    }

    #[test]
    fn it_is_never_raised() {
        let small = tcp(4, SYN, &[2, 4, 0x02, 0x00], 0);
        assert_eq!(clamped(small.clone(), 1420), small);
    }

    #[test]
    fn only_syn_has_one_to_lower() {
        for flags in [0x10, SYN | RST] {
            let packet = tcp(4, flags, &OF_1460, 0);
            assert_eq!(clamped(packet.clone(), 1240), packet);
        }
    }

    #[test]
    fn extension_headers_hide_nothing() {
        let packet = behind_extensions(&tcp(6, SYN, &OF_1460, 0), &[0, 60]);
        let packet = clamped(packet, 1420);
        assert_eq!(mss_of(&packet), Some(1360));
        assert!(sums_up(&packet, TCP, 56));
    }

    #[test]
    fn an_option_at_an_odd_place_keeps_the_checksum_right() {
        let options = [1, 2, 4, 0x05, 0xb4, 1, 1, 0];
        let packet = clamped(tcp(4, SYN, &options, 0), 1001);
        assert_eq!(get(&packet, 43), 961);
        assert!(sums_up(&packet, TCP, 20));
    }

    #[test]
    fn a_missing_option_is_added_only_below_the_default() {
        let bare4 = tcp(4, SYN, &[], 0);
        assert_eq!(clamped(bare4.clone(), 1240), bare4);
        let packet = clamped(bare4, 516);
        assert_eq!((packet.len(), mss_of(&packet)), (44, Some(476)));
        assert!(sums_up(&packet, TCP, 20));

        let packet = clamped(tcp(6, SYN, &[1, 1, 1, 0], 0), 1220);
        assert_eq!((packet.len(), mss_of(&packet)), (68, Some(1160)));
        assert!(sums_up(&packet, TCP, 40));
    }

    #[test]
    fn none_is_added_to_data_nor_without_room() {
        let with_data = tcp(4, SYN, &[], 100);
        assert_eq!(clamped(with_data.clone(), 516), with_data);
        let full = tcp(4, SYN, &[1; 40], 0);
        assert_eq!(clamped(full.clone(), 516), full);
        let mut tight = tcp(4, SYN, &[], 0);
        assert_eq!(clamp(&mut tight, 40, 516, false), 40);
    }

    #[test]
    fn a_partial_checksum_stays_the_pseudo_headers_sum() {
        for options in [&OF_1460[..], &[]] {
            let mut packet = tcp(4, SYN, options, 0);
            let len = packet.len();
            let partial = super::super::pseudo(&packet, TCP, len - 20).folded();
            packet[36..38].copy_from_slice(&partial);
            packet.resize(len + ADDED, 0);
            let len = clamp(&mut packet, len, 516, true);
            packet.truncate(len);
            let expected = super::super::pseudo(&packet, TCP, len - 20).folded();
            assert_eq!(packet[36..38], expected);
            assert_eq!(mss_of(&packet), Some(476));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in hostile(), mtu: u16, partial: bool) {
            let mut buffer = bytes.clone();
            buffer.resize(bytes.len() + ADDED, 0);
            let len = clamp(&mut buffer, bytes.len(), mtu, partial);
            prop_assert!(len == bytes.len() || len == bytes.len() + ADDED);
        }

        #[test]
        fn any_options_keep_the_checksum_right(
            six: bool,
            words in proptest::collection::vec(prop_oneof![Just(OF_1460), any::<[u8; 4]>()], 0..=10),
            mtu in 0u16..1500,
        ) {
            let family = if six { 6 } else { 4 };
            let packet = clamped(tcp(family, SYN, &words.concat(), 0), mtu);
            let layout = Layout::read(&packet).unwrap();
            prop_assert_eq!(layout.total, packet.len());
            prop_assert!(sums_up(&packet, TCP, layout.ip_len));
        }
    }
}
