"""The tunnel's resolvers: by systemd-resolved where it is in charge, else in resolv.conf.

Several tunnels may want resolv.conf. They are stacked by owner in a file beside the runtime directories: the
last one that came is in force, and when the last one has left, what was there before is there again, unless
somebody else has written it since. We may be killed at any instant: the file says what we are about to write.

A mesh wants its own names only. systemd-resolved knows how to ask one resolver for some domains. Without it
the mesh's resolver stands before all others in resolv.conf, and asks those below it for everything else; they
stay in the file after it, so that a resolver that is silent costs a second and not the internet. Names that
people could complete before are completed as before: the mesh's domain is the last to be tried.
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
from shore.model.host import HostPlan, SplitNames

RESOLV_CONF = Path("/etc/resolv.conf")
NAMESPACES = Path("/run/netns")
RESOLVED = Path("/run/systemd/resolve")
RESOLVED_STUBS = ("127.0.0.53", "127.0.0.54")


class Wish(msgspec.Struct, frozen=True):
    """What one tunnel wants; `first`: before the resolvers of the others, not in place of them."""

    owner: str
    servers: tuple[str, ...]
    search: tuple[str, ...]
    first: bool = False


class Stack(msgspec.Struct):
    """What was there before, what we wrote last, and who wants what; `writing`: what we write this moment."""

    before: str = ""
    written: str = ""
    writing: str = ""
    wishes: list[Wish] = []

    @property
    def servers(self) -> tuple[str, ...]:
        """The resolvers to be in force, the first to be asked first."""
        first = [server for wish in reversed(self.wishes) if wish.first for server in wish.servers]
        plain = self.plain
        below = plain.servers if plain is not None and plain.servers else _servers(self.before)
        return (*first, *below)

    @property
    def plain(self) -> Wish | None:
        """The last wish that stands in place of others."""
        return next((wish for wish in reversed(self.wishes) if not wish.first), None)


def apply_dns(plan: HostPlan) -> None:
    """Put the tunnel's resolvers in force. Raises HostFailed."""
    if plan.names is not None and not is_own():
        return
    if plan.names is not None and _resolved_is_asked():
        _split(plan.device, plan.names)
        return
    if _resolved_is_in_charge():
        _resolvectl("dns", plan.device, *plan.dns_servers)
        _resolvectl("domain", plan.device, *(plan.dns_search or ("~.",)))
        return
    with _stack() as (stack, file):
        wish = _wish(plan)
        current = _current()
        there = wish in stack.wishes and not stack.writing
        if there and (current == stack.written or not wish.first):
            return
        if not stack.wishes:
            stack.before = current
        stack.wishes = [*(other for other in stack.wishes if other.owner != plan.device), wish]
        _write(stack, file)


def hold_dns(owner: str) -> bool:
    """Stand before the others again where somebody else has written resolv.conf since.

    Returns whether that was so. Raises HostFailed.
    """
    if not _path().exists():
        return False
    with _stack() as (stack, file):
        wants = any(wish.owner == owner and wish.first for wish in stack.wishes)
        if not wants or _current() == stack.written:
            return False
        _write(stack, file)
        return True


def remove_dns(owner: str) -> None:
    """Take back what one tunnel wanted; nothing happens if it wanted nothing."""
    if not _path().exists():
        return
    with _stack() as (stack, file):
        if not any(wish.owner == owner for wish in stack.wishes):
            return
        stack.wishes = [wish for wish in stack.wishes if wish.owner != owner]
        _write(stack, file)


def servers_before() -> tuple[str, ...]:
    """The resolvers that were in force before any tunnel changed them."""
    upstream = RESOLVED / "resolv.conf"
    if _resolved_is_in_charge() and upstream.exists():
        return _servers(upstream.read_text())
    if _path().exists():
        with _stack() as (stack, _):
            if stack.wishes:
                return _servers(stack.before)
    return _servers(_current())


def servers_below(owner: str) -> tuple[str, ...]:
    """The resolvers that would be asked if this tunnel had none of its own."""
    if not _resolved_is_asked() and _path().exists():
        with _stack() as (stack, _):
            own = next((wish for wish in stack.wishes if wish.owner == owner and wish.first), None)
            if own is not None:
                return stack.servers[stack.servers.index(own.servers[-1]) + 1 :]
    return servers_before()


def is_own() -> bool:
    """Whether what resolves names here is our own network namespace's, and not the machine's as well.

    `ip netns exec` mounts a resolv.conf over the machine's, where the namespace has one; else names of a mesh
    in the namespace would be everybody's.
    """
    ours = os.stat("/proc/self/ns/net")
    names = NAMESPACES.iterdir() if NAMESPACES.is_dir() else ()
    if not any(os.path.samestat(ours, name.stat()) for name in names):
        return True
    return _is_mounted()


