//! A NAT that shows each peer another port, before one that lets in only the port that was written to.
//!
//! Neither end can name the place where the other one is, so it is found by chance. The end whose NAT draws
//! ports has a *fan*: 256 sockets, each of which sends the peer one datagram that dies on the way. Now 256 of
//! the 64,512 ports of its NAT lead to it, for this peer alone. The peer *sprays*: from the one socket that the
//! fan aims at it sends probes to one port after another of the address that the relay vouched for. Each
//! opens the peer's own NAT for the port that it goes to, so the first that meets the fan is answered.
//!
//! n probes miss 256 of 64,512 ports with probability (1 - 256 / 64,512)^n:
//!
//! ```text
//! probes     256    512    1,024    2,048
//! met       64 %   87 %   98.3 %  99.97 %
//! ```
//!
//! **Order.** Ports that the brain names come first. The others follow by the golden ratio of the range, from
//! a start by chance: none comes twice, and what is left out between them is always small. So a NAT that counts
//! its ports, whose fan lies side by side, is met by some 400 probes at the latest.
//!
//! **Limits** hold whatever the brain asks for: 2,048 probes and one fan of 256 sockets for a peer in ten
//! minutes, 1,000 datagrams a second for all peers together.
//!
//! **One answer.** Of a fan the socket that the peer's first message came by is taken, and what comes by
//! others of it is left unanswered. So both ends know one path by it, and the other sockets can be closed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::desired::{self, SocketId};
use crate::outputs::Outputs;
use crate::peer::Peer;
use crate::plane::{Destination, Source};
use crate::probe::message::{Message, Probe};
use crate::time::Moment;

/// One peer's part.
#[derive(Default)]
pub struct Spraying {
    spray: Option<Spray>,
    fan: Option<Fan>,
    sprayed: Begun,
    fanned: Begun,
    /// When the next datagram may leave.
    due: Moment,
}

struct Spray {
    socket: SocketId,
    address: IpAddr,
    first: Vec<u16>,
    start: u32,
    sent: u32,
}

struct Fan {
    remote: SocketAddr,
    hops: u8,
    sockets: Vec<SocketId>,
    sent: usize,
    /// The one that the peer has met.
    met: Option<SocketId>,
}

/// The last number that was seen, and when one was acted upon.
#[derive(Default)]
struct Begun {
    number: u32,
    at: Option<Moment>,
}

impl Begun {
    fn takes(&mut self, number: u32, now: Moment) -> bool {
        let fresh = number != self.number && self.at.is_none_or(|at| now.since(at) >= REST);
        self.number = number;
        if fresh {
            self.at = Some(now);
        }
        fresh
    }
}

impl Spray {
    fn next(&self) -> Option<SocketAddr> {
        if self.sent >= MOST_PROBES {
            return None;
        }
        let named = self.first.get(self.sent as usize).copied();
        let port =
            named.unwrap_or_else(|| port_at(self.start, self.sent - self.first.len() as u32));
        Some(SocketAddr::new(self.address, port))
    }
}

impl Spraying {
    /// Takes over what the brain wants; a number that was not there before is a new one.
    pub fn want(&mut self, desired: &desired::Peer, chance: &mut Chance, now: Moment) {
        match &desired.spray {
            None => self.spray = None,
            Some(wish) if self.sprayed.takes(wish.number, now) => {
                let mut first = wish.first.clone();
                first.truncate(MOST_NAMED);
                self.spray = Some(Spray {
                    socket: wish.socket,
                    address: wish.address,
                    first,
                    start: chance.draw() as u32 % PORTS,
                    sent: 0,
                });
            }
            Some(_) => {}
        }
        match &desired.fan {
            None => self.fan = None,
            Some(wish) if self.fanned.takes(wish.number, now) => {
                self.fan = Some(Fan {
                    remote: wish.remote,
                    hops: wish.hops,
                    sockets: wish.sockets.clone(),
                    sent: 0,
                    met: None,
                });
            }
            Some(_) => {}
        }
    }

    /// The peer's message came from there. False where another socket of the fan has met it already.
    pub fn meets(&mut self, source: Source) -> bool {
        let from_there = |spray: &mut Spray| {
            (spray.socket, spray.address) == (source.socket, source.remote.ip())
        };
        self.spray.take_if(from_there);
        let fan = self.fan.as_mut();
        fan.filter(|fan| fan.sockets.contains(&source.socket))
            .is_none_or(|fan| *fan.met.get_or_insert(source.socket) == source.socket)
    }

