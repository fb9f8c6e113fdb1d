//! Frames and their descriptors on the control socket (docs/protocol/dataplane.md, "Framing").
//!
//! A frame is a big-endian `u32` length and one MessagePack map. Its descriptors travel with its first
//! byte, so a reader that has a whole frame has its descriptors too.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::retried;

/// One end of a control connection.
pub struct Connection {
    fd: OwnedFd,
    inbox: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    outbox: VecDeque<Frame>,
    waiting: usize,
}

struct Frame {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<OwnedFd>,
}

impl Connection {
    pub fn new(fd: OwnedFd) -> Result<Self> {
        crate::sys::set_nonblocking(fd.as_fd())?;
        Ok(Self {
            fd,
            inbox: Vec::new(),
            descriptors: VecDeque::new(),
            outbox: VecDeque::new(),
            waiting: 0,
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads what is there. An error, or the end of the stream, ends the connection.
    pub fn fill(&mut self) -> Result<()> {
        let mut buffer = [0; 65_536];
        loop {
            match receive(self.fd.as_fd(), &mut buffer, &mut self.descriptors) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.inbox.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.inbox.len() > MOST_BODY + HEAD {
                return Ok(());
            }
        }
    }

    /// The next whole body. An error ends the connection.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(head) = self.inbox.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(*head) as usize;
        if len > MOST_BODY {
            return Err(Error::other("a frame is too long"));
        }
        if self.inbox.len() < HEAD + len {
            return Ok(None);
        }
        let rest = self.inbox.split_off(HEAD + len);
        let body = std::mem::replace(&mut self.inbox, rest);
        Ok(Some(body[HEAD..].to_vec()))
    }

    /// The oldest descriptors that came.
    pub fn take(&mut self, count: usize) -> Vec<OwnedFd> {
        let count = count.min(self.descriptors.len());
        self.descriptors.drain(..count).collect()
    }

    /// Queues a message and sends what it can. A reader that lets 4 MiB pile up is gone.
    pub fn send(&mut self, message: &impl Serialize, descriptors: Vec<OwnedFd>) -> Result<()> {
        let body = encode(message);
        let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&body);
        self.waiting += bytes.len();
        if self.waiting > MOST_BODY {
            return Err(Error::other("the reader is too slow"));
        }
        self.outbox.push_back(Frame {
            bytes,
            sent: 0,
            descriptors,
        });
        self.flush()
    }

    pub fn flush(&mut self) -> Result<()> {
        while let Some(frame) = self.outbox.front_mut() {
            match send(
                self.fd.as_fd(),
                &frame.bytes[frame.sent..],
                &frame.descriptors,
            ) {
                Ok(len) => {
                    frame.descriptors.clear();
                    frame.sent += len;
                    self.waiting -= len;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if frame.sent == frame.bytes.len() {
                self.outbox.pop_front();
            }
        }
        Ok(())
    }

    pub fn wants_to_write(&self) -> bool {
        !self.outbox.is_empty()
    }
}

pub fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut bytes)
        .with_struct_map()
        .with_human_readable();
    message
        .serialize(&mut serializer)
        .expect("our messages are maps of plain values");
    bytes
}

pub fn decode<T: DeserializeOwned>(body: &[u8]) -> std::result::Result<T, String> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body).with_human_readable();
    T::deserialize(&mut deserializer).map_err(|error| error.to_string())
}

/// User id of the process at the other end.
pub fn peer_user(fd: BorrowedFd) -> Result<u32> {
    let mut credentials = MaybeUninit::<libc::ucred>::uninit();
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let fd = fd.as_raw_fd();
    let place = credentials.as_mut_ptr().cast();
    // SAFETY: `credentials` has room for what SO_PEERCRED writes.
    retried(|| unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, place, &mut len) as isize
    })?;
    // SAFETY: the call succeeded, so it is filled in.
    Ok(unsafe { credentials.assume_init() }.uid)
}

pub fn accept(listener: BorrowedFd) -> Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let listener = listener.as_raw_fd();
    let null = std::ptr::null_mut();
    // SAFETY: no address is asked for; a fresh descriptor is owned by nobody else.
    let fd = retried(|| unsafe { libc::accept4(listener, null, null.cast(), flags) } as isize)?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn send(fd: BorrowedFd, bytes: &[u8], descriptors: &[OwnedFd]) -> Result<usize> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all zeros is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let len = size_of_val(raw.as_slice()) as u32;
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: at most MOST_DESCRIPTORS descriptors, for which `control` has room.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(len) as usize;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(len) as usize;
            libc::CMSG_DATA(header)
                .cast::<RawFd>()
                .copy_from_nonoverlapping(raw.as_ptr(), raw.len());
        }
    }
    let fd = fd.as_raw_fd();
    // SAFETY: `message` points to live places with the lengths it tells.
    retried(|| unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) })
}

