//! Which flows are sparse, as those of a shell, a call or a ping, and how many packets a peer gets.
//!
//! A flow is the hash of addresses, protocol and ports, and of nothing that differs between its packets: what
//! has no ports in each of them, as ICMP and fragments, is one flow from address to address. Its bucket counts
//! packets of the present tenth of a second. Buckets are few and flows may share one, so a sparse flow is
//! sometimes taken for bulk; bulk is never taken for sparse for longer than that.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::time::Moment;

#[derive(Default)]
pub struct Flows {
    /// Empty until it is asked.
    buckets: Vec<Bucket>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    since: Moment,
    count: u16,
    before: u16,
}

impl Flows {
    /// Counts a packet of its flow. True while the flow is sparse.
    pub fn is_sparse(&mut self, packet: &[u8], now: Moment) -> bool {
        self.buckets.resize(BUCKETS, Bucket::default());
        let mut hasher = DefaultHasher::new();
        key(packet).hash(&mut hasher);
        let bucket = &mut self.buckets[hasher.finish() as usize % BUCKETS];
        let age = now.since(bucket.since);
        if age >= WINDOW {
            bucket.before = if age < 2 * WINDOW { bucket.count } else { 0 };
            bucket.count = 0;
            bucket.since = now;
        }
        bucket.count = bucket.count.saturating_add(1);
        bucket.count.max(bucket.before) <= SPARSE
    }
}

/// Packets per second, of the last whole half second.
#[derive(Default)]
pub struct Rate {
    since: Moment,
    count: u32,
    before: u32,
}

impl Rate {
    pub fn note(&mut self, now: Moment) {
        let age = now.since(self.since);
        if age >= RATE_WINDOW {
            self.before = if age < 2 * RATE_WINDOW { self.count } else { 0 };
            self.count = 0;
            self.since = now;
        }
        self.count += 1;
    }

    pub fn per_second(&self) -> u32 {
        self.before.max(self.count) * 2
    }
}

/// The bytes of an IP packet that name its flow: protocol, addresses, ports.
fn key(packet: &[u8]) -> [&[u8]; 3] {
    let part = |from: usize, to: usize| packet.get(from..to).unwrap_or_default();
    let (protocol, addresses, ports, fragment) = match packet.first().map(|first| first >> 4) {
        Some(4) => {
            let header = usize::from(packet[0] & 15) * 4;
            let fragment = part(6, 8)
                .iter()
                .zip(FRAGMENT)
                .any(|(byte, bits)| byte & bits != 0);
            (
                part(9, 10),
                part(12, 20),
                part(header, header + 4),
                fragment,
            )
        }
        _ => (part(6, 7), part(8, 40), part(40, 44), false),
    };
    let has_ports = protocol
        .first()
        .is_some_and(|protocol| WITH_PORTS.contains(protocol));
    let ports = if has_ports && !fragment { ports } else { &[] };
    [protocol, addresses, ports]
}

/// More fragments follow, or it is not the first one: the ports are in one of them only.
const FRAGMENT: [u8; 2] = [0x3f, 0xff];
/// TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, UDP, 33, 132, 136];
const UDP: u8 = 17;
const RATE_WINDOW: Duration = Duration::from_millis(500);
const BUCKETS: usize = 512;
const WINDOW: Duration = Duration::from_millis(100);
const SPARSE: u16 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(port: u8) -> Vec<u8> {
        let mut packet = vec![0; 60];
        packet[0] = 0x45;
        packet[9] = UDP;
        packet[23] = port;
        packet
    }

    /// How many of a hundred packets within a tenth of a second are taken for sparse, each made by `change`.
    fn sparse(mut packet: Vec<u8>, change: impl Fn(&mut [u8], u8)) -> usize {
        let mut flows = Flows::default();
        let each = (0..100).filter(|n| {
            change(&mut packet, *n);
            flows.is_sparse(&packet, Moment::from_millis(u64::from(*n) / 10))
        });
        each.count()
    }

    #[test]
    fn what_differs_from_packet_to_packet_names_no_flow() {
        let identification_and_checksum = |packet: &mut [u8], n| {
            packet[5] = n;
            packet[11] = !n;
        };
        assert_eq!(sparse(packet(1), identification_and_checksum), 20);
        let payload = |packet: &mut [u8], n| packet[20..24].fill(n);
        let mut fragment = packet(0);
        fragment[7] = 9;
        assert_eq!(
            sparse(fragment, payload),
            20,
            "a later fragment has no ports"
        );
        let mut echo = packet(0);
        echo[9] = 1;
        assert_eq!(sparse(echo, payload), 20, "ICMP has a checksum there");
        let mut sixth = vec![0; 60];
        (sixth[0], sixth[6]) = (0x60, 58);
        assert_eq!(sparse(sixth, |packet, n| packet[40..44].fill(n)), 20);
    }

    #[test]
    fn bulk_is_known_within_a_few_packets_and_forgotten_after_a_pause() {
        let mut flows = Flows::default();
        let sparse = (0..100).filter(|n| flows.is_sparse(&packet(1), Moment::from_millis(n / 10)));
        assert_eq!(sparse.count(), 20);
        assert!(flows.is_sparse(&packet(2), Moment::from_millis(20)));
        assert!(!flows.is_sparse(&packet(1), Moment::from_millis(150)));
        assert!(flows.is_sparse(&packet(1), Moment::from_millis(400)));
    }
}
