//! One stream to a relay, from a connected TCP socket to datagrams.
//!
//! `Shaking` (TLS and the upgrade) → `Proving` (the admission is on its way) → `Up`; each must be left within
//! 10 s altogether. The stream is dead when nothing was heard for 20 s, when it took nothing for 2 s though
//! something waits, or when either side says so. It is pinged every 2 s while datagrams go by it, as those of
//! probes do on a path that is in use or untried, and every 15 s else, so that an idle node sleeps. Nothing here blocks: what does not fit into the socket waits in the queue,
//! and little fits (TCP_NOTSENT_LOWAT), so that what waits can still be dropped for what is newer.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ring::signature::Ed25519KeyPair;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde::Serialize;
use shore_dataplane_core::desired::{self, SocketId};
use shore_dataplane_core::facts::Fact;
use shore_dataplane_core::relay::binding::Ticket;
use shore_dataplane_core::relay::frames::{PING, PONG, PROVE, WHERE, Welcome, Word, first, frame};
use shore_dataplane_core::relay::queue::Queue;
use shore_dataplane_core::relay::{place_of, tag_at};
use shore_dataplane_core::time::Moment;

use crate::relay::raw::Raw;
use crate::relay::trust;
use crate::sys;

pub struct Link {
    pub id: SocketId,
    fd: OwnedFd,
    tls: ClientConnection,
    admission: Vec<u8>,
    key: Ed25519KeyPair,
    state: State,
    since: Moment,
    inbox: Vec<u8>,
    queue: Queue,
    /// Datagrams that came, with the places that they are said to come from.
    arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    facts: Vec<Fact>,
    /// Of whom it was asked where they are.
    asked: Vec<SocketAddr>,
    heard: Moment,
    pinged: Moment,
    /// When a datagram last went by it, either way.
    used: Moment,
    stirred: bool,
    /// What the relay's UDP side knows us by.
    pub ticket: Option<Ticket>,
    rtt: Option<Duration>,
    /// Since when something waits and nothing left, and how much the socket held then.
    stuck: Option<(Moment, usize)>,
    sent: u64,
    received: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Shaking,
    Proving,
    Up,
    Down,
}

/// One link's numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkCounters {
    pub id: SocketId,
    pub state: State,
    pub since_s: f64,
    pub rtt_ms: Option<f64>,
    pub sent: u64,
    pub received: u64,
    pub drops: u64,
}

impl Link {
    /// Begins on a connected socket.
    pub fn new(desired: &desired::Link, fd: OwnedFd, now: Moment) -> Result<Self, String> {
        let said = |error: std::io::Error| error.to_string();
        sys::set_nonblocking(fd.as_fd()).map_err(said)?;
        let lowat = libc::TCP_NOTSENT_LOWAT;
        sys::set_option(fd.as_fd(), libc::IPPROTO_TCP, lowat, MOST_UNSENT).map_err(said)?;
        sys::set_option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1).map_err(said)?;
        let config = trust::config(desired.pin.map(|pin| *pin)).map_err(said)?;
        let unnamed = |_| format!("{} is not the name of a relay", desired.name);
        let name = ServerName::try_from(desired.name.clone()).map_err(unnamed)?;
        let mut tls = ClientConnection::new(Arc::new(config), name).map_err(|e| e.to_string())?;
        let host = &desired.name;
        let request = format!(
            "GET /shore/v1/relay HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: shore-relay/1\r\n\r\n"
        );
        tls.writer().write_all(request.as_bytes()).map_err(said)?;
        let key = Ed25519KeyPair::from_seed_unchecked(&*desired.admission_key);
        Ok(Self {
            id: desired.id,
            fd,
            tls,
            admission: desired.admission.to_vec(),
            key: key.map_err(|_| "the admission key is none".to_owned())?,
            state: State::Shaking,
            since: now,
            inbox: Vec::new(),
            queue: Queue::default(),
            arrived: VecDeque::new(),
            facts: Vec::new(),
            asked: Vec::new(),
            heard: now,
            pinged: now,
            used: now,
            stirred: false,
            ticket: None,
            rtt: None,
            stuck: None,
            sent: 0,
            received: 0,
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn is_down(&self) -> bool {
        self.state == State::Down
    }

    /// Whether room in the socket is waited for.
    pub fn wants_to_write(&self) -> bool {
        !self.is_down() && (self.tls.wants_write() || !self.queue.is_empty())
    }

    /// A datagram for the node at this place. False where it cannot go at all.
    pub fn send(&mut self, to: SocketAddr, datagram: &[u8]) -> bool {
        let Some(tag) = tag_at(to).filter(|_| self.state == State::Up) else {
            return false;
        };
        self.queue.push(tag, datagram);
        self.sent += 1;
        self.stirred = true;
        true
    }

    /// Asks where the nodes at these places are seen; again only when they were left out meanwhile.
    pub fn ask(&mut self, places: &[SocketAddr]) {
        if self.state != State::Up {
            return;
        }
        for place in places.iter().filter(|place| !self.asked.contains(place)) {
            if let Some(tag) = tag_at(*place) {
                self.queue.push_control(WHERE, &tag);
            }
        }
        self.asked = places.to_vec();
    }

    pub fn next_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.arrived.pop_front()
    }

    pub fn facts(&mut self) -> impl Iterator<Item = Fact> + '_ {
        self.facts.drain(..)
    }

