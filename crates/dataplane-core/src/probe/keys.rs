//! The key schedule of probes and signals (docs/protocol/probe.md, "Key schedule").
//!
//! Static Diffie-Hellman and the preshared key give a *hello key*, which only greets. Each greeting adds an
//! ephemeral Diffie-Hellman and both ends' boot epochs, and gives a pair of *probe keys*, one a direction.
//! KDF and HASH are those of WireGuard, so that one paper describes both.

use blake2::{Blake2s256, Digest};
use boringtun::x25519::{PublicKey, StaticSecret};
use hmac::{Mac, SimpleHmac};

use crate::engine::Key;

pub type Epoch = [u8; 8];
pub type Tag = [u8; 8];

/// Key that only greets; one for each pair of nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HelloKey(pub(super) Key);

impl HelloKey {
    /// `shared` is DH(static, static). None for a key of low order.
    pub fn new(shared: &Key, preshared: Option<&Key>) -> Option<Self> {
        if *shared == [0; 32] {
            return None;
        }
        let start: Key = Blake2s256::digest(PROTOCOL).into();
        let [mixed] = kdf(&start, &[shared]);
        let [key] = kdf(&mixed, &[preshared.unwrap_or(&[0; 32])]);
        Some(Self(key))
    }

    /// How the hellos of `sender` are found.
    pub fn tag(&self, sender: &Key) -> Tag {
        let whole = mac(&self.0, &[b"tag", sender]);
        let mut tag = Tag::default();
        tag.copy_from_slice(&whole[..8]);
        tag
    }
}

/// One end's part in a greeting.
pub struct Share {
    pub secret: StaticSecret,
    pub public: Key,
    pub epoch: Epoch,
}

impl Share {
    pub fn new(secret: Key, epoch: Epoch) -> Self {
        let secret = StaticSecret::from(secret);
        let public = PublicKey::from(&secret).to_bytes();
        Self {
            secret,
            public,
            epoch,
        }
    }
}

/// Keys of one greeting, as one end uses them.
#[derive(Clone, PartialEq, Eq)]
pub struct ProbeKeys {
    pub sending: Key,
    pub receiving: Key,
}

impl ProbeKeys {
    /// `greeted`: ours was the hello. None for an ephemeral of low order.
    pub fn new(
        hello: &HelloKey,
        ours: &Share,
        their_public: &Key,
        their_epoch: &Epoch,
        greeted: bool,
    ) -> Option<Self> {
        let shared = ours.secret.diffie_hellman(&PublicKey::from(*their_public));
        if *shared.as_bytes() == [0; 32] {
            return None;
        }
        let [mixed] = kdf(&hello.0, &[shared.as_bytes()]);
        let (mine, theirs) = ((&ours.epoch, &ours.public), (their_epoch, their_public));
        let ((e1, k1), (e2, k2)) = if greeted {
            (mine, theirs)
        } else {
            (theirs, mine)
        };
        let [first, second] = kdf(&mixed, &[e1, e2, k1, k2]);
        Some(if greeted {
            Self {
                sending: first,
                receiving: second,
            }
        } else {
            Self {
                sending: second,
                receiving: first,
            }
        })
    }
}

/// Random bytes for ephemerals, nonces and epochs, drawn from a seed that only we know. Each draw
/// replaces the state, so what was drawn cannot be drawn again from a later state.
pub struct Secrets(Key);

impl Secrets {
    pub fn new(seed: Key) -> Self {
        Self(seed)
    }

    pub fn key(&mut self) -> Key {
        let [next, drawn] = kdf(&self.0, &[b"draw"]);
        self.0 = next;
        drawn
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.key()[..N]);
        bytes
    }
}

/// KDFn of the WireGuard paper, section 5.4.
fn kdf<const N: usize>(key: &Key, input: &[&[u8]]) -> [Key; N] {
    let secret = mac(key, input);
    let mut outputs = [[0; 32]; N];
    let mut previous: &[u8] = &[];
    let mut last;
    for (n, output) in outputs.iter_mut().enumerate() {
        last = mac(&secret, &[previous, &[n as u8 + 1]]);
        *output = last;
        previous = &last;
    }
    outputs
}

fn mac(key: &Key, input: &[&[u8]]) -> Key {
    let mut mac =
        SimpleHmac::<Blake2s256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in input {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

const PROTOCOL: &[u8] = b"shore probe v1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_derive_the_same_keys_and_no_others() {
        let hello = HelloKey::new(&[7; 32], None).unwrap();
        let (a, b) = (Share::new([1; 32], [1; 8]), Share::new([2; 32], [2; 8]));
        let ours = ProbeKeys::new(&hello, &a, &b.public, &b.epoch, true).unwrap();
        let theirs = ProbeKeys::new(&hello, &b, &a.public, &a.epoch, false).unwrap();
        assert!(ours.sending == theirs.receiving && ours.receiving == theirs.sending);
        assert!(ours.sending != ours.receiving);
        let restarted = Share::new([2; 32], [3; 8]);
        let other = ProbeKeys::new(&hello, &a, &restarted.public, &restarted.epoch, true).unwrap();
        assert!(other.sending != ours.sending);
    }

    #[test]
    fn a_preshared_key_and_the_sender_change_what_a_hello_looks_like() {
        let plain = HelloKey::new(&[7; 32], None).unwrap();
        let shared = HelloKey::new(&[7; 32], Some(&[9; 32])).unwrap();
        assert_ne!(plain.tag(&[1; 32]), shared.tag(&[1; 32]));
        assert_ne!(plain.tag(&[1; 32]), plain.tag(&[2; 32]));
    }

    #[test]
    fn keys_of_low_order_greet_nobody() {
        assert!(HelloKey::new(&[0; 32], None).is_none());
        let hello = HelloKey::new(&[7; 32], None).unwrap();
        let share = Share::new([1; 32], [1; 8]);
        assert!(ProbeKeys::new(&hello, &share, &[0; 32], &[2; 8], true).is_none());
    }

    #[test]
    fn nothing_is_drawn_twice() {
        let mut secrets = Secrets::new([5; 32]);
        let drawn: std::collections::BTreeSet<_> = (0..1000).map(|_| secrets.key()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
