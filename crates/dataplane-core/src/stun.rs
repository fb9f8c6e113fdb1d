//! STUN (RFC 8489), binding requests only: what do we look like to somebody who is no peer?
//!
//! ```text
//!  0  type: 0x0001 request, 0x0101 success      4  magic cookie
//!  2  length of what follows the header         8  transaction id, 12 random bytes
//! 20  attributes: type 2, length 2, value, padded to 4; none in a request
//! ```
//!
//! Servers are asked by the sockets that carry data, as each has a mapping of its own; once in 25 s for each
//! server and socket while any peer is wanted, and never twice for one answer. An answer counts if a request
//! with its id is outstanding, to the server that it comes from and by the socket that it enters by; nothing
//! of it is believed but the address. Attributes that we do not know are passed over, required or not: servers of
//! the older RFC 3489 send some.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::desired::StunQuery;
use crate::facts::{DropReason, Fact};
use crate::plane::{Destination, Plane, Source};
use crate::probe::Secrets;
use crate::probe::message::is_probed;
use crate::time::Moment;

type Id = [u8; 12];

/// Whether a datagram claims to be an answer.
pub fn is_answer(datagram: &[u8]) -> bool {
    datagram.starts_with(&SUCCESS) && datagram.get(4..8) == Some(&COOKIE)
}

/// Requests by what they asked, the newest for each.
#[derive(Default)]
pub struct Stun {
    sent: Vec<Sent>,
}

struct Sent {
    to: Destination,
    id: Id,
    at: Moment,
    answered: bool,
}

impl Stun {
    /// The next request that is due.
    fn ask(
        &mut self,
        queries: &[StunQuery],
        secrets: &mut Secrets,
        now: Moment,
    ) -> Option<(Destination, [u8; HEADER])> {
        let to = queries
            .iter()
            .map(|query| Destination {
                socket: query.socket,
                remote: query.server,
            })
            .find(|to| {
                let sent = self.sent.iter().find(|sent| sent.to == *to);
                sent.is_none_or(|sent| now.since(sent.at) >= INTERVAL)
            })?;
        let id = secrets.bytes();
        self.sent.retain(|sent| sent.to != to);
        self.sent.push(Sent {
            to,
            id,
            at: now,
            answered: false,
        });
        Some((to, request(&id)))
    }

    /// What an answer says that we look like; None if nobody asked for it.
    fn hear(&mut self, source: Source, answer: &[u8], now: Moment) -> Option<SocketAddr> {
        let sent = self.sent.iter_mut().find(|sent| sent.to == source)?;
        if sent.answered || now.since(sent.at) > PATIENCE || answer.get(8..HEADER)? != sent.id {
            return None;
        }
        let mapped = mapped(answer, &sent.id)?;
        sent.answered = true;
        is_probed(mapped).then_some(mapped)
    }
}

impl Plane {
    pub(crate) fn ask_stun(&mut self, now: Moment) {
        let Some(desired) = &self.desired else {
            return;
        };
        if !desired.peers.iter().any(|peer| peer.wanted) {
            return;
        }
        let queries = &desired.stun;
        let sent = &mut self.stun.sent;
        sent.retain(|sent| {
            let asks = |query: &StunQuery| {
                (query.socket, query.server) == (sent.to.socket, sent.to.remote)
            };
            queries.iter().any(asks)
        });
        let secrets = &mut self.outputs.commons.secrets;
        if let Some((to, request)) = self.stun.ask(queries, secrets, now) {
            self.outputs.send(None, to, &request);
        }
    }

    pub(crate) fn stun_answer(
        &mut self,
        source: Source,
        answer: &[u8],
        now: Moment,
    ) -> Result<(), DropReason> {
        let mapped = self
            .stun
            .hear(source, answer, now)
            .ok_or(DropReason::StrayStun)?;
        let Source { socket, remote } = source;
        let fact = Fact::Mapped {
            socket,
            server: remote,
            mapped,
        };
        self.outputs.reports.tell(fact, now);
        Ok(())
    }
}

fn request(id: &Id) -> [u8; HEADER] {
    let mut request = [0; HEADER];
    request[1] = 1;
    request[4..8].copy_from_slice(&COOKIE);
    request[8..].copy_from_slice(id);
    request
}

