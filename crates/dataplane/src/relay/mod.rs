//! Relays (docs/protocol/relay.md): streams with TLS, upgrade and frames, and the UDP side. IO of `shore_dataplane_core::relay`.

pub mod bound;
pub mod link;
mod raw;
pub mod trust;
