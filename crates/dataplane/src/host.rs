//! The whole data plane of one tunnel: its two threads.

use std::io::Result;
use std::os::fd::OwnedFd;

use shore_dataplane_core::engine::tunn::Tunns;

use crate::{command, control, data_thread};

/// Runs until a brain says `stop`. `user` may command beside root; `seed` feeds jitter, not keys.
pub fn run(listener: OwnedFd, user: u32, seed: u64) -> Result<()> {
    let (commands, obeyed) = command::channel()?;
    let (told, reports) = command::channel()?;
    let (thread, tid) = data_thread::spawn(Box::new(Tunns), seed, obeyed, told)?;
    control::run(listener, user, tid, commands, reports)?;
    let _ = thread.join();
    Ok(())
}
