//! What goes by the UDP side of a relay: a socket's datagrams with a header before each.
//!
//! The binding itself is `shore_dataplane_core::relay::binding`. It keeps the ticket of the newest stream to its
//! relay, so a path by it outlives a stream that is dialled anew. What comes from the relay's address is the
//! relay's word for it, whichever socket the kernel gave it to.

use std::net::SocketAddr;

use ring::rand::{SecureRandom, SystemRandom};
use shore_dataplane_core::desired::{self, SocketId};
use shore_dataplane_core::facts::Fact;
use shore_dataplane_core::plane::Source;
use shore_dataplane_core::relay::binding::{Binding, HEADER, Heard, Nonce, Ticket, forward, heard};
use shore_dataplane_core::relay::{Tag, place_of};
use shore_dataplane_core::time::Moment;

use crate::udp::Udp;

pub struct Bound {
    pub desired: desired::Binding,
    binding: Binding,
    ticket: Option<Ticket>,
    told: bool,
    buffer: Vec<u8>,
    /// What is to be sent besides datagrams.
    answers: Vec<Vec<u8>>,
}

impl Bound {
    /// Of the node with this tag.
    pub fn new(desired: desired::Binding, tag: Tag, now: Moment) -> Self {
        Self {
            desired,
            binding: Binding::new(tag, now),
            ticket: None,
            told: false,
            buffer: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// The same relay by another stream or another socket.
    pub fn change(&mut self, desired: desired::Binding, now: Moment) {
        if self.desired != desired {
            self.desired = desired;
            self.binding.renew(now);
        }
    }

    /// The ticket of its stream; None while that is not up.
    pub fn take_ticket(&mut self, ticket: Option<Ticket>, now: Moment) {
        if ticket.is_some() && ticket != self.ticket {
            self.ticket = ticket;
            self.binding.renew(now);
        }
    }

    /// When `tend` has something to do; None before there is a ticket.
    pub fn due(&self) -> Option<Moment> {
        self.ticket.map(|_| self.binding.due())
    }

    /// Sends what is due, and says whether we are bound when that is news.
    pub fn tend(&mut self, sockets: &mut [Udp], now: Moment) -> Option<Fact> {
        if let Some(ticket) = &self.ticket
            && now >= self.binding.due()
        {
            let mut nonce = Nonce::default();
            // Without chance it is as before, and an answer of before would do.
            let _ = SystemRandom::new().fill(&mut nonce);
            let asked = self.binding.ask(ticket, nonce, now);
            self.answers.push(asked.to_vec());
        }
        let server = self.desired.server;
        if let Some(udp) = socket(sockets, self.desired.socket) {
            for answer in self.answers.drain(..) {
                // A refusal is silence, and asked again.
                let _ = udp.send(server, &answer, answer.len(), false);
            }
        }
        let bound = self.binding.is_bound();
        let binding = self.desired.id;
        (std::mem::replace(&mut self.told, bound) != bound).then_some(if bound {
            Fact::Bound { binding }
        } else {
            Fact::Unbound { binding }
        })
    }

    /// What came from the relay's address to the socket of `here`: where it is from, and where it begins in the
    /// message; None for the relay's own word.
    pub fn hear(&mut self, here: Source, message: &[u8], now: Moment) -> Option<(Source, usize)> {
        match heard(message) {
            None => Some((here, 0)),
            Some(Heard::Forwarded(tag, _)) => {
                let (socket, remote) = (self.desired.id, place_of(tag));
                Some((Source { socket, remote }, HEADER))
            }
            Some(Heard::Control) => {
                let ticket = self.ticket.as_ref();
                let answer = ticket.and_then(|ticket| self.binding.hear(ticket, message, now));
                self.answers.extend(answer.map(|answer| answer.to_vec()));
                None
            }
        }
    }

    /// Datagrams of `stride` bytes (the last may be shorter) for the node with this tag, as `Udp::send` has it.
    pub fn send(
        &mut self,
        sockets: &mut [Udp],
        to: Tag,
        bytes: &[u8],
        stride: usize,
    ) -> (u64, Option<i32>) {
        let stride = stride.max(1);
        let (header, longer) = (forward(to), stride + HEADER);
        let Some(udp) = socket(sockets, self.desired.socket) else {
            return (bytes.len().div_ceil(stride) as u64, Some(libc::ENOTCONN));
        };
        let (mut refused, mut errno) = (0, None);
        for part in bytes.chunks((MOST_BYTES / longer).max(1) * stride) {
            self.buffer.clear();
            for datagram in part.chunks(stride) {
                self.buffer.extend_from_slice(&header);
                self.buffer.extend_from_slice(datagram);
            }
            let sent = udp.send(self.desired.server, &self.buffer, longer, false);
            (refused, errno) = (refused + sent.0, sent.1.or(errno));
        }
        (refused, errno)
    }
}

/// Whose word it is that comes from this address.
pub fn whose(bound: &mut [Bound], remote: SocketAddr) -> Option<&mut Bound> {
    bound
        .iter_mut()
        .find(|bound| bound.desired.server == remote)
}

fn socket(sockets: &mut [Udp], id: SocketId) -> Option<&mut Udp> {
    sockets.iter_mut().find(|udp| udp.id == id)
}

/// Of one send.
const MOST_BYTES: usize = 65_507;

#[cfg(test)]
mod tests {
    use super::*;
    use ring::hmac;
    use std::net::UdpSocket;
    use std::time::Duration;

    const TAG: Tag = [7; 8];
    const OTHER: Tag = [9; 8];
    const TICKET: Ticket = [3; 32];
    const NOW: Moment = Moment::from_millis(1);
    const HERE: Source = Source {
        socket: 1,
        remote: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1),
    };

    /// A relay's socket, ours, and the binding.
    fn bound() -> (UdpSocket, Vec<Udp>, Bound) {
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        let wait = Some(Duration::from_secs(2));
        relay.set_read_timeout(wait).unwrap();
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        let desired = desired::Binding {
            id: 5,
            link: 2,
            socket: 1,
            server: relay.local_addr().unwrap(),
        };
        let sockets = vec![Udp::new(1, ours.into(), true).unwrap()];
        (relay, sockets, Bound::new(desired, TAG, NOW))
    }

    fn came(relay: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2_000];
        let len = relay.recv(&mut buffer).unwrap();
        buffer[..len].to_vec()
    }

