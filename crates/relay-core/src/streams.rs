//! All streams of a relay: who has which tag, and what goes where.
//!
//! A stream is opened when its upgrade was answered, forwards nothing until it is admitted, and has one tag from then on. A tag has one
//! stream; who decides that a second one of the same node replaces the first is the caller. What is to be written waits until the caller asks for it:
//! `ready` names the streams once, `take` gives what fits.

use std::collections::{HashMap, HashSet};

use crate::frames::{self, AWAY, Broken, MOST_DATAGRAM, PING, PONG, RECEIVE, SEND, TAG, Tag};
use crate::rates::Rates;
use crate::stream::Stream;
use crate::tls::Tls;

const AWAY_INTERVAL_S: f64 = 1.0;
/// Above so many tags that were lately away, all are forgotten: the memory is bounded, the replies are by the rate.
const MOST_AWAY: usize = 4096;

pub type Id = u64;

/// What a stream says that is not for another stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A frame that is the caller's to judge.
    Frame(u8, Vec<u8>),
    /// A datagram for a node that has no stream here, but a bound address.
    Datagram {
        source: Tag,
        destination: Tag,
        datagram: Vec<u8>,
    },
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counters {
    pub received_frames: u64,
    pub received_bytes: u64,
    pub sent_frames: u64,
    pub sent_bytes: u64,
    pub dropped_full: u64,
    pub dropped_rate: u64,
    pub dropped_away: u64,
    pub dropped_malformed: u64,
    pub dropped_unadmitted: u64,
}

#[derive(Default)]
pub struct Streams {
    streams: HashMap<Id, Stream>,
    by_tag: HashMap<Tag, Id>,
    bound: HashSet<Tag>,
    ready: Vec<Id>,
    away: HashMap<(Id, Tag), f64>,
    rates: Rates,
    plaintext: Vec<u8>,
    pub counters: Counters,
}

impl Streams {
    /// From here on, what this connection says is frames; `id` is new.
    pub fn open(&mut self, id: Id, tls: Tls) {
        self.streams.insert(id, Stream::new(tls));
    }

    /// Let it forward as `tag`; each node sends `rate` bytes a second at most (0: no limit). A stream that had the tag has it no longer.
    pub fn admit(&mut self, id: Id, tag: Tag, rate: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.tag = Some(tag);
        self.rates.set(rate);
        if let Some(replaced) = self.by_tag.insert(tag, id)
            && replaced != id
            && let Some(old) = self.streams.get_mut(&replaced)
        {
            old.tag = None;
        }
    }

    pub fn close(&mut self, id: Id) {
        if let Some(Stream { tag: Some(tag), .. }) = self.streams.remove(&id) {
            self.by_tag.remove(&tag);
        }
        self.away.retain(|(to, _), _| *to != id);
    }

    /// Whether a node has an address of its own at this relay, for when it has no stream.
    pub fn bind(&mut self, tag: Tag, bound: bool) {
        if bound {
            self.bound.insert(tag);
        } else {
            self.bound.remove(&tag);
        }
    }

