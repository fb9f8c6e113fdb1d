//! From one super-packet to its segments, in place.
//!
//! The header of segment k is written over the last bytes of segment k-1's payload, which was handed
//! out, and so sealed elsewhere, before. Payload never moves. Padding to WireGuard's 16 bytes would
//! reach into the next segment; what it covers is put back afterwards.

use super::checksum::Sum;
use super::headers::{CWR, FIN, FLAGS, Headers, PSH, Transport, get, get_long, put, put_long};
use super::{GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHeader};
use crate::plane::padded_len;

/// The header contradicts the packet; nothing was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Hands each packet of `buffer[..len]` to `each`, checksums complete and padded with zeros to 16
/// bytes (never above `mtu`). `buffer` should have 15 bytes behind `len`; without them the last
/// segment stays unpadded. Returns the number of packets.
pub fn split(
    header: VnetHeader,
    buffer: &mut [u8],
    len: usize,
    mtu: u16,
    mut each: impl FnMut(&[u8]),
) -> Result<usize, Malformed> {
    if len == 0 || len > buffer.len() {
        return Err(Malformed);
    }
    let transport = match header.gso_type & !GSO_ECN {
        GSO_NONE => {
            if header.flags & NEEDS_CSUM != 0 {
                complete(header, &mut buffer[..len])?;
            }
            padded(buffer, 0, len, mtu, &mut each);
            return Ok(1);
        }
        GSO_TCPV4 | GSO_TCPV6 => Transport::Tcp,
        GSO_UDP_L4 => Transport::Udp,
        _ => return Err(Malformed),
    };
    let start = usize::from(header.csum_start);
    let headers = Headers::read(&buffer[..len], transport, start).ok_or(Malformed)?;
    let size = usize::from(header.gso_size);
    let named_v6 = header.gso_type & !GSO_ECN == GSO_TCPV6;
    if size == 0
        || headers.len > MOST_HEADERS
        || (transport == Transport::Tcp && named_v6 != headers.v6)
    {
        return Err(Malformed);
    }
    Ok(segments(headers, size, buffer, len, mtu, &mut each))
}

fn segments(
    headers: Headers,
    size: usize,
    buffer: &mut [u8],
    len: usize,
    mtu: u16,
    each: &mut impl FnMut(&[u8]),
) -> usize {
    let mut template = [0; MOST_HEADERS];
    let template = &mut template[..headers.len];
    template.copy_from_slice(&buffer[..headers.len]);
    let payload = len - headers.len;
    let count = payload.div_ceil(size).max(1);
    for k in 0..count {
        let at = k * size;
        let here = headers.len + size.min(payload - at);
        let segment = &mut buffer[at..at + here];
        segment[..headers.len].copy_from_slice(template);
        finish(headers, segment, k, size, k + 1 == count);
        padded(buffer, at, here, mtu, each);
    }
    count
}

fn finish(headers: Headers, segment: &mut [u8], k: usize, size: usize, last: bool) {
    if !headers.v6 {
        let id = get(segment, 4).wrapping_add(k as u16);
        put(segment, 4, id);
    }
    headers.write_total(segment, segment.len());
    let start = headers.ip_len;
    match headers.transport {
        Transport::Tcp => {
            let sequence = get_long(segment, start + 4).wrapping_add((k * size) as u32);
            put_long(segment, start + 4, sequence);
            let flags = &mut segment[start + FLAGS];
            if !last {
                *flags &= !(FIN | PSH);
            }
            if k > 0 {
                *flags &= !CWR;
            }
        }
        Transport::Udp => put(segment, start + 4, (segment.len() - start) as u16),
    }
    let field = start + headers.transport.checksum_at();
    put(segment, field, 0);
    let sum = headers
        .pseudo(segment, segment.len() - start)
        .with(&segment[start..]);
    store(segment, field, sum, headers.transport == Transport::Udp);
}

/// Fills in a checksum that was left to us: the field holds the pseudo header's sum.
fn complete(header: VnetHeader, packet: &mut [u8]) -> Result<(), Malformed> {
    let start = usize::from(header.csum_start);
    let field = start + usize::from(header.csum_offset);
    if field + 2 > packet.len() {
        return Err(Malformed);
    }
    let sum = Sum::default().with(&packet[start..]);
    let udp = header.csum_offset == 6;
    store(packet, field, sum, udp);
    Ok(())
}

/// UDP over IPv4 says "no checksum" with zero, so a sum of zero is written as its other form.
fn store(packet: &mut [u8], field: usize, sum: Sum, udp: bool) {
    let checksum = match sum.complement() {
        [0, 0] if udp => [0xff, 0xff],
        other => other,
    };
    packet[field..field + 2].copy_from_slice(&checksum);
}

fn padded(buffer: &mut [u8], at: usize, len: usize, mtu: u16, each: &mut impl FnMut(&[u8])) {
    let end = at + len;
    let padded = at + padded_len(len, mtu);
    if padded == end || padded > buffer.len() {
        each(&buffer[at..end]);
        return;
    }
    let mut covered = [0; 15];
    let covered = &mut covered[..padded - end];
    covered.copy_from_slice(&buffer[end..padded]);
    buffer[end..padded].fill(0);
    each(&buffer[at..padded]);
    buffer[end..padded].copy_from_slice(covered);
}

/// IPv6 with extensions, and TCP with all its options.
const MOST_HEADERS: usize = 256;
