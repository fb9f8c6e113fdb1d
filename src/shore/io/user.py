"""Users: whom the data plane becomes, and whose files are the machine's own."""

import os
import pwd
from pathlib import Path

NOBODY = 65534


def plane_user() -> str:
    """`UID:GID` of the user `shore`, else of nobody; our own where we may become neither."""
    try:
        entry = pwd.getpwnam("shore")
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
