"""Users: whom data planes and programs become, and whose files are the machine's own.

A data plane meets the network, a server and a relay hold a network's keys: neither is the other's user, where
the machine has both. A machine that lacks one has nobody in its place.
"""

import os
import pwd
from pathlib import Path

NOBODY = 65534
OF_PROGRAMS, OF_PLANES = "shore", "shore-plane"


def plane_user() -> str:
    """`UID:GID` of the user of data planes; our own where we may become nobody."""
    return _user(OF_PLANES)


def program_user() -> str:
    """`UID:GID` of the user of server and relay; our own where we may become nobody."""
    return _user(OF_PROGRAMS)


def _user(name: str) -> str:
    try:
        entry = pwd.getpwnam(name)
        user, group = entry.pw_uid, entry.pw_gid
    except KeyError:
        user = group = NOBODY
    if os.geteuid() != 0 or not (_is_mapped("uid", user) and _is_mapped("gid", group)):
        return f"{os.geteuid()}:{os.getegid()}"
    return f"{user}:{group}"


def unmapped_owners() -> set[int]:
    """The id that files of the machine's own root show inside a user namespace; nothing outside of one."""
    if _is_mapped("uid", NOBODY):
        return set()
    return {int(Path("/proc/sys/kernel/overflowuid").read_text())}


def _is_mapped(kind: str, number: int) -> bool:
    """Whether the user namespace that we are in has this id."""
    for line in Path(f"/proc/self/{kind}_map").read_text().splitlines():
        first, _, count = map(int, line.split())
        if first <= number < first + count:
            return True
    return False
