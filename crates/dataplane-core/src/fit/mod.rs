//! Fitting inner packets to what a path carries.
//!
//! A path has an *inner MTU*: its path MTU less the outer headers and WireGuard's own. TCP is asked in
//! time to send no more than that (`mss`). What is longer nevertheless is cut where it may be
//! (`fragment`), between Shore nodes goes in pieces (`pieces`), or its sender is told (`too_big`).
//! Towards plain WireGuard the MTU itself is measured by pings through the tunnel (`echo`).

pub mod echo;
pub mod fragment;
pub mod layout;
pub mod mss;
pub mod pieces;
#[cfg(test)]
mod samples;
pub mod too_big;

use crate::offload::checksum::Sum;
use crate::offload::headers::get;

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
