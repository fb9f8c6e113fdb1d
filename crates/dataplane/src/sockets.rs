//! Everything that datagrams leave by: UDP sockets, and links and bindings to relays under ids of the same kind.

use std::collections::HashSet;
use std::io::Result;
use std::net::SocketAddr;

use shore_dataplane_core::desired::{self, DesiredState, SocketId};
use shore_dataplane_core::facts::Fact;
use shore_dataplane_core::plane::{Destination, Plane};
use shore_dataplane_core::relay::{Tag, tag_at};
use shore_dataplane_core::time::Moment;

use crate::command::Descriptors;
use crate::fan::Fans;
use crate::relay::bound::Bound;
use crate::relay::link::{Link, LinkCounters};
use crate::sys::Epoll;
use crate::udp::Udp;

#[derive(Default)]
pub struct Sockets {
    pub udp: Vec<Udp>,
    pub links: Vec<Link>,
    pub fans: Fans,
    pub bound: Vec<Bound>,
}

impl Sockets {
    /// Whether everything that is desired is here, or comes now.
    pub fn check(
        &self,
        desired: &DesiredState,
        come: &Descriptors,
    ) -> std::result::Result<(), String> {
        let comes_not = |id| !come.sockets.iter().any(|(came, _)| *came == id);
        let mut wanted = desired.sockets.iter().map(|socket| socket.id);
        if let Some(id) = wanted.find(|id| comes_not(*id) && !self.is_open(*id)) {
            return Err(format!("socket {id} came without a descriptor"));
        }
        let comes_not = |id| !come.links.iter().any(|(came, _)| *came == id);
        let mut wanted = desired.links.iter().map(|link| link.id);
        if let Some(id) =
            wanted.find(|id| comes_not(*id) && self.links.iter().all(|held| held.id != *id))
        {
            return Err(format!("link {id} came without a descriptor"));
        }
        Ok(())
    }

    fn is_open(&self, id: SocketId) -> bool {
        self.fans.holds(id) || self.udp.iter().any(|udp| udp.id == id)
    }