    /// What the relay says to a `bind`.
    fn said(kind: u8, bind: &[u8]) -> Vec<u8> {
        let mut message = bind[..32].to_vec();
        message[0] = kind;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &TICKET);
        let mac = hmac::sign(&key, &message);
        message.extend_from_slice(&mac.as_ref()[..16]);
        message
    }

    #[test]
    fn it_binds_once_there_is_a_ticket_and_says_so_once() {
        let (relay, mut sockets, mut bound) = bound();
        assert_eq!(bound.due(), None);
        assert_eq!(bound.tend(&mut sockets, NOW), None);
        bound.take_ticket(Some(TICKET), NOW);
        assert_eq!(bound.tend(&mut sockets, NOW), None);
        let bind = came(&relay);
        assert_eq!((bind[0], &bind[4..12]), (0x91, &TAG[..]));
        assert!(bound.hear(HERE, &said(0x92, &bind), NOW).is_none());
        assert_eq!(bound.tend(&mut sockets, NOW), None);
        assert_eq!(came(&relay)[0], 0x93);
        assert!(bound.hear(HERE, &said(0x94, &bind), NOW).is_none());
        let binding = 5;
        assert_eq!(bound.tend(&mut sockets, NOW), Some(Fact::Bound { binding }));
        assert_eq!(bound.tend(&mut sockets, NOW), None);
    }

    #[test]
    fn another_ticket_or_socket_binds_anew_and_the_same_does_not() {
        let (_, _, mut bound) = bound();
        bound.take_ticket(Some(TICKET), NOW);
        bound.tend(&mut [], NOW);
        let due = bound.due();
        assert!(due > Some(NOW));
        bound.take_ticket(Some(TICKET), NOW);
        bound.take_ticket(None, NOW);
        bound.change(bound.desired.clone(), NOW);
        assert_eq!(bound.due(), due);
        bound.take_ticket(Some([4; 32]), NOW);
        assert_eq!(bound.due(), Some(NOW));
        bound.tend(&mut [], NOW);
        let mut other = bound.desired.clone();
        other.socket = 8;
        bound.change(other, NOW);
        assert_eq!(bound.due(), Some(NOW));
    }

    #[test]
    fn a_run_leaves_with_a_header_before_each_and_comes_without() {
        let (relay, mut sockets, mut bound) = bound();
        let run = [vec![4; 1_000], vec![5; 1_000], vec![6; 10]].concat();
        assert_eq!(bound.send(&mut sockets, OTHER, &run, 1_000), (0, None));
        for (first, len) in [(4, 1_000), (5, 1_000), (6, 10)] {
            let mut message = came(&relay);
            assert_eq!((message[0], &message[4..12]), (0x95, &OTHER[..]));
            assert_eq!((message[12], message.len()), (first, len + HEADER));
            message[0] = 0x96;
            let (source, begin) = bound.hear(HERE, &message, NOW).unwrap();
            assert_eq!((source.socket, source.remote), (5, place_of(OTHER)));
            assert_eq!(message[begin..], vec![first; len]);
        }
        assert_eq!(bound.hear(HERE, b"\x01\x01stun", NOW), Some((HERE, 0)));
    }

    #[test]
    fn more_than_one_send_takes_goes_in_two() {
        let (relay, mut sockets, mut bound) = bound();
        let run = vec![4; 45 * 1_455];
        assert_eq!(bound.send(&mut sockets, OTHER, &run, 1_455), (0, None));
        for _ in 0..45 {
            assert_eq!(came(&relay).len(), 1_467);
        }
    }
}