/// XOR-MAPPED-ADDRESS, else MAPPED-ADDRESS, of a success response.
fn mapped(answer: &[u8], id: &Id) -> Option<SocketAddr> {
    let length = usize::from(u16::from_be_bytes([*answer.get(2)?, *answer.get(3)?]));
    let mut rest = answer.get(HEADER..)?;
    if !is_answer(answer) || rest.len() != length {
        return None;
    }
    let mut plain = None;
    while let Some((head, body)) = rest.split_first_chunk::<4>() {
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = body.get(..len)?;
        match kind {
            XOR_MAPPED_ADDRESS => return address(value, Some(id)),
            MAPPED_ADDRESS => plain = address(value, None),
            _ => {}
        }
        rest = body.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    plain
}

/// Zero, family, port and address; with an id both are hidden from NATs that rewrite what they find.
fn address(value: &[u8], hidden_by: Option<&Id>) -> Option<SocketAddr> {
    let (head, address) = value.split_first_chunk::<4>()?;
    let mut mask = [0; 16];
    if let Some(id) = hidden_by {
        mask[..4].copy_from_slice(&COOKIE);
        mask[4..].copy_from_slice(id);
    }
    let port = u16::from_be_bytes([head[2] ^ mask[0], head[3] ^ mask[1]]);
    let octet = |place: usize| address[place] ^ mask[place];
    let ip = match (head[1], address.len()) {
        (1, 4) => IpAddr::from(std::array::from_fn::<u8, 4, _>(octet)),
        (2, 16) => IpAddr::from(std::array::from_fn::<u8, 16, _>(octet)),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

const HEADER: usize = 20;
const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
const SUCCESS: [u8; 2] = [1, 1];
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const INTERVAL: Duration = Duration::from_secs(25);
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 5769, sections 2.2 and 2.3: the header's length shortened to the attributes before the integrity.
    const ID: Id = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";
    const SOFTWARE: &[u8] = b"\x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20";
    const IPV4: &[u8] = b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43";
    const IPV6: &[u8] = b"\x00\x20\x00\x14\x00\x02\xa1\x47\
        \x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";

    fn answer(attributes: &[&[u8]]) -> Vec<u8> {
        let body = attributes.concat();
        let mut answer = request(&ID).to_vec();
        answer[0] = 1;
        answer[2..4].copy_from_slice(&(body.len() as u16).to_be_bytes());
        answer.extend(body);
        answer
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    fn query(server: &str) -> StunQuery {
        StunQuery {
            socket: 1,
            server: server.parse().unwrap(),
        }
    }

    fn asked() -> (Stun, Source, Vec<u8>) {
        let mut stun = Stun::default();
        let queries = [query("198.51.100.1:3478")];
        let (to, _) = stun
            .ask(&queries, &mut Secrets::new([7; 32]), at(0))
            .unwrap();
        stun.sent[0].id = ID;
        (stun, to, answer(&[SOFTWARE, IPV4]))
    }

    #[test]
    fn the_sample_responses_of_the_rfc_are_read() {
        let read = |attributes: &[&[u8]]| mapped(&answer(attributes), &ID);
        assert_eq!(read(&[SOFTWARE, IPV4]), "192.0.2.1:32853".parse().ok());
        let six = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().ok();
        assert_eq!(read(&[SOFTWARE, IPV6]), six);
        let plain: &[u8] = b"\x00\x01\x00\x08\x00\x01\x12\x34\xc0\x00\x02\x09";
        assert_eq!(read(&[plain]), "192.0.2.9:4660".parse().ok());
        assert_eq!(read(&[plain, IPV4]), "192.0.2.1:32853".parse().ok());
        assert_eq!(read(&[SOFTWARE]), None);
    }

    #[test]
    fn a_request_is_twenty_bytes_and_another_one_each_time() {
        let (mut stun, mut secrets) = (Stun::default(), Secrets::new([7; 32]));
        let queries = [query("198.51.100.1:3478"), query("198.51.100.2:3478")];
        let first = stun.ask(&queries, &mut secrets, at(0)).unwrap();
        assert_eq!(first.1[..8], [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        let second = stun.ask(&queries, &mut secrets, at(0)).unwrap();
        assert_ne!(
            (first.0, first.1[8..].to_vec()),
            (second.0, second.1[8..].to_vec())
        );
        assert!(stun.ask(&queries, &mut secrets, at(24)).is_none());
        let again = stun.ask(&queries, &mut secrets, at(25)).unwrap();
        assert_eq!(again.0, first.0);
        assert_ne!(again.1, first.1);
    }

    #[test]
    fn an_answer_counts_once_from_its_server_by_its_socket_in_time() {
        let (mut stun, to, good) = asked();
        let mut other_server = to;
        other_server.remote.set_port(3479);
        let other_socket = Source { socket: 2, ..to };
        assert_eq!(stun.hear(other_server, &good, at(1)), None);
        assert_eq!(stun.hear(other_socket, &good, at(1)), None);
        let mut other_id = good.clone();
        other_id[19] ^= 1;
        assert_eq!(stun.hear(to, &other_id, at(1)), None);
        assert_eq!(stun.hear(to, &good, at(1)), "192.0.2.1:32853".parse().ok());
        assert_eq!(stun.hear(to, &good, at(1)), None);
        let (mut stun, to, good) = asked();
        assert_eq!(stun.hear(to, &good, at(11)), None);
    }

    #[test]
    fn nobody_is_told_that_it_looks_like_loopback() {
        let (mut stun, to, _) = asked();
        let loopback: &[u8] = b"\x00\x01\x00\x08\x00\x01\x12\x34\x7f\x00\x00\x01";
        assert_eq!(stun.hear(to, &answer(&[loopback]), at(1)), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_understood_or_dropped(
            body in proptest::collection::vec(any::<u8>(), 0..100),
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        ) {
            let _ = mapped(&answer(&[&body]), &ID);
            let mut changed = answer(&[SOFTWARE, IPV6, IPV4]);
            let len = changed.len();
            for (place, byte) in changes {
                changed[place % len] = byte;
            }
            let _ = mapped(&changed, &ID);
            let _ = mapped(&body, &ID);
        }
    }
}
