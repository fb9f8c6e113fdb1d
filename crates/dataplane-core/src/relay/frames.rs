//! The frames of a relay stream.
//!
//! ```text
//! frame:  type u8, length u24 (big-endian), content
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::Deserialize;
use serde_bytes::ByteArray;

use crate::relay::Tag;

pub const HEADER: usize = 4;
pub const MOST_CONTENT: usize = 65_536;

pub const PROVE: u8 = 0x01;
pub const SEND: u8 = 0x02;
pub const PING: u8 = 0x03;
pub const PONG: u8 = 0x04;
pub const WHERE: u8 = 0x05;
pub const WELCOME: u8 = 0x11;
pub const RECEIVE: u8 = 0x12;
pub const AWAY: u8 = 0x13;
pub const GOAWAY: u8 = 0x14;
pub const REFUSED: u8 = 0x15;
pub const SEEN: u8 = 0x16;

/// What a stream may do, and how the UDP side knows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Welcome {
    pub observed: SocketAddr,
    pub ticket: ByteArray<32>,
    #[serde(default)]
    pub udp: Vec<SocketAddr>,
}

/// What a relay says.
#[derive(Debug, PartialEq, Eq)]
pub enum Word<'a> {
    Welcome(&'a [u8]),
    Receive(Tag, &'a [u8]),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    Away(Tag),
    /// Milliseconds until it closes.
    GoAway(u32),
    Refused(&'a [u8]),
    /// The address that a node speaks to the relay from.
    Seen(Tag, IpAddr),
    Unknown,
}

/// Not ours to read: the stream must end.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

/// One frame of these parts, at the end of `out`.
pub fn frame(kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(length <= MOST_CONTENT);
    let [_, high, middle, low] = (length as u32).to_be_bytes();
    out.extend_from_slice(&[kind, high, middle, low]);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// The first frame of `inbox`, if it is whole, and its length.
pub fn first(inbox: &[u8]) -> Result<Option<(Word<'_>, usize)>, Broken> {
    let Some(&[kind, high, middle, low]) = inbox.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if length > MOST_CONTENT {
        return Err(Broken);
    }
    let end = HEADER + length;
    let content = inbox.get(HEADER..end);
    let word = |content| read(kind, content).ok_or(Broken).map(|word| (word, end));
    content.map(word).transpose()
}

fn read(kind: u8, content: &[u8]) -> Option<Word<'_>> {
    let word = match kind {
        WELCOME => Word::Welcome(content),
        RECEIVE => {
            let (tag, datagram) = content.split_first_chunk()?;
            Word::Receive(*tag, datagram)
        }
        PING => Word::Ping(content),
        PONG => Word::Pong(content),
        AWAY => Word::Away(content.try_into().ok()?),
        GOAWAY => Word::GoAway(u32::from_be_bytes(content.try_into().ok()?)),
        REFUSED => Word::Refused(content),
        SEEN => {
            let (tag, address) = content.split_first_chunk()?;
            let octets: [u8; 16] = address.try_into().ok()?;
            Word::Seen(*tag, Ipv6Addr::from(octets).to_canonical())
        }
        _ => Word::Unknown,
    };
    Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::tag_of;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_datagram_is_sent_as_the_vectors_say() {
        let tag = tag_of(&std::array::from_fn(|n| n as u8));
        let mut out = Vec::new();
        frame(SEND, &[&tag, b"datagram"], &mut out);
        let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "02000010972c74e02d3e21d2646174616772616d");
    }

    #[test]
    fn a_frame_is_read_once_it_is_whole() {
        let mut inbox = Vec::new();
        frame(RECEIVE, &[&[7; 8], b"datagram"], &mut inbox);
        for cut in 0..inbox.len() {
            assert_eq!(first(&inbox[..cut]), Ok(None));
        }
        let whole = (Word::Receive([7; 8], b"datagram"), inbox.len());
        assert_eq!(first(&inbox), Ok(Some(whole)));
    }

    #[test]
    fn an_address_that_was_seen_is_read_in_its_own_family() {
        let mut inbox = Vec::new();
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets();
        frame(SEEN, &[&[7; 8], &mapped], &mut inbox);
        let seen = Word::Seen([7; 8], Ipv4Addr::new(192, 0, 2, 1).into());
        assert_eq!(first(&inbox), Ok(Some((seen, 28))));
        assert_eq!(first(&[SEEN, 0, 0, 1, 7]), Err(Broken));
    }

    #[test]
    fn what_is_unknown_is_skipped_and_what_is_wrong_ends_the_stream() {
        assert_eq!(first(&[0x7f, 0, 0, 1, 9]), Ok(Some((Word::Unknown, 5))));
        assert_eq!(first(&[RECEIVE, 1, 0, 1]), Err(Broken));
        assert_eq!(first(&[RECEIVE, 0, 0, 3, 1, 2, 3]), Err(Broken));
        assert_eq!(first(&[GOAWAY, 0, 0, 2, 1, 2]), Err(Broken));
    }

    proptest! {
        #[test]
        fn no_bytes_do_more_than_break_the_stream(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some((_, end))) = first(&bytes) {
                prop_assert!(end <= bytes.len());
            }
        }
    }
}
