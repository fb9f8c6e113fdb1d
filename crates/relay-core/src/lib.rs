//! What a relay does to bytes, without sockets, clock or Python: TLS, frames, queues, forwarding.
//!
//! * [`tls`]: the server's side of one TLS connection: ciphertext in, plaintext out, and the other way round.
//! * [`frames`]: docs/protocol/relay.md, "The stream".
//! * [`stream`]: one node's stream and its queues.
//! * [`rates`]: how much each node may send.
//! * [`streams`]: all of them: who has which tag, and what goes where.
//!
//! Everything takes what came in and `now` (seconds of any clock that never falls) and gives what is to go out. Who may have a stream is not
//! decided here: a stream forwards nothing before `admit`.

#![forbid(unsafe_code)]

pub mod frames;
pub mod rates;
pub mod stream;
pub mod streams;
pub mod tls;
