//! What is said inside a sealed message (docs/protocol/probe.md, "Content"): probes, echoes, signals.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::desired::LaneId;
use crate::time::Moment;

/// The least content of a probe, and that of an echo.
pub const PROBE_LEN: usize = 64;
/// The longest signal that leaves in one datagram on any path.
pub const MOST_CANDIDATES: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Probe(Probe),
    Echo(Echo),
    /// Where the sender may be: the whole list.
    Candidates(Vec<Candidate>),
    /// Make a handshake now.
    Initiate,
    /// A handshake message of another lane than the first.
    Lane {
        lane: LaneId,
        message: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub transaction: u32,
    /// Probes sent on this path, this one included.
    pub count: u32,
    /// The sender's own nanoseconds.
    pub sent_at: u64,
    pub report: Report,
    /// The probe is of no path, and its echo is to leave after so many seconds.
    pub trial: Option<u16>,
}

impl Probe {
    /// One that no path counts: that it is lost says nothing.
    pub fn of_no_path(transaction: u32, now: Moment) -> Self {
        Self {
            transaction,
            count: 0,
            sent_at: now.0.as_nanos() as u64,
            report: Report::default(),
            trial: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    pub transaction: u32,
    pub held_us: u32,
    pub sent_at: u64,
    pub report: Report,
    /// Where the probe came from, as its receiver saw it.
    pub observed: SocketAddr,
}

/// What came in by one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub probes: u32,
    /// The highest count among them.
    pub highest: u32,
    /// Data messages that were opened.
    pub data: u32,
    /// Of those, datagrams of more than 1200 bytes with their IP header.
    pub large: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct Candidate {
    pub endpoint: SocketAddr,
    pub kind: CandidateKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateKind {
    Host,
    ServerReflexive,
    PeerReflexive,
    Static,
    PortMapped,
}

impl Message {
    /// `size` is the least length of the content; only probes grow.
    pub fn encode(&self, size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(PROBE_LEN);
        match self {
            Self::Probe(probe) => {
                let hold = probe.trial.unwrap_or_default().to_le_bytes();
                let flags = if probe.trial.is_some() { TRIAL } else { 0 };
                out.extend_from_slice(&[PROBE, flags, hold[0], hold[1]]);
                words(&mut out, &[probe.transaction, probe.count]);
                out.extend_from_slice(&probe.sent_at.to_le_bytes());
                probe.report.encode(&mut out);
                out.resize(size.max(PROBE_LEN), 0);
            }
            Self::Echo(echo) => {
                out.extend_from_slice(&[ECHO, 0]);
                out.extend_from_slice(&echo.observed.port().to_le_bytes());
                words(&mut out, &[echo.transaction, echo.held_us]);
                out.extend_from_slice(&echo.sent_at.to_le_bytes());
                echo.report.encode(&mut out);
                out.extend_from_slice(&mapped(echo.observed.ip()));
                out.resize(PROBE_LEN, 0);
            }
            Self::Candidates(list) => {
                let list = &list[..list.len().min(MOST_CANDIDATES)];
                out.extend_from_slice(&[CANDIDATES, list.len() as u8, 0, 0]);
                for candidate in list {
                    out.extend_from_slice(&mapped(candidate.endpoint.ip()));
                    out.extend_from_slice(&candidate.endpoint.port().to_le_bytes());
                    out.extend_from_slice(&[candidate.kind.number(), 0]);
                }
            }
            Self::Initiate => out.extend_from_slice(&[INITIATE, 0, 0, 0]),
            Self::Lane { lane, message } => {
                out.extend_from_slice(&[LANE, *lane, 0, 0]);
                out.extend_from_slice(message);
            }
        }
        out
    }

    /// None for what we do not know.
    pub fn decode(content: &[u8]) -> Option<Self> {
        let (head, body) = content.split_first_chunk::<4>()?;
        Some(match head[0] {
            PROBE => Self::Probe(Probe {
                transaction: word(body, 0)?,
                count: word(body, 4)?,
                sent_at: u64::from_le_bytes(field(body, 8)?),
                report: Report::decode(body, 16)?,
                trial: (head[1] & TRIAL != 0).then(|| u16::from_le_bytes([head[2], head[3]])),
            }),
            ECHO => Self::Echo(Echo {
                transaction: word(body, 0)?,
                held_us: word(body, 4)?,
                sent_at: u64::from_le_bytes(field(body, 8)?),
                report: Report::decode(body, 16)?,
                observed: endpoint(field(body, 32)?, [head[2], head[3]]),
            }),
            CANDIDATES => Self::Candidates(
                body.chunks_exact(20)
                    .take(usize::from(head[1]).min(MOST_CANDIDATES))
                    .filter_map(Candidate::decode)
                    .collect(),
            ),
            INITIATE => Self::Initiate,
            LANE => Self::Lane {
                lane: head[1],
                message: body.to_vec(),
            },
            _ => return None,
        })
    }
}

impl Report {
    fn encode(&self, out: &mut Vec<u8>) {
        words(out, &[self.probes, self.highest, self.data, self.large]);
    }

    fn decode(body: &[u8], at: usize) -> Option<Self> {
        Some(Self {
            probes: word(body, at)?,
            highest: word(body, at + 4)?,
            data: word(body, at + 8)?,
            large: word(body, at + 12)?,
        })
    }
}

impl Candidate {
    fn decode(entry: &[u8]) -> Option<Self> {
        let endpoint = endpoint(field(entry, 0)?, field(entry, 16)?);
        let kind = match entry.get(18)? {
            1 => CandidateKind::Host,
            2 => CandidateKind::ServerReflexive,
            3 => CandidateKind::PeerReflexive,
            4 => CandidateKind::Static,
            5 => CandidateKind::PortMapped,
            _ => return None,
        };
        is_probed(endpoint).then_some(Self { endpoint, kind })
    }
}

impl CandidateKind {
    fn number(self) -> u8 {
        match self {
            Self::Host => 1,
            Self::ServerReflexive => 2,
            Self::PeerReflexive => 3,
            Self::Static => 4,
            Self::PortMapped => 5,
        }
    }
}

/// Whether anybody's word may make us send there: never to loopback, multicast, broadcast or nowhere.
pub fn is_probed(endpoint: SocketAddr) -> bool {
    let ip = endpoint.ip();
    let reserved = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.octets()[0] == 0 || ip.octets()[0] >= 240,
        IpAddr::V6(_) => false,
    };
    endpoint.port() != 0
        && !(reserved || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified())
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn endpoint(ip: [u8; 16], port: [u8; 2]) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), u16::from_le_bytes(port))
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn word(body: &[u8], at: usize) -> Option<u32> {
    field(body, at).map(u32::from_le_bytes)
}

fn field<const N: usize>(body: &[u8], at: usize) -> Option<[u8; N]> {
    body.get(at..at + N)?.try_into().ok()
}

const PROBE: u8 = 1;
const ECHO: u8 = 2;
const CANDIDATES: u8 = 3;
const INITIATE: u8 = 4;
const LANE: u8 = 5;
/// Flags of a probe.
const TRIAL: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<Message> {
        let report = Report {
            probes: 1,
            highest: 2,
            data: 3,
            large: 1,
        };
        let candidates = ["192.0.2.1:5", "[2001:db8::1]:6"].map(|text| Candidate {
            endpoint: text.parse().unwrap(),
            kind: CandidateKind::Host,
        });
        vec![
            Message::Probe(Probe {
                transaction: 9,
                count: 8,
                sent_at: 7,
                report,
                trial: None,
            }),
            Message::Probe(Probe {
                transaction: 9,
                count: 0,
                sent_at: 7,
                report: Report::default(),
                trial: Some(600),
            }),
            Message::Echo(Echo {
                transaction: 9,
                held_us: 30,
                sent_at: 7,
                report,
                observed: "198.51.100.7:1234".parse().unwrap(),
            }),
            Message::Candidates(candidates.to_vec()),
            Message::Initiate,
            Message::Lane {
                lane: 1,
                message: vec![1; 148],
            },
        ]
    }

