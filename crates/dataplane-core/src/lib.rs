//! The data plane without its plumbing: sessions, lanes, peers, paths, allowed IPs and offload
//! arithmetic. Input and `now` go in, packets and facts come out.
#![forbid(unsafe_code)]

pub mod allowed_ips;
mod apply;
mod arrivals;
mod attempt;
mod chance;
mod commons;
mod counters;
pub mod desired;
pub mod engine;
pub mod facts;
pub mod filter;
pub mod fit;
mod flows;
mod greetings;
mod lane;
mod limiter;
mod liveness;
pub mod offload;
mod outputs;
mod overheard;
pub mod path;
mod peer;
pub mod plane;
mod priming;
pub mod probe;
mod probing;
pub mod relay;
mod reports;
mod sealer;
mod second;
mod sizing;
mod stage;
mod stun;
pub mod time;
mod trials;