    /// When there is something to send.
    pub fn due(&self) -> Option<Moment> {
        self.next().map(|_| self.due)
    }

    /// Where the next datagram goes, and for how many hops if it is to die on the way.
    fn next(&self) -> Option<(Destination, Option<u8>)> {
        let opening = self.fan.as_ref().and_then(|fan| {
            let socket = *fan.sockets.get(fan.sent).filter(|_| fan.met.is_none())?;
            let remote = fan.remote;
            Some((Destination { socket, remote }, Some(fan.hops)))
        });
        let guess = || {
            let spray = self.spray.as_ref()?;
            let (socket, remote) = (spray.socket, spray.next()?);
            Some((Destination { socket, remote }, None))
        };
        opening.or_else(guess)
    }

    fn sent(&mut self, hops: Option<u8>) {
        match (hops, &mut self.fan, &mut self.spray) {
            (Some(_), Some(fan), _) => fan.sent += 1,
            (None, _, Some(spray)) => spray.sent += 1,
            _ => {}
        }
    }
}

impl Peer {
    /// Opens the fan and guesses, as far as it is time.
    pub fn spray(&mut self, outputs: &mut Outputs, now: Moment) {
        while let Some((to, hops)) = self.spraying.next() {
            if !outputs.commons.may_guess(now) {
                self.spraying.due = now + PAUSE;
                return;
            }
            self.spraying.sent(hops);
            let probe = Message::Probe(Probe::of_no_path(self.probing.next_transaction(), now));
            let known = self.probing.known.as_mut();
            let Some(sealed) = known.and_then(|known| known.seal(&probe.encode(0))) else {
                return;
            };
            match hops {
                Some(hops) => outputs.send_brief(self.slot, to, sealed, hops),
                None => {
                    outputs.send(Some(self.slot), to, &sealed);
                }
            }
        }
    }
}

/// The `n`-th port of the order that begins at `start`.
fn port_at(start: u32, n: u32) -> u16 {
    (LEAST_PORT + (start + n * STEP) % PORTS) as u16
}

pub const MOST_SOCKETS: usize = 256;
const MOST_PROBES: u32 = 2048;
const MOST_NAMED: usize = 64;
const LEAST_PORT: u32 = 1024;
const PORTS: u32 = 64_512;
/// The range by the golden ratio, without a common divisor.
const STEP: u32 = 39_871;
/// Ten minutes, less what two clocks may differ in.
const REST: Duration = Duration::from_secs(595);
const PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_port_comes_twice_and_none_is_one_of_the_system_s() {
        let ports: HashSet<_> = (0..PORTS).map(|n| port_at(7, n)).collect();
        assert_eq!(ports.len(), PORTS as usize);
        assert_eq!(ports.iter().min(), Some(&1024));
    }

    #[test]
    fn ports_side_by_side_are_met_by_some_four_hundred_probes() {
        let mut ports: Vec<_> = (0..420).map(|n| port_at(0, n)).collect();
        ports.sort_unstable();
        let gaps = ports.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.max().unwrap() <= MOST_SOCKETS as u16);
        assert!(ports[0] - 1024 + (65535 - ports[419]) < 256);
    }

    #[test]
    fn ports_by_chance_are_met_as_often_as_the_theory_says() {
        let mut chance = Chance::new(5);
        let mut met = [0; 3];
        let rounds = 2000;
        for _ in 0..rounds {
            let fan: HashSet<_> = (0..MOST_SOCKETS)
                .map(|_| (LEAST_PORT + chance.draw() as u32 % PORTS) as u16)
                .collect();
            let start = chance.draw() as u32 % PORTS;
            let first = (0..MOST_PROBES).position(|n| fan.contains(&port_at(start, n)));
            for (place, probes) in [256, 1024, 2048].into_iter().enumerate() {
                met[place] += u32::from(first.is_some_and(|first| first < probes));
            }
        }
        let shares = met.map(|met| f64::from(met) / f64::from(rounds));
        assert!((0.60..0.68).contains(&shares[0]), "{shares:?}");
        assert!((0.97..0.995).contains(&shares[1]), "{shares:?}");
        assert!(shares[2] > 0.998, "{shares:?}");
    }
}
