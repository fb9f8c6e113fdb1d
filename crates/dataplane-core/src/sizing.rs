//! What a peer knows of sizes: probes of the MTU under way, pieces being joined, answers that are due, and
//! which data is on its way, should the path turn out to carry less.
//!
//! The brain searches (`shore.core.pmtud`); here is what a single question takes. To a Shore peer it is a
//! probe of the right size, to a foreign one an echo request through the tunnel, both with DF and both
//! named by the brain's token. A question that our own device refuses is told at once; one that gets no
//! answer is the brain's to notice.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::desired::Measurement;
use crate::engine::DATA_OVERHEAD;
use crate::facts::Fact;
use crate::fit::echo::Echo;
use crate::fit::inner_mtu;
use crate::fit::outstanding::Outstanding;
use crate::fit::pieces::{Cutter, Joiner};
use crate::fit::too_big::{self, TooBig};
use crate::outputs::Outputs;
use crate::peer::Peer;
use crate::plane::Destination;
use crate::probe::ENVELOPE;
use crate::probe::message::{Message, Probe};
use crate::time::Moment;

pub struct Sizing {
    pub joiner: Joiner,
    pub cutter: Cutter,
    pub too_big: TooBig,
    pub outstanding: Outstanding,
    /// Transactions or sequence numbers, and the brain's tokens.
    waiting: VecDeque<(u32, u64)>,
    asked: u32,
    echo: Option<Echo>,
}

impl Sizing {
    pub fn new(first_piece: u32, now: Moment) -> Self {
        Self {
            joiner: Joiner::default(),
            cutter: Cutter::new(first_piece),
            too_big: TooBig::new(now),
            outstanding: Outstanding::default(),
            waiting: VecDeque::new(),
            asked: 0,
            echo: None,
        }
    }

    fn ask(&mut self, token: u64) -> u32 {
        self.asked = self.asked.wrapping_add(1);
        // Sequence numbers of an echo have 16 bits.
        let key = self.asked & 0xffff;
        self.waiting.push_back((key, token));
        if self.waiting.len() > MOST_WAITING {
            self.waiting.pop_front();
        }
        key
    }

    fn take(&mut self, key: u32) -> Option<u64> {
        let place = self.waiting.iter().position(|(asked, _)| *asked == key)?;
        self.waiting.remove(place).map(|(_, token)| token)
    }
}

impl Peer {
    /// Asks whether a datagram of this size gets there. What cannot be asked stays unanswered.
    pub fn measure(&mut self, question: &Measurement, outputs: &mut Outputs, now: Moment) {
        let to = Destination {
            socket: question.socket,
            remote: question.remote,
        };
        if self.paths.is_shut(to) {
            return;
        }
        let headers = outer_headers(question.remote);
        let Some(size) = usize::from(question.size).checked_sub(headers) else {
            return;
        };
        let message = if self.paths.is_probed() {
            self.sized_probe(size, question.token, now)
        } else {
            self.sized_echo(size, question, outputs, now)
        };
        if let Some(message) = message {
            outputs.send_sized(self.slot, to, message, question.token);
        }
    }

    /// A packet came out of the tunnel: is it the answer to a question of ours?
    pub fn recognise(&mut self, packet: &[u8], outputs: &mut Outputs, now: Moment) -> bool {
        let Some(echo) = self.sizing.echo.filter(|_| !self.sizing.waiting.is_empty()) else {
            return false;
        };
        let Some(reply) = echo.recognise(packet) else {
            return false;
        };
        self.measured(u32::from(reply.sequence), outputs, now);
        true
    }

    /// An echo came that answers no probe of a path.
    pub fn measured(&mut self, key: u32, outputs: &mut Outputs, now: Moment) {
        if let Some(token) = self.sizing.take(key & !SIZED) {
            self.tell_measured(token, false, outputs, now);
        }
    }