fn receive(
    fd: BorrowedFd,
    buffer: &mut [u8],
    descriptors: &mut VecDeque<OwnedFd>,
) -> Result<usize> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut iov = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all zeros is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    let fd = fd.as_raw_fd();
    // SAFETY: `message` points to live places with the lengths it tells.
    let len = retried(|| unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_CMSG_CLOEXEC) })?;
    // SAFETY: the kernel wrote well-formed control messages; each descriptor in them is new and ours.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while let Some(found) = header.as_ref() {
            if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let bytes = found.cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for n in 0..bytes / size_of::<RawFd>() {
                    descriptors.push_back(OwnedFd::from_raw_fd(data.add(n).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(Error::other("descriptors were cut off"));
    }
    Ok(len)
}

pub const MOST_DESCRIPTORS: usize = 64;
const HEAD: usize = 4;
const MOST_BODY: usize = 4 << 20;
const CONTROL_WORDS: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::net::UnixStream;

    fn pair() -> (Connection, Connection) {
        let (one, two) = UnixStream::pair().unwrap();
        (
            Connection::new(one.into()).unwrap(),
            Connection::new(two.into()).unwrap(),
        )
    }

    #[test]
    fn messages_arrive_whole_and_in_order_with_their_descriptors() {
        let (mut one, mut two) = pair();
        let descriptors = (0..MOST_DESCRIPTORS).map(|_| one.fd().try_clone_to_owned().unwrap());
        one.send(&"first", descriptors.collect()).unwrap();
        one.send(&"second", vec![]).unwrap();
        two.fill().unwrap();
        assert_eq!(
            decode::<String>(&two.next().unwrap().unwrap()),
            Ok("first".into())
        );
        assert_eq!(two.take(100).len(), MOST_DESCRIPTORS);
        assert_eq!(
            decode::<String>(&two.next().unwrap().unwrap()),
            Ok("second".into())
        );
        assert_eq!(two.next().unwrap(), None);
    }

    #[test]
    fn a_reader_that_does_not_read_is_given_up_and_never_waited_for() {
        let (mut one, _two) = pair();
        let megabyte = "x".repeat(1 << 20);
        let failed = (0..9).any(|_| one.send(&megabyte, vec![]).is_err());
        assert!(failed);
    }

    #[test]
    fn an_absurd_length_ends_the_connection() {
        let (one, mut two) = pair();
        super::send(one.fd(), &[0xff; 8], &[]).unwrap();
        two.fill().unwrap();
        assert!(two.next().is_err());
    }

    /// Bytes as a stream brings them, and what came out before the connection broke, if it did.
    fn heard(stream: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, bool) {
        let (one, mut two) = pair();
        let (mut rest, mut bodies) = (stream, Vec::new());
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let (part, later) = rest.split_at(cut.min(rest.len()));
            rest = later;
            if !part.is_empty() {
                super::send(one.fd(), part, &[]).unwrap();
            }
            two.fill().unwrap();
            loop {
                match two.next() {
                    Ok(Some(body)) => bodies.push(body),
                    Ok(None) => break,
                    Err(_) => return (bodies, true),
                }
            }
        }
        (bodies, false)
    }

    fn framed(bodies: &[Vec<u8>]) -> Vec<u8> {
        let frame = |body: &Vec<u8>| [&(body.len() as u32).to_be_bytes()[..], body].concat();
        bodies.iter().flat_map(frame).collect()
    }

    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..most)
    }

    proptest! {
        #[test]
        fn bodies_come_out_whole_however_the_stream_is_cut(
            bodies in proptest::collection::vec(bytes(60), 0..8),
            cuts in proptest::collection::vec(1..30_usize, 0..20),
        ) {
            prop_assert_eq!(heard(&framed(&bodies), &cuts), (bodies, false));
        }

        #[test]
        fn no_stream_does_more_than_end_its_connection(
            stream in bytes(400),
            cuts in proptest::collection::vec(1..30_usize, 0..20),
        ) {
            let (bodies, _) = heard(&stream, &cuts);
            prop_assert!(bodies.iter().map(|body| body.len() + HEAD).sum::<usize>() <= stream.len());
        }
    }
}
