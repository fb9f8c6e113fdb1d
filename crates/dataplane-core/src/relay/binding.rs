//! An address of ours at the UDP side of a relay (docs/protocol/relay.md, "UDP 3478").
//!
//! ```text
//! 0x91 bind, 0x92 challenge, 0x93 answer, 0x94 bound    48 bytes: type, zeros 3, tag 8, nonce 8, body 12, MAC 16
//! 0x95 forward, 0x96 forwarded                          12 + n:   type, zeros 3, tag 8, datagram
//! ```
//!
//! We ask with `bind`, answer the challenge, and are bound. From then on we ask again every 25 s, which keeps the
//! NATs on the way open too, and at once when our address may be another one. What is not answered is asked
//! again ever more seldom; after three in a row we are not bound any more, until an answer comes. The ticket, by
//! which all of it is sealed, is that of a stream to the same relay.

use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::relay::Tag;
use crate::time::Moment;

pub type Ticket = [u8; 32];
pub type Nonce = [u8; 8];
pub type Control = [u8; CONTROL];

const CHALLENGE: u8 = 0x92;
const BOUND: u8 = 0x94;
const BIND: u8 = 0x91;
const ANSWER: u8 = 0x93;
const FORWARD: u8 = 0x95;
const FORWARDED: u8 = 0x96;
const CONTROL: usize = 48;
const SEALED: usize = 32;
const MAC: usize = 16;
/// What `forward` puts before a datagram.
pub const HEADER: usize = 12;

const AGAIN: Duration = Duration::from_secs(25);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const MOST_UNANSWERED: u32 = 3;

/// One address, or the way to one.
pub struct Binding {
    tag: Tag,
    nonce: Nonce,
    unanswered: u32,
    due: Moment,
    bound: bool,
}

/// What a message of the relay's UDP side is.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    Control,
    /// A datagram of the node with this tag, as the relay says.
    Forwarded(Tag, &'a [u8]),
}

/// Whether it is for a binding to look at; None is for everybody else.
pub fn heard(message: &[u8]) -> Option<Heard<'_>> {
    let (&[kind, 0, 0, 0], rest) = message.split_first_chunk()? else {
        return None;
    };
    match kind {
        CHALLENGE | BOUND => Some(Heard::Control),
        FORWARDED => {
            let (tag, datagram) = rest.split_first_chunk()?;
            Some(Heard::Forwarded(*tag, datagram))
        }
        _ => None,
    }
}

/// The header before a datagram for the node with this tag.
pub fn forward(to: Tag) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = FORWARD;
    header[4..].copy_from_slice(&to);
    header
}

impl Binding {
    /// Of the node with this tag; the first `bind` is due now.
    pub fn new(tag: Tag, now: Moment) -> Self {
        Self {
            tag,
            nonce: Nonce::default(),
            unanswered: 0,
            due: now,
            bound: false,
        }
    }

    pub fn is_bound(&self) -> bool {
        self.bound
    }

    /// When the next `bind` is to leave.
    pub fn due(&self) -> Moment {
        self.due
    }

    /// Our address or our ticket may be another one.
    pub fn renew(&mut self, now: Moment) {
        self.unanswered = 0;
        self.due = now;
    }

    /// The `bind` that is due. `nonce` is by chance.
    pub fn ask(&mut self, ticket: &Ticket, nonce: Nonce, now: Moment) -> Control {
        self.bound &= self.unanswered < MOST_UNANSWERED;
        let wait = FIRST_WAIT * 2u32.pow(self.unanswered.min(8));
        self.due = now + wait.min(LONGEST_WAIT);
        self.unanswered += 1;
        self.nonce = nonce;
        control(BIND, &self.tag, &nonce, &[0; 12], ticket)
    }

    /// What the relay says to that: an answer of ours may be due, and we may be bound.
    pub fn hear(&mut self, ticket: &Ticket, message: &[u8], now: Moment) -> Option<Control> {
        let message: &Control = message.try_into().ok()?;
        let (sealed, mac) = message.split_at(SEALED);
        let ours = message[4..12] == self.tag && message[12..20] == self.nonce;
        if !ours || keyed(ticket, sealed).verify_truncated_left(mac).is_err() {
            return None;
        }
        match message[0] {
            CHALLENGE => {
                let cookie = &message[20..SEALED];
                Some(control(ANSWER, &self.tag, &self.nonce, cookie, ticket))
            }
            BOUND => {
                self.bound = true;
                self.unanswered = 0;
                self.due = now + AGAIN;
                None
            }
            _ => None,
        }
    }
}

fn control(kind: u8, tag: &Tag, nonce: &Nonce, body: &[u8], ticket: &Ticket) -> Control {
    let mut message = [0; CONTROL];
    message[0] = kind;
    message[4..12].copy_from_slice(tag);
    message[12..20].copy_from_slice(nonce);
    message[20..SEALED].copy_from_slice(body);
    let mac = keyed(ticket, &message[..SEALED]).finalize().into_bytes();
    message[SEALED..].copy_from_slice(&mac[..MAC]);
    message
}

