//! The packet mover: TUN, UDP, threads and the control socket. All IO and all unsafe.

pub mod address;
pub mod sys;
pub mod tun;
pub mod udp;
