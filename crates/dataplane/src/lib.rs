//! The packet mover: TUN, UDP, threads and the control socket. All IO and all unsafe.

pub mod address;
pub mod command;
pub mod confine;
pub mod control;
pub mod data_thread;
mod ears;
mod egress;
mod frames;
pub mod host;
mod moderation;
mod outbound;
mod priority;
mod receive_queue;
pub mod relay;
mod sockets;
pub mod sys;
mod transfer;
pub mod tun;
pub mod udp;

pub use frames::{decode, encode};