    pub fn counters(&self, now: Moment) -> LinkCounters {
        LinkCounters {
            id: self.id,
            state: self.state,
            since_s: now.since(self.since).as_secs_f64(),
            rtt_ms: self.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            sent: self.sent,
            received: self.received,
            drops: self.queue.drops,
        }
    }

    /// When `turn` must be called without anything to read.
    pub fn deadline(&self) -> Moment {
        let stuck = self.stuck.map(|(since, _)| since + STUCK_FOR);
        let other = match self.state {
            State::Up => (self.pinged + self.ping_interval()).min(self.heard + DEAD_AFTER),
            _ => self.since + UP_WITHIN,
        };
        stuck.map_or(other, |stuck| stuck.min(other))
    }

    /// Reads and acts as far as the socket goes along.
    pub fn turn(&mut self, now: Moment) {
        if !self.is_down() {
            let done = self.advance(now);
            self.end_if(done, now);
        }
    }

    /// Writes as far as the socket goes along.
    pub fn flush(&mut self, now: Moment) {
        if std::mem::take(&mut self.stirred) {
            self.used = now;
        }
        if !self.is_down() {
            let done = self.write(now);
            self.end_if(done, now);
        }
    }

    fn end_if(&mut self, done: Result<(), String>, now: Moment) {
        if let Err(reason) = done {
            // What the TLS library has to say about it to the other side.
            let _ = self.tls.write_tls(&mut Raw(self.fd.as_fd()));
            self.become_state(State::Down, now);
            let link = self.id;
            self.facts.push(Fact::LinkDown { link, reason });
        }
    }

    fn advance(&mut self, now: Moment) -> Result<(), String> {
        let read = self.read(now);
        // Last words count, above all why it ends.
        while let Some(length) = self.take(now)? {
            self.inbox.drain(..length);
        }
        read?;
        if self.state == State::Up {
            if now.since(self.heard) >= DEAD_AFTER {
                return Err("nothing was heard for 20 s".into());
            }
            if now.since(self.pinged) >= self.ping_interval() {
                self.pinged = now;
                let sent_at = now.0.as_nanos() as u64;
                self.queue.push_control(PING, &sent_at.to_be_bytes());
            }
        } else if now.since(self.since) >= UP_WITHIN {
            return Err(match self.state {
                State::Shaking => "no TLS within 10 s".into(),
                _ => "no welcome within 10 s".into(),
            });
        }
        Ok(())
    }

    /// Fast as long as something went by it since the ping before.
    fn ping_interval(&self) -> Duration {
        if self.used + BUSY_PING > self.pinged {
            BUSY_PING
        } else {
            IDLE_PING
        }
    }

