//! Ears at the devices: packet sockets that show what a firewall of this host may drop.
//!
//! The brain opens one for each family and locks a filter onto each that lets sealed probe messages through and
//! nothing else; each packet begins with its IP header. Whether one was for a socket of ours is seen here by
//! its port, and by the device where sockets are bound to devices. What is heard is the plane's to judge.

use std::io::Result;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use shore_dataplane_core::desired::SocketId;
use shore_dataplane_core::plane::{Plane, Source};
use shore_dataplane_core::time::Moment;

use crate::sys::{self, Epoll, retried};
use crate::udp::Udp;

/// Those that there are, by their families.
#[derive(Default)]
pub struct Ears(Vec<(SocketId, Ear)>);

struct Ear(OwnedFd);

/// A UDP datagram inside an IP packet.
#[derive(Debug, PartialEq, Eq)]
struct Inside<'a> {
    remote: SocketAddr,
    port: u16,
    datagram: &'a [u8],
}

impl Ears {
    /// Those that come replace those of their family; all are closed where nothing is to be overheard.
    pub fn take(
        &mut self,
        fresh: Vec<(SocketId, OwnedFd)>,
        overhears: bool,
        epoll: &Epoll,
    ) -> Result<()> {
        let is_replaced = |family| fresh.iter().any(|(came, _)| *came == family);
        let over = |ear: &mut (SocketId, Ear)| !overhears || is_replaced(ear.0);
        for (_, ear) in self.0.extract_if(.., over) {
            epoll.forget(ear.0.as_fd());
        }
        for (family, fd) in fresh.into_iter().filter(|_| overhears) {
            sys::set_nonblocking(fd.as_fd())?;
            epoll.watch(fd.as_fd(), EARS + u64::from(family))?;
            self.0.push((family, Ear(fd)));
        }
        Ok(())
    }

    /// Whether one of them is ready.
    pub fn are_among(tokens: &[u64]) -> bool {
        tokens.iter().any(|token| *token >= EARS)
    }

    /// Tells the plane what came for one of the sockets.
    pub fn listen(&self, plane: &mut Plane, sockets: &[Udp], now: Moment) {
        let mut packet = [0; LONGEST];
        for (_, ear) in &self.0 {
            for _ in 0..MOST_AT_ONCE {
                let Ok((len, device)) = ear.receive(&mut packet) else {
                    break;
                };
                if let Some(inside) = udp_inside(&packet[..len])
                    && let Some(socket) = socket_for(sockets, &inside, device)
                {
                    let source = Source {
                        socket,
                        remote: inside.remote,
                    };
                    plane.overhear(source, inside.datagram, now);
                }
            }
        }
    }
}

impl Ear {
    /// The length of the packet, and the device it came by.
    fn receive(&self, packet: &mut [u8]) -> Result<(usize, u32)> {
        // SAFETY: all zeros is a valid sockaddr_ll.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut from_len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let fd = self.0.as_raw_fd();
        // SAFETY: the kernel writes at most the lengths told into places that outlive the call.
        let len = retried(|| unsafe {
            libc::recvfrom(
                fd,
                packet.as_mut_ptr().cast(),
                packet.len(),
                0,
                (&raw mut from).cast(),
                &raw mut from_len,
            )
        })?;
        Ok((len, from.sll_ifindex as u32))
    }
}

/// The socket bound to the device, or else one bound to none.
fn socket_for(sockets: &[Udp], inside: &Inside, device: u32) -> Option<SocketId> {
    let fits = |udp: &&Udp| udp.is_at(inside.port, inside.remote.is_ipv4());
    let at = |bound| {
        sockets
            .iter()
            .find(|udp| fits(udp) && udp.device() == bound)
    };
    at(device).or_else(|| at(0)).map(|udp| udp.id)
}

/// Neither fragments nor extension headers are looked into.
fn udp_inside(packet: &[u8]) -> Option<Inside<'_>> {
    let (from, udp): (IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 15) * 4;
            let whole = packet.get(6..8)?[0] & 0x3f == 0 && packet[7] == 0;
            if header < 20 || *packet.get(9)? != UDP || !whole {
                return None;
            }
            let from = <[u8; 4]>::try_from(packet.get(12..16)?).ok()?;
            (Ipv4Addr::from(from).into(), packet.get(header..)?)
        }
        6 if *packet.get(6)? == UDP => {
            let from = <[u8; 16]>::try_from(packet.get(8..24)?).ok()?;
            (Ipv6Addr::from(from).into(), packet.get(40..)?)
        }
        _ => return None,
    };
    let word = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
    Some(Inside {
        remote: SocketAddr::new(from, word(0)?),
        port: word(2)?,
        datagram: udp.get(8..usize::from(word(4)?))?,
    })
}

const UDP: u8 = 17;
/// Probes that search a path's MTU are longer, and of no interest here.
const LONGEST: usize = 512;
const MOST_AT_ONCE: usize = 16;
/// Their tokens in epoll begin beyond those of all sockets.
const EARS: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x46, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet.extend([192, 0, 2, 7, 10, 0, 0, 1, 1, 1, 1, 1]);
        packet.extend(40_000u16.to_be_bytes());
        packet.extend(51_820u16.to_be_bytes());
        packet.extend((8 + payload.len() as u16).to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        packet
    }

    #[test]
    fn a_datagram_is_found_behind_options_and_without_padding() {
        let mut packet = v4(UDP, 0x4000, b"probe");
        packet.extend([0; 9]);
        let inside = udp_inside(&packet).unwrap();
        assert_eq!(inside.remote, "192.0.2.7:40000".parse().unwrap());
        assert_eq!((inside.port, inside.datagram), (51_820, &b"probe"[..]));
    }

    #[test]
    fn one_of_ipv6_too() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 9, UDP, 64];
        packet.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend([0; 16]);
        packet.extend([0x9c, 0x40, 0xca, 0x6c, 0, 9, 0, 0, b'x']);
        let inside = udp_inside(&packet).unwrap();
        assert_eq!(inside.remote, "[2001:db8::7]:40000".parse().unwrap());
        assert_eq!((inside.port, inside.datagram), (51_820, &b"x"[..]));
    }

    #[test]
    fn fragments_and_other_protocols_are_passed_over() {
        assert_eq!(udp_inside(&v4(6, 0, b"probe")), None);
        assert_eq!(udp_inside(&v4(UDP, 0x2000, b"probe")), None);
        assert_eq!(udp_inside(&v4(UDP, 0x0003, b"probe")), None);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_fail(packet in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = udp_inside(&packet);
        }
    }
}
