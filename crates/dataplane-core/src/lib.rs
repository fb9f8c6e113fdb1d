//! The data plane without its plumbing: sessions, lanes, peers, paths, allowed IPs and offload
//! arithmetic. Input and `now` go in, packets and facts come out.
#![forbid(unsafe_code)]

pub mod desired;
pub mod engine;
pub mod facts;
pub mod plane;
pub mod time;