fn keyed(ticket: &Ticket, sealed: &[u8]) -> Hmac<Sha256> {
    let mac = <Hmac<Sha256> as Mac>::new_from_slice(ticket);
    mac.expect("HMAC takes keys of any length")
        .chain_update(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::tag_of;

    const NONCE: Nonce = [0, 1, 2, 3, 4, 5, 6, 7];

    fn tag() -> Tag {
        tag_of(&std::array::from_fn(|n| n as u8))
    }

    fn ticket() -> Ticket {
        std::array::from_fn(|n| n as u8 + 32)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn said(kind: u8, body: &[u8; 12]) -> Control {
        control(kind, &tag(), &NONCE, body, &ticket())
    }

    fn at(seconds: f64) -> Moment {
        Moment(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn it_speaks_as_the_vectors_say() {
        let mut binding = Binding::new(tag(), at(0.0));
        let asked = binding.ask(&ticket(), NONCE, at(0.0));
        assert_eq!(
            hex(&asked),
            "91000000972c74e02d3e21d200010203040506070000000000000000000000001357966af7e9d80485dd1de140c5db73"
        );
        let cookie = [
            0x07, 0xa4, 0x98, 0x3b, 0xc1, 0x8b, 0x4e, 0x2b, 0xce, 0x0e, 0xc2, 0x64,
        ];
        let answer = binding.hear(&ticket(), &said(CHALLENGE, &cookie), at(0.1));
        let answer = hex(&answer.unwrap());
        assert!(
            answer.starts_with("93000000972c74e02d3e21d2000102030405060707a4983bc18b4e2bce0ec264")
        );
        assert_eq!(hex(&forward(tag())), "95000000972c74e02d3e21d2");
    }

    #[test]
    fn it_is_bound_when_the_relay_says_so_and_asks_again_after_25_s() {
        let mut binding = Binding::new(tag(), at(0.0));
        binding.ask(&ticket(), NONCE, at(0.0));
        assert!(!binding.is_bound());
        assert_eq!(
            binding.hear(&ticket(), &said(BOUND, &[0; 12]), at(0.1)),
            None
        );
        assert!(binding.is_bound());
        assert_eq!(binding.due(), at(25.1));
    }

    #[test]
    fn it_believes_nobody_else() {
        let mut binding = Binding::new(tag(), at(0.0));
        binding.ask(&ticket(), NONCE, at(0.0));
        let good = said(BOUND, &[0; 12]);
        for place in 0..good.len() {
            let mut bad = good;
            bad[place] ^= 1;
            binding.hear(&ticket(), &bad, at(0.1));
            assert!(!binding.is_bound(), "byte {place}");
        }
        binding.hear(&[0; 32], &good, at(0.1));
        binding.hear(&ticket(), &good[1..], at(0.1));
        assert!(!binding.is_bound());
        binding.ask(&ticket(), [9; 8], at(0.5));
        binding.hear(&ticket(), &good, at(0.6));
        assert!(!binding.is_bound(), "an answer to a question before");
    }

    #[test]
    fn who_hears_nothing_asks_ever_more_seldom_and_is_bound_no_more() {
        let mut binding = Binding::new(tag(), at(0.0));
        binding.ask(&ticket(), NONCE, at(0.0));
        binding.hear(&ticket(), &said(BOUND, &[0; 12]), at(0.0));
        let mut asked = Vec::new();
        for _ in 0..5 {
            let due = binding.due();
            binding.ask(&ticket(), NONCE, due);
            asked.push((due, binding.is_bound()));
        }
        let expected = [25.0, 25.5, 26.5, 28.5, 32.5].map(at);
        let bound = [true, true, true, false, false];
        assert_eq!(asked, expected.into_iter().zip(bound).collect::<Vec<_>>());
        for _ in 0..20 {
            let due = binding.due();
            binding.ask(&ticket(), NONCE, due);
            assert!(binding.due() <= due + LONGEST_WAIT);
        }
        binding.renew(at(500.0));
        assert_eq!(binding.due(), at(500.0));
    }

    #[test]
    fn what_is_of_the_udp_side_is_told_from_everything_else() {
        let mut message = said(FORWARDED, &[0; 12]).to_vec();
        message[12..].fill(4);
        let datagram = &message[12..];
        assert_eq!(heard(&message), Some(Heard::Forwarded(tag(), datagram)));
        assert_eq!(heard(&said(CHALLENGE, &[0; 12])), Some(Heard::Control));
        assert_eq!(heard(&[FORWARDED, 0, 0, 0, 1, 2, 3]), None);
        assert_eq!(heard(&[FORWARDED, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8]), None);
        assert_eq!(heard(&[4, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]), None);
        assert_eq!(heard(&[]), None);
    }
}
