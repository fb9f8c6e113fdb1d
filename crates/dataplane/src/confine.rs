//! Giving up every right that moving packets does not need.
//!
//! The descriptors were opened by the brain; from here on the process needs no right at all. It leaves
//! its user and groups where it can (in a user namespace with one user it cannot, and keeps them),
//! clears all capabilities, takes NO_NEW_PRIVS, and can be neither dumped nor traced by its new user.

use std::io::Result;

use crate::sys::retried;

/// Must run before any thread is started: capabilities and ids are per thread.
pub fn confine(user: u32, group: u32) -> Result<()> {
    // SAFETY (all calls): plain integers, and a header and data of capset's own layout.
    unsafe {
        retried(|| libc::setsid() as isize).ok();
        for capability in 0..=LAST_CAPABILITY {
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        if libc::geteuid() == 0 && user != 0 && can_become(user, group) {
            retried(|| libc::setgroups(0, std::ptr::null()) as isize)?;
            retried(|| libc::setresgid(group, group, group) as isize)?;
            retried(|| libc::setresuid(user, user, user) as isize)?;
        }
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        );
        let header = [CAPABILITY_VERSION_3, 0u32];
        let none = [0u32; 6];
        retried(|| libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) as isize)?;
        retried(|| libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) as isize)?;
        retried(|| libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) as isize)?;
        for ignored in [libc::SIGINT, libc::SIGHUP, libc::SIGPIPE] {
            libc::signal(ignored, libc::SIG_IGN);
        }
    }
    Ok(())
}

/// Whether both ids exist in this user namespace.
fn can_become(user: u32, group: u32) -> bool {
    let maps = |path, id| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().any(|line| {
            let mut words = line
                .split_whitespace()
                .filter_map(|word| word.parse::<u64>().ok());
            let (first, _, count) = (words.next(), words.next(), words.next());
            let first = first.unwrap_or(1);
            (first..first + count.unwrap_or(0)).contains(&u64::from(id))
        })
    };
    maps("/proc/self/uid_map", user) && maps("/proc/self/gid_map", group)
}

const LAST_CAPABILITY: i32 = 63;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