    /// Bytes that came on this connection. After an error it must be closed.
    pub fn receive(&mut self, id: Id, ciphertext: &[u8], now: f64) -> Result<Vec<Heard>, Broken> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(Vec::new());
        };
        let mut inbox = std::mem::take(&mut stream.inbox);
        let outcome = stream.tls.receive(ciphertext, &mut inbox);
        let mut heard = Vec::new();
        let mut at = 0;
        if outcome.is_ok() {
            while let Some(frame) = frames::first(&inbox[at..])? {
                self.hear(id, frame.kind, frame.content, now, &mut heard);
                at += frame.length;
            }
        }
        inbox.drain(..at);
        let stream = self.streams.get_mut(&id).expect("it was there");
        stream.inbox = inbox;
        outcome?;
        if stream.tls.closed() {
            return Err(Broken("the node closed it".into()));
        }
        Ok(heard)
    }

    fn hear(&mut self, id: Id, kind: u8, content: &[u8], now: f64, heard: &mut Vec<Heard>) {
        match kind {
            SEND => self.forward(id, content, now, heard),
            PING if content.len() == 8 => self.say(id, PONG, content),
            PING | PONG => {}
            _ => heard.push(Heard::Frame(kind, content.to_vec())),
        }
    }

    fn forward(&mut self, id: Id, content: &[u8], now: f64, heard: &mut Vec<Heard>) {
        let stream = self.streams.get_mut(&id).expect("it speaks");
        let Some(source) = stream.tag else {
            self.counters.dropped_unadmitted += 1;
            return;
        };
        let Some((destination, datagram)) = content.split_first_chunk::<TAG>() else {
            self.counters.dropped_malformed += 1;
            return;
        };
        if datagram.is_empty() || datagram.len() > MOST_DATAGRAM {
            self.counters.dropped_malformed += 1;
            return;
        }
        if !self.admits(source, datagram.len(), now) {
            return;
        }
        if self.deliver(source, *destination, datagram) {
            return;
        }
        if self.bound.contains(destination) {
            heard.push(Heard::Datagram {
                source,
                destination: *destination,
                datagram: datagram.to_vec(),
            });
        } else {
            self.counters.dropped_away += 1;
            self.say_away(id, *destination, now);
        }
    }

    /// Queue a datagram for the stream with this tag; false where there is none.
    pub fn deliver(&mut self, source: Tag, destination: Tag, datagram: &[u8]) -> bool {
        let Some(&id) = self.by_tag.get(&destination) else {
            return false;
        };
        let stream = self.streams.get_mut(&id).expect("a tag's stream is there");
        let frame = frames::frame(RECEIVE, &[&source, datagram]);
        self.counters.dropped_full += stream.deliver(source, datagram, frame);
        Self::wake(&mut self.ready, id, stream);
        true
    }

    /// Whether a node may send so many bytes now, by its stream or from its address; they are counted.
    pub fn admits(&mut self, source: Tag, bytes: usize, now: f64) -> bool {
        if !self.rates.take(source, bytes, now) {
            self.counters.dropped_rate += 1;
            return false;
        }
        self.counters.received_frames += 1;
        self.counters.received_bytes += bytes as u64;
        true
    }

    fn say_away(&mut self, id: Id, tag: Tag, now: f64) {
        if self.away.len() > MOST_AWAY {
            self.away.clear();
        }
        let last = self.away.entry((id, tag)).or_insert(f64::NEG_INFINITY);
        if now - *last >= AWAY_INTERVAL_S {
            *last = now;
            self.say(id, AWAY, &tag);
        }
    }

    /// Queue a frame of the relay's own.
    pub fn say(&mut self, id: Id, kind: u8, content: &[u8]) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.counters.dropped_full += stream.say(frames::frame(kind, &[content]));
            Self::wake(&mut self.ready, id, stream);
        }
    }

    fn wake(ready: &mut Vec<Id>, id: Id, stream: &mut Stream) {
        if !stream.queued {
            stream.queued = true;
            ready.push(id);
        }
    }

    /// The streams that have something to write since the last call.
    pub fn ready(&mut self) -> Vec<Id> {
        for id in &self.ready {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.queued = false;
            }
        }
        std::mem::take(&mut self.ready)
    }

    /// What to write on this connection now, of about `most` bytes; the rest keeps waiting, and is named by `waits`.
    pub fn take(&mut self, id: Id, most: usize) -> Vec<u8> {
        let mut ciphertext = Vec::new();
        if let Some(stream) = self.streams.get_mut(&id) {
            let (frames, bytes) = stream.seal(most, &mut self.plaintext);
            self.counters.sent_frames += frames;
            self.counters.sent_bytes += bytes;
            ciphertext.reserve(bytes as usize + bytes as usize / 256 + 256);
            stream.tls.take(&mut ciphertext);
        }
        ciphertext
    }

    pub fn waits(&self, id: Id) -> bool {
        self.streams.get(&id).is_some_and(Stream::waits)
    }

    /// Say at TLS's level that no more will come; `take` has it behind all that waits.
    pub fn end(&mut self, id: Id) -> Vec<u8> {
        let mut last = self.take(id, usize::MAX);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.tls.close();
            stream.tls.take(&mut last);
        }
        last
    }
}
