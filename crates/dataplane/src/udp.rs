//! A UDP socket with segmentation offload both ways, and sticky source addresses.
//!
//! *GSO*: one `sendmsg` carries up to 64 datagrams of one size (UDP_SEGMENT). A device without
//! checksum offload answers EIO; then the socket sends one by one for the rest of its life. *GRO*: one
//! `recvmsg` brings up to 64 KiB of datagrams of one size. *Sticky source*: a peer is answered from the
//! address that it wrote to, as long as we have it; when the kernel refuses the address, it is
//! forgotten and the kernel chooses.

use std::collections::HashMap;
use std::io::{Error, Result};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use shore_dataplane_core::desired::SocketId;
use shore_dataplane_core::time::Moment;

use crate::address::{Local, RawAddress, in_addr, in6_addr, ip_of};
use crate::receive_queue::ReceiveQueue;
use crate::sys::{self, retried};

pub struct Udp {
    pub id: SocketId,
    fd: OwnedFd,
    port: u16,
    v4: bool,
    /// The device it is bound to, 0 for none.
    device: u32,
    gso: bool,
    gro: bool,
    queue: ReceiveQueue,
    /// Whether what is sent has DF now.
    whole: bool,
    /// Where each remote wrote to last.
    locals: HashMap<SocketAddr, Local>,
}

/// What one receive brought: `len` bytes of datagrams, all of `stride` bytes but the last.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    pub remote: SocketAddr,
    pub len: usize,
    pub stride: usize,
    pub truncated: bool,
    pub local: Option<Local>,
}

