//! Frames on a stream: type u8, length u24 (big-endian), content (docs/protocol/relay.md).

pub const SEND: u8 = 0x02;
pub const PING: u8 = 0x03;
pub const PONG: u8 = 0x04;
pub const RECEIVE: u8 = 0x12;
pub const AWAY: u8 = 0x13;

pub const HEADER: usize = 4;
pub const MOST_CONTENT: usize = 65_536;
pub const MOST_DATAGRAM: usize = 65_507;
pub const TAG: usize = 8;

/// The first 8 bytes of a hash over a node key: how frames name a node.
pub type Tag = [u8; TAG];

/// Not ours to read: the stream must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

/// A frame inside of what came; `length` is with its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: u8,
    pub content: &'a [u8],
    pub length: usize,
}

/// The first frame of `bytes`; None while it is not whole.
pub fn first(bytes: &[u8]) -> Result<Option<Frame<'_>>, Broken> {
    let Some(header) = bytes.get(..HEADER) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
    if length > MOST_CONTENT {
        return Err(Broken(format!("a frame of {length} bytes")));
    }
    let end = HEADER + length;
    Ok(bytes.get(HEADER..end).map(|content| Frame {
        kind: header[0],
        content,
        length: end,
    }))
}

/// One frame of these parts; together they are at most `MOST_CONTENT`.
pub fn frame(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(length <= MOST_CONTENT);
    let mut whole = Vec::with_capacity(HEADER + length);
    let [_, a, b, c] = (length as u32).to_be_bytes();
    whole.extend_from_slice(&[kind, a, b, c]);
    for part in parts {
        whole.extend_from_slice(part);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_once_it_is_whole() {
        let whole = frame(SEND, &[b"12345678", b"datagram"]);
        for cut in 0..whole.len() {
            assert_eq!(first(&whole[..cut]), Ok(None));
        }
        let frame = Frame {
            kind: SEND,
            content: b"12345678datagram",
            length: whole.len(),
        };
        assert_eq!(first(&whole), Ok(Some(frame)));
    }

    #[test]
    fn a_frame_that_is_too_long_is_broken_by_its_header_alone() {
        assert_eq!(
            first(&[SEND, 1, 0, 1]),
            Err(Broken("a frame of 65537 bytes".into()))
        );
        assert_eq!(first(&[SEND, 1, 0, 0]), Ok(None));
    }
}
