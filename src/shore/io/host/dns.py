"""The tunnel's resolvers: by systemd-resolved where it is in charge, else in resolv.conf.

Several tunnels may want resolv.conf. They are stacked by owner in a file beside the runtime directories: the
last one that came is in force, and when the last one has left, what was there before is there again, unless
somebody else has written it since.
"""

import contextlib
import fcntl
import ipaddress
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from shore.io.host.device import HostFailed
from shore.io.runtime import root
from shore.model.host import HostPlan

RESOLV_CONF = Path("/etc/resolv.conf")
NAMESPACES = Path("/run/netns")
RESOLVED = Path("/run/systemd/resolve")


class Wish(msgspec.Struct, frozen=True):
    """What one tunnel wants."""

    owner: str
    servers: tuple[str, ...]
    search: tuple[str, ...]


class Stack(msgspec.Struct):
    """What was there before, what we wrote last, and who wants what."""

    before: str = ""
    written: str = ""
    wishes: list[Wish] = []


def apply_dns(plan: HostPlan) -> None:
    """Put the tunnel's resolvers in force. Raises HostFailed."""
    if _resolved_is_in_charge():
        _resolvectl("dns", plan.device, *plan.dns_servers)
        _resolvectl("domain", plan.device, *(plan.dns_search or ("~.",)))
        return
    with _stack() as stack:
        wish = Wish(plan.device, plan.dns_servers, plan.dns_search)
        if wish in stack.wishes:
            return
        if not stack.wishes:
            stack.before = RESOLV_CONF.read_text() if RESOLV_CONF.exists() else ""
        stack.wishes = [*(other for other in stack.wishes if other.owner != plan.device), wish]
        _write(stack)


def is_own() -> bool:
    """Whether the resolvers here are those of our own network namespace, and not shared with the machine's.

    `ip netns exec` gives a namespace a resolv.conf of its own by a mount, where there is one for it; else
    everybody would read what is written there.
    """
    ours = os.stat("/proc/self/ns/net")
    named = NAMESPACES.is_dir() and any(
        os.path.samestat(ours, entry.stat()) for entry in NAMESPACES.iterdir()
    )
    if not named:
        return True
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(RESOLV_CONF) for line in mounts)


def remove_dns(owner: str) -> None:
    """Take back what one tunnel wanted; nothing happens if it wanted nothing."""
    if not _path().exists():
        return
    with _stack() as stack:
        if not any(wish.owner == owner for wish in stack.wishes):
            return
        stack.wishes = [wish for wish in stack.wishes if wish.owner != owner]
        _write(stack)


def servers_before() -> tuple[str, ...]:
    """The resolvers that were in force before any tunnel changed them."""
    upstream = RESOLVED / "resolv.conf"
    if _resolved_is_in_charge() and upstream.exists():
        return _servers(upstream.read_text())
    if _path().exists():
        with _stack() as stack:
            if stack.wishes:
                return _servers(stack.before)
    return _servers(RESOLV_CONF.read_text()) if RESOLV_CONF.exists() else ()


def _write(stack: Stack) -> None:
    """Write the last wish, or what was there before. In place, for the file may be a mount."""
    current = RESOLV_CONF.read_text() if RESOLV_CONF.exists() else ""
    if stack.written and current != stack.written:
        # Somebody else has written since: that is the new state of affairs without us.
        stack.before = current
    text = _text(stack.wishes[-1], stack.before) if stack.wishes else stack.before
    try:
        RESOLV_CONF.write_text(text)
    except OSError as error:
        raise HostFailed(f"writing {RESOLV_CONF} failed: {error.strerror}") from None
    stack.written = text if stack.wishes else ""


def _text(wish: Wish, before: str) -> str:
    lines = [
        f"# Written by Shore for the tunnel {wish.owner}; `shore down {wish.owner}` restores what was here."
    ]
    if wish.search:
        lines.append(f"search {' '.join(wish.search)}")
    servers = wish.servers or _servers(before)
    return "\n".join(lines + [f"nameserver {server}" for server in servers]) + "\n"


def _servers(text: str) -> tuple[str, ...]:
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                found.append(str(ipaddress.ip_address(words[1].partition("%")[0])))
    return tuple(found)


@contextlib.contextmanager
def _stack() -> Iterator[Stack]:
    """The stack under its lock; written back when the block ends well, removed once it is empty."""
    path = _path()
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        content = file.read()
        stack = msgspec.json.decode(content, type=Stack) if content else Stack()
        yield stack
        if not stack.wishes:
            path.unlink(missing_ok=True)
            return
        file.truncate(0)
        file.write(msgspec.json.encode(stack))


def _path() -> Path:
    return root() / "resolv.json"


def _resolved_is_in_charge() -> bool:
    return RESOLV_CONF.is_symlink() and RESOLVED in RESOLV_CONF.resolve().parents


def _resolvectl(*words: str) -> None:
    done = subprocess.run(["resolvectl", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostFailed(f"`resolvectl {' '.join(words)}` failed: {done.stderr.strip()}")
