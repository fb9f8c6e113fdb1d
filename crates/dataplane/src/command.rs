//! What the control thread asks of the data thread, and what it hears back.
//!
//! Two queues, each with an eventfd. The data thread never waits: commands are few, and reports go
//! into an unbounded queue that the control thread always drains, whether or not a brain is there.

use std::collections::BTreeMap;
use std::io::Result;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use serde::Serialize;
use shore_dataplane_core::desired::{DesiredState, Measurement, SocketId};
use shore_dataplane_core::facts::{DropReason, Fact, PeerCounters};

use crate::relay::link::LinkCounters;
use crate::sys::Waker;

pub enum Command {
    /// Take this desired state; descriptors come first or replace the ones with their names.
    Apply {
        serial: u64,
        seen: u64,
        desired: Box<DesiredState>,
        descriptors: Descriptors,
    },
    Question {
        id: u64,
        counters: Counters,
    },
    /// Ask a peer about a size; the answer is a fact.
    Measure(Vec<Measurement>),
    /// Tell what is in force, with duplicates of all descriptors, for a new brain.
    Describe,
    Stop,
}

/// Whose counters an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counters {
    Nobodys,
    /// Of peers that are not as they were told last, apart from ages.
    Changed,
    All,
}

#[derive(Default)]
pub struct Descriptors {
    pub tun: Option<OwnedFd>,
    pub sockets: Vec<(SocketId, OwnedFd)>,
    /// Connected TCP sockets; a plane cannot give back what has become a stream.
    pub links: Vec<(SocketId, OwnedFd)>,
    /// Packet sockets by their family; a new brain makes its own.
    pub ears: Vec<(SocketId, OwnedFd)>,
}

pub enum Report {
    Applied { serial: u64 },
    Refused { reason: String },
    Answer(Answer),
    Described(Description),
    Fact { serial: u64, at: f64, fact: Fact },
    Stopped,
}

pub struct Description {
    pub serial: u64,
    pub desired: Option<DesiredState>,
    pub descriptors: Descriptors,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    pub id: u64,
    /// Turns of the data loop; packets to and from the TUN.
    pub loops: u64,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub offload: Offload,
    pub peers: Vec<PeerCounters>,
    pub drops: BTreeMap<DropReason, u64>,
    pub links: Vec<LinkCounters>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Offload {
    pub tun: &'static str,
    pub udp_gso: BTreeMap<SocketId, bool>,
    pub udp_gro: BTreeMap<SocketId, bool>,
    pub realtime: bool,
}

pub struct Sending<T> {
    queue: Sender<T>,
    waker: Arc<Waker>,
}

impl<T> Sending<T> {
    pub fn send(&self, value: T) {
        if self.queue.send(value).is_ok() {
            self.waker.wake();
        }
    }
}

pub struct Receiving<T> {
    queue: Receiver<T>,
    waker: Arc<Waker>,
}

impl<T> Receiving<T> {
    /// Readable while something may wait.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.waker.fd()
    }

    /// All that waits. Clears the waker first, so nothing that comes meanwhile is missed.
    pub fn drain(&self) -> impl Iterator<Item = T> + '_ {
        self.waker.clear();
        self.queue.try_iter()
    }
}

pub fn channel<T>() -> Result<(Sending<T>, Receiving<T>)> {
    let (sender, receiver) = mpsc::channel();
    let waker = Arc::new(Waker::new()?);
    let sending = Sending {
        queue: sender,
        waker: waker.clone(),
    };
    let receiving = Receiving {
        queue: receiver,
        waker,
    };
    Ok((sending, receiving))
}
