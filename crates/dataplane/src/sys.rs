//! The system calls of the data plane, each a few lines of unsafe behind a safe signature.
//!
//! Nothing here decides. Errors are `std::io::Error` with the errno; EINTR is retried.

use std::io::{Error, IoSlice, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use shore_dataplane_core::time::Moment;

/// Runs a call that answers -1 with errno; EINTR is asked again.
pub(crate) fn retried(mut call: impl FnMut() -> isize) -> Result<usize> {
    loop {
        let result = call();
        if result >= 0 {
            return Ok(result as usize);
        }
        let error = Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(error);
        }
    }
}

/// Now, on CLOCK_BOOTTIME.
pub fn now() -> Moment {
    Moment(clock(libc::CLOCK_BOOTTIME))
}

/// CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(id, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

pub fn nap(duration: Duration) {
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: duration.subsec_nanos().into(),
    };
    // SAFETY: `time` is read only; the remainder is not asked for.
    unsafe { libc::nanosleep(&time, std::ptr::null_mut()) };
}

pub fn thread_id() -> i32 {
    // SAFETY: gettid has no arguments and cannot fail.
    unsafe { libc::gettid() }
}

/// The default slack of 50 us would lengthen each nap of the moderation.
pub fn set_least_timer_slack() {
    // SAFETY: plain integers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
}

pub fn is_realtime() -> bool {
    // SAFETY: plain integers; 0 is the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    matches!(
        policy & !libc::SCHED_RESET_ON_FORK,
        libc::SCHED_RR | libc::SCHED_FIFO
    )
}

/// Gives up real-time priority.
pub fn demote() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` outlives the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &parameters) };
}

pub fn duplicate(fd: BorrowedFd) -> Result<OwnedFd> {
    fd.try_clone_to_owned()
}

pub fn set_nonblocking(fd: BorrowedFd) -> Result<()> {
    let fd = fd.as_raw_fd();
    // SAFETY: plain integers on an open descriptor.
    let flags = retried(|| unsafe { libc::fcntl(fd, libc::F_GETFL) } as isize)? as i32;
    // SAFETY: as above.
    retried(|| unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) } as isize)?;
    Ok(())
}

pub fn read(fd: BorrowedFd, buffer: &mut [u8]) -> Result<usize> {
    let fd = fd.as_raw_fd();
    // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
    retried(|| unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })
}

pub fn writev(fd: BorrowedFd, slices: &[IoSlice]) -> Result<usize> {
    let fd = fd.as_raw_fd();
    // SAFETY: IoSlice is ABI-compatible with iovec, and the slices outlive the call.
    retried(|| unsafe { libc::writev(fd, slices.as_ptr().cast(), slices.len() as i32) })
}

/// To a stream; an end that is closed is an error, not a signal.
pub fn send(fd: BorrowedFd, bytes: &[u8]) -> Result<usize> {
    let fd = fd.as_raw_fd();
    // SAFETY: the kernel reads at most `bytes.len()` bytes of `bytes`.
    retried(|| unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) })
}

pub fn set_option(fd: BorrowedFd, level: i32, name: i32, value: i32) -> Result<()> {
    let fd = fd.as_raw_fd();
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` outlives the call and has the length that is told.
    retried(
        || unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) } as isize,
    )?;
    Ok(())
}

/// Bytes that a stream's socket holds and has not sent yet.
pub fn unsent(fd: BorrowedFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: `bytes` is a valid place for what this request writes.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCOUTQNSD, &raw mut bytes) };
    usize::try_from(bytes).unwrap_or(0) * usize::from(done == 0)
}

pub fn option(fd: BorrowedFd, level: i32, name: i32) -> Result<i32> {
    let mut value = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    let fd = fd.as_raw_fd();
    // SAFETY: `value` and `len` are valid places, and `len` says how large `value` is.
    retried(|| unsafe {
        libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) as isize
    })?;
    Ok(value)
}

/// Bytes that wait in a socket's receive queue, as the kernel charges them (SO_MEMINFO, word 0).
pub fn receive_queue(fd: BorrowedFd) -> usize {
    let mut words = [0u32; 9];
    let mut len = size_of_val(&words) as libc::socklen_t;
    // SAFETY: `words` and `len` are valid places, and `len` says how large `words` is.
    unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &mut len,
        )
    };
    words[0] as usize
}

/// Wakes a thread that waits in epoll.
pub struct Waker(OwnedFd);

impl Waker {
    pub fn new() -> Result<Self> {
        let flags = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;
        // SAFETY: plain integers; a fresh descriptor is owned by nobody else.
        let fd = retried(|| unsafe { libc::eventfd(0, flags) } as isize)?;
        // SAFETY: as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        let _ = writev(self.fd(), &[IoSlice::new(&one)]);
    }

    pub fn clear(&self) {
        let _ = read(self.fd(), &mut [0; 8]);
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }
}

/// Level-triggered epoll. A descriptor must be forgotten before it is closed: duplicates in other
/// processes would keep its events alive.
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> Result<Self> {
        // SAFETY: plain integers; a fresh descriptor is owned by nobody else.
        let fd = retried(|| unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)?;
        // SAFETY: as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }

    pub fn watch(&self, fd: BorrowedFd, token: u64) -> Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: token,
        };
        self.control(libc::EPOLL_CTL_ADD, fd, &mut event)
    }

    /// Whether to wake for room to write as well.
    pub fn watch_writing(&self, fd: BorrowedFd, token: u64, writing: bool) -> Result<()> {
        let events = if writing {
            libc::EPOLLIN | libc::EPOLLOUT
        } else {
            libc::EPOLLIN
        };
        let mut event = libc::epoll_event {
            events: events as u32,
            u64: token,
        };
        self.control(libc::EPOLL_CTL_MOD, fd, &mut event)
    }

    pub fn forget(&self, fd: BorrowedFd) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, &mut event);
    }

    /// Waits until something is readable or `limit` has passed. Returns the tokens that are ready.
    pub fn wait(&self, limit: Duration) -> Vec<u64> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 32];
        let millis = limit.as_micros().div_ceil(1000).min(60_000) as i32;
        // SAFETY: the kernel writes at most `events.len()` events.
        let count = unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as i32,
                millis,
            )
        };
        let ready = &events[..count.max(0) as usize];
        ready.iter().map(|event| event.u64).collect()
    }

    fn control(&self, operation: i32, fd: BorrowedFd, event: &mut libc::epoll_event) -> Result<()> {
        let (epoll, fd) = (self.0.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: `event` outlives the call, both descriptors are open.
        retried(|| unsafe { libc::epoll_ctl(epoll, operation, fd, event) } as isize)?;
        Ok(())
    }
}

const SO_MEMINFO: i32 = 55;
const SIOCOUTQNSD: libc::Ioctl = 0x894b;
