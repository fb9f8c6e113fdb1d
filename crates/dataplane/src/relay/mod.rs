//! Streams to relays (docs/protocol/relay.md): TLS, the upgrade, frames. IO of `shore_dataplane_core::relay`.

pub mod link;
pub mod trust;
