//! Sealed datagrams on their way out, gathered into GSO sends.
//!
//! A send carries datagrams to one destination, all of one size but the last. The first decides the
//! size; a shorter one closes the batch; a longer one, another destination, 64 datagrams or 65,507
//! bytes flush it first. A batch never waits for more than the turn that it was begun in.

use shore_dataplane_core::facts::DropReason;
use shore_dataplane_core::plane::{Destination, PeerSlot};

use crate::sockets::Sockets;

pub struct Egress {
    buffer: Box<[u8]>,
    batch: Option<Batch>,
    len: usize,
    refused: Vec<Refused>,
}

/// Whose datagrams go where, and whether they may be fragmented on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub owner: Option<PeerSlot>,
    pub destination: Destination,
    /// With DF: the size was proved.
    pub whole: bool,
}

#[derive(Clone, Copy)]
struct Batch {
    place: Place,
    stride: usize,
    count: usize,
    closed: bool,
}

/// Datagrams that the kernel did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub owner: Option<PeerSlot>,
    pub destination: Destination,
    pub reason: DropReason,
    pub count: u64,
    pub errno: i32,
}

impl Egress {
    pub fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER].into(),
            batch: None,
            len: 0,
            refused: Vec::new(),
        }
    }

    /// Lets `seal` write a datagram of exactly `size` bytes to its place; flushes before if it must.
    pub fn append<E>(
        &mut self,
        sockets: &mut Sockets,
        place: Place,
        size: usize,
        seal: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let fits = self.batch.is_some_and(|batch| {
            batch.place == place
                && !batch.closed
                && size <= batch.stride
                && batch.count < MOST_SEGMENTS
                && self.len + size <= MOST_BYTES
        });
        if !fits {
            self.flush(sockets);
        }
        seal(&mut self.buffer[self.len..])?;
        self.len += size;
        let batch = self.batch.get_or_insert(Batch {
            place,
            stride: size,
            count: 0,
            closed: false,
        });
        batch.count += 1;
        batch.closed = size < batch.stride;
        Ok(())
    }

    /// The datagram of `size` bytes that was appended last.
    pub fn last(&self, size: usize) -> &[u8] {
        &self.buffer[self.len - size..self.len]
    }

    /// The same datagram for another destination as well; nobody misses it if it is refused.
    pub fn append_copy(&mut self, sockets: &mut Sockets, place: Place, datagram: &[u8]) {
        let copied = self.append(sockets, place, datagram.len(), |out| {
            out[..datagram.len()].copy_from_slice(datagram);
            Ok::<_, DropReason>(datagram.len())
        });
        debug_assert!(copied.is_ok());
    }

    pub fn flush(&mut self, sockets: &mut Sockets) {
        let Some(batch) = self.batch.take() else {
            return;
        };
        let bytes = &self.buffer[..self.len];
        self.len = 0;
        let Place {
            owner,
            destination,
            whole,
        } = batch.place;
        let (count, errno) = sockets.send(destination, bytes, batch.stride, whole);
        if let Some(errno) = errno {
            let full = matches!(errno, libc::EAGAIN | libc::ENOBUFS);
            self.refused.push(Refused {
                owner,
                destination,
                reason: if full {
                    DropReason::SendQueue
                } else {
                    DropReason::SendError
                },
                count,
                errno,
            });
        }
    }

    pub fn refused(&mut self) -> impl Iterator<Item = Refused> + '_ {
        self.refused.drain(..)
    }
}

const MOST_SEGMENTS: usize = 64;
const MOST_BYTES: usize = 65_507;
/// A super-packet's longest datagram may begin at the end of a full batch.
const BUFFER: usize = 2 * 65_536 + 64;
