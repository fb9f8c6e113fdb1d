//! The whole data plane of one tunnel: its two threads.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use shore_dataplane_core::engine::tunn::Tunns;

use crate::{command, control, data_thread};

/// Runs until a brain says `stop`, on a listening socket that the caller hands over. `user` may
/// command beside root; `seed` feeds jitter, not keys.
pub fn run(listener: RawFd, user: u32, seed: u64) -> Result<()> {
    if listener < 3 {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "the listener must be a descriptor of its own",
        ));
    }
    // SAFETY: the caller hands the descriptor over, and it is none of the standard streams.
    let listener = unsafe { OwnedFd::from_raw_fd(listener) };
    let (commands, obeyed) = command::channel()?;
    let (told, reports) = command::channel()?;
    let (thread, tid) = data_thread::spawn(Box::new(Tunns), seed, obeyed, told)?;
    control::run(listener, user, tid, commands, reports)?;
    let _ = thread.join();
    Ok(())
}