def _is_mounted() -> bool:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(RESOLV_CONF.resolve()) for line in mounts)


def _wish(plan: HostPlan) -> Wish:
    if plan.names is not None:
        return Wish(plan.device, (plan.names.server,), (plan.names.search,), first=True)
    return Wish(plan.device, plan.dns_servers, plan.dns_search)


def _split(device: str, names: SplitNames) -> None:
    """What the mesh's resolver answers for is asked there and nowhere else, and is signed by nobody."""
    _resolvectl("dns", device, names.server)
    routed = (f"~{domain}" for domain in names.domains if domain != names.search)
    _resolvectl("domain", device, names.search, *routed)
    for setting in ("default-route", "dnssec", "llmnr", "mdns"):
        _resolvectl(setting, device, "no")


def _write(stack: Stack, file: int) -> None:
    """Write what is wanted, or what was there before. In place, for the file may be a mount."""
    current = _current()
    if current not in (stack.before, *filter(None, (stack.written, stack.writing))):
        # Somebody else has written since: that is the new state of affairs without us.
        stack.before = current
    text = _text(stack) if stack.wishes else stack.before
    if stack.wishes:
        stack.writing = text
        _save(stack, file)
    try:
        RESOLV_CONF.write_text(text)
    except OSError as error:
        raise HostFailed(f"writing {RESOLV_CONF} failed: {error.strerror}") from None
    if stack.wishes:
        stack.written, stack.writing = text, ""
        _save(stack, file)


def _text(stack: Stack) -> str:
    owner, plain = stack.wishes[-1].owner, stack.plain
    lines = [f"# Written by Shore for the tunnel {owner}; `shore down {owner}` restores what was here."]
    first = [wish for wish in stack.wishes if wish.first]
    search = _search(stack.before) if plain is None else plain.search
    search += tuple(domain for wish in first for domain in wish.search)
    if search:
        lines.append(f"search {' '.join(search)}")
    lines += [f"nameserver {server}" for server in stack.servers]
    if first:
        options = [line for line in stack.before.splitlines() if line.split()[:1] == ["options"]]
        # One that is silent is soon left for the next one, unless people have said how soon.
        lines += options if any("timeout:" in line for line in options) else ["options timeout:1", *options]
    return "\n".join(lines) + "\n"


def _servers(text: str) -> tuple[str, ...]:
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                found.append(str(ipaddress.ip_address(words[1].partition("%")[0])))
    return tuple(found)


def _search(text: str) -> tuple[str, ...]:
    """The domains of the last such line, as resolv.conf(5) has it."""
    lines = [line.split() for line in text.splitlines()]
    found = [words[1:] for words in lines if words and words[0] in ("search", "domain")]
    return tuple(found[-1]) if found else ()


@contextlib.contextmanager
def _stack() -> Iterator[tuple[Stack, int]]:
    """The stack under its lock, and the file to save it to; the file is removed once the stack is empty."""
    path = _path()
    file = _locked(path)
    try:
        content = os.pread(file, os.fstat(file).st_size, 0)
        stack = msgspec.json.decode(content, type=Stack) if content.strip() else Stack()
        yield stack, file
        if not stack.wishes:
            path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _locked(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        # The one we waited for may have removed it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)


def _save(stack: Stack, file: int) -> None:
    """Whole at any instant: what a longer one leaves behind is blanked by the same write."""
    content = msgspec.json.encode(stack)
    os.pwrite(file, content.ljust(os.fstat(file).st_size), 0)
    os.ftruncate(file, len(content))


def _current() -> str:
    return RESOLV_CONF.read_text() if RESOLV_CONF.exists() else ""


def _path() -> Path:
    return root() / "resolv.json"


def _resolved_is_in_charge() -> bool:
    return RESOLV_CONF.is_symlink() and RESOLVED in RESOLV_CONF.resolve().parents


def _resolved_is_asked() -> bool:
    """In charge, or named by somebody's own resolv.conf; not where ours is mounted over the machine's."""
    if _resolved_is_in_charge():
        return not _is_mounted()
    return RESOLVED.exists() and any(server in RESOLVED_STUBS for server in _servers(_current()))


def _resolvectl(*words: str) -> None:
    done = subprocess.run(["resolvectl", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostFailed(f"`resolvectl {' '.join(words)}` failed: {done.stderr.strip()}")
