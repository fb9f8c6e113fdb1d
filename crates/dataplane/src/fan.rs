//! Sockets of which one is to be answered (`spray` of the core): many, and for a few seconds.
//!
//! A turn asks every other socket whether something came, which 256 are too many for. So these wait in an
//! epoll of their own, which the thread's own epoll watches: one question for all. The one that is kept, as the
//! brain then names it for no fan any more, becomes a socket like any other.

use std::collections::HashSet;
use std::io::Result;
use std::time::Duration;

use shore_dataplane_core::desired::{DesiredState, SocketId};

use crate::sys::Epoll;
use crate::udp::Udp;

#[derive(Default)]
pub struct Fans {
    udp: Vec<Udp>,
    epoll: Option<Epoll>,
}

impl Fans {
    /// Those by which something came.
    pub fn ready(&mut self) -> impl Iterator<Item = &mut Udp> {
        let epoll = self.epoll.as_ref().filter(|_| !self.udp.is_empty());
        let tokens = epoll.map(|epoll| epoll.wait(Duration::ZERO));
        let tokens = tokens.unwrap_or_default();
        let came = move |udp: &&mut Udp| tokens.contains(&u64::from(udp.id));
        self.udp.iter_mut().filter(came)
    }

    pub fn find(&mut self, id: SocketId) -> Option<&mut Udp> {
        self.udp.iter_mut().find(|udp| udp.id == id)
    }

    pub fn holds(&self, id: SocketId) -> bool {
        self.udp.iter().any(|udp| udp.id == id)
    }

    /// Closes those that are not `kept`, and gives back those that are of no fan any more.
    pub fn settle(
        &mut self,
        kept: impl Fn(SocketId) -> bool,
        fanned: &HashSet<SocketId>,
    ) -> Vec<Udp> {
        let Some(epoll) = &self.epoll else {
            return Vec::new();
        };
        let leaving = self
            .udp
            .extract_if(.., |udp| !kept(udp.id) || !fanned.contains(&udp.id));
        leaving
            .inspect(|udp| epoll.forget(udp.fd()))
            .filter(|udp| kept(udp.id))
            .collect()
    }

    pub fn add(&mut self, udp: Udp, outer: &Epoll) -> Result<()> {
        let epoll = match &mut self.epoll {
            Some(epoll) => epoll,
            none => {
                let epoll = Epoll::new()?;
                outer.watch(epoll.fd(), FANS)?;
                none.insert(epoll)
            }
        };
        epoll.watch(udp.fd(), u64::from(udp.id))?;
        self.udp.push(udp);
        Ok(())
    }
}

/// All sockets that the desired state has for a fan.
pub fn fanned(desired: &DesiredState) -> HashSet<SocketId> {
    let fans = desired.peers.iter().filter_map(|peer| peer.fan.as_ref());
    fans.flat_map(|fan| fan.sockets.iter().copied()).collect()
}

/// A token that no socket has.
const FANS: u64 = u64::MAX;