    fn read(&mut self, now: Moment) -> Result<(), String> {
        for _ in 0..MOST_READS {
            match self.tls.read_tls(&mut Raw(self.fd.as_fd())) {
                Ok(0) => return Err("the relay closed it".into()),
                Ok(_) => self.heard = now,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
            let state = self.tls.process_new_packets().map_err(|e| e.to_string())?;
            let mut rest = vec![0; state.plaintext_bytes_to_read()];
            let read = self.tls.reader().read_exact(&mut rest);
            read.map_err(|error| error.to_string())?;
            self.inbox.append(&mut rest);
        }
        Ok(())
    }

    /// Acts on what stands first in the inbox. Returns its length, or None if it is not whole.
    fn take(&mut self, now: Moment) -> Result<Option<usize>, String> {
        if self.state == State::Shaking {
            return self.take_answer(now);
        }
        let inbox = std::mem::take(&mut self.inbox);
        let taken = match first(&inbox) {
            Ok(Some((word, length))) => self.take_word(&word, now).map(|()| Some(length)),
            Ok(None) => Ok(None),
            Err(_) => Err("it sent what is no frame".into()),
        };
        self.inbox = inbox;
        taken
    }

    /// The head of the answer to our upgrade.
    fn take_answer(&mut self, now: Moment) -> Result<Option<usize>, String> {
        let end = self.inbox.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else {
            let endless = self.inbox.len() > MOST_HEAD;
            return if endless {
                Err(NO_RELAY.into())
            } else {
                Ok(None)
            };
        };
        if !self.inbox.starts_with(b"HTTP/1.1 101 ") {
            return Err(NO_RELAY.into());
        }
        self.prove()?;
        self.become_state(State::Proving, now);
        Ok(Some(end + 4))
    }

    /// The admission, and with its key a signature that is worth something in this TLS session only.
    fn prove(&mut self) -> Result<(), String> {
        let certificate = self.tls.peer_certificates().and_then(|chain| chain.first());
        let pin = certificate.and_then(trust::pin_of).ok_or(NO_RELAY)?;
        let exported = self
            .tls
            .export_keying_material([0; 32], EXPORTER, None)
            .map_err(|error| error.to_string())?;
        let signature = self.key.sign(&[LABEL, &pin, &exported].concat());
        let length =
            u16::try_from(self.admission.len()).map_err(|_| "the admission is too long")?;
        let parts: [&[u8]; 3] = [&length.to_be_bytes(), &self.admission, signature.as_ref()];
        let mut bytes = Vec::new();
        frame(PROVE, &parts, &mut bytes);
        let written = self.tls.writer().write_all(&bytes);
        written.map_err(|error| error.to_string())
    }

    fn take_word(&mut self, word: &Word, now: Moment) -> Result<(), String> {
        let link = self.id;
        match word {
            Word::Welcome(content) => {
                let welcome: Welcome = crate::decode(content)?;
                self.become_state(State::Up, now);
                self.pinged = now - BUSY_PING;
                self.used = now;
                self.ticket = Some(*welcome.ticket);
                let (observed, udp) = (welcome.observed, welcome.udp);
                self.facts.push(Fact::LinkUp {
                    link,
                    observed,
                    udp,
                });
            }
            Word::Refused(reason) => {
                let reason = String::from_utf8_lossy(reason);
                return Err(format!("the relay refused: {reason}"));
            }
            Word::Receive(tag, datagram) if self.state == State::Up => {
                self.received += 1;
                self.stirred = true;
                self.arrived.push_back((place_of(*tag), datagram.to_vec()));
            }
            Word::Ping(content) => self.queue.push_control(PONG, content),
            Word::Pong(content) => self.take_pong(content, now),
            Word::Seen(tag, address) => self.facts.push(Fact::Seen {
                link,
                remote: place_of(*tag),
                address: *address,
            }),
            Word::Away(tag) => self.facts.push(Fact::Away {
                link,
                remote: place_of(*tag),
            }),
            Word::GoAway(millis) => self.facts.push(Fact::LinkLeaving {
                link,
                for_s: f64::from(*millis) / 1e3,
            }),
            Word::Receive(..) | Word::Unknown => {}
        }
        Ok(())
    }

    fn take_pong(&mut self, content: &[u8], now: Moment) {
        if let Ok(sent_at) = content.try_into().map(u64::from_be_bytes)
            && sent_at == self.pinged.0.as_nanos() as u64
        {
            self.rtt = Some(now.since(self.pinged));
        }
    }

    fn write(&mut self, now: Moment) -> Result<(), String> {
        loop {
            if !self.tls.wants_write() {
                // The kernel goes on filling a segment that it has begun, far above MOST_UNSENT.
                let unsent = if self.queue.is_empty() {
                    0
                } else {
                    sys::unsent(self.fd())
                };
                if unsent >= MOST_UNSENT as usize {
                    return self.wait(now);
                }
                self.refill(if unsent == 0 { RECORD } else { LITTLE })?;
            }
            if !self.tls.wants_write() {
                self.stuck = None;
                return Ok(());
            }
            match self.tls.write_tls(&mut Raw(self.fd.as_fd())) {
                Ok(_) => self.stuck = None,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.wait(now),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Until the socket has room, which it must have soon.
    fn wait(&mut self, now: Moment) -> Result<(), String> {
        let held = sys::unsent(self.fd());
        match self.stuck {
            Some((since, before)) if held >= before => {
                if now.since(since) >= STUCK_FOR {
                    return Err("it took nothing for 2 s".into());
                }
            }
            _ => self.stuck = Some((now, held)),
        }
        Ok(())
    }

    /// Frames of about so many bytes, into one TLS record.
    fn refill(&mut self, mut room: usize) -> Result<(), String> {
        while room > 0
            && let Some(bytes) = self.queue.pop()
        {
            let written = self.tls.writer().write_all(&bytes);
            written.map_err(|error| error.to_string())?;
            room = room.saturating_sub(bytes.len());
        }
        Ok(())
    }

    fn become_state(&mut self, state: State, now: Moment) {
        (self.state, self.since) = (state, now);
    }
}

const LABEL: &[u8] = b"shore relay v1\0";
const EXPORTER: &[u8] = b"EXPORTER-shore-relay-v1";
const NO_RELAY: &str = "no relay answers there";
const MOST_UNSENT: i32 = 32_768;
const MOST_READS: usize = 8;
const MOST_HEAD: usize = 8_192;
/// What one TLS record holds.
const RECORD: usize = 16_384;
/// What is given to a socket that has not sent everything.
const LITTLE: usize = 8_192;
const UP_WITHIN: Duration = Duration::from_secs(10);
const DEAD_AFTER: Duration = Duration::from_secs(20);
const STUCK_FOR: Duration = Duration::from_secs(2);
const BUSY_PING: Duration = Duration::from_secs(2);
const IDLE_PING: Duration = Duration::from_secs(15);
