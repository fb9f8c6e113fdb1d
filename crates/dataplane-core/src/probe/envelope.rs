//! Hello, welcome and sealed message: bytes to fields and back (docs/protocol/probe.md, "Envelopes").
//!
//! Offsets are those of the page. Nothing here remembers anything.

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};

use super::keys::{Epoch, HelloKey, Share, Tag};
use crate::engine::Key;

pub const HELLO: u8 = 0x81;
pub const WELCOME: u8 = 0x82;
pub const SEALED: u8 = 0x83;
pub const GREETING_LEN: usize = 100;
/// Header and tag around a content.
pub const ENVELOPE: usize = 32;
pub type Greeting = [u8; GREETING_LEN];

/// What a hello or a welcome says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    pub ephemeral: Key,
    pub epoch: Epoch,
    /// What the sender of it wants to see as receiver.
    pub index: u32,
}

/// The pair tag of a hello of the right version.
pub fn tag_of(hello: &[u8]) -> Option<Tag> {
    (hello.len() == GREETING_LEN && hello[..4] == [HELLO, VERSION, 0, 0]).then(|| field(hello, 4))
}

/// The receiver of a welcome or a sealed message.
pub fn receiver_of(message: &[u8]) -> Option<u32> {
    let long_enough = match *message.first()? {
        WELCOME => message.len() == GREETING_LEN && message[1..4] == [VERSION, 0, 0],
        SEALED => message.len() >= ENVELOPE && message[1..4] == [0, 0, 0],
        _ => false,
    };
    long_enough.then(|| u32::from_le_bytes(field(message, 4)))
}

pub fn hello(key: &HelloKey, tag: Tag, nonce: [u8; 24], share: &Share, index: u32) -> Greeting {
    let mut message = [0; GREETING_LEN];
    message[..4].copy_from_slice(&[HELLO, VERSION, 0, 0]);
    message[4..12].copy_from_slice(&tag);
    introduce(&mut message, key, nonce, share, index, &[]);
    message
}

pub fn open_hello(key: &HelloKey, hello: &[u8]) -> Option<Introduction> {
    read(key, hello, &[])
}

/// The answer to a hello that said `theirs`.
pub fn welcome(
    key: &HelloKey,
    nonce: [u8; 24],
    share: &Share,
    index: u32,
    theirs: &Introduction,
) -> Greeting {
    let mut message = [0; GREETING_LEN];
    message[..4].copy_from_slice(&[WELCOME, VERSION, 0, 0]);
    message[4..8].copy_from_slice(&theirs.index.to_le_bytes());
    let bound = bind(&theirs.ephemeral, &theirs.epoch);
    introduce(&mut message, key, nonce, share, index, &bound);
    message
}

/// Opens a welcome to the hello that carried `share`.
pub fn open_welcome(key: &HelloKey, welcome: &[u8], share: &Share) -> Option<Introduction> {
    read(key, welcome, &bind(&share.public, &share.epoch))
}

/// Seals `content` for `receiver`.
pub fn seal(key: &Key, receiver: u32, counter: u64, content: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 16];
    message[0] = SEALED;
    message[4..8].copy_from_slice(&receiver.to_le_bytes());
    message[8..16].copy_from_slice(&counter.to_le_bytes());
    message.extend_from_slice(content);
    let (header, body) = message.split_at_mut(16);
    let tag = ChaCha20Poly1305::new(key.into())
        .encrypt_in_place_detached(&nonce(counter).into(), header, body)
        .expect("a content is short");
    message.extend_from_slice(&tag);
    message
}

/// The counter and content of a sealed message, whose form `receiver_of` has checked.
pub fn open(key: &Key, message: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (sealed, tag) = message.split_at_checked(message.len().checked_sub(16)?)?;
    let (header, body) = sealed.split_at_checked(16)?;
    let counter = u64::from_le_bytes(field(header, 8));
    let mut content = body.to_vec();
    ChaCha20Poly1305::new(key.into())
        .decrypt_in_place_detached(&nonce(counter).into(), header, &mut content, tag.into())
        .ok()?;
    Some((counter, content))
}

fn introduce(
    message: &mut Greeting,
    key: &HelloKey,
    nonce: [u8; 24],
    share: &Share,
    index: u32,
    bound: &[u8],
) {
    message[12..36].copy_from_slice(&nonce);
    message[36..68].copy_from_slice(&share.public);
    message[68..76].copy_from_slice(&share.epoch);
    message[76..80].copy_from_slice(&index.to_le_bytes());
    let (header, body) = message.split_at_mut(36);
    let additional = [&header[..12], bound].concat();
    let tag = XChaCha20Poly1305::new((&key.0).into())
        .encrypt_in_place_detached(&nonce.into(), &additional, &mut body[..48])
        .expect("48 bytes are short");
    body[48..].copy_from_slice(&tag);
}

fn read(key: &HelloKey, message: &[u8], bound: &[u8]) -> Option<Introduction> {
    let message: &Greeting = message.try_into().ok()?;
    let additional = [&message[..12], bound].concat();
    let mut body: [u8; 48] = field(message, 36);
    let nonce: [u8; 24] = field(message, 12);
    let tag: [u8; 16] = field(message, 84);
    XChaCha20Poly1305::new((&key.0).into())
        .decrypt_in_place_detached(&nonce.into(), &additional, &mut body, &tag.into())
        .ok()?;
    Some(Introduction {
        ephemeral: field(&body, 0),
        epoch: field(&body, 32),
        index: u32::from_le_bytes(field(&body, 40)),
    })
}

fn bind(ephemeral: &Key, epoch: &Epoch) -> [u8; 40] {
    let mut bound = [0; 40];
    bound[..32].copy_from_slice(ephemeral);
    bound[32..].copy_from_slice(epoch);
    bound
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// `N` bytes at `at`, which the caller knows to be there.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> HelloKey {
        HelloKey::new(&[7; 32], None).unwrap()
    }

    #[test]
    fn a_welcome_answers_one_hello_only() {
        let (a, b) = (Share::new([1; 32], [1; 8]), Share::new([2; 32], [2; 8]));
        let greeting = hello(&key(), [9; 8], [3; 24], &a, 11);
        assert_eq!(tag_of(&greeting), Some([9; 8]));
        let said = open_hello(&key(), &greeting).unwrap();
        assert_eq!(
            (said.ephemeral, said.epoch, said.index),
            (a.public, [1; 8], 11)
        );
        let answer = welcome(&key(), [4; 24], &b, 22, &said);
        assert_eq!(receiver_of(&answer), Some(11));
        let heard = open_welcome(&key(), &answer, &a).unwrap();
        assert_eq!((heard.ephemeral, heard.index), (b.public, 22));
        let another = Share::new([5; 32], [1; 8]);
        assert_eq!(open_welcome(&key(), &answer, &another), None);
    }

    #[test]
    fn each_byte_of_a_message_is_authentic() {
        let whole = seal(&[1; 32], 77, 5, b"content");
        assert_eq!(open(&[1; 32], &whole), Some((5, b"content".to_vec())));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(open(&[1; 32], &changed), None, "byte {at}");
        }
    }

    #[test]
    fn short_messages_have_no_receiver() {
        for len in 0..ENVELOPE {
            assert_eq!(receiver_of(&vec![SEALED; len]), None);
            assert_eq!(open(&[1; 32], &vec![0; len]), None);
        }
    }
}