    #[test]
    fn what_is_said_is_understood() {
        for message in sample() {
            assert_eq!(Message::decode(&message.encode(0)), Some(message));
        }
    }

    #[test]
    fn an_echo_is_never_longer_than_a_probe() {
        let [probe, trial, echo] = [0, 1, 2].map(|n| sample()[n].encode(0).len());
        assert!(echo <= probe && echo <= trial);
        assert_eq!(sample()[0].encode(1400).len(), 1400);
    }

    #[test]
    fn nobody_can_point_us_at_loopback_multicast_or_nowhere() {
        for text in [
            "127.0.0.1:53",
            "224.0.0.1:53",
            "255.255.255.255:53",
            "0.0.0.0:53",
            "192.0.2.1:0",
            "[::1]:53",
            "[ff02::1]:53",
        ] {
            assert!(!is_probed(text.parse().unwrap()), "{text}");
            let hostile = Message::Candidates(vec![Candidate {
                endpoint: text.parse().unwrap(),
                kind: CandidateKind::Host,
            }]);
            let heard = Message::decode(&hostile.encode(0));
            assert_eq!(heard, Some(Message::Candidates(vec![])));
        }
    }

    proptest! {
        #[test]
        fn any_content_is_understood_or_ignored(content in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(&content);
        }
    }
}
