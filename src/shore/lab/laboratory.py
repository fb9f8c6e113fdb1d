"""A laboratory: hosts and links by name, with a diary, and records that outlive a failure.

    with Laboratory() as lab:
        lab.host("a"), lab.host("b")
        dsl, lte = lab.path("dsl", "a", "b"), lab.path("lte", "a", "b")
        lte.change(delay_ms=40, loss=0.01)
        dsl.change(toward="b", black_hole=True)

Whatever was made is removed at the end. If the block ends with an error, the captures of all wires and the
diary are kept first, and the error says where.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from shore.lab.leftovers import sweep
from shore.lab.link import CableLink, Ending, Link, WireLink
from shore.lab.nat import Nat, NatBox
from shore.lab.net import Host, LabFailed
from shore.lab.running import root

NAME_LIMIT = 10


class Entry(msgspec.Struct, frozen=True):
    """A line of the diary: seconds since the laboratory was made."""

    at: float
    what: str


class Laboratory:
    """Hosts and links, as a context manager. One seed decides all chance in its wires."""

    def __init__(self, name: str = "lab", *, seed: int = 1) -> None:
        self.name = name
        self.seed = seed
        self.hosts: dict[str, Host] = {}
        self.links: dict[str, Link] = {}
        self.nats: dict[str, NatBox] = {}
        self.diary: list[Entry] = []
        self.kept: Path | None = None
        self._began = time.monotonic()
        self._networks = itertools.count(1)

    def __enter__(self) -> Self:
        for name in sweep():
            self.note(f"removed {name}, which a dead laboratory had left")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and not isinstance(error, KeyboardInterrupt):
                self.note(f"failed: {error}")
                try:
                    error.add_note(f"kept: {self.keep()}")
                except OSError as full:
                    error.add_note(f"nothing could be kept: {full}")
        finally:
            self.remove()

    def host(self, name: str, *, forwards: bool = False) -> Host:
        """A new host; one that forwards is a router."""
        if not name.isalnum() or len(name) > NAME_LIMIT:
            raise LabFailed(f"`{name}` cannot name a host: up to {NAME_LIMIT} letters and digits")
        if name in self.hosts:
            raise LabFailed(f"there are two hosts named {name}")
        host = self.hosts[name] = Host(name)
        host.make()
        if forwards:
            host.sysctl("net.ipv4.ip_forward", 1)
            host.sysctl("net.ipv6.conf.all.forwarding", 1)
        return host

    def router(self, name: str) -> Host:
        """A new host that forwards."""
        return self.host(name, forwards=True)

    def link(
        self, name: str, one: Ending, other: Ending, *, cable: bool = False, record: bool = False
    ) -> Link:
        """Join two hosts, by a wire, or by a cable whose frames are recorded if asked."""
        if name in self.links:
            raise LabFailed(f"there are two links named {name}")
        hosts = (self[one.host], self[other.host])
        made: Link
        if cable:
            made = CableLink(name, hosts, (one, other), record=record)
        else:
            made = WireLink(name, hosts, (one, other), self.seed * 1000 + len(self.links))
        self.links[name] = made
        return made

    def path(self, name: str, one: str, other: str, *, cable: bool = False, mtu: int = 1500) -> Link:
        """Join two hosts by a network of its own: 10.99.N.1 and .2, fd99:N::1 and ::2."""
        number = next(self._networks)
        first, second = (
            Ending(
                host,
                f"eth{self._devices(host)}",
                (f"10.99.{number}.{end}/24", f"fd99:{number:x}::{end}/64"),
                mtu=mtu,
            )
            for host, end in ((one, 1), (other, 2))
        )
        return self.link(name, first, second, cable=cable)

    def nat(self, router: str, nat: Nat) -> NatBox:
        """Put a NAT, a firewall or a policer into a router whose links are there."""
        for device in (nat.lan, nat.wan):
            if not any(end.host == router and end.device == device for end in self._ends()):
                raise LabFailed(f"the router {router} has no link at `{device}`")
        box = self.nats[router] = NatBox(self[router], nat)
        return box

    def __getitem__(self, name: str) -> Host:
        try:
            return self.hosts[name]
        except KeyError:
            raise LabFailed(f"there is no host named `{name}`") from None

    def note(self, what: str) -> float:
        """Write into the diary; the moment on the laboratory's clock."""
        at = time.monotonic() - self._began
        self.diary.append(Entry(round(at, 3), what))
        return at

    @contextmanager
    def every(self, seconds: float, act: Callable[[], None]) -> Iterator[None]:
        """Do it at once and again each so many seconds, while the block runs. Raises what it raised."""
        over = threading.Event()
        failed: list[Exception] = []

        def repeat() -> None:
            try:
                act()
                while not over.wait(seconds):
                    act()
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if failed:
            raise failed[0]

    def keep(self) -> Path:
        """Write the captures of all wires and the diary; the directory they are in."""
        stamp = time.strftime("%Y%m%dT%H%M%S")
        self.kept = root() / f"{self.name.replace('/', '-').replace(' ', '-')}-{stamp}-{os.getpid()}"
        self.kept.mkdir(parents=True, exist_ok=True)
        for link in self.links.values():
            try:
                link.dump(self.kept / f"{link.name}.pcapng")
            except (LabFailed, OSError) as error:
                self.note(f"no capture of {link.name}: {error}")
        lines = [msgspec.json.encode(entry) for entry in self.diary]
        (self.kept / "diary.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        return self.kept

    def remove(self) -> None:
        """Delete everything."""
        with ExitStack() as each_of:
            for host in self.hosts.values():
                each_of.callback(host.remove)
            for link in self.links.values():
                each_of.callback(link.close)
            self.links, self.nats, self.hosts = {}, {}, {}

    def _devices(self, host: str) -> int:
        return sum(1 for end in self._ends() if end.host == host)

    def _ends(self) -> Iterator[Ending]:
        return (end for link in self.links.values() for end in link.ends)
