//! Fitting inner packets to what a path carries.
//!
//! A path has an *inner MTU*: its path MTU less the outer headers and WireGuard's own. TCP is asked in
//! time to send no more than that (`mss`). What is longer nevertheless is judged (`verdict`): it is
//! split, cut where it may be (`fragment`), goes in pieces between Shore nodes (`pieces`), or is refused,
//! and its sender is told (`too_big`). What was on its way when the MTU shrank is lost, and its sender is
//! told of that as well (`outstanding`). Towards plain WireGuard the MTU itself is measured by pings through
//! the tunnel (`echo`).

pub mod echo;
pub mod fragment;
pub mod layout;
pub mod mss;
pub mod outstanding;
pub mod pieces;
#[cfg(test)]
pub(crate) mod samples;
pub mod too_big;
pub mod verdict;

use crate::engine::DATA_OVERHEAD;
use crate::offload::checksum::Sum;
use crate::offload::headers::get;

/// The longest packet that a path carries in one datagram. `path_mtu` is that of the whole datagram, with
/// its IP header; `v6` its family.
pub fn inner_mtu(path_mtu: u16, v6: bool) -> u16 {
    let ip = if v6 { layout::V6_LEN } else { layout::V4_LEN };
    path_mtu.saturating_sub((ip + UDP_LEN + DATA_OVERHEAD) as u16)
}

/// A word in network order, if there are two bytes for it.
fn read(packet: &[u8], at: usize) -> Option<u16> {
    let bytes = packet.get(at..at + 2)?;
    Some(get(bytes, 0))
}

/// The pseudo header's sum for `length` bytes of transport (RFC 768, RFC 8200 §8.1).
fn pseudo(packet: &[u8], protocol: u8, length: usize) -> Sum {
    let addresses = if packet[0] >> 4 == 6 { 8..40 } else { 12..20 };
    Sum::default()
        .with(&packet[addresses])
        .with_word(protocol.into())
        .with_word(length as u16)
}

const UDP_LEN: usize = 8;

#[cfg(test)]
mod tests {
    #[test]
    fn ethernet_leaves_1440_and_1420() {
        assert_eq!(
            [false, true].map(|v6| super::inner_mtu(1500, v6)),
            [1440, 1420]
        );
        assert_eq!(super::inner_mtu(40, false), 0);
    }
}