impl Udp {
    pub fn new(id: SocketId, fd: OwnedFd, offload: bool) -> Result<Self> {
        sys::set_nonblocking(fd.as_fd())?;
        let gro = offload && sys::set_option(fd.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        let own = UdpSocket::from(sys::duplicate(fd.as_fd())?).local_addr()?;
        Ok(Self {
            id,
            port: own.port(),
            v4: own.is_ipv4(),
            device: sys::option(fd.as_fd(), libc::SOL_SOCKET, SO_BINDTOIFINDEX).unwrap_or(0) as u32,
            fd,
            gso: offload,
            gro,
            queue: ReceiveQueue::default(),
            whole: false,
            locals: HashMap::new(),
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether it receives what comes to this port by this family.
    pub fn is_at(&self, port: u16, v4: bool) -> bool {
        self.port == port && self.v4 == v4
    }

    pub fn device(&self) -> u32 {
        self.device
    }

    pub fn gso(&self) -> bool {
        self.gso
    }

    pub fn gro(&self) -> bool {
        self.gro
    }

    /// Whether the receive queue stands so long that the next large datagram is to be dropped.
    pub fn sheds(&mut self, now: Moment) -> bool {
        self.queue.sheds(sys::receive_queue(self.fd.as_fd()), now)
    }

    /// The peer's authenticated datagrams come to `local`.
    pub fn stick(&mut self, remote: SocketAddr, local: Option<Local>) {
        let Some(local) = local else { return };
        if self.locals.get(&remote) != Some(&local) {
            if self.locals.len() >= MOST_LOCALS {
                self.locals.clear();
            }
            self.locals.insert(remote, local);
        }
    }

    pub fn receive(&self, buffer: &mut [u8]) -> Result<Arrived> {
        let mut name = RawAddress::empty();
        let mut control = Control::default();
        let mut iov = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: all zeros is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw mut name).cast();
        message.msg_namelen = size_of::<RawAddress>() as libc::socklen_t;
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>();
        let fd = self.fd.as_raw_fd();
        // SAFETY: `message` points to live places with the lengths it tells.
        let len = retried(|| unsafe { libc::recvmsg(fd, &raw mut message, 0) })?;
        let remote = name
            .read()
            .ok_or(Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        let mut arrived = Arrived {
            remote,
            len,
            stride: len,
            truncated: message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
            local: None,
        };
        // SAFETY: the kernel filled in `message`, whose control buffer is alive.
        unsafe { read_control(&message, &mut arrived) };
        Ok(arrived)
    }

    /// One datagram with DF, that is, to be refused rather than fragmented. Returns the errno.
    pub fn send_sized(&mut self, remote: SocketAddr, datagram: &[u8]) -> Option<i32> {
        self.forbid_fragments(remote, true);
        self.send_once(remote, datagram, datagram.len()).err()
    }

    /// One datagram that makes so many hops at most, and may arrive nowhere. Returns the errno.
    pub fn send_brief(&mut self, remote: SocketAddr, datagram: &[u8], hops: u8) -> Option<i32> {
        self.forbid_fragments(remote, false);
        let local = self.locals.get(&remote).copied();
        let sent = self.try_send(remote, datagram, datagram.len(), (local, Some(hops)));
        sent.err()
    }

    /// Sends datagrams of `stride` bytes (the last may be shorter) that fill `bytes`, with DF if they
    /// are to stay `whole`. Returns how many were refused, and the last errno.
    pub fn send(
        &mut self,
        remote: SocketAddr,
        bytes: &[u8],
        stride: usize,
        whole: bool,
    ) -> (u64, Option<i32>) {
        self.forbid_fragments(remote, whole);
        let (lost, errno) = self.send_all(remote, bytes, stride);
        if whole && errno == Some(libc::EMSGSIZE) {
            // The device carries less than was proved: better in fragments than not at all.
            self.forbid_fragments(remote, false);
            return self.send_all(remote, bytes, stride);
        }
        (lost, errno)
    }

    /// IP_PMTUDISC_PROBE sets DF and believes no ICMP; OMIT leaves DF out and believes none either.
    fn forbid_fragments(&mut self, remote: SocketAddr, whole: bool) {
        if self.whole == whole {
            return;
        }
        let (level, name) = if remote.is_ipv4() {
            (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
        };
        let value = if whole { PMTUDISC_PROBE } else { PMTUDISC_OMIT };
        if sys::set_option(self.fd.as_fd(), level, name, value).is_ok() {
            self.whole = whole;
        }
    }

    fn send_all(&mut self, remote: SocketAddr, bytes: &[u8], stride: usize) -> (u64, Option<i32>) {
        let count = bytes.len().div_ceil(stride.max(1)).max(1) as u64;
        if count > 1 && !self.gso {
            return self.send_singly(remote, bytes, stride);
        }
        match self.send_once(remote, bytes, stride) {
            Ok(()) => (0, None),
            Err(errno) if count > 1 && is_about_gso(errno) => {
                // An oversized segment is about this path; the others are about the device.
                self.gso = errno == libc::EMSGSIZE;
                self.send_singly(remote, bytes, stride)
            }
            Err(errno) => (count, Some(errno)),
        }
    }

    fn send_singly(
        &mut self,
        remote: SocketAddr,
        bytes: &[u8],
        stride: usize,
    ) -> (u64, Option<i32>) {
        let (mut lost, mut last) = (0, None);
        for datagram in bytes.chunks(stride) {
            if let Err(errno) = self.send_once(remote, datagram, datagram.len()) {
                (lost, last) = (lost + 1, Some(errno));
            }
        }
        (lost, last)
    }

    fn send_once(
        &mut self,
        remote: SocketAddr,
        bytes: &[u8],
        stride: usize,
    ) -> std::result::Result<(), i32> {
        let local = self.locals.get(&remote).copied();
        let result = self.try_send(remote, bytes, stride, (local, None));
        let Err(errno) = result else { return Ok(()) };
        if local.is_some() && is_about_source(errno) {
            self.locals.remove(&remote);
            return self.try_send(remote, bytes, stride, (None, None));
        }
        if is_from_icmp(errno) {
            return self.try_send(remote, bytes, stride, (local, None));
        }
        Err(errno)
    }

    fn try_send(
        &self,
        remote: SocketAddr,
        bytes: &[u8],
        stride: usize,
        (local, hops): (Option<Local>, Option<u8>),
    ) -> std::result::Result<(), i32> {
        let (name, name_len) = RawAddress::new(remote);
        let mut iov = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut control = Control::default();
        // SAFETY: all zeros is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw const name).cast_mut().cast();
        message.msg_namelen = name_len;
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        let mut used = 0;
        if bytes.len() > stride {
            used += control.put(used, libc::SOL_UDP, libc::UDP_SEGMENT, stride as u16);
        }
        used += match local.map(|local| (local.ip, local.interface)) {
            None => 0,
            Some((IpAddr::V4(ip), _)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: in_addr(ip),
                    ipi_addr: in_addr(ip),
                };
                control.put(used, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
            }
            Some((IpAddr::V6(ip), interface)) => {
                let link_local = ip.segments()[0] & 0xffc0 == 0xfe80;
                let info = libc::in6_pktinfo {
                    ipi6_addr: in6_addr(ip),
                    ipi6_ifindex: if link_local { interface } else { 0 },
                };
                control.put(used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
            }
        };
        if let Some(hops) = hops {
            let (level, kind) = if remote.is_ipv4() {
                (libc::IPPROTO_IP, libc::IP_TTL)
            } else {
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)
            };
            used += control.put(used, level, kind, libc::c_int::from(hops));
        }
        if used > 0 {
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = used;
        }
        let fd = self.fd.as_raw_fd();
        // SAFETY: `message` points to live places with the lengths it tells; the kernel only reads.
        let sent = retried(|| unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) });
        sent.map(drop)
            .map_err(|error| error.raw_os_error().unwrap_or(0))
    }
}

/// Room for control messages, aligned as they want it.
#[derive(Default)]
struct Control([u64; 16]);

impl Control {
    /// Appends a control message at `used` bytes. Returns its length.
    fn put<T>(&mut self, used: usize, level: i32, kind: i32, value: T) -> usize {
        // SAFETY: CMSG_SPACE computes from an integer.
        let space = unsafe { libc::CMSG_SPACE(size_of::<T>() as u32) } as usize;
        assert!(used + space <= size_of::<Self>());
        // SAFETY: `used` is a multiple of the alignment and the message fits, as asserted.
        unsafe {
            let header = self.0.as_mut_ptr().byte_add(used).cast::<libc::cmsghdr>();
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as usize;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        space
    }
}

/// # Safety
/// `message` was filled in by `recvmsg`, and its control buffer is alive.
unsafe fn read_control(message: &libc::msghdr, arrived: &mut Arrived) {
    // SAFETY: the kernel wrote well-formed control messages of these types and lengths.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(control) = header.as_ref() {
            let data = libc::CMSG_DATA(header);
            match (control.cmsg_level, control.cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let stride = data.cast::<i32>().read_unaligned();
                    arrived.stride = usize::try_from(stride).unwrap_or(0).max(1);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    arrived.local = Some(Local {
                        ip: ip_of(info.ipi_spec_dst).into(),
                        interface: info.ipi_ifindex as u32,
                    });
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    arrived.local = Some(Local {
                        ip: Ipv6Addr::from(info.ipi6_addr.s6_addr).into(),
                        interface: info.ipi6_ifindex,
                    });
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

fn is_about_gso(errno: i32) -> bool {
    matches!(errno, libc::EIO | libc::EINVAL | libc::EMSGSIZE)
}

fn is_about_source(errno: i32) -> bool {
    matches!(
        errno,
        libc::EINVAL | libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL | libc::ENODEV
    )
}

/// Errors that an earlier datagram's ICMP answer left at the socket; this one was not tried yet.
fn is_from_icmp(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EPROTO
            | libc::EMSGSIZE
    )
}

const PMTUDISC_PROBE: i32 = 3;
const PMTUDISC_OMIT: i32 = 5;
const MOST_LOCALS: usize = 4096;
const SO_BINDTOIFINDEX: i32 = 62;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn bound() -> (Udp, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (Udp::new(1, socket.into(), true).unwrap(), address)
    }

    fn received(socket: &Udp, buffer: &mut [u8]) -> Arrived {
        loop {
            match socket.receive(buffer) {
                Ok(arrived) => return arrived,
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EAGAIN)),
            }
        }
    }

    #[test]
    fn one_send_carries_datagrams_of_one_size_and_a_shorter_last_one() {
        let ((mut one, from), (two, to)) = (bound(), bound());
        let bytes: Vec<u8> = (0..2500u32).map(|n| n as u8).collect();
        assert_eq!(one.send(to, &bytes, 1000, false), (0, None));
        let mut buffer = vec![0; 65536];
        let mut whole = Vec::new();
        while whole.len() < bytes.len() {
            let arrived = received(&two, &mut buffer);
            assert_eq!(arrived.remote, from);
            assert!(arrived.stride <= 1000 && !arrived.truncated);
            whole.extend_from_slice(&buffer[..arrived.len]);
        }
        assert_eq!(whole, bytes);
    }

    #[test]
    fn the_smallest_and_the_largest_datagram_arrive() {
        let ((mut one, _), (two, to)) = (bound(), bound());
        let mut buffer = vec![0; 65536];
        for len in [0, 1, 65_507] {
            assert_eq!(one.send(to, &vec![7; len], len, false), (0, None));
            assert_eq!(received(&two, &mut buffer).len, len);
        }
    }

    #[test]
    fn a_datagram_longer_than_the_buffer_is_told_truncated() {
        let ((mut one, _), (two, to)) = (bound(), bound());
        one.send(to, &[7; 3000], 3000, false);
        let arrived = received(&two, &mut [0; 1000]);
        assert!(arrived.truncated);
        assert_eq!(arrived.len, 1000);
    }

    /// With how many hops left the next datagram came.
    fn hops(socket: &Udp) -> libc::c_int {
        let mut control = Control::default();
        // SAFETY: all zeros is a valid msghdr; it gets a live control buffer, and room for no byte.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = size_of::<Control>();
            assert_eq!(libc::recvmsg(socket.fd.as_raw_fd(), &raw mut message, 0), 0);
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            assert_eq!((*header).cmsg_type, libc::IP_TTL);
            libc::CMSG_DATA(header)
                .cast::<libc::c_int>()
                .read_unaligned()
        }
    }

    #[test]
    fn a_brief_datagram_has_so_many_hops_and_the_next_one_has_all() {
        let ((mut one, _), (two, to)) = (bound(), bound());
        sys::set_option(two.fd(), libc::IPPROTO_IP, libc::IP_RECVTTL, 1).unwrap();
        assert_eq!(one.send_brief(to, b"", 3), None);
        assert_eq!(one.send(to, b"", 0, false), (0, None));
        assert_eq!(hops(&two), 3);
        assert!(hops(&two) > 3);
    }

    #[test]
    fn a_source_address_that_we_lost_is_forgotten() {
        let ((mut one, _), (two, to)) = (bound(), bound());
        let gone = Local {
            ip: "192.0.2.77".parse().unwrap(),
            interface: 1,
        };
        one.stick(to, Some(gone));
        assert_eq!(one.send(to, b"still here", 10, false), (0, None));
        assert_eq!(received(&two, &mut [0; 100]).len, 10);
        assert!(one.locals.is_empty());
    }
}
