//! The TUN device: whole packets, super-packets where it takes them.
//!
//! The brain opened the device and chose its offloads (TUNSETOFFLOAD); which ones cannot be asked, so
//! what is written joined and refused turns joining off, one transport at a time.

use std::io::{IoSlice, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use shore_dataplane_core::offload::coalesce::{Accepts, Place};
use shore_dataplane_core::offload::{GSO_ECN, GSO_NONE, GSO_UDP_L4, VnetHeader};

use crate::sys;

pub struct Tun {
    fd: OwnedFd,
    has_header: bool,
    accepts: Accepts,
}

impl Tun {
    pub fn new(fd: OwnedFd, offload: bool) -> Result<Self> {
        sys::set_nonblocking(fd.as_fd())?;
        let has_header = has_vnet_header(fd.as_fd());
        let joins = has_header && offload;
        Ok(Self {
            fd,
            has_header,
            accepts: Accepts {
                tcp: joins,
                udp: joins,
            },
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn accepts(&self) -> Accepts {
        self.accepts
    }

    /// `none`, `tso` or `uso`.
    pub fn mode(&self) -> &'static str {
        match self.accepts {
            Accepts { udp: true, .. } => "uso",
            Accepts { tcp: true, .. } => "tso",
            _ if self.has_header => "csum",
            _ => "none",
        }
    }

    /// One packet into `buffer` from `HEADROOM` on. Returns its header and length.
    pub fn read(&self, buffer: &mut [u8]) -> Result<(VnetHeader, usize)> {
        if !self.has_header {
            let len = sys::read(self.fd(), &mut buffer[HEADROOM..])?;
            return Ok((VnetHeader::default(), len));
        }
        let start = HEADROOM - VnetHeader::LEN;
        let len = sys::read(self.fd(), &mut buffer[start..])?;
        let header = buffer[start..].first_chunk().map(VnetHeader::read);
        Ok((
            header.unwrap_or_default(),
            len.saturating_sub(VnetHeader::LEN),
        ))
    }

    pub fn write(&mut self, arena: &[u8], header: VnetHeader, places: &[Place]) -> Result<()> {
        let bytes = header.bytes();
        let mut slices = [IoSlice::new(&[]); 66];
        slices[0] = IoSlice::new(&bytes);
        let count = places.len().min(slices.len() - 1);
        for (slice, (at, len)) in slices[1..].iter_mut().zip(places) {
            *slice = IoSlice::new(&arena[*at..*at + *len]);
        }
        let first = usize::from(!self.has_header);
        let result = sys::writev(self.fd(), &slices[first..=count]);
        if let Err(error) = &result
            && error.raw_os_error() == Some(libc::EINVAL)
        {
            self.refused(header);
        }
        result.map(drop)
    }

    fn refused(&mut self, header: VnetHeader) {
        match header.gso_type & !GSO_ECN {
            GSO_NONE => {}
            GSO_UDP_L4 => self.accepts.udp = false,
            _ => self.accepts.tcp = false,
        }
    }
}

fn has_vnet_header(fd: BorrowedFd) -> bool {
    let mut request = [0u8; 40];
    // SAFETY: TUNGETIFF writes one ifreq, which is 40 bytes long.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETIFF, request.as_mut_ptr()) };
    let flags = i16::from_ne_bytes([request[16], request[17]]);
    result == 0 && flags & IFF_VNET_HDR != 0
}

/// Where packets start in a read buffer: with the buffer aligned to 64, IP headers are too.
pub const HEADROOM: usize = 64;
const TUNGETIFF: libc::Ioctl = 0x8004_54d2_u32 as libc::Ioctl;
const IFF_VNET_HDR: i16 = 0x4000;
