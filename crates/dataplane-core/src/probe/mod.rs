//! Probes and signals between Shore nodes (docs/protocol/probe.md): keys, envelopes, contents, and with
//! whom we share keys. When and where they are sent is the business of `path` and `peer`.

mod acquaintance;
mod envelope;
mod keys;
pub mod message;

pub use acquaintance::{Acquaintance, Heard, Mark};
pub use envelope::{ENVELOPE, GREETING_LEN, HELLO, SEALED, WELCOME, receiver_of, tag_of};
pub use keys::{Epoch, HelloKey, Secrets, Tag};