    /// What comes again replaces the one of its id; what is not wanted is closed.
    pub fn take(
        &mut self,
        mut fresh: Sockets,
        (wanted, fanned): (&[SocketId], &HashSet<SocketId>),
        epoll: &Epoll,
    ) -> Result<()> {
        let replaced: Vec<_> = fresh.ids().collect();
        let is_kept = |id| wanted.contains(&id) && !replaced.contains(&id);
        for udp in self.udp.extract_if(.., |udp| !is_kept(udp.id)) {
            epoll.forget(udp.fd());
        }
        for link in self.links.extract_if(.., |link| !is_kept(link.id)) {
            epoll.forget(link.fd());
        }
        fresh.udp.extend(self.fans.settle(is_kept, fanned));
        for udp in fresh.udp.into_iter().filter(|udp| wanted.contains(&udp.id)) {
            if fanned.contains(&udp.id) {
                self.fans.add(udp, epoll)?;
                continue;
            }
            epoll.watch(udp.fd(), SOCKETS + u64::from(udp.id))?;
            self.udp.push(udp);
        }
        for link in fresh.links {
            epoll.watch(link.fd(), SOCKETS + u64::from(link.id))?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Lets links write what a turn gave them, and takes note of how they are.
    pub fn settle_links(&mut self, plane: &mut Plane, epoll: &Epoll, now: Moment) {
        for link in &mut self.links {
            link.flush(now);
            let mut ended = false;
            for fact in link.facts() {
                ended |= matches!(fact, Fact::LinkDown { .. });
                plane.told_by_link(fact, now);
            }
            if ended {
                epoll.forget(link.fd());
            } else if !link.is_down() {
                let (token, writing) = (SOCKETS + u64::from(link.id), link.wants_to_write());
                let _ = epoll.watch_writing(link.fd(), token, writing);
            }
        }
    }

    pub fn ask_relays(&mut self, desired: &DesiredState) {
        for wish in &desired.links {
            let link = self.links.iter_mut().find(|link| link.id == wish.id);
            link.into_iter().for_each(|link| link.ask(&wish.asks));
        }
    }

    /// The desired bindings of the node with this tag; those that are there stay as they are.
    pub fn bind(&mut self, desired: &[desired::Binding], tag: Option<Tag>, now: Moment) {
        self.bound
            .retain(|bound| desired.iter().any(|wish| wish.id == bound.desired.id));
        for wish in desired {
            let known = self
                .bound
                .iter_mut()
                .find(|bound| bound.desired.id == wish.id);
            match (known, tag) {
                (Some(bound), _) => bound.change(wish.clone(), now),
                (None, Some(tag)) => self.bound.push(Bound::new(wish.clone(), tag, now)),
                (None, None) => {}
            }
        }
    }

    /// Keeps the bindings up, and tells which are.
    pub fn tend_bindings(&mut self, plane: &mut Plane, now: Moment) {
        for bound in &mut self.bound {
            let link = self.links.iter().find(|link| link.id == bound.desired.link);
            bound.take_ticket(link.and_then(|link| link.ticket), now);
            if let Some(fact) = bound.tend(&mut self.udp, now) {
                plane.note_fact(fact, now);
            }
        }
    }

    /// When a link or a binding has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        let links = self.links.iter().filter(|link| !link.is_down());
        let bound = self.bound.iter().filter_map(Bound::due);
        links.map(Link::deadline).chain(bound).min()
    }

    pub fn link_counters(&self, now: Moment) -> Vec<LinkCounters> {
        self.links.iter().map(|link| link.counters(now)).collect()
    }

    fn ids(&self) -> impl Iterator<Item = SocketId> {
        let sockets = self.udp.iter().map(|udp| udp.id);
        sockets.chain(self.links.iter().map(|link| link.id))
    }

    /// Datagrams of `stride` bytes that fill `bytes`, as `Udp::send` has it. A link takes all of them, or
    /// none while it is not up.
    pub fn send(
        &mut self,
        destination: Destination,
        bytes: &[u8],
        stride: usize,
        whole: bool,
    ) -> (u64, Option<i32>) {
        let Destination { socket, remote } = destination;
        if let Some(udp) = self.find(socket) {
            return udp.send(remote, bytes, stride, whole);
        }
        if let (Some(bound), Some(tag)) = (binding(&mut self.bound, socket), tag_at(remote)) {
            return bound.send(&mut self.udp, tag, bytes, stride);
        }
        let refused = bytes
            .chunks(stride.max(1))
            .filter(|datagram| !self.send_by_link(destination, datagram))
            .count();
        (refused as u64, (refused > 0).then_some(libc::ENOTCONN))
    }

    /// One datagram that is not to be fragmented. Returns the errno, if it was refused.
    pub fn send_sized(&mut self, destination: Destination, datagram: &[u8]) -> Option<i32> {
        let Destination { socket, remote } = destination;
        if let Some(udp) = self.find(socket) {
            return udp.send_sized(remote, datagram);
        }
        if let (Some(bound), Some(tag)) = (binding(&mut self.bound, socket), tag_at(remote)) {
            return bound.send(&mut self.udp, tag, datagram, datagram.len()).1;
        }
        let sent = self.send_by_link(destination, datagram);
        (!sent).then_some(libc::ENOTCONN)
    }

    /// One datagram that makes so many hops at most. Returns the errno, if it was refused.
    pub fn send_brief(
        &mut self,
        destination: Destination,
        datagram: &[u8],
        hops: u8,
    ) -> Option<i32> {
        let Destination { socket, remote } = destination;
        let udp = self.find(socket);
        udp.and_then(|udp| udp.send_brief(remote, datagram, hops))
    }

    fn find(&mut self, id: SocketId) -> Option<&mut Udp> {
        let udp = self.udp.iter_mut().find(|udp| udp.id == id);
        udp.or_else(|| self.fans.find(id))
    }

    fn send_by_link(&mut self, destination: Destination, datagram: &[u8]) -> bool {
        let remote: SocketAddr = destination.remote;
        let link = self
            .links
            .iter_mut()
            .find(|link| link.id == destination.socket);
        link.is_some_and(|link| link.send(remote, datagram))
    }
}

/// Errors that no other destination would cure.
pub fn is_about_the_socket(errno: i32) -> bool {
    matches!(
        errno,
        libc::EBADF
            | libc::ENOTSOCK
            | libc::EPERM
            | libc::EACCES
            | libc::ENODEV
            | libc::ENETDOWN
            | libc::EPIPE
    )
}

fn binding(bound: &mut [Bound], id: SocketId) -> Option<&mut Bound> {
    bound.iter_mut().find(|bound| bound.desired.id == id)
}

/// Of their tokens in epoll the first.
const SOCKETS: u64 = 2;