    pub fn tell_measured(&mut self, token: u64, refused: bool, outputs: &mut Outputs, now: Moment) {
        let public_key = self.key();
        outputs.reports.tell(
            Fact::Measured {
                public_key,
                token,
                refused,
            },
            now,
        );
    }

    /// The longest packet that fits into one datagram to there, as far as it is known.
    pub fn inner_mtu(&self, to: Destination, interface: u16) -> u16 {
        let path_mtu = self.paths.mtu_of(to);
        path_mtu.map_or(interface, |mtu| inner_mtu(mtu, to.remote.is_ipv6()))
    }

    /// Where packets go, and the largest datagram that was proved to get there.
    pub fn proved_mtu(&self) -> Option<(Destination, u16)> {
        let to = self.paths.primary()?;
        Some((to, self.paths.mtu_of(to)?))
    }

    /// Tells those whose data was lost for its size, if the path in use carries less than `before`. Of a path
    /// that was left nothing is lost by that.
    pub fn tell_senders(
        &mut self,
        before: Option<(Destination, u16)>,
        outputs: &mut Outputs,
        now: Moment,
    ) {
        let (Some((there, was)), Some((to, is))) = (before, self.proved_mtu()) else {
            return;
        };
        if to != there || is >= was {
            return;
        }
        let mtu = inner_mtu(is, to.remote.is_ipv6());
        let mut room = [0; too_big::MOST];
        let Sizing {
            too_big,
            outstanding,
            ..
        } = &mut self.sizing;
        for quote in outstanding.longer_than(mtu, now) {
            if let Some(len) = too_big.answer_late(&quote, mtu, &mut room, now) {
                outputs.send_back(room[..len].to_vec());
            }
        }
    }

    /// Tells the brain of large datagrams that the newest echo says never came.
    pub fn tell_swallowed(&mut self, outputs: &mut Outputs, now: Moment) {
        let public_key = self.key();
        if let Some((Destination { socket, remote }, count)) = self.paths.take_swallowed() {
            let swallowed = Fact::Swallowed {
                public_key,
                socket,
                remote,
                count,
            };
            outputs.reports.tell(swallowed, now);
        }
    }

    fn sized_probe(&mut self, size: usize, token: u64, now: Moment) -> Option<Vec<u8>> {
        let content = size.checked_sub(ENVELOPE)?;
        let probe = Probe::of_no_path(self.sizing.ask(token) | SIZED, now);
        let known = self.probing.known.as_mut()?;
        known.seal(&Message::Probe(probe).encode(content))
    }

    fn sized_echo(
        &mut self,
        size: usize,
        question: &Measurement,
        outputs: &mut Outputs,
        now: Moment,
    ) -> Option<Vec<u8>> {
        let (from, to) = question.ends?;
        let inner = size.checked_sub(DATA_OVERHEAD)?;
        if self.sizing.echo.is_none() {
            let (identifier, token) = (outputs.chance.draw() as u16, outputs.chance.draw());
            self.sizing.echo = Echo::new(from, to, identifier, token);
        }
        let echo = self.sizing.echo?;
        self.lane.session(now)?;
        let sequence = self.sizing.ask(question.token) as u16;
        let mut packet = vec![0; inner.max(usize::from(echo.least()))];
        let len = packet.len();
        echo.request(sequence, len as u16, &mut packet)?;
        let mut message = vec![0; len + DATA_OVERHEAD];
        self.lane.sealing().seal(&packet, &mut message, now).ok()?;
        Some(message)
    }
}

/// Whether a datagram counts as a large one.
pub fn is_large(len: usize, at: Destination) -> bool {
    len + outer_headers(at.remote) > LARGE
}

/// IP and UDP headers of a datagram to there.
fn outer_headers(remote: SocketAddr) -> usize {
    if remote.is_ipv6() { 48 } else { 28 }
}

/// Tells transactions of sized probes from those of a path.
const SIZED: u32 = 1 << 31;
const LARGE: usize = 1200;
const MOST_WAITING: usize = 256;
